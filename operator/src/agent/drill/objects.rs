//! A sample of the objects that a point lists: each is fetched by its version, and compared.

use std::io::Write as _;

use rand::RngExt as _;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio_util::sync::CancellationToken;

use super::{Ended, fault, wrong_checksum};
use crate::agent::manifest::{Manifest, ManifestObject};
use crate::agent::objects::{ListedObject, SourceArgs, source};
use crate::agent::{BackupId, DrillArgs, inventory, stream};
use crate::contract::{DrillFault, OBJECTS_FILE};
use crate::services::bucket::{BucketClient, BucketTarget, Timeouts};

/// How many objects are fetched.
const SAMPLE: usize = 20;
/// A longer line is none of ours.
const LONGEST_LINE: usize = 64 * 1024;

/// Fetches a sample. `None`: the point holds the database only.
pub(super) async fn sample(
    bucket: &BucketClient,
    args: &DrillArgs,
    (id, manifest, destination): (&BackupId, &Manifest, &BucketTarget),
    stop: &CancellationToken,
) -> Result<Option<u64>, Ended> {
    let Some(listed) = manifest.object(OBJECTS_FILE) else { return Ok(None) };
    let key = inventory::key(&args.prefix, id, OBJECTS_FILE);
    let chosen = choose(bucket, &key, listed).await?;
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

/// Reads the whole list, which must have the checksum of the manifest, and keeps some lines of it, each as likely as any other.
async fn choose(bucket: &BucketClient, key: &str, listed: &ManifestObject) -> Result<Chosen, Ended> {
    let corrupt = |why: String| Ended::Fault(DrillFault::Corrupt, format!("{key}: {why}"));
    let Some(mut body) = bucket.read(key, None).await? else {
        return fault(DrillFault::Corrupt, format!("{key} is missing"));
    };
    let mut decoder = zstd::stream::write::Decoder::new(Vec::new()).map_err(|error| corrupt(error.to_string()))?;
    let (mut hash, mut rest, mut chunk) = (Sha256::new(), Vec::new(), vec![0; 256 * 1024]);
    let mut chosen = Chosen::default();
    loop {
        let read = body.content.read(&mut chunk).await.map_err(|error| corrupt(error.to_string()))?;
        if read == 0 {
            break;
        }
        hash.update(&chunk[..read]);
        let written = decoder.write_all(&chunk[..read]).and_then(|()| decoder.flush());
        written.map_err(|error| corrupt(error.to_string()))?;
        rest.append(decoder.get_mut());
        let lines = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut whole = BufReader::new(&rest[..lines]).lines();
        while let Ok(Some(line)) = whole.next_line().await {
            chosen.add(&line).map_err(|error| corrupt(error.to_string()))?;
        }
        rest.drain(..lines);
        if rest.len() > LONGEST_LINE {
            return Err(corrupt("it is no list of objects".to_owned()));
        }
    }
    if stream::hex(&hash.finalize()) != listed.sha256 {
        return fault(DrillFault::Corrupt, wrong_checksum(key));
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
    fn add(&mut self, line: &str) -> Result<(), serde_json::Error> {
        let object: ListedObject = serde_json::from_str(line)?;
        self.seen += 1;
        if self.objects.len() < SAMPLE {
            self.objects.push(object);
        } else if let Some(place) = self.objects.get_mut(rand::rng().random_range(0..self.seen)) {
            *place = object;
        }
        Ok(())
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
