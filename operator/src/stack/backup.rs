//! The dumps of a stack: when, where to, and whose they are.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use serde_json::Value;

use super::{
    BucketAccess, Observed, PointInTime, ProbeTarget, Probing, Recovery, Stack, bucket, defaults,
    mode::{Unresolved, ok_or_unresolved},
    preflight::OLDEST,
    schedule,
};
use crate::{
    api::v1alpha1::{BackupCopy, BackupSpec, Environment, ExternalBucket, RorunStackSpec, SanitizedDestination},
    contract,
    names::{Component, Waiting, annotation, reason},
};

/// The field with a bucket of the backups' own.
const DESTINATION: &str = "backup.destination.external";

/// Where backups are, below the bucket.
const PREFIX: &str = "backups/";

/// How many Jobs of backups on demand are kept, where the spec does not say.
const HISTORY: usize = 10;

/// Why Production should not do so.
const OWN_KEY: &str = "backups go into the application's own bucket with the application's own key, so whoever takes over the \
                       application can delete them: set backup.destination.external with a key of its own";

/// Why Production should not do so either.
const OWN_ROLE: &str = "backups go to their bucket by the role of api.serviceAccount.annotations, which the application's pods have \
                        too, so whoever takes over the application can delete them: set credentialsSecretRef of \
                        backup.destination.external, or bind roles to the ServiceAccounts one by one by EKS Pod Identity";

/// Why no drill begins.
const NO_KEYS_FOR_DRILLS: &str = "drills run statements of users, and get no cloud role: name a Secret with keys that may read the \
                                  backups in backup.verify.credentialsSecretRef, or set backup.verify.suspend to true";

/// The dumps of the database.
#[derive(Clone, Debug)]
pub struct Backup {
    /// Five fields of cron.
    pub schedule: String,
    /// IANA time zone.
    pub time_zone: String,
    /// The age in days at which a dump may be removed.
    pub retention_days: i32,
    /// How many dumps are kept whatever their age.
    pub minimum_kept: i32,
    /// How many Jobs of backups on demand are kept once they have ended.
    pub history: usize,
    /// The image with `pg_dump`.
    pub image: String,
    /// Nobody named that image, and the spec does not say the version of the server: see [`Stack::follow_database`].
    pub(super) follows_database: bool,
    /// CPU and memory.
    pub resources: ResourceRequirements,
    /// The bucket that dumps go to. `None`: see [`super::Stack::unresolved`].
    pub destination: Option<Box<BucketAccess>>,
    /// Whether the destination is a bucket of its own.
    pub own_destination: bool,
    /// How the operator probes that bucket.
    pub probing: Option<Probing>,
    /// The folder in the bucket, ending in a slash.
    pub prefix: String,
    /// The owner of the backups. `None`: the owner is unknown, so the run removes nothing.
    pub owner: Option<String>,
    /// The owner whose backups the stack adopts.
    pub adopt: Option<String>,
    /// Why the annotation that adopts backups has no effect.
    pub adopt_problem: Option<String>,
    /// Whether the dumps are on the volume of the embedded bucket.
    pub in_embedded_bucket: bool,
    /// A note for the user about the destination.
    pub note: Option<&'static str>,
    /// The archive of the log.
    pub point_in_time: Option<PointInTime>,
    /// What makes a recovery point of a dump: its bucket half, its copies, its drills.
    pub recovery: Recovery,
    /// The spec as users wrote it, for recovery points.
    pub spec: Value,
    /// The exact names of schemas that are not dumped.
    pub exclude_schemas: Vec<String>,
    /// Labels of the user for the pods.
    pub pod_labels: BTreeMap<String, String>,
    /// Annotations of the user for the pods.
    pub pod_annotations: BTreeMap<String, String>,
}

/// Whether a spec asks for dumps.
pub fn backed_up(spec: &RorunStackSpec) -> bool {
    spec.backup.is_some() || spec.environment != Environment::Development
}

/// The dumps that a spec asks for.
pub(super) fn resolve(
    spec: &RorunStackSpec,
    stack: &Stack,
    observed: &Observed,
    unresolved: &mut Unresolved,
) -> Option<Backup> {
    backed_up(spec).then(|| resolve_block(spec, stack, observed, unresolved))
}

/// The dumps of a spec, as if it asked for them.
pub(super) fn resolve_block(
    spec: &RorunStackSpec,
    stack: &Stack,
    observed: &Observed,
    unresolved: &mut Unresolved,
) -> Backup {
    let block = spec.backup.clone().unwrap_or_default();
    let external = external_of(&block);
    let destination = match external {
        Some(external) => {
            ok_or_unresolved(bucket::access(external, DESTINATION, observed), Component::Backup, unresolved)
        }
        None => stack.bucket.access().cloned(),
    };
    let (image, follows_database) = image(spec, &block, stack);
    let retention = block.retention.clone().unwrap_or_default();
    let (adopt, adopt_problem) = adopt(observed);
    let schedule = block.schedule.clone().unwrap_or_else(|| "15 2 * * *".to_owned());
    let time_zone = block.time_zone.clone().unwrap_or_else(|| "Etc/UTC".to_owned());
    ok_or_unresolved(schedule::check(&schedule, &time_zone), Component::Backup, unresolved);
    let recovery = Recovery::resolve((spec, &block), stack, observed, (&image, external.is_some()), unresolved);
    let backup = Backup {
        point_in_time: PointInTime::resolve((spec, &block), stack, observed),
        recovery,
        spec: serde_json::to_value(spec).unwrap_or_default(),
        image,
        follows_database,
        retention_days: retention.days.unwrap_or(30),
        minimum_kept: retention.minimum_kept.unwrap_or(7),
        history: block.history.and_then(|history| usize::try_from(history).ok()).unwrap_or(HISTORY),
        resources: defaults::resources(block.resources.as_ref(), "100m", "128Mi"),
        destination: destination.map(Box::new),
        own_destination: external.is_some(),
        probing: external.map(|external| bucket::probing(external, DESTINATION, spec.environment, observed)),
        in_embedded_bucket: external.is_none() && stack.server(Component::Bucket).is_some(),
        prefix: format!("{}{}/{}/", base(&block), stack.namespace, stack.name),
        owner: observed.backup_owner.clone(),
        adopt,
        adopt_problem,
        note: warning(spec).filter(|_| spec.environment == Environment::Production),
        schedule,
        time_zone,
        exclude_schemas: block.exclude_schemas,
        pod_labels: block.pod_labels,
        pod_annotations: block.pod_annotations,
    };
    if backup.drills_lack_keys() {
        let problem = Waiting::new(reason::INVALID_SPEC, NO_KEYS_FOR_DRILLS);
        unresolved.entry(Component::Drill).or_insert(problem);
    }
    backup
}

/// The image with the programs, and whether its version is a guess.
fn image(spec: &RorunStackSpec, block: &BackupSpec, stack: &Stack) -> (String, bool) {
    let registry = defaults::registry(spec);
    let mode = stack.database.mode();
    match (&block.image, mode.dump_image()) {
        (Some(image), _) => (defaults::image(registry, image), false),
        // The image of the servers, with its registry.
        (None, Some(image)) => (image.to_owned(), false),
        (None, None) => {
            let major = mode.major_version();
            let image = format!("postgres:{}", major.unwrap_or("17"));
            (defaults::image(registry, &image), major.is_none())
        }
    }
}

impl Stack {
    /// Dumps and restores by programs of the server's own major version, where nobody named an image: newer ones say what the server
    /// does not understand, and older ones refuse it. `told`: its version in the last status, which a restart leaves.
    pub fn follow_database(&mut self, told: Option<&str>) {
        let facts = self.facts(ProbeTarget::DIRECT).or_else(|| self.facts(Component::Database));
        let known = facts.and_then(|facts| facts.database.as_ref()?.major);
        let Some(major) = known.or_else(|| major(told?)).filter(|major| *major >= OLDEST) else { return };
        self.all_backups().for_each(|backup| backup.follow(major));
    }

    /// Makes the volumes of drills large enough for a database of so many bytes.
    pub fn drills_hold(&mut self, bytes: u64) {
        for backup in self.all_backups() {
            let recovery = &mut backup.recovery;
            recovery.verify.iter_mut().chain([&mut recovery.server]).for_each(|drill| drill.holds(bytes));
        }
    }

    fn all_backups(&mut self) -> impl Iterator<Item = &mut Backup> {
        let serving = self.serving.iter_mut().filter_map(|serving| serving.backup.as_mut());
        let seed = self.seed.iter_mut().map(|seed| &mut *seed.tools);
        self.backup.iter_mut().chain(serving).chain(seed)
    }
}

impl Backup {
    /// The bucket of the backups, and that of the application where points list its objects, as drills and sanitized points read them: by
    /// keys. `objects`: the latter too. `None`: a role alone leads there, which a pod that runs statements of users does not get.
    pub fn as_drills_read(&self, objects: bool) -> Option<(BucketAccess, Option<BucketAccess>)> {
        let of_points = self.destination.as_deref()?;
        // Keys for the points are none of another server's, which has its own.
        let by_keys = |access: &BucketAccess| match &self.recovery.reader {
            Some(keys) if access.keys.is_none() || access.endpoint == of_points.endpoint => Some(access.by(keys)),
            _ => access.keys.is_some().then(|| access.clone()),
        };
        let source = self.recovery.source.as_deref().filter(|_| objects).map(by_keys);
        let source = if let Some(source) = source { Some(source?) } else { None };
        Some((by_keys(of_points)?, source))
    }

    fn drills_lack_keys(&self) -> bool {
        let begin = self.recovery.verify.as_ref().is_some_and(|verify| !verify.suspend);
        begin && self.destination.is_some() && self.as_drills_read(true).is_none()
    }

    fn follow(&mut self, major: u32) {
        let Some((name, _)) = self.image.rsplit_once(':').filter(|_| self.follows_database) else { return };
        let image = format!("{name}:{major}");
        let recovery = &mut self.recovery;
        for drill in recovery.verify.iter_mut().chain([&mut recovery.server]).filter(|drill| !drill.own_image) {
            drill.image.clone_from(&image);
        }
        self.image = image;
    }
}

/// The number that a version begins with.
fn major(version: &str) -> Option<u32> {
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn external_of(block: &BackupSpec) -> Option<&ExternalBucket> {
    block.destination.as_ref().and_then(|destination| destination.external.as_ref())
}

/// The bucket of a copy.
pub(super) fn copied_to(copy: &BackupCopy) -> &ExternalBucket {
    &copy.external
}

/// The bucket of a sanitized recovery point.
pub(super) fn sanitized_to(destination: &SanitizedDestination) -> &ExternalBucket {
    &destination.external
}

/// Whether backups have a bucket of their own.
pub fn has_own_destination(spec: &RorunStackSpec) -> bool {
    destination(spec).is_some()
}

/// The bucket of the backups' own.
pub(super) fn destination(spec: &RorunStackSpec) -> Option<&ExternalBucket> {
    spec.backup.as_ref().and_then(external_of)
}

/// The folder that the backups of every stack of the bucket are below.
pub(super) fn base(block: &BackupSpec) -> &str {
    block.destination.as_ref().and_then(|destination| destination.prefix.as_deref()).unwrap_or(PREFIX)
}

/// The folders that every backup of the spec is below, and every copy, and the one that they are without a prefix.
pub fn backup_folders(spec: &RorunStackSpec) -> Vec<String> {
    let own = spec.backup.as_ref().map_or(PREFIX, base);
    let copies = spec.backup.iter().flat_map(|block| &block.copies);
    let copies = copies.filter_map(|copy| copy.prefix.as_deref());
    let mut folders = vec![PREFIX.to_owned()];
    for folder in [own].into_iter().chain(copies) {
        if !folders.iter().any(|known| known == folder) {
            folders.push(folder.to_owned());
        }
    }
    folders
}

/// The warning about dumps that go to the application's own bucket by its own key.
pub(super) fn warning(spec: &RorunStackSpec) -> Option<&'static str> {
    let of_the_api = spec.api.service_account.as_ref().is_some_and(|account| !account.annotations.is_empty());
    let opens = bucket::chosen(spec).opens_backups(destination(spec));
    if read_by_role(spec, false) { of_the_api.then_some(OWN_ROLE) } else { opens.then_some(OWN_KEY) }
}

/// Whether only a role leads to the bucket of the backups, or to that of the application where `objects` of it are asked for.
pub(super) fn read_by_role(spec: &RorunStackSpec, objects: bool) -> bool {
    let own = bucket::is_by_role(spec);
    destination(spec).map_or(own, |destination| destination.cloud_role.is_some()) || (objects && own)
}

/// The value of the annotation that adopts backups, or why it has no effect.
fn adopt(observed: &Observed) -> (Option<String>, Option<String>) {
    let Some(wanted) = &observed.adopt_backups else { return (None, None) };
    if wanted == contract::ADOPT_NONE || contract::is_owner(wanted) {
        return (Some(wanted.clone()), None);
    }
    let problem = format!(
        "the annotation {} is not obeyed: write the owner as status.backup.sharedWith tells it, or {} for backups without an \
         owner",
        annotation::ADOPT_BACKUPS,
        contract::ADOPT_NONE
    );
    (None, Some(problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_owner_or_none_is_adopted() {
        let adopted = |text: &str| {
            let observed = Observed { adopt_backups: Some(text.to_owned()), ..Observed::default() };
            adopt(&observed)
        };
        assert_eq!(adopt(&Observed::default()), (None, None));
        for text in ["none", "6f1f3a5c-0000-4000-8000-000000000001/shop"] {
            assert_eq!(adopted(text), (Some(text.to_owned()), None));
        }
        for text in ["", "None", "shop", "*", "uid/shop ", "a/b/c", "--delete-versions"] {
            let (adopt, problem) = adopted(text);
            assert!(
                adopt.is_none() && problem.is_some_and(|problem| problem.contains("rorun.app/adopt-backups")),
                "{text}"
            );
        }
    }
}
