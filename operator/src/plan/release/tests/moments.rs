//! What is kept with a revision: digests and moments.

use super::*;

#[test]
fn the_digests_and_the_moments_of_a_release_are_kept_with_it() {
    let mut cluster = serving();
    cluster.spec["release"] = json!({"approval": "Required"});
    cluster.edit("/api/image", json!("api:2"));
    let hash = cluster.settle().target.content.release();
    cluster.now += 60;
    cluster.annotate(annotation::APPROVE, &hash);
    let release = cluster.settle();
    let Progress { approved_at, migration_started_at, migrated_at, ref digests, .. } = release.target.progress;
    let now = Some(cluster.now);
    assert_eq!((approved_at, migration_started_at, migrated_at), (now, now, now.map(|now| now + 12)));
    assert_eq!((&*digests["api"], &*digests["ocr"]), ("digest of api:2", "digest of ocr:1"));
    assert_eq!(release.last_good.as_ref(), Some(&release.target));
    // The next release has no migration of its own, and leaves those of before as they are.
    cluster.now += 60;
    cluster.edit("/ocr/image", json!("ocr:2"));
    cluster.spec["release"] = json!({});
    let next = cluster.settle();
    let progress = &next.target.progress;
    assert_eq!((progress.migrated_at, progress.migrated.is_some()), (None, true));
    assert_eq!(next.revisions.iter().find(|before| before.name == release.target.name), Some(&release.target));
}

/// What the pods of the API run, after a digest of theirs was known, and what is told of them then.
#[rstest]
#[case::another(&[Some("b")], "b")]
#[case::no_pods(&[], "digest of api:1")]
#[case::from_no_registry(&[None], "Local")]
#[case::two(&[Some("a"), Some("b")], "Several")]
#[case::one_from_no_registry(&[None, Some("b")], "Several")]
fn a_digest_is_told_if_all_pods_run_the_same(#[case] pods: &[Option<&str>], #[case] told: &str) {
    let mut cluster = serving();
    cluster.settle();
    let there = cluster.observed.releases.workloads.get_mut(&Component::Api).unwrap();
    there.digests = pods.iter().map(|digest| digest.map(str::to_owned)).collect();
    cluster.now += 60;
    let progress = cluster.plan().0.target.progress;
    assert_eq!(progress.digests["api"], told);
    let moved = told != "digest of api:1";
    assert_eq!(progress.digests_changed_at, moved.then_some(cluster.now), "another image is proven anew");
    // Pods that are being replaced may run anything.
    cluster.observed.releases.workloads.get_mut(&Component::Api).unwrap().rolled_out = false;
    assert_eq!(cluster.plan().0.target.progress.digests["api"], "digest of api:1");
}

/// Recovery points are told of all that ran: what is told grows with what is new alone, whichever pods are ready.
#[test]
fn pods_that_come_and_go_change_nothing_of_what_ran() {
    let mut cluster = serving();
    cluster.settle();
    for revision in &mut cluster.observed.releases.revisions {
        revision.progress.digests.clear();
    }
    let (a, b) = (format!("sha256:{}", "a".repeat(64)), format!("sha256:{}", "b".repeat(64)));
    let pods = |cluster: &mut Cluster, digests: &[&str]| {
        let there = cluster.observed.releases.workloads.get_mut(&Component::Api).unwrap();
        there.digests = digests.iter().map(|digest| Some((*digest).to_owned())).collect();
        let release = cluster.plan().0;
        cluster.observed.releases.revisions.clone_from(&release.revisions);
        release.last_good.unwrap().images_that_ran(Component::Api, "api:1")
    };
    let (of_a, of_b) = (format!("api:1@{a}"), format!("api:1@{b}"));
    assert_eq!(pods(&mut cluster, &[]), ["api:1"], "nothing is known yet");
    assert_eq!(pods(&mut cluster, &[&a]), [&*of_a]);
    assert_eq!(pods(&mut cluster, &[]), [&*of_a], "no pod is ready");
    assert_eq!(pods(&mut cluster, &[&b, &a]), [&*of_a, &*of_b]);
    for there in [&[&*a][..], &[&b], &[], &[&a, &b], &[&b]] {
        assert_eq!(pods(&mut cluster, there), [&*of_a, &*of_b], "{there:?}");
    }
}

/// A tag that was moved is pinned again: by what all pods run while the point is made.
#[test]
fn what_runs_now_is_told_apart_from_what_ran() {
    let mut cluster = serving();
    cluster.settle();
    for revision in &mut cluster.observed.releases.revisions {
        revision.progress.digests.clear();
    }
    let (a, b) = (format!("sha256:{}", "a".repeat(64)), format!("sha256:{}", "b".repeat(64)));
    let of_b = format!("api:1@{b}");
    let one = Some(of_b.as_str());
    for (there, runs) in [(&[&*a][..], None), (&[&a, &b], None), (&[&b], one), (&[], one), (&[&b, &a], None)] {
        let found = cluster.observed.releases.workloads.get_mut(&Component::Api).unwrap();
        found.digests = there.iter().map(|digest| Some((*digest).to_owned())).collect();
        let release = cluster.plan().0;
        cluster.observed.releases.revisions.clone_from(&release.revisions);
        let told = release.last_good.unwrap().image_that_runs(Component::Api, "api:1");
        assert_eq!(told.as_deref(), runs, "{there:?}");
    }
}

#[test]
fn a_digest_in_the_name_of_an_image_needs_no_pod() {
    let mut cluster = Cluster::new();
    cluster.edit("/api/image", json!("api:1@sha256:0"));
    assert_eq!(cluster.settle().target.progress.digests["api"], "sha256:0");
}

#[test]
fn a_revision_that_an_earlier_operator_recorded_is_read() {
    let text = r#"{"createdAt": 1, "servedAt": 2, "migrated": "m"}"#;
    let progress: Progress = serde_json::from_str(text).unwrap();
    assert_eq!((progress.served_at, progress.digests.len(), progress.migrated_at), (Some(2), 0, None));
    let mut again = progress.clone();
    proof::migrated(&mut again, &[], ("m", None), &Observed::default());
    assert_eq!(again, progress, "what is migrated stays as it was recorded");
}
