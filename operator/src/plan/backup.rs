//! The dumps that somebody asked for: by the annotation `rorun.app/backup`, or by a RorunBackup.

use super::{Step, commands, meaning, sanitize, wakes};
use crate::{
    contract::{DumpOutcome, DumpRecord},
    names::{Component, ObjectName, Waiting, annotation, reason},
    stack::{BackupRequest, JobPhase, Observed, ObservedJob, Stack},
};

/// How long after the end of a Job its pod may tell what it said, in seconds: the two come by different watches.
const WORDS_WITHIN: i64 = 10;

/// How far the backup of a RorunBackup is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupRun {
    /// The uid of the RorunBackup.
    pub uid: String,
    /// Its Job.
    pub job: String,
    /// How far it is.
    pub state: BackupRunState,
    /// When it is over whether or not its pod told what it said, in seconds since 1970.
    pub turns_at: Option<i64>,
}

impl BackupRun {
    /// Whether its Job is to be made.
    pub(super) fn is_due(&self) -> bool {
        matches!(&self.state, BackupRunState::Waits(waiting) if waiting.reason == reason::PROGRESSING)
    }
}

/// How far a backup is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupRunState {
    /// It has not begun.
    Waits(Waiting),
    /// The Job runs since this moment, in seconds since 1970. Of one that cannot start, why.
    Runs(i64, Option<Waiting>),
    /// The Job ended well.
    Complete(Box<BackupResult>),
    /// The Job failed, in the words of the agent.
    Failed(String),
}

/// What a backup brought. Moments are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupResult {
    /// When the Job began.
    pub started: i64,
    /// When it ended.
    pub ended: i64,
    /// What the agent said. `None`: its pod was gone before it was read.
    pub record: Option<DumpRecord>,
}

/// The Job that the annotation asks for, as long as the command is not handled. Without `backup` in the spec it asks for nothing.
pub(super) fn asked(stack: &Stack, observed: &Observed) -> Option<Step> {
    stack.backup.as_ref()?;
    if stack.hibernation.cause.is_some() || wakes(stack, observed) {
        // The command is not handled, and is obeyed when the stack has woken.
        return None;
    }
    let meaning = commands::pending(observed, annotation::BACKUP)?;
    let name = ObjectName::step(&stack.name, Component::Backup, &meaning);
    let exists = observed.jobs.iter().any(|job| job.name == name.as_str());
    Some(Step { name: name.into(), exists })
}

/// The Job of a RorunBackup.
fn job_of(stack: &str, request: &BackupRequest) -> String {
    let component = if request.sanitize.is_some() { Component::Sanitize } else { Component::Backup };
    ObjectName::step(stack, component, &meaning(&["RorunBackup", &request.uid])).into()
}

/// How far each RorunBackup is. `held`: why none may begin now. One begins at a time, in the order of the list.
pub(super) fn runs(stack: &str, observed: &Observed, held: Option<&Waiting>, now: i64) -> Vec<BackupRun> {
    let mut dump = observed.dump.clone();
    // One that cannot start keeps the place, and the Secret with its keys.
    let asked = |job: &ObservedJob| observed.backups.iter().any(|request| job_of(stack, request) == job.name);
    let goes_on = |job: &&ObservedJob| sanitize::goes_on(job) && (job.phase == JobPhase::Running || asked(job));
    let mut sanitize = observed.jobs.iter().find(goes_on).map(|job| job.name.clone());
    let run = |request: &BackupRequest| {
        let job = job_of(stack, request);
        let there = observed.jobs.iter().find(|there| there.name == job);
        let before = if request.sanitize.is_some() { &mut sanitize } else { &mut dump };
        let missing = request.sanitize.as_ref().and_then(|sanitize| sanitize.destination.as_ref().err());
        let state = match (there, held.or(missing), &*before) {
            (Some(there), ..) => state_of(there, now),
            (None, Some(held), _) => BackupRunState::Waits(held.clone()),
            (None, None, Some(other)) => BackupRunState::Waits(Waiting::new(
                reason::DEPENDENCY_NOT_READY,
                format!("it begins once job/{other} has ended: backups run one after the other"),
            )),
            (None, None, None) => {
                *before = Some(job.clone());
                BackupRunState::Waits(Waiting::new(reason::PROGRESSING, format!("job/{job} is being made")))
            }
        };
        let ended = there.and_then(|there| there.ended);
        BackupRun { uid: request.uid.clone(), job, state, turns_at: ended.map(|ended| ended + WORDS_WITHIN) }
    };
    observed.backups.iter().map(run).collect()
}

fn state_of(job: &ObservedJob, now: i64) -> BackupRunState {
    match &job.phase {
        JobPhase::Running => BackupRunState::Runs(job.created, None),
        JobPhase::CannotStart => {
            let message = format!("the pod of job/{0} cannot start: kubectl describe job/{0} and its pods", job.name);
            BackupRunState::Runs(job.created, Some(Waiting::new(reason::UNSCHEDULABLE, message)))
        }
        // A container beside the agent may keep the pod until the limit of the Job, when the point is there.
        JobPhase::Failed(said) if record(said).is_some() => {
            let ended = job.ended.unwrap_or(now);
            BackupRunState::Complete(Box::new(BackupResult { started: job.created, ended, record: record(said) }))
        }
        // The status of a RorunBackup that has failed is final, and the watch of its pods may be later than that of the Job.
        JobPhase::Failed(said)
            if outcome(said).is_none() && job.ended.is_some_and(|ended| now < ended + WORDS_WITHIN) =>
        {
            BackupRunState::Runs(job.created, None)
        }
        JobPhase::Failed(said) => BackupRunState::Failed(reason_of(said)),
        JobPhase::Complete => {
            let record = job.said.as_deref().and_then(record);
            let ended = job.ended.unwrap_or(now);
            if record.is_none() && now < ended + WORDS_WITHIN {
                return BackupRunState::Runs(job.created, None);
            }
            BackupRunState::Complete(Box::new(BackupResult { started: job.created, ended, record }))
        }
    }
}

fn record(said: &str) -> Option<DumpRecord> {
    match outcome(said)? {
        DumpOutcome::Complete(record) => Some(record),
        DumpOutcome::Failed { .. } => None,
    }
}

fn reason_of(said: &str) -> String {
    match outcome(said) {
        Some(DumpOutcome::Failed { message }) => message,
        _ => said.to_owned(),
    }
}

/// What the agent said. `None`: these are not its words.
fn outcome(said: &str) -> Option<DumpOutcome> {
    serde_json::from_str(said).ok()
}

/// Why no RorunBackup of the stack may begin now.
pub(super) fn held(stack: &Stack, observed: &Observed) -> Option<Waiting> {
    let name = &stack.name;
    if stack.backup.is_none() {
        let message = format!("rorunstack/{name} makes no backups: set spec.backup of the stack, e.g. to {{}}");
        return Some(Waiting::new(reason::BACKUP_NOT_SET, message));
    }
    if let Some(waiting) =
        stack.unresolved.get(&Component::Backup).or_else(|| stack.pods_refused.get(&Component::Backup))
    {
        return Some(waiting.clone());
    }
    if stack.suspend {
        let message = format!("spec.suspend of rorunstack/{name} is true: it begins once that is false");
        return Some(Waiting::new(reason::SUSPENDED, message));
    }
    if stack.hibernation.cause.is_some() || wakes(stack, observed) {
        return Some(Waiting::new(
            reason::HIBERNATED,
            format!("rorunstack/{name} hibernates: it begins once it has woken"),
        ));
    }
    let migration =
        observed.jobs.iter().find(|job| job.component == Component::Migration && job.phase == JobPhase::Running)?;
    let message = format!("it begins once the migration of job/{} has ended", migration.name);
    Some(Waiting::new(reason::DEPENDENCY_NOT_READY, message))
}

/// The newest Jobs that exist, those that run or whose RorunBackup has not told its end, and those that are asked for.
pub(super) fn steps(asked: Option<Step>, runs: &[BackupRun], (stack, observed): (&Stack, &Observed)) -> Vec<Step> {
    let history = stack.backup.as_ref().map_or(0, |backup| backup.history);
    let mut jobs: Vec<&ObservedJob> = observed.jobs.iter().filter(|job| job.component == Component::Backup).collect();
    jobs.sort_by(|a, b| (b.created, &b.name).cmp(&(a.created, &a.name)));
    let stays = |job: &&&ObservedJob| job.phase == JobPhase::Running || runs.iter().any(|run| run.job == job.name);
    let running = jobs.iter().skip(history).filter(stays);
    let mut steps: Vec<Step> = jobs.iter().take(history).chain(running).map(|job| exists(job)).collect();
    let of_dump =
        |run: &&BackupRun| observed.backups.iter().any(|request| request.uid == run.uid && request.sanitize.is_none());
    let due =
        runs.iter().filter(of_dump).find(|run| run.is_due()).map(|run| Step { name: run.job.clone(), exists: false });
    for step in asked.into_iter().chain(due) {
        if steps.iter().all(|there| there.name != step.name) {
            steps.push(step);
        }
    }
    steps
}

fn exists(job: &ObservedJob) -> Step {
    Step { name: job.name.clone(), exists: true }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        plan::{Plan, meaning, plan},
        stack::{ObservedWorkload, validate},
    };

    fn planned(observed: &Observed) -> Plan {
        let cr = json!({
            "apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack", "metadata": {"name": "shop", "namespace": "n"},
            "spec": {"environment": "Development", "api": {"image": "a"}, "backup": {}},
        });
        plan(&validate(&serde_json::from_value(cr).unwrap(), observed), observed, 0)
    }

    /// What the cluster holds after a reconcile: Jobs and records as the plan wants them, others gone.
    fn applied(observed: &mut Observed, plan: &Plan) {
        let wanted = |name: &str| plan.backups.iter().any(|step| step.name == name);
        observed.jobs.retain(|job| wanted(&job.name));
        let now = observed.jobs.iter().map(|job| job.created).max().unwrap_or(0) + 1;
        for step in plan.backups.iter().filter(|step| !step.exists) {
            let phase = JobPhase::Running;
            observed.jobs.push(ObservedJob {
                begun: None,
                name: step.name.clone(),
                component: Component::Backup,
                created: now,
                said: None,
                phase,
                ended: None,
            });
        }
        observed.handled.clone_from(&plan.handled);
    }

    fn asked(observed: &mut Observed, value: &str) -> usize {
        observed.annotations.insert(annotation::BACKUP.to_owned(), value.to_owned());
        let mut made = 0;
        loop {
            let plan = planned(observed);
            made += plan.backups.iter().filter(|step| !step.exists).count();
            let before = (observed.jobs.clone(), observed.handled.clone());
            applied(observed, &plan);
            for job in &mut observed.jobs {
                job.phase = JobPhase::Complete;
            }
            if before == (observed.jobs.clone(), observed.handled.clone()) {
                return made;
            }
        }
    }

    #[test]
    fn each_new_value_makes_one_job() {
        let mut observed = Observed::default();
        assert_eq!(asked(&mut observed, "1"), 1);
        assert_eq!(asked(&mut observed, "1"), 0, "the second reconcile is silent");
        assert_eq!(asked(&mut observed, "2"), 1);
        assert_eq!(asked(&mut observed, "1"), 1, "it differs from the last handled one");
    }

    #[test]
    fn a_value_that_was_handled_makes_none_when_its_job_is_gone() {
        let mut observed = Observed::default();
        asked(&mut observed, "1");
        observed.jobs.clear();
        assert_eq!(asked(&mut observed, "1"), 0);
        observed.annotations.clear();
        assert_eq!(planned(&observed).handled, observed.handled, "without the annotation the record stays");
    }

    #[test]
    fn eleven_more_jobs_collect_the_oldest_and_run_it_no_more() {
        let mut observed = Observed::default();
        for value in 0..=10 {
            assert_eq!(asked(&mut observed, &value.to_string()), 1);
        }
        assert_eq!(observed.jobs.len(), 10);
        let first = ObjectName::step("shop", Component::Backup, &meaning(&[annotation::BACKUP, "0", "1"]));
        assert!(observed.jobs.iter().all(|job| job.name != first.as_str()));
        assert_eq!(asked(&mut observed, "10"), 0);
    }

    #[test]
    fn a_new_operator_goes_by_the_record() {
        let mut observed = Observed::default();
        asked(&mut observed, "1");
        observed.agent_image = "another".to_owned();
        observed.jobs.clear();
        assert_eq!(asked(&mut observed, "1"), 0);
    }

    #[rstest]
    #[case::of_the_agent(r#"{"failed": {"message": "no space left"}}"#, 100, Some("no space left"))]
    #[case::not_seen_yet("job/x: it has ended", 109, None)]
    #[case::never_seen("job/x: it has ended", 110, Some("job/x: it has ended"))]
    fn a_backup_has_failed_once_its_pod_has_told_why_or_had_its_time(
        #[case] said: &str,
        #[case] now: i64,
        #[case] told: Option<&str>,
    ) {
        let phase = JobPhase::Failed(said.to_owned());
        let job = ObservedJob {
            name: "x".to_owned(),
            component: Component::Backup,
            created: 90,
            said: None,
            begun: None,
            phase,
            ended: Some(100),
        };
        let state = state_of(&job, now);
        match told {
            Some(told) => assert!(matches!(&state, BackupRunState::Failed(said) if said == told), "{state:?}"),
            None => assert!(matches!(state, BackupRunState::Runs(_, None)), "{state:?}"),
        }
    }

    /// By which a stack is moved to another major version of PostgreSQL: what writes is stopped, and what is there is dumped.
    #[rstest]
    #[case::without_pods(json!({"api": {"image": "a", "replicas": 0}}), reason::PROGRESSING)]
    #[case::suspended(json!({"api": {"image": "a"}, "suspend": true}), reason::SUSPENDED)]
    fn a_backup_begins_of_a_stack_that_has_no_pods(#[case] spec: Value, #[case] expected: reason::Reason) {
        let mut observed = Observed::default();
        let request = BackupRequest { uid: "1".to_owned(), name: "now".to_owned(), sanitize: None };
        observed.backups.push(request);
        let asleep = ObservedWorkload { asleep: true, rolled_out: true, ..ObservedWorkload::default() };
        observed.releases.workloads.insert(Component::Api, asleep);
        let mut of = json!({"environment": "Development", "backup": {}});
        of.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let cr = json!({"metadata": {"name": "shop", "namespace": "n"}, "spec": of});
        let plan = plan(&validate(&serde_json::from_value(cr).unwrap(), &observed), &observed, 0);
        let state = &plan.backup_runs[0].state;
        assert!(matches!(state, BackupRunState::Waits(waiting) if waiting.reason == expected), "{state:?}");
        assert_eq!(plan.backups.len(), usize::from(expected == reason::PROGRESSING));
    }

    #[test]
    fn a_job_that_runs_is_never_collected() {
        let mut observed = Observed::default();
        let job = |number: i64, phase| ObservedJob {
            begun: None,
            name: format!("shop-backup-{number}"),
            component: Component::Backup,
            created: number,
            said: None,
            phase,
            ended: None,
        };
        observed.jobs = (1..=20).map(|number| job(number, JobPhase::Complete)).collect();
        observed.jobs.push(job(0, JobPhase::Running));
        let kept: BTreeMap<_, _> =
            planned(&observed).backups.into_iter().map(|step| (step.name, step.exists)).collect();
        assert!(kept.contains_key("shop-backup-0") && kept.contains_key("shop-backup-20"));
        assert!(!kept.contains_key("shop-backup-1"));
    }
}
