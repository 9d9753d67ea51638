//! Moto, which answers as Amazon does, with the rules of buckets that no other server here has.

use std::process::Command;
use std::sync::{Arc, Weak};

use rorun_e2e::engine::ports;
use rorun_operator::services::bucket::{BucketClient, BucketTarget, Timeouts};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::process::Server;
use crate::programs;
use crate::servers::{PASSWORD, by_keys};

/// It runs while a test holds it.
#[derive(Debug)]
pub(crate) struct Moto {
    pub(crate) port: u16,
    _server: Server,
    _folder: TempDir,
}

static SHARED: Mutex<Weak<Moto>> = Mutex::const_new(Weak::new());

impl Moto {
    /// That of another test, if there is one at work, else a new one.
    pub(crate) async fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().await;
        if let Some(moto) = shared.upgrade() {
            return moto;
        }
        let packages = programs::moto();
        let folder = tempfile::tempdir().expect("folder");
        let [port] = ports::free().expect("ports");
        let mut command = Command::new("python3");
        command.current_dir(folder.path()).env("PYTHONPATH", packages);
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
        let mut server = Server::start(&mut command, "TERM", &folder.path().join("moto.log"));
        let probe = BucketClient::new(&target(port, "probe"), Timeouts::CHECK).expect("client");
        server.ready(async || probe.create().await).await;
        let moto = Arc::new(Self { port, _server: server, _folder: folder });
        *shared = Arc::downgrade(&moto);
        moto
    }

    /// For keys that may do everything.
    pub(crate) fn bucket(&self, name: &str) -> BucketTarget {
        target(self.port, name)
    }
}

fn target(port: u16, name: &str) -> BucketTarget {
    BucketTarget {
        endpoint: format!("http://127.0.0.1:{port}"),
        region: "us-east-1".to_owned(),
        bucket: name.to_owned(),
        force_path_style: true,
        keys: Some(by_keys("owner", PASSWORD)),
        ca: None,
    }
}
