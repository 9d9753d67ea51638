//! A port of a pod on 127.0.0.1, by `kubectl port-forward`.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::TestCluster;
use crate::engine::cleanup::{Registration, on_interrupt};
use crate::engine::record::ProcessRecord;

/// Open as long as it lives.
#[derive(Debug)]
pub struct Forward {
    /// The port on 127.0.0.1.
    pub port: u16,
    _kubectl: Child,
    _interrupted: Registration,
}

impl TestCluster {
    /// Forwards a port of a pod, a service or anything else that kubectl can find a pod for.
    pub async fn forward(&self, namespace: &str, to: &str, port: u16) -> Result<Forward> {
        let arguments = ["port-forward", "--namespace", namespace, "--address=127.0.0.1", to];
        let mut kubectl = Command::new(self.kubectl_path())
            .args(arguments)
            .arg(format!(":{port}"))
            .env("KUBECONFIG", &self.cluster.kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("failed to start kubectl port-forward")?;
        let record = kubectl.id().context("kubectl has ended").and_then(ProcessRecord::of)?;
        let interrupted = on_interrupt(move || record.kill());
        let mut lines = BufReader::new(kubectl.stdout.take().context("kubectl has an output")?).lines();
        let said = timeout(Duration::from_secs(20), lines.next_line()).await;
        let said = said.with_context(|| format!("kubectl forwards no port of {to}"))??.unwrap_or_default();
        let local = forwarded_port(&said).with_context(|| format!("kubectl forwards no port of {to}: {said}"))?;
        // It says a line for each connection, and would stop at a pipe that nobody reads.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Forward { port: local, _kubectl: kubectl, _interrupted: interrupted })
    }
}

/// Out of `Forwarding from 127.0.0.1:34567 -> 8333`.
fn forwarded_port(line: &str) -> Option<u16> {
    line.split_once("127.0.0.1:")?.1.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_port() {
        assert_eq!(forwarded_port("Forwarding from 127.0.0.1:34567 -> 8333"), Some(34567));
        assert_eq!(forwarded_port("error: no pod"), None);
    }
}
