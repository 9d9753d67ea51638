//! kind's node image. Where it cannot be pulled it is made by the steps of kind's own `images/base/Dockerfile`, with
//! kind's own files out of its Go module, and the images of the control plane put into its containerd.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde_json::json;

use super::archive::{Archive, ImageConfig};
use super::control_plane::{self, Names, has_extension};
use super::root::RootFs;
use super::{Image, Source, data, debian, present, pull};
use crate::engine::cache::{Cache, Lock, fingerprint, remove_folder};
use crate::engine::docker::Docker;
use crate::engine::durations::{Durations, Timed};
use crate::engine::host::Host;
use crate::engine::process::Run;
use crate::engine::progress::{self, Step};
use crate::engine::record::ProcessRecord;
use crate::engine::tools::{self, Tool};
use crate::engine::{cleanup, packages, pool, wait};

/// Debian 12: the systemd of later ones refuses the first generation of control groups.
const RELEASE: &str = "bookworm";

/// What kind's Dockerfile installs, less what is for storage over the network, and with runc and the CNI plug-ins.
pub(super) const PACKAGES: &[&str] = &[
    "bash",
    "ca-certificates",
    "conntrack",
    "containernetworking-plugins",
    "curl",
    "e2fsprogs",
    "ethtool",
    "findutils",
    "hostname",
    "iproute2",
    "iptables",
    "jq",
    "kmod",
    "libseccomp2",
    "mount",
    "nftables",
    "pigz",
    "procps",
    "runc",
    "socat",
    "systemd",
    "util-linux",
];

/// kind's own units; all others that Debian enables are of no use in a container.
const UNITS: &[&str] = &["kubelet.service", "containerd.service", "undo-mount-hacks.service"];

/// The name of the node image, by the version of Kubernetes in it.
pub fn name() -> Result<String> {
    Ok(format!("kindest/node:{}", tools::KUBELET.version()?))
}

/// The node image: Docker has it, or it is still to be made. Whoever comes second finds what the first has made.
pub struct Wanted {
    found: Result<Source, Node>,
    _lock: Lock,
}

/// Looks for the node image, pulls it if it can be pulled, and otherwise builds the programs that it is made of.
pub fn find(cache: &Cache, docker: &Docker, host: Host) -> Result<Wanted> {
    let name = name()?;
    let lock = cache.lock("node-image")?;
    let node = Node::plan(cache, &name)?;
    let found = if let Some(source) = present(docker, &name, &node.recipe) {
        progress::note(&format!("node image {name}: {source:?} earlier"));
        Ok(source)
    // What is published has a systemd that does not start there.
    } else if host.cgroup_v1 {
        progress::note("the node image is built here: this machine has the first generation of control groups");
        Err(node)
    } else if pull(docker, &name).is_ok() {
        Ok(Source::Pulled)
    } else {
        Err(node)
    };
    if found.is_err() {
        gather(cache)?;
    }
    Ok(Wanted { found, _lock: lock })
}

impl Wanted {
    /// Makes sure that Docker has the image, and says where from.
    pub fn ensure(self, cache: &Cache, docker: &Docker) -> Result<Source> {
        match self.found {
            Ok(source) => Ok(source),
            Err(node) => node.build(cache, docker).map(|()| Source::Built),
        }
    }
}

/// What the image is made of, and the program that starts a cluster. What is got from elsewhere comes beside what is built here.
fn gather(cache: &Cache) -> Result<()> {
    let tools: Vec<Tool> = tools::IN_ORDER.iter().copied().filter(|tool| !tools::BESIDE_NODES.contains(tool)).collect();
    let fetch = || -> Result<()> {
        debian_archive(cache)?;
        data::debian_archive(cache).map(drop)
    };
    thread::scope(|scope| {
        let fetching = scope.spawn(fetch);
        let built = tools::build_all(cache, &tools);
        let fetched = fetching.join().map_err(|_| anyhow!("making a Debian panicked"))?;
        built.and(fetched)
    })
}

pub(super) fn debian_archive(cache: &Cache) -> Result<PathBuf> {
    debian::root_archive(cache, RELEASE, PACKAGES)
}

struct Node {
    name: String,
    names: Names,
    images: Vec<Image>,
    recipe: String,
}

impl Node {
    fn plan(cache: &Cache, name: &str) -> Result<Node> {
        let names = Names::read(cache)?;
        let mut images = control_plane::all(&names)?;
        // Present from the start, so that no scenario waits for them to be loaded.
        images.extend(data::all());
        let recipes: Vec<&[u8]> = images.iter().map(|image| image.recipe().as_bytes()).collect();
        let binaries = [tools::CONTAINERD, tools::CRICTL, tools::KUBELET, tools::KUBEADM, tools::KIND];
        let binaries = binaries.iter().map(|tool| Ok(tool.key()?.path())).collect::<Result<Vec<_>>>()?.join(" ");
        let packages = PACKAGES.join(",");
        let own: [&[u8]; 3] = [include_bytes!("node.rs"), binaries.as_bytes(), packages.as_bytes()];
        let recipe = fingerprint(own.into_iter().chain(recipes));
        Ok(Node { name: name.to_owned(), names, images, recipe })
    }

    fn build(&self, cache: &Cache, docker: &Docker) -> Result<()> {
        packages::ensure(&["busybox-static", "libc6-dev", "gcc"], "to build images")?;
        let images = self.images.iter();
        let work = images.map(|image| -> pool::Work<'_> { Box::new(move || image.archive(cache).map(drop)) });
        pool::run(2, work.collect())?;
        let archives = self.images.iter().map(|image| image.archive(cache)).collect::<Result<Vec<_>>>()?;
        let debian = debian_archive(cache)?;
        let work = cache.folder("unfinished")?.join("node");
        remove_folder(&work)?;
        let what = format!("making the image {}", self.name);
        let timed = Timed { name: "make the node image", what: &what, why: "it is not pulled", table: 60 };
        Step::timed(&Durations::of(cache), &timed, || {
            let root = RootFs::unpack(&debian, &work.join("root"))?;
            self.install(cache, &root)?;
            import(cache, &archives, &root, &work)?;
            let config = ImageConfig {
                stop_signal: "SIGRTMIN+3".to_owned(),
                env: vec!["container=docker".to_owned()],
                ..ImageConfig::starting(&["/usr/local/bin/entrypoint", "/sbin/init"])
            };
            let archive = work.join("node.tar");
            Archive::write(&self.name, &self.recipe, root.path(), &config, &archive)?;
            remove_folder(root.path())?;
            docker.load(&self.name, &archive)?;
            remove_folder(&work)
        })
    }

    fn install(&self, cache: &Cache, root: &RootFs) -> Result<()> {
        let files = tools::KIND.sources()?.join("images/base/files");
        for folder in ["etc", "kind", "usr"] {
            copy_tree(&files.join(folder), &root.at(folder))?;
        }
        for folder in ["/usr/local/bin", "/kind/bin"] {
            for path in root.list(folder, |_| true)? {
                fs::set_permissions(root.at(&path), fs::Permissions::from_mode(0o755))?;
            }
        }
        enable_only_ours(root)?;
        for tool in [tools::CONTAINERD, tools::CTR, tools::CONTAINERD_SHIM, tools::CRICTL] {
            root.program(&format!("/usr/local/bin/{}", tool.binary), &tool.path(cache)?)?;
        }
        for tool in [tools::KUBELET, tools::KUBEADM, tools::KUBECTL] {
            root.program(&format!("/usr/bin/{}", tool.binary), &tool.path(cache)?)?;
        }
        root.link("/usr/local/sbin/runc", "/usr/sbin/runc")?;
        root.folder_with("/opt/cni", 0o755)?;
        root.link("/opt/cni/bin", "/usr/lib/cni")?;
        root.folder_with("/etc/cni/net.d", 0o755)?;
        root.folder_with("/etc/kubernetes/manifests", 0o755)?;
        root.file("/etc/containerd/cri-base.json", runtime_spec(cache)?, 0o644)?;
        root.file("/kind/version", tools::KUBELET.version()?, 0o644)?;
        root.file("/kind/manifests/default-storage.yaml", &self.names.storage_manifest, 0o644)
    }
}

/// What of systemd's units is started: kind's, and none that are for a machine.
fn enable_only_ours(root: &RootFs) -> Result<()> {
    let system = "/lib/systemd/system";
    let mut disabled = vec![format!("{system}/sysinit.target.wants/systemd-tmpfiles-setup.service")];
    for target in ["multi-user", "local-fs", "basic"] {
        disabled.extend(root.list(&format!("{system}/{target}.target.wants"), |_| true).unwrap_or_default());
    }
    for target in root.list("/etc/systemd/system", |name| has_extension(name, "wants"))? {
        disabled.extend(root.list(&target, |_| true)?);
    }
    let sockets = |name: &str| name.contains("udev") || name.contains("initctl");
    disabled.extend(root.list(&format!("{system}/sockets.target.wants"), sockets).unwrap_or_default());
    for path in disabled {
        let path = root.at(&path);
        if path.is_symlink() || path.exists() {
            fs::remove_file(path)?;
        }
    }
    for unit in UNITS {
        root.link(
            &format!("/etc/systemd/system/multi-user.target.wants/{unit}"),
            &format!("/etc/systemd/system/{unit}"),
        )?;
    }
    root.link("/etc/systemd/system/systemd-binfmt.service", "/dev/null")?;
    root.file("/etc/systemd/journald.conf", "[Journal]\nReadKMsg=no\n", 0o644)?;
    root.link("/sbin/init", "/usr/lib/systemd/systemd")
}

/// What every container in the node starts from: containerd's own, without limits, and with kind's hook.
fn runtime_spec(cache: &Cache) -> Result<String> {
    let spec = Run::new(tools::CTR.path(cache)?, ["oci", "spec"]).output()?;
    let mut spec: serde_json::Value = serde_json::from_str(&spec)?;
    if let Some(process) = spec["process"].as_object_mut() {
        process.remove("rlimits");
    }
    let hook = json!({"path": "/kind/bin/mount-product-files.sh"});
    match spec["hooks"]["createContainer"].as_array_mut() {
        Some(hooks) => hooks.push(hook),
        None => spec["hooks"]["createContainer"] = json!([hook]),
    }
    Ok(serde_json::to_string(&spec)?)
}

/// Copies files that are read-only where they come from: Go's module cache.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("failed to read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            fs::set_permissions(&target, fs::Permissions::from_mode(0o644))?;
        }
    }
    Ok(())
}

/// Puts images into the node's image store, by a containerd that runs just for this.
fn import(cache: &Cache, archives: &[PathBuf], root: &RootFs, work: &Path) -> Result<()> {
    let store = root.at("/var/lib/containerd");
    let (state, socket) = (work.join("state"), work.join("c.sock"));
    let configuration = work.join("containerd.toml");
    fs::create_dir_all(&store)?;
    let kubernetes = ["cri.v1.runtime", "cri.v1.images", "grpc.v1.cri"].map(|name| format!("\"io.containerd.{name}\""));
    let lines = [
        "version = 3".to_owned(),
        format!("root = \"{}\"\nstate = \"{}\"", store.display(), state.display()),
        format!("disabled_plugins = [{}]", kubernetes.join(", ")),
        format!("[grpc]\naddress = \"{}\"", socket.display()),
    ];
    fs::write(&configuration, lines.join("\n"))?;
    let containerd = Containerd::start(&tools::CONTAINERD.path(cache)?, &configuration, &work.join("containerd.log"))?;
    let ctr = tools::CTR.path(cache)?;
    let address: [&std::ffi::OsStr; 2] = ["--address".as_ref(), socket.as_os_str()];
    wait::until_true("a containerd for the node's images answers", Duration::from_secs(20), || {
        Ok(Run::new(&ctr, address).arg("version").succeeds())
    })?;
    for archive in archives {
        Run::new(&ctr, address)
            .args(["--namespace=k8s.io", "images", "import", "--no-unpack"])
            // Not to be collected when the disk fills: they cannot be pulled again.
            .args(["--label=io.cri-containerd.pinned=pinned", "--local"])
            .arg(archive)
            .output()?;
    }
    drop(containerd);
    Ok(())
}

struct Containerd {
    child: Child,
    _interrupted: cleanup::Registration,
}

impl Containerd {
    fn start(program: &Path, configuration: &Path, log: &Path) -> Result<Containerd> {
        let log = File::create(log)?;
        let child = Command::new(program)
            .arg("--config")
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("failed to start containerd")?;
        let record = ProcessRecord::of(child.id())?;
        Ok(Containerd { child, _interrupted: cleanup::on_interrupt(move || record.kill()) })
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // Politely, so that its database is closed.
        if let Ok(process) = ProcessRecord::of(self.child.id()) {
            let _ = process.stop(Duration::from_secs(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
