//! Proves a replication: an object that is written here has to arrive there.

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::contract::ReplicationRule;
use crate::services::ServiceError;
use crate::services::bucket::{BucketClient, BucketTarget, Replicated, Timeouts};

/// How the key of a probe begins.
const KEY: &str = "rorun-replication-probe-";

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    /// Before a question is asked again.
    pub(super) pause: Duration,
    /// For an object to arrive in another bucket.
    pub(super) arrival: Duration,
}

/// What became of the proof.
#[derive(Debug)]
pub(super) enum Proof {
    /// The object arrived. A note: what is left of it, and why.
    Arrived(Option<String>),
    /// It did not, in time.
    Missing(String),
    /// The pod is being stopped.
    Stopped,
}

/// An object that is written to see whether it arrives.
pub(super) struct Probe<'a> {
    source: &'a BucketClient,
    to: &'a ReplicationRule,
    replica: BucketClient,
    /// Whether the keys can look there. If not, the word of the server counts.
    looks: bool,
    key: String,
    written: Instant,
}

/// Whether a key is that of a probe, which is removed soon.
pub(super) fn is_probe(key: &str) -> bool {
    key.rsplit('/').next().is_some_and(|name| name.starts_with(KEY))
}

/// The other bucket, by the same keys. Where the endpoint has the name of the region in it, as Amazon's has, the other one has its.
pub(super) fn destination(target: &BucketTarget, to: &ReplicationRule) -> BucketTarget {
    let endpoint = target.endpoint.replacen(&target.region, &to.region, 1);
    BucketTarget { endpoint, region: to.region.clone(), bucket: to.bucket.clone(), ..target.clone() }
}

impl<'a> Probe<'a> {
    /// Writes it into a folder.
    pub(super) async fn write(
        (source, target): (&'a BucketClient, &BucketTarget),
        to: &'a ReplicationRule,
        folder: &str,
    ) -> Result<Self, ServiceError> {
        let replica = BucketClient::new(&destination(target, to), Timeouts::DATA)?;
        let key = format!("{folder}{KEY}{:016x}", rand::rng().random::<u64>());
        // Whether these keys can look is found out before anything is written.
        let looks = match replica.get(&key).await {
            Ok(_) => true,
            Err(
                ServiceError::AccessDenied { .. }
                | ServiceError::AuthenticationFailed { .. }
                | ServiceError::RoleRefused { .. },
            ) => false,
            Err(error) => return Err(error),
        };
        source.put(&key, key.clone().into_bytes()).await?;
        Ok(Self { source, to, replica, looks, key, written: Instant::now() })
    }

    /// Whether the keys can read the other bucket.
    pub(super) fn looks(&self) -> bool {
        self.looks
    }

    /// Waits for it, and removes it from both buckets by its version.
    pub(super) async fn arrives(self, waits: &Waits, stop: &CancellationToken) -> Result<Proof, ServiceError> {
        let arrived = self.wait(waits, stop).await;
        let left = [(self.source, self.remove(self.source).await), (&self.replica, self.remove(&self.replica).await)];
        let told = |(bucket, removed): (&BucketClient, Result<(), ServiceError>)| {
            Some(format!("{} stays in bucket {}: {}", self.key, bucket.bucket(), removed.err()?))
        };
        let left: Vec<_> = left.into_iter().filter_map(told).collect();
        let (limit, ReplicationRule { bucket, role, .. }) = (waits.arrival.as_secs(), self.to);
        let see =
            format!("see that the role {role} may read here and write there, and that both buckets have versioning");
        Ok(match arrived? {
            Arrival::Arrived => Proof::Arrived((!left.is_empty()).then(|| left.join("; "))),
            Arrival::Late => {
                Proof::Missing(format!("an object did not arrive in bucket \"{bucket}\" within {limit} s: {see}"))
            }
            Arrival::Failed => {
                Proof::Missing(format!("the server failed to copy an object to bucket \"{bucket}\": {see}"))
            }
            Arrival::Stopped => Proof::Stopped,
        })
    }

    async fn wait(&self, waits: &Waits, stop: &CancellationToken) -> Result<Arrival, ServiceError> {
        let end = self.written + waits.arrival;
        loop {
            if self.looks && self.replica.get(&self.key).await?.as_deref() == Some(self.key.as_bytes()) {
                return Ok(Arrival::Arrived);
            }
            match self.source.replicated(&self.key).await? {
                // Of what can be seen the word of a server is no proof.
                Some(Replicated::Done) if !self.looks => return Ok(Arrival::Arrived),
                Some(Replicated::Failed) => return Ok(Arrival::Failed),
                Some(Replicated::Done | Replicated::Pending) | None => {}
            }
            if Instant::now() >= end {
                return Ok(Arrival::Late);
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(Arrival::Stopped),
                () = tokio::time::sleep(waits.pause.max(Duration::from_millis(10))) => {}
            }
        }
    }

    /// Every version of exactly this key.
    async fn remove(&self, bucket: &BucketClient) -> Result<(), ServiceError> {
        for version in bucket.versions(&self.key).await?.iter().filter(|version| version.key == self.key) {
            bucket.delete_version(version).await?;
        }
        Ok(())
    }
}

/// How the waiting ended.
enum Arrival {
    Arrived,
    Late,
    Failed,
    Stopped,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_bucket_is_in_its_own_region() {
        let to = ReplicationRule {
            bucket: "other".to_owned(),
            region: "eu-central-1".to_owned(),
            role: "arn:aws:iam::1:role/r".to_owned(),
        };
        for (endpoint, expected) in [
            ("https://s3.eu-west-1.amazonaws.com", "https://s3.eu-central-1.amazonaws.com"),
            ("https://minio.example.com", "https://minio.example.com"),
        ] {
            let target = BucketTarget {
                endpoint: endpoint.to_owned(),
                region: "eu-west-1".to_owned(),
                bucket: "b".to_owned(),
                force_path_style: true,
                keys: None,
                ca: None,
            };
            let there = destination(&target, &to);
            assert_eq!((there.endpoint.as_str(), there.bucket.as_str()), (expected, "other"));
        }
    }

    #[test]
    fn a_probe_is_known_in_any_folder() {
        for (key, expected) in [
            ("rorun-replication-probe-0", true),
            ("backups/n/s/rorun-replication-probe-0", true),
            ("a-rorun-replication-probe-0", false),
            ("rorun-replication-probe-0/a", false),
        ] {
            assert_eq!(is_probe(key), expected, "{key}");
        }
    }
}
