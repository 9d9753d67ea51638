//! What a release is judged by: its revisions, its approval, its migration and its rollout, as the cluster tells them.

use super::{
    Pause, Pick, State, Step,
    candidate::{self, Candidates, Pending},
    gate::{Gate, gate, reuse_within},
    kept::inherited,
    migration::{Migrated, began, blocker, has_moved, identity, migrated, migrations, not_begun},
    proof,
    rollout::{Rollout, rollout},
    verification::{self, Verification},
};
use crate::{
    names::{Component, ObjectName, RELEASE, annotation},
    plan::meaning,
    stack::{Attempt, Beside, Excuse, Observed, Place, Progress, Revision, RolledBack, Stack},
};

/// What is known of a release.
pub(super) struct Facts {
    /// The revision that the spec asks for.
    pub(super) target: Revision,
    /// The revision that began to serve last.
    pub(super) last_good: Option<Revision>,
    /// Every other revision.
    pub(super) others: Vec<Revision>,
    /// The images served before, or serve: no approval, no migration.
    images_served: bool,
    approval: Approval,
    pub(super) migration: Migrated,
    pub(super) gate: Gate,
    pub(super) reuse_within: i64,
    /// The Job that runs and whose end the migration waits for: a dump, or the migration of a release that was withdrawn.
    pub(super) blocker: Option<String>,
    /// A migration runs, of this release or of one that was withdrawn.
    pub(super) migration_runs: bool,
    /// The release that the annotation approves.
    pub(super) approved: Option<String>,
    pause: Pause,
    /// With what the target is tried now.
    pub(super) attempt: Attempt,
    /// What its pods are to be made of beside its content.
    beside: Beside,
    /// What the migration is about: the image, the command and the data.
    identity: String,
    /// The data: a hash.
    pub(super) data: String,
    /// Where they are, as far as it is known.
    place: Option<Place>,
    /// They are others than those that the release served last, and no migration ran on them.
    moved: bool,
    pub(super) rollout: Rollout,
    /// The workloads that have a candidate, while it is to be tested.
    components: Vec<Component>,
    pub(super) candidates: Candidates,
    /// The workloads that smoke tests ask after their rollout.
    pub(super) verified: Vec<Component>,
    pub(super) verification: Verification,
}

/// What is tested, and with what.
#[derive(Clone, Copy)]
pub(super) struct Tried<'a> {
    pub(super) target: &'a Revision,
    /// The images served before, so nothing is tested.
    pub(super) images_served: bool,
    pub(super) attempt: &'a Attempt,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Approval {
    NotNeeded,
    Missing,
    Given,
}

impl Facts {
    pub(super) fn of(stack: &Stack, observed: &Observed, pause: Pause, now: i64) -> Self {
        let mut revisions = observed.releases.revisions.clone();
        revisions.sort_by_key(|revision| revision.number);
        let name = String::from(ObjectName::record(&stack.name, RELEASE, stack.content.revision()));
        let number = revisions.last().map_or(0, |last| last.number) + 1;
        let known = revisions.iter().position(|revision| revision.name == name).map(|index| revisions.remove(index));
        let target = known.unwrap_or_else(|| Revision {
            name,
            number,
            content: stack.content.clone(),
            progress: inherited(&revisions, &stack.content.release(), now),
        });
        let served = |revision: &&Revision| revision.progress.served_at.is_some();
        let all = || revisions.iter().chain([&target]);
        let newest = all().filter(served).max_by_key(|revision| (revision.progress.served_at, revision.number));
        let last_good = newest.cloned();
        let same = |revision: &Revision| revision.content.images() == target.content.images();
        let images_served = all().any(|revision| served(&revision) && same(revision));
        let identity = identity(stack);
        let data = meaning(&[&stack.release.data]);
        let moved = pause == Pause::None && has_moved(stack, last_good.as_ref(), all(), &data);
        let needs_none = images_served && !moved;
        let migration = migrated(stack, observed, (&identity, needs_none), &all().collect::<Vec<_>>());
        let attempt = attempt(stack, observed);
        let tried = Tried { target: &target, images_served, attempt: &attempt };
        let components = candidate::components(stack, &target, last_good.as_ref());
        let candidates = candidate::candidates(stack, observed, &components, tried);
        let verified = verification::components(stack, &target, last_good.as_ref());
        let verification = verification::verification(stack, observed, &verified, tried);
        let gate = gate(stack, observed, &target, &migration, now);
        let reuse_within = reuse_within(stack, all(), now);
        let mut facts = Self {
            gate,
            reuse_within,
            components,
            candidates,
            verified,
            verification,
            approval: approval(stack, observed, images_served, &target),
            migration,
            blocker: blocker(stack, observed),
            migration_runs: migrations(observed).next().is_some(),
            approved: observed.annotations.get(annotation::APPROVE).cloned(),
            pause,
            beside: stack.beside.clone(),
            attempt,
            identity,
            data,
            place: stack.release.place.clone().filter(|_| pause == Pause::None),
            moved,
            rollout: rollout(stack, observed, &target),
            target,
            last_good,
            others: revisions,
            images_served,
        };
        facts.conclude(stack, now);
        facts.progress(observed, now);
        facts
    }

    /// Records how the tests of the target ended, or that its rollout had its time. With something else it is tried again.
    fn conclude(&mut self, stack: &Stack, now: i64) {
        if self.target.progress.rolled_back.as_ref().is_some_and(|given_up| !given_up.attempt.is(&self.attempt)) {
            self.target.progress = Progress { rolled_back: None, started_at: None, ..self.target.progress.clone() };
        }
        if stack.suspend {
            // Nothing is carried out, so nothing is given up either.
            return;
        }
        self.conclude_tests(now);
        if self.is_overdue(now) {
            let trouble =
                self.rollout.trouble.as_ref().map(|trouble| format!(": {}", trouble.message)).unwrap_or_default();
            let message = format!("its pods did not become ready within {} s{trouble}", self.rollout.deadline);
            self.target.progress.rolled_back = Some(RolledBack { at: now, message, attempt: self.attempt.clone() });
        }
        self.conclude_verification(now);
    }

    /// Brings forward what became of the target.
    fn progress(&mut self, observed: &Observed, now: i64) {
        if let Some(job) = began(observed, &self.migration) {
            self.target.progress.began = Some(job);
        }
        self.target.progress.not_begun = not_begun(observed, &self.migration, &self.target.progress);
        // Until the approval of a release is given, its migration is not due, and another backup may be the newest then.
        if let Gate::Passed(point) = &self.gate
            && self.approval != Approval::Missing
        {
            self.target.progress.recovery_point = Some(point.clone());
        }
        let adopted = self.last_good.is_none() && observed.releases.adoptable;
        // Without pods nothing shows whether a release serves.
        if (self.is_verified() || adopted) && self.pause == Pause::None && !self.serves() {
            self.target.progress.served_at = Some(now);
            self.target.progress.excused = None;
            self.last_good = Some(self.target.clone());
            self.images_served = true;
        }
        if adopted {
            // What runs was migrated by whoever released it.
            self.target.progress.migrated = Some(self.identity.clone());
        }
        if let Migrated::Done(step) = &self.migration {
            self.target.progress.data = Some(self.data.clone());
            proof::migrated(&mut self.target.progress, &self.others, (&self.identity, step.as_ref()), observed);
        }
        if self.approval == Approval::Given && self.target.progress.approved_by.is_none() {
            let by = observed.annotations.get(annotation::APPROVED_BY);
            self.target.progress.approved_by = Some(by.cloned().unwrap_or_default());
            self.target.progress.approved_at = Some(now);
            self.target.progress.approval_verified = observed.approvals_verified;
        }
        if self.rests() && self.place.is_some() {
            self.target.progress.place.clone_from(&self.place);
        }
        if self.serves() {
            proof::digests(&mut self.target, observed, now);
            self.last_good = Some(self.target.clone());
        }
    }

    /// The facts after a state was decided: a rollout that begins, stands still or is given up.
    pub(super) fn after(mut self, state: State, now: i64) -> Self {
        if self.serves() {
            return self;
        }
        // A rollout that began before the stack hibernated has its whole time when it wakes.
        let interrupted = matches!(state, State::Hibernating | State::Restoring) && self.deadline(0).is_some();
        if state.comes_before_pods() {
            // Whatever began before has to begin again: an approval that became required meanwhile takes no time of it.
            self.target.progress =
                Progress { started_at: None, excused: None, excused_until: None, ..self.target.progress };
            return self;
        }
        if !state.is_excused() && !interrupted {
            return self;
        }
        let since = self.last_good.as_ref().and_then(|good| good.progress.served_at).unwrap_or(0);
        let excuse = self.not_at_fault().map(|excuse| excuse.waiting.message.clone());
        let progress = &mut self.target.progress;
        if progress.started_at.is_none_or(|started| started < since) {
            progress.started_at = Some(now);
            progress.excused_until = None;
        }
        if self.last_good.is_none() {
            // There is nothing to go back to, so no clock stands still.
            return self;
        }
        match excuse {
            Some(message) => progress.excused = progress.excused.take().or(Some(message)),
            None if progress.excused.take().is_some() => {
                progress.excused_until = Some(now);
                progress.asked_since = Some(now);
            }
            None => {}
        }
        self
    }

    /// Records what the pods of the target are made of, once the Deployments get it: should another release be held, they keep it.
    pub(super) fn with_beside(mut self, state: State, picked: Pick) -> Self {
        if self.pick(state, picked) == Pick::Target {
            self.target.progress.beside = Some(self.beside.clone());
        }
        if self.serves() {
            self.last_good = Some(self.target.clone());
        }
        self
    }

    /// Whether the rollout had its time, there is a revision to go back to, and nothing else is at fault.
    fn is_overdue(&self, now: i64) -> bool {
        let over = self.is_over(now, self.rollout.deadline, self.rollout.excuse.as_ref());
        over && !self.tests() && !self.rollout.complete && !self.serves() && !self.is_rolled_back()
    }

    /// Whether so many seconds have passed since the rollout, or the start of the candidates, began, and nothing excused it.
    pub(super) fn is_over(&self, now: i64, seconds: i64, excuse: Option<&Excuse>) -> bool {
        let over = self.deadline(seconds).is_some_and(|deadline| now >= deadline);
        over && !self.is_excused(excuse)
    }

    /// Whether something else is at fault now, or was until this very moment.
    pub(super) fn is_excused(&self, excuse: Option<&Excuse>) -> bool {
        excuse.is_some() || self.target.progress.excused.is_some()
    }

    /// When the rollout, or the start of the candidates, has had its time. `None`: it did not begin, or there is nothing to go
    /// back to.
    pub(super) fn deadline(&self, seconds: i64) -> Option<i64> {
        let since = self.last_good.as_ref()?.progress.served_at?;
        let started = self.target.progress.started_at.filter(|started| *started >= since)?;
        Some(started.max(self.target.progress.excused_until.unwrap_or(0)) + seconds)
    }

    pub(super) fn serves(&self) -> bool {
        self.last_good.as_ref().is_some_and(|good| good.name == self.target.name)
    }

    /// Whether it serves, and its data need no migration: those of another server or volume may.
    pub(super) fn rests(&self) -> bool {
        self.serves() && !(self.moved && (self.migrates() || self.migration_failed()))
    }

    pub(super) fn is_rolled_back(&self) -> bool {
        self.target.progress.rolled_back.is_some()
    }

    pub(super) fn hibernates(&self) -> bool {
        self.pause == Pause::Hibernation
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.pause == Pause::Restore
    }

    pub(super) fn lacks_approval(&self) -> bool {
        self.approval == Approval::Missing
    }

    pub(super) fn migration_failed(&self) -> bool {
        matches!(self.migration, Migrated::Failed(..))
    }

    pub(super) fn recovery_point_failed(&self) -> bool {
        matches!(self.gate, Gate::Failed(..))
    }

    pub(super) fn backs_up(&self) -> bool {
        matches!(self.gate, Gate::Pending(_))
    }

    pub(super) fn smoke_test_failed(&self) -> bool {
        matches!(self.candidates, Candidates::Failed(..))
    }

    pub(super) fn tests(&self) -> bool {
        matches!(self.candidates, Candidates::Pending(_))
    }

    /// The workloads whose candidates run.
    pub(super) fn candidates(&self, state: State) -> Vec<Component> {
        if state == State::Testing { self.components.clone() } else { Vec::new() }
    }

    /// The Job that asks the candidates: it begins once all of them serve.
    pub(super) fn smoke_test(&self, state: State) -> Option<Step> {
        match &self.candidates {
            Candidates::Pending(Pending { ready, step, .. }) if state == State::Testing => {
                Some(step.clone()).filter(|step| *ready || step.exists)
            }
            Candidates::Failed(step, _) => Some(step.clone()).filter(|step| step.exists),
            _ => self.verification_step(state),
        }
    }

    pub(super) fn migrates(&self) -> bool {
        matches!(self.migration, Migrated::Pending(_))
    }

    /// Which revision the Deployments get: without one that served they are left as they are, and so they are while other data are not
    /// migrated, since each revision would get these.
    pub(super) fn pick(&self, state: State, pick: Pick) -> Pick {
        if self.moved && state.comes_before_pods() {
            return Pick::Unchanged;
        }
        if pick != Pick::LastGood || self.last_good.is_some() {
            return pick;
        }
        // The pods of a first release that began to roll out are to end, too.
        if self.pause != Pause::None && self.target.progress.started_at.is_some() {
            Pick::Target
        } else {
            Pick::Unchanged
        }
    }

    /// When the state may be another one though nothing happens.
    pub(super) fn turns_at(&self, state: State) -> Option<i64> {
        match (&self.candidates, state) {
            (Candidates::Pending(pending), State::Testing) if !pending.ready && pending.excuse.is_none() => {
                self.deadline(pending.deadline)
            }
            (_, State::RollingOut) if self.rollout.excuse.is_none() => self.deadline(self.rollout.deadline),
            (_, State::Verifying) if matches!(self.verification, Verification::Failed(..)) => {
                self.deadline(self.rollout.deadline)
            }
            _ => None,
        }
    }
}

/// With what the target is tried now.
fn attempt(stack: &Stack, observed: &Observed) -> Attempt {
    let retry = observed.retry().map(str::to_owned);
    Attempt { retry, beside: Some(stack.beside.id()) }
}

fn approval(stack: &Stack, observed: &Observed, images_served: bool, target: &Revision) -> Approval {
    if !stack.release.approval_required || images_served {
        return Approval::NotNeeded;
    }
    let release = target.content.release();
    let given =
        target.progress.approved_by.is_some() || observed.annotations.get(annotation::APPROVE) == Some(&release);
    if given { Approval::Given } else { Approval::Missing }
}
