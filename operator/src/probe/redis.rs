//! What a Redis says of itself, against what the spec says of it.

use std::time::Duration;

use super::{
    Answer,
    ask::{Asked, Measured},
};
use crate::{
    contract::{ClusterMode, ServiceFacts, version},
    names::{Waiting, reason},
    services::{
        Network, ServiceError,
        redis::{self, RedisInfo, RedisTarget},
    },
};

/// A Redis to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisQuestion {
    /// Where it is.
    pub target: RedisTarget,
    /// What the spec says of its cluster mode.
    pub cluster_mode: ClusterMode,
}

impl RedisQuestion {
    pub(super) async fn ask(&self, network: &Network, timeout: Duration) -> Result<Asked, ServiceError> {
        let info = redis::check_through(network, &self.target, timeout).await?;
        Ok(match judge(self.cluster_mode, &info) {
            Ok(note) => {
                let facts = ServiceFacts { version: info.version.as_deref().and_then(version), database: None };
                Asked::answers(note, facts, info.latency)
            }
            Err(mismatch) => {
                Asked { answer: Answer::Failed(mismatch), measured: Some(Measured::latency(info.latency)) }
            }
        })
    }
}

/// A server that will not say what it is, is taken as the spec has it.
fn judge(cluster_mode: ClusterMode, info: &RedisInfo) -> Result<Option<String>, Waiting> {
    let ClusterMode { declared, field, is_not, is } = cluster_mode;
    let mismatch = match (declared, info.cluster) {
        (Some(true), Some(false)) => Some(format!("the server is not in cluster mode, and {field} is true: {is_not}")),
        // A cluster of one node that has all slots serves a client that knows nothing of clusters.
        (None | Some(false), Some(true)) if info.shards != Some(1) || declared == Some(false) => Some(format!(
            "the server is in cluster mode, where a client that does not know of it fails for most keys: {is}"
        )),
        _ => None,
    };
    if let Some(mismatch) = mismatch {
        return Err(Waiting::new(reason::CLUSTER_MODE_MISMATCH, mismatch));
    }
    let one_node = info.cluster == Some(true) && declared.is_none();
    let one_node = one_node.then(|| format!("the server is a cluster of one node: before it has more, {is}"));
    let eviction = match info.eviction {
        Some("noeviction") => None,
        Some(policy) => Some(format!(
            "maxmemory-policy is {policy}: when its memory is full the server removes keys, and with them jobs of a queue; \
             set it to noeviction"
        )),
        None => Some("maxmemory-policy is unknown, since the server does not say; a queue needs noeviction".to_owned()),
    };
    let not_saved = info.not_saved.then(|| {
        "the server could not write its data to its disk, and refuses writes unless it is set otherwise: see that the disk is not full"
            .to_owned()
    });
    let notes: Vec<_> = not_saved.into_iter().chain(one_node).chain(eviction).collect();
    Ok((!notes.is_empty()).then(|| notes.join("; ")))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const FIELD: ClusterMode = ClusterMode {
        declared: None,
        field: "redis.external.clusterMode",
        is_not: "remove clusterMode",
        is: "set redis.external.clusterMode to true",
    };

    fn info(cluster: Option<bool>, shards: Option<u32>, eviction: Option<&'static str>) -> RedisInfo {
        RedisInfo { cluster, shards, eviction, ..RedisInfo::default() }
    }

    #[rstest]
    #[case::as_declared(Some(true), Some(true), Some(3), None)]
    #[case::alone(None, Some(false), None, None)]
    #[case::alone_as_declared(Some(false), Some(false), None, None)]
    #[case::unknown(Some(true), None, None, None)]
    #[case::unknown_alone(None, None, None, None)]
    #[case::declared_and_not(Some(true), Some(false), None, Some("clusterMode is true"))]
    #[case::not_declared(None, Some(true), Some(3), Some("set redis.external.clusterMode to true"))]
    #[case::of_unknown_size(None, Some(true), None, Some("set redis.external.clusterMode to true"))]
    #[case::denied(Some(false), Some(true), Some(1), Some("set redis.external.clusterMode to true"))]
    fn cluster_mode_is_compared_both_ways(
        #[case] declared: Option<bool>,
        #[case] cluster: Option<bool>,
        #[case] shards: Option<u32>,
        #[case] expected: Option<&str>,
    ) {
        match (judge(ClusterMode { declared, ..FIELD }, &info(cluster, shards, Some("noeviction"))), expected) {
            (Ok(None), None) => {}
            (Err(waiting), Some(expected)) => {
                assert_eq!(waiting.reason, reason::CLUSTER_MODE_MISMATCH);
                assert!(waiting.message.contains(expected), "{}", waiting.message);
            }
            (answer, _) => panic!("{answer:?}"),
        }
    }

    #[rstest]
    #[case(Some("noeviction"), None)]
    #[case(Some("allkeys-lru"), Some("maxmemory-policy is allkeys-lru"))]
    #[case(None, Some("maxmemory-policy is unknown"))]
    fn a_queue_needs_noeviction(#[case] policy: Option<&'static str>, #[case] expected: Option<&str>) {
        let note = judge(FIELD, &info(None, None, policy)).expect("it answers");
        assert_eq!(note.is_some(), expected.is_some(), "{note:?}");
        assert!(note.unwrap_or_default().starts_with(expected.unwrap_or_default()));
        let note = judge(FIELD, &info(Some(true), Some(1), policy)).expect("a cluster of one node answers");
        let note = note.expect("a note");
        assert!(note.starts_with("the server is a cluster of one node"), "{note}");
    }
}
