//! The real barman-cloud plugin archives the log of a database of CloudNativePG, and another Cluster is recovered from the archive, as the
//! documentation says, to a moment between two rows.

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
/// The Cluster that is recovered.
const RECOVERED: &str = "recovered";

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
    archive.is_recovered(&moment, (&before, &after)).await
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

    /// By another Cluster: the one that serves is left as it is.
    async fn is_recovered(&self, moment: &str, (before, after): (&Receipt, &Receipt)) -> Result<()> {
        let began = Instant::now();
        let spec = self.cluster(&self.stack.child("database")).await?["spec"].take();
        let server = &spec["plugins"][0]["parameters"]["serverName"];
        let origin = json!({"name": "origin", "plugin": {"name": "barman-cloud.cloudnative-pg.io",
            "parameters": {"barmanObjectName": self.stack.child("backup"), "serverName": server}}});
        let recovery = json!({"source": "origin", "database": "rorun", "owner": "rorun",
            "recoveryTarget": {"targetTime": moment}});
        let recovered = json!({"instances": 1, "imageName": spec["imageName"], "postgresUID": spec["postgresUID"],
            "postgresGID": spec["postgresGID"], "storage": spec["storage"], "resources": spec["resources"],
            "postgresql": {"parameters": {"shared_buffers": "16MB"}}, "bootstrap": {"recovery": recovery},
            "externalClusters": [origin]});
        let metadata = json!({"name": RECOVERED, "namespace": self.test.namespace});
        let object =
            json!({"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster", "metadata": metadata, "spec": recovered});
        self.test.apply_objects(&object).await?;
        self.stack
            .wait("another Cluster to be recovered", WITHIN, async || {
                let status = self.cluster(RECOVERED).await?["status"].take();
                let there = status["phase"] == "Cluster in healthy state";
                Ok(Observed::when(there, format!("{}: {}", status["phase"], status["phaseReason"])))
            })
            .await?;
        let took = began.elapsed();
        for (receipt, expected) in [(before, "1"), (after, "0")] {
            let query = format!("SELECT count(*) FROM receipts WHERE id::text = '{}'", receipt.id);
            let live = self.asked(&query).await?;
            ensure!(live == "1", "the live database has {live} rows of {}", receipt.id);
            let found = self.sql(RECOVERED, &query).await?;
            ensure!(found == expected, "as of {moment} there are {found} rows of {}, not {expected}", receipt.id);
        }
        progress::note(&format!(
            "recovered to {moment} in {:.1} s: the row before it is there, the one after it is not",
            took.as_secs_f64()
        ));
        Ok(())
    }
}
