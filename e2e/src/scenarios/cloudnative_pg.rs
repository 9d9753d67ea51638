//! The real CloudNativePG runs the database of a stack: it comes after the stack, grows, shrinks, loses its primary under load, gets
//! another image and a pooler and loses the pooler again, sleeps, and outlives the stack.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::kit::{App, CHART, CloudNativePg, Observed, Receipt, Stack, TestContext, install, project};
use crate::engine::image::data::POSTGRES;
use crate::engine::progress;

const EXAMPLE: &str = "cloudnativepg.yaml";
const READY_WITHIN: Duration = Duration::from_mins(4);
/// How late the stack may follow what CloudNativePG says of the database.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(2);
/// How often a receipt is sent.
const EVERY: Duration = Duration::from_millis(100);
const LOOKS: Duration = Duration::from_millis(50);
/// How long the application may take to serve again after its primary was lost.
const RECOVERS_WITHIN: Duration = Duration::from_mins(2);
/// How long a stack at rest is watched.
const WATCHED: Duration = Duration::from_secs(8);

pub(super) async fn run(test: &TestContext) -> Result<()> {
    let switched_on = ["--set=optionalApis.cloudNativePG=true", "--set=extraArgs={--discovery-period=2s}"];
    test.upgrade_operator(&project().join(CHART), &switched_on).await?;
    let project = CloudNativePg::of(test).await?;
    let played = play(test, &project).await;
    if played.is_err() {
        progress::note(&project.told().await);
    }
    // Other scenarios find no kind of CloudNativePG's, and the operator as it was.
    played.and(project.remove().await).and(install(test).await)
}

async fn play(test: &TestContext, project: &CloudNativePg<'_>) -> Result<()> {
    let database = Database { test, stack: test.stack("rorun") };
    database.comes_after_the_stack(project).await?;
    let app = test.app(&database.stack).await?;
    let first = test.first_receipt(&app, "3 sacks of garri, 21000").await?;
    database.is_at_rest("with one server").await?;
    database.is_dumped().await?;

    database.scales(3).await?;
    database.scales(2).await?;
    let receipts = database.loses_its_primary(&app).await?;
    database.gets_another_image(&app).await?;
    database.gets_a_pooler_and_loses_it(&app).await?;
    database.sleeps_and_wakes().await?;
    for receipt in receipts.iter().chain([&first]) {
        app.check(receipt).await?;
    }
    database.is_at_rest("after all of that").await?;
    database.outlives_the_stack(&first).await
}

struct Database<'a> {
    test: &'a TestContext,
    stack: Stack,
}

impl Database<'_> {
    async fn apply(&self) -> Result<Stack> {
        self.test
            .apply_example(EXAMPLE, |stack| {
                let block = &mut stack["spec"]["database"]["cloudNativePG"];
                *block = json!({
                    "instances": 1,
                    "image": POSTGRES,
                    "storage": {"size": "1Gi"},
                    "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
                    "parameters": {"shared_buffers": "16MB"},
                });
                stack["spec"]["backup"] = json!({"schedule": "0 0 29 2 *"});
            })
            .await
    }

    /// Without CloudNativePG the stack says what to install, and goes on by itself.
    async fn comes_after_the_stack(&self, project: &CloudNativePg<'_>) -> Result<()> {
        self.apply().await?;
        let missing = self.stack.wait_condition("DatabaseReady", "False", "MissingAPI", READY_WITHIN).await?;
        ensure!(missing.message.contains("install CloudNativePG"), "{}", missing.message);
        let restarts = self.test.operator_restarts().await?;
        project.install().await?;
        let began = Instant::now();
        let lag = self.follows("DatabaseReady", true).await?;
        self.stack.wait_ready(READY_WITHIN).await?;
        progress::note(&format!(
            "CloudNativePG came, and {:.1} s later the stack was ready, {} ms after the database",
            began.elapsed().as_secs_f64(),
            lag.as_millis()
        ));
        ensure!(self.test.operator_restarts().await? == restarts, "the operator was started again");
        Ok(())
    }

    async fn cluster(&self) -> Result<Value> {
        self.test.get(&self.test.namespace, "clusters.postgresql.cnpg.io", &self.stack.child("database")).await
    }

    /// Waits until the Cluster is as CloudNativePG wants it to be, and the stack too; gives how much later the stack was.
    async fn follows(&self, condition: &str, wanted: bool) -> Result<Duration> {
        let (mut own, mut ticks) = (None, interval(LOOKS));
        let began = Instant::now();
        loop {
            ticks.tick().await;
            let cluster = self.cluster().await?;
            let now = Instant::now();
            let conditions = cluster["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
            if ready == wanted {
                own.get_or_insert(now);
            } else {
                own = None;
            }
            let status = self.stack.status().await?;
            let told = status.condition(condition).is_some_and(|found| (found.status == "True") == wanted);
            if let (Some(own), true) = (own, told) {
                let lag = own.elapsed();
                ensure!(lag <= FOLLOWS_WITHIN, "{condition} followed {} ms after the database", lag.as_millis());
                return Ok(lag);
            }
            ensure!(began.elapsed() < READY_WITHIN, "{}; the Cluster: {}", status.line(condition), cluster["status"]);
        }
    }

    /// At rest the operator writes nothing, and asks nothing.
    async fn is_at_rest(&self, when: &str) -> Result<()> {
        self.stack.wait_ready(READY_WITHIN).await?;
        let mark = self.test.mark().await?;
        sleep(WATCHED).await;
        let writes = self.test.operator_writes_since(mark, &self.test.namespace).await?;
        ensure!(writes.0.is_empty(), "{when}, the operator wrote {:#?}", writes.lines());
        Ok(())
    }

    /// Over `DIRECT_URL`, with the servers' own image.
    async fn is_dumped(&self) -> Result<()> {
        self.stack.patch(json!({"metadata": {"annotations": {"rorun.app/backup": "1"}}})).await?;
        let done = |status: &super::kit::Status| !status.json["backup"]["lastSuccessful"].is_null();
        let status = self.stack.wait_status("a backup", READY_WITHIN, done).await?;
        progress::note(&format!("a dump of {} bytes", status.json["backup"]["lastSuccessful"]["sizeBytes"]));
        Ok(())
    }

    async fn scales(&self, instances: i64) -> Result<()> {
        let began = Instant::now();
        self.stack.patch_spec(json!({"database": {"cloudNativePG": {"instances": instances}}})).await?;
        let what = format!("{instances} servers");
        self.stack
            .wait(&what, READY_WITHIN, async || {
                let status = self.cluster().await?["status"].take();
                let there = status["readyInstances"] == instances && status["instances"] == instances;
                Ok(Observed::when(there, format!("{} of {}", status["readyInstances"], status["phase"])))
            })
            .await?;
        self.stack.wait_ready(READY_WITHIN).await?;
        progress::note(&format!("{what} after {:.1} s", began.elapsed().as_secs_f64()));
        let read = self.stack.connection().await?["DATABASE_READ_URL"].clone();
        ensure!(read.contains("-ro."), "{instances} servers, and reads go to {read}");
        Ok(())
    }

    /// Another server takes over. What was stored before is there; what is stored meanwhile may fail, and says so.
    async fn loses_its_primary(&self, app: &App) -> Result<Vec<Receipt>> {
        let primary = self.cluster().await?["status"]["currentPrimary"].as_str().context("a primary")?.to_owned();
        let kill = async {
            let delete =
                ["delete", "pod", &primary, "--namespace", &self.test.namespace, "--grace-period=0", "--force"];
            let began = Instant::now();
            self.test.kubectl(&delete).await?;
            self.stack
                .wait("another server to take over", RECOVERS_WITHIN, async || {
                    let status = self.cluster().await?["status"].take();
                    let there = status["currentPrimary"] != primary.as_str();
                    Ok(Observed::when(there, format!("{}: {}", status["currentPrimary"], status["phase"])))
                })
                .await?;
            let took_over = began.elapsed();
            // Until the server that was lost has come back, CloudNativePG does not call the Cluster ready.
            let lag = self.follows("DatabaseReady", true).await?;
            Ok((took_over, began.elapsed(), lag))
        };
        let ((took_over, ready, lag), stored) = stored_while(app, kill).await?;
        self.stack.wait_ready(READY_WITHIN).await?;
        let mut lost = 0;
        for receipt in &stored.answered {
            lost += usize::from(app.check(receipt).await.is_err());
        }
        progress::note(&format!(
            "the primary was deleted under load: another took over after {:.1} s, all were ready after {:.1} s, and the stack \
             followed {} ms later; {} of {} requests failed, the longest pause was {:.1} s, {lost} receipts are lost that were \
             acknowledged",
            took_over.as_secs_f64(),
            ready.as_secs_f64(),
            lag.as_millis(),
            stored.failed,
            stored.count(),
            stored.longest_pause.as_secs_f64()
        ));
        ensure!(!stored.answered.is_empty() && lost == 0, "{lost} of {} receipts are lost", stored.answered.len());
        Ok(stored.answered)
    }

    /// One server after the other.
    async fn gets_another_image(&self, app: &App) -> Result<()> {
        let image = CloudNativePg::NEXT_MINOR;
        let change = async {
            self.stack.patch_spec(json!({"database": {"cloudNativePG": {"image": image}}})).await?;
            self.stack
                .wait("every server to have the new image", READY_WITHIN, async || {
                    let pods = self.servers().await?;
                    let of = |pod: &Value| pod["spec"]["containers"][0]["image"] == image;
                    let status = self.cluster().await?["status"].take();
                    let there = pods.len() == 2 && pods.iter().all(of) && status["phase"] == "Cluster in healthy state";
                    Ok(Observed::when(there, format!("{} pods: {}", pods.len(), status["phase"])))
                })
                .await
        };
        let began = Instant::now();
        let ((), stored) = stored_while(app, change).await?;
        self.stack.wait_ready(READY_WITHIN).await?;
        progress::note(&format!(
            "another image in {:.1} s: {} of {} requests failed, the longest pause was {:.1} s",
            began.elapsed().as_secs_f64(),
            stored.failed,
            stored.count(),
            stored.longest_pause.as_secs_f64()
        ));
        self.holds_another_major_version().await
    }

    /// CloudNativePG would upgrade the files.
    async fn holds_another_major_version(&self) -> Result<()> {
        let before = self.cluster().await?["spec"]["imageName"].clone();
        let image = POSTGRES.replace(":17", ":18");
        self.stack.patch_spec(json!({"database": {"cloudNativePG": {"image": image}}})).await?;
        self.stack.wait_condition("DatabaseReady", "False", "VersionMismatch", READY_WITHIN).await?;
        ensure!(self.cluster().await?["spec"]["imageName"] == before, "the Cluster was changed");
        self.stack.patch_spec(json!({"database": {"cloudNativePG": {"image": CloudNativePg::NEXT_MINOR}}})).await?;
        self.stack.wait_ready(READY_WITHIN).await.map(drop)
    }

    async fn servers(&self) -> Result<Vec<Value>> {
        let selector = format!("cnpg.io/cluster={},cnpg.io/podRole=instance", self.stack.child("database"));
        self.test.list(&self.test.namespace, "pods", &selector).await
    }

    /// No request fails: the pooler goes only when no pod has a connection through it.
    async fn gets_a_pooler_and_loses_it(&self, app: &App) -> Result<()> {
        for on in [true, false] {
            let pooler = if on { json!({"instances": 1, "mode": "Transaction"}) } else { Value::Null };
            let change = async {
                self.stack.patch_spec(json!({"database": {"cloudNativePG": {"pooler": pooler}}})).await?;
                self.stack.wait_ready(READY_WITHIN).await?;
                self.stack
                    .wait("the pooler to be there or gone", READY_WITHIN, async || {
                        let name = self.stack.child("database-pooler");
                        let found = self.test.get(&self.test.namespace, "poolers.postgresql.cnpg.io", &name).await?;
                        Ok(Observed::when(found.is_null() != on, found["status"].to_string()))
                    })
                    .await
            };
            let began = Instant::now();
            let ((), stored) = stored_while(app, change).await?;
            progress::note(&format!(
                "the pooler {} in {:.1} s: {} of {} requests failed",
                if on { "came" } else { "went" },
                began.elapsed().as_secs_f64(),
                stored.failed,
                stored.count()
            ));
            ensure!(stored.failed == 0, "{} requests failed: {}", stored.failed, stored.said);
            let connection = self.stack.connection().await?;
            ensure!(connection["DATABASE_URL"].contains("-database-pooler.") == on, "DATABASE_URL leads elsewhere");
            ensure!(connection["DIRECT_URL"].contains("-database-rw."), "DIRECT_URL leads elsewhere");
        }
        Ok(())
    }

    async fn sleeps_and_wakes(&self) -> Result<()> {
        self.stack.patch_spec(json!({"hibernate": true})).await?;
        self.stack
            .wait("no server to run", READY_WITHIN, async || {
                let pods = self.servers().await?.len();
                Ok(Observed::when(pods == 0, format!("{pods} pods: {}", self.cluster().await?["status"]["phase"])))
            })
            .await?;
        self.stack.wait_ready(READY_WITHIN).await?;
        let began = Instant::now();
        self.stack.patch_spec(json!({"hibernate": false})).await?;
        self.stack.wait_ready(READY_WITHIN).await?;
        progress::note(&format!("it slept, and woke in {:.1} s", began.elapsed().as_secs_f64()));
        self.test.app(&self.stack).await.map(drop)
    }

    async fn outlives_the_stack(&self, receipt: &Receipt) -> Result<()> {
        let identity = |cluster: &Value| (cluster["metadata"]["uid"].clone(), cluster["spec"].clone());
        let before = identity(&self.cluster().await?);
        let spec = self.stack.resource().await?["spec"].clone();
        self.stack.delete(READY_WITHIN).await?;
        ensure!(self.cluster().await?["metadata"]["uid"] == before.0, "the Cluster went with the stack");
        let metadata = json!({"name": self.stack.name, "namespace": self.test.namespace});
        let stack =
            json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack", "metadata": metadata, "spec": spec});
        self.test.apply_objects(&stack).await?;
        self.stack.wait_ready(READY_WITHIN).await?;
        ensure!(identity(&self.cluster().await?) == before, "it is another Cluster");
        self.test.app(&self.stack).await?.check(receipt).await?;
        progress::note("the stack was deleted and made again: the same Cluster with its rows");
        Ok(())
    }
}

/// Receipts that were sent one after the other.
#[derive(Default)]
struct Stored {
    answered: Vec<Receipt>,
    failed: usize,
    /// What the last that failed ended with.
    said: String,
    /// Between two that were stored.
    longest_pause: Duration,
    last: Option<Instant>,
}

impl Stored {
    fn took(&mut self, answer: Result<Receipt>) {
        match answer {
            Ok(receipt) => {
                let pause = self.last.replace(Instant::now()).map_or(Duration::ZERO, |last| last.elapsed());
                self.longest_pause = self.longest_pause.max(pause);
                self.answered.push(receipt);
            }
            Err(error) => {
                self.failed += 1;
                self.said = format!("{error:#}");
            }
        }
    }

    fn count(&self) -> usize {
        self.failed + self.answered.len()
    }
}

/// Sends receipts while the work is done, and until one is stored after it.
async fn stored_while<T>(app: &App, work: impl Future<Output = Result<T>>) -> Result<(T, Stored)> {
    let stored = RefCell::new(Stored::default());
    let send = async || {
        let answer = app.send("1 crate of malt, 9500").await;
        stored.borrow_mut().took(answer);
    };
    let sending = async {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            send().await;
        }
    };
    let done = tokio::select! {
        done = work => done?,
        () = sending => bail!("the requests ended"),
    };
    let (ended, before) = (Instant::now(), stored.borrow().answered.len());
    let mut ticks = interval(EVERY);
    while stored.borrow().answered.len() == before {
        ticks.tick().await;
        send().await;
        ensure!(ended.elapsed() < RECOVERS_WITHIN, "the application did not recover: {}", stored.borrow().said);
    }
    Ok((done, stored.into_inner()))
}
