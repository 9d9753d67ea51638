//! What a restore is judged by: what it asks for, its Jobs, and whether the application runs.

use std::collections::BTreeMap;

use super::{
    Kind, RETRIED, State, TABLE,
    attempt::{self, Attempt, Done},
    moment::Recovery,
};
use crate::{
    api::v1alpha1::Environment,
    names::{Component, Waiting, annotation, reason},
    plan::{Step, wakes},
    stack::{Observed, PointProblem, RESTORED, RestoreRequest, Stack, WORKLOADS},
};

/// What is known of a restore.
pub(super) struct Facts<'a> {
    pub(super) stack: &'a Stack,
    pub(super) request: &'a RestoreRequest,
    attempts: BTreeMap<Kind, Attempt>,
    /// The Cluster that is recovered, of a restore to a moment.
    pub(super) recovery: Option<Recovery<'a>>,
    /// Why it never can be done.
    never: Option<Waiting>,
    /// Why it cannot begin now.
    pub(super) held: Option<Waiting>,
    /// Why a step that changes live data cannot begin now.
    pub(super) blocked: Option<String>,
    /// A step that broke off is tried again, which is to be recorded.
    pub(super) obeys_retry: bool,
    application: Application,
    /// When it may be another state though nothing happens.
    pub(super) turns_at: Option<i64>,
}

/// How the application is.
struct Application {
    /// It has no pod.
    stopped: bool,
    /// Every pod of it serves.
    started: bool,
    /// It has pods that can be asked.
    asked: bool,
}

impl<'a> Facts<'a> {
    pub(super) fn of(stack: &'a Stack, observed: &'a Observed, request: &'a RestoreRequest, now: i64) -> Self {
        let recorded = |key: &str| {
            let commands = observed.handled.as_ref().map(|handled| &handled.commands)?;
            commands.get(key).map(|command| command.value.as_str())
        };
        let retry = request.retry.as_str();
        let obeyed = recorded(&format!("{RETRIED}{}", request.uid));
        // Taking the annotation away asks for nothing.
        let again = !retry.is_empty() && obeyed.is_some_and(|obeyed| obeyed != retry);
        let last = |kind| (kind, attempt::last(&stack.name, observed, (request, kind), (again, now)));
        let done = recorded(&format!("{RESTORED}{}", request.name));
        let moment = request.moment();
        let recovery =
            moment.map(|moment| Recovery::of(stack, observed, (request, moment), done == Some(request.uid.as_str())));
        // Of a moment the Cluster is the copy, and its name in a ConfigMap the switch.
        let of_jobs = |kind: &Kind| recovery.is_none() || !matches!(kind, Kind::Copy | Kind::Switch);
        let attempts: BTreeMap<_, _> = Kind::ALL.into_iter().filter(of_jobs).map(last).collect();
        let begun = attempts.values().any(Attempt::exists);
        let retried = attempts.iter().any(|(kind, attempt)| is_later(stack, request, *kind, attempt));
        let there = || WORKLOADS.into_iter().filter_map(|of| Some((of, observed.releases.workloads.get(&of)?)));
        let floor = |of: Component| stack.workload(of).map_or(0, |workload| workload.replicas.floor());
        let mut facts = Self {
            stack,
            request,
            never: None,
            held: None,
            blocked: None,
            // As it begins, and whenever a Job of another attempt is there.
            obeys_retry: begun && (obeyed.is_none() || (again && retried)),
            application: Application {
                stopped: there().all(|(_, there)| there.asleep && !there.has_pods),
                started: there().all(|(of, there)| floor(of) == 0 || (there.rolled_out && !there.asleep)),
                asked: floor(Component::Api) > 0,
            },
            turns_at: attempt::turns_at(&stack.name, observed, request, now)
                .into_iter()
                .chain(recovery.as_ref().and_then(|recovery| recovery.turns_at(now)))
                .min(),
            recovery,
            attempts,
        };
        let never = facts.recovery.as_ref().and_then(|recovery| recovery.never(observed));
        facts.never = facts.never(done).or(never);
        facts.held = facts.held(observed);
        facts
    }

    /// Why it never can be done.
    fn never(&self, done: Option<&str>) -> Option<Waiting> {
        let (request, stack) = (self.request, self.stack);
        if request.stack_uid.as_ref().is_some_and(|uid| *uid != stack.uid) {
            let message = format!(
                "rorunstack/{} has another uid, {}, than stackRef.uid: its data stay; if they are meant, create a RorunRestore that \
                 names this uid",
                stack.name, stack.uid
            );
            return Some(Waiting::new(reason::ANOTHER_STACK, message));
        }
        // Likewise of the same uid, whose Jobs and status are gone: only its Jobs tell how far it was.
        if done.is_some() {
            let message = format!(
                "a RorunRestore of the name {} has changed the data of this stack before, and is not repeated: to restore once more, \
                 create one with another name",
                request.name
            );
            return Some(Waiting::new(reason::ALREADY_RESTORED, message));
        }
        match &request.point {
            Err(PointProblem::Final(waiting)) => Some(waiting.clone()),
            _ => None,
        }
    }

    /// Why it cannot begin now. One that has begun goes on.
    fn held(&self, observed: &Observed) -> Option<Waiting> {
        let (request, stack) = (self.request, self.stack);
        let name = &stack.name;
        if self.has_begun() {
            return None;
        }
        if let Err(PointProblem::Waits(waiting)) = &request.point {
            return Some(waiting.clone());
        }
        if request.seeds() {
            if let Some(missing) = stack.seed.as_ref().and_then(|seed| seed.missing.clone()) {
                return Some(missing);
            }
        } else if stack.backup.is_none() {
            let message = format!(
                "rorunstack/{name} has no spec.backup, by which recovery points are reached: set it, e.g. to {{}}"
            );
            return Some(Waiting::new(reason::BACKUP_NOT_SET, message));
        }
        for component in [Component::Backup, Component::Connection, Component::Database] {
            let needed = component != Component::Backup || !request.seeds();
            if let Some(waiting) = stack.unresolved.get(&component).filter(|_| needed) {
                return Some(waiting.clone());
            }
        }
        // Without it nobody can tell a point of this stack from another's.
        let of_anybody = request.fills && request.point.as_ref().is_ok_and(|point| point.folder.is_some());
        if !of_anybody && stack.backup.as_ref().is_some_and(|backup| backup.owner.is_none()) {
            let message = format!(
                "the operator may not read the namespace of rorunstack/{name}, whose uid is a part of the owner of its recovery points: \
                 let it get namespaces"
            );
            return Some(Waiting::new(reason::FORBIDDEN, message));
        }
        if let Some(waiting) = self.recovery.as_ref().and_then(Recovery::held) {
            return Some(waiting);
        }
        if stack.suspend {
            let message = format!("spec.suspend of rorunstack/{name} is true: it begins once that is false");
            return Some(Waiting::new(reason::SUSPENDED, message));
        }
        if stack.hibernation.cause.is_some() || wakes(stack, observed) {
            let message = format!("rorunstack/{name} hibernates: it begins once it has woken");
            return Some(Waiting::new(reason::HIBERNATED, message));
        }
        let confirmed = observed.annotations.get(annotation::CONFIRM_RESTORE) == Some(&request.uid);
        if stack.environment == Environment::Production && !confirmed {
            let message = format!(
                "rorunstack/{name} is of Production: set its annotation {} to {}, the uid of this RorunRestore",
                annotation::CONFIRM_RESTORE,
                request.uid
            );
            return Some(Waiting::new(reason::CONFIRMATION_REQUIRED, message));
        }
        None
    }

    pub(super) fn attempt(&self, kind: Kind) -> Option<&Attempt> {
        self.attempts.get(&kind)
    }

    pub(super) fn done(&self, kind: Kind) -> Option<&Done> {
        match self.attempt(kind)? {
            Attempt::Done(done) => Some(done),
            _ => None,
        }
    }

    fn is_done(&self, kind: Kind) -> bool {
        self.done(kind).is_some()
    }

    pub(super) fn has_begun(&self) -> bool {
        self.attempts.values().any(Attempt::exists)
    }

    /// Whether it may have changed what is live: then no other one of its name does so.
    pub(super) fn has_changed_data(&self) -> bool {
        let jobs = [Kind::Switch, Kind::Objects, Kind::Fill];
        self.is_live() || jobs.into_iter().filter_map(|kind| self.attempt(kind)).any(Attempt::exists)
    }

    /// Whether it restores beside live data, to take their place.
    pub(super) fn replaces(&self) -> bool {
        !self.request.fills
    }

    /// Of a moment: its Cluster has taken the place of the live one.
    fn is_live(&self) -> bool {
        self.recovery.as_ref().is_some_and(Recovery::is_live)
    }

    fn is_switched(&self) -> bool {
        self.recovery.as_ref().map_or_else(|| self.is_done(Kind::Switch), |recovery| recovery.recorded)
    }

    /// The live data are changed, and not all that belongs together is. A switch is one transaction: one that broke off changed
    /// nothing, or all of the database.
    pub(super) fn is_half_done(&self) -> bool {
        let begun = self.is_switched() || self.attempt(Kind::Objects).is_some_and(Attempt::exists);
        self.replaces() && begun && !self.objects_done()
    }

    /// A Job that changes what is live runs, or is done.
    fn is_changing(&self, kind: Kind) -> bool {
        self.attempt(kind)
            .is_some_and(|attempt| matches!(attempt, Attempt::Done(_) | Attempt::Pending(..)) && attempt.exists())
    }

    fn switched_all(&self) -> bool {
        !self.request.database || self.request.into.is_some() || self.is_switched()
    }

    fn objects_done(&self) -> bool {
        !(self.request.bucket || self.places()) || self.is_done(Kind::Objects)
    }

    /// Whether a seed has objects, by what its check said. If that is lost, the step finds out.
    fn places(&self) -> bool {
        let checked = self.done(Kind::Check).filter(|_| self.request.seeds() && self.found_data().is_none());
        checked.is_some_and(|checked| !checked.told || checked.result.objects.is_some_and(|count| count > 0))
    }

    /// The step that was refused for good, and why.
    pub(super) fn refusal(&self) -> Option<Waiting> {
        let refused = self.attempts.values().find_map(|attempt| match attempt {
            Attempt::Refused(step, reason, message) => {
                Some(Waiting::new(reason, format!("job/{}: {message}", step.name)))
            }
            _ => None,
        });
        let recovery = self.recovery.as_ref().and_then(Recovery::refusal);
        self.never.clone().filter(|_| !self.has_begun()).or(recovery).or(refused).or_else(|| self.cannot_switch())
    }

    /// The copy is verified, and does not take the place of the live database.
    fn cannot_switch(&self) -> Option<Waiting> {
        let verified = self.done(Kind::Verify)?;
        let held = verified.result.held.as_ref()?;
        let begun = self.attempt(Kind::Switch).is_some_and(Attempt::exists);
        let switches = self.replaces() && self.request.into.is_none() && !begun;
        let message = format!(
            "job/{}: {}; then create another RorunRestore, or let the Secret of the stack name database {}, which holds the recovery \
             point and was verified",
            verified.job,
            held.message,
            verified.result.database.as_deref().unwrap_or_default()
        );
        switches.then(|| Waiting::new(held.reason.as_str(), message))
    }

    /// The step that broke off.
    pub(super) fn broken(&self) -> Option<(Kind, &Step, &str)> {
        self.attempts.iter().find_map(|(kind, attempt)| match attempt {
            Attempt::Failed(step, message) => Some((*kind, step, message.as_str())),
            Attempt::Refused(step, _, message) if self.is_half_done() => Some((*kind, step, message.as_str())),
            _ => None,
        })
    }

    // The rows of the table, in their order.

    pub(super) fn is_refused(&self) -> bool {
        // Of data that are changed by half nobody may make a serving application: that is told, and is not over.
        self.refusal().is_some() && !self.is_half_done() && self.found_data().is_none()
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken().is_some()
    }

    pub(super) fn waits(&self) -> bool {
        self.held.is_some()
    }

    pub(super) fn checks(&self) -> bool {
        !self.is_done(Kind::Check)
    }

    pub(super) fn fills(&self) -> bool {
        self.request.fills && self.request.database && !self.is_done(Kind::Fill) && self.found_data().is_none()
    }

    /// What a seed found in the database, which stays: then there is nothing to seed.
    pub(super) fn found_data(&self) -> Option<&str> {
        match self.attempt(Kind::Fill)? {
            Attempt::Refused(_, why, message) if self.request.seeds() && *why == reason::DATA_FOUND => Some(message),
            _ => None,
        }
    }

    pub(super) fn copies(&self) -> bool {
        let copied = match &self.recovery {
            Some(recovery) => recovery.is_live() || recovery.is_ready(),
            None => self.is_done(Kind::Copy),
        };
        self.replaces() && self.request.database && !copied
    }

    pub(super) fn migrates(&self) -> bool {
        let wanted = self.stack.release.migration.is_some() && self.replaces() && self.request.database;
        wanted && !self.is_switched() && !self.is_live() && !self.is_done(Kind::Migrate)
    }

    pub(super) fn verifies(&self) -> bool {
        self.replaces() && self.request.database && !self.is_live() && !self.is_done(Kind::Verify)
    }

    pub(super) fn saves(&self) -> bool {
        self.replaces() && self.request.into.is_none() && !self.is_live() && !self.is_done(Kind::Save)
    }

    pub(super) fn stops(&self) -> bool {
        // Once data are changed the rest follows, whatever pods there are. Before a switch is tried again they end again.
        let changing = self.is_changing(Kind::Switch) || self.is_changing(Kind::Objects) || self.is_live();
        self.replaces() && self.request.into.is_none() && !changing && !self.application.stopped
    }

    pub(super) fn switches(&self) -> bool {
        self.replaces() && !self.switched_all()
    }

    pub(super) fn restores_objects(&self) -> bool {
        !self.objects_done()
    }

    pub(super) fn starts(&self) -> bool {
        self.replaces() && self.request.into.is_none() && !self.application.started
    }

    pub(super) fn tests(&self) -> bool {
        self.replaces() && self.request.into.is_none() && self.application.asked && !self.is_done(Kind::Test)
    }

    /// The state: the first row that holds.
    pub(super) fn state(&self) -> State {
        TABLE.iter().find(|row| (row.holds)(self)).map_or(State::Complete, |row| row.state)
    }

    /// The Job of a state.
    pub(super) fn step(&self, state: State) -> Option<(Kind, Step)> {
        let kind = state.kind()?;
        match self.attempt(kind)? {
            Attempt::Pending(step, _) if step.exists || self.may_begin() => Some((kind, step.clone())),
            _ => None,
        }
    }

    /// Whether another Job of it may be made.
    pub(super) fn may_begin(&self) -> bool {
        self.blocked.is_none() && self.request.point.is_ok()
    }

    /// Whether it goes on, or keeps the application from running: others wait for it.
    pub(super) fn is_on_its_way(&self) -> bool {
        match self.state() {
            State::Waiting | State::Complete => false,
            State::Broken => self.is_half_done(),
            State::Refused => self.is_half_done() || self.request.fills,
            _ => self.has_begun(),
        }
    }
}

/// Whether the last attempt that exists is not the first.
fn is_later(stack: &Stack, request: &RestoreRequest, kind: Kind, attempt: &Attempt) -> bool {
    let job = match attempt {
        Attempt::Done(done) => done.job.as_str(),
        other => other.step().filter(|step| step.exists).map_or("", |step| step.name.as_str()),
    };
    let first = attempt::names(&stack.name, request, kind).next().unwrap_or_default();
    !job.is_empty() && job != first
}
