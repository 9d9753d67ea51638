//! Candidates against a Lease in memory that refuses a write with an old version, as the API server does.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
    thread,
};

use futures::future::{BoxFuture, FutureExt as _};
use k8s_openapi::api::coordination::v1::LeaseSpec;
use rstest::rstest;
use tokio::time::timeout;

use super::*;

const LEASE_DURATION: Duration = Duration::from_secs(2);
const RENEW_DEADLINE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(10);

/// What happens to the next write.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It is refused.
    Refuse,
    /// It has its effect, and its answer never comes.
    LoseAnswer,
    /// It never arrives.
    Hang,
    /// Somebody else changes a label just before.
    Relabel,
    /// The process is stopped while it is under way, longer than the lease.
    Freeze,
}

#[derive(Debug, Default)]
struct Memory(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    lease: Option<Lease>,
    writes: u32,
    faults: VecDeque<Fault>,
    cut_off: bool,
}

impl State {
    fn write(&mut self, lease: Lease, expected: Option<&str>) -> Result<Lease, StoreError> {
        let found = self.lease.as_ref().and_then(|lease| lease.metadata.resource_version.as_deref());
        if found != expected {
            return Err(StoreError::Conflict);
        }
        self.writes += 1;
        let mut lease = lease;
        lease.metadata.resource_version = Some(self.writes.to_string());
        Ok(self.lease.insert(lease).clone())
    }
}

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn spec(&self) -> LeaseSpec {
        self.state().lease.clone().unwrap().spec.unwrap()
    }

    fn holder(&self) -> String {
        self.spec().holder_identity.unwrap()
    }

    fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.extend(faults);
    }

    fn relabel(&self) {
        let mut state = self.state();
        let mut lease = state.lease.clone().unwrap();
        let version = lease.metadata.resource_version.clone();
        lease.metadata.labels.get_or_insert_default().insert("touched".to_owned(), version.clone().unwrap());
        state.write(lease, version.as_deref()).unwrap();
    }

    /// Somebody writes without asking who holds it, or deletes it.
    fn steal(&self, holder: Option<&str>) -> Option<Lease> {
        let mut state = self.state();
        state.lease = state.lease.take().zip(holder).map(|(mut lease, holder)| {
            lease.metadata.resource_version = Some("stolen".to_owned());
            lease.spec.as_mut().unwrap().holder_identity = Some(holder.to_owned());
            lease
        });
        state.lease.clone()
    }

    async fn write(&self, lease: Lease, expected: Option<String>) -> Result<Lease, StoreError> {
        if self.state().cut_off {
            return Err(refusal());
        }
        let fault = self.state().faults.pop_front();
        match fault {
            None => {}
            Some(Fault::Refuse) => return Err(refusal()),
            Some(Fault::Relabel) => self.relabel(),
            Some(Fault::Freeze) => thread::sleep(LEASE_DURATION),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::LoseAnswer) => {
                self.state().write(lease, expected.as_deref())?;
                return std::future::pending().await;
            }
        }
        self.state().write(lease, expected.as_deref())
    }
}

fn refusal() -> StoreError {
    Box::new(kube::Error::Service("the API server is away".into())).into()
}

impl LeaseStore for Memory {
    fn get(&self) -> BoxFuture<'_, Result<Option<Lease>, StoreError>> {
        async { if self.state().cut_off { Err(refusal()) } else { Ok(self.state().lease.clone()) } }.boxed()
    }

    fn create(&self, lease: Lease) -> BoxFuture<'_, Result<Lease, StoreError>> {
        self.write(lease, None).boxed()
    }

    fn replace(&self, lease: Lease) -> BoxFuture<'_, Result<Lease, StoreError>> {
        let version = lease.metadata.resource_version.clone();
        self.write(lease, version).boxed()
    }
}

fn config(identity: &str) -> LeaderConfig {
    LeaderConfig {
        lease_duration: LEASE_DURATION,
        renew_deadline: RENEW_DEADLINE,
        retry_period: Duration::from_millis(50),
        ..LeaderConfig::new("rorun-system", "rorun-operator", identity)
    }
}

fn elector(memory: &Arc<Memory>, identity: &str) -> Elector {
    Elector::with_store(Arc::clone(memory) as Arc<dyn LeaseStore>, config(identity)).unwrap()
}

async fn leads(memory: &Arc<Memory>, identity: &str) -> Leadership {
    timeout(PATIENCE, elector(memory, identity).acquire(&CancellationToken::new())).await.unwrap().unwrap()
}

async fn lost(leadership: &Leadership) {
    timeout(PATIENCE, leadership.lost().cancelled()).await.unwrap();
    assert!(!leadership.is_valid());
}

#[rstest]
#[case::no_identity(LeaderConfig::new("ns", "lease", ""), "must not be empty")]
#[case::fraction(LeaderConfig { lease_duration: Duration::from_millis(15_500), ..config("a") }, "whole seconds")]
#[case::zero(LeaderConfig { lease_duration: Duration::ZERO, ..config("a") }, "whole seconds")]
#[case::deadline_as_long(LeaderConfig { renew_deadline: LEASE_DURATION, ..config("a") }, "longer than the renew deadline")]
#[case::retry_too_long(LeaderConfig { retry_period: RENEW_DEADLINE.mul_f64(0.9), ..config("a") }, "1.2 retry periods")]
#[case::retry_zero(LeaderConfig { retry_period: Duration::ZERO, ..config("a") }, "1.2 retry periods")]
fn a_configuration_that_cannot_work_is_refused(#[case] config: LeaderConfig, #[case] message: &str) {
    let error = Elector::with_store(Arc::<Memory>::default(), config).unwrap_err().to_string();
    assert!(error.contains(message), "{error}");
}

#[test]
fn the_defaults_are_those_of_client_go() {
    let config = LeaderConfig::new("rorun-system", "rorun-operator", "a");
    config.validate().unwrap();
    let seconds = [config.lease_duration, config.renew_deadline, config.retry_period].map(|time| time.as_secs());
    assert_eq!(seconds, [15, 10, 2]);
}

#[tokio::test]
async fn the_second_candidate_waits_while_the_first_renews() {
    let memory = Arc::<Memory>::default();
    let first = leads(&memory, "a").await;
    let second = elector(&memory, "b");
    let waited = timeout(LEASE_DURATION * 2, second.acquire(&CancellationToken::new())).await;
    assert!(waited.is_err());
    assert!(first.is_valid());
    assert_eq!(memory.holder(), "a");
    assert_eq!(memory.spec().lease_transitions, Some(0));
}

#[tokio::test]
async fn of_many_candidates_one_leads_at_a_time() {
    let memory = Arc::<Memory>::default();
    let leading = Arc::new(Mutex::new(Vec::new()));
    let terms = ["a", "b", "c", "d"].map(|identity| {
        let (memory, leading) = (Arc::clone(&memory), Arc::clone(&leading));
        async move {
            let leadership = leads(&memory, identity).await;
            leading.lock().unwrap().push(identity);
            sleep(Duration::from_millis(120)).await;
            assert_eq!(leading.lock().unwrap().last(), Some(&identity));
            assert!(leadership.is_valid());
            leadership.release().await;
        }
    });
    futures::future::join_all(terms).await;
    assert_eq!(leading.lock().unwrap().len(), 4);
    assert_eq!(memory.spec().lease_transitions, Some(3));
}

#[tokio::test]
async fn a_release_hands_over_within_a_retry_period() {
    let memory = Arc::<Memory>::default();
    let first = leads(&memory, "a").await;
    let (fence, loss) = (first.fence(), first.lost());
    let waiting = tokio::spawn({
        let memory = Arc::clone(&memory);
        async move { leads(&memory, "b").await }
    });
    sleep(Duration::from_millis(100)).await;
    assert!(fence.is_valid());
    first.release().await;
    let since = Instant::now();
    assert!(!fence.is_valid());
    assert!(!loss.is_cancelled());
    let second = timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert!(since.elapsed() < RENEW_DEADLINE, "{:?}", since.elapsed());
    assert!(second.is_valid());
    assert_eq!(memory.spec().lease_transitions, Some(1));
}

#[tokio::test]
async fn after_a_crash_the_lease_is_taken_when_it_expires() {
    let memory = Arc::<Memory>::default();
    let first = leads(&memory, "a").await;
    let fence = first.fence();
    drop(first);
    let since = Instant::now();
    assert!(!fence.is_valid());
    assert_eq!(memory.holder(), "a");
    let second = leads(&memory, "b").await;
    assert!(since.elapsed() >= LEASE_DURATION, "{:?}", since.elapsed());
    assert!(second.is_valid());
}

#[tokio::test]
async fn a_container_that_starts_again_takes_its_own_lease_back() {
    let memory = Arc::<Memory>::default();
    drop(leads(&memory, "a").await);
    let since = Instant::now();
    let again = leads(&memory, "a").await;
    assert!(since.elapsed() < RENEW_DEADLINE);
    assert!(again.is_valid());
    assert_eq!(memory.spec().lease_transitions, Some(0));
}

#[tokio::test]
async fn a_leader_that_cannot_renew_gives_up_before_another_may_take_the_lease() {
    let memory = Arc::<Memory>::default();
    let leadership = leads(&memory, "a").await;
    memory.state().cut_off = true;
    let since = Instant::now();
    lost(&leadership).await;
    assert!(since.elapsed() < LEASE_DURATION, "{:?}", since.elapsed());
    memory.state().cut_off = false;
    let writes = memory.state().writes;
    sleep(Duration::from_millis(200)).await;
    assert_eq!(memory.state().writes, writes, "a term that is over writes nothing");
}

/// Blocking the only thread stops timers and tasks alike, as `SIGSTOP` does.
#[tokio::test(flavor = "current_thread")]
async fn a_frozen_leader_knows_at_once_that_its_time_is_over() {
    let memory = Arc::<Memory>::default();
    let leadership = leads(&memory, "a").await;
    let fence = leadership.fence();
    let writes = memory.state().writes;
    thread::sleep(LEASE_DURATION);
    assert!(!fence.is_valid(), "before any task of the runtime has run");
    lost(&leadership).await;
    sleep(Duration::from_millis(200)).await;
    assert_eq!(memory.state().writes, writes, "a term that is over writes nothing");
}

#[tokio::test(flavor = "current_thread")]
async fn a_frozen_leader_that_nobody_asks_does_not_renew() {
    let memory = Arc::<Memory>::default();
    let leadership = leads(&memory, "a").await;
    let writes = memory.state().writes;
    thread::sleep(LEASE_DURATION);
    lost(&leadership).await;
    assert_eq!(memory.state().writes, writes);
}

#[tokio::test(flavor = "current_thread")]
async fn a_renewal_that_comes_too_late_does_not_bring_the_term_back() {
    let memory = Arc::<Memory>::default();
    let leadership = leads(&memory, "a").await;
    memory.fail([Fault::Freeze]);
    lost(&leadership).await;
    assert!(memory.state().faults.is_empty());
}

#[rstest]
#[case::refused(&[Fault::Refuse, Fault::Refuse])]
#[case::answer_lost(&[Fault::LoseAnswer])]
#[case::hanging(&[Fault::Hang])]
#[case::relabelled(&[Fault::Relabel, Fault::Relabel, Fault::Relabel])]
#[tokio::test]
async fn a_renewal_survives(#[case] faults: &[Fault]) {
    let memory = Arc::<Memory>::default();
    let leadership = leads(&memory, "a").await;
    memory.fail(faults.iter().copied());
    sleep(RENEW_DEADLINE * 2).await;
    assert!(memory.state().faults.is_empty());
    assert!(leadership.is_valid());
    assert_eq!(memory.holder(), "a");
}

#[rstest]
#[case::refused(Fault::Refuse)]
#[case::answer_lost(Fault::LoseAnswer)]
#[case::hanging(Fault::Hang)]
#[tokio::test]
async fn an_acquisition_survives(#[case] fault: Fault) {
    let memory = Arc::<Memory>::default();
    memory.fail([fault, fault]);
    assert!(leads(&memory, "a").await.is_valid());
}

#[tokio::test]
async fn a_lease_that_another_holds_or_that_is_deleted_is_lost() {
    for taken_by in [Some("b"), Some(""), None] {
        let memory = Arc::<Memory>::default();
        let leadership = leads(&memory, "a").await;
        let stolen = memory.steal(taken_by);
        lost(&leadership).await;
        assert_eq!(memory.state().lease, stolen, "nothing was written");
    }
}

#[tokio::test]
async fn a_release_does_not_touch_the_lease_of_another() {
    let memory = Arc::<Memory>::default();
    let leadership = leads(&memory, "a").await;
    memory.steal(Some("b"));
    leadership.release().await;
    assert_eq!(memory.holder(), "b");
}

#[tokio::test]
async fn a_release_survives_a_change_of_the_version() {
    let memory = Arc::<Memory>::default();
    let leadership = leads(&memory, "a").await;
    memory.relabel();
    leadership.release().await;
    assert_eq!(memory.holder(), "");
}

#[tokio::test]
async fn a_release_ends_although_the_api_server_hangs() {
    let memory = Arc::<Memory>::default();
    let leadership = leads(&memory, "a").await;
    memory.fail([Fault::Hang, Fault::Hang]);
    timeout(PATIENCE, leadership.release()).await.unwrap();
}

#[tokio::test]
async fn a_candidate_stops_when_told_to() {
    let memory = Arc::<Memory>::default();
    let _first = leads(&memory, "a").await;
    let shutdown = CancellationToken::new();
    let second = elector(&memory, "b");
    let (stopped, ()) = tokio::join!(second.acquire(&shutdown), async {
        sleep(Duration::from_millis(120)).await;
        shutdown.cancel();
    });
    assert!(matches!(stopped, Err(LeaderError::Shutdown)));
}

#[test]
fn a_fence_without_an_election_is_open() {
    assert!(Fence::open().is_valid());
}

#[test]
fn no_two_identities_are_equal() {
    let all: std::collections::BTreeSet<_> = (0..1000).map(|_| identity()).collect();
    assert_eq!(all.len(), 1000);
    // What an Event may say of who reports it.
    assert!(all.iter().all(|one| one.len() <= 128 && one.len() > RANDOM + 1), "{all:?}");
}
