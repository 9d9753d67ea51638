//! The audit log of a test server: the calls since a mark.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{AuditCall, OURSELVES, TestServer, audit};
use crate::engine::wait;

/// How much of the log is read at once to find the end of a line: a line is some KB.
const READ_BACK: u64 = 64 * 1024;

/// A place in the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u64);

impl TestServer {
    /// A place in the audit log after every call that was answered so far, for [`TestServer::calls_since`].
    pub fn mark(&self) -> Result<Mark> {
        self.flush()?;
        self.end_of_last_line()
    }

    /// The calls answered since the mark; those of the engine itself are left out. Every call whose answer the client
    /// has read to its end is in: the server logs a call before it ends the answer, and does not go on before the line
    /// is written. A watch counts when it has ended.
    pub fn calls_since(&self, mark: Mark) -> Result<Vec<AuditCall>> {
        self.flush()?;
        let calls = audit::parse(&self.log_since(mark)?).context("failed to read the audit log")?;
        Ok(calls.into_iter().filter(|call| call.user_agent != OURSELVES).collect())
    }

    /// The audit log since the mark as it is written, an event a line, for what [`TestServer::calls_since`] leaves out: bodies.
    pub fn events_since(&self, mark: Mark) -> Result<String> {
        self.flush()?;
        self.log_since(mark)
    }

    /// Makes a call that can be told from any other and waits for it in the log.
    fn flush(&self) -> Result<()> {
        let from = Mark(fs::metadata(&self.audit_log).map_or(0, |file| file.len()));
        let path = format!("/version?mark={}", self.marks.fetch_add(1, Ordering::Relaxed));
        self.endpoint.status(&path, OURSELVES)?.context("the test server does not answer")?;
        let written = format!("\"{path}\"");
        wait::until_true("the call appears in the audit log", Duration::from_secs(10), || {
            Ok(self.log_since(from)?.split_inclusive('\n').any(|line| line.contains(&written) && line.ends_with('\n')))
        })
    }

    /// Takes away a line that the API server had begun when it was killed.
    pub(super) fn end_log_with_a_line(&self) -> Result<()> {
        let Mark(end) = self.end_of_last_line()?;
        File::options().write(true).open(&self.audit_log)?.set_len(end)?;
        Ok(())
    }

    /// Where the audit log has its last whole line: what comes after is of a call that is not answered yet.
    fn end_of_last_line(&self) -> Result<Mark> {
        let mut file = File::open(&self.audit_log)?;
        let mut end = file.metadata()?.len();
        let mut bytes = Vec::new();
        while end > 0 {
            let from = end.saturating_sub(READ_BACK);
            file.seek(SeekFrom::Start(from))?;
            bytes.resize(usize::try_from(end - from)?, 0);
            file.read_exact(&mut bytes)?;
            if let Some(last) = bytes.iter().rposition(|&byte| byte == b'\n') {
                return Ok(Mark(from + u64::try_from(last)? + 1));
            }
            end = from;
        }
        Ok(Mark(0))
    }

    fn log_since(&self, mark: Mark) -> Result<String> {
        let mut file = File::open(&self.audit_log)?;
        file.seek(SeekFrom::Start(mark.0))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
