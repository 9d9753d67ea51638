//! The operator with the rights that its chart grants and no others. One right is taken away: it says which object it may not
//! write (O4), and goes on by itself when the right is back (O3). It uses every right that the chart grants, and no other. The
//! definition of stacks goes and comes back: no child is harmed, and no restart is needed (O8).

mod roles;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use rorun_e2e::engine::AuditCall;
use rorun_e2e::engine::progress::Step;
use rorun_e2e::fake_controllers::FakeControllers;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::roles::{ROLE, grant, granted, rbac, rules_without, unused, user};
use crate::bucket::Bucket;
use crate::environment::{STACK, TestEnvironment, define};
use crate::suite::{Extent, Play, Suite, SuiteRun, Verdict};
use crate::test_context::{TestContext, all_well, plural, until, within};
use crate::{play, workload};

/// Rights that are taken away, and given back.
pub(crate) const SUITE: Suite = Suite {
    name: "rights",
    proves: "a right that is missing is reported with the object, and given back it is used without a restart; none is granted in vain",
    quick: true,
    play: Play::Alone(|run| Box::pin(play_suite(run))),
};

const REPORTED_WITHIN: Duration = Duration::from_secs(10);
/// A watch that is refused is tried again up to 30 s later.
const BACK_WITHIN: Duration = Duration::from_mins(1);
const UNHARMED_FOR: Duration = Duration::from_secs(2);

/// The case to play.
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

struct RightsTest<'a> {
    environment: &'a TestEnvironment,
    bucket: &'a Bucket,
    /// The operator, to the API server.
    user: Client,
    role: Value,
}

async fn play_suite(run: &SuiteRun<'_>) -> Result<()> {
    let environment = TestEnvironment::open(run.cache).await?;
    let (_controllers, bucket) =
        (FakeControllers::start(environment.client.clone(), Duration::ZERO), Bucket::start().await?);
    let rights = RightsTest {
        environment: &environment,
        bucket: &bucket,
        user: user(&environment).await?,
        role: grant(&environment.client).await?,
    };
    let cases = match &run.extent {
        Extent::Only(plan) => vec![serde_json::from_value(plan.clone()).context("this is no plan of this suite")?],
        Extent::Whole => plans(),
        Extent::Quick => {
            let mut cases = vec![Case::Life, Case::Read { kind: "Deployment".to_owned() }];
            cases.extend(plans().into_iter().filter(|case| matches!(case, Case::Write { .. })).step_by(7));
            cases.push(Case::Definition);
            cases.extend(play::found_plans("rights")?);
            cases
        }
    };
    let step = Step::start(&format!("rights: {} plans", cases.len()), "one after the other: the role is the cluster's");
    for case in cases {
        let problems = match rights.play(&case).await {
            Ok(problems) => problems,
            Err(error) => vec![format!("O3 {error:#}")],
        };
        rights.allow(None).await?;
        run.report(&Verdict { plan: case.to_string(), problems, replay: serde_json::to_value(&case)? })?;
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

impl RightsTest<'_> {
    /// Takes verbs on a kind away, or gives all back, and waits until that is so.
    async fn allow(&self, without: Option<(&str, &[&str])>) -> Result<()> {
        let rules = match without {
            Some((kind, verbs)) => rules_without(&self.role, plural(kind), verbs),
            None => self.role.clone(),
        };
        let api: Api<DynamicObject> = Api::all_with(self.environment.client.clone(), &rbac("ClusterRole"));
        api.patch(ROLE, &PatchParams::default(), &Patch::Merge(json!({"rules": rules}))).await?;
        let mut asked = Vec::new();
        for (_, _, kind, _) in crate::snapshot::KINDS {
            asked.extend(["create", "patch", "delete", "list", "watch"].map(|verb| (kind, verb)));
        }
        for (kind, verb) in asked {
            let expected = granted(&rules, plural(kind), verb);
            until("the rights are as they are to be", async || Ok(self.may(kind, verb).await? == expected)).await?;
        }
        Ok(())
    }

    async fn may(&self, kind: &str, verb: &str) -> Result<bool> {
        let group = crate::snapshot::KINDS.into_iter().find(|known| known.2 == kind).map_or("", |known| known.0);
        let review: SelfSubjectAccessReview = serde_json::from_value(json!({"spec": {"resourceAttributes": {
            "group": group, "resource": plural(kind), "verb": verb, "namespace": "default",
        }}}))?;
        let answer = Api::all(self.user.clone()).create(&PostParams::default(), &review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    async fn test(&self) -> Result<TestContext<'_>> {
        let namespace = self.environment.namespace().await?;
        workload::prepare(self.environment, &namespace).await?;
        TestContext::open_for(self.environment, namespace, self.user.clone(), None).await
    }

    async fn settled(&self) -> Result<TestContext<'_>> {
        let mut test = self.test().await?;
        self.environment.apply(&test.namespace, &workload::autoscaled(&self.bucket.endpoint)).await?;
        all_well("with all rights", &test.settle(false).await?)?;
        Ok(test)
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
        let mark = tokio::task::block_in_place(|| self.environment.server.mark())?;
        let mut test = self.settled().await?;
        for (kind, name) in CHANGED {
            let stomped = Patch::Merge(json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}}));
            test.objects(kind)?.patch(name, &PatchParams::default(), &stomped).await?;
        }
        let mut problems = test.settle(false).await?;
        let mut less = workload::autoscaled(&self.bucket.endpoint);
        for kind in ["Deployment", "CronJob", "HorizontalPodAutoscaler", "Ingress"] {
            if let Some(change) = without(kind) {
                change(&mut less);
            }
        }
        less["deletionPolicy"] = json!("Delete");
        self.environment.apply(&test.namespace, &less).await?;
        problems.extend(test.settle(false).await?);
        self.environment.stacks(&test.namespace).delete(STACK, &DeleteParams::background()).await?;
        problems.extend(test.settle(true).await?);
        test.kill().await?;
        let mut calls = Vec::new();
        // The API server logs a watch when the watch has ended.
        let all_used = async || {
            calls = tokio::task::block_in_place(|| self.environment.server.calls_since(mark))?;
            calls.retain(|call| call.user_agent.starts_with("rorun-operator"));
            Ok(unused(&self.role, &used(&calls)).is_empty())
        };
        within(BACK_WITHIN, all_used).await?;
        let refused = calls.iter().filter(|call| call.code == 403);
        problems.extend(refused.map(|call| format!("O4 {} {}/{} is not granted", call.verb, call.resource, call.name)));
        let unused = unused(&self.role, &used(&calls)).into_iter();
        problems.extend(unused.map(|right| format!("O4 {right} is granted, and not used")));
        Ok(problems)
    }

    async fn write(&self, kind: &str, verb: &str) -> Result<Vec<String>> {
        let (_, name) = CHANGED.iter().find(|(of, _)| *of == kind).context("no child of the kind is known")?;
        let mut test = self.settled().await?;
        let api = test.objects(kind)?;
        let before = api.get(name).await?;
        self.allow(Some((kind, &[verb]))).await?;
        match verb {
            "create" => drop(api.delete(name, &DeleteParams::background()).await?),
            "patch" => {
                let label = Patch::Merge(json!({"metadata": {"labels": {"app.kubernetes.io/part-of": "x"}}}));
                api.patch(name, &PatchParams::default(), &label).await?;
            }
            _ => {
                let mut less = workload::autoscaled(&self.bucket.endpoint);
                without(kind).context("the kind is never left out")?(&mut less);
                self.environment.apply(&test.namespace, &less).await?;
            }
        }
        let mut problems = Vec::new();
        let object = format!("{}/{name}", kind.to_lowercase());
        if !test.reports("Forbidden", &object, REPORTED_WITHIN).await? {
            problems.push(format!("O4 no condition says Forbidden of {object}: {}", test.conditions().await?));
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
        let forgotten = async || Ok(!test.conditions().await?.to_string().contains("Forbidden"));
        if within(REPORTED_WITHIN, forgotten).await?.is_none() {
            problems
                .push(format!("O4 a right that is back is still reported as missing: {}", test.conditions().await?));
        }
        problems.extend(test.settle(false).await?);
        problems.extend(test.ended()?);
        Ok(problems)
    }

    /// The operator writes nothing before it can read every kind.
    async fn read(&self, kind: &str) -> Result<Vec<String>> {
        self.allow(Some((kind, &["list", "watch"]))).await?;
        let mut test = self.test().await?;
        self.environment.apply(&test.namespace, &workload::autoscaled(&self.bucket.endpoint)).await?;
        let mark = tokio::task::block_in_place(|| self.environment.server.mark())?;
        test.start()?;
        let asked = async || {
            let calls = tokio::task::block_in_place(|| self.environment.server.calls_since(mark))?;
            let refused = calls.iter().filter(|call| call.code == 403 && call.resource == plural(kind));
            Ok(refused.filter(|call| call.user_agent.starts_with("rorun-operator")).count() >= 2)
        };
        let mut problems = Vec::new();
        if within(BACK_WITHIN, asked).await?.is_none() {
            problems.push("O3 it does not ask again".to_owned());
        }
        let written = test.proxy.writes();
        problems.extend(written.iter().map(|call| format!("O4 {call}, though not all is known")));
        self.allow(None).await?;
        let made = async || Ok(test.proxy.writes().iter().any(|call| call.subresource == "status"));
        if within(BACK_WITHIN, made).await?.is_none() {
            problems.push("O3 it does not begin when the right is back".to_owned());
        }
        problems.extend(test.settle(false).await?);
        Ok(problems)
    }

    async fn definition(&self) -> Result<Vec<String>> {
        let mut test = self.settled().await?;
        let uid = self.environment.stacks(&test.namespace).get(STACK).await?.uid().unwrap_or_default();
        let before = versions(&test).await?;
        let begun = test.proxy.writes().len();
        let definitions = Api::<CustomResourceDefinition>::all(self.environment.client.clone());
        definitions.delete("rorunstacks.rorun.app", &DeleteParams::default()).await?;
        until("the definition is gone", async || Ok(definitions.get_opt("rorunstacks.rorun.app").await?.is_none()))
            .await?;
        tokio::time::sleep(UNHARMED_FOR).await;
        let mut problems = Vec::new();
        if versions(&test).await? != before {
            problems.push("O4 children were written when the definition went".to_owned());
        }
        problems.extend(test.writes_since(begun).iter().map(|call| format!("O4 {call} without a definition")));
        define(&self.environment.client).await?;
        self.environment.apply(&test.namespace, &workload::autoscaled(&self.bucket.endpoint)).await?;
        // No garbage collector runs here, so the suite collects the children of the stack.
        for (kind, child) in test.children().await? {
            if child.owner_references().iter().any(|owner| owner.uid == uid) {
                test.objects(kind)?.delete(&child.name_any(), &DeleteParams::background()).await?;
            }
        }
        let made_again = async || Ok(versions(&test).await?.len() == before.len());
        if within(BACK_WITHIN, made_again).await?.is_none() {
            problems.push(format!("O3 {} children, not {}", versions(&test).await?.len(), before.len()));
        }
        problems.extend(test.ended()?);
        problems.extend(test.settle(false).await?);
        Ok(problems)
    }
}

async fn versions(test: &TestContext<'_>) -> Result<BTreeSet<String>> {
    let children = test.children().await?.into_iter();
    // The status comes from the fake controllers.
    let reported = children
        .map(|(kind, child)| format!("{kind}/{} {:?} {:?}", child.name_any(), child.uid(), child.metadata.generation));
    Ok(reported.collect())
}

/// Verbs with the resources that they were used on.
fn used(calls: &[AuditCall]) -> BTreeSet<(String, String)> {
    let used = calls.iter().map(|call| {
        let part = if call.subresource.is_empty() { String::new() } else { format!("/{}", call.subresource) };
        // An apply that makes an object needs the right to create as well.
        let verb = if call.code == 201 { "create" } else { call.verb.as_str() };
        (verb.to_owned(), format!("{}{part}", call.resource))
    });
    used.collect()
}
