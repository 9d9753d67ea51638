//! What the operator and the agent promise each other: arguments, environment, paths and the result.
//!
//! The operator writes the pod of a backup with these names, the agent inside it reads them; both are this one binary, but
//! not always of the same release, so a name here changes only together with a fallback.

mod bucket_rules;
mod client_certificate;
mod cluster_mode;
mod facts;
mod lock;
mod origin;
mod points;
mod postgres_url;
mod preflight;
mod providers;
mod provision;
mod restore;
mod smoke_test;
mod tls_mode;

pub use bucket_rules::{
    ARCHIVE_CLASS, ARG_RULES, BUCKET_RULES, BucketRules, CORS_METHODS, CORS_SECONDS, LifecycleRules, RULES_REFUSED,
    ReplicationRule, RulesOutcome, bucket_arn,
};
pub use client_certificate::{
    CLIENT_CERTIFICATE_FILE, CLIENT_CERTIFICATE_PATH, CLIENT_DIRECTORY, CLIENT_KEY_FILE, CLIENT_KEY_PATH,
    ClientCertificate, PARAMETER_CERTIFICATE, PARAMETER_KEY,
};
pub use cluster_mode::ClusterMode;
pub use facts::{ConnectionLimit, DatabaseFacts, Lacks, LimitedBy, ServiceFacts, Unreadable, read_only, version};
pub use lock::{
    ARG_TIMEOUT_SECONDS, AWAIT_LOCK, HOLD_LOCK, LOCK_DIRECTORY, LOCK_FILE, LOCK_KEYS, LockOutcome, MIGRATION_SESSION,
    NOT_BEGUN,
};
pub use origin::{ENV_ORIGIN, LONGEST_ORIGIN, PointOrigin, SPEC_FILE, compress_spec, decompress_spec};
pub use points::{
    ARG_CHECK, ARG_INTO_PREFIX, ARG_OBJECT_PREFIX, ARG_OBJECTS, ARG_OBJECTS_EXCEPT, ARG_RECIPIENT, ARG_REPLICA,
    ARG_REQUEST, ARG_SQL_FILE, ARG_VERIFIED, ARG_WORK, BucketLocation, CAPTURE, COPIED, CopyTarget, DRILL, DrillCheck,
    DrillFault, DrillOutcome, DrillRecord, ENV_COPIES, ENV_IDENTITY, ENV_SANITIZE_SQL, ENV_SANITIZED, ENV_SOURCE,
    LONGEST_STATEMENTS, SANITIZE, STATEMENTS_DIRECTORY, STATEMENTS_PATH, VERIFIED_FILE, Verdict, WORK_DIRECTORY,
    statements,
};
pub use postgres_url::{PostgresUrl, Written};
pub use preflight::{
    ARG_DESTINATION_KEY, ARG_KEY, ARG_VERSIONS, ENV_ASK_DESTINATION, ENV_ASK_DIRECT_URL, ENV_ASK_READ_URL, ENV_ASK_URL,
    PREFLIGHT, PreflightAnswer, PreflightFinding, PreflightOutcome, PreflightVerdict, preflight_key,
};
pub use providers::{Pooler, Provider};
pub use provision::{
    ARG_HOST, ARG_PORT, ENV_APP_DATABASE, ENV_APP_PASSWORD, ENV_APP_USERNAME, ENV_MASTER_PASSWORD, ENV_MASTER_USERNAME,
    PROVISION_DATABASE, PROVISION_VARIABLES, ProvisionOutcome,
};
pub use restore::{
    ARG_ANY_OWNER, ARG_DATABASE, ARG_FILL, ARG_MOMENT, ARG_OBJECTS_CA_FILE, ARG_POINT, ARG_RESTORE, ARG_SANITIZED,
    ARG_SCOPE, ENV_COPY_URL, ENV_OBJECTS_ACCESS_KEY_ID, ENV_OBJECTS_BUCKET, ENV_OBJECTS_ENDPOINT,
    ENV_OBJECTS_FORCE_PATH_STYLE, ENV_OBJECTS_REGION, ENV_OBJECTS_SECRET_ACCESS_KEY, ENV_OBJECTS_SESSION_TOKEN, Held,
    KeptDatabase, OBJECTS_FILE, RESTORE, RestoreOutcome, RestoreRefusal, RestoreResult, RestoreScope, RestoreStep,
    SEED, begun_comment, copy_database, filled_comment, is_of_another_seed, is_of_restore, kept_database,
    restore_comment, restore_suffix,
};
pub use smoke_test::{ARG_QUESTION, SMOKE_TEST, SMOKE_TEST_FAILED, SmokeQuestion};
pub use tls_mode::{TlsMode, UrlError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The argument that starts the agent.
pub const AGENT: &str = "agent";
/// `agent install <path>`: copies the binary, since the image of the operator has no shell to do it.
pub const INSTALL: &str = "install";
/// `agent dump`: dumps the database into the bucket.
pub const DUMP: &str = "dump";
/// `agent authorities`: writes the certificate authorities of each client of an application.
pub const AUTHORITIES: &str = "authorities";

/// `--prefix`: the folder of the stack's backups in the bucket, ending in a slash.
pub const ARG_PREFIX: &str = "--prefix";
/// `--retention-days`: the age in days at which a dump may be removed.
pub const ARG_RETENTION_DAYS: &str = "--retention-days";
/// `--minimum-kept`: how many good dumps are kept whatever their age.
pub const ARG_MINIMUM_KEPT: &str = "--minimum-kept";
/// `--ca-file`: certificate authorities (PEM) of all services in one, as 0.1.0 gave them; the agent still takes it.
pub const ARG_CA_FILE: &str = "--ca-file";
/// `--database-ca-file`: the authorities (PEM) of the database, and no others.
pub const ARG_DATABASE_CA_FILE: &str = "--database-ca-file";
/// `--bucket-ca-file`: authorities (PEM) of the bucket, beside the public ones.
pub const ARG_BUCKET_CA_FILE: &str = "--bucket-ca-file";
/// `--owner`: whose the backups are, as `<uid of the namespace>/<name of the stack>`: different in every cluster, and the
/// same when the stack is made again. Without it nothing is removed.
pub const ARG_OWNER: &str = "--owner";
/// `--stack-uid`: the uid of the stack, for readers of the bucket.
pub const ARG_STACK_UID: &str = "--stack-uid";
/// `--environment`: the environment of the stack. A dump writes it into the manifest; a restore takes no point of another.
pub const ARG_ENVIRONMENT: &str = "--environment";
/// `--adopt`: the owner whose backups the stack adopts, or [`ADOPT_NONE`].
pub const ARG_ADOPT: &str = "--adopt";
/// The value of [`ARG_ADOPT`] for backups without an owner, as 0.1.0 wrote them.
pub const ADOPT_NONE: &str = "none";
/// `--delete-versions`: what is removed from a bucket with versioning does not stay as an old version.
pub const ARG_DELETE_VERSIONS: &str = "--delete-versions";
/// `--exclude-schema=<name>`: the exact name of a schema that is not dumped; once for each.
pub const ARG_EXCLUDE_SCHEMA: &str = "--exclude-schema";
/// `--hold`: the release whose way back the backup is. The run uses a backup that is young enough again, or makes one, and holds it
/// against retention by an object in its folder.
pub const ARG_HOLD: &str = "--hold";
/// `--reuse-within-seconds`: how old a good backup may be to be used again by [`ARG_HOLD`].
pub const ARG_REUSE_WITHIN_SECONDS: &str = "--reuse-within-seconds";
/// `--spare`: the id of a backup that stays, since a restore is about to use it; once for each.
pub const ARG_SPARE: &str = "--spare";
/// `--held`: a release whose hold stays; once for each. A run with [`ARG_HOLD`] removes the holds of all others.
pub const ARG_HELD: &str = "--held";
/// `agent authorities --private-file`: the authorities (PEM) of all services.
pub const ARG_PRIVATE_FILE: &str = "--private-file";
/// `agent authorities --database-file`: the authorities (PEM) of the database.
pub const ARG_DATABASE_FILE: &str = "--database-file";
/// `agent authorities --into`: the folder to write to. `agent capture --into`: the file.
pub const ARG_INTO: &str = "--into";

/// The URL of the database, without a pooler.
pub const ENV_DATABASE_URL: &str = "DIRECT_URL";
/// The URL of the S3 service.
pub const ENV_S3_ENDPOINT: &str = "S3_ENDPOINT";
/// The region that requests are signed for.
pub const ENV_S3_REGION: &str = "S3_REGION";
/// The name of the bucket.
pub const ENV_S3_BUCKET: &str = "S3_BUCKET";
/// `true` for `https://endpoint/bucket/key`.
pub const ENV_S3_FORCE_PATH_STYLE: &str = "S3_FORCE_PATH_STYLE";
/// The access key id.
pub const ENV_ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";
/// The secret access key.
pub const ENV_SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";
/// The session token of temporary keys.
pub const ENV_SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";

/// The folder that the binary is copied to.
pub const BINARY_DIRECTORY: &str = "/opt/rorun";
/// Where the binary is after `agent install`.
pub const BINARY_PATH: &str = "/opt/rorun/rorun-operator";
/// The folder that certificate authorities are mounted at, in pods of the application and of backups alike.
pub const CA_DIRECTORY: &str = "/etc/rorun/ca";
/// The file with the certificate authorities.
pub const CA_PATH: &str = "/etc/rorun/ca/ca.crt";
/// The file name of [`CA_PATH`]: in a pod of the application every private authority of its services.
pub const CA_FILE: &str = "ca.crt";
/// The file name of [`DATABASE_CA_PATH`].
pub const DATABASE_CA_FILE: &str = "database.crt";
/// The authorities of the database alone.
pub const DATABASE_CA_PATH: &str = "/etc/rorun/ca/database.crt";
/// The file name of [`BUCKET_CA_PATH`].
pub const BUCKET_CA_FILE: &str = "bucket.crt";
/// The authorities of the bucket that backups go to.
pub const BUCKET_CA_PATH: &str = "/etc/rorun/ca/bucket.crt";
/// The file name of [`TRUST_PATH`].
pub const TRUST_FILE: &str = "bundle.crt";
/// The public authorities and the private ones, for variables that replace those of the system.
pub const TRUST_PATH: &str = "/etc/rorun/ca/bundle.crt";
/// Where `agent authorities` finds what it puts together.
pub const GIVEN_DIRECTORY: &str = "/etc/rorun/given";
/// Where the agent writes its result: the kubelet puts it into the pod's status.
pub const TERMINATION_PATH: &str = "/dev/termination-log";

/// The last object of a backup, under `<prefix><id>/`: a backup without it does not count.
pub const MANIFEST_FILE: &str = "manifest.json";
/// The dump, in the custom format of `pg_dump`.
pub const DUMP_FILE: &str = "database.dump";
/// How the name of an object begins that holds the backup in its folder against retention.
pub const HOLD: &str = "hold-";

/// The object in the folder of a backup that holds it for a release.
pub fn hold_file(release: &str) -> String {
    format!("{HOLD}release-{release}.json")
}

/// How the name of an object begins that holds a point while a restore reads it.
pub const HOLD_OF_RESTORE: &str = "hold-restore-";

/// The object in the folder of a point that holds it while a restore reads it.
pub fn use_file(uid: &str) -> String {
    format!("{HOLD_OF_RESTORE}{}.json", restore_suffix(uid))
}

/// By which name a restore holds the recovery point of what was live before it.
pub fn restore_hold(uid: &str) -> String {
    format!("restore{}", restore_suffix(uid))
}

/// The object under the prefix that says whose the backups below it are.
pub const MARKER_FILE: &str = "owner.json";

/// What `agent dump` writes to [`TERMINATION_PATH`] when it is done. At most 4096 bytes, a rule of the kubelet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::large_enum_variant, reason = "a run makes one, and nothing keeps many")]
pub enum DumpOutcome {
    /// The manifest is written.
    Complete(DumpRecord),
    /// Nothing counts of this run. The message names what failed, without a secret.
    Failed {
        /// One line for the user.
        message: String,
    },
}

/// One good backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DumpRecord {
    /// The identifier, e.g. `20261124T021500Z-x7k2p`: sorts by time.
    pub id: String,
    /// When the manifest was written.
    pub at: Timestamp,
    /// The size of the dump in bytes.
    pub size_bytes: i64,
    /// The size of the database in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_bytes: Option<u64>,
    /// SHA-256 of the dump, in hex.
    pub sha256: String,
    /// `s3://<bucket>/<key of the manifest>`.
    pub location: String,
    /// The good points that are there, oldest first; the oldest are left out where there are many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<String>,
    /// How many old backups were removed.
    pub removed: u32,
    /// Another owner with backups under the prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_with: Option<String>,
    /// How many backups under the prefix have no owner.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub without_owner: u32,
    /// Why old backups were not removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_removed: Option<String>,
    /// The result of an adoption of backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adoption: Option<Adoption>,
    /// Why the dump ran without the lock that excludes migrations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_locked: Option<String>,
    /// How many rows the point has, estimated where a table is large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// How many objects of the application's bucket the point lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<u64>,
    /// Why the point lacks something that it was asked to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_whole: Option<String>,
    /// How many points were copied to other buckets.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub copied: u32,
    /// Why a point is not where `copies` wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_copied: Option<String>,
    /// Why the objects that points list are not in every bucket of `copies`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects_not_copied: Option<String>,
    /// Until when Object Lock keeps all of the point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<Timestamp>,
    /// What Object Lock keeps longer than retention does, or why it is not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_note: Option<String>,
    /// The run made no backup: it held this one, of an earlier run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reused: bool,
}

/// The result of an adoption of backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Adoption {
    /// Whose backups were to be adopted.
    pub value: String,
    /// Whether there is nothing left to do: if not, the next run tries again.
    pub done: bool,
    /// One sentence for the user.
    pub message: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is that of serde")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Whether a text can be an owner of backups: `<uid of a namespace>/<name of a stack>`.
pub fn is_owner(text: &str) -> bool {
    let word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    text.len() <= 128 && text.split_once('/').is_some_and(|(namespace, stack)| word(namespace) && word(stack))
}
