//! A test server, from its start to the removal of its last trace.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::await_condition;
use kube::{Client, Config};
use rorun_e2e::engine::TestServer;
use rorun_e2e::fake_controllers::FakeControllers;

async fn client(server: &TestServer) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(&server.kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

fn named<T: serde::de::DeserializeOwned>(name: &str) -> Result<T> {
    Ok(serde_json::from_value(serde_json::json!({"metadata": {"name": name}}))?)
}

#[tokio::test]
async fn every_call_is_counted_and_nothing_is_left() -> Result<()> {
    let server = TestServer::start()?;
    let client = client(&server).await?;
    let namespaces = Api::<Namespace>::all(client.clone());

    let mark = server.mark()?;
    namespaces.create(&PostParams::default(), &named("shop")?).await?;
    namespaces.get("shop").await?;
    namespaces.get_opt("nothing").await?;
    let calls = server.calls_since(mark)?;
    let observed: Vec<_> = calls.iter().map(|call| (call.verb.as_str(), call.name.as_str(), call.code)).collect();
    assert_eq!(observed, [("create", "shop", 201), ("get", "shop", 200), ("get", "nothing", 404)]);
    assert!(calls.iter().all(|call| call.resource == "namespaces"));

    let mark = server.mark()?;
    assert_eq!(server.calls_since(mark)?, []);
    for _ in 0..100 {
        namespaces.list(&ListParams::default()).await?;
    }
    assert_eq!(server.calls_since(mark)?.len(), 100);

    let (folder, pids) = (server.folder().to_owned(), server.pids());
    assert_eq!(pids.len(), 2);
    drop(server);
    assert!(!folder.exists());
    assert!(pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()));
    Ok(())
}

#[tokio::test]
async fn test_servers_run_side_by_side_and_do_not_see_each_other() -> Result<()> {
    let start = || tokio::task::spawn_blocking(TestServer::start);
    let (one, two) = tokio::try_join!(start(), start())?;
    let (one, two) = (one?, two?);
    assert_ne!(one.url(), two.url());
    Api::<Namespace>::all(client(&one).await?).create(&PostParams::default(), &named("shop")?).await?;
    assert!(Api::<Namespace>::all(client(&two).await?).get_opt("shop").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn pod_security_is_on_and_a_controller_manager_can_be_added() -> Result<()> {
    let server = TestServer::start()?.with_controller_manager()?;
    let client = client(&server).await?;
    Api::<ServiceAccount>::namespaced(client.clone(), "default").get("default").await?;
    let restricted = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "shop", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }))?;
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &restricted).await?;
    // Without it pods are refused for another reason.
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), "shop");
    let made = |account: Option<&ServiceAccount>| account.is_some();
    within("the service account is made", Box::pin(await_condition(accounts, "default", made))).await?;
    let privileged: Pod = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "root"}, "spec": {"containers": [{"name": "main", "image": "none"}]},
    }))?;
    let refused = Api::<Pod>::namespaced(client, "shop").create(&PostParams::default(), &privileged).await;
    let error = refused.err().context("the pod was let in")?.to_string();
    assert!(error.contains("PodSecurity"), "{error}");
    Ok(())
}

#[tokio::test]
async fn an_api_server_that_was_killed_comes_back_with_what_it_had() -> Result<()> {
    let server = TestServer::start()?;
    let namespaces = Api::<Namespace>::all(client(&server).await?);
    namespaces.create(&PostParams::default(), &named("shop")?).await?;
    let (mark, pids) = (server.mark()?, server.pids());
    server.restart_apiserver()?;
    namespaces.get("shop").await?;
    // The log goes on where it was.
    assert!(server.calls_since(mark)?.iter().any(|call| call.verb == "get" && call.name == "shop"));
    assert_eq!(server.pids().iter().filter(|pid| pids.contains(pid)).count(), 1);

    server.freeze_etcd()?;
    let stuck = tokio::time::timeout(Duration::from_secs(1), namespaces.get("shop")).await;
    stuck.expect_err("there was an answer without etcd");
    server.thaw_etcd()?;
    namespaces.get("shop").await?;
    Ok(())
}

#[tokio::test]
async fn fake_controllers_make_workloads_ready_where_no_pods_run() -> Result<()> {
    let server = TestServer::start()?;
    let client = client(&server).await?;
    let _controllers = FakeControllers::start(client.clone(), Duration::ZERO);
    let sets = Api::<StatefulSet>::namespaced(client.clone(), "default");
    sets.create(&PostParams::default(), &workload("postgres")?).await?;
    let deployments = Api::<Deployment>::namespaced(client, "default");
    deployments.create(&PostParams::default(), &workload("api")?).await?;

    let rolled_out = |deployment: Option<&Deployment>| {
        let status = deployment.and_then(|deployment| deployment.status.as_ref());
        status.is_some_and(|status| status.observed_generation == Some(1) && status.available_replicas == Some(2))
    };
    within("the Deployment is rolled out", Box::pin(await_condition(deployments.clone(), "api", rolled_out))).await?;
    let is_served = |set: Option<&StatefulSet>| {
        let status = set.and_then(|set| set.status.as_ref());
        status.is_some_and(|status| status.ready_replicas == Some(2) && status.update_revision.is_some())
    };
    within("the StatefulSet serves", Box::pin(await_condition(sets, "postgres", is_served))).await?;

    let change = Patch::Merge(serde_json::json!({"spec": {"replicas": 3}}));
    deployments.patch("api", &PatchParams::default(), &change).await?;
    let again = |deployment: Option<&Deployment>| {
        let status = deployment.and_then(|deployment| deployment.status.as_ref());
        status.is_some_and(|status| status.observed_generation == Some(2) && status.available_replicas == Some(3))
    };
    within("the change is rolled out", Box::pin(await_condition(deployments, "api", again))).await
}

async fn within<T>(what: &str, wait: impl Future<Output = Result<T, kube::runtime::wait::Error>>) -> Result<()> {
    tokio::time::timeout(Duration::from_secs(30), wait).await.with_context(|| format!("in vain: {what}"))??;
    Ok(())
}

fn workload<T: serde::de::DeserializeOwned>(name: &str) -> Result<T> {
    let labels = serde_json::json!({"app": name, "app.kubernetes.io/managed-by": "rorun-operator"});
    Ok(serde_json::from_value(serde_json::json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": 2,
            "serviceName": name,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "main", "image": "none"}]},
            },
        },
    }))?)
}
