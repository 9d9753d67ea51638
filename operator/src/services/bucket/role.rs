//! The keys of a cloud role, which the cloud gives to a pod for its ServiceAccount: by IRSA, a token of the account for the STS of AWS,
//! and by EKS Pod Identity, a token for the agent on the node. Both put variables and a file into the pod.
//!
//! Nothing else counts: neither keys in variables, which are those of another bucket, nor files of a home directory, nor the metadata
//! server of the node, whose role is nobody's in the pod.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::{StaticConfiguration, WebIdentityTokenCredentialsProvider};
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, Result, future};
use aws_sdk_s3::config::{Region, SharedHttpClient};
use aws_sdk_sts::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::services::error::{broken, causes};

/// What IRSA puts into a pod.
const TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const ROLE_ARN: &str = "AWS_ROLE_ARN";
const REGION: &str = "AWS_REGION";
/// What EKS Pod Identity puts into a pod.
const CONTAINER_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const CONTAINER_TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
/// What the records of AWS call whoever took the role.
const SESSION: &str = "rorun-agent";

/// Where the keys of the role come from. The client keeps them, and asks again shortly before they expire.
#[derive(Debug)]
pub(super) enum Role {
    /// The STS of AWS, for a token of the account.
    WebIdentity { provider: Box<WebIdentityTokenCredentialsProvider>, arn: String, token: PathBuf },
    /// The agent on the node, for a token of the account.
    PodIdentity { provider: Box<EcsCredentialsProvider>, token: PathBuf },
    /// The cloud gives this pod none.
    None,
}

/// Why there are no keys, for the user.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub(super) struct NoRole {
    pub(super) detail: String,
    /// Nobody answered, which may pass.
    pub(super) unreachable: bool,
}

impl Role {
    /// Of this pod. `region`: that of the bucket, where the cloud names none.
    pub(super) fn of_pod(http: SharedHttpClient, region: &str) -> Self {
        let text = |name: &str| variable(name).and_then(|value| value.into_string().ok());
        let region = text(REGION).unwrap_or_else(|| region.to_owned());
        let config = ProviderConfig::without_region().with_region(Some(Region::new(region))).with_http_client(http);
        if let (Some(token), Some(arn)) = (variable(TOKEN_FILE).map(PathBuf::from), text(ROLE_ARN)) {
            let given = StaticConfiguration {
                web_identity_token_file: token.clone(),
                role_arn: arn.clone(),
                session_name: SESSION.to_owned(),
            };
            let provider = WebIdentityTokenCredentialsProvider::builder().configure(&config);
            let provider = Box::new(provider.static_configuration(given).build());
            return Self::WebIdentity { provider, arn, token };
        }
        match (variable(CONTAINER_URI), variable(CONTAINER_TOKEN_FILE)) {
            (Some(_), Some(token)) => {
                let provider = EcsCredentialsProvider::builder().configure(&config).build();
                Self::PodIdentity { provider: Box::new(provider), token: token.into() }
            }
            _ => Self::None,
        }
    }

    async fn keys(&self) -> Result {
        let failed = match self {
            Self::WebIdentity { provider, arn, token } => {
                let account = Account::read(token)?;
                let found = provider.provide_credentials().await;
                found.map_err(|error| account.refused_by_sts(arn, &error))
            }
            Self::PodIdentity { provider, token } => {
                let account = Account::read(token)?;
                let found = provider.provide_credentials().await;
                found.map_err(|error| account.refused_by_agent(&error))
            }
            Self::None => return Err(no_role(NOTHING_BOUND.to_owned())),
        };
        failed.map_err(CredentialsError::provider_error)
    }
}

impl ProvideCredentials for Role {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let silent = |_| NoRole { detail: SILENT.to_owned(), unreachable: true };
            let keys = tokio::time::timeout(ANSWERS_WITHIN, self.keys()).await;
            keys.map_err(silent).map_err(CredentialsError::provider_error)?
        })
    }
}

/// Shorter than what a request to the bucket may take, so that the bucket is not blamed.
const ANSWERS_WITHIN: Duration = Duration::from_secs(4);
const SILENT: &str =
    "whoever gives the role, the STS of AWS or the agent of EKS Pod Identity on the node, does not answer in time";

const NOTHING_BOUND: &str = "the cloud gave it none: bind one to its ServiceAccount, by eks.amazonaws.com/role-arn in \
                             api.serviceAccount.annotations or by EKS Pod Identity";

fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn no_role(detail: String) -> CredentialsError {
    CredentialsError::provider_error(NoRole { detail, unreachable: false })
}

/// The account that a token is of, in words.
struct Account(String);

impl Account {
    /// Reads the token as well as whoever sends it is going to: what says that the file is not there is none of theirs.
    fn read(token: &Path) -> std::result::Result<Self, CredentialsError> {
        let text = std::fs::read_to_string(token).map_err(|error| {
            no_role(format!(
                "the token of the ServiceAccount in {} cannot be read: {}; let the pod keep its fsGroup",
                token.display(),
                error.kind()
            ))
        })?;
        let of = subject(text.trim());
        Ok(Self(of.map_or_else(|| "the ServiceAccount of this pod".to_owned(), |of| format!("ServiceAccount {of}"))))
    }

    /// What an answer of STS means.
    fn refused_by_sts(&self, arn: &str, error: &CredentialsError) -> NoRole {
        let refused = causes(error).find_map(|cause| {
            let found = cause.downcast_ref::<SdkError<AssumeRoleWithWebIdentityError, HttpResponse>>()?;
            found.as_service_error()
        });
        let (why, unreachable) = match refused {
            Some(refused) => {
                let code = refused.code().unwrap_or_default();
                (of_code(code), PASSES.contains(&code))
            }
            None => lost("the STS of AWS", error),
        };
        NoRole { detail: format!("{} did not get the role {}: {why}", self.0, shown(arn)), unreachable }
    }

    /// What an answer of the agent on the node means. It tells no code.
    fn refused_by_agent(&self, error: &CredentialsError) -> NoRole {
        let away = broken(error).is_some() || matches!(error, CredentialsError::ProviderTimedOut(_));
        let (why, unreachable) = if away {
            lost("the agent of EKS Pod Identity on the node", error)
        } else {
            let why =
                "the agent of EKS Pod Identity refuses; associate a role with it that trusts pods.eks.amazonaws.com";
            (why.to_owned(), false)
        };
        NoRole { detail: format!("{} did not get a role: {why}", self.0), unreachable }
    }
}

/// That somebody did not answer, as far as that is what happened.
fn lost(who: &str, error: &CredentialsError) -> (String, bool) {
    let why = broken(error).map_or_else(|| "no answer that it understands".to_owned(), |(_, words)| words);
    (format!("{who} cannot be asked: {why}"), true)
}

/// The codes of STS that say nothing of the role: another attempt may end otherwise.
const PASSES: [&str; 6] = [
    // AWS did not reach the issuer of the cluster.
    "IDPCommunicationError",
    "InternalFailure",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "Throttling",
    "ThrottlingException",
];

/// What a code of STS means. Of one that is not known nothing is repeated.
fn of_code(code: &str) -> String {
    if let Some(passing) = PASSES.into_iter().find(|passing| *passing == code) {
        return format!("STS answers {passing}, which may pass by itself");
    }
    let (code, advice) = match code {
        "AccessDenied" => ("AccessDenied", "let its trust policy admit the account (sts:AssumeRoleWithWebIdentity)"),
        "ExpiredTokenException" => {
            ("ExpiredTokenException", "the kubelet renews tokens: see that the clock of the node is right")
        }
        "InvalidIdentityToken" => (
            "InvalidIdentityToken",
            "make the issuer of the cluster an identity provider in IAM, for sts.amazonaws.com",
        ),
        "IDPRejectedClaim" => ("IDPRejectedClaim", "see that the issuer still serves the key of the token"),
        "RegionDisabledException" => ("RegionDisabledException", "enable STS in that region"),
        _ => return "STS answers with an error; see that the role exists and trusts the account".to_owned(),
    };
    format!("STS answers {code}; {advice}")
}

/// The name of a role as it may be: the cluster's webhook copies an annotation that anybody wrote.
fn shown(arn: &str) -> &str {
    let plain =
        arn.len() <= 512 && arn.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":/+=,.@_-".contains(&byte));
    if plain { arn } else { "of AWS_ROLE_ARN" }
}

/// The account that a token of Kubernetes is of, `namespace/name`. It is not verified, and only told.
fn subject(token: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Claims {
        sub: String,
    }
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    let (namespace, name) = claims.sub.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    let plain = |text: &str| {
        (1..=253).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.'))
    };
    (plain(namespace) && plain(name)).then(|| format!("{namespace}/{name}"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::of_an_account("system:serviceaccount:shop:shop-backup", Some("shop/shop-backup"))]
    #[case::of_a_user("ada", None)]
    #[case::with_words("system:serviceaccount:shop:<b>Words</b>", None)]
    #[case::without_a_name("system:serviceaccount:shop:", None)]
    fn a_token_tells_its_account(#[case] sub: &str, #[case] expected: Option<&str>) {
        let claims = URL_SAFE_NO_PAD.encode(serde_json::json!({"sub": sub}).to_string());
        assert_eq!(subject(&format!("e30.{claims}.c2ln")).as_deref(), expected);
    }

    #[test]
    fn what_is_no_token_tells_none() {
        for text in ["", "a", "a.b.c", "..", "e30.e30.e30"] {
            assert_eq!(subject(text), None, "{text}");
        }
    }

    #[test]
    fn a_code_that_is_not_known_is_not_repeated() {
        assert!(of_code("AccessDenied").starts_with("STS answers AccessDenied; "));
        let told = of_code("Words");
        assert!(!told.contains("Words"), "{told}");
        assert_eq!(shown("arn:aws:iam::123456789012:role/shop"), "arn:aws:iam::123456789012:role/shop");
        assert_eq!(shown("<b>"), "of AWS_ROLE_ARN");
    }
}
