//! The Job that asks services from the place of the pods: by their keys, and with the annotations of the API's account.

use k8s_openapi::{
    ByteString,
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::{ConfigMap, Container, Secret, Volume},
    },
};

use super::{
    Component, Keys, metadata,
    pod::{self, Pod},
    pod_template, proxy, recovery, service,
    workload::USER,
    worst_pod,
};
use crate::{
    contract,
    names::{Component as Name, ROLE_CA, Waiting, reason},
    objects::{ApplyPolicy, DesiredObject, LiveSet, Readiness},
    plan::{Plan, Step},
    stack::{FromPods, JobPhase, Probe, ProbeTarget, ServiceUrl, Stack},
};

/// The container of the Job.
const ASK: &str = "ask";

pub(super) struct Preflight;

impl Component for Preflight {
    fn name(&self) -> Name {
        Name::Preflight
    }

    fn requires(&self) -> &'static [Name] {
        &[Name::Connection]
    }

    fn objects(&self, stack: &Stack, plan: &Plan) -> Vec<DesiredObject> {
        let (Some(asked), Some(step)) = (&stack.from_pods, &plan.preflight) else { return Vec::new() };
        let mut objects = vec![service::account(stack, Name::Preflight, &stack.api.service_account_annotations)];
        objects.extend(secret(stack, asked));
        objects.extend(authorities(stack, asked));
        objects.push(job(stack, asked, step));
        objects
    }

    fn readiness(&self, stack: &Stack, _: &mut Keys<'_>, live: &LiveSet) -> Readiness {
        let Some(asked) = &stack.from_pods else { return Readiness::Ready };
        let failed = stack.targets_from_pods().into_iter().find_map(|target| {
            let told = stack.told_from_pods(target, &Probe::Pending);
            told.and_then(|told| if let Probe::Failed(waiting) = told { Some(waiting) } else { None })
        });
        match (failed, &asked.phase) {
            (Some(waiting), _) => Readiness::Waiting(waiting),
            (None, Some(JobPhase::Complete)) => Readiness::Ready,
            (None, _) => trouble(asked, live).map_or_else(|| being_asked(asked, "the services"), Readiness::Waiting),
        }
    }
}

/// Why no pod of the Job runs.
fn trouble(asked: &FromPods, live: &LiveSet) -> Option<Waiting> {
    let refused = live.named("Job", &asked.job).and_then(|job| match &job.readiness {
        Readiness::Waiting(waiting) if waiting.reason == reason::PODS_REFUSED => Some(waiting.clone()),
        _ => None,
    });
    refused.or_else(|| worst_pod(Name::Preflight, 0, live))
}

/// That a Job asks, which has not answered yet.
fn being_asked(asked: &FromPods, what: &str) -> Readiness {
    Readiness::waiting(reason::PROGRESSING, format!("job/{} asks {what} from the place of the pods", asked.job))
}

/// The variables with the URLs of the database, and the URLs.
fn urls(asked: &FromPods) -> impl Iterator<Item = (&'static str, &str)> {
    asked.urls.iter().map(|(target, url)| {
        let variable = match target.url {
            ServiceUrl::Main => contract::ENV_ASK_URL,
            ServiceUrl::Direct => contract::ENV_ASK_DIRECT_URL,
            ServiceUrl::Read => contract::ENV_ASK_READ_URL,
        };
        (variable, url.as_str())
    })
}

/// The URLs in the dialect of libpq, which the application need not get, and what leads to the bucket of the backups.
fn secret(stack: &Stack, asked: &FromPods) -> Option<DesiredObject> {
    let data = urls(asked).map(|(key, url)| (key.to_owned(), ByteString(url.as_bytes().to_vec())));
    let of_backups = asked.destination.iter().map(|(_, access)| {
        let location = serde_json::to_vec(&recovery::location(access)).unwrap_or_default();
        (contract::ENV_ASK_DESTINATION.to_owned(), ByteString(location))
    });
    let secret = Secret {
        data: Some(data.chain(of_backups).collect()),
        metadata: metadata::owned(stack, Name::Preflight, stack.child(Name::Preflight)),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    (!asked.urls.is_empty() || asked.destination.is_some()).then(|| DesiredObject::own(&secret))
}

/// The file in the `ConfigMap`, the argument that names it, and the authorities of the service.
fn files<'a>(stack: &'a Stack, asked: &FromPods) -> Vec<(&'static str, [&'static str; 2], &'a str)> {
    let bucket = stack.bucket.access().filter(|_| asked.bucket.is_some()).and_then(|access| access.ca.as_deref());
    let database = stack.connection.as_ref().filter(|_| !asked.urls.is_empty());
    let database = database.and_then(|connection| connection.database_ca.as_deref());
    let all = [
        (contract::BUCKET_CA_FILE, [contract::ARG_BUCKET_CA_FILE, contract::BUCKET_CA_PATH], bucket),
        (contract::DATABASE_CA_FILE, [contract::ARG_DATABASE_CA_FILE, contract::DATABASE_CA_PATH], database),
    ];
    all.into_iter().filter_map(|(file, argument, pem)| Some((file, argument, pem?))).collect()
}

fn authorities(stack: &Stack, asked: &FromPods) -> Option<DesiredObject> {
    let files = files(stack, asked);
    let data = files.iter().map(|(file, _, pem)| ((*file).to_owned(), (*pem).to_owned()));
    let map = ConfigMap {
        data: Some(data.collect()),
        metadata: metadata::owned(stack, Name::Preflight, stack.child_role(Name::Preflight, ROLE_CA)),
        ..ConfigMap::default()
    };
    (!files.is_empty()).then(|| DesiredObject::own(&map))
}

fn job(stack: &Stack, asked: &FromPods, step: &Step) -> DesiredObject {
    let (container, volumes) = container(stack, asked);
    let template = Pod {
        component: Name::Preflight,
        containers: vec![container],
        init_containers: proxy::proxy(stack).filter(|_| !asked.urls.is_empty()).into_iter().collect(),
        volumes,
        user: USER,
        config_hash: None,
        image: &stack.agent_image,
    }
    .template(stack)
    .restarting("OnFailure");
    let job = Job {
        metadata: metadata::owned(stack, Name::Preflight, step.name.clone()),
        spec: Some(JobSpec {
            // A right may be granted, and a network policy changed, at any time.
            backoff_limit: Some(i32::MAX),
            template: pod_template::of_the_api(stack, template),
            ..JobSpec::default()
        }),
        ..Job::default()
    };
    DesiredObject::new(&job, ApplyPolicy::RunOnce)
}

fn container(stack: &Stack, asked: &FromPods) -> (Container, Vec<Volume>) {
    let mut ask = pod::container(stack, ASK, &stack.agent_image);
    let mut args = vec![contract::AGENT, contract::PREFLIGHT];
    let mut env = Vec::new();
    if let Some((key, versions)) = &asked.bucket {
        args.extend([contract::ARG_KEY, key]);
        args.extend(versions.then_some(contract::ARG_VERSIONS));
        env.extend(pod::bucket_variables(stack));
    }
    let secret = stack.child(Name::Preflight);
    if let Some((key, _)) = &asked.destination {
        args.extend([contract::ARG_DESTINATION_KEY, key]);
        env.push(pod::secret_variable(contract::ENV_ASK_DESTINATION, &secret, contract::ENV_ASK_DESTINATION));
    }
    env.extend(urls(asked).map(|(key, _)| pod::secret_variable(key, &secret, key)));
    let files = files(stack, asked);
    args.extend(files.iter().flat_map(|(_, argument, _)| *argument));
    ask.args = Some(args.into_iter().map(str::to_owned).collect());
    ask.env = Some(env);
    ask.resources = Some(pod::small());
    if files.is_empty() {
        return (ask, Vec::new());
    }
    let (volume, mount) = pod::authorities(stack.child_role(Name::Preflight, ROLE_CA));
    ask.volume_mounts = Some(vec![mount]);
    (ask, vec![volume])
}

/// Of a service that the operator asks, or a Job where only pods can.
pub(super) fn readiness(stack: &Stack, component: Name, live: &LiveSet) -> Readiness {
    let readiness = super::probed(stack, component);
    let pending = matches!(stack.probe(ProbeTarget::from(component)), Probe::Pending);
    let asked_by_job = stack.is_asked_from_pods_alone(component) && stack.not_probed(component).is_none();
    match &stack.from_pods {
        Some(asked) if pending && asked_by_job => {
            let what = if component == Name::Backup { "bucket of the backups" } else { component.as_str() };
            trouble(asked, live).map_or_else(|| being_asked(asked, &format!("the {what}")), Readiness::Waiting)
        }
        _ => readiness,
    }
}
