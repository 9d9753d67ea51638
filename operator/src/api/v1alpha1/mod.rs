//! `rorun.app/v1alpha1`.

mod backup;
mod bucket;
mod database;
mod disruption;
mod hibernation;
mod image;
mod ingress;
mod modes;
mod monitoring;
mod pod_template;
mod quantity;
mod redis;
mod release;
mod scaling;
mod stack;
mod status;
mod text;
mod workload;

pub use backup::*;
pub use bucket::*;
pub use database::*;
pub use disruption::*;
pub use hibernation::*;
pub use image::*;
pub use ingress::*;
pub use modes::Modes;
pub use monitoring::*;
pub use pod_template::*;
pub use quantity::*;
pub use redis::*;
pub use release::*;
pub use scaling::*;
pub use stack::*;
pub use status::*;
pub use workload::*;
