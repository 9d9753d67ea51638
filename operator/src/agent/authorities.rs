//! The certificate authorities: those that the operator was given, and the public ones that came with the binary.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::DumpError;
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

/// Whom to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authorities {
    given: Option<Bundle>,
    public: Option<Bundle>,
}

impl Authorities {
    pub(super) fn load(given: Option<&Path>) -> Result<Self, DumpError> {
        let beside = std::env::current_exe().ok().map(|binary| binary.with_file_name(BUNDLE_FILE));
        let public = beside.filter(|path| path.is_file()).or_else(system_bundle);
        Ok(Self { given: given.map(read).transpose()?, public: public.as_deref().map(read).transpose()? })
    }

    /// Both, for the bucket. It adds those of the system, of which an image may have none.
    pub(super) fn for_bucket(&self) -> Option<String> {
        let all: Vec<_> = [&self.public, &self.given].into_iter().flatten().map(|bundle| bundle.pem.as_str()).collect();
        (!all.is_empty()).then(|| all.join("\n"))
    }

    /// What to try for the database, in this order. `libpq` takes one file, and verifies whenever it has one.
    pub(super) fn for_database(&self, mode: TlsMode) -> Vec<Option<&Bundle>> {
        let candidates: Vec<_> = match mode {
            TlsMode::Disable | TlsMode::Prefer => Vec::new(),
            TlsMode::Require | TlsMode::VerifyCa => self.given.iter().map(Some).collect(),
            // The given ones may be the bucket's. The name is verified, so a public certificate is no less safe.
            TlsMode::VerifyFull => self.given.iter().chain(&self.public).map(Some).collect(),
        };
        if candidates.is_empty() { vec![None] } else { candidates }
    }
}

fn read(path: &Path) -> Result<Bundle, DumpError> {
    let pem = fs::read_to_string(path).map_err(|source| DumpError::Authorities { path: path.to_owned(), source })?;
    Ok(Bundle { path: path.to_owned(), pem })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(name: &str) -> Bundle {
        Bundle { path: name.into(), pem: name.to_owned() }
    }

    #[test]
    fn only_a_verified_name_makes_public_authorities_enough() {
        let both = Authorities { given: Some(bundle("given")), public: Some(bundle("public")) };
        let names = |mode| -> Vec<_> {
            both.for_database(mode).into_iter().map(|bundle| bundle.map(|bundle| bundle.pem.as_str())).collect()
        };
        assert_eq!(names(TlsMode::Prefer), [None]);
        assert_eq!(names(TlsMode::Require), [Some("given")]);
        assert_eq!(names(TlsMode::VerifyCa), [Some("given")]);
        assert_eq!(names(TlsMode::VerifyFull), [Some("given"), Some("public")]);
        assert_eq!(both.for_bucket().as_deref(), Some("public\ngiven"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Authorities::load(Some(Path::new("/nowhere/ca.crt"))).expect_err("missing");
        assert!(error.to_string().starts_with("failed to read the certificate authorities /nowhere/ca.crt: "));
    }
}
