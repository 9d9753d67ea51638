//! Stacks at rest: once every stack of the examples says all that there is to say, the operator writes nothing and reads nothing, however
//! long nobody changes anything (O3). Watches that end are opened again, and a stack that waits for a kind of another project is why
//! the operator asks which kinds there are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};
use rorun_e2e::engine::schemas::{CLUSTERS, OBJECT_STORES, POOLERS, SCHEDULED_BACKUPS, SERVICE_MONITORS};
use rorun_e2e::engine::test_server::AuditCall;
use rorun_e2e::fake_controllers::FakeControllers;
use rorun_e2e::scenarios::kit::project;
use serde_json::{Value, json};

use crate::bucket::Bucket;
use crate::environment::TestEnvironment;
use crate::proxy::FaultProxy;
use crate::suite::{Play, Suite, SuiteRun, Verdict};
use crate::workload;

/// Ten minutes without a change.
pub(crate) const SUITE: Suite = Suite {
    name: "rest",
    proves: "a stack that nobody changes costs the API server no call, whatever features are on",
    quick: false,
    play: Play::Alone(|run| Box::pin(play_suite(run))),
};

/// How long nothing may be called. Longer than every period of the operator but those of its watches.
const REST: Duration = Duration::from_mins(10);
/// How long no call must have come before that: longer than the five minutes after which a stack tells that nobody goes on with what it
/// waits for.
const QUIET: Duration = Duration::from_secs(330);
/// How long it may take until no call comes.
const SETTLED_WITHIN: Duration = Duration::from_mins(15);
/// When whatever has a schedule begins.
const NEW_YEAR: &str = "0 0 1 1 *";
const ARGUMENTS: [&str; 3] =
    ["--optional-api=prometheusOperator", "--optional-api=cloudNativePG", "--optional-api=barmanCloud"];

async fn play_suite(run: &SuiteRun<'_>) -> Result<()> {
    let environment = TestEnvironment::open(run.cache).await?;
    for schema in [&SERVICE_MONITORS, &CLUSTERS, &POOLERS, &SCHEDULED_BACKUPS, &OBJECT_STORES] {
        environment.define(schema).await?;
    }
    // That of an example, which the operator asks for until it is there.
    environment.have_ingress_class("nginx").await?;
    let _controllers = FakeControllers::start_with_autoscalers(environment.client.clone(), Duration::ZERO);
    let (bucket, proxy) = (Bucket::start().await?, FaultProxy::start(environment.client.clone(), || {}).await?);
    let _operator = environment.operator_with("rest", &proxy, &ARGUMENTS)?;
    let mut names = BTreeMap::new();
    for (name, spec) in specs(&bucket)? {
        let namespace = environment.namespace().await?;
        make_secrets(&environment, &namespace, &spec).await?;
        environment.apply(&namespace, &spec).await.with_context(|| format!("the stack of {name}"))?;
        names.insert(namespace, name);
    }
    let mut problems = Vec::new();
    if !settles(&environment).await? {
        problems.push(format!("O3 no rest within {} s", SETTLED_WITHIN.as_secs()));
    }
    let mark = environment.server.mark()?;
    tokio::time::sleep(REST).await;
    let calls = environment.server.calls_since(mark)?;
    let counted = calls.iter().filter(|call| counts(call)).map(|call| {
        let of = names.get(&call.namespace).map_or("no stack", String::as_str);
        format!("O3 {} {} of {of}: {}", call.verb, call.uri, call.body)
    });
    problems.extend(counted);
    let plan = format!("{} stacks, {} s", names.len(), REST.as_secs());
    run.report(&Verdict { plan, problems, replay: Value::Null })
}

/// Waits until no call comes for a while. `false`: some still do.
async fn settles(environment: &TestEnvironment) -> Result<bool> {
    let deadline = tokio::time::Instant::now() + SETTLED_WITHIN;
    while tokio::time::Instant::now() < deadline {
        let mark = environment.server.mark()?;
        tokio::time::sleep(QUIET).await;
        if !environment.server.calls_since(mark)?.iter().any(counts) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether it is a call of the operator beside those for watches and for which kinds there are; and for why a Job has no pod, since
/// nothing here makes one.
fn counts(call: &AuditCall) -> bool {
    let asks_kinds = call.resource.is_empty() && call.uri.starts_with("/api");
    let asks_pods = call.resource == "events" && call.verb == "list" && call.uri.contains("reason%3DFailedCreate");
    call.user_agent.starts_with("rorun-operator") && call.verb != "watch" && !asks_kinds && !asks_pods
}

/// The specs by their names: those of the examples, and one whose services answer with all that such a stack can have.
fn specs(bucket: &Bucket) -> Result<Vec<(String, Value)>> {
    let mut found = vec![("everything".to_owned(), everything(&bucket.endpoint))];
    let files = std::fs::read_dir(project().join("examples"))?.map(|entry| Ok(entry?.path()));
    for path in files.collect::<std::io::Result<BTreeSet<PathBuf>>>()?.iter().filter(|path| path.is_file()) {
        let objects: Vec<Value> = serde_saphyr::from_multiple(&std::fs::read_to_string(path)?)?;
        for stack in objects.iter().filter(|object| object["kind"] == "RorunStack") {
            let mut spec = stack["spec"].clone();
            move_schedules(&mut spec);
            found.push((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), spec));
        }
    }
    Ok(found)
}

fn everything(endpoint: &str) -> Value {
    let mut spec = workload::autoscaled(endpoint);
    let external = spec["bucket"]["external"].clone();
    spec["monitoring"] = json!({"scrape": true});
    spec["hibernation"] = json!({"from": NEW_YEAR, "until": "0 0 2 1 *"});
    spec["expiresAfter"] = json!("168h");
    spec["release"] = json!({"approval": "Required", "smokeTests": [{"component": "api", "path": "/health"}]});
    spec["bucket"]["cors"] = json!({"allowOrigins": ["https://app.example.com"]});
    spec["backup"] = json!({
        "schedule": NEW_YEAR,
        "destination": {"external": external.clone()},
        "copies": [{"external": external, "prefix": "copies/"}],
        "verify": {"schedule": NEW_YEAR},
    });
    spec
}

/// Moves what would begin by the clock to the first days of the year.
fn move_schedules(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value.is_string()) {
                    ("schedule" | "from", true) => *value = json!(NEW_YEAR),
                    ("until", true) => *value = json!("0 0 2 1 *"),
                    _ => move_schedules(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(move_schedules),
        _ => {}
    }
}

/// Makes the Secrets that a spec names, with every key that one may have. Nothing answers at their addresses.
async fn make_secrets(environment: &TestEnvironment, namespace: &str, spec: &Value) -> Result<()> {
    workload::prepare(environment, namespace).await?;
    let mut names = BTreeSet::new();
    named(spec, &mut names);
    let data = json!({
        "DATABASE_URL": "postgresql://rorun:a-password@127.0.0.1:1/rorun",
        "REDIS_URL": "redis://:a-password@127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "an-id", "AWS_SECRET_ACCESS_KEY": "a-key",
    });
    for name in names {
        let secret: Secret = serde_json::from_value(json!({"metadata": {"name": name}, "stringData": data}))?;
        match Api::namespaced(environment.client.clone(), namespace).create(&PostParams::default(), &secret).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            made => drop(made?),
        }
    }
    Ok(())
}

fn named(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(field, value)| {
            if field.to_lowercase().ends_with("secretref") {
                found.extend(value["name"].as_str().map(str::to_owned));
            }
            named(value, found);
        }),
        Value::Array(items) => items.iter().for_each(|item| named(item, found)),
        _ => {}
    }
}
