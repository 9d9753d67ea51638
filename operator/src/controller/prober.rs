//! Talks to services in the background, so that a reconcile never waits for one that does not answer: one task for each
//! service of each stack, which asks again from time to time and has the stack looked at when the answer changes.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

use super::{StackKey, Triggers, ask::ask};
use crate::stack::{Endpoint, Probe, ProbeTarget};

/// How often a service that answers is asked again, if there are few.
const HEALTHY_INTERVAL: Duration = Duration::from_mins(1);
/// How often one of all services is asked, if there are many: each question costs a third of a millisecond of processor time.
const BETWEEN: Duration = Duration::from_millis(250);
/// How old an answer is that is not believed while a workload of the stack does not serve.
const DOUBTED_AFTER: Duration = Duration::from_secs(5);
/// How often an embedded bucket that answers is looked at again: only that it is still there.
const EMBEDDED_INTERVAL: Duration = Duration::from_mins(10);
/// How soon a service that does not answer is asked again: the first time, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// First answers that come within so long of each other are one look at the stack, and one status.
const TOGETHER: Duration = Duration::from_millis(100);
/// For how long a first answer is worth waiting for before the user is told that a service is being asked.
const SOON: Duration = Duration::from_secs(1);
/// How many services are asked at once.
const CONCURRENT: usize = 16;

struct Task {
    endpoint: u64,
    begun: Instant,
    state: Arc<State>,
    _running: AbortOnDropHandle<()>,
}

/// What a task shows of itself.
struct State {
    answer: Mutex<Probe>,
    /// When the last answer came.
    at: Mutex<Instant>,
    /// Asks again at once.
    doubt: Notify,
}

impl State {
    fn answer(&self) -> MutexGuard<'_, Probe> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at(&self) -> MutexGuard<'_, Instant> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Task {
    fn is_pending(&self) -> bool {
        matches!(*self.state.answer(), Probe::Pending)
    }
}

/// By stack, so that a pass looks at its own alone.
type Tasks = HashMap<StackKey, BTreeMap<ProbeTarget, Task>>;

/// The services of all stacks.
#[derive(Clone)]
pub struct Prober {
    triggers: Triggers,
    tasks: Arc<Mutex<Tasks>>,
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
        endpoints: BTreeMap<ProbeTarget, Endpoint>,
        known: impl Fn(ProbeTarget) -> Option<Probe>,
    ) -> BTreeMap<ProbeTarget, Probe> {
        let mut tasks = self.lock();
        if endpoints.is_empty() {
            tasks.remove(stack);
            return BTreeMap::new();
        }
        let tasks = tasks.entry(stack.clone()).or_default();
        tasks.retain(|target, _| endpoints.contains_key(target));
        let mut answers = BTreeMap::new();
        for (target, endpoint) in endpoints {
            let hash = hash(&endpoint);
            let first = match tasks.get(&target) {
                Some(task) if task.endpoint == hash => None,
                Some(_) => Some(Probe::Pending),
                None => Some(known(target).unwrap_or(Probe::Pending)),
            };
            if let Some(first) = first {
                tasks.insert(target, self.start(stack.clone(), endpoint, (hash, first)));
            }
            if let Some(task) = tasks.get(&target) {
                answers.insert(target, task.state.answer().clone());
            }
        }
        answers
    }

    /// How long to wait for first answers that may come any moment. `None`: there are none, or they take their time.
    pub fn awaited(&self, stack: &StackKey) -> Option<Duration> {
        let tasks = self.lock();
        let pending = of_stack(&tasks, stack).filter(|task| task.is_pending());
        pending.filter_map(|task| SOON.checked_sub(task.begun.elapsed())).max()
    }

    /// Something of the stack does not serve: its services are asked again, but for those that have just answered.
    pub fn doubt(&self, stack: &StackKey) {
        let tasks = self.lock();
        for task in of_stack(&tasks, stack).filter(|task| task.state.at().elapsed() >= DOUBTED_AFTER) {
            task.state.doubt.notify_one();
        }
    }

    /// Stops asking for a stack that is gone.
    pub fn forget(&self, stack: &StackKey) {
        self.lock().remove(stack);
    }

    fn start(&self, stack: StackKey, endpoint: Endpoint, (hash, first): (u64, Probe)) -> Task {
        let state = Arc::new(State { answer: Mutex::new(first), at: Mutex::new(Instant::now()), doubt: Notify::new() });
        let (triggers, slots, shared) = (self.triggers.clone(), self.slots.clone(), state.clone());
        let others = Others(Arc::downgrade(&self.tasks));
        let answered = matches!(*state.answer(), Probe::Answers { .. });
        let task = tokio::spawn(async move {
            let mut delay = RETRY.0;
            if answered {
                // What an earlier process was told a moment ago is no reason to ask all services at once.
                let later = async {
                    let (begun, share) = (Instant::now(), share(hash));
                    tokio::time::sleep(HEALTHY_INTERVAL.mul_f64(share)).await;
                    // Only by now all are known.
                    tokio::time::sleep_until(begun + often(&endpoint, others.count()).mul_f64(share)).await;
                };
                tokio::select! {
                    () = later => {}
                    () = shared.doubt.notified() => {}
                }
            }
            loop {
                let probe = {
                    let _slot = slots.acquire().await;
                    // On the heap: between two questions a task is to be no larger than its pause.
                    Box::pin(ask(&endpoint)).await
                };
                *shared.at() = Instant::now();
                let wait = if matches!(probe, Probe::Answers { .. }) {
                    delay = RETRY.0;
                    often(&endpoint, others.count())
                } else {
                    let wait = delay;
                    delay = (delay * 2).min(RETRY.1);
                    wait
                };
                let changed = {
                    let mut answer = shared.answer();
                    std::mem::replace(&mut *answer, probe.clone()) != probe
                };
                if changed {
                    if others.is_awaited(&stack) {
                        tokio::time::sleep(TOGETHER).await;
                    }
                    triggers.send(&stack);
                }
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = shared.doubt.notified() => {}
                }
            }
        });
        Task { endpoint: hash, begun: Instant::now(), state, _running: AbortOnDropHandle::new(task) }
    }

    fn lock(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often a service that answers is asked, one of so many.
fn often(endpoint: &Endpoint, count: u32) -> Duration {
    let embedded = matches!(endpoint, Endpoint::Bucket { create: true, .. });
    let often = if embedded { EMBEDDED_INTERVAL } else { HEALTHY_INTERVAL };
    often.max(BETWEEN * count)
}

/// The tasks of all services, as one of them sees them: they do not live on by it.
struct Others(Weak<Mutex<Tasks>>);

impl Others {
    /// How many services there are.
    fn count(&self) -> u32 {
        let Some(tasks) = self.0.upgrade() else { return 0 };
        let count = tasks.lock().unwrap_or_else(PoisonError::into_inner).values().map(BTreeMap::len).sum::<usize>();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Whether a service of the stack has not answered for the first time.
    fn is_awaited(&self, stack: &StackKey) -> bool {
        let Some(tasks) = self.0.upgrade() else { return false };
        let tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
        of_stack(&tasks, stack).any(Task::is_pending)
    }
}

fn of_stack<'a>(tasks: &'a Tasks, stack: &StackKey) -> impl Iterator<Item = &'a Task> {
    tasks.get(stack).into_iter().flat_map(BTreeMap::values)
}

/// Between 0 and 1, the same for the same hash.
fn share(hash: u64) -> f64 {
    f64::from(u16::try_from(hash % 1000).unwrap_or(0)) / 1000.0
}

fn hash(endpoint: &Endpoint) -> u64 {
    let mut hasher = DefaultHasher::new();
    endpoint.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{names::Component, telemetry::Metrics};

    const STACKS: usize = 1200;

    fn start(prober: &Prober, number: usize) {
        let stack = StackKey { namespace: "n".to_owned(), name: number.to_string() };
        // Nobody listens there.
        let redis = Endpoint::Redis { url: format!("redis://127.0.0.1:1/{number}"), ca: None };
        prober.answers(&stack, BTreeMap::from([(Component::Redis.into(), redis)]), |_| {
            Some(Probe::Answers { note: None })
        });
    }

    fn asked(prober: &Prober) -> usize {
        let tasks = prober.lock();
        let all = tasks.values().flat_map(BTreeMap::values);
        all.filter(|task| matches!(*task.state.answer(), Probe::Failed(_))).count()
    }

    #[tokio::test(start_paused = true)]
    async fn services_that_answered_before_a_restart_are_asked_no_more_often_than_others() {
        let (triggers, _receiver) = Triggers::new(Arc::new(Metrics::new().unwrap()));
        let prober = Prober::new(triggers);
        (0..STACKS).for_each(|number| start(&prober, number));
        tokio::time::sleep(HEALTHY_INTERVAL).await;
        let all = BETWEEN * u32::try_from(STACKS).unwrap();
        let expected = HEALTHY_INTERVAL.div_duration_f64(all);
        let share = f64::from(u32::try_from(asked(&prober)).unwrap()) / f64::from(u32::try_from(STACKS).unwrap());
        assert!(
            (expected / 2.0..expected * 1.5).contains(&share),
            "{share} of all were asked in a minute, not {expected}"
        );
        tokio::time::sleep(all).await;
        assert_eq!(asked(&prober), STACKS);
    }
}
