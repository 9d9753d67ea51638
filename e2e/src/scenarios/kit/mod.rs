//! The vocabulary of scenarios. It uses Kubernetes and the public face of the operator (its resource, its chart, its log), and
//! nothing of the operator's code: a scenario knows no more than a user.
//!
//! Begin with [`prelude`], and with `docs/verify.md`, which says what to read.

// What every scenario may use.
mod app;
mod audit;
mod bucket;
mod children;
mod diagnosis;
mod documents;
mod forward;
mod ingress;
mod names;
mod objects;
mod operator;
mod stack;
mod steady;
mod test_cluster;
mod test_context;
mod timeline;
mod wait;

// What the scenarios about one thing use, and how images are made.
mod argocd;
mod authority;
mod backups;
mod barman_cloud;
mod cloudnative_pg;
mod deployed;
mod images;
mod leading;
mod previous;
mod runbook;

pub use app::{App, Receipt};
pub use argocd::{Application, ArgoCd};
pub use audit::Writes;
pub use authority::{Authority, Certificate};
pub use backups::{BackupRecord, manifest_object};
pub use barman_cloud::BarmanCloud;
pub use bucket::{Bucket, BucketAccess};
pub use cloudnative_pg::CloudNativePg;
pub use diagnosis::diagnose;
pub use documents::{Documents, example};
pub use forward::Forward;
pub use images::{
    Profile, TARGET, build_binaries, build_operator, build_other_version, cargo, load_images, load_operator,
    operator_binary, optimised, project, time_to_build, use_operator, use_released_operator, was_built,
};
pub use ingress::{Answer, Ingress};
pub use names::{ADMIN, API, API_NEXT, API_TESTED, OCR, OPERATOR};
pub use objects::ready;
pub use operator::{CHART, RELEASE, install};
pub use previous::Previous;
pub use runbook::lost_with;
pub use stack::{Condition, Stack, Status};
pub use steady::Asked;
pub use test_cluster::TestCluster;
pub use test_context::TestContext;
pub use timeline::Timeline;
pub use wait::{Observed, Stuck, until};

/// What a new scenario needs: `use super::kit::prelude::*;`.
///
/// [`TestContext`] makes a [`Stack`] of an example, and gives the [`App`] that runs in it. The stack waits for its conditions;
/// [`TestContext::wait`] waits for whatever else is [`Observed`]. The application keeps a [`Receipt`] in every service, and [`Bucket`]
/// looks for it beside the application. [`progress::note`] prints what was measured.
pub mod prelude {
    pub use super::{App, Bucket, Observed, Receipt, Stack, Status, TestContext};
    pub use crate::engine::progress;
}
