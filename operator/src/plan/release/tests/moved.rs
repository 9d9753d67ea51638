//! The database of a release that serves is another one.

use super::*;
use crate::{
    names::Component::Database,
    stack::{Command, Handled, ObservedVolume, RESTORED},
};

fn volume(cluster: &mut Cluster, uid: &str) {
    let volume = ObservedVolume { uid: uid.to_owned(), ..ObservedVolume::default() };
    cluster.observed.volumes.insert(Database, volume);
}

/// A stack that serves the data of a volume.
fn placed() -> Cluster {
    let mut cluster = Cluster::new();
    volume(&mut cluster, "1");
    assert_eq!(cluster.settle().state, State::Serving);
    cluster.served.clear();
    cluster.migrated.clear();
    cluster.now += 3600;
    cluster
}

#[test]
fn other_data_are_migrated_before_the_pods_get_them() {
    let mut cluster = placed();
    volume(&mut cluster, "2");
    let (release, _) = cluster.plan();
    assert_eq!((release.state, release.pick), (State::Migrating, Pick::Unchanged));
    assert!(release.target.progress.served_at.is_some());
    assert_eq!(cluster.states(), [State::Migrating, State::Serving]);
    assert_eq!((&*cluster.migrated, cluster.served.len()), (&["api:1".to_owned()][..], 0));
    assert!(!cluster.step(), "it stays so");
    // The next release finds them migrated like any others.
    cluster.edit("/ocr/image", json!("ocr:2"));
    assert_eq!((cluster.settle().state, cluster.migrated.len()), (State::Serving, 1));
}

#[test]
fn a_migration_of_other_data_that_fails_leaves_the_pods_and_the_way_back() {
    let mut cluster = placed();
    cluster.failing = vec!["api:1"];
    volume(&mut cluster, "2");
    let release = cluster.settle();
    assert_eq!((release.state, release.pick), (State::MigrationFailed, Pick::Unchanged));
    assert!(cluster.served.is_empty() && !cluster.step());
    let mut back = placed();
    back.observed.clone_from(&cluster.observed);
    volume(&mut back, "1");
    assert_eq!((back.settle().state, back.migrated.len()), (State::Serving, 0));
    cluster.failing.clear();
    cluster.annotate(annotation::RETRY, "1");
    assert_eq!((cluster.settle().state, cluster.migrated.len()), (State::Serving, 2));
}

/// Every revision would get the other data, so the Deployments are left as they are, not set back to the one that served.
#[test]
fn an_image_that_changes_with_the_database_keeps_the_pods_from_both() {
    let mut cluster = placed();
    cluster.spec["release"] = json!({"approval": "Required"});
    cluster.edit("/api/image", json!("api:2"));
    volume(&mut cluster, "2");
    let release = cluster.settle();
    assert_eq!((release.state, release.pick), (State::AwaitingApproval, Pick::Unchanged));
    cluster.broken = vec!["api:2"];
    cluster.annotate(annotation::APPROVE, &release.target.content.release());
    assert_eq!((cluster.settle().state, cluster.api()), (State::RollingOut, "api:2"));
    cluster.now += DEADLINE;
    let release = cluster.settle();
    assert_eq!((release.state, release.pick, cluster.api()), (State::RolledBack, Pick::LastGood, "api:1"));
    // It serves what the other release has migrated, as after every roll-back.
    cluster.edit("/api/image", json!("api:1"));
    assert_eq!((cluster.settle().state, cluster.migrated), (State::Serving, vec!["api:2".to_owned()]));
}

/// What shows no other data: a restore has migrated those that it brings, a volume that is gone may come back, an operator of before
/// recorded nothing, and a stack that sleeps or is restored looks again when it is over.
#[rstest]
#[case::restored(|cluster: &mut Cluster| {
    volume(cluster, "2");
    let command = Command { value: "uid".to_owned(), count: 1 };
    cluster.observed.handled = Some(Handled { revision: 1, commands: [(format!("{RESTORED}a"), command)].into() });
})]
#[case::gone(|cluster: &mut Cluster| cluster.observed.volumes.clear())]
#[case::never_recorded(|cluster: &mut Cluster| {
    volume(cluster, "2");
    cluster.observed.releases.revisions.iter_mut().for_each(|revision| revision.progress.place = None);
})]
#[case::asleep(|cluster: &mut Cluster| {
    volume(cluster, "2");
    cluster.hibernate(Some(Cause::Spec));
})]
#[case::without_a_migration(|cluster: &mut Cluster| {
    volume(cluster, "2");
    cluster.spec["api"].as_object_mut().unwrap().remove("migrations");
})]
fn nothing_else_runs_a_migration(#[case] happens: fn(&mut Cluster)) {
    let mut cluster = placed();
    happens(&mut cluster);
    let release = cluster.settle();
    assert_eq!((release.state, cluster.migrated.len()), (State::Serving, 0));
    let place = release.target.progress.place.unwrap();
    let now = cluster.plan().1.release.place;
    // What slept, or is not there, is compared when it is.
    let recorded = now.as_ref() == Some(&place);
    assert_eq!(recorded, cluster.observed.hibernation.cause.is_none() && now.is_some());
}

#[test]
fn going_back_to_images_that_served_migrates_nothing_unless_their_data_are_others() {
    let mut cluster = placed();
    cluster.edit("/api/image", json!("api:2"));
    assert_eq!((cluster.settle().state, cluster.migrated.len()), (State::Serving, 1));
    cluster.edit("/api/image", json!("api:1"));
    assert_eq!((cluster.settle().state, cluster.migrated.len()), (State::Serving, 1));
    cluster.edit("/api/image", json!("api:2"));
    volume(&mut cluster, "2");
    assert_eq!((cluster.settle().state, cluster.migrated.len()), (State::Serving, 2));
}
