//! Operators that are killed at any moment leave nothing that the next one does not finish, and one that is started
//! beside stacks that are finished changes nothing.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::kit::{Stack, TestContext};
use crate::engine::cluster::Mark;
use crate::engine::progress;

const STACKS: usize = 5;
/// The first while the stack is applied, the second when another operator has gone on with it.
const KILLS_EACH: usize = 2;
/// Within which a kill is begun. The kill strikes half a second later, and a reconcile that makes the children takes as long.
const MOMENTS: Duration = Duration::from_millis(600);
const READY_WITHIN: Duration = Duration::from_mins(5);

pub(super) async fn run(test: &TestContext) -> Result<()> {
    test.wait_leader().await?;
    let undisturbed = applied(test, "undisturbed").await?;
    undisturbed.wait_ready(READY_WITHIN).await?;
    let reference = undisturbed.shape().await?;
    ensure!(reference.len() > 10, "an undisturbed stack has only {:?}", reference.keys());
    memory(test, "with one stack of this scenario").await?;

    // Only now, since the shape is to be that of the others.
    let ingress = json!({"className": "traefik", "host": test.host("undisturbed")});
    undisturbed.patch_spec(json!({"ingress": ingress})).await?;
    undisturbed.wait_ready(READY_WITHIN).await?;
    let app = test.app(&undisturbed).await?;
    app.unnoticed("kills of operators", Box::pin(kills(test, &reference))).await?;
    progress::note(&format!("{} kills while {STACKS} stacks were made: the same end each time", STACKS * KILLS_EACH));
    app.unnoticed("a restart of the operators", Box::pin(a_restart_writes_nothing(test))).await
}

/// Each of the stacks ends in the shape of the one that was made without a kill.
async fn kills(test: &TestContext, reference: &BTreeMap<String, Value>) -> Result<()> {
    let mark = test.mark().await?;
    let mut stacks = Vec::new();
    for index in 0..STACKS {
        stacks.push(disturbed(test, &format!("killed-{index}")).await?);
    }
    for stack in &stacks {
        stack.wait_ready(READY_WITHIN).await?;
        let shape = stack.shape().await?;
        ensure!(shape == *reference, "{} ended as {shape:#?}\ninstead of {reference:#?}", stack.name);
    }
    nothing_was_made_twice(test, mark).await
}

/// The smallest stack there is, by a name of its own: names of children say whose they are.
async fn applied(test: &TestContext, name: &str) -> Result<Stack> {
    test.apply_example("minimal.yaml", |stack| stack["metadata"]["name"] = json!(name)).await
}

async fn disturbed(test: &TestContext, name: &str) -> Result<Stack> {
    let moment = random_moment();
    let kill = async {
        sleep(moment).await;
        test.kill_and_replace_operators().await
    };
    let (stack, killed) = futures::join!(applied(test, name), kill);
    let (stack, ()) = (stack?, killed?);
    let mut reported =
        vec![format!("{} children, killed {} ms after", stack.children().await?.len(), moment.as_millis())];
    for _ in 1..KILLS_EACH {
        test.wait_leader().await?;
        let moment = random_moment();
        sleep(moment).await;
        test.kill_and_replace_operators().await?;
        reported.push(format!("{}, killed {} ms after", stack.children().await?.len(), moment.as_millis()));
    }
    test.wait_leader().await?;
    progress::note(&format!("{name}: {}", reported.join("; ")));
    Ok(stack)
}

fn random_moment() -> Duration {
    let drawn = RandomState::new().hash_one(()) % u64::try_from(MOMENTS.as_millis()).unwrap_or(1);
    Duration::from_millis(drawn)
}

/// Above all no password, since the first may be the one that a volume was made with.
async fn nothing_was_made_twice(test: &TestContext, mark: Mark) -> Result<()> {
    let mut made = BTreeMap::<String, usize>::new();
    for call in test.operator_writes_since(mark, &test.namespace).await?.0 {
        let taken = call.verb == "delete" && call.name.ends_with("-credentials");
        ensure!(!taken, "{} was deleted", call.name);
        if call.code == 201 {
            *made.entry(format!("{}/{}", call.resource, call.name)).or_default() += 1;
        }
    }
    made.retain(|_, count| *count > 1);
    ensure!(made.is_empty(), "made twice: {made:#?}");
    // As they are there: one that was being made when its maker was killed may have got no answer.
    let secrets = test.kubectl(&["get", "secrets", "--namespace", &test.namespace, "--output=name"]).await?;
    let credentials = secrets.lines().filter(|name| name.ends_with("-credentials")).count();
    ensure!(credentials == 3 * (1 + STACKS), "not three Secrets with credentials for each stack:\n{secrets}");
    Ok(())
}

async fn a_restart_writes_nothing(test: &TestContext) -> Result<()> {
    test.wait_settled_leader().await?;
    let mark = test.mark().await?;
    test.kill_and_replace_operators().await?;
    test.wait_settled_leader().await?;
    let writes = test.operator_writes_since(mark, &test.namespace).await?;
    ensure!(writes.0.is_empty(), "a restart beside finished stacks wrote: {:#?}", writes.lines());
    memory(test, "after a restart").await
}

async fn memory(test: &TestContext, when: &str) -> Result<()> {
    let leader = test.wait_settled_leader().await?;
    let bytes = test.operator_metric(&leader, "process_resident_memory_bytes").await?;
    let stacks = test.count_stacks().await?;
    progress::note(&format!("the operator uses {:.1} MiB {when}, {stacks} in the cluster", bytes / 1024.0 / 1024.0));
    Ok(())
}
