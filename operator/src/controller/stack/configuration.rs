//! The sources that `env` and `envFrom` name, as hashes: the operator reads the sources of one stack at a time, hashes and drops
//! them, and reads them again only when one of them, or a variable of the operator's own, has changed. So no stack can fill the
//! memory that all share.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    names::{Component, Waiting, is_object_name},
    runtime::{
        ResourceKey,
        references::{CONFIG_MAP, Knowledge, ObjectReference, References, SECRET},
    },
    stack::{CONFIGURATION_MAX, ConfigInput, ConfigReference, SecretData, configuration_too_large},
};

/// The hash of the configuration of each workload, or its missing part, in the order of the inputs.
type Configuration = Vec<(Component, Result<String, Waiting>)>;

/// A configuration with the inputs that it was made of.
#[derive(Debug)]
struct Hashed {
    /// The digests of the inputs.
    inputs: Vec<[u8; 32]>,
    /// The version of each object that was read.
    versions: BTreeMap<ObjectReference, Knowledge>,
    configuration: Configuration,
}

/// The keys of an object that are used. `None`: all.
type Used = Option<BTreeSet<String>>;

/// The configuration of the workloads of all stacks.
pub(super) struct Configurations {
    references: References,
    hashed: Mutex<HashMap<ResourceKey, Hashed>>,
    /// Locked while the sources of a stack are in memory, so that they are those of one stack at a time.
    one_reader: Arc<tokio::sync::Mutex<()>>,
}

impl Configurations {
    /// Nothing is hashed yet.
    pub(super) fn new(references: References, one_reader: Arc<tokio::sync::Mutex<()>>) -> Self {
        Self { references, hashed: Mutex::default(), one_reader }
    }

    /// Forgets a stack.
    pub(super) fn forget(&self, stack: &ResourceKey) {
        self.hashed().remove(stack);
    }

    /// The configuration of a stack's workloads. The error names the object that could not be read.
    pub(super) async fn of(
        &self,
        stack: &ResourceKey,
        inputs: &[ConfigInput],
    ) -> Result<Configuration, (String, kube::Error)> {
        if inputs.is_empty() {
            self.forget(stack);
            return Ok(Configuration::new());
        }
        let digests: Vec<_> = inputs.iter().map(ConfigInput::digest).collect();
        if let Some(known) = self.known(stack, &digests) {
            return Ok(known);
        }
        let _only_reader = self.one_reader.lock().await;
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
        let hashed = Hashed { inputs: digests, versions, configuration: configuration.clone() };
        self.hashed().insert(stack.clone(), hashed);
        Ok(configuration)
    }

    /// The configuration of the reconcile before, if no input has changed since.
    fn known(&self, stack: &ResourceKey, inputs: &[[u8; 32]]) -> Option<Configuration> {
        let hashed = self.hashed();
        let hashed = hashed.get(stack).filter(|hashed| hashed.inputs == inputs)?;
        let same = hashed.versions.iter().all(|(key, version)| self.references.knowledge(key) == *version);
        same.then(|| hashed.configuration.clone())
    }

    fn hashed(&self) -> MutexGuard<'_, HashMap<ResourceKey, Hashed>> {
        self.hashed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The members of each object that the inputs use. `None`: they are too large, and the rest was not read.
    async fn sources(
        &self,
        stack: &ResourceKey,
        inputs: &[ConfigInput],
        versions: &mut BTreeMap<ObjectReference, Knowledge>,
    ) -> Result<Option<HashMap<ObjectReference, SecretData>>, (String, kube::Error)> {
        let mut sources = HashMap::new();
        let mut left = CONFIGURATION_MAX;
        for (key, used) in used(stack, inputs) {
            if !is_object_name(&key.2) {
                // No object can have this name.
                continue;
            }
            // The cache knows that it does not exist.
            let absent = self.references.knowledge(&key) == Knowledge::Absent;
            let whole =
                if absent { None } else { self.references.read(&key).await.map_err(|error| (named(&key), error))? };
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

fn key(stack: &ResourceKey, reference: &ConfigReference) -> ObjectReference {
    (if reference.secret { SECRET } else { CONFIG_MAP }, stack.namespace.clone(), reference.name.clone())
}

fn named((kind, _, name): &ObjectReference) -> String {
    format!("{}/{name}", kind.to_ascii_lowercase())
}

/// Each object once, with the keys of it that any workload uses.
fn used(stack: &ResourceKey, inputs: &[ConfigInput]) -> BTreeMap<ObjectReference, Used> {
    let mut used: BTreeMap<ObjectReference, Used> = BTreeMap::new();
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
