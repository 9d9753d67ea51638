//! The parts that every pod of a stack shares: what the Pod Security Standard `restricted` asks for, and mounts.

use k8s_openapi::{
    api::core::v1::{
        Capabilities, ConfigMapVolumeSource, Container, EmptyDirVolumeSource, EnvVar, EnvVarSource, KeyToPath,
        LocalObjectReference, PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, PodTemplateSpec,
        ResourceRequirements, SeccompProfile, SecretKeySelector, SecretVolumeSource, SecurityContext, Volume,
        VolumeMount,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};

use super::{
    metadata::{self, Strings},
    pod_template::Unshaped,
};
use crate::{
    contract,
    names::{CLIENT_VOLUME, Component, ROLE_CA, annotation, label},
    stack::Stack,
};

/// A pod: its containers, volumes and who it runs as.
pub(super) struct Pod<'a> {
    pub(super) component: Component,
    pub(super) containers: Vec<Container>,
    pub(super) init_containers: Vec<Container>,
    pub(super) volumes: Vec<Volume>,
    /// User and group of the processes and of the volumes.
    pub(super) user: i64,
    pub(super) config_hash: Option<&'a str>,
    pub(super) image: &'a str,
}

impl Pod<'_> {
    /// The template of the pod.
    pub(super) fn template(self, stack: &Stack) -> Unshaped {
        let mut labels = metadata::labels(stack, self.component);
        labels.extend(metadata::version(self.image).map(|version| (label::VERSION.to_owned(), version)));
        let annotations =
            self.config_hash.map(|hash| Strings::from([(annotation::CONFIG_HASH.to_owned(), hash.to_owned())]));
        let template = PodTemplateSpec {
            metadata: Some(ObjectMeta { labels: Some(labels), annotations, ..ObjectMeta::default() }),
            spec: Some(PodSpec {
                automount_service_account_token: Some(false),
                containers: self.containers,
                enable_service_links: Some(false),
                image_pull_secrets: Some(pull_secrets(stack)),
                init_containers: Some(self.init_containers),
                security_context: Some(PodSecurityContext {
                    fs_group: Some(self.user),
                    fs_group_change_policy: Some("OnRootMismatch".to_owned()),
                    run_as_group: Some(self.user),
                    run_as_non_root: Some(true),
                    run_as_user: Some(self.user),
                    seccomp_profile: Some(SeccompProfile {
                        type_: "RuntimeDefault".to_owned(),
                        ..SeccompProfile::default()
                    }),
                    ..PodSecurityContext::default()
                }),
                service_account_name: Some(stack.child(self.component)),
                volumes: Some(self.volumes),
                ..PodSpec::default()
            }),
        };
        Unshaped::new(self.component, template)
    }
}

fn pull_secrets(stack: &Stack) -> Vec<LocalObjectReference> {
    stack.pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() }).collect()
}

/// A container with the security context of `restricted` and the stack's pull policy.
pub(super) fn container(stack: &Stack, name: &str, image: &str) -> Container {
    let policy = format!("{:?}", stack.pull_policy);
    Container {
        name: name.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: Some(policy),
        security_context: Some(confined()),
        ..Container::default()
    }
}

/// The security context of a container as `restricted` asks for it, with a root that cannot be written.
pub(super) fn confined() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), ..Capabilities::default() }),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    }
}

/// The requests of an agent that waits for others most of the time.
pub(super) fn small() -> ResourceRequirements {
    let amount = |text: &str| Quantity(text.to_owned());
    let requests = [("cpu".to_owned(), amount("10m")), ("memory".to_owned(), amount("32Mi"))];
    ResourceRequirements { requests: Some(requests.into()), ..ResourceRequirements::default() }
}

/// A variable with a value.
pub(super) fn variable(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.into()), ..EnvVar::default() }
}

/// A variable with the value of a Secret's key.
pub(super) fn secret_variable(name: &str, secret: &str, key: &str) -> EnvVar {
    let selector = SecretKeySelector { name: secret.to_owned(), key: key.to_owned(), optional: None };
    let source = EnvVarSource { secret_key_ref: Some(selector), ..EnvVarSource::default() };
    EnvVar { name: name.to_owned(), value_from: Some(source), ..EnvVar::default() }
}

/// The bucket and the keys to it, as the application has them; without keys its pods have a role.
pub(super) fn bucket_variables(stack: &Stack) -> Vec<EnvVar> {
    let secret = stack.child(Component::Connection);
    let keys = [
        contract::ENV_S3_ENDPOINT,
        contract::ENV_S3_REGION,
        contract::ENV_S3_BUCKET,
        contract::ENV_S3_FORCE_PATH_STYLE,
    ];
    let found = stack.bucket.access().and_then(|access| access.keys.as_ref());
    let of_keys = found.iter().flat_map(|_| [contract::ENV_ACCESS_KEY_ID, contract::ENV_SECRET_ACCESS_KEY]);
    let token = found.and_then(|keys| keys.session_token.as_ref()).map(|_| contract::ENV_SESSION_TOKEN);
    keys.into_iter().chain(of_keys).chain(token).map(|key| secret_variable(key, &secret, key)).collect()
}

/// A mount.
pub(super) fn mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount { name: volume.to_owned(), mount_path: path.to_owned(), ..VolumeMount::default() }
}

/// A folder that lives as long as the pod.
pub(super) fn scratch(name: &str) -> Volume {
    Volume { name: name.to_owned(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }
}

/// A folder in memory: for what must not reach a disk.
pub(super) fn memory(name: &str) -> Volume {
    let source = EmptyDirVolumeSource { medium: Some("Memory".to_owned()), ..EmptyDirVolumeSource::default() };
    Volume { name: name.to_owned(), empty_dir: Some(source), ..Volume::default() }
}

/// The volume of an embedded service.
pub(super) fn claim(name: &str, claim: String) -> Volume {
    let source = PersistentVolumeClaimVolumeSource { claim_name: claim, read_only: None };
    Volume { name: name.to_owned(), persistent_volume_claim: Some(source), ..Volume::default() }
}

/// Certificate authorities as a volume and a mount.
pub(super) fn authorities(config_map: String) -> (Volume, VolumeMount) {
    let source = ConfigMapVolumeSource { name: config_map, ..ConfigMapVolumeSource::default() };
    let volume = Volume { name: ROLE_CA.to_string(), config_map: Some(source), ..Volume::default() };
    let mut mount = mount(ROLE_CA.as_str(), contract::CA_DIRECTORY);
    mount.read_only = Some(true);
    (volume, mount)
}

/// The certificate that clients show to the database as a volume and a mount, where it asks for one. The group of the pod may read the key and nobody else:
/// libpq refuses a key of root that others can read.
pub(super) fn client_certificate(stack: &Stack) -> Option<(Volume, VolumeMount)> {
    let secret = stack.connection.as_ref()?.client_secret.clone()?;
    let file = |name: &str| KeyToPath { key: name.to_owned(), path: name.to_owned(), mode: None };
    let source = SecretVolumeSource {
        secret_name: Some(secret),
        default_mode: Some(0o440),
        items: Some([contract::CLIENT_CERTIFICATE_FILE, contract::CLIENT_KEY_FILE].map(file).into()),
        ..SecretVolumeSource::default()
    };
    let mut mount = mount(CLIENT_VOLUME, contract::CLIENT_DIRECTORY);
    mount.read_only = Some(true);
    Some((Volume { name: CLIENT_VOLUME.to_owned(), secret: Some(source), ..Volume::default() }, mount))
}

/// Gives it to a container of a pod with these volumes.
pub(super) fn show_certificate(stack: &Stack, container: &mut Container, volumes: &mut Vec<Volume>) {
    if let Some((volume, mount)) = client_certificate(stack) {
        volumes.push(volume);
        container.volume_mounts.get_or_insert_default().push(mount);
    }
}
