//! The operator with the rights that its chart grants and no others. One right is taken away: it says which object it may not
//! write (O4), and goes on by itself when the right is back (O3). What is granted is used, and what is used is granted. The
//! definition of stacks goes and comes back: no child is harmed, and no restart is needed (O8).

use std::collections::BTreeSet;
use std::fmt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::actor::Actor;
use crate::campaign::arena::{Arena, STACK, define};
use crate::campaign::bucket::Bucket;
use crate::campaign::site::{Site, all_well, plural, until, within};
use crate::campaign::suite::{Extent, Ground, Suite, Verdict};
use crate::campaign::{play, workload};
use crate::engine::progress::Step;
use crate::scenarios::kit::operator_binary;

/// Rights that are taken away, and given back.
pub(in crate::campaign) const SUITE: Suite = Suite {
    name: "rights",
    proves: "a right that is missing is told with the object, and given back it is used without a restart; none is granted in vain",
    play: |ground| Box::pin(play_suite(ground)),
};

const USER: &str = "system:serviceaccount:rorun-system:rorun-operator";
const ROLE: &str = "rorun-operator";
const TOLD_WITHIN: Duration = Duration::from_secs(10);
/// A watch that is refused is tried again up to 30 s later.
const BACK_WITHIN: Duration = Duration::from_secs(60);
const UNHARMED_FOR: Duration = Duration::from_secs(2);

/// A right by verb and resource, and why no run of this suite uses it.
const UNUSED: &[(&str, &str, &str)] = &[
    ("*", "configmaps", "only a stack with an authority of its own has one: the scenario external"),
    ("*", "rorunstacks/finalizers", "asked for by an admission plugin that is not on here"),
    ("get", "rorunstacks", "the watch gives them"),
    ("patch", "events", "an event that repeats: none does within a run"),
    ("*", "leases", "there is one replica: the suite of leaders"),
    ("get", "*", "an object of the name that no watch shows: the suite drift"),
    ("delete", "secrets", "the credentials of a stack that goes with its data are deleted, and no other"),
    ("delete", "statefulsets", "an embedded service that becomes an external one"),
    ("delete", "poddisruptionbudgets", "a stack whose floor of pods falls below two"),
    ("delete", "horizontalpodautoscalers", "a stack that is scaled by number"),
];

/// What happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Case {
    /// The life of a stack, with all rights.
    Life,
    /// A verb on a kind is taken away, and then needed.
    Write { kind: String, verb: String },
    /// A kind cannot be read when the operator starts.
    Read { kind: String },
    /// The definition of stacks is deleted, and made again.
    Definition,
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Case::Life => formatter.write_str("a life with all rights"),
            Case::Write { kind, verb } => write!(formatter, "may not {verb} a {kind}"),
            Case::Read { kind } => write!(formatter, "may not list and watch a {kind}"),
            Case::Definition => formatter.write_str("the definition goes and comes back"),
        }
    }
}

struct Scene<'a> {
    arena: &'a Arena,
    bucket: &'a Bucket,
    /// The operator, to the API server.
    user: Client,
    role: Value,
}

async fn play_suite(ground: &Ground<'_>) -> Result<()> {
    let arena = Arena::open(ground.cache).await?;
    let (_actor, bucket) = (Actor::start(arena.client.clone(), Duration::ZERO), Bucket::start().await?);
    let scene = Scene { arena: &arena, bucket: &bucket, user: user(&arena).await?, role: grant(&arena.client).await? };
    let cases = match &ground.extent {
        Extent::Only(plan) => vec![serde_json::from_value(plan.clone()).context("this is no plan of this suite")?],
        Extent::Whole => plans(),
        Extent::Quick => {
            let mut cases = vec![Case::Life, Case::Read { kind: "Deployment".to_owned() }];
            cases.extend(plans().into_iter().filter(|case| matches!(case, Case::Write { .. })).step_by(7));
            cases.push(Case::Definition);
            cases.extend(play::found("rights")?);
            cases
        }
    };
    let step = Step::start(&format!("rights: {} plans", cases.len()), "one after the other: the role is the cluster's");
    for case in cases {
        let problems = match scene.play(&case).await {
            Ok(problems) => problems,
            Err(error) => vec![format!("O3 {error:#}")],
        };
        scene.allow(None).await?;
        ground.tell(&Verdict { plan: case.to_string(), problems, replay: serde_json::to_value(&case)? })?;
    }
    step.done();
    Ok(())
}

fn plans() -> Vec<Case> {
    let mut cases = vec![Case::Life];
    for kind in CHANGED {
        for verb in ["create", "patch", "delete"] {
            let case = Case::Write { kind: kind.0.to_owned(), verb: verb.to_owned() };
            if verb != "create" || kind.0 != "PersistentVolumeClaim" {
                cases.push(case);
            }
        }
    }
    cases.retain(|case| !matches!(case, Case::Write { kind, verb } if verb == "delete" && without(kind).is_none()));
    let read = ["Secret", "PersistentVolumeClaim", "Service", "StatefulSet", "Deployment", "Ingress", "RorunStack"];
    cases.extend(read.map(|kind| Case::Read { kind: kind.to_owned() }));
    cases.push(Case::Definition);
    cases
}

/// A child of each kind that is changed or deleted.
const CHANGED: &[(&str, &str)] = &[
    ("ServiceAccount", "shop-admin"),
    ("Secret", "shop-connection"),
    ("PersistentVolumeClaim", "shop-redis"),
    ("Service", "shop-admin"),
    ("StatefulSet", "shop-redis"),
    ("Deployment", "shop-admin"),
    ("CronJob", "shop-backup"),
    ("HorizontalPodAutoscaler", "shop-api"),
    ("PodDisruptionBudget", "shop-api"),
    ("Ingress", "shop-ingress"),
];

fn spec(endpoint: &str) -> Value {
    let mut spec = workload::whole(endpoint);
    spec["api"]["autoscaling"] = json!({"minReplicas": 2, "maxReplicas": 5});
    spec
}

/// How a user who no longer wants the child of a kind changes the spec.
fn without(kind: &str) -> Option<fn(&mut Value)> {
    match kind {
        "ServiceAccount" | "Service" | "Deployment" => Some(|spec| {
            spec["admin"] = Value::Null;
            spec["ingress"] = json!({"host": "api.example.com"});
        }),
        "CronJob" => Some(|spec| spec["backup"] = Value::Null),
        "HorizontalPodAutoscaler" | "PodDisruptionBudget" => {
            Some(|spec| spec["api"] = json!({"image": "rorun-api:1", "replicas": 1}))
        }
        "Ingress" => Some(|spec| spec["ingress"] = Value::Null),
        _ => None,
    }
}

/// The operator's client: the administrator, in its place.
async fn user(arena: &Arena) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(&arena.bed.kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    let name = http::HeaderName::from_static("impersonate-user");
    config.headers.push((name, http::HeaderValue::from_static(USER)));
    Ok(Client::try_from(config)?)
}

/// Grants what the operator says that it needs; gives its rules.
async fn grant(client: &Client) -> Result<Value> {
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "rorun-system"}}))?;
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    let printed = Command::new(operator_binary()?).arg("rbac").output().context("failed to run the operator")?;
    let text = String::from_utf8(printed.stdout)?;
    let mut rules = None;
    for document in text.split("\n---").map(str::trim).filter(|document| !document.is_empty()) {
        let object: DynamicObject = serde_saphyr::from_str(document.trim_start_matches("---"))?;
        let kind = object.types.clone().unwrap_or_default().kind;
        let resource = rbac(&kind);
        let api: Api<DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        if kind == "ClusterRole" {
            rules = Some(object.data["rules"].clone());
        }
        api.create(&PostParams::default(), &object).await?;
    }
    rules.context("the operator names no rules")
}

fn rbac(kind: &str) -> ApiResource {
    let kind = GroupVersionKind::gvk("rbac.authorization.k8s.io", "v1", kind);
    ApiResource::from_gvk(&kind)
}

/// The rules without some verbs on a resource.
fn rules_without(rules: &Value, resource: &str, verbs: &[&str]) -> Value {
    let mut changed = Vec::new();
    for rule in rules.as_array().into_iter().flatten() {
        let resources = rule["resources"].as_array().cloned().unwrap_or_default();
        let (of, others): (Vec<Value>, Vec<Value>) = resources.into_iter().partition(|one| one == resource);
        for (resources, less) in [(others, false), (of, true)] {
            let mut rule = rule.clone();
            rule["resources"] = json!(resources);
            if let Some(granted) = rule["verbs"].as_array_mut().filter(|_| less) {
                granted.retain(|verb| !verbs.iter().any(|without| verb == without));
            }
            if !resources.is_empty() && rule["verbs"].as_array().is_some_and(|verbs| !verbs.is_empty()) {
                changed.push(rule);
            }
        }
    }
    Value::Array(changed)
}

impl Scene<'_> {
    /// Takes verbs on a kind away, or gives all back, and waits until that is so.
    async fn allow(&self, without: Option<(&str, &[&str])>) -> Result<()> {
        let rules = match without {
            Some((kind, verbs)) => rules_without(&self.role, plural(kind), verbs),
            None => self.role.clone(),
        };
        let roles: Api<DynamicObject> = Api::all_with(self.arena.client.clone(), &rbac("ClusterRole"));
        roles.patch(ROLE, &PatchParams::default(), &Patch::Merge(json!({"rules": rules}))).await?;
        let mut asked = Vec::new();
        for (_, _, kind, _) in crate::campaign::snapshot::KINDS {
            asked.extend(["create", "patch", "delete", "list", "watch"].map(|verb| (kind, verb)));
        }
        for (kind, verb) in asked {
            let expected = granted(&rules, plural(kind), verb);
            until("the rights are as they are to be", async || Ok(self.may(kind, verb).await? == expected)).await?;
        }
        Ok(())
    }

    async fn may(&self, kind: &str, verb: &str) -> Result<bool> {
        let group =
            crate::campaign::snapshot::KINDS.into_iter().find(|known| known.2 == kind).map_or("", |known| known.0);
        let review: SelfSubjectAccessReview = serde_json::from_value(json!({"spec": {"resourceAttributes": {
            "group": group, "resource": plural(kind), "verb": verb, "namespace": "default",
        }}}))?;
        let answer = Api::all(self.user.clone()).create(&PostParams::default(), &review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    async fn site(&self) -> Result<Site<'_>> {
        let namespace = self.arena.namespace().await?;
        workload::prepare(self.arena, &namespace).await?;
        Site::open_for(self.arena, namespace, self.user.clone(), None).await
    }

    async fn settled(&self) -> Result<Site<'_>> {
        let mut site = self.site().await?;
        self.arena.apply(&site.namespace, &spec(&self.bucket.endpoint)).await?;
        all_well("with all rights", &site.settle(false).await?)?;
        Ok(site)
    }

    async fn play(&self, case: &Case) -> Result<Vec<String>> {
        match case {
            Case::Life => self.life().await,
            Case::Write { kind, verb } => self.write(kind, verb).await,
            Case::Read { kind } => self.read(kind).await,
            Case::Definition => self.definition().await,
        }
    }

    /// Everything that a stack goes through, and which rights that took.
    async fn life(&self) -> Result<Vec<String>> {
        let mark = tokio::task::block_in_place(|| self.arena.bed.mark())?;
        let mut site = self.settled().await?;
        for (kind, name) in CHANGED {
            let stomped = Patch::Merge(json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}}));
            site.objects(kind)?.patch(name, &PatchParams::default(), &stomped).await?;
        }
        let mut problems = site.settle(false).await?;
        let mut less = spec(&self.bucket.endpoint);
        for kind in ["Deployment", "CronJob", "HorizontalPodAutoscaler", "Ingress"] {
            if let Some(change) = without(kind) {
                change(&mut less);
            }
        }
        less["deletionPolicy"] = json!("Delete");
        self.arena.apply(&site.namespace, &less).await?;
        problems.extend(site.settle(false).await?);
        self.arena.stacks(&site.namespace).delete(STACK, &DeleteParams::background()).await?;
        problems.extend(site.settle(true).await?);
        site.kill().await?;
        let calls = tokio::task::block_in_place(|| self.arena.bed.calls_since(mark))?;
        let ours: Vec<_> = calls.iter().filter(|call| call.user_agent.starts_with("rorun-operator")).collect();
        let refused = ours.iter().filter(|call| call.code == 403);
        problems.extend(refused.map(|call| format!("O4 {} {}/{} is not granted", call.verb, call.resource, call.name)));
        let used: BTreeSet<(String, String)> = ours
            .iter()
            .map(|call| {
                let part = if call.subresource.is_empty() { String::new() } else { format!("/{}", call.subresource) };
                (call.verb.clone(), format!("{}{part}", call.resource))
            })
            .collect();
        problems
            .extend(unused(&self.role, &used).into_iter().map(|right| format!("O4 {right} is granted, and not used")));
        Ok(problems)
    }

    async fn write(&self, kind: &str, verb: &str) -> Result<Vec<String>> {
        let (_, name) = CHANGED.iter().find(|(of, _)| *of == kind).context("no child of the kind is known")?;
        let mut site = self.settled().await?;
        let api = site.objects(kind)?;
        let before = api.get(name).await?;
        self.allow(Some((kind, &[verb]))).await?;
        match verb {
            "create" => drop(api.delete(name, &DeleteParams::background()).await?),
            "patch" => {
                let label = Patch::Merge(json!({"metadata": {"labels": {"app.kubernetes.io/part-of": "x"}}}));
                api.patch(name, &PatchParams::default(), &label).await?;
            }
            _ => {
                let mut less = spec(&self.bucket.endpoint);
                without(kind).context("the kind is never left out")?(&mut less);
                self.arena.apply(&site.namespace, &less).await?;
            }
        }
        let mut problems = Vec::new();
        let object = format!("{}/{name}", kind.to_lowercase());
        let told = within(TOLD_WITHIN, async || {
            let conditions = site.conditions().await?;
            let all = conditions.as_array().into_iter().flatten();
            Ok(all
                .into_iter()
                .any(|one| one[2] == "Forbidden" && one[3].as_str().unwrap_or_default().contains(&object)))
        });
        if told.await?.is_none() {
            problems.push(format!("O4 no condition says Forbidden of {object}: {}", site.conditions().await?));
        }
        self.allow(None).await?;
        let done = async || {
            let now = api.get_opt(name).await?;
            Ok(match verb {
                "delete" => now.is_none(),
                _ => now.is_some_and(|now| now.labels() == before.labels()),
            })
        };
        if within(BACK_WITHIN, done).await?.is_none() {
            problems.push("O3 it does not go on when the right is back".to_owned());
        }
        let forgotten = async || Ok(!site.conditions().await?.to_string().contains("Forbidden"));
        if within(TOLD_WITHIN, forgotten).await?.is_none() {
            problems.push(format!("O4 a right that is back is still told as missing: {}", site.conditions().await?));
        }
        problems.extend(site.settle(false).await?);
        problems.extend(site.ended()?);
        Ok(problems)
    }

    /// What cannot be read is not known: nothing is written before it is.
    async fn read(&self, kind: &str) -> Result<Vec<String>> {
        self.allow(Some((kind, &["list", "watch"]))).await?;
        let mut site = self.site().await?;
        self.arena.apply(&site.namespace, &spec(&self.bucket.endpoint)).await?;
        let mark = tokio::task::block_in_place(|| self.arena.bed.mark())?;
        site.start()?;
        let asked = async || {
            let calls = tokio::task::block_in_place(|| self.arena.bed.calls_since(mark))?;
            let refused = calls.iter().filter(|call| call.code == 403 && call.resource == plural(kind));
            Ok(refused.filter(|call| call.user_agent.starts_with("rorun-operator")).count() >= 2)
        };
        let mut problems = Vec::new();
        if within(BACK_WITHIN, asked).await?.is_none() {
            problems.push("O3 it does not ask again".to_owned());
        }
        let written = site.proxy.writes();
        problems.extend(written.iter().map(|call| format!("O4 {call}, though not all is known")));
        self.allow(None).await?;
        let made = async || Ok(site.proxy.writes().iter().any(|call| call.subresource == "status"));
        if within(BACK_WITHIN, made).await?.is_none() {
            problems.push("O3 it does not begin when the right is back".to_owned());
        }
        problems.extend(site.settle(false).await?);
        Ok(problems)
    }

    async fn definition(&self) -> Result<Vec<String>> {
        let mut site = self.settled().await?;
        let uid = self.arena.stacks(&site.namespace).get(STACK).await?.uid().unwrap_or_default();
        let before = versions(&site).await?;
        let begun = site.proxy.writes().len();
        let definitions = Api::<CustomResourceDefinition>::all(self.arena.client.clone());
        definitions.delete("rorunstacks.rorun.app", &DeleteParams::default()).await?;
        until("the definition is gone", async || Ok(definitions.get_opt("rorunstacks.rorun.app").await?.is_none()))
            .await?;
        tokio::time::sleep(UNHARMED_FOR).await;
        let mut problems = Vec::new();
        if versions(&site).await? != before {
            problems.push("O4 children were written when the definition went".to_owned());
        }
        problems.extend(site.writes_since(begun).iter().map(|call| format!("O4 {call} without a definition")));
        define(&self.arena.client).await?;
        self.arena.apply(&site.namespace, &spec(&self.bucket.endpoint)).await?;
        // No garbage collector runs here: what the stack owned is collected by hand.
        for (kind, child) in site.children().await? {
            if child.owner_references().iter().any(|owner| owner.uid == uid) {
                site.objects(kind)?.delete(&child.name_any(), &DeleteParams::background()).await?;
            }
        }
        let made_again = async || Ok(versions(&site).await?.len() == before.len());
        if within(BACK_WITHIN, made_again).await?.is_none() {
            problems.push(format!("O3 {} children, not {}", versions(&site).await?.len(), before.len()));
        }
        problems.extend(site.ended()?);
        problems.extend(site.settle(false).await?);
        Ok(problems)
    }
}

async fn versions(site: &Site<'_>) -> Result<BTreeSet<String>> {
    let children = site.children().await?.into_iter();
    // What the actor tells of a workload is none of ours.
    let told = children
        .map(|(kind, child)| format!("{kind}/{} {:?} {:?}", child.name_any(), child.uid(), child.metadata.generation));
    Ok(told.collect())
}

fn granted(rules: &Value, resource: &str, verb: &str) -> bool {
    rules.as_array().into_iter().flatten().any(|rule| {
        let has =
            |member: &str, word: &str| rule[member].as_array().is_some_and(|all| all.iter().any(|one| one == word));
        has("resources", resource) && has("verbs", verb)
    })
}

/// Rights that nothing used, and that nothing excuses.
fn unused(rules: &Value, used: &BTreeSet<(String, String)>) -> Vec<String> {
    let words = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
    };
    let mut unused = Vec::new();
    for rule in rules.as_array().into_iter().flatten() {
        for resource in words(&rule["resources"]) {
            for verb in words(&rule["verbs"]) {
                let excused =
                    UNUSED.iter().any(|(of, on, _)| (*of == "*" || *of == verb) && (*on == "*" || *on == resource));
                if !excused && !used.contains(&(verb.clone(), resource.clone())) {
                    unused.push(format!("{verb} {resource}"));
                }
            }
        }
    }
    unused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_verb_on_one_resource_is_taken_away_and_nothing_else() {
        let rules = json!([{"apiGroups": [""], "resources": ["secrets", "services"], "verbs": ["list", "patch"]}]);
        let less = rules_without(&rules, "secrets", &["patch"]);
        for (resource, verb, expected) in
            [("secrets", "patch", false), ("secrets", "list", true), ("services", "patch", true)]
        {
            assert!(granted(&rules, resource, verb));
            assert_eq!(granted(&less, resource, verb), expected, "{verb} {resource}");
        }
        let used = BTreeSet::from([("list".to_owned(), "secrets".to_owned())]);
        assert_eq!(unused(&less, &used), ["list services", "patch services"]);
    }
}
