//! The switch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rorun_operator::contract::{LOCK_KEYS, RestoreRefusal, RestoreStep};
use tokio_postgres::{Client, NoTls};

use super::{ROWS, Restore};
use crate::process::until;
use crate::scenario::Scenario;
use crate::servers::PASSWORD;

/// What is not in a dump.
const BESIDE: &str = "SELECT concat_ws(' | ', (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(datacl) a), \
     datconnlimit, pg_get_userbyid(datdba), shobj_description(d.oid, 'pg_database'), (SELECT string_agg(setrole::regrole || c, \
     ';' ORDER BY setrole, c) FROM pg_db_role_setting s, unnest(s.setconfig) c WHERE setdatabase = d.oid)) \
     FROM pg_database d WHERE datname = current_database()";

/// A connection that stays until it is dropped.
async fn connect(scenario: &Scenario, url: &str) -> Client {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.unwrap_or_else(|error| panic!("{}: {error}", scenario.name));
    tokio::spawn(connection);
    client
}

/// What clients have seen.
#[derive(Default)]
struct Seen {
    over: AtomicBool,
    asked: AtomicU64,
    refused: AtomicU64,
    restored: AtomicU64,
}

/// Connects anew whenever its session is ended, as an application does, until the switch is over.
async fn ask(url: Arc<str>, seen: Arc<Seen>) {
    let mut last = false;
    // Once more after the end, so that each has asked the database that is there then.
    while !last {
        last = seen.over.load(Ordering::Relaxed);
        let Ok((client, connection)) = tokio_postgres::connect(&url, NoTls).await else {
            seen.refused.fetch_add(1, Ordering::Relaxed);
            assert!(!last, "refused after the switch");
            tokio::task::yield_now().await;
            continue;
        };
        let driver = tokio::spawn(connection);
        while let Ok(row) = client.query_one(ROWS, &[]).await {
            seen.asked.fetch_add(1, Ordering::Relaxed);
            let rows = row.get::<_, i64>(0);
            assert!(rows == 500 || rows == 100 && !last, "{rows} rows, {last}");
            if rows == 500 {
                seen.restored.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
        drop(client);
        let _ = driver.await;
    }
}

#[tokio::test]
async fn fifty_clients_that_reconnect_find_the_restored_database() {
    let scenario = Scenario::new("switch").await;
    let point = scenario.point(500).await;
    for sql in [
        "DELETE FROM receipts WHERE n > 100; CREATE ROLE switch_reader LOGIN; CREATE ROLE \"Switch \"\"Writer\"",
        "REVOKE TEMPORARY ON DATABASE switch FROM PUBLIC; GRANT CREATE ON DATABASE switch TO switch_reader",
        "GRANT CONNECT ON DATABASE switch TO \"Switch \"\"Writer\" WITH GRANT OPTION",
        "ALTER DATABASE switch SET search_path TO \"$user\", public, \"a b\"; ALTER DATABASE switch CONNECTION LIMIT 90",
        "ALTER DATABASE switch SET work_mem = '7MB'; ALTER DATABASE switch SET app.note = 'it''s \\ here'",
        "ALTER ROLE switch_reader IN DATABASE switch SET statement_timeout = '9s'",
        "COMMENT ON DATABASE switch IS 'the shop''s own'",
    ] {
        scenario.sql(sql).await;
    }
    let beside = scenario.sql(BESIDE).await;
    let restore = Restore::of(&scenario, &point);
    restore.done(RestoreStep::Copy).await;

    let (url, seen): (Arc<str>, Arc<Seen>) = (scenario.servers.database_url("switch").into(), Arc::default());
    let clients: Vec<_> = (0..50).map(|_| tokio::spawn(ask(url.clone(), seen.clone()))).collect();
    until("every client asks", async || seen.asked.load(Ordering::Relaxed) > 200).await;
    let result = restore.done(RestoreStep::Switch).await;
    seen.over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("a client");
    }
    let [asked, refused, found] =
        [&seen.asked, &seen.refused, &seen.restored].map(|count| count.load(Ordering::Relaxed));
    println!("{asked} answers, {refused} connections refused, {found} answers of the restored database");
    assert!(found >= 50, "{found}");

    let kept = result.kept.clone().expect("kept");
    assert_eq!((kept.name.as_str(), result.database.as_deref()), (restore.kept().as_str(), Some("switch")));
    assert!(kept.size_bytes > 1 << 20 && result.bytes > Some(1 << 20), "{result:?}");
    assert_eq!(scenario.sql_in(&kept.name, ROWS).await, "100", "what was live is kept");
    assert_eq!(scenario.sql(BESIDE).await, beside);
    let again = restore.done(RestoreStep::Switch).await;
    assert_eq!((again.kept.map(|kept| kept.name), again.database), (Some(kept.name), result.database));
    assert!(!scenario.exists(&restore.copy()).await);
}

#[tokio::test]
async fn a_switch_waits_for_a_dump_or_a_migration() {
    let scenario = Scenario::new("switch-waits").await;
    let point = scenario.point(5).await;
    let restore = Restore::of(&scenario, &point);
    restore.done(RestoreStep::Copy).await;
    let url = scenario.servers.database_url("switch-waits");
    let holder = connect(&scenario, &url).await;
    let (one, two) = LOCK_KEYS;
    holder.batch_execute(&format!("SELECT pg_advisory_lock({one}, {two})")).await.expect("lock");
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'switch-waits' AND query LIKE '%pg_stat_activity a USING%' \
                   AND application_name LIKE 'rorun-operator restore%'";
    let step = restore
        .run_during(restore.command(RestoreStep::Switch, &[]), async |_| {
            until("it waits", async || scenario.sql_in("postgres", waiting).await == "1").await;
            holder.batch_execute("SELECT 1").await.expect("the session of the holder goes on");
            holder.batch_execute(&format!("SELECT pg_advisory_unlock({one}, {two})")).await.expect("unlock");
        })
        .await;
    step.done();
    assert!(scenario.exists(&restore.kept()).await);
}

/// A role that may do all but end the session of a superuser: what was begun is as if it had not been.
#[tokio::test]
async fn a_switch_that_fails_within_leaves_the_live_database_in_use() {
    let scenario = Scenario::new("switch-fails").await;
    let point = scenario.point(5).await;
    scenario.sql("DELETE FROM receipts").await;
    let restore = Restore::of(&scenario, &point).by("switch_fails", "CREATEDB").await;
    let owned = "ALTER DATABASE \"switch-fails\" OWNER TO switch_fails; ALTER TABLE receipts OWNER TO switch_fails";
    scenario.sql(owned).await;
    let (reason, message) = restore.refused(RestoreStep::Copy, &[]).await;
    assert!(reason == RestoreRefusal::RightsMissing && message.contains("OWNER TO postgres"), "{message}");
    assert!(!scenario.exists(&restore.copy()).await);
    scenario.sql("GRANT postgres TO switch_fails").await;
    restore.done(RestoreStep::Copy).await;
    scenario.sql("REVOKE postgres FROM switch_fails").await;
    for database in ["switch-fails".to_owned(), restore.copy()] {
        let superuser = connect(&scenario, &scenario.servers.database_url(&database)).await;
        let (reason, message) = restore.refused(RestoreStep::Switch, &[]).await;
        assert_eq!(reason, RestoreRefusal::RightsMissing, "{message}");
        assert!(message.contains("pg_signal_backend") && message.contains(&database), "{message}");
        superuser.batch_execute("SELECT 1").await.expect("the session goes on");
        drop(superuser);
        let client = connect(&scenario, &restore.url).await;
        assert_eq!(client.query_one(ROWS, &[]).await.expect("rows").get::<_, i64>(0), 0, "the live one is as it was");
        assert!(scenario.exists(&restore.copy()).await && !scenario.exists(&restore.kept()).await);
        let users =
            format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND usename = 'postgres'");
        until("the superuser is gone", async || scenario.sql_in("postgres", &users).await == "0").await;
    }
    scenario.sql_in("postgres", "ALTER ROLE switch_fails NOCREATEDB").await;
    let (reason, message) = restore.refused(RestoreStep::Switch, &[]).await;
    assert_eq!(reason, RestoreRefusal::RightsMissing, "{message}");
    assert!(scenario.exists("switch-fails").await && scenario.exists(&restore.copy()).await);
    scenario.sql_in("postgres", "ALTER ROLE switch_fails CREATEDB").await;
    restore.done(RestoreStep::Switch).await;
    assert_eq!(scenario.sql(ROWS).await, "5");
}

#[tokio::test]
async fn a_switch_without_its_copy_or_with_a_foreign_kept_one_is_refused() {
    let scenario = Scenario::new("switch-refused").await;
    let point = scenario.point(5).await;
    let restore = Restore::of(&scenario, &point);
    let (reason, message) = restore.refused(RestoreStep::Switch, &[]).await;
    assert_eq!(reason, RestoreRefusal::CopyMissing, "{message}");
    restore.done(RestoreStep::Copy).await;
    scenario.sql_in("postgres", &format!("CREATE DATABASE \"{}\"", restore.kept())).await;
    let (reason, message) = restore.refused(RestoreStep::Switch, &[]).await;
    assert_eq!(reason, RestoreRefusal::NotOfRestore, "{message}");
    scenario.sql_in("postgres", &format!("DROP DATABASE \"{}\"", restore.kept())).await;
    restore.done(RestoreStep::Switch).await;
    // A copy that is made after the switch is not switched in a second time.
    restore.done(RestoreStep::Copy).await;
    let (reason, message) = restore.refused(RestoreStep::Switch, &[]).await;
    assert!(reason == RestoreRefusal::NotOfRestore && message.contains("was switched before"), "{message}");
}

#[tokio::test]
async fn names_that_were_changed_by_hand_are_finished() {
    let scenario = Scenario::new("switch-half").await;
    let point = scenario.point(5).await;
    scenario.sql("DELETE FROM receipts; ALTER DATABASE \"switch-half\" SET work_mem = '3MB'").await;
    let restore = Restore::of(&scenario, &point);
    restore.done(RestoreStep::Copy).await;
    let kept = restore.kept();
    scenario.sql_in("postgres", &format!("ALTER DATABASE \"switch-half\" RENAME TO \"{kept}\"")).await;
    let (reason, _) = restore.refused(RestoreStep::Switch, &[]).await;
    assert_eq!(reason, RestoreRefusal::NotOfRestore, "it does not say whose it is");
    let comment = format!("COMMENT ON DATABASE \"{kept}\" IS 'rorun-operator restore {}'", restore.uid);
    scenario.sql_in("postgres", &comment).await;
    restore.done(RestoreStep::Switch).await;
    assert_eq!(scenario.sql(ROWS).await, "5");
    assert_eq!(scenario.sql("SHOW work_mem").await, "3MB");
    assert!(!PASSWORD.is_empty() && scenario.exists(&kept).await);
}
