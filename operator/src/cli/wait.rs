//! `rorun-operator wait`: follows a release until it serves, for pipelines.
//!
//! What enters: a stack by name, and the image that a pipeline has just put into its spec. What leaves: a line for each change,
//! and an exit code.

use std::{fmt, io::Write, process::ExitCode, time::Duration};

use clap::Args;
use futures::{StreamExt, pin_mut};
use kube::{Api, Client, runtime::watcher};

use super::{CliError, client, run};
use crate::{
    api::v1alpha1::{ReleaseRecord, RorunStack},
    names::{annotation, reason},
};

/// What to wait for.
#[derive(Debug, Args)]
pub(super) struct WaitArgs {
    /// The name of the RorunStack
    name: String,
    /// Its namespace; that of the kubeconfig's context if omitted
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// An image that must serve, e.g. rorun-api:1.9.0; whatever the spec asks for if omitted
    #[arg(long, value_name = "IMAGE")]
    release: Option<String>,
    /// How long to wait, e.g. 90s or 10m
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = run::period)]
    timeout: Duration,
}

/// How a wait ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// The release serves.
    Serves,
    /// It was rolled back, failed, or a user has to act.
    Failed(String),
    /// A user has to approve it.
    AwaitsApproval(String),
    /// It is on its way.
    Progresses(String),
}

/// The exit codes besides 0 and 1.
const FAILED: u8 = 2;
const TIMED_OUT: u8 = 3;
const AWAITS_APPROVAL: u8 = 4;

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serves => f.write_str("the release serves"),
            Self::Failed(message) | Self::AwaitsApproval(message) | Self::Progresses(message) => f.write_str(message),
        }
    }
}

/// Waits, and prints each change to `out`.
pub(super) async fn run(args: WaitArgs, out: &mut impl Write) -> Result<ExitCode, CliError> {
    let config = client::config().await?;
    let namespace = args.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let stacks: Api<RorunStack> = Api::namespaced(Client::try_from(config)?, &namespace);
    if let Ok(code) = tokio::time::timeout(args.timeout, Box::pin(follow(&args, stacks, out))).await {
        return code;
    }
    writeln!(out, "timed out after {} s", args.timeout.as_secs())?;
    Ok(ExitCode::from(TIMED_OUT))
}

async fn follow(args: &WaitArgs, stacks: Api<RorunStack>, out: &mut impl Write) -> Result<ExitCode, CliError> {
    let events = watcher::watch_object(stacks, &args.name);
    pin_mut!(events);
    let mut last = None;
    while let Some(event) = events.next().await {
        let verdict = match event {
            Ok(Some(stack)) => verdict(&stack, args.release.as_deref()),
            Ok(None) => Verdict::Progresses(format!("rorunstack/{} does not exist", args.name)),
            Err(error) => Verdict::Progresses(format!("failed to watch rorunstack/{}: {error}", args.name)),
        };
        if last.as_ref() != Some(&verdict) {
            writeln!(out, "{verdict}")?;
        }
        match &verdict {
            Verdict::Serves => return Ok(ExitCode::SUCCESS),
            Verdict::Failed(_) => return Ok(ExitCode::from(FAILED)),
            Verdict::AwaitsApproval(_) => return Ok(ExitCode::from(AWAITS_APPROVAL)),
            Verdict::Progresses(_) => last = Some(verdict),
        }
    }
    Ok(ExitCode::FAILURE)
}

/// What the status of a stack says about a release.
fn verdict(stack: &RorunStack, image: Option<&str>) -> Verdict {
    let Some(status) = &stack.status else {
        return Verdict::Progresses("the operator has not reported yet".to_owned());
    };
    if status.observed_generation != stack.metadata.generation {
        return Verdict::Progresses("the operator has not observed the spec yet".to_owned());
    }
    let release = status.release.clone().unwrap_or_default();
    let wanted = |record: &ReleaseRecord| image.is_none_or(|image| has(record, image));
    if !release.target.iter().chain(&release.current).any(wanted) {
        return Verdict::Progresses(format!("the spec asks for another release than {}", image.unwrap_or_default()));
    }
    let condition = |kind: &str| status.conditions.iter().find(|condition| condition.type_ == kind);
    let Some(ready) = condition("Ready") else { return Verdict::Progresses("no condition Ready yet".to_owned()) };
    let message = format!("{}: {}", ready.reason, ready.message);
    if let Some(asleep) = condition("Hibernated").filter(|asleep| asleep.status == "True") {
        return Verdict::Progresses(format!("{}: {}", asleep.reason, asleep.message));
    }
    if ready.status == "True" && release.target.is_none() {
        return if release.current.as_ref().is_some_and(wanted) {
            Verdict::Serves
        } else {
            Verdict::Progresses(message)
        };
    }
    let verdict = match ready.reason.as_str() {
        reason::AWAITING_APPROVAL => Verdict::AwaitsApproval(message),
        _ if condition("Stalled").is_some_and(|stalled| stalled.status == "True") => Verdict::Failed(message),
        _ => return Verdict::Progresses(message),
    };
    unseen(stack, &ready.reason).map_or(verdict, |key| {
        Verdict::Progresses(format!("the operator has not observed the annotation {key} yet"))
    })
}

/// The annotation that answers a verdict, and that the status does not know of yet: unlike an edit of the spec it raises no generation.
fn unseen(stack: &RorunStack, reason: &str) -> Option<&'static str> {
    let release = stack.status.as_ref()?.release.as_ref()?;
    let annotated = |key: &str| stack.metadata.annotations.as_ref().and_then(|all| all.get(key));
    let names_it = |key: &&'static str| annotated(key).is_some_and(|value| release.target.iter().any(|of| of.hash == *value));
    match reason {
        reason::AWAITING_APPROVAL => Some(annotation::APPROVE).filter(names_it),
        reason::RECOVERY_POINT_FAILED => Some(annotation::SKIP_RECOVERY_POINT).filter(names_it),
        _ => None,
    }
    .or_else(|| Some(annotation::RETRY).filter(|key| annotated(key) != release.retry.as_ref()))
}

/// Whether a release has an image: by its full name, or by what stands after its registry; with any digest unless one is asked for.
fn has(record: &ReleaseRecord, image: &str) -> bool {
    let images = [Some(&record.api), record.ocr.as_ref(), record.admin.as_ref()];
    let (name, digest) = parts(image);
    images.into_iter().flatten().map(|full| parts(full)).any(|(full, has)| {
        (full == name || full.ends_with(&format!("/{name}"))) && (digest.is_none() || digest == has)
    })
}

/// The name with its tag, and the digest.
fn parts(image: &str) -> (&str, Option<&str>) {
    image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    const PINNED: &str = "2@sha256:aa";

    fn record(tag: &str) -> Value {
        json!({"hash": tag, "revision": tag, "api": format!("ghcr.io/rorun/rorun-api:{tag}")})
    }

    #[rstest]
    #[case::serves(json!({"current": record("2")}), ("True", "Ready"), false, Some("rorun-api:2"), "the release serves")]
    #[case::any(json!({"current": record("2")}), ("True", "Ready"), false, None, "the release serves")]
    #[case::by_its_full_name(
        json!({"current": record("2")}), ("True", "Ready"), false, Some("ghcr.io/rorun/rorun-api:2"), "the release serves")]
    #[case::not_asked_for(
        json!({"current": record("1")}), ("True", "Ready"), false, Some("rorun-api:2"),
        "the spec asks for another release than rorun-api:2")]
    #[case::pinned_by_a_promotion(
        json!({"current": record(PINNED)}), ("True", "Ready"), false, Some("rorun-api:2"), "the release serves")]
    #[case::by_its_digest(
        json!({"current": record(PINNED)}), ("True", "Ready"), false, Some("rorun-api:2@sha256:aa"), "the release serves")]
    #[case::another_digest(
        json!({"current": record(PINNED)}), ("True", "Ready"), false, Some("rorun-api:2@sha256:bb"),
        "the spec asks for another release than rorun-api:2@sha256:bb")]
    #[case::no_part_of_a_name(
        json!({"current": record("2")}), ("True", "Ready"), false, Some("api:2"),
        "the spec asks for another release than api:2")]
    #[case::on_its_way(
        json!({"current": record("1"), "target": record("2")}), ("False", "Migrating"), false, Some("rorun-api:2"),
        "Migrating: m")]
    #[case::rolled_back(
        json!({"current": record("1"), "target": record("2")}), ("False", "RolledBack"), true, Some("rorun-api:2"),
        "failed RolledBack: m")]
    #[case::awaits(
        json!({"current": record("1"), "target": record("2")}), ("False", "AwaitingApproval"), false,
        Some("rorun-api:2"), "awaits AwaitingApproval: m")]
    fn a_status_tells_how_far_a_release_is(
        #[case] release: Value,
        #[case] (ready, reason): (&str, &str),
        #[case] stalled: bool,
        #[case] image: Option<&str>,
        #[case] expected: &str,
    ) {
        let condition = |kind: &str, status: &str, reason: &str| {
            json!({"type": kind, "status": status, "reason": reason, "message": "m",
                "lastTransitionTime": "2026-01-01T00:00:00Z"})
        };
        let mut conditions = vec![condition("Ready", ready, reason)];
        conditions.extend(stalled.then(|| condition("Stalled", "True", reason)));
        let mut release = release;
        release["state"] = json!("x");
        let stack = json!({
            "apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack", "metadata": {"name": "shop", "generation": 2},
            "spec": {"environment": "Development", "api": {"image": "a"}},
            "status": {"observedGeneration": 2, "conditions": conditions, "release": release},
        });
        let stack: RorunStack = serde_json::from_value(stack).unwrap();
        let found = verdict(&stack, image);
        let kind = match found {
            Verdict::Failed(_) => "failed ",
            Verdict::AwaitsApproval(_) => "awaits ",
            Verdict::Serves | Verdict::Progresses(_) => "",
        };
        assert_eq!(format!("{kind}{found}"), expected);
    }

    /// A moment after `kubectl annotate`, the status is still that of before.
    #[rstest]
    #[case::approved("AwaitingApproval", json!({"rorun.app/approve": "2"}), None, "rorun.app/approve")]
    #[case::another_one_is_approved("AwaitingApproval", json!({"rorun.app/approve": "1"}), None, "")]
    #[case::goes_on_without_a_recovery_point(
        "RecoveryPointFailed", json!({"rorun.app/skip-recovery-point": "2"}), None, "rorun.app/skip-recovery-point")]
    #[case::tried_again("RolledBack", json!({"rorun.app/retry": "1"}), None, "rorun.app/retry")]
    #[case::tried_once_more("MigrationFailed", json!({"rorun.app/retry": "2"}), Some("1"), "rorun.app/retry")]
    #[case::failed_again("MigrationFailed", json!({"rorun.app/retry": "2"}), Some("2"), "")]
    #[case::nothing_was_tried_again("SmokeTestFailed", json!({}), None, "")]
    fn a_verdict_from_before_an_annotation_ends_no_wait(
        #[case] reason: &str,
        #[case] annotations: Value,
        #[case] retry: Option<&str>,
        #[case] unseen: &str,
    ) {
        let condition = |kind: &str, status: &str| {
            json!({"type": kind, "status": status, "reason": reason, "message": "m",
                "lastTransitionTime": "2026-01-01T00:00:00Z"})
        };
        let mut conditions = vec![condition("Ready", "False")];
        conditions.extend((reason != "AwaitingApproval").then(|| condition("Stalled", "True")));
        let release = json!({"state": reason, "target": record("2"), "current": record("1"), "retry": retry});
        let stack = json!({
            "apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack",
            "metadata": {"name": "shop", "generation": 2, "annotations": annotations},
            "spec": {"environment": "Production", "api": {"image": "a"}},
            "status": {"observedGeneration": 2, "conditions": conditions, "release": release},
        });
        let found = verdict(&serde_json::from_value(stack).unwrap(), None);
        let waits = format!("the operator has not observed the annotation {unseen} yet");
        assert_eq!(found.to_string(), if unseen.is_empty() { format!("{reason}: m") } else { waits });
        assert_eq!(matches!(found, Verdict::Progresses(_)), !unseen.is_empty());
    }

    #[test]
    fn a_status_of_an_earlier_generation_says_nothing() {
        let stack = json!({
            "apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack", "metadata": {"name": "shop", "generation": 3},
            "spec": {"environment": "Development", "api": {"image": "a"}},
            "status": {"observedGeneration": 2, "release": {"state": "Serving", "current": record("1")}},
        });
        let stack: RorunStack = serde_json::from_value(stack).unwrap();
        assert!(matches!(verdict(&stack, None), Verdict::Progresses(_)));
    }
}
