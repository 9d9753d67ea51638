//! Whoever adds a scenario reads the files that `docs/verify.md` names, and no more than 3,000 lines of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::kit::project;

const MOST: usize = 3000;
const HERE: &str = "e2e/src/scenarios/";

/// The files that the page leads to, below the project's folder.
fn files() -> Vec<String> {
    let page = fs::read_to_string(project().join("docs/verify.md")).expect("the page");
    let (_, section) = page.split_once("\n## A new scenario\n").expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let links = section.split("](../").skip(1).filter_map(|rest| rest.split(')').next());
    links
        .filter(|link| Path::new(link).extension().is_some_and(|extension| extension == "rs"))
        .map(str::to_owned)
        .collect()
}

fn read(file: &str) -> String {
    fs::read_to_string(project().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn it_is_at_most_three_thousand_lines() {
    let files = files();
    let lines: usize = files.iter().map(|file| read(file).lines().count()).sum();
    assert!(files.len() > 10 && lines > 1000, "the page names {files:?}, with {lines} lines");
    assert!(lines <= MOST, "{lines} lines are to be read before a scenario can be added: {files:?}");
    assert_eq!(files.iter().collect::<BTreeSet<_>>().len(), files.len(), "a file is named twice: {files:?}");
}

/// Else the lines would be few because the page leaves something out.
#[test]
fn it_is_all_that_every_scenario_may_use() {
    let kit = read(&format!("{HERE}kit/mod.rs"));
    let (_, rest) = kit.split_once("// What every scenario may use.\n").expect("the first part of the kit");
    let (shared, of_some) = rest.split_once("\n// What the scenarios about one thing use").expect("its second part");
    let modules = |text: &str| -> BTreeSet<String> {
        let names = text.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
        names.map(|name| format!("{HERE}kit/{name}.rs")).collect()
    };
    let named: BTreeSet<String> = files().into_iter().collect();
    let (shared, of_some) = (modules(shared), modules(of_some));
    assert!(shared.len() > 10 && !of_some.is_empty(), "{shared:?}, {of_some:?}");
    assert_eq!(shared.difference(&named).next(), None, "the page leaves a file of the kit out");
    assert_eq!(of_some.intersection(&named).next(), None, "few scenarios use that file of the kit");
    for file in ["mod.rs", "runner.rs", "lanes.rs", "kit/mod.rs", "development.rs"] {
        assert!(named.contains(&format!("{HERE}{file}")), "the page leaves {file} out");
    }
}

/// The one that others begin as a copy of.
#[test]
fn the_simplest_scenario_uses_the_prelude_alone() {
    let simplest = read(&format!("{HERE}development.rs"));
    let ours: Vec<_> = simplest.lines().filter(|line| line.contains("super::") || line.contains("crate::")).collect();
    assert_eq!(ours, ["use super::kit::prelude::*;"]);
}
