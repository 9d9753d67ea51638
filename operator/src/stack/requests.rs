//! What the resources beside a stack ask of it: those that are not over yet.

/// A RorunBackup that is not over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct BackupRequest {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.name`.
    pub name: String,
}
