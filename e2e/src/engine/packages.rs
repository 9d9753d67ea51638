//! Debian packages that the machine lacks. Installed only when missing, and said so.

use anyhow::{Context, Result};

use super::process::{Run, find_program};
use super::progress::Step;

/// Makes sure that the packages are installed; `why` is told to the person when they are not.
pub fn ensure(packages: &[&str], why: &str) -> Result<()> {
    let missing = missing(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    Step::of(&format!("installing {} with apt-get", missing.join(" ")), why, || {
        apt_get(&["update", "--quiet"])?;
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

fn apt_get(arguments: &[&str]) -> Result<()> {
    let root = rustix::process::geteuid().is_root();
    let program: &[&str] = if root { &["apt-get"] } else { &["sudo", "--non-interactive", "apt-get"] };
    // A machine that has just started may be installing updates by itself.
    let words = [program, &["--option=DPkg::Lock::Timeout=300"], arguments].concat();
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
