//! Bugs that are put into a copy of the operator on purpose, to prove that the campaign finds what it says that it finds.

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rorun_e2e::engine::Cache;
use rorun_e2e::engine::process::Run;
use rorun_e2e::scenarios::kit::{build_operator, project};

use super::suite::SUITES;

/// Where they are kept: each is a patch of the sources, and above it a line that says what it does, and one that names the
/// suites that should find it, as in `Suites: writes, mutation`.
pub const FOLDER: &str = "e2e/campaign/seeds";

/// A mode of a data service that is put into the sources like a bug, to count what adding one costs, and to build it.
const NEW_MODE: &str = "e2e/campaign/fixtures/new-mode.patch";

/// A bug.
#[derive(Clone, Debug)]
pub struct Seed {
    /// The name of its file, without the end.
    pub name: String,
    /// What is wrong with it.
    pub what: String,
    /// The suites that should find it. One that does not exist is passed over.
    pub suites: Vec<String>,
    patch: PathBuf,
}

impl Seed {
    /// All of them, in the order of their numbers.
    pub fn all() -> Result<Vec<Seed>> {
        let folder = project().join(FOLDER);
        let mut seeds = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("failed to read {}", folder.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "patch") {
                seeds.push(Seed::read(path)?);
            }
        }
        seeds.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(seeds)
    }

    /// The change that adds a mode, which is no bug.
    pub fn new_mode() -> Result<Seed> {
        Seed::read(project().join(NEW_MODE))
    }

    fn read(patch: PathBuf) -> Result<Seed> {
        let text = fs::read_to_string(&patch)?;
        let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let what = text.lines().next().unwrap_or_default().to_owned();
        let suites = text.lines().find_map(|line| line.strip_prefix("Suites: ")).unwrap_or_default();
        let exists = |name: &str| SUITES.iter().any(|suite| suite.name == name);
        let suites = suites.split(',').map(str::trim).filter(|name| exists(name)).map(str::to_owned).collect();
        Ok(Seed { name, what, suites, patch })
    }

    /// Puts it into the sources of that folder.
    pub fn put_into(&self, folder: &Path) -> Result<()> {
        self.apply(folder, &[]).with_context(|| format!("{} no longer fits the sources", self.name))
    }

    /// Takes it out of them again.
    pub fn take_out_of(&self, folder: &Path) -> Result<()> {
        self.apply(folder, &["--reverse"])
    }

    fn apply(&self, folder: &Path, options: &[&str]) -> Result<()> {
        let git = Run::new("git", ["apply"]).args(options).arg(&self.patch).folder(folder);
        // In a folder of a repository, paths would be those of the repository.
        let above = folder.parent().unwrap_or(folder);
        git.env("GIT_CEILING_DIRECTORIES", above).output().map(drop)
    }
}

/// A copy of the sources, and where it is built.
#[derive(Debug)]
pub struct Copy {
    folder: PathBuf,
    target: PathBuf,
    unchanged: OnceCell<Result<PathBuf, String>>,
}

impl Copy {
    /// A new copy. What was compiled for the last one is still there.
    pub fn make(cache: &Cache) -> Result<Copy> {
        let root = cache.folder("seeds")?;
        let copy = Copy { folder: root.join("source"), target: root.join("target"), unchanged: OnceCell::new() };
        if copy.folder.exists() {
            fs::remove_dir_all(&copy.folder)?;
        }
        copy_sources(&project(), &copy.folder)?;
        fs::create_dir_all(&copy.target)?;
        Ok(copy)
    }

    /// Where the sources are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The operator without any bug, built once.
    pub fn build_unchanged(&self) -> Result<PathBuf> {
        let built = self.unchanged.get_or_init(|| self.build("unchanged").map_err(|error| format!("{error:#}")));
        built.clone().map_err(anyhow::Error::msg)
    }

    /// An empty folder for the plans that fail with a bug.
    pub fn failed(&self, name: &str) -> Result<PathBuf> {
        let folder = self.target.join("failed").join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Builds the operator, and gives a binary that the next build leaves alone.
    pub fn build(&self, name: &str) -> Result<PathBuf> {
        let built = build_operator(&self.folder, &self.target)?;
        let kept = self.target.join("seeds");
        fs::create_dir_all(&kept)?;
        let kept = kept.join(name);
        fs::copy(&built, &kept).with_context(|| format!("failed to copy {}", built.display()))?;
        Ok(kept)
    }
}

fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (entry, path) = entry.map(|entry| (entry.file_name(), entry.path()))?;
        let name = entry.to_string_lossy();
        if name == "target" || (name.starts_with('.') && name != ".cargo") {
            continue;
        }
        if path.is_dir() {
            copy_sources(&path, &to.join(&entry))?;
        } else {
            // Not with its time: cargo would take for built what was changed before the last build and copied after it.
            let mut file = fs::File::create(to.join(&entry))?;
            std::io::copy(&mut fs::File::open(&path)?, &mut file)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Lines that are added and taken away, by file.
    fn lines(patch: &Path) -> Vec<(usize, usize, String)> {
        let told = Run::new("git", ["apply", "--numstat"]).arg(patch).folder(&project()).output().expect("a patch");
        let line = |line: &str| {
            let mut words = line.split_whitespace();
            let mut number = || words.next().and_then(|word| word.parse().ok()).expect("a number");
            (number(), number(), words.next().expect("a path").to_owned())
        };
        told.lines().map(line).collect()
    }

    #[test]
    fn a_mode_costs_its_own_files_one_field_and_one_line_in_each_table() {
        let mode = Seed::new_mode().expect("the change");
        let folder = tempfile::tempdir().expect("a folder");
        for part in ["operator", "examples"] {
            copy_sources(&project().join(part), &folder.path().join(part)).expect("a copy");
        }
        mode.put_into(folder.path()).expect("it fits");
        let (known, own): (Vec<_>, Vec<_>) =
            lines(&mode.patch).into_iter().partition(|(_, _, path)| project().join(path).exists());
        let paths = |of: &[(usize, usize, String)]| of.iter().map(|(_, _, path)| path.clone()).collect::<Vec<_>>();
        assert_eq!(
            paths(&own),
            [
                "examples/redis-neighbour.yaml",
                "operator/src/api/v1alpha1/neighbour_redis.rs",
                "operator/src/desired/redis/neighbour.rs",
                "operator/src/stack/redis/neighbour.rs",
            ]
        );
        assert_eq!(
            paths(&known),
            [
                "operator/src/api/v1alpha1/mod.rs",
                "operator/src/api/v1alpha1/redis.rs",
                "operator/src/desired/redis/mod.rs",
                "operator/src/stack/redis/mod.rs",
            ]
        );
        // A module and its name in three folders, the field with its two lines of documentation and serde, a variant with its
        // documentation, an arm in two matches, and the line of the block that was one and is broken into five.
        let (added, taken): (usize, usize) =
            known.iter().fold((0, 0), |sum, (added, taken, _)| (sum.0 + added, sum.1 + taken));
        assert!(added <= 20 && taken <= 3, "{added} lines are added to what is there, and {taken} are changed");
    }

    #[test]
    fn every_seed_fits_the_sources_and_names_its_suites() {
        let seeds = Seed::all().expect("seeds");
        assert!(seeds.len() >= 12, "{}", seeds.len());
        let folder = tempfile::tempdir().expect("a folder");
        let source = folder.path().join("source");
        copy_sources(&project().join("operator"), &source.join("operator")).expect("a copy");
        let mut reported = BTreeSet::new();
        for seed in &seeds {
            seed.put_into(&source).expect("it fits");
            seed.take_out_of(&source).expect("it was put in");
            assert!(seed.what.len() > 20 && !seed.what.starts_with("---"), "{}: {}", seed.name, seed.what);
            assert!(reported.insert(seed.what.clone()), "{}", seed.what);
            let text = fs::read_to_string(&seed.patch).expect("a patch");
            assert!(text.contains("\nSuites: "), "{} names no suite", seed.name);
        }
    }
}
