//! `rorun-operator promote`: the images that one stack has proven become the image lines of another, in a file for a pull request.
//!
//! What enters: a stack with its status, and a file with a RorunStack. What leaves: the same file with other images, each with its
//! digest. Nothing is written to a cluster.

mod manifest;
mod source;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use jiff::Timestamp;

use self::{
    manifest::{Manifest, ManifestError},
    source::Asked,
};
use super::CliError;
use crate::{
    names::{Component, image::ImageName},
    stack::{WORKLOADS, full_image},
};

/// What to promote, and where to.
#[derive(Debug, Args)]
pub(super) struct PromoteArgs {
    /// The stack whose images are proven: its name, with `.NAMESPACE` or `-n`; or a file with it, as `kubectl get rstack NAME
    /// --output yaml` prints it, or - for standard input
    #[arg(long, value_name = "STACK|FILE")]
    from: String,
    /// The namespace of that stack; that of the kubeconfig's context if omitted
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// The file whose image lines are to be those images; all else in it stays as it is
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// The name of the RorunStack in that file, where it has several
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How long the release must have served without a restart, e.g. 30m or 24h
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = age)]
    min_age: Duration,
    /// Promotes what served last, also if it is not proven: the stack is not Ready, or another release is on its way
    #[arg(long)]
    unproven: bool,
}

/// Why nothing was promoted.
#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    /// A file could not be read or written.
    #[error("failed to {0} {1}: {2}")]
    File(&'static str, String, #[source] io::Error),
    /// The source is in no namespace.
    #[error("--namespace does not go with --from {0}, which {1}")]
    Namespace(String, &'static str),
    /// The source could not be read from the cluster.
    #[error("failed to read rorunstack/{0} in the namespace {1}: {2}")]
    Get(String, String, #[source] Box<kube::Error>),
    /// The source is not what can be promoted.
    #[error("failed to promote {0}: {1}")]
    Source(String, String),
    /// The file cannot be edited.
    #[error("failed to edit {0}: {1}")]
    Manifest(String, #[source] ManifestError),
    /// The two have different components.
    #[error("failed to promote to {0}: {1}; a promotion adds and removes no component, so edit the file first")]
    Components(String, String),
}

fn age(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<jiff::SignedDuration>().map_err(|error| error.to_string())?;
    Duration::try_from(parsed).map_err(|_| "not less than 0s".to_owned())
}

/// Promotes, and prints to `out` what became of each image line.
pub(super) async fn run(args: PromoteArgs, out: &mut impl Write) -> Result<(), CliError> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a command of the user, who asks how long something has served until now"
    )]
    let asked = Asked { proof: !args.unproven, age: args.min_age, now: Timestamp::now() };
    let stack = source::read(&args.from, args.namespace.as_deref()).await?;
    let release = source::judge(&stack, asked).map_err(|why| PromoteError::Source(args.from.clone(), why))?;
    let to = args.to.display().to_string();
    let text = fs::read_to_string(&args.to).map_err(|error| PromoteError::File("read", to.clone(), error))?;
    let Promoted { text: promoted, lines } = promote(&release.images, (&to, &text), args.name.as_deref())?;
    let changes = lines.iter().filter(|line| line.before != line.after).count();
    if changes > 0 {
        replace(&args.to, &promoted).map_err(|error| PromoteError::File("write", to.clone(), error))?;
    }
    writeln!(out, "{}", release.said)?;
    for Line { component, before, after } in &lines {
        let change = if before == after { format!("{after} (as before)") } else { format!("{before} → {after}") };
        writeln!(out, "{component}: {change}")?;
    }
    let total = lines.len();
    match changes {
        0 => writeln!(out, "{to}: nothing to change")?,
        _ => writeln!(out, "{to}: changed {changes} of {total} image lines")?,
    }
    Ok(())
}

/// A file with the images of a release.
#[derive(Debug)]
struct Promoted {
    text: String,
    lines: Vec<Line>,
}

/// An image line, before and after.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    component: Component,
    before: String,
    after: String,
}

/// Puts images into the RorunStack of a file.
fn promote(
    images: &BTreeMap<Component, String>,
    (file, text): (&str, &str),
    name: Option<&str>,
) -> Result<Promoted, PromoteError> {
    let refused = |error| PromoteError::Manifest(file.to_owned(), error);
    let manifest = Manifest::find(text, name).map_err(refused)?;
    let there = manifest.components();
    let here = images.keys().copied().collect();
    if let Some(component) = there.symmetric_difference(&here).next() {
        let side =
            if there.contains(component) { "in it, and not in the release" } else { "in the release, and not in it" };
        return Err(PromoteError::Components(file.to_owned(), format!("{component} is {side}")));
    }
    let mut lines = Vec::new();
    let ordered = WORKLOADS.into_iter().filter_map(|component| Some((component, images.get(&component)?)));
    for (component, image) in ordered {
        let before = manifest.line(component).map_err(refused)?.image.clone();
        let after = written(manifest.registry.as_deref(), &before, image);
        lines.push(Line { component, before, after });
    }
    let changed = lines.iter().filter(|line| line.before != line.after);
    let changed = changed.map(|line| (line.component, line.after.clone())).collect();
    let text = manifest.with(text, &changed).map_err(refused)?;
    Ok(Promoted { text, lines })
}

/// How an image is written where this registry is put before bare names: as it is, if it is that image already; without the
/// registry, if it is the same; or in full.
fn written(registry: Option<&str>, before: &str, image: &str) -> String {
    let means = |text: &str| {
        let full = full_image(registry, text);
        let (full, wanted) = (ImageName::new(&full), ImageName::new(image));
        full.is_same(&wanted) && full.tag == wanted.tag
    };
    let short = registry.and_then(|registry| image.strip_prefix(registry.trim_end_matches('/'))?.strip_prefix('/'));
    let candidates = [Some(before), short, Some(image)];
    candidates.into_iter().flatten().find(|text| means(text)).map_or_else(|| in_full(image), str::to_owned)
}

/// An image with the registry that its name leaves out.
fn in_full(image: &str) -> String {
    let name = ImageName::new(image);
    format!("{}{}", name.full_repository(), &image[name.repository.len()..])
}

/// Writes a file beside another, and puts it in its place: whoever reads sees the one or the other. A link stays a link.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let file = fs::canonicalize(file)?;
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut beside = tempfile::NamedTempFile::new_in(folder)?;
    beside.write_all(text.as_bytes())?;
    beside.as_file().set_permissions(fs::metadata(&file)?.permissions())?;
    beside.as_file().sync_all()?;
    beside.persist(&file)?;
    Ok(())
}
