//! The custom resources. What enters: YAML that users write. What leaves: typed specs and statuses.
//! Everything a user sees (`kubectl explain`, printer columns, admission errors) comes from these types.
//! Forbidden here: any meaning. Defaults and rules that need more than one field's schema live in `stack`.

pub mod v1alpha1;
