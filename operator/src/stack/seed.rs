//! The sanitized recovery point that a new stack begins with, as a restore that the stack itself asks for.

use super::{
    Backup, Observed, References, RestorePoint, RestoreRequest, Stack, backup, bucket,
    mode::{ModeSpec, Unresolved},
    placeholders::Values,
};
use crate::{
    api::v1alpha1::{Environment, ExternalBucket, RorunStackSpec, SeedFrom},
    contract,
    names::{Waiting, meaning, reason},
};

/// The field, and what stands for the name of a RorunRestore: none can have this one.
pub const SEED_FROM: &str = "spec.seedFrom";

/// What a new stack begins with.
#[derive(Clone, Debug)]
pub struct Seed {
    /// The restore, with what its Jobs are named by.
    pub request: RestoreRequest,
    /// The image, the bucket and the rest of a pod that reads the point.
    pub tools: Box<Backup>,
    /// What is missing of the bucket.
    pub missing: Option<Waiting>,
    /// What the database began with: the point, or the words that tell of the data that were found. The plan tells it.
    pub seeded: Option<Result<String, String>>,
}

/// Reads the field. `None`: the database begins empty, as that of Production always does.
pub(super) fn resolve(spec: &RorunStackSpec, stack: &Stack, observed: &Observed) -> Option<Seed> {
    let seed = spec.seed_from.as_ref().filter(|_| spec.environment != Environment::Production)?;
    let access = bucket::access(&bucket_of(seed), "seedFrom", observed);
    let missing = access.as_ref().err().cloned();
    // What is missing of the backups is told by themselves.
    let tools = backup::resolve_block(spec, stack, observed, &mut Unresolved::new());
    let tools = Backup { destination: access.ok().map(Box::new), own_destination: true, owner: None, ..tools };
    let wrong = || Waiting::new(reason::INVALID_SPEC, "spec.seedFrom.location names no recovery point");
    let request = RestoreRequest {
        // Another location is another restore.
        uid: format!("{}{}{}", stack.uid, contract::SEED, meaning(&[&seed.location])),
        name: SEED_FROM.to_owned(),
        stack_uid: None,
        copy_uid: None,
        fills: true,
        database: true,
        bucket: false,
        into: None,
        retry: observed.retry().unwrap_or_default().to_owned(),
        point: RestorePoint::at(&seed.location).ok_or_else(|| super::PointProblem::Final(wrong())),
    };
    Some(Seed { request, tools: Box::new(tools), missing, seeded: None })
}

/// The block of a bucket that the field stands for.
fn bucket_of(seed: &SeedFrom) -> ExternalBucket {
    let name = RestorePoint::at(&seed.location).and_then(|point| point.folder).map(|(bucket, _)| bucket);
    ExternalBucket {
        name: name.unwrap_or_default(),
        endpoint: seed.endpoint.clone(),
        region: seed.region.clone(),
        force_path_style: seed.force_path_style,
        checksums: None,
        credentials_secret_ref: seed.credentials_secret_ref.clone(),
        cloud_role: seed.cloud_role.clone(),
        tls: seed.tls.clone(),
        allow_insecure: None,
        probe_interval: None,
    }
}

/// Adds the Secrets that the field names.
pub(super) fn references(stack: &str, spec: &RorunStackSpec, found: &mut References) {
    if let Some(seed) = &spec.seed_from {
        bucket_of(seed).references(stack, found);
    }
}

/// Adds values for them.
pub(super) fn placeholders(stack: &str, spec: &RorunStackSpec, values: &mut Values<'_>) {
    if let Some(seed) = &spec.seed_from {
        bucket_of(seed).placeholders(stack, values);
    }
}
