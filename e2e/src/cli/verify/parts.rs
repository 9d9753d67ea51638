//! What there is to verify: cheap parts first, so that what is plainly wrong is told soon.

use std::time::Duration;

use crate::engine::Durations;
use crate::scenarios::Prospect;

/// A part of it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) proves: &'static str,
    pub(super) work: Work,
    pub(super) run: When,
    /// Seconds that it took on two busy processors, with all compiled that others compile as well.
    pub(super) seconds: u32,
}

/// Whether a run without names runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Each run, however long it takes.
    Always,
    /// While time is left after what each run has to do.
    IfItFits,
}

impl Part {
    /// The facts by which a run decides whether it runs the part.
    pub(super) fn prospect(&self, durations: &Durations) -> Prospect {
        let takes = durations.last(&self.duration_key()).unwrap_or(self.expected());
        Prospect { takes, ..Prospect::default() }
    }

    /// Keeps how long it took.
    pub(super) fn record(&self, durations: &Durations, took: Duration) {
        // It only decides whether the next run has time for it.
        let _ = durations.record(&self.duration_key(), None, took);
    }

    fn duration_key(&self) -> String {
        format!("part {}", self.name)
    }

    fn expected(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }
}

/// What those of the parts need that each run runs. Not what they took here: of scenarios those of the core alone are meant.
pub(super) fn reserved<'a>(parts: impl Iterator<Item = &'a Part>) -> Duration {
    parts.filter(|part| part.run == When::Always).map(Part::expected).sum()
}

/// How a part is run.
#[derive(Debug)]
pub(super) enum Work {
    /// A command of cargo's, silent when all is well.
    Check(&'static [&'static str]),
    /// Arguments for `cargo test` of the workspace.
    Tests(&'static [&'static str]),
    /// Faults between the operator and an API server, in the quick form unless all is asked for.
    Campaign,
    /// Arguments for `cargo test`, and then a look at the cluster that the scenarios use.
    Cluster(&'static [&'static str]),
    /// Scenarios on a cluster.
    Scenarios,
}

/// All of them.
pub(super) const PARTS: &[Part] = &[
    Part {
        name: "fmt",
        proves: "the sources are formatted",
        work: Work::Check(&["fmt", "--all", "--check"]),
        run: When::Always,
        seconds: 1,
    },
    Part {
        name: "clippy",
        proves: "the compiler and its lints find nothing, in tests neither",
        work: Work::Check(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny=warnings"]),
        run: When::Always,
        seconds: 30,
    },
    Part {
        name: "unit",
        proves: "unit, snapshot and property tests; what is generated is as committed; floors and documents hold",
        work: Work::Tests(&[
            "--lib",
            "--bin=rorun-fixture",
            "--test=documentation",
            "--test=examples",
            "--test=generated",
            "--test=layering",
            "--test=model",
            "--test=properties",
            "--test=status",
            "--test=upgrade",
        ]),
        run: When::Always,
        seconds: 200,
    },
    Part {
        name: "agent",
        proves: "backups with a real PostgreSQL and a real S3 server",
        work: Work::Tests(&["--test=agent", "--", "--test-threads=4"]),
        run: When::IfItFits,
        seconds: 380,
    },
    Part {
        name: "apiserver",
        proves: "the definition and the operator against a real API server; calls are counted",
        work: Work::Tests(&[
            "--test=apiserver",
            "--test=runtime",
            "--test=reconcile",
            "--test=test_server",
            "--",
            "--test-threads=3",
        ]),
        run: When::Always,
        seconds: 400,
    },
    Part {
        name: "chart",
        proves: "the chart and its policy for approvals, with a real Helm on a real API server; the workflows, with actionlint",
        work: Work::Tests(&["--test=chart", "--test=workflows"]),
        run: When::IfItFits,
        seconds: 40,
    },
    Part {
        name: "campaign",
        proves: "a crash at any write of a stack's life leads to the same end, with nothing made twice",
        work: Work::Campaign,
        run: When::IfItFits,
        seconds: 660,
    },
    Part {
        name: "cluster",
        proves: "a cluster comes up, and leaves nothing however it ends",
        work: Work::Cluster(&["--test=cluster", "--", "--test-threads=1"]),
        run: When::Always,
        seconds: 110,
    },
    Part {
        name: "scenarios",
        proves: "stacks on a real cluster with real pods, by the operator as its chart installs it",
        work: Work::Scenarios,
        run: When::Always,
        seconds: 330,
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;
    use crate::engine::Cache;
    use crate::scenarios::LANES;
    use crate::scenarios::kit::project;

    fn arguments() -> impl Iterator<Item = &'static str> {
        let tests = PARTS.iter().filter_map(|part| match part.work {
            Work::Tests(arguments) | Work::Cluster(arguments) => Some(arguments),
            _ => None,
        });
        tests.flatten().copied()
    }

    #[test]
    fn every_test_program_is_part_of_it() {
        let named: BTreeSet<_> = arguments().filter_map(|argument| argument.strip_prefix("--test=")).collect();
        for package in ["operator", "e2e", "e2e/campaign"] {
            // A package may have no such folder.
            let entries = fs::read_dir(project().join(package).join("tests"));
            assert!(entries.is_ok() || package == "e2e/campaign", "{package} has no folder of tests");
            for entry in entries.into_iter().flatten() {
                let path = entry.expect("an entry").path();
                let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
                let program =
                    path.extension().is_some_and(|extension| extension == "rs") || path.join("main.rs").exists();
                assert!(!program || named.contains(name.as_str()), "no part runs {}", path.display());
            }
        }
    }

    #[test]
    fn a_part_takes_as_long_as_the_last_time_and_leaves_what_each_run_needs() {
        let folder = tempfile::tempdir().expect("a folder");
        let durations = Durations::of(&Cache::at(folder.path()).expect("a cache"));
        let agent = PARTS.iter().find(|part| part.name == "agent").expect("a part");
        assert_eq!(agent.prospect(&durations).takes, Duration::from_secs(agent.seconds.into()));
        agent.record(&durations, Duration::from_secs(7));
        assert_eq!(agent.prospect(&durations).takes, Duration::from_secs(7));
        let always: u32 = PARTS.iter().filter(|part| part.run == When::Always).map(|part| part.seconds).sum();
        assert_eq!(reserved(PARTS.iter()), Duration::from_secs(always.into()));
        assert!(reserved(PARTS.iter()) < Duration::from_mins(20), "a new machine has no more for them");
    }

    #[test]
    fn the_readme_names_the_parts() {
        let readme = fs::read_to_string(project().join("README.md")).expect("the README");
        let names: Vec<_> = PARTS.iter().map(|part| part.name).collect();
        assert!(readme.contains(&names.join(", ")), "the README does not say {}", names.join(", "));
        for lane in LANES {
            assert!(readme.contains(&format!("scenarios:{}", lane.scenario.name)), "the README has no {lane:?}");
        }
    }
}
