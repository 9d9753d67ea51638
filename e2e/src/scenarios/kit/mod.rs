//! The vocabulary of scenarios. It uses Kubernetes and the public face of the operator (its resource, its chart, its log), and
//! nothing of the operator's code: a scenario knows no more than a user.

mod app;
mod argocd;
mod audit;
mod authority;
mod backups;
mod barman_cloud;
mod bucket;
mod children;
mod cloudnative_pg;
mod deployed;
mod diagnosis;
mod documents;
mod forward;
mod images;
mod ingress;
mod leading;
mod objects;
mod operator;
mod previous;
mod runbook;
mod stack;
mod steady;
mod test_cluster;
mod test_context;
mod timeline;
mod wait;

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
    ADMIN, API, API_NEXT, API_TESTED, OCR, OPERATOR, Profile, TARGET, build_binaries, build_operator,
    build_other_version, cargo, load_images, load_operator, operator_binary, optimised, project, use_operator,
    use_released_operator, was_built,
};
pub use ingress::{Answer, Ingress};
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
