//! The rows of services that the operator asks: what they are, and whether they are as the stack needs them. Neither moments nor
//! numbers that change by themselves, so that looking without news writes nothing.

use super::Report;
use crate::{
    api::v1alpha1::{ConnectionsStatus, FindingStatus, ServiceStatus, Verdict},
    names::Component,
    stack::{Mode, Probe, Stack},
};

/// A row for each service that was asked, and for a database whose settings are known.
pub(super) fn services(report: &Report<'_>) -> Vec<ServiceStatus> {
    let asked = [Component::Database, Component::Redis, Component::Bucket, Component::Backup];
    asked.into_iter().filter_map(|component| row(report, component)).collect()
}

/// Of a database that nobody asks: what its pod says, and what is known of its connections.
fn unasked(report: &Report<'_>) -> Option<ServiceStatus> {
    let stack = report.stack;
    stack.database.mode().connection_limit()?;
    let ready = report.readiness.iter().find(|(component, _)| *component == Component::Database)?.1.is_ready();
    match (ready, stack.known_service(Component::Database)) {
        (true, _) => Some(with_findings(stack, Component::Database)),
        (false, Some(known)) if !stack.asleep => Some(ServiceStatus { verdict: Verdict::Failed, ..known.clone() }),
        (false, _) => None,
    }
}

fn row(report: &Report<'_>, component: Component) -> Option<ServiceStatus> {
    let stack = report.stack;
    if component == Component::Database
        && let Some(row) = unasked(report)
    {
        return Some(row);
    }
    let probe = stack.probes.get(&component.into())?;
    let known = stack.known_service(component).cloned();
    let (slow, facts) = match probe {
        Probe::Pending => return known,
        Probe::Failed(_) => {
            let known = known.unwrap_or_else(|| named(stack, component));
            return Some(ServiceStatus { verdict: Verdict::Failed, ..known });
        }
        Probe::Answers { facts: None, .. } => return Some(known.unwrap_or_else(|| named(stack, component))),
        Probe::Answers { slow, facts: Some(facts), .. } => (*slow, facts),
    };
    Some(ServiceStatus {
        version: facts.version.clone(),
        verdict: if slow { Verdict::Slow } else { Verdict::Ok },
        ..with_findings(stack, component)
    })
}

fn with_findings(stack: &Stack, component: Component) -> ServiceStatus {
    let findings = stack.findings(component).into_iter();
    let budget = if component == Component::Database { stack.connections() } else { None };
    ServiceStatus {
        connections: budget.map(|budget| ConnectionsStatus {
            needed: budget.needed,
            available: budget.available,
            others: budget.others,
        }),
        findings: findings
            .map(|finding| FindingStatus { reason: finding.reason.to_owned(), message: finding.message })
            .collect(),
        ..named(stack, component)
    }
}

fn named(stack: &Stack, component: Component) -> ServiceStatus {
    let provider = stack.mode(component).and_then(Mode::provider).map(|provider| provider.name.to_owned());
    ServiceStatus { name: component.to_string(), provider, ..ServiceStatus::default() }
}
