//! Proves a replication: an object that is written here has to arrive there.

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Waits;
use crate::contract::ReplicationRule;
use crate::services::ServiceError;
use crate::services::bucket::{BucketClient, BucketTarget, Timeouts};

/// How the key of a probe begins.
const KEY: &str = "rorun-replication-probe-";

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

/// Writes an object and waits for it in the other bucket. It is removed from both by its version.
pub(super) async fn prove(
    (source, target): (&BucketClient, &BucketTarget),
    to: &ReplicationRule,
    waits: &Waits,
    stop: &CancellationToken,
) -> Result<Proof, ServiceError> {
    let there = BucketClient::new(&destination(target, to), Timeouts::DATA)?;
    // Whether these keys can look is found out before anything is written.
    there.get(KEY).await?;
    let mut random = rand::rng();
    let key = format!("{KEY}{:016x}", random.random::<u64>());
    let body = key.clone().into_bytes();
    source.put(&key, body.clone()).await?;
    let arrived = wait(&there, (&key, &body), waits, stop).await;
    let left = [(source, remove(source, &key).await), (&there, remove(&there, &key).await)];
    let left: Vec<_> = left
        .into_iter()
        .filter_map(|(bucket, removed)| Some(format!("{key} stays in bucket {}: {}", bucket.bucket(), removed.err()?)))
        .collect();
    let limit = waits.arrival.as_secs();
    Ok(match arrived? {
        Some(true) => Proof::Arrived((!left.is_empty()).then(|| left.join("; "))),
        Some(false) => Proof::Missing(format!(
            "an object did not arrive in bucket \"{}\" within {limit} s: see that the role {} may read here and write there, \
             and that both buckets have versioning",
            to.bucket, to.role
        )),
        None => Proof::Stopped,
    })
}

/// The other bucket, by the same keys. Where the endpoint has the name of the region in it, as Amazon's has, the other one has its.
fn destination(target: &BucketTarget, to: &ReplicationRule) -> BucketTarget {
    let endpoint = target.endpoint.replacen(&target.region, &to.region, 1);
    BucketTarget { endpoint, region: to.region.clone(), bucket: to.bucket.clone(), ..target.clone() }
}

async fn wait(
    there: &BucketClient,
    (key, body): (&str, &[u8]),
    waits: &Waits,
    stop: &CancellationToken,
) -> Result<Option<bool>, ServiceError> {
    let end = Instant::now() + waits.arrival;
    loop {
        if there.get(key).await?.as_deref() == Some(body) {
            return Ok(Some(true));
        }
        if Instant::now() >= end {
            return Ok(Some(false));
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(waits.pause.max(Duration::from_millis(10))) => {}
        }
    }
}

/// Every version of exactly this key.
async fn remove(bucket: &BucketClient, key: &str) -> Result<(), ServiceError> {
    for version in bucket.versions(key).await?.iter().filter(|version| version.key == key) {
        bucket.delete_version(version).await?;
    }
    Ok(())
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
                access_key_id: "i".to_owned(),
                secret_access_key: "k".to_owned(),
                session_token: None,
                ca: None,
            };
            let there = destination(&target, &to);
            assert_eq!((there.endpoint.as_str(), there.bucket.as_str()), (expected, "other"));
        }
    }
}
