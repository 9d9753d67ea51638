//! The operator that was released before this one, with its chart and its definition of stacks: built from the sources of its
//! commit, which are in the history of the project, and kept in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{CHART, OPERATOR, TARGET, build_other_version, project};
use crate::engine::Cache;
use crate::engine::cache::{Key, remove_folder};
use crate::engine::durations::{Durations, Timed};
use crate::engine::process::Run;
use crate::engine::progress::Step;

/// The commit, in a file beside this crate.
const COMMIT: &str = "e2e/previous-version";
const BINARY: &str = "rorun-operator";
const DEFINITION: &str = "crds/rorunstacks.rorun.app.yaml";

/// The files of that release.
#[derive(Clone, Debug)]
pub struct Previous {
    /// Its program.
    pub program: PathBuf,
    /// The definition of stacks, as it was.
    pub definition: String,
    /// The folder of its chart.
    pub chart: PathBuf,
    /// A name for an image of its program. Both releases may bear the same number.
    pub image: String,
}

impl Previous {
    /// The key of the duration of its build, and how many seconds it takes on two idle processors.
    pub const BUILD: (&str, u32) = ("build the operator of the release before", 200);

    /// Whether the cache has the release.
    pub fn is_there(cache: &Cache) -> Result<bool> {
        Ok(cache.root().join(key(&commit()?).path()).is_dir())
    }

    /// The release in the cache; none if it was not built yet.
    pub fn built(cache: &Cache) -> Result<Option<Previous>> {
        if Previous::is_there(cache)? { Previous::build(cache).map(Some) } else { Ok(None) }
    }

    /// An error that says how to come by its sources, if they are not here.
    pub fn has_sources() -> Result<()> {
        has_commit(&project(), &commit()?)
    }

    /// Builds it unless it is in the cache.
    pub fn build(cache: &Cache) -> Result<Previous> {
        let commit = commit()?;
        let folder = cache.entry(&key(&commit), |to| {
            has_commit(&project(), &commit)?;
            let (name, table) = Previous::BUILD;
            let what = format!("building the operator of {}", &commit[..12]);
            let timed = Timed { name, what: &what, why: "the release before, not in the cache yet", table };
            Step::timed(&Durations::of(cache), &timed, || make(&commit, to))
        })?;
        Previous::of(&folder, &commit)
    }

    fn of(folder: &Path, commit: &str) -> Result<Previous> {
        Ok(Previous {
            program: folder.join(BINARY),
            definition: fs::read_to_string(folder.join("definition.yaml"))?,
            chart: folder.join("chart"),
            image: format!("{OPERATOR}-{}", &commit[..12]),
        })
    }
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
    let recipe: [&[u8]; 3] = [commit.as_bytes(), TARGET.as_bytes(), include_bytes!("previous.rs")];
    Key::new("operators", BINARY, &commit[..12], recipe)
}

fn make(commit: &str, to: &Path) -> Result<()> {
    let (sources, target) = (to.join("sources"), to.join("target"));
    fs::create_dir_all(&sources)?;
    unpack(&project(), commit, &sources)?;
    let built = build_other_version(&sources, &target).context("failed to build the release before")?;
    fs::copy(built, to.join(BINARY))?;
    fs::copy(sources.join(DEFINITION), to.join("definition.yaml"))?;
    fs::rename(sources.join(CHART), to.join("chart"))?;
    remove_folder(&sources)?;
    remove_folder(&target)
}

/// An error with the way out unless the history of that folder has the commit.
fn has_commit(folder: &Path, commit: &str) -> Result<()> {
    let git = |arguments: &[&str]| Run::new("git", arguments).folder(folder).output();
    if git(&["cat-file", "-e", &format!("{commit}^{{commit}}")]).is_ok() {
        return Ok(());
    }
    match git(&["rev-parse", "--is-shallow-repository"]) {
        Ok(shallow) if shallow.trim() == "true" => bail!(
            "this clone is shallow and has no commit {commit}, which {COMMIT} names: `git fetch --unshallow` brings it"
        ),
        Ok(_) => bail!(
            "this repository has no commit {commit}, which {COMMIT} names: \
             `git fetch origin {commit}` brings it, from a remote that has the history of the project"
        ),
        Err(error) => bail!(
            "the sources are here without their history, which has the commit {commit} that {COMMIT} names: \
             take a `git clone` of the project instead ({})",
            error.to_string().lines().last().unwrap_or_default()
        ),
    }
}

/// Takes the sources of the commit out of the history.
fn unpack(folder: &Path, commit: &str, to: &Path) -> Result<()> {
    let mut archive = Command::new("git")
        .args(["archive", commit])
        .current_dir(folder)
        .stdout(Stdio::piped())
        .spawn()
        .context("failed to run git")?;
    let sources = archive.stdout.take().context("git writes nothing")?;
    let unpacked =
        Command::new("tar").arg("-x").current_dir(to).stdin(sources).status().context("failed to run tar")?;
    if !archive.wait()?.success() || !unpacked.success() {
        bail!("failed to take the commit {commit} out of the history");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_COMMIT: &str = "0123456789012345678901234567890123456789";

    fn git(folder: &Path, arguments: &[&str]) {
        let author = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"];
        Run::new("git", author).args(arguments).folder(folder).output().expect("git");
    }

    /// A repository of two commits; gives the first.
    fn repository(folder: &Path) -> String {
        git(folder, &["init", "--quiet"]);
        fs::write(folder.join("file"), "first").expect("written");
        git(folder, &["add", "file"]);
        git(folder, &["commit", "--quiet", "--message=first"]);
        let first = Run::new("git", ["rev-parse", "HEAD"]).folder(folder).output().expect("a commit");
        fs::write(folder.join("file"), "second").expect("written");
        git(folder, &["commit", "--quiet", "--all", "--message=second"]);
        first.trim().to_owned()
    }

    #[test]
    fn the_commit_is_one_and_its_entry_is_named_by_it() {
        let commit = commit().expect("a commit");
        assert!(key(&commit).path().contains(&commit[..12]));
    }

    #[test]
    fn the_sources_are_those_of_the_commit() {
        let (from, to) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let first = repository(from.path());
        has_commit(from.path(), &first).expect("it is there");
        unpack(from.path(), &first, to.path()).expect("unpacked");
        assert_eq!(fs::read_to_string(to.path().join("file")).expect("a file"), "first");
    }

    #[test]
    fn a_commit_that_is_not_there_is_told_with_the_way_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = repository(folder.path());
        let other = has_commit(folder.path(), NO_COMMIT).expect_err("no such commit").to_string();
        assert!(other.contains("git fetch origin 0123456789"), "{other}");

        let shallow = tempfile::tempdir().expect("a folder");
        let url = format!("file://{}", folder.path().display());
        git(shallow.path(), &["clone", "--quiet", "--depth=1", &url, "clone"]);
        let cut_off = has_commit(&shallow.path().join("clone"), &first).expect_err("cut off").to_string();
        assert!(cut_off.contains("git fetch --unshallow"), "{cut_off}");
    }

    #[test]
    fn sources_without_a_history_are_told_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = has_commit(folder.path(), NO_COMMIT).expect_err("no history").to_string();
        assert!(error.contains("without their history") && error.contains("git clone"), "{error}");
    }
}
