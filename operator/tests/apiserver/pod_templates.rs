//! What users merge over pods: the definition takes any patch, and what comes of one is accepted as strictly as `kubectl` asks for.

use rorun_operator::objects::KINDS;
use serde_json::{Value, json};

use super::{
    server::{Server, Store},
    support::{Fixture, objects, stack, template, valid},
};

/// The fields that have a `podTemplate`, and the container of the operator's.
const FIELDS: [(&str, &str); 7] = [
    ("api", "api"),
    ("ocr", "ocr"),
    ("admin", "admin"),
    ("database.embedded", "postgres"),
    ("redis.embedded", "redis"),
    ("bucket.embedded", "s3"),
    ("backup", "dump"),
];

/// Everything that a patch may hold, for the pods of each component.
fn patch(field: &str, container: &str) -> Value {
    let (sidecar, list) = match field {
        "backup" => (json!({"restartPolicy": "Always"}), "initContainers"),
        _ => (json!({}), "containers"),
    };
    let mut beside = json!({
        "name": "exporter", "image": "exporter:1", "command": ["exporter"], "args": ["--port=9113"],
        "ports": [{"name": "metrics", "containerPort": 9113}, {"name": "udp", "containerPort": 9114, "protocol": "UDP"}],
        "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        "resources": {"requests": {"cpu": "10m", "memory": "0.5Gi"}, "limits": {"memory": 1_073_741_824}},
        "volumeMounts": [{"name": "secret", "mountPath": "/secret", "readOnly": true}],
    });
    beside.as_object_mut().unwrap().extend(sidecar.as_object().unwrap().clone());
    let volumes = json!([
        {"name": "scratch", "emptyDir": {"sizeLimit": "1.5Gi"}},
        {"name": "tokens", "projected": {"defaultMode": 256, "sources": [
            {"serviceAccountToken": {"audience": "vault", "path": "token"}},
            {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}},
        {"name": "secret", "secret": {"secretName": "certs", "defaultMode": 288, "items": [{"key": "tls.crt", "path": "c"}]}},
        {"name": "config", "configMap": {"name": "branding", "optional": true}},
        {"name": "inline", "csi": {"driver": "secrets-store.csi.k8s.io", "readOnly": true}},
        {"name": "late", "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}}}},
        {"name": "shared", "persistentVolumeClaim": {"claimName": "shared"}},
    ]);
    let ours = json!({
        "name": container,
        "securityContext": {"readOnlyRootFilesystem": false, "runAsUser": 1001, "capabilities": {"add": ["NET_BIND_SERVICE"]}},
        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}, {"name": "tokens", "mountPath": "/tokens"}],
    });
    let mut spec = json!({
        "terminationGracePeriodSeconds": 45, "dnsPolicy": "None", "runtimeClassName": "gvisor", "schedulerName": "other",
        "dnsConfig": {"nameservers": ["10.0.0.10"], "options": [{"name": "ndots", "value": "1"}, {"name": "rotate"}]},
        "hostAliases": [{"ip": "10.1.2.3", "hostnames": ["mail.example.com"]}],
        "shareProcessNamespace": true, "enableServiceLinks": true,
        "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000, "supplementalGroups": [7],
            "sysctls": [{"name": "net.ipv4.tcp_keepalive_time", "value": "60"}]},
        "volumes": volumes,
    });
    spec["containers"] = json!([ours]);
    spec[list] = spec[list].as_array().into_iter().flatten().cloned().chain([beside]).collect();
    if field != "backup" {
        let probe = json!({"$patch": "replace", "tcpSocket": {"port": 9113}, "periodSeconds": 7});
        spec["containers"][0]["readinessProbe"] = probe;
        spec["containers"][0]["lifecycle"] = json!({"$patch": "replace", "preStop": {"exec": {"command": ["true"]}}});
        spec["containers"][0]["ports"] = json!([{"name": "debug", "containerPort": 9229}]);
    }
    json!({"metadata": {"labels": {"team": "x"}, "annotations": {"note": "x"}}, "spec": spec})
}

fn patched() -> Fixture {
    let jobs = json!({"metadata": {"labels": {"team": "x"}}, "spec": {"dnsPolicy": "Default",
        "initContainers": [{"name": "exporter", "image": "exporter:1", "restartPolicy": "Always"}]}});
    let all = stack("shop").with_all_workloads().set("backup", json!({})).set("jobs", json!({"podTemplate": jobs}));
    FIELDS
        .iter()
        .fold(all, |fixture, (field, container)| fixture.set(&format!("{field}.podTemplate"), patch(field, container)))
}

pub async fn what_is_merged_is_accepted(server: &Server) {
    let namespace = server.namespace("pod-templates").await;
    let fixture = patched();
    let stored = server.create(&namespace, &fixture.0, Store::Yes).await.unwrap();
    assert_eq!(stored["spec"], fixture.0["spec"], "the server drops or changes parts of a patch");
    let cr = fixture.build();
    let refused = valid(&cr).pods_refused;
    assert!(refused.is_empty(), "{refused:?}");
    let all = objects(&cr);
    for account in all.iter().filter(|object| object.kind.kind == "ServiceAccount") {
        server.create_object(&namespace, account.kind, &account.body, Store::Yes).await.unwrap();
    }
    let pods = KINDS.iter().find(|kind| kind.kind == "Pod").unwrap();
    let mut count = 0;
    for object in &all {
        let Some(template) = template(object) else { continue };
        count += 1;
        let accepted = server.create_object(&namespace, object.kind, &object.body, Store::Yes).await;
        assert!(accepted.is_ok(), "{}: {accepted:?}", object.key());
        // What stays within `restricted` is admitted by a namespace that enforces it, the containers that were added included.
        let mut pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
        pod["metadata"]["name"] = json!(object.name);
        pod["spec"].as_object_mut().unwrap().remove("runtimeClassName");
        let admitted = server.create_object(&namespace, pods, &pod, Store::No).await;
        assert!(admitted.is_ok(), "{}: {admitted:?}", object.key());
    }
    assert_eq!(count, FIELDS.len());
}

/// What the operator refuses is stored, so that its status can say why: a patch is never more than a condition.
pub async fn what_is_refused_is_stored(server: &Server) {
    let namespace = server.namespace("refused-pod-templates").await;
    for (index, bad) in [
        json!({"spec": {"hostNetwork": true}}),
        json!({"spec": {"containers": [{"name": "api", "securityContext": {"privileged": "yes"}}]}}),
        json!({"nothing": {"like": ["this", 1, 1.5, true]}}),
    ]
    .into_iter()
    .enumerate()
    {
        let fixture = stack(&format!("shop-{index}")).set("api.podTemplate", bad.clone());
        let stored =
            server.create(&namespace, &fixture.0, Store::Yes).await.unwrap_or_else(|error| panic!("{bad}: {error}"));
        assert_eq!(stored["spec"]["api"]["podTemplate"], bad);
        let refused = valid(&fixture.build()).pods_refused;
        assert_eq!(refused.values().map(|waiting| waiting.reason).collect::<Vec<_>>(), ["PodTemplateRefused"]);
    }
    for odd in [json!([]), json!("spec"), json!(1)] {
        let message =
            server.create(&namespace, &stack("odd").set("api.podTemplate", odd).0, Store::No).await.unwrap_err();
        assert!(message.contains("spec.api.podTemplate") && message.contains("object"), "{message}");
    }
}
