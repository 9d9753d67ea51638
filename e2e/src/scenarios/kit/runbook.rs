//! The pages of `docs/runbooks`, played from their own text: the commands that a user copies are those that run here.

use std::ffi::OsString;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use super::images::{operator_binary, project};
use super::{TestContext, test_cluster::blocking};
use crate::engine::process::Run;
use crate::engine::progress;

/// What a page says.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    /// The variables that its user sets.
    variables: Vec<String>,
    /// Its commands, in order.
    script: String,
}

impl Page {
    fn read(text: &str) -> Page {
        let (mut variables, mut script) = (Vec::new(), String::new());
        let mut blocks = text.split("\n```");
        // Before the first fence stands no command; every other piece is within one.
        blocks.next();
        for block in blocks.step_by(2) {
            let (language, commands) = block.split_once('\n').unwrap_or((block, ""));
            match language.trim() {
                "sh" => script.extend([commands, "\n"]),
                "sh set" => {
                    let words = commands.split_whitespace().filter_map(|word| word.split_once('='));
                    variables.extend(words.map(|(name, _)| name.to_owned()));
                }
                _ => {}
            }
        }
        Page { variables, script }
    }
}

impl TestContext {
    /// Plays a page in a namespace, with a value for each variable that its user sets. Gives what its commands printed, and how long
    /// they took.
    pub async fn runbook(&self, page: &str, namespace: &str, variables: &[(&str, &str)]) -> Result<(String, Duration)> {
        let file = project().join("docs/runbooks").join(page);
        let Page { variables: named, script } =
            Page::read(&fs::read_to_string(&file).context(file.display().to_string())?);
        let given: Vec<&str> = variables.iter().map(|(name, _)| *name).collect();
        ensure!(named == given, "{page} has its user set {named:?}, and the scenario sets {given:?}");
        ensure!(script.contains("kubectl"), "{page} has no command");
        let folder = tempfile::tempdir()?;
        let kubeconfig = folder.path().join("kubeconfig");
        fs::copy(&self.cluster.kubeconfig, &kubeconfig)?;
        let mut path = OsString::new();
        for program in [self.kubectl_path().to_owned(), operator_binary()?] {
            path.push(program.parent().context("a program is in a folder")?);
            path.push(":");
        }
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let own = format!("kubectl config set-context --current --namespace={namespace}\n");
        let mut run = Run::new("bash", ["-euo", "pipefail", "-c", &(own + &script)]).folder(folder.path());
        run = run.env("KUBECONFIG", &kubeconfig).env("PATH", path);
        for (name, value) in variables {
            run = run.env(name, value);
        }
        let started = Instant::now();
        let printed =
            blocking(move || run.output()).await.with_context(|| format!("{page} does not lead to its end"))?;
        let took = started.elapsed();
        progress::note(&format!("runbook {page}: {:.0} s from its first command to its last", took.as_secs_f64()));
        drop(folder);
        Ok((printed, took))
    }
}

/// Tells how much is lost with what a page brings back, if it is lost now: all that came after its recovery point was begun.
#[expect(
    clippy::disallowed_methods,
    reason = "identifiers of recovery points have the time of day, of the same machine"
)]
pub fn lost_with(page: &str, id: &str) -> Result<()> {
    let seconds = age(id, Timestamp::now()).with_context(|| format!("{id} is no recovery point"))?;
    progress::note(&format!("runbook {page}: what was written in the {seconds} s before the loss is lost with it"));
    Ok(())
}

/// How old the data of a point are at a moment, in seconds.
fn age(id: &str, at: Timestamp) -> Option<i64> {
    let begun = DateTime::strptime("%Y%m%dT%H%M%SZ", id.split('-').next()?).ok()?;
    Some(at.as_second() - begun.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_as_old_as_its_beginning() {
        let at = "2026-11-24T02:16:30Z".parse().expect("a moment");
        assert_eq!(age("20261124T021500Z-x7k2p", at), Some(90));
        assert_eq!(age("yesterday", at), None);
    }

    #[test]
    fn a_page_has_variables_and_commands_in_order() {
        let text = "# A\n\n```sh set\nexport A=1 B=two\n```\n\n```text\nno command\n```\n\n```sh\none \\\n  more\n```\nwords\n\n```sh\ntwo\n```\n";
        let expected =
            Page { variables: vec!["A".to_owned(), "B".to_owned()], script: "one \\\n  more\ntwo\n".to_owned() };
        assert_eq!(Page::read(text), expected);
    }

    /// A manifest that is half printed would be applied, and an empty one would keep the next attempt from printing it.
    #[test]
    fn a_spec_that_is_not_printed_leaves_no_manifest() {
        let file = project().join("docs/runbooks/lost-namespace.md");
        let Page { script, .. } = Page::read(&fs::read_to_string(file).expect("the page"));
        let (_, rest) = script.split_once("test -s").expect("the step");
        let (step, _) = rest.split_once("grep").expect("what follows");
        let folder = tempfile::tempdir().expect("a folder");
        let manifest = folder.path().join("stack.yaml");
        let print = |status: u32, text: &str| {
            let own = format!("rorun-operator() {{ echo {text}; return {status}; }}\ntest -s{step}");
            let mut run = Run::new("bash", ["-euo", "pipefail", "-c", &own]).folder(folder.path());
            for (name, value) in [("ENDPOINT", "e"), ("BUCKET", "b"), ("LOCATION", "s3://b/c/")] {
                run = run.env(name, value);
            }
            let printed = run.env("MANIFEST", &manifest).output();
            (printed.is_ok(), fs::read_to_string(&manifest).ok())
        };
        assert_eq!(print(1, "half"), (false, None));
        fs::write(&manifest, "").expect("a file");
        assert_eq!(print(1, "half"), (false, Some(String::new())), "an empty one stops what follows");
        assert_eq!(print(0, "whole"), (true, Some("whole\n".to_owned())));
        assert_eq!(print(1, "half"), (true, Some("whole\n".to_owned())), "one that is there is left as it is");
    }

    #[test]
    fn every_page_says_what_its_user_sets_and_has_commands() {
        let pages = fs::read_dir(project().join("docs/runbooks")).expect("the pages");
        let mut count = 0;
        for page in pages {
            let path = page.expect("a page").path();
            let read = Page::read(&fs::read_to_string(&path).expect("a page"));
            assert!(!read.variables.is_empty() && read.script.contains("kubectl"), "{}: {read:?}", path.display());
            count += 1;
        }
        assert!(count > 0, "no page");
    }
}
