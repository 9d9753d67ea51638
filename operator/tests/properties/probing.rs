//! What the operator sends where, on behalf of whoever may edit a stack.

use rorun_operator::{
    api::v1alpha1::RorunStack,
    desired::desired,
    names::{Component, reason},
    objects::{LiveSet, Readiness},
    stack::{JobPhase, Observed, Probe, SanitizeRequest, SecretTraits, Stack, validate},
};
use rstest::rstest;
use serde_json::{Value, json};

use super::support::{Fixture, all_ready, all_there, stack, valid_with};

/// Nobody has said of a Secret that it is meant for S3.
fn unlabelled(cr: &RorunStack) -> Observed {
    let mut observed = all_there(cr);
    observed.traits.clear();
    observed
}

fn with_secret(cr: &RorunStack, name: &str, key: &str, value: &str) -> Observed {
    let mut observed = unlabelled(cr);
    let data = observed.secrets.get_mut(name).expect("it is named").get_or_insert_default();
    data.insert(key.to_owned(), value.as_bytes().to_vec());
    observed
}

fn bucket(fields: &Value) -> Value {
    let mut external =
        json!({"name": "files", "endpoint": "https://s3.example.com", "credentialsSecretRef": {"name": "keys"}});
    external.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({ "external": external })
}

fn asked(stack: &Stack, component: Component) -> bool {
    let asked = stack.endpoints().contains_key(&component.into());
    assert_ne!(asked, stack.not_probed(component).is_some(), "{component}");
    asked
}

#[rstest]
#[case::usual(json!({"name": "keys"}), true)]
#[case::named_as_usual(json!({"name": "keys", "accessKeyIdKey": "AWS_ACCESS_KEY_ID", "secretAccessKeyKey": "AWS_SECRET_ACCESS_KEY"}), true)]
#[case::another_id(json!({"name": "keys", "accessKeyIdKey": "token"}), false)]
#[case::another_secret(json!({"name": "keys", "secretAccessKeyKey": "token"}), false)]
#[case::the_secret_key_in_clear(json!({"name": "keys", "accessKeyIdKey": "AWS_SECRET_ACCESS_KEY"}), false)]
fn keys_of_other_names_are_sent_only_if_their_secret_is_labelled(#[case] keys: Value, #[case] expected: bool) {
    for (place, component) in [("bucket", Component::Bucket), ("backup.destination", Component::Backup)] {
        let cr = stack("shop").set(place, bucket(&json!({"credentialsSecretRef": keys}))).build();
        let mut observed = unlabelled(&cr);
        assert_eq!(asked(&validate(&cr, &observed), component), expected, "{place}");
        observed.traits.insert("keys".to_owned(), SecretTraits { for_s3: true, too_large: false });
        assert!(asked(&validate(&cr, &observed), component), "{place}");
    }
}

#[test]
fn what_is_not_asked_is_used_and_told_and_holds_nothing() {
    let keys = json!({"credentialsSecretRef": {"name": "keys", "accessKeyIdKey": "token"}});
    let cr = stack("shop").set("bucket", bucket(&keys)).build();
    let stack = valid_with(&cr, &unlabelled(&cr));
    let wanted = desired(&stack, &rorun_operator::plan::Plan::default(), &all_ready(&stack));
    assert!(wanted.waiting.is_empty(), "{:?}", wanted.waiting);
    let first = desired(&stack, &rorun_operator::plan::Plan::default(), &LiveSet::default());
    assert_ne!(first.waiting.get(&Component::Api).map(|held| held.message.contains("bucket")), Some(true));
    let Some(Readiness::Waiting(waiting)) = wanted.readiness.get(&Component::Bucket) else { panic!("it is told") };
    assert_eq!(waiting.reason, reason::NOT_PROBED);
    assert!(waiting.message.contains("kubectl label secret keys rorun.app/s3=true"), "{}", waiting.message);
    let readiness: Vec<_> = wanted.readiness.into_iter().collect();
    assert_eq!(rorun_operator::status::root_cause(&readiness), None);
}

#[rstest]
#[case("AKIAIOSFODNN7EXAMPLE", true)]
#[case("a-b_3", true)]
#[case("ab", false)]
#[case("eyJhbGciOi.eyJzdWIi", false)]
#[case("p@ssword", false)]
#[case("two words", false)]
#[case("ключи", false)]
fn an_access_key_id_looks_like_one(#[case] id: &str, #[case] expected: bool) {
    let cr = stack("shop").set("bucket", bucket(&json!({}))).build();
    let stack = validate(&cr, &with_secret(&cr, "keys", "AWS_ACCESS_KEY_ID", id));
    let problem = stack.unresolved.get(&Component::Bucket);
    assert_eq!(problem.is_none(), expected, "{id}: {problem:?}");
    if let Some(problem) = problem {
        assert_eq!(problem.reason, reason::INVALID_VALUE);
        assert!(!problem.message.contains(id), "{}", problem.message);
    }
    assert_eq!(stack.endpoints().contains_key(&Component::Bucket.into()), expected);
}

/// A stack of an environment with every service outside.
fn outside(environment: &str) -> Fixture {
    let keys = bucket(&json!({"endpoint": "http://s3.example.com"}));
    stack("shop")
        .with_external_services()
        .set("environment", json!(environment))
        .set("bucket", keys)
        .set("backup", json!({}))
}

fn in_clear(cr: &RorunStack) -> Observed {
    let mut observed = with_secret(cr, "redis", "REDIS_URL", "redis://u:p@redis.example.com");
    let url = "postgresql://u:p@db.example.com/d?sslmode=disable";
    observed.secrets.get_mut("database").unwrap().as_mut().unwrap().insert("DATABASE_URL".to_owned(), url.into());
    observed
}

#[rstest]
#[case("Development", false, true)]
#[case("Staging", false, false)]
#[case("Production", false, false)]
#[case("Staging", true, true)]
#[case("Production", true, true)]
fn passwords_leave_in_clear_only_where_the_spec_says_so(
    #[case] environment: &str,
    #[case] allowed: bool,
    #[case] expected: bool,
) {
    let services = [("database", Component::Database), ("redis", Component::Redis), ("bucket", Component::Bucket)];
    let mut fixture = outside(environment);
    for (field, _) in services.iter().filter(|_| allowed) {
        fixture = fixture.set(&format!("{field}.external.allowInsecure"), json!(true));
    }
    let cr = fixture.build();
    let stack = validate(&cr, &in_clear(&cr));
    for (field, component) in services {
        assert_eq!(asked(&stack, component), expected, "{field}");
        let message = stack.not_probed(component).map(|waiting| waiting.message.clone()).unwrap_or_default();
        assert!(expected || message.contains(&format!("{field}.external.allowInsecure")), "{message}");
    }
}

#[test]
fn a_stack_that_is_suspended_or_at_zero_is_not_asked() {
    for (field, value) in [("suspend", json!(true)), ("api.replicas", json!(0))] {
        let cr = outside("Development").set(field, value.clone()).build();
        assert!(validate(&cr, &all_there(&cr)).endpoints().is_empty(), "{field}");
    }
    let some = outside("Development").with_all_workloads().set("api.replicas", json!(0)).build();
    assert_eq!(validate(&some, &all_there(&some)).endpoints().len(), 3);
}

#[rstest]
#[case("redis", "REDIS_URL", "redis://u:a%0d%0aFLUSHALL@redis.example.com", Component::Redis)]
#[case("redis", "REDIS_URL", "redis://u:a\tb@redis.example.com", Component::Redis)]
#[case("database", "DATABASE_URL", "postgresql://u:a%00b@db.example.com/d", Component::Database)]
fn control_characters_are_refused_and_not_repeated(
    #[case] secret: &str,
    #[case] key: &str,
    #[case] url: &str,
    #[case] component: Component,
) {
    let cr = outside("Development").build();
    let stack = validate(&cr, &with_secret(&cr, secret, key, url));
    let problem = stack.unresolved.get(&component).expect("it is refused");
    assert_eq!(problem.reason, reason::INVALID_VALUE);
    assert!(!problem.message.contains("example.com") && problem.message.contains(key), "{}", problem.message);
    assert!(!stack.endpoints().contains_key(&component.into()));
}

#[test]
fn a_missing_key_does_not_give_away_the_others() {
    let cr = outside("Development").set("redis.external.secretRef.urlKey", json!("nothing")).build();
    let mut observed = with_secret(&cr, "redis", "a-telling-name", "x");
    observed.secrets.get_mut("redis").unwrap().as_mut().unwrap().remove("nothing");
    let stack = validate(&cr, &observed);
    let problem = stack.unresolved.get(&Component::Redis).expect("it is missing");
    assert_eq!(problem.reason, reason::KEY_MISSING);
    assert!(!problem.message.contains("telling"), "{}", problem.message);
}

#[test]
fn what_stands_before_the_first_colon_is_not_repeated() {
    let cr = outside("Development").build();
    for (secret, key, component) in
        [("redis", "REDIS_URL", Component::Redis), ("database", "DATABASE_URL", Component::Database)]
    {
        let stack = validate(&cr, &with_secret(&cr, secret, key, "admin:hash-of-a-password"));
        let problem = stack.unresolved.get(&component).expect("it is refused");
        assert!(!problem.message.contains("admin") && !problem.message.contains("hash"), "{}", problem.message);
    }
}

/// The bucket, the destination and a copy, by the role of the pods.
fn by_role(name: &str) -> Value {
    json!({"name": name, "endpoint": "https://s3.example.com", "cloudRole": {}})
}

fn with_a_role() -> Fixture {
    let backup = json!({
        "destination": {"external": by_role("dumps")},
        "copies": [{"external": by_role("elsewhere")}],
        "verify": {"credentialsSecretRef": {"name": "reader"}},
    });
    let role = json!({"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/shop"});
    let stack = stack("shop").set("bucket", json!({"external": by_role("files")})).set("backup", backup);
    stack.set("api.serviceAccount", json!({"annotations": role}))
}

#[test]
fn of_a_role_there_are_no_keys_anywhere_and_no_secret_is_asked() {
    let cr = with_a_role().build();
    let stack = valid_with(&cr, &unlabelled(&cr));
    assert!(stack.unresolved.is_empty(), "{:?}", stack.unresolved);
    let found: Vec<_> = rorun_operator::stack::references("shop", &cr.spec).secrets.into_iter().collect();
    assert_eq!(found, ["reader"]);
    let objects = rorun_operator::desired::everything(&stack, &rorun_operator::plan::Plan::default());
    let holders = objects.iter().filter(|object| object.body.to_string().contains("AWS_ACCESS_KEY_ID"));
    let holders: Vec<_> = holders.map(|object| format!("{}/{}", object.kind.kind, object.name)).collect();
    assert_eq!(holders, ["Secret/shop-drill"], "drills read by keys of their own");
    let accounts = |name: &str| {
        let account = objects.iter().find(|object| object.kind.kind == "ServiceAccount" && object.name == name);
        account.is_some_and(|account| account.body.to_string().contains("role-arn"))
    };
    assert_eq!(["shop-api", "shop-backup", "shop-drill"].map(accounts), [true, true, false]);
}

/// The operator has no such role: with one of its own it would do for a tenant what the tenant may not.
#[test]
fn a_bucket_by_a_role_is_asked_from_the_pods_alone() {
    let cr = with_a_role().build();
    let stack = valid_with(&cr, &unlabelled(&cr));
    for component in [Component::Bucket, Component::Backup] {
        assert!(!stack.endpoints().contains_key(&component.into()), "{component}");
        assert!(stack.is_asked_from_pods_alone(component) && stack.not_probed(component).is_none(), "{component}");
        assert!(stack.targets_from_pods().contains(&component.into()), "{component}");
    }
    let job = |stack: &Stack| stack.from_pods.as_ref().map(|asked| asked.job.clone());
    let other = json!({"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/other"}});
    let other = with_a_role().set("api.serviceAccount", other).build();
    assert_ne!(job(&stack), job(&valid_with(&other, &unlabelled(&other))), "another role has other rights");
}

#[rstest]
#[case::it_answers(json!({"passed": {}}), true, None)]
#[case::it_refuses(json!({"failed": {"reason": "AuthenticationFailed", "message": "no role"}}), true, Some(reason::AUTHENTICATION_FAILED))]
// Nobody else knows whether the role reaches anything.
#[case::it_denies(json!({"failed": {"reason": "AccessDenied", "message": "denied"}}), true, Some(reason::ACCESS_DENIED))]
#[case::it_says_nothing_yet(json!(null), false, Some(reason::PROGRESSING))]
fn what_the_job_says_is_what_the_bucket_is(
    #[case] verdict: Value,
    #[case] said: bool,
    #[case] expected: Option<reason::Reason>,
) {
    let cr = with_a_role().without("backup").build();
    let mut stack = valid_with(&cr, &unlabelled(&cr));
    let target = rorun_operator::stack::ProbeTarget::from(Component::Bucket);
    let asked = stack.from_pods.as_mut().expect("it is asked");
    asked.phase = Some(JobPhase::Running);
    let outcome = json!({"answers": [{"target": "bucket", "verdict": verdict}]});
    asked.said = said.then(|| serde_json::from_value(outcome).expect("an outcome"));
    stack.probes = stack.told_from_pods(target, &Probe::Pending).map(|told| (target, told)).into_iter().collect();
    let wanted = desired(&stack, &rorun_operator::plan::Plan::default(), &all_ready(&stack));
    let found = match wanted.readiness.get(&Component::Bucket).expect("it is told") {
        Readiness::Ready => None,
        Readiness::Waiting(waiting) => Some(waiting.reason),
    };
    assert_eq!(found, expected);
    assert!(stack.findings(Component::Bucket).is_empty(), "{:?}", stack.findings(Component::Bucket));
}

#[test]
fn a_drill_and_a_sanitized_point_get_no_role() {
    let cr = with_a_role().without("backup.verify.credentialsSecretRef").set("backup.verify", json!({})).build();
    let stack = valid_with(&cr, &unlabelled(&cr));
    let missing = stack.unresolved.get(&Component::Drill).expect("it is told");
    assert!(missing.reason == reason::INVALID_SPEC && missing.message.contains("backup.verify.credentialsSecretRef"));
    let objects = rorun_operator::desired::everything(&stack, &rorun_operator::plan::Plan::default());
    assert!(!objects.iter().any(|object| object.name == "shop-drill"), "no pod runs statements with a role");
    let asked = json!({"stackRef": {"name": "shop"}, "sanitize": {"sql": "SELECT 1"},
        "destination": {"external": {"name": "safe", "endpoint": "https://s3.example.com",
            "credentialsSecretRef": {"name": "safe"}}}});
    let asked = serde_json::from_value(asked).expect("a spec");
    let mut observed = unlabelled(&cr);
    let keys = [("AWS_ACCESS_KEY_ID", "an-id"), ("AWS_SECRET_ACCESS_KEY", "key")];
    let keys = keys.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
    observed.secrets.insert("safe".to_owned(), Some(keys.into()));
    let destination = |spec: &RorunStack, observed: &Observed| {
        SanitizeRequest::of(&asked, &spec.spec, observed).expect("it is asked for").destination
    };
    let refused = destination(&cr, &observed).expect_err("it is refused");
    assert!(refused.message.contains("backup.verify.credentialsSecretRef of the stack"), "{}", refused.message);
    let cr = with_a_role().build();
    let mut readable = all_there(&cr);
    readable.secrets.extend(observed.secrets);
    assert!(destination(&cr, &readable).is_ok());
    let paused = with_a_role().set("backup.verify", json!({"suspend": true})).build();
    assert!(valid_with(&paused, &unlabelled(&paused)).unresolved.is_empty(), "who wants no drills needs no keys");
}

/// With one annotation for all accounts the application has the role of the backups too.
#[test]
fn production_is_told_that_the_application_can_delete_its_backups() {
    let note = |cr: &RorunStack| valid_with(cr, &all_there(cr)).backup.and_then(|backup| backup.note);
    let production = |fixture: Fixture| fixture.production().set("bucket", json!({"external": by_role("files")}));
    let backup = json!({"destination": {"external": by_role("dumps")}});
    let role = json!({"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/shop"}});
    let shared = production(stack("shop")).set("backup", backup.clone()).set("api.serviceAccount", role);
    let told = note(&shared.build()).expect("it is told");
    assert!(told.contains("by the role of api.serviceAccount.annotations"), "{told}");
    assert_eq!(note(&production(stack("shop")).set("backup", backup).build()), None);
}
