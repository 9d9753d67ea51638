//! Whether a Redis is in cluster mode, by the spec: what the server says of itself is compared with it.

/// What the spec says of the cluster mode of a Redis, and what it calls for where the server is otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClusterMode {
    /// Whether it is in cluster mode. `None`: the spec says nothing.
    pub declared: Option<bool>,
    /// The field that says so.
    pub field: &'static str,
    /// What to do where the field is true and the server is not in cluster mode.
    pub is_not: &'static str,
    /// What to do where the server is in cluster mode and the field is not true.
    pub is: &'static str,
}
