//! When a stack hibernates: no pods run, and the data stay.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When a stack hibernates and when it wakes, e.g. `{from: "0 20 * * 1-5", until: "0 7 * * 1-5", timeZone: Africa/Lagos}` for the
/// nights and the weekends. It hibernates while the last moment of `from` is later than the last moment of `until`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.from != self.until")
        .message("from and until must differ: at one moment a stack cannot both hibernate and wake"),
)]
pub struct HibernationSpec {
    /// When the stack begins to hibernate: a cron expression with five fields, as a CronJob has it.
    #[schemars(
        length(max = 100),
        regex(pattern = r"^(@(hourly|daily|weekly|monthly)|[0-9A-Za-z*/,?-]+( +[0-9A-Za-z*/,?-]+){4})$")
    )]
    pub from: String,
    /// When the stack wakes: a cron expression with five fields, as a CronJob has it.
    #[schemars(
        length(max = 100),
        regex(pattern = r"^(@(hourly|daily|weekly|monthly)|[0-9A-Za-z*/,?-]+( +[0-9A-Za-z*/,?-]+){4})$")
    )]
    pub until: String,
    /// The IANA time zone of both, e.g. `Africa/Lagos`. Defaults to `Etc/UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^[A-Za-z][A-Za-z0-9+_-]*(/[A-Za-z0-9+_-]+)*$"))]
    pub time_zone: Option<String>,
}

/// How the operator came to `status.expiresAt`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExpiryStatus {
    /// The value of `spec.expiresAfter` that the operator observed.
    pub after: String,
    /// When the operator observed this value first. The stack serves for an hour after it at least.
    pub observed_at: Time,
    /// When the operator published the Event that the stack expires within an hour. Absent before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warned_at: Option<Time>,
}
