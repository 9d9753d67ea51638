//! `agent restore <step>`: brings a recovery point back, in steps that can be killed and run again.
//!
//! What is live is touched by two steps alone: `switch` gives names to databases, in one transaction, and `objects` adds versions. `fill`
//! and `place` write where nothing is. `discard` drops what a restore made or kept, after it was asked for by name. Everything else writes
//! beside. While a step reads the point an object in its folder holds it.

mod args;
mod check;
mod compare;
mod copy;
mod discard;
mod error;
mod fill;
mod hold;
mod maintenance;
mod moment;
mod objects;
mod point;
mod settings;
mod sql;
mod switch;
mod tables;
mod verify;

use std::process::ExitCode;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

pub use args::{DiscardArgs, MomentArgs, StepArgs, SwitchArgs, TargetArgs};
pub use error::RestoreError;

use self::hold::Over;
use super::{STOPPED, outcome, stop_on_signal};
use crate::contract::{RestoreOutcome, RestoreResult, RestoreScope};

/// How many warnings a result holds.
const WARNINGS: usize = 8;

/// A step of a restore.
#[derive(Debug, clap::Subcommand)]
pub enum RestoreCommand {
    /// Reads the point and asks the database what it allows.
    Check(Box<StepArgs>),
    /// Restores the dump beside the live database.
    Copy(Box<StepArgs>),
    /// Reads the copy after it was migrated.
    Verify(Box<StepArgs>),
    /// Gives the copy the name of the live database.
    Switch(Box<SwitchArgs>),
    /// Restores the dump into the stack's own, empty database.
    Fill(Box<StepArgs>),
    /// Makes the point's versions of the objects the current ones.
    Objects(Box<StepArgs>),
    /// Puts the objects of a sanitized point into the bucket of a new stack, over nothing that is there.
    Place(Box<StepArgs>),
    /// Drops one database that a restore made or kept.
    Discard(Box<DiscardArgs>),
    /// Asks the live database whether its archive reaches a moment.
    Moment(Box<MomentArgs>),
    /// Reads the database of a Cluster that was recovered.
    Recovered(Box<SwitchArgs>),
}

impl RestoreCommand {
    fn target(&self) -> &TargetArgs {
        match self {
            Self::Check(args)
            | Self::Copy(args)
            | Self::Verify(args)
            | Self::Fill(args)
            | Self::Objects(args)
            | Self::Place(args) => &args.target,
            Self::Switch(args) | Self::Recovered(args) => &args.target,
            Self::Moment(args) => &args.target,
            Self::Discard(args) => &args.target,
        }
    }

    fn secrets(&self) -> Vec<String> {
        let mut secrets = self.target().secrets();
        match self {
            Self::Check(args)
            | Self::Copy(args)
            | Self::Verify(args)
            | Self::Fill(args)
            | Self::Objects(args)
            | Self::Place(args) => {
                secrets.extend(args.secrets());
            }
            Self::Switch(_) | Self::Discard(_) | Self::Moment(_) | Self::Recovered(_) => {}
        }
        secrets
    }
}

/// Does the step and reports it.
pub(super) async fn run(command: &RestoreCommand) -> ExitCode {
    let clock = Instant::now();
    let result = match stop_on_signal() {
        Ok(stop) => Box::pin(step(command, &stop)).await,
        Err(source) => Err(super::DumpError::Signals { source }.into()),
    };
    let stopped = matches!(result, Err(RestoreError::Stopped));
    let outcome =
        outcome_of(result.map(|result| RestoreResult { duration_seconds: clock.elapsed().as_secs(), ..result }));
    let done = matches!(outcome, RestoreOutcome::Done(_));
    outcome::report_restore(outcome, &command.secrets(), &command.target().termination_path);
    if stopped {
        return ExitCode::from(STOPPED);
    }
    if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn step(command: &RestoreCommand, stop: &CancellationToken) -> Result<RestoreResult, RestoreError> {
    let last = |args: &StepArgs| Over { done: !args.scope.contains(&RestoreScope::Bucket), refused: true };
    match command {
        RestoreCommand::Check(args) => {
            let over = Over { done: false, refused: true };
            Box::pin(hold::during(args, over, stop, check::check(args, stop))).await
        }
        RestoreCommand::Copy(args) => Box::pin(hold::during(args, last(args), stop, copy::copy(args, stop))).await,
        RestoreCommand::Verify(args) => unless_stopped(stop, verify::verify(args)).await,
        RestoreCommand::Switch(args) => unless_stopped(stop, switch::switch(&args.target)).await,
        RestoreCommand::Fill(args) => Box::pin(hold::during(args, last(args), stop, fill::fill(args, stop))).await,
        RestoreCommand::Objects(args) => {
            // The database may be the point's by now: what is refused is mended, and goes on.
            let over = Over { done: true, refused: false };
            Box::pin(hold::during(args, over, stop, objects::restore(args, stop))).await
        }
        // Nobody removes a sanitized point.
        RestoreCommand::Place(args) => Box::pin(objects::place(args, stop)).await,
        RestoreCommand::Discard(args) => unless_stopped(stop, discard::discard(args)).await,
        RestoreCommand::Moment(args) => unless_stopped(stop, moment::check(args)).await,
        RestoreCommand::Recovered(args) => unless_stopped(stop, moment::recovered(args)).await,
    }
}

/// What is dropped with the work ends its sessions, and with them their transactions.
async fn unless_stopped<T>(
    stop: &CancellationToken,
    work: impl Future<Output = Result<T, RestoreError>>,
) -> Result<T, RestoreError> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(RestoreError::Stopped),
        result = work => result,
    }
}

fn outcome_of(result: Result<RestoreResult, RestoreError>) -> RestoreOutcome {
    match result {
        Ok(mut result) => {
            let more = result.warnings.len().saturating_sub(WARNINGS);
            if more > 0 {
                result.warnings.truncate(WARNINGS - 1);
                result.warnings.push(format!("{} more", more + 1));
            }
            RestoreOutcome::Done(result)
        }
        Err(RestoreError::Refused { reason, message }) => RestoreOutcome::Refused { reason, message },
        Err(error) => RestoreOutcome::Failed { message: error.to_string() },
    }
}
