//! Names, references, secrets and counts of the objects.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rorun_operator::{
    desired::{desired, everything},
    names::Component,
    objects::{DesiredObject, LiveSet, Readiness},
    stack::{Replicas, references, validate},
};
use serde_json::Value;

use super::{
    generate::{chaos, config, on_aws, stacks},
    support::{CANARY, all_ready, all_there, containers, items, objects, template, text, valid},
};

proptest! {
    #![proptest_config(config())]

    #[test]
    fn nothing_that_can_be_observed_ends_the_process((cr, observed) in chaos()) {
        let stack = validate(&cr, &observed);
        let wanted = desired(&stack, &rorun_operator::plan::Plan::default(), &LiveSet::default());
        // What is wanted and what is held back do not overlap, and what is unresolved is held back.
        for object in &wanted.objects {
            prop_assert!(!wanted.waiting.keys().any(|held| held.as_str() == object.component()), "{}", object.key());
        }
        prop_assert!(wanted.readiness.keys().copied().eq(Component::ALL.into_iter().filter(|name| stack.has(*name))));
        // Even of broken values nothing is told.
        for waiting in stack.unresolved.values() {
            prop_assert!(waiting.message.len() < 1000, "{}", waiting.message);
        }
    }

    #[test]
    fn a_spec_survives_being_read_and_written(cr in stacks()) {
        let written = serde_json::to_value(&cr).unwrap();
        let read: rorun_operator::api::v1alpha1::RorunStack = serde_json::from_value(written.clone()).unwrap();
        prop_assert_eq!(serde_json::to_value(&read).unwrap(), written);
        prop_assert_eq!(read, cr);
    }

    #[test]
    fn the_same_spec_gives_the_same_objects(cr in stacks()) {
        let observed = all_there(&cr);
        let stack = validate(&cr, &observed);
        prop_assert!(stack.unresolved.is_empty(), "{:?}", stack.unresolved);
        prop_assert_eq!(everything(&stack, &rorun_operator::plan::Plan::default()), everything(&validate(&cr, &observed), &rorun_operator::plan::Plan::default()));
    }

    #[test]
    fn what_was_made_is_kept_as_wanted(cr in stacks()) {
        let stack = valid(&cr);
        let live = all_ready(&stack);
        let again = desired(&stack, &rorun_operator::plan::Plan::default(), &live);
        prop_assert!(again.waiting.is_empty(), "{:?}", again.waiting);
        prop_assert_eq!(again.objects, everything(&stack, &rorun_operator::plan::Plan::default()));
        for (component, readiness) in &again.readiness {
            let not_probed = stack.not_probed(*component);
            let told = matches!(readiness, Readiness::Waiting(waiting) if Some(waiting) == not_probed);
            prop_assert!(readiness.is_ready() || told, "{}: {:?}", component, readiness);
        }
    }

    #[test]
    fn names_are_unique_and_legal(cr in stacks()) {
        let mut keys = BTreeSet::new();
        for object in objects(&cr) {
            prop_assert!(keys.insert(object.key()), "{} twice", object.key());
            let limit = if matches!(object.kind.kind, "CronJob" | "StatefulSet") { 52 } else { 63 };
            prop_assert!(object.name.len() <= limit && is_name(&object.name), "{}", object.key());
            prop_assert_eq!(text(&object.body, "/metadata/name"), Some(object.name.as_str()));
            prop_assert_eq!(text(&object.body, "/kind"), Some(object.kind.kind));
            for container in template(&object).into_iter().flat_map(containers) {
                prop_assert!(text(container, "/name").is_some_and(is_name), "{}", object.key());
            }
        }
    }

    #[test]
    fn labels_are_legal_and_tell_whose_the_object_is(cr in stacks()) {
        for object in objects(&cr) {
            let templates = template(&object).into_iter();
            for metadata in [&object.body].into_iter().chain(templates).filter_map(|of| of.get("metadata")) {
                let labels = strings(metadata, "/labels");
                prop_assert!(labels.values().all(|value| is_label_value(value)), "{labels:?}");
                // Data have a label of their own: by the other, tools take what has no owner for theirs.
                let data = labels.contains_key("rorun.app/retained");
                let (stack, other) = ("rorun.app/stack", "app.kubernetes.io/instance");
                let (has, has_not) = if data { (stack, other) } else { (other, stack) };
                prop_assert_eq!(labels.get(has), cr.metadata.name.as_ref());
                prop_assert_eq!(labels.get(has_not), None);
                prop_assert_eq!(labels.get("app.kubernetes.io/managed-by").map(String::as_str), Some("rorun-operator"));
                prop_assert!(labels.contains_key("app.kubernetes.io/component"));
            }
        }
    }

    #[test]
    fn nothing_empty_is_applied(cr in stacks()) {
        for object in objects(&cr) {
            prop_assert!(!has_empty(&object.body), "{}: {}", object.key(), object.body);
        }
    }

    #[test]
    fn selectors_find_their_pods(cr in stacks()) {
        let all = objects(&cr);
        let labels: Vec<_> = all.iter().filter_map(template).map(|pod| strings(pod, "/metadata/labels")).collect();
        let finds = |selector: &BTreeMap<String, String>| {
            !selector.is_empty() && labels.iter().filter(|of| selector.iter().all(|(key, value)| of.get(key) == Some(value))).count() == 1
        };
        for object in &all {
            let selector = match object.kind.kind {
                "Deployment" | "StatefulSet" | "PodDisruptionBudget" => "/spec/selector/matchLabels",
                "Service" => "/spec/selector",
                _ => continue,
            };
            prop_assert!(finds(&strings(&object.body, selector)), "{}", object.key());
            if let Some(template) = template(object) {
                let (own, wanted) = (strings(template, "/metadata/labels"), strings(&object.body, selector));
                prop_assert!(wanted.iter().all(|(key, value)| own.get(key) == Some(value)), "{}", object.key());
                prop_assert_eq!(wanted.len(), 3);
            }
        }
    }

    #[test]
    fn ports_of_services_and_routes_lead_somewhere(cr in stacks()) {
        let all = objects(&cr);
        let of_kind = |kind: &'static str| all.iter().filter(move |object| object.kind.kind == kind);
        let port_names = |object: &DesiredObject| -> Vec<String> {
            let ports = items(&object.body, "/spec/ports");
            ports.filter_map(|port| text(port, "/name")).map(str::to_owned).collect()
        };
        for service in of_kind("Service") {
            let pods = all.iter().filter(|object| object.component() == service.component()).filter_map(template);
            let open: Vec<_> = pods.flat_map(containers).flat_map(|container| items(container, "/ports")).filter_map(|port| text(port, "/name")).collect();
            for port in items(&service.body, "/spec/ports") {
                prop_assert!(open.contains(&text(port, "/targetPort").unwrap()), "{}", service.key());
            }
        }
        for rule in of_kind("Ingress").flat_map(|ingress| items(&ingress.body, "/spec/rules")) {
            for path in items(rule, "/http/paths") {
                let (name, port) = (text(path, "/backend/service/name").unwrap(), text(path, "/backend/service/port/name").unwrap());
                let service = of_kind("Service").find(|service| service.name == name);
                prop_assert!(service.is_some_and(|service| port_names(service).iter().any(|open| open == port)), "{name}:{port}");
            }
        }
        for scaled in of_kind("HorizontalPodAutoscaler") {
            let target = text(&scaled.body, "/spec/scaleTargetRef/name").unwrap();
            prop_assert!(of_kind("Deployment").any(|deployment| deployment.name == target), "{target}");
        }
    }

    #[test]
    fn what_pods_name_is_made_or_named_by_the_user(cr in stacks()) {
        let all = objects(&cr);
        let named = references(cr.metadata.name.as_deref().unwrap_or_default(), &cr.spec);
        let pull: BTreeSet<_> = cr.spec.image.iter().flat_map(|image| &image.pull_secrets).map(|secret| secret.name.clone()).collect();
        for (from, reference) in all.iter().flat_map(|object| pod_references(object).into_iter().map(move |reference| (object, reference))) {
            let made = all.iter().find(|object| object.kind.kind == reference.kind && object.name == reference.name);
            let key_is_there = |object: &DesiredObject| {
                reference.key.as_ref().is_none_or(|key| object.body["data"].get(key).is_some())
            };
            let by_user = match reference.kind {
                "Secret" => named.secrets.contains(&reference.name) || pull.contains(&reference.name),
                "ConfigMap" => named.config_maps.contains(&reference.name),
                _ => false,
            };
            prop_assert!(by_user || made.is_some_and(key_is_there), "{} names {reference:?}", from.key());
        }
    }

    #[test]
    fn secrets_stay_in_secrets(cr in prop_oneof![stacks().boxed(), on_aws().boxed()]) {
        let all = objects(&cr);
        let there = |kind: &str| all.iter().any(|object| object.kind.kind == kind);
        if cr.spec.database.as_ref().is_some_and(|database| database.rds.is_some()) {
            // The logins of the master and of the application, and who needs both.
            let job = all.iter().find(|object| object.kind.kind == "Job" && object.component() == "database").unwrap();
            prop_assert!(job.body.to_string().contains("-credentials"), "{}", job.body);
            prop_assert!(there("DBInstance") && there("Bucket"), "{:?}", all.iter().map(DesiredObject::key).collect::<Vec<_>>());
            prop_assert!(there("ReplicationGroup") != there("ServerlessCache"));
        }
        let (secrets, others): (Vec<_>, Vec<_>) = all.iter().partition(|object| object.kind.kind == "Secret");
        prop_assert!(secrets.iter().any(|secret| secret.body.to_string().contains("Q2FuYXJ5")), "no canary at all");
        for object in others {
            let body = object.body.to_string();
            prop_assert!(!body.contains(CANARY) && !body.contains("Q2FuYXJ5"), "{}: {body}", object.key());
        }
    }

    #[test]
    fn data_is_retained_and_nothing_else(cr in prop_oneof![stacks().boxed(), on_aws().boxed()]) {
        for object in objects(&cr) {
            let volume = KINDS_OF_DATA.contains(&object.kind.kind);
            // A retained Cluster goes on archiving, with the keys to its archive.
            let keys = ["-credentials", "-backup-archive"].iter().any(|ending| object.name.ends_with(ending));
            let data = volume || keys;
            prop_assert_eq!(!object.policy.is_owned(), data, "{}", object.key());
            prop_assert_eq!(object.label("rorun.app/retained") == "true", data, "{}", object.key());
            let uid = object.body["metadata"]["annotations"].get("rorun.app/stack-uid").and_then(Value::as_str);
            prop_assert_eq!(uid.is_some(), data, "{}", object.key());
            for (annotation, value) in [
                ("argocd.argoproj.io/sync-options", "Prune=false,Delete=false"),
                ("argocd.argoproj.io/compare-options", "IgnoreExtraneous"),
                ("helm.sh/resource-policy", "keep"),
            ] {
                let given = object.body["metadata"]["annotations"].get(annotation).and_then(Value::as_str);
                prop_assert_eq!(given, data.then_some(value), "{}", object.key());
            }
            let digest = object.body["metadata"]["annotations"].get("rorun.app/credentials-digest").is_some();
            prop_assert_eq!(digest, object.name.ends_with("-credentials"), "{}", object.key());
        }
    }

    #[test]
    fn who_scales_is_one(cr in stacks()) {
        let stack = valid(&cr);
        let all = objects(&cr);
        let there = |kind: &str, name: &str| all.iter().any(|object| object.kind.kind == kind && object.name == name);
        for deployment in all.iter().filter(|object| object.kind.kind == "Deployment") {
            let workload = stack.workload(Component::from_label(deployment.component()).unwrap()).unwrap();
            let auto = matches!(workload.replicas, Replicas::Auto { .. });
            prop_assert_eq!(there("HorizontalPodAutoscaler", &deployment.name), auto);
            prop_assert_eq!(deployment.body["spec"].get("replicas").is_none(), auto, "{}", deployment.key());
            prop_assert_eq!(there("PodDisruptionBudget", &deployment.name), workload.disruption.is_some());
            prop_assert!(workload.disruption.is_some() || workload.replicas.floor() < 2);
            if let Replicas::Auto { memory, .. } = workload.replicas {
                let wanted = ["cpu"].into_iter().chain(memory.map(|_| "memory"));
                for (container, resource) in containers(template(deployment).unwrap()).flat_map(|c| wanted.clone().map(move |r| (c, r))) {
                    let known = ["requests", "limits"].iter().any(|kind| container["resources"][kind].get(resource).is_some());
                    prop_assert!(known, "no {resource} to compute a percentage of: {}", container["resources"]);
                }
            }
        }
    }
}

/// What data are in, in the cluster or at AWS.
const KINDS_OF_DATA: [&str; 7] =
    ["PersistentVolumeClaim", "Cluster", "ObjectStore", "DBInstance", "ReplicationGroup", "ServerlessCache", "Bucket"];

/// A DNS label that a Service may have, too (RFC 1035).
fn is_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.ends_with('-') && name.chars().all(inner)
}

fn is_label_value(value: &str) -> bool {
    let end = |c: char| c.is_ascii_alphanumeric();
    value.len() <= 63
        && value.starts_with(end)
        && value.ends_with(end)
        && value.chars().all(|c| end(c) || matches!(c, '-' | '_' | '.'))
}

fn strings(value: &Value, pointer: &str) -> BTreeMap<String, String> {
    value.pointer(pointer).and_then(|map| serde_json::from_value(map.clone()).ok()).unwrap_or_default()
}

fn has_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(members) => members.iter().any(|(key, member)| {
            (key != "emptyDir" && member.as_object().is_some_and(serde_json::Map::is_empty)) || has_empty(member)
        }),
        Value::Array(list) => list.is_empty() || list.iter().any(has_empty),
        _ => false,
    }
}

#[derive(Debug)]
struct Reference {
    kind: &'static str,
    name: String,
    key: Option<String>,
}

/// Everything in the namespace that the pods of an object name.
fn pod_references(object: &DesiredObject) -> Vec<Reference> {
    let Some(template) = template(object) else { return Vec::new() };
    let mut found = Vec::new();
    let mut add = |kind, at: &Value, name: &str, key: Option<&str>| {
        if let Some(name) = text(at, name) {
            let key = key.and_then(|key| text(at, key)).map(str::to_owned);
            found.push(Reference { kind, name: name.to_owned(), key });
        }
    };
    for container in containers(template) {
        for variable in items(container, "/env") {
            add("Secret", variable, "/valueFrom/secretKeyRef/name", Some("/valueFrom/secretKeyRef/key"));
            add("ConfigMap", variable, "/valueFrom/configMapKeyRef/name", Some("/valueFrom/configMapKeyRef/key"));
        }
        for source in items(container, "/envFrom") {
            add("Secret", source, "/secretRef/name", None);
            add("ConfigMap", source, "/configMapRef/name", None);
        }
    }
    for volume in items(template, "/spec/volumes") {
        add("Secret", volume, "/secret/secretName", None);
        add("ConfigMap", volume, "/configMap/name", None);
        add("PersistentVolumeClaim", volume, "/persistentVolumeClaim/claimName", None);
    }
    for secret in items(template, "/spec/imagePullSecrets") {
        add("Secret", secret, "/name", None);
    }
    add("ServiceAccount", template, "/spec/serviceAccountName", None);
    if object.kind.kind == "StatefulSet" {
        add("Service", &object.body, "/spec/serviceName", None);
    }
    found
}
