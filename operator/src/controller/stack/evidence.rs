//! Whether the embedded bucket of a stack holds backups. When the data of the stack are deleted, the operator retains a bucket that
//! holds backups, and also one of which it cannot find out.

use std::collections::BTreeMap;

use kube::ResourceExt;

use super::{credentials, probes};
use crate::{
    api::v1alpha1::{BackupStatus, RorunStack},
    names::{Component, ObjectName, ROLE_CREDENTIALS, Waiting, reason},
    objects::{LiveObject, LiveSet},
    services::bucket::{BucketClient, Timeouts},
    stack::{self, BucketAccess, CredentialState, Observed, backed_up, backup_folders, has_own_destination},
};

/// The evidence in the resource itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evidence {
    /// The bucket holds dumps, or the spec sends dumps to it.
    There,
    /// No dump was ever sent to it.
    Never,
    /// Dumps go to another bucket now, and may have gone to this one before.
    Doubtful,
}

/// Whether the volume of the embedded bucket is to be retained. The error says why the operator cannot find out.
pub(super) async fn embedded_bucket_has_backups(cr: &RorunStack, live: &LiveSet) -> Result<bool, Waiting> {
    match evidence(cr) {
        Evidence::There => return Ok(true),
        Evidence::Never => return Ok(false),
        Evidence::Doubtful => {}
    }
    let volume = ObjectName::of(&cr.name_any(), Component::Bucket);
    if live.named("PersistentVolumeClaim", volume.as_str()).is_none() {
        return Ok(false);
    }
    holds_backups(cr, live).await.map_err(|why| {
        let message = format!(
            "deletionPolicy is Delete, and whether persistentvolumeclaim/{volume} holds backups could not be found out: {why}; \
             it is looked at again; to keep all data, set deletionPolicy to Retain"
        );
        Waiting::new(reason::BACKUPS_UNKNOWN, message)
    })
}

fn evidence(cr: &RorunStack) -> Evidence {
    let spec = &cr.spec;
    if !stack::embedded(cr).any(|component| component == Component::Bucket) {
        return Evidence::Never;
    }
    let elsewhere = has_own_destination(spec);
    let status = cr.status.as_ref().and_then(|status| status.backup.as_ref());
    let here = |status: &BackupStatus| {
        let bucket = format!("s3://{}-bucket/", cr.name_any());
        status.in_embedded_bucket == Some(true)
            || status.last_successful.as_ref().is_some_and(|last| last.location.starts_with(&bucket))
    };
    if status.is_some_and(here) || (backed_up(spec) && !elsewhere) {
        return Evidence::There;
    }
    let ever = elsewhere || status.is_some_and(|status| status.last_successful.is_some());
    if ever { Evidence::Doubtful } else { Evidence::Never }
}

/// Lists the bucket itself.
async fn holds_backups(cr: &RorunStack, live: &LiveSet) -> Result<bool, String> {
    let access = access(cr, live).ok_or("the Secret with its keys is not there")?;
    let client = BucketClient::new(&probes::target(access), Timeouts::CHECK).map_err(|error| error.to_string())?;
    for folder in backup_folders(&cr.spec) {
        if client.has_any(&folder).await.map_err(|error| error.to_string())? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn access(cr: &RorunStack, live: &LiveSet) -> Option<BucketAccess> {
    let name = ObjectName::with_role(&cr.name_any(), Component::Bucket, ROLE_CREDENTIALS);
    let data = live.named("Secret", name.as_str()).and_then(LiveObject::data)?;
    let credentials = BTreeMap::from([(Component::Bucket, CredentialState::Present(credentials::decode(data)))]);
    stack::validate(cr, &Observed { credentials, ..Observed::default() }).bucket.access().cloned()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn evidence_of(backup: &Value, environment: &str, status: &Value) -> Evidence {
        let mut spec = json!({"environment": environment, "api": {"image": "a"}});
        if !backup.is_null() {
            spec["backup"] = backup.clone();
        }
        let cr = json!({
            "apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack", "metadata": {"name": "shop", "namespace": "n"},
            "spec": spec, "status": {"backup": status},
        });
        evidence(&serde_json::from_value(cr).expect("a stack"))
    }

    #[rstest]
    #[case::they_go_there(json!({}), "Development", json!(null), Evidence::There)]
    #[case::they_go_there_by_default(json!(null), "Staging", json!(null), Evidence::There)]
    #[case::they_went_there(json!(null), "Development", last("shop-bucket"), Evidence::There)]
    #[case::they_went_there_and_go_elsewhere(elsewhere(), "Development", last("shop-bucket"), Evidence::There)]
    #[case::they_went_there_before(elsewhere(), "Development", json!({"inEmbeddedBucket": true}), Evidence::There)]
    #[case::they_go_elsewhere(elsewhere(), "Development", json!(null), Evidence::Doubtful)]
    #[case::the_last_one_went_elsewhere(elsewhere(), "Staging", last("dumps"), Evidence::Doubtful)]
    #[case::the_last_one_went_elsewhere_before(json!(null), "Development", last("dumps"), Evidence::Doubtful)]
    #[case::another_of_a_longer_name(json!(null), "Development", last("shop-bucket-2"), Evidence::Doubtful)]
    #[case::nobody_asked_for_any(json!(null), "Development", json!(null), Evidence::Never)]
    fn what_the_resource_says(
        #[case] backup: Value,
        #[case] environment: &str,
        #[case] status: Value,
        #[case] expected: Evidence,
    ) {
        assert_eq!(evidence_of(&backup, environment, &status), expected);
    }

    fn elsewhere() -> Value {
        let bucket = json!({"name": "dumps", "endpoint": "http://s3", "credentialsSecretRef": {"name": "s3"}});
        json!({"destination": {"external": bucket}})
    }

    fn last(bucket: &str) -> Value {
        let location = format!("s3://{bucket}/backups/n/shop/x/manifest.json");
        json!({"lastSuccessful": {"id": "x", "at": "2026-01-01T00:00:00Z", "sizeBytes": 1, "location": location}})
    }
}
