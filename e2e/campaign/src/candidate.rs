//! An operator among several, of which one leads, and what they write by turns.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rorun_e2e::engine::AuditCall;
use rorun_e2e::engine::record::ProcessRecord;
use serde_json::{Value, json};

use super::environment::{Operator, TestEnvironment};
use super::fleet::Fleet;
use super::gate::Gate;

/// The Lease of the one that leads.
pub(super) const LEASE: &str = "rorun-operator";
const STANDS_BY_WITHIN: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(50);

/// An operator among others.
pub(super) struct Candidate<'a> {
    environment: &'a TestEnvironment,
    /// Its name, which is that of its log too.
    pub(super) name: String,
    /// Its way to the API server.
    pub(super) gate: Gate,
    namespace: String,
    operator: Option<Operator>,
}

impl<'a> Candidate<'a> {
    /// One of the operators of these stacks.
    pub(super) async fn start(fleet: &Fleet<'a>, letter: char) -> Result<Candidate<'a>> {
        let environment = fleet.environment;
        let port = environment
            .server
            .url()
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok())
            .context("a URL without a port")?;
        let name = format!("{}-{letter}", fleet.namespace);
        let (namespace, gate) = (fleet.namespace.clone(), Gate::start(port).await?);
        let mut candidate = Candidate { environment, name, namespace, gate, operator: None };
        candidate.run()?;
        Ok(candidate)
    }

    /// Starts it, as the kubelet would after its end. The audit log knows it by the name in which it asks.
    pub(super) fn run(&mut self) -> Result<()> {
        let folder = self.environment.server.folder();
        let mut kubeconfig: Value =
            serde_json::from_str(&std::fs::read_to_string(&self.environment.server.kubeconfig)?)?;
        kubeconfig["clusters"][0]["cluster"]["server"] = json!(format!("https://{}", self.gate.address()));
        kubeconfig["users"][0]["user"]["as"] = json!(self.name);
        kubeconfig["users"][0]["user"]["as-groups"] = json!(["system:masters"]);
        let path = folder.join(format!("{}.kubeconfig", self.name));
        std::fs::write(&path, kubeconfig.to_string())?;
        let arguments = [
            "--watch-namespace",
            &self.namespace,
            "--namespace",
            &self.namespace,
            "--pod-name",
            &self.name,
            "--lease-name",
            LEASE,
        ];
        self.operator = Some(self.environment.launch(&self.name, &path, &arguments)?);
        Ok(())
    }

    /// Its process.
    pub(super) fn record(&self) -> Result<&ProcessRecord> {
        Ok(&self.operator.as_ref().context("the operator does not run")?.record)
    }

    /// Ends it at once. It is not started again before [`Candidate::run`].
    pub(super) fn kill(&mut self) -> Result<()> {
        self.record()?.kill();
        self.operator = None;
        Ok(())
    }

    /// Starts it again when it has ended. It may end when it has lost the Lease, and says so; a problem if it did otherwise.
    pub(super) fn restart_if_ended(&mut self) -> Result<Option<String>> {
        let Some(operator) = &mut self.operator else { return Ok(None) };
        let Some(status) = operator.child.try_wait()? else { return Ok(None) };
        let log = std::fs::read_to_string(self.environment.log(&self.name)).unwrap_or_default();
        let last = log.lines().last().unwrap_or_default().to_owned();
        self.run()?;
        Ok((!last.contains("leadership is lost")).then(|| format!("O8 the operator ended by itself, {status}: {last}")))
    }
}

/// Waits until it waits for the Lease.
pub(super) async fn until_standing_by(environment: &TestEnvironment, candidate: &Candidate<'_>) -> Result<()> {
    let deadline = Instant::now() + STANDS_BY_WITHIN;
    while !tokio::fs::read_to_string(environment.log(&candidate.name)).await.unwrap_or_default().contains("standing by")
    {
        if Instant::now() > deadline {
            bail!("{} does not stand by", candidate.name);
        }
        tokio::time::sleep(TICK).await;
    }
    Ok(())
}

/// The writes of operators, in the order of the answers, without Leases and Events.
pub(super) fn writes<'a>(calls: &'a [AuditCall], namespace: &str) -> Vec<&'a AuditCall> {
    let mut writes: Vec<&AuditCall> = calls
        .iter()
        .filter(|call| call.namespace == namespace && call.user_agent.starts_with("rorun-"))
        .filter(|call| call.is_write() && (200..300).contains(&call.code))
        .filter(|call| call.resource != "leases" && call.resource != "events")
        .collect();
    writes.sort_by_key(|call| call.at);
    writes
}

/// The writes of an operator after another one had taken over. Each operator may lead, and so write, during one period.
pub(super) fn overlaps(writes: &[&AuditCall]) -> Vec<String> {
    let (mut over, mut problems) = (BTreeMap::<&str, &AuditCall>::new(), Vec::new());
    let mut leader: Option<&AuditCall> = None;
    for &call in writes {
        if let Some(before) = leader.filter(|before| before.user != call.user) {
            over.entry(&before.user).or_insert(call);
        }
        if let Some(successor) = over.get(call.user.as_str()) {
            problems.push(format!(
                "O4 {} wrote {}/{} at {}, after {} had begun at {}",
                call.user, call.resource, call.name, call.at, successor.user, successor.at
            ));
        }
        leader = Some(call);
    }
    problems
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn call(user: &str, second: i64) -> AuditCall {
        AuditCall {
            verb: "patch".to_owned(),
            resource: "services".to_owned(),
            subresource: String::new(),
            name: "shop".to_owned(),
            namespace: "n".to_owned(),
            user_agent: "rorun-operator/0.1.0".to_owned(),
            code: 200,
            uri: String::new(),
            user: user.to_owned(),
            at: Timestamp::from_second(second).expect("a time"),
            body: serde_json::Value::Null,
        }
    }

    #[test]
    fn who_has_handed_over_must_not_write_again() {
        let calls = [call("a", 1), call("b", 3), call("a", 2), call("b", 4)];
        assert!(overlaps(&writes(&calls, "n")).is_empty());
        let late = [call("a", 1), call("b", 3), call("a", 4), call("b", 5)];
        assert_eq!(overlaps(&writes(&late, "n")).len(), 2);
        assert!(writes(&calls, "another").is_empty());
    }
}
