//! Smoke tests of what serves.

use super::*;

/// A stack that serves, whose releases are tested by the Ingress, and that of the OCR service by its Service.
fn verified() -> Cluster {
    let mut cluster = serving();
    cluster.spec["ingress"] = json!({"host": "shop.example.com"});
    cluster.spec["api"]["candidate"] = json!(true);
    cluster.spec["release"] = json!({"smokeTests": [
        {"component": "api", "path": "/version", "via": "Ingress"},
        {"component": "ocr", "path": "/health"},
    ]});
    assert_eq!(
        (cluster.settle().state, cluster.verified),
        (State::Serving, 0),
        "an edit without an image is no release"
    );
    cluster
}

#[test]
fn a_release_serves_once_its_pods_passed_their_tests() {
    let mut cluster = verified();
    cluster.edit("/api/image", json!("api:2"));
    let states = [State::Migrating, State::Testing, State::RollingOut, State::Verifying, State::Serving];
    assert_eq!(cluster.states(), states);
    assert_eq!((cluster.api(), cluster.tested.len(), cluster.verified), ("api:2", 1, 1));
    assert!(cluster.plan().0.smoke_test.is_none(), "nothing of the test is left");
    // Without a candidate its pods are asked, and nothing asks the other workload.
    cluster.edit("/ocr/image", json!("ocr:2"));
    assert_eq!(cluster.states(), [State::RollingOut, State::Verifying, State::Serving]);
    assert_eq!((cluster.tested.len(), cluster.verified), (1, 2));
    // Going back needs no test.
    cluster.edit("/ocr/image", json!("ocr:1"));
    assert_eq!((cluster.settle().state, cluster.verified), (State::Serving, 2));
}

#[test]
fn a_release_whose_pods_fail_their_tests_is_rolled_back_and_tried_again_by_a_retry() {
    let mut cluster = verified();
    cluster.failing_pods = vec!["api:2"];
    cluster.edit("/api/image", json!("api:2"));
    let release = cluster.settle();
    assert_eq!((release.state, cluster.api()), (State::RolledBack, "api:1"));
    assert!(release.smoke_test.is_some_and(|step| step.exists), "the Job is kept for its log");
    let told = release.waiting.unwrap().message;
    assert!(told.contains("failed after the rollout: the answer is 503") && told.contains("rorun.app/retry"), "{told}");
    cluster.failing_pods.clear();
    assert_eq!(cluster.settle().state, State::RolledBack, "nothing tries it again by itself");
    cluster.annotate(annotation::RETRY, "1");
    assert_eq!((cluster.settle().state, cluster.api(), cluster.verified), (State::Serving, "api:2", 2));
}

/// At every step of a release.
#[test]
fn a_spec_that_goes_on_or_a_stack_that_sleeps_while_pods_are_tested_ends_well() {
    for steps in 0..14 {
        for next in ["api:1", "api:3"] {
            let mut cluster = verified();
            cluster.edit("/api/image", json!("api:2"));
            for _ in 0..steps {
                cluster.step();
            }
            cluster.hibernate(Some(Cause::Spec));
            cluster.settle();
            cluster.edit("/api/image", json!(next));
            cluster.hibernate(None);
            let release = cluster.settle();
            assert_eq!((release.state, cluster.api()), (State::Serving, next), "after {steps} steps");
            assert!(release.smoke_test.is_none() && release.verified.is_empty());
        }
    }
}

/// Else nothing would tell another environment that the release was tested.
#[test]
fn the_moment_when_the_pods_passed_their_tests_is_recorded() {
    let mut cluster = verified();
    cluster.edit("/ocr/image", json!("ocr:2"));
    let progress = cluster.settle().target.progress;
    assert_eq!((progress.verified_at, progress.tested), (Some(cluster.now), None), "it has no candidate");
    assert_eq!(progress.served_at, progress.verified_at, "in the write that records that it serves");
    cluster.failing_pods = vec!["ocr:3"];
    cluster.edit("/ocr/image", json!("ocr:3"));
    let release = cluster.settle();
    assert_eq!((release.state, release.target.progress.verified_at), (State::RolledBack, None));
}

/// A test that failed while Redis was down says nothing of the release, with and without a candidate. Afterwards it does.
#[rstest]
#[case::of_pods("/ocr/image", "ocr:2", State::Verifying, State::RolledBack)]
#[case::of_a_candidate("/api/image", "api:2", State::Testing, State::SmokeTestFailed)]
fn a_test_that_fails_while_a_service_is_down_is_asked_anew_once_it_is_back(
    #[case] path: &str,
    #[case] image: &'static str,
    #[case] tests: State,
    #[case] end: State,
    #[values(false, true)] is_mended: bool,
) {
    let mut cluster = verified();
    (cluster.failing_pods, cluster.failing_tests) = (vec![image], vec![image]);
    cluster.edit(path, json!(image));
    while cluster.plan().0.smoke_test.is_none() {
        cluster.step();
    }
    let down = Waiting::new(reason::NOT_HEALTHY, "redis is down");
    cluster.observed.releases.excuse = Some(Excuse::of(Component::Redis, down.clone()));
    let release = cluster.settle();
    let asked = release.smoke_test.unwrap();
    assert_eq!((release.state, asked.exists, release.excuse.unwrap().waiting), (tests, true, down));
    let Waiting { reason, message } = release.waiting.unwrap();
    let told = "its smoke tests are asked anew once this is over: redis is down; they failed: the answer is 503";
    assert!(reason == reason::NOT_HEALTHY && message.ends_with(told), "{message}");
    cluster.now += if tests == State::Testing { 100_000 } else { DEADLINE - 1 };
    assert_eq!(cluster.settle().state, tests, "its clock stands");
    cluster.observed.releases.excuse = None;
    if is_mended {
        (cluster.failing_pods, cluster.failing_tests) = Default::default();
    }
    let release = cluster.settle();
    if is_mended {
        assert_eq!((release.state, release.smoke_test), (State::Serving, None));
    } else {
        let kept = release.smoke_test.expect("the Job is kept for its log");
        assert_eq!((release.state, kept.exists, kept.name != asked.name), (end, true, true));
    }
}

/// Users meet its pods meanwhile, and it may be what brings the service down.
#[test]
fn a_release_that_fails_its_tests_is_rolled_back_after_its_deadline_although_a_service_is_down() {
    let mut cluster = verified();
    cluster.failing_pods = vec!["ocr:2"];
    let down = Waiting::new(reason::NOT_HEALTHY, "the database has no connection left");
    cluster.edit("/ocr/image", json!("ocr:2"));
    while cluster.plan().0.smoke_test.is_none() {
        cluster.step();
    }
    cluster.observed.releases.excuse = Some(Excuse::of(Component::Database, down));
    let release = cluster.settle();
    let turns_at = release.turns_at.expect("nothing else may happen before");
    assert!(release.state == State::Verifying && turns_at > cluster.now);
    cluster.now = turns_at;
    let release = cluster.settle();
    assert_eq!(release.state, State::RolledBack);
    let told = release.waiting.unwrap().message;
    let why = "failed after the rollout, while the database has no connection left: the answer is 503";
    assert!(told.contains(why), "{told}");
}

/// The release that mends what crashes may be wrong itself: it is told, and the next one is tried.
#[test]
fn a_candidate_that_does_not_pass_has_failed_also_while_the_pods_of_before_crash() {
    let mut cluster = verified();
    cluster.failing_tests = vec!["api:2"];
    cluster.edit("/api/image", json!("api:2"));
    while cluster.plan().0.smoke_test.is_none() {
        cluster.step();
    }
    let crashes = Waiting::new(reason::CRASH_LOOP, "pod/shop-api-1 crashes");
    cluster.observed.releases.workloads.get_mut(&Component::Api).unwrap().before = Some(crashes);
    assert_eq!(cluster.settle().state, State::SmokeTestFailed);
}

/// Neither the Job nor the candidate is made then: the field is told, and the release goes on once it is mended.
#[test]
fn a_refused_patch_of_jobs_is_no_fault_of_a_release() {
    let mut cluster = verified();
    cluster.broken = vec!["api:2"];
    cluster.spec["jobs"] = json!({"podTemplate": {"spec": {"hostIPC": true}}});
    cluster.edit("/api/image", json!("api:2"));
    assert_eq!(cluster.settle().state, State::Testing);
    cluster.now += 100_000;
    let release = cluster.settle();
    assert_eq!((release.state, release.excuse.unwrap().waiting.reason), (State::Testing, reason::POD_TEMPLATE_REFUSED));
    cluster.spec["jobs"] = json!({});
    cluster.broken.clear();
    assert_eq!(cluster.settle().state, State::Serving);
}

/// The service that was down is back before the Job that asked meanwhile has ended.
#[test]
fn a_job_that_asked_while_a_service_was_down_decides_nothing() {
    let mut cluster = verified();
    cluster.edit("/ocr/image", json!("ocr:2"));
    while cluster.plan().0.smoke_test.is_none_or(|step| !step.exists) {
        cluster.step();
    }
    let down = Excuse::of(Component::Redis, Waiting::new(reason::NOT_HEALTHY, "redis is down"));
    let seen = |cluster: &mut Cluster, excuse| {
        cluster.observed.releases.excuse = excuse;
        let release = cluster.plan().0;
        cluster.observed.releases.revisions.clone_from(&release.revisions);
        release.smoke_test.unwrap().name
    };
    let first = seen(&mut cluster, Some(down));
    seen(&mut cluster, None);
    for job in &mut cluster.observed.jobs {
        job.phase = JobPhase::Failed("the answer is 503".to_owned());
    }
    let release = cluster.plan().0;
    assert_eq!((release.state, release.smoke_test.unwrap().name != first), (State::Verifying, true));
    assert_eq!(cluster.settle().state, State::Serving);
}
