//! A new stack that begins with a sanitized point, with objects and without.

use super::*;

fn new(objects: Option<u64>) -> Cluster {
    let checked = json!({"done": {"database": "shop", "objects": objects, "durationSeconds": 1}});
    let mut cluster = Cluster { seeds: true, ends: vec![(State::Checking, checked)], ..Cluster::new() };
    cluster.observed.restores.clear();
    cluster.observed.releases.workloads.clear();
    cluster
}

/// What a pod did not tell in time is not waited for any longer.
fn play(cluster: &mut Cluster) {
    for _ in 0..60 {
        cluster.step();
    }
}

#[test]
fn objects_follow_the_rows_where_the_point_has_some() {
    // Of a check whose words are lost the step finds out whether there are any.
    for (said, silent, placed) in
        [(None, false, false), (Some(0), false, false), (Some(3), false, true), (None, true, true)]
    {
        let mut cluster = new(said);
        cluster.silent.extend(silent.then_some(State::Checking));
        let words = json!({"done": {"objects": 2, "durationSeconds": 1, "warnings": ["one is kept"]}});
        cluster.ends.push((State::RestoringObjects, words));
        play(&mut cluster);
        let mut expected = vec![State::Checking, State::Filling];
        expected.extend(placed.then_some(State::RestoringObjects));
        expected.push(State::Complete);
        assert_eq!(cluster.states, expected, "{said:?}");
        let plan = cluster.plan();
        let Some(Ok(told)) = &plan.restores.seeded else { panic!("{said:?}: {:?}", plan.restores.seeded) };
        let ending = if placed { ", and the bucket with 2 objects of it; one is kept" } else { "" };
        assert_eq!(*told, format!("20261129T101500Z-b9x2m{ending}"), "{said:?}");
        assert!(!plan.restores.holds() && plan.restores.current.is_none(), "{said:?}");
    }
}

#[test]
fn data_that_are_found_get_no_objects() {
    let mut cluster = new(Some(3));
    cluster.ends.push((State::Filling, json!({"refused": {"reason": "DataFound", "message": "there are tables"}})));
    play(&mut cluster);
    assert_eq!(cluster.states, [State::Checking, State::Filling, State::Complete]);
    assert_eq!(cluster.plan().restores.seeded, Some(Err("there are tables".to_owned())));
}

#[test]
fn the_application_waits_for_objects_that_broke_off() {
    let mut cluster = new(Some(3));
    cluster.ends.push((State::RestoringObjects, json!({"failed": {"message": "no route"}})));
    play(&mut cluster);
    let plan = cluster.plan();
    assert!(plan.restores.holds() && plan.restores.seeded.is_none());
    let current = plan.restores.current.expect("it is told");
    let message = &current.waiting.message;
    assert!(message.contains("the database is filled, and not all objects are in the bucket"), "{message}");
    cluster.ends.retain(|(state, _)| *state == State::Checking);
    cluster.observed.annotations.insert(annotation::RETRY.to_owned(), "1".to_owned());
    play(&mut cluster);
    assert!(matches!(cluster.plan().restores.seeded, Some(Ok(_))), "{:?}", cluster.states);
}
