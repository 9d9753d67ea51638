//! The stack as it is to be now: with the workloads of the revision that the plan picks.

use super::{
    Plan,
    release::{Pick, State},
};
use crate::{
    names::Component,
    stack::{Stack, WORKLOADS},
};

/// Picks the workloads. A revision that served and that this version of the operator cannot read is left as it runs.
pub fn picked(mut stack: Stack, plan: &Plan) -> Stack {
    let serving = stack.serving.take();
    let picked = match (plan.release.pick, serving) {
        (Pick::Target, _) => stack,
        (Pick::LastGood, Some(serving)) => {
            let Stack { probing, probes, known_services, last_backup, last_verified, known_backup, .. } = stack.clone();
            let Stack { warnings, release, content, .. } = stack.clone();
            let target = Some(Box::new(stack));
            let known = Stack { probing, probes, known_services, last_backup, last_verified, known_backup, ..*serving };
            Stack { content, release, target, warnings, ..known }
        }
        (Pick::LastGood | Pick::Unchanged, _) => {
            stack.deferred.extend(WORKLOADS);
            stack
        }
    };
    let testing = matches!(plan.release.state, State::Testing | State::SmokeTestFailed | State::Verifying);
    let restoring = plan.restores.current.is_some() || plan.restores.works;
    let steps = [
        (Component::SmokeTest, testing),
        (Component::BucketRules, !plan.bucket_rules.is_empty()),
        (Component::Preflight, plan.preflight.is_some()),
        (Component::Restore, restoring),
        (Component::Sanitize, plan.sanitizes.current.is_some()),
    ];
    let steps = steps.into_iter().filter(|(_, there)| *there).map(|(component, _)| component).collect();
    let mut picked = Stack { asleep: plan.hibernates, stopped: plan.restores.stops(), steps, ..picked };
    if let Some(seed) = &mut picked.seed {
        seed.seeded.clone_from(&plan.restores.seeded);
    }
    picked
}
