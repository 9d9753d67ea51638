//! A stack as the watch sends it: shared, since what passes it on copies and moves it, and without `managedFields`.

use std::{borrow::Cow, sync::Arc};

use kube::{Resource, api::ObjectMeta};
use serde::{Deserialize, Deserializer};

use crate::{
    api::v1alpha1::{RorunStack, RorunStackSpec, RorunStackStatus},
    objects::ReceivedMetadata,
};

/// A stack that was seen.
#[derive(Clone, Debug)]
pub struct Seen(pub Arc<RorunStack>);

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Parts {
            metadata: ReceivedMetadata,
            spec: RorunStackSpec,
            status: Option<RorunStackStatus>,
        }
        let Parts { metadata, spec, status } = Parts::deserialize(deserializer)?;
        let (metadata, _) = metadata.parts();
        Ok(Self(Arc::new(RorunStack { metadata, spec, status })))
    }
}

impl Resource for Seen {
    type DynamicType = ();
    type Scope = <RorunStack as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        RorunStack::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        RorunStack::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        RorunStack::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        RorunStack::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.0.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut Arc::make_mut(&mut self.0).metadata
    }
}
