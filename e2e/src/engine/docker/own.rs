//! A Docker Engine of our own, beside any other: own socket, data, bridge and addresses, own mount namespace. It touches
//! no firewall rule and no setting of the machine, and reads no configuration but ours. Its data folder stays in the
//! cache, and with it the images, so that the next run finds them.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::Docker;
use crate::engine::cache::Cache;
use crate::engine::host::Host;
use crate::engine::process::{Run, find_program};
use crate::engine::record::ProcessRecord;
use crate::engine::{packages, wait};

const RUNC_WITHOUT_SYS_RESOURCE: &str = include_str!("runc.sh");

/// The engine of a cache, running or not.
#[derive(Clone, Debug)]
pub struct OwnEngine {
    folder: PathBuf,
    id: String,
}

impl OwnEngine {
    /// The engine of that cache.
    pub fn of(cache: &Cache) -> Result<OwnEngine> {
        Ok(OwnEngine { folder: cache.folder("docker")?, id: cache.id() })
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("docker.sock")
    }

    /// The bridge that it is given. Linux allows names of 15 bytes.
    pub fn bridge(&self) -> String {
        format!("rorun{}", self.id)
    }

    /// The control group that its containers are in.
    pub fn cgroup(&self) -> String {
        format!("rorun-e2e-{}", self.id)
    }

    /// Its folder, which no process and no mount may name once it is stopped.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether it runs.
    pub fn is_running(&self) -> Result<bool> {
        Ok(self.process()?.is_some_and(|process| process.is_running()))
    }

    /// The process that was started last and not stopped since.
    pub fn process(&self) -> Result<Option<ProcessRecord>> {
        ProcessRecord::load(&self.record())
    }

    /// Starts it unless it runs; gives its socket.
    pub fn start(&self, host: Host) -> Result<PathBuf> {
        if self.is_running()? {
            self.wait_until_up()?;
            return Ok(self.socket());
        }
        if !host.root {
            bail!("starting a Docker Engine needs root: start the machine's Docker, or run this as root");
        }
        let why = "for a Docker Engine of our own";
        packages::ensure(&["docker.io", "runc", "iproute2", "iptables", "jq", "util-linux"], why)?;
        self.create_bridge()?;
        self.clear_away_killed()?;
        let configuration = self.folder.join("daemon.json");
        fs::write(&configuration, serde_json::to_vec_pretty(&self.configuration(host)?)?)?;
        let log = File::create(self.folder.join("dockerd.log"))?;
        let dockerd = find_program("dockerd").context("failed to find dockerd")?;
        let child = Command::new("unshare")
            // What it mounts stays its own, and ends with it; what the machine mounts it still sees.
            .args(["--mount", "--propagation", "slave"])
            .arg(dockerd)
            .arg("--config-file")
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C must not end it before the cluster in it is gone.
            .process_group(0)
            .spawn()
            .context("failed to start dockerd")?;
        ProcessRecord::of(child.id())?.save(&self.record())?;
        self.wait_until_up()?;
        Ok(self.socket())
    }

    /// Stops it, and removes its bridge and control groups.
    pub fn stop(&self) -> Result<()> {
        if let Some(process) = self.process()? {
            process.stop(Duration::from_secs(20))?;
            fs::remove_file(self.record())?;
        }
        if Path::new("/sys/class/net").join(self.bridge()).exists() {
            Run::new("ip", ["link", "delete", &self.bridge()]).output()?;
        }
        for group in self.cgroups()? {
            remove_cgroup(&group)?;
        }
        Ok(())
    }

    /// The control groups of its containers, one for each controller with the first generation of control groups.
    pub fn cgroups(&self) -> Result<Vec<PathBuf>> {
        let mut parents = vec![PathBuf::from("/sys/fs/cgroup")];
        for entry in fs::read_dir("/sys/fs/cgroup").context("failed to read /sys/fs/cgroup")? {
            let entry = entry?;
            // A link (`cpuacct`, to `cpu,cpuacct`) names a group that another entry names too.
            if entry.file_type()?.is_dir() {
                parents.push(entry.path());
            }
        }
        Ok(parents.into_iter().map(|parent| parent.join(self.cgroup())).filter(|group| group.exists()).collect())
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.join("dockerd.pid")
    }

    fn record(&self) -> PathBuf {
        self.folder.join("dockerd.json")
    }

    fn wait_until_up(&self) -> Result<()> {
        let docker = Docker::Own(self.socket());
        wait::until_true("our Docker Engine answers", Duration::from_mins(1), || {
            if !self.is_running()? {
                let log = fs::read_to_string(self.folder.join("dockerd.log")).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                bail!("our Docker Engine ended early\n{}", lines[lines.len().saturating_sub(10)..].join("\n"));
            }
            Ok(docker.command(["version"]).succeeds())
        })
    }

    /// Files with pids, left by one that was killed, keep the next from starting as long as those pids mean anything, and
    /// that of a process which nobody has waited for does. That none of ours runs we know better, and see to.
    fn clear_away_killed(&self) -> Result<()> {
        let containerd = self.folder.join("exec/containerd/containerd.pid");
        if let Some(process) = self.orphan(&containerd)? {
            process.stop(Duration::from_secs(10))?;
        }
        for file in [containerd, self.pid_file()] {
            match fs::remove_file(file) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// The process of a file with a pid, if it runs and its command line says that it is of this engine.
    fn orphan(&self, pid_file: &Path) -> Result<Option<ProcessRecord>> {
        let Ok(pid) = fs::read_to_string(pid_file) else { return Ok(None) };
        let pid: u32 = pid.trim().parse().with_context(|| format!("failed to read {}", pid_file.display()))?;
        let Ok(record) = ProcessRecord::of(pid) else { return Ok(None) };
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let ours = String::from_utf8_lossy(&words).contains(&*self.folder.to_string_lossy());
        Ok((ours && record.is_running()).then_some(record))
    }

    fn create_bridge(&self) -> Result<()> {
        let bridge = self.bridge();
        if Path::new("/sys/class/net").join(&bridge).exists() {
            return Ok(());
        }
        let network = free_network(&Run::new("ip", ["-4", "-oneline", "address"]).output()?)
            .context("failed to find an unused network between 10.80.0.0 and 10.99.0.0")?;
        fs::write(self.folder.join("network"), &network)?;
        Run::new("ip", ["link", "add", &bridge, "type", "bridge"]).output()?;
        Run::new("ip", ["address", "add", &format!("{network}.0.1/24"), "dev", &bridge]).output()?;
        Run::new("ip", ["link", "set", &bridge, "up"]).output()?;
        Ok(())
    }

    fn configuration(&self, host: Host) -> Result<serde_json::Value> {
        let network = fs::read_to_string(self.folder.join("network")).context("the bridge has no network")?;
        let mut configuration = json!({
            "hosts": [format!("unix://{}", self.socket().display())],
            "data-root": self.folder.join("data"),
            "exec-root": self.folder.join("exec"),
            "pidfile": self.pid_file(),
            "bridge": self.bridge(),
            "default-address-pools": [{"base": format!("{network}.16.0/20"), "size": 24}],
            "iptables": false,
            "ip-forward": false,
            "ip-masq": false,
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "cgroup-parent": format!("/{}", self.cgroup()),
            // A lower one, the default, needs CAP_SYS_RESOURCE.
            "oom-score-adjust": 0,
            // Nothing outside can be reached from the containers: a look-up fails at once instead of after a time-out.
            "dns": ["127.0.0.1"],
        });
        if !host.sys_resource {
            let runtime = self.folder.join("runc-without-sys-resource");
            fs::write(&runtime, RUNC_WITHOUT_SYS_RESOURCE)?;
            fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755))?;
            configuration["runtimes"] = json!({"runc-without-sys-resource": {"path": runtime}});
            configuration["default-runtime"] = json!("runc-without-sys-resource");
        }
        Ok(configuration)
    }
}

/// The first two numbers of a network that no interface has an address in, given what `ip address` says.
fn free_network(addresses: &str) -> Option<String> {
    (80..100).rev().map(|second| format!("10.{second}")).find(|network| !addresses.contains(&format!(" {network}.")))
}

/// Removes a control group from its leaves up: the kernel refuses to remove one that has others in it.
fn remove_cgroup(group: &Path) -> Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_cgroup(&entry.path())?;
        }
    }
    // The last process may have ended a moment ago and still be counted.
    let what = format!("the control group {} empties", group.display());
    wait::until_true(&what, Duration::from_secs(5), || Ok(fs::remove_dir(group).is_ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_network_that_nobody_uses() {
        assert_eq!(free_network("1: lo inet 127.0.0.1/8").as_deref(), Some("10.99"));
        assert_eq!(free_network("2: a inet 10.99.0.1/24\n3: b inet 10.98.0.1/16").as_deref(), Some("10.97"));
    }

    #[test]
    fn names_fit_the_kernel_and_the_runtime_is_wrapped_only_where_it_must_be() {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = OwnEngine::of(&Cache::at(folder.path()).expect("a cache")).expect("an engine");
        assert!(engine.bridge().len() < 16);
        fs::write(engine.folder.join("network"), "10.99").expect("written");
        let host = Host { cgroup_v1: false, sys_resource: true, root: true };
        let plain = engine.configuration(host).expect("a configuration");
        assert!(plain.get("default-runtime").is_none());
        let modest = engine.configuration(Host { sys_resource: false, ..host }).expect("a configuration");
        assert_eq!(modest["default-runtime"], "runc-without-sys-resource");
        assert!(engine.folder.join("runc-without-sys-resource").exists());
    }
}
