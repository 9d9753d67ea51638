//! A Redis or Valkey cluster of processes: three that hold slots, and a replica of each.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::process::find_program;
use super::{packages, ports};

/// How long the nodes may take to agree.
const WITHIN: Duration = Duration::from_mins(1);
/// How soon a node that is silent counts as gone, in milliseconds.
const NODE_TIMEOUT: &str = "1000";
const NODES: usize = 6;

/// It runs while it is held.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Node>,
    cli: PathBuf,
    _folder: TempDir,
}

#[derive(Debug)]
struct Node {
    port: u16,
    child: Option<Child>,
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl RedisCluster {
    /// Starts it, and waits until it serves. A package that is missing is installed.
    ///
    /// # Errors
    ///
    /// When a program is missing, or the nodes do not agree.
    pub fn start() -> Result<Self> {
        let (server, cli) = programs()?;
        let folder = tempfile::tempdir()?;
        let chosen: [u16; 2 * NODES] = ports::free()?;
        let (clients, buses) = chosen.split_at(NODES);
        let mut nodes = Vec::new();
        for (port, bus) in clients.iter().zip(buses) {
            nodes.push(Node { port: *port, child: Some(node(&server, folder.path(), (*port, *bus))?) });
        }
        let cluster = Self { nodes, cli, _folder: folder };
        for port in clients {
            cluster
                .until("a node answers", || cluster.ask(*port, &["PING"]).is_ok_and(|said| said.trim() == "PONG"))?;
        }
        let addresses = clients.iter().map(|port| format!("127.0.0.1:{port}"));
        let mut create = Command::new(&cluster.cli);
        create.args(["--cluster", "create"]).args(addresses).args(["--cluster-replicas", "1", "--cluster-yes"]);
        let output = create.output().context("redis-cli")?;
        if !output.status.success() {
            bail!("no cluster: {}", String::from_utf8_lossy(&output.stdout));
        }
        for port in clients {
            cluster.until("the cluster serves", || {
                cluster.ask(*port, &["CLUSTER", "INFO"]).is_ok_and(|said| said.contains("cluster_state:ok"))
            })?;
        }
        cluster.until("each has a replica", || cluster.replicas().is_ok_and(|count| count == NODES / 2))?;
        Ok(cluster)
    }

    /// The URLs of the nodes.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("redis://127.0.0.1:{}", node.port)).collect()
    }

    /// Kills the node that holds the slot of a key, once its replica has what it has, and gives its port.
    ///
    /// # Errors
    ///
    /// When no node says that it holds it.
    pub fn kill_replicated_holder_of(&mut self, key: &str) -> Result<u16> {
        let alive = self.nodes.iter().filter(|node| node.child.is_some());
        let holder = alive
            .map(|node| node.port)
            .find(|port| self.ask(*port, &["GET", key]).is_ok_and(|said| !said.contains("MOVED")));
        let port = holder.context("no node holds the key")?;
        self.until("its replica has what it has", || {
            let Ok(said) = self.ask(port, &["INFO", "replication"]) else { return false };
            let field = |text: &str, name: &str| {
                let rest = text.split_once(name)?.1;
                rest.split([',', '\r', '\n']).next().map(str::to_owned)
            };
            let written = field(&said, "master_repl_offset:");
            written.is_some() && field(&said, "state=online,offset=") == written
        })?;
        if let Some(node) = self.nodes.iter_mut().find(|node| node.port == port)
            && let Some(mut child) = node.child.take()
        {
            child.kill()?;
            child.wait()?;
        }
        Ok(port)
    }

    fn replicas(&self) -> Result<usize> {
        let Some(first) = self.nodes.first() else { return Ok(0) };
        Ok(self.ask(first.port, &["CLUSTER", "NODES"])?.lines().filter(|line| line.contains("slave")).count())
    }

    fn ask(&self, port: u16, command: &[&str]) -> Result<String> {
        let output = Command::new(&self.cli).args(["-p", &port.to_string()]).args(command).output()?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    #[expect(clippy::unused_self, reason = "it waits for this cluster")]
    fn until(&self, what: &str, condition: impl Fn() -> bool) -> Result<()> {
        let end = Instant::now() + WITHIN;
        while !condition() {
            if Instant::now() > end {
                bail!("waited {} s in vain until {what}", WITHIN.as_secs());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

fn programs() -> Result<(PathBuf, PathBuf)> {
    let find = || {
        let server = find_program("redis-server").or_else(|| find_program("valkey-server"))?;
        Some((server, find_program("redis-cli").or_else(|| find_program("valkey-cli"))?))
    };
    if find().is_none() {
        packages::ensure(&["redis-server", "redis-tools"], "for a cluster of Redis")?;
    }
    find().context("redis-server and redis-cli")
}

fn node(server: &Path, folder: &Path, (port, bus): (u16, u16)) -> Result<Child> {
    let home = folder.join(port.to_string());
    std::fs::create_dir(&home)?;
    let log = File::create(home.join("log"))?;
    let mut command = Command::new(server);
    command.current_dir(&home).args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
    command.args(["--cluster-enabled", "yes", "--cluster-port", &bus.to_string()]);
    command.args(["--cluster-node-timeout", NODE_TIMEOUT, "--appendonly", "no"]);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().context("redis-server")
}
