//! Backups, as their user runs them and follows them to their end.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::batch::v1::Job;
use kube::api::{Api, ListParams};
use serde_json::Value;

use super::{Observed, Stack, Status, TestContext};

/// A dump of little data, on a busy machine.
const ENDS_WITHIN: Duration = Duration::from_mins(2);

/// A good backup, as the status lists it.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupRecord {
    /// Its identifier.
    pub id: String,
    /// When it was complete.
    pub at: String,
    /// The size of the dump.
    pub size_bytes: i64,
    /// `s3://<bucket>/<key of the manifest>`.
    pub location: String,
}

impl Status {
    /// The newest good backup.
    pub fn last_backup(&self) -> Option<BackupRecord> {
        serde_json::from_value(self.json["backup"]["lastSuccessful"].clone()).ok()
    }
}

impl TestContext {
    /// Runs a backup now, as `kubectl create job --from=cronjob/...` does; waits until the status lists it.
    pub async fn run_backup(&self, stack: &Stack, name: &str) -> Result<BackupRecord> {
        let before = stack.status().await?.last_backup();
        let cron_job = format!("--from=cronjob/{}", stack.child("backup"));
        self.kubectl(&["create", "job", "--namespace", &stack.namespace, name, &cron_job]).await?;
        stack.finished(name).await?;
        stack.new_backup(before.as_ref()).await
    }
}

impl Stack {
    /// Waits until a Job has ended well; one that has failed is not waited for.
    pub async fn finished(&self, job: &str) -> Result<()> {
        let jobs: Api<Job> = self.test_cluster().api(&self.namespace);
        let what = format!("the job {job} to end");
        let ended = self.wait(&what, ENDS_WITHIN, async || {
            let found = jobs.get(job).await?.status.unwrap_or_default();
            let conditions = found.conditions.unwrap_or_default();
            let ended = conditions.into_iter().find(|condition| {
                matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True"
            });
            Ok(ended.map_or_else(|| Observed::NotYet(format!("{:?} active", found.active)), Observed::Met))
        });
        match ended.await? {
            condition if condition.type_ == "Complete" => Ok(()),
            condition => bail!("the job {job} failed: {}", condition.message.unwrap_or_default()),
        }
    }

    /// Waits until the status lists a backup after this one.
    pub async fn new_backup(&self, before: Option<&BackupRecord>) -> Result<BackupRecord> {
        let status = self.wait_status("a new backup in the status", ENDS_WITHIN, |status| {
            status.last_backup().is_some_and(|backup| Some(&backup) != before)
        });
        status.await?.last_backup().context("the status tells of no backup")
    }

    /// The Jobs that the schedule of the stack has made, by name.
    pub async fn scheduled_jobs(&self) -> Result<Vec<String>> {
        let jobs = self.test_cluster().api::<Job>(&self.namespace).list(&ListParams::default()).await?;
        let scheduled = |job: &Job| {
            // One that was made by hand from the CronJob names it too, but carries this annotation.
            let annotations = job.metadata.annotations.as_ref();
            let by_hand = annotations.is_some_and(|map| map.contains_key("cronjob.kubernetes.io/instantiate"));
            let owners = job.metadata.owner_references.iter().flatten();
            !by_hand && owners.into_iter().any(|owner| owner.kind == "CronJob" && owner.name == self.child("backup"))
        };
        Ok(jobs.iter().filter(|job| scheduled(job)).filter_map(|job| job.metadata.name.clone()).collect())
    }
}

/// The entry of a manifest's object, by the end of its key.
pub fn manifest_object<'a>(manifest: &'a Value, ending: &str) -> Result<&'a Value> {
    let objects = manifest["objects"].as_array().context("the manifest lists no objects")?;
    let found = objects.iter().find(|object| object["key"].as_str().is_some_and(|key| key.ends_with(ending)));
    found.with_context(|| format!("the manifest has no object {ending}: {manifest}"))
}
