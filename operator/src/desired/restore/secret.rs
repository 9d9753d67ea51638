//! What only the pods of restores read: the Secret, and the authorities.

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, EnvVar, Secret},
};

use super::{
    super::{metadata, pod},
    OBJECTS_CA_FILE,
    recovered::{COPY_CA_FILE, recovered},
};
use crate::{
    contract::{self, PostgresUrl},
    names::{Component as Name, ROLE_CA},
    objects::DesiredObject,
    stack::{BucketAccess, RestoreRequest, Stack, authorities, bucket_variables},
};

/// What only the pods of restores read: the URL of the copy, and the keys of the stack's bucket.
pub(super) fn secret(stack: &Stack, request: &RestoreRequest) -> DesiredObject {
    let mut data = objects_variables(stack, request);
    data.extend(copy_variables(stack, request).map(|(key, _, value)| (key, value)));
    if let Some(url) = url_of_copy(stack, request) {
        data.extend(URLS.map(|key| (key.to_owned(), url.clone())));
    }
    DesiredObject::own(&Secret {
        data: Some(data.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes()))).collect()),
        metadata: metadata::owned(stack, Name::Restore, stack.child(Name::Restore)),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    })
}

/// The variables of the migration that name the database.
const URLS: [&str; 2] = [contract::ENV_DATABASE_URL, "DATABASE_URL"];

/// The URL of the copy, as the migration of the serving release gets it.
pub(super) fn copy_url(stack: &Stack, request: &RestoreRequest, key: &str) -> EnvVar {
    match &request.into {
        Some(into) => pod::secret_variable(key, &into.name, &into.key),
        None => pod::secret_variable(key, &stack.child(Name::Restore), key),
    }
}

fn url_of_copy(stack: &Stack, request: &RestoreRequest) -> Option<String> {
    if request.moment().is_some() {
        return recovered(stack, request).map(|access| access.direct.url.to_string());
    }
    let live = PostgresUrl::parse(&stack.connection.as_ref()?.direct_url).ok()?;
    copy_name(stack, request).map(|copy| live.with_database(&copy).to_string())
}

/// The database beside the live one that the point is restored into. `None`: it is restored into another.
pub(super) fn copy_name(stack: &Stack, request: &RestoreRequest) -> Option<String> {
    let live = PostgresUrl::parse(&stack.connection.as_ref()?.direct_url).ok()?;
    let beside = !request.fills && request.into.is_none() && request.moment().is_none();
    beside.then(|| contract::copy_database(live.database(), &request.uid))
}

/// The stack's own bucket, where its objects are restored and the recovery point is in another one. A point that is named by its
/// location may be in anybody's.
pub(super) fn objects_bucket<'a>(stack: &'a Stack, request: &RestoreRequest) -> Option<&'a BucketAccess> {
    let elsewhere = stack.backup.as_ref().is_some_and(|backup| backup.own_destination)
        || request.point.as_ref().is_ok_and(|point| point.folder.is_some());
    stack.bucket.access().filter(|_| request.bucket && elsewhere)
}

/// The variables of the bucket of `backup.copies` that the location of the point names: their keys in the Secret, names and values.
pub(super) fn copy_variables(
    stack: &Stack,
    request: &RestoreRequest,
) -> impl Iterator<Item = (String, &'static str, String)> {
    let folder = request.point.as_ref().ok().and_then(|point| point.folder.as_ref());
    let backup = stack.backup.as_ref();
    let own = backup.and_then(|backup| backup.destination.as_deref()).map(|own| own.name.as_str());
    let named = folder.map(|(bucket, _)| bucket.as_str()).filter(|bucket| Some(*bucket) != own);
    let copies = backup.map(|backup| backup.recovery.copies.as_slice()).unwrap_or_default();
    let copy = named.and_then(|bucket| copies.iter().find(|copy| copy.access.name == bucket));
    let mut variables = copy.map(|copy| bucket_variables(&copy.access)).unwrap_or_default();
    variables.remove(contract::ENV_S3_BUCKET);
    if !variables.is_empty() {
        // Those of the destination are none of this bucket, which a role may stand for.
        for key in [contract::ENV_ACCESS_KEY_ID, contract::ENV_SECRET_ACCESS_KEY, contract::ENV_SESSION_TOKEN] {
            variables.entry(key).or_default();
        }
    }
    variables.into_iter().map(|(name, value)| (format!("COPY_{name}"), name, value))
}

pub(super) fn objects_variables(stack: &Stack, request: &RestoreRequest) -> metadata::Strings {
    objects_bucket(stack, request).map(variables_of_objects).unwrap_or_default()
}

/// The variables of a bucket whose objects are restored.
pub(in crate::desired) fn variables_of_objects(access: &BucketAccess) -> metadata::Strings {
    let names = [
        (contract::ENV_S3_ENDPOINT, contract::ENV_OBJECTS_ENDPOINT),
        (contract::ENV_S3_REGION, contract::ENV_OBJECTS_REGION),
        (contract::ENV_S3_BUCKET, contract::ENV_OBJECTS_BUCKET),
        (contract::ENV_S3_FORCE_PATH_STYLE, contract::ENV_OBJECTS_FORCE_PATH_STYLE),
        (contract::ENV_ACCESS_KEY_ID, contract::ENV_OBJECTS_ACCESS_KEY_ID),
        (contract::ENV_SECRET_ACCESS_KEY, contract::ENV_OBJECTS_SECRET_ACCESS_KEY),
        (contract::ENV_SESSION_TOKEN, contract::ENV_OBJECTS_SESSION_TOKEN),
    ];
    let known = bucket_variables(access);
    let rename = |(of, name): (&str, &str)| Some((name.to_owned(), known.get(of)?.clone()));
    names.into_iter().filter_map(rename).collect()
}

pub(super) fn objects_ca<'a>(stack: &'a Stack, request: &RestoreRequest) -> Option<&'a str> {
    objects_bucket(stack, request)?.ca.as_deref()
}

/// The authorities of the bucket whose objects are restored; and of a Cluster that is recovered, alone and beside those of the
/// connection, in whose place a migration finds them.
pub(super) fn authorities_of(stack: &Stack, request: &RestoreRequest) -> Option<DesiredObject> {
    let copy = recovered(stack, request).and_then(|access| access.ca.as_deref());
    let connection = stack.connection.as_ref();
    let [live, database] = [
        connection.and_then(|connection| connection.ca.as_deref()),
        connection.and_then(|connection| connection.database_ca.as_deref()),
    ];
    let of_copy = |pem: Option<String>| pem.filter(|_| copy.is_some());
    let files = [
        (OBJECTS_CA_FILE, authorities([objects_ca(stack, request)])),
        (COPY_CA_FILE, authorities([copy])),
        (contract::CA_FILE, of_copy(authorities([live, copy]))),
        (contract::DATABASE_CA_FILE, of_copy(authorities([database, copy]))),
    ];
    let data: metadata::Strings = files.into_iter().filter_map(|(file, pem)| Some((file.to_owned(), pem?))).collect();
    (!data.is_empty()).then(|| {
        DesiredObject::own(&ConfigMap {
            data: Some(data),
            metadata: metadata::owned(stack, Name::Restore, stack.child_role(Name::Restore, ROLE_CA)),
            ..ConfigMap::default()
        })
    })
}
