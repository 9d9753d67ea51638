//! Defaults that several parts share.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::ResourceRequirements, apimachinery::pkg::api::resource::Quantity as KubeQuantity};

use crate::{
    api::v1alpha1::{Quantity, Resources, RorunStackSpec},
    names::image::is_registry,
};

/// The registry of the stack.
pub(super) fn registry(spec: &RorunStackSpec) -> Option<&str> {
    spec.image.as_ref().and_then(|image| image.registry.as_deref())
}

/// The image with the registry of the stack before it, unless its name starts with a registry.
pub fn image(registry: Option<&str>, image: &str) -> String {
    let names_registry = image.split_once('/').is_some_and(|(first, _)| is_registry(first));
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

/// CPU and memory as the user says. What the user neither requests nor limits is requested as given: without a request the
/// scheduler knows nothing and an autoscaler cannot compute a percentage. A limit alone is its own request (Kubernetes).
pub(super) fn resources(spec: Option<&Resources>, cpu: &str, memory: &str) -> ResourceRequirements {
    let spec = spec.cloned().unwrap_or_default();
    let amounts = |map: BTreeMap<String, Quantity>| map.into_iter().map(|(name, amount)| (name, amount.0)).collect();
    let (mut requests, limits): (BTreeMap<_, _>, BTreeMap<_, _>) = (amounts(spec.requests), amounts(spec.limits));
    for (name, amount) in [("cpu", cpu), ("memory", memory)] {
        if !limits.contains_key(name) {
            requests.entry(name.to_owned()).or_insert_with(|| KubeQuantity(amount.to_owned()));
        }
    }
    ResourceRequirements { requests: Some(requests), limits: Some(limits), ..ResourceRequirements::default() }
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
    fn the_registry_is_put_before_bare_names(
        #[case] registry: Option<&str>,
        #[case] given: &str,
        #[case] wanted: &str,
    ) {
        assert_eq!(image(registry, given), wanted);
    }

    #[test]
    fn a_limit_or_a_request_of_the_user_replaces_the_default_of_its_resource_only() {
        let quantities = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, amount)| ((*name).to_owned(), (*amount).into())).collect()
        };
        let spec = Resources { requests: quantities(&[("cpu", "2")]), limits: quantities(&[("memory", "64Mi")]) };
        let found = resources(Some(&spec), "100m", "128Mi");
        assert_eq!(found.requests, Some([("cpu".to_owned(), KubeQuantity("2".to_owned()))].into()));
        assert_eq!(found.limits, Some([("memory".to_owned(), KubeQuantity("64Mi".to_owned()))].into()));
        let found = resources(Some(&Resources::default()), "100m", "128Mi").requests.unwrap();
        assert_eq!(found.into_values().map(|amount| amount.0).collect::<Vec<_>>(), ["100m", "128Mi"]);
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
