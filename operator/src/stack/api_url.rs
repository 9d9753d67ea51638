//! The public URL of the API, for pods that are to have it.

use super::{Stack, mode::Unresolved};
use crate::{
    api::v1alpha1::{ApiUrlSource, RorunStackSpec},
    names::{Component, Waiting, reason},
};

/// Resolves `apiURLFrom` of each workload. The definition refuses it without an ingress; that a path leads to the API it cannot
/// know.
pub(super) fn resolve(spec: &RorunStackSpec, stack: &mut Stack, unresolved: &mut Unresolved) {
    let url = stack.ingress.as_ref().and_then(|ingress| ingress.url(Component::Api));
    let workloads = [
        (Some(&spec.api), Some(&mut stack.api)),
        (spec.ocr.as_ref(), stack.ocr.as_mut()),
        (spec.admin.as_ref(), stack.admin.as_mut()),
    ];
    for (given, workload) in workloads {
        let Some((ApiUrlSource::Ingress, workload)) = given.and_then(|given| given.api_url_from).zip(workload) else {
            continue;
        };
        workload.api_url.clone_from(&url);
        if url.is_none() {
            let message = format!(
                "{of}.apiURLFrom is Ingress, and no path of spec.ingress leads to the API: add one, e.g. `ingress: {{paths: \
                 [{{path: /, component: api}}]}}`, or leave {of}.apiURLFrom out and set API_URL in {of}.env",
                of = workload.component
            );
            unresolved.insert(workload.component, Waiting::new(reason::INVALID_SPEC, message));
        }
    }
}
