//! The record in a Lease: whose it is, and how it is written. Pure, but for the clock that stamps what is written.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};

use super::LeaderConfig;

/// The lease as it was read last, and since when, by the clock of this process, its record has not changed.
#[derive(Clone, Debug, Default)]
pub(super) struct Observation {
    lease: Option<Lease>,
    since: Option<Instant>,
    /// Who held the lease when it vanished, and for how long that may go on.
    vanished: Option<(String, Duration)>,
}

/// What a candidate may do.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict<'a> {
    /// Create it.
    Absent,
    /// Take it: it was released, or its holder has not renewed it for its duration.
    Free(&'a Lease),
    /// Renew it: an earlier write of this candidate had an effect although its answer was lost.
    Ours(&'a Lease),
    /// Wait.
    Held { by: &'a str },
}

impl Observation {
    /// Records what was read. Only a change of the record counts as a sign of life, not one of a label.
    pub(super) fn update(&mut self, lease: Option<Lease>, now: Instant) {
        let spec = |lease: &Option<Lease>| lease.as_ref().map(|lease| lease.spec.clone());
        if self.since.is_none() || spec(&self.lease) != spec(&lease) {
            self.since = Some(now);
            let former = self.lease.as_ref().filter(|_| lease.is_none());
            self.vanished = former.and_then(|former| Some((holder(former)?.to_owned(), duration(former))));
        }
        self.lease = lease;
    }

    /// Expiry is counted from the last change that this process saw: the clocks of two nodes need not agree.
    pub(super) fn verdict(&self, identity: &str, now: Instant) -> Verdict<'_> {
        let unchanged = self.since.map(|since| now.saturating_duration_since(since)).unwrap_or_default();
        let Some(lease) = &self.lease else {
            return match &self.vanished {
                // It was deleted under its holder, who writes until the next renewal finds that out.
                Some((by, duration)) if by != identity && unchanged < *duration => Verdict::Held { by },
                _ => Verdict::Absent,
            };
        };
        let expired = unchanged >= duration(lease);
        match holder(lease) {
            Some(holder) if holder == identity => Verdict::Ours(lease),
            Some(by) if !expired => Verdict::Held { by },
            _ => Verdict::Free(lease),
        }
    }

    /// How long the lease is still held, if it is not renewed.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let lease = self.lease.as_ref().filter(|lease| holder(lease).is_some())?;
        let left = duration(lease).checked_sub(now.saturating_duration_since(self.since?))?;
        // Nothing is left of a lease that has ended: a candidate that could not take it waits as before.
        (!left.is_zero()).then_some(left)
    }
}

/// Who holds the lease; none after a release.
pub(super) fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

fn duration(lease: &Lease) -> Duration {
    let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
    Duration::from_secs(seconds.and_then(|seconds| seconds.try_into().ok()).unwrap_or(0))
}

/// A lease that is not there yet.
pub(super) fn first(config: &LeaderConfig) -> Lease {
    let metadata = ObjectMeta {
        namespace: Some(config.namespace.clone()),
        name: Some(config.name.clone()),
        ..ObjectMeta::default()
    };
    let spec = LeaseSpec { acquire_time: Some(clock()), lease_transitions: Some(0), ..LeaseSpec::default() };
    renewed(&Lease { metadata, spec: Some(spec) }, config)
}

/// The lease with a new holder. It keeps its resource version, as every write does.
pub(super) fn taken(lease: &Lease, config: &LeaderConfig) -> Lease {
    let mut taken = renewed(lease, config);
    let spec = taken.spec.get_or_insert_default();
    spec.acquire_time.clone_from(&spec.renew_time);
    spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
    taken
}

/// The lease with a new time.
pub(super) fn renewed(lease: &Lease, config: &LeaderConfig) -> Lease {
    let mut renewed = lease.clone();
    let spec = renewed.spec.get_or_insert_default();
    spec.holder_identity = Some(config.identity.clone());
    spec.lease_duration_seconds = i32::try_from(config.lease_duration.as_secs()).ok();
    spec.renew_time = Some(clock());
    renewed
}

/// The lease without a holder. A candidate that does not know the empty holder waits for no more than a second.
pub(super) fn released(lease: &Lease) -> Lease {
    let mut released = lease.clone();
    let spec = released.spec.get_or_insert_default();
    spec.holder_identity = Some(String::new());
    spec.lease_duration_seconds = Some(1);
    spec.renew_time = Some(clock());
    spec.acquire_time.clone_from(&spec.renew_time);
    released
}

#[expect(clippy::disallowed_methods, reason = "a Lease shows its times to people; nothing here is decided by them")]
fn clock() -> MicroTime {
    MicroTime(Timestamp::now())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn config(identity: &str) -> LeaderConfig {
        LeaderConfig::new("rorun-system", "rorun-operator", identity)
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn at(lease: &Lease, time: &str) -> Lease {
        let mut lease = lease.clone();
        lease.spec.as_mut().unwrap().renew_time = Some(MicroTime(time.parse().unwrap()));
        lease
    }

    fn spec(lease: &Lease) -> &LeaseSpec {
        lease.spec.as_ref().unwrap()
    }

    #[rstest]
    #[case::fresh(0, true)]
    #[case::almost(14, true)]
    #[case::expired(15, false)]
    #[case::long_gone(3600, false)]
    fn a_lease_expires_when_no_change_was_observed(#[case] seconds: u64, #[case] held: bool) {
        let start = Instant::now();
        let mut observation = Observation::default();
        observation.update(Some(first(&config("a"))), start);
        let verdict = observation.verdict("b", after(start, seconds));
        assert_eq!(matches!(verdict, Verdict::Held { by: "a" }), held, "{verdict:?}");
        assert_eq!(matches!(verdict, Verdict::Free(_)), !held, "{verdict:?}");
    }

    #[rstest]
    #[case::far_behind("2000-01-01T00:00:00Z")]
    #[case::far_ahead("2100-01-01T00:00:00Z")]
    fn the_clock_of_the_holder_does_not_matter(#[case] renew_time: &str) {
        let start = Instant::now();
        let mut observation = Observation::default();
        observation.update(Some(at(&first(&config("a")), renew_time)), start);
        assert_eq!(observation.verdict("b", after(start, 14)), Verdict::Held { by: "a" });
        assert!(matches!(observation.verdict("b", after(start, 15)), Verdict::Free(_)));
    }

    #[test]
    fn a_renewal_starts_the_wait_anew_and_a_label_does_not() {
        let start = Instant::now();
        let lease = first(&config("a"));
        let mut observation = Observation::default();
        observation.update(Some(at(&lease, "2026-01-01T00:00:00Z")), start);
        observation.update(Some(at(&lease, "2026-01-01T00:00:02Z")), after(start, 10));
        assert_eq!(observation.verdict("b", after(start, 24)), Verdict::Held { by: "a" });
        let mut labelled = at(&lease, "2026-01-01T00:00:02Z");
        labelled.metadata.resource_version = Some("9".to_owned());
        observation.update(Some(labelled), after(start, 24));
        assert!(
            matches!(observation.verdict("b", after(start, 25)), Verdict::Free(lease) if lease.metadata.resource_version.is_some())
        );
    }

    #[test]
    fn what_is_left_of_a_lease_is_counted_from_the_last_renewal_that_was_seen() {
        let start = Instant::now();
        let lease = first(&config("a"));
        let mut observation = Observation::default();
        assert_eq!(observation.left(start), None);
        observation.update(Some(lease.clone()), start);
        assert_eq!(observation.left(after(start, 14)), Some(Duration::from_secs(1)));
        // It has ended: the candidate does not ask again without a pause.
        assert_eq!((observation.left(after(start, 15)), observation.left(after(start, 16))), (None, None));
        observation.update(Some(released(&lease)), start);
        assert_eq!(observation.left(start), None);
    }

    #[test]
    fn a_released_or_broken_lease_is_free_at_once() {
        let start = Instant::now();
        let lease = first(&config("a"));
        for free in [released(&lease), Lease { spec: None, ..lease }] {
            let mut observation = Observation::default();
            observation.update(Some(free), start);
            assert!(matches!(observation.verdict("b", start), Verdict::Free(_)));
        }
        assert_eq!(Observation::default().verdict("b", start), Verdict::Absent);
    }

    #[test]
    fn a_lease_that_vanishes_is_made_again_when_its_holder_has_had_its_time() {
        let start = Instant::now();
        let mut observation = Observation::default();
        observation.update(Some(first(&config("a"))), start);
        observation.update(None, after(start, 2));
        observation.update(None, after(start, 4));
        assert_eq!(observation.verdict("b", after(start, 16)), Verdict::Held { by: "a" });
        assert_eq!(observation.verdict("a", after(start, 4)), Verdict::Absent);
        assert_eq!(observation.verdict("b", after(start, 17)), Verdict::Absent);
        observation.update(Some(first(&config("c"))), after(start, 18));
        assert_eq!(observation.verdict("b", after(start, 18)), Verdict::Held { by: "c" });
        let mut observation = Observation::default();
        observation.update(Some(released(&first(&config("a")))), start);
        observation.update(None, start);
        assert_eq!(observation.verdict("b", start), Verdict::Absent);
    }

    #[test]
    fn the_own_lease_is_taken_back() {
        let start = Instant::now();
        let mut observation = Observation::default();
        observation.update(Some(first(&config("a"))), start);
        assert!(matches!(observation.verdict("a", start), Verdict::Ours(_)));
    }

    #[test]
    fn a_renewal_keeps_when_it_was_taken_and_a_new_holder_counts_a_transition() {
        let lease = at(&first(&config("a")), "2026-01-01T00:00:00Z");
        let same = renewed(&lease, &config("a"));
        assert_eq!(spec(&same).acquire_time, spec(&lease).acquire_time);
        assert_eq!(spec(&same).lease_transitions, Some(0));
        assert!(spec(&same).renew_time > spec(&lease).renew_time);

        let other = taken(&released(&same), &config("b"));
        assert_eq!(holder(&other), Some("b"));
        assert_eq!(spec(&other).lease_transitions, Some(1));
        assert_eq!(spec(&other).acquire_time, spec(&other).renew_time);
        assert_eq!(spec(&other).lease_duration_seconds, Some(15));
    }

    #[test]
    fn a_release_empties_the_holder_and_keeps_the_transitions() {
        let lease = taken(&first(&config("a")), &config("b"));
        let released = released(&lease);
        assert_eq!(holder(&released), None);
        assert_eq!(spec(&released).holder_identity.as_deref(), Some(""));
        assert_eq!(spec(&released).lease_duration_seconds, Some(1));
        assert_eq!(spec(&released).lease_transitions, Some(1));
    }
}
