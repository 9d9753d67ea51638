//! Refuses a patch that would change the identity of a pod, the operator's containers and volumes in it, or where its data are.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, PodSpec, Volume, VolumeMount};
use serde_json::Value;

use super::{
    Refusal, baseline,
    own::{Own, Purpose, TEMPORARY},
    parse::{CONTAINERS, Parsed, member_path},
};
use crate::names::label;

/// Fields of a pod that a patch may set. One that Kubernetes adds is refused until it stands here.
const POD: [&str; 15] = [
    "containers",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "hostAliases",
    "hostUsers",
    "initContainers",
    "preemptionPolicy",
    "readinessGates",
    "runtimeClassName",
    "schedulerName",
    "securityContext",
    "shareProcessNamespace",
    "terminationGracePeriodSeconds",
    "volumes",
];
/// Fields of the container that does the work.
const MAIN: [&str; 9] = [
    "lifecycle",
    "livenessProbe",
    "name",
    "ports",
    "readinessProbe",
    "securityContext",
    "startupProbe",
    "volumeMounts",
    "workingDir",
];
/// Fields of a container with the agent.
const AGENT: [&str; 3] = ["name", "securityContext", "volumeMounts"];
/// Kinds of volumes: those of the Pod Security Standard `restricted`.
const VOLUMES: [&str; 8] =
    ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];
/// Labels that are the operator's.
const LABELS: [&str; 6] =
    [label::NAME, label::INSTANCE, label::COMPONENT, label::PART_OF, label::MANAGED_BY, label::VERSION];
/// What all other labels and annotations of the operator begin with.
const PREFIX: &str = "rorun.app/";

/// Judges a patch for the pods of a component, whose main container listens on `port`.
pub(super) fn judge(own: &Own, port: i32, parsed: &Parsed) -> Result<(), Refusal> {
    metadata(&parsed.plain)?;
    fields(parsed.plain.get("spec"), ".spec", &POD, |field| pod_field(own, field))?;
    let Some(spec) = &parsed.template.spec else { return Ok(()) };
    if let Some(context) = &spec.security_context {
        baseline::pod(context, ".spec.securityContext")?;
    }
    containers(own, port, spec, &parsed.plain)?;
    if own.purpose == Purpose::Jobs {
        mounts_its_own(spec)?;
    }
    let mut names = BTreeSet::new();
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let path = format!(".spec.volumes[{}]", volume.name);
        is_new(&mut names, &volume.name, &path)?;
        let plain = parsed.plain.pointer(&format!("/spec/volumes/{index}")).unwrap_or(&Value::Null);
        self::volume(own, volume, plain, &path)?;
    }
    Ok(())
}

/// Every field is in the list, or there is something to say of it.
fn fields(plain: Option<&Value>, path: &str, known: &[&str], why: impl Fn(&str) -> String) -> Result<(), Refusal> {
    let mut names = plain.and_then(Value::as_object).into_iter().flat_map(|members| members.keys());
    match names.find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(Refusal::new(member_path(path, name), why(name))),
        None => Ok(()),
    }
}

fn metadata(plain: &Value) -> Result<(), Refusal> {
    let metadata = plain.get("metadata");
    fields(metadata, ".metadata", &["labels", "annotations"], |_| {
        "a patch sets labels and annotations alone".to_owned()
    })?;
    for list in ["labels", "annotations"] {
        let members = metadata.and_then(|metadata| metadata.get(list)).and_then(Value::as_object);
        for (key, value) in members.into_iter().flatten() {
            let path = format!(".metadata.{list}[{key}]");
            if LABELS.contains(&key.as_str()) || key.starts_with(PREFIX) {
                return Err(Refusal::new(path, "selectors and the operator find pods by it; take it out"));
            }
            if list == "annotations" {
                baseline::annotation(key, value.as_str().unwrap_or_default(), &path)?;
            }
        }
    }
    Ok(())
}

fn pod_field(own: &Own, name: &str) -> String {
    let (field, of_pods) = (own.path(), own.of_pods());
    match name {
        "topologySpreadConstraints" if own.purpose == Purpose::Jobs => {
            "each of these Jobs is one pod; take it out".to_owned()
        }
        "affinity" | "nodeSelector" | "priorityClassName" | "tolerations" if own.purpose == Purpose::Jobs => {
            format!("set api.scheduling.{name}, and backup.scheduling.{name} for drills, restores and sanitized points")
        }
        "nodeName" if own.purpose == Purpose::Jobs => {
            "set api.scheduling.nodeSelector, and backup.scheduling.nodeSelector for drills, restores and sanitized points"
                .to_owned()
        }
        // A Job is one pod.
        "topologySpreadConstraints" if field != of_pods => "a migration is one pod; take it out".to_owned(),
        "affinity" | "nodeSelector" | "priorityClassName" | "tolerations" | "topologySpreadConstraints" => {
            format!("set {of_pods}.scheduling.{name}")
        }
        "nodeName" => format!("set {of_pods}.scheduling.nodeSelector"),
        "imagePullSecrets" => "set image.pullSecrets".to_owned(),
        "serviceAccountName" | "serviceAccount" if own.purpose == Purpose::Workload => {
            format!(
                "pods run as the ServiceAccount that the operator makes for them; set {field}.serviceAccount.annotations"
            )
        }
        "serviceAccountName" | "serviceAccount" => {
            "pods run as the ServiceAccount that the operator makes for them; take it out".to_owned()
        }
        "automountServiceAccountToken" => "pods of a stack get no token of the API server; take it out".to_owned(),
        "hostIPC" | "hostNetwork" | "hostPID" => {
            "pods of a stack have no part in the network, the processes and the memory of their node; take it out"
                .to_owned()
        }
        _ => "the operator decides it for the pods of a stack; take it out".to_owned(),
    }
}

fn containers(own: &Own, port: i32, spec: &PodSpec, plain: &Value) -> Result<(), Refusal> {
    let lists = [spec.init_containers.as_deref().unwrap_or_default(), &spec.containers];
    let mut names = BTreeSet::new();
    for (list, containers) in CONTAINERS.into_iter().zip(lists) {
        for (index, container) in containers.iter().enumerate() {
            let path = format!(".spec.{list}[{}]", container.name);
            is_new(&mut names, &container.name, &path)?;
            baseline::container(container, &path)?;
            let plain = plain.pointer(&format!("/spec/{list}/{index}"));
            let is_init = list == "initContainers";
            let is_main = own.main == container.name;
            let is_agent = own.init.contains(&container.name.as_str());
            match (is_main, is_agent) {
                (_, true) if own.purpose == Purpose::Jobs => {
                    let why = "one of these pods has a container of the operator of this name; give yours another name";
                    return Err(Refusal::new(path, why));
                }
                (true, _) if is_init => return Err(misplaced(&path, "containers")),
                (_, true) if !is_init => return Err(misplaced(&path, "initContainers")),
                (true, _) => main(own, port, container, (plain, &path))?,
                (_, true) => {
                    fields(plain, &path, &AGENT, |_| "the container is the operator's; take it out".to_owned())?;
                    mounts(own, container, &path)?;
                }
                _ => beside(own, container, is_init, &path)?,
            }
        }
    }
    Ok(())
}

fn misplaced(path: &str, list: &str) -> Refusal {
    Refusal::new(path, format!("the operator has a container of this name in {list}; give it another name"))
}

/// The container that does the work.
fn main(own: &Own, port: i32, container: &Container, (plain, path): (Option<&Value>, &str)) -> Result<(), Refusal> {
    let known: &[&str] = if own.purpose == Purpose::Job { &AGENT } else { &MAIN };
    fields(plain, path, known, |field| main_field(own, field))?;
    mounts(own, container, path)?;
    for open in container.ports.iter().flatten() {
        let named = open.name.as_deref().is_some_and(|name| own.ports.contains(&name));
        if named || open.container_port == port {
            let path = format!("{path}.ports[{}]", open.container_port);
            return Err(Refusal::new(path, "a Service leads to the port of this name and number; add another one"));
        }
    }
    Ok(())
}

fn main_field(own: &Own, name: &str) -> String {
    let (field, of_pods) = (own.path(), own.of_pods());
    match (name, own.purpose) {
        ("image" | "resources", _) | ("command" | "args" | "env" | "envFrom", Purpose::Workload) => {
            format!("set {of_pods}.{name}")
        }
        ("command" | "env", _) if field != of_pods => format!("set {field}.{name}"),
        ("args", _) if field != of_pods => format!("set {field}.command"),
        ("envFrom", _) if field != of_pods => format!("set {of_pods}.envFrom"),
        ("imagePullPolicy", _) => "set image.pullPolicy".to_owned(),
        _ => "the operator decides it for its container; take it out".to_owned(),
    }
}

/// A container of the user's.
fn beside(own: &Own, container: &Container, is_init: bool, path: &str) -> Result<(), Refusal> {
    if container.image.as_deref().is_none_or(str::is_empty) {
        let why = "the pod has no container of this name, and a new one needs an image";
        return Err(Refusal::new(format!("{path}.image"), why));
    }
    if matches!(own.purpose, Purpose::Job | Purpose::Jobs) && !is_init {
        let why = "with a container beside that of the operator a Job never completes; move it to initContainers with restartPolicy: Always";
        return Err(Refusal::new(path, why));
    }
    let taken = |name: &str| own.ports.contains(&name);
    match container.ports.iter().flatten().find(|open| open.name.as_deref().is_some_and(taken)) {
        Some(open) => {
            let path = format!("{path}.ports[{}].name", open.container_port);
            Err(Refusal::new(path, "a Service leads to the port of this name; give it another one"))
        }
        None => Ok(()),
    }
}

/// What is mounted into a container of the operator's.
fn mounts(own: &Own, container: &Container, path: &str) -> Result<(), Refusal> {
    let covers = |mount: &&VolumeMount| {
        let at = normal(&mount.mount_path);
        own.mounts.iter().any(|ours| {
            let ours_at = normal(ours);
            at == ours_at || (*ours != TEMPORARY && at.starts_with(&ours_at))
        })
    };
    match container.volume_mounts.iter().flatten().find(covers) {
        Some(mount) => {
            let path = format!("{path}.volumeMounts[{}]", mount.mount_path);
            Err(Refusal::new(path, "the operator mounts a volume there; mount yours at another path"))
        }
        None => Ok(()),
    }
}

/// Every mount is of a volume of the patch: no other one is in the pods of all Jobs.
fn mounts_its_own(spec: &PodSpec) -> Result<(), Refusal> {
    let volumes: BTreeSet<_> = spec.volumes.iter().flatten().map(|volume| &volume.name).collect();
    for container in spec.init_containers.iter().flatten() {
        let mut mounts = container.volume_mounts.iter().flatten();
        if let Some(mount) = mounts.find(|mount| !volumes.contains(&mount.name)) {
            let path = format!(".spec.initContainers[{}].volumeMounts[{}]", container.name, mount.mount_path);
            return Err(Refusal::new(path, "the patch has no volume of this name; add it to volumes"));
        }
    }
    Ok(())
}

/// The parts of a path, as the kernel follows them: `/var/run` leads to `/run`.
fn normal(path: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
        if parts == ["var", "run"] {
            parts.remove(0);
        }
    }
    parts
}

fn volume(own: &Own, volume: &Volume, plain: &Value, path: &str) -> Result<(), Refusal> {
    let name = volume.name.as_str();
    if own.fixed.contains(&name) {
        return Err(Refusal::new(path, "the volume is the operator's; give yours another name"));
    }
    if own.scratch.contains(&name) {
        let why =
            |_: &str| "of this volume of the operator only emptyDir.sizeLimit and emptyDir.medium are yours".to_owned();
        fields(Some(plain), path, &["name", "emptyDir"], why)?;
        fields(plain.get("emptyDir"), &format!("{path}.emptyDir"), &["medium", "sizeLimit"], why)?;
        let medium = volume.empty_dir.as_ref().and_then(|source| source.medium.as_deref());
        if medium.is_some_and(|medium| medium != "Memory") {
            return Err(Refusal::new(format!("{path}.emptyDir.medium"), "write Memory, or leave it out"));
        }
        return Ok(());
    }
    let known: Vec<_> = ["name"].into_iter().chain(VOLUMES).collect();
    fields(Some(plain), path, &known, |kind| match kind {
        "hostPath" => "pods of a stack have no part in the files of their node; use a PersistentVolumeClaim".to_owned(),
        _ => format!("use one of {}", VOLUMES.join(", ")),
    })?;
    let tokens = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()).enumerate();
    for (index, token) in tokens.filter_map(|(index, source)| Some((index, source.service_account_token.as_ref()?))) {
        if token.audience.as_deref().is_none_or(is_api_server) {
            let path = format!("{path}.projected.sources[{index}].serviceAccountToken.audience");
            return Err(Refusal::new(path, "pods of a stack get no token of the API server; name another audience"));
        }
    }
    Ok(())
}

/// Whether the API server takes tokens of an audience for its own, as far as that can be known without asking.
fn is_api_server(audience: &str) -> bool {
    let host = audience.trim().trim_start_matches("https://");
    matches!(host, "" | "api" | "kubernetes")
        || host.starts_with("kubernetes.default")
        || host.starts_with("kubernetes.svc")
}

fn is_new(names: &mut BTreeSet<String>, name: &str, path: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::new(format!("{path}.name"), "it needs a name"));
    }
    if names.insert(name.to_owned()) { Ok(()) } else { Err(Refusal::new(path, "the name is there twice")) }
}
