//! A switch that is killed: whenever that is, the live database takes connections, and a second run finishes.

use std::path::PathBuf;
use std::process::Stdio;
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

impl Restore<'_> {
    /// Switches through a connection that is cut at a message, which kills the process. Gives whether it came to its end before.
    async fn switch_cut_at(&self, message: u32, passes: bool) -> bool {
        let port = self.scenario.servers.postgres_port;
        let cut = Cut::new(port, message, passes).await;
        let mut command = self.command(RestoreStep::Switch, &[]);
        let url = self.url.replace(&format!(":{port}/"), &format!(":{}/", cut.port));
        command.env(contract::ENV_DATABASE_URL, url).stdout(Stdio::null()).stderr(Stdio::null());
        let result = command.get_args().last().map(PathBuf::from).expect("a file for the result");
        let mut child = command.spawn().expect("agent");
        let pid = child.id();
        let mut ended = tokio::task::spawn_blocking(move || child.wait().expect("ended"));
        tokio::select! {
            () = cut.reached() => {
                signal("KILL", pid);
                ended.await.expect("killed");
                false
            }
            status = &mut ended => {
                let (told, success) = (std::fs::read_to_string(&result), status.expect("ended").success());
                // It noticed the end of its connection before it was killed.
                assert!(success || cut.is_reached(), "message {message}, passed on: {passes}: {told:?}");
                success
            }
        }
    }
}

/// Of the about hundred messages of a switch every seventh is one to be killed at: all of them take five minutes.
const EVERY: u32 = 7;

/// Before and after messages that it sends to the server, from the first to those after the end of the transaction.
#[tokio::test]
async fn a_switch_may_be_killed_at_any_of_its_statements() {
    let scenario = Scenario::new("kills").await;
    let point = scenario.point(7).await;
    scenario.sql("DELETE FROM receipts WHERE n > 2").await;
    let mut restore = Restore::of(&scenario, &point).by("kills", "SUPERUSER").await;
    let (mut message, mut before, mut after, mut whole) = (0, 0, 0, false);
    while !whole {
        message += EVERY;
        for passes in [false, true] {
            if !scenario.exists(&restore.copy()).await {
                restore.done(RestoreStep::Copy).await;
            }
            whole |= restore.switch_cut_at(message, passes).await;
            scenario.live_rows().await;
            scenario.no_sessions_of_restores().await;
            let switched = scenario.exists(&restore.kept()).await;
            assert_eq!(switched, !scenario.exists(&restore.copy()).await, "message {message}: both names or none");
            assert_eq!(scenario.live_rows().await, if switched { 7 } else { 2 }, "message {message}");
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
            restore.uid = format!("uid-kills-{message}-{passes}");
        }
    }
    println!("killed {before} times before the transaction ended, {after} times after it");
    assert!(before > 10 && after > 0, "{before} {after}");
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
    let rename = format!("BEGIN; ALTER DATABASE \"{}\" RENAME TO \"kills-between-held\"", restore.copy());
    holder.batch_execute(&rename).await.expect("held");
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
