//! The statements, and which field of the spec they are of.

use std::path::Path;

use super::{SanitizeArgs, failed};
use crate::agent::drill::Ended;
use crate::contract;

/// The statements of a user.
pub(super) struct Script {
    pub(super) sql: String,
    /// The field, in messages.
    pub(super) field: &'static str,
}

impl Script {
    pub(super) fn read(args: &SanitizeArgs) -> Result<Self, Ended> {
        let Some(path) = &args.sql_file else {
            return Ok(Self { sql: args.sql.clone().unwrap_or_default(), field: "sanitize.sql" });
        };
        let sql = printed(path).map_err(failed)?;
        Ok(Self { sql, field: "sanitize.command" })
    }
}

/// The program could write to its folder as it liked: a link there could lead to the keys of this process, for PostgreSQL to tell.
fn printed(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("failed to read what sanitize.command printed: {error}");
    let found = std::fs::symlink_metadata(path).map_err(failed)?;
    if !found.is_file() || found.len() > contract::LONGEST_STATEMENTS {
        let why = "sanitize.command changed the file with what it printed: let it print, and leave that folder alone";
        return Err(why.to_owned());
    }
    contract::statements(std::fs::read(path).map_err(failed)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_nowhere() {
        let folder = tempfile::tempdir().expect("folder");
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "SELECT 1").expect("file");
        std::os::unix::fs::symlink(&file, &link).expect("link");
        assert_eq!(printed(&file).as_deref(), Ok("SELECT 1"));
        assert!(printed(&link).is_err_and(|why| why.contains("changed the file")));
        assert!(printed(&folder.path().join("none")).is_err_and(|why| why.starts_with("failed to read")));
    }
}
