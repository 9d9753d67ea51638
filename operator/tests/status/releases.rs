//! Every step of a release, and what a tool that waits for resources makes of it.

use jiff::Timestamp;
use rorun_operator::{
    api::v1alpha1::{RorunStack, RorunStackStatus},
    contract::{DumpOutcome, LockOutcome},
    desired::everything,
    names::{
        Component, Waiting,
        reason::{self, Reason},
    },
    plan::{
        Plan, Step, picked, plan,
        release::{State, TABLE},
    },
    stack::{
        Cause, Content, Excuse, JobPhase, Observed, ObservedJob, ObservedWorkload, RestorePoint, RestoreRequest, Stack,
    },
    status,
};
use rstest::rstest;
use serde_json::json;

use super::{
    argocd,
    cluster::{Cluster, condition, line, rolled_out},
    states::{
        Kstatus::{self, Current, Failed, InProgress},
        kstatus,
    },
    support::{Fixture, all_ready, all_there, stack, valid_with},
};

const NOW: i64 = 1_800_000_000;
const NEXT: &str = "ghcr.io/rorun/rorun-api:1.9.0";

/// What kstatus and Argo CD are to read. A step that the table does not have yet is not told here.
fn expected(state: State) -> (Kstatus, &'static str) {
    match state {
        State::Serving => (Current, "Healthy"),
        // Nothing is wrong, and nothing goes on before a user wants it.
        State::AwaitingApproval | State::Hibernating => (InProgress, "Suspended"),
        State::RolledBack | State::MigrationFailed | State::RecoveryPointFailed | State::SmokeTestFailed => {
            (Failed, "Degraded")
        }
        State::Restoring
        | State::BackingUp
        | State::Migrating
        | State::MigrationLocked
        | State::Testing
        | State::RollingOut
        | State::Verifying => (InProgress, "Progressing"),
    }
}

/// A spec whose release comes to a step.
fn spec(state: State) -> Fixture {
    let external = || stack("shop").with_external_services();
    let asked = json!({"smokeTests": [{"component": "api", "path": "/version"}]});
    match state {
        State::AwaitingApproval => external().set("release.approval", json!("Required")),
        State::Testing | State::SmokeTestFailed => external().set("api.candidate", json!(true)),
        State::Verifying | State::RolledBack => external().set("release", asked),
        State::BackingUp | State::RecoveryPointFailed => migrating(stack("shop").production()),
        State::Migrating | State::MigrationLocked | State::MigrationFailed => migrating(external()),
        State::Restoring => external().set("backup", json!({})),
        State::Serving | State::Hibernating | State::RollingOut => external(),
    }
}

fn migrating(spec: Fixture) -> Fixture {
    spec.set("api.migrations", json!({"command": ["migrate"]}))
}

fn job(step: &Step, component: Component, phase: JobPhase) -> ObservedJob {
    let (created, name) = (NOW, step.name.clone());
    ObservedJob { name, component, created, said: None, begun: None, phase, ended: None }
}

fn restore() -> RestoreRequest {
    let point = RestorePoint { id: "20261129T101500Z-b9x2m".to_owned(), ..RestorePoint::default() };
    RestoreRequest {
        uid: "8b1c".to_owned(),
        name: "back".to_owned(),
        stack_uid: None,
        fills: false,
        database: true,
        bucket: false,
        into: None,
        retry: String::new(),
        copy_uid: None,
        point: Ok(point),
    }
}

/// A release in a cluster that does what its plan says.
struct Play {
    cr: RorunStack,
    observed: Observed,
}

impl Play {
    fn plan(&self) -> (Plan, Stack) {
        let stack = valid_with(&self.cr, &self.observed);
        (plan(&stack, &self.observed, NOW), stack)
    }

    /// Every image of the spec serves.
    fn serve(&mut self) {
        let mut target = self.plan().0.release.target;
        target.progress.served_at = Some(NOW - 3600);
        self.roll_out();
        self.observed.releases.revisions = vec![target];
    }

    fn rolled_out(&self) -> ObservedWorkload {
        let revision = self.plan().0.release.target.content.workload(Component::Api);
        ObservedWorkload { revision, rolled_out: true, has_pods: true, ..ObservedWorkload::default() }
    }

    fn roll_out(&mut self) {
        let there = self.rolled_out();
        self.observed.releases.workloads.insert(Component::Api, there);
    }

    /// What happens until the release is in a step.
    fn come_to(&mut self, state: State) {
        let failed = |said: &str| JobPhase::Failed(said.to_owned());
        match state {
            State::Hibernating => self.observed.hibernation.cause = Some(Cause::Spec),
            State::Restoring => self.observed.restores.push(restore()),
            State::RecoveryPointFailed => {
                let said = DumpOutcome::Failed { message: "the bucket is gone".to_owned() };
                let said = serde_json::to_string(&said).unwrap();
                let step = self.plan().0.release.recovery_point.unwrap();
                self.observed.jobs.push(job(&step, Component::Backup, failed(&said)));
            }
            State::MigrationLocked | State::MigrationFailed => {
                let step = self.plan().0.release.migration.unwrap();
                let locked = LockOutcome::TimedOut { message: "session 7 holds the lock".to_owned() };
                let locked = serde_json::to_string(&locked).unwrap();
                let begun = Some(state == State::MigrationFailed);
                let said = Some(locked).filter(|_| state == State::MigrationLocked);
                let ended = job(&step, Component::Migration, failed("error: P3018"));
                self.observed.jobs.push(ObservedJob { begun, said, ..ended });
            }
            State::SmokeTestFailed => {
                let candidate = self.rolled_out();
                self.observed.releases.candidates.insert(Component::Api, candidate);
                let step = self.plan().0.release.smoke_test.unwrap();
                self.observed.jobs.push(job(&step, Component::SmokeTest, failed("the answer is 503")));
            }
            State::Verifying => self.roll_out(),
            State::RolledBack => {
                self.roll_out();
                let step = self.plan().0.release.smoke_test.unwrap();
                self.observed.jobs.push(job(&step, Component::SmokeTest, failed("the answer is 503")));
            }
            State::Serving
            | State::AwaitingApproval
            | State::BackingUp
            | State::Migrating
            | State::Testing
            | State::RollingOut => {}
        }
    }
}

/// The cluster while a release is in a step: of the first one, or of one after another that serves. Every pod that the plan leaves to be
/// is ready, so only the release itself says that it does not serve.
fn cluster(state: State, first: bool) -> Cluster {
    let mut cluster = Cluster::ready(spec(state));
    let mut play = Play { cr: cluster.cr.clone(), observed: all_there(&cluster.cr) };
    if !first {
        play.serve();
    }
    if state != State::Serving {
        cluster.edit(spec(state).set("api.image", json!(NEXT)));
        play.cr = cluster.cr.clone();
    }
    play.come_to(state);
    let (planned, stack) = play.plan();
    assert_eq!(planned.release.state, state, "{:?}", planned.release);
    cluster.stack = picked(stack, &planned);
    cluster.live = all_ready(&cluster.stack);
    if first {
        cluster.old = None;
    }
    cluster.release = planned.release;
    cluster
}

/// From the first status of a step on, and as long as it stays so.
fn check(state: State, first: bool) {
    let mut cluster = cluster(state, first);
    let (by_kstatus, by_argo) = expected(state);
    for look in ["the first status", "at rest"] {
        let status = cluster.reconcile(NOW);
        let told = format!("{state:?}, {look}, the first release: {first}: {:#?}", status.conditions);
        assert_eq!(kstatus(cluster.cr.metadata.generation, &status), by_kstatus, "{told}");
        assert_eq!(argocd::health(&cluster.cr, Some(&status)).0, by_argo, "{told}");
        assert_eq!(status.release.unwrap().state, state.as_str());
    }
}

/// What serves goes on doing so all the while, and what the spec asks for does not.
#[test]
fn a_tool_takes_no_step_of_a_release_for_current() {
    for row in &TABLE {
        check(row.state, false);
    }
}

/// The deadline of a Deployment knows nothing of a registry that is down. The plan does: it gives no release up for it, and says when it
/// gives one up.
#[rstest]
#[case::its_clock_stands(Some(reason::IMAGE_PULL_FAILED), "False ImagePullFailed", "the registry does not answer")]
#[case::its_clock_runs_again(None, "False Progressing", "made no progress within its deadline")]
fn a_release_that_the_plan_has_not_given_up_is_not_stalled(
    #[case] excuse: Option<Reason>,
    #[case] ready: &str,
    #[case] words: &str,
) {
    let spec = || stack("shop").with_external_services();
    let mut cluster = Cluster::ready(spec());
    let mut play = Play { cr: cluster.cr.clone(), observed: all_there(&cluster.cr) };
    play.serve();
    cluster.edit(spec().set("api.image", json!(NEXT)));
    play.cr = cluster.cr.clone();
    let waiting = excuse.map(|reason| Waiting::new(reason, "the registry does not answer"));
    let revision = play.plan().0.release.target.content.workload(Component::Api);
    let there = ObservedWorkload { revision, excuse: waiting.clone(), ..ObservedWorkload::default() };
    play.observed.releases.workloads.insert(Component::Api, there);
    let (planned, stack) = play.plan();
    let told = planned.release.excuse.clone().map(|excuse| excuse.waiting);
    assert_eq!((planned.release.state, &told), (State::RollingOut, &waiting));
    cluster.stack = picked(stack, &planned);
    cluster.live = all_ready(&cluster.stack);
    cluster.release = planned.release;
    let late = json!([{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]);
    cluster.deployment(Component::Api, 1, [2, 1, 1], &late);
    let status = cluster.reconcile(NOW);
    assert_eq!((line(&status, "Ready").as_str(), line(&status, "Stalled").as_str()), (ready, ""));
    assert_eq!(line(&status, "Available"), "True Ready");
    let message = &condition(&status, "Ready").unwrap().message;
    assert!(message.starts_with("api: ") && message.contains(words), "{message}");
    assert_eq!(kstatus(cluster.cr.metadata.generation, &status), InProgress);
    assert_eq!(argocd::health(&cluster.cr, Some(&status)).0, "Progressing");
    // Nothing gives it up while the stack is suspended.
    cluster.stack.suspend = true;
    let stalled = if excuse.is_some() { "" } else { "True RolloutStuck" };
    assert_eq!(line(&cluster.reconcile(NOW), "Stalled"), stalled);
    cluster.stack.suspend = false;
    // Where nothing serves that it could go back to, the Deployment is all that tells.
    cluster.release.last_good = None;
    assert_eq!(line(&cluster.reconcile(NOW), "Stalled"), "True RolloutStuck");
}

/// The API has made no progress within its deadline, and it is the other workload whose image cannot be pulled.
#[test]
fn what_excuses_a_rollout_is_told_of_the_component_that_it_is_about() {
    let mut cluster = cluster(State::RollingOut, false);
    let late = json!([{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]);
    cluster.deployment(Component::Api, 1, [2, 1, 1], &late);
    let waiting = Waiting::new(reason::IMAGE_PULL_FAILED, "the registry does not answer");
    for (component, words) in [(Some(Component::Ocr), "ocr: the registry"), (None, "api: the registry")] {
        cluster.release.excuse = Some(Excuse { component, waiting: waiting.clone() });
        let status = cluster.reconcile(NOW);
        let message = &condition(&status, "Ready").unwrap().message;
        assert!(message.starts_with(words), "{message}");
    }
}

/// Else all that a candidate says that does not start is that it is started again and again. What serves keeps its pods.
#[test]
fn only_candidates_keep_the_end_of_their_log_for_the_status() {
    let cr = spec(State::Testing).build();
    let mut play = Play { observed: all_there(&cr), cr };
    play.serve();
    play.cr.spec.api.image = NEXT.to_owned();
    let (planned, stack) = play.plan();
    assert_eq!(planned.release.state, State::Testing);
    let objects = everything(&picked(stack, &planned), &planned);
    let policy = |name: &str| {
        let found = objects.iter().find(|object| (object.kind.kind, &*object.name) == ("Deployment", name)).unwrap();
        found.body["spec"]["template"]["spec"]["containers"][0]["terminationMessagePolicy"].clone()
    };
    assert_eq!(policy("shop-api-candidate"), json!("FallbackToLogsOnError"));
    assert!(policy("shop-api").is_null());
}

/// Where nothing serves yet.
#[test]
fn a_tool_takes_no_step_of_the_first_release_for_current() {
    // There is nothing to test beside, nor to go back to.
    let after_another = [State::Serving, State::Testing, State::SmokeTestFailed, State::Verifying, State::RolledBack];
    for row in TABLE.iter().filter(|row| !after_another.contains(&row.state)) {
        check(row.state, true);
    }
}

#[test]
fn a_stack_that_hibernates_is_current_unless_a_release_waits_for_it_to_wake() {
    let mut asleep = cluster(State::Hibernating, false);
    let status = asleep.reconcile(NOW);
    assert_eq!(line(&status, "Ready"), "False Hibernated");
    assert_eq!((line(&status, "Hibernated"), line(&status, "Reconciling")), ("True Hibernated".into(), String::new()));
    let message = status.conditions.into_iter().find(|of| of.type_ == "Ready").unwrap().message;
    assert!(message.contains(&format!("release {} goes on when it wakes", asleep.release.target.content.release())));
    asleep.release = cluster(State::Serving, false).release;
    let status = asleep.reconcile(NOW);
    assert_eq!(
        (line(&status, "Ready"), line(&status, "Available")),
        ("True Hibernated".into(), "False Hibernated".into())
    );
    assert_eq!(kstatus(asleep.cr.metadata.generation, &status), Current);
}

#[test]
fn a_release_and_a_hibernation_that_wait_for_a_restore_name_it() {
    let mut cluster = cluster(State::Restoring, false);
    cluster.stack.hibernation.cause = Some(Cause::Spec);
    let release = cluster.release.target.content.release();
    let told = |status: RorunStackStatus, kind: &str| {
        let found = status.conditions.into_iter().find(|of| of.type_ == kind);
        found.map(|of| format!("{} {}: {}", of.status, of.reason, of.message)).unwrap_or_default()
    };
    let ready = told(cluster.reconcile(NOW), "Ready");
    assert!(ready.contains(&format!("release {release} goes on once the restore is over")), "{ready}");
    let observed = Observed { restores: vec![restore()], ..all_there(&cluster.cr) };
    cluster.restores = plan(&valid_with(&cluster.cr, &observed), &observed, NOW).restores;
    let status = cluster.reconcile(NOW);
    let (of_restore, hibernated) = (told(status.clone(), "RestoreComplete"), told(status, "Hibernated"));
    let then = format!("; release {release} goes on afterwards");
    assert!(of_restore.starts_with("False ") && of_restore.contains("rorunrestore/back: "), "{of_restore}");
    assert!(of_restore.ends_with(&then), "{of_restore}");
    assert!(hibernated.starts_with("False DependencyNotReady: the stack hibernates"), "{hibernated}");
    assert!(hibernated.contains("once rorunrestore/back is complete"), "{hibernated}");
}

/// From the moment when the last pod is gone until it wakes, whatever is told meanwhile.
#[test]
fn the_time_without_pods_is_counted() {
    let mut asleep = cluster(State::Hibernating, false);
    let told = |status: &RorunStackStatus| (status.hibernated_seconds, status::without_pods_since(&status.conditions));
    asleep.deployment(Component::Api, 1, [1, 1, 1], &rolled_out());
    assert_eq!(told(&asleep.reconcile(100)), (None, None), "a pod is left");
    asleep.deployment(Component::Api, 0, [0, 0, 0], &rolled_out());
    assert_eq!(told(&asleep.reconcile(200)), (None, Some(200)));
    assert_eq!(told(&asleep.reconcile(500)), (None, Some(200)));
    let stopped = Waiting::new(reason::FORBIDDEN, "the operator may not read pods");
    let status = status::stopped(&asleep.cr, asleep.old.clone(), &stopped, Timestamp::from_second(600).unwrap());
    assert_eq!(told(&status), (Some(400), None), "it is not known any more");
    asleep.old = Some(status);
    assert_eq!(told(&asleep.reconcile(700)), (Some(400), Some(700)));
    asleep.stack.asleep = false;
    assert_eq!(told(&asleep.reconcile(710)), (Some(410), None));
    assert_eq!(told(&asleep.reconcile(9000)), (Some(410), None));
}

#[test]
fn where_no_policy_makes_sure_of_it_who_approved_is_told_to_be_unknown() {
    let words = "is not known: no admission policy makes sure of rorun.app/approved-by, which";
    for state in [State::Serving, State::Migrating] {
        for (by, verified, told) in [
            (Some("ada"), false, Some("says ada")),
            (Some(""), false, Some("is not set")),
            (Some("ada"), true, None),
            (None, false, None),
        ] {
            let mut cluster = cluster(state, false);
            let progress = &mut cluster.release.target.progress;
            (progress.approved_by, progress.approval_verified) = (by.map(str::to_owned), verified);
            let status = cluster.reconcile(NOW);
            let ready = status.conditions.into_iter().find(|of| of.type_ == "Ready").unwrap();
            let expected = told.map(|told| format!("{words} {told}"));
            let found = ready.message.find(words).map(|at| ready.message[at..].to_owned());
            assert_eq!(found, expected, "{state:?}: {}", ready.message);
        }
    }
}

/// As `kubectl get rstack` shows it, beside the state.
#[test]
fn the_release_is_shown_by_the_image_that_changes() {
    let shown = |cluster: &mut Cluster| cluster.reconcile(NOW).release.unwrap().image;
    assert_eq!(shown(&mut cluster(State::Serving, false)), "rorun-api:1.8.0");
    let mut migrating = cluster(State::Migrating, false);
    assert_eq!(shown(&mut migrating), "rorun-api:1.9.0");
    // The API of both is the same, and the panel is another one.
    let spec = serde_json::to_value(&migrating.cr.spec).unwrap();
    let panel = |tag: &str| {
        let mut spec = spec.clone();
        spec["admin"] = json!({"image": format!("ghcr.io/rorun/rorun-admin:{tag}")});
        Content::of(&serde_json::from_value(spec).unwrap())
    };
    migrating.release.target.content = panel("1.9.0");
    migrating.release.last_good.as_mut().unwrap().content = panel("1.8.0");
    assert_eq!(shown(&mut migrating), "rorun-admin:1.9.0");
}
