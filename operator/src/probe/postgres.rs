//! What a database says of itself, and whether it serves what its URL is for.

use std::{sync::Arc, time::Duration};

use super::{
    Answer,
    ask::{Asked, Measured},
};
use crate::{
    contract::{DatabaseFacts, ServiceFacts, read_only, version},
    services::{
        Network, ServiceError,
        postgres::{self, Examined, PostgresTarget},
    },
};

/// A database to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresQuestion {
    /// Where it is.
    pub target: PostgresTarget,
    /// What its URL is for.
    pub purpose: Purpose,
}

/// What a URL of a database is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The application reads and writes.
    Serve,
    /// Migrations and dumps, past a pooler.
    Maintain,
    /// The application reads: it may be a replica.
    Read,
}

/// The clock, in seconds since 1970.
pub type Clock = fn() -> i64;

/// By how many seconds clocks may differ before it is told, and how far apart what is told is: a clock that drifts is news seldom.
const CLOCKS: [u32; 3] = [3600, 300, 30];
/// With an answer that takes longer, nobody knows what the clock says now.
const SOON: Duration = Duration::from_secs(2);

impl PostgresQuestion {
    pub(super) async fn ask(&self, network: &Network, timeout: Duration, clock: Clock) -> Result<Asked, ServiceError> {
        if self.purpose == Purpose::Read {
            let info = postgres::check_through(network, &self.target, timeout).await?;
            let facts = ServiceFacts { version: version(&info.version), database: None };
            return Ok(Asked::answers(None, facts, info.latency));
        }
        let begun = clock();
        let (info, Examined { facts, clock: theirs }) =
            postgres::examine_through(network, &self.target, timeout).await?;
        if self.purpose == Purpose::Serve && facts.read_only {
            let measured = Some(Measured::latency(info.latency));
            return Ok(Asked { answer: Answer::Failed(read_only()), measured });
        }
        let ended = clock();
        let clock_ahead = theirs.filter(|_| info.latency < SOON).map(|theirs| ahead(theirs, (begun, ended)));
        let clock_off_by = clock_ahead.and_then(off_by);
        let database = (facts != DatabaseFacts::default()).then_some(DatabaseFacts { clock_off_by, ..facts });
        let facts = ServiceFacts { version: version(&info.version), database };
        let measured = Some(Measured { latency: info.latency, clock_ahead });
        Ok(Asked { measured, ..Asked::answers(None, facts, info.latency) })
    }
}

/// How far their clock is ahead: what it says is of a moment between the two of ours.
fn ahead(theirs: i64, (begun, ended): (i64, i64)) -> i64 {
    if theirs < begun { theirs - begun } else { (theirs - ended).max(0) }
}

/// By how much more than a limit the clocks differ.
fn off_by(ahead: i64) -> Option<u32> {
    CLOCKS.into_iter().find(|limit| ahead.unsigned_abs() > u64::from(*limit))
}

impl Asked {
    /// A service that answers.
    pub(super) fn answers(note: Option<String>, facts: ServiceFacts, latency: Duration) -> Self {
        Self {
            answer: Answer::Answers { note, slow: false, facts: Some(Arc::new(facts)) },
            measured: Some(Measured::latency(latency)),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(1000, (1000, 1001), None)]
    #[case(971, (1000, 1001), None)]
    #[case(969, (1000, 1001), Some(30))]
    #[case(1032, (1000, 1001), Some(30))]
    #[case(1032, (1000, 1002), None)]
    #[case(0, (1000, 1001), Some(300))]
    #[case(9000, (1000, 1001), Some(3600))]
    fn a_clock_is_told_in_steps(#[case] theirs: i64, #[case] ours: (i64, i64), #[case] expected: Option<u32>) {
        assert_eq!(off_by(ahead(theirs, ours)), expected);
    }
}
