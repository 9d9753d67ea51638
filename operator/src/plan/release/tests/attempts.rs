//! A migration that did not begin is tried again, and one that did is not.

use super::*;
use crate::{names::ObjectName, plan::on_live_data};

const BY_HAND: &str = "waiting for the lock: session 7 (by hand) holds it";

fn locked() -> LockOutcome {
    LockOutcome::TimedOut { message: BY_HAND.to_owned() }
}

/// A release whose migration finds something in its way.
fn kept_from(in_the_way: impl Into<Option<LockOutcome>>) -> Cluster {
    let mut cluster = serving();
    cluster.in_the_way = in_the_way.into();
    cluster.edit("/api/image", json!("api:2"));
    cluster
}

fn migrations(cluster: &Cluster) -> Vec<&ObservedJob> {
    cluster.observed.jobs.iter().filter(|job| job.component == Component::Migration).collect()
}

#[test]
fn a_migration_that_did_not_get_its_lock_is_tried_until_it_does_and_runs_once() {
    let mut cluster = kept_from(locked());
    let first = cluster.plan().0.migration.unwrap().name;
    let mut names = Vec::new();
    for step in 0..20 {
        assert!(cluster.step(), "another attempt follows");
        let (release, _) = cluster.plan();
        names.extend(migrations(&cluster).iter().map(|job| job.name.clone()));
        assert!(migrations(&cluster).len() < 3, "{names:?}");
        assert_eq!(cluster.api(), "api:1", "what serves stays");
        assert!(release.migration_runs, "no dump begins between two attempts");
        // From the end of the first one, also while the next one starts.
        let expected = if step == 0 { State::Migrating } else { State::MigrationLocked };
        assert_eq!(release.state, expected, "{step}");
        let waiting = release.waiting.unwrap();
        assert_eq!((waiting.reason, waiting.message.contains(BY_HAND)), (expected.as_str(), step > 0), "{waiting:?}");
    }
    names.sort();
    names.dedup();
    assert_eq!(
        names,
        [first.clone(), format!("{first}-2")],
        "two names take turns, and the first one is that of before"
    );
    assert!(names.iter().all(|name| name.len() <= 63));
    cluster.in_the_way = None;
    cluster.migrated.clear();
    let release = cluster.settle();
    assert_eq!((release.state, cluster.api()), (State::Serving, "api:2"));
    assert!(cluster.migrated.len() < 2, "what begins is not tried again");
    assert_eq!(release.target.progress.not_begun, None);
    assert!(!cluster.step(), "it stays so");
}

/// A node is lost after the command ran, and the next pod of the same Job finds the lock taken: the failure of the Job tells of that pod.
#[test]
fn a_command_that_ran_in_a_pod_that_was_lost_is_not_run_by_another_job() {
    let mut cluster = kept_from(locked());
    cluster.hanging = true;
    assert!(cluster.step() && migrations(&cluster).len() == 1);
    cluster.observed.jobs.iter_mut().for_each(|job| job.begun = Some(true));
    cluster.step();
    assert!(cluster.plan().0.target.progress.began.is_some(), "the command runs");
    cluster.hanging = false;
    let release = cluster.settle();
    assert_eq!((release.state, migrations(&cluster).len()), (State::MigrationFailed, 1));
}

/// Whoever removes the Job of a migration, while it runs or after it failed, does not run its command once more.
#[test]
fn a_command_that_ran_is_not_run_again_once_its_job_is_gone() {
    for hanging in [true, false] {
        let mut cluster = kept_from(None);
        (cluster.hanging, cluster.failing) = (hanging, vec!["api:2"]);
        cluster.settle();
        cluster.observed.jobs.iter_mut().filter(|_| hanging).for_each(|job| job.begun = Some(true));
        cluster.settle();
        let ran = cluster.migrated.len();
        // Another revision of the same release knows of it, too.
        cluster.spec["api"]["env"] = json!([{"name": "A", "value": "1"}]);
        cluster.settle();
        cluster.observed.jobs.clear();
        let release = cluster.settle();
        assert_eq!((release.state, cluster.api(), migrations(&cluster).len()), (State::MigrationFailed, "api:1", 0));
        let waiting = release.waiting.unwrap();
        assert!(waiting.message.contains("its Job was removed before its end was recorded"), "{waiting:?}");
        assert_eq!(cluster.migrated.len(), ran, "{hanging}");
        (cluster.hanging, cluster.failing) = (false, Vec::new());
        cluster.annotate(annotation::RETRY, "1");
        assert_eq!((cluster.settle().state, cluster.api()), (State::Serving, "api:2"));
    }
}

/// The longest name of a stack leaves two letters for another attempt.
#[test]
fn the_name_of_another_attempt_is_one_of_a_job() {
    let first = ObjectName::step(&"s".repeat(40), Component::Migration, &crate::plan::meaning(&["a"]));
    assert!(format!("{first}-2").len() <= 63, "{first}");
}

#[test]
fn a_database_that_does_not_answer_is_no_lock_and_is_asked_again_as_well() {
    let mut cluster = kept_from(LockOutcome::Unreachable { message: "failed to reach PostgreSQL".to_owned() });
    for _ in 0..6 {
        cluster.step();
    }
    let (release, _) = cluster.plan();
    let waiting = release.waiting.unwrap();
    assert_eq!((release.state, waiting.reason), (State::Migrating, reason::MIGRATING));
    assert!(waiting.message.contains("which has not begun: failed to reach PostgreSQL"), "{waiting:?}");
    cluster.in_the_way = None;
    assert_eq!((cluster.settle().state, cluster.api()), (State::Serving, "api:2"));
}

/// Its image could not be pulled until its time was over: its pod shows that no container of it was ever made.
#[test]
fn a_migration_whose_pod_never_started_is_tried_again_as_long_as_its_pod_shows_it() {
    let mut cluster = kept_from(None);
    cluster.hanging = true;
    cluster.settle();
    let failed = JobPhase::Failed("job/m: Job has reached the specified backoff limit".to_owned());
    (cluster.observed.jobs[0].phase, cluster.observed.jobs[0].begun) = (failed.clone(), Some(false));
    let first = cluster.observed.jobs[0].name.clone();
    cluster.hanging = false;
    let mut gone = cluster.plan().0;
    assert_eq!(gone.state, State::Migrating);
    assert_eq!((cluster.settle().state, cluster.api()), (State::Serving, "api:2"));
    assert_eq!(cluster.migrated.len(), 2);
    // Of a pod that is gone nothing is known, so its command counts as run.
    let mut cluster = kept_from(None);
    cluster.hanging = true;
    cluster.settle();
    (cluster.observed.jobs[0].phase, cluster.observed.jobs[0].begun) = (failed, None);
    assert_eq!(cluster.observed.jobs[0].name, first);
    gone = cluster.settle();
    assert_eq!((gone.state, cluster.migrated.len()), (State::MigrationFailed, 1));
}

/// Whatever the agent said: the reason of the Job's failure tells whether the command ran.
#[test]
fn a_migration_that_began_is_never_tried_again_by_itself() {
    let mut cluster = kept_from(locked());
    for _ in 0..5 {
        cluster.step();
    }
    cluster.in_the_way = None;
    cluster.failing = vec!["api:2"];
    cluster.migrated.clear();
    let release = cluster.settle();
    assert_eq!((release.state, cluster.api()), (State::MigrationFailed, "api:1"));
    assert!(cluster.migrated.len() < 2 && !cluster.step());
    assert!(release.waiting.unwrap().message.contains("P3018"));
    // One that failed without a word of its policy, of an operator before this one, say.
    let mut cluster = kept_from(None);
    cluster.hanging = true;
    cluster.settle();
    cluster.observed.jobs[0].phase = JobPhase::Failed(BY_HAND.to_owned());
    // That it ran is recorded, and nothing else happens.
    assert_eq!((cluster.settle().state, cluster.step()), (State::MigrationFailed, false));
    assert_eq!(cluster.migrated.len(), 1);
}

#[test]
fn while_it_waits_the_first_job_already_says_for_whom_and_no_longer_once_its_command_runs() {
    let mut cluster = kept_from(None);
    cluster.hanging = true;
    cluster.settle();
    cluster.observed.jobs[0].said = serde_json::to_string(&locked()).ok();
    let (release, _) = cluster.plan();
    assert_eq!((release.state, release.migration_runs), (State::MigrationLocked, true));
    assert_eq!(on_live_data(&cluster.observed), Some(format!("job/{}", cluster.observed.jobs[0].name)));
    cluster.settle();
    cluster.observed.jobs[0].said = None;
    assert_eq!(cluster.plan().0.state, State::MigrationLocked, "what is known stays so");
    cluster.observed.jobs[0].begun = Some(true);
    let release = cluster.settle();
    assert_eq!((release.state, release.waiting.unwrap().reason), (State::Migrating, reason::MIGRATING));
}

/// How the spec goes on while a session is in the way: no attempt follows for what nobody wants any more.
#[rstest]
#[case::back("api:1")]
#[case::to_another_image("api:3")]
fn a_release_that_is_withdrawn_is_not_tried_again(#[case] image: &str) {
    for steps in 0..6 {
        let mut cluster = kept_from(locked());
        for _ in 0..steps {
            cluster.step();
        }
        cluster.edit("/api/image", json!(image));
        cluster.migrated.clear();
        // The Job that runs is ended by nothing.
        cluster.step();
        cluster.in_the_way = None;
        let release = cluster.settle();
        assert_eq!((release.state, cluster.api()), (State::Serving, image), "after {steps} steps");
        assert!(!cluster.migrated.iter().any(|image| image == "api:2"), "after {steps} steps: {:?}", cluster.migrated);
        assert!(release.target.progress.not_begun.is_none());
    }
}

/// A retry, a dump, sleep: nothing makes two of them, and each ends well.
#[test]
fn other_operations_wait_for_no_more_than_the_attempt_that_runs() {
    let mut cluster = kept_from(locked());
    for _ in 0..3 {
        cluster.step();
    }
    cluster.annotate(annotation::RETRY, "1");
    cluster.step();
    cluster.observed.dump = Some("shop-backup-1".to_owned());
    for _ in 0..4 {
        cluster.step();
    }
    assert!(migrations(&cluster).iter().all(|job| job.phase != JobPhase::Running), "none begins beside a dump");
    assert!(cluster.plan().0.waiting.unwrap().message.contains("waits for the dump of job/shop-backup-1 to end"));
    cluster.observed.dump = None;
    cluster.hibernate(Some(Cause::Spec));
    for _ in 0..4 {
        cluster.step();
    }
    assert_eq!(cluster.settle().state, State::Hibernating);
    cluster.hibernate(None);
    cluster.in_the_way = None;
    assert_eq!((cluster.settle().state, cluster.api()), (State::Serving, "api:2"));
}

/// What a command said last, or the container before it, and what the user reads then.
#[rstest]
#[case::it_killed_its_own_connection("FATAL: terminating connection due to administrator command")]
#[case::no_rights("ERROR: permission denied for schema public")]
#[case::a_full_disk("ERROR: could not extend file \"base/5/16384\": No space left on device")]
#[case::a_pooler(
    "failed to hold a lock on PostgreSQL at db.example.com:6432: DIRECT_URL leads to a pooler that shares connections between transactions: \
     let it name the server, or a pooler with pool_mode=session"
)]
#[case::no_command("exec: \"migrate\": executable file not found in $PATH")]
fn a_failure_is_told_with_the_words_of_who_failed_and_the_way_out(#[case] said: &str) {
    let mut cluster = kept_from(None);
    cluster.hanging = true;
    cluster.settle();
    cluster.observed.jobs[0].phase = JobPhase::Failed(said.to_owned());
    let release = cluster.settle();
    let (hash, job) = (release.target.content.release(), &cluster.observed.jobs[0].name);
    let expected = format!(
        "release {hash} (ocr:1, api:2) is held, since its migration failed, job/{job}: {said}; mend it, then change the image or set the \
         annotation rorun.app/retry to a new value; what served before serves"
    );
    let waiting = release.waiting.unwrap();
    assert_eq!((waiting.reason, waiting.message), (reason::MIGRATION_FAILED, expected));
    assert_eq!(cluster.api(), "api:1");
}
