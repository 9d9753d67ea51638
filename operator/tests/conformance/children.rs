//! What the operator applies for the examples, on both servers: who owns which field afterwards, keyed lists and atomic maps
//! included, and that nothing of it is missing.

use rorun_operator::{apply::contains, objects::DesiredObject};
use serde_json::{Value, json};

use crate::{
    pair::{Call, NAMESPACE, Pair},
    support,
};

/// Applies the objects of each example, and then again with something taken out.
pub async fn objects_of_the_examples_have_the_same_managers(pair: &Pair) {
    let mut compared = 0;
    let mut paths: Vec<_> =
        std::fs::read_dir(support::examples()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for (number, path) in paths.iter().filter(|path| path.extension().is_some_and(|name| name == "yaml")).enumerate() {
        for object in support::objects(&support::example(path)) {
            let name = format!("e{number}-{}", object.name);
            compare(pair, &object, &name, object.body.clone()).await;
            compare(pair, &object, &name, smaller(object.body.clone())).await;
            compared += 2;
        }
    }
    println!("{compared} applies of children gave the same managed fields");
    assert!(compared > 50, "only {compared} were compared");
}

/// Without a label and the first volume, mount, variable and port.
fn smaller(mut body: Value) -> Value {
    let template = ["/spec/template/spec", "/spec/jobTemplate/spec/template/spec"];
    let at = template.into_iter().find(|at| body.pointer(at).is_some());
    if let Some(at) = at {
        for list in ["/containers/0/env", "/containers/0/volumeMounts"] {
            if let Some(Value::Array(items)) =
                body.pointer_mut(&format!("{at}{list}")).filter(|list| list.as_array().unwrap().len() > 1)
            {
                items.remove(0);
            }
        }
    }
    body["metadata"]["labels"].as_object_mut().unwrap().remove("app.kubernetes.io/part-of");
    body
}

async fn compare(pair: &Pair, object: &DesiredObject, name: &str, mut body: Value) {
    body["metadata"]["name"] = json!(name);
    body["metadata"]["namespace"] = json!(NAMESPACE);
    let kind = object.kind;
    let root = if kind.group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{}", kind.api_version()) };
    let at = format!("{root}/namespaces/{NAMESPACE}/{}/{name}", kind.plural);
    let call = Call {
        method: "PATCH",
        path: format!("{at}?fieldManager=rorun-operator&force=true"),
        content: "application/apply-patch+yaml",
        body: body.clone(),
        object: at,
    };
    let (real, model) = pair.call(&call).await;
    assert_eq!(real.0, model.0, "{} {}", real.1, call.body);
    let (fields, modelled) = (applied(&real.1), applied(&model.1));
    assert_eq!(fields, modelled, "{name}\nreal:  {fields:#}\nmodel: {modelled:#}");
    assert!(contains(&real.1, &body) && contains(&model.1, &body), "{name}: {}", real.1);
}

/// What the operator applied, by the server.
fn applied(object: &Value) -> Value {
    let managed = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let ours = managed.into_iter().find(|entry| entry["manager"] == "rorun-operator" && entry["operation"] == "Apply");
    ours.map(|entry| entry["fieldsV1"].clone()).unwrap_or_default()
}
