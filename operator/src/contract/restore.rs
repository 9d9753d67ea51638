//! `agent restore <step>`: one Job for each step, safe to kill and to run again, and how each reports.
//!
//! The databases that a restore makes are named by the uid of the `RorunRestore` alone, so that a step which runs again finds
//! them, and they say whose they are: nothing without exactly that comment is ever dropped.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// `agent restore <step>`, as [`RestoreStep::as_str`] names the steps.
pub const RESTORE: &str = "restore";
/// `--point`: the id of the recovery point.
pub const ARG_POINT: &str = "--point";
/// `--any-owner`: the point may be anybody's; for a new stack that is filled from a location. Otherwise [`super::ARG_OWNER`] says
/// whose it has to be.
pub const ARG_ANY_OWNER: &str = "--any-owner";
/// `--sanitized`: no other point than a sanitized one is taken.
pub const ARG_SANITIZED: &str = "--sanitized";
/// `--restore`: the uid of the `RorunRestore`.
pub const ARG_RESTORE: &str = "--restore";
/// `--scope`: what is restored, as [`RestoreScope::as_str`]; once for each.
pub const ARG_SCOPE: &str = "--scope";
/// `--fill`, of `check` and `objects`: the database is to be filled by [`RestoreStep::Fill`], not switched, and the bucket holds nothing
/// but objects of the point.
pub const ARG_FILL: &str = "--fill";
/// `agent restore moment --moment`: the moment, by RFC 3339 with its zone.
pub const ARG_MOMENT: &str = "--moment";
/// `agent restore discard --database`: the exact name of the database to drop.
pub const ARG_DATABASE: &str = "--database";

/// The URL of an empty database of the user's own, which takes the place of the copy where the role may not create one. Without
/// it the copy is a database beside that of [`super::ENV_DATABASE_URL`].
pub const ENV_COPY_URL: &str = "COPY_URL";
/// The S3 service of the bucket whose objects are restored. Without these variables it is the bucket of the recovery points.
pub const ENV_OBJECTS_ENDPOINT: &str = "OBJECTS_S3_ENDPOINT";
/// Its region.
pub const ENV_OBJECTS_REGION: &str = "OBJECTS_S3_REGION";
/// Its name.
pub const ENV_OBJECTS_BUCKET: &str = "OBJECTS_S3_BUCKET";
/// `true` for `https://endpoint/bucket/key`.
pub const ENV_OBJECTS_FORCE_PATH_STYLE: &str = "OBJECTS_S3_FORCE_PATH_STYLE";
/// Its access key id.
pub const ENV_OBJECTS_ACCESS_KEY_ID: &str = "OBJECTS_AWS_ACCESS_KEY_ID";
/// Its secret access key.
pub const ENV_OBJECTS_SECRET_ACCESS_KEY: &str = "OBJECTS_AWS_SECRET_ACCESS_KEY";
/// Its session token.
pub const ENV_OBJECTS_SESSION_TOKEN: &str = "OBJECTS_AWS_SESSION_TOKEN";
/// `--objects-ca-file`: authorities (PEM) of that bucket, beside the public ones.
pub const ARG_OBJECTS_CA_FILE: &str = "--objects-ca-file";

/// The versions of a bucket's objects at the moment of a recovery point, in its folder: lines of JSON, compressed by zstd.
pub const OBJECTS_FILE: &str = "objects.json.zst";

/// A step of `agent restore`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RestoreStep {
    /// Reads the point and asks the database what it allows. Writes nothing.
    Check,
    /// Restores the dump beside the live database.
    Copy,
    /// Reads the copy after it was migrated.
    Verify,
    /// Gives the copy the name of the live database, which is kept under another.
    Switch,
    /// Restores the dump into the stack's own, empty database.
    Fill,
    /// Makes the point's versions of the objects the current ones.
    Objects,
    /// Puts the objects of a sanitized point into the bucket of a new stack, over nothing that is there.
    Place,
    /// Drops one database that a restore made or kept.
    Discard,
    /// Asks the live database whether its archive reaches a moment.
    Moment,
    /// Reads the database of a Cluster that was recovered.
    Recovered,
}

impl RestoreStep {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Check,
        Self::Copy,
        Self::Verify,
        Self::Switch,
        Self::Fill,
        Self::Objects,
        Self::Place,
        Self::Discard,
        Self::Moment,
        Self::Recovered,
    ];

    /// The word that starts it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Copy => "copy",
            Self::Verify => "verify",
            Self::Switch => "switch",
            Self::Fill => "fill",
            Self::Objects => "objects",
            Self::Place => "place",
            Self::Discard => "discard",
            Self::Moment => "moment",
            Self::Recovered => "recovered",
        }
    }
}

/// What a restore is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RestoreScope {
    /// The database.
    Database,
    /// The objects of the bucket.
    Bucket,
}

impl RestoreScope {
    /// The value of [`ARG_SCOPE`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Bucket => "bucket",
        }
    }
}

/// How much of the live name stays, in bytes: PostgreSQL cuts names off at 63, and the longer ending has 15.
const LONGEST_START: usize = 48;

/// What the names of a restore's databases end in: six hexadecimal digits of SHA-256 over its uid.
pub fn restore_suffix(uid: &str) -> String {
    Sha256::digest(uid.as_bytes()).iter().take(3).fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The database that a point is restored into.
pub fn copy_database(live: &str, uid: &str) -> String {
    name(live, &format!("_restore_{}", restore_suffix(uid)))
}

/// The database that was live before the switch.
pub fn kept_database(live: &str, uid: &str) -> String {
    name(live, &format!("_before_{}", restore_suffix(uid)))
}

/// Whether a restore can have given a database this name.
pub fn is_of_restore(database: &str, uid: &str) -> bool {
    ["restore", "before"].iter().any(|kind| database.ends_with(&format!("_{kind}_{}", restore_suffix(uid))))
}

/// The comment of every database that a restore made or kept.
pub fn restore_comment(uid: &str) -> String {
    format!("rorun-operator restore {uid}")
}

/// The comment of a copy that is not whole yet.
pub fn begun_comment(uid: &str) -> String {
    format!("{}, not complete", restore_comment(uid))
}

/// The comment of a stack's own database while a restore fills it, and afterwards. It is not among those that are ever dropped.
pub fn filled_comment(uid: &str) -> String {
    format!("{}, filled in place", restore_comment(uid))
}

/// What stands between the uid of a stack and what its seed is, in the uid of the restore that the seed is.
pub const SEED: &str = "-seed-";

/// Whether a database was filled by another seed of the same stack. Both are comments of databases.
pub fn is_of_another_seed(there: &str, ours: &str) -> bool {
    let stack = |comment: &str| comment.split_once(SEED).map(|(stack, _)| stack.to_owned());
    there != ours && stack(there).is_some() && stack(there) == stack(ours)
}

/// Cuts at a whole character.
fn name(live: &str, ending: &str) -> String {
    let end = (0..=LONGEST_START.min(live.len())).rev().find(|at| live.is_char_boundary(*at)).unwrap_or_default();
    format!("{}{ending}", &live[..end])
}

/// What `agent restore <step>` writes to [`super::TERMINATION_PATH`]. At most 4096 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RestoreOutcome {
    /// The step is done, by this run or by one before it.
    Done(RestoreResult),
    /// It cannot be done as things are: only a change by the user helps.
    Refused {
        /// The reason of a condition.
        reason: RestoreRefusal,
        /// One line for the user.
        message: String,
    },
    /// It broke off, and may be tried again. What is live is as it was.
    Failed {
        /// One line for the user.
        message: String,
    },
}

/// What a step did. A step leaves out what it does not do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RestoreResult {
    /// The database that the step made, read or dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The database that was live before, after a switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptDatabase>,
    /// Rows of all tables, where they were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// How many tables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tables: Option<u64>,
    /// Objects of the bucket: for a check those of the point, afterwards those that were changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects: Option<u64>,
    /// The size of the dump, or of the database after it was restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// What keeps the copy from taking the place of the live database, though it is whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// How long the step took.
    pub duration_seconds: u64,
    /// What was not as it should be and does not matter, each in one line; at most eight.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What keeps a copy from taking the place of the live database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// The reason of a condition.
    pub reason: RestoreRefusal,
    /// One line for the user.
    pub message: String,
}

/// A database that a restore keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptDatabase {
    /// Its name.
    pub name: String,
    /// Its size.
    pub size_bytes: u64,
}

/// Why a step refuses, as the reason of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RestoreRefusal {
    /// There is no such recovery point.
    PointNotFound,
    /// Its manifest cannot be read, its dump is not what the manifest says, or `pg_restore` cannot read it.
    PointCorrupt,
    /// A newer release wrote its manifest.
    PointTooNew,
    /// It is another stack's.
    PointForeign,
    /// It holds no dump of a database, or no versions of objects, and the scope asks for them.
    PointIncomplete,
    /// Its dump is encrypted.
    PointEncrypted,
    /// The dump is of a newer major version than the server.
    ServerTooOld,
    /// The role of `DIRECT_URL` may not do what the step has to.
    RightsMissing,
    /// A logical replication slot, a subscription or a prepared transaction holds the live database.
    DatabaseHeld,
    /// The disk of the server has not room for the copy.
    DiskFull,
    /// The database that is to be filled has tables, or the bucket objects.
    DataFound,
    /// The copy is missing, or is not this restore's.
    CopyMissing,
    /// The copy is not as the recovery point says.
    CopyDiffers,
    /// `pg_restore` reports errors that change what was restored.
    RestoreErrors,
    /// The database is not one that this restore made or kept.
    NotOfRestore,
    /// Sessions use the database.
    DatabaseInUse,
    /// The bucket keeps no versions.
    BucketNotVersioned,
    /// A version of an object that the point names is gone.
    VersionMissing,
    /// The point is that of another environment, and not sanitized.
    PointNotSanitized,
    /// The point lists the objects of another bucket than the stack's.
    AnotherBucket,
    /// `DIRECT_URL` leads to a pooler in which no session lasts.
    PooledConnection,
    /// `pg_restore` of the image is older than the dump or the server.
    ImageTooOld,
    /// The archive of the database does not reach the moment.
    MomentOutOfReach,
    /// A reason of a newer agent.
    #[serde(other)]
    Other,
}

impl RestoreRefusal {
    /// The word itself.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PointNotFound => "PointNotFound",
            Self::PointCorrupt => "PointCorrupt",
            Self::PointTooNew => "PointTooNew",
            Self::PointForeign => "PointForeign",
            Self::PointIncomplete => "PointIncomplete",
            Self::PointEncrypted => "PointEncrypted",
            Self::ServerTooOld => "ServerTooOld",
            Self::RightsMissing => "RightsMissing",
            Self::DatabaseHeld => "DatabaseHeld",
            Self::DiskFull => "DiskFull",
            Self::DataFound => "DataFound",
            Self::CopyMissing => "CopyMissing",
            Self::CopyDiffers => "CopyDiffers",
            Self::RestoreErrors => "RestoreErrors",
            Self::NotOfRestore => "NotOfRestore",
            Self::DatabaseInUse => "DatabaseInUse",
            Self::BucketNotVersioned => "BucketNotVersioned",
            Self::VersionMissing => "VersionMissing",
            Self::PointNotSanitized => "PointNotSanitized",
            Self::AnotherBucket => "AnotherBucket",
            Self::PooledConnection => "PooledConnection",
            Self::ImageTooOld => "ImageTooOld",
            Self::MomentOutOfReach => "MomentOutOfReach",
            Self::Other => "RestoreRefused",
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const UID: &str = "5e0c37f4-3a55-4b8a-9a86-1c1f2a3b4c5d";

    #[rstest]
    #[case::short("shop", "shop")]
    #[case::with_room_to_the_byte(&"s".repeat(48), &"s".repeat(48))]
    #[case::of_the_longest(&"s".repeat(63), &"s".repeat(48))]
    #[case::cut_within_a_character(&format!("{}\u{20ac}", "s".repeat(47)), &"s".repeat(47))]
    fn names_stay_within_63_bytes(#[case] live: &str, #[case] start: &str) {
        let copy = copy_database(live, UID);
        assert!(copy.len() <= 63 && copy.starts_with(start), "{copy}");
        let kept = kept_database(live, UID);
        assert_eq!(kept, format!("{start}_before_{}", restore_suffix(UID)));
        assert!(kept.len() <= 63 && copy != kept && is_of_restore(&copy, UID) && is_of_restore(&kept, UID));
        assert!(!is_of_restore(live, UID) && !is_of_restore(&kept, "another"));
    }

    #[test]
    fn the_suffix_never_changes() {
        assert_eq!(restore_suffix("abc"), "ba7816", "the first of the test vectors of FIPS 180");
    }

    #[test]
    fn results_read_back_and_a_reason_of_a_newer_agent_is_one() {
        let kept = Some(KeptDatabase { name: "shop_before_ba7816".to_owned(), size_bytes: 7 });
        let done = RestoreOutcome::Done(RestoreResult { kept, rows: Some(2), ..RestoreResult::default() });
        let json = serde_json::to_value(&done).expect("JSON");
        assert_eq!(json["done"]["kept"]["sizeBytes"], 7, "{json}");
        assert_eq!(serde_json::from_value::<RestoreOutcome>(json).expect("back"), done);
        let later = serde_json::json!({"refused": {"reason": "Later", "message": "m"}});
        let refused = RestoreOutcome::Refused { reason: RestoreRefusal::Other, message: "m".to_owned() };
        assert_eq!(serde_json::from_value::<RestoreOutcome>(later).expect("back"), refused);
    }
}
