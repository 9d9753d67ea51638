//! The certificate authorities that pods of the application trust where Redis or the bucket names one: variables for a whole
//! process name all of them, that of the database its own. An init container of the agent writes the files, since only the
//! operator's image is sure to have the public authorities.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMapVolumeSource, Container, EnvVar, PodTemplateSpec, Volume, VolumeMount};

use super::pod;
use crate::{
    contract,
    names::{Component as Name, ROLE_CA},
    objects::{Digest, prune_empty},
    stack::{Connection, Corrected, Stack, Workload},
};

/// The init container, and the folder that it writes to.
const CONTAINER: &str = "authorities";
/// The volume with what is put together.
const GIVEN: &str = "given-ca";

/// The additions to a pod.
pub(super) struct Trust {
    pub(super) init: Container,
    pub(super) volumes: [Volume; 2],
    pub(super) mount: VolumeMount,
    pub(super) variables: Vec<EnvVar>,
}

/// For a workload of a stack whose Redis or bucket names an authority.
pub(super) fn trust(stack: &Stack, workload: &Workload, connection: &Connection) -> Trust {
    let has_database = connection.database_ca.is_some();
    let given =
        ConfigMapVolumeSource { name: stack.child_role(Name::Connection, ROLE_CA), ..ConfigMapVolumeSource::default() };
    let read_only = |mut mount: VolumeMount| {
        mount.read_only = Some(true);
        mount
    };
    let mut init = pod::container(stack, CONTAINER, &stack.agent_image);
    let given_file = |name: &str| format!("{}/{name}", contract::GIVEN_DIRECTORY);
    let private = given_file(contract::CA_FILE);
    let mut args = vec![
        contract::AGENT,
        contract::AUTHORITIES,
        contract::ARG_PRIVATE_FILE,
        &private,
        contract::ARG_INTO,
        contract::CA_DIRECTORY,
    ];
    let database = given_file(contract::DATABASE_CA_FILE);
    if has_database {
        args.extend([contract::ARG_DATABASE_FILE, &database]);
    }
    init.args = Some(args.into_iter().map(str::to_owned).collect());
    // As the container after it, so that the pod asks for nothing more.
    init.resources = Some(workload.resources.clone());
    init.volume_mounts = Some(vec![
        read_only(pod::mount(GIVEN, contract::GIVEN_DIRECTORY)),
        pod::mount(ROLE_CA.as_str(), contract::CA_DIRECTORY),
    ]);
    let mut variables = vec![
        pod::variable("NODE_EXTRA_CA_CERTS", contract::CA_PATH),
        pod::variable("SSL_CERT_FILE", contract::TRUST_PATH),
        pod::variable("REQUESTS_CA_BUNDLE", contract::TRUST_PATH),
        pod::variable("AWS_CA_BUNDLE", contract::TRUST_PATH),
    ];
    if has_database {
        variables.push(pod::variable("PGSSLROOTCERT", contract::DATABASE_CA_PATH));
    }
    Trust {
        init,
        volumes: [
            Volume { name: GIVEN.to_owned(), config_map: Some(given), ..Volume::default() },
            pod::scratch(ROLE_CA.as_str()),
        ],
        mount: read_only(pod::mount(ROLE_CA.as_str(), contract::CA_DIRECTORY)),
        variables,
    }
}

/// What the Deployment of a workload, or of its candidate, says of its correction, if there is anything to correct. Where the agent is in
/// its pods, its image stays the one that they have for as long as nothing else of them changes: a new operator restarts no pod.
/// `before`: what the Deployments said, by workload.
pub(super) fn corrected(
    stack: &Stack,
    workload: &Workload,
    before: &BTreeMap<Name, Corrected>,
    template: &mut PodTemplateSpec,
) -> Option<Corrected> {
    let corrections = stack.corrections();
    if corrections.is_empty() || !workload.connected {
        return None;
    }
    let what = corrections.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let Some(image) = agent(template).map(|agent| agent.image.take().unwrap_or_default()) else {
        return Some(Corrected { what, ..Corrected::default() });
    };
    // As it is applied: members that are omitted there replace no pods.
    let mut applied = serde_json::to_value(&*template).unwrap_or_default();
    prune_empty(&mut applied);
    let digest = Digest::of(&applied).to_string();
    let before = before.get(&workload.component).filter(|before| before.template == digest);
    let image = before.map(|before| before.agent_image.clone()).filter(|before| !before.is_empty()).unwrap_or(image);
    if let Some(agent) = agent(template) {
        agent.image = Some(image.clone());
    }
    Some(Corrected { what, template: digest, agent_image: image })
}

fn agent(template: &mut PodTemplateSpec) -> Option<&mut Container> {
    let containers = template.spec.as_mut()?.init_containers.as_mut()?;
    containers.iter_mut().find(|container| container.name == CONTAINER)
}
