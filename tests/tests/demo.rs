//! The demo is a promise too: it ends well, plain when piped, and refuses what it does not know.

use std::{
    io::Write as _,
    process::{Command, Output},
    sync::{Mutex, PoisonError},
};

/// One at a time: what one builds on a fresh machine must not take the time of another.
static ALONE: Mutex<()> = Mutex::new(());

fn demo(arguments: &[&str]) -> Output {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    Command::new(env!("CARGO_BIN_EXE_demo")).args(arguments).output().unwrap()
}

#[test]
fn the_story_ends_as_promised_and_is_plain_when_piped() {
    let output = demo(&[]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.trim_end().ends_with("Everything was as promised."), "{told}");
    assert!(!told.contains('\u{1b}'), "colours in a pipe");
}

/// Where a node cannot be, a line says so, as in the node tests.
#[test]
fn the_story_on_a_node_ends_as_promised() {
    let output = demo(&["--node"]);
    let (told, complaint) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let required = std::env::var_os("REGCRED_NODE_TESTS").is_some_and(|value| value == "required");
    if !output.status.success() && complaint.contains("a node needs") && !required {
        let _ = writeln!(std::io::stderr(), "demo --node skipped: {}", complaint.trim());
        return;
    }
    assert!(output.status.success(), "{told}\n{complaint}");
    assert!(
        told.contains("ImagePullBackOff") && told.trim_end().ends_with("Everything was as promised."),
        "{told}"
    );
}

#[test]
fn an_unknown_argument_is_an_error_that_shows_the_usage() {
    let output = demo(&["--what"]);
    assert!(!output.status.success());
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(
        complaint.contains("unknown argument --what") && complaint.contains("Usage: cargo demo"),
        "{complaint}"
    );
}
