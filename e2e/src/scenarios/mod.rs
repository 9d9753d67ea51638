//! The scenarios: each proves one promise on a real cluster with real pods, with the operator that the chart installs. One file
//! for each.
//!
//! A scenario takes a [`kit::TestContext`], a namespace of its own in which only restricted pods are let in, and returns an
//! error that says what the cluster has instead of what the scenario expects. What to read before adding one: `docs/verify.md`.

pub mod kit;
mod lanes;
#[cfg(test)]
mod reading;
mod runner;

mod argocd;
mod authorities;
mod backup;
mod bad_migrations;
mod cloudnative_pg;
mod credentials;
mod deletion;
mod development;
mod drift;
mod drill;
mod external;
mod faults;
mod helm;
mod hibernation;
mod kills;
mod lost;
mod namespaced;
mod pod_template;
mod point_in_time;
mod production;
mod redis_cluster;
mod redis_tls;
mod release;
mod restore;
mod rollout;
mod scaling;
mod seed;
mod status;
mod upgrade;

use anyhow::Result;
use futures::future::LocalBoxFuture;

pub use lanes::{Decision, LANES, Lane, Prospect, Wish, decide};
pub use runner::{End, Outcome, run_all, summary};

use self::kit::TestContext;

/// Something that is proved.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// The name, which filters match.
    pub name: &'static str,
    /// The promise that holds when the scenario passes.
    pub proves: &'static str,
    /// Whether the scenario runs alone, because it disturbs the operator that the others use.
    pub exclusive: bool,
    /// Whether each `cargo verify` plays it. The others are played while time is left.
    pub core: bool,
    run: for<'a> fn(&'a TestContext) -> LocalBoxFuture<'a, Result<()>>,
}

impl Scenario {
    /// The key of the duration of the last run in the cache.
    pub fn duration_key(&self) -> String {
        format!("scenario {}", self.name)
    }
}

/// All that need nothing but the cluster; the others are those of [`LANES`].
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "development",
        proves: "the smallest stack becomes Ready and serves a receipt through every service",
        exclusive: false,
        core: true,
        run: |test| Box::pin(development::run(test)),
    },
    Scenario {
        name: "redis-tls",
        proves: "an embedded Redis begins to speak TLS with the queue that it had, and takes a renewed certificate",
        exclusive: false,
        core: false,
        run: |test| Box::pin(redis_tls::run(test)),
    },
    Scenario {
        name: "redis-cluster",
        proves: "a queue works on a Redis cluster of six pods, also after the node that holds it has died",
        exclusive: false,
        core: false,
        run: |test| Box::pin(redis_cluster::run(test)),
    },
    Scenario {
        name: "external",
        proves: "a stack uses a PostgreSQL, a Redis and an S3 server of somebody else, with TLS by a private authority",
        exclusive: false,
        core: false,
        run: |test| Box::pin(external::run(test)),
    },
    Scenario {
        name: "authorities",
        proves: "prober, application and dump trust each of four services by its own authority, or by none",
        exclusive: false,
        core: false,
        run: |test| Box::pin(authorities::run(test)),
    },
    Scenario {
        name: "drill",
        proves: "a drill restores the newest recovery point beside the live data, and finds one that was changed",
        exclusive: false,
        core: false,
        run: |test| Box::pin(drill::run(test)),
    },
    Scenario {
        name: "backup",
        proves: "the schedule fires, its dump is restored row for row, and old dumps go as the retention says",
        exclusive: false,
        core: true,
        run: |test| Box::pin(backup::run(test)),
    },
    Scenario {
        name: "restore",
        proves: "by their runbook deleted rows come back and what was live is kept; overwritten objects come back as well",
        exclusive: false,
        core: false,
        run: |test| Box::pin(restore::run(test)),
    },
    Scenario {
        name: "lost",
        proves: "by their runbooks a lost region comes back from a copy, a lost namespace from its bucket, and a lost volume",
        exclusive: false,
        core: false,
        run: |test| Box::pin(lost::run(test)),
    },
    Scenario {
        name: "seed",
        proves: "a point is sanitized beside its stack and fills a new one of another environment, which a raw point does not",
        exclusive: false,
        core: false,
        run: |test| Box::pin(seed::run(test)),
    },
    Scenario {
        name: "scaling",
        proves: "the API is scaled by its load and back, and the operator has no part in it",
        exclusive: false,
        core: false,
        run: |test| Box::pin(scaling::run(test)),
    },
    Scenario {
        name: "drift",
        proves: "what is changed by hand is put right with one write, and what is somebody else's is left alone",
        exclusive: false,
        core: true,
        run: |test| Box::pin(drift::run(test)),
    },
    Scenario {
        name: "rollout",
        proves: "a new release and a rotated Secret replace the pods that they reach, without a failed request",
        exclusive: false,
        core: false,
        run: |test| Box::pin(rollout::run(test)),
    },
    Scenario {
        name: "release",
        proves: "a release waits for approval and migration, a bad one is rolled back, and no request fails meanwhile",
        exclusive: false,
        core: false,
        run: |test| Box::pin(release::run(test)),
    },
    Scenario {
        name: "production",
        proves: "in Production a migration begins beside a held backup, and a candidate is tested before its image meets a user",
        exclusive: false,
        core: true,
        run: |test| Box::pin(production::run(test)),
    },
    Scenario {
        name: "hibernation",
        proves: "a stack that hibernates has no pods and keeps its data, what is asked meanwhile waits, and it wakes in order",
        exclusive: false,
        core: false,
        run: |test| Box::pin(hibernation::run(test)),
    },
    Scenario {
        name: "deletion",
        proves: "a deleted stack leaves its data, and one of the same name serves them again",
        exclusive: false,
        core: false,
        run: |test| Box::pin(deletion::run(test)),
    },
    Scenario {
        name: "credentials",
        proves: "lost credentials are reported and not made up, and put back by the user they work again",
        exclusive: false,
        core: false,
        run: |test| Box::pin(credentials::run(test)),
    },
    Scenario {
        name: "faults",
        proves: "what a user got wrong is reported with the way out, costs nothing that ran, and ends when it is mended",
        exclusive: false,
        core: false,
        run: |test| Box::pin(faults::run(test)),
    },
    Scenario {
        name: "status",
        proves: "a status turns with what the user has to know: refused pods, no pods, a spec that serves; and with nothing else",
        exclusive: false,
        core: false,
        run: |test| Box::pin(status::run(test)),
    },
    Scenario {
        name: "pod-template",
        proves: "pods run as the user, with the volumes and the sidecar that a podTemplate asks for; a refused one changes nothing",
        exclusive: false,
        core: false,
        run: |test| Box::pin(pod_template::run(test)),
    },
    Scenario {
        name: "kills",
        proves: "operators killed at random moments reach the same end, and restarted ones write nothing",
        exclusive: true,
        core: false,
        run: |test| Box::pin(kills::run(test)),
    },
    Scenario {
        name: "namespaced",
        proves: "with Roles alone, an operator reconciles the stacks of the namespaces that it is given, and no others",
        exclusive: true,
        core: false,
        run: |test| Box::pin(namespaced::run(test)),
    },
    Scenario {
        name: "helm",
        proves: "other values, an uninstallation and a new installation of the operator leave the stacks alone",
        exclusive: true,
        core: false,
        run: |test| Box::pin(helm::run(test)),
    },
];

/// The scenarios whose names contain one of the filters, those of lanes too; without a filter, all that are of no lane.
pub fn matching(filters: &[String]) -> Vec<Scenario> {
    let matches = |scenario: &&Scenario| filters.iter().any(|filter| scenario.name.contains(filter.as_str()));
    if filters.is_empty() {
        return SCENARIOS.to_vec();
    }
    SCENARIOS.iter().chain(LANES.iter().map(|lane| &lane.scenario)).filter(matches).copied().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_distinct_and_fit_into_a_namespace() {
        let all = || SCENARIOS.iter().chain(LANES.iter().map(|lane| &lane.scenario));
        let names: BTreeSet<_> = all().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), all().count());
        for name in names {
            assert!(
                name.len() <= 40 && name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-'),
                "{name}"
            );
        }
        assert_eq!(matching(&["develop".to_owned()]).len(), 1);
        assert!(matching(&["nothing-like-this".to_owned()]).is_empty());
        assert_eq!(matching(&["upgrade".to_owned()]).len(), 1);
        assert!(matching(&[]).iter().all(|scenario| scenario.name != "upgrade"));
    }
}
