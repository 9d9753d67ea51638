//! The probes of a stack's services: between the types of `stack` and those of `probe`, which knows no stack.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::Context;
use crate::{
    api::v1alpha1::{RorunStack, Verdict},
    contract::Provider,
    desired,
    names::{Component, Waiting, reason},
    objects::{LiveObject, LiveSet},
    probe::{Answer, PostgresQuestion, Purpose, Question, RedisQuestion, Service, Tenant},
    runtime::ResourceKey,
    services::{
        bucket::{AccessKeys, BucketTarget},
        postgres::PostgresTarget,
        redis::RedisTarget,
    },
    stack::{self, BucketAccess, Endpoint, Probe, ProbeTarget, ServiceUrl, Stack},
};

impl Tenant for ResourceKey {
    fn namespace(&self) -> &str {
        &self.namespace
    }
}

/// Adds the last answers of the stack's services. A reconcile never waits for a service.
pub(super) fn observe(context: &Context, cr: &RorunStack, mut stack: Stack, live: &LiveSet) -> Stack {
    let key = ResourceKey { namespace: stack.namespace.clone(), name: stack.name.clone() };
    let questions = questions(&stack, live);
    if live.iter().any(is_doubtful) {
        context.prober.doubt(&key);
    }
    let last = context.runtime.statuses.last(cr).unwrap_or_default();
    let database = last.services.iter().find(|row| row.name == Component::Database.as_str());
    let version = database.and_then(|row| row.version.clone());
    if last.observed_generation == cr.metadata.generation {
        stack.known_services = last.services;
    }
    let status = last.backup.unwrap_or_default();
    let verified = status.last_verified.clone().into_iter().chain(desired::last_verified(live));
    stack.last_verified = verified.map(|record| record.at.0.as_second()).max();
    let in_pods = desired::last_backup(live).and_then(|backup| backup.last_successful);
    let newest = status.last_successful.clone().into_iter().chain(in_pods).max_by_key(|record| record.at.0);
    stack.last_backup = newest.as_ref().map(|record| record.at.0.as_second());
    let bytes = newest.and_then(|record| u64::try_from(record.database_bytes?).ok());
    stack.known_backup = status;
    let answers = context.prober.answers(&key, questions, |target| answer_of(cr, &stack, *target));
    stack.probes = answers.into_iter().map(|(target, answer)| (target, probe(answer))).collect();
    for target in stack.targets_from_pods() {
        let told = stack.told_from_pods(target, stack.probe(target));
        stack.probes.extend(told.map(|told| (target, told)));
    }
    stack.follow_database(version.as_deref());
    if let Some(bytes) = bytes {
        stack.drills_hold(bytes);
    }
    stack
}

/// Whether pods do not serve that use the services: the admin panel uses none.
fn is_doubtful(object: &LiveObject) -> bool {
    object.kind.runs_pods() && object.component != Component::Admin.as_str() && !object.readiness.is_ready()
}

fn probe(answer: Answer) -> Probe {
    match answer {
        Answer::Pending => Probe::Pending,
        Answer::Answers { note, slow, facts } => Probe::Answers { note, slow, facts },
        Answer::Failed(waiting) => Probe::Failed(waiting),
    }
}

/// The answer of a service in the status, if the status is of this very spec.
fn answer_of(cr: &RorunStack, stack: &Stack, target: ProbeTarget) -> Option<Answer> {
    const ANSWERS: [reason::Reason; 9] = [
        reason::UNREACHABLE,
        reason::TLS_FAILED,
        reason::AUTHENTICATION_FAILED,
        reason::NOT_FOUND,
        reason::ACCESS_DENIED,
        reason::UNSUPPORTED,
        reason::ADDRESS_REFUSED,
        reason::CLUSTER_MODE_MISMATCH,
        reason::READ_ONLY,
    ];
    let condition = |component: Component| {
        let conditions = &cr.status.as_ref()?.conditions;
        let found = conditions.iter().find(|condition| condition.type_ == component.condition())?;
        (found.observed_generation == cr.metadata.generation).then_some(found)
    };
    let failed = |condition: &Condition| {
        // What a Job found out is read of the Job.
        if condition.message.starts_with("job/") {
            return None;
        }
        let reason = ANSWERS.into_iter().find(|reason| *reason == condition.reason)?;
        Some(Answer::Failed(Waiting::new(reason, condition.message.clone())))
    };
    if target == ProbeTarget::DIRECT
        && let (Some(backup), Some(opening)) = (condition(Component::Backup), stack.opening(target))
        && backup.message.starts_with(&opening)
    {
        return failed(backup);
    }
    let own = condition(target.component)?;
    if own.status == "True" {
        let found = stack.findings(Component::Bucket).into_iter().map(|finding| finding.message);
        let found = found.filter(|_| target.component == Component::Bucket).collect::<Vec<_>>().join("; ");
        let note = own.message.strip_suffix(&found).unwrap_or(&own.message).trim_end_matches("; ");
        return Some(match stack.noted(target, Some(note).filter(|note| !note.is_empty())) {
            Probe::Failed(waiting) => Answer::Failed(waiting),
            Probe::Answers { note, .. } => Answer::known(note, was_slow(stack, target)),
            Probe::Pending => Answer::Pending,
        });
    }
    if target.url == ServiceUrl::Main { failed(own) } else { None }
}

/// The services that can be asked now: not an embedded bucket before its pod is ready.
fn questions(stack: &Stack, live: &LiveSet) -> BTreeMap<ProbeTarget, Question> {
    let mut endpoints = stack.endpoints();
    endpoints.retain(|target, endpoint| {
        let embedded = matches!(endpoint, Endpoint::Bucket { create: true, .. });
        let name = stack.child(target.component);
        !embedded || live.named("StatefulSet", &name).is_some_and(|server| server.readiness.is_ready())
    });
    let interval = |component: &Component| stack.probing.get(component).and_then(|probing| probing.interval);
    let question = |(target, endpoint): (ProbeTarget, Endpoint)| {
        let mut question = question(target, endpoint);
        question.interval = interval(&target.component);
        question.provider = question.provider.or_else(|| stack.mode(target.component)?.provider());
        (target, question)
    };
    endpoints.into_iter().map(question).collect()
}

/// Whether an earlier process found the service slow.
fn was_slow(stack: &Stack, target: ProbeTarget) -> bool {
    let known = stack.known_service(target.component).filter(|_| target.url == ServiceUrl::Main);
    known.is_some_and(|row| row.verdict == Verdict::Slow)
}

fn question(target: ProbeTarget, endpoint: Endpoint) -> Question {
    let mut provider = None;
    let (origin, service) = match endpoint {
        Endpoint::Postgres { origin, url, ca, client } => {
            let purpose = match target.url {
                ServiceUrl::Main => Purpose::Serve,
                ServiceUrl::Direct => Purpose::Maintain,
                ServiceUrl::Read => Purpose::Read,
            };
            let target = PostgresTarget { url, ca, client };
            (Some(origin), Service::Postgres(PostgresQuestion { target, purpose }))
        }
        Endpoint::Redis { url, ca, cluster_mode } => {
            (None, Service::Redis(RedisQuestion { target: RedisTarget { url, ca }, cluster_mode }))
        }
        Endpoint::Bucket { access, prefix, create, versioning } => {
            provider = Provider::of_url(&access.endpoint);
            (None, Service::Bucket { target: self::target(access), prefix, create, versioning })
        }
    };
    Question { service, origin, interval: None, provider }
}

/// A bucket, and the keys to it. The client that asks it takes no role.
pub(super) fn target(access: BucketAccess) -> BucketTarget {
    let keys = |keys: stack::AccessKeys| AccessKeys {
        id: keys.id,
        secret: keys.secret,
        session_token: keys.session_token.map(|token| token.value),
    };
    BucketTarget {
        endpoint: access.endpoint,
        region: access.region,
        bucket: access.name,
        force_path_style: access.force_path_style,
        keys: access.keys.map(keys),
        ca: access.ca,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        objects::kind_of,
        stack::{Observed, validate},
    };

    const DIRECT: &str = "DIRECT_URL in secret/db: failed to log in";

    /// The answers for `DATABASE_URL`, `DIRECT_URL` and `READ_URL` that a status gives back.
    fn answers(backup: bool, conditions: &[(&str, &str, &str, &str)]) -> [Option<Answer>; 3] {
        let condition = |(kind, status, reason, message): &(&str, &str, &str, &str)| {
            json!({"type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": 3,
                "lastTransitionTime": "2026-01-01T00:00:00Z"})
        };
        let external = json!({"external": {"secretRef": {"name": "db"}}});
        let mut spec = json!({"environment": "Development", "api": {"image": "api:1"}, "database": external});
        if backup {
            spec["backup"] = json!({});
        }
        let conditions: Vec<Value> = conditions.iter().map(condition).collect();
        let manifest = json!({"metadata": {"name": "shop", "namespace": "n", "generation": 3}, "spec": spec,
            "status": {"conditions": conditions}});
        let cr: RorunStack = serde_json::from_value(manifest).expect("a stack");
        let url = |host: &str| Some(format!("postgresql://u:p@{host}/d").into_bytes());
        let urls = [("DATABASE_URL", "a"), ("DIRECT_URL", "b"), ("READ_URL", "c")];
        let data = urls.into_iter().filter_map(|(key, host)| Some((key.to_owned(), url(host)?))).collect();
        let observed = Observed { secrets: [("db".to_owned(), Some(data))].into(), ..Observed::default() };
        let stack = validate(&cr, &observed);
        let targets = [Component::Database.into(), ProbeTarget::DIRECT, ProbeTarget::READ];
        targets.map(|target| answer_of(&cr, &stack, target))
    }

    #[test]
    fn pods_that_use_no_service_make_nobody_ask_it() {
        let doubtful = |component: &str| {
            let labels = json!({"app.kubernetes.io/component": component, "app.kubernetes.io/instance": "shop"});
            let metadata =
                json!({"name": format!("shop-{component}"), "namespace": "n", "labels": labels, "generation": 1});
            let spec = json!({"replicas": 1, "selector": {}, "template": {}});
            let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec});
            is_doubtful(&LiveObject::whole(kind_of("apps", "Deployment").expect("a kind"), object).expect("an object"))
        };
        assert_eq!(["api", "ocr", "smoketest", "admin"].map(doubtful), [true, true, true, false]);
    }

    #[test]
    fn a_restart_knows_that_a_service_was_slow() {
        let manifest = json!({"metadata": {"name": "shop", "namespace": "n", "generation": 3},
            "spec": {"environment": "Development", "api": {"image": "api:1"},
                "redis": {"external": {"secretRef": {"name": "redis"}}}},
            "status": {"observedGeneration": 3, "services": [{"name": "redis", "verdict": "slow"}],
                "conditions": [{"type": "RedisReady", "status": "True", "reason": "Ready", "message": "a note",
                    "observedGeneration": 3, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
        let cr: RorunStack = serde_json::from_value(manifest).expect("a stack");
        let mut stack = validate(&cr, &Observed::default());
        let answer = |stack: &Stack| answer_of(&cr, stack, Component::Redis.into());
        assert_eq!(answer(&stack), Some(Answer::known(Some("a note".to_owned()), false)));
        stack.known_services = cr.status.clone().expect("a status").services;
        assert_eq!(answer(&stack), Some(Answer::known(Some("a note".to_owned()), true)));
    }

    #[test]
    fn a_restart_knows_each_url_from_the_condition_that_tells_of_it() {
        let good = Some(Answer::known(None, false));
        let failed = |reason, message: &str| Some(Answer::Failed(Waiting::new(reason, message)));
        let serves = ("DatabaseReady", "True", "Ready", "");
        assert_eq!(answers(true, &[serves]), [good.clone(), good.clone(), good.clone()]);
        let backup = ("BackupHealthy", "False", "AuthenticationFailed", DIRECT);
        let direct = failed(reason::AUTHENTICATION_FAILED, DIRECT);
        assert_eq!(answers(true, &[serves, backup]), [good.clone(), direct, good.clone()]);
        let other = ("BackupHealthy", "False", "BackupFailed", "job/x failed");
        assert_eq!(answers(true, &[serves, other]), [good.clone(), good.clone(), good.clone()]);
        let noted = ("DatabaseReady", "True", "Ready", DIRECT);
        assert_eq!(answers(false, &[noted]), [good.clone(), failed(reason::UNREACHABLE, DIRECT), good]);
        let main = "DATABASE_URL in secret/db: no answer";
        let down = ("DatabaseReady", "False", "Unreachable", main);
        assert_eq!(answers(true, &[down]), [failed(reason::UNREACHABLE, main), None, None]);
    }
}
