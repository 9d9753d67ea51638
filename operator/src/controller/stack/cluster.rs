//! The Clusters of CloudNativePG of a stack: which is its database, its volumes, whether it serves, and those that restores recover.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{Api, api::ListParams};

use super::{Context, error::ObserveError};
use crate::{
    api::v1alpha1::{RorunStack, Storage},
    names::{Component, ObjectName, ROLE_LIVE},
    objects::{
        CLUSTER, CLUSTER_LABEL, Claim, ClusterNote, LiveObject, LiveSet, OBJECT_STORE, POOLER, Readiness,
        SCHEDULED_BACKUP, StoreNote,
    },
    quantity,
    runtime::ResourceKey,
    stack::{
        self, Clusters, ExistingCluster, LiveCluster, Observed, ObservedCluster, ObservedVolume, Recovered, clusters,
    },
};

/// The label by which CloudNativePG says what the pod of a Job does, and its value for those that recover (`pkg/utils/labels_annotations.go`).
const RECOVERS: &str = "cnpg.io/jobRole=full-recovery";

/// The Clusters of a stack, and what names the live one, as the caches have them.
pub(super) fn clusters(cr: &RorunStack, key: &ResourceKey, live: &LiveSet) -> Clusters {
    if stack::cluster(cr).is_none() {
        return Clusters::default();
    }
    let config_map = ObjectName::with_role(&key.name, Component::Database, ROLE_LIVE);
    let named = live.named("ConfigMap", config_map.as_str()).and_then(|existing| existing.note.as_deref());
    let store = live.named(OBJECT_STORE.key, ObjectName::of(&key.name, Component::Backup).as_str());
    let windows = store.map(|store| {
        let note: StoreNote =
            store.note.as_deref().and_then(|note| serde_json::from_str(note).ok()).unwrap_or_default();
        let first = |(server, window): (String, crate::objects::RecoveryWindow)| {
            Some((server, window.first_recoverability_point?.parse::<Timestamp>().ok()?))
        };
        note.into_iter().filter_map(first).collect()
    });
    let of_stack = live.iter().filter(|existing| existing.kind == CLUSTER && existing.retained);
    Clusters { named: named.and_then(LiveCluster::read), existing: of_stack.map(cluster_there).collect(), windows }
}

fn cluster_there(existing: &LiveObject) -> ExistingCluster {
    let note: ClusterNote =
        existing.note.as_deref().and_then(|note| serde_json::from_str(note).ok()).unwrap_or_default();
    let size = existing.claim.as_deref().and_then(|claim| quantity::nanos(&claim.size));
    ExistingCluster {
        name: existing.name.to_string(),
        uid: existing.uid.to_string(),
        waiting: match &existing.readiness {
            Readiness::Ready => None,
            Readiness::Waiting(waiting) => Some(waiting.clone()),
        },
        archiving: note.archiving,
        recovered: note.recovered.map(|from| Recovered { server: from.server, target: from.target }),
        deleting: existing.deleting,
        size_bytes: size.and_then(|nanos| i64::try_from(nanos / quantity::NANOS).ok()).unwrap_or_default(),
        failing: None,
    }
}

/// The Clusters that restores which are not over recover.
pub(super) fn recovering(key: &ResourceKey, observed: &Observed) -> Vec<String> {
    let moments = observed.restores.iter().filter(|request| request.moment().is_some());
    moments.map(|request| clusters::recovered_name(&key.name, &request.uid)).collect()
}

/// A recovery that cannot succeed is told by its pods alone, long before their Cluster says so.
async fn ask_recovering(context: &Context, key: &ResourceKey, observed: &mut Observed) -> Result<(), ObserveError> {
    let recovering = recovering(key, observed);
    let waits = |existing: &&mut ExistingCluster| existing.waiting.is_some() && recovering.contains(&existing.name);
    for existing in observed.clusters.existing.iter_mut().filter(waits) {
        let api = Api::<Pod>::namespaced(context.runtime.client.clone(), &key.namespace);
        let params = ListParams::default().labels(&format!("{CLUSTER_LABEL}={},{RECOVERS}", existing.name)).limit(20);
        let pods = api.list(&params).await.map_err(ObserveError::Recovery)?.items;
        existing.failing = failing(&existing.name, &pods);
    }
    Ok(())
}

/// What the newest pod that failed says, with the command that prints the rest.
fn failing(cluster: &str, pods: &[Pod]) -> Option<String> {
    let failed = |pod: &&Pod| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Failed"));
    let newest =
        pods.iter().filter(failed).max_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|at| at.0))?;
    let status = newest.status.as_ref()?;
    let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    let ended = all.filter_map(|of| Some((of.name.as_str(), of.state.as_ref()?.terminated.as_ref()?)));
    let (container, ended) =
        ended.filter(|(_, ended)| ended.exit_code != 0).max_by_key(|(_, ended)| ended.exit_code)?;
    let words = ended.message.as_deref().map(str::trim).filter(|message| !message.is_empty());
    let words = words.map(|words| format!(": {}", words.chars().take(512).collect::<String>())).unwrap_or_default();
    let (count, job) = (pods.iter().filter(failed).count(), format!("{cluster}-1-full-recovery"));
    let name = newest.metadata.name.as_deref().unwrap_or_default();
    Some(format!(
        "{count} of the pods of job/{job} failed, the last with exit code {}{words}; the cause is in kubectl logs {name} \
         --container={container}",
        ended.exit_code
    ))
}

/// Observes the Cluster, if the spec asks for one and it is there.
pub(super) async fn observe(
    context: &Context,
    (cr, key): (&RorunStack, &ResourceKey),
    live: &LiveSet,
    observed: &mut Observed,
) -> Result<(), ObserveError> {
    let Some(asked) = stack::cluster(cr) else { return Ok(()) };
    ask_recovering(context, key, observed).await?;
    let name = observed.clusters.live_or_first(&key.name);
    let Some(existing) = live.named(CLUSTER.key, &name) else { return Ok(()) };
    let ready = |existing: &LiveObject| existing.readiness.is_ready() && !existing.deleting;
    let note = existing.note.as_deref().and_then(|note| serde_json::from_str::<ClusterNote>(note).ok());
    let store = live.named(OBJECT_STORE.key, ObjectName::of(&key.name, Component::Backup).as_str());
    let mut cluster = ObservedCluster {
        wal: None,
        serves: ready(existing) && live.of_component(POOLER.key, Component::Database.as_str()).all(ready),
        uid: existing.uid.to_string(),
        can_archive: note.as_ref().is_some_and(|note| note.server.is_some())
            || store.is_some_and(|store| !store.deleting),
        archives_to: note.filter(|note| archives(existing, note, live)).and_then(|note| note.server),
        base_backups: live
            .of_component(SCHEDULED_BACKUP.key, Component::Backup.as_str())
            .map(|existing| existing.name.to_string())
            .collect(),
    };
    if let Some(claim) = existing.claim.as_deref() {
        let place = (&*key.namespace, &*name);
        let mut volume = volume(context, place, claim, asked.storage).await?;
        volume.uid = existing.uid.to_string();
        observed.volumes.insert(Component::Database, volume);
        if let Some(wal) = claim.wal.as_deref() {
            cluster.wal = Some(self::volume(context, place, wal, asked.wal_storage).await?);
        }
    }
    observed.cluster = Some(cluster);
    Ok(())
}

/// How many seconds CloudNativePG may take from a change of a Cluster until it says that it replaces its servers.
const NOTICED_WITHIN: i64 = 30;

/// `ContinuousArchiving` is true also of a Cluster that has no plugin, and stays so until the servers that are to have it are replaced.
fn archives(existing: &LiveObject, note: &ClusterNote, live: &LiveSet) -> bool {
    let settled = || existing.since.is_none_or(|since| live.has_passed(since + NOTICED_WITHIN));
    note.archiving == Some(true) && existing.readiness.is_ready() && settled()
}

/// A request of the Cluster. The StorageClass is read only where it is to grow.
async fn volume(
    context: &Context,
    place: (&str, &str),
    claim: &Claim,
    asked: Option<&Storage>,
) -> Result<ObservedVolume, ObserveError> {
    let grows = stack::grows(asked, Component::Database, &claim.size);
    let class = match &claim.class {
        None if grows => class_of(context, place).await?,
        class => class.clone(),
    };
    let expandable = match class.as_deref().filter(|_| grows) {
        Some(class) => {
            let asked = context.storage_classes.expandable(&context.runtime.client, class).await;
            asked.map_err(|error| ObserveError::StorageClass(class.to_owned(), error))?
        }
        None => None,
    };
    let Claim { size, class_applied, data_files, .. } = claim.clone();
    Ok(ObservedVolume { size, class, class_applied, expandable, data_files, ..ObservedVolume::default() })
}

/// The class that the cluster chose for the volumes: CloudNativePG makes them, and no cache has them.
async fn class_of(context: &Context, (namespace, cluster): (&str, &str)) -> Result<Option<String>, ObserveError> {
    let api = Api::<PersistentVolumeClaim>::namespaced(context.runtime.client.clone(), namespace);
    let params = ListParams::default().labels(&format!("{CLUSTER_LABEL}={cluster}")).limit(1);
    let list = api.list(&params).await.map_err(ObserveError::Volumes)?;
    Ok(list.items.into_iter().find_map(|claim| claim.spec?.storage_class_name))
}
