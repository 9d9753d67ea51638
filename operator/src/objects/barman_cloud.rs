//! The part of an ObjectStore of the barman-cloud plugin and of a ScheduledBackup of CloudNativePG that the operator writes, and what
//! both projects say of an archive (sources: `barmancloud.cnpg.io/v1` and `postgresql.cnpg.io/v1`).

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{EnvVar, LocalObjectReference, SecretKeySelector},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{CLUSTER, OBJECT_STORE, ObjectKind, at};

/// The name of the plugin.
pub const BARMAN_CLOUD_PLUGIN: &str = "barman-cloud.cloudnative-pg.io";
/// The reason of the condition of a Cluster whose last backup failed.
const BACKUP_FAILED: &str = "LastBackupFailed";
/// The parameter of the plugin with the folder of a Cluster in its archive.
const SERVER_NAME: &str = "serverName";

/// A plugin that a Cluster uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plugin {
    /// Its name.
    pub name: &'static str,
    /// Whether it is used.
    pub enabled: bool,
    /// Whether it archives the write-ahead log.
    #[serde(rename = "isWALArchiver")]
    pub is_wal_archiver: bool,
    /// Its parameters.
    pub parameters: BTreeMap<&'static str, String>,
}

impl Plugin {
    /// The plugin that archives into the folder `server` of an ObjectStore.
    pub fn archiving(store: &str, server: &str) -> Self {
        let parameters = [("barmanObjectName", store.to_owned()), (SERVER_NAME, server.to_owned())];
        Self { name: BARMAN_CLOUD_PLUGIN, enabled: true, is_wal_archiver: true, parameters: parameters.into() }
    }

    /// The plugin that reads that folder.
    pub fn reading(store: &str, server: &str) -> Self {
        Self { is_wal_archiver: false, ..Self::archiving(store, server) }
    }
}

/// Where archives are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ObjectStore {
    /// The metadata.
    pub metadata: ObjectMeta,
    /// The spec.
    pub spec: ObjectStoreSpec,
}

/// What an ObjectStore consists of.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStoreSpec {
    /// The bucket, and how archives are written.
    pub configuration: BarmanConfiguration,
    /// How far back a Cluster can be recovered, such as `14d`.
    pub retention_policy: String,
    /// The container of the plugin beside each server.
    pub instance_sidecar_configuration: Sidecar,
}

/// The bucket, and how archives are written.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BarmanConfiguration {
    /// `s3://bucket/folder`.
    pub destination_path: String,
    /// The URL of the S3 service.
    #[serde(rename = "endpointURL")]
    pub endpoint_url: String,
    /// Certificate authorities. `None`: the public ones.
    #[serde(rename = "endpointCA")]
    pub endpoint_ca: Option<SecretKeySelector>,
    /// The keys to the bucket.
    pub s3_credentials: S3Credentials,
    /// How the log is written.
    pub wal: Compression,
    /// How base backups are written.
    pub data: BaseBackups,
}

/// The keys to a bucket.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct S3Credentials {
    /// Access key id.
    pub access_key_id: SecretKeySelector,
    /// Secret access key.
    pub secret_access_key: SecretKeySelector,
    /// The token of temporary keys.
    pub session_token: Option<SecretKeySelector>,
    /// The region to sign for.
    pub region: SecretKeySelector,
}

/// How the log is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Compression {
    /// The format.
    pub compression: &'static str,
}

/// How base backups are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BaseBackups {
    /// The format.
    pub compression: &'static str,
    /// Whether a backup begins at once, and not with the next checkpoint.
    pub immediate_checkpoint: bool,
}

/// The container of the plugin beside each server.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sidecar {
    /// Its environment.
    pub env: Vec<EnvVar>,
}

/// Base backups by a schedule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScheduledBackup {
    /// The metadata.
    pub metadata: ObjectMeta,
    /// The spec.
    pub spec: ScheduledBackupSpec,
}

/// What a ScheduledBackup consists of.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledBackupSpec {
    /// The Cluster.
    pub cluster: LocalObjectReference,
    /// Six fields of cron: seconds first.
    pub schedule: String,
    /// Whether one is made at once.
    pub immediate: bool,
    /// Whether none begins.
    pub suspend: bool,
    /// `plugin`: the form without it goes away with version 1.31.
    pub method: &'static str,
    /// Which plugin.
    pub plugin_configuration: PluginName,
    /// `self`: the Backups go with this object, and the files stay.
    pub backup_owner_reference: &'static str,
}

/// Which plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PluginName {
    /// Its name.
    pub name: &'static str,
}

/// What a Cluster says of its archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterNote {
    /// The folder that it archives to, by its spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Whether the log is archived. `None`: nothing is known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archiving: Option<bool>,
    /// Why it is not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Since when it is not, as the condition has it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub since: String,
    /// Why the last base backup failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// The server that takes writes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub primary: String,
    /// What it was recovered from, by its spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered: Option<RecoveredFrom>,
}

/// What a Cluster was recovered from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveredFrom {
    /// The folder of the archive.
    pub server: String,
    /// The moment, as its spec has it.
    pub target: String,
}

/// What an ObjectStore says of the archives in it, by their folder.
pub type StoreNote = BTreeMap<String, RecoveryWindow>;

/// What can be recovered of an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryWindow {
    /// The first moment: the end of the oldest base backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_recoverability_point: Option<String>,
    /// When the newest base backup was complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful_backup_time: Option<String>,
    /// When a base backup failed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failed_backup_time: Option<String>,
}

/// The note of a Cluster that archives, and of an ObjectStore.
pub(super) fn note(kind: &ObjectKind, object: &Value) -> Option<Box<str>> {
    if kind == OBJECT_STORE {
        let windows = at(object, "/status/serverRecoveryWindow")?;
        let windows = StoreNote::deserialize(windows).ok()?;
        return serde_json::to_string(&windows).ok().map(Into::into);
    }
    if kind != CLUSTER {
        return None;
    }
    let plugins = at(object, "/spec/plugins").and_then(Value::as_array);
    let plugin = plugins.into_iter().flatten().find(|plugin| plugin["name"] == BARMAN_CLOUD_PLUGIN);
    let recovered = recovered(object);
    if plugin.is_none() && recovered.is_none() {
        return None;
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let conditions = at(object, "/status/conditions").and_then(Value::as_array);
    let condition = |wanted: &str| {
        let found = conditions.into_iter().flatten().find(|condition| condition["type"] == wanted)?;
        Some((found["status"] == "True", text(&found["message"]), text(&found["lastTransitionTime"])))
    };
    // It is false as well while a backup is made.
    let failed = |condition: &Value| {
        let is = |field: &str, value: &str| condition[field] == value;
        is("type", "LastBackupSucceeded") && is("status", "False") && is("reason", BACKUP_FAILED)
    };
    let failed = conditions.into_iter().flatten().find(|condition| failed(condition));
    let archiving = condition("ContinuousArchiving");
    let (why, since) = archiving.clone().filter(|(is, ..)| !is).map(|(_, why, since)| (why, since)).unwrap_or_default();
    let note = ClusterNote {
        server: plugin.and_then(|plugin| plugin["parameters"][SERVER_NAME].as_str()).map(str::to_owned),
        archiving: archiving.map(|(is, ..)| is),
        why,
        since,
        failed: failed.map(|condition| text(&condition["message"])),
        primary: at(object, "/status/currentPrimary").map(text).unwrap_or_default(),
        recovered,
    };
    serde_json::to_string(&note).ok().map(Into::into)
}

fn recovered(object: &Value) -> Option<RecoveredFrom> {
    let recovery = at(object, "/spec/bootstrap/recovery")?;
    let external = at(object, "/spec/externalClusters").and_then(Value::as_array);
    let origin = external.into_iter().flatten().find(|origin| origin["name"] == recovery["source"]);
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(RecoveredFrom {
        server: text(origin.and_then(|origin| at(origin, "/plugin/parameters")?.get(SERVER_NAME))),
        target: text(at(recovery, "/recoveryTarget/targetTime")),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::objects::LiveObject;

    fn read<T: for<'a> Deserialize<'a>>(kind: &'static ObjectKind, spec: &Value, status: &Value) -> Option<T> {
        let object = json!({"metadata": {"name": "shop"}, "spec": spec, "status": status});
        let note = LiveObject::whole(kind, object).expect("an object").note?;
        Some(serde_json::from_str(&note).expect("a note"))
    }

    fn condition(kind: &str, status: &str) -> Value {
        let reason = if kind == "LastBackupSucceeded" { "LastBackupFailed" } else { "Said" };
        json!({"type": kind, "status": status, "reason": reason, "message": "exit status 4",
            "lastTransitionTime": "2026-11-29T10:00:00Z"})
    }

    #[test]
    fn a_cluster_tells_of_its_archive_only_if_it_has_one() {
        let conditions = json!([condition("ContinuousArchiving", "False"), condition("LastBackupSucceeded", "False")]);
        let status = json!({"conditions": conditions, "currentPrimary": "shop-2"});
        assert_eq!(read::<ClusterNote>(CLUSTER, &json!({"instances": 1}), &status), None);
        let plugins = json!({"plugins": [{"name": "other"}, Plugin::archiving("store", "shop-1")]});
        let note: ClusterNote = read(CLUSTER, &plugins, &status).expect("a note");
        assert_eq!((note.server.as_deref(), note.archiving), (Some("shop-1"), Some(false)));
        assert_eq!((note.why.as_str(), note.since.as_str()), ("exit status 4", "2026-11-29T10:00:00Z"));
        assert_eq!((note.failed.as_deref(), note.primary.as_str()), (Some("exit status 4"), "shop-2"));
        let note: ClusterNote =
            read(CLUSTER, &plugins, &json!({"conditions": [condition("ContinuousArchiving", "True")]}))
                .expect("a note");
        assert_eq!(
            (note.archiving, note.why.as_str(), note.since.as_str()),
            (Some(true), "", ""),
            "no news is no change"
        );
        let begun = json!({"type": "LastBackupSucceeded", "status": "False", "reason": "BackupStarted"});
        let note: ClusterNote = read(CLUSTER, &plugins, &json!({"conditions": [begun]})).expect("a note");
        assert_eq!(note.failed, None, "one is made");
        let note: ClusterNote = read(CLUSTER, &plugins, &json!({})).expect("a note");
        assert_eq!(note.archiving, None);
    }

    #[test]
    fn an_object_store_tells_of_each_archive() {
        let window = json!({"firstRecoverabilityPoint": "2026-11-28T10:00:00Z", "lastSuccessfulBackupTime": "2026-11-29T10:00:00Z"});
        let status = json!({"serverRecoveryWindow": {"shop-1": window, "shop-2": {}}});
        let note: StoreNote = read(OBJECT_STORE, &json!({}), &status).expect("a note");
        assert_eq!(note.keys().collect::<Vec<_>>(), ["shop-1", "shop-2"]);
        assert_eq!(note["shop-1"].first_recoverability_point.as_deref(), Some("2026-11-28T10:00:00Z"));
        assert_eq!(read::<StoreNote>(OBJECT_STORE, &json!({}), &json!({})), None);
    }
}
