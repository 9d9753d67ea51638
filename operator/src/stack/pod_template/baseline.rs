//! The Pod Security Standard `baseline`, below which no patch leads, whatever the namespace enforces
//! (<https://kubernetes.io/docs/concepts/security/pod-security-standards/#baseline>).

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, HTTPGetAction, Lifecycle, LifecycleHandler, PodSecurityContext, Probe, SELinuxOptions,
    SeccompProfile, SecurityContext, TCPSocketAction, WindowsSecurityContextOptions,
};

use super::Refusal;

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];
const SELINUX_TYPES: [&str; 5] = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

/// Annotations by which containers were given profiles before there were fields.
const PROFILE_ANNOTATIONS: [&str; 2] =
    ["container.apparmor.security.beta.kubernetes.io/", "container.seccomp.security.alpha.kubernetes.io/"];

/// The security context of a pod, at that path.
pub(super) fn pod(context: &PodSecurityContext, path: &str) -> Result<(), Refusal> {
    profiles(context.seccomp_profile.as_ref(), context.app_armor_profile.as_ref(), path)?;
    labels(context.se_linux_options.as_ref(), path)?;
    windows(context.windows_options.as_ref(), path)?;
    for sysctl in context.sysctls.iter().flatten() {
        refuse_if(!SYSCTLS.contains(&sysctl.name.as_str()), || {
            (
                format!("{path}.sysctls[{}]", sysctl.name),
                "it is none of the sysctls that are safe for the node; take it out",
            )
        })?;
    }
    Ok(())
}

/// A container, at that path.
pub(super) fn container(container: &Container, path: &str) -> Result<(), Refusal> {
    if let Some(context) = &container.security_context {
        security(context, &format!("{path}.securityContext"))?;
    }
    for port in container.ports.iter().flatten() {
        refuse_if(port.host_port.is_some() || port.host_ip.is_some(), || {
            (
                format!("{path}.ports[{}].hostPort", port.container_port),
                "no pod of a stack takes a port of its node; use a Service",
            )
        })?;
    }
    let probes = [
        ("startupProbe", &container.startup_probe),
        ("readinessProbe", &container.readiness_probe),
        ("livenessProbe", &container.liveness_probe),
    ];
    for (name, of) in probes {
        if let Some(Probe { http_get, tcp_socket, .. }) = of {
            host(http_get.as_ref(), tcp_socket.as_ref(), &format!("{path}.{name}"))?;
        }
    }
    let Some(Lifecycle { post_start, pre_stop, .. }) = &container.lifecycle else { return Ok(()) };
    for (name, of) in [("postStart", post_start), ("preStop", pre_stop)] {
        if let Some(LifecycleHandler { http_get, tcp_socket, .. }) = of {
            host(http_get.as_ref(), tcp_socket.as_ref(), &format!("{path}.lifecycle.{name}"))?;
        }
    }
    Ok(())
}

/// An annotation of a pod.
pub(super) fn annotation(key: &str, value: &str, path: &str) -> Result<(), Refusal> {
    let names_profile = PROFILE_ANNOTATIONS.iter().any(|prefix| key.starts_with(prefix));
    refuse_if(names_profile && value == "unconfined", || {
        (path.to_owned(), "containers keep their AppArmor and seccomp profiles; take it out")
    })
}

fn security(context: &SecurityContext, path: &str) -> Result<(), Refusal> {
    refuse_if(context.privileged == Some(true), || {
        (format!("{path}.privileged"), "a privileged container has the rights of its node; take it out")
    })?;
    let added = context.capabilities.iter().flat_map(|capabilities| capabilities.add.iter().flatten());
    for capability in added {
        refuse_if(!CAPABILITIES.contains(&capability.as_str()), || {
            (
                format!("{path}.capabilities.add[{capability}]"),
                "it reaches beyond the container (Pod Security Standard baseline); take it out",
            )
        })?;
    }
    refuse_if(context.proc_mount.as_deref().is_some_and(|mount| mount != "Default"), || {
        (format!("{path}.procMount"), "/proc of a container stays masked; take it out")
    })?;
    profiles(context.seccomp_profile.as_ref(), context.app_armor_profile.as_ref(), path)?;
    labels(context.se_linux_options.as_ref(), path)?;
    windows(context.windows_options.as_ref(), path)
}

fn profiles(seccomp: Option<&SeccompProfile>, app_armor: Option<&AppArmorProfile>, path: &str) -> Result<(), Refusal> {
    let types = [
        ("seccompProfile", seccomp.map(|profile| profile.type_.as_str())),
        ("appArmorProfile", app_armor.map(|profile| profile.type_.as_str())),
    ];
    for (name, of) in types {
        refuse_if(of == Some("Unconfined"), || {
            (format!("{path}.{name}.type"), "write RuntimeDefault, or Localhost with a profile of the node")
        })?;
    }
    Ok(())
}

fn labels(options: Option<&SELinuxOptions>, path: &str) -> Result<(), Refusal> {
    let Some(options) = options else { return Ok(()) };
    let is_set = |text: Option<&str>| text.is_some_and(|text| !text.is_empty());
    let foreign = !SELINUX_TYPES.contains(&options.type_.as_deref().unwrap_or_default());
    refuse_if(foreign || is_set(options.user.as_deref()) || is_set(options.role.as_deref()), || {
        (
            format!("{path}.seLinuxOptions"),
            "only level, and the types container_t, container_init_t, container_kvm_t and container_engine_t, keep a container \
             to itself",
        )
    })
}

fn windows(options: Option<&WindowsSecurityContextOptions>, path: &str) -> Result<(), Refusal> {
    refuse_if(options.is_some_and(|options| options.host_process == Some(true)), || {
        (format!("{path}.windowsOptions.hostProcess"), "such a container is a process of its node; take it out")
    })
}

/// With a `host` the kubelet would connect to any address on behalf of users who may edit a stack.
fn host(http: Option<&HTTPGetAction>, tcp: Option<&TCPSocketAction>, path: &str) -> Result<(), Refusal> {
    let hosts = [
        ("httpGet", http.and_then(|action| action.host.as_deref())),
        ("tcpSocket", tcp.and_then(|action| action.host.as_deref())),
    ];
    for (name, host) in hosts {
        refuse_if(host.is_some_and(|host| !host.is_empty()), || {
            (format!("{path}.{name}.host"), "the kubelet probes the pod itself; take it out")
        })?;
    }
    Ok(())
}

fn refuse_if(wrong: bool, what: impl FnOnce() -> (String, &'static str)) -> Result<(), Refusal> {
    if !wrong {
        return Ok(());
    }
    let (path, why) = what();
    Err(Refusal::new(path, why))
}
