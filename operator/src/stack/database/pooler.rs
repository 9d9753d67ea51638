//! PgBouncer before a database that the operator asks for, and how many connections it lets through.

use std::collections::BTreeMap;

/// The parameters of PgBouncer that limit connections, with what they are where the spec does not say, which CloudNativePG leaves as they
/// are. Of the last three 0 is no limit, and no reserve.
const MAX_CLIENT_CONN: (&str, u32) = ("max_client_conn", 100);
const DEFAULT_POOL_SIZE: (&str, u32) = ("default_pool_size", 20);
const RESERVE_POOL_SIZE: (&str, u32) = ("reserve_pool_size", 0);
const MAX_DB_CONNECTIONS: (&str, u32) = ("max_db_connections", 0);
const MAX_USER_CONNECTIONS: (&str, u32) = ("max_user_connections", 0);

/// PgBouncer.
#[derive(Clone, Debug)]
pub struct Pooler {
    /// How many pods.
    pub instances: i32,
    /// The mode, as PgBouncer has it.
    pub mode: &'static str,
    /// The image. `None`: that of CloudNativePG.
    pub image: Option<String>,
    /// Parameters of PgBouncer.
    pub parameters: BTreeMap<String, String>,
}

/// How many connections a pooler lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolerLimits {
    /// How many pods it has.
    pub pods: u32,
    /// How many clients each serves at a time.
    pub clients: u32,
    /// The parameter that allows no more.
    pub by: &'static str,
    /// How many connections to the database each opens for them.
    pub servers: u32,
    /// The parameter that allows no more.
    pub servers_by: &'static str,
}

impl Pooler {
    /// What each pod lets through. In the mode `session` a client has a connection of the server until it leaves.
    pub(super) fn limits(&self) -> PoolerLimits {
        let of = |(name, usual): (&'static str, u32)| {
            let said = self.parameters.get(name).and_then(|value| value.trim().parse().ok());
            (name, said.unwrap_or(usual))
        };
        let (pool, size) = of(DEFAULT_POOL_SIZE);
        let limits = [of(MAX_DB_CONNECTIONS), of(MAX_USER_CONNECTIONS)].into_iter().filter(|(_, most)| *most != 0);
        let full = (pool, size.saturating_add(of(RESERVE_POOL_SIZE).1));
        let (servers_by, servers) = limits.fold(full, |least, limit| if limit.1 < least.1 { limit } else { least });
        let (by, clients) = match of(MAX_CLIENT_CONN) {
            (_, most) if self.mode == "session" && servers < most => (servers_by, servers),
            most => most,
        };
        PoolerLimits { pods: u32::try_from(self.instances).unwrap_or(0), clients, by, servers, servers_by }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::as_it_comes("session", &[], (20, "default_pool_size"), 20)]
    #[case::shared("transaction", &[], (100, "max_client_conn"), 20)]
    #[case::few_clients("session", &[("max_client_conn", "9")], (9, "max_client_conn"), 20)]
    #[case::a_reserve("session", &[("reserve_pool_size", "5")], (25, "default_pool_size"), 25)]
    #[case::of_the_user("session", &[("max_user_connections", "7"), ("max_db_connections", "8")], (7, "max_user_connections"), 7)]
    #[case::of_the_database("transaction", &[("max_db_connections", "8")], (100, "max_client_conn"), 8)]
    #[case::unreadable("transaction", &[("max_client_conn", "many")], (100, "max_client_conn"), 20)]
    fn what_it_lets_through(
        #[case] mode: &'static str,
        #[case] parameters: &[(&str, &str)],
        #[case] clients: (u32, &str),
        #[case] servers: u32,
    ) {
        let parameters = parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let limits = Pooler { instances: 3, mode, image: None, parameters }.limits();
        assert_eq!(((limits.clients, limits.by), limits.servers, limits.pods), (clients, servers, 3));
    }
}
