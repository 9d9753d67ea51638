//! What a bucket that is to be filled holds already: it stays, and refuses the restore.

use tokio_util::sync::CancellationToken;

use super::{Keys, Objects};
use crate::agent::ListedObject;
use crate::agent::restore::error::{RestoreError, refused};
use crate::contract::RestoreRefusal;
use crate::services::bucket::bare;

impl Objects<'_> {
    /// Refuses a bucket in which somebody else's objects are: it may be that of a stack that serves.
    pub(super) fn refuse_found(&self, found: &Keys) -> Result<(), RestoreError> {
        if found.count == 0 {
            return Ok(());
        }
        let message = format!(
            "bucket \"{}\" is to be filled, and holds {} objects that are not as recovery point {} lists them: {}; they stay as they \
             are: give the stack an empty bucket, or leave Bucket out of scope; if they are meant to go back, restore the bucket in \
             place once the stack serves",
            self.bucket.bucket(),
            found.count,
            self.id,
            found.words()
        );
        Err(refused(RestoreRefusal::DataFound, message))
    }

    /// Whether there is an object of another content under the key of a listed one. What an earlier run wrote has the same.
    pub(super) async fn is_taken(&self, listed: &ListedObject, stop: &CancellationToken) -> Result<bool, RestoreError> {
        let ListedObject { key, size, etag, .. } = listed;
        let Some(current) = self.bucket.look(key, None).await? else { return Ok(false) };
        let tag = bare(etag);
        if current.size == *size && !tag.is_empty() && current.tag == tag {
            return Ok(false);
        }
        if current.size != *size {
            return Ok(true);
        }
        let Some(source) = self.source(listed).await? else { return Ok(true) };
        Ok(!self.has_content(&source, listed, stop).await?)
    }
}
