//! What is asked of a stack's services, and what was found out: between the words of a stack and those of `probe`, which knows
//! none.

use std::{collections::BTreeMap, time::Duration};

use super::{Context, StackKey};
use crate::{
    api::v1alpha1::RorunStack,
    names::{Component, Waiting, reason},
    objects::LiveSet,
    probe::{Answer, Question, Service, Tenant},
    services::{bucket::BucketTarget, postgres::PostgresTarget, redis::RedisTarget},
    stack::{Endpoint, Probe, Stack},
};

impl Tenant for StackKey {
    fn namespace(&self) -> &str {
        &self.namespace
    }
}

/// Adds what is known of the stack's services. They are not waited for: their last answers are taken.
pub(super) fn probed(context: &Context, cr: &RorunStack, mut stack: Stack, live: &LiveSet) -> Stack {
    let key = StackKey { namespace: stack.namespace.clone(), name: stack.name.clone() };
    let questions = questions(&stack, live);
    if live.iter().any(|object| object.kind.runs_pods() && !object.readiness.is_ready()) {
        context.prober.doubt(&key);
    }
    let answers = context.prober.answers(&key, questions, |component| answer_of(cr, *component));
    stack.probes = answers.into_iter().map(|(component, answer)| (component, told(answer))).collect();
    stack
}

fn told(answer: Answer) -> Probe {
    match answer {
        Answer::Pending => Probe::Pending,
        Answer::Answers { note } => Probe::Answers { note },
        Answer::Failed(waiting) => Probe::Failed(waiting),
    }
}

/// What the status says about a service, if it speaks of this very spec.
fn answer_of(cr: &RorunStack, component: Component) -> Option<Answer> {
    const ANSWERS: [reason::Reason; 7] = [
        reason::UNREACHABLE,
        reason::TLS_FAILED,
        reason::AUTHENTICATION_FAILED,
        reason::NOT_FOUND,
        reason::ACCESS_DENIED,
        reason::UNSUPPORTED,
        reason::ADDRESS_REFUSED,
    ];
    let conditions = &cr.status.as_ref()?.conditions;
    let told = conditions.iter().find(|condition| condition.type_ == component.condition())?;
    if told.observed_generation != cr.metadata.generation {
        return None;
    }
    let note = Some(told.message.clone()).filter(|message| !message.is_empty());
    if told.status == "True" {
        return Some(Answer::Answers { note });
    }
    let reason = ANSWERS.into_iter().find(|reason| *reason == told.reason)?;
    Some(Answer::Failed(Waiting::new(reason, told.message.clone())))
}

/// What can be asked now: not an embedded bucket before its pod is ready.
fn questions(stack: &Stack, live: &LiveSet) -> BTreeMap<Component, Question> {
    let mut endpoints = stack.endpoints();
    endpoints.retain(|component, endpoint| {
        let embedded = matches!(endpoint, Endpoint::Bucket { create: true, .. });
        !embedded
            || live.named("StatefulSet", &stack.child(*component)).is_some_and(|server| server.readiness.is_ready())
    });
    let interval = |component: &Component| stack.probing.get(component).and_then(|probing| probing.interval);
    let question = |(component, endpoint)| (component, question(endpoint, interval(&component)));
    endpoints.into_iter().map(question).collect()
}

fn question(endpoint: Endpoint, interval: Option<Duration>) -> Question {
    let service = match endpoint {
        Endpoint::Postgres { url, ca } => Service::Postgres(PostgresTarget { url, ca }),
        Endpoint::Redis { url, ca } => Service::Redis(RedisTarget { url, ca }),
        Endpoint::Bucket { access, create, versioning } => {
            let target = BucketTarget {
                endpoint: access.endpoint,
                region: access.region,
                bucket: access.name,
                force_path_style: access.force_path_style,
                access_key_id: access.access_key_id,
                secret_access_key: access.secret_access_key,
                ca: access.ca,
            };
            Service::Bucket { target, create, versioning }
        }
    };
    Question { service, interval }
}
