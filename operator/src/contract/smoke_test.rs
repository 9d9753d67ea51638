//! The questions that the agent asks the candidates of a release.

use serde::{Deserialize, Serialize};

/// `agent smoke-test`: asks the candidates of a release, or what serves of it. It ends with the exit code 0 once every answer was as it must be, and with
/// [`SMOKE_TEST_FAILED`] when one was not within a minute; then [`super::TERMINATION_PATH`] has a sentence about it.
pub const SMOKE_TEST: &str = "smoke-test";
/// `agent smoke-test --question`: a [`SmokeQuestion`] as JSON; once for each.
pub const ARG_QUESTION: &str = "--question";
/// The exit code of a test that failed: the Job fails with it, while a pod that is lost is made again.
pub const SMOKE_TEST_FAILED: u8 = 1;

/// A request, and what the answer must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SmokeQuestion {
    /// The host, as the header `Host` and the certificate name it.
    pub host: String,
    /// Where to connect to, if that is not what the host resolves to: the address of the Ingress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Whether it is asked over TLS, with a certificate that a public authority signed for the host.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls: bool,
    /// Its port.
    pub port: u16,
    /// The path, with the query if there is one.
    pub path: String,
    /// The status code of the answer.
    pub status: u16,
    /// A text that the answer contains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// A header that the answer has, and a text that its value contains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<(String, Option<String>)>,
}
