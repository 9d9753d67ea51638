//! The certificate that a client shows to a database, and where the pods have it.

use std::fmt;

/// The folder that it is mounted at, in every pod that uses the database.
pub const CLIENT_DIRECTORY: &str = "/etc/rorun/client";
/// The key of the Secret, and the name of the file, with the certificate.
pub const CLIENT_CERTIFICATE_FILE: &str = "tls.crt";
/// The key of the Secret, and the name of the file, with its private key.
pub const CLIENT_KEY_FILE: &str = "tls.key";
/// The file with the certificate.
pub const CLIENT_CERTIFICATE_PATH: &str = "/etc/rorun/client/tls.crt";
/// The file with its private key.
pub const CLIENT_KEY_PATH: &str = "/etc/rorun/client/tls.key";
/// The parameter of a URL, as libpq has it, that names the file of the certificate.
pub const PARAMETER_CERTIFICATE: &str = "sslcert";
/// Likewise, of the private key.
pub const PARAMETER_KEY: &str = "sslkey";

/// A certificate and its private key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ClientCertificate {
    /// The certificate and what leads to its authority (PEM).
    pub certificate: String,
    /// The private key (PEM).
    pub key: String,
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ClientCertificate").finish_non_exhaustive()
    }
}
