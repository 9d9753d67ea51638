//! The Job that makes a sanitized point: in a pod with a PostgreSQL of its own, as a drill. It gets the keys of the backups and of the
//! destination, and of the live database neither URL nor password. A program of the user that prints the statements runs before in a
//! container that has none of these, nor a way to change what runs after it.

use k8s_openapi::{
    ByteString,
    api::{
        batch::v1::Job,
        core::v1::{
            ConfigMapKeySelector, Container, EnvVar, EnvVarSource, PodTemplateSpec, ResourceRequirements, Secret,
            VolumeMount,
        },
    },
};

use super::{Component, Keys, drill, metadata, pod, recovery, service};
use crate::{
    api::v1alpha1::SanitizeCommand,
    contract,
    names::Component as Name,
    objects::{ApplyPolicy, DesiredObject, LiveSet, Readiness},
    plan::Plan,
    stack::{Backup, BackupRequest, BucketAccess, SanitizeRequest, Stack, Statements, bucket_variables},
};

/// How long a program may take that prints statements.
const COMMAND_SECONDS: &str = "600";
/// The volume with what it printed, and what it has for files of its own.
const STATEMENTS: &str = "statements";
const COMMAND_TEMPORARY: &str = "command-tmp";

pub(super) struct Sanitize;

impl Component for Sanitize {
    fn name(&self) -> Name {
        Name::Sanitize
    }

    fn objects(&self, stack: &Stack, plan: &Plan) -> Vec<DesiredObject> {
        let (Some(backup), Some((request, step))) = (&stack.backup, &plan.sanitizes.current) else { return Vec::new() };
        let Some(asked) = &request.sanitize else { return Vec::new() };
        let Some((from, objects)) = backup.as_drills_read(!asked.objects.is_empty()) else { return Vec::new() };
        let Ok(into) = &asked.destination else { return Vec::new() };
        let mut objects = vec![
            service::account(stack, Name::Sanitize, &metadata::Strings::new()),
            secret(stack, (&from, objects.as_ref(), into), asked),
        ];
        if !step.exists {
            let container = container(stack, backup, request, asked);
            let of = (&backup.recovery.server, &from);
            let template = drill::template(stack, backup, of, (Name::Sanitize, container));
            let spec = drill::job_spec(match &asked.sql {
                Statements::Printed(command) => with_command(stack, command, (template, &of.0.resources)),
                Statements::Inline(_) | Statements::ConfigMap(_) => template,
            });
            let metadata = metadata::owned(stack, Name::Sanitize, step.name.clone());
            let job = Job { metadata, spec: Some(spec), ..Job::default() };
            objects.push(DesiredObject::new(&job, ApplyPolicy::RunOnce));
        }
        objects
    }

    fn note(&self, _: &Stack, _: &LiveSet) -> Option<String> {
        None
    }

    /// How it goes on the RorunBackup tells: the stack serves all the same.
    fn readiness(&self, _: &Stack, _: &mut Keys<'_>, _: &LiveSet) -> Readiness {
        Readiness::Ready
    }
}

/// The Jobs that are kept for reading.
pub(super) fn kept(stack: &Stack, plan: &Plan) -> Vec<DesiredObject> {
    let job_of = |name: &String| {
        let job = Job { metadata: metadata::owned(stack, Name::Sanitize, name.clone()), ..Job::default() };
        DesiredObject::new(&job, ApplyPolicy::RunOnce)
    };
    plan.sanitizes.jobs.iter().map(job_of).collect()
}

/// The keys of both buckets, and of the application's where its objects are asked for, and the statements of a spec: a variable of a pod would take `$$` in them for an escape.
fn secret(
    stack: &Stack,
    (from, objects, into): (&BucketAccess, Option<&BucketAccess>, &BucketAccess),
    asked: &SanitizeRequest,
) -> DesiredObject {
    let mut data = bucket_variables(from);
    data.extend(recovery::source(objects));
    data.insert(contract::ENV_SANITIZED, serde_json::to_string(&recovery::location(into)).unwrap_or_default());
    if let Statements::Inline(sql) = &asked.sql {
        data.insert(contract::ENV_SANITIZE_SQL, sql.clone());
    }
    DesiredObject::own(&Secret {
        data: Some(data.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes()))).collect()),
        metadata: metadata::owned(stack, Name::Sanitize, stack.child(Name::Sanitize)),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    })
}

fn container(stack: &Stack, backup: &Backup, request: &BackupRequest, asked: &SanitizeRequest) -> Container {
    let server = &backup.recovery.server;
    let mut sanitize = pod::container(stack, "sanitize", &server.image);
    sanitize.command = Some(vec![contract::BINARY_PATH.to_owned()]);
    let into = format!("{}{}/{}/", asked.prefix, stack.namespace, stack.name);
    let mut args = vec![
        contract::AGENT,
        contract::SANITIZE,
        contract::ARG_PREFIX,
        &backup.prefix,
        contract::ARG_INTO_PREFIX,
        &into,
        contract::ARG_REQUEST,
        &request.uid,
        contract::ARG_ENVIRONMENT,
        stack.environment.as_str(),
    ];
    args.extend(backup.owner.iter().flat_map(|owner| [contract::ARG_OWNER, owner]));
    args.extend(asked.objects.iter().flat_map(|folder| [contract::ARG_OBJECT_PREFIX, folder]));
    sanitize.args = Some(args.into_iter().map(str::to_owned).collect());
    let mut sanitize = drill::furnished(sanitize, backup, (stack.child(Name::Sanitize), server));
    if let Statements::ConfigMap(of) = &asked.sql {
        let selector = ConfigMapKeySelector { name: of.name.clone(), key: of.key.clone(), optional: None };
        let source = EnvVarSource { config_map_key_ref: Some(selector), ..EnvVarSource::default() };
        let name = contract::ENV_SANITIZE_SQL.to_owned();
        sanitize.env.get_or_insert_default().push(EnvVar { name, value_from: Some(source), ..EnvVar::default() });
    }
    if let Statements::Printed(_) = &asked.sql {
        let file = [contract::ARG_SQL_FILE, contract::STATEMENTS_PATH].map(str::to_owned);
        sanitize.args.get_or_insert_default().extend(file);
        sanitize.volume_mounts.get_or_insert_default().push(read_only(STATEMENTS, contract::STATEMENTS_DIRECTORY));
    }
    sanitize
}

/// The pod with a container before all others but the one that brings the agent.
fn with_command(
    stack: &Stack,
    command: &SanitizeCommand,
    (mut template, resources): (PodTemplateSpec, &ResourceRequirements),
) -> PodTemplateSpec {
    let mut container = pod::container(stack, "command", &command.image);
    container.command = Some(vec![contract::BINARY_PATH.to_owned()]);
    let capture = [contract::AGENT, contract::CAPTURE, contract::ARG_INTO, contract::STATEMENTS_PATH];
    let limit = [contract::ARG_TIMEOUT_SECONDS, COMMAND_SECONDS, "--"];
    let own = capture.into_iter().chain(limit).map(str::to_owned);
    container.args = Some(own.chain(command.command.iter().chain(&command.args).cloned()).collect());
    container.env = Some(command.env.iter().map(|of| pod::variable(&of.name, &of.value)).collect());
    container.resources = Some(resources.clone());
    // The binary runs with the keys of the buckets afterwards.
    container.volume_mounts = Some(vec![
        read_only("binary", contract::BINARY_DIRECTORY),
        pod::mount(STATEMENTS, contract::STATEMENTS_DIRECTORY),
        pod::mount(COMMAND_TEMPORARY, "/tmp"),
    ]);
    if let Some(spec) = &mut template.spec {
        spec.init_containers.get_or_insert_default().push(container);
        spec.volumes.get_or_insert_default().extend([pod::scratch(STATEMENTS), pod::scratch(COMMAND_TEMPORARY)]);
    }
    template
}

fn read_only(volume: &str, path: &str) -> VolumeMount {
    VolumeMount { read_only: Some(true), ..pod::mount(volume, path) }
}
