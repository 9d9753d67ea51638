//! The arithmetic of the benchmarks.

use std::time::Duration;

/// A count as a number that can be divided.
pub(super) fn float(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

/// The smallest value that `part` of all values do not exceed (nearest rank); none of none.
pub(super) fn percentile(values: &[Duration], part: f64) -> Option<Duration> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let at_most = |index: &usize| float(index + 1) >= part * float(sorted.len());
    (0..sorted.len()).find(at_most).map(|index| sorted[index])
}

/// The value in the middle.
pub(super) fn median(values: &[Duration]) -> Option<Duration> {
    percentile(values, 0.5)
}

/// The mean; zero of none.
pub(super) fn mean(values: &[Duration]) -> Duration {
    let count = u32::try_from(values.len()).unwrap_or(u32::MAX);
    values.iter().sum::<Duration>().checked_div(count).unwrap_or_default()
}

/// A percentile out of the cumulative buckets of a histogram, as (upper bound, count): the upper bound of the bucket that it
/// is in. The truth is at most that.
pub(super) fn bucket_percentile(buckets: &[(f64, f64)], part: f64) -> Option<f64> {
    let (_, all) = *buckets.last()?;
    if all <= 0.0 {
        return None;
    }
    buckets.iter().find(|(_, count)| *count >= part * all).map(|(bound, _)| *bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(values: &[u64]) -> Vec<Duration> {
        values.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        for (values, part, expected) in [
            (&[][..], 0.99, None),
            (&[7], 0.99, Some(7)),
            (&[3, 1, 2], 0.5, Some(2)),
            (&[4, 1, 3, 2], 0.5, Some(2)),
            (&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 0.9, Some(9)),
            (&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 0.99, Some(10)),
        ] {
            let found = percentile(&milliseconds(values), part);
            assert_eq!(found, expected.map(Duration::from_millis), "{part} of {values:?}");
        }
        let many: Vec<u64> = (1..=200).collect();
        assert_eq!(percentile(&milliseconds(&many), 0.99), Some(Duration::from_millis(198)));
    }

    #[test]
    fn the_mean_of_none_is_zero() {
        assert_eq!(mean(&[]), Duration::ZERO);
        assert_eq!(mean(&milliseconds(&[1, 2, 6])), Duration::from_millis(3));
    }

    #[test]
    fn a_percentile_of_a_histogram_is_the_bound_of_its_bucket() {
        let buckets = [(0.005, 90.0), (0.01, 98.0), (0.025, 99.0), (f64::INFINITY, 100.0)];
        for (part, expected) in [(0.5, 0.005), (0.9, 0.005), (0.95, 0.01), (0.99, 0.025), (1.0, f64::INFINITY)] {
            assert_eq!(bucket_percentile(&buckets, part), Some(expected), "{part}");
        }
        assert_eq!(bucket_percentile(&[(0.005, 0.0)], 0.5), None);
        assert_eq!(bucket_percentile(&[], 0.5), None);
    }
}
