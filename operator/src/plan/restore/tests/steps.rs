//! The steps in their order, and what they leave.

use super::*;

#[test]
fn every_step_in_its_order_and_nothing_twice() {
    use State::{Checking, Complete, Copying, Migrating, Saving, Starting, Stopping, Switching, Testing, Verifying};
    let mut cluster = Cluster::new();
    cluster.run();
    let expected = [Checking, Copying, Migrating, Verifying, Saving, Stopping, Switching, Starting, Testing, Complete];
    assert_eq!(cluster.states, expected);
    let plan = cluster.plan();
    assert_eq!(plan.restores.kept.iter().map(|of| of.name.as_str()).collect::<Vec<_>>(), ["shop_before_1"]);
    let run = &plan.restores.runs[0];
    assert_eq!((run.saved.as_deref(), run.kept.as_deref()), (Some("20261129T120000Z-aaaaa"), Some("shop_before_1")));
    assert!(!plan.restores.works && !plan.restores.stops() && !plan.restores.holds());
    let took = run.took.expect("it is complete");
    assert!(took.bytes == 7 && took.ended < cluster.now && took.seconds == took.ended - 1000, "{took:?}");
}

/// A release that a restore interrupted was migrated on the data of before: as long as the stack takes the restored ones for them, it
/// must not begin to serve. Its switch may be over before a reconcile sees it begin.
#[test]
fn a_release_waits_until_it_is_recorded_that_the_data_are_others() {
    let mut cluster = Cluster::new();
    let before = cluster.stack().release.data;
    let mut waited = 0;
    loop {
        let plan = cluster.plan();
        let state = plan.restores.current.as_ref().map(|current| current.state);
        let switched = matches!(state, Some(State::Starting | State::Testing | State::Complete));
        if switched && cluster.stack().release.data == before {
            assert!(plan.release.state == crate::plan::release::State::Restoring, "{:?}", plan.release.state);
            waited += 1;
        }
        if !cluster.step() {
            break;
        }
        for job in cluster.observed.jobs.iter_mut().filter(|job| job.phase == JobPhase::Running) {
            let said = said(*cluster.states.last().unwrap());
            (job.phase, job.said, job.ended) = (JobPhase::Complete, Some(said), Some(cluster.now));
        }
    }
    assert_eq!((waited, cluster.states.last()), (1, Some(&State::Complete)));
    assert_ne!(cluster.stack().release.data, before);
    assert!(!cluster.plan().restores.holds());
}

/// A slot, a subscription, or sessions that the role may not end: the copy is made, and nothing is stopped for it.
#[test]
fn what_holds_the_live_database_ends_it_once_the_copy_is_verified() {
    let held = json!({"reason": "DatabaseHeld", "message": "database \"shop\" cannot be renamed: drop subscription \"s\" first"});
    let said = json!({"done": {"database": "shop_restore_1", "bytes": 7, "held": held, "durationSeconds": 1}});
    let mut cluster = Cluster::new();
    cluster.ends = vec![(State::Checking, said.clone()), (State::Verifying, said)];
    cluster.run();
    assert_eq!(cluster.states, [State::Checking, State::Copying, State::Migrating, State::Verifying]);
    let plan = cluster.plan();
    let run = &plan.restores.runs[0];
    let waiting = run.waiting.as_ref().expect("it is over");
    assert_eq!((run.state, waiting.reason, run.took), (State::Refused, "DatabaseHeld", None));
    assert!(
        waiting.message.contains("drop subscription") && waiting.message.contains("database shop_restore_1"),
        "{waiting:?}"
    );
    assert!(run.done.iter().any(|(condition, _)| *condition == "Verified"), "{run:?}");
    assert!(run.warnings[0].contains("drop subscription"), "{run:?}");
    assert_eq!(plan.restores.kept.iter().map(|of| of.name.as_str()).collect::<Vec<_>>(), ["shop_restore_1"]);
    assert!(!plan.restores.works && !plan.restores.stops() && !plan.restores.holds());
    // It is gone by the time at which the copy is verified.
    let mut cluster = Cluster::new();
    cluster.ends = vec![(State::Checking, json!({"done": {"bytes": 7, "held": held, "durationSeconds": 1}}))];
    cluster.run();
    assert_eq!(cluster.states.last(), Some(&State::Complete));
}

#[test]
fn without_a_migration_and_with_objects() {
    let mut cluster = Cluster::new();
    cluster.migrates = false;
    cluster.observed.restores[0].bucket = true;
    cluster.run();
    assert!(!cluster.states.contains(&State::Migrating), "{:?}", cluster.states);
    let at = |state| cluster.states.iter().position(|seen| *seen == state).unwrap();
    assert!(at(State::Switching) < at(State::RestoringObjects) && at(State::RestoringObjects) < at(State::Starting));
}

/// Workers with a connection would write into the database that is taken away.
#[test]
fn no_pod_of_the_application_runs_while_data_take_each_others_place() {
    let mut cluster = Cluster::new();
    cluster.observed.restores[0].bucket = true;
    let mut switched = 0;
    loop {
        let restores = cluster.plan().restores;
        let due = restores.current.as_ref().and_then(|current| current.step.as_ref());
        if due.is_some_and(|(kind, _)| matches!(kind, Kind::Switch | Kind::Objects)) {
            let pods = cluster.observed.releases.workloads.values().any(|there| there.has_pods || !there.asleep);
            assert!(restores.stops() && restores.holds() && !pods, "{:?}", cluster.states);
            assert!(cluster.plan().dumps_paused);
            switched += 1;
        }
        if !cluster.step() {
            break;
        }
    }
    assert!(switched > 1 && cluster.state(0) == State::Complete, "{:?}", cluster.states);
}

#[test]
fn restored_data_are_migrated_as_new_ones() {
    let mut cluster = Cluster::new();
    let data = |cluster: &Cluster| cluster.stack().release.data;
    let before = data(&cluster);
    cluster.run();
    let after = data(&cluster);
    assert!(after != before && after.ends_with(UID), "{before}: {after}");
}

#[test]
fn a_new_stack_starts_once_it_is_filled() {
    let mut cluster = Cluster::new();
    cluster.observed.releases.workloads.clear();
    (cluster.observed.restores[0].fills, cluster.observed.restores[0].stack_uid) = (true, None);
    let plan = cluster.plan();
    assert!(plan.restores.holds() && plan.release.migration.is_none() && !plan.restores.stops());
    cluster.run();
    assert_eq!(cluster.states, [State::Checking, State::Filling, State::Complete]);
    assert!(!cluster.plan().restores.holds());
}

#[test]
fn a_kept_database_is_dropped_by_its_name_and_no_other() {
    let mut cluster = Cluster::new();
    cluster.run();
    cluster.observed.restores.clear();
    let discard = |cluster: &mut Cluster, name: &str| {
        cluster.observed.annotations.insert(annotation::DISCARD.to_owned(), name.to_owned());
        cluster.plan().restores.discard.map(|(step, database)| (step, database.restore_uid))
    };
    for other in ["shop", "", "shop_before_2", "postgres"] {
        assert_eq!(discard(&mut cluster, other), None, "{other}");
    }
    let (step, uid) = discard(&mut cluster, "shop_before_1").unwrap();
    assert_eq!((step.exists, uid.as_str()), (false, UID));
    let (component, phase) = (Component::Restore, JobPhase::Complete);
    let (said, ended) = (None, Some(cluster.now));
    cluster.observed.jobs.push(ObservedJob { begun: None, name: step.name, component, created: 0, said, phase, ended });
    assert!(cluster.plan().restores.kept.is_empty() && cluster.plan().restores.discard.is_none());
}

#[test]
fn each_row_names_states_of_the_table() {
    for row in &TABLE {
        for (next, _) in row.next {
            assert!(TABLE.iter().any(|other| other.state == *next), "{next:?}");
        }
    }
    assert!(diagram().contains("Switching --> Starting: Bucket is not"));
}
