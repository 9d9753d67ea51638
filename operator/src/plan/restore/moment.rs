//! A restore to a moment: another Cluster is recovered beside the live one, and becomes the live one by its name in a `ConfigMap`.

use jiff::Timestamp;

use super::{State, facts::Facts};
use crate::{
    names::{Component, LIVE_CLUSTER, ObjectName, ROLE_LIVE, Waiting, reason},
    stack::{ExistingCluster, LiveCluster, Observed, Recovered, RestoreRequest, Stack, clusters},
};

/// How often the pods that recover are asked, in seconds: nothing else tells that they fail.
const ASKED_EVERY: i64 = 15;

/// What is known of a recovery to a moment.
pub(super) struct Recovery<'a> {
    moment: Timestamp,
    /// The Cluster that is recovered.
    pub(super) cluster: String,
    existing: Option<&'a ExistingCluster>,
    /// Its Secrets are there.
    reachable: bool,
    /// What it is recovered from, or why that is not known now.
    origin: Result<Recovered, Waiting>,
    /// The Cluster that is live. `None`: nobody knows.
    live: Option<String>,
    named: Option<&'a LiveCluster>,
    /// It was switched, and that is recorded.
    pub(super) recorded: bool,
    config_map: ObjectName,
}

/// What the stack writes for a recovery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// The Cluster to recover, and from what.
    pub cluster: Option<(String, Recovered)>,
    /// What the `ConfigMap` is to say from now on.
    pub live: Option<LiveCluster>,
}

impl<'a> Recovery<'a> {
    /// `recorded`: the record that a restore has changed data is about this one.
    pub(super) fn of(
        stack: &Stack,
        observed: &'a Observed,
        (request, moment): (&RestoreRequest, Timestamp),
        recorded: bool,
    ) -> Self {
        let clusters = &observed.clusters;
        let cluster = clusters::recovered_name(&stack.name, &request.uid);
        let existing = clusters.find(&cluster);
        let found = existing.and_then(|existing| existing.recovered.clone());
        let origin = found.map_or_else(|| origin(stack, observed, moment), Ok);
        Self {
            moment,
            existing,
            reachable: stack.recovered_access(&cluster).is_some(),
            origin,
            live: clusters.live(&stack.name).ok(),
            named: clusters.named.as_ref(),
            recorded,
            config_map: ObjectName::with_role(&stack.name, Component::Database, ROLE_LIVE),
            cluster,
        }
    }

    /// Why it never can be done.
    pub(super) fn never(&self, observed: &Observed) -> Option<Waiting> {
        let from = observed.clusters.reaches_from();
        let reach = match from {
            None => "no base backup of its archive is complete yet".to_owned(),
            // A restore has made another Cluster live since.
            Some(from) if from <= self.moment => {
                "the Cluster that was live then had no base backup yet; restore a moment of before \
                                                  it became live, or a recovery point"
                    .to_owned()
            }
            Some(from) => format!("the archive reaches from {from} until the last archived transaction"),
        };
        if self.is_foreign() {
            let message = format!(
                "cluster/{} exists and was not recovered to {}: it was left alone; create a RorunRestore anew",
                self.cluster, self.moment
            );
            return Some(Waiting::new(reason::NAME_TAKEN, message));
        }
        // What is not known yet is no reason to refuse.
        let known = observed.clusters.windows.is_some();
        match &self.origin {
            Err(waiting) if known && waiting.reason == reason::MOMENT_OUT_OF_REACH => {
                let message = format!("{}: {reach} (status.backup.pointInTime of the stack)", waiting.message);
                Some(Waiting::new(reason::MOMENT_OUT_OF_REACH, message))
            }
            _ => None,
        }
    }

    /// Why it cannot begin now.
    pub(super) fn held(&self) -> Option<Waiting> {
        self.origin.as_ref().err().cloned()
    }

    /// A Cluster of its name is none of its own.
    fn is_foreign(&self) -> bool {
        let target = self.moment.to_string();
        self.existing.is_some_and(|existing| existing.recovered.as_ref().is_none_or(|found| found.target != target))
    }

    /// The Cluster is whole: it serves, archives its own log, and its Secrets are there. `Ready` alone does not say the second.
    pub(super) fn is_ready(&self) -> bool {
        let whole = |existing: &ExistingCluster| {
            existing.waiting.is_none() && !existing.deleting && existing.archiving == Some(true)
        };
        self.reachable && !self.is_foreign() && self.existing.is_some_and(whole)
    }

    /// The `ConfigMap` names its Cluster: from then on nothing of before the switch is done any more.
    pub(super) fn is_live(&self) -> bool {
        self.recorded || self.named.is_some_and(|named| named.cluster == self.cluster)
    }

    /// Why the Cluster never will be whole. A phase in which CloudNativePG can do no more may pass, by a disk that grows, say: the
    /// recovery itself has to have failed as well.
    pub(super) fn refusal(&self) -> Option<Waiting> {
        let existing = self.existing.filter(|_| !self.is_live())?;
        let (stalled, why) = (existing.stalled()?, existing.failing.as_ref()?);
        let message = format!(
            "{}: {why}; what is live is as it was; the annotation {}: {} deletes the Cluster",
            stalled.message,
            crate::names::annotation::DISCARD,
            existing.discarded_by()
        );
        Some(Waiting::new(reason::RESTORE_FAILED, message))
    }

    /// What recovers, or keeps it from that.
    pub(super) fn waiting(&self) -> Waiting {
        let say = |why, words: String| Waiting::new(why, format!("Copying: {words}"));
        if let Err(waiting) = &self.origin {
            return say(waiting.reason, waiting.message.clone());
        }
        let Some(existing) = self.existing else {
            return say(reason::RESTORING, format!("cluster/{} is being made", self.cluster));
        };
        if existing.deleting {
            return say(
                reason::TERMINATING,
                format!("cluster/{} is being deleted, and is made again then", existing.name),
            );
        }
        if let Some(failing) = &existing.failing {
            return say(reason::RESTORE_FAILED, format!("cluster/{} is not recovered yet: {failing}", existing.name));
        }
        if let Some(stalled) = existing.stalled() {
            let words = format!(
                "{}; nothing of its recovery has failed, and it goes on once that is mended; to give it up, delete the RorunRestore",
                stalled.message
            );
            return say(stalled.reason, words);
        }
        match (&existing.waiting, existing.archiving) {
            (Some(waiting), _) => say(reason::RESTORING, waiting.message.clone()),
            (None, Some(true)) => say(reason::RESTORING, format!("the Secrets of cluster/{} come", existing.name)),
            (None, Some(false)) => say(
                reason::ARCHIVING_FAILED,
                format!(
                    "cluster/{} is recovered and does not archive its log, which it has to before it may be live: the cause is in \
                     kubectl logs {0}-1 --container=plugin-barman-cloud",
                    existing.name
                ),
            ),
            (None, None) => {
                say(reason::RESTORING, format!("cluster/{} has not archived any of its log yet", existing.name))
            }
        }
    }

    /// When its pods are to be asked again.
    pub(super) fn turns_at(&self, now: i64) -> Option<i64> {
        let waits = !self.is_live() && self.existing.is_some_and(|existing| existing.waiting.is_some());
        waits.then(|| now - now.rem_euclid(ASKED_EVERY) + ASKED_EVERY)
    }

    /// What is beside the live Cluster before the switch. The live one is named before there is another.
    pub(super) fn beside(&self) -> Beside {
        let Some(live) = &self.live else { return Beside::default() };
        if self.named.is_none() {
            let live = LiveCluster { cluster: live.clone(), ..LiveCluster::default() };
            return Beside { live: Some(live), cluster: None };
        }
        let cluster = self.origin.as_ref().ok().filter(|_| !self.is_live() && !self.is_foreign());
        Beside { cluster: cluster.map(|origin| (self.cluster.clone(), origin.clone())), live: None }
    }

    /// The same, with the switch. `server`: the folder of the archive of the live one.
    pub(super) fn switch(&self, request: &RestoreRequest, server: &str, now: i64) -> Beside {
        let beside = self.beside();
        let named = self.named.filter(|named| !self.is_live() && Some(&named.cluster) == self.live.as_ref());
        let live = named.map(|named| named.switched(&self.cluster, (&request.name, &request.uid), (server, now)));
        Beside { live: live.or(beside.live), ..beside }
    }

    /// What the switch does, or waits for.
    pub(super) fn switching(&self) -> String {
        format!("configmap/{}, key {LIVE_CLUSTER}, is to name cluster/{}", self.config_map, self.cluster)
    }

    /// The Cluster that was live before it.
    pub(super) fn kept(&self) -> Option<&str> {
        self.named.filter(|named| named.cluster == self.cluster)?.before()
    }
}

impl Facts<'_> {
    /// What is written beside the live Cluster at a state. Nothing of before the switch is left out before it is done.
    pub(super) fn beside(&self, state: State, now: i64) -> Beside {
        let Some(recovery) = &self.recovery else { return Beside::default() };
        let archive = || {
            let asked = self.stack.backup.as_ref()?.point_in_time.as_ref()?;
            Some(asked.archive.as_ref()?.server_name.clone())
        };
        match state {
            State::Switching if self.may_begin() => recovery.switch(self.request, &archive().unwrap_or_default(), now),
            State::Copying
            | State::Migrating
            | State::Verifying
            | State::Saving
            | State::Stopping
            | State::Switching => recovery.beside(),
            _ => Beside::default(),
        }
    }
}

/// What a moment is recovered from.
fn origin(stack: &Stack, observed: &Observed, moment: Timestamp) -> Result<Recovered, Waiting> {
    let asked = stack.backup.as_ref().and_then(|backup| backup.point_in_time.as_ref());
    let Some(asked) = asked else {
        let message = "spec.backup.pointInTime of the stack, by which its archive is reached, is gone: write it again";
        return Err(Waiting::new(reason::POINT_IN_TIME_UNSUPPORTED, message));
    };
    let Some(archive) = &asked.archive else {
        return Err(Waiting::new(reason::DEPENDENCY_NOT_READY, "the live Cluster does not archive its log yet"));
    };
    if observed.clusters.windows.is_none() {
        return Err(Waiting::new(reason::DEPENDENCY_NOT_READY, "the ObjectStore of the archive is not there yet"));
    }
    let server = observed.clusters.archive_of(&archive.server_name, moment);
    let server = server
        .ok_or_else(|| Waiting::new(reason::MOMENT_OUT_OF_REACH, format!("no archive reaches back to {moment}")))?;
    Ok(Recovered { server: server.to_owned(), target: moment.to_string() })
}
