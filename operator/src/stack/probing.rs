//! Which services are asked whether they answer, and how often. Asking sends keys and passwords from the operator's pod to where
//! the spec says, so what is doubtful is not asked: the pods use it all the same, and the condition says how it can be asked.

use std::{collections::BTreeMap, time::Duration};

use jiff::SignedDuration;

use super::{Bucket, Database, NamedUrl, Observed, Redis, Replicas, Stack};
use crate::{
    api::v1alpha1::{BucketSpec, Environment, ExternalBucket, RorunStackSpec},
    names::{Component, Waiting, label, reason},
};

/// How a service is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probing {
    /// How often while it answers. `None`: as suits the service.
    pub interval: Option<Duration>,
    /// Why it is not asked. `None`: it is.
    pub not_asked: Option<Waiting>,
}

/// How each service of a stack is asked.
pub(super) fn probing(spec: &RorunStackSpec, stack: &Stack, observed: &Observed) -> BTreeMap<Component, Probing> {
    let mut all = BTreeMap::new();
    let asleep = asleep(stack);
    let mut add = |component, interval: Option<&str>, doubt: Option<String>| {
        let not_asked = asleep.clone().or(doubt).map(|why| Waiting::new(reason::NOT_PROBED, why));
        all.insert(component, Probing { interval: interval.and_then(duration), not_asked });
    };
    if let Some(external) = spec.database.as_ref().and_then(|database| database.external.as_ref()) {
        let allowed = external.allow_insecure == Some(true);
        let doubt = clear_database(stack).filter(|()| in_clear_is_refused(stack, allowed)).map(|()| {
            in_clear("database.external", "the URL says sslmode=disable or allow", "another sslmode, or set tls.mode")
        });
        add(Component::Database, external.probe_interval.as_deref(), doubt);
    }
    if let Some(external) = spec.redis.as_ref().and_then(|redis| redis.external.as_ref()) {
        let allowed = external.allow_insecure == Some(true);
        let doubt = clear_redis(stack)
            .filter(|()| in_clear_is_refused(stack, allowed))
            .map(|()| in_clear("redis.external", "the URL starts with redis://", "rediss://"));
        add(Component::Redis, external.probe_interval.as_deref(), doubt);
    }
    let bucket = |spec: Option<&BucketSpec>| spec.and_then(|bucket| bucket.external.clone());
    if let Some(external) = bucket(spec.bucket.as_ref()) {
        let doubt = doubtful_bucket(&external, "bucket.external", stack, observed);
        add(Component::Bucket, external.probe_interval.as_deref(), doubt);
    }
    let destination = spec.backup.as_ref().and_then(|backup| backup.destination.as_ref());
    if let Some(external) = destination.and_then(|destination| destination.external.clone()) {
        let doubt = doubtful_bucket(&external, "backup.destination.external", stack, observed);
        add(Component::Backup, external.probe_interval.as_deref(), doubt);
    }
    if matches!(stack.bucket, Bucket::Embedded { .. }) && stack.suspend {
        // Without a suspension it is asked always: whoever asks it makes the bucket, which dumps need also where no pod runs.
        add(Component::Bucket, None, None);
    }
    all
}

impl Stack {
    /// Why a service is not asked.
    pub fn not_asked(&self, component: Component) -> Option<&Waiting> {
        self.probing.get(&component)?.not_asked.as_ref()
    }
}

/// Why nobody needs to know whether the services answer.
fn asleep(stack: &Stack) -> Option<String> {
    if stack.suspend {
        return Some("it is not asked whether it answers while spec.suspend is true".to_owned());
    }
    let mut workloads = [Some(&stack.api), stack.ocr.as_ref(), stack.admin.as_ref()].into_iter().flatten();
    let none = workloads.all(|workload| workload.replicas == Replicas::Fixed(0));
    none.then(|| "it is not asked whether it answers while every workload has 0 replicas".to_owned())
}

fn in_clear_is_refused(stack: &Stack, allowed: bool) -> bool {
    stack.environment != Environment::Development && !allowed
}

fn in_clear(field: &str, what: &str, instead: &str) -> String {
    format!(
        "it is used by the pods and not asked whether it answers, since {what} and a password would leave the operator in \
         clear: use {instead}, or set {field}.allowInsecure to true"
    )
}

fn clear_database(stack: &Stack) -> Option<()> {
    let Database::External(Some(access)) = &stack.database else { return None };
    let in_clear = |named: &NamedUrl| matches!(named.url.parameter("sslmode"), Some("disable" | "allow"));
    [&access.url, &access.direct, &access.read].into_iter().any(in_clear).then_some(())
}

fn clear_redis(stack: &Stack) -> Option<()> {
    let Redis::External(Some(access)) = &stack.redis else { return None };
    access.url.starts_with("redis://").then_some(())
}

fn doubtful_bucket(external: &ExternalBucket, field: &str, stack: &Stack, observed: &Observed) -> Option<String> {
    if external.endpoint.starts_with("http://") && in_clear_is_refused(stack, external.allow_insecure == Some(true)) {
        return Some(in_clear(field, "the endpoint starts with http://", "https://"));
    }
    let keys = &external.credentials_secret_ref;
    // Each in its own place: a signature sends the access key id in clear, and the secret access key never.
    let usual = keys.access_key_id_key.as_deref().is_none_or(|key| key == "AWS_ACCESS_KEY_ID")
        && keys.secret_access_key_key.as_deref().is_none_or(|key| key == "AWS_SECRET_ACCESS_KEY");
    if usual || observed.traits.get(&keys.name).is_some_and(|traits| traits.for_s3) {
        return None;
    }
    Some(format!(
        "it is used by the pods and not asked whether it answers, since secret/{name} may hold something else than keys of \
         S3 under names other than AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: label it (kubectl label secret {name} \
         {}=true), or use these names",
        label::S3,
        name = keys.name,
    ))
}

/// As the CRD admits it.
fn duration(text: &str) -> Option<Duration> {
    Duration::try_from(text.parse::<SignedDuration>().ok()?).ok()
}
