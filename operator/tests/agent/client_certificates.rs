//! A PostgreSQL that knows its users by a certificate: who is let in, and what those hear who are not.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use rcgen::{CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};
use rorun_operator::contract::{self, ClientCertificate};
use rorun_operator::services::ServiceError;
use rorun_operator::services::postgres::{self, PostgresTarget};

use crate::locks::Holder;
use crate::scenario::Scenario;
use crate::servers::{PASSWORD, Servers, authority};

const TIMEOUT: Duration = Duration::from_secs(10);

type Authority = CertifiedIssuer<'static, KeyPair>;

/// A certificate for a client of this name.
fn issued(authority: &Authority, name: &str, change: impl FnOnce(&mut CertificateParams)) -> ClientCertificate {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    change(&mut parameters);
    let key = KeyPair::generate().expect("a key");
    let certificate = parameters.signed_by(&key, authority).expect("a certificate");
    ClientCertificate { certificate: certificate.pem(), key: key.serialize_pem() }
}

fn expired(parameters: &mut CertificateParams) {
    (parameters.not_before, parameters.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 2, 1));
}

fn of_a_server(parameters: &mut CertificateParams) {
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
}

/// The URL with the files of a certificate, as the kubelet mounts them: of root, and for nobody but the group to read.
fn with_files(servers: &Servers, url: &str, name: &str, shown: &ClientCertificate) -> String {
    let file = |ending: &str, pem: &str| {
        let path = servers.folder().join(format!("{name}.{ending}"));
        fs::write(&path, pem).expect("a file");
        fs::set_permissions(&path, Permissions::from_mode(0o440)).expect("permissions");
        path.display().to_string()
    };
    let (certificate, key) = (file("crt", &shown.certificate), file("key", &shown.key));
    format!("{url}&{}={certificate}&{}={key}", contract::PARAMETER_CERTIFICATE, contract::PARAMETER_KEY)
}

/// Which kind of failure it is, and its words.
fn told(error: &ServiceError) -> (&'static str, String) {
    let kind = match error {
        ServiceError::TlsFailed { .. } => "TlsFailed",
        ServiceError::AuthenticationFailed { .. } => "AuthenticationFailed",
        _ => "another",
    };
    (kind, error.to_string())
}

#[tokio::test]
async fn a_database_that_asks_for_a_certificate_is_shown_one() {
    let scenario = Scenario::new("certified").await;
    let servers = &scenario.servers;
    scenario.sql(&format!("CREATE ROLE certified LOGIN; CREATE ROLE certified_too LOGIN PASSWORD '{PASSWORD}'")).await;
    let ca = fs::read_to_string(&servers.database_ca_file).expect("authority");
    let stranger = authority("a stranger");
    let own = issued(&servers.clients, "certified", |_| {});
    let both = issued(&servers.clients, "certified_too", |_| {});
    let other_key = ClientCertificate { key: both.key.clone(), ..own.clone() };
    let no_pem = ClientCertificate { key: "-----BEGIN PRIVATE KEY-----\nx".to_owned(), ..own.clone() };
    let no_certificate = ClientCertificate { certificate: "x".to_owned(), ..own.clone() };
    let of_stranger = issued(&stranger, "certified", |_| {});
    let old = issued(&servers.clients, "certified", expired);
    let server = issued(&servers.clients, "certified", of_a_server);
    let certified = format!("certified@localhost:{}", servers.postgres_port);
    let with_password = format!("certified_too:{PASSWORD}@localhost:{}", servers.postgres_port);
    let alone =
        "it asks for a certificate of the client; name its Secret in database.external.tls.clientCertificateSecretRef";
    for (login, mode, shown, expected) in [
        (&certified, "prefer", Some(&own), None),
        (&certified, "require", Some(&own), None),
        (&certified, "verify-full", Some(&own), None),
        (&with_password, "require", Some(&both), None),
        (&certified, "require", None, Some(("AuthenticationFailed", alone))),
        (&with_password, "require", None, Some(("AuthenticationFailed", alone))),
        (&certified, "disable", Some(&own), Some(("AuthenticationFailed", "does not let this user in from here"))),
        (&certified, "require", Some(&both), Some(("AuthenticationFailed", "is for another user; its common name"))),
        (&with_password, "require", Some(&own), Some(("AuthenticationFailed", "is for another user (SQLSTATE 28P01)"))),
        (
            &certified,
            "require",
            Some(&of_stranger),
            Some(("TlsFailed", "does not trust the authority of the certificate")),
        ),
        (&certified, "require", Some(&old), Some(("TlsFailed", "clientCertificateSecretRef has expired; renew"))),
        (&certified, "require", Some(&server), Some(("TlsFailed", "is not one for clients"))),
        (
            &certified,
            "require",
            Some(&other_key),
            Some(("TlsFailed", "tls.key of clientCertificateSecretRef is not the key")),
        ),
        (&certified, "require", Some(&no_pem), Some(("TlsFailed", "holds no usable private key"))),
        (&certified, "require", Some(&no_certificate), Some(("TlsFailed", "holds no usable certificate"))),
    ] {
        let url = format!("postgresql://{login}/certified?sslmode={mode}");
        let ca = (mode == "verify-full").then(|| ca.clone());
        let target = PostgresTarget { url, ca, client: shown.cloned() };
        assert!(!format!("{target:?} {shown:?}").contains("KEY"), "a key in {target:?}");
        let answer = postgres::check(&target, TIMEOUT).await.map_err(|error| told(&error));
        match (&answer, expected) {
            (Ok(_), None) => {}
            (Err((kind, message)), Some((expected, words))) => {
                assert_eq!(*kind, expected, "{login} {mode}: {message}");
                assert!(message.contains(words) && !message.contains("KEY"), "{login} {mode}: {message}");
            }
            _ => panic!("{login} {mode}: {answer:?}"),
        }
    }
}

/// The agent's own client and libpq, by the files that the URL names.
#[tokio::test]
async fn a_dump_shows_the_certificate_that_its_url_names() {
    let scenario = Scenario::new("certified-dump").await;
    let servers = &scenario.servers;
    scenario.sql("CREATE ROLE certified_dump LOGIN SUPERUSER; CREATE TABLE kept AS SELECT 7 AS n").await;
    let url = format!("postgresql://certified_dump@localhost:{}/certified-dump?sslmode=require", servers.postgres_port);
    let by = |url: &str| {
        let mut command = scenario.command();
        // Those of the application must not count.
        command.env("PGSSLCERT", "/nowhere/tls.crt").env("PGSSLKEY", "/nowhere/tls.key");
        command.env(contract::ENV_DATABASE_URL, url);
        command
    };
    let own = issued(&servers.clients, "certified_dump", |_| {});
    let run = scenario.run(by(&with_files(servers, &url, "certified-dump", &own))).await;
    assert!(!run.output.contains("PRIVATE KEY"), "{}", run.output);
    let record = run.complete();
    assert!(record.rows == Some(1) && record.not_locked.is_none(), "{record:?}");
    let key = format!("{}{}/{}", scenario.prefix, record.id, contract::DUMP_FILE);
    let dump = scenario.bucket.get(&key).await.expect("get").expect("a dump");
    let restored = scenario.restore(&dump).await;
    assert_eq!(scenario.sql_in(&restored, "SELECT n FROM kept").await, "7");

    for (shown, words) in [
        (
            None,
            "it asks for a certificate of the client; name its Secret in database.external.tls.clientCertificateSecretRef",
        ),
        (Some(issued(&servers.clients, "certified_dump", expired)), "clientCertificateSecretRef has expired"),
        (
            Some(issued(&authority("a stranger"), "certified_dump", |_| {})),
            "it does not trust the authority of the certificate",
        ),
    ] {
        let url = shown.map_or_else(|| url.clone(), |shown| with_files(servers, &url, "certified-refused", &shown));
        let message = scenario.failure(by(&url)).await;
        assert!(message.contains(words), "{message}");
    }
}

#[tokio::test]
async fn the_lock_of_a_migration_is_taken_with_the_certificate() {
    let scenario = Scenario::new("certified-lock").await;
    scenario.sql("CREATE ROLE certified_lock LOGIN").await;
    let servers = &scenario.servers;
    let url = format!("postgresql://certified_lock@localhost:{}/certified-lock?sslmode=require", servers.postgres_port);
    let own = issued(&servers.clients, "certified_lock", |_| {});
    let holder = Holder::start(&scenario, &with_files(servers, &url, "certified-lock", &own), "60");
    holder.has_the_lock().await;
    let (code, _, said) = holder.end().await;
    assert_eq!(code, Some(0), "{said}");
}
