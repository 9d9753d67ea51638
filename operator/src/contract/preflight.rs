//! What a Job asks of services from the place of the pods, and what came of it.

use serde::{Deserialize, Serialize};

use super::ServiceFacts;

/// `agent preflight`: asks the services of a stack as its pods do.
pub const PREFLIGHT: &str = "preflight";
/// `agent preflight --key`: the object that is written to the bucket, read, and deleted. Without it the bucket is not asked.
pub const ARG_KEY: &str = "--key";
/// `agent preflight --destination-key`: the same for the bucket of the backups.
pub const ARG_DESTINATION_KEY: &str = "--destination-key";
/// `agent preflight --versions`: whether the bucket is to keep versions, which are listed then.
pub const ARG_VERSIONS: &str = "--versions";

/// The URL that the application uses at run time, in the dialect of libpq.
pub const ENV_ASK_URL: &str = "ASK_DATABASE_URL";
/// The URL that migrations and dumps use, where it is another one.
pub const ENV_ASK_DIRECT_URL: &str = "ASK_DIRECT_URL";
/// The URL of a read replica, where it is another one.
pub const ENV_ASK_READ_URL: &str = "ASK_READ_URL";
/// The bucket of the backups, where it is another one: a [`super::BucketLocation`] as JSON.
pub const ENV_ASK_DESTINATION: &str = "ASK_DESTINATION";

/// The folder of the object that a stack writes to its bucket, below the folder that the stack uses.
const FOLDER: &str = "_preflight";

/// The object that a stack writes: no other stack has this uid.
pub fn preflight_key(prefix: &str, uid: &str) -> String {
    format!("{prefix}{FOLDER}/{uid}")
}

/// What `agent preflight` writes to [`super::TERMINATION_PATH`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreflightOutcome {
    /// One for each service.
    pub answers: Vec<PreflightAnswer>,
}

/// What one service answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreflightAnswer {
    /// Which: `bucket`, `database`, `database-direct` or `database-read`.
    pub target: String,
    /// What came of it.
    pub verdict: PreflightVerdict,
}

/// What came of asking a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PreflightVerdict {
    /// It does what the application needs.
    Passed {
        /// What it does not do, though the application serves without.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        findings: Vec<PreflightFinding>,
        /// What it says of itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        facts: Option<ServiceFacts>,
    },
    /// It does not.
    Failed(PreflightFinding),
}

/// A reason of `names::reason`, and one line for the user.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreflightFinding {
    /// The reason.
    pub reason: String,
    /// The line.
    pub message: String,
}

impl PreflightOutcome {
    /// What a service answered.
    pub fn of(&self, target: &str) -> Option<&PreflightVerdict> {
        self.answers.iter().find(|answer| answer.target == target).map(|answer| &answer.verdict)
    }

    /// Whether each service does what the application needs.
    pub fn passed(&self) -> bool {
        self.answers.iter().all(|answer| matches!(answer.verdict, PreflightVerdict::Passed { .. }))
    }
}
