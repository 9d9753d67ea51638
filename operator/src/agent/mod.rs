//! What runs inside the pod of a backup, of a step of a restore, beside a migration, where the rules of a bucket are set, and where
//! services are asked from the place of the application.
//!
//! What enters: arguments and variables, as `contract` names them. What leaves: objects in the bucket, and one result for
//! the operator. Forbidden here: the Kubernetes API, secrets in arguments, the disk as a buffer.
//!
//! A backup is `<prefix><id>/database.dump` and what is beside it, and then `<prefix><id>/manifest.json`. Without the manifest it does
//! not count.
//! Each manifest says whose it is, and so does `<prefix>owner.json`: what is somebody else's is never removed.

mod args;
mod authorities;
mod capture;
mod catalogue;
mod checked;
mod client_certificate;
mod client_program;
mod contents;
mod copies;
mod database;
mod drill;
mod dump;
mod error;
mod exclusion;
mod hold_lock;
mod id;
mod in_use;
mod install;
mod inventory;
mod manifest;
mod object_lock;
mod objects;
mod outcome;
mod owner;
mod parts;
mod pg_dump;
mod pg_restore;
mod pool;
mod preflight;
mod provision;
mod prune;
mod recovery_point;
mod replication;
mod restore;
mod retention;
mod rules;
mod sanitize;
mod seal;
mod smoke_test;
mod spec;
mod stream;
mod transfer;
mod upkeep;

use std::path::PathBuf;
use std::process::ExitCode;

use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub use args::{
    AuthoritiesArgs, AwaitLockArgs, BucketArgs, BucketRulesArgs, DrillArgs, DumpArgs, HoldLockArgs, SmokeTestArgs,
};
pub use authorities::AuthoritiesError;
pub use capture::CaptureArgs;
pub use catalogue::{Point, points};
pub use error::DumpError;
pub use id::BackupId;
pub use install::InstallError;
pub use manifest::{BucketHalf, Contents, Manifest, ManifestObject};
pub use objects::ListedObject;
pub use preflight::PreflightArgs;
pub use provision::ProvisionArgs;
pub use restore::{RestoreCommand, RestoreError};
pub use retention::{Backup, Spared, expired};
pub use sanitize::SanitizeArgs;
pub use spec::{PointSpec, SpecError, spec_of};

use self::smoke_test::NotPassed;
use crate::contract::{self, LockOutcome, ProvisionOutcome};

/// The exit code of a process that was asked to stop, as shells give it.
const STOPPED: u8 = 128 + 15;

/// What the agent can do.
#[derive(Debug, clap::Subcommand)]
pub enum AgentCommand {
    /// Copies this binary to a path, for a container whose image does not have it.
    Install {
        /// The path to copy to.
        path: PathBuf,
    },
    /// Writes the certificate authorities of each client of an application.
    Authorities(AuthoritiesArgs),
    /// Dumps the database into the bucket, and removes old dumps.
    Dump(Box<DumpArgs>),
    /// Restores the newest recovery point into a server of its own, compares, and throws it away.
    Drill(Box<DrillArgs>),
    /// Restores the newest recovery point into a server of its own, changes it by SQL, and makes another point of it.
    Sanitize(Box<SanitizeArgs>),
    /// Runs a program, and keeps the statements that it prints.
    Capture(CaptureArgs),
    /// Takes the lock that excludes dumps, and holds it until SIGTERM.
    HoldLock(HoldLockArgs),
    /// Waits until `hold-lock` beside it holds the lock.
    AwaitLock(AwaitLockArgs),
    /// Makes the role and the database of the application that are missing on a server, as its master.
    ProvisionDatabase(Box<ProvisionArgs>),
    /// Brings a recovery point back, step by step.
    Restore {
        /// The step.
        #[command(subcommand)]
        step: RestoreCommand,
    },
    /// Asks the candidates of a release, and succeeds once every answer is as it must be.
    SmokeTest(SmokeTestArgs),
    /// Sets the rules of a stack on its bucket.
    BucketRules(Box<BucketRulesArgs>),
    /// Asks the services of a stack as its pods do.
    Preflight(Box<PreflightArgs>),
}

/// Does what the command says and reports it. Logs go to the subscriber that the caller has set.
pub async fn run(command: AgentCommand) -> ExitCode {
    match command {
        AgentCommand::Install { path } => match install::install(&path) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!(%error, "install failed");
                ExitCode::FAILURE
            }
        },
        AgentCommand::Authorities(args) => match authorities::put_together(&args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!(%error, "the certificate authorities are not there");
                ExitCode::FAILURE
            }
        },
        AgentCommand::Dump(args) => run_dump(&args).await,
        AgentCommand::Drill(args) => run_drill(&args).await,
        AgentCommand::Sanitize(args) => run_sanitize(&args).await,
        AgentCommand::Capture(args) => run_capture(&args).await,
        AgentCommand::HoldLock(args) => run_hold_lock(&args).await,
        AgentCommand::SmokeTest(args) => run_smoke_test(&args).await,
        AgentCommand::ProvisionDatabase(args) => run_provision(&args).await,
        AgentCommand::BucketRules(args) => run_bucket_rules(&args).await,
        AgentCommand::Preflight(args) => run_preflight(&args).await,
        AgentCommand::Restore { step } => restore::run(&step).await,
        AgentCommand::AwaitLock(args) => run_await_lock(&args).await,
    }
}

async fn run_provision(args: &ProvisionArgs) -> ExitCode {
    let done = match stop_on_signal() {
        Ok(stop) => stop.run_until_cancelled(Box::pin(provision::provision(args))).await,
        Err(error) => Some(ProvisionOutcome::Failed { message: error.to_string() }),
    };
    let Some(outcome) = done else { return ExitCode::from(STOPPED) };
    let code = if matches!(outcome, ProvisionOutcome::Complete { .. }) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    outcome::report_provision(outcome, args);
    code
}

async fn run_smoke_test(args: &SmokeTestArgs) -> ExitCode {
    let result = match stop_on_signal() {
        Ok(stop) => smoke_test::ask_all(&args.questions, &stop).await,
        Err(error) => Err(NotPassed::Failed(error.to_string())),
    };
    let problem = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(NotPassed::Stopped) => return ExitCode::from(STOPPED),
        Err(NotPassed::Failed(problem)) => problem,
    };
    tracing::error!(problem, "a smoke test failed");
    if let Err(error) = std::fs::write(&args.termination_path, problem) {
        tracing::error!(%error, path = %args.termination_path.display(), "the result is not written");
    }
    ExitCode::from(contract::SMOKE_TEST_FAILED)
}

async fn run_bucket_rules(args: &BucketRulesArgs) -> ExitCode {
    let result = match stop_on_signal() {
        Ok(stop) => rules::set(args, &stop).await,
        Err(_) => Err(rules::RulesError::Stopped),
    };
    let code = match &result {
        Ok(_) => ExitCode::SUCCESS,
        Err(rules::RulesError::Stopped) => ExitCode::from(STOPPED),
        Err(error) if error.is_final() => ExitCode::from(contract::RULES_REFUSED),
        Err(_) => ExitCode::FAILURE,
    };
    outcome::report_rules(result, args);
    code
}

async fn run_preflight(args: &PreflightArgs) -> ExitCode {
    let asked = match stop_on_signal() {
        Ok(stop) => stop.run_until_cancelled(Box::pin(preflight::ask(args))).await,
        Err(error) => {
            tracing::error!(%error, "signals cannot be watched");
            return ExitCode::FAILURE;
        }
    };
    let Some(outcome) = asked else { return ExitCode::from(STOPPED) };
    let passed = outcome.passed();
    outcome::report_preflight(outcome, args);
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run_hold_lock(args: &HoldLockArgs) -> ExitCode {
    let outcome = match stop_on_signal() {
        Ok(stop) => Box::pin(hold_lock::hold(args, &stop)).await,
        Err(source) => outcome::of_lock(&DumpError::Signals { source }, args),
    };
    outcome::report_lock(&outcome, &args.termination_path);
    match outcome {
        LockOutcome::Released | LockOutcome::Applied { .. } => ExitCode::SUCCESS,
        LockOutcome::Stopped => ExitCode::from(STOPPED),
        _ => ExitCode::FAILURE,
    }
}

async fn run_await_lock(args: &AwaitLockArgs) -> ExitCode {
    let outcome = match stop_on_signal() {
        Ok(stop) => hold_lock::await_held(args, &stop).await,
        Err(error) => Err(LockOutcome::Failed { message: error.to_string() }),
    };
    let Err(outcome) = outcome else { return ExitCode::SUCCESS };
    outcome::report_lock(&outcome, &args.termination_path);
    match outcome {
        LockOutcome::Stopped => ExitCode::from(STOPPED),
        outcome if outcome.may_pass() => ExitCode::from(contract::NOT_BEGUN),
        _ => ExitCode::FAILURE,
    }
}

fn exit_code<T>(result: &Result<T, DumpError>) -> ExitCode {
    match result {
        Ok(_) => ExitCode::SUCCESS,
        Err(DumpError::Stopped) => ExitCode::from(STOPPED),
        Err(_) => ExitCode::FAILURE,
    }
}

async fn run_dump(args: &DumpArgs) -> ExitCode {
    #[expect(clippy::disallowed_methods, reason = "when a run of the agent began is read here alone")]
    let started = Timestamp::now();
    let result = match stop_on_signal() {
        Ok(stop) => Box::pin(dump::dump(args, started, &stop)).await,
        Err(source) => Err(DumpError::Signals { source }),
    };
    let code = exit_code(&result);
    outcome::report(result, args);
    code
}

async fn run_drill(args: &DrillArgs) -> ExitCode {
    let outcome = match stop_on_signal() {
        Ok(stop) => Box::pin(drill::drill(args, &stop)).await,
        Err(error) => Some(drill::not_run(&error.to_string())),
    };
    // Whoever stopped it knows: no verdict.
    let Some(outcome) = outcome else { return ExitCode::from(STOPPED) };
    let failed = matches!(outcome, contract::DrillOutcome::Failed { .. });
    outcome::report_drill(outcome, args);
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn run_sanitize(args: &SanitizeArgs) -> ExitCode {
    #[expect(clippy::disallowed_methods, reason = "when a run of the agent began is read here alone")]
    let started = Timestamp::now();
    let result = match stop_on_signal() {
        Ok(stop) => Box::pin(sanitize::sanitize(args, started, &stop)).await,
        Err(error) => Err(Some(error.to_string())),
    };
    let code = match &result {
        Ok(_) => ExitCode::SUCCESS,
        Err(Some(_)) => ExitCode::FAILURE,
        Err(None) => ExitCode::from(STOPPED),
    };
    outcome::report_sanitized(result, args);
    code
}

async fn run_capture(args: &CaptureArgs) -> ExitCode {
    let result = match stop_on_signal() {
        Ok(stop) => Box::pin(capture::capture(args, &stop)).await,
        Err(error) => Err(Some(error.to_string())),
    };
    let Err(why) = result else { return ExitCode::SUCCESS };
    let code = if why.is_some() { ExitCode::FAILURE } else { ExitCode::from(STOPPED) };
    outcome::report_captured(why, &args.termination_path);
    code
}

/// As the first process of a container we get no default action for signals: without this, the kubelet would wait for its
/// grace period and then kill, and the upload would stay.
fn stop_on_signal() -> Result<CancellationToken, std::io::Error> {
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stopped = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopped.cancel();
    });
    Ok(stop)
}
