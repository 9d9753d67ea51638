//! A bed, from start to the last trace of it.

use std::path::Path;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{Api, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rorun_e2e::engine::Bed;

async fn client(bed: &Bed) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(&bed.kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

fn named<T: serde::de::DeserializeOwned>(name: &str) -> Result<T> {
    Ok(serde_json::from_value(serde_json::json!({"metadata": {"name": name}}))?)
}

#[tokio::test]
async fn every_call_is_counted_and_nothing_is_left() -> Result<()> {
    let bed = Bed::start()?;
    let client = client(&bed).await?;
    let namespaces = Api::<Namespace>::all(client.clone());

    let mark = bed.mark()?;
    namespaces.create(&PostParams::default(), &named("shop")?).await?;
    namespaces.get("shop").await?;
    namespaces.get_opt("nothing").await?;
    let calls = bed.calls_since(mark)?;
    let seen: Vec<_> = calls.iter().map(|call| (call.verb.as_str(), call.name.as_str(), call.code)).collect();
    assert_eq!(seen, [("create", "shop", 201), ("get", "shop", 200), ("get", "nothing", 404)]);
    assert!(calls.iter().all(|call| call.resource == "namespaces"));

    let mark = bed.mark()?;
    assert_eq!(bed.calls_since(mark)?, []);
    for _ in 0..100 {
        namespaces.list(&ListParams::default()).await?;
    }
    assert_eq!(bed.calls_since(mark)?.len(), 100);

    let (folder, pids) = (bed.folder().to_owned(), bed.pids());
    assert_eq!(pids.len(), 2);
    drop(bed);
    assert!(!folder.exists());
    assert!(pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()));
    Ok(())
}

#[tokio::test]
async fn beds_run_side_by_side_and_do_not_see_each_other() -> Result<()> {
    let start = || tokio::task::spawn_blocking(Bed::start);
    let (one, two) = tokio::try_join!(start(), start())?;
    let (one, two) = (one?, two?);
    assert_ne!(one.url(), two.url());
    Api::<Namespace>::all(client(&one).await?).create(&PostParams::default(), &named("shop")?).await?;
    assert!(Api::<Namespace>::all(client(&two).await?).get_opt("shop").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn pod_security_is_on_and_a_controller_manager_can_be_added() -> Result<()> {
    let bed = Bed::start()?.with_controller_manager()?;
    let client = client(&bed).await?;
    Api::<ServiceAccount>::namespaced(client.clone(), "default").get("default").await?;
    let restricted = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "shop", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }))?;
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &restricted).await?;
    let privileged: Pod = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "root"}, "spec": {"containers": [{"name": "main", "image": "none"}]},
    }))?;
    let refused = Api::<Pod>::namespaced(client, "shop").create(&PostParams::default(), &privileged).await;
    let error = refused.err().context("the pod was let in")?.to_string();
    assert!(error.contains("PodSecurity"), "{error}");
    Ok(())
}
