//! Wrong values in pods of an earlier release: an upgrade replaces these pods, one stack at a time.

use std::fmt;

use super::Stack;
use crate::names::Component;

/// A wrong value that pods of an earlier release have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Correction {
    /// Up to 0.1.0 the authorities of Redis and the bucket were given to every client of the database as well, and to no
    /// client that replaces the public ones.
    Authorities,
    /// Up to 0.1.0 the URLs of services were written anew, in a form that some clients read otherwise.
    Urls,
}

impl Correction {
    /// The correction in one sentence, for the Event.
    pub fn told(self) -> &'static str {
        match self {
            Self::Authorities => {
                "the database, Redis and the bucket are each trusted by their own certificate authority, no longer by those \
                 of all three together"
            }
            Self::Urls => {
                "the URLs of the services arrive as the Secret has them, no longer with more percent-encoding"
            }
        }
    }
}

impl fmt::Display for Correction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Authorities => "Authorities",
            Self::Urls => "Urls",
        })
    }
}

/// The correction that a Deployment records: its names, the digest of its pods, and the image of the agent in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Corrected {
    /// The names of the corrections.
    pub what: String,
    /// The digest of the pod template without that image.
    pub template: String,
    /// The image of the agent in the pods.
    pub agent_image: String,
}

impl Corrected {
    /// Reads the annotation.
    pub fn parse(text: &str) -> Self {
        let mut words = text.split(' ').map(str::to_owned);
        let mut next = || words.next().unwrap_or_default();
        Self { what: next(), template: next(), agent_image: next() }
    }

    /// Whether all of these are made.
    pub fn has(&self, corrections: &[Correction]) -> bool {
        corrections.iter().all(|wanted| self.what.split(',').any(|made| made == wanted.to_string()))
    }
}

/// The value of the annotation.
impl fmt::Display for Corrected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = [&*self.what, &*self.template, &*self.agent_image].join(" ");
        f.write_str(text.trim_end())
    }
}

impl Stack {
    /// The corrections that pods of an earlier release may need. Each source is a line.
    pub fn corrections(&self) -> Vec<Correction> {
        let Some(connection) = &self.connection else { return Vec::new() };
        let sources = [(Correction::Authorities, connection.apart), (Correction::Urls, connection.corrected_urls())];
        sources.into_iter().filter(|(_, wrong)| *wrong).map(|(correction, _)| correction).collect()
    }

    /// The workloads whose pods have the values that are corrected.
    pub fn correctable(&self) -> impl Iterator<Item = Component> + '_ {
        let all = [Some(&self.api), self.ocr.as_ref(), self.admin.as_ref()].into_iter().flatten();
        all.filter(|workload| workload.connected).map(|workload| workload.component)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_deployment_says_reads_back() {
        let corrected = Corrected {
            what: "Authorities".to_owned(),
            template: "00ff".to_owned(),
            agent_image: "ghcr.io/rorun/rorun-operator:0.1.0".to_owned(),
        };
        assert_eq!(Corrected::parse(&corrected.to_string()), corrected);
        let without_agent = Corrected { what: "Authorities".to_owned(), ..Corrected::default() };
        assert_eq!(without_agent.to_string(), "Authorities");
        assert_eq!(Corrected::parse("Authorities"), without_agent);
        assert!(without_agent.has(&[Correction::Authorities]) && without_agent.has(&[]));
        assert!(!Corrected::parse("Other,Further 0 i").has(&[Correction::Authorities]));
        assert!(Corrected::parse("Other,Authorities 0 i").has(&[Correction::Authorities]));
    }
}
