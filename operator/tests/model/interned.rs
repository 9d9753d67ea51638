//! Objects by number, so that states are small and quick to compare.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex},
};

use serde_json::Value;

/// An object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Interned(usize);

#[derive(Default)]
struct Table {
    numbers: HashMap<String, usize>,
    objects: Vec<Arc<Value>>,
}

static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);

impl Interned {
    /// The number of an object. Equal objects have the same: the texts of maps are sorted.
    pub fn new(object: &Value) -> Self {
        let text = sorted(object).to_string();
        let mut table = TABLE.lock().expect("nobody panicked");
        let next = table.objects.len();
        let number = *table.numbers.entry(text).or_insert(next);
        if number == next {
            table.objects.push(Arc::new(object.clone()));
        }
        Self(number)
    }

    /// The object.
    pub fn value(self) -> Arc<Value> {
        TABLE.lock().expect("nobody panicked").objects[self.0].clone()
    }
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            members.into_iter().map(|(name, member)| (name.clone(), sorted(member))).collect()
        }
        Value::Array(list) => list.iter().map(sorted).collect(),
        other => other.clone(),
    }
}
