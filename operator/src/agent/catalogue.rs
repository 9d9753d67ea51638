//! The recovery points under a prefix, as the bucket itself tells them: no cluster is asked.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::inventory;
use super::manifest::{Contents, Manifest, ManifestObject};
use crate::contract::{DUMP_FILE, HOLD, MANIFEST_FILE, SPEC_FILE, VERIFIED_FILE};
use crate::services::ServiceError;
use crate::services::bucket::{BucketClient, Object};

/// One folder that is named like a point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "each is a member of what users read as JSON")]
pub struct Point {
    /// The folder of the stack.
    pub prefix: String,
    /// The identifier.
    pub id: String,
    /// Whether it can be restored, as far as that can be told without reading all of it.
    pub whole: bool,
    /// Why it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// When its manifest was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<jiff::Timestamp>,
    /// The size of all of its objects in bytes.
    pub size_bytes: u64,
    /// The version of the server that it is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
    /// How many rows it has, estimated where a table is large.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// How many objects of the application's bucket it lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects: Option<u64>,
    /// Whether it has the spec of its stack, in its size.
    pub spec: bool,
    /// Why it has not, though its manifest names one. The data are whole all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_spec: Option<String>,
    /// The images that served, by workload: several where pods ran several under one tag.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, Vec<String>>,
    /// Whether it is sanitized, so that stacks of other environments take it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sanitized: bool,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// Whether a drill restored it.
    pub verified: bool,
    /// How many other buckets it was copied to.
    pub copies: usize,
    /// The names of the objects that hold it against retention.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<String>,
}

/// Every point under a prefix, of all stacks below it, oldest first within a stack.
pub async fn points(bucket: &BucketClient, prefix: &str) -> Result<Vec<Point>, ServiceError> {
    let objects = bucket.list(prefix).await?;
    let mut points = Vec::new();
    let mut at = 0;
    // Keys come sorted, so the objects of a folder are neighbours.
    while let Some(object) = objects.get(at) {
        let folder = object.key.rsplit_once('/').map_or("", |(folder, _)| folder);
        let end =
            objects[at..].iter().position(|other| !is_in(other, folder)).map_or(objects.len(), |count| at + count);
        let end = end.max(at + 1);
        points.extend(point(bucket, folder, &objects[at..end]).await?);
        at = end;
    }
    points.sort_by(|one, other| (&one.prefix, &one.id).cmp(&(&other.prefix, &other.id)));
    Ok(points)
}

fn is_in(object: &Object, folder: &str) -> bool {
    object.key.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

async fn point(bucket: &BucketClient, folder: &str, objects: &[Object]) -> Result<Option<Point>, ServiceError> {
    let (prefix, name) = folder.rsplit_once('/').unwrap_or(("", folder));
    let Ok(id) = name.parse() else { return Ok(None) };
    let files: Vec<(&str, u64)> =
        objects.iter().filter_map(|object| Some((object.key.rsplit('/').next()?, object.size))).collect();
    let size = |file: &str| files.iter().find(|(name, _)| *name == file).map(|(_, size)| *size);
    // A place has a second mark once the objects are there as well.
    let copies: BTreeSet<&str> = files.iter().filter_map(|(name, _)| inventory::place_of(name)).collect();
    let holds = files.iter().filter(|(name, _)| name.starts_with(HOLD)).map(|(name, _)| (*name).to_owned());
    let mut point = Point {
        prefix: format!("{prefix}/"),
        id: name.to_owned(),
        whole: false,
        broken: None,
        owner: None,
        created_at: None,
        size_bytes: files.iter().map(|(_, size)| size).sum(),
        server_version: None,
        rows: None,
        objects: None,
        spec: false,
        no_spec: None,
        images: BTreeMap::new(),
        sanitized: false,
        encrypted: false,
        verified: size(VERIFIED_FILE).is_some(),
        copies: copies.len(),
        holds: holds.collect(),
    };
    let told = match size(MANIFEST_FILE) {
        None => Err("it has no manifest: a run goes on, or was broken off".to_owned()),
        Some(size) if size > inventory::LONGEST_MANIFEST => Err("its manifest is too long".to_owned()),
        Some(_) => {
            let body = bucket.get(&format!("{folder}/{MANIFEST_FILE}")).await?.unwrap_or_default();
            let unknown = || "its manifest cannot be read, or is of a newer release".to_owned();
            inventory::parse(&body, &id).ok_or_else(unknown)
        }
    };
    point.broken = match told {
        Err(why) => Some(why),
        Ok(manifest) => {
            let broken = broken(&manifest, size);
            point.no_spec = manifest.spec.as_ref().and_then(|spec| missing(spec, SPEC_FILE, size));
            point.tell(manifest);
            broken
        }
    };
    point.whole = point.broken.is_none();
    Ok(Some(point))
}

/// Why a point is not as its manifest says. `size`: that of a file of its folder.
fn broken(manifest: &Manifest, size: impl Fn(&str) -> Option<u64>) -> Option<String> {
    let missing = manifest.objects.iter().find_map(|object| missing(object, object.key.rsplit('/').next()?, &size));
    let no_dump = || manifest.object(DUMP_FILE).is_none().then(|| format!("its manifest names no {DUMP_FILE}"));
    missing.or_else(no_dump)
}

/// Why a file is not there in the size that the manifest says.
fn missing(object: &ManifestObject, file: &str, size: impl Fn(&str) -> Option<u64>) -> Option<String> {
    let found = size(file);
    (found != Some(object.size)).then(|| match found {
        None => format!("{file} is missing"),
        Some(found) => format!("{file} has {found} bytes instead of {}", object.size),
    })
}

impl Point {
    /// What the manifest says.
    fn tell(&mut self, manifest: Manifest) {
        self.rows = manifest.contents.as_ref().map(Contents::total_rows);
        self.objects = manifest.bucket.as_ref().map(|half| half.count);
        self.spec = manifest.spec.is_some() && self.no_spec.is_none();
        self.images = manifest.images;
        self.sanitized = manifest.sanitized;
        self.encrypted = !manifest.recipients.is_empty();
        (self.owner, self.created_at) = (manifest.owner, Some(manifest.created_at));
        self.server_version = Some(manifest.server_version);
    }
}
