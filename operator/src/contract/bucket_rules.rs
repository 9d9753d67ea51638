//! The rules that the agent sets on a bucket, and what became of them.

use serde::{Deserialize, Serialize};

/// `agent bucket-rules`: sets the rules of a stack on its bucket.
pub const BUCKET_RULES: &str = "bucket-rules";
/// `agent bucket-rules --rules`: [`BucketRules`] as JSON.
pub const ARG_RULES: &str = "--rules";
/// The exit code where another attempt would end the same: the keys may not do it.
pub const RULES_REFUSED: u8 = 2;

/// The storage class that objects are archived to: the cheapest that answers at once.
pub const ARCHIVE_CLASS: &str = "GLACIER_IR";
/// What an upload from a page needs.
pub const CORS_METHODS: [&str; 4] = ["GET", "HEAD", "PUT", "POST"];
/// How long a browser need not ask again, in seconds.
pub const CORS_SECONDS: u32 = 3600;

/// The name of a bucket as Amazon writes it, in the partition of a role: `aws`, `aws-cn`, or that of another server.
pub fn bucket_arn(bucket: &str, role: &str) -> String {
    let partition = role.split(':').nth(1).filter(|name| name.starts_with("aws")).unwrap_or("aws");
    format!("arn:{partition}:s3:::{bucket}")
}

/// What a stack asks of its bucket. Empty: none of its rules are to be there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BucketRules {
    /// How the ids of the stack's rules begin. It ends in a character that no name of a stack has, so that it is the beginning of
    /// no other stack's.
    pub ids: String,
    /// Somebody else sets them: they are compared with what the bucket has, and none is written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub compared: bool,
    /// What becomes of objects as time goes by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<LifecycleRules>,
    /// The pages that browsers let send requests to the bucket.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<String>,
    /// Where the server copies objects to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<ReplicationRule>,
}

impl BucketRules {
    /// How the ids begin of a stack's rules, by the owner of its backups: `<uid of a namespace>/<name of a stack>`.
    pub fn ids(owner: &str) -> String {
        format!("rorun-{}.", owner.replace('/', "-"))
    }
}

/// What becomes of objects as time goes by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LifecycleRules {
    /// The keys that it is about start so; empty for all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// The age in days at which an object moves to cheaper storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive_after_days: Option<i32>,
    /// How many days after it was overwritten or deleted a version is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_noncurrent_after_days: Option<i32>,
    /// How many days after its beginning an upload that is not complete is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort_incomplete_uploads_after_days: Option<i32>,
}

/// Where the server copies objects to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationRule {
    /// The name of the other bucket.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// The role that the server copies as.
    pub role: String,
}

/// What `agent bucket-rules` writes to [`super::TERMINATION_PATH`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RulesOutcome {
    /// The rules are set, but for those that the server cannot keep.
    Set {
        /// One sentence for each of these.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        notes: Vec<String>,
    },
    /// Some are not.
    Failed {
        /// The reason of the condition.
        reason: String,
        /// One line for the user.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_of_no_stack_begin_those_of_another() {
        let [shop, other] = ["shop", "shop-eu"].map(|name| BucketRules::ids(&format!("6f1f3a5c/{name}")));
        assert_eq!(shop, "rorun-6f1f3a5c-shop.");
        assert!(!other.starts_with(&shop) && !shop.starts_with(&other));
    }
}
