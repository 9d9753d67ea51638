//! The last step of every pod template: adds where the pod may run, and merges the user's patch.
//!
//! What enters was judged ([`crate::stack::PodPatch`]). Without `scheduling` and `podTemplate` the template does not change. The Jobs of
//! the agent have no such fields of their own: they follow those of the backups or of the API, and get `jobs.podTemplate` after these.

use k8s_openapi::{
    DeepMerge as _,
    api::core::v1::{Affinity, Container, PodSpec, PodTemplateSpec, SecurityContext},
};

use super::pod;
use crate::{
    api::v1alpha1::Scheduling,
    names::Component,
    stack::{Block, PodPatch, Replaced, Stack, own},
};

/// A template that lacks what the spec says of the nodes and the shape of its pods. Only a function of this module makes a template of
/// it, so that nobody can make a pod that no field of the spec reaches.
pub(super) struct Unshaped {
    component: Component,
    template: PodTemplateSpec,
}

impl Unshaped {
    pub(super) fn new(component: Component, template: PodTemplateSpec) -> Self {
        Self { component, template }
    }

    /// What the operator itself changes of it.
    pub(super) fn with(mut self, change: impl FnOnce(&mut PodTemplateSpec)) -> Self {
        change(&mut self.template);
        self
    }

    /// The restart policy of a Job's pod.
    pub(super) fn restarting(self, policy: &str) -> Self {
        self.with(|template| {
            if let Some(spec) = &mut template.spec {
                spec.restart_policy = Some(policy.to_owned());
            }
        })
    }
}

/// The template of a component's pods as the spec asks for it.
pub(super) fn shaped(stack: &Stack, component: Component, Unshaped { mut template, .. }: Unshaped) -> PodTemplateSpec {
    if component == Component::Migration {
        near_the_api(stack, &mut template);
    }
    let Some(shape) = stack.pods.get(&component) else { return template };
    if let (Some(scheduling), Some(spec)) = (&shape.scheduling, &mut template.spec) {
        scheduled(spec, scheduling);
    }
    if let Some(patch) = &shape.patch {
        let agents = own(component).map(|own| own.init).unwrap_or_default();
        merge(&mut template, patch, agents);
    }
    template
}

/// The template of a Job of the backups that has no fields of its own: it follows `backup`, or the API where that is left out.
pub(super) fn of_backups(stack: &Stack, unshaped: Unshaped) -> PodTemplateSpec {
    if stack.backup.is_none() {
        return of_the_api(stack, unshaped);
    }
    let Unshaped { component, mut template } = unshaped;
    let shape = stack.pods.get(&Component::Backup);
    if let (Some(scheduling), Some(spec)) = (shape.and_then(|shape| shape.scheduling.as_ref()), &mut template.spec) {
        scheduled(spec, scheduling);
    }
    if let Some(patch) = shape.and_then(|shape| shape.patch.as_ref()) {
        let PodPatch { template: PodTemplateSpec { spec, .. }, replaced } = of_the_pod(patch);
        let metadata = patch.template.metadata.clone();
        merge(&mut template, &PodPatch { template: PodTemplateSpec { metadata, spec }, replaced }, &[]);
    }
    of_jobs(stack, component, template)
}

/// The template of any other Job of the agent: it follows the API. Its labels and annotations are not for the pod of a Job: a Service of
/// the user's may lead to them, and what they ask for may never end.
pub(super) fn of_the_api(stack: &Stack, Unshaped { component, mut template }: Unshaped) -> PodTemplateSpec {
    near_the_api(stack, &mut template);
    if let Some(patch) = stack.pods.get(&Component::Api).and_then(|shape| shape.patch.as_ref()) {
        merge(&mut template, &of_the_pod(patch), &[]);
    }
    of_jobs(stack, component, template)
}

/// The template with `jobs.podTemplate`, which `stack` gives each component whose Jobs it is for.
fn of_jobs(stack: &Stack, component: Component, mut template: PodTemplateSpec) -> PodTemplateSpec {
    if let Some(patch) = stack.pods.get(&component).and_then(|shape| shape.patch.as_ref()) {
        merge(&mut template, patch, &[]);
    }
    template
}

/// Places a Job on the nodes of the API. How its replicas are spread, and which pods they keep away from, is not for a Job: where they
/// fill every node, it would have none.
fn near_the_api(stack: &Stack, template: &mut PodTemplateSpec) {
    let Scheduling { node_selector, tolerations, affinity, priority_class_name, topology_spread_constraints: _ } =
        &stack.api.scheduling;
    let Some(spec) = &mut template.spec else { return };
    spec.node_selector = Some(node_selector.clone()).filter(|labels| !labels.is_empty());
    spec.tolerations = Some(tolerations.clone()).filter(|all| !all.is_empty());
    let of_nodes = affinity.as_ref().and_then(|affinity| affinity.node_affinity.clone());
    spec.affinity = of_nodes.map(|of| Affinity { node_affinity: Some(of), ..Affinity::default() });
    spec.priority_class_name.clone_from(priority_class_name);
}

/// What of a patch is about the pod and not about its containers. Who its processes run as is known of the image of the pod that the
/// patch is for, so that users and groups stay, unless the whole block is replaced.
fn of_the_pod(patch: &PodPatch) -> PodPatch {
    let replaced: Vec<_> = patch.replaced.iter().filter(|of| of.container.is_none()).cloned().collect();
    let spec = patch.template.spec.as_ref().map(|theirs| {
        let mut security_context = theirs.security_context.clone();
        if let Some(context) = security_context.as_mut().filter(|_| replaced.is_empty()) {
            (context.run_as_user, context.run_as_group, context.fs_group) = (None, None, None);
            context.run_as_non_root = None;
        }
        PodSpec {
            dns_config: theirs.dns_config.clone(),
            dns_policy: theirs.dns_policy.clone(),
            enable_service_links: theirs.enable_service_links,
            host_aliases: theirs.host_aliases.clone(),
            host_users: theirs.host_users,
            preemption_policy: theirs.preemption_policy.clone(),
            runtime_class_name: theirs.runtime_class_name.clone(),
            scheduler_name: theirs.scheduler_name.clone(),
            security_context,
            ..PodSpec::default()
        }
    });
    PodPatch { template: PodTemplateSpec { metadata: None, spec }, replaced }
}

fn scheduled(spec: &mut PodSpec, scheduling: &Scheduling) {
    spec.node_selector = Some(scheduling.node_selector.clone());
    spec.tolerations = Some(scheduling.tolerations.clone());
    spec.affinity.clone_from(&scheduling.affinity);
    spec.priority_class_name.clone_from(&scheduling.priority_class_name);
    spec.topology_spread_constraints.clone_from(&scheduling.topology_spread_constraints);
}

/// Merges a patch over a template.
fn merge(template: &mut PodTemplateSpec, patch: &PodPatch, agents: &[&str]) {
    let mut patched = patch.template.clone();
    if let (Some(ours), Some(theirs)) = (&mut template.spec, &mut patched.spec) {
        // The agent is in the pods of some stacks only: a patch of its container waits for it.
        let there: Vec<_> = ours.init_containers.iter().flatten().map(|container| container.name.clone()).collect();
        let waits = |name: &String| agents.contains(&name.as_str()) && !there.contains(name);
        theirs.init_containers.iter_mut().for_each(|list| list.retain(|container| !waits(&container.name)));
        for replaced in &patch.replaced {
            clear(ours, replaced);
        }
        confine(&mut ours.containers, &theirs.containers, &patch.replaced);
        let init_containers = theirs.init_containers.as_deref().unwrap_or_default();
        confine(ours.init_containers.get_or_insert_default(), init_containers, &patch.replaced);
        let containers = theirs.containers.iter_mut().chain(theirs.init_containers.iter_mut().flatten());
        for port in containers.flat_map(|container| container.ports.iter_mut().flatten()) {
            // A part of the key by which the API server merges ports.
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }
    template.merge_from(patched);
}

/// A container that the patch adds begins with the security context of the operator's own, unless the patch brings a whole one.
fn confine(ours: &mut Vec<Container>, theirs: &[Container], replaced: &[Replaced]) {
    for added in theirs {
        if ours.iter().any(|container| container.name == added.name) {
            continue;
        }
        let whole =
            replaced.iter().any(|of| of.container.as_ref() == Some(&added.name) && of.block == Block::SecurityContext);
        let security_context = if whole { SecurityContext::default() } else { pod::confined() };
        ours.push(Container {
            name: added.name.clone(),
            security_context: Some(security_context),
            ..Container::default()
        });
    }
}

fn clear(spec: &mut PodSpec, replaced: &Replaced) {
    let Some(name) = &replaced.container else {
        spec.security_context = None;
        return;
    };
    let mut all = spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten());
    let Some(container) = all.find(|container| container.name == *name) else { return };
    match replaced.block {
        Block::SecurityContext => container.security_context = None,
        Block::StartupProbe => container.startup_probe = None,
        Block::ReadinessProbe => container.readiness_probe = None,
        Block::LivenessProbe => container.liveness_probe = None,
        Block::Lifecycle => container.lifecycle = None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::v1alpha1::RorunStack,
        stack::{Observed, validate},
    };

    fn template() -> PodTemplateSpec {
        let ours = |name: &str| {
            json!({"name": name, "image": "ours", "securityContext": {"readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false},
                "ports": [{"containerPort": 3000, "name": "http", "protocol": "TCP"}], "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                "lifecycle": {"preStop": {"sleep": {"seconds": 5}}}, "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}}})
        };
        let spec = json!({"containers": [ours("api")], "initContainers": [], "securityContext": {"runAsUser": 10001, "runAsNonRoot": true},
            "volumes": [{"name": "tmp", "emptyDir": {}}]});
        serde_json::from_value(json!({"metadata": {"labels": {"a": "ours"}}, "spec": spec})).unwrap()
    }

    /// The patch as it is judged.
    fn patch(patch: Value) -> PodPatch {
        let mut spec = json!({"environment": "Development", "api": {"image": "a"}});
        spec["api"]["podTemplate"] = patch;
        let cr: RorunStack = serde_json::from_value(
            json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack", "metadata": {"name": "shop"}, "spec": spec}),
        )
        .unwrap();
        let mut stack = validate(&cr, &Observed::default());
        assert!(stack.pods_refused.is_empty(), "{:?}", stack.pods_refused);
        *stack.pods.remove(&Component::Api).unwrap().patch.unwrap()
    }

    fn merged(with: Value) -> Value {
        let mut template = template();
        let patch = patch(with);
        merge(&mut template, &patch, &["authorities"]);
        let once = template.clone();
        merge(&mut template, &patch, &["authorities"]);
        assert_eq!(template, once, "a second merge changes the template");
        serde_json::to_value(template).unwrap()
    }

    #[rstest]
    #[case::by_name(
        json!({"spec": {"containers": [{"name": "api", "securityContext": {"readOnlyRootFilesystem": false}}]}}),
        "/spec/containers/0/securityContext",
        json!({"readOnlyRootFilesystem": false, "allowPrivilegeEscalation": false})
    )]
    #[case::of_the_pod(
        json!({"spec": {"securityContext": {"runAsUser": 1000}}}),
        "/spec/securityContext",
        json!({"runAsUser": 1000, "runAsNonRoot": true})
    )]
    #[case::replaced(
        json!({"spec": {"securityContext": {"$patch": "replace", "runAsNonRoot": true}}}),
        "/spec/securityContext",
        json!({"runAsNonRoot": true})
    )]
    #[case::replaced_probe(
        json!({"spec": {"containers": [{"name": "api", "readinessProbe": {"$patch": "replace", "tcpSocket": {"port": 1}}}]}}),
        "/spec/containers/0/readinessProbe",
        json!({"tcpSocket": {"port": 1}})
    )]
    #[case::added_container(
        json!({"spec": {"containers": [{"name": "x", "image": "x", "ports": [{"containerPort": 1}]}]}}),
        "/spec/containers/1",
        json!({"name": "x", "image": "x", "ports": [{"containerPort": 1, "protocol": "TCP"}], "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true}})
    )]
    #[case::added_container_with_its_own(
        json!({"spec": {"initContainers": [{"name": "x", "image": "x", "securityContext": {"$patch": "replace", "runAsUser": 7}}]}}),
        "/spec/initContainers/0/securityContext",
        json!({"runAsUser": 7})
    )]
    #[case::agent_that_is_not_there(
        json!({"spec": {"initContainers": [{"name": "authorities", "securityContext": {"runAsUser": 7}}]}}),
        "/spec/initContainers",
        json!([])
    )]
    #[case::volume_of_ours(
        json!({"spec": {"volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}]}}),
        "/spec/volumes",
        json!([{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}])
    )]
    #[case::mounts(
        json!({"spec": {"containers": [{"name": "api", "volumeMounts": [{"name": "x", "mountPath": "/x"}]}], "volumes": [{"name": "x", "emptyDir": {}}]}}),
        "/spec/containers/0/volumeMounts",
        json!([{"name": "tmp", "mountPath": "/tmp"}, {"name": "x", "mountPath": "/x"}])
    )]
    #[case::labels(json!({"metadata": {"labels": {"b": "theirs"}}}), "/metadata/labels", json!({"a": "ours", "b": "theirs"}))]
    fn a_patch_is_merged_by_the_keys_of_kubernetes(#[case] with: Value, #[case] at: &str, #[case] wanted: Value) {
        assert_eq!(merged(with).pointer(at).cloned(), Some(wanted));
    }

    #[test]
    fn a_patch_of_the_agent_waits_for_it() {
        let mut template = template();
        template.spec.as_mut().unwrap().init_containers =
            Some(vec![Container { name: "authorities".to_owned(), ..Container::default() }]);
        let with = json!({"spec": {"initContainers": [{"name": "authorities", "securityContext": {"runAsUser": 7}}]}});
        merge(&mut template, &patch(with), &["authorities"]);
        let init = &template.spec.unwrap().init_containers.unwrap()[0];
        assert_eq!(init.security_context.as_ref().and_then(|context| context.run_as_user), Some(7));
    }
}
