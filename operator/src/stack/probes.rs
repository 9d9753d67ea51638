//! The URLs that the operator probes, and what the answers mean.

use super::{Probe, Stack};
use crate::names::{Component, Waiting, reason};

/// One of the URLs that lead to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceUrl {
    /// The one that the application needs to serve.
    Main,
    /// To the database itself, past a pooler: for dumps and migrations.
    Direct,
    /// To a read replica of the database.
    Read,
}

/// A service, and the URL that the operator probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeTarget {
    /// The component of the service.
    pub component: Component,
    /// By which URL.
    pub url: ServiceUrl,
}

impl From<Component> for ProbeTarget {
    fn from(component: Component) -> Self {
        Self { component, url: ServiceUrl::Main }
    }
}

impl ProbeTarget {
    /// The database by `DIRECT_URL`.
    pub const DIRECT: Self = Self { component: Component::Database, url: ServiceUrl::Direct };
    /// The database by `READ_URL`.
    pub const READ: Self = Self { component: Component::Database, url: ServiceUrl::Read };

    /// The label of its metrics.
    pub fn label(&self) -> &'static str {
        match self.url {
            ServiceUrl::Main => self.component.as_str(),
            ServiceUrl::Direct => "database-direct",
            ServiceUrl::Read => "database-read",
        }
    }
}

impl Stack {
    /// The result of the last probe of a service.
    pub fn probe(&self, target: impl Into<ProbeTarget>) -> &Probe {
        self.probes.get(&target.into()).unwrap_or(&Probe::Pending)
    }

    /// A note for the user about a component that serves.
    pub fn note(&self, component: Component) -> Option<String> {
        let mut notes = Vec::new();
        if let Probe::Answers { note: Some(note), .. } = self.probe(component) {
            notes.push(note.as_str());
        }
        let findings = self.findings(component);
        notes.extend(findings.iter().map(|finding| finding.message.as_str()));
        if component == Component::Database {
            notes.extend(self.noted_urls().into_iter().filter_map(|target| match self.probe(target) {
                Probe::Failed(waiting) => Some(waiting.message.as_str()),
                Probe::Pending | Probe::Answers { .. } => None,
            }));
        }
        (!notes.is_empty()).then(|| notes.join("; "))
    }

    /// The URLs of the database whose failure leaves it ready. The backup component reports a URL that backups need.
    fn noted_urls(&self) -> Vec<ProbeTarget> {
        if self.backup.is_some() { vec![ProbeTarget::READ] } else { vec![ProbeTarget::DIRECT, ProbeTarget::READ] }
    }

    /// The answer of an earlier process, from the note of a component that served then.
    pub fn noted(&self, target: ProbeTarget, note: Option<&str>) -> Probe {
        if target.component != Component::Database {
            return Probe::answers(note.map(str::to_owned));
        }
        match note.and_then(|note| self.note_of(target, note)) {
            // Why it failed is in no condition, and shown nowhere.
            Some(message) => Probe::Failed(Waiting::new(reason::UNREACHABLE, message)),
            None => Probe::answers(None),
        }
    }

    fn note_of(&self, target: ProbeTarget, note: &str) -> Option<String> {
        let start = note.find(&self.opening(target)?)?;
        let later = self.noted_urls().into_iter().filter(|other| *other > target);
        let ends = later.filter_map(|other| note[start..].find(&format!("; {}", self.opening(other)?)));
        let end = ends.min().map_or(note.len(), |end| start + end);
        Some(note[start..end].to_owned())
    }

    /// How a message about one of the database's further URLs begins.
    pub fn opening(&self, target: ProbeTarget) -> Option<String> {
        let access = self.database.mode().access()?;
        let origin = match target.url {
            ServiceUrl::Main => return None,
            ServiceUrl::Direct => &access.direct.origin,
            ServiceUrl::Read => &access.read.origin,
        };
        (!origin.is_empty()).then(|| format!("{origin}: "))
    }
}
