//! What an error of the S3 client means.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::role::NoRole;
use crate::services::error::{Cause, broken, causes};

/// The cause, and what to tell the user.
pub(super) fn classify<E>(error: &SdkError<E, HttpResponse>) -> (Cause, String)
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    if let Some(none) = causes(error).find_map(|cause| cause.downcast_ref::<NoRole>()) {
        return (if none.unreachable { Cause::Unreachable } else { Cause::Role }, none.detail.clone());
    }
    match error {
        SdkError::TimeoutError(_) => (Cause::Unreachable, "no answer in time".to_owned()),
        SdkError::DispatchFailure(failure) => failure.as_connector_error().map_or_else(
            || (Cause::Unreachable, "the connection failed".to_owned()),
            |error| broken(error).unwrap_or((Cause::Unreachable, "it does not answer as a web server does".to_owned())),
        ),
        SdkError::ServiceError(answer) => {
            let raw = answer.raw();
            let document = raw.body().bytes().is_none_or(|body| !body.is_empty());
            said(raw.status().as_u16(), answer.err().code(), raw.headers().get("x-amz-bucket-region"), document)
        }
        // It answered, and what it said is not what S3 says.
        SdkError::ResponseError(answer) => no_server(answer.raw().status().as_u16()),
        _ => (Cause::Other, "the request could not be made; check the endpoint, the region and the keys".to_owned()),
    }
}

fn no_server(status: u16) -> (Cause, String) {
    if (300..400).contains(&status) {
        return redirect();
    }
    // A proxy speaks for a server that is away.
    let cause = if matches!(status, 502..=504) { Cause::Unreachable } else { Cause::Other };
    (cause, format!("it does not answer as an S3 server does (HTTP status {status}); correct the endpoint"))
}

fn redirect() -> (Cause, String) {
    let detail =
        "it answers with a redirect, which is not followed; name in endpoint where it leads to, or correct the region";
    (Cause::Other, detail.to_owned())
}

/// The codes of errors that are told as they are (Amazon S3 API reference, and those of other servers). Any other is not
/// repeated: whoever named the server chose its words.
const CODES: [&str; 36] = [
    "AccessDenied",
    "AccountProblem",
    "AllAccessDisabled",
    "AuthorizationHeaderMalformed",
    "BadDigest",
    "BucketAlreadyExists",
    "BucketAlreadyOwnedByYou",
    "EntityTooLarge",
    "EntityTooSmall",
    "ExpiredToken",
    "InternalError",
    "InvalidAccessKeyId",
    "InvalidArgument",
    "InvalidBucketName",
    "InvalidBucketState",
    "InvalidObjectState",
    "InvalidPart",
    "InvalidRequest",
    "InvalidToken",
    "MalformedXML",
    "MethodNotAllowed",
    "NoSuchKey",
    "NoSuchUpload",
    "NotImplemented",
    "OperationAborted",
    "PermanentRedirect",
    "PreconditionFailed",
    "QuotaExceeded",
    "RequestTimeout",
    "ServerNotInitialized",
    "ServiceUnavailable",
    "SignatureDoesNotMatch",
    "SlowDown",
    "TokenRefreshRequired",
    "UnsupportedOperation",
    "XNotImplemented",
];

/// What the server answered: the status is all there is for a HEAD, and the codes differ from server to server. `document`:
/// whether there is a body that should tell a code.
pub(super) fn said(status: u16, code: Option<&str>, region: Option<&str>, document: bool) -> (Cause, String) {
    let region = region.filter(|region| is_region(region));
    let cause = match (code.unwrap_or_default(), status) {
        ("NoSuchBucket", _) => return (Cause::Missing, "it does not exist; create it, or correct its name".to_owned()),
        ("PermanentRedirect" | "TemporaryRedirect", _) | (_, 300..=399) => {
            return region.map_or_else(redirect, |region| {
                (Cause::Other, format!("it is in region {region}; correct the region"))
            });
        }
        ("AuthorizationHeaderMalformed", _) => {
            let right = region.map_or_else(String::new, |region| format!(", which is {region}"));
            return (
                Cause::Other,
                format!("it refuses the region that requests are signed for; correct the region{right}"),
            );
        }
        ("RequestTimeTooSkewed", _) => {
            return (Cause::Authentication, "the clocks of this node and of the server differ".to_owned());
        }
        ("", _) if document || status < 300 => return no_server(status),
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
    let detail = match code.and_then(|code| CODES.iter().find(|known| **known == code)) {
        Some(code) => format!("it answers {code} (HTTP status {status})"),
        None => format!("it answers with an error (HTTP status {status})"),
    };
    (cause, detail)
}

/// A header is the server's word too.
fn is_region(text: &str) -> bool {
    (2..=32).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
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
        assert_eq!(said(status, code, None, false).0, expected);
    }

    #[rstest]
    #[case(301, Some("PermanentRedirect"), Some("eu-west-1"), "it is in region eu-west-1; correct the region")]
    #[case(301, None, Some("eu-west-1"), "it is in region eu-west-1; correct the region")]
    #[case(301, None, None, "it answers with a redirect, which is not followed")]
    #[case(302, None, Some("<b>Words of the server</b>"), "it answers with a redirect, which is not followed")]
    #[case(400, Some("AuthorizationHeaderMalformed"), None, "it refuses the region that requests are signed for")]
    #[case(400, Some("AuthorizationHeaderMalformed"), Some("eu-west-1"), "which is eu-west-1")]
    fn a_region_is_named_only_where_the_server_names_it(
        #[case] status: u16,
        #[case] code: Option<&str>,
        #[case] region: Option<&str>,
        #[case] expected: &str,
    ) {
        let (cause, detail) = said(status, code, region, false);
        assert_eq!(cause, Cause::Other);
        assert!(detail.contains(expected) && !detail.contains("Words"), "{detail}");
    }

    #[test]
    fn a_page_of_another_server_is_no_answer() {
        for status in [200, 403, 404, 500] {
            let (cause, detail) = said(status, None, None, true);
            assert_eq!(cause, Cause::Other, "{status}");
            assert!(detail.contains("does not answer as an S3 server does"), "{detail}");
        }
        assert_eq!(said(502, None, None, true).0, Cause::Unreachable);
    }

    #[test]
    fn a_code_that_is_not_known_is_not_repeated() {
        assert_eq!(said(400, Some("Words"), None, true).1, "it answers with an error (HTTP status 400)");
        assert_eq!(said(403, Some("AccessDenied"), None, true).1, "it answers AccessDenied (HTTP status 403)");
    }
}
