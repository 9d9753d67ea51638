//! A release: what the user wrote of the workloads, without defaults and config hashes, so that an upgrade of the operator makes
//! none.
//!
//! The images alone say which release it is; the whole content, with commands, variables and ports, which revision of it. A
//! revision is kept as a ControllerRevision: its content never changes, and what became of it stands beside the content.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::EnvVar;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{Observed, RESTORED, Stack, defaults, probing::duration};
use crate::{
    api::v1alpha1::{Approval, Environment, RorunStackSpec, SmokeTest, WorkloadSpec},
    names::{Component, image},
};

/// The fields of a workload that make a release. All others, such as `replicas`, apply to whichever release serves.
const FIELDS: [&str; 9] = ["image", "command", "args", "port", "env", "envFrom", "health", "podTemplate", "migrations"];

/// The workloads of a release.
pub const WORKLOADS: [Component; 3] = [Component::Api, Component::Ocr, Component::Admin];

/// How many hexadecimal digits a hash of a release has.
const DIGITS: usize = 10;

/// The content of a revision: the fields of each workload, with full names of images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Content(Value);

impl Content {
    /// What a spec says.
    pub fn of(spec: &RorunStackSpec) -> Self {
        let registry = defaults::registry(spec);
        let workloads = [
            (Component::Api, Some(&spec.api)),
            (Component::Ocr, spec.ocr.as_ref()),
            (Component::Admin, spec.admin.as_ref()),
        ];
        let fields = |workload: &WorkloadSpec| {
            let mut all = serde_json::to_value(workload).unwrap_or_default();
            all["image"] = Value::String(defaults::image(registry, &workload.image));
            let kept = FIELDS.into_iter().filter_map(|field| Some((field.to_owned(), all.get_mut(field)?.take())));
            Value::Object(kept.collect())
        };
        let entries = workloads.into_iter().filter_map(|(of, workload)| Some((of.to_string(), fields(workload?))));
        Self(Value::Object(entries.collect()))
    }

    /// What a ControllerRevision holds. `None`: that is no content of a release.
    pub fn read(data: &Value) -> Option<Self> {
        let content = Self(data.as_object()?.get("workloads")?.clone());
        content.image(Component::Api)?;
        Some(content)
    }

    /// As a ControllerRevision holds it.
    pub fn data(&self) -> Value {
        json!({"workloads": self.0})
    }

    /// The image of a workload. `None`: the release has no such workload.
    pub fn image(&self, component: Component) -> Option<&str> {
        self.0.get(component.as_str())?.get("image")?.as_str()
    }

    /// The images, by workload.
    pub fn images(&self) -> BTreeMap<Component, &str> {
        WORKLOADS.into_iter().filter_map(|component| Some((component, self.image(component)?))).collect()
    }

    /// Which release it is.
    pub fn release(&self) -> String {
        hash(&json!(self.images().into_iter().map(|(of, image)| (of.to_string(), image)).collect::<BTreeMap<_, _>>()))
    }

    /// Which revision it is.
    pub fn revision(&self) -> String {
        hash(&self.0)
    }

    /// Which revision of one workload it is: the Deployment carries it, so that a release of another workload leaves it alone.
    /// `None`: the release has no such workload.
    pub fn workload(&self, component: Component) -> Option<String> {
        self.0.get(component.as_str()).map(hash)
    }

    /// The spec with these workloads: all else, such as `replicas`, is that of the spec. Images have full names, so the spec's
    /// registry is not put before them again. `None`: an operator of another version wrote the content, and this one cannot read it.
    pub fn in_spec(&self, spec: &RorunStackSpec) -> Option<RorunStackSpec> {
        let mut spec = spec.clone();
        let workload = |component: Component, now: Option<&WorkloadSpec>| {
            let Some(fields) = self.0.get(component.as_str()).and_then(Value::as_object) else { return Some(None) };
            let mut merged: Map<String, Value> = match now.map(serde_json::to_value) {
                Some(Ok(Value::Object(all))) => all,
                _ => Map::new(),
            };
            merged.retain(|field, _| !FIELDS.contains(&field.as_str()));
            merged.extend(fields.clone());
            serde_json::from_value::<WorkloadSpec>(Value::Object(merged)).ok().map(Some)
        };
        spec.api = workload(Component::Api, Some(&spec.api))??;
        spec.ocr = workload(Component::Ocr, spec.ocr.as_ref())?;
        spec.admin = workload(Component::Admin, spec.admin.as_ref())?;
        Some(spec)
    }
}

fn hash(value: &Value) -> String {
    let text = value.to_string();
    let bytes = Sha256::digest(text.as_bytes());
    super::workload::hex(&bytes[..DIGITS / 2])
}

/// How a release reaches the users.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReleaseSettings {
    /// Somebody has to approve a release whose images never served.
    pub approval_required: bool,
    /// How the schema of the database is brought forward. `None`: it is not.
    pub migration: Option<Migration>,
    /// How old the recovery point of a migration may be, in seconds. `None`: a migration needs none.
    pub recovery_point_within: Option<i64>,
    /// What is asked of the candidates of a release.
    pub smoke_tests: Vec<SmokeTest>,
    /// Which data the migration is about: the volume, or the host and database of an external server.
    pub data: String,
}

/// How the schema of the database is brought forward.
#[derive(Clone, Debug, PartialEq)]
pub struct Migration {
    /// The command in the API's image.
    pub command: Vec<String>,
    /// How long it may take, in seconds.
    pub timeout_seconds: i32,
    /// Environment variables of the migration alone.
    pub env: Vec<EnvVar>,
}

/// What a spec says of releases.
pub(super) fn settings(spec: &RorunStackSpec, stack: &Stack, observed: &Observed) -> ReleaseSettings {
    let release = spec.release.clone().unwrap_or_default();
    let migration = spec.api.migrations.clone().map(|migrations| Migration {
        command: migrations.command,
        timeout_seconds: migrations.timeout_seconds.unwrap_or(600),
        env: migrations.env,
    });
    ReleaseSettings {
        approval_required: release.approval == Some(Approval::Required),
        migration,
        recovery_point_within: recovery_point_within(spec),
        smoke_tests: release.smoke_tests,
        data: data(stack, observed),
    }
}

/// How old the recovery point of a migration may be: Production needs one.
fn recovery_point_within(spec: &RorunStackSpec) -> Option<i64> {
    let backup = spec.backup.as_ref().filter(|_| spec.environment == Environment::Production)?;
    let objective = backup.objectives.as_ref().and_then(|objectives| objectives.rpo.as_deref());
    let within = objective.and_then(duration).and_then(|within| i64::try_from(within.as_secs()).ok());
    Some(within.unwrap_or(3600))
}

/// The identity of the data: the uid of the volume, or the hosts and the database of an external server, and the restores that have
/// changed them since.
fn data(stack: &Stack, observed: &Observed) -> String {
    let commands = observed.handled.iter().flat_map(|handled| &handled.commands);
    let restores = commands.filter(|(key, _)| key.starts_with(RESTORED)).map(|(_, command)| command.value.as_str());
    // Restored data are others: what was migrated before them is not migrated of them.
    std::iter::once(place(stack, observed).as_str()).chain(restores).collect::<Vec<_>>().join("+")
}

fn place(stack: &Stack, observed: &Observed) -> String {
    if let Some(volume) = observed.volumes.get(&Component::Database) {
        return volume.uid.clone();
    }
    let access = stack.database.mode().access();
    access
        .map(|access| format!("{}/{}", access.direct.url.hosts().join(","), access.direct.url.database()))
        .unwrap_or_default()
}

/// A revision of a release, as the cluster keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Revision {
    /// The name of the ControllerRevision.
    pub name: String,
    /// Its number: of two, the greater is the newer.
    pub number: i64,
    /// What of the spec it holds.
    pub content: Content,
    /// What became of it.
    pub progress: Progress,
}

impl Revision {
    /// An image of it with the digest that its pods run, if there is one.
    pub fn pinned(&self, component: Component, image: &str) -> String {
        let digest = self.progress.digests.get(component.as_str()).filter(|digest| image::is_digest(digest));
        match digest {
            Some(digest) if !image.contains('@') => format!("{image}@{digest}"),
            _ => image.to_owned(),
        }
    }
}

/// What became of a revision. Moments are in seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// When it was first observed.
    pub created_at: i64,
    /// The backup that is the way back from its migration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery_point: Option<RecoveryPoint>,
    /// How the tests of its candidates ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tested: Option<Tested>,
    /// When its rollout began, or that of its candidates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<i64>,
    /// When it began to serve. A revision that served is one to go back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub served_at: Option<i64>,
    /// What keeps its rollout from going on though the release is not at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excused: Option<String>,
    /// Until when something did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excused_until: Option<i64>,
    /// Why it was given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<RolledBack>,
    /// The migrations that were applied: a hash of image, command and identity of the data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migrated: Option<String>,
    /// What keeps the command of its migration from running, by the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_begun: Option<NotBegun>,
    /// The Job whose command ran, in whichever of its pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began: Option<String>,
    /// When the Job of the migration was made. Absent where none ran for this revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration_started_at: Option<i64>,
    /// When the Job of the migration had succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migrated_at: Option<i64>,
    /// Who approved it, if anybody had to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// An admission policy made sure of that name.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub approval_verified: bool,
    /// When that was observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved_at: Option<i64>,
    /// What its pods ran when last looked at, by workload: a digest, or why there is none, as the status tells it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub digests: BTreeMap<String, String>,
    /// When one of them was last another one: a tag was moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digests_changed_at: Option<i64>,
}

/// What keeps the command of a migration from running.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NotBegun {
    /// Another session holds the lock, or works for a migration that was ended.
    pub locked: bool,
    /// In one sentence.
    pub message: String,
}

/// The backup that is the way back from the migration of a release.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RecoveryPoint {
    /// The identifier of the backup. Empty if it is not known.
    pub id: String,
    /// The URL of its manifest.
    pub location: String,
    /// When it was complete, or was skipped, in seconds since 1970.
    pub at: i64,
    /// Somebody wanted the release to go on without.
    pub skipped: bool,
}

/// How the tests of candidates ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tested {
    /// When, in seconds since 1970.
    pub at: i64,
    /// What the tests were about: a hash of the revision and of the tests.
    pub of: String,
    /// Why they failed, in one sentence. `None`: they passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// The value of `rorun.app/retry` at that moment: another one tests again what failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<String>,
}

/// A rollout that was given up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RolledBack {
    /// When, in seconds since 1970.
    pub at: i64,
    /// Why, in one sentence.
    pub message: String,
    /// The value of `rorun.app/retry` at that moment: another one tries again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(change: Value) -> RorunStackSpec {
        let mut spec = json!({
            "environment": "Staging", "image": {"registry": "ghcr.io/rorun"},
            "api": {"image": "rorun-api:1", "env": [{"name": "A", "value": "1"}], "replicas": 3},
            "ocr": {"image": "rorun-ai-service:1"},
        });
        merge(&mut spec, change);
        serde_json::from_value(spec).unwrap()
    }

    fn merge(into: &mut Value, change: Value) {
        match (into, change) {
            (Value::Object(into), Value::Object(change)) => {
                change.into_iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value));
            }
            (into, change) => *into = change,
        }
    }

    fn of(change: Value) -> (String, String) {
        let content = Content::of(&spec(change));
        (content.release(), content.revision())
    }

    #[test]
    fn an_image_makes_a_release_and_another_field_a_revision() {
        let (release, revision) = of(json!({}));
        for (change, new_release, new_revision) in [
            (json!({"api": {"image": "rorun-api:2"}}), true, true),
            (json!({"ocr": null}), true, true),
            (json!({"admin": {"image": "rorun-admin:1"}}), true, true),
            (json!({"image": {"registry": "registry.example.com"}}), true, true),
            (json!({"api": {"env": []}}), false, true),
            (json!({"ocr": {"port": 9000}}), false, true),
            (json!({"api": {"replicas": 4}}), false, false),
            (json!({"api": {"resources": {"requests": {"cpu": "1"}}}}), false, false),
            (json!({"suspend": true}), false, false),
            // The same image under its full name.
            (json!({"api": {"image": "ghcr.io/rorun/rorun-api:1"}}), false, false),
        ] {
            let (other, changed) = of(change.clone());
            assert_eq!((other != release, changed != revision), (new_release, new_revision), "{change}");
        }
    }

    #[test]
    fn what_served_is_put_into_a_spec_and_all_else_stays() {
        let served = Content::of(&spec(json!({})));
        let now = spec(json!({
            "image": {"registry": "elsewhere.example.com"}, "ocr": null, "admin": {"image": "rorun-admin:2"},
            "api": {"image": "rorun-api:2", "replicas": 7, "env": [], "args": ["serve"]},
        }));
        let merged = served.in_spec(&now).unwrap();
        assert_eq!(Content::of(&merged), served);
        assert_eq!((merged.api.replicas, merged.api.args.len(), merged.api.env.len()), (Some(7), 0, 1));
        assert!(merged.admin.is_none() && merged.ocr.is_some());
        assert_eq!(Content::read(&served.data()).as_ref(), Some(&served));
        assert_eq!(Content::read(&json!({"commands": {}})), None);
    }
}
