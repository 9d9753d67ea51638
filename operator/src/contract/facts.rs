//! What a service says of itself, once it lets a login in: plain data, which a stack is compared with elsewhere.
//!
//! Nothing here changes by itself from one question to the next, such as an age or a latency, so that looking again is no news.

use serde::{Deserialize, Serialize};

use crate::names::{Waiting, reason};

/// What a service says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceFacts {
    /// The version of the server. `None`: it does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Of a database that was examined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseFacts>,
}

/// What a database says of itself and of the user who asks. What is `None` it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DatabaseFacts {
    /// The user who is logged in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The major version of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub major: Option<u32>,
    /// Whether sessions cannot write.
    pub read_only: bool,
    /// Whether a pooler stands between.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooled: Option<bool>,
    /// Whether that pooler gives each transaction another session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_sessions: Option<bool>,
    /// How many connections there can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<ConnectionLimit>,
    /// The fewest of these that others held whenever it was asked: other users, or users of other databases. What they hold comes and
    /// goes, so more of them is no news.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub others: Option<u32>,
    /// The encoding of the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
    /// By more than how many seconds its clock differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_off_by: Option<u32>,
    /// The schema that a migration makes tables in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Whether this user may make tables there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub may_create: Option<bool>,
    /// What a dump by this user cannot read, by schema. `None`: it could not be found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<Vec<Unreadable>>,
}

impl DatabaseFacts {
    /// With what was known before of all that a busy server did not answer this time: no answer is no news.
    fn since(self, before: &Self) -> Self {
        let others = self.least_of_others(before);
        Self {
            user: self.user.or_else(|| before.user.clone()),
            major: self.major.or(before.major),
            read_only: self.read_only,
            pooled: self.pooled.or(before.pooled),
            shared_sessions: self.shared_sessions.or(before.shared_sessions),
            connections: self.connections.or(before.connections),
            others,
            encoding: self.encoding.or_else(|| before.encoding.clone()),
            clock_off_by: self.clock_off_by,
            schema: self.schema.or_else(|| before.schema.clone()),
            may_create: self.may_create.or(before.may_create),
            unreadable: self.unreadable.or_else(|| before.unreadable.clone()),
        }
    }
}

impl DatabaseFacts {
    /// By what limits the connections now: others of another limit are others.
    fn least_of_others(&self, before: &Self) -> Option<u32> {
        let limit = self.connections.or(before.connections);
        let before = before.others.filter(|_| before.connections == limit);
        before.into_iter().chain(self.others).min()
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionLimit {
    /// So many at most.
    pub available: u32,
    /// What allows no more.
    pub by: LimitedBy,
}

/// What limits connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Lacks {
    /// The right to use the schema.
    Usage,
    /// The right to read the table.
    Select,
    /// `BYPASSRLS`: policies hide rows.
    BypassRls,
}

/// What is told of a database that the application cannot write to.
pub fn read_only() -> Waiting {
    let message = "the database is read-only, and the application writes: name the primary in the URL, or end what makes it \
                   read-only: a replica, default_transaction_read_only, or a provider that found its disk full";
    Waiting::new(reason::READ_ONLY, message)
}

/// What a server calls its version, if it looks like one: whoever named the server chose the words.
pub fn version(said: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_+".contains(c);
    let is_one = said.starts_with(|c: char| c.is_ascii_digit()) && said.len() <= 32 && said.chars().all(allowed);
    is_one.then(|| said.to_owned())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

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

    #[rstest]
    #[case("17.6", true)]
    #[case("18beta1", true)]
    #[case("7.2.4-valkey_1", true)]
    #[case("unknown", false)]
    #[case("17 words of the service", false)]
    #[case("", false)]
    fn a_version_looks_like_one(#[case] said: &str, #[case] expected: bool) {
        assert_eq!(version(said).is_some(), expected);
    }
}
