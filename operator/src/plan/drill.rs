//! The drills that somebody asked for by the annotation `rorun.app/verify`.

use super::{Step, commands, wakes};
use crate::{
    names::{Component, ObjectName, annotation},
    stack::{JobPhase, Observed, ObservedJob, Stack},
};

/// How many Jobs of such drills are kept: the pod of each keeps its volume, and the status remembers the result.
const HISTORY: usize = 1;

/// The Job that the annotation asks for, as long as the command is not handled. Without drills in the spec it asks for nothing.
pub(super) fn asked(stack: &Stack, observed: &Observed) -> Option<Step> {
    stack.verify()?;
    if stack.hibernation.cause.is_some() || wakes(stack, observed) {
        // The command is not handled, and is obeyed when the stack has woken.
        return None;
    }
    let meaning = commands::pending(observed, annotation::VERIFY)?;
    let name = ObjectName::step(&stack.name, Component::Drill, &meaning);
    let exists = observed.jobs.iter().any(|job| job.name == name.as_str());
    Some(Step { name: name.into(), exists })
}

/// The newest Job that has ended, those that run, and the one that is asked for. What was found stands until the next one has found
/// something.
pub(super) fn steps(asked: Option<Step>, observed: &Observed) -> Vec<Step> {
    let mut jobs: Vec<&ObservedJob> = observed.jobs.iter().filter(|job| job.component == Component::Drill).collect();
    jobs.sort_by(|a, b| (b.created, &b.name).cmp(&(a.created, &a.name)));
    let ended = |job: &&ObservedJob| matches!(job.phase, JobPhase::Complete | JobPhase::Failed(_));
    let newest = jobs.iter().position(ended).map_or(jobs.len(), |at| at + HISTORY);
    let running = jobs.iter().skip(newest).filter(|job| job.phase == JobPhase::Running);
    let kept = jobs.iter().take(newest).chain(running);
    let mut steps: Vec<Step> = kept.map(|job| Step { name: job.name.clone(), exists: true }).collect();
    steps.extend(asked.filter(|asked| steps.iter().all(|step| step.name != asked.name)));
    steps
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{plan::plan, stack::validate};

    /// What the cluster holds after each value in turn: how many Jobs were made, and how many are left.
    fn drilled(backup: &serde_json::Value, values: &[&str]) -> (usize, usize) {
        let cr = json!({
            "apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack", "metadata": {"name": "shop", "namespace": "n"},
            "spec": {"environment": "Development", "api": {"image": "a"}, "backup": backup},
        });
        let cr = serde_json::from_value(cr).unwrap();
        let (mut observed, mut made) = (Observed::default(), 0);
        for (now, value) in (1..).zip(values) {
            observed.annotations.insert(annotation::VERIFY.to_owned(), (*value).to_owned());
            for _ in 0..3 {
                let plan = plan(&validate(&cr, &observed), &observed, now);
                observed.jobs.retain(|job| plan.drills.iter().any(|step| step.name == job.name));
                for step in plan.drills.iter().filter(|step| !step.exists) {
                    made += 1;
                    observed.jobs.push(ObservedJob {
                        begun: None,
                        name: step.name.clone(),
                        component: Component::Drill,
                        created: now,
                        said: None,
                        phase: JobPhase::Complete,
                        ended: None,
                    });
                }
                observed.handled = plan.handled;
            }
        }
        (made, observed.jobs.len())
    }

    #[test]
    fn what_the_last_drill_found_stands_while_the_next_one_runs() {
        let job = |name: &str, created: i64, phase: JobPhase| ObservedJob {
            begun: None,
            name: name.to_owned(),
            component: Component::Drill,
            created,
            said: None,
            phase,
            ended: None,
        };
        let kept = |jobs: Vec<ObservedJob>| {
            let observed = Observed { jobs, ..Observed::default() };
            steps(None, &observed).into_iter().map(|step| step.name).collect::<Vec<_>>()
        };
        let failed = || JobPhase::Failed("corrupt".to_owned());
        let jobs = vec![job("a", 1, JobPhase::Complete), job("b", 2, failed()), job("c", 3, JobPhase::Running)];
        assert_eq!(kept(jobs), ["c", "b"]);
        assert_eq!(kept(vec![job("b", 2, failed()), job("c", 3, JobPhase::Complete)]), ["c"]);
        assert_eq!(kept(vec![job("b", 2, failed()), job("c", 3, JobPhase::CannotStart)]), ["c", "b"]);
    }

    #[test]
    fn each_new_value_makes_one_drill_and_the_newest_is_kept() {
        let verify = json!({"verify": {}});
        assert_eq!(drilled(&verify, &["1", "1", "2", "1"]), (3, 1));
        assert_eq!(drilled(&json!({}), &["1", "2"]), (0, 0), "the spec asks for no drills");
    }
}
