//! Restores to a moment: another Cluster is recovered, and a `ConfigMap` says which is live.

use rstest::rstest;

use super::*;
use crate::stack::{ExistingCluster, LiveCluster, ObservedCluster, clusters};

const MOMENT: &str = "2026-11-29T14:02:59.5Z";

impl Cluster {
    /// A database whose log is archived since noon, and a restore to a moment.
    fn archiving() -> Self {
        let mut cluster = Self { archives: true, ..Self::new() };
        let moment = MOMENT.parse().unwrap();
        cluster.observed.restores[0].point = Ok(RestorePoint::of_moment(moment));
        let existing = ExistingCluster {
            name: "shop-database".to_owned(),
            uid: "live".to_owned(),
            archiving: Some(true),
            size_bytes: 7,
            ..ExistingCluster::default()
        };
        cluster.observed.clusters.existing.push(existing);
        let live = ObservedCluster { uid: "live".to_owned(), can_archive: true, serves: true, ..Default::default() };
        cluster.observed.cluster = Some(live);
        cluster.now = 1_796_000_000;
        let server = cluster.server();
        cluster.observed.clusters.windows = Some([(server, "2026-11-29T12:00:00Z".parse().unwrap())].into());
        cluster
    }

    /// The folder of the archive of the live Cluster.
    fn server(&self) -> String {
        let asked = self.stack().backup.and_then(|backup| backup.point_in_time);
        asked.and_then(|asked| asked.archive).expect("an archive").server_name
    }

    fn copy(&mut self) -> Option<&mut ExistingCluster> {
        let name = clusters::recovered_name("shop", UID);
        self.observed.clusters.existing.iter_mut().find(|existing| existing.name == name)
    }

    fn live(&self) -> String {
        self.observed.clusters.live("shop").expect("a live one")
    }

    /// What the API server and CloudNativePG do after a reconcile.
    pub(super) fn recover(&mut self, plan: &Plan) {
        if let Some(existing) = self.copy() {
            (existing.waiting, existing.archiving) = (None, Some(true));
            let name = existing.name.clone();
            let member = |key: &str, value: &str| (key.to_owned(), value.as_bytes().to_vec());
            let login = [member("username", "rorun"), member("password", "secret")];
            self.observed.secrets.insert(format!("{name}-app"), Some(login.into()));
            let pem = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----";
            self.observed.secrets.insert(format!("{name}-ca"), Some([member("ca.crt", pem)].into()));
        }
        let Some(beside) = plan.restores.current.as_ref().map(|current| current.beside.clone()) else { return };
        if let Some((name, recovered)) = beside.cluster.filter(|_| self.copy().is_none()) {
            assert!(self.observed.clusters.named.is_some(), "the live one is named before there is another");
            let waiting = Some(Waiting::new(reason::PROGRESSING, "Setting up primary"));
            let recovered = Some(recovered);
            let uid = "copy".to_owned();
            self.observed.clusters.existing.push(ExistingCluster {
                name,
                uid,
                waiting,
                recovered,
                ..Default::default()
            });
            self.observed.restores.iter_mut().for_each(|request| request.copy_uid = Some("copy".to_owned()));
        }
        if let Some(live) = beside.live {
            let workloads = &self.observed.releases.workloads;
            let idle = workloads.values().all(|existing| !existing.has_pods);
            assert!(idle || live.cluster == self.live(), "it is switched under the eyes of pods");
            if live.cluster != self.live() {
                self.observed.cluster = Some(ObservedCluster {
                    uid: "copy".to_owned(),
                    can_archive: true,
                    serves: true,
                    ..ObservedCluster::default()
                });
            }
            self.observed.clusters.named = Some(live);
        }
    }
}

#[test]
fn every_step_in_its_order_and_the_live_one_is_named_last() {
    use State::{Checking, Complete, Copying, Migrating, Saving, Starting, Stopping, Switching, Testing, Verifying};
    let mut cluster = Cluster::archiving();
    let server = cluster.server();
    cluster.run();
    let expected = [Checking, Copying, Migrating, Verifying, Saving, Stopping, Switching, Starting, Testing, Complete];
    assert_eq!(cluster.states, expected);
    let copy = clusters::recovered_name("shop", UID);
    assert_eq!(cluster.live(), copy);
    let named = cluster.observed.clusters.named.clone().unwrap();
    assert_eq!((named.restore.as_str(), named.restore_uid.as_str()), ("back", UID));
    assert_eq!((named.past[0].cluster.as_str(), &named.past[0].server), ("shop-database", &server));
    assert_ne!(cluster.server(), server, "an archive of its own");
    let recovered = cluster.copy().unwrap().recovered.clone().unwrap();
    assert_eq!((recovered.server, recovered.target.as_str()), (server, MOMENT));
    let plan = cluster.plan();
    let run = &plan.restores.runs[0];
    assert_eq!((run.kept.as_deref(), run.rows, run.point.as_deref()), (Some("shop-database"), Some(2), Some(MOMENT)));
    let told: Vec<_> = run.done.iter().map(|(condition, _)| *condition).collect();
    for condition in ["Checked", "Copied", "Migrated", "Verified", "Saved", "Stopped", "Switched", "Started", "Tested"]
    {
        assert!(told.contains(&condition), "{told:?} lacks {condition}");
    }
    assert!(run.end.contains("cluster/shop-database holds what was live before"), "{}", run.end);
    let kept = &plan.restores.kept;
    assert_eq!(kept.iter().map(|of| (of.name.as_str(), of.size_bytes)).collect::<Vec<_>>(), [("shop-database", 7)]);
    assert_eq!((kept[0].restore.as_str(), kept[0].restore_uid.as_str()), ("back", UID));
    assert!(!plan.restores.works && !plan.restores.stops() && !plan.restores.holds());
    assert!(cluster.stack().release.data.ends_with(UID), "{}", cluster.stack().release.data);
}

/// A process that ends after any reconcile leaves what the next one goes on with: the plan is of the cluster alone. So are two of the
/// same moment.
#[test]
fn what_is_planned_is_of_the_cluster_alone() {
    let mut cluster = Cluster::archiving();
    for _ in 0..100 {
        let mut again = cluster.plan();
        let first = cluster.plan();
        assert_eq!(first, again);
        // Later nothing but the moment of the switch is another.
        cluster.now += 1;
        again = cluster.plan();
        let live = |plan: &Plan| plan.restores.current.as_ref().map(|current| current.beside.cluster.clone());
        assert_eq!(live(&first), live(&again));
        if !cluster.step() {
            return;
        }
    }
    panic!("it never settles: {:?}", cluster.states);
}

#[test]
fn no_other_restore_switches_back() {
    let mut cluster = Cluster::archiving();
    cluster.run();
    let first = cluster.live();
    // Its smoke test is asked once more, as by a retry, after another restore has switched.
    let second = LiveCluster { cluster: first.clone(), ..LiveCluster::default() };
    let second = second.switched("shop-database", ("second", "2"), ("x", 1));
    cluster.observed.clusters.named = Some(second);
    let states = cluster.states.len();
    cluster.run();
    assert_eq!(cluster.live(), "shop-database", "{:?}", &cluster.states[states..]);
    assert!(!cluster.states[states..].contains(&State::Switching), "{:?}", &cluster.states[states..]);
}

#[test]
fn a_manifest_never_replays() {
    let mut cluster = Cluster::archiving();
    cluster.run();
    cluster.observed.jobs.clear();
    (cluster.observed.restores[0].uid, cluster.observed.restores[0].copy_uid) = ("another".to_owned(), None);
    let live = cluster.live();
    cluster.run();
    let run = &cluster.plan().restores.runs[0];
    assert_eq!(run.waiting.as_ref().map(|waiting| waiting.reason), Some(reason::ALREADY_RESTORED));
    assert!(cluster.observed.jobs.is_empty() && cluster.live() == live);
    // Also before the record of it is written.
    cluster.observed.handled = None;
    cluster.step();
    assert!(cluster.plan().handled.is_some_and(|handled| handled.commands["restore/back"].value == UID));
}

#[rstest]
#[case::before_the_archive(
    "2026-11-29T11:59:59Z",
    State::Refused,
    reason::MOMENT_OUT_OF_REACH,
    "from 2026-11-29T12:00:00Z"
)]
#[case::within("2026-11-29T12:00:00Z", State::Complete, "", "")]
fn a_moment_out_of_reach_is_refused(
    #[case] moment: &str,
    #[case] state: State,
    #[case] why: &str,
    #[case] words: &str,
) {
    let mut cluster = Cluster::archiving();
    cluster.observed.restores[0].point = Ok(RestorePoint::of_moment(moment.parse().unwrap()));
    cluster.run();
    assert_eq!(cluster.state(0), state);
    let waiting = cluster.plan().restores.runs[0].waiting.clone();
    assert_eq!(waiting.as_ref().map_or("", |waiting| waiting.reason), why);
    assert!(waiting.is_none_or(|waiting| waiting.message.contains(words)));
    assert_eq!(cluster.observed.jobs.is_empty(), state == State::Refused);
}

#[test]
fn what_is_not_known_yet_is_waited_for() {
    let mut cluster = Cluster::archiving();
    let windows = cluster.observed.clusters.windows.take();
    cluster.run();
    let waiting = cluster.plan().restores.runs[0].waiting.clone().unwrap();
    assert_eq!((cluster.state(0), waiting.reason), (State::Waiting, reason::DEPENDENCY_NOT_READY));
    cluster.observed.clusters.windows = windows;
    cluster.run();
    assert_eq!(cluster.state(0), State::Complete);
}

#[test]
fn a_recovery_that_fails_is_told_and_leaves_the_live_one() {
    let mut cluster = Cluster::archiving();
    while cluster.copy().is_none() {
        assert!(cluster.step());
    }
    let failing = "1 of the pods of job/shop-db-1-full-recovery failed".to_owned();
    cluster.copy().unwrap().failing = Some(failing.clone());
    let run = &cluster.plan().restores.runs[0];
    let waiting = run.waiting.clone().unwrap();
    assert_eq!((run.state, waiting.reason), (State::Copying, reason::RESTORE_FAILED));
    assert!(waiting.message.contains(&failing), "{waiting:?}");
    assert!(run.turns_at.is_some_and(|at| at > cluster.now && at <= cluster.now + 15), "its pods are asked again");
    let stalled =
        Waiting::new(reason::DATABASE_STALLED, "cluster/shop-db-1: CloudNativePG says: Cluster is unrecoverable");
    cluster.copy().unwrap().waiting = Some(stalled);
    // A phase that passes, of a recovery of which nothing has failed, ends nothing.
    cluster.copy().unwrap().failing = None;
    let run = &cluster.plan().restores.runs[0];
    let waiting = run.waiting.clone().unwrap();
    assert_eq!((run.state, waiting.reason), (State::Copying, reason::DATABASE_STALLED));
    assert!(waiting.message.contains("nothing of its recovery has failed") && run.turns_at.is_some(), "{waiting:?}");
    cluster.copy().unwrap().failing = Some(failing.clone());
    let plan = cluster.plan();
    let waiting = plan.restores.runs[0].waiting.clone().unwrap();
    assert_eq!((plan.restores.runs[0].state, waiting.reason), (State::Refused, reason::RESTORE_FAILED));
    assert!(waiting.message.contains("unrecoverable") && waiting.message.contains(&failing), "{waiting:?}");
    assert!(!plan.restores.stops() && plan.restores.current.is_none());
    assert_eq!(cluster.live(), "shop-database");
    // Over, it may be discarded.
    cluster.copy().unwrap().uid = "7".to_owned();
    let name = cluster.copy().unwrap().name.clone();
    let told = cluster.plan().restores.runs[0].waiting.clone().unwrap().message;
    assert!(told.ends_with(&format!("the annotation rorun.app/discard: {name}/7 deletes the Cluster")), "{told}");
    cluster.observed.annotations.insert(annotation::DISCARD.to_owned(), format!("{name}/7"));
    assert_eq!(cluster.plan().restores.discard_cluster, Some(name));
}

/// Ready does not mean archived.
#[test]
fn a_cluster_that_does_not_archive_never_becomes_live() {
    let mut cluster = Cluster::archiving();
    while cluster.copy().is_none() {
        assert!(cluster.step());
    }
    let before = cluster.observed.clone();
    cluster.step();
    for archiving in [None, Some(false)] {
        let copy = cluster.copy().unwrap();
        (copy.waiting, copy.archiving) = (None, archiving);
        assert_eq!(cluster.state(0), State::Copying);
    }
    assert_eq!(before.clusters.named, cluster.observed.clusters.named);
}

#[test]
fn a_cluster_that_was_made_anew_is_migrated_and_read_anew() {
    let mut cluster = Cluster::archiving();
    while cluster.states.last() != Some(&State::Saving) {
        assert!(cluster.step());
    }
    let name = clusters::recovered_name("shop", UID);
    cluster.observed.clusters.existing.retain(|existing| existing.name != name);
    cluster.observed.restores[0].copy_uid = None;
    assert_eq!(cluster.state(0), State::Copying);
    let origin = cluster.plan().restores.current.unwrap().beside.cluster.unwrap().1;
    let another = ExistingCluster {
        name,
        uid: "anew".to_owned(),
        archiving: Some(true),
        recovered: Some(origin),
        ..ExistingCluster::default()
    };
    cluster.observed.clusters.existing.push(another);
    cluster.observed.restores[0].copy_uid = Some("anew".to_owned());
    assert_eq!(cluster.state(0), State::Migrating);
}

#[test]
fn a_foreign_cluster_of_the_name_is_left_alone() {
    let mut cluster = Cluster::archiving();
    let name = clusters::recovered_name("shop", UID);
    cluster.observed.clusters.existing.push(ExistingCluster {
        name,
        uid: "f".to_owned(),
        ..ExistingCluster::default()
    });
    cluster.observed.clusters.named = Some(LiveCluster { cluster: "shop-database".to_owned(), ..Default::default() });
    cluster.run();
    let run = &cluster.plan().restores.runs[0];
    assert_eq!(run.waiting.as_ref().map(|waiting| waiting.reason), Some(reason::NAME_TAKEN));
    assert_eq!(cluster.live(), "shop-database");
}

#[test]
fn only_a_kept_cluster_is_discarded_and_only_while_the_live_one_is_known() {
    let mut cluster = Cluster::archiving();
    cluster.run();
    let discards = |cluster: &mut Cluster, name: &str| {
        cluster.observed.annotations.insert(annotation::DISCARD.to_owned(), name.to_owned());
        cluster.plan().restores.discard_cluster
    };
    let live = cluster.live();
    assert_eq!(discards(&mut cluster, "shop-database"), None, "a restore that is not over uses it");
    let plan = cluster.plan();
    assert!(plan.restores.discard_problem.is_some_and(|problem| problem.contains("rorunrestore/back")));
    cluster.observed.restores.clear();
    for existing in &mut cluster.observed.clusters.existing {
        existing.uid = format!("uid-of-{}", existing.name);
    }
    let of_live = format!("{live}/uid-of-{live}");
    for name in
        [live.as_str(), &of_live, "", "/", "shop-db-000000", "shop-db-000000/1", "other-database", "other-database/1"]
    {
        assert_eq!(discards(&mut cluster, name), None, "{name}");
    }
    // One that is left over of an earlier Cluster of the name, and one that says less than which.
    for (name, meant) in
        [("shop-database", "it without its uid"), ("shop-database/", "another"), ("shop-database/1", "another")]
    {
        assert_eq!(discards(&mut cluster, name), None, "{name}");
        let problem = cluster.plan().restores.discard_problem.unwrap();
        let way_out = problem.ends_with("; shop-database/uid-of-shop-database deletes it");
        assert!(problem.contains(meant) && way_out, "{problem}");
    }
    let good = "shop-database/uid-of-shop-database";
    assert_eq!(discards(&mut cluster, good).as_deref(), Some("shop-database"));
    cluster.observed.clusters.existing[0].deleting = true;
    assert_eq!(discards(&mut cluster, good), None, "once");
    cluster.observed.clusters.existing[0].deleting = false;
    cluster.observed.clusters.existing[0].uid = "2".to_owned();
    assert_eq!(discards(&mut cluster, good), None, "one that was made since");
    cluster.observed.clusters.existing[0].uid = "uid-of-shop-database".to_owned();
    cluster.observed.clusters.named = None;
    for name in [live.as_str(), good] {
        assert_eq!(discards(&mut cluster, name), None, "nobody knows whether {name} is live");
    }
}
