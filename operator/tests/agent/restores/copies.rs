//! The copy beside the live database.

use rorun_operator::contract::{self, MANIFEST_FILE, RestoreRefusal, RestoreStep, begun_comment, restore_comment};
use serde_json::{Value, json};

use super::{ROWS, Restore};
use crate::process::{signal, until};
use crate::programs;
use crate::scenario::Scenario;

/// What is wrong with the numbers of a manifest.
type Change = fn(&mut Value);

/// What a database is made of.
const LIKE: &str = "SELECT concat_ws(' ', pg_encoding_to_char(encoding), datcollate, datctype, \
                    to_jsonb(d) ->> 'datlocprovider', to_jsonb(d) ->> 'daticulocale', to_jsonb(d) ->> 'datlocale', datconnlimit) \
                    FROM pg_database d WHERE datname = current_database()";

#[tokio::test]
async fn a_copy_is_like_the_live_database_and_a_second_run_leaves_it() {
    let scenario = Scenario::new("copy-like").await;
    scenario.sql_in("postgres", "DROP DATABASE \"copy-like\"").await;
    let like = "ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'de-DE' TEMPLATE template0";
    scenario.sql_in("postgres", &format!("CREATE DATABASE \"copy-like\" {like} CONNECTION LIMIT 77")).await;
    scenario.sql("CREATE TABLE other (t text); INSERT INTO other VALUES ('\u{20ac}')").await;
    let point = scenario.point(2000).await;
    scenario.sql("DELETE FROM receipts WHERE n > 3").await;
    let restore = Restore::of(&scenario, &point);
    let result = restore.done(RestoreStep::Copy).await;
    assert_eq!((result.rows, result.tables, result.database), (Some(2001), Some(2), Some(restore.copy())));
    assert!(result.bytes > Some(1 << 20) && result.warnings.is_empty(), "{:?}", result.warnings);
    assert_eq!(scenario.sql_in(&restore.copy(), LIKE).await, scenario.sql(LIKE).await);
    assert_eq!(scenario.sql_in(&restore.copy(), ROWS).await, "2000");
    assert_eq!(scenario.sql(ROWS).await, "3", "what is live is as it was");
    let oid = scenario.oid(&restore.copy()).await;
    let again = restore.done(RestoreStep::Copy).await;
    assert_eq!((again.rows, again.tables), (Some(2001), Some(2)));
    assert_eq!(scenario.oid(&restore.copy()).await, oid);
    let verified = restore.done(RestoreStep::Verify).await;
    assert_eq!((verified.rows, verified.tables, verified.database), (Some(2001), Some(2), Some(restore.copy())));
}

/// `pg_restore` 17 sets what servers before it do not know.
#[tokio::test]
async fn programs_that_are_newer_than_the_server_restore_all_the_same() {
    let scenario = Scenario::new("copy-newer").await;
    let newer = programs::newer_postgres();
    scenario.sql("CREATE TABLE receipts AS SELECT n FROM generate_series(1, 2000) n").await;
    let mut dump = scenario.command();
    dump.env("PATH", &newer);
    let point = scenario.run(dump).await.complete().id;
    let restore = Restore::of(&scenario, &point);
    let mut command = restore.command(RestoreStep::Copy, &[]);
    command.env("PATH", &newer);
    let result = restore.run_during(command, async |_| {}).await.done();
    assert_eq!((result.rows, result.tables), (Some(2000), Some(1)));
    let major = scenario.sql("SHOW server_version_num").await.parse::<u32>().expect("a number") / 10000;
    let told = result.warnings.iter().any(|warning| warning.contains("\"transaction_timeout\""));
    assert_eq!(told, major < 17, "{:?}", result.warnings);
    assert_eq!(scenario.sql_in(&restore.copy(), ROWS).await, "2000");
}

#[tokio::test]
async fn a_database_of_another_encoding_comes_back_as_that() {
    let scenario = Scenario::new("copy-latin").await;
    scenario.sql_in("postgres", "DROP DATABASE \"copy-latin\"").await;
    let like = "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0";
    scenario.sql_in("postgres", &format!("CREATE DATABASE \"copy-latin\" {like}")).await;
    scenario.sql("CREATE TABLE words (t text); INSERT INTO words VALUES ('stra\u{df}e')").await;
    let point = scenario.dump().await.id;
    let restore = Restore::of(&scenario, &point);
    restore.done(RestoreStep::Copy).await;
    assert_eq!(scenario.sql_in(&restore.copy(), LIKE).await, scenario.sql(LIKE).await);
    let octets = "SELECT octet_length(t) || t FROM words";
    assert_eq!(scenario.sql_in(&restore.copy(), octets).await, "6stra\u{df}e");
}

#[tokio::test]
async fn a_copy_that_was_killed_half_way_is_begun_anew() {
    let scenario = Scenario::new("copy-killed").await;
    scenario.fill(24).await;
    let point = scenario.dump().await.id;
    let restore = Restore::of(&scenario, &point);
    let mut child = restore.spawn(RestoreStep::Copy);
    let size = format!(
        "SELECT coalesce(max(pg_database_size(oid)), 0) > 12000000 FROM pg_database WHERE datname = '{}'",
        restore.copy()
    );
    until("half of the rows", async || scenario.sql_in("postgres", &size).await == "t").await;
    signal("KILL", child.id());
    child.wait().expect("killed");
    let comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname =";
    let comment = format!("{comment} '{}'", restore.copy());
    assert_eq!(scenario.sql_in("postgres", &comment).await, begun_comment(&restore.uid));
    for step in [RestoreStep::Verify, RestoreStep::Switch] {
        let (reason, message) = restore.refused(step, &[]).await;
        assert_eq!(reason, RestoreRefusal::CopyMissing, "{message}");
    }
    let oid = scenario.oid(&restore.copy()).await;
    restore.done(RestoreStep::Copy).await;
    assert_ne!(scenario.oid(&restore.copy()).await, oid);
    assert_eq!(scenario.sql_in("postgres", &comment).await, restore_comment(&restore.uid));
    let sum = "SELECT md5(string_agg(md5(data), '' ORDER BY n)) FROM filler";
    assert_eq!(scenario.sql_in(&restore.copy(), sum).await, scenario.sql(sum).await);
}

#[tokio::test]
async fn a_copy_that_is_told_to_stop_leaves_nothing() {
    let scenario = Scenario::new("copy-stopped").await;
    scenario.fill(24).await;
    let point = scenario.dump().await.id;
    let restore = Restore::of(&scenario, &point);
    let step = restore
        .run_during(restore.command(RestoreStep::Copy, &[]), async |pid| {
            until("a copy", async || scenario.exists(&restore.copy()).await).await;
            signal("TERM", pid);
        })
        .await;
    assert_eq!(step.status.code(), Some(143), "{step:?}");
    assert!(!scenario.exists(&restore.copy()).await);
}

/// The size is right, so that only the checksum tells.
#[tokio::test]
async fn a_dump_that_was_changed_or_swapped_leaves_no_copy() {
    let scenario = Scenario::new("copy-corrupt").await;
    scenario.fill(2).await;
    let point = scenario.dump().await.id;
    let restore = Restore::of(&scenario, &point);
    let key = scenario.dump_key(&point);
    let good = scenario.bucket.get(&key).await.expect("get").expect("dump");
    for at in [10, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        scenario.bucket.put(&key, bad).await.expect("put");
        let (reason, message) = restore.refused(RestoreStep::Copy, &[]).await;
        assert_eq!(reason, RestoreRefusal::PointCorrupt, "{message}");
        assert!(message.contains("SHA-256") && message.contains("restore another recovery point"), "{message}");
        assert!(!scenario.exists(&restore.copy()).await, "byte {at}");
    }
    // With its manifest changed as well, it is as long as it says and has the checksum that it says.
    let cut = &good[..good.len() - 1000];
    scenario.bucket.put(&key, cut.to_vec()).await.expect("put");
    let sha256 = sha2::Digest::finalize(sha2::Digest::chain_update(<sha2::Sha256 as sha2::Digest>::new(), cut));
    let sha256 = sha256.iter().fold(String::new(), |hex, byte: &u8| hex + &format!("{byte:02x}"));
    scenario
        .change_manifest(&point, |manifest| {
            manifest["objects"][0]["size"] = cut.len().into();
            manifest["objects"][0]["sha256"] = sha256.into();
        })
        .await;
    let (reason, message) = restore.refused(RestoreStep::Copy, &[]).await;
    assert_eq!(reason, RestoreRefusal::PointCorrupt, "{message}");
    assert!(!scenario.exists(&restore.copy()).await);
}

/// The dump is whole, and is not what the manifest says: as when dumps were swapped with their checksums.
#[tokio::test]
async fn a_copy_that_differs_from_the_manifest_is_not_switched() {
    let scenario = Scenario::new("copy-differs").await;
    scenario.sql("CREATE MATERIALIZED VIEW seen AS SELECT 1 a; SELECT lo_create(4711)").await;
    scenario.sql("CREATE TABLE \"Odd name\" (a int); INSERT INTO \"Odd name\" VALUES (1), (2)").await;
    let point = scenario.point(3).await;
    let restore = Restore::of(&scenario, &point);
    let key = format!("{}{point}/{MANIFEST_FILE}", scenario.prefix);
    let good = scenario.bucket.get(&key).await.expect("get").expect("manifest");
    let changes: [(Change, &str); 6] = [
        (|contents| contents["rows"]["public.receipts"] = 4.into(), "public.receipts has 3 rows instead of 4"),
        (|contents| contents["rows"]["public.\"Odd name\""] = 1.into(), "public.\"Odd name\" has 2 rows instead of 1"),
        (|contents| contents["rows"]["later.gone"] = 0.into(), "later.gone is missing"),
        (|contents| contents["estimated"] = json!({"public.gone": 9}), "public.gone is missing"),
        (
            |contents| contents["materializedViews"]["public.seen"] = false.into(),
            "public.seen is populated, and was not",
        ),
        (|contents| contents["largeObjects"] = 2.into(), "1 large objects instead of 2"),
    ];
    for (change, words) in changes {
        scenario.change_manifest(&point, |manifest| change(&mut manifest["contents"])).await;
        let (reason, message) = restore.refused(RestoreStep::Copy, &[]).await;
        assert!(reason == RestoreRefusal::CopyDiffers && message.contains(words), "{words}: {reason:?} {message}");
        assert!(!scenario.exists(&restore.copy()).await, "{words}");
        assert_eq!(restore.refused(RestoreStep::Switch, &[]).await.0, RestoreRefusal::CopyMissing);
        scenario.bucket.put(&key, good.clone()).await.expect("put");
    }
    assert_eq!(restore.done(RestoreStep::Copy).await.warnings, Vec::<String>::new());
}

#[tokio::test]
async fn rows_that_the_role_does_not_see_are_told_and_end_no_restore() {
    let scenario = Scenario::new("copy-hidden").await;
    let mut restore = Restore::of(&scenario, "none").by("copy_hidden", "CREATEDB").await;
    scenario.sql("ALTER DATABASE \"copy-hidden\" OWNER TO copy_hidden; CREATE TABLE t AS SELECT 1 a").await;
    scenario.sql("ALTER TABLE t OWNER TO copy_hidden; ALTER TABLE t ENABLE ROW LEVEL SECURITY").await;
    scenario.sql("ALTER TABLE t FORCE ROW LEVEL SECURITY; GRANT ALL ON SCHEMA public TO copy_hidden").await;
    restore.point = scenario.dump().await.id;
    let result = restore.done(RestoreStep::Copy).await;
    let hidden = |warning: &String| warning.contains("the rows of public.t are not compared");
    assert!(result.warnings.iter().any(hidden), "{result:?}");
}

#[tokio::test]
async fn a_role_that_is_gone_is_told_and_a_policy_of_it_is_not_lost_silently() {
    let scenario = Scenario::new("copy-roles").await;
    scenario
        .sql(
            "CREATE ROLE copy_gone; CREATE TABLE t (a int); INSERT INTO t VALUES (1); ALTER TABLE t OWNER TO copy_gone",
        )
        .await;
    scenario.sql("CREATE TABLE u (a int); GRANT SELECT ON u TO copy_gone").await;
    let point = scenario.dump().await.id;
    scenario.sql("ALTER TABLE t OWNER TO postgres; REVOKE ALL ON u FROM copy_gone").await;
    scenario.sql("CREATE POLICY p ON u TO copy_gone").await;
    let with_policy = scenario.dump().await.id;
    scenario.sql("DROP POLICY p ON u; DROP ROLE copy_gone").await;
    let restore = Restore::of(&scenario, &point);
    let result = restore.done(RestoreStep::Copy).await;
    assert_eq!((result.rows, result.tables), (Some(1), Some(2)));
    let [owner, grant] = result.warnings.as_slice() else { panic!("{result:?}") };
    assert!(owner.contains("role \"copy_gone\" does not exist") && owner.contains("OWNER TO"), "{owner}");
    assert!(grant.contains("GRANT SELECT ON TABLE public.u"), "{grant}");
    let mut restore = Restore::of(&scenario, &with_policy);
    restore.uid = "uid-copy-policy".to_owned();
    let (reason, message) = restore.refused(RestoreStep::Copy, &[]).await;
    assert!(reason == RestoreRefusal::RestoreErrors && message.contains("CREATE POLICY p"), "{reason:?} {message}");
    assert!(!scenario.exists(&restore.copy()).await);
}

#[tokio::test]
async fn a_database_of_somebody_else_with_the_name_of_the_copy_stays() {
    let scenario = Scenario::new("copy-foreign").await;
    let point = scenario.point(3).await;
    let restore = Restore::of(&scenario, &point);
    let copy = restore.copy();
    scenario.sql_in("postgres", &format!("CREATE DATABASE \"{copy}\"")).await;
    scenario.sql_in(&copy, "CREATE TABLE precious AS SELECT 1 a").await;
    for comment in
        ["NULL", "'rorun-operator restore uid-of-another'", "'rorun-operator restore uid-of-another, not complete'"]
    {
        scenario.sql_in("postgres", &format!("COMMENT ON DATABASE \"{copy}\" IS {comment}")).await;
        let (reason, message) = restore.refused(RestoreStep::Copy, &[]).await;
        assert_eq!(reason, RestoreRefusal::NotOfRestore, "{message}");
        assert_eq!(scenario.sql_in(&copy, "SELECT a FROM precious").await, "1");
    }
    // One that was killed between its creation and its comment is empty.
    scenario.sql_in("postgres", &format!("COMMENT ON DATABASE \"{copy}\" IS NULL")).await;
    scenario.sql_in(&copy, "DROP TABLE precious").await;
    restore.done(RestoreStep::Copy).await;
    assert_eq!(scenario.sql_in(&copy, ROWS).await, "3");
}

#[tokio::test]
async fn names_may_be_as_long_as_postgresql_has_them() {
    let scenario = Scenario::new("copy-names").await;
    let long = "n".repeat(63);
    let point = scenario.point(4).await;
    scenario.sql_in("postgres", &format!("CREATE DATABASE \"{long}\"")).await;
    scenario.sql_in(&long, "CREATE TABLE receipts (n int)").await;
    let mut restore = Restore::of(&scenario, &point);
    restore.url = scenario.servers.database_url(&long);
    restore.database.clone_from(&long);
    assert_eq!((restore.copy().len(), restore.kept().len()), (63, 62));
    restore.done(RestoreStep::Copy).await;
    let result = restore.done(RestoreStep::Switch).await;
    assert_eq!(result.kept.map(|kept| kept.name), Some(restore.kept()));
    assert_eq!(scenario.sql_in(&long, ROWS).await, "4");
    assert_eq!(scenario.sql_in(&restore.kept(), ROWS).await, "0");
    restore.discard(&restore.kept()).await.done();
    assert!(!scenario.exists(&restore.kept()).await && scenario.exists(&long).await);
}

#[tokio::test]
async fn a_role_without_rights_restores_into_an_empty_database_of_the_user() {
    let scenario = Scenario::new("copy-own").await;
    let point = scenario.point(6).await;
    let restore = Restore::of(&scenario, &point).by("copy_own", "").await;
    scenario.sql_in("postgres", "CREATE DATABASE \"copy-own-into\" OWNER copy_own").await;
    let into = restore.url.replace("/copy-own?", "/copy-own-into?");
    let step = async |step| {
        let mut command = restore.command(step, &[]);
        command.env(contract::ENV_COPY_URL, &into);
        restore.run_during(command, async |_| {}).await.done()
    };
    let checked = step(RestoreStep::Check).await;
    assert_eq!(checked.database.as_deref(), Some("copy-own-into"));
    assert_eq!(step(RestoreStep::Copy).await.rows, Some(6));
    assert_eq!(step(RestoreStep::Copy).await.rows, Some(6), "a second run finds it done");
    assert_eq!(step(RestoreStep::Verify).await.database.as_deref(), Some("copy-own-into"));
    assert_eq!(scenario.sql_in("copy-own-into", ROWS).await, "6");
}

#[tokio::test]
async fn a_migration_that_did_not_finish_on_the_copy_is_found() {
    let scenario = Scenario::new("copy-verify").await;
    let point = scenario.point(3).await;
    let restore = Restore::of(&scenario, &point);
    restore.done(RestoreStep::Copy).await;
    let copy = restore.copy();
    let table =
        "CREATE TABLE _prisma_migrations (migration_name text, finished_at timestamptz, rolled_back_at timestamptz)";
    scenario
        .sql_in(&copy, &format!("{table}; INSERT INTO _prisma_migrations VALUES ('20260101_init', NULL, NULL)"))
        .await;
    let (reason, message) = restore.refused(RestoreStep::Verify, &[]).await;
    assert!(
        reason == RestoreRefusal::CopyDiffers && message.contains("migration 20260101_init did not finish"),
        "{message}"
    );
    scenario.sql_in(&copy, "UPDATE _prisma_migrations SET finished_at = now()").await;
    restore.done(RestoreStep::Verify).await;
    scenario.sql_in(&copy, "CREATE INDEX broken ON receipts (n)").await;
    scenario.sql_in(&copy, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass").await;
    let (reason, message) = restore.refused(RestoreStep::Verify, &[]).await;
    assert!(reason == RestoreRefusal::CopyDiffers && message.contains("index broken is not valid"), "{message}");
}
