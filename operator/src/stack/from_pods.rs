//! What a Job asks of services from the place of the pods, and what it said: a bucket that the operator did not make whether it can be
//! written, and a database that only pods reach, or a bucket that they use by their role, whatever the operator asks of others.

use std::sync::Arc;

use super::{Backup, BucketAccess, Endpoint, Finding, JobPhase, Mode, Observed, Probe, ProbeTarget, ServiceUrl, Stack};
use crate::{
    api::v1alpha1::{RorunStackSpec, ServiceStatus},
    contract::{PreflightFinding, PreflightOutcome, PreflightVerdict, ServiceFacts, preflight_key},
    names::{Component, ObjectName, Waiting, meaning, reason, reason::Reason},
};

/// The Job, and what it asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FromPods {
    /// The name of the Job: by what it asks, and by which keys.
    pub job: String,
    /// The object that it writes to the bucket, and whether versions are looked for. `None`: the bucket is not asked.
    pub bucket: Option<(String, bool)>,
    /// The object that it writes to the bucket of the backups, and that bucket. `None`: it is not asked.
    pub destination: Option<(String, Box<BucketAccess>)>,
    /// The spec names the folder that the object is in, so that the keys have to reach it.
    pub folder_named: bool,
    /// The URLs of the database that it asks by, in the dialect of libpq.
    pub urls: Vec<(ProbeTarget, String)>,
    /// Whether the Job may begin: what it asks exists, and there are pods to ask for.
    pub may_begin: bool,
    /// How far the Job is. `None`: it does not exist.
    pub phase: Option<JobPhase>,
    /// What it said last. `None`: nothing yet, or its pod is gone.
    pub said: Option<PreflightOutcome>,
}

/// The bucket of the backups, where it is another one.
const DESTINATION: ProbeTarget = ProbeTarget { component: Component::Backup, url: ServiceUrl::Main };

/// Reasons that the agent gives.
const REASONS: [Reason; 8] = [
    reason::ACCESS_DENIED,
    reason::AUTHENTICATION_FAILED,
    reason::NOT_FOUND,
    reason::READ_ONLY,
    reason::RIGHTS_MISSING,
    reason::TLS_FAILED,
    reason::UNREACHABLE,
    reason::UNSUPPORTED,
];

/// Of what a stack asks from its pods. `None`: nothing.
pub(super) fn resolve(spec: &RorunStackSpec, stack: &Stack, observed: &Observed) -> Option<FromPods> {
    let folder = folder(spec, stack);
    let asked = stack.asked_from_pods(folder);
    if asked.is_empty() {
        return None;
    }
    let named: Vec<_> = asked.iter().map(|(target, endpoint)| meant(stack, *target, endpoint)).collect();
    let beside = stack.beside_pods();
    let name = |retry: &str| {
        let parts: Vec<_> = named.iter().chain(&beside).map(String::as_str).chain([retry]).collect();
        String::from(ObjectName::step(&stack.name, Component::Preflight, &meaning(&parts)))
    };
    let job = retried(name, observed);
    let there = observed.jobs.iter().find(|there| there.name == job);
    let said = there.and_then(|there| serde_json::from_str(there.said.as_deref()?).ok());
    let mut found = FromPods {
        job,
        bucket: None,
        destination: None,
        folder_named: folder.is_some(),
        urls: Vec::new(),
        may_begin: stack.modes().all(Mode::stands) && !stack.asks_for_no_pods(),
        phase: there.map(|there| there.phase.clone()),
        said,
    };
    for (target, endpoint) in asked {
        match endpoint {
            Endpoint::Bucket { access, prefix, versioning, .. } => {
                let key = preflight_key(prefix.as_deref().unwrap_or_default(), &stack.uid);
                if target == DESTINATION {
                    found.destination = Some((key, Box::new(access)));
                } else {
                    found.bucket = Some((key, versioning));
                }
            }
            Endpoint::Postgres { url, .. } => found.urls.push((target, url)),
            Endpoint::Redis { .. } => {}
        }
    }
    Some(found)
}

/// The folder of the bucket that its keys are sure to reach, if they reach it at all: that of the backups, or the one whose objects the spec
/// has rules for. `None`: the spec names none.
fn folder<'a>(spec: &'a RorunStackSpec, stack: &'a Stack) -> Option<&'a str> {
    let of_rules = || spec.bucket.as_ref()?.lifecycle.as_ref()?.prefix.as_deref();
    stack.backups_in_bucket().or_else(of_rules).filter(|folder| is_folder(folder))
}

fn is_folder(text: &str) -> bool {
    let names = text.strip_suffix('/').map(|folders| folders.split('/'));
    names.is_some_and(|mut names| names.all(|name| !matches!(name, "" | "." | "..")))
}

/// A retry is another Job in the place of one that found something wrong and does not try again by itself, whose login was refused, or
/// that cannot start.
fn retried(name: impl Fn(&str) -> String, observed: &Observed) -> String {
    let first = name("");
    let Some(retry) = observed.retry() else { return first };
    let there = |name: &str| observed.jobs.iter().find(|job| job.name == name);
    let again = name(retry);
    let noted = |said: &str| {
        let outcome: Option<PreflightOutcome> = serde_json::from_str(said).ok();
        outcome.is_some_and(|outcome| outcome.answers.iter().any(|answer| !findings_of(&answer.verdict).is_empty()))
    };
    let refused = |said: &str| {
        let outcome: Option<PreflightOutcome> = serde_json::from_str(said).ok();
        let mut verdicts = outcome.iter().flat_map(|outcome| &outcome.answers).map(|answer| &answer.verdict);
        verdicts.any(|verdict| {
            matches!(verdict, PreflightVerdict::Failed(found) if found.reason == reason::AUTHENTICATION_FAILED)
        })
    };
    let wrong = there(&first).is_some_and(|job| match &job.phase {
        JobPhase::Failed(_) | JobPhase::CannotStart => true,
        JobPhase::Complete => job.said.as_deref().is_some_and(noted),
        // The cloud gives a role to a pod as it starts: another pod may get the one that this one did not.
        JobPhase::Running => job.said.as_deref().is_some_and(refused),
    });
    if wrong || there(&again).is_some() { again } else { first }
}

/// What a service is asked, and by which keys or role.
fn meant(stack: &Stack, target: ProbeTarget, endpoint: &Endpoint) -> String {
    let salted = |parts: &[&str]| meaning(&[&[stack.uid.as_str()], parts].concat());
    let of_service = match endpoint {
        Endpoint::Bucket { access, prefix, versioning, .. } => {
            let keys = access.meaning_of_keys(&stack.uid, &stack.api.service_account_annotations);
            let (prefix, ca) = (prefix.as_deref().unwrap_or_default(), access.ca.as_deref().unwrap_or_default());
            let style = access.force_path_style.to_string();
            let place = [access.endpoint.as_str(), &access.region, &access.name, &style, prefix, ca];
            meaning(&[&place[..], &[&versioning.to_string(), &keys]].concat())
        }
        Endpoint::Postgres { url, ca, .. } | Endpoint::Redis { url, ca, .. } => {
            salted(&[url, ca.as_deref().unwrap_or_default()])
        }
    };
    format!("{} {of_service}", target.label())
}

impl Stack {
    /// The services that a Job asks from the place of the pods.
    fn asked_from_pods(&self, folder: Option<&str>) -> Vec<(ProbeTarget, Endpoint)> {
        let services = self.modes().flat_map(|mode| mode.asked_from_pods(folder));
        services.chain(self.destination().map(|endpoint| (DESTINATION, endpoint))).collect()
    }

    /// The bucket of the backups, where it is another one, by their folder.
    pub(super) fn destination(&self) -> Option<Endpoint> {
        match self.backup.as_ref()? {
            Backup { own_destination: true, destination: Some(access), prefix, .. } => Some(Endpoint::Bucket {
                access: (**access).clone(),
                prefix: Some(prefix.clone()),
                create: false,
                versioning: false,
            }),
            _ => None,
        }
    }

    /// What a Job said of a service, on top of what the operator itself found out. `None`: nothing beside.
    pub fn told_from_pods(&self, target: ProbeTarget, found: &Probe) -> Option<Probe> {
        let asked = self.from_pods.as_ref()?;
        let only_pods = self.is_asked_from_pods_alone(target.component);
        // What the operator itself finds wrong is newer.
        if matches!(found, Probe::Failed(_)) && !only_pods {
            return None;
        }
        match (asked.said.as_ref().and_then(|said| said.of(target.label())), &asked.phase) {
            // Keys may be for one folder alone, which the spec does not name.
            (Some(PreflightVerdict::Failed(found)), _) if asked.is_elsewhere(target, found) && !only_pods => None,
            (Some(PreflightVerdict::Failed(PreflightFinding { reason, message })), _) => {
                let reason = REASONS.into_iter().find(|known| known == reason).unwrap_or(reason::JOB_FAILED);
                Some(Probe::Failed(Waiting::new(reason, self.failed_message(target, reason, message))))
            }
            (_, Some(JobPhase::Failed(why))) if asked.asks(target) => {
                let message = format!("job/{} failed, and is made again once it is deleted: {why}", asked.job);
                Some(Probe::Failed(Waiting::new(reason::JOB_FAILED, message)))
            }
            // Of a bucket that the application uses they are findings.
            (Some(PreflightVerdict::Passed { findings, .. }), _) if target == DESTINATION => {
                let answers = only_pods.then(|| answered(None));
                noted(answers.as_ref().unwrap_or(found), findings).or(answers)
            }
            // Also of a Job that goes on for another service.
            (Some(PreflightVerdict::Passed { facts, .. }), _) if only_pods => Some(answered(facts.as_ref())),
            // Its pod is gone.
            (None, Some(JobPhase::Complete)) if only_pods && asked.asks(target) => Some(Probe::answers(None)),
            _ => (only_pods && asked.asks(target)).then_some(Probe::Pending),
        }
    }

    fn failed_message(&self, target: ProbeTarget, reason: Reason, said: &str) -> String {
        let asked = self.from_pods.as_ref().map(|asked| asked.job.as_str()).unwrap_or_default();
        let origin = self.opening(target).unwrap_or_default();
        let provider = self.mode(target.component).and_then(Mode::provider);
        let advice = provider.and_then(|provider| provider.advice(reason)).map(|advice| format!("; {advice}"));
        let folder = self.denied_at_the_top(target, reason).unwrap_or_default();
        format!("job/{asked}, which goes on trying: {origin}{said}{}{folder}", advice.unwrap_or_default())
    }

    /// Of a role that may be for one folder alone, and which nobody but the Job goes by: how to say so.
    fn denied_at_the_top(&self, target: ProbeTarget, reason: Reason) -> Option<&'static str> {
        let unnamed = self.from_pods.as_ref().is_some_and(|asked| !asked.folder_named);
        let denied = reason == reason::ACCESS_DENIED && target == ProbeTarget::from(Component::Bucket);
        (unnamed && denied).then_some("; if they are for one folder alone, let them write and delete _preflight/* too")
    }

    /// The targets that a Job answers for.
    pub fn targets_from_pods(&self) -> Vec<ProbeTarget> {
        let Some(asked) = &self.from_pods else { return Vec::new() };
        let bucket = asked.bucket.iter().map(|_| ProbeTarget::from(Component::Bucket));
        let destination = asked.destination.iter().map(|_| DESTINATION);
        bucket.chain(destination).chain(asked.urls.iter().map(|(target, _)| *target)).collect()
    }

    /// Whether the operator itself cannot ask a service, and a Job does.
    pub fn is_asked_from_pods_alone(&self, component: Component) -> bool {
        let by_role = |access: &BucketAccess| access.keys.is_none();
        match component {
            Component::Bucket => self.bucket.access().is_some_and(by_role),
            Component::Backup => {
                let own = self.backup.as_ref().filter(|backup| backup.own_destination);
                own.and_then(|backup| backup.destination.as_deref()).is_some_and(by_role)
            }
            _ => self.mode(component).is_some_and(|mode| mode.proxy().is_some()),
        }
    }

    /// Whether nothing but a Job says that a service fails which answers the operator. Such a service keeps nobody waiting: a network
    /// policy may be in the way of the Job alone.
    pub fn fails_from_pods_alone(&self, component: Component) -> bool {
        let target = ProbeTarget::from(component);
        let told = self.told_from_pods(target, &Probe::answers(None));
        !self.is_asked_from_pods_alone(component) && told.as_ref().is_some_and(|told| told == self.probe(target))
    }

    /// What a Job found of a bucket that serves all the same.
    pub(super) fn findings_from_pods(&self, known: Option<&ServiceStatus>) -> Vec<Finding> {
        if let Some(found) = self.denied_elsewhere() {
            return vec![found];
        }
        let Some(asked) = self.from_pods.as_ref().filter(|asked| asked.phase == Some(JobPhase::Complete)) else {
            return Vec::new();
        };
        let finding = |reason: &str, message: &str| {
            let reason = REASONS.into_iter().find(|known| *known == reason)?;
            Some(Finding { reason, message: message.to_owned() })
        };
        match &asked.said {
            Some(said) => {
                let verdict = said.of(ProbeTarget::from(Component::Bucket).label());
                let found = verdict.into_iter().flat_map(findings_of);
                found.filter_map(|of| finding(&of.reason, &of.message)).collect()
            }
            None => known
                .into_iter()
                .flat_map(|row| &row.findings)
                .filter_map(|of| finding(&of.reason, &of.message))
                .collect(),
        }
    }
}

impl Stack {
    /// That the keys do not reach the top of the bucket, as a finding.
    fn denied_elsewhere(&self) -> Option<Finding> {
        let (asked, target) = (self.from_pods.as_ref()?, ProbeTarget::from(Component::Bucket));
        if self.is_asked_from_pods_alone(Component::Bucket) {
            return None;
        }
        match asked.said.as_ref()?.of(target.label())? {
            PreflightVerdict::Failed(found) if asked.is_elsewhere(target, found) => {
                let message = format!("{}; job/{} goes on trying", found.message, asked.job);
                Some(Finding { reason: reason::RIGHTS_MISSING, message })
            }
            _ => None,
        }
    }
}

impl FromPods {
    /// Whether a right is missing where nobody said that it is needed.
    fn is_elsewhere(&self, target: ProbeTarget, found: &PreflightFinding) -> bool {
        let denied = reason::ACCESS_DENIED == found.reason;
        target == ProbeTarget::from(Component::Bucket) && !self.folder_named && denied
    }

    fn asks(&self, target: ProbeTarget) -> bool {
        let bucket = self.bucket.is_some() && target == ProbeTarget::from(Component::Bucket);
        let destination = self.destination.is_some() && target == DESTINATION;
        bucket || destination || self.urls.iter().any(|(of, _)| *of == target)
    }
}

/// That a service answers which only pods ask.
fn answered(facts: Option<&ServiceFacts>) -> Probe {
    Probe::Answers { note: None, slow: false, facts: Some(Arc::new(facts.cloned().unwrap_or_default())) }
}

/// What was found beside what the operator itself found of a service that answers. `None`: nothing.
fn noted(found: &Probe, findings: &[PreflightFinding]) -> Option<Probe> {
    let Probe::Answers { note, slow, facts } = found else { return None };
    let mut notes: Vec<_> = findings.iter().map(|finding| finding.message.as_str()).collect();
    if notes.is_empty() {
        return None;
    }
    notes.extend(note.as_deref());
    Some(Probe::Answers { note: Some(notes.join("; ")), slow: *slow, facts: facts.clone() })
}

fn findings_of(verdict: &PreflightVerdict) -> &[PreflightFinding] {
    match verdict {
        PreflightVerdict::Passed { findings, .. } => findings,
        PreflightVerdict::Failed(_) => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{contract::PreflightAnswer, names::annotation, stack::ObservedJob};

    fn answer(verdict: PreflightVerdict) -> String {
        let answers = vec![PreflightAnswer { target: "bucket".to_owned(), verdict }];
        serde_json::to_string(&PreflightOutcome { answers }).unwrap()
    }

    fn failed(reason: &str) -> String {
        answer(PreflightVerdict::Failed(PreflightFinding { reason: reason.to_owned(), message: String::new() }))
    }

    /// A pod that started without a role never gets one, and a Job that goes on trying does so in one pod.
    #[rstest::rstest]
    #[case::no_role(JobPhase::Running, Some(failed(reason::AUTHENTICATION_FAILED)), true)]
    #[case::a_right_that_may_be_granted(JobPhase::Running, Some(failed(reason::ACCESS_DENIED)), false)]
    #[case::nothing_said_yet(JobPhase::Running, None, false)]
    #[case::it_cannot_start(JobPhase::CannotStart, None, true)]
    #[case::it_is_done(JobPhase::Complete, Some(answer(PreflightVerdict::Passed { findings: Vec::new(), facts: None })), false)]
    fn a_retry_is_another_job_where_that_may_end_otherwise(
        #[case] phase: JobPhase,
        #[case] said: Option<String>,
        #[case] again: bool,
    ) {
        let (name, component, begun) = ("job-".to_owned(), Component::Preflight, None);
        let job = ObservedJob { name, component, created: 0, said, begun, phase, ended: None };
        let mut observed = Observed { jobs: vec![job], ..Observed::default() };
        let chosen = |observed: &Observed| retried(|retry| format!("job-{retry}"), observed);
        assert_eq!(chosen(&observed), "job-", "nobody asked for it");
        observed.annotations.insert(annotation::RETRY.to_owned(), "1".to_owned());
        assert_eq!(chosen(&observed), if again { "job-1" } else { "job-" });
    }
}
