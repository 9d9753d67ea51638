//! The sources that `env` and `envFrom` name: how much of them is in memory, and the condition for too much.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::env::TestEnv;

const NAMESPACE: &str = "sources";
/// As many as one stack can name.
const COUNT: usize = 96;
/// About as much as the API server takes.
const SIZE: usize = 1_000_000;
/// What the chart gives to the operator, in KiB.
const LIMIT: u64 = 128 * 1024;
/// What one stack may take of it: the budget of its sources, and an object that is read beside them.
const GROWTH: u64 = 40 * 1024;

/// The workloads name so many of the `ConfigMap`s, in turn.
fn spec(count: usize) -> Value {
    let sources = |workload: usize| {
        let names = (0..count).filter(|number| number % 3 == workload);
        names.map(|number| json!({"configMapRef": {"name": format!("large-{number}")}})).collect::<Vec<_>>()
    };
    json!({
        "environment": "Development",
        "api": {"image": "rorun-api:1", "envFrom": sources(0)},
        "ocr": {"image": "rorun-ai-service:1", "envFrom": sources(1)},
        "admin": {"image": "rorun-admin:1", "envFrom": sources(2)},
    })
}

fn large(number: usize, letter: &str) -> ConfigMap {
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("large-{number}")},
        "data": {"LARGE": letter.repeat(SIZE)},
    });
    serde_json::from_value(object).expect("a ConfigMap")
}

pub async fn no_stack_fills_the_memory_of_all(env: &TestEnv) {
    env.namespace(NAMESPACE).await;
    let maps: Api<ConfigMap> = Api::namespaced(env.client.clone(), NAMESPACE);
    for number in 0..COUNT {
        maps.create(&PostParams::default(), &large(number, "a")).await.expect("the ConfigMap is made");
    }
    let operator = env.operator().await;
    let before = operator.peak_memory();
    env.submit(NAMESPACE, spec(COUNT)).await;
    for kind in ["ApiReady", "OcrReady", "AdminReady"] {
        let message = env.until_reason(NAMESPACE, kind, "TooLarge").await;
        assert!(message.contains("8 MiB") && message.contains("name fewer"), "{message}");
    }
    env.settled(NAMESPACE).await;

    // Within the budget each counts, and a change of one is seen.
    env.submit(NAMESPACE, spec(7)).await;
    env.until("the workloads are no longer held back for their sources", async || {
        env.condition(NAMESPACE, "ApiReady").await.1 != "TooLarge"
    })
    .await;
    env.settled(NAMESPACE).await;
    let mark = env.mark();
    let change = Patch::Merge(json!({"data": {"LARGE": "b".repeat(SIZE)}}));
    maps.patch("large-0", &PatchParams::default(), &change).await.expect("it is changed");
    env.until("the sources are read again", async || {
        env.calls(NAMESPACE, mark).iter().any(|call| call.resource == "configmaps" && call.name == "large-0")
    })
    .await;
    env.settled(NAMESPACE).await;
    let mark = env.mark();
    env.pause().await;
    assert!(env.calls(NAMESPACE, mark).is_empty(), "{:?}", env.calls(NAMESPACE, mark));

    let peak = operator.peak_memory();
    println!("{COUNT} ConfigMaps of {SIZE} bytes: {before} KiB before, {peak} KiB at most");
    assert!(before > 0 && peak < LIMIT, "{peak} KiB of {LIMIT}");
    assert!(peak - before < GROWTH, "{} KiB more for one stack", peak - before);
}
