//! The APIs of other projects, as arguments name them.

use crate::objects::{OPTIONAL_APIS, OptionalApi};

/// The API of a name.
pub(super) fn api(name: &str) -> Result<&'static OptionalApi, String> {
    let known = || OPTIONAL_APIS.map(|api| api.name).join(", ");
    OptionalApi::named(name).ok_or_else(|| format!("the operator knows {}", known()))
}
