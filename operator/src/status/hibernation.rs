//! That a stack hibernates, or is about to, and when it expires.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{Report, available, conditions::Fact};
use crate::{
    api::v1alpha1::{ExpiryStatus, RorunStack, RorunStackStatus},
    names::{Component, annotation, reason},
    plan::{Operation, release::State},
    stack::{Cause, Expiry},
};

/// The conditions `Hibernated` and `Expired`. A stack that is to serve has neither.
pub(super) fn facts(report: &Report<'_>) -> Vec<Fact> {
    let hibernation = &report.stack.hibernation;
    let hibernated = |status, reason, message| Fact { kind: "Hibernated", status, reason, message };
    let mut facts = Vec::new();
    match (hibernation.cause, &report.operations.next) {
        (Some(cause), _) if report.stack.asleep => {
            let mut message = message(report, cause);
            if let Some(problem) = &hibernation.problem {
                message.push_str("; ");
                message.push_str(problem);
            }
            facts.push(match still_runs(report) {
                Some(_) => hibernated("False", reason::PROGRESSING, message),
                None => hibernated("True", reason::HIBERNATED, message),
            });
        }
        (Some(cause), Some((Operation::Hibernation, job))) => {
            let message = format!("the stack hibernates {} once {job} has ended", cause.because());
            facts.push(hibernated("False", reason::DEPENDENCY_NOT_READY, message));
        }
        _ => {
            let told = |problem| hibernated("False", reason::INVALID_SPEC, problem);
            facts.extend(hibernation.problem.clone().map(told));
        }
    }
    if let Some(cause @ Cause::Expired(_)) = hibernation.cause {
        let message = format!(
            "the stack hibernates {}, and its data stay: {}; to put it off, set the annotation {} to a later moment",
            cause.because(),
            removal(report.cr),
            annotation::KEEP_UNTIL
        );
        facts.push(Fact { kind: "Expired", status: "True", reason: reason::EXPIRED, message });
    }
    facts
}

/// What still has pods: it was scaled just now, or is left as it is, for the reason that its own condition has.
fn still_runs(report: &Report<'_>) -> Option<String> {
    let components = report.readiness.iter().map(|(component, _)| *component);
    let mut found = components.filter_map(|component| available::pods(report, component).map(|pods| (component, pods)));
    let (component, pods) = found.find(|(_, pods)| pods.wanted > 0)?;
    Some(format!("{component} still has {} pods: see the condition {}", pods.wanted, component.condition()))
}

/// What is told of a stack that hibernates.
pub(super) fn message(report: &Report<'_>, cause: Cause) -> String {
    if let Some(left) = still_runs(report) {
        return format!("the stack hibernates {}, and {left}", cause.because());
    }
    let release = match report.release.state {
        State::Hibernating => format!("; release {} goes on when it wakes", report.release.target.content.release()),
        _ => String::new(),
    };
    format!("the stack hibernates {}: no pods run, and its data stay{release}", cause.because())
}

/// Who made the stack, and so where to remove it.
fn removal(cr: &RorunStack) -> String {
    let annotated = |key: &str| cr.metadata.annotations.as_ref().and_then(|all| all.get(key)).cloned();
    let labelled = |key: &str| cr.metadata.labels.as_ref().and_then(|all| all.get(key)).cloned();
    if let Some(tracking) = annotated("argocd.argoproj.io/tracking-id") {
        let application = tracking.split(':').next().unwrap_or_default().to_owned();
        return format!("remove it in git, from where the Argo CD Application {application} brings it");
    }
    for (key, kind) in
        [("kustomize.toolkit.fluxcd.io/name", "Kustomization"), ("helm.toolkit.fluxcd.io/name", "HelmRelease")]
    {
        if let Some(name) = labelled(key) {
            return format!("remove it in git, from where the Flux {kind} {name} brings it");
        }
    }
    if let Some(release) = annotated("meta.helm.sh/release-name") {
        return format!("remove it with helm uninstall {release}");
    }
    let name = cr.metadata.name.as_deref().unwrap_or_default();
    format!("remove it with kubectl delete rstack {name}")
}

/// Since when a stack hibernates: until its application has been started again.
pub(super) fn since(report: &Report<'_>, old: &RorunStackStatus, now: Timestamp) -> Option<Time> {
    let stack = report.stack;
    let there = report.live.named("Deployment", &stack.child(Component::Api));
    let wakes = there.is_some_and(|there| there.applied_replicas == Some(0)) && stack.api.replicas.floor() > 0;
    match &old.hibernated_since {
        Some(since) if stack.asleep || wakes => Some(since.clone()),
        None if stack.asleep => Some(Time(now)),
        _ => None,
    }
}

/// Since when no pod runs: `Hibernated` is true.
pub fn without_pods_since(conditions: &[Condition]) -> Option<i64> {
    let hibernated =
        conditions.iter().find(|condition| condition.type_ == "Hibernated" && condition.status == "True")?;
    Some(hibernated.last_transition_time.0.as_second())
}

/// For how long no pod ran, with the time that ends now.
pub(super) fn seconds(old: &RorunStackStatus, conditions: &[Condition], now: Timestamp) -> Option<i64> {
    let since = without_pods_since(&old.conditions).filter(|_| without_pods_since(conditions).is_none());
    let ended = since.map(|since| (now.as_second() - since).max(0));
    ended.map(|ended| old.hibernated_seconds.unwrap_or(0) + ended).or(old.hibernated_seconds)
}

/// The moments that the status keeps: since when it hibernates, when it expires, and how that came.
pub(super) fn told(
    report: &Report<'_>,
    old: &RorunStackStatus,
    now: Timestamp,
) -> (Option<Time>, Option<Time>, Option<ExpiryStatus>) {
    if report.stack.suspend {
        return (old.hibernated_since.clone(), old.expires_at.clone(), old.expiry.clone());
    }
    let since = since(report, old, now);
    let Some(Expiry { at, after, observed_at, soon }) = report.stack.hibernation.expiry.clone() else {
        return (since, None, None);
    };
    let moment = |second| Time(Timestamp::from_second(second).unwrap_or_default());
    let warned = old.expiry.as_ref().filter(|told| told.after == after).and_then(|told| told.warned_at.clone());
    let over = matches!(report.stack.hibernation.cause, Some(Cause::Expired(_)));
    let warned_at = if soon { Some(warned.unwrap_or(Time(now))) } else { warned.filter(|_| over) };
    let expiry = ExpiryStatus { after, observed_at: moment(observed_at), warned_at };
    (since, Some(moment(at)), Some(expiry))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    #[rstest]
    #[case(json!({}), "kubectl delete rstack shop")]
    #[case(json!({"annotations": {"argocd.argoproj.io/tracking-id": "previews:rorun.app/RorunStack:pr-7/shop"}}), "Argo CD Application previews")]
    #[case(json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "previews"}}), "Flux Kustomization previews")]
    #[case(json!({"labels": {"helm.toolkit.fluxcd.io/name": "pr-7"}}), "Flux HelmRelease pr-7")]
    #[case(json!({"annotations": {"meta.helm.sh/release-name": "pr-7"}}), "helm uninstall pr-7")]
    fn whoever_made_the_stack_is_named(#[case] mut metadata: Value, #[case] words: &str) {
        metadata["name"] = json!("shop");
        let cr = json!({"metadata": metadata, "spec": {"environment": "Development", "api": {"image": "a"}}});
        let told = removal(&serde_json::from_value(cr).expect("a stack"));
        assert!(told.contains(words), "{told}");
    }
}
