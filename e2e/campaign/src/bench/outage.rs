//! B9 and B11: what happens when the operator that leads ends, and when the API server does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::Api;
use kube::runtime::wait::await_condition;
use rorun_e2e::engine::process::Run;
use rorun_e2e::engine::test_server::{AuditCall, Mark};
use rorun_e2e::scenarios::kit::operator_binary;
use serde_json::{Value, json};
use tokio::task::{JoinHandle, spawn_blocking};

use super::environment::BenchEnvironment;
use super::load;
use super::one::reported;
use super::operator::Operator;
use super::stats::float;
use super::table::{Bar, Row};
use super::template::StackName;

/// The first leads, the second follows.
const PAIR: [&str; 2] = ["bench-first", "bench-second"];
const LEASE: &str = "rorun-operator";
/// A stack is changed this often meanwhile.
const EVERY: Duration = Duration::from_millis(50);
/// How long a hand-over may take before it is given up.
const HANDED_OVER_WITHIN: Duration = Duration::from_mins(1);
const TICK: Duration = Duration::from_millis(200);
/// How long calls are counted after the API server is back: longer than the pauses before a watch is tried again.
const AFTERWARDS: Duration = Duration::from_secs(30);

/// B9: the leader is asked to end, then another one is killed; stacks are changed all the while.
pub(super) async fn hand_over(bench: &mut BenchEnvironment) -> Result<()> {
    bench.fill().await?;
    bench.stop_operator().await?;
    for (signal, limit) in [("SIGTERM", 2.0), ("SIGKILL", 17.0)] {
        let first = start(bench, PAIR[0]).await?;
        leads(bench, PAIR[0]).await?;
        let second = start(bench, PAIR[1]).await?;
        let mark = bench.mark().await?;
        let churn = churn(bench.client.clone(), bench.stacks.clone());
        writes_of(bench, mark, PAIR[0]).await?;
        if signal == "SIGTERM" {
            first.stop().await?;
        } else {
            first.kill().await?;
        }
        let writes = writes_of(bench, mark, PAIR[1]).await?;
        churn.abort();
        second.rests().await?;
        second.stop().await?;
        let [last, next] = [
            writes.iter().filter(|call| call.user == PAIR[0]).map(|call| call.at).max(),
            writes.iter().filter(|call| call.user == PAIR[1]).map(|call| call.at).min(),
        ];
        let (last, next) = (last.context("the first never wrote")?, next.context("the second never wrote")?);
        let gap = next.duration_since(last).as_secs_f64();
        let row = Row::new("B9", format!("{signal}: last write of one to first of the other"), gap, "s");
        bench.note(row.bar(Bar::AtMost(limit)));
        let overlap = writes.iter().filter(|call| call.user == PAIR[0] && call.at >= next).count();
        bench.note(
            Row::new("B9", format!("{signal}: writes of both at once"), float(overlap), "calls").bar(Bar::AtMost(0.0)),
        );
    }
    Ok(())
}

async fn start(bench: &BenchEnvironment, name: &str) -> Result<Operator> {
    let arguments = ["--leader-elect=true", &format!("--pod-name={name}")];
    let operator = Operator::start_with(&bench.kubeconfig_of(name)?, &bench.log(name), &arguments)?;
    operator.ready().await?;
    Ok(operator)
}

async fn leads(bench: &BenchEnvironment, name: &str) -> Result<()> {
    let leases = Api::<Lease>::namespaced(bench.client.clone(), "default");
    let holds = |lease: Option<&Lease>| {
        let holder = lease.and_then(|lease| lease.spec.as_ref()?.holder_identity.as_deref());
        holder.is_some_and(|holder| holder.starts_with(name))
    };
    let wait = await_condition(leases, LEASE, holds);
    tokio::time::timeout(HANDED_OVER_WITHIN, wait).await.with_context(|| format!("{name} never leads"))??;
    Ok(())
}

/// Changes one stack after the other, until it is aborted.
fn churn(client: Client, stacks: Vec<StackName>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let started = Instant::now();
        for of in stacks.iter().cycle() {
            let registry = format!("registry-{}.example.com", started.elapsed().as_millis());
            // What cannot be changed now makes no writes either.
            let _ = load::change(&client, of, &json!({"spec": {"image": {"registry": registry}}})).await;
            tokio::time::sleep(EVERY).await;
        }
    })
}

/// Waits until an operator has written; gives all that operators have written since the mark.
async fn writes_of(bench: &BenchEnvironment, mark: Mark, name: &str) -> Result<Vec<AuditCall>> {
    let deadline = Instant::now() + HANDED_OVER_WITHIN;
    loop {
        let mut calls = bench.calls(mark).await?;
        calls.retain(|call| call.is_write() && call.resource != "events");
        if calls.iter().any(|call| call.user == name) {
            return Ok(calls);
        }
        if Instant::now() > deadline {
            bail!("{name} never writes");
        }
        tokio::time::sleep(TICK).await;
    }
}

/// B11: the API server is killed and comes back.
pub(super) async fn apiserver(bench: &mut BenchEnvironment) -> Result<()> {
    bench.fill().await?;
    let before = bench.operator().await?.metrics().await?;
    let mark = bench.mark().await?;
    let server = Arc::clone(&bench.server);
    let started = Instant::now();
    spawn_blocking(move || server.restart_apiserver()).await??;
    let down = started.elapsed();
    let operator = bench.operator().await?;
    tokio::time::sleep(AFTERWARDS).await;
    operator.rests().await?;
    let after = operator.metrics().await?;
    let calls = bench.calls(mark).await?;
    let count = |code: Option<&str>| {
        let of = |metrics: &super::metrics::Metrics| {
            metrics.sum("rest_client_requests_total", code.map(|code| ("code", code)))
        };
        of(&after) - of(&before)
    };
    let unanswered = count(Some("<error>"));
    let asked = count(None) - unanswered;
    let refused = asked - count(Some("200"));
    let streams = streams()?;
    let what = format!("API server killed and back, {} stacks: lists and watches for each kind", bench.stacks.len());
    let row = Row::new("B11", what, asked / float(streams), "calls").bar(Bar::AtMost(3.0));
    bench.note(row.note(format!(
        "{asked:.0} of {streams} streams in {:.0} s, {refused:.0} of them refused; {unanswered:.0} more found no server, in {:.1} s without one",
        AFTERWARDS.as_secs_f64(),
        down.as_secs_f64(),
    )));
    let writes: Vec<AuditCall> = calls.into_iter().filter(AuditCall::is_write).collect();
    let row = Row::new("B11", "writes", float(writes.len()), "calls").bar(Bar::AtMost(0.0));
    bench.note(if writes.is_empty() { row } else { row.note(reported(&writes)) });
    Ok(())
}

/// How many streams of events the operator reads: one for each resource that it may watch, and one more each for the metadata
/// of Secrets and `ConfigMaps` of others.
fn streams() -> Result<usize> {
    let rules = Run::new(operator_binary()?, ["rbac"]).output().context("failed to ask for the rules")?;
    let mut watched = BTreeSet::new();
    for document in rules.split("\n---").map(str::trim).filter(|document| !document.is_empty()) {
        let role: Value = serde_saphyr::from_str(document)?;
        for rule in role["rules"].as_array().into_iter().flatten() {
            let names = |field: &str| rule[field].as_array().into_iter().flatten().filter_map(Value::as_str);
            if names("verbs").any(|verb| verb == "watch") {
                watched.extend(names("resources").map(str::to_owned));
            }
        }
    }
    anyhow::ensure!(!watched.is_empty(), "the operator watches nothing");
    Ok(watched.len() + 2)
}
