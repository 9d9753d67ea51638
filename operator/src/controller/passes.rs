//! The loop itself: stacks come in as events, each is looked at in a pass, and every pass ends with when to look again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt, Stream, StreamExt, future, stream::BoxStream};
use kube::{
    Api, ResourceExt,
    runtime::{
        Controller, PredicateConfig, WatchStreamExt,
        controller::{Action, Config},
        reflector, watcher,
    },
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, warn};

use super::{
    Context, Seen, StackKey, policy,
    reconcile::{self, ReconcileError},
    watching,
};
use crate::{
    api::v1alpha1::{RorunStack, RorunStackStatus},
    objects::KINDS,
    telemetry::{Health, Outcome, StackSample, logs},
};

/// The longest that one reconcile may take: every call within it has a shorter limit, so this is for what was not foreseen.
const RECONCILE_LIMIT: Duration = Duration::from_mins(1);
/// How long changes are collected before a stack is looked at: a burst of events is one look. Each creation waits for it twice:
/// until the stack is looked at, and until the services that were asked have answered.
const DEBOUNCE: Duration = Duration::from_millis(5);
/// How soon it is looked again whether it is known which data there are.
const BLIND: Duration = Duration::from_millis(500);
/// How often the loop says that it lives.
const BEAT: Duration = Duration::from_secs(5);

/// The controller of a namespace, or of all.
pub(super) struct Loop {
    pub(super) context: Arc<Context>,
    pub(super) scope: Option<String>,
    pub(super) synced: Arc<Semaphore>,
    pub(super) health: Arc<Health>,
    pub(super) concurrency: u16,
    pub(super) triggered: BoxStream<'static, reflector::ObjectRef<Seen>>,
}

impl Loop {
    pub(super) async fn run(self, stop: CancellationToken) {
        // Nothing is judged before everything was listed once: what is missing in a cache would be made again.
        let all = u32::try_from(KINDS.len()).unwrap_or(u32::MAX);
        tokio::select! {
            _ = self.synced.acquire_many(all) => {}
            () = stop.cancelled() => return,
        }
        self.context.triggers.open();
        let (reader, writer) = reflector::store();
        let stacks = self.stacks(writer);
        let (beats, context) = (self.health.clone(), self.context.clone());
        let controller = Controller::for_stream(stacks, reader)
            .with_config(Config::default().concurrency(self.concurrency).debounce(DEBOUNCE))
            .reconcile_on(self.triggered)
            .graceful_shutdown_on(stop.clone().cancelled_owned())
            .run(one_pass, error_policy, self.context)
            .for_each(|result| {
                match result {
                    // Deleted while nobody watched: the event that says so never came.
                    Err(kube::runtime::controller::Error::ObjectNotFound(gone)) => {
                        let namespace = gone.namespace.unwrap_or_default();
                        context.forget(&StackKey { namespace, name: gone.name }, None);
                    }
                    Ok(_) | Err(kube::runtime::controller::Error::ReconcilerFailed(..)) => {}
                    Err(error) => warn!(%error, "failed to watch stacks; it is tried again"),
                }
                future::ready(())
            });
        let beating = async {
            loop {
                beats.beat();
                tokio::time::sleep(BEAT).await;
            }
        };
        tokio::select! {
            () = controller => {}
            () = beating => {}
        }
    }

    /// The stacks that are there, and from then on each that changes in what counts.
    fn stacks(
        &self,
        writer: reflector::store::Writer<Seen>,
    ) -> impl Stream<Item = Result<Seen, watcher::Error>> + Send + use<> {
        let client = self.context.client.clone();
        let api: Api<Seen> = match &self.scope {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        let what = watching::name("RorunStack", self.scope.as_deref());
        let (context, mut began) = (self.context.clone(), Instant::now());
        let events = watching::watch(api, watcher::Config::default(), self.health.clone(), what)
            .reflect(writer)
            .inspect(move |event| match event {
                Ok(watcher::Event::Init) => began = Instant::now(),
                Ok(watcher::Event::InitDone) => context.listed(began),
                Ok(watcher::Event::Delete(Seen { stack, .. })) => context.forget(&key(stack), stack.uid().as_deref()),
                _ => {}
            });
        let triggers = self.context.triggers.clone();
        watching::whole_lists(events)
            .applied_objects()
            .predicate_filter(Seen::what_counts, PredicateConfig::default())
            .inspect(move |seen| {
                if let Ok(Seen { stack, .. }) = seen {
                    triggers.ask(&key(stack));
                }
            })
    }
}

fn key(stack: &RorunStack) -> StackKey {
    StackKey { namespace: stack.namespace().unwrap_or_default(), name: stack.name_any() }
}

async fn one_pass(seen: Arc<Seen>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let stack = &seen.stack;
    if let Some(wait) = context.patience.left() {
        return Ok(Action::requeue(policy::spread(wait, &key(stack))));
    }
    let of = key(stack);
    if context.is_blind() {
        return Ok(Action::requeue(policy::spread(BLIND, &of)));
    }
    if let Some(waited) = context.triggers.begun(&of) {
        context.metrics.look_waited(waited);
    }
    let guard = context.metrics.reconcile_started();
    let span = logs::reconcile_span(&of.namespace, &of.name, &stack.uid().unwrap_or_default(), guard.id());
    let pass = tokio::time::timeout(RECONCILE_LIMIT, reconcile::reconcile(&seen, &context).boxed());
    let started = Instant::now();
    let Ok(result) = pass.instrument(span.clone()).await else {
        let _entered = span.entered();
        error!(seconds = started.elapsed().as_secs(), "a reconcile ran into its time limit; it is tried again");
        guard.finished(Outcome::TimedOut);
        return Ok(Action::requeue(policy::back_off(&context, &of)));
    };
    guard.finished(match &result {
        Ok(action) if *action == Action::await_change() => Outcome::Success,
        Ok(_) => Outcome::RequeueAfter,
        Err(_) => Outcome::Error,
    });
    if let Err(error) = &result {
        let (step, variant) = error.labels();
        context.metrics.step_failed(step, variant);
        span.in_scope(|| warn!(%error, "failed to reconcile; it is tried again"));
    }
    result
}

#[expect(clippy::needless_pass_by_value, reason = "the signature is that of kube's error policy")]
fn error_policy(stack: Arc<Seen>, _: &ReconcileError, context: Arc<Context>) -> Action {
    Action::requeue(policy::back_off(&context, &key(&stack.stack)))
}

/// What the metrics show of a stack.
pub(super) fn sample(stack: &RorunStack, status: &RorunStackStatus) -> StackSample {
    let last = status.backup.as_ref().and_then(|backup| backup.last_successful.as_ref());
    StackSample {
        namespace: stack.namespace().unwrap_or_default(),
        name: stack.name_any(),
        environment: format!("{:?}", stack.spec.environment),
        conditions: status.conditions.iter().map(|c| (c.type_.clone(), c.status.as_str().into())).collect(),
        backup_last_success: last.map(|record| record.at.0.as_second()),
        backup_size_bytes: last.map(|record| record.size_bytes),
    }
}
