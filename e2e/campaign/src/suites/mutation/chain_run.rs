//! A chain of changes of one stack, in a namespace of its own, with a judgement after each.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::ByteString;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind, TypeMeta};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::bases::{Base, CANARY, in_the_way};
use super::elsewhere::{alike, is_elsewhere};
use super::judge::{leaks, shown};
use super::schema::Change;
use super::shared::Shared;
use super::watched::Observed;
use crate::environment::STACK;

const TENDED: Duration = Duration::from_millis(200);

/// A stack, and the changes of its user, one after the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Chain {
    pub(super) base: Base,
    pub(super) changes: Vec<Change>,
}

/// The answer to an apply by the user.
enum Answer {
    /// The generation, and the spec as the API server stored it: an empty block may be none.
    Stored(i64, Value),
    Refused(String),
}

/// A chain that goes on.
pub(super) struct ChainRun<'a> {
    shared: &'a Shared,
    base: Base,
    namespace: String,
    spec: Value,
    generation: i64,
    observed: Observed,
    secrets: Vec<String>,
    /// The problems.
    pub(super) problems: Vec<String>,
}

impl<'a> ChainRun<'a> {
    /// A new stack of the base, at rest.
    pub(super) async fn begin(shared: &'a Shared, base: Base) -> Result<ChainRun<'a>> {
        ChainRun::with(shared, base, base.spec(&shared.bucket.endpoint)).await
    }

    async fn with(shared: &'a Shared, base: Base, spec: Value) -> Result<ChainRun<'a>> {
        let namespace = shared.environment.namespace().await?;
        let mut objects = shared.surroundings.clone();
        objects.extend((base == Base::Staging).then(in_the_way));
        for object in &objects {
            make(shared, &namespace, object).await?;
        }
        let mut chain_run = ChainRun {
            shared,
            base,
            namespace,
            spec: Value::Null,
            generation: 0,
            observed: Observed::default(),
            secrets: vec![CANARY.to_owned()],
            problems: Vec::new(),
        };
        match chain_run.apply(&spec).await? {
            Answer::Stored(generation, _) => chain_run.generation = generation,
            Answer::Refused(why) => anyhow::bail!("{base:?} is refused: {why}"),
        }
        chain_run.observed = chain_run.rest().await;
        chain_run.spec = spec;
        let passwords = chain_run.observed.leaves.iter().filter(|(path, _)| {
            path.contains("-credentials/data/") && !path.ends_with("/username") && !path.ends_with("/database")
        });
        let decoded = passwords.filter_map(|(_, value)| serde_json::from_value::<ByteString>(value.clone()).ok());
        chain_run.secrets.extend(decoded.filter_map(|bytes| String::from_utf8(bytes.0).ok()));
        Ok(chain_run)
    }

    /// The objects at rest.
    pub(super) fn observed(&self) -> &Observed {
        &self.observed
    }

    /// Makes the changes, one after the other; what is bad is taken back. In the end the same stack is made afresh, and this
    /// one is set back to what it was at first.
    pub(super) async fn play(&mut self, chain: &Chain) -> Result<()> {
        let (first, masks) = (self.observed.clone(), self.shared.masks(chain.base));
        let start = self.spec.clone();
        for change in &chain.changes {
            let before = self.problems.len();
            self.step(change, &first).await?;
            for problem in &mut self.problems[before..] {
                *problem = format!("{problem} (at {change})");
            }
            if self.problems.len() > before {
                // After this problem the rest of the chain proves nothing.
                return Ok(());
            }
        }
        if self.spec != start {
            let fresh = ChainRun::with(self.shared, chain.base, self.spec.clone()).await?;
            self.problems.extend(masks.differences(&self.observed, &fresh.observed, "O5"));
            self.problems.extend(fresh.problems.iter().map(|problem| format!("afresh: {problem}")));
            self.shared.namespaces.forget(&fresh.namespace);
            self.go_to(&start).await?;
            self.problems.extend(masks.differences(&self.observed, &first, "O6 all taken back:"));
        }
        Ok(())
    }

    async fn step(&mut self, change: &Change, first: &Observed) -> Result<()> {
        let mut spec = self.spec.clone();
        self.shared.schema.put(&mut spec, change);
        if spec == self.spec {
            self.shared.tally(change, |count| count.without += 1);
            return Ok(());
        }
        let (generation, stored) = match self.apply(&spec).await? {
            Answer::Refused(why) => {
                self.shared.tally(change, |count| count.refused += 1);
                return self.refused(change, &spec, &why).await;
            }
            Answer::Stored(generation, stored) => (generation, stored),
        };
        if generation == self.generation {
            // The API server takes the two for the same, as with an empty map and none.
            self.shared.tally(change, |count| count.without += 1);
            self.spec = stored;
            return Ok(());
        }
        let (before, known) = (self.observed.clone(), self.spec.clone());
        self.generation = generation;
        self.observed = self.rest().await;
        let shows = shown(&before, &self.observed);
        self.shared.tally(change, |count| {
            count.stored += 1;
            count.in_child += usize::from(shows.in_child);
        });
        if !shows.in_child && !shows.in_condition && !alike(&spec, &self.spec) && !is_elsewhere(&change.place) {
            self.problems.push("O7 nothing shows".to_owned());
        }
        if self.observed.trouble.iter().any(|(kind, reason)| first.trouble.get(kind) != Some(reason)) {
            self.shared.tally(change, |count| count.bad += 1);
            self.go_to(&known).await?;
            let masks = self.shared.masks(self.base);
            self.problems.extend(masks.differences(&self.observed, &before, "O6"));
        } else {
            self.spec = stored;
        }
        Ok(())
    }

    /// A refusal names the field, and is the same each time.
    async fn refused(&mut self, change: &Change, spec: &Value, why: &str) -> Result<()> {
        let names = change.place.split('/').filter(|name| !name.starts_with(['[', '{'])).rev().take(3);
        let mut names = names.collect::<Vec<_>>().into_iter();
        if !names.any(|name| why.contains(name)) {
            self.problems.push(format!("the refusal does not name the field: {why}"));
        }
        match self.apply(spec).await? {
            Answer::Refused(again) if words(&again) == words(why) => {}
            Answer::Refused(again) => {
                self.problems.push(format!("refused otherwise at the second time: {why}; {again}"));
            }
            Answer::Stored(..) => self.problems.push(format!("refused only at the first time: {why}")),
        }
        Ok(())
    }

    async fn go_to(&mut self, spec: &Value) -> Result<()> {
        match self.apply(spec).await? {
            Answer::Stored(generation, _) => self.generation = generation,
            Answer::Refused(why) => self.problems.push(format!("the way back is refused: {why}")),
        }
        self.observed = self.rest().await;
        self.spec = spec.clone();
        Ok(())
    }

    async fn rest(&mut self) -> Observed {
        let ended = self.shared.ended();
        let rest = self.shared.namespaces.rest(&self.namespace, self.generation);
        tokio::pin!(rest);
        let observed = loop {
            tokio::select! {
                observed = &mut rest => break observed,
                // An operator that has ended is followed by another.
                () = tokio::time::sleep(TENDED) => drop(self.shared.ended()),
            }
        };
        self.problems.extend(observed.problems.iter().cloned());
        if observed.problems.iter().any(|problem| problem.starts_with("O3")) {
            self.problems.extend(self.shared.last_words(&self.namespace));
        }
        self.problems.extend(leaks(&observed, &self.secrets));
        if self.shared.ended() != ended {
            self.problems.push("O8 the operator ended by itself".to_owned());
        }
        observed
    }

    async fn apply(&self, spec: &Value) -> Result<Answer> {
        let stack = json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack", "metadata": {"name": STACK}, "spec": spec});
        let params = PatchParams::apply("user").force();
        match self.shared.environment.stacks(&self.namespace).patch(STACK, &params, &Patch::Apply(&stack)).await {
            Ok(stored) => {
                Ok(Answer::Stored(stored.metadata.generation.unwrap_or_default(), stored.data["spec"].clone()))
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 422 | 500) => {
                Ok(Answer::Refused(status.message.clone()))
            }
            Err(error) => Err(error).context("failed to apply the stack"),
        }
    }

    /// Forgets the objects.
    pub(super) fn end(self) -> (Vec<String>, Vec<String>) {
        self.shared.namespaces.forget(&self.namespace);
        (self.problems, self.secrets)
    }
}

async fn make(shared: &Shared, namespace: &str, object: &Value) -> Result<()> {
    let types: TypeMeta = serde_json::from_value(object.clone())?;
    let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(types)?);
    let name = object["metadata"]["name"].as_str().context("an object has a name")?;
    let api = Api::<DynamicObject>::namespaced_with(shared.environment.client.clone(), namespace, &resource);
    api.patch(name, &PatchParams::apply("somebody"), &Patch::Apply(object)).await?;
    Ok(())
}
/// The words of a refusal, sorted: the API server lists the errors of the fields of an object in any order.
fn words(refusal: &str) -> Vec<&str> {
    let mut words: Vec<_> = refusal.split([' ', ',', '[', ']']).filter(|word| !word.is_empty()).collect();
    words.sort_unstable();
    words
}
