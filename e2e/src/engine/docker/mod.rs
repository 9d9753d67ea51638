//! Docker Engine: the machine's where it can start a privileged container, which kind's node is; otherwise one of our
//! own for the time of the run.

mod own;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

pub use own::OwnEngine;

use super::cache::Cache;
use super::host::Host;
use super::image::archive::Archive;
use super::process::{Run, find_program};
use super::{packages, progress};

/// An image to see with whether a container starts.
const PROBE_IMAGE: &str = "rorun-e2e/probe:1";

/// Which engine is used. Kept with the state of a cluster, so that a later command speaks to the same one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Docker {
    /// The machine's, as its `docker` finds it.
    Machine,
    /// Ours, by its socket.
    Own(PathBuf),
}

impl Docker {
    /// Chooses an engine, starting our own if it has to be, and says which and why.
    pub fn choose(cache: &Cache) -> Result<Docker> {
        let why = match Docker::Machine.can_run_privileged(cache) {
            Ok(()) => {
                progress::note("Docker Engine: the machine's, which runs and can start privileged containers");
                return Ok(Docker::Machine);
            }
            Err(error) => format!("{error:#}").lines().next().unwrap_or_default().to_owned(),
        };
        progress::note(&format!("Docker Engine: one of our own for the time of the run, because {why}"));
        Ok(Docker::Own(OwnEngine::of(cache)?.start(Host::detect()?)?))
    }

    /// A `docker` command with these arguments.
    pub fn command<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(&self, arguments: I) -> Run {
        self.run("docker", arguments)
    }

    /// A program that finds this engine by its environment, as `docker` and `kind` do.
    pub fn run<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(&self, program: impl AsRef<OsStr>, arguments: I) -> Run {
        // The classic builder needs no plug-in, and builds the first stage of a file without pulling the others.
        let run = Run::new(program, arguments).env("DOCKER_BUILDKIT", "0");
        match self {
            Docker::Machine => run,
            Docker::Own(socket) => run.env("DOCKER_HOST", format!("unix://{}", socket.display())),
        }
    }

    /// Runs `docker` and gives what it wrote.
    pub fn output<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(&self, arguments: I) -> Result<String> {
        self.command(arguments).output()
    }

    /// Runs a program in a container.
    pub fn exec(&self, container: &str, command: &[&str]) -> Result<String> {
        self.output([&["exec", container], command].concat())
    }

    /// The label of an image: none when there is no such image, empty when it has no such label.
    pub fn image_label(&self, image: &str, label: &str) -> Option<String> {
        let format = format!("{{{{index .Config.Labels \"{label}\"}}}}");
        self.output(["image", "inspect", "--format", &format, image]).ok().map(|text| text.trim().to_owned())
    }

    /// Loads the archive of an image. What had its name before is removed, unless something still runs from it.
    pub fn load(&self, image: &str, archive: &Path) -> Result<()> {
        let id = || self.output(["image", "inspect", "--format", "{{.Id}}", image]).ok();
        let before = id();
        self.command(["load", "--quiet", "--input"]).arg(archive).output()?;
        if let Some(before) = before.filter(|before| Some(before) != id().as_ref()) {
            let _ = self.output(["image", "rm", before.trim()]);
        }
        Ok(())
    }

    fn can_run_privileged(&self, cache: &Cache) -> Result<()> {
        find_program("docker").context("there is no docker")?;
        if !self.command(["version"]).succeeds() {
            anyhow::bail!("no Docker Engine answers");
        }
        packages::ensure(&["busybox-static"], "for a container that shows what the Docker Engine can do")?;
        if self.image_label(PROBE_IMAGE, "").is_none() {
            self.load(PROBE_IMAGE, &Archive::of_busybox(cache, PROBE_IMAGE)?)?;
        }
        self.output(["run", "--rm", "--privileged", "--network=none", PROBE_IMAGE, "/bin/true"])
            .context("the machine's Docker Engine cannot start a privileged container")?;
        Ok(())
    }
}
