//! The certificate that clients show to an external database: who has it, and what is wrong with one.

use rorun_operator::{
    api::v1alpha1::RorunStack,
    contract::{CLIENT_CERTIFICATE_PATH, CLIENT_DIRECTORY, CLIENT_KEY_PATH},
    desired::everything,
    names::{CLIENT_VOLUME, Component, Waiting, reason},
    plan::{Plan, Step},
    stack::{Endpoint, Observed, Stack, validate},
};
use rstest::rstest;
use serde_json::{Value, json};

use super::support::{CANARY, all_there, stack};

const SECRET: &str = "database-client";
const URL: &str = "postgresql://app@pg.default.svc:5432/shop?sslmode=require";
const NAMED: &str = "sslcert=/etc/rorun/client/tls.crt&sslkey=/etc/rorun/client/tls.key";

fn cr() -> RorunStack {
    let fixture = stack("shop").production().with_all_workloads();
    let fixture = fixture.set("api.migrations", json!({"command": ["migrate"]})).set("backup.verify", json!({}));
    fixture.set("database.external.tls", json!({"clientCertificateSecretRef": {"name": SECRET}})).build()
}

fn with(cr: &RorunStack, secret: &str, values: &[(&str, &str)]) -> Observed {
    let mut observed = all_there(cr);
    let data = observed.secrets.get_mut(secret).unwrap().get_or_insert_default();
    data.extend(values.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())));
    observed
}

fn told(observed: &Observed) -> Stack {
    validate(&cr(), observed)
}

fn objects(stack: &Stack) -> Vec<Value> {
    let mut plan = Plan::default();
    plan.release.migration = Some(Step { name: "shop-migration-1".to_owned(), exists: false });
    let objects = everything(stack, &plan);
    objects.into_iter().map(|object| json!({"kind": object.kind.kind, "body": object.body})).collect()
}

/// The pods of an object.
fn pods(object: &Value) -> Option<&Value> {
    let spec = &object["body"]["spec"];
    let template = if object["kind"] == "CronJob" { &spec["jobTemplate"]["spec"] } else { spec };
    template.get("template").map(|template| &template["spec"])
}

#[test]
fn the_urls_name_the_files_and_need_no_password() {
    let cr = cr();
    let written = format!("{URL}&sslcert=/elsewhere.crt&sslkey=/elsewhere.key");
    let stack = told(&with(&cr, "database", &[("DATABASE_URL", &written)]));
    let connection = stack.connection.as_ref().unwrap_or_else(|| panic!("{:?}", stack.unresolved));
    for key in ["DATABASE_URL", "DIRECT_URL", "DATABASE_READ_URL"] {
        assert_eq!(connection.data[key], format!("{URL}&{NAMED}"), "{key}");
    }
    assert_eq!(
        (connection.direct_url.as_str(), connection.data["PGPASSWORD"].as_str()),
        (&*format!("{URL}&{NAMED}"), "")
    );
    let Some(Endpoint::Postgres { client: Some(client), .. }) = stack.endpoints().remove(&Component::Database.into())
    else {
        panic!("the operator asks without the certificate")
    };
    assert!(client.certificate.starts_with("-----BEGIN CERTIFICATE-----") && client.key.contains(CANARY));
    assert!(!client.certificate.contains(CANARY), "a key beside the certificate");
}

/// Whoever has a URL of the database has the files, and nobody else.
#[test]
fn every_pod_that_uses_the_database_has_the_files() {
    let cr = cr();
    let observed = with(&cr, "database", &[("DATABASE_URL", URL)]);
    let objects = objects(&told(&observed));
    let mut with_files = Vec::new();
    for object in &objects {
        let Some(pod) = pods(object) else { continue };
        let text = pod.to_string();
        let name = object["body"]["metadata"]["name"].as_str().unwrap().to_owned();
        let volume = pod["volumes"].as_array().into_iter().flatten().find(|volume| volume["name"] == CLIENT_VOLUME);
        let uses =
            ["-connection\"}}]", "\"LOCK_URL\"", "\"shop-backup\"}}]"].iter().any(|source| text.contains(source));
        assert_eq!(volume.is_some(), uses, "{name}: {text}");
        let Some(volume) = volume else { continue };
        let items = json!([{"key": "tls.crt", "path": "tls.crt"}, {"key": "tls.key", "path": "tls.key"}]);
        assert_eq!(volume["secret"], json!({"secretName": SECRET, "defaultMode": 0o440, "items": items}));
        assert!(pod["securityContext"]["fsGroup"].is_number(), "{name}: nobody may read the key");
        let containers =
            ["containers", "initContainers"].map(|list| pod[list].as_array()).into_iter().flatten().flatten();
        let mounts = |container: &&Value| {
            let mounts = container["volumeMounts"].as_array().into_iter().flatten();
            mounts.into_iter().any(|mount| mount["mountPath"] == CLIENT_DIRECTORY && mount["readOnly"] == true)
        };
        let names = containers.filter(mounts).map(|container| container["name"].as_str().unwrap().to_owned());
        with_files.push((name, names.collect::<Vec<_>>().join(" ")));
    }
    with_files.sort();
    let expected =
        [("shop-api", "api"), ("shop-backup", "dump"), ("shop-migration-1", "migrate lock"), ("shop-ocr", "ocr")];
    assert_eq!(with_files, expected.map(|(object, containers)| (object.to_owned(), containers.to_owned())));
    let api = objects
        .iter()
        .find(|object| object["kind"] == "Deployment" && object["body"]["metadata"]["name"] == "shop-api");
    let env = pods(api.unwrap()).unwrap()["containers"][0]["env"].to_string();
    assert!(env.contains(CLIENT_CERTIFICATE_PATH) && env.contains(CLIENT_KEY_PATH), "{env}");
}

/// The kubelet renews the files, and clients read them when they connect.
#[test]
fn a_renewed_certificate_changes_no_object_and_is_what_the_operator_shows() {
    let cr = cr();
    let before = told(&with(&cr, "database", &[("DATABASE_URL", URL)]));
    let mut observed = with(&cr, "database", &[("DATABASE_URL", URL)]);
    let renewed =
        ["CERTIFICATE", "EC PRIVATE KEY"].map(|kind| format!("-----BEGIN {kind}-----\nnew\n-----END {kind}-----"));
    let data = observed.secrets.get_mut(SECRET).unwrap().as_mut().unwrap();
    data.insert("tls.crt".to_owned(), renewed[0].clone().into());
    data.insert("tls.key".to_owned(), renewed[1].clone().into());
    let after = told(&observed);
    assert!(after.unresolved.is_empty(), "{:?}", after.unresolved);
    assert_eq!(objects(&before), objects(&after));
    assert_ne!(before.endpoints(), after.endpoints());
}

#[rstest]
#[case::no_certificate(&[("tls.crt", "")], reason::KEY_MISSING, "lacks the key tls.crt")]
#[case::no_key(&[("tls.key", "")], reason::KEY_MISSING, "lacks the key tls.key")]
#[case::certificate_is_none(&[("tls.crt", "Secret7")], reason::INVALID_VALUE, "is not a certificate in PEM form")]
#[case::key_is_none(&[("tls.key", "Secret7")], reason::INVALID_VALUE, "is not a private key in PEM form (-----BEGIN PRIVATE KEY-----)")]
#[case::key_is_encrypted(
    &[("tls.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nSecret7\n-----END ENCRYPTED PRIVATE KEY-----")],
    reason::INVALID_VALUE,
    "is encrypted, and nobody tells the pods its passphrase: store the key without one"
)]
fn what_is_wrong_with_the_secret_is_told(
    #[case] values: &[(&str, &str)],
    #[case] expected: reason::Reason,
    #[case] words: &str,
) {
    let stack = told(&with(&cr(), SECRET, values));
    let Waiting { reason, message } = &stack.unresolved[&Component::Database];
    assert_eq!(*reason, expected, "{message}");
    assert!(message.contains(words) && !message.contains("Secret7"), "{message}");
    assert!(
        message.contains("secret/database-client, named by database.external.tls.clientCertificateSecretRef"),
        "{message}"
    );
    assert!(stack.connection.is_none());
}

#[test]
fn a_secret_that_is_missing_and_a_url_without_tls_are_told() {
    let mut observed = all_there(&cr());
    observed.secrets.insert(SECRET.to_owned(), None);
    let stack = told(&observed);
    let missing = "secret/database-client, named by database.external.tls.clientCertificateSecretRef, does not exist: create it in \
                   the stack's namespace";
    let expected = Waiting::new(reason::REFERENCE_MISSING, missing);
    assert_eq!(stack.unresolved[&Component::Database], expected);

    let plain = "postgresql://app@pg.default.svc:5432/shop?sslmode=disable";
    let stack = told(&with(&cr(), "database", &[("DIRECT_URL", plain)]));
    let words = "the value of DIRECT_URL in secret/database, named by database.external.secretRef, says sslmode=disable, and without \
                 TLS no client shows the certificate of database.external.tls.clientCertificateSecretRef: write another sslmode, or \
                 set database.external.tls.mode";
    assert_eq!(stack.unresolved[&Component::Database], Waiting::new(reason::INVALID_VALUE, words));
}
