//! The pod of a backup speaks the language of the agent in it.

use clap::Parser;
use proptest::prelude::*;
use rorun_operator::{agent::AgentCommand, contract, objects::DesiredObject};
use serde_json::Value;

use super::{
    generate::{config, stacks},
    support::{containers, items, objects, template, text},
};

#[derive(Debug, Parser)]
struct Agent {
    #[command(subcommand)]
    command: AgentCommand,
}

/// Variables of the contract, and the hidden arguments that stand for them: a test cannot set variables without touching
/// other tests.
const VARIABLES: [(&str, &str); 7] = [
    (contract::ENV_DATABASE_URL, "--database-url"),
    (contract::ENV_S3_ENDPOINT, "--s3-endpoint"),
    (contract::ENV_S3_REGION, "--s3-region"),
    (contract::ENV_S3_BUCKET, "--s3-bucket"),
    (contract::ENV_S3_FORCE_PATH_STYLE, "--s3-force-path-style"),
    (contract::ENV_ACCESS_KEY_ID, "--access-key-id"),
    (contract::ENV_SECRET_ACCESS_KEY, "--secret-access-key"),
];

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_agent_understands_what_its_pod_is_started_with(cr in stacks()) {
        let all = objects(&cr);
        let Some(job) = all.iter().find(|object| object.kind.kind == "CronJob") else { return Ok(()) };
        let secret = all.iter().find(|object| object.kind.kind == "Secret" && object.name == job.name).unwrap();
        let mut pod = containers(template(job).unwrap()).map(|container| parsed(container, secret));
        let AgentCommand::Install { path } = pod.next().unwrap() else { panic!("no install") };
        let AgentCommand::Dump(dump) = pod.next().unwrap() else { panic!("no dump") };
        prop_assert_eq!(path.to_str(), Some(contract::BINARY_PATH));
        let stack = (cr.metadata.namespace.as_deref().unwrap(), cr.metadata.name.as_deref().unwrap());
        prop_assert_eq!(&dump.prefix, &format!("backups/{}/{}/", stack.0, stack.1));
        let retention = cr.spec.backup.as_ref().and_then(|backup| backup.retention.clone()).unwrap_or_default();
        let kept = (i64::from(dump.retention_days), i64::from(dump.minimum_kept));
        prop_assert_eq!(kept, (retention.days.unwrap_or(30).into(), retention.minimum_kept.unwrap_or(7).into()));
        let ca = all.iter().any(|object| object.kind.kind == "ConfigMap" && object.component() == "backup");
        prop_assert_eq!(dump.ca_file.is_some(), ca);
        let wanted = cr.spec.backup.as_ref().is_some_and(|backup| backup.destination.is_some());
        prop_assert_eq!(dump.bucket.s3_bucket == "dumps", wanted);
    }
}

fn parsed(container: &Value, secret: &DesiredObject) -> AgentCommand {
    let args: Vec<_> = items(container, "/args").filter_map(Value::as_str).map(str::to_owned).collect();
    let informed = items(container, "/envFrom").any(|source| text(source, "/secretRef/name") == Some(&secret.name));
    let variables = VARIABLES.iter().filter(|_| informed).flat_map(|(name, argument)| {
        let value: k8s_openapi::ByteString = serde_json::from_value(secret.body["data"][name].clone()).unwrap();
        [(*argument).to_owned(), String::from_utf8(value.0).unwrap()]
    });
    let all = args.iter().cloned().chain(variables);
    Agent::try_parse_from(all).unwrap_or_else(|error| panic!("{args:?}: {error}")).command
}
