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
    /// Whether what its objects stand for is in the cluster. What is at a provider is never deleted with a stack.
    pub in_cluster: bool,
}

/// The Prometheus Operator (<https://prometheus-operator.dev>).
pub static PROMETHEUS_OPERATOR: OptionalApi =
    OptionalApi { name: "prometheusOperator", product: "the Prometheus Operator", in_cluster: true };

/// CloudNativePG (<https://cloudnative-pg.io>).
pub static CLOUD_NATIVE_PG: OptionalApi =
    OptionalApi { name: "cloudNativePG", product: "CloudNativePG", in_cluster: true };

/// The barman-cloud plugin of CloudNativePG (<https://cloudnative-pg.io/plugin-barman-cloud/>).
pub static BARMAN_CLOUD: OptionalApi =
    OptionalApi { name: "barmanCloud", product: "the barman-cloud plugin of CloudNativePG", in_cluster: true };

/// The controller of AWS Controllers for Kubernetes for RDS (<https://aws-controllers-k8s.github.io/community/>).
pub static ACK_RDS: OptionalApi =
    OptionalApi { name: "ackRDS", product: "the ACK controller for RDS", in_cluster: false };

/// That for ElastiCache.
pub static ACK_ELASTICACHE: OptionalApi =
    OptionalApi { name: "ackElastiCache", product: "the ACK controller for ElastiCache", in_cluster: false };

/// That for S3.
pub static ACK_S3: OptionalApi = OptionalApi { name: "ackS3", product: "the ACK controller for S3", in_cluster: false };

/// Each, as settings name them.
pub static OPTIONAL_APIS: [&OptionalApi; 6] =
    [&PROMETHEUS_OPERATOR, &CLOUD_NATIVE_PG, &ACK_RDS, &ACK_ELASTICACHE, &ACK_S3, &BARMAN_CLOUD];

impl OptionalApi {
    /// The API of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        OPTIONAL_APIS.into_iter().find(|api| api.name == name)
    }
}
