//! Generated files are what the code generates. `UPDATE_GENERATED=1 cargo test -p rorun-operator --test generated` rewrites
//! them.

use std::{fs, path::Path};

use rorun_operator::cli::{crd, rbac};
use rstest::rstest;

const BY: &str = "# Generated: `UPDATE_GENERATED=1 cargo test -p rorun-operator --test generated` rewrites it.\n";

#[rstest]
#[case::definition("crds/rorunstacks.rorun.app.yaml", crd::yaml())]
#[case::definition_in_the_chart("charts/rorun-operator/files/rorunstacks.rorun.app.yaml", crd::yaml())]
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
