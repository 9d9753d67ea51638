//! The chart's policy for approvals, confirmations and discards on a real API server, with users that have nothing but the roles
//! of the chart.

use std::time::Duration;

use anyhow::{Context, Result};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rorun_e2e::engine::process::Run;
use rorun_e2e::engine::{Cache, TestServer, tools, wait};
use serde_json::{Value, json};

use super::{DEFINITION, Helm, NAMESPACE, objects};

/// May edit stacks, as the cluster's `edit` may.
const EDITOR: &str = "eve";
/// Has the role `rorun-approver` and no other.
const APPROVER: &str = "ada";
/// The name in the kubeconfig of a test server, of a cluster administrator.
const ADMINISTRATOR: &str = "admin";
const OPERATOR: &str = "system:serviceaccount:rorun-system:rorun-operator";

const WAY_OUT: &str = "leave that as it is, or have it changed by a user with the verb approve on rorunstacks, which the \
                       ClusterRole rorun-approver has";

struct Cluster {
    server: TestServer,
}

impl Cluster {
    fn start() -> Result<Cluster> {
        let (helm, server) = (Helm::new()?, TestServer::start()?);
        let mut items = objects(&helm.template(&[])?)?;
        let definition = items.iter_mut().find(|object| object["kind"] == "CustomResourceDefinition");
        let spec = definition
            .and_then(|definition| definition.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec"))
            .and_then(|spec| spec["properties"].as_object_mut())
            .context("no properties of the spec")?;
        // The policy is about this field whether or not this version of the definition has it.
        let release = json!({"type": "object", "properties": {"approval": {"type": "string"}}});
        spec.entry("release").or_insert(release);
        items.insert(0, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}));
        for (user, role) in [
            (EDITOR, "rorun-system-rorun-operator-view"),
            (EDITOR, "rorun-system-rorun-operator-edit"),
            (APPROVER, "rorun-approver"),
        ] {
            items.push(json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": {"name": format!("{user}-{role}"), "namespace": "default"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
            }));
        }
        let cluster = Cluster { server };
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        cluster.kubectl(&["apply", "--server-side", "--filename=-"])?.input(list.to_string()).output()?;
        let established = ["wait", "--for=condition=Established", "--timeout=30s", &format!("crd/{DEFINITION}")];
        cluster.kubectl(&established)?.output()?;
        let tries = |object: Value| -> Result<bool> {
            let create = ["create", "--dry-run=server", "--as=eve", "--filename=-"];
            Ok(cluster.kubectl(&create)?.input(object.to_string()).succeeds())
        };
        let confirmed = json!({"annotations": {"rorun.app/confirm-delete": "try"}});
        wait::until_true("the policy is enforced", Duration::from_mins(1), || {
            Ok(tries(stack("try", &json!({})))? && !tries(stack("try", &confirmed))?)
        })?;
        Ok(cluster)
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<Run> {
        let kubectl = tools::KUBECTL.path(&Cache::from_env()?)?;
        Ok(Run::new(&kubectl, arguments).env("KUBECONFIG", &self.server.kubeconfig))
    }

    async fn stacks(&self, user: &str) -> Result<Api<DynamicObject>> {
        let kubeconfig = Kubeconfig::read_from(&self.server.kubeconfig)?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        config.auth_info.impersonate = Some(user.to_owned()).filter(|user| user != ADMINISTRATOR);
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("rorun.app", "v1alpha1", "RorunStack"));
        Ok(Api::namespaced_with(Client::try_from(config)?, "default", &resource))
    }
}

/// A stack of this name, with what is given of its annotations and its spec.
fn stack(name: &str, with: &Value) -> Value {
    let mut stack = json!({
        "apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack",
        "metadata": {"name": name, "namespace": "default", "annotations": with["annotations"]},
        "spec": {"environment": "Development", "api": {"image": "rorun-api:1.8.0"}},
    });
    for field in ["release", "deletionPolicy"] {
        if !with[field].is_null() {
            stack["spec"][field] = with[field].clone();
        }
    }
    stack
}

/// The message of the policy, or nothing where the server admits the write. Every other refusal is a failure.
fn verdict<T>(result: kube::Result<T>) -> Result<Option<String>> {
    let Err(error) = result else { return Ok(None) };
    let kube::Error::Api(status) = &error else { return Err(error.into()) };
    let (policy, said) = status.message.split_once(" denied request: ").with_context(|| error.to_string())?;
    anyhow::ensure!(policy.contains("ValidatingAdmissionPolicy 'rorun-system-rorun-operator-approvals'"), "{policy}");
    Ok(Some(said.to_owned()))
}

/// A stack that carries all that the policy is about.
fn carrying() -> Value {
    json!({
        "annotations": {
            "rorun.app/approve": "0c2a41b97e", "rorun.app/approved-by": ADMINISTRATOR, "rorun.app/confirm-delete": "shop",
            "rorun.app/skip-recovery-point": "0c2a41b97e",
            "rorun.app/discard": "shop-database-old", "rorun.app/adopt-backups": "none",
        },
        "release": {"approval": "Required"},
        "deletionPolicy": "Delete",
    })
}

fn annotate(annotations: &Value) -> Value {
    json!({"metadata": {"annotations": annotations}})
}

/// A user, the stack before, the patch of the user, and the message of the policy.
type Change = (&'static str, Value, Value, Option<String>);

fn may_not(user: &str, what: &str) -> String {
    format!("{user} may not change {what}: {WAY_OUT}")
}

/// Approving, and taking an approval away.
fn approvals() -> Vec<Change> {
    let together = "rorun.app/approve changes only together with rorun.app/approved-by, the name of the user who approves: set \
                    the annotation rorun.app/approved-by to ada in the same change";
    let own_name = "rorun.app/approved-by can only become the name of the user who changes it: set it to ada";
    let kept = "rorun.app/approved-by says who approved 0c2a41b97e: keep it, or remove rorun.app/approve with it";
    let refused = |said: &str| Some(said.to_owned());
    let both = "the annotation rorun.app/approve, the annotation rorun.app/approved-by";
    let none = || json!({});
    let by = |user: &str| annotate(&json!({"rorun.app/approve": "1d3b52ca8f", "rorun.app/approved-by": user}));
    let by_nobody = || annotate(&json!({"rorun.app/approve": "1d3b52ca8f"}));
    let name = |value: Value| annotate(&json!({"rorun.app/approved-by": value}));
    let taken_away = || annotate(&json!({"rorun.app/approve": null, "rorun.app/approved-by": null}));
    vec![
        (EDITOR, none(), by(EDITOR), Some(may_not(EDITOR, both))),
        (EDITOR, carrying(), by_nobody(), Some(may_not(EDITOR, "the annotation rorun.app/approve"))),
        (EDITOR, carrying(), name(json!(EDITOR)), Some(may_not(EDITOR, "the annotation rorun.app/approved-by"))),
        (EDITOR, carrying(), taken_away(), Some(may_not(EDITOR, both))),
        (APPROVER, none(), by(APPROVER), None),
        (APPROVER, carrying(), by(APPROVER), None),
        (APPROVER, carrying(), taken_away(), None),
        (APPROVER, none(), by(EDITOR), refused(together)),
        (APPROVER, none(), by_nobody(), refused(together)),
        (APPROVER, carrying(), by_nobody(), refused(together)),
        (APPROVER, carrying(), name(json!(EDITOR)), refused(own_name)),
        (APPROVER, carrying(), name(json!("")), refused(own_name)),
        (APPROVER, carrying(), name(Value::Null), refused(kept)),
        (ADMINISTRATOR, none(), by(ADMINISTRATOR), None),
    ]
}

/// The other annotations, one by one and all at once.
fn annotations() -> Vec<Change> {
    let mut rows = Vec::new();
    let confirming = ["confirm-delete", "confirm-restore", "confirm-change", "confirm-x"];
    for key in confirming.into_iter().chain(["skip-recovery-point", "discard", "adopt-backups"]) {
        let key = format!("rorun.app/{key}");
        let refused = || Some(may_not(EDITOR, &format!("the annotation {key}")));
        let there = json!({"annotations": {&key: "none"}});
        for (before, value) in
            [(json!({}), json!("shop")), (json!({}), json!("")), (there.clone(), json!("")), (there, json!(null))]
        {
            let patch = annotate(&json!({&key: value}));
            rows.push((EDITOR, before.clone(), patch.clone(), refused()));
            rows.push((APPROVER, before, patch, None));
        }
    }
    let all = "the annotation rorun.app/approve, the annotation rorun.app/approved-by, the annotation \
               rorun.app/skip-recovery-point, the annotation rorun.app/discard, the annotation rorun.app/adopt-backups, the \
               annotation rorun.app/confirm-delete";
    rows.push((EDITOR, carrying(), annotate(&Value::Null), Some(may_not(EDITOR, all))));
    rows
}

fn fields() -> Vec<Change> {
    let none = || json!({});
    let rows = [
        ("spec.deletionPolicy", none(), json!({"deletionPolicy": "Delete"})),
        ("spec.deletionPolicy", carrying(), json!({"deletionPolicy": null})),
        ("spec.deletionPolicy", carrying(), json!({"deletionPolicy": "Retain"})),
        ("spec.release.approval", none(), json!({"release": {"approval": "Required"}})),
        ("spec.release.approval", carrying(), json!({"release": {"approval": "Automatic"}})),
        ("spec.release.approval", carrying(), json!({"release": {"approval": null}})),
        ("spec.release.approval", carrying(), json!({"release": null})),
        ("spec.release.approval, spec.deletionPolicy", carrying(), json!({"release": null, "deletionPolicy": null})),
    ];
    let of_both = |(field, before, spec): (&str, Value, Value)| {
        let patch = json!({"spec": spec});
        [(EDITOR, before.clone(), patch.clone(), Some(may_not(EDITOR, field))), (APPROVER, before, patch, None)]
    };
    rows.into_iter().flat_map(of_both).collect()
}

/// Changes that are free, on stacks that carry guarded values. A field that is left out means its default.
fn unguarded() -> Vec<Change> {
    let commands = json!({"rorun.app/backup": "now", "rorun.app/retry": "1", "confirm-delete": "x"});
    let defaults = json!({"spec": {"deletionPolicy": "Retain", "release": {"approval": "Automatic"}}});
    vec![
        (EDITOR, carrying(), json!({"spec": {"api": {"image": "rorun-api:1.9.0"}}}), None),
        (EDITOR, carrying(), annotate(&commands), None),
        (EDITOR, carrying(), annotate(&carrying()["annotations"]), None),
        (OPERATOR, carrying(), json!({"metadata": {"finalizers": ["rorun.app/data"]}}), None),
        (EDITOR, json!({}), defaults, None),
        (EDITOR, json!({}), json!({"spec": {"release": {}}}), None),
    ]
}

#[tokio::test]
async fn only_approvers_change_what_approves_confirms_or_discards() -> Result<()> {
    let cluster = Cluster::start()?;
    let owner = cluster.stacks(ADMINISTRATOR).await?;
    let changes = [approvals(), annotations(), fields(), unguarded()];
    for (number, (user, before, patch, expected)) in changes.into_iter().flatten().enumerate() {
        let name = format!("shop-{number}");
        owner.create(&PostParams::default(), &serde_json::from_value(stack(&name, &before))?).await?;
        let stacks = cluster.stacks(user).await?;
        let said = verdict(stacks.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await)?;
        let expected = expected.map(|said| format!("rorunstack/{name} in namespace default: {said}"));
        assert_eq!(said, expected, "{user}: {before} {patch}");
    }
    Ok(())
}

#[tokio::test]
async fn a_new_stack_has_the_policies_that_its_creator_wants_and_no_approvals() -> Result<()> {
    let cluster = Cluster::start()?;
    let policies = json!({"release": {"approval": "Required"}, "deletionPolicy": "Delete"});
    let confirmed = json!({"annotations": {"rorun.app/confirm-delete": "shop"}});
    let approved = |by: &str| json!({"annotations": {"rorun.app/approve": "0c2a41b97e", "rorun.app/approved-by": by}});
    let refused =
        |what: &str| Some(format!("rorunstack/shop in namespace default: eve may not change {what}: {WAY_OUT}"));
    let editor = cluster.stacks(EDITOR).await?;
    for (with, expected) in [
        (json!({}), None),
        (policies, None),
        (confirmed, refused("the annotation rorun.app/confirm-delete")),
        (approved(EDITOR), refused("the annotation rorun.app/approve, the annotation rorun.app/approved-by")),
    ] {
        let created = editor.create(&PostParams::default(), &serde_json::from_value(stack("shop", &with))?).await;
        let there = created.is_ok();
        assert_eq!(verdict(created)?, expected, "{with}");
        if there {
            editor.delete("shop", &DeleteParams::default()).await?;
        }
    }
    let administrator = cluster.stacks(ADMINISTRATOR).await?;
    let create = |with| serde_json::from_value(stack("shop", &with)).map_err(anyhow::Error::from);
    let said = verdict(administrator.create(&PostParams::default(), &create(approved(APPROVER))?).await)?;
    assert!(
        said.is_some_and(|said| said.ends_with("set the annotation rorun.app/approved-by to admin in the same change"))
    );
    administrator.create(&PostParams::default(), &create(approved(ADMINISTRATOR))?).await?;
    Ok(())
}

#[tokio::test]
async fn writes_that_change_nothing_guarded_are_not_hindered() -> Result<()> {
    let cluster = Cluster::start()?;
    let (administrator, editor) = (cluster.stacks(ADMINISTRATOR).await?, cluster.stacks(EDITOR).await?);
    administrator.create(&PostParams::default(), &serde_json::from_value(stack("shop", &carrying()))?).await?;

    // A tool applies the same manifest again, and one that never had the values.
    let apply = PatchParams::apply("gitops").force();
    for with in [carrying(), json!({"release": {"approval": "Required"}, "deletionPolicy": "Delete"})] {
        let applied = editor.patch("shop", &apply, &Patch::Apply(&stack("shop", &with))).await?;
        assert_eq!(applied.data["spec"]["deletionPolicy"], "Delete");
    }
    // The tool owned them together with the administrator, so they are still there.
    let kept = editor.get("shop").await?;
    assert_eq!(
        kept.metadata.annotations.unwrap_or_default().get("rorun.app/approve").map(String::as_str),
        Some("0c2a41b97e")
    );

    // The operator writes the status, and by it no annotation.
    let status =
        json!({"metadata": {"annotations": {"rorun.app/approve": "1d3b52ca8f"}}, "status": {"observedGeneration": 1}});
    let operator = cluster.stacks(OPERATOR).await?;
    let written = operator.patch_status("shop", &PatchParams::default(), &Patch::Merge(&status)).await?;
    assert_eq!(written.data["status"]["observedGeneration"], 1);
    assert_eq!(written.metadata.annotations.as_ref().context("no annotations")?["rorun.app/approve"], "0c2a41b97e");

    // With the most annotations the policy stays within the cost that the server allows, for the operator too.
    let annotations = |count: usize| {
        let many = (0..count).map(|number| (number.to_string(), Value::from("")));
        annotate(&Value::Object(many.collect()))
    };
    let there = written.metadata.annotations.map_or(0, |annotations| annotations.len());
    let patch = async |count| editor.patch("shop", &PatchParams::default(), &Patch::Merge(&annotations(count))).await;
    let said = verdict(patch(1001 - there).await)?;
    let expected = "rorunstack/shop in namespace default: 1001 annotations are more than the 1000 that a stack may have: remove some";
    assert_eq!(said.as_deref(), Some(expected));
    patch(1000 - there).await?;
    let finalizers = json!({"metadata": {"finalizers": ["rorun.app/data"]}});
    operator.patch("shop", &PatchParams::default(), &Patch::Merge(&finalizers)).await?;

    editor.delete("shop", &DeleteParams::default()).await?;
    Ok(())
}

#[test]
fn administrators_of_a_namespace_approve_and_editors_do_not() -> Result<()> {
    let roles = objects(&Helm::new()?.template(&["--show-only=templates/rbac-users.yaml"])?)?;
    let with_verb = |verb: &str| -> Vec<&Value> {
        let has = |role: &&Value| role["rules"].to_string().contains(&format!("\"{verb}\""));
        roles.iter().filter(has).map(|role| &role["metadata"]).collect()
    };
    let [approver] = with_verb("approve")[..] else { anyhow::bail!("one role approves: {roles:?}") };
    assert_eq!(approver["name"], "rorun-approver");
    let aggregates =
        |to: &str| approver["labels"].get(format!("rbac.authorization.k8s.io/aggregate-to-{to}")).is_some();
    assert_eq!(["view", "edit", "admin"].map(aggregates), [false, false, true]);
    assert!(!roles.iter().any(|role| role["rules"].to_string().contains("\"*\"")), "{roles:?}");
    Ok(())
}

/// A chart that makes no object of the cluster makes none of these either; the command of its README does.
#[test]
fn the_policy_comes_with_the_chart_unless_it_may_not() -> Result<()> {
    let helm = Helm::new()?;
    let made = |arguments: &[&str]| -> Result<usize> {
        Ok(helm.template(arguments)?.matches("\nkind: ValidatingAdmissionPolicy").count())
    };
    assert_eq!(made(&[])?, 2);
    assert_eq!(made(&["--set=approvalPolicy.enabled=false"])?, 0);
    assert_eq!(made(&["--set=watchNamespaces={shop}"])?, 0);
    let command = ["--show-only=templates/approvals.yaml", "--show-only=templates/rbac-users.yaml"];
    assert_eq!(super::kinds(&helm.template(&command)?)?.len(), 5);
    Ok(())
}
