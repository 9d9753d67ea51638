//! A few stacks that always fail, among many that do not: the others cost the same calls as without them (O2), and settle;
//! those that fail say why (O4), and are tried again ever more seldom (O3).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use rorun_e2e::engine::progress::Step;
use rorun_e2e::engine::test_server::{AuditCall, Mark};
use rorun_e2e::fake_controllers::FakeControllers;
use serde_json::{Value, json};

use crate::bucket::Bucket;
use crate::environment::{STACK, TestEnvironment};
use crate::plan::same_in_each_run;
use crate::suite::{Extent, Play, Suite, SuiteRun, Verdict};
use crate::test_context::{TestContext, within};
use crate::workload;

/// Stacks that fail beside stacks that do not.
pub(crate) const SUITE: Suite = Suite {
    name: "poison",
    proves: "stacks that always fail cost those beside them no call, say why, and are tried again ever more seldom",
    quick: true,
    play: Play::Alone(|run| Box::pin(play_suite(run))),
};

const SETTLED_WITHIN: Duration = Duration::from_mins(4);
/// A retry is up to a fifth later than the longest pause, which is a minute.
const CAP: Duration = Duration::from_secs(72);
/// How often an object may be asked for within the first seconds: pauses are 0.5, 1, 2, 4 and 8 s.
const EARLY: (Duration, usize) = (Duration::from_secs(14), 6);
/// By then the pauses have come to their longest.
const GROWN_AFTER: Duration = Duration::from_secs(80);
/// Of statuses there may be one more or less, as changes fall together.
const STATUSES_MORE: usize = 3;

/// Why a stack fails, and the reason that it tells.
const POISONS: [(&str, &str); 5] = [
    ("a Secret is missing", "ReferenceMissing"),
    ("the quota is full", "ApplyRefused"),
    ("a name is taken", "NameTaken"),
    ("an admission policy refuses its image", "ApplyRefused"),
    ("its database cannot be reached", "Unreachable"),
];

/// What a stack took: the calls for its children, those for its status, and how long it was.
#[derive(Debug)]
struct Taken {
    children: BTreeMap<String, usize>,
    statuses: usize,
    ready_after: Duration,
}

async fn play_suite(run: &SuiteRun<'_>) -> Result<()> {
    let (healthy, poisoned) = if run.extent == Extent::Quick { (36, 5) } else { (95, 5) };
    let environment = TestEnvironment::open(run.cache).await?;
    let (_controllers, bucket) =
        (FakeControllers::start(environment.client.clone(), Duration::ZERO), Bucket::start().await?);
    refuse_images(&environment.client).await?;
    let step = Step::start(&format!("poison: {healthy} stacks"), "first by themselves");
    let (clean, _) = make_stacks(&environment, &bucket, healthy, 0).await?;
    step.done();
    let step = Step::start(&format!("poison: {poisoned} among {healthy}"), "each fails in a way of its own");
    let (beside, mut ill) = make_stacks(&environment, &bucket, healthy, poisoned).await?;
    step.done();
    let (before, after) = (slowest(&clean), slowest(&beside));
    println!(
        "poison: ready after {before:.1?} without, {after:.1?} with them: {:.2} times",
        after.as_secs_f64() / before.as_secs_f64()
    );
    for (index, taken) in beside.iter().enumerate() {
        let problems = compare(&clean, taken);
        run.report(&Verdict { plan: format!("healthy stack {index}"), problems, replay: json!({"healthy": index}) })?;
    }
    for (index, namespace) in ill.namespaces.iter().enumerate() {
        let mut problems = reported(&environment, namespace, POISONS[index].1).await?;
        problems.extend(ill.count(&environment, namespace, EARLY)?);
        run.report(&Verdict { plan: POISONS[index].0.to_owned(), problems, replay: json!({"poison": index}) })?;
    }
    if run.extent != Extent::Quick {
        let step = Step::start("poison: waiting for the longest pauses", "and counting a minute of them");
        tokio::time::sleep(GROWN_AFTER).await;
        (ill.mark, ill.since) = mark(&environment)?;
        tokio::time::sleep(CAP).await;
        step.done();
        for (index, namespace) in ill.namespaces.iter().enumerate() {
            let problems = ill.count(&environment, namespace, (CAP, 2))?;
            let plan = format!("{}, tried ever more seldom", POISONS[index].0);
            run.report(&Verdict { plan, problems, replay: json!({"poison": index}) })?;
        }
    }
    Ok(())
}

/// The stacks that fail, while an operator goes on trying.
struct Ill<'a> {
    namespaces: Vec<String>,
    mark: Mark,
    /// When that was.
    since: Timestamp,
    _site: TestContext<'a>,
}

impl Ill<'_> {
    /// No object may be asked for more often within so long since the mark, however long others took meanwhile.
    fn count(
        &self,
        environment: &TestEnvironment,
        namespace: &str,
        (within, most): (Duration, usize),
    ) -> Result<Vec<String>> {
        let calls = tokio::task::block_in_place(|| environment.server.calls_since(self.mark))?;
        let until = self.since + within;
        let counts = count(calls.iter().filter(|call| call.at <= until && is_ours(call, namespace)));
        let often = counts.into_iter().filter(|(_, count)| *count > most);
        Ok(often.map(|(what, count)| format!("O3 {what} {count} times, not {most} at most")).collect())
    }
}

/// A place in the audit log, and when that is.
#[expect(clippy::disallowed_methods, reason = "the times of the audit log are compared with it")]
fn mark(environment: &TestEnvironment) -> Result<(Mark, Timestamp)> {
    Ok((tokio::task::block_in_place(|| environment.server.mark())?, Timestamp::now()))
}

fn is_ours(call: &AuditCall, namespace: &str) -> bool {
    call.namespace == namespace
        && call.user_agent.starts_with("rorun-operator")
        && call.verb != "watch"
        && call.resource != "events"
}

fn count<'a>(calls: impl Iterator<Item = &'a AuditCall>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for call in calls.filter(|call| call.subresource != "status") {
        // Each stack asks for the namespace that it is in.
        let own = call.resource == "namespaces";
        let name = if own { "its own".to_owned() } else { same_in_each_run(&call.name) };
        *counts.entry(format!("{} {}/{name}", call.verb, call.resource)).or_default() += 1;
    }
    counts
}

/// Makes all stacks at once, under an operator of their own, and waits until the healthy ones are ready.
async fn make_stacks<'a>(
    environment: &'a TestEnvironment,
    bucket: &Bucket,
    healthy: usize,
    poisoned: usize,
) -> Result<(Vec<Taken>, Ill<'a>)> {
    let mut test = TestContext::open_for(environment, String::new(), environment.client.clone(), None).await?;
    let (mut well, mut ill) = (Vec::new(), Vec::new());
    for index in 0..healthy + poisoned {
        let namespace = environment.namespace().await?;
        workload::prepare(environment, &namespace).await?;
        if index < poisoned {
            poison(&environment.client, &namespace, index).await?;
            ill.push(namespace);
        } else {
            well.push(namespace);
        }
    }
    test.start()?;
    let (begun, since) = mark(environment)?;
    let started = Instant::now();
    for (index, namespace) in ill.iter().enumerate() {
        environment.apply(namespace, &ill_spec(&bucket.endpoint, index)).await?;
    }
    for namespace in &well {
        environment.apply(namespace, &workload::whole(&bucket.endpoint)).await?;
    }
    let mut ready = BTreeMap::<&String, Duration>::new();
    let all = async || {
        for namespace in &well {
            if !ready.contains_key(namespace) && is_ready(environment, namespace).await? {
                ready.insert(namespace, started.elapsed());
            }
        }
        Ok(ready.len() == well.len())
    };
    within(SETTLED_WITHIN, all).await?.context("the healthy stacks are not ready in time")?;
    tokio::time::sleep(EARLY.0.saturating_sub(started.elapsed())).await;
    let calls = tokio::task::block_in_place(|| environment.server.calls_since(begun))?;
    let taken = well.iter().map(|namespace| {
        let ours: Vec<&AuditCall> = calls.iter().filter(|call| is_ours(call, namespace)).collect();
        Taken {
            statuses: ours.iter().filter(|call| call.subresource == "status").count(),
            children: count(ours.into_iter()),
            ready_after: ready.get(namespace).copied().unwrap_or_default(),
        }
    });
    let taken = taken.collect();
    if poisoned == 0 {
        test.kill().await?;
    }
    Ok((taken, Ill { namespaces: ill, mark: begun, since, _site: test }))
}

fn slowest(all: &[Taken]) -> Duration {
    let mut times: Vec<Duration> = all.iter().map(|taken| taken.ready_after).collect();
    times.sort_unstable();
    times.get(times.len() * 99 / 100).or(times.last()).copied().unwrap_or_default()
}

/// Against the stacks that were by themselves.
fn compare(clean: &[Taken], taken: &Taken) -> Vec<String> {
    let mut problems = Vec::new();
    if clean.iter().all(|one| one.children != taken.children) {
        let reference = clean.first().map(|one| one.children.clone()).unwrap_or_default();
        let differs = |what: &&String| reference.get(*what) != taken.children.get(*what);
        let names: Vec<String> =
            reference.keys().chain(taken.children.keys()).filter(differs).take(5).cloned().collect();
        problems.push(format!("O2 other calls than without them: {}", names.join(", ")));
    }
    let most = clean.iter().map(|one| one.statuses).max().unwrap_or_default() + STATUSES_MORE;
    if taken.statuses > most {
        problems.push(format!("O2 {} statuses, not {most} at most", taken.statuses));
    }
    problems
}

async fn conditions(environment: &TestEnvironment, namespace: &str) -> Result<Vec<Value>> {
    let stack = environment.stacks(namespace).get(STACK).await?;
    let conditions = stack.data.pointer("/status/conditions").and_then(Value::as_array).cloned();
    Ok(conditions.unwrap_or_default())
}

async fn is_ready(environment: &TestEnvironment, namespace: &str) -> Result<bool> {
    Ok(conditions(environment, namespace).await?.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

async fn reported(environment: &TestEnvironment, namespace: &str, reason: &str) -> Result<Vec<String>> {
    let conditions = conditions(environment, namespace).await?;
    if conditions.iter().any(|one| one["reason"] == reason) {
        return Ok(Vec::new());
    }
    let reported: Vec<String> = conditions.iter().map(|one| format!("{} {}", one["type"], one["reason"])).collect();
    Ok(vec![format!("O4 no condition has the reason {reason}: {}", reported.join(", "))])
}

/// The spec that goes with [`POISONS`].
fn ill_spec(endpoint: &str, index: usize) -> Value {
    let mut spec = workload::whole(endpoint);
    match index {
        0 => spec["api"]["envFrom"] = json!([{"secretRef": {"name": "missing"}}]),
        3 => spec["admin"]["image"] = json!("poison:1"),
        4 => spec["database"] = json!({"external": {"secretRef": {"name": "nowhere"}}}),
        _ => {}
    }
    spec
}

/// What makes a stack fail.
async fn poison(client: &Client, namespace: &str, index: usize) -> Result<()> {
    let object = match index {
        1 => json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"},
            "spec": {"hard": {"count/services": "1"}}}),
        2 => json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop-redis"},
            "spec": {"ports": [{"port": 1}]}}),
        4 => json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "nowhere"},
            "stringData": {"DATABASE_URL": "postgres://user:password@127.0.0.1:1/shop?sslmode=disable"}}),
        _ => return Ok(()),
    };
    create(client, Some(namespace), "", "v1", object).await?;
    if index == 1 {
        // No controller counts here what there is: one Service.
        let counted = json!({"status": {"hard": {"count/services": "1"}, "used": {"count/services": "1"}}});
        let quotas = Api::<ResourceQuota>::namespaced(client.clone(), namespace);
        quotas.patch_status("full", &PatchParams::default(), &Patch::Merge(counted)).await?;
    }
    Ok(())
}

/// A policy that refuses what has this image.
async fn refuse_images(client: &Client) -> Result<()> {
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "no-poison"}, "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"],
                "operations": ["CREATE", "UPDATE"], "resources": ["deployments"]}]},
            "validations": [{"expression": "object.spec.template.spec.containers.all(c, !c.image.contains('poison'))",
                "message": "this image is not allowed", "reason": "Forbidden"}]}});
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "no-poison"}, "spec": {"policyName": "no-poison", "validationActions": ["Deny"]}});
    for object in [policy, binding] {
        create(client, None, "admissionregistration.k8s.io", "v1", object).await?;
    }
    Ok(())
}

async fn create(client: &Client, namespace: Option<&str>, group: &str, version: &str, object: Value) -> Result<()> {
    let kind = object["kind"].as_str().unwrap_or_default();
    let mut resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    if kind == "ValidatingAdmissionPolicy" {
        "validatingadmissionpolicies".clone_into(&mut resource.plural);
    }
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let object: DynamicObject = serde_json::from_value(object)?;
    api.create(&PostParams::default(), &object).await.context("failed to make what a stack fails by")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(calls: &[(&str, usize)], statuses: usize) -> Taken {
        let children = calls.iter().map(|(what, count)| ((*what).to_owned(), *count)).collect();
        Taken { children, statuses, ready_after: Duration::ZERO }
    }

    #[test]
    fn a_call_more_or_less_is_told() {
        let clean = [taken(&[("patch services/a", 1)], 2)];
        assert_eq!(compare(&clean, &taken(&[("patch services/a", 1)], 3)), Vec::<String>::new());
        assert_eq!(compare(&clean, &taken(&[("patch services/a", 2)], 2)).len(), 1);
        assert_eq!(compare(&clean, &taken(&[], 9)).len(), 2);
    }
}
