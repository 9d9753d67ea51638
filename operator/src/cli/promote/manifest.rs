//! The image lines of a RorunStack in a file of YAML: where each is, and how another image is put there. All else of the file stays
//! byte for byte, so nothing is parsed and printed anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use granit_parser::{Event, Parser, ScanError, Span};
use serde_json::Value;

use crate::{names::Component, stack::WORKLOADS};

/// Why a file cannot be edited.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ManifestError {
    /// It is no YAML.
    #[error("it is no YAML: {0}")]
    Parse(String),
    /// It has no RorunStack.
    #[error("it has no RorunStack")]
    None,
    /// It has none of this name.
    #[error("it has no RorunStack {0}, but {1}")]
    NoSuch(String, String),
    /// It has several.
    #[error("it has several RorunStacks: say which by --name: {0}")]
    Several(String),
    /// Another image cannot be put into a line.
    #[error("spec.{0}.image {1}")]
    Line(Component, &'static str),
    /// The edit would reach further than the image lines.
    #[error(
        "more than its image lines would change: an anchor or a merge key refers to what they are in; write the images out"
    )]
    Reaches,
}

/// A RorunStack in a file.
#[derive(Debug)]
pub(super) struct Manifest {
    name: String,
    /// `spec.image.registry`.
    pub(super) registry: Option<String>,
    images: BTreeMap<Component, Result<Line, ManifestError>>,
}

/// The place of an image.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// The image, as it is written.
    pub(super) image: String,
    place: Range<usize>,
}

impl Manifest {
    /// Finds the RorunStack of a name, or the only one.
    pub(super) fn find(text: &str, name: Option<&str>) -> Result<Self, ManifestError> {
        let mut stacks = stacks(text)?;
        let names = |stacks: &[Self]| stacks.iter().map(|stack| stack.name.as_str()).collect::<Vec<_>>().join(", ");
        let all = names(&stacks);
        if let Some(name) = name {
            stacks.retain(|stack| stack.name == name);
        }
        match (stacks.len(), name) {
            (1, _) => stacks.pop().ok_or(ManifestError::None),
            (0, Some(name)) if !all.is_empty() => Err(ManifestError::NoSuch(name.to_owned(), all)),
            (0, _) => Err(ManifestError::None),
            _ => Err(ManifestError::Several(all)),
        }
    }

    /// The components of the release that it has.
    pub(super) fn components(&self) -> BTreeSet<Component> {
        self.images.keys().copied().collect()
    }

    /// The image of a component.
    pub(super) fn line(&self, component: Component) -> Result<&Line, ManifestError> {
        let found = self.images.get(&component).map(Result::as_ref);
        found.unwrap_or(Err(&ManifestError::Line(component, MISSING))).map_err(Clone::clone)
    }

    /// The file with other images, which is checked to differ in these alone.
    pub(super) fn with(&self, text: &str, images: &BTreeMap<Component, String>) -> Result<String, ManifestError> {
        let mut edits = Vec::new();
        for (component, image) in images {
            edits.push((self.line(*component)?.place.clone(), image));
        }
        edits.sort_by_key(|(place, _)| std::cmp::Reverse(place.start));
        let mut edited = text.to_owned();
        for (place, image) in edits {
            edited.replace_range(place, image);
        }
        let mut expected = documents(text)?;
        for document in expected.iter_mut().filter(|document| self.is(document)) {
            for (component, image) in images {
                document["spec"][component.as_str()]["image"] = Value::String(image.clone());
            }
        }
        if documents(&edited)? == expected { Ok(edited) } else { Err(ManifestError::Reaches) }
    }

    fn is(&self, document: &Value) -> bool {
        document["kind"] == KIND && document["metadata"]["name"].as_str().unwrap_or_default() == self.name
    }
}

/// The kind that is looked for.
pub(super) const KIND: &str = "RorunStack";

/// The documents of a file.
pub(super) fn documents(text: &str) -> Result<Vec<Value>, ManifestError> {
    serde_saphyr::from_multiple(text).map_err(|error| ManifestError::Parse(error.to_string()))
}

fn stacks(text: &str) -> Result<Vec<Manifest>, ManifestError> {
    let documents = Reader::read(text).map_err(|error| ManifestError::Parse(error.to_string()))?;
    let stacks = documents.nodes.iter().filter(|node| node.text(&["kind"]) == Some(KIND));
    Ok(stacks.map(|node| manifest(text, node, &documents.referred)).collect())
}

fn manifest(text: &str, node: &Node, referred: &BTreeSet<usize>) -> Manifest {
    let images = WORKLOADS.into_iter().filter_map(|component| {
        let line = line(node, component, text, referred).map_err(|why| ManifestError::Line(component, why));
        Some((component, line.transpose()?))
    });
    Manifest {
        name: node.text(&["metadata", "name"]).unwrap_or_default().to_owned(),
        registry: node.text(&["spec", "image", "registry"]).map(str::to_owned),
        images: images.collect(),
    }
}

const ALIAS: &str =
    "is behind an alias (*) or a merge key (<<): write it out, since what it refers to may be meant for others, too";
const ANCHOR: &str = "has an anchor (&) that an alias elsewhere refers to: write the image out in both places";
const FORM: &str = "is not written as one word, with or without quotes around it: write it so";
const MISSING: &str = "is missing, or is no text";

/// Where the image of a component is. `None`: there is no such component.
fn line(
    stack: &Node,
    component: Component,
    text: &str,
    referred: &BTreeSet<usize>,
) -> Result<Option<Line>, &'static str> {
    let Some(workload) = member(stack, "spec")? else { return Ok(None) };
    let Some(workload) = member(workload, component.as_str())? else { return Ok(None) };
    match member(workload, "image")? {
        Some(Node::Scalar { anchor, .. }) if referred.contains(anchor) => Err(ANCHOR),
        Some(Node::Scalar { value, place, .. }) => {
            let written = text.get(place.clone()).ok_or(FORM)?;
            let place = inside(written, value, place.start).ok_or(FORM)?;
            Ok(Some(Line { image: value.clone(), place }))
        }
        _ => Err(MISSING),
    }
}

/// A member of a mapping that is written there. `None`: it has none, or an empty one.
fn member<'a>(node: &'a Node, key: &str) -> Result<Option<&'a Node>, &'static str> {
    match node.get(key) {
        Some(Node::Alias) => Err(ALIAS),
        None if node.get("<<").is_some() => Err(ALIAS),
        Some(Node::Scalar { value, .. }) if matches!(value.as_str(), "" | "~" | "null") => Ok(None),
        found => Ok(found),
    }
}

/// The place of a value within its quotes, if it is written as it is, without escapes and line breaks.
fn inside(written: &str, value: &str, start: usize) -> Option<Range<usize>> {
    let quote = written.chars().next().filter(|first| matches!(first, '"' | '\''));
    let bare = quote.map_or(Some(written), |quote| written.strip_prefix(quote)?.strip_suffix(quote))?;
    let start = start + quote.map_or(0, char::len_utf8);
    (bare == value).then(|| start..start + value.len())
}

/// A node of YAML, with the places of scalars.
#[derive(Debug)]
enum Node {
    Scalar { value: String, place: Range<usize>, anchor: usize },
    Mapping(Vec<(String, Node)>),
    Sequence,
    Alias,
}

impl Node {
    fn get(&self, key: &str) -> Option<&Self> {
        let Self::Mapping(entries) = self else { return None };
        entries.iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    fn text(&self, path: &[&str]) -> Option<&str> {
        match path.iter().try_fold(self, |node, key| node.get(key))? {
            Self::Scalar { value, .. } => Some(value),
            _ => None,
        }
    }
}

/// The nodes of a file, and the anchors that something refers to.
#[derive(Default)]
struct Reader {
    nodes: Vec<Node>,
    referred: BTreeSet<usize>,
}

impl Reader {
    fn read(text: &str) -> Result<Self, ScanError> {
        let mut events = Parser::new_from_str(text);
        let mut reader = Self::default();
        while let Some((event, span)) = events.next().transpose()? {
            if let Some(node) = reader.node(event, &span, &mut events)? {
                reader.nodes.push(node);
            }
        }
        Ok(reader)
    }

    /// The node that an event begins. `None`: it begins none.
    fn node<'a>(
        &mut self,
        event: Event<'a>,
        span: &Span,
        events: &mut impl Iterator<Item = Result<(Event<'a>, Span), ScanError>>,
    ) -> Result<Option<Node>, ScanError> {
        Ok(Some(match event {
            Event::Scalar(value, _, anchor, _) => {
                Node::Scalar { value: value.into_owned(), place: span.byte_range().unwrap_or_default(), anchor }
            }
            Event::Alias(anchor) => {
                self.referred.insert(anchor);
                Node::Alias
            }
            Event::MappingStart(..) => {
                let mut nodes = self.nodes(events)?.into_iter();
                let mut entries = Vec::new();
                while let (Some(key), Some(value)) = (nodes.next(), nodes.next()) {
                    if let Node::Scalar { value: key, .. } = key {
                        entries.push((key, value));
                    }
                }
                Node::Mapping(entries)
            }
            Event::SequenceStart(..) => {
                self.nodes(events)?;
                Node::Sequence
            }
            _ => return Ok(None),
        }))
    }

    /// All nodes until the end of a mapping or a sequence.
    fn nodes<'a>(
        &mut self,
        events: &mut impl Iterator<Item = Result<(Event<'a>, Span), ScanError>>,
    ) -> Result<Vec<Node>, ScanError> {
        let mut nodes = Vec::new();
        while let Some((event, span)) = events.next().transpose()? {
            if matches!(event, Event::MappingEnd | Event::SequenceEnd) {
                break;
            }
            nodes.extend(self.node(event, &span, events)?);
        }
        Ok(nodes)
    }
}
