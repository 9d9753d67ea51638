//! What happens to one object.

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
    objects::{ApplyPolicy, DesiredObject, LiveObject, LiveSet},
};

/// Compares, and writes if there is a difference.
pub(super) async fn apply_one<'a>(
    writer: &Writer,
    owner: &Owner,
    object: &'a DesiredObject,
    live: &LiveSet,
) -> (&'a DesiredObject, Outcome) {
    (object, compare_and_write(writer, owner, object, live).await)
}

async fn compare_and_write(writer: &Writer, owner: &Owner, object: &DesiredObject, live: &LiveSet) -> Outcome {
    let wanted = Wanted::new(owner, object);
    let key = object.key();
    let there = live.get(&key);
    match writer.settled.verdict(&owner.namespace, &key, there, wanted.hash) {
        Verdict::Same if there.is_some_and(|there| !there.deleting) => return Outcome::Unchanged,
        Verdict::Stale { rollout } => return Outcome::Unseen { rollout },
        Verdict::Same | Verdict::Unknown => {}
    }
    let written = match there {
        None => return create(writer, owner, object, &wanted).await,
        Some(there) => change(writer, owner, object, &wanted, there).await,
    };
    match written {
        Ok(Some(metadata)) => {
            remember(writer, owner, object, &metadata, (&wanted, there.map_or(0, |there| there.generation)))
        }
        Ok(None) => Outcome::Unchanged,
        Err(Stop::Refused(waiting)) => Outcome::Refused(waiting),
        Err(Stop::Failed(failure)) => error::outcome(&key, &failure),
    }
}

/// Whether an object is missing, or not as it should be. Nothing is written.
pub(super) fn differs(owner: &Owner, object: &DesiredObject, live: &LiveSet) -> bool {
    let wanted = Wanted::new(owner, object);
    live.get(&object.key()).is_none_or(|there| !wanted.is_there(there))
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

fn remember(
    writer: &Writer,
    owner: &Owner,
    object: &DesiredObject,
    metadata: &ObjectMeta,
    (wanted, generation): (&Wanted, i64),
) -> Outcome {
    let rollout = object.kind.runs_pods() && metadata.generation.unwrap_or(0) > generation;
    let answer = Answer {
        uid: metadata.uid.as_deref().unwrap_or_default(),
        version: metadata.resource_version.as_deref().unwrap_or_default(),
        hash: wanted.hash,
        owned: wanted.owned,
        rollout,
    };
    writer.settled.remember(&owner.namespace, object.key(), &answer);
    Outcome::Written { rollout }
}

/// Makes an object that the caches do not show. If one of the name exists after all, it may be ours without its labels, or
/// newer than the caches, or somebody else's.
async fn create(writer: &Writer, owner: &Owner, object: &DesiredObject, wanted: &Wanted) -> Outcome {
    let key = object.key();
    match writer.create(object.kind, wanted.body.clone()).await {
        Ok(metadata) => return remember(writer, owner, object, &metadata, (wanted, 0)),
        Err(WriteError::Request(kube::Error::Api(status))) if status.code == 409 => {}
        Err(failure) => return error::outcome(&key, &failure),
    }
    // Made content is read again before it is judged: two sets of credentials must never be mixed.
    let found = match writer.get(object.kind, &owner.namespace, &object.name).await {
        Ok(Some(found)) => found,
        Ok(None) => return Outcome::Again,
        Err(failure) => return error::outcome(&key, &failure),
    };
    if object.policy == ApplyPolicy::CreateOnce && is_ours(owner, object, &found) {
        return restore_labels(writer, owner, object, &found).await;
    }
    match change(writer, owner, object, wanted, &found).await {
        Ok(Some(metadata)) => remember(writer, owner, object, &metadata, (wanted, found.generation)),
        Ok(None) => Outcome::Again,
        Err(Stop::Refused(waiting)) => Outcome::Refused(waiting),
        Err(Stop::Failed(failure)) => error::outcome(&key, &failure),
    }
}

/// A Secret with credentials lost its labels: they are put back, with the content as it is.
async fn restore_labels(writer: &Writer, owner: &Owner, object: &DesiredObject, found: &LiveObject) -> Outcome {
    let mut object = object.clone();
    if let Some(data) = found.data() {
        object.body["data"] = json!(data);
    }
    let wanted = Wanted::new(owner, &object);
    match writer.change(object.kind, wanted.body, found, true).await {
        Ok(_) => Outcome::Again,
        Err(failure) => error::outcome(&object.key(), &failure),
    }
}

async fn change(
    writer: &Writer,
    owner: &Owner,
    object: &DesiredObject,
    wanted: &Wanted,
    there: &LiveObject,
) -> Result<Option<ObjectMeta>, Stop> {
    if !is_ours(owner, object, there) {
        return Err(Stop::Refused(not_ours(owner, object, there)));
    }
    if there.deleting {
        let message = format!("{} is being deleted, and is made again when it is gone", object.key());
        return Err(Stop::Refused(Waiting::new(reason::TERMINATING, message)));
    }
    if wanted.is_there(there) {
        return Ok(None);
    }
    let body = &wanted.body;
    if let Some(current) = there.applied_replicas.filter(|_| body.pointer("/spec/replicas").is_none()) {
        writer.hand_over_replicas(there, current).await?;
    }
    let exactly = object.policy == ApplyPolicy::CreateOnce;
    match writer.change(object.kind, body.clone(), there, exactly).await {
        Err(WriteError::Request(kube::Error::Api(status))) if status.code == 422 && !exactly => {}
        written => return Ok(Some(written?)),
    }
    // An entry of a keyed list whose key was changed by hand stays beside ours, and the two may not go together, e.g. two
    // ports of one name. The lists are set back as a whole, and then owned again.
    writer.reset(object.kind, body, there).await?;
    Ok(Some(writer.change(object.kind, body.clone(), there, false).await?))
}

/// An object is ours if we control it; if nobody does and its labels or annotations name the stack; never otherwise.
fn is_ours(owner: &Owner, object: &DesiredObject, there: &LiveObject) -> bool {
    match &there.owner {
        Some(controller) => object.policy == ApplyPolicy::Own && controller.uid == owner.uid,
        None if object.policy == ApplyPolicy::Own => there.labelled_ours && *there.instance == *owner.name,
        None => {
            there.stack_uid.as_deref() == Some(owner.uid.as_str())
                || (there.labelled_ours && there.retained && *there.instance == *owner.name)
        }
    }
}

fn not_ours(owner: &Owner, object: &DesiredObject, there: &LiveObject) -> Waiting {
    let key = object.key();
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
