//! Debian as a root file system, where no image of it can be pulled.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::engine::cache::{Cache, Key};
use crate::engine::durations::{Durations, Timed};
use crate::engine::host::Host;
use crate::engine::packages;
use crate::engine::process::Run;
use crate::engine::progress::Step;

use super::archive::tar;

/// An archive of a Debian of that release with those packages.
pub(super) fn root_archive(cache: &Cache, release: &str, with: &[&str]) -> Result<PathBuf> {
    let include = with.join(",");
    let key = Key::new("debian", release, "minbase", [include.as_bytes()]);
    let folder = cache.entry(&key, |folder| {
        if !Host::detect()?.root {
            bail!("building images from Debian packages needs root: run this as root, or where images can be pulled");
        }
        packages::ensure(&["debootstrap", "debian-archive-keyring"], "to build images from Debian packages")?;
        let root = folder.join("root");
        let log = folder.join("debootstrap.log");
        let (name, what) = (format!("make Debian {release}"), format!("making a Debian {release}"));
        let timed = Timed { name: &name, what: &what, why: "for images that cannot be pulled", table: 80 };
        Step::timed(&Durations::of(cache), &timed, || {
            let made = Run::new("debootstrap", ["--variant=minbase", &format!("--include={include}"), release])
                .arg(&root)
                .logged(&log);
            // It mounts /proc and /sys in there, and leaves them when it is stopped halfway.
            unmount_below(&root)?;
            made?;
            tar(&root, &folder.join("root.tar"))?;
            Ok(fs::remove_dir_all(&root)?)
        })
    })?;
    Ok(folder.join("root.tar"))
}

fn unmount_below(folder: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let below = mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|at| Path::new(at).starts_with(folder));
    // The latest first: one may be on top of another.
    for mount in below.collect::<Vec<_>>().into_iter().rev() {
        Run::new("umount", [mount]).output()?;
    }
    Ok(())
}
