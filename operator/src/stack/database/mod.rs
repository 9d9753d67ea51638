//! PostgreSQL, in one of its modes.

mod cloud_native_pg;
mod data;
mod embedded;
mod external;
mod pooler;
mod proxy;
mod rds;
mod url_style;

pub(super) use cloud_native_pg::add_references;
pub use cloud_native_pg::{CloudNativePg, NAME as CLOUD_NATIVE_PG_NAME, pooler_of};
pub(crate) use data::user;
pub use data::{DataFiles, Layout};
pub use embedded::Embedded;
pub use external::External;
pub use pooler::{Pooler, PoolerLimits};
pub use proxy::Proxy;
pub use rds::{Provisioning, Rds, gibibytes};

use super::mode::{ModeAccess, Resolve, written};
use crate::{
    api::v1alpha1::{DatabaseSpec, EmbeddedDatabase, RorunStackSpec, UrlStyle},
    contract::{ClientCertificate, PostgresUrl},
};

/// Where the kubelet asks the proxy of a database whether it has started: a port that no application is likely to listen on.
pub const PROXY_HEALTH_PORT: i32 = 19090;

/// The modes of PostgreSQL.
#[derive(Clone, Debug)]
pub enum Database {
    /// In the cluster.
    Embedded(Box<Embedded>),
    /// On a server that the operator did not make.
    External(Box<External>),
    /// In the cluster, by CloudNativePG.
    CloudNativePg(Box<CloudNativePg>),
    /// On Amazon RDS.
    Rds(Box<Rds>),
}

impl Database {
    /// The mode.
    pub fn mode(&self) -> &dyn ModeAccess<Access = DatabaseAccess> {
        match self {
            Self::Embedded(mode) => &**mode,
            Self::External(mode) => &**mode,
            Self::CloudNativePg(mode) => &**mode,
            Self::Rds(mode) => &**mode,
        }
    }
}

static EMBEDDED: EmbeddedDatabase = EmbeddedDatabase {
    version: None,
    image: None,
    storage: None,
    resources: None,
    scheduling: None,
    pod_template: None,
};

/// The block of the mode that the spec chooses. Admission lets one through.
pub(super) fn chosen(spec: &RorunStackSpec) -> &dyn Resolve<Service = Database> {
    let Some(DatabaseSpec { embedded, external, cloud_native_pg, rds }) = &spec.database else { return &EMBEDDED };
    let blocks = [
        written(rds.as_ref()),
        written(external.as_ref()),
        written(cloud_native_pg.as_ref()),
        written(embedded.as_ref()),
    ];
    blocks.into_iter().flatten().next().unwrap_or(&EMBEDDED)
}

/// The URLs of a database, with the parameters of libpq.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseAccess {
    /// For the application at run time.
    pub url: NamedUrl,
    /// To the server itself.
    pub direct: NamedUrl,
    /// To a read replica.
    pub read: NamedUrl,
    /// The dialect that the application gets.
    pub style: UrlStyle,
    /// Certificate authorities (PEM).
    pub ca: Option<String>,
    /// The certificate by which the database knows its clients. The URLs name its files in the pods.
    pub client: Option<ClientSecret>,
}

/// A certificate of a client, and the Secret that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSecret {
    /// The name of the Secret, which pods mount.
    pub name: String,
    /// The certificate and its key.
    pub certificate: ClientCertificate,
}

impl DatabaseAccess {
    /// A URL as the application's client reads it. `ca_file` is the path of the authorities of the database in its pods.
    pub(super) fn render(&self, url: &NamedUrl, ca_file: Option<&str>) -> String {
        url_style::render(&url.url, self.style, ca_file)
    }
}

/// A URL, and the key that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedUrl {
    /// The URL.
    pub url: PostgresUrl,
    /// The key and the Secret, e.g. `DATABASE_URL in secret/supabase`. Empty for the embedded database.
    pub origin: String,
}
