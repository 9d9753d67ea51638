//! The archive of the log of a database of CloudNativePG.

use super::{Observed, Stack, backup, bucket, services};
use crate::{
    api::v1alpha1::{BackupSpec, PointInTimeStatus, RorunStackSpec},
    names::{Component, ObjectName, meaning},
};

/// How long CloudNativePG lets a segment of the log be open, where the spec does not say.
const ARCHIVE_TIMEOUT: i64 = 300;

/// The archive of the log of a database of CloudNativePG.
#[derive(Clone, Debug)]
pub struct PointInTime {
    /// How many days back the data can be recovered.
    pub days: i32,
    /// The folder in the bucket.
    pub folder: String,
    /// Which archive is whose.
    place: Place,
    /// What the Cluster that is there writes there. `None`: there is none, or the plugin, which it needs for that, is not.
    pub archive: Option<Archive>,
    /// After how many seconds at the latest what was written is archived. `None`: never, of a database that writes little.
    pub archive_timeout: Option<i64>,
}

/// What is told of the archives of a stack.
#[derive(Clone, Debug, PartialEq)]
pub struct Archives {
    /// For the status.
    pub status: PointInTimeStatus,
    /// After how many seconds at the latest the live Cluster has archived what was written. `None`: it archives nothing that can be
    /// recovered.
    pub within: Option<i64>,
}

/// Where archives are, which is a part of their names.
#[derive(Clone, Debug)]
struct Place {
    stack: String,
    endpoint: String,
    bucket: String,
    folder: String,
}

/// The log of one Cluster in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// Its folder.
    pub server_name: String,
    /// The name of its base backups. `None`: the first would fail, since nothing is archived there yet.
    pub base_backups: Option<String>,
}

impl PointInTime {
    pub(super) fn resolve(
        (spec, block): (&RorunStackSpec, &BackupSpec),
        stack: &Stack,
        observed: &Observed,
    ) -> Option<Self> {
        let asked = block.point_in_time.as_ref()?;
        let timeout = services::cluster_of(spec).and_then(|cluster| cluster.archive_timeout);
        let place = Place::of(spec, (&stack.namespace, &stack.name));
        let there = observed.cluster.as_ref().filter(|cluster| cluster.can_archive && !cluster.uid.is_empty());
        let archive = there.map(|cluster| {
            let (server_name, name) = place.names(life(&stack.name, &stack.cluster(), &cluster.uid));
            let begins = cluster.archives_to.as_ref() == Some(&server_name) || cluster.base_backups.contains(&name);
            Archive { server_name, base_backups: begins.then_some(name) }
        });
        Some(Self {
            days: asked.days,
            archive,
            place,
            folder: folder(block, (&stack.namespace, &stack.name)),
            archive_timeout: timeout.map_or(Some(ARCHIVE_TIMEOUT), seconds),
        })
    }

    /// The folder of a Cluster that a restore recovers, also before it is there.
    pub fn server_of(&self, recovered: &str) -> String {
        self.place.names(recovered).0
    }
}

/// Which life of a Cluster it is. One that a restore recovers has a name that no other has, which is known before its uid: it archives
/// from its first moment on.
fn life<'a>(stack: &str, cluster: &'a str, uid: &'a str) -> &'a str {
    if cluster == ObjectName::of(stack, Component::Database).as_str() { uid } else { cluster }
}

/// Beside the folders of the namespaces, none of which has an underscore in its name: dumps are listed often, and the log has many
/// files.
fn folder(block: &BackupSpec, (namespace, name): (&str, &str)) -> String {
    format!("{}_point-in-time/{namespace}/{name}", backup::base(block))
}

/// The folder of an archive, and the name of its base backups: others for each Cluster and each place. Two histories in one folder would
/// spoil each other, the plugin refuses a folder that is not empty, and a log is worth nothing without a base backup in the same
/// place. The spec tells the place, and not the keys to the bucket: a Secret that is gone for a moment must not end the archive.
pub(super) fn names(spec: &RorunStackSpec, stack: (&str, &str), uid: &str) -> (String, String) {
    Place::of(spec, stack).names(uid)
}

impl Place {
    fn of(spec: &RorunStackSpec, stack: (&str, &str)) -> Self {
        let place = backup::destination(spec).or_else(|| bucket::named(spec));
        let (endpoint, bucket) = place.map_or(("", ""), |of| (&of.endpoint, &of.name));
        Self {
            stack: stack.1.to_owned(),
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            bucket: bucket.to_owned(),
            folder: spec.backup.as_ref().map(|block| folder(block, stack)).unwrap_or_default(),
        }
    }

    fn names(&self, life: &str) -> (String, String) {
        let life = meaning(&[life, &self.endpoint, &self.bucket, &self.folder]);
        let server = format!("{}-{life}", ObjectName::of(&self.stack, Component::Database));
        (server, ObjectName::step(&self.stack, Component::Backup, &life).into())
    }
}

/// A time as PostgreSQL reads it, where the unit may be left out. `None`: 0, or what it would refuse.
fn seconds(text: &str) -> Option<i64> {
    let text = text.trim();
    let unit = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let count: i64 = text[..unit].parse().ok()?;
    let factor = match text[unit..].trim() {
        "" | "s" => 1,
        "min" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return None,
    };
    count.checked_mul(factor).filter(|seconds| *seconds > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::v1alpha1::RorunStack,
        stack::{ObservedCluster, validate},
    };

    fn archived(uid: &str, can_archive: bool, backup: &Value) -> Option<Archive> {
        let mut spec = json!({"environment": "Development", "api": {"image": "a"}, "database": {"cloudNativePG": {}},
            "backup": {"pointInTime": {"days": 7}}});
        if backup.is_object() {
            spec["backup"]["destination"] = backup.clone();
        }
        let cr: RorunStack =
            serde_json::from_value(json!({"metadata": {"name": "shop", "namespace": "n"}, "spec": spec})).unwrap();
        let with = |there: ObservedCluster| {
            let cluster = ObservedCluster { uid: uid.to_owned(), can_archive, ..there };
            let stack = validate(&cr, &Observed { cluster: Some(cluster), ..Observed::default() });
            stack.backup.expect("backups").point_in_time.expect("an archive").archive
        };
        let first = with(ObservedCluster::default());
        let Some(Archive { server_name, base_backups: None }) = &first else { return first };
        // A base backup before anything is archived would fail, and be made again a day later.
        let archives_to = |to: &str| with(ObservedCluster { archives_to: Some(to.to_owned()), ..Default::default() });
        assert_eq!(archives_to("elsewhere"), first);
        let archiving = archives_to(server_name).expect("an archive");
        let name = archiving.base_backups.clone().expect("base backups");
        let fails = with(ObservedCluster { base_backups: vec![name], ..ObservedCluster::default() });
        assert_eq!(fails.as_ref(), Some(&archiving), "they stay while the archive fails");
        Some(archiving)
    }

    /// The Secrets that the spec names exist nowhere here, which changes nothing.
    #[test]
    fn each_cluster_has_an_archive_of_its_own_in_each_place() {
        let external = |name: &str| {
            json!({"external": {"name": name, "endpoint": "https://s3.example.com/",
            "credentialsSecretRef": {"name": "gone"}}})
        };
        let first = archived("a", true, &Value::Null).expect("an archive");
        assert_eq!(archived("a", true, &Value::Null), Some(first.clone()));
        assert!(first.server_name.starts_with("shop-database-"), "{first:?}");
        assert!(first.base_backups.as_ref().is_some_and(|name| name.starts_with("shop-backup-")), "{first:?}");
        let others = [("b", Value::Null), ("a", external("x")), ("a", external("y")), ("a", json!({"prefix": "eu/"}))];
        let mut seen = vec![first];
        for (uid, backup) in others {
            let other = archived(uid, true, &backup).expect("an archive");
            assert!(!seen.contains(&other), "{uid} {backup}");
            seen.push(other);
        }
        assert_eq!(archived("a", false, &Value::Null), None, "the plugin is not there");
        assert_eq!(archived("", true, &Value::Null), None);
    }

    #[test]
    fn times_are_read_as_postgresql_reads_them() {
        let all = ["300", "300s", "5min", "5 min", "1h", "0", "5m", "", "-1"].map(seconds);
        assert_eq!(all, [Some(300), Some(300), Some(300), Some(300), Some(3600), None, None, None, None]);
    }
}
