//! Whether the work of a pod goes on, and how it ended if not.

use serde_json::Value;

use super::{
    ObjectKind, at,
    readiness::{int, text},
};

/// Whether a container of a pod runs that is none of its init containers, how it ended if not, and whether a Job ever gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// None does, or the object is no pod.
    Idle,
    /// One does: what the pod is for goes on, whatever a container beside it waits for.
    Running,
    /// The pod has failed, and is not started again.
    Failed,
    /// Likewise, and a container that is none of its init containers could not be started: its image has no such program, say.
    Unstartable,
    /// The pod has failed since it had its time, the `activeDeadlineSeconds` of the pod.
    Overdue,
    /// Likewise, and no such container was ever made until then: the kubelet tells the ID of every container that it has made.
    Unbegun,
    /// The Job tries until it succeeds: nobody waits for its end, and it may be ended at any time.
    Trying,
}

impl Work {
    /// Whether a pod has failed and stays so: another one may be made instead.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Failed | Self::Unstartable | Self::Overdue | Self::Unbegun)
    }
}

/// The reason that containerd gives a container whose program it could not start.
const NOT_STARTED: &str = "StartError";

/// Whether the work of a pod goes on.
pub(super) fn work(kind: &ObjectKind, object: &Value) -> Work {
    if kind.kind == "Job" && int(object, "/spec/backoffLimit") == Some(i32::MAX.into()) {
        return Work::Trying;
    }
    if kind.kind != "Pod" {
        return Work::Idle;
    }
    let containers = || at(object, "/status/containerStatuses").and_then(Value::as_array).into_iter().flatten();
    if containers().any(|status| at(status, "/state/running").is_some()) {
        return Work::Running;
    }
    // A moment before its pod has failed, a container that is not started again has.
    let failed = |status| int(status, "/state/terminated/exitCode").is_some_and(|code| code != 0);
    let ended = text(object, "/spec/restartPolicy") == Some("Never")
        && containers().any(failed)
        && containers().all(|status| at(status, "/state/terminated").is_some());
    if text(object, "/status/phase") != Some("Failed") && !ended {
        return Work::Idle;
    }
    if text(object, "/status/reason") != Some("DeadlineExceeded") {
        let unstartable = containers().any(|status| text(status, "/state/terminated/reason") == Some(NOT_STARTED));
        return if unstartable { Work::Unstartable } else { Work::Failed };
    }
    // A pod that tells nothing of its containers tells nothing of what they did.
    let told = containers().next().is_some();
    if told && !containers().any(was_made) { Work::Unbegun } else { Work::Overdue }
}

/// Whether a container was ever made. Of one that the kubelet lost it still tells the ID (source: its `TerminatePod`).
fn was_made(status: &Value) -> bool {
    text(status, "/containerID").is_some_and(|id| !id.is_empty())
        || int(status, "/restartCount").is_some_and(|count| count > 0)
        || at(status, "/lastState/terminated").is_some()
        || at(status, "/state/terminated/startedAt").is_some_and(|at| !at.is_null())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::objects::kind_of;

    #[rstest]
    #[case::gives_up("Job", 6, Work::Idle)]
    #[case::never_gives_up("Job", i32::MAX, Work::Trying)]
    #[case::no_job("CronJob", i32::MAX, Work::Idle)]
    fn a_job_that_never_gives_up_is_known(#[case] kind: &str, #[case] limit: i32, #[case] expected: Work) {
        let job = json!({"spec": {"backoffLimit": limit}});
        assert_eq!(work(kind_of("batch", kind).unwrap(), &job), expected);
    }

    /// Of a pod that ended: its reason, and its two containers.
    #[rstest]
    #[case::it_waited_for_its_lock("DeadlineExceeded", &[json!({"waiting": {"reason": "PodInitializing"}})], None, Work::Unbegun)]
    #[case::its_image_never_came("DeadlineExceeded", &[lost()], None, Work::Unbegun)]
    #[case::it_ran_and_was_lost("DeadlineExceeded", &[lost()], Some("containerd://1"), Work::Overdue)]
    #[case::it_had_its_time("DeadlineExceeded", &[json!({"terminated": {"exitCode": 137}})], Some("containerd://1"), Work::Overdue)]
    #[case::one_of_two_was_made("DeadlineExceeded", &[lost(), json!({"terminated": {"startedAt": "2026-11-24T02:15:00Z"}})], None, Work::Overdue)]
    #[case::nothing_is_told("DeadlineExceeded", &[], None, Work::Overdue)]
    #[case::what_came_before_failed("", &[json!({"waiting": {"reason": "PodInitializing"}})], None, Work::Failed)]
    #[case::its_program_is_not_there("", &[json!({"terminated": {"exitCode": 128, "reason": "StartError"}})], Some("containerd://1"), Work::Unstartable)]
    #[case::it_failed("", &[json!({"terminated": {"exitCode": 1}})], Some("containerd://1"), Work::Failed)]
    fn a_pod_that_ended_tells_whether_its_work_began(
        #[case] reason: &str,
        #[case] states: &[Value],
        #[case] id: Option<&str>,
        #[case] expected: Work,
    ) {
        let status = |state: &Value| json!({"name": "c", "state": state, "containerID": id, "restartCount": 0});
        let statuses: Vec<_> = states.iter().map(status).collect();
        let mut pod = json!({"status": {"phase": "Failed", "reason": reason, "containerStatuses": statuses}});
        assert_eq!(work(kind_of("", "Pod").unwrap(), &pod), expected);
        pod["status"]["phase"] = json!("Pending");
        assert_eq!(work(kind_of("", "Pod").unwrap(), &pod), Work::Idle, "it may begin");
    }

    #[rstest]
    #[case::never("Never", 1, Work::Failed)]
    #[case::it_ended_well("Never", 0, Work::Idle)]
    #[case::it_is_started_again("Always", 1, Work::Idle)]
    fn a_pod_whose_container_failed_for_good_fails_in_a_moment(
        #[case] restarts: &str,
        #[case] code: i32,
        #[case] expected: Work,
    ) {
        let statuses = json!([{"name": "c", "state": {"terminated": {"exitCode": code}}}]);
        let status = json!({"phase": "Running", "containerStatuses": statuses});
        let pod = json!({"spec": {"restartPolicy": restarts}, "status": status});
        assert_eq!(work(kind_of("", "Pod").unwrap(), &pod), expected);
    }

    /// What the kubelet writes of a container that it does not find when its pod ends.
    fn lost() -> Value {
        json!({"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown", "startedAt": null}})
    }
}
