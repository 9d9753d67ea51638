//! From the resource and what was observed to a stack that cannot be wrong.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Beside, ConfigInput, Connection, Content, Corrected, Observed, ReleaseSettings, Stack, api_url, backup, bucket,
    connection::Parts,
    database, defaults, from_pods, ingress,
    mode::{Context, Unresolved},
    monitoring, pod_template,
    probing::probing,
    redis, release, seed, services, workload,
};
use crate::{
    api::v1alpha1::{BackupStatus, Environment, RorunStack, RorunStackSpec},
    names::Component,
};

/// Resolves defaults, Secrets and credentials, of the spec and of the revision that served last. It cannot fail: what is missing
/// is in [`Stack::unresolved`].
pub fn validate(cr: &RorunStack, observed: &Observed) -> Stack {
    let mut stack = resolve_stack(cr, observed, defaults::registry(&cr.spec));
    stack.serving = validate_served(cr, observed).map(Box::new);
    stack
}

/// The stack with the workloads of the revision that served last. `None`: they are those of the spec, or none ever served.
pub fn validate_served(cr: &RorunStack, observed: &Observed) -> Option<Stack> {
    let served = observed.releases.served()?;
    if served.content == Content::of(&cr.spec) {
        return None;
    }
    let mut cr = cr.clone();
    cr.spec = served.in_spec(&cr.spec)?;
    let observed = Observed { configuration: observed.releases.configuration.clone(), ..observed.clone() };
    Some(resolve_stack(&cr, &observed, None))
}

/// `images`: the registry that goes before the images of workloads.
fn resolve_stack(cr: &RorunStack, observed: &Observed, images: Option<&str>) -> Stack {
    let spec = &cr.spec;
    let name = cr.metadata.name.clone().unwrap_or_default();
    let namespace = cr.metadata.namespace.clone().unwrap_or_default();
    let mut unresolved = Unresolved::new();
    let mut shapes = pod_template::resolve(spec);
    shapes.check_mounts(observed);
    let resolve = |of: &_, component| workload::resolve(of, component, spec.environment, images);
    let context = Context { spec, name: &name, namespace: &namespace, observed };
    let mut stack = Stack {
        uid: cr.metadata.uid.clone().unwrap_or_default(),
        environment: spec.environment,
        suspend: spec.suspend.unwrap_or(false),
        hibernation: observed.hibernation.clone(),
        asleep: false,
        stopped: false,
        api: resolve(&spec.api, Component::Api),
        ocr: spec.ocr.as_ref().map(|ocr| resolve(ocr, Component::Ocr)),
        admin: spec.admin.as_ref().map(|admin| resolve(admin, Component::Admin)),
        database: database::chosen(spec).resolve(&context, &mut unresolved),
        redis: redis::chosen(spec).resolve(&context, &mut unresolved),
        bucket: bucket::chosen(spec).resolve(&context, &mut unresolved),
        content: Content::of(spec),
        beside: Beside::of(spec),
        release: ReleaseSettings::default(),
        serving: None,
        target: None,
        steps: BTreeSet::new(),
        connection: None,
        bucket_rules: bucket::rules(spec, observed, &mut unresolved),
        ingress: ingress::resolve(spec, observed, &mut unresolved),
        backup: None,
        seed: None,
        monitoring: monitoring::resolve(spec),
        pull_secrets: pull_secrets(spec),
        pull_policy: spec.image.as_ref().and_then(|image| image.pull_policy).unwrap_or_default(),
        agent_image: observed.agent_image.clone(),
        probing: BTreeMap::new(),
        probes: BTreeMap::new(),
        from_pods: None,
        known_services: Vec::new(),
        last_backup: None,
        last_verified: None,
        known_backup: BackupStatus::default(),
        pods: shapes.shapes,
        pods_refused: shapes.refused,
        corrected: corrected(&observed.corrected),
        corrected_candidates: corrected(&observed.corrected_candidates),
        deferred: BTreeSet::new(),
        warnings: warnings(spec),
        unresolved: Unresolved::new(),
        name,
        namespace,
    };
    resolve_what_depends(spec, &mut stack, observed, &mut unresolved);
    unresolved.extend(observed.missing_apis.clone());
    stack.unresolved = unresolved;
    stack.probing = probing(&stack);
    stack.from_pods = from_pods::resolve(spec, &stack, observed);
    stack
}

/// The fields that read other fields of the stack, each after those that it reads.
fn resolve_what_depends(spec: &RorunStackSpec, stack: &mut Stack, observed: &Observed, unresolved: &mut Unresolved) {
    stack.release = release::settings(spec, stack, observed);
    api_url::resolve(spec, stack, unresolved);
    stack.connection = Connection::new(&parts(stack));
    stack.backup = backup::resolve(spec, stack, observed, unresolved);
    stack.seed = seed::resolve(spec, stack, observed).map(Box::new);
    hash_configuration(stack, observed, unresolved);
}

/// The hashes of what the workloads are configured with.
fn hash_configuration(stack: &mut Stack, observed: &Observed, unresolved: &mut Unresolved) {
    let connection = stack.connection.take();
    for workload in [Some(&mut stack.api), stack.ocr.as_mut(), stack.admin.as_mut()].into_iter().flatten() {
        if let Err(missing) = workload.hash_config(connection.as_ref(), observed) {
            unresolved.insert(workload.component, missing);
        }
    }
    stack.connection = connection;
}

fn pull_secrets(spec: &RorunStackSpec) -> Vec<String> {
    spec.image.iter().flat_map(|image| &image.pull_secrets).map(|secret| secret.name.clone()).collect()
}

/// The inputs of the hashes of workloads that name Secrets or `ConfigMaps`, whose content need not be observed; and of every component
/// the objects that its pods mount, which are not hashed, and must exist.
pub fn config_inputs(cr: &RorunStack, observed: &Observed) -> Vec<ConfigInput> {
    let workloads = [Some(&cr.spec.api), cr.spec.ocr.as_ref(), cr.spec.admin.as_ref()];
    let none = workloads.into_iter().flatten().all(|workload| workload.env.is_empty() && workload.env_from.is_empty());
    if none && !pod_template::may_mount(&cr.spec) {
        return Vec::new();
    }
    let stack = validate(cr, observed);
    let mut mounted = pod_template::mounts(&stack.pods);
    let workloads = [Some(&stack.api), stack.ocr.as_ref(), stack.admin.as_ref()].into_iter().flatten();
    let mut inputs: Vec<_> = workloads.map(|workload| workload.config_input(stack.connection.as_ref())).collect();
    for input in &mut inputs {
        input.add_mounts(mounted.remove(&input.component).unwrap_or_default());
    }
    inputs.extend(mounted.into_iter().map(|(component, references)| ConfigInput::of_mounts(component, references)));
    inputs.retain(|input| !input.references().is_empty());
    inputs
}

fn parts(stack: &Stack) -> Parts<'_> {
    Parts {
        name: &stack.name,
        namespace: &stack.namespace,
        environment: stack.environment,
        api: &stack.api,
        ocr: stack.ocr.as_ref(),
        ingress: stack.ingress.as_ref(),
        database: &stack.database,
        redis: &stack.redis,
        bucket: &stack.bucket,
    }
}

/// What Deployments record of their correction.
fn corrected(said: &BTreeMap<Component, String>) -> BTreeMap<Component, Corrected> {
    said.iter().map(|(of, text)| (*of, Corrected::parse(text))).collect()
}

fn warnings(spec: &RorunStackSpec) -> Vec<String> {
    match spec.environment {
        Environment::Production => backup::warning(spec).map(str::to_owned).into_iter().collect(),
        Environment::Staging => services::warnings(spec).chain(floating_images(spec)).collect(),
        Environment::Development => Vec::new(),
    }
}

fn floating_images(spec: &RorunStackSpec) -> impl Iterator<Item = String> {
    let workloads = [("api", Some(&spec.api)), ("ocr", spec.ocr.as_ref()), ("admin", spec.admin.as_ref())];
    let images = workloads.into_iter().filter_map(|(field, of)| Some((field, &of?.image)));
    let floating = images.filter(|(_, image)| defaults::is_floating(image));
    floating.map(|(field, image)| format!("{field}.image {image} has no fixed tag: Production will refuse it"))
}
