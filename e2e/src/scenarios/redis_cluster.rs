//! A Redis in cluster mode, six pods that the operator did not make: a stack that does not say so is told, and with `clusterMode` the
//! application's queue works on it, also when the node that holds it dies.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use super::kit::{App, Observed, Receipt, Stack, TestContext, ready, until};
use crate::engine::image::data::VALKEY;
use crate::engine::progress;

const READY_WITHIN: Duration = Duration::from_mins(3);
/// Three nodes that hold slots, and a replica of each.
const NODES: usize = 6;
/// How soon a node that is silent counts as gone, in milliseconds.
const NODE_TIMEOUT: &str = "2000";
/// How long the nodes and the application may take to go on without one.
const FAILOVER_WITHIN: Duration = Duration::from_mins(1);
const PASSWORD: &str = "of-the-nodes";

pub(super) async fn run(test: &TestContext) -> Result<()> {
    let nodes = Nodes::start(test).await?;
    let url = format!("redis://default:{PASSWORD}@redis.{}.svc:6379", nodes.namespace);
    test.secret("redis", json!({"REDIS_URL": url})).await?;
    let stack = test
        .apply_example("development.yaml", |stack| {
            stack["spec"]["redis"] = json!({"external": {"secretRef": {"name": "redis"}}});
        })
        .await?;
    let told = stack.wait_condition("RedisReady", "False", "ClusterModeMismatch", READY_WITHIN).await?;
    ensure!(told.message.contains("set redis.external.clusterMode to true"), "{}", told.message);

    stack.patch_spec(json!({"redis": {"external": {"clusterMode": true}}})).await?;
    stack.wait_ready(READY_WITHIN).await?;
    let app = test.app(&stack).await?;
    let receipt = test.first_receipt(&app, "2 crates of plantain, 1500").await?;
    app.check(&receipt).await?;
    let key = format!("{}receipts", prefix(&stack).await?);
    let queued = nodes.ask(test, &nodes.pods[0], &["-c", "LRANGE", &key, "0", "-1"]).await?;
    ensure!(queued.lines().any(|id| id == receipt.id), "the list {key} has {queued}");
    a_node_dies(test, &stack, &nodes, (&app, &receipt, &key)).await
}

/// The one that holds the queue: its replica takes over with what it has, and the application goes on.
async fn a_node_dies(
    test: &TestContext,
    stack: &Stack,
    nodes: &Nodes,
    (app, receipt, key): (&App, &Receipt, &str),
) -> Result<()> {
    let holder = nodes.holder_of(test, key).await?.context("no node holds the queue")?;
    test.wait("its replica to have the queue", FAILOVER_WITHIN, async || {
        let said = nodes.ask(test, &holder, &["WAIT", "1", "1000"]).await?;
        Ok(Observed::when(said.trim() == "1", said))
    })
    .await?;
    let killed = Instant::now();
    test.api::<Pod>(&nodes.namespace).delete(&holder, &DeleteParams::default().grace_period(0)).await?;
    let next = test
        .wait("another node to hold the queue", FAILOVER_WITHIN, async || {
            let now = nodes.holder_of(test, key).await?.filter(|now| *now != holder);
            Ok(now.map_or_else(|| Observed::NotYet("none does".to_owned()), Observed::Met))
        })
        .await?;
    let taken = test
        .wait("the application to take a receipt without that node", FAILOVER_WITHIN, async || {
            Ok(match app.send("1 basket of tomatoes, 400").await {
                Ok(taken) => Observed::Met(taken),
                Err(error) => Observed::NotYet(format!("{error:#}")),
            })
        })
        .await?;
    let took = killed.elapsed().as_secs_f64();
    progress::note(&format!("{holder} died: {next} holds the queue, and a receipt was in it {took:.1} s later"));
    app.check(&taken).await?;
    // The one from before was on the replica.
    app.check(receipt).await?;
    // A stack with the rest of the nodes is as ready as before.
    stack.wait_ready(READY_WITHIN).await.map(drop)
}

async fn prefix(stack: &Stack) -> Result<String> {
    let connection = stack.connection().await?;
    ensure!(connection.get("REDIS_CLUSTER").is_some_and(|value| value == "true"), "the application is not told");
    connection.get("REDIS_KEY_PREFIX").cloned().context("the application is told no prefix")
}

/// The nodes, in a namespace of theirs.
struct Nodes {
    namespace: String,
    pods: Vec<String>,
}

impl Nodes {
    /// Starts them, makes a cluster of them, and waits until it serves.
    async fn start(test: &TestContext) -> Result<Nodes> {
        let namespace = test.namespace_called("nodes").await?;
        test.apply_objects(
            &json!({"apiVersion": "v1", "kind": "List", "items": [service(&namespace), pods(&namespace)]}),
        )
        .await?;
        let api = test.api::<Pod>(&namespace);
        let addresses = until(test, &namespace, "the nodes to run", READY_WITHIN, async || {
            let pods = api.list(&ListParams::default()).await?;
            let up: Vec<_> = pods.iter().filter(|pod| ready(pod)).filter_map(address).collect();
            Ok(if up.len() == NODES { Observed::Met(up) } else { Observed::NotYet(format!("{} of {NODES}", up.len())) })
        })
        .await?;
        let nodes = Nodes { namespace, pods: (0..NODES).map(|number| format!("redis-{number}")).collect() };
        let create = ["--cluster", "create", "--cluster-replicas", "1", "--cluster-yes"];
        let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
        nodes.ask(test, &nodes.pods[0], &[&create[..2], &addresses, &create[2..]].concat()).await?;
        until(test, &nodes.namespace, "each node to serve in the cluster", READY_WITHIN, async || {
            let mut states = Vec::new();
            for pod in &nodes.pods {
                states.push(nodes.ask(test, pod, &["CLUSTER", "INFO"]).await?);
            }
            let known = |state: &&String| state.contains("cluster_state:ok") && state.contains("cluster_known_nodes:6");
            let serving = states.iter().filter(known).count();
            Ok(Observed::when(serving == NODES, format!("{serving} of {NODES}")))
        })
        .await?;
        Ok(nodes)
    }

    async fn ask(&self, test: &TestContext, pod: &str, command: &[&str]) -> Result<String> {
        let login = format!("REDISCLI_AUTH={PASSWORD}");
        test.exec(&self.namespace, pod, &[&["env", &login, "redis-cli"], command].concat()).await
    }

    /// The pod that serves a list. Any other leads to it, one that is gone says nothing, and one that has just come knows of no cluster.
    async fn holder_of(&self, test: &TestContext, list: &str) -> Result<Option<String>> {
        for pod in &self.pods {
            let serves =
                self.ask(test, pod, &["LLEN", list]).await.is_ok_and(|said| said.trim().parse::<u64>().is_ok());
            if serves {
                return Ok(Some(pod.clone()));
            }
        }
        Ok(None)
    }
}

/// Where a node answers, for the others.
fn address(pod: &Pod) -> Option<String> {
    Some(format!("{}:6379", pod.status.as_ref()?.pod_ip.as_ref()?))
}

/// What the URL names: any of the nodes tells a client of the others.
fn service(namespace: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "redis", "namespace": namespace},
        "spec": {"selector": {"app": "redis"}, "ports": [{"port": 6379}]},
    })
}

fn pods(namespace: &str) -> Value {
    let args = [
        "--cluster-enabled",
        "yes",
        "--cluster-node-timeout",
        NODE_TIMEOUT,
        "--requirepass",
        PASSWORD,
        "--masterauth",
        PASSWORD,
        "--save",
        "",
        "--dir",
        "/data",
    ];
    let container = json!({
        "name": "redis",
        "image": VALKEY,
        "imagePullPolicy": "IfNotPresent",
        "args": args,
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
        "readinessProbe": {"tcpSocket": {"port": 6379}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    });
    let identity = json!({
        "runAsNonRoot": true,
        "runAsUser": 999,
        "runAsGroup": 999,
        "fsGroup": 999,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "redis", "namespace": namespace},
        "spec": {
            "serviceName": "redis",
            "replicas": NODES,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {"app": "redis"}},
            "template": {"metadata": {"labels": {"app": "redis"}}, "spec": {
                "automountServiceAccountToken": false,
                "securityContext": identity,
                "containers": [container],
                "volumes": [{"name": "data", "emptyDir": {}}],
            }},
        },
    })
}
