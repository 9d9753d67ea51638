//! How long all of it may take. What takes longer is run less often, and then proves less.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::engine::Cache;
use crate::scenarios::kit::{Profile, time_to_build, was_built};

/// Where everything that does not change is there already.
const WARM: Duration = Duration::from_mins(40);
/// Where the engine has to build what the cluster consists of, or everything has to be compiled.
const COLD: Duration = Duration::from_mins(75);

/// What a machine that has no image needs for the programs and images of a cluster, as measured on two processors.
const MAKING: Duration = Duration::from_mins(35);

/// What nothing that is optional may take: it may last longer than the last time, and the cluster is removed after it.
const RESERVE: Duration = Duration::from_mins(3);

/// What of the cache decides it. What lanes need does not: a lane is only played within the budget that there is without it.
const KINDS: &[&str] = &["tools", "images", "debian", "wheels"];

/// A run that has begun.
#[derive(Debug)]
pub(super) struct Begun {
    at: Instant,
    had: BTreeSet<String>,
    compiled: bool,
}

/// How long a run may take, and why so long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    limit: Duration,
    why: String,
}

impl Begun {
    /// It begins now.
    pub(super) fn now(cache: &Cache) -> Result<Begun> {
        Ok(Begun { at: Instant::now(), had: cache.entries(KINDS)?, compiled: was_built(Profile::Quick)? })
    }

    /// Whether the operator had been compiled here before.
    pub(super) fn had_everything(&self) -> bool {
        self.compiled
    }

    /// How long it has taken so far.
    pub(super) fn elapsed(&self) -> Duration {
        self.at.elapsed()
    }

    /// The moment by which it has to have ended.
    pub(super) fn until(&self, budget: &Budget) -> Instant {
        self.at + budget.limit.saturating_sub(RESERVE)
    }

    /// How long it may take, as far as it is known by now.
    pub(super) fn budget(&self, cache: &Cache) -> Result<Budget> {
        let has = cache.entries(KINDS)?;
        let made: Vec<&str> = has.difference(&self.had).map(String::as_str).collect();
        Ok(Budget::of(&made, self.compiled))
    }
}

/// What the engine, and the compiler, still have to make before a scenario can be played.
pub(super) fn to_be_made(cache: &Cache) -> Result<Duration> {
    let images = if cache.entries(&["images"])?.is_empty() { MAKING } else { Duration::ZERO };
    Ok(images + time_to_build(cache, Profile::Quick)?)
}

impl Budget {
    /// By what the engine has made since the run began, and whether the operator had been compiled here before.
    fn of(made: &[&str], compiled: bool) -> Budget {
        match made {
            [first, ..] => {
                Budget { limit: COLD, why: format!("cold: {first} had to be made, and {} more", made.len() - 1) }
            }
            [] if !compiled => Budget { limit: COLD, why: "cold: the operator was never compiled here".to_owned() },
            [] => Budget { limit: WARM, why: "warm: all was there that does not change".to_owned() },
        }
    }

    /// What is left of it for what is optional.
    pub(super) fn left(&self, elapsed: Duration) -> Duration {
        self.limit.saturating_sub(elapsed).saturating_sub(RESERVE)
    }

    /// An error that names what took longest, if it took too long.
    pub(super) fn judge(&self, took: Duration, longest: &[(String, Duration)]) -> Result<()> {
        if took <= self.limit {
            return Ok(());
        }
        let longest: Vec<_> = longest.iter().map(|(name, took)| format!("{name} {}", minutes(*took))).collect();
        bail!("took {}, more than {self}; the longest: {}", minutes(took), longest.join(", "));
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the budget of {} ({})", minutes(self.limit), self.why)
    }
}

/// A duration as the report prints it.
pub(super) fn minutes(time: Duration) -> String {
    format!("{:.1} min", time.as_secs_f64() / 60.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: [(&str, u64); 2] = [("scenarios", 22), ("campaign", 11)];

    fn longest() -> Vec<(String, Duration)> {
        SOME.map(|(name, took)| (name.to_owned(), Duration::from_mins(took))).to_vec()
    }

    #[test]
    fn a_machine_that_has_everything_gets_less_time() {
        let warm = Budget::of(&[], true);
        assert_eq!(warm.limit, Duration::from_mins(40));
        assert_eq!(Budget::of(&[], false).limit, Duration::from_mins(75));
        let cold = Budget::of(&["tools/etcd-1", "tools/helm-1"], true);
        assert_eq!(cold.limit, Duration::from_mins(75));
        assert!(cold.why.contains("tools/etcd-1 had to be made, and 1 more"), "{cold}");
        assert_eq!(cold.left(Duration::from_mins(70)), Duration::from_mins(2));
        assert_eq!(cold.left(Duration::from_mins(80)), Duration::ZERO);
    }

    #[test]
    fn a_run_above_its_budget_fails_and_says_where_the_time_went() {
        let warm = Budget::of(&[], true);
        warm.judge(Duration::from_mins(40), &longest()).expect("just within it");
        let error = warm.judge(Duration::from_mins(41), &longest()).expect_err("too long").to_string();
        for part in ["took 41.0 min", "budget of 40.0 min", "warm", "scenarios 22.0 min, campaign 11.0 min"] {
            assert!(error.contains(part), "{error}");
        }
        Budget::of(&["tools/etcd-1"], true)
            .judge(Duration::from_mins(41), &longest())
            .expect("within that of a cold one");
    }

    #[test]
    fn what_is_made_meanwhile_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::at(folder.path()).expect("a cache");
        std::fs::create_dir_all(folder.path().join("tools/etcd-1")).expect("made");
        let begun = Begun { at: Instant::now(), had: cache.entries(KINDS).expect("entries"), compiled: true };
        std::fs::create_dir_all(folder.path().join("operators/before")).expect("made");
        assert_eq!(begun.budget(&cache).expect("a budget").limit, WARM);
        std::fs::create_dir_all(folder.path().join("images/node")).expect("made");
        let budget = begun.budget(&cache).expect("a budget");
        assert_eq!((budget.limit, budget.why.contains("images/node")), (COLD, true));
    }
}
