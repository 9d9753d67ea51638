//! Names and labels of children.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::{
    names::{Component, FIELD_MANAGER, PART_OF, RECORD, annotation, label},
    stack::Stack,
};

/// A map of strings.
pub(super) type Strings = BTreeMap<String, String>;

/// The metadata of an object that the stack owns.
pub(super) fn owned(stack: &Stack, component: Component, name: String) -> ObjectMeta {
    ObjectMeta { name: Some(name), labels: Some(labels(stack, component)), ..ObjectMeta::default() }
}

/// The metadata of data: it says whose it is without an owner reference, so that it stays, and without the label by which
/// others take what has none for theirs.
pub(super) fn retained(stack: &Stack, component: Component, name: String) -> ObjectMeta {
    let mut labels = labels(stack, component);
    labels.remove(label::INSTANCE);
    labels.insert(label::STACK.to_owned(), stack.name.clone());
    labels.insert(label::RETAINED.to_owned(), "true".to_owned());
    let kept = annotation::KEPT.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let mut annotations = Strings::from(kept);
    annotations.insert(annotation::STACK_UID.to_owned(), stack.uid.clone());
    ObjectMeta { name: Some(name), labels: Some(labels), annotations: Some(annotations), ..ObjectMeta::default() }
}

/// The labels of a child.
pub(super) fn labels(stack: &Stack, component: Component) -> Strings {
    let mut labels = selector_labels(stack, component);
    labels.insert(label::PART_OF.to_owned(), PART_OF.to_owned());
    labels.insert(label::MANAGED_BY.to_owned(), FIELD_MANAGER.to_owned());
    labels
}

/// The labels of a record of the stack itself.
pub(super) fn record_labels(stack: &Stack) -> Strings {
    Strings::from([
        (label::NAME.to_owned(), ["rorun-", RECORD].concat()),
        (label::INSTANCE.to_owned(), stack.name.clone()),
        (label::COMPONENT.to_owned(), RECORD.to_owned()),
        (label::PART_OF.to_owned(), PART_OF.to_owned()),
        (label::MANAGED_BY.to_owned(), FIELD_MANAGER.to_owned()),
    ])
}

/// The labels of selectors, which are immutable.
pub(super) fn selector_labels(stack: &Stack, component: Component) -> Strings {
    Strings::from([
        (label::NAME.to_owned(), ["rorun-", component.as_str()].concat()),
        (label::INSTANCE.to_owned(), stack.name.clone()),
        (label::COMPONENT.to_owned(), component.as_str().to_owned()),
    ])
}

/// Selects the pods of a component.
pub(super) fn selector(stack: &Stack, component: Component) -> LabelSelector {
    LabelSelector { match_labels: Some(selector_labels(stack, component)), ..LabelSelector::default() }
}

/// The tag of an image as a label's value, if it can be one.
pub(super) fn version(image: &str) -> Option<String> {
    let (name, _) = image.split_once('@').unwrap_or((image, ""));
    let (_, tag) = name.rsplit('/').next()?.split_once(':')?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    (tag.len() <= 63 && tag.chars().all(legal) && ends(tag.chars().next()) && ends(tag.chars().last()))
        .then(|| tag.to_owned())
}
