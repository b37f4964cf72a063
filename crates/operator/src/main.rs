//! The regcred operator. Arguments are parsed once into what the library takes; nothing is decided
//! here.

mod args;
mod kubernetes;
mod process;
mod run;
mod server;
mod telemetry;

use std::process::ExitCode;

use args::{Args, Command};
use clap::Parser;

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Run(options) => run::run(options),
        Command::Crd => run::print(regcred_api::crd::yaml()),
        Command::Version => {
            run::print(Ok::<_, run::Error>(concat!("regcred ", env!("CARGO_PKG_VERSION"), "\n")))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            run::complain(&error);
            ExitCode::FAILURE
        }
    }
}
