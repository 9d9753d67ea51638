//! The archive of a database of CloudNativePG, from which its data can be recovered to any moment: where the barman-cloud plugin writes
//! the log to, the base backups, and what became of both. Never the form of archiving within CloudNativePG, which goes away with
//! its version 1.31.
//!
//! The Cluster outlives the stack and goes on writing its log. So what it archives by does, too.

use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::core::v1::{EnvVar, LocalObjectReference, Secret, SecretKeySelector},
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::{metadata, objectives};
use crate::{
    api::v1alpha1::{ArchiveRecord, PointInTimeStatus, RorunStackSpec},
    contract,
    names::{Component as Name, ROLE_ARCHIVE, Waiting, reason},
    objects::{
        ApplyPolicy, BARMAN_CLOUD_PLUGIN, BarmanConfiguration, BaseBackups, CLUSTER, ClusterNote, Compression,
        DesiredObject, LiveObject, LiveSet, OBJECT_STORE, ObjectKind, ObjectStore, ObjectStoreSpec, PluginName,
        S3Credentials, SCHEDULED_BACKUP, ScheduledBackup, ScheduledBackupSpec, Sidecar, StoreNote,
    },
    stack::{AccessKeys, Archives, Backup, BucketAccess, PointInTime, Stack},
};

/// The key with certificate authorities.
const AUTHORITIES: &str = "ca.crt";
/// The container of the plugin beside each server.
const SIDECAR: &str = "plugin-barman-cloud";
const GZIP: Compression = Compression { compression: "gzip" };
/// Of how many archives the status tells.
const TOLD: usize = 16;

/// The kinds of other projects that the spec needs for it.
pub(super) fn kinds(spec: &RorunStackSpec) -> Vec<&'static ObjectKind> {
    let asked = spec.backup.as_ref().is_some_and(|backup| backup.point_in_time.is_some());
    if asked { vec![SCHEDULED_BACKUP, OBJECT_STORE] } else { Vec::new() }
}

/// The objects beside the Cluster.
pub(super) fn objects(stack: &Stack, backup: &Backup, destination: &BucketAccess) -> Vec<DesiredObject> {
    // The definition refuses it by a role.
    let (Some(asked), Some(keys)) = (&backup.point_in_time, &destination.keys) else { return Vec::new() };
    let kept = [
        DesiredObject::new(&secret(stack, destination, keys), ApplyPolicy::Retain),
        DesiredObject::new(&store(stack, asked, destination), ApplyPolicy::Retain),
    ];
    let named = asked.archive.as_ref().and_then(|archive| archive.base_backups.clone());
    let base = named.map(|name| DesiredObject::own(&base_backups(stack, name)));
    kept.into_iter().chain(base).collect()
}

fn secret(stack: &Stack, destination: &BucketAccess, keys: &AccessKeys) -> Secret {
    let mut data = vec![
        (contract::ENV_ACCESS_KEY_ID, keys.id.clone()),
        (contract::ENV_SECRET_ACCESS_KEY, keys.secret.clone()),
        (contract::ENV_S3_REGION, destination.region.clone()),
    ];
    data.extend(keys.session_token.as_ref().map(|token| (contract::ENV_SESSION_TOKEN, token.value.clone())));
    data.extend(destination.ca.clone().map(|ca| (AUTHORITIES, ca)));
    Secret {
        metadata: metadata::retained(stack, Name::Backup, stack.child_role(Name::Backup, ROLE_ARCHIVE)),
        data: Some(data.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes()))).collect()),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

fn store(stack: &Stack, asked: &PointInTime, destination: &BucketAccess) -> ObjectStore {
    let key = |key: &str| SecretKeySelector {
        name: stack.child_role(Name::Backup, ROLE_ARCHIVE),
        key: key.to_owned(),
        optional: None,
    };
    // Servers other than Amazon's may not know the checksums that newer clients send.
    let checksums = ["AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"];
    let variable =
        |name: &str| EnvVar { name: name.to_owned(), value: Some("when_required".to_owned()), value_from: None };
    ObjectStore {
        metadata: metadata::retained(stack, Name::Backup, stack.child(Name::Backup)),
        spec: ObjectStoreSpec {
            configuration: BarmanConfiguration {
                destination_path: format!("s3://{}/{}", destination.name, asked.folder),
                endpoint_url: destination.endpoint.clone(),
                endpoint_ca: destination.ca.is_some().then(|| key(AUTHORITIES)),
                s3_credentials: S3Credentials {
                    access_key_id: key(contract::ENV_ACCESS_KEY_ID),
                    secret_access_key: key(contract::ENV_SECRET_ACCESS_KEY),
                    session_token: destination.session_token().map(|_| key(contract::ENV_SESSION_TOKEN)),
                    region: key(contract::ENV_S3_REGION),
                },
                wal: GZIP,
                // Until the first is complete, nothing can be recovered.
                data: BaseBackups { compression: GZIP.compression, immediate_checkpoint: true },
            },
            retention_policy: format!("{}d", asked.days),
            instance_sidecar_configuration: Sidecar { env: checksums.map(variable).into() },
        },
    }
}

/// One at once, since an archive is worth nothing before, and then daily, when few people work, each stack in a minute of its own.
fn base_backups(stack: &Stack, name: String) -> ScheduledBackup {
    let minute = Sha256::digest(stack.uid.as_bytes())[0] % 60;
    ScheduledBackup {
        metadata: metadata::owned(stack, Name::Backup, name),
        spec: ScheduledBackupSpec {
            cluster: LocalObjectReference { name: stack.cluster() },
            schedule: format!("0 {minute} 1 * * *"),
            immediate: true,
            suspend: stack.asleep,
            method: "plugin",
            plugin_configuration: PluginName { name: BARMAN_CLOUD_PLUGIN },
            backup_owner_reference: "self",
        },
    }
}

/// Why the data cannot be recovered to this moment. `Ready` of a Cluster does not say that its log is archived.
pub(super) fn waiting(stack: &Stack, live: &LiveSet) -> Option<Waiting> {
    let asked = stack.backup.as_ref()?.point_in_time.as_ref()?;
    if stack.asleep {
        return None;
    }
    let there = live.named(CLUSTER.key, &stack.cluster())?;
    let note = read::<ClusterNote>(there).unwrap_or_default();
    let progressing = |what: &str| Some(Waiting::new(reason::PROGRESSING, format!("{} {what}", there.key())));
    let wanted = asked.archive.as_ref().map(|archive| &archive.server_name);
    let Some(server) = note.server.as_ref().filter(|server| Some(*server) == wanted) else {
        return progressing("does not archive its log there yet");
    };
    match note.archiving {
        None => return progressing("has not archived any of its log yet"),
        Some(false) => {
            let missed = objectives::not_archived(stack, live, moment(&note.since).map(|at| at.0));
            let message =
                [Some(not_archived(there, &note)), missed].into_iter().flatten().collect::<Vec<_>>().join("; ");
            return Some(Waiting::new(reason::ARCHIVING_FAILED, message));
        }
        Some(true) => {}
    }
    let window = windows(stack, live).remove(server).unwrap_or_default();
    match (note.failed, window.first_recoverability_point) {
        (Some(why), _) => {
            let again = asked.archive.as_ref().and_then(|archive| archive.base_backups.as_ref());
            let again = again.map(|name| format!("; to make another at once: kubectl delete scheduledbackup {name}"));
            let message = format!("the last base backup of {} failed: {why}{}", there.key(), again.unwrap_or_default());
            Some(Waiting::new(reason::BACKUP_FAILED, message))
        }
        (None, None) => {
            let message = format!("the first base backup of {} is not complete yet", there.key());
            Some(Waiting::new(reason::NO_BACKUP_YET, message))
        }
        (None, Some(_)) => None,
    }
}

/// The condition of CloudNativePG has the exit status of Barman's command alone, which the log of the plugin explains.
fn not_archived(there: &LiveObject, note: &ClusterNote) -> String {
    let why = if note.why.contains("exit status 2") {
        format!("the bucket of the archive does not answer, or refuses the keys ({})", note.why)
    } else {
        note.why.clone()
    };
    format!(
        "{} has archived nothing since {}: {why}; its data can be recovered only as of then, and its volume fills with the log; \
         the cause is in kubectl logs {} --container={SIDECAR}",
        there.key(),
        note.since,
        note.primary
    )
}

/// What can be recovered to any moment, as far as the cluster tells.
pub fn point_in_time(stack: &Stack, live: &LiveSet) -> Option<Archives> {
    let asked = stack.backup.as_ref()?.point_in_time.as_ref()?;
    let there = live.named(CLUSTER.key, &stack.cluster())?;
    let note = read::<ClusterNote>(there).unwrap_or_default();
    let record = |(server_name, window): (String, crate::objects::RecoveryWindow)| {
        Some(ArchiveRecord {
            server_name,
            restorable_from: moment(window.first_recoverability_point.as_deref()?)?,
            last_base_backup: window.last_successful_backup_time.as_deref().and_then(moment),
        })
    };
    let mut archives: Vec<_> = windows(stack, live).into_iter().filter_map(record).collect();
    // The newest history first.
    archives.sort_by(|one, other| {
        (other.restorable_from.0, &one.server_name).cmp(&(one.restorable_from.0, &other.server_name))
    });
    archives.truncate(TOLD);
    let goes_on = note.archiving == Some(true) && !stack.asleep;
    let recoverable = archives.iter().any(|archive| Some(&archive.server_name) == note.server.as_ref());
    let within = asked.archive_timeout.filter(|_| goes_on && recoverable);
    let status = PointInTimeStatus { server_name: note.server, not_archived_since: moment(&note.since), archives };
    Some(Archives { status, within })
}

fn windows(stack: &Stack, live: &LiveSet) -> StoreNote {
    live.named(OBJECT_STORE.key, &stack.child(Name::Backup)).and_then(read).unwrap_or_default()
}

fn read<T: DeserializeOwned>(there: &LiveObject) -> Option<T> {
    serde_json::from_str(there.note.as_deref()?).ok()
}

fn moment(text: &str) -> Option<Time> {
    text.parse::<Timestamp>().ok().map(Time)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::v1alpha1::RorunStack,
        stack::{Observed, ObservedCluster, validate},
    };

    fn stack() -> Stack {
        let spec = json!({"environment": "Development", "api": {"image": "a"}, "database": {"cloudNativePG": {}},
            "backup": {"pointInTime": {"days": 14}}});
        let cr = json!({"metadata": {"name": "shop", "namespace": "n", "uid": "u"}, "spec": spec});
        let cr: RorunStack = serde_json::from_value(cr).unwrap();
        let cluster = ObservedCluster { uid: "1".to_owned(), can_archive: true, ..ObservedCluster::default() };
        validate(&cr, &Observed { cluster: Some(cluster), ..Observed::default() })
    }

    fn live(kind: &'static ObjectKind, name: &str, spec: &Value, status: &Value) -> Arc<LiveObject> {
        let labels = json!({"rorun.app/stack": "shop", "rorun.app/retained": "true"});
        let metadata = json!({"name": name, "namespace": "n", "uid": name, "labels": labels});
        let object = json!({"metadata": metadata, "spec": spec, "status": status});
        Arc::new(LiveObject::whole(kind, object).expect("an object"))
    }

    /// The folder of the archive that serves.
    fn server() -> String {
        let asked = stack().backup.and_then(|backup| backup.point_in_time);
        asked.and_then(|asked| asked.archive).expect("an archive").server_name
    }

    fn cluster(conditions: &Value) -> Arc<LiveObject> {
        let parameters = json!({"barmanObjectName": "shop-backup", "serverName": server()});
        let plugins = json!({"plugins": [{"name": BARMAN_CLOUD_PLUGIN, "parameters": parameters}]});
        let status = json!({"conditions": conditions, "currentPrimary": "shop-database-2"});
        live(CLUSTER, "shop-database", &plugins, &status)
    }

    /// `this` is the archive that serves.
    fn store_with(windows: &Value) -> Arc<LiveObject> {
        let windows: serde_json::Map<String, Value> = windows
            .as_object()
            .expect("a map")
            .iter()
            .map(|(name, window)| (if name == "this" { server() } else { name.clone() }, window.clone()))
            .collect();
        live(OBJECT_STORE, "shop-backup", &json!({}), &json!({"serverRecoveryWindow": windows}))
    }

    fn condition(kind: &str, status: &str, message: &str) -> Value {
        json!({"type": kind, "status": status, "reason": "LastBackupFailed", "message": message,
            "lastTransitionTime": "2026-11-29T10:00:00Z"})
    }

    #[rstest]
    #[case::nothing_said(json!([]), json!({}), Some((reason::PROGRESSING, "has not archived any")))]
    #[case::fails(
        json!([condition("ContinuousArchiving", "False", "exit status 4")]), json!({}),
        Some((reason::ARCHIVING_FAILED, "nothing since 2026-11-29T10:00:00Z: exit status 4"))
    )]
    #[case::bucket_is_away(
        json!([condition("ContinuousArchiving", "False", "barman-cloud-wal-archive: exit status 2")]), json!({}),
        Some((reason::ARCHIVING_FAILED, "does not answer, or refuses the keys"))
    )]
    #[case::no_base(
        json!([condition("ContinuousArchiving", "True", "")]), json!({"shop-database-0": {"firstRecoverabilityPoint": "2026-11-29T10:00:00Z"}}),
        Some((reason::NO_BACKUP_YET, "the first base backup"))
    )]
    #[case::base_failed(
        json!([condition("ContinuousArchiving", "True", ""), condition("LastBackupSucceeded", "False", "no room")]),
        json!({"this": {"firstRecoverabilityPoint": "2026-11-29T10:00:00Z"}}),
        Some((reason::BACKUP_FAILED, "no room"))
    )]
    #[case::all_is_well(
        json!([condition("ContinuousArchiving", "True", ""), condition("LastBackupSucceeded", "True", "")]),
        json!({"this": {"firstRecoverabilityPoint": "2026-11-29T10:00:00Z"}}), None
    )]
    fn what_cannot_be_recovered_is_told(
        #[case] conditions: Value,
        #[case] windows: Value,
        #[case] expected: Option<(reason::Reason, &str)>,
    ) {
        let live: LiveSet = [cluster(&conditions), store_with(&windows)].into_iter().collect();
        let found = waiting(&stack(), &live);
        assert_eq!(found.as_ref().map(|waiting| waiting.reason), expected.map(|(reason, _)| reason));
        if let (Some(found), Some((reason, words))) = (found, expected) {
            assert!(found.message.contains(words), "{}", found.message);
            let way_out = "kubectl logs shop-database-2 --container=plugin-barman-cloud";
            assert_eq!(found.message.contains(way_out), reason == reason::ARCHIVING_FAILED, "{}", found.message);
        }
    }

    #[test]
    fn an_objective_that_a_broken_archive_misses_is_told_with_it() {
        let mut stack = stack();
        stack.backup.as_mut().expect("backups").recovery.rpo = Some(3600);
        let failing = json!([condition("ContinuousArchiving", "False", "exit status 4")]);
        let live: LiveSet = [cluster(&failing)].into_iter().collect();
        let since = "2026-11-29T10:00:00Z".parse::<Timestamp>().expect("a moment").as_second();
        let told = |seconds: i64| {
            waiting(&stack, &live.clone().at(since + seconds))
                .expect("it is told")
                .message
                .contains("objectives.rpo is 1h")
        };
        assert_eq!([3600, 4199, 4200].map(told), [false, false, true]);
        assert_eq!(point_in_time(&stack, &live).expect("a status").within, None);
    }

    #[test]
    fn who_sleeps_archives_nothing_and_nothing_is_missing() {
        let live: LiveSet = [cluster(&json!([condition("ContinuousArchiving", "False", "")]))].into_iter().collect();
        assert_eq!(waiting(&Stack { asleep: true, ..stack() }, &live), None);
    }

    #[test]
    fn every_archive_is_listed_the_newest_history_first() {
        let window =
            |from: &str| json!({"firstRecoverabilityPoint": from, "lastSuccessfulBackupTime": "2026-11-29T11:00:00Z"});
        let windows = json!({"shop-database-0": window("2026-11-20T10:00:00Z"), "this": window("2026-11-29T10:00:00Z"),
            "shop-database-2": {}});
        let archiving = json!([condition("ContinuousArchiving", "True", "")]);
        let live: LiveSet = [cluster(&archiving), store_with(&windows)].into_iter().collect();
        let told = point_in_time(&stack(), &live).expect("a status");
        assert_eq!(told.within, Some(300), "by the default of CloudNativePG");
        let asleep = point_in_time(&Stack { asleep: true, ..stack() }, &live).expect("a status");
        assert_eq!(asleep.within, None);
        let status = told.status;
        assert_eq!((status.server_name, status.not_archived_since), (Some(server()), None));
        let names: Vec<_> = status.archives.iter().map(|archive| archive.server_name.as_str()).collect();
        assert_eq!(names, [server().as_str(), "shop-database-0"]);
    }
}
