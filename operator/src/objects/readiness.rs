//! Whether an object is ready, by the rules of its kind (sources: `kubectl rollout status`, kstatus).

use serde_json::Value;

use super::{ObjectKey, ObjectKind, at};
use crate::names::{
    Waiting,
    reason::{self, Reason},
};

/// Ready, or what it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It serves.
    Ready,
    /// It does not serve yet, or no longer.
    Waiting(Waiting),
}

impl Readiness {
    /// Not ready, for a reason.
    pub fn waiting(reason: Reason, message: impl Into<String>) -> Self {
        Self::Waiting(Waiting::new(reason, message))
    }

    /// Whether it is ready.
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready)
    }
}

/// What there is to say of a workload that was written, before its controller has looked at it. It is the same whether the write
/// or the watch tells of it, so that the status is written once.
pub fn rollout_begins(key: &ObjectKey) -> Waiting {
    Waiting::new(reason::PROGRESSING, format!("{key} was changed just now"))
}

/// Counts of a workload's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pods {
    /// How many are wanted.
    pub wanted: i32,
    /// How many are ready.
    pub ready: i32,
}

/// The readiness of an object as the API server sends it.
pub(super) fn of(kind: &ObjectKind, object: &Value) -> Readiness {
    match kind.kind {
        "Deployment" => deployment(object),
        "StatefulSet" => stateful_set(object),
        "PersistentVolumeClaim" => volume(object),
        "Pod" => pod(object),
        "Job" => job(object),
        _ => Readiness::Ready,
    }
}

/// The counts of a workload.
pub(super) fn pods(kind: &ObjectKind, object: &Value) -> Option<Pods> {
    if !matches!(kind.kind, "Deployment" | "StatefulSet") {
        return None;
    }
    let wanted = int(object, "/spec/replicas").unwrap_or(1);
    Some(Pods { wanted: narrow(wanted), ready: narrow(int(object, "/status/readyReplicas").unwrap_or(0)) })
}

/// What a pod's container said when it ended, or when a CronJob last succeeded.
pub(super) fn note(kind: &ObjectKind, object: &Value) -> Option<Box<str>> {
    match kind.kind {
        "CronJob" => text(object, "/status/lastSuccessfulTime").map(Into::into),
        "Pod" => said(object).map(Into::into),
        _ => None,
    }
}

/// What a container said when it ended. Others beside ours may have ended too, and what they say is no JSON.
fn said(pod: &Value) -> Option<&str> {
    let all = || container_fields(pod, "state").chain(container_fields(pod, "lastState"));
    let mut messages = all().filter_map(|(_, state)| at(state, "/terminated/message").and_then(Value::as_str));
    let first = messages.next()?;
    Some([first].into_iter().chain(messages).find(|message| message.starts_with('{')).unwrap_or(first))
}

fn narrow(count: i64) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn int(object: &Value, path: &str) -> Option<i64> {
    at(object, path).and_then(Value::as_i64)
}

fn text<'a>(object: &'a Value, path: &str) -> Option<&'a str> {
    at(object, path).and_then(Value::as_str)
}

fn name(object: &Value) -> &str {
    text(object, "/metadata/name").unwrap_or_default()
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let list = at(object, "/status/conditions")?.as_array()?;
    list.iter().find(|condition| condition.get("type").and_then(Value::as_str) == Some(kind))
}

fn seen(object: &Value) -> bool {
    int(object, "/status/observedGeneration").unwrap_or(0) >= int(object, "/metadata/generation").unwrap_or(0)
}

fn deployment(object: &Value) -> Readiness {
    let name = name(object);
    let wanted = int(object, "/spec/replicas").unwrap_or(1);
    let status = |field: &str| int(object, &format!("/status/{field}")).unwrap_or(0);
    if let Some(progressing) = condition(object, "Progressing")
        && text(progressing, "/reason") == Some("ProgressDeadlineExceeded")
        && seen(object)
    {
        return Readiness::waiting(
            reason::ROLLOUT_STUCK,
            format!("deployment/{name} made no progress within its deadline"),
        );
    }
    if !seen(object) {
        return Readiness::Waiting(rollout_begins(&ObjectKey { kind: "Deployment", name: name.to_owned() }));
    }
    let updated = status("updatedReplicas");
    if updated < wanted {
        return Readiness::waiting(
            reason::PROGRESSING,
            format!("deployment/{name} rolls out: {updated} of {wanted} pods updated"),
        );
    }
    // They are kept for as long as the new ones are not available, and are all that serves if those never will be.
    let old = status("replicas") - updated;
    if old > 0 {
        return Readiness::waiting(
            reason::PROGRESSING,
            format!("deployment/{name} rolls out: {old} to be replaced when the new ones serve"),
        );
    }
    let available = status("availableReplicas");
    if available < wanted {
        return Readiness::waiting(
            reason::PROGRESSING,
            format!("deployment/{name}: {available} of {wanted} pods available"),
        );
    }
    Readiness::Ready
}

fn stateful_set(object: &Value) -> Readiness {
    let name = name(object);
    let wanted = int(object, "/spec/replicas").unwrap_or(1);
    let ready = int(object, "/status/readyReplicas").unwrap_or(0);
    if !seen(object) {
        return Readiness::Waiting(rollout_begins(&ObjectKey { kind: "StatefulSet", name: name.to_owned() }));
    }
    let updating = text(object, "/status/updateRevision") != text(object, "/status/currentRevision")
        && int(object, "/status/updatedReplicas").unwrap_or(0) < wanted;
    if ready >= wanted && !updating {
        return Readiness::Ready;
    }
    Readiness::waiting(reason::PROGRESSING, format!("statefulset/{name}: {ready} of {wanted} pods ready"))
}

/// A claim that waits for its first consumer is as it should be: only a lost one is a problem.
fn volume(object: &Value) -> Readiness {
    match text(object, "/status/phase") {
        Some("Lost") => Readiness::waiting(
            reason::VOLUME_PENDING,
            format!("persistentvolumeclaim/{} lost its volume", name(object)),
        ),
        _ => Readiness::Ready,
    }
}

fn job(object: &Value) -> Readiness {
    let name = name(object);
    if let Some(failed) = condition(object, "Failed").filter(|c| text(c, "/status") == Some("True")) {
        let message = text(failed, "/message").unwrap_or("it failed");
        return Readiness::waiting(reason::BACKUP_FAILED, format!("job/{name}: {message}"));
    }
    if condition(object, "Complete").is_some_and(|c| text(c, "/status") == Some("True")) {
        return Readiness::Ready;
    }
    Readiness::waiting(reason::PROGRESSING, format!("job/{name} runs"))
}

fn container_fields<'a>(pod: &'a Value, field: &'static str) -> impl Iterator<Item = (&'a str, &'a Value)> + 'a {
    ["/status/initContainerStatuses", "/status/containerStatuses"]
        .into_iter()
        .filter_map(|list| at(pod, list).and_then(Value::as_array))
        .flatten()
        .filter_map(move |status| Some((status.get("name")?.as_str()?, status.get(field)?)))
}

/// The worst thing that a pod reports: that it has no node, no image, no configuration, or that it ends again and again.
fn pod(object: &Value) -> Readiness {
    let name = name(object);
    if let Some(scheduled) = condition(object, "PodScheduled").filter(|c| text(c, "/status") == Some("False")) {
        let message = text(scheduled, "/message").unwrap_or("no node fits");
        return Readiness::waiting(reason::UNSCHEDULABLE, format!("pod/{name} cannot be scheduled: {message}"));
    }
    for (container, state) in container_fields(object, "state") {
        let Some(waiting) = state.get("waiting") else { continue };
        let message = text(waiting, "/message").unwrap_or_default();
        let problem = match text(waiting, "/reason").unwrap_or_default() {
            "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => reason::IMAGE_PULL_FAILED,
            "CrashLoopBackOff" => reason::CRASH_LOOP,
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                reason::CONTAINER_CONFIG_ERROR
            }
            _ => continue,
        };
        return Readiness::waiting(problem, format!("pod/{name}, container {container}: {message}"));
    }
    if text(object, "/status/phase") == Some("Succeeded")
        || condition(object, "Ready").is_some_and(|c| text(c, "/status") == Some("True"))
    {
        return Readiness::Ready;
    }
    if let Some(ended) = crashed(object) {
        return Readiness::waiting(reason::CRASH_LOOP, format!("pod/{name}, {ended}"));
    }
    if container_fields(object, "state").any(|(_, state)| state.get("running").is_some()) {
        let (why, yet) = if starts(object) { (reason::PROGRESSING, " yet") } else { (reason::NOT_HEALTHY, "") };
        return Readiness::waiting(why, format!("pod/{name} runs, and its health check does not succeed{yet}"));
    }
    Readiness::waiting(reason::PROGRESSING, format!("pod/{name} starts"))
}

/// Whether the startup probe of a container has still to succeed for the first time, and was not given up before.
fn starts(pod: &Value) -> bool {
    let first_try = |(_, restarts): (_, &Value)| restarts.as_i64() == Some(0);
    container_fields(pod, "started").any(|(_, started)| started.as_bool() == Some(false))
        && container_fields(pod, "restartCount").all(first_try)
}

/// A container that ended with a failure, now or the last time: between two tries of a crash loop it looks as if it ran.
fn crashed(pod: &Value) -> Option<String> {
    container_fields(pod, "state").chain(container_fields(pod, "lastState")).find_map(|(container, state)| {
        let terminated = state.get("terminated")?;
        let code = int(terminated, "/exitCode").filter(|code| *code != 0)?;
        let why = text(terminated, "/reason").unwrap_or("Error");
        Some(format!("container {container} ended with exit code {code} ({why})"))
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::objects::kind_of;

    fn told(group: &str, kind: &str, mut object: Value) -> (Reason, String) {
        object["metadata"] = json!({"name": "x", "generation": 2});
        match of(kind_of(group, kind).expect("a known kind"), &object) {
            Readiness::Ready => (reason::READY, String::new()),
            Readiness::Waiting(waiting) => (waiting.reason, waiting.message),
        }
    }

    /// Status of a Deployment of two: generation seen, pods, updated pods, available pods.
    #[rstest]
    #[case::all_are_new_and_serve([2, 2, 2, 2], reason::READY, "")]
    #[case::nobody_has_looked([1, 2, 2, 2], reason::PROGRESSING, "changed just now")]
    #[case::half_are_new([2, 2, 1, 2], reason::PROGRESSING, "1 of 2 pods updated")]
    #[case::the_new_never_serve_and_the_old_do([2, 4, 2, 2], reason::PROGRESSING, "2 to be replaced")]
    #[case::one_does_not_serve([2, 2, 2, 1], reason::PROGRESSING, "1 of 2 pods available")]
    fn a_deployment_is_ready_when_its_new_pods_serve(
        #[case] status: [i64; 4],
        #[case] reason: Reason,
        #[case] words: &str,
    ) {
        let [seen, replicas, updated, available] = status;
        let (found, message) = told(
            "apps",
            "Deployment",
            json!({"spec": {"replicas": 2}, "status": {
                "observedGeneration": seen, "replicas": replicas, "updatedReplicas": updated, "availableReplicas": available,
            }}),
        );
        assert_eq!(found, reason, "{message}");
        assert!(message.contains(words), "{message}");
    }

    /// One container: what it does, whether its startup probe has succeeded, how often it was started again.
    #[rstest]
    #[case::on_its_way(json!({"running": {}}), false, 0, reason::PROGRESSING)]
    #[case::given_up_once(json!({"running": {}}), false, 1, reason::NOT_HEALTHY)]
    #[case::no_longer_well(json!({"running": {}}), true, 0, reason::NOT_HEALTHY)]
    #[case::not_made_yet(json!({"waiting": {"reason": "ContainerCreating"}}), false, 0, reason::PROGRESSING)]
    #[case::without_image(json!({"waiting": {"reason": "ErrImagePull"}}), false, 0, reason::IMAGE_PULL_FAILED)]
    #[case::without_secret(json!({"waiting": {"reason": "CreateContainerConfigError"}}), false, 0, reason::CONTAINER_CONFIG_ERROR)]
    #[case::ended(json!({"terminated": {"exitCode": 1}}), false, 0, reason::CRASH_LOOP)]
    fn a_pod_tells_what_keeps_it(
        #[case] state: Value,
        #[case] started: bool,
        #[case] restarts: i64,
        #[case] reason: Reason,
    ) {
        let status = json!({"name": "api", "state": state, "started": started, "restartCount": restarts});
        let (found, message) = told("", "Pod", json!({"status": {"containerStatuses": [status]}}));
        assert_eq!(found, reason, "{message}");
    }
}
