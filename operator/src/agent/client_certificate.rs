//! The certificate by which the agent makes itself known to a database: the files that the URL names, as libpq reads them.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::error::DumpError;
use crate::contract::{ClientCertificate, PARAMETER_CERTIFICATE, PARAMETER_KEY, PostgresUrl};

/// What our own client shows, and the variables that make libpq show the same.
pub(super) struct Shown {
    pub(super) certificate: ClientCertificate,
    pub(super) variables: [(&'static str, String); 2],
}

/// `None`: the URL does not name both files, or they are not there. Prisma's own engine takes `sslcert` alone, for another purpose, and
/// to libpq a certificate that is not there is none.
pub(super) fn named_by(url: &str) -> Result<Option<Shown>, DumpError> {
    let Ok(url) = PostgresUrl::parse(url) else { return Ok(None) };
    let [Some(certificate), Some(key)] = [PARAMETER_CERTIFICATE, PARAMETER_KEY].map(|name| url.parameter(name)) else {
        return Ok(None);
    };
    let [Some(pem), Some(key_pem)] = [read(certificate)?, read(key)?] else { return Ok(None) };
    Ok(Some(Shown {
        certificate: ClientCertificate { certificate: pem, key: key_pem },
        variables: [("PGSSLCERT", certificate.to_owned()), ("PGSSLKEY", key.to_owned())],
    }))
}

fn read(path: &str) -> Result<Option<String>, DumpError> {
    match fs::read_to_string(path) {
        Ok(pem) => Ok(Some(pem)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(DumpError::ClientCertificate { path: Path::new(path).to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_files_that_are_there_are_a_certificate() {
        let folder = tempfile::tempdir().expect("folder");
        let file = |name: &str| folder.path().join(name).display().to_string();
        for name in ["tls.crt", "tls.key"] {
            fs::write(folder.path().join(name), name).expect("a file");
        }
        let shown = |parameters: String| named_by(&format!("postgresql://u@h/d?{parameters}"));
        let both = shown(format!("sslcert={}&sslkey={}", file("tls.crt"), file("tls.key"))).expect("read");
        let both = both.expect("both");
        assert_eq!((both.certificate.certificate.as_str(), both.certificate.key.as_str()), ("tls.crt", "tls.key"));
        assert_eq!(both.variables, [("PGSSLCERT", file("tls.crt")), ("PGSSLKEY", file("tls.key"))]);
        for none in [
            String::new(),
            format!("sslcert={}", file("tls.crt")),
            format!("sslcert={}&sslkey={}", file("tls.crt"), file("missing")),
        ] {
            assert!(shown(none.clone()).expect("read").is_none(), "{none}");
        }
        let error = shown(format!("sslcert={}&sslkey={}", file("tls.crt"), folder.path().display())).err();
        let error = error.expect("a folder is no file").to_string();
        assert!(error.starts_with(&format!("failed to read the client certificate {}: ", folder.path().display())));
    }
}
