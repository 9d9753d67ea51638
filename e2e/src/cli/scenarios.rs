//! `e2e scenarios`: runs scenarios on a real cluster.

use std::ops::Deref;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;

use crate::engine::{Cache, Cluster, Lease, progress};
use crate::scenarios::kit::{Profile, TestCluster, build_binaries, install, load_images};
use crate::scenarios::{Outcome, Scenario, matching, run_all, summary};

/// Options of `e2e scenarios`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Parts of names of scenarios; all of them if there is none
    filters: Vec<String>,
    /// The cluster; one that runs already is used and left running
    #[arg(long, default_value = super::cluster::USUAL)]
    name: String,
    /// Leave the namespaces of scenarios that fail, for inspection
    #[arg(long)]
    keep: bool,
    /// Use the images and the operator that are in the cluster, whatever the sources say now
    #[arg(long)]
    no_build: bool,
    /// Say which scenarios there are, and run none
    #[arg(long)]
    list: bool,
}

pub(super) fn run(cache: &Cache, options: &Options) -> Result<()> {
    let chosen = matching(&options.filters);
    if chosen.is_empty() {
        bail!("no scenario has a name with {}; --list says which there are", options.filters.join(" or "));
    }
    if options.list {
        for scenario in chosen {
            println!("{:14}{}", scenario.name, scenario.proves);
        }
        return Ok(());
    }
    let outcomes = if options.no_build {
        let cluster = Session::open(cache, &options.name)?;
        play(&cluster, &chosen, options.keep, None)?
    } else {
        let cluster = thread::scope(|scope| {
            let building = scope.spawn(|| build_binaries(cache, Profile::Quick));
            let cluster = Session::open(cache, &options.name);
            joined(building)?;
            cluster
        })?;
        set_up(&cluster)?;
        play(&cluster, &chosen, options.keep, None)?
    };
    println!("{}", summary(&outcomes));
    failures(&outcomes)
}

/// Loads the images into the cluster, and installs the operator.
pub(super) fn set_up(cluster: &Cluster) -> Result<()> {
    load_images(cluster)?;
    let runtime = tokio::runtime::Runtime::new()?;
    progress::Step::of("installing the operator", "by its chart", || {
        runtime.block_on(async { install(&TestCluster::connect(cluster).await?).await })
    })
}

/// Runs the scenarios; those that are not of the core, as far as there is time for them.
pub(super) fn play(cluster: &Cluster, chosen: &[Scenario], keep: bool, until: Option<Instant>) -> Result<Vec<Outcome>> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let test_cluster = Arc::new(TestCluster::connect(cluster).await?);
        Ok(run_all(&test_cluster, chosen, keep, until).await)
    })
}

/// An error that names the scenarios that failed, if any did.
pub(super) fn failures(outcomes: &[Outcome]) -> Result<()> {
    let failed: Vec<_> =
        outcomes.iter().filter(|outcome| outcome.failure().is_some()).map(|outcome| outcome.name).collect();
    if failed.is_empty() { Ok(()) } else { Err(anyhow!("failed: {}", failed.join(", "))) }
}

/// A cluster for the time of a run: one that was running before is left running.
#[derive(Debug)]
pub(super) enum Session {
    Found(Box<Cluster>),
    Leased(Lease),
}

impl Session {
    pub(super) fn open(cache: &Cache, name: &str) -> Result<Session> {
        if let Some(cluster) = Cluster::attach(cache, name)? {
            progress::note(&format!("the cluster {name} runs already and is used, and left running"));
            return Ok(Session::Found(Box::new(cluster)));
        }
        Cluster::lease(cache, name).map(Session::Leased).context("no cluster, so no scenario can be run")
    }
}

impl Deref for Session {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        match self {
            Session::Found(cluster) => cluster,
            Session::Leased(lease) => lease,
        }
    }
}

/// The result of a thread.
pub(super) fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a part of the run panicked"))?
}
