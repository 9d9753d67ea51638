//! Reads and writes the rules of a bucket as whole documents, which is the only way that S3 has.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::SdkBody;
use aws_sdk_s3::types::TransitionDefaultMinimumObjectSize;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest as _, Md5};

use super::BucketClient;
use super::document::{RuleDocument, RuleKind};
use crate::services::error::{Cause, ServiceError};

/// How a server says that a bucket has no such rules.
const NONE: [&str; 4] = [
    "NoSuchLifecycleConfiguration",
    "NoSuchCORSConfiguration",
    "ReplicationConfigurationNotFoundError",
    "NoSuchReplicationConfiguration",
];
/// The codes of a refusal which is none of the document.
const OF_THE_REQUEST: [&str; 6] = [
    "AuthorizationHeaderMalformed",
    "BadDigest",
    "ExpiredToken",
    "InvalidDigest",
    "RequestTimeout",
    "TokenRefreshRequired",
];

/// What became of a document that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The server took it.
    Taken,
    /// The server understood the request and does not take such rules.
    Refused(String),
}

impl BucketClient {
    /// The rules of the bucket.
    pub async fn rules(&self, kind: RuleKind) -> Result<RuleDocument, ServiceError> {
        let (body, bucket) = (Body::default(), &self.bucket);
        let mut smallest = None;
        let asked = match kind {
            RuleKind::Lifecycle => {
                let request = self.client.get_bucket_lifecycle_configuration().bucket(bucket).customize();
                let answer = request.interceptor(body.clone()).send().await;
                answer.map_err(|error| self.no_rules(&error)).map(|answer| {
                    smallest = answer.transition_default_minimum_object_size().map(|size| size.as_str().to_owned());
                })
            }
            RuleKind::Cors => {
                let request = self.client.get_bucket_cors().bucket(bucket).customize();
                let answer = request.interceptor(body.clone()).send().await;
                answer.map_err(|error| self.no_rules(&error)).map(drop)
            }
            RuleKind::Replication => {
                let request = self.client.get_bucket_replication().bucket(bucket).customize();
                let answer = request.interceptor(body.clone()).send().await;
                answer.map_err(|error| self.no_rules(&error)).map(drop)
            }
        };
        match asked {
            Ok(()) => {
                let mut document = RuleDocument::parse(kind, &body.taken()).ok_or_else(|| {
                    let detail = format!("it answers with something else than a document of {} rules", kind.as_str());
                    ServiceError::new(Cause::Other, self.subject(), detail)
                })?;
                document.smallest_transition = smallest;
                Ok(document)
            }
            Err(None) => Ok(RuleDocument::empty(kind)),
            Err(Some(error)) => Err(error),
        }
    }

    /// Replaces the rules of the bucket. Without a rule there is no document.
    pub async fn send_rules(&self, document: &RuleDocument) -> Result<Sent, ServiceError> {
        if document.rules.is_empty() {
            return self.delete_rules(document.kind()).await.map(|()| Sent::Taken);
        }
        let (bucket, text) = (&self.bucket, document.text());
        let write = move |request: &mut HttpRequest| write(request, &text);
        match document.kind() {
            RuleKind::Lifecycle => {
                let size = document.smallest_transition.as_deref().map(TransitionDefaultMinimumObjectSize::from);
                let request = self.client.put_bucket_lifecycle_configuration().bucket(bucket);
                let request = request.set_transition_default_minimum_object_size(size).customize();
                self.sent(request.mutate_request(write).send().await)
            }
            RuleKind::Cors => {
                let request = self.client.put_bucket_cors().bucket(bucket).customize();
                self.sent(request.mutate_request(write).send().await)
            }
            RuleKind::Replication => {
                let request = self.client.put_bucket_replication().bucket(bucket).customize();
                self.sent(request.mutate_request(write).send().await)
            }
        }
    }

    /// A server that does not take a document without any of our rules.
    pub fn unsupported(&self, detail: &str) -> ServiceError {
        ServiceError::new(Cause::Unsupported, self.subject(), detail)
    }

    /// Another client writes the rules again and again.
    pub fn contended(&self, kind: &str) -> ServiceError {
        let detail = format!("another client replaces its {kind} rules again and again, so that ours do not stay");
        ServiceError::new(Cause::Other, self.subject(), detail)
    }

    async fn delete_rules(&self, kind: RuleKind) -> Result<(), ServiceError> {
        let bucket = &self.bucket;
        match kind {
            RuleKind::Lifecycle => {
                let answer = self.client.delete_bucket_lifecycle().bucket(bucket).send().await;
                answer.map(drop).map_err(|error| self.failed(&error))
            }
            RuleKind::Cors => {
                let answer = self.client.delete_bucket_cors().bucket(bucket).send().await;
                answer.map(drop).map_err(|error| self.failed(&error))
            }
            RuleKind::Replication => {
                let answer = self.client.delete_bucket_replication().bucket(bucket).send().await;
                answer.map(drop).map_err(|error| self.failed(&error))
            }
        }
    }

    /// `None`: the bucket has no such rules.
    fn no_rules<E>(&self, error: &SdkError<E, HttpResponse>) -> Option<ServiceError>
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
        if code.is_some_and(|code| NONE.contains(&code)) { None } else { Some(self.failed(error)) }
    }

    fn sent<T, E>(&self, answer: Result<T, SdkError<E, HttpResponse>>) -> Result<Sent, ServiceError>
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        let Err(error) = answer else { return Ok(Sent::Taken) };
        let status = error.raw_response().map_or(0, |response| response.status().as_u16());
        let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default();
        match self.failed(&error) {
            ServiceError::Unsupported { detail, .. } => Ok(Sent::Refused(detail)),
            ServiceError::Other { detail, .. } if status == 400 && !OF_THE_REQUEST.contains(&code) => {
                Ok(Sent::Refused(detail))
            }
            error => Err(error),
        }
    }
}

/// Puts the document into a request that the client made without one. The checksum is the one that every server knows.
fn write(request: &mut HttpRequest, text: &str) {
    let headers = request.headers_mut();
    headers.remove("x-amz-checksum-crc32");
    headers.remove("x-amz-sdk-checksum-algorithm");
    headers.insert("content-type", "application/xml");
    headers.insert("content-length", text.len().to_string());
    headers.insert("content-md5", BASE64_STANDARD.encode(Md5::digest(text.as_bytes())));
    *request.body_mut() = SdkBody::from(text);
}

/// Keeps the body of an answer, of which the client gives only what it knows.
#[derive(Clone, Debug, Default)]
struct Body(Arc<Mutex<Vec<u8>>>);

impl Body {
    fn taken(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[dyn_dispatch_hint]
impl Intercept for Body {
    fn name(&self) -> &'static str {
        "Body"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let bytes = context.response().body().bytes().unwrap_or_default();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = bytes.to_vec();
        Ok(())
    }
}
