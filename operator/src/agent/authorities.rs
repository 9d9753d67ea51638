//! The certificate authorities: those that the operator was given, by service, and the public ones that came with the binary.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::args::{AuthoritiesArgs, DumpArgs};
use super::error::DumpError;
use crate::contract::{CA_FILE, DATABASE_CA_FILE, TRUST_FILE};
use crate::services::postgres::TlsMode;

/// The public authorities, beside the installed binary.
pub(super) const BUNDLE_FILE: &str = "ca-certificates.crt";

/// Where systems keep the public authorities: Debian and Alpine, Fedora, others.
const SYSTEM_BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// The bundle of this system, if it has one.
pub(super) fn system_bundle() -> Option<PathBuf> {
    SYSTEM_BUNDLES.into_iter().map(PathBuf::from).find(|path| path.is_file())
}

/// A bundle: `libpq` wants the path, our own clients want the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bundle {
    pub(super) path: PathBuf,
    pub(super) pem: String,
}

/// The certificate authorities of each service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Authorities {
    database: Option<Bundle>,
    bucket: Option<Bundle>,
    /// Those of all services in one file, from an operator of 0.1.0, which does not say which service each belongs to.
    mixed: Option<Bundle>,
    public: Option<Bundle>,
}

impl Authorities {
    pub(super) fn load(args: &DumpArgs) -> Result<Self, DumpError> {
        let given = |path: &Option<PathBuf>| path.as_deref().map(read).transpose();
        Ok(Self {
            bucket: given(&args.bucket_ca_file)?,
            mixed: given(&args.ca_file)?,
            ..Self::of_database(args.database_ca_file.as_deref())?
        })
    }

    /// Those of the database alone, and the public ones.
    pub(super) fn of_database(file: Option<&Path>) -> Result<Self, DumpError> {
        let beside = std::env::current_exe().ok().map(|binary| binary.with_file_name(BUNDLE_FILE));
        let public = beside.filter(|path| path.is_file()).or_else(system_bundle);
        let [database, public] = [file, public.as_deref()].map(|path| path.map(read).transpose());
        Ok(Self { database: database?, public: public?, ..Self::default() })
    }

    /// Those of the bucket alone, and the public ones.
    pub(super) fn of_bucket(file: Option<&Path>) -> Result<Self, DumpError> {
        Ok(Self { bucket: file.map(read).transpose()?, ..Self::of_database(None)? })
    }

    /// The bucket's and the public ones. It adds those of the system, of which an image may have none.
    pub(super) fn for_bucket(&self) -> Option<String> {
        let all = [&self.public, self.bucket.as_ref().map_or(&self.mixed, |_| &self.bucket)];
        let all: Vec<_> = all.into_iter().flatten().map(|bundle| bundle.pem.as_str()).collect();
        (!all.is_empty()).then(|| all.join("\n"))
    }

    /// What to try for the database, in this order. `libpq` takes one file, and verifies whenever it has one. As the prober
    /// of the operator has it: the database's own and no others, or the public ones where the name is verified.
    pub(super) fn for_database(&self, mode: TlsMode) -> Vec<Option<&Bundle>> {
        let own = || self.database.as_ref().or(self.mixed.as_ref());
        let candidates: Vec<_> = match (mode, &self.database) {
            (TlsMode::Disable | TlsMode::Prefer, _) => Vec::new(),
            (TlsMode::Require | TlsMode::VerifyCa, _) | (TlsMode::VerifyFull, Some(_)) => {
                own().map(Some).into_iter().collect()
            }
            // The mixed ones may be the bucket's. The name is verified, so a public certificate is no less safe.
            (TlsMode::VerifyFull, None) => own().into_iter().chain(&self.public).map(Some).collect(),
        };
        if candidates.is_empty() { vec![None] } else { candidates }
    }
}

/// The authorities of another bucket, with the public ones.
pub(super) fn beside_public(own: Option<String>) -> Option<String> {
    let bucket = own.map(|pem| Bundle { path: PathBuf::new(), pem });
    Authorities { bucket, ..Authorities::of_database(None).unwrap_or_default() }.for_bucket()
}

fn read(path: &Path) -> Result<Bundle, DumpError> {
    let pem = fs::read_to_string(path).map_err(|source| DumpError::Authorities { path: path.to_owned(), source })?;
    Ok(Bundle { path: path.to_owned(), pem })
}

/// Why the authorities of an application could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum AuthoritiesError {
    /// A file could not be read or written.
    #[error("failed to put the certificate authorities together: {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A bundle without the public authorities would cut the application off from everything public.
    #[error("failed to find the public certificate authorities in this image (looked at {})", SYSTEM_BUNDLES.join(", "))]
    NoPublic,
}

/// Writes whom each client of an application trusts: one that adds to the public authorities, one that replaces them, and the
/// database's alone.
pub(super) fn put_together(args: &AuthoritiesArgs) -> Result<(), AuthoritiesError> {
    let public = system_bundle().ok_or(AuthoritiesError::NoPublic)?;
    place(args, &public)
}

fn place(args: &AuthoritiesArgs, public: &Path) -> Result<(), AuthoritiesError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| AuthoritiesError::File { path, source }
    };
    let read = |path: &Path| fs::read_to_string(path).map_err(failed(path));
    let write = |name: &str, pem: &str| {
        let path = args.into.join(name);
        let written = fs::write(&path, pem).and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o644)));
        written.map_err(failed(&path))
    };
    let private = read(&args.private_file)?;
    write(CA_FILE, &private)?;
    write(TRUST_FILE, &format!("{}\n{private}", read(public)?.trim_end()))?;
    if let Some(database) = &args.database_file {
        write(DATABASE_CA_FILE, &read(database)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(name: &str) -> Bundle {
        Bundle { path: name.into(), pem: name.to_owned() }
    }

    fn tried(authorities: &Authorities, mode: TlsMode) -> Vec<Option<&str>> {
        authorities.for_database(mode).into_iter().map(|bundle| bundle.map(|bundle| bundle.pem.as_str())).collect()
    }

    #[test]
    fn the_authority_of_the_bucket_says_nothing_about_the_database() {
        let bucket =
            Authorities { bucket: Some(bundle("bucket")), public: Some(bundle("public")), ..Authorities::default() };
        assert_eq!(tried(&bucket, TlsMode::Require), [None]);
        assert_eq!(tried(&bucket, TlsMode::VerifyFull), [Some("public")]);
        assert_eq!(bucket.for_bucket().as_deref(), Some("public\nbucket"));
        let both = Authorities { database: Some(bundle("database")), ..bucket };
        assert_eq!(tried(&both, TlsMode::Prefer), [None]);
        assert_eq!(tried(&both, TlsMode::Require), [Some("database")]);
        assert_eq!(tried(&both, TlsMode::VerifyCa), [Some("database")]);
        assert_eq!(tried(&both, TlsMode::VerifyFull), [Some("database")]);
        assert_eq!(both.for_bucket().as_deref(), Some("public\nbucket"));
    }

    #[test]
    fn what_an_operator_of_0_1_0_gives_is_for_both() {
        let mixed =
            Authorities { mixed: Some(bundle("given")), public: Some(bundle("public")), ..Authorities::default() };
        assert_eq!(tried(&mixed, TlsMode::Prefer), [None]);
        assert_eq!(tried(&mixed, TlsMode::Require), [Some("given")]);
        assert_eq!(tried(&mixed, TlsMode::VerifyCa), [Some("given")]);
        assert_eq!(tried(&mixed, TlsMode::VerifyFull), [Some("given"), Some("public")]);
        assert_eq!(mixed.for_bucket().as_deref(), Some("public\ngiven"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(Path::new("/nowhere/ca.crt")).expect_err("missing");
        assert!(error.to_string().starts_with("failed to read the certificate authorities /nowhere/ca.crt: "));
    }

    #[test]
    fn an_application_gets_a_bundle_that_adds_one_that_replaces_and_the_databases_own() {
        let folder = tempfile::tempdir().expect("folder");
        let file = |name: &str| folder.path().join(name);
        for (name, pem) in [("given", "redis\ndatabase\n"), ("own", "database\n"), ("public", "public\n\n")] {
            fs::write(file(name), pem).expect("a file");
        }
        let into = file("into");
        fs::create_dir(&into).expect("a folder");
        let mut args =
            AuthoritiesArgs { private_file: file("given"), database_file: Some(file("own")), into: into.clone() };
        place(&args, &file("public")).expect("placed");
        place(&args, &file("public")).expect("placed again, as after a restart of the node");
        let written = |name: &str| fs::read_to_string(into.join(name)).expect("written");
        assert_eq!(written(CA_FILE), "redis\ndatabase\n");
        assert_eq!(written(TRUST_FILE), "public\nredis\ndatabase\n");
        assert_eq!(written(DATABASE_CA_FILE), "database\n");
        args.private_file = file("missing");
        let error = place(&args, &file("public")).expect_err("missing").to_string();
        assert!(error.contains(&file("missing").display().to_string()), "{error}");
    }
}
