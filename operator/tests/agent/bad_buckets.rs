//! Buckets that answer with errors, slowly, or break off, and clocks that are off: what is told, and that nothing is lost by it.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rorun_operator::agent::BackupId;
use rorun_operator::contract::{
    self, CopyTarget, DUMP_FILE, DrillFault, MANIFEST_FILE, MARKER_FILE, RestoreOutcome, RestoreStep, Verdict,
};
use rorun_operator::services::bucket::{BucketClient, Timeouts};

use crate::drill_faults::{not_judged, verified};
use crate::drills::{complete, drill, failed};
use crate::gateway::{Asked, Gateway, Passed};
use crate::points::{SCHEMA, target};
use crate::restores::{ROWS, Restore};
use crate::scenario::Scenario;

fn reads(asked: &Asked, end: &str) -> bool {
    asked.method == "GET" && asked.path.contains(end)
}

/// A bucket before which somebody decides.
async fn before(scenario: &Scenario, decide: impl Fn(&Asked) -> Passed + Send + Sync + 'static) -> Gateway {
    Gateway::start(scenario.servers.s3_port, decide).await
}

/// Once, what is asked for breaks off.
fn once(end: &'static str) -> impl Fn(&Asked) -> Passed {
    let broken = AtomicBool::new(false);
    move |asked| {
        let breaks = reads(asked, end) && !broken.swap(true, Ordering::SeqCst);
        if breaks { Passed::Broken } else { Passed::On }
    }
}

/// The first two answers to certain questions are errors.
fn busy(which: fn(&Asked) -> bool) -> impl Fn(&Asked) -> Passed {
    let errors = AtomicU32::new(0);
    move |asked| {
        let fails = which(asked) && errors.fetch_add(1, Ordering::SeqCst) < 2;
        if fails { Passed::Answered(503, "SlowDown") } else { Passed::On }
    }
}

async fn with_objects(name: &'static str) -> (Scenario, String) {
    let scenario = Scenario::new(name).await;
    scenario.sql(SCHEMA).await;
    scenario.fill(2).await;
    scenario.bucket.enable_versioning().await.expect("versioning");
    for number in 0..10 {
        scenario.bucket.put(&format!("uploads/{number}"), format!("receipt {number}").into()).await.expect("put");
    }
    let mut dump = scenario.command();
    dump.args([contract::ARG_OBJECTS, contract::ARG_OBJECTS_EXCEPT, "backups/"]);
    let point = scenario.run(dump).await.complete();
    let mark = verified(&scenario, &point.id).await;
    (scenario, mark)
}

#[tokio::test]
async fn a_drill_condemns_no_point_for_a_bad_connection() {
    let (scenario, mark) = with_objects("bad-drill").await;
    let by = async |gateway: &Gateway| {
        drill(&scenario, |command| {
            command.env(contract::ENV_S3_ENDPOINT, &gateway.endpoint);
        })
        .await
    };
    let fails = |asked: &Asked, end: &str, how: Passed| if reads(asked, end) { how } else { Passed::On };
    for (end, how) in [
        (DUMP_FILE, Passed::Answered(500, "InternalError")),
        (DUMP_FILE, Passed::Broken),
        ("/uploads/", Passed::Answered(500, "InternalError")),
        ("/uploads/", Passed::Broken),
    ] {
        let gateway = before(&scenario, move |asked| fails(asked, end, how)).await;
        not_judged(&scenario, &mark, failed(by(&gateway).await), "\"bad-drill\"").await;
    }
    for gateway in [
        before(&scenario, once(DUMP_FILE)).await,
        before(&scenario, once("/uploads/")).await,
        before(&scenario, busy(|asked| reads(asked, MANIFEST_FILE))).await,
        before(&scenario, |_| Passed::Slow(Duration::from_millis(400))).await,
    ] {
        let record = complete(by(&gateway).await);
        assert_eq!((record.verdict, record.objects, record.message.as_str()), (Verdict::Whole, Some(10), ""));
    }
}

#[tokio::test]
async fn a_drill_finds_an_object_whose_content_is_not_that_of_its_etag() {
    let (scenario, mark) = with_objects("bad-object").await;
    let damaged = |end: &'static str| {
        move |asked: &Asked| {
            if reads(asked, end) { Passed::Translated(|text| text.replace("receipt", "receipz")) } else { Passed::On }
        }
    };
    let by = async |gateway: &Gateway| {
        drill(&scenario, |command| {
            command.env(contract::ENV_S3_ENDPOINT, &gateway.endpoint);
        })
        .await
    };
    // As of a server whose tags are no MD5 of anything.
    let record = complete(by(&before(&scenario, damaged("/uploads/")).await).await);
    assert!(record.message.contains("no ETag of the objects is the MD5"), "{}", record.message);
    let (fault, message) = failed(by(&before(&scenario, damaged("/uploads/7")).await).await);
    assert!(fault == DrillFault::ObjectsDiffer && message.starts_with("uploads/7 in version"), "{message}");
    assert!(message.ends_with("its content has another MD5 than its ETag says"), "{message}");
    assert_eq!(scenario.bucket.size(&mark).await.expect("size"), None, "what a drill found wrong is still verified");
}

#[tokio::test]
async fn a_copy_that_broke_off_is_told_and_made_up_for() {
    let scenario = Scenario::new("bad-copy").await;
    scenario.sql(SCHEMA).await;
    scenario.fill(2).await;
    let there = BucketClient::new(&scenario.servers.bucket("bad-copy-there"), Timeouts::CHECK).expect("client");
    there.create().await.expect("bucket");
    let copy = async |from: Option<&Gateway>, to: &Gateway| {
        let mut target: CopyTarget = target(&scenario, "bad-copy-there", "there/");
        target.location.endpoint.clone_from(&to.endpoint);
        target.location.ca = None;
        target.location.region = "us-east-1".to_owned();
        let mut command = scenario.command();
        command.env(contract::ENV_COPIES, serde_json::to_string(&[&target]).expect("JSON"));
        if let Some(from) = from {
            command.env(contract::ENV_S3_ENDPOINT, &from.endpoint);
        }
        scenario.run(command).await.complete()
    };
    let manifests = async || {
        let all = there.list("there/").await.expect("list");
        all.into_iter().filter(|object| object.key.ends_with(MANIFEST_FILE)).count()
    };
    let good = before(&scenario, |_| Passed::On).await;
    let failing = before(&scenario, |asked: &Asked| match asked.method.as_str() {
        "PUT" | "POST" => Passed::Answered(500, "InternalError"),
        _ => Passed::On,
    });
    let refused = copy(None, &failing.await).await;
    assert!(refused.not_copied.is_some_and(|why| why.contains("bad-copy-there") && why.contains("InternalError")));
    assert_eq!((refused.copied, manifests().await), (0, 0));
    let breaks = before(&scenario, |asked| if reads(asked, DUMP_FILE) { Passed::Broken } else { Passed::On }).await;
    let broken = copy(Some(&breaks), &good).await;
    assert!(broken.not_copied.is_some(), "{broken:?}");
    assert_eq!((broken.copied, manifests().await), (0, 0), "half of a dump counts as a copy");
    let slow = before(&scenario, |_| Passed::Slow(Duration::from_millis(100))).await;
    let made_up = copy(Some(&slow), &slow).await;
    assert_eq!((made_up.copied, made_up.not_copied, manifests().await), (3, None, 3));
    let again = copy(None, &before(&scenario, busy(|_| true)).await).await;
    assert_eq!((again.not_copied, manifests().await), (None, 4));
}

#[tokio::test]
async fn a_restore_from_a_bad_bucket_fails_whole_or_succeeds() {
    let scenario = Scenario::new("bad-restore").await;
    scenario.fill(2).await;
    let point = scenario.point(2000).await;
    scenario.sql("DELETE FROM receipts WHERE n > 3").await;
    let by = async |restore: &Restore<'_>, gateway: &Gateway| {
        let mut command = restore.command(RestoreStep::Copy, &[]);
        command.env(contract::ENV_S3_ENDPOINT, &gateway.endpoint);
        restore.run_during(command, async |_| {}).await
    };
    for how in [Passed::Answered(500, "InternalError"), Passed::Broken] {
        let gateway = before(&scenario, move |asked| if reads(asked, DUMP_FILE) { how } else { Passed::On }).await;
        let restore = Restore::of(&scenario, &point);
        let step = by(&restore, &gateway).await;
        let RestoreOutcome::Failed { message } = &step.outcome else { panic!("{step:?}") };
        assert!(message.contains("bad-restore"), "it names the bucket: {message}");
        assert_eq!(scenario.sql(ROWS).await, "3", "what is live is as it was");
        let (reason, message) = restore.refused(RestoreStep::Switch, &[]).await;
        assert_eq!(reason, contract::RestoreRefusal::CopyMissing, "{message}");
    }
    for (number, gateway) in [
        before(&scenario, once(DUMP_FILE)).await,
        before(&scenario, busy(|_| true)).await,
        before(&scenario, |_| Passed::Slow(Duration::from_millis(400))).await,
    ]
    .into_iter()
    .enumerate()
    {
        let restore = Restore { uid: format!("uid-{number}"), ..Restore::of(&scenario, &point) };
        assert_eq!(by(&restore, &gateway).await.done().tables, Some(2));
        assert_eq!(scenario.sql_in(&restore.copy(), ROWS).await, "2000");
    }
}

fn hours_from_now(hours: i64) -> String {
    #[expect(clippy::disallowed_methods, reason = "the agent under test looks at the same clock")]
    let now = Timestamp::now();
    BackupId::new(now + SignedDuration::from_hours(hours)).to_string()
}

/// A run by a clock that was ahead, and one by a clock that was behind: the next run removes neither, nor what is older than them.
#[tokio::test]
async fn points_of_a_clock_that_is_off_by_hours_stay() {
    let scenario = Scenario::new("clocks").await;
    scenario.sql("CREATE TABLE t (id int)").await;
    let mut expected = BTreeSet::from([MARKER_FILE.to_owned()]);
    // Seven days is what is kept, and two at least.
    for hours in [-7 * 24 + 2, -2, 2] {
        expected.extend(scenario.put_backup(&hours_from_now(hours), Some(&scenario.owner())).await);
    }
    let old = scenario.put_backup(&hours_from_now(-7 * 24 - 2), Some(&scenario.owner())).await;
    // A dump that a clock behind has begun, and has not ended.
    let running = format!("{}/{DUMP_FILE}", hours_from_now(-2));
    scenario.bucket.put(&format!("{}{running}", scenario.prefix), vec![1]).await.expect("put");
    expected.insert(running);
    let record = scenario.dump().await;
    expected.extend([DUMP_FILE, MANIFEST_FILE].map(|file| format!("{}/{file}", record.id)));
    assert_eq!(record.removed, 1);
    assert_eq!(scenario.keys().await, expected, "{old:?} alone goes");
    // The order is that of the clocks, and a drill of the point that was made last names it.
    assert!(record.id > hours_from_now(-1) && record.id < hours_from_now(1));
    let restored = drill(&scenario, |command| {
        command.args(["--point", &record.id]);
    });
    assert_eq!(complete(restored.await).id, record.id);
}

/// Servers refuse requests that are signed at another time.
#[tokio::test]
async fn a_clock_that_the_bucket_refuses_is_named() {
    let scenario = Scenario::new("skewed").await;
    scenario.sql("CREATE TABLE t (id int)").await;
    let gateway = before(&scenario, |_| Passed::Answered(403, "RequestTimeTooSkewed")).await;
    let by = |mut command: Command| {
        command.env(contract::ENV_S3_ENDPOINT, &gateway.endpoint);
        command
    };
    let message = scenario.failure(by(scenario.command())).await;
    assert!(message.contains("the clocks of this node and of the server differ"), "{message}");
    scenario.assert_nothing_left().await;
    let drilled = drill(&scenario, |command| {
        command.env(contract::ENV_S3_ENDPOINT, &gateway.endpoint);
    });
    let (fault, message) = failed(drilled.await);
    assert!(fault == DrillFault::NotRun && message.contains("the clocks of this node"), "{message}");
}
