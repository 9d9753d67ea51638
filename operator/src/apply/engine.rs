//! The apply of one object.

use kube::api::ObjectMeta;
use serde_json::json;

use super::{
    Outcome, Owner,
    compare::Wanted,
    error,
    settled::{Answer, Verdict},
    writer::{WriteError, Writer},
};
use crate::{
    names::{Waiting, reason},
    objects::{self, ApplyPolicy, LiveObject, LiveSet, ObjectKey},
};

/// Compares, and writes if there is a difference.
pub(super) async fn apply_one<'a>(
    writer: &Writer,
    owner: &Owner,
    wanted: &'a Wanted,
    live: &LiveSet,
) -> (&'a Wanted, Outcome) {
    (wanted, compare_and_write(writer, owner, wanted, live).await)
}

async fn compare_and_write(writer: &Writer, owner: &Owner, wanted: &Wanted, live: &LiveSet) -> Outcome {
    let there = live.get(&wanted.key);
    if let Some(there) = there.filter(|there| wanted.policy == ApplyPolicy::RunOnce && there.owner.is_some()) {
        return leave(owner, &wanted.key, there);
    }
    match writer.settled.verdict(&owner.namespace, &wanted.key, there, wanted.hash) {
        Verdict::Same if there.is_some_and(|there| !there.deleting) => return Outcome::Unchanged,
        Verdict::Stale { rollout } => return Outcome::Unseen { rollout },
        Verdict::Same | Verdict::Unknown => {}
    }
    let written = match there {
        None => return create(writer, owner, wanted).await,
        Some(there) => change(writer, owner, wanted, there).await,
    };
    match written {
        Ok(Some(metadata)) => remember(writer, owner, wanted, &metadata, there),
        Ok(None) => Outcome::Unchanged,
        Err(Stop::Refused(waiting)) => Outcome::Refused(waiting),
        Err(Stop::Failed(failure)) => error::outcome(&wanted.key, &failure),
    }
}

/// An object that is created once is as it should be if it is there and ours.
fn leave(owner: &Owner, key: &ObjectKey, there: &LiveObject) -> Outcome {
    if !is_ours(owner, ApplyPolicy::RunOnce, there) {
        return Outcome::Refused(not_ours(owner, key, there));
    }
    if there.deleting { Outcome::Refused(objects::terminating(there)) } else { Outcome::Unchanged }
}

enum Stop {
    Refused(Waiting),
    Failed(WriteError),
}

impl From<WriteError> for Stop {
    fn from(error: WriteError) -> Self {
        Self::Failed(error)
    }
}

/// A change of a field beside the template replaces no pod: a new version of this operator may set one.
fn remember(
    writer: &Writer,
    owner: &Owner,
    wanted: &Wanted,
    metadata: &ObjectMeta,
    there: Option<&LiveObject>,
) -> Outcome {
    let (generation, rolls) = there.map_or((0, None), |there| (there.generation, there.rolls));
    let changed = metadata.generation.unwrap_or(0) > generation;
    let rollout = wanted.kind.runs_pods() && changed && rolls != wanted.rolls;
    let answer = Answer {
        uid: metadata.uid.as_deref().unwrap_or_default(),
        version: metadata.resource_version.as_deref().unwrap_or_default(),
        hash: wanted.hash,
        owned: wanted.owned,
        rollout,
    };
    writer.settled.remember(&owner.namespace, wanted.key.clone(), &answer);
    Outcome::Written { rollout }
}

/// Creates an object that the caches do not show. If the API server has one of this name after all, it may be this owner's
/// without its labels, or newer than the caches, or foreign.
async fn create(writer: &Writer, owner: &Owner, wanted: &Wanted) -> Outcome {
    let Wanted { key, policy, .. } = wanted;
    if *policy == ApplyPolicy::RunOnce {
        writer.settled.begin(&owner.namespace, key);
    }
    match writer.create(wanted.kind, wanted.body.clone()).await {
        Ok(metadata) => return remember(writer, owner, wanted, &metadata, None),
        Err(WriteError::Request(kube::Error::Api(status))) if status.code == 409 => {}
        Err(failure) => return error::outcome(key, &failure),
    }
    // Generated data are read again before they are compared: two sets of credentials must never be mixed.
    let found = match writer.get(wanted.kind, &owner.namespace, &key.name).await {
        Ok(Some(found)) => found,
        Ok(None) => return Outcome::Again,
        Err(failure) => return error::outcome(key, &failure),
    };
    let shown = found.labelled_ours && *found.instance == *owner.name;
    if *policy == ApplyPolicy::CreateOnce && is_ours(owner, *policy, &found) {
        // It may have got its labels back from the reconcile before, which the caches do not show yet.
        return if shown { Outcome::Again } else { restore_labels(writer, wanted, &found).await };
    }
    let decided = match policy {
        ApplyPolicy::Recorded => shown,
        ApplyPolicy::Guarded => true,
        _ => false,
    };
    if decided && is_ours(owner, *policy, &found) {
        // What it is to be was decided without it. A record that lost its labels no cache will ever show, and gets them back.
        return Outcome::Again;
    }
    match change(writer, owner, wanted, &found).await {
        Ok(Some(metadata)) => remember(writer, owner, wanted, &metadata, Some(&found)),
        Ok(None) => Outcome::Again,
        Err(Stop::Refused(waiting)) => Outcome::Refused(waiting),
        Err(Stop::Failed(failure)) => error::outcome(key, &failure),
    }
}

/// A Secret with credentials lost its labels: the operator applies them again, with the data as they are, and with the annotation
/// that the Secret itself has. The desired object may hold other data, which were generated before this Secret was found.
async fn restore_labels(writer: &Writer, wanted: &Wanted, found: &LiveObject) -> Outcome {
    let as_found = |data| wanted.with_data(json!(data), found.minted).body;
    let body = found.data().map_or_else(|| wanted.body.clone(), as_found);
    match writer.change(wanted.kind, body, found, true).await {
        Ok(_) => Outcome::Again,
        Err(failure) => error::outcome(&wanted.key, &failure),
    }
}

async fn change(
    writer: &Writer,
    owner: &Owner,
    wanted: &Wanted,
    there: &LiveObject,
) -> Result<Option<ObjectMeta>, Stop> {
    let Wanted { key, policy, .. } = wanted;
    if !is_ours(owner, *policy, there) {
        return Err(Stop::Refused(not_ours(owner, key, there)));
    }
    if there.deleting {
        return Err(Stop::Refused(objects::terminating(there)));
    }
    if wanted.matches(there) {
        return Ok(None);
    }
    let body = &wanted.body;
    if let Some(current) = there.applied_replicas.filter(|_| objects::at(body, "/spec/replicas").is_none()) {
        // An autoscaler never scales a workload that has no pods.
        let replicas = if current == 0 { wanted.floor } else { current };
        writer.hand_over_replicas(there, replicas).await?;
    }
    // Lists of an immutable object cannot be reset either, so a refusal is final.
    let exactly = !matches!(policy, ApplyPolicy::Own | ApplyPolicy::Retain);
    match writer.change(wanted.kind, body.clone(), there, exactly).await {
        Err(WriteError::Request(kube::Error::Api(status))) if status.code == 422 && !exactly => {}
        written => return Ok(Some(written?)),
    }
    // An item of a keyed list whose key a user changed stays beside the desired one, and the API server may refuse both
    // together, e.g. two ports of one name. The lists are replaced as a whole, and then owned again.
    writer.reset(wanted.kind, body, there).await?;
    Ok(Some(writer.change(wanted.kind, body.clone(), there, false).await?))
}

/// An object belongs to the owner if the owner controls it, or if it has no controller and its labels or annotations name the
/// owner; never otherwise.
fn is_ours(owner: &Owner, policy: ApplyPolicy, there: &LiveObject) -> bool {
    match &there.owner {
        Some(controller) => policy.is_owned() && controller.uid == owner.uid,
        None if policy.is_owned() => there.labelled_ours && *there.instance == *owner.name,
        None => there.is_data_of(&owner.name, &owner.uid),
    }
}

fn not_ours(owner: &Owner, key: &ObjectKey, there: &LiveObject) -> Waiting {
    match &there.owner {
        Some(controller) if controller.kind == owner.kind && controller.name == owner.name => Waiting::new(
            reason::TERMINATING,
            format!("{key} belongs to an earlier {} of the same name, and is made again when it is gone", owner.kind),
        ),
        Some(controller) => Waiting::new(
            reason::NAME_TAKEN,
            format!(
                "{key} exists and belongs to {} {}: it was left alone; rename or delete it, or give the stack another name",
                controller.kind, controller.name
            ),
        ),
        None => Waiting::new(
            reason::NAME_TAKEN,
            format!(
                "{key} exists and was not made by this stack: it was left alone; rename or delete it, or give the stack another name"
            ),
        ),
    }
}
