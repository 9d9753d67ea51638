//! The candidates of a release: for each workload whose image changes one pod beside those that serve, out of reach of users; and
//! the Job that asks them, or what serves after the rollout.

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec},
        batch::v1::{Job, JobSpec},
        core::v1::{PodTemplateSpec, Service, ServicePort, ServiceSpec},
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use super::{
    Component,
    failure_policy::failure_policy,
    metadata::{self, Strings},
    pod::{self, Pod},
    pod_template, service, trust,
    workload::{self, PORT_NAME, USER},
};
use crate::{
    api::v1alpha1::{SmokeTest as Spec, Via},
    contract::{self, SmokeQuestion},
    names::{Component as Name, ROLE_CANDIDATE, Waiting, annotation, label},
    objects::{ApplyPolicy, DesiredObject, LiveSet},
    plan::{Plan, Step, release::State},
    stack::{Stack, Workload},
};

/// The container of the Job.
const ASK: &str = "ask";
/// By which an application knows that it is a candidate.
const CANDIDATE: &str = "RORUN_CANDIDATE";
/// How long the Job of the candidates may take in all, in seconds: a minute of questions, and the start of its pod. That of a release
/// which serves has no limit: that its own pod cannot start is no reason to roll anything back.
const DEADLINE_SECONDS: i64 = 300;

pub(super) struct SmokeTest;

impl Component for SmokeTest {
    fn name(&self) -> Name {
        Name::SmokeTest
    }

    fn requires(&self) -> &'static [Name] {
        &[Name::Connection]
    }

    fn objects(&self, stack: &Stack, plan: &Plan) -> Vec<DesiredObject> {
        let release = &plan.release;
        let target = stack.target();
        let workloads: Vec<&Workload> =
            release.candidates.iter().filter_map(|component| target.workload(*component)).collect();
        let mut objects = Vec::new();
        if !workloads.is_empty() || release.smoke_test.is_some() {
            // A workload that is new has no account yet.
            let annotations = workloads.iter().find(|of| stack.workload(of.component).is_none());
            let annotations = annotations.map(|of| of.service_account_annotations.clone()).unwrap_or_default();
            objects.push(service::account(stack, Name::SmokeTest, &annotations));
        }
        for workload in &workloads {
            let revision = release.target.content.workload(workload.component);
            objects.push(candidate_service(stack, workload));
            objects.push(candidate(stack, workload, revision));
        }
        let Some(step) = &release.smoke_test else { return objects };
        let asked: Vec<SmokeQuestion> = if release.state == State::Verifying {
            let serving = release.verified.iter().filter_map(|component| target.workload(*component));
            serving.flat_map(|workload| questions_of_pods(stack, workload)).collect()
        } else {
            workloads.iter().flat_map(|workload| questions(stack, workload)).collect()
        };
        let limit = (release.state != State::Verifying).then_some(DEADLINE_SECONDS);
        objects.push(job(stack, &asked, step, limit));
        objects
    }

    fn planned(&self, stack: &Stack, plan: &Plan, live: &LiveSet) -> Option<Waiting> {
        let waiting = plan.release.waiting.clone()?;
        if plan.release.state == State::Verifying {
            return Some(super::worst_pod_that_goes_on(Name::SmokeTest, 0, live).unwrap_or(waiting));
        }
        if plan.release.state != State::Testing {
            return Some(waiting);
        }
        // A pod that cannot start, or had its time to, says more than that it starts.
        let workloads = plan.release.candidates.iter().filter_map(|component| stack.target().workload(*component));
        let start_up = workloads.map(|workload| i64::from(workload.health.startup_seconds)).max().unwrap_or_default();
        Some(super::worst_pod_that_goes_on(Name::SmokeTest, start_up, live).unwrap_or(waiting))
    }
}

/// The labels of a candidate: those of its component alone are not those of the workload, so that no Service leads to it but its own.
fn labels(stack: &Stack, workload: &Workload) -> Strings {
    let mut labels = metadata::selector_labels(stack, Name::SmokeTest);
    labels.insert(label::NAME.to_owned(), ["rorun-", workload.component.as_str()].concat());
    labels
}

fn owned(stack: &Stack, workload: &Workload) -> ObjectMeta {
    let mut metadata = metadata::owned(stack, Name::SmokeTest, stack.child_role(workload.component, ROLE_CANDIDATE));
    metadata.labels.get_or_insert_default().extend(labels(stack, workload));
    metadata
}

fn candidate_service(stack: &Stack, workload: &Workload) -> DesiredObject {
    DesiredObject::own(&Service {
        metadata: owned(stack, workload),
        spec: Some(ServiceSpec {
            ports: Some(vec![ServicePort {
                name: Some(PORT_NAME.to_owned()),
                port: workload.port,
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::String(PORT_NAME.to_owned())),
                ..ServicePort::default()
            }]),
            selector: Some(labels(stack, workload)),
            type_: Some("ClusterIP".to_owned()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    })
}

fn candidate(stack: &Stack, workload: &Workload, revision: Option<String>) -> DesiredObject {
    let mut metadata = owned(stack, workload);
    let mut template = template(stack, workload);
    // An upgrade of the operator replaces no candidate that is being tested.
    let target = stack.target();
    let corrected = trust::corrected(target, workload, &target.corrected_candidates, &mut template);
    let notes = [(annotation::CORRECTED, corrected.map(|of| of.to_string())), (annotation::REVISION, revision)];
    metadata.annotations =
        Some(notes.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect::<Strings>())
            .filter(|notes| !notes.is_empty());
    DesiredObject::own(&Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            progress_deadline_seconds: Some(workload.progress_deadline_seconds),
            replicas: Some(1),
            revision_history_limit: Some(0),
            selector: LabelSelector { match_labels: Some(labels(stack, workload)), ..LabelSelector::default() },
            template,
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    })
}

/// The pod of the workload, as a candidate.
fn template(stack: &Stack, workload: &Workload) -> PodTemplateSpec {
    let mut template = workload::template(stack.target(), workload);
    template.metadata.get_or_insert_default().labels.get_or_insert_default().extend(labels(stack, workload));
    let Some(spec) = &mut template.spec else { return template };
    // It is one pod, and those beside it are of another Deployment.
    spec.topology_spread_constraints = None;
    if stack.workload(workload.component).is_none() {
        spec.service_account_name = Some(stack.child(Name::SmokeTest));
    }
    let main = spec.containers.iter_mut().find(|container| container.name == workload.component.as_str());
    if let Some(main) = main {
        let env = main.env.get_or_insert_default();
        env.retain(|variable| variable.name != CANDIDATE);
        env.push(pod::variable(CANDIDATE, "true"));
    }
    // What a candidate printed last is told of one that does not start. Its pods are made for this release, so it replaces none that serve.
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        container.termination_message_policy.get_or_insert_with(|| "FallbackToLogsOnError".to_owned());
    }
    template
}

fn job(stack: &Stack, questions: &[SmokeQuestion], step: &Step, limit: Option<i64>) -> DesiredObject {
    let template = pod_that_asks(stack, Name::SmokeTest, questions);
    let job = Job {
        metadata: metadata::owned(stack, Name::SmokeTest, step.name.clone()),
        spec: Some(JobSpec {
            active_deadline_seconds: limit,
            backoff_limit: Some(3),
            // A test that failed is not repeated.
            pod_failure_policy: Some(failure_policy(Some((Some(ASK), contract::SMOKE_TEST_FAILED)))),
            template,
            ..JobSpec::default()
        }),
        ..Job::default()
    };
    DesiredObject::new(&job, ApplyPolicy::RunOnce)
}

/// The pod that asks.
fn pod_that_asks(stack: &Stack, component: Name, questions: &[SmokeQuestion]) -> PodTemplateSpec {
    let mut ask = pod::container(stack, ASK, &stack.agent_image);
    let mut args = vec![contract::AGENT.to_owned(), contract::SMOKE_TEST.to_owned()];
    args.extend(
        questions.iter().flat_map(|question| {
            [contract::ARG_QUESTION.to_owned(), serde_json::to_string(question).unwrap_or_default()]
        }),
    );
    ask.args = Some(args);
    let template = Pod {
        component,
        containers: vec![ask],
        init_containers: Vec::new(),
        volumes: Vec::new(),
        user: USER,
        config_hash: None,
        image: &stack.agent_image,
    }
    .template(stack)
    .restarting("Never");
    pod_template::of_the_api(stack, template)
}

/// The pod that asks the application after a restore, by the Services of what has pods.
pub(super) fn of_the_application(stack: &Stack) -> PodTemplateSpec {
    let workloads = [Some(&stack.api), stack.ocr.as_ref(), stack.admin.as_ref()].into_iter().flatten();
    let questions = workloads.filter(|workload| workload.replicas.floor() > 0).flat_map(|workload| {
        let at = || service_question(stack, &stack.child(workload.component), workload);
        let given: Vec<_> = given(stack, workload.component).map(|test| asked(test, at())).collect();
        if given.is_empty() { vec![SmokeQuestion { path: workload.health.path.clone(), ..at() }] } else { given }
    });
    pod_that_asks(stack, Name::Restore, &questions.collect::<Vec<_>>())
}

/// What is asked of the candidate of a workload: the tests of the spec, or its health check.
fn questions(stack: &Stack, workload: &Workload) -> Vec<SmokeQuestion> {
    let candidate = stack.child_role(workload.component, ROLE_CANDIDATE);
    let at = || service_question(stack, &candidate, workload);
    let given: Vec<_> = given(stack, workload.component).map(|test| asked(test, at())).collect();
    if given.is_empty() { vec![SmokeQuestion { path: workload.health.path.clone(), ..at() }] } else { given }
}

/// What is asked of the pods of a workload after their rollout: by the Ingress, or by the Service if the workload has no candidate or
/// the Ingress does not lead to it.
fn questions_of_pods(stack: &Stack, workload: &Workload) -> Vec<SmokeQuestion> {
    let service = || service_question(stack, &stack.child(workload.component), workload);
    let by_ingress = || {
        let ingress = stack.ingress.as_ref()?;
        let (host, tls) = ingress.host(workload.component)?;
        let port = if tls { 443 } else { 80 };
        Some(SmokeQuestion { host: host.to_owned(), address: ingress.address.clone(), tls, port, ..service() })
    };
    let tests = given(stack, workload.component).filter_map(|test| match test.via {
        Some(Via::Ingress) => Some(asked(test, by_ingress().unwrap_or_else(service))),
        _ if workload.candidate => None,
        _ => Some(asked(test, service())),
    });
    tests.collect()
}

fn given(stack: &Stack, component: Name) -> impl Iterator<Item = &Spec> {
    stack.release.smoke_tests.iter().filter(move |test| Name::from(test.component) == component)
}

/// A question to a Service of a workload.
fn service_question(stack: &Stack, service: &str, workload: &Workload) -> SmokeQuestion {
    let port = u16::try_from(workload.port).unwrap_or_default();
    let host = format!("{service}.{}.svc", stack.namespace);
    let (address, contains, header) = Default::default();
    SmokeQuestion { host, address, tls: false, port, path: String::new(), status: 200, contains, header }
}

/// A test of the spec as a question.
fn asked(test: &Spec, to: SmokeQuestion) -> SmokeQuestion {
    SmokeQuestion {
        path: test.path.clone(),
        status: test.status.and_then(|status| u16::try_from(status).ok()).unwrap_or(200),
        contains: test.contains.clone(),
        header: test.header.as_ref().map(|header| (header.name.clone(), header.contains.clone())),
        ..to
    }
}
