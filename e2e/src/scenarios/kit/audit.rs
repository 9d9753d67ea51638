//! How often the operator writes, by the API server's own log.

use anyhow::Result;

use super::TestCluster;
use super::test_cluster::blocking;
use crate::engine::cluster::{Mark, OPERATOR_NAMESPACE};
use crate::engine::test_server::AuditCall;

/// The writes of the operator to a namespace. Leases and Events are left out: the one is its heartbeat, the other its
/// log, and neither changes what a stack is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writes(pub Vec<AuditCall>);

impl Writes {
    /// One line for each, for messages.
    pub fn lines(&self) -> Vec<String> {
        let line = |call: &AuditCall| {
            let AuditCall { at, verb, resource, subresource, name, code, .. } = call;
            let subresource = if subresource.is_empty() { String::new() } else { format!("/{subresource}") };
            format!("{at} {verb} {resource}{subresource} {name} {code}")
        };
        self.0.iter().map(line).collect()
    }

    /// Writes that the API server carried out. One that was refused has changed nothing: an object that the operator no
    /// longer sees, since its labels are gone, is first made in a way that overwrites none of the same name.
    #[must_use]
    pub fn done(&self) -> Writes {
        Writes(self.0.iter().filter(|call| call.code < 300).cloned().collect())
    }

    /// Writes to anything but the status of the stack.
    #[must_use]
    pub fn to_children(&self) -> Writes {
        Writes(self.0.iter().filter(|call| call.resource != "rorunstacks").cloned().collect())
    }
}

impl TestCluster {
    /// A mark in the audit log, for the calls after it.
    pub async fn mark(&self) -> Result<Mark> {
        let cluster = self.cluster.clone();
        blocking(move || cluster.mark()).await
    }

    /// The writes of the operator in a namespace since that mark.
    pub async fn operator_writes_since(&self, mark: Mark, namespace: &str) -> Result<Writes> {
        let calls = self.operator_calls_since(mark).await?;
        let in_scope = |call: &AuditCall| {
            let reported = matches!(call.resource.as_str(), "leases" | "events");
            call.is_write() && !reported && call.namespace == namespace
        };
        Ok(Writes(calls.into_iter().filter(in_scope).collect()))
    }

    /// Every call of the operator since that moment, reads and its own Lease included.
    pub async fn operator_calls_since(&self, mark: Mark) -> Result<Vec<AuditCall>> {
        let prefix = format!("system:serviceaccount:{OPERATOR_NAMESPACE}:");
        let calls = self.calls_since(mark).await?;
        Ok(calls.into_iter().filter(|call| call.user.starts_with(&prefix)).collect())
    }

    /// The calls of the operator and the writes of this process and of kubectl since that moment, in order: how soon one
    /// follows the other.
    pub async fn calls_since(&self, mark: Mark) -> Result<Vec<AuditCall>> {
        let cluster = self.cluster.clone();
        blocking(move || cluster.calls_since(mark)).await
    }
}
