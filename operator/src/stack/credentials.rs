//! The generated credentials of embedded services.

use super::{CredentialState, Observed, SecretData};
use crate::names::{Component, ObjectName, ROLE_CREDENTIALS, Waiting, annotation, reason};

/// The keys of generated credentials: name, and how many random characters, or a fixed value.
pub type CredentialKeys = &'static [(&'static str, Result<usize, &'static str>)];

/// The user of the application in an embedded Redis.
const REDIS_USER: &str = "rorun";
/// Of an embedded Redis, in which the application is a user of its own.
const REDIS: CredentialKeys = &[("username", Err(REDIS_USER)), ("password", Ok(32))];
/// Of a Redis that has one user, `default`: a managed one, and an embedded one that was made before there were others.
pub(super) const PASSWORD: CredentialKeys = &[("password", Ok(32))];

/// Credentials by key, as the Secret `<stack>-<component>-credentials` holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The values by key; a user may have added some.
    pub data: SecretData,
    /// The keys that the operator generates.
    pub keys: CredentialKeys,
}

/// Which credentials are sought.
pub(super) struct Sought<'a> {
    pub(super) stack: &'a str,
    pub(super) component: Component,
    pub(super) keys: CredentialKeys,
    /// The object that holds the data which they open, as messages name it.
    pub(super) holder: String,
    /// The holder stands for a service of a provider, where the data are.
    pub(super) managed: bool,
}

impl Sought<'_> {
    /// Those of an embedded service.
    pub(super) fn embedded(stack: &str, component: Component) -> Sought<'_> {
        let holder = format!("persistentvolumeclaim/{}", ObjectName::of(stack, component));
        Sought { stack, component, keys: credential_keys(component), holder, managed: false }
    }
}

impl Credentials {
    /// Whether the operator generates a member.
    pub fn generates(&self, key: &str) -> bool {
        self.keys.iter().any(|(generated, _)| *generated == key)
    }

    /// A member as text; empty if it is missing, which [`resolve`] has ruled out for the documented keys.
    pub fn text(&self, key: &str) -> &str {
        self.data.get(key).and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default()
    }
}

/// The keys of an embedded service's credentials.
pub fn credential_keys(component: Component) -> CredentialKeys {
    match component {
        Component::Database => &[("username", Err("rorun")), ("database", Err("rorun")), ("password", Ok(32))],
        Component::Redis => REDIS,
        Component::Bucket => &[("accessKeyId", Ok(20)), ("secretAccessKey", Ok(40))],
        _ => &[],
    }
}

/// The keys of credentials that are there: an embedded Redis that was made with a password alone keeps it, and so its arguments and
/// its URL. Another `username` than the one that is generated is a key that a user added.
pub fn keys_of(keys: CredentialKeys, data: &SecretData) -> CredentialKeys {
    let is_generated = || data.get("username").is_some_and(|user| user == REDIS_USER.as_bytes());
    if keys == REDIS && !is_generated() { PASSWORD } else { keys }
}

/// The forms in which the credentials of a service may have been generated: those of a Redis stay when it gets another mode.
pub fn forms(keys: CredentialKeys) -> Vec<CredentialKeys> {
    if keys == REDIS || keys == PASSWORD { vec![REDIS, PASSWORD] } else { vec![keys] }
}

/// The keys of a component's credentials, and the keys of the connection Secret with the same values.
pub fn connection_keys(component: Component) -> &'static [(&'static str, &'static str)] {
    match component {
        Component::Database => &[("username", "PGUSER"), ("database", "PGDATABASE"), ("password", "PGPASSWORD")],
        Component::Redis => &[("username", "REDIS_USERNAME"), ("password", "REDIS_PASSWORD")],
        Component::Bucket => &[("accessKeyId", "AWS_ACCESS_KEY_ID"), ("secretAccessKey", "AWS_SECRET_ACCESS_KEY")],
        _ => &[],
    }
}

/// The documented values in one string of bytes, of which no other values have the same. `None`: one is missing.
pub fn credential_bytes(keys: CredentialKeys, data: &SecretData) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for (key, _) in keys {
        let value = data.get(*key).filter(|value| !value.is_empty())?;
        bytes.extend_from_slice(key.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(&(value.len() as u64).to_be_bytes());
        bytes.extend_from_slice(value);
    }
    Some(bytes)
}

/// The credentials of a service, or why there are none.
pub(super) fn resolve(of: &Sought<'_>, observed: &Observed) -> Result<Credentials, Waiting> {
    let secret = ObjectName::with_role(of.stack, of.component, ROLE_CREDENTIALS);
    let data = match observed.credentials.get(&of.component) {
        Some(CredentialState::Present(data) | CredentialState::Minted(data)) => data,
        Some(unusable) => return Err(unusable.waiting(of, observed)),
        None => return Err(CredentialState::Lost.waiting(of, observed)),
    };
    let keys = keys_of(of.keys, data);
    for (key, _) in keys {
        if data.get(*key).is_none_or(|value| value.is_empty() || std::str::from_utf8(value).is_err()) {
            return Err(Waiting::new(
                reason::KEY_MISSING,
                format!("secret/{secret} lacks the key {key}: put it back from a copy"),
            ));
        }
    }
    Ok(Credentials { data: data.clone(), keys })
}

/// The keys of the connection Secret that hold the credentials, as messages name them.
fn told_as(component: Component, keys: CredentialKeys) -> String {
    if keys == REDIS {
        return "REDIS_PASSWORD and any REDIS_USERNAME".to_owned();
    }
    let told = connection_keys(component).iter().filter(|(key, _)| keys.iter().any(|(of, _)| of == key));
    told.map(|(_, told)| *told).collect::<Vec<_>>().join(", ")
}

impl CredentialState {
    /// Why nothing is done with credentials in this state.
    fn waiting(&self, of: &Sought<'_>, observed: &Observed) -> Waiting {
        let Sought { stack, component, holder, managed, .. } = of;
        let (stack, component) = (*stack, *component);
        let secret = ObjectName::with_role(stack, component, ROLE_CREDENTIALS);
        let connection = ObjectName::of(stack, Component::Connection);
        let (key, value) = (annotation::CREDENTIALS_DIGEST, annotation::ADOPT);
        let keys = told_as(component, of.keys);
        match self {
            Self::VolumeTerminating | Self::Lost | Self::Present(_) | Self::Minted(_) if *managed => {
                self.waiting_of_managed(of, &keys, observed)
            }
            Self::VolumeTaken => Waiting::new(
                reason::NAME_TAKEN,
                format!(
                    "{holder} exists and is not of this stack, and is left alone: give the stack \
                     another name, or remove it if nobody needs it"
                ),
            ),
            Self::VolumeTerminating => Waiting::new(
                reason::VOLUME_TERMINATING,
                format!(
                    "{holder} is being deleted and secret/{secret} is gone: the data are gone when the \
                     pod stops, and both are made again, empty; until then the data can be copied, with {keys} of \
                     secret/{connection}"
                ),
            ),
            Self::Changed => Waiting::new(
                reason::CREDENTIALS_CHANGED,
                format!(
                    "secret/{secret} was changed by hand, which changes nothing in the server, so the application keeps what \
                     it has: put the values back, which secret/{connection} still holds ({keys}); or, if the server knows the \
                     new ones, annotate secret/{secret} with {key}={value}"
                ),
            ),
            Self::Unconfirmed => Waiting::new(
                reason::CREDENTIALS_CHANGED,
                format!(
                    "secret/{secret} may have been changed by hand: it has no {key}, and {keys} of secret/{connection} differ \
                     from it or are gone, so the application keeps what it has: put the right values back; or, if they are \
                     right, annotate secret/{secret} with {key}={value}"
                ),
            ),
            Self::Lost | Self::Present(_) | Self::Minted(_) => Waiting::new(
                reason::CREDENTIALS_LOST,
                format!(
                    "secret/{secret} is gone while {holder} holds data that only it opens{}: put the \
                     Secret back from a copy (secret/{connection}, if it is there, still holds its values as {keys}); or, to \
                     start empty, delete the PersistentVolumeClaim",
                    lost_as_well(stack, component, observed)
                ),
            ),
        }
    }
}

impl CredentialState {
    /// Likewise, where what they open is at a provider.
    fn waiting_of_managed(&self, of: &Sought<'_>, keys: &str, observed: &Observed) -> Waiting {
        let Sought { stack, component, holder, .. } = of;
        let secret = ObjectName::with_role(stack, *component, ROLE_CREDENTIALS);
        if *self == Self::VolumeTerminating {
            let message = format!(
                "{holder} is being deleted and secret/{secret} is gone: both are made again when it is gone; what it stood for may go \
                 on to exist at its provider, under the name that is wanted again: remove or rename it there"
            );
            return Waiting::new(reason::TERMINATING, message);
        }
        let connection = ObjectName::of(stack, Component::Connection);
        let message = format!(
            "secret/{secret} is gone while {holder} exists, whose service knows its passwords{}: put the Secret back from a copy \
             (secret/{connection}, if it is there, still holds {keys})",
            lost_as_well(stack, *component, observed)
        );
        Waiting::new(reason::CREDENTIALS_LOST, message)
    }
}

/// The other Secrets that are lost: a deletion by labels takes all of them, and one message names the cause.
fn lost_as_well(stack: &str, component: Component, observed: &Observed) -> String {
    let others =
        observed.credentials.iter().filter(|(other, state)| **other != component && **state == CredentialState::Lost);
    let names: Vec<_> =
        others.map(|(other, _)| format!("secret/{}", ObjectName::with_role(stack, *other, ROLE_CREDENTIALS))).collect();
    if names.is_empty() { String::new() } else { format!(", and so is {}", names.join(" and ")) }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn data(values: &[(&str, &str)]) -> SecretData {
        values.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn every_key_is_told_to_the_application() {
        for component in Component::ALL {
            let mut told: Vec<_> = connection_keys(component).iter().map(|(key, _)| *key).collect();
            let mut keys: Vec<_> = credential_keys(component).iter().map(|(key, _)| *key).collect();
            told.sort_unstable();
            keys.sort_unstable();
            assert_eq!(told, keys, "{component}");
        }
    }

    #[test]
    fn other_values_have_other_bytes() {
        let bytes = |id: &str, key: &str| {
            credential_bytes(
                credential_keys(Component::Bucket),
                &data(&[("accessKeyId", id), ("secretAccessKey", key)]),
            )
        };
        assert_eq!(bytes("a", "b"), bytes("a", "b"));
        let all = [("a", "b"), ("b", "a"), ("ab", "c"), ("a", "bc"), ("a\0", "b")].map(|(id, key)| bytes(id, key));
        for (index, one) in all.iter().enumerate() {
            assert!(one.is_some() && all[index + 1..].iter().all(|other| other != one), "{index}");
        }
        assert_eq!(bytes("", "b"), None);
        assert_eq!(credential_bytes(credential_keys(Component::Redis), &SecretData::new()), None);
        // A key that a user adds is no generated credential.
        let more = data(&[("password", "a"), ("mine", "b")]);
        assert_eq!(credential_bytes(PASSWORD, &more), credential_bytes(PASSWORD, &data(&[("password", "a")])));
    }

    #[test]
    fn a_redis_of_a_password_alone_keeps_it() {
        let keys = credential_keys(Component::Redis);
        assert_eq!(keys_of(keys, &data(&[("password", "a")])), PASSWORD);
        for foreign in ["", "default", "a b", "Rorun"] {
            assert_eq!(keys_of(keys, &data(&[("username", foreign), ("password", "a")])), PASSWORD, "{foreign:?}");
        }
        assert_eq!(keys_of(keys, &data(&[("username", "rorun"), ("password", "a")])), keys);
        let database = credential_keys(Component::Database);
        assert_eq!(keys_of(database, &data(&[("password", "a")])), database);
    }

    #[rstest]
    #[case(CredentialState::Changed, "CredentialsChanged", &["secret/shop-redis-credentials was changed by hand",
        "which secret/shop-connection still holds (REDIS_PASSWORD and any REDIS_USERNAME)", "rorun.app/credentials-digest=adopt"])]
    #[case(CredentialState::Unconfirmed, "CredentialsChanged", &["secret/shop-redis-credentials may have been changed",
        "secret/shop-connection", "rorun.app/credentials-digest=adopt"])]
    #[case(CredentialState::Lost, "CredentialsLost", &["secret/shop-redis-credentials is gone while",
        ", and so is secret/shop-database-credentials: put the Secret back"])]
    #[case(CredentialState::VolumeTerminating, "VolumeTerminating", &["persistentvolumeclaim/shop-redis is being deleted",
        "the data are gone when the pod stops", "with REDIS_PASSWORD and any REDIS_USERNAME of secret/shop-connection"])]
    fn what_is_told_names_the_secret_and_the_way_out(
        #[case] state: CredentialState,
        #[case] reason: &str,
        #[case] words: &[&str],
    ) {
        let credentials = [(Component::Redis, state), (Component::Database, CredentialState::Lost)].into();
        let observed = Observed { credentials, ..Observed::default() };
        let waiting = resolve(&Sought::embedded("shop", Component::Redis), &observed).expect_err("there are none");
        assert_eq!(waiting.reason, reason);
        for word in words {
            assert!(waiting.message.contains(word), "no {word:?} in {}", waiting.message);
        }
    }
}
