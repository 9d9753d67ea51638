//! The objects that copied points list: what is copied, once; what comes back where the bucket itself is lost; and what goes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use rorun_operator::contract::{
    self, CopyTarget, DumpRecord, MANIFEST_FILE, OBJECTS_FILE, RestoreRefusal, RestoreStep,
};
use rorun_operator::services::bucket::{BucketClient, Headers, Timeouts};

use super::objects::{BUCKET, EXCEPT, Versioned, beside};
use super::{Restore, Step};
use crate::gateway::{Gateway, Passed};
use crate::points::target;
use crate::scenario::Scenario;

const PREFIX: &str = "from-eu/n/s/";
const POOL: &str = "from-eu/_objects/n/s/";

/// A bucket elsewhere that points are copied to.
struct Copies<'a> {
    scenario: &'a Scenario,
    client: BucketClient,
    target: CopyTarget,
}

impl<'a> Copies<'a> {
    async fn new(scenario: &'a Scenario, bucket: &str) -> Self {
        let client = BucketClient::new(&scenario.servers.bucket(bucket), Timeouts::CHECK).expect("client");
        client.create().await.expect("bucket");
        Self { scenario, client, target: target(scenario, bucket, PREFIX) }
    }

    async fn dump(&self) -> DumpRecord {
        self.dump_by(&self.target).await
    }

    async fn dump_by(&self, target: &CopyTarget) -> DumpRecord {
        let mut command = self.scenario.command();
        command.arg(contract::ARG_OBJECTS).args(EXCEPT);
        command.env(contract::ENV_COPIES, serde_json::to_string(&[target]).expect("JSON"));
        let record = self.scenario.run(command).await.complete();
        assert_eq!(record.not_whole, None);
        record
    }

    /// What is in the pool, and when each was written.
    async fn pool(&self) -> BTreeMap<String, Option<i64>> {
        let (page, next) = self.client.page(POOL, None).await.expect("page");
        assert_eq!(next, None);
        page.into_iter().map(|object| (object.key, object.modified)).collect()
    }

    async fn has(&self, id: &str) -> bool {
        self.client.has_any(&format!("{PREFIX}{id}/")).await.expect("list")
    }
}

/// Larger than what is sent by one request.
pub(crate) async fn put_large(client: &BucketClient, key: &str) {
    let mut upload = client.start_upload_with(key, &Headers::saying(&[("kind", "large")])).await.expect("upload");
    for byte in [1, 2] {
        upload.send(vec![byte; 6 << 20]).await.expect("part");
    }
    upload.complete().await.expect("complete");
}

#[tokio::test]
async fn the_objects_of_a_lost_bucket_come_from_the_copy() {
    let scenario = Scenario::new("pool").await;
    let bucket = Versioned::seaweed(&scenario).await;
    let copies = Copies::new(&scenario, "pool-there").await;
    for key in ["a", "sub/b", "sub/c", "empty", "a b/\u{fc}+&?#%.txt"] {
        bucket.put(key, if key == "empty" { "" } else { "first" }).await;
    }
    put_large(&bucket.client, "large").await;
    let expected = bucket.objects().await;
    let first = copies.dump().await;
    assert_eq!((first.copied, first.not_copied), (1, None));
    let pool = copies.pool().await;
    assert_eq!(pool.len(), expected.len(), "each object once: {pool:?}");

    bucket.put("a", "second").await;
    bucket.put("newer", "second").await;
    let second = copies.dump().await;
    assert_eq!((second.copied, second.not_copied), (1, None));
    let both = copies.pool().await;
    assert_eq!(both.len(), pool.len() + 2, "what is there is not copied again: {both:?}");
    assert!(pool.iter().all(|(key, at)| both.get(key) == Some(at)), "{pool:?} {both:?}");

    // The bucket is lost: a new one, elsewhere, and the copy.
    let (lost, new) = (scenario.servers.bucket(scenario.name), scenario.servers.bucket("pool-new"));
    let elsewhere = Versioned::at(&scenario, new, None).await;
    let restore = Restore { prefix: PREFIX.to_owned(), ..Restore::of(&scenario, &first.id) };
    let command = |step, more: &[&str]| {
        let mut command = beside(restore.command(step, more), &elsewhere.target);
        command.env(contract::ENV_S3_BUCKET, "pool-there");
        command
    };
    let run = async |step, more: &[&str]| restore.run_during(command(step, more), async |_| {}).await;
    let (gone, at) = pool.first_key_value().expect("an object");
    let body = copies.client.get(gone).await.expect("get").expect("a body");
    let headers = copies.client.headers(gone, None).await.expect("head").expect("an object").1;
    copies.client.delete(gone).await.expect("delete");
    for (step, more) in [(RestoreStep::Check, &BUCKET[..]), (RestoreStep::Objects, &[])] {
        let (reason, message) = run(step, more).await.refused();
        assert!(reason == RestoreRefusal::VersionMissing && message.contains("of 1 objects"), "{at:?}: {message}");
        assert_eq!(elsewhere.objects().await, BTreeMap::new(), "nothing is written");
    }
    copies.client.put_with(gone, body, &headers).await.expect("put");

    assert_eq!(run(RestoreStep::Check, &BUCKET).await.done().objects, Some(expected.len() as u64));
    assert_eq!(run(RestoreStep::Objects, &EXCEPT).await.done().objects, Some(expected.len() as u64));
    assert_eq!(elsewhere.objects().await, expected);
    let says = elsewhere.client.said_by("large", "kind").await.expect("head");
    assert_eq!(says.as_deref(), Some("large"), "an object keeps what it says of itself");
    let versions = elsewhere.versions().await;
    assert_eq!(run(RestoreStep::Objects, &EXCEPT).await.done().objects, Some(0), "what is done is not done again");
    assert_eq!(elsewhere.versions().await, versions);

    // The bucket is there, and versions of it are gone: the copy has them.
    let listed = bucket.client.versions("sub/").await.expect("versions");
    for version in &listed {
        bucket.client.delete_version(version).await.expect("delete");
    }
    let mut command = beside(restore.command(RestoreStep::Objects, &EXCEPT), &lost);
    command.env(contract::ENV_S3_BUCKET, "pool-there");
    let done = restore.run_during(command, async |_| {}).await.done();
    assert_eq!(done.objects, Some(4), "two come back, one goes back, and one is newer");
    assert_eq!(bucket.objects().await, expected);
}

/// The other bucket that a copy is restored into, and the steps of it.
struct Elsewhere<'a> {
    restore: Restore<'a>,
    bucket: Versioned<'a>,
}

impl<'a> Elsewhere<'a> {
    async fn new(scenario: &'a Scenario, point: &str, bucket: &str) -> Self {
        let bucket = Versioned::at(scenario, scenario.servers.bucket(bucket), None).await;
        Self { restore: Restore { prefix: PREFIX.to_owned(), ..Restore::of(scenario, point) }, bucket }
    }

    async fn run(&self, step: RestoreStep, from: &str, endpoint: Option<&str>) -> Step {
        let more = if step == RestoreStep::Check { &BUCKET[..] } else { &[] };
        let mut command = beside(self.restore.command(step, more), &self.bucket.target);
        command.env(contract::ENV_S3_BUCKET, from);
        command.envs(endpoint.map(|endpoint| (contract::ENV_S3_ENDPOINT, endpoint)));
        self.restore.run_during(command, async |_| {}).await
    }
}

#[tokio::test]
async fn a_copy_that_was_changed_is_told_as_one_that_is_gone() {
    let scenario = Scenario::new("pool-changed").await;
    let bucket = Versioned::seaweed(&scenario).await;
    let copies = Copies::new(&scenario, "pool-changed-there").await;
    bucket.put("small", "first").await;
    // What it says of itself leaves no room for the sum.
    let crowded = Headers::saying(&[("kind", &"k".repeat(2000))]);
    bucket.client.put_with("crowded", b"first".to_vec(), &crowded).await.expect("put");
    put_large(&bucket.client, "large").await;
    let expected = bucket.objects().await;
    let point = copies.dump().await;
    assert_eq!((point.copied, point.objects_not_copied), (1, None));
    let elsewhere = Elsewhere::new(&scenario, &point.id, "pool-changed-new").await;
    let there = "pool-changed-there";
    let mut summed = 0;
    for key in copies.pool().await.into_keys() {
        let body = copies.client.get(&key).await.expect("get").expect("a body");
        let headers = copies.client.headers(&key, None).await.expect("head").expect("an object").1;
        let sum = headers.says("rorun-sha256").map(str::to_owned);
        assert_eq!(sum.is_none(), headers.says("kind").is_some_and(|kind| kind.len() == 2000), "{headers:?}");
        if sum.is_none() {
            continue;
        }
        summed += 1;
        let mut changed = body.clone();
        *changed.last_mut().expect("a byte") ^= 1;
        // With what the copy says of itself, and without: another object in its size.
        for says in [headers.clone(), Headers::default()] {
            copies.client.put_with(&key, changed.clone(), &says).await.expect("put");
            for step in [RestoreStep::Check, RestoreStep::Objects] {
                let (reason, message) = elsewhere.run(step, there, None).await.refused();
                assert!(reason == RestoreRefusal::VersionMissing && message.contains("of 1 objects"), "{message}");
                assert!(message.contains("no object was written"), "{message}");
                assert_eq!(elsewhere.bucket.objects().await, BTreeMap::new(), "nothing is written");
            }
        }
        copies.client.put_with(&key, body, &headers).await.expect("put");
    }
    assert_eq!(summed, 2);
    let done = elsewhere.run(RestoreStep::Objects, there, None).await.done();
    assert_eq!((done.objects, elsewhere.bucket.objects().await), (Some(3), expected));
    for key in ["small", "large", "crowded"] {
        let sum = elsewhere.bucket.client.said_by(key, "rorun-sha256").await.expect("head");
        assert_eq!(sum, None, "{key} says what it said before it was copied");
    }
}

/// It was whole when it was looked at, and is not when it is read to be written.
#[tokio::test]
async fn a_copy_that_changes_meanwhile_is_not_written() {
    let scenario = Scenario::new("pool-changing").await;
    let bucket = Versioned::seaweed(&scenario).await;
    let copies = Copies::new(&scenario, "pool-changing-there").await;
    bucket.put("changing", "first").await;
    copies.dump().await;
    let pool = copies.pool().await;
    let path = format!("/pool-changing-there/{}", pool.first_key_value().expect("a copy").0);
    bucket.put("other", "second").await;
    let id = copies.dump().await.id;
    let elsewhere = Elsewhere::new(&scenario, &id, "pool-changing-new").await;
    let reads = AtomicU32::new(0);
    let gateway = Gateway::start(scenario.servers.s3_port, move |asked| {
        let reads_it = asked.method == "GET" && asked.path == path && !asked.asks("tagging");
        if reads_it && reads.fetch_add(1, Ordering::Relaxed) > 0 {
            Passed::Translated(str::to_uppercase)
        } else {
            Passed::On
        }
    })
    .await;
    let ended = elsewhere.run(RestoreStep::Objects, "pool-changing-there", Some(&gateway.endpoint)).await;
    let (reason, message) = ended.refused();
    assert!(reason == RestoreRefusal::VersionMissing && message.contains("of 1 objects"), "{message}");
    assert!(message.contains("changing; they were there before"), "{message}");
    assert_eq!(elsewhere.bucket.objects().await, BTreeMap::from([("other".to_owned(), b"second".to_vec())]));
}

/// Lists say that everything was written long ago.
fn aged(text: &str) -> String {
    let mut parts = text.split("<LastModified>");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |done, part| done + "<LastModified>2020" + part.get(4..).unwrap_or_default())
}

#[tokio::test]
async fn what_no_copy_lists_any_more_goes_once_it_is_old() {
    let scenario = Scenario::new("swept").await;
    let bucket = Versioned::seaweed(&scenario).await;
    let copies = Copies::new(&scenario, "swept-there").await;
    // Each run removes the copy of the one before.
    let target = CopyTarget { retention_days: 0, minimum_kept: 1, ..copies.target.clone() };
    let gateway = Gateway::start(scenario.servers.s3_port, |asked| {
        if asked.method == "GET" && asked.asks("list-type") { Passed::Translated(aged) } else { Passed::On }
    })
    .await;
    let mut old = target.clone();
    old.location.endpoint.clone_from(&gateway.endpoint);
    let count = async || copies.pool().await.len();
    for key in ["a", "b"] {
        bucket.put(key, "first").await;
    }
    let first = copies.dump_by(&target).await;
    bucket.client.delete("b").await.expect("delete");
    let second = copies.dump_by(&target).await;
    assert_eq!((second.copied, second.not_copied.clone()), (1, None));
    assert!(!copies.has(&first.id).await && copies.has(&second.id).await);
    assert_eq!(count().await, 2, "b is too young to go");

    // A copy that another run has begun: what it lists is not known yet.
    let begun = format!("{PREFIX}20260101T000000Z-aaaaa/{OBJECTS_FILE}");
    copies.client.put(&begun, b"not known".to_vec()).await.expect("put");
    let third = copies.dump_by(&old).await;
    assert_eq!(third.not_copied, None);
    assert_eq!(count().await, 2, "nothing goes while a copy is being written");
    copies.client.delete(&begun).await.expect("delete");

    // A copy of another cluster, whose list is not what its manifest says.
    let other = "20260102T000000Z-bbbbb";
    let of = async |file: &str| {
        let body = copies.client.get(&format!("{PREFIX}{}/{file}", third.id)).await.expect("get");
        body.expect("an object of the copy")
    };
    let (manifest, list) = (String::from_utf8(of(MANIFEST_FILE).await).expect("JSON"), of(OBJECTS_FILE).await);
    let manifest = manifest.replace(&third.id, other).replace(&scenario.owner(), "another/stack");
    let listed = format!("{PREFIX}{other}/{OBJECTS_FILE}");
    copies.client.put(&listed, b"broken".to_vec()).await.expect("put");
    copies.client.put(&format!("{PREFIX}{other}/{MANIFEST_FILE}"), manifest.into_bytes()).await.expect("put");
    let fourth = copies.dump_by(&old).await;
    assert!(!copies.has(&third.id).await && copies.has(&fourth.id).await && copies.has(other).await);
    assert_eq!(count().await, 2, "nothing goes while a list cannot be read");
    copies.client.put(&listed, list).await.expect("put");

    bucket.put("c", "first").await;
    let fifth = copies.dump_by(&old).await;
    assert_eq!((fifth.copied, fifth.not_copied), (1, None));
    assert_eq!(count().await, 2, "b is gone; a and c are there");
}

/// A server that keeps no metadata holds no copies that a restore would take: that is told when they are made.
#[tokio::test]
async fn a_copy_that_does_not_say_its_sum_is_none() {
    let scenario = Scenario::new("pool-unsaid").await;
    let bucket = Versioned::seaweed(&scenario).await;
    let copies = Copies::new(&scenario, "pool-unsaid-there").await;
    bucket.put("a", "first").await;
    let gateway = Gateway::start(scenario.servers.s3_port, |_| Passed::Unsaid).await;
    let mut target = copies.target.clone();
    target.location.endpoint.clone_from(&gateway.endpoint);
    let record = copies.dump_by(&target).await;
    let why = record.objects_not_copied.expect("it is told");
    assert!(why.contains("keeps no metadata of objects"), "{why}");
    assert!(copies.pool().await.is_empty(), "what no restore takes does not stay");
    assert!(copies.has(&record.id).await, "the dump is copied all the same");
    // Once it does, the next run copies the object.
    assert_eq!(copies.dump().await.objects_not_copied, None);
    assert_eq!(copies.pool().await.len(), 1);
}

#[tokio::test]
async fn the_dump_is_copied_also_when_its_objects_cannot_be() {
    let scenario = Scenario::new("pool-gone").await;
    let bucket = Versioned::seaweed(&scenario).await;
    let copies = Copies::new(&scenario, "pool-gone-there").await;
    for key in ["a", "gone"] {
        bucket.put(key, "first").await;
    }
    let mut dump = scenario.command();
    dump.arg(contract::ARG_OBJECTS).args(EXCEPT);
    let first = scenario.run(dump).await.complete();
    for version in bucket.client.versions("gone").await.expect("versions") {
        bucket.client.delete_version(&version).await.expect("delete");
    }
    // A run that a release waits for copies no object.
    let mut held = scenario.command();
    held.arg(contract::ARG_OBJECTS).args(EXCEPT).args([contract::ARG_HOLD, "0123456789"]);
    held.env(contract::ENV_COPIES, serde_json::to_string(&[&copies.target]).expect("JSON"));
    let held = scenario.run(held).await.complete();
    assert_eq!((held.copied, held.not_copied), (2, None));
    let later = held.objects_not_copied.expect("those of the point before are told");
    assert!(later.contains(&first.id) && later.contains("by the next run"), "{later}");
    assert_eq!(copies.pool().await, BTreeMap::new());
    let marked = async |id: &str| {
        let keys = scenario.keys().await;
        keys.iter().any(|key| key.starts_with(&format!("{id}/copied-")) && key.ends_with("-objects.json"))
    };
    assert!(!marked(&held.id).await);

    let last = copies.dump().await;
    assert_eq!((last.copied, last.not_copied), (1, None));
    let why = last.objects_not_copied.expect("those of one are not copied");
    for words in [&*first.id, "pool-gone-there", "failed to copy gone: version ", "is gone"] {
        assert!(why.contains(words), "{words}: {why}");
    }
    assert!(marked(&held.id).await && marked(&last.id).await && !marked(&first.id).await);
    for id in [&first.id, &held.id, &last.id] {
        let manifest = copies.client.get(&format!("{PREFIX}{id}/{MANIFEST_FILE}")).await.expect("get");
        assert!(manifest.is_some(), "the dump of {id} is copied");
    }
    // The bucket is another one now: what the old one held is not copied for ever, and is told once.
    scenario.change_manifest(&first.id, |manifest| manifest["bucket"]["bucket"] = "of-before".into()).await;
    let told = copies.dump().await.objects_not_copied.unwrap_or_default();
    assert!(told.contains(&first.id) && told.contains("of-before"), "{told}");
    assert_eq!(copies.dump().await.objects_not_copied, None);
}
