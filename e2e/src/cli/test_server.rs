//! `e2e test-server`: an API server to try things on by hand.

use std::thread;

use anyhow::Result;
use clap::Args;

use crate::engine::{Cache, TestServer};

/// Options of `e2e test-server`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Add a kube-controller-manager: garbage collection, rollouts, Jobs, default service accounts
    #[arg(long)]
    controller_manager: bool,
}

/// Runs until a signal ends it.
pub(super) fn run(cache: &Cache, options: &Options) -> Result<()> {
    let mut server = TestServer::start_with(cache)?;
    if options.controller_manager {
        server = server.with_controller_manager()?;
    }
    println!("export KUBECONFIG={}", server.kubeconfig.display());
    println!("# calls are in {}; Ctrl-C ends it", server.audit_log.display());
    loop {
        thread::park();
    }
}
