//! What was restored against what the manifest says, and the user's own checks.

use tokio_postgres::{Client, SimpleQueryMessage};

use super::judge::{Restored, told_of_server, unquoted};
use super::server::{NAME, Server, said};
use super::{Ended, fault};
use crate::agent::manifest::{Contents, Manifest};
use crate::contract::{DrillCheck, DrillFault};

/// What was compared.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// How many rows were counted. `None`: the manifest has no numbers.
    pub(super) rows: Option<u64>,
}

/// How many differences a message names.
const NAMED: usize = 3;

/// Compares all, and names the first differences.
pub(super) async fn compare(
    server: &Server,
    manifest: &Manifest,
    checks: &[DrillCheck],
    restored: &Restored,
) -> Result<Compared, Ended> {
    let connected = server.connect(NAME).await;
    let client = connected.map_err(|error| Ended::Fault(DrillFault::NotRun, format!("the server ended: {error}")))?;
    let mut compared = Compared::default();
    if let Some(contents) = &manifest.contents {
        compared.rows = Some(numbers(&client, contents, restored).await?);
    }
    for check in checks {
        let wrong = |why: String| Ended::Fault(DrillFault::CheckFailed, format!("check \"{}\": {why}", check.name));
        let found = match value(&client, &check.sql).await {
            Ok(found) => found,
            Err(error) => return Err(wrong(error.of_point()?)),
        };
        let found = found.unwrap_or_default();
        if found != check.expect {
            return Err(wrong(format!("the answer is \"{}\", not \"{}\"", shortened(&found), check.expect)));
        }
    }
    Ok(compared)
}

async fn numbers(client: &Client, contents: &Contents, restored: &Restored) -> Result<u64, Ended> {
    // What needs something that the image or the dump lacks is told as that.
    let lost = |name: &str| restored.lost.contains(&unquoted(name));
    let (mut total, mut wrong) = (0, Vec::new());
    for (table, expected) in &contents.rows {
        match count(client, &format!("ONLY {table}")).await {
            Ok(found) if found == *expected => total += found,
            Ok(found) => wrong.push(format!("{table} has {found} rows instead of {expected}")),
            Err(error) if error.lacks() && lost(table) => {}
            Err(error) => wrong.push(format!("{table}: {}", error.of_point()?)),
        }
    }
    // An estimate says only that there is something.
    for (table, expected) in &contents.estimated {
        match count(client, &format!("ONLY {table}")).await {
            Ok(0) if *expected > 0 => wrong.push(format!("{table} has no rows instead of about {expected}")),
            Ok(found) => total += found,
            Err(error) if error.lacks() && lost(table) => {}
            Err(error) => wrong.push(format!("{table}: {}", error.of_point()?)),
        }
    }
    for (view, populated) in &contents.materialized_views {
        let literal = view.replace('\'', "''");
        let sql = format!("SELECT relispopulated FROM pg_class WHERE oid = to_regclass('{literal}')");
        match value(client, &sql).await {
            Ok(Some(found)) if (found == "t") == *populated => {}
            Ok(None) if lost(view) => {}
            Ok(Some(_)) if *populated && lost(view) => {}
            Ok(Some(_)) if *populated => wrong.push(format!("materialized view {view} is not populated")),
            Ok(Some(_)) => wrong.push(format!("materialized view {view} is populated, and was not")),
            Ok(None) => wrong.push(format!("materialized view {view} is missing")),
            Err(error) => wrong.push(format!("{view}: {}", error.of_point()?)),
        }
    }
    if contents.not_counted.is_none() || contents.large_objects > 0 {
        match count(client, "pg_largeobject_metadata").await {
            Ok(found) if found == contents.large_objects => {}
            Ok(found) => wrong.push(format!("{found} large objects instead of {}", contents.large_objects)),
            Err(error) => wrong.push(format!("large objects: {}", error.of_point()?)),
        }
    }
    if wrong.is_empty() {
        return Ok(total);
    }
    let more = wrong.len().saturating_sub(NAMED);
    let named = wrong.into_iter().take(NAMED).collect::<Vec<_>>().join("; ");
    let message = if more > 0 { format!("{named}; and {more} more") } else { named };
    fault(DrillFault::Differs, format!("the restored database differs from the manifest: {message}"))
}

/// Why a question has no answer.
enum Unanswered {
    /// The server of the drill has failed.
    Server(String),
    /// What is asked of is not there.
    Lacking(String),
    /// Anything else.
    Other(String),
}

impl Unanswered {
    fn of(error: &tokio_postgres::Error) -> Self {
        let Some(code) = error.code() else { return Self::Server(error.to_string()) };
        match code.code() {
            "42P01" | "3F000" => Self::Lacking(said(error)),
            // The user's own statement may have a time limit.
            "57014" => Self::Other(said(error)),
            // Resources, an operator or a crash, the system, the connection.
            code if ["53", "57", "58", "08"].contains(&&code[..2]) => Self::Server(said(error)),
            _ => Self::Other(said(error)),
        }
    }

    fn lacks(&self) -> bool {
        matches!(self, Self::Lacking(_))
    }

    /// What it says of the point, if it does.
    fn of_point(self) -> Result<String, Ended> {
        match self {
            Self::Server(why) => fault(DrillFault::NotRun, told_of_server(&why)),
            Self::Lacking(why) | Self::Other(why) => Ok(why),
        }
    }
}

async fn count(client: &Client, of: &str) -> Result<u64, Unanswered> {
    let found = value(client, &format!("SELECT count(*) FROM {of}")).await?;
    let number = found.and_then(|text| text.parse().ok());
    number.ok_or_else(|| Unanswered::Other("it cannot be counted".to_owned()))
}

/// The first value of the first row.
async fn value(client: &Client, sql: &str) -> Result<Option<String>, Unanswered> {
    let messages = client.simple_query(sql).await.map_err(|error| Unanswered::of(&error))?;
    let first = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
        _ => None,
    });
    Ok(first)
}

fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}
