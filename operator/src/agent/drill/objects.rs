//! A sample of the objects that a point lists: each is fetched by its version, and compared.

use rand::RngExt as _;
use tokio_util::sync::CancellationToken;

use super::{Ended, fault};
use crate::agent::manifest::{Manifest, ManifestObject};
use crate::agent::objects::{ListReader, ListedObject, SourceArgs, source};
use crate::agent::{BackupId, DrillArgs, inventory};
use crate::contract::{DrillFault, OBJECTS_FILE};
use crate::services::bucket::{BucketClient, BucketTarget, Timeouts};

/// How many objects are fetched.
const SAMPLE: usize = 20;

/// Fetches a sample. `None`: the point holds the database only.
pub(super) async fn sample(
    bucket: &BucketClient,
    args: &DrillArgs,
    (id, manifest, destination): (&BackupId, &Manifest, &BucketTarget),
    stop: &CancellationToken,
) -> Result<Option<u64>, Ended> {
    let Some(listed) = manifest.object(OBJECTS_FILE) else { return Ok(None) };
    let key = inventory::key(&args.prefix, id, OBJECTS_FILE);
    let chosen = choose(bucket, &ManifestObject { key: key.clone(), ..listed.clone() }).await?;
    let told = manifest.bucket.as_ref().map_or(0, |half| half.count);
    if chosen.seen as u64 != told {
        return fault(DrillFault::Corrupt, format!("{key} lists {} objects instead of {told}", chosen.seen));
    }
    let target = source(&SourceArgs { source: args.source.as_deref(), destination })?;
    let client = BucketClient::new(&target, Timeouts::DATA)?;
    let mut fetched = 0;
    for object in chosen.objects {
        if stop.is_cancelled() {
            return Err(Ended::Stopped);
        }
        fetch(&client, &object).await?;
        fetched += 1;
    }
    Ok(Some(fetched))
}

/// Reads the whole list, and keeps some lines of it, each as likely as any other.
async fn choose(bucket: &BucketClient, list: &ManifestObject) -> Result<Chosen, Ended> {
    let mut reader = ListReader::open(bucket, list).await?;
    let mut chosen = Chosen::default();
    while let Some(objects) = reader.next().await? {
        for object in objects {
            chosen.add(object);
        }
    }
    Ok(chosen)
}

/// A sample of a list of unknown length.
#[derive(Default)]
struct Chosen {
    objects: Vec<ListedObject>,
    seen: usize,
}

impl Chosen {
    fn add(&mut self, object: ListedObject) {
        self.seen += 1;
        if self.objects.len() < SAMPLE {
            self.objects.push(object);
        } else if let Some(place) = self.objects.get_mut(rand::rng().random_range(0..self.seen)) {
            *place = object;
        }
    }
}

async fn fetch(client: &BucketClient, object: &ListedObject) -> Result<(), Ended> {
    let ListedObject { key, version_id, size, etag } = object;
    let differs =
        |why: String| Ended::Fault(DrillFault::ObjectsDiffer, format!("{key} in version {version_id}: {why}"));
    let Some(mut body) = client.read(key, Some(version_id)).await? else {
        return Err(differs("it is gone; keep noncurrent versions longer than backup.retention.days".to_owned()));
    };
    let read = tokio::io::copy(&mut body.content, &mut tokio::io::sink()).await;
    let read = read.map_err(|error| differs(error.to_string()))?;
    if read != *size {
        return Err(differs(format!("it has {read} bytes instead of {size}")));
    }
    if !etag.is_empty() && body.tag != *etag {
        return Err(differs("it has another ETag than the point lists".to_owned()));
    }
    Ok(())
}
