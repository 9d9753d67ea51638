//! Services asked from the place of the pods: one Job for each thing that it asks, what it said in conditions and rows, and nothing that
//! serves waits for it. The test plays the kubelet.

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{
    conditions::set_status,
    env::{Operator, TestEnv},
    rules::ends,
    servers::{PASSWORD, Servers},
};

async fn jobs(env: &TestEnv, namespace: &str) -> Vec<DynamicObject> {
    let selector = ListParams::default().labels("app.kubernetes.io/component=preflight");
    env.objects("Job", namespace).list(&selector).await.expect("a list").items
}

/// The Job, once there is no other.
pub(super) async fn until_job(env: &TestEnv, namespace: &str, other_than: Option<&str>) -> DynamicObject {
    env.until("there is a Job that asks", async || {
        let jobs = jobs(env, namespace).await;
        jobs.len() == 1 && Some(jobs[0].name_any().as_str()) != other_than
    })
    .await;
    jobs(env, namespace).await.remove(0)
}

fn said(target: &str, verdict: &Value) -> Value {
    json!({"answers": [{"target": target, "verdict": verdict}]})
}

fn failed(reason: &str, message: &str) -> Value {
    json!({"failed": {"reason": reason, "message": message}})
}

/// The container of its pod ended, and starts again.
async fn fails(env: &TestEnv, namespace: &str, job: &DynamicObject, said: &Value) {
    let owner =
        json!({"apiVersion": "batch/v1", "kind": "Job", "name": job.name_any(), "uid": job.uid(), "controller": true});
    let name = format!("of-{}", job.name_any());
    let metadata = json!({"name": name, "labels": job.labels(), "ownerReferences": [owner]});
    let spec = json!({"serviceAccountName": "shop-preflight", "automountServiceAccountToken": false,
        "containers": [{"name": "ask", "image": "agent:1"}]});
    let pod = serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}));
    env.objects("Pod", namespace).create(&PostParams::default(), &pod.expect("a pod")).await.expect("it is made");
    let last = json!({"terminated": {"exitCode": 1, "message": said.to_string()}});
    let state = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    let container = json!({"name": "ask", "image": "agent:1", "imageID": "", "ready": false, "restartCount": 1,
        "state": state, "lastState": last});
    set_status(env, ("Pod", namespace, &name), json!({"phase": "Running", "containerStatuses": [container]})).await;
}

/// It succeeded at last, in the same pod.
async fn succeeds(env: &TestEnv, namespace: &str, job: &DynamicObject, said: &Value) {
    env.delete("Pod", namespace, &format!("of-{}", job.name_any())).await;
    env.until("the pod is gone", async || {
        let pod = env.objects("Pod", namespace).get_opt(&format!("of-{}", job.name_any())).await;
        pod.expect("an answer").is_none()
    })
    .await;
    ends(env, namespace, job, ("Complete", "SuccessCriteriaMet"), said).await;
}

async fn told(env: &TestEnv, namespace: &str) -> Value {
    let stack = env.stacks(namespace).get("shop").await.expect("the stack");
    serde_json::to_value(stack.status).expect("a status")
}

async fn row(env: &TestEnv, namespace: &str, service: &str) -> Value {
    let told = told(env, namespace).await;
    let rows = told["services"].as_array().cloned().unwrap_or_default();
    rows.into_iter().find(|row| row["name"] == service).unwrap_or_default()
}

async fn put_secret(env: &TestEnv, namespace: &str, data: Value) {
    let secrets: Api<Secret> = Api::namespaced(env.client.clone(), namespace);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "services"}, "stringData": data});
    let params = PatchParams::apply("user").force();
    secrets.patch("services", &params, &Patch::Apply(&secret)).await.expect("the Secret is applied");
}

const BUCKET: &str = "asked";

fn bucket(servers: &Servers) -> Value {
    json!({
        "environment": "Development",
        "api": {"image": "rorun-api:1", "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/app"}}},
        "bucket": {"external": {"name": "probe", "endpoint": format!("http://127.0.0.1:{}", servers.s3_port),
            "credentialsSecretRef": {"name": "services"}},
            "lifecycle": {"prefix": "uploads/", "abortIncompleteUploadsAfterDays": 7}},
    })
}

fn keys(id: &str, key: &str) -> Value {
    json!({"AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": key})
}

/// Of a real bucket, which the operator itself may list.
pub async fn a_bucket_is_asked_by_one_job_for_each_key(env: &TestEnv) {
    let servers = Servers::shared().await;
    let operator = env.operator_with(&["--probe-allow-loopback=true"]).await;
    env.namespace(BUCKET).await;
    put_secret(env, BUCKET, keys("owner", PASSWORD)).await;
    env.submit(BUCKET, bucket(&servers)).await;
    let first = until_job(env, BUCKET, None).await;
    let uid = env.stacks(BUCKET).get("shop").await.expect("the stack").uid().expect("a uid");
    let text = first.data.to_string();
    assert!(
        first.name_any().starts_with("shop-preflight-") && text.contains(&format!("uploads/_preflight/{uid}")),
        "{text}"
    );
    assert!(!text.contains(PASSWORD), "{text}");
    let account = env.objects("ServiceAccount", BUCKET).get("shop-preflight").await.expect("its account");
    assert_eq!(account.annotations()["eks.amazonaws.com/role-arn"], "arn:aws:iam::1:role/app");
    // The bucket answers, and nothing waits for the Job.
    env.until_reason(BUCKET, "BucketReady", "Ready").await;
    env.until_reason(BUCKET, "PreflightPassed", "Progressing").await;

    let denied = "writing _preflight/x: failed to get access to bucket \"probe\"";
    fails(env, BUCKET, &first, &said("bucket", &failed("AccessDenied", denied))).await;
    let message = env.until_reason(BUCKET, "BucketReady", "AccessDenied").await;
    assert_eq!(message, format!("job/{}, which goes on trying: {denied}", first.name_any()));
    assert_eq!(
        env.condition(BUCKET, "PreflightPassed").await,
        ("False".to_owned(), "AccessDenied".to_owned(), message)
    );
    assert_eq!(row(env, BUCKET, "bucket").await["verdict"], "failed");
    env.settled(BUCKET).await;
    let operator = silent_after_a_restart(env, BUCKET, operator).await;

    let left = "_preflight/x was written to see whether it can be, and stays";
    let passed = json!({"passed": {"findings": [{"reason": "RightsMissing", "message": left}]}});
    succeeds(env, BUCKET, &first, &said("bucket", &passed)).await;
    assert_eq!(env.until_reason(BUCKET, "BucketReady", "RightsMissing").await, left);
    env.until_reason(BUCKET, "PreflightPassed", "Ready").await;
    let expected =
        json!({"name": "bucket", "verdict": "ok", "findings": [{"reason": "RightsMissing", "message": left}]});
    assert_eq!(row(env, BUCKET, "bucket").await, expected);
    env.settled(BUCKET).await;
    let operator = silent_after_a_restart(env, BUCKET, operator).await;

    // A right that was granted is looked for when somebody says so.
    let retry = Patch::Merge(json!({"metadata": {"annotations": {"rorun.app/retry": "1"}}}));
    env.stacks(BUCKET).patch("shop", &PatchParams::default(), &retry).await.expect("it is annotated");
    let again = until_job(env, BUCKET, Some(&first.name_any())).await;
    ends(env, BUCKET, &again, ("Complete", "SuccessCriteriaMet"), &said("bucket", &json!({"passed": {}}))).await;
    env.until_reason(BUCKET, "BucketReady", "Ready").await;

    put_secret(env, BUCKET, keys("owner", "another")).await;
    let other = until_job(env, BUCKET, Some(&again.name_any())).await;
    assert!(!other.data.to_string().contains("another") && !other.name_any().contains("another"));
    env.until_reason(BUCKET, "BucketReady", "AuthenticationFailed").await;
    put_secret(env, BUCKET, keys("owner", PASSWORD)).await;
    until_job(env, BUCKET, Some(&other.name_any())).await;
    drop(operator);
}

/// The second reconcile writes nothing, and neither does the first one of another process, which tells the same.
async fn silent_after_a_restart(env: &TestEnv, namespace: &str, operator: Operator) -> Operator {
    let before = told(env, namespace).await;
    operator.kill();
    let mark = env.mark();
    let operator = env.operator_with(&["--probe-allow-loopback=true", "--resync-period=1s"]).await;
    let resynced = operator.reconciles().await + 2;
    env.until("it is reconciled again", async || operator.reconciles().await >= resynced).await;
    env.settled(namespace).await;
    assert_eq!(env.writes(namespace, mark), [""; 0]);
    assert_eq!(told(env, namespace).await, before);
    operator
}

const BY_ROLE: &str = "by-role";

/// Of a bucket that pods use by a role the operator asks nothing, and knows what the Job says.
pub async fn a_bucket_by_a_role_is_asked_by_a_job_alone(env: &TestEnv) {
    let servers = Servers::shared().await;
    // Nobody listens there: whoever asked it would say so.
    let operator = env.operator_with(&["--probe-allow-loopback=true"]).await;
    env.namespace(BY_ROLE).await;
    let redis = format!("redis://:{PASSWORD}@127.0.0.1:{}", servers.redis_port);
    put_secret(env, BY_ROLE, json!({"DATABASE_URL": servers.database_url("postgres"), "REDIS_URL": redis})).await;
    let mut spec = bucket(&servers);
    spec["database"] = json!({"external": {"secretRef": {"name": "services"}}});
    spec["redis"] = json!({"external": {"secretRef": {"name": "services"}}});
    let block = json!({"name": "files", "endpoint": "http://127.0.0.1:1", "cloudRole": {}});
    spec["bucket"] = json!({"external": block});
    env.submit(BY_ROLE, spec).await;
    let job = until_job(env, BY_ROLE, None).await;
    let message = env.until_reason(BY_ROLE, "BucketReady", "Progressing").await;
    assert_eq!(message, format!("job/{} asks the bucket from the place of the pods", job.name_any()));
    assert!(!job.data.to_string().contains("AWS_ACCESS_KEY_ID"), "{}", job.data);
    let connection = env.objects("Secret", BY_ROLE).get("shop-connection").await.expect("the connection");
    let held = connection.data["data"].to_string();
    assert!(held.contains("S3_BUCKET") && !held.contains("AWS_"), "{held}");

    let refused = "failed to use the role of this pod for bucket \"files\"";
    fails(env, BY_ROLE, &job, &said("bucket", &failed("AuthenticationFailed", refused))).await;
    let message = env.until_reason(BY_ROLE, "BucketReady", "AuthenticationFailed").await;
    assert_eq!(message, format!("job/{}, which goes on trying: {refused}", job.name_any()));
    assert_eq!(row(env, BY_ROLE, "bucket").await["verdict"], "failed");
    env.until_reason(BY_ROLE, "DatabaseReady", "Ready").await;
    env.until_reason(BY_ROLE, "RedisReady", "Ready").await;
    let deployment = env.objects("Deployment", BY_ROLE).get_opt("shop-api").await.expect("an answer");
    assert!(deployment.is_none(), "the application starts once its bucket answers");

    let note = "_preflight/x was written to see whether it can be, and stays";
    let passed = json!({"passed": {"findings": [{"reason": "RightsMissing", "message": note}]}});
    succeeds(env, BY_ROLE, &job, &said("bucket", &passed)).await;
    assert_eq!(env.until_reason(BY_ROLE, "BucketReady", "RightsMissing").await, note);
    let expected =
        json!({"name": "bucket", "verdict": "ok", "findings": [{"reason": "RightsMissing", "message": note}]});
    assert_eq!(row(env, BY_ROLE, "bucket").await, expected);
    env.until("the application is there", async || {
        env.objects("Deployment", BY_ROLE).get_opt("shop-api").await.expect("an answer").is_some()
    })
    .await;
    env.settled(BY_ROLE).await;
    let operator = silent_after_a_restart(env, BY_ROLE, operator).await;
    drop(operator);
}

const PROXIED: &str = "proxied";

/// The operator does not ask the address of its own pod: only the Job says whether the database answers.
pub async fn a_database_behind_its_proxy_is_asked_by_a_job(env: &TestEnv) {
    let servers = Servers::shared().await;
    let operator = env.operator_with(&["--probe-allow-loopback=true"]).await;
    env.namespace(PROXIED).await;
    let data = |host: &str| {
        let redis = format!("redis://:{PASSWORD}@127.0.0.1:{}", servers.redis_port);
        json!({"DATABASE_URL": format!("postgresql://rorun:a-password@{host}:5432/rorun"), "REDIS_URL": redis,
            "AWS_ACCESS_KEY_ID": "owner", "AWS_SECRET_ACCESS_KEY": PASSWORD})
    };
    put_secret(env, PROXIED, data("127.0.0.1")).await;
    let proxy = json!({"instanceConnectionName": "my-project:europe-west1:rorun", "privateIP": true});
    let mut spec = bucket(&servers);
    spec["database"] = json!({"external": {"secretRef": {"name": "services"}, "cloudSQLProxy": proxy}});
    spec["redis"] = json!({"external": {"secretRef": {"name": "services"}}});
    env.submit(PROXIED, spec).await;
    let job = until_job(env, PROXIED, None).await;
    let pod = &job.data["spec"]["template"]["spec"];
    assert_eq!(pod["initContainers"][0]["restartPolicy"], "Always", "{pod}");
    let args = pod["initContainers"][0]["args"].as_array().expect("arguments");
    assert_eq!(args.last(), Some(&json!("my-project:europe-west1:rorun")));
    assert!(args.contains(&json!("--private-ip")) && !job.data.to_string().contains("a-password"));
    let message = env.until_reason(PROXIED, "DatabaseReady", "Progressing").await;
    assert_eq!(message, format!("job/{} asks the database from the place of the pods", job.name_any()));
    let refused = "failed to log in to PostgreSQL at 127.0.0.1:5432";
    fails(env, PROXIED, &job, &said("database", &failed("AuthenticationFailed", refused))).await;
    let message = env.until_reason(PROXIED, "DatabaseReady", "AuthenticationFailed").await;
    assert_eq!(message, format!("job/{}, which goes on trying: {refused}", job.name_any()));
    let deployment = env.objects("Deployment", PROXIED).get_opt("shop-api").await.expect("an answer");
    assert!(deployment.is_none(), "the application starts once its database answers");

    let limit = json!({"available": 3, "by": {"server": {"max": 6, "reserved": 3}}});
    let database = json!({"user": "rorun", "major": 17, "connections": limit, "encoding": "UTF8"});
    let facts = json!({"passed": {"facts": {"version": "17.6", "database": database}}});
    succeeds(env, PROXIED, &job, &said("database", &facts)).await;
    env.until_reason(PROXIED, "DatabaseReady", "TooFewConnections").await;
    let found = row(env, PROXIED, "database").await;
    assert_eq!((&found["provider"], &found["version"]), (&json!("CloudSQL"), &json!("17.6")), "{found}");
    assert_eq!(found["connections"], json!({"needed": 24, "available": 3}));
    env.until("the application is there", async || {
        env.objects("Deployment", PROXIED).get_opt("shop-api").await.expect("an answer").is_some()
    })
    .await;
    let deployment = env.objects("Deployment", PROXIED).get("shop-api").await.expect("the API");
    let sidecar = &deployment.data["spec"]["template"]["spec"]["initContainers"][0];
    assert_eq!((&sidecar["name"], &sidecar["restartPolicy"]), (&json!("rorun-database-proxy"), &json!("Always")));
    env.settled(PROXIED).await;
    let mark = env.mark();
    env.pause().await;
    assert_eq!(env.writes(PROXIED, mark), [""; 0]);

    // A URL that leads past the proxy is told, and what serves goes on.
    put_secret(env, PROXIED, data("10.20.0.3")).await;
    let message = env.until_reason(PROXIED, "DatabaseReady", "InvalidValue").await;
    assert!(message.contains("postgresql://<user>:<password>@127.0.0.1:5432/<database>"), "{message}");
    assert!(env.objects("Deployment", PROXIED).get_opt("shop-api").await.expect("an answer").is_some());
    drop(operator);
}
