use std::collections::BTreeSet;

use kube::CustomResourceExt;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::api::v1alpha1::RorunStack;

/// A Development stack in which a component has this patch.
fn spec(field: &str, patch: Value) -> RorunStackSpec {
    let mut spec = json!({"environment": "Development", "api": {"image": "a"}});
    let block = field.split('.').fold(&mut spec, |at, member| &mut at[member]);
    match field {
        "ocr" | "admin" => block["image"] = json!("a"),
        "api.migrations" => block["command"] = json!(["migrate"]),
        _ => {}
    }
    block["podTemplate"] = patch;
    serde_json::from_value(spec).unwrap()
}

/// Why the patch is refused; nothing if it is not.
fn refused(field: &str, patch: Value) -> Option<String> {
    let Shapes { shapes, refused } = resolve(&spec(field, patch));
    assert_eq!(shapes.values().any(|shape| shape.patch.is_some()), refused.is_empty(), "{field}");
    let waiting = refused.into_values().next()?;
    assert_eq!(waiting.reason, "PodTemplateRefused");
    Some(waiting.message)
}

fn of_pod(spec: Value) -> Value {
    Value::Object([("spec".to_owned(), spec)].into_iter().collect())
}

fn of_container(name: &str, field: &str, value: &Value) -> Value {
    of_pod(json!({"containers": [{"name": name, field: value}]}))
}

fn of_volume(volume: &Value) -> Value {
    of_pod(json!({"volumes": [volume]}))
}

fn sidecar(fields: &Value) -> Value {
    let mut container = json!({"name": "exporter", "image": "exporter:1"});
    container.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    of_pod(json!({"containers": [container]}))
}

#[rstest]
#[case::nothing("api", json!({}))]
#[case::user("api", of_pod(json!({"securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000}})))]
#[case::root("api", of_pod(json!({"securityContext": {"runAsUser": 0, "runAsNonRoot": false}})))]
#[case::writable_root("admin", of_container("admin", "securityContext", &json!({"readOnlyRootFilesystem": false})))]
#[case::sidecar("api", sidecar(&json!({"ports": [{"containerPort": 9113, "name": "metrics"}], "env": [{"name": "A", "value": "b"}]})))]
#[case::grace_and_dns("ocr", of_pod(json!({"terminationGracePeriodSeconds": 60, "dnsPolicy": "Default", "runtimeClassName": "gvisor", "hostUsers": false})))]
#[case::labels("api", json!({"metadata": {"labels": {"team": "x"}, "annotations": {"sidecar.istio.io/inject": "true"}}}))]
#[case::secret("api", of_volume(&json!({"name": "certs", "secret": {"secretName": "certs"}})))]
#[case::below_tmp("api", of_container("api", "volumeMounts", &json!([{"name": "x", "mountPath": "/tmp/cache"}])))]
#[case::size_of_tmp("api", of_volume(&json!({"name": "tmp", "emptyDir": {"sizeLimit": "1Gi", "medium": "Memory"}})))]
#[case::shared_memory("database.embedded", of_volume(&json!({"name": "shm", "emptyDir": {"sizeLimit": "1Gi"}})))]
#[case::own_data_in_a_sidecar("redis.embedded", sidecar(&json!({"volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": true}]})))]
#[case::replaced_probe("api", of_container("api", "readinessProbe", &json!({"$patch": "replace", "exec": {"command": ["true"]}})))]
#[case::replaced_context("api", of_pod(json!({"securityContext": {"$patch": "replace", "runAsNonRoot": true}})))]
#[case::user_of_a_migration("api.migrations", of_pod(json!({"securityContext": {"runAsUser": 1000}})))]
#[case::agent("backup", of_pod(json!({"initContainers": [{"name": "install", "securityContext": {"runAsUser": 1}}]})))]
#[case::native_sidecar("backup", of_pod(json!({"initContainers": [{"name": "proxy", "image": "p", "restartPolicy": "Always"}]})))]
#[case::token_for_others("api", of_volume(&json!({"name": "t", "projected": {"sources": [{"serviceAccountToken": {"audience": "vault", "path": "t"}}]}})))]
#[case::more_ports("bucket.embedded", of_container("s3", "ports", &json!([{"containerPort": 9333, "name": "master"}])))]
#[case::safe_sysctl("api", of_pod(json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_keepalive_time", "value": "60"}]}})))]
#[case::label_of_the_jobs("jobs", json!({"metadata": {"labels": {"sidecar.istio.io/inject": "false"}, "annotations": {"linkerd.io/inject": "disabled"}}}))]
#[case::sidecar_of_the_jobs("jobs", of_pod(json!({"initContainers": [{"name": "p", "image": "p", "restartPolicy": "Always", "volumeMounts": [{"name": "x", "mountPath": "/tmp"}]}], "volumes": [{"name": "x", "emptyDir": {}}]})))]
#[case::user_of_the_jobs("jobs", of_pod(json!({"securityContext": {"$patch": "replace", "runAsNonRoot": true, "seLinuxOptions": {"level": "s0:c1,c2"}}})))]
fn what_leaves_a_pod_what_it_is_is_taken(#[case] field: &str, #[case] patch: Value) {
    assert_eq!(refused(field, patch), None);
}

#[rstest]
// What is no patch of a pod.
#[case::unknown("api", json!({"spec": {"hostNetwrk": true}}), &[".spec.hostNetwrk is refused", "no such field"])]
#[case::unknown_below("api", of_container("api", "securityContext", &json!({"runAsUsr": 1})), &[".spec.containers[api].securityContext.runAsUsr is refused"])]
#[case::no_template("api", json!({"containers": []}), &["api.podTemplate.containers is refused"])]
#[case::wrong_type("api", of_pod(json!({"securityContext": {"runAsUser": "node"}})), &[".spec.securityContext.runAsUser is refused", "i64"])]
#[case::wrong_type_of_a_list("api", of_pod(json!({"volumes": {"name": "x"}})), &[".spec.volumes is refused"])]
#[case::null("api", of_pod(json!({"securityContext": {"runAsUser": null}})), &[".spec.securityContext.runAsUser is refused", "`$patch: replace`"])]
#[case::directive("api", of_pod(json!({"containers": [{"name": "api", "$patch": "delete"}]})), &["containers[api].$patch is refused", "`$patch: replace`"])]
#[case::directive_of_a_list("api", of_pod(json!({"$setElementOrder/containers": []})), &["$setElementOrder"])]
// The node.
#[case::host_network("api", of_pod(json!({"hostNetwork": true})), &["api.podTemplate.spec.hostNetwork is refused", "node"])]
#[case::host_pid("redis.embedded", of_pod(json!({"hostPID": true})), &["redis.embedded.podTemplate.spec.hostPID"])]
#[case::host_ipc("backup", of_pod(json!({"hostIPC": false})), &["backup.podTemplate.spec.hostIPC"])]
#[case::host_path("api", of_volume(&json!({"name": "x", "hostPath": {"path": "/"}})), &["volumes[x].hostPath is refused", "PersistentVolumeClaim"])]
#[case::other_volume("api", of_volume(&json!({"name": "x", "gitRepo": {"repository": "r"}})), &["volumes[x].gitRepo is refused", "configMap"])]
#[case::host_port("api", sidecar(&json!({"ports": [{"containerPort": 1, "hostPort": 1}]})), &["ports[1].hostPort is refused"])]
#[case::privileged("api", of_container("api", "securityContext", &json!({"privileged": true})), &["containers[api].securityContext.privileged is refused"])]
#[case::privileged_sidecar("api", sidecar(&json!({"securityContext": {"privileged": true}})), &["privileged"])]
#[case::privileged_init("api", of_pod(json!({"initContainers": [{"name": "i", "image": "i", "securityContext": {"privileged": true}}]})), &["initContainers[i].securityContext.privileged"])]
#[case::capability("api", of_container("api", "securityContext", &json!({"capabilities": {"add": ["CHOWN", "SYS_ADMIN"]}})), &["capabilities.add[SYS_ADMIN] is refused"])]
#[case::every_capability("api", of_container("api", "securityContext", &json!({"capabilities": {"add": ["ALL"]}})), &["capabilities.add[ALL]"])]
#[case::proc("api", of_container("api", "securityContext", &json!({"procMount": "Unmasked"})), &["procMount"])]
#[case::seccomp("api", of_pod(json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}})), &[".spec.securityContext.seccompProfile.type is refused", "RuntimeDefault"])]
#[case::app_armor("api", of_container("api", "securityContext", &json!({"appArmorProfile": {"type": "Unconfined"}})), &["appArmorProfile.type"])]
#[case::app_armor_annotation("api", json!({"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/api": "unconfined"}}}), &["annotations[container.apparmor"])]
#[case::selinux("api", of_pod(json!({"securityContext": {"seLinuxOptions": {"type": "spc_t"}}})), &["seLinuxOptions"])]
#[case::sysctl("api", of_pod(json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}})), &["sysctls[kernel.msgmax]"])]
#[case::windows("api", of_pod(json!({"securityContext": {"windowsOptions": {"hostProcess": true}}})), &["hostProcess"])]
#[case::probed_address("api", of_container("api", "livenessProbe", &json!({"httpGet": {"host": "169.254.169.254", "port": 80}})), &["livenessProbe.httpGet.host"])]
#[case::hook_address("api", of_container("api", "lifecycle", &json!({"postStart": {"tcpSocket": {"host": "10.0.0.1", "port": 80}}})), &["lifecycle.postStart.tcpSocket.host"])]
// The identity.
#[case::account("api", of_pod(json!({"serviceAccountName": "default"})), &["serviceAccountName is refused", "set api.serviceAccount.annotations"])]
#[case::token("api", of_pod(json!({"automountServiceAccountToken": true})), &["automountServiceAccountToken"])]
#[case::projected_token("api", of_volume(&json!({"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}})), &["volumes[t].projected.sources[0].serviceAccountToken.audience"])]
#[case::token_by_name("api", of_volume(&json!({"name": "t", "projected": {"sources": [{"serviceAccountToken": {"audience": "https://kubernetes.default.svc.cluster.local", "path": "t"}}]}})), &["audience"])]
#[case::selector("api", json!({"metadata": {"labels": {"app.kubernetes.io/component": "ocr"}}}), &["labels[app.kubernetes.io/component] is refused", "selectors"])]
#[case::our_label("api", json!({"metadata": {"labels": {"rorun.app/retained": "true"}}}), &["labels[rorun.app/retained]"])]
#[case::our_annotation("api", json!({"metadata": {"annotations": {"rorun.app/config-hash": "0"}}}), &["annotations[rorun.app/config-hash]"])]
#[case::name_of_the_pod("api", json!({"metadata": {"name": "x"}}), &[".metadata.name is refused"])]
#[case::node("bucket.embedded", of_pod(json!({"nodeName": "n"})), &["set bucket.embedded.scheduling.nodeSelector"])]
#[case::scheduling("api", of_pod(json!({"tolerations": []})), &["set api.scheduling.tolerations"])]
#[case::pull_secrets("api", of_pod(json!({"imagePullSecrets": [{"name": "x"}]})), &["set image.pullSecrets"])]
#[case::restart("backup", of_pod(json!({"restartPolicy": "OnFailure"})), &["restartPolicy"])]
// Our own containers and volumes.
#[case::image("api", of_container("api", "image", &json!("other")), &["containers[api].image is refused", "set api.image"])]
#[case::command("ocr", of_container("ocr", "command", &json!(["sh"])), &["set ocr.command"])]
#[case::environment("admin", of_container("admin", "env", &json!([{"name": "A", "value": "s3cr3t"}])), &["set admin.env"])]
#[case::resources("database.embedded", of_container("postgres", "resources", &json!({})), &["set database.embedded.resources"])]
#[case::data_directory("database.embedded", of_container("postgres", "env", &json!([{"name": "PGDATA", "value": "/x"}])), &["containers[postgres].env is refused"])]
#[case::arguments_of_a_server("redis.embedded", of_container("redis", "args", &json!(["--appendonly", "no"])), &["containers[redis].args is refused"])]
#[case::agent("backup", of_pod(json!({"initContainers": [{"name": "install", "image": "x"}]})), &["initContainers[install].image is refused"])]
#[case::lock_of_a_migration("api.migrations", of_pod(json!({"initContainers": [{"name": "lock", "image": "x"}]})), &["api.migrations.podTemplate.spec.initContainers[lock].image is refused"])]
#[case::migration_beside_a_sidecar("api.migrations", sidecar(&json!({})), &["containers[exporter] is refused", "restartPolicy: Always"])]
#[case::command_of_a_migration("api.migrations", of_container("migrate", "command", &json!(["sh"])), &["containers[migrate].command is refused", "set api.migrations.command"])]
#[case::nodes_of_a_migration("api.migrations", of_pod(json!({"nodeSelector": {"pool": "app"}})), &["set api.scheduling.nodeSelector"])]
#[case::image_of_a_migration("api.migrations", of_container("migrate", "image", &json!("x")), &["set api.image"])]
#[case::dump("backup", of_container("dump", "command", &json!(["sh"])), &["containers[dump].command is refused"])]
#[case::last_words_of_a_dump("backup", of_container("dump", "terminationMessagePath", &json!("/x")), &["terminationMessagePath"])]
#[case::data("database.embedded", of_volume(&json!({"name": "data", "emptyDir": {}})), &["volumes[data] is refused", "another name"])]
#[case::password_on_disk("redis.embedded", of_volume(&json!({"name": "auth", "emptyDir": {}})), &["volumes[auth]"])]
#[case::other_tmp("api", of_volume(&json!({"name": "tmp", "secret": {"secretName": "x"}})), &["volumes[tmp].secret is refused", "sizeLimit"])]
#[case::odd_medium("database.embedded", of_volume(&json!({"name": "shm", "emptyDir": {"medium": ""}})), &["emptyDir.medium is refused"])]
#[case::over_data("database.embedded", of_container("postgres", "volumeMounts", &json!([{"name": "x", "mountPath": "/var/lib/postgresql/data"}])), &["volumeMounts[/var/lib/postgresql/data] is refused"])]
#[case::within_data("database.embedded", of_container("postgres", "volumeMounts", &json!([{"name": "x", "mountPath": "/var//lib/./x/../postgresql/data/pgdata/"}])), &["volumeMounts["])]
#[case::within_objects("bucket.embedded", of_container("s3", "volumeMounts", &json!([{"name": "x", "mountPath": "/data/volumes"}])), &["volumeMounts[/data/volumes]"])]
#[case::over_the_password("redis.embedded", of_container("redis", "volumeMounts", &json!([{"name": "x", "mountPath": "/var/run/auth"}])), &["volumeMounts[/var/run/auth]"])]
#[case::over_the_agent("backup", of_container("dump", "volumeMounts", &json!([{"name": "x", "mountPath": "/opt/rorun"}])), &["volumeMounts[/opt/rorun]"])]
#[case::over_tmp("api", of_container("api", "volumeMounts", &json!([{"name": "x", "mountPath": "/tmp/"}])), &["volumeMounts[/tmp/]"])]
#[case::port_by_name("api", of_container("api", "ports", &json!([{"containerPort": 9, "name": "http"}])), &["ports[9] is refused"])]
#[case::port_by_number("api", of_container("api", "ports", &json!([{"containerPort": 3000, "name": "web"}])), &["ports[3000] is refused"])]
#[case::port_of_a_sidecar("api", sidecar(&json!({"ports": [{"containerPort": 9, "name": "http"}]})), &["ports[9].name is refused"])]
#[case::in_the_wrong_list("api", of_pod(json!({"initContainers": [{"name": "api", "image": "x"}]})), &["initContainers[api] is refused", "another name"])]
#[case::agent_in_the_wrong_list("api", of_pod(json!({"containers": [{"name": "authorities", "image": "x"}]})), &["containers[authorities] is refused"])]
#[case::misspelt("api", of_pod(json!({"containers": [{"name": "app", "securityContext": {}}]})), &["containers[app].image is refused", "no container of this name"])]
#[case::without_a_name("api", of_pod(json!({"containers": [{"image": "x"}]})), &["name is refused", "needs a name"])]
#[case::twice("api", of_pod(json!({"initContainers": [{"name": "a", "image": "x"}], "containers": [{"name": "a", "image": "x"}]})), &["containers[a] is refused", "twice"])]
#[case::volume_twice("api", of_pod(json!({"volumes": [{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}}]})), &["volumes[a] is refused", "twice"])]
#[case::dump_that_never_ends("backup", sidecar(&json!({})), &["containers[exporter] is refused", "initContainers", "restartPolicy: Always"])]
// Jobs that have no block of their own.
#[case::host_network_of_the_jobs("jobs", of_pod(json!({"hostNetwork": true})), &["jobs.podTemplate.spec.hostNetwork is refused", "node"])]
#[case::host_path_of_the_jobs("jobs", of_volume(&json!({"name": "x", "hostPath": {"path": "/"}})), &["volumes[x].hostPath is refused"])]
#[case::privileged_sidecar_of_the_jobs("jobs", of_pod(json!({"initContainers": [{"name": "i", "image": "i", "securityContext": {"privileged": true}}]})), &["initContainers[i].securityContext.privileged"])]
#[case::account_of_the_jobs("jobs", of_pod(json!({"serviceAccountName": "default"})), &["serviceAccountName is refused", "take it out"])]
#[case::label_that_is_ours_of_the_jobs("jobs", json!({"metadata": {"labels": {"app.kubernetes.io/component": "x"}}}), &["labels[app.kubernetes.io/component] is refused"])]
#[case::job_that_never_ends("jobs", sidecar(&json!({})), &["containers[exporter] is refused", "restartPolicy: Always"])]
#[case::container_of_one_job("jobs", of_container("ask", "securityContext", &json!({"runAsUser": 1})), &["jobs.podTemplate.spec.containers[ask] is refused", "another name"])]
#[case::init_container_of_one_job("jobs", of_pod(json!({"initContainers": [{"name": "install", "image": "x"}]})), &["initContainers[install] is refused", "another name"])]
#[case::volume_of_one_job("jobs", of_volume(&json!({"name": "work", "emptyDir": {}})), &["volumes[work] is refused", "another name"])]
#[case::mount_of_one_job("jobs", of_pod(json!({"initContainers": [{"name": "i", "image": "i", "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]}]})), &["initContainers[i].volumeMounts[/tmp] is refused", "add it to volumes"])]
#[case::nodes_of_the_jobs("jobs", of_pod(json!({"tolerations": []})), &["set api.scheduling.tolerations, and backup.scheduling.tolerations for drills"])]
#[case::node_of_the_jobs("jobs", of_pod(json!({"nodeName": "n"})), &["set api.scheduling.nodeSelector"])]
#[case::spread_of_the_jobs("jobs", of_pod(json!({"topologySpreadConstraints": []})), &["is one pod"])]
fn what_would_not_is_refused_with_the_way_out(#[case] field: &str, #[case] patch: Value, #[case] words: &[&str]) {
    let message = refused(field, patch).unwrap_or_else(|| "taken".to_owned());
    for word in words {
        assert!(message.contains(word), "no {word:?} in: {message}");
    }
    assert!(message.starts_with(&format!("{field}.podTemplate.")), "{message}");
    assert!(message.ends_with("until then the pods stay as they are"), "{message}");
    assert!(!message.contains("s3cr3t") && message.len() < 600, "{message}");
}

/// Whatever a message tells the user to set is a field of the definition.
#[test]
fn a_way_out_is_a_field_that_exists() {
    let definition = serde_json::to_value(RorunStack::crd()).unwrap();
    let of_spec = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let exists = |path: &str| path.split('.').try_fold(of_spec, |at, member| at["properties"].get(member)).is_some();
    let value = |field: &str| match field {
        "affinity" | "nodeSelector" | "resources" => json!({}),
        "command" | "args" => json!(["x"]),
        "env" | "envFrom" | "tolerations" | "topologySpreadConstraints" | "imagePullSecrets" => json!([]),
        _ => json!("x"),
    };
    let mut ways = 0;
    for own in Component::ALL.into_iter().filter_map(own) {
        let Some(block) = own.field else { continue };
        let of_pods =
            ["affinity", "nodeName", "nodeSelector", "priorityClassName", "tolerations", "topologySpreadConstraints"];
        let others = ["imagePullSecrets", "serviceAccountName"];
        let pods = of_pods.into_iter().chain(others).map(|field| of_pod(json!({field: value(field)})));
        let of_main = ["image", "resources", "command", "args", "env", "envFrom", "imagePullPolicy"];
        let main = of_main.map(|field| of_container(own.main, field, &value(field)));
        for patch in pods.chain(main) {
            let message = refused(block, patch.clone()).unwrap_or_else(|| panic!("{block}: {patch} is taken"));
            let Some((_, way)) = message.split_once("set ") else { continue };
            let way = way.split(';').next().unwrap();
            assert!(exists(way), "{way} is no field: {message}");
            ways += 1;
        }
    }
    assert!(ways > 60, "{ways}");
}

/// What a user wrote is a part of the path, and may be of any length.
#[test]
fn a_refusal_is_short() {
    let long = "x".repeat(100_000);
    for patch in
        [json!({&*long: 1}), of_pod(json!({"containers": [{"name": long, "securityContext": {"privileged": true}}]}))]
    {
        let message = refused("api", patch).unwrap();
        assert!(message.len() < 600, "{}", message.len());
    }
}

/// A value of the wrong type may be a password that was put into the wrong place.
#[test]
fn a_refusal_does_not_repeat_values() {
    let patch = of_pod(json!({"containers": [{"name": "x", "image": "x", "env": "hunter2"}], "hostname": "hunter2"}));
    assert!(!refused("api", patch).unwrap().contains("hunter2"));
    let patch = of_pod(json!({"terminationGracePeriodSeconds": "hunter2"}));
    let message = refused("api", patch).unwrap();
    assert!(message.contains("terminationGracePeriodSeconds") && !message.contains("hunter2"), "{message}");
}

#[test]
fn one_refused_patch_leaves_the_others_alone() {
    let mut spec = spec("api", of_pod(json!({"hostNetwork": true})));
    spec.ocr =
        serde_json::from_value(json!({"image": "a", "podTemplate": of_pod(json!({"dnsPolicy": "Default"}))})).unwrap();
    let Shapes { shapes, refused } = resolve(&spec);
    assert_eq!(refused.into_keys().collect::<Vec<_>>(), [Component::Api]);
    assert_eq!(shapes.into_keys().collect::<Vec<_>>(), [Component::Ocr]);
}

/// Of the database only where a Job makes its role: an embedded one has a block of its own.
#[rstest]
#[case::embedded(json!({"embedded": {}}), false)]
#[case::rds(json!({"rds": {"instanceClass": "db.t4g.medium", "storage": {"size": "50Gi"}, "caSecretRef": {"name": "ca", "key": "pem"}}}), true)]
fn the_patch_of_jobs_is_that_of_each_component_whose_jobs_have_none(#[case] database: Value, #[case] provisions: bool) {
    let all = [
        Component::SmokeTest,
        Component::BucketRules,
        Component::Preflight,
        Component::Drill,
        Component::Restore,
        Component::Sanitize,
    ];
    let all: BTreeSet<_> = all.into_iter().chain(provisions.then_some(Component::Database)).collect();
    let of = |patch: Value| {
        let mut spec = spec("jobs", patch);
        spec.database = serde_json::from_value(database.clone()).unwrap();
        spec
    };
    let mounts = of_volume(&json!({"name": "x", "secret": {"secretName": "certs"}}));
    let taken = resolve(&of(mounts.clone()));
    assert!(taken.refused.is_empty() && taken.shapes.into_keys().collect::<BTreeSet<_>>() == all);
    let named = references(&of(mounts));
    assert_eq!(named.keys().copied().collect::<BTreeSet<_>>(), all);
    assert!(named.values().flatten().all(|of| of.name == "certs"));
    let refused = resolve(&of(of_pod(json!({"hostPID": true}))));
    assert!(refused.shapes.is_empty() && refused.refused.into_keys().collect::<BTreeSet<_>>() == all);
}

#[test]
fn what_volumes_name_must_be_there_key_by_key() {
    let volumes = json!([
        {"name": "a", "secret": {"secretName": "certs", "items": [{"key": "tls.crt", "path": "c"}]}},
        {"name": "b", "configMap": {"name": "branding"}},
        {"name": "c", "projected": {"sources": [{"secret": {"name": "tokens"}}, {"configMap": {"name": "maybe", "optional": true}}]}},
        {"name": "d", "secret": {"secretName": "maybe", "optional": true}},
    ]);
    let spec = spec("database.embedded", of_pod(json!({"volumes": volumes})));
    let named: Vec<_> =
        references(&spec)[&Component::Database].iter().map(|of| (of.secret, of.name.clone(), of.key.clone())).collect();
    let name = |name: &str| name.to_owned();
    assert_eq!(
        named,
        [(true, name("certs"), Some(name("tls.crt"))), (false, name("branding"), None), (true, name("tokens"), None)]
    );
    let mut observed = Observed::default();
    let missing = |observed: &Observed| {
        let mut shapes = resolve(&spec);
        shapes.check_mounts(observed);
        shapes.refused.remove(&Component::Database)
    };
    let first = missing(&observed).unwrap();
    assert_eq!(first.reason, "ReferenceMissing");
    assert!(
        first.message.contains("secret/certs, named by database.embedded.podTemplate.spec.volumes[a], does not exist"),
        "{}",
        first.message
    );
    observed.secrets.insert(name("certs"), Some([(name("ca.crt"), Vec::new())].into()));
    assert_eq!(missing(&observed).unwrap().reason, "KeyMissing");
    observed.secrets.insert(name("certs"), Some([(name("tls.crt"), Vec::new())].into()));
    observed.secrets.insert(name("tokens"), Some(BTreeMap::new()));
    observed.config_maps.insert(name("branding"), Some(BTreeMap::new()));
    assert_eq!(missing(&observed), None);
    // As the controller observes it, without the content.
    let reported = Waiting::new("KeyMissing", "secret/certs lacks a key");
    observed.configuration.insert(Component::Database, Err(reported.clone()));
    assert_eq!(missing(&observed), Some(reported));
}
