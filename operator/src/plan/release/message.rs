//! What a release waits for, in the words of a status.

use super::{
    State,
    candidate::{Candidates, Pending},
    facts::Facts,
    gate::Gate,
    migration::Migrated,
    verification::Verification,
};
use crate::{
    names::{
        Component, Waiting, annotation,
        reason::{self, Reason},
    },
    stack::{Progress, RolledBack},
};

impl Facts {
    /// What the release waits for. `None`: it serves, or only its rollout or the end of a hibernation is waited for.
    pub(super) fn waiting(&self, state: State) -> Option<Waiting> {
        let images: Vec<_> = self.target.content.images().into_values().collect();
        let images = images.join(", ");
        let release = format!("release {} ({images})", self.target.content.release());
        Some(match state {
            State::Serving | State::Hibernating | State::Restoring | State::RollingOut => return None,
            State::AwaitingApproval => Waiting::new(
                reason::AWAITING_APPROVAL,
                format!(
                    "{release} waits for approval: set the annotation {}: {} (with {}: your user name){}; what serves stays",
                    annotation::APPROVE,
                    self.target.content.release(),
                    annotation::APPROVED_BY,
                    self.other_approval()
                ),
            ),
            State::BackingUp => Waiting::new(
                reason::BACKING_UP,
                format!("{release} waits for its recovery point{}; what serves stays", self.backup()),
            ),
            State::RecoveryPointFailed => {
                let Gate::Failed(step, said) = &self.gate else { return None };
                let why = format!(
                    "since its recovery point could not be made, job/{}: {said}; the annotation {}: {} lets it go on without",
                    step.name,
                    annotation::SKIP_RECOVERY_POINT,
                    self.target.content.release()
                );
                Waiting::new(reason::RECOVERY_POINT_FAILED, held(&release, &why))
            }
            State::Migrating => Waiting::new(reason::MIGRATING, self.migrates_later(&release, "")),
            State::MigrationLocked => Waiting::new(
                reason::MIGRATION_LOCKED,
                self.migrates_later(&release, "; it begins by itself once that session has ended"),
            ),
            State::MigrationFailed => {
                let Migrated::Failed(_, said) = &self.migration else { return None };
                let why = format!("since its migration failed{}: {said}", self.job());
                Waiting::new(reason::MIGRATION_FAILED, held(&release, &why))
            }
            State::Testing => self.tests_candidates(&release)?,
            State::SmokeTestFailed => {
                let Candidates::Failed(_, said) = &self.candidates else { return None };
                let why = format!("since it did not pass its smoke tests: {said}");
                Waiting::new(reason::SMOKE_TEST_FAILED, held(&release, &why))
            }
            State::Verifying => self.tests_pods(&release)?,
            State::RolledBack => Waiting::new(reason::ROLLED_BACK, self.given_up(&release)?),
        })
    }

    /// How far the tests of its candidates are.
    fn tests_candidates(&self, release: &str) -> Option<Waiting> {
        let Candidates::Pending(pending) = &self.candidates else { return None };
        if let Some(Err(said)) = &pending.ended {
            return Some(self.asks_again(reason::TESTING, &format!("{release} is tested"), said));
        }
        let message = format!("{release} is tested: {}; what serves stays", progress(pending));
        Some(Waiting::new(reason::TESTING, message))
    }

    /// How far the tests of its pods are.
    fn tests_pods(&self, release: &str) -> Option<Waiting> {
        let tested = format!("{release} is rolled out and is tested");
        match &self.verification {
            Verification::Pending(step) => {
                Some(Waiting::new(reason::VERIFYING, format!("{tested}: job/{} asks its pods", step.name)))
            }
            Verification::Failed(_, said) => Some(self.asks_again(reason::VERIFYING, &tested, said)),
            Verification::NotNeeded | Verification::Passed => None,
        }
    }

    /// That a smoke test failed for which the release is not at fault, and is asked anew; or of a suspended stack that it failed.
    fn asks_again(&self, reason: Reason, tested: &str, said: &str) -> Waiting {
        let excuse = self.not_at_fault().map(|excuse| &excuse.waiting);
        let reason = excuse.map_or(reason, |excuse| excuse.reason);
        let message = excuse.map(|excuse| excuse.message.as_str()).or(self.target.progress.excused.as_deref());
        let anew = message.map(|message| format!("are asked anew once this is over: {message}; they "));
        Waiting::new(reason, format!("{tested}: its smoke tests {}failed: {said}", anew.unwrap_or_default()))
    }

    /// That the annotation approves another release.
    fn other_approval(&self) -> String {
        let other = self.approved.as_ref().filter(|approved| **approved != self.target.content.release());
        other.map(|other| format!("; it approves {other}, which is another one")).unwrap_or_default()
    }

    /// Why the release was rolled back, and to which.
    fn given_up(&self, release: &str) -> Option<String> {
        let RolledBack { message, .. } = self.target.progress.rolled_back.as_ref()?;
        let good = self.last_good.as_ref().map(|good| good.content.release());
        let good = good.filter(|good| *good != self.target.content.release());
        let good = good.unwrap_or_else(|| "what served of it before".to_owned());
        let retry = annotation::RETRY;
        Some(format!(
            "{release} was rolled back to {good}: {message}{}; mend it, or set the annotation {retry} to a new value",
            self.ahead()
        ))
    }

    /// By which migrations the schema is ahead of the release that serves: a roll-back runs none.
    fn ahead(&self) -> String {
        let Some(good) = self.last_good.as_ref().map(|good| &good.progress) else { return String::new() };
        let since = good.migrated_at.unwrap_or(good.created_at);
        // Of data that were restored since nothing is known.
        let is_later = |of: &Progress| {
            let other = of.data.as_ref() == Some(&self.data) && of.migrated != good.migrated;
            other
                && of.migrated_at.is_some_and(|at| at >= since)
                && of.applied.as_ref().is_none_or(|all| !all.is_empty())
        };
        let mut later: Vec<_> = self.others.iter().chain([&self.target]).filter(|of| is_later(&of.progress)).collect();
        later.sort_by_key(|of| of.progress.migrated_at);
        later.dedup_by(|other, of| other.progress.migrated == of.progress.migrated);
        let told = later.into_iter().map(|of| {
            let names = of.progress.applied.as_ref().map_or_else(|| "the migration".to_owned(), |all| all.join(", "));
            let image = of.content.image(Component::Api).unwrap_or_default();
            format!("{names} of release {} ({image})", of.content.release())
        });
        let told: Vec<_> = told.collect();
        if told.is_empty() { String::new() } else { format!("; the schema stays ahead by {}", told.join(", by ")) }
    }

    /// The Job of the recovery point, or what its start waits for.
    fn backup(&self) -> String {
        match (&self.gate, &self.blocker) {
            (Gate::Pending(step), _) if step.exists => format!(", job/{}", step.name),
            (_, Some(job)) => format!(", which waits for {job} to end"),
            _ => String::new(),
        }
    }

    /// The migration that is waited for, and why its command has not run yet.
    fn migrates_later(&self, release: &str, then: &str) -> String {
        let why = self.target.progress.not_begun.as_ref();
        let why = why.map(|why| format!(", which has not begun: {}", why.message)).unwrap_or_default();
        format!("{release} waits for its migration{}{why}{then}; what serves stays", self.job())
    }

    /// The Job of the migration, or what its start waits for.
    fn job(&self) -> String {
        match &self.migration {
            Migrated::Pending(step) if !step.exists => {
                self.blocker.as_ref().map(|job| format!(", which waits for {job} to end")).unwrap_or_default()
            }
            Migrated::Pending(step) | Migrated::Failed(step, _) => format!(", job/{}", step.name),
            _ => String::new(),
        }
    }
}

fn held(release: &str, why: &str) -> String {
    format!(
        "{release} is held, {why}; mend it, then change the image or set the annotation {} to a new value; what served before \
         serves",
        annotation::RETRY
    )
}

fn progress(pending: &Pending) -> String {
    // A pod that started a moment ago does not answer yet.
    let trouble = pending.trouble.as_ref().filter(|trouble| trouble.reason != reason::NOT_HEALTHY);
    match (trouble, pending.ready) {
        (_, true) => format!("job/{} asks its candidates", pending.step.name),
        (Some(trouble), false) => format!("its candidates start: {}", trouble.message),
        (None, false) => "its candidates start".to_owned(),
    }
}
