//! The rows of components, and the URLs.

use super::{Report, note};
use crate::{
    api::v1alpha1::{ComponentStatus, Endpoints},
    names::{Component, reason::Reason},
    objects::{Pods, Readiness},
    stack::Stack,
};

/// A row for each component that is more than a Secret.
pub(super) fn components(report: &Report<'_>, backup: Option<&(Reason, String)>) -> Vec<ComponentStatus> {
    let rows = report.readiness.iter().filter(|(component, _)| *component != Component::Connection);
    let rows = rows.map(|(component, readiness)| row(report, *component, readiness));
    rows.map(|row| match backup.filter(|_| row.ready && row.name == Component::Backup.as_str()) {
        Some((_, message)) => ComponentStatus { message: message.clone(), ..row },
        None => row,
    })
    .collect()
}

fn row(report: &Report<'_>, component: Component, readiness: &Readiness) -> ComponentStatus {
    let name = report.stack.child(component);
    let there = ["Deployment", "StatefulSet"].into_iter().find_map(|kind| report.live.named(kind, &name)?.pods);
    // The pods that the watch will show of a workload that was created just now.
    let counts = |pods: Pods| (pods.wanted, pods.ready);
    let pods = there.map(counts).or_else(|| report.begun.get(&component).map(|wanted| (*wanted, 0)));
    ComponentStatus {
        name: component.to_string(),
        ready: readiness.is_ready(),
        pods: pods.map(|(wanted, ready)| format!("{ready}/{wanted}")),
        replicas: pods.map(|(wanted, _)| wanted),
        ready_replicas: pods.map(|(_, ready)| ready),
        image: image(report.stack, component),
        message: match readiness {
            Readiness::Ready => note(report, component).unwrap_or_default(),
            Readiness::Waiting(waiting) => waiting.message.clone(),
        },
    }
}

fn image(stack: &Stack, component: Component) -> Option<String> {
    if let Some(workload) = stack.workload(component) {
        return Some(workload.image.clone());
    }
    if component == Component::Backup {
        return stack.backup.as_ref().map(|backup| backup.image.clone());
    }
    stack.server(component).map(|server| server.image.clone())
}

/// Where the stack is reached from outside.
pub(super) fn endpoints(stack: &Stack) -> Option<Endpoints> {
    let ingress = stack.ingress.as_ref()?;
    let url = |component| ingress.url(component);
    Some(Endpoints { api: url(Component::Api), admin: url(Component::Admin), ocr: url(Component::Ocr) })
}
