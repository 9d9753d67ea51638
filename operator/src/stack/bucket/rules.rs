//! The rules that a spec asks for on its bucket, in whatever mode it is.

use crate::{
    api::v1alpha1::{BucketSpec, RorunStackSpec},
    contract::{BucketRules, LifecycleRules, ReplicationRule},
    names::{Component, Waiting, reason},
    stack::{Observed, mode::Unresolved},
};

/// Whether a spec asks for rules.
pub fn asks_for_rules(spec: &RorunStackSpec) -> bool {
    let of = |bucket: &BucketSpec| bucket.lifecycle.is_some() || bucket.cors.is_some() || bucket.replication.is_some();
    spec.bucket.as_ref().is_some_and(of)
}

/// The rules that a Job is to set on the bucket. `None`: the spec asks for none, and no Job has set any; or the controller of the
/// bucket sets them, which takes back what its object does not ask for.
pub(in crate::stack) fn rules(
    spec: &RorunStackSpec,
    observed: &Observed,
    unresolved: &mut Unresolved,
) -> Option<BucketRules> {
    let by_controller = spec.bucket.as_ref().is_some_and(|bucket| bucket.s3.is_some());
    if by_controller {
        return None;
    }
    if !asks_for_rules(spec) && !observed.jobs.iter().any(|job| job.component == Component::BucketRules) {
        return None;
    }
    let Some(owner) = &observed.backup_owner else {
        let message = "the operator may not read the namespace, whose uid is a part of the ids of the bucket's rules: let it \
                       get namespaces";
        unresolved.insert(Component::BucketRules, Waiting::new(reason::FORBIDDEN, message));
        return None;
    };
    Some(of(spec, BucketRules::ids(owner)))
}

/// The rules of a spec, with the beginning of their ids.
pub(super) fn of(spec: &RorunStackSpec, ids: String) -> BucketRules {
    let bucket = spec.bucket.clone().unwrap_or_default();
    BucketRules {
        ids,
        lifecycle: bucket.lifecycle.map(|lifecycle| LifecycleRules {
            prefix: lifecycle.prefix.unwrap_or_default(),
            archive_after_days: lifecycle.archive_after_days,
            expire_noncurrent_after_days: lifecycle.expire_noncurrent_after_days,
            abort_incomplete_uploads_after_days: lifecycle.abort_incomplete_uploads_after_days,
        }),
        origins: bucket.cors.map(|cors| cors.allow_origins).unwrap_or_default(),
        replication: replication(spec),
    }
}

/// Where the server copies the objects of the bucket to.
pub(in crate::stack) fn replication(spec: &RorunStackSpec) -> Option<ReplicationRule> {
    let to = spec.bucket.as_ref()?.replication.clone()?;
    Some(ReplicationRule { bucket: to.bucket, region: to.region, role: to.role_arn })
}
