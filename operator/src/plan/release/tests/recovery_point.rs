//! The way back from a migration in Production.

use super::*;

/// A stack of Production that serves.
fn in_production() -> Cluster {
    let mut cluster = serving();
    cluster.spec["environment"] = json!("Production");
    cluster.spec["backup"] = json!({});
    cluster.spec["api"]["candidate"] = json!(false);
    assert_eq!(cluster.settle().state, State::Serving);
    cluster
}

#[test]
fn a_migration_in_production_begins_beside_a_recovery_point() {
    let mut cluster = in_production();
    cluster.edit("/api/image", json!("api:2"));
    assert_eq!(cluster.states(), [State::BackingUp, State::Migrating, State::RollingOut, State::Serving]);
    let point = cluster.plan().0.target.progress.recovery_point.expect("a way back");
    assert_eq!(
        (&*point.id, point.skipped, &*cluster.migrated),
        ("20260504T110000Z-x7k2p", false, &["api:2".to_owned()][..])
    );
    // Another image of another workload runs no migration, and needs none.
    cluster.edit("/ocr/image", json!("ocr:2"));
    cluster.spec["ocr"]["candidate"] = json!(false);
    assert_eq!(cluster.plan().0.state, State::RollingOut);
}

/// Its own way back is that of the first attempt, and what was written since would be lost with it.
#[test]
fn a_migration_that_is_tried_again_much_later_has_a_new_recovery_point() {
    let mut cluster = in_production();
    cluster.now = 1_777_892_400; // The moment of the backup that the Job reports.
    cluster.edit("/api/image", json!("api:2"));
    cluster.failing = vec!["api:2"];
    assert_eq!(cluster.settle().state, State::MigrationFailed);
    cluster.now += 2 * 3600;
    cluster.annotate(annotation::RETRY, "1");
    cluster.step();
    assert_eq!(cluster.plan().0.state, State::BackingUp);
}

/// A way back that has become too old, as while a migration failed for days, is none.
#[test]
fn a_recovery_point_that_is_too_old_is_made_again_and_one_of_before_the_last_migration_is_none() {
    let mut cluster = in_production();
    cluster.now = 1_777_892_400; // The moment of the backup that the Job reports.
    cluster.edit("/api/image", json!("api:2"));
    cluster.failing = vec!["api:2"];
    assert_eq!(cluster.settle().state, State::MigrationFailed);
    let backups =
        |cluster: &Cluster| cluster.observed.jobs.iter().filter(|job| job.component == Component::Backup).count();
    assert_eq!(backups(&cluster), 1);
    cluster.annotate(annotation::RETRY, "1");
    cluster.now += 3600;
    assert_eq!(cluster.settle().state, State::MigrationFailed, "an hour is young enough");
    assert_eq!(backups(&cluster), 1);
    cluster.annotate(annotation::RETRY, "2");
    cluster.now += 1;
    assert_eq!(cluster.plan().0.state, State::BackingUp);
    // One migration has succeeded ten minutes ago.
    let mut cluster = in_production();
    cluster.edit("/api/image", json!("api:2"));
    assert!(cluster.plan().0.reuse_within > 3000, "the first migration was an hour ago");
    cluster.settle();
    cluster.now += 600;
    cluster.edit("/api/image", json!("api:3"));
    assert!(cluster.plan().0.reuse_within <= 600, "{}", cluster.plan().0.reuse_within);
}

/// Another dump would wait for what is in the way of the migration.
#[test]
fn a_migration_that_does_not_begin_for_hours_keeps_its_recovery_point() {
    let mut cluster = in_production();
    cluster.now = 1_777_892_400;
    cluster.in_the_way = Some(LockOutcome::TimedOut { message: "session 7 holds it".to_owned() });
    cluster.edit("/api/image", json!("api:2"));
    let backups =
        |cluster: &Cluster| cluster.observed.jobs.iter().filter(|job| job.component == Component::Backup).count();
    for _ in 0..60 {
        assert!(cluster.step(), "another attempt follows");
    }
    assert!(cluster.now > 1_777_892_400 + 3600);
    assert_eq!((cluster.plan().0.state, backups(&cluster)), (State::MigrationLocked, 1));
    cluster.in_the_way = None;
    assert_eq!(cluster.settle().state, State::Serving);
    assert_eq!(backups(&cluster), 1);
}

/// A mended variable is a new revision of the same release, and the release that is taken back has changed the data.
#[test]
fn what_a_release_changed_is_not_forgotten_with_its_revision() {
    let mut cluster = in_production();
    cluster.broken = vec!["api:2"];
    cluster.spec["release"] = json!({"approval": "Required"});
    cluster.edit("/api/image", json!("api:2"));
    let hash = cluster.plan().0.target.content.release();
    cluster.annotate(annotation::APPROVE, &hash);
    cluster.settle();
    cluster.now += DEADLINE;
    assert_eq!(cluster.settle().state, State::RolledBack);
    let before = cluster.plan().0.target.progress;
    cluster.observed.annotations.clear();
    cluster.spec["api"]["env"] = json!([{"name": "A", "value": "1"}]);
    let mended = cluster.settle();
    assert_eq!(mended.state, State::RollingOut, "nobody has to approve the same images again");
    let after = &mended.target.progress;
    assert_eq!((&after.recovery_point, after.migrated_at), (&before.recovery_point, before.migrated_at));
    assert!(after.recovery_point.is_some() && after.rolled_back.is_none());
    // Back to what served: the release stays among the revisions, whose holds stay.
    cluster.spec["api"]["env"] = json!([]);
    cluster.edit("/api/image", json!("api:1"));
    cluster.settle();
    let kept = &cluster.observed.releases.revisions;
    assert!(kept.iter().any(|of| of.content.release() == hash && of.progress.recovery_point.is_some()), "{kept:?}");
    assert!(!cluster.step());
}

#[test]
fn without_a_recovery_point_no_migration_begins_until_somebody_says_so() {
    let mut cluster = in_production();
    cluster.backups = Err("the bucket is full");
    cluster.edit("/api/image", json!("api:2"));
    let release = cluster.settle();
    assert_eq!((release.state, cluster.migrated.len()), (State::RecoveryPointFailed, 0));
    let (told, hash) = (release.waiting.unwrap().message, release.target.content.release());
    for words in ["the bucket is full", "rorun.app/retry", &format!("rorun.app/skip-recovery-point: {hash}")] {
        assert!(told.contains(words), "{told}");
    }
    cluster.annotate(annotation::RETRY, "1");
    assert_eq!(cluster.settle().state, State::RecoveryPointFailed, "tried again");
    cluster.annotate(annotation::SKIP_RECOVERY_POINT, "another");
    assert_eq!(cluster.settle().state, State::RecoveryPointFailed, "another release may go on");
    cluster.annotate(annotation::SKIP_RECOVERY_POINT, &hash);
    let release = cluster.settle();
    assert_eq!((release.state, cluster.api()), (State::Serving, "api:2"));
    assert!(release.target.progress.recovery_point.is_some_and(|point| point.skipped), "it stays in the record");
}

#[test]
fn a_recovery_point_waits_for_the_approval_and_for_a_dump_that_runs() {
    let mut cluster = in_production();
    cluster.spec["release"] = json!({"approval": "Required"});
    cluster.edit("/api/image", json!("api:2"));
    let release = cluster.settle();
    assert_eq!((release.state, cluster.observed.jobs.len()), (State::AwaitingApproval, 0));
    cluster.observed.dump = Some("shop-backup-1".to_owned());
    cluster.annotate(annotation::APPROVE, &release.target.content.release());
    let release = cluster.settle();
    assert_eq!((release.state, release.recovery_point), (State::BackingUp, None));
    assert!(release.waiting.unwrap().message.contains("waits for the dump of job/shop-backup-1 to end"));
    cluster.observed.dump = None;
    assert_eq!((cluster.settle().state, cluster.api()), (State::Serving, "api:2"));
}

/// The operator was away while the Job ended, for longer than the objective allows.
#[test]
fn a_backup_that_nobody_saw_in_time_is_no_way_back() {
    let mut cluster = in_production();
    cluster.now = 1_777_892_400; // The moment of the backup that the Job reports.
    cluster.edit("/api/image", json!("api:2"));
    let backups =
        |cluster: &Cluster| cluster.observed.jobs.iter().filter(|job| job.component == Component::Backup).count();
    while cluster.observed.jobs.iter().all(|job| job.component != Component::Backup || job.phase == JobPhase::Running) {
        cluster.step();
    }
    cluster.now += 3601;
    let (release, _) = cluster.plan();
    assert_eq!((release.state, backups(&cluster)), (State::BackingUp, 1));
    assert!(release.recovery_point.is_some_and(|step| !step.exists), "another Job makes it");
    assert!(cluster.migrated.is_empty());
}

/// A container beside the agent may keep the pod until the limit of its Job.
#[test]
fn a_backup_that_is_complete_counts_although_its_job_failed() {
    let mut cluster = in_production();
    cluster.edit("/api/image", json!("api:2"));
    assert_eq!(cluster.plan().0.state, State::BackingUp);
    cluster.step();
    let said = json!({"complete": {"id": "20260504T110000Z-x7k2p", "at": "2026-05-04T11:00:00Z", "sizeBytes": 7,
        "sha256": "0", "location": "s3://b/k", "removed": 0}});
    let jobs = &mut cluster.observed.jobs;
    let job = jobs.iter_mut().find(|job| job.component == Component::Backup).expect("a Job");
    job.phase = JobPhase::Failed(said.to_string());
    assert_eq!(cluster.plan().0.state, State::Migrating);
}
