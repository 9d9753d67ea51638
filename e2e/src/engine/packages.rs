//! Debian packages that the machine lacks. Installed only when missing, and said so.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use super::process::{Run, find_program};
use super::progress::Step;
use super::wait;

/// How long another program may be installing: a machine that has just started may be updating itself.
const LOCKED_FOR: Duration = Duration::from_mins(5);

/// The cluster and the images install what they need side by side, and apt-get fails beside another.
static INSTALLING: Mutex<()> = Mutex::new(());

/// Makes sure that the packages are installed; `why` is told to the person when they are not.
pub fn ensure(packages: &[&str], why: &str) -> Result<()> {
    if missing(packages)?.is_empty() {
        return Ok(());
    }
    let _alone = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let missing = missing(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    Step::of(&format!("installing {} with apt-get", missing.join(" ")), why, || {
        update()?;
        let install = ["install", "--quiet", "--yes", "--no-install-recommends"];
        apt_get(&[&install[..], &missing].concat())
    })
}

fn missing<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
    let query = find_program("dpkg-query").with_context(|| {
        format!("this machine has no dpkg: install the equivalents of {} by hand", packages.join(" "))
    })?;
    let installed = |package: &str| {
        Run::new(&query, ["--show", "--showformat=${db:Status-Status}", package])
            .output()
            .is_ok_and(|status| status == "installed")
    };
    Ok(packages.iter().copied().filter(|package| !installed(package)).collect())
}

/// The option that makes apt-get wait for dpkg's lock says nothing of that of the lists, which ends it at once.
fn update() -> Result<()> {
    wait::until_true("another apt-get to be done with the lists", LOCKED_FOR, || {
        match apt_get(&["update", "--quiet"]) {
            Err(error) if error.to_string().contains("lists/lock") => Ok(false),
            result => result.map(|()| true),
        }
    })
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let root = rustix::process::geteuid().is_root();
    let program: &[&str] = if root { &["apt-get"] } else { &["sudo", "--non-interactive", "apt-get"] };
    let lock = format!("--option=DPkg::Lock::Timeout={}", LOCKED_FOR.as_secs());
    let words = [program, &[&lock], arguments].concat();
    Run::new(words[0], &words[1..]).env("DEBIAN_FRONTEND", "noninteractive").output()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_named() {
        let found = missing(&["dpkg", "rorun-no-such-package"]).expect("this is Debian");
        assert_eq!(found, ["rorun-no-such-package"]);
    }
}
