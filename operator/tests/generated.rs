//! Generated files are what the code generates. `UPDATE_GENERATED=1 cargo test -p rorun-operator --test generated` rewrites
//! them.

use std::{fs, path::Path};

use rorun_operator::cli::{crd, rbac};
use rstest::rstest;

const BY: &str = "# Generated: `UPDATE_GENERATED=1 cargo test -p rorun-operator --test generated` rewrites it.\n";

#[rstest]
#[case::definition("crds/rorunstacks.rorun.app.yaml", crd::yaml())]
#[case::definition_in_the_chart("charts/rorun-operator/files/rorunstacks.rorun.app.yaml", crd::yaml())]
#[case::backups("crds/rorunbackups.rorun.app.yaml", definition("rorunbackups.rorun.app"))]
#[case::backups_in_the_chart(
    "charts/rorun-operator/files/rorunbackups.rorun.app.yaml",
    definition("rorunbackups.rorun.app")
)]
#[case::restores("crds/rorunrestores.rorun.app.yaml", definition("rorunrestores.rorun.app"))]
#[case::restores_in_the_chart(
    "charts/rorun-operator/files/rorunrestores.rorun.app.yaml",
    definition("rorunrestores.rorun.app")
)]
#[case::rules("charts/rorun-operator/files/rules.yaml", rbac::rules_yaml())]
fn is_what_the_code_generates(#[case] path: &str, #[case] generated: std::io::Result<String>) {
    let file = root().join(path);
    let generated = format!("{BY}{}", generated.expect("YAML"));
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(&file, &generated).expect("a file that can be written");
    }
    // Not `assert_eq`, which would print thousands of lines.
    assert!(
        fs::read_to_string(&file).is_ok_and(|text| text == generated),
        "{path} is not what the code generates; {BY}"
    );
}

fn definition(name: &str) -> std::io::Result<String> {
    let all = crd::definitions()?;
    Ok(all.into_iter().find(|(of, _)| *of == name).expect("a definition").1)
}

/// `kubectl apply` keeps the whole object as JSON in an annotation, and the API server refuses one above 262,144 bytes. The file itself
/// has no such limit: its indentation is not sent.
#[test]
fn the_definition_can_be_applied() {
    const LIMIT: usize = 250_000;
    let yaml = crd::yaml().expect("YAML");
    let definition: serde_json::Value = serde_saphyr::from_str(&yaml).expect("YAML that can be read");
    let annotation = definition.to_string().len();
    assert!(annotation < LIMIT, "{annotation} bytes in the annotation");
}

/// Whoever reads `kubectl explain` learns of every field that may be omitted what the operator does then.
#[test]
fn every_optional_field_tells_its_default() {
    let definition: serde_json::Value =
        serde_saphyr::from_str(&crd::yaml().expect("YAML")).expect("YAML that can be read");
    let spec = definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").expect("a spec");
    let mut silent = Vec::new();
    let count = without_default(spec, "spec", &mut silent);
    assert!(count > 80, "only {count} optional fields were found");
    assert!(silent.is_empty(), "these do not say `Defaults to`: {silent:#?}");
}

/// How many fields below a schema are optional. Those that do not tell their default are added to `silent`.
fn without_default(schema: &serde_json::Value, path: &str, silent: &mut Vec<String>) -> usize {
    const KUBERNETES: [&str; 5] = ["affinity", "tolerations", "topologySpreadConstraints", "env", "envFrom"];
    // Exactly one of them is set.
    const MODES: [&str; 3] = ["database", "redis", "bucket"];
    let of_kubernetes = KUBERNETES.iter().any(|name| path.ends_with(&format!(".{name}")));
    let properties = schema["properties"].as_object().filter(|_| !of_kubernetes);
    let required = |name: &str| {
        let listed = schema["required"].as_array().is_some_and(|list| list.iter().any(|field| field == name));
        listed || MODES.iter().any(|service| path == format!("spec.{service}") && name != "versioning")
    };
    let mut count = 0;
    for (name, field) in properties.into_iter().flatten() {
        let path = format!("{path}.{name}");
        if !required(name) {
            count += 1;
            let description = field["description"].as_str().unwrap_or_default();
            if !description.contains("Defaults") || description.contains("Left out") {
                silent.push(path.clone());
            }
        }
        let inner = if field["items"].is_object() { &field["items"] } else { field };
        count += without_default(inner, &path, silent);
    }
    count
}

#[test]
fn the_chart_is_of_the_version_of_the_operator() {
    let chart = fs::read_to_string(root().join("charts/rorun-operator/Chart.yaml")).expect("a Chart.yaml");
    for key in ["version", "appVersion"] {
        let wanted = format!("{key}: {}", env!("CARGO_PKG_VERSION"));
        assert!(chart.lines().any(|line| line == wanted), "Chart.yaml does not say `{wanted}`");
    }
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
