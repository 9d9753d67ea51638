//! The environment of the benchmarks: an API server without pods, services for the stacks, an operator beside it, and the
//! stacks that exist at the time.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use kube::Client;
use kube::api::DeleteParams;
use kube::config::Kubeconfig;
use rorun_e2e::engine::test_server::{AuditCall, Mark, TestServer};
use rorun_e2e::engine::{Cache, progress};
use rorun_e2e::fake_controllers::FakeControllers;
use tokio::task::spawn_blocking;

use super::floor::{self, Floor};
use super::load;
use super::operator::Operator;
use super::services::Services;
use super::stats::float;
use super::template::{StackName, Template};
use super::watch::Statuses;
use super::{Options, table::Row};
use crate::environment::{connect, define};

/// Stacks whose objects are written for the floor, at most.
const FLOOR_STACKS: usize = 100;
/// How long all stacks together may take, whatever is waited for.
pub(super) const TIMEOUT: Duration = Duration::from_mins(15);

/// The servers, the operator, and the stacks that exist now.
pub(super) struct BenchEnvironment {
    pub(super) server: Arc<TestServer>,
    pub(super) client: Client,
    pub(super) services: Services,
    pub(super) template: Template,
    pub(super) floor: Floor,
    pub(super) statuses: Statuses,
    pub(super) options: Options,
    /// The stacks that are there, settled.
    pub(super) stacks: Vec<StackName>,
    /// Stacks made in a second when they came all at once.
    pub(super) rate: Option<f64>,
    pub(super) rows: Vec<Row>,
    /// What could not be measured, and why.
    pub(super) failed: Vec<String>,
    /// Where the programs are that others are compared with.
    pub(super) cache: Cache,
    /// What operators are started with.
    pub(super) arguments: &'static [&'static str],
    operator: Option<Operator>,
    controllers: Option<FakeControllers>,
}

impl BenchEnvironment {
    /// As the only operator.
    pub(super) const ARGUMENTS: &'static [&'static str] = &["--leader-elect=false"];

    /// Starts everything but the operator, and measures the floors.
    pub(super) async fn open(cache: &Cache, options: Options) -> Result<BenchEnvironment> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let step = progress::Step::start("an API server, services and the floors", "everything is a ratio to these");
        let server = {
            let cache = cache.clone();
            Arc::new(
                spawn_blocking(move || TestServer::start_lean(&cache))
                    .await
                    .context("the start of the API server panicked")??,
            )
        };
        let client = connect(&server.kubeconfig).await?;
        define(&client).await?;
        let services = Services::start().await?;
        let template = Template::render(&services)?;
        let floor = Floor::measure(&client, &template, options.stacks.min(FLOOR_STACKS)).await?;
        step.done();
        Ok(BenchEnvironment {
            statuses: Statuses::watch(client.clone()),
            server,
            client,
            services,
            template,
            floor,
            options,
            stacks: Vec::new(),
            rate: None,
            rows: Vec::new(),
            failed: Vec::new(),
            cache: cache.clone(),
            arguments: BenchEnvironment::ARGUMENTS,
            operator: None,
            controllers: None,
        })
    }

    /// Notes what was measured.
    pub(super) fn note(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// The operator, which is started if none runs.
    pub(super) async fn operator(&mut self) -> Result<&Operator> {
        let operator = if let Some(operator) = self.operator.take() {
            operator
        } else {
            let operator = Operator::start_with(&self.server.kubeconfig, &self.log("operator"), self.arguments)?;
            operator.ready().await?;
            operator.rests().await?;
            operator
        };
        Ok(self.operator.insert(operator))
    }

    /// Ends the operator.
    pub(super) async fn stop_operator(&mut self) -> Result<()> {
        match self.operator.take() {
            Some(operator) => operator.stop().await,
            None => Ok(()),
        }
    }

    /// From now on, workloads become ready, or do not any more.
    pub(super) fn act(&mut self, on: bool) {
        if !on {
            self.controllers = None;
        } else if self.controllers.is_none() {
            self.controllers = Some(FakeControllers::start(self.client.clone(), Duration::ZERO));
        }
    }

    /// Where an operator of that name logs.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.server.folder().join(format!("{name}.log"))
    }

    /// A kubeconfig of an administrator by another name, as the audit log then shows it.
    pub(super) fn kubeconfig_of(&self, user: &str) -> Result<PathBuf> {
        let mut kubeconfig = Kubeconfig::read_from(&self.server.kubeconfig)?;
        for auth in kubeconfig.auth_infos.iter_mut().filter_map(|named| named.auth_info.as_mut()) {
            auth.impersonate = Some(user.to_owned());
            auth.impersonate_groups = Some(vec!["system:masters".to_owned()]);
        }
        let path = self.server.folder().join(format!("{user}.kubeconfig"));
        std::fs::write(&path, serde_json::to_vec(&kubeconfig)?)?;
        Ok(path)
    }

    /// A place in the audit log.
    pub(super) async fn mark(&self) -> Result<Mark> {
        let server = Arc::clone(&self.server);
        spawn_blocking(move || server.mark()).await?
    }

    /// The calls of operators since then, without watches and leases.
    pub(super) async fn calls(&self, since: Mark) -> Result<Vec<AuditCall>> {
        let mut calls = self.all_calls(since).await?;
        calls.retain(|call| call.user_agent.starts_with("rorun-operator/"));
        calls.retain(|call| call.verb != "watch" && call.resource != "leases");
        Ok(calls)
    }

    /// All calls since then.
    pub(super) async fn all_calls(&self, since: Mark) -> Result<Vec<AuditCall>> {
        let server = Arc::clone(&self.server);
        spawn_blocking(move || server.calls_since(since)).await?
    }

    /// Makes stacks, all at once; waits until all that they need was made. Gives the time that this took.
    pub(super) async fn make(&mut self, names: &[StackName]) -> Result<Duration> {
        load::prepare(&self.client, &self.services, names).await?;
        self.operator().await?;
        let started = std::time::Instant::now();
        load::each(names, |of| create_stack(&self.client, &self.template, of)).await?;
        self.statuses.until("made", (names, TIMEOUT), |seen| seen.made.is_some()).await?;
        Ok(started.elapsed())
    }

    /// Makes sure that the stacks of the run are there and ready.
    pub(super) async fn fill(&mut self) -> Result<()> {
        if !self.stacks.is_empty() {
            return Ok(());
        }
        let names = floor::names('c', self.options.stacks);
        let step = progress::Step::start(&format!("{} stacks at once", names.len()), "for what needs many");
        let took = self.make(&names).await?;
        self.rate = Some(float(names.len()) / took.as_secs_f64());
        self.settle(&names).await?;
        self.stacks = names;
        step.done();
        Ok(())
    }

    /// Lets the workloads of stacks become ready, and waits until nothing is left to do.
    pub(super) async fn settle(&mut self, names: &[StackName]) -> Result<()> {
        self.act(true);
        self.statuses.until("ready", (names, TIMEOUT), |seen| seen.now.1).await?;
        if let Some(operator) = &self.operator {
            operator.rests().await?;
        }
        Ok(())
    }

    /// Removes stacks and what they leave behind. No operator runs afterwards.
    pub(super) async fn remove(&mut self, names: &[StackName]) -> Result<()> {
        self.stop_operator().await?;
        load::each(names, |of| delete_stack(&self.client, of)).await?;
        load::collect(&self.client, &self.template.objects(&names[0]), names).await
    }
}

/// Makes a stack as a user would.
pub(super) async fn create_stack(client: &Client, template: &Template, of: &StackName) -> Result<()> {
    let body = serde_json::from_value(template.stack(of))?;
    let made = load::stacks(client, &of.namespace).create(&kube::api::PostParams::default(), &body).await;
    made.map(drop).with_context(|| format!("failed to make {of:?}"))
}

/// Deletes a stack as a user would.
pub(super) async fn delete_stack(client: &Client, of: &StackName) -> Result<()> {
    let deleted = load::stacks(client, &of.namespace).delete(&of.name, &DeleteParams::default()).await;
    deleted.map(drop).with_context(|| format!("failed to delete {of:?}"))
}
