//! The database by CloudNativePG.

use serde_json::{Value, json};

use super::{super::support::stack, Case, case};

#[expect(clippy::too_many_lines, reason = "a table")]
pub fn cases() -> Vec<Case> {
    let with = |block: Value| stack("shop").set("database", json!({"cloudNativePG": block}));
    let image = |image: &str| with(json!({"image": image}));
    let pooler = |block: Value| with(json!({"pooler": block}));
    let digest = format!("postgres:17@sha256:{}", "0".repeat(64));
    let tag =
        &["spec.database.cloudNativePG.image", "write an image whose tag begins with the major version, 14 to 18"];
    vec![
        case(
            with(json!({"instances": 0})),
            &["spec.database.cloudNativePG.instances", "1"],
            with(json!({"instances": 1})),
        ),
        case(
            with(json!({"instances": 10})),
            &["spec.database.cloudNativePG.instances", "9"],
            with(json!({"instances": 9})),
        ),
        case(
            with(json!({"version": "13"})),
            &["spec.database.cloudNativePG.version", "write a major version from `14` to `18`"],
            with(json!({"version": "14"})),
        ),
        case(with(json!({"version": "17.6"})), &["write a major version"], with(json!({"version": "18"}))),
        case(
            with(json!({"version": "17", "image": "postgres:17"})),
            &["set version or image, not both"],
            image("postgres:17"),
        ),
        case(image("postgres"), tag, image("r.example:5000/a/postgres:18.1-alpine")),
        case(image("postgres:latest"), tag, image(&digest)),
        case(image("postgres:170"), tag, image("postgres:17_1")),
        case(image("postgres@sha256:0"), tag, image("postgres:17-bookworm")),
        case(image("r.example:17/postgres"), tag, image("r.example:17/postgres:17")),
        case(
            with(json!({"antiAffinity": "Never"})),
            &["spec.database.cloudNativePG.antiAffinity"],
            with(json!({"antiAffinity": "Required"})),
        ),
        case(
            pooler(json!({"mode": "Statement"})),
            &["spec.database.cloudNativePG.pooler.mode"],
            pooler(json!({"mode": "Session"})),
        ),
        case(pooler(json!({"instances": 0})), &["spec.database.cloudNativePG.pooler.instances"], pooler(json!({}))),
        case(
            pooler(json!({"image": "https://x"})),
            &["spec.database.cloudNativePG.pooler.image", "without https://"],
            pooler(json!({"image": "x:1"})),
        ),
        case(
            with(json!({"parameters": {"a": "x".repeat(513)}})),
            &["spec.database.cloudNativePG.parameters"],
            with(json!({"parameters": {"a": "x".repeat(512)}})),
        ),
        case(
            with(json!({})).set("backup", json!({"pointInTime": {"days": 6}})),
            &["spec.backup.pointInTime.days", "7"],
            with(json!({})).set("backup", json!({"pointInTime": {"days": 7}})),
        ),
        case(
            with(json!({})).set("backup", json!({"pointInTime": {"days": 31}})),
            &["spec.backup.pointInTime.days", "30"],
            with(json!({})).set("backup", json!({"pointInTime": {"days": 30}})),
        ),
        case(
            with(json!({})).set("backup", json!({"pointInTime": {}})),
            &["spec.backup.pointInTime.days", "Required"],
            with(json!({})).set("backup", json!({})),
        ),
        case(
            stack("shop").set("backup", json!({"pointInTime": {"days": 14}})),
            &["backup.pointInTime needs database.cloudNativePG: leave pointInTime out"],
            stack("shop").set("backup", json!({})),
        ),
        case(
            stack("shop").set("database", json!({"cloudNativePG": {}, "embedded": {}})),
            &["set exactly one of embedded, external, cloudNativePG and rds"],
            with(json!({})),
        ),
        case(
            stack("shop").production().set("database", json!({"embedded": {}})),
            &["or cloudNativePG or rds for database"],
            stack("shop").production().set("database", json!({"cloudNativePG": {}})),
        ),
    ]
}
