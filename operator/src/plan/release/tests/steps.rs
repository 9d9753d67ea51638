//! The steps of a release, one after the other.

use super::*;

#[test]
fn a_new_stack_migrates_before_anything_serves() {
    let mut cluster = Cluster::new();
    let (release, _) = cluster.plan();
    assert_eq!((release.state, release.pick), (State::Migrating, Pick::Unchanged));
    cluster.step();
    assert!(cluster.served.is_empty());
    assert_eq!(cluster.settle().state, State::Serving);
    assert_eq!((cluster.api(), &*cluster.migrated), ("api:1", &["api:1".to_owned()][..]));
}

#[test]
fn nothing_of_a_release_serves_before_its_migration_has_succeeded() {
    let mut cluster = serving();
    cluster.edit("/api/image", json!("api:2"));
    cluster.edit("/ocr/image", json!("ocr:2"));
    cluster.failing = vec!["api:2"];
    let release = cluster.settle();
    assert_eq!((release.state, cluster.api()), (State::MigrationFailed, "api:1"));
    assert!(cluster.served.is_empty(), "{:?}", cluster.served);
    let waiting = release.waiting.unwrap();
    assert!(waiting.message.contains("P3018") && waiting.message.contains("rorun.app/retry"), "{waiting:?}");
    // An edit of something else changes neither.
    cluster.edit("/ocr/image", json!("ocr:3"));
    assert_eq!((cluster.settle().state, cluster.migrated.len()), (State::MigrationFailed, 1), "the same migration");
    cluster.failing.clear();
    cluster.annotate(annotation::RETRY, "1");
    assert_eq!((cluster.settle().state, cluster.api()), (State::Serving, "api:2"));
    assert_eq!(cluster.migrated.len(), 2);
}

#[test]
fn a_migration_waits_for_a_dump_that_runs() {
    let mut cluster = serving();
    cluster.edit("/api/image", json!("api:2"));
    cluster.observed.dump = Some("shop-backup-1".to_owned());
    let release = cluster.settle();
    assert_eq!((release.state, release.migration.is_none()), (State::Migrating, true));
    assert!(release.waiting.unwrap().message.contains("waits for the dump of job/shop-backup-1"));
    cluster.observed.dump = None;
    assert_eq!((cluster.settle().state, cluster.api()), (State::Serving, "api:2"));
}

/// How the spec goes on while the migration to api:2 runs, and what serves in the end.
#[rstest]
#[case::to_another_image("/api/image", json!("api:3"), "api:3")]
#[case::back("/api/image", json!("api:1"), "api:1")]
#[case::without_a_migration("/api", json!({"image": "api:2"}), "api:2")]
#[case::with_another_command("/api", json!({"image": "api:2", "migrations": {"command": ["migrate", "all"]}}), "api:2")]
#[case::by_a_retry("/environment", json!("Development"), "api:2")]
fn a_migration_that_runs_is_ended_by_nothing_and_the_next_waits(
    #[case] path: &str,
    #[case] value: Value,
    #[case] serves: &str,
) {
    let mut cluster = serving();
    cluster.edit("/api/image", json!("api:2"));
    cluster.hanging = true;
    cluster.settle();
    let first = cluster.observed.jobs.clone();
    cluster.edit(path, value);
    cluster.annotate(annotation::RETRY, "1");
    let release = cluster.settle();
    assert_eq!(cluster.observed.jobs, first, "it runs, and alone");
    assert!(release.migration_runs && release.migration.is_none());
    if release.state == State::Migrating {
        assert_eq!(cluster.api(), "api:1");
        let waiting = release.waiting.unwrap().message;
        assert!(waiting.contains(&format!("waits for the migration of job/{} to end", first[0].name)), "{waiting}");
    }
    cluster.hanging = false;
    let release = cluster.settle();
    assert_eq!((release.state, cluster.api(), release.migration_runs), (State::Serving, serves, false));
}

#[test]
fn a_migration_that_cannot_start_holds_neither_dumps_nor_the_next_one() {
    let mut cluster = serving();
    cluster.edit("/api/image", json!("api:2"));
    cluster.hanging = true;
    cluster.settle();
    cluster.observed.jobs[0].phase = JobPhase::CannotStart;
    let (release, _) = cluster.plan();
    assert_eq!((release.state, release.migration_runs), (State::Migrating, false));
    assert!(release.migration.unwrap().exists, "it starts once its image is there");
    cluster.hanging = false;
    cluster.edit("/api/image", json!("api:3"));
    assert_eq!((cluster.settle().state, cluster.api()), (State::Serving, "api:3"));
}

#[test]
fn an_edit_without_an_image_rolls_at_once_and_migrates_nothing() {
    let mut cluster = serving();
    cluster.edit("/api", json!({"image": "api:1", "migrations": {"command": ["migrate", "all"]}, "port": 4000}));
    let (release, _) = cluster.plan();
    assert_eq!((release.state, release.pick), (State::RollingOut, Pick::Target));
    assert_eq!(cluster.settle().state, State::Serving);
    assert!(cluster.migrated.is_empty());
}

#[test]
fn a_release_that_never_becomes_ready_is_rolled_back_and_tried_again_when_asked() {
    let mut cluster = serving();
    cluster.broken = vec!["api:2"];
    cluster.edit("/api/image", json!("api:2"));
    let release = cluster.settle();
    assert_eq!((release.state, release.turns_at), (State::RollingOut, Some(cluster.now + DEADLINE)));
    cluster.now += DEADLINE - 1;
    assert_eq!(cluster.settle().state, State::RollingOut);
    cluster.now += 1;
    let release = cluster.settle();
    assert_eq!((release.state, cluster.api()), (State::RolledBack, "api:1"));
    assert_eq!(release.waiting.unwrap().reason, reason::ROLLED_BACK);
    assert_eq!(cluster.migrated.len(), 1, "a roll-back migrates nothing");
    cluster.now += 10 * DEADLINE;
    assert!(!cluster.step(), "it stays so");
    cluster.broken.clear();
    cluster.annotate(annotation::RETRY, "again");
    assert_eq!((cluster.settle().state, cluster.api()), (State::Serving, "api:2"));
    assert_eq!(cluster.migrated.len(), 1, "it is migrated already");
}

#[test]
fn a_mended_variable_is_a_new_attempt_after_a_roll_back() {
    let mut cluster = serving();
    cluster.broken = vec!["api:2"];
    cluster.edit("/api/image", json!("api:2"));
    cluster.settle();
    cluster.now += DEADLINE;
    assert_eq!(cluster.settle().state, State::RolledBack);
    cluster.broken.clear();
    cluster.edit("/api", json!({"image": "api:2", "migrations": {"command": ["migrate"]}, "port": 4000}));
    assert_eq!((cluster.settle().state, cluster.api(), cluster.migrated.len()), (State::Serving, "api:2", 1));
}

#[test]
fn the_clock_stands_while_the_release_is_not_at_fault() {
    let mut cluster = serving();
    cluster.broken = vec!["api:2"];
    cluster.edit("/api/image", json!("api:2"));
    cluster.settle();
    cluster.observed.releases.excuse =
        Some(Excuse::of(Component::Redis, Waiting::new(reason::UNSCHEDULABLE, "no room")));
    cluster.settle();
    cluster.now += 5 * DEADLINE;
    let release = cluster.settle();
    assert_eq!((release.state, release.turns_at), (State::RollingOut, None));
    cluster.observed.releases.excuse = None;
    let release = cluster.settle();
    assert_eq!((release.state, release.turns_at), (State::RollingOut, Some(cluster.now + DEADLINE)));
    cluster.now += DEADLINE;
    assert_eq!(cluster.settle().state, State::RolledBack);
}

/// The operator rolls nothing back then, so the status does not say that it did.
#[test]
fn a_release_of_a_suspended_stack_is_given_up_once_that_ends() {
    for excused in [false, true] {
        let mut cluster = serving();
        cluster.broken = vec!["api:2"];
        cluster.edit("/api/image", json!("api:2"));
        cluster.settle();
        if excused {
            let down = Waiting::new(reason::NOT_HEALTHY, "redis is down");
            cluster.observed.releases.excuse = Some(Excuse::of(Component::Redis, down));
            cluster.settle();
        }
        cluster.spec["suspend"] = json!(true);
        cluster.now += 5 * DEADLINE;
        cluster.observed.releases.excuse = None;
        assert_eq!(cluster.plan().0.state, State::RollingOut);
        cluster.spec["suspend"] = json!(false);
        let release = cluster.settle();
        assert_eq!(release.state, if excused { State::RollingOut } else { State::RolledBack });
        cluster.now += DEADLINE;
        assert_eq!(cluster.settle().state, State::RolledBack);
    }
}

#[test]
fn what_the_pods_of_another_workload_say_excuses_no_release() {
    let mut cluster = serving();
    cluster.broken = vec!["api:2"];
    cluster.edit("/api/image", json!("api:2"));
    cluster.settle();
    let full = Some(Waiting::new(reason::UNSCHEDULABLE, "no room"));
    cluster.observed.releases.workloads.get_mut(&Component::Ocr).unwrap().excuse.clone_from(&full);
    let (release, _) = cluster.plan();
    assert_eq!(release.turns_at, Some(cluster.now + DEADLINE), "the clock runs on");
    cluster.observed.releases.workloads.get_mut(&Component::Api).unwrap().excuse = full;
    assert_eq!(cluster.settle().turns_at, None, "its own pods have no room");
}

#[test]
fn an_approval_releases_exactly_one_release() {
    let mut cluster = serving();
    cluster.spec["release"] = json!({"approval": "Required"});
    assert_eq!(cluster.settle().state, State::Serving, "what serves needs none");
    cluster.edit("/api/image", json!("api:2"));
    let release = cluster.settle();
    assert_eq!((release.state, cluster.api()), (State::AwaitingApproval, "api:1"));
    assert!(cluster.migrated.is_empty() && release.migration.is_none());
    assert!(!release.state.has_begun(), "it holds nobody");
    let waiting = release.waiting.unwrap().message;
    let hash = release.target.content.release();
    assert!(waiting.contains(&hash) && waiting.contains("api:2"), "{waiting}");
    // Of another release, and then of this one after the spec went on.
    cluster.annotate(annotation::APPROVE, "0123456789");
    assert_eq!(cluster.settle().state, State::AwaitingApproval);
    cluster.edit("/api/image", json!("api:3"));
    cluster.annotate(annotation::APPROVE, &hash);
    let release = cluster.settle();
    assert_eq!(release.state, State::AwaitingApproval, "an approval of the withdrawn one starts nothing");
    assert!(release.waiting.unwrap().message.contains(&format!("it approves {hash}, which is another one")));
    cluster.edit("/api/image", json!("api:2"));
    cluster.annotate(annotation::APPROVED_BY, "ada");
    let release = cluster.settle();
    assert_eq!((release.state, cluster.api()), (State::Serving, "api:2"));
    assert_eq!(release.target.progress.approved_by.as_deref(), Some("ada"));
    assert!(!release.target.progress.approval_verified, "no policy made sure of the name");
}

#[test]
fn going_back_needs_neither_approval_nor_migration() {
    let mut cluster = serving();
    cluster.edit("/api/image", json!("api:2"));
    cluster.settle();
    cluster.now += 60;
    cluster.spec["release"] = json!({"approval": "Required"});
    cluster.migrated.clear();
    cluster.edit("/api/image", json!("api:1"));
    let (release, _) = cluster.plan();
    assert_eq!(release.state, State::RollingOut);
    assert_eq!(release.turns_at, Some(cluster.now + DEADLINE), "this rollout has its own clock");
    let release = cluster.settle();
    assert_eq!((release.state, cluster.api()), (State::Serving, "api:1"));
    assert!(cluster.migrated.is_empty());
    assert_eq!(release.last_good.map(|good| good.name), Some(release.target.name));
}

#[test]
fn what_an_operator_without_releases_runs_is_recorded_and_left_as_it_is() {
    let mut cluster = Cluster::new();
    for component in [Component::Api, Component::Ocr] {
        let there = ObservedWorkload { rolled_out: true, ..ObservedWorkload::default() };
        cluster.observed.releases.workloads.insert(component, there);
    }
    cluster.observed.releases.adoptable = true;
    cluster.spec["release"] = json!({"approval": "Required"});
    let (release, _) = cluster.plan();
    assert_eq!((release.state, release.pick, release.revisions.len()), (State::Serving, Pick::Target, 1));
    assert!(release.migration.is_none());
    cluster.observed.releases.revisions = release.revisions;
    cluster.observed.releases.adoptable = false;
    assert_eq!(cluster.settle().state, State::Serving);
    assert!(cluster.migrated.is_empty(), "it was migrated by whoever released it");
    // The next one is a release like any other.
    cluster.edit("/api/image", json!("api:2"));
    assert_eq!(cluster.settle().state, State::AwaitingApproval);
}

#[test]
fn an_upgrade_of_the_operator_and_a_default_make_no_release() {
    let mut cluster = serving();
    let (before, _) = cluster.plan();
    cluster.observed.agent_image = "rorun-operator:next".to_owned();
    cluster.spec["api"]["replicas"] = json!(3);
    assert_eq!(cluster.plan().0, before);
    assert!(!cluster.step());
}

#[test]
fn ten_releases_are_kept() {
    let mut cluster = serving();
    for number in 2..20 {
        cluster.now += 60;
        cluster.edit("/api/image", json!(format!("api:{number}")));
        assert_eq!(cluster.settle().state, State::Serving);
    }
    assert_eq!(cluster.observed.releases.revisions.len(), HISTORY);
}

/// Two releases within a second, and each order of stopping half-way.
#[test]
fn a_spec_that_goes_on_at_any_step_ends_well() {
    for steps in 0..8 {
        for next in ["api:1", "api:3"] {
            let mut cluster = serving();
            cluster.edit("/api/image", json!("api:2"));
            for _ in 0..steps {
                cluster.step();
            }
            cluster.edit("/api/image", json!(next));
            let release = cluster.settle();
            assert_eq!((release.state, cluster.api()), (State::Serving, next), "after {steps} steps");
        }
    }
}

/// Another revision of a release that served is a way back as the first one is, at every step of the way.
#[test]
fn going_back_with_another_variable_needs_no_approval_and_no_migration() {
    let mut cluster = serving();
    cluster.edit("/api/image", json!("api:2"));
    cluster.settle();
    cluster.migrated.clear();
    cluster.now += 60;
    cluster.spec["release"] = json!({"approval": "Required"});
    cluster.spec["api"]["env"] = json!([{"name": "A", "value": "1"}]);
    cluster.edit("/api/image", json!("api:1"));
    while cluster.step() {
        assert!(matches!(cluster.plan().0.state, State::RollingOut | State::Serving), "{:?}", cluster.plan().0.state);
    }
    assert_eq!((cluster.api(), cluster.migrated.len()), ("api:1", 0));
}

#[test]
fn the_rows_name_every_state_and_lead_only_to_states_that_have_one() {
    for row in &TABLE {
        for (next, _) in row.next {
            assert!(TABLE.iter().any(|other| other.state == *next), "{next:?}");
        }
    }
}

/// What the Job said of the migrations, and what is told of them after a roll-back. The pod may be seen after its Job.
#[rstest]
#[case::names(Some(json!({"applied": {"migrations": ["20261120_add_tax", "20261121_index"]}})), "; the schema stays ahead by \
    20261120_add_tax, 20261121_index of release {hash} (api:2)")]
#[case::nothing_tells(None, "; the schema stays ahead by the migration of release {hash} (api:2)")]
#[case::none(Some(json!({"applied": {"migrations": []}})), "")]
fn a_roll_back_tells_by_which_migrations_the_schema_is_ahead(#[case] said: Option<Value>, #[case] ahead: &str) {
    let mut cluster = serving();
    cluster.broken = vec!["api:2"];
    cluster.edit("/api/image", json!("api:2"));
    cluster.settle();
    cluster.observed.jobs[0].said = said.map(|said| said.to_string());
    cluster.settle();
    cluster.now += DEADLINE;
    let release = cluster.settle();
    let ahead = ahead.replace("{hash}", &release.target.content.release());
    let told = release.waiting.unwrap().message;
    assert!(told.contains(&format!("within {DEADLINE} s{ahead}; mend it")), "{told}");
    // Its Job is gone with the next release, and what it did is not.
    cluster.broken = vec!["api:3"];
    cluster.spec["api"] = json!({"image": "api:3", "progressDeadlineSeconds": DEADLINE});
    cluster.settle();
    cluster.now += DEADLINE;
    let release = cluster.settle();
    assert_eq!(release.state, State::RolledBack);
    let told = release.waiting.unwrap().message;
    assert!(told.contains(&format!("within {DEADLINE} s{ahead}; mend it")), "{told}");
}

/// Whatever keeps the pods of the last release from serving as well: it is told, and nothing is rolled back for it.
#[rstest]
#[case::a_rollout(false)]
#[case::a_candidate(true)]
fn the_clock_stands_while_the_pods_of_before_do_not_serve_either(#[case] candidate: bool) {
    let mut cluster = serving();
    cluster.spec["api"]["candidate"] = json!(candidate);
    cluster.broken = vec!["api:2"];
    cluster.edit("/api/image", json!("api:2"));
    let state = cluster.settle().state;
    assert_eq!(state, if candidate { State::Testing } else { State::RollingOut });
    let said = Waiting::new(reason::CRASH_LOOP, "pod/shop-api-1 crashes");
    cluster.observed.releases.workloads.get_mut(&Component::Api).unwrap().before = Some(said);
    cluster.settle();
    cluster.now += 5 * DEADLINE;
    let release = cluster.settle();
    assert_eq!((release.state, release.turns_at), (state, None));
    let told = release.target.progress.excused.unwrap();
    assert_eq!(told, "the pods of before do not serve either: pod/shop-api-1 crashes");
    cluster.observed.releases.workloads.get_mut(&Component::Api).unwrap().before = None;
    cluster.settle();
    cluster.now += DEADLINE;
    assert_eq!(cluster.settle().state, if candidate { State::SmokeTestFailed } else { State::RolledBack });
}
