//! The APIs of other projects that a cluster may lack.

/// Whether every cluster serves a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Kubernetes itself serves it.
    Core,
    /// Another project brings it: the operator watches and writes it only where the cluster serves it, and where this operator is
    /// allowed to by its settings.
    Optional(&'static OptionalApi),
}

/// The API of another project.
#[derive(Debug, PartialEq, Eq)]
pub struct OptionalApi {
    /// Its name in the settings: `--optional-api NAME`, and `optionalApis.NAME` of the chart.
    pub name: &'static str,
    /// What to install where it is missing.
    pub product: &'static str,
}

/// The Prometheus Operator (<https://prometheus-operator.dev>).
pub static PROMETHEUS_OPERATOR: OptionalApi =
    OptionalApi { name: "prometheusOperator", product: "the Prometheus Operator" };

/// CloudNativePG (<https://cloudnative-pg.io>).
pub static CLOUD_NATIVE_PG: OptionalApi = OptionalApi { name: "cloudNativePG", product: "CloudNativePG" };

/// Each, as settings name them.
pub static OPTIONAL_APIS: [&OptionalApi; 2] = [&PROMETHEUS_OPERATOR, &CLOUD_NATIVE_PG];

impl OptionalApi {
    /// The API of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        OPTIONAL_APIS.into_iter().find(|api| api.name == name)
    }
}
