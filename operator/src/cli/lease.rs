//! How fast replicas agree on a leader: flags with the names and the defaults of the Kubernetes components.

use std::time::Duration;

use clap::Args;

use super::CliError;
use crate::{apply::WRITE_LIMIT, runtime::leader::LeaderConfig};

/// Renewals are up to a fifth later than their period, so the deadline must leave room for one.
const JITTER: f64 = 1.2;

/// The durations of the Lease.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct LeaseTimings {
    /// How long the other replicas wait after the last renewal that they observed before they take the Lease: whole seconds, up
    /// to 1h. Longer than the renew deadline by more than 4s
    #[arg(
        long = "leader-elect-lease-duration", default_value = "15s", value_parser = seconds, value_name = "DURATION"
    )]
    lease_duration: Duration,
    /// How long the leader goes on without a renewal before it stops: whole seconds. Longer than 1.2 retry periods
    #[arg(
        long = "leader-elect-renew-deadline", default_value = "10s", value_parser = seconds, value_name = "DURATION"
    )]
    renew_deadline: Duration,
    /// How often the leader renews the Lease, and the others try to take it: whole seconds
    #[arg(
        long = "leader-elect-retry-period", default_value = "2s", value_parser = seconds, value_name = "DURATION"
    )]
    retry_period: Duration,
}

impl LeaseTimings {
    /// The configuration of the Lease, or which flag is wrong beside which other one.
    pub(super) fn config(self, namespace: String, name: String, identity: String) -> Result<LeaderConfig, CliError> {
        let Self { lease_duration, renew_deadline, retry_period } = self;
        // A write that the leader began just before its deadline must be over before another replica leads.
        if lease_duration <= renew_deadline + WRITE_LIMIT {
            return Err(CliError::Lease(format!(
                "--leader-elect-lease-duration ({}s) must be longer than --leader-elect-renew-deadline ({}s) by more than {}s, \
                 the longest that a write may take",
                lease_duration.as_secs(),
                renew_deadline.as_secs(),
                WRITE_LIMIT.as_secs()
            )));
        }
        if renew_deadline <= retry_period.mul_f64(JITTER) {
            return Err(CliError::Lease(format!(
                "--leader-elect-renew-deadline ({}s) must be longer than {JITTER} times --leader-elect-retry-period ({}s)",
                renew_deadline.as_secs(),
                retry_period.as_secs()
            )));
        }
        Ok(LeaderConfig {
            lease_duration,
            renew_deadline,
            retry_period,
            ..LeaderConfig::new(namespace, name, identity)
        })
    }

    /// How long a request for the Lease may take: two of them fit into the renew deadline.
    pub(super) fn request_timeout(self) -> Duration {
        self.renew_deadline.mul_f64(0.4)
    }
}

/// A Lease counts in whole seconds, and one of hours would leave the stacks without a leader for so long.
fn seconds(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<jiff::SignedDuration>().map_err(|error| error.to_string())?;
    let between = Duration::from_secs(1)..=Duration::from_hours(1);
    let whole = Duration::try_from(parsed).ok().filter(|found| found.subsec_nanos() == 0 && between.contains(found));
    whole.ok_or_else(|| "whole seconds, from 1s to 1h".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use rstest::rstest;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        timings: LeaseTimings,
    }

    fn timings(flags: &[&str]) -> LeaseTimings {
        Flags::try_parse_from([&["operator"], flags].concat()).unwrap().timings
    }

    fn config(flags: &[&str]) -> Result<LeaderConfig, String> {
        let config = timings(flags).config("n".to_owned(), "l".to_owned(), "a".to_owned());
        config.map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_client_go() {
        assert_eq!(config(&[]).unwrap(), LeaderConfig::new("n", "l", "a"));
        assert_eq!(timings(&[]).request_timeout(), Duration::from_secs(4));
    }

    #[test]
    fn slower_timings_are_taken_over() {
        let slow =
            ["lease-duration=1m", "renew-deadline=40s", "retry-period=5s"].map(|flag| format!("--leader-elect-{flag}"));
        let flags = slow.each_ref().map(String::as_str);
        let config = config(&flags).unwrap();
        let durations = [config.lease_duration, config.renew_deadline, config.retry_period].map(|each| each.as_secs());
        assert_eq!(durations, [60, 40, 5]);
        assert!(timings(&flags).request_timeout() * 2 < config.renew_deadline);
    }

    #[rstest]
    #[case::less_than_a_write_between("--leader-elect-lease-duration=14s", "lease-duration (14s) must be longer than")]
    #[case::a_deadline_after_the_lease("--leader-elect-renew-deadline=20s", "renew-deadline (20s) by more than 4s")]
    #[case::no_room_for_a_retry("--leader-elect-retry-period=9s", "must be longer than 1.2 times")]
    fn a_wrong_order_is_refused_with_both_flags(#[case] flag: &str, #[case] message: &str) {
        let error = config(&[flag]).unwrap_err();
        assert!(error.contains(message) && error.matches("--leader-elect-").count() == 2, "{error}");
    }

    #[test]
    fn a_duration_is_of_whole_seconds() {
        assert_eq!(seconds("1m30s"), Ok(Duration::from_secs(90)));
        for text in ["", "0s", "1500ms", "-15s", "2h", "15"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
