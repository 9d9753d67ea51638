//! What a revision keeps of how it came to serve: the digests of its images, and the moments of its migration. Each is recorded
//! together with a step that is recorded anyway, so a release takes no write more.

use std::collections::BTreeSet;

use crate::{
    api::v1alpha1::{NO_REGISTRY, SEVERAL_DIGESTS},
    contract::LockOutcome,
    names::{Component, image::ImageName},
    plan::Step,
    stack::{Observed, Progress, Revision},
};

/// How many digests of one tag are remembered: who moves a tag without end needs no more of them.
const REMEMBERED: usize = 16;

/// Records which digests the ready pods of the revision that serves run. What is known stays known while no pod is ready, so that
/// a pause keeps it. Pods that come to run another image under the same tag prove it anew.
pub(super) fn digests(serving: &mut Revision, observed: &Observed, now: i64) {
    for (component, image) in serving.content.images() {
        let there = observed.releases.workloads.get(&component).filter(|there| there.rolled_out);
        let written = ImageName::new(image).digest;
        let known = written.map(str::to_owned).or_else(|| told(&there?.digests));
        let Some(known) = known else { continue };
        let before = serving.progress.digests.insert(component.to_string(), known.clone());
        if written.is_none() {
            let found = there.iter().flat_map(|there| &there.digests);
            let found = found.map(|digest| digest.clone().unwrap_or_else(|| NO_REGISTRY.to_owned()));
            let one = before.iter().filter(|before| *before != SEVERAL_DIGESTS).cloned();
            remember(&mut serving.progress, component, one.chain(found).collect());
        }
        if before.is_some_and(|before| before != known) {
            serving.progress.digests_changed_at = Some(now);
        }
    }
}

/// Keeps all that pods of a revision ran, as soon as it is more than one digest. What is known stays, so that nothing is written when
/// such pods come and go.
fn remember(progress: &mut Progress, component: Component, found: BTreeSet<String>) {
    let mut all = found;
    // What runs is always among them.
    for known in progress.several.get(component.as_str()).into_iter().flatten() {
        if all.len() < REMEMBERED {
            all.insert(known.clone());
        }
    }
    if all.len() > 1 {
        progress.several.insert(component.to_string(), all);
    }
}

/// The one digest that all pods run, or why there is none. `None`: no pod is ready.
fn told(digests: &BTreeSet<Option<String>>) -> Option<String> {
    let first = digests.first()?;
    if digests.len() > 1 {
        return Some(SEVERAL_DIGESTS.to_owned());
    }
    Some(first.clone().unwrap_or_else(|| NO_REGISTRY.to_owned()))
}

/// Records that the migration of this identity is applied, and when its Job ran. The Job of an earlier release that had the same
/// migration is none of this one.
pub(super) fn migrated(
    progress: &mut Progress,
    others: &[Revision],
    (identity, step): (&str, Option<&Step>),
    observed: &Observed,
) {
    let applied = |progress: &Progress| progress.migrated.as_deref() == Some(identity);
    let own = step.filter(|_| !others.iter().any(|other| applied(&other.progress)));
    let job = own.and_then(|step| observed.jobs.iter().find(|job| job.name == step.name && job.ended.is_some()));
    let said = job.and_then(|job| serde_json::from_str(job.said.as_deref()?).ok());
    let names = said.and_then(|said| match said {
        LockOutcome::Applied { migrations } => Some(migrations),
        _ => None,
    });
    if applied(progress) {
        // Its pod may be seen after its Job.
        progress.applied = progress.applied.take().or(names);
        return;
    }
    progress.applied = names;
    progress.migrated = Some(identity.to_owned());
    progress.migration_started_at = job.map(|job| job.created);
    progress.migrated_at = job.and_then(|job| job.ended);
}
