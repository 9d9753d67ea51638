//! The arguments of `agent sanitize`.

use std::fmt;
use std::path::PathBuf;

use crate::agent::BackupId;
use crate::agent::args::{BucketArgs, owner, prefix};
use crate::contract::{self, BucketLocation};

/// Which point, what to do with it, and where to.
#[derive(Clone, clap::Args)]
pub struct SanitizeArgs {
    /// The folder of the stack's recovery points in the bucket, ending in a slash.
    #[arg(long, value_parser = prefix)]
    pub prefix: String,
    /// The owner of the backups. Defaults to none: whoever has some there.
    #[arg(long, value_parser = owner)]
    pub owner: Option<String>,
    /// The point. Defaults to the newest whole one.
    #[arg(long)]
    pub point: Option<BackupId>,
    /// The environment of the stack.
    #[arg(long)]
    pub environment: Option<String>,
    /// The uid of the `RorunBackup`.
    #[arg(long, value_parser = uid)]
    pub request: String,
    /// The folder of the sanitized points in their bucket, ending in a slash.
    #[arg(long, value_parser = prefix)]
    pub into_prefix: String,
    /// A folder of the application's bucket whose objects the point has, ending in a slash; once for each. Defaults to none.
    #[arg(long = "object-prefix", value_parser = prefix)]
    pub object_prefixes: Vec<String>,
    /// An empty folder for the files of the server.
    #[arg(long, default_value = contract::WORK_DIRECTORY)]
    pub work: PathBuf,
    /// Certificate authorities (PEM) of the bucket, beside the public ones.
    #[arg(long)]
    pub bucket_ca_file: Option<PathBuf>,
    /// Where to write the result.
    #[arg(long, default_value = contract::TERMINATION_PATH, hide = true)]
    pub termination_path: PathBuf,
    /// The statements.
    #[arg(long, env = contract::ENV_SANITIZE_SQL, hide_env_values = true, hide = true, required_unless_present = "sql_file")]
    pub sql: Option<String>,
    /// The file with the statements that a program printed.
    #[arg(long)]
    pub sql_file: Option<PathBuf>,
    /// The bucket of the sanitized points, as JSON.
    #[arg(long, env = contract::ENV_SANITIZED, hide_env_values = true, hide = true)]
    pub destination: String,
    /// The application's bucket as JSON, where it is not the one that backups go to.
    #[arg(long, env = contract::ENV_SOURCE, hide_env_values = true, hide = true)]
    pub source: Option<String>,
    /// The identity that decrypts the dump.
    #[arg(long, env = contract::ENV_IDENTITY, hide_env_values = true, hide = true)]
    pub identity: Option<String>,
    /// The bucket.
    #[command(flatten)]
    pub bucket: BucketArgs,
}

impl SanitizeArgs {
    pub(in crate::agent) fn secrets(&self) -> Vec<String> {
        let others = std::iter::once(&self.destination).chain(&self.source);
        let into = others.filter_map(|text| serde_json::from_str::<BucketLocation>(text).ok());
        let into = into.flat_map(|into| [into.secret_access_key, into.session_token]).flatten();
        let lines = self.identity.iter().flat_map(|identity| identity.lines()).map(|line| line.trim().to_owned());
        let mut secrets: Vec<_> = into.chain(self.bucket.secrets()).chain(lines).collect();
        secrets.retain(|secret| !secret.is_empty());
        secrets
    }
}

impl fmt::Debug for SanitizeArgs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SanitizeArgs").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

fn uid(text: &str) -> Result<String, String> {
    let plain = !text.is_empty() && text.len() <= 64 && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if plain { Ok(text.to_owned()) } else { Err("it must be the uid of a RorunBackup".to_owned()) }
}
