//! Services of a provider that an object of another project stands for: what it says of them, and what is held until somebody
//! confirms it.

use super::{Observed, mode::Context};
use crate::names::{Waiting, annotation, meaning, reason};

/// What an object says of the service that it stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ManagedService {
    /// Whether it serves.
    pub ready: bool,
    /// Host and port for writes. `None`: it has none yet.
    pub endpoint: Option<(String, u16)>,
    /// Host and port for reads.
    pub reader: Option<(String, u16)>,
    /// The class that the object asks for.
    pub class: Option<String>,
    /// The engine that the object of a cache asks for.
    pub engine: Option<String>,
    /// The version that the object asks for.
    pub version: Option<String>,
    /// The storage in GiB that the object of a database asks for.
    pub storage: Option<i64>,
    /// What the provider can restore by itself.
    pub restorable: Option<Restorable>,
    /// What the provider calls this service and no other, also one that is made again by its name.
    pub identity: Option<String>,
}

/// The newest moment that a provider can restore to, as of when it was asked. In seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Restorable {
    /// The newest moment.
    pub until: i64,
    /// When the provider said so.
    pub asked: i64,
}

/// The port as the types of Kubernetes have it.
pub(super) fn host_and_port(of: Option<&(String, u16)>) -> Option<(&str, i32)> {
    of.map(|(host, port)| (host.as_str(), i32::from(*port)))
}

/// The name of a service at AWS that the spec does not give: that of the namespace and the stack, where AWS takes it, which wants
/// letters first, single hyphens and no more than `longest` characters.
pub(super) fn aws_name(context: &Context<'_>, longest: usize) -> String {
    let name = format!("{}-{}", context.namespace, context.name);
    let taken =
        name.starts_with(|first: char| first.is_ascii_lowercase()) && !name.contains("--") && name.len() <= longest;
    if taken { name } else { format!("rorun-{}", meaning(&[context.namespace, context.name])) }
}

/// A field whose change the controller carries out at once, whatever the service does meanwhile.
pub(super) struct Disruptive<'a> {
    /// The path of the field.
    pub(super) field: &'static str,
    /// What the spec asks for.
    pub(super) wanted: &'a str,
    /// What the object asks for. `None`: there is none yet.
    pub(super) there: Option<&'a str>,
    /// What happens to the service.
    pub(super) effect: &'static str,
}

impl Disruptive<'_> {
    /// What the object is to ask for, and why it is not what the spec does.
    pub(super) fn held(&self, observed: &Observed, same: impl Fn(&str, &str) -> bool) -> (String, Option<Waiting>) {
        let Self { field, wanted, there, effect } = self;
        let Some(there) = there.filter(|there| !same(there, wanted)) else { return ((*wanted).to_owned(), None) };
        let confirmed = observed.annotations.get(annotation::CONFIRM_CHANGE);
        if confirmed.is_some_and(|values| values.split(',').any(|value| value.trim() == *wanted)) {
            return ((*wanted).to_owned(), None);
        }
        let message = format!(
            "{field} is {wanted}, and the service keeps {there}: AWS carries out the change at once, and {effect}; to go on, set the \
             annotation {}={wanted}; else write {there} again",
            annotation::CONFIRM_CHANGE
        );
        (there.to_owned(), Some(Waiting::new(reason::CONFIRMATION_REQUIRED, message)))
    }
}

/// The major version of `17.6`.
pub(super) fn major(version: &str) -> &str {
    version.split('.').next().unwrap_or(version)
}

/// Whether a version needs no more than an update to another.
pub(super) fn same_major(one: &str, other: &str) -> bool {
    major(one) == major(other)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::the_same(Some("db.a.b"), None, "db.a.b", false)]
    #[case::no_object_yet(None, None, "db.a.b", false)]
    #[case::held(Some("db.a.a"), None, "db.a.a", true)]
    #[case::another_confirmed(Some("db.a.a"), Some("db.a.c"), "db.a.a", true)]
    #[case::confirmed(Some("db.a.a"), Some("18, db.a.b"), "db.a.b", false)]
    fn a_change_is_held_until_its_very_value_is_confirmed(
        #[case] there: Option<&str>,
        #[case] confirmed: Option<&str>,
        #[case] expected: &str,
        #[case] told: bool,
    ) {
        let confirmed = confirmed.map(|value| (annotation::CONFIRM_CHANGE.to_owned(), value.to_owned()));
        let observed = Observed { annotations: confirmed.into_iter().collect(), ..Observed::default() };
        let change = Disruptive { field: "database.rds.instanceClass", wanted: "db.a.b", there, effect: "it restarts" };
        let (applied, held) = change.held(&observed, |one, other| one == other);
        assert_eq!((applied.as_str(), held.is_some()), (expected, told));
        if let Some(held) = held {
            assert!(held.message.contains("rorun.app/confirm-change=db.a.b"), "{}", held.message);
        }
    }

    #[test]
    fn an_update_is_no_other_major_version() {
        assert!(same_major("17", "17.6") && same_major("17.5", "17.6"));
        assert!(!same_major("17.6", "18"));
    }
}
