//! The Secret with the generated credentials of a service. It stays when the stack is deleted.

use k8s_openapi::{ByteString, api::core::v1::Secret};

use super::metadata;
use crate::{
    names::{Component, ROLE_CREDENTIALS, annotation},
    objects::{ApplyPolicy, DesiredObject, Digest},
    stack::{Credentials, Stack, credential_bytes},
};

/// The Secret. Its data are those that were observed or, once, those that the operator generated. Its annotation holds a digest
/// of them, so that the operator notices a change by hand. The digest needs no salt: generated values are too long to guess, and
/// any reader of the annotation may read the values beside it.
pub(super) fn secret(stack: &Stack, component: Component, credentials: &Credentials) -> DesiredObject {
    let name = stack.child_role(component, ROLE_CREDENTIALS);
    let mut metadata = metadata::retained(stack, component, name);
    if let Some(bytes) = credential_bytes(credentials.keys, &credentials.data) {
        let digest = (annotation::CREDENTIALS_DIGEST.to_owned(), Digest::of_bytes(&bytes).to_string());
        metadata.annotations.get_or_insert_default().extend([digest]);
    }
    let data = credentials.data.iter().map(|(key, value)| (key.clone(), ByteString(value.clone()))).collect();
    let secret = Secret { data: Some(data), metadata, type_: Some("Opaque".to_owned()), ..Secret::default() };
    DesiredObject::new(&secret, ApplyPolicy::CreateOnce)
}
