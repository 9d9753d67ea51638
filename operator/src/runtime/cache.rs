//! The children of every resource: labelled objects, compact, in memory. Objects without the label of this operator are not in it.

use std::{
    borrow::Borrow,
    collections::{HashMap, HashSet},
    hash::{Hash, Hasher},
    sync::{Arc, PoisonError, RwLock},
};

use super::ResourceKey;
use crate::objects::{LiveObject, LiveSet, ObjectKey, ObjectKind};

/// The children of all resources, by owner.
#[derive(Debug, Default)]
pub struct Cache(RwLock<Contents>);

#[derive(Debug, Default)]
struct Contents {
    owners: HashMap<ResourceKey, LiveSet>,
    /// Every object, by namespace, kind and name: the owner that its label names may change.
    objects: HashSet<ByPlace>,
}

impl Cache {
    /// The children of an owner.
    pub fn of(&self, owner: &ResourceKey) -> LiveSet {
        let contents = self.0.read().unwrap_or_else(PoisonError::into_inner);
        contents.owners.get(owner).cloned().unwrap_or_default()
    }

    /// Whether another owner has an object like this.
    pub fn any_other(&self, than: &ResourceKey, found: impl Fn(&LiveObject) -> bool) -> bool {
        let contents = self.0.read().unwrap_or_else(PoisonError::into_inner);
        contents.objects.iter().any(|ByPlace(live)| found(live) && owner(live) != *than)
    }

    /// Stores an object. Returns the owners that have to be reconciled: that of its label, and that of its former label; none if
    /// nothing that a decision needs is new.
    pub fn put(&self, mut live: LiveObject) -> Vec<ResourceKey> {
        let key = owner(&live);
        self.change(|contents| {
            let mut changed = Vec::new();
            let former = contents.objects.take(&live as &dyn Place);
            if let Some(ByPlace(former)) = &former {
                live.inherit_rollout(former);
            }
            let same = former.as_ref().is_some_and(|ByPlace(former)| live.is_equivalent_to(former));
            if let Some(ByPlace(former)) = former.filter(|ByPlace(former)| former.instance != live.instance) {
                changed.push(contents.take(&former));
            }
            let set = contents.owners.entry(key.clone()).or_default();
            if let Some(sibling) = set.iter().next() {
                live.intern(sibling);
            }
            if live.running.is_some() {
                set.of_component(live.kind.key, live.component).for_each(|pod| live.intern_running(pod));
            }
            let live = Arc::new(live);
            set.put(live.clone());
            contents.objects.insert(ByPlace(live));
            if !same {
                changed.push(key);
            }
            changed
        })
    }

    /// Removes an object that is gone, or no longer has the label of this operator. Returns its owner.
    pub fn remove(&self, namespace: &str, key: &ObjectKey) -> Option<ResourceKey> {
        self.change(|contents| {
            let ByPlace(gone) = contents.objects.take(&(namespace, key) as &dyn Place)?;
            Some(contents.take(&gone))
        })
    }

    /// After a list: removes the objects of a kind, in a namespace or in all, that were not listed. Returns each with its owner.
    pub fn retain(
        &self,
        kind: &'static ObjectKind,
        scope: Option<&str>,
        listed: &HashSet<(String, String)>,
    ) -> Vec<(ObjectKey, ResourceKey)> {
        let contents = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let of_kind = contents.objects.iter().map(|ByPlace(live)| live).filter(|live| live.kind == kind);
        let gone: Vec<_> = of_kind
            .filter(|live| scope.is_none_or(|scope| *scope == *live.namespace))
            .filter(|live| !listed.contains(&(live.namespace.to_string(), live.name.to_string())))
            .cloned()
            .collect();
        drop(contents);
        gone.into_iter().filter_map(|live| Some((live.key(), self.remove(&live.namespace, &live.key())?))).collect()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Contents) -> T) -> T {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Contents {
    /// Removes an object from the set of its owner, and returns the owner.
    fn take(&mut self, live: &LiveObject) -> ResourceKey {
        let key = owner(live);
        if let Some(set) = self.owners.get_mut(&key) {
            set.take(live.kind.key, &live.name);
            if set.is_empty() {
                self.owners.remove(&key);
            }
        }
        key
    }
}

/// The resource that the labels of an object name.
fn owner(live: &LiveObject) -> ResourceKey {
    ResourceKey { namespace: live.namespace.to_string(), name: live.instance.to_string() }
}

/// An object that a set finds by its place, so that no copy of its place is stored beside it.
#[derive(Debug)]
struct ByPlace(Arc<LiveObject>);

/// Namespace, kind and name.
trait Place {
    fn place(&self) -> (&str, &str, &str);
}

impl Place for LiveObject {
    fn place(&self) -> (&str, &str, &str) {
        (&self.namespace, self.kind.key, &self.name)
    }
}

impl Place for (&str, &ObjectKey) {
    fn place(&self) -> (&str, &str, &str) {
        (self.0, self.1.kind, &self.1.name)
    }
}

impl<'a> Borrow<dyn Place + 'a> for ByPlace {
    fn borrow(&self) -> &(dyn Place + 'a) {
        &*self.0
    }
}

impl Hash for dyn Place + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.place().hash(state);
    }
}

impl PartialEq for dyn Place + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for dyn Place + '_ {}

impl Hash for ByPlace {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Place::place(&*self.0).hash(state);
    }
}

impl PartialEq for ByPlace {
    fn eq(&self, other: &Self) -> bool {
        Place::place(&*self.0) == Place::place(&*other.0)
    }
}

impl Eq for ByPlace {}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::objects::kind_of;

    fn secret(name: &str, instance: &str) -> LiveObject {
        let object =
            json!({"metadata": {"name": name, "namespace": "n", "labels": {"app.kubernetes.io/instance": instance}}});
        LiveObject::whole(kind_of("", "Secret").unwrap(), object).unwrap()
    }

    fn key(name: &str) -> ResourceKey {
        ResourceKey { namespace: "n".to_owned(), name: name.to_owned() }
    }

    #[test]
    fn an_object_whose_label_changes_is_of_both_owners() {
        let cache = Cache::default();
        cache.put(secret("a", "one"));
        assert_eq!(cache.put(secret("a", "two")), vec![key("one"), key("two")]);
        assert_eq!(cache.of(&key("one")).iter().count(), 0);
        assert_eq!(cache.of(&key("two")).iter().count(), 1);
    }

    /// As an upgrade moves the name of the stack from one label to the other: only this stack is reconciled.
    #[test]
    fn data_are_found_by_either_label() {
        let data = |labels: serde_json::Value| {
            let object = json!({"metadata": {"name": "a", "namespace": "n", "labels": labels}});
            LiveObject::whole(kind_of("", "Secret").unwrap(), object).unwrap()
        };
        let cache = Cache::default();
        assert_eq!(cache.put(data(json!({"app.kubernetes.io/instance": "one"}))), vec![key("one")]);
        assert_eq!(cache.put(data(json!({"rorun.app/stack": "one"}))), vec![key("one")]);
        assert_eq!(cache.put(data(json!({"rorun.app/stack": "one"}))), vec![]);
        // What another tool calls its instance does not matter on data.
        cache.put(data(json!({"rorun.app/stack": "one", "app.kubernetes.io/instance": "two"})));
        assert!(cache.of(&key("one")).named("Secret", "a").is_some());
        assert!(cache.of(&key("two")).is_empty());
    }

    #[test]
    fn a_label_of_data_moves_nothing_that_has_a_controller() {
        let object = json!({"metadata": {"name": "a", "namespace": "n",
            "labels": {"app.kubernetes.io/instance": "one", "rorun.app/stack": "two"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "one", "uid": "1", "controller": true}]}});
        let cache = Cache::default();
        let changed = cache.put(LiveObject::whole(kind_of("", "Secret").unwrap(), object).unwrap());
        assert_eq!(changed, vec![key("one")]);
    }

    #[test]
    fn an_event_without_news_changes_no_owner() {
        let cache = Cache::default();
        assert_eq!(cache.put(secret("a", "one")), vec![key("one")]);
        let mut live = secret("a", "one");
        live.version = 7;
        assert_eq!(cache.put(live.clone()), vec![]);
        assert_eq!(cache.of(&key("one")).named("Secret", "a").unwrap().version, 7);
        live.deleting = true;
        assert_eq!(cache.put(live), vec![key("one")]);
    }

    /// A Deployment of two generations ago: what the operator applied is in `image`, and an autoscaler sets `replicas`.
    fn deployment(image: &str, (generation, seen): (i64, i64), replicas: i64, ready: i64) -> LiveObject {
        let applied = json!({"f:spec": {"f:template": {"f:spec": {"f:image": {}}}}});
        let object = json!({
            "metadata": {
                "name": "a", "namespace": "n", "uid": "1", "generation": generation,
                "labels": {"app.kubernetes.io/instance": "one"},
                "managedFields": [{"manager": "rorun-operator", "operation": "Apply", "fieldsV1": applied}],
            },
            "spec": {"replicas": replicas, "template": {"spec": {"image": image}}},
            "status": {
                "observedGeneration": seen, "replicas": ready, "updatedReplicas": ready, "readyReplicas": ready,
                "availableReplicas": ready,
            },
        });
        LiveObject::whole(kind_of("apps", "Deployment").unwrap(), object).unwrap()
    }

    #[test]
    fn a_number_that_an_autoscaler_sets_begins_no_rollout() {
        let cache = Cache::default();
        let current = |cache: &Cache| {
            let live = cache.of(&key("one"));
            let there = live.named("Deployment", "a").unwrap();
            (there.pods.unwrap().current, there.readiness.is_ready())
        };
        cache.put(deployment("i:1", (1, 1), 2, 2));
        assert_eq!(current(&cache), (true, true));
        cache.put(deployment("i:1", (2, 1), 5, 2));
        assert_eq!(current(&cache), (true, true), "its controller has not yet observed another number");
        let mut labelled = deployment("i:1", (3, 1), 5, 2);
        labelled.applied_hash = Some(crate::objects::Digest::of_bytes(b"another"));
        cache.put(labelled);
        assert_eq!(current(&cache), (true, true), "nor a field beside the template");
        cache.put(deployment("i:2", (3, 1), 5, 2));
        assert_eq!(current(&cache), (false, false), "another template begins one");
        cache.put(deployment("i:2", (4, 1), 6, 2));
        assert_eq!(current(&cache), (false, false), "and another number after it changes nothing");
    }

    #[test]
    fn pods_that_run_the_same_share_what_is_known_of_it() {
        let pod = |name: &str, image: &str| {
            let object = json!({
                "metadata": {"name": name, "namespace": "n",
                    "labels": {"app.kubernetes.io/instance": "one", "app.kubernetes.io/component": "api"}},
                "spec": {"containers": [{"name": "api", "image": image}]},
                "status": {"containerStatuses": [{"name": "api", "imageID": "sha256:0"}]},
            });
            LiveObject::whole(kind_of("", "Pod").unwrap(), object).unwrap()
        };
        let cache = Cache::default();
        for (name, image) in [("a", "i:1"), ("b", "i:1"), ("c", "i:2"), ("d", "i:2")] {
            cache.put(pod(name, image));
        }
        let live = cache.of(&key("one"));
        let image = |name: &str| live.named("Pod", name).unwrap().running.clone().unwrap().image;
        assert!(Arc::ptr_eq(&image("a"), &image("b")) && Arc::ptr_eq(&image("c"), &image("d")));
        assert!(!Arc::ptr_eq(&image("a"), &image("c")));
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
