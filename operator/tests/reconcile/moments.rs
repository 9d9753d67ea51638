//! Restores to a moment: the test plays CloudNativePG and its barman-cloud plugin, against their published definitions.

use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use rorun_operator::{api::v1alpha1::RorunRestore, contract::restore_suffix};
use serde_json::{Value, json};

use super::{
    cloud_native_pg::{NAME, outside, says, secrets},
    env::{Operator, TestEnv},
    point_in_time::{self, NOTICED, SWITCHED_ON, archived, archiving, base_backup},
    requests::end,
    restores::{open, said, stack_uid, status, step_of, until_phase},
};

const NAMESPACE: &str = "moment";
const CONFIG_MAP: &str = "shop-database-live";
/// The archive reaches from 10:05.
const MOMENT: &str = "2026-11-29T10:30:00.25Z";
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----";

async fn ask(env: &TestEnv, name: &str, moment: &str) -> String {
    let stack = json!({"name": "shop", "uid": stack_uid(env, NAMESPACE).await});
    let restore = json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunRestore", "metadata": {"name": name},
        "spec": {"stackRef": stack, "from": {"pointInTime": moment}, "scope": ["Database"], "target": "InPlace"}});
    let api: Api<DynamicObject> =
        Api::namespaced_with(env.client.clone(), NAMESPACE, &kube::api::ApiResource::erase::<RorunRestore>(&()));
    let restore = serde_json::from_value(restore).expect("a RorunRestore");
    api.create(&PostParams::default(), &restore).await.expect("it is created").uid().expect("a uid")
}

async fn get(env: &TestEnv, kind: &str, name: &str) -> Option<DynamicObject> {
    env.objects(kind, NAMESPACE).get_opt(name).await.expect("an answer")
}

/// A process that is killed now changes nothing: the next one goes on, and writes nothing before something happens.
async fn another_operator(env: &TestEnv, operator: Operator) -> Operator {
    env.settled(NAMESPACE).await;
    operator.kill();
    let mark = env.mark();
    let operator = env.operator_with(&SWITCHED_ON).await;
    env.settled(NAMESPACE).await;
    assert!(env.writes(NAMESPACE, mark).is_empty(), "{:?}", env.writes(NAMESPACE, mark));
    operator
}

pub async fn a_moment_is_restored_into_another_cluster(env: &TestEnv) {
    point_in_time::definitions(env).await;
    let operator = env.operator_with(&SWITCHED_ON).await;
    env.namespace(NAMESPACE).await;
    outside(env, NAMESPACE).await;
    let server = the_log_is_archived(env).await;
    a_moment_before_the_archive_is_refused(env).await;
    let uid = ask(env, "back", MOMENT).await;
    let copy = format!("shop-db-{}", restore_suffix(&uid));
    let operator = beside(env, operator, (&copy, &server)).await;
    a_recovery_that_fails_is_told(env, &copy).await;
    let operator = switched(env, operator, &copy).await;
    everything_follows(env, (&copy, &server)).await;
    let operator = another_operator(env, operator).await;
    without_its_name_the_stack_stops(env, &copy).await;
    it_is_never_repeated(env, &copy).await;
    the_kept_one_goes_by_its_name(env, &copy).await;
    base_backups_follow(env, &copy).await;
    let operator = another_operator(env, operator).await;
    assert!(!operator.said("panicked") && !operator.said("p@ss"));
    drop(operator);
}

async fn the_log_is_archived(env: &TestEnv) -> String {
    env.submit(NAMESPACE, archived(14)).await;
    env.until("the Cluster is there", async || get(env, "Cluster", NAME).await.is_some()).await;
    secrets(env, NAMESPACE).await;
    archiving(env, NAMESPACE, NAME, true).await;
    let server = async || {
        let cluster = get(env, "Cluster", NAME).await?;
        cluster.data.pointer("/spec/plugins/0/parameters/serverName")?.as_str().map(str::to_owned)
    };
    env.until("it archives", async || server().await.is_some()).await;
    let server = server().await.expect("a folder");
    base_backup(env, NAMESPACE, &server).await;
    env.until_reason(NAMESPACE, "DatabaseReady", "Ready").await;
    // The operator waits before it makes them, which no later step may take for a write of its own.
    let made = async || !base_backups(env).await.is_empty();
    env.until_after(NOTICED, "base backups are made", made).await;
    env.settled(NAMESPACE).await;
    assert!(get(env, "ConfigMap", CONFIG_MAP).await.is_none(), "without a restore nothing names the Cluster");
    server
}

async fn a_moment_before_the_archive_is_refused(env: &TestEnv) {
    ask(env, "early", "2026-11-29T10:04:59Z").await;
    let early = until_phase(env, NAMESPACE, "early", "Refused").await;
    let failed = early.conditions.iter().find(|found| found.reason == "MomentOutOfReach").expect("a reason");
    assert!(failed.message.contains("reaches from 2026-11-29T10:05:00Z"), "{}", failed.message);
    assert!(get(env, "ConfigMap", CONFIG_MAP).await.is_none());
}

async fn beside(env: &TestEnv, operator: Operator, (copy, server): (&str, &str)) -> Operator {
    let check = open(env, NAMESPACE).await;
    assert_eq!(step_of(&check), "moment");
    let args = check.data.pointer("/spec/template/spec/containers/0/args").expect("arguments").to_string();
    assert!(args.contains(&format!(r#""--moment","{MOMENT}""#)), "{args}");
    let operator = another_operator(env, operator).await;
    end(env, NAMESPACE, &check.name_any(), &said("moment"), true).await;
    env.until("another Cluster is made", async || get(env, "Cluster", copy).await.is_some()).await;
    let named = get(env, "ConfigMap", CONFIG_MAP).await.expect("the live one is named before there is another");
    assert_eq!(named.data["data"]["cluster"], NAME);
    assert!(named.owner_references().is_empty() && named.labels()["rorun.app/retained"] == "true");
    let made = get(env, "Cluster", copy).await.expect("a Cluster");
    assert!(made.owner_references().is_empty() && made.labels()["rorun.app/retained"] == "true");
    let spec = &made.data["spec"];
    assert_eq!(spec["bootstrap"]["recovery"]["recoveryTarget"]["targetTime"], MOMENT);
    assert!(spec["bootstrap"]["initdb"].is_null());
    let origin = &spec["externalClusters"][0];
    assert_eq!(origin["name"], spec["bootstrap"]["recovery"]["source"]);
    assert_eq!(origin["plugin"]["parameters"]["serverName"], server);
    let own = &spec["plugins"][0]["parameters"]["serverName"];
    assert!(own.is_string() && own != server && spec["plugins"][0]["isWALArchiver"] == true, "{own}");
    let live = get(env, "Cluster", NAME).await.expect("the live one");
    assert_eq!(
        (&live.data["spec"]["imageName"], &live.data["spec"]["storage"]),
        (&spec["imageName"], &spec["storage"])
    );
    another_operator(env, operator).await
}

/// Only its pods say so.
async fn a_recovery_that_fails_is_told(env: &TestEnv, copy: &str) {
    let name = format!("{copy}-1-full-recovery-abcde");
    let labels = json!({"cnpg.io/cluster": copy, "cnpg.io/jobRole": "full-recovery"});
    let pod = json!({"metadata": {"name": name, "labels": labels}, 
        "spec": {"automountServiceAccountToken": false, "serviceAccountName": "shop-restore",
            "containers": [{"name": "full-recovery", "image": "x"}]}});
    let pod: DynamicObject = serde_json::from_value(pod).expect("a pod");
    env.objects("Pod", NAMESPACE).create(&PostParams::default(), &pod).await.expect("it is made");
    let state = json!({"terminated": {"exitCode": 1, "message": "no target backup found"}});
    let ended = json!({"phase": "Failed", "containerStatuses": [{"name": "full-recovery", "image": "x", "imageID": "",
        "ready": false, "restartCount": 0, "state": state}]});
    says(env, NAMESPACE, "Pod", &name, ended).await;
    let told = async || {
        let conditions = status(env, NAMESPACE, "back").await.conditions;
        conditions.into_iter().map(|found| found.message).find(|message| message.contains("no target backup found"))
    };
    env.until("the pod is read", async || told().await.is_some()).await;
    let message = told().await.expect("words");
    assert!(message.contains(&format!("kubectl logs {name} --container=full-recovery")), "{message}");
    assert_eq!(status(env, NAMESPACE, "back").await.phase, "Copying");
    env.delete("Pod", NAMESPACE, &name).await;
}

async fn switched(env: &TestEnv, mut operator: Operator, copy: &str) -> Operator {
    for (secret, values) in [
        ("app", json!({"username": "rorun", "password": "p@ss/2"})),
        ("ca", json!({"ca.crt": CERTIFICATE, "ca.key": "a key"})),
    ] {
        let body = json!({"metadata": {"name": format!("{copy}-{secret}")}, "stringData": values});
        let body: DynamicObject = serde_json::from_value(body).expect("a Secret");
        env.objects("Secret", NAMESPACE).create(&PostParams::default(), &body).await.expect("it is made");
    }
    archiving(env, NAMESPACE, copy, true).await;
    for step in ["recovered", "dump"] {
        let job = open(env, NAMESPACE).await;
        assert_eq!(step_of(&job), step);
        if step == "recovered" {
            let secret = get(env, "Secret", "shop-restore").await.expect("a Secret");
            let url = decoded(&secret, "DIRECT_URL");
            assert!(
                url.contains(&format!("@{copy}-rw.{NAMESPACE}.svc")) && url.contains("p%40ss%2F2"),
                "the host of {copy}"
            );
            let trusted = get(env, "ConfigMap", "shop-restore-ca").await.expect("authorities");
            assert!(trusted.data["data"]["recovered.crt"].is_string());
        }
        operator = another_operator(env, operator).await;
        let named = get(env, "ConfigMap", CONFIG_MAP).await.expect("a name");
        assert_eq!(named.data["data"]["cluster"], NAME, "at {step} the live one is as it was");
        // It ends while nobody looks.
        operator.kill();
        end(env, NAMESPACE, &job.name_any(), &said(step), true).await;
        operator = env.operator_with(&SWITCHED_ON).await;
    }
    let done = until_phase(env, NAMESPACE, "back", "Complete").await;
    assert_eq!((done.kept.as_deref(), done.rows, done.point.as_deref()), (Some(NAME), Some(2), Some(MOMENT)));
    operator
}

fn decoded(secret: &DynamicObject, key: &str) -> String {
    let bytes: k8s_openapi::ByteString = serde_json::from_value(secret.data["data"][key].clone()).expect("base64");
    String::from_utf8(bytes.0).expect("text")
}

async fn connects_to(env: &TestEnv, cluster: &str) -> bool {
    let secret = get(env, "Secret", "shop-connection").await.expect("a Secret");
    ["DATABASE_URL", "DIRECT_URL", "DATABASE_READ_URL"]
        .iter()
        .all(|key| decoded(&secret, key).contains(&format!("@{cluster}-r")))
}

async fn kept(env: &TestEnv) -> Vec<String> {
    let status = env.stacks(NAMESPACE).get("shop").await.expect("the stack").status.expect("a status");
    status.restore.map(|restore| restore.kept.into_iter().map(|of| of.name).collect()).unwrap_or_default()
}

async fn everything_follows(env: &TestEnv, (copy, server): (&str, &str)) {
    env.settled(NAMESPACE).await;
    let named = get(env, "ConfigMap", CONFIG_MAP).await.expect("a name");
    assert_eq!((&named.data["data"]["cluster"], &named.data["data"]["restore"]), (&json!(copy), &json!("back")));
    let past: Value = serde_json::from_str(named.data["data"]["past"].as_str().expect("a list")).expect("JSON");
    assert_eq!((&past[0]["cluster"], &past[0]["server"]), (&json!(NAME), &json!(server)));
    assert!(connects_to(env, copy).await);
    env.until_reason(NAMESPACE, "DatabaseReady", "Ready").await;
    assert_eq!(kept(env).await, [NAME]);
    let live = get(env, "Cluster", copy).await.expect("the live one");
    assert_eq!(live.labels()["app.kubernetes.io/component"], "database");
    assert_eq!(
        live.data["spec"]["bootstrap"]["recovery"]["recoveryTarget"]["targetTime"], MOMENT,
        "it is left as it was"
    );
    let own = live.data["spec"]["plugins"][0]["parameters"]["serverName"].as_str().expect("a folder");
    assert!(own != server);
    let before = get(env, "Cluster", NAME).await.expect("the one that was live");
    assert_eq!(before.data["spec"]["plugins"][0]["parameters"]["serverName"], server, "it is left alone");
    // A field of the spec goes to the live one.
    let mut more = archived(14);
    more["database"]["cloudNativePG"]["instances"] = json!(3);
    env.apply(NAMESPACE, more).await;
    assert_eq!(get(env, "Cluster", copy).await.expect("the live one").data["spec"]["instances"], 3);
    assert_eq!(get(env, "Cluster", NAME).await.expect("the other").resource_version(), before.resource_version());
    env.settled(NAMESPACE).await;
}

async fn without_its_name_the_stack_stops(env: &TestEnv, copy: &str) {
    let named = get(env, "ConfigMap", CONFIG_MAP).await.expect("a name");
    let clusters = [get(env, "Cluster", copy).await, get(env, "Cluster", NAME).await];
    env.delete("ConfigMap", NAMESPACE, CONFIG_MAP).await;
    let message = env.until_reason(NAMESPACE, "DatabaseReady", "LiveClusterUnknown").await;
    for words in [CONFIG_MAP, copy, NAME, "kubectl create configmap"] {
        assert!(message.contains(words), "{message}");
    }
    env.settled(NAMESPACE).await;
    assert!(connects_to(env, copy).await, "nothing is guessed");
    assert!(get(env, "ConfigMap", CONFIG_MAP).await.is_none());
    let now = [get(env, "Cluster", copy).await, get(env, "Cluster", NAME).await];
    let versions =
        |of: &[Option<DynamicObject>; 2]| of.clone().map(|there| there.and_then(|there| there.resource_version()));
    assert_eq!(versions(&clusters), versions(&now));
    // As the message says, by hand.
    let body = json!({"metadata": {"name": CONFIG_MAP, "labels": named.labels()}, "data": {"cluster": copy}});
    let body: DynamicObject = serde_json::from_value(body).expect("a ConfigMap");
    env.objects("ConfigMap", NAMESPACE).create(&PostParams::default(), &body).await.expect("it is made");
    env.until_reason(NAMESPACE, "DatabaseReady", "Ready").await;
    env.settled(NAMESPACE).await;
    assert!(connects_to(env, copy).await);
}

async fn it_is_never_repeated(env: &TestEnv, copy: &str) {
    let api: Api<RorunRestore> = Api::namespaced(env.client.clone(), NAMESPACE);
    api.delete("back", &DeleteParams::default()).await.expect("it is deleted");
    env.until("it is gone", async || api.get_opt("back").await.expect("an answer").is_none()).await;
    ask(env, "back", MOMENT).await;
    let again = until_phase(env, NAMESPACE, "back", "Refused").await;
    assert!(again.conditions.iter().any(|found| found.reason == "AlreadyRestored"), "{:?}", again.conditions);
    env.settled(NAMESPACE).await;
    assert!(connects_to(env, copy).await);
}

async fn the_kept_one_goes_by_its_name(env: &TestEnv, copy: &str) {
    let annotate = async |value: &str| {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"rorun.app/discard": value}}}));
        env.stacks(NAMESPACE).patch("shop", &PatchParams::default(), &patch).await.expect("it is annotated");
        env.settled(NAMESPACE).await;
    };
    let uid = get(env, "Cluster", NAME).await.and_then(|there| there.uid()).expect("it is kept");
    for wrong in
        [copy, "shop-db-000000", "shop", NAME, &format!("{copy}/{uid}"), &format!("{NAME}/{}", uid.to_uppercase())]
    {
        annotate(wrong).await;
        assert!(get(env, "Cluster", copy).await.is_some() && get(env, "Cluster", NAME).await.is_some(), "{wrong}");
    }
    let mark = env.mark();
    annotate(&format!("{NAME}/{uid}")).await;
    env.until("it is gone", async || get(env, "Cluster", NAME).await.is_none()).await;
    env.until("nothing is kept", async || kept(env).await.is_empty()).await;
    env.settled(NAMESPACE).await;
    let deleted = env.writes(NAMESPACE, mark).into_iter().filter(|write| write.contains("delete")).count();
    assert_eq!(deleted, 1, "{:?}", env.writes(NAMESPACE, mark));
    assert!(get(env, "Cluster", copy).await.is_some() && get(env, "Cluster", NAME).await.is_none(), "nor made anew");
    assert!(connects_to(env, copy).await);
}

/// CloudNativePG is given half a minute to notice a change of the Cluster before it is believed that it archives.
async fn base_backups_follow(env: &TestEnv, copy: &str) {
    env.until("base backups are of the live one", async || base_backups(env).await == [json!(copy)]).await;
}

/// The Clusters of which base backups are made.
async fn base_backups(env: &TestEnv) -> Vec<Value> {
    let list = env.objects("ScheduledBackup", NAMESPACE).list(&kube::api::ListParams::default()).await.expect("a list");
    list.items.iter().map(|of| of.data["spec"]["cluster"]["name"].clone()).collect()
}
