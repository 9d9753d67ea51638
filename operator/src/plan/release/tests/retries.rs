//! `rorun.app/retry` that is taken away again: nothing is tried by that.

use super::*;

/// A release that is tried in vain, and once more by the annotation.
fn tried_twice(mut cluster: Cluster, state: State) -> Cluster {
    cluster.edit("/api/image", json!("api:2"));
    assert_eq!(cluster.settle().state, state);
    cluster.annotate(annotation::RETRY, "1");
    assert_eq!(cluster.settle().state, state, "it is tried once more, in vain");
    cluster
}

/// What was tried so far: migrations, rollouts, tests of candidates and of pods.
fn tries(cluster: &Cluster) -> (usize, usize, usize, usize) {
    (cluster.migrated.len(), cluster.served.len(), cluster.tested.len(), cluster.verified)
}

#[rstest]
#[case::of_a_migration(State::MigrationFailed)]
#[case::of_a_rollout(State::RolledBack)]
#[case::of_candidates(State::SmokeTestFailed)]
fn a_retry_that_is_taken_away_tries_nothing_again(#[case] state: State) {
    let mut cluster = serving();
    match state {
        State::MigrationFailed => cluster.failing = vec!["api:2"],
        State::SmokeTestFailed => {
            cluster.spec["api"]["candidate"] = json!(true);
            cluster.failing_tests = vec!["api:2"];
        }
        _ => {
            cluster.spec["release"]["smokeTests"] = json!([{"component": "api", "path": "/health"}]);
            cluster.failing_pods = vec!["api:2"];
        }
    }
    cluster.settle();
    let mut cluster = tried_twice(cluster, state);
    let before = tries(&cluster);
    cluster.failing.clear();
    cluster.failing_tests.clear();
    cluster.failing_pods.clear();
    cluster.take_retry_away();
    assert_eq!((cluster.settle().state, tries(&cluster)), (state, before));
    cluster.annotate(annotation::RETRY, "1");
    assert_eq!((cluster.settle().state, tries(&cluster)), (state, before), "the same value is the same command");
    cluster.annotate(annotation::RETRY, "2");
    assert_eq!((cluster.settle().state, cluster.api()), (State::Serving, "api:2"));
}

/// One that had nothing to try again counts as well once it is gone.
#[test]
fn a_retry_of_before_that_is_taken_away_tries_nothing_again() {
    let mut cluster = serving();
    cluster.annotate(annotation::RETRY, "of last month");
    cluster.failing = vec!["api:2"];
    cluster.edit("/api/image", json!("api:2"));
    assert_eq!((cluster.settle().state, cluster.migrated.len()), (State::MigrationFailed, 1));
    cluster.take_retry_away();
    assert_eq!((cluster.settle().state, cluster.migrated.len()), (State::MigrationFailed, 1));
}
