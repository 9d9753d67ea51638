//! `e2e build-images`: our own images, in the cluster.

use anyhow::Result;

use super::cluster::Named;
use crate::engine::{Cache, Cluster};
use crate::scenarios::kit;

/// Brings the cluster up if it does not run. The servers' images are in it from the start.
pub(super) fn build(cache: &Cache, named: &Named) -> Result<()> {
    let cluster = Cluster::up(cache, &named.name)?;
    kit::build_binaries(cache, kit::Profile::Quick)?;
    kit::load_images(&cluster)?;
    for image in [kit::OPERATOR, kit::API, kit::API_NEXT, kit::OCR, kit::ADMIN] {
        println!("{image}");
    }
    Ok(())
}
