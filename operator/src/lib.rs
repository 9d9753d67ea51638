//! Kubernetes operator for `RorunStack` resources.
