//! The benchmarks: the operator's release binary beside a real API server without pods. Every time is a ratio to a floor of
//! the same run: what the same API server gives a client without a controller.

mod alone;
mod baseline;
mod environment;
mod floor;
mod load;
mod many;
mod metrics;
mod noop;
mod one;
mod operator;
mod optional;
mod outage;
mod procfs;
mod receive;
mod same;
mod services;
mod start;
mod stats;
mod table;
mod template;
mod throttle;
mod watch;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use rorun_e2e::engine::{Cache, progress, tools};

use self::environment::BenchEnvironment;
use self::start::Starts;
use self::table::{Report, Row};

/// All of them, by id.
const IDS: [&str; 16] =
    ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B9", "B10", "B11", "B12", "B13", "B14", "B15", "B16"];
/// Those that need no API server.
const ALONE: [&str; 2] = ["B14", "B15"];

/// What to measure, and how much of it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which benchmarks; all of them if none is named.
    pub ids: Vec<String>,
    /// How many stacks the heavy ones have.
    pub stacks: usize,
    /// Also start beside five times as many.
    pub large: bool,
    /// How long stacks are changed.
    pub churn: Duration,
    /// How long nothing happens.
    pub idle: Duration,
    /// Also build the operator from nothing.
    pub clean_build: bool,
}

impl Options {
    fn wants(&self, ids: &[&str]) -> bool {
        self.ids.is_empty() || self.ids.iter().any(|id| ids.contains(&id.as_str()))
    }

    fn check(&self) -> Result<()> {
        if let Some(unknown) = self.ids.iter().find(|id| !IDS.contains(&id.as_str())) {
            bail!("no benchmark {unknown}: there are {}", IDS.join(", "));
        }
        if self.stacks == 0 {
            bail!("no stacks, nothing to measure");
        }
        Ok(())
    }
}

/// Measures, prints the table as it is at the end, and writes it for programs; gives how many bars were held and missed.
pub fn run(cache: &Cache, options: Options, to: &Path) -> Result<(usize, usize)> {
    options.check()?;
    let mut report = Report { machine: machine(&options)?, rows: Vec::new() };
    if options.wants(&["B14"]) {
        report.rows.extend(alone::render()?);
    }
    if options.wants(&["B15"]) {
        report.rows.extend(alone::artefacts(options.clean_build)?);
    }
    let result = tokio::runtime::Runtime::new()?.block_on(Box::pin(beside(cache, options, &mut report)));
    // What was measured before something failed is worth reading.
    report.save(to)?;
    println!("{}", report.table());
    result?;
    Ok(report.verdicts())
}

/// Those that need an API server.
async fn beside(cache: &Cache, options: Options, report: &mut Report) -> Result<()> {
    let wanted = IDS.iter().filter(|id| options.wants(&[id]));
    if wanted.filter(|id| !ALONE.contains(id)).count() == 0 {
        return Ok(());
    }
    let mut bench = BenchEnvironment::open(cache, options).await?;
    report.machine.extend(bench.floor.reported());
    report.machine.push(("children of a stack", bench.template.children().to_string()));
    let result = Box::pin(play(&mut bench)).await;
    report.rows.append(&mut bench.rows);
    report.rows.sort_by_key(Row::order);
    result
}

/// One after the other: first what wants to be alone, last what removes the stacks.
async fn play(bench: &mut BenchEnvironment) -> Result<()> {
    let few = bench.options.stacks / 10;
    let mut starts = Starts::default();
    measure(bench, &["B7", "B8"], async |bench| starts.none(bench).await).await;
    measure(bench, &["B1"], one::create).await;
    measure(bench, &["B3"], one::change).await;
    measure(bench, &["B1", "B2", "B3", "B4"], baseline::baselines).await;
    measure(bench, &["B12"], throttle::throttled).await;
    if few > 0 {
        measure(bench, &["B7", "B8"], async |bench| starts.few(bench, few).await).await;
    }
    measure(bench, &["B4"], many::burst).await;
    measure(bench, &["B2"], noop::nothing).await;
    measure(bench, &["B6"], noop::drift).await;
    measure(bench, &["B5"], many::churn).await;
    measure(bench, &["B11"], outage::apiserver).await;
    measure(bench, &["B9"], outage::hand_over).await;
    measure(bench, &["B10"], noop::idle).await;
    measure(bench, &["B7", "B8"], async |bench| starts.all(bench).await).await;
    measure(bench, &["B13"], many::delete).await;
    measure(bench, &["B16"], optional::half).await;
    bench.stop_operator().await?;
    let failed = std::mem::take(&mut bench.failed);
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("\n")) }
}

/// Measures if one of the ids is asked for. One that fails does not keep the others from being measured.
async fn measure(
    bench: &mut BenchEnvironment,
    ids: &[&str],
    work: impl AsyncFnOnce(&mut BenchEnvironment) -> Result<()>,
) {
    if !bench.options.wants(ids) {
        return;
    }
    let step = progress::Step::start(&ids.join(", "), "a benchmark");
    match Box::pin(work(bench)).await {
        Ok(()) => step.done(),
        Err(error) => bench.failed.push(format!("{}: {error:#}", ids.join(", "))),
    }
}

/// Where and with what this runs.
fn machine(options: &Options) -> Result<Vec<(&'static str, String)>> {
    let (model, cores) = procfs::processors()?;
    Ok(vec![
        ("processor", model),
        ("cores", cores.to_string()),
        ("operator", env!("CARGO_PKG_VERSION").to_owned()),
        ("kube-apiserver", tools::KUBE_APISERVER.version()?),
        ("etcd", format!("{}, without fsync", tools::ETCD.version()?)),
        ("stacks", options.stacks.to_string()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(ids: &[&str]) -> Options {
        let ids = ids.iter().map(|&id| id.to_owned()).collect();
        let second = Duration::from_secs(1);
        Options { ids, stacks: 1, large: false, churn: second, idle: second, clean_build: false }
    }

    #[test]
    fn what_is_named_is_wanted_and_must_exist() {
        assert!(options(&[]).wants(&["B1"]));
        assert!(options(&["B4", "B6"]).wants(&["B6"]));
        assert!(!options(&["B4"]).wants(&["B6"]));
        options(&["B15"]).check().expect("it exists");
        options(&["B17"]).check().expect_err("it does not");
    }
}
