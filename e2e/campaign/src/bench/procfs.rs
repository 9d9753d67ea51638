//! What the kernel says about a process: its processor time and its memory.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use rorun_e2e::engine::record::ProcessRecord;

/// Processor time that all threads of a process have had, those that ended too.
///
/// From `schedstat` of each thread, in nanoseconds: `stat` counts in ticks of 10 ms.
pub(super) fn processor_time(process: &ProcessRecord) -> Result<Duration> {
    let pid = process.pid();
    let folder = format!("/proc/{pid}/task");
    let mut nanoseconds = 0;
    for entry in fs::read_dir(&folder).with_context(|| format!("no process {pid}"))? {
        // A thread may end between the list and here.
        let Ok(text) = fs::read_to_string(entry?.path().join("schedstat")) else { continue };
        nanoseconds += on_processor(&text).with_context(|| format!("schedstat of a thread of {pid}: {text}"))?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Processor time that the thread which asks has had.
pub(super) fn own_time() -> Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(Duration::from_nanos(on_processor(&text).with_context(|| format!("schedstat of this thread: {text}"))?))
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    /// What is resident.
    pub(super) resident: u64,
    /// Of this what is its own: no mapped file, such as its code.
    pub(super) own: u64,
    /// The most that ever was resident.
    pub(super) most: u64,
}

/// The memory of a process.
pub(super) fn memory(process: &ProcessRecord) -> Result<Memory> {
    let pid = process.pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("no process {pid}"))?;
    let bytes = |name: &str| field(&status, name).with_context(|| format!("no {name} of process {pid}"));
    Ok(Memory { resident: bytes("VmRSS:")?, own: bytes("RssAnon:")?, most: bytes("VmHWM:")? })
}

/// The model of the processor and how many there are.
pub(super) fn processors() -> Result<(String, usize)> {
    let text = fs::read_to_string("/proc/cpuinfo")?;
    let model = text.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let count = text.lines().filter(|line| line.starts_with("processor")).count();
    Ok((model.trim_start_matches([' ', '\t', ':']).to_owned(), count))
}

/// The first of the three numbers: nanoseconds on a processor.
fn on_processor(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

/// A line of `status`, which counts in kibibytes.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_time_on_a_processor() {
        for (text, expected) in
            [("123456789 42 7\n", Some(123_456_789)), ("0 0 0", Some(0)), ("", None), ("fast 1 2", None)]
        {
            assert_eq!(on_processor(text), expected, "{text:?}");
        }
    }

    #[test]
    fn reads_kibibytes_as_bytes() {
        let status = "Name:\tVmRSS: x\nVmHWM:\t   20480 kB\nVmRSS:\t    1024 kB\nThreads:\t4\n";
        for (name, expected) in
            [("VmRSS:", Some(1024 * 1024)), ("VmHWM:", Some(20480 * 1024)), ("Threads:", None), ("VmSwap:", None)]
        {
            assert_eq!(field(status, name), expected, "{name}");
        }
    }

    #[test]
    fn a_process_that_works_has_had_time() {
        let this = ProcessRecord::of_self().expect("a record");
        assert!(processor_time(&this).expect("its time") > Duration::ZERO);
        let memory = memory(&this).expect("its memory");
        assert!(memory.own > 0 && memory.resident > memory.own && memory.most >= memory.resident);
    }
}
