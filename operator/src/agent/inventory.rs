//! What is in the bucket under the prefix, and whose it says that it is. Reads only.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, stream};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::BackupId;
use super::manifest::{self, Manifest};
use super::stream::hex;
use crate::contract::{COPIED, DUMP_FILE, HOLD, MANIFEST_FILE, OBJECTS_FILE, SPEC_FILE, VERIFIED_FILE};
use crate::services::ServiceError;
use crate::services::bucket::{BucketClient, Object};

/// No manifest is as long. One of more than 64 KiB is unreadable to releases before this one, which leave it alone then.
pub(super) const LONGEST_MANIFEST: u64 = 1024 * 1024;
/// The end of the name of a mark of a copy whose objects were copied as well.
const WITH_OBJECTS: &str = "-objects";
const BY_REPLICA: &str = "-replica-";
/// The end of the name of a mark of a copy whose objects nobody can copy any more: they are of a bucket that the stack left.
const WITHOUT_OBJECTS: &str = "-database";
/// How many manifests are read at once.
const CONCURRENT: usize = 8;

/// One folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BackupFolder {
    pub(super) id: BackupId,
    pub(super) manifest: Found,
    /// The size of the dump, if there is one.
    pub(super) dump: Option<u64>,
    /// The objects that hold it against retention.
    pub(super) holds: BTreeSet<String>,
    /// Whether a drill says that it restored the point.
    pub(super) verified: bool,
    /// The objects that say where it was copied to.
    pub(super) copied: BTreeSet<String>,
    /// Whether it has a list of the objects of a bucket.
    pub(super) lists: bool,
}

/// What of a point is in another place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copied {
    /// The dump, and the list of the objects if there is one.
    Database,
    /// The objects as well.
    WithObjects,
    /// The objects never will be.
    WithoutObjects,
}

/// The object that says that a point was copied to a place.
pub(super) fn mark(place: &str, how: Copied) -> String {
    let ending = match how {
        Copied::Database => "",
        Copied::WithObjects => WITH_OBJECTS,
        Copied::WithoutObjects => WITHOUT_OBJECTS,
    };
    format!("{place}{ending}.json")
}

/// The object that says that a point was copied to a place with those objects that are not in a bucket that is replicated to.
pub(super) fn mark_by_replica(place: &str, replica: &str) -> String {
    let hash = hex(&Sha256::digest(replica));
    format!("{place}{BY_REPLICA}{}.json", hash.get(..12).unwrap_or_default())
}

/// The place that a mark is about.
pub(super) fn place_of(mark: &str) -> Option<&str> {
    let name = mark.strip_prefix(COPIED)?.strip_suffix(".json")?;
    if let Some((place, _)) = name.split_once(BY_REPLICA) {
        return Some(place);
    }
    let place = [WITH_OBJECTS, WITHOUT_OBJECTS].into_iter().find_map(|ending| name.strip_suffix(ending));
    Some(place.unwrap_or(name))
}

/// What a manifest is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is none: the run goes on, or was broken off.
    Missing,
    /// The agent cannot read it, or does not know its version: no run may touch it.
    Unreadable,
    /// It is sanitized, for others to read: no retention counts it, and no adoption takes it.
    Sanitized {
        /// Whether its dump is there, in its size.
        whole: bool,
    },
    /// It is one.
    Of {
        /// Whose it is, if it says so.
        owner: Option<String>,
        /// Whether its dump is there, in its size.
        whole: bool,
    },
}

impl BackupFolder {
    /// Whose it is.
    pub(super) fn owner(&self) -> Option<&str> {
        match &self.manifest {
            Found::Of { owner, .. } => owner.as_deref(),
            Found::Sanitized { .. } | Found::Missing | Found::Unreadable => None,
        }
    }

    /// Whether it is a whole backup of this owner.
    pub(super) fn is_whole_of(&self, owner: &str) -> bool {
        matches!(&self.manifest, Found::Of { owner: Some(of), whole: true } if of == owner)
    }

    /// Whether it was copied to a place, with the objects that it lists. `replica`: the bucket that the spec replicates to; what another
    /// one had no longer counts.
    pub(super) fn is_copied(&self, place: &str, replica: Option<&str>) -> bool {
        let marked = |how| self.copied.contains(&mark(place, how));
        let by_replica = replica.is_some_and(|replica| self.copied.contains(&mark_by_replica(place, replica)));
        let with_objects = if self.lists { Copied::WithObjects } else { Copied::Database };
        marked(with_objects) || marked(Copied::WithoutObjects) || by_replica
    }

    /// Whether its manifest names no owner, as those of 0.1.0.
    pub(super) fn has_no_owner(&self) -> bool {
        matches!(self.manifest, Found::Of { owner: None, .. })
    }
}

/// Looks into every folder that is named like a backup. Anything else under the prefix is not seen.
pub(super) async fn read(bucket: &BucketClient, prefix: &str) -> Result<Vec<BackupFolder>, ServiceError> {
    let folders = folders(prefix, &bucket.list(prefix).await?);
    let entries = stream::iter(folders).map(async |(id, files)| {
        let manifest = match files.manifest {
            None => Found::Missing,
            Some(size) if size > LONGEST_MANIFEST => Found::Unreadable,
            Some(_) => match bucket.get(&key(prefix, &id, MANIFEST_FILE)).await {
                Ok(Some(body)) => judge(&body, &id, files.dump),
                Ok(None) => Found::Missing,
                Err(error) => {
                    tracing::warn!(%error, %id, "a manifest cannot be read");
                    Found::Unreadable
                }
            },
        };
        let Files { dump, holds, verified, copied, lists, .. } = files;
        BackupFolder { id, manifest, dump, holds, verified, copied, lists }
    });
    let mut entries: Vec<_> = entries.buffer_unordered(CONCURRENT).collect().await;
    entries.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(entries)
}

/// A manifest counts only if it parses, is about this folder, and its dump is there in its size.
pub(super) fn judge(body: &[u8], id: &BackupId, dump: Option<u64>) -> Found {
    let Some(Manifest { owner, objects, sanitized, .. }) = parse(body, id) else { return Found::Unreadable };
    // By the end of the key: the folder may have been copied to another prefix.
    let ending = format!("{id}/{DUMP_FILE}");
    let told = objects.iter().find(|object| object.key.ends_with(&ending)).map(|object| object.size);
    let whole = told.is_some_and(|size| size > 0 && dump == Some(size));
    if sanitized { Found::Sanitized { whole } } else { Found::Of { owner, whole } }
}

/// The manifest of a folder, if it is one that this release knows.
pub(super) fn parse(body: &[u8], id: &BackupId) -> Option<Manifest> {
    let manifest: Manifest = serde_json::from_slice(body).ok()?;
    (manifest.api_version == manifest::VERSION && manifest.id == *id).then_some(manifest)
}

/// The same manifest under another owner; whatever else it holds stays, also what a newer release wrote.
pub(super) fn with_owner(body: &[u8], owner: &str, stack_uid: Option<&str>) -> Option<Vec<u8>> {
    let mut manifest: Value = serde_json::from_slice(body).ok()?;
    let members = manifest.as_object_mut()?;
    members.insert("owner".to_owned(), owner.into());
    match stack_uid {
        Some(uid) => members.insert("stackUID".to_owned(), uid.into()),
        None => members.remove("stackUID"),
    };
    serde_json::to_vec_pretty(&manifest).ok()
}

/// The sizes of the objects of a backup, and the names of those that hold it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Files {
    manifest: Option<u64>,
    dump: Option<u64>,
    holds: BTreeSet<String>,
    verified: bool,
    copied: BTreeSet<String>,
    lists: bool,
}

fn folders(prefix: &str, objects: &[Object]) -> BTreeMap<BackupId, Files> {
    let mut found: BTreeMap<BackupId, Files> = BTreeMap::new();
    for object in objects {
        match parts(prefix, &object.key) {
            Some((id, MANIFEST_FILE)) => found.entry(id).or_default().manifest = Some(object.size),
            Some((id, DUMP_FILE)) => found.entry(id).or_default().dump = Some(object.size),
            Some((id, VERIFIED_FILE)) => found.entry(id).or_default().verified = true,
            Some((id, OBJECTS_FILE)) => found.entry(id).or_default().lists = true,
            // All that is left where somebody else removed the other objects, which know nothing of it.
            Some((id, SPEC_FILE)) => drop(found.entry(id).or_default()),
            Some((id, file)) if is_copied(file) => drop(found.entry(id).or_default().copied.insert(file.to_owned())),
            Some((id, file)) if is_hold(file) => drop(found.entry(id).or_default().holds.insert(file.to_owned())),
            _ => {}
        }
    }
    found
}

/// Whether an object of a backup's folder holds it.
fn is_hold(file: &str) -> bool {
    is_mark(file, HOLD)
}

fn is_copied(file: &str) -> bool {
    is_mark(file, COPIED)
}

fn is_mark(file: &str, beginning: &str) -> bool {
    let name = file.strip_prefix(beginning).and_then(|name| name.strip_suffix(".json"));
    name.is_some_and(|name| !name.is_empty() && !name.contains('/'))
}

/// Whether an object of a backup's folder goes with the backup. A hold does not: nothing that is held goes.
pub(super) fn is_part(file: &str) -> bool {
    matches!(file, MANIFEST_FILE | DUMP_FILE | OBJECTS_FILE | SPEC_FILE | VERIFIED_FILE) || is_copied(file)
}

/// Whether a backup is held, asked of the bucket now.
pub(super) async fn is_held(bucket: &BucketClient, prefix: &str, id: &BackupId) -> Result<bool, ServiceError> {
    let folder = format!("{prefix}{id}/");
    let files = bucket.list(&folder).await?;
    Ok(files.iter().any(|object| object.key.strip_prefix(&folder).is_some_and(is_hold)))
}

/// `<prefix><id>/<file>`
pub(super) fn parts<'a>(prefix: &str, key: &'a str) -> Option<(BackupId, &'a str)> {
    let (id, file) = key.strip_prefix(prefix)?.split_once('/')?;
    Some((id.parse().ok()?, file))
}

/// `<prefix><id>/<file>`
pub(super) fn key(prefix: &str, id: &BackupId, file: &str) -> String {
    format!("{prefix}{id}/{file}")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    const ID: &str = "20260101T000000Z-aaaaa";

    fn manifest(change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let key = format!("elsewhere/{ID}/{DUMP_FILE}");
        let mut manifest = json!({
            "apiVersion": "backup.rorun.app/v1", "id": ID, "startedAt": "2026-01-01T00:00:00Z",
            "createdAt": "2026-01-01T00:00:00Z", "tool": "t", "pgDumpVersion": "17", "serverVersion": "17",
            "database": "d", "format": "f", "objects": [{"key": key, "size": 7, "sha256": "0"}], "owner": "u/s",
            "later": {"a": 1},
        });
        change(&mut manifest);
        manifest.to_string().into_bytes()
    }

    fn judged(change: impl FnOnce(&mut Value), dump: Option<u64>) -> Found {
        judge(&manifest(change), &ID.parse().expect("an id"), dump)
    }

    #[test]
    fn a_manifest_counts_with_its_dump_in_its_size() {
        let of = |owner: Option<&str>, whole| Found::Of { owner: owner.map(str::to_owned), whole };
        assert_eq!(judged(|_| {}, Some(7)), of(Some("u/s"), true));
        assert_eq!(judged(|_| {}, Some(6)), of(Some("u/s"), false));
        assert_eq!(judged(|_| {}, None), of(Some("u/s"), false));
        assert_eq!(judged(|manifest| manifest["objects"] = json!([]), Some(7)), of(Some("u/s"), false));
        assert_eq!(judged(|manifest| manifest["objects"][0]["size"] = json!(0), Some(0)), of(Some("u/s"), false));
        let without = |manifest: &mut Value| drop(manifest.as_object_mut().and_then(|members| members.remove("owner")));
        assert_eq!(judged(without, Some(7)), of(None, true));
    }

    #[rstest]
    #[case::of_a_later_form(|manifest: &mut Value| manifest["apiVersion"] = json!("backup.rorun.app/v2"))]
    #[case::of_another_folder(|manifest: &mut Value| manifest["id"] = json!("20260101T000000Z-bbbbb"))]
    #[case::of_another_kind(|manifest: &mut Value| *manifest = json!({}))]
    #[case::of_an_owner_that_is_no_text(|manifest: &mut Value| manifest["owner"] = json!(["u/s"]))]
    fn what_is_not_understood_is_nobodys(#[case] change: fn(&mut Value)) {
        assert_eq!(judged(change, Some(7)), Found::Unreadable);
    }

    #[test]
    fn another_owner_changes_nothing_else() {
        let body = with_owner(&manifest(|_| {}), "v/t", Some("uid")).expect("a manifest");
        let mut expected: Value = serde_json::from_slice(&manifest(|_| {})).expect("JSON");
        expected["owner"] = json!("v/t");
        expected["stackUID"] = json!("uid");
        assert_eq!(serde_json::from_slice::<Value>(&body).expect("JSON"), expected);
        assert_eq!(with_owner(b"[]", "v/t", None), None);
    }

    #[test]
    fn what_is_not_ours_is_not_seen() {
        let keys = [
            "b/s/notes.txt",
            "b/s/20260101T000000Z-aaaaa",
            "b/s/20260101T000000Z-aaaaa/notes.txt",
            "b/s/20260101T000000Z-aaaaa/deep/manifest.json",
            "b/s/photos/database.dump",
            "b/s2/20260101T000000Z-aaaaa/manifest.json",
            "b/s/x/20260101T000000Z-aaaaa/manifest.json",
        ];
        let objects: Vec<_> = keys.iter().map(|key| Object { key: (*key).to_owned(), size: 1 }).collect();
        assert_eq!(folders("b/s/", &objects), BTreeMap::new());
    }
}
