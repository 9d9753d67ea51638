//! The parts of the kinds of AWS Controllers for Kubernetes that the operator writes (source: their published definitions, the
//! versions of which are in `tests/schemas/ack/README.md`).
//!
//! The controllers write what AWS answers into the specs, beside what is here: the operator owns just these fields.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use super::{
    ack_rules::{BucketCors, BucketLifecycle, BucketReplication},
    kinds::{BUCKET, Child, DB_INSTANCE, ObjectKind, REPLICATION_GROUP, SERVERLESS_CACHE},
};

/// An object of one of the controllers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AckObject<Spec> {
    /// The metadata.
    pub metadata: ObjectMeta,
    /// The spec.
    pub spec: Spec,
}

/// A DB instance of RDS.
pub type DbInstance = AckObject<DbInstanceSpec>;
/// A replication group of ElastiCache.
pub type ReplicationGroup = AckObject<ReplicationGroupSpec>;
/// A serverless cache of ElastiCache.
pub type ServerlessCache = AckObject<ServerlessCacheSpec>;
/// A bucket of S3.
pub type Bucket = AckObject<BucketSpec>;

/// The key of a Secret.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SecretKey {
    /// The namespace of the Secret.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The key.
    pub key: String,
}

/// `rds.services.k8s.aws/v1alpha1`, DBInstance.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DbInstanceSpec {
    /// The name in AWS.
    pub db_instance_identifier: String,
    /// The class.
    pub db_instance_class: String,
    /// `postgres`.
    pub engine: String,
    /// The version of the engine. Absent of a read replica, which has that of its source.
    pub engine_version: Option<String>,
    /// New minor versions in the maintenance window.
    pub auto_minor_version_upgrade: Option<bool>,
    /// The instance that a read replica follows.
    #[serde(rename = "sourceDBInstanceIdentifier")]
    pub source_db_instance_identifier: Option<String>,
    /// Storage in GiB.
    pub allocated_storage: Option<i64>,
    /// Up to how many GiB RDS enlarges it by itself.
    pub max_allocated_storage: Option<i64>,
    /// Its type.
    pub storage_type: Option<String>,
    /// Whether it is encrypted.
    pub storage_encrypted: Option<bool>,
    /// The key that it is encrypted with.
    #[serde(rename = "kmsKeyID")]
    pub kms_key_id: Option<String>,
    /// A standby in another zone.
    #[serde(rename = "multiAZ")]
    pub multi_az: Option<bool>,
    /// The subnets.
    pub db_subnet_group_name: Option<String>,
    /// The security groups.
    #[serde(rename = "vpcSecurityGroupIDs")]
    pub vpc_security_group_ids: Vec<String>,
    /// The parameters of the engine.
    pub db_parameter_group_name: Option<String>,
    /// The master user.
    pub master_username: Option<String>,
    /// Its password.
    pub master_user_password: Option<SecretKey>,
    /// Whether the instance has a public address.
    pub publicly_accessible: Option<bool>,
    /// How many days its own backups are kept.
    pub backup_retention_period: Option<i64>,
    /// When they are made.
    pub preferred_backup_window: Option<String>,
    /// When it is maintained.
    pub preferred_maintenance_window: Option<String>,
    /// Snapshots have the tags of the instance.
    pub copy_tags_to_snapshot: Option<bool>,
    /// Performance Insights.
    pub performance_insights_enabled: Option<bool>,
    /// AWS refuses to delete it.
    pub deletion_protection: Option<bool>,
}

/// `elasticache.services.k8s.aws/v1alpha1`, ReplicationGroup.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "the type of the API has them")]
pub struct ReplicationGroupSpec {
    /// The name in AWS.
    #[serde(rename = "replicationGroupID")]
    pub replication_group_id: String,
    /// A description.
    pub description: String,
    /// `valkey` or `redis`.
    pub engine: String,
    /// Its version.
    pub engine_version: String,
    /// The type of the nodes.
    pub cache_node_type: String,
    /// The number of shards.
    pub num_node_groups: i64,
    /// The replicas of each.
    pub replicas_per_node_group: i64,
    /// A replica takes over by itself.
    pub automatic_failover_enabled: bool,
    /// Nodes in several zones.
    #[serde(rename = "multiAZEnabled")]
    pub multi_az_enabled: bool,
    /// TLS.
    pub transit_encryption_enabled: bool,
    /// Encryption of what is stored.
    pub at_rest_encryption_enabled: bool,
    /// The key for it.
    #[serde(rename = "kmsKeyID")]
    pub kms_key_id: Option<String>,
    /// The password.
    pub auth_token: Option<SecretKey>,
    /// The parameters of the engine.
    pub cache_parameter_group_name: Option<String>,
    /// The subnets.
    pub cache_subnet_group_name: Option<String>,
    /// The security groups.
    #[serde(rename = "securityGroupIDs")]
    pub security_group_ids: Vec<String>,
    /// How many days snapshots are kept.
    pub snapshot_retention_limit: Option<i64>,
    /// When they are made.
    pub snapshot_window: Option<String>,
    /// When it is maintained.
    pub preferred_maintenance_window: Option<String>,
}

/// `elasticache.services.k8s.aws/v1alpha1`, ServerlessCache.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerlessCacheSpec {
    /// The name in AWS.
    pub serverless_cache_name: String,
    /// `valkey` or `redis`.
    pub engine: String,
    /// Its major version.
    pub major_engine_version: String,
    /// The most that it may use.
    pub cache_usage_limits: CacheUsageLimits,
    /// The key that it is encrypted with.
    #[serde(rename = "kmsKeyID")]
    pub kms_key_id: Option<String>,
    /// The subnets.
    #[serde(rename = "subnetIDs")]
    pub subnet_ids: Vec<String>,
    /// The security groups.
    #[serde(rename = "securityGroupIDs")]
    pub security_group_ids: Vec<String>,
    /// Who may log in.
    #[serde(rename = "userGroupID")]
    pub user_group_id: Option<String>,
    /// How many days snapshots are kept.
    pub snapshot_retention_limit: Option<i64>,
}

/// The limits of a serverless cache.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CacheUsageLimits {
    /// Of data.
    #[serde(rename = "dataStorage")]
    pub data_storage: Option<UsageLimit>,
    /// Of requests.
    #[serde(rename = "eCPUPerSecond")]
    pub ecpu_per_second: Option<UsageLimit>,
}

/// One limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct UsageLimit {
    /// The most.
    pub maximum: i64,
    /// Of what.
    pub unit: Option<&'static str>,
}

/// `s3.services.k8s.aws/v1alpha1`, Bucket. The controller takes back what a bucket has of versioning, encryption, lifecycle, CORS and
/// replication, and this does not (source: `customPreCompare` of s3-controller), so what a bucket is to have must be here.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BucketSpec {
    /// The name in AWS.
    pub name: String,
    /// Where it is made.
    pub create_bucket_configuration: Option<BucketLocation>,
    /// Versioning.
    pub versioning: BucketVersioning,
    /// Encryption.
    pub encryption: BucketEncryption,
    /// What keeps objects from the public.
    pub public_access_block: PublicAccessBlock,
    /// Whose objects are.
    pub ownership_controls: OwnershipControls,
    /// What becomes of objects as time goes by.
    pub lifecycle: Option<BucketLifecycle>,
    /// The pages that may use the bucket.
    pub cors: Option<BucketCors>,
    /// Where S3 copies objects to.
    pub replication: Option<BucketReplication>,
}

/// Where a bucket is made.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BucketLocation {
    /// The region.
    pub location_constraint: String,
}

/// Versioning of a bucket.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BucketVersioning {
    /// `Enabled`.
    pub status: &'static str,
}

/// Encryption of a bucket.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BucketEncryption {
    /// One rule.
    pub rules: Vec<EncryptionRule>,
}

/// How new objects are encrypted.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EncryptionRule {
    /// Where the client says nothing.
    pub apply_server_side_encryption_by_default: EncryptionDefault,
    /// A key for the bucket, and not for each object.
    pub bucket_key_enabled: bool,
}

/// The algorithm and the key.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EncryptionDefault {
    /// `AES256` or `aws:kms`.
    #[serde(rename = "sseAlgorithm")]
    pub algorithm: &'static str,
    /// The key of KMS.
    #[serde(rename = "kmsMasterKeyID")]
    pub key: Option<String>,
}

/// What keeps the objects of a bucket from the public.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "the type of the API has them")]
pub struct PublicAccessBlock {
    /// Refuses ACLs that would give the public access.
    #[serde(rename = "blockPublicACLs")]
    pub block_public_acls: bool,
    /// Refuses such policies.
    pub block_public_policy: bool,
    /// Ignores such ACLs.
    #[serde(rename = "ignorePublicACLs")]
    pub ignore_public_acls: bool,
    /// Such policies grant nothing to the public.
    pub restrict_public_buckets: bool,
}

/// Whose the objects of a bucket are.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct OwnershipControls {
    /// One rule.
    pub rules: Vec<OwnershipRule>,
}

/// Whose objects are.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnershipRule {
    /// `BucketOwnerEnforced`: ACLs count for nothing.
    pub object_ownership: &'static str,
}

macro_rules! children {
    ($($spec:ty => $kind:expr),+ $(,)?) => {
        $(impl Child for AckObject<$spec> {
            fn kind() -> &'static ObjectKind {
                $kind
            }

            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }
        })+
    };
}

children! {
    DbInstanceSpec => DB_INSTANCE,
    ReplicationGroupSpec => REPLICATION_GROUP,
    ServerlessCacheSpec => SERVERLESS_CACHE,
    BucketSpec => BUCKET,
}
