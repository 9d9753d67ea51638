//! What is to become of a stack that is deleted, and of what it had.

use std::collections::BTreeMap;

use anyhow::Result;
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::api::Api;
use rorun_e2e::engine::test_server::Mark;
use serde_json::Value;
use tokio::task::block_in_place;

use super::{Again, Case, DONE_WITHIN, Former, How, Learnt, is_data, leaves, owned_by, spec};
use crate::environment::STACK;
use crate::test_context::{TestContext, within};

/// Of one object, in a namespace that is going: those of the first look, and of one that is under way meanwhile.
const REFUSED_AT_MOST: usize = 2;

/// The stack goes, and comes again if the user says so.
pub(super) async fn stack_goes(
    test: &mut TestContext<'_>,
    learnt: &Learnt,
    case: &Case,
    former: &Former,
) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let stacks = test.environment.stacks(&test.namespace);
    let is_gone = async || {
        let stack = stacks.get_opt(STACK).await?;
        Ok(stack.is_none_or(|stack| stack.uid().as_deref() != Some(former.uid.as_str())))
    };
    if within(DONE_WITHIN, is_gone).await?.is_none() {
        let stack = stacks.get(STACK).await?;
        return Ok(vec![format!("O3 the stack is still there, with the finalizers {:?}", stack.finalizers())]);
    }
    if case.again == Again::Never {
        problems.extend(test.settle(true).await?);
        problems.extend(what_is_left(test, case, former).await?);
        return Ok(problems);
    }
    if let Again::Left(count) = case.again {
        let few = async || Ok(former_children(test, former).await?.len() <= count);
        let _ = within(DONE_WITHIN, few).await?;
    }
    test.environment.apply(&test.namespace, &spec(case.data_go)).await?;
    let reference = if case.data_go { &learnt.gone } else { &learnt.kept };
    let as_new = async || {
        Ok(former_children(test, former).await?.is_empty() && reference.differences(&leaves(test).await?).is_empty())
    };
    if within(DONE_WITHIN, as_new).await?.is_none() {
        problems.extend(reference.differences(&leaves(test).await?).into_iter().take(8).map(|one| format!("O1 {one}")));
        let left = former_children(test, former).await?;
        problems.extend(left.into_iter().map(|one| format!("O4 {one} still belongs to the former stack")));
    }
    problems.extend(test.settle(false).await?);
    problems.extend(data(test, case, former).await?);
    Ok(problems)
}

async fn former_children(test: &TestContext<'_>, former: &Former) -> Result<Vec<String>> {
    let children = test.children().await?.into_iter().filter(|(_, object)| owned_by(object, &former.uid));
    Ok(children.map(|(kind, object)| format!("{kind}/{}", object.name_any())).collect())
}

/// What is to be left of a stack that nobody makes again.
async fn what_is_left(test: &TestContext<'_>, case: &Case, former: &Former) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let collected = async || Ok(former_children(test, former).await?.is_empty());
    if within(DONE_WITHIN, collected).await?.is_none() {
        let left = former_children(test, former).await?;
        problems.push(format!("O3 these still have an owner that is gone: {}", left.join(", ")));
    }
    if case.how == How::Orphan {
        let mut there = BTreeMap::new();
        for (kind, object) in test.children().await? {
            there.insert(format!("{kind}/{}", object.name_any()), object.uid().unwrap_or_default());
        }
        let lost = former.owned.iter().filter(|(key, uid)| there.get(*key) != Some(uid));
        problems.extend(lost.map(|(key, _)| format!("O4 {key} was to be left, and is gone")));
    }
    problems.extend(data(test, case, former).await?);
    Ok(problems)
}

/// What was to be kept is there, the same as before; what was to go is not.
async fn data(test: &TestContext<'_>, case: &Case, former: &Former) -> Result<Vec<String>> {
    let now = async || {
        let mut data = BTreeMap::new();
        for (kind, object) in test.children().await?.into_iter().filter(|(_, object)| is_data(object)) {
            let content = (object.uid().unwrap_or_default(), object.data["data"].clone());
            data.insert(format!("{kind}/{}", object.name_any()), content);
        }
        anyhow::Ok(data)
    };
    if case.data_go {
        let left = async || {
            let now = now().await?;
            anyhow::Ok(
                former.data.iter().filter(|(key, before)| now.get(*key).is_some_and(|now| now.0 == before.0)).count(),
            )
        };
        if within(DONE_WITHIN, async || Ok(left().await? == 0)).await?.is_none() {
            return Ok(vec![format!("O4 data were to go, and are there: {}", left().await?)]);
        }
        return Ok(Vec::new());
    }
    let now = now().await?;
    let lost = former.data.iter().filter(|(key, before)| now.get(*key) != Some(before));
    Ok(lost.map(|(key, _)| format!("O4 {key} was to be kept, and is another or gone")).collect())
}

/// The namespace goes, and the operator does not stand in the way, nor take it for a lack of rights.
pub(super) async fn namespace_goes(test: &TestContext<'_>, mark: Mark) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let namespaces = Api::<Namespace>::all(test.environment.client.clone());
    let is_gone = async || Ok(namespaces.get_opt(&test.namespace).await?.is_none());
    if within(DONE_WITHIN * 2, is_gone).await?.is_none() {
        let status = namespaces.get(&test.namespace).await?.status;
        problems.push(format!("O3 the namespace is still there: {}", serde_json::to_string(&status)?));
    }
    let log = block_in_place(|| test.environment.server.events_since(mark))?;
    let marked = format!("\"{}\"", test.namespace);
    let of_operator: Vec<Value> = log
        .lines()
        .filter(|line| line.contains(&marked) && line.contains("\"userAgent\":\"rorun-operator"))
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let mut refused = BTreeMap::<String, usize>::new();
    for event in of_operator.iter().filter(|event| event["responseStatus"]["code"] == 403) {
        let place = &event["objectRef"];
        *refused.entry(format!("{} {}/{}", event["verb"], place["resource"], place["name"])).or_default() += 1;
    }
    let often = refused.into_iter().filter(|(_, count)| *count > REFUSED_AT_MOST);
    problems.extend(often.map(|(what, count)| format!("O3 {what} was refused {count} times: it does not let go")));
    if of_operator.iter().any(|event| event["requestObject"].to_string().contains("rorun-operator rbac")) {
        problems.push("O4 a namespace that is being deleted was reported as a lack of rights".to_owned());
    }
    Ok(problems)
}
