//! A stack is deleted, alone or with its namespace, before each write of its creation and when it is settled, and made again
//! under its name while the former one is being collected. A controller-manager does what it does in a cluster. In the end
//! nothing of the former is left but what the spec keeps (O4), the new one is as if there had been none before (O1), nothing
//! waits for ever (O3), and the operator does not end (O8).

mod aftermath;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, DynamicObject, PropagationPolicy};
use kube::{Client, ResourceExt};
use rorun_e2e::engine::progress::Step;
use rorun_e2e::engine::test_server::TestServer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use self::aftermath::{namespace_goes, stack_goes};
use crate::environment::{STACK, TestEnvironment, apply};
use crate::plan::{Call, Fault, Plan, always, numbered};
use crate::snapshot::{Leaves, Reference, take};
use crate::suite::{Extent, Play, Suite, SuiteRun, Verdict};
use crate::sync::lock;
use crate::test_context::{Meanwhile, TestContext, all_well, children, objects, within};
use crate::{play, workload};

/// A stack that is deleted, and made again.
pub(crate) const SUITE: Suite = Suite {
    name: "deletion",
    proves: "a stack that is deleted at any moment, in any way, leaves just what its spec keeps, and can be made again at once",
    quick: true,
    play: Play::Alone(|run| Box::pin(play_suite(run))),
};

const AT_ONCE: usize = 4;
const STACK_KIND: &str = "RorunStack";
const CLEAN_RUNS: usize = 3;
/// Of so many plans the quick form plays one.
const SAMPLE: usize = 23;
/// Collecting and the retries of what waits for it.
const DONE_WITHIN: Duration = Duration::from_secs(40);
/// What is deleted, when and how, and what the user does next.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    /// Just before this write and occurrence of a creation; when the stack is settled if there is none.
    before: Option<(Call, usize)>,
    how: How,
    /// Whether `deletionPolicy` is Delete.
    data_go: bool,
    again: Again,
}

/// What is deleted, and what becomes of what it owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum How {
    Background,
    Foreground,
    Orphan,
    /// The namespace with all that is in it.
    Namespace,
}

/// When the user makes a stack of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Again {
    Never,
    /// As soon as the name is free: in the same moment if the stack is gone at once.
    AtOnce,
    /// When so many children of the former are left.
    Left(usize),
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.before {
            Some((call, occurrence)) => write!(formatter, "before {call} no. {occurrence}")?,
            None => write!(formatter, "settled")?,
        }
        let data = if self.data_go { "data go" } else { "data stay" };
        write!(formatter, ", {:?}, {data}, again {:?}", self.how, self.again)
    }
}

/// What was there when the stack was deleted.
#[derive(Debug, Default)]
struct Former {
    uid: String,
    /// By kind and name: uid, and content.
    data: BTreeMap<String, (String, Value)>,
    owned: BTreeMap<String, String>,
}

struct Learnt {
    /// Of a stack whose data stay, and of one whose data go.
    writes: [Vec<(Call, usize)>; 2],
    kept: Reference,
    gone: Reference,
}

async fn play_suite(run: &SuiteRun<'_>) -> Result<()> {
    let environment = TestEnvironment::open_with(run.cache, TestServer::with_controller_manager).await?;
    let step = Step::start("deletion: learning", "how a stack is made beside a controller-manager");
    let (kept, writes) = learn(&environment, false).await?;
    let (gone, writes_gone) = learn(&environment, true).await?;
    let learnt = Learnt { writes: [writes, writes_gone], kept, gone };
    step.done();
    let cases = match &run.extent {
        Extent::Only(plan) => vec![serde_json::from_value(plan.clone()).context("this is no plan of this suite")?],
        Extent::Whole => plans(&learnt.writes),
        Extent::Quick => {
            let mut cases: Vec<Case> = plans(&learnt.writes).into_iter().step_by(SAMPLE).collect();
            cases.extend(play::found_plans("deletion")?);
            cases
        }
    };
    let step = Step::start(&format!("deletion: {} plans, {} writes", cases.len(), learnt.writes[0].len()), "");
    let mut playing =
        futures::stream::iter(cases).map(|case| judge(&environment, &learnt, case)).buffer_unordered(AT_ONCE);
    while let Some(verdict) = playing.next().await {
        run.report(&verdict?)?;
    }
    step.done();
    Ok(())
}

fn plans(writes: &[Vec<(Call, usize)>; 2]) -> Vec<Case> {
    let mut cases = Vec::new();
    for (data_go, writes) in [false, true].into_iter().zip(writes) {
        for before in writes.iter().cloned().map(Some).chain([None]) {
            for how in [How::Background, How::Foreground, How::Orphan, How::Namespace] {
                let left = [Again::Never, Again::AtOnce, Again::Left(10), Again::Left(1)];
                let agains = match (how, &before) {
                    (How::Namespace, _) => &left[..1],
                    (_, None) => &left[..],
                    (_, Some(_)) => &left[..2],
                };
                let case = |again: &Again| Case { before: before.clone(), how, data_go, again: *again };
                cases.extend(agains.iter().map(case));
            }
        }
    }
    cases
}

fn spec(data_go: bool) -> Value {
    if data_go { workload::deleting() } else { json!(workload::spec()) }
}

/// What the user makes before all else: what a spec names.
async fn test(environment: &TestEnvironment, meanwhile: impl FnOnce(&str) -> Meanwhile) -> Result<TestContext<'_>> {
    let namespace = environment.namespace().await?;
    workload::prepare(environment, &namespace).await?;
    let meanwhile = meanwhile(&namespace);
    TestContext::open_for(environment, namespace, environment.client.clone(), Some(meanwhile)).await
}

/// What a creation comes to, and the writes that come in each: how many statuses are told depends on time.
async fn learn(environment: &TestEnvironment, data_go: bool) -> Result<(Reference, Vec<(Call, usize)>)> {
    let (mut runs, mut writes) = (Vec::new(), Vec::new());
    for _ in 0..CLEAN_RUNS {
        let mut test = test(environment, |_| Box::new(|| {})).await?;
        environment.apply(&test.namespace, &spec(data_go)).await?;
        all_well("without a deletion", &test.settle(false).await?)?;
        runs.push(leaves(&test).await?);
        writes.push(numbered(test.proxy.writes()));
    }
    Ok((Reference::learn(&runs), always(writes)))
}

/// What the operator sets: what controllers tell of pods that never come is not compared.
async fn leaves(test: &TestContext<'_>) -> Result<Leaves> {
    let mut leaves = take(&test.environment.client, &test.namespace).await?;
    leaves.retain(|path, _| {
        !path.contains("/status/")
            && !path.contains("/metadata/annotations/deployment.kubernetes.io")
            // How often an object was changed since it was adopted, not what it is.
            && !path.ends_with("/metadata/generation")
            && !path.contains("/default/")
            && !path.contains("/kube-root-ca.crt/")
    });
    Ok(leaves)
}

async fn judge(environment: &TestEnvironment, learnt: &Learnt, case: Case) -> Result<Verdict> {
    let problems = match play_case(environment, learnt, &case).await {
        Ok(problems) => problems,
        Err(error) => vec![format!("O3 {error:#}")],
    };
    Ok(Verdict { plan: case.to_string(), problems, replay: serde_json::to_value(&case)? })
}

async fn play_case(environment: &TestEnvironment, learnt: &Learnt, case: &Case) -> Result<Vec<String>> {
    let former = Arc::new(Mutex::new(Former::default()));
    let mark = tokio::task::block_in_place(|| environment.server.mark())?;
    let (client, of, outcome) = (environment.client.clone(), case.clone(), Arc::new(Mutex::new(None::<Result<()>>)));
    let meanwhile = {
        let (former, outcome) = (Arc::clone(&former), Arc::clone(&outcome));
        move |namespace: &str| -> Meanwhile {
            let (namespace, handle) = (namespace.to_owned(), Handle::current());
            Box::new(move || {
                let done = handle.block_on(delete(&client, &namespace, &of, &former));
                *lock(&outcome) = Some(done);
            })
        }
    };
    let mut test = test(environment, meanwhile).await?;
    let mut problems = Vec::new();
    if let Some((at, occurrence)) = case.before.clone() {
        test.proxy.arm([Plan { at, occurrence, fault: Fault::Meanwhile }]);
    }
    environment.apply(&test.namespace, &spec(case.data_go)).await?;
    if case.before.is_none() {
        problems.extend(test.settle(false).await?);
        delete(&environment.client, &test.namespace, case, &former).await?;
    } else {
        test.start()?;
        let met = within(DONE_WITHIN, async || Ok(lock(&outcome).is_some())).await?;
        met.context("the write that the plan names never came")?;
        lock(&outcome).take().unwrap_or(Ok(()))?;
    }
    let former = std::mem::take(&mut *lock(&former));
    if case.how == How::Namespace {
        problems.extend(namespace_goes(&test, mark).await?);
    } else {
        problems.extend(stack_goes(&mut test, learnt, case, &former).await?);
    }
    problems.extend(test.ended()?);
    Ok(problems)
}

/// Deletes, and notes what was there.
async fn delete(client: &Client, namespace: &str, case: &Case, former: &Mutex<Former>) -> Result<()> {
    let stacks = objects(client, namespace, STACK_KIND)?;
    let uid = stacks.get(STACK).await?.uid().unwrap_or_default();
    let mut observed = Former { uid: uid.clone(), ..Former::default() };
    for (kind, object) in children(client, namespace).await? {
        let (key, of) = (format!("{kind}/{}", object.name_any()), object.uid().unwrap_or_default());
        if is_data(&object) {
            observed.data.insert(key, (of, object.data["data"].clone()));
        } else if owned_by(&object, &uid) {
            observed.owned.insert(key, of);
        }
    }
    *lock(former) = observed;
    let propagation = match case.how {
        How::Namespace => {
            Api::<Namespace>::all(client.clone()).delete(namespace, &DeleteParams::default()).await?;
            return Ok(());
        }
        How::Background => PropagationPolicy::Background,
        How::Foreground => PropagationPolicy::Foreground,
        How::Orphan => PropagationPolicy::Orphan,
    };
    let params = DeleteParams { propagation_policy: Some(propagation), ..DeleteParams::default() };
    stacks.delete(STACK, &params).await?;
    if case.again == Again::AtOnce && stacks.get_opt(STACK).await?.is_none() {
        apply(client, namespace, &spec(case.data_go)).await?;
    }
    Ok(())
}

fn is_data(object: &DynamicObject) -> bool {
    object.labels().get("rorun.app/retained").is_some_and(|retained| retained == "true")
}

fn owned_by(object: &DynamicObject, uid: &str) -> bool {
    object.owner_references().iter().any(|owner| owner.uid == uid)
}
