//! Hosts, paths, the public URL of the API and disruption budgets: what the objects hold, and what the user reads.

use rorun_operator::{
    desired::{Desired, desired, everything},
    names::{Component, reason},
    objects::DesiredObject,
    stack::references,
};
use rstest::rstest;
use serde_json::{Value, json};

use super::support::{Fixture, all_ready, containers, items, stack, template, text, valid};

fn with_panel() -> Fixture {
    stack("shop").with_all_workloads().set("ingress", json!({"host": "api.example.com"}))
}

fn asking() -> Fixture {
    with_panel().set("admin.apiURLFrom", json!("Ingress"))
}

fn object<'a>(objects: &'a [DesiredObject], kind: &str, name: &str) -> Option<&'a DesiredObject> {
    objects.iter().find(|object| object.kind.kind == kind && object.name == name)
}

fn variable(fixture: Fixture, deployment: &str, name: &str) -> Option<String> {
    let objects = everything(&valid(&fixture.build()), &rorun_operator::plan::Plan::default());
    let pod = template(object(&objects, "Deployment", deployment).unwrap()).unwrap();
    let variables: Vec<_> = containers(pod)
        .flat_map(|container| items(container, "/env"))
        .filter(|variable| text(variable, "/name") == Some(name))
        .filter_map(|variable| text(variable, "/value").map(str::to_owned))
        .collect();
    assert!(variables.len() < 2, "{variables:?}");
    variables.first().cloned()
}

#[rstest]
#[case::nobody_asked(with_panel(), "shop-admin", None)]
#[case::the_panel_asked(asking(), "shop-admin", Some("http://api.example.com"))]
#[case::others_did_not(asking(), "shop-api", None)]
#[case::the_api_asked(with_panel().set("api.apiURLFrom", json!("Ingress")), "shop-api", Some("http://api.example.com"))]
#[case::the_ocr_service_asked(with_panel().set("ocr.apiURLFrom", json!("Ingress")), "shop-ocr", Some("http://api.example.com"))]
#[case::with_a_certificate(asking().set("ingress.tls", json!({"secretName": "t"})), "shop-admin", Some("https://api.example.com"))]
#[case::below_a_path(
    asking().set("ingress.paths", json!([{"path": "/", "component": "admin"}, {"path": "/api", "component": "api"}])),
    "shop-admin", Some("http://api.example.com/api"))]
#[case::the_value_of_the_user_wins(
    asking().set("admin.env", json!([{"name": "API_URL", "value": "https://gateway.example.com"}])),
    "shop-admin", Some("https://gateway.example.com"))]
fn pods_that_ask_are_given_the_url_of_the_api(
    #[case] fixture: Fixture,
    #[case] deployment: &str,
    #[case] wanted: Option<&str>,
) {
    assert_eq!(variable(fixture, deployment, "API_URL").as_deref(), wanted);
}

/// Kubernetes replaces `$(API_URL)` only by variables that stand before.
#[test]
fn the_url_can_be_used_in_variables_of_the_user() {
    let fixture = asking().set("admin.env", json!([{"name": "VITE_API_URL", "value": "$(API_URL)"}]));
    let objects = everything(&valid(&fixture.build()), &rorun_operator::plan::Plan::default());
    let pod = template(object(&objects, "Deployment", "shop-admin").unwrap()).unwrap();
    let names: Vec<_> = containers(pod).flat_map(|container| items(container, "/env")).collect();
    let names: Vec<_> = names.into_iter().filter_map(|variable| text(variable, "/name")).collect();
    assert_eq!(names, ["PORT", "API_URL", "VITE_API_URL"]);
}

#[test]
fn a_url_that_no_path_leads_to_is_refused_and_its_pods_stay() {
    let served = valid(&asking().build());
    let live = all_ready(&served);
    let fixture = asking().set("ingress.paths", json!([{"path": "/", "component": "admin"}]));
    let Desired { waiting: held, objects, .. } =
        desired(&valid(&fixture.build()), &rorun_operator::plan::Plan::default(), &live);
    let waiting = &held[&Component::Admin];
    assert_eq!(waiting.reason, reason::INVALID_SPEC);
    let words =
        ["admin.apiURLFrom is Ingress", "no path of spec.ingress leads to the API", "{path: /, component: api}"];
    assert!(words.iter().all(|word| waiting.message.contains(word)), "{}", waiting.message);
    assert!(object(&objects, "Deployment", "shop-admin").is_none(), "the Deployment stays as it is");
    assert!(object(&objects, "Deployment", "shop-api").is_some(), "others are applied");
}

/// Which of two the Ingress controller would choose nobody knows: the Ingress that serves is left alone.
#[test]
fn an_ingress_with_a_contradiction_is_left_as_it_is() {
    let live = all_ready(&valid(&with_panel().build()));
    let twice = with_panel().set("ingress.extraHosts", json!([{"host": "api.example.com"}]));
    // Also while its certificate is missing, which alone would not stop its apply.
    for fixture in [twice.clone(), twice.set("ingress.tls", json!({"secretName": "nowhere"}))] {
        let cr = fixture.build();
        let stack = rorun_operator::stack::validate(&cr, &super::support::nothing_there(&cr));
        let Desired { waiting: held, objects, .. } = desired(&stack, &rorun_operator::plan::Plan::default(), &live);
        assert_eq!(held[&Component::Ingress].reason, reason::INVALID_SPEC);
        assert!(objects.iter().all(|object| object.kind.kind != "Ingress"), "it is not written");
    }
}

#[test]
fn certificates_of_extra_hosts_are_watched() {
    let cr = with_panel().set("ingress.extraHosts", json!([{"host": "x.y", "tls": {"secretName": "x-tls"}}])).build();
    assert!(references("shop", &cr.spec).secrets.contains("x-tls"));
}

#[rstest]
#[case::no_host(with_panel(), None)]
#[case::its_own_host(with_panel().set("ingress.adminHost", json!("admin.example.com")), Some("http://admin.example.com"))]
#[case::a_path_is_no_part_of_an_origin(
    with_panel().set("ingress.paths", json!([{"path": "/", "component": "api"}, {"path": "/admin", "component": "admin"}])),
    Some("http://api.example.com"))]
#[case::each_origin_once(
    with_panel().set("ingress.adminHost", json!("admin.example.com")).set("ingress.extraHosts", json!([
        {"host": "x.y", "paths": [{"path": "/", "component": "admin"}, {"path": "/old", "component": "admin"}]}])),
    Some("http://admin.example.com,http://x.y"))]
fn the_api_gets_the_origins_of_the_panel(#[case] fixture: Fixture, #[case] wanted: Option<&str>) {
    let connection = valid(&fixture.build()).connection.unwrap();
    assert_eq!(connection.data.get("CORS_ORIGINS").map(String::as_str), wanted);
}

#[rstest]
#[case::one_pod_without(json!({"replicas": 1}), Value::Null, "")]
#[case::one_at_a_time(json!({"replicas": 2}), json!({"maxUnavailable": 1}), "")]
#[case::asked_for_of_one_pod(json!({"replicas": 1, "disruption": {"maxUnavailable": 1}}), json!({"maxUnavailable": 1}), "")]
#[case::percent(json!({"replicas": 4, "disruption": {"maxUnavailable": "25%"}}), json!({"maxUnavailable": "25%"}), "")]
#[case::leaves_one(json!({"autoscaling": {"minReplicas": 3}, "disruption": {"minAvailable": 2}}), json!({"minAvailable": 2}), "")]
#[case::no_pods(json!({"replicas": 0, "disruption": {"minAvailable": 1}}), json!({"minAvailable": 1}),
    "deployment/shop-api has no pods: spec.api.replicas is 0")]
#[case::blocks(json!({"replicas": 2, "disruption": {"minAvailable": 2}}), json!({"minAvailable": 2}),
    "poddisruptionbudget/shop-api allows no eviction with 2 pods, so that the drain of a node waits: \
     api.disruption.minAvailable is 2; lower it, or run more pods")]
#[case::blocks_one(json!({"replicas": 1, "disruption": {"minAvailable": "50%"}}), json!({"minAvailable": "50%"}),
    "poddisruptionbudget/shop-api allows no eviction with 1 pod, so that the drain of a node waits: \
     api.disruption.minAvailable is 50%; lower it, or run more pods")]
#[case::blocks_at_the_fewest(json!({"autoscaling": {}, "disruption": {"minAvailable": 2}}), json!({"minAvailable": 2}),
    "poddisruptionbudget/shop-api allows no eviction at the autoscaler's minimum of 2 pods, so that the drain of a node \
     waits: api.disruption.minAvailable is 2; lower it, or run more pods")]
#[case::blocks_for_ever(json!({"replicas": 9, "disruption": {"maxUnavailable": 0}}), json!({"maxUnavailable": 0}),
    "poddisruptionbudget/shop-api allows no eviction with 9 pods, so that the drain of a node waits: \
     api.disruption.maxUnavailable is 0; raise it")]
fn a_budget_that_blocks_every_eviction_is_noted(#[case] api: Value, #[case] budget: Value, #[case] noted: &str) {
    let mut fixture = stack("shop");
    fixture.0["spec"]["api"].as_object_mut().unwrap().extend(api.as_object().unwrap().clone());
    let stack = valid(&fixture.build());
    let Desired { objects, notes, .. } = desired(&stack, &rorun_operator::plan::Plan::default(), &all_ready(&stack));
    let found = object(&objects, "PodDisruptionBudget", "shop-api").map(|found| found.body["spec"].clone());
    let fields = ["minAvailable", "maxUnavailable"];
    let set = |spec: Value| {
        let set: serde_json::Map<_, _> = fields
            .into_iter()
            .filter(|field| !spec[*field].is_null())
            .map(|field| (field.to_owned(), spec[field].clone()))
            .collect();
        Value::Object(set)
    };
    assert_eq!(found.map_or(Value::Null, set), budget);
    assert_eq!(notes.get(&Component::Api).map_or("", String::as_str), noted);
}
