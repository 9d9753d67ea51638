//! What is changed by hand, and what belongs to others.

use kube::{
    ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::env::{TestEnv, development, plural};

/// A field that the operator sets, by kind, and another value.
const ALTERED: [(&str, &str, &str); 9] = [
    ("ServiceAccount", "shop-admin", r#"{"automountServiceAccountToken": true}"#),
    ("Secret", "shop-connection", r#"{"data": {"NODE_ENV": "eA=="}}"#),
    ("PersistentVolumeClaim", "shop-redis", r#"{"metadata": {"annotations": {"rorun.app/stack-uid": "x"}}}"#),
    ("Service", "shop-admin", r#"{"spec": {"selector": {"app.kubernetes.io/component": "x"}}}"#),
    // With one label more it selects nothing.
    ("Service", "shop-redis", r#"{"spec": {"selector": {"team": "shop"}}}"#),
    ("StatefulSet", "shop-redis", r#"{"spec": {"replicas": 3}}"#),
    ("Deployment", "shop-admin", r#"{"spec": {"replicas": 7}}"#),
    ("CronJob", "shop-backup", r#"{"spec": {"schedule": "1 1 1 1 1"}}"#),
    ("Ingress", "shop-ingress", r#"{"spec": {"rules": [{"host": "other.example.com"}]}}"#),
];

pub async fn every_kind_is_repaired_with_one_write(env: &TestEnv) {
    let namespace = "drift";
    env.namespace(namespace).await;
    env.apply(namespace, development()).await;
    for (kind, name, altered) in ALTERED {
        let patch: Value = serde_json::from_str(altered).expect("JSON");
        repaired(env, (namespace, kind, name), "altered", patch).await;
        // The label of data that names their stack is another.
        let stack = if kind == "PersistentVolumeClaim" { "rorun.app/stack" } else { "app.kubernetes.io/instance" };
        let stomped = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null, stack: "x"}}});
        repaired(env, (namespace, kind, name), "its labels stomped", stomped).await;
        if kind != "PersistentVolumeClaim" {
            made_again(env, (namespace, kind, name)).await;
        }
    }
    env.settled(namespace).await;
}

pub(super) async fn repaired(env: &TestEnv, (namespace, kind, name): (&str, &str, &str), how: &str, patch: Value) {
    let api = env.objects(kind, namespace);
    let before = wanted(&api.get(name).await.expect("the object"));
    let mark = env.mark();
    api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.expect("it is altered");
    let what = format!("{kind}/{name}, {how}, is as before");
    env.until(&what, async || wanted(&api.get(name).await.expect("the object")) == before).await;
    env.pause().await;
    assert_eq!(env.writes(namespace, mark), [format!("patch {}/{name}", plural(kind))], "{kind} {how}");
}

pub(super) async fn made_again(env: &TestEnv, (namespace, kind, name): (&str, &str, &str)) {
    let api = env.objects(kind, namespace);
    let before = api.get(name).await.expect("the object");
    let mark = env.mark();
    api.delete(name, &DeleteParams::background()).await.expect("it is deleted");
    env.until(&format!("{kind}/{name} is made again"), async || {
        api.get_opt(name)
            .await
            .expect("an answer")
            .is_some_and(|now| now.uid() != before.uid() && wanted(&now) == wanted(&before))
    })
    .await;
    env.pause().await;
    assert_eq!(env.writes(namespace, mark), [format!("patch {}/{name}", plural(kind))], "{kind} deleted");
}

/// An object without what the API server adds.
fn wanted(object: &DynamicObject) -> Value {
    let mut value = json!({"labels": object.labels(), "annotations": object.annotations(), "data": object.data});
    let owner: Vec<_> = object.owner_references().iter().map(|owner| owner.uid.clone()).collect();
    value["owner"] = json!(owner);
    if let Some(data) = value["data"].as_object_mut() {
        data.remove("status");
    }
    if let Some(spec) = value.pointer_mut("/data/spec").and_then(Value::as_object_mut) {
        for assigned in ["clusterIP", "clusterIPs", "volumeName"] {
            spec.remove(assigned);
        }
    }
    value
}

pub async fn a_foreign_object_is_refused_and_left_alone(env: &TestEnv) {
    let namespace = "foreign";
    env.namespace(namespace).await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop-redis"}, "spec": {"ports": [{"port": 1}]}});
    let api = env.objects("Service", namespace);
    let foreign: DynamicObject = serde_json::from_value(service).expect("a service");
    let made = api.create(&PostParams::default(), &foreign).await.expect("it is made");
    env.submit(namespace, development()).await;
    let message = env.until_reason(namespace, "RedisReady", "NameTaken").await;
    assert!(message.contains("service/shop-redis") && message.contains("left alone"), "{message}");
    let now = api.get("shop-redis").await.expect("it is there");
    assert_eq!(now.resource_version(), made.resource_version(), "it was touched");
    api.delete("shop-redis", &DeleteParams::default()).await.expect("the user takes it away");
    env.until_reason(namespace, "RedisReady", "Progressing").await;
}

pub async fn what_the_spec_leaves_out_is_pruned_and_nothing_else(env: &TestEnv) {
    let namespace = "prune";
    env.namespace(namespace).await;
    env.apply(namespace, development()).await;
    // It bears our labels, and nobody controls it: only its owner's uid makes an object ours to delete.
    let lookalike = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "lookalike", "labels": {
        "app.kubernetes.io/managed-by": "rorun-operator", "app.kubernetes.io/instance": "shop", "app.kubernetes.io/component": "admin"}}});
    let lookalike: DynamicObject = serde_json::from_value(lookalike).expect("a config map");
    env.objects("ConfigMap", namespace).create(&PostParams::default(), &lookalike).await.expect("it is made");
    let mark = env.mark();
    let mut spec = development();
    let members = spec.as_object_mut().expect("an object");
    members.remove("admin");
    members.insert("ingress".to_owned(), json!({"host": "api.example.com"}));
    env.apply(namespace, spec).await;
    let mut writes = env.edited(namespace, mark);
    writes.sort();
    let expected = [
        "delete deployments/shop-admin",
        "delete serviceaccounts/shop-admin",
        "delete services/shop-admin",
        "patch ingresses/shop-ingress",
        "patch secrets/shop-connection",
    ];
    assert_eq!(writes, expected);
}

pub async fn the_autoscaler_takes_over_and_gives_back_without_a_jump(env: &TestEnv) {
    let namespace = "scale";
    env.namespace(namespace).await;
    let replicas = async || {
        let deployment = env.objects("Deployment", namespace).get("shop-admin").await.expect("the deployment");
        deployment.data.pointer("/spec/replicas").and_then(Value::as_i64)
    };
    let mut spec = development();
    spec["admin"]["replicas"] = json!(5);
    env.apply(namespace, spec.clone()).await;
    assert_eq!(replicas().await, Some(5));
    spec["admin"] = json!({"image": "rorun-admin:1", "autoscaling": {"minReplicas": 2, "maxReplicas": 9}});
    env.apply(namespace, spec.clone()).await;
    assert_eq!(replicas().await, Some(5), "the hand-over must not reset the number");
    // The autoscaler decides.
    let scaled = Patch::Merge(json!({"spec": {"replicas": 8}}));
    env.objects("Deployment", namespace).patch("shop-admin", &PatchParams::apply("autoscaler"), &scaled).await.ok();
    let params = PatchParams { field_manager: Some("autoscaler".to_owned()), ..PatchParams::default() };
    env.objects("Deployment", namespace).patch("shop-admin", &params, &scaled).await.expect("it scales");
    let mark = env.mark();
    env.settled(namespace).await;
    assert_eq!((replicas().await, env.writes(namespace, mark)), (Some(8), Vec::new()));
    spec["admin"]["image"] = json!("rorun-admin:2");
    env.apply(namespace, spec.clone()).await;
    assert_eq!(replicas().await, Some(8), "a rollout must not reset the number");
    spec["admin"] = json!({"image": "rorun-admin:2", "replicas": 3});
    env.apply(namespace, spec).await;
    assert_eq!(replicas().await, Some(3));
}

pub async fn a_suspended_stack_is_left_as_it_is(env: &TestEnv) {
    let namespace = "suspend";
    env.namespace(namespace).await;
    env.apply(namespace, development()).await;
    let mut spec = development();
    spec["suspend"] = json!(true);
    env.apply(namespace, spec).await;
    let mark = env.mark();
    env.delete("Service", namespace, "shop-admin").await;
    env.settled(namespace).await;
    assert_eq!(env.writes(namespace, mark), Vec::<String>::new());
    assert_eq!(env.condition(namespace, "Suspended").await.0, "True");
    let message = env.until_reason(namespace, "AdminReady", "Suspended").await;
    assert!(message.contains("service/shop-admin") && message.contains("spec.suspend"), "{message}");
    assert_eq!(env.condition(namespace, "Ready").await.0, "False");
}
