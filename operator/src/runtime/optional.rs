//! The kinds of other projects: whether the cluster serves them, and who waits for one.
//!
//! The API server answers `/apis` to every account, so no right is needed to ask: once at the start, again when a watch finds that
//! there is no such kind, and once in a period while a resource waits for a kind that was not there. Where none waits, and no watch
//! ends, nothing is asked. What is known of a kind concerns the resources that use it and no other.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use kube::Client;
use serde::Deserialize;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, warn};

use super::ResourceKey;
use crate::objects::{Availability, KINDS, ObjectKind, OptionalApi};

/// How often the operator asks for what a resource waits for.
pub const DISCOVERY_PERIOD: Duration = Duration::from_mins(1);
/// The first and the longest pause after an answer that turned out to be wrong, or that did not come.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), DISCOVERY_PERIOD);
/// How old an answer is at least when a resource that begins to wait makes the operator ask again.
const ANSWER_COUNTS: Duration = Duration::from_secs(5);
/// How long the first reconciles wait until it is known which kinds there are.
const FIRST_ANSWER: Duration = Duration::from_secs(10);
/// All groups with all that they serve in one answer (Kubernetes 1.30, KEP-3352).
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Which APIs of other projects are used.
#[derive(Clone, Debug)]
pub struct OptionalSettings {
    /// The APIs that are watched and written where the cluster serves them.
    pub switched_on: Vec<&'static OptionalApi>,
    /// How often the operator asks for one that a resource waits for.
    pub period: Duration,
}

impl Default for OptionalSettings {
    fn default() -> Self {
        Self { switched_on: Vec::new(), period: DISCOVERY_PERIOD }
    }
}

/// Whether a kind of another project can be used in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiState {
    /// The operator has no answer yet.
    Unknown,
    /// The settings say that it is not used.
    SwitchedOff(&'static OptionalApi),
    /// The cluster does not serve it.
    Absent,
    /// The cluster serves it, and its objects are being listed.
    Listing,
    /// The operator may not list its objects.
    Forbidden(String),
    /// Whether it is served, or what there is of it, could not be found out.
    Failed(String),
    /// Its objects are in the cache.
    Watched,
}

/// What the API server said that it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// Nothing yet.
    Unknown,
    /// Nothing, for an error.
    Failed(String),
    /// The keys of these kinds.
    Kinds(BTreeSet<&'static str>),
}

impl Served {
    /// What it means for a kind.
    pub(super) fn state(&self, kind: &ObjectKind) -> ApiState {
        match self {
            Self::Unknown => ApiState::Unknown,
            Self::Failed(error) => ApiState::Failed(error.clone()),
            Self::Kinds(kinds) if kinds.contains(kind.key) => ApiState::Listing,
            Self::Kinds(_) => ApiState::Absent,
        }
    }
}

/// A kind by its key, and a scope: `None` is all namespaces.
type Place = (&'static str, Option<String>);

/// The kinds of other projects.
#[derive(Debug)]
pub struct OptionalApis {
    settings: OptionalSettings,
    served: watch::Sender<Served>,
    states: watch::Sender<BTreeMap<Place, ApiState>>,
    questions: Mutex<Questions>,
    asked_for: Notify,
}

/// Who uses what, and when to ask next.
#[derive(Debug, Default)]
struct Questions {
    users: HashMap<ResourceKey, BTreeSet<&'static str>>,
    waiting: HashSet<ResourceKey>,
    /// When the last answer came.
    answered: Option<Instant>,
    /// Whether a resource began to wait since.
    hurry: bool,
    /// When to ask, whoever waits.
    due: Option<Instant>,
    /// How many answers in a row were wrong or did not come.
    wrong: u32,
}

impl OptionalApis {
    /// Nothing is known yet.
    pub fn new(settings: &OptionalSettings) -> Self {
        Self {
            settings: settings.clone(),
            served: watch::Sender::new(Served::Unknown),
            states: watch::Sender::default(),
            questions: Mutex::default(),
            asked_for: Notify::new(),
        }
    }

    /// Whether a kind may be watched: if it is of Kubernetes, or of an API that is switched on.
    pub(super) fn is_watched(&self, kind: &ObjectKind) -> bool {
        self.switched_off(kind).is_none()
    }

    fn switched_off(&self, kind: &ObjectKind) -> Option<&'static OptionalApi> {
        match kind.availability {
            Availability::Optional(api) if !self.settings.switched_on.contains(&api) => Some(api),
            Availability::Core | Availability::Optional(_) => None,
        }
    }

    /// What a resource can use of these kinds of other projects. It is enqueued when that changes, until it asks for others or is
    /// forgotten.
    pub fn states(&self, key: &ResourceKey, kinds: &[&'static ObjectKind]) -> Vec<ApiState> {
        let states: Vec<_> = kinds.iter().map(|kind| self.state(kind, &key.namespace)).collect();
        let used: BTreeSet<_> = kinds.iter().filter(|kind| self.is_watched(kind)).map(|kind| kind.key).collect();
        let waits = states.contains(&ApiState::Absent);
        let mut questions = self.questions();
        if used.is_empty() {
            questions.users.remove(key);
        } else {
            questions.users.insert(key.clone(), used);
        }
        if !waits {
            questions.waiting.remove(key);
        } else if questions.waiting.insert(key.clone()) {
            questions.hurry = true;
            self.asked_for.notify_one();
        }
        states
    }

    /// A resource is gone.
    pub fn forget(&self, key: &ResourceKey) {
        let mut questions = self.questions();
        questions.users.remove(key);
        questions.waiting.remove(key);
    }

    /// A write was answered as if there were no such kind: the operator asks soon.
    pub fn doubt(&self) {
        self.ask_soon();
    }

    /// Waits until it is known of each kind whether it can be used in a scope, and not for long.
    pub(super) async fn known(&self, namespace: Option<&str>) {
        let places: Vec<Place> = self.watched().map(|kind| (kind.key, namespace.map(str::to_owned))).collect();
        let is_known = |state: &ApiState| !matches!(state, ApiState::Unknown | ApiState::Listing);
        let mut states = self.states.subscribe();
        let known = states.wait_for(|states| places.iter().all(|place| states.get(place).is_some_and(is_known)));
        if timeout(FIRST_ANSWER, known).await.is_err() {
            warn!("failed to find out in time which kinds of other projects there are; what needs them waits");
        }
    }

    /// What the API server said last, and each change of it.
    pub(super) fn served(&self) -> watch::Receiver<Served> {
        self.served.subscribe()
    }

    /// Remembers what is known of a kind in a scope. Returns those that it is news for.
    pub(super) fn note(&self, kind: &'static ObjectKind, scope: Option<&str>, state: ApiState) -> Vec<ResourceKey> {
        // A list comes to an end at once, and then there is more to say.
        let quiet = matches!(state, ApiState::Unknown | ApiState::Listing);
        let place = (kind.key, scope.map(str::to_owned));
        let changed = self.states.send_if_modified(|states| states.insert(place, state.clone()) != Some(state));
        if quiet || !changed {
            return Vec::new();
        }
        let questions = self.questions();
        let uses = |(key, kinds): &(&ResourceKey, &BTreeSet<&'static str>)| {
            kinds.contains(kind.key) && scope.is_none_or(|scope| scope == key.namespace)
        };
        questions.users.iter().filter(uses).map(|(key, _)| key.clone()).collect()
    }

    /// A watch has listed: what the API server said was right.
    pub(super) fn works(&self) {
        self.questions().wrong = 0;
    }

    /// A watch was answered that there is no such kind: in every scope it ends.
    pub(super) fn gone(&self, kind: &ObjectKind) {
        self.served.send_if_modified(|served| match served {
            Served::Kinds(kinds) => kinds.remove(kind.key),
            Served::Unknown | Served::Failed(_) => false,
        });
        self.ask_soon();
    }

    /// Asks whenever it is due; never if nothing is switched on.
    pub(super) fn discovery(self: Arc<Self>, client: Client) -> Option<BoxFuture<'static, ()>> {
        self.watched().next()?;
        self.questions().due = Some(Instant::now());
        let asking = async move {
            loop {
                self.until_due().await;
                let answer = ask(&client, &self).await;
                self.answered(answer);
            }
        };
        Some(asking.boxed())
    }

    fn state(&self, kind: &ObjectKind, namespace: &str) -> ApiState {
        if let Some(api) = self.switched_off(kind) {
            return ApiState::SwitchedOff(api);
        }
        let states = self.states.borrow();
        let of = |scope| states.get(&(kind.key, scope));
        of(Some(namespace.to_owned())).or_else(|| of(None)).cloned().unwrap_or(ApiState::Unknown)
    }

    /// The kinds of other projects that are switched on.
    fn watched(&self) -> impl Iterator<Item = &'static ObjectKind> {
        KINDS.iter().filter(|kind| !kind.is_core() && self.is_watched(kind))
    }

    fn ask_soon(&self) {
        self.questions().ask_again();
        self.asked_for.notify_one();
    }

    async fn until_due(&self) {
        loop {
            let next = self.questions().next(self.settings.period);
            match next {
                Some(next) if next <= Instant::now() => return,
                Some(next) => tokio::select! {
                    () = sleep_until(next) => {}
                    () = self.asked_for.notified() => {}
                },
                None => self.asked_for.notified().await,
            }
        }
    }

    fn answered(&self, answer: Result<BTreeSet<&'static str>, kube::Error>) {
        let mut questions = self.questions();
        questions.answered = Some(Instant::now());
        (questions.hurry, questions.due) = (false, None);
        match answer {
            Ok(kinds) => {
                debug!(?kinds, "the API server serves these kinds of other projects");
                let changed = self.served.send_if_modified(|served| {
                    let kinds = Served::Kinds(kinds);
                    std::mem::replace(served, kinds.clone()) != kinds
                });
                if !changed {
                    questions.wrong = 0;
                }
            }
            Err(error) => {
                warn!(%error, "failed to ask which APIs the cluster serves; it is tried again");
                questions.ask_again();
                // What was known stays true for all that is known.
                self.served.send_if_modified(|served| {
                    let none = !matches!(served, Served::Kinds(_));
                    if none {
                        *served = Served::Failed(error.to_string());
                    }
                    none
                });
            }
        }
    }

    fn questions(&self) -> MutexGuard<'_, Questions> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Questions {
    /// When to ask next. `None`: there is no reason to.
    fn next(&self, period: Duration) -> Option<Instant> {
        let after = if self.hurry { ANSWER_COUNTS.min(period) } else { period };
        let waited = self.answered.filter(|_| !self.waiting.is_empty()).map(|answered| answered + after);
        self.due.into_iter().chain(waited).min()
    }

    /// Asks after a pause, which grows while answers are wrong.
    fn ask_again(&mut self) {
        let pause = PAUSE.0.saturating_mul(1 << self.wrong.min(6)).min(PAUSE.1);
        self.wrong += 1;
        let at = Instant::now() + pause;
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }
}

#[derive(Deserialize)]
struct Groups {
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    metadata: Named,
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    resource: String,
}

impl Groups {
    fn serve(&self, kind: &ObjectKind) -> bool {
        let groups = self.items.iter().filter(|group| group.metadata.name == kind.group);
        let versions = groups.flat_map(|group| &group.versions).filter(|version| version.version == kind.version);
        versions.flat_map(|version| &version.resources).any(|resource| resource.resource == kind.plural)
    }
}

/// Which of the kinds the API server serves.
async fn ask(client: &Client, apis: &OptionalApis) -> Result<BTreeSet<&'static str>, kube::Error> {
    let request = http::Request::get("/apis").header(http::header::ACCEPT, AGGREGATED).body(Vec::new());
    let groups: Groups = client.request(request.map_err(kube::Error::HttpError)?).await?;
    Ok(apis.watched().filter(|kind| groups.serve(kind)).map(|kind| kind.key).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::time::advance;

    use super::*;
    use crate::objects::{OPTIONAL_APIS, SERVICE_MONITOR, kind_of};

    const SECOND: Duration = Duration::from_secs(1);

    fn switched_on() -> OptionalApis {
        let settings = OptionalSettings { switched_on: OPTIONAL_APIS.to_vec(), ..OptionalSettings::default() };
        OptionalApis::new(&settings)
    }

    fn key(namespace: &str) -> ResourceKey {
        ResourceKey { namespace: namespace.to_owned(), name: "shop".to_owned() }
    }

    fn has(kinds: &[&'static ObjectKind]) -> BTreeSet<&'static str> {
        kinds.iter().map(|kind| kind.key).collect()
    }

    /// In how many seconds the API server is asked.
    fn due(apis: &OptionalApis) -> Option<u64> {
        let next = apis.questions().next(apis.settings.period)?;
        Some(next.saturating_duration_since(Instant::now()).as_secs())
    }

    #[tokio::test]
    async fn a_kind_that_is_switched_off_is_neither_watched_nor_asked_for() {
        let apis = Arc::new(OptionalApis::new(&OptionalSettings::default()));
        assert!(!apis.is_watched(SERVICE_MONITOR));
        assert!(apis.is_watched(kind_of("", "Secret").unwrap()));
        let off = vec![ApiState::SwitchedOff(OPTIONAL_APIS[0])];
        assert_eq!(apis.states(&key("n"), &[SERVICE_MONITOR]), off);
        assert_eq!(apis.questions().next(SECOND), None);
        let client = Client::new(tower::service_fn(never), "n");
        assert!(apis.discovery(client).is_none());
    }

    async fn never(
        _: http::Request<kube::client::Body>,
    ) -> Result<http::Response<kube::client::Body>, std::convert::Infallible> {
        futures::future::pending().await
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_asked_once_a_minute_and_only_while_a_resource_waits() {
        let apis = switched_on();
        apis.answered(Ok(has(&[])));
        assert_eq!(due(&apis), None, "nobody waits");
        apis.note(SERVICE_MONITOR, None, ApiState::Absent);
        advance(30 * SECOND).await;
        assert_eq!(apis.states(&key("n"), &[SERVICE_MONITOR]), [ApiState::Absent]);
        assert_eq!(due(&apis), Some(0), "a resource begins to wait, and the answer is old");
        apis.answered(Ok(has(&[])));
        assert_eq!(due(&apis), Some(60));
        apis.states(&key("n"), &[SERVICE_MONITOR]);
        assert_eq!(due(&apis), Some(60), "it waited before");
        apis.states(&key("m"), &[SERVICE_MONITOR]);
        assert_eq!(due(&apis), Some(5), "the answer is young");
        apis.answered(Ok(has(&[])));
        apis.forget(&key("m"));
        assert_eq!(due(&apis), Some(60));
        apis.states(&key("n"), &[]);
        assert_eq!(due(&apis), None, "the spec no longer asks for it");
    }

    /// As a cluster does that goes on to list what it no longer serves.
    #[tokio::test(start_paused = true)]
    async fn answers_that_are_wrong_are_no_busy_loop() {
        let apis = switched_on();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            apis.answered(Ok(has(&[SERVICE_MONITOR])));
            assert_eq!(apis.served().borrow().state(SERVICE_MONITOR), ApiState::Listing);
            apis.gone(SERVICE_MONITOR);
            assert_eq!(apis.served().borrow().state(SERVICE_MONITOR), ApiState::Absent);
            pauses.extend(due(&apis));
            advance(60 * SECOND).await;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        apis.answered(Ok(has(&[SERVICE_MONITOR])));
        apis.works();
        apis.gone(SERVICE_MONITOR);
        assert_eq!(due(&apis), Some(1), "a list has come since");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_known_outlives_an_answer_that_does_not_come() {
        let apis = switched_on();
        let failure = || Err(kube::Error::LinesCodecMaxLineLengthExceeded);
        apis.answered(failure());
        assert!(matches!(apis.served().borrow().state(SERVICE_MONITOR), ApiState::Failed(_)));
        assert_eq!(due(&apis), Some(1), "it is tried again, whoever waits");
        apis.answered(Ok(has(&[SERVICE_MONITOR])));
        apis.answered(failure());
        assert_eq!(apis.served().borrow().state(SERVICE_MONITOR), ApiState::Listing);
    }

    #[test]
    fn news_of_a_scope_is_for_those_in_it_that_use_the_kind() {
        let apis = switched_on();
        for namespace in ["n", "m"] {
            apis.states(&key(namespace), &[SERVICE_MONITOR]);
        }
        apis.states(&key("other"), &[]);
        assert_eq!(apis.note(SERVICE_MONITOR, Some("n"), ApiState::Listing), [], "a list comes to an end at once");
        assert_eq!(apis.note(SERVICE_MONITOR, Some("n"), ApiState::Watched), [key("n")]);
        assert_eq!(apis.note(SERVICE_MONITOR, Some("n"), ApiState::Watched), [], "no news");
        assert_eq!(apis.states(&key("n"), &[SERVICE_MONITOR]), [ApiState::Watched]);
        assert_eq!(apis.states(&key("m"), &[SERVICE_MONITOR]), [ApiState::Unknown], "another scope");
        let mut all = apis.note(SERVICE_MONITOR, None, ApiState::Absent);
        all.sort_by(|a, b| a.namespace.cmp(&b.namespace));
        assert_eq!(all, [key("m"), key("n")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_kind_of_which_nothing_is_known_holds_no_stack_for_long() {
        let (apis, begun) = (switched_on(), Instant::now());
        apis.known(None).await;
        assert_eq!(begun.elapsed(), FIRST_ANSWER);
        for kind in apis.watched() {
            apis.note(kind, None, ApiState::Forbidden("no".to_owned()));
        }
        apis.known(None).await;
        assert_eq!(begun.elapsed(), FIRST_ANSWER, "what is refused is known");
    }

    #[test]
    fn a_kind_is_served_in_its_group_and_its_version() {
        let served = |group: &str, version: &str, resource: &str| {
            let groups = json!({"kind": "APIGroupDiscoveryList", "items": [
                {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [{"resource": "deployments"}]}]},
                {"metadata": {"name": group}, "versions": [{"version": version, "freshness": "Current",
                    "resources": [{"resource": resource, "scope": "Namespaced"}]}]},
                {"metadata": {"name": "empty.example.com"}},
            ]});
            serde_json::from_value::<Groups>(groups).unwrap().serve(SERVICE_MONITOR)
        };
        assert!(served("monitoring.coreos.com", "v1", "servicemonitors"));
        assert!(!served("monitoring.coreos.com", "v1alpha1", "servicemonitors"));
        assert!(!served("monitoring.coreos.com", "v1", "podmonitors"));
        assert!(!served("azmonitoring.coreos.com", "v1", "servicemonitors"));
    }
}
