//! The rules that a spec asks for on its bucket, in whatever mode it is.

use crate::{
    api::v1alpha1::{BucketSpec, RorunStackSpec},
    contract::{BucketRules, LifecycleRules, ReplicationRule},
    names::{Component, Waiting, reason},
    stack::{Observed, mode::Unresolved},
};

/// How the ids of rules begin in the object of a bucket. They need no owner: the object has all rules of its bucket, and its controller
/// leaves those of nobody else there.
pub(super) const IDS_OF_CONTROLLER: &str = "rorun-";

/// Whether a spec asks for rules.
pub fn asks_for_rules(spec: &RorunStackSpec) -> bool {
    let of = |bucket: &BucketSpec| bucket.lifecycle.is_some() || bucket.cors.is_some() || bucket.replication.is_some();
    spec.bucket.as_ref().is_some_and(of)
}

/// The rules that a Job is to set on the bucket, or to compare where its controller sets them, which takes back what its object does not
/// ask for. `None`: the spec asks for none, and no Job has set any.
pub(in crate::stack) fn rules(
    spec: &RorunStackSpec,
    observed: &Observed,
    unresolved: &mut Unresolved,
) -> Option<BucketRules> {
    if !asks_for_rules(spec) && !observed.jobs.iter().any(|job| job.component == Component::BucketRules) {
        return None;
    }
    if spec.bucket.as_ref().is_some_and(|bucket| bucket.s3.is_some()) {
        return Some(BucketRules { compared: true, ..of(spec, IDS_OF_CONTROLLER.to_owned()) });
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
        compared: false,
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
