//! PostgreSQL on a server that the operator did not make: from a Secret to URLs.

use super::{ClientSecret, Database, DatabaseAccess, NamedUrl, Proxy, proxy, url_style};
use crate::{
    api::v1alpha1::{DatabaseProvider, ExternalDatabase, RorunStackSpec, SslMode},
    contract::{self, PostgresUrl, Provider, TlsMode, UrlError},
    names::{Component, Waiting},
    stack::{
        Endpoint, Observed, ProbeTarget, Probing, References, defaults,
        mode::{Context, Mode, ModeAccess, ModeSpec, Resolve, Unresolved, ok_or_unresolved},
        placeholders::Values,
        probing::{clear_text, refuses_clear_text},
        secret::{NamedSecret, authority, client_certificate},
    },
};

const FIELD: &str = "database.external";
const CLIENT_FIELD: &str = "database.external.tls.clientCertificateSecretRef";

/// PostgreSQL on a server that the operator did not make.
#[derive(Clone, Debug)]
pub struct External {
    access: Option<DatabaseAccess>,
    proxy: Option<Proxy>,
    provider: Option<&'static Provider>,
    probing: Probing,
}

impl Mode for External {
    fn provider(&self) -> Option<&'static Provider> {
        self.provider
    }

    fn probing(&self) -> Option<&Probing> {
        Some(&self.probing)
    }

    fn endpoints(&self, _: Option<&str>) -> Vec<(ProbeTarget, Endpoint)> {
        // To the operator the address of the proxy is its own pod's.
        self.access.as_ref().filter(|_| self.proxy.is_none()).map(Self::targets).unwrap_or_default()
    }

    fn asked_from_pods(&self, _: Option<&str>) -> Vec<(ProbeTarget, Endpoint)> {
        self.access.as_ref().filter(|_| self.proxy.is_some()).map(Self::targets).unwrap_or_default()
    }

    fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }
}

impl External {
    /// A database by each of its URLs that differ.
    pub(super) fn targets(access: &DatabaseAccess) -> Vec<(ProbeTarget, Endpoint)> {
        let urls = [
            (ProbeTarget::from(Component::Database), &access.url),
            (ProbeTarget::DIRECT, &access.direct),
            (ProbeTarget::READ, &access.read),
        ];
        let first = |index: usize, named: &NamedUrl| urls[..index].iter().all(|(_, other)| other.url != named.url);
        let distinct = urls.iter().enumerate().filter(|(index, (_, named))| first(*index, named));
        distinct
            .map(|(_, (target, named))| {
                let (origin, url) = (named.origin.clone(), named.url.to_string());
                let client = access.client.as_ref().map(|client| client.certificate.clone());
                (*target, Endpoint::Postgres { origin, url, ca: access.ca.clone(), client })
            })
            .collect()
    }
}

impl ModeAccess for External {
    type Access = DatabaseAccess;

    fn access(&self) -> Option<&DatabaseAccess> {
        self.access.as_ref()
    }
}

impl ModeSpec for ExternalDatabase {
    fn references(&self, _: &str, found: &mut References) {
        let of = &self.secret_ref;
        let keys = [
            of.url_key.as_deref().unwrap_or("DATABASE_URL"),
            of.direct_url_key.as_deref().unwrap_or("DIRECT_URL"),
            of.read_url_key.as_deref().unwrap_or("READ_URL"),
        ];
        found.secret(&of.name, keys);
        found.authority(self.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref()));
        if let Some(name) = client_secret(self) {
            found.secret(name, [contract::CLIENT_CERTIFICATE_FILE, contract::CLIENT_KEY_FILE]);
        }
        if let Some(name) = proxy::secret(self.cloud_sql_proxy.as_ref()) {
            // Only its pods read it.
            found.secret(name, []);
        }
    }

    fn placeholders(&self, _: &str, values: &mut Values<'_>) {
        let value = values.value();
        let at = |host: &str| format!("postgresql://app:{value}@{host}:5432/rorun");
        let url = |host: &str| match self.cloud_sql_proxy {
            Some(_) => at(proxy::HOST),
            None => at(&format!("{host}.example.com")),
        };
        let of = &self.secret_ref;
        values.secret(&of.name, of.url_key.as_deref().unwrap_or("DATABASE_URL"), url("pooler"));
        if let Some((spec, name)) = self.cloud_sql_proxy.as_ref().zip(proxy::secret(self.cloud_sql_proxy.as_ref())) {
            values.secret(name, proxy::key(spec), value);
        }
        for (key, host) in [(&of.direct_url_key, "database"), (&of.read_url_key, "replica")] {
            if let Some(key) = key {
                values.secret(&of.name, key, url(host));
            }
        }
        values.authority(self.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref()));
        if let Some(name) = client_secret(self) {
            values.certificate(name, contract::CLIENT_CERTIFICATE_FILE);
            values.secret(name, contract::CLIENT_KEY_FILE, format!("-----BEGIN PRIVATE KEY-----\n{value}"));
        }
    }
}

/// The Secret with the certificate of the client.
fn client_secret(spec: &ExternalDatabase) -> Option<&str> {
    Some(spec.tls.as_ref()?.client_certificate_secret_ref.as_ref()?.name.as_str())
}

impl Resolve for ExternalDatabase {
    type Service = Database;

    fn resolve(&self, context: &Context<'_>, unresolved: &mut Unresolved) -> Database {
        let access = ok_or_unresolved(access(self, context.observed), Component::Database, unresolved);
        let (access, proxy) = match (&self.cloud_sql_proxy, access) {
            (Some(_), Some(access)) => {
                let resolved = beside_pods(self, (context.spec, context.observed), access);
                ok_or_unresolved(resolved, Component::Database, unresolved)
                    .map(|(access, proxy)| (Some(access), Some(proxy)))
            }
            (_, access) => Some((access, None)),
        }
        .unwrap_or_default();
        let refused = proxy.is_none()
            && refuses_clear_text(context.spec.environment, self.allow_insecure)
            && access.as_ref().is_some_and(connects_in_clear_text);
        let doubt = refused
            .then(|| clear_text(FIELD, "the URL says sslmode=disable or allow", "another sslmode, or set tls.mode"));
        let probing = Probing::new(self.probe_interval.as_deref(), doubt);
        let host = || Provider::of_url(&access.as_ref()?.url.url.to_string());
        let named = self.provider.map(DatabaseProvider::as_str).or_else(|| proxy.as_ref().map(|_| "CloudSQL"));
        let provider = named.map_or_else(host, Provider::named);
        Database::External(Box::new(External { access, proxy, provider, probing }))
    }
}

/// The URLs by the proxy, and the proxy: it encrypts, and knows no TLS of PostgreSQL itself. A URL that leads elsewhere, as one of a read
/// replica may, stays as it is.
fn beside_pods(
    block: &ExternalDatabase,
    (spec, observed): (&RorunStackSpec, &Observed),
    access: DatabaseAccess,
) -> Result<(DatabaseAccess, Proxy), Waiting> {
    if !proxy::leads_there(&access.url) {
        return Err(proxy::leads_elsewhere(&access.url));
    }
    let plain = |named: NamedUrl| {
        let there = proxy::leads_there(&named);
        NamedUrl { url: if there { named.url.with(&[("sslmode", "disable")]) } else { named.url }, ..named }
    };
    let port = access.url.url.ports().first().map_or("5432", |port| *port).to_owned();
    let proxied =
        block.cloud_sql_proxy.as_ref().map(|of| Proxy::resolve(of, defaults::registry(spec), &port, observed));
    let Some(proxy) = proxied.transpose()? else { return Err(proxy::leads_elsewhere(&access.url)) };
    let DatabaseAccess { url, direct, read, .. } = access;
    Ok((DatabaseAccess { url: plain(url), direct: plain(direct), read: plain(read), ..access }, proxy))
}

fn connects_in_clear_text(access: &DatabaseAccess) -> bool {
    let in_clear = |named: &NamedUrl| matches!(named.url.parameter("sslmode"), Some("disable" | "allow"));
    [&access.url, &access.direct, &access.read].into_iter().any(in_clear)
}

fn access(spec: &ExternalDatabase, observed: &Observed) -> Result<DatabaseAccess, Waiting> {
    let secret = NamedSecret::find(observed, &spec.secret_ref.name, "database.external.secretRef")?;
    let ca = authority(
        spec.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref()),
        "database.external.tls.caSecretRef",
        observed,
    )?;
    let client = client_secret(spec).map(|name| {
        let certificate = client_certificate(name, CLIENT_FIELD, observed)?;
        Ok::<_, Waiting>(ClientSecret { name: name.to_owned(), certificate })
    });
    let client = client.transpose()?;
    let mode = spec.tls.as_ref().and_then(|tls| tls.mode).or_else(|| ca.as_ref().map(|_| SslMode::VerifyFull));
    let parse = |key: &str, text: String| {
        let mut url = postgres_url(&text, mode).map_err(|problem| secret.invalid(key, &problem.to_string()))?;
        if client.is_some() {
            if url.tls_mode() == Ok(TlsMode::Disable) {
                return Err(secret.invalid(key, SHOWS_NOTHING));
            }
            url = url.with(&[
                (contract::PARAMETER_CERTIFICATE, contract::CLIENT_CERTIFICATE_PATH),
                (contract::PARAMETER_KEY, contract::CLIENT_KEY_PATH),
            ]);
        }
        Ok::<_, Waiting>(NamedUrl { url, origin: format!("{key} in secret/{}", secret.name) })
    };
    let key = spec.secret_ref.url_key.as_deref().unwrap_or("DATABASE_URL");
    let url = parse(key, secret.required(key)?)?;
    let other = |named: Option<&str>, usual: &str| match named {
        Some(key) => parse(key, secret.required(key)?),
        None => match secret.optional(usual)? {
            Some(text) => parse(usual, text),
            None => Ok(url.clone()),
        },
    };
    let direct = other(spec.secret_ref.direct_url_key.as_deref(), "DIRECT_URL")?;
    let read = other(spec.secret_ref.read_url_key.as_deref(), "READ_URL")?;
    Ok(DatabaseAccess { url, direct, read, style: spec.url_style.unwrap_or_default(), ca, client })
}

/// What is wrong with a URL that asks for no encryption.
const SHOWS_NOTHING: &str = "says sslmode=disable, and without TLS no client shows the certificate of \
    database.external.tls.clientCertificateSecretRef: write another sslmode, or set database.external.tls.mode";

/// The URL with the mode of the spec, if it has one.
fn postgres_url(text: &str, mode: Option<SslMode>) -> Result<PostgresUrl, UrlError> {
    let url = PostgresUrl::parse(text)?;
    let url = mode.map(|mode| url.with(&[("sslmode", url_style::tls_mode(mode).as_str())])).unwrap_or(url);
    url.tls_mode().map(|_| url)
}
