//! What is told of a restore, for the status of its RorunRestore.

use super::{
    Kind, State, TABLE,
    attempt::{Attempt, Done},
    facts::Facts,
};
use crate::{
    names::{Waiting, reason},
    stack::RestoreRequest,
};

/// How far a restore is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreRun {
    /// The uid of the RorunRestore.
    pub uid: String,
    /// Its state.
    pub state: State,
    /// What it waits for, or why it is over in vain. `None`: it is complete.
    pub waiting: Option<Waiting>,
    /// How it ended, once it is complete.
    pub end: String,
    /// The recovery point.
    pub point: Option<String>,
    /// The conditions that are true, with what there is to say of each.
    pub done: Vec<(&'static str, String)>,
    /// Rows of the restored tables.
    pub rows: Option<u64>,
    /// Restored tables.
    pub tables: Option<u64>,
    /// Objects that were changed.
    pub objects: Option<u64>,
    /// The recovery point of what was live.
    pub saved: Option<String>,
    /// The database that was live.
    pub kept: Option<String>,
    /// When the first Job began, in seconds since 1970.
    pub started: Option<i64>,
    /// How long it took, once it is complete.
    pub took: Option<Took>,
    /// What was not as it should be and does not matter.
    pub warnings: Vec<String>,
    /// When it may be another one though nothing happens, in seconds since 1970.
    pub turns_at: Option<i64>,
}

/// How long a restore of a dump took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Took {
    /// When its last Job ended, in seconds since 1970.
    pub ended: i64,
    /// From the start of its first Job.
    pub seconds: i64,
    /// The size of the dump.
    pub bytes: u64,
}

impl RestoreRun {
    /// One that has not begun.
    pub(super) fn waits(request: &RestoreRequest, waiting: Waiting) -> Self {
        Self { uid: request.uid.clone(), waiting: Some(waiting), ..Self::default() }
    }
}

impl Facts<'_> {
    /// What is told of it.
    pub(super) fn run(&self, state: State) -> RestoreRun {
        let results = || Kind::ALL.into_iter().filter_map(|kind| self.done(kind));
        let restored = self.done(Kind::Fill).or_else(|| self.done(Kind::Copy));
        let verified = self.done(Kind::Verify).or(restored);
        let of = |done: Option<&Done>, read: fn(&Done) -> Option<u64>| done.and_then(read);
        RestoreRun {
            uid: self.request.uid.clone(),
            state,
            waiting: (state != State::Complete).then(|| self.current(state)),
            end: if state == State::Complete { self.end() } else { String::new() },
            point: self.request.point.as_ref().ok().map(|point| point.id.clone()),
            done: self.told(state),
            rows: of(verified, |done| done.result.rows).or_else(|| of(restored, |done| done.result.rows)),
            tables: of(verified, |done| done.result.tables).or_else(|| of(restored, |done| done.result.tables)),
            objects: of(self.done(Kind::Objects), |done| done.result.objects),
            saved: self.done(Kind::Save).and_then(|done| done.saved.as_ref()).map(|record| record.id.clone()),
            kept: self.kept(),
            started: results().map(|done| done.started).min(),
            took: self.took(state),
            warnings: results().flat_map(warnings_of).take(16).collect(),
            turns_at: self.turns_at,
        }
    }

    /// A Cluster is recovered from no dump, whose size would say how long the next one takes.
    fn took(&self, state: State) -> Option<Took> {
        let done = || Kind::ALL.into_iter().filter_map(|kind| self.done(kind));
        let (started, ended) = (done().map(|done| done.started).min()?, done().map(|done| done.ended).max()?);
        let bytes =
            self.done(Kind::Check)?.result.bytes.filter(|_| state == State::Complete && self.request.database)?;
        Some(Took { ended, seconds: (ended - started).max(0), bytes })
    }

    /// The database or the Cluster that was live before.
    fn kept(&self) -> Option<String> {
        let switched = self.done(Kind::Switch).and_then(|done| done.result.kept.as_ref());
        let cluster = self.recovery.as_ref().and_then(|recovery| recovery.kept());
        switched.map(|kept| kept.name.clone()).or_else(|| cluster.map(str::to_owned))
    }

    /// The conditions that are true: of each Job that is done, and of what lies before the state.
    fn told(&self, state: State) -> Vec<(&'static str, String)> {
        let passed = TABLE.iter().map(|row| row.state).take_while(|passed| *passed != state);
        let without_a_job = |passed: &State| match passed {
            State::Stopping | State::Starting => true,
            State::Copying | State::Switching => self.recovery.is_some(),
            _ => false,
        };
        let over = passed.filter(|passed| without_a_job(passed) && self.replaces() && self.request.into.is_none());
        let over = over.filter(|_| !matches!(state, State::Refused | State::Broken | State::Waiting));
        let words = |passed: State| match passed {
            State::Stopping => "no pod of the application was left".to_owned(),
            State::Copying | State::Switching => self.recovered(passed),
            _ => "every pod of the application serves".to_owned(),
        };
        let jobs = TABLE.iter().filter_map(|row| Some((row.state.condition()?, self.done(row.state.kind()?)?)));
        let jobs = jobs.map(|(condition, done)| (condition, said(done)));
        over.filter_map(|passed| Some((passed.condition()?, words(passed)))).chain(jobs).collect()
    }

    /// What a state waits for.
    pub(super) fn current(&self, state: State) -> Waiting {
        let first = || Waiting::new(reason::PROGRESSING, "it is about to begin");
        match state {
            State::Refused if self.request.seeds() => self.seed_refused(),
            State::Refused => self.refusal().unwrap_or_else(first),
            State::Waiting => self.held.clone().unwrap_or_else(first),
            State::Broken => self.broke_off().unwrap_or_else(first),
            State::Complete => Waiting::new(reason::COMPLETE, self.end()),
            State::Stopping => self.restoring(state, "the pods of the application end"),
            State::Starting => self.restoring(state, "the pods of the application start"),
            _ => self.step_of(state),
        }
    }

    /// Another spec helps a seed that is refused, or another attempt once what the message names is mended.
    fn seed_refused(&self) -> Waiting {
        let why = self.refusal().map(|why| format!("{}: {}", why.reason, why.message)).unwrap_or_default();
        let message = format!(
            "{why}; name another point in spec.seedFrom.location, leave seedFrom out to begin with an empty database, or set the \
             annotation {} to a new value to try again",
            crate::names::annotation::RETRY
        );
        Waiting::new(reason::SEED_REFUSED, message)
    }

    /// What became of the Cluster that was recovered.
    fn recovered(&self, passed: State) -> String {
        let cluster = self.recovery.as_ref().map(|recovery| recovery.cluster.as_str()).unwrap_or_default();
        let point = self.request.point.as_ref().map(|point| point.id.as_str()).unwrap_or_default();
        match (passed, self.kept()) {
            (State::Switching, Some(kept)) => format!("cluster/{cluster} is live, and cluster/{kept} is kept"),
            (State::Switching, None) => format!("cluster/{cluster} is live"),
            _ => format!("cluster/{cluster} was recovered to {point}"),
        }
    }

    fn broke_off(&self) -> Option<Waiting> {
        let (kind, step, message) = self.broken()?;
        let kept = self.done(Kind::Switch).and_then(|done| done.result.kept.as_ref());
        let kept_words = kept.map(|kept| format!(", and the database {} holds what was live before", kept.name));
        let live = match kind {
            Kind::Test => "the restored data are live, and what was live before is kept",
            Kind::Switch => {
                "the application starts again on what is live, which is whole, since a switch is one transaction"
            }
            Kind::Objects if kept.is_some() => {
                "the database is restored and its objects are not, so the application stays stopped"
            }
            Kind::Objects if self.request.seeds() => "the database is filled, and not all objects are in the bucket",
            Kind::Objects => "the application stays stopped, since not all objects are restored",
            _ => "what is live is as it was",
        };
        let why = if kind == Kind::Test { reason::SMOKE_TEST_FAILED } else { reason::RESTORE_FAILED };
        let retry = crate::names::annotation::RETRY;
        Some(Waiting::new(
            why,
            format!(
                "job/{}: {message}; {live}{}; mend it, then set the annotation {retry} of {} to a new value",
                step.name,
                kept_words.unwrap_or_default(),
                if self.request.seeds() { format!("rorunstack/{}", self.stack.name) } else { self.request.subject() }
            ),
        ))
    }

    fn step_of(&self, state: State) -> Waiting {
        match (&self.recovery, state) {
            (Some(recovery), State::Copying) => return recovery.waiting(),
            (Some(recovery), State::Switching) => return self.restoring(state, &recovery.switching()),
            _ => {}
        }
        let attempt = state.kind().and_then(|kind| self.attempt(kind));
        match (attempt, &self.blocked) {
            (Some(Attempt::Pending(_, Some(trouble))), _) => trouble.clone(),
            (Some(Attempt::Pending(step, None)), Some(job)) if !step.exists => {
                self.restoring(state, &format!("it goes on once {job} has ended"))
            }
            (Some(Attempt::Pending(step, None)), _) => self.restoring(state, &format!("job/{}", step.name)),
            _ => self.restoring(state, "it goes on"),
        }
    }

    /// While the application serves as before it is said so by the reason.
    fn restoring(&self, state: State, words: &str) -> Waiting {
        let stops = matches!(
            state,
            State::Stopping | State::Switching | State::RestoringObjects | State::Starting | State::Filling
        );
        let why = if stops || self.request.fills { reason::SWITCHING } else { reason::RESTORING };
        Waiting::new(why, format!("{}: {words}", state.as_str()))
    }

    /// How it ended.
    fn end(&self) -> String {
        if let Some(into) = &self.request.into {
            return format!(
                "the database of secret/{}, key {}, holds the recovery point and was verified: let the Secret of the stack name it",
                into.name, into.key
            );
        }
        if let Some(kept) = self.recovery.as_ref().and_then(|recovery| recovery.kept()) {
            return format!(
                "{}; cluster/{kept} holds what was live before, until the annotation {} of rorunstack/{} is its name",
                self.recovered(State::Copying).replace("was recovered", "is live as recovered"),
                crate::names::annotation::DISCARD,
                self.stack.name
            );
        }
        match self.done(Kind::Switch).and_then(|done| done.result.kept.as_ref()) {
            Some(kept) => format!(
                "the data of the recovery point are live; the database {} holds what was live before, until the annotation {} of \
                 rorunstack/{} is its name",
                kept.name,
                crate::names::annotation::DISCARD,
                self.stack.name
            ),
            None if self.found_data().is_some() => "the data that were found in the database stay".to_owned(),
            None => "the data of the recovery point are live".to_owned(),
        }
    }
}

/// What a check finds to hold the live database may be gone once the copy is verified.
fn warnings_of(done: &Done) -> impl Iterator<Item = String> {
    let held = done.result.held.as_ref();
    let held = held.map(|held| {
        format!("unless that is mended before, the restore ends once the copy is verified: {}", held.message)
    });
    held.into_iter().chain(done.result.warnings.iter().cloned())
}

fn said(done: &Done) -> String {
    let count = |number: Option<u64>, word: &str| number.map(|number| format!("{number} {word}"));
    let result = &done.result;
    let numbers = [
        result.database.as_ref().map(|name| format!("database {name}")),
        count(result.tables, "tables"),
        count(result.rows, "rows"),
        count(result.objects, "objects"),
        count(result.bytes, "bytes"),
        done.saved.as_ref().map(|record| format!("recovery point {}", record.id)),
        Some(format!("{} s", (done.ended - done.started).max(0))),
    ];
    let numbers: Vec<_> = numbers.into_iter().flatten().collect();
    format!("job/{}: {}", done.job, numbers.join(", "))
}
