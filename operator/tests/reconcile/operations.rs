//! Each pair of what takes time: the second is asked for while a Job of the first works on live data. It waits, nothing ends the Job
//! half-way, and both come to their end. Deployments and Jobs are played.

use kube::{
    ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    conditions::{released, roll_out},
    env::TestEnv,
    requests::{self, end, jobs},
    restores,
};

/// More steps than any two of them have.
const STEPS: usize = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Dump,
    Release,
    Restore,
    Hibernation,
    Deletion,
}

use Operation::{Deletion, Dump, Hibernation, Release, Restore};

/// Whether the step works on live data: of a migration the name is empty.
fn is_live(step: &str) -> bool {
    ["", "dump", "switch"].contains(&step)
}

/// One pair, in a namespace of its own.
struct Pair<'a> {
    env: &'a TestEnv,
    namespace: String,
    first: Operation,
    second: Operation,
}

pub async fn of_two_operations_the_second_waits(env: &TestEnv) {
    // Hibernation and deletion have no Jobs: whatever comes after them finds no pods, or no stack.
    for first in [Dump, Release, Restore] {
        let pairs = [Dump, Release, Restore, Hibernation, Deletion].into_iter().filter(|second| *second != first);
        futures::future::join_all(pairs.map(|second| async move {
            let namespace = format!("{first:?}-{second:?}").to_lowercase();
            Pair { env, namespace, first, second }.play().await;
        }))
        .await;
    }
}

impl Pair<'_> {
    async fn play(&self) {
        self.serve().await;
        self.ask(self.first).await;
        let job = self.live_job_of(self.first).await;
        self.ask(self.second).await;
        self.env.pause().await;
        if self.second != Deletion {
            self.env.settled(&self.namespace).await;
        }
        let open = self.open().await;
        let names: Vec<_> = open.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, [job.name_any()], "{self}: the Job of the first runs alone");
        assert_eq!(open[0].uid(), job.uid(), "{self}: and is the same");
        assert!(!self.is_done(self.second).await, "{self}: the second did not wait");
        self.play_until(self.second).await;
        if self.second != Deletion && self.second != Hibernation {
            self.play_until(self.first).await;
        }
    }

    /// The stack serves, with the first release.
    async fn serve(&self) {
        let Self { env, namespace, .. } = self;
        env.namespace(namespace).await;
        env.submit(namespace, released(env, namespace, "rorun-api:1").await).await;
        self.play_while(async || self.release().await["current"]["api"] != "rorun-api:1").await;
    }

    async fn ask(&self, operation: Operation) {
        let Self { env, namespace, .. } = self;
        let patch = async |spec: Value| {
            let patch = Patch::Merge(json!({"spec": spec}));
            env.stacks(namespace).patch("shop", &PatchParams::default(), &patch).await.expect("a spec");
        };
        match operation {
            Dump => drop(requests::ask(env, namespace, "pair").await),
            Release => patch(json!({"api": {"image": "rorun-api:2"}})).await,
            Hibernation => patch(json!({"hibernate": true})).await,
            Restore => {
                let uid = env.stacks(namespace).get("shop").await.expect("the stack").uid().expect("a uid");
                restores::ask(env, namespace, "pair", &uid).await;
            }
            Deletion => {
                env.stacks(namespace).delete("shop", &DeleteParams::default()).await.expect("it is deleted");
            }
        }
    }

    /// The Job with which the operation works on live data, after those before it.
    async fn live_job_of(&self, operation: Operation) -> DynamicObject {
        let live = match operation {
            Dump | Restore => "dump",
            Release | Hibernation | Deletion => "",
        };
        let mut open = self.open_one().await;
        for step in 0.. {
            if restores::step_of(&open) == live {
                break;
            }
            assert!(step < STEPS, "{self}: {operation:?} has no Job that works on live data");
            self.end(&open).await;
            open = self.open_one().await;
        }
        open
    }

    /// Ends Jobs and rolls out until the operation is done.
    async fn play_until(&self, operation: Operation) {
        self.play_while(async || !self.is_done(operation).await).await;
    }

    async fn play_while(&self, mut goes_on: impl AsyncFnMut() -> bool) {
        for step in 0.. {
            assert!(step < STEPS, "{self}: it comes to no end");
            let mut over = false;
            self.env
                .until_or(
                    &format!("{self}: something is to be played, or over"),
                    async || {
                        over = !goes_on().await;
                        over || !self.open().await.is_empty() || roll_out(self.env, &self.namespace).await
                    },
                    async || format!("; {:?}", self.told().await),
                )
                .await;
            if over {
                return;
            }
            let open = self.open().await;
            let live: Vec<_> = open.iter().map(restores::step_of).filter(|step| is_live(step)).collect();
            assert!(live.len() <= 1, "{self}: {live:?} work on live data at once");
            for job in &open {
                self.end(job).await;
            }
        }
    }

    async fn is_done(&self, operation: Operation) -> bool {
        let Self { env, namespace, .. } = self;
        match operation {
            Dump => requests::status(env, namespace, "pair").await.phase == "Complete",
            Restore => restores::status(env, namespace, "pair").await.phase == "Complete",
            Release => {
                let release = self.release().await;
                release["state"] == "Serving" && release["current"]["api"] == "rorun-api:2"
            }
            Hibernation => {
                let deployments = env.objects("Deployment", namespace).list(&ListParams::default()).await;
                deployments.expect("a list").iter().all(|of| of.data["spec"]["replicas"] == 0)
            }
            Deletion => env.stacks(namespace).get_opt("shop").await.expect("an answer").is_none(),
        }
    }

    async fn release(&self) -> Value {
        let stack = self.env.stacks(&self.namespace).get_opt("shop").await.expect("an answer");
        let status = stack.and_then(|stack| stack.status);
        serde_json::to_value(status.and_then(|status| status.release)).expect("JSON")
    }

    /// The Jobs that have not ended.
    async fn open(&self) -> Vec<DynamicObject> {
        let mut all = jobs(self.env, &self.namespace).await;
        all.retain(|job| job.data.pointer("/status/conditions").is_none());
        all
    }

    async fn open_one(&self) -> DynamicObject {
        let told = async || format!("; {:?}", self.told().await);
        self.env.until_or(&format!("{self}: a Job is there"), async || !self.open().await.is_empty(), told).await;
        let mut open = self.open().await;
        assert_eq!(open.len(), 1, "{self}: one step at a time: {:?}", self.told().await);
        open.remove(0)
    }

    async fn end(&self, job: &DynamicObject) {
        end(self.env, &self.namespace, &job.name_any(), &restores::said(&restores::step_of(job)), true).await;
    }

    async fn told(&self) -> (Vec<String>, Value) {
        let jobs = jobs(self.env, &self.namespace).await;
        (jobs.iter().map(ResourceExt::name_any).collect(), self.release().await)
    }
}

impl std::fmt::Display for Pair<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:?}, then {:?}", self.first, self.second)
    }
}
