//! The Secret with the generated credentials of an embedded service. It stays when the stack is deleted.

use k8s_openapi::{ByteString, api::core::v1::Secret};

use super::metadata;
use crate::{
    names::{Component, ROLE_CREDENTIALS},
    objects::{ApplyPolicy, DesiredObject},
    stack::{Credentials, Stack},
};

/// The Secret. Its data are those that were observed, or, once, those that were made up.
pub(super) fn secret(stack: &Stack, component: Component, credentials: &Credentials) -> DesiredObject {
    let name = stack.child_role(component, ROLE_CREDENTIALS);
    let data = credentials.0.iter().map(|(key, value)| (key.clone(), ByteString(value.clone()))).collect();
    let secret = Secret {
        data: Some(data),
        metadata: metadata::retained(stack, component, name),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    DesiredObject::new(&secret, ApplyPolicy::CreateOnce)
}
