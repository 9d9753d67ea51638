//! The result, for the operator (through the kubelet) and for the log.

use std::io::Write as _;

use std::path::Path;

use serde::Serialize;

use super::rules::RulesError;
use super::{
    BucketRulesArgs, CaptureArgs, DrillArgs, DumpArgs, DumpError, HoldLockArgs, PreflightArgs, ProvisionArgs,
    SanitizeArgs,
};
use crate::contract::{
    BucketLocation, CopyTarget, DrillOutcome, DrillRecord, DumpOutcome, DumpRecord, LockOutcome, PreflightOutcome,
    PreflightVerdict, ProvisionOutcome, RestoreOutcome, RulesOutcome,
};
use crate::services::ServiceError;
use crate::services::postgres::{LockError, PostgresTarget};

/// The kubelet keeps 4096 bytes. What JSON escapes may grow, so the message stays well below.
const LONGEST_MESSAGE: usize = 1000;
/// So many points are told, or fewer where the rest leaves no room.
const POINTS: usize = 40;
/// An identifier in JSON, with its comma.
const POINT_LENGTH: usize = 25;
const LONGEST_RECORD: usize = 4000;
/// The messages that a good run may have, beside the rest of its record, share this.
const LONGEST_NOTES: usize = 850;
/// One note on the rules of a bucket.
const LONGEST_NOTE: usize = 300;
/// The rules of a bucket may have one for each.
const NOTES: usize = 6;
/// A preflight asks four services at most, of which only the bucket has findings.
const LONGEST_ANSWER: usize = 300;
/// A restore may have eight warnings.
const LONGEST_WARNING: usize = 150;

/// Writes the result to the file that the kubelet reads, and to the standard output as one line of JSON.
pub(super) fn report(result: Result<DumpRecord, DumpError>, args: &DumpArgs) {
    let outcome = match result {
        Ok(record) => DumpOutcome::Complete(clean(record, &secrets(args))),
        Err(error) => DumpOutcome::Failed { message: message(&error.to_string(), &secrets(args), LONGEST_MESSAGE) },
    };
    match &outcome {
        DumpOutcome::Complete(record) => {
            let DumpRecord { id, size_bytes, removed, .. } = record;
            tracing::info!(id, size_bytes, removed, "dump complete");
        }
        DumpOutcome::Failed { message } => tracing::error!(message, "dump failed"),
    }
    write(&outcome, &args.termination_path);
}

/// Likewise, of a point that is sanitized. `Err(None)`: the pod was told to stop.
pub(super) fn report_sanitized(result: Result<DumpRecord, Option<String>>, args: &SanitizeArgs) {
    let secrets = args.secrets();
    let outcome = match result {
        Ok(record) => {
            let DumpRecord { id, size_bytes, .. } = &record;
            tracing::info!(id, size_bytes, "the sanitized point is complete");
            DumpOutcome::Complete(clean(record, &secrets))
        }
        Err(why) => not_sanitized(why, &secrets),
    };
    write(&outcome, &args.termination_path);
}

/// Likewise, of the statements for it, which are not there.
pub(super) fn report_captured(why: Option<String>, path: &Path) {
    write(&not_sanitized(why, &CaptureArgs::secrets()), path);
}

fn not_sanitized(why: Option<String>, secrets: &[String]) -> DumpOutcome {
    let why = why.unwrap_or_else(|| DumpError::Stopped.to_string());
    let message = message(&why, secrets, LONGEST_MESSAGE);
    tracing::error!(message, "there is no sanitized point");
    DumpOutcome::Failed { message }
}

/// What became of the lock, which is not held.
pub(super) fn of_lock(error: &DumpError, args: &HoldLockArgs) -> LockOutcome {
    let message = message(&error.to_string(), &secrets_of(&args.database_url), LONGEST_MESSAGE);
    match error {
        DumpError::Stopped => LockOutcome::Stopped,
        DumpError::Lock(LockError::TimedOut { .. } | LockError::NotAlone { .. }) => LockOutcome::TimedOut { message },
        DumpError::Lock(LockError::Pooled { .. }) => LockOutcome::PooledConnection { message },
        DumpError::Lock(LockError::Lost { .. }) => LockOutcome::Lost { message },
        DumpError::Service(ServiceError::Unreachable { .. })
        | DumpError::Lock(LockError::Service(ServiceError::Unreachable { .. })) => LockOutcome::Unreachable { message },
        _ => LockOutcome::Failed { message },
    }
}

/// Likewise, of the lock.
pub(super) fn report_lock(outcome: &LockOutcome, path: &Path) {
    if let Some(message) = outcome.message() {
        tracing::error!(message, "the lock is not held");
    }
    write(outcome, path);
}

/// Likewise, of a drill.
pub(super) fn report_drill(outcome: DrillOutcome, args: &DrillArgs) {
    let mut secrets = args.bucket.secrets();
    secrets.extend(args.identity.iter().flat_map(|identity| identity.lines()).map(|line| line.trim().to_owned()));
    secrets.retain(|secret| !secret.is_empty());
    let clean = |text: &str| message(text, &secrets, LONGEST_MESSAGE);
    let outcome = match outcome {
        DrillOutcome::Complete(record) => {
            let DrillRecord { id, duration_seconds, .. } = &record;
            tracing::info!(id, duration_seconds, verdict = ?record.verdict, "drill complete");
            DrillOutcome::Complete(DrillRecord { message: clean(&record.message), ..record })
        }
        DrillOutcome::Failed { id, fault, message } => {
            let message = clean(&message);
            tracing::error!(id, ?fault, message, "drill failed");
            DrillOutcome::Failed { id, fault, message }
        }
    };
    write(&outcome, &args.termination_path);
}

/// Likewise, of the role and the database of the application.
pub(super) fn report_provision(outcome: ProvisionOutcome, args: &ProvisionArgs) {
    let secrets = [args.master_password.clone(), args.app_password.clone()];
    let outcome = match outcome {
        ProvisionOutcome::Failed { message: said } => {
            let message = message(&said, &secrets, LONGEST_MESSAGE);
            tracing::error!(message, "the application cannot log in yet");
            ProvisionOutcome::Failed { message }
        }
        complete @ ProvisionOutcome::Complete { .. } => complete,
    };
    write(&outcome, &args.termination_path);
}

/// Likewise, of the rules of a bucket.
pub(super) fn report_rules(result: Result<Vec<String>, RulesError>, args: &BucketRulesArgs) {
    let secrets = args.bucket.secrets();
    let outcome = match result.map_err(|error| error.outcome()) {
        Ok(notes) => {
            let notes = notes.iter().take(NOTES).map(|note| message(note, &secrets, LONGEST_NOTE)).collect();
            tracing::info!(?notes, "the rules of the bucket are set");
            RulesOutcome::Set { notes }
        }
        Err(RulesOutcome::Failed { reason, message: said }) => {
            let message = message(&said, &secrets, LONGEST_MESSAGE);
            tracing::error!(reason, message, "the rules of the bucket are not set");
            RulesOutcome::Failed { reason, message }
        }
        Err(set @ RulesOutcome::Set { .. }) => set,
    };
    write(&outcome, &args.termination_path);
}

/// Likewise, of what services answered.
pub(super) fn report_preflight(mut outcome: PreflightOutcome, args: &PreflightArgs) {
    let urls = [&args.database_url, &args.direct_url, &args.read_url].into_iter().flatten();
    let mut secrets: Vec<_> = urls.flat_map(|url| secrets_of(url)).collect();
    let keys = [&args.secret_access_key, &args.session_token].into_iter().flatten();
    secrets.extend(keys.filter(|secret| !secret.is_empty()).cloned());
    for answer in &mut outcome.answers {
        let told = match &mut answer.verdict {
            PreflightVerdict::Passed { findings, .. } => findings.iter_mut().collect(),
            PreflightVerdict::Failed(finding) => vec![finding],
        };
        for finding in told {
            finding.message = message(&finding.message, &secrets, LONGEST_ANSWER);
        }
        tracing::info!(service = answer.target, verdict = ?answer.verdict, "asked");
    }
    write(&outcome, &args.termination_path);
}

/// Likewise, of a step of a restore.
pub(super) fn report_restore(mut outcome: RestoreOutcome, secrets: &[String], termination_path: &Path) {
    match &mut outcome {
        RestoreOutcome::Done(result) => {
            for warning in &mut result.warnings {
                *warning = message(warning, secrets, LONGEST_WARNING);
            }
            if let Some(held) = &mut result.held {
                held.message = message(&held.message, secrets, LONGEST_MESSAGE);
            }
            tracing::info!(database = result.database, seconds = result.duration_seconds, "the step is done");
        }
        RestoreOutcome::Refused { message: text, .. } | RestoreOutcome::Failed { message: text } => {
            *text = message(text, secrets, LONGEST_MESSAGE);
            tracing::error!(message = text, "the step is not done");
        }
    }
    write(&outcome, termination_path);
}

fn write(outcome: &impl Serialize, termination_path: &Path) {
    let written = serde_json::to_vec(outcome).map_err(std::io::Error::from).and_then(|mut json| {
        std::fs::write(termination_path, &json)?;
        json.push(b'\n');
        std::io::stdout().write_all(&json)
    });
    if let Err(error) = written {
        tracing::error!(%error, path = %termination_path.display(), "the result is not written");
    }
}

/// None of what we quote should hold a secret. This is for the day when something does.
fn secrets(args: &DumpArgs) -> Vec<String> {
    let mut secrets = secrets_of(&args.database_url);
    secrets.extend(args.bucket.secrets());
    // They are told as one JSON; the keys in them are what a server could repeat.
    let copies: Vec<CopyTarget> =
        args.copies.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let source = args.source.as_deref().and_then(|text| serde_json::from_str::<BucketLocation>(text).ok());
    let others = copies.into_iter().map(|copy| copy.location).chain(source);
    secrets.extend(others.filter_map(|location| location.secret_access_key).filter(|secret| !secret.is_empty()));
    secrets
}

pub(super) fn secrets_of(url: &str) -> Vec<String> {
    let target = PostgresTarget { url: url.to_owned(), ca: None, client: None };
    let variables = target.environment().unwrap_or_default();
    let password = variables.into_iter().find(|(name, _)| *name == "PGPASSWORD").map(|(_, password)| password);
    let mut secrets = vec![url.to_owned()];
    secrets.extend(password);
    secrets.retain(|secret| !secret.is_empty());
    secrets
}

/// What servers said in the course of a good run goes the same way as what they said of a failure.
fn clean(mut record: DumpRecord, secrets: &[String]) -> DumpRecord {
    let adoption = record.adoption.as_mut().map(|adoption| &mut adoption.message);
    let notes = [
        &mut record.not_removed,
        &mut record.not_locked,
        &mut record.not_whole,
        &mut record.not_copied,
        &mut record.objects_not_copied,
        &mut record.lock_note,
    ];
    let notes: Vec<&mut String> = notes.into_iter().filter_map(Option::as_mut).chain(adoption).collect();
    let longest = LONGEST_NOTES / notes.len().max(3);
    for note in notes {
        *note = message(note, secrets, longest);
    }
    let older = record.points.len().saturating_sub(POINTS);
    record.points.drain(..older);
    let length = serde_json::to_vec(&record).map_or(0, |json| json.len());
    let over = length.saturating_sub(LONGEST_RECORD).div_ceil(POINT_LENGTH).min(record.points.len());
    record.points.drain(..over);
    record
}

fn message(text: &str, secrets: &[String], longest: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = secrets.iter().fold(line, |line, secret| line.replace(secret, "***"));
    if line.chars().count() <= longest {
        return line;
    }
    // What was tried is at the start, what went wrong at the end.
    let (head, tail) = (longest / 4, longest * 3 / 4);
    let start: String = line.chars().take(head).collect();
    let end: String = line.chars().skip(line.chars().count() - tail).collect();
    format!("{start} ... {end}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Adoption;

    #[test]
    fn secrets_are_masked() {
        let text = message("failed: password \"hunter2\"\nis wrong, hunter2", &["hunter2".to_owned()], LONGEST_MESSAGE);
        assert_eq!(text, "failed: password \"***\" is wrong, ***");
    }

    #[test]
    fn a_long_message_keeps_both_ends_and_fits() {
        let text = message(&format!("failed to dump: {} the reason", "\u{1f600}\"".repeat(3000)), &[], LONGEST_MESSAGE);
        assert!(text.starts_with("failed to dump: ") && text.ends_with("the reason"), "{text}");
        let json = serde_json::to_vec(&DumpOutcome::Failed { message: text }).expect("JSON");
        assert!(json.len() <= 4096, "{}", json.len());
    }

    #[test]
    fn what_four_services_say_at_most_fits() {
        use crate::contract::{
            ConnectionLimit, DatabaseFacts, Lacks, LimitedBy, PreflightAnswer, PreflightFinding, ServiceFacts,
            Unreadable,
        };
        let said = || message(&"\u{1f600}\"".repeat(3000), &[], LONGEST_ANSWER);
        let finding = || PreflightFinding { reason: "AuthenticationFailed".to_owned(), message: said() };
        let name = || "n".repeat(63);
        let place = || Unreadable { schema: name(), table: name(), count: u32::MAX, lacks: Lacks::BypassRls };
        let database = DatabaseFacts {
            user: Some(name()),
            major: Some(u32::MAX),
            read_only: true,
            pooled: Some(false),
            shared_sessions: Some(false),
            connections: Some(ConnectionLimit {
                available: u32::MAX,
                by: LimitedBy::Server { max: u32::MAX, reserved: u32::MAX },
            }),
            others: Some(u32::MAX),
            encoding: Some(name()),
            clock_off_by: Some(u32::MAX),
            schema: Some(name()),
            may_create: Some(false),
            unreadable: Some((0..4).map(|_| place()).collect()),
        };
        let answer = |target: &str, verdict| PreflightAnswer { target: target.to_owned(), verdict };
        let passed = |database: DatabaseFacts| PreflightVerdict::Passed {
            findings: Vec::new(),
            facts: Some(ServiceFacts { version: Some("v".repeat(32)), database: Some(database) }),
        };
        let bucket = PreflightVerdict::Passed { findings: vec![finding(), finding()], facts: None };
        let readable = passed(DatabaseFacts { unreadable: None, ..database.clone() });
        let good =
            [answer("bucket", bucket), answer("database", readable), answer("database-direct", passed(database))];
        let bad = ["bucket", "database", "database-direct", "database-read"];
        let bad = bad.map(|target| answer(target, PreflightVerdict::Failed(finding())));
        for answers in [good.into(), Vec::from(bad)] {
            let json = serde_json::to_string(&PreflightOutcome { answers }).expect("JSON");
            assert!(json.len() <= 4096, "{}", json.len());
        }
    }

    #[test]
    fn a_good_run_with_all_that_it_can_say_fits_and_holds_no_secret() {
        let said = format!("hunter2 \"{}\"", "\u{1f600}\"".repeat(3000));
        let adoption = Adoption { value: "o".repeat(128), done: false, message: said.clone() };
        let record = DumpRecord {
            id: "20261124T021500Z-x7k2p".to_owned(),
            at: jiff::Timestamp::UNIX_EPOCH,
            size_bytes: i64::MAX,
            database_bytes: Some(u64::MAX),
            sha256: "0".repeat(64),
            location: format!("s3://{}", "p".repeat(700)),
            points: vec!["20261124T021500Z-x7k2p".to_owned(); 9000],
            removed: u32::MAX,
            shared_with: Some("o".repeat(128)),
            without_owner: u32::MAX,
            not_removed: Some(said.clone()),
            adoption: Some(adoption),
            reused: false,
            rows: Some(u64::MAX),
            objects: Some(u64::MAX),
            not_whole: Some(said.clone()),
            copied: u32::MAX,
            not_copied: Some(said.clone()),
            objects_not_copied: Some(said.clone()),
            locked_until: Some(jiff::Timestamp::MAX),
            lock_note: Some(said.clone()),
            not_locked: Some(said),
        };
        let record = clean(record, &["hunter2".to_owned()]);
        let json = serde_json::to_string(&DumpOutcome::Complete(record)).expect("JSON");
        assert!(json.len() <= 4096 && !json.contains("hunter2"), "{}", json.len());
    }
}
