//! `rorun-operator rbac`: what the operator may do, and in which namespaces.
//!
//! What enters: [`KINDS`], which the watches come from as well. What leaves: Roles as YAML; the chart reads the same rules
//! from a file that a test compares. Forbidden here: `*`, and the verbs that lead to more rights than one has.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use clap::Args;
use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::{Value, json};

use super::optional;
use crate::objects::{Availability, KINDS, OPTIONAL_APIS, ObjectKind, OptionalApi, Role};

/// Server-side apply is `patch`, and `create` too when the object is new.
const CHILD_VERBS: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];
const OBSERVED_VERBS: &[&str] = &["get", "list", "watch"];
const OPERATOR: &str = "rorun-operator";
/// What is asked of a stack. Only their status is written.
const REQUESTS: [&str; 2] = ["rorunbackups", "rorunrestores"];

/// Whose rights, and where.
#[derive(Clone, Debug, Args)]
pub struct RbacArgs {
    /// A namespace to watch; may be repeated, or a list with commas. Defaults to all namespaces, by a cluster role
    #[arg(long = "watch-namespace", value_name = "NAMESPACE", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// The namespace that the operator runs in
    #[arg(long, value_name = "NAMESPACE", default_value = "rorun-system")]
    pub namespace: String,
    /// The service account that the operator runs as
    #[arg(long, value_name = "NAME", default_value = OPERATOR)]
    pub service_account: String,
    /// The name of the Lease that replicas agree by
    #[arg(long, value_name = "NAME", default_value = OPERATOR)]
    pub lease_name: String,
    /// An API of another project that the operator may use; may be repeated, or a list with commas: prometheusOperator,
    /// cloudNativePG, barmanCloud, ackRDS, ackElastiCache, ackS3. Defaults to none
    #[arg(long = "optional-api", value_delimiter = ',', value_parser = optional::api, value_name = "NAME")]
    pub optional_apis: Vec<&'static OptionalApi>,
}

/// Writes the Roles and their bindings.
pub fn print(args: &RbacArgs, out: &mut impl Write) -> io::Result<()> {
    out.write_all(yaml(args)?.as_bytes())
}

/// The Roles and their bindings.
pub fn yaml(args: &RbacArgs) -> io::Result<String> {
    let everywhere = [None];
    let named = args.watch_namespaces.iter().map(String::as_str).filter(|namespace| !namespace.is_empty());
    let namespaces: Vec<_> = named.map(Some).collect();
    let namespaces = if namespaces.is_empty() { &everywhere[..] } else { &namespaces[..] };
    let grants = namespaces.iter().map(|namespace| {
        let mut rules = stack_rules();
        rules.extend(args.optional_apis.iter().flat_map(|api| optional_rules(api)));
        if namespace.is_none() {
            rules.extend(cluster_rules());
        }
        (OPERATOR.to_owned(), *namespace, rules)
    });
    let lease = (format!("{OPERATOR}-lease"), Some(args.namespace.as_str()), lease_rules(&args.lease_name));
    let objects: Vec<Value> = grants
        .chain([lease])
        .flat_map(|(name, namespace, rules)| [role(&name, namespace, &rules), binding(&name, namespace, args)])
        .collect();
    serde_saphyr::to_string_multiple(&objects).map_err(io::Error::other)
}

/// The rules alone, as the chart reads them: `stacks` for where stacks are, `cluster` beside them where these are all
/// namespaces, `lease` for the operator's own namespace, and `optional` beside `stacks` for each API that is switched on.
pub fn rules_yaml() -> io::Result<String> {
    let optional: BTreeMap<_, _> = OPTIONAL_APIS.into_iter().map(|api| (api.name, optional_rules(api))).collect();
    let rules = BTreeMap::from([
        ("stacks", json!(stack_rules())),
        ("cluster", json!(cluster_rules())),
        ("lease", json!(lease_rules(OPERATOR))),
        ("optional", json!(optional)),
    ]);
    serde_saphyr::to_string(&rules).map_err(io::Error::other)
}

/// What is needed in every namespace that holds stacks.
fn stack_rules() -> Vec<PolicyRule> {
    let mut rules = vec![
        // `patch` is for the finalizer; the spec is never written.
        rule("rorun.app", ["rorunstacks"], &["get", "list", "watch", "patch"]),
        rule("rorun.app", REQUESTS, &["get", "list", "watch"]),
        rule("rorun.app", ["rorunstacks/status", "rorunbackups/status", "rorunrestores/status"], &["patch"]),
        // Where the admission plugin OwnerReferencesPermissionEnforcement runs, `blockOwnerDeletion` needs it.
        rule("rorun.app", ["rorunstacks/finalizers"], &["update"]),
    ];
    rules.extend(kind_rules(ObjectKind::is_core));
    // Whose backups are whose is told by the uid of the namespace. A Role may grant it: it is that of its own namespace.
    rules.push(rule("", ["namespaces"], &["get"]));
    // A repeated event is counted by `patch`.
    rules.push(rule("events.k8s.io", ["events"], &["create", "patch"]));
    // Why pods of a StatefulSet or Job are refused: without it nothing is said.
    rules.push(rule("", ["events"], &["list"]));
    rules
}

/// What an API of another project needs beside them, in the same namespaces.
fn optional_rules(api: &'static OptionalApi) -> Vec<PolicyRule> {
    kind_rules(|kind| kind.availability == Availability::Optional(api))
}

/// A rule for each group of these kinds, by the operator's part in them.
fn kind_rules(of: impl Fn(&ObjectKind) -> bool) -> Vec<PolicyRule> {
    let mut rules = Vec::new();
    for (role, verbs) in [(Role::Child, CHILD_VERBS), (Role::Observed, OBSERVED_VERBS)] {
        let mut groups = BTreeMap::<&str, Vec<&str>>::new();
        for kind in KINDS.iter().filter(|kind| kind.role == role && of(kind)) {
            groups.entry(kind.group).or_default().push(kind.plural);
        }
        rules.extend(groups.into_iter().map(|(group, resources)| rule(group, resources, verbs)));
    }
    rules
}

/// What is read of the cluster, where that is granted; without it the operator says less, and does the same.
fn cluster_rules() -> Vec<PolicyRule> {
    vec![rule("networking.k8s.io", ["ingressclasses"], &["get"]), rule("storage.k8s.io", ["storageclasses"], &["get"])]
}

/// What the leader election needs. `create` cannot be limited to a name.
fn lease_rules(name: &str) -> Vec<PolicyRule> {
    let leases = |verbs| rule("coordination.k8s.io", ["leases"], verbs);
    vec![leases(&["create"]), PolicyRule { resource_names: Some(vec![name.to_owned()]), ..leases(&["get", "update"]) }]
}

fn rule<'a>(group: &str, resources: impl IntoIterator<Item = &'a str>, verbs: &[&str]) -> PolicyRule {
    let mut resources: Vec<_> = resources.into_iter().map(str::to_owned).collect();
    resources.sort_unstable();
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(resources),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    }
}

/// A role of the namespace, or of the cluster.
fn role(name: &str, namespace: Option<&str>, rules: &[PolicyRule]) -> Value {
    let mut role = object(&scoped("Role", namespace), name, namespace);
    role["rules"] = json!(rules);
    role
}

fn binding(name: &str, namespace: Option<&str>, args: &RbacArgs) -> Value {
    let mut binding = object(&scoped("RoleBinding", namespace), name, namespace);
    binding["roleRef"] =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": scoped("Role", namespace), "name": name});
    binding["subjects"] =
        json!([{"kind": "ServiceAccount", "name": args.service_account, "namespace": args.namespace}]);
    binding
}

fn scoped(kind: &str, namespace: Option<&str>) -> String {
    if namespace.is_some() { kind.to_owned() } else { format!("Cluster{kind}") }
}

fn object(kind: &str, name: &str, namespace: Option<&str>) -> Value {
    let mut object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name}});
    if let Some(namespace) = namespace {
        object["metadata"]["namespace"] = namespace.into();
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(namespaces: &[&str]) -> RbacArgs {
        RbacArgs {
            watch_namespaces: namespaces.iter().map(|namespace| (*namespace).to_owned()).collect(),
            namespace: "rorun-system".to_owned(),
            service_account: OPERATOR.to_owned(),
            lease_name: OPERATOR.to_owned(),
            optional_apis: Vec::new(),
        }
    }

    fn kinds(yaml: &str) -> Vec<&str> {
        yaml.lines().filter_map(|line| line.strip_prefix("kind: ")).collect()
    }

    #[test]
    fn namespaced_rights_need_no_cluster_role() {
        let yaml = yaml(&args(&["shop", "staging"])).expect("YAML");
        assert_eq!(kinds(&yaml), ["Role", "RoleBinding"].repeat(3));
        assert!(!yaml.contains("Cluster"), "{yaml}");
        assert_eq!(yaml.matches("secrets").count(), 2);
    }

    #[test]
    fn rights_everywhere_are_a_cluster_role_and_a_role_for_the_lease() {
        let yaml = yaml(&args(&[])).expect("YAML");
        assert_eq!(kinds(&yaml), ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]);
    }

    #[test]
    fn an_api_of_another_project_is_granted_only_where_it_is_switched_on() {
        for namespaces in [&[][..], &["shop", "staging"]] {
            let mut args = args(namespaces);
            assert!(!yaml(&args).expect("YAML").contains("monitoring.coreos.com"));
            args.optional_apis = OPTIONAL_APIS.to_vec();
            let yaml = yaml(&args).expect("YAML");
            assert_eq!(yaml.matches("monitoring.coreos.com").count(), namespaces.len().max(1), "{yaml}");
        }
    }

    #[test]
    fn every_kind_is_granted_and_nothing_leads_to_more() {
        let optional = OPTIONAL_APIS.into_iter().flat_map(optional_rules);
        let rules: Vec<_> = stack_rules().into_iter().chain(optional).collect();
        for kind in &KINDS {
            let granting: Vec<_> = rules
                .iter()
                .filter(|rule| rule.api_groups.iter().flatten().any(|group| group == kind.group))
                .filter(|rule| rule.resources.iter().flatten().any(|resource| resource == kind.plural))
                .collect();
            let [rule] = granting[..] else { panic!("{}: {granting:?}", kind.kind) };
            assert_eq!(rule.verbs.iter().any(|verb| verb == "delete"), kind.role == Role::Child, "{}", kind.kind);
        }
        for rule in rules.iter().chain(&lease_rules(OPERATOR)) {
            let words = [&rule.verbs].into_iter().chain(&rule.api_groups).chain(&rule.resources).flatten();
            for word in words {
                assert!(!matches!(word.as_str(), "*" | "escalate" | "bind" | "impersonate"), "{rule:?}");
            }
        }
    }
}
