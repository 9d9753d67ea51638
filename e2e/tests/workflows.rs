//! The workflows of the project, and those that it has for its users, checked by actionlint and by rules of the project.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rorun_e2e::engine::process::Run;
use rorun_e2e::engine::{Cache, tools};
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn workflows() -> Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    for folder in [".github/workflows", "examples/github-actions"] {
        for entry in fs::read_dir(root().join(folder))? {
            let path = entry?.path();
            found.push((path.clone(), fs::read_to_string(&path)?));
        }
    }
    found.sort();
    Ok(found)
}

fn lint(files: &[&Path]) -> Result<String> {
    let actionlint = tools::ACTIONLINT.path(&Cache::from_env()?)?;
    // Without ShellCheck, which not every machine has: the result is the same on all of them.
    Run::new(&actionlint, ["-no-color", "-shellcheck=", "-pyflakes="]).args(files).folder(&root()).output()
}

#[test]
fn actionlint_finds_nothing() -> Result<()> {
    let workflows = workflows()?;
    let files: Vec<&Path> = workflows.iter().map(|(path, _)| path.as_path()).collect();
    assert_eq!(files.len(), 5, "{files:?}");
    assert_eq!(lint(&files)?, "");
    Ok(())
}

/// The linter runs, and its exit code counts.
#[test]
fn actionlint_finds_what_is_wrong() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (_, workflow) = workflows()?.into_iter().find(|(path, _)| path.ends_with("production.yaml")).context("none")?;
    let broken = folder.path().join("broken.yaml");
    fs::write(&broken, workflow.replace("needs: ask", "needs: asked"))?;
    let said = lint(&[&broken]).err().context("it found nothing")?.to_string();
    assert!(said.contains("asked"), "{said}");
    Ok(())
}

/// A script has no `${{ }}`, which puts text that others write (a branch, a title) into the source of the shell.
#[test]
fn scripts_take_values_from_variables() -> Result<()> {
    for (path, text) in workflows()? {
        let workflow: Value = serde_saphyr::from_str(&text)?;
        let jobs = workflow["jobs"].as_object().with_context(|| format!("{}: no jobs", path.display()))?;
        for (name, job) in jobs {
            for script in job["steps"].as_array().into_iter().flatten().filter_map(|step| step["run"].as_str()) {
                assert!(!script.contains("${{"), "{}: {name}: {script}", path.display());
            }
            let bounded = job["timeout-minutes"].is_u64() || job["uses"].is_string();
            assert!(bounded, "{}: {name} may run for hours", path.display());
        }
        assert_eq!(workflow["permissions"], json!({"contents": "read"}), "{}", path.display());
    }
    Ok(())
}

/// The token that may approve is that of the job that the reviewers of the environment let start.
#[test]
fn only_the_job_that_reviewers_let_start_may_approve() -> Result<()> {
    let workflow: Value =
        serde_saphyr::from_str(&fs::read_to_string(root().join("examples/github-actions/production.yaml"))?)?;
    let jobs = workflow["jobs"].as_object().context("no jobs")?;
    let approving = |job: &Value| job.to_string().contains("PRODUCTION_APPROVER_KUBECONFIG");
    let names: Vec<_> = jobs.iter().filter(|(_, job)| approving(job)).map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["approve"]);
    assert_eq!(jobs["approve"]["environment"]["name"], "production");
    assert!(!jobs["approve"].to_string().contains("PRODUCTION_EDITOR_KUBECONFIG"));
    Ok(())
}

#[test]
fn the_operator_that_they_name_is_of_this_version() -> Result<()> {
    let image = format!("ghcr.io/rorun/rorun-operator:{}", env!("CARGO_PKG_VERSION"));
    for file in ["staging.yaml", "production.yaml"] {
        let workflow = fs::read_to_string(root().join("examples/github-actions").join(file))?;
        assert!(workflow.contains(&format!("OPERATOR: {image}\n")), "{file} does not name {image}");
    }
    Ok(())
}
