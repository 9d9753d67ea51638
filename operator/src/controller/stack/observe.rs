//! The reads of the cluster.

use std::collections::BTreeMap;

use super::{Context, cluster, credentials, error::ObserveError, optional, ownership, steps};
pub(super) use crate::controller::clock::now;
use crate::{
    api::v1alpha1::RorunStack,
    names::{Component, ObjectName, ROLE_CANDIDATE},
    objects::{Claim, LiveSet, ServerTemplate},
    runtime::{ResourceKey, references::Needs},
    stack::{self, Content, Hibernation, Observed, ObservedVolume, RunningServer, SecretTraits, WORKLOADS},
};

/// Reads the objects that the spec names, and those that exist of the stack.
pub(super) async fn observe(
    context: &Context,
    cr: &RorunStack,
    key: &ResourceKey,
    live: &LiveSet,
) -> Result<Observed, ObserveError> {
    let missing_apis = optional::missing(&context.runtime.optional, cr, key);
    let mut observed = Observed {
        agent_image: context.agent_image.clone(),
        approvals_verified: context.approvals_verified,
        missing_apis,
        clusters: cluster::clusters(cr, key, live),
        ..Observed::default()
    };
    steps::observe(cr, live, &mut observed);
    context.observe_restores((cr, key), live, &mut observed);
    // The last status, which the cache may not show yet, says since when the stack is known to expire.
    observed.hibernation = Hibernation::at(cr, context.runtime.statuses.last(cr).as_ref(), now().as_second());
    let served = observed.releases.served().filter(|served| served.content != Content::of(&cr.spec));
    let served = served.and_then(|served| served.in_spec(&cr.spec));
    let mut named = stack::references(&key.name, &cr.spec);
    if let Some(served) = &served {
        named.add(stack::references(&key.name, served));
    }
    if stack::cluster(cr).is_some() {
        named.cluster(&observed.clusters.live_or_first(&key.name));
        for recovered in cluster::recovering(key, &observed) {
            named.cluster(&recovered);
        }
    }
    named.secrets.extend(credentials::lost(cr, &key.name, live));
    named.add(context.asked_references(key));
    context.references.set(key, needs(&named));
    for (name, keys) in &named.keys {
        let found = context.references.secret(&key.namespace, name, keys).await;
        let found = found.map_err(|error| ObserveError::Reference(format!("secret/{name}"), error))?;
        let traits = found.as_ref().map(|found| SecretTraits { for_s3: found.s3, too_large: found.too_large });
        observed.traits.extend(traits.map(|traits| (name.clone(), traits)));
        observed.secrets.insert(name.clone(), found.map(|found| found.values));
    }
    context.observe_backups(cr, key, &mut observed);
    observed.credentials = credentials::observe(context, cr, key, live, &observed.missing_apis).await?;
    observed.volumes = existing_volumes(context, cr, key, live).await?;
    cluster::observe(context, (cr, key), live, &mut observed).await?;
    let said = |of: Component, name: ObjectName| {
        Some((of, live.named("Deployment", name.as_str())?.corrected.as_deref()?.to_owned()))
    };
    observed.corrected = WORKLOADS.into_iter().filter_map(|of| said(of, ObjectName::of(&key.name, of))).collect();
    let candidate = |of| ObjectName::with_role(&key.name, of, ROLE_CANDIDATE);
    observed.corrected_candidates = WORKLOADS.into_iter().filter_map(|of| said(of, candidate(of))).collect();
    ownership::observe(context, cr, key, &mut observed).await?;
    let mut inputs = stack::config_inputs(cr, &observed);
    let of_spec = inputs.len();
    if let Some(served) = served {
        inputs.extend(stack::config_inputs(&RorunStack { spec: served, ..cr.clone() }, &observed));
    }
    let configuration = context.configurations.of(key, &inputs).await;
    let mut configuration = configuration.map_err(|(name, error)| ObserveError::Reference(name, error))?;
    observed.releases.configuration = configuration.split_off(of_spec).into_iter().collect();
    observed.configuration = configuration.into_iter().collect();
    Ok(observed)
}

/// The Secrets and `ConfigMaps` that the spec names, with the keys whose values the operator itself uses.
fn needs(named: &stack::References) -> Needs {
    let keys = |name: &String| named.keys.get(name).cloned().unwrap_or_default();
    Needs {
        secrets: named.secrets.iter().map(|name| (name.clone(), keys(name))).collect(),
        config_maps: named.config_maps.clone(),
    }
}

/// The volumes of embedded services that exist. The StorageClass is read only where a volume is to grow.
async fn existing_volumes(
    context: &Context,
    cr: &RorunStack,
    key: &ResourceKey,
    live: &LiveSet,
) -> Result<BTreeMap<Component, ObservedVolume>, ObserveError> {
    let mut volumes = BTreeMap::new();
    for component in stack::embedded(cr) {
        let name = ObjectName::of(&key.name, component);
        let there = live.named("PersistentVolumeClaim", name.as_str());
        let Some(claim) = there.and_then(|there| there.claim.as_deref()) else { continue };
        let expandable = match &claim.class {
            Some(class) if stack::grows(stack::storage(cr, component), component, &claim.size) => {
                let asked = context.storage_classes.expandable(&context.runtime.client, class).await;
                asked.map_err(|error| ObserveError::StorageClass(class.clone(), error))?
            }
            _ => None,
        };
        let Claim { size, class, class_applied, data_files, wal: _ } = claim.clone();
        let server = running_server(live, name.as_str()).filter(|_| data_files.is_none());
        let uid = there.map(|there| there.uid.to_string()).unwrap_or_default();
        let volume = ObservedVolume { uid, size, class, class_applied, expandable, data_files, server };
        volumes.insert(component, volume);
    }
    Ok(volumes)
}

fn running_server(live: &LiveSet, name: &str) -> Option<RunningServer> {
    let there = live.named("StatefulSet", name)?;
    let ServerTemplate { image, user, mount } = there.server.as_deref()?.clone();
    Some(RunningServer { image, user, mount, ready: there.readiness.is_ready() })
}
