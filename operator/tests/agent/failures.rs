//! A run that fails is as if it had not been, and says why.

use rorun_operator::contract::{self, DUMP_FILE, MANIFEST_FILE};

use crate::process::{signal, until};
use crate::scenario::Scenario;
use crate::servers::PASSWORD;

/// Waits until parts of the dump are in the bucket.
async fn uploading(scenario: &Scenario) {
    until("an upload", async || !scenario.bucket.uploads(&scenario.prefix).await.expect("uploads").is_empty()).await;
}

#[tokio::test]
async fn a_connection_that_breaks_midway_leaves_nothing() {
    let scenario = Scenario::new("breaks").await;
    scenario.fill(24).await;
    let run = scenario.run_during(scenario.command(), async |_| {
        uploading(&scenario).await;
        let backends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'breaks'";
        scenario.sql_in("postgres", backends).await;
    });
    let run = run.await;
    assert_eq!(run.status.code(), Some(1), "{run:?}");
    let message = run.failed();
    assert!(message.starts_with("failed to dump the database: exit status: 1: pg_dump: error: "), "{message}");
    assert!(message.contains("Dumping the contents of table \"filler\" failed"), "{message}");
    scenario.assert_nothing_left().await;
}

#[tokio::test]
async fn a_pod_that_is_told_to_stop_takes_its_upload_back() {
    let scenario = Scenario::new("told-to-stop").await;
    scenario.fill(24).await;
    let run = scenario.run_during(scenario.command(), async |pid| {
        uploading(&scenario).await;
        signal("TERM", pid);
    });
    let run = run.await;
    assert_eq!(run.status.code(), Some(143), "{run:?}");
    assert_eq!(run.failed(), "failed to finish: the pod was told to stop, and the upload was taken back");
    scenario.assert_nothing_left().await;
    let backends = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'told-to-stop'";
    until("pg_dump ends", async || scenario.sql_in("postgres", backends).await == "0").await;
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let scenario = Scenario::new("missing").await;
    let with = |name: &str, value: &str| {
        let mut command = scenario.command();
        command.env(name, value);
        command
    };
    let database = |user: &str, name: &str| {
        format!("postgres://{user}@127.0.0.1:{}/{name}?sslmode=disable", scenario.servers.postgres_port)
    };
    let right = format!("postgres:{PASSWORD}");
    for (command, start, end) in [
        (with("PATH", "/nonexistent"), "failed to find pg_dump in this image; set spec.backup.image", ""),
        (
            with(contract::ENV_S3_ENDPOINT, "http://127.0.0.1:1"),
            "failed to reach bucket \"missing\" at http://127.0.0.1:1: ",
            "",
        ),
        (with(contract::ENV_S3_BUCKET, "nowhere"), "failed to find bucket \"nowhere\" at ", "correct its name"),
        (with(contract::ENV_SECRET_ACCESS_KEY, "wrong"), "failed to log in to bucket \"missing\" at ", "in its Secret"),
        (
            with(contract::ENV_ACCESS_KEY_ID, "stranger"),
            "failed to get access to bucket \"missing\" at ",
            "credentials",
        ),
        (
            with(contract::ENV_DATABASE_URL, &database(&right, "nowhere")),
            "failed to find database \"nowhere\" on PostgreSQL at 127.0.0.1:",
            "correct the URL",
        ),
        (
            with(contract::ENV_DATABASE_URL, &database("postgres:wrong", "missing")),
            "failed to log in to PostgreSQL at 127.0.0.1:",
            "in its Secret",
        ),
        (
            with(contract::ENV_DATABASE_URL, "postgres://u@127.0.0.1:1/d"),
            "failed to reach PostgreSQL at 127.0.0.1:1: ",
            "allow the connection",
        ),
    ] {
        let message = scenario.failure(command).await;
        assert!(message.starts_with(start) && message.ends_with(end), "{message}");
    }
    scenario.assert_nothing_left().await;
}

#[tokio::test]
async fn a_failed_run_removes_nothing() {
    let scenario = Scenario::new("removes-nothing").await;
    for id in ["20200101T000000Z-aaaaa", "20200102T000000Z-aaaaa", "20200103T000000Z-aaaaa"] {
        for file in [DUMP_FILE, MANIFEST_FILE] {
            scenario.bucket.put(&format!("{}{id}/{file}", scenario.prefix), vec![1]).await.expect("put");
        }
    }
    let before = scenario.keys().await;
    scenario.sql("CREATE TABLE t (); CREATE ROLE blind LOGIN PASSWORD 'blind'").await;
    let url = format!("postgres://blind:blind@127.0.0.1:{}/removes-nothing", scenario.servers.postgres_port);
    let mut command = scenario.command();
    command.env(contract::ENV_DATABASE_URL, url);
    let message = scenario.failure(command).await;
    assert!(message.contains("permission denied for table t"), "{message}");
    assert!(message.ends_with("leave its schema out with backup.excludeSchemas"), "{message}");
    assert_eq!(scenario.keys().await, before);
}
