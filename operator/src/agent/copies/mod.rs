//! Copies of points in other buckets: streamed, compared by checksum afterwards, and removed by a retention of their own. A mark in
//! the folder of the point says where it was copied to, so that it may go from here.

mod files;
mod objects;
mod sweep;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncBufRead;
use tokio_util::sync::CancellationToken;

use self::objects::{Filled, Pool};
use self::sweep::Sweep;
use super::error::DumpError;
use super::inventory::{self, BackupFolder, Copied};
use super::manifest::{Manifest, ManifestObject};
use super::object_lock::{self, Locking, Notes};
use super::retention::Spared;
use super::stream::{self, Input, read_part};
use super::transfer::{self, Origin};
use super::{DumpArgs, in_use, objects as list, prune, replication};
use crate::contract::{COPIED, CopyTarget, ENV_COPIES, MANIFEST_FILE, OBJECTS_FILE};
use crate::services::bucket::{BucketClient, Timeouts};

/// No copy of a dump is begun after this time: the Job has an end, and the result of the run is to be told before it.
const BEGUN_WITHIN: Duration = Duration::from_hours(6);
/// Nor is an object copied or removed: releases, restores and other dumps wait for the end of the Job.
const OBJECTS_WITHIN: Duration = Duration::from_mins(30);

/// What came of the copies.
#[derive(Debug, Default)]
pub(super) struct Copies {
    pub(super) count: u32,
    pub(super) problem: Option<String>,
    pub(super) objects_problem: Option<String>,
    /// The first copy that lacks the spec of the stack, and why.
    pub(super) without_spec: Option<String>,
    /// The buckets that the spec names now, as marks name them: a copy in one that it named before proves nothing.
    pub(super) places: BTreeSet<String>,
    pub(super) lock_notes: Notes,
}

impl Copies {
    /// One more is there. `without_spec`: why it lacks the spec of the stack.
    fn copied(&mut self, without_spec: Option<String>) {
        self.count += 1;
        self.without_spec = self.without_spec.take().or(without_spec);
    }
}

/// Copies what is not copied yet, newest first, and removes old copies. Entries that were copied say so afterwards.
pub(super) async fn copy(
    bucket: &BucketClient,
    args: &DumpArgs,
    (owner, now): (&str, Timestamp),
    entries: &mut [BackupFolder],
    stop: &CancellationToken,
) -> Copies {
    let mut done = Copies::default();
    let Some(text) = &args.copies else { return done };
    let targets: Vec<CopyTarget> = match serde_json::from_str(text) {
        Ok(targets) => targets,
        Err(source) => {
            done.problem = Some(DumpError::Variable { name: ENV_COPIES, source }.to_string());
            return done;
        }
    };
    done.places = targets.iter().map(place).collect();
    let begun = Instant::now();
    for target in &targets {
        let run = Run { bucket, args, target, owner, now, begun };
        if let Err(error) = Box::pin(run.all(entries, &mut done, stop)).await {
            done.problem.get_or_insert(run.told(&error));
        }
    }
    done
}

/// That a point is not in every bucket that the spec names, of a run that makes none and copies none.
pub(super) fn lacking(args: &DumpArgs, entry: &BackupFolder) -> Option<String> {
    let targets: Vec<CopyTarget> = serde_json::from_str(args.copies.as_ref()?).ok()?;
    let lacks = |target: &&CopyTarget| !entry.is_copied(&place(target), args.replica_name());
    let buckets: Vec<_> = targets.iter().filter(lacks).map(|target| target.location.bucket.as_str()).collect();
    let (id, buckets) = (&entry.id, buckets.join(", "));
    let told =
        || format!("recovery point {id}, which is used again, is not in {buckets} yet: the next backup copies it");
    (!buckets.is_empty()).then(told)
}

/// The bucket of a target.
struct Place {
    bucket: BucketClient,
    locking: Locking,
    /// When the newest point was made whose objects are all there, in seconds since 1970.
    before: Option<i64>,
}

/// One target of one run.
struct Run<'a> {
    bucket: &'a BucketClient,
    args: &'a DumpArgs,
    target: &'a CopyTarget,
    owner: &'a str,
    now: Timestamp,
    begun: Instant,
}

impl Run<'_> {
    async fn all(
        &self,
        entries: &mut [BackupFolder],
        done: &mut Copies,
        stop: &CancellationToken,
    ) -> Result<(), DumpError> {
        let source = self.args.bucket.target(None);
        let same = source.endpoint.trim_end_matches('/') == self.target.location.endpoint.trim_end_matches('/')
            && source.bucket == self.target.location.bucket;
        if same && self.target.prefix == self.args.prefix {
            let why = "a copy in the folder of the backups themselves is none".to_owned();
            return Err(DumpError::Copy { key: self.target.prefix.clone(), why });
        }
        let bucket = BucketClient::new(&list::target(&self.target.location), Timeouts::DATA)?;
        let (locking, unknown) = Locking::of(&bucket, self.target.retention_days).await;
        done.lock_notes.add(unknown);
        // Those whose objects were copied by the runs before were locked by them.
        let mark = inventory::mark(&place(self.target), Copied::WithObjects);
        let before = entries.iter().filter(|entry| entry.copied.contains(&mark)).map(|entry| entry.id.created()).max();
        let to = Place { bucket, locking, before: before.map(Timestamp::as_second) };
        let replica = Box::pin(self.lasting_replica()).await;
        let wanted: Vec<usize> = self.wanted(entries, (&place(self.target), replica));
        // That of this run.
        let newest = entries.iter().filter(|entry| entry.is_whole_of(self.owner)).map(|entry| entry.id.clone()).max();
        for index in wanted {
            if self.begun.elapsed() > BEGUN_WITHIN {
                break;
            }
            let Some(entry) = entries.get_mut(index) else { continue };
            // One that cannot be copied keeps no older one from being copied, and no old copy from going.
            let is_newest = newest.as_ref() == Some(&entry.id);
            match Box::pin(self.one(&to, (entry, is_newest), done, stop)).await {
                Ok(()) => {}
                Err(DumpError::Stopped) => return Ok(()),
                Err(error) => drop(done.problem.get_or_insert(self.told(&error))),
            }
        }
        let pruned = Box::pin(self.prune(&to.bucket, entries, done, stop)).await;
        done.lock_notes.add(to.bucket.lock_refused().then(|| object_lock::refused(to.bucket.bucket())));
        done.lock_notes.add(to.bucket.lock_not_prolonged().then(|| object_lock::not_prolonged(to.bucket.bucket())));
        pruned
    }

    fn told(&self, error: &DumpError) -> String {
        let bucket = &self.target.location.bucket;
        tracing::warn!(%error, bucket, "a point is not copied");
        format!("copies to bucket \"{bucket}\": {error}")
    }

    /// The bucket that the spec replicates to, unless it is known to keep versions for less time than the copy is kept.
    async fn lasting_replica(&self) -> Option<&str> {
        let to = self.args.replica.as_ref()?;
        let source = list::named_source(self.args.source.as_deref()).ok()?;
        let source = source.unwrap_or_else(|| self.args.bucket.target(None));
        let client = BucketClient::new(&replication::destination(&source, to), Timeouts::CHECK).ok()?;
        match list::lasts(&client, self.target.retention_days).await {
            Ok(Some(why)) => {
                tracing::warn!(why, "what is replicated is copied as well");
                None
            }
            // What is not known now was known when the points were marked.
            Ok(None) | Err(_) => Some(&to.bucket),
        }
    }

    /// The whole points that the target lacks and would keep, newest first.
    fn wanted(&self, entries: &[BackupFolder], (place, replica): (&str, Option<&str>)) -> Vec<usize> {
        let age = SignedDuration::from_hours(24 * i64::from(self.target.retention_days));
        let mut wanted: Vec<usize> =
            (0..entries.len()).filter(|index| entries[*index].is_whole_of(self.owner)).collect();
        wanted.sort_by(|one, other| entries[*other].id.cmp(&entries[*one].id));
        let kept = usize::try_from(self.target.minimum_kept.max(1)).unwrap_or(usize::MAX);
        let mut position = 0;
        wanted.retain(|index| {
            position += 1;
            let entry = &entries[*index];
            let young = self.now.duration_since(entry.id.created()) <= age;
            (young || position <= kept) && !entry.is_copied(place, replica)
        });
        wanted
    }

    /// The files of a point. Gives why its copy lacks the spec of the stack: the next run tries again, unless the point lacks it, too.
    async fn point(
        &self,
        to: &Place,
        entry: &mut BackupFolder,
        manifest: (&Manifest, Vec<u8>),
        stop: &CancellationToken,
    ) -> Result<Option<String>, DumpError> {
        let without_spec = Box::pin(self.files(to, manifest, &entry.id, stop)).await?;
        if without_spec.as_ref().is_none_or(|without| without.lasting) {
            self.mark(entry, Copied::Database).await?;
        }
        Ok(without_spec.map(|without| without.why))
    }

    /// The dump, and then what the point lists of the application's bucket.
    async fn one(
        &self,
        to: &Place,
        (entry, is_newest): (&mut BackupFolder, bool),
        done: &mut Copies,
        stop: &CancellationToken,
    ) -> Result<(), DumpError> {
        let key = inventory::key(&self.args.prefix, &entry.id, MANIFEST_FILE);
        let body = self.bucket.get(&key).await?.ok_or_else(|| wrong(&key, "it is gone"))?;
        let manifest = inventory::parse(&body, &entry.id).ok_or_else(|| wrong(&key, "it is no manifest"))?;
        if !entry.copied.contains(&inventory::mark(&place(self.target), Copied::Database)) {
            done.copied(self.point(to, entry, (&manifest, body), stop).await?);
        }
        let (Some(half), Some(list)) = (&manifest.bucket, manifest.object(OBJECTS_FILE)) else { return Ok(()) };
        // A release or a restore waits for the end of a run that holds a point for it, so that run copies none.
        if self.args.hold.is_some() {
            if !is_newest {
                let id = &entry.id;
                let why = format!("the objects of recovery point {id} are copied by the next run of the schedule");
                done.objects_problem.get_or_insert(why);
            }
            return Ok(());
        }
        let key = inventory::key(&self.args.prefix, &entry.id, OBJECTS_FILE);
        let pool = Pool {
            points: self.bucket,
            to: &to.bucket,
            prefix: &self.target.prefix,
            until: self.begun + OBJECTS_WITHIN,
            now: self.now,
            locking: to.locking,
            days: self.target.retention_days,
            prolongs: !to.before.is_some_and(|before| to.locking.is_same_term(before, self.now)),
        };
        match Box::pin(pool.fill(self.args, (half, &ManifestObject { key, ..list.clone() }), stop)).await {
            Ok(Filled::Whole { by_replica: false }) => self.mark(entry, Copied::WithObjects).await,
            Ok(Filled::Whole { by_replica: true }) => {
                let replica = half.replica.as_deref().unwrap_or_default();
                self.put_mark(entry, inventory::mark_by_replica(&place(self.target), replica)).await
            }
            Ok(Filled::AnotherBucket) => {
                let why = format!(
                    "the objects of recovery point {} stay in bucket \"{}\" at {} alone, which the stack no longer has",
                    entry.id, half.bucket, half.endpoint
                );
                done.objects_problem.get_or_insert(why);
                self.mark(entry, Copied::WithoutObjects).await
            }
            Ok(Filled::InPart(copied)) => {
                let why = format!(
                    "the objects of recovery point {} are not all in bucket \"{}\" yet: this run copied {copied} of {}, and the next \
                     one goes on",
                    entry.id, self.target.location.bucket, half.count
                );
                done.objects_problem.get_or_insert(why);
                Ok(())
            }
            Err(DumpError::Stopped) => Err(DumpError::Stopped),
            Err(error) => {
                let why = format!("the objects of recovery point {}: {}", entry.id, self.told(&error));
                done.objects_problem.get_or_insert(why);
                Ok(())
            }
        }
    }

    /// Takes note in the folder of the point.
    async fn mark(&self, entry: &mut BackupFolder, how: Copied) -> Result<(), DumpError> {
        self.put_mark(entry, inventory::mark(&place(self.target), how)).await
    }

    async fn put_mark(&self, entry: &mut BackupFolder, mark: String) -> Result<(), DumpError> {
        let body = json!({"bucket": self.target.location.bucket, "endpoint": self.target.location.endpoint,
            "prefix": self.target.prefix, "at": self.now.to_string()});
        let key = inventory::key(&self.args.prefix, &entry.id, &mark);
        self.bucket.create_object(&key, body.to_string().into_bytes()).await?;
        entry.copied.insert(mark);
        Ok(())
    }

    /// The same rules with the numbers of the copy. What is held here, or verified, stays there as well.
    async fn prune(
        &self,
        to: &BucketClient,
        entries: &[BackupFolder],
        done: &mut Copies,
        stop: &CancellationToken,
    ) -> Result<(), DumpError> {
        let mut args = self.args.clone();
        args.prefix.clone_from(&self.target.prefix);
        args.retention_days = self.target.retention_days;
        args.minimum_kept = self.target.minimum_kept;
        let mut there = inventory::read(to, &args.prefix).await?;
        in_use::forget(to, &args.prefix, (self.owner, self.now), &mut there).await;
        let verified = entries.iter().filter(|entry| entry.verified && entry.is_whole_of(self.owner));
        let held = entries.iter().filter(|entry| !entry.holds.is_empty()).map(|entry| entry.id.clone());
        let spared = Spared {
            verified: verified.map(|entry| entry.id.clone()).max(),
            verified_only: self.args.verified,
            not_copied: held.collect(),
        };
        let pruned = Box::pin(prune::prune(to, &args, (self.owner, self.now), (&there, &spared), stop)).await;
        done.lock_notes.add(pruned.kept(&args.prefix));
        if let Some(why) = pruned.problem(&args.prefix) {
            return Err(DumpError::Copy { key: args.prefix, why });
        }
        if !pruned.removed.is_empty() && self.args.hold.is_none() {
            let until = self.begun + OBJECTS_WITHIN;
            let swept = Sweep { bucket: to, prefix: &args.prefix, now: self.now, until };
            let count = Box::pin(swept.run(stop)).await?;
            tracing::info!(count, "objects that no copy lists any more are removed");
        }
        Ok(())
    }
}

fn wrong(key: &str, why: &str) -> DumpError {
    DumpError::Copy { key: key.to_owned(), why: why.to_owned() }
}

/// The beginning of the marks of a target: the same however often the credentials change.
fn place(target: &CopyTarget) -> String {
    let place = format!("{}\n{}\n{}", target.location.endpoint, target.location.bucket, target.prefix);
    let hash = stream::hex(&Sha256::digest(place));
    format!("{COPIED}{}", hash.get(..12).unwrap_or_default())
}

/// The checksum of an object that is there.
pub(super) async fn hash(
    bucket: &BucketClient,
    key: &str,
    stop: &CancellationToken,
) -> Result<Option<String>, DumpError> {
    transfer::sum(Origin { bucket, key, version: None }, stop).await
}

/// An object of another bucket.
struct Source(Box<dyn AsyncBufRead + Send + Unpin>);

impl Input for Source {
    async fn part(&mut self, size: usize) -> Result<Vec<u8>, DumpError> {
        read_part(&mut self.0, size).await
    }
}
