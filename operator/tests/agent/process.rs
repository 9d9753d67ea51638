//! Processes that end with the test, also when it panics.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server. Dropping it stops it and waits until it is gone.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    stop: &'static str,
    log: PathBuf,
    leaves: Vec<PathBuf>,
}

impl Server {
    /// Starts it; `stop` is the signal that ends it quickly and cleanly.
    pub(crate) fn start(command: &mut Command, stop: &'static str, log: &Path) -> Self {
        let file = File::create(log).expect("log");
        let errors = file.try_clone().expect("log");
        let child = command.stdin(Stdio::null()).stdout(file).stderr(errors).spawn();
        let child = child.unwrap_or_else(|error| panic!("failed to start {command:?}: {error}"));
        Self { child, stop, log: log.to_owned(), leaves: Vec::new() }
    }

    /// Files that the server leaves behind: they go once it is gone.
    pub(crate) fn leaving(mut self, files: impl IntoIterator<Item = PathBuf>) -> Self {
        self.leaves.extend(files);
        self
    }

    /// Waits until the server answers; it may fail to, but not for ever.
    pub(crate) async fn ready<T, E: std::fmt::Display>(&mut self, probe: impl AsyncFn() -> Result<T, E>) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let Err(error) = probe().await else { return };
            let ended = self.child.try_wait().expect("status");
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                panic!("a server is not ready: {error}; {ended:?}; {log}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        signal(self.stop, self.child.id());
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline && self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        for file in &self.leaves {
            let _ = fs::remove_file(file);
        }
    }
}

/// Sends a signal to a process of ours. It may be gone already.
pub(crate) fn signal(name: &str, pid: u32) {
    let _ = Command::new("kill").args(["-s", name, &pid.to_string()]).stderr(Stdio::null()).status();
}

/// Waits for something to become true.
pub(crate) async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(Instant::now() < deadline, "{what}: not within 20 s");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
