//! Hosts and paths, the URL of the API, disruption budgets and the speed of scaling.

use serde_json::{Value, json};

use super::{Case, case};
use crate::support::{Fixture, stack};

fn ingress(more: &Value) -> Fixture {
    let mut block = json!({"host": "a.example.com"});
    block.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    stack("shop").set("admin.image", json!("b:1")).set("ingress", block)
}

pub fn cases() -> Vec<Case> {
    [paths(), hosts(), urls(), disruptions(), behaviors()].into_iter().flatten().collect()
}

const PATH: &str = "write a path that starts with /, e.g. `/api`";

fn paths() -> Vec<Case> {
    let one = |path: &Value| ingress(&json!({"paths": [path]}));
    let prefix = |path: &str| one(&json!({"path": path, "component": "api"}));
    let free = |path: &str| one(&json!({"path": path, "pathType": "ImplementationSpecific", "component": "api"}));
    let twice = |kind: &str| {
        ingress(&json!({"paths": [{"path": "/a", "component": "api"},
            {"path": "/a", "pathType": kind, "component": "admin"}]}))
    };
    vec![
        case(prefix("api"), &["spec.ingress.paths[0].path", PATH], prefix("/api")),
        case(prefix(""), &["spec.ingress.paths[0].path", PATH], prefix("/")),
        case(prefix("/a//b"), &["without //, /./, /../ and %2f"], prefix("/a/b/")),
        case(prefix("/a/../b"), &["without //, /./, /../ and %2f"], prefix("/a/..b/c...d")),
        case(prefix("/a/.."), &["without //, /./, /../ and %2f"], prefix("/.well-known")),
        case(prefix("/a%2Fb"), &["without //, /./, /../ and %2f"], prefix("/a%20b")),
        case(prefix("/a b"), &[PATH], prefix("/a+b")),
        case(
            prefix("/api(/|$)(.*)"),
            &["other characters need `pathType: ImplementationSpecific`"],
            free("/api(/|$)(.*)"),
        ),
        case(free("/a b"), &[PATH], free("/a%2Fb//.")),
        case(free("a"), &[PATH], free("/*")),
        case(
            one(&json!({"path": "/a", "pathType": "Regex", "component": "api"})),
            &["spec.ingress.paths[0].pathType", "\"Prefix\", \"Exact\", \"ImplementationSpecific\""],
            one(&json!({"path": "/a", "pathType": "Exact", "component": "api"})),
        ),
        case(
            one(&json!({"path": "/a", "component": "database"})),
            &["spec.ingress.paths[0].component", "\"api\", \"ocr\", \"admin\""],
            one(&json!({"path": "/a", "component": "admin"})),
        ),
        case(ingress(&json!({"paths": []})), &["spec.ingress.paths"], ingress(&json!({}))),
        case(
            twice("Prefix"),
            &["spec.ingress.paths", "the same path stands twice in paths", "leave one of them out"],
            twice("Exact"),
        ),
        case(
            one(&json!({"path": "/a", "component": "admin"})).without("admin"),
            &["a path of ingress leads to admin, which the stack does not have: set admin"],
            one(&json!({"path": "/a", "component": "admin"})),
        ),
        case(
            one(&json!({"path": "/a", "component": "ocr"})),
            &["a path of ingress leads to ocr, which the stack does not have: set ocr"],
            one(&json!({"path": "/a", "component": "ocr"})).set("ocr.image", json!("o:1")),
        ),
    ]
}

fn hosts() -> Vec<Case> {
    let extra = |hosts: &Value| ingress(&json!({"extraHosts": hosts}));
    let leads_to =
        |component: &str| extra(&json!([{"host": "x.example.org", "paths": [{"path": "/a", "component": component}]}]));
    vec![
        case(
            extra(&json!([{"host": "x.example.org"}, {"host": "x.example.org"}])),
            &["spec.ingress.extraHosts[1]", "Duplicate value"],
            extra(&json!([{"host": "x.example.org"}, {"host": "y.example.org"}])),
        ),
        case(
            extra(&json!([{"host": "https://x.example.org"}])),
            &["spec.ingress.extraHosts[0].host", "write a DNS name"],
            // A condition refuses a path that two fields give, and names both.
            extra(&json!([{"host": "a.example.com"}])),
        ),
        case(
            extra(&json!([{"host": "x.example.org", "tls": {}}])),
            &["spec.ingress.extraHosts[0].tls.secretName: Required value"],
            extra(&json!([{"host": "x.example.org", "tls": {"secretName": "x-tls"}}])),
        ),
        case(
            leads_to("admin").without("admin"),
            &["a path of ingress leads to admin, which the stack does not have"],
            leads_to("admin"),
        ),
        case(
            leads_to("ocr"),
            &["a path of ingress leads to ocr, which the stack does not have"],
            leads_to("ocr").set("ocr.image", json!("o:1")),
        ),
    ]
}

fn urls() -> Vec<Case> {
    let words = &["apiURLFrom: Ingress needs ingress: set ingress", "leave apiURLFrom out and set API_URL in env"];
    let asks = |field: &str, fixture: Fixture| fixture.set(field, json!("Ingress"));
    let all = || ingress(&json!({})).set("ocr.image", json!("o:1"));
    let mut cases: Vec<_> = ["api.apiURLFrom", "ocr.apiURLFrom", "admin.apiURLFrom"]
        .map(|field| case(asks(field, all()).without("ingress"), words, asks(field, all())))
        .into();
    cases.push(case(
        all().set("admin.apiURLFrom", json!("Service")),
        &["spec.admin.apiURLFrom", "\"Ingress\""],
        asks("admin.apiURLFrom", all()),
    ));
    cases
}

fn disruptions() -> Vec<Case> {
    let set = |block: Value| stack("shop").set("api.disruption", block);
    let one = &["spec.api.disruption", "set exactly one of minAvailable and maxUnavailable, e.g. `disruption: {minA"];
    vec![
        case(set(json!({})), one, set(json!({"minAvailable": 0}))),
        case(set(json!({"minAvailable": 1, "maxUnavailable": 1})), one, set(json!({"maxUnavailable": 0}))),
        case(
            set(json!({"minAvailable": -1})),
            &["spec.api.disruption.minAvailable"],
            set(json!({"minAvailable": 1000})),
        ),
        case(
            set(json!({"minAvailable": 1001})),
            &["spec.api.disruption.minAvailable"],
            set(json!({"minAvailable": "100%"})),
        ),
        case(
            set(json!({"maxUnavailable": "101%"})),
            &["spec.api.disruption.maxUnavailable"],
            set(json!({"maxUnavailable": "0%"})),
        ),
        case(
            set(json!({"maxUnavailable": "1"})),
            &["spec.api.disruption.maxUnavailable"],
            set(json!({"maxUnavailable": "1%"})),
        ),
        case(
            set(json!({"maxUnavailable": 0.5})),
            &["spec.api.disruption.maxUnavailable"],
            set(json!({"maxUnavailable": 1})),
        ),
    ]
}

fn behaviors() -> Vec<Case> {
    let rules = |rules: Value| stack("shop").set("api.autoscaling.behavior", json!({"scaleDown": rules}));
    let policy = |type_: &str, value: i32, seconds: i32| {
        rules(json!({"policies": [{"type": type_, "value": value, "periodSeconds": seconds}]}))
    };
    let window = |seconds: i32| rules(json!({"stabilizationWindowSeconds": seconds}));
    let select = |of: &str| rules(json!({"selectPolicy": of}));
    vec![
        case(policy("Nodes", 1, 60), &["policies[0].type", "\"Pods\", \"Percent\""], policy("Pods", 1, 60)),
        case(policy("Percent", 0, 60), &["policies[0].value"], policy("Percent", 900, 60)),
        case(policy("Pods", 1, 0), &["policies[0].periodSeconds"], policy("Pods", 1, 1)),
        case(policy("Pods", 1, 1801), &["policies[0].periodSeconds"], policy("Pods", 1, 1800)),
        case(rules(json!({"policies": []})), &["scaleDown.policies"], rules(json!({}))),
        case(window(-1), &["scaleDown.stabilizationWindowSeconds"], window(0)),
        case(window(3601), &["scaleDown.stabilizationWindowSeconds"], window(3600)),
        case(select("Best"), &["scaleDown.selectPolicy", "\"Max\", \"Min\", \"Disabled\""], select("Disabled")),
        case(
            stack("shop").set("api.autoscaling.behavior", json!({"scaleIn": {}})),
            &["unknown field \"spec.api.autoscaling.behavior.scaleIn\""],
            stack("shop").set("api.autoscaling.behavior", json!({})),
        ),
    ]
}
