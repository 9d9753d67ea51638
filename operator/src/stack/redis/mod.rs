//! Redis or Valkey, in one of its modes.

mod elasti_cache;
mod embedded;
mod external;
mod url;

pub use elasti_cache::{ElastiCache, Nodes};
pub use embedded::Embedded;
pub use external::External;

use super::mode::{ModeAccess, Resolve, written};
use crate::api::v1alpha1::{EmbeddedRedis, RedisSpec, RorunStackSpec};

/// The modes of Redis.
#[derive(Clone, Debug)]
pub enum Redis {
    /// In the cluster.
    Embedded(Box<Embedded>),
    /// On a server that the operator did not make.
    External(Box<External>),
    /// On Amazon ElastiCache.
    ElastiCache(Box<ElastiCache>),
}

impl Redis {
    /// The mode.
    pub fn mode(&self) -> &dyn ModeAccess<Access = RedisAccess> {
        match self {
            Self::Embedded(mode) => &**mode,
            Self::External(mode) => &**mode,
            Self::ElastiCache(mode) => &**mode,
        }
    }
}

static EMBEDDED: EmbeddedRedis = EmbeddedRedis {
    image: None,
    storage: None,
    resources: None,
    tls_secret_ref: None,
    scheduling: None,
    pod_template: None,
};

/// The block of the mode that the spec chooses. Admission lets one through.
pub(super) fn chosen(spec: &RorunStackSpec) -> &dyn Resolve<Service = Redis> {
    let Some(RedisSpec { embedded, external, elasti_cache }) = &spec.redis else { return &EMBEDDED };
    let blocks = [written(elasti_cache.as_ref()), written(external.as_ref()), written(embedded.as_ref())];
    blocks.into_iter().flatten().next().unwrap_or(&EMBEDDED)
}

/// The address of a Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisAccess {
    /// The whole URL.
    pub url: String,
    /// Host name or address, an IPv6 address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The user that is told beside the URL. `None`: the URL alone tells it.
    pub username: Option<String>,
    /// Password, decoded.
    pub password: String,
    /// Certificate authorities (PEM).
    pub ca: Option<String>,
    /// Whether the spec says that it is in cluster mode. `None`: it says nothing.
    pub cluster_mode: Option<bool>,
}
