//! kind's configuration, and the network of a node that has none of kind's own.

use serde_json::{Value, json};

use super::audit;
use crate::engine::host::Host;
use crate::engine::image::Source;

/// The ports of 127.0.0.1 that lead to the API server, and to the Ingress controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) api_server: u16,
    pub(super) http: u16,
    pub(super) https: u16,
}

/// The pods' addresses on the one node.
const POD_IPS: &str = "10.244.0.0/24";

/// What `kind create cluster` is told. JSON is YAML.
pub(super) fn kind(host: Host, source: Source, ports: Ports, mount: &Value) -> Value {
    let mapping =
        |inside: u16, outside: u16| json!({"containerPort": inside, "hostPort": outside, "listenAddress": "127.0.0.1"});
    let patches: Vec<String> = kubeadm_patches(host).iter().map(Value::to_string).collect();
    let mut kind = json!({
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "networking": {
            "apiServerAddress": "127.0.0.1",
            // kind would choose one that a connection may have by the time that Docker opens it.
            "apiServerPort": ports.api_server,
            // kind's own network is an image of its own, which is not to be had where the node image is not.
            "disableDefaultCNI": source == Source::Built,
        },
        "nodes": [{
            "role": "control-plane",
            "extraPortMappings": [mapping(80, ports.http), mapping(443, ports.https)],
            "extraMounts": [mount],
            "kubeadmConfigPatches": patches,
        }],
    });
    if !host.sys_resource {
        // A container may not be given a lower out-of-memory score than the node has.
        let patch = "[plugins.\"io.containerd.grpc.v1.cri\"]\n  restrict_oom_score_adj = true\n";
        kind["containerdConfigPatches"] = json!([patch]);
    }
    kind
}

fn kubeadm_patches(host: Host) -> Vec<Value> {
    let argument = |name: &str, value: &str| json!([{"name": name, "value": value}]);
    let mut kubelet = json!({"kind": "KubeletConfiguration", "syncFrequency": "10s"});
    if host.cgroup_v1 {
        kubelet["failCgroupV1"] = json!(false);
    }
    if !host.sys_resource {
        // It then goes on where it may not raise its own limits.
        kubelet["featureGates"] = json!({"KubeletInUserNamespace": true});
    }
    let cluster = json!({
        "kind": "ClusterConfiguration",
        "apiServer": audit::api_server(),
        // Nothing in the cluster outlives it.
        "etcd": {"local": {"extraArgs": argument("unsafe-no-fsync", "true")}},
        // Scaling is one of the things shown, and by default pods are taken away only after five minutes.
        "controllerManager": {"extraArgs": [
            {"name": "horizontal-pod-autoscaler-sync-period", "value": "5s"},
            {"name": "horizontal-pod-autoscaler-downscale-stabilization", "value": "15s"},
        ]},
    });
    vec![kubelet, cluster]
}

/// A bridge on the node for its pods, by plug-ins that Debian has: enough for one node.
pub(super) fn bridge_network() -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "bridge",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "ipMasq": true,
                // A pod may reach itself through its own service.
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": POD_IPS}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

/// A Corefile that forwards nothing: where there is no network, each name from outside would wait for a time-out.
pub(super) fn without_forward(corefile: &str) -> String {
    let mut depth = 0;
    let kept = corefile.split_inclusive('\n').filter(|line| {
        let starts = depth == 0 && line.trim_start().starts_with("forward ");
        if starts || depth > 0 {
            depth += line.matches('{').count();
            depth -= line.matches('}').count();
            return false;
        }
        true
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Host = Host { cgroup_v1: false, sys_resource: true, root: true };
    const PORTS: Ports = Ports { api_server: 16443, http: 18080, https: 18443 };

    #[test]
    fn an_ordinary_machine_gets_an_ordinary_cluster() {
        let kind = kind(PLAIN, Source::Pulled, PORTS, &json!({}));
        assert_eq!(kind["networking"]["disableDefaultCNI"], false);
        assert!(kind.get("containerdConfigPatches").is_none());
        let patches = kind["nodes"][0]["kubeadmConfigPatches"].to_string();
        assert!(!patches.contains("KubeletInUserNamespace") && !patches.contains("failCgroupV1"));
        assert_eq!(kind["nodes"][0]["extraPortMappings"][1]["hostPort"], 18443);
    }

    #[test]
    fn a_sandbox_gets_what_it_needs() {
        let kind = kind(Host { cgroup_v1: true, sys_resource: false, root: true }, Source::Built, PORTS, &json!({}));
        assert_eq!(kind["networking"]["disableDefaultCNI"], true);
        assert!(kind["containerdConfigPatches"][0].to_string().contains("restrict_oom_score_adj = true"));
        let patches = kind["nodes"][0]["kubeadmConfigPatches"].to_string();
        assert!(patches.contains("KubeletInUserNamespace") && patches.contains("failCgroupV1"));
    }

    #[test]
    fn the_forward_block_goes_and_nothing_else() {
        let corefile = ".:53 {\n    errors\n    forward . /etc/resolv.conf {\n       max_concurrent 1000\n    }\n    cache 30 {\n       disable success\n    }\n    loop\n}\n";
        let expected = ".:53 {\n    errors\n    cache 30 {\n       disable success\n    }\n    loop\n}\n";
        assert_eq!(without_forward(corefile), expected);
        assert_eq!(without_forward(".:53 {\n    forward . 1.1.1.1\n}\n"), ".:53 {\n}\n");
    }
}
