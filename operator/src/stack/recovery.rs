//! What makes a recovery point of a dump: the objects of the bucket beside it, its copies, its drills, and what it is measured by.

use k8s_openapi::{api::core::v1::ResourceRequirements, apimachinery::pkg::api::resource::Quantity};
use sha2::{Digest as _, Sha256};

use super::{
    AccessKeys, BucketAccess, Observed, Stack, backup, bucket, defaults,
    mode::{Unresolved, ok_or_unresolved},
    probing::duration,
    schedule,
    secret::NamedSecret,
};
use crate::{
    api::v1alpha1::{
        BackupCheck, BackupCopy, BackupSpec, BackupVerify, Environment, ExternalBucket, IdentitySecretReference,
        RorunStackSpec, S3SecretReference,
    },
    contract::ReplicationRule,
    names::{Component, Waiting},
    quantity::{NANOS, nanos},
};

/// The volume of a drill for a database whose size nobody knows.
const UNKNOWN_SIZE: &str = "20Gi";
/// What a pod of a drill requests of the disk of its node.
const SCRATCH: &str = "128Mi";
/// Weekly, when few people work, and each stack in a minute of its own.
fn weekly(stack: &Stack) -> String {
    let minute = Sha256::digest(stack.uid.as_bytes())[0] % 60;
    format!("{minute} 4 * * 0")
}

/// The key in the Secret with the identity.
const IDENTITY_KEY: &str = "identity";

/// What makes a recovery point of a dump.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// The keys of age that dumps are encrypted for.
    pub recipients: Vec<String>,
    /// The Secret and the key with the identity that decrypts them.
    pub identity: Option<(String, String)>,
    /// Whether a point lists the objects of the application's bucket.
    pub include_bucket: bool,
    /// The application's bucket, where it is not the one that backups go to, and its objects are listed.
    pub source: Option<Box<BucketAccess>>,
    /// The folders of that bucket that hold backups.
    pub except: Vec<String>,
    /// Where the application's bucket is replicated to.
    pub replica: Option<ReplicationRule>,
    /// The copies.
    pub copies: Vec<PointCopy>,
    /// The drills.
    pub verify: Option<Verify>,
    /// The keys that drills and sanitized points read by. `None`: those of the buckets.
    pub reader: Option<AccessKeys>,
    /// The pod of a PostgreSQL that is thrown away: that of the drills, whether or not any begin.
    pub server: Verify,
    /// How many seconds of data may be lost, if the spec says so.
    pub rpo: Option<i64>,
    /// How many seconds a restore may take, if the spec says so.
    pub rto: Option<i64>,
}

/// A bucket that points are copied to.
#[derive(Clone, Debug)]
pub struct PointCopy {
    /// The bucket.
    pub access: BucketAccess,
    /// The folder of the stack in it, ending in a slash.
    pub prefix: String,
    /// The age in days at which a copy may be removed.
    pub retention_days: i32,
    /// How many copies are kept whatever their age.
    pub minimum_kept: i32,
}

/// The drills of a stack.
#[derive(Clone, Debug, Default)]
pub struct Verify {
    /// Five fields of cron.
    pub schedule: String,
    /// No drill begins by the schedule.
    pub suspend: bool,
    /// The image with PostgreSQL.
    pub image: String,
    /// The spec names that image.
    pub own_image: bool,
    /// The size of the volume.
    pub size: String,
    /// The spec says that size.
    pub own_size: bool,
    /// Its class. `None`: the cluster's default.
    pub class: Option<String>,
    /// CPU and memory.
    pub resources: ResourceRequirements,
    /// What the restored database is asked.
    pub checks: Vec<BackupCheck>,
}

impl Recovery {
    /// `image`: that of the dumps; `elsewhere`: they go to a bucket of their own.
    pub(super) fn resolve(
        (spec, block): (&RorunStackSpec, &BackupSpec),
        stack: &Stack,
        observed: &Observed,
        (image, elsewhere): (&str, bool),
        unresolved: &mut Unresolved,
    ) -> Self {
        let include_bucket = block.include_bucket.unwrap_or(false);
        let retention = block.retention.clone().unwrap_or_default();
        let copy = |(index, copy): (usize, &BackupCopy)| {
            let field = format!("backup.copies[{index}].external");
            let access = bucket::access(backup::copied_to(copy), &field, observed);
            let own = copy.retention.as_ref().unwrap_or(&retention);
            let prefix = copy.prefix.as_deref().unwrap_or("backups/");
            Some(PointCopy {
                access: ok_or_unresolved(access, Component::Backup, unresolved)?,
                prefix: format!("{prefix}{}/{}/", stack.namespace, stack.name),
                retention_days: own.days.unwrap_or(30),
                minimum_kept: own.minimum_kept.unwrap_or(7),
            })
        };
        let copies = block.copies.iter().enumerate().filter_map(copy).collect();
        let objectives = block.objectives.as_ref();
        let identity = block.identity_secret_ref.as_ref();
        if let Some(identity) = identity {
            let there = NamedSecret::find(observed, &identity.name, "backup.identitySecretRef").map(drop);
            ok_or_unresolved(there, Component::Drill, unresolved);
        }
        let reader = ok_or_unresolved(reader(spec, observed), Component::Drill, unresolved);
        let asked = verify(spec, block);
        let server = resolve_verify(&asked.clone().unwrap_or_default(), (spec, block), stack, image, unresolved);
        Self {
            recipients: block.recipients.clone(),
            identity: identity.map(|of| (of.name.clone(), key(of).to_owned())),
            include_bucket,
            source: stack.bucket.access().filter(|_| include_bucket && elsewhere).cloned().map(Box::new),
            except: backup::backup_folders(spec),
            replica: bucket::replication(spec),
            copies,
            verify: asked.map(|_| server.clone()),
            reader: reader.flatten(),
            server,
            rpo: objectives.and_then(|of| seconds(of.rpo.as_deref()?)),
            rto: objectives.and_then(|of| seconds(of.rto.as_deref()?)),
        }
    }
}

/// The drills that a spec asks for.
fn verify(spec: &RorunStackSpec, block: &BackupSpec) -> Option<BackupVerify> {
    let default = || (spec.environment == Environment::Production).then(BackupVerify::default);
    block.verify.clone().or_else(default)
}

fn resolve_verify(
    drill: &BackupVerify,
    (spec, block): (&RorunStackSpec, &BackupSpec),
    stack: &Stack,
    image: &str,
    unresolved: &mut Unresolved,
) -> Verify {
    let schedule = drill.schedule.clone().unwrap_or_else(|| weekly(stack));
    let time_zone = block.time_zone.as_deref().unwrap_or("Etc/UTC");
    let checked = schedule::check(&schedule, time_zone).map_err(|mut waiting| {
        waiting.message = waiting.message.replace("spec.backup.schedule", "spec.backup.verify.schedule");
        waiting
    });
    ok_or_unresolved(checked, Component::Drill, unresolved);
    let storage = drill.storage.as_ref();
    let size = storage.and_then(|storage| storage.size.as_ref()).map(|size| size.0.0.clone());
    let of_database = || twice(stack.database.mode().volume_size()?);
    let own = drill.image.as_deref().map(|image| defaults::image(defaults::registry(spec), image));
    Verify {
        schedule,
        suspend: drill.suspend.unwrap_or(false),
        own_image: own.is_some(),
        image: own.unwrap_or_else(|| image.to_owned()),
        own_size: size.is_some(),
        size: size.or_else(of_database).unwrap_or_else(|| UNKNOWN_SIZE.to_owned()),
        class: storage.and_then(|storage| storage.storage_class_name.clone()),
        resources: with_scratch(defaults::resources(drill.resources.as_ref(), "100m", "256Mi")),
        checks: drill.checks.clone(),
    }
}

/// What the pod has on the disk of its node beside its volume: the agent, `/tmp`, and logs.
fn with_scratch(mut resources: ResourceRequirements) -> ResourceRequirements {
    const NAME: &str = "ephemeral-storage";
    if !resources.limits.as_ref().is_some_and(|limits| limits.contains_key(NAME)) {
        let requests = resources.requests.get_or_insert_default();
        requests.entry(NAME.to_owned()).or_insert_with(|| Quantity(SCRATCH.to_owned()));
    }
    resources
}

impl Verify {
    /// Makes the volume large enough for twice a database of so many bytes, where the spec does not say how large it is: in powers of
    /// two, so that a database which grows changes it seldom.
    pub(super) fn holds(&mut self, bytes: u64) {
        let gibibytes = bytes.saturating_mul(2).div_ceil(1 << 30).checked_next_power_of_two();
        let Some(wanted) = gibibytes.map(|gibibytes| format!("{gibibytes}Gi")).filter(|_| !self.own_size) else {
            return;
        };
        if nanos(&wanted) > nanos(&self.size) {
            self.size = wanted;
        }
    }
}

fn seconds(text: &str) -> Option<i64> {
    i64::try_from(duration(text)?.as_secs()).ok()
}

/// Twice a quantity, in whole MiB.
fn twice(size: &str) -> Option<String> {
    const MEBIBYTE: i128 = 1024 * 1024 * NANOS;
    let both = nanos(size)?.checked_mul(2)?;
    let size = both.checked_add(MEBIBYTE - 1)? / MEBIBYTE;
    // As the API server writes it.
    let units = ["Mi", "Gi", "Ti"];
    let power = (0..2).take_while(|power| size % 1024_i128.pow(power + 1) == 0).count();
    Some(format!("{}{}", size / 1024_i128.pow(u32::try_from(power).ok()?), units[power]))
}

/// The Secret with the keys of drills that a spec names.
pub(super) fn reader_secret(spec: &RorunStackSpec) -> Option<S3SecretReference> {
    let name = spec.backup.as_ref()?.verify.as_ref()?.credentials_secret_ref.as_ref()?.name.clone();
    Some(S3SecretReference { name, access_key_id_key: None, secret_access_key_key: None, session_token_key: None })
}

/// The keys that drills and sanitized points read by. `None`: those of the buckets.
pub(super) fn reader(spec: &RorunStackSpec, observed: &Observed) -> Result<Option<AccessKeys>, Waiting> {
    bucket::keys(reader_secret(spec).as_ref(), "backup.verify.credentialsSecretRef", observed)
}

/// The Secret with the identity that a spec names.
pub(super) fn identity(spec: &RorunStackSpec) -> Option<&IdentitySecretReference> {
    spec.backup.as_ref()?.identity_secret_ref.as_ref()
}

/// The key in it.
pub(super) fn key(identity: &IdentitySecretReference) -> &str {
    identity.key.as_deref().unwrap_or(IDENTITY_KEY)
}

/// The other buckets that a spec names for its copies.
pub(super) fn buckets(spec: &RorunStackSpec) -> impl Iterator<Item = &ExternalBucket> {
    spec.backup.iter().flat_map(|backup| &backup.copies).map(backup::copied_to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_volume_of_a_drill_grows_with_what_the_last_dump_found() {
        let size = |own_size: bool, size: &str, bytes: u64| {
            let mut drill = Verify { own_size, size: size.to_owned(), ..Verify::default() };
            drill.holds(bytes);
            drill.size
        };
        assert_eq!(size(false, "20Gi", 1 << 30), "20Gi");
        assert_eq!(size(false, "20Gi", 11 << 30), "32Gi");
        assert_eq!(size(false, "20Gi", 16 << 30), "32Gi");
        assert_eq!(size(false, "20Gi", (16 << 30) + 1), "64Gi");
        assert_eq!(size(false, "20Gi", 17 << 30), "64Gi");
        assert!(nanos(&size(false, "20Gi", u64::MAX)) > nanos("8Ei"));
        assert_eq!(size(true, "5Gi", 100 << 30), "5Gi");
    }

    #[test]
    fn a_drill_gets_twice_the_volume_of_the_database() {
        let sizes = ["10Gi", "512Mi", "1G", "nonsense"].map(twice);
        let expected = [Some("20Gi"), Some("1Gi"), Some("1908Mi"), None];
        assert_eq!(sizes, expected.map(|size| size.map(str::to_owned)));
    }
}
