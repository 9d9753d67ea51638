//! The rules of a bucket, set by the agent on a server that keeps all of them (moto), on one that lacks some (`SeaweedFS`), and through a
//! gateway that changes what passes.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rorun_operator::contract::{self, BucketRules, RulesOutcome};
use rorun_operator::services::bucket::{BucketClient, BucketTarget, RuleDocument, RuleKind, Timeouts};
use serde_json::{Value, json};

use crate::gateway::{Gateway, Passed};
use crate::moto::Moto;
use crate::process::until;
use crate::servers::{PASSWORD, Servers, by_keys, log_in};

const SHOP: &str = "6f1f3a5c-0000-4000-8000-000000000001/shop";
const OTHER: &str = "6f1f3a5c-0000-4000-8000-000000000001/shop-eu";
const ROLE: &str = "arn:aws:iam::123456789012:role/replication";

/// Rules of somebody else, with what no client of ours knows.
const FOREIGN: &str = r#"<LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Rule><ID>theirs</ID><Filter><Prefix>logs/</Prefix></Filter><Status>Enabled</Status><Expiration><Days>3</Days></Expiration></Rule></LifecycleConfiguration>"#;

fn rules(owner: &str, with: &Value) -> BucketRules {
    let mut rules = json!({"ids": BucketRules::ids(owner)});
    rules.as_object_mut().expect("rules").extend(with.as_object().expect("rules").clone());
    serde_json::from_value(rules).expect("rules")
}

fn lifecycle() -> Value {
    json!({"prefix": "uploads/", "archiveAfterDays": 90, "expireNoncurrentAfterDays": 30, "abortIncompleteUploadsAfterDays": 7})
}

fn client(target: &BucketTarget) -> BucketClient {
    BucketClient::new(target, Timeouts::CHECK).expect("client")
}

/// How a run ended.
#[derive(Debug)]
struct Run {
    code: Option<i32>,
    outcome: RulesOutcome,
    log: String,
}

impl Run {
    fn notes(self) -> Vec<String> {
        match self.outcome {
            RulesOutcome::Set { notes } if self.code == Some(0) => notes,
            outcome => panic!("{:?} {outcome:?} {}", self.code, self.log),
        }
    }

    fn failed(self) -> (Option<i32>, String, String) {
        let RulesOutcome::Failed { reason, message } = self.outcome else { panic!("{self:?}") };
        (self.code, reason, message)
    }
}

/// `agent bucket-rules` as the pod runs it.
async fn run(target: &BucketTarget, rules: &BucketRules, more: &[&str]) -> Run {
    let result = tempfile::NamedTempFile::new().expect("file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_rorun-operator"));
    command.args([contract::AGENT, contract::BUCKET_RULES, contract::ARG_RULES]);
    command.arg(serde_json::to_string(rules).expect("JSON")).args(more);
    if !more.contains(&"--pause-milliseconds") {
        command.args(["--pause-milliseconds", "10"]);
    }
    command.arg("--termination-path").arg(result.path()).env_clear();
    command.env(contract::ENV_S3_ENDPOINT, &target.endpoint).env(contract::ENV_S3_REGION, &target.region);
    command.env(contract::ENV_S3_BUCKET, &target.bucket).env(contract::ENV_S3_FORCE_PATH_STYLE, "true");
    log_in(&mut command, target);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || command.output().expect("agent")).await.expect("agent");
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = std::fs::read_to_string(result.path()).expect("result");
    assert!(!said.contains(PASSWORD) && !log.contains(PASSWORD), "{said} {log}");
    let outcome = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said} {log}"));
    Run { code: output.status.code(), outcome, log }
}

async fn document(bucket: &BucketClient, kind: RuleKind) -> RuleDocument {
    bucket.rules(kind).await.expect("rules")
}

async fn ids(bucket: &BucketClient, kind: RuleKind) -> Vec<String> {
    let mut ids: Vec<_> = document(bucket, kind).await.rules.into_iter().map(|rule| rule.id).collect();
    ids.sort();
    ids
}

fn ours(owner: &str, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("{}{name}", BucketRules::ids(owner))).collect()
}

async fn put_foreign(bucket: &BucketClient) -> RuleDocument {
    let foreign = RuleDocument::parse(RuleKind::Lifecycle, FOREIGN.as_bytes()).expect("a document");
    bucket.send_rules(&foreign).await.expect("rules");
    document(bucket, RuleKind::Lifecycle).await
}

/// Of one stack after the other, until none is left but those of somebody else.
async fn merges(endpoint_port: u16, target: BucketTarget, kept: &[&str]) {
    let bucket = client(&target);
    bucket.create().await.expect("bucket");
    let foreign = put_foreign(&bucket).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let gateway = Gateway::start(endpoint_port, move |request| {
        log.lock().expect("log").push(request.method.clone());
        Passed::On
    })
    .await;
    let target = BucketTarget { endpoint: gateway.endpoint.clone(), ..target };
    let all = rules(SHOP, &json!({"lifecycle": lifecycle(), "origins": ["https://app.example.com"]}));
    let notes = run(&target, &all, &[]).await.notes();
    let unsupported = 3 - kept.len();
    assert_eq!(notes.len(), unsupported, "{notes:?}");
    let with_foreign = |mut ids: Vec<String>| {
        ids.push("theirs".to_owned());
        ids.sort();
        ids
    };
    assert_eq!(ids(&bucket, RuleKind::Lifecycle).await, with_foreign(ours(SHOP, kept)));
    assert_eq!(ids(&bucket, RuleKind::Cors).await, ours(SHOP, &["cors"]));
    let theirs = document(&bucket, RuleKind::Lifecycle).await;
    let theirs = theirs.rules.iter().find(|rule| rule.id == "theirs").expect("theirs");
    assert_eq!(theirs.text, foreign.rules[0].text, "byte for byte");

    if unsupported == 0 {
        seen.lock().expect("log").clear();
        assert_eq!(run(&target, &all, &[]).await.notes(), [""; 0]);
        let methods = seen.lock().expect("log").clone();
        assert!(methods.iter().all(|method| method == "GET"), "settled: no write: {methods:?}");
    }

    let other =
        rules(OTHER, &json!({"lifecycle": {"expireNoncurrentAfterDays": 5}, "origins": ["https://b.example.com"]}));
    assert_eq!(run(&target, &other, &[]).await.notes(), [""; 0]);
    let both = [ours(SHOP, kept), ours(OTHER, &["noncurrent"])].concat();
    assert_eq!(ids(&bucket, RuleKind::Lifecycle).await, with_foreign(both), "neither undoes the other");

    let less = rules(SHOP, &json!({"lifecycle": {"expireNoncurrentAfterDays": 30}}));
    assert_eq!(run(&target, &less, &[]).await.notes(), [""; 0]);
    let both = [ours(SHOP, &["noncurrent"]), ours(OTHER, &["noncurrent"])].concat();
    assert_eq!(ids(&bucket, RuleKind::Lifecycle).await, with_foreign(both));
    assert_eq!(ids(&bucket, RuleKind::Cors).await, ours(OTHER, &["cors"]), "a field that is removed removes only ours");

    for owner in [SHOP, OTHER] {
        assert_eq!(run(&target, &rules(owner, &json!({})), &[]).await.notes(), [""; 0]);
    }
    assert_eq!(document(&bucket, RuleKind::Lifecycle).await.rules, foreign.rules);
    assert_eq!(ids(&bucket, RuleKind::Cors).await, [""; 0]);
}

#[tokio::test]
async fn rules_are_merged_where_all_are_kept() {
    let moto = Moto::shared().await;
    merges(moto.port, moto.bucket("merged"), &["archive", "noncurrent", "uploads"]).await;
}

#[tokio::test]
async fn rules_are_merged_where_some_are_kept() {
    let servers = Servers::shared().await;
    merges(servers.s3_port, servers.bucket("rules-merged"), &["noncurrent", "uploads"]).await;
}

/// Two stacks at the same moment: S3 has no conditional write here, so each looks whether its rules are still there.
#[tokio::test]
async fn two_stacks_at_once_do_not_undo_each_other() {
    let moto = Moto::shared().await;
    let target = moto.bucket("at-once");
    let bucket = client(&target);
    bucket.create().await.expect("bucket");
    put_foreign(&bucket).await;
    let [shop, other] = [SHOP, OTHER].map(|owner| rules(owner, &json!({"lifecycle": lifecycle()})));
    let pause = ["--pause-milliseconds", "400"];
    let (one, two) = tokio::join!(run(&target, &shop, &pause), run(&target, &other, &pause));
    assert_eq!([one.notes(), two.notes()].concat(), [""; 0]);
    assert_eq!(ids(&bucket, RuleKind::Lifecycle).await.len(), 7);
}

/// A server that loses the prefix of a rule would delete the versions of the whole bucket.
#[tokio::test]
async fn a_rule_that_comes_back_wider_is_taken_off_at_once() {
    let moto = Moto::shared().await;
    let target = moto.bucket("wider");
    let bucket = client(&target);
    bucket.create().await.expect("bucket");
    let foreign = put_foreign(&bucket).await;
    let gateway = Gateway::start(moto.port, |request| {
        if request.method == "PUT" && request.asks("lifecycle") {
            return Passed::Changed(|body| body.replace("<Prefix>uploads/</Prefix>", "<Prefix></Prefix>"));
        }
        Passed::On
    })
    .await;
    let through = BucketTarget { endpoint: gateway.endpoint.clone(), ..target.clone() };
    let with_prefix = rules(SHOP, &json!({"lifecycle": {"prefix": "uploads/", "expireNoncurrentAfterDays": 30}}));
    let notes = run(&through, &with_prefix, &[]).await.notes();
    let [note] = &*notes else { panic!("{notes:?}") };
    let expected = "Unsupported: bucket.lifecycle.expireNoncurrentAfterDays: Filter/Prefix was sent as uploads/ and did not come back";
    assert_eq!(note, expected);
    assert_eq!(document(&bucket, RuleKind::Lifecycle).await.rules, foreign.rules, "off again, and theirs as they were");
    // And so is one whose id the server does not keep, by which it would never be found again.
    let gateway = Gateway::start(moto.port, |request| {
        let loses =
            |body: &str| body.replace(&format!("<ID>{}noncurrent</ID>", BucketRules::ids(SHOP)), "<ID>generated</ID>");
        if request.method == "PUT" && request.asks("lifecycle") { Passed::Changed(loses) } else { Passed::On }
    })
    .await;
    let through = BucketTarget { endpoint: gateway.endpoint.clone(), ..target };
    let notes = run(&through, &with_prefix, &[]).await.notes();
    assert!(notes.len() == 1 && notes[0].contains("does not keep the id of a rule"), "{notes:?}");
    assert_eq!(document(&bucket, RuleKind::Lifecycle).await.rules, foreign.rules);
}

/// Nothing of ours is worth a change of what is somebody else's.
#[tokio::test]
async fn a_server_that_changes_the_rules_of_others_gets_none_of_ours() {
    let moto = Moto::shared().await;
    let target = moto.bucket("changes");
    let bucket = client(&target);
    bucket.create().await.expect("bucket");
    let foreign = put_foreign(&bucket).await;
    let gateway = Gateway::start(moto.port, |request| {
        let both = |body: &str| {
            if body.contains("rorun-") { body.replace("<Days>3</Days>", "<Days>1</Days>") } else { body.to_owned() }
        };
        if request.method == "PUT" && request.asks("lifecycle") { Passed::Changed(both) } else { Passed::On }
    })
    .await;
    let target = BucketTarget { endpoint: gateway.endpoint.clone(), ..target };
    let asked = rules(SHOP, &json!({"lifecycle": {"expireNoncurrentAfterDays": 30}}));
    let notes = run(&target, &asked, &[]).await.notes();
    assert!(notes.len() == 1 && notes[0].contains("the server changes the rule theirs of somebody else"), "{notes:?}");
    assert_eq!(document(&bucket, RuleKind::Lifecycle).await.rules, foreign.rules);
}

#[tokio::test]
async fn what_a_server_cannot_do_is_a_note_and_the_rest_is_set() {
    let moto = Moto::shared().await;
    let target = moto.bucket("lacks");
    let bucket = client(&target);
    bucket.create().await.expect("bucket");
    let gateway = Gateway::start(moto.port, |request| {
        if request.asks("cors") { Passed::Answered(501, "NotImplemented") } else { Passed::On }
    })
    .await;
    let through = BucketTarget { endpoint: gateway.endpoint.clone(), ..target };
    let asked = rules(SHOP, &json!({"lifecycle": lifecycle(), "origins": ["https://app.example.com"]}));
    let notes = run(&through, &asked, &[]).await.notes();
    assert!(notes.len() == 1 && notes[0].starts_with("Unsupported: bucket.cors: "), "{notes:?}");
    assert_eq!(ids(&bucket, RuleKind::Lifecycle).await, ours(SHOP, &["archive", "noncurrent", "uploads"]));
    let without = rules(SHOP, &json!({"lifecycle": lifecycle()}));
    assert_eq!(run(&through, &without, &[]).await.notes(), [""; 0], "of what is not asked for nothing is told");
}

#[tokio::test]
async fn a_server_that_is_away_is_asked_again_and_one_that_refuses_is_not() {
    let moto = Moto::shared().await;
    let target = moto.bucket("away");
    client(&target).create().await.expect("bucket");
    let asked = rules(SHOP, &json!({"lifecycle": lifecycle()}));
    let busy = Arc::new(AtomicUsize::new(0));
    let count = busy.clone();
    let gateway = Gateway::start(moto.port, move |request| {
        // Twice within a run, which the client repeats.
        let first = request.asks("lifecycle") && count.fetch_add(1, Ordering::Relaxed) < 2;
        if first { Passed::Answered(503, "SlowDown") } else { Passed::On }
    })
    .await;
    let through = BucketTarget { endpoint: gateway.endpoint.clone(), ..target.clone() };
    assert_eq!(run(&through, &asked, &[]).await.notes(), [""; 0]);
    assert!(busy.load(Ordering::Relaxed) > 2);

    let gateway = Gateway::start(moto.port, |_| Passed::Answered(503, "SlowDown")).await;
    let through = BucketTarget { endpoint: gateway.endpoint.clone(), ..target.clone() };
    let (code, reason, message) = run(&through, &asked, &[]).await.failed();
    assert_eq!((code, reason.as_str()), (Some(1), "Unreachable"), "{message}");

    let gateway = Gateway::start(moto.port, |_| Passed::Answered(403, "AccessDenied")).await;
    let through = BucketTarget { endpoint: gateway.endpoint.clone(), ..target };
    let (code, reason, message) = run(&through, &asked, &[]).await.failed();
    assert_eq!((code, reason.as_str()), (Some(i32::from(contract::RULES_REFUSED)), "AccessDenied"), "{message}");
    assert!(message.starts_with("lifecycle: failed to get access to bucket \"away\""), "{message}");

    let servers = Servers::shared().await;
    let target = servers.bucket("rules-away");
    client(&target).create().await.expect("bucket");
    let wrong = BucketTarget { keys: Some(by_keys("owner", "another")), ..target.clone() };
    assert_eq!(run(&wrong, &asked, &[]).await.failed().1, "AuthenticationFailed");
    let stranger = BucketTarget { keys: Some(by_keys("stranger", PASSWORD)), ..target.clone() };
    assert_eq!(run(&stranger, &asked, &[]).await.failed().1, "AccessDenied");
    let missing = BucketTarget { bucket: "nowhere".to_owned(), ..target };
    assert_eq!(run(&missing, &asked, &[]).await.failed().1, "NotFound");
}

/// Moto keeps the rules of a replication and copies nothing, so the test is the server that copies.
#[tokio::test]
async fn a_replication_counts_when_an_object_has_arrived() {
    let moto = Moto::shared().await;
    let [here, there] = ["replicated", "replica"].map(|name| moto.bucket(name));
    let [source, replica] = [client(&here), client(&there)];
    for bucket in [&source, &replica] {
        bucket.create().await.expect("bucket");
        // Moto answers whether it is on under another name than S3 gives it; without it no replication is taken.
        let _ = bucket.enable_versioning().await;
    }
    let asked = rules(SHOP, &json!({"replication": {"bucket": "replica", "region": "us-east-1", "role": ROLE}}));
    let (code, reason, message) = run(&here, &asked, &["--arrival-seconds", "0"]).await.failed();
    assert_eq!((code, reason.as_str()), (Some(1), "ReplicationNotProven"), "{message}");
    assert!(message.contains(ROLE) && message.contains("\"replica\""), "{message}");
    assert_eq!(source.versions("").await.expect("versions"), [], "nothing is left of the probe");
    assert_eq!(ids(&source, RuleKind::Replication).await, ours(SHOP, &["replication"]));

    let copies = async {
        until("a probe", async || {
            let Some(probe) = source.list("rorun-replication-probe-").await.expect("list").pop() else { return false };
            let Some(body) = source.get(&probe.key).await.expect("get") else { return false };
            replica.put(&probe.key, body).await.expect("put");
            true
        })
        .await;
    };
    let (proven, ()) = tokio::join!(run(&here, &asked, &["--arrival-seconds", "20"]), copies);
    assert_eq!(proven.notes(), [""; 0]);
    for bucket in [&source, &replica] {
        assert_eq!(bucket.versions("").await.expect("versions"), [], "nothing is left of the probe");
    }

    let role = "arn:aws:iam::123456789012:role/another";
    let other = rules(OTHER, &json!({"replication": {"bucket": "replica", "region": "us-east-1", "role": role}}));
    let notes = run(&here, &other, &[]).await.notes();
    assert!(notes.len() == 1 && notes[0].contains("write it in roleARN"), "a bucket has one role: {notes:?}");
    assert_eq!(document(&source, RuleKind::Replication).await.role().as_deref(), Some(ROLE));
    assert_eq!(run(&here, &rules(SHOP, &json!({})), &[]).await.notes(), [""; 0]);
    assert_eq!(ids(&source, RuleKind::Replication).await, [""; 0]);
}

/// Keys that may not look into the other bucket: then the word of the server counts, as it stands at the object.
#[tokio::test]
async fn the_word_of_the_server_counts_where_the_keys_may_not_look() {
    let moto = Moto::shared().await;
    let here = moto.bucket("told-source");
    for target in [&here, &moto.bucket("told-replica")] {
        client(target).create().await.expect("bucket");
        let _ = client(target).enable_versioning().await;
    }
    let asked = rules(SHOP, &json!({"replication": {"bucket": "told-replica", "region": "us-east-1", "role": ROLE}}));
    let run_as = async |status: &'static str| {
        let gateway = Gateway::start(moto.port, move |request| {
            if request.path.starts_with("/told-replica") {
                return Passed::Answered(403, "AccessDenied");
            }
            let head = request.method == "HEAD" && request.path.contains("rorun-replication-probe-");
            if head { Passed::Replicated(status) } else { Passed::On }
        })
        .await;
        let through = BucketTarget { endpoint: gateway.endpoint.clone(), ..here.clone() };
        run(&through, &asked, &["--arrival-seconds", if status == "PENDING" { "0" } else { "20" }]).await
    };
    let notes = run_as("COMPLETED").await.notes();
    assert!(notes.len() == 1 && notes[0].contains("stays in bucket told-replica"), "{notes:?}");
    for (status, words) in [("PENDING", "did not arrive"), ("FAILED", "failed to copy an object")] {
        let (code, reason, message) = run_as(status).await.failed();
        assert_eq!((code, reason.as_str()), (Some(1), "ReplicationNotProven"), "{message}");
        assert!(message.contains(words) && message.contains(ROLE), "{message}");
    }
    assert_eq!(client(&here).versions("").await.expect("versions"), [], "nothing is left of the probes");
}

/// Of a bucket that a controller sets the rules of: nothing is written there, and what is not so, or does not arrive, is told.
#[tokio::test]
async fn rules_that_somebody_else_sets_are_compared() {
    let moto = Moto::shared().await;
    let [here, there] = ["compared", "compared-replica"].map(|name| moto.bucket(name));
    for target in [&here, &there] {
        client(target).create().await.expect("bucket");
        let _ = client(target).enable_versioning().await;
    }
    let bucket = client(&here);
    let replication = json!({"bucket": "compared-replica", "region": "us-east-1", "role": ROLE});
    let all = json!({"lifecycle": lifecycle(), "origins": ["https://app.example.com"], "replication": replication});
    let set = rules(SHOP, &all);
    let compared = BucketRules { ids: "rorun-".to_owned(), compared: true, ..set.clone() };
    let (code, reason, message) = run(&here, &compared, &[]).await.failed();
    assert_eq!((code, reason.as_str()), (Some(1), "Unsupported"), "it may be set yet");
    assert_eq!(message, "lifecycle: the bucket has no rule rorun-archive");
    assert_eq!(ids(&bucket, RuleKind::Lifecycle).await, [""; 0], "nothing is written");

    run(&here, &set, &["--arrival-seconds", "0"]).await.failed();
    // The controller names them without an owner.
    for kind in RuleKind::ALL {
        let mut rules = document(&bucket, kind).await;
        for rule in &mut rules.rules {
            rule.text = rule.text.replace(&set.ids, &compared.ids);
        }
        bucket.send_rules(&rules).await.expect("rules");
    }
    let (_, reason, message) = run(&here, &compared, &["--arrival-seconds", "0"]).await.failed();
    assert_eq!(reason, "ReplicationNotProven", "{message}");
    let copies = async {
        until("a probe", async || {
            let Some(probe) = bucket.list("rorun-replication-probe-").await.expect("list").pop() else { return false };
            let Some(body) = bucket.get(&probe.key).await.expect("get") else { return false };
            client(&there).put(&probe.key, body).await.expect("put");
            true
        })
        .await;
    };
    let (proven, ()) = tokio::join!(run(&here, &compared, &["--arrival-seconds", "20"]), copies);
    assert_eq!(proven.notes(), [""; 0]);

    let mut fewer = compared.clone();
    fewer.lifecycle.as_mut().expect("rules").expire_noncurrent_after_days = Some(31);
    let (_, _, message) = run(&here, &fewer, &[]).await.failed();
    assert!(message.starts_with("lifecycle: the rule rorun-noncurrent is another one: "), "{message}");
    assert!(message.contains("31") && message.contains("30"), "{message}");

    // Keys that may not read the rules, of a stack that had no Job for them before.
    let gateway = Gateway::start(moto.port, |request| {
        let rules = ["lifecycle", "cors", "replication"].into_iter().any(|of| request.asks(of));
        if rules { Passed::Answered(403, "AccessDenied") } else { Passed::On }
    })
    .await;
    let denied = BucketTarget { endpoint: gateway.endpoint.clone(), ..here.clone() };
    let notes = run(&denied, &BucketRules { replication: None, ..compared }, &[]).await.notes();
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(notes[0].starts_with("bucket.lifecycle could not be compared: failed to get access"), "{notes:?}");
}
