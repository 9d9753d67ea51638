//! What the clients trust: exactly the given authorities, the public ones, or (where libpq does so too) nothing.

use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WantsClientCert, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, InconsistentKeys,
    RootCertStore, SignatureScheme,
};

use crate::contract::ClientCertificate;

/// Why a client cannot be made. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("the given certificate authorities hold no usable certificate (PEM)")]
    NotPem,
    #[error("no certificate authority is given, and there are no public ones on this system")]
    NoRoots,
    #[error("TLS cannot be set up with the given certificate authorities")]
    Unusable(#[from] rustls::Error),
    #[error(
        "tls.key of clientCertificateSecretRef is not the key of its tls.crt; put two that belong together into the Secret"
    )]
    OtherKey,
    #[error("tls.crt of clientCertificateSecretRef holds no usable certificate (PEM)")]
    ClientCertificate,
    #[error(
        "tls.key of clientCertificateSecretRef holds no usable private key (PEM, without a passphrase; RSA, ECDSA P-256 or \
         P-384, or Ed25519)"
    )]
    ClientKey,
}

/// How much of the server's certificate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verify {
    /// Encryption only.
    Nothing,
    /// The chain up to an authority, whatever the name.
    Chain,
    /// The chain, and the name of the host.
    ChainAndName,
}

/// Reads a bundle of certificates and leaves out those that cannot be used: the S3 client panics on them.
pub(super) fn parse(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let usable = usable(certificates.map_err(|_| TlsError::NotPem)?);
    if usable.is_empty() { Err(TlsError::NotPem) } else { Ok(usable) }
}

/// The authorities that this system trusts. Read once: the operator asks many services each minute, and they come with the
/// image.
pub(super) fn public() -> &'static [CertificateDer<'static>] {
    static PUBLIC: LazyLock<Vec<CertificateDer<'static>>> =
        LazyLock::new(|| usable(rustls_native_certs::load_native_certs().certs));
    &PUBLIC
}

fn usable(certificates: Vec<CertificateDer<'static>>) -> Vec<CertificateDer<'static>> {
    certificates.into_iter().filter(|der| RootCertStore::empty().add(der.clone()).is_ok()).collect()
}

/// The certificates as PEM.
pub(super) fn to_pem(certificates: &[CertificateDer<'_>]) -> String {
    let mut pem = String::new();
    for certificate in certificates {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = STANDARD.encode(certificate);
        // RFC 7468 wants lines of 64 characters. Base64 is ASCII, so every chunk is text.
        for line in encoded.as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    pem
}

/// A client configuration that trusts the given authorities, or the public ones where none are given.
pub(super) fn client(verify: Verify, ca: Option<&str>) -> Result<ClientConfig, TlsError> {
    client_with(verify, ca, None)
}

/// As [`client`], which shows a certificate to a server that asks for one.
pub(super) fn client_with(
    verify: Verify,
    ca: Option<&str>,
    shown: Option<&ClientCertificate>,
) -> Result<ClientConfig, TlsError> {
    // Named, not taken from the process: which provider that has depends on what else is linked.
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    if verify == Verify::ChainAndName {
        return showing(builder.with_root_certificates(roots(ca)?), shown);
    }
    let roots = if verify == Verify::Chain { Some(roots(ca)?) } else { None };
    let verifier = Arc::new(AnyName { roots, provider });
    showing(builder.dangerous().with_custom_certificate_verifier(verifier), shown)
}

fn showing(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    shown: Option<&ClientCertificate>,
) -> Result<ClientConfig, TlsError> {
    let Some(ClientCertificate { certificate, key }) = shown else { return Ok(builder.with_no_client_auth()) };
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or(TlsError::ClientCertificate)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| TlsError::ClientKey)?;
    let key = builder.crypto_provider().key_provider.load_private_key(key).map_err(|_| TlsError::ClientKey)?;
    let certified = CertifiedKey::new(chain, key);
    // Whether the certificate is a good one is for the server to say, which may take what rustls cannot read, as of X.509 version 1.
    if let Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) = certified.keys_match() {
        return Err(TlsError::OtherKey);
    }
    Ok(builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified))))
}

/// A client configuration that trusts the public authorities, and the given ones beside them.
pub(super) fn client_beside(ca: Option<&str>) -> Result<ClientConfig, TlsError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(public().to_vec());
    if let Some(ca) = ca {
        store.add_parsable_certificates(parse(ca)?);
    }
    if store.is_empty() {
        return Err(TlsError::NoRoots);
    }
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(store).with_no_client_auth())
}

fn roots(ca: Option<&str>) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(ca.map_or_else(|| Ok(public().to_vec()), parse)?);
    if store.is_empty() { Err(TlsError::NoRoots) } else { Ok(store) }
}

/// Accepts any name; without roots also any certificate.
#[derive(Debug)]
struct AnyName {
    roots: Option<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What to tell a user whose server was not trusted: in our own words, since a certificate holds those of its maker.
pub(super) fn advice(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => certificate(error),
        rustls::Error::InvalidMessage(_) => "this port does not seem to speak TLS",
        rustls::Error::NoCertificatesPresented => "it shows no certificate",
        rustls::Error::PeerIncompatible(_) => "it has no version or cipher of TLS in common with the operator",
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::HandshakeFailure
            | AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity => {
                "it accepts no version or cipher of TLS that the operator offers"
            }
            AlertDescription::UnrecognisedName => "it does not know this host name",
            AlertDescription::CertificateRequired | AlertDescription::BadCertificate => {
                "it asks for a certificate of the client, which is not supported"
            }
            _ => "it broke the TLS handshake off",
        },
        _ => "the TLS handshake failed",
    }
    .to_owned()
}

/// What a server means that ends the handshake for the certificate of its client: the one that it was shown, or none. `None`: it
/// means something else.
pub(super) fn of_client(error: &rustls::Error, shown: bool) -> Option<&'static str> {
    let rustls::Error::AlertReceived(alert) = error else { return None };
    Some(match alert {
        AlertDescription::CertificateRequired if !shown => {
            "it asks for a certificate of the client; name its Secret in database.external.tls.clientCertificateSecretRef, which \
             no other mode of database has"
        }
        _ if !shown => return None,
        AlertDescription::CertificateExpired => {
            "it says that the certificate of clientCertificateSecretRef has expired; renew the certificate"
        }
        AlertDescription::UnknownCA => {
            "it does not trust the authority of the certificate of clientCertificateSecretRef; use one of an authority \
             that the server trusts for its clients"
        }
        AlertDescription::CertificateRevoked => {
            "it says that the certificate of clientCertificateSecretRef is revoked; use another certificate"
        }
        AlertDescription::UnsupportedCertificate => {
            "the certificate of clientCertificateSecretRef is not one for clients; its extended key usage has to name them"
        }
        AlertDescription::BadCertificate
        | AlertDescription::CertificateRequired
        | AlertDescription::CertificateUnknown
        | AlertDescription::DecryptError => "it refuses the certificate of clientCertificateSecretRef",
        _ => return None,
    })
}

fn certificate(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::UnknownIssuer => {
            "its certificate comes from an authority that is not trusted; give the authority that signed the server's \
             certificate in caSecretRef"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name; use a host name that the certificate names"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired; renew the server's certificate"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet; compare the clocks"
        }
        CertificateError::Revoked => "its certificate is revoked; renew the server's certificate",
        CertificateError::BadEncoding => "its certificate cannot be read",
        _ => "its certificate is not accepted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_without_certificates_is_an_error_and_no_panic() {
        for pem in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(parse(pem).is_err(), "{pem}");
            assert!(client(Verify::Chain, Some(pem)).is_err(), "{pem}");
        }
    }

    #[test]
    fn nothing_of_a_certificate_is_repeated() {
        let presented = vec!["DnsName(\"words of the maker\")".to_owned()];
        let expected = ServerName::try_from("db.example.com").expect("a name");
        let name = CertificateError::NotValidForNameContext { expected, presented };
        for error in [name, CertificateError::UnknownIssuer, CertificateError::BadSignature] {
            let told = advice(&rustls::Error::InvalidCertificate(error));
            assert!(!told.contains("words") && !told.contains("DnsName") && !told.contains("Issuer"), "{told}");
        }
    }

    /// As `openssl x509 -req` of OpenSSL 3.0 makes one: libpq and PostgreSQL take it, and rustls cannot read it.
    #[test]
    fn a_certificate_of_version_1_is_shown_and_another_key_is_still_found_out() {
        const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBGDCBvwIUHwBrq5qglZR0hEfqbZoyOBtwKzQwCgYIKoZIzj0EAwIwDjEMMAoG
A1UEAwwDYXBwMCAXDTI2MTIwMTAwMzQyMFoYDzIxMjYxMTA3MDAzNDIwWjAOMQww
CgYDVQQDDANhcHAwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARW6yimnsxMuu/q
hmZBpO5ArNylRg4MvFn1d1mRP3K7bzaa+J1EH93fd5Q62UcMagg6CqRt0j4Lfrif
sGn+nCJiMAoGCCqGSM49BAMCA0gAMEUCIHCHNgPEQsvEDwjv8o0SY7Wpo0BMCi3V
6mFJ6ZeREl6/AiEAq79wceNeqmx6TmY7Ijuxt8k6hLTnl9YQpp3GXfMv4sU=
-----END CERTIFICATE-----
";
        const KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQglQI2PujuCP+mPGJi
1CwQaL+6K6ZScFq7tpD6xAs3sxKhRANCAARW6yimnsxMuu/qhmZBpO5ArNylRg4M
vFn1d1mRP3K7bzaa+J1EH93fd5Q62UcMagg6CqRt0j4LfrifsGn+nCJi
-----END PRIVATE KEY-----
";
        let show = |certificate: &str, key: &str| {
            let shown = ClientCertificate { certificate: certificate.to_owned(), key: key.to_owned() };
            client_with(Verify::Nothing, None, Some(&shown))
        };
        assert!(show(CERTIFICATE, KEY).is_ok());
        let made = rcgen::generate_simple_self_signed(["app".to_owned()]).expect("a certificate");
        assert!(matches!(show(&made.cert.pem(), KEY), Err(TlsError::OtherKey)));
        assert!(matches!(show(CERTIFICATE, "no key"), Err(TlsError::ClientKey)));
        assert!(matches!(show("no certificate", KEY), Err(TlsError::ClientCertificate)));
    }

    #[test]
    fn certificates_survive_the_way_through_pem() {
        let certificates = [CertificateDer::from(vec![7; 100]), CertificateDer::from(vec![9; 48])];
        let pem = to_pem(&certificates);
        let back: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().expect("PEM");
        assert_eq!(back, certificates);
        assert!(pem.lines().all(|line| line.len() <= 64), "{pem}");
    }
}
