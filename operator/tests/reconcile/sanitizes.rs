//! Points that are sanitized, and stacks that begin with one; their Jobs are played.

use k8s_openapi::ByteString;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use rorun_operator::{api::v1alpha1::RorunBackup, contract};
use serde_json::{Value, json};

use super::{
    conditions::set_status,
    env::{TestEnv, development},
    requests::{ask, condition, end, end_in, jobs, status, until_reason},
    restores::{open, play, said, step_of},
};

const ID: &str = "20261124T031500Z-q7k2p";
const LOCATION: &str = "s3://safe/sanitized/n/shop/20261124T031500Z-q7k2p/manifest.json";

fn sanitize() -> Value {
    let external =
        json!({"name": "safe", "endpoint": "https://s3.example.com", "credentialsSecretRef": {"name": "safe"}});
    json!({"stackRef": {"name": "shop"}, "sanitize": {"sql": "DO $$ BEGIN NULL; END $$"}, "destination": {"external": external}})
}

async fn ask_for(env: &TestEnv, namespace: &str, name: &str, spec: Value) {
    let backup =
        json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunBackup", "metadata": {"name": name}, "spec": spec});
    let backup: RorunBackup = serde_json::from_value(backup).expect("a RorunBackup");
    env.backups(namespace).create(&PostParams::default(), &backup).await.expect("it is created");
}

async fn keys(env: &TestEnv, namespace: &str, name: &str) {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
        "stringData": {"AWS_ACCESS_KEY_ID": "reader-id", "AWS_SECRET_ACCESS_KEY": "key-of-the-safe"}});
    let secret = serde_json::from_value(secret).expect("a Secret");
    env.objects("Secret", namespace).create(&PostParams::default(), &secret).await.expect("it is created");
}

async fn secret(env: &TestEnv, namespace: &str, name: &str) -> Option<Vec<(String, String)>> {
    let found = env.objects("Secret", namespace).get_opt(name).await.expect("an answer")?;
    let data = found.data["data"].as_object().expect("data").clone();
    let text = |value: Value| {
        let ByteString(bytes) = serde_json::from_value(value).expect("bytes");
        String::from_utf8(bytes).expect("UTF-8")
    };
    Some(data.into_iter().map(|(key, value)| (key, text(value))).collect())
}

fn words(job: &DynamicObject) -> String {
    let args = job.data.pointer("/spec/template/spec/containers/0/args").and_then(Value::as_array);
    args.into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
}

fn record() -> Value {
    json!({"complete": {"id": ID, "at": "2026-11-24T03:20:00Z", "sizeBytes": 7, "sha256": "0", "location": LOCATION, "removed": 0}})
}

async fn of_component(env: &TestEnv, namespace: &str, component: &str) -> Vec<DynamicObject> {
    let selector = ListParams::default().labels(&format!("app.kubernetes.io/component={component}"));
    env.objects("Job", namespace).list(&selector).await.expect("a list").items
}

pub async fn a_sanitized_point_is_made_beside_whatever_goes_on(env: &TestEnv) {
    let namespace = "sanitize";
    env.namespace(namespace).await;
    env.apply(namespace, development()).await;
    ask_for(env, namespace, "safe", sanitize()).await;
    let missing = until_reason(env, namespace, "safe", "ReferenceMissing").await;
    assert!(missing.conditions[0].message.contains("secret/safe"), "{:?}", missing.conditions);
    assert_eq!(condition(&missing.conditions, "Stalled").map(|(status, _)| status), Some("True"));
    assert!(jobs(env, namespace).await.is_empty());
    keys(env, namespace, "safe").await;
    ask_for(env, namespace, "second", sanitize()).await;
    // A backup goes on beside it, and another sanitized point does not: both would use one Secret.
    ask(env, namespace, "plain").await;
    for name in ["safe", "plain"] {
        env.until(&format!("{name} runs"), async || status(env, namespace, name).await.phase == "Running").await;
    }
    env.settled(namespace).await;
    let there = of_component(env, namespace, "sanitize").await;
    assert_eq!(there.len(), 1, "one after the other");
    let job = &there[0];
    let second = status(env, namespace, "second").await;
    assert_eq!(condition(&second.conditions, "Complete"), Some(("False", "DependencyNotReady")));
    let (words, uid) = (words(job), env.backups(namespace).get("safe").await.expect("it").uid().expect("a uid"));
    let expected = format!(
        "agent sanitize --prefix backups/{namespace}/shop/ --into-prefix sanitized/{namespace}/shop/ --request {uid}"
    );
    assert!(words.starts_with(&expected) && words.contains("--environment Development --owner "), "{words}");
    let data = secret(env, namespace, "shop-sanitize").await.expect("its Secret");
    let of = |key: &str| data.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    assert_eq!(of(contract::ENV_SANITIZE_SQL), Some("DO $$ BEGIN NULL; END $$"));
    assert!(of(contract::ENV_SANITIZED).is_some_and(|text| text.contains("key-of-the-safe")), "{data:?}");
    assert!(data.iter().all(|(name, _)| !name.contains("URL")), "it has no way to the database: {data:?}");
    assert!(
        !job.data.to_string().contains("key-of-the-safe") && !job.data.to_string().contains("DIRECT_URL"),
        "{}",
        job.data
    );

    end(env, namespace, &job.name_any(), &record(), true).await;
    let done = until_reason(env, namespace, "safe", "Complete").await;
    assert_eq!((done.id.as_deref(), done.location.as_deref()), (Some(ID), Some(LOCATION)));
    env.until("the second runs", async || status(env, namespace, "second").await.phase == "Running").await;
    let second = status(env, namespace, "second").await.job.expect("its Job");
    let said = json!({"failed": {"message": "a statement of sanitize.sql failed in line 3"}});
    end(env, namespace, &second, &said, false).await;
    let failed = until_reason(env, namespace, "second", "BackupFailed").await;
    assert!(failed.conditions[0].message.contains("in line 3"), "{:?}", failed.conditions);
    // It is none of the stack's own points, and its Secret goes with it.
    env.until("its Secret goes", async || secret(env, namespace, "shop-sanitize").await.is_none()).await;
    env.settled(namespace).await;
    let told = env.stacks(namespace).get("shop").await.expect("the stack").status.expect("a status");
    assert!(told.backup.and_then(|backup| backup.last_successful).is_none());
    assert!(told.conditions.iter().all(|found| found.type_ != "SanitizeHealthy"), "{:?}", told.conditions);
    assert_eq!(of_component(env, namespace, "sanitize").await.len(), 2, "they are kept for reading");
    let mark = env.mark();
    env.backups(namespace).delete("safe", &DeleteParams::default()).await.expect("it is deleted");
    env.settled(namespace).await;
    assert!(env.writes(namespace, mark).is_empty(), "{:?}", env.writes(namespace, mark));
}

/// The program of the user has an image, and what it is told: no key, no volume of the agent that it could write to.
pub async fn a_program_prints_the_statements_without_any_key(env: &TestEnv) {
    let namespace = "sanitize-command";
    env.namespace(namespace).await;
    keys(env, namespace, "safe").await;
    let mut stack = development();
    stack["image"] = json!({"registry": "registry.example.com/rorun"});
    env.apply(namespace, stack).await;
    let mut spec = sanitize();
    spec["sanitize"] = json!({"command": {"image": "masker:2", "command": ["/mask", "--sql"], "args": ["people"],
        "env": [{"name": "SEED", "value": "7"}]}, "objectPrefixes": ["public/"]});
    ask_for(env, namespace, "safe", spec).await;
    env.until("it runs", async || status(env, namespace, "safe").await.phase == "Running").await;
    env.settled(namespace).await;
    let job = of_component(env, namespace, "sanitize").await.remove(0);
    let pod = job.data.pointer("/spec/template/spec").expect("a pod");
    let names: Vec<_> = pod["initContainers"].as_array().expect("two").iter().map(|of| of["name"].clone()).collect();
    assert_eq!(names, ["install", "command"]);
    let command = &pod["initContainers"][1];
    assert_eq!(command["image"], "registry.example.com/rorun/masker:2");
    assert_eq!(command["command"], json!([contract::BINARY_PATH]));
    let args = [
        "agent",
        "capture",
        "--into",
        contract::STATEMENTS_PATH,
        "--timeout-seconds",
        "600",
        "--",
        "/mask",
        "--sql",
        "people",
    ];
    assert_eq!(command["args"], json!(args));
    assert_eq!(command["env"], json!([{"name": "SEED", "value": "7"}]));
    assert!(command["envFrom"].is_null() && !command.to_string().contains("secret"), "{command}");
    assert_eq!(pod["automountServiceAccountToken"], json!(false));
    assert_eq!(command["securityContext"], pod["containers"][0]["securityContext"]);
    let mounts = |container: &Value| {
        let all = container["volumeMounts"].as_array().expect("mounts").clone();
        let read_only = |of: &Value| of["readOnly"] == true;
        all.iter().map(|of| (of["name"].as_str().unwrap_or_default().to_owned(), read_only(of))).collect::<Vec<_>>()
    };
    let writes = |of: &Value| {
        mounts(of).into_iter().filter(|(_, read_only)| !read_only).map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(mounts(command)[0], ("binary".to_owned(), true));
    assert_eq!(writes(command), ["statements", "command-tmp"]);
    let agent = &pod["containers"][0];
    assert!(mounts(agent).contains(&("statements".to_owned(), true)), "{agent}");
    assert!(!mounts(agent).iter().any(|(name, _)| name == "command-tmp"), "{agent}");
    assert!(words(&job).ends_with(&format!("--sql-file {}", contract::STATEMENTS_PATH)), "{}", words(&job));
    assert!(words(&job).contains("--object-prefix public/ "), "{}", words(&job));
    let data = secret(env, namespace, "shop-sanitize").await.expect("its Secret");
    assert!(data.iter().all(|(key, _)| key != contract::ENV_SANITIZE_SQL), "{data:?}");
    ends_in_vain(env, namespace, &job.name_any()).await;
}

/// The program fails, before the container of the agent begins.
async fn ends_in_vain(env: &TestEnv, namespace: &str, job: &str) {
    let said = json!({"failed": {"message": "sanitize.command failed: exit status: 3: no such table"}});
    end_in(env, namespace, job, ("initContainerStatuses", &said), false).await;
    until_reason(env, namespace, "safe", "BackupFailed").await;
    // The watch of pods may show what the pod said after that of Jobs has shown the end.
    env.until("it tells what the program said", async || {
        let failed = status(env, namespace, "safe").await;
        failed.conditions.iter().all(|condition| condition.message.contains("exit status: 3: no such table"))
    })
    .await;
    env.until("its Secret goes", async || secret(env, namespace, "shop-sanitize").await.is_none()).await;
    env.settled(namespace).await;
    let mark = env.mark();
    env.settled(namespace).await;
    assert!(env.writes(namespace, mark).is_empty(), "{:?}", env.writes(namespace, mark));
}

/// Whether the API server would take a RorunBackup.
async fn accepted(env: &TestEnv, namespace: &str, spec: Value) -> Result<(), String> {
    let api: Api<DynamicObject> =
        Api::namespaced_with(env.client.clone(), namespace, &ApiResource::erase::<RorunBackup>(&()));
    let backup =
        json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunBackup", "metadata": {"name": "b"}, "spec": spec});
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let object: DynamicObject = serde_json::from_value(backup).expect("an object");
    api.create(&params, &object).await.map_err(|error| error.to_string()).map(drop)
}

pub async fn a_wrong_sanitize_is_refused(env: &TestEnv) {
    let namespace = "sanitize-wrong";
    env.namespace(namespace).await;
    let make = async |spec: Value| accepted(env, namespace, spec).await;
    assert_eq!(make(sanitize()).await, Ok(()));
    let of_map = json!({"sqlConfigMapRef": {"name": "statements", "key": "sanitize.sql"}});
    let with = |field: &str, value: Value| {
        let mut spec = sanitize();
        spec[field] = value;
        spec
    };
    assert_eq!(make(with("sanitize", of_map.clone())).await, Ok(()));
    let without = |field: &str| {
        let mut spec = sanitize();
        spec.as_object_mut().expect("a spec").remove(field);
        spec
    };
    let mut both = of_map;
    both["sql"] = json!("SELECT 1");
    let command = |field: &str, value: Value| {
        let mut command = json!({"image": "masker:2", "command": ["/mask"]});
        command[field] = value;
        json!({"command": command})
    };
    let variable = |name: &str| json!([{"name": name, "value": "7"}]);
    let folders = |names: &[&str]| json!({"sql": "SELECT 1", "objectPrefixes": names});
    assert_eq!(make(with("sanitize", folders(&["public/", "avatars/small/"]))).await, Ok(()));
    assert_eq!(make(with("sanitize", command("env", variable("SEED")))).await, Ok(()));
    let mut three = command("args", json!(["-v"]));
    three["sql"] = json!("SELECT 1");
    let of_secret =
        json!([{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "safe", "key": "AWS_SECRET_ACCESS_KEY"}}}]);
    let mut absolute = sanitize();
    absolute["destination"]["prefix"] = json!("/safe");
    let mut by_role = sanitize();
    by_role["destination"]["external"] = json!({"name": "safe", "endpoint": "https://s3.example.com", "cloudRole": {}});
    for (spec, words) in [
        (without("sanitize"), "set both sanitize and destination"),
        (without("destination"), "set both sanitize and destination"),
        (with("sanitize", json!({})), "set exactly one of sql, sqlConfigMapRef and command"),
        (with("sanitize", both), "set exactly one of sql, sqlConfigMapRef and command"),
        (with("sanitize", three), "set exactly one of sql, sqlConfigMapRef and command"),
        (with("sanitize", command("image", json!("https://masker"))), "write the name of an image"),
        (with("sanitize", command("command", json!([]))), "spec.sanitize.command.command"),
        (with("sanitize", command("env", variable("9"))), "spec.sanitize.command.env[0].name"),
        (with("sanitize", command("env", of_secret)), "spec.sanitize.command.env[0].value: Required value"),
        (with("sanitize", json!({"sql": ""})), "spec.sanitize.sql"),
        (with("sanitize", json!({"sql": "x".repeat(65537)})), "spec.sanitize.sql"),
        (with("sanitize", folders(&[""])), "write folders that end in a slash"),
        (with("sanitize", folders(&["/"])), "write folders that end in a slash"),
        (with("sanitize", folders(&["public"])), "write folders that end in a slash"),
        (with("sanitize", folders(&["public/", "public/"])), "Duplicate value"),
        (with("destination", json!({"prefix": "safe/"})), "spec.destination.external"),
        (absolute, "write a folder that ends in a slash"),
        (by_role, "destination.external needs keys"),
    ] {
        let refused = make(spec.clone()).await.expect_err(&format!("{} is accepted", spec["sanitize"]));
        assert!(refused.contains(words), "{refused}");
    }
}

fn seeded(location: &str) -> Value {
    let mut spec = development();
    spec["seedFrom"] =
        json!({"location": location, "endpoint": "https://s3.example.com", "credentialsSecretRef": {"name": "reader"}});
    spec.as_object_mut().expect("a spec").remove("backup");
    spec
}

/// A stack that begins with a point, whose database has a pod that is ready. What the application waits for besides has none here.
async fn begin(env: &TestEnv, namespace: &str) {
    env.namespace(namespace).await;
    keys(env, namespace, "reader").await;
    env.apply(namespace, seeded(LOCATION)).await;
    serves(env, namespace, "shop-database").await;
}

/// The pod of a server becomes ready.
async fn serves(env: &TestEnv, namespace: &str, name: &str) {
    let set = env.objects("StatefulSet", namespace).get(name).await.expect("the StatefulSet");
    let serves = json!({"observedGeneration": set.metadata.generation, "replicas": 1, "readyReplicas": 1});
    set_status(env, ("StatefulSet", namespace, name), serves).await;
}

async fn told(env: &TestEnv, namespace: &str, kind: &str) -> Option<(String, String, String)> {
    let stack = env.stacks(namespace).get("shop").await.expect("the stack");
    let found = stack.status?.conditions.into_iter().find(|condition| condition.type_ == kind)?;
    Some((found.status, found.reason, found.message))
}

pub async fn a_new_stack_begins_with_a_point_once(env: &TestEnv) {
    let namespace = "seed-once";
    begin(env, namespace).await;
    let check = open(env, namespace).await;
    let words = words(&check);
    let expected = format!("--prefix sanitized/n/shop/ --point {ID} --environment Development --any-owner --sanitized");
    assert!(words.contains(&expected) && words.contains("--fill") && !words.contains("--owner"), "{words}");
    let data = secret(env, namespace, "shop-restore").await.expect("its Secret");
    assert!(data.iter().any(|(key, value)| key == contract::ENV_S3_BUCKET && value == "safe"), "{data:?}");
    play(env, namespace, "check").await;
    let fill = open(env, namespace).await;
    assert_eq!(step_of(&fill), "fill");
    env.settled(namespace).await;
    let (status, _, message) = told(env, namespace, "RestoreComplete").await.expect("it is told");
    assert!(status == "False" && message.starts_with("spec.seedFrom: Filling"), "{message}");
    end(env, namespace, &fill.name_any(), &said("fill"), true).await;
    env.until("it is told", async || told(env, namespace, "Seeded").await.is_some()).await;
    let (status, reason, message) = told(env, namespace, "Seeded").await.expect("it is told");
    assert_eq!((&*status, &*reason), ("True", "Complete"), "{message}");
    assert!(message.contains(ID), "{message}");
    env.until("its Secret goes", async || secret(env, namespace, "shop-restore").await.is_none()).await;
    env.settled(namespace).await;

    // Without its Jobs, with another point, and with another volume: what is recorded counts.
    for job in jobs(env, namespace).await {
        env.objects("Job", namespace)
            .delete(&job.name_any(), &DeleteParams::background())
            .await
            .expect("it is deleted");
    }
    let other = Patch::Merge(json!({"spec": {"seedFrom": {"location": LOCATION.replace("q7k2p", "bbbbb")}}}));
    env.stacks(namespace).patch("shop", &PatchParams::default(), &other).await.expect("it may be changed");
    env.settled(namespace).await;
    assert!(jobs(env, namespace).await.is_empty(), "it is seeded once");
    let (status, _, message) = told(env, namespace, "Seeded").await.expect("it is told");
    assert!(status == "True" && message.contains(ID), "{message}");
    let mark = env.mark();
    env.settled(namespace).await;
    assert!(env.writes(namespace, mark).is_empty(), "{:?}", env.writes(namespace, mark));
}

pub async fn objects_of_a_point_wait_for_their_bucket(env: &TestEnv) {
    let namespace = "seed-objects";
    begin(env, namespace).await;
    let check = open(env, namespace).await.name_any();
    end(env, namespace, &check, &json!({"done": {"objects": 3, "durationSeconds": 1}}), true).await;
    let fill = open(env, namespace).await;
    assert_eq!(step_of(&fill), "fill");
    let data = secret(env, namespace, "shop-restore").await.expect("its Secret");
    assert!(
        data.iter().all(|(key, _)| !key.starts_with("OBJECTS_")),
        "the keys of the bucket come with its step: {data:?}"
    );
    end(env, namespace, &fill.name_any(), &said("fill"), true).await;
    // The bucket of a new stack may take longer than its database.
    let waits = env.until_reason(namespace, "RestoreComplete", "DependencyNotReady").await;
    assert!(waits.contains("waits for bucket"), "{waits}");
    env.settled(namespace).await;
    assert_eq!(jobs(env, namespace).await.len(), 2);
    assert!(told(env, namespace, "Seeded").await.is_none());
    // Nothing answers here as its bucket: the scenario `seed` plays the rest.
    serves(env, namespace, "shop-bucket").await;
    env.until_reason(namespace, "BucketReady", "Unreachable").await;
    env.settled(namespace).await;
    assert_eq!(jobs(env, namespace).await.len(), 2);
    assert!(told(env, namespace, "Seeded").await.is_none(), "the application waits for its objects");
}

pub async fn data_that_are_found_stay_and_are_told(env: &TestEnv) {
    let namespace = "seed-found";
    begin(env, namespace).await;
    play(env, namespace, "check").await;
    let fill = open(env, namespace).await.name_any();
    let refused =
        json!({"refused": {"reason": "DataFound", "message": "database \"rorun\" has the table public.users"}});
    end(env, namespace, &fill, &refused, false).await;
    env.until("it is told", async || told(env, namespace, "Seeded").await.is_some()).await;
    let (status, reason, message) = told(env, namespace, "Seeded").await.expect("it is told");
    assert_eq!((&*status, &*reason), ("False", "DataFound"), "{message}");
    assert!(message.contains("public.users"), "{message}");
    env.settled(namespace).await;
    let mark = env.mark();
    env.settled(namespace).await;
    assert!(env.writes(namespace, mark).is_empty(), "{:?}", env.writes(namespace, mark));
    assert_eq!(jobs(env, namespace).await.len(), 2);
}

pub async fn a_point_that_is_refused_keeps_the_application_from_starting(env: &TestEnv) {
    let namespace = "seed-refused";
    begin(env, namespace).await;
    let check = open(env, namespace).await.name_any();
    let refused = json!({"refused": {"reason": "PointNotSanitized", "message": "it is that of a stack of Production"}});
    end(env, namespace, &check, &refused, false).await;
    let message = env.until_reason(namespace, "RestoreComplete", "SeedRefused").await;
    assert!(message.contains("PointNotSanitized") && message.contains("spec.seedFrom.location"), "{message}");
    assert!(told(env, namespace, "Stalled").await.is_some());
    // Another point is another attempt; one that breaks off waits for a word.
    let other = Patch::Merge(json!({"spec": {"seedFrom": {"location": LOCATION.replace("q7k2p", "bbbbb")}}}));
    env.stacks(namespace).patch("shop", &PatchParams::default(), &other).await.expect("it may be changed");
    let second = open(env, namespace).await;
    assert!(words(&second).contains("-bbbbb"), "{}", words(&second));
    end(env, namespace, &second.name_any(), &json!({"failed": {"message": "no route to the bucket"}}), false).await;
    let message = env.until_reason(namespace, "RestoreComplete", "RestoreFailed").await;
    assert!(message.contains("rorun.app/retry of rorunstack/shop"), "{message}");
    env.settled(namespace).await;
    assert_eq!(jobs(env, namespace).await.len(), 2, "nothing is tried again by itself");
    let retry = Patch::Merge(json!({"metadata": {"annotations": {"rorun.app/retry": "1"}}}));
    env.stacks(namespace).patch("shop", &PatchParams::default(), &retry).await.expect("the stack is annotated");
    let third = open(env, namespace).await.name_any();
    // The retry is recorded before its attempt fails: until then a failure leaves it unanswered.
    env.settled(namespace).await;
    end(env, namespace, &third, &json!({"failed": {"message": "no route to the bucket"}}), false).await;
    env.settled(namespace).await;
    // Without it the database begins empty.
    let none = Patch::Merge(json!({"spec": {"seedFrom": null}}));
    env.stacks(namespace).patch("shop", &PatchParams::default(), &none).await.expect("it may be left out");
    let left = async || {
        let names: Vec<_> = jobs(env, namespace).await.iter().map(ResourceExt::name_any).collect();
        format!("Jobs {names:?}, and {:?}", env.stacks(namespace).get("shop").await.map(|stack| stack.status))
    };
    env.until_or("nothing is restored", async || told(env, namespace, "RestoreComplete").await.is_none(), left).await;
    let again = Patch::Merge(json!({"spec": seeded(LOCATION)}));
    let refused = env.stacks(namespace).patch("shop", &PatchParams::default(), &again).await;
    let refused = refused.expect_err("it is set while the stack exists").to_string();
    assert!(refused.contains("seedFrom can only be set when the stack is created"), "{refused}");
}

/// Each step is begun by one operator and seen to its end by the next, which repeats none of them.
pub async fn a_seed_outlives_the_operator(env: &TestEnv) {
    let namespace = "seed-killed";
    let mut operator = env.operator().await;
    begin(env, namespace).await;
    for step in ["check", "fill"] {
        let job = open(env, namespace).await;
        assert_eq!(step_of(&job), step);
        env.settled(namespace).await;
        operator.kill();
        let mark = env.mark();
        operator = env.operator().await;
        env.settled(namespace).await;
        assert!(env.writes(namespace, mark).is_empty(), "{step}: {:?}", env.writes(namespace, mark));
        operator.kill();
        end(env, namespace, &job.name_any(), &said(step), true).await;
        operator = env.operator().await;
    }
    env.until("it is told", async || told(env, namespace, "Seeded").await.is_some()).await;
    env.settled(namespace).await;
    assert_eq!(jobs(env, namespace).await.len(), 2, "a step was repeated");
    // What it began with is known to the next one, too.
    operator.kill();
    let mark = env.mark();
    operator = env.operator().await;
    env.settled(namespace).await;
    assert!(env.writes(namespace, mark).is_empty(), "{:?}", env.writes(namespace, mark));
    assert_eq!(told(env, namespace, "Seeded").await.map(|(status, ..)| status).as_deref(), Some("True"));
    drop(operator);
}
