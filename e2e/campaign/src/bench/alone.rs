//! B14 and B15: what needs no API server: how the operator works out what a stack needs, and what it is made of.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rorun_e2e::engine::process::{Run, find_program};
use rorun_e2e::engine::progress;
use rorun_e2e::scenarios::kit::{cargo, operator_binary, project};

use super::stats::{float, median};
use super::table::{Bar, Row};

const STACKS: usize = 500;
/// Fewer under valgrind, which takes fifty times as long.
const COUNTED_STACKS: usize = 20;
const TIMES: usize = 5;
const MIB: f64 = 1024.0 * 1024.0;

/// B14: renders many stacks against one, so that the start of the program does not count.
pub(super) fn render() -> Result<Vec<Row>> {
    // As JSON: reading YAML would be a quarter of the time, and no reconcile reads any.
    let yaml = fs::read_to_string(project().join("examples/development.yaml"))?;
    let example = serde_saphyr::from_str::<serde_json::Value>(&yaml)?.to_string();
    let many = vec![example.as_str(); STACKS].join("\n---\n");
    let mut each = Vec::new();
    for _ in 0..TIMES {
        let extra = took(&many)?.saturating_sub(took(&example)?);
        each.push(extra.div_f64(float(STACKS - 1)));
    }
    let each = median(&each).unwrap_or_default();
    let row = Row::new("B14", "render one stack", each.as_secs_f64() * 1e6, "µs").bar(Bar::AtMost(300.0));
    let row = row.ratio(each.div_duration_f64(as_values(&example)?), "reading and writing the same objects");
    Ok(vec![row.note("with reading it"), allocations(&example)?])
}

/// The floor: how long it takes to read the objects of a stack, as values, and to write them.
fn as_values(example: &str) -> Result<Duration> {
    let objects = Run::new(operator_binary()?, ["render", "--output=json", "-"]).input(example).output()?;
    let mut all = Vec::new();
    for _ in 0..TIMES {
        let started = Instant::now();
        for _ in 0..STACKS {
            for object in objects.lines() {
                std::hint::black_box(serde_json::from_str::<serde_json::Value>(object)?.to_string());
            }
        }
        all.push(started.elapsed().div_f64(float(STACKS)));
    }
    median(&all).context("nothing was read")
}

fn took(manifest: &str) -> Result<Duration> {
    let operator = operator_binary()?;
    let started = Instant::now();
    let render = Run::new(operator, ["render", "--output=name", "-"]).input(manifest);
    let rendered = render.output().context("failed to render")?;
    let took = started.elapsed();
    anyhow::ensure!(rendered.contains("deployment.apps/"), "nothing was rendered: {rendered}");
    Ok(took)
}

/// Allocations by valgrind. It sees those of a binary that is linked dynamically, so they are those of the debug build.
fn allocations(example: &str) -> Result<Row> {
    let row = |value, note: &str| Row::new("B14", "allocations to render one stack", value, "").note(note);
    let Some(valgrind) = find_program("valgrind") else { return Ok(row(f64::NAN, "no valgrind")) };
    let build = ["build", "--quiet", "--workspace", "--bin=rorun-operator", "--message-format=json"];
    let messages = cargo(build).folder(&project()).output()?;
    let binary = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "rorun-operator")
        .find_map(|message| message["executable"].as_str().map(str::to_owned))
        .context("cargo names no binary of the operator")?;
    let count = |manifest: &str| -> Result<f64> {
        let log = tempfile::NamedTempFile::new()?;
        let arguments = ["--leak-check=no", "--undef-value-errors=no", &format!("--log-file={}", log.path().display())];
        let run = Run::new(&valgrind, arguments).args([&binary, "render", "--output=name", "-"]).input(manifest);
        run.output().context("failed to run valgrind")?;
        total_allocations(&fs::read_to_string(log.path())?).context("valgrind counted no allocations")
    };
    let many = vec![example; COUNTED_STACKS].join("\n---\n");
    let each = (count(&many)? - count(example)?) / float(COUNTED_STACKS - 1);
    Ok(row(each.round(), "by valgrind, of the debug build, with reading it"))
}

/// From `total heap usage: 1,234 allocs, 1,230 frees, 56,789 bytes allocated`.
fn total_allocations(log: &str) -> Option<f64> {
    let (_, rest) = log.split_once("total heap usage: ")?;
    let (count, _) = rest.split_once(" allocs")?;
    count.replace(',', "").parse().ok()
}

/// B15: the sizes of what is shipped, and what it is built of.
pub(super) fn artefacts(clean_build: bool) -> Result<Vec<Row>> {
    let size = |path: &Path| -> Result<f64> {
        let length = fs::metadata(path).with_context(|| format!("no {}", path.display()))?.len();
        Ok(float(usize::try_from(length)?) / MIB)
    };
    let binary = size(&operator_binary()?)?;
    let image = binary + size(Path::new("/etc/ssl/certs/ca-certificates.crt"))?;
    let crates = float(crates()?);
    let mut rows = vec![
        Row::new("B15", "binary", binary, "MiB"),
        Row::new("B15", "image", image, "MiB").bar(Bar::AtMost(25.0)).note("binary and authorities, all that it has"),
        Row::new("B15", "crates that the operator is built of", crates, "").bar(Bar::AtMost(300.0)),
    ];
    if clean_build {
        rows.push(Row::new("B15", "clean build of the image's binary", build_time()?.as_secs_f64(), "s"));
    }
    Ok(rows)
}

/// Those that are linked in, or run to build what is.
fn crates() -> Result<usize> {
    let tree = ["tree", "--package=rorun-operator", "--edges=normal,build", "--prefix=none", "--format={p}"];
    let printed = cargo(tree).folder(&project()).output()?;
    // The second word is the version; what follows says that it was listed before.
    let name = |line: &str| line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
    let found: BTreeSet<Vec<String>> = printed.lines().map(name).filter(|words| !words.is_empty()).collect();
    Ok(found.len() - 1)
}

fn build_time() -> Result<Duration> {
    let folder = tempfile::tempdir()?;
    progress::Step::of("building the operator from nothing", "to time it", || {
        let started = Instant::now();
        let build = ["build", "--quiet", "--release", "--package=rorun-operator", "--target-dir"];
        cargo(build).arg(folder.path()).folder(&project()).output()?;
        Ok(started.elapsed())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_valgrind_counted() {
        let log = "==1==   total heap usage: 1,234,567 allocs, 1,230 frees, 56,789 bytes allocated\n";
        for (text, expected) in
            [(log, Some(1_234_567.0)), ("==1== nothing", None), ("total heap usage: x allocs", None)]
        {
            assert_eq!(total_allocations(text), expected, "{text}");
        }
    }
}
