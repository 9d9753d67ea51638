//! Stacks, as modifiers of the smallest one.

use rorun_operator::api::v1alpha1::RorunStack;
use serde_json::{Value, json};

pub const NAMESPACE: &str = "shop";
pub const UID: &str = "6f1f3a5c-0000-4000-8000-000000000001";

/// A manifest that may be wrong, for what is refused as well as for what is accepted.
#[derive(Clone, Debug)]
pub struct Fixture(pub Value);

/// The smallest stack: Development with an API.
pub fn stack(name: &str) -> Fixture {
    Fixture(json!({
        "apiVersion": "rorun.app/v1alpha1",
        "kind": "RorunStack",
        "metadata": {"name": name},
        "spec": {"environment": "Development", "api": {"image": "ghcr.io/rorun/rorun-api:1.8.0"}},
    }))
}

impl Fixture {
    /// Sets a field of the spec, e.g. `api.replicas`, and makes the blocks above it.
    pub fn set(mut self, field: &str, value: Value) -> Self {
        let parent = field.split('.').fold(&mut self.0["spec"], |at, member| &mut at[member]);
        *parent = value;
        self
    }

    /// Takes a field out of the spec.
    pub fn without(mut self, field: &str) -> Self {
        let (parent, member) = field.rsplit_once('.').map_or(("", field), |(parent, member)| (parent, member));
        let pointer =
            parent.split('.').filter(|part| !part.is_empty()).fold("/spec".to_owned(), |at, part| at + "/" + part);
        self.0.pointer_mut(&pointer).and_then(Value::as_object_mut).map(|block| block.remove(member));
        self
    }

    /// With every data service somewhere else.
    pub fn with_external_services(self) -> Self {
        self.set("database", json!({"external": {"secretRef": {"name": "database"}}}))
            .set("redis", json!({"external": {"secretRef": {"name": "redis"}}}))
            .set("bucket", json!({"external": bucket("files", "s3")}))
    }

    /// With the OCR service and the admin panel.
    pub fn with_all_workloads(self) -> Self {
        self.set("ocr", json!({"image": "ghcr.io/rorun/rorun-ai-service:1.8.0"}))
            .set("admin", json!({"image": "ghcr.io/rorun/rorun-admin:1.8.0"}))
    }

    /// Of Staging, with what it must have.
    pub fn staging(self) -> Self {
        self.set("environment", json!("Staging")).with_external_services()
    }

    /// Of Production, with what it must have.
    pub fn production(self) -> Self {
        self.set("environment", json!("Production")).with_external_services().set("backup", json!({}))
    }

    /// The stack as the API server would store it.
    pub fn build(self) -> RorunStack {
        let manifest = self.0.to_string();
        let mut cr = serde_json::from_value(self.0).unwrap_or_else(|error| panic!("{error} in {manifest}"));
        store(&mut cr);
        cr
    }
}

/// An external bucket.
pub fn bucket(name: &str, secret: &str) -> Value {
    json!({"name": name, "endpoint": "https://s3.example.com", "credentialsSecretRef": {"name": secret}})
}

/// Adds what the API server adds.
pub fn store(cr: &mut RorunStack) {
    cr.metadata.namespace = Some(NAMESPACE.to_owned());
    cr.metadata.uid = Some(UID.to_owned());
    cr.metadata.generation = Some(1);
}
