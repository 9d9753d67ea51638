//! A backup of etcd, and going back to it: all that was written since has never been.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::server::Server;
use super::{TestServer, lock};

/// What etcd held at one moment.
#[derive(Debug)]
pub struct Backup(TempDir);

impl TestServer {
    /// Copies what etcd holds. It stands still meanwhile, so that the copy is that of one moment.
    pub fn back_up_etcd(&self) -> Result<Backup> {
        let copy = tempfile::Builder::new().prefix("backup-").tempdir_in(self.folder.path())?;
        self.freeze_etcd()?;
        let copied = copy_folder(&self.folder.path().join("etcd"), copy.path());
        self.thaw_etcd()?;
        copied?;
        Ok(Backup(copy))
    }

    /// Ends both servers, gives etcd the data of the backup, and starts them; waits until the API server answers. The revision
    /// goes back too, as with a restore for which nobody asked for another: what is written next gets numbers that were
    /// given before.
    pub fn restore_etcd(&self, backup: &Backup) -> Result<()> {
        self.kill_apiserver()?;
        let data = self.folder.path().join("etcd");
        {
            let mut etcd = lock(&self.etcd);
            etcd.kill()?;
            fs::remove_dir_all(&data)?;
            copy_folder(backup.0.path(), &data)?;
            *etcd = Server::start("etcd", &self.etcd_program, self.etcd_arguments.clone(), self.folder.path())?;
        }
        self.start_apiserver()
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).with_context(|| format!("failed to copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}
