//! Recovery points: what belongs to one beside its dump, its copies in other buckets, and its drills.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Says that a drill restored the point.
pub const VERIFIED_FILE: &str = "verified.json";
/// How the name of an object begins that says where the point was copied to.
pub const COPIED: &str = "copied-";

/// `--recipient`: a key of age that dumps are encrypted for; once for each.
pub const ARG_RECIPIENT: &str = "--recipient";
/// `--objects`: the point lists the objects of the application's bucket as well.
pub const ARG_OBJECTS: &str = "--objects";
/// `--objects-except`: a folder of that bucket that holds backups; once for each.
pub const ARG_OBJECTS_EXCEPT: &str = "--objects-except";
/// `--replica`: the bucket that the application's is replicated to, as [`super::ReplicationRule`].
pub const ARG_REPLICA: &str = "--replica";
/// `--verified`: drills take place, so that only what is older than a verified point is removed.
pub const ARG_VERIFIED: &str = "--verified";

/// `agent drill`: restores the newest point into a server of its own, and compares.
pub const DRILL: &str = "drill";
/// `agent drill --work`: an empty folder for the files of the server.
pub const ARG_WORK: &str = "--work";
/// `agent drill --check`: a question as JSON, as [`DrillCheck`] has it; once for each.
pub const ARG_CHECK: &str = "--check";
/// Where the volume of a drill is mounted.
pub const WORK_DIRECTORY: &str = "/var/lib/drill";

/// `agent sanitize`: restores the newest point into a server of its own, changes it by SQL, and makes another point of it.
pub const SANITIZE: &str = "sanitize";
/// `agent sanitize --request`: the uid of the `RorunBackup`.
pub const ARG_REQUEST: &str = "--request";
/// `agent sanitize --into-prefix`: the folder of the sanitized points in their bucket, ending in a slash.
pub const ARG_INTO_PREFIX: &str = "--into-prefix";
/// `agent sanitize --object-prefix`: a folder of the application's bucket whose objects the point has; once for each.
pub const ARG_OBJECT_PREFIX: &str = "--object-prefix";
/// The bucket of the sanitized points as [`BucketLocation`].
pub const ENV_SANITIZED: &str = "SANITIZE_DESTINATION";
/// The statements.
pub const ENV_SANITIZE_SQL: &str = "SANITIZE_SQL";
/// `agent sanitize --sql-file`: the file with the statements that a program of the user printed.
pub const ARG_SQL_FILE: &str = "--sql-file";

/// `agent capture -- <program> <arguments>`: runs a program of the user, in its own image, and keeps what it prints. When that is no
/// text of statements, [`super::TERMINATION_PATH`] has a [`super::DumpOutcome`].
pub const CAPTURE: &str = "capture";
/// The folder that the program and `agent sanitize` share.
pub const STATEMENTS_DIRECTORY: &str = "/run/rorun-statements";
/// The file with what the program printed.
pub const STATEMENTS_PATH: &str = "/run/rorun-statements/printed.sql";

/// How many bytes of statements it may print.
pub const LONGEST_STATEMENTS: u64 = 1 << 20;

/// What a program printed as statements, or why it is none.
pub fn statements(printed: Vec<u8>) -> Result<String, String> {
    let text = String::from_utf8(printed).map_err(|error| {
        let at = error.utf8_error().valid_up_to() + 1;
        format!("what sanitize.command prints is no UTF-8 text, from byte {at} on: let it print statements in UTF-8")
    })?;
    if text.contains('\0') {
        return Err("what sanitize.command prints has a NUL byte, which no statement has".to_owned());
    }
    if text.trim().is_empty() {
        return Err("sanitize.command printed nothing: let it print statements to its standard output".to_owned());
    }
    Ok(text)
}

/// The bucket of the application as [`BucketLocation`], where it is not the one that backups go to.
pub const ENV_SOURCE: &str = "BACKUP_SOURCE";
/// The copies as a list of [`CopyTarget`].
pub const ENV_COPIES: &str = "BACKUP_COPIES";
/// The identity of age that decrypts dumps, in the pods of drills alone.
pub const ENV_IDENTITY: &str = "BACKUP_IDENTITY";

/// A bucket, and who uses it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BucketLocation {
    /// The URL of the S3 service.
    pub endpoint: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The name of the bucket.
    pub bucket: String,
    /// `https://endpoint/bucket/key` instead of `https://bucket.endpoint/key`.
    #[serde(default)]
    pub force_path_style: bool,
    /// The access key id. `None`, like the next: it is used by the role of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// The secret access key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<String>,
    /// The session token of temporary keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<String>,
    /// Authorities (PEM) to trust beside the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

impl fmt::Debug for BucketLocation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BucketLocation").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

/// Where points are copied to, and how long they stay there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CopyTarget {
    /// The bucket.
    pub location: BucketLocation,
    /// The folder of the stack in it, ending in a slash.
    pub prefix: String,
    /// The age in days at which a copy may be removed.
    pub retention_days: u32,
    /// How many copies are kept whatever their age.
    pub minimum_kept: u32,
}

/// What a drill asks the restored database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrillCheck {
    /// What the check is called in messages.
    pub name: String,
    /// One statement.
    pub sql: String,
    /// The first value of its first row.
    pub expect: String,
}

/// What `agent drill` writes to the termination message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DrillOutcome {
    /// The point was restored, or what can be checked of it without its key.
    Complete(DrillRecord),
    /// The point, or what is needed to restore it, is at fault.
    Failed {
        /// The point, if the drill found one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// What is at fault.
        fault: DrillFault,
        /// One line for the user, without a secret.
        message: String,
    },
}

/// How much of a point a drill has proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// All of it.
    Whole,
    /// All but what needs something that the image of the drill lacks.
    Partial,
    /// Only the checksums: the dump is encrypted, and the drill has no identity.
    ChecksumsOnly,
}

/// A drill that found nothing wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrillRecord {
    /// The point.
    pub id: String,
    /// When the drill ended.
    pub at: Timestamp,
    /// How long it took, from the first byte of the dump to the last check.
    pub duration_seconds: u64,
    /// The size of the dump in bytes.
    pub size_bytes: u64,
    /// How many rows were counted and compared. Absent: the manifest has no numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// How many objects of the bucket were fetched and compared. Absent: the point has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<u64>,
    /// How many checks of the user succeeded.
    pub checks: u32,
    /// How much of the point is proven.
    pub verdict: Verdict,
    /// What the user should know of it, or nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// What is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DrillFault {
    /// There is no whole point.
    NoPoint,
    /// An object is missing, cut off, or not what the manifest says.
    Corrupt,
    /// The dump is of a server that is newer than that of the drill's image.
    ServerTooOld,
    /// The identity does not decrypt the dump.
    WrongIdentity,
    /// `pg_restore` failed.
    NotRestored,
    /// The restored database is another one than the manifest says.
    Differs,
    /// An object of the bucket is gone, or another one.
    ObjectsDiffer,
    /// A check of the user failed.
    CheckFailed,
    /// The drill itself could not be carried out.
    NotRun,
}
