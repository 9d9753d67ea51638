//! `podTemplate`: parses and judges the patch that a user merges over the pods of a component.
//!
//! What enters: the spec. What leaves: a [`PodShape`] per component, or the reason why its patch is refused. The operator then writes
//! nothing for that component, and its pods stay as they are: pods with half of a patch would be neither those of the spec nor those
//! that ran.

mod baseline;
mod judge;
mod own;
mod parse;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodTemplateSpec, Volume};

pub use own::{JOBS, Own, own};

use super::{ConfigReference, Observed, mode::PodFields, services, workload};
use crate::{
    api::v1alpha1::{PodTemplate, RorunStackSpec, Scheduling},
    names::{Component, Waiting, reason},
};

/// How the spec changes the pods of a component.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodShape {
    /// Where they may run. For workloads see [`super::Workload::scheduling`].
    pub scheduling: Option<Box<Scheduling>>,
    /// The patch of their template.
    pub patch: Option<Box<PodPatch>>,
    /// The block of the spec that the patch stands in.
    pub field: &'static str,
}

/// A patch that was judged and taken.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodPatch {
    /// The fields to merge.
    pub template: PodTemplateSpec,
    /// Blocks that are emptied before.
    pub replaced: Vec<Replaced>,
}

/// A block that the patch replaces as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// The name of its container. `None`: it is the pod's.
    pub container: Option<String>,
    /// Which block.
    pub block: Block,
}

/// A block that can be replaced as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// `securityContext`
    SecurityContext,
    /// `startupProbe`
    StartupProbe,
    /// `readinessProbe`
    ReadinessProbe,
    /// `livenessProbe`
    LivenessProbe,
    /// `lifecycle`
    Lifecycle,
}

/// The field of a patch that is refused, and the reason with the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    path: String,
    why: String,
}

/// How many characters of a path a message repeats: the user wrote them.
const PATH_MAX: usize = 300;

impl Refusal {
    fn new(path: impl Into<String>, why: impl Into<String>) -> Self {
        Self { path: path.into(), why: why.into() }
    }

    fn waiting(self, own: &Own) -> Waiting {
        let path: String = self.path.chars().take(PATH_MAX).collect();
        let message =
            format!("{}.podTemplate{path} is refused: {}; until then the pods stay as they are", own.path(), self.why);
        Waiting::new(reason::POD_TEMPLATE_REFUSED, message)
    }
}

/// The patches of a spec, and the reasons for those that are refused.
#[derive(Clone, Debug, Default)]
pub(super) struct Shapes {
    pub(super) shapes: BTreeMap<Component, PodShape>,
    pub(super) refused: BTreeMap<Component, Waiting>,
}

/// Parses and judges every patch of a spec.
pub(super) fn resolve(spec: &RorunStackSpec) -> Shapes {
    let mut found = Shapes::default();
    for Written { own, component, fields: PodFields { port, template, scheduling } } in written(spec) {
        let mut shape = PodShape { scheduling: scheduling.cloned().map(Box::new), patch: None, field: own.path() };
        match template.map(|template| patch(&own, port, template)).transpose() {
            Ok(patch) => shape.patch = patch.map(Box::new),
            Err(refusal) => {
                found.refused.insert(component, refusal.waiting(&own));
            }
        }
        if shape.scheduling.is_some() || shape.patch.is_some() {
            found.shapes.insert(component, shape);
        }
    }
    let of_jobs = of_jobs(spec).map(|template| patch(&JOBS, 0, template));
    for component in of_jobs.iter().flat_map(|_| without_own(spec)) {
        match of_jobs.clone() {
            Some(Ok(patch)) => {
                let shape = PodShape { scheduling: None, patch: Some(Box::new(patch)), field: JOBS.path() };
                found.shapes.insert(component, shape);
            }
            Some(Err(refusal)) => {
                found.refused.insert(component, refusal.waiting(&JOBS));
            }
            None => {}
        }
    }
    found
}

/// The patch of the Jobs that have none of their own.
fn of_jobs(spec: &RorunStackSpec) -> Option<&PodTemplate> {
    spec.jobs.as_ref()?.pod_template.as_ref()
}

/// The components with such Jobs.
fn without_own(spec: &RorunStackSpec) -> impl Iterator<Item = Component> {
    let all = [
        Component::SmokeTest,
        Component::BucketRules,
        Component::Preflight,
        Component::Drill,
        Component::Restore,
        Component::Sanitize,
    ];
    all.into_iter().chain(services::provisioned(spec))
}

fn patch(own: &Own, port: i32, template: &PodTemplate) -> Result<PodPatch, Refusal> {
    let parsed = parse::parse(&template.0)?;
    judge::judge(own, port, &parsed)?;
    Ok(PodPatch { template: parsed.template, replaced: parsed.replaced })
}

/// The fields of the spec for the pods of one component.
struct Written<'a> {
    own: Own,
    component: Component,
    fields: PodFields<'a>,
}

fn written(spec: &RorunStackSpec) -> impl Iterator<Item = Written<'_>> {
    let workloads = [
        (Component::Api, Some(&spec.api)),
        (Component::Ocr, spec.ocr.as_ref()),
        (Component::Admin, spec.admin.as_ref()),
    ];
    let workloads = workloads.into_iter().filter_map(|(component, of)| {
        let of = of?;
        let port = workload::port(of, component);
        Some((component, PodFields { port, template: of.pod_template.as_ref(), scheduling: None }))
    });
    let backup = spec.backup.iter().map(|of| {
        let fields = PodFields { port: 0, template: of.pod_template.as_ref(), scheduling: of.scheduling.as_ref() };
        (Component::Backup, fields)
    });
    let migrations =
        spec.api.migrations.iter().map(|of| {
            (Component::Migration, PodFields { port: 0, template: of.pod_template.as_ref(), scheduling: None })
        });
    let all = workloads.chain(services::pods(spec)).chain(backup).chain(migrations);
    all.filter_map(|(component, fields)| Some(Written { own: own(component)?, component, fields }))
}

/// The Secrets and `ConfigMaps` that volumes of the patches name and that must exist, by component: while one is missing, the
/// kubelet does not start the pod, and the pod's status does not say why. A refused patch names nothing.
pub(super) fn references(spec: &RorunStackSpec) -> BTreeMap<Component, Vec<ConfigReference>> {
    if may_mount(spec) { mounts(&resolve(spec).shapes) } else { BTreeMap::new() }
}

/// Whether a patch may name a Secret or `ConfigMap`: parsing each takes ten times as long as asking.
pub(super) fn may_mount(spec: &RorunStackSpec) -> bool {
    let templates = written(spec).filter_map(|written| written.fields.template).chain(of_jobs(spec));
    let volumes = templates.filter_map(|template| template.0.get("spec")?.get("volumes")?.as_array());
    let kinds = ["secret", "configMap", "projected"];
    volumes.flatten().any(|volume| kinds.iter().any(|kind| volume.get(kind).is_some()))
}

/// As [`references`], of patches that were judged.
pub(super) fn mounts(shapes: &BTreeMap<Component, PodShape>) -> BTreeMap<Component, Vec<ConfigReference>> {
    let all = shapes.iter().map(|(component, shape)| (*component, mounted(shape)));
    all.filter(|(_, references)| !references.is_empty()).collect()
}

/// The same for one component.
fn mounted(shape: &PodShape) -> Vec<ConfigReference> {
    let spec = shape.patch.as_ref().and_then(|patch| patch.template.spec.as_ref());
    let volumes = spec.and_then(|spec| spec.volumes.as_ref()).into_iter().flatten();
    volumes.flat_map(|volume| of_volume(volume, shape.field)).collect()
}

fn of_volume(volume: &Volume, field: &str) -> Vec<ConfigReference> {
    let path = format!("{field}.podTemplate.spec.volumes[{}]", volume.name);
    let mut sources = Vec::new();
    sources
        .extend(volume.secret.iter().filter_map(|of| Some((true, of.secret_name.as_ref()?, of.optional, &of.items))));
    sources.extend(volume.config_map.iter().map(|of| (false, &of.name, of.optional, &of.items)));
    for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
        sources.extend(source.secret.iter().map(|of| (true, &of.name, of.optional, &of.items)));
        sources.extend(source.config_map.iter().map(|of| (false, &of.name, of.optional, &of.items)));
    }
    let needed = sources.into_iter().filter(|(_, _, optional, _)| *optional != Some(true));
    let references = needed.flat_map(|(secret, name, _, items)| {
        let keys = items.iter().flatten().map(|item| item.key.as_str());
        ConfigReference::mounted(secret, name, keys, &path)
    });
    references.collect()
}

impl Shapes {
    /// Refuses the pods of each component whose volumes name a Secret or `ConfigMap` that does not exist.
    pub(super) fn check_mounts(&mut self, observed: &Observed) {
        for (component, references) in mounts(&self.shapes) {
            let waiting = match observed.configuration.get(&component) {
                Some(hashed) => hashed.clone().err(),
                None => missing(&references, observed),
            };
            if let Some(waiting) = waiting {
                self.refused.entry(component).or_insert(waiting);
            }
        }
    }
}

fn missing(references: &[ConfigReference], observed: &Observed) -> Option<Waiting> {
    references.iter().find_map(|reference| {
        let list = if reference.secret { &observed.secrets } else { &observed.config_maps };
        reference.values(list.get(&reference.name).and_then(Option::as_ref)).err()
    })
}
