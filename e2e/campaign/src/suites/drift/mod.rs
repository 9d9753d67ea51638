//! What is done to children by hand, one thing after the other on a settled stack: each field that the operator sets comes
//! back with one write (O2, O3), whatever is forged beside it; what belongs to others is left to them; what cannot be put
//! right is told (O4), and all of it is as before in the end (O1).

mod changes;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use rorun_e2e::engine::progress::Step;
use rorun_e2e::engine::test_server::{AuditCall, Mark};
use rorun_e2e::fake_controllers::FakeControllers;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::changes::{Act, Case};
use crate::bucket::Bucket;
use crate::environment::TestEnvironment;
use crate::suite::{Extent, Play, Suite, SuiteRun, Verdict};
use crate::test_context::{TestContext, all_well, plural, until, within};
use crate::{play, workload};

/// What is changed by hand.
pub(crate) const SUITE: Suite = Suite {
    name: "drift",
    proves: "each field of each child that is changed by hand comes back with one write; what is forged hides nothing",
    quick: true,
    play: Play::Alone(|run| Box::pin(play_suite(run))),
};

/// Of so many plans the quick form plays one.
const SAMPLE: usize = 13;
const REPAIRED_WITHIN: Duration = Duration::from_secs(2);
/// Retries of what no watch tells of are up to a minute apart.
const RECOVERED_WITHIN: Duration = Duration::from_secs(20);
/// Longer than what a change is waited for, and a reconcile takes.
const NOTHING_MORE: Duration = Duration::from_millis(120);
const MINE: &str = "example.com/mine";

/// What is asked of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Bar {
    /// It is as before, by one write.
    Repaired,
    /// An entry of a list is known by what was changed: the one that is there now is theirs and is left, unless the two
    /// cannot be together, and ours is there again. By two writes at most: the list is set back, and owned again.
    Ours,
    /// Nothing that the operator sets is touched: it is left as it is, by one write at most.
    Harmless,
    /// Whether it is theirs or ours depends on the kind of field: at most one write.
    Either,
    /// The operator leaves it alone, and reports it with this reason, until a user puts it right.
    Reported(String),
}

struct DriftTest<'a> {
    test: TestContext<'a>,
    sent: BTreeMap<String, Value>,
    conditions: Value,
    slowest: Duration,
    untouchable: usize,
}

async fn play_suite(run: &SuiteRun<'_>) -> Result<()> {
    let environment = TestEnvironment::open(run.cache).await?;
    let (_controllers, bucket) =
        (FakeControllers::start(environment.client.clone(), Duration::ZERO), Bucket::start().await?);
    let mut drift = DriftTest::open(&environment, &bucket).await?;
    if let Extent::Only(plan) = &run.extent {
        let case: Case = serde_json::from_value(plan.clone()).context("this is no plan of this suite")?;
        return drift.tell(run, &case).await;
    }
    let mut cases = Vec::new();
    for (kind, child) in drift.test.children().await? {
        let Some(sent) = drift.sent.get(&format!("{kind}/{}", child.name_any())) else { continue };
        cases.extend(changes::of(kind, sent, &child)?);
    }
    cases.retain(|case| !matches!(&case.act, Act::Take(Value::Null)));
    if run.extent == Extent::Quick {
        cases = cases.into_iter().step_by(SAMPLE).collect();
        cases.extend(play::found_plans("drift")?);
    }
    let step = Step::start(&format!("drift: {} plans", cases.len()), "one after the other on a settled stack");
    for case in &cases {
        drift.tell(run, case).await?;
    }
    step.done();
    println!(
        "drift: {} of {} were refused by the API server; the slowest repair took {:?}",
        drift.untouchable,
        cases.len(),
        drift.slowest
    );
    Ok(())
}

impl<'a> DriftTest<'a> {
    async fn open(environment: &'a TestEnvironment, bucket: &Bucket) -> Result<DriftTest<'a>> {
        let mut test = TestContext::open(environment).await?;
        workload::prepare(environment, &test.namespace).await?;
        let mark = tokio::task::block_in_place(|| environment.server.mark())?;
        environment.apply(&test.namespace, &workload::autoscaled(&bucket.endpoint)).await?;
        all_well("without a change", &test.settle(false).await?)?;
        let log = tokio::task::block_in_place(|| environment.server.events_since(mark))?;
        let conditions = test.conditions().await?;
        let sent = sent(&test.namespace, &log)?;
        Ok(DriftTest { test, sent, conditions, slowest: Duration::ZERO, untouchable: 0 })
    }

    async fn tell(&mut self, run: &SuiteRun<'_>, case: &Case) -> Result<()> {
        let problems = match self.play(case).await {
            Ok(Some(problems)) => problems,
            Ok(None) => {
                self.untouchable += 1;
                Vec::new()
            }
            Err(error) => vec![format!("O3 {error:#}")],
        };
        let plan = format!("{}: {}", case.object, case.what);
        run.report(&Verdict { plan, problems, replay: serde_json::to_value(case)? })
    }

    /// Gives what was wrong; nothing if the API server does not let it be done.
    async fn play(&mut self, case: &Case) -> Result<Option<Vec<String>>> {
        let (kind, name) = case.parts()?;
        let api = self.test.objects(kind)?;
        let before = api.get(name).await?;
        if let Some(patch) = &case.after {
            let patch = Patch::Json::<()>(serde_json::from_value(patch.clone())?);
            api.patch(name, &PatchParams::default(), &patch).await?;
            until("it is put right", async || is_as(&api, &before).await).await?;
        }
        let mark = tokio::task::block_in_place(|| self.test.environment.server.mark())?;
        if !self.act(case, &api, &before).await? {
            return Ok(None);
        }
        let mut problems = Vec::new();
        match &case.bar {
            Bar::Repaired => {
                let repaired = within(REPAIRED_WITHIN, async || is_as(&api, &before).await).await?;
                self.slowest = self.slowest.max(repaired.unwrap_or(REPAIRED_WITHIN));
                if repaired.is_none() {
                    problems.push(format!("O3 not repaired within {} s", REPAIRED_WITHIN.as_secs()));
                }
            }
            Bar::Ours => {
                let there = async || Ok(includes(&state(&api.get(name).await?), &state(&before)));
                if within(REPAIRED_WITHIN, there).await?.is_none() {
                    problems.push(format!("O3 ours is not there again within {} s", REPAIRED_WITHIN.as_secs()));
                }
            }
            Bar::Harmless | Bar::Either => {}
            Bar::Reported(reason) => problems.extend(self.is_reported(case, reason, &api, &before).await?),
        }
        tokio::time::sleep(NOTHING_MORE).await;
        problems.extend(self.count(case, kind, name, mark)?);
        problems.extend(self.put_right(&api, &before).await?);
        problems.extend(self.test.ended()?);
        Ok(Some(problems))
    }

    async fn act(&mut self, case: &Case, api: &Api<DynamicObject>, before: &DynamicObject) -> Result<bool> {
        let (_, name) = case.parts()?;
        let user = PatchParams { field_manager: Some("somebody".to_owned()), ..PatchParams::default() };
        match &case.act {
            Act::Patch(patches) => {
                for patch in patches {
                    let patch = Patch::Json::<()>(serde_json::from_value(patch.clone())?);
                    match api.patch(name, &user, &patch).await {
                        Ok(now) if now.resource_version() == before.resource_version() => {}
                        // What the API server puts back itself, as what a field is by default, is nothing to repair.
                        Ok(now) if case.bar == Bar::Repaired && state(&now) == state(before) => {}
                        Ok(_) => return Ok(true),
                        Err(kube::Error::Api(answer)) if [400, 403, 422].contains(&answer.code) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Ok(false)
            }
            Act::Take(fields) => {
                let mut body = fields.clone();
                let types = before.types.clone().unwrap_or_default();
                (body["apiVersion"], body["kind"]) = (types.api_version.into(), types.kind.into());
                body["metadata"]["name"] = name.into();
                let taken = api.patch(name, &PatchParams::apply("somebody").force(), &Patch::Apply(&body)).await;
                match taken {
                    Err(kube::Error::Api(answer)) if answer.code == 422 => Ok(false),
                    other => Ok(other.map(|_| true)?),
                }
            }
            Act::Delete => Ok(api.delete(name, &DeleteParams::background()).await.map(|_| true)?),
            Act::DeleteHeld => {
                let hold = Patch::Merge(json!({"metadata": {"finalizers": [MINE]}}));
                api.patch(name, &user, &hold).await?;
                Ok(api.delete(name, &DeleteParams::background()).await.map(|_| true)?)
            }
            Act::Replace(foreign) => {
                self.test.kill().await?;
                api.delete(name, &DeleteParams::background()).await?;
                let body: DynamicObject = serde_json::from_value(foreign.clone())?;
                api.create(&PostParams::default(), &body).await?;
                self.test.start()?;
                Ok(true)
            }
        }
    }

    /// Waits for the reason, and looks whether the object was left alone; then puts it right as a user would.
    async fn is_reported(
        &self,
        case: &Case,
        reason: &str,
        api: &Api<DynamicObject>,
        before: &DynamicObject,
    ) -> Result<Vec<String>> {
        let (kind, name) = case.parts()?;
        let there = api.get_opt(name).await?;
        let mut problems = Vec::new();
        let object = format!("{}/{name}", kind.to_lowercase());
        if !self.test.reports(reason, &object, RECOVERED_WITHIN).await? {
            problems.push(format!("O4 no condition has the reason {reason} and names {object}"));
        }
        let now = api.get_opt(name).await?;
        if now.as_ref().map(state) != there.as_ref().map(state) {
            problems.push("O4 what is not the stack's was touched".to_owned());
        }
        match case.act {
            Act::Replace(_) => drop(api.delete(name, &DeleteParams::background()).await?),
            Act::Delete => {
                let mut copy = before.clone();
                copy.metadata = ObjectMeta {
                    name: before.metadata.name.clone(),
                    labels: before.metadata.labels.clone(),
                    annotations: before.metadata.annotations.clone(),
                    ..ObjectMeta::default()
                };
                drop(api.create(&PostParams::default(), &copy).await?);
            }
            Act::DeleteHeld => {
                let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
                api.patch(name, &PatchParams::default(), &release).await?;
            }
            _ => {
                let metadata = &before.metadata;
                let right = json!({"ownerReferences": metadata.owner_references, "annotations": metadata.annotations});
                api.patch(name, &PatchParams::default(), &Patch::Merge(json!({"metadata": right}))).await?;
            }
        }
        if within(RECOVERED_WITHIN, async || is_as(api, before).await).await?.is_none() {
            problems.push(format!("O3 not made again within {} s", RECOVERED_WITHIN.as_secs()));
        }
        Ok(problems)
    }

    /// The writes of children that were carried out, against those that are asked for.
    fn count(&self, case: &Case, kind: &str, name: &str, mark: Mark) -> Result<Vec<String>> {
        let calls = tokio::task::block_in_place(|| self.test.environment.server.calls_since(mark))?;
        let done = calls.iter().filter(|call| {
            call.user_agent.starts_with("rorun-operator") && call.is_write() && call.code < 300 && is_of_child(call)
        });
        let (own, others): (Vec<_>, Vec<_>) = done.partition(|call| call.resource == plural(kind) && call.name == name);
        let enough = match &case.bar {
            Bar::Repaired => own.len() == 1,
            Bar::Ours => (1..=2).contains(&own.len()),
            // One for a reported object, which the operator makes again when a user has put it right.
            Bar::Harmless | Bar::Either | Bar::Reported(_) => own.len() <= 1,
        };
        let mut problems = Vec::new();
        if !enough {
            problems.push(format!("O2 {} writes, not one", own.len()));
        }
        let others = others.iter().map(|call| format!("{} {}/{}", call.verb, call.resource, call.name));
        problems.extend(others.map(|other| format!("O2 {other} was written too")));
        Ok(problems)
    }

    /// Waits until all is as before; what was left to others is taken away by the user.
    async fn put_right(&self, api: &Api<DynamicObject>, before: &DynamicObject) -> Result<Vec<String>> {
        let name = before.name_any();
        let mut problems = Vec::new();
        if !is_as(api, before).await? {
            let mut wanted = before.clone();
            wanted.metadata.managed_fields = Some(Vec::new());
            until("the child can be put right", async || {
                let there = api.get(&name).await?;
                // Some kinds are never changed without it.
                wanted.metadata.resource_version = there.resource_version();
                wanted.metadata.uid = there.uid();
                let mut patch = serde_json::to_value(&wanted)?;
                remove_members_of_others(&mut patch, &serde_json::to_value(&there)?);
                match api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                    Err(kube::Error::Api(answer)) if answer.code == 409 => Ok(false),
                    done => Ok(done.map(|_| true)?),
                }
            })
            .await?;
            until("the child is as before", async || is_as(api, before).await).await?;
        }
        let same = within(RECOVERED_WITHIN, async || Ok(self.test.conditions().await? == self.conditions)).await?;
        if same.is_none() {
            problems.push(format!("O1 the status is {}, not {}", self.test.conditions().await?, self.conditions));
        }
        Ok(problems)
    }
}

/// A merge patch takes nothing out that it does not name.
fn remove_members_of_others(wanted: &mut Value, there: &Value) {
    let (Some(wanted), Some(there)) = (wanted.as_object_mut(), there.as_object()) else { return };
    for (name, member) in there {
        match wanted.get_mut(name) {
            Some(inner) => remove_members_of_others(inner, member),
            None => drop(wanted.insert(name.clone(), Value::Null)),
        }
    }
}

fn is_of_child(call: &AuditCall) -> bool {
    call.namespace.starts_with("case-")
        && call.subresource.is_empty()
        && !matches!(call.resource.as_str(), "events" | "rorunstacks")
}

/// What the operator sent last of each object: kind and name, and body.
fn sent(namespace: &str, log: &str) -> Result<BTreeMap<String, Value>> {
    let mut sent = BTreeMap::new();
    let marked = format!("\"{namespace}\"");
    for line in log.lines().filter(|line| line.contains(&marked)) {
        let event: Value = serde_json::from_str(line)?;
        let body = &event["requestObject"];
        let ours = event["userAgent"].as_str().is_some_and(|agent| agent.starts_with("rorun-operator"));
        let place = &event["objectRef"];
        if ours && event["verb"] == "patch" && place["subresource"].is_null() && place["namespace"] == namespace {
            let key =
                format!("{}/{}", body["kind"].as_str().unwrap_or_default(), place["name"].as_str().unwrap_or_default());
            sent.insert(key, body.clone());
        }
    }
    Ok(sent)
}

/// Whether an object has all that another has; entries of lists may have come between.
fn includes(now: &Value, before: &Value) -> bool {
    match (now, before) {
        (Value::Object(now), Value::Object(before)) => {
            before.iter().all(|(name, member)| now.get(name).is_some_and(|there| includes(there, member)))
        }
        (Value::Array(now), Value::Array(before)) => {
            before.iter().all(|item| now.iter().any(|there| includes(there, item)))
        }
        (now, before) => now == before,
    }
}

async fn is_as(api: &Api<DynamicObject>, before: &DynamicObject) -> Result<bool> {
    let now = api.get_opt(&before.name_any()).await?;
    Ok(now.is_some_and(|now| state(&now) == state(before)))
}

/// An object without what changes by itself: versions, times, who set a field, what the API server assigns.
fn state(object: &DynamicObject) -> Value {
    let metadata = &object.metadata;
    let mut state = json!({
        "labels": metadata.labels, "annotations": metadata.annotations, "owners": metadata.owner_references,
        "finalizers": metadata.finalizers, "deleting": metadata.deletion_timestamp.is_some(), "data": object.data,
    });
    if let Some(data) = state["data"].as_object_mut() {
        data.remove("status");
    }
    if let Some(spec) = state.pointer_mut("/data/spec").and_then(Value::as_object_mut) {
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_that_found_something_can_be_played() {
        assert!(!play::found_plans::<Case>("drift").expect("plans").is_empty());
    }

    #[test]
    fn an_object_with_an_entry_more_includes_the_one_before() {
        let before = json!({"ports": [{"port": 1}]});
        assert!(includes(&json!({"ports": [{"port": 2}, {"port": 1, "name": "a"}]}), &before));
        assert!(!includes(&json!({"ports": [{"port": 2}]}), &before));
    }
}
