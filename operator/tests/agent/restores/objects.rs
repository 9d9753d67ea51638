//! The objects of a bucket, on two servers: what is put back, what is deleted and stays, and what is left alone.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::{StreamExt as _, stream};
use rorun_operator::contract::{self, OBJECTS_FILE, RestoreOutcome, RestoreRefusal, RestoreResult, RestoreStep};
use rorun_operator::services::bucket::{BucketClient, BucketTarget, Headers, Timeouts};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Restore, Step};
use crate::gateway::{Gateway, Passed, versioning};
use crate::moto::Moto;
use crate::process::{signal, until};
use crate::scenario::Scenario;
use crate::servers::location;

pub(crate) const BUCKET: [&str; 2] = [contract::ARG_SCOPE, "bucket"];
pub(crate) const EXCEPT: [&str; 2] = [contract::ARG_OBJECTS_EXCEPT, "backups/"];

/// The bucket of a scenario, with versioning.
pub(crate) struct Versioned<'a> {
    scenario: &'a Scenario,
    pub(crate) target: BucketTarget,
    pub(crate) client: BucketClient,
    _moto: Option<(Arc<Moto>, Gateway)>,
}

/// A point of it that is restored.
struct Point<'a> {
    bucket: &'a Versioned<'a>,
    restore: Restore<'a>,
}

impl<'a> Versioned<'a> {
    pub(crate) async fn seaweed(scenario: &'a Scenario) -> Self {
        Self::at(scenario, scenario.servers.bucket(scenario.name), None).await
    }

    async fn moto(scenario: &'a Scenario) -> Self {
        let moto = Moto::shared().await;
        let gateway = Gateway::start(moto.port, move |asked| {
            if asked.method == "GET" && asked.asks("versioning") { Passed::Translated(versioning) } else { Passed::On }
        })
        .await;
        let target = BucketTarget { endpoint: gateway.endpoint.clone(), ..moto.bucket(scenario.name) };
        Self::at(scenario, target, Some((moto, gateway))).await
    }

    pub(crate) async fn at(scenario: &'a Scenario, target: BucketTarget, moto: Option<(Arc<Moto>, Gateway)>) -> Self {
        let client = BucketClient::new(&target, Timeouts::CHECK).expect("client");
        client.create().await.expect("bucket");
        client.enable_versioning().await.expect("versioning");
        Self { scenario, target, client, _moto: moto }
    }

    pub(crate) async fn put(&self, key: &str, body: &str) {
        self.client.put(key, body.as_bytes().to_vec()).await.expect("put");
    }

    /// Many objects, whose content is the same word and their key.
    async fn put_all(&self, keys: impl Iterator<Item = String>, word: &str) {
        let put = async |key: String| self.put(&key, &format!("{word} {key}")).await;
        stream::iter(keys).map(put).buffer_unordered(16).collect::<()>().await;
    }

    async fn delete_all(&self, keys: impl Iterator<Item = String>) {
        let delete = async |key: String| self.client.delete(&key).await.expect("delete");
        stream::iter(keys).map(delete).buffer_unordered(16).collect::<()>().await;
    }

    /// What is there, without the backups.
    pub(crate) async fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        let listed = self.client.list("").await.expect("list");
        let keys = listed.into_iter().map(|object| object.key).filter(|key| !key.starts_with("backups/"));
        let get = async |key: String| {
            let body = self.client.get(&key).await.expect("get").expect("an object");
            (key, body)
        };
        stream::iter(keys).map(get).buffer_unordered(16).collect().await
    }

    /// All versions and marks of deletion, without the backups.
    pub(crate) async fn versions(&self) -> Vec<(String, String)> {
        let versions = self.client.versions("").await.expect("versions");
        let own = versions.into_iter().filter(|version| !version.key.starts_with("backups/"));
        let mut own: Vec<_> = own.map(|version| (version.key, version.id)).collect();
        own.sort();
        own
    }

    /// Whether some of many objects, which were written twice, are restored. The first in the order of keys are asked for, since a
    /// question about all of them takes long.
    async fn has_begun(&self) -> bool {
        let first = self.client.versions("files/10").await.expect("versions");
        first.len() > 2 * 11
    }

    /// A recovery point of an empty database and of the bucket.
    async fn point(&'a self) -> Point<'a> {
        self.point_of(&[]).await
    }

    /// Likewise, of another bucket.
    async fn point_beside(&'a self, other: &BucketTarget) -> Point<'a> {
        let location = serde_json::to_string(&location(other)).expect("JSON");
        self.point_of(&[(contract::ENV_SOURCE, location)]).await
    }

    async fn point_of(&'a self, variables: &[(&str, String)]) -> Point<'a> {
        let mut dump = self.scenario.command();
        dump.env(contract::ENV_S3_ENDPOINT, &self.target.endpoint).args([contract::ARG_OBJECTS]).args(EXCEPT);
        dump.envs(variables.iter().map(|(name, value)| (*name, value.as_str())));
        let record = self.scenario.run(dump).await.complete();
        assert_eq!(record.not_whole, None);
        Point { bucket: self, restore: Restore::of(self.scenario, &record.id) }
    }
}

impl Point<'_> {
    fn command(&self, step: RestoreStep, more: &[&str]) -> Command {
        let mut command = self.restore.command(step, more);
        command.env(contract::ENV_S3_ENDPOINT, &self.bucket.target.endpoint);
        command
    }

    async fn run(&self, step: RestoreStep, more: &[&str]) -> Step {
        self.restore.run_during(self.command(step, more), async |_| {}).await
    }

    async fn done(&self, more: &[&str]) -> RestoreResult {
        self.run(RestoreStep::Objects, more).await.done()
    }

    /// Both steps refuse it, and nothing is written.
    async fn refused(&self, more: &[&str]) -> (RestoreRefusal, String) {
        let before = self.bucket.versions().await;
        let checked = self.run(RestoreStep::Check, &[&BUCKET, more].concat()).await.refused();
        let refused = self.run(RestoreStep::Objects, more).await.refused();
        assert_eq!(checked, refused, "both steps say the same");
        assert_eq!(self.bucket.versions().await, before, "nothing is written");
        refused
    }
}

/// Writes an object that says something of itself, in two parts.
async fn put_saying(client: &BucketClient, key: &str, says: &str, byte: u8) {
    let mut upload = client.start_upload_with(key, &Headers::saying(&[("kind", says)])).await.expect("upload");
    for size in [6 << 20, 100] {
        upload.send(vec![byte; size]).await.expect("part");
    }
    upload.complete().await.expect("complete");
}

/// Changed, deleted, newer, deleted before and written again since, and what is written in parts or has an odd name.
async fn all_that_differs(bucket: &Versioned<'_>) {
    let odd = ["a b/\u{fc}\u{20ac}+&=?#%.txt", "q\"'<>", "dots..x", "\u{65e5}\u{672c}", "a!", "a/b", "a-"];
    for key in ["same", "changed", "deleted", "gone before", "empty"].into_iter().chain(odd) {
        bucket.put(key, if key == "empty" { "" } else { "first" }).await;
    }
    bucket.client.delete("gone before").await.expect("delete");
    put_saying(&bucket.client, "parts", "of the point", 1).await;
    put_saying(&bucket.client, "parts of the same size", "of the point", 1).await;
    bucket.put("backups/other/stack/file", "first").await;
    let expected = bucket.objects().await;
    let point = bucket.point().await;
    for key in ["changed", "gone before", "newer", "a!", "sub/newer", "empty"].into_iter().chain(odd) {
        bucket.put(key, "second and longer").await;
    }
    for key in ["deleted", odd[0]] {
        bucket.client.delete(key).await.expect("delete");
    }
    bucket.put("changed back", "not listed").await;
    bucket.client.delete("changed back").await.expect("delete");
    bucket.put("backups/other/stack/file", "second").await;
    bucket.put("backups/other/stack/newer", "second").await;
    bucket.put("parts", "second").await;
    put_saying(&bucket.client, "parts of the same size", "since", 2).await;
    let before = bucket.versions().await;
    let backups = bucket.client.versions("backups/").await.expect("versions");

    let checked = point.run(RestoreStep::Check, &BUCKET).await.done();
    assert_eq!(checked.objects, Some(expected.len() as u64));
    assert_eq!(bucket.versions().await, before, "a check writes nothing");
    let restored = point.done(&EXCEPT).await;
    assert_eq!(bucket.objects().await, expected);
    assert_eq!((restored.objects, restored.warnings), (Some(12 + 3), Vec::new()));
    for key in ["parts", "parts of the same size"] {
        let says = bucket.client.said_by(key, "kind").await.expect("head");
        assert_eq!(says.as_deref(), Some("of the point"), "{key} keeps what it says of itself");
    }
    let after = bucket.versions().await;
    assert!(before.iter().all(|version| after.contains(version)), "no version is removed");
    assert_eq!(after.len(), before.len() + 15, "one version, or one mark, for each change");
    let (kept, more): (Vec<_>, Vec<_>) = bucket
        .client
        .versions("backups/")
        .await
        .expect("versions")
        .into_iter()
        .partition(|version| backups.contains(version));
    assert_eq!(kept, backups, "the backups stay as they are");
    assert!(
        more.iter().all(|version| version.key.contains("/hold-restore-") && version.latest == version.marker),
        "{more:?}"
    );

    let again = point.done(&EXCEPT).await;
    assert_eq!(again.objects, Some(0), "what is done is not done again");
    assert_eq!(bucket.versions().await, after);
}

#[tokio::test]
async fn what_differs_is_put_back_on_seaweedfs() {
    let scenario = Scenario::new("objects-seaweed").await;
    all_that_differs(&Versioned::seaweed(&scenario).await).await;
}

#[tokio::test]
async fn what_differs_is_put_back_on_moto() {
    let scenario = Scenario::new("objects-moto").await;
    all_that_differs(&Versioned::moto(&scenario).await).await;
}

/// A copy in parts has another `ETag` than what it is a copy of: the second run compares the contents.
#[tokio::test]
async fn a_large_object_is_copied_in_parts() {
    let scenario = Scenario::new("objects-parts").await;
    for bucket in [Versioned::seaweed(&scenario).await, Versioned::moto(&scenario).await] {
        let limit = ["--copied-at-once", "5242880"];
        put_saying(&bucket.client, "large", "of the point", 3).await;
        let expected = bucket.objects().await;
        let point = bucket.point().await;
        bucket.put("large", "second").await;
        assert_eq!(point.done(&limit).await.objects, Some(1));
        assert_eq!(bucket.objects().await, expected);
        assert_eq!(bucket.client.said_by("large", "kind").await.expect("head").as_deref(), Some("of the point"));
        assert_eq!(bucket.client.uploads("").await.expect("uploads"), [], "no parts are left");
        let versions = bucket.versions().await;
        assert_eq!(point.done(&limit).await.objects, Some(0));
        assert_eq!(bucket.versions().await, versions);
    }
}

/// `SeaweedFS` leaves keys out of long lists of versions: `m-x` comes after `m/...` in the order of its folders, and before it in that of
/// keys.
#[tokio::test]
async fn two_thousand_objects_and_some_that_lists_of_versions_lack() {
    let scenario = Scenario::new("objects-many").await;
    let bucket = Versioned::seaweed(&scenario).await;
    let keys = |numbers: std::ops::Range<u32>| numbers.map(|number| format!("m/{number:04}"));
    let beside = ["m!", "m-x", "m-y/file"];
    for key in beside {
        bucket.put(key, "first").await;
    }
    bucket.put_all(keys(0..2000), "first").await;
    let listed = bucket.client.versions("").await.expect("versions");
    assert!(beside.iter().any(|key| listed.iter().all(|of| of.key != *key)), "it has learned to list them all");
    let expected = bucket.objects().await;
    let point = bucket.point().await;
    bucket.put_all(keys(0..200), "second").await;
    bucket.delete_all(keys(1900..2000).chain(["m-x".to_owned()])).await;
    bucket.put_all(keys(2000..2100), "second").await;
    let clock = std::time::Instant::now();
    let restored = point.done(&EXCEPT).await;
    println!("401 of 2,003 objects in {} ms", clock.elapsed().as_millis());
    assert_eq!(bucket.objects().await, expected);
    assert_eq!((restored.objects, restored.warnings), (Some(401), Vec::new()));
    assert_eq!(point.done(&EXCEPT).await.objects, Some(0));
}

/// As of a point of an earlier release, whose list lacks what `SeaweedFS` left out: an object that was there is not taken for newer.
#[tokio::test]
async fn what_was_there_and_is_not_listed_stays() {
    let scenario = Scenario::new("objects-left").await;
    let bucket = Versioned::seaweed(&scenario).await;
    for key in ["left/1", "left/2", "there"] {
        bucket.put(key, "first").await;
    }
    let at = async |key: &str| bucket.client.look(key, None).await.expect("head").and_then(|object| object.modified);
    let written = at("there").await.expect("a time");
    until("another second by the clock of the server", async || {
        bucket.put("backups/clock", "").await;
        at("backups/clock").await.expect("a time") > written
    })
    .await;
    let mut dump = scenario.command();
    dump.args([contract::ARG_OBJECTS, contract::ARG_OBJECTS_EXCEPT, "left/"]).args(EXCEPT);
    let id = scenario.run(dump).await.complete().id;
    let point = Point { bucket: &bucket, restore: Restore::of(&scenario, &id) };
    for key in ["left/2", "left/newer", "there"] {
        bucket.put(key, "second").await;
    }
    let restored = point.done(&EXCEPT).await;
    assert_eq!(restored.objects, Some(2), "one is put back, and one is newer");
    let [left] = restored.warnings.as_slice() else { panic!("{restored:?}") };
    assert!(left.contains("2 objects, left/1, left/2"), "{left}");
    let now = [("left/1", "first"), ("left/2", "second"), ("there", "first")];
    assert_eq!(bucket.objects().await, now.map(|(key, body)| (key.to_owned(), body.as_bytes().to_vec())).into());
}

/// Of a new stack whose bucket is that of another one, or was used before: nothing there is replaced, and nothing gets a delete marker.
#[tokio::test]
async fn a_bucket_that_is_to_be_filled_keeps_what_is_there() {
    const FILL: [&str; 3] = [contract::ARG_FILL, EXCEPT[0], EXCEPT[1]];
    let scenario = Scenario::new("objects-found").await;
    let bucket = Versioned::seaweed(&scenario).await;
    for key in ["a", "b", "parts"] {
        bucket.put(key, "first").await;
    }
    put_saying(&bucket.client, "large", "of the point", 3).await;
    let expected = bucket.objects().await;
    let point = bucket.point().await;
    let words = |found: (RestoreRefusal, String), words: &str| {
        assert!(found.0 == RestoreRefusal::DataFound && found.1.contains(words), "{found:?}");
    };
    for (key, body, told) in [
        ("newer", "of a stack that serves", "holds 1 objects that are not as recovery point"),
        ("a", "of another size", ": a; they stay"),
        ("b", "other", ": b; they stay"),
    ] {
        bucket.put(key, body).await;
        words(point.refused(&FILL).await, told);
        bucket.client.delete(key).await.expect("delete");
    }
    // What the point lists goes back beside what an earlier run wrote, whose `ETag` is another.
    bucket.put("backups/other/stack/file", "stays").await;
    let limit = ["--copied-at-once", "5242880"];
    bucket.client.delete("large").await.expect("delete");
    let fill = [&FILL[..], &limit].concat();
    assert_eq!(point.done(&fill).await.objects, Some(3));
    assert_eq!(bucket.objects().await, expected);
    let versions = bucket.versions().await;
    assert_eq!(point.done(&fill).await.objects, Some(0));
    assert_eq!(bucket.versions().await, versions);
}

#[tokio::test]
async fn a_restore_that_is_killed_goes_on() {
    const COUNT: u32 = 200;
    let scenario = Scenario::new("objects-killed").await;
    let bucket = Versioned::seaweed(&scenario).await;
    let keys = || (0..COUNT).map(|number| format!("files/{number}"));
    bucket.put_all(keys(), "first").await;
    let expected = bucket.objects().await;
    let point = bucket.point().await;
    bucket.put_all(keys(), "other").await;
    let mut child = point.command(RestoreStep::Objects, &EXCEPT);
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("agent");
    let written = async || bucket.versions().await.len() - 2 * COUNT as usize;
    until("some objects", async || bucket.has_begun().await).await;
    signal("KILL", child.id());
    child.wait().expect("killed");
    let before = written().await;
    assert!(before < COUNT as usize, "it was done before it was killed");
    let restored = point.done(&EXCEPT).await;
    assert_eq!(bucket.objects().await, expected);
    let rest = restored.objects.expect("a number");
    println!("killed after {before} objects, then {rest}");
    assert!(rest > 0 && rest <= u64::from(COUNT) - before as u64, "{before} were done, and then {rest}");
}

/// The server is away after ten copies, tells of copies that it did not make, or keeps no versions any more.
#[tokio::test]
async fn a_server_that_fails_or_lies_is_told_and_the_next_run_finishes() {
    let scenario = Scenario::new("objects-faults").await;
    let bucket = Versioned::seaweed(&scenario).await;
    let keys = || (0..40).map(|number| format!("files/{number}"));
    bucket.put_all(keys(), "first").await;
    let expected = bucket.objects().await;
    let point = bucket.point().await;
    bucket.put_all(keys(), "second").await;
    for (fault, words) in [
        (Passed::Answered(503, "SlowDown"), "it answers SlowDown"),
        (Passed::Copied(Some("v")), "after the copy its current version is another one"),
        (Passed::Copied(None), "does not keep old versions any more: turn versioning on again"),
    ] {
        let copies = AtomicU32::new(0);
        let before = bucket.versions().await.len();
        let gateway = Gateway::start(scenario.servers.s3_port, move |asked| match asked.method.as_str() {
            "PUT" if asked.path.contains(contract::HOLD_OF_RESTORE) => Passed::On,
            "PUT" if copies.fetch_add(1, Ordering::Relaxed) >= 10 => fault,
            _ => Passed::On,
        })
        .await;
        let mut command = point.command(RestoreStep::Objects, &EXCEPT);
        command.env(contract::ENV_S3_ENDPOINT, &gateway.endpoint);
        let step = point.restore.run_during(command, async |_| {}).await;
        let RestoreOutcome::Failed { message } = &step.outcome else { panic!("{step:?}") };
        assert!(message.contains(words), "{message}");
        assert_eq!(bucket.versions().await.len(), before + 10, "what is done stays, and nothing else is written");
    }
    assert_eq!(point.done(&EXCEPT).await.objects, Some(10));
    assert_eq!(bucket.objects().await, expected);
}

#[tokio::test]
async fn a_restore_that_is_told_to_stop_ends_between_two_objects() {
    let scenario = Scenario::new("objects-stopped").await;
    let bucket = Versioned::seaweed(&scenario).await;
    let keys = || (0..200).map(|number| format!("files/{number}"));
    bucket.put_all(keys(), "first").await;
    let expected = bucket.objects().await;
    let point = bucket.point().await;
    bucket.put_all(keys(), "second").await;
    let before = bucket.versions().await.len();
    let command = point.command(RestoreStep::Objects, &EXCEPT);
    let step = point.restore.run_during(command, async |pid| {
        until("some objects", async || bucket.has_begun().await).await;
        signal("TERM", pid);
    });
    let step = step.await;
    assert_eq!(step.status.code(), Some(143), "{step:?}");
    let done = bucket.versions().await.len() - before;
    let rest = point.done(&EXCEPT).await.objects.expect("a number");
    assert_eq!(done as u64 + rest, 200, "each object is copied once");
    assert_eq!(bucket.objects().await, expected);
}

#[tokio::test]
async fn a_version_that_is_gone_is_found_before_anything_is_written() {
    let scenario = Scenario::new("objects-missing").await;
    let bucket = Versioned::seaweed(&scenario).await;
    bucket.put_all((0..6).map(|number| format!("gone/{number}")), "first").await;
    bucket.put("there", "first").await;
    let point = bucket.point().await;
    let listed = bucket.client.versions("gone/").await.expect("versions");
    bucket.put_all((0..5).map(|number| format!("gone/{number}")), "second").await;
    bucket.put("there", "second").await;
    // The current version of one that did not change: its content is there, under another version.
    bucket.put("gone/5", "first gone/5").await;
    for version in &listed {
        bucket.client.delete_version(version).await.expect("delete");
    }
    let (reason, message) = point.refused(&[]).await;
    assert_eq!(reason, RestoreRefusal::VersionMissing, "{message}");
    assert!(message.contains("of 5 objects") && message.contains("and 2 more"), "{message}");
    assert!(message.contains("gone/") && message.contains("no object was written"), "{message}");
    // What nobody needs to put back may be gone.
    for number in 0..5 {
        let key = format!("gone/{number}");
        bucket.put(&key, &format!("first {key}")).await;
    }
    assert_eq!(point.done(&[]).await.objects, Some(1));
}

/// Moto asks for no signature.
async fn suspend(target: &BucketTarget) {
    let address = target.endpoint.trim_start_matches("http://");
    let body = "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>";
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("moto");
    let head = format!(
        "PUT /{}?versioning HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        target.bucket,
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_bucket_without_versions_is_refused() {
    let scenario = Scenario::new("objects-versioning").await;
    let (points, bucket) = (Versioned::seaweed(&scenario).await, Versioned::moto(&scenario).await);
    bucket.put("a", "first").await;
    let point = points.point_beside(&bucket.target).await;
    bucket.put("a", "second").await;
    let before = bucket.versions().await;
    suspend(&bucket.target).await;
    let never = BucketTarget { bucket: "objects-never".to_owned(), ..bucket.target.clone() };
    BucketClient::new(&never, Timeouts::CHECK).expect("client").create().await.expect("bucket");
    for (target, state) in [(&bucket.target, "is suspended"), (&never, "is off")] {
        let name = target.bucket.clone();
        scenario.change_manifest(&point.restore.point, |manifest| manifest["bucket"]["bucket"] = name.into()).await;
        for (step, more) in [(RestoreStep::Check, &BUCKET[..]), (RestoreStep::Objects, &[])] {
            let command = beside(point.command(step, more), target);
            let (reason, message) = point.restore.run_during(command, async |_| {}).await.refused();
            assert!(reason == RestoreRefusal::BucketNotVersioned && message.contains(state), "{step:?}: {message}");
            assert!(message.contains("bucket.versioning"), "{message}");
        }
    }
    assert_eq!(bucket.versions().await, before);
}

#[tokio::test]
async fn a_point_without_a_list_or_with_another_one_is_refused() {
    let scenario = Scenario::new("objects-points").await;
    let bucket = Versioned::seaweed(&scenario).await;
    bucket.put("a", "first").await;
    bucket.put("b", "first").await;
    let point = bucket.point().await;
    bucket.put("a", "second").await;
    let id = point.restore.point.clone();
    let list = format!("{}{id}/{OBJECTS_FILE}", scenario.prefix);
    let good = bucket.client.get(&list).await.expect("get").expect("a list");
    let other = {
        let dumped = bucket.point().await;
        bucket.client.get(&format!("{}{}/{OBJECTS_FILE}", scenario.prefix, dumped.restore.point)).await.expect("get")
    };
    for (body, words) in [(other.expect("a list"), "another's"), (good[..good.len() - 1].to_vec(), "cut off")] {
        bucket.client.put(&list, body).await.expect("put");
        let (reason, message) = point.refused(&[]).await;
        assert!(reason == RestoreRefusal::PointCorrupt && message.contains(words), "{reason:?}: {message}");
    }
    bucket.client.put(&list, good).await.expect("put");
    scenario.change_manifest(&id, |manifest| manifest["bucket"]["count"] = json!(3)).await;
    let (reason, message) = point.refused(&[]).await;
    assert!(reason == RestoreRefusal::PointCorrupt && message.contains("lists 2 objects, and 3"), "{message}");
    scenario.change_manifest(&id, |manifest| manifest["bucket"]["bucket"] = json!("another")).await;
    let (reason, message) = point.refused(&[]).await;
    assert!(reason == RestoreRefusal::AnotherBucket && message.contains("bucket \"another\""), "{message}");
    scenario.change_manifest(&id, |manifest| drop(manifest.as_object_mut().expect("object").remove("bucket"))).await;
    let (reason, message) = point.refused(&[]).await;
    assert!(reason == RestoreRefusal::PointIncomplete && message.contains("holds the database only"), "{message}");
}

/// A step that is told of a bucket of the application.
pub(crate) fn beside(mut command: Command, target: &BucketTarget) -> Command {
    command.env(contract::ENV_OBJECTS_ENDPOINT, &target.endpoint).env(contract::ENV_OBJECTS_REGION, &target.region);
    command.env(contract::ENV_OBJECTS_BUCKET, &target.bucket).env(contract::ENV_OBJECTS_FORCE_PATH_STYLE, "true");
    let keys = target.keys.as_ref().expect("keys");
    command.env(contract::ENV_OBJECTS_ACCESS_KEY_ID, &keys.id);
    command.env(contract::ENV_OBJECTS_SECRET_ACCESS_KEY, &keys.secret);
    command
}

/// The points are in one bucket, and the objects in another.
#[tokio::test]
async fn the_bucket_of_the_application_may_be_another_one() {
    let scenario = Scenario::new("objects-elsewhere").await;
    let (points, bucket) = (Versioned::seaweed(&scenario).await, Versioned::moto(&scenario).await);
    points.put("a", "of the points").await;
    bucket.put("a", "first").await;
    let point = points.point_beside(&bucket.target).await;
    bucket.put("a", "second").await;
    bucket.put("backups/mine", "of the application").await;
    points.put("a", "second").await;
    let before = points.versions().await;
    let command = beside(point.command(RestoreStep::Objects, &[]), &bucket.target);
    let restored = point.restore.run_during(command, async |_| {}).await.done();
    assert_eq!(restored.objects, Some(2), "one is newer: no backups are in this bucket");
    assert_eq!(bucket.objects().await, [("a".to_owned(), b"first".to_vec())].into());
    assert_eq!(points.versions().await, before, "the bucket of the points stays as it is");
}
