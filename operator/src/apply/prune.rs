//! Deletes the objects that are no longer desired.

use std::collections::BTreeSet;

use super::{Applied, Outcome, Owner, Refused, error, writer::Writer};
use crate::objects::{Keyed, LiveObject, LiveSet, ObjectKey, Role, Work};

/// The objects that prune does not delete.
#[derive(Clone, Copy)]
pub struct Spared<'a> {
    /// The desired objects.
    pub desired: &'a BTreeSet<(&'static str, &'a str)>,
    /// The components whose objects are all left as they are.
    pub components: &'a BTreeSet<String>,
}

/// Deletes the objects that this owner controls and that are no longer desired. It never deletes data, nor an object of a
/// component that is left as it is, nor one that this very owner does not control. While a Job of a component runs, its objects
/// stay: a migration or a dump that began ends by itself, with the Secret and the ServiceAccount that its pod has. A Job that never
/// gives up has no end to wait for. While pods are replaced, an object through which they have connections stays.
pub async fn prune(writer: &Writer, owner: &Owner, spared: Spared<'_>, live: &LiveSet, applied: &mut Applied) {
    let runs = |there: &&LiveObject| there.work != Work::Trying && live.is_running(there);
    let running: BTreeSet<_> = live.iter().filter(runs).map(|job| job.component).collect();
    let replaced = pods_are_replaced(owner, live, applied);
    let connected = |there: &LiveObject| replaced && there.kind.has_connections();
    let unwanted =
        |there: &&LiveObject| unwanted(owner, spared, there) && !running.contains(there.component) && !connected(there);
    for there in live.iter().filter(unwanted) {
        delete(writer, there, applied).await;
    }
}

/// Whether pods that have what was desired before may still serve.
fn pods_are_replaced(owner: &Owner, live: &LiveSet, applied: &Applied) -> bool {
    let of_owner = |there: &&LiveObject| there.owner.as_ref().is_some_and(|controller| controller.uid == owner.uid);
    let rolls = |there: &LiveObject| there.pods.is_some_and(|pods| !pods.observed || !pods.current);
    !applied.rolling.is_empty() || live.iter().filter(of_owner).any(rolls)
}

fn unwanted(owner: &Owner, spared: Spared<'_>, there: &LiveObject) -> bool {
    there.kind.role == Role::Child
        && !there.retained
        && !there.deleting
        && there.owner.as_ref().is_some_and(|controller| controller.uid == owner.uid)
        && !spared.desired.contains(&there.kind_and_name())
        && !spared.components.contains(there.component)
}

/// Deletes the data of this very owner, except those of the components in `spared`, and except what stands for a service of a provider:
/// those are deleted by whoever made the contract. Call it only when the spec of the owner says so in so many words.
pub async fn delete_retained(writer: &Writer, owner: &Owner, spared: &[&str], live: &LiveSet) -> Applied {
    let mut applied = Applied::default();
    let data = live.iter().filter(|there| {
        there.retained
            && there.kind.is_in_cluster()
            && !spared.contains(&there.component)
            && there.owner.is_none()
            && there.stack_uid.as_deref() == Some(owner.uid.as_str())
            && !there.deleting
    });
    for there in data {
        delete(writer, there, &mut applied).await;
    }
    applied
}

/// Deletes one object that says itself that it is data of this owner, if it still is the one that was observed. Call it only when a
/// user has written its name.
pub async fn discard(writer: &Writer, owner: &Owner, key: &ObjectKey, live: &LiveSet, applied: &mut Applied) {
    let ours = |there: &&LiveObject| there.retained && !there.deleting && there.is_data_of(&owner.name, &owner.uid);
    if let Some(there) = live.get(key).filter(ours) {
        delete(writer, there, applied).await;
    }
}

async fn delete(writer: &Writer, there: &LiveObject, applied: &mut Applied) {
    match writer.delete(there).await {
        Ok(()) => applied.writes += 1,
        Err(failure) => match error::outcome(&there.key(), &failure) {
            Outcome::Refused(waiting) => {
                applied.refused.push(Refused { key: there.key(), component: there.component.to_owned(), waiting });
            }
            _ => applied.again = true,
        },
    }
}
