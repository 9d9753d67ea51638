//! `rorun-operator render FILE`: the objects that a manifest would become, without a cluster.
//!
//! Values of Secrets are placeholders: those of the user are not known here, and made-up ones are made up only in a cluster.

use std::{
    collections::BTreeMap,
    fs, io,
    io::{Read, Write},
    path::Path,
};

use crate::{
    api::v1alpha1::RorunStack,
    desired,
    names::Component,
    stack::{self, CredentialState, Observed, SecretData, credential_keys},
};

/// Why a manifest could not be rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The file could not be read.
    #[error("failed to read {0}: {1}")]
    Read(String, #[source] io::Error),
    /// A document is not a RorunStack.
    #[error("failed to read a RorunStack from {0}: {1}")]
    Parse(String, String),
    /// The file holds none.
    #[error("failed to find a RorunStack in {0}")]
    Empty(String),
    /// The result could not be printed.
    #[error("failed to print: {0}")]
    Print(#[from] io::Error),
}

/// Prints the objects of each RorunStack in a file, as YAML documents.
pub(super) fn print(file: &Path, out: &mut impl Write) -> Result<(), RenderError> {
    let name = file.display().to_string();
    let text = read(file).map_err(|error| RenderError::Read(name.clone(), error))?;
    let mut found = false;
    for document in text.split("\n---").map(str::trim).filter(|document| !document.is_empty()) {
        let failed = |error: serde_saphyr::Error| RenderError::Parse(name.clone(), error.to_string());
        let value: serde_json::Value = serde_saphyr::from_str(document).map_err(failed)?;
        if value.get("kind").and_then(serde_json::Value::as_str) != Some("RorunStack") {
            continue;
        }
        let cr: RorunStack =
            serde_json::from_value(value).map_err(|error| RenderError::Parse(name.clone(), error.to_string()))?;
        found = true;
        for object in render(&cr) {
            let yaml = serde_saphyr::to_string(&object).map_err(io::Error::other)?;
            write!(out, "---\n{yaml}")?;
        }
    }
    if found { Ok(()) } else { Err(RenderError::Empty(name)) }
}

fn read(file: &Path) -> io::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    fs::read_to_string(file)
}

/// Every object of a stack, as if all that it names were there and answered.
pub fn render(cr: &RorunStack) -> Vec<serde_json::Value> {
    let mut cr = cr.clone();
    cr.metadata.namespace.get_or_insert_with(|| "default".to_owned());
    let namespace = cr.metadata.namespace.clone().unwrap_or_default();
    let stack = stack::validate(&cr, &assumed(&cr));
    let objects = desired::everything(&stack).into_iter().map(|object| {
        let mut body = object.body;
        body["metadata"]["namespace"] = serde_json::Value::String(namespace.clone());
        body
    });
    objects.collect()
}

const PLACEHOLDER: &str = "placeholder";

/// What `render` takes for granted.
fn assumed(cr: &RorunStack) -> Observed {
    let named = stack::references(&cr.spec);
    let certificate = "-----BEGIN CERTIFICATE-----\nplaceholder\n-----END CERTIFICATE-----\n";
    let secret = |_: &String| -> SecretData {
        let values = [
            ("DATABASE_URL", "postgresql://user:placeholder@database.example:5432/rorun"),
            ("REDIS_URL", "rediss://default:placeholder@redis.example:6379/0"),
            ("AWS_ACCESS_KEY_ID", PLACEHOLDER),
            ("AWS_SECRET_ACCESS_KEY", PLACEHOLDER),
            ("ca.crt", certificate),
        ];
        values.into_iter().map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec())).collect()
    };
    let credentials = [Component::Database, Component::Redis, Component::Bucket].map(|component| {
        let data = credential_keys(component).iter().map(|(key, recipe)| {
            let value = recipe.err().unwrap_or(PLACEHOLDER);
            ((*key).to_owned(), value.as_bytes().to_vec())
        });
        (component, CredentialState::Present(data.collect()))
    });
    Observed {
        secrets: named.secrets.iter().map(|name| (name.clone(), Some(secret(name)))).collect(),
        config_maps: named.config_maps.iter().map(|name| (name.clone(), Some(BTreeMap::new()))).collect(),
        credentials: credentials.into(),
        probes: BTreeMap::new(),
        agent_image: super::AGENT_IMAGE.to_owned(),
    }
}
