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
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use rorun_operator::objects::DesiredObject;
use serde_json::{Value, json};
use support::{example, objects};

/// Stacks that hold a wrong value today, which an upgrade corrects at the price of one restart: version, example, object, and
/// why the value is wrong.
const CORRECTED: [(&str, &str, &str, &str); 0] = [];

#[test]
fn the_pods_of_each_released_version_stay_as_they_are() {
    let mut compared = 0;
    for version in directories(&released()) {
        for path in manifests(&version.join("examples")) {
            let (release, name) = (file_name(&version), file_name(&path));
            let golden = fs::read_to_string(version.join("pods").join(&name)).unwrap();
            let golden: BTreeMap<String, Value> = serde_saphyr::from_str(&golden).unwrap();
            let mut current = pods(&path);
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
    for path in manifests(&support::examples()) {
        fs::copy(&path, version.join("examples").join(file_name(&path))).unwrap();
        fs::write(version.join("pods").join(file_name(&path)), serde_saphyr::to_string(&pods(&path)).unwrap()).unwrap();
    }
}

/// What of an example's objects decides whether pods restart, or are found: pod templates, selectors, and Services.
fn pods(path: &Path) -> BTreeMap<String, Value> {
    objects(&example(path)).iter().filter_map(|object| Some((object.key().to_string(), lasting(object)?))).collect()
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
