//! Whether the IngressClass that a spec names exists. The operator asks only while an Ingress has no address: a controller serves
//! one that has.

use std::time::{Duration, Instant};

use k8s_openapi::api::networking::v1::IngressClass;
use kube::Api;
use tokio::time::timeout;

use super::Context;
use crate::{
    api::v1alpha1::RorunStack,
    apply::WRITE_LIMIT,
    names::{
        Component, Waiting, is_object_name,
        reason::{self, Reason},
    },
    objects::LiveSet,
    stack::Stack,
};

/// How long the answer that the class does not exist counts.
const BELIEVED_FOR: Duration = Duration::from_secs(15);

/// The answer of the API server.
#[derive(Clone, Copy)]
pub(super) enum Answer {
    /// It exists, or this operator has no right to know.
    Exists,
    /// It did not exist at this moment.
    Missing(Instant),
}

/// The Ingress of the stack waits if its class does not exist.
pub(super) async fn check(context: &Context, cr: &RorunStack, stack: &mut Stack, live: &LiveSet) {
    let Some(class) = stack.ingress.as_ref().and_then(|ingress| ingress.class.clone()) else { return };
    let name = stack.child(Component::Ingress);
    if live.named("Ingress", &name).is_some_and(|there| there.note.is_some()) {
        return;
    }
    let known = context.memory().classes.get(&class).copied();
    let answer = match known {
        Some(Answer::Exists) => return,
        Some(Answer::Missing(at)) if at.elapsed() < BELIEVED_FOR => Answer::Missing(at),
        // The status of before a restart says so.
        None if says(context, cr, reason::READY) => return,
        _ => match ask(context, &class).await {
            Some(answer) => answer,
            None if says(context, cr, reason::INGRESS_CLASS_MISSING) => Answer::Missing(Instant::now()),
            None => return,
        },
    };
    context.memory().classes.insert(class.clone(), answer);
    if let Answer::Missing(_) = answer {
        let again = super::observe::now().as_second() + i64::try_from(BELIEVED_FOR.as_secs()).unwrap_or(i64::MAX);
        live.has_passed(again);
        let message = format!(
            "ingressclass/{class}, named by ingress.className, does not exist: install its controller, or name one that \
             kubectl get ingressclasses lists"
        );
        stack.unresolved.insert(Component::Ingress, Waiting::new(reason::INGRESS_CLASS_MISSING, message));
    }
}

/// Whether the status says this of the Ingress of this very spec.
fn says(context: &Context, cr: &RorunStack, why: Reason) -> bool {
    let conditions = context.runtime.statuses.last(cr).map(|status| status.conditions).unwrap_or_default();
    conditions.iter().any(|condition| {
        condition.type_ == Component::Ingress.condition()
            && condition.reason == why
            && condition.observed_generation == cr.metadata.generation
    })
}

/// Asks the API server. `None`: it did not answer.
async fn ask(context: &Context, class: &str) -> Option<Answer> {
    if !is_object_name(class) {
        return Some(Answer::Missing(Instant::now()));
    }
    let api = Api::<IngressClass>::all(context.runtime.client.clone());
    match timeout(WRITE_LIMIT, api.get_metadata_opt(class)).await.ok()? {
        Ok(Some(_)) => Some(Answer::Exists),
        Ok(None) => Some(Answer::Missing(Instant::now())),
        Err(kube::Error::Api(status)) if status.code == 403 => Some(Answer::Exists),
        Err(_) => None,
    }
}
