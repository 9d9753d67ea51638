//! What collects metrics.

use serde_json::{Value, json};

use super::{super::support::stack, Case, case};

pub fn cases() -> Vec<Case> {
    let with = |field: &str, value: Value| {
        let mut block = json!({"scrape": true});
        block[field] = value;
        stack("shop").set("monitoring", block)
    };
    let path = |path: &str| with("metricsPath", json!(path));
    let interval = |every: &str| with("interval", json!(every));
    let label = |key: &str, value: &str| with("labels", json!({ key: value }));
    let long = |length| "a".repeat(length);
    vec![
        case(path("metrics"), &["spec.monitoring.metricsPath", "write a path that starts with /"], path("/")),
        case(path("/m?a=b"), &["spec.monitoring.metricsPath", "write a path"], path("/m/a=b")),
        case(path("/m m"), &["spec.monitoring.metricsPath", "write a path"], path("/m.m")),
        case(interval("0s"), &["spec.monitoring.interval", "write a duration from `1s` to `24h`"], interval("1s")),
        case(interval("25h"), &["spec.monitoring.interval", "write a duration"], interval("24h")),
        case(interval("30"), &["spec.monitoring.interval", "write a duration"], interval("1m30s")),
        case(
            label("re lease", "x"),
            &["spec.monitoring.labels", "write labels as Kubernetes has them"],
            label("re_lease", "x"),
        ),
        case(label("release", "-x"), &["spec.monitoring.labels", "write labels"], label("release", "")),
        case(label(&long(64), "x"), &["spec.monitoring.labels", "write labels"], label(&long(63), "x")),
        case(label("a/b/c", "x"), &["spec.monitoring.labels", "write labels"], label("a.example.com/c", "x")),
        case(label("release", &long(64)), &["spec.monitoring.labels", "63"], label("release", &long(63))),
        // By it the operator knows data, which it never prunes.
        case(
            label("rorun.app/retained", "true"),
            &["spec.monitoring.labels", "leave out labels that start with rorun.app/"],
            label("example.com/retained", "true"),
        ),
    ]
}
