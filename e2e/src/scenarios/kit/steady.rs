//! Requests without pause while something happens: whether a user would have noticed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::App;
use crate::engine::progress;

/// Often enough that a pod that is gone too early is met, and seldom enough to leave the machine to the pods.
const EVERY: Duration = Duration::from_millis(25);
/// How long a user waits. One request follows the other, so a longer one would also keep the client from asking.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// How many requests in a second there are at least, on average: fewer meet no pod that is gone for a moment. A client that asks 20 times
/// is meant, and the machine has other work.
const AT_LEAST: usize = 10;

/// How the requests ended.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// How many were answered with 200, by the release that answered.
    pub answered: BTreeMap<String, usize>,
    /// What the others ended with.
    pub failed: Vec<String>,
    /// How long it was asked.
    pub took: Duration,
}

impl Asked {
    /// How many there were.
    pub fn count(&self) -> usize {
        self.answered.values().sum::<usize>() + self.failed.len()
    }

    /// An error unless it was asked often enough and all were answered.
    pub fn without_failure(&self) -> Result<()> {
        ensure!(self.count() > 0, "nothing was asked");
        let seconds = usize::try_from(self.took.as_secs())?;
        ensure!(
            self.count() >= AT_LEAST * seconds,
            "only {} requests in {seconds} s, fewer than {AT_LEAST} in each",
            self.count()
        );
        ensure!(self.failed.is_empty(), "{} of {} requests failed: {:?}", self.failed.len(), self.count(), self.failed);
        Ok(())
    }
}

impl App {
    /// Does something while a client asks, and fails if one of its requests did. The requests are counted and noted.
    pub async fn unnoticed<T>(&self, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let (done, asked) = self.asked_while(work).await.with_context(|| what.to_owned())?;
        let (count, failed, seconds) = (asked.count(), asked.failed.len(), asked.took.as_secs());
        progress::note(&format!("{what}: {count} requests in {seconds} s, {failed} failed"));
        asked.without_failure().with_context(|| what.to_owned())?;
        Ok(done)
    }

    /// Asks for the version, again and again, while the work is done.
    pub async fn asked_while<T>(&self, work: impl Future<Output = Result<T>>) -> Result<(T, Asked)> {
        let asked = RefCell::new(Asked::default());
        let started = Instant::now();
        let ask = async {
            let mut ticks = interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let answer = timeout(ANSWERED_WITHIN, self.version()).await;
                let late = || anyhow!("no answer within {} s", ANSWERED_WITHIN.as_secs());
                let answer = answer.unwrap_or_else(|_| Err(late()));
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
        Ok((done, Asked { took: started.elapsed(), ..asked.into_inner() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that asks twice in a second would not notice that nobody answers for a moment.
    #[test]
    fn requests_that_are_too_few_prove_nothing() {
        let asked = |answered: usize, failed: usize, seconds| Asked {
            answered: [("1".to_owned(), answered)].into(),
            failed: vec!["refused".to_owned(); failed],
            took: Duration::from_secs(seconds),
        };
        let said = |asked: Asked| asked.without_failure().map_err(|error| error.to_string()).err();
        assert_eq!(said(asked(0, 0, 0)).as_deref(), Some("nothing was asked"));
        assert_eq!(said(asked(3, 0, 0)), None, "a moment");
        assert_eq!(said(asked(300, 0, 30)), None);
        assert_eq!(said(asked(60, 0, 30)).as_deref(), Some("only 60 requests in 30 s, fewer than 10 in each"));
        assert!(said(asked(300, 1, 30)).is_some_and(|said| said.starts_with("1 of 301 requests failed")));
    }
}
