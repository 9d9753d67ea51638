//! What a part of the keys of a point are like, in little memory.

use sha2::{Digest as _, Sha256};

use crate::agent::objects::{ListedObject, hash, word};
use crate::agent::parts::Part;
use crate::services::bucket::bare;

/// How a key that is listed was found in the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Not,
    Other,
    Same,
}

/// The objects of a part.
pub(super) struct Index {
    part: Part,
    entries: Vec<[u64; 3]>,
    found: Vec<Found>,
}

impl Index {
    pub(super) fn new(part: Part) -> Self {
        Self { part, entries: Vec::new(), found: Vec::new() }
    }

    /// Adds an object of the list, if it belongs to the part.
    pub(super) fn add(&mut self, object: &ListedObject) {
        let (high, low) = hash(&object.key);
        if self.part.holds((high, low)) {
            self.entries.push([high, low, state(object.size, &object.etag)]);
        }
    }

    /// Has to come after the last [`Index::add`].
    pub(super) fn finish(&mut self) {
        self.entries.sort_unstable();
        self.found = vec![Found::Not; self.entries.len()];
    }

    /// Takes note of an object that is there. Gives whether its key is listed.
    pub(super) fn see(&mut self, key: &str, size: u64, tag: &str) -> bool {
        let Some(index) = self.position(key) else { return false };
        let same = self.entries[index][2] == state(size, tag);
        self.found[index] = if same { Found::Same } else { Found::Other };
        true
    }

    /// Whether an object of the list belongs to the part and is not as it was.
    pub(super) fn differs(&self, key: &str) -> bool {
        self.part.holds(hash(key)) && self.position(key).is_some_and(|index| self.found[index] != Found::Same)
    }

    fn position(&self, key: &str) -> Option<usize> {
        let (high, low) = hash(key);
        self.entries.binary_search_by(|[one, two, _]| (*one, *two).cmp(&(high, low))).ok()
    }
}

fn state(size: u64, tag: &str) -> u64 {
    let digest = Sha256::new().chain_update(size.to_be_bytes()).chain_update(bare(tag)).finalize();
    word(&digest[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(key: &str, size: u64, etag: &str) -> ListedObject {
        ListedObject { key: key.to_owned(), version_id: "v".to_owned(), size, etag: etag.to_owned() }
    }

    /// Whatever the order, and however many passes there are: each key is judged once.
    #[test]
    fn each_key_is_judged_in_one_pass() {
        let (mut newer, mut differing) = (Vec::new(), Vec::new());
        for part in Part::divided(10, 4) {
            let mut index = Index::new(part);
            (0..10).rev().for_each(|n| index.add(&listed(&format!("k{n}"), n, "\"t\"")));
            index.finish();
            // 2 has another size, 3 another tag, 0 and 1 are gone.
            for n in [7, 11, 2, 9, 3, 4, 5, 6, 8, 12] {
                let (key, size) = (format!("k{n}"), if n == 2 { 7 } else { n });
                let tag = if n == 3 { "u" } else { "t" };
                if part.holds(hash(&key)) && !index.see(&key, size, tag) {
                    newer.push(n);
                }
            }
            differing.extend((0..10).filter(|n| index.differs(&format!("k{n}"))));
        }
        newer.sort_unstable();
        differing.sort_unstable();
        assert_eq!((newer, differing), (vec![11, 12], vec![0, 1, 2, 3]));
        assert_eq!(Part::divided(10, 4).count(), 3);
        assert_eq!(Part::all(0).count(), 1, "keys that are newer than an empty point are still looked at");
    }
}
