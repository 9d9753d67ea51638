//! Objects as a watch sends them, without what this operator does not read: of `managedFields`, which are half of the bytes, only
//! the entry of its own apply.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::{Resource, api::ApiResource, core::DynamicResourceScope};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::names::FIELD_MANAGER;

/// An object of any kind; without a `BODY` the operator requests nothing but metadata.
#[derive(Clone, Debug)]
pub struct Received<const BODY: bool = true> {
    /// Its metadata without `managedFields`.
    pub metadata: ObjectMeta,
    /// The entry of this operator's own apply.
    pub(super) applied: Option<OwnApply>,
    /// All else but `apiVersion` and `kind`; without a body nothing.
    pub(super) object: Map<String, Value>,
}

impl<const BODY: bool> Resource for Received<BODY> {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn metadata_api() -> bool {
        !BODY
    }

    fn kind(of: &ApiResource) -> Cow<'_, str> {
        of.kind.as_str().into()
    }

    fn group(of: &ApiResource) -> Cow<'_, str> {
        of.group.as_str().into()
    }

    fn version(of: &ApiResource) -> Cow<'_, str> {
        of.version.as_str().into()
    }

    fn plural(of: &ApiResource) -> Cow<'_, str> {
        of.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl<'de, const BODY: bool> Deserialize<'de> for Received<BODY> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Whole::<BODY>)
    }
}

struct Whole<const BODY: bool>;

impl<'de, const BODY: bool> Visitor<'de> for Whole<BODY> {
    type Value = Received<BODY>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of Kubernetes")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let (mut metadata, mut object) = (None, Map::new());
        while let Some(key) = members.next_key::<String>()? {
            match key.as_str() {
                "metadata" => metadata = Some(members.next_value::<ReceivedMetadata>()?),
                "apiVersion" | "kind" => drop(members.next_value::<IgnoredAny>()?),
                _ if BODY => drop(object.insert(key, members.next_value()?)),
                _ => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        let metadata = metadata.ok_or_else(|| A::Error::missing_field("metadata"))?;
        let (metadata, applied) = metadata.parts();
        Ok(Received { metadata, applied, object })
    }
}

/// The metadata that this operator reads.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReceivedMetadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
    finalizers: Option<Vec<String>>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    #[serde(deserialize_with = "applied")]
    managed_fields: Option<OwnApply>,
}

/// The entry of this operator's own apply in `managedFields`.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnApply {
    /// The fields.
    pub(super) fields: Value,
    /// When an apply last changed something, in seconds since 1970.
    pub(super) changed: Option<i64>,
}

impl ReceivedMetadata {
    /// As the type of the API has it, without `managedFields`; and the entry of this operator's own apply.
    pub fn parts(self) -> (ObjectMeta, Option<OwnApply>) {
        let metadata = ObjectMeta {
            name: self.name,
            namespace: self.namespace,
            uid: self.uid,
            resource_version: self.resource_version,
            generation: self.generation,
            labels: self.labels,
            annotations: self.annotations,
            owner_references: self.owner_references,
            finalizers: self.finalizers,
            creation_timestamp: self.creation_timestamp,
            deletion_timestamp: self.deletion_timestamp,
            ..ObjectMeta::default()
        };
        (metadata, self.managed_fields)
    }
}

/// The entry of this operator's apply.
fn applied<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<OwnApply>, D::Error> {
    let entries = Vec::<ManagedFieldsEntry>::deserialize(deserializer)?;
    Ok(entries.into_iter().find_map(|ManagedFieldsEntry(own)| own))
}

/// An entry, if it is that of this operator's apply.
struct ManagedFieldsEntry(Option<OwnApply>);

impl<'de> Deserialize<'de> for ManagedFieldsEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = ManagedFieldsEntry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an entry of managed fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<ManagedFieldsEntry, A::Error> {
        // What says whose they are comes before the fields, but for the subresource, as the API server writes it. Should it
        // come later, they are read for nothing.
        let (mut fields, mut manager, mut operation, mut of_object) = (None, None, None, true);
        let mut changed = None;
        while let Some(member) = members.next_key::<Member>()? {
            match member {
                Member::Manager => manager = Some(members.next_value_seed(Equals(FIELD_MANAGER))?),
                Member::Operation => operation = Some(members.next_value_seed(Equals("Apply"))?),
                Member::Subresource => of_object = members.next_value_seed(Equals(""))?,
                Member::Time => changed = members.next_value::<Option<Time>>()?.map(|time| time.0.as_second()),
                Member::FieldsV1 if manager != Some(false) && operation != Some(false) => {
                    fields = Some(members.next_value()?);
                }
                Member::FieldsV1 | Member::Other => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        let ours = manager == Some(true) && operation == Some(true) && of_object;
        Ok(ManagedFieldsEntry(fields.filter(|_| ours).map(|fields| OwnApply { fields, changed })))
    }
}

/// The members of an entry that this operator reads.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Member {
    Manager,
    Operation,
    Subresource,
    Time,
    FieldsV1,
    #[serde(other)]
    Other,
}

/// Whether a text is this one.
struct Equals(&'static str);

impl<'de> DeserializeSeed<'de> for Equals {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Equals {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
        Ok(text == self.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(manager: &str, operation: &str, field: &str) -> Value {
        json!({"manager": manager, "operation": operation, "fieldsV1": {field: {}}})
    }

    fn read(entries: &Value) -> Received {
        let object = json!({"apiVersion": "v1", "kind": "Secret", "data": {"a": "b"}, "metadata": {
            "name": "x", "selfLink": "/x", "managedFields": entries,
        }});
        // By its text, as it comes: a value knows no order.
        serde_json::from_str(&object.to_string()).unwrap()
    }

    #[test]
    fn of_managed_fields_only_the_entry_of_the_own_apply_is_kept() {
        let mut status = entry(FIELD_MANAGER, "Apply", "f:status");
        status["subresource"] = json!("status");
        let mut ours = entry(FIELD_MANAGER, "Apply", "f:spec");
        ours["time"] = json!("1970-01-01T00:01:00Z");
        let entries = json!([entry("kubectl", "Apply", "f:a"), status, entry(FIELD_MANAGER, "Update", "f:b"), ours]);
        let read = read(&entries);
        assert_eq!(read.applied, Some(OwnApply { fields: json!({"f:spec": {}}), changed: Some(60) }));
        assert_eq!(read.metadata.name.as_deref(), Some("x"));
        assert_eq!(Value::Object(read.object), json!({"data": {"a": "b"}}));
    }

    #[test]
    fn members_may_come_in_any_order_and_be_missing() {
        let text =
            r#"{"metadata": {"managedFields": [{"fieldsV1": {"f:x": {}}, "operation": "Apply", "manager": "other"}]}}"#;
        assert_eq!(serde_json::from_str::<Received>(text).unwrap().applied, None);
        assert_eq!(read(&json!([])).applied, None);
        assert_eq!(read(&json!([{"operation": "Apply", "fieldsV1": {"f:x": {}}}])).applied, None);
        assert!(serde_json::from_str::<Received>("{}").is_err());
    }
}
