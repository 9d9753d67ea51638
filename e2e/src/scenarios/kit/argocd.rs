//! Argo CD, as its own manifest installs it, beside a git repository that is in the cluster too.

use std::fmt::{self, Write};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use super::test_cluster::blocking;
use super::{Observed, TestContext, diagnose, project, until};
use crate::engine::image::{argocd, data};
use crate::engine::process::Run;
use crate::engine::{Cache, tools};

/// The manifest in its sources: the controller of Applications, the repository server and their Redis, without the user interface.
const MANIFEST: &str = "manifests/core-install.yaml";
/// The kinds of its objects that are in no namespace, and the label by which they are found again.
const CLUSTER_WIDE: [&str; 3] = ["CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"];
const LABEL: &str = "app.kubernetes.io/part-of=argocd";
const CONTROLLER: &str = "statefulset/argocd-application-controller";
const REPOSITORY_SERVER: &str = "deployment/argocd-repo-server";
const SETTINGS: &str = "argocd-cm";
const REFRESH: &str = "argocd.argoproj.io/refresh";

const INSTALLED_WITHIN: Duration = Duration::from_mins(3);
const COMPARED_WITHIN: Duration = Duration::from_mins(1);
const MISSED_AFTER: Duration = Duration::from_secs(5);
const SYNCED_WITHIN: Duration = Duration::from_mins(4);

/// An Argo CD that runs.
#[derive(Debug)]
pub struct ArgoCd<'a> {
    test: &'a TestContext,
    /// The namespace that it runs in, with its Applications and the repository.
    pub namespace: String,
}

/// An Application, as Argo CD sees it.
#[derive(Clone, Debug)]
pub struct Application(Value);

impl Application {
    /// Whether git and the cluster are the same: `Synced`, `OutOfSync` or `Unknown`.
    pub fn sync(&self) -> &str {
        self.text("/status/sync/status")
    }

    /// The health of what it has put into the cluster.
    pub fn health(&self) -> &str {
        self.text("/status/health/status")
    }

    /// The objects that it takes for its own, as `Kind/name`.
    pub fn resources(&self) -> Vec<String> {
        let of = |field: &Value| field.as_str().unwrap_or_default().to_owned();
        let resources = self.0.pointer("/status/resources").and_then(Value::as_array).into_iter().flatten();
        resources.map(|resource| format!("{}/{}", of(&resource["kind"]), of(&resource["name"]))).collect()
    }

    /// The last time that it wrote what git has: a sync that nobody asked for moves it.
    pub fn last_sync(&self) -> &str {
        self.text("/status/operationState/startedAt")
    }

    /// Whether that sync is over, and did what it was to do.
    pub fn ended_well(&self) -> bool {
        self.text("/status/operationState/phase") == "Succeeded"
    }

    fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }
}

/// All of that in a line, with what went wrong.
impl fmt::Display for Application {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wrong = self.0.pointer("/status/conditions").unwrap_or(&Value::Null);
        write!(
            formatter,
            "{} at {}, {}, holds {:?}; the sync of {} {}: {}; conditions: {wrong}",
            self.sync(),
            self.text("/status/sync/revision"),
            self.health(),
            self.resources(),
            self.last_sync(),
            self.text("/status/operationState/phase"),
            self.text("/status/operationState/message"),
        )
    }
}

/// The folder of the one repository.
const REPOSITORY: &str = "/srv/environments";

impl<'a> ArgoCd<'a> {
    /// The key of the duration of its build, and how many seconds it takes on two idle processors.
    pub const BUILD: (&'static str, u32) = ("build argocd", 400);

    /// Whether the cache has it.
    pub fn is_there(cache: &Cache) -> Result<bool> {
        tools::ARGOCD.is_built(cache)
    }

    /// Builds it unless it is in the cache.
    pub fn build(cache: &Cache) -> Result<()> {
        tools::ARGOCD.path(cache).map(drop)
    }

    /// A namespace for it.
    pub async fn of(test: &'a TestContext) -> Result<ArgoCd<'a>> {
        Ok(ArgoCd { test, namespace: test.namespace_called("argocd").await? })
    }

    /// Installs it with these settings of its ConfigMap, and the repository.
    pub async fn install(&self, settings: &Value) -> Result<()> {
        let cluster = self.test.cluster.clone();
        let (image, manifest) = blocking(move || {
            let image = argocd::image()?;
            image.ensure(cluster.cache(), cluster.docker())?;
            cluster.load(&image.name)?;
            Ok((image.name, fs::read_to_string(tools::ARGOCD.sources()?.join(MANIFEST))?))
        })
        .await?;
        let mut objects = objects(&manifest, &self.namespace)?;
        objects.extend(repository(&image, &self.namespace));
        self.test.apply_objects(&json!({"apiVersion": "v1", "kind": "List", "items": objects})).await?;
        self.configure(settings).await?;
        for workload in [CONTROLLER, REPOSITORY_SERVER, "deployment/argocd-redis", "deployment/git"] {
            let status = ["rollout", "status", "--namespace", &self.namespace, workload, "--timeout=1s"];
            self.wait(&format!("{workload} to be ready"), INSTALLED_WITHIN, async || {
                Ok(Observed::Met(self.test.kubectl(&status).await.map(drop)?))
            })
            .await?;
        }
        Ok(())
    }

    /// Removes what of it is in no namespace. Nothing of it waits for a controller that is about to go, too.
    pub async fn remove(&self) -> Result<()> {
        let applications = self.applications();
        for left in applications.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default() {
            let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            applications.patch(&left.metadata.name.unwrap_or_default(), &PatchParams::default(), &free).await?;
        }
        let kinds = CLUSTER_WIDE.join(",").to_lowercase();
        self.test.kubectl(&["delete", &kinds, "--selector", LABEL]).await.map(drop)
    }

    /// Changes settings of its ConfigMap.
    pub async fn configure(&self, settings: &Value) -> Result<()> {
        let data = json!({"data": settings}).to_string();
        let patch = ["patch", "--namespace", &self.namespace, "configmap", SETTINGS, "--type=merge", "--patch", &data];
        self.test.kubectl(&patch).await.map(drop)
    }

    /// Commits a file with this content to the repository; gives the name of the commit.
    pub async fn commit(&self, file: &str, content: &str) -> Result<String> {
        let (folder, _) = file.rsplit_once('/').context("a file is in a folder")?;
        let script = format!(
            "cd {REPOSITORY} && mkdir -p {folder} && cat > {file} && git add --all && \
             git commit --quiet --message='Change {file}' && git rev-parse HEAD"
        );
        let exec = ["exec", "--stdin", "--namespace", &self.namespace, "deployment/git", "--", "sh", "-c", &script];
        Ok(self.test.kubectl_with(&exec, content).await?.trim().to_owned())
    }

    /// Applies an example of Applications, with the repository and the namespaces of this test.
    pub async fn apply_example(&self, file: &str) -> Result<()> {
        let text = fs::read_to_string(project().join("examples").join(file))?;
        let mut documents: Vec<Value> = serde_saphyr::from_multiple(&text)?;
        let (url, to) = (format!("git://git.{}/environments", self.namespace), json!(self.test.namespace));
        for document in &mut documents {
            document["metadata"]["namespace"] = json!(self.namespace);
            match document["kind"].as_str() {
                Some("AppProject") => {
                    document["spec"]["sourceRepos"] = json!([url]);
                    document["spec"]["destinations"][0]["namespace"] = to.clone();
                }
                Some("Application") => {
                    document["spec"]["source"]["repoURL"] = json!(url);
                    document["spec"]["destination"]["namespace"] = to.clone();
                }
                other => bail!("{file} has a {other:?}"),
            }
        }
        self.test.apply_objects(&json!({"apiVersion": "v1", "kind": "List", "items": documents})).await
    }

    /// Changes an object of Argo CD's by a JSON merge patch.
    pub async fn patch(&self, kind: &str, name: &str, patch: &Value) -> Result<()> {
        let patch = patch.to_string();
        let arguments = ["patch", "--namespace", &self.namespace, kind, name, "--type=merge", "--patch", &patch];
        self.test.kubectl(&arguments).await.map(drop)
    }

    /// The Application as it is now.
    pub async fn application(&self, name: &str) -> Result<Application> {
        Ok(Application(serde_json::to_value(self.applications().get(name).await?)?))
    }

    /// Has Argo CD read git and the cluster anew, and compare them; gives what it found.
    pub async fn compared(&self, name: &str) -> Result<Application> {
        let mut asked: Option<Instant> = None;
        self.wait(&format!("Argo CD to compare {name}"), COMPARED_WITHIN, async || {
            let application = self.application(name).await?;
            let waits = application.0["metadata"]["annotations"].get(REFRESH).is_some();
            if asked.is_some() && !waits {
                return Ok(Observed::Met(application));
            }
            // It may miss a wish that comes while it writes its own status, so it is told again.
            if asked.is_none_or(|at| at.elapsed() > MISSED_AFTER) {
                for wish in [Value::Null, json!("hard")] {
                    let refresh = json!({"metadata": {"annotations": {REFRESH: wish}}});
                    let patch = Patch::Merge(refresh);
                    self.applications().patch(name, &PatchParams::default(), &patch).await?;
                }
                asked = Some(Instant::now());
            }
            Ok(Observed::NotYet(application.to_string()))
        })
        .await
    }

    /// Waits until the cluster is what that commit says, and is healthy.
    pub async fn wait_synced(&self, name: &str, commit: &str) -> Result<Application> {
        self.compared(name).await?;
        self.wait(&format!("{name} to be synced to {commit} and healthy"), SYNCED_WITHIN, async || {
            let application = self.application(name).await?;
            let there = application.text("/status/sync/revision") == commit
                && application.ended_well()
                && application.text("/status/operationState/syncResult/revision") == commit
                && (application.sync(), application.health()) == ("Synced", "Healthy");
            Ok(if there { Observed::Met(application) } else { Observed::NotYet(application.to_string()) })
        })
        .await
    }

    /// Deletes an Application, and waits until it is gone.
    pub async fn delete(&self, name: &str) -> Result<()> {
        let applications = self.applications();
        applications.delete(name, &DeleteParams::background()).await?;
        self.wait(&format!("{name} to be gone"), SYNCED_WITHIN, async || {
            let left = applications.get_opt(name).await?;
            Ok(Observed::when(left.is_none(), format!("{:?}", left.map(|left| left.metadata.finalizers))))
        })
        .await
    }

    /// The health of an object by its settings, and the message: what `argocd` itself says, without a cluster.
    pub async fn health(&self, object: &Value) -> Result<(String, String)> {
        let settings = self.test.get(&self.namespace, "configmap", SETTINGS).await?.to_string();
        let (cache, object) = (self.test.cluster.cache().clone(), object.to_string());
        let said = blocking(move || {
            let folder = tempfile::tempdir()?;
            let file = |name: &str, text: &str| -> Result<_> {
                let path = folder.path().join(name);
                fs::write(&path, text)?;
                Ok(path)
            };
            let (object, settings) = (file("object.yaml", &object)?, file("settings.yaml", &settings)?);
            let ask = ["admin", "settings", "resource-overrides", "health"].map(Path::new);
            Run::new(
                tools::ARGOCD.path(&cache)?,
                ask.into_iter().chain([&*object, "--argocd-cm-path".as_ref(), &*settings]),
            )
            .env("HOME", folder.path())
            .output()
        })
        .await?;
        let (health, message) = said.trim_end().split_once('\n').with_context(|| format!("argocd says {said}"))?;
        let part = |line: &str, name: &str| line.strip_prefix(name).map(|text| text.trim().to_owned());
        let parts = part(health, "STATUS:").zip(part(message, "MESSAGE:"));
        parts.with_context(|| format!("argocd says {said}"))
    }

    /// What Argo CD has and said, with the diff of an Application, for the reader of a failure.
    pub async fn told(&self, name: &str) -> String {
        let mut text = Box::pin(diagnose(self.test, &self.namespace)).await;
        let application = self.application(name).await;
        let line = application.map_or_else(|error| format!("{error:#}"), |application| application.to_string());
        let _ = writeln!(text, "application {name}: {line}");
        // That of the API server wants a kubeconfig, which the pod lacks.
        let diff = ["argocd", "app", "diff", name, "--core", "--exit-code=false", "--server-side-diff=false"];
        let diff = self.test.exec(&self.namespace, CONTROLLER, &diff).await;
        let _ = writeln!(text, "diff:\n{}", diff.unwrap_or_else(|error| format!("{error:#}")));
        for workload in [CONTROLLER, REPOSITORY_SERVER] {
            let logs = ["logs", "--namespace", &self.namespace, workload, "--tail=300"];
            let said = self.test.kubectl(&logs).await.unwrap_or_else(|error| format!("{error:#}"));
            let said: Vec<_> = said.lines().filter(|line| !line.contains("\"grpc.")).collect();
            let last = said.len().saturating_sub(25);
            let _ = writeln!(text, "{workload} says:\n{}", said[last..].join("\n"));
        }
        text
    }

    fn applications(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Application");
        self.test.dynamic(&self.namespace, &ApiResource::from_gvk_with_plural(&kind, "applications"))
    }

    async fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        observe: impl AsyncFnMut() -> Result<Observed<T>>,
    ) -> Result<T> {
        until(self.test, &self.test.namespace, what, limit, observe).await
    }
}

/// The objects of the manifest in that namespace. Their Redis is the Valkey of the cluster, and nothing is pulled.
fn objects(manifest: &str, namespace: &str) -> Result<Vec<Value>> {
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(manifest)?;
    // What makes Applications out of templates is used by none of ours.
    objects.retain(|object| !object["metadata"]["name"].as_str().is_some_and(|name| name.contains("applicationset")));
    ensure!(objects.len() > 10, "{MANIFEST} has {} objects", objects.len());
    for object in &mut objects {
        if !CLUSTER_WIDE.iter().any(|kind| object["kind"] == *kind) {
            object["metadata"]["namespace"] = json!(namespace);
        }
        if object["kind"] == "Secret" {
            // The user interface would make it, and the controller wants it.
            object["stringData"] = json!({"server.secretkey": namespace});
        }
        for subject in object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
            subject["namespace"] = json!(namespace);
        }
        for containers in ["containers", "initContainers"] {
            let found = object.pointer_mut(&format!("/spec/template/spec/{containers}")).and_then(Value::as_array_mut);
            for container in found.into_iter().flatten() {
                container["imagePullPolicy"] = json!("IfNotPresent");
                if container["image"].as_str().is_some_and(|image| image.contains("/redis:")) {
                    container["image"] = json!(data::VALKEY);
                }
            }
        }
    }
    Ok(objects)
}

/// A server of one repository, which takes commits where it runs. The image of Argo CD has git.
fn repository(image: &str, namespace: &str) -> [Value; 2] {
    let script = format!(
        "git init --quiet --initial-branch=main {REPOSITORY} && exec git daemon --base-path=/srv --export-all /srv"
    );
    let (labels, metadata) = (json!({"app": "git"}), json!({"name": "git", "namespace": namespace}));
    let variable = |name: &str, value: &str| json!({"name": name, "value": value});
    let container = json!({
        "name": "git",
        "image": image,
        "command": ["/usr/bin/tini", "--", "sh", "-c", script],
        "env": [
            variable("GIT_AUTHOR_NAME", "ada"),
            variable("GIT_AUTHOR_EMAIL", "ada@example.com"),
            variable("GIT_COMMITTER_NAME", "ada"),
            variable("GIT_COMMITTER_EMAIL", "ada@example.com"),
        ],
        "ports": [{"containerPort": 9418}],
        "readinessProbe": {"tcpSocket": {"port": 9418}},
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "srv", "mountPath": "/srv"}],
    });
    let pod = json!({
        "containers": [container],
        "securityContext": {"runAsNonRoot": true, "runAsUser": 999, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "srv", "emptyDir": {}}],
    });
    let template = json!({"metadata": {"labels": labels}, "spec": pod});
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    });
    let ports = json!([{"port": 9418}]);
    let service = json!({"selector": labels, "ports": ports});
    [deployment, json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service})]
}
