//! What the cluster holds of the steps of a stack: its Jobs, its records, and the commands of its annotations.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    api::v1alpha1::RorunStack,
    contract::LockOutcome,
    names::{
        COMMANDS, Component, ObjectName, ROLE_CANDIDATE, Waiting, annotation,
        reason::{self, Reason},
    },
    objects::{AckEndpoint, AckNote, CLUSTER, LiveObject, LiveSet, Readiness, Work},
    stack::{
        Clusters, Command, Content, Excuse, Handled, JobPhase, ManagedService, Observed, ObservedJob, ObservedReleases,
        ObservedWorkload, Restorable, Revision, WORKLOADS,
    },
};

/// Reads Jobs, records and commands. Jobs and records are those that this very stack owns: a StatefulSet's revisions carry the
/// labels of its pods, and the Jobs of a CronJob those of the backup.
pub(super) fn observe(cr: &RorunStack, live: &LiveSet, observed: &mut Observed) {
    let uid = cr.metadata.uid.as_deref().unwrap_or_default();
    let owned = |there: &&LiveObject| there.owner.as_ref().is_some_and(|owner| owner.uid == uid);
    observed.jobs = live.iter().filter(owned).filter_map(|there| job(there, live)).collect();
    observed.dump = live
        .of_component("Job", Component::Backup.as_str())
        .find(|job| live.is_running(job))
        .map(|job| job.name.to_string());
    observed.managed = managed(cr, uid, live);
    observed.releases = releases((cr, uid), live, &observed.clusters);
    observed.ingress_address = ingress_address(cr, live);
    observed.handled = live.iter().filter(owned).filter_map(handled).max_by_key(|handled| handled.revision);
    let annotations = cr.metadata.annotations.as_ref();
    let read = |(key, _): &(&String, &String)| key.starts_with(annotation::PREFIX);
    observed.annotations =
        annotations.into_iter().flatten().filter(read).map(|(key, value)| (key.clone(), value.clone())).collect();
}

/// What the objects of other projects that hold data of this stack say of the services that they stand for.
fn managed(cr: &RorunStack, uid: &str, live: &LiveSet) -> BTreeMap<String, ManagedService> {
    let name = cr.metadata.name.as_deref().unwrap_or_default();
    let ours = live.iter().filter(|there| !there.kind.is_core() && there.retained && there.is_data_of(name, uid));
    let address = |found: AckEndpoint| (found.host, found.port);
    let service = |there: &LiveObject| {
        let note: AckNote = there.note.as_deref().and_then(|note| serde_json::from_str(note).ok()).unwrap_or_default();
        ManagedService {
            ready: there.readiness.is_ready() && !there.deleting,
            endpoint: note.endpoint.map(address),
            reader: note.reader.map(address),
            class: note.class,
            engine: note.engine,
            version: note.version,
            storage: note.storage,
            restorable: note.restorable.map(|found| Restorable { until: found.until, asked: found.asked }),
            identity: note.identity,
        }
    };
    ours.map(|there| (there.name.to_string(), service(there))).collect()
}

/// Where the Ingress answers: its controller says so in its status.
fn ingress_address(cr: &RorunStack, live: &LiveSet) -> Option<String> {
    let stack = cr.metadata.name.as_deref().unwrap_or_default();
    let there = live.named("Ingress", ObjectName::of(stack, Component::Ingress).as_str())?;
    there.note.as_deref().map(str::to_owned)
}

fn releases((cr, uid): (&RorunStack, &str), live: &LiveSet, clusters: &Clusters) -> ObservedReleases {
    let owned = |there: &&LiveObject| there.owner.as_ref().is_some_and(|owner| owner.uid == uid);
    let revisions: Vec<_> = live.iter().filter(owned).filter_map(revision).collect();
    let stack = cr.metadata.name.as_deref().unwrap_or_default();
    let deployment = |component| live.named("Deployment", ObjectName::of(stack, component).as_str());
    let content = Content::of(&cr.spec);
    let digests = |component: Component| {
        let digests = content.image(component).map(|image| live.digests(component.as_str(), image)).unwrap_or_default();
        digests.into_iter().map(|digest| digest.map(str::to_owned)).collect()
    };
    let serving = |component| {
        let there = workload(deployment(component)?, live);
        Some((component, ObservedWorkload { digests: digests(component), ..there }))
    };
    let candidate = |component| {
        let name = ObjectName::with_role(stack, component, ROLE_CANDIDATE);
        Some((component, workload(live.named("Deployment", name.as_str())?, live)))
    };
    // Of several Clusters one serves.
    let database = clusters.live_or_first(stack);
    let beside = |there: &LiveObject| there.kind == CLUSTER && *there.name != *database;
    let services = live.iter().filter(|there| {
        there.kind.kind == "StatefulSet" || (there.retained && !there.kind.is_core() && !beside(there))
    });
    let mut down = services.filter_map(|there| match &there.readiness {
        Readiness::Waiting(waiting) => {
            Some(Excuse { component: Component::from_label(there.component), waiting: waiting.clone() })
        }
        Readiness::Ready => None,
    });
    ObservedReleases {
        adoptable: revisions.is_empty()
            && deployment(Component::Api).is_some_and(|there| there.revision.is_none())
            && runs(cr),
        excuse: down.next(),
        workloads: WORKLOADS.into_iter().filter_map(serving).collect(),
        candidates: WORKLOADS.into_iter().filter_map(candidate).collect(),
        configuration: BTreeMap::new(),
        revisions,
    }
}

/// What runs of a Deployment, and what its pods say.
fn workload(there: &LiveObject, live: &LiveSet) -> ObservedWorkload {
    let rolled_out = there.pods.is_some_and(|pods| pods.observed && pods.current);
    let refused = match &there.readiness {
        Readiness::Waiting(waiting) if waiting.reason == reason::PODS_REFUSED => Some(waiting.clone()),
        _ => None,
    };
    let set = there.replica_set.as_deref();
    let is_new = |pod: &LiveObject| set.is_none_or(|set| pod.owner.as_ref().is_some_and(|owner| owner.name == set));
    let pods = || pods_of(live, there).filter(|pod| !pod.deleting && !pod.work.is_over());
    let new: Vec<_> = pods().filter(|pod| is_new(pod)).collect();
    let old = pods().filter(|pod| rolled_out || !is_new(pod)).collect();
    ObservedWorkload {
        revision: there.revision.as_deref().map(str::to_owned),
        rolled_out,
        asleep: there.applied_replicas == Some(0),
        has_pods: pods_of(live, there).next().is_some(),
        digests: BTreeSet::new(),
        trouble: trouble(&new),
        excuse: refused.or_else(|| said_by(&new, &NOT_AT_FAULT)),
        before: none_serves(old),
    }
}

/// What a pod says for which its release is not at fault.
const NOT_AT_FAULT: [Reason; 2] = [reason::UNSCHEDULABLE, reason::IMAGE_PULL_FAILED];
/// What a pod says for which its release is.
const AT_FAULT: [Reason; 3] = [reason::CRASH_LOOP, reason::CONTAINER_CONFIG_ERROR, reason::NOT_HEALTHY];

/// The pods of a Deployment: their names begin with its own.
fn pods_of<'a>(live: &'a LiveSet, deployment: &'a LiveObject) -> impl Iterator<Item = &'a LiveObject> {
    let of = |pod: &&LiveObject| pod.name.strip_prefix(&*deployment.name).is_some_and(|rest| rest.starts_with('-'));
    live.of_component("Pod", deployment.component).filter(of)
}

/// What one of these pods says.
fn said_by(pods: &[&LiveObject], reasons: &[Reason]) -> Option<Waiting> {
    pods.iter().find_map(|pod| match &pod.readiness {
        Readiness::Waiting(waiting) if reasons.contains(&waiting.reason) => Some(waiting.clone()),
        _ => None,
    })
}

/// What one of these pods says for which its release is at fault; of the container that it names as one that ends again and again also its
/// last words.
fn trouble(pods: &[&LiveObject]) -> Option<Waiting> {
    let found = pods.iter().find_map(|pod| Some((pod, said_by(&[pod], &AT_FAULT)?)));
    let (pod, Waiting { reason, message }) = found?;
    let words = pod.note.as_deref().filter(|_| reason == reason::CRASH_LOOP).map(plain);
    let words = words.filter(|words| !words.is_empty());
    let words = words.map(|words| format!("; its last words: {}", short(&words, TOLD_OF_A_POD))).unwrap_or_default();
    Some(Waiting::new(reason, format!("{message}{words}")))
}

/// What the first of these pods says if none of them serves.
fn none_serves(pods: Vec<&LiveObject>) -> Option<Waiting> {
    let said = pods.into_iter().map(|pod| match &pod.readiness {
        Readiness::Waiting(waiting) => Some(waiting.clone()),
        Readiness::Ready => None,
    });
    said.collect::<Option<Vec<_>>>()?.into_iter().next()
}

/// Whether the operator that wrote the status has rolled out the images of the spec as it is now.
fn runs(cr: &RorunStack) -> bool {
    let Some(status) = &cr.status else { return false };
    let content = Content::of(&cr.spec);
    let told = |component: Component| {
        let row = status.components.iter().find(|row| row.name == component.as_str());
        row.and_then(|row| row.image.as_deref())
    };
    WORKLOADS.into_iter().all(|component| told(component) == content.image(component))
}

/// A revision of a release, as [`crate::desired`] writes it.
fn revision(there: &LiveObject) -> Option<Revision> {
    let record = there.record.as_deref()?;
    let content = Content::read(&serde_json::from_str(&record.data).ok()?)?;
    let progress = record.progress.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    Some(Revision { name: there.name.to_string(), number: record.revision, content, progress })
}

/// Whether the Jobs of a component say something that the plan reads, also when they end well.
fn says(component: Component, phase: &JobPhase, begun: Option<bool>) -> bool {
    match component {
        // What keeps its command from running, and what was applied; of what the command itself says nothing is read.
        Component::Migration => {
            let runs = begun.is_none() && *phase == JobPhase::Running;
            runs || begun == Some(false) || *phase == JobPhase::Complete
        }
        Component::Backup | Component::Restore | Component::Sanitize => *phase == JobPhase::Complete,
        // It goes on trying, and says why.
        Component::Preflight => true,
        _ => false,
    }
}

fn job(there: &LiveObject, live: &LiveSet) -> Option<ObservedJob> {
    let component = Component::from_label(there.component).filter(|_| there.kind.kind == "Job")?;
    let newest = live.newest_pod(there);
    let words = newest.and_then(|pod| pod.note.as_deref()).map(str::trim).filter(|words| !words.is_empty());
    let begun = match (there.note.as_deref(), newest.map(|pod| pod.work)) {
        // Its only rule that fails the Job is about the container before the command, in this pod: the plan knows of those before.
        (Some(BY_POLICY), _) if component == Component::Migration => Some(false),
        (_, Some(Work::Running)) => Some(true),
        // Until it has failed the Job may make another pod.
        (Some(_), Some(Work::Unbegun)) => Some(false),
        _ => None,
    };
    let overdue = newest.is_some_and(|pod| pod.work == Work::Overdue) || there.note.as_deref() == Some(TOO_LONG);
    let phase = match &there.readiness {
        Readiness::Ready => JobPhase::Complete,
        Readiness::Waiting(waiting) if waiting.reason == reason::JOB_FAILED => {
            let said = failed(component, words, &waiting.message);
            JobPhase::Failed(match (component, newest.map(|pod| pod.work)) {
                (Component::Migration, Some(Work::Unstartable)) => not_started(&said),
                (Component::Migration, _) => with_its_time(said, begun, overdue),
                _ => said,
            })
        }
        Readiness::Waiting(_) if live.is_running(there) => JobPhase::Running,
        Readiness::Waiting(_) => JobPhase::CannotStart,
    };
    // Only the agent's own words are read.
    let said = words.filter(|_| says(component, &phase, begun)).map(str::to_owned);
    Some(ObservedJob {
        name: there.name.to_string(),
        component,
        created: there.created,
        said,
        begun,
        phase,
        ended: there.since,
    })
}

/// What a Job that failed says of it. `message`: that of its condition; `words`: what its newest pod said.
fn failed(component: Component, words: Option<&str>, message: &str) -> String {
    // The container beside a migration says why it could not keep the lock.
    let outcome = words.and_then(|words| serde_json::from_str::<LockOutcome>(words).ok());
    let words = match &outcome {
        Some(outcome) => outcome.message(),
        None => words,
    };
    let said = words.unwrap_or(message);
    if component == Component::Migration { short(&plain(said), TOLD) } else { said.to_owned() }
}

/// What is told of a migration that failed. `overdue`: it had its time.
fn with_its_time(said: String, begun: Option<bool>, overdue: bool) -> String {
    // No statement goes on of a command that never ran.
    if !overdue || begun == Some(false) {
        return said;
    }
    format!(
        "it did not end within its time, which is api.migrations.timeoutSeconds and two minutes for the lock, and its pod was stopped; a \
         statement of it may go on until the server notices; {said}"
    )
}

/// What is told of a migration whose container could not be started. `said`: the words of the container runtime, which name the command
/// where that is the reason.
fn not_started(said: &str) -> String {
    if !said.contains("exec: ") {
        return format!("its container cannot be started: {said}");
    }
    format!("its command cannot be started: {said}; let api.migrations.command name a program of the image")
}

/// What a command of the user printed, as one line without what is for a terminal: colours, and other control characters.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        match next {
            // A sequence ends with a letter or one of a few marks (ECMA-48, section 5.4).
            '\u{1b}' => {
                if rest.next() == Some('[') {
                    rest.find(|end| ('@'..='~').contains(end));
                }
            }
            other if other.is_control() => plain.push(' '),
            other => plain.push(other),
        }
    }
    without_passwords(&plain.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Programs print the URLs that they cannot use, whose passwords are values of Secrets. More is left out rather than less: a URL ends
/// where a quotation or a word does.
fn without_passwords(text: &str) -> String {
    let mut told = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, url) = rest.split_at(at + 3);
        let end = url.find(|end: char| end.is_whitespace() || "\"'`<>".contains(end)).unwrap_or(url.len());
        let (url, after) = url.split_at(end);
        told.push_str(before);
        match url.rsplit_once('@').and_then(|(login, place)| Some((login.split_once(':')?.0, place))) {
            Some((user, place)) => told.extend([user, ":***@", place]),
            None => told.push_str(url),
        }
        rest = after;
    }
    told.push_str(rest);
    told
}

/// How many bytes of what a command printed are told: a condition has more to say, and is cut off at its end.
const TOLD: usize = 480;
/// The same of a container that ends again and again, after what the kubelet says of it.
const TOLD_OF_A_POD: usize = 240;

/// What is worth telling of a long text. What went wrong comes last, and begins with `Error:` where Prisma or Node.js say it; before it
/// a command may have printed a megabyte.
fn short(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let cut = |at: usize| (0..=at).rev().find(|index| text.is_char_boundary(*index)).unwrap_or(0);
    match cause(text) {
        Some(start) if text.len() - start <= limit => format!("… {}", &text[start..]),
        Some(start) => {
            let before = if start == 0 { "" } else { "… " };
            format!("{before}{}…", &text[start..cut(start + limit)])
        }
        None => format!("…{}", &text[cut(text.len() - limit)..]),
    }
}

/// Where the words about what went wrong begin: the first error of Prisma, whose wrapper says last that it failed, or the last one of
/// another program, with its class.
fn cause(text: &str) -> Option<usize> {
    let errors = || text.match_indices("Error: ").map(|(at, _)| at);
    let of_prisma = |at: &usize| {
        let code = text[at + "Error: ".len()..].strip_prefix('P');
        code.is_some_and(|code| code.starts_with(|first: char| first.is_ascii_digit()))
    };
    let last = || errors().last().map(|at| text[..at].rfind(' ').map_or(0, |space| space + 1));
    errors().find(of_prisma).or_else(last)
}

/// The reasons of a Job's failure: by its `podFailurePolicy`, and by its `activeDeadlineSeconds`, which those of earlier operators had.
const BY_POLICY: &str = "PodFailurePolicy";
const TOO_LONG: &str = "DeadlineExceeded";

/// A record of handled commands, as [`crate::desired`] writes it.
fn handled(there: &LiveObject) -> Option<Handled> {
    let record = there.record.as_deref()?;
    let data: Value = serde_json::from_str(&record.data).ok()?;
    let entries = data.get(COMMANDS)?.as_object()?;
    let command = |entry: &Value| {
        Some(Command { value: entry.get("value")?.as_str()?.to_owned(), count: entry.get("count")?.as_i64()? })
    };
    let commands = entries.iter().filter_map(|(of, entry)| Some((of.clone(), command(entry)?))).collect();
    Some(Handled { revision: record.revision, commands })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::objects::kind_of;

    #[test]
    fn passwords_of_urls_are_not_told() {
        for (said, told) in [
            ("cannot reach redis://u:p@ss/w@h:6379/0, giving up", "cannot reach redis://u:***@h:6379/0, giving up"),
            (
                "Error: \"postgresql://app:secret@db/x?a=b\" https://h/p",
                "Error: \"postgresql://app:***@db/x?a=b\" https://h/p",
            ),
            ("no URL at all: a@b", "no URL at all: a@b"),
            ("s3://bucket/key", "s3://bucket/key"),
        ] {
            assert_eq!(plain(said), told);
        }
    }

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn object((group, kind): (&str, &str), component: &str, name: &str, mut body: Value) -> Arc<LiveObject> {
        body["metadata"] = json!({
            "name": name, "namespace": "n", "uid": name, "creationTimestamp": "1970-01-01T00:01:00Z",
            "labels": {"app.kubernetes.io/instance": "shop", "app.kubernetes.io/component": component},
            "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "shop", "uid": "1", "controller": true}],
        });
        Arc::new(LiveObject::whole(kind_of(group, kind).unwrap(), body).unwrap())
    }

    fn pod(name: &str, image: &str, id: &str, ready: &str) -> Arc<LiveObject> {
        let body = json!({
            "spec": {"containers": [{"name": "api", "image": image}]},
            "status": {"conditions": [{"type": "Ready", "status": ready}],
                "containerStatuses": [{"name": "api", "imageID": id, "restartCount": 0}]},
        });
        object(("", "Pod"), "api", name, body)
    }

    #[test]
    fn what_a_release_is_proven_by_is_read_of_its_pods_and_its_job() {
        let spec = json!({"environment": "Development", "image": {"registry": "r.example"}, "api": {"image": "api:2"}});
        let metadata = json!({"name": "shop", "namespace": "n", "uid": "1"});
        let cr = json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack", "metadata": metadata, "spec": spec});
        let job = json!({"status": {"completionTime": "1970-01-01T00:02:00Z",
            "conditions": [{"type": "Complete", "status": "True"}]}});
        let live: LiveSet = [
            object(("apps", "Deployment"), "api", "shop-api", json!({"spec": {"replicas": 1}})),
            object(("batch", "Job"), "migration", "shop-migration-1", job),
            pod("a", "r.example/api:2", &format!("r.example/api@{DIGEST}"), "True"),
            // Of another release, not ready, or of no registry.
            pod("b", "r.example/api:1", "r.example/api@sha256:1", "True"),
            pod("c", "r.example/api:2", "r.example/api@sha256:2", "False"),
            pod("d", "r.example/api:2", DIGEST, "True"),
        ]
        .into_iter()
        .collect();
        let mut observed = Observed::default();
        observe(&serde_json::from_value(cr).unwrap(), &live, &mut observed);
        let digests = &observed.releases.workloads[&Component::Api].digests;
        assert_eq!(*digests, [None, Some(DIGEST.to_owned())].into());
        let [job] = &*observed.jobs else { panic!("{:?}", observed.jobs) };
        assert_eq!((job.created, job.ended, &job.phase), (60, Some(120), &JobPhase::Complete));
    }

    /// A pod of a `ReplicaSet`, whether it serves, and the phase of one that is over.
    fn of_set(set: &str, name: &str, ready: bool, phase: &str) -> Arc<LiveObject> {
        let state = if ready {
            json!({"running": {}})
        } else {
            json!({"waiting": {"reason": "CrashLoopBackOff", "message": name}})
        };
        let mut body = json!({"status": {"phase": phase,
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
            "containerStatuses": [{"name": "api", "state": state, "containerID": "c", "restartCount": 1}]}});
        body["metadata"] = json!({
            "name": name, "namespace": "n", "uid": name,
            "labels": {"app.kubernetes.io/instance": "shop", "app.kubernetes.io/component": "api"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": set, "uid": set, "controller": true}],
        });
        Arc::new(LiveObject::whole(kind_of("", "Pod").unwrap(), body).unwrap())
    }

    /// What is left of the words of a container is one line, and short, whatever it printed.
    #[test]
    fn the_last_words_of_a_pod_that_crashes_are_told() {
        let pod = |state: &Value, message: &str| {
            let ended = json!({"terminated": {"exitCode": 1, "reason": "Error", "message": message}});
            let body = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}],
                "containerStatuses": [{"name": "api", "state": state, "lastState": ended, "restartCount": 3}]}});
            object(("", "Pod"), "api", "shop-api-1", body)
        };
        let told = |state: &Value, message: &str| trouble(&[&*pod(state, message)]).map(|waiting| waiting.message);
        let waits =
            json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}});
        let what = "pod/shop-api-1, container api: back-off restarting failed container";
        assert_eq!(
            told(&waits, "\u{1b}[31mstarting\u{1b}[0m\nError: MAIL_URL\tis not set\n").as_deref(),
            Some(&*format!("{what}; its last words: starting Error: MAIL_URL is not set"))
        );
        assert_eq!(told(&waits, " \n").as_deref(), Some(what));
        let long = told(&waits, &format!("{} Error: no é", "log ".repeat(500))).unwrap();
        assert!(long.ends_with("… Error: no é") && long.len() < 512, "{long}");
        let long = told(&waits, &"é".repeat(2000)).unwrap();
        assert!(long.len() < 512 && long.contains("; its last words: …é"), "{long}");
        // Between two tries it looks as if it ran, and what is said is that of the try before.
        let runs = told(&json!({"running": {}}), "Error: no").unwrap();
        assert_eq!(runs, "pod/shop-api-1, container api ended with exit code 1 (Error); its last words: Error: no");
    }

    /// The pods of a rollout to `shop-api-2`: of which `ReplicaSet`, whether it serves, its phase. Whose words are the release's, and
    /// whose stop its clock.
    #[rstest::rstest]
    #[case::the_old_one_serves(&[("shop-api-1", true, "Running"), ("shop-api-2", false, "Running")], Some(1), None)]
    #[case::the_old_one_crashes_as_well(&[("shop-api-1", false, "Running"), ("shop-api-2", false, "Running")], Some(1), Some(0))]
    #[case::one_of_two_old_ones_serves(
        &[("shop-api-1", false, "Running"), ("shop-api-1", true, "Running"), ("shop-api-2", false, "Running")], Some(2), None
    )]
    #[case::only_the_old_one_crashes(&[("shop-api-1", false, "Running"), ("shop-api-2", true, "Running")], None, Some(0))]
    #[case::an_old_one_was_evicted(&[("shop-api-1", false, "Failed"), ("shop-api-2", false, "Running")], Some(1), None)]
    #[case::no_old_one_is_left(&[("shop-api-2", false, "Running")], Some(0), None)]
    fn the_words_of_an_old_pod_are_not_those_of_the_release(
        #[case] pods: &[(&str, bool, &str)],
        #[case] trouble: Option<usize>,
        #[case] before: Option<usize>,
    ) {
        let body = json!({"spec": {"replicas": 2}, "status": {"replicas": 3, "updatedReplicas": 1, "conditions": [
            {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated",
                "message": "ReplicaSet \"shop-api-2\" is progressing."}]}});
        let deployment = object(("apps", "Deployment"), "api", "shop-api", body);
        let named = |index: usize| format!("shop-api-{}-{index}", if index == 0 { "a" } else { "b" });
        let made =
            pods.iter().enumerate().map(|(index, (set, ready, phase))| of_set(set, &named(index), *ready, phase));
        let live: LiveSet = made.chain([deployment.clone()]).collect();
        let seen = workload(&deployment, &live);
        let says = |waiting: Option<Waiting>| waiting.map(|waiting| waiting.message);
        let of = |index: Option<usize>| index.map(|index| format!("pod/{0}, container api: {0}", named(index)));
        assert_eq!((says(seen.trouble), says(seen.before)), (of(trouble), of(before)));
        assert!(!seen.rolled_out && seen.excuse.is_none());
    }

    /// The pod of a migration: the last words of its command, of the container that holds the lock, and of the one that waits for it.
    fn migrating(command: &Value, lock: &Value, wait: &Value) -> Arc<LiveObject> {
        migrated(command, lock, wait, &json!({}))
    }

    /// Likewise, with more of its status.
    fn migrated(command: &Value, lock: &Value, wait: &Value, more: &Value) -> Arc<LiveObject> {
        let status = |name: &str, status: &Value| {
            let waiting = || json!({"state": {"waiting": {"reason": "PodInitializing"}}});
            let mut status = if status.is_null() { waiting() } else { status.clone() };
            status["name"] = json!(name);
            status
        };
        let mut pod = json!({"metadata": {}, "status": {
            "containerStatuses": [status("migrate", command)],
            "initContainerStatuses": [status("lock", lock), status("await-lock", wait)],
        }});
        pod["status"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        pod["metadata"] = json!({
            "name": "m-1", "namespace": "n", "uid": "m-1", "creationTimestamp": "1970-01-01T00:01:00Z",
            "labels": {"app.kubernetes.io/instance": "shop", "app.kubernetes.io/component": "migration"},
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "m", "uid": "m", "controller": true}],
        });
        Arc::new(LiveObject::whole(kind_of("", "Pod").unwrap(), pod).unwrap())
    }

    fn said(outcome: &LockOutcome) -> String {
        serde_json::to_string(outcome).unwrap()
    }

    fn ended(code: i32, message: &str) -> Value {
        json!({"state": {"terminated": {"exitCode": code, "message": message}}})
    }

    /// It told who holds the lock, and was started anew.
    fn told_and_waits() -> Value {
        let message = said(&LockOutcome::TimedOut { message: "session 7 holds it".to_owned() });
        json!({"state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1, "message": message}}})
    }

    fn seen(conditions: &Value, pod: Option<Arc<LiveObject>>) -> ObservedJob {
        let job = object(("batch", "Job"), "migration", "m", json!({"status": {"conditions": conditions}}));
        let live: LiveSet = pod.into_iter().chain([job.clone()]).collect();
        super::job(&job, &live).unwrap()
    }

    fn failed_by(reason: &str) -> Value {
        json!([{"type": "Failed", "status": "True", "reason": reason, "message": "the server's words"}])
    }

    #[test]
    fn a_migration_that_waits_for_its_lock_says_so_and_one_that_runs_does_not() {
        let lock = said(&LockOutcome::TimedOut { message: "session 7 holds it".to_owned() });
        let waits =
            seen(&json!([]), Some(migrating(&json!(null), &told_and_waits(), &json!({"state": {"running": {}}}))));
        assert_eq!((waits.phase, waits.begun, waits.said.as_ref()), (JobPhase::Running, None, Some(&lock)));
        let runs = json!({"state": {"running": {}}});
        let runs = seen(&json!([]), Some(migrating(&runs, &told_and_waits(), &ended(0, ""))));
        assert_eq!((runs.phase, runs.begun, runs.said), (JobPhase::Running, Some(true), None));
        let waited = migrating(&json!(null), &told_and_waits(), &ended(75, &lock));
        let waited = seen(&failed_by("PodFailurePolicy"), Some(waited));
        assert_eq!((waited.begun, waited.said.as_ref()), (Some(false), Some(&lock)));
        assert_eq!(waited.phase, JobPhase::Failed("session 7 holds it".to_owned()));
        // Its pod is gone, and the Job still tells.
        let gone = seen(&failed_by("PodFailurePolicy"), None);
        assert_eq!((gone.begun, gone.said), (Some(false), None));
    }

    /// The reason of the Job's failure, what the command said, and what is told.
    #[rstest::rstest]
    #[case::its_own_words("BackoffLimitExceeded", "Error: P3018 \u{fffd}\u{1f600}", "Error: P3018 \u{fffd}\u{1f600}")]
    #[case::colours_and_lines(
        "BackoffLimitExceeded",
        "\u{1b}[31mError:\u{1b}[0m\r\n\tP1001\u{7}\u{0}\n",
        "Error: P1001"
    )]
    #[case::a_sequence_without_an_end("BackoffLimitExceeded", "a \u{1b}[31", "a")]
    #[case::all_that_the_kubelet_keeps("BackoffLimitExceeded", &"\u{1f600}".repeat(512), &["…", &"\u{1f600}".repeat(120)].concat())]
    #[case::much_and_then_its_error("BackoffLimitExceeded", &[&".".repeat(1900), "\nError: P3018\nno"].concat(), "… Error: P3018 no")]
    #[case::an_error_of_a_class("BackoffLimitExceeded", &[&".".repeat(600), "\nTypeError: x"].concat(), "… TypeError: x")]
    #[case::a_wrapper_that_says_so_last(
        "BackoffLimitExceeded",
        &[&".".repeat(600), "\nError: P3018\nno\nError: Command failed: prisma"].concat(),
        "… Error: P3018 no Error: Command failed: prisma"
    )]
    #[case::an_error_that_goes_on("BackoffLimitExceeded", &["Error: ", &"y".repeat(600)].concat(), &["Error: ", &"y".repeat(473), "…"].concat())]
    #[case::no_word("BackoffLimitExceeded", "", "job/m: the server's words")]
    #[case::a_word_that_is_json("BackoffLimitExceeded", "{\"level\":\"error\"}", "{\"level\":\"error\"}")]
    fn the_words_of_a_command_go_before_those_of_the_container_that_held_its_lock(
        #[case] reason: &str,
        #[case] words: &str,
        #[case] told: &str,
    ) {
        let mut lock = told_and_waits();
        lock["state"] = ended(0, &said(&LockOutcome::Released))["state"].take();
        let command =
            if words.is_empty() { json!({"state": {"terminated": {"exitCode": 1}}}) } else { ended(1, words) };
        lock["lastState"] = if words.is_empty() { json!(null) } else { lock["lastState"].take() };
        let failed = seen(&failed_by(reason), Some(migrating(&command, &lock, &ended(0, ""))));
        assert_eq!((failed.phase, failed.begun, failed.said), (JobPhase::Failed(told.to_owned()), None, None));
    }

    /// A pod that had its time, as the kubelet leaves it: whether its command was ever made, and what is told.
    #[rstest::rstest]
    #[case::it_hung(Some("containerd://1"), None, "it did not end within its time, which is")]
    #[case::its_image_never_came(None, Some(false), "job/m: the server's words")]
    fn a_pod_that_had_its_time_tells_whether_its_command_ran(
        #[case] id: Option<&str>,
        #[case] begun: Option<bool>,
        #[case] told: &str,
    ) {
        let lost = json!({"state": {"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown",
            "message": "The container could not be located when the pod was terminated"}}, "containerID": id});
        let over = json!({"phase": "Failed", "reason": "DeadlineExceeded"});
        let released = ended(0, &said(&LockOutcome::Released));
        let pod = migrated(&lost, &released, &ended(0, ""), &over);
        let seen = seen(&failed_by("BackoffLimitExceeded"), Some(pod));
        let JobPhase::Failed(words) = seen.phase else { panic!("it failed") };
        assert_eq!(seen.begun, begun);
        assert!(words.starts_with(told) && words.ends_with("job/m: the server's words"), "{words}");
    }

    #[rstest::rstest]
    #[case::a_command_that_the_image_lacks(
        "exec: \"prisma\": executable file not found in $PATH",
        ("command", "; let api.migrations.command name a program of the image")
    )]
    #[case::a_full_node("mkdir /run/x: no space left on device", ("container", ""))]
    fn a_container_that_cannot_be_started_is_told_with_the_way_out(
        #[case] words: &str,
        #[case] (what, way_out): (&str, &str),
    ) {
        let failed = json!({"state": {"terminated": {"exitCode": 128, "reason": "StartError", "message": words}}});
        let over = json!({"phase": "Failed"});
        let pod = migrated(&failed, &ended(0, &said(&LockOutcome::Released)), &ended(0, ""), &over);
        let seen = seen(&failed_by("BackoffLimitExceeded"), Some(pod));
        let told = format!("its {what} cannot be started: {words}{way_out}");
        assert_eq!((seen.phase, seen.begun), (JobPhase::Failed(told), None), "it counts as run");
    }

    #[test]
    fn a_command_that_hangs_is_told_as_one_that_had_its_time() {
        let JobPhase::Failed(told) = seen(&failed_by("DeadlineExceeded"), None).phase else { panic!("it failed") };
        assert_eq!(
            told,
            "it did not end within its time, which is api.migrations.timeoutSeconds and two minutes for the lock, and its pod was stopped; a statement of it may go on \
             until the server notices; job/m: the server's words"
        );
    }
}
