//! A migration that does not begin, against a real API server. Its Jobs and their pods are played.

use kube::{
    ResourceExt,
    api::{DynamicObject, Patch, PatchParams, PostParams},
};
use rorun_operator::contract::{LockOutcome, NOT_BEGUN};
use serde_json::{Value, json};

use super::{
    conditions::{released, roll_out, set_status},
    env::TestEnv,
    requests::jobs,
};

const NAMESPACE: &str = "release-locked";
const HOLDER: &str =
    "waiting for the lock: session 7 (by hand) holds it, connected from 10.0.0.7 since 2026-11-24T02:15:00Z";

async fn release(env: &TestEnv) -> Value {
    let stack = env.stacks(NAMESPACE).get("shop").await.expect("the stack");
    serde_json::to_value(stack.status.and_then(|status| status.release)).expect("JSON")
}

/// The only Job of a migration.
async fn migration(env: &TestEnv) -> DynamicObject {
    let is_one =
        |job: &DynamicObject| job.labels().get("app.kubernetes.io/component").is_some_and(|of| of == "migration");
    let mut found = None;
    env.until("there is one migration", async || {
        roll_out(env, NAMESPACE).await;
        let mut all: Vec<_> = jobs(env, NAMESPACE).await.into_iter().filter(is_one).collect();
        found = all.pop().filter(|_| all.is_empty());
        found.is_some()
    })
    .await;
    found.expect("a Job")
}

/// Makes the pod of a Job with the containers of its template, or writes its status: the sidecar told who holds the lock and was started
/// anew, and the container after it is so, and the command as well.
async fn pod(env: &TestEnv, job: &DynamicObject, wait: &Value, command: &Value) {
    let (pods, name) = (env.objects("Pod", NAMESPACE), format!("{}-x", job.name_any()));
    if pods.get_opt(&name).await.expect("an answer").is_none() {
        let owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": job.name_any(), "uid": job.uid(), "controller": true});
        let metadata = json!({"name": name, "labels": job.labels(), "ownerReferences": [owner]});
        let spec = &job.data["spec"]["template"]["spec"];
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
        pods.create(&PostParams::default(), &serde_json::from_value(pod).expect("a pod")).await.expect("its pod");
    }
    let status = |name: &str, state: &Value, last: &Value| json!({"name": name, "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state, "lastState": last});
    let told = json!({"terminated": {"exitCode": 1, "message": json!({"timedOut": {"message": HOLDER}}).to_string()}});
    let init = [status("lock", &json!({"running": {}}), &told), status("await-lock", wait, &json!({}))];
    let phase = if wait["terminated"]["exitCode"] == NOT_BEGUN { "Failed" } else { "Pending" };
    let status = json!({"phase": phase, "initContainerStatuses": init, "containerStatuses": [status("migrate", command, &json!({}))]});
    let patch = Patch::Merge(json!({"status": status}));
    pods.patch_status(&name, &PatchParams::default(), &patch).await.expect("its status");
}

/// What the Job controller does by the policy of the Job.
async fn fails_by_its_policy(env: &TestEnv, job: &DynamicObject) {
    let rules = job.data["spec"]["podFailurePolicy"]["rules"].as_array().expect("rules");
    let by_code = rules.iter().find(|rule| rule["action"] == "FailJob").expect("a rule that fails the Job");
    assert_eq!(by_code["onExitCodes"], json!({"containerName": "await-lock", "operator": "In", "values": [NOT_BEGUN]}));
    fails(env, job, "PodFailurePolicy").await;
}

async fn fails(env: &TestEnv, job: &DynamicObject, reason: &str) {
    let at = "2026-11-24T02:20:00Z";
    let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": reason, "message": "m", "lastTransitionTime": at, "lastProbeTime": at});
    let conditions = [condition("FailureTarget"), condition("Failed")];
    let status = json!({"startTime": "2026-11-24T02:17:00Z", "conditions": conditions});
    set_status(env, ("Job", NAMESPACE, &job.name_any()), status).await;
}

async fn until_state(env: &TestEnv, state: &str) {
    let told = async || format!("; it is {}", release(env).await);
    env.until_or(&format!("the release is {state}"), async || release(env).await["state"] == state, told).await;
}

pub async fn a_migration_that_does_not_begin_is_tried_again(env: &TestEnv) {
    env.namespace(NAMESPACE).await;
    env.submit(NAMESPACE, released(env, NAMESPACE, "rorun-api:1").await).await;
    let first = migration(env).await;
    // The time is that of its pod: it begins when a node has taken it, and the pod stays when it is over.
    let spec = &first.data["spec"];
    assert_eq!(
        [&spec["activeDeadlineSeconds"], &spec["template"]["spec"]["activeDeadlineSeconds"]],
        [&Value::Null, &json!(720)]
    );
    let waiting = json!({"waiting": {"reason": "PodInitializing"}});
    pod(env, &first, &json!({"running": {}}), &waiting).await;
    // While it waits it is told for whom, and by whom nothing is written after that.
    until_state(env, "MigrationLocked").await;
    env.settled(NAMESPACE).await;
    let mark = env.mark();
    assert_eq!(release(env).await["target"]["message"], HOLDER);
    for kind in ["Ready", "MigrationsComplete"] {
        let (status, reason, message) = env.condition(NAMESPACE, kind).await;
        assert_eq!((status.as_str(), reason.as_str()), ("False", "MigrationLocked"), "{kind}: {message}");
        let words = format!("job/{}, which has not begun: {HOLDER}; it begins by itself", first.name_any());
        assert!(message.contains(&words), "{kind}: {message}");
    }
    env.pause().await;
    assert!(env.calls(NAMESPACE, mark).is_empty(), "{:?}", env.calls(NAMESPACE, mark));

    // It waited in vain: another follows, and then the first one again, under its name.
    let outcome = serde_json::to_string(&LockOutcome::TimedOut { message: HOLDER.to_owned() }).expect("JSON");
    let in_vain = json!({"terminated": {"exitCode": NOT_BEGUN, "message": outcome}});
    let mut before = first.clone();
    let name = first.name_any();
    for expected in [format!("{name}-2"), name.clone()] {
        let mark = env.mark();
        pod(env, &before, &in_vain, &waiting).await;
        fails_by_its_policy(env, &before).await;
        env.until("another attempt", async || migration(env).await.name_any() == expected).await;
        env.settled(NAMESPACE).await;
        let writes: Vec<_> = env.writes(NAMESPACE, mark).into_iter().filter(|write| write.contains("jobs/")).collect();
        assert_eq!(writes, [format!("patch jobs/{expected}"), format!("delete jobs/{}", before.name_any())]);
        assert_eq!(release(env).await["state"], "MigrationLocked", "also before its pod says anything");
        let next = migration(env).await;
        assert!(next.uid() != first.uid() && next.uid() != before.uid());
        let template = |job: &DynamicObject| job.data["spec"]["template"]["spec"].clone();
        assert_eq!(template(&next), template(&first), "it is the same migration");
        before = next;
        let pods = env.objects("Pod", NAMESPACE);
        // Without its Job the garbage collector takes it away.
        for gone in pods.list(&kube::api::ListParams::default()).await.expect("a list") {
            if gone.labels().get("app.kubernetes.io/component").is_some_and(|of| of == "migration") {
                let now = kube::api::DeleteParams::default().grace_period(0);
                pods.delete(&gone.name_any(), &now).await.expect("it is deleted");
            }
        }
    }

    begins_and_fails(env, &before).await;
}

/// Its command runs, which heals the condition; and fails, which nothing tries again.
async fn begins_and_fails(env: &TestEnv, job: &DynamicObject) {
    let held = json!({"terminated": {"exitCode": 0}});
    pod(env, job, &held, &json!({"running": {}})).await;
    until_state(env, "Migrating").await;
    pod(env, job, &held, &json!({"terminated": {"exitCode": 1, "message": "Error: P3018"}})).await;
    fails(env, job, "BackoffLimitExceeded").await;
    let message = env.until_reason(NAMESPACE, "Ready", "MigrationFailed").await;
    assert!(message.contains("its migration failed") && message.contains("Error: P3018"), "{message}");
    env.settled(NAMESPACE).await;
    assert_eq!(migration(env).await.uid(), job.uid());
    assert_eq!(release(env).await["target"]["message"], Value::Null);
}
