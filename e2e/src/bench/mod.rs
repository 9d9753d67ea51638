//! The benchmarks: the operator's release binary beside a real API server without pods. Every time is a ratio to a floor of
//! the same run: what the same API server gives a client without a controller.

mod alone;
mod baseline;
mod field;
mod floor;
mod load;
mod many;
mod metrics;
mod noop;
mod one;
mod operator;
mod outage;
mod procfs;
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

use self::field::Field;
use self::table::{Report, Row};
use crate::engine::{Cache, progress, tools};

/// All of them, by id.
const IDS: [&str; 15] =
    ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B9", "B10", "B11", "B12", "B13", "B14", "B15"];

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
    if !options.wants(&IDS[..13]) {
        return Ok(());
    }
    let mut field = Field::open(cache, options).await?;
    report.machine.extend(field.floor.told());
    report.machine.push(("children of a stack", field.template.children().to_string()));
    let result = Box::pin(play(&mut field)).await;
    report.rows.append(&mut field.rows);
    report.rows.sort_by_key(Row::order);
    result
}

macro_rules! step {
    ($field:expr, $ids:expr, $work:expr) => {
        if $field.options.wants(&$ids) {
            let step = progress::Step::start(&$ids.join(", "), "a benchmark");
            Box::pin($work).await?;
            step.done();
        }
    };
}

/// One after the other: first what wants to be alone, last what removes the stacks.
async fn play(field: &mut Field) -> Result<()> {
    let (few, many) = (field.options.stacks / 10, field.options.stacks);
    let mut none = None;
    if field.options.wants(&["B7", "B8"]) {
        none = Some(start::cold(field, 0).await?);
    }
    step!(field, ["B1"], one::create(field));
    step!(field, ["B3"], one::change(field));
    step!(field, ["B1", "B2", "B3", "B4"], baseline::baselines(field));
    step!(field, ["B12"], throttle::throttled(field));
    if field.options.wants(&["B7", "B8"]) && few > 0 {
        let names = floor::names('b', few);
        field.make(&names).await?;
        field.settle(&names).await?;
        start::cold(field, few).await?;
        field.remove(&names).await?;
    }
    step!(field, ["B4"], many::burst(field));
    step!(field, ["B2"], noop::nothing(field));
    step!(field, ["B6"], noop::drift(field));
    step!(field, ["B5"], many::churn(field));
    step!(field, ["B11"], outage::apiserver(field));
    step!(field, ["B9"], outage::hand_over(field));
    step!(field, ["B10"], noop::idle(field));
    if let Some(none) = none {
        field.fill().await?;
        let all = start::cold(field, many).await?;
        start::slope(field, none, all);
        start::foreign(field, all).await?;
        if field.options.large {
            let names = floor::names('d', 4 * many);
            field.make(&names).await?;
            field.settle(&names).await?;
            let most = start::cold(field, 5 * many).await?;
            start::slope(field, all, most);
            field.remove(&names).await?;
        }
    }
    step!(field, ["B13"], many::delete(field));
    field.stop_operator().await
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
        options(&["B16"]).check().expect_err("it does not");
    }
}
