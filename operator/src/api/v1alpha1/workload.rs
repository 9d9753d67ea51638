//! A stateless service of the application: the same block for the API, the OCR service and the admin panel.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, EnvFromSource, EnvVar, Toleration, TopologySpreadConstraint};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DisruptionSpec, MigrationsSpec, PodTemplate, Resources, ScalingBehavior, text};

/// A stateless service of the application.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.autoscaling) && has(self.replicas))")
        .message("set replicas or autoscaling, not both: with autoscaling the number of replicas is the autoscaler's"),
)]
pub struct WorkloadSpec {
    /// The image, e.g. `rorun-api:1.8.0`. The operator puts `spec.image.registry` before it if its name does not start with a
    /// registry.
    #[schemars(length(min = 1, max = 512), extend("x-kubernetes-validations" = text::image()))]
    pub image: String,
    /// The command, instead of the image's entrypoint. Defaults to that of the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub command: Vec<String>,
    /// The arguments, instead of the image's. Defaults to those of the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub args: Vec<String>,
    /// The port that the service listens on; pods have it as the variable `PORT`. Defaults to 3000 for the API, to
    /// 8000 for the OCR service and to 8080 for the admin panel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// Environment variables. They win over those of the connection Secret. Defaults to none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
    /// Secrets and ConfigMaps in the stack's namespace whose keys become environment variables. The operator replaces the pods
    /// when one of them changes. Defaults to none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub env_from: Vec<EnvFromSource>,
    /// CPU and memory of a pod. Defaults to requests of `100m` and `128Mi` without limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// A fixed number of pods. Defaults to 1 in Development; elsewhere to 2 for the admin panel and to what the autoscaler
    /// decides for the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: Option<i32>,
    /// How many connections to the database a pod opens at most, for the API and the OCR service. The pods have it as
    /// `DATABASE_POOL_SIZE`, and `DatabaseReady` tells if all of them can open more than the database allows. Defaults to no
    /// variable, and to 10 in that sum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub database_connections: Option<i32>,
    /// The HorizontalPodAutoscaler. Defaults to none in Development, for the admin panel and with `replicas`; elsewhere to 2 to
    /// 10 pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// How many pods evictions leave, e.g. when a node is drained. Defaults to `maxUnavailable: 1` where the fewest pods are 2
    /// or more, and to no PodDisruptionBudget where they are less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disruption: Option<DisruptionSpec>,
    /// Sets the environment variable `API_URL` to the public URL of the API. `Ingress`: the URL under which `spec.ingress` leads
    /// to the API, e.g. `https://api.example.com`. Defaults to no variable.
    #[serde(default, rename = "apiURLFrom", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ApiUrlSource")] // so that the field is explained, and not its type
    pub api_url_from: Option<ApiUrlSource>,
    /// How the kubelet probes a pod. Defaults to `/health` within 60 seconds, and to `/` for the admin panel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Whether a candidate of a new image of this workload is tested before the rollout: one pod beside those that serve, with
    /// the variable `RORUN_CANDIDATE=true`, by which workers and schedulers are to hold back. Defaults to `true` in Staging and
    /// Production, and to `false` in Development.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<bool>,
    /// How long a rollout may make no progress, in seconds, before its condition reports it as stuck. Defaults to 600, or to
    /// `health.startupSeconds` and 300 if that is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub progress_deadline_seconds: Option<i32>,
    /// How long a pod may go on after it was told to stop, in seconds: of the OCR service, to finish what it reads. Five of them pass
    /// before it is told. Defaults to 30; `podTemplate` wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 86400))]
    pub termination_grace_period_seconds: Option<i32>,
    /// How the schema of the database is brought forward before a new image serves: for the API alone. Defaults to none: a new
    /// image serves at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrations: Option<MigrationsSpec>,
    /// The nodes that pods may run on. Those of `api` also run its migrations and the operator's Jobs. Defaults to any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<Scheduling>,
    /// The ServiceAccount that the operator creates for the pods. Defaults to one without annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ServiceAccountSpec>,
    /// Labels that the operator adds to the pods. On the same key the operator's wins. Defaults to none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_labels: BTreeMap<String, String>,
    /// Annotations that the operator adds to the pods. On the same key the operator's wins. Defaults to none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_annotations: BTreeMap<String, String>,
    /// Merged over the pod template as a strategic merge patch: containers and volumes by `name`, mounts by `mountPath`,
    /// e.g. `spec: {containers: [{name: api, securityContext: {runAsUser: 1000}}]}`. `$patch: replace` in a
    /// `securityContext`, a probe or `lifecycle` replaces the whole block. Refused is what other fields of this spec set,
    /// what the Pod Security Standard `baseline` forbids, and what is the operator's: labels, ServiceAccount, its
    /// containers and volumes. The condition of the component then names the field, and the pods stay as they are. Secrets
    /// and ConfigMaps that its volumes name must exist; a change of their content reaches the files and replaces no pod.
    /// What `api` sets of the whole pod, e.g. `dnsConfig`, `jobs` get too. Defaults to no patch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
}

/// A HorizontalPodAutoscaler.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.minReplicas) ? self.minReplicas : 2) <= (has(self.maxReplicas) ? self.maxReplicas : 10)")
    .message("minReplicas (2 if left out) must not be greater than maxReplicas (10 if left out)"))]
pub struct Autoscaling {
    /// The fewest pods. Defaults to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub min_replicas: Option<i32>,
    /// The most pods. Defaults to 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: Option<i32>,
    /// The mean CPU use to aim at, in percent of the requested CPU. Defaults to 70.
    #[serde(default, rename = "targetCPUUtilization", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub target_cpu_utilization: Option<i32>,
    /// The mean memory use to aim at, in percent of the requested memory. Defaults to none: the autoscaler ignores memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub target_memory_utilization: Option<i32>,
    /// How fast pods are added and removed. Defaults to the behavior of Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behavior: Option<ScalingBehavior>,
}

/// Where the public URL of the API is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApiUrlSource {
    /// The hosts and paths of `spec.ingress`.
    Ingress,
}

/// How the kubelet probes a pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// The path that answers 200 when the pod can serve. Defaults to `/health`, and to `/` for the admin panel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), regex(pattern = "^/"))]
    pub path: Option<String>,
    /// How long a pod may take until its first successful probe, in seconds; then the kubelet restarts the container. Defaults
    /// to 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub startup_seconds: Option<i32>,
}

/// The nodes that pods may run on. The fields mean what they mean in a pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scheduling {
    /// Labels that a node must have. Defaults to none: any node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pods tolerate. Defaults to none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<Toleration>,
    /// Rules that attract pods to nodes or keep them apart. Defaults to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// How the scheduler spreads pods over zones and nodes. Defaults to as evenly as possible over zones and nodes, from 2 pods
    /// on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
    /// The PriorityClass of the pods. Defaults to that of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
}

/// The ServiceAccount of a workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountSpec {
    /// Annotations of the ServiceAccount, e.g. those that bind it to a cloud role. Those of `api` are on the accounts of
    /// migrations, backups and restores too. Defaults to none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}
