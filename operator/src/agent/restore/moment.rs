//! `moment`: whether the archive of the live database reaches a moment. A recovery ends well only at a transaction that ended after the
//! moment and is archived, and of one that does not CloudNativePG tells after many minutes, so it is asked first.
//!
//! `recovered`: reads the database of the Cluster that was recovered.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::args::{MomentArgs, SwitchArgs};
use super::error::{RestoreError, refused};
use super::maintenance::{ANSWER, connect};
use super::sql::{is_true, literal, number, text};
use super::verify;
use crate::agent::authorities::Authorities;
use crate::contract::{RestoreRefusal, RestoreResult};
use crate::services::postgres::Session;

/// How often the server is asked whether it has archived a segment.
const ASKED_EVERY: Duration = Duration::from_millis(500);
/// How long a segment may take to be archived once it is closed.
const ARCHIVED_WITHIN: Duration = Duration::from_mins(2);

/// Waits until the archive reaches the moment, for as long as the server may leave a segment open.
pub(super) async fn check(args: &MomentArgs) -> Result<RestoreResult, RestoreError> {
    let target = &args.target;
    let (database, session) =
        connect(&target.database_url, &Authorities::of_database(target.database_ca_file.as_deref())?).await?;
    let moment = args.moment.to_string();
    let archived = Archived::read(&session, &moment).await?;
    if archived.future {
        return Err(out_of_reach(&moment, "is still to come by the clock of the server", &archived));
    }
    // Ends after the moment, and writes nothing but that.
    session.query("SELECT pg_current_xact_id()", ANSWER).await?;
    if !archived.reached {
        let (segment, closed) = close(&session).await?;
        let left_open = if closed { Duration::ZERO } else { archived.left_open };
        let limit = Instant::now() + left_open + ARCHIVED_WITHIN;
        let never = !closed && left_open.is_zero();
        while !is_archived(&session, &segment).await? {
            if never || Instant::now() > limit {
                let now = Archived::read(&session, &moment).await?;
                return Err(out_of_reach(&moment, "is later than what is archived", &now));
            }
            sleep(ASKED_EVERY).await;
        }
    }
    Ok(RestoreResult { database: Some(database.name), ..RestoreResult::default() })
}

fn out_of_reach(moment: &str, why: &str, archived: &Archived) -> RestoreError {
    let until = if archived.until.is_empty() { "nothing is archived yet" } else { &archived.until };
    let message = format!(
        "the moment {moment} {why}: the archive reaches until {until}, and from the first moment that status.backup.pointInTime of the \
         stack tells; a segment of the log is archived when it is full, and after archive_timeout"
    );
    refused(RestoreRefusal::MomentOutOfReach, message)
}

/// What the server says of its archive.
struct Archived {
    /// The moment is to come.
    future: bool,
    /// A segment was archived after the moment.
    reached: bool,
    /// When the newest was.
    until: String,
    /// How long the server leaves a segment open. 0: as long as it is not full.
    left_open: Duration,
}

impl Archived {
    async fn read(session: &Session, moment: &str) -> Result<Self, RestoreError> {
        let moment = literal(moment);
        let sql = format!(
            "SELECT {moment}::timestamptz > clock_timestamp(), coalesce(last_archived_time > {moment}::timestamptz, false), \
             to_char(last_archived_time AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
             (SELECT setting FROM pg_settings WHERE name = 'archive_timeout') FROM pg_stat_archiver"
        );
        let rows = session.query(&sql, ANSWER).await?;
        let row = rows.first().ok_or_else(|| RestoreError::Failed("failed to read pg_stat_archiver".to_owned()))?;
        Ok(Self {
            future: is_true(row, 0),
            reached: is_true(row, 1),
            until: text(row, 2).to_owned(),
            left_open: Duration::from_secs(number(row, 3)),
        })
    }
}

/// Closes the segment that is written to, where the role may do that; otherwise the server does, after `archive_timeout`. Gives its name,
/// and whether it is closed.
async fn close(session: &Session) -> Result<(String, bool), RestoreError> {
    let rows = session.query("SELECT pg_walfile_name(pg_current_wal_insert_lsn())", ANSWER).await?;
    let name = rows.first().map(|row| text(row, 0).to_owned()).unwrap_or_default();
    let may = "SELECT has_function_privilege('pg_switch_wal()', 'EXECUTE')";
    let may = session.query(may, ANSWER).await?.first().is_some_and(|row| is_true(row, 0));
    if may {
        session.query("SELECT pg_switch_wal()", ANSWER).await?;
    }
    Ok((name, may))
}

/// Names of segments are in the order of the log; those of other files are longer, or not hexadecimal.
async fn is_archived(session: &Session, segment: &str) -> Result<bool, RestoreError> {
    let sql = format!(
        "SELECT last_archived_wal ~ '^[0-9A-F]{{24}}$' AND last_archived_wal >= {} COLLATE \"C\" FROM pg_stat_archiver",
        literal(segment)
    );
    Ok(session.query(&sql, ANSWER).await?.first().is_some_and(|row| is_true(row, 0)))
}

/// Reads every table of the Cluster that was recovered.
pub(super) async fn recovered(args: &SwitchArgs) -> Result<RestoreResult, RestoreError> {
    let target = &args.target;
    let url = target.own_copy().ok_or_else(|| {
        refused(
            RestoreRefusal::CopyMissing,
            "the Secret of the Cluster that was recovered is gone: wait until it is there",
        )
    })?;
    let (database, session) = connect(url, &Authorities::of_database(target.database_ca_file.as_deref())?).await?;
    verify::read(&database, &session).await
}
