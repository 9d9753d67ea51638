//! Copies the binary into a folder that another container shares.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::authorities;

/// Why the binary could not be copied.
#[derive(Debug, thiserror::Error)]
#[error("failed to install {}: {source}", path.display())]
pub struct InstallError {
    path: PathBuf,
    source: io::Error,
}

/// Copies the running binary, and beside it the public certificate authorities: images of databases often have none.
pub(super) fn install(path: &Path) -> Result<(), InstallError> {
    place(Path::new("/proc/self/exe"), path, 0o755)?;
    if let Some(bundle) = authorities::system_bundle() {
        place(&bundle, &path.with_file_name(authorities::BUNDLE_FILE), 0o644)?;
    }
    Ok(())
}

/// A reader of the target gets the whole new file or the whole old one.
fn place(source: &Path, target: &Path, mode: u32) -> Result<(), InstallError> {
    let failed = |source| InstallError { path: target.to_owned(), source };
    let mut partial = target.as_os_str().to_owned();
    partial.push(format!(".{}.partial", std::process::id()));
    let partial = PathBuf::from(partial);
    let copied = copy(source, &partial, mode).and_then(|()| fs::rename(&partial, target));
    copied.map_err(|error| {
        // Best effort: the first error is the one that counts.
        let _ = fs::remove_file(&partial);
        failed(error)
    })
}

fn copy(source: &Path, target: &Path, mode: u32) -> io::Result<()> {
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut output = File::create(target)?;
    io::copy(&mut File::open(source)?, &mut output)?;
    output.set_permissions(Permissions::from_mode(mode))?;
    output.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_complete_and_can_be_run() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("deep/rorun-operator");
        install(&path).expect("install");
        install(&path).expect("install over an older one");
        let own = fs::metadata("/proc/self/exe").expect("own binary").len();
        let copy = fs::metadata(&path).expect("copy");
        assert_eq!((copy.len(), copy.permissions().mode() & 0o777), (own, 0o755));
        let left = fs::read_dir(path.parent().expect("parent")).expect("list");
        let names: Vec<_> = left.map(|entry| entry.expect("entry").file_name()).collect();
        assert!(names.iter().all(|name| name == "rorun-operator" || name == authorities::BUNDLE_FILE), "{names:?}");
    }

    #[test]
    fn a_failure_names_the_path_and_leaves_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("taken");
        fs::create_dir(&path).expect("folder in the way");
        let error = install(&path).expect_err("a folder is in the way");
        assert!(error.to_string().starts_with(&format!("failed to install {}: ", path.display())), "{error}");
        assert_eq!(fs::read_dir(folder.path()).expect("list").count(), 1);
    }
}
