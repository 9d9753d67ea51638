//! What a stack has proven: its images with their digests, or why they are not to be promoted.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use jiff::{SignedDuration, Timestamp};
use kube::{Api, Client};
use serde_json::Value;

use super::{PromoteError, manifest};
use crate::{
    api::v1alpha1::{NO_REGISTRY, ReleaseRecord, ReleaseStatus, RorunStack, RorunStackStatus, SEVERAL_DIGESTS},
    cli::{CliError, client, render},
    names::{
        Component,
        image::{ImageName, is_digest},
    },
    plan::release::State,
};

/// Where a stack is read from.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    File(PathBuf),
    Cluster { name: String, namespace: Option<String> },
}

/// A path is what has a slash or ends like a manifest; all else is a name, which ends neither in `.yaml` nor in `.json`.
fn place(from: &str, namespace: Option<&str>) -> Result<Place, PromoteError> {
    let is_file = from == "-" || from.contains('/') || [".yaml", ".yml", ".json"].iter().any(|end| from.ends_with(end));
    match (from.split_once('.').filter(|_| !is_file), namespace) {
        (_, Some(_)) if is_file => Err(PromoteError::Namespace(from.to_owned(), "is a file")),
        (None, _) if is_file => Ok(Place::File(from.into())),
        (Some((_, of_name)), Some(namespace)) if of_name != namespace => {
            Err(PromoteError::Namespace(from.to_owned(), "names another namespace"))
        }
        (Some((name, namespace)), _) => {
            Ok(Place::Cluster { name: name.to_owned(), namespace: Some(namespace.to_owned()) })
        }
        (None, namespace) => Ok(Place::Cluster { name: from.to_owned(), namespace: namespace.map(str::to_owned) }),
    }
}

/// Reads a stack from a cluster or from a file.
pub(super) async fn read(from: &str, namespace: Option<&str>) -> Result<RorunStack, CliError> {
    match place(from, namespace)? {
        Place::File(file) => {
            let text = render::read(&file).map_err(|error| PromoteError::File("read", from.to_owned(), error))?;
            Ok(in_file(&text).map_err(|why| PromoteError::Source(from.to_owned(), why))?)
        }
        Place::Cluster { name, namespace } => {
            let config = client::config().await?;
            let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
            let stacks: Api<RorunStack> = Api::namespaced(Client::try_from(config)?, &namespace);
            let found = stacks.get(&name).await;
            Ok(found.map_err(|error| PromoteError::Get(name, namespace, Box::new(error)))?)
        }
    }
}

/// The only stack of a file, which may be a list as `kubectl get` prints it.
fn in_file(text: &str) -> Result<RorunStack, String> {
    let mut documents = manifest::documents(text).map_err(|error| error.to_string())?;
    let lists: Vec<_> = documents.iter_mut().filter_map(|document| Some(document.get_mut("items")?.take())).collect();
    let items = lists.into_iter().filter_map(|items| serde_json::from_value::<Vec<Value>>(items).ok()).flatten();
    let all = documents.into_iter().chain(items);
    let mut stacks: Vec<_> = all.filter(|object| object["kind"] == manifest::KIND).collect();
    match (stacks.pop(), stacks.is_empty()) {
        (None, _) => Err("it has no RorunStack".to_owned()),
        (Some(_), false) => Err("it has several RorunStacks: give one of them".to_owned()),
        (Some(stack), true) => serde_json::from_value(stack).map_err(|error| error.to_string()),
    }
}

/// What is asked of a release before it is promoted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// Whether it has to be proven.
    pub(super) proof: bool,
    /// How long it must have served.
    pub(super) age: Duration,
    /// The time.
    pub(super) now: Timestamp,
}

/// A release that may be promoted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Release {
    /// Its images, each with a digest.
    pub(super) images: BTreeMap<Component, String>,
    /// What is known of it, for the user.
    pub(super) said: String,
}

/// Judges the release of a stack that serves.
pub(super) fn judge(stack: &RorunStack, asked: Asked) -> Result<Release, String> {
    let status = stack.status.as_ref().filter(|status| status.is_observed());
    let status = status.ok_or("it has no status: no operator has reported on it yet")?;
    let release = status.release.as_ref().ok_or("its status tells of no release")?;
    let current = release.current.as_ref().ok_or("none of its releases has served yet")?;
    let generation = stack.metadata.generation;
    let doubt = doubt(generation, (status, release, current), asked);
    match doubt {
        Some(doubt) if asked.proof => {
            return Err(format!("{doubt}; --unproven promotes what served last all the same"));
        }
        _ => {}
    }
    Ok(Release { images: images(current)?, said: said(stack.metadata.name.as_deref(), release, current) })
}

/// Why a release is not proven.
fn doubt(
    generation: Option<i64>,
    (status, release, current): (&RorunStackStatus, &ReleaseStatus, &ReleaseRecord),
    asked: Asked,
) -> Option<String> {
    if release.state != State::Serving.as_str() {
        let message = release.target.as_ref().map_or("", |target| &target.message);
        let why = if message.is_empty() { String::new() } else { format!(": {message}") };
        return Some(format!("its release is {}, not Serving{why}", release.state));
    }
    if generation.is_some_and(|generation| status.observed_generation != Some(generation)) {
        return Some("its operator has not observed the spec yet".to_owned());
    }
    match status.conditions.iter().find(|condition| condition.type_ == "Ready") {
        Some(ready) if ready.status == "True" && status.hibernated_since.is_none() => {}
        Some(ready) => return Some(format!("it is not Ready: {}: {}", ready.reason, ready.message)),
        None => return Some("its status has no condition Ready".to_owned()),
    }
    let Some(proven) = release.proven.as_ref().filter(|proven| proven.revision == current.revision) else {
        return Some("its status says nothing in release.proven: nothing is proven".to_owned());
    };
    let age = SignedDuration::try_from(asked.age).unwrap_or(SignedDuration::MAX);
    let serves = SignedDuration::from_secs(asked.now.duration_since(proven.since.0).as_secs());
    (serves < age).then(|| {
        format!("it serves without a restart since {}, for {serves:#}, and --min-age asks for {age:#}", proven.since.0)
    })
}

/// The images of a release, each with its digest.
fn images(current: &ReleaseRecord) -> Result<BTreeMap<Component, String>, String> {
    let all = [
        (Component::Api, Some(&current.api)),
        (Component::Ocr, current.ocr.as_ref()),
        (Component::Admin, current.admin.as_ref()),
    ];
    let images = all.into_iter().filter_map(|(component, image)| {
        let told = current.digests.get(component.as_str()).map(String::as_str);
        Some(
            pinned(image?, told)
                .map(|image| (component, image))
                .map_err(|why| format!("the image of {component}, {why}")),
        )
    });
    images.collect()
}

fn pinned(image: &str, told: Option<&str>) -> Result<String, String> {
    let written = ImageName::new(image).digest;
    match written.or(told) {
        Some(digest) if is_digest(digest) && written.is_some() => Ok(image.to_owned()),
        Some(digest) if is_digest(digest) => Ok(format!("{image}@{digest}")),
        Some(NO_REGISTRY) => Err(format!(
            "{image}, has only a local image id: its nodes have it from no registry, so no other cluster could pull it"
        )),
        Some(SEVERAL_DIGESTS) => Err(format!(
            "{image}, has several digests: its pods run different images under one tag; give each build a tag of its own"
        )),
        Some(other) => Err(format!("{image}, has the digest {other}, which is none of SHA-256")),
        None => Err(format!("{image}, has no digest in the status yet: its pods have to be ready once")),
    }
}

fn said(name: Option<&str>, release: &ReleaseStatus, current: &ReleaseRecord) -> String {
    let proven = release.proven.as_ref().filter(|proven| proven.revision == current.revision);
    let since = proven.map(|proven| format!(", serves without a restart since {}", proven.since.0));
    let took = proven.and_then(|proven| proven.migration_seconds).map(|took| format!(", its migration took {took} s"));
    let name = name.unwrap_or_default();
    format!("rorunstack/{name}: release {}{}{}", current.hash, since.unwrap_or_default(), took.unwrap_or_default())
}
