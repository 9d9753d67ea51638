//! `e2e demo`, as `cargo demo`: a development stack on a cluster of this machine, to try things on.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;

use super::scenarios::{joined, set_up};
use crate::engine::{Cache, Cluster, cluster, progress, tools};
use crate::scenarios::kit::{Profile, Stack, TestCluster, Timeline, build_binaries, project};

const CLUSTER: &str = "rorun-demo";
const NAMESPACE: &str = "default";
const STACK: &str = "rorun";
const EXAMPLE: &str = "examples/development.yaml";
const HOST: &str = "api.rorun.localhost";
const READY_WITHIN: Duration = Duration::from_mins(5);

/// Options of `e2e demo`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Remove the cluster of the demonstration, with all that is in it
    #[arg(long)]
    down: bool,
}

pub(super) fn run(cache: &Cache, options: &Options) -> Result<()> {
    if options.down {
        Cluster::down(cache, CLUSTER)?;
        let left = if cluster::names(cache)?.is_empty() { "nothing is left" } else { "other clusters are left" };
        println!("{CLUSTER} is removed; {left}");
        return Ok(());
    }
    let cluster = thread::scope(|scope| {
        let building = scope.spawn(|| build_binaries(cache, Profile::Quick));
        let cluster = Cluster::up(cache, CLUSTER);
        joined(building)?;
        cluster
    })?;
    set_up(&cluster)?;
    let step = progress::Step::start(&format!("applying {EXAMPLE}"), "and waiting until the stack is Ready");
    let timeline = tokio::runtime::Runtime::new()?.block_on(stack(&cluster))?;
    step.done();
    tell(cache, &cluster, &timeline)
}

async fn stack(cluster: &Cluster) -> Result<Timeline> {
    let test_cluster = Arc::new(TestCluster::connect(cluster).await?);
    let started = Instant::now();
    let file = format!("--filename={}", project().join(EXAMPLE).display());
    test_cluster.kubectl(&["apply", "--namespace", NAMESPACE, &file]).await?;
    let stack = Stack::new(test_cluster, NAMESPACE, STACK);
    stack.ready_timeline(started, READY_WITHIN).await
}

/// Prints what runs now, and commands to try.
fn tell(cache: &Cache, cluster: &Cluster, timeline: &Timeline) -> Result<()> {
    let kubectl = tools::KUBECTL.path(cache)?;
    let folder = kubectl.parent().unwrap_or(Path::new("/")).display();
    let rows = cluster.kubectl(["get", "rstack", "--namespace", NAMESPACE]).context("failed to list the stacks")?;
    let url = format!("http://{HOST}:{}", cluster.http_port);
    println!(
        "
{rows}
{timeline}

The API answers at {url}. To look around:

  export KUBECONFIG={kubeconfig} PATH={folder}:$PATH
  curl {url}/health
  curl --data '2 bags of rice, 1500 each' {url}/receipts      # PostgreSQL, the bucket, Redis and the OCR service
  kubectl get rstack,all,ingress,pvc,secret
  kubectl explain rstack.spec.database
  kubectl delete service {STACK}-api                 # it comes back, with one write
  kubectl scale statefulset {STACK}-database --replicas=0; kubectl get rstack --watch
  kubectl delete rstack {STACK}                      # the volumes and their credentials stay:
  kubectl apply --filename={EXAMPLE}      # and are taken up again

To remove it: cargo demo -- --down",
        rows = rows.trim_end(),
        kubeconfig = cluster.kubeconfig.display(),
    );
    Ok(())
}
