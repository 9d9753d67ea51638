//! What pods may do and what they are told.

use proptest::prelude::*;
use rorun_operator::objects::DesiredObject;
use serde_json::{Value, json};

use super::{
    generate::{config, stacks},
    support::{containers, items, objects, template, text},
};

/// Kinds of volumes that the Pod Security Standard `restricted` allows and that we use.
const VOLUMES: [&str; 3] = ["emptyDir", "configMap", "persistentVolumeClaim"];

proptest! {
    #![proptest_config(config())]

    /// <https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted>
    #[test]
    fn pods_are_restricted(cr in stacks()) {
        for (object, template) in templates(&objects(&cr)) {
            let spec = &template["spec"];
            let pod = &spec["securityContext"];
            prop_assert_eq!(&pod["runAsNonRoot"], &json!(true));
            prop_assert!(pod["runAsUser"].as_i64().is_some_and(|user| user > 0));
            prop_assert_eq!(&pod["seccompProfile"], &json!({"type": "RuntimeDefault"}));
            prop_assert_eq!(&spec["automountServiceAccountToken"], &json!(false));
            for host in ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"] {
                prop_assert!(spec.get(host).is_none(), "{host} in {}", object);
            }
            for volume in items(template, "/spec/volumes").filter_map(Value::as_object) {
                // The database of a drill is thrown away with its pod; `restricted` allows it too.
                let thrown_away = |key: &str| key == "ephemeral" && volume["name"] == "work" && object.contains("-drill");
                // A Secret, which `restricted` allows as well.
                let shown = |key: &str| key == "secret" && volume["name"] == "rorun-database-client";
                let known = |key: &String| key == "name" || VOLUMES.contains(&key.as_str()) || thrown_away(key) || shown(key);
                prop_assert!(volume.keys().all(known), "{}: {:?}", object, volume);
            }
            for container in containers(template) {
                prop_assert_eq!(&container["securityContext"], &json!({
                    "allowPrivilegeEscalation": false,
                    "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": true,
                }));
                prop_assert!(items(container, "/ports").all(|port| port.get("hostPort").is_none()));
            }
        }
    }

    #[test]
    fn mounts_and_volumes_match(cr in stacks()) {
        for (object, template) in templates(&objects(&cr)) {
            let volumes: Vec<_> = items(template, "/spec/volumes").filter_map(|volume| text(volume, "/name")).collect();
            let mut used = Vec::new();
            for container in containers(template) {
                let mut paths: Vec<_> = items(container, "/volumeMounts").map(|mount| text(mount, "/mountPath").unwrap()).collect();
                used.extend(items(container, "/volumeMounts").map(|mount| text(mount, "/name").unwrap().to_owned()));
                let count = paths.len();
                paths.sort_unstable();
                paths.dedup();
                prop_assert_eq!(paths.len(), count, "two mounts at one path in {}", object);
            }
            prop_assert!(used.iter().all(|name| volumes.contains(&name.as_str())), "{}: {used:?} of {volumes:?}", object);
            prop_assert!(volumes.iter().all(|name| used.iter().any(|of| of == name)), "{}: {used:?} of {volumes:?}", object);
        }
    }

    #[test]
    fn variables_of_the_user_win(cr in stacks()) {
        let all = objects(&cr);
        let workloads = [("api", Some(&cr.spec.api)), ("ocr", cr.spec.ocr.as_ref()), ("admin", cr.spec.admin.as_ref())];
        for (component, workload) in workloads.into_iter().filter_map(|(name, of)| Some((name, of?))) {
            let deployment = all.iter().find(|object| object.kind.kind == "Deployment" && object.component() == component).unwrap();
            let container = items(template(deployment).unwrap(), "/spec/containers").next().unwrap();
            let env: Vec<_> = items(container, "/env").collect();
            for wanted in &workload.env {
                let found: Vec<_> = env.iter().filter(|variable| text(variable, "/name") == Some(&wanted.name)).collect();
                prop_assert_eq!(found, [&&serde_json::to_value(wanted).unwrap()]);
            }
            // The last of two sources with the same key is the one that counts.
            let from: Vec<_> = items(container, "/envFrom").cloned().collect();
            let theirs: Vec<_> = workload.env_from.iter().map(|source| serde_json::to_value(source).unwrap()).collect();
            prop_assert!(from.ends_with(&theirs), "{from:?}");
            prop_assert_eq!(from.len() - theirs.len(), usize::from(component != "admin"));
        }
    }

    #[test]
    fn labels_and_annotations_of_the_user_come_through_unless_they_are_ours(cr in stacks()) {
        let all = objects(&cr);
        let deployment = all.iter().find(|object| object.kind.kind == "Deployment" && object.component() == "api").unwrap();
        let metadata = &template(deployment).unwrap()["metadata"];
        for (key, value) in &cr.spec.api.pod_labels {
            let ours = key.starts_with("app.kubernetes.io/");
            prop_assert_eq!(metadata["labels"][key] == json!(value), !ours, "{}", key);
        }
        for (key, value) in &cr.spec.api.pod_annotations {
            let ours = key.starts_with("rorun.app/");
            prop_assert_eq!(metadata["annotations"][key] == json!(value), !ours, "{}", key);
        }
    }
}

fn templates(all: &[DesiredObject]) -> impl Iterator<Item = (String, &Value)> {
    all.iter().filter_map(|object| Some((object.key().to_string(), template(object)?)))
}
