//! A whole cluster that ends otherwise than it should, to the last trace of it. Minutes the first time, so a plain `cargo test`
//! leaves it out: `cargo verify -- cluster` has it, and looks at one that ends as it should, which is that of the scenarios.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rorun_e2e::engine::host::Host;
use rorun_e2e::engine::record::ProcessRecord;
use rorun_e2e::engine::{Cache, Cluster, cluster, docker, wait};

fn is_there(cache: &Cache, name: &str) -> Result<bool> {
    Ok(cluster::names(cache)?.iter().any(|found| found == name))
}

#[test]
fn a_run_that_is_stopped_halfway_leaves_nothing() -> Result<()> {
    const NAME: &str = "rorun-test-stopped";
    let cache = Cache::from_env()?;
    let mut up = Command::new(env!("CARGO_BIN_EXE_e2e")).args(["up", "--name", NAME]).stdout(Stdio::null()).spawn()?;
    let record = ProcessRecord::of(up.id())?;
    wait::until_true("the node is being made", Duration::from_mins(20), || {
        Ok(cache.root().join("run/clusters").join(NAME).join("kind.json").exists() || up.try_wait()?.is_some())
    })?;
    record.stop(Duration::from_mins(1))?;
    assert_eq!(up.wait()?.code(), Some(143));
    assert!(!is_there(&cache, NAME)?);
    Ok(())
}

#[test]
fn a_cluster_whose_docker_was_killed_can_be_removed() -> Result<()> {
    const NAME: &str = "rorun-test-killed";
    let cache = Cache::from_env()?;
    let up = Cluster::up(&cache, NAME)?;
    let engine = docker::OwnEngine::of(&cache)?;
    if matches!(up.docker(), docker::Docker::Own(_)) && cluster::names(&cache)? == [NAME] {
        engine.process()?.context("it does not run")?.kill();
        assert!(Cluster::attach(&cache, NAME)?.is_none());
        // Started again, it brings back no node: the ports of one would be taken from a cluster that is made meanwhile.
        engine.start(Host::detect()?)?;
        assert_eq!(up.docker().output(["ps", "--quiet"])?, "");
        assert!(Cluster::attach(&cache, NAME)?.is_none());
        Cluster::down(&cache, NAME)?;
        assert_eq!(cluster::leftovers(&cache)?, [""; 0]);
    } else {
        Cluster::down(&cache, NAME)?;
    }
    assert!(!is_there(&cache, NAME)?);
    Ok(())
}
