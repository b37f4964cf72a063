//! `cargo demo`: the story of regcred, told by a real API server. Ends with an error at the first step that
//! does not go as promised.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "telling is what this program is for")]

mod cluster;
mod node_story;
mod stage;
mod story;

use std::{path::PathBuf, process::ExitCode};

use cluster::Cluster;
use regcred_tests::{
    error::{Context as _, Error, Result},
    node,
};
use stage::Stage;

const USAGE: &str = "\
Tells the story of regcred on a control plane of its own.

Usage: cargo demo [--keep] [--kubeconfig FILE]
       cargo demo --node

  --node             Tell it with a node of its own: a Pod goes from ImagePullBackOff to Running. Needs root on Linux
  --keep             Leave the cluster running, and print how to use it and how to stop it
  --kubeconfig FILE  Use this cluster instead of an embedded control plane";

/// What the command line asks for.
#[derive(Default)]
struct Arguments {
    node: bool,
    keep: bool,
    kubeconfig: Option<PathBuf>,
}

fn main() -> ExitCode {
    match arguments(std::env::args().skip(1)).and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments(mut given: impl Iterator<Item = String>) -> Result<Arguments> {
    let mut arguments = Arguments::default();
    while let Some(argument) = given.next() {
        match (argument.as_str(), argument.split_once('=')) {
            ("--node", _) => arguments.node = true,
            ("--keep", _) => arguments.keep = true,
            ("--kubeconfig", _) => arguments.kubeconfig = given.next().map(PathBuf::from),
            (_, Some(("--kubeconfig", file))) => arguments.kubeconfig = Some(PathBuf::from(file)),
            ("--help" | "-h", _) => {
                println!("{USAGE}");
                std::process::exit(0);
            }
            _ => return Err(Error::Unexpected(format!("unknown argument {argument}\n\n{USAGE}"))),
        }
    }
    if arguments.node && (arguments.keep || arguments.kubeconfig.is_some()) {
        return Err(Error::Unexpected(format!("--node goes with no other argument\n\n{USAGE}")));
    }
    Ok(arguments)
}

fn run(arguments: &Arguments) -> Result<()> {
    if arguments.node {
        node::enter()?;
    }
    let runtime = tokio::runtime::Runtime::new().context("start a runtime")?;
    runtime.block_on(async {
        if arguments.node {
            let stage = Stage::new(Cluster::with_node().await?);
            node_story::tell(&stage).await?;
            return stage.close(false);
        }
        let stage = Stage::new(Cluster::open(arguments.kubeconfig.as_deref()).await?);
        story::tell(&stage, arguments.keep).await?;
        stage.close(arguments.keep)
    })
}
