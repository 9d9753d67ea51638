//! What the status tells of the release that serves: its digests, and since when it serves without a restart.

use rorun_operator::{
    names::Component,
    plan::{Release, release::State},
    stack::{Content, Progress, RecoveryPoint, Revision, Tested},
};
use serde_json::{Value, json};

use super::{
    cluster::{Cluster, at, condition, line},
    support::stack,
};

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OTHER: &str = "sha256:fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

/// A stack that serves, and whose release began to at a moment.
fn serving(served_at: i64) -> Cluster {
    let mut cluster = Cluster::empty(stack("shop"));
    cluster.live = super::support::all_ready(&cluster.stack);
    cluster.release = release(&cluster, served_at);
    cluster
}

fn release(cluster: &Cluster, served_at: i64) -> Release {
    let progress = Progress {
        served_at: Some(served_at),
        migrated: Some("m".to_owned()),
        migration_started_at: Some(served_at - 30),
        migrated_at: Some(served_at - 18),
        digests: [("api".to_owned(), DIGEST.to_owned())].into(),
        ..Progress::default()
    };
    let content = Content::of(&cluster.cr.spec);
    let target = Revision { name: format!("shop-release-{served_at}"), number: served_at, content, progress };
    Release {
        state: State::Serving,
        last_good: Some(target.clone()),
        revisions: vec![target.clone()],
        target,
        ..Release::default()
    }
}

/// A ready pod of the API, whose container was started again so often, and runs since a moment; and a sidecar that was as well.
fn pod(cluster: &mut Cluster, name: &str, digest: &str, (restarts, since): (i64, i64)) {
    let image = cluster.stack.api.image.clone();
    let status = |name: &str, image: &str, restarts: i64, since: i64| {
        json!({"name": name, "imageID": format!("{image}@{digest}"), "restartCount": restarts,
            "state": {"running": {"startedAt": at(since)}}})
    };
    let repository = image.rsplit_once(':').map_or(&*image, |(repository, _)| repository);
    let body = json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "api", "image": image}, {"name": "proxy", "image": "proxy:1"}]},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [status("api", repository, restarts, since), status("proxy", "proxy", 9, 9000)],
        },
    });
    cluster.put(("", "Pod"), Component::Api, body);
}

fn since(cluster: &mut Cluster, now: i64) -> String {
    cluster.reconcile(now).release.unwrap().proven.unwrap().since.0.to_string()
}

fn moment(second: i64) -> String {
    at(second).as_str().unwrap().to_owned()
}

#[test]
fn a_release_is_proven_by_its_images_and_the_moment_since_which_it_serves() {
    let mut cluster = serving(100);
    let told: Value = serde_json::to_value(cluster.reconcile(1000).release).unwrap();
    insta::assert_snapshot!(told["proven"].to_string().replace(DIGEST, "DIGEST"), @r#"{"images":{"api":"ghcr.io/rorun/rorun-api:1.8.0@DIGEST"},"migrationSeconds":12,"revision":"shop-release-100","since":"1970-01-01T00:01:40Z"}"#);
    insta::assert_snapshot!(told["current"].to_string().replace(DIGEST, "DIGEST"), @r#"{"api":"ghcr.io/rorun/rorun-api:1.8.0","digests":{"api":"DIGEST"},"hash":"c0bf7c9075","migrated":true,"migratedAt":"1970-01-01T00:01:22Z","migrationStartedAt":"1970-01-01T00:01:10Z","revision":"shop-release-100","servedAt":"1970-01-01T00:01:40Z"}"#);
}

#[test]
fn only_restarts_and_another_release_move_the_moment_since_which_it_serves() {
    let mut cluster = serving(100);
    pod(&mut cluster, "shop-api-0", DIGEST, (0, 90));
    assert_eq!(since(&mut cluster, 1000), moment(100));
    let before = cluster.old.clone();
    assert_eq!(Some(cluster.reconcile(5000)), before, "time alone changes nothing");
    pod(&mut cluster, "shop-api-1", DIGEST, (0, 400));
    assert_eq!(since(&mut cluster, 5000), moment(100), "a pod that is added was started once");
    pod(&mut cluster, "shop-api-0", DIGEST, (1, 600));
    assert_eq!(since(&mut cluster, 5000), moment(600));
    cluster.live.take("Pod", "shop-api-0");
    assert_eq!(since(&mut cluster, 5000), moment(600), "what was told stays when its pod is gone");
    cluster.release.last_good.as_mut().unwrap().progress.digests_changed_at = Some(650);
    assert_eq!(since(&mut cluster, 5000), moment(650), "its tag was moved");
    cluster.release = release(&cluster, 700);
    assert_eq!(since(&mut cluster, 5000), moment(700));
}

#[test]
fn two_digests_under_one_tag_are_told() {
    let mut cluster = serving(100);
    pod(&mut cluster, "shop-api-0", DIGEST, (0, 90));
    pod(&mut cluster, "shop-api-1", DIGEST, (0, 90));
    assert_eq!(condition(&cluster.reconcile(1000), "ApiReady").unwrap().message, "");
    pod(&mut cluster, "shop-api-1", OTHER, (0, 90));
    let status = cluster.reconcile(1000);
    assert_eq!(line(&status, "ApiReady"), "True Ready");
    insta::assert_snapshot!(condition(&status, "ApiReady").unwrap().message, @"pods run different images under the name ghcr.io/rorun/rorun-api:1.8.0: sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef and sha256:fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210; give each build a tag of its own, or name a digest");
}

/// By its candidates, by what asks its pods after the rollout, or by both.
#[test]
fn the_moment_of_the_last_smoke_tests_is_told_and_that_of_the_recovery_point() {
    let tested = |at| Some(Tested { at, ..Tested::default() });
    for (tested, verified_at, told) in [
        (None, None, None),
        (tested(40), None, Some(40)),
        (None, Some(90), Some(90)),
        (tested(40), Some(90), Some(90)),
        (Some(Tested { failed: Some("503".to_owned()), ..tested(40).unwrap() }), None, None),
    ] {
        let mut cluster = serving(100);
        let good = cluster.release.last_good.as_mut().unwrap();
        (good.progress.tested, good.progress.verified_at) = (tested, verified_at);
        good.progress.recovery_point = Some(RecoveryPoint { at: 30, ..RecoveryPoint::default() });
        let release: Value = serde_json::to_value(cluster.reconcile(1000).release).unwrap();
        let moment = told.map_or(Value::Null, at);
        assert_eq!((&release["proven"]["testedAt"], &release["current"]["testedAt"]), (&moment, &moment));
        assert_eq!(release["current"]["recoveryPoint"], json!({"at": at(30)}));
        // An operator of before may have recorded no moment.
        cluster.release.last_good.as_mut().unwrap().progress.recovery_point = Some(RecoveryPoint::default());
        let release: Value = serde_json::to_value(cluster.reconcile(1000).release).unwrap();
        assert_eq!(release["current"]["recoveryPoint"], json!({}));
    }
}
