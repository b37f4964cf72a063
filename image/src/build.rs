//! Builds the static binaries, the operator's for an image and the plugin's for downloads: for musl, with the list of its dependencies inside
//! (cargo-auditable), and with no path of this machine in it, so that every folder gives the same bytes. Where cargo
//! has its home must be the same: the path of cargo-auditable there is part of what cargo hashes into symbols.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Architecture, Error};

const AUDITABLE: &str = "cargo-auditable@0.7.7";
/// Rust brings this linker and musl along, so that no C library of the target is needed.
const LINKER: &str = "rust-lld";

/// A program of the repository.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    package: &'static str,
    binary: &'static str,
}

/// The operator.
pub const OPERATOR: Program = Program { package: "regcred", binary: "regcred" };
/// The kubectl plugin.
pub const PLUGIN: Program = Program { package: "regcred-plugin", binary: "kubectl-regcred" };

/// Builds a program for each of these architectures.
pub fn binaries(
    repository: &Path,
    program: Program,
    architectures: &[Architecture],
) -> Result<Vec<(Architecture, PathBuf)>, Error> {
    architectures
        .iter()
        .map(|architecture| Ok((*architecture, binary(repository, program, *architecture)?)))
        .collect()
}

/// Builds a program of the repository in this folder; returns the path of the binary. Takes some minutes the
/// first time, and fetches the target's standard library (by rustup) and cargo-auditable where they are missing.
pub fn binary(repository: &Path, program: Program, architecture: Architecture) -> Result<PathBuf, Error> {
    let target = format!("{}-unknown-linux-musl", architecture.rust_name());
    let folder = repository.join("target");
    run(Command::new("rustup").args(["target", "add", &target]).current_dir(repository))?;
    // Beside the user's own tools, which stay as they are.
    let home = cargo_home()?;
    let tools = home.join("regcred");
    run(cargo(repository).args(["install", "--quiet", "--locked", AUDITABLE, "--root"]).arg(&tools))?;
    let variable = target.replace('-', "_");
    let mut build = cargo(repository);
    build
        .args([
            "auditable",
            "build",
            "--release",
            "--locked",
            "--package",
            program.package,
            "--target",
            &target,
        ])
        .arg("--target-dir")
        .arg(&folder)
        .env("PATH", path_with(&tools.join("bin")))
        .env(format!("CARGO_TARGET_{}_LINKER", variable.to_uppercase()), LINKER)
        .env("CARGO_ENCODED_RUSTFLAGS", remapped(repository, &home, "--remap-path-prefix").join("\u{1f}"))
        .env(format!("CC_{variable}"), c_compiler(architecture))
        .env(format!("CFLAGS_{variable}"), remapped(repository, &home, "-ffile-prefix-map").join(" "));
    run(&mut build)?;
    Ok(folder.join(target).join("release").join(program.binary))
}

/// cargo, to run in this folder. The variables that `cargo run` sets for our own package are removed: build scripts
/// that look at them (ring's does) would run again, and everything that depends on them would be compiled again.
pub fn cargo(folder: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command.current_dir(folder);
    command
}

fn run(command: &mut Command) -> Result<(), Error> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let text = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let reason = match command.status() {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => format!("{status}; what it says is above"),
        Err(error) => error.to_string(),
    };
    Err(Error::Build { command: text, reason })
}

/// ring holds C and assembly. Debian's names of its cross compilers.
fn c_compiler(architecture: Architecture) -> String {
    let name = architecture.rust_name();
    if name == std::env::consts::ARCH { "cc".to_owned() } else { format!("{name}-linux-gnu-gcc") }
}

/// The flags that make compilers write the same paths everywhere.
fn remapped(repository: &Path, cargo_home: &Path, flag: &str) -> [String; 2] {
    [(repository, "/regcred"), (cargo_home, "/cargo")]
        .map(|(from, to)| format!("{flag}={}={to}", from.display()))
}

fn cargo_home() -> Result<PathBuf, Error> {
    let own = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"));
    own.or_else(home).ok_or_else(|| Error::Build {
        command: "cargo auditable build".to_owned(),
        reason: "set HOME or CARGO_HOME: their paths must not be in the binary".to_owned(),
    })
}

fn path_with(first: &Path) -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(first.to_owned()).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).unwrap_or(path)
}
