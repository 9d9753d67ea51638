//! What is refused before anything is written.

use rorun_operator::contract::{self, MANIFEST_FILE, RestoreRefusal, RestoreStep};
use serde_json::{Value, json};

use super::Restore;
use crate::scenario::Scenario;

/// What is wrong with a manifest.
type Change = fn(&mut Value);

#[tokio::test]
async fn a_good_point_may_be_restored() {
    let scenario = Scenario::new("check-good").await;
    let point = scenario.point(5).await;
    let restore = Restore::of(&scenario, &point);
    let result = restore.done(RestoreStep::Check).await;
    assert_eq!(result.database, Some(restore.copy()));
    assert_eq!(result.bytes, scenario.bucket.size(&scenario.dump_key(&point)).await.expect("size"));
    let filling = restore.run(RestoreStep::Check, &[contract::ARG_FILL]).await.done();
    assert_eq!(filling.database.as_deref(), Some("check-good"));
    assert!(!scenario.exists(&restore.copy()).await, "a check writes nothing");
}

#[tokio::test]
async fn a_point_that_is_not_what_it_should_be_is_refused() {
    let scenario = Scenario::new("check-points").await;
    let point = scenario.point(5).await;
    let restore = Restore::of(&scenario, &point);
    let key = format!("{}{point}/{MANIFEST_FILE}", scenario.prefix);
    let good = scenario.bucket.get(&key).await.expect("get").expect("manifest");
    let without_owner: Change = |manifest| drop(manifest.as_object_mut().expect("object").remove("owner"));
    let changes: [(Change, RestoreRefusal, &str); 9] = [
        (
            |manifest| manifest["apiVersion"] = json!("backup.rorun.app/v9"),
            RestoreRefusal::PointTooNew,
            "upgrade the operator",
        ),
        (
            |manifest| manifest["id"] = json!("20200101T000000Z-aaaaa"),
            RestoreRefusal::PointCorrupt,
            "is no manifest of",
        ),
        (|manifest| *manifest = json!("nothing"), RestoreRefusal::PointCorrupt, "is no manifest of"),
        (
            |manifest| manifest["owner"] = json!("6f1f3a5c-0000-4000-8000-00000000000f/shop"),
            RestoreRefusal::PointForeign,
            "is of 6f1f",
        ),
        (without_owner, RestoreRefusal::PointForeign, "is without an owner, not of"),
        (|manifest| manifest["objects"] = json!([]), RestoreRefusal::PointIncomplete, "holds no dump"),
        (
            |manifest| manifest["recipients"] = json!(["age1x"]),
            RestoreRefusal::PointEncrypted,
            "is encrypted for age1x",
        ),
        (|manifest| manifest["objects"][0]["size"] = json!(7), RestoreRefusal::PointCorrupt, "should have 7 bytes"),
        (
            |manifest| manifest["serverVersion"] = json!("99.1"),
            RestoreRefusal::ServerTooOld,
            "the dump is of PostgreSQL 99",
        ),
    ];
    for (change, reason, words) in changes {
        scenario.change_manifest(&point, change).await;
        for step in [RestoreStep::Check, RestoreStep::Copy] {
            let (found, message) = restore.refused(step, &[]).await;
            assert!(found == reason && message.contains(words), "{step:?}: {found:?}: {message}");
        }
        scenario.bucket.put(&key, good.clone()).await.expect("put");
    }
    scenario.change_manifest(&point, |manifest| manifest["pgDumpVersion"] = json!("pg_dump (PostgreSQL) 99.1")).await;
    let (found, message) = restore.refused(RestoreStep::Check, &[]).await;
    assert!(found == RestoreRefusal::ImageTooOld && message.contains("postgres:99"), "{message}");
    scenario.bucket.put(&key, good).await.expect("put");
    scenario.change_manifest(&point, without_owner).await;
    restore.run(RestoreStep::Check, &[contract::ARG_ANY_OWNER]).await.done();
    scenario.bucket.delete(&scenario.dump_key(&point)).await.expect("delete");
    let (found, message) = restore.refused(RestoreStep::Check, &[contract::ARG_ANY_OWNER]).await;
    assert!(found == RestoreRefusal::PointCorrupt && message.contains("there is none"), "{message}");
    scenario.bucket.delete(&key).await.expect("delete");
    let (found, message) = restore.refused(RestoreStep::Check, &[]).await;
    assert!(found == RestoreRefusal::PointNotFound && message.contains("there is no recovery point"), "{message}");
    assert!(!scenario.exists(&restore.copy()).await);
}

#[tokio::test]
async fn a_role_that_may_not_is_told_what_to_grant() {
    let scenario = Scenario::new("check-rights").await;
    let point = scenario.point(5).await;
    let restore = Restore::of(&scenario, &point).by("check_rights", "").await;
    let message = |found: (RestoreRefusal, String)| {
        assert_eq!(found.0, RestoreRefusal::RightsMissing, "{}", found.1);
        found.1
    };
    let told = message(restore.refused(RestoreStep::Check, &[]).await);
    assert!(told.contains("ALTER ROLE \"check_rights\" CREATEDB; GRANT \"postgres\" TO \"check_rights\""), "{told}");
    assert!(told.contains("intoSecretRef"), "{told}");
    let told = message(restore.refused(RestoreStep::Check, &[contract::ARG_FILL]).await);
    assert!(told.contains("ALTER DATABASE \"check-rights\" OWNER TO \"check_rights\""), "{told}");
    scenario.sql("ALTER DATABASE \"check-rights\" OWNER TO check_rights; ALTER ROLE check_rights CREATEDB").await;
    restore.done(RestoreStep::Check).await;
    restore.run(RestoreStep::Check, &[contract::ARG_FILL]).await.done();
    let (client, connection) =
        tokio_postgres::connect(&scenario.servers.database_url("check-rights"), tokio_postgres::NoTls)
            .await
            .expect("connect");
    let driver = tokio::spawn(connection);
    let held = restore.done(RestoreStep::Check).await.held.expect("it is held");
    assert_eq!(held.reason, RestoreRefusal::RightsMissing, "{held:?}");
    assert!(held.message.contains("may not end the sessions of postgres"), "{held:?}");
    drop(client);
    driver.await.expect("driver").expect("connection");
}

#[tokio::test]
async fn a_database_that_cannot_be_renamed_is_told_and_copied_all_the_same() {
    let scenario = Scenario::new("check-held").await;
    let point = scenario.point(5).await;
    let restore = Restore::of(&scenario, &point);
    let subscription =
        "CREATE SUBSCRIPTION \"sub held\" CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false)";
    scenario.sql(subscription).await;
    let held = restore.done(RestoreStep::Check).await.held.expect("it is held");
    assert!(held.message.contains("drop subscription \"sub held\" first"), "{held:?}");
    restore.done(RestoreStep::Copy).await;
    let held = restore.done(RestoreStep::Verify).await.held.expect("it is held");
    assert_eq!(held.reason, RestoreRefusal::DatabaseHeld, "{held:?}");
    assert!(held.message.contains("drop subscription \"sub held\" first"), "{held:?}");
    let (reason, message) = restore.refused(RestoreStep::Switch, &[]).await;
    assert_eq!(reason, RestoreRefusal::DatabaseHeld, "{message}");
    assert!(scenario.exists(&restore.copy()).await && !scenario.exists(&restore.kept()).await);
    scenario.sql("ALTER SUBSCRIPTION \"sub held\" DISABLE").await;
    scenario.sql("ALTER SUBSCRIPTION \"sub held\" SET (slot_name = NONE)").await;
    scenario.sql("DROP SUBSCRIPTION \"sub held\"").await;
    assert_eq!(restore.done(RestoreStep::Verify).await.held, None);
    restore.done(RestoreStep::Switch).await;
}
