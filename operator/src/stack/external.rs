//! Services that the operator did not make: from Secrets to addresses.

use percent_encoding::percent_decode_str;

use super::{Observed, PostgresUrl, SecretData};
use crate::{
    api::v1alpha1::{ExternalBucket, ExternalDatabase, ExternalRedis, SecretKeyReference, SslMode},
    names::{Waiting, reason},
};

/// A service to talk to, to find out whether it answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A PostgreSQL database.
    Postgres {
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
        /// Make it if it is missing.
        create: bool,
        /// Turn versioning on.
        versioning: bool,
    },
}

/// The URLs of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseAccess {
    /// For the application at run time.
    pub url: PostgresUrl,
    /// To the server itself.
    pub direct: PostgresUrl,
    /// To a read replica.
    pub read: PostgresUrl,
    /// Certificate authorities (PEM).
    pub ca: Option<String>,
}

/// The address of a Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisAccess {
    /// The whole URL.
    pub url: String,
    /// Host name or address.
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
    /// Certificate authorities (PEM).
    pub ca: Option<String>,
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

    /// A URL, which what reads lines takes for more than one if it holds the end of a line.
    fn url(&self, key: &str) -> Result<Option<String>, Waiting> {
        let Some(text) = self.optional(key)? else { return Ok(None) };
        if percent_decode_str(&text).any(|byte| byte.is_ascii_control()) {
            return Err(
                self.invalid(key, "holds a control character, as it is or as %0A and the like: no URL needs one")
            );
        }
        Ok(Some(text))
    }

    fn required_url(&self, key: &str) -> Result<String, Waiting> {
        self.required(key)?;
        Ok(self.url(key)?.unwrap_or_default())
    }

    /// An access key id, which signatures hold in clear. A token or a password that is named for one is rarely like one.
    fn access_key_id(&self, key: &str) -> Result<String, Waiting> {
        let id = self.required(key)?;
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
        let mut url = PostgresUrl::parse(&text).map_err(|problem| secret.invalid(key, &problem))?;
        if let Some(mode) = mode {
            url.set_ssl_mode(mode);
        }
        Ok::<_, Waiting>(url)
    };
    let key = spec.secret_ref.url_key.as_deref().unwrap_or("DATABASE_URL");
    let url = parse(key, secret.required_url(key)?)?;
    let other = |named: Option<&str>, usual: &str| match named {
        Some(key) => parse(key, secret.required_url(key)?),
        None => match secret.url(usual)? {
            Some(text) => parse(usual, text),
            None => Ok(url.clone()),
        },
    };
    let direct = other(spec.secret_ref.direct_url_key.as_deref(), "DIRECT_URL")?;
    let read = other(spec.secret_ref.read_url_key.as_deref(), "READ_URL")?;
    Ok(DatabaseAccess { url, direct, read, ca })
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
    let text = secret.required_url(key)?;
    let url = url::Url::parse(&text).map_err(|error| {
        secret.invalid(
            key,
            &format!(
                "is not a URL ({error}): reserved characters in the password must be percent-encoded, e.g. / as %2F"
            ),
        )
    })?;
    if !matches!(url.scheme(), "redis" | "rediss") {
        // What stands before the first colon may be a user or a part of a password.
        return Err(secret.invalid(key, "must start with redis:// or rediss://"));
    }
    if ca.is_some() && url.scheme() != "rediss" {
        return Err(
            secret.invalid(key, "starts with redis://, and must start with rediss:// since redis.external.tls is set")
        );
    }
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| secret.invalid(key, "names no host"))?;
    let password = percent_decode_str(url.password().unwrap_or_default())
        .decode_utf8()
        .map_err(|_| secret.invalid(key, "has a password that is not UTF-8"))?;
    Ok(RedisAccess {
        host: host.to_owned(),
        port: url.port().unwrap_or(6379),
        password: password.into_owned(),
        url: text,
        ca,
    })
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
    Ok(BucketAccess {
        endpoint: spec.endpoint.trim_end_matches('/').to_owned(),
        region: spec.region.clone().unwrap_or_else(|| "us-east-1".to_owned()),
        name: spec.name.clone(),
        force_path_style: spec.force_path_style.unwrap_or(true),
        access_key_id: secret.access_key_id(reference.access_key_id_key.as_deref().unwrap_or("AWS_ACCESS_KEY_ID"))?,
        secret_access_key: secret
            .required(reference.secret_access_key_key.as_deref().unwrap_or("AWS_SECRET_ACCESS_KEY"))?,
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
