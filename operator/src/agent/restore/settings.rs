//! What belongs to a database and is not in its dump (PostgreSQL documentation, `pg_dump`, `--create`): its owner, who may
//! connect, how many, and the settings of `ALTER DATABASE` and `ALTER ROLE ... IN DATABASE`.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{INSUFFICIENT_PRIVILEGE, RestoreError, refused};
use super::maintenance::ANSWER;
use super::sql::{self, literal, text, value};
use crate::contract::RestoreRefusal;
use crate::services::postgres::{QueryError, Session};

/// Settings whose value is a list of quoted names: each becomes a text of its own (PostgreSQL documentation, `SET`).
const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// All of it, of one database. Names of roles are quoted already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) owner: String,
    limit: String,
    /// Grantee, privilege, and whether it may be granted on.
    grants: BTreeSet<(String, String, bool)>,
    /// By role; the empty one is every role.
    assigned: BTreeMap<String, BTreeSet<String>>,
}

impl Settings {
    /// Reads them.
    pub(super) async fn read(session: &Session, database: &str) -> Result<Self, RestoreError> {
        let name = literal(database);
        let sql = format!(
            "SELECT quote_ident(pg_get_userbyid(datdba)), datconnlimit FROM pg_database WHERE datname = {name}"
        );
        let rows = session.query(&sql, ANSWER).await?;
        let row =
            rows.first().ok_or_else(|| RestoreError::Failed(format!("failed to find database \"{database}\"")))?;
        let mut read = Self { owner: text(row, 0).to_owned(), limit: text(row, 1).to_owned(), ..Self::default() };
        let sql = format!(
            "SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, a.privilege_type, \
             a.is_grantable FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a \
             WHERE d.datname = {name}"
        );
        for row in session.query(&sql, ANSWER).await? {
            read.grants.insert((text(&row, 0).to_owned(), text(&row, 1).to_owned(), sql::is_true(&row, 2)));
        }
        let sql = format!(
            "SELECT CASE s.setrole WHEN 0 THEN '' ELSE quote_ident(pg_get_userbyid(s.setrole)) END, c FROM \
             pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) c WHERE d.datname = {name}"
        );
        for row in session.query(&sql, ANSWER).await? {
            read.assigned.entry(text(&row, 0).to_owned()).or_default().extend(value(&row, 1));
        }
        Ok(read)
    }

    /// What makes the settings of another database these.
    fn statements(&self, other: &Self, database: &str) -> Vec<String> {
        let name = sql::name(database);
        let mut statements = Vec::new();
        if self.owner != other.owner {
            statements.push(format!("ALTER DATABASE {name} OWNER TO {}", self.owner));
        }
        if self.limit != other.limit {
            statements.push(format!("ALTER DATABASE {name} CONNECTION LIMIT {}", self.limit));
        }
        if self.grants != other.grants {
            let grantees: BTreeSet<_> = other.grants.iter().map(|(grantee, ..)| grantee.as_str()).collect();
            for grantee in grantees {
                statements.push(format!("REVOKE ALL ON DATABASE {name} FROM {grantee}"));
            }
            for (grantee, privilege, grantable) in &self.grants {
                let option = if *grantable { " WITH GRANT OPTION" } else { "" };
                statements.push(format!("GRANT {privilege} ON DATABASE {name} TO {grantee}{option}"));
            }
        }
        let roles: BTreeSet<_> = self.assigned.keys().chain(other.assigned.keys()).collect();
        for role in roles {
            let (wanted, found) = (self.assigned.get(role), other.assigned.get(role));
            if wanted == found {
                continue;
            }
            let of = if role.is_empty() {
                format!("ALTER DATABASE {name}")
            } else {
                format!("ALTER ROLE {role} IN DATABASE {name}")
            };
            statements.extend(found.map(|_| format!("{of} RESET ALL")));
            statements.extend(wanted.into_iter().flatten().filter_map(|line| set(&of, line)));
        }
        statements
    }

    /// Gives these settings to another database, and compares.
    pub(super) async fn give(&self, session: &Session, database: &str) -> Result<(), RestoreError> {
        let found = Self::read(session, database).await?;
        for statement in self.statements(&found, database) {
            session.query(&statement, ANSWER).await.map_err(|error| denied(error, &statement))?;
        }
        let given = Self::read(session, database).await?;
        let left = self.statements(&given, database);
        match left.first() {
            None => Ok(()),
            Some(first) => Err(RestoreError::Failed(format!(
                "failed to give database \"{database}\" what belongs to the live one: {} differ after they were set, the first \
                 is {first}",
                left.len()
            ))),
        }
    }
}

fn denied(error: QueryError, statement: &str) -> RestoreError {
    if error.code() != Some(INSUFFICIENT_PRIVILEGE) {
        return error.into();
    }
    let message = format!(
        "{error}: the restored database needs what the live one has; let the role of DIRECT_URL do this, or do it yourself: \
         {statement}"
    );
    refused(RestoreRefusal::RightsMissing, message)
}

/// `name=value` as PostgreSQL keeps it, as the statement that sets it.
fn set(of: &str, line: &str) -> Option<String> {
    let (name, value) = line.split_once('=')?;
    let value = if LISTS.contains(&name) {
        let names: Vec<_> = names(value).iter().map(|name| literal(name)).collect();
        if names.is_empty() { literal("") } else { names.join(", ") }
    } else {
        literal(value)
    };
    let name: Vec<_> = name.split('.').map(sql::name).collect();
    Some(format!("{of} SET {} TO {value}", name.join(".")))
}

/// The names of a list in which some are quoted.
fn names(list: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut name, mut quoted, mut any) = (String::new(), false, false);
    let mut rest = list.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '"' if quoted && rest.peek() == Some(&'"') => {
                rest.next();
                name.push('"');
            }
            '"' => (quoted, any) = (!quoted, true),
            ',' if !quoted => names.push(std::mem::take(&mut name)),
            ' ' if !quoted => {}
            character => name.push(character),
        }
    }
    if any || !name.is_empty() || !names.is_empty() {
        names.push(name);
    }
    names
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("work_mem=64MB", r#"x SET "work_mem" TO E'64MB'"#)]
    #[case(r#"search_path="$user", public, "a""b,c""#, r#"x SET "search_path" TO E'$user', E'public', E'a"b,c'"#)]
    #[case("search_path=\"\"", "x SET \"search_path\" TO E''")]
    #[case("search_path=", "x SET \"search_path\" TO E''")]
    #[case(r"app.note=it's = \ all", r#"x SET "app"."note" TO E'it''s = \\ all'"#)]
    fn a_setting_is_set_as_it_was(#[case] line: &str, #[case] expected: &str) {
        assert_eq!(set("x", line).as_deref(), Some(expected));
    }

    #[test]
    fn equal_settings_need_no_statement() {
        let grants = [("PUBLIC".to_owned(), "CONNECT".to_owned(), false)].into();
        let assigned = [(String::new(), ["work_mem=1MB".to_owned()].into())].into();
        let one = Settings { owner: "o".to_owned(), limit: "5".to_owned(), grants, assigned };
        assert!(one.statements(&one, "d").is_empty());
        let other = Settings {
            owner: "o".to_owned(),
            limit: "-1".to_owned(),
            grants: [("u".to_owned(), "TEMPORARY".to_owned(), true)].into(),
            assigned: [("u".to_owned(), ["work_mem=2MB".to_owned()].into())].into(),
        };
        assert_eq!(
            one.statements(&other, "d"),
            [
                "ALTER DATABASE \"d\" CONNECTION LIMIT 5",
                "REVOKE ALL ON DATABASE \"d\" FROM u",
                "GRANT CONNECT ON DATABASE \"d\" TO PUBLIC",
                "ALTER DATABASE \"d\" SET \"work_mem\" TO E'1MB'",
                "ALTER ROLE u IN DATABASE \"d\" RESET ALL",
            ]
        );
    }
}
