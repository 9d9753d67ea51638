//! The programs of the cluster and of the tests, built from Go modules that `e2e/tools/` pins: one module for each, since what they
//! require conflicts. Each binary is an entry of the cache of its own, so a run builds only what it needs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::cache::{Cache, Key};
use super::durations::{Durations, Timed};
use super::pool;
use super::process::{Run, find_program};
use super::progress::Step;

/// A program that the engine builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tool {
    /// The name of the binary.
    pub binary: &'static str,
    /// The folder below `e2e/tools/`, with its go.mod.
    folder: &'static str,
    /// The module whose version is the program's.
    module: &'static str,
    /// What is built: a package of the module, or [`OWN`].
    package: &'static str,
    /// Seconds that a first build took on two idle processors, after those of the same folder that stand before it in
    /// [`IN_ORDER`]: what is expected before anything was measured.
    cold_seconds: u32,
}

/// The package in the tool's own folder, which takes of the module what we need of it.
const OWN: &str = ".";

/// Makes no debug information, which the linker is told to leave out anyway: a sixth of the time. It changes nothing of the program,
/// so it is no part of the key.
const NO_DEBUG: &str = "-gcflags=all=-dwarf=false";

macro_rules! tools {
    ($($name:ident = $binary:literal, $folder:literal, $module:literal, $package:expr, $seconds:literal;)*) => {
        $(
            #[doc = concat!("`", $binary, "`")]
            pub const $name: Tool =
                Tool { binary: $binary, folder: $folder, module: $module, package: $package, cold_seconds: $seconds };
        )*
        /// All of them, in the order in which they are built best: what takes longest first, and those of one folder in a row,
        /// since the next needs much of what the one before has compiled.
        pub const IN_ORDER: &[Tool] = &[$($name),*];
    };
}

tools! {
    KUBEADM = "kubeadm", "kubernetes", "k8s.io/kubernetes", "k8s.io/kubernetes/cmd/kubeadm", 120;
    KUBE_APISERVER = "kube-apiserver", "kubernetes", "k8s.io/kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", 220;
    KUBE_CONTROLLER_MANAGER = "kube-controller-manager", "kubernetes", "k8s.io/kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager", 80;
    KUBE_SCHEDULER = "kube-scheduler", "kubernetes", "k8s.io/kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler", 10;
    KUBELET = "kubelet", "kubernetes", "k8s.io/kubernetes", "k8s.io/kubernetes/cmd/kubelet", 22;
    KUBE_PROXY = "kube-proxy", "kubernetes", "k8s.io/kubernetes", "k8s.io/kubernetes/cmd/kube-proxy", 10;
    KUBECTL = "kubectl", "kubernetes", "k8s.io/kubernetes", "k8s.io/kubernetes/cmd/kubectl", 22;
    COREDNS = "coredns", "coredns", "github.com/coredns/coredns", OWN, 130;
    METRICS_SERVER = "metrics-server", "metrics-server", "sigs.k8s.io/metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server", 170;
    LOCAL_PATH_PROVISIONER = "local-path-provisioner", "local-path-provisioner", "github.com/rancher/local-path-provisioner", "github.com/rancher/local-path-provisioner", 90;
    CONTAINERD = "containerd", "containerd", "github.com/containerd/containerd/v2", "github.com/containerd/containerd/v2/cmd/containerd", 60;
    CONTAINERD_SHIM = "containerd-shim-runc-v2", "containerd", "github.com/containerd/containerd/v2", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2", 10;
    CTR = "ctr", "containerd", "github.com/containerd/containerd/v2", "github.com/containerd/containerd/v2/cmd/ctr", 10;
    CRICTL = "crictl", "crictl", "sigs.k8s.io/cri-tools", "sigs.k8s.io/cri-tools/cmd/crictl", 45;
    ETCD = "etcd", "etcd", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3", 40;
    KIND = "kind", "kind", "sigs.k8s.io/kind", "sigs.k8s.io/kind", 10;
    HELM = "helm", "helm", "helm.sh/helm/v3", "helm.sh/helm/v3/cmd/helm", 130;
    ACTIONLINT = "actionlint", "actionlint", "github.com/rhysd/actionlint", "github.com/rhysd/actionlint/cmd/actionlint", 8;
    // The interpreter of Lua that Argo CD has.
    GLUA = "glua", "gopher-lua", "github.com/yuin/gopher-lua", "github.com/yuin/gopher-lua/cmd/glua", 3;
    CLOUD_NATIVE_PG = "cloudnative-pg", "cloudnative-pg", "github.com/cloudnative-pg/cloudnative-pg", "github.com/cloudnative-pg/cloudnative-pg/cmd/manager", 134;
    BARMAN_CLOUD = "barman-cloud", "barman-cloud", "github.com/cloudnative-pg/plugin-barman-cloud", "github.com/cloudnative-pg/plugin-barman-cloud/cmd/manager", 118;
    ARGOCD = "argocd", "argocd", "github.com/argoproj/argo-cd/v3", "github.com/argoproj/argo-cd/v3/cmd", 400;
}

/// Those that no node has.
pub const BESIDE_NODES: &[Tool] = &[HELM, ACTIONLINT, GLUA, CLOUD_NATIVE_PG, BARMAN_CLOUD, ARGOCD];

impl Tool {
    /// Whether the cache has it.
    pub fn is_built(&self, cache: &Cache) -> Result<bool> {
        Ok(cache.root().join(self.key()?.path()).is_dir())
    }

    /// The path of the binary, built first if it has to be.
    pub fn path(&self, cache: &Cache) -> Result<PathBuf> {
        let folder = cache.entry(&self.key()?, |folder| self.build(cache, folder))?;
        Ok(folder.join(self.binary))
    }

    /// What decides the binary: its module with all that it requires, and how it is built.
    pub fn key(&self) -> Result<Key> {
        let module = self.module_folder();
        let read = |file: &str| {
            fs::read(module.join(file)).with_context(|| format!("failed to read {file} of the tool {}", self.binary))
        };
        let (go_mod, go_sum) = (read("go.mod")?, read("go.sum")?);
        let version = self.version()?;
        let flags = self.linker_flags(&version);
        let own = if self.package == OWN { read("main.go")? } else { Vec::new() };
        let recipe = [&go_mod, &go_sum, self.package.as_bytes(), flags.as_bytes()];
        let own = Some(&own[..]).filter(|source| !source.is_empty());
        Ok(Key::new("tools", self.binary, &version, recipe.into_iter().chain(own)))
    }

    /// The version that go.mod pins.
    pub fn version(&self) -> Result<String> {
        let go_mod = fs::read_to_string(self.module_folder().join("go.mod"))?;
        required_version(&go_mod, self.module)
            .with_context(|| format!("failed to find the version of {} in go.mod", self.module))
    }

    /// The folder of Go's module cache that holds the sources of the tool's module.
    pub fn sources(&self) -> Result<PathBuf> {
        sources_of(self.folder, self.module)
    }

    fn module_folder(&self) -> PathBuf {
        folder_below_tools(self.folder)
    }

    /// Gets the modules that it is built of, so that building needs none that is not there.
    pub fn fetch(&self) -> Result<()> {
        fetched(|| self.go(&["list", "-deps", "-mod=readonly", self.package])?.output()).map(drop)
    }

    fn build(&self, cache: &Cache, to: &Path) -> Result<()> {
        let version = self.version()?;
        let flags = self.linker_flags(&version);
        let what = format!("building {} {version} from its Go module", self.binary);
        let name = format!("build {}", self.binary);
        let timed = Timed { name: &name, what: &what, why: "not in the cache yet", table: self.cold_seconds };
        Step::timed(&Durations::of(cache), &timed, || {
            self.fetch()?;
            let build = ["build", "-trimpath", "-buildvcs=false", "-mod=readonly", NO_DEBUG, "-ldflags", &flags, "-o"];
            self.go(&build)?.arg(to.join(self.binary)).arg(self.package).output()?;
            Ok(())
        })
    }

    /// Go in the tool's module, for static binaries, which run on the root file system of any image.
    fn go(&self, arguments: &[&str]) -> Result<Run> {
        go_in(self.folder, arguments)
    }

    /// Kubernetes must have its version stamped: a server that says v0.0.0 breaks its clients.
    fn linker_flags(&self, version: &str) -> String {
        let mut flags = "-s -w".to_owned();
        if self.folder == "kubernetes" {
            let mut numbers = version.trim_start_matches('v').split('.');
            let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
            for stamp in [format!("gitVersion={version}"), format!("gitMajor={major}"), format!("gitMinor={minor}")] {
                flags += " -X k8s.io/component-base/version.";
                flags += &stamp;
            }
        }
        flags
    }
}

/// Builds all of these that the cache does not have. Two at once: one links, on one processor, while the other compiles. Those of one
/// folder one after the other, or what they have in common would be compiled twice.
pub fn build_all(cache: &Cache, tools: &[Tool]) -> Result<()> {
    let mut folders: Vec<(&str, Vec<Tool>)> = Vec::new();
    for &tool in IN_ORDER.iter().filter(|tool| tools.contains(tool)) {
        match folders.last_mut() {
            Some((folder, of_folder)) if *folder == tool.folder => of_folder.push(tool),
            _ => folders.push((tool.folder, vec![tool])),
        }
    }
    let build = |(_, of_folder): (&str, Vec<Tool>)| -> pool::Work<'_> {
        Box::new(move || of_folder.iter().try_for_each(|tool| tool.path(cache).map(drop)))
    };
    pool::run(2, folders.into_iter().map(build).collect())
}

/// The folder of Go's module cache that holds the sources of a module, in the version that a folder below `e2e/tools/` pins.
pub fn sources_of(folder: &str, module: &str) -> Result<PathBuf> {
    let list = fetched(|| go_in(folder, &["mod", "download", "-json", module])?.output())?;
    let found: serde_json::Value = serde_json::from_str(&list)?;
    let sources = found["Dir"].as_str().with_context(|| format!("go knows no folder of {module}"))?;
    Ok(PathBuf::from(sources))
}

fn folder_below_tools(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(folder)
}

fn go_in(folder: &str, arguments: &[&str]) -> Result<Run> {
    let go =
        find_program("go").context("failed to find `go`: building the cluster's programs needs Go 1.26 or later")?;
    Ok(Run::new(go, arguments).folder(&folder_below_tools(folder)).env("CGO_ENABLED", "0").env("GOFLAGS", ""))
}

/// Go gives up at the first answer that does not come, and keeps what came: so it is asked three times.
fn fetched<T>(ask: impl Fn() -> Result<T>) -> Result<T> {
    ask().or_else(|_| ask()).or_else(|_| ask())
}

fn required_version(go_mod: &str, module: &str) -> Option<String> {
    go_mod.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next()? == module).then(|| words.next().map(str::to_owned))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_is_pinned() {
        for tool in IN_ORDER {
            let version = tool.version().expect("a version");
            assert!(version.starts_with('v'), "{tool:?} {version}");
            let (file, import) = match tool.package {
                OWN => ("main.go", format!("\"{}/", tool.module)),
                package => ("tools.go", format!("\"{package}\"")),
            };
            let imports = fs::read_to_string(tool.module_folder().join(file)).expect("a file of imports");
            assert!(imports.contains(&import), "{tool:?}");
        }
    }

    #[test]
    fn kubernetes_is_stamped_and_nothing_else() {
        let flags = KUBELET.linker_flags("v1.36.3");
        assert!(flags.ends_with("gitVersion=v1.36.3 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36"));
        assert_eq!(ETCD.linker_flags("v3.6.8"), "-s -w");
    }

    #[test]
    fn reads_versions_in_blocks_and_on_single_lines() {
        let go_mod = "require a.b/c v1.2.3\nrequire (\n\ta.b/d v4.5.6 // indirect\n)\nreplace a.b/e => a.b/e v0.1.0\n";
        assert_eq!(required_version(go_mod, "a.b/c").as_deref(), Some("v1.2.3"));
        assert_eq!(required_version(go_mod, "a.b/d").as_deref(), Some("v4.5.6"));
        assert_eq!(required_version(go_mod, "a.b/x"), None);
    }
}
