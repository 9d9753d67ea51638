//! B7 and B8: what it takes to start beside so many stacks, and the memory that this needs.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::environment::BenchEnvironment;
use super::floor;
use super::load;
use super::operator::Operator;
use super::procfs;
use super::stats::float;
use super::table::{Bar, Row};

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * 1024.0;
/// Secrets and ConfigMaps of others, for each thousand stacks.
const FOREIGN: usize = 20;
/// The memory that a child may take.
pub(super) const KIB_PER_CHILD: f64 = 2.5;
/// Starts whose least memory counts where a little matters.
const STARTS: usize = 3;

/// Seconds to be ready, by the number of stacks that there may be at most.
const READY: [(usize, f64); 3] = [(0, 0.1), (1000, 3.0), (5000, 15.0)];

/// What a start came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    steady: f64,
    /// Of this what is no code, in bytes.
    pub(super) own: f64,
    children: f64,
    /// How many writes the start made.
    pub(super) writes: usize,
}

/// Starts beside more and more stacks.
#[derive(Debug, Default)]
pub(super) struct Starts {
    none: Option<Memory>,
}

impl Starts {
    /// Before there are any.
    pub(super) async fn none(&mut self, bench: &mut BenchEnvironment) -> Result<()> {
        self.none = Some(cold(bench, 0).await?);
        Ok(())
    }

    /// Beside some, which are removed again.
    pub(super) async fn few(&self, bench: &mut BenchEnvironment, few: usize) -> Result<()> {
        beside(bench, ('b', few), few).await.map(drop)
    }

    /// Beside all of the run, with what others have, and beside five times as many.
    pub(super) async fn all(&self, bench: &mut BenchEnvironment) -> Result<()> {
        bench.fill().await?;
        let stacks = bench.stacks.len();
        let all = cold(bench, stacks).await?;
        if let Some(none) = self.none {
            slope(bench, none, all);
        }
        foreign(bench).await?;
        if bench.options.large {
            let most = beside(bench, ('d', 4 * stacks), 5 * stacks).await?;
            slope(bench, all, most);
        }
        Ok(())
    }
}

/// Makes more stacks, starts beside them, and removes them.
async fn beside(bench: &mut BenchEnvironment, (group, more): (char, usize), stacks: usize) -> Result<Memory> {
    let names = floor::names(group, more);
    bench.make(&names).await?;
    bench.settle(&names).await?;
    let memory = cold(bench, stacks).await?;
    bench.remove(&names).await?;
    Ok(memory)
}

/// Starts an operator beside the stacks that are there.
async fn cold(bench: &mut BenchEnvironment, stacks: usize) -> Result<Memory> {
    bench.stop_operator().await?;
    let mark = bench.mark().await?;
    let operator = Operator::start_with(&bench.server.kubeconfig, &bench.log("cold"), bench.arguments)?;
    let ready = operator.ready().await?;
    let compared = operator.rests().await?;
    let reconciles = operator.metrics().await?.reconciles();
    anyhow::ensure!(reconciles >= float(stacks), "{reconciles} reconciles of {stacks} stacks");
    let memory = procfs::memory(&operator.process)?;
    let calls = bench.calls(mark).await?;
    let writes: Vec<_> = calls.iter().filter(|call| call.is_write()).collect();
    operator.stop().await?;

    let seconds = |time: Duration| time.as_secs_f64();
    let floor = listed_bytes(bench).await? / bench.floor.list_bytes;
    let limit = READY.iter().find(|(most, _)| stacks <= *most).map_or(f64::INFINITY, |(_, limit)| *limit);
    let of_floor = |row: Row, time: Duration| {
        // With nothing to list, the floor is nothing.
        if stacks == 0 { row } else { row.ratio(seconds(time) / floor, "bytes listed") }
    };
    let row =
        Row::new("B7", format!("start beside {stacks} stacks: ready"), seconds(ready), "s").bar(Bar::AtMost(limit));
    bench.note(of_floor(row, ready));
    let row = of_floor(Row::new("B7", "until all are compared", seconds(compared), "s"), compared);
    bench.note(row.note(format!("{reconciles:.0} reconciles")));
    bench.note(Row::new("B7", "writes", float(writes.len()), "calls").bar(Bar::AtMost(0.0)));
    let (steady, own, most) = (bytes(memory.resident), bytes(memory.own), bytes(memory.most));
    let row = Row::new("B7", "most memory", most / MIB, "MiB").bar(Bar::AtMost(1.3 * steady / MIB));
    bench.note(row.ratio(most / steady, "steady"));
    let row = Row::new("B8", format!("memory beside {stacks} stacks"), steady / MIB, "MiB");
    bench.note(if stacks == 0 { row.bar(Bar::AtMost(12.0)) } else { row });
    Ok(Memory { steady, own, children: float(stacks * bench.template.children()), writes: writes.len() })
}

/// How much more memory each child takes, from one start to another with more stacks.
fn slope(bench: &mut BenchEnvironment, few: Memory, many: Memory) {
    let each = (many.steady - few.steady) / (many.children - few.children) / KIB;
    let what = format!("each child, from {} to {} of them", few.children, many.children);
    bench.note(Row::new("B8", what, each, "KiB").bar(Bar::AtMost(KIB_PER_CHILD)));
}

/// B8: Secrets and `ConfigMaps` that are nobody's, beside the stacks.
async fn foreign(bench: &mut BenchEnvironment) -> Result<()> {
    let stacks = bench.stacks.len();
    let before = least(bench, stacks).await?.own;
    let count = FOREIGN * bench.options.stacks.max(1);
    load::make_namespace(&bench.client, "foreign").await?;
    let objects: Vec<Value> = (0..count).map(foreign_object).collect();
    load::each(&objects, |object| load::create(&bench.client, object)).await?;
    let added = (least(bench, stacks).await?.own - before) / MIB;
    let row = Row::new("B8", format!("added by {count} Secrets and ConfigMaps of others"), added, "MiB");
    // By so much the least of so many starts differ.
    let noise = 0.02 * before / MIB;
    bench.note(row.bar(Bar::AtMost(noise)).note(format!("the least of {STARTS} starts; a fiftieth is their spread")));
    Ok(())
}

/// The start with the least memory of its own. What one leaves of its peak differs from one to the other by more than what is looked
/// for, and how much of its code the kernel maps by still more.
pub(super) async fn least(bench: &mut BenchEnvironment, stacks: usize) -> Result<Memory> {
    let first = bench.rows.len();
    let mut least = cold(bench, stacks).await?;
    for _ in 1..STARTS {
        let start = cold(bench, stacks).await?;
        let writes = least.writes.max(start.writes);
        least = Memory { writes, ..if start.own < least.own { start } else { least } };
    }
    // What these starts took else is not asked for.
    bench.rows.truncate(first);
    Ok(least)
}

fn foreign_object(number: usize) -> Value {
    let kind = if number.is_multiple_of(2) { "Secret" } else { "ConfigMap" };
    let value = format!("{number:0>1024}");
    let mut object = json!({
        "apiVersion": "v1", "kind": kind,
        "metadata": {"name": format!("foreign-{number}"), "namespace": "foreign", "labels": {"app": "foreign"}},
    });
    let data = if kind == "Secret" { "stringData" } else { "data" };
    object[data] = json!({ "value": value });
    object
}

/// How many bytes it reads to know all objects.
async fn listed_bytes(bench: &BenchEnvironment) -> Result<f64> {
    let mut bytes = 0;
    for path in bench.template.paths() {
        bytes += floor::list(&bench.client, &path).await?;
    }
    Ok(float(bytes))
}

fn bytes(count: u64) -> f64 {
    usize::try_from(count).map_or(f64::INFINITY, float)
}
