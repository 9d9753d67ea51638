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
    names::Component,
};

/// The fields of a workload that make a release. All others, such as `replicas`, apply to whichever release serves.
const FIELDS: [&str; 9] = ["image", "command", "args", "port", "env", "envFrom", "health", "podTemplate", "migrations"];

/// The fields of a workload that change its pods and make neither a release nor a revision: see [`Beside`].
const BESIDE: [&str; 8] = [
    "resources",
    "scheduling",
    "serviceAccount",
    "podLabels",
    "podAnnotations",
    "databaseConnections",
    "apiURLFrom",
    "terminationGracePeriodSeconds",
];

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
        let fields = |workload: &WorkloadSpec| {
            let mut all = serde_json::to_value(workload).unwrap_or_default();
            all["image"] = Value::String(defaults::image(registry, &workload.image));
            let kept = FIELDS.into_iter().filter_map(|field| Some((field.to_owned(), all.get_mut(field)?.take())));
            Value::Object(kept.collect())
        };
        Self(workloads(spec).map(|(of, workload)| (of.to_string(), fields(workload))).collect())
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

    /// The spec with these workloads, and with what their pods had beside it: all else, such as `replicas`, is that of the spec. Images
    /// have full names, so the spec's registry is not put before them again. `None`: an operator of another version wrote the content,
    /// and this one cannot read it.
    pub(super) fn in_spec(&self, beside: Option<&Beside>, spec: &RorunStackSpec) -> Option<RorunStackSpec> {
        let mut spec = spec.clone();
        let workload = |component: Component, now: Option<&WorkloadSpec>| {
            let Some(fields) = self.0.get(component.as_str()).and_then(Value::as_object) else { return Some(None) };
            let mut merged: Map<String, Value> = match now.map(serde_json::to_value) {
                Some(Ok(Value::Object(all))) => all,
                _ => Map::new(),
            };
            merged.retain(|field, _| !FIELDS.contains(&field.as_str()));
            merged.extend(fields.clone());
            if let Some(Beside(beside)) = beside {
                merged.retain(|field, _| !BESIDE.contains(&field.as_str()));
                let fields = beside.get(component.as_str()).and_then(Value::as_object);
                merged.extend(fields.cloned().unwrap_or_default());
            }
            serde_json::from_value::<WorkloadSpec>(Value::Object(merged)).ok().map(Some)
        };
        spec.api = workload(Component::Api, Some(&spec.api))??;
        spec.ocr = workload(Component::Ocr, spec.ocr.as_ref())?;
        spec.admin = workload(Component::Admin, spec.admin.as_ref())?;
        Some(spec)
    }
}

/// What the pods of the workloads are made of beside the content of a revision. An edit of it rolls out at once, unless an image changes
/// with it: then the pods that serve keep what they have until the release may roll out. It has no part in the names of releases and
/// revisions, so an operator that knows more fields makes no new ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Beside(Value);

impl Beside {
    /// What a spec says.
    pub fn of(spec: &RorunStackSpec) -> Self {
        let fields = |workload: &WorkloadSpec| {
            let mut all = serde_json::to_value(workload).unwrap_or_default();
            let kept = BESIDE.into_iter().filter_map(|field| Some((field.to_owned(), all.get_mut(field)?.take())));
            kept.collect::<Map<_, _>>()
        };
        let said =
            workloads(spec).map(|(of, workload)| (of, fields(workload))).filter(|(_, fields)| !fields.is_empty());
        Self(said.map(|(of, fields)| (of.to_string(), Value::Object(fields))).collect())
    }

    /// What tells it from another one. Empty: the spec says nothing.
    pub fn id(&self) -> String {
        if self.0.as_object().is_none_or(Map::is_empty) { String::new() } else { hash(&self.0) }
    }
}

/// The workloads of a spec.
fn workloads(spec: &RorunStackSpec) -> impl Iterator<Item = (Component, &WorkloadSpec)> {
    let all = [Some(&spec.api), spec.ocr.as_ref(), spec.admin.as_ref()];
    WORKLOADS.into_iter().zip(all).filter_map(|(of, workload)| Some((of, workload?)))
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
    /// Where these data are, as far as it is known to last.
    pub place: Option<Place>,
}

/// Where the data of a stack are: another one holds other data, unless a restore has put it in the place of the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Place {
    /// The volume, or the host and database of an external server: a hash.
    pub of: String,
    /// The restores until then: a hash.
    pub restored: String,
}

impl Place {
    /// Whether the data that were here are elsewhere now. A restore brings its own, with their schema.
    pub fn is_left_for(&self, now: &Self) -> bool {
        self.of != now.of && self.restored == now.restored
    }
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

impl Stack {
    /// Says that no migration runs, where users meet what the API does with a schema of before.
    pub fn migrations_note(&self) -> Option<String> {
        if self.environment == Environment::Development || self.release.migration.is_some() {
            return None;
        }
        Some("api.migrations is left out, so no release changes the schema of the database before it serves".to_owned())
    }
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
        place: lasting_place(stack, observed),
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
    // Restored data are others: what was migrated before them is not migrated of them.
    std::iter::once(place(stack, observed).as_str()).chain(restores(observed)).collect::<Vec<_>>().join("+")
}

fn restores(observed: &Observed) -> impl Iterator<Item = &str> {
    let commands = observed.handled.iter().flat_map(|handled| &handled.commands);
    commands.filter(|(key, _)| key.starts_with(RESTORED)).map(|(_, command)| command.value.as_str())
}

/// `None`: the volume or the address is not there now, or only a restore puts another server in the place of this one.
fn lasting_place(stack: &Stack, observed: &Observed) -> Option<Place> {
    let database = stack.database.mode();
    let volume_is_gone = database.server().is_some() && !observed.volumes.contains_key(&Component::Database);
    let of =
        Some(place(stack, observed)).filter(|of| !of.is_empty() && database.live().is_none() && !volume_is_gone)?;
    Some(Place { of: hash(&json!(of)), restored: hash(&restores(observed).collect()) })
}

fn place(stack: &Stack, observed: &Observed) -> String {
    if let Some(volume) = observed.volumes.get(&Component::Database) {
        return volume.uid.clone();
    }
    let database = stack.database.mode();
    let Some(access) = database.access() else { return String::new() };
    let mut place = format!("{}/{}", access.direct.url.hosts().join(","), access.direct.url.database());
    if let Some(identity) = database.identity() {
        place = format!("{identity}/{place}");
    }
    place
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
        let merged = served.in_spec(None, &now).unwrap();
        assert_eq!(Content::of(&merged), served);
        assert_eq!((merged.api.replicas, merged.api.args.len(), merged.api.env.len()), (Some(7), 0, 1));
        assert!(merged.admin.is_none() && merged.ocr.is_some());
        assert_eq!(Content::read(&served.data()).as_ref(), Some(&served));
        assert_eq!(Content::read(&json!({"commands": {}})), None);
    }

    #[test]
    fn what_changes_pods_and_makes_no_revision_is_known_beside_it() {
        let before = spec(json!({"api": {"resources": {"requests": {"cpu": "1"}}, "podLabels": {"team": "a"}}}));
        let (served, beside) = (Content::of(&before), Beside::of(&before));
        assert_eq!((Beside::of(&spec(json!({}))).id(), beside.id().len()), (String::new(), DIGITS));
        let now = spec(
            json!({"api": {"image": "rorun-api:2", "databaseConnections": 7, "replicas": 5, "podLabels": {"team": "b"}}}),
        );
        let merged = served.in_spec(Some(&beside), &now).unwrap();
        assert_eq!((Beside::of(&merged), merged.api.replicas), (beside.clone(), Some(5)));
        // An operator of before recorded nothing: the pods are as the spec says.
        assert_eq!(Beside::of(&served.in_spec(None, &now).unwrap()), Beside::of(&now));
        let text = serde_json::to_string(&beside).unwrap();
        assert_eq!(serde_json::from_str::<Beside>(&text).unwrap(), beside);
        for field in BESIDE {
            assert!(!FIELDS.contains(&field));
        }
    }

    /// A field that is added to a workload is held with an image, or stands here because it changes no pod.
    #[test]
    fn every_field_of_a_workload_is_judged() {
        const NO_POD: [&str; 5] = ["replicas", "autoscaling", "disruption", "candidate", "progressDeadlineSeconds"];
        let schema = serde_json::to_value(schemars::schema_for!(WorkloadSpec)).unwrap();
        let known: Vec<_> = FIELDS.into_iter().chain(BESIDE).chain(NO_POD).collect();
        for field in schema["properties"].as_object().unwrap().keys() {
            assert!(known.contains(&field.as_str()), "{field}");
        }
        assert_eq!(schema["properties"].as_object().unwrap().len(), known.len());
    }
}
