//! Kinds of other projects whose API is broken: it answers with an error, is gone, or does not answer at all, from the start or from
//! one moment on. Stacks that ask for nothing of it go on as without (O3), those that do say why (O4), and all are well once it is
//! mended, without a restart (O1). One of the two APIs holds data: no Cluster is deleted or made twice meanwhile.

mod cloud_native_pg;

use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use rorun_e2e::engine::schemas::{CLUSTERS, POOLERS, SERVICE_MONITORS};
use rorun_e2e::fake_controllers::FakeControllers;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::cloud_native_pg::CloudNativePg;
use crate::broken::Broken;
use crate::bucket::Bucket;
use crate::environment::{Operator, STACK, TestEnvironment};
use crate::proxy::FaultProxy;
use crate::suite::{Extent, Play, Suite, SuiteRun, Verdict};
use crate::test_context::within_polled;
use crate::workload;

/// A broken API of another project.
pub(crate) const SUITE: Suite = Suite {
    name: "optional",
    proves: "a broken API of another project stops no stack but what needs it, which goes on once it is mended",
    quick: true,
    play: Play::Alone(|run| Box::pin(play_suite(run))),
};

/// Beside an API that hangs a stack may take a little longer than by itself.
const WITHIN: Duration = Duration::from_secs(30);
/// How often is looked, by all plans at once.
const TICK: Duration = Duration::from_millis(100);

/// Plans side by side: most of their time is waited.
const AT_ONCE: usize = 8;

const FAULTS: [Broken; 4] = [Broken::Answers(500), Broken::Answers(404), Broken::Answers(410), Broken::Hangs];

/// Whose API is broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum OptionalApi {
    #[default]
    PrometheusOperator,
    CloudNativePG,
}

impl OptionalApi {
    fn group(self) -> &'static str {
        match self {
            OptionalApi::PrometheusOperator => "monitoring.coreos.com",
            OptionalApi::CloudNativePG => cloud_native_pg::GROUP,
        }
    }

    /// As the operator is told that it may use it.
    fn argument(self) -> &'static str {
        match self {
            OptionalApi::PrometheusOperator => "prometheusOperator",
            OptionalApi::CloudNativePG => "cloudNativePG",
        }
    }

    /// The condition of what needs it.
    fn condition(self) -> &'static str {
        match self {
            OptionalApi::PrometheusOperator => "MonitoringReady",
            OptionalApi::CloudNativePG => "DatabaseReady",
        }
    }

    /// Asks for its kind, each time for another object of it.
    fn ask(self, spec: &mut Value, time: usize) {
        match self {
            OptionalApi::PrometheusOperator => spec["monitoring"] = json!({"scrape": true}),
            OptionalApi::CloudNativePG => cloud_native_pg::ask(spec, time + 1),
        }
    }
}

/// A plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Case {
    #[serde(default)]
    api: OptionalApi,
    /// One of [`FAULTS`].
    fault: usize,
    /// It breaks once both stacks are made.
    late: bool,
}

impl Case {
    /// Every fault of either API, from the start and later.
    fn all() -> Vec<Case> {
        let apis = [OptionalApi::PrometheusOperator, OptionalApi::CloudNativePG];
        let of = |api| {
            [false, true]
                .into_iter()
                .flat_map(move |late| (0..FAULTS.len()).map(move |fault| Case { api, fault, late }))
        };
        apis.into_iter().flat_map(of).collect()
    }

    fn broken(self) -> Result<Broken> {
        FAULTS.get(self.fault).copied().context("there is no such fault")
    }

    fn told(self) -> Result<String> {
        let when = if self.late { "while it is used" } else { "from the start" };
        Ok(format!("{} {:?}, {when}", self.api.argument(), self.broken()?))
    }
}

async fn play_suite(run: &SuiteRun<'_>) -> Result<()> {
    let environment = TestEnvironment::open(run.cache).await?;
    let (_controllers, bucket) =
        (FakeControllers::start(environment.client.clone(), Duration::ZERO), Bucket::start().await?);
    for schema in [&SERVICE_MONITORS, &CLUSTERS, &POOLERS] {
        environment.define(schema).await?;
    }
    let chosen = match &run.extent {
        Extent::Only(plan) => vec![serde_json::from_value(plan.clone()).context("this is no plan of this suite")?],
        Extent::Quick | Extent::Whole => Case::all(),
    };
    let play = async |case: Case| {
        let problems = play(&environment, &bucket, case).await?;
        run.report(&Verdict { plan: case.told()?, problems, replay: serde_json::to_value(case)? })
    };
    let mut playing = futures::stream::iter(chosen).map(play).buffer_unordered(AT_ONCE);
    while let Some(played) = playing.next().await {
        played?;
    }
    Ok(())
}

/// The stacks of one operator, each in a namespace of its own.
struct TwoStacks<'a> {
    environment: &'a TestEnvironment,
    api: OptionalApi,
    proxy: FaultProxy,
    operator: Operator,
    /// Where the stack is that asks for nothing of the API.
    plain: String,
    /// Where the one is that does.
    asking: String,
    database: CloudNativePg,
}

impl<'a> TwoStacks<'a> {
    async fn open(environment: &'a TestEnvironment, case: Case) -> Result<TwoStacks<'a>> {
        let (plain, asking) = (environment.namespace().await?, environment.namespace().await?);
        for namespace in [&plain, &asking] {
            workload::prepare(environment, namespace).await?;
        }
        let proxy = FaultProxy::start(environment.client.clone(), || {}).await?;
        if !case.late {
            proxy.break_api(case.api.group(), case.broken()?);
        }
        let namespaces = format!("{plain},{asking}");
        let api = case.api.argument();
        let arguments = ["--watch-namespace", &namespaces, "--optional-api", api, "--discovery-period", "1s"];
        let operator = environment.operator_with(&plain, &proxy, &arguments)?;
        let database = CloudNativePg::of(&environment.client, &asking);
        Ok(TwoStacks { environment, api: case.api, proxy, operator, plain, asking, database })
    }

    /// Makes both stacks, or changes them.
    async fn apply(&self, bucket: &Bucket, time: usize) -> Result<()> {
        let mut spec = workload::whole(&bucket.endpoint);
        spec["api"]["image"] = json!(format!("rorun-api:{time}"));
        self.environment.apply(&self.plain, &spec).await?;
        self.api.ask(&mut spec, time);
        self.environment.apply(&self.asking, &spec).await
    }

    /// Whether a condition has this status in the newest status of a stack.
    async fn has(&self, namespace: &str, kind: &str, status: &str) -> Result<bool> {
        if self.api == OptionalApi::CloudNativePG {
            self.database.act().await?;
        }
        let stack = self.environment.stacks(namespace).get(STACK).await?;
        let told = &stack.data["status"];
        let conditions = told["conditions"].as_array().into_iter().flatten();
        let found = conditions.filter(|one| one["type"] == kind && one["status"] == status).count();
        Ok(found == 1 && told["observedGeneration"].as_i64() == stack.metadata.generation)
    }

    /// Waits for a condition; a problem if it does not come.
    async fn expect(&self, problems: &mut Vec<String>, what: (&str, &str, &str), oracle: &str) -> Result<()> {
        let (namespace, kind, status) = what;
        if within_polled(TICK, WITHIN, async || self.has(namespace, kind, status).await).await?.is_none() {
            let stack = self.environment.stacks(namespace).get(STACK).await?;
            let of = if namespace == self.plain { "without it" } else { "that asks for it" };
            let conditions = told(&stack.data);
            problems.push(format!("{oracle} {kind} of the stack {of} is not {status} in time: {conditions}"));
        }
        Ok(())
    }

    /// Waits until what needs the API is well.
    async fn expect_well(&self, problems: &mut Vec<String>) -> Result<()> {
        self.expect(problems, (&self.asking, self.api.condition(), "True"), "O1").await
    }
}

fn told(stack: &Value) -> String {
    let conditions = stack.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let told = conditions.map(|one| format!("{} {} {} {}", one["type"], one["status"], one["reason"], one["message"]));
    told.collect::<Vec<_>>().join(", ")
}

async fn play(environment: &TestEnvironment, bucket: &Bucket, case: Case) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let mark = tokio::task::block_in_place(|| environment.server.mark())?;
    let mut stacks = TwoStacks::open(environment, case).await?;
    let holds_data = case.api == OptionalApi::CloudNativePG;
    stacks.apply(bucket, 1).await?;
    if case.late {
        stacks.expect_well(&mut problems).await?;
        stacks.proxy.break_api(case.api.group(), case.broken()?);
        stacks.apply(bucket, 2).await?;
    }
    let before = stacks.database.cluster().await?;
    if holds_data || !case.late {
        stacks.expect(&mut problems, (&stacks.asking, case.api.condition(), "False"), "O4").await?;
    }
    stacks.expect(&mut problems, (&stacks.plain, "Ready", "True"), "O3").await?;
    if !holds_data {
        // What serves does not need it.
        stacks.expect(&mut problems, (&stacks.asking, "Ready", "True"), "O3").await?;
    }
    stacks.proxy.mend_api();
    for namespace in [&stacks.plain, &stacks.asking] {
        stacks.expect(&mut problems, (namespace, "Ready", "True"), "O1").await?;
    }
    stacks.expect_well(&mut problems).await?;
    if holds_data {
        let after = stacks.database.cluster().await?;
        problems.extend((case.late && after != before).then(|| format!("O4 the Cluster is {after:?}, not {before:?}")));
        let (instances, wanted) = (stacks.database.instances().await?, if case.late { 3 } else { 2 });
        let differs = instances != Some(wanted);
        problems.extend(differs.then(|| format!("O1 the Cluster has {instances:?} instances, not {wanted}")));
        let calls = tokio::task::block_in_place(|| environment.server.calls_since(mark))?;
        problems.extend(cloud_native_pg::problems(&calls, &stacks.asking));
    }
    if let Some(status) = stacks.operator.child.try_wait()? {
        problems.push(format!("O8 the operator ended by itself, {status}"));
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_as_it_is_written_and_one_from_before_there_were_two_apis_too() {
        let all = Case::all();
        assert_eq!(all.len(), 2 * 2 * FAULTS.len());
        for case in all {
            let text = serde_json::to_string(&case).expect("text");
            assert_eq!(serde_json::from_str::<Case>(&text).expect("a plan"), case, "{text}");
        }
        let before: Case = serde_json::from_str(r#"{"fault": 3, "late": true}"#).expect("a plan");
        assert_eq!(before, Case { api: OptionalApi::PrometheusOperator, fault: 3, late: true });
    }
}
