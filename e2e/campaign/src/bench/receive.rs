//! What events are compared with: the processor time that kube's own watch takes for one, when a client on a thread of its own
//! drops what it receives. An event has to be received, deciphered and read before anybody can know that it changes nothing.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::watcher;
use tokio::sync::oneshot;

use super::environment::{BenchEnvironment, TIMEOUT};
use super::procfs;
use super::stats::float;
use crate::environment::connect;

/// Does what leads to so many events of a resource, and gives the seconds that it takes to receive one. No operator may run.
pub(super) async fn seconds_per_event(
    bench: &BenchEnvironment,
    (resource, count): (ApiResource, usize),
    churn: impl Future<Output = Result<Duration>>,
) -> Result<f64> {
    let (listed, listening) = oneshot::channel();
    let kubeconfig = bench.server.kubeconfig.clone();
    let receiving = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(tokio::time::timeout(TIMEOUT, receive(kubeconfig, resource, listed, count)))?
    });
    if listening.await.is_ok() {
        churn.await?;
    }
    let took = receiving.await.context("the receiver panicked")??;
    Ok(took.as_secs_f64() / float(count))
}

/// The processor time of so many events, after the list.
async fn receive(
    kubeconfig: PathBuf,
    resource: ApiResource,
    listed: oneshot::Sender<()>,
    count: usize,
) -> Result<Duration> {
    let all = Api::<DynamicObject>::all_with(connect(&kubeconfig).await?, &resource);
    let mut events = watcher(all, watcher::Config::default()).boxed();
    while !matches!(events.next().await.context("the watch ended")??, watcher::Event::InitDone) {}
    let before = procfs::own_time()?;
    let _ = listed.send(());
    let mut received = 0;
    while received < count {
        received += usize::from(matches!(events.next().await.context("the watch ended")??, watcher::Event::Apply(_)));
    }
    Ok(procfs::own_time()?.saturating_sub(before))
}
