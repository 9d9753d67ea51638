//! A client of one bucket on any server that speaks S3.
//!
//! `client` connects, through `connector` to a server that is not trusted; `settings` makes the bucket and asks what it can do,
//! `objects` reads and writes small objects, and `upload` writes large ones in parts, which `download` reads; `conditional` replaces what nobody else has
//! changed, and looks at versions.

mod classify;
mod client;
mod conditional;
mod connector;
mod download;
mod objects;
mod settings;
mod upload;

pub use client::{BucketClient, BucketTarget, Timeouts};
pub use conditional::{Replaced, Tagged, Version};
pub use download::Download;
pub use objects::{Created, Object};
pub use settings::Versioning;
pub use upload::{Upload, UploadInProgress};
