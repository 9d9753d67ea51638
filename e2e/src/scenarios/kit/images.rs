//! How the images are made that the scenarios run: that of the operator, by its own Dockerfile, and those of the applications that stand
//! in for Rorun's.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::TestContext;
use super::names::{ADMIN, API, API_NEXT, API_TESTED, OCR, OPERATOR};
use super::test_cluster::blocking;
use crate::engine::cache::remove_folder;
use crate::engine::durations::{Durations, Timed};
use crate::engine::image::Image;
use crate::engine::process::{Run, find_program};
use crate::engine::progress::Step;
use crate::engine::{Cache, Cluster, packages};

const FIXTURES: &[(&str, &str)] =
    &[(API, "api"), (API_NEXT, "api"), (API_TESTED, "api"), (OCR, "ocr"), (ADMIN, "admin")];

/// The profile of a build, as Cargo.toml defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// For tests of what the program does.
    Quick,
    /// As it is released: for measurements of time and size.
    Release,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Profile::Quick => "quick",
            Profile::Release => "release",
        }
    }

    /// The key of the duration of a build from nothing, and how many seconds it takes on two idle processors.
    fn build(self) -> (&'static str, u32) {
        match self {
            Profile::Quick => ("build the operator, quick", 200),
            Profile::Release => ("build the operator, release", 480),
        }
    }
}

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

/// Variables that `cargo run` and `cargo test` set about the package of the program. Build scripts that read them, as the one of
/// `ring` does, would run again, and all dependent crates would be compiled again, whenever another cargo did the same.
const OF_THIS_PROGRAM: [&str; 4] = ["CARGO_BIN_", "CARGO_CRATE_", "CARGO_MANIFEST_", "CARGO_PKG_"];

/// The cargo that this process was started by.
pub fn cargo<I, A>(arguments: I) -> Run
where
    I: IntoIterator<Item = A>,
    A: AsRef<OsStr>,
{
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let inherited = std::env::vars_os().map(|(name, _)| name);
    let inherited = inherited.filter(|name| OF_THIS_PROGRAM.iter().any(|of| name.to_string_lossy().starts_with(of)));
    Run::new(program, arguments).without(inherited)
}

/// Builds the operator and the applications for the images, quick when nothing changed. From now on they are what
/// [`operator_binary`] and [`load_images`] take.
pub fn build_binaries(cache: &Cache, profile: Profile) -> Result<()> {
    prepare()?;
    let (name, table) = profile.build();
    let what = "building the operator and the fixture application";
    let why = format!("static, for their images, by the profile {}", profile.name());
    let folder = built(profile)?;
    let build = || {
        let build = ["build", "--quiet", "--profile", profile.name(), "--target", TARGET];
        cargo(build).args(PROGRAMS).folder(&project()).output()
    };
    if folder.join(BINARY).exists() {
        Step::of(what, &why, build)?;
    } else {
        // Only the duration of a build from nothing is predictable.
        Step::timed(&Durations::of(cache), &Timed { name, what, why: &why, table }, build)?;
    }
    use_operator(folder.join(BINARY));
    Ok(())
}

const BINARY: &str = "rorun-operator";
/// Both at once, wherever one of them is built: what they have in common is compiled with the same features.
const PROGRAMS: [&str; 4] = ["-p", BINARY, "-p", "rorun-fixture"];

/// Installs what the build for that target needs.
fn prepare() -> Result<()> {
    if let Some(rustup) = find_program("rustup") {
        // It does nothing where the target is there, and needs no network then.
        let installed = Run::new(&rustup, ["target", "list", "--installed"]).output()?;
        if !installed.lines().any(|line| line == TARGET) {
            Step::of(&format!("adding the Rust target {TARGET}"), "for static binaries", || {
                Run::new(&rustup, ["target", "add", TARGET]).output()
            })?;
        }
    }
    packages::ensure(&["musl-tools"], "to link static binaries")
}

/// Builds just the operator, out of the sources in that folder, into that target folder; gives the binary. Its own code is
/// not optimised at all, which takes a fraction of the time once other people's crates are compiled.
pub fn build_operator(sources: &Path, target: &Path) -> Result<PathBuf> {
    quick_build(sources, target, &["--config", "profile.quick.package.rorun-operator.opt-level=0"])
}

/// Builds the operator out of the sources of another version, which may not know the quick profile; gives the binary.
pub fn build_other_version(sources: &Path, target: &Path) -> Result<PathBuf> {
    prepare()?;
    take_over(&target_folder()?, target)?;
    let settings = quick_settings(&fs::read_to_string(project().join("Cargo.toml"))?)?;
    let mut arguments = vec!["--locked"];
    arguments.extend(settings.iter().flat_map(|setting| ["--config", setting]));
    quick_build(sources, target, &arguments)
}

/// Other people's crates, as they were compiled for these sources: another version needs most of them in the same version. What
/// was compiled of the project itself stays behind. By name and version it would be taken for that of the other sources.
fn take_over(from: &Path, to: &Path) -> Result<()> {
    let profile = Profile::Quick.name();
    for below in [PathBuf::new(), PathBuf::from(TARGET)] {
        let (compiled, folder) = (from.join(&below).join(profile), to.join(&below));
        fs::create_dir_all(&folder)?;
        // Links keep the times by which cargo knows what is up to date. There are none to another file system.
        if !compiled.is_dir() || !Run::new("cp", ["--archive", "--link"]).arg(&compiled).arg(&folder).succeeds() {
            return remove_folder(to);
        }
        let taken = folder.join(profile);
        remove_folder(&taken.join("incremental"))?;
        for place in ["", "deps", "build", ".fingerprint"] {
            for entry in fs::read_dir(taken.join(place)).with_context(|| format!("cargo has no folder {place}"))? {
                let (name, path) = entry.map(|entry| (entry.file_name(), entry.path()))?;
                if !name.to_string_lossy().trim_start_matches("lib").starts_with("rorun") {
                    continue;
                }
                if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
            }
        }
    }
    Ok(())
}

fn quick_build(sources: &Path, target: &Path, arguments: &[&str]) -> Result<PathBuf> {
    let profile = Profile::Quick.name();
    let build = cargo(["build", "--quiet", "--profile", profile, "--target", TARGET]).args(PROGRAMS).args(arguments);
    build.folder(sources).env("CARGO_TARGET_DIR", target).output()?;
    Ok(target.join(TARGET).join(profile).join(BINARY))
}

/// The quick profile of a Cargo.toml, as cargo takes it on its command line.
fn quick_settings(manifest: &str) -> Result<Vec<String>> {
    let profile = format!("profile.{}", Profile::Quick.name());
    let sections = manifest.split("\n[").filter_map(|section| section.split_once("]\n"));
    let of_profile = sections.filter_map(|(name, lines)| {
        let below = name.strip_prefix(&profile)?;
        (below.is_empty() || below.starts_with('.')).then_some((name, lines))
    });
    let settings: Vec<String> = of_profile
        .flat_map(|(name, lines)| {
            let settings = lines.lines().filter(|line| line.contains(" = ") && !line.starts_with('#'));
            settings.map(move |line| format!("{name}.{line}"))
        })
        .collect();
    ensure!(!settings.is_empty(), "Cargo.toml has no [{profile}]");
    Ok(settings)
}

static OPERATOR_BINARY: OnceLock<PathBuf> = OnceLock::new();

/// From now on, [`operator_binary`] is this one.
pub fn use_operator(binary: PathBuf) {
    // Only the first counts: a process is about one operator.
    let _ = OPERATOR_BINARY.set(binary);
}

/// The operator as [`build_binaries`] has built it, or the one that was named instead.
pub fn operator_binary() -> Result<PathBuf> {
    OPERATOR_BINARY.get().cloned().context("no operator was built")
}

/// The released operator, for what was built by a process before this one.
pub fn use_released_operator() -> Result<()> {
    use_operator(built(Profile::Release)?.join(BINARY));
    Ok(())
}

/// Whether the operator was ever built here by that profile.
pub fn was_built(profile: Profile) -> Result<bool> {
    Ok(built(profile)?.join(BINARY).exists())
}

/// How long it takes to build the operator by that profile: nothing where it was built before, which is as good as ready.
pub fn time_to_build(cache: &Cache, profile: Profile) -> Result<Duration> {
    let (name, table) = profile.build();
    let takes = || Durations::of(cache).estimate(name, table).time;
    Ok(if was_built(profile)? { Duration::ZERO } else { takes() })
}

/// Builds an optimised program of a package, for measurements that the program makes.
pub fn optimised(package: &str, program: &str) -> Result<PathBuf> {
    Step::of("building the benchmarks", "optimised: they are what the operator is compared with", || {
        cargo(["build", "--quiet", "--release", "--target", TARGET, "-p", package]).folder(&project()).output()
    })?;
    Ok(built(Profile::Release)?.join(program))
}

fn built(profile: Profile) -> Result<PathBuf> {
    Ok(target_folder()?.join(TARGET).join(profile.name()))
}

/// Makes the images of what was built, and puts them into the cluster.
pub fn load_images(cluster: &Cluster) -> Result<()> {
    Step::of("loading the images of the operator and the applications", "into the cluster", || {
        let operator = operator_binary()?;
        load_operator(cluster, OPERATOR, &operator)?;
        let dockerfile = project().join("e2e/fixtures/app/Dockerfile");
        for (image, role) in FIXTURES {
            let version = image.rsplit(':').next().unwrap_or_default();
            let arguments = [format!("--build-arg=ROLE={role}"), format!("--build-arg=APP_VERSION={version}")];
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            build(cluster, image, &dockerfile, &[operator.with_file_name("rorun-fixture")], &arguments)?;
        }
        Ok(())
    })
}

impl TestContext {
    /// Puts an image into the cluster that only some scenarios need, made first if it has to be; gives its name.
    pub async fn bring(&self, image: Image) -> Result<String> {
        let cluster = self.cluster.clone();
        blocking(move || {
            image.ensure(cluster.cache(), cluster.docker())?;
            cluster.load(&image.name)?;
            Ok(image.name)
        })
        .await
    }
}

/// Makes an image of a binary of the operator, and puts it into the cluster by that name.
pub fn load_operator(cluster: &Cluster, image: &str, binary: &Path) -> Result<()> {
    let files = [binary.to_owned(), authorities()?];
    build(cluster, image, &project().join("Dockerfile"), &files, &["--target=prebuilt"])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_profile_is_handed_to_sources_that_do_not_know_it() {
        let manifest = fs::read_to_string(project().join("Cargo.toml")).expect("the manifest");
        let settings = quick_settings(&manifest).expect("a quick profile");
        for setting in ["profile.quick.inherits = \"release\"", "profile.quick.lto = false"] {
            assert!(settings.iter().any(|found| found == setting), "{settings:?}");
        }
        let named = "profile.quick.package.serde_json.opt-level = 1";
        assert!(settings.iter().any(|found| found == named), "{settings:?}");
        let other = "[profile.quicker]\nlto = false\n\n[profile.release]\nlto = \"fat\"\n";
        quick_settings(other).expect_err("no quick profile");
    }
    #[test]
    fn other_peoples_crates_are_taken_over_and_our_own_are_not() {
        let (from, to) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let files = ["deps/libserde-1.rlib", "deps/librorun_operator-1.rlib", ".fingerprint/rorun-operator-1/bin"];
        for below in ["", TARGET] {
            for file in
                files.iter().chain(&["build/serde-1/output", "incremental/rorun_operator-1/x", "rorun-operator"])
            {
                let path = from.path().join(below).join("quick").join(file);
                fs::create_dir_all(path.parent().expect("a folder")).expect("made");
                fs::write(path, "compiled").expect("written");
            }
        }
        take_over(from.path(), to.path()).expect("taken over");
        for below in ["", TARGET] {
            let has = |file: &str| to.path().join(below).join("quick").join(file).exists();
            assert!(has("deps/libserde-1.rlib") && has("build/serde-1/output"));
            assert!(!files[1..].iter().any(|file| has(file)) && !has("incremental") && !has("rorun-operator"));
            assert!(from.path().join(below).join("quick").join(files[1]).exists());
        }
    }

    #[test]
    fn where_nothing_was_compiled_nothing_is_taken_over() {
        let (from, to) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        take_over(from.path(), &to.path().join("target")).expect("nothing to do");
        assert!(!to.path().join("target").exists());
    }
}
