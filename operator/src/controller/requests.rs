//! What the resources beside a stack ask of it, and what became of that.
//!
//! Only the reconcile of a stack makes the stack's children, and only the controller of another resource writes that resource. So
//! the watch of a RorunBackup fills [`Asked`], which the reconcile of its stack reads, and that reconcile tells the answer, which
//! the reconcile of the RorunBackup writes into its status.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock},
};

use jiff::Timestamp;
use kube::{ResourceExt as _, runtime::watcher::Event};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::{
    api::v1alpha1::{RorunBackup, RorunRestore, RorunStack},
    names::{Waiting, annotation},
    runtime::{Reconciled, ResourceKey, Triggers, Watched},
};

/// A resource that asks something of a stack.
pub(super) trait Request: Reconciled + DeserializeOwned {
    /// What the reconcile of the stack answers.
    type Answer: Clone + PartialEq + Send + Sync + 'static;

    /// The stack.
    fn stack(&self) -> &str;

    /// Whether its status says that it is over: then it never asks again.
    fn is_over(&self) -> bool;

    /// Whether an answer is the last one: also when the stack that gave it is gone.
    fn is_final(answer: &Self::Answer) -> bool;

    /// What resources of the type ask.
    fn asked(requests: &Requests) -> &Asked<Self>;

    /// One was seen, or is gone.
    fn seen(requests: &Requests, event: &Event<Watched<Self>>);

    /// Its status. `answer`: what the stack answers, if it has already, or why there is none to answer.
    fn told(
        &self,
        old: Option<&Self::Status>,
        answer: Result<Option<&Self::Answer>, &Waiting>,
        now: Timestamp,
    ) -> Self::Status;
}

/// The stacks and what is asked of them, in one scope.
#[derive(Default)]
pub(super) struct Requests {
    /// The stacks that exist.
    pub(super) stacks: Stacks,
    /// What RorunBackups ask for.
    pub(super) backups: Asked<RorunBackup>,
    /// What RorunRestores ask for.
    pub(super) restores: Asked<RorunRestore>,
    /// The recovery points of RorunBackups that are complete, each with its URL.
    points: RwLock<HashMap<ResourceKey, String>>,
}

impl Requests {
    /// Waits until every type was listed once: what is not known yet is not to be taken for not asked.
    pub(super) async fn known(&self) {
        self.backups.known.wait().await;
        self.restores.known.wait().await;
    }

    /// A stack was seen, or is gone: those that ask something of it learn of it.
    pub(super) fn stack_seen(&self, event: &Event<Watched<RorunStack>>) {
        for stack in self.stacks.seen(event) {
            self.backups.wake(&stack);
            self.restores.wake(&stack);
        }
    }

    /// A RorunBackup was seen.
    pub(super) fn backup_seen(&self, event: &Event<Watched<RorunBackup>>) {
        self.stacks.wake(self.backups.seen(event));
        let (watched, gone) = match event {
            Event::InitApply(watched) | Event::Apply(watched) => (watched, false),
            Event::Delete(watched) => (watched, true),
            Event::Init | Event::InitDone => return,
        };
        let key = ResourceKey::of(watched);
        let location = watched.resource.status.as_ref().and_then(|status| status.location.clone());
        let mut points = self.points.write().unwrap_or_else(PoisonError::into_inner);
        let before = match location.filter(|_| !gone) {
            Some(location) => points.insert(key.clone(), location.clone()).filter(|before| *before == location),
            None => points.remove(&key).is_none().then(String::new),
        };
        drop(points);
        if before.is_none() {
            self.stacks.wake(self.restores.naming(&key));
        }
    }

    /// A RorunRestore was seen.
    pub(super) fn restore_seen(&self, event: &Event<Watched<RorunRestore>>) {
        self.stacks.wake(self.restores.seen(event));
    }

    /// The URL of the recovery point of a RorunBackup. `None`: it has none, or none yet.
    pub(super) fn point(&self, backup: &ResourceKey) -> Option<String> {
        self.points.read().unwrap_or_else(PoisonError::into_inner).get(backup).cloned()
    }
}

/// Whether something was listed once.
struct Known(watch::Sender<bool>);

impl Default for Known {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Known {
    fn set(&self) {
        self.0.send_if_modified(|known| !std::mem::replace(known, true));
    }

    async fn wait(&self) {
        // The sender lives as long as this.
        let _ = self.0.subscribe().wait_for(|known| *known).await;
    }
}

/// The stacks that exist, as their watch shows them.
#[derive(Default)]
pub(super) struct Stacks {
    /// Each with its uid.
    there: RwLock<HashMap<ResourceKey, String>>,
    listing: Mutex<HashMap<ResourceKey, String>>,
    known: Known,
    triggers: OnceLock<Triggers>,
}

impl Stacks {
    /// The queue of the stacks.
    pub(super) fn enqueue_in(&self, triggers: Triggers) {
        let _ = self.triggers.set(triggers);
    }

    /// The uid of a stack, once all were listed. `None`: there is no such stack.
    pub(super) async fn uid(&self, key: &ResourceKey) -> Option<String> {
        self.known.wait().await;
        self.there.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Reconciles these stacks.
    pub(super) fn wake(&self, stacks: Vec<ResourceKey>) {
        for stack in stacks {
            self.triggers.get().into_iter().for_each(|triggers| triggers.enqueue(&stack));
        }
    }

    /// The stacks that came or went.
    fn seen(&self, event: &Event<Watched<RorunStack>>) -> Vec<ResourceKey> {
        let mut there = self.there.write().unwrap_or_else(PoisonError::into_inner);
        let entry = |watched: &Watched<RorunStack>| (ResourceKey::of(watched), watched.uid().unwrap_or_default());
        match event {
            Event::Init => lock(&self.listing).clear(),
            Event::InitApply(watched) => lock(&self.listing).extend([entry(watched)]),
            Event::InitDone => {
                let listed = std::mem::take(&mut *lock(&self.listing));
                let before = std::mem::replace(&mut *there, listed);
                self.known.set();
                let changed = there.iter().filter(|(key, uid)| before.get(key) != Some(uid)).map(|(key, _)| key);
                let gone = before.keys().filter(|key| !there.contains_key(key));
                return changed.chain(gone).cloned().collect();
            }
            Event::Apply(watched) => {
                let (key, uid) = entry(watched);
                if there.insert(key.clone(), uid.clone()).as_ref() != Some(&uid) {
                    return vec![key];
                }
            }
            Event::Delete(watched) => {
                let key = ResourceKey::of(watched);
                return there.remove(&key).map(|_| key).into_iter().collect();
            }
        }
        Vec::new()
    }
}

/// The resources of a type that ask something and are not over, and the answers to them.
pub(super) struct Asked<K: Request> {
    open: RwLock<HashMap<ResourceKey, Arc<K>>>,
    listing: Mutex<HashMap<ResourceKey, Arc<K>>>,
    known: Known,
    triggers: OnceLock<Triggers>,
    /// The last answer to each, by its uid.
    answers: Mutex<HashMap<String, K::Answer>>,
}

impl<K: Request> Default for Asked<K> {
    fn default() -> Self {
        Self {
            open: RwLock::default(),
            listing: Mutex::default(),
            known: Known::default(),
            triggers: OnceLock::new(),
            answers: Mutex::default(),
        }
    }
}

impl<K: Request> Asked<K> {
    /// The queue of the type.
    pub(super) fn enqueue_in(&self, triggers: Triggers) {
        let _ = self.triggers.set(triggers);
    }

    /// There are none: the cluster does not serve the type.
    pub(super) fn not_served(&self) {
        self.known.set();
    }

    /// What is asked of a stack, the oldest first.
    pub(super) fn of(&self, stack: &ResourceKey) -> Vec<Arc<K>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<_> = open.values().filter(|request| asks(&***request, stack)).cloned().collect();
        found.sort_by_key(|request| (request.creation_timestamp().map(|at| at.0), request.name_any()));
        found
    }

    /// The last answer to a request.
    pub(super) fn answer(&self, uid: &str) -> Option<K::Answer> {
        lock(&self.answers).get(uid).cloned()
    }

    /// Answers what is asked of a stack. Those whose answer is another one than before are reconciled.
    pub(super) fn tell(&self, stack: &ResourceKey, mut answers: HashMap<String, K::Answer>) {
        for request in self.of(stack) {
            let uid = request.uid().unwrap_or_default();
            let Some(answer) = answers.remove(&uid) else { continue };
            let before = lock(&self.answers).insert(uid, answer.clone());
            if before != Some(answer) {
                self.enqueue(&ResourceKey::of(&*request));
            }
        }
    }

    /// Forgets the answer to a request that is gone.
    pub(super) fn forget(&self, uid: &str) {
        lock(&self.answers).remove(uid);
    }

    /// Reconciles what asks something of a stack.
    fn wake(&self, stack: &ResourceKey) {
        for request in self.of(stack) {
            self.enqueue(&ResourceKey::of(&*request));
        }
    }

    fn enqueue(&self, key: &ResourceKey) {
        self.triggers.get().into_iter().for_each(|triggers| triggers.enqueue(key));
    }

    /// The stacks of which something else is asked now.
    fn seen(&self, event: &Event<Watched<K>>) -> Vec<ResourceKey> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => lock(&self.listing).clear(),
            Event::InitApply(watched) if watched.resource.is_over() => {}
            Event::InitApply(watched) => {
                lock(&self.listing).insert(ResourceKey::of(watched), watched.resource.clone());
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut *lock(&self.listing));
                let before = std::mem::replace(&mut *open, listed);
                self.known.set();
                let changed =
                    open.iter().filter(|(key, now)| before.get(key).is_none_or(|before| differs(&**before, &**now)));
                let gone = before.iter().filter(|(key, _)| !open.contains_key(key));
                return changed.chain(gone).map(|(_, request)| stack_of(&**request)).collect();
            }
            Event::Apply(watched) => {
                let (key, now) = (ResourceKey::of(watched), watched.resource.clone());
                if now.is_over() {
                    self.forget(&now.uid().unwrap_or_default());
                }
                let before = if now.is_over() { open.remove(&key) } else { open.insert(key, now.clone()) };
                let stacks = before.iter().chain([&now]).map(|request| stack_of(&**request));
                return match &before {
                    None if now.is_over() => Vec::new(),
                    Some(before) if !now.is_over() && !differs(&**before, &*now) => Vec::new(),
                    _ => stacks.collect(),
                };
            }
            Event::Delete(watched) => {
                let gone = open.remove(&ResourceKey::of(watched));
                return gone.iter().map(|request| stack_of(&**request)).collect();
            }
        }
        Vec::new()
    }
}

impl Asked<RorunRestore> {
    /// The stacks of the restores that name a RorunBackup.
    fn naming(&self, backup: &ResourceKey) -> Vec<ResourceKey> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let names = |restore: &&Arc<RorunRestore>| {
            let named = restore.spec.from.backup_ref.as_ref();
            named.is_some_and(|named| named.name == backup.name)
                && restore.namespace().as_deref() == Some(&*backup.namespace)
        };
        open.values().filter(names).map(|restore| stack_of(&**restore)).collect()
    }
}

/// Whether a stack has to look at a request again: its status is none of the stack's business.
fn differs<K: Request>(before: &K, now: &K) -> bool {
    let retry = |request: &K| request.annotations().get(annotation::RETRY).cloned();
    let of = |request: &K| (request.meta().generation, request.meta().deletion_timestamp.is_some(), retry(request));
    before.uid() != now.uid() || of(before) != of(now)
}

fn stack_of<K: Request>(request: &K) -> ResourceKey {
    ResourceKey { namespace: request.namespace().unwrap_or_default(), name: request.stack().to_owned() }
}

fn asks<K: Request>(request: &K, stack: &ResourceKey) -> bool {
    request.stack() == stack.name && request.namespace().as_deref() == Some(&*stack.namespace)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether one of these conditions is true.
pub(super) fn is_true(
    conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition],
    kinds: &[&str],
) -> bool {
    conditions.iter().any(|condition| condition.status == "True" && kinds.contains(&&*condition.type_))
}
