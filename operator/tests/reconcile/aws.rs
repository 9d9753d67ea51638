//! Services in AWS. No controller of AWS Controllers for Kubernetes runs here: a player writes the statuses that theirs would write,
//! and the API server has their published definitions.

use kube::{
    ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use rorun_operator::objects::KINDS;
use serde_json::{Value, json};

use super::{
    conditions::set_status,
    drift,
    env::{Operator, TestEnv},
};

/// The definitions, as they are published.
const DEFINITIONS: [&str; 4] = [
    include_str!("../schemas/ack/rds.services.k8s.aws_dbinstances.yaml"),
    include_str!("../schemas/ack/elasticache.services.k8s.aws_replicationgroups.yaml"),
    include_str!("../schemas/ack/elasticache.services.k8s.aws_serverlesscaches.yaml"),
    include_str!("../schemas/ack/s3.services.k8s.aws_buckets.yaml"),
];
pub const SWITCHED_ON: [&str; 6] =
    ["--optional-api", "ackRDS,ackElastiCache,ackS3", "--discovery-period", "1s", "--probe-allow-loopback", "true"];
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nTWFkZSBmb3IgdGVzdHM=\n-----END CERTIFICATE-----\n";

async fn operator(env: &TestEnv) -> Operator {
    env.operator_with(&SWITCHED_ON).await
}

/// Without pods, so that nothing is probed: what the stack is made of is all that there is to see.
fn managed() -> Value {
    json!({
        "environment": "Development",
        "api": {"image": "rorun-api:1", "replicas": 0},
        "database": {"rds": {
            "instanceClass": "db.t4g.medium", "version": "17.5", "readReplicas": 1,
            "storage": {"size": "20Gi"}, "caSecretRef": {"name": "rds-ca"},
        }},
        "redis": {"elastiCache": {"nodeType": "cache.t4g.small"}},
        "bucket": {"s3": {"name": "shop-files", "region": "eu-west-1", "credentialsSecretRef": {"name": "s3"}}},
    })
}

async fn namespace(env: &TestEnv, name: &str) {
    env.namespace(name).await;
    let keys = json!({"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "key"});
    for (secret, data) in [("rds-ca", json!({"ca.crt": CERTIFICATE})), ("s3", keys)] {
        let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret}, "stringData": data});
        let body: DynamicObject = serde_json::from_value(body).expect("a Secret");
        env.objects("Secret", name).create(&PostParams::default(), &body).await.expect("it is made");
    }
}

async fn get(env: &TestEnv, (kind, namespace, name): (&str, &str, &str)) -> DynamicObject {
    env.objects(kind, namespace).get(name).await.expect(name)
}

/// A condition as the runtime of ACK writes it: without the generation that it is about.
fn condition(kind: &str, status: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "message": message, "lastTransitionTime": "2026-11-29T08:00:00Z"})
}

fn synced() -> Value {
    json!([condition("ACK.ResourceSynced", "True", ""), condition("Ready", "True", "")])
}

/// Plays the part of the controller for RDS.
async fn play_database(env: &TestEnv, namespace: &str, name: &str, state: &str) {
    let conditions =
        if state == "available" { synced() } else { json!([condition("ACK.ResourceSynced", "False", "")]) };
    let mut status = json!({"dbInstanceStatus": state, "conditions": conditions});
    if state != "creating" {
        status["endpoint"] = json!({"address": "localhost", "port": 1, "hostedZoneID": "Z"});
    }
    set_status(env, ("DBInstance", namespace, name), status).await;
}

async fn play_cache(env: &TestEnv, namespace: &str) {
    let address = |host: &str| json!({"address": host, "port": 6379});
    let groups = json!([{"nodeGroupID": "0001", "status": "available", "primaryEndpoint": address("primary.example.com"),
        "readerEndpoint": address("reader.example.com")}]);
    let status = json!({"status": "available", "nodeGroups": groups, "conditions": synced()});
    set_status(env, ("ReplicationGroup", namespace, "shop-redis"), status).await;
}

/// Plays the part of the controller of Jobs.
async fn end_job(env: &TestEnv, namespace: &str, name: &str) {
    let condition = |kind: &str| {
        json!({"type": kind, "status": "True", "reason": "CompletionsReached", "lastTransitionTime": "2026-11-29T08:20:00Z",
            "lastProbeTime": "2026-11-29T08:20:00Z"})
    };
    let status = json!({"startTime": "2026-11-29T08:15:00Z", "completionTime": "2026-11-29T08:20:00Z", "succeeded": 1,
        "uncountedTerminatedPods": {}, "conditions": [condition("SuccessCriteriaMet"), condition("Complete")]});
    set_status(env, ("Job", namespace, name), status).await;
}

async fn job(env: &TestEnv, namespace: &str) -> String {
    let jobs = env.objects("Job", namespace);
    let ours = kube::api::ListParams::default().labels("app.kubernetes.io/component=database");
    env.until("the Job is there that makes the role", async || {
        !jobs.list(&ours).await.expect("a list").items.is_empty()
    })
    .await;
    let list = jobs.list(&ours).await.expect("a list");
    assert_eq!(list.items.len(), 1);
    list.items[0].name_any()
}

/// What RDS can restore by itself is told, as of when its controller asked, and asking again without news writes nothing.
pub async fn what_rds_can_restore_is_told(env: &TestEnv) {
    let ns = "aws-restorable";
    namespace(env, ns).await;
    let mut spec = managed();
    spec["backup"] = json!({"schedule": "0 2 * * *", "objectives": {"rpo": "1h"}});
    env.submit(ns, spec).await;
    play_all(env, ns).await;
    let told = async || {
        let stack = env.stacks(ns).get("shop").await.expect("the stack");
        let status = serde_json::to_value(&stack.status).expect("a status");
        status["backup"]["restorableUntil"].as_str().map(str::to_owned)
    };
    assert_eq!(told().await, None, "RDS has said nothing yet");
    let play = async |until: &str, asked: &str| {
        let mut conditions = synced();
        conditions[0]["lastTransitionTime"] = json!(asked);
        let status = json!({"dbInstanceStatus": "available", "conditions": conditions, "latestRestorableTime": until,
            "endpoint": {"address": "localhost", "port": 1, "hostedZoneID": "Z"}});
        set_status(env, ("DBInstance", ns, "shop-database"), status).await;
    };
    for (until, asked) in
        [("2026-11-29T07:55:30Z", "2026-11-29T08:00:00Z"), ("2026-11-29T17:56:10Z", "2026-11-29T18:00:00Z")]
    {
        play(until, asked).await;
        env.until("the newest moment is told", async || told().await.as_deref() == Some(until)).await;
        env.settled(ns).await;
    }
    let mark = env.mark();
    play("2026-11-29T17:56:10Z", "2026-11-29T18:00:30Z").await;
    env.settled(ns).await;
    let calls = env.calls(ns, mark);
    assert!(!calls.iter().any(|call| call.is_write() && call.resource == "rorunstacks"), "{calls:?}");
}

/// All that the player has to do until the stack goes on.
async fn play_all(env: &TestEnv, namespace: &str) {
    let all = [("DBInstance", "shop-database"), ("ReplicationGroup", "shop-redis"), ("Bucket", "shop-bucket")];
    for (kind, name) in all {
        env.until(&format!("{kind} {name} is asked for"), async || {
            env.objects(kind, namespace).get_opt(name).await.expect("an answer").is_some()
        })
        .await;
    }
    play_database(env, namespace, "shop-database", "available").await;
    play_cache(env, namespace).await;
    set_status(env, ("Bucket", namespace, "shop-bucket"), json!({"conditions": synced()})).await;
    let job = job(env, namespace).await;
    end_job(env, namespace, &job).await;
    env.until("the API is made", async || {
        env.objects("Deployment", namespace).get_opt("shop-api").await.expect("an answer").is_some()
    })
    .await;
    play_database(env, namespace, "shop-database-replica1", "creating").await;
    env.settled(namespace).await;
}

async fn connection(env: &TestEnv, namespace: &str, key: &str) -> String {
    let secret = get(env, ("Secret", namespace, "shop-connection")).await;
    let value: k8s_openapi::ByteString = serde_json::from_value(secret.data["data"][key].clone()).expect(key);
    String::from_utf8(value.0).expect("text")
}

/// First without the definitions, then with them, and without a restart.
pub async fn a_stack_waits_for_the_controllers_and_then_for_aws(env: &TestEnv) {
    let ns = "aws";
    namespace(env, ns).await;
    let operator = operator(env).await;
    env.submit(ns, managed()).await;
    for (condition, product) in [
        ("DatabaseReady", "the ACK controller for RDS"),
        ("RedisReady", "the ACK controller for ElastiCache"),
        ("BucketReady", "the ACK controller for S3"),
    ] {
        let message = env.until_reason(ns, condition, "MissingAPI").await;
        assert!(message.contains(&format!("install {product}")), "{message}");
    }
    env.settled(ns).await;
    let secrets = env.objects("Secret", ns);
    assert!(secrets.get_opt("shop-database-credentials").await.expect("an answer").is_none(), "nothing needs them yet");
    for definition in DEFINITIONS {
        env.apply_yaml(definition).await;
    }
    env.until("the instance is asked for", async || {
        env.objects("DBInstance", ns).get_opt("shop-database").await.is_ok_and(|found| found.is_some())
    })
    .await;
    env.until("it is told that there is no status", async || {
        env.condition(ns, "DatabaseReady").await.2.contains("has no status yet: its controller may not run")
    })
    .await;
    play_database(env, ns, "shop-database", "creating").await;
    env.until("the state of AWS is told", async || {
        env.condition(ns, "DatabaseReady").await.2.contains("is creating in AWS")
    })
    .await;
    assert!(env.objects("Secret", ns).get_opt("shop-connection").await.expect("an answer").is_none());
    assert!(env.objects("DBInstance", ns).get_opt("shop-database-replica1").await.expect("an answer").is_none());

    play_all(env, ns).await;
    let login = get(env, ("Secret", ns, "shop-database-credentials")).await;
    let url = connection(env, ns, "DATABASE_URL").await;
    assert!(url.starts_with("postgresql://rorun:") && url.ends_with("@localhost:1/rorun?sslmode=verify-full"));
    assert_eq!(connection(env, ns, "DATABASE_READ_URL").await, url, "the replica has no address yet");
    assert!(connection(env, ns, "REDIS_URL").await.ends_with("@primary.example.com:6379/0"));
    assert_eq!(connection(env, ns, "S3_ENDPOINT").await, "https://s3.eu-west-1.amazonaws.com");
    let connection_keys = get(env, ("Secret", ns, "shop-connection")).await;
    assert!(connection_keys.data["data"].get("REDIS_CLUSTER").is_none());
    // The master's login is in no object that the application has.
    let master = &login.data["data"]["masterPassword"];
    assert!(master.is_string() && !connection_keys.data.to_string().contains(master.as_str().unwrap_or_default()));
    nothing_is_written_after_a_restart(env, ns, operator).await;
}

async fn nothing_is_written_after_a_restart(env: &TestEnv, ns: &str, running: Operator) {
    let mark = env.mark();
    env.settled(ns).await;
    assert!(env.calls(ns, mark).is_empty(), "{:?}", env.calls(ns, mark));
    running.kill();
    let (mark, before) = (env.mark(), env.versions(ns).await);
    let again = operator(env).await;
    env.until("the stack is reconciled", async || again.reconciles().await >= 1).await;
    env.settled(ns).await;
    assert_eq!(env.versions(ns).await, before);
    assert_eq!(env.writes(ns, mark), Vec::<String>::new());
}

/// What AWS carries out at once is held until its very value is confirmed.
pub async fn a_change_that_interrupts_is_held_until_it_is_confirmed(env: &TestEnv) {
    let ns = "held";
    namespace(env, ns).await;
    env.submit(ns, managed()).await;
    play_all(env, ns).await;
    let spec = async || get(env, ("DBInstance", ns, "shop-database")).await.data["spec"].clone();
    let mut changed = managed();
    changed["database"]["rds"]["instanceClass"] = json!("db.m7g.large");
    changed["database"]["rds"]["version"] = json!("18.1");
    let mark = env.mark();
    env.apply(ns, changed).await;
    assert_eq!(env.writes(ns, mark), Vec::<String>::new());
    assert_eq!(
        (spec().await["dbInstanceClass"].clone(), spec().await["engineVersion"].clone()),
        (json!("db.t4g.medium"), json!("17.5"))
    );
    let annotate = async |value: &str| {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"rorun.app/confirm-change": value}}}));
        env.stacks(ns).patch("shop", &PatchParams::default(), &patch).await.expect("it is annotated");
    };
    annotate("db.m7g.xlarge").await;
    env.settled(ns).await;
    assert_eq!(spec().await["dbInstanceClass"], "db.t4g.medium", "another value confirms nothing");
    annotate("db.m7g.large").await;
    env.until("the class is changed", async || spec().await["dbInstanceClass"] == "db.m7g.large").await;
    env.settled(ns).await;
    assert_eq!(spec().await["engineVersion"], "17.5");
    annotate("db.m7g.large,18.1").await;
    env.until("the version is changed", async || spec().await["engineVersion"] == "18.1").await;
    // What RDS has enlarged is told to its object by whoever knows it, and is not taken back.
    let grown = Patch::Merge(json!({"spec": {"allocatedStorage": 57}}));
    let objects = env.objects("DBInstance", ns);
    objects.patch("shop-database", &PatchParams::default(), &grown).await.expect("it is enlarged");
    env.settled(ns).await;
    assert_eq!(spec().await["allocatedStorage"], 57);
    // A minor version is no more than an update.
    let mut minor = managed();
    minor["database"]["rds"]["instanceClass"] = json!("db.m7g.large");
    minor["database"]["rds"]["version"] = json!("18.2");
    env.submit(ns, minor).await;
    env.until("the minor version is changed", async || spec().await["engineVersion"] == "18.2").await;
    assert_eq!(spec().await["allocatedStorage"], 57);
}

/// What AWS says is told, and decides whether the stack is stalled.
pub async fn what_aws_says_is_told(env: &TestEnv) {
    let ns = "told";
    namespace(env, ns).await;
    env.submit(ns, managed()).await;
    env.until("the instance is asked for", async || {
        env.objects("DBInstance", ns).get_opt("shop-database").await.expect("an answer").is_some()
    })
    .await;
    let refused = |number: u32| {
        let said = format!("InvalidParameterCombination: no such class, RequestID: 1-{number}");
        json!({"conditions": [condition("ACK.Terminal", "True", &said), condition("ACK.ResourceSynced", "False", "")]})
    };
    let of = ("DBInstance", ns, "shop-database");
    set_status(env, of, refused(1)).await;
    let message = env.until_reason(ns, "DatabaseReady", "ProviderRefused").await;
    assert!(message.ends_with("is refused: InvalidParameterCombination: no such class"), "{message}");
    assert_eq!(env.condition(ns, "Stalled").await.0, "True");
    env.settled(ns).await;
    let before = env.versions(ns).await["stack"].clone();
    set_status(env, of, refused(2)).await;
    env.settled(ns).await;
    assert_eq!(env.versions(ns).await["stack"], before, "the number of a request is no news");

    let smaller = json!({"conditions": [condition("ACK.Terminal", "True", "Invalid storage size: 20")]});
    set_status(env, of, smaller).await;
    let told = async || env.condition(ns, "DatabaseReady").await.2;
    env.until("it is refused", async || told().await.ends_with("Invalid storage size: 20")).await;
    let mut grows = managed();
    grows["database"]["rds"]["storage"]["maxSize"] = json!("100Gi");
    env.submit(ns, grows).await;
    let way_out = "write its size there, or more, into database.rds.storage.size";
    env.until("the way out is told", async || told().await.ends_with(way_out)).await;
    let again = json!({"conditions": [condition("ACK.Recoverable", "True", "Throttling"), condition("ACK.Terminal", "False", "")]});
    set_status(env, of, again).await;
    env.until_reason(ns, "DatabaseReady", "ProviderFailed").await;
    assert_eq!(env.condition(ns, "Stalled").await.0, "");

    play_all(env, ns).await;
    // Somebody deletes it in AWS: its status says that it is as it should be, and that it goes.
    let going = json!({"dbInstanceStatus": "deleting", "conditions": synced()});
    set_status(env, of, going).await;
    let message = env.until_reason(ns, "DatabaseReady", "Terminating").await;
    assert!(message.contains("is deleting in AWS"), "{message}");
    assert_eq!(connection(env, ns, "PGHOST").await, "localhost", "what the pods have stays");
}

/// Whatever its `deletionPolicy` says.
pub async fn a_deleted_stack_leaves_all_that_is_in_aws(env: &TestEnv) {
    let ns = "gone";
    namespace(env, ns).await;
    let mut spec = managed();
    spec["deletionPolicy"] = json!("Delete");
    env.submit(ns, spec.clone()).await;
    play_all(env, ns).await;
    let kept = [
        ("DBInstance", "shop-database"),
        ("DBInstance", "shop-database-replica1"),
        ("ReplicationGroup", "shop-redis"),
        ("Bucket", "shop-bucket"),
        ("Secret", "shop-database-credentials"),
        ("Secret", "shop-redis-credentials"),
    ];
    let mut before = Vec::new();
    for (kind, name) in kept {
        let object = get(env, (kind, ns, name)).await;
        assert!(object.owner_references().is_empty(), "{kind}/{name} has an owner");
        assert_eq!(object.annotations()["argocd.argoproj.io/sync-options"], "Prune=false,Delete=false");
        if kind != "Secret" {
            assert_eq!(object.annotations()["services.k8s.aws/deletion-policy"], "retain");
        }
        before.push((object.uid(), object.data["data"].clone()));
    }
    env.stacks(ns).delete("shop", &DeleteParams::default()).await.expect("it is deleted");
    env.until("the stack is gone", async || env.stacks(ns).get_opt("shop").await.expect("an answer").is_none()).await;
    env.pause().await;
    env.submit(ns, spec).await;
    env.until("it is taken up again", async || env.condition(ns, "BucketReady").await.1 == "NotProbed").await;
    env.settled(ns).await;
    let uid = env.stacks(ns).get("shop").await.expect("the stack").uid().expect("a uid");
    for ((kind, name), before) in kept.into_iter().zip(before) {
        let object = get(env, (kind, ns, name)).await;
        assert_eq!((object.uid(), object.data["data"].clone()), before, "{kind}/{name}");
        assert_eq!(object.annotations()["rorun.app/stack-uid"], uid, "{kind}/{name}");
    }
    // A replica that the spec no longer asks for stays as well, and so does one whose annotation somebody takes off.
    let mut fewer = managed();
    fewer["database"]["rds"]["readReplicas"] = json!(0);
    env.apply(ns, fewer).await;
    get(env, ("DBInstance", ns, "shop-database-replica1")).await;
    let off = json!({"metadata": {"annotations": {"services.k8s.aws/deletion-policy": "delete"}}, "spec": {"deletionProtection": false}});
    drift::repaired(env, (ns, "DBInstance", "shop-database"), "unprotected", off).await;
}

/// The passwords of what exists are never made again, and what is somebody else's is left alone.
pub async fn passwords_of_what_exists_are_not_made_again(env: &TestEnv) {
    let ns = "passwords";
    namespace(env, ns).await;
    env.submit(ns, managed()).await;
    play_all(env, ns).await;
    let secrets = env.objects("Secret", ns);
    let copy = get(env, ("Secret", ns, "shop-database-credentials")).await;
    env.delete("Secret", ns, "shop-database-credentials").await;
    let message = env.until_reason(ns, "DatabaseReady", "CredentialsLost").await;
    assert!(message.contains("dbinstance.rds.services.k8s.aws/shop-database exists"), "{message}");
    env.settled(ns).await;
    assert!(secrets.get_opt("shop-database-credentials").await.expect("an answer").is_none());
    let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shop-database-credentials",
        "labels": copy.labels(), "annotations": copy.annotations()}, "data": copy.data["data"]});
    let body: DynamicObject = serde_json::from_value(body).expect("a Secret");
    secrets.create(&PostParams::default(), &body).await.expect("it is put back");
    env.until_reason(ns, "DatabaseReady", "NotProbed").await;

    let ns = "foreign-instance";
    namespace(env, ns).await;
    let kind = KINDS.iter().find(|kind| kind.kind == "DBInstance").expect("a kind");
    let instance = json!({"apiVersion": kind.api_version(), "kind": "DBInstance", "metadata": {"name": "shop-database"},
        "spec": {"dbInstanceIdentifier": "theirs", "dbInstanceClass": "db.t4g.micro", "engine": "mysql"}});
    let instance: DynamicObject = serde_json::from_value(instance).expect("an instance");
    let theirs = env.objects("DBInstance", ns).create(&PostParams::default(), &instance).await.expect("it is made");
    env.submit(ns, managed()).await;
    let message = env.until_reason(ns, "DatabaseReady", "NameTaken").await;
    assert!(message.contains("left alone"), "{message}");
    env.settled(ns).await;
    assert!(env.objects("Secret", ns).get_opt("shop-database-credentials").await.expect("an answer").is_none());
    assert_eq!(get(env, ("DBInstance", ns, "shop-database")).await.resource_version(), theirs.resource_version());
}

/// With pods the database is asked, as the role of the application, once that exists.
pub async fn the_database_is_asked_once_its_role_exists(env: &TestEnv) {
    let ns = "asked";
    namespace(env, ns).await;
    let mut spec = managed();
    spec["api"] = json!({"image": "rorun-api:1"});
    env.submit(ns, spec).await;
    env.until("the instance is asked for", async || {
        env.objects("DBInstance", ns).get_opt("shop-database").await.expect("an answer").is_some()
    })
    .await;
    play_database(env, ns, "shop-database", "available").await;
    let job = job(env, ns).await;
    env.until("the Job is told", async || {
        env.condition(ns, "DatabaseReady").await.2.contains(&format!("job/{job} makes the role"))
    })
    .await;
    let pod = get(env, ("Job", ns, &job)).await.data["spec"]["template"]["spec"]["containers"][0].clone();
    assert_eq!(pod["args"][1], "provision-database");
    end_job(env, ns, &job).await;
    let message = env.until_reason(ns, "DatabaseReady", "TLSFailed").await;
    assert!(message.contains("localhost:1"), "{message}");
}
