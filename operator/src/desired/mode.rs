//! The part of a data service's component that depends on its mode.

use super::Keys;
use crate::{
    objects::{DesiredObject, LiveSet, Readiness},
    stack::{Recovered, Stack},
};

/// A mode of a data service. Its methods are those of [`super::Component`].
pub(super) trait Mode {
    /// The objects that the mode wants.
    fn objects(&self, stack: &Stack) -> Vec<DesiredObject>;

    /// Whether the service serves.
    fn readiness(&self, stack: &Stack, objects: &mut Keys<'_>, live: &LiveSet) -> Readiness;

    /// The server that a restore recovers beside the live one. `None`: the mode has none.
    fn beside(&self, _: &Stack, _: &(String, Recovered)) -> Option<DesiredObject> {
        None
    }

    /// A note for the user while the service serves.
    fn note(&self, _: &LiveSet) -> Option<String> {
        None
    }
}
