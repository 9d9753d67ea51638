//! What a release is judged by: its revisions, its approval, its migration and its rollout, as the cluster tells them.

use super::{HISTORY, Pick, State, Step};
use crate::{
    names::{Component, ObjectName, RELEASE, Waiting, annotation, reason},
    plan::meaning,
    stack::{JobPhase, Observed, ObservedJob, Probe, Progress, Revision, RolledBack, Stack, WORKLOADS},
};

/// What is known of a release.
pub(super) struct Facts {
    /// The revision that the spec asks for.
    pub(super) target: Revision,
    /// The revision that began to serve last.
    pub(super) last_good: Option<Revision>,
    /// Every other revision.
    others: Vec<Revision>,
    /// The images served before, or serve: no approval, no migration.
    images_served: bool,
    approval: Approval,
    migration: Migrated,
    /// The Job that runs and whose end the migration waits for: a dump, or the migration of a release that was withdrawn.
    blocker: Option<String>,
    /// A migration runs, of this release or of one that was withdrawn.
    pub(super) migration_runs: bool,
    /// What the migration is about: the image, the command and the data.
    identity: String,
    rollout: Rollout,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Approval {
    NotNeeded,
    Missing,
    Given,
}

enum Migrated {
    NotNeeded,
    Pending(Step),
    Failed(Step, String),
    Done(Option<Step>),
}

struct Rollout {
    /// Every workload is rolled out to the target.
    complete: bool,
    /// What keeps it from going on though the release is not at fault.
    excuse: Option<Waiting>,
    /// What its pods say.
    trouble: Option<Waiting>,
    /// How long it may take, in seconds.
    deadline: i64,
}

impl Facts {
    pub(super) fn of(stack: &Stack, observed: &Observed, now: i64) -> Self {
        let mut revisions = observed.releases.revisions.clone();
        revisions.sort_by_key(|revision| revision.number);
        let name = String::from(ObjectName::record(&stack.name, RELEASE, stack.content.revision()));
        let number = revisions.last().map_or(0, |last| last.number) + 1;
        let known = revisions.iter().position(|revision| revision.name == name).map(|index| revisions.remove(index));
        let target = known.unwrap_or_else(|| Revision {
            name,
            number,
            content: stack.content.clone(),
            progress: Progress { created_at: now, ..Progress::default() },
        });
        let served = |revision: &&Revision| revision.progress.served_at.is_some();
        let newest = revisions
            .iter()
            .chain([&target])
            .filter(served)
            .max_by_key(|revision| (revision.progress.served_at, revision.number));
        let last_good = newest.cloned();
        let same = |revision: &Revision| revision.content.images() == target.content.images();
        let images_served = revisions.iter().chain([&target]).any(|revision| served(&revision) && same(revision));
        let all = || revisions.iter().chain([&target]);
        let identity = identity(stack);
        let migration = migrated(stack, observed, (&identity, images_served), all());
        let mut facts = Self {
            approval: approval(stack, observed, images_served, &target),
            migration,
            blocker: blocker(observed),
            migration_runs: migrations(observed).next().is_some(),
            identity,
            rollout: rollout(stack, observed, &target),
            target,
            last_good,
            others: revisions,
            images_served,
        };
        facts.progress(observed, now);
        facts
    }

    /// Brings forward what became of the target.
    fn progress(&mut self, observed: &Observed, now: i64) {
        let retry = observed.annotations.get(annotation::RETRY);
        if self.target.progress.rolled_back.as_ref().is_some_and(|given_up| given_up.retry.as_ref() != retry) {
            self.target.progress = Progress { rolled_back: None, started_at: None, ..self.target.progress.clone() };
        }
        if self.is_overdue(now) {
            let trouble =
                self.rollout.trouble.as_ref().map(|trouble| format!(": {}", trouble.message)).unwrap_or_default();
            let message = format!("its pods did not become ready within {} s{trouble}", self.rollout.deadline);
            self.target.progress.rolled_back = Some(RolledBack { at: now, message, retry: retry.cloned() });
        }
        let adopted = self.last_good.is_none() && observed.releases.adoptable;
        if (self.rollout.complete || adopted) && !self.serves() {
            self.target.progress.served_at = Some(now);
            self.target.progress.excused = None;
            self.last_good = Some(self.target.clone());
            self.images_served = true;
        }
        if adopted {
            // What runs was migrated by whoever released it.
            self.target.progress.migrated = Some(self.identity.clone());
        }
        if let Migrated::Done(_) = &self.migration {
            self.target.progress.migrated = Some(self.identity.clone());
        }
        if self.approval == Approval::Given && self.target.progress.approved_by.is_none() {
            let by = observed.annotations.get(annotation::APPROVED_BY);
            self.target.progress.approved_by = Some(by.cloned().unwrap_or_default());
        }
    }

    /// The facts after a state was decided: a rollout that begins, stands still or is given up.
    pub(super) fn after(mut self, state: State, now: i64) -> Self {
        if state != State::RollingOut {
            return self;
        }
        let since = self.last_good.as_ref().and_then(|good| good.progress.served_at).unwrap_or(0);
        let progress = &mut self.target.progress;
        if progress.started_at.is_none_or(|started| started < since) {
            progress.started_at = Some(now);
            progress.excused_until = None;
        }
        if self.last_good.is_none() {
            // There is nothing to go back to, so no clock stands still.
            return self;
        }
        match &self.rollout.excuse {
            Some(waiting) => progress.excused = progress.excused.take().or_else(|| Some(waiting.message.clone())),
            None if progress.excused.take().is_some() => progress.excused_until = Some(now),
            None => {}
        }
        self
    }

    /// Whether the rollout had its time, there is a revision to go back to, and nothing else is at fault.
    fn is_overdue(&self, now: i64) -> bool {
        let excused = self.rollout.excuse.is_some() || self.target.progress.excused.is_some();
        let over = self.deadline().is_some_and(|deadline| now >= deadline);
        over && !excused && !self.rollout.complete && !self.serves() && !self.is_rolled_back()
    }

    /// When the rollout has had its time. `None`: it did not begin, or there is nothing to go back to.
    fn deadline(&self) -> Option<i64> {
        let since = self.last_good.as_ref()?.progress.served_at?;
        let started = self.target.progress.started_at.filter(|started| *started >= since)?;
        Some(started.max(self.target.progress.excused_until.unwrap_or(0)) + self.rollout.deadline)
    }

    pub(super) fn serves(&self) -> bool {
        self.last_good.as_ref().is_some_and(|good| good.name == self.target.name)
    }

    pub(super) fn is_rolled_back(&self) -> bool {
        self.target.progress.rolled_back.is_some()
    }

    pub(super) fn lacks_approval(&self) -> bool {
        self.approval == Approval::Missing
    }

    pub(super) fn migration_failed(&self) -> bool {
        matches!(self.migration, Migrated::Failed(..))
    }

    pub(super) fn migrates(&self) -> bool {
        matches!(self.migration, Migrated::Pending(_))
    }

    /// Which revision the Deployments get: without one that served they are left as they are.
    pub(super) fn pick(&self, pick: Pick) -> Pick {
        if pick == Pick::LastGood && self.last_good.is_none() { Pick::Keep } else { pick }
    }

    /// What the release waits for, for the user.
    pub(super) fn waiting(&self, state: State) -> Option<Waiting> {
        let images: Vec<_> = self.target.content.images().into_values().collect();
        let (images, release) = (images.join(", "), self.target.content.release());
        match state {
            State::Serving | State::RollingOut => None,
            State::AwaitingApproval => Some(Waiting::new(
                reason::AWAITING_APPROVAL,
                format!(
                    "release {release} ({images}) waits for approval: set the annotation {}: {release} (with {}: your user \
                     name); what serves stays",
                    annotation::APPROVE,
                    annotation::APPROVED_BY
                ),
            )),
            State::Migrating => Some(Waiting::new(
                reason::MIGRATING,
                format!("release {release} ({images}) waits for its migration{}; what serves stays", self.job()),
            )),
            State::MigrationFailed => {
                let Migrated::Failed(_, said) = &self.migration else { return None };
                Some(Waiting::new(
                    reason::MIGRATION_FAILED,
                    format!(
                        "release {release} ({images}) is held, since its migration failed{}: {said}; mend it, then change the \
                         image or set the annotation {} to a new value; what served before serves",
                        self.job(),
                        annotation::RETRY
                    ),
                ))
            }
            State::RolledBack => {
                let given_up = self.target.progress.rolled_back.as_ref()?;
                let good = self.last_good.as_ref().map(|good| good.content.release()).unwrap_or_default();
                Some(Waiting::new(
                    reason::ROLLED_BACK,
                    format!(
                        "release {release} ({images}) was rolled back to {good}: {}; mend it, or set the annotation {} to a new \
                         value",
                        given_up.message,
                        annotation::RETRY
                    ),
                ))
            }
        }
    }

    fn job(&self) -> String {
        match &self.migration {
            Migrated::Pending(step) if !step.exists => {
                self.blocker.as_ref().map(|job| format!(", which waits for {job} to end")).unwrap_or_default()
            }
            Migrated::Pending(step) | Migrated::Failed(step, _) => format!(", job/{}", step.name),
            _ => String::new(),
        }
    }

    /// The Job of the migration, while it is to run or is kept for reading.
    pub(super) fn migration_step(&self, state: State) -> Option<Step> {
        match &self.migration {
            // Before the approval nothing runs.
            Migrated::Pending(step) => {
                let may_start = state == State::Migrating && self.blocker.is_none();
                Some(step.clone()).filter(|step| may_start || step.exists)
            }
            Migrated::Failed(step, _) => Some(step.clone()),
            Migrated::Done(step) => step.clone(),
            Migrated::NotNeeded => None,
        }
    }

    /// When the state may be another one though nothing happens.
    pub(super) fn turns_at(&self, state: State) -> Option<i64> {
        self.deadline().filter(|_| state == State::RollingOut && self.rollout.excuse.is_none())
    }

    /// The target, the last good revision, and of each of the last releases the newest revision that served.
    pub(super) fn kept(&self) -> Vec<Revision> {
        let mut kept = vec![self.target.clone()];
        let mut releases = vec![self.target.content.release()];
        let mut served: Vec<_> = self.others.iter().filter(|other| other.progress.served_at.is_some()).collect();
        served.sort_by_key(|other| std::cmp::Reverse((other.progress.served_at, other.number)));
        for other in served {
            let (release, is_good) =
                (other.content.release(), self.last_good.as_ref().is_some_and(|good| good.name == other.name));
            if is_good || (!releases.contains(&release) && releases.len() < HISTORY) {
                kept.push(other.clone());
                releases.push(release);
            }
        }
        kept.sort_by_key(|revision| revision.number);
        kept
    }
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

fn migrated<'a>(
    stack: &Stack,
    observed: &Observed,
    (identity, images_served): (&str, bool),
    mut revisions: impl Iterator<Item = &'a Revision>,
) -> Migrated {
    if stack.release.migration.is_none() {
        return Migrated::NotNeeded;
    }
    let retry = observed.annotations.get(annotation::RETRY).map_or("", String::as_str);
    let name = ObjectName::step(&stack.name, Component::Migration, &meaning(&[identity, retry]));
    let job = observed.jobs.iter().find(|job| job.name == name.as_str());
    let step = |exists| Step { name: name.as_str().to_owned(), exists };
    match job.map(|job| &job.phase) {
        Some(JobPhase::Complete) => return Migrated::Done(Some(step(true))),
        _ if images_served => return Migrated::NotNeeded,
        _ => {}
    }
    if revisions.any(|revision| revision.progress.migrated.as_deref() == Some(identity)) {
        return Migrated::Done(None);
    }
    match job.map(|job| &job.phase) {
        Some(JobPhase::Failed(said)) => Migrated::Failed(step(true), said.clone()),
        running => Migrated::Pending(step(running.is_some())),
    }
}

/// The migrations that run: that of the target, and one that began before the spec went on. Nothing ends either half-way.
fn migrations(observed: &Observed) -> impl Iterator<Item = &ObservedJob> {
    observed.jobs.iter().filter(|job| job.component == Component::Migration && job.phase == JobPhase::Running)
}

/// What keeps a migration that has no Job yet from starting.
fn blocker(observed: &Observed) -> Option<String> {
    let dump = observed.dump.as_ref().map(|job| format!("the dump of job/{job}"));
    dump.or_else(|| migrations(observed).next().map(|job| format!("the migration of job/{}", job.name)))
}

/// The image, the command, and which data: what a migration is about.
fn identity(stack: &Stack) -> String {
    let Some(migration) = &stack.release.migration else { return String::new() };
    let mut parts = vec![stack.api.image.as_str(), &stack.release.data];
    parts.extend(migration.command.iter().map(String::as_str));
    meaning(&parts)
}

fn rollout(stack: &Stack, observed: &Observed, target: &Revision) -> Rollout {
    let workloads = &observed.releases.workloads;
    let pending = |component: &Component| {
        let wanted = target.content.workload(*component);
        let there = workloads.get(component);
        wanted.is_some() && !there.is_some_and(|there| there.rolled_out && there.revision == wanted)
    };
    let pending: Vec<_> = WORKLOADS.into_iter().filter(pending).collect();
    let deadlines = pending.iter().filter_map(|component| stack.workload(*component));
    let deadline = deadlines.map(|workload| i64::from(workload.progress_deadline_seconds)).max().unwrap_or_default();
    // What the pods of a workload say that is rolled out has nothing to do with the release.
    let rolling = || pending.iter().filter_map(|component| workloads.get(component));
    let services = observed.releases.excuse.clone().or_else(|| service_down(stack)).or_else(|| unresolved(stack));
    Rollout {
        complete: pending.is_empty(),
        excuse: services.or_else(|| rolling().find_map(|there| there.excuse.clone())),
        trouble: rolling().find_map(|there| there.trouble.clone()),
        deadline,
    }
}

/// A service outside that does not answer.
fn service_down(stack: &Stack) -> Option<Waiting> {
    [Component::Database, Component::Redis, Component::Bucket].into_iter().find_map(|component| {
        match stack.probe(component) {
            Probe::Failed(waiting) => Some(waiting.clone()),
            _ => None,
        }
    })
}

/// A workload that cannot be as the spec asks for: its condition names the field or the object.
fn unresolved(stack: &Stack) -> Option<Waiting> {
    let all = [&stack.unresolved, &stack.pods_refused];
    WORKLOADS.iter().find_map(|component| all.iter().find_map(|waiting| waiting.get(component)).cloned())
}
