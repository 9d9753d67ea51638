//! The roles of objects beside a component's own, e.g. `credentials` in `shop-database-credentials`.

use std::fmt;

use super::Component;

/// The role of an object, the last word of its name. No other module can make one up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Role(&'static str);

/// The role of a Secret with generated credentials.
pub const ROLE_CREDENTIALS: Role = Role("credentials");
/// The role of the `ConfigMap` with certificate authorities.
pub const ROLE_CA: Role = Role("ca");

/// The role of the pod of a release that is tested before its rollout, and of its Service.
pub const ROLE_CANDIDATE: Role = Role("candidate");

/// The role of the Pooler of a database.
pub const ROLE_POOLER: Role = Role("pooler");

/// The role of the Secret with the keys that an archive is written by.
pub const ROLE_ARCHIVE: Role = Role("archive");

/// The role of the `ConfigMap` that names the live Cluster of a database.
pub const ROLE_LIVE: Role = Role("live");

impl Role {
    /// Each.
    pub const ALL: [Self; 6] = [ROLE_CREDENTIALS, ROLE_CA, ROLE_CANDIDATE, ROLE_POOLER, ROLE_ARCHIVE, ROLE_LIVE];

    /// The part of names.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The build fails where a role is also a component, or where either is more than one word: `shop` with the role `migrate` of the
/// component `api` and `shop-api` with a component `migrate` would both name an object `shop-api-migrate`.
const _: () = {
    let (mut role, mut component) = (0, 0);
    while component < Component::ALL.len() {
        assert!(is_one_word(Component::ALL[component].as_str()), "a component is more than one word");
        component += 1;
    }
    while role < Role::ALL.len() {
        assert!(is_one_word(Role::ALL[role].0), "a role is more than one word");
        component = 0;
        while component < Component::ALL.len() {
            assert!(!is_equal(Role::ALL[role].0, Component::ALL[component].as_str()), "a role is also a component");
            component += 1;
        }
        role += 1;
    }
};

const fn is_one_word(text: &str) -> bool {
    let (text, mut index) = (text.as_bytes(), 0);
    while index < text.len() {
        if !text[index].is_ascii_lowercase() {
            return false;
        }
        index += 1;
    }
    !text.is_empty()
}

const fn is_equal(one: &str, other: &str) -> bool {
    let (one, other, mut index) = (one.as_bytes(), other.as_bytes(), 0);
    while index < one.len() && index < other.len() {
        if one[index] != other[index] {
            return false;
        }
        index += 1;
    }
    one.len() == other.len()
}
