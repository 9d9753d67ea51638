//! The Job that sets the rules of the bucket, in whatever mode it is, by the keys and the account of the pods.

use k8s_openapi::api::{
    batch::v1::{Job, JobSpec},
    core::v1::ConfigMap,
};

use super::{
    Component, Keys,
    failure_policy::failure_policy,
    metadata,
    pod::{self, Pod},
    pod_template, service,
    workload::USER,
    worst_pod,
};
use crate::{
    contract::{self, BucketRules as Rules, RulesOutcome},
    names::{Component as Name, ROLE_CA, Waiting, reason},
    objects::{ApplyPolicy, DesiredObject, LiveObject, LiveSet, Readiness},
    plan::{Plan, Step},
    stack::Stack,
};

/// The container of the Job.
const SET: &str = "set";
/// How long the Job may take in all, in seconds: the attempts, each of which may wait for an object to arrive elsewhere.
const DEADLINE_SECONDS: i64 = 2 * 3600;

/// Reasons that the agent gives.
const REASONS: [reason::Reason; 7] = [
    reason::ACCESS_DENIED,
    reason::AUTHENTICATION_FAILED,
    reason::NOT_FOUND,
    reason::REPLICATION_NOT_PROVEN,
    reason::TLS_FAILED,
    reason::UNREACHABLE,
    reason::UNSUPPORTED,
];

pub(super) struct BucketRules;

impl Component for BucketRules {
    fn name(&self) -> Name {
        Name::BucketRules
    }

    fn requires(&self) -> &'static [Name] {
        &[Name::Connection]
    }

    fn waits_for(&self) -> &'static [Name] {
        &[Name::Bucket]
    }

    fn objects(&self, stack: &Stack, plan: &Plan) -> Vec<DesiredObject> {
        let (Some(rules), Some(access)) = (&stack.bucket_rules, stack.bucket.access()) else { return Vec::new() };
        if plan.bucket_rules.is_empty() {
            return Vec::new();
        }
        let mut objects = vec![service::account(stack, Name::BucketRules, &stack.api.service_account_annotations)];
        if let Some(ca) = &access.ca {
            objects.push(DesiredObject::own(&ConfigMap {
                data: Some([(contract::BUCKET_CA_FILE.to_owned(), ca.clone())].into()),
                metadata: metadata::owned(stack, Name::BucketRules, stack.child_role(Name::BucketRules, ROLE_CA)),
                ..ConfigMap::default()
            }));
        }
        objects.extend(plan.bucket_rules.iter().map(|step| job(stack, rules, access.ca.is_some(), step)));
        objects
    }

    fn note(&self, _: &Stack, live: &LiveSet) -> Option<String> {
        let newest = live.of_component("Job", Name::BucketRules.as_str()).max_by_key(|job| job.created)?;
        match said(newest, live)? {
            RulesOutcome::Set { notes } if !notes.is_empty() => Some(notes.join("; ")),
            _ => None,
        }
    }

    fn readiness(&self, _: &Stack, objects: &mut Keys<'_>, live: &LiveSet) -> Readiness {
        for (_, name) in objects.filter(|(kind, _)| *kind == "Job") {
            let Some(job) = live.named("Job", name) else { return being_set() };
            match &job.readiness {
                Readiness::Ready => {}
                Readiness::Waiting(waiting) if waiting.reason == reason::JOB_FAILED => {
                    return Readiness::Waiting(failed(job, waiting, live));
                }
                Readiness::Waiting(_) => {
                    return worst_pod(Name::BucketRules, 0, live).map_or_else(being_set, Readiness::Waiting);
                }
            }
        }
        Readiness::Ready
    }
}

fn being_set() -> Readiness {
    Readiness::waiting(reason::PROGRESSING, "the rules of the bucket are being set")
}

/// What the agent said at its end.
fn said(job: &LiveObject, live: &LiveSet) -> Option<RulesOutcome> {
    let pods = live.of_component("Pod", Name::BucketRules.as_str());
    let of_job = pods.filter(|pod| pod.owner.as_ref().is_some_and(|owner| *owner.uid == *job.uid));
    let newest = of_job.filter(|pod| pod.note.is_some()).max_by_key(|pod| pod.created)?;
    serde_json::from_str(newest.note.as_deref()?).ok()
}

fn failed(job: &LiveObject, waiting: &Waiting, live: &LiveSet) -> Waiting {
    let again = "then set the annotation rorun.app/retry to another value";
    let Some(RulesOutcome::Failed { reason, message }) = said(job, live) else {
        return Waiting::new(reason::JOB_FAILED, format!("{}; {again}", waiting.message));
    };
    let reason = REASONS.into_iter().find(|known| *known == reason).unwrap_or(reason::JOB_FAILED);
    Waiting::new(reason, format!("job/{}: {message}; {again}", job.name))
}

fn job(stack: &Stack, rules: &Rules, has_ca: bool, step: &Step) -> DesiredObject {
    let mut set = pod::container(stack, SET, &stack.agent_image);
    let rules = serde_json::to_string(rules).unwrap_or_default();
    let mut args = vec![contract::AGENT, contract::BUCKET_RULES, contract::ARG_RULES, &rules];
    let mut volumes = Vec::new();
    if has_ca {
        args.extend([contract::ARG_BUCKET_CA_FILE, contract::BUCKET_CA_PATH]);
        let (volume, mount) = pod::authorities(stack.child_role(Name::BucketRules, ROLE_CA));
        volumes.push(volume);
        set.volume_mounts = Some(vec![mount]);
    }
    set.args = Some(args.into_iter().map(str::to_owned).collect());
    set.env = Some(pod::bucket_variables(stack));
    let template = Pod {
        component: Name::BucketRules,
        containers: vec![set],
        init_containers: Vec::new(),
        volumes,
        user: USER,
        config_hash: None,
        image: &stack.agent_image,
    }
    .template(stack)
    .restarting("Never");
    let job = Job {
        metadata: metadata::owned(stack, Name::BucketRules, step.name.clone()),
        spec: Some(JobSpec {
            active_deadline_seconds: Some(DEADLINE_SECONDS),
            backoff_limit: Some(5),
            // What the keys may not do they may not do the next time.
            pod_failure_policy: Some(failure_policy(Some((Some(SET), contract::RULES_REFUSED)))),
            // Two at once would undo each other.
            pod_replacement_policy: Some("Failed".to_owned()),
            template: pod_template::of_the_api(stack, template),
            ..JobSpec::default()
        }),
        ..Job::default()
    };
    DesiredObject::new(&job, ApplyPolicy::RunOnce)
}
