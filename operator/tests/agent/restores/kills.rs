//! A switch that is killed: whenever that is, the live database takes connections, and a second run finishes.

use std::time::Duration;

use rorun_operator::contract::{self, RestoreStep};
use tokio_postgres::NoTls;

use super::{ROWS, Restore};
use crate::cut::Cut;
use crate::process::{signal, until};
use crate::scenario::Scenario;

impl Scenario {
    /// The rows of the live database, which has to take connections within the time that a renaming takes to end.
    async fn live_rows(&self) -> i64 {
        let url = self.servers.database_url(self.name);
        let asked = async {
            let (client, connection) = tokio_postgres::connect(&url, NoTls).await.ok()?;
            let driver = tokio::spawn(connection);
            let row = client.query_one(ROWS, &[]).await.ok()?;
            drop(client);
            let _ = driver.await;
            Some(row.get(0))
        };
        let answer = tokio::time::timeout(Duration::from_secs(10), asked).await;
        answer.ok().flatten().unwrap_or_else(|| panic!("{}: the live database takes no connection", self.name))
    }

    async fn no_sessions_of_restores(&self) {
        let sessions = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'rorun-operator restore%' AND usename = '{}'",
            self.name
        );
        until("its sessions end", async || self.sql_in("postgres", &sessions).await == "0").await;
    }
}

/// Before and after each message that it sends to the server, that of the end of the transaction among them.
#[tokio::test]
async fn a_switch_may_be_killed_at_each_of_its_statements() {
    let scenario = Scenario::new("kills").await;
    let point = scenario.point(7).await;
    scenario.sql("DELETE FROM receipts WHERE n > 2").await;
    let (mut restore, mut whole) = (Restore::of(&scenario, &point).by("kills", "SUPERUSER").await, false);
    let direct = restore.url.clone();
    let (mut statement, mut before, mut after) = (0, 0, 0);
    while !whole {
        statement += 1;
        for passes in [false, true] {
            if !scenario.exists(&restore.copy()).await {
                restore.done(RestoreStep::Copy).await;
            }
            let cut = Cut::new(scenario.servers.postgres_port, statement, passes).await;
            let port = format!(":{}/", scenario.servers.postgres_port);
            let mut command = restore.command(RestoreStep::Switch, &[]);
            command.env(contract::ENV_DATABASE_URL, direct.replace(&port, &format!(":{}/", cut.port)));
            let result = command.get_args().last().map(std::path::PathBuf::from).expect("a file for the result");
            let mut child =
                command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().expect("agent");
            let pid = child.id();
            let mut ended = tokio::task::spawn_blocking(move || child.wait().expect("ended"));
            tokio::select! {
                () = cut.reached() => {
                    signal("KILL", pid);
                    ended.await.expect("killed");
                }
                status = &mut ended => {
                    let told = std::fs::read_to_string(&result).unwrap_or_default();
                    assert!(status.expect("ended").success(), "statement {statement}, passed on: {passes}: {told}");
                    whole = true;
                }
            }
            drop(cut);
            let rows = scenario.live_rows().await;
            scenario.no_sessions_of_restores().await;
            let switched = scenario.exists(&restore.kept()).await;
            assert_eq!(switched, !scenario.exists(&restore.copy()).await, "statement {statement}: both names or none");
            assert!(rows == 2 && !switched || rows == 7 || rows == 2, "statement {statement}: {rows} rows");
            if !switched {
                before += 1;
                continue;
            }
            after += 1;
            let result = restore.done(RestoreStep::Switch).await;
            assert_eq!(result.kept.map(|kept| kept.name), Some(restore.kept()));
            assert_eq!((scenario.live_rows().await, scenario.sql_in(&restore.kept(), ROWS).await.as_str()), (7, "2"));
            restore.discard(&restore.kept()).await.done();
            scenario.sql("DELETE FROM receipts WHERE n > 2").await;
            restore.uid = format!("uid-kills-{statement}-{passes}");
        }
    }
    println!("killed {before} times before the transaction ended, {after} times after it");
    assert!(before > 20 && after > 1, "{before} {after}");
}

/// Between the two renamings: a transaction on the name of the copy keeps the second one from being done.
#[tokio::test]
async fn a_switch_may_be_killed_between_its_two_renamings() {
    let scenario = Scenario::new("kills-between").await;
    let point = scenario.point(7).await;
    scenario.sql("DELETE FROM receipts WHERE n > 2").await;
    let restore = Restore::of(&scenario, &point);
    restore.done(RestoreStep::Copy).await;
    let url = scenario.servers.database_url("postgres");
    let (holder, connection) = tokio_postgres::connect(&url, NoTls).await.expect("connect");
    tokio::spawn(connection);
    let held = restore.copy();
    let hold = format!("BEGIN; ALTER DATABASE \"{held}\" RENAME TO \"kills-between-held\"");
    holder.batch_execute(&hold).await.expect("held");
    let mut child = restore.spawn(RestoreStep::Switch);
    let waits = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted \
                 AND a.application_name LIKE 'rorun-operator restore%' AND a.query LIKE '%kills-between%'";
    until("the second renaming waits", async || scenario.sql_in("postgres", waits).await != "0").await;
    signal("KILL", child.id());
    child.wait().expect("killed");
    // The server notices that the client is gone when its statement ends.
    holder.batch_execute("ROLLBACK").await.expect("not held");
    assert_eq!(scenario.live_rows().await, 2, "the live database is as it was");
    assert!(scenario.exists(&restore.copy()).await && !scenario.exists(&restore.kept()).await);
    restore.done(RestoreStep::Switch).await;
    assert_eq!(scenario.live_rows().await, 7);
}
