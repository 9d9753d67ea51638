//! Container images: pulled where they can be, otherwise made here, once, under the same names.

pub mod archive;
pub mod argocd;
pub mod barman_cloud;
pub mod cloudnative_pg;
mod constants;
pub mod control_plane;
pub mod data;
mod debian;
pub mod node;
pub mod root;
mod wheel;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use self::archive::{Archive, ImageConfig, RECIPE_LABEL};
use self::root::RootFs;
use super::cache::{Cache, Key, fingerprint};
use super::docker::Docker;
use super::progress::{self, Step};

/// Where the image that is used comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// From its registry.
    Pulled,
    /// From Debian packages, Go modules and Python packages, on this machine.
    Built,
}

/// An image that can be made here.
pub struct Image {
    /// The name that pods use.
    pub name: String,
    recipe: String,
    fill: Fill,
}

type Fill = Box<dyn Fn(&Cache, &RootFs) -> Result<ImageConfig> + Send + Sync>;

impl Image {
    /// An image that `fill` makes. `recipe` is all that decides what comes out, the source of `fill` included.
    pub fn new<'a>(
        name: impl Into<String>,
        recipe: impl IntoIterator<Item = &'a [u8]>,
        fill: impl Fn(&Cache, &RootFs) -> Result<ImageConfig> + Send + Sync + 'static,
    ) -> Image {
        let common: [&[u8]; 2] = [include_bytes!("root.rs"), include_bytes!("archive.rs")];
        Image { name: name.into(), recipe: fingerprint(common.into_iter().chain(recipe)), fill: Box::new(fill) }
    }

    /// A hash that changes when the image would.
    pub fn recipe(&self) -> &str {
        &self.recipe
    }

    /// An archive of the image, made first if it has to be.
    pub fn archive(&self, cache: &Cache) -> Result<PathBuf> {
        let key = Key::new("images", &file_name(&self.name), "1", [self.recipe.as_bytes()]);
        let folder = cache.entry(&key, |folder| {
            Step::of(&format!("making the image {}", self.name), "not in the cache yet", || {
                let root = RootFs::create(&folder.join("root"))?;
                let config = (self.fill)(cache, &root)?;
                Archive::write(&self.name, &self.recipe, root.path(), &config, &folder.join("image.tar"))?;
                Ok(fs::remove_dir_all(root.path())?)
            })
        })?;
        Ok(folder.join("image.tar"))
    }

    /// Makes sure that Docker has the image.
    pub fn ensure(&self, cache: &Cache, docker: &Docker) -> Result<Source> {
        if let Some(source) = present(docker, &self.name, &self.recipe) {
            return Ok(source);
        }
        if pull(docker, &self.name).is_ok() {
            return Ok(Source::Pulled);
        }
        docker.load(&self.name, &self.archive(cache)?).with_context(|| format!("failed to load {}", self.name))?;
        Ok(Source::Built)
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Image").field("name", &self.name).field("recipe", &self.recipe).finish_non_exhaustive()
    }
}

/// The source of an image that Docker has, unless we made it by another recipe than today's.
pub(super) fn present(docker: &Docker, name: &str, recipe: &str) -> Option<Source> {
    match docker.image_label(name, RECIPE_LABEL)?.as_str() {
        "" | "<no value>" => Some(Source::Pulled),
        found if found == recipe => Some(Source::Built),
        _ => None,
    }
}

/// Tries to pull an image, and says why not when it cannot be.
pub(super) fn pull(docker: &Docker, name: &str) -> Result<()> {
    let pulled = Step::of(&format!("pulling {name}"), "Docker does not have it", || {
        // A registry that does not answer is no reason to wait for ever.
        docker.run("timeout", ["600", "docker", "pull", "--quiet", name]).output()
    });
    if let Err(error) = &pulled {
        let reason = format!("{error:#}");
        progress::note(&format!("{name} cannot be pulled: {}", reason.lines().last().unwrap_or_default()));
    }
    pulled.map(drop)
}

fn file_name(image: &str) -> String {
    image.replace(['/', ':'], "_")
}
