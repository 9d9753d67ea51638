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
    names::reason,
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
    if ready.reason == reason::AWAITING_APPROVAL {
        return Verdict::AwaitsApproval(message);
    }
    if condition("Stalled").is_some_and(|stalled| stalled.status == "True") {
        return Verdict::Failed(message);
    }
    Verdict::Progresses(message)
}

/// Whether a release has an image: by its full name, or by what stands after its registry.
fn has(record: &ReleaseRecord, image: &str) -> bool {
    let images = [Some(&record.api), record.ocr.as_ref(), record.admin.as_ref()];
    images.into_iter().flatten().any(|full| full == image || full.ends_with(&format!("/{image}")))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

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
