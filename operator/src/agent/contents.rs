//! What the database holds, counted in the dump's own snapshot while `pg_dump` reads it. A dump is worth more than its numbers:
//! what cannot be counted is told, and stops nothing.

use std::time::Duration;

use super::manifest::Contents;
use crate::services::ServiceError;
use crate::services::postgres::{PostgresTarget, Snapshot};

/// What `pg_stat_activity` shows.
const APPLICATION: &str = "rorun-operator dump (rows)";
/// Larger tables are not counted but estimated.
const COUNTED_BELOW: u64 = 1 << 30;
/// A count that takes longer is given up.
const COUNT_WITHIN: Duration = Duration::from_mins(30);
/// All counts together: the lock that keeps migrations away is held meanwhile, and the manifest comes after them.
const ALL_WITHIN: Duration = Duration::from_mins(30);
/// More tables would make a manifest that nobody reads.
const TABLES_MAX: usize = 5000;
/// For a question about the catalogue.
const ANSWER: Duration = Duration::from_mins(2);

/// Tables and materialized views that a dump holds: those of extensions are made by `CREATE EXTENSION`.
const RELATIONS: &str = "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), n.nspname, c.relname, c.relkind, \
    c.relispopulated, pg_relation_size(c.oid), greatest(c.reltuples, 0)::bigint \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') \
    ORDER BY 1";
const EXTENSIONS: &str = "SELECT extname, extversion FROM pg_extension WHERE extname <> 'plpgsql'";
const ROLES: &str = "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1 LIMIT 1000";
const LARGE_OBJECTS: &str = "SELECT count(*) FROM pg_largeobject_metadata";
const SIZE: &str = "SELECT pg_database_size(current_database())";
const ENCODING: &str = "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()";
/// The table in which Prisma keeps its migrations.
const MIGRATIONS: &str = "_prisma_migrations";

/// The snapshot of a dump, or why there is none.
pub(super) async fn snapshot(target: &PostgresTarget) -> Result<Snapshot, String> {
    Snapshot::export(target, APPLICATION).await.map_err(|error| {
        tracing::warn!(%error, "the rows of the dump are not counted");
        format!("the rows are not counted, which takes a third connection beside pg_dump and its lock: {error}")
    })
}

/// Counts. What fails is told in the result.
pub(super) async fn read(snapshot: &Result<Snapshot, String>, excluded: &[String]) -> Contents {
    let mut contents = Contents::default();
    match snapshot {
        Ok(snapshot) => {
            let filled = tokio::time::timeout(ALL_WITHIN, fill(snapshot, excluded, &mut contents)).await;
            contents.not_counted = match filled {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("counting the rows failed: {error}")),
                Err(_) => Some(format!("counting the rows took more than {} min", ALL_WITHIN.as_secs() / 60)),
            };
        }
        Err(why) => contents.not_counted = Some(why.clone()),
    }
    contents
}

/// A row of [`RELATIONS`].
struct Relation {
    name: String,
    schema: String,
    table: String,
    view: bool,
    populated: bool,
    size: u64,
    estimate: u64,
}

async fn fill(snapshot: &Snapshot, excluded: &[String], contents: &mut Contents) -> Result<(), ServiceError> {
    let one = async |sql: &str| -> Result<Option<String>, ServiceError> {
        Ok(snapshot.rows(sql, ANSWER).await?.into_iter().next().and_then(|row| row.into_iter().next().flatten()))
    };
    contents.encoding = one(ENCODING).await?.unwrap_or_default();
    // A server that keeps data elsewhere may not say.
    contents.database_bytes = one(SIZE).await.ok().flatten().and_then(|size| size.parse().ok());
    contents.large_objects = number(one(LARGE_OBJECTS).await?.as_deref());
    let roles = snapshot.rows(ROLES, ANSWER).await?;
    contents.roles = roles.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect();
    let extensions = snapshot.rows(EXTENSIONS, ANSWER).await?.into_iter();
    contents.extensions = extensions.filter_map(|row| Some((text(&row, 0)?, text(&row, 1)?))).collect();
    let relations = snapshot.rows(RELATIONS, ANSWER).await?.into_iter().filter_map(|row| relation(&row));
    let relations: Vec<_> = relations.filter(|relation| !excluded.contains(&relation.schema)).collect();
    for relation in &relations {
        if relation.table == MIGRATIONS {
            let sql = format!(
                "SELECT migration_name FROM {} WHERE finished_at IS NOT NULL AND rolled_back_at IS NULL ORDER BY finished_at \
                 DESC, migration_name DESC LIMIT 1",
                relation.name
            );
            // Another application may have a table of this name with other columns.
            contents.last_migration = one(&sql).await.ok().flatten();
        }
    }
    if relations.len() > TABLES_MAX {
        contents.not_counted = Some(format!("{} tables are too many to list", relations.len()));
        return Ok(());
    }
    for relation in relations {
        if relation.view {
            contents.materialized_views.insert(relation.name, relation.populated);
        } else if relation.size >= COUNTED_BELOW {
            contents.estimated.insert(relation.name, relation.estimate);
        } else {
            let sql = format!("SELECT count(*) FROM ONLY {}", relation.name);
            let rows = snapshot.rows(&sql, COUNT_WITHIN).await?;
            contents.rows.insert(relation.name, number(rows.first().and_then(|row| text(row, 0)).as_deref()));
        }
    }
    Ok(())
}

fn relation(row: &[Option<String>]) -> Option<Relation> {
    Some(Relation {
        name: text(row, 0)?,
        schema: text(row, 1)?,
        table: text(row, 2)?,
        view: text(row, 3)? == "m",
        populated: text(row, 4)? == "t",
        size: number(text(row, 5).as_deref()),
        estimate: number(text(row, 6).as_deref()),
    })
}

fn text(row: &[Option<String>], column: usize) -> Option<String> {
    row.get(column)?.clone()
}

fn number(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}
