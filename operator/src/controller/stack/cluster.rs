//! The Cluster of CloudNativePG that is the database of a stack: its volumes, and whether it serves.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{Api, api::ListParams};

use super::{Context, observe::ObserveError};
use crate::{
    api::v1alpha1::{RorunStack, Storage},
    names::{Component, ObjectName},
    objects::{
        CLUSTER, CLUSTER_LABEL, Claim, ClusterNote, LiveObject, LiveSet, OBJECT_STORE, POOLER, SCHEDULED_BACKUP,
    },
    runtime::ResourceKey,
    stack::{self, Observed, ObservedCluster, ObservedVolume},
};

/// Observes the Cluster, if the spec asks for one and it is there.
pub(super) async fn observe(
    context: &Context,
    (cr, key): (&RorunStack, &ResourceKey),
    live: &LiveSet,
    observed: &mut Observed,
) -> Result<(), ObserveError> {
    let Some(asked) = stack::cluster(cr) else { return Ok(()) };
    let name = ObjectName::of(&key.name, Component::Database);
    let Some(there) = live.named(CLUSTER.key, name.as_str()) else { return Ok(()) };
    let ready = |kind| {
        let mut objects = live.of_component(kind, Component::Database.as_str());
        objects.all(|there| there.readiness.is_ready() && !there.deleting)
    };
    let note = there.note.as_deref().and_then(|note| serde_json::from_str::<ClusterNote>(note).ok());
    let store = live.named(OBJECT_STORE.key, ObjectName::of(&key.name, Component::Backup).as_str());
    let mut cluster = ObservedCluster {
        wal: None,
        serves: ready(CLUSTER.key) && ready(POOLER.key),
        uid: there.uid.to_string(),
        can_archive: note.is_some() || store.is_some_and(|store| !store.deleting),
        archives_to: note.filter(|note| archives(there, note, live)).and_then(|note| note.server),
        base_backups: live
            .of_component(SCHEDULED_BACKUP.key, Component::Backup.as_str())
            .map(|there| there.name.to_string())
            .collect(),
    };
    if let Some(claim) = there.claim.as_deref() {
        let place = (&*key.namespace, name.as_str());
        let mut volume = volume(context, place, claim, asked.storage).await?;
        volume.uid = there.uid.to_string();
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
fn archives(there: &LiveObject, note: &ClusterNote, live: &LiveSet) -> bool {
    let settled = || there.since.is_none_or(|since| live.has_passed(since + NOTICED_WITHIN));
    note.archiving == Some(true) && there.readiness.is_ready() && settled()
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
