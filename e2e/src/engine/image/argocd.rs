//! The image of Argo CD, under the name that its own manifest has: the one binary, which is each part of it by the name that it is
//! called by, and the programs that the repository server runs. Of these it has git and gpg; Helm and Kustomize are for
//! repositories of charts and overlays, and ours holds plain manifests.

use anyhow::Result;

use super::archive::ImageConfig;
use super::root::RootFs;
use super::{Image, debian};
use crate::engine::cache::Cache;
use crate::engine::tools;

const SOURCE: &[u8] = include_bytes!("argocd.rs");
const RELEASE: &str = "trixie";
const PACKAGES: &[&str] = &["ca-certificates", "git", "gpg", "gpg-agent", "tini"];
/// The user of the public image, by number, since volumes keep that.
const USER: (u32, u32) = (999, 999);
const PARTS: [&str; 2] = ["argocd-application-controller", "argocd-repo-server"];
/// A program of its sources that the repository server calls.
const WRAPPER: &str = "gpg-wrapper.sh";

/// The image, of the version that `e2e/tools/` pins.
pub fn image() -> Result<Image> {
    let name = format!("quay.io/argoproj/argocd:{}", tools::ARGOCD.version()?);
    let (binary, packages) = (tools::ARGOCD.key()?.path(), PACKAGES.join(","));
    Ok(Image::new(name, [SOURCE, binary.as_bytes(), packages.as_bytes()], fill))
}

fn fill(cache: &Cache, root: &RootFs) -> Result<ImageConfig> {
    let (debian, binary) = (debian::root_archive(cache, RELEASE, PACKAGES)?, tools::ARGOCD.path(cache)?);
    RootFs::unpack(&debian, root.path())?;
    root.users(&[("argocd", USER.0, USER.1)])?;
    root.program("/usr/local/bin/argocd", &binary)?;
    for part in PARTS {
        root.link(&format!("/usr/local/bin/{part}"), "argocd")?;
    }
    root.program(&format!("/usr/local/bin/{WRAPPER}"), &tools::ARGOCD.sources()?.join("hack").join(WRAPPER))?;
    for folder in ["/home/argocd", "/app/config/ssh", "/app/config/tls", "/app/config/gpg/source"] {
        root.folder_of(folder, 0o755, USER)?;
    }
    root.folder_of("/app/config/gpg/keys", 0o700, USER)?;
    let mut config = ImageConfig::starting(&["/usr/bin/tini", "--"]);
    config.env.extend(["HOME=/home/argocd", "USER=argocd"].map(str::to_owned));
    Ok(ImageConfig { user: USER.0.to_string(), working_dir: "/home/argocd".to_owned(), ..config })
}
