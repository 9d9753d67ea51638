//! What an error of the S3 client means.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::services::error::{Cause, causes, root_cause};
use crate::services::tls;

/// The cause, and what to tell the user.
pub(super) fn classify<E>(error: &SdkError<E, HttpResponse>) -> (Cause, String)
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    match error {
        SdkError::TimeoutError(_) => (Cause::Unreachable, "no answer in time".to_owned()),
        SdkError::DispatchFailure(failure) => failure
            .as_connector_error()
            .map_or_else(|| (Cause::Unreachable, "the connection failed".to_owned()), |error| connection(error)),
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            let region = answer.raw().headers().get("x-amz-bucket-region");
            said(status, answer.err().code(), answer.err().message(), region)
        }
        other => (Cause::Other, root_cause(other)),
    }
}

fn connection(error: &(dyn std::error::Error + 'static)) -> (Cause, String) {
    match causes(error).find_map(|cause| cause.downcast_ref::<rustls::Error>()) {
        Some(error) => (Cause::Tls, tls::advice(error)),
        None => (Cause::Unreachable, root_cause(error)),
    }
}

/// What the server answered: the status is all there is for a HEAD, and the codes differ from server to server.
pub(super) fn said(status: u16, code: Option<&str>, message: Option<&str>, region: Option<&str>) -> (Cause, String) {
    let cause = match (code.unwrap_or_default(), status) {
        ("NoSuchBucket", _) => return (Cause::Missing, "it does not exist; create it, or correct its name".to_owned()),
        ("PermanentRedirect" | "AuthorizationHeaderMalformed", _) | (_, 301) => {
            let other = region.map_or_else(|| "in another region".to_owned(), |region| format!("in region {region}"));
            return (Cause::Other, format!("it is {other}; correct the region"));
        }
        ("RequestTimeTooSkewed", _) => {
            return (Cause::Authentication, "the clocks of this node and of the server differ".to_owned());
        }
        (
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "ExpiredToken" | "TokenRefreshRequired",
            _,
        )
        | (_, 401) => Cause::Authentication,
        ("AccessDenied" | "AllAccessDisabled" | "AccountProblem", _) | (_, 403) => Cause::AccessDenied,
        ("NotImplemented" | "MethodNotAllowed" | "UnsupportedOperation" | "XNotImplemented", _) | (_, 405 | 501) => {
            Cause::Unsupported
        }
        ("ServiceUnavailable" | "SlowDown" | "ServerNotInitialized", _) | (_, 502..=504) => Cause::Unreachable,
        (_, 404) => Cause::Missing,
        _ => Cause::Other,
    };
    let detail = match (code, message) {
        (Some(code), Some(message)) => format!("{message} ({code})"),
        (Some(text), None) | (None, Some(text)) => text.to_owned(),
        (None, None) => format!("it answered with status {status}"),
    };
    (cause, detail)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(404, Some("NoSuchBucket"), Cause::Missing)]
    #[case(404, None, Cause::Missing)]
    #[case(403, Some("InvalidAccessKeyId"), Cause::Authentication)]
    #[case(403, Some("SignatureDoesNotMatch"), Cause::Authentication)]
    #[case(403, Some("AccessDenied"), Cause::AccessDenied)]
    #[case(403, None, Cause::AccessDenied)]
    #[case(501, Some("NotImplemented"), Cause::Unsupported)]
    #[case(405, None, Cause::Unsupported)]
    #[case(503, Some("SlowDown"), Cause::Unreachable)]
    #[case(400, Some("InvalidBucketName"), Cause::Other)]
    fn an_answer_has_a_cause(#[case] status: u16, #[case] code: Option<&str>, #[case] expected: Cause) {
        assert_eq!(said(status, code, None, None).0, expected);
    }

    #[test]
    fn a_wrong_region_names_the_right_one() {
        let (cause, detail) = said(301, Some("PermanentRedirect"), None, Some("eu-west-1"));
        assert_eq!((cause, detail.as_str()), (Cause::Other, "it is in region eu-west-1; correct the region"));
    }
}
