//! Objects whose fields a spec adds and takes back: what is no longer asked for is gone from what the server stores.

use serde_json::{Value, json};

use super::{
    server::Server,
    support::{Fixture, objects, stack},
};

fn scaled() -> Fixture {
    stack("shop")
        .set("admin.image", json!("b:1"))
        .set("api.autoscaling", json!({"minReplicas": 3}))
        .set("ingress", json!({"host": "a.example.com"}))
}

/// Applies the stack's object of a kind, and gives back what was wanted and what is stored.
async fn applied(server: &Server, namespace: &str, kind: &str, fixture: Fixture) -> (Value, Value) {
    let all = objects(&fixture.build());
    let object = all.iter().find(|object| object.kind.kind == kind).expect("an object of the kind");
    let stored = server.apply_object(namespace, object).await.unwrap_or_else(|error| panic!("{kind}: {error}"));
    (object.body["spec"].clone(), stored["spec"].clone())
}

pub async fn a_budget_changes_its_field(server: &Server) {
    let namespace = server.namespace("budgets").await;
    let budget = |block: Value| scaled().set("api.disruption", block);
    let fixtures = [
        scaled(),
        budget(json!({"minAvailable": "50%"})),
        budget(json!({"maxUnavailable": 0})),
        budget(json!({"minAvailable": 2})),
        scaled(),
    ];
    for fixture in fixtures {
        let (wanted, stored) = applied(server, &namespace, "PodDisruptionBudget", fixture).await;
        assert_eq!(stored, wanted);
    }
}

pub async fn hosts_and_paths_come_and_go(server: &Server) {
    let namespace = server.namespace("hosts").await;
    let wide = scaled().set(
        "ingress",
        json!({
            "host": "a.example.com",
            "adminHost": "b.example.com",
            "tls": {"secretName": "t"},
            "paths": [{"path": "/", "component": "api"}, {"path": "/", "pathType": "Exact", "component": "admin"},
                {"path": "/p(/|$)(.*)", "pathType": "ImplementationSpecific", "component": "admin"}],
            "extraHosts": [{"host": "c.example.org", "tls": {"secretName": "u"}},
                {"host": "b.example.com", "paths": [{"path": "/api", "component": "api"}]}],
        }),
    );
    for fixture in [scaled(), wide.clone(), wide.without("ingress.tls").without("ingress.extraHosts"), scaled()] {
        let (wanted, stored) = applied(server, &namespace, "Ingress", fixture).await;
        assert_eq!(stored, wanted);
    }
}

/// The server fills in its own rules beside those that are given, and they are left when these go: they are the defaults.
pub async fn a_behavior_that_is_taken_back_is_that_of_kubernetes(server: &Server) {
    let namespace = server.namespace("behaviors").await;
    let slow = json!({
        "scaleUp": {"selectPolicy": "Disabled"},
        "scaleDown": {"stabilizationWindowSeconds": 600, "selectPolicy": "Min",
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": 120}]},
    });
    let asked = scaled().set("api.autoscaling.behavior", slow.clone());
    let (_, stored) = applied(server, &namespace, "HorizontalPodAutoscaler", asked).await;
    assert_eq!(stored["behavior"]["scaleDown"], slow["scaleDown"]);
    assert_eq!(stored["behavior"]["scaleUp"]["selectPolicy"], "Disabled");
    let (_, stored) = applied(server, &namespace, "HorizontalPodAutoscaler", scaled()).await;
    for direction in ["scaleUp", "scaleDown"] {
        let rules = &stored["behavior"][direction];
        let own = [json!(null), json!("Max")].contains(&rules["selectPolicy"])
            && rules["stabilizationWindowSeconds"] != 600
            && !rules["policies"].to_string().contains("120");
        assert!(own, "{direction}: {rules}");
    }
}
