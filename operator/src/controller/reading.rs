//! What `env` and `envFrom` name, as hashes: the sources of one stack at a time are read, hashed and forgotten, and read again only
//! when one of them, or what the operator tells the pods, is another. So no stack can fill the memory that all share.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    References, StackKey,
    references::{CONFIG_MAP, Key, Knowledge, SECRET},
};
use crate::{
    names::{Component, Waiting, is_object_name},
    stack::{CONFIGURATION_MAX, ConfigInput, ConfigReference, SecretData, configuration_too_large},
};

/// The hash of what a workload is configured with, or what is missing of it.
type Configuration = BTreeMap<Component, Result<String, Waiting>>;

/// What was hashed, and what came of it.
#[derive(Debug)]
pub(super) struct Hashed {
    /// The digests of the inputs.
    of: Vec<[u8; 32]>,
    /// What was known then of each object.
    versions: BTreeMap<Key, Knowledge>,
    configuration: Configuration,
}

/// The keys of an object that are used. `None`: all.
type Used = Option<BTreeSet<String>>;

impl References {
    /// The hashes of what a stack's workloads are configured with. The error names the object that could not be read.
    pub(super) async fn configuration(
        &self,
        stack: &StackKey,
        inputs: &[ConfigInput],
    ) -> Result<Configuration, (String, kube::Error)> {
        if inputs.is_empty() {
            self.lock().hashed.remove(stack);
            return Ok(Configuration::new());
        }
        let of: Vec<_> = inputs.iter().map(ConfigInput::digest).collect();
        if let Some(known) = self.known(stack, &of) {
            return Ok(known);
        }
        let _turn = self.reading.lock().await;
        let mut versions = BTreeMap::new();
        let sources = self.sources(stack, inputs, &mut versions).await?;
        let hashed = |input: &ConfigInput| {
            let sources = sources.as_ref().ok_or_else(configuration_too_large)?;
            let mut hasher = input.hasher();
            for reference in input.references() {
                hasher.add(reference, sources.get(&key(stack, reference)))?;
            }
            Ok(hasher.finish())
        };
        let configuration: Configuration = inputs.iter().map(|input| (input.component, hashed(input))).collect();
        let hashed = Hashed { of, versions, configuration: configuration.clone() };
        self.lock().hashed.insert(stack.clone(), hashed);
        Ok(configuration)
    }

    /// What came of it the last time, if nothing changed since.
    fn known(&self, stack: &StackKey, of: &[[u8; 32]]) -> Option<Configuration> {
        let contents = self.lock();
        let hashed = contents.hashed.get(stack).filter(|hashed| hashed.of == of)?;
        let same = hashed.versions.iter().all(|(key, version)| contents.knowledge(key) == *version);
        same.then(|| hashed.configuration.clone())
    }

    /// What the inputs use of each object that there is. `None`: it is too much, and the rest was not read.
    async fn sources(
        &self,
        stack: &StackKey,
        inputs: &[ConfigInput],
        versions: &mut BTreeMap<Key, Knowledge>,
    ) -> Result<Option<HashMap<Key, SecretData>>, (String, kube::Error)> {
        let mut sources = HashMap::new();
        let mut left = CONFIGURATION_MAX;
        for (key, used) in used(stack, inputs) {
            if !is_object_name(&key.2) {
                // No object ever has it, so nothing will be known of it.
                continue;
            }
            // Known not to exist: nothing to read.
            let absent = self.lock().knowledge(&key) == Knowledge::Absent;
            let whole = if absent { None } else { self.read(&key).await.map_err(|error| (named(&key), error))? };
            let version = whole.as_ref().map_or(Knowledge::Absent, |whole| Knowledge::Version(whole.version));
            versions.insert(key.clone(), version);
            let Some(mut whole) = whole else { continue };
            if let Some(used) = used {
                whole.data.retain(|key, _| used.contains(key));
            }
            let size: usize = whole.data.iter().map(|(key, value)| key.len() + value.len()).sum();
            let Some(rest) = left.checked_sub(size) else { return Ok(None) };
            left = rest;
            sources.insert(key, whole.data);
        }
        Ok(Some(sources))
    }
}

fn key(stack: &StackKey, reference: &ConfigReference) -> Key {
    (if reference.secret { SECRET } else { CONFIG_MAP }, stack.namespace.clone(), reference.name.clone())
}

fn named((kind, _, name): &Key) -> String {
    format!("{}/{name}", kind.to_ascii_lowercase())
}

/// Each object once, with the keys of it that any workload uses.
fn used(stack: &StackKey, inputs: &[ConfigInput]) -> BTreeMap<Key, Used> {
    let mut used: BTreeMap<Key, Used> = BTreeMap::new();
    for reference in inputs.iter().flat_map(ConfigInput::references) {
        let keys = used.entry(key(stack, reference)).or_insert_with(|| Some(BTreeSet::new()));
        match &reference.key {
            Some(key) => keys.iter_mut().for_each(|keys| {
                keys.insert(key.clone());
            }),
            None if reference.is_presence() => {}
            None => *keys = None,
        }
    }
    used
}
