//! B16: stacks of which every other one uses kinds of other projects. Nothing plays their controllers, so these stacks wait for their
//! database with all of its objects made; what a child costs does not depend on that.

use anyhow::Result;
use rorun_e2e::engine::schemas::{CLUSTERS, OBJECT_STORES, POOLERS, SCHEDULED_BACKUPS, SERVICE_MONITORS};
use serde_json::json;
use tokio::task::spawn_blocking;

use super::environment::{BenchEnvironment, create_stack, delete_stack};
use super::floor;
use super::load;
use super::one::reported;
use super::start;
use super::stats::float;
use super::table::{Bar, Row};
use super::template::StackName;
use crate::environment::establish;

const ARGUMENTS: [&str; 4] = [
    "--leader-elect=false",
    "--optional-api=prometheusOperator",
    "--optional-api=cloudNativePG",
    "--optional-api=barmanCloud",
];
/// Beside its children: a list of the volumes of an earlier stack, and what its status says first, then, and at last.
const BESIDE_CHILDREN: f64 = 5.0;

/// Makes the stacks beside an operator that watches the optional kinds, and starts it again.
pub(super) async fn half(bench: &mut BenchEnvironment) -> Result<()> {
    for schema in [&SERVICE_MONITORS, &CLUSTERS, &POOLERS, &SCHEDULED_BACKUPS, &OBJECT_STORES] {
        let text = spawn_blocking(|| schema.read()).await??;
        establish(&bench.client, &text).await?;
    }
    bench.stop_operator().await?;
    bench.arguments = &ARGUMENTS;
    let measured = measured(bench).await;
    bench.stop_operator().await?;
    bench.arguments = BenchEnvironment::ARGUMENTS;
    measured
}

async fn measured(bench: &mut BenchEnvironment) -> Result<()> {
    let using = bench.template.with(&json!({
        "database": {"external": null, "cloudNativePG": {
            "instances": 2, "version": "17", "storage": {"size": "10Gi"}, "pooler": {"instances": 2},
        }},
        "monitoring": {"scrape": true},
        "backup": {"destination": {"external": bench.template.bucket()}, "pointInTime": {"days": 7}},
    }))?;
    let names = floor::names('o', bench.options.stacks);
    let (even, odd): (Vec<_>, Vec<_>) = (0..).zip(names.iter().cloned()).partition(|(number, _)| number % 2 == 0);
    let stacks = |part: Vec<(u32, StackName)>| part.into_iter().map(|(_, of)| of).collect::<Vec<_>>();
    let (without, with) = (stacks(even), stacks(odd));
    let none = start::least(bench, 0).await?;

    bench.make(&without).await?;
    bench.settle(&without).await?;
    let mark = bench.mark().await?;
    load::each(&with, |of| create_stack(&bench.client, &using, of)).await?;
    bench.operator().await?.rests().await?;
    let calls = bench.calls(mark).await?;
    let made = float(calls.iter().filter(|call| call.code == 201 && call.resource != "events").count());
    let (each, children) = (float(calls.len()) / float(with.len()), made / float(with.len()));
    let what = format!("{} of {} stacks use optional kinds: calls of each", with.len(), names.len());
    let row = Row::new("B16", what, each, "calls").bar(Bar::AtMost(children + BESIDE_CHILDREN));
    bench.note(row.ratio(each / children, "children").note(reported(&calls)));

    let all = start::least(bench, names.len()).await?;
    let total = float(without.len() * bench.template.children()) + made;
    let each = (all.own - none.own) / total / 1024.0;
    let row = Row::new("B16", format!("memory of each of {total} children"), each, "KiB");
    bench.note(row.bar(Bar::AtMost(start::KIB_PER_CHILD)));
    let row = Row::new("B16", "writes of a start beside them", float(all.writes), "calls");
    bench.note(row.bar(Bar::AtMost(0.0)));

    load::each(&names, |of| delete_stack(&bench.client, of)).await?;
    load::collect(&bench.client, &using.objects(&names[0]), &names).await
}
