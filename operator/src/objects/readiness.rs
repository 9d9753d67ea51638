//! Whether an object is ready, by the rules of its kind (sources: `kubectl rollout status`, kstatus).

use jiff::Timestamp;
use serde_json::Value;

use super::{LiveObject, ObjectKey, ObjectKind, ack_status, at, barman_cloud, last_words};
use crate::names::{
    LIVE_CLUSTER, Waiting,
    reason::{self, Reason},
};

/// Ready, or what it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The object serves.
    Ready,
    /// The object does not serve yet, or no longer.
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

/// The state of a workload that was applied, before its controller has observed the change. It is the same after the write and
/// after its watch event, so that the status is written once.
pub fn rollout_begins(key: &ObjectKey) -> Waiting {
    Waiting::new(reason::PROGRESSING, format!("{key} was changed just now"))
}

/// The state of an object that is being deleted. A claim exists as long as a pod uses it, and with it its data.
pub fn terminating(there: &LiveObject) -> Waiting {
    let key = there.key();
    if there.kind.kind != "PersistentVolumeClaim" {
        let message = format!("{key} is being deleted, and is made again when it is gone");
        return Waiting::new(reason::TERMINATING, message);
    }
    let keep = there.note.as_deref().map(|volume| {
        let patch = r#"{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}"#;
        format!(", or keep the volume itself with: kubectl patch persistentvolume {volume} --patch '{patch}'")
    });
    let keep = keep.unwrap_or_default();
    let message = format!(
        "{key} is being deleted, which nobody can take back: its data are gone when its pod stops, and it is made again, \
         empty; until then the pod is left as it is: copy the data{keep}; then delete the pod"
    );
    Waiting::new(reason::VOLUME_TERMINATING, message)
}

/// Counts of a workload's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pods {
    /// The number of desired pods.
    pub wanted: i32,
    /// The number of ready pods.
    pub ready: i32,
    /// The number of existing pods, whatever their state.
    pub made: i32,
    /// Whether their controller has observed the current spec.
    pub observed: bool,
    /// Whether the template as it is was rolled out: if pods are missing then, they are added by an autoscaler or moved.
    pub current: bool,
}

/// When a CronJob fires, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fires {
    /// When it did last.
    pub last: Option<i64>,
    /// When a Job of it was last complete.
    pub succeeded: Option<i64>,
    /// Since when it could: it was made, or changed by this operator, or is no longer suspended. `None`: it is suspended.
    pub counted_from: Option<i64>,
}

/// Of a kind that is ready as soon as it exists.
pub(super) fn exists(_: &Value) -> Readiness {
    Readiness::Ready
}

/// The counts of a workload.
pub(super) fn pods(kind: &ObjectKind, object: &Value) -> Option<Pods> {
    if !matches!(kind.kind, "Deployment" | "StatefulSet") {
        return None;
    }
    let count = |path| narrow(int(object, path).unwrap_or(0));
    let current =
        if kind.kind == "Deployment" { is_rolled_out(object) } else { observed(object) && !is_updating(object) };
    Some(Pods {
        wanted: narrow(int(object, "/spec/replicas").unwrap_or(1)),
        ready: count("/status/readyReplicas"),
        made: count("/status/replicas"),
        observed: observed(object),
        current,
    })
}

/// When a CronJob fires. `changed`: when this operator last changed it.
pub(super) fn fires(kind: &ObjectKind, object: &Value, changed: Option<i64>) -> Option<Fires> {
    (kind.kind == "CronJob").then(|| Fires {
        last: moment(object, "/status/lastScheduleTime"),
        succeeded: moment(object, "/status/lastSuccessfulTime"),
        counted_from: changed.filter(|_| at(object, "/spec/suspend").and_then(Value::as_bool) != Some(true)),
    })
}

/// Since when an object is in a state that may end by itself soon.
pub(super) fn since(kind: &ObjectKind, object: &Value) -> Option<i64> {
    let turned = |kind| condition(object, kind).and_then(|condition| moment(condition, "/lastTransitionTime"));
    match kind.kind {
        "HorizontalPodAutoscaler" => turned("ScalingActive"),
        "Job" => moment(object, "/status/completionTime").or_else(|| turned("Failed")),
        "Pod" => match pod(object) {
            Readiness::Ready => turned("Ready"),
            Readiness::Waiting(waiting) if waiting.reason == reason::UNSCHEDULABLE => turned("PodScheduled"),
            // One that was started again has had its time.
            Readiness::Waiting(waiting) if waiting.reason == reason::NOT_HEALTHY && is_first_try(object) => {
                container_fields(object, "state").filter_map(|(_, state)| moment(state, "/running/startedAt")).max()
            }
            Readiness::Waiting(_) => None,
        },
        _ => None,
    }
}

/// The part of an object's status that a decision needs beside its readiness, by its kind.
pub(super) fn note(kind: &ObjectKind, object: &Value) -> Option<Box<str>> {
    match kind.kind {
        "Deployment" => refusal(object).map(Into::into),
        "HorizontalPodAutoscaler" => {
            let active = condition(object, "ScalingActive").filter(|c| text(c, "/status") == Some("False"))?;
            // At 0 pods it is disabled, which the state of the Deployment says.
            let off = text(active, "/reason") == Some("ScalingDisabled");
            text(active, "/message").filter(|_| !off).map(Into::into)
        }
        "Ingress" => {
            let first = at(object, "/status/loadBalancer/ingress").and_then(|list| list.get(0))?;
            text(first, "/ip").or_else(|| text(first, "/hostname")).map(Into::into)
        }
        "PersistentVolumeClaim" => text(object, "/spec/volumeName").map(Into::into),
        // The one that names the live Cluster of a database.
        "ConfigMap" => {
            at(object, "/data").filter(|data| data.get(LIVE_CLUSTER).is_some()).map(|data| data.to_string().into())
        }
        "Pod" => last_words::said(object).map(Into::into),
        "Job" => {
            let failed = condition(object, "Failed").filter(|c| text(c, "/status") == Some("True"))?;
            text(failed, "/reason").map(Into::into)
        }
        _ => ack_status::note(kind, object).or_else(|| barman_cloud::note(kind, object)),
    }
}

fn narrow(count: i64) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

pub(super) fn int(object: &Value, path: &str) -> Option<i64> {
    at(object, path).and_then(Value::as_i64)
}

pub(super) fn text<'a>(object: &'a Value, path: &str) -> Option<&'a str> {
    at(object, path).and_then(Value::as_str)
}

pub(super) fn moment(object: &Value, path: &str) -> Option<i64> {
    text(object, path)?.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

pub(super) fn name(object: &Value) -> &str {
    text(object, "/metadata/name").unwrap_or_default()
}

pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let list = at(object, "/status/conditions")?.as_array()?;
    list.iter().find(|condition| condition.get("type").and_then(Value::as_str) == Some(kind))
}

fn observed(object: &Value) -> bool {
    int(object, "/status/observedGeneration").unwrap_or(0) >= int(object, "/metadata/generation").unwrap_or(0)
}

pub(super) fn deployment(object: &Value) -> Readiness {
    let name = name(object);
    let wanted = int(object, "/spec/replicas").unwrap_or(1);
    let status = |field: &str| int(object, &format!("/status/{field}")).unwrap_or(0);
    let rolled_out = is_rolled_out(object);
    if let Some(said) = refusal(object).filter(|_| observed(object) && !rolled_out) {
        return Readiness::Waiting(pods_refused(&ObjectKey { kind: "Deployment", name: name.to_owned() }, said));
    }
    if let Some(progressing) = condition(object, "Progressing")
        && text(progressing, "/reason") == Some("ProgressDeadlineExceeded")
        && observed(object)
    {
        return Readiness::waiting(
            reason::ROLLOUT_STUCK,
            format!("deployment/{name} made no progress within its deadline"),
        );
    }
    if !observed(object) {
        return Readiness::Waiting(rollout_begins(&ObjectKey { kind: "Deployment", name: name.to_owned() }));
    }
    if rolled_out {
        return Readiness::Ready;
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

/// Whether the current template was rolled out, by the rules of `kubectl rollout status`. It stays so until the template changes,
/// however many pods there are: the Deployment's controller keeps this reason while it only adds and removes pods.
fn is_rolled_out(object: &Value) -> bool {
    let status = |field: &str| int(object, &format!("/status/{field}")).unwrap_or(0);
    let wanted = int(object, "/spec/replicas").unwrap_or(1);
    let (replicas, updated) = (status("replicas"), status("updatedReplicas"));
    let reason = condition(object, "Progressing").and_then(|progressing| text(progressing, "/reason"));
    let complete = updated >= wanted && status("availableReplicas") >= wanted;
    observed(object) && replicas == updated && (complete || reason == Some("NewReplicaSetAvailable"))
}

/// The `ReplicaSet` of the current template, in the words of the Deployment's controller: its condition names it between quotes. `None`: it
/// says nothing of it, or has not seen the template yet.
pub(super) fn replica_set(kind: &ObjectKind, object: &Value) -> Option<Box<str>> {
    let progressing = condition(object, "Progressing").filter(|_| kind.kind == "Deployment" && observed(object))?;
    let named = text(progressing, "/message")?.split('"').nth(1)?;
    let is_own = named.strip_prefix(name(object)).is_some_and(|rest| rest.starts_with('-'));
    is_own.then(|| named.into())
}

/// Why the API server refuses the pods of a Deployment.
fn refusal(object: &Value) -> Option<&str> {
    let failure = condition(object, "ReplicaFailure").filter(|c| text(c, "/status") == Some("True"))?;
    text(failure, "/message")
}

/// The state of a workload whose pods the API server refuses, in the server's words without the name of the pod, which is another
/// in each attempt.
pub fn pods_refused(key: &ObjectKey, said: &str) -> Waiting {
    let words = ["is forbidden: ", "is invalid: "].into_iter().find_map(|mark| Some(said.split_once(mark)?.1));
    Waiting::new(reason::PODS_REFUSED, format!("the pods of {key} are refused: {}", words.unwrap_or(said).trim()))
}

fn is_updating(object: &Value) -> bool {
    let wanted = int(object, "/spec/replicas").unwrap_or(1);
    text(object, "/status/updateRevision") != text(object, "/status/currentRevision")
        && int(object, "/status/updatedReplicas").unwrap_or(0) < wanted
}

pub(super) fn stateful_set(object: &Value) -> Readiness {
    let name = name(object);
    let wanted = int(object, "/spec/replicas").unwrap_or(1);
    let ready = int(object, "/status/readyReplicas").unwrap_or(0);
    if !observed(object) {
        return Readiness::Waiting(rollout_begins(&ObjectKey { kind: "StatefulSet", name: name.to_owned() }));
    }
    if ready >= wanted && !is_updating(object) {
        return Readiness::Ready;
    }
    Readiness::waiting(reason::PROGRESSING, format!("statefulset/{name}: {ready} of {wanted} pods ready"))
}

/// A claim that waits for its first consumer is as it should be: only a lost one is a problem.
pub(super) fn volume(object: &Value) -> Readiness {
    match text(object, "/status/phase") {
        Some("Lost") => Readiness::waiting(
            reason::VOLUME_PENDING,
            format!("persistentvolumeclaim/{} lost its volume", name(object)),
        ),
        _ => Readiness::Ready,
    }
}

pub(super) fn job(object: &Value) -> Readiness {
    let name = name(object);
    if let Some(failed) = condition(object, "Failed").filter(|c| text(c, "/status") == Some("True")) {
        let message = text(failed, "/message").unwrap_or("it failed");
        return Readiness::waiting(reason::JOB_FAILED, format!("job/{name}: {message}"));
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
pub(super) fn pod(object: &Value) -> Readiness {
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
            "CrashLoopBackOff" => {
                let ended = crashed(object).unwrap_or_else(|| format!("container {container}: {message}"));
                return Readiness::waiting(reason::CRASH_LOOP, format!("pod/{name}, {ended}"));
            }
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
    container_fields(pod, "started").any(|(_, started)| started.as_bool() == Some(false)) && is_first_try(pod)
}

/// Whether no container was started again.
fn is_first_try(pod: &Value) -> bool {
    container_fields(pod, "restartCount").all(|(_, restarts)| restarts.as_i64() == Some(0))
}

/// What is told of the container that failed.
fn crashed(pod: &Value) -> Option<String> {
    let status = last_words::failed(pod)?;
    let container = text(status, "/name").unwrap_or_default();
    if last_words::is_in_a_loop(status) {
        let message = text(status, "/state/waiting/message").unwrap_or_default();
        return Some(format!("container {container}: {message}"));
    }
    let terminated = ["/state/terminated", "/lastState/terminated"].into_iter().filter_map(|field| at(status, field));
    let (code, ended) =
        terminated.filter_map(|ended| Some((int(ended, "/exitCode")?, ended))).find(|ended| ended.0 != 0)?;
    let why = text(ended, "/reason").unwrap_or("Error");
    Some(format!("container {container} ended with exit code {code} ({why})"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::objects::kind_of;

    fn told(group: &str, kind: &str, mut object: Value) -> (Reason, String) {
        object["metadata"] = json!({"name": "x", "generation": 2});
        match (kind_of(group, kind).expect("a known kind").readiness)(&object) {
            Readiness::Ready => (reason::READY, String::new()),
            Readiness::Waiting(waiting) => (waiting.reason, waiting.message),
        }
    }

    /// Status of a Deployment of two: generation observed, pods, updated pods, available pods.
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
        let [observed, replicas, updated, available] = status;
        let (found, message) = told(
            "apps",
            "Deployment",
            json!({"spec": {"replicas": 2}, "status": {
                "observedGeneration": observed, "replicas": replicas, "updatedReplicas": updated, "availableReplicas": available,
            }}),
        );
        assert_eq!(found, reason, "{message}");
        assert!(message.contains(words), "{message}");
    }

    fn deployment_of(wanted: i64, [replicas, updated, ready]: [i64; 3], told: &str) -> Value {
        json!({"metadata": {"name": "x", "generation": 2}, "spec": {"replicas": wanted}, "status": {
            "observedGeneration": 2, "replicas": replicas, "updatedReplicas": updated, "readyReplicas": ready,
            "availableReplicas": ready, "conditions": [{"type": "Progressing", "status": "True", "reason": told}],
        }})
    }

    /// Pods wanted; pods there, of the newest template, ready; what the Deployment says of its rollout.
    #[rstest]
    #[case::an_autoscaler_adds(5, [3, 3, 2], "NewReplicaSetAvailable", true)]
    #[case::a_pod_moves(2, [2, 2, 1], "NewReplicaSetAvailable", true)]
    #[case::the_first_rollout(2, [2, 2, 1], "ReplicaSetUpdated", false)]
    #[case::a_new_template(2, [2, 0, 2], "NewReplicaSetAvailable", false)]
    #[case::a_template_of_before(2, [3, 1, 3], "FoundNewReplicaSet", false)]
    #[case::none_wanted(0, [0, 0, 0], "NewReplicaSetAvailable", true)]
    fn what_was_rolled_out_stays_so_however_many_pods_there_are(
        #[case] wanted: i64,
        #[case] counts: [i64; 3],
        #[case] told: &str,
        #[case] current: bool,
    ) {
        let object = deployment_of(wanted, counts, told);
        assert_eq!(deployment(&object).is_ready(), current);
        let pods = pods(kind_of("apps", "Deployment").unwrap(), &object).unwrap();
        assert_eq!((pods.current, i64::from(pods.ready), i64::from(pods.made)), (current, counts[2], counts[0]));
    }

    /// What a Deployment says of its rollout, and the `ReplicaSet` of its template.
    #[rstest]
    #[case::created("Created new replica set \"x-5d4f\"", Some("x-5d4f"))]
    #[case::on_its_way("ReplicaSet \"x-5d4f\" is progressing.", Some("x-5d4f"))]
    #[case::too_late("ReplicaSet \"x-5d4f\" has timed out progressing.", Some("x-5d4f"))]
    #[case::none_yet("Deployment \"x\" is progressing.", None)]
    #[case::something_else("it rolls out", None)]
    fn a_deployment_names_the_replica_set_of_its_template(#[case] message: &str, #[case] set: Option<&str>) {
        let mut object = deployment_of(2, [2, 1, 1], "ReplicaSetUpdated");
        object["status"]["conditions"][0]["message"] = json!(message);
        let deployment = kind_of("apps", "Deployment").unwrap();
        assert_eq!(replica_set(deployment, &object).as_deref(), set);
        object["metadata"]["generation"] = json!(3);
        assert_eq!(replica_set(deployment, &object), None, "it has not seen the template");
    }

    #[test]
    fn refused_pods_are_told_in_the_words_of_the_server_without_the_name_of_one() {
        let said =
            "pods \"x-7d9f-abcde\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2";
        let mut object = deployment_of(2, [1, 1, 1], "ReplicaSetUpdated");
        let failure = json!({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": said});
        object["status"]["conditions"].as_array_mut().unwrap().push(failure);
        let Readiness::Waiting(waiting) = deployment(&object) else { panic!("it is ready") };
        assert_eq!(waiting.reason, reason::PODS_REFUSED);
        insta::assert_snapshot!(waiting.message, @"the pods of deployment/x are refused: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2");
        // A scale-up that is refused leaves what was rolled out as it is, and is noted.
        let mut scaled = object;
        scaled["status"]["conditions"][0]["reason"] = json!("NewReplicaSetAvailable");
        assert_eq!(deployment(&scaled), Readiness::Ready);
        assert!(note(kind_of("apps", "Deployment").unwrap(), &scaled).unwrap().contains("exceeded quota"));
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
