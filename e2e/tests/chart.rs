//! The chart, by a real Helm: what it renders, what it refuses, and its life on a real API server.

#[path = "chart/approvals.rs"]
mod approvals;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rorun_e2e::engine::process::Run;
use rorun_e2e::engine::{Cache, TestServer, tools};
use serde_json::{Value, json};
use tempfile::TempDir;

const NAMESPACE: &str = "rorun-system";
const RELEASE: &str = "rorun-operator";
const DEFINITION: &str = "rorunstacks.rorun.app";

/// A Helm that reads and writes nothing of the person's own.
struct Helm {
    program: PathBuf,
    home: TempDir,
}

impl Helm {
    fn new() -> Result<Helm> {
        Ok(Helm { program: tools::HELM.path(&Cache::from_env()?)?, home: tempfile::tempdir()? })
    }

    fn run(&self, arguments: &[&str]) -> Run {
        let run = Run::new(&self.program, arguments).arg(format!("--namespace={NAMESPACE}")).folder(&chart());
        ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"]
            .into_iter()
            .fold(run, |run, variable| run.env(variable, self.home.path()))
    }

    /// What the chart becomes on the oldest Kubernetes that it is for.
    fn template(&self, arguments: &[&str]) -> Result<String> {
        self.run(&["template", RELEASE, ".", "--kube-version=1.33.0"]).args(arguments).output()
    }

    fn on(&self, server: &TestServer, arguments: &[&str]) -> Result<String> {
        self.run(arguments).env("KUBECONFIG", &server.kubeconfig).output()
    }
}

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/rorun-operator")
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(chart().join(path)).with_context(|| format!("failed to read {path}"))
}

fn objects(rendered: &str) -> Result<Vec<Value>> {
    Ok(serde_saphyr::from_multiple(rendered)?)
}

fn kinds(rendered: &str) -> Result<Vec<String>> {
    Ok(objects(rendered)?.iter().map(|object| object["kind"].as_str().unwrap_or_default().to_owned()).collect())
}

#[test]
fn every_set_of_values_passes_the_linter_and_renders_as_before() -> Result<()> {
    let helm = Helm::new()?;
    insta::glob!("../../charts/rorun-operator/ci", "*-values.yaml", |values| {
        let values = format!("--values={}", values.display());
        helm.run(&["lint", ".", "--strict", "--kube-version=1.33.0", &values]).output().expect("a chart that passes");
        let rendered = helm.template(&[&values]).expect("a chart that renders");
        // The definition has thousands of lines, and a test of its own.
        let documents = rendered.split("---\n").filter(|document| !document.contains("kind: CustomResourceDefinition"));
        insta::assert_snapshot!(documents.collect::<Vec<_>>().join("---\n"));
    });
    Ok(())
}

/// As after an upgrade with `--reuse-values`, where the values are those of a chart that did not have it.
#[test]
fn without_a_period_the_operator_takes_its_own() -> Result<()> {
    let rendered = Helm::new()?.template(&["--set=resyncPeriod=null"])?;
    assert!(rendered.contains("--concurrency=8") && !rendered.contains("--resync-period"), "{rendered}");
    Ok(())
}

/// The same: values that are not there must take no security context and no argument away.
#[test]
fn without_the_values_of_a_later_chart_it_renders_as_with_their_defaults() -> Result<()> {
    let helm = Helm::new()?;
    let later = ["leaderElection", "extraArgs", "extraEnv", "extraVolumes", "extraVolumeMounts", "podSecurityContext"];
    let later = later.iter().chain(&[
        "securityContext",
        "commonLabels",
        "deploymentAnnotations",
        "approvalPolicy",
        "argocd",
        "optionalApis",
    ]);
    let without: Vec<_> = later.map(|value| format!("--set={value}=null")).collect();
    let without: Vec<_> = without.iter().map(String::as_str).collect();
    assert_eq!(objects(&helm.template(&without)?)?, objects(&helm.template(&[])?)?);
    Ok(())
}

/// The rights, and the argument without which the operator does not use them.
#[test]
fn an_api_of_another_project_is_used_only_where_it_is_switched_on() -> Result<()> {
    let helm = Helm::new()?;
    let rights = |values: &[&str]| -> Result<(Vec<String>, bool)> {
        let objects = objects(&helm.template(values)?)?;
        let granting = objects.iter().filter(|object| object["rules"].to_string().contains("monitoring.coreos.com"));
        let granting =
            granting.map(|role| format!("{}/{}", role["kind"], role["metadata"]["namespace"]).replace('"', ""));
        let arguments =
            objects.iter().map(|object| object["spec"]["template"]["spec"]["containers"][0]["args"].to_string());
        let used = arguments.into_iter().any(|arguments| arguments.contains("--optional-api=prometheusOperator"));
        Ok((granting.collect(), used))
    };
    let on = "--set=optionalApis.prometheusOperator=true";
    assert_eq!(rights(&[])?, (vec![], false));
    assert_eq!(rights(&[on])?, (vec!["ClusterRole/null".to_owned()], true));
    let namespaced = rights(&[on, "--set=watchNamespaces={shop,shop-staging}"])?;
    assert_eq!(namespaced, (vec!["Role/shop".to_owned(), "Role/shop-staging".to_owned()], true));
    assert_eq!(rights(&[on, "--set=rbac.create=false"])?, (vec![], true));
    Ok(())
}

#[test]
fn the_security_contexts_are_merged_key_by_key() -> Result<()> {
    let values = "podSecurityContext.runAsUser=1000710000,podSecurityContext.seccompProfile=null";
    let rendered = Helm::new()?.template(&[&format!("--set={values}"), "--set=securityContext.runAsGroup=0"])?;
    let deployment = objects(&rendered)?.into_iter().find(|object| object["kind"] == "Deployment");
    let spec = &deployment.context("no Deployment")?["spec"]["template"]["spec"];
    assert_eq!(spec["securityContext"], json!({"runAsNonRoot": true, "runAsUser": 1_000_710_000}));
    let container = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true, "runAsGroup": 0});
    assert_eq!(spec["containers"][0]["securityContext"], container);
    Ok(())
}

#[test]
fn wrong_values_are_refused_with_what_is_wrong() -> Result<()> {
    let helm = Helm::new()?;
    let refused = [
        ("--set=replica=3", "additional properties 'replica' not allowed"),
        ("--set=replicas=two", "at '/replicas': got string, want integer"),
        ("--set=replicas=0", "set replicas to 1 or more"),
        ("--set=watchNamespaces={shop,shop}", "at '/watchNamespaces': items at 0 and 1 are equal"),
        ("--set=watchNamespaces={Shop}", "at '/watchNamespaces/0': 'Shop' does not match pattern"),
        ("--set=resyncPeriod=25h", "at '/resyncPeriod': '25h' does not match pattern"),
        ("--set=resyncPeriod=0h", "at '/resyncPeriod': '0h' does not match pattern"),
        ("--set=leaderElection.leaseDuration=1m", "at '/leaderElection/leaseDuration': '1m' does not match pattern"),
        (
            "--set=leaderElection.leaseDuration=3601s",
            "at '/leaderElection/leaseDuration': '3601s' does not match pattern",
        ),
        ("--set=leaderElection.leaseDuration=14s", "leaseDuration is 14s: it must be longer than"),
        ("--set=leaderElection.renewDeadline=11s", "leaseDuration is 15s: it must be longer than"),
        ("--set=leaderElection.retryPeriod=9s", "must be longer than 1.2 times leaderElection.retryPeriod (9s)"),
        ("--set=extraEnv[0].name=AGENT_IMAGE", "at '/extraEnv/0/name': 'not' failed"),
        ("--set=optionalApis.prometheus=true", "additional properties 'prometheus' not allowed"),
        ("--set=extraArgs={run}", "at '/extraArgs/0': 'run' does not match pattern"),
        ("--set=logLevel=loud", "at '/logLevel': 'loud' does not match pattern"),
        ("--set=logFormat=yaml", "at '/logFormat': value must be one of 'json', 'text'"),
        ("--set=image.digest=sha256:0", "at '/image/digest': 'sha256:0' does not match pattern"),
        ("--set=image.repository=rorun:1", "at '/image/repository': 'rorun:1' does not match pattern"),
        ("--set=metrics.service=false,metrics.serviceMonitor.enabled=true", "set metrics.service to true"),
        ("--kube-version=1.32.9", "chart requires kubeVersion: >=1.33.0-0"),
    ];
    for (values, expected) in refused {
        let error = helm.template(&[values]).err().with_context(|| format!("{values} was let through"))?;
        assert!(error.to_string().contains(expected), "{values}: {error}");
    }
    Ok(())
}

#[test]
fn the_definition_is_that_of_the_code_and_is_kept_unless_told_otherwise() -> Result<()> {
    let helm = Helm::new()?;
    let one = |values: &str, name: &str| -> Result<Value> {
        let objects = objects(&helm.template(&["--show-only=templates/crd.yaml", values])?)?;
        let found = objects.into_iter().find(|object| object["metadata"]["name"] == name);
        found.with_context(|| format!("no definition {name}"))
    };
    for name in ["rorunstacks.rorun.app", "rorunbackups.rorun.app"] {
        let kept = one("--set=crds.keep=true", name)?;
        let generated: Value = serde_saphyr::from_str(&read(&format!("../../crds/{name}.yaml"))?)?;
        assert!(kept["spec"] == generated["spec"], "the chart's definition is not that of crds/");
        assert_eq!(kept["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
        assert_eq!(one("--set=crds.keep=false", name)?["metadata"]["annotations"], Value::Null);
    }
    assert!(!kinds(&helm.template(&["--set=crds.install=false"])?)?.iter().any(|kind| kind.starts_with("Custom")));
    Ok(())
}

#[test]
fn with_namespaces_nothing_but_the_definition_is_of_the_cluster() -> Result<()> {
    let helm = Helm::new()?;
    let rendered = helm.template(&["--set=watchNamespaces={shop,shop-staging}"])?;
    let mut roles = Vec::new();
    for object in objects(&rendered)? {
        let (kind, namespace) = (&object["kind"], &object["metadata"]["namespace"]);
        assert_eq!(kind == "CustomResourceDefinition", namespace.is_null(), "{kind}");
        if kind == "Role" {
            roles.push(namespace.as_str().unwrap_or_default().to_owned());
        }
    }
    assert_eq!(roles, ["shop", "shop-staging", NAMESPACE]);
    Ok(())
}

#[test]
fn the_health_check_of_argo_cd_comes_as_it_was_tried() -> Result<()> {
    let rendered = Helm::new()?.template(&["--set=argocd.healthCheck=true", "--show-only=templates/argocd.yaml"])?;
    let fragment = objects(&rendered)?.into_iter().next().context("no ConfigMap")?;
    let script = fragment["data"]["resource.customizations.health.rorun.app_RorunStack"].as_str();
    assert_eq!(script, Some(&*read("files/health.lua")?));
    assert_eq!(fragment["data"].as_object().map(serde_json::Map::len), Some(1));
    Ok(())
}

/// The keys of a tree of values, as `--set` names them. An empty map or list is a value.
fn keys(value: &Value, path: &str, found: &mut Vec<String>) {
    // Of these Kubernetes knows the fields.
    let whole = ["resources", "podSecurityContext", "securityContext"].contains(&path);
    match value.as_object().filter(|members| !members.is_empty() && !whole) {
        Some(members) => {
            for (name, member) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                keys(member, &path, found);
            }
        }
        None => found.push(path.to_owned()),
    }
}

#[test]
fn every_value_is_in_the_schema_and_told_in_the_readme() -> Result<()> {
    let values: Value = serde_saphyr::from_str(&read("values.yaml")?)?;
    let full: Value = serde_saphyr::from_str(&read("ci/full-values.yaml")?)?;
    let schema: Value = serde_json::from_str(&read("values.schema.json")?)?;
    let readme = read("README.md")?;
    let mut found = Vec::new();
    keys(&values, "", &mut found);
    assert!(found.len() > 30, "{found:?}");
    for key in &found {
        let pointer = key.replace('.', "/properties/");
        assert!(schema.pointer(&format!("/properties/{pointer}")).is_some(), "{key} is not in values.schema.json");
        assert!(readme.contains(&format!("\n| `{key}` | ")), "{key} is not in README.md");
        assert!(full.pointer(&format!("/{}", key.replace('.', "/"))).is_some(), "{key} is not in ci/full-values.yaml");
    }
    let reported = readme.lines().filter(|line| line.starts_with("| `") && line.matches(" | ").count() == 2).count();
    assert_eq!(reported, found.len(), "README.md tells of values that are not there");
    Ok(())
}

async fn client(server: &TestServer) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(&server.kubeconfig)?;
    Ok(Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)?)
}

/// A pod of the operator's Deployment, as its controller would create it.
fn pod_of(rendered: &str) -> Result<Pod> {
    let deployment = objects(rendered)?.into_iter().find(|object| object["kind"] == "Deployment");
    let mut pod = deployment.context("no Deployment")?["spec"]["template"].take();
    pod["metadata"]["name"] = RELEASE.into();
    Ok(serde_json::from_value(pod)?)
}

#[tokio::test]
async fn it_is_installed_upgraded_and_removed_and_stacks_stay() -> Result<()> {
    let helm = Helm::new()?;
    let server = TestServer::start()?;
    let client = client(&server).await?;
    let restricted = serde_json::from_value(json!({
        "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }))?;
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &restricted).await?;

    helm.on(&server, &["install", RELEASE, "."])?;
    Api::<ServiceAccount>::namespaced(client.clone(), NAMESPACE).get(RELEASE).await?;
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    pods.create(&PostParams::default(), &pod_of(&helm.template(&[])?)?)
        .await
        .context("Pod Security refuses the pod")?;

    let kubectl = tools::KUBECTL.path(&Cache::from_env()?)?;
    let kubectl = |arguments: &[&str]| Run::new(&kubectl, arguments).env("KUBECONFIG", &server.kubeconfig);
    let stack = "{apiVersion: rorun.app/v1alpha1, kind: RorunStack, metadata: {name: shop}, \
                 spec: {environment: Development, api: {image: 'rorun-api:1.8.0'}}}";
    kubectl(&["wait", "--for=condition=Established", "--timeout=30s", &format!("crd/{DEFINITION}")]).output()?;
    kubectl(&["apply", "--namespace=default", "--filename=-"]).input(stack).output()?;

    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    let installed = definitions.get(DEFINITION).await?;
    helm.on(&server, &["upgrade", RELEASE, ".", "--set=replicas=3,watchNamespaces={default}"])?;
    let rights = ["auth", "can-i", "list", "secrets", "--as=system:serviceaccount:rorun-system:rorun-operator"];
    assert!(kubectl(&rights).arg("--namespace=default").succeeds());
    assert!(!kubectl(&rights).arg("--namespace=kube-system").succeeds(), "the ClusterRole outlived the upgrade");
    helm.on(&server, &["uninstall", RELEASE])?;
    assert_eq!(definitions.get(DEFINITION).await?.metadata.uid, installed.metadata.uid);
    assert!(kubectl(&["get", "rstack", "shop", "--namespace=default"]).succeeds());

    // A release of the same name takes the definition up again, and only when told so does it go.
    helm.on(&server, &["install", RELEASE, ".", "--set=crds.keep=false"])?;
    assert_eq!(definitions.get(DEFINITION).await?.metadata.uid, installed.metadata.uid);
    helm.on(&server, &["uninstall", RELEASE])?;
    let gone = definitions.get_opt(DEFINITION).await?;
    assert!(gone.is_none_or(|definition| definition.metadata.deletion_timestamp.is_some()));
    Ok(())
}
