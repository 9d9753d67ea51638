//! The Clusters of CloudNativePG that belong to a stack: one is live, and restores to a moment have made or kept the others.
//!
//! Without a restore there is one, named after the stack. From the first restore on a `ConfigMap` names the live one, and nothing else
//! does: what it does not tell nobody guesses.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    contract::restore_suffix,
    names::{Component, LIVE_CLUSTER, ObjectName, ROLE_LIVE, Waiting, reason},
};

/// The keys of the `ConfigMap` beside [`LIVE_CLUSTER`].
const RESTORE: &str = "restore";
const RESTORE_UID: &str = "restoreUID";
const PAST: &str = "past";
/// How many Clusters that were live before are remembered.
const REMEMBERED: usize = 32;

/// The Clusters of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Clusters {
    /// What the `ConfigMap` says. `None`: there is none.
    pub named: Option<LiveCluster>,
    /// Those that are there.
    pub existing: Vec<ExistingCluster>,
    /// The first moment that each archive reaches, by its folder. `None`: nothing tells of archives.
    pub windows: Option<BTreeMap<String, Timestamp>>,
}

/// What the `ConfigMap` of a stack says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LiveCluster {
    /// The name of the live Cluster.
    pub cluster: String,
    /// The RorunRestore that made it the live one. Empty: none did.
    pub restore: String,
    /// Its uid.
    pub restore_uid: String,
    /// The Clusters that were live before, the oldest first.
    pub past: Vec<PastCluster>,
}

/// A Cluster that was live.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PastCluster {
    /// Its name.
    pub cluster: String,
    /// The folder that its log is archived to.
    pub server: String,
    /// Until when it was live, in seconds since 1970.
    pub until: i64,
}

/// A Cluster that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ExistingCluster {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// What it waits for, in the words of CloudNativePG. `None`: it serves.
    pub waiting: Option<Waiting>,
    /// Whether its log is archived. `None`: nothing is known yet.
    pub archiving: Option<bool>,
    /// What it was recovered from.
    pub recovered: Option<Recovered>,
    /// It is being deleted.
    pub deleting: bool,
    /// The size of the volume of each of its servers, in bytes.
    pub size_bytes: i64,
    /// What the pods that recover it say, if one of them failed.
    pub failing: Option<String>,
}

/// What a Cluster is recovered from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Recovered {
    /// The folder of the archive.
    pub server: String,
    /// The moment.
    pub target: String,
}

impl ExistingCluster {
    /// Why CloudNativePG can do no more for it before a user acts.
    pub fn stalled(&self) -> Option<&Waiting> {
        self.waiting.as_ref().filter(|waiting| waiting.reason == reason::DATABASE_STALLED)
    }

    /// The value of the annotation that deletes it: with its uid, so that no other one of the name is meant.
    pub fn discarded_by(&self) -> String {
        format!("{}/{}", self.name, self.uid)
    }
}

impl Clusters {
    /// The name of the live Cluster. The error: nothing says which it is.
    pub fn live(&self, stack: &str) -> Result<String, Waiting> {
        let first = ObjectName::of(stack, Component::Database).to_string();
        let config_map = ObjectName::with_role(stack, Component::Database, ROLE_LIVE);
        let recovered: Vec<&str> =
            self.existing.iter().map(|existing| existing.name.as_str()).filter(|name| *name != first).collect();
        let all = || self.existing.iter().map(|existing| existing.name.as_str()).collect::<Vec<_>>().join(", ");
        match &self.named {
            None if recovered.is_empty() => Ok(first),
            None => Err(Waiting::new(
                reason::LIVE_CLUSTER_UNKNOWN,
                format!(
                    "configmap/{config_map}, which names the live Cluster, is missing, and restores have made Clusters: {}; everything \
                     stays as it is until it is there again: kubectl create configmap {config_map} --from-literal={LIVE_CLUSTER}=NAME, \
                     then kubectl label configmap {config_map} {}",
                    all(),
                    labels(stack)
                ),
            )),
            // One that is gone is made anew empty under the name of the stack alone, as without any restore.
            Some(named) if named.cluster == first || recovered.contains(&named.cluster.as_str()) => {
                Ok(named.cluster.clone())
            }
            Some(named) if self.existing.is_empty() => Err(Waiting::new(
                reason::LIVE_CLUSTER_UNKNOWN,
                format!(
                    "configmap/{config_map} names cluster/{}, which is gone, and no other Cluster of the stack is left: everything stays as \
                     it is; to begin anew with an empty database, kubectl delete configmap {config_map}, and bring the data back by a \
                     RorunRestore of a recovery point",
                    named.cluster
                ),
            )),
            Some(named) => Err(Waiting::new(
                reason::LIVE_CLUSTER_UNKNOWN,
                format!(
                    "configmap/{config_map} names cluster/{}, which is none of the stack: everything stays as it is; name one that is \
                     there in its key {LIVE_CLUSTER}: {}",
                    named.cluster,
                    all()
                ),
            )),
        }
    }

    /// The name of the live Cluster; that of a stack without a restore where nothing says which it is.
    pub fn live_or_first(&self, stack: &str) -> String {
        self.live(stack).unwrap_or_else(|_| ObjectName::of(stack, Component::Database).into())
    }

    /// The Cluster of a name.
    pub fn find(&self, name: &str) -> Option<&ExistingCluster> {
        self.existing.iter().find(|existing| existing.name == name)
    }

    /// The folder of the archive that reaches a moment: of the Cluster that was live then, or of one before it. `live`: the folder of the
    /// live one.
    pub fn archive_of(&self, live: &str, moment: Timestamp) -> Option<&str> {
        let past = || self.named.iter().flat_map(|named| &named.past);
        let ended = past().map(|of| (of.server.as_str(), of.until)).find(|(_, until)| moment.as_second() < *until);
        let server = ended.map_or(live, |(server, _)| server);
        let reaching = self.windows.iter().flatten().filter(|(_, from)| **from <= moment);
        if let Some((found, _)) = reaching.clone().find(|(known, _)| known.as_str() == server) {
            return Some(found);
        }
        // What another one archived is not what was live then, unless it was before all that are remembered.
        let first = past().next().map_or(live, |of| of.server.as_str());
        let known = |name: &str| name == live || past().any(|of| of.server == name);
        let before = reaching.filter(|(name, _)| server == first && !known(name));
        before.max_by_key(|(_, from)| **from).map(|(server, _)| server.as_str())
    }

    /// The first moment that any archive reaches.
    pub fn reaches_from(&self) -> Option<Timestamp> {
        self.windows.iter().flat_map(BTreeMap::values).min().copied()
    }
}

/// By which the operator finds the `ConfigMap`.
fn labels(stack: &str) -> String {
    use crate::names::{FIELD_MANAGER, label};
    format!("{}={FIELD_MANAGER} {}={stack} {}=true", label::MANAGED_BY, label::STACK, label::RETAINED)
}

/// The Cluster that a restore recovers.
pub fn recovered_name(stack: &str, restore_uid: &str) -> String {
    ObjectName::recovered(stack, &restore_suffix(restore_uid)).into()
}

/// Whether a Cluster of the stack, and no database on a server, can have this name.
pub fn is_cluster_name(stack: &str, name: &str) -> bool {
    name == ObjectName::of(stack, Component::Database).as_str()
        || name.starts_with(ObjectName::recovered(stack, "").as_str())
}

impl LiveCluster {
    /// Reads the members of the `ConfigMap`, as JSON.
    pub fn read(data: &str) -> Option<Self> {
        let mut data: BTreeMap<String, String> = serde_json::from_str(data).ok()?;
        let past = data.remove(PAST).and_then(|past| serde_json::from_str(&past).ok()).unwrap_or_default();
        let mut take = |key: &str| data.remove(key).map(|text| text.trim().to_owned()).unwrap_or_default();
        Some(Self { cluster: take(LIVE_CLUSTER), restore: take(RESTORE), restore_uid: take(RESTORE_UID), past })
    }

    /// The members of the `ConfigMap`.
    pub fn data(&self) -> BTreeMap<String, String> {
        let past = serde_json::to_string(&self.past).unwrap_or_default();
        let mut data = BTreeMap::from([(LIVE_CLUSTER.to_owned(), self.cluster.clone())]);
        if !self.restore.is_empty() {
            data.insert(RESTORE.to_owned(), self.restore.clone());
            data.insert(RESTORE_UID.to_owned(), self.restore_uid.clone());
            data.insert(PAST.to_owned(), past);
        }
        data
    }

    /// What it says once a restore has made another Cluster the live one. `server`: the folder of the one that is live now.
    #[must_use]
    pub fn switched(&self, to: &str, (restore, uid): (&str, &str), (server, now): (&str, i64)) -> Self {
        let mut past = self.past.clone();
        past.push(PastCluster { cluster: self.cluster.clone(), server: server.to_owned(), until: now });
        past.drain(..past.len().saturating_sub(REMEMBERED));
        Self { cluster: to.to_owned(), restore: restore.to_owned(), restore_uid: uid.to_owned(), past }
    }

    /// The Cluster that was live before this one.
    pub fn before(&self) -> Option<&str> {
        self.past.last().map(|of| of.cluster.as_str())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn existing(names: &[&str]) -> Vec<ExistingCluster> {
        names.iter().map(|name| ExistingCluster { name: (*name).to_owned(), ..ExistingCluster::default() }).collect()
    }

    fn named(cluster: &str) -> LiveCluster {
        LiveCluster { cluster: cluster.to_owned(), ..LiveCluster::default() }
    }

    #[rstest]
    #[case::none_yet(None, &[], Ok("shop-database"))]
    #[case::without_a_restore(None, &["shop-database"], Ok("shop-database"))]
    #[case::a_lost_name(None, &["shop-database", "shop-db-0d1f7a"], Err("is missing"))]
    #[case::a_lost_name_of_the_only_one(None, &["shop-db-0d1f7a"], Err("is missing"))]
    #[case::as_it_says(Some(named("shop-db-0d1f7a")), &["shop-database", "shop-db-0d1f7a"], Ok("shop-db-0d1f7a"))]
    #[case::before_a_switch(Some(named("shop-database")), &["shop-database", "shop-db-0d1f7a"], Ok("shop-database"))]
    #[case::before_it_is_made(Some(named("shop-database")), &[], Ok("shop-database"))]
    #[case::one_that_is_gone(Some(named("shop-db-0d1f7a")), &["shop-database"], Err("names cluster/shop-db-0d1f7a"))]
    #[case::none_that_is_left(Some(named("shop-db-0d1f7a")), &[], Err("no other Cluster of the stack is left: everything stays as it is; to begin anew with an empty database, kubectl delete configmap shop-database-live"))]
    #[case::no_name(Some(named("")), &["shop-database"], Err("names cluster/,"))]
    fn the_live_one_is_told_and_never_guessed(
        #[case] named: Option<LiveCluster>,
        #[case] names: &[&str],
        #[case] expected: Result<&str, &str>,
    ) {
        let clusters = Clusters { named, existing: existing(names), windows: None };
        match (clusters.live("shop"), expected) {
            (Ok(name), Ok(expected)) => assert_eq!(name, expected),
            (Err(waiting), Err(words)) => {
                assert_eq!(waiting.reason, reason::LIVE_CLUSTER_UNKNOWN);
                assert!(waiting.message.contains(words), "{}", waiting.message);
            }
            (found, expected) => panic!("{found:?} {expected:?}"),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let first = LiveCluster { cluster: "shop-database".to_owned(), ..LiveCluster::default() };
        let text = |of: &LiveCluster| serde_json::to_string(&of.data()).unwrap();
        assert_eq!(LiveCluster::read(&text(&first)), Some(first.clone()));
        let second = first.switched("shop-db-1", ("back", "u"), ("s-1", 7));
        assert_eq!(LiveCluster::read(&text(&second)), Some(second.clone()));
        assert_eq!(second.before(), Some("shop-database"));
        let mut last = second;
        for at in 0..100 {
            last = last.switched("shop-db-2", ("again", "v"), ("s-2", at));
        }
        assert_eq!((last.past.len(), last.past.last().map(|of| of.until)), (REMEMBERED, Some(99)));
        // As somebody wrote it by hand.
        assert_eq!(LiveCluster::read(r#"{"cluster":"shop-db-1\n"}"#).unwrap().cluster, "shop-db-1");
    }

    /// `first` was live until 12:00, then `second`, whose archive begins at 11:30, beside it.
    #[rstest]
    #[case::of_the_live_one("2026-11-29T12:30:00Z", Some("second"))]
    #[case::while_the_second_was_beside("2026-11-29T11:45:00Z", Some("first"))]
    #[case::of_the_first("2026-11-29T10:30:00Z", Some("first"))]
    #[case::of_one_that_nobody_remembers("2026-11-20T00:00:00Z", Some("old"))]
    #[case::before_all("2026-11-01T00:00:00Z", None)]
    fn a_moment_is_in_the_archive_of_who_was_live_then(#[case] moment: &str, #[case] expected: Option<&str>) {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let windows =
            [("first", "2026-11-29T10:00:00Z"), ("second", "2026-11-29T11:30:00Z"), ("old", "2026-11-10T00:00:00Z")];
        let windows = windows.map(|(server, from)| (server.to_owned(), at(from)));
        let first = LiveCluster { cluster: "shop-database".to_owned(), ..LiveCluster::default() };
        let until = at("2026-11-29T12:00:00Z").as_second();
        let named = Some(first.switched("shop-db-1", ("back", "u"), ("first", until)));
        let clusters = Clusters { named, existing: Vec::new(), windows: Some(windows.into()) };
        assert_eq!(clusters.archive_of("second", at(moment)), expected);
        assert_eq!(clusters.reaches_from(), Some(at("2026-11-10T00:00:00Z")));
    }

    /// The first base backup of what a restore made live ends some time after the switch. Until then nothing reaches a moment after it:
    /// the archive of the one before goes on, and has other data.
    #[test]
    fn between_a_switch_and_the_first_base_backup_no_archive_reaches() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let windows = [("first", "2026-11-29T10:00:00Z"), ("second", "2026-11-29T12:40:00Z")];
        let windows = windows.map(|(server, from)| (server.to_owned(), at(from)));
        let first = LiveCluster { cluster: "shop-database".to_owned(), ..LiveCluster::default() };
        let until = at("2026-11-29T12:00:00Z").as_second();
        let named = Some(first.switched("shop-db-1", ("back", "u"), ("first", until)));
        let clusters = Clusters { named, existing: Vec::new(), windows: Some(windows.into()) };
        for (moment, expected) in [
            ("2026-11-29T11:59:59Z", Some("first")),
            ("2026-11-29T12:19:00Z", None),
            ("2026-11-29T12:41:00Z", Some("second")),
        ] {
            assert_eq!(clusters.archive_of("second", at(moment)), expected, "{moment}");
        }
    }

    #[test]
    fn names_are_those_of_clusters_and_within_50_bytes() {
        let stack = "s".repeat(40);
        let name = recovered_name(&stack, "5e0c37f4-3a55-4b8a-9a86-1c1f2a3b4c5d");
        assert_eq!(name.len(), 50);
        assert!(is_cluster_name(&stack, &name) && is_cluster_name("shop", "shop-database"));
        for database in ["shop_before_0d1f7a", "rorun_restore_0d1f7a", "shop", "shop-dbx"] {
            assert!(!is_cluster_name("shop", database), "{database}");
        }
    }
}
