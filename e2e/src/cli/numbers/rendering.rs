//! How long the operator takes to work out what a stack needs, by its own `render`: many stacks against one, so that the
//! start of the program does not count.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::engine::process::Run;
use crate::scenarios::kit::{operator_binary, project};

const STACKS: u32 = 500;

/// Each of many stacks, with all that `examples/development.yaml` has.
pub(super) fn one() -> Result<String> {
    let example = fs::read_to_string(project().join("examples/development.yaml"))?;
    let many = vec![example.as_str(); STACKS as usize].join("\n---\n");
    let each = took(&many)?.saturating_sub(took(&example)?) / (STACKS - 1);
    Ok(format!("{} µs", each.as_micros()))
}

fn took(manifest: &str) -> Result<Duration> {
    let operator = operator_binary()?;
    let started = Instant::now();
    let rendered =
        Run::new(operator, ["render", "--output=json", "-"]).input(manifest).output().context("failed to render")?;
    let took = started.elapsed();
    anyhow::ensure!(rendered.contains(r#""kind":"Deployment""#), "nothing was rendered: {rendered}");
    Ok(took)
}
