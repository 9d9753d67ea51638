//! What was observed: everything that a spec names, or nothing.

use std::collections::BTreeMap;

use rorun_operator::{
    api::v1alpha1::RorunStack,
    stack::{CredentialState, Observed, Placeholders, Probe, ProbeTarget, Stack},
};

pub const AGENT_IMAGE: &str = "ghcr.io/rorun/rorun-operator:0.1.0";

/// In every secret value, and made so that no encoding of URLs changes it.
pub const CANARY: &str = "Canary7Canary7";

/// A certificate, and behind it what some bundles hold as well, and what must not leave the Secret.
const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----\nTWFkZSBmb3IgdGVzdHM=\n-----END CERTIFICATE-----\n\
                         -----BEGIN PRIVATE KEY-----\nCanary7Canary7\n-----END PRIVATE KEY-----\n";

/// Every Secret and `ConfigMap` that the spec names with the keys that it names, and credentials that were made before.
pub fn all_there(cr: &RorunStack) -> Observed {
    Placeholders { value: CANARY, authority: AUTHORITY, agent_image: AGENT_IMAGE }.observed(cr)
}

/// Nothing that the spec names, and credentials that were just made up.
pub fn nothing_there(cr: &RorunStack) -> Observed {
    let mut observed = all_there(cr);
    observed.secrets.values_mut().for_each(|data| *data = None);
    observed.config_maps.values_mut().for_each(|data| *data = None);
    observed.cluster = None;
    for state in observed.credentials.values_mut() {
        if let CredentialState::Present(data) = state {
            *state = CredentialState::Minted(std::mem::take(data));
        }
    }
    observed
}

/// Every service of the stack answers.
pub fn answering(stack: &Stack) -> BTreeMap<ProbeTarget, Probe> {
    stack
        .endpoints()
        .into_keys()
        .chain(stack.targets_from_pods())
        .map(|target| (target, Probe::answers(None)))
        .collect()
}
