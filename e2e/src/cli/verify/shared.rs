//! The one cluster of a run: the part `cluster` checks it, then all scenarios use it.

use std::thread;

use anyhow::{Context, Result, ensure};

use crate::cli::cluster::USUAL;
use crate::cli::scenarios::{Session, joined, set_up};
use crate::engine::{Cache, Cluster};
use crate::scenarios::kit::{Profile, build_binaries};

/// The cluster, from its first use on.
pub(super) struct Shared<'a> {
    cache: &'a Cache,
    session: Option<Session>,
    has_operator: bool,
}

impl<'a> Shared<'a> {
    pub(super) fn new(cache: &'a Cache) -> Shared<'a> {
        Shared { cache, session: None, has_operator: false }
    }

    /// The cluster, brought up first if it has to be.
    pub(super) fn cluster(&mut self) -> Result<&Cluster> {
        if self.session.is_none() {
            self.session = Some(Session::open(self.cache, USUAL)?);
        }
        self.session.as_deref().context("no cluster")
    }

    /// The cluster with the operator in it, as the sources make it; what has to be built is built while the cluster comes up.
    pub(super) fn with_operator(&mut self) -> Result<&Cluster> {
        if !self.has_operator {
            let cache = self.cache;
            thread::scope(|scope| {
                let building = scope.spawn(|| build_binaries(cache, Profile::Quick));
                let cluster = self.cluster().map(drop);
                joined(building)?;
                cluster
            })?;
            set_up(self.cluster()?)?;
            self.has_operator = true;
        }
        self.cluster()
    }

    /// Where everything comes from.
    pub(super) fn cache(&self) -> &'a Cache {
        self.cache
    }

    /// Whether there is something to take down.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.session, Some(Session::Leased(_)))
    }

    /// Takes down what was brought up; an error says what is left of it.
    pub(super) fn close(&mut self) -> Result<()> {
        match self.session.take() {
            Some(Session::Leased(lease)) => lease.close(),
            Some(Session::Found(_)) | None => Ok(()),
        }
    }
}

/// A cluster that runs is found again, has what stacks ask of it, and is reached by kubectl and helm.
pub(super) fn serves(cluster: &Cluster) -> Result<()> {
    let again = Cluster::attach(cluster.cache(), &cluster.name)?.context("a cluster that runs is not found again")?;
    ensure!(again.kubeconfig == cluster.kubeconfig, "another cluster is found: {}", again.kubeconfig.display());
    let classes = cluster.kubectl(["get", "storageclass,ingressclass", "--output=name"])?;
    ensure!(classes.contains("standard") && classes.contains("traefik"), "the cluster has only {classes}");
    let releases = cluster.helm(["list", "--all-namespaces"])?;
    ensure!(releases.starts_with("NAME"), "helm lists {releases}");
    Ok(())
}
