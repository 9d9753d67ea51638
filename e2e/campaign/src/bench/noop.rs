//! B2, B6 and B10: what many stacks cost when there is nothing to do, and when one thing is.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::runtime::watcher;
use serde_json::json;

use super::environment::{BenchEnvironment, TIMEOUT};
use super::load;
use super::one::reported;
use super::operator::Operator;
use super::receive;
use super::stats::{float, percentile};
use super::table::{Bar, Row};
use super::template::{StackName, api_of};
use super::watch::stack_resource;

/// Drifts that are repaired, one after the other.
const DRIFTS: usize = 200;
/// How often settled stacks are looked at without a cause, and for how long that is measured. Whatever else the operator does
/// takes it the same time however often that is, so it is often.
const RESYNC: (&str, Duration) = ("--resync-period=1s", Duration::from_secs(20));
/// Microseconds that a reconcile with nothing to do may take.
const BAR: f64 = 500.0;
/// How often is looked whether it has begun.
const POLL: Duration = Duration::from_millis(200);
/// How long a repair may take before it is given up.
const REPAIRED_WITHIN: Duration = Duration::from_secs(30);
/// What another client sets an autoscaler to.
const DRIFTED: i32 = 3;

/// B2: labels on all stacks, reconciles that find nothing to do, and statuses of all their Deployments that change nothing.
pub(super) async fn nothing(bench: &mut BenchEnvironment) -> Result<()> {
    bench.fill().await?;
    bench.stop_operator().await?;
    let (client, stacks, deployments) = (bench.client.clone(), bench.stacks.clone(), deployments(bench));
    let label = |team: &'static str| {
        let label = json!({"metadata": {"labels": {"team": team}}});
        let (client, stacks) = (&client, &stacks);
        async move { load::each(stacks, |of| async { load::change(client, of, &label).await.map(drop) }).await }
    };
    let statuses = |message: &'static str| {
        load::each(&deployments, move |(api, name)| async move {
            let condition = json!({
                "type": "Available", "status": "True", "reason": "MinimumReplicasAvailable", "message": message,
            });
            let status = Patch::Merge(json!({"status": {"conditions": [condition]}}));
            api.patch_status(name, &PatchParams::default(), &status).await?;
            Ok(())
        })
    };
    let (of_stacks, of_deployments) = ((stack_resource(), stacks.len()), (deployment_resource(), deployments.len()));
    let labelled = receive::seconds_per_event(bench, of_stacks, label("nobody")).await?;
    let reported = receive::seconds_per_event(bench, of_deployments, statuses("as ever")).await?;
    for (what, seconds) in [("label", labelled), ("status", reported)] {
        bench.note(Row::new(
            "B2",
            format!("a bare client: processor time to receive such a {what}"),
            seconds * 1e6,
            "µs",
        ));
    }
    let events = ("a label on each", stacks.len(), labelled);
    let event = nothing_of(bench, events, None, label("somebody")).await?;
    // No event of the kind that others make leads to a reconcile, so with its event one is seen by an annotation that counts.
    let unconfirmed = json!({"metadata": {"annotations": {"rorun.app/confirm-delete": "nothing"}}});
    nothing_of(
        bench,
        ("an annotation that counts on each", stacks.len(), labelled),
        Some(event),
        load::each(&stacks, |of| async { load::change(&client, of, &unconfirmed).await.map(drop) }),
    )
    .await?;
    let what = ("a status of each of their Deployments", deployments.len(), reported);
    nothing_of(bench, what, None, statuses("as before")).await?;
    resync(bench).await
}

/// What a reconcile takes that no event asks for.
async fn resync(bench: &mut BenchEnvironment) -> Result<()> {
    bench.stop_operator().await?;
    let (period, measured) = RESYNC;
    let arguments = ["--leader-elect=false", period];
    let operator = Operator::start_with(&bench.server.kubeconfig, &bench.log("resync"), &arguments)?;
    operator.ready().await?;
    let stacks = float(bench.stacks.len());
    // Every stack is reconciled once after the start, and the resyncs never end.
    let begun = async {
        while operator.metrics().await?.reconciles() < 3.0 * stacks {
            tokio::time::sleep(POLL).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(TIMEOUT, begun).await.context("not every stack was looked at without a cause")??;
    let (before, mark) = (operator.used().await?, bench.mark().await?);
    tokio::time::sleep(measured).await;
    let processor = operator.processor()?;
    let reconciles = operator.metrics().await?.reconciles() - before.metrics.reconciles();
    let calls = bench.calls(mark).await?;
    operator.stop().await?;
    anyhow::ensure!(reconciles >= stacks, "only {reconciles} reconciles without a cause");
    let what = format!("a resync of each of {} stacks", bench.stacks.len());
    let row = Row::new("B2", format!("{what}: calls"), float(calls.len()), "calls").bar(Bar::AtMost(0.0));
    bench.note(if calls.is_empty() { row } else { row.note(reported(&calls)) });
    let each = processor.saturating_sub(before.processor).as_secs_f64() / reconciles;
    let row = Row::new("B2", format!("{what}: processor time of a reconcile"), each * 1e6, "µs");
    let row = row.bar(Bar::AtMost(BAR)).ratio(each * bench.floor.creates, "1/W");
    bench.note(row.note(format!("{reconciles:.0} reconciles in {} s, and all else in that time", measured.as_secs())));
    Ok(())
}

/// What so many events take the operator, in seconds for each. They make a reconcile each if there is a time that such an event takes
/// without one, and none otherwise.
async fn nothing_of(
    bench: &mut BenchEnvironment,
    (what, events, received): (&str, usize, f64),
    without_pass: Option<f64>,
    churn: impl Future<Output = Result<Duration>>,
) -> Result<f64> {
    // One that has just been started has read what it needs by now.
    let before = bench.operator().await?.used().await?;
    let mark = bench.mark().await?;
    churn.await?;
    let operator = bench.operator().await?;
    operator.rests().await?;
    // Before its metrics are asked for, which takes it time as well.
    let processor = operator.processor()?;
    let metrics = operator.metrics().await?;
    let calls = bench.calls(mark).await?;
    let what = format!("{what} of {} stacks", bench.stacks.len());
    let row = Row::new("B2", format!("{what}: calls"), float(calls.len()), "calls").bar(Bar::AtMost(0.0));
    bench.note(if calls.is_empty() { row } else { row.note(reported(&calls)) });
    let used = processor.saturating_sub(before.processor).as_secs_f64();
    let reconciles = metrics.reconciles() - before.metrics.reconciles();
    let expected = if without_pass.is_some() { float(events) } else { 0.0 };
    let stray = (reconciles - expected).abs();
    anyhow::ensure!(stray <= 0.01 * float(events), "{what}: {reconciles} reconciles, not {expected}");
    let each = used / float(events);
    let row = Row::new(
        "B2",
        format!("{what}: processor time of an event, with its reconcile if it causes one"),
        each * 1e6,
        "µs",
    );
    // Nobody can know that an event changes nothing before it was received.
    let bar = without_pass.map_or(BAR.max(received * 1e6), |event| BAR + event * 1e6);
    let row = row.bar(Bar::AtMost(bar)).ratio(each / received, "receiving it");
    bench.note(row.note(format!("{events} events, {reconciles:.0} reconciles")));
    Ok(each)
}

fn deployment_resource() -> ApiResource {
    ApiResource::erase::<Deployment>(&())
}

fn deployments(bench: &BenchEnvironment) -> Vec<(Api<DynamicObject>, String)> {
    let of = |of: &StackName| {
        let objects = bench.template.objects(of).into_iter().filter(|object| object["kind"] == "Deployment");
        let named = |object: serde_json::Value| {
            (api_of(&bench.client, &object), object["metadata"]["name"].as_str().unwrap_or_default().to_owned())
        };
        objects.map(named).collect::<Vec<_>>()
    };
    bench.stacks.iter().flat_map(of).collect()
}

/// B6: another client changes an autoscaler, and the operator sets it back.
pub(super) async fn drift(bench: &mut BenchEnvironment) -> Result<()> {
    bench.fill().await?;
    bench.operator().await?;
    let mark = bench.mark().await?;
    let all = Api::<HorizontalPodAutoscaler>::all(bench.client.clone());
    let mut events = watcher(all, watcher::Config::default()).boxed();
    while !matches!(events.next().await.context("the watch ended")??, watcher::Event::InitDone) {}
    let mut repairs = Vec::new();
    let drifts = DRIFTS.min(bench.stacks.len() * 2);
    for number in 0..drifts {
        // Far from each other.
        let of = &bench.stacks[number * 7919 % bench.stacks.len()];
        let (api, name) = (
            Api::<HorizontalPodAutoscaler>::namespaced(bench.client.clone(), &of.namespace),
            format!("{}-api", of.name),
        );
        let drift = Patch::Merge(json!({"spec": {"maxReplicas": DRIFTED}}));
        api.patch(&name, &PatchParams::default(), &drift).await?;
        let drifted = Instant::now();
        let repaired = async {
            let mut seen = false;
            while let Some(event) = events.next().await {
                let watcher::Event::Apply(found) = event? else { continue };
                if found.metadata.name.as_ref() != Some(&name)
                    || found.metadata.namespace.as_ref() != Some(&of.namespace)
                {
                    continue;
                }
                let drifted = found.spec.is_some_and(|spec| spec.max_replicas == DRIFTED);
                if seen && !drifted {
                    return Ok(());
                }
                seen |= drifted;
            }
            bail!("the watch ended");
        };
        tokio::time::timeout(REPAIRED_WITHIN, repaired).await.with_context(|| format!("{name} was not repaired"))??;
        repairs.push(drifted.elapsed());
    }
    bench.operator().await?.rests().await?;
    let calls = bench.calls(mark).await?;
    let p99 = percentile(&repairs, 0.99).unwrap_or_default().as_secs_f64() * 1e3;
    let what = format!("repair of a drift, {drifts} of them among {} stacks", bench.stacks.len());
    let one = 1e3 / bench.floor.applies;
    bench.note(Row::new("B6", format!("{what}: p99"), p99, "ms").bar(Bar::AtMost(250.0)).ratio(p99 / one, "1/applied"));
    let p50 = percentile(&repairs, 0.5).unwrap_or_default().as_secs_f64() * 1e3;
    bench.note(Row::new("B6", "of these, p50", p50, "ms").ratio(p50 / one, "1/applied"));
    let each = float(calls.len()) / float(drifts);
    bench.note(Row::new("B6", "calls for each", each, "calls").bar(Bar::AtMost(1.0)));
    Ok(())
}

/// B10: nothing happens for a while.
pub(super) async fn idle(bench: &mut BenchEnvironment) -> Result<()> {
    bench.fill().await?;
    bench.stop_operator().await?;
    let lease = ["--leader-elect=true", "--pod-name=idle"];
    let operator = Operator::start_with(&bench.server.kubeconfig, &bench.log("idle"), &lease)?;
    operator.ready().await?;
    operator.rests().await?;
    let (mark, before) = (bench.mark().await?, operator.processor()?);
    let started = Instant::now();
    tokio::time::sleep(bench.options.idle).await;
    let (took, after) = (started.elapsed(), operator.processor()?);
    let mut calls = bench.all_calls(mark).await?;
    calls.retain(|call| call.user_agent.starts_with("rorun-operator/"));
    operator.stop().await?;
    let share = 100.0 * after.saturating_sub(before).div_duration_f64(took);
    let minutes = took.as_secs_f64() / 60.0;
    let stacks = bench.stacks.len();
    let row = Row::new("B10", format!("idle with {stacks} stacks: of a core"), share, "%").bar(Bar::AtMost(0.2));
    bench.note(
        row.note(format!(
            "{:.0} s; it asks 3 services of each stack, at most four a second in all",
            took.as_secs_f64()
        )),
    );
    let leases = calls.iter().filter(|call| call.resource == "leases").count();
    let row = Row::new("B10", "calls a minute", float(calls.len()) / minutes, "calls").bar(Bar::AtMost(35.0));
    bench.note(row.note(format!("{leases} of {} for the lease", calls.len())));
    Ok(())
}
