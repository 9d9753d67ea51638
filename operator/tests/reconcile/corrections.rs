//! Pods of an earlier release that hold a wrong value are replaced, one stack at a time.

use k8s_openapi::api::{core::v1::Secret, events::v1::Event};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::env::TestEnv;

const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----\nTWFkZSBmb3IgdGVzdHM=\n-----END CERTIFICATE-----\n";
const NAMESPACES: [&str; 3] = ["corrected-a", "corrected-b", "corrected-c"];

/// Redis names an authority, as it does in stacks of 0.1.0 whose pods gave it to libpq as well.
fn spec() -> Value {
    let secret = json!({"name": "services"});
    json!({
        "environment": "Development",
        "api": {"image": "rorun-api:1"},
        "database": {"external": {"secretRef": secret}},
        "redis": {"external": {"secretRef": secret, "tls": {"caSecretRef": {"name": "services"}}}},
        "bucket": {"external": {"name": "shop", "endpoint": "http://127.0.0.1:1", "credentialsSecretRef": secret}},
    })
}

/// A stack with a Deployment as 0.1.0 left them: told of, owned, and without what is corrected.
async fn left_by_an_earlier_release(env: &TestEnv, namespace: &str) {
    env.namespace(namespace).await;
    let services = json!({"metadata": {"name": "services"}, "stringData": {
        "DATABASE_URL": "postgresql://user:none@127.0.0.1:1/shop", "REDIS_URL": "rediss://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "ca.crt": AUTHORITY,
    }});
    let secrets: Api<Secret> = Api::namespaced(env.client.clone(), namespace);
    let services = serde_json::from_value(services).expect("a Secret");
    secrets.create(&PostParams::default(), &services).await.expect("the Secret is made");
    env.submit(namespace, spec()).await;
    let stack = env.stacks(namespace).get("shop").await.expect("the stack");
    let labels = json!({"app.kubernetes.io/name": "rorun-api", "app.kubernetes.io/instance": "shop",
        "app.kubernetes.io/component": "api", "app.kubernetes.io/managed-by": "rorun-operator"});
    let selector = json!({"app.kubernetes.io/name": "rorun-api", "app.kubernetes.io/instance": "shop",
        "app.kubernetes.io/component": "api"});
    let owner = json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack", "name": "shop", "controller": true,
        "uid": stack.uid().expect("a uid")});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "shop-api", "labels": labels, "ownerReferences": [owner]},
        "spec": {"replicas": 1, "selector": {"matchLabels": selector}, "template": {
            "metadata": {"labels": labels}, "spec": {"containers": [{"name": "api", "image": "rorun-api:1"}]}}}});
    let deployment: DynamicObject = serde_json::from_value(deployment).expect("a Deployment");
    env.objects("Deployment", namespace).create(&PostParams::default(), &deployment).await.expect("it is made");
    let told = Patch::Merge(json!({"status": {"observedGeneration": stack.metadata.generation}}));
    env.stacks(namespace).patch_status("shop", &PatchParams::default(), &told).await.expect("it is told of");
}

async fn deployment(env: &TestEnv, namespace: &str) -> DynamicObject {
    env.objects("Deployment", namespace).get("shop-api").await.expect("the Deployment")
}

async fn corrected(env: &TestEnv) -> Vec<&'static str> {
    let mut corrected = Vec::new();
    for namespace in NAMESPACES {
        if deployment(env, namespace).await.annotations().contains_key("rorun.app/corrected") {
            corrected.push(namespace);
        }
    }
    corrected
}

/// As its controller would tell when the new pods serve. The old ones serve until then.
async fn roll_out(env: &TestEnv, namespace: &str) {
    let there = deployment(env, namespace).await;
    let status = json!({"status": {"observedGeneration": there.metadata.generation, "replicas": 1, "updatedReplicas": 1,
        "readyReplicas": 1, "availableReplicas": 1}});
    let patch = Patch::Merge(status);
    let deployments = env.objects("Deployment", namespace);
    deployments.patch_status("shop-api", &PatchParams::default(), &patch).await.expect("its status");
}

async fn events(env: &TestEnv, namespace: &str) -> Vec<String> {
    let api: Api<Event> = Api::namespaced(env.client.clone(), namespace);
    let all = api.list(&ListParams::default()).await.expect("a list").items;
    let of = all.into_iter().filter(|event| event.reason.as_deref() == Some("Corrected"));
    of.filter_map(|event| event.note).collect()
}

pub async fn one_stack_is_corrected_at_a_time(env: &TestEnv) {
    for namespace in NAMESPACES {
        left_by_an_earlier_release(env, namespace).await;
        roll_out(env, namespace).await;
    }
    let operator = env.operator().await;
    env.until("one is corrected", async || !corrected(env).await.is_empty()).await;
    for namespace in NAMESPACES {
        env.settled(namespace).await;
    }
    let first = corrected(env).await;
    assert_eq!(first.len(), 1, "not one at a time: {first:?}");
    let first = first[0];
    let init = deployment(env, first).await.data["spec"]["template"]["spec"]["initContainers"][0]["args"].clone();
    assert_eq!(init[1], "authorities", "{init}");
    let waits = NAMESPACES.into_iter().filter(|namespace| *namespace != first).collect::<Vec<_>>();
    for namespace in &waits {
        let there = deployment(env, namespace).await;
        assert_eq!(there.metadata.generation, Some(1), "{namespace}: one that waits is left as it is");
        let secret = env.objects("Secret", namespace).get_opt("shop-connection").await.expect("an answer");
        assert!(secret.is_none(), "{namespace}: and so is what its pods are told");
        assert!(events(env, namespace).await.is_empty());
    }
    let told = events(env, first).await;
    assert!(told.len() == 1 && told[0].contains("deployment/shop-api"), "{told:?}");

    // Its user changes the last one: that restart is the user's.
    let mut changed = spec();
    changed["api"]["image"] = json!("rorun-api:2");
    env.submit(waits[1], changed).await;
    env.until("who is changed does not wait", async || corrected(env).await.len() == 2).await;
    assert!(!corrected(env).await.contains(&waits[0]), "the turn is still the first one's");

    roll_out(env, waits[1]).await;
    roll_out(env, first).await;
    env.until("the next one is corrected", async || corrected(env).await.len() == 3).await;
    roll_out(env, waits[0]).await;

    // A new operator corrects nothing twice, and its own image is no reason to replace pods.
    for namespace in NAMESPACES {
        env.settled(namespace).await;
    }
    operator.kill();
    let mark = env.mark();
    let operator = env.operator_with(&["--agent-image=ghcr.io/rorun/rorun-operator:9.9.9"]).await;
    for namespace in NAMESPACES {
        env.settled(namespace).await;
        let writes = env.writes(namespace, mark);
        assert!(writes.iter().all(|write| !write.contains("deployments")), "{namespace}: {writes:?}");
    }
    operator.kill();
}
