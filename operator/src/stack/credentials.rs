//! The generated credentials of embedded services.

use super::{CredentialState, Observed, SecretData};
use crate::names::{Component, ObjectName, ROLE_CREDENTIALS, Waiting, reason};

/// Credentials by key, as the Secret `<stack>-<component>-credentials` holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials(pub SecretData);

impl Credentials {
    /// A member as text; empty if it is missing, which [`resolve`] has ruled out for the documented keys.
    pub fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default()
    }
}

/// The keys of a component's credentials: name, and how many random characters, or a fixed value.
pub fn credential_keys(component: Component) -> &'static [(&'static str, Result<usize, &'static str>)] {
    match component {
        Component::Database => &[("username", Err("rorun")), ("database", Err("rorun")), ("password", Ok(32))],
        Component::Redis => &[("password", Ok(32))],
        Component::Bucket => &[("accessKeyId", Ok(20)), ("secretAccessKey", Ok(40))],
        _ => &[],
    }
}

/// The credentials of an embedded service, or why there are none.
pub(super) fn resolve(stack: &str, component: Component, observed: &Observed) -> Result<Credentials, Waiting> {
    let secret = ObjectName::with_role(stack, component, ROLE_CREDENTIALS);
    let data = match observed.credentials.get(&component) {
        Some(CredentialState::Present(data) | CredentialState::Minted(data)) => data,
        Some(CredentialState::VolumeTaken) => {
            let volume = ObjectName::of(stack, component);
            return Err(Waiting::new(
                reason::NAME_TAKEN,
                format!(
                    "persistentvolumeclaim/{volume} exists and is not of this stack, and is left alone: give the stack \
                     another name, or remove it if nobody needs it"
                ),
            ));
        }
        Some(CredentialState::VolumeTerminating) => {
            let volume = ObjectName::of(stack, component);
            return Err(Waiting::new(
                reason::TERMINATING,
                format!("persistentvolumeclaim/{volume} is being deleted, and is made again when it is gone"),
            ));
        }
        Some(CredentialState::Lost) | None => {
            let volume = ObjectName::of(stack, component);
            return Err(Waiting::new(
                reason::CREDENTIALS_LOST,
                format!(
                    "secret/{secret} is gone while persistentvolumeclaim/{volume} holds data that only it opens: put the \
                     Secret back from a copy; or, to start empty, delete the PersistentVolumeClaim"
                ),
            ));
        }
    };
    for (key, _) in credential_keys(component) {
        if data.get(*key).is_none_or(|value| value.is_empty() || std::str::from_utf8(value).is_err()) {
            return Err(Waiting::new(
                reason::KEY_MISSING,
                format!("secret/{secret} lacks the key {key}: put it back from a copy"),
            ));
        }
    }
    Ok(Credentials(data.clone()))
}
