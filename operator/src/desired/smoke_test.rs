//! The candidates of a release: for each workload whose image changes one pod beside those that serve, out of reach of users, and
//! the Job that asks them.

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec},
        batch::v1::{
            Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
            PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
        },
        core::v1::{PodTemplateSpec, Service, ServicePort, ServiceSpec},
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use super::{
    Component,
    metadata::{self, Strings},
    pod::{self, Pod},
    service,
    workload::{self, PORT_NAME, USER},
};
use crate::{
    api::v1alpha1::SmokeTest as Spec,
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
/// How long the Job may take in all, in seconds: a minute of questions, and the start of its pod.
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
        objects.extend(release.smoke_test.as_ref().map(|step| job(stack, &workloads, step)));
        objects
    }

    fn planned(&self, stack: &Stack, plan: &Plan, live: &LiveSet) -> Option<Waiting> {
        let waiting = plan.release.waiting.clone()?;
        if plan.release.state != State::Testing {
            return Some(waiting);
        }
        // A pod that cannot start, or had its time to, says more than that it starts.
        let workloads = plan.release.candidates.iter().filter_map(|component| stack.target().workload(*component));
        let start_up = workloads.map(|workload| i64::from(workload.health.startup_seconds)).max().unwrap_or_default();
        Some(super::worst_pod(Name::SmokeTest, start_up, live).unwrap_or(waiting))
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
    metadata.annotations = revision.map(|revision| [(annotation::REVISION.to_owned(), revision)].into());
    DesiredObject::own(&Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            progress_deadline_seconds: Some(workload.progress_deadline_seconds),
            replicas: Some(1),
            revision_history_limit: Some(0),
            selector: LabelSelector { match_labels: Some(labels(stack, workload)), ..LabelSelector::default() },
            template: template(stack, workload),
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
    template
}

fn job(stack: &Stack, workloads: &[&Workload], step: &Step) -> DesiredObject {
    let mut ask = pod::container(stack, ASK, &stack.agent_image);
    let questions = workloads.iter().flat_map(|workload| questions(stack, workload));
    let mut args = vec![contract::AGENT.to_owned(), contract::SMOKE_TEST.to_owned()];
    args.extend(questions.flat_map(|question| {
        [contract::ARG_QUESTION.to_owned(), serde_json::to_string(&question).unwrap_or_default()]
    }));
    ask.args = Some(args);
    let mut template = Pod {
        component: Name::SmokeTest,
        containers: vec![ask],
        init_containers: Vec::new(),
        volumes: Vec::new(),
        user: USER,
        config_hash: None,
        image: &stack.agent_image,
    }
    .template(stack);
    if let Some(spec) = &mut template.spec {
        spec.restart_policy = Some("Never".to_owned());
    }
    let job = Job {
        metadata: metadata::owned(stack, Name::SmokeTest, step.name.clone()),
        spec: Some(JobSpec {
            active_deadline_seconds: Some(DEADLINE_SECONDS),
            backoff_limit: Some(3),
            pod_failure_policy: Some(failure_policy()),
            template,
            ..JobSpec::default()
        }),
        ..Job::default()
    };
    DesiredObject::new(&job, ApplyPolicy::RunOnce)
}

/// A test that failed is not repeated; a pod that the cluster took away is made again.
fn failure_policy() -> PodFailurePolicy {
    let failed = PodFailurePolicyOnExitCodesRequirement {
        container_name: Some(ASK.to_owned()),
        operator: "In".to_owned(),
        values: vec![contract::SMOKE_TEST_FAILED.into()],
    };
    let lost =
        PodFailurePolicyOnPodConditionsPattern { status: "True".to_owned(), type_: "DisruptionTarget".to_owned() };
    let rule = |action: &str| PodFailurePolicyRule { action: action.to_owned(), ..PodFailurePolicyRule::default() };
    PodFailurePolicy {
        rules: vec![
            // The first that matches decides.
            PodFailurePolicyRule { on_pod_conditions: Some(vec![lost]), ..rule("Ignore") },
            PodFailurePolicyRule { on_exit_codes: Some(failed), ..rule("FailJob") },
        ],
    }
}

/// What is asked of the candidate of a workload: the tests of the spec, or its health check.
fn questions(stack: &Stack, workload: &Workload) -> Vec<SmokeQuestion> {
    let ask = |path: &str, status: i32| SmokeQuestion {
        host: format!("{}.{}.svc", stack.child_role(workload.component, ROLE_CANDIDATE), stack.namespace),
        port: u16::try_from(workload.port).unwrap_or_default(),
        path: path.to_owned(),
        status: u16::try_from(status).unwrap_or(200),
        contains: None,
        header: None,
    };
    let given = stack.release.smoke_tests.iter().filter(|test| Name::from(test.component) == workload.component);
    let given: Vec<_> = given
        .map(|test: &Spec| SmokeQuestion {
            contains: test.contains.clone(),
            header: test.header.as_ref().map(|header| (header.name.clone(), header.contains.clone())),
            ..ask(&test.path, test.status.unwrap_or(200))
        })
        .collect();
    if given.is_empty() { vec![ask(&workload.health.path, 200)] } else { given }
}
