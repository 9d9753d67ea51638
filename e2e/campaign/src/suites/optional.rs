//! Kinds of other projects whose API is broken: it answers with an error, is gone, or does not answer at all, from the start or from
//! one moment on. Stacks that ask for nothing of it go on as without (O3), those that do say why (O4), and all are well once it is
//! mended, without a restart (O1).

use std::time::Duration;

use anyhow::Result;
use rorun_e2e::engine::schemas::SERVICE_MONITORS;
use rorun_e2e::fake_controllers::FakeControllers;
use serde_json::{Value, json};

use crate::broken::Broken;
use crate::bucket::Bucket;
use crate::environment::{Operator, STACK, TestEnvironment};
use crate::proxy::FaultProxy;
use crate::suite::{Extent, Play, Suite, SuiteRun, Verdict};
use crate::test_context::within;
use crate::workload;

/// A broken API of another project.
pub(crate) const SUITE: Suite = Suite {
    name: "optional",
    proves: "a broken API of another project stops no stack but what needs it, which goes on once it is mended",
    quick: true,
    play: Play::Alone(|run| Box::pin(play_suite(run))),
};

const GROUP: &str = "monitoring.coreos.com";
const ARGUMENTS: [&str; 4] = ["--optional-api", "prometheusOperator", "--discovery-period", "1s"];
/// Beside an API that hangs a stack may take a little longer than by itself.
const WITHIN: Duration = Duration::from_secs(30);

const FAULTS: [Broken; 4] = [Broken::Answers(500), Broken::Answers(404), Broken::Answers(410), Broken::Hangs];

async fn play_suite(run: &SuiteRun<'_>) -> Result<()> {
    let environment = TestEnvironment::open(run.cache).await?;
    let (_controllers, bucket) =
        (FakeControllers::start(environment.client.clone(), Duration::ZERO), Bucket::start().await?);
    environment.define(&SERVICE_MONITORS).await?;
    let late = [false, true];
    let chosen = match &run.extent {
        Extent::Only(plan) => {
            let plan = (plan["fault"].as_u64(), plan["late"].as_bool());
            vec![(usize::try_from(plan.0.unwrap_or_default())?, plan.1.unwrap_or_default())]
        }
        Extent::Quick | Extent::Whole => late.iter().flat_map(|late| (0..FAULTS.len()).map(|at| (at, *late))).collect(),
    };
    let plays = chosen.into_iter().map(async |(index, late)| {
        let problems = play(&environment, &bucket, FAULTS[index], late).await?;
        let plan = format!("{:?}{}", FAULTS[index], if late { ", while it is used" } else { ", from the start" });
        run.report(&Verdict { plan, problems, replay: json!({"fault": index, "late": late}) })
    });
    futures::future::try_join_all(plays).await?;
    Ok(())
}

/// The stacks of one operator, each in a namespace of its own.
struct TwoStacks<'a> {
    environment: &'a TestEnvironment,
    proxy: FaultProxy,
    operator: Operator,
    plain: String,
    scraped: String,
}

impl<'a> TwoStacks<'a> {
    async fn open(environment: &'a TestEnvironment, broken: Option<Broken>) -> Result<TwoStacks<'a>> {
        let (plain, scraped) = (environment.namespace().await?, environment.namespace().await?);
        for namespace in [&plain, &scraped] {
            workload::prepare(environment, namespace).await?;
        }
        let proxy = FaultProxy::start(environment.client.clone(), || {}).await?;
        if let Some(broken) = broken {
            proxy.break_api(GROUP, broken);
        }
        let namespaces = format!("{plain},{scraped}");
        let arguments: Vec<&str> = ["--watch-namespace", &namespaces].into_iter().chain(ARGUMENTS).collect();
        let operator = environment.operator_with(&plain, &proxy, &arguments)?;
        Ok(TwoStacks { environment, proxy, operator, plain, scraped })
    }

    async fn apply(&self, bucket: &Bucket, image: &str) -> Result<()> {
        let mut spec = workload::whole(&bucket.endpoint);
        spec["api"]["image"] = json!(image);
        self.environment.apply(&self.plain, &spec).await?;
        spec["monitoring"] = json!({"scrape": true});
        self.environment.apply(&self.scraped, &spec).await
    }

    /// Whether a condition has this status in the newest status of a stack.
    async fn has(&self, namespace: &str, kind: &str, status: &str) -> Result<bool> {
        let stack = self.environment.stacks(namespace).get(STACK).await?;
        let told = &stack.data["status"];
        let conditions = told["conditions"].as_array().into_iter().flatten();
        let found = conditions.filter(|one| one["type"] == kind && one["status"] == status).count();
        Ok(found == 1 && told["observedGeneration"].as_i64() == stack.metadata.generation)
    }

    /// Waits for a condition; a problem if it does not come.
    async fn expect(&self, problems: &mut Vec<String>, what: (&str, &str, &str), oracle: &str) -> Result<()> {
        let (namespace, kind, status) = what;
        if within(WITHIN, async || self.has(namespace, kind, status).await).await?.is_none() {
            let stack = self.environment.stacks(namespace).get(STACK).await?;
            let of = if namespace == self.plain { "without it" } else { "that asks for it" };
            let conditions = told(&stack.data);
            problems.push(format!("{oracle} {kind} of the stack {of} is not {status} in time: {conditions}"));
        }
        Ok(())
    }
}

fn told(stack: &Value) -> String {
    let conditions = stack.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let told = conditions.map(|one| format!("{} {} {}", one["type"], one["status"], one["reason"]));
    told.collect::<Vec<_>>().join(", ")
}

/// `late`: it breaks once both stacks are made.
async fn play(environment: &TestEnvironment, bucket: &Bucket, broken: Broken, late: bool) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut stacks = TwoStacks::open(environment, Some(broken).filter(|_| !late)).await?;
    stacks.apply(bucket, "rorun-api:1").await?;
    if late {
        stacks.expect(&mut problems, (&stacks.scraped, "MonitoringReady", "True"), "O1").await?;
        stacks.proxy.break_api(GROUP, broken);
        stacks.apply(bucket, "rorun-api:2").await?;
    } else {
        // What serves does not need it.
        stacks.expect(&mut problems, (&stacks.scraped, "MonitoringReady", "False"), "O4").await?;
    }
    for namespace in [&stacks.plain, &stacks.scraped] {
        stacks.expect(&mut problems, (namespace, "Ready", "True"), "O3").await?;
    }
    stacks.proxy.mend_api();
    for namespace in [&stacks.plain, &stacks.scraped] {
        stacks.expect(&mut problems, (namespace, "Ready", "True"), "O1").await?;
    }
    stacks.expect(&mut problems, (&stacks.scraped, "MonitoringReady", "True"), "O1").await?;
    if let Some(status) = stacks.operator.child.try_wait()? {
        problems.push(format!("O8 the operator ended by itself, {status}"));
    }
    Ok(problems)
}
