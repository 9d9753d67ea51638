//! A database, as the prober asks one that it can reach.

use std::time::Duration;

use super::Trouble;
use crate::agent::authorities::Authorities;
use crate::contract::{DatabaseFacts, PreflightVerdict, ServiceFacts, read_only, version};
use crate::services::Network;
use crate::services::postgres::{self, Examined, PostgresTarget};

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks by one of the URLs: what it is for decides what it must do. `maintains`: migrations and dumps use this one.
pub(super) async fn ask(
    (target, url): (&str, &str),
    maintains: bool,
    authorities: &Authorities,
) -> Result<PreflightVerdict, Trouble> {
    let trouble = |error| Trouble::of("", &error);
    let unverified = PostgresTarget { url: url.to_owned(), ca: None, client: None };
    let mode = unverified.tls_mode().map_err(trouble)?;
    let ca = authorities.for_database(mode).into_iter().flatten().next().map(|bundle| bundle.pem.clone());
    let asked = PostgresTarget { ca, ..unverified };
    let network = Network::open();
    if target == "database-read" {
        let info = postgres::check_through(&network, &asked, TIMEOUT).await.map_err(trouble)?;
        return Ok(passed(ServiceFacts { version: version(&info.version), database: None }));
    }
    let (info, Examined { mut facts, .. }) =
        postgres::examine_through(&network, &asked, TIMEOUT).await.map_err(trouble)?;
    if target == "database" && facts.read_only {
        let waiting = read_only();
        return Err(Trouble::new(waiting.reason, waiting.message));
    }
    // The result has room for so many, and the message that tells of them names no more.
    facts.unreadable = facts.unreadable.filter(|_| maintains).map(|all| all.into_iter().take(UNREADABLE).collect());
    let database = (facts != DatabaseFacts::default()).then_some(facts);
    Ok(passed(ServiceFacts { version: version(&info.version), database }))
}

/// How many of the places that a dump cannot read are told.
const UNREADABLE: usize = 4;

fn passed(facts: ServiceFacts) -> PreflightVerdict {
    PreflightVerdict::Passed { findings: Vec::new(), facts: Some(facts) }
}
