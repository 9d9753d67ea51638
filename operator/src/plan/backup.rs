//! The dumps and the drills that somebody asked for by the annotations `rorun.app/backup` and `rorun.app/verify`.

use super::{Step, commands, wakes};
use crate::{
    names::{Component, ObjectName, annotation},
    stack::{JobPhase, Observed, ObservedJob, Stack},
};

/// How many Jobs of such dumps are kept for reading. The dumps themselves follow `backup.retention`.
pub const HISTORY: usize = 10;
/// How many Jobs of such drills: the pod of each keeps its volume, and the status remembers the result.
const DRILLS: usize = 1;

/// The component whose Job a command asks for.
#[derive(Clone, Copy)]
pub(super) struct Asks {
    component: Component,
    pub(super) annotation: &'static str,
    history: usize,
}

pub(super) const DUMP: Asks = Asks { component: Component::Backup, annotation: annotation::BACKUP, history: HISTORY };
pub(super) const DRILL: Asks = Asks { component: Component::Drill, annotation: annotation::VERIFY, history: DRILLS };

/// The Job that the annotation asks for, as long as the command is not handled. Without the component in the spec it asks for
/// nothing.
pub(super) fn asked(asks: Asks, stack: &Stack, observed: &Observed) -> Option<Step> {
    if !stack.has(asks.component) {
        return None;
    }
    if stack.hibernation.cause.is_some() || wakes(stack, observed) {
        // The command is not handled, and is obeyed when the stack has woken.
        return None;
    }
    let meaning = commands::pending(observed, asks.annotation)?;
    let name = ObjectName::step(&stack.name, asks.component, &meaning);
    let exists = observed.jobs.iter().any(|job| job.name == name.as_str());
    Some(Step { name: name.into(), exists })
}

/// The newest Jobs that exist, those that run, and the one that is asked for.
pub(super) fn steps(asks: Asks, asked: Option<Step>, observed: &Observed) -> Vec<Step> {
    let mut jobs: Vec<&ObservedJob> = observed.jobs.iter().filter(|job| job.component == asks.component).collect();
    jobs.sort_by(|a, b| (b.created, &b.name).cmp(&(a.created, &a.name)));
    let running = jobs.iter().skip(asks.history).filter(|job| job.phase == JobPhase::Running);
    let mut steps: Vec<Step> = jobs.iter().take(asks.history).chain(running).map(|job| exists(job)).collect();
    let missing = asked.filter(|asked| steps.iter().all(|step| step.name != asked.name));
    steps.extend(missing);
    steps
}

fn exists(job: &ObservedJob) -> Step {
    Step { name: job.name.clone(), exists: true }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::{
        plan::{Plan, meaning, plan},
        stack::validate,
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
        for value in 0..=HISTORY {
            assert_eq!(asked(&mut observed, &value.to_string()), 1);
        }
        assert_eq!(observed.jobs.len(), HISTORY);
        let first = ObjectName::step("shop", Component::Backup, &meaning(&[annotation::BACKUP, "0", "1"]));
        assert!(observed.jobs.iter().all(|job| job.name != first.as_str()));
        assert_eq!(asked(&mut observed, &HISTORY.to_string()), 0);
    }

    #[test]
    fn a_new_operator_goes_by_the_record() {
        let mut observed = Observed::default();
        asked(&mut observed, "1");
        observed.agent_image = "another".to_owned();
        observed.jobs.clear();
        assert_eq!(asked(&mut observed, "1"), 0);
    }

    #[test]
    fn a_job_that_runs_is_never_collected() {
        let mut observed = Observed::default();
        let job = |number: i64, phase| ObservedJob {
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
