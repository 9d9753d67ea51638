//! What a mode of a data service adds to its component.

use super::Places;
use crate::{
    objects::{DesiredObject, LiveSet, Readiness},
    stack::Stack,
};

/// A mode of a data service. Its methods are those of [`super::Component`].
pub(super) trait Mode {
    /// The objects that the mode wants.
    fn objects(&self, stack: &Stack) -> Vec<DesiredObject>;

    /// Whether the service serves.
    fn readiness(&self, stack: &Stack, objects: &mut Places<'_>, live: &LiveSet) -> Readiness;
}
