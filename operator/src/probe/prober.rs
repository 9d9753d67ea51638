//! Talks to services in the background, so that a reconcile never waits for one that does not answer: one task for each
//! service of each tenant, which asks again from time to time and tells when the answer changes.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use tokio_util::task::AbortOnDropHandle;

use super::{Answer, Question, ask::HEALTHY_INTERVAL, slots::Slots};
use crate::services::Network;

/// How often one of all services is asked, if there are many: each question costs a third of a millisecond of processor time.
const BETWEEN: Duration = Duration::from_millis(250);
/// How old an answer is that is not believed while a workload of the tenant does not serve.
const DOUBTED_AFTER: Duration = Duration::from_secs(5);
/// How soon a service that does not answer is asked again: the first time, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// First answers that come within so long of each other are one look at the tenant.
const TOGETHER: Duration = Duration::from_millis(100);
/// For how long a first answer is worth waiting for before the user is told that a service is being asked.
const SOON: Duration = Duration::from_secs(1);

/// Whose services they are.
pub trait Tenant: Clone + Debug + Eq + Hash + Send + Sync + 'static {
    /// Those of one namespace share its turns.
    fn namespace(&self) -> &str;
}

/// Which one of a tenant's services it is.
pub trait Which: Clone + Debug + Ord + Hash + Send + Sync + 'static {}

impl<S: Clone + Debug + Ord + Hash + Send + Sync + 'static> Which for S {}

struct Task {
    question: Arc<Question>,
    begun: Instant,
    state: Arc<State>,
    _running: AbortOnDropHandle<()>,
}

/// What a task shows of itself.
struct State {
    answer: Mutex<Answer>,
    /// When the last answer came.
    at: Mutex<Instant>,
    /// Asks again at once.
    doubt: Notify,
}

impl State {
    fn answer(&self) -> MutexGuard<'_, Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at(&self) -> MutexGuard<'_, Instant> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an answer. Returns whether it is another than before. One failure of a service that answered so far is none yet:
    /// a connection may break, and a condition that turns for it turns a rollout, an alert and a mind.
    fn told(&self, answer: Answer, failures: u32) -> bool {
        *self.at() = Instant::now();
        let mut before = self.answer();
        if failures == 1 && before.is_good() {
            return false;
        }
        let changed = *before != answer;
        *before = answer;
        changed
    }
}

impl Task {
    fn is_pending(&self) -> bool {
        matches!(*self.state.answer(), Answer::Pending)
    }
}

/// By tenant, so that a pass looks at its own alone.
type Tasks<T, S> = HashMap<T, BTreeMap<S, Task>>;

type News<T> = Arc<dyn Fn(&T) + Send + Sync>;

/// The services of all tenants.
#[derive(Clone)]
pub struct Prober<T, S> {
    news: News<T>,
    network: Network,
    tasks: Arc<Mutex<Tasks<T, S>>>,
    slots: Slots,
}

impl<T: Tenant, S: Which> Prober<T, S> {
    /// Nothing is asked yet. `news` is called with the tenant of an answer that changed.
    pub fn new(network: Network, news: impl Fn(&T) + Send + Sync + 'static) -> Self {
        Self { news: Arc::new(news), network, tasks: Arc::default(), slots: Slots::new() }
    }

    /// The last answers of a tenant's services. Those that are new are asked from now on, those that are gone no longer.
    /// `known` gives the answer of an earlier process, so that a restart does not look like an outage.
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

    /// How long to wait for first answers that may come any moment. `None`: there are none, or they take their time.
    pub fn awaited(&self, tenant: &T) -> Option<Duration> {
        let tasks = self.lock();
        let pending = of_tenant(&tasks, tenant).filter(|task| task.is_pending());
        pending.filter_map(|task| SOON.checked_sub(task.begun.elapsed())).max()
    }

    /// Something of the tenant does not serve: its services are asked again, but for those that have just answered.
    pub fn doubt(&self, tenant: &T) {
        let tasks = self.lock();
        for task in of_tenant(&tasks, tenant).filter(|task| task.state.at().elapsed() >= DOUBTED_AFTER) {
            task.state.doubt.notify_one();
        }
    }

    /// Stops asking for a tenant that is gone.
    pub fn forget(&self, tenant: &T) {
        self.lock().remove(tenant);
    }

    fn start(&self, (tenant, service): (T, S), question: Arc<Question>, first: Answer) -> Task {
        let state = Arc::new(State { answer: Mutex::new(first), at: Mutex::new(Instant::now()), doubt: Notify::new() });
        let asker = Asker {
            share: share(&(&tenant, &service)),
            tenant,
            question: question.clone(),
            state: state.clone(),
            network: self.network.clone(),
            slots: self.slots.clone(),
            others: Others(Arc::downgrade(&self.tasks)),
            news: self.news.clone(),
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
    question: Arc<Question>,
    state: Arc<State>,
    network: Network,
    slots: Slots,
    others: Others<T, S>,
    news: News<T>,
    /// Between 0 and 1, the same for the same service.
    share: f64,
}

impl<T: Tenant, S: Which> Asker<T, S> {
    async fn run(self) {
        let (mut delay, mut failures) = (RETRY.0, 0);
        if self.state.answer().is_good() {
            self.pause_after_restart().await;
        }
        loop {
            let answer = {
                let _slot = self.slots.turn(self.tenant.namespace()).await;
                // On the heap: between two questions a task is to be no larger than its pause.
                Box::pin(self.question.ask(&self.network)).await
            };
            let wait = if answer.is_good() {
                (delay, failures) = (RETRY.0, 0);
                self.often()
            } else {
                failures += 1;
                let wait = delay;
                delay = (delay * 2).min(RETRY.1);
                wait
            };
            if self.state.told(answer, failures) {
                if self.others.is_awaited(&self.tenant) {
                    tokio::time::sleep(TOGETHER).await;
                }
                (self.news)(&self.tenant);
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.state.doubt.notified() => {}
            }
        }
    }

    /// What an earlier process was told a moment ago is no reason to ask all services at once.
    async fn pause_after_restart(&self) {
        let later = async {
            let begun = Instant::now();
            tokio::time::sleep(HEALTHY_INTERVAL.mul_f64(self.share)).await;
            // Only by now all are known.
            tokio::time::sleep_until(begun + self.often().mul_f64(self.share)).await;
        };
        tokio::select! {
            () = later => {}
            () = self.state.doubt.notified() => {}
        }
    }

    /// How often a service that answers is asked, one of so many.
    fn often(&self) -> Duration {
        self.question.often().max(BETWEEN * self.others.count())
    }
}

/// The tasks of all services, as one of them sees them: they do not live on by it.
struct Others<T, S>(Weak<Mutex<Tasks<T, S>>>);

impl<T: Tenant, S> Others<T, S> {
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

fn share(of: &impl Hash) -> f64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    f64::from(u16::try_from(hasher.finish() % 1000).unwrap_or(0)) / 1000.0
}

#[cfg(test)]
mod tests;
