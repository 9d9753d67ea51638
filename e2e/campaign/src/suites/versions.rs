//! The version before settles stacks, this one takes over, killed before each of its first writes, and the version before
//! takes over again: no pod is replaced (O1), no credentials change and nothing is deleted (O4), and both come to rest (O3).

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use rorun_e2e::engine::progress::Step;
use rorun_e2e::fake_controllers::FakeControllers;
use rorun_e2e::scenarios::kit::{Previous, operator_binary, project};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::bucket::Bucket;
use crate::environment::{STACK, TestEnvironment};
use crate::plan::{Call, Fault, Plan};
use crate::suite::{Extent, Play, Suite, SuiteRun, Verdict};
use crate::test_context::{TestContext, children, within};
use crate::{play, workload};

/// The version before, and back.
pub(crate) const SUITE: Suite = Suite {
    name: "versions",
    proves: "an upgrade from the version before and the way back replace no pod, change no credentials and delete nothing",
    quick: false,
    play: Play::Alone(|run| Box::pin(play_suite(run))),
};

const DONE_WITHIN: Duration = Duration::from_mins(2);
/// Longer than an operator takes to list, and its first retries.
const QUIET: Duration = Duration::from_secs(2);

/// What happens after the version before has settled.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Case {
    /// This version takes over, killed before this write of its own, if it is not 0.
    Forth { killed_before: usize },
    /// The version before takes over from this one.
    Back,
    /// This version makes a stack under the definition of the version before.
    FormerDefinition,
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Case::Forth { killed_before: 0 } => formatter.write_str("this version takes over"),
            Case::Forth { killed_before } => {
                write!(formatter, "this version takes over, killed before write {killed_before}")
            }
            Case::Back => formatter.write_str("the version before takes over again"),
            Case::FormerDefinition => formatter.write_str("this version under the former definition"),
        }
    }
}

/// What must not change of a child.
#[derive(Clone, Debug, PartialEq)]
struct Preserved {
    uid: Option<String>,
    /// Of what runs pods.
    generation: Option<i64>,
    template: Option<Value>,
    credentials: Option<Value>,
}

struct UpgradeTest<'a> {
    environment: &'a TestEnvironment,
    test: TestContext<'a>,
    namespaces: Vec<String>,
    previous: Previous,
    current: PathBuf,
}

async fn play_suite(run: &SuiteRun<'_>) -> Result<()> {
    let cache = run.cache.clone();
    let previous = if run.extent == Extent::Quick {
        Previous::built(&cache)?
    } else {
        Some(tokio::task::spawn_blocking(move || Previous::build(&cache)).await.context("the build panicked")??)
    };
    let Some(previous) = previous else {
        println!(
            "versions: skipped, since the version before is not built yet: `cargo e2e campaign versions` builds it"
        );
        return Ok(());
    };
    let stacks = if run.extent == Extent::Quick { 4 } else { 30 };
    let environment = TestEnvironment::open(run.cache).await?;
    let (_controllers, bucket) =
        (FakeControllers::start(environment.client.clone(), Duration::ZERO), Bucket::start().await?);
    let mut upgrade = UpgradeTest::open(&environment, previous, stacks).await?;
    let step = Step::start(&format!("versions: {stacks} stacks"), "made by the version before");
    upgrade.run(upgrade.previous.program.clone(), &bucket, true).await?;
    step.done();
    if let Extent::Only(plan) = &run.extent {
        let case: Case = serde_json::from_value(plan.clone()).context("this is no plan of this suite")?;
        return upgrade.tell(run, &bucket, case).await.map(drop);
    }
    let writes = upgrade.tell(run, &bucket, Case::Forth { killed_before: 0 }).await?;
    let back = upgrade.tell(run, &bucket, Case::Back).await?;
    println!(
        "versions: {writes} writes by this version when it takes over {stacks} stacks, {back} by the version before"
    );
    let (few, step) = if run.extent == Extent::Quick { (3, 1) } else { (writes, writes.div_ceil(60).max(1)) };
    for killed_before in (1..=writes.min(few)).step_by(step) {
        upgrade.tell(run, &bucket, Case::Forth { killed_before }).await?;
        upgrade.tell(run, &bucket, Case::Back).await?;
    }
    for case in play::found_plans("versions")? {
        upgrade.tell(run, &bucket, case).await?;
    }
    upgrade.tell(run, &bucket, Case::FormerDefinition).await.map(drop)
}

impl<'a> UpgradeTest<'a> {
    async fn open(environment: &'a TestEnvironment, previous: Previous, stacks: usize) -> Result<UpgradeTest<'a>> {
        let test = TestContext::open_for(environment, String::new(), environment.client.clone(), None).await?;
        let mut namespaces = Vec::new();
        for _ in 0..stacks {
            let namespace = environment.namespace().await?;
            workload::prepare(environment, &namespace).await?;
            namespaces.push(namespace);
        }
        Ok(UpgradeTest { environment, test, namespaces, previous, current: operator_binary()? })
    }

    async fn tell(&mut self, run: &SuiteRun<'_>, bucket: &Bucket, case: Case) -> Result<usize> {
        let (problems, writes) = match self.play(bucket, &case).await {
            Ok(played) => played,
            Err(error) => (vec![format!("O3 {error:#}")], 0),
        };
        run.report(&Verdict { plan: case.to_string(), problems, replay: serde_json::to_value(&case)? })?;
        Ok(writes)
    }

    async fn play(&mut self, bucket: &Bucket, case: &Case) -> Result<(Vec<String>, usize)> {
        let (before, begun) = (self.preserved().await?, self.test.proxy.writes().len());
        self.test.kill().await?;
        let mark = tokio::task::block_in_place(|| self.environment.server.mark())?;
        let mut problems = Vec::new();
        match case {
            Case::Forth { killed_before } => {
                let text = std::fs::read_to_string(project().join("crds/rorunstacks.rorun.app.yaml"))?;
                self.define(&text).await?;
                let fatal = Plan { at: Call::any_write(), occurrence: *killed_before, fault: Fault::KillBefore };
                self.test.proxy.arm(Some(fatal).filter(|_| *killed_before > 0));
                self.run(self.current.clone(), bucket, false).await?;
                self.test.proxy.arm(None);
            }
            Case::Back => self.run(self.previous.program.clone(), bucket, false).await?,
            Case::FormerDefinition => {
                let text = self.previous.definition.clone();
                self.define(&text).await?;
                let namespace = self.environment.namespace().await?;
                workload::prepare(self.environment, &namespace).await?;
                self.namespaces.push(namespace);
                self.run(self.current.clone(), bucket, true).await?;
            }
        }
        let after = self.preserved().await?;
        for (what, wanted) in &before {
            match after.get(what) {
                None => problems.push(format!("O4 {what} is gone")),
                Some(now) if now != wanted => problems.push(format!("O1 {what} changed: {now:?}, not {wanted:?}")),
                Some(_) => {}
            }
        }
        let calls = tokio::task::block_in_place(|| self.environment.server.calls_since(mark))?;
        let deleted =
            calls.iter().filter(|call| call.verb == "delete" && call.user_agent.starts_with("rorun-operator"));
        problems.extend(deleted.map(|call| format!("O4 {}/{} was deleted", call.resource, call.name)));
        Ok((problems, self.test.proxy.writes().len() - begun))
    }

    /// Runs a version until all stacks are ready and nothing is written any more.
    async fn run(&mut self, program: PathBuf, bucket: &Bucket, apply: bool) -> Result<()> {
        self.environment.use_operator(program);
        self.test.start()?;
        if apply {
            for namespace in &self.namespaces {
                self.environment.apply(namespace, &workload::whole(&bucket.endpoint)).await?;
            }
        }
        let begun = Instant::now();
        loop {
            if let Some(ended) = self.test.ended()? {
                anyhow::ensure!(ended.contains("signal: 9"), "{ended}");
                self.test.start()?;
                self.test.proxy.touch();
            }
            let rests = begun.elapsed() > QUIET && self.test.proxy.last_write().elapsed() > QUIET;
            if rests && within(Duration::ZERO, async || self.all_ready().await).await?.is_some() {
                return Ok(());
            }
            anyhow::ensure!(begun.elapsed() < DONE_WITHIN, "no rest within {} s", DONE_WITHIN.as_secs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn all_ready(&self) -> Result<bool> {
        for namespace in &self.namespaces {
            let stack = self.environment.stacks(namespace).get(STACK).await?;
            let conditions = stack.data.pointer("/status/conditions").and_then(Value::as_array).cloned();
            let ready = conditions.unwrap_or_default();
            if !ready.iter().any(|one| one["type"] == "Ready" && one["status"] == "True") {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn define(&self, text: &str) -> Result<()> {
        let definition: CustomResourceDefinition = serde_saphyr::from_str(text)?;
        let definitions = Api::<CustomResourceDefinition>::all(self.environment.client.clone());
        let params = PatchParams::apply("helm").force();
        let patch = serde_json::to_value(&definition)?;
        definitions.patch("rorunstacks.rorun.app", &params, &Patch::Apply(&patch)).await?;
        Ok(())
    }

    async fn preserved(&self) -> Result<BTreeMap<String, Preserved>> {
        let mut all = BTreeMap::new();
        for namespace in &self.namespaces {
            for (kind, child) in children(&self.environment.client, namespace).await? {
                let data = child.labels().contains_key("rorun.app/retained").then(|| child.data["data"].clone());
                let kept = Preserved {
                    uid: child.uid(),
                    generation: child.metadata.generation,
                    template: child.data.pointer("/spec/template").cloned(),
                    credentials: data.filter(|data| *data != json!(null)),
                };
                all.insert(format!("{namespace} {kind}/{}", child.name_any()), kept);
            }
        }
        Ok(all)
    }
}
