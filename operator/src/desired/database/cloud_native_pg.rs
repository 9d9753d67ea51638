//! PostgreSQL that CloudNativePG runs: a Cluster, which stays when the stack is deleted, and a Pooler, which does not.

use k8s_openapi::api::core::v1::LocalObjectReference;

use crate::{
    desired::{Keys, metadata, mode::Mode, probed},
    names::{Component as Name, ROLE_POOLER, reason},
    objects::{
        self, ApplyPolicy, Bootstrap, CLUSTER, Certificates, Cluster, ClusterAffinity, ClusterSpec, ClusterStorage,
        DesiredObject, HIBERNATION, InitDb, LiveSet, PgBouncer, Plugin, Pooler, PoolerSpec, PostgresConfiguration,
        Readiness,
    },
    stack::{
        Stack, Volume,
        database::{CLOUD_NATIVE_PG_NAME, CloudNativePg, Pooler as PoolerOf},
    },
};

/// An application with a pool of connections never leaves by itself, so that CloudNativePG's own 180 seconds would be as long without a
/// new connection, wherever a primary is restarted for a new image.
const SMART_SHUTDOWN_SECONDS: i32 = 10;

impl Mode for CloudNativePg {
    fn objects(&self, stack: &Stack) -> Vec<DesiredObject> {
        let cluster = DesiredObject::new(&self.cluster(stack), ApplyPolicy::Retain);
        let pooler = self.pooler.as_ref().map(|of| DesiredObject::own(&pooler(stack, of)));
        [cluster].into_iter().chain(pooler).collect()
    }

    fn readiness(&self, stack: &Stack, objects: &mut Keys<'_>, live: &LiveSet) -> Readiness {
        for (kind, name) in objects {
            let Some(there) = live.named(kind, name) else {
                return Readiness::waiting(reason::PROGRESSING, "database is being made");
            };
            if there.deleting {
                return Readiness::Waiting(objects::terminating(there));
            }
            let hibernated =
                matches!(&there.readiness, Readiness::Waiting(waiting) if waiting.reason == reason::HIBERNATED);
            match &there.readiness {
                _ if stack.asleep && kind != CLUSTER.key => {}
                _ if stack.asleep && hibernated => {}
                Readiness::Ready if stack.asleep => {
                    return Readiness::waiting(reason::PROGRESSING, format!("{} is being hibernated", there.key()));
                }
                Readiness::Waiting(_) if hibernated => {
                    return Readiness::waiting(reason::PROGRESSING, format!("{} wakes", there.key()));
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
}

impl CloudNativePg {
    fn cluster(&self, stack: &Stack) -> Cluster {
        let mut metadata = metadata::retained(stack, Name::Database, stack.child(Name::Database));
        if stack.asleep {
            metadata.annotations.get_or_insert_default().insert(HIBERNATION.to_owned(), "on".to_owned());
        }
        // A certificate for the Cluster's own Services is none for that of the Pooler, whose pods have it too.
        let names = self.pooler.as_ref().map(|_| {
            let pooler = stack.child_role(Name::Database, ROLE_POOLER);
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
                bootstrap: Bootstrap {
                    initdb: InitDb {
                        database: CLOUD_NATIVE_PG_NAME,
                        owner: CLOUD_NATIVE_PG_NAME,
                        data_checksums: true,
                    },
                },
                certificates: names.map(|names| Certificates { server_alt_dns_names: names.into() }),
                smart_shutdown_timeout: SMART_SHUTDOWN_SECONDS,
                plugins: plugins(stack),
                enable_superuser_access: false,
            },
        }
    }
}

fn plugins(stack: &Stack) -> Vec<Plugin> {
    let asked = stack.backup.as_ref().and_then(|backup| backup.point_in_time.as_ref());
    let archive = asked.and_then(|asked| asked.archive.as_ref());
    archive.into_iter().map(|of| Plugin::archiving(&stack.child(Name::Backup), &of.server_name)).collect()
}

fn storage(volume: &Volume) -> ClusterStorage {
    ClusterStorage { size: volume.size.clone(), storage_class: volume.class.clone() }
}

fn pooler(stack: &Stack, of: &PoolerOf) -> Pooler {
    Pooler {
        metadata: metadata::owned(stack, Name::Database, stack.child_role(Name::Database, ROLE_POOLER)),
        spec: PoolerSpec {
            cluster: LocalObjectReference { name: stack.child(Name::Database) },
            kind: "rw",
            instances: if stack.asleep { 0 } else { of.instances },
            pgbouncer: PgBouncer { pool_mode: of.mode, image: of.image.clone(), parameters: of.parameters.clone() },
            template: PoolerSpec::pulling_with(&stack.pull_secrets),
        },
    }
}
