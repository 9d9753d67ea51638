//! From desired objects to objects in the cluster: compare first, then ordered server-side apply, then prune.
//!
//! What enters: an owner, its desired objects, its live objects. What leaves: [`Applied`], with each refusal as a reason to wait.
//! This module knows objects and no component. It writes only where the comparison finds a difference.

mod compare;
mod engine;
mod error;
mod prune;
mod settled;
mod throttle;
mod writer;

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};

pub use compare::Difference;
use compare::Wanted;
use prune::Spared;
pub use prune::{delete_retained, discard, prune};
pub use settled::{Answer, BELIEVED_FOR, Settled, Verdict};
pub use throttle::{WritePermit, WriteThrottle};
pub use writer::{WRITE_LIMIT, Write, WriteError, Writer, api_resource};

use crate::{
    names::Waiting,
    objects::{self, ApplyPolicy, DesiredObject, Keyed, LiveObject, LiveSet, NamedBy, ObjectKey},
};

/// How many objects of the same rank are written at once.
const CONCURRENT_WRITES: usize = 16;

/// The owner of the objects.
#[derive(Clone, Debug)]
pub struct Owner {
    /// `apiVersion` of the owner.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace, and that of every object.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// The outcome of an apply.
#[derive(Debug, Default)]
pub struct Applied {
    /// How many objects were written or deleted.
    pub writes: u32,
    /// The objects that could not be written.
    pub refused: Vec<Refused>,
    /// The workloads that were written and whose pods are created or replaced, which the cache does not show yet, by component:
    /// they are not ready, whatever the cache says.
    pub rolling: BTreeMap<String, Rolling>,
    /// Whether the cache does not show an earlier write yet. It never will if etcd was restored, and no event reports that.
    pub unseen: bool,
    /// Whether an object changed after it was observed, so that the next reconcile is due soon.
    pub again: bool,
    /// Whether no object can be created any more, since the namespace is being deleted.
    pub namespace_terminating: bool,
}

/// A workload that was written, as the cache does not show yet.
#[derive(Clone, Debug)]
pub struct Rolling {
    /// Which.
    pub key: ObjectKey,
    /// How many pods it asks for; one if it leaves that to the default of the API server.
    pub replicas: i32,
}

/// An object that could not be written.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Which.
    pub key: ObjectKey,
    /// The component that its labels name.
    pub component: String,
    /// Why, for the user.
    pub waiting: Waiting,
}

/// The objects that are missing, or not as they are desired: what an apply would write. Data that an upgrade would only relabel
/// count as desired.
pub fn differences(owner: &Owner, desired: Vec<DesiredObject>, live: &LiveSet) -> Vec<Difference> {
    let desired = desired.into_iter().map(|object| Wanted::new(owner, object));
    let relabelled = |there: &LiveObject| there.retained && there.named_by == NamedBy::Instance;
    let differs = |wanted: &Wanted, there: &LiveObject| !wanted.matches(there) && !relabelled(there);
    let left = |wanted: &Wanted, there: &LiveObject| wanted.policy == ApplyPolicy::RunOnce && there.owner.is_some();
    let missing =
        |wanted: &Wanted| live.get(&wanted.key).is_none_or(|there| !left(wanted, there) && differs(wanted, there));
    desired.filter(missing).map(Wanted::difference).collect()
}

/// Applies the objects that differ, rank by rank, then prunes those that are no longer desired. The objects of components in
/// `left_alone` are neither applied nor pruned.
pub async fn apply(
    writer: &Writer,
    owner: &Owner,
    desired: Vec<DesiredObject>,
    live: &LiveSet,
    left_alone: &BTreeSet<String>,
) -> Applied {
    let mut desired: Vec<Wanted> = desired.into_iter().map(|object| Wanted::new(owner, object)).collect();
    set_floors(&mut desired);
    apply_ranks(writer, owner, &desired, live, left_alone).await
}

/// Sets the fewest pods of each workload that an autoscaler is to scale.
fn set_floors(desired: &mut [Wanted]) {
    let floor = |wanted: &Wanted| {
        let text = |path| objects::at(&wanted.body, path).and_then(serde_json::Value::as_str).map(str::to_owned);
        let min = objects::at(&wanted.body, "/spec/minReplicas").and_then(serde_json::Value::as_i64)?;
        Some((text("/spec/scaleTargetRef/kind")?, text("/spec/scaleTargetRef/name")?, min))
    };
    let floors: Vec<_> = desired.iter().filter_map(floor).collect();
    for (kind, name, min) in floors {
        let of = |wanted: &&mut Wanted| wanted.kind.kind == kind && wanted.key.name == name;
        if let Some(workload) = desired.iter_mut().find(of) {
            workload.floor = min;
        }
    }
}

async fn apply_ranks(
    writer: &Writer,
    owner: &Owner,
    desired: &[Wanted],
    live: &LiveSet,
    left_alone: &BTreeSet<String>,
) -> Applied {
    let mut applied = Applied::default();
    let terminating = terminating_data(live);
    let ranks: BTreeSet<(u8, bool)> = desired.iter().map(rank).collect();
    for current in ranks {
        let mut pending = Vec::new();
        let keeps_data = |wanted: &Wanted| wanted.kind.runs_pods() && terminating.contains(wanted.component);
        for wanted in desired.iter().filter(|wanted| rank(wanted) == current && !keeps_data(wanted)) {
            pending.push(engine::apply_one(writer, owner, wanted, live));
        }
        let refused_before = applied.refused.len();
        let mut outcomes = stream::iter(pending).buffer_unordered(CONCURRENT_WRITES);
        while let Some((wanted, outcome)) = outcomes.next().await {
            applied.add(wanted, outcome);
            if applied.namespace_terminating {
                return applied;
            }
        }
        // A volume must not exist without the credentials that open it, nor a server start with others than are stored.
        if applied.again || (applied.refused.len() > refused_before && current == CREDENTIALS) {
            return applied;
        }
    }
    let desired = desired.iter().map(|wanted| wanted.key.kind_and_name()).collect();
    prune(writer, owner, Spared { desired: &desired, components: left_alone }, live, &mut applied).await;
    applied
}

/// The components whose data are being deleted. A claim exists as long as a pod uses it, so no write may replace the pod: that
/// would be the end of the data. The refusal of the claim reports it.
fn terminating_data(live: &LiveSet) -> BTreeSet<&'static str> {
    live.iter().filter(|there| there.retained && there.deleting).map(|there| there.component).collect()
}

/// The rank of a kind, and within it generated credentials first.
fn rank(wanted: &Wanted) -> (u8, bool) {
    (wanted.kind.rank, wanted.policy != ApplyPolicy::CreateOnce)
}

const CREDENTIALS: (u8, bool) = (1, false);

/// The outcome of the apply of one object.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is as it is desired.
    Unchanged,
    /// It was written.
    Written {
        /// Whether the write replaces pods.
        rollout: bool,
    },
    /// It was written earlier, and the cache does not show it yet.
    Unseen {
        /// Whether pods are replaced by that write.
        rollout: bool,
    },
    /// It could not be written.
    Refused(Waiting),
    /// Neither it nor any other can be created: the namespace is being deleted.
    NamespaceTerminating(Waiting),
    /// It changed after it was observed.
    Again,
}

impl Applied {
    fn add(&mut self, object: &Wanted, outcome: Outcome) {
        match outcome {
            Outcome::Unchanged => {}
            Outcome::Unseen { rollout } => {
                self.unseen = true;
                self.rolling.extend(rollout.then(|| rolling(object)));
            }
            Outcome::Written { rollout } => {
                self.writes += 1;
                self.rolling.extend(rollout.then(|| rolling(object)));
            }
            Outcome::Again => self.again = true,
            Outcome::Refused(waiting) => self.refuse(object, waiting),
            Outcome::NamespaceTerminating(waiting) => {
                self.namespace_terminating = true;
                self.refuse(object, waiting);
            }
        }
    }
}

impl Applied {
    fn refuse(&mut self, object: &Wanted, waiting: Waiting) {
        let (key, component) = (object.key.clone(), object.component.to_owned());
        self.refused.push(Refused { key, component, waiting });
    }
}

fn rolling(object: &Wanted) -> (String, Rolling) {
    let replicas = objects::at(&object.body, "/spec/replicas").and_then(serde_json::Value::as_i64);
    let replicas = replicas.and_then(|replicas| i32::try_from(replicas).ok()).unwrap_or(1);
    (object.component.to_owned(), Rolling { key: object.key.clone(), replicas })
}
