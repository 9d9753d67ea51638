//! What is dropped, and what is not.

use rorun_operator::contract::{RestoreRefusal, RestoreStep, restore_comment};

use super::{ROWS, Restore};
use crate::scenario::Scenario;

#[tokio::test]
async fn only_a_database_that_says_so_itself_is_dropped() {
    let scenario = Scenario::new("discard").await;
    let point = scenario.point(3).await;
    let restore = Restore::of(&scenario, &point);
    restore.done(RestoreStep::Copy).await;
    restore.done(RestoreStep::Switch).await;
    let kept = restore.kept();
    let comment = async |comment: &str| {
        scenario.sql_in("postgres", &format!("COMMENT ON DATABASE \"{kept}\" IS {comment}")).await;
    };
    for text in ["NULL", "'rorun-operator restore uid-of-another'", "'rorun-operator restore uid-discard '", "'mine'"] {
        comment(text).await;
        let (reason, message) = restore.discard(&kept).await.refused();
        assert!(reason == RestoreRefusal::NotOfRestore && message.contains("its comment"), "{message}");
        assert_eq!(scenario.sql_in(&kept, ROWS).await, "3");
    }
    // The right comment on a database of another name, and on the live one.
    let right = format!("'{}'", restore_comment(&restore.uid));
    comment(&right).await;
    scenario.sql_in("postgres", "CREATE DATABASE \"discard-other\"").await;
    for name in ["discard-other", "discard", "postgres", "template1", "nowhere"] {
        if name != "nowhere" {
            scenario.sql_in("postgres", &format!("COMMENT ON DATABASE \"{name}\" IS {right}")).await;
        }
        let (reason, message) = restore.discard(name).await.refused();
        assert_eq!(reason, RestoreRefusal::NotOfRestore, "{message}");
        assert!(message.starts_with(&format!("database \"{name}\" is not dropped: ")), "{message}");
        assert!(name == "nowhere" || scenario.exists(name).await);
    }
    for name in ["postgres", "template1"] {
        scenario.sql_in("postgres", &format!("COMMENT ON DATABASE \"{name}\" IS NULL")).await;
    }
    // Another restore of the same stack, which names it.
    let mut another = Restore::of(&scenario, &point);
    another.uid = "uid-discard-another".to_owned();
    let (reason, message) = another.discard(&kept).await.refused();
    assert_eq!(reason, RestoreRefusal::NotOfRestore, "{message}");
    // One whose URL leads to the kept database: that is live then.
    let mut live = Restore::of(&scenario, &point);
    live.url = scenario.servers.database_url(&kept);
    let (reason, message) = live.discard(&kept).await.refused();
    assert!(reason == RestoreRefusal::NotOfRestore && message.contains("it is the live one"), "{message}");

    let (client, connection) =
        tokio_postgres::connect(&scenario.servers.database_url(&kept), tokio_postgres::NoTls).await.expect("connect");
    let driver = tokio::spawn(connection);
    let (reason, message) = restore.discard(&kept).await.refused();
    assert!(reason == RestoreRefusal::DatabaseInUse && message.contains("sessions of postgres"), "{message}");
    let row = client.query_one("SELECT count(*) FROM receipts", &[]).await.expect("the session goes on");
    assert_eq!(row.get::<_, i64>(0), 3);
    drop(client);
    driver.await.expect("driver").expect("connection");
    let result = restore.discard(&kept).await.done();
    assert!(result.bytes > Some(0) && result.database.as_deref() == Some(&kept), "{result:?}");
    assert!(!scenario.exists(&kept).await && scenario.exists("discard").await);
    assert_eq!(restore.discard(&kept).await.done().bytes, None, "a second run finds it done");
}

#[tokio::test]
async fn the_copy_of_a_restore_that_ended_can_be_dropped() {
    let scenario = Scenario::new("discard-copy").await;
    let point = scenario.point(3).await;
    let restore = Restore::of(&scenario, &point);
    restore.done(RestoreStep::Copy).await;
    restore.discard(&restore.copy()).await.done();
    assert!(!scenario.exists(&restore.copy()).await && scenario.exists("discard-copy").await);
}
