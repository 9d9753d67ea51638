//! The definition itself: whether the server likes it, explains it and prints it.

use serde_json::{Value, json};

use super::{
    server::{Server, Store},
    support::{items, stack, text},
};

/// What comes from Kubernetes is explained by `kubectl explain pod.spec`.
const KUBERNETES: [&str; 5] = ["affinity", "tolerations", "topologySpreadConstraints", "valueFrom", "metadata"];

pub async fn it_is_established_without_complaints(server: &Server) {
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/rorunstacks.rorun.app";
    let definition = server.get(path).await.unwrap();
    let conditions: Vec<_> = items(&definition, "/status/conditions")
        .map(|condition| {
            (text(condition, "/type").unwrap(), text(condition, "/status").unwrap(), text(condition, "/message"))
        })
        .collect();
    for wanted in ["Established", "NamesAccepted"] {
        assert!(conditions.iter().any(|(kind, status, _)| (*kind, *status) == (wanted, "True")), "{conditions:?}");
    }
    // Anything else, such as NonStructuralSchema, is a complaint.
    assert_eq!(conditions.len(), 2, "{conditions:?}");
    let names = &definition["status"]["acceptedNames"];
    assert_eq!(names["shortNames"], json!(["rstack"]));
    assert_eq!(names["categories"], json!(["rorun"]));
}

/// From the first second on, before any operator has seen it: kstatus takes an object without a status for Current.
pub async fn a_new_stack_is_not_observed(server: &Server) {
    let namespace = server.namespace("not-observed").await;
    let stored = server.create(&namespace, &stack("shop").0, Store::Yes).await.unwrap();
    assert_eq!(stored["status"], json!({"observedGeneration": -1}));
    assert_eq!(stored["metadata"]["generation"], 1);
}

/// What `kubectl explain` reads.
pub async fn every_field_is_explained(server: &Server) {
    let path = "/openapi/v3/apis/rorun.app/v1alpha1";
    // The server publishes it some time after it serves stacks.
    server.until("the schema is published", async || server.get(path).await.is_ok()).await;
    let published = server.get(path).await.unwrap();
    let schema = &published["components"]["schemas"]["app.rorun.v1alpha1.RorunStack"];
    let mut silent = Vec::new();
    let count = look_at(schema, "rstack", &mut silent);
    assert!(count > 200, "only {count} fields were found");
    assert!(silent.is_empty(), "without a description: {silent:#?}");
}

fn look_at(schema: &Value, path: &str, silent: &mut Vec<String>) -> usize {
    let object = schema.get("items").unwrap_or(schema);
    let fields = object.get("properties").and_then(Value::as_object).into_iter().flatten();
    let looked = fields.filter(|(name, _)| !matches!(name.as_str(), "apiVersion" | "kind")).map(|(name, field)| {
        let path = format!("{path}.{name}");
        if field.get("description").and_then(Value::as_str).is_none_or(str::is_empty) {
            silent.push(path.clone());
        }
        if KUBERNETES.contains(&name.as_str()) { 1 } else { 1 + look_at(field, &path, silent) }
    });
    looked.sum()
}

pub async fn the_columns_tell_what_they_should(server: &Server) {
    let namespace = server.namespace("columns").await;
    let spec = stack("shop").with_all_workloads();
    let mut stored = server.create(&namespace, &spec.0, Store::Yes).await.unwrap();
    let condition = |kind: &str, message: &str| {
        let (at, reason) = ("2026-11-24T02:15:00Z", "Ready");
        json!({"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": at})
    };
    let kinds = ["Ready", "Available", "DatabaseReady", "RedisReady", "BucketReady"];
    let conditions = kinds.map(|kind| condition(kind, "all is well"));
    stored["status"] = json!({
        "conditions": conditions,
        "components": [
            {"name": "api", "ready": true, "pods": "2/3"},
            {"name": "ocr", "ready": true, "pods": "1/1"},
        ],
        "endpoints": {"api": "https://api.example.com"},
        "release": {"state": "Serving", "image": "rorun-api:1.9.0"},
        "backup": {"lastSuccessful": {"id": "x", "at": "2026-11-24T02:15:00Z", "sizeBytes": 1, "location": "s3://b/x"}},
    });
    server.replace_status(&namespace, &stored).await.unwrap();
    let table = server.table(&namespace).await;
    let names: Vec<_> = items(&table, "/columnDefinitions").map(|column| text(column, "/name").unwrap()).collect();
    let always = ["Name", "Env", "Ready", "Release", "Image", "API", "OCR", "Database", "Backup", "URL", "Age"];
    let when_wide = ["Available", "Redis", "Bucket", "Message"];
    assert_eq!(names, [&always[..], &when_wide[..]].concat());
    let cells: Vec<_> = items(&table, "/rows/0/cells").map(|cell| cell.as_str().unwrap_or_default()).collect();
    assert_eq!(cells[..8], ["shop", "Development", "True", "Serving", "rorun-api:1.9.0", "2/3", "1/1", "True"]);
    assert!(!cells[8].is_empty() && cells[8] != "<unknown>", "the age of the backup is {:?}", cells[8]);
    assert_eq!(cells[9], "https://api.example.com");
    assert_eq!(cells[11..], ["True", "True", "True", "all is well"]);
    let wide = items(&table, "/columnDefinitions").filter(|column| column["priority"] != 0);
    let wide: Vec<_> = wide.map(|column| text(column, "/name").unwrap()).collect();
    assert_eq!(wide, when_wide, "for -o wide");
}
