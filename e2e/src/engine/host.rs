//! What this machine lets us do, where it decides how the cluster is started.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

const CAP_SYS_RESOURCE: u32 = 24;

/// Facts about the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// The first generation of control groups, which recent systemd and kubelet refuse unless told otherwise.
    pub cgroup_v1: bool,
    /// Whether a privileged container can be given `CAP_SYS_RESOURCE`; sandboxes often keep it from root.
    pub sys_resource: bool,
    /// Whether this is root.
    pub root: bool,
}

impl Host {
    /// Looks at this machine.
    pub fn detect() -> Result<Host> {
        let status = fs::read_to_string("/proc/self/status").context("failed to read /proc/self/status")?;
        Ok(Host {
            cgroup_v1: !Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
            sys_resource: bounding_set(&status)? & (1 << CAP_SYS_RESOURCE) != 0,
            root: rustix::process::geteuid().is_root(),
        })
    }
}

fn bounding_set(status: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    Ok(u64::from_str_radix(line.context("no CapBnd in /proc/self/status")?.trim(), 16)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_bounding_set() {
        let set = bounding_set("Name:\tx\nCapBnd:\t000001fffeffffff\n").expect("a set");
        assert_eq!(set & (1 << CAP_SYS_RESOURCE), 0);
        assert_ne!(set & 1, 0);
    }
}
