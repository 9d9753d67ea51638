//! What a good run leaves behind.

use std::collections::BTreeSet;

use rorun_operator::agent::Manifest;
use rorun_operator::contract::{self, DUMP_FILE, MANIFEST_FILE};
use rorun_operator::services::bucket::BucketClient;
use sha2::{Digest as _, Sha256};

use crate::scenario::Scenario;

const SUMMARY: &str = "SELECT count(*) || ' ' || md5(string_agg(r::text, '|' ORDER BY r.id)) FROM receipts r";

async fn receipts(scenario: &Scenario) {
    let table = "CREATE TABLE receipts (id int PRIMARY KEY, shop text, total numeric)";
    let rows = "INSERT INTO receipts SELECT n, 'shop \u{20ac} ' || n, n / 7.0 FROM generate_series(1, 2000) n";
    scenario.sql(&format!("{table}; {rows}")).await;
}

async fn manifest(bucket: &BucketClient, prefix: &str, id: &str) -> Manifest {
    let body = bucket.get(&format!("{prefix}{id}/{MANIFEST_FILE}")).await.expect("get").expect("manifest");
    serde_json::from_slice(&body).expect("manifest")
}

#[tokio::test]
async fn a_dump_restores_to_the_same_rows() {
    let scenario = Scenario::new("restores").await;
    receipts(&scenario).await;
    let record = scenario.dump().await;
    let id = &record.id;
    let files = [DUMP_FILE, MANIFEST_FILE].map(|file| format!("{id}/{file}"));
    assert_eq!(scenario.keys().await, files.into_iter().chain([contract::MARKER_FILE.to_owned()]).collect());
    let manifest = manifest(&scenario.bucket, &scenario.prefix, id).await;
    assert_eq!((manifest.id.as_str(), manifest.database.as_str()), (id.as_str(), "restores"));
    let whose = (manifest.owner.as_deref(), manifest.stack_uid.as_deref());
    assert_eq!(whose, (Some(&*scenario.owner()), Some("stack-uid")));
    assert_eq!(record.location, format!("s3://restores/{}{id}/{MANIFEST_FILE}", scenario.prefix));
    let [object] = manifest.objects.as_slice() else { panic!("{manifest:?}") };
    let dump = scenario.bucket.get(&object.key).await.expect("get").expect("dump");
    let sha256 = Sha256::digest(&dump).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    assert_eq!((&object.sha256, object.size), (&sha256, dump.len() as u64));
    assert_eq!((record.sha256, record.size_bytes), (sha256, i64::try_from(dump.len()).expect("size")));
    let restored = scenario.restore(&dump).await;
    assert_eq!(scenario.sql_in(&restored, SUMMARY).await, scenario.sql(SUMMARY).await);
    assert_eq!(scenario.bucket.uploads(&scenario.prefix).await.expect("uploads"), []);
}

#[tokio::test]
async fn a_dump_of_several_parts_is_whole() {
    let scenario = Scenario::new("several-parts").await;
    scenario.fill(20).await;
    let record = scenario.dump().await;
    assert!(record.size_bytes > 16 << 20, "{record:?}");
    let key = format!("{}{}/{DUMP_FILE}", scenario.prefix, record.id);
    let dump = scenario.bucket.get(&key).await.expect("get").expect("dump");
    let restored = scenario.restore(&dump).await;
    let sum = "SELECT md5(string_agg(md5(data), '' ORDER BY n)) FROM filler";
    assert_eq!(scenario.sql_in(&restored, sum).await, scenario.sql(sum).await);
}

/// Both services behind a private authority, and a password of everything that means something in a URL.
#[tokio::test]
async fn a_private_authority_and_a_difficult_password_work() {
    let scenario = Scenario::new("difficult").await;
    receipts(&scenario).await;
    let password = r#"a:b@c/d?e#f[g]h%i&j=k+l m"n\o$p"#;
    scenario.sql(&format!("CREATE ROLE \"diffi@cult\" SUPERUSER LOGIN PASSWORD '{password}'")).await;
    let encoded = password.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02X}"));
    let port = scenario.servers.postgres_port;
    let url =
        format!("postgresql://diffi%40cult:{encoded}@localhost:{port}/difficult?sslmode=verify-full&schema=public");
    let difficult = || {
        let mut command = scenario.command();
        command.env(contract::ENV_DATABASE_URL, &url);
        command.env(contract::ENV_S3_ENDPOINT, format!("https://localhost:{}", scenario.servers.s3_tls_port));
        command
    };
    let mut trusting = difficult();
    trusting.arg(contract::ARG_DATABASE_CA_FILE).arg(&scenario.servers.database_ca_file);
    trusting.arg(contract::ARG_BUCKET_CA_FILE).arg(&scenario.servers.ca_file);
    scenario.run(trusting).await.complete();
    // An operator of 0.1.0 gives both in one.
    let both = [&scenario.servers.ca_file, &scenario.servers.database_ca_file];
    let both: String = both.map(|file| std::fs::read_to_string(file).expect("authority")).concat();
    let mixed = scenario.servers.folder().join("mixed.crt");
    std::fs::write(&mixed, both).expect("authorities");
    let mut trusting = difficult();
    trusting.arg(contract::ARG_CA_FILE).arg(&mixed);
    scenario.run(trusting).await.complete();
    let message = scenario.failure(difficult()).await;
    assert!(message.starts_with("failed to agree on TLS with bucket \"difficult\" at https://localhost:"), "{message}");
    assert!(message.contains("an authority that is not trusted") && !message.contains(password), "{message}");
}

/// As it is asked, so it is dumped: libpq gets the same hosts, and names that are not encoded.
#[tokio::test]
async fn several_hosts_are_tried_in_turn() {
    let scenario = Scenario::new("several-hosts").await;
    receipts(&scenario).await;
    let port = scenario.servers.postgres_port;
    let hosts = format!("127.0.0.1:1,localhost:{port}");
    let parameters = "application_name=a+b&target_session_attrs=read-write&sslmode=verify-full&sslmode=require";
    let login = format!("postgres:{}", crate::servers::PASSWORD);
    let mut command = scenario.command();
    command.env(contract::ENV_DATABASE_URL, format!("postgres://{login}@{hosts}/several-hosts?{parameters}"));
    scenario.run(command).await.complete();
}

/// What is `DatabaseReady` by the prober can be dumped: the authority of the bucket says nothing about the database.
#[tokio::test]
async fn each_service_is_trusted_by_its_own_authority() {
    let scenario = Scenario::new("own-authority").await;
    receipts(&scenario).await;
    let (servers, password) = (&scenario.servers, crate::servers::PASSWORD);
    let dump = |mode: &str, database: Option<&std::path::Path>, bucket: &std::path::Path| {
        let mut command = scenario.command();
        let address = format!("postgres:{password}@localhost:{}/own-authority", servers.postgres_port);
        command.env(contract::ENV_DATABASE_URL, format!("postgresql://{address}?sslmode={mode}"));
        command.env(contract::ENV_S3_ENDPOINT, format!("https://localhost:{}", servers.s3_tls_port));
        command.arg(contract::ARG_BUCKET_CA_FILE).arg(bucket);
        if let Some(file) = database {
            command.arg(contract::ARG_DATABASE_CA_FILE).arg(file);
        }
        command
    };
    let (bucket, database) = (servers.ca_file.as_path(), servers.database_ca_file.as_path());
    for (mode, ca) in [("require", None), ("require", Some(database)), ("verify-full", Some(database))] {
        scenario.run(dump(mode, ca, bucket)).await.complete();
    }
    for mode in ["require", "verify-full"] {
        let message = scenario.failure(dump(mode, Some(bucket), bucket)).await;
        assert!(message.starts_with("failed to agree on TLS with PostgreSQL at localhost:"), "{mode}: {message}");
    }
    let message = scenario.failure(dump("verify-full", None, bucket)).await;
    assert!(message.starts_with("failed to agree on TLS with PostgreSQL at localhost:"), "{message}");
    let message = scenario.failure(dump("require", Some(database), database)).await;
    assert!(message.starts_with("failed to agree on TLS with bucket \"own-authority\""), "{message}");
}

#[tokio::test]
async fn a_versioned_bucket_works_and_hides_what_was_removed() {
    let scenario = Scenario::new("versioned").await;
    scenario.bucket.enable_versioning().await.expect("versioning");
    receipts(&scenario).await;
    let owner = scenario.owner();
    for id in ["20200101T000000Z-aaaaa", "20200102T000000Z-aaaaa", "20200103T000000Z-aaaaa"] {
        scenario.put_backup(id, Some(&owner)).await;
    }
    let record = scenario.dump().await;
    assert_eq!(record.removed, 2);
    let folders: BTreeSet<_> =
        scenario.keys().await.iter().filter_map(|key| Some(key.split_once('/')?.0.to_owned())).collect();
    let hidden = scenario.bucket.versions(&format!("{}20200101T000000Z-aaaaa/", scenario.prefix)).await;
    assert!(!hidden.expect("versions").is_empty(), "what the user's versioning keeps is not ours to delete");
    assert_eq!(folders, BTreeSet::from(["20200103T000000Z-aaaaa".to_owned(), record.id]));
}
