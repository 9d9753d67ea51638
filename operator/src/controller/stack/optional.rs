//! What a stack needs of other projects, and what its user does where the cluster lacks it.

use std::collections::BTreeMap;

use crate::{
    api::v1alpha1::RorunStack,
    apply::Applied,
    desired,
    names::{Component, Waiting, reason},
    objects::{Availability, ObjectKind},
    runtime::{
        ResourceKey,
        optional::{ApiState, OptionalApis},
    },
};

/// The components that need a kind of another project which cannot be used now, and why. The stack is enqueued when that changes.
pub(super) fn missing(apis: &OptionalApis, cr: &RorunStack, key: &ResourceKey) -> BTreeMap<Component, Waiting> {
    let needed = desired::optional_kinds(&cr.spec);
    let kinds: Vec<_> = needed.iter().map(|(_, kind)| *kind).collect();
    let states = apis.states(key, &kinds);
    let missing = needed.into_iter().zip(states).filter_map(|((component, kind), state)| {
        let waiting = waiting(component, kind, state)?;
        Some((component, waiting))
    });
    missing.collect()
}

/// Whether a write found that a kind is gone before its watch did.
pub(super) fn is_gone(applied: &Applied) -> bool {
    applied.refused.iter().any(|refused| refused.waiting.reason == reason::MISSING_API)
}

/// `None`: the kind can be used.
fn waiting(component: Component, kind: &ObjectKind, state: ApiState) -> Option<Waiting> {
    let resource = kind.resource();
    let (reason, message) = match state {
        ApiState::Watched => return None,
        ApiState::SwitchedOff(api) => (
            reason::MISSING_API,
            format!(
                "the operator is set not to use {resource}: set optionalApis.{name} to true in its chart, or run it with \
                 --optional-api={name} and the rights of rorun-operator rbac --optional-api={name}; {}",
                otherwise(component),
                name = api.name
            ),
        ),
        ApiState::Absent => (
            reason::MISSING_API,
            format!(
                "the cluster does not serve {resource} in version {}: install {}; the operator goes on by itself then; {}",
                kind.version,
                product(kind),
                otherwise(component)
            ),
        ),
        ApiState::Unknown | ApiState::Listing => {
            (reason::PROGRESSING, format!("the operator finds out which {resource} there are"))
        }
        ApiState::Forbidden(said) => (
            reason::FORBIDDEN,
            format!(
                "the operator may not use {resource}: {said}: check its RBAC (rorun-operator rbac{})",
                argument(kind)
            ),
        ),
        ApiState::Failed(said) => (
            reason::APPLY_FAILED,
            format!("failed to find out which {resource} there are: {said}; the operator tries again"),
        ),
    };
    Some(Waiting::new(reason, message))
}

/// What else the user may do. The mode of a service stays, so that is another stack.
fn otherwise(component: Component) -> String {
    if component.is_waited_for() {
        format!("or make a stack with another mode of spec.{component}")
    } else {
        format!("or leave spec.{component} out")
    }
}

fn product(kind: &ObjectKind) -> &'static str {
    match kind.availability {
        Availability::Optional(api) => api.product,
        Availability::Core => "Kubernetes",
    }
}

fn argument(kind: &ObjectKind) -> String {
    match kind.availability {
        Availability::Optional(api) => format!(" --optional-api={}", api.name),
        Availability::Core => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::objects::{OPTIONAL_APIS, SERVICE_MONITOR};

    #[rstest]
    #[case::off(ApiState::SwitchedOff(OPTIONAL_APIS[0]), reason::MISSING_API, &["optionalApis.prometheusOperator", "spec.monitoring"])]
    #[case::absent(ApiState::Absent, reason::MISSING_API, &["install the Prometheus Operator", "version v1", "spec.monitoring"])]
    #[case::forbidden(ApiState::Forbidden("no".to_owned()), reason::FORBIDDEN, &["may not", "rbac --optional-api=prometheusOperator"])]
    #[case::failed(ApiState::Failed("no route".to_owned()), reason::APPLY_FAILED, &["no route", "tries again"])]
    #[case::listing(ApiState::Listing, reason::PROGRESSING, &["finds out"])]
    fn each_state_has_its_way_out(#[case] state: ApiState, #[case] reason: &str, #[case] words: &[&str]) {
        let waiting = waiting(Component::Monitoring, SERVICE_MONITOR, state).expect("a reason to wait");
        assert_eq!(waiting.reason, reason);
        for word in words.iter().chain(&["servicemonitors.monitoring.coreos.com"]) {
            assert!(waiting.message.contains(word), "{word} in {}", waiting.message);
        }
    }

    #[test]
    fn what_is_watched_waits_for_nothing() {
        assert_eq!(waiting(Component::Monitoring, SERVICE_MONITOR, ApiState::Watched), None);
    }
}
