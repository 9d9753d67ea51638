//! The commands of `e2e`, one module for each.

mod campaign;
mod cluster;
mod demo;
mod images;
mod numbers;
mod scenarios;
mod test_server;
mod verify;

use std::ffi::OsString;

use anyhow::Result;
use clap::{Parser, Subcommand};

use self::campaign::{Forwarded, become_program};
use crate::engine::{Cache, cleanup};

/// A real Kubernetes on this machine, and what is proved on it.
#[derive(Debug, Parser)]
#[command(name = "e2e", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A cluster, the operator and a development stack to try things on
    Demo(demo::Options),
    /// Run everything that proves something about the project, or parts of it
    Verify(verify::Options),
    /// Measure how fast, how large and how many, against what the machine can do at all
    #[command(disable_help_flag = true)]
    Bench(Forwarded),
    /// Measure what the documents state about a cluster, and print it
    Numbers,
    /// Let one thing at a time go wrong between the operator and its API server
    #[command(disable_help_flag = true)]
    Campaign(Forwarded),
    /// Prove the campaign with bugs that are put into a copy of the operator
    #[command(disable_help_flag = true)]
    Seeds(Forwarded),
    /// Bring a cluster up, with everything that is needed for it; quick when that is there
    Up(cluster::Named),
    /// Take a cluster down, and prove that nothing is left
    Down(cluster::Named),
    /// Say what runs and how to reach it
    Status,
    /// Build the images of the operator and of the applications that use it, and put them into the cluster
    BuildImages(cluster::Named),
    /// Run an API server with nothing around it until Ctrl-C
    #[command(alias = "bed")]
    TestServer(test_server::Options),
    /// Prove things on a cluster with the operator in it
    Scenarios(scenarios::Options),
}

/// `cargo demo -- --down` comes as `e2e demo -- --down`: the separator was meant for cargo, and would make an argument of
/// the option.
fn without_separator(mut words: Vec<OsString>) -> Vec<OsString> {
    if words.get(2).is_some_and(|word| word == "--") {
        words.remove(2);
    }
    words
}

/// Runs the command that was asked for.
pub fn run() -> Result<()> {
    let arguments = Arguments::parse_from(without_separator(std::env::args_os().collect()));
    cleanup::watch_signals()?;
    let cache = Cache::from_env()?;
    match arguments.command {
        Command::Demo(options) => demo::run(&cache, &options),
        Command::Verify(options) => verify::run(&cache, &options),
        Command::Bench(options) => become_program("bench", &options),
        Command::Numbers => numbers::run(&cache),
        Command::Campaign(options) => become_program("run", &options),
        Command::Seeds(options) => become_program("seeds", &options),
        Command::Up(named) => cluster::up(&cache, &named),
        Command::Down(named) => cluster::down(&cache, &named),
        Command::Status => cluster::status(&cache),
        Command::BuildImages(named) => images::build(&cache, &named),
        Command::TestServer(options) => test_server::run(&cache, &options),
        Command::Scenarios(options) => scenarios::run(&cache, &options),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_the_campaign_reach_its_program_as_they_are() {
        let words = ["e2e", "campaign", "--quick", "poison", "--plan", "file.json", "--help"];
        let parsed = Arguments::try_parse_from(words).expect("the campaign reads its own options");
        let Command::Campaign(forwarded) = parsed.command else { unreachable!("{parsed:?}") };
        assert_eq!(forwarded, Forwarded { arguments: words[2..].iter().map(OsString::from).collect() });
    }

    #[test]
    fn the_commands_of_the_readme_are_understood() {
        let parse =
            |words: &[&str]| Arguments::try_parse_from(without_separator(words.iter().map(OsString::from).collect()));
        for words in [&["e2e", "demo", "--", "--down"][..], &["e2e", "verify", "--", "unit"], &["e2e", "verify"]] {
            assert!(parse(words).is_ok(), "{words:?}");
        }
        // The name that the test server had before.
        assert!(parse(&["e2e", "bed"]).is_ok());
        assert!(parse(&["e2e", "demo", "--", "--up"]).is_err());
    }
}
