//! Talks to services in the background, so that a reconcile never waits for one that does not answer: one task for each
//! service of each tenant, which asks again from time to time and reports an answer that changes.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Answer, Measured, Question,
    ask::{Asked, HEALTHY_INTERVAL},
    pace::{self, Pace},
    postgres::Clock,
    slots::Slots,
};
use crate::services::Network;

/// The mean time between two questions to any services, if there are many: each costs a third of a millisecond of processor time.
const BETWEEN: Duration = Duration::from_millis(250);
/// How old an answer is that is asked for again while a workload of the tenant does not serve.
const DOUBTED_AFTER: Duration = Duration::from_secs(5);
/// How soon a service that does not answer is asked again: the first time, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How many questions in a row without a good answer come so soon after each other where each costs something.
const BURST: u32 = 6;
/// How long at most a service is left alone then that lets nobody in: what costs something is an answer.
const LEFT_ALONE: Duration = Duration::from_mins(15);
/// How many doubts count in each interval of a service where each question costs something.
const DOUBTS: u32 = 3;
/// First answers that come within so long of each other cause one reconcile of the tenant.
const TOGETHER: Duration = Duration::from_millis(100);
/// How long a reconcile waits for a first answer before the status says that a service is being asked.
const SOON: Duration = Duration::from_secs(1);

/// The owner of services.
pub trait Tenant: Clone + Debug + Eq + Hash + Send + Sync + 'static {
    /// The services of one namespace share its slots.
    fn namespace(&self) -> &str;
}

/// One of the services of a tenant.
pub trait Which: Clone + Debug + Ord + Hash + Send + Sync + 'static {}

impl<S: Clone + Debug + Ord + Hash + Send + Sync + 'static> Which for S {}

struct Task {
    question: Arc<Question>,
    begun: Instant,
    state: Arc<State>,
    _running: AbortOnDropHandle<()>,
}

/// The state of a task.
struct State {
    answer: Mutex<Answer>,
    /// When the last answer came.
    at: Mutex<Instant>,
    /// Asks again at once.
    doubt: Notify,
    /// How many doubts were heard, and since when.
    doubts: Mutex<(Instant, u32)>,
}

impl State {
    fn new(first: Answer) -> Self {
        let now = Instant::now();
        Self { answer: Mutex::new(first), at: Mutex::new(now), doubt: Notify::new(), doubts: Mutex::new((now, 0)) }
    }

    /// Whether one more doubt is heard of a service that is left alone for so long.
    fn hears(&self, interval: Duration) -> bool {
        let mut doubts = self.doubts.lock().unwrap_or_else(PoisonError::into_inner);
        if doubts.0.elapsed() >= interval {
            *doubts = (Instant::now(), 0);
        }
        doubts.1 += 1;
        doubts.1 <= DOUBTS
    }

    fn answer(&self) -> MutexGuard<'_, Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at(&self) -> MutexGuard<'_, Instant> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores an answer. Returns whether it has changed. The first failure of a service that answered so far does not count: a
    /// connection may break, and a condition that changed with it would disturb a rollout and raise an alert.
    fn store(&self, answer: Answer, failures: u32) -> bool {
        *self.at() = Instant::now();
        let mut before = self.answer();
        if failures == 1 && before.is_good() {
            return false;
        }
        let answer = answer.since(&before);
        let changed = *before != answer;
        *before = answer;
        changed
    }
}

impl Task {
    fn is_pending(&self) -> bool {
        matches!(*self.state.answer(), Answer::Pending)
    }

    /// Whether it is asked because of a doubt.
    fn hears_doubt(&self) -> bool {
        let stale = self.state.at().elapsed() >= DOUBTED_AFTER;
        stale && self.question.costly().is_none_or(|interval| self.state.hears(interval))
    }
}

/// By tenant, so that a reconcile reads the tasks of its own tenant alone.
type Tasks<T, S> = HashMap<T, BTreeMap<S, Task>>;

/// Called with the tenant of an answer that changed.
type OnChange<T> = Arc<dyn Fn(&T) + Send + Sync>;

/// Called with what was measured of a service that answered.
type OnAnswer<T, S> = Arc<dyn Fn(&T, &S, Measured) + Send + Sync>;

/// The services of all tenants.
#[derive(Clone)]
pub struct Prober<T, S> {
    on_change: OnChange<T>,
    on_answer: OnAnswer<T, S>,
    clock: Clock,
    network: Network,
    tasks: Arc<Mutex<Tasks<T, S>>>,
    slots: Slots,
}

impl<T: Tenant, S: Which> Prober<T, S> {
    /// Nothing is asked yet. The prober calls `on_change` with the tenant of an answer that changed.
    pub fn new(network: Network, clock: Clock, on_change: impl Fn(&T) + Send + Sync + 'static) -> Self {
        let on_answer = Arc::new(|_: &T, _: &S, _| {});
        Self { on_change: Arc::new(on_change), on_answer, clock, network, tasks: Arc::default(), slots: Slots::new() }
    }

    /// The prober calls `on_answer` with what was measured of each answer.
    #[must_use]
    pub fn with_measures(self, on_answer: impl Fn(&T, &S, Measured) + Send + Sync + 'static) -> Self {
        Self { on_answer: Arc::new(on_answer), ..self }
    }

    /// The last answers of a tenant's services. New services are asked from now on, and services that are gone no longer. `known`
    /// gives the answer of an earlier process, so that a restart does not look like an outage.
    pub fn answers(
        &self,
        tenant: &T,
        questions: BTreeMap<S, Question>,
        known: impl Fn(&S) -> Option<Answer>,
    ) -> BTreeMap<S, Answer> {
        let mut tasks = self.lock();
        if questions.is_empty() {
            tasks.remove(tenant);
            return BTreeMap::new();
        }
        let tasks = tasks.entry(tenant.clone()).or_default();
        tasks.retain(|service, _| questions.contains_key(service));
        let mut answers = BTreeMap::new();
        for (service, question) in questions {
            let first = match tasks.get(&service) {
                Some(task) if *task.question == question => None,
                Some(_) => Some(Answer::Pending),
                None => Some(known(&service).unwrap_or(Answer::Pending)),
            };
            if let Some(first) = first {
                let task = self.start((tenant.clone(), service.clone()), Arc::new(question), first);
                tasks.insert(service.clone(), task);
            }
            if let Some(task) = tasks.get(&service) {
                let answer = task.state.answer().clone();
                answers.insert(service, answer);
            }
        }
        answers
    }

    /// How long to wait for first answers that may come at any moment. `None`: there are none, or they take longer.
    pub fn awaited(&self, tenant: &T) -> Option<Duration> {
        let tasks = self.lock();
        let pending = of_tenant(&tasks, tenant).filter(|task| task.is_pending());
        pending.filter_map(|task| SOON.checked_sub(task.begun.elapsed())).max()
    }

    /// A workload of the tenant does not serve: its services are asked again, except those that have just answered, and those where
    /// a question costs something and several doubts were heard.
    pub fn doubt(&self, tenant: &T) {
        let tasks = self.lock();
        for task in of_tenant(&tasks, tenant).filter(|task| task.hears_doubt()) {
            task.state.doubt.notify_one();
        }
    }

    /// Stops asking for a tenant that is gone.
    pub fn forget(&self, tenant: &T) {
        self.lock().remove(tenant);
    }

    fn start(&self, (tenant, service): (T, S), question: Arc<Question>, first: Answer) -> Task {
        let state = Arc::new(State::new(first));
        let asker = Asker {
            spread: spread(&(&tenant, &service)),
            tenant,
            service,
            on_answer: self.on_answer.clone(),
            clock: self.clock,
            question: question.clone(),
            state: state.clone(),
            network: self.network.clone(),
            slots: self.slots.clone(),
            all_tasks: AllTasks(Arc::downgrade(&self.tasks)),
            on_change: self.on_change.clone(),
        };
        let task = tokio::spawn(asker.run());
        Task { question, begun: Instant::now(), state, _running: AbortOnDropHandle::new(task) }
    }

    fn lock(&self) -> MutexGuard<'_, Tasks<T, S>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task of one service.
struct Asker<T, S> {
    tenant: T,
    service: S,
    on_answer: OnAnswer<T, S>,
    clock: Clock,
    question: Arc<Question>,
    state: Arc<State>,
    network: Network,
    slots: Slots,
    all_tasks: AllTasks<T, S>,
    on_change: OnChange<T>,
    /// Between 0 and 1, the same for the same service: spreads the questions over time.
    spread: f64,
}

impl<T: Tenant, S: Which> Asker<T, S> {
    async fn run(self) {
        let mut failures = 0;
        let mut pace = Pace::new(matches!(*self.state.answer(), Answer::Answers { slow: true, .. }));
        if self.state.answer().is_good() {
            self.pause_after_restart().await;
        }
        loop {
            let asked = {
                let _slot = self.slots.acquire(self.tenant.namespace()).await;
                // On the heap: between two questions a task is to be no larger than its pause.
                Box::pin(self.question.ask(&self.network, self.clock)).await
            };
            let let_in = asked.measured.is_some();
            let answer = self.paced(asked, &mut pace);
            let wait = if answer.is_good() {
                failures = 0;
                self.interval()
            } else {
                failures += 1;
                retry(failures, self.question.costly(), let_in)
            };
            if self.state.store(answer, failures) {
                if self.all_tasks.is_awaited(&self.tenant) {
                    tokio::time::sleep(TOGETHER).await;
                }
                (self.on_change)(&self.tenant);
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.state.doubt.notified() => {}
            }
        }
    }

    /// Tells how long the answer took, and the answer whether that is long.
    fn paced(&self, Asked { mut answer, measured }: Asked, pace: &mut Pace) -> Answer {
        if let (Some(measured), Answer::Answers { slow, .. }) = (measured, &mut answer) {
            (self.on_answer)(&self.tenant, &self.service, measured);
            *slow = pace.counts(measured.latency, pace::slow_from(&self.question.service));
        }
        answer
    }

    /// An earlier process got its answers a moment ago, so the questions of a new process need not come all at once.
    async fn pause_after_restart(&self) {
        let later = async {
            let begun = Instant::now();
            tokio::time::sleep(HEALTHY_INTERVAL.mul_f64(self.spread)).await;
            // The number of all tasks is known only by now.
            tokio::time::sleep_until(begun + self.interval().mul_f64(self.spread)).await;
        };
        tokio::select! {
            () = later => {}
            () = self.state.doubt.notified() => {}
        }
    }

    /// How often a service that answers is asked, given the number of all services.
    fn interval(&self) -> Duration {
        self.question.interval().max(BETWEEN * self.all_tasks.count())
    }
}

/// How soon a service is asked again that gave so many answers in a row that are not good.
fn retry(failures: u32, costly: Option<Duration>, let_in: bool) -> Duration {
    let soon = RETRY.0.saturating_mul(1 << (failures.clamp(1, 16) - 1)).min(RETRY.1);
    match costly {
        Some(interval) if failures > BURST => soon.max(if let_in { interval } else { interval.min(LEFT_ALONE) }),
        _ => soon,
    }
}

/// The tasks of all services. Each task has a weak reference to them, so that no task keeps itself alive.
struct AllTasks<T, S>(Weak<Mutex<Tasks<T, S>>>);

impl<T: Tenant, S> AllTasks<T, S> {
    /// How many services there are.
    fn count(&self) -> u32 {
        let Some(tasks) = self.0.upgrade() else { return 0 };
        let count = tasks.lock().unwrap_or_else(PoisonError::into_inner).values().map(BTreeMap::len).sum::<usize>();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Whether a service of the tenant has not answered for the first time.
    fn is_awaited(&self, tenant: &T) -> bool {
        let Some(tasks) = self.0.upgrade() else { return false };
        let tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
        of_tenant(&tasks, tenant).any(Task::is_pending)
    }
}

fn of_tenant<'a, T: Tenant, S>(tasks: &'a Tasks<T, S>, tenant: &T) -> impl Iterator<Item = &'a Task> + use<'a, T, S> {
    tasks.get(tenant).into_iter().flat_map(BTreeMap::values)
}

fn spread(of: &impl Hash) -> f64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    f64::from(u16::try_from(hasher.finish() % 1000).unwrap_or(0)) / 1000.0
}

#[cfg(test)]
mod tests;
