//! Hibernation, expiry, and what a release is asked.

use serde_json::{Value, json};

use super::{super::support::stack, Case, case};

pub fn cases() -> Vec<Case> {
    let set = |field: &str, value: Value| stack("shop").set(field, value);
    let nights = |from: &str, until: &str| json!({"from": from, "until": until});
    let night = nights("0 20 * * *", "0 7 * * *");
    let rpo = |rpo: &str| set("backup", json!({"objectives": {"rpo": rpo}}));
    vec![
        case(
            set("hibernation", nights("0 7 * * *", "0 7 * * *")),
            &["spec.hibernation", "from and until must differ"],
            set("hibernation", night.clone()),
        ),
        case(
            set("hibernation", nights("daily", "0 7 * * *")),
            &["spec.hibernation.from"],
            set("hibernation", night.clone()),
        ),
        case(
            stack("shop").production().set("hibernation", night.clone()),
            &["leave hibernation out; hibernate: true stops a stack of any environment"],
            stack("shop").production().set("hibernate", json!(true)),
        ),
        case(
            stack("shop").staging().set("expiresAfter", json!("72h")),
            &["expiresAfter is for Development"],
            stack("shop").staging().set("hibernation", night),
        ),
        case(
            set("expiresAfter", json!("59m")),
            &["write a duration from `1h` to `8760h`"],
            set("expiresAfter", json!("1h")),
        ),
        case(
            set("expiresAfter", json!("3d")),
            &["spec.expiresAfter", "e.g. `72h`"],
            set("expiresAfter", json!("72h30m")),
        ),
        case(rpo("30s"), &["spec.backup.objectives.rpo", "write a duration from `1m` to `168h`"], rpo("1m")),
    ]
}

/// What a release is asked.
pub fn smoke_tests() -> Vec<Case> {
    let test = |field: &str, value: Value| {
        let mut test = json!({"component": "api", "path": "/health"});
        test[field] = value;
        stack("shop").set("release", json!({"smokeTests": [test]}))
    };
    let path = |path: &str| test("path", json!(path));
    let header = |name: &str| test("header", json!({"name": name}));
    vec![
        case(
            path("health"),
            &["spec.release.smokeTests[0].path", "write a path that starts with /"],
            path("/health?deep=true"),
        ),
        case(path("/a b"), &["spec.release.smokeTests[0].path", "without spaces and #"], path("/a%20b")),
        case(header("x y"), &["spec.release.smokeTests[0].header.name", "write the name of a header"], header("X-Y")),
        case(
            test("via", json!("Ingress")),
            &["a smoke test via: Ingress needs ingress: set ingress"],
            test("via", json!("Ingress")).set("ingress", json!({"host": "api.example.com"})),
        ),
        case(test("via", json!("Service")), &["spec.release.smokeTests[0].via"], test("via", json!("Candidate"))),
        case(test("status", json!(99)), &["spec.release.smokeTests[0].status"], test("status", json!(599))),
        case(
            test("component", json!("redis")),
            &["spec.release.smokeTests[0].component"],
            test("component", json!("ocr")),
        ),
    ]
}
