//! The S3 bucket, in one of its modes.

mod embedded;
mod external;
mod rules;
mod s3;

pub use embedded::Embedded;
pub use external::External;
pub use rules::asks_for_rules;
pub use s3::S3;

pub(super) use external::{access, is_by_role, keys, named, probing, unusual_keys};
pub(super) use rules::{replication, rules};

use std::collections::BTreeMap;

use super::mode::{ModeAccess, Resolve, written};
use crate::{
    api::v1alpha1::{BucketServer, BucketSpec, Checksums, EmbeddedBucket, RorunStackSpec},
    names::meaning,
};

/// The modes of the bucket.
#[derive(Clone, Debug)]
pub enum Bucket {
    /// On a server in the cluster.
    Embedded(Box<Embedded>),
    /// On a server that the operator did not make.
    External(Box<External>),
    /// On Amazon S3.
    S3(Box<S3>),
}

impl Bucket {
    /// The mode.
    pub fn mode(&self) -> &dyn ModeAccess<Access = BucketAccess> {
        match self {
            Self::Embedded(mode) => &**mode,
            Self::External(mode) => &**mode,
            Self::S3(mode) => &**mode,
        }
    }

    /// The bucket and the keys to it.
    pub fn access(&self) -> Option<&BucketAccess> {
        self.mode().access()
    }
}

static EMBEDDED: EmbeddedBucket =
    EmbeddedBucket { server: None, image: None, storage: None, resources: None, scheduling: None, pod_template: None };

/// The block of the mode that the spec chooses. Admission lets one through.
pub(super) fn chosen(spec: &RorunStackSpec) -> &dyn Resolve<Service = Bucket> {
    let Some(BucketSpec { embedded, external, s3, .. }) = &spec.bucket else { return &EMBEDDED };
    let blocks = [written(s3.as_ref()), written(external.as_ref()), written(embedded.as_ref())];
    blocks.into_iter().flatten().next().unwrap_or(&EMBEDDED)
}

/// `spec.bucket.versioning`, which applies to each mode.
fn versioning(spec: &RorunStackSpec) -> Option<bool> {
    spec.bucket.as_ref().and_then(|bucket| bucket.versioning)
}

/// The port that an S3 server listens on.
pub fn bucket_port(server: BucketServer) -> i32 {
    match server {
        BucketServer::SeaweedFS => 8333,
        BucketServer::MinIO | BucketServer::RustFS => 9000,
    }
}

/// A bucket and who uses it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BucketAccess {
    /// The URL of the S3 service.
    pub endpoint: String,
    /// The region to sign for.
    pub region: String,
    /// The name of the bucket.
    pub name: String,
    /// `https://endpoint/bucket/key` instead of `https://bucket.endpoint/key`.
    pub force_path_style: bool,
    /// The keys. `None`: the pods use it by the role of the cloud that their accounts have.
    pub keys: Option<AccessKeys>,
    /// The checksums that the application's client is to send and expect. `None`: the client decides.
    pub checksums: Option<Checksums>,
    /// Certificate authorities (PEM).
    pub ca: Option<String>,
}

impl BucketAccess {
    /// The same bucket by other keys.
    #[must_use]
    pub fn by(&self, keys: &AccessKeys) -> Self {
        Self { keys: Some(keys.clone()), ..self.clone() }
    }

    /// The token of temporary keys.
    pub fn session_token(&self) -> Option<&SessionToken> {
        self.keys.as_ref()?.session_token.as_ref()
    }

    /// What the keys mean for the name of a Job that finds out what they may do, with `salt`: other keys may have other rights, and so may
    /// another role, by the annotations of the account that has it. Temporary keys are others every hour, and mean nothing.
    pub fn meaning_of_keys(&self, salt: &str, annotations: &BTreeMap<String, String>) -> String {
        match &self.keys {
            Some(AccessKeys { session_token: Some(_), .. }) => String::new(),
            Some(AccessKeys { id, secret, .. }) => meaning(&[salt, id, secret]),
            None => {
                let annotations = annotations.iter().flat_map(|(key, value)| [key.as_str(), value]);
                meaning(&[salt, "cloudRole"].into_iter().chain(annotations).collect::<Vec<_>>())
            }
        }
    }
}

/// The keys of an S3 service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AccessKeys {
    /// Access key id.
    pub id: String,
    /// Secret access key.
    pub secret: String,
    /// The session token of temporary keys.
    pub session_token: Option<SessionToken>,
}

/// The token that comes with keys of limited life.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionToken {
    /// The token.
    pub value: String,
    /// Whether the spec names its key. Else the operator read the key `AWS_SESSION_TOKEN`.
    pub named: bool,
}
