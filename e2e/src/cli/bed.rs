//! `e2e bed`: an API server to try things on by hand.

use std::thread;

use anyhow::Result;
use clap::Args;

use crate::engine::{self, Cache};

/// Options of `e2e bed`.
#[derive(Debug, Args)]
pub(super) struct Bed {
    /// Add a kube-controller-manager: garbage collection, rollouts, Jobs, default service accounts
    #[arg(long)]
    controller_manager: bool,
}

/// Runs until a signal ends it.
pub(super) fn run(cache: &Cache, options: &Bed) -> Result<()> {
    let mut bed = engine::Bed::start_with(cache)?;
    if options.controller_manager {
        bed = bed.with_controller_manager()?;
    }
    println!("export KUBECONFIG={}", bed.kubeconfig.display());
    println!("# calls are in {}; Ctrl-C ends it", bed.audit_log.display());
    loop {
        thread::park();
    }
}
