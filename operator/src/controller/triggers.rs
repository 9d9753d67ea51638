//! What makes a stack be looked at again, other than a change of its own.

use futures::{Stream, channel::mpsc};
use kube::runtime::reflector::ObjectRef;

use super::StackKey;
use crate::api::v1alpha1::RorunStack;

/// Sends stacks to be looked at again.
#[derive(Clone, Debug)]
pub struct Triggers(mpsc::UnboundedSender<ObjectRef<RorunStack>>);

impl Triggers {
    /// The sender, and the stream for the controller.
    pub fn new() -> (Self, impl Stream<Item = ObjectRef<RorunStack>> + Send + 'static) {
        let (sender, receiver) = mpsc::unbounded();
        (Self(sender), receiver)
    }

    /// Looks at a stack again. Several in a row are one to the controller's queue.
    pub fn send(&self, stack: &StackKey) {
        // The receiver is gone only when the process ends.
        let _ = self.0.unbounded_send(ObjectRef::new(&stack.name).within(&stack.namespace));
    }
}
