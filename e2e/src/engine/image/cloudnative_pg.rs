//! The images of CloudNativePG, under the names that its own manifest has: the operator, whose one binary is copied into each pod that
//! it makes, and PgBouncer, made of Debian's package.

use std::fs;

use anyhow::Result;

use super::archive::ImageConfig;
use super::root::RootFs;
use super::{Image, debian};
use crate::engine::cache::Cache;
use crate::engine::tools;

const SOURCE: &[u8] = include_bytes!("cloudnative_pg.rs");
/// The image of PgBouncer that the operator takes by default.
const PGBOUNCER: &str = "ghcr.io/cloudnative-pg/pgbouncer:1.25.1";
const RELEASE: &str = "trixie";
const PACKAGES: &[&str] = &["pgbouncer"];
/// Where Debian has it, and where the public image has it.
const PROGRAM: (&str, &str) = ("/usr/sbin/pgbouncer", "/usr/bin/pgbouncer");

/// The operator, of the version that `e2e/tools/` pins, and PgBouncer.
pub fn images() -> Result<[Image; 2]> {
    let version = tools::CLOUD_NATIVE_PG.version()?;
    let name = format!("ghcr.io/cloudnative-pg/cloudnative-pg:{}", version.trim_start_matches('v'));
    let binary = tools::CLOUD_NATIVE_PG.key()?.path();
    Ok([Image::new(name, [SOURCE, binary.as_bytes()], operator), pooler()])
}

/// PgBouncer alone.
pub fn pooler() -> Image {
    let packages = PACKAGES.join(",");
    Image::new(PGBOUNCER, [SOURCE, packages.as_bytes()], pgbouncer)
}

/// It lists the processors that it has a binary for by the files of this folder.
fn operator(cache: &Cache, root: &RootFs) -> Result<ImageConfig> {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let binary = format!("operator/manager_{architecture}");
    root.users(&[("nonroot", 65532, 65532)])?;
    root.program(&format!("/{binary}"), &tools::CLOUD_NATIVE_PG.path(cache)?)?;
    root.link("/manager", &binary)?;
    root.folder_of("/tmp", 0o1777, (0, 0))?;
    let config = ImageConfig::starting(&["/manager"]);
    Ok(ImageConfig { user: "65532:65532".to_owned(), working_dir: "/".to_owned(), ..config })
}

fn pgbouncer(cache: &Cache, root: &RootFs) -> Result<ImageConfig> {
    let archive = debian::root_archive(cache, RELEASE, PACKAGES)?;
    let debian = RootFs::unpack(&archive, &root.path().with_extension("debian"))?;
    root.users(&[("pgbouncer", 998, 996)])?;
    root.file("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n", 0o644)?;
    root.copy_linked(&debian, &[PROGRAM.0])?;
    root.link(PROGRAM.1, PROGRAM.0)?;
    fs::remove_dir_all(debian.path())?;
    let config = ImageConfig::starting(&[PROGRAM.1]);
    Ok(ImageConfig { user: "998:996".to_owned(), ..config })
}
