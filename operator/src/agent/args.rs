//! The arguments of `agent dump` and `agent authorities`. Their names are promises of `contract`, and a test holds them to it.

use std::fmt;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;

use super::{BackupId, seal};
use crate::contract::{self, BucketRules, DrillCheck, ReplicationRule, SmokeQuestion};
use crate::services::bucket::{AccessKeys, BucketTarget};

/// A dump waits this long for a migration. The migration has a time-out of its own, so a longer wait is a session that somebody
/// forgot, and the backup says so.
const LOCK_TIMEOUT_SECONDS: u32 = 3600;

/// What to dump, where to, and what to keep. Secrets come from variables only.
#[derive(Clone, clap::Args)]
pub struct DumpArgs {
    /// The folder of the backups in the bucket, ending in a slash.
    #[arg(long, value_parser = prefix)]
    pub prefix: String,
    /// The age in days at which a dump may be removed.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub retention_days: u32,
    /// How many good dumps are kept whatever their age.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub minimum_kept: u32,
    /// Certificate authorities (PEM) of all services in one, from an operator of 0.1.0.
    #[arg(long, hide = true)]
    pub ca_file: Option<PathBuf>,
    /// The certificate authorities (PEM) of the database, and no others.
    #[arg(long)]
    pub database_ca_file: Option<PathBuf>,
    /// Certificate authorities (PEM) of the bucket, beside the public ones.
    #[arg(long)]
    pub bucket_ca_file: Option<PathBuf>,
    /// The owner of the backups. Defaults to none: the run removes nothing.
    #[arg(long, value_parser = owner)]
    pub owner: Option<String>,
    /// The uid of the stack.
    #[arg(long)]
    pub stack_uid: Option<String>,
    /// The environment of the stack, for those who want to restore its points elsewhere.
    #[arg(long)]
    pub environment: Option<String>,
    /// The owner whose backups the stack adopts, or `none` for those without an owner.
    #[arg(long, value_parser = adopted)]
    pub adopt: Option<String>,
    /// What is removed from a bucket with versioning does not stay as an old version.
    #[arg(long)]
    pub delete_versions: bool,
    /// The exact name of a schema that is not dumped; once for each.
    #[arg(long, value_parser = schema)]
    pub exclude_schema: Vec<String>,
    /// The release whose way back the backup is: it is held in its folder. Defaults to none.
    #[arg(long, value_parser = release)]
    pub hold: Option<String>,
    /// How old in seconds a good backup may be to be held instead of a new one. Defaults to none: the run makes a new one.
    #[arg(long, requires = "hold")]
    pub reuse_within_seconds: Option<u32>,
    /// A release whose hold stays; once for each.
    #[arg(long, value_parser = release)]
    pub held: Vec<String>,
    /// A backup that stays, since a restore is about to use it; once for each.
    #[arg(long)]
    pub spare: Vec<String>,
    /// A key of age that the dump is encrypted for; once for each. Defaults to none: the dump is not encrypted.
    #[arg(long = "recipient", value_parser = recipient)]
    pub recipients: Vec<String>,
    /// List the objects of the application's bucket as well.
    #[arg(long)]
    pub objects: bool,
    /// A folder of that bucket that is not listed; once for each.
    #[arg(long)]
    pub objects_except: Vec<String>,
    /// The bucket that this one is replicated to, as JSON: what has arrived there need not be copied.
    #[arg(long, value_parser = replica)]
    pub replica: Option<ReplicationRule>,
    /// The same, once an object of this run has arrived there.
    #[arg(skip)]
    pub proven_replica: Option<ReplicationRule>,
    /// How long in seconds to wait for an object to arrive there.
    #[arg(long, default_value_t = 900, hide = true)]
    pub arrival_seconds: u64,
    /// Drills take place: remove only what is older than a verified point.
    #[arg(long)]
    pub verified: bool,
    /// The application's bucket as JSON, where it is not the one that backups go to.
    #[arg(long, env = contract::ENV_SOURCE, hide_env_values = true, hide = true)]
    pub source: Option<String>,
    /// The buckets that points are copied to, as JSON.
    #[arg(long, env = contract::ENV_COPIES, hide_env_values = true, hide = true)]
    pub copies: Option<String>,
    /// The stack that the point is of, as `contract::PointOrigin` writes it. Defaults to none: an operator of before told nothing of it.
    #[arg(long, env = contract::ENV_ORIGIN, hide_env_values = true, hide = true)]
    pub origin: Option<String>,
    /// How long in seconds to wait for the lock that excludes migrations.
    #[arg(long, default_value_t = LOCK_TIMEOUT_SECONDS, value_parser = clap::value_parser!(u32).range(1..), hide = true)]
    pub lock_timeout_seconds: u32,
    /// Where to write the result.
    #[arg(long, default_value = contract::TERMINATION_PATH, hide = true)]
    pub termination_path: PathBuf,
    /// The URL of the database.
    #[arg(long, env = contract::ENV_DATABASE_URL, hide_env_values = true, hide = true)]
    pub database_url: String,
    /// The bucket.
    #[command(flatten)]
    pub bucket: BucketArgs,
}

/// What to restore for a trial, and where.
#[derive(Clone, clap::Args)]
pub struct DrillArgs {
    /// The folder of the backups in the bucket, ending in a slash.
    #[arg(long, value_parser = prefix)]
    pub prefix: String,
    /// The owner of the backups. Defaults to none: whoever has some there.
    #[arg(long, value_parser = owner)]
    pub owner: Option<String>,
    /// The point. Defaults to the newest whole one.
    #[arg(long)]
    pub point: Option<BackupId>,
    /// An empty folder for the files of the server.
    #[arg(long, default_value = contract::WORK_DIRECTORY)]
    pub work: PathBuf,
    /// A question to the restored database as JSON; once for each.
    #[arg(long = "check", value_parser = check)]
    pub checks: Vec<DrillCheck>,
    /// Certificate authorities (PEM) of the bucket, beside the public ones.
    #[arg(long)]
    pub bucket_ca_file: Option<PathBuf>,
    /// Where to write the result.
    #[arg(long, default_value = contract::TERMINATION_PATH, hide = true)]
    pub termination_path: PathBuf,
    /// The identity that decrypts the dump.
    #[arg(long, env = contract::ENV_IDENTITY, hide_env_values = true, hide = true)]
    pub identity: Option<String>,
    /// The application's bucket as JSON, where it is not the one that backups go to.
    #[arg(long, env = contract::ENV_SOURCE, hide_env_values = true, hide = true)]
    pub source: Option<String>,
    /// The bucket.
    #[command(flatten)]
    pub bucket: BucketArgs,
}

/// The lock that excludes dumps, for as long as a migration runs.
#[derive(Clone, clap::Args)]
pub struct HoldLockArgs {
    /// How long in seconds to wait for the lock.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout_seconds: u32,
    /// The certificate authorities (PEM) of the database, and no others.
    #[arg(long)]
    pub database_ca_file: Option<PathBuf>,
    /// Where to write whether the lock is held.
    #[arg(long, default_value = contract::LOCK_FILE, hide = true)]
    pub lock_file: PathBuf,
    /// Where to write the result.
    #[arg(long, default_value = contract::TERMINATION_PATH, hide = true)]
    pub termination_path: PathBuf,
    /// The URL of the database.
    #[arg(long, env = contract::ENV_DATABASE_URL, hide_env_values = true, hide = true)]
    pub database_url: String,
}

/// The wait for the lock that `agent hold-lock` beside it takes.
#[derive(Clone, Debug, clap::Args)]
pub struct AwaitLockArgs {
    /// How long in seconds to wait.
    #[arg(long)]
    pub timeout_seconds: u32,
    /// Where to write the result.
    #[arg(long, default_value = contract::TERMINATION_PATH, hide = true)]
    pub termination_path: PathBuf,
    /// What `agent hold-lock` writes.
    #[arg(long, default_value = contract::LOCK_FILE, hide = true)]
    pub lock_file: PathBuf,
}

/// The certificate authorities that the clients of an application trust.
#[derive(Clone, Debug, clap::Args)]
pub struct AuthoritiesArgs {
    /// The certificate authorities (PEM) of all services.
    #[arg(long)]
    pub private_file: PathBuf,
    /// The certificate authorities (PEM) of the database.
    #[arg(long)]
    pub database_file: Option<PathBuf>,
    /// The folder to write to.
    #[arg(long)]
    pub into: PathBuf,
}

/// The questions for the candidates of a release.
#[derive(Clone, Debug, clap::Args)]
pub struct SmokeTestArgs {
    /// A question as JSON, as `contract::SmokeQuestion` has it; once for each.
    #[arg(long = "question", required = true, value_parser = question)]
    pub questions: Vec<SmokeQuestion>,
    /// The file for the reason of a failure.
    #[arg(long, default_value = contract::TERMINATION_PATH, hide = true)]
    pub termination_path: PathBuf,
}

/// The rules of a stack on its bucket.
#[derive(Clone, Debug, clap::Args)]
pub struct BucketRulesArgs {
    /// The rules as JSON, as `contract::BucketRules` has them.
    #[arg(long, value_parser = rules)]
    pub rules: BucketRules,
    /// Certificate authorities (PEM) of the bucket, beside the public ones.
    #[arg(long)]
    pub bucket_ca_file: Option<PathBuf>,
    /// How long in milliseconds to wait before a document is read again.
    #[arg(long, default_value_t = 2000, hide = true)]
    pub pause_milliseconds: u64,
    /// How long in seconds to wait for an object to arrive in another bucket.
    #[arg(long, default_value_t = 900, hide = true)]
    pub arrival_seconds: u64,
    /// Where to write the result.
    #[arg(long, default_value = contract::TERMINATION_PATH, hide = true)]
    pub termination_path: PathBuf,
    /// The bucket.
    #[command(flatten)]
    pub bucket: BucketArgs,
}

/// The bucket, and who uses it.
#[derive(Clone, clap::Args)]
pub struct BucketArgs {
    /// The URL of the S3 service.
    #[arg(long, env = contract::ENV_S3_ENDPOINT, hide = true)]
    pub s3_endpoint: String,
    /// The region that requests are signed for.
    #[arg(long, env = contract::ENV_S3_REGION, hide = true)]
    pub s3_region: String,
    /// The name of the bucket.
    #[arg(long, env = contract::ENV_S3_BUCKET, hide = true)]
    pub s3_bucket: String,
    /// `https://endpoint/bucket/key` instead of `https://bucket.endpoint/key`.
    #[arg(long, env = contract::ENV_S3_FORCE_PATH_STYLE, hide = true, num_args = 1, default_value = "false")]
    #[arg(action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub s3_force_path_style: bool,
    /// The access key id. Without keys it is used by the role of the pod.
    #[arg(long, env = contract::ENV_ACCESS_KEY_ID, hide_env_values = true, hide = true)]
    pub access_key_id: Option<String>,
    /// The secret access key.
    #[arg(long, env = contract::ENV_SECRET_ACCESS_KEY, hide_env_values = true, hide = true)]
    pub secret_access_key: Option<String>,
    /// The session token of temporary keys.
    #[arg(long, env = contract::ENV_SESSION_TOKEN, hide_env_values = true, hide = true)]
    pub session_token: Option<String>,
}

impl BucketArgs {
    pub(super) fn target(&self, ca: Option<String>) -> BucketTarget {
        BucketTarget {
            endpoint: self.s3_endpoint.clone(),
            region: self.s3_region.clone(),
            bucket: self.s3_bucket.clone(),
            force_path_style: self.s3_force_path_style,
            keys: self.keys(),
            ca,
        }
    }

    fn keys(&self) -> Option<AccessKeys> {
        AccessKeys::given(self.access_key_id.clone(), self.secret_access_key.clone(), self.session_token.clone())
    }

    /// What must not be told.
    pub(super) fn secrets(&self) -> Vec<String> {
        self.keys()
            .iter()
            .flat_map(AccessKeys::secrets)
            .filter(|secret| !secret.is_empty())
            .map(str::to_owned)
            .collect()
    }
}

impl fmt::Debug for DumpArgs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DumpArgs").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl fmt::Debug for DrillArgs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DrillArgs").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl fmt::Debug for HoldLockArgs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HoldLockArgs").field("timeout_seconds", &self.timeout_seconds).finish_non_exhaustive()
    }
}

impl fmt::Debug for BucketArgs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BucketArgs").field("bucket", &self.s3_bucket).finish_non_exhaustive()
    }
}

/// An empty prefix would make the whole bucket ours to prune.
pub(super) fn prefix(text: &str) -> Result<String, String> {
    let Some(folders) = text.strip_suffix('/') else {
        return Err("it must end in a slash".to_owned());
    };
    if folders.split('/').any(|folder| matches!(folder, "" | "." | "..")) {
        return Err("it must be like backups/namespace/stack/".to_owned());
    }
    Ok(text.to_owned())
}

/// The hash of a release, which becomes a part of a key.
fn release(text: &str) -> Result<String, String> {
    let word = !text.is_empty() && text.len() <= 64 && text.chars().all(|c| c.is_ascii_alphanumeric());
    if word { Ok(text.to_owned()) } else { Err("it must be the hash of a release".to_owned()) }
}

fn recipient(text: &str) -> Result<String, String> {
    seal::recipient(text).map(|_| text.to_owned())
}

fn check(text: &str) -> Result<DrillCheck, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn question(text: &str) -> Result<SmokeQuestion, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

impl DumpArgs {
    /// The bucket that the spec replicates to.
    pub(super) fn replica_name(&self) -> Option<&str> {
        self.replica.as_ref().map(|to| to.bucket.as_str())
    }
}

fn replica(text: &str) -> Result<ReplicationRule, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// A beginning of ids that is empty would be that of every rule. Rules that are compared alone, which their controller sets, may have
/// one without an owner: nothing is taken off.
fn rules(text: &str) -> Result<BucketRules, String> {
    let rules: BucketRules = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let owned = rules.ids.len() > "rorun-.".len() && rules.ids.ends_with('.');
    let ours = rules.ids.starts_with("rorun-") && (owned || rules.compared);
    if ours { Ok(rules) } else { Err("ids must be like rorun-6f1f3a5c-shop.".to_owned()) }
}

pub(super) fn owner(text: &str) -> Result<String, String> {
    if contract::is_owner(text) {
        return Ok(text.to_owned());
    }
    Err("it must be like 6f1f3a5c-0000-4000-8000-000000000001/stack".to_owned())
}

/// The name of a schema: PostgreSQL takes any character in it but NUL.
fn schema(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err("it must be the name of a schema".to_owned());
    }
    Ok(text.to_owned())
}

fn adopted(text: &str) -> Result<String, String> {
    if text == contract::ADOPT_NONE { Ok(text.to_owned()) } else { owner(text) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use rstest::rstest;

    use super::*;
    use crate::agent::AgentCommand;

    #[derive(Debug, Parser)]
    struct Agent {
        #[command(subcommand)]
        command: AgentCommand,
    }

    /// Variables cannot be set in tests without touching other tests, so their values come as the hidden arguments.
    const SERVICES: [&str; 6] = [
        "--database-url=postgres://u:secret@h/d",
        "--s3-endpoint=http://s3",
        "--s3-region=r",
        "--s3-bucket=b",
        "--access-key-id=secret",
        "--secret-access-key=secret",
    ];

    const OWNER: &str = "6f1f3a5c-0000-4000-8000-000000000001/shop";

    fn dump(prefix: &str) -> Result<Agent, clap::Error> {
        let arguments = [
            contract::AGENT,
            contract::DUMP,
            contract::ARG_PREFIX,
            prefix,
            contract::ARG_RETENTION_DAYS,
            "30",
            contract::ARG_MINIMUM_KEPT,
            "7",
            contract::ARG_CA_FILE,
            contract::CA_PATH,
            contract::ARG_DATABASE_CA_FILE,
            contract::DATABASE_CA_PATH,
            contract::ARG_BUCKET_CA_FILE,
            contract::BUCKET_CA_PATH,
            contract::ARG_OWNER,
            OWNER,
            contract::ARG_STACK_UID,
            "uid",
            contract::ARG_ADOPT,
            contract::ADOPT_NONE,
            contract::ARG_DELETE_VERSIONS,
        ];
        Agent::try_parse_from(arguments.into_iter().chain(SERVICES))
    }

    #[test]
    fn the_arguments_of_the_contract_parse() {
        let Agent { command: AgentCommand::Dump(args) } = dump("backups/shop/shop/").expect("dump") else {
            panic!("not a dump");
        };
        assert_eq!((args.prefix.as_str(), args.retention_days, args.minimum_kept), ("backups/shop/shop/", 30, 7));
        assert_eq!(args.ca_file.as_deref(), Some(contract::CA_PATH.as_ref()));
        assert_eq!(args.database_ca_file.as_deref(), Some(contract::DATABASE_CA_PATH.as_ref()));
        assert_eq!(args.bucket_ca_file.as_deref(), Some(contract::BUCKET_CA_PATH.as_ref()));
        assert_eq!((args.owner.as_deref(), args.stack_uid.as_deref()), (Some(OWNER), Some("uid")));
        assert_eq!((args.adopt.as_deref(), args.delete_versions), (Some("none"), true));
        assert_eq!(args.termination_path, PathBuf::from(contract::TERMINATION_PATH));
        assert!(!format!("{args:?}{:?}", args.bucket).contains("secret"));
        let arguments = [contract::AGENT, contract::INSTALL, contract::BINARY_PATH];
        let Agent { command: AgentCommand::Install { path } } = Agent::try_parse_from(arguments).expect("install")
        else {
            panic!("not an install");
        };
        assert_eq!(path, PathBuf::from(contract::BINARY_PATH));
        let files = [contract::ARG_PRIVATE_FILE, "a", contract::ARG_DATABASE_FILE, "b", contract::ARG_INTO, "c"];
        let arguments = [contract::AGENT, contract::AUTHORITIES].into_iter().chain(files);
        let Agent { command: AgentCommand::Authorities(args) } = Agent::try_parse_from(arguments).expect("authorities")
        else {
            panic!("no authorities");
        };
        let paths = [Some(args.private_file), args.database_file, Some(args.into)];
        assert_eq!(paths, ["a", "b", "c"].map(|path| Some(PathBuf::from(path))));
    }

    /// They become texts of objects in the bucket and of statuses.
    #[rstest]
    #[case("")]
    #[case("shop")]
    #[case("/shop")]
    #[case("uid/")]
    #[case("uid/shop/more")]
    #[case("uid/shop\n")]
    #[case("uid/\"shop")]
    fn what_is_no_owner_is_refused(#[case] text: &str) {
        assert!(owner(text).is_err() && adopted(text).is_err(), "{text}");
    }

    #[test]
    fn rules_that_could_take_others_off_are_refused() {
        let parsed = |ids: &str, compared: bool| {
            let rules =
                serde_json::json!({"ids": ids, "compared": compared, "origins": ["https://a.example"]}).to_string();
            let arguments = [contract::AGENT, contract::BUCKET_RULES, contract::ARG_RULES, &rules];
            Agent::try_parse_from(arguments.into_iter().chain(SERVICES.into_iter().skip(1)))
        };
        let Agent { command: AgentCommand::BucketRules(args) } =
            parsed(&BucketRules::ids(OWNER), false).expect("rules")
        else {
            panic!("no rules");
        };
        assert_eq!((args.rules.origins.len(), args.bucket_ca_file, args.arrival_seconds), (1, None, 900));
        for ids in ["", "rorun-", "rorun-.", "rorun-u-shop", "theirs."] {
            assert!(parsed(ids, false).is_err(), "{ids}");
        }
        assert!(parsed("rorun-", true).is_ok(), "those that a controller sets");
        assert!(parsed("", true).is_err() && parsed("theirs.", true).is_err());
    }

    /// The bucket alone, the database alone, and both.
    #[rstest]
    #[case(true, false)]
    #[case(false, true)]
    #[case(true, true)]
    fn a_preflight_asks_what_is_named(#[case] bucket: bool, #[case] database: bool) {
        let key = contract::preflight_key("backups/n/shop/", "6f1f3a5c");
        let asked = [contract::ARG_KEY, &key, contract::ARG_VERSIONS, contract::ARG_BUCKET_CA_FILE, "b.crt"];
        let mut arguments = vec![contract::AGENT, contract::PREFLIGHT];
        if bucket {
            arguments.extend(asked.into_iter().chain(SERVICES.into_iter().skip(1)));
        }
        if database {
            arguments.extend([contract::ARG_DATABASE_CA_FILE, "d.crt", "--database-url=postgres://u:secret@h/d"]);
        }
        let parsed = Agent::try_parse_from(arguments).expect("preflight");
        let AgentCommand::Preflight(args) = parsed.command else { panic!("no preflight") };
        assert_eq!(args.key, bucket.then_some(key));
        assert_eq!((args.s3_bucket.is_some(), args.versions, args.database_url.is_some()), (bucket, bucket, database));
        assert!(!format!("{args:?}").contains("secret"));
    }

    #[test]
    fn the_commands_of_the_lock_parse() {
        let arguments = [
            contract::AGENT,
            contract::HOLD_LOCK,
            contract::ARG_TIMEOUT_SECONDS,
            "600",
            contract::ARG_DATABASE_CA_FILE,
            contract::DATABASE_CA_PATH,
            "--database-url=postgres://u:secret@h/d",
        ];
        let Agent { command: AgentCommand::HoldLock(args) } = Agent::try_parse_from(arguments).expect("hold-lock")
        else {
            panic!("no lock");
        };
        assert_eq!((args.timeout_seconds, args.lock_file.as_path()), (600, contract::LOCK_FILE.as_ref()));
        assert_eq!(args.database_ca_file.as_deref(), Some(contract::DATABASE_CA_PATH.as_ref()));
        assert!(args.lock_file.starts_with(contract::LOCK_DIRECTORY) && !format!("{args:?}").contains("secret"));
        let arguments = [contract::AGENT, contract::AWAIT_LOCK, contract::ARG_TIMEOUT_SECONDS, "120"];
        let Agent { command: AgentCommand::AwaitLock(args) } = Agent::try_parse_from(arguments).expect("await-lock")
        else {
            panic!("no wait");
        };
        assert_eq!((args.timeout_seconds, args.lock_file), (120, PathBuf::from(contract::LOCK_FILE)));
        let without_limit = [contract::AGENT, contract::HOLD_LOCK, "--database-url=postgres://u@h/d"];
        assert!(Agent::try_parse_from(without_limit).is_err(), "a wait without an end");
    }

    /// As 0.1.0 and its operator start the dump: it takes the lock without being asked to.
    #[test]
    fn a_dump_waits_for_the_lock_without_an_argument() {
        let Agent { command: AgentCommand::Dump(args) } = dump("backups/shop/shop/").expect("dump") else {
            panic!("not a dump");
        };
        assert_eq!((args.lock_timeout_seconds, args.exclude_schema), (3600, Vec::new()));
    }

    #[rstest]
    #[case("--exclude-schema=vault", Some("vault"))]
    #[case("--exclude-schema=-x, y*", Some("-x, y*"))]
    #[case("--exclude-schema=", None)]
    #[case("--exclude-schema=a\nb", None)]
    fn a_schema_is_an_exact_name(#[case] argument: &str, #[case] expected: Option<&str>) {
        let before = [contract::AGENT, contract::DUMP, "--prefix=b/", "--retention-days=1", "--minimum-kept=1"];
        let parsed = Agent::try_parse_from(before.into_iter().chain(SERVICES).chain([argument]));
        let found = parsed.ok().and_then(|agent| match agent.command {
            AgentCommand::Dump(args) => args.exclude_schema.first().cloned(),
            _ => None,
        });
        assert_eq!(found.as_deref(), expected);
    }

    #[test]
    fn the_variables_of_the_contract_are_read() {
        let command = <Agent as clap::CommandFactory>::command();
        let dump = command.find_subcommand(contract::DUMP).expect("dump");
        let read: Vec<_> = dump.get_arguments().filter_map(|argument| argument.get_env()?.to_str()).collect();
        for name in [
            contract::ENV_DATABASE_URL,
            contract::ENV_S3_ENDPOINT,
            contract::ENV_S3_REGION,
            contract::ENV_S3_BUCKET,
            contract::ENV_S3_FORCE_PATH_STYLE,
            contract::ENV_ACCESS_KEY_ID,
            contract::ENV_SECRET_ACCESS_KEY,
            contract::ENV_SESSION_TOKEN,
        ] {
            assert!(read.contains(&name), "{name} in {read:?}");
        }
    }

    #[rstest]
    #[case("")]
    #[case("/")]
    #[case("backups")]
    #[case("/backups/")]
    #[case("backups//shop/")]
    #[case("backups/../")]
    fn a_prefix_that_could_reach_too_far_is_refused(#[case] prefix: &str) {
        assert!(dump(prefix).is_err());
    }
}
