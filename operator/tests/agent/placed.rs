//! The objects of a sanitized point: those of the folders that are asked for, and into the bucket of a new stack, over nothing that is
//! there.

use std::collections::BTreeMap;
use std::process::Command;

use rorun_operator::agent::Manifest;
use rorun_operator::contract::{self, OBJECTS_FILE, RestoreRefusal, RestoreStep};
use rorun_operator::services::bucket::{BucketClient, Headers, Timeouts};

use crate::points::manifest;
use crate::restores::copied::put_large;
use crate::restores::objects::{EXCEPT, Versioned, beside};
use crate::restores::{Restore, Step};
use crate::sanitizes::{SANITIZE, Safe, production};
use crate::scenario::Scenario;
use crate::servers::location;

const PREFIX: &str = "sanitized/n/shop/";
const POOL: &str = "sanitized/_objects/n/shop/";

/// Another bucket for sanitized points.
async fn elsewhere<'a>(from: &'a Scenario, name: &'static str) -> Safe<'a> {
    let bucket = BucketClient::new(&from.servers.bucket(name), Timeouts::CHECK).expect("client");
    bucket.create().await.expect("bucket");
    Safe { from, into: Scenario::of(from.servers.clone(), (name, PREFIX.to_owned()), bucket) }
}

/// A point with the objects of the bucket.
async fn dump(scenario: &Scenario) {
    let mut command = scenario.command();
    command.args([contract::ARG_ENVIRONMENT, "Production", contract::ARG_OBJECTS]).args(EXCEPT);
    assert_eq!(scenario.run(command).await.complete().not_whole, None);
}

impl Safe<'_> {
    fn with(&self, prefixes: &[&str]) -> (Command, std::path::PathBuf) {
        let (mut command, result) = self.command(SANITIZE);
        command.args(prefixes.iter().flat_map(|prefix| [contract::ARG_OBJECT_PREFIX, prefix]));
        (command, result)
    }

    async fn all(&self) -> Vec<String> {
        let found = self.into.bucket.list("").await.expect("list");
        found.into_iter().map(|object| object.key).collect()
    }

    /// A step of a seed, with the bucket of a new stack.
    async fn step(&self, (step, point): (RestoreStep, &str), bucket: &Versioned<'_>, more: &[&str]) -> Step {
        let mut restore = Restore::of(&self.into, point);
        restore.url = self.from.servers.database_url(self.from.name);
        let seed = [contract::ARG_ANY_OWNER, contract::ARG_ENVIRONMENT, "Development", contract::ARG_SANITIZED];
        let command = beside(restore.command(step, &[&seed, more].concat()), &bucket.target);
        restore.run_during(command, async |_| {}).await
    }
}

#[tokio::test]
async fn the_objects_of_a_folder_go_along_and_replace_nothing() {
    let (scenario, _) = production("placed").await;
    let bucket = Versioned::seaweed(&scenario).await;
    for key in ["public/a", "public/sub/b c+\u{fc}", "public/crowded", "publicity", "private/c"] {
        bucket.put(key, "first").await;
    }
    let crowded = Headers::saying(&[("kind", &"k".repeat(2000))]);
    bucket.client.put_with("public/crowded", b"first".to_vec(), &crowded).await.expect("put");
    put_large(&bucket.client, "public/large").await;
    let mut expected = bucket.objects().await;
    expected.retain(|key, _| key.starts_with("public/"));
    dump(&scenario).await;
    // The versions count that the point lists.
    bucket.put("public/a", "second").await;
    bucket.put("public/newer", "second").await;
    bucket.client.delete("public/sub/b c+\u{fc}").await.expect("delete");

    let safe = elsewhere(&scenario, "placed-safe").await;
    let record = safe.complete_command(safe.with(&["public/", "public/sub/"])).await;
    assert_eq!(record.objects, Some(4));
    let told: Manifest = manifest(&safe.into, &record.id).await;
    let half = told.bucket.as_ref().map(|half| (&*half.bucket, half.count));
    assert_eq!(half, Some(("placed-safe", 4)), "the name of the other bucket stays where it is");
    assert!(told.object(OBJECTS_FILE).is_some());
    let pool = format!("{POOL}{}/", record.id);
    let keys = safe.all().await;
    assert_eq!(keys.iter().filter(|key| key.starts_with(&pool)).count(), 4, "{keys:?}");
    assert_eq!(keys.len(), 4 + 3, "nothing else left the bucket: {keys:?}");

    let new = Versioned::at(&scenario, scenario.servers.bucket("placed-new"), None).await;
    scenario.sql_in("postgres", "CREATE DATABASE \"placed-new\"").await;
    let checked = safe.step((RestoreStep::Check, &record.id), &new, &[contract::ARG_FILL]).await.done();
    assert_eq!(checked.objects, Some(4));
    assert_eq!(new.objects().await, BTreeMap::new(), "a check writes nothing");
    // Its own, and what is none of the point's business.
    for key in ["public/a", "own"] {
        new.put(key, "its own").await;
    }
    let placed = safe.step((RestoreStep::Place, &record.id), &new, &[]).await.done();
    assert_eq!(placed.objects, Some(3));
    let kept = "found in bucket \"placed-new\" and kept instead of those of the point: 1 objects, public/a";
    assert_eq!(placed.warnings, [kept]);
    for key in ["public/a", "own"] {
        expected.insert(key.to_owned(), b"its own".to_vec());
    }
    assert_eq!(new.objects().await, expected);
    let says = new.client.said_by("public/large", "kind").await.expect("head");
    assert_eq!(says.as_deref(), Some("large"), "an object keeps what it says of itself");
    assert_eq!(new.client.said_by("public/large", "rorun-sha256").await.expect("head"), None);
    // The pod that is made again finds what the one before has put there.
    let versions = new.versions().await;
    let again = safe.step((RestoreStep::Place, &record.id), &new, &[]).await.done();
    assert_eq!((again.objects, again.warnings), (Some(0), vec![kept.to_owned()]));
    assert_eq!(new.versions().await, versions);
    // Folders of backups are nobody's to fill.
    let other = Versioned::at(&scenario, scenario.servers.bucket("placed-other"), None).await;
    let except = [contract::ARG_OBJECTS_EXCEPT, "public/sub/"];
    let left = safe.step((RestoreStep::Place, &record.id), &other, &except).await.done();
    assert!(left.objects == Some(3) && left.warnings[0].contains("public/sub/"), "{left:?}");
}

#[tokio::test]
async fn copies_of_a_sanitized_point_that_changed_are_not_placed() {
    let (scenario, _) = production("placed-changed").await;
    let bucket = Versioned::seaweed(&scenario).await;
    for key in ["public/a", "public/b"] {
        bucket.put(key, "first").await;
    }
    dump(&scenario).await;
    let safe = elsewhere(&scenario, "placed-changed-safe").await;
    let record = safe.complete_command(safe.with(&["public/"])).await;
    let new = Versioned::at(&scenario, scenario.servers.bucket("placed-changed-new"), None).await;
    let client = &safe.into.bucket;
    let copy = safe.all().await.into_iter().find(|key| key.starts_with(POOL)).expect("a copy");
    let headers = client.headers(&copy, None).await.expect("head").expect("an object").1;
    client.put_with(&copy, b"FIRST".to_vec(), &headers).await.expect("put");
    let refused = async |gone: &str| {
        for (step, more) in [(RestoreStep::Check, &[contract::ARG_FILL][..]), (RestoreStep::Place, &[])] {
            let (reason, message) = safe.step((step, &record.id), &new, more).await.refused();
            assert!(
                reason == RestoreRefusal::VersionMissing && message.contains("of 1 objects the copies"),
                "{gone}: {message}"
            );
            assert!(message.contains("no object was written"), "{gone}: {message}");
            assert_eq!(new.objects().await, BTreeMap::new(), "{gone}");
        }
    };
    refused("changed").await;
    client.delete(&copy).await.expect("delete");
    refused("gone").await;
    client.put_with(&copy, b"first".to_vec(), &headers).await.expect("put");
    assert_eq!(safe.step((RestoreStep::Place, &record.id), &new, &[]).await.done().objects, Some(2));
    // A RorunRestore of the same point into a new stack finds them as well.
    let whole = Versioned::at(&scenario, scenario.servers.bucket("placed-changed-whole"), None).await;
    assert_eq!(safe.step((RestoreStep::Objects, &record.id), &whole, &[]).await.done().objects, Some(2));
    assert_eq!(whole.objects().await, new.objects().await);
}

#[tokio::test]
async fn objects_that_are_not_there_leave_no_point() {
    let (scenario, raw) = production("placed-bad").await;
    let bucket = Versioned::seaweed(&scenario).await;
    let safe = elsewhere(&scenario, "placed-bad-safe").await;
    let failure = async |prefixes: &[&str]| {
        let (message, _) = safe.failure_command(safe.with(prefixes)).await;
        assert_eq!(safe.all().await, Vec::<String>::new(), "{message}");
        message
    };
    let message = failure(&["public/"]).await;
    let expected =
        format!("recovery point {} holds the database only, and sanitize.objectPrefixes asks for objects", raw.id);
    assert!(message.contains(&expected) && message.contains("backup.includeBucket"), "{message}");
    for key in ["public/a", "public/b"] {
        bucket.put(key, "first").await;
    }
    dump(&scenario).await;
    let message = failure(&["public/", "publik/"]).await;
    assert!(message.contains("lists no object below publik/, which sanitize.objectPrefixes names"), "{message}");
    // A version that went: the other object was copied by then, and is taken back.
    for version in bucket.client.versions("public/b").await.expect("versions") {
        bucket.client.delete_version(&version).await.expect("delete");
    }
    let message = failure(&["public/"]).await;
    assert!(message.contains("failed to copy public/b: version ") && message.contains("is gone"), "{message}");
    // The bucket of before.
    let other = scenario.servers.bucket("placed-bad-other");
    let (mut command, result) = safe.with(&["public/"]);
    command.env(contract::ENV_SOURCE, serde_json::to_string(&location(&other)).expect("JSON"));
    let (message, _) = safe.failure_command((command, result)).await;
    assert!(
        message.contains("bucket \"placed-bad\"") && message.contains("not that of the stack any more"),
        "{message}"
    );
    // The whole bucket is no folder.
    for wrong in ["", "/", "public"] {
        let (mut command, _) = safe.with(&[wrong]);
        let status = command.output().expect("agent").status;
        assert_eq!(status.code(), Some(2), "{wrong:?} is taken");
    }
}
