//! Services that the operator did not make: from Secrets to addresses.

use crate::{
    api::v1alpha1::{
        Checksums, ExternalBucket, ExternalDatabase, ExternalRedis, SecretKeyReference, SslMode, UrlStyle,
    },
    contract::{self, PostgresUrl, UrlError},
    names::{Waiting, reason},
};

use super::{Observed, SecretData, redis_url::RedisUrl, url_style};

/// A service to talk to, to find out whether it answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A PostgreSQL database.
    Postgres {
        /// Where the URL comes from, for messages.
        origin: String,
        /// The URL.
        url: String,
        /// Certificate authorities (PEM).
        ca: Option<String>,
    },
    /// A Redis.
    Redis {
        /// The URL.
        url: String,
        /// Certificate authorities (PEM).
        ca: Option<String>,
    },
    /// A bucket.
    Bucket {
        /// Where it is and with which keys.
        access: BucketAccess,
        /// The folder of backups in it: keys that are limited to it may list nothing else.
        prefix: Option<String>,
        /// Make it if it is missing.
        create: bool,
        /// Turn versioning on.
        versioning: bool,
    },
}

/// A URL, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedUrl {
    /// The URL.
    pub url: PostgresUrl,
    /// The key and the Secret, e.g. `DATABASE_URL in secret/supabase`. Empty for the embedded database.
    pub origin: String,
}

/// The URLs of a database, with the parameters of libpq.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseAccess {
    /// For the application at run time.
    pub url: NamedUrl,
    /// To the server itself.
    pub direct: NamedUrl,
    /// To a read replica.
    pub read: NamedUrl,
    /// The dialect that the application gets.
    pub style: UrlStyle,
    /// Certificate authorities (PEM).
    pub ca: Option<String>,
}

/// The address of a Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisAccess {
    /// The whole URL.
    pub url: String,
    /// Host name or address, an IPv6 address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Password, decoded.
    pub password: String,
    /// Certificate authorities (PEM).
    pub ca: Option<String>,
}

/// A bucket and the keys to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BucketAccess {
    /// The URL of the S3 service.
    pub endpoint: String,
    /// The region to sign for.
    pub region: String,
    /// The name of the bucket.
    pub name: String,
    /// `https://endpoint/bucket/key` instead of `https://bucket.endpoint/key`.
    pub force_path_style: bool,
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: String,
    /// The session token of temporary keys.
    pub session_token: Option<SessionToken>,
    /// The checksums that the application's client is to send and expect. `None`: it decides.
    pub checksums: Option<Checksums>,
    /// Certificate authorities (PEM).
    pub ca: Option<String>,
}

/// The token that comes with keys of limited life.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionToken {
    /// The token.
    pub value: String,
    /// Whether the spec names its key. Else it was found under the usual one.
    pub named: bool,
}

/// The Secret that a field of the spec names.
struct NamedSecret<'a> {
    name: &'a str,
    field: &'a str,
    data: &'a SecretData,
}

impl<'a> NamedSecret<'a> {
    fn find(observed: &'a Observed, name: &'a str, field: &'a str) -> Result<Self, Waiting> {
        match observed.secrets.get(name) {
            _ if observed.traits.get(name).is_some_and(|traits| traits.too_large) => Err(Waiting::new(
                reason::TOO_LARGE,
                format!(
                    "secret/{name}, named by {field}, holds too much under the keys that are named: at most 512 KiB"
                ),
            )),
            Some(Some(data)) => Ok(Self { name, field, data }),
            _ => Err(Waiting::new(
                reason::REFERENCE_MISSING,
                format!("secret/{name}, named by {field}, does not exist: create it in the stack's namespace"),
            )),
        }
    }

    fn optional(&self, key: &str) -> Result<Option<String>, Waiting> {
        let Some(value) = self.data.get(key) else { return Ok(None) };
        let text = String::from_utf8(value.clone()).map_err(|_| self.invalid(key, "is not UTF-8"))?;
        Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
    }

    fn required(&self, key: &str) -> Result<String, Waiting> {
        self.optional(key)?.ok_or_else(|| {
            Waiting::new(
                reason::KEY_MISSING,
                format!(
                    "secret/{}, named by {}, lacks the key {key} or it is empty: add it, or name the right key in {}",
                    self.name, self.field, self.field
                ),
            )
        })
    }

    /// A key of an S3 service, which some tools put into the quotation marks of an .env file.
    fn unquoted(&self, key: &str) -> Result<String, Waiting> {
        let text = self.required(key)?;
        let quoted =
            ['"', '\''].into_iter().any(|mark| text.len() > 1 && text.starts_with(mark) && text.ends_with(mark));
        if quoted {
            let problem = "is in quotation marks, which some tools keep from an .env file: remove the quotation marks";
            return Err(self.invalid(key, problem));
        }
        Ok(text)
    }

    /// An access key id, which signatures hold in clear. A token or a password that is named for one is rarely like one.
    fn access_key_id(&self, key: &str) -> Result<String, Waiting> {
        let id = self.unquoted(key)?;
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if (3..=128).contains(&id.len()) && id.bytes().all(known) {
            return Ok(id);
        }
        Err(self.invalid(key, "is no access key id: 3 to 128 letters, digits, _ and - of ASCII"))
    }

    fn invalid(&self, key: &str, problem: &str) -> Waiting {
        Waiting::new(
            reason::INVALID_VALUE,
            format!("the value of {key} in secret/{}, named by {}, {problem}", self.name, self.field),
        )
    }
}

fn authority(
    reference: Option<&SecretKeyReference>,
    field: &str,
    observed: &Observed,
) -> Result<Option<String>, Waiting> {
    let Some(reference) = reference else { return Ok(None) };
    let secret = NamedSecret::find(observed, &reference.name, field)?;
    let key = reference.key.as_deref().unwrap_or("ca.crt");
    let pem = secret.required(key)?;
    let certificates = certificates(&pem);
    if certificates.is_empty() {
        return Err(secret.invalid(key, "is not a certificate in PEM form (-----BEGIN CERTIFICATE-----)"));
    }
    Ok(Some(certificates))
}

/// Just the certificates of a PEM file: they go into a `ConfigMap`, and a private key beside them must not.
fn certificates(pem: &str) -> String {
    const END: &str = "-----END CERTIFICATE-----";
    let blocks = pem
        .split_inclusive(END)
        .filter_map(|part| part.rfind("-----BEGIN CERTIFICATE-----").map(|start| &part[start..]));
    blocks.filter(|block| block.ends_with(END)).collect::<Vec<_>>().join("\n")
}

/// The URLs of an external database.
pub(super) fn database(spec: &ExternalDatabase, observed: &Observed) -> Result<DatabaseAccess, Waiting> {
    let secret = NamedSecret::find(observed, &spec.secret_ref.name, "database.external.secretRef")?;
    let ca = authority(
        spec.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref()),
        "database.external.tls.caSecretRef",
        observed,
    )?;
    let mode = spec.tls.as_ref().and_then(|tls| tls.mode).or_else(|| ca.as_ref().map(|_| SslMode::VerifyFull));
    let parse = |key: &str, text: String| {
        let url = postgres_url(&text, mode).map_err(|problem| secret.invalid(key, &problem.to_string()))?;
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
    Ok(DatabaseAccess { url, direct, read, style: spec.url_style.unwrap_or_default(), ca })
}

/// The URL with the mode of the spec, if it has one.
fn postgres_url(text: &str, mode: Option<SslMode>) -> Result<PostgresUrl, UrlError> {
    let url = PostgresUrl::parse(text)?;
    let url = mode.map(|mode| url.with(&[("sslmode", url_style::tls_mode(mode).as_str())])).unwrap_or(url);
    url.tls_mode().map(|_| url)
}

/// The address of an external Redis.
pub(super) fn redis(spec: &ExternalRedis, observed: &Observed) -> Result<RedisAccess, Waiting> {
    let secret = NamedSecret::find(observed, &spec.secret_ref.name, "redis.external.secretRef")?;
    let ca = authority(
        spec.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref()),
        "redis.external.tls.caSecretRef",
        observed,
    )?;
    let key = spec.secret_ref.url_key.as_deref().unwrap_or("REDIS_URL");
    let text = secret.required(key)?;
    let url = RedisUrl::parse(&text).map_err(|problem| secret.invalid(key, &problem.to_string()))?;
    if ca.is_some() && !url.tls {
        return Err(
            secret.invalid(key, "starts with redis://, and must start with rediss:// since redis.external.tls is set")
        );
    }
    Ok(RedisAccess { host: url.host, port: url.port, password: url.password, url: text, ca })
}

/// An external bucket. `field` is the path in the spec, for messages.
pub(super) fn bucket(spec: &ExternalBucket, field: &str, observed: &Observed) -> Result<BucketAccess, Waiting> {
    let reference = &spec.credentials_secret_ref;
    let secret_field = format!("{field}.credentialsSecretRef");
    let secret = NamedSecret::find(observed, &reference.name, &secret_field)?;
    let tls_field = format!("{field}.tls.caSecretRef");
    let ca = authority(spec.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref()), &tls_field, observed)?;
    if ca.is_some() && !spec.endpoint.starts_with("https://") {
        return Err(Waiting::new(
            reason::INVALID_SPEC,
            format!("{field}.endpoint must start with https:// since {field}.tls is set"),
        ));
    }
    let has_path = url::Url::parse(&spec.endpoint).is_ok_and(|url| !matches!(url.path(), "" | "/"));
    if has_path && spec.force_path_style == Some(false) {
        let message = format!("{field}.forcePathStyle must not be false since {field}.endpoint has a path: remove it");
        return Err(Waiting::new(reason::INVALID_SPEC, message));
    }
    let session_token = if let Some(key) = &reference.session_token_key {
        Some(SessionToken { value: secret.unquoted(key)?, named: true })
    } else {
        let found = secret.optional(contract::ENV_SESSION_TOKEN)?;
        found.map(|value| SessionToken { value, named: false })
    };
    Ok(BucketAccess {
        endpoint: spec.endpoint.trim_end_matches('/').to_owned(),
        region: spec.region.clone().unwrap_or_else(|| "us-east-1".to_owned()),
        name: spec.name.clone(),
        force_path_style: spec.force_path_style.unwrap_or(true),
        access_key_id: secret
            .access_key_id(reference.access_key_id_key.as_deref().unwrap_or(contract::ENV_ACCESS_KEY_ID))?,
        secret_access_key: secret
            .unquoted(reference.secret_access_key_key.as_deref().unwrap_or(contract::ENV_SECRET_ACCESS_KEY))?,
        session_token,
        checksums: spec.checksums,
        ca,
    })
}

#[cfg(test)]
mod tests {
    use super::certificates;

    #[test]
    fn a_private_key_beside_the_certificates_is_left_out() {
        let block = |kind: &str, text: &str| format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n");
        let (one, two, key) =
            (block("CERTIFICATE", "one"), block("CERTIFICATE", "two"), block("PRIVATE KEY", "secret"));
        let expected = format!("{one}{two}");
        assert_eq!(certificates(&format!("a comment\n{key}{one}{key}{two}{key}")), expected.trim_end());
        let cut_off = "-----BEGIN CERTIFICATE-----\ncut off\n";
        assert_eq!(certificates(&format!("{key}{cut_off}")), "");
        assert_eq!(certificates(&format!("{cut_off}{key}{one}")), one.trim_end());
    }
}
