//! What a service says of itself, once it lets a login in: plain data, which a stack is compared with elsewhere.
//!
//! Nothing here changes by itself from one question to the next, such as an age or a latency, so that looking again is no news.

/// What a service says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceFacts {
    /// The version of the server. `None`: it does not say.
    pub version: Option<String>,
    /// Of a database that was examined.
    pub database: Option<DatabaseFacts>,
}

/// What a database says of itself and of the user who asks. What is `None` it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatabaseFacts {
    /// The user who is logged in.
    pub user: Option<String>,
    /// The major version of the server.
    pub major: Option<u32>,
    /// Whether sessions cannot write.
    pub read_only: bool,
    /// Whether a pooler stands between.
    pub pooled: Option<bool>,
    /// Whether that pooler gives each transaction another session.
    pub shared_sessions: Option<bool>,
    /// How many connections there can be.
    pub connections: Option<ConnectionLimit>,
    /// The encoding of the database.
    pub encoding: Option<String>,
    /// By more than how many seconds its clock differs.
    pub clock_off_by: Option<u32>,
    /// The schema that a migration makes tables in.
    pub schema: Option<String>,
    /// Whether this user may make tables there.
    pub may_create: Option<bool>,
    /// What a dump by this user cannot read, by schema. `None`: it could not be found out.
    pub unreadable: Option<Vec<Unreadable>>,
}

impl DatabaseFacts {
    /// With what was known before of all that a busy server did not answer this time: no answer is no news.
    fn since(self, before: &Self) -> Self {
        Self {
            user: self.user.or_else(|| before.user.clone()),
            major: self.major.or(before.major),
            read_only: self.read_only,
            pooled: self.pooled.or(before.pooled),
            shared_sessions: self.shared_sessions.or(before.shared_sessions),
            connections: self.connections.or(before.connections),
            encoding: self.encoding.or_else(|| before.encoding.clone()),
            clock_off_by: self.clock_off_by,
            schema: self.schema.or_else(|| before.schema.clone()),
            may_create: self.may_create.or(before.may_create),
            unreadable: self.unreadable.or_else(|| before.unreadable.clone()),
        }
    }
}

impl ServiceFacts {
    /// With what was known before of all that the service did not say this time.
    #[must_use]
    pub fn since(self, before: &Self) -> Self {
        let database = match (self.database, &before.database) {
            (Some(now), Some(before)) => Some(now.since(before)),
            (now, before) => now.or_else(|| before.clone()),
        };
        Self { version: self.version.or_else(|| before.version.clone()), database }
    }
}

/// How many connections this user can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimit {
    /// So many at most.
    pub available: u32,
    /// What allows no more.
    pub by: LimitedBy,
}

/// What limits connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitedBy {
    /// The server.
    Server {
        /// `max_connections`.
        max: u32,
        /// How many of these are kept for superusers and maintenance.
        reserved: u32,
    },
    /// `CONNECTION LIMIT` of the role.
    Role,
    /// `CONNECTION LIMIT` of the database.
    Database,
}

/// What a dump cannot read of a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The schema.
    pub schema: String,
    /// The first table.
    pub table: String,
    /// How many tables and sequences there are like it.
    pub count: u32,
    /// What is missing.
    pub lacks: Lacks,
}

/// What is missing to read a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacks {
    /// The right to use the schema.
    Usage,
    /// The right to read the table.
    Select,
    /// `BYPASSRLS`: policies hide rows.
    BypassRls,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_busy_server_does_not_answer_is_as_before() {
        let of = |major, may_create, read_only| {
            let database = DatabaseFacts { major, read_only, may_create, ..DatabaseFacts::default() };
            ServiceFacts { version: None, database: Some(database) }
        };
        let before = of(Some(17), Some(false), true);
        assert_eq!(of(None, None, false).since(&before), of(Some(17), Some(false), false));
        assert_eq!(of(Some(18), Some(true), true).since(&before), of(Some(18), Some(true), true));
        assert_eq!(ServiceFacts::default().since(&before), before);
    }
}
