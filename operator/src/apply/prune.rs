//! Deleting what is no longer wanted.

use std::collections::BTreeSet;

use super::{Applied, Outcome, Owner, Refused, error, writer::Writer};
use crate::objects::{Keyed, LiveObject, LiveSet, Role};

/// What is not to be deleted: objects, and all that a component has.
#[derive(Clone, Copy)]
pub struct Kept<'a> {
    pub wanted: &'a BTreeSet<(&'static str, &'a str)>,
    pub held: &'a BTreeSet<String>,
}

/// Deletes the objects that this owner controls and no longer wants. Data are never deleted here, nor what a held component
/// has, nor anything that this very owner does not control.
pub async fn prune(writer: &Writer, owner: &Owner, kept: Kept<'_>, live: &LiveSet, applied: &mut Applied) {
    for there in live.iter().filter(|there| unwanted(owner, kept, there)) {
        delete(writer, there, applied).await;
    }
}

fn unwanted(owner: &Owner, kept: Kept<'_>, there: &LiveObject) -> bool {
    there.kind.role == Role::Child
        && !there.retained
        && !there.deleting
        && there.owner.as_ref().is_some_and(|controller| controller.uid == owner.uid)
        && !kept.wanted.contains(&there.kind_and_name())
        && !kept.held.contains(there.component)
}

/// Deletes the data of this very stack, but for those of the components that are kept: only when its spec says so in so many
/// words.
pub async fn delete_retained(writer: &Writer, owner: &Owner, kept: &[&str], live: &LiveSet) -> Applied {
    let mut applied = Applied::default();
    let data = live.iter().filter(|there| {
        there.retained
            && !kept.contains(&there.component)
            && there.owner.is_none()
            && there.stack_uid.as_deref() == Some(owner.uid.as_str())
            && !there.deleting
    });
    for there in data {
        delete(writer, there, &mut applied).await;
    }
    applied
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
