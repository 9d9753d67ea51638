//! Releases of a stack that hibernates.

use super::*;

#[test]
fn a_release_waits_while_the_stack_hibernates_and_goes_on_when_it_wakes() {
    let mut cluster = serving();
    cluster.hibernate(Some(Cause::Spec));
    assert_eq!(cluster.settle().state, State::Serving, "what served is what serves when it wakes");
    assert!(cluster.observed.releases.workloads.values().all(|there| there.asleep));
    cluster.edit("/api/image", json!("api:2"));
    let release = cluster.settle();
    assert_eq!((release.state, cluster.api(), cluster.migrated.len()), (State::Hibernating, "api:1", 0));
    assert_eq!(release.waiting, None);
    cluster.hibernate(None);
    assert_eq!((cluster.settle().state, cluster.api()), (State::Serving, "api:2"));
}

#[test]
fn the_clock_of_a_rollout_begins_again_when_the_stack_wakes() {
    let mut cluster = serving();
    cluster.edit("/api/image", json!("api:2"));
    cluster.broken = vec!["api:2"];
    assert_eq!(cluster.settle().state, State::RollingOut);
    cluster.now += DEADLINE - 1;
    cluster.hibernate(Some(Cause::Schedule(None)));
    let release = cluster.settle();
    assert_eq!((release.state, cluster.api(), release.turns_at), (State::Hibernating, "api:1", None));
    cluster.now += 100 * DEADLINE;
    assert_eq!(cluster.settle().state, State::Hibernating);
    cluster.hibernate(None);
    let release = cluster.settle();
    assert_eq!((release.state, release.turns_at), (State::RollingOut, Some(cluster.now + DEADLINE)));
    cluster.now += DEADLINE;
    assert_eq!((cluster.settle().state, cluster.api()), (State::RolledBack, "api:1"));
}

#[test]
fn a_stack_that_never_served_ends_its_pods_and_serves_once_it_has_woken() {
    let mut cluster = Cluster::new();
    cluster.broken = vec!["api:1"];
    assert_eq!(cluster.settle().state, State::RollingOut);
    cluster.hibernate(Some(Cause::Spec));
    let release = cluster.settle();
    assert_eq!((release.state, release.pick), (State::Hibernating, Pick::Target));
    assert_eq!(release.last_good, None, "without pods nothing shows that it serves");
    cluster.hibernate(None);
    assert_eq!(cluster.settle().state, State::RollingOut);
    cluster.broken.clear();
    assert_eq!(cluster.settle().state, State::Serving);
}

#[test]
fn dumps_begin_once_the_application_has_started_and_a_stack_that_had_no_pods_pauses_none() {
    let mut cluster = serving();
    cluster.hibernate(Some(Cause::Spec));
    cluster.settle();
    assert!(cluster.whole_plan().0.dumps_paused);
    cluster.hibernate(None);
    assert!(!cluster.whole_plan().0.dumps_paused, "it has no pods for another reason");
    cluster.observed.hibernation.slept = true;
    assert!(cluster.whole_plan().0.dumps_paused);
    cluster.settle();
    assert!(!cluster.whole_plan().0.dumps_paused);
}

#[test]
fn hibernation_waits_for_a_migration_that_runs_and_none_begins_meanwhile() {
    let mut cluster = serving();
    cluster.edit("/api/image", json!("api:2"));
    cluster.hanging = true;
    cluster.settle();
    cluster.hibernate(Some(Cause::Spec));
    cluster.edit("/api/image", json!("api:3"));
    cluster.settle();
    let (plan, _) = cluster.whole_plan();
    let job = format!("job/{}", cluster.observed.jobs[0].name);
    assert_eq!(plan.operations.next, Some((Operation::Hibernation, job)));
    assert!(!plan.hibernates && plan.dumps_paused && cluster.migrated == ["api:2"]);
    cluster.hanging = false;
    assert_eq!((cluster.settle().state, cluster.migrated.len()), (State::Hibernating, 1));
    assert!(cluster.whole_plan().0.hibernates);
    cluster.hibernate(None);
    assert_eq!((cluster.settle().state, cluster.api()), (State::Serving, "api:3"));
}
