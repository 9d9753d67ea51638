//! Kinds of other projects: a cluster that has none, gets one, loses it, and does not grant it.

use std::collections::BTreeSet;

use kube::{ResourceExt, api::DeleteParams};
use rorun_e2e::engine::{schemas::SERVICE_MONITORS, test_server::Mark};
use rorun_operator::{
    cli::rbac::{self, RbacArgs},
    objects::OPTIONAL_APIS,
};
use serde_json::{Value, json};

use super::{
    drift,
    env::{TestEnv, development},
};

const MONITOR: &str = "shop-monitoring";
/// How an operator is started that may use the kind, and asks for it as often as a test can wait for.
const SWITCHED_ON: [&str; 4] = ["--optional-api", "prometheusOperator", "--discovery-period", "1s"];

fn scraped() -> Value {
    let mut spec = development();
    spec["monitoring"] =
        json!({"scrape": true, "labels": {"release": "prometheus", "app.kubernetes.io/component": "x"}});
    spec
}

async fn definition() -> String {
    let read = tokio::task::spawn_blocking(|| SERVICE_MONITORS.read()).await.expect("a thread");
    read.expect("the published definition")
}

/// What the operator called since a mark: the paths that are of no namespace, and the resources that are of one.
fn asked(env: &TestEnv, mark: Mark) -> BTreeSet<String> {
    let calls = env.all_calls(mark).into_iter();
    calls
        .map(|call| if call.resource.is_empty() { call.uri } else { format!("{} {}", call.verb, call.resource) })
        .collect()
}

fn asks(env: &TestEnv, mark: Mark) -> usize {
    env.all_calls(mark).iter().filter(|call| call.uri == "/apis").count()
}

/// The rest of the stack is as without the kind, and does not wait for it.
async fn the_rest_is_there(env: &TestEnv, namespace: &str) {
    env.settled(namespace).await;
    let rest: BTreeSet<_> = env.children(namespace).await.iter().map(ResourceExt::name_any).collect();
    for name in ["shop-database", "shop-redis", "shop-connection", "shop-ingress", "shop-backup"] {
        assert!(rest.contains(name), "{name} is not in {rest:?}");
    }
    let (_, _, message) = env.condition(namespace, "Ready").await;
    assert!(!message.starts_with("monitoring"), "{message}");
}

pub async fn a_kind_that_is_switched_off_is_not_asked_for(env: &TestEnv) {
    let namespace = "switched-off";
    env.namespace(namespace).await;
    let (definition, mark) = (definition().await, env.mark());
    env.apply_yaml(&definition).await;
    let operator = env.operator().await;
    env.apply(namespace, scraped()).await;
    let message = env.until_reason(namespace, "MonitoringReady", "MissingAPI").await;
    assert!(message.contains("optionalApis.prometheusOperator"), "{message}");
    the_rest_is_there(env, namespace).await;
    let calls = asked(env, mark);
    assert!(!calls.contains("/apis") && !calls.iter().any(|call| call.contains("servicemonitors")), "{calls:?}");
    drop(operator);
    // It would go on to wait for the kind.
    env.stacks(namespace).delete("shop", &DeleteParams::default()).await.expect("it is deleted");
    env.delete_yaml(&definition).await;
    env.until("the kind is gone", async || !is_served(env).await).await;
}

async fn is_served(env: &TestEnv) -> bool {
    env.objects("ServiceMonitor", "default").list(&kube::api::ListParams::default()).await.is_ok()
}

pub async fn a_kind_comes_and_goes_without_a_restart(env: &TestEnv) {
    let (namespace, other) = ("comes-and-goes", "beside");
    for name in [namespace, other] {
        env.namespace(name).await;
    }
    let operator = env.operator_with(&SWITCHED_ON).await;
    let mark = env.mark();
    env.apply(other, development()).await;
    env.pause().await;
    assert_eq!(asks(env, mark), 0, "no stack waits for a kind");

    env.apply(namespace, scraped()).await;
    let message = env.until_reason(namespace, "MonitoringReady", "MissingAPI").await;
    assert!(message.contains("install the Prometheus Operator") && message.contains("spec.monitoring"), "{message}");
    the_rest_is_there(env, namespace).await;
    let mark = env.mark();
    env.until("the operator asks for the kind again", async || asks(env, mark) >= 2).await;
    assert_eq!(asked(env, mark), BTreeSet::from(["/apis".to_owned()]));

    let definition = definition().await;
    env.apply_yaml(&definition).await;
    env.until_reason(namespace, "MonitoringReady", "Ready").await;
    env.settled(namespace).await;
    let monitors = env.objects("ServiceMonitor", namespace);
    let monitor = monitors.get(MONITOR).await.expect("the monitor");
    assert_eq!(monitor.data["spec"]["endpoints"], json!([{"port": "http", "path": "/metrics"}]));
    assert_eq!(monitor.labels()["release"], "prometheus");
    assert_eq!(monitor.labels()["app.kubernetes.io/component"], "monitoring", "a label of the operator wins");
    let mark = env.mark();
    env.settled(namespace).await;
    assert!(env.all_calls(mark).is_empty(), "{:?}", asked(env, mark));

    let altered = json!({"spec": {"endpoints": [{"port": "http", "path": "/other"}]}});
    drift::repaired(env, (namespace, "ServiceMonitor", MONITOR), "altered", altered).await;
    drift::made_again(env, (namespace, "ServiceMonitor", MONITOR)).await;

    let mark = env.mark();
    env.apply(namespace, development()).await;
    assert_eq!(env.edited(namespace, mark), [format!("delete servicemonitors/{MONITOR}")]);
    assert_eq!(
        env.condition(namespace, "MonitoringReady").await.0,
        "",
        "what the spec does not ask for has no condition"
    );
    env.apply(namespace, scraped()).await;
    env.until_reason(namespace, "MonitoringReady", "Ready").await;

    the_kind_goes(env, (namespace, other), &definition).await;
    env.apply_yaml(&definition).await;
    env.until_reason(namespace, "MonitoringReady", "Ready").await;
    monitors.get(MONITOR).await.expect("the monitor is made again");
    assert!(!operator.said("panicked"));
    drop(operator);
    nothing_is_written_after_a_restart(env, namespace).await;
    env.stacks(namespace).delete("shop", &DeleteParams::default()).await.expect("it is deleted");
    env.delete_yaml(&definition).await;
    env.until("the kind is gone", async || !is_served(env).await).await;
}

/// With the objects of the kind. Other stacks go on, and nothing is asked in a loop.
async fn the_kind_goes(env: &TestEnv, (namespace, other): (&str, &str), definition: &str) {
    env.delete_yaml(definition).await;
    env.until_reason(namespace, "MonitoringReady", "MissingAPI").await;
    the_rest_is_there(env, namespace).await;
    let mark = env.mark();
    let mut spec = development();
    spec["admin"]["image"] = json!("rorun-admin:2");
    env.apply(other, spec).await;
    assert_eq!(env.edited(other, mark), ["patch deployments/shop-admin"]);
    let mark = env.mark();
    env.until("the operator asks for the kind again", async || asks(env, mark) >= 2).await;
    assert_eq!(asked(env, mark), BTreeSet::from(["/apis".to_owned()]));
}

async fn nothing_is_written_after_a_restart(env: &TestEnv, namespace: &str) {
    let (mark, before) = (env.mark(), env.versions(namespace).await);
    let operator = env.operator_with(&SWITCHED_ON).await;
    env.until("the stacks are reconciled", async || operator.reconciles().await >= 2).await;
    env.settled(namespace).await;
    assert_eq!(env.versions(namespace).await, before);
    assert_eq!(env.writes(namespace, mark), Vec::<String>::new());
    assert_eq!(asks(env, mark), 1, "once at the start");
}

/// By Roles in the namespace alone, as `watchNamespaces` has them.
pub async fn a_lack_of_rights_concerns_one_component(env: &TestEnv) {
    const USER: &str = "system:serviceaccount:rorun-system:rorun-operator";
    let namespace = "no-right";
    env.namespace(namespace).await;
    env.namespace("rorun-system").await;
    let definition = definition().await;
    env.apply_yaml(&definition).await;
    env.until("the kind is served", async || is_served(env).await).await;
    let mut rights = RbacArgs {
        watch_namespaces: vec![namespace.to_owned()],
        namespace: "rorun-system".to_owned(),
        service_account: "rorun-operator".to_owned(),
        lease_name: "rorun-operator".to_owned(),
        optional_apis: Vec::new(),
    };
    env.apply_yaml(&rbac::yaml(&rights).expect("YAML")).await;
    // It becomes ready without the right.
    let operator = env.operator_as(USER, &[&SWITCHED_ON[..], &["--watch-namespace", namespace]].concat()).await;
    env.apply(namespace, scraped()).await;
    let message = env.until_reason(namespace, "MonitoringReady", "Forbidden").await;
    assert!(message.contains("rorun-operator rbac --optional-api=prometheusOperator"), "{message}");
    the_rest_is_there(env, namespace).await;

    rights.optional_apis = OPTIONAL_APIS.to_vec();
    env.apply_yaml(&rbac::yaml(&rights).expect("YAML")).await;
    env.until_reason(namespace, "MonitoringReady", "Ready").await;
    env.objects("ServiceMonitor", namespace).get(MONITOR).await.expect("the monitor");
    drop(operator);
}
