//! The Jobs of restores: one for each step, in the image of the backups, which has the tools of the database.

mod recovered;
mod secret;

use k8s_openapi::api::{
    batch::v1::{Job, JobSpec},
    core::v1::{Container, EnvVar, PodTemplateSpec},
};

use super::{
    Component, Keys, backup,
    failure_policy::failure_policy,
    metadata, migration,
    pod::{self, Pod},
    pod_template, proxy, seed, service, smoke_test,
};
use crate::{
    contract::{self, RestoreStep},
    names::{Component as Name, ROLE_CA, Waiting},
    objects::{ApplyPolicy, DesiredObject, LiveSet, Readiness},
    plan::{
        Plan, Step, release,
        restore::{Current, Kind},
    },
    stack::{Backup, RestoreRequest, Stack, database},
};
use recovered::{COPY_CA_FILE, beside, recovered, trusting_copy};
pub(super) use secret::variables_of_objects;
use secret::{authorities_of, copy_name, copy_url, copy_variables, objects_ca, objects_variables, secret};

/// The container of the agent.
const RESTORE: &str = "restore";
/// A step that hangs is ended after a day: the largest databases take hours.
const ACTIVE_DEADLINE_SECONDS: i64 = 24 * 3600;
/// How often a pod that was lost is made again.
const TRIES: i32 = 6;
/// What the agent ends with when it has said why: trying again changes nothing.
const SAID_WHY: u8 = 1;
/// The file of the authorities of the bucket whose objects are restored.
const OBJECTS_CA_FILE: &str = "objects.crt";

pub(super) struct Restore;

impl Component for Restore {
    fn name(&self) -> Name {
        Name::Restore
    }

    fn requires(&self) -> &'static [Name] {
        &[Name::Connection]
    }

    fn waits_for(&self) -> &'static [Name] {
        &[Name::Database]
    }

    fn objects(&self, stack: &Stack, plan: &Plan) -> Vec<DesiredObject> {
        let restores = &plan.restores;
        if let Some(current) = restores.current.as_ref().filter(|current| current.request.seeds()) {
            return seed::objects(stack, current);
        }
        let (Some(backup), Some(_)) = (&stack.backup, &stack.connection) else { return Vec::new() };
        // At rest a stack has nothing of it.
        if restores.current.is_none() && restores.discard.is_none() && !restores.works {
            return Vec::new();
        }
        let mut objects = vec![service::account(stack, Name::Restore, &stack.api.service_account_annotations)];
        if let Some(current) = &restores.current {
            objects.push(secret(stack, &current.request));
            objects.extend(authorities_of(stack, &current.request));
            objects.extend(beside(stack, &current.beside));
            objects.extend(due(stack, backup, current));
        }
        if let Some((step, database)) = restores.discard.as_ref().filter(|(step, _)| !step.exists) {
            let args = [contract::ARG_DATABASE.to_owned(), database.name.clone()];
            let restore = agent(stack, backup, (RestoreStep::Discard, &database.restore_uid), args.into());
            objects.push(job(stack, step, job_spec(template(stack, backup, restore, false))));
        }
        objects
    }

    fn planned(&self, stack: &Stack, plan: &Plan, live: &LiveSet) -> Option<Waiting> {
        let current = plan.restores.current.as_ref()?;
        // The pod of a seed that is over has said why, and the plan tells it.
        let over = current.request.seeds() && current.step.is_none();
        let trouble = super::worst_pod(Name::Restore, 0, live).filter(|_| !stack.suspend && !over);
        let waiting = trouble.unwrap_or_else(|| current.waiting.clone());
        let (of, why) = (current.request.subject(), current.waiting.reason);
        let then = match plan.release.state {
            release::State::Restoring => {
                format!("; release {} goes on afterwards", plan.release.target.content.release())
            }
            _ => String::new(),
        };
        Some(Waiting::new(why, format!("{of}: {}{then}", waiting.message)))
    }

    fn readiness(&self, _: &Stack, _: &mut Keys<'_>, _: &LiveSet) -> Readiness {
        Readiness::Ready
    }
}

/// The Jobs that are kept for reading. They belong to no component that waits, so that none of them is pruned and made again.
pub(super) fn kept(stack: &Stack, plan: &Plan) -> Vec<DesiredObject> {
    let job_of = |name: &String| {
        let job = Job { metadata: metadata::owned(stack, Name::Restore, name.clone()), ..Job::default() };
        DesiredObject::new(&job, ApplyPolicy::RunOnce)
    };
    plan.restores.jobs.iter().map(job_of).collect()
}

/// The Job of the step that is due. What is live is saved by the backups.
fn due(stack: &Stack, backup: &Backup, Current { request, step, .. }: &Current) -> Option<DesiredObject> {
    let (kind, step) = step.as_ref().filter(|(_, step)| !step.exists)?;
    let of_agent = |restore: RestoreStep| {
        let mut container = agent(stack, backup, (restore, &request.uid), arguments(stack, backup, request, restore));
        container.env.get_or_insert_default().extend(identity(backup, restore));
        let authorities = restore == RestoreStep::Recovered || objects_ca(stack, request).is_some();
        job_spec(template(stack, backup, with_secrets(stack, request, container), authorities))
    };
    let spec = match kind {
        Kind::Check if request.moment().is_some() => of_agent(RestoreStep::Moment),
        Kind::Verify if request.moment().is_some() => of_agent(RestoreStep::Recovered),
        Kind::Check => of_agent(RestoreStep::Check),
        Kind::Fill => of_agent(RestoreStep::Fill),
        Kind::Copy => of_agent(RestoreStep::Copy),
        Kind::Verify => of_agent(RestoreStep::Verify),
        Kind::Switch => of_agent(RestoreStep::Switch),
        Kind::Objects => of_agent(RestoreStep::Objects),
        Kind::Migrate => {
            let template = migration::on_a_copy(stack, |key| copy_url(stack, request, key), copy_name(stack, request))?;
            let template = trusting_copy(stack, request, template);
            let limit = stack.release.migration.as_ref().map(|migration| i64::from(migration.timeout_seconds));
            // Whether a migration that failed may run again is for somebody to say.
            JobSpec { backoff_limit: Some(0), active_deadline_seconds: limit, ..job_spec(template) }
        }
        Kind::Test => job_spec(smoke_test::of_the_application(stack)),
        Kind::Save => return None,
    };
    Some(job(stack, step, spec))
}

pub(super) fn job(stack: &Stack, step: &Step, spec: JobSpec) -> DesiredObject {
    let metadata = metadata::owned(stack, Name::Restore, step.name.clone());
    DesiredObject::new(&Job { metadata, spec: Some(spec), ..Job::default() }, ApplyPolicy::RunOnce)
}

/// A pod that was lost is made again, since each step finds what the one before left; one that said why it ended is not.
pub(super) fn job_spec(template: PodTemplateSpec) -> JobSpec {
    JobSpec {
        active_deadline_seconds: Some(ACTIVE_DEADLINE_SECONDS),
        backoff_limit: Some(TRIES),
        pod_failure_policy: Some(failure_policy(Some((None, SAID_WHY)))),
        // Never two of a step at once.
        pod_replacement_policy: Some("Failed".to_owned()),
        template,
        ..JobSpec::default()
    }
}

/// What a step is told of the recovery point.
pub(super) fn arguments(stack: &Stack, backup: &Backup, request: &RestoreRequest, step: RestoreStep) -> Vec<String> {
    if let Some(moment) = request.moment() {
        let recovered = [contract::ARG_DATABASE_CA_FILE.to_owned(), format!("{OBJECTS_CA_DIRECTORY}/{COPY_CA_FILE}")];
        return if step == RestoreStep::Recovered {
            recovered.into()
        } else {
            vec![contract::ARG_MOMENT.to_owned(), moment.to_string()]
        };
    }
    let mut args = Vec::new();
    let mut give = |name: &str, value: &str| args.extend([name.to_owned(), value.to_owned()]);
    if let Ok(point) = &request.point {
        let prefix = point.folder.as_ref().map_or(&backup.prefix, |(_, folder)| folder);
        give(contract::ARG_PREFIX, prefix);
        give(contract::ARG_POINT, &point.id);
        let foreign = request.fills && point.folder.is_some();
        if let Some(owner) = backup.owner.as_ref().filter(|_| !foreign) {
            give(contract::ARG_OWNER, owner);
        }
        give(contract::ARG_ENVIRONMENT, stack.environment.as_str());
        if foreign {
            args.push(contract::ARG_ANY_OWNER.to_owned());
        }
        if request.seeds() {
            args.push(contract::ARG_SANITIZED.to_owned());
        }
    }
    let scopes =
        [(request.database, contract::RestoreScope::Database), (request.bucket, contract::RestoreScope::Bucket)];
    for (_, scope) in scopes.into_iter().filter(|(asked, _)| *asked) {
        args.extend([contract::ARG_SCOPE.to_owned(), scope.as_str().to_owned()]);
    }
    if request.fills && matches!(step, RestoreStep::Check | RestoreStep::Objects) {
        args.push(contract::ARG_FILL.to_owned());
    }
    if (request.bucket && matches!(step, RestoreStep::Check | RestoreStep::Objects)) || step == RestoreStep::Place {
        let except = backup.recovery.except.iter().flat_map(|folder| [contract::ARG_OBJECTS_EXCEPT, folder]);
        args.extend(except.map(str::to_owned));
    }
    if objects_ca(stack, request).is_some() {
        args.extend([contract::ARG_OBJECTS_CA_FILE.to_owned(), format!("{OBJECTS_CA_DIRECTORY}/{OBJECTS_CA_FILE}")]);
    }
    args
}

/// Where the authorities of the bucket are whose objects are restored.
const OBJECTS_CA_DIRECTORY: &str = "/etc/rorun/objects-ca";

/// The container of a step. It reads the Secret of the backups, as a dump does.
pub(super) fn agent(stack: &Stack, backup: &Backup, (step, uid): (RestoreStep, &str), more: Vec<String>) -> Container {
    let mut restore = pod::container(stack, RESTORE, &backup.image);
    restore.command = Some(vec![contract::BINARY_PATH.to_owned()]);
    let args = [contract::AGENT, contract::RESTORE, step.as_str(), contract::ARG_RESTORE, uid].map(str::to_owned);
    restore.args = Some(args.into_iter().chain(more).collect());
    restore.env_from = Some(vec![backup::secret_source(stack)]);
    restore.volume_mounts = Some(vec![pod::mount("binary", contract::BINARY_DIRECTORY), pod::mount("tmp", "/tmp")]);
    restore.resources = Some(backup.resources.clone());
    restore
}

/// The identity that opens an encrypted dump, for the steps that read one. Whether it is needed the point tells, so that a Secret that
/// is missing keeps no other point from being restored.
fn identity(backup: &Backup, step: RestoreStep) -> Option<EnvVar> {
    let (name, key) = backup.recovery.identity.as_ref()?;
    if !matches!(step, RestoreStep::Check | RestoreStep::Copy | RestoreStep::Fill) {
        return None;
    }
    let mut variable = pod::secret_variable(contract::ENV_IDENTITY, name, key);
    if let Some(selector) = variable.value_from.as_mut().and_then(|source| source.secret_key_ref.as_mut()) {
        selector.optional = Some(true);
    }
    Some(variable)
}

/// The container with what only this restore reads.
fn with_secrets(stack: &Stack, request: &RestoreRequest, mut restore: Container) -> Container {
    let env = restore.env.get_or_insert_default();
    let of_user = |name: &str, key: &crate::api::v1alpha1::RestoreKey| pod::secret_variable(name, &key.name, &key.key);
    env.extend(request.into.as_ref().map(|into| of_user(contract::ENV_COPY_URL, into)));
    if request.moment().is_some() && recovered(stack, request).is_some() {
        env.push(pod::secret_variable(contract::ENV_COPY_URL, &stack.child(Name::Restore), contract::ENV_DATABASE_URL));
    }
    if let Some((bucket, _)) = request.point.as_ref().ok().and_then(|point| point.folder.as_ref()) {
        env.push(pod::variable(contract::ENV_S3_BUCKET, bucket.clone()));
    }
    let of_copy = copy_variables(stack, request);
    env.extend(of_copy.map(|(key, name, _)| pod::secret_variable(name, &stack.child(Name::Restore), &key)));
    if request.bucket {
        let own = objects_variables(stack, request);
        env.extend(own.keys().map(|name| pod::secret_variable(name, &stack.child(Name::Restore), name)));
    }
    restore
}

/// The pod of a step. `objects`: it needs the authorities of the stack's bucket.
fn template(stack: &Stack, backup: &Backup, mut restore: Container, objects: bool) -> PodTemplateSpec {
    let mut volumes = vec![pod::scratch("binary"), pod::scratch("tmp")];
    let own = restore.args.iter().flatten().any(|argument| argument == contract::ARG_DATABASE_CA_FILE);
    if let Some((volume, mount, arguments)) = backup::trust(stack, backup).filter(|_| !own) {
        volumes.push(volume);
        restore.volume_mounts.get_or_insert_default().push(mount);
        restore.args.get_or_insert_default().extend(arguments);
    }
    pod::show_certificate(stack, &mut restore, &mut volumes);
    if objects {
        let (mut volume, mut mount) = pod::authorities(stack.child_role(Name::Restore, ROLE_CA));
        "objects-ca".clone_into(&mut volume.name);
        "objects-ca".clone_into(&mut mount.name);
        OBJECTS_CA_DIRECTORY.clone_into(&mut mount.mount_path);
        volumes.push(volume);
        restore.volume_mounts.get_or_insert_default().push(mount);
    }
    let pod = Pod {
        component: Name::Restore,
        containers: vec![restore],
        init_containers: [backup::install(stack, backup)].into_iter().chain(proxy::proxy(stack)).collect(),
        volumes,
        user: database::user(&backup.image),
        config_hash: None,
        image: &backup.image,
    };
    pod_template::of_backups(stack, backup::of_a_job(backup, pod.template(stack)))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        names::reason,
        plan::{
            plan,
            restore::{Beside, State},
        },
        stack::{Observed, Placeholders, RestorePoint, SEED_FROM, validate},
    };

    const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----";

    /// The container of a step and the Secret of the restores, of a stack whose backups go elsewhere or into its own bucket.
    fn step(kind: Kind, elsewhere: bool, folder: Option<&str>) -> (Value, Value) {
        let bucket = |name: &str| json!({"name": name, "endpoint": "https://s3.example.com", "credentialsSecretRef": {"name": "s"}});
        let mut backup = json!({"recipients": ["age1x"], "identitySecretRef": {"name": "keys"}});
        if elsewhere {
            backup["destination"] = json!({"external": bucket("dumps"), "prefix": "a/"});
        }
        let spec = json!({"environment": "Development", "api": {"image": "api:1"}, "backup": backup, "bucket": {"external": bucket("files")}});
        let pod = step_of(&spec, kind, folder);
        (pod.0["containers"][0].clone(), pod.1)
    }

    /// The pod of a step of such a stack, and that Secret.
    fn step_of(spec: &Value, kind: Kind, folder: Option<&str>) -> (Value, Value) {
        let cr = json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack",
            "metadata": {"name": "shop", "namespace": "n", "uid": "1"}, "spec": spec});
        let cr = serde_json::from_value(cr).unwrap();
        let observed: Observed =
            Placeholders { value: "v", authority: AUTHORITY, agent_image: "agent:1" }.observed(&cr);
        let stack = validate(&cr, &observed);
        let mut plan = plan(&stack, &observed, 0);
        let folder = folder.map(|folder| ("other".to_owned(), folder.to_owned()));
        let request = RestoreRequest {
            uid: "u".to_owned(),
            name: if stack.seed.is_some() { SEED_FROM } else { "back" }.to_owned(),
            stack_uid: None,
            fills: folder.is_some(),
            database: true,
            bucket: true,
            retry: String::new(),
            into: None,
            copy_uid: None,
            point: Ok(RestorePoint { id: "20261129T101500Z-b9x2m".to_owned(), moment: None, folder }),
        };
        let step = Step { name: "job".to_owned(), exists: false };
        let waiting = Waiting::new(reason::PROGRESSING, "it goes on");
        let beside = Beside::default();
        let current =
            Current { request, state: State::Checking, step: Some((kind, step)), first: false, beside, waiting };
        plan.restores.current = Some(current);
        let objects = Restore.objects(&stack, &plan);
        let of = |kind: &str| objects.iter().find(|object| object.kind.kind == kind).map(|object| object.body.clone());
        let job = of("Job").unwrap();
        (job["spec"]["template"]["spec"].clone(), of("Secret").unwrap()["data"].clone())
    }

    #[rstest]
    #[case(Kind::Check, false)]
    #[case(Kind::Copy, false)]
    #[case(Kind::Migrate, false)]
    #[case(Kind::Switch, false)]
    #[case(Kind::Check, true)]
    #[case(Kind::Fill, true)]
    fn a_step_has_the_certificate_that_the_database_asks_for(#[case] kind: Kind, #[case] seeds: bool) {
        let tls = json!({"clientCertificateSecretRef": {"name": "client"}});
        let external = json!({"secretRef": {"name": "db"}, "tls": tls});
        let api = json!({"image": "api:1", "migrations": {"command": ["migrate"]}});
        let mut spec =
            json!({"environment": "Development", "api": api, "backup": {}, "database": {"external": external}});
        if seeds {
            let point = "s3://safe/sanitized/n/shop/20261129T101500Z-b9x2m/";
            spec["seedFrom"] =
                json!({"location": point, "endpoint": "https://s3.example.com", "credentialsSecretRef": {"name": "s"}});
        }
        let (pod, _) = step_of(&spec, kind, None);
        let has = |list: &Value, field: &str, value: &str| {
            list.as_array().is_some_and(|all| all.iter().any(|of| of[field] == value))
        };
        assert!(has(&pod["volumes"], "name", "rorun-database-client"), "{pod}");
        assert!(has(&pod["containers"][0]["volumeMounts"], "mountPath", contract::CLIENT_DIRECTORY), "{pod}");
    }

    fn variable<'a>(container: &'a Value, name: &str) -> Option<&'a Value> {
        container["env"].as_array()?.iter().find(|variable| variable["name"] == name)
    }

    #[rstest]
    #[case(Kind::Check, true)]
    #[case(Kind::Copy, true)]
    #[case(Kind::Fill, true)]
    #[case(Kind::Verify, false)]
    #[case(Kind::Switch, false)]
    #[case(Kind::Objects, false)]
    fn only_the_steps_that_read_the_dump_get_the_identity(#[case] kind: Kind, #[case] expected: bool) {
        let (container, _) = step(kind, false, None);
        let identity = variable(&container, contract::ENV_IDENTITY);
        assert_eq!(identity.is_some(), expected, "{container}");
        if let Some(identity) = identity {
            let key = json!({"name": "keys", "key": "identity", "optional": true});
            assert_eq!(identity["valueFrom"]["secretKeyRef"], key);
        }
    }

    /// A point that is named by its location may be in the bucket of another stack, whose objects are none of this one's.
    #[rstest]
    #[case::in_the_bucket_of_the_application(false, None, false)]
    #[case::elsewhere(true, None, true)]
    #[case::by_its_location(false, Some("backups/n/other/"), true)]
    fn objects_are_those_of_the_bucket_of_the_stack(
        #[case] elsewhere: bool,
        #[case] folder: Option<&str>,
        #[case] named: bool,
    ) {
        for kind in [Kind::Check, Kind::Objects] {
            let (container, secret) = step(kind, elsewhere, folder);
            assert_eq!(secret[contract::ENV_OBJECTS_BUCKET].is_string(), named, "{secret}");
            assert_eq!(variable(&container, contract::ENV_OBJECTS_BUCKET).is_some(), named, "{container}");
            let args: Vec<_> = container["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            let except = args.windows(2).filter(|pair| pair[0] == contract::ARG_OBJECTS_EXCEPT).map(|pair| pair[1]);
            let expected: &[&str] = if elsewhere { &["backups/", "a/"] } else { &["backups/"] };
            assert_eq!(except.collect::<Vec<_>>(), expected);
            assert_eq!(args.contains(&contract::ARG_FILL), folder.is_some(), "{args:?}");
        }
        let (container, _) = step(Kind::Copy, elsewhere, folder);
        assert!(!container["args"].to_string().contains(contract::ARG_OBJECTS_EXCEPT), "{container}");
    }
}
