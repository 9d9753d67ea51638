//! The objects of a point itself: its dump, its list, its spec and its manifest.

use tokio_util::sync::CancellationToken;

use super::{Place, Run, Source, hash, wrong};
use crate::agent::error::DumpError;
use crate::agent::manifest::{Manifest, ManifestObject};
use crate::agent::stream::{self, Written};
use crate::agent::{BackupId, inventory, owner};
use crate::contract::{MANIFEST_FILE, SPEC_FILE};
use crate::services::bucket::{Created, Headers};

/// Why a copy lacks the spec of the stack.
pub(super) struct WithoutSpec {
    pub(super) why: String,
    /// The point itself lacks it, or has another than its manifest says. Else a bucket did not answer, and the next run tries again.
    pub(super) lasting: bool,
}

impl Run<'_> {
    /// Every object of the manifest, and the manifest last. Gives why the spec of the stack is not among them, which keeps no data back.
    pub(super) async fn files(
        &self,
        to: &Place,
        (manifest, body): (&Manifest, Vec<u8>),
        id: &BackupId,
        stop: &CancellationToken,
    ) -> Result<Option<WithoutSpec>, DumpError> {
        let there = inventory::key(&self.target.prefix, id, MANIFEST_FILE);
        let found = to.bucket.get(&there).await?;
        match &found {
            Some(other) if !is_same(other, &body) => return Err(wrong(&there, "another backup is there")),
            Some(_) => {}
            None => {
                for object in &manifest.objects {
                    Box::pin(self.object(to, object, id, stop)).await?;
                }
            }
        }
        for object in &manifest.objects {
            let key = copied_key(&self.target.prefix, id, object)?;
            let sum = Box::pin(hash(&to.bucket, &key, stop)).await?;
            if sum.as_deref() != Some(&*object.sha256) {
                return Err(wrong(&key, "the copy has another checksum than the manifest"));
            }
        }
        let without_spec = Box::pin(self.spec(to, manifest, id, stop)).await?;
        if found.is_some() {
            return Ok(without_spec);
        }
        let headers = Headers::default().locked(to.locking.of_point(id, self.now));
        match to.bucket.create_with(&there, body, &headers).await? {
            Created::Now => Ok(without_spec),
            Created::Refused => Err(wrong(&there, "another backup is there")),
        }
    }

    /// The spec of the stack, if the point has one and the target does not: an agent of an earlier release copies none.
    async fn spec(
        &self,
        to: &Place,
        manifest: &Manifest,
        id: &BackupId,
        stop: &CancellationToken,
    ) -> Result<Option<WithoutSpec>, DumpError> {
        let Some(spec) = &manifest.spec else { return Ok(None) };
        let key = inventory::key(&self.target.prefix, id, SPEC_FILE);
        let copied = match to.bucket.size(&key).await {
            Ok(Some(size)) if size == spec.size => Ok(()),
            Ok(_) => Box::pin(self.object(to, spec, id, stop)).await,
            Err(error) => Err(error.into()),
        };
        match copied {
            Ok(()) => Ok(None),
            Err(DumpError::Stopped) => Err(DumpError::Stopped),
            Err(error) => {
                let bucket = &self.target.location.bucket;
                tracing::warn!(%error, %id, bucket, "a copy lacks the spec of the stack");
                // In few words: what a run tells is short.
                let (why, lasting) = match error {
                    DumpError::Copy { why, .. } => (why, true),
                    other => (other.to_string(), false),
                };
                let why = format!("the copy of {id} in bucket \"{bucket}\" lacks the spec of the stack: {why}");
                Ok(Some(WithoutSpec { why, lasting }))
            }
        }
    }

    async fn object(
        &self,
        to: &Place,
        object: &ManifestObject,
        id: &BackupId,
        stop: &CancellationToken,
    ) -> Result<(), DumpError> {
        let key = copied_key(&self.target.prefix, id, object)?;
        let file = key.rsplit('/').next().unwrap_or_default();
        let from = inventory::key(&self.args.prefix, id, file);
        let body = self.bucket.read(&from, None).await?;
        let body = body.ok_or_else(|| DumpError::Copy { key: from.clone(), why: "it is gone".to_owned() })?;
        let headers = Headers::saying(&[(owner::SAYS, self.owner)]).locked(to.locking.of_point(id, self.now));
        let mut content = Source(body.content);
        let written = Box::pin(stream::upload(&to.bucket, (&key, &headers), &mut content, stop)).await?;
        let Written { size, sha256 } = written;
        if (size, &sha256) == (object.size, &object.sha256) {
            return Ok(());
        }
        // Nothing that is wrong stays where a copy is looked for.
        to.bucket.delete(&key).await?;
        Err(DumpError::Copy { key: from, why: "it has another checksum than its manifest says".to_owned() })
    }
}

/// Whether two manifests are of one backup: its owner may have become another one since it was copied.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let nobodys = |body| inventory::with_owner(body, "", None);
    one == other || (nobodys(one).is_some() && nobodys(one) == nobodys(other))
}

/// Where an object of a point belongs in the target.
fn copied_key(prefix: &str, id: &BackupId, object: &ManifestObject) -> Result<String, DumpError> {
    let file = object.key.rsplit_once(&format!("{id}/")).map(|(_, file)| file);
    let file = file.filter(|file| inventory::is_part(file) && *file != MANIFEST_FILE);
    let wrong = || DumpError::Copy { key: object.key.clone(), why: "its manifest names an unknown object".to_owned() };
    Ok(inventory::key(prefix, id, file.ok_or_else(wrong)?))
}
