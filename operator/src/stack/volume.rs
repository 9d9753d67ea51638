//! The volume of an embedded service: what the spec asks for, as far as the volume that exists allows it. The API server refuses
//! a smaller size, another class, and growth that the class cannot do; the service runs on without them.

use std::collections::BTreeMap;

use super::{Observed, ObservedVolume};
use crate::{api::v1alpha1::Storage, names::Component, quantity::nanos};

/// A volume to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// How large.
    pub size: String,
    /// Of which class. `None`: the cluster's default.
    pub class: Option<String>,
    /// What its PersistentVolumeClaim says of the data on it, as annotations.
    pub annotations: BTreeMap<String, String>,
    /// Notes about fields of the spec that the existing volume does not allow.
    pub notes: Vec<String>,
}

/// The size of a volume that the spec does not give.
fn default_size(component: Component) -> &'static str {
    if component == Component::Redis { "1Gi" } else { "10Gi" }
}

/// The volume to apply, with a note for each field of the spec that has no effect.
pub(super) fn resolve(spec: Option<&Storage>, component: Component, observed: &Observed) -> Volume {
    let field = format!("spec.{component}.embedded.storage");
    fit(asked(spec, component), &field, observed.volumes.get(&component))
}

/// The same of any volume, named by its field of the spec.
pub(super) fn fit(mut volume: Volume, field: &str, there: Option<&ObservedVolume>) -> Volume {
    let Some(there) = there else { return volume };
    if let Some(refused) = size_refused(&volume.size, there) {
        let (wanted, size) = (&volume.size, &there.size);
        volume.notes.push(format!("{field}.size is {wanted}, and the volume keeps its {size}: {refused}"));
        volume.size.clone_from(size);
    }
    if volume.class.is_some() && volume.class != there.class {
        let (wanted, class) = (volume.class.take().unwrap_or_default(), there.class.as_deref().unwrap_or("none"));
        volume.notes.push(format!(
            "{field}.storageClassName is {wanted}, and the volume keeps its class {class}: the class of a volume cannot \
             change; write {class} again, or move the data to a new stack"
        ));
        volume.class = Some(class.to_owned()).filter(|_| there.class.is_some() && there.class_applied);
    } else if there.class_applied {
        // Leaving out what was applied would take it away, and the API server refuses that.
        volume.class.clone_from(&there.class);
    }
    volume
}

/// Whether the spec asks for more than there is: only then does it matter what the class can do.
pub fn grows(spec: Option<&Storage>, component: Component, size: &str) -> bool {
    matches!((nanos(&asked(spec, component).size), nanos(size)), (Some(wanted), Some(there)) if wanted > there)
}

/// What the spec asks for, whatever there is.
pub(super) fn asked(spec: Option<&Storage>, component: Component) -> Volume {
    let size = spec.and_then(|storage| storage.size.as_ref());
    Volume {
        size: size.map_or_else(|| default_size(component).to_owned(), |size| size.0.0.clone()),
        class: spec.and_then(|storage| storage.storage_class_name.clone()),
        annotations: BTreeMap::new(),
        notes: Vec::new(),
    }
}

/// Why the size cannot be applied.
fn size_refused(wanted: &str, there: &ObservedVolume) -> Option<String> {
    let (wanted, size) = (nanos(wanted)?, nanos(&there.size)?);
    if wanted < size {
        return Some(format!("a volume cannot shrink; write {} or more", there.size));
    }
    let class = there.class.as_deref().unwrap_or_default();
    (wanted > size && there.expandable == Some(false)).then(|| {
        format!(
            "its class {class} cannot expand volumes; set allowVolumeExpansion of storageclass/{class} if its driver can, \
             or move the data to a new stack"
        )
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::api::v1alpha1::Quantity;

    fn storage(size: Option<&str>, class: Option<&str>) -> Storage {
        Storage { size: size.map(Quantity::from), storage_class_name: class.map(str::to_owned) }
    }

    /// A volume of 10Gi of the class `slow`: what the spec asks for, whether the operator applied the class, whether the class
    /// can expand, what is applied, and words of the note.
    #[rstest]
    #[case::nothing((None, None), false, None, ("10Gi", None), "")]
    #[case::the_same_amount((Some("10240Mi"), None), false, None, ("10240Mi", None), "")]
    #[case::more((Some("20Gi"), None), false, Some(true), ("20Gi", None), "")]
    #[case::more_and_nobody_knows((Some("20Gi"), None), false, None, ("20Gi", None), "")]
    #[case::more_than_the_class_can((Some("20Gi"), None), false, Some(false), ("10Gi", None), "storageclass/slow")]
    #[case::less((Some("5Gi"), None), false, Some(true), ("10Gi", None), "cannot shrink; write 10Gi or more")]
    #[case::the_class_that_it_has((None, Some("slow")), true, None, ("10Gi", Some("slow")), "")]
    #[case::another_class((None, Some("fast")), true, None, ("10Gi", Some("slow")), "storageClassName is fast")]
    #[case::another_class_than_the_default((None, Some("fast")), false, None, ("10Gi", None), "keeps its class slow")]
    #[case::no_longer_named((None, None), true, None, ("10Gi", Some("slow")), "")]
    fn only_what_the_api_server_takes_is_applied(
        #[case] (size, class): (Option<&str>, Option<&str>),
        #[case] class_applied: bool,
        #[case] expandable: Option<bool>,
        #[case] (applied, applied_class): (&str, Option<&str>),
        #[case] words: &str,
    ) {
        let there = ObservedVolume {
            size: "10Gi".to_owned(),
            class: Some("slow".to_owned()),
            class_applied,
            expandable,
            ..ObservedVolume::default()
        };
        let observed = Observed { volumes: [(Component::Database, there)].into(), ..Observed::default() };
        let volume = resolve(Some(&storage(size, class)), Component::Database, &observed);
        assert_eq!((volume.size.as_str(), volume.class.as_deref()), (applied, applied_class));
        let notes = volume.notes.join("; ");
        assert!(notes.is_empty() == words.is_empty() && notes.contains(words), "{notes}");
    }

    #[test]
    fn a_volume_that_is_not_there_is_made_as_asked() {
        let nothing = Observed::default();
        let volume = resolve(Some(&storage(Some("5Gi"), Some("fast"))), Component::Redis, &nothing);
        assert_eq!((volume.size.as_str(), volume.class.as_deref(), volume.notes.len()), ("5Gi", Some("fast"), 0));
        assert_eq!(resolve(None, Component::Redis, &nothing).size, "1Gi");
    }

    #[test]
    fn what_a_class_can_do_matters_only_for_growth() {
        let asked = |size| grows(Some(&storage(Some(size), None)), Component::Bucket, "10Gi");
        assert_eq!(["5Gi", "10240Mi", "11Gi"].map(asked), [false, false, true]);
    }
}
