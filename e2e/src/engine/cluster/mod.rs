//! The cluster: a kind cluster of one node with DNS, storage, metrics and an Ingress controller, on any machine.

mod addons;
mod audit;
mod config;
mod leftovers;
mod state;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

pub use audit::{Mark, OPERATOR_NAMESPACE};
pub use leftovers::{leftovers, prove_nothing_is_left};
pub use state::names;

use self::config::Ports;
use self::state::State;
use super::cache::Cache;
use super::docker::{Docker, OwnEngine};
use super::durations::{Durations, Timed};
use super::host::Host;
use super::image::{Source, control_plane, data, node};
use super::ports::{self, is_free};
use super::process::Run;
use super::progress::Step;
use super::{cleanup, packages, tools, wait};

const USUAL_PORTS: [u16; 2] = [18080, 18443];

/// A cluster that runs.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// The name that kind knows it by.
    pub name: String,
    /// For a cluster administrator.
    pub kubeconfig: PathBuf,
    /// The port of 127.0.0.1 that leads to the Ingress controller's `web` entry point.
    pub http_port: u16,
    /// The port of 127.0.0.1 that leads to its `websecure` entry point.
    pub https_port: u16,
    docker: Docker,
    cache: Cache,
}

impl Cluster {
    /// Brings the cluster up, or attaches to it when it runs already. One that fails to come up is removed again.
    pub fn up(cache: &Cache, name: &str) -> Result<Cluster> {
        let _lock = cache.lock(&format!("cluster-{name}"))?;
        if let Some(cluster) = Cluster::attach(cache, name)? {
            return Ok(cluster);
        }
        take_down(cache, name).context("failed to remove what an earlier run left")?;
        let unfinished = Unfinished::guard(cache, name);
        let cluster = Cluster::create(cache, name)?;
        unfinished.finished();
        Ok(cluster)
    }

    /// The cluster if it runs and is complete.
    pub fn attach(cache: &Cache, name: &str) -> Result<Option<Cluster>> {
        let Some(state) = State::load(cache, name)?.filter(|state| state.ready) else { return Ok(None) };
        let running = ["inspect", "--format", "{{.State.Running}}", &node_of(name)];
        if !state.docker.output(running).is_ok_and(|answer| answer.trim() == "true") {
            return Ok(None);
        }
        let cluster = Cluster::of(cache, name, &state);
        Ok(cluster.is_ready().then_some(cluster))
    }

    /// Whether the API server is ready, its first roles made, within a minute: Docker may have started the node just now.
    fn is_ready(&self) -> bool {
        let ready = ["get", "--raw=/readyz", "--request-timeout=10s"];
        wait::until_true("the API server is ready", Duration::from_mins(1), || Ok(self.kubectl(ready).is_ok())).is_ok()
    }

    /// Takes the cluster down, with our Docker Engine if it was the last one in it, and proves that nothing is left.
    pub fn down(cache: &Cache, name: &str) -> Result<()> {
        let _lock = cache.lock(&format!("cluster-{name}"))?;
        take_down(cache, name)
    }

    /// Brings the cluster up for as long as the returned value lives; a signal ends both.
    pub fn lease(cache: &Cache, name: &str) -> Result<Lease> {
        let cluster = Cluster::up(cache, name)?;
        let (at, named) = (cache.clone(), name.to_owned());
        let interrupted = cleanup::on_interrupt(move || report(take_down(&at, &named)));
        Ok(Lease { cluster, over: false, _interrupted: interrupted })
    }

    /// Puts an image of Docker's into the cluster. Pods use it with `imagePullPolicy: IfNotPresent`.
    pub fn load(&self, image: &str) -> Result<()> {
        let kind = tools::KIND.path(&self.cache)?;
        self.docker.run(kind, ["load", "docker-image", image, "--name", &self.name]).output()?;
        Ok(())
    }

    /// The Docker Engine that the cluster runs in.
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// The cache that it was made from.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Runs `kubectl` on the cluster and gives what it wrote.
    pub fn kubectl<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(&self, arguments: I) -> Result<String> {
        self.tool(tools::KUBECTL, arguments)?.output()
    }

    /// Runs `kubectl apply` on a manifest.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        self.tool(tools::KUBECTL, ["apply", "--filename=-"])?.input(manifest).output()
    }

    /// Runs `helm` on the cluster and gives what it wrote.
    pub fn helm<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(&self, arguments: I) -> Result<String> {
        self.tool(tools::HELM, arguments)?.output()
    }

    /// The container that is the node.
    pub fn node(&self) -> String {
        node_of(&self.name)
    }

    fn tool<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(&self, tool: tools::Tool, arguments: I) -> Result<Run> {
        Ok(Run::new(tool.path(&self.cache)?, arguments).env("KUBECONFIG", &self.kubeconfig))
    }

    fn of(cache: &Cache, name: &str, state: &State) -> Cluster {
        Cluster {
            name: name.to_owned(),
            kubeconfig: state::folder(cache, name).join("kubeconfig"),
            http_port: state.http_port,
            https_port: state.https_port,
            docker: state.docker.clone(),
            cache: cache.clone(),
        }
    }

    fn create(cache: &Cache, name: &str) -> Result<Cluster> {
        let host = Host::detect()?;
        let (mut state, ports) = {
            // Nobody stops our Docker Engine between its start and the file that says that it is needed.
            let _lock = cache.lock("docker")?;
            let docker = Docker::choose(cache)?;
            // After the engine is up: containers that come back with it take their ports again.
            let ports = choose_ports()?;
            let state = State { docker, http_port: ports.http, https_port: ports.https, ready: false };
            state.save(cache, name)?;
            (state, ports)
        };
        let cluster = Cluster::of(cache, name, &state);
        let node = node::find(cache, &state.docker, host)?;
        thread::scope(|scope| {
            // Who installs something needs it, and bringing the cluster up leaves a processor idle.
            let helm = scope.spawn(|| tools::HELM.path(cache));
            let source = node.ensure(cache, &state.docker)?;
            let what = format!("creating the cluster {name}");
            let timed = Timed { name: "create a cluster", what: &what, why: "it does not run", table: 40 };
            Step::timed(&Durations::of(cache), &timed, || {
                cluster.create_node(host, source, ports)?;
                cluster.start_addons(source)
            })?;
            helm.join().map_err(|_| anyhow!("building helm panicked"))?.map(drop)
        })?;
        state.ready = true;
        state.save(cache, name)?;
        Ok(cluster)
    }

    fn create_node(&self, host: Host, source: Source, ports: Ports) -> Result<()> {
        let folder = state::folder(&self.cache, &self.name);
        let mount = audit::prepare(&folder)?;
        let configuration = folder.join("kind.json");
        std::fs::write(&configuration, config::kind(host, source, ports, &mount).to_string())?;
        let kind = tools::KIND.path(&self.cache)?;
        self.docker
            .run(kind, ["create", "cluster", "--quiet", "--name", &self.name, "--image", &node::name()?])
            .arg("--config")
            .arg(configuration)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            // One of its own, so that it can be removed without asking who else is in it.
            .env("KIND_EXPERIMENTAL_DOCKER_NETWORK", network_of(&self.name))
            .output()
            .context("failed to create the kind cluster")?;
        if matches!(self.docker, Docker::Own(_)) {
            // An engine that was killed is started again to remove what it left, never to go on with a cluster.
            self.docker.output(["update", "--restart=no", &self.node()])?;
        }
        Ok(())
    }

    fn start_addons(&self, source: Source) -> Result<()> {
        if source == Source::Pulled {
            self.load_images()?;
        }
        addons::apply(self, source)?;
        if source == Source::Built {
            addons::install_network(self)?;
        }
        addons::wait_until_ready(self)
    }

    /// What a node image of our own has in it from the start.
    fn load_images(&self) -> Result<()> {
        packages::ensure(&["busybox-static"], "to build images that cannot be pulled")?;
        let mut images = vec![control_plane::metrics_server(&addons::kubeadm_images(self)?)?, control_plane::traefik()];
        images.extend(data::all());
        for image in images {
            image.ensure(&self.cache, &self.docker)?;
            self.load(&image.name)?;
        }
        Ok(())
    }
}

/// A cluster that is taken down when this is dropped.
#[derive(Debug)]
pub struct Lease {
    cluster: Cluster,
    over: bool,
    _interrupted: cleanup::Registration,
}

impl Lease {
    /// Takes the cluster down now. An error says what is left of it.
    pub fn close(mut self) -> Result<()> {
        self.over = true;
        Cluster::down(&self.cluster.cache, &self.cluster.name)
    }
}

impl std::ops::Deref for Lease {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.over {
            report(Cluster::down(&self.cluster.cache, &self.cluster.name));
        }
    }
}

/// Removes a cluster that did not come up: after an error, a panic, a signal.
struct Unfinished {
    cache: Cache,
    name: String,
    armed: bool,
    _interrupted: cleanup::Registration,
}

impl Unfinished {
    fn guard(cache: &Cache, name: &str) -> Unfinished {
        let (at, named) = (cache.clone(), name.to_owned());
        let interrupted = cleanup::on_interrupt(move || report(take_down(&at, &named)));
        Unfinished { cache: cache.clone(), name: name.to_owned(), armed: true, _interrupted: interrupted }
    }

    fn finished(mut self) {
        self.armed = false;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.armed {
            report(take_down(&self.cache, &self.name));
        }
    }
}

/// An error where there is nobody to return it to.
fn report(result: Result<()>) {
    if let Err(error) = result {
        eprintln!("error: {error:#}");
    }
}

fn take_down(cache: &Cache, name: &str) -> Result<()> {
    let engine = OwnEngine::of(cache)?;
    if let Some(state) = State::load(cache, name)? {
        let step = Step::start(&format!("removing the cluster {name}"), "with all that is in it");
        if matches!(state.docker, Docker::Own(_)) {
            // If it was killed, it comes back to end the containers that it left.
            engine.start(Host::detect()?)?;
        }
        let delete = ["delete", "cluster", "--quiet", "--name", name];
        let kubeconfig = state::folder(cache, name).join("kubeconfig");
        state.docker.run(tools::KIND.path(cache)?, delete).arg("--kubeconfig").arg(kubeconfig).output()?;
        let network = network_of(name);
        // It is not there if kind did not get that far; what is left is looked at next.
        let _ = state.docker.output(["network", "rm", &network]);
        let left = leftovers::in_docker(&state.docker, name, &network)?;
        if !left.is_empty() {
            bail!("something is left of the cluster {name}:\n  {}", left.join("\n  "));
        }
        step.done();
    }
    State::remove(cache, name)?;
    let _lock = cache.lock("docker")?;
    if names(cache)?.is_empty() {
        engine.stop()?;
        super::test_server::sweep(cache)?;
        prove_nothing_is_left(cache)?;
    }
    Ok(())
}

fn choose_ports() -> Result<Ports> {
    let [api_server, http, https] = ports::free()?;
    let [http, https] = if USUAL_PORTS.into_iter().all(|port| port != api_server && is_free(port)) {
        USUAL_PORTS
    } else {
        [http, https]
    };
    Ok(Ports { api_server, http, https })
}

fn node_of(name: &str) -> String {
    format!("{name}-control-plane")
}

fn network_of(name: &str) -> String {
    format!("kind-{name}")
}
