//! Manifests from `examples/`: the scenarios run what the documentation shows.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// The documents of a manifest, one of which is a stack.
#[derive(Clone, Debug)]
pub struct Documents(Vec<Value>);

/// Reads a file of `examples/`.
pub fn example(file: &str) -> Result<Documents> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(file);
    let text = fs::read_to_string(&path).with_context(|| format!("failed to read the example {}", path.display()))?;
    Documents::parse(&text).with_context(|| format!("failed to parse the example {}", path.display()))
}

impl Documents {
    /// Parses YAML with any number of documents.
    pub fn parse(text: &str) -> Result<Documents> {
        Ok(Documents(serde_saphyr::from_multiple(text)?))
    }

    /// Changes the stack.
    pub fn edit_stack(&mut self, change: impl FnOnce(&mut Value)) -> Result<()> {
        let stack = self.0.iter_mut().find(|document| document["kind"] == "RorunStack");
        change(stack.context("no RorunStack among the documents")?);
        Ok(())
    }

    /// A `List` of the documents in a namespace, and the name of the stack. What the example says about namespaces is
    /// for a reader with one stack.
    pub fn in_namespace(&self, namespace: &str) -> Result<(Value, String)> {
        let mut items = self.0.clone();
        items.retain(|item| item["kind"] != "Namespace");
        for item in &mut items {
            item["metadata"]["namespace"] = json!(namespace);
        }
        let stack = items.iter().find(|item| item["kind"] == "RorunStack").context("no RorunStack")?;
        let name = stack["metadata"]["name"].as_str().context("the stack has no name")?.to_owned();
        Ok((json!({"apiVersion": "v1", "kind": "List", "items": items}), name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n---\napiVersion: rorun.app/v1alpha1\nkind: RorunStack\nmetadata: {name: shop, namespace: x}\nspec: {environment: Development}\n";

    #[test]
    fn the_stack_is_changed_and_moved_to_the_namespace() {
        let mut documents = Documents::parse(TEXT).expect("yaml");
        documents.edit_stack(|stack| stack["spec"]["suspend"] = json!(true)).expect("a stack");
        let (list, name) = documents.in_namespace("here").expect("a list");
        assert_eq!(name, "shop");
        assert_eq!(list["items"].as_array().map(Vec::len), Some(1));
        assert_eq!(list["items"][0]["metadata"]["namespace"], "here");
        assert_eq!(list["items"][0]["spec"]["suspend"], true);
    }
}
