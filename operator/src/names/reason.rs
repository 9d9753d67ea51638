//! Reasons of conditions and events: `PascalCase`, stable, documented here and in `docs/conditions.md`.

/// Why a condition is as it is.
pub type Reason = &'static str;

/// Why a component waits. Waiting is a value, never an error.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Waiting {
    /// The reason of the condition.
    pub reason: Reason,
    /// One sentence for the user, naming the object.
    pub message: String,
}

impl Waiting {
    /// A reason and a message.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// Everything that the spec asks for serves.
pub const READY: Reason = "Ready";
/// Something was just made or changed, and is not ready yet.
pub const PROGRESSING: Reason = "Progressing";
/// The component waits for another one.
pub const DEPENDENCY_NOT_READY: Reason = "DependencyNotReady";
/// A Secret or ConfigMap that the spec names does not exist.
pub const REFERENCE_MISSING: Reason = "ReferenceMissing";
/// The Secret with the certificate of the Ingress does not exist: cert-manager may be about to write it.
pub const CERTIFICATE_MISSING: Reason = "CertificateMissing";
/// A Secret lacks a key.
pub const KEY_MISSING: Reason = "KeyMissing";
/// A value in a Secret cannot be used, e.g. a URL that does not parse.
pub const INVALID_VALUE: Reason = "InvalidValue";
/// The spec asks for something that cannot be.
pub const INVALID_SPEC: Reason = "InvalidSpec";
/// A `podTemplate` sets a field that pods of a stack cannot have.
pub const POD_TEMPLATE_REFUSED: Reason = "PodTemplateRefused";
/// The generated credentials are gone while the volume exists.
pub const CREDENTIALS_LOST: Reason = "CredentialsLost";
/// The generated credentials are not those that were made.
pub const CREDENTIALS_CHANGED: Reason = "CredentialsChanged";
/// A volume is being deleted: its data are gone when its pod stops.
pub const VOLUME_TERMINATING: Reason = "VolumeTerminating";
/// An object of the name exists, and the stack does not own it.
pub const NAME_TAKEN: Reason = "NameTaken";
/// The object is being deleted; the operator creates it again afterwards.
pub const TERMINATING: Reason = "Terminating";
/// The API server refused an object.
pub const APPLY_REFUSED: Reason = "ApplyRefused";
/// The API server did not answer.
pub const APPLY_FAILED: Reason = "ApplyFailed";
/// The operator may not do what it must.
pub const FORBIDDEN: Reason = "Forbidden";
/// The cluster does not serve a kind of another project that the spec needs, or this operator is set not to use it.
pub const MISSING_API: Reason = "MissingAPI";
/// CloudNativePG can do no more for the database before a user acts.
pub const DATABASE_STALLED: Reason = "DatabaseStalled";
/// The provider of a managed service, or its controller in the cluster, refuses what the spec asks for, or the service is in a state
/// that does not end by itself.
pub const PROVIDER_REFUSED: Reason = "ProviderRefused";
/// The provider of a managed service, or its controller in the cluster, failed, and the controller tries again.
pub const PROVIDER_FAILED: Reason = "ProviderFailed";
/// A service does not answer.
pub const UNREACHABLE: Reason = "Unreachable";
/// TLS failed: wrong authority, name or date.
pub const TLS_FAILED: Reason = "TLSFailed";
/// A service refused the credentials.
pub const AUTHENTICATION_FAILED: Reason = "AuthenticationFailed";
/// A service refused the action.
pub const ACCESS_DENIED: Reason = "AccessDenied";
/// The database or bucket does not exist on the service.
pub const NOT_FOUND: Reason = "NotFound";
/// The server cannot do what the spec asks for.
pub const UNSUPPORTED: Reason = "Unsupported";
/// No node has room or fits.
pub const UNSCHEDULABLE: Reason = "Unschedulable";
/// The image cannot be pulled.
pub const IMAGE_PULL_FAILED: Reason = "ImagePullFailed";
/// A container ends again and again.
pub const CRASH_LOOP: Reason = "CrashLoop";
/// A container cannot be made, e.g. for a missing Secret.
pub const CONTAINER_CONFIG_ERROR: Reason = "ContainerConfigError";
/// A pod runs and does not answer its health check.
pub const NOT_HEALTHY: Reason = "NotHealthy";
/// The volume is not bound.
pub const VOLUME_PENDING: Reason = "VolumePending";
/// A rollout passed its deadline.
pub const ROLLOUT_STUCK: Reason = "RolloutStuck";
/// The API server refuses the pods of a workload, e.g. for a quota.
pub const PODS_REFUSED: Reason = "PodsRefused";
/// A workload has no pods: the spec asks for none, or a user scaled it by hand, which disables its autoscaler.
pub const SCALED_TO_ZERO: Reason = "ScaledToZero";
/// The IngressClass that the spec names does not exist.
pub const INGRESS_CLASS_MISSING: Reason = "IngressClassMissing";
/// The CronJob of the backups no longer fires, or the newest good backup is too old.
pub const BACKUP_OVERDUE: Reason = "BackupOverdue";
/// Of an Event: a rollout began.
pub const ROLLOUT_STARTED: Reason = "RolloutStarted";
/// Of an Event: a rollout ended, and what it brought serves.
pub const ROLLOUT_FINISHED: Reason = "RolloutFinished";
/// `spec.suspend` is true.
pub const SUSPENDED: Reason = "Suspended";
/// The stack hibernates: no pods run, and the data stay.
pub const HIBERNATED: Reason = "Hibernated";
/// The stack has expired by `spec.expiresAfter`, and hibernates.
pub const EXPIRED: Reason = "Expired";
/// Of an Event: the stack expires within an hour.
pub const EXPIRES_SOON: Reason = "ExpiresSoon";
/// The last backup failed.
pub const BACKUP_FAILED: Reason = "BackupFailed";
/// An objective of the backups is missed, or the schedule cannot meet it.
pub const OBJECTIVE_MISSED: Reason = "ObjectiveMissed";
/// The log of the database is not archived.
pub const ARCHIVING_FAILED: Reason = "ArchivingFailed";
/// A recovery point could not be copied to another bucket.
pub const COPY_FAILED: Reason = "CopyFailed";
/// Recovery points list objects of a bucket that is not copied with them.
pub const BUCKET_NOT_COPIED: Reason = "BucketNotCopied";
/// The newest recovery point holds the database, and not the objects of the bucket that it was asked to list.
pub const DATABASE_ONLY: Reason = "DatabaseOnly";
/// No drill has run yet.
pub const NO_DRILL_YET: Reason = "NoDrillYet";
/// A drill could not be carried out.
pub const DRILL_FAILED: Reason = "DrillFailed";
/// A recovery point is missing, cut off, or another one than its manifest says.
pub const BACKUP_CORRUPT: Reason = "BackupCorrupt";
/// A drill could not restore the newest recovery point, or restored something else than was backed up.
pub const NOT_RESTORABLE: Reason = "NotRestorable";
/// A check of the user failed in the restored database.
pub const CHECK_FAILED: Reason = "CheckFailed";
/// A drill restored all but what needs an extension that its image lacks.
pub const PARTIAL: Reason = "Partial";
/// A drill has no identity to decrypt the dump with.
pub const NO_IDENTITY: Reason = "NoIdentity";
/// The backup of a RorunBackup is made, or its restore done.
pub const COMPLETE: Reason = "Complete";
/// A RorunBackup names a stack that makes no backups.
pub const BACKUP_NOT_SET: Reason = "BackupNotSet";
/// A restore goes on beside the live data.
pub const RESTORING: Reason = "Restoring";
/// A restore changes the live data, or those of a new stack: the application is stopped, or has not started.
pub const SWITCHING: Reason = "Switching";
/// A step of a restore broke off.
pub const RESTORE_FAILED: Reason = "RestoreFailed";
/// The stack that a restore names has another uid.
pub const ANOTHER_STACK: Reason = "AnotherStack";
/// A restore of this name has changed the data of the stack before.
pub const ALREADY_RESTORED: Reason = "AlreadyRestored";
/// `spec.seedFrom` names a point that cannot be restored, or is not sanitized.
pub const SEED_REFUSED: Reason = "SeedRefused";
/// The database that was to be filled held data, which stay.
pub const DATA_FOUND: Reason = "DataFound";
/// The database cannot be restored to a moment between two recovery points.
pub const POINT_IN_TIME_UNSUPPORTED: Reason = "PointInTimeUnsupported";
/// The archive of the database does not reach the moment that a restore names.
pub const MOMENT_OUT_OF_REACH: Reason = "MomentOutOfReach";
/// Nothing says which Cluster of the stack is the live one.
pub const LIVE_CLUSTER_UNKNOWN: Reason = "LiveClusterUnknown";
/// There is no stack of the name in `stackRef`.
pub const STACK_NOT_FOUND: Reason = "StackNotFound";
/// A release waits until somebody approves it.
pub const AWAITING_APPROVAL: Reason = "AwaitingApproval";
/// A release waits for its migration.
pub const MIGRATING: Reason = "Migrating";
/// A migration has not begun, since another session holds the lock of its database, and what served before serves.
pub const MIGRATION_LOCKED: Reason = "MigrationLocked";
/// A migration failed, and what served before serves.
pub const MIGRATION_FAILED: Reason = "MigrationFailed";
/// A release waits for its recovery point.
pub const BACKING_UP: Reason = "BackingUp";
/// The recovery point of a release could not be made, and what served before serves.
pub const RECOVERY_POINT_FAILED: Reason = "RecoveryPointFailed";
/// The candidates of a release are tested.
pub const TESTING: Reason = "Testing";
/// The candidates of a release did not pass their tests, and what served before serves.
pub const SMOKE_TEST_FAILED: Reason = "SmokeTestFailed";
/// A release is rolled out, and smoke tests ask its pods.
pub const VERIFYING: Reason = "Verifying";
/// A release did not become ready, or did not pass its tests after the rollout, and the last good one serves.
pub const ROLLED_BACK: Reason = "RolledBack";
/// A Job failed. The component that asked for it says what that means.
pub const JOB_FAILED: Reason = "JobFailed";
/// The last backup is good, and there are backups of another owner in the same place.
pub const PREFIX_SHARED: Reason = "PrefixShared";
/// The last backup is good, and old ones could not be removed.
pub const PRUNING_FAILED: Reason = "PruningFailed";
/// Whether there are backups in a volume that is to be deleted could not be found out.
pub const BACKUPS_UNKNOWN: Reason = "BackupsUnknown";
/// For Events: pods are replaced, once, since those of an earlier release hold a wrong value.
pub const CORRECTED: Reason = "Corrected";
/// No backup has run yet.
pub const NO_BACKUP_YET: Reason = "NoBackupYet";
/// Deleting data needs the annotation.
pub const CONFIRMATION_REQUIRED: Reason = "ConfirmationRequired";
/// Pods use a service that the operator does not probe; the message says why, and how to change that.
pub const NOT_PROBED: Reason = "NotProbed";
/// The operator never connects to the address of a service.
pub const ADDRESS_REFUSED: Reason = "AddressRefused";
/// The files of the embedded database are of another major version than the spec asks for, or nothing says of which.
pub const VERSION_MISMATCH: Reason = "VersionMismatch";
/// The last backup is good, and it ran without the lock that excludes migrations: the URL leads to a pooler.
pub const POOLED_CONNECTION: Reason = "PooledConnection";
/// A database cannot have as many connections as the stack can open.
pub const TOO_FEW_CONNECTIONS: Reason = "TooFewConnections";
/// A user of the database lacks rights that migrations or dumps need.
pub const RIGHTS_MISSING: Reason = "RightsMissing";
/// A database that is to be written to is read-only.
pub const READ_ONLY: Reason = "ReadOnly";
/// A database cannot hold every text.
pub const WRONG_ENCODING: Reason = "WrongEncoding";
/// A server is older than the oldest version that is supported.
pub const SERVER_TOO_OLD: Reason = "ServerTooOld";
/// The clock of a server differs from the operator's.
pub const CLOCKS_DIFFER: Reason = "ClocksDiffer";
/// What the spec names is larger than the cache allows for one stack.
pub const TOO_LARGE: Reason = "TooLarge";
/// A replication is set, and no object arrives in the other bucket.
pub const REPLICATION_NOT_PROVEN: Reason = "ReplicationNotProven";
/// A Redis is in cluster mode and the spec does not say so, or the other way around.
pub const CLUSTER_MODE_MISMATCH: Reason = "ClusterModeMismatch";
