//! A bucket in the cluster, read from outside by an S3 client.

use anyhow::{Context, Result};
use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Config, Region, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::DisplayErrorContext;
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};

use super::{Forward, Stack, TestCluster};

/// A bucket.
#[derive(Debug)]
pub struct Bucket {
    name: String,
    client: Client,
    _forward: Forward,
}

/// Who may use a bucket, and how it is found in the cluster.
#[derive(Clone, Copy, Debug)]
pub struct BucketAccess<'a> {
    /// The namespace of the server.
    pub namespace: &'a str,
    /// The object whose port kubectl forwards.
    pub server: &'a str,
    /// The name of the bucket.
    pub name: &'a str,
    /// Access key id and secret access key.
    pub keys: (&'a str, &'a str),
    /// The certificate authority (PEM) of a server that speaks TLS; it must name `localhost`.
    pub authority: Option<&'a str>,
}

/// The port of the S3 server.
const PORT: u16 = 8333;

impl Bucket {
    /// The bucket that the operator runs for a stack.
    pub async fn of(test_cluster: &TestCluster, stack: &Stack) -> Result<Bucket> {
        let connection = stack.connection().await?;
        let value = |key: &str| connection.get(key).map(String::as_str).with_context(|| format!("no {key}"));
        Bucket::open(
            test_cluster,
            BucketAccess {
                namespace: &stack.namespace,
                server: &format!("service/{}", stack.child("bucket")),
                name: value("S3_BUCKET")?,
                keys: (value("AWS_ACCESS_KEY_ID")?, value("AWS_SECRET_ACCESS_KEY")?),
                authority: None,
            },
        )
        .await
    }

    /// Any bucket on a server in the cluster, whether it exists or not.
    pub async fn open(test_cluster: &TestCluster, access: BucketAccess<'_>) -> Result<Bucket> {
        let forward = test_cluster.forward(access.namespace, access.server, PORT).await?;
        let builder = aws_smithy_http_client::Builder::new();
        let (scheme, http_client) = match access.authority {
            None => ("http", builder.build_http()),
            Some(authority) => {
                let trust = TrustStore::empty().with_pem_certificate(authority.as_bytes());
                let context = TlsContext::builder().with_trust_store(trust).build()?;
                let builder = builder.tls_provider(Provider::Rustls(CryptoMode::Ring));
                ("https", builder.tls_context(context).build_https())
            }
        };
        let config = Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .http_client(http_client)
            .endpoint_url(format!("{scheme}://localhost:{}", forward.port))
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::from_keys(access.keys.0, access.keys.1, None))
            .force_path_style(true)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        Ok(Bucket { name: access.name.to_owned(), client: Client::from_conf(config), _forward: forward })
    }

    /// Makes the bucket.
    pub async fn create(&self) -> Result<()> {
        let created = self.client.create_bucket().bucket(&self.name).send().await;
        created.map(drop).map_err(|error| self.failure("make", error))
    }

    /// The keys that start with a prefix.
    pub async fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        let listed = self.client.list_objects_v2().bucket(&self.name).prefix(prefix).send().await;
        let listed = listed.map_err(|error| self.failure("list", error))?;
        Ok(listed.contents().iter().filter_map(|object| object.key.clone()).collect())
    }

    /// An object.
    pub async fn get(&self, key: &str) -> Result<Vec<u8>> {
        let got = self.client.get_object().bucket(&self.name).key(key).send().await;
        let got = got.map_err(|error| self.failure(&format!("read {key} of"), error))?;
        Ok(got.body.collect().await?.to_vec())
    }

    /// Writes an object.
    pub async fn put(&self, key: &str, body: impl Into<Vec<u8>>) -> Result<()> {
        let body = ByteStream::from(body.into());
        let put = self.client.put_object().bucket(&self.name).key(key).body(body).send().await;
        put.map(drop).map_err(|error| self.failure(&format!("write {key} to"), error))
    }

    fn failure(&self, verb: &str, error: impl std::error::Error) -> anyhow::Error {
        anyhow::anyhow!("failed to {verb} the bucket {}: {}", self.name, DisplayErrorContext(error))
    }
}
