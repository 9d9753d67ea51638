//! Lanes: scenarios that take long, or need something which takes long to come by and which nothing else needs. `cargo verify` plays them
//! when they cost it little, and otherwise says that it did not.

use std::fmt;
use std::time::Duration;

use anyhow::Result;

use super::kit::{ArgoCd, BarmanCloud, CloudNativePg, Previous};
use super::{Scenario, argocd, bad_migrations, cloudnative_pg, point_in_time, upgrade};
use crate::engine::{Cache, Durations};

/// A scenario with the things that it needs.
#[derive(Clone, Copy, Debug)]
pub struct Lane {
    /// The scenario, by whose name the lane is called.
    pub scenario: Scenario,
    /// The things that have to exist before it.
    pub needs: &'static [Need],
    /// Seconds that playing it took on two idle processors.
    pub seconds: u32,
    /// Whether it was played to its end. One that was not is played only if it is named.
    pub proven: bool,
}

/// A thing that is built once and stays in the cache.
#[derive(Clone, Copy)]
pub struct Need {
    /// Its name for messages: "the operator of the release before".
    pub name: &'static str,
    /// The key of the duration of its build, and how many seconds it takes on two idle processors.
    pub build: (&'static str, u32),
    /// Whether the cache has it.
    pub is_there: fn(&Cache) -> Result<bool>,
    /// An error with the way out when this machine cannot make it.
    pub can_be_made: fn() -> Result<()>,
    /// Makes it unless it is there.
    pub make: fn(&Cache) -> Result<()>,
}

impl fmt::Debug for Need {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Need").field("name", &self.name).finish_non_exhaustive()
    }
}

const CLOUD_NATIVE_PG: Need = Need {
    name: "CloudNativePG",
    build: CloudNativePg::BUILD,
    is_there: CloudNativePg::is_there,
    can_be_made: || Ok(()),
    make: CloudNativePg::build,
};

const BARMAN_CLOUD: Need = Need {
    name: "its barman-cloud plugin",
    build: BarmanCloud::BUILD,
    is_there: BarmanCloud::is_there,
    can_be_made: || Ok(()),
    make: BarmanCloud::build,
};

/// All of them.
pub const LANES: &[Lane] = &[
    Lane {
        scenario: Scenario {
            name: "upgrade",
            proves: "stacks of the operator that was released before are taken over: no pod is replaced, no data are lost",
            exclusive: true,
            core: false,
            run: |test| Box::pin(upgrade::run(test)),
        },
        needs: &[Need {
            name: "the operator of the release before",
            build: Previous::BUILD,
            is_there: Previous::is_there,
            can_be_made: Previous::has_sources,
            make: |cache| Previous::build(cache).map(drop),
        }],
        seconds: 150,
        proven: true,
    },
    Lane {
        scenario: Scenario {
            name: "argocd",
            proves: "Argo CD shows no diff of a stack out of git, nothing is fought over, and its deletion keeps the data",
            exclusive: true,
            core: false,
            run: |test| Box::pin(argocd::run(test)),
        },
        needs: &[Need {
            name: "Argo CD",
            build: ArgoCd::BUILD,
            is_there: ArgoCd::is_there,
            can_be_made: || Ok(()),
            make: ArgoCd::build,
        }],
        seconds: 280,
        proven: true,
    },
    Lane {
        scenario: Scenario {
            name: "cloudnativepg",
            proves: "CloudNativePG runs the database of a stack: failover under load, other numbers, images and a pooler, no row lost",
            exclusive: true,
            core: false,
            run: |test| Box::pin(cloudnative_pg::run(test)),
        },
        needs: &[CLOUD_NATIVE_PG],
        seconds: 420,
        proven: true,
    },
    Lane {
        scenario: Scenario {
            name: "point-in-time",
            proves: "the log of a database is archived, and a stack restored to a moment between two rows",
            exclusive: true,
            core: false,
            run: |test| Box::pin(point_in_time::run(test)),
        },
        needs: &[CLOUD_NATIVE_PG, BARMAN_CLOUD],
        seconds: 340,
        proven: true,
    },
    Lane {
        scenario: Scenario {
            name: "bad-migrations",
            proves: "whatever a migration does wrong is told in the server's words, the old version serves on, and a mended one goes through",
            exclusive: false,
            core: false,
            run: |test| Box::pin(bad_migrations::run(test)),
        },
        // It brings an image of its own, of a few packages.
        needs: &[],
        seconds: 270,
        proven: true,
    },
];

/// The facts by which a run decides whether it plays a lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prospect {
    /// The things that the cache does not have, with the time that each takes to build.
    pub missing: Vec<(&'static str, Duration)>,
    /// Why this machine cannot build one of them.
    pub impossible: Option<String>,
    /// The time that playing it takes.
    pub takes: Duration,
    /// It was never played to its end.
    pub unproven: bool,
}

/// Who asked for a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The user named the lane, or asked for everything.
    Named,
    /// No user did: the lane is played if it fits into this time.
    IfItFits(Duration),
}

/// Whether a lane is played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is.
    Play,
    /// It is not, for this reason.
    Leave(String),
}

impl Lane {
    /// The facts as they are now.
    pub fn prospect(&self, cache: &Cache) -> Result<Prospect> {
        let durations = Durations::of(cache);
        let mut prospect = Prospect { unproven: !self.proven, ..Prospect::default() };
        for need in self.needs {
            if (need.is_there)(cache)? {
                continue;
            }
            let (name, table) = need.build;
            prospect.missing.push((need.name, durations.estimate(name, table).time));
            if let Err(error) = (need.can_be_made)() {
                prospect.impossible.get_or_insert(format!("{error:#}"));
            }
        }
        prospect.takes = durations.estimate(&self.scenario.duration_key(), self.seconds).time;
        Ok(prospect)
    }

    /// Builds the things that the lane needs.
    pub fn prepare(&self, cache: &Cache) -> Result<()> {
        self.needs.iter().try_for_each(|need| (need.make)(cache))
    }
}

/// Decides whether something optional is played: whoever named it gets it, and otherwise it has to fit into the time that is left.
pub fn decide(wish: Wish, prospect: &Prospect) -> Decision {
    if let Some(why) = &prospect.impossible {
        return Decision::Leave(why.clone());
    }
    let Wish::IfItFits(left) = wish else { return Decision::Play };
    if prospect.unproven {
        return Decision::Leave("it was not played to its end yet: it is played only if it is named".to_owned());
    }
    let building: Duration = prospect.missing.iter().map(|(_, takes)| *takes).sum();
    if building + prospect.takes <= left {
        return Decision::Play;
    }
    let missing: Vec<_> = prospect.missing.iter().map(|(name, _)| *name).collect();
    let minutes = |time: Duration| time.as_secs_f64() / 60.0;
    if missing.is_empty() {
        let (takes, left) = (minutes(prospect.takes), minutes(left));
        return Decision::Leave(format!("it takes about {takes:.0} min, and {left:.0} min are left"));
    }
    Decision::Leave(format!(
        "{} would have to be made first, which takes about {:.0} min, and playing it {:.0} min; {:.0} min are left",
        missing.join(" and "),
        minutes(building),
        minutes(prospect.takes),
        minutes(left),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(count: u64) -> Duration {
        Duration::from_mins(count)
    }

    fn missing() -> Prospect {
        Prospect {
            missing: vec![("the operator of before", minutes(4)), ("the server", minutes(2))],
            impossible: None,
            takes: minutes(3),
            unproven: false,
        }
    }

    #[test]
    fn what_was_never_played_to_its_end_is_played_only_if_it_is_named() {
        let unproven = Prospect { unproven: true, ..Prospect::default() };
        let Decision::Leave(why) = decide(Wish::IfItFits(minutes(100)), &unproven) else { unreachable!("unproven") };
        assert!(why.contains("only if it is named"), "{why}");
        assert_eq!(decide(Wish::Named, &unproven), Decision::Play);
    }

    #[test]
    fn what_is_there_is_played_if_playing_it_fits() {
        let there = Prospect { takes: minutes(30), ..Prospect::default() };
        assert_eq!(decide(Wish::IfItFits(minutes(30)), &there), Decision::Play);
        let Decision::Leave(why) = decide(Wish::IfItFits(minutes(29)), &there) else { unreachable!("too little") };
        assert_eq!(why, "it takes about 30 min, and 29 min are left");
        assert_eq!(decide(Wish::Named, &there), Decision::Play);
    }

    #[test]
    fn what_has_to_be_made_is_played_if_making_and_playing_fit() {
        assert_eq!(decide(Wish::IfItFits(minutes(9)), &missing()), Decision::Play);
        let Decision::Leave(why) = decide(Wish::IfItFits(minutes(8)), &missing()) else { unreachable!("too little") };
        for part in ["the operator of before and the server", "about 6 min", "3 min; 8 min are left"] {
            assert!(why.contains(part), "{why}");
        }
    }

    #[test]
    fn what_was_named_is_played_however_long_it_takes() {
        assert_eq!(decide(Wish::Named, &missing()), Decision::Play);
    }

    #[test]
    fn what_cannot_be_made_here_is_left_with_the_way_out() {
        let impossible = Prospect { impossible: Some("git fetch --unshallow brings it".to_owned()), ..missing() };
        for wish in [Wish::Named, Wish::IfItFits(minutes(100))] {
            assert_eq!(decide(wish, &impossible), Decision::Leave("git fetch --unshallow brings it".to_owned()));
        }
    }

    #[test]
    fn a_lane_knows_what_the_cache_lacks() {
        let mut need = LANES[0].needs[0];
        need.is_there = |_| Ok(false);
        need.can_be_made = || anyhow::bail!("no sources");
        let needs: &'static [Need] = Box::leak(Box::new([need]));
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::at(folder.path()).expect("a cache");
        Durations::of(&cache).record(need.build.0, Some(need.build.1), minutes(7)).expect("kept");
        let prospect = Lane { needs, ..LANES[0] }.prospect(&cache).expect("a prospect");
        assert_eq!(prospect.missing, [(need.name, minutes(7))]);
        assert_eq!(prospect.impossible.as_deref(), Some("no sources"));
        // The scenario was never played here, and the machine has shown its pace.
        assert!(prospect.takes > Duration::from_secs(LANES[0].seconds.into()), "{prospect:?}");
        let there = Lane { needs: &[], ..LANES[0] }.prospect(&cache).expect("a prospect");
        assert!(there.missing.is_empty() && there.impossible.is_none());
    }
}
