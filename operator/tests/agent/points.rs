//! Recovery points: what a manifest says of the database and the bucket, the catalogue, encryption, copies, and what is never
//! removed.

use std::process::Command;

use rorun_operator::agent::{ListedObject, Manifest};
use rorun_operator::contract::{
    self, BucketLocation, COPIED, CopyTarget, DUMP_FILE, DumpRecord, MANIFEST_FILE, OBJECTS_FILE, VERIFIED_FILE,
    hold_file,
};
use rorun_operator::services::bucket::{BucketClient, Timeouts};
use serde_json::Value;

use crate::prunes::days_ago;
use crate::scenario::Scenario;
use crate::servers::PASSWORD;

pub(crate) const SCHEMA: &str = "
    CREATE TABLE receipts (id int PRIMARY KEY, shop text);
    INSERT INTO receipts SELECT n, 'shop ' || n FROM generate_series(1, 2000) n;
    CREATE SCHEMA \"Odd.name\"; CREATE TABLE \"Odd.name\".\"T\" (n int); INSERT INTO \"Odd.name\".\"T\" VALUES (1), (2);
    CREATE TABLE parent (n int); CREATE TABLE child () INHERITS (parent);
    INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2), (3);
    CREATE TABLE parts (n int) PARTITION BY RANGE (n); CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (9);
    INSERT INTO parts VALUES (4);
    CREATE MATERIALIZED VIEW totals AS SELECT count(*) FROM receipts;
    CREATE MATERIALIZED VIEW later AS SELECT count(*) FROM receipts WITH NO DATA;
    CREATE TABLE \"_prisma_migrations\" (migration_name text, finished_at timestamptz, rolled_back_at timestamptz);
    INSERT INTO \"_prisma_migrations\" VALUES ('20260101_init', '2026-01-01', NULL), ('20260201_tax', '2026-02-01', NULL),
        ('20260301_bad', '2026-03-01', '2026-03-02'), ('20260401_failed', NULL, NULL);
    SELECT lo_create(0); SELECT lo_create(0);";

pub(crate) async fn manifest(scenario: &Scenario, id: &str) -> Manifest {
    let key = format!("{}{id}/{MANIFEST_FILE}", scenario.prefix);
    serde_json::from_slice(&scenario.bucket.get(&key).await.expect("get").expect("manifest")).expect("manifest")
}

/// The arguments and variables of a run, as an operator gives them whose spec asks for something.
async fn dump_with(scenario: &Scenario, change: impl FnOnce(&mut Command)) -> DumpRecord {
    let mut command = scenario.command();
    change(&mut command);
    scenario.run(command).await.complete()
}

#[tokio::test]
async fn a_manifest_says_what_the_database_held_in_the_snapshot_of_the_dump() {
    let scenario = Scenario::new("contents").await;
    scenario.sql(SCHEMA).await;
    let record = scenario.dump().await;
    let manifest = manifest(&scenario, &record.id).await;
    let contents = manifest.contents.expect("contents");
    let rows: Vec<_> = contents.rows.iter().map(|(name, rows)| (name.as_str(), *rows)).collect();
    let expected = [
        ("\"Odd.name\".\"T\"", 2),
        ("public._prisma_migrations", 4),
        ("public.child", 2),
        ("public.low", 1),
        ("public.parent", 1),
        ("public.receipts", 2000),
    ];
    assert_eq!(rows, expected);
    assert_eq!(record.rows, Some(2010));
    assert_eq!((contents.large_objects, contents.encoding.as_str()), (2, "UTF8"));
    assert_eq!(contents.last_migration.as_deref(), Some("20260201_tax"));
    let views: Vec<_> = contents.materialized_views.iter().map(|(name, there)| (name.as_str(), *there)).collect();
    assert_eq!(views, [("public.later", false), ("public.totals", true)]);
    assert!(contents.roles.contains(&"postgres".to_owned()), "{:?}", contents.roles);
    assert_eq!((contents.not_counted, record.not_whole), (None, None));
    let size: u64 = scenario.sql("SELECT pg_database_size(current_database())").await.parse().expect("a number");
    let told = contents.database_bytes.expect("a size");
    assert!(told.abs_diff(size) < size / 4 && record.database_bytes == Some(told), "{told} {size}");
    // Whoever knows nothing of all this still reads it.
    assert_eq!(manifest.api_version, "backup.rorun.app/v1");
}

/// The lock and `pg_dump` need two connections. With no third one the dump is made all the same, and says what it lacks.
#[tokio::test]
async fn a_role_with_two_connections_gets_a_dump_without_numbers() {
    let scenario = Scenario::new("two-connections").await;
    let role = "CREATE ROLE two LOGIN PASSWORD 'two' CONNECTION LIMIT 2; GRANT SELECT ON t TO two";
    scenario.sql(&format!("CREATE TABLE t (n int); {role}")).await;
    let url = format!("postgres://two:two@127.0.0.1:{}/two-connections", scenario.servers.postgres_port);
    let record = dump_with(&scenario, |command| {
        command.env(contract::ENV_DATABASE_URL, &url);
    })
    .await;
    assert!(record.not_whole.is_some_and(|why| why.contains("a third connection")));
    assert!(manifest(&scenario, &record.id).await.contents.is_some_and(|contents| contents.rows.is_empty()));
}

#[tokio::test]
async fn the_bucket_half_counts_only_in_a_bucket_with_versioning() {
    let scenario = Scenario::new("objects").await;
    scenario.sql("CREATE TABLE t (n int)").await;
    let objects = |command: &mut Command| {
        command.args([contract::ARG_OBJECTS, contract::ARG_OBJECTS_EXCEPT, "backups/"]);
    };
    let record = dump_with(&scenario, objects).await;
    let why = record.not_whole.expect("a reason");
    assert!(why.contains("the database only") && why.contains("versioning of bucket \"objects\" is off"), "{why}");
    scenario.bucket.enable_versioning().await.expect("versioning");
    for number in 0..1200 {
        let key = format!("uploads/{number}");
        scenario.bucket.put(&key, format!("receipt {number}").into_bytes()).await.expect("put");
    }
    scenario.bucket.put("uploads/7", b"a newer receipt".to_vec()).await.expect("put");
    scenario.bucket.delete("uploads/8").await.expect("delete");
    let record = dump_with(&scenario, objects).await;
    assert_eq!((record.objects, record.not_whole), (Some(1199), None));
    let manifest = manifest(&scenario, &record.id).await;
    let half = manifest.bucket.as_ref().expect("a bucket half");
    assert_eq!((half.bucket.as_str(), half.count), ("objects", 1199));
    assert!(manifest.object(OBJECTS_FILE).is_some_and(|object| object.size < 60_000), "it is compressed");
    let key = format!("{}{}/{OBJECTS_FILE}", scenario.prefix, record.id);
    let text = zstd::decode_all(&*scenario.bucket.get(&key).await.expect("get").expect("a list")).expect("zstd");
    let listed: Vec<ListedObject> = text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("JSON"))
        .collect();
    assert!(listed.iter().all(|object| object.key.starts_with("uploads/") && object.key != "uploads/8"));
    let seven = listed.iter().find(|object| object.key == "uploads/7").expect("it is listed");
    let mut body = scenario.bucket.read("uploads/7", Some(&seven.version_id)).await.expect("read").expect("a version");
    let mut found = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut body.content, &mut found).await.expect("read");
    assert_eq!(found, "a newer receipt");
}

#[tokio::test]
async fn the_catalogue_is_read_without_a_cluster() {
    let scenario = Scenario::new("catalogue").await;
    scenario.sql(SCHEMA).await;
    let record = scenario.dump().await;
    let [cut, _] = scenario.put_backup(&days_ago(2), Some(&scenario.owner())).await;
    scenario.bucket.put(&format!("{}{cut}", scenario.prefix), vec![1; 4]).await.expect("put");
    let hold = format!("{}{}/{}", scenario.prefix, record.id, hold_file("aaaa"));
    scenario.bucket.put(&hold, b"{}".to_vec()).await.expect("put");
    let running = format!("{}{}/{DUMP_FILE}", scenario.prefix, days_ago(1));
    scenario.bucket.put(&running, vec![1]).await.expect("put");
    let list = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rorun-operator"));
        command.args(["recovery-points", "--bucket", "catalogue", "--endpoint"]);
        command.arg(format!("http://127.0.0.1:{}", scenario.servers.s3_port)).args(more);
        command.env_clear().env("AWS_ACCESS_KEY_ID", "owner").env("AWS_SECRET_ACCESS_KEY", PASSWORD);
        let output = command.output().expect("run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let points: Vec<Value> = serde_json::from_str(&list(&["-o", "json"])).expect("JSON");
    let told: Vec<_> = points.iter().map(|point| (point["whole"].as_bool(), point["broken"].as_str())).collect();
    let expected = [
        (Some(false), Some("database.dump has 4 bytes instead of 5")),
        (Some(false), Some("it has no manifest: a run goes on, or was broken off")),
        (Some(true), None),
    ];
    assert_eq!(told, expected);
    assert_eq!(points[2]["rows"], 2010);
    assert_eq!(points[2]["holds"], serde_json::json!(["hold-release-aaaa.json"]));
    let table = list(&["--prefix", &scenario.prefix]);
    assert_eq!(table.lines().count(), 4);
    assert!(
        table.lines().any(|line| line.contains(&record.id) && line.contains("whole") && line.ends_with("held")),
        "{table}"
    );
    assert_eq!(list(&["--prefix", "elsewhere/"]).lines().count(), 1);
}

#[tokio::test]
async fn a_dump_is_encrypted_for_its_recipients() {
    let scenario = Scenario::new("encrypted").await;
    // More than a part, and not much more: without optimisation encryption is slow.
    scenario.fill(9).await;
    let (one, other) = (age::x25519::Identity::generate(), age::x25519::Identity::generate());
    let recipients = [one.to_public().to_string(), other.to_public().to_string()];
    let record = dump_with(&scenario, |command| {
        for recipient in &recipients {
            command.args([contract::ARG_RECIPIENT, recipient]);
        }
    })
    .await;
    assert_eq!(manifest(&scenario, &record.id).await.recipients, recipients);
    let key = format!("{}{}/{DUMP_FILE}", scenario.prefix, record.id);
    let sealed = scenario.bucket.get(&key).await.expect("get").expect("dump");
    assert_eq!(i64::try_from(sealed.len()).expect("size"), record.size_bytes);
    assert!(record.size_bytes > 8 << 20 && sealed.starts_with(b"age-encryption.org/v1"), "{record:?}");
    let plain = age::decrypt(&other, &sealed).expect("decrypt");
    let restored = scenario.restore(&plain).await;
    let sum = "SELECT md5(string_agg(md5(data), '' ORDER BY n)) FROM filler";
    assert_eq!(scenario.sql_in(&restored, sum).await, scenario.sql(sum).await);
}

pub(crate) fn target(scenario: &Scenario, bucket: &str, prefix: &str) -> CopyTarget {
    let location = BucketLocation {
        endpoint: format!("https://localhost:{}", scenario.servers.s3_tls_port),
        region: "eu-central-1".to_owned(),
        bucket: bucket.to_owned(),
        force_path_style: true,
        access_key_id: Some("owner".to_owned()),
        secret_access_key: Some(PASSWORD.to_owned()),
        session_token: None,
        ca: Some(std::fs::read_to_string(&scenario.servers.ca_file).expect("authority")),
    };
    CopyTarget { location, prefix: prefix.to_owned(), retention_days: 3, minimum_kept: 1 }
}

#[tokio::test]
async fn points_are_copied_compared_and_kept_by_a_retention_of_their_own() {
    let scenario = Scenario::new("copies").await;
    let there = BucketClient::new(&scenario.servers.bucket("copies-there"), Timeouts::CHECK).expect("client");
    there.create().await.expect("bucket");
    scenario.sql("CREATE TABLE t (n int)").await;
    let first = scenario.dump().await;
    // A point of before, whose manifest says the checksum of another dump.
    let wrong = days_ago(1);
    scenario.put_backup(&wrong, Some(&scenario.owner())).await;
    let target = target(&scenario, "copies-there", "from-eu/");
    let copies = serde_json::to_string(&[&target]).expect("JSON");
    let copy = async || {
        dump_with(&scenario, |command| {
            command.env(contract::ENV_COPIES, &copies);
        })
        .await
    };
    let second = copy().await;
    assert_eq!(second.copied, 2, "{second:?}");
    let why = second.not_copied.expect("one is not copied");
    assert!(why.contains("copies-there") && why.contains("another checksum than its manifest says"), "{why}");
    for id in [&first.id, &second.id] {
        for file in [DUMP_FILE, MANIFEST_FILE] {
            let body = there.get(&format!("from-eu/{id}/{file}")).await.expect("get");
            assert_eq!(body, scenario.bucket.get(&format!("{}{id}/{file}", scenario.prefix)).await.expect("get"));
            assert!(body.is_some());
        }
    }
    assert!(there.list(&format!("from-eu/{wrong}/")).await.expect("list").is_empty(), "a wrong copy stays");
    let marks = scenario.keys().await.iter().filter(|key| key.contains(COPIED)).count();
    assert_eq!(marks, 2, "what is copied says so");
    // An old copy goes by the numbers of the copy, and what another owner has there stays.
    for (id, owner) in [(days_ago(9), scenario.owner()), (days_ago(10), "another/copies".to_owned())] {
        let [dump, manifest] = scenario.put_backup(&id, Some(&owner)).await;
        for file in [dump, manifest] {
            let body = scenario.bucket.get(&format!("{}{file}", scenario.prefix)).await.expect("get").expect("body");
            there.put(&format!("from-eu/{file}"), body).await.expect("put");
            scenario.bucket.delete(&format!("{}{file}", scenario.prefix)).await.expect("delete");
        }
    }
    for file in [DUMP_FILE, MANIFEST_FILE] {
        scenario.bucket.delete(&format!("{}{wrong}/{file}", scenario.prefix)).await.expect("delete");
    }
    let third = copy().await;
    assert_eq!((third.copied, third.not_copied), (1, None));
    let left = there.list("from-eu/").await.expect("list");
    let has = |id: &str| left.iter().any(|object| object.key.contains(id));
    assert!(!has(&days_ago(9)[..8]) && has(&days_ago(10)[..8]), "{left:?}");
}

#[tokio::test]
async fn what_was_copied_nowhere_or_is_the_last_verified_one_stays() {
    let scenario = Scenario::new("spared").await;
    scenario.sql("CREATE TABLE t (n int)").await;
    let ids: Vec<String> = [50, 40, 30, 20, 10].into_iter().map(days_ago).collect();
    for id in &ids {
        scenario.put_backup(id, Some(&scenario.owner())).await;
    }
    let there = async || {
        let keys = scenario.keys().await;
        ids.iter().map(|id| keys.contains(&format!("{id}/{MANIFEST_FILE}"))).collect::<Vec<_>>()
    };
    // Its bucket is away, so nothing was copied, and nothing goes: neither what was copied to a bucket that the spec named before.
    let before = format!("{}{}/{COPIED}0123456789ab.json", scenario.prefix, ids[0]);
    scenario.bucket.put(&before, b"{}".to_vec()).await.expect("put");
    let missing = serde_json::to_string(&[target(&scenario, "no-such-bucket", "x/")]).expect("JSON");
    let record = dump_with(&scenario, |command| {
        command.env(contract::ENV_COPIES, &missing);
    })
    .await;
    assert!(record.not_copied.is_some_and(|why| why.contains("no-such-bucket")));
    assert_eq!(there().await, [true; 5]);
    // Drills take place, and none has succeeded: no newer one proves to be as good.
    dump_with(&scenario, |command| {
        command.arg(contract::ARG_VERIFIED);
    })
    .await;
    assert_eq!(there().await, [true; 5]);
    let verified = format!("{}{}/{VERIFIED_FILE}", scenario.prefix, ids[1]);
    scenario.bucket.put(&verified, b"{}".to_vec()).await.expect("put");
    dump_with(&scenario, |command| {
        command.arg(contract::ARG_VERIFIED);
    })
    .await;
    assert_eq!(there().await, [false, true, true, true, true]);
    // Without drills only the last verified one is more than the others.
    scenario.dump().await;
    assert_eq!(there().await, [false, true, false, false, false]);
}
