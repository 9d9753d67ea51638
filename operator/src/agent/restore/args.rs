//! The arguments of the steps.

use std::fmt;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use jiff::Timestamp;

use crate::agent::args::{BucketArgs, owner, prefix};
use crate::agent::{BackupId, outcome};
use crate::contract::{self, RestoreScope};
use crate::services::bucket::{AccessKeys, BucketTarget};

/// Which recovery point, and where it is.
#[derive(Clone, clap::Args)]
pub struct PointArgs {
    /// The folder of the stack's recovery points in the bucket, ending in a slash.
    #[arg(long, value_parser = prefix)]
    pub prefix: String,
    /// The id of the recovery point.
    #[arg(long)]
    pub point: BackupId,
    /// Whose the recovery point has to be.
    #[command(flatten)]
    pub whose: Whose,
    /// The environment of the stack: a point of another one is refused, unless it is sanitized. Defaults to any.
    #[arg(long)]
    pub environment: Option<String>,
    /// No other point than a sanitized one is taken.
    #[arg(long)]
    pub sanitized: bool,
    /// Certificate authorities (PEM) of the bucket, beside the public ones.
    #[arg(long)]
    pub bucket_ca_file: Option<PathBuf>,
    /// The bucket.
    #[command(flatten)]
    pub bucket: BucketArgs,
}

/// Whose the recovery point has to be.
#[derive(Clone, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Whose {
    /// This owner's.
    #[arg(long, value_parser = owner)]
    pub owner: Option<String>,
    /// Anybody's.
    #[arg(long)]
    pub any_owner: bool,
}

/// For which restore, and in which database.
#[derive(Clone, clap::Args)]
pub struct TargetArgs {
    /// The uid of the `RorunRestore`.
    #[arg(long, value_parser = uid)]
    pub restore: String,
    /// The certificate authorities (PEM) of the database, and no others.
    #[arg(long)]
    pub database_ca_file: Option<PathBuf>,
    /// Where to write the result.
    #[arg(long, default_value = contract::TERMINATION_PATH, hide = true)]
    pub termination_path: PathBuf,
    /// The URL of the live database.
    #[arg(long, env = contract::ENV_DATABASE_URL, hide_env_values = true, hide = true)]
    pub database_url: String,
    /// The URL of the user's own database that takes the place of the copy.
    #[arg(long, env = contract::ENV_COPY_URL, hide_env_values = true, hide = true)]
    pub copy_url: Option<String>,
}

/// The bucket whose objects are restored, where it is not the one of the recovery points.
#[derive(Clone, clap::Args)]
pub struct ObjectsArgs {
    /// A folder of it whose objects stay as they are; once for each.
    #[arg(long)]
    pub objects_except: Vec<String>,
    /// Certificate authorities (PEM) of it, beside the public ones.
    #[arg(long)]
    pub objects_ca_file: Option<PathBuf>,
    /// The largest object in bytes that the server copies at once; of a larger one it copies parts. 5 GiB by the rules of S3.
    #[arg(long, default_value_t = 5 << 30, value_parser = clap::value_parser!(u64).range(5 << 20..=5 << 30), hide = true)]
    pub copied_at_once: u64,
    /// The URL of the S3 service.
    #[arg(long, env = contract::ENV_OBJECTS_ENDPOINT, hide = true)]
    pub objects_endpoint: Option<String>,
    /// The region that requests are signed for.
    #[arg(long, env = contract::ENV_OBJECTS_REGION, hide = true)]
    pub objects_region: Option<String>,
    /// The name of the bucket.
    #[arg(long, env = contract::ENV_OBJECTS_BUCKET, hide = true)]
    pub objects_bucket: Option<String>,
    /// `https://endpoint/bucket/key` instead of `https://bucket.endpoint/key`.
    #[arg(long, env = contract::ENV_OBJECTS_FORCE_PATH_STYLE, hide = true, num_args = 1, default_value = "false")]
    #[arg(action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub objects_force_path_style: bool,
    /// The access key id.
    #[arg(long, env = contract::ENV_OBJECTS_ACCESS_KEY_ID, hide_env_values = true, hide = true)]
    pub objects_access_key_id: Option<String>,
    /// The secret access key.
    #[arg(long, env = contract::ENV_OBJECTS_SECRET_ACCESS_KEY, hide_env_values = true, hide = true)]
    pub objects_secret_access_key: Option<String>,
    /// The session token of temporary keys.
    #[arg(long, env = contract::ENV_OBJECTS_SESSION_TOKEN, hide_env_values = true, hide = true)]
    pub objects_session_token: Option<String>,
}

/// The arguments of most steps.
#[derive(Clone, clap::Args)]
pub struct StepArgs {
    /// What is to be restored; once for each.
    #[arg(long, default_value = RestoreScope::Database.as_str(), value_parser = scope)]
    pub scope: Vec<RestoreScope>,
    /// What is restored fills a new stack: nothing may be there.
    #[arg(long)]
    pub fill: bool,
    /// The identity that decrypts the dump.
    #[arg(long, env = contract::ENV_IDENTITY, hide_env_values = true, hide = true)]
    pub identity: Option<String>,
    /// The bucket whose objects are restored.
    #[command(flatten)]
    pub objects: ObjectsArgs,
    /// The recovery point.
    #[command(flatten)]
    pub point: PointArgs,
    /// The database.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// What every step is given, for those that have no use for it.
#[derive(Clone, Debug, clap::Args)]
pub struct GivenArgs {
    /// The folder of the stack's recovery points.
    #[arg(long, hide = true)]
    pub prefix: Option<String>,
    /// The recovery point.
    #[arg(long, hide = true)]
    pub point: Option<String>,
    /// Whose it has to be.
    #[arg(long, hide = true)]
    pub owner: Option<String>,
    /// It may be anybody's.
    #[arg(long, hide = true)]
    pub any_owner: bool,
    /// The environment of the stack.
    #[arg(long, hide = true)]
    pub environment: Option<String>,
    /// It has to be sanitized.
    #[arg(long, hide = true)]
    pub sanitized: bool,
    /// What is to be restored.
    #[arg(long, hide = true)]
    pub scope: Vec<String>,
    /// The authorities of the bucket.
    #[arg(long, hide = true)]
    pub bucket_ca_file: Option<PathBuf>,
    /// The authorities of the bucket whose objects are restored.
    #[arg(long, hide = true)]
    pub objects_ca_file: Option<PathBuf>,
}

/// The databases whose names change.
#[derive(Clone, Debug, clap::Args)]
pub struct SwitchArgs {
    /// What the step has no use for.
    #[command(flatten)]
    pub given: GivenArgs,
    /// The database.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// The moment that is to be restored.
#[derive(Clone, Debug, clap::Args)]
pub struct MomentArgs {
    /// By RFC 3339, with its zone.
    #[arg(long)]
    pub moment: Timestamp,
    /// What the step has no use for.
    #[command(flatten)]
    pub given: GivenArgs,
    /// The live database.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// The database to drop.
#[derive(Clone, Debug, clap::Args)]
pub struct DiscardArgs {
    /// Its exact name.
    #[arg(long)]
    pub database: String,
    /// What the step has no use for.
    #[command(flatten)]
    pub given: GivenArgs,
    /// The live database.
    #[command(flatten)]
    pub target: TargetArgs,
}

impl ObjectsArgs {
    /// The bucket with its authorities, where one is named.
    pub(super) fn target(&self, ca: Option<String>) -> Option<BucketTarget> {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        Some(BucketTarget {
            endpoint: self.objects_endpoint.clone().filter(|endpoint| !endpoint.is_empty())?,
            region: text(&self.objects_region),
            bucket: text(&self.objects_bucket),
            force_path_style: self.objects_force_path_style,
            keys: AccessKeys::given(
                self.objects_access_key_id.clone(),
                self.objects_secret_access_key.clone(),
                self.objects_session_token.clone(),
            ),
            ca,
        })
    }
}

impl StepArgs {
    pub(super) fn secrets(&self) -> Vec<String> {
        let lines = self.identity.iter().flat_map(|identity| identity.lines()).map(|line| line.trim().to_owned());
        let objects = [&self.objects.objects_secret_access_key, &self.objects.objects_session_token];
        let objects = objects.into_iter().flatten().cloned();
        lines.chain(objects).chain(self.point.secrets()).collect()
    }
}

impl PointArgs {
    fn secrets(&self) -> Vec<String> {
        self.bucket.secrets()
    }
}

impl TargetArgs {
    pub(super) fn secrets(&self) -> Vec<String> {
        std::iter::once(&self.database_url).chain(&self.copy_url).flat_map(|url| outcome::secrets_of(url)).collect()
    }

    /// The URL of the user's own database, if it is named.
    pub(super) fn own_copy(&self) -> Option<&str> {
        self.copy_url.as_deref().filter(|url| !url.is_empty())
    }
}

impl fmt::Debug for StepArgs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scope, point, target, .. } = self;
        let mut shown = formatter.debug_struct("StepArgs");
        shown.field("scope", scope).field("point", point).field("target", target).finish_non_exhaustive()
    }
}

impl fmt::Debug for PointArgs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PointArgs").field("point", &self.point.as_str()).finish_non_exhaustive()
    }
}

impl fmt::Debug for TargetArgs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TargetArgs").field("restore", &self.restore).finish_non_exhaustive()
    }
}

/// It becomes a part of comments and names.
fn uid(text: &str) -> Result<String, String> {
    let plain = !text.is_empty() && text.len() <= 64 && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if plain { Ok(text.to_owned()) } else { Err("it must be the uid of a RorunRestore".to_owned()) }
}

fn scope(text: &str) -> Result<RestoreScope, String> {
    let all = [RestoreScope::Database, RestoreScope::Bucket];
    all.into_iter().find(|scope| scope.as_str() == text).ok_or_else(|| "it must be database or bucket".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use rstest::rstest;

    use super::*;
    use crate::agent::AgentCommand;
    use crate::agent::restore::RestoreCommand;
    use crate::contract::RestoreStep;

    #[derive(Debug, Parser)]
    struct Agent {
        #[command(subcommand)]
        command: AgentCommand,
    }

    const UID: &str = "5e0c37f4-3a55-4b8a-9a86-1c1f2a3b4c5d";
    const OWNER: [&str; 2] = [contract::ARG_OWNER, "6f1f3a5c-0000-4000-8000-000000000001/shop"];
    const POINT: [&str; 4] =
        [contract::ARG_PREFIX, "backups/shop/shop/", contract::ARG_POINT, "20261124T021500Z-x7k2p"];
    const BUCKET: [&str; 5] = [
        "--s3-endpoint=http://s3",
        "--s3-region=r",
        "--s3-bucket=b",
        "--access-key-id=k",
        "--secret-access-key=secret",
    ];

    fn parse(step: RestoreStep, more: &[&str]) -> Result<RestoreCommand, clap::Error> {
        let target = [contract::ARG_RESTORE, UID, "--database-url=postgres://u:secret@h/d"];
        let before = [contract::AGENT, contract::RESTORE, step.as_str()];
        let parsed = Agent::try_parse_from(before.into_iter().chain(target).chain(more.iter().copied()))?;
        match parsed.command {
            AgentCommand::Restore { step } => Ok(step),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_arguments_of_the_contract_parse() {
        let files = [
            [contract::ARG_DATABASE_CA_FILE, contract::DATABASE_CA_PATH],
            [contract::ARG_BUCKET_CA_FILE, contract::BUCKET_CA_PATH],
            [contract::ARG_OBJECTS_CA_FILE, "/etc/rorun/objects/ca.crt"],
            [contract::ARG_SCOPE, RestoreScope::Database.as_str()],
            [contract::ARG_SCOPE, RestoreScope::Bucket.as_str()],
        ];
        let given: Vec<_> = OWNER.into_iter().chain(POINT).chain(files.into_iter().flatten()).collect();
        let of_point: Vec<_> = given.iter().copied().chain(BUCKET).collect();
        let checked = parse(RestoreStep::Check, &[&of_point[..], &[contract::ARG_FILL]].concat()).expect("check");
        let RestoreCommand::Check(args) = &checked else { panic!("{checked:?}") };
        assert!(args.fill && args.scope == [RestoreScope::Database, RestoreScope::Bucket]);
        assert!(!format!("{checked:?}").contains("secret") && checked.secrets().contains(&"secret".to_owned()));
        let secret = [&of_point[..], &["--identity=secret", "--objects-secret-access-key=secret"]].concat();
        let except = [contract::ARG_OBJECTS_EXCEPT, "backups/", contract::ARG_OBJECTS_EXCEPT, "dumps/"];
        let objects = parse(RestoreStep::Objects, &[&secret[..], &except].concat()).expect("objects");
        let RestoreCommand::Objects(args) = &objects else { panic!("{objects:?}") };
        assert_eq!(args.objects.objects_except, ["backups/", "dumps/"]);
        assert!(args.objects.target(None).is_none(), "no bucket of its own is named");
        for step in [RestoreStep::Copy, RestoreStep::Verify, RestoreStep::Fill, RestoreStep::Objects] {
            let parsed = parse(step, &secret).expect("a step");
            assert!(!format!("{parsed:?}").contains("secret"), "{parsed:?}");
        }
        // Every step is given all of it.
        parse(RestoreStep::Switch, &given).expect("switch");
        parse(RestoreStep::Switch, &[]).expect("switch");
        parse(RestoreStep::Recovered, &given).expect("recovered");
        let moment = [contract::ARG_MOMENT, "2026-11-29T14:02:59.123456Z"];
        let moment = parse(RestoreStep::Moment, &[&given[..], &moment].concat()).expect("moment");
        assert!(matches!(moment, RestoreCommand::Moment(args) if args.moment.subsec_microsecond() == 123_456));
        for without_a_zone in ["2026-11-29 14:02:59", "14:02", ""] {
            assert!(parse(RestoreStep::Moment, &[contract::ARG_MOMENT, without_a_zone]).is_err(), "{without_a_zone}");
        }
        parse(RestoreStep::Discard, &[&given[..], &[contract::ARG_DATABASE, "d"]].concat()).expect("discard");
        let discard = parse(RestoreStep::Discard, &[contract::ARG_DATABASE, "d_before_abcdef"]).expect("discard");
        assert!(matches!(discard, RestoreCommand::Discard(args) if args.database == "d_before_abcdef"));
    }

    #[rstest]
    #[case::of_nobody(&[], false)]
    #[case::of_one(&OWNER, true)]
    #[case::of_anybody(&[contract::ARG_ANY_OWNER], true)]
    #[case::of_one_and_anybody(&[contract::ARG_ANY_OWNER, OWNER[0], OWNER[1]], false)]
    fn whose_a_point_has_to_be_is_said(#[case] owner: &[&str], #[case] taken: bool) {
        let parsed = parse(RestoreStep::Copy, &[owner, &POINT, &BUCKET].concat());
        assert_eq!(parsed.is_ok(), taken, "{parsed:?}");
    }

    #[test]
    fn a_uid_that_could_be_more_is_refused() {
        for text in ["", "a b", "a'b", "a\nb"] {
            assert!(uid(text).is_err(), "{text}");
        }
        assert!(scope("Database").is_err());
    }
}
