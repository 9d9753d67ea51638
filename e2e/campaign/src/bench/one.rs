//! B1 and B3: the calls that one stack costs, when it is made and when one field of it is changed.

use std::time::Duration;

use anyhow::{Context, Result};
use rorun_e2e::engine::test_server::AuditCall;
use serde_json::json;

use super::environment::{BenchEnvironment, TIMEOUT, create_stack};
use super::floor;
use super::load;
use super::stats::{float, median};
use super::table::{Bar, Row};
use super::template::StackName;

/// Stacks that are made one after the other; the one in the middle counts.
const TIMES: usize = 5;

/// B1: makes one stack, some times over, beside one that is there.
pub(super) async fn create(bench: &mut BenchEnvironment) -> Result<()> {
    let (names, others) = (floor::names('a', TIMES + 1), floor::names('f', TIMES + 1));
    load::make_namespace(&bench.client, &others[0].namespace).await?;
    // The first makes the operator read the Secrets that all of them name.
    bench.make(&names[..1]).await?;
    let children = float(bench.template.children());
    let (mut calls, mut took, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for (of, other) in names[1..].iter().zip(&others) {
        let mark = bench.mark().await?;
        create_stack(&bench.client, &bench.template, of).await?;
        bench.statuses.until("made", (std::slice::from_ref(of), TIMEOUT), |seen| seen.made.is_some()).await?;
        bench.operator().await?.rests().await?;
        let all = bench.all_calls(mark).await?;
        let started = all.iter().find(|call| call.resource == "rorunstacks" && call.verb == "create");
        let started = started.context("nobody made the stack")?.at;
        let ours: Vec<AuditCall> = bench.calls(mark).await?;
        let last = ours.iter().filter(|call| call.code == 201 && call.resource != "events").map(|call| call.at).max();
        took.push(Duration::try_from(last.context("nothing was made")?.duration_since(started))?);
        calls.push(ours);
        bare.push(floor::one_stack(&bench.client, &bench.template.foreign_objects(other)).await?);
    }
    let most = calls.iter().max_by_key(|calls| calls.len()).map(Vec::as_slice).unwrap_or_default();
    let row = Row::new("B1", "create one stack: calls", float(most.len()), "calls").bar(Bar::AtMost(children + 3.0));
    bench.note(row.ratio(float(most.len()) / children, "children").note(reported(most)));
    let (took, bare) = (median(&took).unwrap_or_default(), median(&bare).unwrap_or_default());
    let ratio = took.div_duration_f64(bare);
    bench.note(Row::new("B1", "until its last child is made", took.as_secs_f64() * 1e3, "ms"));
    bench.note(Row::new("B1", "times a bare client", ratio, "x").bar(Bar::AtMost(3.0)).ratio(ratio, "bare client"));
    bench.remove(&names).await?;
    load::collect(&bench.client, &bench.template.objects(&others[0]), &others).await
}

/// B3: changes the field that most children depend on.
pub(super) async fn change(bench: &mut BenchEnvironment) -> Result<()> {
    let change = json!({"image": {"registry": "elsewhere.example.com"}});
    let dependent = float(bench.template.changed_by(&change)?);
    let names = [StackName::new('k', 0)];
    bench.make(&names).await?;
    bench.settle(&names).await?;
    bench.act(false);
    let mark = bench.mark().await?;
    let (generation, _) = load::change(&bench.client, &names[0], &json!({ "spec": change })).await?;
    bench.statuses.until("observed", (&names, TIMEOUT), |seen| seen.generations.contains_key(&generation)).await?;
    bench.operator().await?.rests().await?;
    let calls = bench.calls(mark).await?;
    let row = Row::new("B3", format!("change a field of {dependent} children"), float(calls.len()), "calls");
    bench.note(
        row.bar(Bar::AtMost(dependent + 1.0)).ratio(float(calls.len()) / dependent, "children").note(reported(&calls)),
    );
    bench.remove(&names).await
}

/// What calls there were, in short.
pub(super) fn reported(calls: &[AuditCall]) -> String {
    let count = |of: &dyn Fn(&AuditCall) -> bool| calls.iter().filter(|call| of(call)).count();
    let status = count(&|call| call.subresource == "status");
    let events = count(&|call| call.resource == "events");
    let reads = count(&|call| !call.is_write());
    let refused = count(&|call| call.code >= 400);
    let objects = calls.len() - status - events - reads;
    format!("{objects} objects, {status} statuses, {events} events, {reads} reads; {refused} of them refused")
}
