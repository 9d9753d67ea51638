//! The images of CloudNativePG's barman-cloud plugin, under the names of its release: the plugin itself, and what runs beside each
//! server, which is the same program with Barman's commands of Debian's package.

use anyhow::Result;

use super::archive::ImageConfig;
use super::root::RootFs;
use super::{Image, debian};
use crate::engine::cache::Cache;
use crate::engine::tools;

const SOURCE: &[u8] = include_bytes!("barman_cloud.rs");
const PLUGIN: &str = "ghcr.io/cloudnative-pg/plugin-barman-cloud";
const RELEASE: &str = "trixie";
/// Debian compiles what is written in Python, which the sidecar cannot: its file system is read-only.
const PACKAGES: &[&str] = &["barman-cli-cloud", "ca-certificates", "python3-boto3"];
const PROGRAM: &str = "/manager";
/// The users of the public images, by number.
const NOBODY: u32 = 65532;
const POSTGRES: u32 = 26;

/// The names of both: of the plugin, and of what runs beside each server.
pub fn names() -> Result<[String; 2]> {
    let version = tools::BARMAN_CLOUD.version()?;
    Ok([format!("{PLUGIN}:{version}"), format!("{PLUGIN}-sidecar:{version}")])
}

/// Both, of the version that `e2e/tools/` pins.
pub fn images() -> Result<[Image; 2]> {
    let [plugin_name, sidecar_name] = names()?;
    let (binary, packages) = (tools::BARMAN_CLOUD.key()?.path(), PACKAGES.join(","));
    Ok([
        Image::new(plugin_name, [SOURCE, binary.as_bytes()], plugin),
        Image::new(sidecar_name, [SOURCE, binary.as_bytes(), packages.as_bytes()], sidecar),
    ])
}

fn plugin(cache: &Cache, root: &RootFs) -> Result<ImageConfig> {
    root.users(&[("nonroot", NOBODY, NOBODY)])?;
    root.folder_of("/tmp", 0o1777, (0, 0))?;
    filled(cache, root, NOBODY)
}

fn sidecar(cache: &Cache, root: &RootFs) -> Result<ImageConfig> {
    RootFs::unpack(&debian::root_archive(cache, RELEASE, PACKAGES)?, root.path())?;
    root.users(&[("postgres", POSTGRES, POSTGRES)])?;
    filled(cache, root, POSTGRES)
}

fn filled(cache: &Cache, root: &RootFs, user: u32) -> Result<ImageConfig> {
    root.program(PROGRAM, &tools::BARMAN_CLOUD.path(cache)?)?;
    let config = ImageConfig::starting(&[PROGRAM]);
    Ok(ImageConfig { user: format!("{user}:{user}"), ..config })
}
