//! What is refused, and what waits.

use rstest::rstest;

use super::*;

#[test]
fn what_is_refused_is_over() {
    let mut cluster = Cluster::new();
    cluster
        .ends
        .push((State::Checking, json!({"refused": {"reason": "PointCorrupt", "message": "the dump is cut off"}})));
    cluster.run();
    let plan = cluster.plan();
    let run = &plan.restores.runs[0];
    assert_eq!((run.state, run.waiting.as_ref().map(|waiting| waiting.reason)), (State::Refused, Some("PointCorrupt")));
    assert!(plan.restores.current.is_none());
}

#[rstest]
#[case::of_another_stack(|of: &mut Cluster| of.observed.restores[0].stack_uid = Some("2".to_owned()), reason::ANOTHER_STACK)]
#[case::of_a_moment(|of: &mut Cluster| of.observed.restores[0].point = Err(PointProblem::Final(Waiting::new(reason::POINT_IN_TIME_UNSUPPORTED, "x"))), reason::POINT_IN_TIME_UNSUPPORTED)]
fn what_never_can_be_done_makes_no_job(#[case] change: fn(&mut Cluster), #[case] why: reason::Reason) {
    let mut cluster = Cluster::new();
    change(&mut cluster);
    cluster.run();
    let run = &cluster.plan().restores.runs[0];
    assert_eq!((run.state, run.waiting.as_ref().map(|waiting| waiting.reason)), (State::Refused, Some(why)));
    assert!(cluster.observed.jobs.is_empty());
}

#[test]
fn a_restore_of_the_same_name_is_not_repeated() {
    let mut cluster = Cluster::new();
    cluster.run();
    let jobs = cluster.observed.jobs.len();
    // As by a tool that keeps what is in git: the same manifest, another object.
    cluster.observed.restores = vec![request("back", "another")];
    cluster.run();
    let run = &cluster.plan().restores.runs[0];
    assert_eq!(run.waiting.as_ref().map(|waiting| waiting.reason), Some(reason::ALREADY_RESTORED));
    assert_eq!(cluster.observed.jobs.len(), jobs);
    cluster.observed.restores = vec![request("once-more", "another")];
    cluster.run();
    assert_eq!(cluster.state(0), State::Complete);
}

#[test]
fn a_restore_whose_jobs_and_status_are_gone_is_not_repeated() {
    let mut cluster = Cluster::new();
    cluster.run();
    cluster.observed.jobs.clear();
    cluster.run();
    let run = &cluster.plan().restores.runs[0];
    assert_eq!(run.waiting.as_ref().map(|waiting| waiting.reason), Some(reason::ALREADY_RESTORED));
    assert!(cluster.observed.jobs.is_empty());
}

#[test]
fn a_point_of_a_stack_whose_owner_is_not_known_waits() {
    let mut cluster = Cluster::new();
    cluster.observed.backup_owner = None;
    cluster.run();
    let run = &cluster.plan().restores.runs[0];
    assert_eq!(run.waiting.as_ref().map(|waiting| waiting.reason), Some(reason::FORBIDDEN));
    assert!(cluster.observed.jobs.is_empty());
}

#[test]
fn of_two_the_second_waits() {
    let mut cluster = Cluster::new();
    cluster.observed.restores.push(request("second", "2"));
    for _ in 0..6 {
        cluster.step();
        let plan = cluster.plan();
        assert_eq!(plan.restores.runs[1].state, State::Waiting);
        let waiting = plan.restores.runs[1].waiting.clone().unwrap();
        assert!(waiting.message.contains("rorunrestore/back"), "{waiting:?}");
    }
}

#[test]
fn production_needs_the_confirmation_of_this_very_restore() {
    let mut cluster = Cluster::new();
    cluster.environment = "Production";
    let confirm = |cluster: &mut Cluster, uid: &str| {
        cluster.observed.annotations.insert(annotation::CONFIRM_RESTORE.to_owned(), uid.to_owned());
        cluster.run();
        cluster.observed.jobs.len()
    };
    assert_eq!(confirm(&mut cluster, "another"), 0);
    let waiting = cluster.plan().restores.runs[0].waiting.clone().unwrap();
    assert!(waiting.reason == reason::CONFIRMATION_REQUIRED && waiting.message.contains(UID), "{waiting:?}");
    assert!(confirm(&mut cluster, UID) > 0);
}

#[test]
fn it_waits_for_a_dump_and_no_backup_begins_beside_it() {
    let mut cluster = Cluster::new();
    cluster.observed.dump = Some("shop-backup-1".to_owned());
    cluster.run();
    assert!(cluster.observed.jobs.is_empty());
    let waiting = cluster.plan().restores.runs[0].waiting.clone().unwrap();
    assert!(waiting.message.contains("job/shop-backup-1"), "{waiting:?}");
    cluster.observed.dump = None;
    cluster.step();
    cluster.observed.backups.push(BackupRequest { uid: "b".to_owned(), name: "now".to_owned() });
    let plan = cluster.plan();
    assert!(plan.dumps_paused && plan.backups.iter().all(|step| step.exists));
    assert!(plan.works_on_data, "a deletion waits for it");
}

#[test]
fn the_points_of_all_that_are_not_over_are_spared_by_dumps() {
    let mut cluster = Cluster::new();
    cluster.environment = "Production";
    let mut second = request("second", "2");
    second.point = Ok(RestorePoint { id: "20250101T000000Z-aaaaa".to_owned(), moment: None, folder: None });
    cluster.observed.restores.push(second);
    // Also while they wait for somebody.
    assert_eq!(cluster.plan().restores.spared, ["20250101T000000Z-aaaaa", "20261129T101500Z-b9x2m"]);
    cluster.observed.restores.clear();
    assert!(cluster.plan().restores.spared.is_empty());
}
