//! The documentation names what the code has, and leads to files that exist.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of a test are tests too, which clippy does not know"
)]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use rorun_operator::names::Component;
use serde_json::json;
use support::{stack, valid};

#[test]
fn every_reason_is_explained_and_no_other() {
    let source = fs::read_to_string(root().join("operator/src/names/reason.rs")).unwrap();
    let reasons =
        source.lines().filter_map(|line| line.strip_prefix("pub const ")?.split('"').nth(1).map(str::to_owned));
    let reasons: BTreeSet<_> = reasons.collect();
    assert!(reasons.len() > 20, "{reasons:?}");
    let page = page("conditions.md");
    let (_, table) = page.split_once("## Reasons").unwrap();
    let explained = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next().map(str::to_owned));
    assert_eq!(explained.collect::<BTreeSet<_>>(), reasons);
}

/// A star says that the stack is stalled.
#[test]
fn reasons_that_need_somebody_are_marked() {
    let source = fs::read_to_string(root().join("operator/src/status/mod.rs")).unwrap();
    let list = source.split("NEEDS_THE_USER: ").nth(1).and_then(|rest| rest.split("];").next()).unwrap();
    let constants = list.lines().filter_map(|line| line.trim().strip_prefix("reason::")?.strip_suffix(','));
    let squeezed = |text: &str| text.replace('_', "").to_lowercase();
    let wanted: BTreeSet<_> = constants.map(squeezed).collect();
    assert!(wanted.len() > 5, "{wanted:?}");
    let marked = page("conditions.md");
    let marked = marked
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` * |").map(|(reason, _)| squeezed(reason)));
    assert_eq!(marked.collect::<BTreeSet<_>>(), wanted);
}

#[test]
fn every_condition_is_explained() {
    let page = page("conditions.md");
    for component in Component::ALL {
        assert!(page.contains(&format!("`{}`", component.condition())), "{}", component.condition());
    }
}

#[test]
fn every_key_of_the_connection_is_explained_and_no_other() {
    let cr = stack("shop")
        .with_all_workloads()
        .set("ingress", json!({"host": "api.example.com", "adminHost": "admin.example.com"}))
        .build();
    let keys_of = |cr| valid(cr).connection.unwrap().data.into_keys().map(str::to_owned);
    let mut keys: BTreeSet<_> = keys_of(&cr).collect();
    // Those that come only with a field of the spec.
    let asking = stack("shop")
        .with_external_services()
        .set("redis.external.clusterMode", json!(true))
        .set("bucket.external.checksums", json!("WhenRequired"))
        .set("bucket.external.credentialsSecretRef.sessionTokenKey", json!("token"))
        .build();
    keys.extend(keys_of(&asking));
    let cluster = json!({"elastiCache": {"nodeType": "cache.t4g.small", "clusterMode": true}});
    keys.extend(keys_of(&stack("shop").set("redis", cluster).build()));
    let page = page("connection.md");
    let rows = page.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split('|').nth(1));
    let explained = rows.flat_map(|names| names.split_whitespace()).map(|name| name.trim_matches('`').to_owned());
    assert_eq!(explained.collect::<BTreeSet<_>>(), keys);
}

#[test]
fn links_lead_to_files() {
    let entries = |folder: &str| fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> =
        entries("docs").filter(|path| path.is_file()).chain(entries("docs/runbooks")).collect();
    pages.push(root().join("README.md"));
    let mut broken = Vec::new();
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        for target in targets.filter(|target| !target.is_empty() && !target.contains("://")) {
            if !page.parent().unwrap().join(target).exists() {
                broken.push(format!("{}: {target}", page.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_example_is_linked() {
    let pages = ["development.md", "staging.md", "production.md"].map(page).concat();
    for entry in fs::read_dir(root().join("examples")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(pages.contains(&format!("(../examples/{name})")), "{name} is linked nowhere");
    }
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).unwrap()
}

#[test]
fn the_diagram_of_a_restore_is_that_of_its_table() {
    let diagram = rorun_operator::plan::restore::diagram();
    let page = fs::read_to_string(root().join("docs/restore.md")).unwrap();
    assert!(page.contains(&format!("```mermaid\n{diagram}```")), "docs/restore.md does not show:\n{diagram}");
}

#[test]
fn the_diagram_of_a_release_is_that_of_its_table() {
    let diagram = rorun_operator::plan::release::diagram();
    let page = fs::read_to_string(root().join("docs/releases.md")).unwrap();
    assert!(page.contains(&format!("```mermaid\n{diagram}```")), "docs/releases.md does not show:\n{diagram}");
}

#[test]
fn the_order_of_the_components_is_that_of_the_code() {
    let table = rorun_operator::desired::stages::table();
    assert!(page("development.md").contains(&table), "docs/development.md does not show:\n{table}");
}
