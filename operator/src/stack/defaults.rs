//! Defaults that several parts share.

use k8s_openapi::{api::core::v1::ResourceRequirements, apimachinery::pkg::api::resource::Quantity as KubeQuantity};

use super::Volume;
use crate::api::v1alpha1::{Resources, Storage};

/// The image with the registry of the stack before it, unless its name starts with a registry: a first part that holds a dot
/// or a colon, or is `localhost` (the rule of Docker's reference grammar).
pub(super) fn image(registry: Option<&str>, image: &str) -> String {
    let names_registry = image
        .split_once('/')
        .is_some_and(|(first, _)| first.contains(['.', ':']) || first == "localhost");
    match registry {
        Some(registry) if !names_registry => format!("{}/{image}", registry.trim_end_matches('/')),
        _ => image.to_owned(),
    }
}

/// Whether an image has neither a digest nor a tag other than `latest`.
pub(super) fn is_floating(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

/// CPU and memory as the user says, or the given requests.
pub(super) fn resources(spec: Option<&Resources>, cpu: &str, memory: &str) -> ResourceRequirements {
    let Some(spec) = spec else {
        let request = |name: &str, amount: &str| (name.to_owned(), KubeQuantity(amount.to_owned()));
        return ResourceRequirements {
            requests: Some([request("cpu", cpu), request("memory", memory)].into()),
            ..ResourceRequirements::default()
        };
    };
    let amounts = |map: &std::collections::BTreeMap<String, crate::api::v1alpha1::Quantity>| {
        (!map.is_empty()).then(|| map.iter().map(|(name, amount)| (name.clone(), amount.0.clone())).collect())
    };
    ResourceRequirements {
        requests: amounts(&spec.requests),
        limits: amounts(&spec.limits),
        ..ResourceRequirements::default()
    }
}

/// The volume that the user asks for, or one of the given size.
pub(super) fn volume(spec: Option<&Storage>, size: &str) -> Volume {
    Volume {
        size: spec.and_then(|storage| storage.size.as_ref()).map_or_else(|| size.to_owned(), |size| size.0.0.clone()),
        class: spec.and_then(|storage| storage.storage_class_name.clone()),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Some("ghcr.io/rorun"), "rorun-api:1.8.0", "ghcr.io/rorun/rorun-api:1.8.0")]
    #[case(Some("ghcr.io/rorun/"), "valkey/valkey:8.1", "ghcr.io/rorun/valkey/valkey:8.1")]
    #[case(Some("ghcr.io/rorun"), "localhost/x:1", "localhost/x:1")]
    #[case(Some("ghcr.io/rorun"), "r.example:5000/x:1", "r.example:5000/x:1")]
    #[case(None, "rorun-api:1.8.0", "rorun-api:1.8.0")]
    fn the_registry_is_put_before_bare_names(#[case] registry: Option<&str>, #[case] given: &str, #[case] wanted: &str) {
        assert_eq!(image(registry, given), wanted);
    }

    #[rstest]
    #[case("a", true)]
    #[case("a:latest", true)]
    #[case("r:5000/a", true)]
    #[case("a:1", false)]
    #[case("a@sha256:00", false)]
    fn floating_images_are_known(#[case] given: &str, #[case] floating: bool) {
        assert_eq!(is_floating(given), floating);
    }
}
