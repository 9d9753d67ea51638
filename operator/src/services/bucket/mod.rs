//! A client of one bucket on any server that speaks S3.
//!
//! `client` connects, through `connector` to a server that is not trusted, and without keys by the `role` of its pod; `settings` makes the bucket and asks what it can do,
//! `objects` reads and writes small objects, `upload` writes large ones in parts, and `read` and `download` read them, the latter
//! through connections that break; `listing` walks through all versions page by page; `conditional` replaces what nobody else has
//! changed, and looks at versions; `versions` makes one the current one again, with what `headers` reads of it; `rules` reads and writes the documents of rules,
//! which `document` takes apart; `lock` is Object Lock, and writes what it asks for.

mod classify;
mod client;
mod conditional;
mod connector;
mod document;
mod download;
mod headers;
mod listing;
mod lock;
mod objects;
mod read;
mod role;
mod rules;
mod settings;
mod upload;
mod versions;

pub use client::{AccessKeys, BucketClient, BucketTarget, Timeouts};
pub use conditional::{Replaced, Tagged, Version};
pub use document::{Facts, Rule, RuleDocument, RuleKind, escaped};
pub use download::Download;
pub use headers::Headers;
pub use listing::{ListedVersion, Marker};
pub use lock::{LockMode, ObjectLock, Retention};
pub use objects::{Created, Object, Replicated};
pub use read::Body;
pub use rules::Sent;
pub use settings::Versioning;
pub use upload::{Upload, UploadInProgress};
pub use versions::{Current, Past, bare};
