//! What can be wrong with a service, in the words of its user.

use std::error::Error;
use std::sync::Arc;

use super::network::{NetworkError, system_words};
use super::tls;

/// Why a service cannot be used. The variant is for the reason of a condition, the text for its message.
///
/// `subject` names the service and its address. `detail` is in our own words, by the class or the code of what the service or the
/// network said: whoever sees a status is told nothing in the words of a service that somebody else named. Neither holds a
/// secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// Nothing answers, or it answers that it is not ready. It may pass by itself.
    #[error("failed to reach {subject}: {detail}; check that it runs and that network policies allow the connection")]
    Unreachable {
        /// The service and its address.
        subject: String,
        /// What the network said.
        detail: String,
    },
    /// The certificate is not trusted, or one side wants TLS and the other does not.
    #[error("failed to agree on TLS with {subject}: {detail}")]
    TlsFailed {
        /// The service and its address.
        subject: String,
        /// What was found, and what to do.
        detail: String,
    },
    /// The user, the password or the keys are wrong.
    #[error("failed to log in to {subject}: {detail}; check the credentials in its Secret")]
    AuthenticationFailed {
        /// The service and its address.
        subject: String,
        /// What the service said.
        detail: String,
    },
    /// The role of the pod gives no keys, or such that the service refuses.
    #[error("failed to use the role of this pod for {subject}: {detail}")]
    RoleRefused {
        /// The service and its address.
        subject: String,
        /// Why, and what to do.
        detail: String,
    },
    /// The service is there, the database or bucket is not.
    #[error("failed to find {subject}: {detail}")]
    Missing {
        /// The database or bucket and its address.
        subject: String,
        /// What to do.
        detail: String,
    },
    /// The credentials are right, but may not do this.
    #[error("failed to get access to {subject}: {detail}; grant it to these credentials")]
    AccessDenied {
        /// The service and its address.
        subject: String,
        /// What was denied.
        detail: String,
    },
    /// The service does not know how to do this.
    #[error("failed to use a feature of {subject}: {detail}")]
    Unsupported {
        /// The service and its address.
        subject: String,
        /// What it lacks.
        detail: String,
    },
    /// The operator never connects to the address.
    #[error("failed to connect to {subject}: {detail}")]
    Refused {
        /// The service and its address.
        subject: String,
        /// What the address is.
        detail: String,
    },
    /// Anything else.
    #[error("failed to use {subject}: {detail}")]
    Other {
        /// The service and its address.
        subject: String,
        /// What the service said.
        detail: String,
    },
}

/// The variant that an answer means, before its service is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Unreachable,
    Tls,
    Authentication,
    Role,
    Missing,
    AccessDenied,
    Unsupported,
    Refused,
    Other,
}

impl ServiceError {
    pub(super) fn new(cause: Cause, subject: impl Into<String>, detail: impl AsRef<str>) -> Self {
        let subject = subject.into();
        let detail = one_line(detail.as_ref());
        match cause {
            Cause::Unreachable => Self::Unreachable { subject, detail },
            Cause::Tls => Self::TlsFailed { subject, detail },
            Cause::Authentication => Self::AuthenticationFailed { subject, detail },
            Cause::Role => Self::RoleRefused { subject, detail },
            Cause::Missing => Self::Missing { subject, detail },
            Cause::AccessDenied => Self::AccessDenied { subject, detail },
            Cause::Unsupported => Self::Unsupported { subject, detail },
            Cause::Refused => Self::Refused { subject, detail },
            Cause::Other => Self::Other { subject, detail },
        }
    }
}

/// A condition's message is one line, and a server may say a page.
fn one_line(text: &str) -> String {
    const LONGEST: usize = 400;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line.trim_end_matches('.');
    if line.chars().count() <= LONGEST {
        return line.to_owned();
    }
    line.chars().take(LONGEST).chain("...".chars()).collect()
}

/// The causes of an error, outermost first. An [`std::io::Error`] hides what it wraps and so does an [`Arc`], so they are
/// opened.
pub(super) fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        if let Some(shared) = error.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
            return Some(&**shared);
        }
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        match wrapped {
            Some(inner) => Some(inner),
            None => error.source(),
        }
    })
}

/// What broke a connection, if one of the causes says it, in our own words.
pub(super) fn broken(error: &(dyn Error + 'static)) -> Option<(Cause, String)> {
    causes(error).find_map(|cause| {
        if let Some(network) = cause.downcast_ref::<NetworkError>() {
            let kind = match network {
                NetworkError::Refused(_) => Cause::Refused,
                NetworkError::TooMuch => Cause::Other,
                NetworkError::Unresolved | NetworkError::OnlySix | NetworkError::Connect(_) => Cause::Unreachable,
            };
            return Some((kind, network.to_string()));
        }
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return Some((Cause::Tls, tls::advice(tls)));
        }
        let io = cause.downcast_ref::<std::io::Error>().filter(|io| io.get_ref().is_none())?;
        Some((Cause::Unreachable, system_words(io)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_of_bounded_length() {
        let error = ServiceError::new(Cause::Other, "Redis at a:1", format!("a\n  b {}", "c".repeat(2000)));
        let text = error.to_string();
        assert!(text.starts_with("failed to use Redis at a:1: a b ccc"), "{text}");
        assert!(text.len() < 500 && !text.contains('\n'), "{text}");
    }

    #[test]
    fn wrapped_causes_are_found() {
        let inner = rustls::Error::General("inner".to_owned());
        let shared: Arc<dyn Error + Send + Sync> = Arc::new(std::io::Error::other(inner));
        let outer = std::io::Error::other(shared);
        assert!(causes(&outer).any(<dyn Error>::is::<rustls::Error>));
        let (cause, words) = broken(&outer).expect("told");
        assert_eq!(cause, Cause::Tls);
        assert!(!words.contains("inner"), "{words}");
    }
}
