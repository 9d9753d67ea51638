//! The parts that the objects of AWS Controllers for Kubernetes share.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{metadata, preflight};
use crate::{
    names::{Component, ROLE_CREDENTIALS, Waiting, annotation, reason},
    objects::{self, DesiredObject, LiveSet, ObjectKey, ObjectKind, Readiness, SecretKey},
    stack::Stack,
};

/// The metadata of what stands for data in AWS. Whoever deletes the object, and the namespace with it, deletes nothing in AWS.
pub(super) fn metadata(stack: &Stack, component: Component, name: String, region: Option<&str>) -> ObjectMeta {
    let mut metadata = metadata::retained(stack, component, name);
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(annotation::ACK_DELETION_POLICY.to_owned(), "retain".to_owned());
    annotations.extend(region.map(|region| (annotation::ACK_REGION.to_owned(), region.to_owned())));
    metadata
}

/// A member of the generated credentials. The controllers look in the namespace `default` where none is named.
pub(super) fn credential(stack: &Stack, component: Component, key: &str) -> SecretKey {
    let name = stack.child_role(component, ROLE_CREDENTIALS);
    SecretKey { namespace: stack.namespace.clone(), name, key: key.to_owned() }
}

/// Whether the object says that its service serves.
pub(super) fn stands(kind: &ObjectKind, name: &str, live: &LiveSet) -> Readiness {
    let key = ObjectKey { kind: kind.key, name: name.to_owned() };
    let Some(there) = live.get(&key) else {
        return Readiness::waiting(reason::PROGRESSING, format!("{key} is being made"));
    };
    if there.deleting { Readiness::Waiting(objects::terminating(there)) } else { there.readiness.clone() }
}

/// Of a service whose object is all that there is: the object, the probe, and what is held.
pub(super) fn readiness(
    stack: &Stack,
    component: Component,
    kind: &ObjectKind,
    held: Option<&Waiting>,
    live: &LiveSet,
) -> Readiness {
    let stands = stands(kind, &stack.child(component), live);
    with_held(if stands.is_ready() { preflight::readiness(stack, component, live) } else { stands }, held)
}

/// What is held is told beside what is wrong: the change may be the cure.
pub(super) fn with_held(readiness: Readiness, held: Option<&Waiting>) -> Readiness {
    match (readiness, held) {
        (Readiness::Ready, Some(held)) => Readiness::Waiting(held.clone()),
        (Readiness::Waiting(waiting), Some(held)) if waiting.reason == reason::NOT_PROBED => {
            Readiness::Waiting(held.clone())
        }
        (Readiness::Waiting(waiting), Some(held)) => {
            Readiness::waiting(waiting.reason, format!("{}; {}", waiting.message, held.message))
        }
        (readiness, None) => readiness,
    }
}

/// An object that stays whatever becomes of the stack.
pub(super) fn retained<K: objects::Child>(object: &K) -> DesiredObject {
    DesiredObject::new(object, objects::ApplyPolicy::Retain)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::it_serves(Readiness::Ready, reason::CONFIRMATION_REQUIRED, "set the annotation")]
    #[case::nobody_asks_it(
        Readiness::waiting(reason::NOT_PROBED, "asleep"),
        reason::CONFIRMATION_REQUIRED,
        "set the annotation"
    )]
    #[case::it_is_full(
        Readiness::waiting(reason::PROVIDER_FAILED, "storage-full"),
        reason::PROVIDER_FAILED,
        "storage-full; set the annotation"
    )]
    fn a_change_that_is_held_is_told_whatever_else_is_wrong(
        #[case] readiness: Readiness,
        #[case] told: &str,
        #[case] message: &str,
    ) {
        let held = Waiting::new(reason::CONFIRMATION_REQUIRED, "set the annotation");
        let Readiness::Waiting(waiting) = with_held(readiness.clone(), Some(&held)) else { panic!("it is not told") };
        assert_eq!((waiting.reason, waiting.message.as_str()), (told, message));
        assert_eq!(with_held(readiness.clone(), None), readiness);
    }
}
