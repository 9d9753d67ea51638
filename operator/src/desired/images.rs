//! The images that the pods of a workload run.

use crate::{names::image::ImageName, objects::LiveSet, stack::Workload};

/// Pods that run different images under one tag: it was moved in the registry between two pulls, and which pod runs what is
/// chance.
pub(super) fn note(workload: &Workload, live: &LiveSet) -> Option<String> {
    let image = &workload.image;
    let found = live.digests(workload.component.as_str(), image);
    if found.len() < 2 || ImageName::new(image).digest.is_some() {
        return None;
    }
    let digests: Vec<_> = found.into_iter().map(|digest| digest.unwrap_or("a local image")).collect();
    Some(format!(
        "pods run different images under the name {image}: {}; give each build a tag of its own, or name a digest",
        digests.join(" and ")
    ))
}
