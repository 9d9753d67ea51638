//! What others would do: a controller that applies all objects at every event, and `kubectl apply` of the rendered set.
//! Beside B1 to B4, for comparison; neither has a bar.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, DynamicObject};
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::watcher;
use kube::{Client, Resource as _, ResourceExt};
use rorun_e2e::engine::process::Run;
use rorun_e2e::engine::test_server::Mark;
use rorun_e2e::engine::tools;
use serde_json::{Value, json};
use tokio::task::{JoinHandle, spawn_blocking};

use super::environment::{BenchEnvironment, create_stack};
use super::stats::float;
use super::table::Row;
use super::template::{StackName, Template};
use super::watch::stack_resource;
use super::{floor, load};

const STACKS: usize = 100;
/// Stacks reconciled at once, as ours has it.
const CONCURRENCY: u16 = 8;
const MANAGER: &str = "naive";
const QUIET: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_mins(10);

struct Shared {
    client: Client,
    template: Template,
}

/// The controller that one writes first: whatever happens, everything is applied.
fn naive(client: Client, template: Template) -> JoinHandle<()> {
    let stacks = Api::<DynamicObject>::all_with(client.clone(), &stack_resource());
    let deployments = Api::<Deployment>::all(client.clone());
    let controller = Controller::new_with(stacks, watcher::Config::default(), stack_resource())
        .owns(deployments, watcher::Config::default())
        .with_config(Config::default().concurrency(CONCURRENCY));
    let context = Arc::new(Shared { client, template });
    tokio::spawn(
        controller.run(apply_all, |_, _, _| Action::requeue(Duration::from_secs(1)), context).for_each(|_| async {}),
    )
}

#[derive(Debug)]
struct Failed(anyhow::Error);

impl std::fmt::Display for Failed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:#}", self.0)
    }
}

impl std::error::Error for Failed {}

async fn apply_all(stack: Arc<DynamicObject>, context: Arc<Shared>) -> Result<Action, Failed> {
    let of = StackName { namespace: stack.namespace().unwrap_or_default(), name: stack.name_any() };
    let owner = stack.controller_owner_ref(&stack_resource());
    let registry = stack.data["spec"]["image"]["registry"].as_str().unwrap_or_default();
    for mut object in context.template.foreign_objects(&of) {
        object["metadata"]["ownerReferences"] = json!([owner]);
        for container in containers(&mut object) {
            let image = container["image"].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default();
            container["image"] = json!(format!("{registry}/{image}"));
        }
        load::apply(&context.client, &object, MANAGER).await.map_err(Failed)?;
    }
    Ok(Action::await_change())
}

/// The containers of a Deployment.
fn containers(object: &mut Value) -> impl Iterator<Item = &mut Value> {
    object.pointer_mut("/spec/template/spec/containers").and_then(Value::as_array_mut).into_iter().flatten()
}

/// Measures both.
pub(super) async fn baselines(bench: &mut BenchEnvironment) -> Result<()> {
    bench.stop_operator().await?;
    kubectl(bench).await?;
    let names = floor::names('n', STACKS.min(bench.options.stacks));
    load::prepare(&bench.client, &bench.services, &names).await?;
    let (client, children) = (bench.client.clone(), bench.template.children());
    let controller = naive(client.clone(), bench.template.clone());

    let (mark, started) = (bench.mark().await?, Instant::now());
    load::each(&names, |of| create_stack(&client, &bench.template, of)).await?;
    quiet(bench, mark, names.len() * children).await?;
    // It was quiet for so long.
    let rate = float(names.len()) / (started.elapsed().saturating_sub(QUIET)).as_secs_f64();
    let objects = float(children + 1);
    let row = Row::new("B4", format!("naive controller: {} stacks at once", names.len()), rate, "stacks/s");
    bench.note(row.ratio(rate / (bench.floor.creates / objects), "W / objects"));

    for (id, what, change) in [
        ("B2", "naive controller: a label on each", json!({"metadata": {"labels": {"team": "somebody"}}})),
        ("B3", "naive controller: a field of each", json!({"spec": {"image": {"registry": "elsewhere.example.com"}}})),
    ] {
        let mark = bench.mark().await?;
        load::each(&names, |of| {
            let (client, change) = (&client, &change);
            async move { load::change(client, of, change).await.map(drop) }
        })
        .await?;
        let calls = quiet(bench, mark, names.len()).await?;
        bench.note(Row::new(id, format!("{what}: calls for each"), float(calls) / float(names.len()), "calls"));
    }
    controller.abort();
    bench.remove(&names).await
}

/// Waits until at least so many writes were made, and then none for a while; gives how many there were.
async fn quiet(bench: &BenchEnvironment, mark: Mark, least: usize) -> Result<usize> {
    let (mut newest, deadline) = ((0, Instant::now()), Instant::now() + LIMIT);
    loop {
        let calls = bench.all_calls(mark).await?;
        let manager = format!("fieldManager={MANAGER}");
        let count = calls.iter().filter(|call| call.is_write() && call.uri.contains(&manager)).count();
        if count != newest.0 {
            newest = (count, Instant::now());
        }
        if count >= least && newest.1.elapsed() >= QUIET {
            return Ok(count);
        }
        if Instant::now() > deadline {
            bail!("the naive controller made {count} of {least} writes");
        }
        tokio::time::sleep(QUIET / 5).await;
    }
}

/// `kubectl apply --server-side` of what one stack becomes, twice: to make it, and when nothing changed.
async fn kubectl(bench: &mut BenchEnvironment) -> Result<()> {
    let cache = bench.cache.clone();
    let program = spawn_blocking(move || tools::KUBECTL.path(&cache)).await??;
    let of = StackName::new('l', 0);
    load::make_namespace(&bench.client, &of.namespace).await?;
    let objects = bench.template.foreign_objects(&of);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    for (id, what) in [("B1", "kubectl apply --server-side of the rendered stack"), ("B2", "the same again, unchanged")]
    {
        let (mark, started) = (bench.mark().await?, Instant::now());
        let kubeconfig = format!("--kubeconfig={}", bench.server.kubeconfig.display());
        let run = Run::new(&program, ["apply", "--server-side", "--filename=-", &kubeconfig]).input(list.clone());
        spawn_blocking(move || run.output()).await?.context("kubectl failed")?;
        let took = started.elapsed();
        let mut calls = bench.all_calls(mark).await?;
        calls.retain(|call| call.user_agent.starts_with("kubectl"));
        let writes = calls.iter().filter(|call| call.is_write()).count();
        let row = Row::new(id, what, float(calls.len()), "calls");
        bench.note(row.note(format!("{writes} writes, {:.2} s", took.as_secs_f64())));
    }
    load::collect(&bench.client, &objects, &[of]).await
}
