//! The resources of a process, and random numbers that can be repeated.

use std::fs;

use anyhow::{Context, Result};

/// The resources of a process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sample {
    /// In memory, in KiB.
    pub(super) resident: usize,
    pub(super) threads: usize,
    pub(super) files: usize,
}

impl Sample {
    /// Measures a running process.
    pub(super) fn of(pid: i32) -> Result<Sample> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let files = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        Ok(Sample { resident: field(&status, "VmRSS:")?, threads: field(&status, "Threads:")?, files })
    }
}

fn field(status: &str, name: &str) -> Result<usize> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next()).with_context(|| format!("no {name}"))?;
    Ok(number.parse()?)
}

/// How it went, in a line: from the first sample to the last, and the slope of those between.
pub(super) fn reported(first: &Sample, between: &[Sample], last: &Sample) -> String {
    format!(
        "resident {} to {} KiB, {:+} KiB a sample; threads {} to {}; files {} to {}, {:+} a sample",
        first.resident,
        last.resident,
        slope(between, |sample| sample.resident),
        first.threads,
        last.threads,
        first.files,
        last.files,
        slope(between, |sample| sample.files),
    )
}

/// The mean of the second half less that of the first, by the samples between: a peak counts little.
fn slope(samples: &[Sample], of: impl Fn(&Sample) -> usize) -> i64 {
    let half = samples.len() / 2;
    let mean = |part: &[Sample]| part.iter().map(&of).sum::<usize>() / part.len().max(1);
    let (early, late) = samples.split_at(half);
    let signed = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    (signed(mean(late)) - signed(mean(early))) / signed(half).max(1)
}

/// A sequence of choices that its first number makes, by `SplitMix64`.
#[derive(Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// A number below the limit.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let limit = u64::try_from(limit.max(1)).unwrap_or(1);
        usize::try_from(mixed % limit).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_choices() {
        let choices = |seed| {
            let mut chance = Chance::new(seed);
            (0..50).map(|_| chance.below(13)).collect::<Vec<_>>()
        };
        assert_eq!(choices(7), choices(7));
        assert_ne!(choices(7), choices(8));
        assert!(choices(7).iter().all(|choice| *choice < 13));
    }

    #[test]
    fn this_process_can_be_measured() {
        let sample = Sample::of(i32::try_from(std::process::id()).expect("a pid")).expect("it runs");
        assert!(sample.resident > 0 && sample.threads > 0 && sample.files > 0);
    }

    #[test]
    fn what_grows_has_a_slope() {
        let samples: Vec<_> = (0..20).map(|files| Sample { files, ..Sample::default() }).collect();
        assert_eq!(slope(&samples, |sample| sample.files), 1);
        assert_eq!(slope(&samples, |sample| sample.resident), 0);
    }
}
