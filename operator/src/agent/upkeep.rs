//! What follows a good backup: marks the prefix, adopts what the user says, copies, removes what is old. None of it can make the
//! backup worse: what goes wrong is told in the record.

use std::collections::BTreeSet;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::inventory::{self, BackupFolder};
use super::object_lock::Notes;
use super::owner::{self, Mark};
use super::retention::Spared;
use super::{DumpArgs, copies, in_use, prune, recovery_point};
use crate::contract::{Adoption, MARKER_FILE};
use crate::services::bucket::BucketClient;

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    /// The good points of this owner that are left, oldest first.
    pub(super) points: Vec<String>,
    pub(super) removed: u32,
    pub(super) shared_with: Option<String>,
    pub(super) without_owner: u32,
    pub(super) not_removed: Option<String>,
    pub(super) adoption: Option<Adoption>,
    pub(super) copied: u32,
    pub(super) not_copied: Option<String>,
    pub(super) objects_not_copied: Option<String>,
    /// The first copy that lacks the spec of the stack, and why.
    pub(super) spec_not_copied: Option<String>,
    pub(super) lock_notes: Notes,
}

/// Marks, adopts and prunes. Without an owner the run cannot know its own backups, so it touches nothing.
pub(super) async fn upkeep(bucket: &BucketClient, args: &DumpArgs, now: Timestamp, stop: &CancellationToken) -> Upkeep {
    let mut upkeep = Upkeep::default();
    let Some(owner) = args.owner.as_deref() else {
        tracing::warn!("old backups are not removed: the operator gives no owner");
        return upkeep;
    };
    let mut mark = match owner::mark(bucket, args, owner, now).await {
        Ok(mark) => Some(mark),
        Err(error) => {
            tracing::warn!(%error, "whose the prefix is cannot be found out");
            None
        }
    };
    let mut entries = match inventory::read(bucket, &args.prefix).await {
        Ok(entries) => entries,
        Err(error) => {
            upkeep.not_removed = Some(format!("old backups under {} could not be looked for: {error}", args.prefix));
            return upkeep;
        }
    };
    if let Some(wanted) = &args.adopt {
        let (adoption, rewrote) = Box::pin(owner::adopt(bucket, args, (owner, wanted), &mut entries, now)).await;
        tracing::info!(adoption.message, "adoption");
        upkeep.adoption = Some(adoption);
        if rewrote.marker {
            mark = Some(Mark::Own);
        }
    }
    recovery_point::release_holds(bucket, args, owner, &mut entries).await;
    in_use::forget(bucket, &args.prefix, (owner, now), &mut entries).await;
    upkeep.shared_with = shared_with(args, owner, mark.as_ref(), &entries);
    upkeep.without_owner = count(entries.iter().filter(|entry| entry.has_no_owner()));
    let copies = Box::pin(copies::copy(bucket, args, (owner, now), &mut entries, stop)).await;
    (upkeep.copied, upkeep.not_copied) = (copies.count, copies.problem);
    upkeep.objects_not_copied = copies.objects_problem;
    upkeep.spec_not_copied = copies.without_spec;
    upkeep.lock_notes = copies.lock_notes;
    let spared = spared(args, owner, (&entries, &copies.places));
    let pruned = prune::prune(bucket, args, (owner, now), (&entries, &spared), stop).await;
    upkeep.not_removed = pruned.problem(&args.prefix);
    upkeep.lock_notes.add(pruned.kept(&args.prefix));
    upkeep.removed = count(pruned.removed.iter());
    let left = entries.iter().filter(|entry| entry.is_whole_of(owner) && !pruned.removed.contains(&entry.id));
    upkeep.points = left.map(|entry| entry.id.to_string()).collect();
    // What hides here may be another's: then it is left alone.
    if upkeep.shared_with.is_none() && mark == Some(Mark::Own) {
        if let Err(error) = prune::abort_leftovers(bucket, &args.prefix, now).await {
            tracing::warn!(%error, "unfinished uploads are not removed");
        }
        if args.delete_versions {
            match prune::delete_versions(bucket, args, &pruned.removed, now).await {
                Ok(kept) => upkeep.lock_notes.add(kept),
                Err(error) => {
                    let problem = || format!("old versions of removed backups under {} stay: {error}", args.prefix);
                    upkeep.not_removed.get_or_insert_with(problem);
                }
            }
        }
    }
    upkeep
}

/// What retention leaves alone beside what is held.
fn spared(args: &DumpArgs, owner: &str, (entries, places): (&[BackupFolder], &BTreeSet<String>)) -> Spared {
    let own = || entries.iter().filter(|entry| entry.is_whole_of(owner));
    let replica = args.replica_name();
    let is_copied = |entry: &&BackupFolder| places.iter().any(|place| entry.is_copied(place, replica));
    let not_copied = own().filter(|entry| args.copies.is_some() && !is_copied(entry));
    Spared {
        verified: own().filter(|entry| entry.verified).map(|entry| entry.id.clone()).max(),
        verified_only: args.verified,
        not_copied: not_copied.map(|entry| entry.id.clone()).collect(),
    }
}

/// Another owner with backups here, by the marker or by a manifest.
fn shared_with(args: &DumpArgs, owner: &str, mark: Option<&Mark>, entries: &[BackupFolder]) -> Option<String> {
    match mark {
        Some(Mark::Foreign(other)) => return Some(other.clone()),
        Some(Mark::Unreadable) => return Some(format!("an unreadable {}{MARKER_FILE}", args.prefix)),
        Some(Mark::Own) | None => {}
    }
    let other = entries.iter().rev().find_map(|entry| entry.owner().filter(|of| *of != owner))?;
    let known = crate::contract::is_owner(other);
    Some(if known { other.to_owned() } else { "an owner of an unknown form".to_owned() })
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}
