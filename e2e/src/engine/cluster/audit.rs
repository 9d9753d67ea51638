//! The audit log of the cluster's API server: how many calls the operator makes, and when, is counted here and not
//! believed. Only two callers are logged: the operator, and the administrator's writes, to see how soon one follows
//! the other. The controllers of the cluster itself would make the log long and nobody asks about them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Cluster;
use crate::engine::test_server::{AuditCall, audit};

/// The namespace that the operator is installed in. Its service accounts are the ones that are logged.
pub const OPERATOR_NAMESPACE: &str = "rorun-system";

const POLICY_FOLDER: &str = "/etc/rorun-audit";
const LOG_FOLDER: &str = "/var/log/rorun-audit";
const LOG: &str = "/var/log/rorun-audit/audit.log";

/// A place in the log: how many lines are before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u64);

/// Writes the policy to a folder of the cluster's own; gives what the node has to mount.
pub(super) fn prepare(folder: &Path) -> Result<Value> {
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": [
            {
                "level": "Request",
                "userGroups": [format!("system:serviceaccounts:{OPERATOR_NAMESPACE}")],
                "verbs": ["create", "update", "patch", "delete", "deletecollection"],
            },
            {"level": "Metadata", "userGroups": [format!("system:serviceaccounts:{OPERATOR_NAMESPACE}")]},
            {
                "level": "Metadata",
                "userGroups": ["kubeadm:cluster-admins"],
                "verbs": ["create", "update", "patch", "delete", "deletecollection"],
            },
            {"level": "None"},
        ],
    });
    let folder = folder.join("audit");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("policy.json"), policy.to_string()).context("failed to write the audit policy")?;
    Ok(json!({"hostPath": folder, "containerPath": POLICY_FOLDER, "readOnly": true}))
}

/// What kubeadm tells the API server.
pub(super) fn api_server() -> Value {
    let argument = |name: &str, value: &str| json!({"name": name, "value": value});
    let volume = |name: &str, path: &str, read_only: bool| {
        json!({
            "name": name,
            "hostPath": path,
            "mountPath": path,
            "readOnly": read_only,
            "pathType": "DirectoryOrCreate",
        })
    };
    json!({
        "extraArgs": [
            argument("audit-policy-file", &format!("{POLICY_FOLDER}/policy.json")),
            argument("audit-log-path", LOG),
            // An answer waits for its line, and no line moves to another file.
            argument("audit-log-mode", "blocking"),
            argument("audit-log-maxsize", "100000"),
        ],
        "extraVolumes": [volume("audit-policy", POLICY_FOLDER, true), volume("audit-log", LOG_FOLDER, false)],
    })
}

impl Cluster {
    /// A place in the audit log after every call that was answered so far, for [`Cluster::calls_since`].
    pub fn mark(&self) -> Result<Mark> {
        // Bytes may end within a line, of a call that is not answered yet.
        let lines = self.docker().exec(&self.node(), &["sh", "-c", &format!("wc -l < {LOG}")]);
        Ok(Mark(lines.context("the cluster has no audit log")?.trim().parse()?))
    }

    /// The calls of the operator, and the administrator's writes, that were answered since the mark.
    pub fn calls_since(&self, mark: Mark) -> Result<Vec<AuditCall>> {
        let from = format!("--lines=+{}", mark.0 + 1);
        let log = self.docker().exec(&self.node(), &["tail", &from, LOG])?;
        audit::parse(&log).context("failed to read the audit log")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_is_where_the_api_server_reads_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let mount = prepare(folder.path()).expect("prepared");
        assert!(api_server().to_string().contains(mount["containerPath"].as_str().expect("a path")));
        let policy = fs::read_to_string(folder.path().join("audit/policy.json")).expect("a policy");
        assert!(policy.contains("system:serviceaccounts:rorun-system"));
    }
}
