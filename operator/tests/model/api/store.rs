//! The objects, their versions, and the history that watches read.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Where an object is: resource, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Group and plural, e.g. `apps/deployments`.
    pub resource: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

/// One change of one object.
#[derive(Clone, Debug)]
pub struct Change {
    /// The version that it made.
    pub revision: u64,
    /// Of which object.
    pub place: Place,
    /// What was there. `None`: nothing.
    pub before: Option<Value>,
    /// What is there. `None`: nothing; `before` has the version of the deletion then.
    pub after: Option<Value>,
}

/// Everything that the API server keeps.
#[derive(Clone, Debug)]
pub struct Store {
    /// The newest version.
    pub revision: u64,
    /// What there is.
    pub objects: BTreeMap<Place, Value>,
    /// What happened, oldest first.
    pub history: Vec<Change>,
    /// Watches from before this version are refused.
    pub compacted: u64,
}

impl Default for Store {
    fn default() -> Self {
        // As etcd's: version 1 is before the first write.
        Self { revision: 1, objects: BTreeMap::new(), history: Vec::new(), compacted: 1 }
    }
}

impl Store {
    /// Keeps an object, with a new version.
    pub fn put(&mut self, place: Place, mut object: Value) -> Value {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let before = self.objects.insert(place.clone(), object.clone());
        self.history.push(Change { revision: self.revision, place, before, after: Some(object.clone()) });
        object
    }

    /// Removes an object.
    pub fn remove(&mut self, place: &Place) {
        if let Some(mut before) = self.objects.remove(place) {
            self.revision += 1;
            before["metadata"]["resourceVersion"] = json!(self.revision.to_string());
            let place = place.clone();
            self.history.push(Change { revision: self.revision, place, before: Some(before), after: None });
        }
    }

    /// From now on, a watch from an older version gets 410. What happened can still be looked at by tests.
    pub fn compact(&mut self) {
        self.compacted = self.revision;
    }

    /// A uid that no other object has.
    pub fn uid(&self) -> String {
        format!("00000000-0000-4000-8000-{:012}", self.revision + 1)
    }
}

/// Whether labels are as `a=b,c=d` asks for.
pub fn selected(object: &Value, selector: &str) -> bool {
    selector.split(',').filter(|term| !term.is_empty()).all(|term| {
        let (key, value) = term.split_once('=').unwrap_or((term, ""));
        let label = object.pointer("/metadata/labels").and_then(|labels| labels.get(key)).and_then(Value::as_str);
        label == Some(value)
    })
}
