//! The floor of events: the processor time that kube's own watch takes for one, when a client on a thread of its own drops what
//! it receives. An event has to be received, deciphered and read before anybody can know that it changes nothing.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use kube::api::{Api, DynamicObject};
use kube::runtime::watcher;
use serde_json::json;
use tokio::sync::oneshot;

use super::field::{Field, PATIENCE};
use super::load;
use super::procfs;
use super::watch::stack_resource;
use crate::campaign::connect;

/// Labels each stack, and gives the seconds that it takes to receive such an event. No operator may run.
pub(super) async fn seconds_per_event(field: &Field) -> Result<f64> {
    let (client, stacks) = (&field.client, &field.stacks);
    let (listed, listening) = oneshot::channel();
    let (kubeconfig, count) = (field.bed.kubeconfig.clone(), stacks.len());
    let receiving = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(tokio::time::timeout(PATIENCE, receive(kubeconfig, listed, count)))?
    });
    if listening.await.is_ok() {
        let label = json!({"metadata": {"labels": {"team": "nobody"}}});
        load::each(stacks, |of| async { load::change(client, of, &label).await.map(drop) }).await?;
    }
    let took = receiving.await.context("the receiver panicked")??;
    Ok(took.div_duration_f64(Duration::from_secs(1)) / super::stats::float(count))
}

/// The processor time of so many events, after the list.
async fn receive(kubeconfig: PathBuf, listed: oneshot::Sender<()>, count: usize) -> Result<Duration> {
    let all = Api::<DynamicObject>::all_with(connect(&kubeconfig).await?, &stack_resource());
    let mut events = watcher(all, watcher::Config::default()).boxed();
    while !matches!(events.next().await.context("the watch ended")??, watcher::Event::InitDone) {}
    let before = procfs::own_time()?;
    let _ = listed.send(());
    for _ in 0..count {
        events.next().await.context("the watch ended")??;
    }
    Ok(procfs::own_time()?.saturating_sub(before))
}
