//! The programs of the cluster, built from Go modules that `e2e/tools/` pins: one module for each, since what they
//! require conflicts. Each binary is an entry of the cache of its own, so a run builds only what it needs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::cache::{Cache, Key};
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
    package: &'static str,
    /// Seconds that a first build took on two cores, for whoever waits for it.
    cold_seconds: u32,
}

macro_rules! tools {
    ($($name:ident = $binary:literal, $folder:literal, $module:literal, $package:literal, $seconds:literal;)*) => {
        $(
            #[doc = concat!("`", $binary, "`")]
            pub const $name: Tool =
                Tool { binary: $binary, folder: $folder, module: $module, package: $package, cold_seconds: $seconds };
        )*
        #[cfg(test)]
        const ALL: &[Tool] = &[$($name),*];
    };
}

tools! {
    KUBE_APISERVER = "kube-apiserver", "kubernetes", "k8s.io/kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", 320;
    KUBE_CONTROLLER_MANAGER = "kube-controller-manager", "kubernetes", "k8s.io/kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager", 80;
    KUBE_PROXY = "kube-proxy", "kubernetes", "k8s.io/kubernetes", "k8s.io/kubernetes/cmd/kube-proxy", 10;
    KUBE_SCHEDULER = "kube-scheduler", "kubernetes", "k8s.io/kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler", 10;
    KUBEADM = "kubeadm", "kubernetes", "k8s.io/kubernetes", "k8s.io/kubernetes/cmd/kubeadm", 22;
    KUBECTL = "kubectl", "kubernetes", "k8s.io/kubernetes", "k8s.io/kubernetes/cmd/kubectl", 22;
    KUBELET = "kubelet", "kubernetes", "k8s.io/kubernetes", "k8s.io/kubernetes/cmd/kubelet", 22;
    ETCD = "etcd", "etcd", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3", 40;
    CONTAINERD = "containerd", "containerd", "github.com/containerd/containerd/v2", "github.com/containerd/containerd/v2/cmd/containerd", 60;
    CONTAINERD_SHIM = "containerd-shim-runc-v2", "containerd", "github.com/containerd/containerd/v2", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2", 10;
    CTR = "ctr", "containerd", "github.com/containerd/containerd/v2", "github.com/containerd/containerd/v2/cmd/ctr", 10;
    KIND = "kind", "kind", "sigs.k8s.io/kind", "sigs.k8s.io/kind", 10;
    CRICTL = "crictl", "crictl", "sigs.k8s.io/cri-tools", "sigs.k8s.io/cri-tools/cmd/crictl", 45;
    COREDNS = "coredns", "coredns", "github.com/coredns/coredns", "github.com/coredns/coredns", 250;
    LOCAL_PATH_PROVISIONER = "local-path-provisioner", "local-path-provisioner", "github.com/rancher/local-path-provisioner", "github.com/rancher/local-path-provisioner", 150;
    METRICS_SERVER = "metrics-server", "metrics-server", "sigs.k8s.io/metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server", 170;
    HELM = "helm", "helm", "helm.sh/helm/v3", "helm.sh/helm/v3/cmd/helm", 130;
}

impl Tool {
    /// The path of the binary, built first if it has to be.
    pub fn path(&self, cache: &Cache) -> Result<PathBuf> {
        let folder = cache.entry(&self.key()?, |folder| self.build(folder))?;
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
        let recipe = [&go_mod, &go_sum, self.package.as_bytes(), flags.as_bytes()];
        Ok(Key::new("tools", self.binary, &version, recipe))
    }

    /// The version that go.mod pins.
    pub fn version(&self) -> Result<String> {
        let go_mod = fs::read_to_string(self.module_folder().join("go.mod"))?;
        required_version(&go_mod, self.module)
            .with_context(|| format!("failed to find the version of {} in go.mod", self.module))
    }

    /// The folder of Go's module cache that holds the sources of the tool's module.
    pub fn sources(&self) -> Result<PathBuf> {
        let list = fetched(|| self.go(&["mod", "download", "-json", self.module])?.output())?;
        let found: serde_json::Value = serde_json::from_str(&list)?;
        let folder = found["Dir"].as_str().with_context(|| format!("go knows no folder of {}", self.module))?;
        Ok(PathBuf::from(folder))
    }

    fn module_folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(self.folder)
    }

    fn build(&self, to: &Path) -> Result<()> {
        let version = self.version()?;
        let flags = self.linker_flags(&version);
        let what = format!("building {} {version} from its Go module", self.binary);
        let why = format!("not in the cache yet; about {} s on two cores the first time", self.cold_seconds);
        Step::of(&what, &why, || {
            // Gets the modules, so that building needs none that is not there.
            fetched(|| self.go(&["list", "-deps", "-mod=readonly", self.package])?.output())?;
            let build = ["build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", &flags, "-o"];
            self.go(&build)?.arg(to.join(self.binary)).arg(self.package).output()?;
            Ok(())
        })
    }

    /// Go in the tool's module, for static binaries, which run on the root file system of any image.
    fn go(&self, arguments: &[&str]) -> Result<Run> {
        let go = find_program("go")
            .context("failed to find `go`: building the cluster's programs needs Go 1.26 or later")?;
        Ok(Run::new(go, arguments).folder(&self.module_folder()).env("CGO_ENABLED", "0").env("GOFLAGS", ""))
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
        for tool in ALL {
            let version = tool.version().expect("a version");
            assert!(version.starts_with('v'), "{tool:?} {version}");
            let imports = fs::read_to_string(tool.module_folder().join("tools.go")).expect("a tools.go");
            assert!(imports.contains(&format!("\"{}\"", tool.package)), "{tool:?}");
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
