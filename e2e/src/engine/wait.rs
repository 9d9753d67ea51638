//! The one loop that waits for something outside: everything else waits on a condition through it.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks `condition` until it gives a value. An error ends the wait at once; `what` names what never came.
pub fn until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(10);
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if started.elapsed() > limit {
            bail!("gave up after {} s: {what}", limit.as_secs());
        }
        thread::sleep(pause);
        pause = (pause * 3 / 2).min(Duration::from_millis(250));
    }
}

/// [`until`] for a condition that is just true or false.
pub fn until_true(what: &str, limit: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    until(what, limit, || Ok(condition()?.then_some(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_until_there_is_a_value_and_names_what_never_came() {
        let mut asked = 0;
        let value = until("three", Duration::from_secs(5), || {
            asked += 1;
            Ok((asked == 3).then_some(asked))
        });
        assert_eq!(value.expect("it came"), 3);
        let error = until_true("godot", Duration::ZERO, || Ok(false)).expect_err("never comes");
        assert!(error.to_string().contains("godot"));
        until_true("broken", Duration::from_mins(1), || bail!("broken")).expect_err("ends at once");
    }
}
