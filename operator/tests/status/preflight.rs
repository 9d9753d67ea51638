//! What a database says of itself, against what the stack needs of it.

use std::sync::Arc;

use rorun_operator::{
    contract::{ConnectionLimit, DatabaseFacts, Lacks, LimitedBy, ServiceFacts, Unreadable},
    names::Component,
    stack::{Probe, ProbeTarget},
};
use rstest::rstest;
use serde_json::{Value, json};

use super::{
    cluster::{Cluster, condition, line},
    support::{Fixture, stack},
};

fn answers(facts: DatabaseFacts) -> Probe {
    let facts = ServiceFacts { version: Some("17.6".to_owned()), database: Some(facts) };
    Probe::Answers { note: None, slow: false, facts: Some(Arc::new(facts)) }
}

fn limit(available: u32, by: LimitedBy) -> ConnectionLimit {
    ConnectionLimit { available, by }
}

/// A server as it is delivered.
fn usual() -> DatabaseFacts {
    DatabaseFacts {
        user: Some("rorun".to_owned()),
        major: Some(17),
        pooled: Some(false),
        connections: Some(limit(97, LimitedBy::Server { max: 100, reserved: 3 })),
        encoding: Some("UTF8".to_owned()),
        schema: Some("public".to_owned()),
        may_create: Some(true),
        unreadable: Some(Vec::new()),
        ..DatabaseFacts::default()
    }
}

fn external() -> Fixture {
    let migrations = json!({"command": ["migrate"]});
    let backup = json!({"image": "postgres:17"});
    stack("shop").with_external_services().set("backup", backup).set("api.migrations", migrations)
}

/// The reason and the message of the database, and its row.
fn told(spec: Fixture, facts: &DatabaseFacts) -> (String, String, Value) {
    let mut cluster = Cluster::ready(spec);
    let targets: Vec<_> = cluster.stack.probes.keys().copied().collect();
    for target in targets.into_iter().filter(|target| target.component == Component::Database) {
        cluster.stack.probes.insert(target, answers(facts.clone()));
    }
    let status = cluster.reconcile(1000);
    let of = condition(&status, "DatabaseReady").unwrap();
    let ready = condition(&status, "Ready").unwrap();
    assert_eq!((of.status.as_str(), ready.status.as_str()), ("True", "True"), "what runs goes on");
    assert!(ready.message.contains(&of.message) || of.message.contains("; "), "{}", ready.message);
    let row = status.services.iter().find(|row| row.name == "database").unwrap();
    (of.reason.clone(), of.message.clone(), serde_json::to_value(row).unwrap())
}

#[test]
fn a_database_as_it_should_be_has_no_findings() {
    let (reason, message, row) = told(external(), &usual());
    assert_eq!((reason.as_str(), message.as_str()), ("Ready", ""));
    let expected = json!({"name": "database", "version": "17.6", "verdict": "ok",
        "connections": {"needed": 24, "available": 97}});
    assert_eq!(row, expected);
}

#[test]
fn what_the_stack_can_open_is_counted_with_a_rollout_under_way() {
    let scaled = || {
        external()
            .with_all_workloads()
            .set("api.autoscaling", json!({"maxReplicas": 10}))
            .set("api.databaseConnections", json!(5))
            .set("ocr.replicas", json!(2))
    };
    let enough = DatabaseFacts { connections: Some(limit(99, LimitedBy::Role)), ..usual() };
    let (reason, message, row) = told(scaled(), &enough);
    assert_eq!((reason.as_str(), message.as_str()), ("Ready", ""));
    assert_eq!(row["connections"], json!({"needed": 13 * 5 + 3 * 10 + 4, "available": 99}));
    for (by, why) in [
        (LimitedBy::Server { max: 100, reserved: 3 }, "max_connections 100, of which 3 are reserved"),
        (LimitedBy::Role, "CONNECTION LIMIT of the role rorun"),
        (LimitedBy::Database, "CONNECTION LIMIT of the database"),
    ] {
        let (reason, message, row) = told(scaled(), &DatabaseFacts { connections: Some(limit(98, by)), ..usual() });
        assert_eq!(reason, "TooFewConnections");
        let expected = format!(
            "the stack can open 99 connections at once (api 13 pods x 5, ocr 3 pods x 10, dumps, migrations and the operator 4), and \
             can have 98 ({why}): lower databaseConnections or maxReplicas, raise the limit, or let DATABASE_URL lead to a pooler"
        );
        assert_eq!(message, expected);
        assert_eq!(row["connections"], json!({"needed": 99, "available": 98}));
    }
}

/// What others hold comes and goes: the fewest count, for this operator and for the next one, so that load is no news and its end is.
#[test]
fn the_fewest_connections_that_others_held_are_told() {
    let with = |others: u32| DatabaseFacts { others: Some(others), ..usual() };
    let (reason, message, row) = told(external(), &with(73));
    assert_eq!((reason.as_str(), message.as_str()), ("Ready", ""));
    assert_eq!(row["connections"], json!({"needed": 24, "available": 97, "others": 73}));
    let (reason, message, row) = told(external(), &with(74));
    assert_eq!(reason, "TooFewConnections");
    assert_eq!(
        message,
        "the stack can open 24 connections at once (api 2 pods x 10, dumps, migrations and the operator 4), and can have 97 \
         (max_connections 100, of which 3 are reserved), of which others held 74 or more whenever the operator asked: see that 24 are \
         left for it, lower databaseConnections or maxReplicas, or raise the limit"
    );
    assert_eq!(row["connections"]["others"], 74);
    let of = |others| ServiceFacts { version: None, database: Some(with(others)) };
    assert_eq!(of(80).since(&of(74)), of(74), "more is no news");
    assert_eq!(of(3).since(&of(74)), of(3));
    let mut of_the_role = with(9);
    of_the_role.connections = Some(limit(30, LimitedBy::Role));
    let of_the_role = ServiceFacts { version: None, database: Some(of_the_role) };
    assert_eq!(of_the_role.clone().since(&of(3)), of_the_role, "those of another limit are others");
    // An operator that starts anew finds what was told.
    let mut cluster = Cluster::ready(external());
    cluster.stack.probes.insert(Component::Database.into(), answers(with(74)));
    let status = cluster.reconcile(1000);
    cluster.stack.known_services.clone_from(&status.services);
    cluster.stack.probes.insert(Component::Database.into(), answers(with(80)));
    assert_eq!(cluster.reconcile(2000).services, status.services);
    cluster.stack.probes.insert(Component::Database.into(), answers(with(3)));
    let row = cluster.reconcile(3000).services.into_iter().find(|row| row.name == "database").unwrap();
    assert_eq!(row.connections.unwrap().others, Some(3));
}

#[test]
fn an_embedded_database_has_the_connections_that_postgresql_comes_with() {
    let of = |pods: u32| {
        let status = Cluster::ready(stack("shop").set("api.autoscaling", json!({"maxReplicas": pods}))).reconcile(1000);
        let row = status.services.iter().find(|row| row.name == "database").unwrap();
        (line(&status, "DatabaseReady"), serde_json::to_value(row).unwrap())
    };
    let row =
        |needed: u32| json!({"name": "database", "verdict": "ok", "connections": {"needed": needed, "available": 100}});
    assert_eq!(of(7), ("True Ready".to_owned(), row(94)));
    let (told, mut found) = of(8);
    assert_eq!(told, "True TooFewConnections");
    assert_eq!(
        found["findings"][0]["message"],
        "the stack can open 104 connections at once (api 10 pods x 10, dumps, migrations and the operator 4), and can have 100 \
         (max_connections 100): lower databaseConnections or maxReplicas, or take another mode of database, whose limit can be raised"
    );
    found.as_object_mut().unwrap().remove("findings");
    assert_eq!(found, row(104));
}

#[test]
fn behind_a_pooler_nobody_knows_unless_the_spec_says() {
    let few = || DatabaseFacts { connections: Some(limit(5, LimitedBy::Role)), pooled: Some(true), ..usual() };
    let (reason, _, row) = told(external(), &few());
    assert_eq!(reason, "Ready");
    assert_eq!(row["connections"], json!({"needed": 20}));
}

/// The findings about connections of a stack of so many pods, with ten connections each and a few more while they are replaced.
fn behind_pgbouncer(pods: u32, pooler: &Value, direct: DatabaseFacts) -> Vec<String> {
    let spec =
        external().set("api.replicas", json!(pods)).set("database", json!({"cloudNativePG": {"pooler": pooler}}));
    let mut cluster = Cluster::ready(spec);
    let by_pooler = DatabaseFacts { connections: Some(limit(5, LimitedBy::Role)), pooled: Some(true), ..usual() };
    cluster.stack.probes.insert(Component::Database.into(), answers(by_pooler));
    cluster.stack.probes.insert(ProbeTarget::DIRECT, answers(direct));
    let findings = cluster.stack.findings(Component::Database).into_iter();
    findings.filter(|finding| finding.reason == "TooFewConnections").map(|finding| finding.message).collect()
}

#[test]
fn the_pooler_that_the_operator_asks_for_lets_through_what_pgbouncer_does() {
    let clients = |most: &str| json!({"instances": 2, "parameters": {"max_client_conn": most}});
    assert_eq!(behind_pgbouncer(1, &clients("10"), usual()), [""; 0]);
    let lower = "lower databaseConnections or maxReplicas, raise the limit, or let DATABASE_URL lead to a pooler";
    assert_eq!(
        behind_pgbouncer(1, &clients("9"), usual()),
        [format!(
            "the stack can open 20 connections at once (api 2 pods x 10), and can have 18 (the pooler, 2 pods x max_client_conn 9): {lower}"
        )]
    );
    // Where the spec says nothing, a session has a connection of the server for itself, and there are 20 for each pod.
    assert_eq!(behind_pgbouncer(3, &json!({}), usual()), [""; 0]);
    assert_eq!(
        behind_pgbouncer(10, &json!({}), usual()),
        [format!(
            "the stack can open 130 connections at once (api 13 pods x 10), and can have 40 (the pooler, 2 pods x default_pool_size 20): \
             {lower}"
        )]
    );
    assert_eq!(behind_pgbouncer(10, &json!({"mode": "Transaction"}), usual()), [""; 0]);
}

#[test]
fn what_the_pooler_can_open_is_compared_with_the_database() {
    let pooler = json!({"mode": "Transaction", "instances": 4, "parameters": {"default_pool_size": "23"}});
    let has = |available: u32| {
        let by = LimitedBy::Server { max: available + 3, reserved: 3 };
        behind_pgbouncer(1, &pooler, DatabaseFacts { connections: Some(limit(available, by)), ..usual() })
    };
    assert_eq!(has(100), [""; 0]);
    assert_eq!(
        has(99),
        [
            "the pooler can open 100 connections to the database at once (4 pods x (default_pool_size 23 + 1 for logins), dumps, \
          migrations and the operator 4), and can have 99 (max_connections 102, of which 3 are reserved): lower default_pool_size or \
          instances of the pooler, or raise the limit"
        ]
    );
}

fn lacks(schema: &str, lacks: Lacks, count: u32) -> Unreadable {
    Unreadable { schema: schema.to_owned(), table: "t".to_owned(), count, lacks }
}

#[rstest]
#[case::create(
    DatabaseFacts { may_create: Some(false), ..usual() },
    "RightsMissing",
    "the user rorun may not create tables in the schema public, which migrations do: GRANT USAGE, CREATE ON SCHEMA public TO the \
     user, or name another one in DIRECT_URL"
)]
#[case::dump(
    DatabaseFacts {
        unreadable: Some(vec![
            lacks("a", Lacks::Usage, 4),
            lacks("b", Lacks::Select, 3),
            lacks("c", Lacks::BypassRls, 1),
            lacks("d", Lacks::Select, 1),
        ]),
        ..usual()
    },
    "RightsMissing",
    "backups fail, since the user rorun lacks rights: the schema a may not be used, b.t and 2 more may not be read, row-level \
     security hides rows of c.t, and so on in 1 more places; grant SELECT and USAGE, or BYPASSRLS, or leave schemas out with \
     backup.excludeSchemas"
)]
#[case::read_only(
    DatabaseFacts { read_only: true, ..usual() },
    "ReadOnly",
    "DIRECT_URL leads to a server that is read-only, where migrations fail: let it name the primary"
)]
#[case::encoding(
    DatabaseFacts { encoding: Some("SQL_ASCII".to_owned()), ..usual() },
    "WrongEncoding",
    "the encoding of the database is SQL_ASCII, which cannot hold every text: move the data into a database with ENCODING 'UTF8'"
)]
#[case::old(
    DatabaseFacts { major: Some(12), ..usual() },
    "ServerTooOld",
    "the server is PostgreSQL 12, and 13 is the oldest that is supported: upgrade it"
)]
#[case::newer_than_pg_dump(
    DatabaseFacts { major: Some(18), ..usual() },
    "VersionMismatch",
    "the server is PostgreSQL 18, and backups run pg_dump of 17, which refuses a newer server: set backup.image to one of 18"
)]
#[case::clock(
    DatabaseFacts { clock_off_by: Some(300), ..usual() },
    "ClocksDiffer",
    "the clock of the database differs from the operator's by more than 300 s: check the time servers of both"
)]
#[case::pooler(
    DatabaseFacts { pooled: Some(true), shared_sessions: Some(true), ..usual() },
    "PooledConnection",
    "migrations and dumps need a session of their own, for locks, SET and prepared statements, and DIRECT_URL leads to a pooler that \
     shares sessions between transactions: let it name the server, or a pooler with pool_mode=session"
)]
fn each_finding_has_its_reason_and_the_way_out(
    #[case] facts: DatabaseFacts,
    #[case] reason: &str,
    #[case] message: &str,
) {
    let (told_reason, told_message, row) = told(external(), &facts);
    assert_eq!((told_reason.as_str(), told_message.as_str()), (reason, message));
    assert_eq!(row["findings"], json!([{"reason": reason, "message": message}]));
}

#[test]
fn what_nobody_asked_for_is_not_told() {
    let facts = DatabaseFacts {
        may_create: Some(false),
        unreadable: Some(vec![lacks("vault", Lacks::Usage, 1)]),
        major: Some(18),
        shared_sessions: Some(true),
        ..usual()
    };
    let neither = stack("shop").with_external_services();
    assert_eq!(told(neither, &facts).0, "Ready");
    let excluded = stack("shop")
        .with_external_services()
        .set("backup", json!({"excludeSchemas": ["vault"], "image": "postgres:18"}));
    assert_eq!(told(excluded, &DatabaseFacts { shared_sessions: None, ..facts }).0, "Ready");
}

/// Of dumps, of drills, and of those of the revision that serves.
#[test]
fn programs_are_of_the_major_version_of_the_server_unless_the_spec_names_an_image() {
    let images = |spec: Fixture, told: Option<&str>, facts: Option<DatabaseFacts>| {
        let mut stack = Cluster::ready(spec).stack;
        if let Some(facts) = facts {
            stack.probes.insert(Component::Database.into(), answers(facts));
        }
        stack.follow_database(told);
        let backup = stack.backup.expect("backups");
        [backup.image, backup.recovery.verify.expect("drills").image, backup.recovery.server.image]
    };
    let of = |major: u32| Some(DatabaseFacts { major: Some(major), ..usual() });
    let asked = |backup: Value| stack("shop").with_external_services().set("backup", backup);
    let usual = || asked(json!({"verify": {}}));
    let all = |image: &str| [image; 3].map(str::to_owned);
    assert_eq!(images(usual(), None, None), all("postgres:17"), "nobody knows");
    assert_eq!(images(usual(), None, of(15)), all("postgres:15"));
    assert_eq!(images(usual(), None, of(18)), all("postgres:18"));
    assert_eq!(images(usual(), Some("16.4 (Debian 16.4-1)"), None), all("postgres:16"), "after a restart");
    assert_eq!(images(usual(), Some("16.4"), of(15)), all("postgres:15"), "what it says now counts");
    assert_eq!(images(usual(), Some("9.6.24"), None), all("postgres:17"), "too old");
    let mirror = usual().set("image", json!({"registry": "mirror.example:5000/library"}));
    assert_eq!(images(mirror, None, of(14)), all("mirror.example:5000/library/postgres:14"));
    let own = asked(json!({"image": "postgres:17", "verify": {}}));
    assert_eq!(images(own, Some("15.2"), of(15)), all("postgres:17"));
    let drill = asked(json!({"verify": {"image": "postgis:17"}}));
    let drill = images(drill, None, of(15));
    assert_eq!(drill, ["postgres:15", "postgis:17", "postgis:17"].map(str::to_owned));
    for database in [
        json!({"embedded": {"version": "16"}}),
        json!({"cloudNativePG": {"version": "16"}}),
        json!({"rds": {"instanceClass": "db.t4g.small", "version": "16.4", "storage": {"size": "20Gi"}, "caSecretRef": {"name": "ca"}}}),
    ] {
        let spec = usual().set("database", database);
        let before = images(spec.clone(), None, None);
        assert!(before[0].contains(":16"), "{before:?}");
        assert_eq!(images(spec, Some("15.2"), of(15)), before, "the spec says it");
    }
}

#[test]
fn a_drill_has_room_for_twice_the_database() {
    let volume = |database: Value, verify: Value, bytes: Option<u64>| {
        let backup = json!({"verify": verify});
        let spec = stack("shop").with_external_services().set("database", database).set("backup", backup);
        let mut stack = Cluster::ready(spec).stack;
        if let Some(bytes) = bytes {
            stack.drills_hold(bytes);
        }
        let drill = stack.verify().expect("drills").clone();
        assert_eq!(drill.size, stack.backup.expect("backups").recovery.server.size);
        let requests = drill.resources.requests.expect("requests");
        (drill.size, requests["ephemeral-storage"].0.clone())
    };
    let size = |database: Value| volume(database, json!({}), None).0;
    let storage = json!({"size": "100Gi"});
    let external = || json!({"external": {"secretRef": {"name": "database"}}});
    let rds = json!({"rds": {"instanceClass": "db.t4g.small", "storage": storage, "caSecretRef": {"name": "ca"}}});
    assert_eq!(size(json!({"embedded": {"storage": storage}})), "200Gi");
    assert_eq!(size(json!({"cloudNativePG": {"storage": storage}})), "200Gi");
    assert_eq!(size(rds), "200Gi");
    assert_eq!(volume(external(), json!({}), None), ("20Gi".to_owned(), "128Mi".to_owned()));
    // What the newest dump found.
    assert_eq!(volume(external(), json!({}), Some(1 << 30)).0, "20Gi");
    assert_eq!(volume(external(), json!({}), Some(100 << 30)).0, "256Gi");
    let own = json!({"storage": {"size": "5Gi"}, "resources": {"limits": {"ephemeral-storage": "1Gi"}}});
    let sized = json!({"storage": {"size": "5Gi"}, "resources": {"requests": {"ephemeral-storage": "1Gi"}}});
    assert_eq!(volume(external(), sized, Some(100 << 30)), ("5Gi".to_owned(), "1Gi".to_owned()));
    let mut limited = Cluster::ready(stack("shop").set("backup", json!({"verify": own}))).stack;
    let resources = limited.backup.take().expect("backups").recovery.server.resources;
    assert!(!resources.requests.expect("requests").contains_key("ephemeral-storage"), "a limit is its own request");
}

/// Pods of an earlier release have no such variable, and an upgrade replaces none.
#[test]
fn the_pool_is_told_to_the_pods_of_whoever_asks_for_it() {
    let pools = |spec: Fixture| {
        let objects = super::support::objects(&spec.build());
        let of = |object: &rorun_operator::objects::DesiredObject| {
            let template = super::support::template(object)?;
            let containers = super::support::containers(template);
            let mut variables = containers.flat_map(|container| super::support::items(container, "/env"));
            let pool = variables.find(|variable| variable["name"] == "DATABASE_POOL_SIZE")?;
            Some((object.name.clone(), pool["value"].as_str()?.to_owned()))
        };
        objects.iter().filter_map(of).collect::<Vec<_>>()
    };
    let usual = || external().with_all_workloads();
    assert_eq!(pools(usual()), []);
    assert_eq!(pools(usual().set("ocr.databaseConnections", json!(2))), [("shop-ocr".to_owned(), "2".to_owned())]);
    let own = json!([{"name": "DATABASE_POOL_SIZE", "value": "9"}]);
    let theirs = usual().set("api.databaseConnections", json!(5)).set("api.env", own);
    assert_eq!(pools(theirs), [("shop-api".to_owned(), "9".to_owned())]);
}

/// Half of what is known would change the status, and the rest change it back.
#[test]
fn after_a_restart_the_status_stays_until_all_is_asked_again() {
    let mut cluster = Cluster::ready(external().set("database.external.secretRef.directUrlKey", json!("DIRECT_URL")));
    let narrow = DatabaseFacts { may_create: Some(false), ..usual() };
    let few = DatabaseFacts { connections: Some(limit(5, LimitedBy::Role)), ..usual() };
    cluster.stack.probes.insert(Component::Database.into(), answers(few.clone()));
    cluster.stack.probes.insert(ProbeTarget::DIRECT, answers(narrow.clone()));
    let before = cluster.reconcile(1000);
    assert_eq!(line(&before, "DatabaseReady"), "True TooFewConnections");
    // Another process, with what the status says.
    cluster.stack.known_services.clone_from(&before.services);
    for (target, probe) in [
        (Component::Database.into(), Probe::answers(None)),
        (ProbeTarget::DIRECT, Probe::answers(None)),
        (Component::Database.into(), answers(few)),
        (ProbeTarget::DIRECT, answers(narrow)),
    ] {
        cluster.stack.probes.insert(target, probe);
        assert_eq!(cluster.reconcile(2000), before);
    }
}

#[test]
fn a_slow_service_and_one_that_fails_are_told_apart() {
    let mut cluster = Cluster::ready(external());
    let verdict = |cluster: &mut Cluster, probe: Probe| {
        cluster.stack.probes.insert(Component::Redis.into(), probe);
        let status = cluster.reconcile(1000);
        let row = status.services.into_iter().find(|row| row.name == "redis").unwrap();
        serde_json::to_value(row.verdict).unwrap()
    };
    let facts = || Some(Arc::new(ServiceFacts::default()));
    assert_eq!(verdict(&mut cluster, Probe::Answers { note: None, slow: true, facts: facts() }), "slow");
    assert_eq!(verdict(&mut cluster, Probe::Answers { note: None, slow: false, facts: facts() }), "ok");
    let away = rorun_operator::names::Waiting::new(rorun_operator::names::reason::UNREACHABLE, "away");
    assert_eq!(verdict(&mut cluster, Probe::Failed(away)), "failed");
}

#[rstest]
#[case("", true)]
#[case("?pgbouncer=true", false)]
fn prisma_is_told_what_a_pooler_does_not_keep(#[case] query: &str, #[case] expected: bool) {
    let cr = stack("shop").with_external_services().set("database.external.urlStyle", json!("Prisma")).build();
    let mut observed = super::support::all_there(&cr);
    let url = format!("postgresql://u:p@aws-0-eu-west-1.pooler.supabase.com:6543/d{query}");
    observed.secrets.get_mut("database").unwrap().as_mut().unwrap().insert("DATABASE_URL".to_owned(), url.into());
    let mut stack = rorun_operator::stack::validate(&cr, &observed);
    stack.probes.insert(Component::Database.into(), answers(usual()));
    let findings = stack.findings(Component::Database);
    assert_eq!(findings.iter().any(|finding| finding.message.contains("add pgbouncer=true")), expected, "{findings:?}");
}

#[rstest]
#[case("postgresql://u:p@db.abc.supabase.co:5432/d", None, "Supabase", None)]
#[case(
    "postgresql://postgres.abc:p@aws-0-eu-west-1.pooler.supabase.com:6543/d",
    None,
    "Supabase",
    Some("port 6543, Supabase's pooler in transaction mode: let it name port 5432")
)]
#[case("postgresql://u:p@db.example.com:6543/d", Some("Supabase"), "Supabase", Some("let it name port 5432"))]
#[case("postgresql://u:p@ep-a-1-pooler.eu.aws.neon.tech/d", None, "Neon", Some("let it name the host without -pooler"))]
#[case("postgresql://u:p@ep-a-1-pooler.eu.aws.neon.tech/d", Some("Render"), "Render", None)]
fn a_provider_is_known_by_its_host_or_by_its_name(
    #[case] url: &str,
    #[case] named: Option<&str>,
    #[case] provider: &str,
    #[case] finding: Option<&str>,
) {
    let mut spec = external();
    if let Some(named) = named {
        spec = spec.set("database.external.provider", json!(named));
    }
    let cr = spec.build();
    let mut observed = super::support::all_there(&cr);
    observed.secrets.get_mut("database").unwrap().as_mut().unwrap().insert("DATABASE_URL".to_owned(), url.into());
    let mut cluster = Cluster::ready(stack("shop"));
    cluster.stack = rorun_operator::stack::validate(&cr, &observed);
    cluster.stack.probes.insert(Component::Database.into(), answers(usual()));
    let findings = cluster.stack.findings(Component::Database);
    match (findings.as_slice(), finding) {
        ([], None) => {}
        ([found], Some(expected)) => {
            assert_eq!(found.reason, "PooledConnection");
            assert!(found.message.contains(expected), "{}", found.message);
        }
        _ => panic!("{findings:?}"),
    }
    let status = cluster.reconcile(1000);
    let row = status.services.iter().find(|row| row.name == "database").unwrap();
    assert_eq!(row.provider.as_deref(), Some(provider));
}
