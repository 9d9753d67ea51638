//! The control loop of one type: events enqueue resources, each is reconciled, and every reconcile ends with when the next one is
//! due.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt, Stream, StreamExt, future, future::BoxFuture, stream::BoxStream};
use kube::{
    Api, ResourceExt,
    runtime::{
        Controller as KubeController, PredicateConfig, WatchStreamExt,
        controller::{Action, Config, Error as ControllerError},
        reflector::{self, ObjectRef},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, error, warn};

use super::{ControllerRuntime, Reconciled, ResourceKey, Scope, Watched, requeue::spread, watch};
use crate::telemetry::Outcome;

/// The longest that one reconcile may take: every call within it has a shorter limit, so this is for what was not foreseen.
const RECONCILE_LIMIT: Duration = Duration::from_mins(1);
/// How long events are collected before a resource is reconciled: a burst of events is one reconcile. Each new stack waits for
/// it twice: until its first reconcile, and until the services that were asked have answered.
const DEBOUNCE: Duration = Duration::from_millis(5);
/// How soon a resource is enqueued again while the watches of data are stale.
const STALE: Duration = Duration::from_millis(500);
/// How often the control loop reports that it lives.
const BEAT: Duration = Duration::from_secs(5);

/// Reconciles the resources of one type.
pub trait Reconciler: Send + Sync + 'static {
    /// The type.
    type Resource: Reconciled + DeserializeOwned;
    /// Why a reconcile fails. What the user has to mend is never an error, but a condition.
    type Error: std::error::Error + Send + 'static;

    /// What the control loop shares with the reconciler.
    fn runtime(&self) -> &ControllerRuntime<Self::Resource>;

    /// Brings the cluster closer to what a resource asks for.
    fn reconcile<'a>(&'a self, watched: &'a Watched<Self::Resource>) -> BoxFuture<'a, Result<Action, Self::Error>>;

    /// The span of the logs of a reconcile. The id tells the reconciles of this process apart.
    fn span(watched: &Watched<Self::Resource>, id: u64) -> Span;

    /// The step and the variant of an error, for metrics.
    fn labels(error: &Self::Error) -> (&'static str, &'static str);

    /// What the watch shows, before anything of it is reconciled: for what other controllers read of the type.
    fn seen(&self, _: &watcher::Event<Watched<Self::Resource>>) {}

    /// The cluster does not serve the type, or the operator may not watch it.
    fn is_not_served(&self) {}

    /// Forgets what is remembered of a resource that is gone. Its uid is not known if it was deleted while no watch ran.
    fn forget(&self, key: &ResourceKey, uid: Option<&str>);
}

/// The control loop of one type in one scope.
pub(super) struct ControlLoop<R> {
    reconciler: Arc<R>,
    scope: Scope,
    triggered: BoxStream<'static, ResourceKey>,
}

impl<R: Reconciler> ControlLoop<R> {
    pub(super) fn new(reconciler: Arc<R>, scope: Scope, triggered: BoxStream<'static, ResourceKey>) -> Self {
        Self { reconciler, scope, triggered }
    }

    /// Runs until it is stopped, and then until the reconciles that have begun are done.
    pub(super) async fn run(self, stop: CancellationToken) {
        // No resource is reconciled before every child was listed once: what is missing in a cache would be created again.
        if stop.run_until_cancelled(self.scope.synced()).await.is_none() {
            return;
        }
        let runtime = self.reconciler.runtime();
        runtime.triggers.open();
        let health = runtime.health.clone();
        let config = Config::default().concurrency(runtime.concurrency).debounce(DEBOUNCE);
        let (reader, writer) = reflector::store();
        let resources = self.resources(writer);
        let (reconciler, shared) =
            (self.reconciler.clone(), Arc::new(Shared { reconciler: self.reconciler, scope: self.scope }));
        let controller = KubeController::for_stream(resources, reader)
            .with_config(config)
            .reconcile_on(self.triggered.map(|key| ObjectRef::new(&key.name).within(&key.namespace)))
            .graceful_shutdown_on(stop.clone().cancelled_owned())
            .run(reconcile_one, error_policy, shared)
            .for_each(|result| {
                match result {
                    // Deleted while no watch ran, so that no event said so.
                    Err(ControllerError::ObjectNotFound(gone)) => {
                        let namespace = gone.namespace.unwrap_or_default();
                        forget(&*reconciler, &ResourceKey { namespace, name: gone.name }, None);
                    }
                    Ok(_) | Err(ControllerError::ReconcilerFailed(..)) => {}
                    Err(error) => warn!(%error, kind = R::Resource::KIND, "failed to watch; it is tried again"),
                }
                future::ready(())
            });
        let beating = async {
            loop {
                health.beat();
                tokio::time::sleep(BEAT).await;
            }
        };
        tokio::select! {
            () = controller => {}
            () = beating => {}
        }
    }

    /// The resources that exist, and from then on each whose reconcile key changes.
    fn resources(
        &self,
        writer: reflector::store::Writer<Watched<R::Resource>>,
    ) -> impl Stream<Item = Result<Watched<R::Resource>, watcher::Error>> + Send + use<R> {
        let runtime = self.reconciler.runtime();
        let api: Api<Watched<R::Resource>> = match self.scope.namespace() {
            Some(namespace) => Api::namespaced(runtime.client.clone(), namespace),
            None => Api::all(runtime.client.clone()),
        };
        let name = watch::name(R::Resource::KIND, self.scope.namespace());
        let (reconciler, mut began) = (self.reconciler.clone(), Instant::now());
        let events = if R::Resource::REQUIRED {
            watch::watch(api, watcher::Config::default(), runtime.health.clone(), name).boxed()
        } else {
            watch::endless(api, watcher::Config::default()).boxed()
        };
        let events = events.reflect(writer).inspect(move |event| match event {
            Ok(event) => {
                match event {
                    watcher::Event::Init => began = Instant::now(),
                    watcher::Event::InitDone => reconciler.runtime().statuses.listed(began),
                    watcher::Event::Delete(gone) => {
                        forget(&*reconciler, &ResourceKey::of(gone), gone.uid().as_deref());
                    }
                    _ => {}
                }
                reconciler.seen(event);
            }
            Err(error) => {
                if watch::refusal(error).is_some_and(|status| matches!(status.code, 403 | 404)) {
                    reconciler.is_not_served();
                }
            }
        });
        let triggers = runtime.triggers.clone();
        watch::whole_lists(events)
            .applied_objects()
            .predicate_filter(Watched::reconcile_key, PredicateConfig::default())
            .inspect(move |watched| {
                if let Ok(watched) = watched {
                    triggers.note(&ResourceKey::of(watched));
                }
            })
    }
}

/// What every reconcile of a control loop shares.
struct Shared<R> {
    reconciler: Arc<R>,
    scope: Scope,
}

fn forget<R: Reconciler>(reconciler: &R, key: &ResourceKey, uid: Option<&str>) {
    let runtime = reconciler.runtime();
    runtime.triggers.dequeue(key);
    runtime.requeue.reset(key);
    if let Some(uid) = uid {
        runtime.statuses.forget(uid);
    }
    reconciler.forget(key, uid);
}

async fn reconcile_one<R: Reconciler>(
    watched: Arc<Watched<R::Resource>>,
    shared: Arc<Shared<R>>,
) -> Result<Action, R::Error> {
    let (runtime, key) = (shared.reconciler.runtime(), ResourceKey::of(&*watched));
    if let Some(wait) = runtime.throttle.left() {
        return Ok(Action::requeue(spread(wait, &key)));
    }
    if shared.scope.data_watches_stale() {
        return Ok(Action::requeue(spread(STALE, &key)));
    }
    if let Some(waited) = runtime.triggers.dequeue(&key) {
        runtime.controller_metrics.queue_duration(waited);
    }
    let guard = runtime.controller_metrics.reconcile_started();
    let span = R::span(&watched, guard.id());
    let reconcile = tokio::time::timeout(RECONCILE_LIMIT, shared.reconciler.reconcile(&watched));
    let started = Instant::now();
    let Ok(result) = reconcile.boxed().instrument(span.clone()).await else {
        let _entered = span.entered();
        error!(seconds = started.elapsed().as_secs(), "a reconcile ran into its time limit; it is tried again");
        guard.finished(Outcome::TimedOut);
        return Ok(Action::requeue(runtime.requeue.back_off(&key)));
    };
    guard.finished(match &result {
        Ok(action) if *action == Action::await_change() => Outcome::Success,
        Ok(_) => Outcome::RequeueAfter,
        Err(_) => Outcome::Error,
    });
    if let Err(error) = &result {
        let (step, variant) = R::labels(error);
        runtime.metrics.step_failed(step, variant);
        span.in_scope(|| warn!(%error, "failed to reconcile; it is tried again"));
    }
    result
}

#[expect(clippy::needless_pass_by_value, reason = "the signature is that of kube's error policy")]
fn error_policy<R: Reconciler>(watched: Arc<Watched<R::Resource>>, _: &R::Error, shared: Arc<Shared<R>>) -> Action {
    Action::requeue(shared.reconciler.runtime().requeue.back_off(&ResourceKey::of(&*watched)))
}
