//! Test servers of processes that were killed. A test server cleans up when it is dropped, but a killed process drops nothing.
//! So each test server has a folder that names its owner and its processes, and the next run removes what has no owner.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::engine::cache::{Cache, remove_folder};
use crate::engine::cleanup::{self, Registration};
use crate::engine::record::ProcessRecord;
use crate::engine::wait;

const OWNER: &str = "owner.json";

/// Makes the folder of a new test server of this process.
pub(super) fn own_folder(cache: &Cache) -> Result<TempDir> {
    let servers = cache.folder("run/test-servers")?;
    // The lock keeps a sweep from finding the folder before it says whose it is.
    let _lock = cache.lock("test-servers")?;
    let folder = tempfile::Builder::new().prefix("test-server-").tempdir_in(servers)?;
    ProcessRecord::of_self()?.save(&folder.path().join(OWNER))?;
    Ok(folder)
}

/// Ends and removes a test server when a signal ends this process.
pub(super) fn on_interrupt(folder: &Path) -> Registration {
    let folder = folder.to_owned();
    cleanup::on_interrupt(move || {
        if let Err(error) = remove(&folder) {
            eprintln!("error: {error:#}");
        }
    })
}

/// The folders of test servers whose owner is gone.
pub fn abandoned(cache: &Cache) -> Result<Vec<PathBuf>> {
    let _lock = cache.lock("test-servers")?;
    let mut folders = Vec::new();
    for entry in fs::read_dir(cache.folder("run/test-servers")?)? {
        let folder = entry?.path();
        // A record that cannot be read is that of a run killed while it wrote it.
        let owner = ProcessRecord::load(&folder.join(OWNER)).unwrap_or_default();
        if !owner.is_some_and(|owner| owner.is_running()) {
            folders.push(folder);
        }
    }
    Ok(folders)
}

/// Ends and removes test servers whose owner is gone.
pub fn sweep(cache: &Cache) -> Result<()> {
    abandoned(cache)?.iter().try_for_each(|folder| remove(folder))
}

fn remove(folder: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if !path.to_string_lossy().ends_with(&super::server::record_name("")) {
            continue;
        }
        if let Ok(Some(process)) = ProcessRecord::load(&path) {
            process.kill();
            let what = format!("process {} of an abandoned test server ends", process.pid());
            wait::until_true(&what, Duration::from_secs(10), || Ok(!process.is_running()))?;
        }
    }
    remove_folder(folder).context("failed to remove an abandoned test server")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_test_servers_without_an_owner_are_swept() {
        let root = tempfile::tempdir().expect("a folder");
        let cache = Cache::at(root.path()).expect("a cache");
        let kept = own_folder(&cache).expect("a folder");
        let left = own_folder(&cache).expect("a folder");
        let mut owner = Command::new("true").spawn().expect("true");
        let record = ProcessRecord::of(owner.id()).expect("a record");
        owner.wait().expect("ended");
        record.save(&left.path().join(OWNER)).expect("saved");
        let mut server = Command::new("sleep").arg("600").spawn().expect("sleep");
        let running = ProcessRecord::of(server.id()).expect("a record");
        running.save(&left.path().join(super::super::server::record_name("etcd"))).expect("saved");

        assert_eq!(abandoned(&cache).expect("listed"), [left.path()]);
        sweep(&cache).expect("swept");
        assert!(!running.is_running());
        assert!(!left.path().exists());
        assert!(kept.path().exists());
        server.wait().expect("ended");
    }
}
