//! Sets the rules of a stack on its bucket: lifecycle, CORS and replication.
//!
//! Each is one document for the whole bucket, which others have rules in too: theirs stay byte for byte, and the stack's are found
//! by their ids. What the server cannot do is a note, and the rest is set.

mod merge;
mod wanted;

use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use self::merge::{Asked, bring_about};
use self::wanted::wanted;
use super::BucketRulesArgs;
use super::replication::{Probe, Proof, Waits};
use crate::contract::{BucketRules, RulesOutcome};
use crate::names::reason;
use crate::services::ServiceError;
use crate::services::bucket::{BucketClient, RuleKind, Timeouts};

/// Why rules are not set.
#[derive(Debug, thiserror::Error)]
pub(super) enum RulesError {
    /// The authorities of the bucket could not be read.
    #[error("failed to read the certificate authorities in {}: {source}", .path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The service.
    #[error("{kind}: {source}")]
    Service {
        /// The field of the spec.
        kind: &'static str,
        /// What is wrong.
        source: ServiceError,
    },
    /// Whoever sets the rules has not set them so.
    #[error("{kind}: {why}")]
    Differs {
        /// The field of the spec.
        kind: &'static str,
        /// What is not as it is asked for.
        why: String,
    },
    /// A replication is set, and nothing arrives.
    #[error("replication: {0}")]
    NotProven(String),
    /// The pod is being stopped.
    #[error("stopped by a signal")]
    Stopped,
}

impl RulesError {
    /// The reason of the condition.
    fn reason(&self) -> reason::Reason {
        match self {
            Self::Authorities { .. } => reason::TLS_FAILED,
            Self::NotProven(_) => reason::REPLICATION_NOT_PROVEN,
            Self::Stopped => reason::PROGRESSING,
            Self::Differs { .. } => reason::UNSUPPORTED,
            Self::Service { source, .. } => match source {
                ServiceError::TlsFailed { .. } => reason::TLS_FAILED,
                ServiceError::AuthenticationFailed { .. } | ServiceError::RoleRefused { .. } => {
                    reason::AUTHENTICATION_FAILED
                }
                ServiceError::Missing { .. } => reason::NOT_FOUND,
                ServiceError::AccessDenied { .. } => reason::ACCESS_DENIED,
                ServiceError::Unsupported { .. } => reason::UNSUPPORTED,
                ServiceError::Unreachable { .. } | ServiceError::Refused { .. } | ServiceError::Other { .. } => {
                    reason::UNREACHABLE
                }
            },
        }
    }

    /// Whether another attempt would end the same.
    pub(super) fn is_final(&self) -> bool {
        // It may be set yet, and the next pod may get the role that this one did not.
        if matches!(self, Self::Differs { .. } | Self::Service { source: ServiceError::RoleRefused { .. }, .. }) {
            return false;
        }
        matches!(
            self.reason(),
            reason::AUTHENTICATION_FAILED | reason::ACCESS_DENIED | reason::NOT_FOUND | reason::UNSUPPORTED
        )
    }

    pub(super) fn outcome(&self) -> RulesOutcome {
        RulesOutcome::Failed { reason: self.reason().to_owned(), message: self.to_string() }
    }
}

/// Sets what the arguments say. The notes are about what the server cannot do.
pub(super) async fn set(args: &BucketRulesArgs, stop: &CancellationToken) -> Result<Vec<String>, RulesError> {
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).map_err(|source| RulesError::Authorities { path: path.clone(), source })
    };
    let target = args.bucket.target(args.bucket_ca_file.as_ref().map(read).transpose()?);
    let service = |kind| move |source| RulesError::Service { kind, source };
    let bucket = BucketClient::new(&target, Timeouts::DATA).map_err(service("bucket"))?;
    let waits = Waits {
        pause: Duration::from_millis(args.pause_milliseconds),
        arrival: Duration::from_secs(args.arrival_seconds),
    };
    let (mut notes, mut failed, mut replicates) = (Vec::new(), None, false);
    for kind in RuleKind::ALL {
        // Never within a kind: a rule that came back wider must not stay.
        if stop.is_cancelled() {
            return Err(RulesError::Stopped);
        }
        if args.rules.compared {
            replicates |= compare_kind(&bucket, kind, &args.rules, &mut notes).await?;
            continue;
        }
        match Box::pin(set_kind(&bucket, kind, &args.rules, waits.pause)).await {
            Ok(told) => {
                replicates |= kind == RuleKind::Replication && args.rules.replication.is_some() && told.is_empty();
                notes.extend(told);
            }
            // One that is away would let each kind wait as long again.
            Err(source @ ServiceError::Unreachable { .. }) => return Err(service(kind.as_str())(source)),
            // The other kinds are set all the same.
            Err(source) => failed = failed.or(Some(service(kind.as_str())(source))),
        }
    }
    if let Some(failed) = failed {
        return Err(failed);
    }
    let Some(to) = args.rules.replication.as_ref().filter(|_| replicates) else { return Ok(notes) };
    let probe = Probe::write((&bucket, &target), to, "").await.map_err(service("replication"))?;
    match Box::pin(probe.arrives(&waits, stop)).await.map_err(service("replication"))? {
        Proof::Arrived(left) => notes.extend(left),
        Proof::Missing(why) => return Err(RulesError::NotProven(why)),
        Proof::Stopped => return Err(RulesError::Stopped),
    }
    Ok(notes)
}

/// Compares the rules of one kind with those that the bucket has. Returns whether it is to replicate, and does.
async fn compare_kind(
    bucket: &BucketClient,
    kind: RuleKind,
    rules: &BucketRules,
    notes: &mut Vec<String>,
) -> Result<bool, RulesError> {
    let replicates = kind == RuleKind::Replication && rules.replication.is_some();
    let document = match bucket.rules(kind).await {
        Ok(document) => document,
        // The keys of the bucket need not be those of its controller.
        Err(error @ ServiceError::AccessDenied { .. }) => {
            notes.push(format!("bucket.{} could not be compared: {error}", kind.as_str()));
            return Ok(replicates);
        }
        Err(source) => return Err(RulesError::Service { kind: kind.as_str(), source }),
    };
    let asked = Asked { ids: &rules.ids, rules: wanted(kind, rules), role: role(kind, rules) };
    match asked.missed_by(&document) {
        Some(why) => Err(RulesError::Differs { kind: kind.as_str(), why }),
        None => Ok(replicates),
    }
}

fn role(kind: RuleKind, rules: &BucketRules) -> Option<&str> {
    rules.replication.as_ref().filter(|_| kind == RuleKind::Replication).map(|to| to.role.as_str())
}

/// Sets the rules of one kind. The notes are about those that the server does not keep.
async fn set_kind(
    bucket: &BucketClient,
    kind: RuleKind,
    rules: &BucketRules,
    pause: Duration,
) -> Result<Vec<String>, ServiceError> {
    let asked = wanted(kind, rules);
    let role = role(kind, rules);
    let before = match bucket.rules(kind).await {
        Ok(before) => before,
        // Of a server that has no such rules nothing is asked, and nothing is left there.
        Err(ServiceError::Unsupported { .. } | ServiceError::AccessDenied { .. }) if asked.is_empty() => {
            return Ok(Vec::new());
        }
        Err(ServiceError::Unsupported { detail, .. }) => return Ok(vec![unsupported(kind.as_str(), &detail)]),
        Err(error) => return Err(error),
    };
    let asked = Asked { ids: &rules.ids, rules: asked, role };
    let not_kept = bring_about(bucket, before, asked, pause).await?;
    let name = |id: &str| match (kind, id.strip_prefix(&rules.ids).unwrap_or_default()) {
        (RuleKind::Lifecycle, "archive") => "lifecycle.archiveAfterDays",
        (RuleKind::Lifecycle, "noncurrent") => "lifecycle.expireNoncurrentAfterDays",
        (RuleKind::Lifecycle, "uploads") => "lifecycle.abortIncompleteUploadsAfterDays",
        _ => kind.as_str(),
    };
    Ok(not_kept.iter().map(|(id, why)| unsupported(name(id), why)).collect())
}

fn unsupported(what: &str, why: &str) -> String {
    format!("Unsupported: bucket.{what}: {why}")
}
