//! Requests without pause while something happens: whether a user would have noticed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::{MissedTickBehavior, interval};

use super::App;
use crate::engine::progress;

/// Often enough that a pod that is gone too early is met, and seldom enough to leave the machine to the pods.
const EVERY: Duration = Duration::from_millis(25);

/// How the requests ended.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// How many were answered with 200, by the release that answered.
    pub answered: BTreeMap<String, usize>,
    /// What the others ended with.
    pub failed: Vec<String>,
}

impl Asked {
    /// How many there were.
    pub fn count(&self) -> usize {
        self.answered.values().sum::<usize>() + self.failed.len()
    }

    /// An error unless there were some and all were answered.
    pub fn without_failure(&self) -> Result<()> {
        ensure!(self.count() > 0, "nothing was asked");
        ensure!(self.failed.is_empty(), "{} of {} requests failed: {:?}", self.failed.len(), self.count(), self.failed);
        Ok(())
    }
}

impl App {
    /// Does something while a client asks, and fails if one of its requests did. The requests are counted and noted.
    pub async fn unnoticed<T>(&self, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let (done, asked) = self.asked_while(work).await.with_context(|| what.to_owned())?;
        progress::note(&format!("{what}: {} requests, {} failed", asked.count(), asked.failed.len()));
        asked.without_failure().with_context(|| what.to_owned())?;
        Ok(done)
    }

    /// Asks for the version, again and again, while the work is done.
    pub async fn asked_while<T>(&self, work: impl Future<Output = Result<T>>) -> Result<(T, Asked)> {
        let asked = RefCell::new(Asked::default());
        let ask = async {
            let mut ticks = interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let answer = self.version().await;
                let mut asked = asked.borrow_mut();
                match answer {
                    Ok(version) => *asked.answered.entry(version).or_default() += 1,
                    Err(error) => asked.failed.push(format!("{error:#}")),
                }
            }
        };
        let done = tokio::select! {
            done = work => done?,
            () = ask => anyhow::bail!("the requests ended"),
        };
        Ok((done, asked.into_inner()))
    }
}
