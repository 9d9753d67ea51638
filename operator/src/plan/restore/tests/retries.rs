//! What breaks off, and what is tried again.

use super::*;

#[test]
fn before_the_switch_a_failure_leaves_the_application_running() {
    for failing in [State::Checking, State::Copying, State::Migrating, State::Verifying, State::Saving] {
        let mut cluster = Cluster::new();
        cluster.ends.push((failing, json!({"failed": {"message": "no route"}})));
        cluster.run();
        assert_eq!(cluster.state(0), State::Broken, "{failing:?}");
        let plan = cluster.plan();
        assert!(!plan.restores.stops() && !plan.restores.holds(), "{failing:?}");
        assert!(!cluster.states.contains(&State::Stopping), "{failing:?}");
        // Nothing is tried again before somebody says so.
        let jobs = cluster.observed.jobs.len();
        cluster.ends.clear();
        cluster.run();
        assert_eq!(cluster.observed.jobs.len(), jobs, "{failing:?}");
        cluster.observed.restores[0].retry = "1".to_owned();
        cluster.run();
        assert_eq!(cluster.state(0), State::Complete, "{failing:?}: {:?}", cluster.states);
    }
}

#[test]
fn after_a_switch_that_broke_off_the_application_starts_and_ends_again_before_the_next_attempt() {
    let mut cluster = Cluster::new();
    cluster.ends.push((State::Switching, json!({"failed": {"message": "no route"}})));
    cluster.run();
    assert_eq!(cluster.state(0), State::Broken);
    assert!(!cluster.plan().restores.stops() && !cluster.plan().restores.holds());
    assert!(cluster.observed.releases.workloads.values().all(|there| there.has_pods), "nobody serves");
    cluster.ends.clear();
    cluster.observed.restores[0].retry = "1".to_owned();
    let runs = |of: &Cluster| of.observed.jobs.iter().any(|job| job.phase == JobPhase::Running);
    while cluster.state(0) != State::Complete {
        assert!(cluster.step(), "{:?}", cluster.states);
        let pods = cluster.observed.releases.workloads.values().any(|there| there.has_pods);
        assert!(cluster.state(0) != State::Switching || !runs(&cluster) || !pods, "{:?}", cluster.states);
    }
    let [stops, switches] =
        [State::Stopping, State::Switching].map(|of| cluster.states.iter().filter(|state| **state == of).count());
    assert_eq!((stops, switches), (2, 2), "{:?}", cluster.states);
}

#[test]
fn objects_that_broke_off_after_the_switch_keep_the_application_stopped() {
    let mut cluster = Cluster::new();
    cluster.observed.restores[0].bucket = true;
    cluster.ends.push((State::RestoringObjects, json!({"failed": {"message": "no route"}})));
    cluster.run();
    assert_eq!(cluster.state(0), State::Broken);
    assert!(cluster.plan().restores.stops() && cluster.plan().restores.holds());
    cluster.ends.clear();
    cluster.observed.restores[0].retry = "1".to_owned();
    cluster.run();
    assert_eq!(cluster.state(0), State::Complete, "{:?}", cluster.states);
}

#[test]
fn objects_that_are_refused_after_the_switch_are_not_over() {
    let mut cluster = Cluster::new();
    cluster.observed.restores[0].bucket = true;
    let refused = json!({"refused": {"reason": "VersionMissing", "message": "a version is gone"}});
    cluster.ends.push((State::RestoringObjects, refused));
    cluster.run();
    assert_eq!(cluster.state(0), State::Broken);
    assert!(cluster.plan().restores.stops() && cluster.plan().restores.holds());
    let waiting = cluster.plan().restores.runs[0].waiting.clone().unwrap();
    assert!(waiting.message.contains("shop_before_1") && waiting.message.contains("rorunrestore/back"), "{waiting:?}");
    cluster.ends.clear();
    cluster.observed.restores[0].retry = "1".to_owned();
    cluster.run();
    assert_eq!(cluster.state(0), State::Complete, "{:?}", cluster.states);
}

#[test]
fn of_two_that_broke_off_the_one_that_changed_data_by_half_goes_first() {
    let mut cluster = Cluster::new();
    cluster.ends.push((State::Copying, json!({"failed": {"message": "no route"}})));
    cluster.run();
    let second = RestoreRequest { bucket: true, ..request("second", "2") };
    cluster.observed.restores.push(second);
    cluster.ends = vec![(State::RestoringObjects, json!({"failed": {"message": "no route"}}))];
    cluster.run();
    assert_eq!((cluster.state(0), cluster.state(1)), (State::Broken, State::Broken));
    cluster.observed.restores[0].retry = "1".to_owned();
    for _ in 0..4 {
        assert!(cluster.plan().restores.stops(), "the application starts with half of the data");
        cluster.step();
    }
    assert_eq!(cluster.plan().restores.current.unwrap().request.name, "second");
}

#[test]
fn what_is_tried_again_of_the_stack_is_no_restore() {
    let mut cluster = Cluster::new();
    cluster.ends.push((State::Switching, json!({"failed": {"message": "no route"}})));
    cluster.run();
    let jobs = cluster.observed.jobs.len();
    cluster.ends.clear();
    cluster.observed.annotations.insert(annotation::RETRY.to_owned(), "of a release".to_owned());
    cluster.run();
    assert_eq!((cluster.state(0), cluster.observed.jobs.len()), (State::Broken, jobs));
}

#[test]
fn a_retry_that_is_taken_away_is_none() {
    let mut cluster = Cluster::new();
    cluster.ends.push((State::Copying, json!({"failed": {"message": "no route"}})));
    cluster.run();
    cluster.observed.restores[0].retry = "1".to_owned();
    cluster.run();
    let jobs = cluster.observed.jobs.len();
    cluster.ends.clear();
    cluster.observed.restores[0].retry.clear();
    cluster.run();
    assert_eq!((cluster.state(0), cluster.observed.jobs.len()), (State::Broken, jobs));
    cluster.observed.restores[0].retry = "1".to_owned();
    cluster.run();
    assert_eq!((cluster.state(0), cluster.observed.jobs.len()), (State::Broken, jobs), "it is the same command");
    cluster.observed.restores[0].retry = "2".to_owned();
    cluster.run();
    assert_eq!(cluster.state(0), State::Complete, "{:?}", cluster.states);
}

#[test]
fn a_point_that_is_not_found_any_more_ends_nothing_half_way() {
    let mut cluster = Cluster::new();
    while cluster.states.last() != Some(&State::Switching) {
        cluster.step();
    }
    let gone = Waiting::new(reason::DEPENDENCY_NOT_READY, "rorunbackup/now has no recovery point");
    cluster.observed.restores[0].point = Err(PointProblem::Waits(gone));
    assert_eq!(cluster.state(0), State::Switching);
    assert!(cluster.plan().restores.stops());
}
