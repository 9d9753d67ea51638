//! How the time until a stack is Ready is spent: the reasons of its status, and how long each lasted.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Observed, Stack};

/// The reasons of a stack that was not ready, in order.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    steps: Vec<(Duration, String)>,
    /// From the start to Ready.
    pub total: Duration,
}

impl Stack {
    /// Waits until the stack is Ready, from a moment before it was applied, and records its reasons.
    pub async fn ready_timeline(&self, started: Instant, limit: Duration) -> Result<Timeline> {
        let mut timeline = Timeline::default();
        let what = format!("the stack {} to be Ready", self.name);
        self.wait(&what, limit, async || {
            let status = self.status().await?;
            let ready = status.condition("Ready").unwrap_or_default();
            if status.is_current() && ready.status == "True" {
                timeline.total = started.elapsed();
                return Ok(Observed::Met(()));
            }
            timeline.see(started.elapsed(), &ready.message);
            Ok(Observed::NotYet(status.line("Ready")))
        })
        .await?;
        Ok(timeline)
    }
}

impl Timeline {
    fn see(&mut self, at: Duration, message: &str) {
        let message = if message.is_empty() { "the first status" } else { message };
        if self.steps.last().is_none_or(|(_, last)| last != message) {
            self.steps.push((at, message.to_owned()));
        }
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Ready after {:.1} s", self.total.as_secs_f64())?;
        let ends = self.steps.iter().skip(1).map(|(at, _)| *at).chain([self.total]);
        for ((start, message), end) in self.steps.iter().zip(ends) {
            let took = end.saturating_sub(*start).as_secs_f64();
            write!(formatter, "\n    {took:5.1} s waiting for {message}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_ends_where_the_next_begins() {
        let mut timeline = Timeline { total: Duration::from_secs(5), ..Timeline::default() };
        for (at, message) in [(0, ""), (1, "database"), (2, "database"), (3, "api")] {
            timeline.see(Duration::from_secs(at), message);
        }
        let expected = "Ready after 5.0 s\n      1.0 s waiting for the first status\n      2.0 s waiting for database\n      2.0 s waiting for api";
        assert_eq!(timeline.to_string(), expected);
    }
}
