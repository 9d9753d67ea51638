//! Asks the services of a stack from the place of its pods: with their account, through their network, and by the proxy beside them.
//!
//! Each is asked once. What fails is asked again by the next start of the container, so that a right that is granted, or a server that
//! comes back, is found without anybody.

mod bucket;
mod database;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;

use super::BucketArgs;
use super::authorities::Authorities;
use crate::contract::{self, PreflightAnswer, PreflightFinding, PreflightOutcome, PreflightVerdict};
use crate::names::reason::{self, Reason};
use crate::services::ServiceError;

/// How long all of it may take: the kubelet starts it again.
const WITHIN: Duration = Duration::from_mins(1);

/// What to ask. Secrets come from variables only.
#[derive(Clone, clap::Args)]
pub struct PreflightArgs {
    /// The object to write to the bucket. Defaults to none: the bucket is not asked.
    #[arg(long, value_parser = key)]
    pub key: Option<String>,
    /// The bucket is to keep versions.
    #[arg(long, requires = "key")]
    pub versions: bool,
    /// The object to write to the bucket of the backups. Defaults to none: it is not asked.
    #[arg(long, value_parser = key)]
    pub destination_key: Option<String>,
    /// Certificate authorities (PEM) of the bucket, beside the public ones.
    #[arg(long)]
    pub bucket_ca_file: Option<PathBuf>,
    /// The certificate authorities (PEM) of the database, and no others.
    #[arg(long)]
    pub database_ca_file: Option<PathBuf>,
    /// Where to write the result.
    #[arg(long, default_value = contract::TERMINATION_PATH, hide = true)]
    pub termination_path: PathBuf,
    /// The URL of the application.
    #[arg(long, env = contract::ENV_ASK_URL, hide_env_values = true, hide = true)]
    pub database_url: Option<String>,
    /// The URL of migrations and dumps.
    #[arg(long, env = contract::ENV_ASK_DIRECT_URL, hide_env_values = true, hide = true)]
    pub direct_url: Option<String>,
    /// The URL of a read replica.
    #[arg(long, env = contract::ENV_ASK_READ_URL, hide_env_values = true, hide = true)]
    pub read_url: Option<String>,
    /// The bucket of the backups, as JSON.
    #[arg(long, env = contract::ENV_ASK_DESTINATION, hide_env_values = true, hide = true)]
    pub destination: Option<String>,
    /// The URL of the S3 service.
    #[arg(long, env = contract::ENV_S3_ENDPOINT, hide = true)]
    pub s3_endpoint: Option<String>,
    /// The region that requests are signed for.
    #[arg(long, env = contract::ENV_S3_REGION, hide = true)]
    pub s3_region: Option<String>,
    /// The name of the bucket.
    #[arg(long, env = contract::ENV_S3_BUCKET, hide = true)]
    pub s3_bucket: Option<String>,
    /// `https://endpoint/bucket/key` instead of `https://bucket.endpoint/key`.
    #[arg(long, env = contract::ENV_S3_FORCE_PATH_STYLE, hide = true, num_args = 1, default_value = "false")]
    #[arg(action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub s3_force_path_style: bool,
    /// The access key id.
    #[arg(long, env = contract::ENV_ACCESS_KEY_ID, hide_env_values = true, hide = true)]
    pub access_key_id: Option<String>,
    /// The secret access key.
    #[arg(long, env = contract::ENV_SECRET_ACCESS_KEY, hide_env_values = true, hide = true)]
    pub secret_access_key: Option<String>,
    /// The session token of temporary keys.
    #[arg(long, env = contract::ENV_SESSION_TOKEN, hide_env_values = true, hide = true)]
    pub session_token: Option<String>,
}

impl PreflightArgs {
    /// The bucket, and who uses it.
    fn bucket(&self) -> Option<BucketArgs> {
        Some(BucketArgs {
            s3_endpoint: self.s3_endpoint.clone()?,
            s3_region: self.s3_region.clone()?,
            s3_bucket: self.s3_bucket.clone()?,
            s3_force_path_style: self.s3_force_path_style,
            access_key_id: self.access_key_id.clone(),
            secret_access_key: self.secret_access_key.clone(),
            session_token: self.session_token.clone(),
        })
    }
}

impl fmt::Debug for PreflightArgs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PreflightArgs").field("key", &self.key).finish_non_exhaustive()
    }
}

/// The object is deleted at the end, so that it is none that anybody else could have written.
fn key(text: &str) -> Result<String, String> {
    let (folder, uid) = text.rsplit_once('/').unwrap_or_default();
    let prefix = folder.strip_suffix("_preflight").filter(|prefix| prefix.is_empty() || prefix.ends_with('/'));
    let word = !uid.is_empty() && uid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    match prefix.filter(|_| word) {
        Some("") => Ok(text.to_owned()),
        Some(prefix) => super::args::prefix(prefix).map(|_| text.to_owned()),
        None => Err("it must be like backups/namespace/stack/_preflight/<uid>".to_owned()),
    }
}

/// Asks all that the arguments name, side by side.
pub(super) async fn ask(args: &PreflightArgs) -> PreflightOutcome {
    let bucket = async {
        let key = args.key.as_deref()?;
        let asked = async {
            let target = args.bucket().ok_or_else(|| Trouble::new(reason::KEY_MISSING, "the bucket is not given"))?;
            bucket::ask(&bucket::target(args, &target)?, key, args.versions).await
        };
        Some(answer("bucket", within(Box::pin(asked)).await))
    };
    let destination = async {
        let key = args.destination_key.as_deref()?;
        let asked = async { bucket::ask(&bucket::destination(args)?, key, false).await };
        Some(answer("backup", within(Box::pin(asked)).await))
    };
    let databases = async {
        let authorities = Authorities::of_database(args.database_ca_file.as_deref());
        let urls = [
            ("database", &args.database_url),
            ("database-direct", &args.direct_url),
            ("database-read", &args.read_url),
        ];
        let asked = urls.into_iter().filter_map(|(target, url)| Some((target, url.as_deref()?)));
        let asked = asked.map(|(target, url)| {
            let authorities = &authorities;
            async move {
                match authorities {
                    Ok(authorities) => {
                        let maintains = target == "database-direct" || args.direct_url.is_none();
                        answer(target, within(database::ask((target, url), maintains, authorities)).await)
                    }
                    Err(error) => answer(target, Err(Trouble::new(reason::TLS_FAILED, error.to_string()))),
                }
            }
        });
        futures::future::join_all(asked).await
    };
    let (bucket, destination, databases) = tokio::join!(Box::pin(bucket), Box::pin(destination), databases);
    PreflightOutcome { answers: bucket.into_iter().chain(destination).chain(databases).collect() }
}

/// Why a service does not do what the application needs.
#[derive(Debug)]
struct Trouble {
    reason: Reason,
    message: String,
}

impl Trouble {
    fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// `step`: what was tried; empty if the error says it.
    fn of(step: &str, error: &ServiceError) -> Self {
        let reason = match error {
            ServiceError::Unreachable { .. } | ServiceError::Refused { .. } | ServiceError::Other { .. } => {
                reason::UNREACHABLE
            }
            ServiceError::TlsFailed { .. } => reason::TLS_FAILED,
            ServiceError::AuthenticationFailed { .. } | ServiceError::RoleRefused { .. } => {
                reason::AUTHENTICATION_FAILED
            }
            ServiceError::Missing { .. } => reason::NOT_FOUND,
            ServiceError::AccessDenied { .. } => reason::ACCESS_DENIED,
            ServiceError::Unsupported { .. } => reason::UNSUPPORTED,
        };
        // Without a role no step is better than another, and a result has little room.
        let whole = step.is_empty() || matches!(error, ServiceError::RoleRefused { .. });
        let message = if whole { error.to_string() } else { format!("{step}: {error}") };
        Self { reason, message }
    }

    fn finding(self) -> PreflightFinding {
        PreflightFinding { reason: self.reason.to_owned(), message: self.message }
    }
}

fn answer(target: &str, verdict: Result<PreflightVerdict, Trouble>) -> PreflightAnswer {
    let verdict = verdict.unwrap_or_else(|trouble| PreflightVerdict::Failed(trouble.finding()));
    PreflightAnswer { target: target.to_owned(), verdict }
}

async fn within(asked: impl Future<Output = Result<PreflightVerdict, Trouble>>) -> Result<PreflightVerdict, Trouble> {
    let late = || Trouble::new(reason::UNREACHABLE, format!("no whole answer within {} s", WITHIN.as_secs()));
    tokio::time::timeout(WITHIN, asked).await.unwrap_or_else(|_| Err(late()))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// It is overwritten and deleted.
    #[rstest]
    #[case("_preflight/6f1f3a5c-0000-4000-8000-000000000001", true)]
    #[case("backups/n/shop/_preflight/6f1f3a5c", true)]
    #[case("_preflight/", false)]
    #[case("_preflight", false)]
    #[case("backups/n/shop/owner.json", false)]
    #[case("a_preflight/6f1f3a5c", false)]
    #[case("../_preflight/6f1f3a5c", false)]
    #[case("/_preflight/6f1f3a5c", false)]
    #[case("_preflight/../owner.json", false)]
    #[case("_preflight/a b", false)]
    #[case("", false)]
    fn only_an_object_of_its_own_is_written(#[case] text: &str, #[case] expected: bool) {
        assert_eq!(key(text).is_ok(), expected, "{text}");
    }
}
