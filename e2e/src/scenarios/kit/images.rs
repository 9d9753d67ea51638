//! The images that the scenarios run: the operator, by its own Dockerfile, and the applications that stand in for Rorun's.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result};

use crate::engine::process::{Run, find_program};
use crate::engine::progress::Step;
use crate::engine::{Cluster, packages};

/// The operator.
pub const OPERATOR: &str = concat!("ghcr.io/rorun/rorun-operator:", env!("CARGO_PKG_VERSION"));
/// The API, as the examples name it.
pub const API: &str = "ghcr.io/rorun/rorun-api:1.8.0";
/// The release of the API after that.
pub const API_NEXT: &str = "ghcr.io/rorun/rorun-api:1.9.0";
/// The OCR service.
pub const OCR: &str = "ghcr.io/rorun/rorun-ai-service:1.8.0";
/// The admin panel.
pub const ADMIN: &str = "ghcr.io/rorun/rorun-admin:1.8.0";

const FIXTURES: &[(&str, &str)] = &[(API, "api"), (API_NEXT, "api"), (OCR, "ocr"), (ADMIN, "admin")];

/// Static binaries run in an image that has nothing else.
pub const TARGET: &str =
    if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-musl" } else { "x86_64-unknown-linux-musl" };

/// The folder of the project.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The folder that cargo builds into.
fn target_folder() -> Result<PathBuf> {
    let metadata = cargo(["metadata", "--format-version=1", "--no-deps"]).folder(&project()).output()?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    Ok(metadata["target_directory"].as_str().context("cargo names no target directory")?.into())
}

/// What `cargo run` and `cargo test` tell a program about its own package. Build scripts that look at it, as that of `ring` does,
/// would run again, and all that is built on them would be built again, whenever another cargo did the same.
const OF_THIS_PROGRAM: [&str; 4] = ["CARGO_BIN_", "CARGO_CRATE_", "CARGO_MANIFEST_", "CARGO_PKG_"];

/// The cargo that this process was started by.
pub fn cargo<I, A>(arguments: I) -> Run
where
    I: IntoIterator<Item = A>,
    A: AsRef<OsStr>,
{
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let told = std::env::vars_os().map(|(name, _)| name);
    let told = told.filter(|name| OF_THIS_PROGRAM.iter().any(|of| name.to_string_lossy().starts_with(of)));
    Run::new(program, arguments).without(told)
}

/// Builds the operator and the applications for the images; quick when nothing changed.
pub fn build_binaries() -> Result<()> {
    if let Some(rustup) = find_program("rustup") {
        // It does nothing where the target is there, and needs no network then.
        let installed = Run::new(&rustup, ["target", "list", "--installed"]).output()?;
        if !installed.lines().any(|line| line == TARGET) {
            Step::of(&format!("adding the Rust target {TARGET}"), "for static binaries", || {
                Run::new(&rustup, ["target", "add", TARGET]).output()
            })?;
        }
    }
    packages::ensure(&["musl-tools"], "to link static binaries")?;
    Step::of("building the operator and the fixture application", "static, for their images", || {
        let build =
            ["build", "--quiet", "--release", "--target", TARGET, "-p", "rorun-operator", "-p", "rorun-fixture"];
        cargo(build).folder(&project()).output()
    })?;
    Ok(())
}

/// Builds just the operator, out of the sources in that folder, into that target folder; gives the binary. Its own code is
/// not optimised, nor the program as a whole, which takes a fraction of the time once other people's crates are compiled.
pub fn build_operator(sources: &Path, target: &Path) -> Result<PathBuf> {
    let options = ["build", "--quiet", "--release", "--target", TARGET, "-p", "rorun-operator", "-p", "rorun-fixture"];
    let quick = ["package.rorun-operator.opt-level=0", "lto=false", "codegen-units=16"]
        .map(|of| format!("profile.release.{of}"));
    let quick = quick.iter().flat_map(|setting| ["--config", setting]);
    let build = cargo(options).args(quick).folder(sources);
    build.env("CARGO_TARGET_DIR", target).env("CARGO_INCREMENTAL", "1").output()?;
    Ok(target.join(TARGET).join("release/rorun-operator"))
}

static ANOTHER: OnceLock<PathBuf> = OnceLock::new();

/// From now on, [`operator_binary`] is this one.
pub fn use_operator(binary: PathBuf) {
    // Only the first counts: a process is about one operator.
    let _ = ANOTHER.set(binary);
}

/// The operator as [`build_binaries`] builds it, or the one that was named instead.
pub fn operator_binary() -> Result<PathBuf> {
    match ANOTHER.get() {
        Some(binary) => Ok(binary.clone()),
        None => Ok(binaries()?.join("rorun-operator")),
    }
}

/// This very program, optimised, for what is measured with it.
pub fn optimised_e2e() -> Result<PathBuf> {
    Step::of("building the benchmarks", "optimised: they are what the operator is compared with", || {
        cargo(["build", "--quiet", "--release", "--target", TARGET, "-p", "rorun-e2e"]).folder(&project()).output()
    })?;
    Ok(binaries()?.join("e2e"))
}

fn binaries() -> Result<PathBuf> {
    Ok(target_folder()?.join(TARGET).join("release"))
}

/// Makes the images of what was built, and puts them into the cluster.
pub fn load_images(cluster: &Cluster) -> Result<()> {
    Step::of("loading the images of the operator and the applications", "into the cluster", || {
        let binaries = binaries()?;
        let operator = [operator_binary()?, authorities()?];
        build(cluster, OPERATOR, &project().join("Dockerfile"), &operator, &["--target=prebuilt"])?;
        let dockerfile = project().join("e2e/fixtures/app/Dockerfile");
        for (image, role) in FIXTURES {
            let version = image.rsplit(':').next().unwrap_or_default();
            let arguments = [format!("--build-arg=ROLE={role}"), format!("--build-arg=APP_VERSION={version}")];
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            build(cluster, image, &dockerfile, &[binaries.join("rorun-fixture")], &arguments)?;
        }
        Ok(())
    })
}

/// The public certificate authorities of this machine, which the operator's image takes.
fn authorities() -> Result<PathBuf> {
    let path = PathBuf::from("/etc/ssl/certs/ca-certificates.crt");
    if !path.exists() {
        packages::ensure(&["ca-certificates"], "for the image of the operator")?;
    }
    Ok(path)
}

/// Builds an image out of just these files.
fn build(cluster: &Cluster, image: &str, dockerfile: &Path, files: &[PathBuf], arguments: &[&str]) -> Result<()> {
    let context = tempfile::tempdir()?;
    for file in files {
        let name = file.file_name().context("a file has a name")?;
        fs::copy(file, context.path().join(name)).with_context(|| format!("failed to copy {}", file.display()))?;
    }
    let docker = cluster.docker().command(["build", "--quiet", "--tag", image, "--file"]).arg(dockerfile);
    docker.args(arguments).arg(context.path()).output().with_context(|| format!("failed to build {image}"))?;
    cluster.load(image).with_context(|| format!("failed to load {image}"))
}
