//! What was wanted of a stack the last time, without bodies: a pass that finds nothing to do makes and hashes no object again.
//!
//! It is found by a digest of all that objects are made of, so it cannot be of another spec, Secret or password. Whether what is
//! there is as it should be is compared anew in every pass.

use std::{collections::BTreeMap, sync::Arc};

use super::{Context, Seen, StackKey};
use crate::{
    apply::{Applied, Outline, Owner, keep},
    desired::{self, Desired},
    names::Component,
    objects::{Digest, LiveSet},
    stack::{Observed, Stack},
};

/// What was wanted of a stack.
pub(super) struct Outlines {
    /// What it was made of.
    of: Digest,
    /// What each component wanted. One that was held is not in here.
    components: BTreeMap<Component, Vec<Outline>>,
}

/// The digest of all that the objects of a stack are made of: what is validated, and so all that a [`Stack`] can hold before
/// its services are asked, which changes no object.
pub(super) fn made_of(seen: &Seen, observed: &Observed) -> Digest {
    Digest::of_parts(&(&seen.stack.metadata.uid, seen.spec, observed))
}

impl Context {
    /// A whole pass by what is remembered. `None`: nothing is, or there is something to write, or it may be so.
    pub(super) async fn keep(
        &self,
        owner: &Owner,
        of: Digest,
        stack: &Stack,
        live: &LiveSet,
    ) -> Option<(Desired<()>, Applied)> {
        let key = StackKey { namespace: owner.namespace.clone(), name: owner.name.clone() };
        let known = self.memory().outlines.get(&key).filter(|known| known.of == of).cloned()?;
        let mut unknown = false;
        let wanted = desired::decide(stack, live, |component| {
            let outlines = known.components.get(&component.name());
            unknown |= outlines.is_none();
            outlines.into_iter().flatten().collect::<Vec<&Outline>>()
        });
        if unknown {
            return None;
        }
        let applied = keep(&self.writer, owner, &wanted.objects, live, &wanted.left_alone()).await?;
        let Desired { waiting: held, deferred, readiness, notes, .. } = wanted;
        Some((Desired { objects: Vec::new(), waiting: held, deferred, readiness, notes }, applied))
    }

    /// Remembers what components wanted.
    pub(super) fn remember_outlines(
        &self,
        owner: &Owner,
        of: Digest,
        made: impl Iterator<Item = Component>,
        outlines: Vec<Outline>,
    ) {
        let mut components: BTreeMap<Component, Vec<Outline>> = made.map(|component| (component, Vec::new())).collect();
        for outline in outlines {
            // What has no place here would be pruned as unwanted by the next pass.
            let Some(of) = Component::from_label(outline.component).and_then(|of| components.get_mut(&of)) else {
                return;
            };
            of.push(outline);
        }
        components.values_mut().for_each(Vec::shrink_to_fit);
        let key = StackKey { namespace: owner.namespace.clone(), name: owner.name.clone() };
        self.memory().outlines.insert(key, Arc::new(Outlines { of, components }));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kube::Resource as _;
    use serde_json::json;

    use super::*;
    use crate::stack::CredentialState;

    fn stack(spec: &serde_json::Value) -> Seen {
        let cr =
            json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack", "metadata": {"uid": "1"}, "spec": spec});
        serde_json::from_value(cr).unwrap()
    }

    /// What differs in any of this may want other objects, also if the generation is the same, as after a restore of etcd.
    #[test]
    fn what_objects_are_made_of_is_told_apart() {
        let cr = stack(&json!({"environment": "Development", "api": {"image": "a"}}));
        let secret = |value: &str| {
            let data = BTreeMap::from([("KEY".to_owned(), value.as_bytes().to_vec())]);
            Observed { secrets: BTreeMap::from([("s".to_owned(), Some(data))]), ..Observed::default() }
        };
        let credentials =
            |state| Observed { credentials: BTreeMap::from([(Component::Database, state)]), ..Observed::default() };
        let other_uid = {
            let mut other = cr.clone();
            other.meta_mut().uid = Some("2".to_owned());
            other
        };
        let none = Observed::default();
        let all = [
            made_of(&cr, &none),
            made_of(&other_uid, &none),
            made_of(&stack(&json!({"environment": "Development", "api": {"image": "b"}})), &none),
            made_of(&cr, &secret("one")),
            made_of(&cr, &secret("two")),
            made_of(&cr, &Observed { secrets: BTreeMap::from([("s".to_owned(), None)]), ..Observed::default() }),
            made_of(&cr, &Observed { config_maps: BTreeMap::from([("s".to_owned(), None)]), ..Observed::default() }),
            made_of(&cr, &credentials(CredentialState::Lost)),
            made_of(&cr, &credentials(CredentialState::Changed)),
            made_of(&cr, &credentials(CredentialState::Unconfirmed)),
            made_of(&cr, &credentials(CredentialState::VolumeTaken)),
            made_of(&cr, &Observed { agent_image: "i".to_owned(), ..Observed::default() }),
            made_of(&cr, &Observed { backup_owner: Some("u/s".to_owned()), ..Observed::default() }),
            made_of(&cr, &Observed { adopt_backups: Some("u/s".to_owned()), ..Observed::default() }),
            made_of(&cr, &Observed { corrected: [(Component::Api, "A".to_owned())].into(), ..Observed::default() }),
        ];
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert_eq!(made_of(&cr, &secret("one")), made_of(&cr.clone(), &secret("one")));
    }
}
