//! The patch that a user merges over a pod template.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

/// A strategic merge patch of a `PodTemplateSpec`.
///
/// As JSON, since the schema of the type is 340 KB, more than `kubectl apply` can keep in its annotation. What the API server
/// therefore cannot check becomes a condition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PodTemplate(pub Map<String, Value>);

/// The Jobs of the operator for which no component has a `podTemplate`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobsSpec {
    /// Merged, last, over the pods of each as `api.podTemplate` is. It names no container of theirs; a sidecar belongs into
    /// `initContainers` with `restartPolicy: Always`. Defaults to no patch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
}

/// How many blocks may be nested: twice as many as a pod template has. The API server stores thousands, `serde_json` reads 128: a
/// stack with more would end the watch of all stacks.
const DEPTH_MAX: usize = 32;

impl JsonSchema for PodTemplate {
    fn schema_name() -> Cow<'static, str> {
        "PodTemplate".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
    }
}

/// Blocks that are nested deeper than in any pod template become `null`, which `stack::validate` refuses.
impl<'de> Deserialize<'de> for PodTemplate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match (Limited { left: DEPTH_MAX }).deserialize(deserializer)? {
            Value::Object(members) => Ok(Self(members)),
            _ => Err(D::Error::custom("podTemplate is no object")),
        }
    }
}

/// Reads a value of so many levels at most.
#[derive(Clone, Copy)]
struct Limited {
    left: usize,
}

impl<'de> DeserializeSeed<'de> for Limited {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.left == 0 {
            // The parser skips the rest without recursion.
            return IgnoredAny::deserialize(deserializer).map(|_| Value::Null);
        }
        deserializer.deserialize_any(Self { left: self.left - 1 })
    }
}

impl<'de> Visitor<'de> for Limited {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = members.next_key()? {
            map.insert(key, members.next_value_seed(self)?);
        }
        Ok(map.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patch_is_read_and_written_as_it_is() {
        let patch = json!({"spec": {"a": [1, -2, 1.5, true, null, "x", {"b": {}}]}});
        let read: PodTemplate = serde_json::from_str(&patch.to_string()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), patch);
        assert_eq!(serde_json::from_value::<PodTemplate>(patch).unwrap(), read);
        for odd in ["[]", "1", "null", "\"spec\""] {
            assert!(serde_json::from_str::<PodTemplate>(odd).is_err(), "{odd}");
        }
    }

    /// `serde_json` gives up at 128 levels, and with it the watch of every stack would end.
    #[test]
    fn what_is_nested_without_end_is_read_all_the_same() {
        for (open, close) in [("{\"a\":", "}"), ("[", "]")] {
            let deep = format!("{{\"spec\":{}1{}}}", open.repeat(5000), close.repeat(5000));
            assert!(serde_json::from_str::<Value>(&deep).is_err());
            let read: PodTemplate = serde_json::from_str(&deep).unwrap();
            assert!(serde_json::to_string(&read).unwrap().contains("null"));
        }
    }
}
