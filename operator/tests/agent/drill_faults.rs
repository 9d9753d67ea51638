//! Drills that fail though the point is good, and points that are good but for what their image or their dump lacks.

use std::fs;
use std::path::Path;
use std::process::Command;

use rorun_operator::contract::{self, DrillCheck, DrillFault, VERIFIED_FILE, Verdict};
use serde_json::json;

use crate::drills::{change_manifest, complete, drill, drill_in, failed};
use crate::points::SCHEMA;
use crate::process::{signal, until};
use crate::programs;
use crate::scenario::Scenario;

/// Says that an earlier drill restored the point, and gives the key.
pub(crate) async fn verified(scenario: &Scenario, id: &str) -> String {
    let key = format!("{}{id}/{VERIFIED_FILE}", scenario.prefix);
    scenario.bucket.put(&key, b"{}".to_vec()).await.expect("put");
    key
}

/// The drill says nothing of the point, and leaves its mark.
pub(crate) async fn not_judged(scenario: &Scenario, mark: &str, (fault, message): (DrillFault, String), words: &str) {
    assert!(fault == DrillFault::NotRun && message.contains(words), "{fault:?} {message}");
    assert!(scenario.bucket.size(mark).await.expect("size").is_some(), "the point was condemned: {message}");
}

#[tokio::test]
async fn a_full_volume_condemns_no_point() {
    if !programs::is_root() {
        return eprintln!("skipped: a small volume is mounted by root alone");
    }
    let scenario = Scenario::new("drill-full").await;
    scenario.fill(40).await;
    let mark = verified(&scenario, &scenario.dump().await.id).await;
    let small = |size: &str| format!("/usr/bin/mount -t tmpfs -o mode=0777,size={size} tmpfs \"$1\"");
    let outcome = failed(drill_in(&scenario, &small("64m"), |_| {}).await);
    not_judged(&scenario, &mark, outcome, "was not judged").await;
    // Not even room for the server.
    let outcome = failed(drill_in(&scenario, &small("4m"), |_| {}).await);
    not_judged(&scenario, &mark, outcome, "No space left on device").await;
    complete(drill_in(&scenario, &small("500m"), |_| {}).await);
}

/// The process of the drill's server that does something, and its postmaster.
fn session(work: &Path, does: &str) -> Option<(u32, u32)> {
    let server: u32 = fs::read_to_string(work.join("server/data/postmaster.pid")).ok()?.lines().next()?.parse().ok()?;
    let children = fs::read_to_string(format!("/proc/{server}/task/{server}/children")).ok()?;
    let named = |child: &u32| {
        let title = fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
        title.contains("drill drill") && title.contains(does)
    };
    let child = children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(named)?;
    Some((child, server))
}

#[tokio::test]
async fn a_server_that_is_killed_condemns_no_point() {
    let scenario = Scenario::new("drill-killed").await;
    scenario.sql(SCHEMA).await;
    let work = scenario.servers.folder().join("drill-killed-drill/work");
    let killed = async |does: &str, change: &dyn Fn(&mut Command), whole: bool| {
        let kill = async {
            until(does, async || session(&work, does).is_some()).await;
            let (session, server) = session(&work, does).expect("a session");
            signal("KILL", if whole { server } else { session });
        };
        failed(tokio::join!(drill(&scenario, change), kill).0)
    };
    let check = DrillCheck {
        name: "slow".to_owned(),
        sql: "EXPLAIN ANALYZE SELECT pg_sleep(600)".to_owned(),
        expect: String::new(),
    };
    let check = serde_json::to_string(&check).expect("JSON");
    let asks = |command: &mut Command| {
        command.args([contract::ARG_CHECK, &check]);
    };
    let mark = verified(&scenario, &scenario.dump().await.id).await;
    not_judged(&scenario, &mark, killed("EXPLAIN", &asks, true).await, "was not judged").await;
    // It is slow in a drill alone.
    let slow = "CREATE MATERIALIZED VIEW slow AS SELECT CASE WHEN current_user = 'drill' THEN pg_sleep(600)::text END";
    scenario.sql(slow).await;
    let mark = verified(&scenario, &scenario.dump().await.id).await;
    for whole in [true, false] {
        not_judged(&scenario, &mark, killed("REFRESH", &|_| {}, whole).await, "was not judged").await;
    }
}

/// Hides the files of an extension, as an image has them that lacks it.
fn without(scenario: &Scenario, extension: &str) -> String {
    let shared = programs::run(Command::new(scenario.servers.programs.join("pg_config")).arg("--sharedir"));
    let there = Path::new(shared.trim()).join("extension");
    let rest = scenario.servers.folder().join(format!("{}-extensions", scenario.name));
    programs::run(Command::new("cp").arg("-r").arg(&there).arg(&rest));
    for file in fs::read_dir(&rest).expect("list") {
        let file = file.expect("a file");
        if file.file_name().to_string_lossy().starts_with(extension) {
            fs::remove_file(file.path()).expect("remove");
        }
    }
    programs::run(Command::new("chmod").args(["-R", "a+rX"]).arg(&rest));
    format!("/usr/bin/mount --bind {} {}", rest.display(), there.display())
}

#[tokio::test]
async fn an_extension_that_the_image_lacks_is_named_and_excuses_what_needs_it_alone() {
    if !programs::is_root() {
        return eprintln!("skipped: files are hidden by root alone");
    }
    let scenario = Scenario::new("drill-extension").await;
    scenario.sql(SCHEMA).await;
    scenario.sql("CREATE EXTENSION hstore; CREATE TABLE \"My things\" (id serial, h hstore)").await;
    scenario
        .sql("INSERT INTO \"My things\" (h) VALUES ('a=>1'), ('b=>2'); CREATE INDEX ON \"My things\" USING gin (h)")
        .await;
    scenario.sql("CREATE VIEW keys AS SELECT akeys(h) FROM \"My things\"").await;
    scenario.sql("CREATE MATERIALIZED VIEW known AS SELECT * FROM keys").await;
    let point = scenario.dump().await;
    let hidden = without(&scenario, "hstore");
    let record = complete(drill_in(&scenario, &hidden, |_| {}).await);
    assert_eq!((record.verdict, record.rows), (Verdict::Partial, Some(2010)), "{}", record.message);
    assert!(record.message.contains("lacks the extension hstore"), "{}", record.message);
    assert!(record.message.contains("extension \"hstore\" is not available"), "each error: {}", record.message);
    // A table that needs no extension is missed all the same.
    change_manifest(&scenario, &point.id, |manifest| manifest["contents"]["rows"]["public.gone"] = json!(1)).await;
    let (fault, message) = failed(drill_in(&scenario, &hidden, |_| {}).await);
    assert!(
        fault == DrillFault::Differs && message.contains("public.gone") && !message.contains("things"),
        "{message}"
    );
    change_manifest(&scenario, &point.id, |manifest| {
        manifest["contents"]["rows"].as_object_mut().expect("rows").remove("public.gone");
    })
    .await;
    let record = complete(
        drill(&scenario, |command| {
            command.args(["--point", &point.id]);
        })
        .await,
    );
    assert_eq!(record.verdict, Verdict::Whole);
}

#[tokio::test]
async fn what_needs_a_schema_that_the_dump_leaves_out_is_named() {
    let scenario = Scenario::new("drill-schema").await;
    scenario.sql(SCHEMA).await;
    scenario
        .sql(
            "CREATE SCHEMA auth; CREATE TABLE auth.users (id int PRIMARY KEY); INSERT INTO auth.users VALUES (1);
            CREATE FUNCTION auth.uid() RETURNS int LANGUAGE sql AS 'SELECT 1';
            CREATE TABLE profiles (id int PRIMARY KEY, owner int REFERENCES auth.users); INSERT INTO profiles VALUES (1, 1);
            ALTER TABLE profiles ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON profiles USING (owner = auth.uid());
            CREATE TABLE defaults (id int GENERATED ALWAYS AS IDENTITY, owner int DEFAULT auth.uid());
            INSERT INTO defaults VALUES (DEFAULT, DEFAULT);
            CREATE VIEW people AS SELECT * FROM auth.users; CREATE MATERIALIZED VIEW many AS SELECT count(*) FROM people",
        )
        .await;
    let mut dump = scenario.command();
    dump.arg(format!("{}=auth", contract::ARG_EXCLUDE_SCHEMA));
    let point = scenario.run(dump).await.complete();
    let record = complete(drill(&scenario, |_| {}).await);
    // The rows of the table whose default is lost cannot be counted.
    assert_eq!((record.verdict, record.rows), (Verdict::Partial, Some(2011)), "{}", record.message);
    assert!(record.message.contains("leaves out the schema auth (backup.excludeSchemas)"), "{}", record.message);
    assert!(record.message.contains("\"auth.users\" does not exist"), "each error: {}", record.message);
    // Of a dump that is said to hold everything that is another matter.
    change_manifest(&scenario, &point.id, |manifest| manifest["excludedSchemas"] = json!([])).await;
    let (fault, message) = failed(drill(&scenario, |_| {}).await);
    assert!(fault == DrillFault::NotRestored && message.contains("auth"), "{message}");
}
