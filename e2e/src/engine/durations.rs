//! How long steps have taken on this machine, so that whoever waits is told what to expect. Each is a file of the cache. A step
//! that was never done here is told by the table of whoever wrote it, scaled by how this machine did with the others.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::cache::Cache;

/// What the table says was measured on an idle machine; one that is busy or slow is seldom further away.
const SCALES: (f64, f64) = (0.2, 20.0);

/// A step whose time is worth foretelling.
#[derive(Clone, Copy, Debug)]
pub struct Timed<'a> {
    /// What it is kept by, the same each time.
    pub name: &'a str,
    /// What is done, for the person who waits.
    pub what: &'a str,
    /// Why now.
    pub why: &'a str,
    /// Seconds that it took once on two idle processors.
    pub table: u32,
}

/// The times of earlier steps.
#[derive(Clone, Debug)]
pub struct Durations {
    folder: PathBuf,
}

/// How long a step will take, and how that is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// So long.
    pub time: Duration,
    /// By what.
    pub by: By,
}

/// How a time is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The same step took so long on this machine.
    LastTime,
    /// Others took longer or shorter than their tables say, and this one will too.
    Pace,
    /// Nothing was measured here.
    Table,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Record {
    seconds: f64,
    /// What the table said of it; nothing if there is none.
    table: Option<u32>,
}

impl Durations {
    /// Those that the cache has.
    pub fn of(cache: &Cache) -> Durations {
        Durations { folder: cache.root().join("durations") }
    }

    /// Keeps how long a step took.
    pub fn record(&self, name: &str, table: Option<u32>, took: Duration) -> Result<()> {
        fs::create_dir_all(&self.folder)?;
        let path = self.path(name);
        let unfinished = path.with_extension(format!("{}.new", std::process::id()));
        fs::write(&unfinished, serde_json::to_vec(&Record { seconds: took.as_secs_f64(), table })?)?;
        Ok(fs::rename(unfinished, path)?)
    }

    /// How long the step of that name took the last time; none if it was never done here.
    pub fn last(&self, name: &str) -> Option<Duration> {
        read(&self.path(name)).and_then(|record| Duration::try_from_secs_f64(record.seconds).ok())
    }

    /// How long it will take.
    pub fn estimate(&self, name: &str, table: u32) -> Estimate {
        if let Some(time) = self.last(name) {
            return Estimate { time, by: By::LastTime };
        }
        let idle = Duration::from_secs(table.into());
        match self.pace() {
            Some(pace) => Estimate { time: idle.mul_f64(pace), by: By::Pace },
            None => Estimate { time: idle, by: By::Table },
        }
    }

    /// Seconds of this machine for one of the tables', over all that was measured; none if nothing was.
    fn pace(&self) -> Option<f64> {
        let entries = fs::read_dir(&self.folder).ok()?;
        let records = entries.filter_map(|entry| read(&entry.ok()?.path()));
        let (seconds, tables) = records.fold((0.0, 0.0), |(seconds, tables), record| match record.table {
            Some(table) => (seconds + record.seconds, tables + f64::from(table)),
            None => (seconds, tables),
        });
        (tables > 0.0).then(|| (seconds / tables).clamp(SCALES.0, SCALES.1))
    }

    fn path(&self, name: &str) -> PathBuf {
        let plain = |letter: char| if letter.is_ascii_alphanumeric() || letter == '.' { letter } else { '-' };
        self.folder.join(format!("{}.json", name.chars().map(plain).collect::<String>()))
    }
}

/// A file that cannot be read is as good as none: it only says what to expect.
fn read(path: &std::path::Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

impl fmt::Display for Estimate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.by {
            By::LastTime => "as the last time",
            By::Pace => "at the pace of this machine so far",
            By::Table => "on two idle processors",
        };
        write!(formatter, "about {} s {by}", self.time.as_secs_f64().round())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn durations(folder: &tempfile::TempDir) -> Durations {
        Durations::of(&Cache::at(folder.path()).expect("a cache"))
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn the_first_estimate_is_the_tables_and_the_next_what_was_measured() {
        let folder = tempfile::tempdir().expect("a folder");
        let known = durations(&folder);
        assert_eq!(known.estimate("build etcd", 40), Estimate { time: seconds(40), by: By::Table });
        known.record("build etcd", Some(40), seconds(133)).expect("kept");
        // Another process reads it.
        let known = durations(&folder);
        assert_eq!(known.estimate("build etcd", 40), Estimate { time: seconds(133), by: By::LastTime });
        assert_eq!(known.estimate("build etcd", 40).to_string(), "about 133 s as the last time");
        known.record("build etcd", Some(40), seconds(50)).expect("kept");
        assert_eq!(known.last("build etcd"), Some(seconds(50)));
    }

    #[test]
    fn what_was_never_done_is_scaled_by_what_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let known = durations(&folder);
        known.record("build kubeadm", Some(20), seconds(80)).expect("kept");
        known.record("build etcd", Some(80), seconds(120)).expect("kept");
        // Of what has no table nothing follows.
        known.record("scenario drift", None, seconds(4000)).expect("kept");
        assert_eq!(known.estimate("build helm", 130), Estimate { time: seconds(260), by: By::Pace });
        assert_eq!(known.last("build helm"), None);
    }

    #[test]
    fn a_record_that_was_cut_off_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let known = durations(&folder);
        known.record("build etcd", Some(40), seconds(133)).expect("kept");
        fs::write(known.path("build etcd"), "{\"sec").expect("written");
        assert_eq!(known.estimate("build etcd", 40), Estimate { time: seconds(40), by: By::Table });
    }
}
