//! A root file system in a folder, filled file by file.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::engine::process::Run;

/// A folder that becomes the root of an image. Paths are those inside.
#[derive(Debug)]
pub struct RootFs {
    folder: PathBuf,
}

impl RootFs {
    /// An empty root with the folders that programs expect.
    pub fn create(folder: &Path) -> Result<RootFs> {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        let root = RootFs { folder: folder.to_owned() };
        root.folder_with("tmp", 0o1777)?;
        Ok(root)
    }

    /// The root that an archive of [`super::debian`] holds.
    pub fn unpack(archive: &Path, folder: &Path) -> Result<RootFs> {
        fs::create_dir_all(folder)?;
        Run::new("tar", ["--numeric-owner", "--extract", "--file"])
            .arg(archive)
            .arg("--directory")
            .arg(folder)
            .output()?;
        Ok(RootFs { folder: folder.to_owned() })
    }

    /// Where it is on this machine.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Where a path inside is on this machine.
    pub fn at(&self, path: &str) -> PathBuf {
        self.folder.join(path.trim_start_matches('/'))
    }

    /// A folder with those permissions.
    pub fn folder_with(&self, path: &str, mode: u32) -> Result<()> {
        fs::create_dir_all(self.at(path)).with_context(|| format!("failed to create {path} in an image"))?;
        Ok(fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode))?)
    }

    /// A folder that belongs to a user.
    pub fn folder_of(&self, path: &str, mode: u32, (uid, gid): (u32, u32)) -> Result<()> {
        self.folder_with(path, mode)?;
        chown(self.at(path), Some(uid), Some(gid)).with_context(|| format!("failed to give away {path} in an image"))
    }

    /// A file with that content.
    pub fn file(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        let to = self.parent_of(path)?;
        fs::write(&to, content).with_context(|| format!("failed to write {path} in an image"))?;
        Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode))?)
    }

    /// A program of this machine's.
    pub fn program(&self, path: &str, from: &Path) -> Result<()> {
        let to = self.parent_of(path)?;
        fs::copy(from, &to).with_context(|| format!("failed to copy {} to {path} in an image", from.display()))?;
        Ok(fs::set_permissions(to, fs::Permissions::from_mode(0o755))?)
    }

    /// A symbolic link; one that is there already is replaced.
    pub fn link(&self, path: &str, target: &str) -> Result<()> {
        let to = self.parent_of(path)?;
        if to.is_symlink() {
            fs::remove_file(&to)?;
        }
        symlink(target, to).with_context(|| format!("failed to link {path} in an image"))
    }

    /// A shell and the usual small programs.
    pub fn busybox(&self) -> Result<()> {
        let busybox = Path::new("/bin/busybox");
        self.program("/bin/busybox", busybox)?;
        for name in Run::new(busybox, ["--list"]).output()?.lines().filter(|&name| name != "busybox") {
            self.link(&format!("/bin/{name}"), "busybox")?;
        }
        Ok(())
    }

    /// The users that programs look up, each with a group of its name.
    pub fn users(&self, users: &[(&str, u32, u32)]) -> Result<()> {
        let all = [&[("root", 0, 0)], users].concat();
        let passwd: Vec<String> =
            all.iter().map(|(name, uid, gid)| format!("{name}:x:{uid}:{gid}::/:/bin/sh\n")).collect();
        let group: Vec<String> = all.iter().map(|(name, _, gid)| format!("{name}:x:{gid}:\n")).collect();
        self.file("/etc/passwd", passwd.concat(), 0o644)?;
        self.file("/etc/group", group.concat(), 0o644)
    }

    /// Files and folders of another root, under the same paths; links are copied as what they point to.
    pub fn copy_from(&self, other: &RootFs, paths: &[impl AsRef<str>]) -> Result<()> {
        for path in paths.iter().map(AsRef::as_ref) {
            let to = self.parent_of(path)?;
            if to.exists() {
                continue;
            }
            // Resolved inside: an absolute link must not lead out to this machine's own file.
            let resolved =
                Run::new("chroot", [other.path().as_os_str(), "realpath".as_ref(), path.as_ref()]).output()?;
            let from = other.at(resolved.trim());
            let copy = Run::new("cp", ["--recursive", "--no-dereference", "--preserve=mode,links"]).arg(from).arg(&to);
            copy.output().with_context(|| format!("failed to copy {path} into an image"))?;
        }
        Ok(())
    }

    /// Programs or libraries of another root and every library that they load.
    pub fn copy_linked(&self, other: &RootFs, paths: &[impl AsRef<str>]) -> Result<()> {
        self.copy_from(other, paths)?;
        for path in paths.iter().map(AsRef::as_ref) {
            // `ldd` fails for what is not linked at all, which is fine: it needs nothing.
            let chroot = Run::new("chroot", [other.path().as_os_str(), "ldd".as_ref(), path.as_ref()]);
            let libraries = chroot.output().map(|listing| linked_paths(&listing)).unwrap_or_default();
            self.copy_from(other, &libraries)?;
        }
        Ok(())
    }

    /// The files of a folder, as paths inside.
    pub fn list(&self, folder: &str, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let entries = fs::read_dir(self.at(folder)).with_context(|| format!("failed to list {folder} of an image"))?;
        let mut paths = Vec::new();
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if wanted(&name) {
                paths.push(format!("{folder}/{name}"));
            }
        }
        paths.sort();
        Ok(paths)
    }

    fn parent_of(&self, path: &str) -> Result<PathBuf> {
        let to = self.at(path);
        fs::create_dir_all(to.parent().context("a file has a parent folder")?)?;
        Ok(to)
    }
}

/// The absolute paths in what `ldd` says: the libraries, and the loader itself, which has no arrow.
fn linked_paths(listing: &str) -> Vec<String> {
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(str::to_owned);
    listing.lines().filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_libraries_and_the_loader() {
        let listing = "\tlinux-vdso.so.1 (0x1)\n\tlibm.so.6 => /lib/libm.so.6 (0x2)\n\t/lib64/ld.so.2 (0x3)\n\tlibx => not found\n";
        assert_eq!(linked_paths(listing), ["/lib/libm.so.6", "/lib64/ld.so.2"]);
    }
}
