//! Whether a service is slow: told once several answers in a row say so, and taken back likewise, so that one of them is no news.

use std::time::Duration;

use super::Service;

/// How many answers in a row it takes.
const IN_A_ROW: u8 = 3;

/// The pace of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    slow: bool,
    against: u8,
}

/// How long an answer takes that is slow; one that takes less than half of it is not. A request of the application asks a database or a
/// Redis many times, and a bucket once.
pub(super) fn slow_from(service: &Service) -> Duration {
    match service {
        Service::Postgres(_) | Service::Redis(_) => Duration::from_millis(250),
        Service::Bucket { .. } => Duration::from_secs(2),
    }
}

impl Pace {
    pub(super) fn new(slow: bool) -> Self {
        Self { slow, against: 0 }
    }

    /// Counts an answer, and says whether the service is slow.
    pub(super) fn counts(&mut self, latency: Duration, slow_from: Duration) -> bool {
        let against = if self.slow { latency * 2 < slow_from } else { latency >= slow_from };
        self.against = if against { self.against + 1 } else { 0 };
        if self.against == IN_A_ROW {
            *self = Self::new(!self.slow);
        }
        self.slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_in_a_row_turn_it_and_what_lies_between_does_not() {
        let mut pace = Pace::new(false);
        let mut after = |millis: &[u64]| {
            let each =
                millis.iter().map(|millis| pace.counts(Duration::from_millis(*millis), Duration::from_millis(250)));
            each.collect::<Vec<_>>()
        };
        assert_eq!(after(&[300, 300, 10, 300, 300]), [false; 5]);
        assert_eq!(after(&[300]), [true]);
        assert_eq!(after(&[200, 10, 10, 200, 10, 10]), [true; 6]);
        assert_eq!(after(&[10, 200]), [false; 2]);
    }
}
