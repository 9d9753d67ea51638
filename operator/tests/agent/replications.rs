//! The bucket of the application is replicated: what has arrived in the other bucket need not be copied, once an object has proven that
//! anything arrives. No server here replicates, so a gateway stands for one that does: what is in the one bucket is in the other, in
//! the same versions. Where only the probe is to arrive, the test copies it.

use rorun_operator::agent::Manifest;
use rorun_operator::contract::{
    self, CopyTarget, DumpRecord, MANIFEST_FILE, ReplicationRule, RestoreRefusal, RestoreStep,
};
use rorun_operator::services::bucket::{BucketClient, BucketTarget, Timeouts};

use crate::gateway::{Gateway, Passed};
use crate::moto::Moto;
use crate::points::target as copy_target;
use crate::process::until;
use crate::restores::Restore;
use crate::restores::objects::{BUCKET, beside};
use crate::scenario::Scenario;
use crate::servers::location;

const PREFIX: &str = "from-eu/n/s/";

/// A stack whose points are in one bucket, whose objects are in another, and whose copies go to a third.
struct Stack {
    scenario: Scenario,
    source: BucketTarget,
    there: BucketClient,
}

fn client(target: &BucketTarget) -> BucketClient {
    BucketClient::new(target, Timeouts::CHECK).expect("client")
}

impl Stack {
    async fn new(name: &'static str, copies: &str, source: BucketTarget) -> Self {
        let scenario = Scenario::new(name).await;
        scenario.sql("CREATE TABLE t (n int)").await;
        let there = client(&scenario.servers.bucket(copies));
        there.create().await.expect("bucket");
        let bucket = client(&source);
        bucket.create().await.expect("bucket");
        bucket.enable_versioning().await.expect("versioning");
        for key in ["a", "sub/b", "c"] {
            bucket.put(key, key.into()).await.expect("put");
        }
        Self { scenario, source, there }
    }

    async fn dump(&self, copies: &str, replica: &str, during: impl AsyncFnOnce()) -> DumpRecord {
        let target: CopyTarget = copy_target(&self.scenario, copies, PREFIX);
        let source = location(&self.source);
        let role = "arn:aws:iam::123456789012:role/replication".to_owned();
        let to = ReplicationRule { bucket: replica.to_owned(), region: "us-east-1".to_owned(), role };
        let mut command = self.scenario.command();
        command.args([contract::ARG_OBJECTS, contract::ARG_REPLICA, &serde_json::to_string(&to).expect("JSON")]);
        command.args(["--arrival-seconds", if replica == "nowhere" { "0" } else { "20" }]);
        command.env(contract::ENV_COPIES, serde_json::to_string(&[target]).expect("JSON"));
        command.env(contract::ENV_SOURCE, serde_json::to_string(&source).expect("JSON"));
        let record = self.scenario.run_during(command, async |_| during().await).await.complete();
        assert_eq!((record.not_copied.clone(), record.objects_not_copied.clone()), (None, None));
        assert_eq!((record.objects, record.not_whole.clone()), (Some(3), None), "no probe is listed");
        record
    }

    async fn pool(&self) -> usize {
        self.there.list("from-eu/_objects/n/s/").await.expect("list").len()
    }

    async fn replica_of(&self, record: &DumpRecord) -> Option<String> {
        let key = format!("{PREFIX}{}/{MANIFEST_FILE}", record.id);
        let manifest: Manifest =
            serde_json::from_slice(&self.there.get(&key).await.expect("get").expect("a manifest")).expect("a manifest");
        manifest.bucket.expect("objects").replica
    }
}

#[tokio::test]
async fn what_has_arrived_is_not_copied_and_is_restored_from_there() {
    let moto = Moto::shared().await;
    let gateway = Gateway::start(moto.port, |_| Passed::Renamed("arrived-replica", "arrived-source")).await;
    let at = |bucket: &str| BucketTarget { endpoint: gateway.endpoint.clone(), ..moto.bucket(bucket) };
    let stack = Stack::new("arrived", "arrived-there", at("arrived-source")).await;
    let record = stack.dump("arrived-there", "arrived-replica", async || {}).await;
    assert_eq!((record.copied, stack.pool().await), (1, 0), "the objects are in the replica");
    assert_eq!(stack.replica_of(&record).await.as_deref(), Some("arrived-replica"));
    assert_eq!(client(&stack.source).versions("").await.expect("versions").len(), 3, "nothing is left of the probe");
    let keys = stack.scenario.keys().await;
    assert!(keys.iter().any(|key| key.contains("-replica-")), "it counts as copied: {keys:?}");
    assert!(!keys.iter().any(|key| key.ends_with("-objects.json")), "while the spec replicates there: {keys:?}");

    // The region is lost: the copy of the point, and the replica as the bucket of the stack.
    let restore = Restore { prefix: PREFIX.to_owned(), ..Restore::of(&stack.scenario, &record.id) };
    let check = async |bucket: &str| {
        let mut command = beside(restore.command(RestoreStep::Check, &BUCKET), &at(bucket));
        command.env(contract::ENV_S3_BUCKET, "arrived-there");
        restore.run_during(command, async |_| {}).await
    };
    assert_eq!(check("arrived-replica").await.done().objects, Some(3));
    let (reason, message) = check("arrived-elsewhere").await.refused();
    assert_eq!(reason, RestoreRefusal::AnotherBucket, "{message}");
    assert!(message.contains("give the stack the bucket \"arrived-replica\""), "{message}");

    // Another bucket in the spec: what the former one had is copied.
    let other = stack.dump("arrived-there", "nowhere", async || {}).await;
    assert_eq!(stack.pool().await, 3);
    let keys = stack.scenario.keys().await;
    for point in [&record, &other] {
        let copied = keys.iter().any(|key| key.starts_with(&point.id) && key.ends_with("-objects.json"));
        assert!(copied, "{}: {keys:?}", point.id);
    }
}

/// S3 replicates what is written once the rule is there, and nothing older.
#[tokio::test]
async fn what_the_other_bucket_lacks_is_copied_although_a_probe_arrived() {
    let moto = Moto::shared().await;
    let gateway = Gateway::start(moto.port, |_| Passed::Renamed("", "")).await;
    let at = |bucket: &str| BucketTarget { endpoint: gateway.endpoint.clone(), ..moto.bucket(bucket) };
    let stack = Stack::new("lacking", "lacking-there", at("lacking-source")).await;
    let [source, replica] = [client(&stack.source), client(&at("lacking-replica"))];
    replica.create().await.expect("bucket");
    replica.enable_versioning().await.expect("versioning");
    let copies = async || {
        until("a probe", async || {
            let Some(probe) = source.list("rorun-replication-probe-").await.expect("list").pop() else { return false };
            let Some(body) = source.get(&probe.key).await.expect("get") else { return false };
            replica.put(&probe.key, body).await.expect("put");
            true
        })
        .await;
    };
    let record = stack.dump("lacking-there", "lacking-replica", copies).await;
    assert_eq!(stack.replica_of(&record).await.as_deref(), Some("lacking-replica"), "it is proven");
    assert_eq!(stack.pool().await, 3, "and what it lacks is copied");
    assert_eq!(replica.versions("").await.expect("versions"), [], "nothing is left of the probe");
}

#[tokio::test]
async fn without_a_proof_a_copy_holds_the_objects() {
    let moto = Moto::shared().await;
    let gateway = Gateway::start(moto.port, |_| Passed::Renamed("", "")).await;
    let source = BucketTarget { endpoint: gateway.endpoint.clone(), ..moto.bucket("unproven-source") };
    let stack = Stack::new("unproven", "unproven-there", source).await;
    let nowhere = client(&BucketTarget { endpoint: gateway.endpoint.clone(), ..moto.bucket("nowhere") });
    nowhere.create().await.expect("bucket");
    stack.dump("unproven-there", "nowhere", async || {}).await;
    assert_eq!(stack.pool().await, 3);
    assert_eq!(client(&stack.source).versions("").await.expect("versions").len(), 3, "nothing is left of the probe");
}

/// Where the endpoint has no region in it, as in a zone of another server that has the same name for the bucket.
#[tokio::test]
async fn a_bucket_is_no_replica_of_itself() {
    let moto = Moto::shared().await;
    let gateway = Gateway::start(moto.port, |_| Passed::Renamed("", "")).await;
    let source = BucketTarget { endpoint: gateway.endpoint.clone(), ..moto.bucket("itself-source") };
    let stack = Stack::new("itself", "itself-there", source).await;
    stack.dump("itself-there", "itself-source", async || {}).await;
    assert_eq!(stack.pool().await, 3);
}
