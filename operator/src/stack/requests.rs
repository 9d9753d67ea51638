//! What the resources beside a stack ask of it: those that are not over yet.

use jiff::Timestamp;

use crate::{api::v1alpha1::RestoreKey, names::Waiting};

/// The key of a command that records that a restore of this name has changed data: its uid.
pub const RESTORED: &str = "restore/";

/// A RorunBackup that is not over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct BackupRequest {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.name`.
    pub name: String,
}

/// A RorunRestore that is not over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RestoreRequest {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.name`.
    pub name: String,
    /// The uid of the stack that it is for. `None`: any of the name.
    pub stack_uid: Option<String>,
    /// It fills a new stack, instead of replacing the data of one.
    pub fills: bool,
    /// The database is restored.
    pub database: bool,
    /// The objects of the bucket are restored.
    pub bucket: bool,
    /// The key of a Secret with the URL of an empty database.
    pub into: Option<RestoreKey>,
    /// Its annotation `rorun.app/retry`: with each new value a step that broke off is tried again. Empty: it has none.
    pub retry: String,
    /// The uid of the Cluster that is recovered for it, if it is there.
    pub copy_uid: Option<String>,
    /// The recovery point, or why there is none.
    pub point: Result<RestorePoint, PointProblem>,
}

/// A recovery point, or a moment of the archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RestorePoint {
    /// Its identifier, or the moment as text.
    pub id: String,
    /// The moment. `None`: it is a recovery point.
    pub moment: Option<Timestamp>,
    /// Its bucket, and the folder of its stack. `None`: those of the stack itself.
    pub folder: Option<(String, String)>,
}

/// Why a RorunRestore has no recovery point.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PointProblem {
    /// It may have one later.
    Waits(Waiting),
    /// It never has.
    Final(Waiting),
}

impl RestoreRequest {
    /// The moment whose data are restored. `None`: those of a recovery point are.
    pub fn moment(&self) -> Option<Timestamp> {
        self.point.as_ref().ok()?.moment
    }
}

impl RestorePoint {
    /// A moment of the archive.
    pub fn of_moment(moment: Timestamp) -> Self {
        Self { id: moment.to_string(), moment: Some(moment), folder: None }
    }

    /// Reads the URL of a point, with or without its manifest.
    pub fn at(location: &str) -> Option<Self> {
        let path = location.strip_prefix("s3://")?;
        let path = path.strip_suffix("manifest.json").unwrap_or(path);
        let (bucket, path) = path.trim_end_matches('/').split_once('/')?;
        let (folder, id) = path.rsplit_once('/').map_or(("", path), |(folder, id)| (folder, id));
        let folder = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        (!id.is_empty()).then(|| Self { id: id.to_owned(), moment: None, folder: Some((bucket.to_owned(), folder)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_names_the_bucket_the_folder_and_the_point() {
        for end in ["", "/", "/manifest.json"] {
            let found = RestorePoint::at(&format!("s3://dumps/backups/n/shop/20261124T021500Z-x7k2p{end}")).unwrap();
            let folder = Some(("dumps".to_owned(), "backups/n/shop/".to_owned()));
            assert_eq!(found, RestorePoint { id: "20261124T021500Z-x7k2p".to_owned(), moment: None, folder }, "{end}");
        }
        for wrong in ["", "s3://dumps", "s3://dumps/", "https://dumps/a/b"] {
            assert_eq!(RestorePoint::at(wrong), None, "{wrong}");
        }
    }
}
