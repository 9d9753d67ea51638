//! How the client is built: keys, or the role of the pod where there are none, ring for TLS, bounded retries, and nothing else read
//! from the environment.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::config::{
    BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::{Client, Config};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use rustls::pki_types::CertificateDer;

use super::classify::classify;
use super::connector;
use super::lock::Learned;
use super::role::Role;
use crate::services::error::{Cause, ServiceError};
use crate::services::network::{Network, has_control_characters};
use crate::services::tls;

/// A bucket, and who uses it.
#[derive(Clone, PartialEq, Eq)]
pub struct BucketTarget {
    /// The URL of the service, e.g. `https://s3.eu-west-1.amazonaws.com`; it may have a path.
    pub endpoint: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The name of the bucket.
    pub bucket: String,
    /// `https://endpoint/bucket/key` instead of `https://bucket.endpoint/key`.
    pub force_path_style: bool,
    /// The keys. `None`: those of the role that the cloud gives to the pod.
    pub keys: Option<AccessKeys>,
    /// Authorities (PEM) to trust beside the public ones.
    pub ca: Option<String>,
}

/// The keys of a bucket.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKeys {
    /// The access key id.
    pub id: String,
    /// The secret access key.
    pub secret: String,
    /// The session token of temporary keys.
    pub session_token: Option<String>,
}

impl AccessKeys {
    /// Keys as they are given. `None`: none are. One alone is no sign that a role is meant: the server refuses it.
    pub fn given(id: Option<String>, secret: Option<String>, session_token: Option<String>) -> Option<Self> {
        let [id, secret, session_token] = [id, secret, session_token].map(|text| text.filter(|text| !text.is_empty()));
        if id.is_none() && secret.is_none() {
            return None;
        }
        Some(Self { id: id.unwrap_or_default(), secret: secret.unwrap_or_default(), session_token })
    }

    /// What must not be told.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        [Some(&self.secret), self.session_token.as_ref()].into_iter().flatten().map(String::as_str)
    }
}

impl fmt::Debug for BucketTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, region, bucket, .. } = self;
        formatter
            .debug_struct("BucketTarget")
            .field("endpoint", endpoint)
            .field("region", region)
            .field("bucket", bucket)
            .finish_non_exhaustive()
    }
}

/// How long to wait, and how often to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// For one attempt of a request, the sending of its body included.
    pub attempt: Duration,
    /// How many attempts, at least one.
    pub attempts: u32,
}

impl Timeouts {
    /// For a check of our own pods.
    pub const CHECK: Self = Self { connect: Duration::from_secs(3), attempt: Duration::from_secs(5), attempts: 2 };
    /// For one question, which is repeated anyway.
    pub const QUESTION: Self = Self { connect: Duration::from_secs(5), attempt: Duration::from_secs(10), attempts: 1 };
    /// For moving data.
    pub const DATA: Self = Self { connect: Duration::from_secs(5), attempt: Duration::from_mins(5), attempts: 4 };
    /// For copies within the server, which answers once it has copied all.
    pub const COPY: Self = Self { connect: Duration::from_secs(5), attempt: Duration::from_mins(30), attempts: 4 };
}

/// A client of one bucket. Cheap to clone.
#[derive(Clone)]
pub struct BucketClient {
    pub(super) client: Client,
    pub(super) bucket: String,
    pub(super) region: String,
    pub(super) learned: Arc<Learned>,
    endpoint: String,
    by_role: bool,
}

impl fmt::Debug for BucketClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("BucketClient").field(&self.subject()).finish()
    }
}

impl BucketClient {
    /// Connects to nothing yet.
    pub fn new(target: &BucketTarget, timeouts: Timeouts) -> Result<Self, ServiceError> {
        Self::with(target, timeouts, |target| {
            if !is_encrypted(target) {
                return http_client(&[]);
            }
            let trusted = trusted(target.ca.as_deref())?;
            if trusted.is_empty() { Err(tls::TlsError::NoRoots) } else { http_client(&trusted) }
        })
    }

    /// As [`BucketClient::new`], to where the network leads, and never by a role: whoever names a bucket to the operator must not have it
    /// asked by what the operator itself may do.
    pub fn through(network: &Network, target: &BucketTarget) -> Result<Self, ServiceError> {
        if target.keys.is_none() {
            let subject = subject(&target.bucket, &target.endpoint);
            return Err(ServiceError::new(
                Cause::Refused,
                subject,
                "it is used by a role, and only pods of its stack have it",
            ));
        }
        Self::with(target, Timeouts::QUESTION, |target| {
            let tls = is_encrypted(target).then(|| tls::client_beside(target.ca.as_deref())).transpose()?;
            Ok(connector::client(network.clone(), tls))
        })
    }

    fn with(
        target: &BucketTarget,
        timeouts: Timeouts,
        http: impl FnOnce(&BucketTarget) -> Result<SharedHttpClient, tls::TlsError>,
    ) -> Result<Self, ServiceError> {
        let valid = url::Url::parse(&target.endpoint)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host() && url.password().is_none());
        if !valid || has_control_characters(&target.endpoint) {
            // Without the address: it may be a URL with a password.
            let subject = format!("bucket \"{}\"", target.bucket);
            return Err(ServiceError::new(Cause::Other, subject, "the endpoint is not like https://s3.example.com"));
        }
        let subject = subject(&target.bucket, &target.endpoint);
        let made = http(target).and_then(|http| Ok((http, credentials(target)?)));
        let (http, credentials) = made.map_err(|error| ServiceError::new(Cause::Tls, subject, error.to_string()))?;
        Ok(Self {
            client: Client::from_conf(config(target, timeouts, http, credentials)),
            bucket: target.bucket.clone(),
            region: target.region.clone(),
            learned: Arc::default(),
            endpoint: target.endpoint.clone(),
            by_role: target.keys.is_none(),
        })
    }

    /// The name of the bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// For messages: which bucket, and where.
    pub(super) fn subject(&self) -> String {
        subject(&self.bucket, &self.endpoint)
    }

    pub(super) fn failed<E>(&self, error: &SdkError<E, HttpResponse>) -> ServiceError
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        let (cause, detail) = classify(error);
        // Such keys are in no Secret.
        let cause = if self.by_role && cause == Cause::Authentication { Cause::Role } else { cause };
        ServiceError::new(cause, self.subject(), detail)
    }
}

fn subject(bucket: &str, endpoint: &str) -> String {
    format!("bucket \"{bucket}\" at {endpoint}")
}

/// The keys, or where they come from.
fn credentials(target: &BucketTarget) -> Result<SharedCredentialsProvider, tls::TlsError> {
    let Some(AccessKeys { id, secret, session_token }) = &target.keys else {
        let http = http_client(&trusted(target.ca.as_deref())?)?;
        return Ok(SharedCredentialsProvider::new(Role::of_pod(http, &target.region)));
    };
    let keys = Credentials::new(id, secret, session_token.clone(), None, "connection secret");
    Ok(SharedCredentialsProvider::new(keys))
}

fn config(
    target: &BucketTarget,
    timeouts: Timeouts,
    http: SharedHttpClient,
    credentials: SharedCredentialsProvider,
) -> Config {
    Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .endpoint_url(base(&target.endpoint))
        .region(Region::new(target.region.clone()))
        .force_path_style(target.force_path_style)
        .credentials_provider(credentials)
        // Servers other than Amazon's refuse the checksums in trailers that are the default. The body is part of
        // the signature, so it arrives as it was sent.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(timeouts.attempts.max(1))
                .with_max_backoff(Duration::from_secs(5)),
        )
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(timeouts.connect)
                .operation_attempt_timeout(timeouts.attempt)
                .build(),
        )
        .build()
}

/// The library puts the name of the bucket right behind the path, so one that is not empty has to end in a slash.
fn base(endpoint: &str) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    let has_path = url::Url::parse(endpoint).is_ok_and(|url| url.path().len() > 1);
    if has_path { format!("{endpoint}/") } else { endpoint.to_owned() }
}

fn is_encrypted(target: &BucketTarget) -> bool {
    target.endpoint.starts_with("https:")
}

/// The public authorities, and those given beside them.
fn trusted(ca: Option<&str>) -> Result<Vec<CertificateDer<'static>>, tls::TlsError> {
    let mut certificates = tls::public().to_vec();
    if let Some(ca) = ca {
        certificates.extend(tls::parse(ca)?);
    }
    Ok(certificates)
}

/// A client that trusts these authorities.
fn http_client(certificates: &[CertificateDer<'_>]) -> Result<SharedHttpClient, tls::TlsError> {
    // The library panics on a bundle that it cannot use, and in debug builds on a system without public authorities:
    // so it gets a list that was checked.
    let mut trust = TrustStore::empty();
    if !certificates.is_empty() {
        trust.add_pem_certificate(tls::to_pem(certificates));
    }
    // Building a context cannot fail in this version; its type only says that it may.
    let context = TlsContext::builder().with_trust_store(trust).build().map_err(|_| tls::TlsError::NoRoots)?;
    Ok(Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(context).build_https())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys that are lost in part must not become a role, which may be allowed to do other things.
    #[test]
    fn only_without_any_key_a_role_is_meant() {
        let given = |id: &str, secret: &str| AccessKeys::given(Some(id.to_owned()), Some(secret.to_owned()), None);
        assert!(AccessKeys::given(None, None, Some("token".to_owned())).is_none() && given("", "").is_none());
        assert!(given("id", "").is_some() && given("", "key").is_some());
    }
}
