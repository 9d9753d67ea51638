//! What a database says of itself, and whether it serves what its URL is for.

use std::{sync::Arc, time::Duration};

use super::{Answer, ask::Asked};
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
            return Ok(Asked { answer: Answer::Failed(read_only()), latency: Some(info.latency) });
        }
        let ended = clock();
        let clock_off_by = theirs.filter(|_| info.latency < SOON).and_then(|theirs| off_by(theirs, (begun, ended)));
        let database = (facts != DatabaseFacts::default()).then_some(DatabaseFacts { clock_off_by, ..facts });
        let facts = ServiceFacts { version: version(&info.version), database };
        Ok(Asked::answers(None, facts, info.latency))
    }
}

/// By how much more than a limit the clocks differ: theirs is of a moment between the two of ours.
fn off_by(theirs: i64, (begun, ended): (i64, i64)) -> Option<u32> {
    let off = if theirs < begun { begun - theirs } else { (theirs - ended).max(0) };
    CLOCKS.into_iter().find(|limit| off > i64::from(*limit))
}

impl Asked {
    /// A service that answers.
    pub(super) fn answers(note: Option<String>, facts: ServiceFacts, latency: Duration) -> Self {
        Self { answer: Answer::Answers { note, slow: false, facts: Some(Arc::new(facts)) }, latency: Some(latency) }
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
        assert_eq!(off_by(theirs, ours), expected);
    }
}
