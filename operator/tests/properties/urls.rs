//! What the application is told of its services: what the user wrote, and pods that stay where 0.1.0 told them the same.

use std::collections::BTreeMap;

use rorun_operator::{
    api::v1alpha1::RorunStack,
    desired::desired,
    names::{Component, Waiting, reason},
    objects::LiveSet,
    stack::{Observed, Probe, ProbeTarget, Stack, validate},
    status::{self, Report},
};
use rstest::rstest;
use serde_json::{Value, json};

use super::support::{Fixture, all_ready, all_there, stack, valid, valid_with};

/// What 0.1.0 passed on as it was.
const PLAIN: &str = "postgresql://app:pw@pg.default.svc:5432/shop?sslmode=disable";

fn external() -> Fixture {
    stack("shop").with_external_services()
}

fn with(cr: &RorunStack, secret: &str, values: &[(&str, &str)]) -> Observed {
    let mut observed = all_there(cr);
    let data = observed.secrets.get_mut(secret).unwrap().get_or_insert_default();
    data.extend(values.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())));
    observed
}

fn told(cr: &RorunStack, url: &str) -> Stack {
    validate(cr, &with(cr, "database", &[("DATABASE_URL", url)]))
}

fn connection(stack: &Stack) -> &BTreeMap<&'static str, String> {
    &stack.connection.as_ref().unwrap_or_else(|| panic!("{:?}", stack.unresolved)).data
}

/// The text of 0.1.0 means the same: it is hashed, and the user's is told.
#[rstest]
#[case::no_port("postgresql://app:pw@pg/shop", "postgresql://app:pw@pg:5432/shop")]
#[case::scheme("postgres://app:pw@pg:5432/shop", "postgresql://app:pw@pg:5432/shop")]
#[case::user("postgresql://app.ref_1:p-w!@pg:5432/shop", "postgresql://app%2Eref%5F1:p%2Dw%21@pg:5432/shop")]
#[case::no_password("postgresql://app@pg:5432/shop", "postgresql://app:@pg:5432/shop")]
#[case::case("postgresql://app:p%2fw@pg:5432/shop", "postgresql://app:p%2Fw@pg:5432/shop")]
#[case::parameters(
    "postgresql://app:pw@pg:5432/shop?options=-c%20search_path=a,b&application_name=a-b_c",
    "postgresql://app:pw@pg:5432/shop?options=-c%20search_path%3Da%2Cb&application_name=a-b_c"
)]
#[case::flag("postgresql://app:pw@pg:5432/shop?pgbouncer", "postgresql://app:pw@pg:5432/shop?pgbouncer=")]
#[case::encoded_database("postgresql://app:pw@pg:5432/shop%5Fprod", "postgresql://app:pw@pg:5432/shop%5Fprod")]
#[case::plain(PLAIN, PLAIN)]
fn pods_stay_where_0_1_0_meant_the_same(#[case] written: &str, #[case] released: &str) {
    let cr = external().build();
    let (now, before) = (told(&cr, written), told(&cr, released));
    assert_eq!(connection(&now)["DATABASE_URL"], written.replacen("postgres://", "postgresql://", 1));
    assert_eq!(connection(&before)["DATABASE_URL"], released);
    assert_eq!(now.api.config_hash, before.api.config_hash);
    for stack in [&now, &before] {
        assert!(!stack.connection.as_ref().unwrap().corrected_urls());
    }
}

/// The text of 0.1.0 was wrong: its pods are replaced.
#[rstest]
#[case::database("postgresql://app:pw@pg:5432/shop_prod", "postgresql://app:pw@pg:5432/shop%5Fprod")]
#[case::plus(
    "postgresql://app:pw@pg:5432/shop?application_name=a+b",
    "postgresql://app:pw@pg:5432/shop?application_name=a%20b"
)]
fn pods_are_replaced_where_0_1_0_was_wrong(#[case] written: &str, #[case] released: &str) {
    let cr = external().build();
    let (now, before) = (told(&cr, written), told(&cr, released));
    assert_eq!(connection(&now)["DATABASE_URL"], written);
    assert_ne!(now.api.config_hash, before.api.config_hash);
    let corrected = |stack: &Stack| stack.connection.as_ref().unwrap().corrected_urls();
    assert_eq!((corrected(&now), corrected(&before)), (true, false));
}

/// 0.1.0 told brackets, or the first of several values, in the variables beside the URL.
#[rstest]
#[case::address("DATABASE_URL", "postgresql://app:pw@[2001:db8::7]:5432/shop", "PGHOST", "2001:db8::7")]
#[case::twice("DATABASE_URL", "postgresql://app:pw@h/shop?sslmode=disable&sslmode=require", "PGSSLMODE", "require")]
#[case::parameter("DATABASE_URL", "postgresql://app:pw@h/shop?user=other", "PGUSER", "other")]
#[case::redis("REDIS_URL", "redis://:pw@[2001:db8::7]:6379/0", "REDIS_HOST", "2001:db8::7")]
fn parts_are_those_that_clients_read(#[case] key: &str, #[case] url: &str, #[case] part: &str, #[case] expected: &str) {
    let cr = external().build();
    let secret = if key == "REDIS_URL" { "redis" } else { "database" };
    let stack = validate(&cr, &with(&cr, secret, &[(key, url)]));
    assert_eq!(connection(&stack)[part], expected);
    assert_eq!(connection(&stack)[key], url);
    assert!(stack.connection.as_ref().unwrap().corrected_urls());
}

#[test]
fn ssl_true_is_require_and_replaces_no_pod() {
    let cr = external().build();
    let stack = told(&cr, "postgresql://app:pw@pg:5432/shop?ssl=true");
    assert_eq!(connection(&stack)["PGSSLMODE"], "require");
    assert!(!stack.connection.as_ref().unwrap().corrected_urls());
}

/// 0.1.0 made no pods of these, so nothing is corrected.
#[test]
fn several_hosts_are_told_in_the_form_of_libpq() {
    let cr = external().build();
    let url = "postgresql://app:pw@a:5433,[::1],c/shop?target_session_attrs=read-write";
    let stack = told(&cr, url);
    let data = connection(&stack);
    assert_eq!((&*data["DATABASE_URL"], &*data["PGHOST"], &*data["PGPORT"]), (url, "a,::1,c", "5433,5432,5432"));
    assert!(!stack.connection.as_ref().unwrap().corrected_urls());
}

#[test]
fn the_mode_of_the_spec_is_all_that_changes() {
    let tls = json!({"mode": "verify-full"});
    let cr = external().set("database.external.tls", tls).build();
    let stack = told(&cr, "postgresql://my_app:p-w@pg/shop?sslmode=disable&schema=a_b&sslmode=require");
    let expected = "postgresql://my_app:p-w@pg/shop?schema=a_b&sslmode=verify-full";
    assert_eq!(connection(&stack)["DATABASE_URL"], expected);
    assert!(!stack.connection.as_ref().unwrap().corrected_urls());
}

#[test]
fn prisma_is_told_in_its_style_and_nobody_else() {
    let tls = json!({"caSecretRef": {"name": "database-ca"}});
    let cr = external().set("database.external.tls", tls).set("backup", json!({})).build();
    let url = "postgresql://app:pw@pg/shop_prod?schema=public";
    let libpq = told(&cr, url);
    let mut prisma = cr.clone();
    let external = prisma.spec.database.as_mut().and_then(|database| database.external.as_mut()).unwrap();
    external.url_style = serde_json::from_value(json!("Prisma")).unwrap();
    let prisma = told(&prisma, url);
    let expected = format!("{url}&sslmode=require&sslaccept=strict&sslcert=/etc/rorun/ca/ca.crt");
    for key in ["DATABASE_URL", "DIRECT_URL", "DATABASE_READ_URL"] {
        assert_eq!(connection(&prisma)[key], expected);
        assert_eq!(connection(&libpq)[key], format!("{url}&sslmode=verify-full"));
    }
    let of_backup = |stack: &Stack| stack.connection.as_ref().unwrap().direct_url.clone();
    assert_eq!(of_backup(&prisma), of_backup(&libpq));
    assert_eq!(prisma.endpoints(), libpq.endpoints());
    assert_eq!(connection(&prisma)["PGSSLMODE"], "verify-full");
    assert_ne!(prisma.api.config_hash, libpq.api.config_hash);
}

#[rstest]
#[case("database", "DATABASE_URL", "\"postgresql://app:Secret7@pg/shop\"", "remove the quotation marks")]
#[case("database", "DATABASE_URL", "postgresql://app:1234/Secret7@pg/shop", "percent-encode")]
#[case("database", "DATABASE_URL", "postgresql://app:Secret7@%2Fvar%2Frun/shop", "names a Unix socket")]
#[case("database", "DATABASE_URL", "postgresql://app:Secret7@pg/shop?sslmode=no-verify", "has an sslmode other than")]
#[case("database", "DATABASE_URL", "Secret7:$2y$10$x", "must start with postgresql://")]
#[case("redis", "REDIS_URL", "redis://default:1234#Secret7@cache:6379/0", "percent-encoded, e.g. / as %2F, # as %23")]
#[case("redis", "REDIS_URL", "redis://default:1234%0d%0aSecret7@cache:6379/0", "control character")]
#[case("redis", "REDIS_URL", "Secret7:$2y$10$x", "must start with redis:// or rediss://")]
#[case("s3", "AWS_ACCESS_KEY_ID", "\"Secret7\"", "remove the quotation marks")]
#[case("s3", "AWS_SECRET_ACCESS_KEY", "'Secret7'", "remove the quotation marks")]
fn a_value_that_cannot_be_used_is_told_without_any_part_of_it_and_asked_of_nobody(
    #[case] secret: &str,
    #[case] key: &str,
    #[case] value: &str,
    #[case] words: &str,
) {
    let cr = external().build();
    let stack = validate(&cr, &with(&cr, secret, &[(key, value)]));
    let component = match secret {
        "database" => Component::Database,
        "redis" => Component::Redis,
        _ => Component::Bucket,
    };
    let Waiting { reason, message } = &stack.unresolved[&component];
    assert_eq!(*reason, reason::INVALID_VALUE, "{message}");
    assert!(message.starts_with(&format!("the value of {key} in secret/{secret}, named by ")), "{message}");
    assert!(message.contains(words), "{message}");
    assert!(!message.contains("Secret7") && !message.contains("1234"), "{message}");
    assert!(stack.endpoints().keys().all(|target| target.component != component));
    assert!(stack.connection.is_none());
}

#[test]
fn every_distinct_url_of_the_database_is_asked() {
    let targets = |values: &[(&str, &str)]| {
        let cr = external().build();
        let stack = validate(&cr, &with(&cr, "database", values));
        let targets: Vec<_> = stack.endpoints().into_keys().collect();
        targets.into_iter().filter(|target| target.component == Component::Database).collect::<Vec<_>>()
    };
    let main = ProbeTarget::from(Component::Database);
    let (url, other, third) = (PLAIN, "postgresql://a:b@c/d", "postgresql://a:b@e/d");
    assert_eq!(targets(&[("DATABASE_URL", url)]), [main]);
    assert_eq!(targets(&[("DATABASE_URL", url), ("DIRECT_URL", url)]), [main]);
    assert_eq!(
        targets(&[("DATABASE_URL", url), ("DIRECT_URL", other), ("READ_URL", other)]),
        [main, ProbeTarget::DIRECT]
    );
    assert_eq!(targets(&[("DATABASE_URL", url), ("READ_URL", other)]), [main, ProbeTarget::READ]);
    let all = targets(&[("DATABASE_URL", url), ("DIRECT_URL", other), ("READ_URL", third)]);
    assert_eq!(all, [main, ProbeTarget::DIRECT, ProbeTarget::READ]);
}

/// A stack with three URLs of which some fail, and its conditions.
fn conditions(
    cr: &RorunStack,
    failing: &[ProbeTarget],
    live: impl Fn(&Stack) -> LiveSet,
) -> BTreeMap<String, (String, String, String)> {
    let urls = [("DATABASE_URL", PLAIN), ("DIRECT_URL", "postgresql://a:b@c/d"), ("READ_URL", "postgresql://a:b@e/d")];
    let mut stack = valid_with(cr, &with(cr, "database", &urls));
    for target in failing {
        let message = format!(
            "{}failed to log in",
            stack.opening(*target).unwrap_or_else(|| "DATABASE_URL in secret/database: ".to_owned())
        );
        stack.probes.insert(*target, Probe::Failed(Waiting::new(reason::AUTHENTICATION_FAILED, message)));
    }
    let live = live(&stack);
    let readiness = desired(&stack, &rorun_operator::plan::Plan::default(), &live).readiness.into_iter().collect();
    let (notes, begun) = (BTreeMap::new(), BTreeMap::new());
    let report = Report {
        cr,
        stack: &stack,
        release: &rorun_operator::plan::Release::default(),
        restores: &rorun_operator::plan::Restores::default(),
        operations: &rorun_operator::plan::Operations::default(),
        live: &live,
        readiness,
        notes,
        backup: None,
        verified: None,
        point_in_time: None,
        begun,
        old: None,
    };
    let status = status::status(&report, jiff::Timestamp::UNIX_EPOCH);
    let told = status.conditions.into_iter().map(|told| (told.type_, (told.status, told.reason, told.message)));
    told.collect()
}

#[test]
fn each_failure_holds_what_needs_the_url() {
    let cr = external().set("backup", json!({})).build();
    let entry = |status: &str, reason: &str, message: &str| (status.to_owned(), reason.to_owned(), message.to_owned());
    let failed = reason::AUTHENTICATION_FAILED;

    let told = conditions(&cr, &[Component::Database.into()], all_ready);
    assert_eq!(told["DatabaseReady"], entry("False", failed, "DATABASE_URL in secret/database: failed to log in"));
    assert_eq!(told["Ready"].0, "False");
    let fresh = conditions(&cr, &[Component::Database.into()], |_| LiveSet::default());
    assert_eq!(fresh["ApiReady"].1, reason::DEPENDENCY_NOT_READY);

    let told = conditions(&cr, &[ProbeTarget::DIRECT], all_ready);
    assert_eq!(told["BackupHealthy"], entry("False", failed, "DIRECT_URL in secret/database: failed to log in"));
    assert_eq!((&*told["DatabaseReady"].0, &*told["DatabaseReady"].2, &*told["Ready"].0), ("True", "", "True"));
    let fresh = conditions(&cr, &[ProbeTarget::DIRECT], |_| LiveSet::default());
    assert_ne!(fresh["ApiReady"].1, reason::DEPENDENCY_NOT_READY);

    let told = conditions(&cr, &[ProbeTarget::READ], all_ready);
    assert_eq!(told["DatabaseReady"], entry("True", reason::READY, "READ_URL in secret/database: failed to log in"));
    assert_eq!((&*told["BackupHealthy"].0, &*told["Ready"].0), ("True", "True"));

    let without_backup = external().build();
    let told = conditions(&without_backup, &[ProbeTarget::DIRECT, ProbeTarget::READ], all_ready);
    let both = "DIRECT_URL in secret/database: failed to log in; READ_URL in secret/database: failed to log in";
    assert_eq!(told["DatabaseReady"], entry("True", reason::READY, both));
    assert_eq!(told["Ready"].0, "True");
}

/// So that a restart does not look like news.
#[test]
fn a_note_gives_back_the_answers_that_it_was_made_of() {
    let cr = external().build();
    let urls = [("DATABASE_URL", PLAIN), ("DIRECT_URL", "postgresql://a:b@c/d"), ("READ_URL", "postgresql://a:b@e/d")];
    let mut stack = valid_with(&cr, &with(&cr, "database", &urls));
    for failing in [&[][..], &[ProbeTarget::DIRECT], &[ProbeTarget::READ], &[ProbeTarget::DIRECT, ProbeTarget::READ]] {
        let answers = Probe::answers(None);
        for target in [Component::Database.into(), ProbeTarget::DIRECT, ProbeTarget::READ] {
            stack.probes.insert(target, answers.clone());
        }
        for target in failing {
            let message = format!("{}failed; READ_URL is not meant here", stack.opening(*target).unwrap());
            stack.probes.insert(*target, Probe::Failed(Waiting::new(reason::UNREACHABLE, message)));
        }
        let note = stack.note(Component::Database);
        for target in [Component::Database.into(), ProbeTarget::DIRECT, ProbeTarget::READ] {
            assert_eq!(stack.noted(target, note.as_deref()), *stack.probe(target), "{note:?}");
        }
    }
    let note = Probe::answers(Some("no versions".to_owned()));
    assert_eq!(stack.noted(Component::Bucket.into(), Some("no versions")), note);
}

#[test]
fn a_session_token_reaches_the_application_and_the_dump() {
    let cr = external().set("backup", json!({})).build();
    let without = valid(&cr);
    let observed = with(&cr, "s3", &[("AWS_SESSION_TOKEN", "token")]);
    let found = validate(&cr, &observed);
    assert_eq!(connection(&found)["AWS_SESSION_TOKEN"], "token");
    assert_eq!(secret_of_backup(&found)["AWS_SESSION_TOKEN"], json!("dG9rZW4="));
    // Nobody asked for it, so it replaces no pod.
    assert_eq!(found.api.config_hash, without.api.config_hash);
    let named =
        external().set("bucket.external.credentialsSecretRef.sessionTokenKey", json!("AWS_SESSION_TOKEN")).build();
    assert_ne!(validate(&named, &observed).api.config_hash, without.api.config_hash);
    assert!(!connection(&without).contains_key("AWS_SESSION_TOKEN"));
    assert_eq!(secret_of_backup(&without).get("AWS_SESSION_TOKEN"), None);
}

fn secret_of_backup(stack: &Stack) -> Value {
    let objects = rorun_operator::desired::everything(stack, &rorun_operator::plan::Plan::default());
    let secret = objects.iter().find(|object| object.kind.kind == "Secret" && object.name == "shop-backup");
    secret.unwrap().body["data"].clone()
}

#[test]
fn checksums_are_told_where_the_spec_asks_for_them() {
    const VARIABLES: [&str; 2] = ["AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"];
    let plain = valid(&external().build());
    assert!(VARIABLES.iter().all(|name| !connection(&plain).contains_key(name)));
    for (field, value) in [("WhenRequired", "WHEN_REQUIRED"), ("WhenSupported", "WHEN_SUPPORTED")] {
        let asked = valid(&external().set("bucket.external.checksums", json!(field)).build());
        assert!(VARIABLES.iter().all(|name| connection(&asked)[name] == value));
    }
}

/// Keys may be limited to the folder of the backups.
#[test]
fn a_bucket_that_holds_backups_is_asked_for_their_folder() {
    let prefix = |cr: &RorunStack, component: Component| match valid(cr).endpoints().remove(&component.into()) {
        Some(rorun_operator::stack::Endpoint::Bucket { prefix, .. }) => prefix,
        other => panic!("{other:?}"),
    };
    let folder = Some("backups/shop/shop/".to_owned());
    assert_eq!(prefix(&external().build(), Component::Bucket), None);
    assert_eq!(prefix(&external().set("backup", json!({})).build(), Component::Bucket), folder);
    let destination =
        json!({"name": "dumps", "endpoint": "https://s3.example.com", "credentialsSecretRef": {"name": "d"}});
    let cr = external().set("backup", json!({"destination": {"external": destination}})).build();
    assert_eq!((prefix(&cr, Component::Bucket), prefix(&cr, Component::Backup)), (None, folder));
}

#[test]
fn buckets_below_a_path_are_asked_in_path_style_alone() {
    let at = |style: Value| {
        external()
            .set("bucket.external.endpoint", json!("https://x.storage.supabase.co/storage/v1/s3/"))
            .set("bucket.external.forcePathStyle", style)
            .build()
    };
    for style in [Value::Null, json!(true)] {
        let stack = valid(&at(style));
        assert_eq!(connection(&stack)["S3_ENDPOINT"], "https://x.storage.supabase.co/storage/v1/s3");
        assert_eq!(connection(&stack)["S3_FORCE_PATH_STYLE"], "true");
    }
    let Waiting { reason, message } = valid(&at(json!(false))).unresolved[&Component::Bucket].clone();
    assert_eq!(reason, reason::INVALID_SPEC);
    assert!(message.starts_with("bucket.external.forcePathStyle must not be false"), "{message}");
}
