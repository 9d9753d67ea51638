//! Everything that takes long to make is kept outside the checkout, under `${XDG_CACHE_HOME:-$HOME/.cache}/rorun-operator`
//! (or `RORUN_CACHE`). An entry is named by what it is, its version and a hash of the recipe that makes it, so a changed
//! recipe is a new entry and an entry, once there, is never touched again.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::{cleanup, progress, wait};

/// The folder that holds what was built, and the state of what runs.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache that the environment names.
    pub fn from_env() -> Result<Cache> {
        let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = folder("RORUN_CACHE")
            .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("rorun-operator")))
            .or_else(|| folder("HOME").map(|home| home.join(".cache/rorun-operator")));
        let Some(root) = root else { bail!("failed to find a cache folder: set RORUN_CACHE or HOME") };
        Cache::at(root)
    }

    /// A cache in a folder of the caller's.
    pub fn at(root: impl Into<PathBuf>) -> Result<Cache> {
        let root = std::path::absolute(root.into())?;
        fs::create_dir_all(&root).with_context(|| format!("failed to create the cache {}", root.display()))?;
        Ok(Cache { root })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A folder below the cache, made if it is missing.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.root.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
        Ok(folder)
    }

    /// A short name for this cache, for what is visible to the whole machine (a bridge, a control group) and must not
    /// clash with that of another cache.
    pub fn id(&self) -> String {
        fingerprint([self.root.as_os_str().as_encoded_bytes()])[..6].to_owned()
    }

    /// The folder of an entry; `populate` fills it when it is missing. Two runs never fill the same entry at once, and a
    /// run that is killed halfway leaves nothing that looks complete.
    pub fn entry(&self, key: &Key, populate: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let folder = self.root.join(key.path());
        if folder.is_dir() {
            return Ok(folder);
        }
        let _lock = self.lock(&key.path().replace('/', "-"))?;
        if folder.is_dir() {
            return Ok(folder);
        }
        let unfinished = self.folder("unfinished")?.join(key.path().replace('/', "-"));
        remove_folder(&unfinished)?;
        fs::create_dir_all(&unfinished)?;
        let result = populate(&unfinished);
        if let Err(error) = result {
            let _ = remove_folder(&unfinished);
            return Err(error);
        }
        fs::create_dir_all(folder.parent().context("an entry has a parent folder")?)?;
        fs::rename(&unfinished, &folder).with_context(|| format!("failed to complete {}", folder.display()))?;
        Ok(folder)
    }

    /// The entries of some kinds, as their paths below the cache.
    pub fn entries(&self, kinds: &[&str]) -> Result<BTreeSet<String>> {
        let mut entries = BTreeSet::new();
        for kind in kinds {
            match fs::read_dir(self.root.join(kind)) {
                Ok(folder) => {
                    for entry in folder {
                        entries.insert(format!("{kind}/{}", entry?.file_name().to_string_lossy()));
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("failed to list {kind} of the cache")),
            }
        }
        Ok(entries)
    }

    /// Waits for the lock of that name; it is held until the returned value is dropped, or this process ends.
    pub fn lock(&self, name: &str) -> Result<Lock> {
        let path = self.folder("locks")?.join(format!("{name}.lock"));
        let file = File::create(&path).with_context(|| format!("failed to open {}", path.display()))?;
        let soon = wait::until_true("a lock", Duration::from_secs(2), || match file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error.into()),
        });
        // What this process holds when it is interrupted is held by a thread that has stopped for good.
        if soon.is_err() && !cleanup::is_cleaning() {
            progress::note(&format!("waiting for whoever holds {}", path.display()));
            file.lock()?;
        }
        Ok(Lock { _file: file })
    }
}

/// A lock between processes, held while this lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// What an entry of the cache is: a kind of thing, its name and version, and a hash of how it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    kind: &'static str,
    name: String,
    version: String,
    recipe: String,
}

impl Key {
    /// The key of something made by `recipe`, all the inputs that decide what comes out.
    pub fn new<'a>(kind: &'static str, name: &str, version: &str, recipe: impl IntoIterator<Item = &'a [u8]>) -> Key {
        Key { kind, name: name.to_owned(), version: version.to_owned(), recipe: fingerprint(recipe) }
    }

    /// Where the entry is, relative to the cache.
    pub fn path(&self) -> String {
        format!("{}/{}-{}-{}", self.kind, self.name, self.version, &self.recipe[..12])
    }
}

/// A hash over several inputs. The length of each goes in too, so moving a byte from one to the next changes it.
pub fn fingerprint<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// Removes a folder; one that is not there is fine.
pub fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(version: &str, recipe: [&[u8]; 2]) -> String {
        Key::new("tools", "etcd", version, recipe).path()
    }

    #[test]
    fn a_key_moves_with_version_and_recipe_only() {
        let one = key("v1", [b"ab", b"c"]);
        assert!(one.starts_with("tools/etcd-v1-"), "{one}");
        assert_eq!(one, key("v1", [b"ab", b"c"]));
        assert_ne!(one, key("v2", [b"ab", b"c"]));
        assert_ne!(one, key("v1", [b"a", b"bc"]));
    }

    #[test]
    fn an_entry_is_made_once_and_a_failed_one_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::at(folder.path()).expect("a cache");
        let key = Key::new("tools", "etcd", "v1", [&b"recipe"[..]]);
        cache.entry(&key, |_| bail!("it broke")).expect_err("the failure comes through");
        let path = cache.entry(&key, |to| Ok(fs::write(to.join("file"), "made")?)).expect("made");
        let again = cache.entry(&key, |_| bail!("made twice")).expect("found");
        assert_eq!(path, again);
        assert_eq!(cache.entries(&["tools", "images"]).expect("entries"), BTreeSet::from([key.path()]));
        assert_eq!(fs::read_to_string(path.join("file")).expect("readable"), "made");
        assert_eq!(fs::read_dir(folder.path().join("unfinished")).expect("a folder").count(), 0);
    }
}
