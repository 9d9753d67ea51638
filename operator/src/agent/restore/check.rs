//! `check`: whether the point can be restored, before anything is written.

use tokio_util::sync::CancellationToken;

use super::args::StepArgs;
use super::error::{RestoreError, refused};
use super::maintenance::{self, ANSWER, Maintenance};
use super::point::{self, Point};
use super::sql::{self, literal, text};
use super::{objects, unless_stopped};
use crate::agent::{pg_restore, spec};
use crate::contract::{Held, RestoreRefusal, RestoreResult, RestoreScope, copy_database};

/// Checks all that can be checked without writing.
pub(super) async fn check(args: &StepArgs, stop: &CancellationToken) -> Result<RestoreResult, RestoreError> {
    let point = unless_stopped(stop, point::load(&args.point)).await?;
    let mut result = RestoreResult::default();
    // Nothing of the spec is restored, so the data are restored all the same.
    let spec = async { Ok(spec::damaged(&point.bucket, &args.point.prefix, &point.manifest).await) };
    result.warnings.extend(unless_stopped(stop, spec).await?);
    if args.scope.contains(&RestoreScope::Database) {
        let dump = unless_stopped(stop, point.dump(args)).await?;
        unless_stopped(stop, dump.refuse_sealed()).await?;
        result.bytes = Some(dump.object.size);
        let (name, held) = unless_stopped(stop, database(args, &point)).await?;
        (result.database, result.held) = (Some(name), held);
    }
    if args.scope.contains(&RestoreScope::Bucket) {
        result.objects = Some(Box::pin(objects::check(args, &point, stop)).await?);
    } else if args.point.sanitized {
        result.objects = Box::pin(objects::check_copies(args, &point, stop)).await?;
    }
    Ok(result)
}

/// Gives the name of the database that the point will be restored into, and what keeps it from taking the place of the live one.
async fn database(args: &StepArgs, point: &Point) -> Result<(String, Option<Held>), RestoreError> {
    let target = &args.target;
    let server = Maintenance::open(target).await?;
    versions(point, server.version()).await?;
    let rights = server.rights().await?;
    if args.fill {
        if !rights.owns {
            let alter = format!("ALTER DATABASE {} OWNER TO {}", sql::name(&server.live), sql::name(&rights.role));
            let message = format!("role \"{}\" does not own database \"{}\": {alter}", rights.role, server.live);
            return Err(refused(RestoreRefusal::RightsMissing, message));
        }
        return Ok((server.live, None));
    }
    if let Some(url) = target.own_copy() {
        // The role makes and renames nothing: the user points the Secret at the database that was filled.
        return Ok((maintenance::parse(url)?.database().to_owned(), None));
    }
    if !rights.creates || !rights.owns {
        let (role, owner) = (sql::name(&rights.role), sql::name(&rights.owner));
        let mut lacking = Vec::new();
        lacking.extend((!rights.creates).then(|| format!("ALTER ROLE {role} CREATEDB")));
        lacking.extend((!rights.owns).then(|| format!("GRANT {owner} TO {role}")));
        let message = format!(
            "role {role} may not make a database beside \"{}\" and rename both: {}; or name an empty database in intoSecretRef",
            server.live,
            lacking.join("; ")
        );
        return Err(refused(RestoreRefusal::RightsMissing, message));
    }
    let held = held(&server).await?;
    Ok((copy_database(&server.live, &target.restore), held))
}

/// What would keep a whole copy from taking the place of the live database now.
pub(super) async fn held(server: &Maintenance) -> Result<Option<Held>, RestoreError> {
    let judged = async {
        server.refuse_held(&server.live).await?;
        refuse_foreign_sessions(server, &server.rights().await?.role).await
    };
    match judged.await {
        Ok(()) => Ok(None),
        Err(RestoreError::Refused { reason, message }) => Ok(Some(Held { reason, message })),
        Err(error) => Err(error),
    }
}

/// The switch ends the sessions of the live database. Those of a superuser only a superuser ends.
async fn refuse_foreign_sessions(server: &Maintenance, role: &str) -> Result<(), RestoreError> {
    let sql = format!(
        "SELECT DISTINCT quote_ident(r.rolname), r.rolsuper FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid \
         WHERE a.datname = {} AND NOT pg_has_role(r.oid, 'USAGE') AND (r.rolsuper OR NOT pg_has_role('pg_signal_backend', \
         'USAGE')) ORDER BY 1 LIMIT 3",
        literal(&server.live)
    );
    let rows = server.session.query(&sql, ANSWER).await?;
    if rows.is_empty() {
        return Ok(());
    }
    let roles: Vec<_> = rows.iter().map(|row| text(row, 0)).collect();
    let message = format!(
        "role \"{role}\" may not end the sessions of {} on database \"{}\", which the switch does: end those of superusers, and \
         GRANT pg_signal_backend TO {}",
        roles.join(", "),
        server.live,
        sql::name(role)
    );
    Err(refused(RestoreRefusal::RightsMissing, message))
}

/// The server and the programs of the image are at least as new as the dump.
pub(super) async fn versions(point: &Point, server: &str) -> Result<(), RestoreError> {
    let program = pg_restore::version().await?;
    let manifest = &point.manifest;
    if let Some(dumped) =
        major(&manifest.server_version).filter(|dumped| major(server).is_some_and(|server| server < *dumped))
    {
        let message = format!(
            "the dump is of PostgreSQL {dumped}, and the server is {server}: upgrade the server, or restore into a stack that has \
             {dumped}"
        );
        return Err(refused(RestoreRefusal::ServerTooOld, message));
    }
    let needed = major(&manifest.pg_dump_version).max(major(server));
    if let Some(needed) = needed.filter(|needed| major(&program).is_some_and(|own| own < *needed)) {
        let message = format!(
            "the image has {program}, and the dump and the server need {needed}: set backup.image to postgres:{needed}"
        );
        return Err(refused(RestoreRefusal::ImageTooOld, message));
    }
    Ok(())
}

/// The major version in what PostgreSQL says of itself: `pg_dump (PostgreSQL) 17.6` or `17.6`.
fn major(version: &str) -> Option<u32> {
    let number = version.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_the_first_number() {
        let versions = ["17.6", "pg_restore (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "18beta1", "", "unknown"];
        assert_eq!(versions.map(major), [Some(17), Some(15), Some(18), None, None]);
    }
}
