//! What a database says of itself and of the user who asks: limits, rights, and whether a pooler stands between. It reads
//! alone, in one transaction that gives up soon, so that it works through a pooler and holds nobody up.

use std::time::Duration;

use tokio_postgres::{Client, SimpleQueryMessage};

use super::backend_key;
use crate::contract::{ConnectionLimit, DatabaseFacts, Lacks, LimitedBy, Unreadable};

/// How long one of the statements may take.
const STATEMENT: Duration = Duration::from_secs(2);
/// The column of the process in the row of a session.
const PROCESS: usize = 12;

type Row = Vec<Option<String>>;

/// What was found, and the server's clock in seconds since 1970 at that moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examined {
    /// What the database says.
    pub facts: DatabaseFacts,
    /// The server's clock.
    pub clock: Option<i64>,
}

/// Asks. What a server does not answer stays unknown: it need not be PostgreSQL itself.
pub(super) async fn examine(client: &Client, schema: Option<&str>) -> Examined {
    let begin = format!("BEGIN; SET LOCAL statement_timeout = {}", STATEMENT.as_millis());
    if rows(client, &begin).await.is_none() {
        return Examined::default();
    }
    let found = rows(client, &of_session(schema)).await;
    if found.is_none() {
        // The transaction is lost, and the next question may be answered all the same.
        rows(client, &format!("ROLLBACK; {begin}")).await;
    }
    let mut examined = found.iter().flatten().next().map(session).unwrap_or_default();
    examined.facts.unreadable = rows(client, UNREADABLE).await.map(|rows| rows.iter().filter_map(unreadable).collect());
    if let Some(limit) = examined.facts.connections {
        // The last question: a server that does not know this view ends the transaction.
        let held = rows(client, OTHERS).await.and_then(|mut rows| rows.pop());
        examined.facts.others = held.and_then(|row| held_by_others(&row, limit.by));
    }
    rows(client, "ROLLBACK").await;
    let own = found.iter().flatten().next().and_then(|row| row.get(PROCESS)?.as_ref()?.parse().ok());
    examined.facts.pooled = backend_key::process(client).await.zip(own).map(|(told, own): (i32, i32)| told != own);
    examined
}

/// Whether two sessions of a pooler are one and the same: while the second is in a transaction, the first gets its process, or
/// another one than before. `None`: it does not answer, since it has no connection left.
pub(super) async fn shares_sessions(first: &Client, second: &Client) -> Option<bool> {
    const PID: &str = "SELECT pg_backend_pid()";
    let process = async |client: &Client, sql: &str| rows(client, sql).await?.pop()?.pop()?;
    let before = process(first, PID).await?;
    let other = process(second, &format!("BEGIN; {PID}")).await?;
    let during = process(first, PID).await;
    rows(second, "ROLLBACK").await;
    Some(other == before || during? != before || process(first, PID).await? != before)
}

async fn rows(client: &Client, sql: &str) -> Option<Vec<Row>> {
    let messages = tokio::time::timeout(STATEMENT, client.simple_query(sql)).await.ok()?.ok()?;
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect()),
        _ => None,
    });
    Some(rows.collect())
}

/// One row. `reserved_connections` is known from PostgreSQL 16 on.
fn of_session(schema: Option<&str>) -> String {
    let schema = schema.map_or_else(|| "current_schema()".to_owned(), |name| format!("'{}'", name.replace('\'', "''")));
    let may_create = format!(
        "coalesce((SELECT has_schema_privilege(n.oid, 'CREATE') FROM pg_namespace n WHERE n.nspname = {schema}), \
         has_database_privilege(current_database(), 'CREATE'))"
    );
    format!(
        "SELECT current_setting('server_version_num'), current_setting('max_connections'), \
         current_setting('superuser_reserved_connections'), coalesce(current_setting('reserved_connections', true), '0'), \
         r.rolconnlimit, d.datconnlimit, r.rolsuper, r.rolname, pg_encoding_to_char(d.encoding), \
         current_setting('transaction_read_only'), {schema}, {may_create}, pg_backend_pid(), \
         extract(epoch FROM clock_timestamp())::bigint \
         FROM pg_database d, pg_roles r WHERE d.datname = current_database() AND r.rolname = current_user"
    )
}

fn session(row: &Row) -> Examined {
    let text = |column: usize| row.get(column).and_then(Option::as_deref);
    let number = |column: usize| text(column).and_then(|text| text.parse::<i64>().ok());
    let count = |column: usize| number(column).and_then(|number| u32::try_from(number).ok());
    let is = |column: usize| text(column).map(|text| matches!(text, "t" | "on"));
    let facts = DatabaseFacts {
        user: text(7).map(plain),
        major: count(0).map(|version| version / 10000),
        read_only: is(9) == Some(true),
        connections: limit([count(1), count(2), count(3)], [count(4), count(5)], is(6) == Some(true)),
        encoding: text(8).map(plain),
        schema: text(10).map(plain),
        may_create: is(11),
        ..DatabaseFacts::default()
    };
    Examined { facts, clock: number(13) }
}

/// The least of what the server, the role and the database allow. The limits of the latter two, -1 for none, do not bind
/// superusers, who may also use what is kept for them.
fn limit(
    [max, superuser, reserved]: [Option<u32>; 3],
    [role, database]: [Option<u32>; 2],
    is_superuser: bool,
) -> Option<ConnectionLimit> {
    let max = max?;
    let reserved = if is_superuser { 0 } else { superuser? + reserved.unwrap_or(0) };
    let server = ConnectionLimit { available: max.saturating_sub(reserved), by: LimitedBy::Server { max, reserved } };
    let own = [(role, LimitedBy::Role), (database, LimitedBy::Database)];
    let own = own.into_iter().filter_map(|(limit, by)| Some(ConnectionLimit { available: limit?, by }));
    let all = std::iter::once(server).chain(own.filter(|_| !is_superuser));
    all.min_by_key(|limit| limit.available)
}

/// How many sessions are not of this user in this database: of the server, of the role elsewhere, and of others in the database. Everybody
/// sees whose sessions there are. Those that are nobody's, and those that replicate, are no connections.
const OTHERS: &str = "\
    SELECT count(*) FILTER (WHERE a.usesysid <> r.oid OR a.datid <> d.oid), \
    count(*) FILTER (WHERE a.usesysid = r.oid AND a.datid <> d.oid), \
    count(*) FILTER (WHERE a.usesysid <> r.oid AND a.datid = d.oid) \
    FROM pg_stat_activity a, pg_database d, pg_roles r WHERE d.datname = current_database() AND r.rolname = current_user \
    AND a.datid IS NOT NULL AND a.usesysid IS NOT NULL";

/// Of what has the limit.
fn held_by_others(row: &Row, by: LimitedBy) -> Option<u32> {
    let column = match by {
        LimitedBy::Server { .. } => 0,
        LimitedBy::Role => 1,
        LimitedBy::Database => 2,
    };
    row.get(column)?.as_ref()?.parse().ok()
}

/// What `pg_dump` locks and reads, and this user may not. Members of extensions are not dumped.
const UNREADABLE: &str = "\
    SELECT n.nspname, min(c.relname::text), count(*), CASE WHEN NOT has_schema_privilege(n.oid, 'USAGE') THEN 'usage' \
    WHEN NOT has_table_privilege(c.oid, 'SELECT') THEN 'select' ELSE 'bypassrls' END \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' \
    AND n.nspname <> 'information_schema' AND NOT EXISTS (SELECT FROM pg_depend e \
    WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e') \
    AND (NOT has_schema_privilege(n.oid, 'USAGE') OR NOT has_table_privilege(c.oid, 'SELECT') OR row_security_active(c.oid)) \
    GROUP BY 1, 4 ORDER BY 1, 4 LIMIT 10";

fn unreadable(row: &Row) -> Option<Unreadable> {
    let text = |column: usize| row.get(column)?.as_deref();
    Some(Unreadable {
        schema: plain(text(0)?),
        table: plain(text(1)?),
        count: text(2)?.parse().ok()?,
        lacks: match text(3)? {
            "usage" => Lacks::Usage,
            "select" => Lacks::Select,
            _ => Lacks::BypassRls,
        },
    })
}

/// A name as it may stand in a status: whoever named the server chose it.
fn plain(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-$".contains(c);
    name.chars().take(63).map(|c| if allowed(c) { c } else { '?' }).collect()
}
