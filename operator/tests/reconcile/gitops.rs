//! Argo CD with label tracking beside the operator, played as the deletions that it would make.
//!
//! Its members are, besides what its manifests hold, all objects without an owner whose label `app.kubernetes.io/instance` is
//! the name of the Application (`GetManagedLiveObjs` of its cache). When it prunes, it deletes each member that is in no
//! manifest, but for those with the option `Prune=false` (gitops-engine, `pruneObject`). When an Application with the finalizer
//! is deleted, it deletes every member, but for those with the option `Delete=false` or with `helm.sh/resource-policy: keep`
//! (`shouldBeDeleted`). Options stand in an annotation, between commas, with or without spaces.
//! Source: <https://argo-cd.readthedocs.io/en/stable/user-guide/sync-options/>.

use std::collections::BTreeMap;

use kube::{
    ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use rorun_operator::objects::{KINDS, Role};
use serde_json::{Value, json};

use super::env::{TestEnv, development};

/// What Argo CD does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Prune,
    DeleteApplication,
}

/// The Application is named as the stack is, as is usual. Returns what was deleted.
async fn argo_cd(env: &TestEnv, namespace: &str, deed: Deed) -> Vec<String> {
    let members = ListParams::default().labels("app.kubernetes.io/instance=shop");
    let mut deleted = Vec::new();
    for kind in KINDS.iter().filter(|kind| kind.role == Role::Child && kind.is_core()) {
        let api = env.objects(kind.kind, namespace);
        for member in api.list(&members).await.expect("a list").items {
            if member.owner_references().is_empty() && !is_spared(&member, deed) {
                api.delete(&member.name_any(), &DeleteParams::background()).await.expect("it is deleted");
                deleted.push(format!("{}/{}", kind.kind, member.name_any()));
            }
        }
    }
    // It is in the manifests.
    if deed == Deed::DeleteApplication {
        for stack in env.stacks(namespace).list(&members).await.expect("a list") {
            env.stacks(namespace).delete(&stack.name_any(), &DeleteParams::background()).await.expect("it is deleted");
            deleted.push(format!("RorunStack/{}", stack.name_any()));
        }
    }
    deleted
}

fn is_spared(member: &DynamicObject, deed: Deed) -> bool {
    let has = |annotation: &str, option: &str| {
        let options = member.annotations().get(annotation).map(String::as_str).unwrap_or_default();
        options.split(',').any(|given| given.trim() == option)
    };
    match deed {
        Deed::Prune => has("argocd.argoproj.io/sync-options", "Prune=false"),
        Deed::DeleteApplication => {
            has("argocd.argoproj.io/sync-options", "Delete=false") || has("helm.sh/resource-policy", "keep")
        }
    }
}

/// The data of a stack, by kind and name: the uid of each, what a Secret holds, and whether it is being deleted.
pub async fn data_of(env: &TestEnv, namespace: &str, stack: &str) -> BTreeMap<String, (String, Value, bool)> {
    let mut found = BTreeMap::new();
    for kind in ["PersistentVolumeClaim", "Secret"] {
        let of_stack = ListParams::default().labels(&format!("rorun.app/stack={stack},rorun.app/retained=true"));
        for object in env.objects(kind, namespace).list(&of_stack).await.expect("a list") {
            let goes = object.metadata.deletion_timestamp.is_some();
            let value = (object.uid().unwrap_or_default(), object.data["data"].clone(), goes);
            found.insert(format!("{kind}/{}", object.name_any()), value);
        }
    }
    found
}

fn claim(name: &str) -> DynamicObject {
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "labels": {
        "app.kubernetes.io/instance": "shop", "rorun.app/retained": "true"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    serde_json::from_value(claim).expect("a claim")
}

pub async fn argo_cd_takes_no_data_for_its_own(env: &TestEnv) {
    let namespace = "gitops";
    env.namespace(namespace).await;
    env.apply(namespace, development()).await;
    let tracked = Patch::Merge(json!({"metadata": {"labels": {"app.kubernetes.io/instance": "shop"}}}));
    env.stacks(namespace).patch("shop", &PatchParams::default(), &tracked).await.expect("it is tracked");
    let before = data_of(env, namespace, "shop").await;
    assert_eq!(before.len(), 6, "{before:#?}");
    // As version 0.1.0 left its volumes, which proves that something is deleted here at all.
    let claims = env.objects("PersistentVolumeClaim", namespace);
    claims.create(&PostParams::default(), &claim("as-before")).await.expect("it is made");

    assert_eq!(Box::pin(argo_cd(env, namespace, Deed::Prune)).await, ["PersistentVolumeClaim/as-before"]);
    assert_eq!(data_of(env, namespace, "shop").await, before);

    // Somebody labels all that the stack has, data included: then the annotations are all that keeps them.
    for name in ["shop-database", "shop-redis", "shop-bucket"] {
        claims.patch(name, &PatchParams::default(), &tracked).await.expect("it is labelled");
        let secret = format!("{name}-credentials");
        let secrets = env.objects("Secret", namespace);
        secrets.patch(&secret, &PatchParams::default(), &tracked).await.expect("it is labelled");
    }
    env.settled(namespace).await;
    assert_eq!(
        Box::pin(argo_cd(env, namespace, Deed::Prune)).await,
        ["PersistentVolumeClaim/as-before"],
        "deleted once more"
    );
    assert_eq!(data_of(env, namespace, "shop").await, before);

    let deleted = Box::pin(argo_cd(env, namespace, Deed::DeleteApplication)).await;
    assert_eq!(deleted, ["PersistentVolumeClaim/as-before", "RorunStack/shop"]);
    env.until("the stack is gone", async || env.stacks(namespace).get_opt("shop").await.expect("an answer").is_none())
        .await;
    assert_eq!(data_of(env, namespace, "shop").await, before);
}

/// `shop-database` is the name of a volume of the one, and of the other stack.
pub async fn of_two_stacks_with_like_names_each_has_its_own_data(env: &TestEnv) {
    let namespace = "alike";
    env.namespace(namespace).await;
    let mut spec = json!({"environment": "Development", "deletionPolicy": "Delete", "api": {"image": "rorun-api:1"}});
    for name in ["shop", "shop-database"] {
        let stack =
            json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack", "metadata": {"name": name}, "spec": spec});
        let params = PatchParams::apply("user").force();
        env.stacks(namespace).patch(name, &params, &Patch::Apply(&stack)).await.expect("the stack is applied");
        env.until(&format!("{name} has its data"), async || data_of(env, namespace, name).await.len() == 6).await;
        spec["deletionPolicy"] = json!("Retain");
    }
    env.settled(namespace).await;
    let (one, other) = (data_of(env, namespace, "shop").await, data_of(env, namespace, "shop-database").await);
    assert!(one.contains_key("PersistentVolumeClaim/shop-database"), "{one:#?}");
    assert!(other.contains_key("PersistentVolumeClaim/shop-database-database"), "{other:#?}");
    assert!(other.keys().all(|name| !one.contains_key(name)), "{one:#?} {other:#?}");
    env.stacks(namespace).delete("shop", &DeleteParams::background()).await.expect("it is deleted");
    env.until("the stack is gone", async || env.stacks(namespace).get_opt("shop").await.expect("an answer").is_none())
        .await;
    // What takes the finalizer off a claim that nobody uses does not run here.
    let left = data_of(env, namespace, "shop").await;
    assert!(left.values().all(|(_, _, goes)| *goes), "{left:#?}");
    assert_eq!(data_of(env, namespace, "shop-database").await, other);
}

/// All that a version before set on data, by the field manager that it had: version 0.1.0 is played by what it left.
async fn as_by_0_1_0(env: &TestEnv, namespace: &str) {
    for kind in ["PersistentVolumeClaim", "Secret"] {
        let api = env.objects(kind, namespace);
        let retained = ListParams::default().labels("rorun.app/retained=true");
        for object in api.list(&retained).await.expect("a list") {
            let (name, label) = (object.name_any(), |key: &str| object.labels().get(key).cloned());
            let mut body = json!({"apiVersion": "v1", "kind": kind, "metadata": {
                "name": name,
                "labels": {
                    "app.kubernetes.io/component": label("app.kubernetes.io/component"),
                    "app.kubernetes.io/instance": "shop",
                    "app.kubernetes.io/managed-by": "rorun-operator",
                    "app.kubernetes.io/name": label("app.kubernetes.io/name"),
                    "app.kubernetes.io/part-of": "rorun",
                    "rorun.app/retained": "true",
                },
                "annotations": {
                    "rorun.app/applied-hash": "0123456789abcdef01234567",
                    "rorun.app/stack-uid": object.annotations().get("rorun.app/stack-uid"),
                },
            }});
            if kind == "Secret" {
                body["data"] = object.data["data"].clone();
                body["type"] = json!("Opaque");
            } else {
                let spec = &object.data["spec"];
                body["spec"] = json!({"accessModes": spec["accessModes"], "resources": spec["resources"]});
            }
            let params = PatchParams::apply("rorun-operator").force();
            let left = api.patch(&name, &params, &Patch::Apply(&body)).await.expect("it is applied");
            assert!(!left.labels().contains_key("rorun.app/stack"), "{left:#?}");
            assert!(!left.annotations().contains_key("rorun.app/credentials-digest"), "{left:#?}");
        }
    }
}

/// Each object of 0.1.0 is written once, nothing else is, and then nothing more. Credentials that differ from what the
/// application was told are believed by nobody.
pub async fn data_of_0_1_0_are_taken_over(env: &TestEnv) {
    let operator = env.operator().await;
    let (namespace, changed, cut) = ("taken-over", "taken-over-changed", "taken-over-cut");
    for namespace in [namespace, changed, cut] {
        env.namespace(namespace).await;
        env.apply(namespace, development()).await;
    }
    let suspended = "taken-over-suspended";
    env.namespace(suspended).await;
    let mut spec = development();
    env.apply(suspended, spec.clone()).await;
    spec["suspend"] = json!(true);
    env.apply(suspended, spec).await;
    operator.kill();
    for namespace in [namespace, changed, cut, suspended] {
        as_by_0_1_0(env, namespace).await;
    }
    let other = Patch::Merge(json!({"stringData": {"password": "changed-by-hand-before-the-upgrade"}}));
    let secrets = env.objects("Secret", changed);
    secrets.patch("shop-redis-credentials", &PatchParams::default(), &other).await.expect("it is changed");
    // Here nothing tells any more what the application was told, and its pods are there.
    env.delete("Secret", cut, "shop-connection").await;
    some_pods_of_the_api(env, cut).await;
    let (mark, before) = (env.mark(), env.children(namespace).await);
    let operator = env.operator().await;
    env.until("the data have their new label", async || data_of(env, namespace, "shop").await.len() == 6).await;
    env.settled(namespace).await;
    let mut writes = env.writes(namespace, mark);
    writes.sort();
    let of = |kind: &str, end: &str| {
        ["bucket", "database", "redis"].map(|component| format!("patch {kind}/shop-{component}{end}"))
    };
    assert_eq!(writes, [of("persistentvolumeclaims", ""), of("secrets", "-credentials")].concat());
    are_the_same_but_for_labels(&before, &env.children(namespace).await);

    let message = env.until_reason(changed, "RedisReady", "CredentialsChanged").await;
    assert!(message.contains("secret/shop-redis-credentials") && message.contains("REDIS_PASSWORD"), "{message}");
    assert_eq!(env.condition(changed, "Stalled").await.1, "CredentialsChanged");
    env.settled(changed).await;
    let touched = |write: &String| write.contains("redis") || write.contains("connection");
    assert_eq!(env.writes(changed, mark).into_iter().filter(touched).collect::<Vec<_>>(), Vec::<String>::new());
    env.until_reason(cut, "DatabaseReady", "CredentialsChanged").await;
    env.settled(cut).await;
    assert!(env.objects("Secret", cut).get_opt("shop-connection").await.expect("an answer").is_none(), "it was made");
    assert_eq!(env.writes(cut, mark), Vec::<String>::new());

    // What an upgrade would only relabel is as the spec asks for.
    assert_eq!(env.condition(suspended, "DatabaseReady").await.1, "Progressing");
    assert_eq!(env.writes(suspended, mark), Vec::<String>::new());

    operator.kill();
    let mark = env.mark();
    let operator = env.operator().await;
    env.settled(namespace).await;
    assert_eq!(env.writes(namespace, mark), Vec::<String>::new());
    drop(operator);
}

/// Since no server ever serves here, the operator has made none.
async fn some_pods_of_the_api(env: &TestEnv, namespace: &str) {
    let labels = json!({"app.kubernetes.io/managed-by": "rorun-operator", "app.kubernetes.io/instance": "shop",
        "app.kubernetes.io/component": "api"});
    let api = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop-api", "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
            "spec": {"containers": [{"name": "api", "image": "rorun-api:1"}]}}}});
    let api = serde_json::from_value(api).expect("a deployment");
    env.objects("Deployment", namespace).create(&PostParams::default(), &api).await.expect("it is made");
}

/// Nothing was made anew, no spec and no value is another, and only data are without the label of all others.
fn are_the_same_but_for_labels(before: &[DynamicObject], after: &[DynamicObject]) {
    assert_eq!(before.len(), after.len());
    for (former, object) in before.iter().zip(after) {
        let what = |object: &DynamicObject| {
            let (spec, data) = (object.data["spec"].clone(), object.data["data"].clone());
            (object.types.clone().map(|types| types.kind), object.name_any(), object.uid(), spec, data)
        };
        assert_eq!(what(object), what(former));
        let retained = object.labels().contains_key("rorun.app/retained");
        assert_eq!(object.labels().contains_key("app.kubernetes.io/instance"), !retained, "{}", object.name_any());
    }
}
