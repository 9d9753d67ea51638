//! The spec of the stack in a recovery point: by the bucket alone it is read as it was told, and nobody else's.

use std::process::{Command, Output};

use age::secrecy::ExposeSecret as _;
use age::x25519::Identity;
use rorun_operator::agent::Manifest;
use rorun_operator::contract::{
    self, COPIED, DUMP_FILE, DumpRecord, LONGEST_ORIGIN, MANIFEST_FILE, MARKER_FILE, PointOrigin, RestoreStep,
    SPEC_FILE, Verdict,
};
use rorun_operator::services::bucket::{BucketClient, Headers, Timeouts};
use serde_json::{Value, json};

use crate::drills::{complete, drill};
use crate::points::{manifest, target};
use crate::prunes::days_ago;
use crate::restores::Restore;
use crate::sanitizes::{SANITIZE, Safe, production};
use crate::scenario::Scenario;
use crate::servers::PASSWORD;

/// What a user writes in clear, and no Secret has.
const IN_CLEAR: &str = "it is in the spec in clear";
const PINNED: &str = "ghcr.io/rorun/api:1@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The stack as the operator tells it.
fn stack(note: &str) -> Value {
    let variables = [json!({"name": "NOTE", "value": note})];
    json!({
        "apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack",
        "metadata": {"name": "shop", "namespace": "shop-namespace"},
        "spec": {"environment": "Development", "api": {"image": "ghcr.io/rorun/api:2", "env": variables}, "backup": {}},
    })
}

fn origin(note: &str) -> PointOrigin {
    let images = [("api".to_owned(), vec![PINNED.to_owned()])].into();
    PointOrigin { stack: Some(stack(note)), images, ..PointOrigin::default() }
}

/// `agent dump` in the pod of a stack.
fn told(scenario: &Scenario, origin: &str) -> Command {
    let mut command = scenario.command();
    command.env(contract::ENV_ORIGIN, origin);
    command
}

async fn dump(scenario: &Scenario) -> DumpRecord {
    scenario.run(told(scenario, &origin(IN_CLEAR).text())).await.complete()
}

/// `rorun-operator recovery-points --spec`.
fn print_spec(scenario: &Scenario, bucket: &str, point: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rorun-operator"));
    command.args(["recovery-points", "--bucket", bucket, "--spec", point, "--endpoint"]);
    command.arg(format!("http://127.0.0.1:{}", scenario.servers.s3_port)).args(more);
    command.env_clear().env("AWS_ACCESS_KEY_ID", "owner").env("AWS_SECRET_ACCESS_KEY", PASSWORD);
    let output = command.output().expect("run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains(PASSWORD) && !said.contains("AGE-SECRET-KEY"), "{said}");
    output
}

/// The manifest that it prints.
fn printed(scenario: &Scenario, bucket: &str, point: &str, more: &[&str]) -> Value {
    let output = print_spec(scenario, bucket, point, more);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_saphyr::from_str(&String::from_utf8(output.stdout).expect("text")).expect("YAML")
}

/// What it says where it prints none.
fn refused(scenario: &Scenario, point: &str, more: &[&str]) -> String {
    let output = print_spec(scenario, scenario.name, point, more);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    String::from_utf8(output.stderr).expect("text")
}

fn key(scenario: &Scenario, id: &str) -> String {
    format!("{}{id}/{SPEC_FILE}", scenario.prefix)
}

#[tokio::test]
async fn a_spec_is_read_from_the_bucket_as_it_was_told() {
    let scenario = Scenario::new("spec-told").await;
    scenario.sql("CREATE TABLE t (n int)").await;
    let record = dump(&scenario).await;
    let files = [DUMP_FILE, MANIFEST_FILE, SPEC_FILE].map(|file| format!("{}/{file}", record.id));
    assert_eq!(scenario.keys().await, files.into_iter().chain([MARKER_FILE.to_owned()]).collect());
    assert_eq!(record.not_whole, None);
    let Manifest { objects, spec, images, api_version, .. } = manifest(&scenario, &record.id).await;
    // An agent of an earlier release copies all of these, and knows no other file.
    let named: Vec<_> = objects.iter().filter_map(|object| object.key.rsplit('/').next()).collect();
    assert_eq!((named, images), (vec![DUMP_FILE], origin("").images));
    assert_eq!(spec.expect("a spec").key, key(&scenario, &record.id));
    // Whoever knows nothing of it still reads it.
    assert_eq!(api_version, "backup.rorun.app/v1");
    // What users write in clear is in no object that is never encrypted.
    let folder = format!("{}{}/{MANIFEST_FILE}", scenario.prefix, record.id);
    let body = scenario.bucket.get(&folder).await.expect("get").expect("a manifest");
    assert!(!String::from_utf8_lossy(&body).contains(IN_CLEAR));

    let name = scenario.name;
    let expected = stack(IN_CLEAR);
    assert_eq!(printed(&scenario, name, &record.id, &[]), expected);
    for ending in ["", "/", "/manifest.json"] {
        let location = format!("s3://{name}/{}{}{ending}", scenario.prefix, record.id);
        assert_eq!(printed(&scenario, name, &location, &["--prefix", "elsewhere/"]), expected, "{location}");
    }
    let mut pinned = expected.clone();
    pinned["spec"]["api"]["image"] = json!(PINNED);
    assert_eq!(printed(&scenario, name, &record.id, &["--pin-images"]), pinned);

    let said = |point: &str, more: &[&str]| refused(&scenario, point, more);
    assert!(said(&days_ago(3), &[]).contains("failed to find recovery point"));
    assert!(said("the newest", &[]).contains("it must be the id of a recovery point"));
    assert!(said(&format!("s3://another/{}{}/", scenario.prefix, record.id), &[]).contains("name its bucket"));
    // A point of an earlier release, whose operator told nothing.
    let before = scenario.dump().await;
    assert!(said(&before.id, &[]).contains("failed to find the spec in recovery point"));
    // Of one id below two folders.
    let other = scenario.bucket.get(&folder).await.expect("get").expect("a manifest");
    scenario.bucket.put(&format!("backups/shop/other/{}/{MANIFEST_FILE}", record.id), other).await.expect("put");
    assert!(said(&record.id, &[]).contains("name one of these with --prefix"));
    assert_eq!(printed(&scenario, name, &record.id, &["--prefix", &scenario.prefix]), expected);
}

#[tokio::test]
async fn a_spec_is_encrypted_as_the_dump_is() {
    let scenario = Scenario::new("spec-sealed").await;
    scenario.sql("CREATE TABLE t (n int)").await;
    let identity = Identity::generate();
    let recipient = identity.to_public().to_string();
    let mut command = told(&scenario, &origin(IN_CLEAR).text());
    command.args([contract::ARG_RECIPIENT, &recipient]);
    let record = scenario.run(command).await.complete();
    let sealed = scenario.bucket.get(&key(&scenario, &record.id)).await.expect("get").expect("a spec");
    assert!(sealed.starts_with(b"age-encryption.org/v1"));
    let file = |name: &str, identity: &Identity| {
        let path = scenario.servers.folder().join(name);
        std::fs::write(&path, format!("# a key\n{}\n", identity.to_string().expose_secret())).expect("identity");
        path.to_str().expect("a path").to_owned()
    };
    let (own, wrong) = (file("own.identity", &identity), file("wrong.identity", &Identity::generate()));
    for more in [&[][..], &["--identity-file", &wrong]] {
        let said = refused(&scenario, &record.id, more);
        assert!(said.contains(&recipient) && said.contains("failed to decrypt"), "{said}");
    }
    assert!(refused(&scenario, &record.id, &["--identity-file", "/no/such/file"]).contains("/no/such/file"));
    let read = printed(&scenario, scenario.name, &record.id, &["--identity-file", &own]);
    assert_eq!(read, stack(IN_CLEAR));
    // Its checksum is compared without the identity, as that of the dump is.
    let record_of_drill = complete(drill(&scenario, |_| {}).await);
    assert_eq!(record_of_drill.verdict, Verdict::ChecksumsOnly);
    assert!(!record_of_drill.message.contains(SPEC_FILE), "{record_of_drill:?}");
    scenario.bucket.put(&key(&scenario, &record.id), sealed.iter().map(|byte| byte ^ 1).collect()).await.expect("put");
    let record_of_drill = complete(drill(&scenario, |_| {}).await);
    assert_eq!(record_of_drill.verdict, Verdict::ChecksumsOnly);
    assert!(record_of_drill.message.contains(SPEC_FILE), "{record_of_drill:?}");
}

/// The rows are worth more than the spec: a dump is made all the same, and says what it lacks.
#[tokio::test]
async fn a_spec_that_cannot_be_told_costs_no_dump() {
    let scenario = Scenario::new("spec-lacking").await;
    scenario.sql("CREATE TABLE t (n int)").await;
    let made = async |text: &str| {
        let record = scenario.run(told(&scenario, text)).await.complete();
        let found = manifest(&scenario, &record.id).await;
        assert!(found.spec.is_none() && found.object(DUMP_FILE).is_some(), "{found:?}");
        (record.not_whole.unwrap_or_default(), found.images)
    };
    let (why, images) = made("of another release").await;
    assert!(why.starts_with("the point lacks the spec of the stack: ") && images.is_empty(), "{why}");
    let text: Vec<String> = (0..LONGEST_ORIGIN as u64 / 8).map(noise).collect();
    let (why, images) = made(&origin(&text.concat()).text()).await;
    assert!(why.contains("too many to tell a pod"), "{why}");
    assert_eq!(images, origin("").images, "the images are told all the same");
    // An operator that knows no spec has nothing to complain of.
    let (why, _) = made(&PointOrigin::default().text()).await;
    assert_eq!(why, "");
}

/// Sixteen digits that no compression makes much shorter.
fn noise(n: u64) -> String {
    let mixed = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    format!("{:016x}", mixed ^ (mixed >> 27))
}

#[tokio::test]
async fn a_spec_that_was_changed_is_found_and_keeps_no_data_back() {
    let scenario = Scenario::new("spec-changed").await;
    scenario.sql("CREATE TABLE receipts AS SELECT n FROM generate_series(1, 7) n").await;
    let record = dump(&scenario).await;
    let restore = Restore::of(&scenario, &record.id);
    assert_eq!(restore.done(RestoreStep::Check).await.warnings, [""; 0]);
    let key = key(&scenario, &record.id);
    let good = scenario.bucket.get(&key).await.expect("get").expect("a spec");
    let mut changed = good.clone();
    changed[good.len() / 2] ^= 1;
    for (body, words) in [(changed, "another SHA-256"), (good[1..].to_vec(), "it is cut off, or another's")] {
        scenario.bucket.put(&key, body).await.expect("put");
        let said = refused(&scenario, &record.id, &[]);
        assert!(said.contains(&key) && said.contains(words), "{said}");
        let warnings = restore.done(RestoreStep::Check).await.warnings;
        assert!(warnings.len() == 1 && warnings[0].contains(SPEC_FILE), "{warnings:?}");
        assert!(warnings[0].contains(words), "{warnings:?}");
        let told = complete(drill(&scenario, |_| {}).await);
        assert_eq!((told.verdict, told.rows), (Verdict::Whole, Some(7)));
        assert!(told.message.contains(SPEC_FILE) && told.message.contains(words), "{told:?}");
    }
    scenario.bucket.delete(&key).await.expect("delete");
    assert!(restore.done(RestoreStep::Check).await.warnings[0].contains("no such object"));
    assert!(complete(drill(&scenario, |_| {}).await).message.contains("no such object"));
    assert!(refused(&scenario, &record.id, &[]).contains("which the manifest names"));
    assert_eq!(restore.done(RestoreStep::Copy).await.rows, Some(7));
    // The catalogue tells it too.
    let output = Command::new(env!("CARGO_BIN_EXE_rorun-operator"))
        .args(["recovery-points", "--bucket", scenario.name, "--output", "json", "--endpoint"])
        .arg(format!("http://127.0.0.1:{}", scenario.servers.s3_port))
        .env_clear()
        .envs([("AWS_ACCESS_KEY_ID", "owner"), ("AWS_SECRET_ACCESS_KEY", PASSWORD)])
        .output()
        .expect("run");
    let points: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&points[0]["whole"], &points[0]["broken"]), (&json!(true), &Value::Null));
    assert_eq!((&points[0]["noSpec"], &points[0]["spec"]), (&json!("spec.json.zst is missing"), &json!(false)));
    assert_eq!(points[0]["images"], json!({"api": [PINNED]}));
}

#[tokio::test]
async fn a_copy_has_the_spec_and_what_is_removed_takes_it_along() {
    let scenario = Scenario::new("spec-copied").await;
    let there = BucketClient::new(&scenario.servers.bucket("spec-copied-there"), Timeouts::CHECK).expect("client");
    there.create().await.expect("bucket");
    scenario.sql("CREATE TABLE t (n int)").await;
    let copies = serde_json::to_string(&[target(&scenario, "spec-copied-there", "from-eu/")]).expect("JSON");
    let mut command = told(&scenario, &origin(IN_CLEAR).text());
    command.env(contract::ENV_COPIES, &copies);
    let record = scenario.run(command).await.complete();
    assert_eq!((record.copied, record.not_copied), (1, None));
    let location = format!("s3://spec-copied-there/from-eu/{}/", record.id);
    assert_eq!(printed(&scenario, "spec-copied-there", &location, &[]), stack(IN_CLEAR));

    // An old point goes with its spec, and so does what another release left of one, by its owner.
    let old = days_ago(30);
    scenario.put_backup(&old, Some(&scenario.owner())).await;
    scenario.put_backup(&days_ago(20), Some(&scenario.owner())).await;
    scenario.bucket.put(&key(&scenario, &old), b"a spec".to_vec()).await.expect("put");
    let (own, foreign) = (days_ago(10), days_ago(11));
    for (id, owner) in [(&own, scenario.owner()), (&foreign, "another/spec-copied".to_owned())] {
        let headers = Headers::saying(&[("rorun-owner", owner.as_str())]);
        scenario.bucket.create_with(&key(&scenario, id), b"a spec".to_vec(), &headers).await.expect("put");
    }
    let left = scenario.dump().await;
    let keys = scenario.keys().await;
    let has = |id: &str| keys.iter().any(|key| key.starts_with(id));
    assert_eq!((has(&old), has(&own), has(&foreign)), (false, false, true), "{keys:?}");
    assert!(has(&record.id) && has(&left.id), "{keys:?}");
}

/// The rows are worth more than the spec here too. A copy without it is one that an agent of an earlier release made: whole, and told.
#[tokio::test]
async fn a_spec_that_cannot_be_copied_keeps_no_copy_back() {
    let scenario = Scenario::new("spec-uncopied").await;
    let there = BucketClient::new(&scenario.servers.bucket("spec-uncopied-there"), Timeouts::CHECK).expect("client");
    there.create().await.expect("bucket");
    scenario.sql("CREATE TABLE t (n int)").await;
    let (gone, changed) = (dump(&scenario).await, dump(&scenario).await);
    scenario.bucket.delete(&key(&scenario, &gone.id)).await.expect("delete");
    scenario.bucket.put(&key(&scenario, &changed.id), b"another".to_vec()).await.expect("put");
    let copies = serde_json::to_string(&[target(&scenario, "spec-uncopied-there", "from-eu/")]).expect("JSON");
    let copy = async || {
        let mut command = told(&scenario, &origin(IN_CLEAR).text());
        command.env(contract::ENV_COPIES, &copies);
        scenario.run(command).await.complete()
    };
    let record = copy().await;
    assert_eq!((record.copied, &record.not_copied), (3, &None));
    let told = format!("the copy of {} in bucket \"spec-uncopied-there\" lacks the spec of the stack: ", changed.id);
    let why = record.not_whole.unwrap_or_default();
    assert!(why.starts_with(&told) && why.contains("another checksum"), "of several the newest: {why}");
    for id in [&gone.id, &changed.id] {
        let location = format!("s3://spec-uncopied-there/from-eu/{id}/");
        let output = print_spec(&scenario, "spec-uncopied-there", &location, &[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("failed to find from-eu/") && said.contains("an earlier release made it"), "{said}");
    }
    let keys = |id: &str| format!("from-eu/{id}/{SPEC_FILE}");
    assert_eq!(
        there.size(&keys(&changed.id)).await.expect("size"),
        None,
        "nothing wrong stays where a copy is looked for"
    );
    assert!(there.size(&keys(&record.id)).await.expect("size").is_some());
    for point in rorun_operator::agent::points(&there, "from-eu/").await.expect("points") {
        assert_eq!((point.whole, point.spec), (true, point.id == record.id), "{point:?}");
        assert_eq!(point.no_spec.is_some(), !point.spec, "{point:?}");
    }
    // A copy that was begun by such an agent gets its spec from this one, if the point has it.
    there.delete(&keys(&record.id)).await.expect("delete");
    for mark in scenario.keys().await.iter().filter(|key| key.starts_with(&format!("{}/{COPIED}", record.id))) {
        scenario.bucket.delete(&format!("{}{mark}", scenario.prefix)).await.expect("delete");
    }
    assert_eq!((copy().await.not_whole, there.size(&keys(&record.id)).await.expect("size").is_some()), (None, true));
}

/// Such a point leaves production.
#[tokio::test]
async fn a_sanitized_point_has_neither_the_spec_nor_the_images() {
    let (scenario, _) = production("spec-sanitized").await;
    let mut command = told(&scenario, &origin(IN_CLEAR).text());
    command.args([contract::ARG_ENVIRONMENT, "Production"]);
    let point = scenario.run(command).await.complete();
    assert!(manifest(&scenario, &point.id).await.spec.is_some());
    let safe = Safe::of(&scenario);
    let (mut command, result) = safe.command(SANITIZE);
    command.env(contract::ENV_ORIGIN, origin(IN_CLEAR).text());
    let record = safe.complete_command((command, result)).await;
    let made = manifest(&safe.into, &record.id).await;
    assert_eq!((made.sanitized_from.map(|id| id.to_string()), made.images.len()), (Some(point.id), 0));
    assert_eq!(made.spec, None);
    let keys = safe.into.keys().await;
    assert!(!keys.iter().any(|key| key.ends_with(SPEC_FILE)), "{keys:?}");
    let location = format!("s3://{}/{}{}/", scenario.name, safe.into.prefix, record.id);
    assert!(refused(&scenario, &location, &[]).contains("sanitized points and those of earlier releases have none"));
}
