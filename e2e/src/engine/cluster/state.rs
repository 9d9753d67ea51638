//! What is known about a cluster between commands: a file, there as long as anything of the cluster may be.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::engine::cache::{Cache, remove_folder};
use crate::engine::docker::Docker;

/// The state of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    pub(super) docker: Docker,
    pub(super) http_port: u16,
    pub(super) https_port: u16,
    /// False while it is being made, and for ever when that was interrupted.
    pub(super) ready: bool,
}

/// The folder of a cluster of that name.
pub(super) fn folder(cache: &Cache, name: &str) -> PathBuf {
    cache.root().join("run/clusters").join(name)
}

impl State {
    pub(super) fn load(cache: &Cache, name: &str) -> Result<Option<State>> {
        let path = folder(cache, name).join("state.json");
        match fs::read(&path) {
            Ok(text) => {
                Ok(Some(serde_json::from_slice(&text).with_context(|| format!("failed to read {}", path.display()))?))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("failed to read {}", path.display())),
        }
    }

    pub(super) fn save(&self, cache: &Cache, name: &str) -> Result<()> {
        let folder = folder(cache, name);
        fs::create_dir_all(&folder)?;
        let unfinished = folder.join("state.json.new");
        fs::write(&unfinished, serde_json::to_vec_pretty(self)?)?;
        Ok(fs::rename(unfinished, folder.join("state.json"))?)
    }

    pub(super) fn remove(cache: &Cache, name: &str) -> Result<()> {
        remove_folder(&folder(cache, name))
    }
}

/// The names of the clusters that there may be something of.
pub fn names(cache: &Cache) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(cache.folder("run/clusters")?)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_kept_until_removed() {
        let root = tempfile::tempdir().expect("a folder");
        let cache = Cache::at(root.path()).expect("a cache");
        assert_eq!(State::load(&cache, "a").expect("fine"), None);
        let state = State { docker: Docker::Own("/x/docker.sock".into()), http_port: 1, https_port: 2, ready: false };
        state.save(&cache, "a").expect("saved");
        assert_eq!(State::load(&cache, "a").expect("fine"), Some(state));
        assert_eq!(names(&cache).expect("listed"), ["a"]);
        State::remove(&cache, "a").expect("removed");
        assert!(names(&cache).expect("listed").is_empty());
    }
}
