//! PostgreSQL on Amazon RDS, through its controller of AWS Controllers for Kubernetes.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SecretKeyReference, UrlStyle, text};

/// A DB instance of Amazon RDS that the ACK controller for RDS makes. It outlives the stack, whatever `deletionPolicy` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.identifier) ? self.identifier : '') == (has(oldSelf.identifier) ? oldSelf.identifier : '') && (has(self.region) ? self.region : '') == (has(oldSelf.region) ? oldSelf.region : '') && (has(self.kmsKeyID) ? self.kmsKeyID : '') == (has(oldSelf.kmsKeyID) ? oldSelf.kmsKeyID : '')")
        .message("identifier, region and kmsKeyID of database.rds cannot change: create a new stack and move the data with pg_dump and pg_restore"),
    validation = Rule::new("!has(self.storage.maxSize) || int(self.storage.maxSize.split('Gi')[0]) > int(self.storage.size.split('Gi')[0])")
        .message("database.rds.storage.maxSize must be above size: write a larger one, or leave it out"),
    validation = Rule::new("int(self.storage.size.split('Gi')[0]) >= int(oldSelf.storage.size.split('Gi')[0])")
        .message("database.rds.storage.size cannot shrink: write the former size or more"),
)]
pub struct RdsDatabase {
    /// The class of the instance, e.g. `db.t4g.medium`. AWS carries out a change at once, and the database restarts, so the operator
    /// holds one until the annotation `rorun.app/confirm-change: <new class>`.
    #[schemars(length(max = 64), extend("x-kubernetes-validations" = text::instance_class()))]
    pub instance_class: String,
    /// The version of PostgreSQL: `17`, of which RDS installs new minor versions in the maintenance window, or `17.6`, which AWS replaces
    /// by another minor one at once. Another major version is held until the annotation `rorun.app/confirm-change: <new version>`.
    /// Defaults to `17`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), regex(pattern = r"^1[3-8](\.[0-9]{1,2})?$"))]
    pub version: Option<String>,
    /// The storage, which is encrypted.
    pub storage: RdsStorage,
    /// `true`: a standby in another zone. Defaults to `true` in Production, else to `false`.
    #[serde(default, rename = "multiAZ", skip_serializing_if = "Option::is_none")]
    pub multi_az: Option<bool>,
    /// How many read replicas there are, `0` to `5`. `DATABASE_READ_URL` leads to them. Those that a smaller number leaves over stay
    /// until somebody deletes them. Defaults to `0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 5))]
    pub read_replicas: Option<i32>,
    /// The name of the instance in AWS. Cannot change. Defaults to the namespace and the name of the stack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 50), extend("x-kubernetes-validations" = text::aws_identifier()))]
    pub identifier: Option<String>,
    /// The region. Cannot change. Defaults to that of the controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub region: Option<String>,
    /// The DB subnet group. Defaults to the one of the default VPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub subnet_group: Option<String>,
    /// The VPC security groups, which let the nodes in at port 5432. Defaults to the one of the VPC.
    #[serde(default, rename = "securityGroupIDs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), inner(length(min = 1, max = 64)))]
    pub security_group_ids: Vec<String>,
    /// The DB parameter group. Defaults to that of the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub parameter_group: Option<String>,
    /// The KMS key that the storage is encrypted with. Cannot change. Defaults to the key `aws/rds`.
    #[serde(default, rename = "kmsKeyID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub kms_key_id: Option<String>,
    /// `true`: Performance Insights. Defaults to `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub performance_insights: Option<bool>,
    /// How many days RDS keeps its own backups, `7` to `35`, to any second of which it can restore. Defaults to `7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 7, max = 35))]
    pub backup_retention_days: Option<i32>,
    /// When RDS makes its own backups, in UTC, e.g. `02:00-03:00`. Defaults to what AWS chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), extend("x-kubernetes-validations" = text::daily_window()))]
    pub backup_window: Option<String>,
    /// When RDS maintains the instance, in UTC, e.g. `sun:03:30-sun:04:30`. Defaults to what AWS chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24), extend("x-kubernetes-validations" = text::weekly_window()))]
    pub maintenance_window: Option<String>,
    /// `false`: AWS may delete the instance when somebody asks it to. Defaults to `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_protection: Option<bool>,
    /// The name of the snapshot that AWS makes if somebody deletes the instance through Kubernetes. Defaults to `<identifier>-final`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100), extend("x-kubernetes-validations" = text::aws_identifier()))]
    pub final_snapshot: Option<String>,
    /// A Secret with the certificate authorities of RDS in the region (PEM). Every connection verifies the server by them.
    pub ca_secret_ref: SecretKeyReference,
    /// The dialect of the URLs that the operator gives the application. Defaults to `Libpq`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_style: Option<UrlStyle>,
}

/// The storage of a DB instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RdsStorage {
    /// The size, e.g. `50Gi`, at least `20Gi`. It can grow, and never shrink.
    #[schemars(length(max = 8), extend("x-kubernetes-validations" = text::gibibytes()))]
    pub size: String,
    /// Up to which size RDS enlarges it by itself, e.g. `200Gi`. Its controller is not told of that: once RDS has, write the size
    /// that it has then into `size`. Defaults to no growth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), extend("x-kubernetes-validations" = text::gibibytes()))]
    pub max_size: Option<String>,
    /// The type, e.g. `gp3`. Defaults to `gp3`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = "^(gp2|gp3|io1|io2)$"))]
    pub kind: Option<String>,
}
