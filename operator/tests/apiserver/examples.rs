//! The examples, and the objects and pods that they become.

use std::path::PathBuf;

use rorun_operator::objects::KINDS;
use serde_json::{Value, json};

use super::{
    server::{Server, Store},
    support::{example, examples, is_of_stack, objects, template},
};

pub async fn each_is_accepted(server: &Server) {
    for (name, path) in all() {
        let namespace = server.namespace(&format!("example-{name}")).await;
        let manifest: Value = serde_saphyr::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        for store in [Store::No, Store::Yes] {
            let stored =
                server.create(&namespace, &manifest, store).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            // Nothing is added and nothing is taken away: defaults are not written into specs.
            assert_eq!(stored["spec"], manifest["spec"], "{name}");
        }
    }
}

pub async fn the_objects_of_each_are_accepted(server: &Server) {
    for (name, path) in all() {
        let namespace = server.namespace(&format!("objects-{name}")).await;
        for object in objects(&example(&path)) {
            let stored = server.create_object(&namespace, object.kind, &object.body, Store::Yes).await;
            let stored = stored.unwrap_or_else(|error| panic!("{name}, {}: {error}", object.key()));
            let lost = lost(&object.body, &stored, "");
            assert!(lost.is_empty(), "{name}, {}: the server changed {lost:?}", object.key());
        }
    }
}

/// The namespaces enforce the Pod Security Standard `restricted`, of which workloads are only warned.
pub async fn the_pods_of_each_are_admitted_as_restricted(server: &Server) {
    let pods = KINDS.iter().find(|kind| kind.kind == "Pod").unwrap();
    for (name, path) in all() {
        let namespace = server.namespace(&format!("pods-{name}")).await;
        let all = objects(&example(&path));
        for account in all.iter().filter(|object| object.kind.kind == "ServiceAccount") {
            server.create_object(&namespace, account.kind, &account.body, Store::Yes).await.unwrap();
        }
        for object in &all {
            let Some(template) = template(object) else { continue };
            let mut pod =
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
            pod["metadata"]["name"] = json!(object.name);
            // Whether the class exists is the cluster's business.
            pod["spec"].as_object_mut().unwrap().remove("priorityClassName");
            let admitted = server.create_object(&namespace, pods, &pod, Store::No).await;
            assert!(admitted.is_ok(), "{name}, {}: {admitted:?}", object.key());
        }
    }
}

fn all() -> impl Iterator<Item = (String, PathBuf)> {
    let mut paths: Vec<_> = std::fs::read_dir(examples()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml") && is_of_stack(path));
    paths.sort();
    assert!(paths.len() > 10, "{paths:?}");
    paths.into_iter().map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path))
}

/// The paths at which what was wanted is not what was stored; the server may add, but not change.
fn lost(wanted: &Value, stored: &Value, path: &str) -> Vec<String> {
    match (wanted, stored) {
        (Value::Object(wanted), Value::Object(stored)) => wanted
            .iter()
            .flat_map(|(key, member)| lost(member, stored.get(key).unwrap_or(&Value::Null), &format!("{path}/{key}")))
            .collect(),
        (Value::Array(wanted), Value::Array(stored)) if wanted.len() == stored.len() => {
            let pairs = wanted.iter().zip(stored).enumerate();
            pairs.flat_map(|(index, (wanted, stored))| lost(wanted, stored, &format!("{path}/{index}"))).collect()
        }
        _ if wanted == stored => Vec::new(),
        _ => vec![format!("{path}: {wanted} to {stored}")],
    }
}
