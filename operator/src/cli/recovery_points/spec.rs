//! The RorunStack in a recovery point as a manifest for `kubectl apply`.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use serde_json::Value;

use crate::{
    agent::{self, BackupId, PointSpec, SpecError},
    api::v1alpha1::RorunStackSpec,
    names::Component,
    services::bucket::BucketClient,
    stack::{RestorePoint, WORKLOADS, full_image, references},
};

/// Why no manifest is printed.
#[derive(Debug, thiserror::Error)]
pub enum PrintSpecError {
    /// What is asked for is no point.
    #[error("failed to read {0}: it must be the id of a recovery point, or its URL as --output=location prints it")]
    NoPoint(String),
    /// It is in another bucket.
    #[error("failed to read {0}: it is not in bucket \"{1}\"; name its bucket with --bucket")]
    OtherBucket(String, String),
    /// There is no such point.
    #[error("failed to find recovery point {0} under {1}: name its folder with --prefix")]
    Unknown(BackupId, String),
    /// Several stacks have a point of this id.
    #[error("failed to choose recovery point {0}: it is in {1}; name one of these with --prefix")]
    Several(BackupId, String),
    /// Nothing was known of the images.
    #[error(
        "failed to find the images that served in recovery point {0}: none did when it was made; leave out --pin-images"
    )]
    NoImages(BackupId),
    /// The file with the identity cannot be read.
    #[error("failed to read {0}: {1}")]
    Identity(String, #[source] io::Error),
    /// The point does not give its spec.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The bucket cannot be read.
    #[error(transparent)]
    Bucket(#[from] crate::services::ServiceError),
}

/// The folder of the stack, and the id of the point.
pub(super) async fn find(
    client: &BucketClient,
    prefix: &str,
    point: &str,
) -> Result<(String, BackupId), PrintSpecError> {
    let wrong = || PrintSpecError::NoPoint(point.to_owned());
    if let Some(RestorePoint { id, folder: Some((bucket, folder)), .. }) = RestorePoint::at(point) {
        if bucket != client.bucket() {
            return Err(PrintSpecError::OtherBucket(point.to_owned(), client.bucket().to_owned()));
        }
        return Ok((folder, id.parse().map_err(|_| wrong())?));
    }
    let id: BackupId = point.parse().map_err(|_| wrong())?;
    let points = agent::points(client, prefix).await?.into_iter();
    let folders: Vec<String> = points.filter(|point| point.id == id.as_str()).map(|point| point.prefix).collect();
    match &folders[..] {
        [] => Err(PrintSpecError::Unknown(id, prefix.to_owned())),
        [folder] => Ok((folder.clone(), id)),
        several => Err(PrintSpecError::Several(id, several.join(", "))),
    }
}

/// Prints the manifest after what its reader has to know. `pin`: with the images that served. What it could not pin it tells whoever
/// runs it as well, who may never look into the manifest.
pub(super) fn print(
    mut spec: PointSpec,
    pin: bool,
    out: &mut impl Write,
    notes: &mut impl Write,
) -> Result<(), super::CliError> {
    if pin && spec.images.is_empty() {
        return Err(PrintSpecError::NoImages(spec.id).into());
    }
    writeln!(out, "# The spec in recovery point {}.", spec.id)?;
    let secrets = secrets(&spec.stack);
    if !secrets.is_empty() {
        let secrets: Vec<_> = secrets.iter().map(|name| line(name)).collect();
        writeln!(out, "# It names these Secrets, whose values are in no point: {}", secrets.join(", "))?;
    }
    if pin {
        for (workload, images) in spec.images.iter().filter(|(_, images)| images.len() > 1) {
            let why = match spec.running.get(workload) {
                Some(runs) => format!("and this one when the point was made: {}; of all these: ", line(runs)),
                None => "so it has no digest here: ".to_owned(),
            };
            let (workload, images) = (line(workload), lines(images));
            writeln!(out, "# The pods of {workload} ran several images under one tag, {why}{images}")?;
        }
        for (workload, why) in pin_images(&mut spec) {
            writeln!(notes, "note: the image of {workload} has no digest in this manifest: {why}")?;
        }
    } else if !spec.images.is_empty() {
        writeln!(out, "# What served when it was made, for --pin-images:")?;
        for (workload, images) in &spec.images {
            writeln!(out, "#   {}: {}", line(workload), lines(images))?;
        }
    }
    write!(out, "{}", serde_saphyr::to_string(&spec.stack).map_err(io::Error::other)?)?;
    Ok(())
}

/// The Secrets that have to be there before the stack is, as far as this release reads the spec.
fn secrets(stack: &Value) -> BTreeSet<String> {
    let name = stack.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let text = stack["spec"].to_string();
    let Ok(spec) = serde_json::from_value::<RorunStackSpec>(stack["spec"].clone()) else { return BTreeSet::new() };
    let pulled = spec.image.iter().flat_map(|image| &image.pull_secrets).map(|secret| secret.name.clone());
    let mut found: BTreeSet<String> = references(name, &spec).secrets.into_iter().chain(pulled).collect();
    // Those that others make for the stack are named by no spec.
    found.retain(|name| text.contains(&Value::from(name.as_str()).to_string()));
    found
}

/// Puts the images that served into the workloads that the spec has. Returns those that have no digest then, and why.
fn pin_images(PointSpec { stack, images, running, .. }: &mut PointSpec) -> Vec<(Component, String)> {
    let registry = stack.pointer("/spec/image/registry").and_then(Value::as_str).map(str::to_owned);
    let mut unpinned = Vec::new();
    for workload in WORKLOADS {
        let Some(place) = stack.pointer_mut(&format!("/spec/{workload}/image")) else { continue };
        let images = images.get(workload.as_str()).map_or(&[][..], Vec::as_slice);
        if let Some(image) = running.get(workload.as_str()).map(String::as_str).or_else(|| one(images)) {
            *place = Value::from(within(registry.as_deref(), image));
        }
        if !place.as_str().is_some_and(|image| image.contains('@')) {
            unpinned.push((workload, no_digest(images)));
        }
    }
    unpinned
}

/// The one image that ran, or the tag of all that did.
fn one(images: &[String]) -> Option<&str> {
    match images {
        [image] => Some(image),
        images => images.first()?.split('@').next(),
    }
}

fn no_digest(images: &[String]) -> String {
    match images {
        [] => "it did not serve when the point was made, so the image is the one that the spec asked for".to_owned(),
        [image] => format!(
            "no pod of {} was ready while the operator looked, or its node had the image from no registry; its tag may have \
             been moved since",
            line(image)
        ),
        images => format!("its pods ran several images under one tag; choose one of {}", lines(images)),
    }
}

/// A full name as a spec with this registry says it, which is put before what names none.
fn within<'a>(registry: Option<&str>, image: &'a str) -> &'a str {
    let Some(registry) = registry.filter(|registry| full_image(Some(registry), image) != image) else { return image };
    let short = image.strip_prefix(registry.trim_end_matches('/')).and_then(|rest| rest.strip_prefix('/'));
    short.unwrap_or(image)
}

/// A text that stays in its comment, and looks like what it is: what ends a line for some reader of YAML, or turns the text around, is
/// written by its number.
fn line(text: &str) -> String {
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    let mut line = String::new();
    for c in text.chars() {
        if c.is_control() || (c.is_whitespace() && c != ' ') || turns(c) {
            line.extend(c.escape_unicode());
        } else {
            line.push(c);
        }
    }
    line
}

fn lines(texts: &[String]) -> String {
    texts.iter().map(|text| line(text)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn spec() -> PointSpec {
        let external = json!({"external": {"name": "b", "endpoint": "https://s3.example.com",
            "credentialsSecretRef": {"name": "offsite"}}});
        let spec = json!({
            "environment": "Development",
            "image": {"registry": "ghcr.io/rorun", "pullSecrets": [{"name": "ghcr"}]},
            "api": {"image": "rorun-api:2", "env": [{"name": "SHOUT", "value": "no: #\n"}],
                "envFrom": [{"secretRef": {"name": "mail"}}]},
            "ocr": {"image": "rorun-ocr:2"},
            "database": {"cloudNativePG": {"instances": 1, "storage": {"size": "1Gi"}}},
            "backup": {"destination": external},
        });
        let images = [("api", "ghcr.io/rorun/rorun-api:1"), ("admin", "ghcr.io/rorun/rorun-admin:1")];
        let stack = json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack",
            "metadata": {"name": "shop", "namespace": "n"}, "spec": spec});
        PointSpec {
            id: "20261124T021500Z-x7k2p".parse().unwrap(),
            stack,
            images: images.map(|(of, image)| (of.to_owned(), vec![format!("{image}@{DIGEST}")])).into(),
            running: std::collections::BTreeMap::new(),
        }
    }

    fn printed(spec: PointSpec, pin: bool) -> (String, Value) {
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        print(spec, pin, &mut out, &mut notes).unwrap();
        assert_eq!(pin, !notes.is_empty(), "the OCR service served in none of these points");
        let text = String::from_utf8(out).unwrap();
        let value = serde_saphyr::from_str(&text).unwrap();
        (text, value)
    }

    #[test]
    fn a_spec_is_printed_as_it_was_with_what_its_reader_has_to_know() {
        let (text, value) = printed(spec(), false);
        assert_eq!(value, spec().stack);
        assert!(text.starts_with("# The spec in recovery point 20261124T021500Z-x7k2p.\n"), "{text}");
        assert!(text.contains("whose values are in no point: ghcr, mail, offsite\n"), "{text}");
        assert!(text.contains(&format!("#   api: ghcr.io/rorun/rorun-api:1@{DIGEST}\n")), "{text}");
        // A manifest that somebody else has written adds nothing to it.
        let mut other = spec();
        for end in ["\n", "\r", "\u{85}", "\u{b}", "\u{c}", "\u{2028}", "\u{2029}"] {
            other.images.insert("api".to_owned(), vec![format!("a{end}spec: {{}}")]);
            let (text, value) = printed(other.clone(), false);
            assert_eq!(value, spec().stack);
            let code = format!("#   api: a\\u{{{:x}}}spec: {{}}\n", u32::from(end.chars().next().unwrap()));
            assert!(text.contains(&code), "{text}");
        }
    }

    /// Some readers of YAML take these for ends of lines, and others do not: the manifest means the same to both.
    #[test]
    fn no_value_has_an_end_of_a_line_that_not_all_readers_know() {
        let mut other = spec();
        let value = "a\u{2028}b: c\u{2029}d #\u{85}e";
        other.stack["spec"]["api"]["env"][0]["value"] = json!(value);
        other.stack["metadata"]["labels"] = json!({value: "x"});
        let (text, read) = printed(other.clone(), false);
        assert_eq!(read, other.stack);
        assert!(!text.contains(['\u{2028}', '\u{2029}', '\u{85}']), "{text}");
    }

    #[test]
    fn what_ran_under_one_tag_is_told_and_not_pinned() {
        let mut several = spec();
        let images = ["a", "b"].map(|digest| format!("ghcr.io/rorun/rorun-api:1@sha256:{}", digest.repeat(64)));
        several.images.insert("api".to_owned(), images.to_vec());
        let (text, value) = printed(several.clone(), true);
        assert_eq!(value["spec"]["api"]["image"], "ghcr.io/rorun/rorun-api:1");
        let told = format!(
            "# The pods of api ran several images under one tag, so it has no digest here: {}\n",
            images.join(", ")
        );
        assert!(text.contains(&told), "{text}");
        assert!(printed(several.clone(), false).0.contains(&format!("#   api: {}\n", images.join(", "))));
        // What all pods ran when the point was made is the code that goes with its data.
        several.running.insert("api".to_owned(), images[1].clone());
        let (text, value) = printed(several, true);
        assert_eq!(value["spec"]["api"]["image"], images[1].as_str());
        assert!(text.contains(&format!("when the point was made: {}; of all these: ", images[1])), "{text}");
    }

    #[test]
    fn what_is_not_pinned_is_told_to_who_asked_for_it() {
        let told = |spec: PointSpec| {
            let mut notes = Vec::new();
            print(spec, true, &mut Vec::new(), &mut notes).unwrap();
            String::from_utf8(notes).unwrap()
        };
        let no_ocr = "note: the image of ocr has no digest in this manifest: it did not serve when the point was made";
        let text = told(spec());
        assert!(text.starts_with(no_ocr) && text.lines().count() == 1, "{text}");
        let mut other = spec();
        other.images.insert("api".to_owned(), vec!["ghcr.io/rorun/rorun-api:1".to_owned()]);
        let text = told(other.clone());
        let no_api =
            "note: the image of api has no digest in this manifest: no pod of ghcr.io/rorun/rorun-api:1 was ready";
        assert!(text.starts_with(no_api) && text.contains(no_ocr), "{text}");
        other.images.insert("api".to_owned(), vec!["a:1@sha256:a".to_owned(), "a:1@sha256:b".to_owned()]);
        assert!(told(other.clone()).contains("choose one of a:1@sha256:a, a:1@sha256:b"));
        other.running.insert("api".to_owned(), "a:1@sha256:b".to_owned());
        assert!(!told(other).contains("image of api"));
    }

    #[test]
    fn pinned_images_are_those_that_served() {
        let (text, value) = printed(spec(), true);
        let mut expected = spec().stack;
        expected["spec"]["api"]["image"] = json!(format!("ghcr.io/rorun/rorun-api:1@{DIGEST}"));
        assert_eq!(value, expected, "{text}");
        let none = PointSpec { images: std::collections::BTreeMap::new(), ..spec() };
        let error = print(none, true, &mut Vec::new(), &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("leave out --pin-images"), "{error}");
    }

    /// What is printed names the image that ran, whatever the registry is.
    #[test]
    fn the_registry_of_the_spec_is_put_before_no_image_twice() {
        for registry in [None, Some("ghcr.io/rorun"), Some("rorun"), Some("rorun/"), Some("localhost:5000")] {
            for image in ["rorun-api:1", "library/a@sha256:0", "r.example/a:1"] {
                let full = full_image(registry, image);
                assert_eq!(full_image(registry, within(registry, &full)), full, "{registry:?} {image}");
            }
        }
    }

    #[test]
    fn a_spec_of_another_release_is_printed_without_its_secrets() {
        let mut other = spec();
        other.stack["spec"]["api"] = json!("of another form");
        let (text, value) = printed(other.clone(), false);
        assert_eq!(value, other.stack);
        assert!(!text.contains("names these Secrets"), "{text}");
    }
}
