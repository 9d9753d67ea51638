//! The copies of the objects of the application's bucket, beside the copies of points: each version once, however many points
//! list it.

use sha2::{Digest as _, Sha256};

use super::BackupId;
use super::objects::{ListedObject, word};
use super::stream;
use crate::services::bucket::bare;

/// The folder of all pools, among the folders of the namespaces. No namespace has such a name.
const FOLDER: &str = "_objects/";

/// The name of an object in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    high: u64,
    low: u64,
}

impl Name {
    /// The name of a version of an object of a bucket. A version never changes; the tag and the size tell apart what servers without
    /// versions of folders call `null`.
    pub(super) fn of(bucket: &str, object: &ListedObject) -> Self {
        let mut hash = Sha256::new();
        for text in [bucket, &object.key, &object.version_id, bare(&object.etag)] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
        let digest = hash.chain_update(object.size.to_be_bytes()).finalize();
        Self { high: word(&digest[..8]), low: word(&digest[8..16]) }
    }

    /// The name that a key of the pool ends in.
    pub(super) fn of_key(folder: &str, key: &str) -> Option<Self> {
        let name = key.strip_prefix(folder).filter(|name| name.len() == 32)?;
        let (high, low) = name.split_at_checked(16)?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let found = Self { high: number(high)?, low: number(low)? };
        (found.key(folder) == key).then_some(found)
    }

    /// The key in the pool.
    pub(super) fn key(self, folder: &str) -> String {
        let bytes = [self.high.to_be_bytes(), self.low.to_be_bytes()].concat();
        format!("{folder}{}", stream::hex(&bytes))
    }

    /// What it is divided by.
    pub(super) fn hash(self) -> (u64, u64) {
        (self.high, self.low)
    }
}

/// The folder of the pool beside the points of a stack: `backups/_objects/namespace/stack/` of `backups/namespace/stack/`.
pub(super) fn folder(prefix: &str) -> String {
    let above = above(prefix);
    let own = prefix.strip_prefix(&above).unwrap_or_default();
    format!("{above}{FOLDER}{own}")
}

/// The folder of the objects of a sanitized point, beside the points of its stack: no other point has them.
pub(super) fn of_point(prefix: &str, id: &BackupId) -> String {
    format!("{}{id}/", folder(prefix))
}

/// The folder that the backups of all stacks are below, by that of one: `backups/` of `backups/namespace/stack/`.
pub(super) fn above(prefix: &str) -> String {
    let mut folders: Vec<_> = prefix.split_inclusive('/').collect();
    folders.truncate(folders.len().saturating_sub(2));
    if folders.is_empty() { prefix.to_owned() } else { folders.concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(key: &str, version: &str, size: u64, etag: &str) -> ListedObject {
        ListedObject { key: key.to_owned(), version_id: version.to_owned(), size, etag: etag.to_owned() }
    }

    #[test]
    fn the_pool_is_beside_the_folders_of_the_namespaces() {
        let folders = ["backups/n/s/", "a/b/n/s/", "n/s/", "s/"].map(folder);
        assert_eq!(folders, ["backups/_objects/n/s/", "a/b/_objects/n/s/", "n/s/_objects/", "s/_objects/"]);
        assert_eq!(["backups/n/s/", "a/b/n/s/", "n/s/", "s/"].map(above), ["backups/", "a/b/", "n/s/", "s/"]);
    }

    #[test]
    fn a_name_is_that_of_one_version_alone() {
        let of = |bucket, key, version, size, etag| Name::of(bucket, &listed(key, version, size, etag));
        let one = of("b", "k", "v", 1, "\"t\"");
        assert_eq!(one, of("b", "k", "v", 1, "t"), "the quotes of a tag are no part of it");
        let others = [
            of("c", "k", "v", 1, "t"),
            of("b", "kv", "", 1, "t"),
            of("b", "k", "w", 1, "t"),
            of("b", "k", "v", 2, "t"),
            of("b", "k", "v", 1, "u"),
        ];
        assert!(others.iter().all(|other| *other != one), "{others:?}");
        assert_eq!(Name::of_key("p/", &one.key("p/")), Some(one));
        for key in [
            "p/x",
            "q/00000000000000000000000000000000",
            "p/0000000000000000000000000000000G",
            "p/+000000000000000000000000000000a",
        ] {
            assert_eq!(Name::of_key("p/", key), None, "{key}");
        }
    }
}
