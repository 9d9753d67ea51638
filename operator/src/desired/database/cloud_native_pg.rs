//! PostgreSQL that CloudNativePG runs: a Cluster, which stays when the stack is deleted, and a Pooler, which does not.

use k8s_openapi::{api::core::v1::LocalObjectReference, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use crate::{
    desired::{Keys, metadata, mode::Mode, probed},
    names::{Component as Name, reason},
    objects::{
        self, ApplyPolicy, Bootstrap, CLUSTER, Certificates, Cluster, ClusterAffinity, ClusterSpec, ClusterStorage,
        DesiredObject, ExternalCluster, HIBERNATION, InitDb, LiveSet, PgBouncer, Plugin, Pooler, PoolerSpec,
        PostgresConfiguration, Readiness, Recovery, RecoveryTarget,
    },
    stack::{
        Recovered, Stack, Volume,
        database::{CLOUD_NATIVE_PG_NAME, CloudNativePg, Pooler as PoolerOf, pooler_of},
    },
};

/// An application with a pool of connections never leaves by itself, so that CloudNativePG's own 180 seconds would be as long without a
/// new connection, wherever a primary is restarted for a new image.
const SMART_SHUTDOWN_SECONDS: i32 = 10;
/// What a Cluster is recovered from, among its external Clusters.
const ORIGIN: &str = "origin";

impl Mode for CloudNativePg {
    fn objects(&self, stack: &Stack) -> Vec<DesiredObject> {
        let metadata = metadata::retained(stack, Name::Database, self.name.clone());
        let asked = stack.backup.as_ref().and_then(|backup| backup.point_in_time.as_ref());
        let archive = asked.and_then(|asked| asked.archive.as_ref()).map(|archive| archive.server_name.as_str());
        let cluster = self.cluster(stack, metadata, (self.origin.as_ref(), archive));
        let cluster = DesiredObject::new(&cluster, ApplyPolicy::Retain);
        let pooler = self.pooler.as_ref().map(|of| DesiredObject::own(&pooler(stack, of)));
        [cluster].into_iter().chain(pooler).collect()
    }

    fn readiness(&self, stack: &Stack, objects: &mut Keys<'_>, live: &LiveSet) -> Readiness {
        for (kind, name) in objects {
            let Some(existing) = live.named(kind, name) else {
                return Readiness::waiting(reason::PROGRESSING, "database is being made");
            };
            if existing.deleting {
                return Readiness::Waiting(objects::terminating(existing));
            }
            let hibernated =
                matches!(&existing.readiness, Readiness::Waiting(waiting) if waiting.reason == reason::HIBERNATED);
            match &existing.readiness {
                _ if stack.asleep && kind != CLUSTER.key => {}
                _ if stack.asleep && hibernated => {}
                Readiness::Ready if stack.asleep => {
                    return Readiness::waiting(reason::PROGRESSING, format!("{} is being hibernated", existing.key()));
                }
                Readiness::Waiting(_) if hibernated => {
                    return Readiness::waiting(reason::PROGRESSING, format!("{} wakes", existing.key()));
                }
                Readiness::Waiting(waiting) => return Readiness::Waiting(waiting.clone()),
                Readiness::Ready => {}
            }
        }
        // What is not asked, and why, concerns the operator's own session alone.
        if stack.asleep || stack.not_probed(Name::Database).is_some() {
            return Readiness::Ready;
        }
        probed(stack, Name::Database)
    }

    /// It archives its own log from its first moment on.
    fn beside(&self, stack: &Stack, (name, origin): &(String, Recovered)) -> Option<DesiredObject> {
        let metadata = metadata::retained(stack, Name::Restore, name.clone());
        let asked = stack.backup.as_ref().and_then(|backup| backup.point_in_time.as_ref());
        let archive = asked.map(|asked| asked.server_of(name));
        let cluster = self.cluster(stack, metadata, (Some(origin), archive.as_deref()));
        Some(DesiredObject::new(&cluster, ApplyPolicy::Retain))
    }
}

impl CloudNativePg {
    /// `origin`: what it is recovered from; `archive`: the folder that its log goes to.
    fn cluster(
        &self,
        stack: &Stack,
        mut metadata: ObjectMeta,
        (origin, archive): (Option<&Recovered>, Option<&str>),
    ) -> Cluster {
        if stack.asleep {
            metadata.annotations.get_or_insert_default().insert(HIBERNATION.to_owned(), "on".to_owned());
        }
        // A certificate for the Cluster's own Services is none for that of the Pooler, whose pods have it too.
        let names = self.pooler.as_ref().map(|_| {
            let pooler = pooler_of(metadata.name.as_deref().unwrap_or_default());
            let namespace = &stack.namespace;
            [format!("{pooler}.{namespace}.svc"), format!("{pooler}.{namespace}"), pooler]
        });
        Cluster {
            metadata,
            spec: ClusterSpec {
                instances: self.instances,
                image_name: self.image.clone(),
                image_pull_secrets: stack
                    .pull_secrets
                    .iter()
                    .cloned()
                    .map(|name| LocalObjectReference { name })
                    .collect(),
                postgres_uid: self.user,
                postgres_gid: self.user,
                storage: storage(&self.storage),
                wal_storage: self.wal_storage.as_ref().map(storage),
                resources: self.resources.clone(),
                postgresql: PostgresConfiguration { parameters: self.parameters.clone() },
                affinity: ClusterAffinity {
                    enable_pod_anti_affinity: true,
                    topology_key: "kubernetes.io/hostname",
                    pod_anti_affinity_type: self.anti_affinity,
                },
                bootstrap: bootstrap(origin),
                external_clusters: origin.into_iter().map(|origin| external(stack, origin)).collect(),
                certificates: names.map(|names| Certificates { server_alt_dns_names: names.into() }),
                smart_shutdown_timeout: SMART_SHUTDOWN_SECONDS,
                plugins: archive.into_iter().map(|to| Plugin::archiving(&stack.child(Name::Backup), to)).collect(),
                enable_superuser_access: false,
            },
        }
    }
}

/// It stays as it was: CloudNativePG reads it once, and what is no longer applied would be filled with a default. A restore makes a
/// database beside the live one, for which the role needs a right. `managed.roles` would give it to a Cluster of before as well, and
/// take from its role whatever rights and memberships somebody gave it by hand.
fn bootstrap(origin: Option<&Recovered>) -> Bootstrap {
    let (database, owner) = (CLOUD_NATIVE_PG_NAME, CLOUD_NATIVE_PG_NAME);
    let recovery = origin.map(|origin| Recovery {
        source: ORIGIN,
        database,
        owner,
        recovery_target: RecoveryTarget { target_time: origin.target.clone() },
    });
    let initdb = recovery.is_none().then(|| InitDb {
        database,
        owner,
        data_checksums: true,
        post_init_sql: vec![format!("ALTER ROLE \"{owner}\" CREATEDB")],
    });
    Bootstrap { initdb, recovery }
}

fn external(stack: &Stack, origin: &Recovered) -> ExternalCluster {
    ExternalCluster { name: ORIGIN, plugin: Plugin::reading(&stack.child(Name::Backup), &origin.server) }
}

fn storage(volume: &Volume) -> ClusterStorage {
    ClusterStorage { size: volume.size.clone(), storage_class: volume.class.clone() }
}

fn pooler(stack: &Stack, of: &PoolerOf) -> Pooler {
    Pooler {
        metadata: metadata::owned(stack, Name::Database, pooler_of(&stack.cluster())),
        spec: PoolerSpec {
            cluster: LocalObjectReference { name: stack.cluster() },
            kind: "rw",
            instances: if stack.asleep { 0 } else { of.instances },
            pgbouncer: PgBouncer { pool_mode: of.mode, image: of.image.clone(), parameters: of.parameters.clone() },
            template: PoolerSpec::pulling_with(&stack.pull_secrets),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::{
        desired::everything,
        objects::DesiredObject,
        plan::plan,
        stack::{ExistingCluster, LiveCluster, Placeholders, Recovered, validate},
    };

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----";

    /// All objects of a stack with a Pooler and an archive, of which this is said and these Clusters are there.
    fn objects(named: Option<&str>, existing: &[&str]) -> Vec<DesiredObject> {
        let spec = json!({"environment": "Development", "api": {"image": "api:1"}, "database": {"cloudNativePG": {"pooler": {}}},
            "backup": {"pointInTime": {"days": 14}}});
        let cr = json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack",
            "metadata": {"name": "shop", "namespace": "n", "uid": "1"}, "spec": spec});
        let cr = serde_json::from_value(cr).unwrap();
        let mut observed = Placeholders { value: "v", authority: PEM, agent_image: "agent:1" }.observed(&cr);
        let cluster = |name: &&str| {
            let recovered = Recovered { server: "origin-1".to_owned(), target: "2026-11-29T10:30:00Z".to_owned() };
            let recovered = name.starts_with("shop-db-").then_some(recovered);
            ExistingCluster { name: (*name).to_owned(), recovered, ..ExistingCluster::default() }
        };
        observed.clusters.existing = existing.iter().map(cluster).collect();
        observed.clusters.named =
            named.map(|cluster| LiveCluster { cluster: cluster.to_owned(), ..LiveCluster::default() });
        for secret in ["app", "ca"] {
            let values = observed.secrets[&format!("shop-database-{secret}")].clone();
            observed.secrets.insert(format!("shop-db-1-{secret}"), values);
        }
        // It archives where it is to.
        let archive = validate(&cr, &observed).backup.and_then(|backup| backup.point_in_time?.archive);
        observed.cluster.as_mut().unwrap().archives_to = archive.map(|archive| archive.server_name);
        let stack = validate(&cr, &observed);
        assert!(stack.unresolved.is_empty(), "{:?}", stack.unresolved);
        everything(&stack, &plan(&stack, &observed, 0))
    }

    #[test]
    fn the_name_of_the_live_one_changes_nothing_of_a_stack_without_a_restore() {
        let plain = objects(None, &[]);
        assert_eq!(plain, objects(None, &["shop-database"]));
        let cluster = plain.iter().find(|object| object.kind.kind == "Cluster").unwrap();
        let initdb = &cluster.body["spec"]["bootstrap"]["initdb"];
        assert_eq!(
            initdb["postInitSQL"],
            json!(["ALTER ROLE \"rorun\" CREATEDB"]),
            "a restore makes a database beside it"
        );
        assert_eq!(plain, objects(Some("shop-database"), &["shop-database"]));
        assert_eq!(
            plain,
            objects(Some("shop-database"), &["shop-database", "shop-db-1"]),
            "one beside it is none of it"
        );
        let text = serde_json::to_string(&plain.iter().map(|object| &object.body).collect::<Vec<_>>()).unwrap();
        assert!(
            !text.contains("externalClusters") && !text.contains("recovery") && !text.contains("shop-database-live")
        );
    }

    #[test]
    fn all_that_names_the_cluster_follows_the_live_one() {
        let objects = objects(Some("shop-db-1"), &["shop-database", "shop-db-1"]);
        let of = |kind: &str| -> Vec<&Value> {
            objects.iter().filter(|object| object.kind.kind == kind).map(|object| &object.body).collect()
        };
        let [cluster] = &*of("Cluster") else { panic!("{:?}", of("Cluster")) };
        assert_eq!(cluster["metadata"]["name"], "shop-db-1");
        let recovery = &cluster["spec"]["bootstrap"]["recovery"];
        assert_eq!(recovery["recoveryTarget"]["targetTime"], "2026-11-29T10:30:00Z", "it is left as it was");
        assert!(cluster["spec"]["bootstrap"]["initdb"].is_null());
        assert_eq!(cluster["spec"]["externalClusters"][0]["plugin"]["parameters"]["serverName"], "origin-1");
        // That of another Cluster would keep it: CloudNativePG lets nobody change the reference.
        assert_eq!(of("Pooler").len(), 1);
        assert_eq!(of("Pooler")[0]["metadata"]["name"], "shop-db-1-pooler");
        assert_eq!(of("Pooler")[0]["spec"]["cluster"]["name"], "shop-db-1");
        assert_eq!(cluster["spec"]["certificates"]["serverAltDNSNames"][2], "shop-db-1-pooler");
        assert_eq!(of("ScheduledBackup").len(), 1);
        assert_eq!(of("ScheduledBackup")[0]["spec"]["cluster"]["name"], "shop-db-1");
        let bytes: k8s_openapi::ByteString = of("Secret")
            .into_iter()
            .find(|secret| secret["metadata"]["name"] == "shop-connection")
            .map(|secret| serde_json::from_value(secret["data"]["DIRECT_URL"].clone()).unwrap())
            .unwrap();
        let url = String::from_utf8(bytes.0).unwrap();
        assert!(url.contains("@shop-db-1-rw.n.svc"), "{url}");
        let text = serde_json::to_string(&objects.iter().map(|object| &object.body).collect::<Vec<_>>()).unwrap();
        assert!(!text.contains("shop-database-rw") && !text.contains("shop-database-ro"));
    }
}
