//! Buckets that an agent uses by the role of its pod, without keys: by a token for the STS of AWS, as IRSA gives it, and for the agent of
//! EKS Pod Identity. Moto answers as STS and as S3; where an answer is to be a certain one, or a bad one, a few lines of the test give it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Response, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::BodyExt as _;
use jiff::{SignedDuration, Timestamp};
use rorun_operator::contract::{
    self, DrillFault, DrillOutcome, PreflightFinding, PreflightOutcome, PreflightVerdict, preflight_key,
};
use rorun_operator::services::bucket::{BucketClient, BucketTarget, Timeouts};
use rorun_operator::services::{Network, ServiceError};
use rstest::rstest;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::drills::drill;
use crate::gateway::{Gateway, Passed};
use crate::moto::Moto;
use crate::points::target as copy_target;
use crate::scenario::Scenario;
use crate::servers::location;

const ROLE: &str = "arn:aws:iam::123456789012:role/shop";
const UID: &str = "6f1f3a5c-0000-4000-8000-000000000001";
/// What must be told nowhere.
const SECRET: &str = "secret-key-of-the-role";

/// What somebody who gives out keys was asked.
#[derive(Clone, Debug)]
struct Ask {
    path: String,
    form: BTreeMap<String, String>,
    authorization: Option<String>,
}

/// Whoever gives out the keys of roles. It runs while it is held.
struct Cloud {
    endpoint: String,
    asked: Arc<Mutex<Vec<Ask>>>,
    running: JoinHandle<()>,
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Cloud {
    /// `answer`: what it says, the how-many-th time.
    async fn start(answer: impl Fn(usize, &Ask) -> (u16, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let endpoint = format!("http://{}", listener.local_addr().expect("address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, known) = (Arc::new(answer), asked.clone());
        let handle = move |request: Request| {
            let (answer, known) = (answer.clone(), known.clone());
            async move {
                let ask = read(request).await;
                let mut known = known.lock().expect("asked");
                let (status, body) = answer(known.len(), &ask);
                known.push(ask);
                let status = StatusCode::from_u16(status).expect("a status");
                Response::builder().status(status).body(Body::from(body)).expect("an answer")
            }
        };
        let router = axum::Router::new().fallback(handle);
        let running = tokio::spawn(async move { axum::serve(listener, router).await.expect("the cloud") });
        Self { endpoint, asked, running }
    }

    fn asked(&self) -> Vec<Ask> {
        self.asked.lock().expect("asked").clone()
    }
}

async fn read(request: Request) -> Ask {
    let (head, body) = request.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    Ask {
        path: head.uri.path().to_owned(),
        form: url::form_urlencoded::parse(&body).into_owned().collect(),
        authorization: head.headers.get("authorization").map(|value| value.to_str().expect("a text").to_owned()),
    }
}

#[expect(clippy::disallowed_methods, reason = "the agent takes the time of this machine")]
fn in_minutes(minutes: i64) -> String {
    let at = Timestamp::now() + SignedDuration::from_mins(minutes);
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// As STS gives keys.
fn keys(id: &str, minutes: i64) -> (u16, String) {
    let until = in_minutes(minutes);
    let found = format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleWithWebIdentityResult>\
         <Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey>\
         <SessionToken>session-of-{id}</SessionToken><Expiration>{until}</Expiration></Credentials>\
         </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    );
    (200, found)
}

/// As STS refuses.
fn refusal(status: u16, code: &str) -> (u16, String) {
    let text = format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>{code}</Code>\
         <Message>Words of the server</Message></Error><RequestId>1</RequestId></ErrorResponse>"
    );
    (status, text)
}

/// The file with the token of an account, as the kubelet makes it.
struct Account {
    folder: TempDir,
}

impl Account {
    fn new(name: &str) -> Self {
        let account = Self { folder: tempfile::tempdir().expect("folder") };
        account.renew(name, "1");
        account
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    /// Another token for the same account.
    fn renew(&self, name: &str, id: &str) {
        let sub = format!("system:serviceaccount:shop:{name}");
        let claims = URL_SAFE_NO_PAD.encode(json!({"sub": sub, "jti": id}).to_string());
        std::fs::write(self.path(), format!("e30.{claims}.c2lnbmF0dXJl")).expect("token");
    }

    fn token(&self) -> String {
        std::fs::read_to_string(self.path()).expect("token")
    }

    /// What IRSA puts into a pod.
    fn with_irsa(&self, command: &mut Command, sts: &str) {
        command.env("AWS_ROLE_ARN", ROLE).env("AWS_WEB_IDENTITY_TOKEN_FILE", self.path());
        command.env("AWS_REGION", "eu-west-1").env("AWS_ENDPOINT_URL_STS", sts);
    }

    /// What EKS Pod Identity puts into a pod.
    fn with_pod_identity(&self, command: &mut Command, agent: &str) {
        command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{agent}/v1/credentials"));
        command.env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", self.path());
    }
}

/// What the bucket at a target says to `agent preflight` that has no keys, and what the agent wrote to its log.
async fn ask(target: &BucketTarget, more: &[&str], bind: impl FnOnce(&mut Command)) -> (PreflightVerdict, String) {
    let result = tempfile::NamedTempFile::new().expect("file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_rorun-operator"));
    let key = preflight_key("uploads/", UID);
    command.args([contract::AGENT, contract::PREFLIGHT, contract::ARG_KEY, &key]).args(more);
    command.arg("--termination-path").arg(result.path()).env_clear();
    command.env(contract::ENV_S3_ENDPOINT, &target.endpoint).env(contract::ENV_S3_REGION, &target.region);
    command.env(contract::ENV_S3_BUCKET, &target.bucket).env(contract::ENV_S3_FORCE_PATH_STYLE, "true");
    bind(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || command.output().expect("agent")).await.expect("agent");
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = std::fs::read_to_string(result.path()).expect("result");
    for text in [&said, &log] {
        for hidden in [SECRET, "session-of-", "c2lnbmF0dXJl", "Words of the server"] {
            assert!(!text.contains(hidden), "{hidden} in {text}");
        }
    }
    let outcome: PreflightOutcome = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said} {log}"));
    (outcome.of("bucket").expect("an answer").clone(), log)
}

fn passed(verdict: &PreflightVerdict) -> bool {
    matches!(verdict, PreflightVerdict::Passed { findings, .. } if findings.is_empty())
}

/// A bucket of Moto, and who asked it.
async fn bucket(name: &'static str) -> (Arc<Moto>, Gateway, BucketTarget, Arc<Mutex<Vec<(String, Option<String>)>>>) {
    let moto = Moto::shared().await;
    BucketClient::new(&moto.bucket(name), Timeouts::CHECK).expect("client").create().await.expect("bucket");
    let by = Arc::new(Mutex::new(Vec::new()));
    let known = by.clone();
    let gateway = Gateway::start(moto.port, move |asked| {
        known.lock().expect("known").push(asked.by.clone());
        if asked.asks("versioning") { Passed::Translated(crate::gateway::versioning) } else { Passed::On }
    })
    .await;
    let target = BucketTarget { endpoint: gateway.endpoint.clone(), keys: None, ..moto.bucket(name) };
    (moto, gateway, target, by)
}

/// STS and S3 of Moto.
#[tokio::test]
async fn a_token_of_the_account_becomes_keys_at_sts() {
    let (moto, _gateway, target, by) = bucket("role-sts").await;
    let account = Account::new("shop-preflight");
    let sts = format!("http://127.0.0.1:{}", moto.port);
    let (verdict, log) = ask(&target, &[], |command| account.with_irsa(command, &sts)).await;
    assert!(passed(&verdict), "{verdict:?} {log}");
    let by = by.lock().expect("known");
    assert!(by.len() >= 4 && by.iter().all(|(id, token)| id.starts_with("ASIA") && token.is_some()), "{by:?}");
}

/// What the token says, and that nothing is asked of anybody twice while the keys hold.
#[tokio::test]
async fn the_keys_of_a_role_are_asked_for_once_while_they_hold() {
    let (_moto, _gateway, target, by) = bucket("role-once").await;
    let sts = Cloud::start(|_, _| keys("ASIAONE", 60)).await;
    let account = Account::new("shop-preflight");
    let (verdict, log) = ask(&target, &[], |command| account.with_irsa(command, &sts.endpoint)).await;
    assert!(passed(&verdict), "{verdict:?} {log}");
    let asked = sts.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    let form = |key: &str| asked[0].form.get(key).map(String::as_str);
    assert_eq!(form("Action"), Some("AssumeRoleWithWebIdentity"));
    assert_eq!((form("RoleArn"), form("RoleSessionName")), (Some(ROLE), Some("rorun-agent")));
    assert_eq!(form("WebIdentityToken"), Some(account.token().as_str()));
    let expected = ("ASIAONE".to_owned(), Some("session-of-ASIAONE".to_owned()));
    assert!(by.lock().expect("known").iter().all(|by| *by == expected));
}

/// The kubelet writes a new token before the old one expires, and STS gives other keys for it.
#[tokio::test]
async fn keys_that_are_about_to_expire_are_replaced_by_the_newest_token() {
    let (_moto, _gateway, target, by) = bucket("role-again").await;
    let account = Arc::new(Account::new("shop-preflight"));
    let first = account.token();
    let kubelet = account.clone();
    let sts = Cloud::start(move |times, _| {
        kubelet.renew("shop-preflight", &format!("{}", times + 2));
        if times == 0 { keys("ASIAONE", 0) } else { keys("ASIATWO", 60) }
    })
    .await;
    let (verdict, log) = ask(&target, &[], |command| account.with_irsa(command, &sts.endpoint)).await;
    assert!(passed(&verdict), "{verdict:?} {log}");
    let asked = sts.asked();
    let tokens: Vec<_> = asked.iter().map(|ask| ask.form["WebIdentityToken"].clone()).collect();
    assert_eq!(tokens.len(), 2, "{asked:?}");
    assert!(tokens[0] == first && tokens[1] != first);
    let last = by.lock().expect("known").last().cloned();
    assert_eq!(last, Some(("ASIATWO".to_owned(), Some("session-of-ASIATWO".to_owned()))));
}

#[tokio::test]
async fn pod_identity_gives_keys_for_the_token_of_the_account() {
    let (_moto, _gateway, target, by) = bucket("role-pod").await;
    let agent = Cloud::start(|_, _| {
        let until = in_minutes(60);
        let found = json!({"AccessKeyId": "ASIAPOD", "SecretAccessKey": SECRET, "Token": "session-of-ASIAPOD",
            "Expiration": until, "AccountId": "123456789012"});
        (200, found.to_string())
    })
    .await;
    let account = Account::new("shop-preflight");
    let (verdict, log) = ask(&target, &[], |command| account.with_pod_identity(command, &agent.endpoint)).await;
    assert!(passed(&verdict), "{verdict:?} {log}");
    let asked = agent.asked();
    assert_eq!((asked.len(), asked[0].path.as_str()), (1, "/v1/credentials"));
    assert_eq!(asked[0].authorization, Some(account.token()));
    assert_eq!(by.lock().expect("known")[0].0, "ASIAPOD");
}

/// What goes wrong is told with the account and the role, and in no words of a server.
#[rstest]
#[case::not_trusted(
    403,
    "AccessDenied",
    "STS answers AccessDenied; let its trust policy admit the account (sts:AssumeRoleWithWebIdentity)"
)]
#[case::expired(400, "ExpiredTokenException", "STS answers ExpiredTokenException; the kubelet renews tokens")]
#[case::wrong(
    400,
    "InvalidIdentityToken",
    "STS answers InvalidIdentityToken; make the issuer of the cluster an identity provider"
)]
#[case::of_no_meaning(400, "Invented", "STS answers with an error; see that the role exists")]
#[tokio::test]
async fn a_token_that_sts_refuses_names_account_and_role(
    #[case] status: u16,
    #[case] code: &'static str,
    #[case] expected: &str,
) {
    let moto = Moto::shared().await;
    let target = BucketTarget { keys: None, ..moto.bucket("role-refused") };
    let sts = Cloud::start(move |_, _| refusal(status, code)).await;
    let account = Account::new("shop-preflight");
    let (verdict, log) = ask(&target, &[], |command| account.with_irsa(command, &sts.endpoint)).await;
    let PreflightVerdict::Failed(PreflightFinding { reason, message }) = verdict else { panic!("{verdict:?} {log}") };
    assert_eq!(reason, "AuthenticationFailed", "{message}");
    assert!(message.contains(&format!("shop/shop-preflight did not get the role {ROLE}: ")), "{message}");
    assert!(message.contains(expected) && !message.contains("Secret"), "{message}");
}

#[tokio::test]
async fn a_pod_without_an_association_says_so() {
    let moto = Moto::shared().await;
    let target = BucketTarget { keys: None, ..moto.bucket("role-unbound") };
    let agent = Cloud::start(|_, _| (403, "Words of the server".to_owned())).await;
    let account = Account::new("shop-backup");
    let (verdict, log) = ask(&target, &[], |command| account.with_pod_identity(command, &agent.endpoint)).await;
    let PreflightVerdict::Failed(PreflightFinding { reason, message }) = verdict else { panic!("{verdict:?} {log}") };
    assert_eq!(reason, "AuthenticationFailed", "{message}");
    assert!(message.contains(
        "ServiceAccount shop/shop-backup did not get a role: the agent of EKS Pod Identity refuses; associate"
    ));
}

/// Nor that of the node.
#[tokio::test]
async fn a_pod_without_a_role_says_so_and_takes_no_other() {
    let moto = Moto::shared().await;
    let target = BucketTarget { keys: None, ..moto.bucket("role-none") };
    let failed = async |bind: &dyn Fn(&mut Command)| {
        let (verdict, log) = ask(&target, &[], |command| bind(command)).await;
        let PreflightVerdict::Failed(PreflightFinding { reason, message }) = verdict else {
            panic!("{verdict:?} {log}")
        };
        (reason, message)
    };
    let nothing = failed(&|_| ()).await;
    assert_eq!(nothing.0, "AuthenticationFailed", "{}", nothing.1);
    let expected = "the role of this pod for bucket \"role-none\" at";
    assert!(nothing.1.contains(expected) && nothing.1.contains("gave it none: bind one"), "{}", nothing.1);
    // A metadata server would be asked here.
    let node = Cloud::start(|_, _| keys("ASIANODE", 60)).await;
    let of_node = failed(&|command| {
        command.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &node.endpoint);
    })
    .await;
    assert!(of_node == nothing && node.asked().is_empty(), "{of_node:?}");
    let gone = failed(&|command| {
        command.env("AWS_ROLE_ARN", ROLE).env("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere/token");
    })
    .await;
    assert!(gone.1.contains("the token of the ServiceAccount in /nowhere/token cannot be read"), "{}", gone.1);
    let away = Account::new("shop-preflight");
    let (_, away) = failed(&|command| away.with_irsa(command, "http://127.0.0.1:1")).await;
    assert!(away.contains("the STS of AWS cannot be asked: "), "{away}");
}

/// The operator is a pod too, and may have a role of its own.
#[tokio::test]
async fn the_operator_asks_no_bucket_by_a_role() {
    let target = BucketTarget { keys: None, ..Moto::shared().await.bucket("role-operator") };
    let refused = BucketClient::through(&Network::open(), &target).expect_err("it is refused");
    assert!(matches!(refused, ServiceError::Refused { .. }), "{refused}");
}

/// A dump goes to the bucket by the role of its pod, and to a copy by keys of its own.
#[tokio::test]
async fn a_dump_and_its_copy_each_have_an_identity_of_their_own() {
    let scenario = Scenario::new("role-dump").await;
    let (_moto, gateway, target, by) = bucket("role-dump").await;
    let there = BucketClient::new(&scenario.servers.bucket("role-copy"), Timeouts::CHECK).expect("client");
    there.create().await.expect("bucket");
    let sts = Cloud::start(|_, _| keys("ASIADUMP", 60)).await;
    let account = Account::new("role-dump-backup");
    let mut command = scenario.command();
    command.env(contract::ENV_S3_ENDPOINT, &gateway.endpoint);
    command.env_remove(contract::ENV_ACCESS_KEY_ID).env_remove(contract::ENV_SECRET_ACCESS_KEY);
    let copies = [copy_target(&scenario, "role-copy", "copies/shop/role-dump/")];
    command.env(contract::ENV_COPIES, serde_json::to_string(&copies).expect("JSON"));
    account.with_irsa(&mut command, &sts.endpoint);
    let record = scenario.run(command).await.complete();
    assert_eq!((record.copied, record.not_copied), (1, None));
    assert!(by.lock().expect("known").iter().all(|(id, _)| id == "ASIADUMP"), "{target:?}");
    let manifest = format!("copies/shop/role-dump/{}/{}", record.id, contract::MANIFEST_FILE);
    assert!(there.get(&manifest).await.expect("get").is_some());
    // The other way around: the keys of the destination are none of the copy's.
    let mut command = scenario.command();
    let location = location(&target);
    assert!(!serde_json::to_string(&location).expect("JSON").contains("AccessKey"));
    let copy = contract::CopyTarget { location, ..copy_target(&scenario, "role-dump", "by-role/") };
    command.env(contract::ENV_COPIES, serde_json::to_string(&[copy]).expect("JSON"));
    account.with_irsa(&mut command, &sts.endpoint);
    by.lock().expect("known").clear();
    let record = scenario.run(command).await.complete();
    assert_eq!((record.copied > 0, record.not_copied), (true, None));
    let by = by.lock().expect("known");
    assert!(!by.is_empty() && by.iter().all(|(id, _)| id == "ASIADUMP"), "{by:?}");
}

/// The superuser of its server reads what its user reads, and so would read the token.
#[tokio::test]
async fn a_drill_takes_no_role() {
    let scenario = Scenario::new("role-drill").await;
    let sts = Cloud::start(|_, _| keys("ASIADRILL", 60)).await;
    let account = Account::new("role-drill-drill");
    let outcome = drill(&scenario, |command| {
        command.env_remove(contract::ENV_ACCESS_KEY_ID).env_remove(contract::ENV_SECRET_ACCESS_KEY);
        account.with_irsa(command, &sts.endpoint);
    })
    .await;
    let DrillOutcome::Failed { fault: DrillFault::NotRun, message, .. } = &outcome else { panic!("{outcome:?}") };
    assert!(message.contains("takes no role") && sts.asked().is_empty(), "{message}");
}

/// The operator turns versioning on where it has keys; by a role the Job does.
#[tokio::test]
async fn versioning_is_turned_on_by_the_job() {
    let (moto, _gateway, target, _) = bucket("role-versions").await;
    let sts = Cloud::start(|_, _| keys("ASIAKEEP", 60)).await;
    let account = Account::new("shop-preflight");
    let (verdict, log) =
        ask(&target, &[contract::ARG_VERSIONS], |command| account.with_irsa(command, &sts.endpoint)).await;
    assert!(passed(&verdict), "{verdict:?} {log}");
    let owner = BucketTarget { endpoint: target.endpoint.clone(), ..moto.bucket("role-versions") };
    let kept = BucketClient::new(&owner, Timeouts::CHECK).expect("client").versioning().await;
    assert_eq!(kept, Ok(rorun_operator::services::bucket::Versioning::Enabled));
}
