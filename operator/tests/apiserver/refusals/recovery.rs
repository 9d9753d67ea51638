//! Copies, drills, encryption and objectives.

use serde_json::{Value, json};

use super::{super::support::stack, Case, case};

pub fn cases() -> Vec<Case> {
    let set = |backup: Value| stack("shop").set("backup", backup);
    let copy = |field: &str, value: Value| {
        let external =
            json!({"name": "elsewhere", "endpoint": "https://s3.example.com", "credentialsSecretRef": {"name": "s3"}});
        let mut copy = json!({"external": external});
        copy[field] = value;
        set(json!({"copies": [copy]}))
    };
    let verify = |field: &str, value: Value| set(json!({"verify": {field: value}}));
    let check = |name: &str| json!({"name": name, "sql": "SELECT 1", "expect": "1"});
    let rto = |rto: &str| set(json!({"objectives": {"rto": rto}}));
    let key = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    let recovery = vec![
        case(rto("4 hours"), &["spec.backup.objectives.rto", "write a duration from `1m` to `168h`"], rto("4h")),
        case(
            copy("prefix", json!("/from-here")),
            &["spec.backup.copies[0].prefix", "write a folder that ends in a slash"],
            copy("prefix", json!("from-here/")),
        ),
        case(
            copy("retention", json!({"days": 0})),
            &["spec.backup.copies[0].retention.days"],
            copy("retention", json!({"days": 1})),
        ),
        case(
            set(json!({"recipients": ["ssh-ed25519 AAAA"]})),
            &["spec.backup.recipients[0]"],
            set(json!({"recipients": [key]})),
        ),
        case(
            verify("schedule", json!("every sunday")),
            &["spec.backup.verify.schedule"],
            verify("schedule", json!("@weekly")),
        ),
        case(
            verify("image", json!("https://postgres")),
            &["spec.backup.verify.image", "write the name of an image"],
            verify("image", json!("postgres:17")),
        ),
        case(
            verify("checks", json!([check("a"), check("a")])),
            &["spec.backup.verify.checks[1]", "Duplicate value"],
            verify("checks", json!([check("a"), check("b")])),
        ),
    ];
    recovery.into_iter().chain(seeds()).collect()
}

fn seeds() -> Vec<Case> {
    let seed = |field: &str, value: Value| {
        let mut seed = json!({"location": "s3://safe/sanitized/n/shop/20261124T031500Z-q7k2p/",
            "endpoint": "https://s3.example.com", "credentialsSecretRef": {"name": "reader"}});
        seed[field] = value;
        seed
    };
    let point = || seed("region", json!("eu-west-1"));
    vec![
        case(
            stack("shop").production().set("seedFrom", point()),
            &["seedFrom is not for Production: leave it out, and restore a point with a RorunRestore"],
            stack("shop").staging().set("seedFrom", point()),
        ),
        case(
            stack("shop").set("seedFrom", seed("location", json!("s3://safe/sanitized/n/shop/"))),
            &["spec.seedFrom.location"],
            stack("shop").set("seedFrom", seed("location", json!("s3://safe/20261124T031500Z-q7k2p/manifest.json"))),
        ),
        case(
            stack("shop").set("seedFrom", seed("endpoint", json!("s3.example.com"))),
            &["spec.seedFrom.endpoint", "write a URL that starts with https:// or http://"],
            stack("shop").set("seedFrom", point()),
        ),
    ]
}
