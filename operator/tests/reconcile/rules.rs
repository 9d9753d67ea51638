//! The rules of a bucket: one Job for each thing that they can be, and what it said in a condition.

use kube::{
    ResourceExt,
    api::{DynamicObject, PostParams},
};
use serde_json::{Value, json};

use super::{conditions::set_status, env::TestEnv};

/// Keys under other names are not probed, so that nothing here waits for a bucket that there is not.
fn spec(rules: &Value) -> Value {
    let keys = json!({"name": "s3", "accessKeyIdKey": "id", "secretAccessKeyKey": "key"});
    let mut bucket =
        json!({"external": {"name": "files", "endpoint": "https://s3.example.com", "credentialsSecretRef": keys}});
    bucket.as_object_mut().expect("a block").extend(rules.as_object().expect("a block").clone());
    json!({"environment": "Development", "api": {"image": "rorun-api:1"}, "bucket": bucket})
}

async fn jobs(env: &TestEnv, namespace: &str) -> Vec<DynamicObject> {
    let all = env.objects("Job", namespace).list(&kube::api::ListParams::default()).await.expect("a list");
    all.items
        .into_iter()
        .filter(|job| job.labels().get("app.kubernetes.io/component").is_some_and(|of| of == "rules"))
        .collect()
}

async fn until_job(env: &TestEnv, namespace: &str, other_than: Option<&str>) -> DynamicObject {
    env.until("there is a Job for the rules", async || {
        let jobs = jobs(env, namespace).await;
        jobs.len() == 1 && Some(jobs[0].name_any().as_str()) != other_than
    })
    .await;
    jobs(env, namespace).await.remove(0)
}

/// As the kubelet and the controller of Jobs would.
pub(super) async fn ends(
    env: &TestEnv,
    namespace: &str,
    job: &DynamicObject,
    (kind, also): (&str, &str),
    said: &Value,
) {
    let owner =
        json!({"apiVersion": "batch/v1", "kind": "Job", "name": job.name_any(), "uid": job.uid(), "controller": true});
    let name = format!("of-{}", job.name_any());
    let metadata = json!({"name": name, "labels": job.labels(), "ownerReferences": [owner]});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {
        "serviceAccountName": job.data["spec"]["template"]["spec"]["serviceAccountName"],
        "automountServiceAccountToken": false, "containers": [{"name": "set", "image": "agent:1"}]}});
    let pod = serde_json::from_value(pod).expect("a pod");
    env.objects("Pod", namespace).create(&PostParams::default(), &pod).await.expect("it is made");
    let state = json!({"terminated": {"exitCode": 0, "message": said.to_string()}});
    let container =
        json!({"name": "set", "image": "agent:1", "imageID": "", "ready": false, "restartCount": 0, "state": state});
    set_status(env, ("Pod", namespace, &name), json!({"phase": "Succeeded", "containerStatuses": [container]})).await;
    let condition = |kind: &str| {
        json!({"type": kind, "status": "True", "reason": "R", "lastTransitionTime": "2026-11-24T02:20:00Z",
            "lastProbeTime": "2026-11-24T02:20:00Z", "message": "it ended"})
    };
    let mut status = json!({"startTime": "2026-11-24T02:15:00Z", "conditions": [condition(also), condition(kind)]});
    if kind == "Complete" {
        status["completionTime"] = json!("2026-11-24T02:20:00Z");
        status["succeeded"] = json!(1);
    } else {
        status["failed"] = json!(1);
    }
    set_status(env, ("Job", namespace, &job.name_any()), status).await;
}

pub async fn the_rules_of_a_bucket_are_set_by_one_job(env: &TestEnv) {
    let namespace = "bucket-rules";
    env.namespace(namespace).await;
    let keys = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3", "namespace": namespace},
        "stringData": {"id": "an-access-key", "key": "a-secret-of-the-bucket"}});
    env.apply_yaml(&keys.to_string()).await;
    let rules = json!({"lifecycle": {"prefix": "uploads/", "archiveAfterDays": 90}, "cors": {"allowOrigins": ["https://a.example.com"]}});
    env.submit(namespace, spec(&rules)).await;
    let first = until_job(env, namespace, None).await;
    let text = first.data.to_string();
    assert!(text.contains("rorun-") && text.contains("-shop.") && text.contains("uploads/"), "{text}");
    assert!(!text.contains("a-secret-of-the-bucket") && !first.name_any().contains("key"), "{text}");
    env.until_reason(namespace, "BucketRulesSet", "Progressing").await;
    let note = "Unsupported: bucket.lifecycle.archiveAfterDays: it answers NotImplemented (HTTP status 501)";
    ends(env, namespace, &first, ("Complete", "SuccessCriteriaMet"), &json!({"set": {"notes": [note]}})).await;
    env.until("the condition tells the note", async || {
        env.condition(namespace, "BucketRulesSet").await == ("True".to_owned(), "Ready".to_owned(), note.to_owned())
    })
    .await;
    env.settled(namespace).await;
    let mark = env.mark();
    env.pause().await;
    assert_eq!(env.writes(namespace, mark), [""; 0]);

    env.submit(namespace, spec(&json!({}))).await;
    let off = until_job(env, namespace, Some(&first.name_any())).await;
    assert!(!off.data.to_string().contains("uploads/"), "{}", off.data);
    let denied = json!({"failed": {"reason": "AccessDenied", "message": "lifecycle: failed to get access"}});
    ends(env, namespace, &off, ("Failed", "FailureTarget"), &denied).await;
    let message = env.until_reason(namespace, "BucketRulesSet", "AccessDenied").await;
    assert!(message.starts_with(&format!("job/{}: lifecycle: failed to get access; ", off.name_any())), "{message}");
    assert!(message.contains("rorun.app/retry"), "{message}");
    let retry = kube::api::Patch::Merge(json!({"metadata": {"annotations": {"rorun.app/retry": "1"}}}));
    env.stacks(namespace).patch("shop", &kube::api::PatchParams::default(), &retry).await.expect("it is annotated");
    let again = until_job(env, namespace, Some(&off.name_any())).await;
    ends(env, namespace, &again, ("Complete", "SuccessCriteriaMet"), &json!({"set": {}})).await;
    env.until("nothing is left of it", async || {
        jobs(env, namespace).await.is_empty() && env.condition(namespace, "BucketRulesSet").await.0.is_empty()
    })
    .await;
}
