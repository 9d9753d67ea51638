//! The images of the cluster, by name: the examples use the first releases, and a scenario may ask for a later one.

/// The operator.
pub const OPERATOR: &str = concat!("ghcr.io/rorun/rorun-operator:", env!("CARGO_PKG_VERSION"));
/// The API, as the examples name it.
pub const API: &str = "ghcr.io/rorun/rorun-api:1.8.0";
/// The release of the API after that.
pub const API_NEXT: &str = "ghcr.io/rorun/rorun-api:1.9.0";
/// The release after that.
pub const API_TESTED: &str = "ghcr.io/rorun/rorun-api:1.10.0";
/// The OCR service.
pub const OCR: &str = "ghcr.io/rorun/rorun-ai-service:1.8.0";
/// The admin panel.
pub const ADMIN: &str = "ghcr.io/rorun/rorun-admin:1.8.0";
