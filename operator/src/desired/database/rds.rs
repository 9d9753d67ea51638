//! PostgreSQL on Amazon RDS: a DB instance, its read replicas, and a Job that makes a role for the application, which never runs as
//! the master.

use k8s_openapi::api::{
    batch::v1::{Job, JobSpec},
    core::v1::{ConfigMap, PodTemplateSpec},
};

use crate::{
    contract,
    desired::{
        Keys, aws, credentials, metadata,
        mode::Mode,
        pod::{self, Pod},
        pod_template, probed, service, workload, worst_pod,
    },
    names::{Component as Name, ROLE_CA, ROLE_CREDENTIALS, Waiting, annotation, reason},
    objects::{ApplyPolicy, DB_INSTANCE, DbInstance, DbInstanceSpec, DesiredObject, LiveSet, Readiness},
    stack::{
        Stack,
        database::{Provisioning, Rds, gibibytes},
    },
};

impl Mode for Rds {
    fn objects(&self, stack: &Stack) -> Vec<DesiredObject> {
        let Some(credentials) = &self.credentials else { return Vec::new() };
        let mut objects =
            vec![credentials::secret(stack, Name::Database, credentials), aws::retained(&self.instance(stack))];
        let Some(provisioning) = &self.provisioning else { return objects };
        objects.extend(
            self.replicas.iter().enumerate().map(|(index, name)| aws::retained(&self.replica(stack, name, index + 1))),
        );
        objects.push(service::account(stack, Name::Database, &metadata::Strings::new()));
        objects.extend(self.authorities(stack));
        objects.push(job(stack, provisioning));
        objects
    }

    fn readiness(&self, stack: &Stack, _: &mut Keys<'_>, live: &LiveSet) -> Readiness {
        let stands = aws::stands(DB_INSTANCE, &stack.child(Name::Database), live);
        let readiness = match (stands, &self.provisioning) {
            (Readiness::Waiting(waiting), _) => Readiness::Waiting(self.with_advice(waiting)),
            (Readiness::Ready, None) => Readiness::waiting(reason::PROGRESSING, "the database has no address yet"),
            (Readiness::Ready, Some(provisioning)) => match provisioned(provisioning, live) {
                Readiness::Ready => probed(stack, Name::Database),
                waiting @ Readiness::Waiting(_) => waiting,
            },
        };
        aws::with_held(readiness, self.held.as_ref())
    }

    fn note(&self, live: &LiveSet) -> Option<String> {
        let replicas = self.replicas.iter().filter_map(|name| match aws::stands(DB_INSTANCE, name, live) {
            Readiness::Waiting(waiting) => Some(format!("a read replica does not serve: {}", waiting.message)),
            Readiness::Ready => None,
        });
        let notes: Vec<_> = replicas.collect();
        (!notes.is_empty()).then(|| notes.join("; "))
    }
}

impl Rds {
    /// No status tells the size that RDS has enlarged the storage to, and its controller asks AWS for the smaller one of its object.
    fn with_advice(&self, waiting: Waiting) -> Waiting {
        let refused = [reason::PROVIDER_REFUSED, reason::PROVIDER_FAILED].contains(&waiting.reason);
        if !refused || self.block.storage.max_size.is_none() || !waiting.message.to_lowercase().contains("storage") {
            return waiting;
        }
        let advice =
            "if RDS has enlarged the storage by itself, write its size there, or more, into database.rds.storage.size";
        Waiting::new(waiting.reason, format!("{}; {advice}", waiting.message))
    }

    fn instance(&self, stack: &Stack) -> DbInstance {
        let block = &self.block;
        let mut metadata = aws::metadata(stack, Name::Database, stack.child(Name::Database), block.region.as_deref());
        let last = block.final_snapshot.clone().unwrap_or_else(|| format!("{}-final", self.identifier));
        let annotations = metadata.annotations.get_or_insert_default();
        // Without these the controller asks AWS for no last snapshot, for somebody who takes the deletion policy off.
        for (key, value) in annotation::RDS_FINAL_SNAPSHOT {
            annotations.insert(key.to_owned(), value.map_or_else(|| last.clone(), str::to_owned));
        }
        DbInstance {
            metadata,
            spec: DbInstanceSpec {
                db_instance_identifier: self.identifier.clone(),
                db_instance_class: self.class.clone(),
                engine: "postgres".to_owned(),
                engine_version: Some(self.version.clone()),
                // With it the controller compares major versions alone: the user chooses the minor one, or RDS does.
                auto_minor_version_upgrade: Some(!self.version.contains('.')),
                source_db_instance_identifier: None,
                allocated_storage: self.storage,
                max_allocated_storage: block.storage.max_size.as_deref().and_then(gibibytes),
                storage_type: Some(block.storage.kind.clone().unwrap_or_else(|| "gp3".to_owned())),
                storage_encrypted: Some(true),
                kms_key_id: block.kms_key_id.clone(),
                multi_az: Some(self.multi_az),
                db_subnet_group_name: block.subnet_group.clone(),
                vpc_security_group_ids: block.security_group_ids.clone(),
                db_parameter_group_name: block.parameter_group.clone(),
                master_username: self.credentials.as_ref().map(|of| of.text("masterUsername").to_owned()),
                master_user_password: Some(aws::credential(stack, Name::Database, "masterPassword")),
                publicly_accessible: Some(false),
                backup_retention_period: Some(block.backup_retention_days.unwrap_or(7).into()),
                preferred_backup_window: block.backup_window.clone(),
                preferred_maintenance_window: block.maintenance_window.clone(),
                copy_tags_to_snapshot: Some(true),
                performance_insights_enabled: Some(block.performance_insights.unwrap_or(false)),
                deletion_protection: Some(block.deletion_protection.unwrap_or(true)),
            },
        }
    }

    /// What it leaves out it has of its source.
    fn replica(&self, stack: &Stack, name: &str, number: usize) -> DbInstance {
        let block = &self.block;
        DbInstance {
            metadata: aws::metadata(stack, Name::Database, name.to_owned(), block.region.as_deref()),
            spec: DbInstanceSpec {
                db_instance_identifier: format!("{}-replica{number}", self.identifier),
                db_instance_class: self.class.clone(),
                engine: "postgres".to_owned(),
                source_db_instance_identifier: Some(self.identifier.clone()),
                auto_minor_version_upgrade: Some(!self.version.contains('.')),
                vpc_security_group_ids: block.security_group_ids.clone(),
                publicly_accessible: Some(false),
                performance_insights_enabled: Some(block.performance_insights.unwrap_or(false)),
                deletion_protection: Some(block.deletion_protection.unwrap_or(true)),
                ..DbInstanceSpec::default()
            },
        }
    }

    fn authorities(&self, stack: &Stack) -> Option<DesiredObject> {
        let data = [(contract::DATABASE_CA_FILE.to_owned(), self.ca.clone()?)];
        Some(DesiredObject::own(&ConfigMap {
            data: Some(data.into()),
            metadata: metadata::owned(stack, Name::Database, stack.child_role(Name::Database, ROLE_CA)),
            ..ConfigMap::default()
        }))
    }
}

/// What the Job's pod says of a failure; it goes on trying.
fn provisioned(provisioning: &Provisioning, live: &LiveSet) -> Readiness {
    let job = live.named("Job", &provisioning.job);
    if job.is_some_and(|job| job.readiness.is_ready()) {
        return Readiness::Ready;
    }
    let uid = job.map(|job| &job.uid);
    let pods = live.of_component("Pod", Name::Database.as_str());
    let of_job = pods.filter(|pod| pod.owner.as_ref().is_some_and(|owner| uid.is_some_and(|uid| *owner.uid == **uid)));
    let said = of_job.max_by_key(|pod| pod.created).and_then(|pod| pod.note.as_deref());
    let failed = said.and_then(|said| serde_json::from_str::<contract::ProvisionOutcome>(said).ok());
    if let Some(contract::ProvisionOutcome::Failed { message }) = failed {
        let message = format!("job/{}, which goes on trying: {message}", provisioning.job);
        return Readiness::waiting(reason::JOB_FAILED, message);
    }
    match worst_pod(Name::Database, 0, live) {
        Some(waiting) => Readiness::Waiting(waiting),
        None => Readiness::waiting(
            reason::PROGRESSING,
            format!("job/{} makes the role and the database of the application", provisioning.job),
        ),
    }
}

fn job(stack: &Stack, provisioning: &Provisioning) -> DesiredObject {
    let job = Job {
        metadata: metadata::owned(stack, Name::Database, provisioning.job.clone()),
        spec: Some(JobSpec {
            // It changes nothing that is there, so it tries until it succeeds: a security group may be opened at any time.
            backoff_limit: Some(i32::MAX),
            template: template(stack, provisioning),
            ..JobSpec::default()
        }),
        ..Job::default()
    };
    DesiredObject::new(&job, ApplyPolicy::RunOnce)
}

fn template(stack: &Stack, provisioning: &Provisioning) -> PodTemplateSpec {
    let mut container = pod::container(stack, "provision", &stack.agent_image);
    let port = provisioning.port.to_string();
    let args = [
        contract::AGENT,
        contract::PROVISION_DATABASE,
        contract::ARG_HOST,
        &provisioning.host,
        contract::ARG_PORT,
        &port,
        contract::ARG_DATABASE_CA_FILE,
        contract::DATABASE_CA_PATH,
    ];
    container.args = Some(args.map(str::to_owned).into());
    let secret = stack.child_role(Name::Database, ROLE_CREDENTIALS);
    let variable = |(name, key): (&str, &str)| pod::secret_variable(name, &secret, key);
    container.env = Some(contract::PROVISION_VARIABLES.map(variable).into());
    container.resources = Some(pod::small());
    let (volume, mount) = pod::authorities(stack.child_role(Name::Database, ROLE_CA));
    container.volume_mounts = Some(vec![mount]);
    let template = Pod {
        component: Name::Database,
        containers: vec![container],
        init_containers: Vec::new(),
        volumes: vec![volume],
        user: workload::USER,
        config_hash: None,
        image: &stack.agent_image,
    }
    .template(stack)
    .restarting("OnFailure");
    pod_template::of_the_api(stack, template)
}
