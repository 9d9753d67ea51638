//! `e2e up`, `e2e down` and `e2e status`.

use anyhow::Result;
use clap::Args;

use crate::engine::{Cache, Cluster, cluster};

/// The cluster of tests, unless one says otherwise.
pub(super) const USUAL: &str = "rorun-e2e";

/// Which cluster.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// Its name; clusters of different names run side by side
    #[arg(long, default_value = USUAL)]
    pub(super) name: String,
}

pub(super) fn up(cache: &Cache, named: &Named) -> Result<()> {
    print(&Cluster::up(cache, &named.name)?);
    Ok(())
}

pub(super) fn down(cache: &Cache, named: &Named) -> Result<()> {
    Cluster::down(cache, &named.name)?;
    if cluster::names(cache)?.is_empty() {
        println!("nothing is left");
    }
    Ok(())
}

pub(super) fn status(cache: &Cache) -> Result<()> {
    let names = cluster::names(cache)?;
    if names.is_empty() {
        println!("no cluster");
    }
    for name in names {
        match Cluster::attach(cache, &name)? {
            Some(cluster) => print(&cluster),
            None => println!("# {name} is not running: `down --name {name}` removes what is left"),
        }
    }
    Ok(())
}

fn print(cluster: &Cluster) {
    println!("# {} is running; Ingress on 127.0.0.1:{} and :{}", cluster.name, cluster.http_port, cluster.https_port);
    println!("export KUBECONFIG={}", cluster.kubeconfig.display());
}
