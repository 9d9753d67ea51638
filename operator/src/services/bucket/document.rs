//! The rules of a bucket as the document that the server keeps. Each rule stays the text that it is, so that a rule of somebody
//! else's is written back byte for byte, whatever it holds that we know nothing of.

use std::collections::BTreeMap;

use roxmltree::{Document as Tree, Node};

/// The namespace of the documents of S3.
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// Which of the documents of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleKind {
    /// What becomes of objects as time goes by.
    Lifecycle,
    /// Which pages browsers let send requests.
    Cors,
    /// Where the server copies objects to.
    Replication,
}

impl RuleKind {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Lifecycle, Self::Cors, Self::Replication];

    /// The field of the spec.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lifecycle => "lifecycle",
            Self::Cors => "cors",
            Self::Replication => "replication",
        }
    }

    fn root(self) -> &'static str {
        match self {
            Self::Lifecycle => "LifecycleConfiguration",
            Self::Cors => "CORSConfiguration",
            Self::Replication => "ReplicationConfiguration",
        }
    }

    /// The element of a rule.
    fn rule(self) -> &'static str {
        if self == Self::Cors { "CORSRule" } else { "Rule" }
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its id; empty if it has none.
    pub id: String,
    /// Its element.
    pub text: String,
}

/// The rules of a bucket of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleDocument {
    kind: RuleKind,
    /// The start tag of the root, with the names of namespaces that the rules may use.
    head: String,
    /// The elements beside the rules, such as the role of a replication.
    others: Vec<String>,
    /// The rules.
    pub rules: Vec<Rule>,
    /// The server gives this one as a header and takes it as one: what is left out would be set to its default.
    pub(super) smallest_transition: Option<String>,
}

impl RuleDocument {
    /// Without a rule.
    pub fn empty(kind: RuleKind) -> Self {
        let head = format!("<{} xmlns=\"{NAMESPACE}\">", kind.root());
        Self { kind, head, others: Vec::new(), rules: Vec::new(), smallest_transition: None }
    }

    /// What a server sent. `None`: it is no such document.
    pub fn parse(kind: RuleKind, bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let tree = Tree::parse(text).ok()?;
        let root = tree.root_element();
        if root.tag_name().name() != kind.root() {
            return None;
        }
        let mut document = Self::empty(kind);
        if let Some(first) = root.first_child() {
            text.get(root.range().start..first.range().start)?.clone_into(&mut document.head);
        }
        for element in root.children().filter(Node::is_element) {
            let text = text.get(element.range())?.to_owned();
            if element.tag_name().name() == kind.rule() {
                let id = element.children().find(|child| child.tag_name().name() == "ID");
                let id = id.and_then(|id| id.text()).unwrap_or_default().to_owned();
                document.rules.push(Rule { id, text });
            } else {
                document.others.push(text);
            }
        }
        Some(document)
    }

    /// The whole document.
    pub fn text(&self) -> String {
        let rules = self.rules.iter().map(|rule| rule.text.as_str());
        let inner: String = self.others.iter().map(String::as_str).chain(rules).collect();
        format!("{}{inner}</{}>", self.head, self.kind.root())
    }

    /// Which of the documents it is.
    pub fn kind(&self) -> RuleKind {
        self.kind
    }

    /// The role of a replication.
    pub fn role(&self) -> Option<String> {
        let text = self.others.iter().find(|text| text.starts_with("<Role"))?;
        let tree = Tree::parse(text).ok()?;
        tree.root_element().text().map(str::to_owned)
    }

    /// Sets the role of a replication.
    pub fn set_role(&mut self, role: &str) {
        self.others.retain(|text| !text.starts_with("<Role"));
        self.others.insert(0, format!("<Role>{}</Role>", escaped(role)));
    }

    /// What a rule says, as values by their path. Left out is what says nothing: an empty prefix is none.
    pub fn facts(&self, rule: &Rule) -> Facts {
        let text = format!("{}{}</{}>", self.head, rule.text, self.kind.root());
        let mut facts = Facts::default();
        if let Ok(tree) = Tree::parse(&text)
            && let Some(rule) = tree.root_element().first_element_child()
        {
            collect(rule, "", &mut facts.0);
        }
        facts.0.values_mut().for_each(|values| values.sort());
        facts
    }
}

/// What a rule says: values by their path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts(BTreeMap<String, Vec<String>>);

impl Facts {
    /// How what came back differs from what was sent. `None`: not at all.
    pub fn difference(&self, back: &Self) -> Option<String> {
        let paths: std::collections::BTreeSet<_> = self.0.keys().chain(back.0.keys()).collect();
        let differs = |path: &&&String| self.0.get(**path) != back.0.get(**path);
        let told = paths.iter().filter(differs).map(|path| {
            let values = |facts: &Self| facts.0.get(*path).map(|values| shown(&values.join(", ")));
            let path = shown(path);
            match (values(self), values(back)) {
                (Some(sent), Some(back)) => format!("{path} was sent as {sent} and came back as {back}"),
                (Some(sent), None) => format!("{path} was sent as {sent} and did not come back"),
                (None, back) => format!("{path} came back as {} and was not sent", back.unwrap_or_default()),
            }
        });
        let told: Vec<_> = told.take(3).collect();
        (!told.is_empty()).then(|| told.join(", "))
    }
}

fn collect(element: Node<'_, '_>, path: &str, into: &mut BTreeMap<String, Vec<String>>) {
    for child in element.children().filter(Node::is_element) {
        let name = child.tag_name().name();
        // An older form of the same filter.
        let path = match (path, name) {
            ("", "Prefix") => "Filter/Prefix".to_owned(),
            ("Filter", "And") => "Filter".to_owned(),
            ("", _) => name.to_owned(),
            _ => format!("{path}/{name}"),
        };
        // The id is how a rule is found, and a priority is only the order among the rules of a bucket.
        if matches!(path.as_str(), "ID" | "Priority") {
            continue;
        }
        if child.first_element_child().is_some() {
            collect(child, &path, into);
        } else if let Some(value) = child.text().map(str::trim).filter(|value| !value.is_empty()) {
            into.entry(path).or_default().push(value.to_owned());
        }
    }
}

/// A server may say anything, and what it says stands in a status.
fn shown(text: &str) -> String {
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | ':' | '-' | '_' | '*' | ',' | ' ');
    text.chars().filter(plain).take(80).collect()
}

/// A value between tags.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOREIGN: &str = r#"<?xml version="1.0"?>
<LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/" xmlns:x="urn:x"><x:Beside a="1"/>
 <Rule><ID>theirs &amp; others</ID><Filter><And><Prefix>logs/</Prefix><Tag><Key>a</Key><Value>b</Value></Tag></And></Filter>
   <Status>Enabled</Status><x:New>1</x:New><Expiration><Days>3</Days></Expiration></Rule>
</LifecycleConfiguration>"#;

    #[test]
    fn foreign_rules_stay_byte_for_byte() {
        let mut document = RuleDocument::parse(RuleKind::Lifecycle, FOREIGN.as_bytes()).expect("a document");
        let [rule] = &*document.rules else { panic!("{document:?}") };
        assert_eq!(rule.id, "theirs & others");
        let foreign = rule.text.clone();
        assert!(FOREIGN.contains(&foreign));
        document.rules.push(Rule { id: "o".to_owned(), text: "<Rule><ID>o</ID></Rule>".to_owned() });
        let text = document.text();
        assert!(text.contains(&foreign) && text.contains(r#"xmlns:x="urn:x""#) && text.contains("<x:Beside"), "{text}");
        let again = RuleDocument::parse(RuleKind::Lifecycle, text.as_bytes()).expect("a document");
        assert_eq!(again.rules, document.rules);
        assert_eq!(RuleDocument::parse(RuleKind::Cors, FOREIGN.as_bytes()), None);
        assert_eq!(RuleDocument::parse(RuleKind::Cors, b"<html>"), None);
    }

    #[test]
    fn what_a_rule_says_is_compared_and_not_how() {
        let document = RuleDocument::empty(RuleKind::Lifecycle);
        let facts = |text: &str| document.facts(&Rule { id: String::new(), text: format!("<Rule>{text}</Rule>") });
        let sent = facts("<ID>a</ID><Filter><Prefix>u/</Prefix></Filter><Status>Enabled</Status>");
        for same in [
            "<Status>Enabled</Status><Prefix>u/</Prefix>",
            "<ID>b</ID><Filter><And><Prefix> u/ </Prefix></And></Filter><Status>Enabled</Status><Expiration/>",
        ] {
            assert_eq!(sent.difference(&facts(same)), None, "{same}");
        }
        let wider =
            facts("<Filter><Prefix></Prefix></Filter><Status>Enabled</Status><Expiration><Days>1</Days></Expiration>");
        let told = sent.difference(&wider).expect("a difference");
        assert!(told.contains("Expiration/Days came back as 1 and was not sent"), "{told}");
        assert!(told.contains("Filter/Prefix was sent as u/ and did not come back"), "{told}");
    }

    #[test]
    fn a_role_is_read_and_written() {
        let text =
            format!("<ReplicationConfiguration xmlns=\"{NAMESPACE}\"><Role>arn:a</Role></ReplicationConfiguration>");
        let mut document = RuleDocument::parse(RuleKind::Replication, text.as_bytes()).expect("a document");
        assert_eq!(document.role().as_deref(), Some("arn:a"));
        document.set_role("arn:b&c");
        let again = RuleDocument::parse(RuleKind::Replication, document.text().as_bytes()).expect("a document");
        assert_eq!(again.role().as_deref(), Some("arn:b&c"));
    }
}
