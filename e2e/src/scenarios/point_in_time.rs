//! The real barman-cloud plugin archives the log of a database of CloudNativePG, and a RorunRestore brings the stack to a moment between two
//! rows, by the commands of its runbook.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::kit::{
    App, BarmanCloud, CHART, CloudNativePg, Observed, Receipt, Stack, Status, TestContext, install, project,
};
use crate::engine::image::data::POSTGRES;
use crate::engine::progress;

const EXAMPLE: &str = "point-in-time.yaml";
const WITHIN: Duration = Duration::from_mins(5);
const CLUSTERS: &str = "clusters.postgresql.cnpg.io";

pub(super) async fn run(test: &TestContext) -> Result<()> {
    let switched_on = ["--set=optionalApis.cloudNativePG=true,optionalApis.barmanCloud=true"];
    test.upgrade_operator(&project().join(CHART), &switched_on).await?;
    let (servers, plugin) = (CloudNativePg::of(test).await?, BarmanCloud::of(test).await?);
    let played = play(test, (&servers, &plugin)).await;
    if played.is_err() {
        progress::note(&format!("{}\n{}", servers.told().await, plugin.told().await));
    }
    // In this order: a Cluster needs the plugin that it names, and only CloudNativePG lets go of the Service of a plugin.
    let used = remove_clusters(test).await;
    played.and(used).and(plugin.remove().await).and(servers.remove().await).and(install(test).await)
}

async fn remove_clusters(test: &TestContext) -> Result<()> {
    for all in ["rorunstacks.rorun.app", CLUSTERS] {
        test.kubectl(&["delete", all, "--all", "--namespace", &test.namespace]).await?;
    }
    Ok(())
}

async fn play(test: &TestContext, (servers, plugin): (&CloudNativePg<'_>, &BarmanCloud<'_>)) -> Result<()> {
    servers.install().await?;
    plugin.install().await?;
    let archive = Archive { test, stack: test.stack("rorun") };
    archive.begins().await?;
    let app = test.app(&archive.stack).await?;
    let before = test.first_receipt(&app, "2 bags of rice, 64000").await?;
    let moment = archive.now().await?;
    let after = archive.another(&app).await?;
    archive.is_restored(&app, &moment, (&before, &after)).await
}

struct Archive<'a> {
    test: &'a TestContext,
    stack: Stack,
}

impl Archive<'_> {
    /// The log is archived with a base backup before it, and the status says so.
    async fn begins(&self) -> Result<()> {
        let began = Instant::now();
        self.test
            .apply_example(EXAMPLE, |stack| {
                stack["spec"]["database"]["cloudNativePG"] = json!({
                    "instances": 1,
                    "image": POSTGRES,
                    "storage": {"size": "1Gi"},
                    "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
                    "parameters": {"shared_buffers": "16MB"},
                });
                stack["spec"]["ingress"] = json!({"className": "traefik", "host": self.test.host("api")});
                stack["spec"]["backup"]["schedule"] = json!("0 0 29 2 *");
                // The bucket of the stack itself, whose server runs here.
                if let Some(backup) = stack["spec"]["backup"].as_object_mut() {
                    backup.remove("destination");
                }
            })
            .await?;
        self.stack.wait_ready(WITHIN).await?;
        let ready = began.elapsed();
        let archived = |status: &Status| !status.json["backup"]["pointInTime"]["archives"][0].is_null();
        let status = self.stack.wait_status("a base backup", WITHIN, archived).await?;
        let took = began.elapsed();
        self.stack.patch(json!({"metadata": {"annotations": {"rorun.app/backup": "1"}}})).await?;
        self.stack.wait_condition("BackupHealthy", "True", "Ready", WITHIN).await?;
        let cluster = self.cluster(&self.stack.child("database")).await?;
        let server = &status.json["backup"]["pointInTime"]["serverName"];
        ensure!(cluster["spec"]["plugins"][0]["parameters"]["serverName"] == *server, "another archive than {server}");
        progress::note(&format!(
            "the stack was ready after {:.1} s, and its database could be recovered after {:.1} s",
            ready.as_secs_f64(),
            took.as_secs_f64()
        ));
        Ok(())
    }

    async fn cluster(&self, name: &str) -> Result<Value> {
        self.test.get(&self.test.namespace, CLUSTERS, name).await
    }

    async fn sql(&self, cluster: &str, query: &str) -> Result<String> {
        let primary =
            self.cluster(cluster).await?["status"]["currentPrimary"].as_str().context("a primary")?.to_owned();
        let psql = ["psql", "-qAtX", "--set=ON_ERROR_STOP=1", "--dbname=rorun", "--command", query];
        Ok(self.test.exec(&self.test.namespace, &primary, &psql).await?.trim().to_owned())
    }

    async fn asked(&self, query: &str) -> Result<String> {
        self.sql(&self.stack.child("database"), query).await
    }

    /// The clock of the server.
    async fn now(&self) -> Result<String> {
        let format = "YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"";
        self.asked(&format!("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', '{format}')")).await
    }

    /// A receipt that is archived: a moment can be recovered only if something was committed after it.
    async fn another(&self, app: &App) -> Result<Receipt> {
        let receipt = app.send("1 crate of malt, 9500").await?;
        let segment = self.asked("SELECT pg_walfile_name(pg_switch_wal())").await?;
        let began = Instant::now();
        self.stack
            .wait("the log to be archived", WITHIN, async || {
                let archived =
                    format!("SELECT coalesce(last_archived_wal >= '{segment}', false) FROM pg_stat_archiver");
                Ok(Observed::when(self.asked(&archived).await? == "t", format!("{segment} is not archived")))
            })
            .await?;
        progress::note(&format!("a segment of the log was archived in {:.1} s", began.elapsed().as_secs_f64()));
        Ok(receipt)
    }

    /// By the runbook, under the eyes of a client: another Cluster takes the place of the live one, which is kept.
    async fn is_restored(&self, app: &App, moment: &str, (before, after): (&Receipt, &Receipt)) -> Result<()> {
        let live = self.stack.child("database");
        let variables = [("STACK", self.stack.name.as_str()), ("MOMENT", moment)];
        let runbook = self.test.runbook("deleted-rows-to-a-moment.md", &self.test.namespace, &variables);
        let ((printed, took), asked) = app.asked_while(runbook).await?;
        let asked_for = self.test.list(&self.test.namespace, "rorunrestores", "").await?;
        let status = &asked_for.first().context("the RorunRestore is gone")?["status"];
        ensure!(status["kept"] == live.as_str(), "{status}");
        let named = self.test.get(&self.test.namespace, "configmap", &format!("{live}-live")).await?;
        let restored = named["data"]["cluster"].as_str().context("a name")?.to_owned();
        ensure!(restored != live, "the Cluster of before is live");
        for (receipt, expected) in [(before, "1"), (after, "0")] {
            let query = format!("SELECT count(*) FROM receipts WHERE id::text = '{}'", receipt.id);
            let found = self.sql(&restored, &query).await?;
            ensure!(found == expected, "as of {moment} there are {found} rows of {}, not {expected}", receipt.id);
            let kept = self.sql(&live, &query).await?;
            ensure!(kept == "1", "the Cluster that is kept has {kept} rows of {}", receipt.id);
        }
        self.stack.wait_ready(WITHIN).await?;
        let listed = app.list().await?;
        let shows = |receipt: &Receipt| listed.iter().any(|row| row["id"] == receipt.id.as_str());
        ensure!(shows(before) && !shows(after), "the application shows {listed:?}");
        app.check(before).await?;
        progress::note(&format!(
            "restored to {moment} in {:.1} s ({}): the row before it is there, the one after it is not; of {} requests of a client {} \
             failed",
            took.as_secs_f64(),
            printed.lines().last().unwrap_or_default(),
            asked.count(),
            asked.failed.len()
        ));
        self.goes_on(&live, &restored).await
    }

    /// The new Cluster archives into a folder of its own, and the one of before goes once its name is said.
    async fn goes_on(&self, before: &str, live: &str) -> Result<()> {
        let began = Instant::now();
        let server = self.cluster(live).await?["spec"]["plugins"][0]["parameters"]["serverName"].take();
        let archived = |status: &Status| {
            let archives = status.json["backup"]["pointInTime"]["archives"].as_array();
            archives.into_iter().flatten().any(|archive| archive["serverName"] == server)
        };
        self.stack.wait_status("a base backup of the new Cluster", WITHIN, archived).await?;
        self.stack.wait_condition("BackupHealthy", "True", "Ready", WITHIN).await?;
        progress::note(&format!("its own archive was whole {:.1} s later", began.elapsed().as_secs_f64()));
        let there = self.cluster(before).await?;
        let uid = there["metadata"]["uid"].as_str().context("a Cluster without a uid")?;
        self.stack
            .patch(json!({"metadata": {"annotations": {"rorun.app/discard": format!("{before}/{uid}")}}}))
            .await?;
        self.stack
            .wait("the Cluster of before to go", WITHIN, async || {
                let clusters = self.test.list(&self.test.namespace, CLUSTERS, "").await?;
                let names: Vec<_> = clusters.iter().filter_map(|of| of["metadata"]["name"].as_str()).collect();
                Ok(Observed::when(names == [live], names.join(", ")))
            })
            .await?;
        self.stack.wait_ready(WITHIN).await.map(drop)
    }
}
