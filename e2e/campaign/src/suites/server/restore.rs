//! etcd is restored from a backup: later writes are lost, and the revision goes back too. The operator's caches are then newer
//! than the API server.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use rorun_e2e::engine::ports;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{CONVERGED_WITHIN, OneOperator, SAID_WITHIN, TICK, made_up_again, spec};
use crate::environment::TestEnvironment;
use crate::fleet::{Fleet, with_retries};
use crate::snapshot::Leaves;

const STACK: &str = "shop";
const REDIS: &str = "my-redis";
/// How many differences a problem lists: when nothing was made again, everything is missing.
const TOLD: usize = 10;

/// The change since the backup, which the restore undoes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Undone {
    /// Nothing of a stack was made yet, only the stack.
    All,
    /// The spec was changed: another image, a component less.
    Change,
    /// The stack was deleted with its data.
    Deletion,
    /// A Secret of the user, which the stack names, was changed.
    Reference,
    /// Only a status was written: a service outside answered otherwise.
    Status,
    /// The operator repaired an object that another client had changed.
    Repair,
}

impl Undone {
    pub(super) const ALL: [Undone; 6] =
        [Undone::All, Undone::Change, Undone::Deletion, Undone::Reference, Undone::Status, Undone::Repair];
}

/// One of them under way.
struct Undoing<'a> {
    undone: Undone,
    play: OneOperator<'a>,
    /// Where the Redis of the user is to be.
    port: u16,
    redis: Option<Redis>,
    /// The objects that have to exist after the restore.
    expected: Leaves,
    passwords: Leaves,
    problems: Vec<String>,
}

/// A server that knows no password, where none was before.
struct Redis(tokio::task::JoinHandle<()>);

impl Redis {
    async fn open(port: u16) -> Result<Redis> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.context("the port was taken meanwhile")?;
        Ok(Redis(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(refuse(stream));
            }
        })))
    }
}

async fn refuse(mut stream: TcpStream) {
    let mut asked = [0; 1024];
    while let Ok(1..) = stream.read(&mut asked).await {
        if stream.write_all(b"-WRONGPASS invalid username-password pair\r\n").await.is_err() {
            break;
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Plays them side by side, with one backup and one restore.
pub(super) async fn play(environment: &TestEnvironment, undone: Vec<Undone>) -> Result<Vec<(Undone, Vec<String>)>> {
    let mut all =
        futures::future::try_join_all(undone.into_iter().map(|undone| Undoing::begin(environment, undone))).await?;
    let backup = tokio::task::block_in_place(|| environment.server.back_up_etcd())?;
    futures::future::try_join_all(all.iter_mut().map(Undoing::act)).await?;
    tokio::task::block_in_place(|| environment.server.restore_etcd(&backup))?;
    futures::future::try_join_all(all.iter_mut().map(Undoing::judge)).await?;
    Ok(all.into_iter().map(|one| (one.undone, one.problems)).collect())
}

impl<'a> Undoing<'a> {
    /// As it is when the backup is taken.
    async fn begin(environment: &'a TestEnvironment, undone: Undone) -> Result<Undoing<'a>> {
        let fleet = Fleet::open(environment).await?;
        let [port] = ports::free()?;
        redis_secret(&fleet, "one", port).await?;
        if undone != Undone::All {
            let play = OneOperator::begin(fleet).await?;
            play.fleet.apply(STACK, &first(undone)).await?;
            if let Some(problem) = play.fleet.settle(CONVERGED_WITHIN).await {
                bail!("before the fault: {problem}");
            }
            if undone == Undone::Repair {
                play.pause()?;
                spoil(&play.fleet).await?;
            }
            return Undoing::of(undone, play, port).await;
        }
        // The operator is paused before its caches are filled.
        fleet.apply(STACK, &first(undone)).await?;
        let play = OneOperator::begin(fleet).await?;
        play.pause()?;
        Undoing::of(undone, play, port).await
    }

    async fn of(undone: Undone, play: OneOperator<'a>, port: u16) -> Result<Undoing<'a>> {
        let expected = play.fleet.leaves().await?;
        let passwords = play.fleet.passwords().await?;
        Ok(Undoing { undone, play, port, redis: None, expected, passwords, problems: Vec::new() })
    }

    /// Makes the change that the restore undoes.
    async fn act(&mut self) -> Result<()> {
        let fleet = &self.play.fleet;
        match self.undone {
            Undone::All | Undone::Repair => self.play.go_on()?,
            Undone::Change => fleet.apply(STACK, &changed()).await?,
            Undone::Deletion => {
                fleet.delete(STACK).await?;
                self.until_gone().await?;
            }
            Undone::Reference => redis_secret(fleet, "two", self.port).await?,
            Undone::Status => self.redis = Some(Redis::open(self.port).await?),
        }
        let different =
            |leaves: &Leaves| if same(&self.expected, leaves).is_empty() { vec![String::new()] } else { vec![] };
        if self.undone != Undone::Deletion && !fleet.until_same(CONVERGED_WITHIN, different).await?.is_empty() {
            bail!("{:?} before the restore: nothing came of it", self.undone);
        }
        if let Some(problem) = fleet.settle(CONVERGED_WITHIN).await {
            bail!("{:?} before the restore: {problem}", self.undone);
        }
        // The state that the backup leads to is expected, not the state of the backup.
        if matches!(self.undone, Undone::All | Undone::Status | Undone::Repair) {
            self.expected = fleet.leaves().await?;
        }
        Ok(())
    }

    /// Judges whether the operator has followed the restore, and whether it follows later changes.
    async fn judge(&mut self) -> Result<()> {
        let Undoing { undone, play, expected, .. } = self;
        let anew = *undone == Undone::All;
        let differences = |leaves: &Leaves| if anew { same_shape(expected, leaves) } else { same(expected, leaves) };
        let different = play.fleet.until_same(CONVERGED_WITHIN, differences).await?;
        let more = different.len().saturating_sub(TOLD);
        self.problems.extend(different.into_iter().take(TOLD).map(|difference| format!("O1 {difference}")));
        self.problems.extend((more > 0).then(|| format!("O1 and {more} more")));
        self.problems.extend(play.answers("/readyz", 200).await);
        self.problems.extend(lives(&play.fleet, first(*undone)).await?);
        self.problems.extend(play.fleet.settle(CONVERGED_WITHIN).await);
        self.problems.extend(made_up_again(&self.passwords, &play.fleet.passwords().await?));
        self.problems.extend(play.ended()?);
        Ok(())
    }

    async fn until_gone(&self) -> Result<()> {
        let (stacks, deadline) = (self.play.fleet.api("RorunStack")?, Instant::now() + CONVERGED_WITHIN);
        while stacks.get_opt(STACK).await?.is_some() {
            if Instant::now() > deadline {
                bail!("before the restore: the stack does not go");
            }
            tokio::time::sleep(TICK).await;
        }
        Ok(())
    }
}

fn first(undone: Undone) -> Value {
    let mut first = spec("1");
    match undone {
        Undone::Reference | Undone::Status => first["redis"] = json!({"external": {"secretRef": {"name": REDIS}}}),
        Undone::Deletion => {
            first["deletionPolicy"] = json!("Delete");
            first["backup"] = Value::Null;
        }
        Undone::Change => first["ocr"] = json!({"image": "rorun-ai-service:1"}),
        Undone::All | Undone::Repair => {}
    }
    first
}

fn changed() -> Value {
    let mut changed = spec("2");
    changed["database"] = json!({"embedded": {"image": "postgres:changed"}});
    changed
}

async fn redis_secret(fleet: &Fleet<'_>, password: &str, port: u16) -> Result<()> {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": REDIS},
        "stringData": {"REDIS_URL": format!("redis://:{password}@127.0.0.1:{port}/0")},
    });
    let secrets = Api::<Secret>::namespaced(fleet.environment.client.clone(), &fleet.namespace);
    secrets.patch(REDIS, &PatchParams::apply("user").force(), &Patch::Apply(secret)).await?;
    Ok(())
}

/// Another client changes an image by hand.
async fn spoil(fleet: &Fleet<'_>) -> Result<()> {
    let patch = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "spoilt:1"}]);
    let patch = Patch::Json::<()>(serde_json::from_value(patch)?);
    fleet.api("StatefulSet")?.patch(&format!("{STACK}-database"), &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Whether the operator follows later changes: of a spec, and the deletion of a child.
async fn lives(fleet: &Fleet<'_>, mut wanted: Value) -> Result<Vec<String>> {
    let services = fleet.api("Service")?;
    with_retries(async || match services.delete(&format!("{STACK}-database"), &DeleteParams::background()).await {
        // It was never made again, which is reported below.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        done => done.map(drop),
    })
    .await?;
    wanted["database"] = json!({"embedded": {"image": "postgres:new"}});
    fleet.apply(STACK, &wanted).await?;
    let image = format!("StatefulSet/{STACK}-database/spec/template/spec/containers/0/image");
    let service = format!("Service/{STACK}-database/metadata/name");
    let missing = |leaves: &Leaves| {
        let old =
            (leaves.get(&image) != Some(&json!("postgres:new"))).then(|| "O3 a new spec is not observed".to_owned());
        let gone = (!leaves.contains_key(&service)).then(|| "O3 an object that is gone is not observed".to_owned());
        old.into_iter().chain(gone).collect()
    };
    fleet.until_same(SAID_WITHIN, missing).await
}

/// The differences of two states, without the values that every write changes.
fn same(expected: &Leaves, leaves: &Leaves) -> Vec<String> {
    let paths: BTreeSet<&String> = expected.keys().chain(leaves.keys()).collect();
    let counted = |path: &&&String| {
        ["/resourceVersion", "/generation", "observedGeneration", "Time"].iter().all(|end| !path.ends_with(end))
    };
    let different = paths.iter().filter(counted).filter(|path| expected.get(**path) != leaves.get(**path));
    let shown = |value: Option<&Value>| value.map_or("nothing".to_owned(), ToString::to_string);
    different.map(|path| format!("{path}: {}, not {}", shown(leaves.get(*path)), shown(expected.get(*path)))).collect()
}

/// Where one state has something that the other has not, or a status says something else.
fn same_shape(expected: &Leaves, leaves: &Leaves) -> Vec<String> {
    let missing = expected.keys().filter(|path| !leaves.contains_key(*path)).map(|path| format!("{path} is missing"));
    let status = same(expected, leaves).into_iter().filter(|difference| difference.contains("/status/"));
    missing.chain(status).collect()
}
