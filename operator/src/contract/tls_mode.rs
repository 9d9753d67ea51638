//! The modes of TLS that a PostgreSQL URL asks for, and the reasons to refuse one.

/// Why a URL cannot be used, to follow the words "the URL". None of it repeats a part of the URL: a password that is not encoded
/// ends up in any part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is in quotation marks.
    #[error("begins with a quotation mark, which some tools keep from an .env file: remove the quotation marks")]
    Quoted,
    /// It has control characters.
    #[error("has a line break or another control character in it: remove it")]
    Control,
    /// It has another scheme, or none.
    #[error("must start with postgresql:// or postgres://")]
    Scheme,
    /// A delimiter is where none belongs.
    #[error(
        "cannot be read: percent-encode the reserved characters in the user and the password, e.g. @ as %40, / as %2F, # as %23"
    )]
    Delimiter,
    /// A percent sign is not followed by two hexadecimal digits.
    #[error("has a % that two hexadecimal digits do not follow: write % as %25")]
    Percent,
    /// It decodes to something that is not text.
    #[error("has percent-encoded bytes that are not UTF-8 text")]
    Text,
    /// It names no host.
    #[error("names no host, as in postgresql://user:password@host:5432/database")]
    NoHost,
    /// It names a Unix socket.
    #[error(
        "names a Unix socket, which a pod cannot reach: name a host, as in postgresql://user:password@host:5432/database"
    )]
    Socket,
    /// A port is not a number.
    #[error(
        "has a port that is not a number from 1 to 65535: correct it, or percent-encode the reserved characters in the password"
    )]
    Port,
    /// There are neither one port nor as many as hosts.
    #[error("names more than one port, and not as many as hosts")]
    Ports,
    /// It names no user.
    #[error("names no user, as in postgresql://user:password@host:5432/database")]
    NoUser,
    /// It names no database.
    #[error("names no database, as in postgresql://user:password@host:5432/database")]
    NoDatabase,
    /// `sslmode` is unknown.
    #[error("has an sslmode other than disable, allow, prefer, require, verify-ca and verify-full")]
    TlsMode,
    /// The client cannot read a parameter.
    #[error("has a parameter whose value cannot be read")]
    Parameter,
}

/// `sslmode`, with the meaning that libpq gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// No encryption.
    Disable,
    /// Encryption where the server offers it (also `allow`).
    Prefer,
    /// Encryption. The certificate counts only where an authority is given.
    Require,
    /// Encryption, and the certificate must come from the authority.
    VerifyCa,
    /// Encryption, and the certificate must come from the authority and name the host.
    VerifyFull,
}

impl TlsMode {
    pub(super) fn read(text: &str) -> Result<Self, UrlError> {
        Ok(match text {
            "disable" => Self::Disable,
            "allow" | "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return Err(UrlError::TlsMode),
        })
    }

    /// The value of `sslmode`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}
