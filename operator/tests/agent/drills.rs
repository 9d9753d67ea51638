//! Drills with the real PostgreSQL: a good point, and each way in which one is not.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rorun_operator::contract::{
    self, DUMP_FILE, DrillCheck, DrillFault, DrillOutcome, DrillRecord, MANIFEST_FILE, VERIFIED_FILE, Verdict,
};
use serde_json::{Value, json};

use crate::points::SCHEMA;
use crate::process::{signal, until};
use crate::programs;
use crate::scenario::Scenario;
use crate::servers::PASSWORD;

/// `agent drill` as a pod would run it.
fn command(scenario: &Scenario) -> (Command, PathBuf) {
    of_agent(scenario, contract::DRILL)
}

/// What restores into a server of its own, as a pod would run it: PostgreSQL refuses to run as root.
pub(crate) fn of_agent(scenario: &Scenario, name: &str) -> (Command, PathBuf) {
    let folder = scenario.servers.folder().join(format!("{}-{name}", scenario.name));
    fs::create_dir_all(&folder).expect("folder");
    let mut command = Command::new(programs::agent());
    if programs::is_root() {
        programs::run(Command::new("chown").arg("-R").arg("postgres:postgres").arg(&folder));
        command.uid(programs::id(&["-u", "postgres"])).gid(programs::id(&["-g", "postgres"]));
    }
    let result = folder.join("result");
    command.current_dir(&folder).args([contract::AGENT, name, contract::ARG_PREFIX, &scenario.prefix]);
    command.args([contract::ARG_OWNER, &scenario.owner(), contract::ARG_WORK]).arg(folder.join("work"));
    command.arg("--termination-path").arg(&result);
    command.env_clear().env("PATH", &scenario.servers.programs);
    // What the pod of an application has must not count.
    command.env("PGHOST", "live.invalid").env("PGDATABASE", "live").env("PGOPTIONS", "-c nonsense=1");
    command.env(contract::ENV_S3_ENDPOINT, format!("http://127.0.0.1:{}", scenario.servers.s3_port));
    command.env(contract::ENV_S3_REGION, "us-east-1").env(contract::ENV_S3_BUCKET, scenario.name);
    command.env(contract::ENV_S3_FORCE_PATH_STYLE, "true");
    command.env(contract::ENV_ACCESS_KEY_ID, "owner").env(contract::ENV_SECRET_ACCESS_KEY, PASSWORD);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    (command, result)
}

pub(crate) async fn drill(scenario: &Scenario, change: impl FnOnce(&mut Command)) -> DrillOutcome {
    let (mut command, path) = command(scenario);
    change(&mut command);
    outcome_of(command, path).await
}

/// Likewise, in a mount namespace of its own that root prepares with a script of the shell. `$1` is the folder of the server.
pub(crate) async fn drill_in(scenario: &Scenario, prepare: &str, change: impl FnOnce(&mut Command)) -> DrillOutcome {
    let (mut agent, path) = command(scenario);
    change(&mut agent);
    let work = path.with_file_name("work");
    fs::create_dir_all(&work).expect("folder");
    let owner = programs::run(Command::new("id").args(["-u", "postgres"]));
    let become_user = format!("exec /usr/bin/setpriv --reuid={0} --regid={0} --clear-groups \"$@\"", owner.trim());
    let script = format!("set -e; {prepare}; shift; {become_user}");
    let mut command = Command::new("/usr/bin/unshare");
    command.args(["--mount", "--propagation", "private", "/bin/sh", "-c", &script, "sh"]).arg(&work);
    command.arg(agent.get_program()).args(agent.get_args());
    command.env_clear().envs(agent.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(path.parent().expect("a folder"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    outcome_of(command, path).await
}

async fn outcome_of(mut command: Command, path: PathBuf) -> DrillOutcome {
    let _ = fs::remove_file(&path);
    let output = tokio::task::spawn_blocking(move || command.output().expect("agent")).await.expect("agent");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let result = fs::read(&path).unwrap_or_else(|error| panic!("no result: {error}: {said}"));
    assert!(result.len() <= 4096 && !said.contains(PASSWORD), "{said}");
    let outcome: DrillOutcome = serde_json::from_slice(&result).expect("result");
    let good = matches!(outcome, DrillOutcome::Complete(_));
    assert_eq!(output.status.success(), good, "{outcome:?}: {said}");
    let server = path.with_file_name("work").join("server");
    assert!(!server.exists(), "the files of the drill stay: {said}");
    outcome
}

pub(crate) fn complete(outcome: DrillOutcome) -> DrillRecord {
    match outcome {
        DrillOutcome::Complete(record) => record,
        failed @ DrillOutcome::Failed { .. } => panic!("{failed:?}"),
    }
}

pub(crate) fn failed(outcome: DrillOutcome) -> (DrillFault, String) {
    match outcome {
        DrillOutcome::Failed { fault, message, .. } => (fault, message),
        complete @ DrillOutcome::Complete(_) => panic!("{complete:?}"),
    }
}

pub(crate) async fn change_manifest(scenario: &Scenario, id: &str, change: impl FnOnce(&mut Value)) {
    let key = format!("{}{id}/{MANIFEST_FILE}", scenario.prefix);
    let mut manifest: Value =
        serde_json::from_slice(&scenario.bucket.get(&key).await.expect("get").expect("manifest")).expect("JSON");
    change(&mut manifest);
    scenario.bucket.put(&key, manifest.to_string().into_bytes()).await.expect("put");
}

#[tokio::test]
async fn a_good_point_is_restored_compared_and_marked() {
    let scenario = Scenario::new("drill-good").await;
    scenario.sql(SCHEMA).await;
    // A policy names a role that the server of the drill does not have, and the owner of a table as well.
    scenario.sql("CREATE ROLE \"Cashier \"\"A\"\"\" LOGIN; ALTER TABLE receipts OWNER TO \"Cashier \"\"A\"\"\"").await;
    scenario
        .sql("CREATE POLICY own ON receipts TO \"Cashier \"\"A\"\"\" USING (true); CREATE TABLE \"tab\tle\" (n int)")
        .await;
    scenario.bucket.enable_versioning().await.expect("versioning");
    for number in 0..30 {
        scenario.bucket.put(&format!("uploads/{number}"), vec![1; 100]).await.expect("put");
    }
    let mut dump = scenario.command();
    dump.args([contract::ARG_OBJECTS, contract::ARG_OBJECTS_EXCEPT, "backups/"]);
    let point = scenario.run(dump).await.complete();
    let checks = [("receipts", "SELECT count(*) FROM receipts", "2000"), ("none", "SELECT 'a' WHERE false", "")];
    let record = complete(
        drill(&scenario, |command| {
            for (name, sql, expect) in checks {
                let check = DrillCheck { name: name.to_owned(), sql: sql.to_owned(), expect: expect.to_owned() };
                command.args([contract::ARG_CHECK, &serde_json::to_string(&check).expect("JSON")]);
            }
        })
        .await,
    );
    assert_eq!((record.id.as_str(), record.verdict, record.checks), (point.id.as_str(), Verdict::Whole, 2));
    assert_eq!((record.rows, record.objects), (Some(2010), Some(20)));
    let verified = format!("{}{}/{VERIFIED_FILE}", scenario.prefix, point.id);
    let told: DrillRecord =
        serde_json::from_slice(&scenario.bucket.get(&verified).await.expect("get").expect("a mark")).expect("JSON");
    assert_eq!(told, record);
    let wrong =
        DrillCheck { name: "vat".to_owned(), sql: "SELECT sum(id) FROM receipts".to_owned(), expect: "1".to_owned() };
    let wrong = serde_json::to_string(&wrong).expect("JSON");
    let (fault, message) = failed(
        drill(&scenario, |command| {
            command.args([contract::ARG_CHECK, &wrong]);
        })
        .await,
    );
    assert_eq!(
        (fault, message.as_str()),
        (DrillFault::CheckFailed, "check \"vat\": the answer is \"2001000\", not \"1\"")
    );
    // An object whose version is gone.
    for version in scenario.bucket.versions("uploads/").await.expect("versions") {
        scenario.bucket.delete_version(&version).await.expect("delete");
    }
    let (fault, message) = failed(drill(&scenario, |_| {}).await);
    assert!(fault == DrillFault::ObjectsDiffer && message.contains("it is gone"), "{message}");
    assert_eq!(
        scenario.bucket.size(&verified).await.expect("size"),
        None,
        "what a drill found wrong is still verified"
    );
}

/// Corrupt, cut off, swapped with another's, of a server too new, with other rows, views and large objects: each is found.
#[tokio::test]
async fn each_way_in_which_a_point_is_not_good_is_found() {
    let scenario = Scenario::new("drill-bad").await;
    let (fault, message) = failed(drill(&scenario, |_| {}).await);
    assert!(fault == DrillFault::NoPoint && message.contains("no recovery point"), "{message}");
    scenario.sql(SCHEMA).await;
    let first = scenario.dump().await;
    scenario.sql("INSERT INTO receipts VALUES (9999, 'late')").await;
    let point = scenario.dump().await;
    let key = |id: &str| format!("{}{id}/{DUMP_FILE}", scenario.prefix);
    let good = scenario.bucket.get(&key(&point.id)).await.expect("get").expect("dump");
    let put = async |body: Vec<u8>| scenario.bucket.put(&key(&point.id), body).await.expect("put");

    let mut corrupt = good.clone();
    // Within the data: its beginning would be refused by anybody.
    let middle = corrupt.len() * 3 / 4;
    corrupt[middle] ^= 1;
    put(corrupt).await;
    let (fault, message) = failed(drill(&scenario, |_| {}).await);
    assert!(fault == DrillFault::Corrupt && message.contains("another SHA-256"), "{message}");

    put(good[..good.len() - 100].to_vec()).await;
    let (fault, message) = failed(drill(&scenario, |_| {}).await);
    assert!(fault == DrillFault::Corrupt && message.contains("cut off"), "{message}");

    let other = scenario.bucket.get(&key(&first.id)).await.expect("get").expect("dump");
    put(other.clone()).await;
    let (fault, _) = failed(drill(&scenario, |_| {}).await);
    assert_eq!(fault, DrillFault::Corrupt);
    // The manifest as well, as if both had been exchanged: the rows tell.
    let sha256 = first.sha256.clone();
    change_manifest(&scenario, &point.id, |manifest| {
        manifest["objects"][0]["size"] = json!(other.len());
        manifest["objects"][0]["sha256"] = json!(sha256);
    })
    .await;
    let (fault, message) = failed(drill(&scenario, |_| {}).await);
    assert_eq!(fault, DrillFault::Differs);
    assert!(message.contains("public.receipts has 2000 rows instead of 2001"), "{message}");

    // What the rows do not tell.
    for (member, told, words) in [
        ("materializedViews", json!({"public.later": true}), "materialized view public.later is not populated"),
        ("materializedViews", json!({"public.totals": false}), "public.totals is populated, and was not"),
        ("materializedViews", json!({"public.none": true}), "materialized view public.none is missing"),
        ("largeObjects", json!(3), "2 large objects instead of 3"),
    ] {
        let mut before = Value::Null;
        let contents = |manifest: &mut Value| {
            manifest["contents"]["rows"]["public.receipts"] = json!(2000);
            before = std::mem::replace(&mut manifest["contents"][member], told);
        };
        change_manifest(&scenario, &point.id, contents).await;
        let (fault, message) = failed(drill(&scenario, |_| {}).await);
        assert!(fault == DrillFault::Differs && message.contains(words), "{message}");
        change_manifest(&scenario, &point.id, |manifest| manifest["contents"][member] = before).await;
    }

    change_manifest(&scenario, &point.id, |manifest| manifest["serverVersion"] = json!("99.1")).await;
    let (fault, message) = failed(drill(&scenario, |_| {}).await);
    assert!(fault == DrillFault::ServerTooOld && message.contains("backup.verify.image"), "{message}");
    assert!(!scenario.keys().await.iter().any(|key| key.ends_with(VERIFIED_FILE)), "a bad point is marked as verified");
    // The one before it is good.
    let record = complete(
        drill(&scenario, |command| {
            command.args(["--point", &first.id]);
        })
        .await,
    );
    assert_eq!((record.id, record.rows), (first.id, Some(2010)));
}

#[tokio::test]
async fn an_encrypted_point_needs_its_identity() {
    let scenario = Scenario::new("drill-sealed").await;
    scenario.sql(SCHEMA).await;
    let identity = age::x25519::Identity::generate();
    let mut dump = scenario.command();
    dump.args([contract::ARG_RECIPIENT, &identity.to_public().to_string()]);
    scenario.run(dump).await.complete();
    let record = complete(drill(&scenario, |_| {}).await);
    assert_eq!((record.verdict, record.rows), (Verdict::ChecksumsOnly, None));
    assert!(record.message.contains("backup.identitySecretRef"), "{}", record.message);
    assert!(!scenario.keys().await.iter().any(|key| key.ends_with(VERIFIED_FILE)), "nothing was restored");
    let with = async |identity: &age::x25519::Identity| {
        let text = age::secrecy::ExposeSecret::expose_secret(&identity.to_string()).to_owned();
        drill(&scenario, |command| {
            command.env(contract::ENV_IDENTITY, format!("# a key\n{text}\n"));
        })
        .await
    };
    let (fault, message) = failed(with(&age::x25519::Identity::generate()).await);
    assert!(fault == DrillFault::WrongIdentity && !message.contains("AGE-SECRET-KEY"), "{message}");
    let record = complete(with(&identity).await);
    assert_eq!((record.verdict, record.rows), (Verdict::Whole, Some(2010)));
}

#[tokio::test]
async fn a_drill_that_is_told_to_stop_leaves_no_server_and_no_verdict() {
    let scenario = Scenario::new("drill-stopped").await;
    scenario.fill(60).await;
    scenario.dump().await;
    let (mut command, path) = command(&scenario);
    let mut child = command.spawn().expect("agent");
    let data = path.with_file_name("work").join("server/data/postmaster.pid");
    let pid = || -> Option<u32> { fs::read_to_string(&data).ok()?.lines().next()?.parse().ok() };
    until("the server of the drill", async || pid().is_some()).await;
    let server = pid().expect("a pid");
    signal("TERM", child.id());
    let status = tokio::task::spawn_blocking(move || child.wait().expect("agent")).await.expect("agent");
    assert_eq!(status.code(), Some(143));
    until("the end of the server", async || !PathBuf::from(format!("/proc/{server}")).exists()).await;
    assert!(!path.exists(), "a drill without an end has a result");
    // The next one finds the files of the first, and is not kept by them.
    complete(drill(&scenario, |_| {}).await);
}
