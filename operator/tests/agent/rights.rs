//! What the agent asks of a bucket, and that keys which allow just that are enough.

use std::collections::BTreeSet;

use rorun_operator::contract::{self, DUMP_FILE, MANIFEST_FILE};
use rorun_operator::services::ServiceError;
use rorun_operator::services::bucket::{BucketClient, BucketTarget, Timeouts};
use serde_json::Value;

use crate::proxy::{PATH, Proxy};
use crate::scenario::Scenario;
use crate::servers::{PASSWORD, by_keys};

fn client(target: &BucketTarget) -> BucketClient {
    BucketClient::new(target, Timeouts::CHECK).expect("client")
}

/// The rights of the policy in the documentation: on the bucket, and on its objects.
fn documented() -> [BTreeSet<String>; 2] {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/production.md")).expect("page");
    let policy = page.split("```json").nth(1).and_then(|rest| rest.split("```").next()).expect("a policy");
    let policy: Value = serde_json::from_str(policy).expect("JSON");
    let mut rights = [BTreeSet::new(), BTreeSet::new()];
    for statement in policy["Statement"].as_array().expect("statements") {
        let of_bucket = statement["Resource"].as_str().is_some_and(|resource| !resource.contains('/'));
        let actions = statement["Action"].as_array().expect("actions");
        rights[usize::from(!of_bucket)].extend(actions.iter().filter_map(Value::as_str).map(str::to_owned));
    }
    rights
}

/// A run that does all that a run can do: it dumps, removes an old backup and an upload that was left, and reads back what it
/// wrote since the answer to that was lost.
#[tokio::test]
async fn the_policy_of_the_documentation_lists_just_what_a_run_asks_for() {
    let scenario = Scenario::new("rights").await;
    for id in ["20200101T000000Z-aaaaa", "20200102T000000Z-aaaaa", "20200103T000000Z-aaaaa"] {
        scenario.put_backup(id, Some(&scenario.owner())).await;
    }
    let leftover = format!("{}20200104T000000Z-aaaaa/{DUMP_FILE}", scenario.prefix);
    scenario.bucket.start_upload(&leftover).await.expect("upload");
    let proxy = Proxy::start(scenario.servers.s3_port, Some(MANIFEST_FILE)).await;
    let mut command = scenario.command();
    command.env(contract::ENV_S3_ENDPOINT, &proxy.endpoint);
    let record = scenario.run(command).await.complete();
    assert_eq!(record.removed, 2);
    assert_eq!(scenario.bucket.uploads(&scenario.prefix).await.expect("uploads"), []);
    // The operator itself asks this, and nothing else, of a destination.
    let mut target = scenario.servers.bucket("rights");
    target.endpoint.clone_from(&proxy.endpoint);
    client(&target).check(Some(&scenario.prefix)).await.expect("check");

    let mut asked = [BTreeSet::new(), BTreeSet::new()];
    let prefix = scenario.prefix.replace('/', "%2F");
    for request in proxy.seen() {
        let (right, of_bucket) = request.right();
        asked[usize::from(!of_bucket)].insert(right.to_owned());
        if request.asks("object-lock") {
            // Of the bucket as a whole.
            continue;
        }
        let folder = if of_bucket {
            // One backup's folder, or that of all.
            request.query.split('&').any(|pair| pair.starts_with(&format!("prefix={prefix}")))
        } else {
            request.path.starts_with(&format!("/rights/{}", scenario.prefix))
        };
        assert!(folder, "{request:?} is not limited to the folder of the backups");
    }
    assert_eq!(documented(), asked);
}

#[tokio::test]
async fn keys_that_are_limited_to_the_folder_of_the_backups_are_enough() {
    let scenario = Scenario::new("limited").await;
    let mut target = scenario.servers.bucket("limited");
    target.keys = Some(by_keys("limited", PASSWORD));
    let limited = client(&target);
    for prefix in [None, Some("uploads/")] {
        let refused = limited.check(prefix).await;
        assert!(matches!(refused, Err(ServiceError::AccessDenied { .. })), "{prefix:?}: {refused:?}");
    }
    limited.check(Some(&scenario.prefix)).await.expect("check");
    let mut command = scenario.command();
    command.env(contract::ENV_ACCESS_KEY_ID, "limited");
    let note = scenario.run(command).await.complete().lock_note;
    assert!(note.is_some_and(|note| note.contains("s3:GetBucketObjectLockConfiguration")));
}

#[tokio::test]
async fn buckets_below_a_path_are_reached_with_a_signature_that_covers_it() {
    let scenario = Scenario::new("below").await;
    let proxy = Proxy::start(scenario.servers.s3_port, None).await;
    assert!(proxy.endpoint.ends_with(PATH));
    let mut target = scenario.servers.bucket("below");
    target.endpoint.clone_from(&proxy.endpoint);
    let bucket = client(&target);
    bucket.check(None).await.expect("check");
    bucket.put("a/b-c_d.e", vec![7]).await.expect("put");
    assert_eq!(scenario.bucket.get("a/b-c_d.e").await, Ok(Some(vec![7])));
    target.keys = Some(by_keys("owner", "wrong"));
    let refused = client(&target).check(Some("a/")).await;
    assert!(matches!(refused, Err(ServiceError::AuthenticationFailed { .. })), "{refused:?}");
    let mut command = scenario.command();
    command.env(contract::ENV_S3_ENDPOINT, format!("{}/", proxy.endpoint));
    let record = scenario.run(command).await.complete();
    assert!(scenario.keys().await.contains(&format!("{}/{MANIFEST_FILE}", record.id)));
}

#[tokio::test]
async fn a_session_token_is_sent_and_signed() {
    let scenario = Scenario::new("session").await;
    let proxy = Proxy::start(scenario.servers.s3_port, None).await;
    let mut target = scenario.servers.bucket("session");
    target.endpoint.clone_from(&proxy.endpoint);
    target.keys.as_mut().expect("keys").session_token = Some("token-of-the-client".to_owned());
    // The server knows no such session, so how it answers does not matter.
    let _ = client(&target).check(Some("a/")).await;
    let mut command = scenario.command();
    command.env(contract::ENV_S3_ENDPOINT, &proxy.endpoint).env(contract::ENV_SESSION_TOKEN, "token-of-the-agent");
    let run = scenario.run(command).await;
    assert!(!run.output.contains("token-of-the-agent"), "{}", run.output);
    for token in ["token-of-the-client", "token-of-the-agent"] {
        let seen = proxy.seen();
        let request = seen.iter().find(|request| request.header("x-amz-security-token") == Some(token));
        let signed = request.and_then(|request| request.header("authorization")).unwrap_or_default();
        assert!(signed.contains("x-amz-security-token") && !signed.contains(PASSWORD), "{token}: {signed}");
    }
}
