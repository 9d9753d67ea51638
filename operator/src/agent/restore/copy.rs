//! `copy`: a database beside the live one, made like it, and filled by the dump.
//!
//! A copy says in its comment whether it is whole. One that is not is this step's own, whoever began it: it is dropped and begun
//! anew.

use tokio_util::sync::CancellationToken;

use super::args::StepArgs;
use super::error::{RestoreError, refused};
use super::maintenance::{ANSWER, Found, Maintenance, WORK};
use super::point::{self, Point, PointDump};
use super::settings::Settings;
use super::sql::{self, literal, text, value};
use super::tables::Counted;
use super::{check, compare, fill, tables, unless_stopped};
use crate::contract::{RestoreRefusal, RestoreResult, begun_comment, copy_database, restore_comment};
use crate::services::postgres::Row;

/// The creation of a database like the live one.
const LIKE: &str = "SELECT pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, to_jsonb(d) ->> 'datlocprovider', \
     coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'), to_jsonb(d) ->> 'daticurules', \
     quote_ident(pg_get_userbyid(d.datdba)), quote_ident(t.spcname) \
     FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE d.datname = ";

/// Restores the point into the copy.
pub(super) async fn copy(args: &StepArgs, stop: &CancellationToken) -> Result<RestoreResult, RestoreError> {
    let point = unless_stopped(stop, point::load(&args.point)).await?;
    let dump = unless_stopped(stop, point.dump(args)).await?;
    if let Some(url) = args.target.own_copy() {
        return Box::pin(fill::into(args, url, (&point, &dump), stop)).await;
    }
    let server = unless_stopped(stop, Maintenance::open(&args.target)).await?;
    check::versions(&point, server.version()).await?;
    let uid = &args.target.restore;
    let name = copy_database(&server.live, uid);
    let _turn = unless_stopped(stop, server.turn(uid)).await?;
    if let Some(found) = unless_stopped(stop, server.find(&name)).await? {
        if found.comment.as_deref() == Some(&*restore_comment(uid)) {
            let (_, session) = unless_stopped(stop, server.connect(&name)).await?;
            let counted = unless_stopped(stop, tables::count(&session)).await?;
            return Ok(result(&server, &name, &counted, Vec::new()).await);
        }
        unless_stopped(stop, take_back(&server, &name, &found, uid)).await?;
    }
    unless_stopped(stop, create(&server, &name, uid)).await?;
    let filled = match Box::pin(restore(&server, &name, &dump, stop)).await {
        Ok(understood) => unless_stopped(stop, finish(&server, &name, uid, (&point, understood))).await,
        Err(error) => Err(error),
    };
    match filled {
        Ok(result) => Ok(result),
        Err(error) => {
            // Best effort: what is left says that it is not whole, and the next run drops it.
            if let Err(error) = drop_begun(&server, &name, uid).await {
                tracing::warn!(%error, name, "a copy that is not whole is left");
            }
            Err(error)
        }
    }
}

/// Drops what an earlier run began. An empty database without a comment was created by one that was killed right then.
async fn take_back(server: &Maintenance, name: &str, found: &Found, uid: &str) -> Result<(), RestoreError> {
    let empty = match &found.comment {
        None => {
            let (_, session) = server.connect(name).await?;
            tables::data(&session).await?.is_empty()
        }
        Some(_) => false,
    };
    if empty {
        comment(server, name, &begun_comment(uid)).await?;
    } else if found.comment.as_deref() != Some(&*begun_comment(uid)) {
        let message = format!(
            "database \"{name}\" exists and is not a copy of this restore, which its comment would say: rename or drop it"
        );
        return Err(refused(RestoreRefusal::NotOfRestore, message));
    }
    drop_begun(server, name, uid).await
}

/// Drops a copy that is not whole, with the sessions of a `pg_restore` that is not gone yet.
async fn drop_begun(server: &Maintenance, name: &str, uid: &str) -> Result<(), RestoreError> {
    let found = server.find(name).await?;
    if found.and_then(|found| found.comment) != Some(begun_comment(uid)) {
        return Ok(());
    }
    server.session.query(&format!("DROP DATABASE {} WITH (FORCE)", sql::name(name)), WORK).await?;
    Ok(())
}

async fn create(server: &Maintenance, name: &str, uid: &str) -> Result<(), RestoreError> {
    let rows = server.session.query(&format!("{LIKE}{}", literal(&server.live)), ANSWER).await?;
    let row = rows.first().ok_or_else(|| server.no_live())?;
    server.session.query(&creation(name, row), WORK).await?;
    comment(server, name, &begun_comment(uid)).await
}

/// `pg_dump` without `--create` leaves all of this to whoever makes the database.
fn creation(name: &str, row: &Row) -> String {
    let locale = literal(text(row, 4));
    // PostgreSQL 14 and older have no providers.
    let provider = match text(row, 3) {
        "i" => format!(" LOCALE_PROVIDER icu ICU_LOCALE {locale}"),
        "b" => format!(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {locale}"),
        "c" => " LOCALE_PROVIDER libc".to_owned(),
        _ => String::new(),
    };
    let rules = value(row, 5).map(|rules| format!(" ICU_RULES {}", literal(&rules))).unwrap_or_default();
    // Whoever names a tablespace needs a right to it, and the default one is the default.
    let space = Some(text(row, 7)).filter(|space| *space != "pg_default");
    let space = space.map(|space| format!(" TABLESPACE {space}")).unwrap_or_default();
    let [encoding, collate, ctype] = [0, 1, 2].map(|column| literal(text(row, column)));
    format!(
        "CREATE DATABASE {} TEMPLATE template0 OWNER {} ENCODING {encoding} LC_COLLATE {collate} LC_CTYPE \
         {ctype}{provider}{rules}{space}",
        sql::name(name),
        text(row, 6),
    )
}

async fn comment(server: &Maintenance, name: &str, text: &str) -> Result<(), RestoreError> {
    let sql = format!("COMMENT ON DATABASE {} IS {}", sql::name(name), literal(text));
    server.session.query(&sql, ANSWER).await?;
    Ok(())
}

/// Gives the errors that do not matter.
async fn restore(
    server: &Maintenance,
    name: &str,
    dump: &PointDump<'_>,
    stop: &CancellationToken,
) -> Result<Vec<String>, RestoreError> {
    let (database, session) = unless_stopped(stop, server.connect(name)).await?;
    drop(session);
    // A subscription would begin to take part in the replication of another server.
    let restored = dump.restore(&database.environment, &["--no-subscriptions"], stop).await?;
    if restored.errors > 0 {
        tracing::warn!(errors = restored.errors, "pg_restore reports errors that do not matter");
    }
    Ok(restored.understood)
}

/// What lacks for the switch is missed now, while nothing has been stopped. A copy is whole only if it is as the manifest says.
async fn finish(
    server: &Maintenance,
    name: &str,
    uid: &str,
    (point, mut warnings): (&Point, Vec<String>),
) -> Result<RestoreResult, RestoreError> {
    Settings::read(&server.session, &server.live).await?.give(&server.session, name).await?;
    let (_, session) = server.connect(name).await?;
    let counted = tables::count(&session).await?;
    warnings.extend(compare::with_manifest(&session, (&point.manifest, name), &counted).await?);
    comment(server, name, &restore_comment(uid)).await?;
    Ok(result(server, name, &counted, warnings).await)
}

async fn result(server: &Maintenance, name: &str, counted: &Counted, warnings: Vec<String>) -> RestoreResult {
    RestoreResult {
        database: Some(name.to_owned()),
        rows: Some(counted.rows),
        tables: Some(counted.tables),
        bytes: Some(server.size(name).await),
        warnings,
        ..RestoreResult::default()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const BASE: &str = "CREATE DATABASE \"c\" TEMPLATE template0 OWNER o ENCODING E'UTF8' \
                        LC_COLLATE E'C' LC_CTYPE E'C.UTF-8'";

    #[rstest]
    #[case::of_14(None, None, None, "")]
    #[case::libc(Some("c"), None, None, " LOCALE_PROVIDER libc")]
    #[case::icu(Some("i"), Some("de-DE"), None, " LOCALE_PROVIDER icu ICU_LOCALE E'de-DE'")]
    #[case::rules(Some("i"), Some("de"), Some("&a < b"), " LOCALE_PROVIDER icu ICU_LOCALE E'de' ICU_RULES E'&a < b'")]
    #[case::builtin(Some("b"), Some("C.UTF-8"), None, " LOCALE_PROVIDER builtin BUILTIN_LOCALE E'C.UTF-8'")]
    fn a_copy_is_made_like_the_live_one(
        #[case] provider: Option<&str>,
        #[case] locale: Option<&str>,
        #[case] rules: Option<&str>,
        #[case] expected: &str,
    ) {
        for (space, ending) in [("pg_default", ""), ("\"fast disk\"", " TABLESPACE \"fast disk\"")] {
            let row = [Some("UTF8"), Some("C"), Some("C.UTF-8"), provider, locale, rules, Some("o"), Some(space)];
            let row = row.into_iter().map(|value| value.map(str::to_owned)).collect();
            assert_eq!(creation("c", &row), format!("{BASE}{expected}{ending}"));
        }
    }
}
