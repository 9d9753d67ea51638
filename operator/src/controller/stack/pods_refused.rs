//! Why the API server refuses the pods of a StatefulSet or Job. Neither has a condition for it, as a Deployment has, so the operator
//! reads their Events: only while pods are missing, and less and less often.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::{api::core::v1::Event, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{Api, api::ListParams};
use tokio::time::timeout;
use tracing::debug;

use super::Context;
use crate::{
    api::v1alpha1::RorunStack,
    apply::WRITE_LIMIT,
    names::{Waiting, reason},
    objects::{LiveObject, LiveSet, Readiness, pods_refused},
    runtime::ResourceKey,
};

/// How long pods are missing before their Events are read, and then how long until they are read again.
const AFTER: [Duration; 5] = [
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(30),
    Duration::from_mins(1),
    Duration::from_mins(5),
];
/// How old an Event may be, in seconds: the controllers try again every 17 minutes at least, and the Event is counted anew.
const RECENT: i64 = 20 * 60;

/// The workloads of a stack that miss pods, by uid.
pub(super) type Workloads = HashMap<Box<str>, Missing>;

/// A workload that misses pods.
pub(super) struct Missing {
    /// When the pods were missing first, or the Events were read last.
    since: Instant,
    /// How often the Events were read.
    times: usize,
    /// The refusal of the API server.
    refused: Option<Waiting>,
}

impl Missing {
    /// How long until its Events are read.
    fn left(&self) -> Duration {
        AFTER[self.times.min(AFTER.len() - 1)].saturating_sub(self.since.elapsed())
    }
}

/// Adds the refusal to the readiness of the workloads that miss pods.
pub(super) async fn observe(context: &Context, cr: &RorunStack, key: &ResourceKey, mut live: LiveSet) -> LiveSet {
    let missing: Vec<LiveObject> = live.iter().filter(|there| misses_pods(there, &live)).cloned().collect();
    let due = note(context, cr, key, &missing);
    for workload in missing.iter().filter(|workload| due.contains(&workload.uid)) {
        let refused = read(context, workload).await.map(|message| pods_refused(&workload.key(), &message));
        let mut memory = context.memory();
        let Some(noted) = memory.missing.get_mut(key).and_then(|of| of.get_mut(&workload.uid)) else { continue };
        *noted = Missing { since: Instant::now(), times: noted.times + 1, refused };
    }
    let now = super::observe::now().as_second();
    let memory = context.memory();
    let Some(noted) = memory.missing.get(key) else { return live };
    for mut workload in missing {
        if let Some(refused) = noted.get(&workload.uid).and_then(|missing| missing.refused.clone()) {
            workload.readiness = Readiness::Waiting(refused);
            live.put(Arc::new(workload));
        }
    }
    if let Some(left) = noted.values().map(Missing::left).min() {
        // The next reconcile is due when this time has passed.
        let left = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
        live.has_passed(now.saturating_add(left).saturating_add(1));
    }
    live
}

/// Whether the controller of a workload has observed it, and pods are missing all the same.
fn misses_pods(there: &LiveObject, live: &LiveSet) -> bool {
    let under_way = matches!(&there.readiness, Readiness::Waiting(waiting) if waiting.reason == reason::PROGRESSING);
    let is_of = |pod: &LiveObject| pod.owner.as_ref().is_some_and(|owner| *owner.uid == *there.uid);
    match there.kind.kind {
        _ if there.deleting || !under_way => false,
        "StatefulSet" => there.pods.is_some_and(|pods| pods.observed && pods.made < pods.wanted),
        "Job" => !live.iter().any(|other| other.kind.kind == "Pod" && is_of(other)),
        _ => false,
    }
}

/// Notes which workloads miss pods, and returns those whose Events are to be read.
fn note(context: &Context, cr: &RorunStack, key: &ResourceKey, missing: &[LiveObject]) -> Vec<Box<str>> {
    let conditions = context.runtime.statuses.last(cr).map(|status| status.conditions).unwrap_or_default();
    let mut memory = context.memory();
    if missing.is_empty() {
        memory.missing.remove(key);
        return Vec::new();
    }
    let noted = memory.missing.entry(key.clone()).or_default();
    noted.retain(|uid, _| missing.iter().any(|workload| workload.uid == *uid));
    for workload in missing {
        // The status counts until the Events are read, so that a restart changes no condition.
        let new = || Missing { since: Instant::now(), times: 0, refused: known(&conditions, workload) };
        noted.entry(workload.uid.clone()).or_insert_with(new);
    }
    noted.iter().filter(|(_, missing)| missing.left().is_zero()).map(|(uid, _)| uid.clone()).collect()
}

/// The refusal of a workload's pods in the conditions.
fn known(conditions: &[Condition], workload: &LiveObject) -> Option<Waiting> {
    let begins = pods_refused(&workload.key(), "").message;
    let messages = conditions.iter().map(|condition| condition.message.as_str());
    let of_component = messages.filter_map(|message| Some(&message[message.find(&begins)?..]));
    // `Ready` adds what to do.
    let shortest = of_component.min_by_key(|message| message.len())?;
    Some(Waiting::new(reason::PODS_REFUSED, shortest))
}

/// The message of the newest Event of a workload. `None`: there is none, or the operator may not read Events.
async fn read(context: &Context, workload: &LiveObject) -> Option<String> {
    let api = Api::<Event>::namespaced(context.runtime.client.clone(), &workload.namespace);
    let of = format!("involvedObject.uid={},reason=FailedCreate", workload.uid);
    let params = ListParams::default().fields(&of);
    let events = match timeout(WRITE_LIMIT, api.list(&params)).await {
        Ok(Ok(events)) => events.items,
        Ok(Err(error)) => {
            debug!(%error, workload = %workload.key(), "failed to read why pods are missing");
            return None;
        }
        Err(_) => return None,
    };
    let oldest = super::observe::now().as_second() - RECENT;
    let messages = events.into_iter().filter_map(|event| Some((at(&event)?, event.message?)));
    messages.filter(|(at, _)| *at >= oldest).max_by_key(|(at, _)| *at).map(|(_, message)| message)
}

/// When the Event was last counted.
fn at(event: &Event) -> Option<i64> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    let of_time = series.or(event.event_time.as_ref()).map(|time| time.0.as_second());
    event.last_timestamp.as_ref().map(|time| time.0.as_second()).max(of_time)
}
