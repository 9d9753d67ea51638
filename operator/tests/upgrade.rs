//! The upgrade contract: a new operator restarts no pod. Each released version left its examples and the pods that it made of
//! them under `tests/released/<version>/`; this version must make the same pods, selectors and Services of the same examples.
//!
//! `RECORD_RELEASE=1 cargo test -p rorun-operator --test upgrade` records this version, once: a recorded one never changes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of a test are tests too, which clippy does not know"
)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use k8s_openapi::ByteString;
use rorun_operator::{
    contract,
    desired::everything,
    names::Component,
    objects::DesiredObject,
    plan,
    stack::{CredentialState, Observed},
};
use serde_json::{Value, json};
use support::example;

/// Stacks that hold a wrong value today, which an upgrade corrects at the price of one restart: version, example, object, and
/// why the value is wrong.
const CORRECTED: [(&str, &str, &str, &str); 3] = [
    ("0.1.0", "external-services.yaml", "deployment/rorun-api", AUTHORITIES),
    ("0.1.0", "production.yaml", "deployment/rorun-api", AUTHORITIES),
    ("0.1.0", "production.yaml", "deployment/rorun-ocr", AUTHORITIES),
];
const AUTHORITIES: &str = "PGSSLROOTCERT names the authorities of Redis and the bucket, so that libpq refuses a database that \
                           is none of theirs, and clients that replace the public authorities know none of them";

/// Versions that gave Redis a password alone, which its Secret goes on to hold.
const REDIS_WITHOUT_A_USER: [&str; 1] = ["0.1.0"];

#[test]
fn the_pods_of_each_released_version_stay_as_they_are() {
    let mut compared = 0;
    for version in directories(&released()) {
        for path in manifests(&version.join("examples")) {
            let (release, name) = (file_name(&version), file_name(&path));
            let golden = fs::read_to_string(version.join("pods").join(&name)).unwrap();
            let golden: BTreeMap<String, Value> = serde_saphyr::from_str(&golden).unwrap();
            let mut current = pods(&path, REDIS_WITHOUT_A_USER.contains(&&*release));
            for (object, before) in &golden {
                let now = current.remove(object).unwrap_or(Value::Null);
                let corrected = CORRECTED.iter().any(|of| (of.0, of.1, of.2) == (&*release, &*name, &**object));
                assert_eq!(
                    *before == now,
                    !corrected,
                    "{object} of {name} of {release}: an upgrade {}",
                    if corrected {
                        "no longer changes it: take it out of CORRECTED".to_owned()
                    } else {
                        format!("would restart it or cut it off:\n{}", difference(before, &now))
                    }
                );
                compared += 1;
            }
            assert!(current.is_empty(), "{name} of {release} makes new objects: {:?}", current.keys());
        }
    }
    assert!(compared > 100, "{compared} objects were compared");
}

#[test]
fn this_version_is_recorded_when_it_is_asked_for() {
    if std::env::var_os("RECORD_RELEASE").is_none() {
        return;
    }
    let version = released().join(env!("CARGO_PKG_VERSION"));
    assert!(!version.join("pods").exists(), "{} is recorded already, and stays", version.display());
    fs::create_dir_all(version.join("pods")).unwrap();
    fs::create_dir_all(version.join("examples")).unwrap();
    for path in manifests(&support::examples()).into_iter().filter(|path| support::is_of_stack(path)) {
        fs::copy(&path, version.join("examples").join(file_name(&path))).unwrap();
        fs::write(version.join("pods").join(file_name(&path)), serde_saphyr::to_string(&pods(&path, false)).unwrap())
            .unwrap();
    }
}

/// The agent is in pods of the application where Redis or the bucket names an authority: it stays the one that they have. So it does in
/// those of a candidate that is being tested.
#[test]
fn an_operator_of_another_image_keeps_the_agent_of_running_pods() {
    let cr = example(&support::examples().join("production.yaml"));
    let deployments = |observed: &Observed| -> BTreeMap<String, Value> {
        let release = plan::Release { candidates: vec![Component::Api], ..plan::Release::default() };
        let planned = plan::Plan { release, ..plan::Plan::default() };
        let all = everything(&support::valid_with(&cr, observed), &planned).into_iter();
        all.filter(|object| object.kind.kind == "Deployment").map(|object| (object.name, object.body)).collect()
    };
    let image = |deployment: &Value| {
        let init = deployment.pointer("/spec/template/spec/initContainers/0/image").and_then(Value::as_str);
        init.map(str::to_owned)
    };
    let mut observed = support::all_there(&cr);
    let before = deployments(&observed);
    assert_eq!(image(&before["rorun-api"]).as_deref(), Some(support::AGENT_IMAGE));
    observed.agent_image = "ghcr.io/rorun/rorun-operator:9.9.9".to_owned();
    // As the Deployments say of themselves.
    for (component, name) in [(Component::Api, "rorun-api"), (Component::Ocr, "rorun-ocr")] {
        let said = before[name]["metadata"]["annotations"]["rorun.app/corrected"].as_str().unwrap();
        observed.corrected.insert(component, said.to_owned());
    }
    let said = before["rorun-api-candidate"]["metadata"]["annotations"]["rorun.app/corrected"].as_str().unwrap();
    observed.corrected_candidates.insert(Component::Api, said.to_owned());
    assert_eq!(deployments(&observed), before, "a new operator restarts pods");
    // With pods that are replaced anyway the agent is the new one.
    let database = observed.secrets.get_mut("postgres").and_then(Option::as_mut).unwrap();
    let url = String::from_utf8(database["DATABASE_URL"].clone()).unwrap().replace("/rorun", "/other");
    database.insert("DATABASE_URL".to_owned(), url.into_bytes());
    let after = deployments(&observed);
    for of in ["rorun-api", "rorun-api-candidate"] {
        assert_eq!(image(&after[of]).as_deref(), Some("ghcr.io/rorun/rorun-operator:9.9.9"), "{of}");
    }
    assert_eq!(after["rorun-admin"], before["rorun-admin"], "it is told nothing of services");
}

/// Each edit of a spec changes what dumps are told. That stands in their Secret alone: a CronJob that is written begins its schedule
/// anew, and a pod or a Job that is written is made again.
#[test]
fn only_the_secret_of_dumps_tells_of_which_stack_they_are() {
    let mut compared = 0;
    for path in manifests(&support::examples()).into_iter().filter(|path| support::is_of_stack(path)) {
        let cr = example(&path);
        let stack = support::valid(&cr);
        let all = everything(&stack, &rorun_operator::plan::Plan::default());
        let told = all.iter().filter(|object| object.body.to_string().contains(contract::ENV_ORIGIN));
        let told: Vec<_> = told.map(|object| object.key().to_string()).collect();
        let expected: Vec<_> = stack.backup.iter().map(|_| "secret/rorun-backup".to_owned()).collect();
        assert_eq!(told, expected, "{}", path.display());
        compared += told.len();
        // All that another spec changes of what is there is that object, and what the spec is about.
        let mut other = cr.clone();
        other.spec.api.progress_deadline_seconds = Some(1234);
        let changed = everything(&support::valid(&other), &rorun_operator::plan::Plan::default());
        let keys = changed.iter().filter(|object| !all.contains(object)).map(|object| object.key().to_string());
        let expected = expected.into_iter().chain(["deployment/rorun-api".to_owned()]).collect();
        assert_eq!(keys.collect::<BTreeSet<String>>(), expected, "{}", path.display());
    }
    assert!(compared > 10, "{compared} stacks have backups");
}

/// Where only the database names an authority, everything was right.
#[test]
fn only_pods_with_something_wrong_are_corrected() {
    for (file, corrected) in [("staging.yaml", false), ("external-services.yaml", true), ("minimal.yaml", false)] {
        let stack = support::valid(&example(&support::examples().join(file)));
        assert_eq!(!stack.corrections().is_empty(), corrected, "{file}");
        let marked = everything(&stack, &rorun_operator::plan::Plan::default())
            .iter()
            .any(|object| !object.body["metadata"]["annotations"]["rorun.app/corrected"].is_null());
        assert_eq!(marked, corrected, "{file}");
    }
}

/// What the sessions of a migration ask of the server is no part of what the migration is: an operator that asks for more runs none again.
/// A name of a Job changes only with what the user wrote.
#[test]
fn a_migration_keeps_its_name_whatever_its_sessions_ask_for() {
    let settings = "client_connection_check_interval%3D3000";
    let name = "application_name=rorun-operator-migrates";
    let mut jobs = String::new();
    for (file, version, asks) in [
        ("minimal.yaml", None, settings),
        ("minimal.yaml", Some("13"), name),
        ("cloudnativepg.yaml", None, settings),
        ("production-aws.yaml", None, settings),
        ("external-services.yaml", None, name),
        ("supabase.yaml", None, name),
    ] {
        let mut cr = example(&support::examples().join(file));
        let mut spec = serde_json::to_value(&cr.spec).unwrap();
        spec["environment"] = json!("Development");
        spec["api"]["migrations"] = json!({"command": ["migrate"]});
        if let Some(version) = version {
            spec["database"] = json!({"embedded": {"version": version}});
        }
        spec.as_object_mut().unwrap().remove("backup");
        cr.spec = serde_json::from_value(spec).unwrap();
        let observed = support::all_there(&cr);
        let stack = support::valid_with(&cr, &observed);
        let plan = plan::plan(&stack, &observed, 1_800_000_000);
        let stack = plan::picked(stack, &plan);
        let made = plan.release.migration.as_ref().map(|step| step.name.as_str());
        let objects = everything(&stack, &plan);
        let secret = objects.iter().find(|object| (object.kind.kind, &*object.name) == ("Secret", "rorun-migration"));
        let url: ByteString = serde_json::from_value(secret.unwrap().body["data"]["DATABASE_URL"].clone()).unwrap();
        let url = String::from_utf8(url.0).unwrap();
        assert!(url.contains(asks), "{file} {version:?}");
        writeln!(jobs, "{file} {}: {}", version.unwrap_or_default(), made.unwrap()).unwrap();
    }
    insta::assert_snapshot!(jobs);
}

/// What of an example's objects decides whether pods restart, or are found: pod templates, selectors, and Services.
/// `password_alone`: its Secret for Redis names no user.
fn pods(path: &Path, password_alone: bool) -> BTreeMap<String, Value> {
    let cr = example(path);
    let mut observed = support::all_there(&cr);
    if let Some(CredentialState::Present(data)) = observed.credentials.get_mut(&Component::Redis)
        && password_alone
    {
        data.remove("username");
    }
    let objects = everything(&support::valid_with(&cr, &observed), &rorun_operator::plan::Plan::default());
    objects.iter().filter_map(|object| Some((object.key().to_string(), lasting(object)?))).collect()
}

fn lasting(object: &DesiredObject) -> Option<Value> {
    let fields: &[&str] = match object.kind.kind {
        "Deployment" | "StatefulSet" => &["selector", "template", "serviceName", "volumeClaimTemplates"],
        "Service" => &["selector", "ports", "type", "clusterIP"],
        _ => return None,
    };
    let spec = &object.body["spec"];
    Some(
        fields
            .iter()
            .filter(|field| !spec[**field].is_null())
            .map(|field| ((*field).to_owned(), spec[*field].clone()))
            .collect(),
    )
}

/// The lines that differ, as YAML.
fn difference(before: &Value, now: &Value) -> String {
    let lines = |value: &Value| serde_saphyr::to_string(&json!(value)).unwrap();
    let (before, now) = (lines(before), lines(now));
    let only = |these: &str, those: &str, sign: char| {
        let missing = these.lines().filter(|line| !those.lines().any(|other| other == *line));
        missing.map(|line| format!("{sign} {line}\n")).collect::<Vec<_>>().concat()
    };
    only(&before, &now, '-') + &only(&now, &before, '+')
}

fn released() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/released")
}

fn directories(of: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(of).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.is_dir());
    paths
}

fn manifests(of: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(of).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    paths
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}
