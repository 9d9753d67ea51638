//! The connection Secret, and the ConfigMap with the certificate authorities of services.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};

use super::{Component, metadata};
use crate::{
    contract,
    names::{Component as Name, ROLE_CA},
    objects::DesiredObject,
    plan::Plan,
    stack::Stack,
};

pub(super) struct Connection;

impl Component for Connection {
    fn name(&self) -> Name {
        Name::Connection
    }

    fn requires(&self) -> &'static [Name] {
        &[Name::Database, Name::Redis, Name::Bucket]
    }

    fn objects(&self, stack: &Stack, _: &Plan) -> Vec<DesiredObject> {
        let Some(connection) = &stack.connection else { return Vec::new() };
        let data =
            connection.data.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.clone().into_bytes())));
        let mut objects = vec![DesiredObject::own(&Secret {
            data: Some(data.collect()),
            metadata: metadata::owned(stack, Name::Connection, stack.child(Name::Connection)),
            type_: Some("Opaque".to_owned()),
            ..Secret::default()
        })];
        if let Some(ca) = &connection.ca {
            let mut data = BTreeMap::from([(contract::CA_FILE.to_owned(), ca.clone())]);
            if let Some(database) = connection.database_ca.as_ref().filter(|_| connection.apart) {
                data.insert(contract::DATABASE_CA_FILE.to_owned(), database.clone());
            }
            objects.push(DesiredObject::own(&ConfigMap {
                data: Some(data),
                metadata: metadata::owned(stack, Name::Connection, stack.child_role(Name::Connection, ROLE_CA)),
                ..ConfigMap::default()
            }));
        }
        objects
    }
}
