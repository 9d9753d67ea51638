//! The point is held while a step reads it, and until the last one that does is done.

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::RestoreError;
use super::args::StepArgs;
use super::point::{self, Point};
use super::unless_stopped;
use crate::agent::in_use;
use crate::contract::RestoreResult;

/// When a hold is given back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Over {
    /// No step after this one reads the point.
    pub(super) done: bool,
    /// The restore ends where this one is refused.
    pub(super) refused: bool,
}

/// Does the work of a step while the point is held. Whoever may only read goes on without: then a warning says so.
pub(super) async fn during(
    args: &StepArgs,
    over: Over,
    stop: &CancellationToken,
    work: impl Future<Output = Result<RestoreResult, RestoreError>>,
) -> Result<RestoreResult, RestoreError> {
    let (held, warning) = Box::pin(unless_stopped(stop, take(args))).await?;
    let result = work.await;
    let is_over = match &result {
        Ok(_) => over.done,
        Err(RestoreError::Refused { .. }) => over.refused,
        Err(_) => false,
    };
    if let Some(point) = held.filter(|_| is_over) {
        give_back(args, &point).await;
    }
    result.map(|mut result| {
        result.warnings.extend(warning);
        result
    })
}

#[expect(clippy::disallowed_methods, reason = "a hold ends by the clock, and each step puts its end off")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// Holds the point. Nobody removes one that is sanitized, and those who read it may not write there.
async fn take(args: &StepArgs) -> Result<(Option<Point>, Option<String>), RestoreError> {
    let point = point::load(&args.point).await?;
    if point.manifest.sanitized {
        return Ok((None, None));
    }
    let id = &args.point.point;
    if let Err(error) = in_use::put(&point.bucket, &args.point.prefix, (id, &args.target.restore), now()).await {
        let warning = format!("not held against retention: {error}");
        tracing::warn!(warning, "no hold");
        return Ok((None, Some(warning)));
    }
    // It was removed while the hold was written: then the hold holds nothing.
    match point::load(&args.point).await {
        Ok(point) => Ok((Some(point), None)),
        Err(error) => {
            give_back(args, &point).await;
            Err(error)
        }
    }
}

async fn give_back(args: &StepArgs, point: &Point) {
    in_use::give_back(&point.bucket, &args.point.prefix, (&args.point.point, &args.target.restore)).await;
}
