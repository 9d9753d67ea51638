//! What the metrics say about each stack: for each condition one series per status, as kube-state-metrics does it.
//!
//! The text is written from the samples at each scrape. As families of the registry, the thirty series of each of a thousand
//! stacks held 33 MiB between scrapes, half of what the operator had.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Mutex, PoisonError},
};

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    /// `True`.
    True,
    /// `False`.
    False,
    /// `Unknown`.
    Unknown,
}

impl ConditionStatus {
    const ALL: [Self; 3] = [Self::True, Self::False, Self::Unknown];

    fn label(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<&str> for ConditionStatus {
    /// Reads `True` and `False`; anything else is `Unknown`, as Kubernetes has it.
    fn from(status: &str) -> Self {
        match status {
            "True" => Self::True,
            "False" => Self::False,
            _ => Self::Unknown,
        }
    }
}

/// What is shown of one stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StackSample {
    /// The namespace of the stack.
    pub namespace: String,
    /// The name of the stack.
    pub name: String,
    /// The environment, e.g. `Production`.
    pub environment: String,
    /// Every condition of the status.
    pub conditions: Vec<(String, ConditionStatus)>,
    /// When the newest good backup was finished, in seconds since 1970.
    pub backup_last_success: Option<i64>,
    /// How large that backup is.
    pub backup_size_bytes: Option<i64>,
    /// The connections that the stack can open to its database, and those that it can have, if that is known.
    pub connections: Option<(u32, Option<u32>)>,
}

/// What was measured of a service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    /// How long its last answer took in seconds.
    pub(super) latency: f32,
    /// How many seconds its clock is ahead.
    pub(super) clock_ahead: Option<i64>,
}

/// By namespace and name.
type Samples = BTreeMap<(String, String), StackSample>;
/// By namespace and name, and then by service.
type Services = BTreeMap<(String, String), BTreeMap<&'static str, Measured>>;

/// The samples of all stacks.
#[derive(Debug, Default)]
pub(super) struct Stacks {
    samples: Mutex<Samples>,
    services: Mutex<Services>,
}

impl Stacks {
    pub(super) fn insert(&self, sample: StackSample) {
        let key = (sample.namespace.clone(), sample.name.clone());
        self.samples().insert(key, sample);
    }

    pub(super) fn remove(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.samples().remove(&key);
        self.services().remove(&key);
    }

    /// Keeps what was measured of the last answer of a service.
    pub(super) fn answered(&self, (namespace, name): (&str, &str), service: &'static str, measured: Measured) {
        let key = (namespace.to_owned(), name.to_owned());
        self.services().entry(key).or_default().insert(service, measured);
    }

    /// Adds the families of the stacks to a text of the exposition format.
    pub(super) fn write(&self, text: &mut String) {
        let samples = self.samples();
        family(text, "rorun_stack_info", "1 for every stack.");
        for sample in samples.values() {
            let environment = &sample.environment;
            series(text, "rorun_stack_info", &[("environment", environment)], sample, 1);
        }
        let help = "1 for the status that a condition of a stack has, 0 for those that it has not.";
        family(text, "rorun_stack_condition", help);
        for sample in samples.values() {
            for (kind, status) in &sample.conditions {
                for candidate in ConditionStatus::ALL {
                    let labels = [("status", candidate.label()), ("type", kind.as_str())];
                    series(text, "rorun_stack_condition", &labels, sample, i64::from(candidate == *status));
                }
            }
        }
        self.write_services(&samples, text);
        write_connections(&samples, text);
        let name = "rorun_stack_backup_last_success_timestamp_seconds";
        family(text, name, "When the newest good backup was finished.");
        for (sample, at) in samples.values().filter_map(|sample| Some((sample, sample.backup_last_success?))) {
            series(text, name, &[], sample, at);
        }
        let name = "rorun_stack_backup_size_bytes";
        family(text, name, "Size of the newest good backup.");
        for (sample, size) in samples.values().filter_map(|sample| Some((sample, sample.backup_size_bytes?))) {
            series(text, name, &[], sample, size);
        }
    }

    fn write_services(&self, samples: &Samples, text: &mut String) {
        let services = self.services();
        let of_known = || services.iter().filter(|(key, _)| samples.contains_key(*key));
        let all =
            || of_known().flat_map(|(key, services)| services.iter().map(move |(service, of)| (key, *service, *of)));
        let mut write = |name: &str, help: &str, value: fn(Measured) -> Option<String>| {
            let mut series = all().filter_map(|(key, service, of)| Some((key, service, value(of)?))).peekable();
            if series.peek().is_some() {
                family(text, name, help);
            }
            for ((namespace, stack), service, value) in series {
                let labels = format!("name=\"{stack}\",namespace=\"{namespace}\",service=\"{service}\"");
                let _ = writeln!(text, "{name}{{{labels}}} {value}");
            }
        };
        let help = "How long the last answer of a service took, the connection not counted.";
        write("rorun_stack_service_latency_seconds", help, |of| Some(of.latency.to_string()));
        let help = "By how much the clock of a service is ahead of the operator's.";
        write("rorun_stack_service_clock_ahead_seconds", help, |of| of.clock_ahead.map(|ahead| ahead.to_string()));
    }

    fn samples(&self) -> std::sync::MutexGuard<'_, Samples> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn services(&self) -> std::sync::MutexGuard<'_, Services> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_connections(samples: &Samples, text: &mut String) {
    let of = |sample: &StackSample| sample.connections;
    let name = "rorun_stack_database_connections_needed";
    family(text, name, "The connections that a stack can open to its database at once.");
    for (sample, (needed, _)) in samples.values().filter_map(|sample| Some((sample, of(sample)?))) {
        series(text, name, &[], sample, needed.into());
    }
    let name = "rorun_stack_database_connections_available";
    family(text, name, "The connections to its database that a stack can have, where that is known.");
    for (sample, available) in samples.values().filter_map(|sample| Some((sample, of(sample)?.1?))) {
        series(text, name, &[], sample, available.into());
    }
}

fn family(text: &mut String, name: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
}

/// A series of a stack. Names of Kubernetes objects and our own words need no escapes.
fn series(text: &mut String, name: &str, labels: &[(&str, &str)], of: &StackSample, value: i64) {
    let _ = write!(text, "{name}{{name=\"{}\",namespace=\"{}\"", of.name, of.namespace);
    for (label, value) in labels {
        let _ = write!(text, ",{label}=\"{value}\"");
    }
    let _ = writeln!(text, "}} {value}");
}
