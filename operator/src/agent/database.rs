//! The database of a stack, reached as the prober of the operator reaches it.

use std::time::Duration;

use super::authorities::Authorities;
use super::client_certificate;
use super::error::DumpError;
use crate::services::ServiceError;
use crate::services::postgres::{self, PostgresTarget};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// A database that answered.
pub(super) struct Database {
    pub(super) name: String,
    pub(super) version: String,
    /// The URL, and the authorities that led to an answer.
    pub(super) target: PostgresTarget,
    /// The variables that lead `libpq` to the same database.
    pub(super) environment: Vec<(&'static str, String)>,
}

/// Asks for the version: the first to say in plain words what is wrong with the database.
pub(super) async fn connect(url: &str, authorities: &Authorities) -> Result<Database, DumpError> {
    let mut target = PostgresTarget { url: url.to_owned(), ca: None, client: None };
    let (name, mut environment) = (target.database()?, target.environment()?);
    if let Some(shown) = client_certificate::named_by(url)? {
        target.client = Some(shown.certificate);
        environment.extend(shown.variables);
    }
    let mut refused = None;
    for bundle in authorities.for_database(target.tls_mode()?) {
        target.ca = bundle.map(|bundle| bundle.pem.clone());
        match postgres::check(&target, CONNECT_TIMEOUT).await {
            Ok(info) => {
                environment.extend(bundle.map(|bundle| ("PGSSLROOTCERT", bundle.path.display().to_string())));
                return Ok(Database { name, version: info.version, target, environment });
            }
            // What the first, more specific authorities led to is what the user can act on.
            Err(error @ ServiceError::TlsFailed { .. }) => refused = refused.or(Some(error)),
            Err(error) => return Err(error.into()),
        }
    }
    Err(refused.map_or(DumpError::Empty, DumpError::from))
}
