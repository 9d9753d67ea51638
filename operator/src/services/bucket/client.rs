//! How the client is built: static keys, ring for TLS, bounded retries, and nothing read from the environment.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
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

use super::classify::classify;
use super::connector;
use super::lock::Learned;
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
    /// The access key id.
    pub access_key_id: String,
    /// The secret access key.
    pub secret_access_key: String,
    /// The session token of temporary keys.
    pub session_token: Option<String>,
    /// Authorities (PEM) to trust beside the public ones.
    pub ca: Option<String>,
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
}

impl fmt::Debug for BucketClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("BucketClient").field(&self.subject()).finish()
    }
}

impl BucketClient {
    /// Connects to nothing yet.
    pub fn new(target: &BucketTarget, timeouts: Timeouts) -> Result<Self, ServiceError> {
        Self::with(target, timeouts, http_client)
    }

    /// As [`BucketClient::new`], to where the network leads.
    pub fn through(network: &Network, target: &BucketTarget) -> Result<Self, ServiceError> {
        Self::with(target, Timeouts::QUESTION, |target| {
            let encrypted = target.endpoint.starts_with("https:");
            let tls = encrypted.then(|| tls::client_beside(target.ca.as_deref())).transpose()?;
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
        let http = http(target).map_err(|error| ServiceError::new(Cause::Tls, subject, error.to_string()))?;
        Ok(Self {
            client: Client::from_conf(config(target, timeouts, http)),
            bucket: target.bucket.clone(),
            region: target.region.clone(),
            learned: Arc::default(),
            endpoint: target.endpoint.clone(),
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
        ServiceError::new(cause, self.subject(), detail)
    }
}

fn subject(bucket: &str, endpoint: &str) -> String {
    format!("bucket \"{bucket}\" at {endpoint}")
}

fn config(target: &BucketTarget, timeouts: Timeouts, http: SharedHttpClient) -> Config {
    let (id, key, token) = (&target.access_key_id, &target.secret_access_key, target.session_token.clone());
    let credentials = Credentials::new(id, key, token, None, "connection secret");
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

fn http_client(target: &BucketTarget) -> Result<SharedHttpClient, tls::TlsError> {
    // The library panics on a bundle that it cannot use, and in debug builds on a system without public authorities:
    // so it gets a list that was checked.
    let mut trust = TrustStore::empty();
    if target.endpoint.starts_with("https:") {
        let mut certificates = tls::public().to_vec();
        if let Some(ca) = &target.ca {
            certificates.extend(tls::parse(ca)?);
        }
        if certificates.is_empty() {
            return Err(tls::TlsError::NoRoots);
        }
        trust.add_pem_certificate(tls::to_pem(&certificates));
    }
    // Building a context cannot fail in this version; its type only says that it may.
    let context = TlsContext::builder().with_trust_store(trust).build().map_err(|_| tls::TlsError::NoRoots)?;
    Ok(Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(context).build_https())
}
