//! Talks to services in the background, so that a reconcile never waits for one that does not answer: one task for each
//! service of each stack, which asks again from time to time and has the stack looked at when the answer changes.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use super::{StackKey, Triggers};
use crate::{
    names::{Component, Waiting, reason},
    services::{
        ServiceError,
        bucket::{BucketClient, BucketTarget, Timeouts, Versioning},
        postgres::{self, PostgresTarget},
        redis::{self, RedisTarget},
    },
    stack::{Endpoint, Probe},
};

/// How long one service may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often a service that answers is asked again.
const HEALTHY_INTERVAL: Duration = Duration::from_mins(1);
/// How often an embedded bucket that answers is looked at again: only that it is still there.
const EMBEDDED_INTERVAL: Duration = Duration::from_mins(10);
/// How soon a service that does not answer is asked again: the first time, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// First answers that come within so long of each other are one look at the stack, and one status.
const TOGETHER: Duration = Duration::from_millis(100);
/// How many services are asked at once.
const CONCURRENT: usize = 16;

struct Task {
    endpoint: u64,
    answer: Arc<Mutex<Probe>>,
    _running: AbortOnDropHandle<()>,
}

/// The services of all stacks.
#[derive(Clone)]
pub struct Prober {
    triggers: Triggers,
    tasks: Arc<Mutex<HashMap<(StackKey, Component), Task>>>,
    slots: Arc<Semaphore>,
}

impl Prober {
    /// Nothing is asked yet.
    pub fn new(triggers: Triggers) -> Self {
        Self { triggers, tasks: Arc::default(), slots: Arc::new(Semaphore::new(CONCURRENT)) }
    }

    /// The last answers of a stack's services. Those that are new are asked from now on, those that are gone no longer.
    /// `known` gives the answer of an earlier process, so that a restart does not look like an outage.
    pub fn answers(
        &self,
        stack: &StackKey,
        endpoints: BTreeMap<Component, Endpoint>,
        known: impl Fn(Component) -> Option<Probe>,
    ) -> BTreeMap<Component, Probe> {
        let mut tasks = self.lock();
        tasks.retain(|(of, component), _| of != stack || endpoints.contains_key(component));
        let mut answers = BTreeMap::new();
        for (component, endpoint) in endpoints {
            let hash = hash(&endpoint);
            let key = (stack.clone(), component);
            let first = match tasks.get(&key) {
                Some(task) if task.endpoint == hash => None,
                Some(_) => Some(Probe::Pending),
                None => Some(known(component).unwrap_or(Probe::Pending)),
            };
            if let Some(first) = first {
                tasks.insert(key.clone(), self.start(stack.clone(), endpoint, (hash, first)));
            }
            if let Some(task) = tasks.get(&key) {
                answers.insert(component, task.answer.lock().unwrap_or_else(PoisonError::into_inner).clone());
            }
        }
        answers
    }

    /// Stops asking for a stack that is gone.
    pub fn forget(&self, stack: &StackKey) {
        self.lock().retain(|(of, _), _| of != stack);
    }

    fn start(&self, stack: StackKey, endpoint: Endpoint, (hash, first): (u64, Probe)) -> Task {
        let answer = Arc::new(Mutex::new(first));
        let (triggers, slots, shared) = (self.triggers.clone(), self.slots.clone(), answer.clone());
        let others = Others(Arc::downgrade(&self.tasks));
        let task = tokio::spawn(async move {
            let mut delay = RETRY.0;
            loop {
                let probe = {
                    let _slot = slots.acquire().await;
                    // On the heap: between two questions a task is to be no larger than its pause.
                    Box::pin(ask(&endpoint)).await
                };
                let wait = if matches!(probe, Probe::Answers { .. }) {
                    delay = RETRY.0;
                    let embedded = matches!(endpoint, Endpoint::Bucket { create: true, .. });
                    if embedded { EMBEDDED_INTERVAL } else { HEALTHY_INTERVAL }
                } else {
                    let wait = delay;
                    delay = (delay * 2).min(RETRY.1);
                    wait
                };
                let changed = {
                    let mut answer = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    std::mem::replace(&mut *answer, probe.clone()) != probe
                };
                if changed {
                    if others.is_awaited(&stack) {
                        tokio::time::sleep(TOGETHER).await;
                    }
                    triggers.send(&stack);
                }
                tokio::time::sleep(wait).await;
            }
        });
        Task { endpoint: hash, answer, _running: AbortOnDropHandle::new(task) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(StackKey, Component), Task>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tasks of all services, as one of them sees them: they do not live on by it.
struct Others(Weak<Mutex<HashMap<(StackKey, Component), Task>>>);

impl Others {
    /// Whether a service of the stack has not answered for the first time.
    fn is_awaited(&self, stack: &StackKey) -> bool {
        let Some(tasks) = self.0.upgrade() else { return false };
        let tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut of_stack = Component::ALL.into_iter().filter_map(|component| tasks.get(&(stack.clone(), component)));
        of_stack.any(|task| matches!(*task.answer.lock().unwrap_or_else(PoisonError::into_inner), Probe::Pending))
    }
}

fn hash(endpoint: &Endpoint) -> u64 {
    let mut hasher = DefaultHasher::new();
    endpoint.hash(&mut hasher);
    hasher.finish()
}

async fn ask(endpoint: &Endpoint) -> Probe {
    let answer = match endpoint {
        Endpoint::Postgres { url, ca } => {
            let target = PostgresTarget { url: url.clone(), ca: ca.clone() };
            postgres::check(&target, TIMEOUT).await.map(|_| None)
        }
        Endpoint::Redis { url, ca } => {
            let target = RedisTarget { url: url.clone(), ca: ca.clone() };
            redis::check(&target, TIMEOUT).await.map(|_| None)
        }
        Endpoint::Bucket { .. } => bucket(endpoint).await,
    };
    match answer {
        Ok(note) => Probe::Answers { note },
        Err(error) => Probe::Failed(Waiting::new(reason_of(&error), error.to_string())),
    }
}

/// Looks whether the bucket is there, makes it where that is ours to do, and turns versioning on where the spec says so. The
/// note says what the server cannot do.
async fn bucket(endpoint: &Endpoint) -> Result<Option<String>, ServiceError> {
    let Endpoint::Bucket { access, create, versioning } = endpoint else { return Ok(None) };
    let target = BucketTarget {
        endpoint: access.endpoint.clone(),
        region: access.region.clone(),
        bucket: access.name.clone(),
        force_path_style: access.force_path_style,
        access_key_id: access.access_key_id.clone(),
        secret_access_key: access.secret_access_key.clone(),
        ca: access.ca.clone(),
    };
    let client = BucketClient::new(&target, Timeouts::CHECK)?;
    match client.check().await {
        Err(ServiceError::Missing { .. }) if *create => client.create().await?,
        other => other?,
    }
    if !versioning || matches!(client.versioning().await, Ok(Versioning::Enabled)) {
        return Ok(None);
    }
    match client.enable_versioning().await {
        Ok(()) => Ok(None),
        Err(error @ (ServiceError::Unsupported { .. } | ServiceError::AccessDenied { .. })) => {
            Ok(Some(format!("versioning could not be turned on: {error}")))
        }
        Err(error) => Err(error),
    }
}

fn reason_of(error: &ServiceError) -> reason::Reason {
    match error {
        ServiceError::Unreachable { .. } | ServiceError::Other { .. } => reason::UNREACHABLE,
        ServiceError::TlsFailed { .. } => reason::TLS_FAILED,
        ServiceError::AuthenticationFailed { .. } => reason::AUTHENTICATION_FAILED,
        ServiceError::Missing { .. } => reason::NOT_FOUND,
        ServiceError::AccessDenied { .. } => reason::ACCESS_DENIED,
        ServiceError::Unsupported { .. } => reason::UNSUPPORTED,
    }
}
