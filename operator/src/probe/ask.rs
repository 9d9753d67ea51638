//! One question to a service: does it answer, and is what the spec names there?

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    postgres::{Clock, PostgresQuestion},
    redis::RedisQuestion,
};
use crate::{
    contract::{Provider, ServiceFacts},
    names::{Waiting, reason},
    services::{
        Network, ServiceError,
        bucket::{BucketClient, BucketTarget, Versioning},
    },
};

/// How long one question may take in all, whatever it consists of.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often a service that answers is asked again, if there are few.
pub(super) const HEALTHY_INTERVAL: Duration = Duration::from_mins(1);
/// How often an embedded bucket that answers is asked again: only whether it still exists.
const EMBEDDED_INTERVAL: Duration = Duration::from_mins(10);

/// A service to talk to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// A PostgreSQL database.
    Postgres(PostgresQuestion),
    /// A Redis.
    Redis(RedisQuestion),
    /// A bucket.
    Bucket {
        /// Where it is and with which keys.
        target: BucketTarget,
        /// The folder in it that is used. `None`: all of it. Keys that are limited to a folder may list nothing else.
        prefix: Option<String>,
        /// Make it if it is missing.
        create: bool,
        /// Turn versioning on.
        versioning: bool,
    },
}

/// A question to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The service.
    pub service: Service,
    /// Where its address comes from, e.g. `DATABASE_URL in secret/db`, for the beginning of messages.
    pub origin: Option<String>,
    /// How often the service is asked while it answers. `None`: the interval of its kind.
    pub interval: Option<Duration>,
    /// Whose it is. `None`: nobody's that is known.
    pub provider: Option<&'static Provider>,
}

/// The answer of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing yet.
    Pending,
    /// It answers. The note is what the user should know, e.g. that versioning is not supported.
    Answers {
        /// One sentence, or nothing.
        note: Option<String>,
        /// Its answers take long.
        slow: bool,
        /// What it says of itself. `None`: it was asked by an earlier process, of which nothing else is known.
        facts: Option<Arc<ServiceFacts>>,
    },
    /// It does not.
    Failed(Waiting),
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) answer: Answer,
    /// What was measured. `None`: it let nobody in.
    pub(super) measured: Option<Measured>,
}

/// What was measured of a service that let somebody in. It is another number each time, and so in no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// How long one round of questions took.
    pub latency: Duration,
    /// How many seconds its clock is ahead of the operator's. `None`: nobody knows.
    pub clock_ahead: Option<i64>,
}

impl Measured {
    pub(super) fn latency(latency: Duration) -> Self {
        Self { latency, clock_ahead: None }
    }
}

impl Answer {
    /// As a service that answers is remembered.
    pub fn known(note: Option<String>, slow: bool) -> Self {
        Self::Answers { note, slow, facts: None }
    }

    /// With what the service said of itself before, where it does not say it this time.
    pub(super) fn since(self, before: &Self) -> Self {
        match (self, before) {
            (Self::Answers { note, slow, facts: Some(now) }, Self::Answers { facts: Some(before), .. })
                if now != *before =>
            {
                let facts = Some(Arc::new(Arc::unwrap_or_clone(now).since(before)));
                Self::Answers { note, slow, facts }
            }
            (answer, _) => answer,
        }
    }

    pub(super) fn is_good(&self) -> bool {
        matches!(self, Self::Answers { .. })
    }
}

impl Question {
    /// How often the service is asked while it answers.
    pub(super) fn interval(&self) -> Duration {
        match &self.service {
            Service::Bucket { create: true, .. } => EMBEDDED_INTERVAL,
            _ if self.interval.is_some() => self.interval.unwrap_or_default(),
            _ => self.provider.and_then(|provider| provider.interval).unwrap_or(HEALTHY_INTERVAL),
        }
    }

    /// How long the service is left alone, where each question costs something: it is billed, or wakes a database up.
    pub(super) fn costly(&self) -> Option<Duration> {
        let own = matches!(self.service, Service::Bucket { create: true, .. });
        Some(self.interval()).filter(|interval| !own && *interval > HEALTHY_INTERVAL)
    }

    /// Asks.
    pub(super) async fn ask(&self, network: &Network, clock: Clock) -> Asked {
        let asked = async {
            match &self.service {
                Service::Postgres(question) => question.ask(network, TIMEOUT, clock).await,
                Service::Redis(question) => question.ask(network, TIMEOUT).await,
                Service::Bucket { target, prefix, create, versioning } => {
                    bucket(network, target, prefix.as_deref(), (*create, *versioning)).await
                }
            }
        };
        let answer = match tokio::time::timeout(TIMEOUT, asked).await {
            Ok(Ok(Asked { answer: Answer::Failed(Waiting { reason, message }), measured })) => {
                return Asked { answer: self.failed(reason, &message), measured };
            }
            Ok(Ok(asked)) => return asked,
            Ok(Err(error)) => self.failed(reason_of(&error), &error.to_string()),
            Err(_) => self.failed(reason::UNREACHABLE, &self.late()),
        };
        Asked { answer, measured: None }
    }

    fn failed(&self, reason: reason::Reason, message: &str) -> Answer {
        let advice = self.provider.and_then(|provider| provider.advice(reason));
        let message = advice.map_or_else(|| message.to_owned(), |advice| format!("{message}; {advice}"));
        let message = self.origin.as_ref().map(|origin| format!("{origin}: {message}")).unwrap_or(message);
        Answer::Failed(Waiting::new(reason, message))
    }

    fn late(&self) -> String {
        let service = match &self.service {
            Service::Postgres(_) => "PostgreSQL".to_owned(),
            Service::Redis(_) => "Redis".to_owned(),
            Service::Bucket { target, .. } => format!("bucket \"{}\" at {}", target.bucket, target.endpoint),
        };
        format!("failed to reach {service}: no whole answer within {} s", TIMEOUT.as_secs())
    }
}

/// Checks whether the bucket exists, creates an embedded one, and enables versioning where the spec says so. The note names the
/// feature that the server lacks.
async fn bucket(
    network: &Network,
    target: &BucketTarget,
    prefix: Option<&str>,
    (create, versioning): (bool, bool),
) -> Result<Asked, ServiceError> {
    let client = BucketClient::through(network, target)?;
    let begun = Instant::now();
    match client.check(prefix).await {
        Err(ServiceError::Missing { .. }) if create => client.create().await?,
        other => other?,
    }
    let latency = begun.elapsed();
    let note = keep_versions(&client, versioning).await?;
    Ok(Asked::answers(note, ServiceFacts::default(), latency))
}

/// The note says why old versions are not kept.
async fn keep_versions(client: &BucketClient, versioning: bool) -> Result<Option<String>, ServiceError> {
    if !versioning || matches!(client.versioning().await, Ok(Versioning::Enabled)) {
        return Ok(None);
    }
    match client.enable_versioning().await {
        Ok(()) => Ok(None),
        Err(error @ (ServiceError::Unsupported { .. } | ServiceError::AccessDenied { .. })) => {
            Ok(Some(format!("versioning could not be turned on: {error}")))
        }
        Err(error) => Err(error),
    }
}

fn reason_of(error: &ServiceError) -> reason::Reason {
    match error {
        ServiceError::Unreachable { .. } | ServiceError::Other { .. } => reason::UNREACHABLE,
        ServiceError::TlsFailed { .. } => reason::TLS_FAILED,
        ServiceError::AuthenticationFailed { .. } | ServiceError::RoleRefused { .. } => reason::AUTHENTICATION_FAILED,
        ServiceError::Missing { .. } => reason::NOT_FOUND,
        ServiceError::AccessDenied { .. } => reason::ACCESS_DENIED,
        ServiceError::Unsupported { .. } => reason::UNSUPPORTED,
        ServiceError::Refused { .. } => reason::ADDRESS_REFUSED,
    }
}

#[cfg(test)]
mod tests;
