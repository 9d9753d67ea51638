//! What there is of every stack: labelled objects, compact, in memory. Nothing that is not labelled ours is kept.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
};

use crate::objects::{LiveObject, LiveSet, ObjectKey, ObjectKind};

/// A stack by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackKey {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

type Objects = HashMap<StackKey, BTreeMap<ObjectKey, Arc<LiveObject>>>;

/// The objects of all stacks.
#[derive(Debug, Default)]
pub struct Cache(RwLock<Contents>);

#[derive(Debug, Default)]
struct Contents {
    objects: Objects,
    /// To which stack an object was counted last: its label may have changed since.
    stacks: HashMap<(String, ObjectKey), StackKey>,
}

impl Cache {
    /// The objects of a stack.
    pub fn of(&self, stack: &StackKey) -> LiveSet {
        let contents = self.0.read().unwrap_or_else(PoisonError::into_inner);
        contents.objects.get(stack).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    /// Keeps an object. Returns the stacks that it concerns: that of its label, and that of its former label.
    pub fn put(&self, live: LiveObject) -> Vec<StackKey> {
        let key = live.key();
        let stack = StackKey { namespace: live.namespace.clone(), name: live.instance.clone() };
        let mut concerned = Vec::new();
        self.change(|contents| {
            let place = (live.namespace.clone(), key.clone());
            if let Some(former) = contents.stacks.insert(place, stack.clone()).filter(|former| *former != stack) {
                contents.take(&former, &key);
                concerned.push(former);
            }
            contents.objects.entry(stack.clone()).or_default().insert(key, Arc::new(live));
        });
        concerned.push(stack);
        concerned
    }

    /// Drops an object that is gone, or no longer labelled ours.
    pub fn remove(&self, namespace: &str, key: &ObjectKey) -> Option<StackKey> {
        let mut concerned = None;
        self.change(|contents| {
            if let Some(stack) = contents.stacks.remove(&(namespace.to_owned(), key.clone())) {
                contents.take(&stack, key);
                concerned = Some(stack);
            }
        });
        concerned
    }

    /// After a list: drops the objects of a kind, in a namespace or in all, that were not listed.
    pub fn retain(
        &self,
        kind: &'static ObjectKind,
        scope: Option<&str>,
        listed: &HashSet<(String, String)>,
    ) -> Vec<(ObjectKey, StackKey)> {
        let contents = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<_> = contents
            .stacks
            .keys()
            .filter(|(namespace, key)| {
                key.kind == kind.kind
                    && scope.is_none_or(|scope| scope == namespace)
                    && !listed.contains(&(namespace.clone(), key.name.clone()))
            })
            .cloned()
            .collect();
        drop(contents);
        gone.into_iter().filter_map(|(namespace, key)| Some((key.clone(), self.remove(&namespace, &key)?))).collect()
    }

    fn change(&self, change: impl FnOnce(&mut Contents)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Contents {
    fn take(&mut self, stack: &StackKey, key: &ObjectKey) {
        if let Some(objects) = self.objects.get_mut(stack) {
            objects.remove(key);
            if objects.is_empty() {
                self.objects.remove(stack);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::objects::kind_of;

    fn secret(name: &str, instance: &str) -> LiveObject {
        let object =
            json!({"metadata": {"name": name, "namespace": "n", "labels": {"app.kubernetes.io/instance": instance}}});
        LiveObject::new(kind_of("", "Secret").unwrap(), object).unwrap()
    }

    fn key(name: &str) -> StackKey {
        StackKey { namespace: "n".to_owned(), name: name.to_owned() }
    }

    #[test]
    fn an_object_whose_label_moves_concerns_both_stacks() {
        let cache = Cache::default();
        cache.put(secret("a", "one"));
        assert_eq!(cache.put(secret("a", "two")), vec![key("one"), key("two")]);
        assert_eq!(cache.of(&key("one")).iter().count(), 0);
        assert_eq!(cache.of(&key("two")).iter().count(), 1);
    }

    #[test]
    fn a_list_drops_what_it_does_not_hold() {
        let cache = Cache::default();
        cache.put(secret("a", "one"));
        cache.put(secret("b", "one"));
        let listed = HashSet::from([("n".to_owned(), "a".to_owned())]);
        assert_eq!(cache.retain(kind_of("", "Secret").unwrap(), None, &listed).len(), 1);
        assert!(cache.of(&key("one")).named("Secret", "a").is_some());
        assert!(cache.of(&key("one")).named("Secret", "b").is_none());
    }
}
