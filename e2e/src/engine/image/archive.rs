//! Image archives, in the format that both `docker load` and containerd's `ctr images import` read: one layer, made
//! from a folder. Written here, since an image must be ready before there is anything to build it with.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::json;

use super::root::RootFs;
use crate::engine::cache::{Cache, Key};
use crate::engine::process::Run;

/// The label that says by which recipe an image of ours was made. A pulled image has none.
pub const RECIPE_LABEL: &str = "io.rorun.e2e.recipe";

/// How the image's program is started.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageConfig {
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// The arguments if the pod gives none.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// `uid:gid`; root when empty.
    pub user: String,
    /// The folder to start in.
    pub working_dir: String,
    /// The signal that asks it to end; SIGTERM when empty.
    pub stop_signal: String,
}

impl ImageConfig {
    /// Starts a program with the usual PATH.
    pub fn starting(entrypoint: &[&str]) -> ImageConfig {
        ImageConfig {
            entrypoint: entrypoint.iter().map(|&word| word.to_owned()).collect(),
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
            ..ImageConfig::default()
        }
    }
}

/// Writes an archive.
#[derive(Debug)]
pub struct Archive;

impl Archive {
    /// An archive of the folder `root` under the name; `recipe` goes into the label.
    pub fn write(name: &str, recipe: &str, root: &Path, config: &ImageConfig, to: &Path) -> Result<()> {
        let parts = to.with_extension("parts");
        fs::create_dir_all(&parts)?;
        let layer = parts.join("layer.tar");
        tar(root, &layer)?;
        let mut labelled = serde_json::to_value(config)?;
        labelled["Labels"] = json!({ RECIPE_LABEL: recipe });
        let image = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": labelled,
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&layer)?)]},
            "history": [{"created_by": "rorun e2e"}],
        });
        fs::write(parts.join("image.json"), serde_json::to_vec(&image)?)?;
        let file = format!("{}.json", sha256(&parts.join("image.json"))?);
        fs::rename(parts.join("image.json"), parts.join(&file))?;
        let manifest = json!([{"Config": file, "RepoTags": [name], "Layers": ["layer.tar"]}]);
        fs::write(parts.join("manifest.json"), serde_json::to_vec(&manifest)?)?;
        tar(&parts, to)?;
        fs::remove_dir_all(&parts)?;
        Ok(())
    }

    /// A small image with a shell and little else.
    pub fn of_busybox(cache: &Cache, name: &str) -> Result<PathBuf> {
        let key = Key::new("images", "busybox", "1", [name.as_bytes()]);
        let folder = cache.entry(&key, |folder| {
            let root = RootFs::create(&folder.join("root"))?;
            root.busybox()?;
            Archive::write(name, "1", root.path(), &ImageConfig::starting(&["/bin/sh"]), &folder.join("image.tar"))?;
            Ok(fs::remove_dir_all(root.path())?)
        })?;
        Ok(folder.join("image.tar"))
    }
}

/// Packs a folder with the owners of its files, in an order and with times that do not change from run to run.
pub(super) fn tar(folder: &Path, to: &Path) -> Result<()> {
    Run::new("tar", ["--numeric-owner", "--sort=name", "--mtime=@0", "--create", "--file"])
        .arg(to)
        .arg("--directory")
        .arg(folder)
        .arg(".")
        .output()?;
    Ok(())
}

/// The hash of a file, by the program for it: ours, unoptimised in a development build, would take minutes for a
/// gigabyte.
pub(super) fn sha256(file: &Path) -> Result<String> {
    let line = Run::new("sha256sum", [file]).output()?;
    line.split_whitespace().next().map(str::to_owned).context("sha256sum wrote nothing")
}
