//! The proof that nothing is left: looks at the machine, not at what we believe we removed.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use crate::engine::cache::Cache;
use crate::engine::docker::{Docker, OwnEngine};
use crate::engine::process::{Run, find_program};
use crate::engine::test_server;

use super::state;

/// What is left on this machine of anything that this cache's runs started, as lines for a person.
pub fn leftovers(cache: &Cache) -> Result<Vec<String>> {
    let mut left = Vec::new();
    let running = state::names(cache)?;
    left.extend(running.iter().map(|name| format!("the cluster {name}")));
    left.extend(
        test_server::abandoned(cache)?.iter().map(|folder| format!("the abandoned test server {}", folder.display())),
    );
    let engine = OwnEngine::of(cache)?;
    left.extend(processes_naming(engine.folder())?);
    left.extend(mounts_below(cache.root())?);
    if Path::new("/sys/class/net").join(engine.bridge()).exists() {
        left.push(format!("the bridge {}", engine.bridge()));
    }
    left.extend(engine.cgroups()?.iter().map(|group| format!("the control group {}", group.display())));
    left.extend(firewall_rules(&engine.bridge()));
    Ok(left)
}

/// Fails, naming what is left, unless nothing is.
pub fn prove_nothing_is_left(cache: &Cache) -> Result<()> {
    let left = leftovers(cache)?;
    if !left.is_empty() {
        bail!("something is left on this machine:\n  {}", left.join("\n  "));
    }
    Ok(())
}

/// What Docker still has of a cluster.
pub(super) fn in_docker(docker: &Docker, name: &str, network: &str) -> Result<Vec<String>> {
    let label = format!("label=io.x-k8s.kind.cluster={name}");
    let containers = docker.output(["ps", "--all", "--filter", &label, "--format", "the container {{.Names}}"])?;
    let filter = format!("name=^{network}$");
    let networks = docker.output(["network", "ls", "--filter", &filter, "--format", "the Docker network {{.Name}}"])?;
    Ok(containers.lines().chain(networks.lines()).map(str::to_owned).collect())
}

/// Processes whose command line names the folder. For looking only: nothing is ended by what is found here.
fn processes_naming(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path();
        // Gone since it was listed, or no process at all.
        let Ok(words) = fs::read(process.join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&words).replace('\0', " ");
        if line.contains(&*folder.to_string_lossy()) {
            found.push(format!("process {}: {}", process.display(), line.trim()));
        }
    }
    Ok(found)
}

fn mounts_below(folder: &Path) -> Result<Vec<String>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    Ok(places.filter(|place| Path::new(place).starts_with(folder)).map(|place| format!("the mount {place}")).collect())
}

fn firewall_rules(bridge: &str) -> Vec<String> {
    // Where it is missing or may not be read, we could not have changed it either.
    let Some(program) = find_program("iptables-save") else { return Vec::new() };
    let rules = Run::new(program, [""; 0]).output().unwrap_or_default();
    rules.lines().filter(|rule| rule.contains(bridge)).map(|rule| format!("the firewall rule {rule}")).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::*;
    use crate::engine::wait;

    #[test]
    fn what_is_left_is_named() {
        let root = tempfile::tempdir().expect("a folder");
        let cache = Cache::at(root.path()).expect("a cache");
        prove_nothing_is_left(&cache).expect("a new cache has nothing");
        fs::create_dir_all(state::folder(&cache, "shop")).expect("created");
        let socket = OwnEngine::of(&cache).expect("an engine").socket();
        let mut server = Command::new("tail").args(["-f", "/dev/null"]).arg(&socket).spawn().expect("tail");
        // For a moment the kernel has no command line of a program that was just started.
        wait::until_true("tail has a command line", Duration::from_secs(5), || {
            Ok(!processes_naming(&socket)?.is_empty())
        })
        .expect("it runs");
        let error = prove_nothing_is_left(&cache).expect_err("something is left").to_string();
        server.kill().expect("killed");
        server.wait().expect("ended");
        assert!(error.contains("the cluster shop"), "{error}");
        assert!(error.contains(&format!("/proc/{}", server.id())), "{error}");
    }
}
