//! What the Jobs of backups tell: the last run, the newest good backup, and why one failed.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::super::{objectives, trouble};
use crate::{
    api::v1alpha1::{BackupRecord, BackupStatus},
    contract,
    names::{Component as Name, Waiting, reason},
    objects::{LiveObject, LiveSet, Readiness},
    stack::Stack,
};

/// A Job whose pod is refused goes on trying.
pub(in crate::desired) fn has_ended(job: &LiveObject) -> bool {
    let goes_on = |waiting: &Waiting| matches!(waiting.reason, reason::PROGRESSING | reason::PODS_REFUSED);
    !matches!(&job.readiness, Readiness::Waiting(waiting) if goes_on(waiting))
}

/// Why a pod cannot start before a user acts, or why it is refused. Its Job would run until its deadline.
pub(super) fn cannot_start(live: &LiveSet) -> Option<Waiting> {
    const WHY: [reason::Reason; 3] = [reason::IMAGE_PULL_FAILED, reason::CONTAINER_CONFIG_ERROR, reason::UNSCHEDULABLE];
    let pods = live.of_component("Pod", Name::Backup.as_str()).filter(|pod| !pod.deleting);
    let waiting = pods.filter_map(|pod| trouble(pod, 0, live)).find(|waiting| WHY.contains(&waiting.reason));
    waiting.or_else(|| {
        live.of_component("Job", Name::Backup.as_str()).find_map(|job| match &job.readiness {
            Readiness::Waiting(waiting) if waiting.reason == reason::PODS_REFUSED => Some(waiting.clone()),
            _ => None,
        })
    })
}

fn newest<'a>(jobs: impl Iterator<Item = &'a LiveObject>) -> Option<&'a LiveObject> {
    jobs.max_by(|a, b| (&a.created, &a.name).cmp(&(&b.created, &b.name)))
}

pub(super) fn newest_job(live: &LiveSet) -> Option<&LiveObject> {
    newest(live.of_component("Job", Name::Backup.as_str()))
}

/// The newest Job that ended decides; one that runs does not, unless its dump is complete: a container beside it may keep the
/// pod running. `last` is when the newest good backup was complete.
pub(super) fn last_run(last: Option<i64>, live: &LiveSet) -> Readiness {
    let jobs = live.of_component("Job", Name::Backup.as_str());
    let dumped = |job: &LiveObject| says_complete(Some(job), live);
    let Some(job) = newest(jobs.filter(|job| has_ended(job) || dumped(job))) else {
        return Readiness::waiting(reason::NO_BACKUP_YET, "no backup has run yet");
    };
    let Readiness::Waiting(waiting) = &job.readiness else { return Readiness::Ready };
    // A Job that failed for its deadline alone has left a good backup.
    if dumped(job) || last.is_some_and(|last| last >= job.created) {
        return Readiness::Ready;
    }
    let said = failure_of(job, live).map(|said| format!("job/{}: {said}", job.name));
    Readiness::waiting(reason::BACKUP_FAILED, said.unwrap_or_else(|| waiting.message.clone()))
}

/// The newest good backup with the other results of its run, whether a pod still reports it or the status alone.
pub(in crate::desired) fn newest_backup(stack: &Stack, live: &LiveSet) -> BackupStatus {
    let at = |backup: &BackupStatus| backup.last_successful.as_ref().map(|record| record.at.0);
    let known = &stack.known_backup;
    last_backup(live).filter(|told| at(told) >= at(known)).unwrap_or_else(|| known.clone())
}

/// The newest good backup that a pod still reports, with the other results of that run.
pub fn last_backup(live: &LiveSet) -> Option<BackupStatus> {
    let pods = live.of_component("Pod", Name::Backup.as_str());
    let records = pods.filter_map(|pod| match outcome(pod)? {
        contract::DumpOutcome::Complete(record) => Some(record),
        contract::DumpOutcome::Failed { .. } => None,
    });
    let (reused, made): (Vec<_>, Vec<_>) = records.partition(|record| record.reused);
    let mut record = made.into_iter().max_by(|a, b| a.at.cmp(&b.at))?;
    // A run that uses it again copies nothing, and looks whether it is copied.
    let again = reused.into_iter().filter(|again| again.id == record.id).find_map(|again| again.not_copied);
    record.not_copied = record.not_copied.or(again);
    // In whole seconds, as the API server keeps it: with more, the status would be another one after each restart.
    let in_seconds = |at: Timestamp| Time(Timestamp::from_second(at.as_second()).unwrap_or(at));
    let at = in_seconds(record.at);
    let id = record.id.clone();
    let last = BackupRecord {
        id: record.id,
        at,
        size_bytes: record.size_bytes,
        database_bytes: record.database_bytes.and_then(|bytes| i64::try_from(bytes).ok()),
        objects: record.objects.and_then(|count| i64::try_from(count).ok()),
        location: record.location,
        locked_until: record.locked_until.map(in_seconds),
    };
    let done = record.adoption.as_ref().filter(|adoption| adoption.done).map(|adoption| adoption.value.clone());
    Some(BackupStatus {
        last_successful: Some(last),
        shared_with: record.shared_with,
        without_owner: Some(record.without_owner.into()).filter(|count| *count > 0),
        not_removed: record.not_removed,
        adopted: done,
        adoption: record.adoption.map(|adoption| adoption.message),
        not_locked: record.not_locked,
        not_whole: record.not_whole,
        not_copied: record.not_copied,
        objects_not_copied: record.objects_not_copied,
        lock_note: record.lock_note,
        restorable_until: objectives::begun(&id).map(Time),
        ..BackupStatus::default()
    })
}

/// The good recovery points that the last run told of, oldest first, with those that were made since.
pub fn known_points(live: &LiveSet) -> Vec<String> {
    let pods = live.of_component("Pod", Name::Backup.as_str());
    let records = pods.filter_map(|pod| match outcome(pod)? {
        contract::DumpOutcome::Complete(record) => Some(record),
        contract::DumpOutcome::Failed { .. } => None,
    });
    let records: Vec<_> = records.collect();
    let Some(told) = records.iter().filter(|record| !record.points.is_empty()).max_by_key(|record| record.at) else {
        return Vec::new();
    };
    let since = records.iter().filter(|record| record.id > told.id).map(|record| record.id.clone());
    let all: BTreeSet<String> = told.points.iter().cloned().chain(since).collect();
    all.into_iter().collect()
}

/// The result that the agent reported.
fn outcome(pod: &LiveObject) -> Option<contract::DumpOutcome> {
    serde_json::from_str(pod.note.as_deref()?).ok()
}

/// The result that the agent reported in the newest pod of a Job.
fn outcome_of(job: &LiveObject, live: &LiveSet) -> Option<contract::DumpOutcome> {
    let pods = live.of_component("Pod", Name::Backup.as_str());
    let of_job = pods.filter(|pod| pod.owner.as_ref().is_some_and(|owner| *owner.uid == *job.uid));
    outcome(of_job.max_by(|a, b| a.created.cmp(&b.created))?)
}

/// Why the agent says that it failed.
fn failure_of(job: &LiveObject, live: &LiveSet) -> Option<String> {
    match outcome_of(job, live)? {
        contract::DumpOutcome::Failed { message } => Some(message),
        contract::DumpOutcome::Complete(_) => None,
    }
}

/// Whether a pod of a Job says that its dump is complete, whatever became of the pod.
pub(super) fn says_complete(job: Option<&LiveObject>, live: &LiveSet) -> bool {
    job.and_then(|job| outcome_of(job, live))
        .is_some_and(|outcome| matches!(outcome, contract::DumpOutcome::Complete(_)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::objects::kind_of;

    fn pod(name: &str, status: &serde_json::Value) -> Arc<LiveObject> {
        let labels = json!({"app.kubernetes.io/component": "backup", "app.kubernetes.io/instance": "shop"});
        let metadata = json!({"name": name, "namespace": "default", "uid": name, "labels": labels});
        let body = json!({"metadata": metadata, "status": status});
        Arc::new(LiveObject::whole(kind_of("", "Pod").expect("a kind"), body).expect("a pod"))
    }

    #[test]
    fn a_pod_that_cannot_start_is_told_and_one_that_failed_is_not_taken_for_one() {
        let failed = json!({"phase": "Failed", "containerStatuses": [{"name": "dump", "state": {"terminated": {"exitCode": 1}}}]});
        let waiting = json!({"reason": "ImagePullBackOff", "message": "Back-off pulling image \"postgres:0\""});
        let stuck = json!({"phase": "Pending", "containerStatuses": [{"name": "dump", "state": {"waiting": waiting}}]});
        let live: LiveSet = [pod("a", &failed)].into_iter().collect();
        assert_eq!(cannot_start(&live), None);
        let live: LiveSet = [pod("a", &failed), pod("b", &stuck)].into_iter().collect();
        let message = cannot_start(&live).expect("it is told").message;
        assert!(message.contains("pod/b") && message.contains("postgres:0"), "{message}");
    }

    #[test]
    fn the_moment_of_a_backup_is_the_same_when_it_is_read_back() {
        let message = RECORD.replace("02:20:00Z", "02:20:00.362188398Z");
        let ended = json!({"containerStatuses": [{"name": "dump", "state": {"terminated": {"exitCode": 0, "message": message}}}]});
        let live: LiveSet = [pod("a", &ended)].into_iter().collect();
        let told = last_backup(&live).expect("a backup");
        let read: BackupStatus = serde_json::from_value(serde_json::to_value(&told).unwrap()).unwrap();
        assert_eq!(read, told);
    }

    const RECORD: &str = r#"{"complete":{"id":"20261124T021500Z-x7k2p","at":"2026-11-24T02:20:00Z","sizeBytes":7,"sha256":"0","location":"s3://b/k","removed":0}}"#;

    #[test]
    fn the_points_are_those_of_the_newest_run_that_lists_them_and_what_came_since() {
        let said = |id: &str, at: &str, points: &[&str]| {
            let record = json!({"complete": {"id": id, "at": at, "sizeBytes": 7, "sha256": "0", "location": "s3://b/k", "removed": 0,
                "points": points}});
            let ended = json!({"exitCode": 0, "message": record.to_string()});
            pod(id, &json!({"containerStatuses": [{"name": "dump", "state": {"terminated": ended}}]}))
        };
        let pods = [
            said("20261124T0", "2026-11-24T02:20:00Z", &["20261101T0", "20261124T0"]),
            said("20261125T0", "2026-11-25T02:20:00Z", &["20261124T0", "20261125T0"]),
            said("20261126T0", "2026-11-26T02:20:00Z", &[]),
            said("20261120T0", "2026-11-27T02:20:00Z", &[]),
        ];
        assert_eq!(known_points(&pods.into_iter().collect()), ["20261124T0", "20261125T0", "20261126T0"]);
        assert_eq!(known_points(&LiveSet::default()), Vec::<String>::new());
    }

    fn job(name: &str, condition: Option<&str>) -> Arc<LiveObject> {
        let labels = json!({"app.kubernetes.io/component": "backup", "app.kubernetes.io/instance": "shop"});
        let metadata = json!({"name": name, "namespace": "default", "uid": name, "labels": labels,
            "creationTimestamp": "2026-11-24T02:15:00Z"});
        let conditions: Vec<_> = condition
            .iter()
            .map(|kind| json!({"type": kind, "status": "True", "message": "Job was active longer than specified deadline"}))
            .collect();
        let body = json!({"metadata": metadata, "status": {"conditions": conditions}});
        Arc::new(LiveObject::whole(kind_of("batch", "Job").expect("a kind"), body).expect("a job"))
    }

    /// The agent has ended, and what an injector put beside it has not; it may also have ended before, saying something.
    fn pod_of(job: &str, said: &str) -> Arc<LiveObject> {
        let labels = json!({"app.kubernetes.io/component": "backup", "app.kubernetes.io/instance": "shop"});
        let owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": job, "controller": true});
        let metadata = json!({"name": format!("{job}-x"), "namespace": "default", "uid": "p", "labels": labels, "ownerReferences": [owner]});
        let status = json!({"phase": "Running", "containerStatuses": [
            {"name": "mesh", "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1, "message": "no route"}}},
            {"name": "dump", "state": {"terminated": {"exitCode": 0, "message": said}}},
            {"name": "another", "state": {"terminated": {"exitCode": 0, "message": "bye"}}},
        ]});
        let body = json!({"metadata": metadata, "status": status});
        Arc::new(LiveObject::whole(kind_of("", "Pod").expect("a kind"), body).expect("a pod"))
    }

    #[test]
    fn a_dump_that_is_complete_counts_whatever_keeps_its_pod() {
        for condition in [None, Some("Failed")] {
            let live: LiveSet = [job("a", condition), pod_of("a", RECORD)].into_iter().collect();
            assert_eq!(last_run(None, &live), Readiness::Ready, "{condition:?}");
            let told = last_backup(&live).and_then(|backup| backup.last_successful).expect("a backup");
            assert_eq!(told.id, "20261124T021500Z-x7k2p");
        }
        let failed = r#"{"failed":{"message":"no such host"}}"#;
        let live: LiveSet = [job("a", Some("Failed")), pod_of("a", failed)].into_iter().collect();
        let Readiness::Waiting(waiting) = last_run(None, &live) else { panic!("a failed dump is told") };
        assert_eq!((waiting.reason, &*waiting.message), (reason::BACKUP_FAILED, "job/a: no such host"));
        let live: LiveSet = [job("a", None), pod_of("a", "starting")].into_iter().collect();
        let Readiness::Waiting(waiting) = last_run(None, &live) else { panic!("it runs") };
        assert_eq!(waiting.reason, reason::NO_BACKUP_YET);
    }
}
