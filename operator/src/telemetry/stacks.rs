//! What the metrics say about each stack: for each condition one series per status, as kube-state-metrics does it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use prometheus::{IntGaugeVec, Opts, Registry};

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
}

/// The families of the stacks. They are rebuilt from the samples at each scrape: what left a sample leaves the output.
#[derive(Debug)]
pub(super) struct Stacks {
    info: IntGaugeVec,
    condition: IntGaugeVec,
    backup_last_success: IntGaugeVec,
    backup_size: IntGaugeVec,
    samples: Mutex<BTreeMap<(String, String), StackSample>>,
}

impl Stacks {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let family = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        Ok(Self {
            info: gauge("rorun_stack_info", "1 for every stack.", &["namespace", "name", "environment"])?,
            condition: gauge(
                "rorun_stack_condition",
                "1 for the status that a condition of a stack has, 0 for those that it has not.",
                &["namespace", "name", "type", "status"],
            )?,
            backup_last_success: gauge(
                "rorun_stack_backup_last_success_timestamp_seconds",
                "When the newest good backup was finished.",
                &["namespace", "name"],
            )?,
            backup_size: gauge(
                "rorun_stack_backup_size_bytes",
                "Size of the newest good backup.",
                &["namespace", "name"],
            )?,
            samples: Mutex::default(),
        })
    }

    pub(super) fn insert(&self, sample: &StackSample) {
        let key = (sample.namespace.clone(), sample.name.clone());
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).insert(key, sample.clone());
    }

    pub(super) fn remove(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    /// Rebuilds the families; the caller lets no scrape in between.
    pub(super) fn refresh(&self) {
        for family in [&self.info, &self.condition, &self.backup_last_success, &self.backup_size] {
            family.reset();
        }
        for sample in self.samples.lock().unwrap_or_else(PoisonError::into_inner).values() {
            self.show(sample);
        }
    }

    fn show(&self, sample: &StackSample) {
        let stack = [sample.namespace.as_str(), sample.name.as_str()];
        self.info.with_label_values(&[stack[0], stack[1], &sample.environment]).set(1);
        for (kind, status) in &sample.conditions {
            for candidate in ConditionStatus::ALL {
                let labels = [stack[0], stack[1], kind.as_str(), candidate.label()];
                self.condition.with_label_values(&labels).set(i64::from(candidate == *status));
            }
        }
        if let Some(seconds) = sample.backup_last_success {
            self.backup_last_success.with_label_values(&stack).set(seconds);
        }
        if let Some(bytes) = sample.backup_size_bytes {
            self.backup_size.with_label_values(&stack).set(bytes);
        }
    }
}
