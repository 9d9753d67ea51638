//! The Jobs of a stack: what each does, and their ends, as their controller and the kubelet tell them.

use anyhow::Result;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

/// What a Job does whose command is the user's.
pub(super) const MIGRATION: &str = "migration";
/// A recovery point of the live data.
pub(super) const DUMP: &str = "dump";
/// A copy takes the place of the live data.
pub(super) const SWITCH: &str = "switch";
/// Questions to candidates, or to what serves.
pub(super) const SMOKE_TEST: &str = "smoke-test";
/// The end of the names of candidates.
pub(super) const CANDIDATE: &str = "-candidate";
/// All that work on live data.
const LIVE: [&str; 6] = [MIGRATION, DUMP, SWITCH, "objects", "fill", "discard"];

const COMPONENT: &str = "/metadata/labels/app.kubernetes.io~1component";
const ARGUMENTS: &str = "/spec/template/spec/containers/0/args";

/// What a Job does: the word after `agent restore`, or after `agent`. The migration of a copy is none.
pub(super) fn step_of(job: &Value) -> String {
    if job.pointer(COMPONENT).is_some_and(|component| component == MIGRATION) {
        return MIGRATION.to_owned();
    }
    let words: Vec<&str> = arguments(job).collect();
    let word = if words.get(1) == Some(&"restore") { words.get(2) } else { words.get(1) };
    word.copied().unwrap_or_default().to_owned()
}

/// Whether what a Job does works on live data.
pub(super) fn is_live(step: &str) -> bool {
    LIVE.contains(&step)
}

/// The words of the command of a Job's first container.
fn arguments(job: &Value) -> impl Iterator<Item = &str> {
    job.pointer(ARGUMENTS).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// Whether a Job asks candidates, and not what serves.
pub(super) fn asks_candidates(job: &Value) -> bool {
    arguments(job).any(|word| word.contains(CANDIDATE))
}

/// A Job that has not ended.
#[derive(Clone, Debug)]
pub(super) struct OpenJob {
    /// Its name.
    pub(super) name: String,
    /// Its uid.
    pub(super) uid: Option<String>,
    /// What it does.
    pub(super) step: String,
    object: Value,
}

impl OpenJob {
    /// Whether it asks candidates, and not what serves.
    pub(super) fn asks_candidates(&self) -> bool {
        asks_candidates(&self.object)
    }
}

/// The Jobs of a namespace.
#[derive(Clone)]
pub(super) struct Jobs {
    jobs: Api<DynamicObject>,
    pods: Api<DynamicObject>,
}

impl Jobs {
    /// Those of this namespace.
    pub(super) fn of(client: &Client, namespace: &str) -> Jobs {
        let api = |resource| Api::namespaced_with(client.clone(), namespace, &resource);
        Jobs { jobs: api(ApiResource::erase::<Job>(&())), pods: api(ApiResource::erase::<Pod>(&())) }
    }

    /// How many there are, also of those that have ended: nobody collects them.
    pub(super) async fn count(&self) -> Result<usize> {
        Ok(self.jobs.list_metadata(&ListParams::default()).await?.items.len())
    }

    /// Those that have not ended, but for those that ask services: the fake controllers end them.
    pub(super) async fn open(&self) -> Result<Vec<OpenJob>> {
        let mut open = Vec::new();
        let others = ListParams::default().labels("app.kubernetes.io/component!=preflight");
        for job in self.jobs.list(&others).await?.items {
            let object = serde_json::to_value(&job)?;
            if object.pointer("/status/completionTime").is_none() {
                open.push(OpenJob { name: job.name_any(), uid: job.uid(), step: step_of(&object), object });
            }
        }
        Ok(open)
    }

    /// Ends one well: its pod has said something and ended, and then the Job's controller tells that it has. One whose account is
    /// not there stays open.
    pub(super) async fn end(&self, job: &OpenJob) -> Result<()> {
        let OpenJob { name, uid, step, object } = job;
        let pod_name = pod_of(name);
        let owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid, "controller": true});
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": pod_name, "labels": object["metadata"]["labels"], "ownerReferences": [owner]},
            "spec": {
                "automountServiceAccountToken": false,
                "serviceAccountName": object.pointer("/spec/template/spec/serviceAccountName"),
                "containers": [{"name": "agent", "image": "postgres:17"}],
            },
        });
        match self.pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await {
            // The Job's controller tries again, and so does the next look: the account of a step before may be about to go.
            Err(kube::Error::Api(refused)) if refused.code == 403 && refused.message.contains("serviceaccount") => {
                return Ok(());
            }
            made => drop(made?),
        }
        let state = json!({"terminated": {"exitCode": 0, "message": said(step).to_string()}});
        let ended = json!({"phase": "Succeeded", "containerStatuses": [{"name": "agent", "image": "postgres:17",
            "imageID": "", "ready": false, "restartCount": 0, "state": state}]});
        set_status(&self.pods, &pod_name, ended).await?;
        let at = clock().to_string();
        let condition = |kind: &str| {
            json!({"type": kind, "status": "True", "reason": "CompletionsReached", "message": "all pods have succeeded",
                "lastTransitionTime": at, "lastProbeTime": at})
        };
        let begun = &object["metadata"]["creationTimestamp"];
        let status = json!({"startTime": begun, "completionTime": at, "succeeded": 1,
            "conditions": [condition("SuccessCriteriaMet"), condition("Complete")]});
        set_status(&self.jobs, name, status).await
    }
}

/// The name of a Job's pod.
pub(super) fn pod_of(job: &str) -> String {
    format!("{job}-x")
}

async fn set_status(api: &Api<DynamicObject>, name: &str, status: Value) -> Result<()> {
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(json!({"status": status}))).await?;
    Ok(())
}

/// What the agent says at the end of a step.
fn said(step: &str) -> Value {
    match step {
        // Young enough for a way back.
        DUMP => json!({"complete": {"id": "20261124T030000Z-aaaaa", "at": clock().to_string(), "sizeBytes": 7,
            "sha256": "0", "location": "s3://shop/backups/manifest.json", "removed": 0}}),
        SWITCH => json!({"done": {"kept": {"name": "shop_before_abcdef", "sizeBytes": 7}, "durationSeconds": 1}}),
        _ => json!({"done": {"rows": 2, "tables": 1, "durationSeconds": 1}}),
    }
}

#[expect(clippy::disallowed_methods, reason = "the moment of an end is told as a controller tells it")]
fn clock() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(component: &str, arguments: &[&str]) -> Value {
        json!({
            "metadata": {"labels": {"app.kubernetes.io/component": component}},
            "spec": {"template": {"spec": {"containers": [{"args": arguments}]}}},
        })
    }

    #[test]
    fn a_job_is_known_by_its_words_and_a_migration_by_its_component() {
        assert_eq!(step_of(&job("migration", &["dump"])), MIGRATION);
        assert_eq!(step_of(&job("backup", &["agent", "dump", "--stack=shop"])), DUMP);
        assert_eq!(step_of(&job("restore", &["agent", "restore", "switch"])), SWITCH);
        assert!(!is_live(&step_of(&job("restore", &["agent", "restore", "copy"]))));
        assert!(!is_live(&step_of(&job("restore", &[]))), "the migration of a copy");
        let asks =
            |host: &str| job("smoke-test", &["agent", "smoke-test", "--question", &format!(r#"{{"host":"{host}"}}"#)]);
        assert!(step_of(&asks("shop-api.n.svc")) == SMOKE_TEST && !asks_candidates(&asks("shop-api.n.svc")));
        assert!(asks_candidates(&asks("shop-api-candidate.n.svc")));
    }
}
