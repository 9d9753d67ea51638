//! From desired objects to objects in the cluster: compare first, then ordered server-side apply, then prune.
//!
//! What enters: an owner, what is wanted, what is there. What leaves: [`Applied`], with each refusal as something that waits.
//! It knows objects and no component. No write happens unless the comparison finds a difference.

mod compare;
mod engine;
mod error;
mod prune;
mod settled;
mod turns;
mod writer;

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};

pub use compare::Outline;
use compare::Wanted;
use prune::Kept;
pub use prune::{delete_retained, prune};
pub use settled::{Answer, BELIEVED_FOR, Settled, Verdict};
pub use turns::{Turn, Turns};
pub use writer::{WRITE_LIMIT, Write, WriteError, Writer, api_resource};

use crate::{
    names::Waiting,
    objects::{self, ApplyPolicy, DesiredObject, Keyed, LiveObject, LiveSet, NamedBy, ObjectKey},
};

/// How many objects of the same rank are written at once.
const CONCURRENT_WRITES: usize = 16;

/// Whose objects they are.
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

/// What was done.
#[derive(Debug, Default)]
pub struct Applied {
    /// How many objects were written or deleted.
    pub writes: u32,
    /// What could not be done.
    pub refused: Vec<Refused>,
    /// What was written and makes or replaces pods, as the cache does not show yet, by component: it is not ready, whatever the
    /// cache says.
    pub rolling: BTreeMap<String, Rolling>,
    /// Whether a write of before is not in the cache yet: if it never comes, since etcd was restored, nothing else tells.
    pub unseen: bool,
    /// Whether something changed underneath, so that it must be looked at again soon.
    pub again: bool,
    /// Whether nothing can be made any more, since the namespace is being deleted.
    pub namespace_goes: bool,
    /// What was wanted. [`keep`] compares with it as long as it is wanted.
    pub outlines: Vec<Outline>,
}

/// A workload that was written, as the cache does not show yet.
#[derive(Clone, Debug)]
pub struct Rolling {
    /// Which.
    pub key: ObjectKey,
    /// How many pods were asked for; one if that was left to the API server, as it says.
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

/// The objects that are missing, or not as they should be: what an apply would write. Data that an upgrade would only relabel
/// are as they should be.
pub fn differences(owner: &Owner, desired: Vec<DesiredObject>, live: &LiveSet) -> Vec<Outline> {
    let outlines = desired.into_iter().map(|object| Wanted::new(owner, object).outline);
    let relabelled = |there: &LiveObject| there.retained && there.named_by == NamedBy::Instance;
    let differs = |wanted: &Outline, there: &LiveObject| !wanted.is_there(there) && !relabelled(there);
    outlines.filter(|wanted| live.get(&wanted.key).is_none_or(|there| differs(wanted, there))).collect()
}

/// What [`apply`] does when there is nothing to apply, without a body. `None`: there is something, or it may be so.
pub async fn keep(
    writer: &Writer,
    owner: &Owner,
    wanted: &[&Outline],
    live: &LiveSet,
    held: &BTreeSet<String>,
) -> Option<Applied> {
    if !wanted.iter().all(|outline| engine::leaves_alone(writer, owner, outline, live)) {
        return None;
    }
    let mut applied = Applied::default();
    let wanted = wanted.iter().map(Keyed::kind_and_name).collect();
    prune(writer, owner, Kept { wanted: &wanted, held }, live, &mut applied).await;
    Some(applied)
}

/// Applies what differs, rank by rank, then prunes what is no longer wanted. `held` are components that are left as they are.
pub async fn apply(
    writer: &Writer,
    owner: &Owner,
    desired: Vec<DesiredObject>,
    live: &LiveSet,
    held: &BTreeSet<String>,
) -> Applied {
    let mut desired: Vec<Wanted> = desired.into_iter().map(|object| Wanted::new(owner, object)).collect();
    set_floors(&mut desired);
    let mut applied = apply_ranks(writer, owner, &desired, live, held).await;
    applied.outlines = desired.into_iter().map(|wanted| wanted.outline).collect();
    applied
}

/// Tells each workload that an autoscaler is to scale the fewest pods that it is to have.
fn set_floors(desired: &mut [Wanted]) {
    let floor = |wanted: &Wanted| {
        let text = |path| objects::at(&wanted.body, path).and_then(serde_json::Value::as_str).map(str::to_owned);
        let min = objects::at(&wanted.body, "/spec/minReplicas").and_then(serde_json::Value::as_i64)?;
        Some((text("/spec/scaleTargetRef/kind")?, text("/spec/scaleTargetRef/name")?, min))
    };
    let floors: Vec<_> = desired.iter().filter_map(floor).collect();
    for (kind, name, min) in floors {
        let of = |wanted: &&mut Wanted| wanted.kind.kind == kind && wanted.outline.key.name == name;
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
    held: &BTreeSet<String>,
) -> Applied {
    let mut applied = Applied::default();
    let going = going_data(live);
    let ranks: BTreeSet<(u8, bool)> = desired.iter().map(rank).collect();
    for current in ranks {
        let mut pending = Vec::new();
        let left = |wanted: &Wanted| wanted.kind.runs_pods() && going.contains(wanted.outline.component);
        for wanted in desired.iter().filter(|wanted| rank(wanted) == current && !left(wanted)) {
            pending.push(engine::apply_one(writer, owner, wanted, live));
        }
        let refused_before = applied.refused.len();
        let mut outcomes = stream::iter(pending).buffer_unordered(CONCURRENT_WRITES);
        while let Some((wanted, outcome)) = outcomes.next().await {
            applied.add(wanted, outcome);
            if applied.namespace_goes {
                return applied;
            }
        }
        // A volume must not exist without the credentials that open it, nor a server start with others than are stored.
        if applied.again || (applied.refused.len() > refused_before && current == CREDENTIALS) {
            return applied;
        }
    }
    let wanted = desired.iter().map(|wanted| wanted.outline.kind_and_name()).collect();
    prune(writer, owner, Kept { wanted: &wanted, held }, live, &mut applied).await;
    applied
}

/// The components whose data are being deleted. A claim is there as long as a pod uses it, so nothing that would replace the
/// pod is written: that would be the end of the data. What is refused of the claim tells so.
fn going_data(live: &LiveSet) -> BTreeSet<&'static str> {
    live.iter().filter(|there| there.retained && there.deleting).map(|there| there.component).collect()
}

/// The rank of a kind, and within it generated credentials first.
fn rank(wanted: &Wanted) -> (u8, bool) {
    (wanted.kind.rank, wanted.outline.policy != ApplyPolicy::CreateOnce)
}

const CREDENTIALS: (u8, bool) = (1, false);

/// What happened to one object.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is as it should be.
    Unchanged,
    /// It was written.
    Written {
        /// Whether pods are replaced by it.
        rollout: bool,
    },
    /// It was written earlier, and the cache does not show it yet.
    Unseen {
        /// Whether pods are replaced by that write.
        rollout: bool,
    },
    /// It could not be written.
    Refused(Waiting),
    /// It could not be made, nor can any other: the namespace is being deleted.
    NamespaceGoes(Waiting),
    /// It changed underneath.
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
            Outcome::NamespaceGoes(waiting) => {
                self.namespace_goes = true;
                self.refuse(object, waiting);
            }
        }
    }
}

impl Applied {
    fn refuse(&mut self, object: &Wanted, waiting: Waiting) {
        let Outline { key, component, .. } = object.outline.clone();
        self.refused.push(Refused { key, component: component.to_owned(), waiting });
    }
}

fn rolling(object: &Wanted) -> (String, Rolling) {
    let replicas = objects::at(&object.body, "/spec/replicas").and_then(serde_json::Value::as_i64);
    let replicas = replicas.and_then(|replicas| i32::try_from(replicas).ok()).unwrap_or(1);
    let Outline { key, component, .. } = object.outline.clone();
    (component.to_owned(), Rolling { key, replicas })
}
