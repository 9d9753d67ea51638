//! The operator of the version before, built from the sources of its commit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::engine::Cache;
use crate::engine::cache::{Key, remove_folder};
use crate::engine::progress::Step;
use crate::scenarios::kit::{TARGET, cargo, project};

/// The commit, in a file beside this crate.
const COMMIT: &str = "e2e/previous-version";
const BINARY: &str = "rorun-operator";
const DEFINITION: &str = "crds/rorunstacks.rorun.app.yaml";

/// What the version before consists of.
#[derive(Debug)]
pub(super) struct Previous {
    /// Its program.
    pub(super) program: PathBuf,
    /// The definition of stacks, as it was.
    pub(super) definition: String,
}

/// What is in the cache; nothing if it was not built yet.
pub(super) fn built(cache: &Cache) -> Result<Option<Previous>> {
    let folder = cache.root().join(key(&commit()?).path());
    if folder.is_dir() { of(&folder).map(Some) } else { Ok(None) }
}

/// Builds it unless it is in the cache.
pub(super) fn build(cache: &Cache) -> Result<Previous> {
    let commit = commit()?;
    let folder = cache.entry(&key(&commit), |to| {
        Step::of(&format!("building the operator of {}", &commit[..12]), "once; some minutes", || make(&commit, to))
    })?;
    of(&folder)
}

fn commit() -> Result<String> {
    let text = fs::read_to_string(project().join(COMMIT)).with_context(|| format!("failed to read {COMMIT}"))?;
    let commit = text.trim().to_owned();
    if commit.len() != 40 || !commit.chars().all(|c| c.is_ascii_hexdigit()) {
        bail!("{COMMIT} holds no commit: {commit}");
    }
    Ok(commit)
}

fn key(commit: &str) -> Key {
    Key::new("operators", BINARY, &commit[..12], [commit.as_bytes()])
}

fn of(folder: &Path) -> Result<Previous> {
    let definition = fs::read_to_string(folder.join("definition.yaml"))?;
    Ok(Previous { program: folder.join(BINARY), definition })
}

fn make(commit: &str, to: &Path) -> Result<()> {
    let sources = to.join("sources");
    fs::create_dir_all(&sources)?;
    unpack(commit, &sources)?;
    // As the current one is built.
    let build = ["build", "--quiet", "--release", "--locked", "-p", BINARY, "--target", TARGET];
    cargo(build)
        .arg("--target-dir")
        .arg(to.join("target"))
        .folder(&sources)
        .output()
        .context("failed to build the version before")?;
    fs::copy(to.join("target").join(TARGET).join("release").join(BINARY), to.join(BINARY))?;
    fs::copy(sources.join(DEFINITION), to.join("definition.yaml"))?;
    remove_folder(&sources)?;
    remove_folder(&to.join("target"))
}

/// Takes the sources of the commit out of the repository.
fn unpack(commit: &str, to: &Path) -> Result<()> {
    let mut archive = Command::new("git")
        .args(["archive", commit])
        .current_dir(project())
        .stdout(Stdio::piped())
        .spawn()
        .context("failed to run git")?;
    let sources = archive.stdout.take().context("git writes nothing")?;
    let unpacked =
        Command::new("tar").arg("-x").current_dir(to).stdin(sources).status().context("failed to run tar")?;
    if !archive.wait()?.success() || !unpacked.success() {
        bail!(
            "this clone has no commit {commit}, which {COMMIT} names: `git fetch --unshallow` brings what a shallow clone lacks"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commit_is_one_and_its_entry_is_named_by_it() {
        let commit = commit().expect("a commit");
        assert!(key(&commit).path().contains(&commit[..12]));
    }

    #[test]
    fn a_commit_that_is_not_there_is_told_with_the_way_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = unpack(&"0".repeat(40), folder.path()).expect_err("no such commit");
        assert!(error.to_string().contains("--unshallow"), "{error}");
    }
}
