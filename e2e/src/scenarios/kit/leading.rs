//! Which operator leads, and whether it has reconciled every stack.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{Observed, RELEASE, TestCluster, TestContext};
use crate::engine::cluster::OPERATOR_NAMESPACE;

/// The Lease of an operator that is gone has to expire, and pods have to start.
const LEADS_WITHIN: Duration = Duration::from_mins(2);

impl TestCluster {
    /// The value of a metric of an operator pod; of a family with labels, the sum.
    pub async fn operator_metric(&self, pod: &str, name: &str) -> Result<f64> {
        let text = self.operator_metrics(pod).await?;
        let value = |line: &str| {
            let rest = line.strip_prefix(name).filter(|rest| rest.starts_with([' ', '{']))?;
            rest.rsplit(' ').next()?.parse::<f64>().ok()
        };
        let values: Vec<f64> = text.lines().filter_map(value).collect();
        (!values.is_empty()).then(|| values.iter().sum()).with_context(|| format!("{pod} has no metric {name}"))
    }

    /// How many stacks there are in the cluster.
    pub async fn count_stacks(&self) -> Result<u32> {
        let names = self.kubectl(&["get", "rorunstacks", "--all-namespaces", "--output=name"]).await?;
        Ok(u32::try_from(names.lines().count())?)
    }
}

impl TestContext {
    /// Waits until both operators are ready and one of them leads; gives its pod.
    pub async fn wait_leader(&self) -> Result<String> {
        self.wait("one of two ready operators to lead", LEADS_WITHIN, async || {
            let (ready, leader) = (self.ready_operators().await?, self.leader().await?);
            if ready.len() != 2 || !ready.contains(&leader) {
                return Ok(Observed::NotYet(format!("{} are ready, {leader} holds the Lease", ready.join(" and "))));
            }
            // A Lease may still be that of the process before, in the same pod.
            let leads = self.operator_metric(&leader, "leader_election_master_status").await?;
            Ok(if leads > 0.0 {
                Observed::Met(leader)
            } else {
                Observed::NotYet(format!("{leader} does not lead yet"))
            })
        })
        .await
    }

    /// Waits until the leader has reconciled each stack of the cluster once and is idle; returns its pod.
    pub async fn wait_settled_leader(&self) -> Result<String> {
        let (leader, stacks) = (self.wait_leader().await?, self.count_stacks().await?);
        self.wait(&format!("{leader} to reconcile {stacks} stacks"), LEADS_WITHIN, async || {
            let reconciles = self.operator_metric(&leader, "controller_runtime_reconcile_total").await?;
            let running = self.operator_metric(&leader, "controller_runtime_active_workers").await?;
            let settled = reconciles >= f64::from(stacks) && running == 0.0;
            Ok(Observed::when(settled, format!("{reconciles} reconciles, {running} running")))
        })
        .await?;
        Ok(leader)
    }

    /// Kills the operators as [`TestCluster::kill_operators`] does, and lets new pods take their place: the kubelet would wait
    /// longer before each restart, and this test does not ask how long.
    pub async fn kill_and_replace_operators(&self) -> Result<()> {
        self.kill_operators().await?;
        let of_release = format!("--selector=app.kubernetes.io/instance={RELEASE}");
        let delete = ["delete", "pods", "--namespace", OPERATOR_NAMESPACE, &of_release];
        self.kubectl(&[&delete[..], &["--grace-period=0", "--force", "--wait=false"]].concat()).await?;
        Ok(())
    }
}
