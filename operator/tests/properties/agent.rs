//! The pod of a backup speaks the language of the agent in it.

use clap::Parser;
use proptest::prelude::*;
use rorun_operator::{
    agent::AgentCommand,
    contract::{self, PointOrigin},
    objects::DesiredObject,
};
use serde_json::{Value, json};

use super::{
    generate::{config, stacks},
    support::{CANARY, containers, items, objects, template, text},
};

#[derive(Debug, Parser)]
struct Agent {
    #[command(subcommand)]
    command: AgentCommand,
}

/// Variables of the contract, and the hidden arguments that stand for them: a test cannot set variables without touching
/// other tests.
const VARIABLES: [(&str, &str); 8] = [
    (contract::ENV_DATABASE_URL, "--database-url"),
    (contract::ENV_S3_ENDPOINT, "--s3-endpoint"),
    (contract::ENV_S3_REGION, "--s3-region"),
    (contract::ENV_S3_BUCKET, "--s3-bucket"),
    (contract::ENV_S3_FORCE_PATH_STYLE, "--s3-force-path-style"),
    (contract::ENV_ACCESS_KEY_ID, "--access-key-id"),
    (contract::ENV_SECRET_ACCESS_KEY, "--secret-access-key"),
    (contract::ENV_ORIGIN, "--origin"),
];

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_agent_understands_what_its_pod_is_started_with(cr in stacks()) {
        let all = objects(&cr);
        let of = |component: &str| {
            all.iter().find(|object| object.kind.kind == "CronJob" && object.component() == component)
        };
        if let Some(job) = of("drill") {
            let secret = all.iter().find(|object| object.kind.kind == "Secret" && object.name == job.name).unwrap();
            let mut pod = of_agent(job).map(|container| parsed(container, secret));
            let (install, drill) = (pod.next().unwrap(), pod.next().unwrap());
            prop_assert!(matches!(install, AgentCommand::Install { .. }), "no install");
            let AgentCommand::Drill(drill) = drill else { panic!("no drill") };
            let folder = ["/", cr.metadata.name.as_deref().unwrap(), "/"].concat();
            prop_assert!(drill.prefix.ends_with(&folder));
            // A drill has no way to the live database.
            prop_assert!(secret.body["data"][contract::ENV_DATABASE_URL].is_null());
        }
        let Some(job) = of("backup") else { return Ok(()) };
        let secret = all.iter().find(|object| object.kind.kind == "Secret" && object.name == job.name).unwrap();
        let mut pod = of_agent(job).map(|container| parsed(container, secret));
        let AgentCommand::Install { path } = pod.next().unwrap() else { panic!("no install") };
        let AgentCommand::Dump(dump) = pod.next().unwrap() else { panic!("no dump") };
        prop_assert_eq!(path.to_str(), Some(contract::BINARY_PATH));
        // What its user wrote, and nothing else: no value of a Secret is in it.
        let written = json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack",
            "metadata": {"name": cr.metadata.name, "namespace": cr.metadata.namespace}, "spec": cr.spec});
        prop_assert!(!written.to_string().contains(CANARY));
        let told = PointOrigin { stack: Some(written), ..PointOrigin::default() };
        prop_assert_eq!(PointOrigin::read(dump.origin.as_deref().unwrap()), Ok(told));
        let stack = (cr.metadata.namespace.as_deref().unwrap(), cr.metadata.name.as_deref().unwrap());
        let destination = cr.spec.backup.as_ref().and_then(|backup| backup.destination.as_ref());
        let base = destination.and_then(|destination| destination.prefix.as_deref()).unwrap_or("backups/");
        prop_assert_eq!(&dump.prefix, &format!("{base}{}/{}/", stack.0, stack.1));
        let name = dump.owner.as_deref().and_then(|owner| owner.split_once('/')).map(|(_, name)| name);
        prop_assert_eq!((name, dump.stack_uid.as_deref()), (Some(stack.1), cr.metadata.uid.as_deref()));
        let external = destination.and_then(|destination| destination.external.as_ref());
        let embedded = external.is_none() && cr.spec.bucket.as_ref().is_none_or(|bucket| bucket.external.is_none());
        prop_assert_eq!(dump.delete_versions, embedded, "old versions fill the volume of an embedded bucket alone");
        let retention = cr.spec.backup.as_ref().and_then(|backup| backup.retention.clone()).unwrap_or_default();
        let kept = (i64::from(dump.retention_days), i64::from(dump.minimum_kept));
        prop_assert_eq!(kept, (retention.days.unwrap_or(30).into(), retention.minimum_kept.unwrap_or(7).into()));
        let excluded = cr.spec.backup.as_ref().map(|backup| backup.exclude_schemas.clone()).unwrap_or_default();
        prop_assert_eq!(&dump.exclude_schema, &excluded);
        // Each service by its own authorities, and by those of no other.
        let of = |external: Option<&rorun_operator::api::v1alpha1::ExternalBucket>| {
            external.is_some_and(|bucket| bucket.tls.as_ref().is_some_and(|tls| tls.ca_secret_ref.is_some()))
        };
        let database = cr.spec.database.as_ref().and_then(|database| database.external.as_ref());
        // That of a Cluster is always of an authority of its own.
        let cluster = cr.spec.database.as_ref().is_some_and(|database| database.cloud_native_pg.is_some());
        let own = cluster || database.is_some_and(|database| database.tls.as_ref().is_some_and(|tls| tls.ca_secret_ref.is_some()));
        let bucket = external.or(cr.spec.bucket.as_ref().and_then(|bucket| bucket.external.as_ref()));
        prop_assert_eq!((dump.database_ca_file.is_some(), dump.bucket_ca_file.is_some()), (own, of(bucket)));
        prop_assert!(dump.ca_file.is_none());
        let map = all.iter().find(|object| object.kind.kind == "ConfigMap" && object.component() == "backup");
        for file in [&dump.database_ca_file, &dump.bucket_ca_file].into_iter().flatten() {
            let key = file.file_name().and_then(|name| name.to_str()).unwrap();
            prop_assert!(map.is_some_and(|map| map.body["data"][key].is_string()), "{key} is mounted from nowhere");
        }
        prop_assert_eq!(dump.bucket.s3_bucket == "dumps", external.is_some());
    }
}

/// The containers of a `CronJob` that run the agent, in the order in which they start.
fn of_agent(job: &DesiredObject) -> impl Iterator<Item = &Value> {
    containers(template(job).unwrap())
        .filter(|container| text(container, "/name") != Some(rorun_operator::names::PROXY))
}

fn parsed(container: &Value, secret: &DesiredObject) -> AgentCommand {
    let args: Vec<_> = items(container, "/args").filter_map(Value::as_str).map(str::to_owned).collect();
    let informed = items(container, "/envFrom").any(|source| text(source, "/secretRef/name") == Some(&secret.name));
    let known = |(name, _): &&(&str, &str)| informed && !secret.body["data"][*name].is_null();
    let variables = VARIABLES.iter().filter(known).flat_map(|(name, argument)| {
        let value: k8s_openapi::ByteString = serde_json::from_value(secret.body["data"][name].clone()).unwrap();
        [(*argument).to_owned(), String::from_utf8(value.0).unwrap()]
    });
    let all = args.iter().cloned().chain(variables);
    Agent::try_parse_from(all).unwrap_or_else(|error| panic!("{args:?}: {error}")).command
}
