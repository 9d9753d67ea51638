//! The dialect of a URL's parameters.

use crate::{
    api::v1alpha1::{SslMode, UrlStyle},
    contract::{PostgresUrl, TlsMode},
};

/// The mode of the spec, as libpq names it.
pub(super) fn tls_mode(mode: SslMode) -> TlsMode {
    match mode {
        SslMode::Disable => TlsMode::Disable,
        SslMode::Prefer => TlsMode::Prefer,
        SslMode::Require => TlsMode::Require,
        SslMode::VerifyCa => TlsMode::VerifyCa,
        SslMode::VerifyFull => TlsMode::VerifyFull,
    }
}

/// The URL as the application's client reads it. `ca_file` is where the authorities of the database are in its pods.
pub(super) fn render(url: &PostgresUrl, style: UrlStyle, ca_file: Option<&str>) -> String {
    match style {
        UrlStyle::Libpq => url.to_string(),
        UrlStyle::Prisma => prisma(url, ca_file).to_string(),
    }
}

/// Prisma's own engine knows `disable`, `prefer` and `require`, takes anything else for `prefer`, and verifies with
/// `sslaccept=strict` alone.
fn prisma(url: &PostgresUrl, ca_file: Option<&str>) -> PostgresUrl {
    let mode = url.tls_mode().unwrap_or(TlsMode::VerifyFull);
    let verified = match mode {
        TlsMode::VerifyCa | TlsMode::VerifyFull => true,
        TlsMode::Require => ca_file.is_some(),
        TlsMode::Disable | TlsMode::Prefer => false,
    };
    // `ssl` and `sslrootcert` are of other clients: they would contradict what is said here.
    let url = url.without(&["sslmode", "ssl", "sslrootcert"]);
    match (verified, ca_file) {
        (false, _) => url.with(&[("sslmode", mode.as_str())]),
        (true, None) => url.with(&[("sslmode", "require"), ("sslaccept", "strict")]),
        (true, Some(file)) => url.with(&[("sslmode", "require"), ("sslaccept", "strict"), ("sslcert", file)]),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const STRICT: &str = "sslmode=require&sslaccept=strict";
    const CERT: &str = "sslmode=require&sslaccept=strict&sslcert=/etc/rorun/ca/ca.crt";

    #[rstest]
    #[case("schema=public&sslmode=verify-full", true, &format!("schema=public&{CERT}"))]
    #[case("sslmode=verify-full&schema=public", false, &format!("schema=public&{STRICT}"))]
    #[case("sslmode=verify-ca", true, CERT)]
    #[case("sslmode=require", true, CERT)]
    #[case("ssl=true", true, CERT)]
    #[case("sslmode=require", false, "sslmode=require")]
    #[case("sslmode=verify-full&sslmode=disable", true, "sslmode=disable")]
    #[case("", true, "sslmode=prefer")]
    #[case("sslaccept=accept_invalid_certs&sslmode=verify-full", false, STRICT)]
    fn prisma_is_told_in_its_own_words(#[case] query: &str, #[case] has_ca: bool, #[case] expected: &str) {
        let url = PostgresUrl::parse(&format!("postgresql://my_user:p-w@h/my_db?{query}")).unwrap();
        let ca_file = has_ca.then_some("/etc/rorun/ca/ca.crt");
        let rendered = render(&url, UrlStyle::Prisma, ca_file);
        assert_eq!(rendered, format!("postgresql://my_user:p-w@h/my_db?{expected}"));
        assert_eq!(render(&url, UrlStyle::Libpq, ca_file), url.to_string());
    }
}
