//! A process that outlives the one that started it is found again by a record on disk. The record holds more than the
//! pid, since pids are used again: when the process started, and what it runs. Nothing is ever ended by a pattern.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde::{Deserialize, Serialize};

use super::wait;

/// What identifies a process beyond its pid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRecord {
    pid: i32,
    /// Clock ticks between boot and the start of the process, as the kernel counts them.
    started: u64,
}

impl ProcessRecord {
    /// The record of a process that runs now.
    pub fn of(pid: u32) -> Result<ProcessRecord> {
        let pid = i32::try_from(pid)?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("no process {pid}"))?;
        let (_, started) = parse_stat(&stat).with_context(|| format!("failed to read the status of process {pid}"))?;
        Ok(ProcessRecord { pid, started })
    }

    /// The record of this process.
    pub fn of_self() -> Result<ProcessRecord> {
        ProcessRecord::of(std::process::id())
    }

    /// Reads a record that [`ProcessRecord::save`] wrote; none when there is no file.
    pub fn load(path: &Path) -> Result<Option<ProcessRecord>> {
        match fs::read(path) {
            Ok(text) => {
                Ok(Some(serde_json::from_slice(&text).with_context(|| format!("failed to read {}", path.display()))?))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("failed to read {}", path.display())),
        }
    }

    /// Keeps the record.
    pub fn save(&self, path: &Path) -> Result<()> {
        fs::write(path, serde_json::to_vec(self)?).with_context(|| format!("failed to write {}", path.display()))
    }

    /// The process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether that same process still runs. One that ended and that its parent has not noticed yet does not.
    pub fn is_running(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .ok()
            .and_then(|stat| parse_stat(&stat))
            .is_some_and(|(state, started)| started == self.started && !matches!(state, 'Z' | 'X'))
    }

    /// Ends the process at once, if it is still that process.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Stops the process where it stands, until [`ProcessRecord::go_on`]. Waits until each of its threads has stopped: one
    /// that is on another processor goes on for a moment after the signal was sent.
    pub fn pause(&self) -> Result<()> {
        anyhow::ensure!(self.is_running(), "process {} has ended", self.pid);
        self.signal(Signal::STOP);
        let what = format!("process {} to stand still", self.pid);
        wait::until_true(&what, Duration::from_secs(10), || self.stands_still())
    }

    fn stands_still(&self) -> Result<bool> {
        let folder = format!("/proc/{}/task", self.pid);
        for thread in fs::read_dir(&folder).with_context(|| format!("no process {}", self.pid))? {
            // One that has ended stands still as well.
            let Ok(stat) = fs::read_to_string(thread?.path().join("stat")) else { continue };
            if parse_stat(&stat).is_some_and(|(state, _)| state != 'T') {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Lets the process go on.
    pub fn go_on(&self) -> Result<()> {
        anyhow::ensure!(self.is_running(), "process {} has ended", self.pid);
        self.signal(Signal::CONT);
        Ok(())
    }

    /// Asks the process to end, waits, and ends it when it does not.
    pub fn stop(&self, limit: Duration) -> Result<()> {
        self.signal(Signal::TERM);
        let what = format!("process {} to end", self.pid);
        if wait::until_true(&what, limit, || Ok(!self.is_running())).is_err() {
            self.kill();
        }
        wait::until_true(&what, Duration::from_secs(10), || Ok(!self.is_running()))
    }

    /// Asks the process, which must be the first of its group, and the rest of the group to end, waits, and ends all of
    /// them when it does not.
    pub fn stop_group(&self, limit: Duration) -> Result<()> {
        let Some(group) = Pid::from_raw(self.pid).filter(|_| self.is_running()) else { return Ok(()) };
        // The group keeps its number from being used again for as long as one of it is there.
        let _ = kill_process_group(group, Signal::TERM);
        let ended = wait::until_true("a group of processes to end", limit, || {
            Ok(rustix::process::test_kill_process_group(group).is_err())
        });
        if ended.is_err() {
            let _ = kill_process_group(group, Signal::KILL);
        }
        wait::until_true("a group of processes to end", Duration::from_secs(10), || Ok(!self.is_running()))
    }

    fn signal(&self, signal: Signal) {
        if !self.is_running() {
            return;
        }
        if let Some(pid) = Pid::from_raw(self.pid) {
            // It may end between the check and here: that is what was wanted.
            let _ = kill_process(pid, signal);
        }
    }
}

/// State and start time out of `/proc/PID/stat`. The second field is the program's name in parentheses and may hold
/// anything, spaces and parentheses too, so the fields are counted from the last one.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let started = fields.nth(18)?.parse().ok()?;
    Some((state, started))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn reads_the_start_time_whatever_the_name_of_the_program() {
        let stat = "42 (a ) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 3 4 0 0 20 0 1 0 987654 1 2 3";
        assert_eq!(parse_stat(stat), Some(('S', 987_654)));
        assert_eq!(parse_stat("42 (x) S 1"), None);
    }

    #[test]
    fn a_process_that_took_over_the_pid_is_left_alone() {
        let mut child = Command::new("sleep").arg("600").spawn().expect("sleep");
        let record = ProcessRecord::of(child.id()).expect("a record");
        let former = ProcessRecord { started: record.started - 1, ..record.clone() };
        assert!(!former.is_running());
        former.kill();
        assert!(record.is_running());
        record.stop(Duration::from_secs(5)).expect("it ends");
        assert!(!record.is_running());
        child.wait().expect("ended");
    }

    #[test]
    fn a_group_ends_with_those_that_will_not() {
        use std::os::unix::process::CommandExt;
        let script = "trap '' TERM; sleep 600 & echo $!; wait; wait";
        let mut command = Command::new("sh");
        command.args(["-c", script]).process_group(0).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().expect("sh");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).expect("a line");
        let inner = ProcessRecord::of(line.trim().parse().expect("a pid")).expect("it runs");
        let record = ProcessRecord::of(child.id()).expect("it runs");
        record.stop_group(Duration::from_millis(200)).expect("it ends");
        child.wait().expect("ended");
        wait::until_true("the other ends", Duration::from_secs(5), || Ok(!inner.is_running())).expect("it ends");
    }

    #[test]
    fn a_record_survives_on_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("self.json");
        assert_eq!(ProcessRecord::load(&path).expect("fine"), None);
        let record = ProcessRecord::of_self().expect("a record");
        record.save(&path).expect("saved");
        assert_eq!(ProcessRecord::load(&path).expect("fine"), Some(record));
    }

    #[test]
    fn a_process_that_was_paused_stands_still_until_it_goes_on() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
        let record = ProcessRecord::of(child.id()).expect("a record");
        record.pause().expect("it pauses");
        assert!(record.stands_still().expect("its threads"));
        record.go_on().expect("it goes on");
        let goes_on = wait::until_true("it to go on", Duration::from_secs(5), || Ok(!record.stands_still()?));
        record.kill();
        child.wait().expect("it ended");
        goes_on.expect("it goes on");
    }
}
