//! The command line: flags and environment become values, and one function is called. No logic.

mod client;
pub mod crd;
mod lease;
mod optional;
mod promote;
pub mod rbac;
mod recovery_points;
pub mod render;
mod run;
mod wait;

use std::{io, path::PathBuf, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::{
    agent::{self, AgentCommand},
    runtime::RunError,
    telemetry::{
        MetricsError,
        http::HttpError,
        logs::{self, LogError, LogFormat},
    },
};

/// The image of this version.
pub const AGENT_IMAGE: &str = concat!("ghcr.io/rorun/rorun-operator:", env!("CARGO_PKG_VERSION"));

/// Runs Rorun on Kubernetes: a RorunStack describes one environment, and the operator makes and keeps what it needs.
#[derive(Debug, Parser)]
#[command(name = "rorun-operator", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the operator
    Run(run::RunArgs),
    /// Prints the CustomResourceDefinitions
    Crd,
    /// Prints the roles that the operator needs
    Rbac(rbac::RbacArgs),
    /// Prints the objects that a manifest would become, without a cluster
    Render {
        /// A file with RorunStacks, or - for standard input
        file: PathBuf,
        /// As documents of YAML, or a line of JSON for each object
        #[arg(long, short, value_enum, default_value_t)]
        output: render::Output,
    },
    /// Waits until a release serves: exit code 0; 2 if it failed or was rolled back, 3 after the timeout, 4 if it awaits approval
    Wait(wait::WaitArgs),
    /// Writes the images that a stack has proven into the manifest of another, each with its digest
    ///
    /// Refuses a release that is not proven: the stack has to be Ready, and its status has to have `release.proven`. Only the image
    /// lines change; comments, order and quotes stay. Nothing is written to a cluster: commit the file for a pull request.
    Promote(promote::PromoteArgs),
    /// Lists the recovery points of a bucket, or prints the spec in one, without a cluster, with the keys of the usual variables of AWS
    RecoveryPoints(recovery_points::RecoveryPointsArgs),
    /// Runs inside the pod of a backup
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Prints the version
    Version,
    /// Prints a completion script for a shell
    Completion {
        /// The shell
        shell: Shell,
    },
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The logger could not be set up.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The metrics could not be set up.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The endpoints could not be served.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The cluster could not be found.
    #[error("failed to find a cluster: {0}; run in a pod, or set KUBECONFIG")]
    Config(#[source] kube::config::InferConfigError),
    /// The way to the cluster leads through a proxy of an unknown kind.
    #[error(
        "failed to set up a client of the API server: the kubeconfig or HTTPS_PROXY names the proxy {0} by a URL that does not \
         begin with http://, https:// or socks5://; correct it, or name the API server in NO_PROXY"
    )]
    Proxy(String),
    /// The durations of leader election do not go together.
    #[error("failed to set up leader election: {0}")]
    Lease(String),
    /// A client could not be built.
    #[error("failed to set up a client of the API server: {0}")]
    Client(#[from] kube::Error),
    /// Signals could not be listened to.
    #[error("failed to listen to signals: {0}")]
    Signal(#[source] io::Error),
    /// The operator stopped.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A manifest could not be rendered.
    #[error(transparent)]
    Render(#[from] render::RenderError),
    /// A release could not be promoted.
    #[error(transparent)]
    Promote(#[from] promote::PromoteError),
    /// The bucket could not be read.
    #[error(transparent)]
    Bucket(#[from] crate::services::ServiceError),
    /// The spec in a recovery point could not be printed.
    #[error(transparent)]
    Spec(#[from] recovery_points::PrintSpecError),
    /// The result could not be printed.
    #[error("failed to print: {0}")]
    Print(#[from] io::Error),
}

impl Cli {
    /// Does what the command says. Errors go to stderr, as one line.
    pub async fn run(self) -> ExitCode {
        let done = match self.command {
            Command::Agent(command) => {
                return match logs::init("info", LogFormat::Json) {
                    Ok(()) => agent::run(command).await,
                    Err(error) => fail(&error.into()),
                };
            }
            Command::Run(args) => run::run(args).await,
            Command::Crd => crd::print(&mut io::stdout()).map_err(Into::into),
            Command::Rbac(args) => rbac::print(&args, &mut io::stdout()).map_err(Into::into),
            Command::Render { file, output } => {
                render::print(&file, output, io::BufWriter::new(io::stdout())).map_err(Into::into)
            }
            Command::Wait(args) => {
                return Box::pin(wait::run(args, &mut io::stdout())).await.unwrap_or_else(|error| fail(&error));
            }
            Command::Promote(args) => Box::pin(promote::run(args, &mut io::stdout())).await,
            Command::RecoveryPoints(args) => Box::pin(recovery_points::run(args, &mut io::stdout())).await,
            Command::Version => version(),
            Command::Completion { shell } => {
                clap_complete::generate(shell, &mut Self::command(), "rorun-operator", &mut io::stdout());
                Ok(())
            }
        };
        done.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
    }
}

fn version() -> Result<(), CliError> {
    use io::Write;
    Ok(writeln!(io::stdout(), "rorun-operator {}", env!("CARGO_PKG_VERSION"))?)
}

fn fail(error: &CliError) -> ExitCode {
    use io::Write;
    // Nobody is left to tell if stderr is closed.
    let _ = writeln!(io::stderr(), "error: {error}");
    ExitCode::FAILURE
}
