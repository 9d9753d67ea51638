//! `rorun-operator render FILE`: the objects that a manifest would become, without a cluster.
//!
//! Values of Secrets are placeholders: those of the user are not known here, and made-up ones are made up only in a cluster. So
//! is the uid of the namespace, which backups are owned by.

use std::{
    fs, io,
    io::{Read, Write},
    path::Path,
};

use crate::{
    api::v1alpha1::RorunStack,
    desired, objects,
    stack::{self, Placeholders},
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
    /// The spec asks for what cannot be.
    #[error("failed to render {0}")]
    Unresolved(String),
    /// The result could not be printed.
    #[error("failed to print: {0}")]
    Print(#[from] io::Error),
}

/// How objects are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Documents of YAML.
    #[default]
    Yaml,
    /// A line of JSON for each object.
    Json,
    /// A line with kind, group and name of each object, as `kubectl --output=name` prints them.
    Name,
}

/// Prints the objects of each RorunStack in a file, one after the other.
pub(super) fn print(file: &Path, output: Output, mut out: impl Write) -> Result<(), RenderError> {
    let name = file.display().to_string();
    let text = read(file).map_err(|error| RenderError::Read(name.clone(), error))?;
    let mut found = false;
    for document in text.split("\n---").map(str::trim).filter(|document| !document.is_empty()) {
        let value = value_of(document).map_err(|error| RenderError::Parse(name.clone(), error))?;
        if value.get("kind").and_then(serde_json::Value::as_str) != Some("RorunStack") {
            continue;
        }
        let cr: RorunStack =
            serde_json::from_value(value).map_err(|error| RenderError::Parse(name.clone(), error.to_string()))?;
        found = true;
        for object in render(cr)? {
            match output {
                Output::Yaml => {
                    write!(out, "---\n{}", serde_saphyr::to_string(&object).map_err(io::Error::other)?)?;
                }
                Output::Json => writeln!(out, "{object}")?,
                Output::Name => writeln!(out, "{}", name_of(&object))?,
            }
        }
    }
    out.flush()?;
    if found { Ok(()) } else { Err(RenderError::Empty(name)) }
}

/// A document of YAML or, as `kubectl get --output=json` prints it, of JSON, which has a quicker reader.
fn value_of(document: &str) -> Result<serde_json::Value, String> {
    if document.starts_with('{')
        && let Ok(value) = serde_json::from_str(document)
    {
        return Ok(value);
    }
    serde_saphyr::from_str(document).map_err(|error| error.to_string())
}

fn name_of(object: &serde_json::Value) -> String {
    let text = |path: &str| objects::at(object, path).and_then(serde_json::Value::as_str).unwrap_or_default();
    let kind = text("/kind").to_lowercase();
    let group = text("/apiVersion").split_once('/').map(|(group, _)| format!(".{group}")).unwrap_or_default();
    format!("{kind}{group}/{}", text("/metadata/name"))
}

/// The text of a file, or of standard input.
pub(super) fn read(file: &Path) -> io::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    fs::read_to_string(file)
}

const PLACEHOLDERS: Placeholders<'static> = Placeholders {
    value: "placeholder",
    authority: "-----BEGIN CERTIFICATE-----\nplaceholder\n-----END CERTIFICATE-----\n",
    agent_image: super::AGENT_IMAGE,
};

/// Every object of a stack, as if all that it names were there and answered; or what of the spec cannot be.
pub fn render(mut cr: RorunStack) -> Result<Vec<serde_json::Value>, RenderError> {
    cr.metadata.namespace.get_or_insert_with(|| "default".to_owned());
    let namespace = cr.metadata.namespace.clone().unwrap_or_default();
    let stack = stack::validate(&cr, &PLACEHOLDERS.observed(&cr));
    if let Some((component, waiting)) = stack.unresolved.iter().chain(&stack.pods_refused).next() {
        return Err(RenderError::Unresolved(format!("{component}: {}", waiting.message)));
    }
    let objects = desired::everything(&stack, &crate::plan::Plan::default()).into_iter().map(|object| {
        let mut body = object.body;
        body["metadata"]["namespace"] = serde_json::Value::String(namespace.clone());
        body
    });
    Ok(objects.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_read_as_the_same_yaml_is() {
        let json = r#"{"kind": "RorunStack", "spec": {"suspend": true}}"#;
        assert_eq!(value_of(json), value_of("kind: RorunStack\nspec: {suspend: true}"));
        // A flow mapping of YAML begins like JSON.
        assert_eq!(value_of("{kind: RorunStack, spec: {suspend: true}}"), value_of(json));
        assert!(value_of("{").is_err());
    }

    #[test]
    fn names_are_those_of_kubectl() {
        let object =
            |version: &str, kind: &str| json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}});
        assert_eq!(name_of(&object("apps/v1", "StatefulSet")), "statefulset.apps/a");
        assert_eq!(name_of(&object("v1", "Service")), "service/a");
    }
}
