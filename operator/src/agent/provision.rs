//! Makes the role and the database of the application on a server that is new, as its master.

use std::fmt;
use std::path::PathBuf;

use super::authorities::Authorities;
use super::error::DumpError;
use crate::contract::{self, PostgresUrl, ProvisionOutcome, TlsMode};
use crate::services::postgres::{Login, PostgresTarget, ProvisionError, provision as provision_role};

/// The database that every server has.
const MAINTENANCE: &str = "postgres";

/// The server, its master, and the login of the application. Secrets come from variables only.
#[derive(Clone, clap::Args)]
pub struct ProvisionArgs {
    /// The host name of the server.
    #[arg(long)]
    pub host: String,
    /// Its port.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// The certificate authorities (PEM) of the server, and no others.
    #[arg(long)]
    pub database_ca_file: PathBuf,
    /// Where to write the result.
    #[arg(long, default_value = contract::TERMINATION_PATH, hide = true)]
    pub termination_path: PathBuf,
    /// The user name of the master.
    #[arg(long, env = contract::ENV_MASTER_USERNAME, hide_env_values = true, hide = true)]
    pub master_username: String,
    /// The password of the master.
    #[arg(long, env = contract::ENV_MASTER_PASSWORD, hide_env_values = true, hide = true)]
    pub master_password: String,
    /// The role of the application.
    #[arg(long, env = contract::ENV_APP_USERNAME, hide_env_values = true, hide = true)]
    pub app_username: String,
    /// Its database.
    #[arg(long, env = contract::ENV_APP_DATABASE, hide_env_values = true, hide = true)]
    pub app_database: String,
    /// Its password.
    #[arg(long, env = contract::ENV_APP_PASSWORD, hide_env_values = true, hide = true)]
    pub app_password: String,
}

impl fmt::Debug for ProvisionArgs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ProvisionArgs").field("host", &self.host).finish_non_exhaustive()
    }
}

/// Why the application cannot log in yet.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Authorities(#[from] DumpError),
    #[error(transparent)]
    Provision(#[from] ProvisionError),
}

/// Does it, and says what came of it.
pub(super) async fn provision(args: &ProvisionArgs) -> ProvisionOutcome {
    match run(args).await {
        Ok(made) => {
            tracing::info!(?made, "the role of the application logs in to its database");
            ProvisionOutcome::Complete { made }
        }
        Err(failure) => ProvisionOutcome::Failed { message: failure.to_string() },
    }
}

async fn run(args: &ProvisionArgs) -> Result<Vec<String>, Failure> {
    let authorities = Authorities::of_database(Some(&args.database_ca_file))?;
    let ca =
        authorities.for_database(TlsMode::VerifyFull).into_iter().flatten().next().map(|bundle| bundle.pem.clone());
    let target = |login: (&str, &str), database: &str| {
        let url = PostgresUrl::new(&args.host, i32::from(args.port), login, database, TlsMode::VerifyFull);
        PostgresTarget { url: url.to_string(), ca: ca.clone(), client: None }
    };
    let master = target((&args.master_username, &args.master_password), MAINTENANCE);
    let app = target((&args.app_username, &args.app_password), &args.app_database);
    let login = Login { role: &args.app_username, password: &args.app_password, database: &args.app_database };
    Ok(provision_role(&master, &app, &login).await?)
}
