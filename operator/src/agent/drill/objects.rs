//! A sample of the objects that a point lists: each is fetched by its version, and compared with what is listed and with its MD5.

use md5::{Digest as _, Md5};
use rand::RngExt as _;
use tokio_util::sync::CancellationToken;

use super::{Ended, by_keys, fault};
use crate::agent::manifest::{Manifest, ManifestObject};
use crate::agent::objects::{ListReader, ListedObject, SourceArgs, source};
use crate::agent::stream::hex;
use crate::agent::{BackupId, DrillArgs, inventory};
use crate::contract::{DrillFault, OBJECTS_FILE};
use crate::services::bucket::{BucketClient, BucketTarget, Timeouts};

/// How many objects are fetched.
const SAMPLE: usize = 20;

/// A sample that was fetched.
#[derive(Debug, Default)]
pub(super) struct Sample {
    /// How many objects. `None`: the point holds the database only.
    pub(super) objects: Option<u64>,
    /// Their content could not be compared: no `ETag` is an MD5.
    pub(super) unknown: bool,
}

/// Fetches a sample.
pub(super) async fn sample(
    bucket: &BucketClient,
    args: &DrillArgs,
    (id, manifest, destination): (&BackupId, &Manifest, &BucketTarget),
    stop: &CancellationToken,
) -> Result<Sample, Ended> {
    let Some(listed) = manifest.object(OBJECTS_FILE) else { return Ok(Sample::default()) };
    let key = inventory::key(&args.prefix, id, OBJECTS_FILE);
    let chosen = choose(bucket, &ManifestObject { key: key.clone(), ..listed.clone() }).await?;
    let told = manifest.bucket.as_ref().map_or(0, |half| half.count);
    if chosen.seen as u64 != told {
        return fault(DrillFault::Corrupt, format!("{key} lists {} objects instead of {told}", chosen.seen));
    }
    let target = source(&SourceArgs { source: args.source.as_deref(), destination })?;
    by_keys(&target)?;
    let client = BucketClient::new(&target, Timeouts::DATA)?;
    let (mut fetched, mut same, mut damaged) = (0, 0_u64, None);
    for object in chosen.objects {
        if stop.is_cancelled() {
            return Err(Ended::Stopped);
        }
        let content = fetch(&client, &object, stop).await?;
        fetched += 1;
        match content {
            Content::Same => same += 1,
            Content::Other if damaged.is_none() => damaged = Some(object),
            Content::Other | Content::Unknown => {}
        }
    }
    // There are servers whose tags look like an MD5 and are none: not of any object.
    match damaged {
        Some(object) if same > 0 => Err(differs(&object, "its content has another MD5 than its ETag says")),
        _ => Ok(Sample { objects: Some(fetched), unknown: fetched > 0 && same == 0 }),
    }
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

/// What the content of an object is by its `ETag`.
enum Content {
    Same,
    Other,
    /// The tag does not tell.
    Unknown,
}

fn differs(object: &ListedObject, why: &str) -> Ended {
    let ListedObject { key, version_id, .. } = object;
    Ended::Fault(DrillFault::ObjectsDiffer, format!("{key} in version {version_id}: {why}"))
}

/// A connection that breaks is none of the object's own faults.
async fn fetch(client: &BucketClient, object: &ListedObject, stop: &CancellationToken) -> Result<Content, Ended> {
    let ListedObject { key, version_id, size, etag } = object;
    let Some(mut download) = client.download(key, Some(version_id)).await? else {
        return Err(differs(object, "it is gone; keep noncurrent versions longer than backup.retention.days"));
    };
    if download.size() != *size {
        return Err(differs(object, &format!("it has {} bytes instead of {size}", download.size())));
    }
    if !etag.is_empty() && download.tag() != etag {
        return Err(differs(object, "it has another ETag than the point lists"));
    }
    let mut hash = Md5::new();
    loop {
        let chunk = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(Ended::Stopped),
            chunk = download.next() => chunk?,
        };
        let Some(chunk) = chunk else { break };
        hash.update(&chunk);
    }
    let found = hex(&hash.finalize());
    Ok(match download.md5() {
        Some(told) if told.eq_ignore_ascii_case(&found) => Content::Same,
        Some(_) => Content::Other,
        None => Content::Unknown,
    })
}
