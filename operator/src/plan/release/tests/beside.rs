//! What changes pods and is no part of a release: it is held together with an image, and lost by no roll-back.

use super::*;

const BEFORE: &str = "1";

/// A stack that serves with resources of its own.
fn sized() -> Cluster {
    let mut cluster = Cluster::new();
    resize(&mut cluster, BEFORE);
    assert_eq!(cluster.settle().state, State::Serving);
    cluster.served.clear();
    cluster.migrated.clear();
    cluster.now += 3600;
    cluster
}

fn resize(cluster: &mut Cluster, cpu: &str) {
    cluster.spec["api"]["resources"] = json!({"requests": {"cpu": cpu}});
}

/// What the pods that the plan picks ask for.
fn cpu(cluster: &Cluster) -> String {
    let (release, stack) = cluster.plan();
    let picked = match release.pick {
        Pick::LastGood => stack.serving.as_deref().unwrap_or(&stack),
        _ => &stack,
    };
    picked.api.resources.requests.as_ref().unwrap()["cpu"].0.clone()
}

#[test]
fn what_an_edit_changes_beside_the_image_waits_with_it() {
    let mut cluster = sized();
    cluster.spec["release"] = json!({"approval": "Required"});
    cluster.edit("/api/image", json!("api:2"));
    resize(&mut cluster, "2");
    cluster.spec["api"]["podLabels"] = json!({"team": "a"});
    let release = cluster.settle();
    assert_eq!((release.state, cpu(&cluster)), (State::AwaitingApproval, BEFORE.to_owned()));
    let held = cluster.plan().1.serving.unwrap();
    assert!(held.api.pod_labels.is_empty());
    // So does what is changed while it waits.
    resize(&mut cluster, "3");
    assert_eq!((cluster.settle().state, cpu(&cluster)), (State::AwaitingApproval, BEFORE.to_owned()));
    assert_eq!(cluster.plan().0.target.name, release.target.name, "it is the same revision");
    cluster.annotate(annotation::APPROVE, &release.target.content.release());
    assert_eq!((cluster.settle().state, cluster.api()), (State::Serving, "api:2"));
    assert_eq!(cpu(&cluster), "3");
}

#[test]
fn an_edit_of_it_alone_makes_no_revision_and_rolls_at_once() {
    let mut cluster = sized();
    let before = cluster.plan().0.target.name;
    resize(&mut cluster, "2");
    let (release, _) = cluster.plan();
    assert_eq!((release.state, release.pick, &release.target.name), (State::Serving, Pick::Target, &before));
    assert_eq!((cpu(&cluster), cluster.settle().revisions.len()), ("2".to_owned(), 1));
    // From then on it is what serves.
    cluster.failing = vec!["api:2"];
    cluster.edit("/api/image", json!("api:2"));
    resize(&mut cluster, "3");
    assert_eq!((cluster.settle().state, cpu(&cluster)), (State::MigrationFailed, "2".to_owned()));
}

#[test]
fn a_roll_back_brings_it_back_and_a_mended_one_is_another_attempt() {
    let mut cluster = sized();
    cluster.broken = vec!["api:2"];
    cluster.edit("/api/image", json!("api:2"));
    resize(&mut cluster, "2");
    cluster.settle();
    cluster.now += DEADLINE;
    assert_eq!((cluster.settle().state, cpu(&cluster)), (State::RolledBack, BEFORE.to_owned()));
    assert!(!cluster.step(), "it stays so");
    cluster.broken.clear();
    resize(&mut cluster, "4");
    assert_eq!((cluster.settle().state, cluster.api()), (State::Serving, "api:2"));
    assert_eq!((cpu(&cluster), cluster.migrated.len()), ("4".to_owned(), 1));
}

#[test]
fn a_candidate_that_failed_is_tested_again_with_a_mended_one() {
    let mut cluster = sized();
    cluster.spec["api"]["candidate"] = json!(true);
    cluster.failing_tests = vec!["api:2"];
    cluster.edit("/api/image", json!("api:2"));
    assert_eq!(cluster.settle().state, State::SmokeTestFailed);
    cluster.failing_tests.clear();
    assert!(!cluster.step(), "it stays so");
    resize(&mut cluster, "4");
    assert_eq!((cluster.settle().state, cluster.api()), (State::Serving, "api:2"));
}

/// The records of an operator that knew nothing of it: nothing gets another name, no approval is void, nothing is tried again.
#[test]
fn an_upgrade_only_learns_what_serves() {
    let mut cluster = sized();
    cluster.broken = vec!["api:2"];
    cluster.edit("/api/image", json!("api:2"));
    cluster.settle();
    cluster.now += DEADLINE;
    let release = cluster.settle();
    assert_eq!(release.state, State::RolledBack);
    let names: Vec<_> = release.revisions.iter().map(|revision| revision.name.clone()).collect();
    for revision in &mut cluster.observed.releases.revisions {
        let mut progress = json!(revision.progress);
        assert!(progress.as_object_mut().unwrap().remove("beside").is_some());
        if let Some(given_up) = progress.get_mut("rolledBack") {
            assert!(given_up.as_object_mut().unwrap().remove("beside").is_some());
        }
        revision.progress = serde_json::from_value(progress).unwrap();
    }
    let release = cluster.plan().0;
    assert_eq!((release.state, cluster.step()), (State::RolledBack, false));
    let after: Vec<_> = release.revisions.iter().map(|revision| revision.name.clone()).collect();
    assert_eq!((after, cpu(&cluster)), (names, BEFORE.to_owned()), "the pods are as the spec says");
    cluster.edit("/api/image", json!("api:1"));
    cluster.settle();
    let known = cluster.plan().0.last_good.unwrap().progress.beside.unwrap();
    assert_eq!(known, cluster.plan().1.beside);
}
