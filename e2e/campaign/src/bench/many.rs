//! B4, B5 and B13: many stacks made at once, changed without end, and deleted.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use tokio::task::JoinSet;

use super::environment::{BenchEnvironment, TIMEOUT, create_stack, delete_stack};
use super::floor;
use super::load;
use super::one::reported;
use super::same;
use super::stats::{bucket_percentile, float, mean, percentile};
use super::table::{Bar, Row};
use super::template::StackName;

const QUEUE_SECONDS: &str = "workqueue_queue_duration_seconds";
const RECONCILE_SECONDS: &str = "controller_runtime_reconcile_time_seconds";
/// Stacks that come one by one, at half the load.
const HALF_LOAD_SHARE: usize = 5;

/// B4: all stacks at once; then some more, at half the rate.
pub(super) async fn burst(bench: &mut BenchEnvironment) -> Result<()> {
    bench.stop_operator().await?;
    // The client of the floor waits for no workload, and tells none.
    bench.act(false);
    let floor = same::stacks_per_second(bench).await?;
    let mark = bench.mark().await?;
    bench.fill().await?;
    let calls = bench.calls(mark).await?;
    let Some(rate) = bench.rate else { return Ok(()) };
    let objects = float(bench.template.children() + 1);
    let of_floor = |floor: f64| rate / (floor / objects);
    let what = format!("{} stacks at once, {objects} objects each", bench.stacks.len());
    let row = Row::new("B4", what, rate, "stacks/s").bar(Bar::AtLeast(0.8 * floor));
    bench.note(row.ratio(rate / floor, "same writes and watches"));
    let row = Row::new("B4", "the same against a bare client that creates", rate, "stacks/s");
    bench.note(row.ratio(of_floor(bench.floor.creates), "W / objects"));
    let row = Row::new("B4", "the same against a bare client that applies", rate, "stacks/s");
    bench.note(row.ratio(of_floor(bench.floor.applies), "applied / objects"));
    let each = float(calls.len()) / float(bench.stacks.len());
    bench.note(Row::new("B4", "calls for each, until all are ready", each, "calls").note(reported(&calls)));
    half_load(bench, rate / 2.0).await
}

async fn half_load(bench: &mut BenchEnvironment, rate: f64) -> Result<()> {
    let names = floor::names('h', (bench.stacks.len() / HALF_LOAD_SHARE).max(10));
    load::prepare(&bench.client, &bench.services, &names).await?;
    let before = bench.operator().await?.metrics().await?;
    let started = paced(&names, rate, {
        let (client, template) = (bench.client.clone(), bench.template.clone());
        move |of| {
            let (client, template) = (client.clone(), template.clone());
            async move {
                create_stack(&client, &template, &of).await?;
                Ok((of, 1, Instant::now()))
            }
        }
    })
    .await?;
    bench.statuses.until("made", (&names, TIMEOUT), |seen| seen.made.is_some()).await?;
    let after = bench.operator().await?.metrics().await?;
    let queued = bucket_percentile(&after.buckets_since(&before, QUEUE_SECONDS), 0.99).unwrap_or_default();
    let what = format!("{} more at half that rate: p99 in the queue", names.len());
    let row = Row::new("B4", what, queued, "s").bar(Bar::AtMost(1.0));
    bench.note(row.note("upper bound of its bucket"));
    let first = waited(bench, &started);
    let p99 = percentile(&first, 0.99).unwrap_or_default().as_secs_f64();
    bench.note(Row::new("B4", "p99 from the create to the first status", p99, "s"));
    bench.settle(&names).await?;
    bench.remove(&names).await
}

/// From when the answer to a change came to when the status told of it.
fn waited(bench: &BenchEnvironment, changes: &[(StackName, i64, Instant)]) -> Vec<Duration> {
    let waited = changes.iter().filter_map(|(of, generation, at)| {
        let seen = bench.statuses.of(of);
        // A status that speaks of a later generation speaks of this one too.
        let reported =
            seen.generations.iter().filter(|(observed, _)| *observed >= generation).map(|(_, at)| *at).min()?;
        Some(reported.saturating_duration_since(*at))
    });
    waited.collect()
}

/// Does something with each, so many a second, whether or not the last one is done.
async fn paced<F>(
    names: &[StackName],
    per_second: f64,
    work: impl Fn(StackName) -> F,
) -> Result<Vec<(StackName, i64, Instant)>>
where
    F: Future<Output = Result<(StackName, i64, Instant)>> + Send + 'static,
{
    let (mut running, started) = (JoinSet::new(), Instant::now());
    for (number, of) in names.iter().enumerate() {
        let due = started + Duration::from_secs_f64(float(number) / per_second);
        tokio::time::sleep_until(due.into()).await;
        running.spawn(work(of.clone()));
    }
    let mut done = Vec::new();
    while let Some(one) = running.join_next().await {
        done.push(one??);
    }
    Ok(done)
}

/// B5: changes at three quarters of the rate at which stacks can be made.
pub(super) async fn churn(bench: &mut BenchEnvironment) -> Result<()> {
    bench.fill().await?;
    bench.act(true);
    let rate = 0.75 * bench.rate.unwrap_or(1.0);
    let edits = (1..).map_while(|count| (float(count) <= rate * bench.options.churn.as_secs_f64()).then_some(count));
    let edits = edits.last().unwrap_or(1);
    let names: Vec<StackName> = bench.stacks.iter().cycle().take(edits).cloned().collect();
    let before = bench.operator().await?.metrics().await?;
    let mark = bench.mark().await?;
    let client = bench.client.clone();
    let started = Instant::now();
    let changes = paced(&names, rate, move |of| {
        let client = client.clone();
        let registry = format!("registry-{}.example.com", started.elapsed().as_millis());
        async move {
            let change = json!({"spec": {"image": {"registry": registry}}});
            let (generation, at) = load::change(&client, &of, &change).await?;
            Ok((of, generation, at))
        }
    })
    .await?;
    let took = started.elapsed();
    let stacks = bench.stacks.clone();
    bench.settle(&stacks).await?;
    let after = bench.operator().await?.metrics().await?;
    let waited = waited(bench, &changes);
    let buckets = after.buckets_since(&before, RECONCILE_SECONDS);
    let reconcile = bucket_percentile(&buckets, 0.99).unwrap_or_default();
    let what = format!("{edits} changes at {rate:.1} a second among {} stacks", stacks.len());
    let row = Row::new("B5", format!("{what}: p99 of a reconcile"), reconcile, "s").bar(Bar::AtMost(1.0));
    bench.note(row.note("upper bound of its bucket"));
    let p99 = percentile(&waited, 0.99).unwrap_or_default().as_secs_f64();
    let row = Row::new("B5", "p99 from a change to observedGeneration", p99, "s").bar(Bar::AtMost(5.0));
    bench.note(row.note(format!("{:.0} s; {} of {edits} seen", took.as_secs_f64(), waited.len())));
    let middle = mean(&waited).as_secs_f64();
    bench.note(Row::new("B5", "mean of that", middle, "s"));
    let writes = float(bench.calls(mark).await?.len()) / took.as_secs_f64();
    bench.note(Row::new("B5", "calls a second", writes, "calls").ratio(writes / bench.floor.creates, "W"));
    Ok(())
}

/// B13: deletes all stacks, half of them with their data.
pub(super) async fn delete(bench: &mut BenchEnvironment) -> Result<()> {
    bench.fill().await?;
    let stacks = std::mem::take(&mut bench.stacks);
    let (deleting, retaining) = stacks.split_at(stacks.len() / 2);
    let client = bench.client.clone();
    let policy = json!({"spec": {"deletionPolicy": "Delete"}});
    load::each(deleting, |of| async { load::change(&client, of, &policy).await.map(drop) }).await?;
    bench.operator().await?.rests().await?;
    for (policy, names) in [("Retain", retaining), ("Delete", deleting)] {
        let mark = bench.mark().await?;
        let started = Instant::now();
        load::each(names, |of| delete_stack(&client, of)).await?;
        let rests = bench.operator().await?;
        let (begun, ended) = (rests.started_at(), rests.rests().await?);
        let took = (begun + ended).saturating_duration_since(started);
        let calls = bench.calls(mark).await?;
        let writes = calls.iter().filter(|call| call.is_write()).count();
        let what = format!("delete {} stacks, {policy}: writes for each", names.len());
        let row = Row::new("B13", what, float(writes) / float(names.len()), "calls").bar(Bar::AtMost(2.0));
        bench.note(row.note(format!("until the operator rests: {:.1} s; external services", took.as_secs_f64())));
    }
    let left = load::stacks(&client, &stacks[0].namespace).list(&kube::api::ListParams::default()).await?.items.len();
    anyhow::ensure!(left == 0, "{left} stacks are still there");
    bench.stop_operator().await?;
    load::collect(&bench.client, &bench.template.objects(&stacks[0]), &stacks).await
}
