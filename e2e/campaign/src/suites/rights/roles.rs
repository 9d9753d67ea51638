//! The rights that the operator is granted, loses, and uses.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DynamicObject, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config, ResourceExt};
use rorun_e2e::scenarios::kit::operator_binary;
use serde_json::{Value, json};

use crate::environment::TestEnvironment;

const USER: &str = "system:serviceaccount:rorun-system:rorun-operator";
/// Its name.
pub(super) const ROLE: &str = "rorun-operator";

/// A right by verb and resource, and why no run of this suite uses it.
const UNUSED: &[(&str, &str, &str)] = &[
    ("*", "configmaps", "only a stack with an authority of its own has one: the scenario external"),
    ("*", "rorunstacks/finalizers", "asked for by an admission plugin that is not on here"),
    ("get", "rorunstacks", "the watch gives them"),
    ("patch", "rorunbackups/status", "nothing asks for a backup by a RorunBackup: the test of the reconcile does"),
    ("patch", "rorunrestores/status", "nothing asks for a restore: the test of the reconcile does"),
    ("patch", "events", "an event that repeats: none does within a run"),
    ("*", "leases", "there is one replica: the suite of leaders"),
    ("list", "*", "a server that cannot stream lists in watches gives them in pages: the suite watches"),
    ("get", "*", "an object of the name that no watch shows: the suite drift"),
    ("*", "jobs", "a backup on demand and the migration of a release: the scenarios backup and release"),
    ("delete", "controllerrevisions", "a release that served makes room for the eleventh after it"),
    ("delete", "secrets", "the credentials of a stack that goes with its data are deleted, and no other"),
    ("delete", "statefulsets", "an embedded service that becomes an external one"),
    ("delete", "poddisruptionbudgets", "a stack whose floor of pods falls below two"),
    ("delete", "horizontalpodautoscalers", "a stack that is scaled by number"),
];

/// The operator's client: the administrator, in its place.
pub(super) async fn user(environment: &TestEnvironment) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(&environment.server.kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    let name = http::HeaderName::from_static("impersonate-user");
    config.headers.push((name, http::HeaderValue::from_static(USER)));
    Ok(Client::try_from(config)?)
}

/// Grants the rights that `rorun-operator rbac` prints; returns the rules.
pub(super) async fn grant(client: &Client) -> Result<Value> {
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "rorun-system"}}))?;
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    let printed = Command::new(operator_binary()?).arg("rbac").output().context("failed to run the operator")?;
    let text = String::from_utf8(printed.stdout)?;
    let mut rules = None;
    for document in text.split("\n---").map(str::trim).filter(|document| !document.is_empty()) {
        let object: DynamicObject = serde_saphyr::from_str(document.trim_start_matches("---"))?;
        let kind = object.types.clone().unwrap_or_default().kind;
        let resource = rbac(&kind);
        let api: Api<DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        if kind == "ClusterRole" {
            rules = Some(object.data["rules"].clone());
        }
        api.create(&PostParams::default(), &object).await?;
    }
    rules.context("the operator names no rules")
}

/// A resource of the RBAC group.
pub(super) fn rbac(kind: &str) -> ApiResource {
    let kind = GroupVersionKind::gvk("rbac.authorization.k8s.io", "v1", kind);
    ApiResource::from_gvk(&kind)
}

/// The rules without some verbs on a resource.
pub(super) fn rules_without(rules: &Value, resource: &str, verbs: &[&str]) -> Value {
    let mut changed = Vec::new();
    for rule in rules.as_array().into_iter().flatten() {
        let resources = rule["resources"].as_array().cloned().unwrap_or_default();
        let (of, others): (Vec<Value>, Vec<Value>) = resources.into_iter().partition(|one| one == resource);
        for (resources, less) in [(others, false), (of, true)] {
            let mut rule = rule.clone();
            rule["resources"] = json!(resources);
            if let Some(granted) = rule["verbs"].as_array_mut().filter(|_| less) {
                granted.retain(|verb| !verbs.iter().any(|without| verb == without));
            }
            if !resources.is_empty() && rule["verbs"].as_array().is_some_and(|verbs| !verbs.is_empty()) {
                changed.push(rule);
            }
        }
    }
    Value::Array(changed)
}

/// Whether rules allow a verb on a resource.
pub(super) fn granted(rules: &Value, resource: &str, verb: &str) -> bool {
    rules.as_array().into_iter().flatten().any(|rule| {
        let has =
            |member: &str, word: &str| rule[member].as_array().is_some_and(|all| all.iter().any(|one| one == word));
        has("resources", resource) && has("verbs", verb)
    })
}

/// Rights that nothing used, and that nothing excuses.
pub(super) fn unused(rules: &Value, used: &BTreeSet<(String, String)>) -> Vec<String> {
    let words = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
    };
    let mut unused = Vec::new();
    for rule in rules.as_array().into_iter().flatten() {
        for resource in words(&rule["resources"]) {
            for verb in words(&rule["verbs"]) {
                let excused =
                    UNUSED.iter().any(|(of, on, _)| (*of == "*" || *of == verb) && (*on == "*" || *on == resource));
                if !excused && !used.contains(&(verb.clone(), resource.clone())) {
                    unused.push(format!("{verb} {resource}"));
                }
            }
        }
    }
    unused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_verb_on_one_resource_is_taken_away_and_nothing_else() {
        let rules = json!([{"apiGroups": [""], "resources": ["secrets", "services"], "verbs": ["list", "patch"]}]);
        let less = rules_without(&rules, "secrets", &["patch"]);
        for (resource, verb, expected) in
            [("secrets", "patch", false), ("secrets", "list", true), ("services", "patch", true)]
        {
            assert!(granted(&rules, resource, verb));
            assert_eq!(granted(&less, resource, verb), expected, "{verb} {resource}");
        }
        let used = BTreeSet::from([("list".to_owned(), "secrets".to_owned())]);
        assert_eq!(unused(&less, &used), ["patch services"]);
    }
}
