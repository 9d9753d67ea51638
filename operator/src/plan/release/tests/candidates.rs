//! Candidates and their smoke tests.

use super::*;

/// A stack that serves, and whose releases are tested.
fn tested() -> Cluster {
    let mut cluster = serving();
    for component in ["api", "ocr"] {
        cluster.spec[component]["candidate"] = json!(true);
    }
    assert_eq!(cluster.settle().state, State::Serving);
    assert!(cluster.tested.is_empty(), "an edit without an image has no candidate");
    cluster
}

#[test]
fn a_new_image_is_tested_after_its_migration_and_before_its_rollout() {
    let mut cluster = tested();
    cluster.edit("/api/image", json!("api:2"));
    assert_eq!(cluster.states(), [State::Migrating, State::Testing, State::RollingOut, State::Serving]);
    assert_eq!((cluster.api(), &*cluster.tested), ("api:2", &["api:2".to_owned()][..]), "the other image serves");
    assert!(cluster.observed.releases.candidates.is_empty(), "the candidate is gone");
    // Going back needs no test.
    cluster.edit("/api/image", json!("api:1"));
    assert_eq!((cluster.settle().state, cluster.tested.len()), (State::Serving, 1));
}

#[test]
fn an_image_that_fails_its_tests_never_serves_and_is_tested_again_by_a_retry() {
    let mut cluster = tested();
    cluster.failing_tests = vec!["ocr:2"];
    cluster.edit("/ocr/image", json!("ocr:2"));
    let release = cluster.settle();
    assert_eq!((release.state, release.smoke_test.is_some()), (State::SmokeTestFailed, true));
    assert!(cluster.served.is_empty() && release.candidates.is_empty());
    let told = release.waiting.unwrap().message;
    assert!(told.contains("the answer is 503") && told.contains("rorun.app/retry"), "{told}");
    cluster.failing_tests.clear();
    assert_eq!(cluster.settle().state, State::SmokeTestFailed, "nothing tests it again by itself");
    cluster.annotate(annotation::RETRY, "1");
    assert_eq!((cluster.settle().state, &*cluster.served), (State::Serving, &["ocr:2".to_owned()][..]));
}

#[test]
fn a_candidate_that_never_becomes_ready_fails_within_the_deadline_unless_something_else_is_at_fault() {
    let mut cluster = tested();
    cluster.broken = vec!["ocr:2"];
    cluster.edit("/ocr/image", json!("ocr:2"));
    let release = cluster.settle();
    // That of the OCR service, which is on the way, by its default.
    assert_eq!((release.state, release.turns_at), (State::Testing, Some(cluster.now + 600)));
    let full = Waiting::new(reason::UNSCHEDULABLE, "no room");
    cluster.observed.releases.excuse = Some(Excuse::of(Component::Redis, full));
    cluster.now += 5000;
    assert_eq!(cluster.settle().state, State::Testing);
    cluster.observed.releases.excuse = None;
    assert_eq!(cluster.settle().turns_at, Some(cluster.now + 600));
    cluster.now += 600;
    let release = cluster.settle();
    assert_eq!(release.state, State::SmokeTestFailed);
    assert!(release.waiting.unwrap().message.contains("did not become ready within 600 s"));
    // A mended variable is another try.
    cluster.broken.clear();
    cluster.spec["ocr"]["env"] = json!([{"name": "A", "value": "1"}]);
    assert_eq!(cluster.settle().state, State::Serving);
}

#[test]
fn a_rollout_after_a_test_has_its_whole_time_and_is_not_tested_again() {
    let mut cluster = tested();
    cluster.edit("/api/image", json!("api:2"));
    while cluster.plan().0.state != State::RollingOut {
        cluster.now += 10;
        cluster.step();
    }
    cluster.broken = vec!["api:2"];
    let release = cluster.settle();
    assert_eq!((release.state, release.turns_at), (State::RollingOut, Some(cluster.now + DEADLINE)));
    cluster.now += DEADLINE;
    assert_eq!((cluster.settle().state, cluster.api()), (State::RolledBack, "api:1"));
    cluster.broken.clear();
    cluster.annotate(annotation::RETRY, "1");
    assert_eq!((cluster.settle().state, cluster.tested.len()), (State::Serving, 1));
}

/// At every step of a release that is tested.
#[test]
fn a_spec_that_goes_on_while_a_candidate_is_tested_ends_well() {
    for steps in 0..12 {
        for next in ["api:1", "api:3"] {
            let mut cluster = tested();
            cluster.edit("/api/image", json!("api:2"));
            for _ in 0..steps {
                cluster.step();
            }
            cluster.edit("/api/image", json!(next));
            let release = cluster.settle();
            assert_eq!((release.state, cluster.api()), (State::Serving, next), "after {steps} steps");
            assert!(cluster.observed.releases.candidates.is_empty() && release.smoke_test.is_none());
        }
    }
}

#[test]
fn a_wait_for_approval_takes_no_time_of_the_candidates() {
    let mut cluster = tested();
    cluster.broken = vec!["ocr:2"];
    cluster.edit("/ocr/image", json!("ocr:2"));
    assert_eq!(cluster.settle().state, State::Testing);
    cluster.spec["release"] = json!({"approval": "Required"});
    let release = cluster.settle();
    assert_eq!((release.state, release.candidates.len()), (State::AwaitingApproval, 0));
    cluster.now += 7200;
    cluster.annotate(annotation::APPROVE, &release.target.content.release());
    let release = cluster.settle();
    assert_eq!((release.state, release.turns_at), (State::Testing, Some(cluster.now + 600)));
}

#[test]
fn an_approved_release_without_a_migration_is_tested_or_rolled_out_at_once() {
    for candidate in [true, false] {
        let mut cluster = serving();
        cluster.spec["release"] = json!({"approval": "Required"});
        cluster.spec["ocr"]["candidate"] = json!(candidate);
        cluster.edit("/ocr/image", json!("ocr:2"));
        let release = cluster.settle();
        assert_eq!(release.state, State::AwaitingApproval);
        cluster.annotate(annotation::APPROVE, &release.target.content.release());
        let states = cluster.states();
        let first = if candidate { State::Testing } else { State::RollingOut };
        assert_eq!((states[0], states.last()), (first, Some(&State::Serving)), "{states:?}");
    }
}
