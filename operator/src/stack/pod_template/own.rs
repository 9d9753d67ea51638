//! What of a pod is the operator's: the one list of the names of its containers, volumes, ports and mount paths. A patch that
//! names one of them is judged more strictly; `desired` makes no other, which a test compares.

use crate::{
    contract,
    names::{CLIENT_VOLUME, Component, PROXY},
};

/// What a pod is for, which decides what a patch may add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A workload of the application.
    Workload,
    /// An embedded service with data.
    Server,
    /// A Job that ends.
    Job,
    /// Jobs of several components, which end: a patch names nothing of theirs, since what one of them has another one lacks.
    Jobs,
}

/// What of a component's pods is the operator's.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// The block of the spec that has the `podTemplate`. `None`: the pods follow that of another component.
    pub field: Option<&'static str>,
    pub(super) purpose: Purpose,
    /// The container that does the work.
    pub main: &'static str,
    /// Init containers of the agent.
    pub init: &'static [&'static str],
    /// Volumes that live as long as the pod: their size is the user's to limit.
    pub scratch: &'static [&'static str],
    /// All other volumes.
    pub fixed: &'static [&'static str],
    /// Names of ports that Services lead to.
    pub ports: &'static [&'static str],
    /// Paths that are mounted, and below which nothing else is.
    pub mounts: &'static [&'static str],
}

impl Own {
    /// The path of that block.
    pub(super) fn path(&self) -> &'static str {
        self.field.unwrap_or_default()
    }

    /// The block whose image and resources the pods have, and whose `scheduling` places them: that of a migration is the API's.
    pub(super) fn of_pods(&self) -> &'static str {
        self.path().strip_suffix(".migrations").unwrap_or(self.path())
    }
}

/// A folder that anything may be mounted below, and nothing at.
pub(super) const TEMPORARY: &str = "/tmp";

const WORKLOAD: Own = Own {
    field: None,
    purpose: Purpose::Workload,
    main: "",
    init: &["authorities", PROXY],
    scratch: &["tmp"],
    fixed: &["ca", "given-ca", CLIENT_VOLUME],
    ports: &["http"],
    mounts: &[TEMPORARY, contract::CA_DIRECTORY, contract::GIVEN_DIRECTORY, contract::CLIENT_DIRECTORY],
};

const SERVER: Own = Own {
    field: None,
    purpose: Purpose::Server,
    main: "",
    init: &[],
    scratch: &[],
    fixed: &["data"],
    ports: &[],
    mounts: &[],
};

/// A Job of the agent that needs nothing but authorities.
const ASKS: Own = Own {
    field: None,
    purpose: Purpose::Job,
    main: "set",
    init: &[],
    scratch: &[],
    fixed: &["ca"],
    ports: &[],
    mounts: &[contract::CA_DIRECTORY],
};

/// What of all Jobs without a `podTemplate` of their own is the operator's. None of their containers does the work of all of them, so that
/// each stands among the init containers.
pub const JOBS: Own = Own {
    field: Some("jobs"),
    purpose: Purpose::Jobs,
    main: "",
    init: &["ask", "command", "drill", "install", "provision", "restore", "sanitize", "set", PROXY],
    scratch: &[],
    fixed: &["binary", "ca", "command-tmp", "objects-ca", "shm", "statements", "tmp", "work", CLIENT_VOLUME],
    ports: &[],
    mounts: &[],
};

/// What of the pods of a component is the operator's. `None`: it has no pods, or those of restores, which are of many kinds.
pub fn own(component: Component) -> Option<Own> {
    Some(match component {
        Component::Api => Own { field: Some("api"), main: "api", ..WORKLOAD },
        Component::Ocr => Own { field: Some("ocr"), main: "ocr", ..WORKLOAD },
        Component::Admin => Own { field: Some("admin"), main: "admin", ..WORKLOAD },
        Component::Database => Own {
            field: Some("database.embedded"),
            main: "postgres",
            scratch: &["run", "tmp", "shm"],
            ports: &["postgresql"],
            // Whole: where the files are below it differs between versions.
            mounts: &["/var/lib/postgresql", "/var/run/postgresql", TEMPORARY, "/dev/shm"],
            ..SERVER
        },
        Component::Redis => Own {
            field: Some("redis.embedded"),
            main: "redis",
            // The password is in `auth`, which must not reach a disk.
            fixed: &["data", "auth", "rorun-server-tls"],
            ports: &["redis"],
            mounts: &["/data", "/run/auth", "/run/rorun-tls"],
            ..SERVER
        },
        Component::Bucket => Own {
            field: Some("bucket.embedded"),
            main: "s3",
            scratch: &["tmp"],
            ports: &["s3"],
            mounts: &["/data", TEMPORARY],
            ..SERVER
        },
        Component::Backup
        | Component::Drill
        | Component::Migration
        | Component::SmokeTest
        | Component::BucketRules
        | Component::Preflight => return job(component),
        Component::Connection
        | Component::Ingress
        | Component::Monitoring
        | Component::Restore
        | Component::Sanitize => return None,
    })
}

/// Likewise, of what runs to its end.
fn job(component: Component) -> Option<Own> {
    Some(match component {
        Component::Backup => Own {
            field: Some("backup"),
            purpose: Purpose::Job,
            main: "dump",
            init: &["install", PROXY],
            scratch: &["tmp"],
            fixed: &["binary", "ca", CLIENT_VOLUME],
            ports: &[],
            mounts: &[contract::BINARY_DIRECTORY, TEMPORARY, contract::CA_DIRECTORY, contract::CLIENT_DIRECTORY],
        },
        Component::Drill => Own {
            field: None,
            purpose: Purpose::Job,
            main: "drill",
            init: &["install"],
            scratch: &["tmp", "shm"],
            fixed: &["binary", "ca", "work"],
            ports: &[],
            mounts: &[
                contract::BINARY_DIRECTORY,
                TEMPORARY,
                contract::CA_DIRECTORY,
                contract::WORK_DIRECTORY,
                "/dev/shm",
            ],
        },
        // That of the API does not reach these pods: a sidecar of it would keep a migration from ending.
        Component::Migration => Own {
            field: Some("api.migrations"),
            purpose: Purpose::Job,
            main: "migrate",
            init: &["authorities", PROXY, "lock", "await-lock"],
            scratch: &["tmp", "lock"],
            fixed: &["ca", "given-ca", CLIENT_VOLUME],
            ports: &[],
            mounts: &[
                TEMPORARY,
                contract::CA_DIRECTORY,
                contract::GIVEN_DIRECTORY,
                contract::CLIENT_DIRECTORY,
                contract::LOCK_DIRECTORY,
            ],
        },
        Component::SmokeTest => Own {
            field: None,
            purpose: Purpose::Job,
            main: "ask",
            init: &[],
            scratch: &[],
            fixed: &[],
            ports: &[],
            mounts: &[],
        },
        Component::BucketRules => ASKS,
        Component::Preflight => Own { main: "ask", init: &[PROXY], ..ASKS },
        _ => return None,
    })
}
