//! The generated credentials of embedded services: whether the stored ones are those that were generated, and generating them; the
//! only place with random numbers for them.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{PersistentVolumeClaim, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, ResourceExt,
    api::ListParams,
    core::{DynamicObject, PartialObjectMeta},
};
use rand::distr::{Alphanumeric, SampleString};

use super::{Context, error::ObserveError};
use crate::{
    api::v1alpha1::RorunStack,
    apply::api_resource,
    desired,
    names::{Component, FIELD_MANAGER, ObjectName, ROLE_CREDENTIALS, Waiting, annotation, label},
    objects::{Digest, LiveObject, LiveSet, Minted, ObjectKind, kind_of},
    runtime::ResourceKey,
    stack::{self, CredentialKeys, CredentialState, SecretData, connection_keys, credential_bytes, forms, keys_of},
};

/// The generated credentials of the services. The operator generates them only when neither they nor what they open exists, a volume or
/// an object of another project, for which it asks the API server: the caches show only labelled objects.
pub(super) async fn observe(
    context: &Context,
    cr: &RorunStack,
    key: &ResourceKey,
    live: &LiveSet,
    missing_apis: &BTreeMap<Component, Waiting>,
) -> Result<BTreeMap<Component, CredentialState>, ObserveError> {
    let uid = cr.metadata.uid.clone().unwrap_or_default();
    let mut witness = Witness { context, key, live, uid: &uid, connection: Connection::Unread };
    let mut states = BTreeMap::new();
    let mut missing = Vec::new();
    for (component, keys) in stack::generated(cr) {
        let name = ObjectName::with_role(&key.name, component, ROLE_CREDENTIALS);
        if let Some(secret) = live.named("Secret", name.as_str()).filter(|secret| secret.data().is_some()) {
            context.memory().minted.remove(&(uid.clone(), component));
            states.insert(component, witness.judge((component, keys), secret).await?);
        } else if let Some(data) = context.memory().minted.get(&(uid.clone(), component)) {
            states.insert(component, CredentialState::Minted(data.clone()));
        } else {
            missing.push(((component, keys), name));
        }
    }
    if missing.is_empty() {
        return Ok(states);
    }
    let kinds: BTreeMap<_, _> = desired::optional_kinds(&cr.spec).into_iter().rev().collect();
    let embedded = missing.iter().any(|((component, _), _)| !kinds.contains_key(component));
    let volumes = if embedded { volumes(context, &key.namespace).await? } else { Vec::new() };
    for ((component, keys), secret) in missing {
        let name = ObjectName::of(&key.name, component);
        let held = match kinds.get(&component) {
            // Whether there is one is not known.
            Some(_) if missing_apis.contains_key(&component) => continue,
            Some(kind) => holder(context, kind, &key.namespace, name.as_str()).await?,
            None => volumes.iter().find(|there| there.name_any() == name.as_str()).map(|there| there.metadata.clone()),
        };
        let state = if let Some(holder) = held {
            match unlabelled_secret(context, &key.namespace, secret.as_str()).await? {
                Some(secret) => witness.judge((component, keys), &secret).await?,
                None => without_credentials(&holder, &key.name),
            }
        } else {
            let data = mint(keys);
            context.memory().minted.insert((uid.clone(), component), data.clone());
            CredentialState::Minted(data)
        };
        states.insert(component, state);
    }
    Ok(states)
}

/// The Secrets of generated credentials that are not there while what they open is: whoever puts one back may leave out its labels, by
/// which the operator watches its own objects.
pub(super) fn lost<'a>(cr: &'a RorunStack, stack: &'a str, live: &'a LiveSet) -> impl Iterator<Item = String> + 'a {
    let kinds: BTreeMap<_, _> = desired::optional_kinds(&cr.spec).into_iter().rev().collect();
    stack::generated(cr).filter_map(move |(component, _)| {
        let secret = ObjectName::with_role(stack, component, ROLE_CREDENTIALS);
        let kind = kinds.get(&component).map_or("PersistentVolumeClaim", |kind| kind.kind);
        let opens = live.named(kind, ObjectName::of(stack, component).as_str()).is_some();
        (opens && live.named("Secret", secret.as_str()).is_none()).then(|| secret.into())
    })
}

/// The object of another project that stands for the service which the credentials open, whatever its labels.
async fn holder(
    context: &Context,
    kind: &ObjectKind,
    namespace: &str,
    name: &str,
) -> Result<Option<ObjectMeta>, ObserveError> {
    let client = context.runtime.client.clone();
    let api = Api::<DynamicObject>::namespaced_with(client, namespace, &api_resource(kind));
    let found = api.get_metadata_opt(name).await.map_err(ObserveError::Volumes)?;
    Ok(found.map(|found| found.metadata))
}

/// The evidence for whether stored credentials are those that were generated.
struct Witness<'a> {
    context: &'a Context,
    key: &'a ResourceKey,
    live: &'a LiveSet,
    uid: &'a str,
    connection: Connection,
}

/// The connection Secret, from which the application has its credentials.
enum Connection {
    /// It was not read yet.
    Unread,
    /// It does not exist.
    Absent,
    /// It has these members.
    Members(SecretData),
}

impl Witness<'_> {
    /// The state of credentials that are stored. The apply step refuses a Secret of another stack, and the validation one that
    /// lacks a key.
    async fn judge(
        &mut self,
        (component, keys): (Component, CredentialKeys),
        secret: &LiveObject,
    ) -> Result<CredentialState, ObserveError> {
        let data = secret.data().map(decode).unwrap_or_default();
        let there = keys_of(keys, &data);
        if credential_bytes(there, &data).is_none() || !secret.is_data_of(&self.key.name, self.uid) {
            return Ok(CredentialState::Present(data));
        }
        let mut digests = forms(keys).into_iter().filter_map(|form| credential_bytes(form, &data));
        let mut is_generated = |digest| digests.any(|bytes| Digest::of_bytes(&bytes) == digest);
        Ok(match secret.minted {
            Some(Minted::Adopt) => CredentialState::Present(data),
            Some(Minted::As(digest)) if is_generated(digest) => CredentialState::Present(data),
            Some(Minted::As(_) | Minted::Unreadable) => CredentialState::Changed,
            None if self.confirms((component, there), &data).await? => CredentialState::Present(data),
            None => CredentialState::Unconfirmed,
        })
    }

    /// Whether the application has the same credentials. This counts for Secrets without a digest of their own, as version 0.1.0
    /// made them. Where neither the connection Secret nor a pod that uses it exists, other credentials could cut off no pod: the
    /// stack is created again, or its creation was interrupted.
    async fn confirms(
        &mut self,
        (component, keys): (Component, CredentialKeys),
        data: &SecretData,
    ) -> Result<bool, ObserveError> {
        if matches!(self.connection, Connection::Unread) {
            self.connection = self.read_connection().await?;
        }
        let Connection::Members(members) = &self.connection else {
            let users = [Component::Api, Component::Ocr];
            return Ok(users.iter().all(|user| self.live.of_component("Deployment", user.as_str()).next().is_none()));
        };
        let mut told = connection_keys(component).iter().filter(|(key, _)| keys.iter().any(|(of, _)| of == key));
        Ok(told.all(|(key, member)| members.get(*member) == data.get(*key)))
    }

    /// Reads the connection Secret, whose members are not in the caches.
    async fn read_connection(&self) -> Result<Connection, ObserveError> {
        let name = ObjectName::of(&self.key.name, Component::Connection);
        let api = Api::<Secret>::namespaced(self.context.runtime.client.clone(), &self.key.namespace);
        let found = api.get_opt(name.as_str()).await.map_err(ObserveError::Volumes)?;
        let members = |secret: Secret| secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
        Ok(found.map_or(Connection::Absent, |secret| Connection::Members(members(secret).collect())))
    }
}

type Claim = PartialObjectMeta<PersistentVolumeClaim>;

/// Every volume claim in the namespace, whatever its labels.
async fn volumes(context: &Context, namespace: &str) -> Result<Vec<Claim>, ObserveError> {
    let api = Api::<PersistentVolumeClaim>::namespaced(context.runtime.client.clone(), namespace);
    let list = api.list_metadata(&ListParams::default()).await.map_err(ObserveError::Volumes)?;
    Ok(list.items)
}

/// The state of a volume whose credentials do not exist. A volume that no stack of this name has made holds foreign data.
fn without_credentials(holder: &ObjectMeta, stack: &str) -> CredentialState {
    let has = |label: &str, value: &str| {
        holder.labels.as_ref().is_some_and(|labels| labels.get(label).is_some_and(|found| found == value))
    };
    let of_stack = has(label::STACK, stack) || has(label::INSTANCE, stack);
    let labelled = has(label::MANAGED_BY, FIELD_MANAGER) && of_stack;
    let ours = |all: &BTreeMap<String, String>| all.contains_key(annotation::STACK_UID);
    if !labelled && !holder.annotations.as_ref().is_some_and(ours) {
        return CredentialState::VolumeTaken;
    }
    if holder.deletion_timestamp.is_some() {
        return CredentialState::VolumeTerminating;
    }
    CredentialState::Lost
}

/// The Secret beside an existing volume. One that only lost its labels is valid; the apply step restores the labels.
async fn unlabelled_secret(context: &Context, namespace: &str, name: &str) -> Result<Option<LiveObject>, ObserveError> {
    let api = Api::<Secret>::namespaced(context.runtime.client.clone(), namespace);
    let found = api.get_opt(name).await.map_err(ObserveError::Volumes)?;
    let whole = |secret| LiveObject::whole(kind_of("", "Secret")?, serde_json::to_value(secret).ok()?);
    Ok(found.and_then(whole))
}

fn mint(keys: CredentialKeys) -> SecretData {
    let mut random = rand::rng();
    let made = keys.iter().map(|(key, recipe)| {
        let value = match recipe {
            Ok(length) => Alphanumeric.sample_string(&mut random, *length),
            Err(fixed) => (*fixed).to_owned(),
        };
        ((*key).to_owned(), value.into_bytes())
    });
    made.collect()
}

pub(super) fn decode(data: &BTreeMap<String, String>) -> SecretData {
    let decoded = data.iter().filter_map(|(key, value)| {
        let bytes: ByteString = serde_json::from_value(serde_json::Value::String(value.clone())).ok()?;
        Some((key.clone(), bytes.0))
    });
    decoded.collect()
}
