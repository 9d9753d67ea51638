//! The Jobs that fill the empty database of a new stack from a sanitized point, and put its objects into the stack's bucket. They get
//! the keys of that point's bucket, which are no others' of the stack; the last alone also those of the stack's own.

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, EnvFromSource, PodTemplateSpec, Secret, SecretEnvSource},
};

use super::{
    backup, metadata,
    pod::{self, Pod},
    pod_template, proxy, restore, service,
};
use crate::{
    contract::{self, RestoreStep},
    names::{Component as Name, ROLE_CA},
    objects::DesiredObject,
    plan::restore::{Current, Kind},
    stack::{BucketAccess, Connection, Seed, Stack, authorities, bucket_variables, database},
};

/// The file of the authorities of the stack's bucket.
const OBJECTS_CA_FILE: &str = "objects.crt";
const OBJECTS_CA_PATH: &str = "/etc/rorun/ca/objects.crt";

/// The name of a file, the argument that names it, and its content.
type File = (&'static str, [&'static str; 2], String);

/// What the step that is due needs.
pub(super) fn objects(stack: &Stack, current: &Current) -> Vec<DesiredObject> {
    let (Some(seed), Some(connection)) = (&stack.seed, &stack.connection) else { return Vec::new() };
    let Some(bucket) = seed.tools.destination.as_deref() else { return Vec::new() };
    let places = matches!(&current.step, Some((Kind::Objects, _)));
    let own = stack.bucket.access().filter(|_| places);
    let files = files(connection, (bucket, own));
    let mut objects = vec![
        service::account(stack, Name::Restore, &stack.api.service_account_annotations),
        secret(stack, connection, (bucket, own)),
    ];
    if !files.is_empty() {
        let data = files.iter().map(|(file, _, pem)| ((*file).to_owned(), pem.clone())).collect();
        let metadata = metadata::owned(stack, Name::Restore, stack.child_role(Name::Restore, ROLE_CA));
        objects.push(DesiredObject::own(&ConfigMap { data: Some(data), metadata, ..ConfigMap::default() }));
    }
    let step = current.step.as_ref().filter(|(_, step)| !step.exists);
    let due = step.and_then(|(kind, step)| {
        let restore = match kind {
            Kind::Check => RestoreStep::Check,
            Kind::Fill => RestoreStep::Fill,
            Kind::Objects => RestoreStep::Place,
            _ => return None,
        };
        let template = template(stack, seed, current, (restore, &files));
        Some(restore::job(stack, step, restore::job_spec(template)))
    });
    objects.extend(due);
    objects
}

/// The authorities of the database, of the bucket of the point, and of that of the stack.
fn files(connection: &Connection, (bucket, own): (&BucketAccess, Option<&BucketAccess>)) -> Vec<File> {
    let database = [contract::ARG_DATABASE_CA_FILE, contract::DATABASE_CA_PATH];
    let of_bucket = [contract::ARG_BUCKET_CA_FILE, contract::BUCKET_CA_PATH];
    let of_own = [contract::ARG_OBJECTS_CA_FILE, OBJECTS_CA_PATH];
    let all = [
        (contract::DATABASE_CA_FILE, database, authorities([connection.database_ca.as_deref()])),
        (contract::BUCKET_CA_FILE, of_bucket, authorities([bucket.ca.as_deref()])),
        (OBJECTS_CA_FILE, of_own, authorities([own.and_then(|own| own.ca.as_deref())])),
    ];
    all.into_iter().filter_map(|(file, argument, pem)| Some((file, argument, pem?))).collect()
}

fn secret(
    stack: &Stack,
    connection: &Connection,
    (bucket, own): (&BucketAccess, Option<&BucketAccess>),
) -> DesiredObject {
    let mut data = own.map(restore::variables_of_objects).unwrap_or_default();
    data.extend(bucket_variables(bucket).into_iter().map(|(key, value)| (key.to_owned(), value)));
    data.insert(contract::ENV_DATABASE_URL.to_owned(), connection.direct_url.clone());
    DesiredObject::own(&Secret {
        data: Some(data.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes()))).collect()),
        metadata: metadata::owned(stack, Name::Restore, stack.child(Name::Restore)),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    })
}

fn template(stack: &Stack, seed: &Seed, current: &Current, (step, files): (RestoreStep, &[File])) -> PodTemplateSpec {
    let (tools, request) = (&*seed.tools, &current.request);
    let more = restore::arguments(stack, tools, request, step);
    let mut container = restore::agent(stack, tools, (step, &request.uid), more);
    let secret_ref = SecretEnvSource { name: stack.child(Name::Restore), optional: None };
    container.env_from = Some(vec![EnvFromSource { secret_ref: Some(secret_ref), ..EnvFromSource::default() }]);
    let mut volumes = vec![pod::scratch("binary"), pod::scratch("tmp")];
    if !files.is_empty() {
        let (volume, mount) = pod::authorities(stack.child_role(Name::Restore, ROLE_CA));
        volumes.push(volume);
        container.volume_mounts.get_or_insert_default().push(mount);
        let arguments = files.iter().flat_map(|(_, argument, _)| argument).map(|word| (*word).to_owned());
        container.args.get_or_insert_default().extend(arguments);
    }
    pod::show_certificate(stack, &mut container, &mut volumes);
    let pod = Pod {
        component: Name::Restore,
        containers: vec![container],
        init_containers: [backup::install(stack, tools)].into_iter().chain(proxy::proxy(stack)).collect(),
        volumes,
        user: database::user(&tools.image),
        config_hash: None,
        image: &tools.image,
    };
    pod_template::of_backups(stack, backup::of_a_job(tools, pod.template(stack)))
}
