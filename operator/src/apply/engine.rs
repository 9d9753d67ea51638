//! What happens to one object.

use kube::api::ObjectMeta;
use serde_json::json;

use super::{
    Outcome, Owner,
    compare::{Outline, Wanted},
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
    let outline = &wanted.outline;
    let there = live.get(&outline.key);
    match writer.settled.verdict(&owner.namespace, &outline.key, there, outline.hash) {
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
        Err(Stop::Failed(failure)) => error::outcome(&outline.key, &failure),
    }
}

/// Whether an apply would leave the object as it is, by what is remembered of it. Where that is in doubt it says no, and
/// [`apply_one`] decides.
pub(super) fn leaves_alone(writer: &Writer, owner: &Owner, outline: &Outline, live: &LiveSet) -> bool {
    let Some(there) = live.get(&outline.key).filter(|there| !there.deleting) else { return false };
    match writer.settled.verdict(&owner.namespace, &outline.key, Some(there), outline.hash) {
        Verdict::Same => true,
        Verdict::Stale { .. } => false,
        Verdict::Unknown => is_ours(owner, outline.policy, there) && outline.is_there(there),
    }
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
    let rollout = wanted.kind.runs_pods() && changed && rolls != wanted.outline.rolls;
    let answer = Answer {
        uid: metadata.uid.as_deref().unwrap_or_default(),
        version: metadata.resource_version.as_deref().unwrap_or_default(),
        hash: wanted.outline.hash,
        owned: wanted.outline.owned,
        rollout,
    };
    writer.settled.remember(&owner.namespace, wanted.outline.key.clone(), &answer);
    Outcome::Written { rollout }
}

/// Makes an object that the caches do not show. If one of the name exists after all, it may be ours without its labels, or
/// newer than the caches, or somebody else's.
async fn create(writer: &Writer, owner: &Owner, wanted: &Wanted) -> Outcome {
    let Outline { key, policy, .. } = &wanted.outline;
    match writer.create(wanted.kind, wanted.body.clone()).await {
        Ok(metadata) => return remember(writer, owner, wanted, &metadata, None),
        Err(WriteError::Request(kube::Error::Api(status))) if status.code == 409 => {}
        Err(failure) => return error::outcome(key, &failure),
    }
    // Made content is read again before it is judged: two sets of credentials must never be mixed.
    let found = match writer.get(wanted.kind, &owner.namespace, &key.name).await {
        Ok(Some(found)) => found,
        Ok(None) => return Outcome::Again,
        Err(failure) => return error::outcome(key, &failure),
    };
    if *policy == ApplyPolicy::CreateOnce && is_ours(owner, *policy, &found) {
        return restore_labels(writer, wanted, &found).await;
    }
    match change(writer, owner, wanted, &found).await {
        Ok(Some(metadata)) => remember(writer, owner, wanted, &metadata, Some(&found)),
        Ok(None) => Outcome::Again,
        Err(Stop::Refused(waiting)) => Outcome::Refused(waiting),
        Err(Stop::Failed(failure)) => error::outcome(key, &failure),
    }
}

/// A Secret with credentials lost its labels: they are put back, with the content as it is, and with what it says itself of
/// its content. What is wanted may be of other content, which was made up before this one was found.
async fn restore_labels(writer: &Writer, wanted: &Wanted, found: &LiveObject) -> Outcome {
    let as_found = |data| wanted.with_data(json!(data), found.minted).body;
    let body = found.data().map_or_else(|| wanted.body.clone(), as_found);
    match writer.change(wanted.kind, body, found, true).await {
        Ok(_) => Outcome::Again,
        Err(failure) => error::outcome(&wanted.outline.key, &failure),
    }
}

async fn change(
    writer: &Writer,
    owner: &Owner,
    wanted: &Wanted,
    there: &LiveObject,
) -> Result<Option<ObjectMeta>, Stop> {
    let Outline { key, policy, .. } = &wanted.outline;
    if !is_ours(owner, *policy, there) {
        return Err(Stop::Refused(not_ours(owner, key, there)));
    }
    if there.deleting {
        return Err(Stop::Refused(objects::terminating(there)));
    }
    if wanted.outline.is_there(there) {
        return Ok(None);
    }
    let body = &wanted.body;
    if let Some(current) = there.applied_replicas.filter(|_| objects::at(body, "/spec/replicas").is_none()) {
        // An autoscaler leaves a workload without pods alone for ever.
        let replicas = if current == 0 { wanted.floor } else { current };
        writer.hand_over_replicas(there, replicas).await?;
    }
    let exactly = *policy == ApplyPolicy::CreateOnce;
    match writer.change(wanted.kind, body.clone(), there, exactly).await {
        Err(WriteError::Request(kube::Error::Api(status))) if status.code == 422 && !exactly => {}
        written => return Ok(Some(written?)),
    }
    // An entry of a keyed list whose key was changed by hand stays beside ours, and the two may not go together, e.g. two
    // ports of one name. The lists are set back as a whole, and then owned again.
    writer.reset(wanted.kind, body, there).await?;
    Ok(Some(writer.change(wanted.kind, body.clone(), there, false).await?))
}

/// An object is ours if we control it; if nobody does and its labels or annotations name the stack; never otherwise.
fn is_ours(owner: &Owner, policy: ApplyPolicy, there: &LiveObject) -> bool {
    match &there.owner {
        Some(controller) => policy == ApplyPolicy::Own && controller.uid == owner.uid,
        None if policy == ApplyPolicy::Own => there.labelled_ours && *there.instance == *owner.name,
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
