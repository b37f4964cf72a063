//! The whole story on a real node: Pods that cannot pull, and then can. One node and one installation of the chart
//! serve all tests, one after the other; the last ones take it away.
//!
//! Needs root on Linux. Where a node cannot be, one line says so and why, and nothing has failed; with
//! `REGCRED_NODE_TESTS=required` that is a failure.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people at a terminal")]

mod audit;
mod credentials;
mod end;
mod held;
mod operator;
mod pulls;
mod rolling;
mod stage;

use std::{
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use libtest_mimic::{Arguments, Trial};
use regcred_tests::{Error, node};
use stage::Stage;
use tokio::runtime::Runtime;

const REQUIRED: &str = "REGCRED_NODE_TESTS";

fn main() -> ExitCode {
    let arguments = std::env::args().nth(1);
    if let Err(error) = node::enter() {
        let required = std::env::var_os(REQUIRED).is_some_and(|value| value == "required");
        let skipped = matches!(error, Error::NoNode(_)) && !required;
        eprintln!("node tests {}: {error}", if skipped { "skipped" } else { "failed" });
        return if skipped { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let runtime = Runtime::new().unwrap();
    if arguments.as_deref() == Some(end::HOLD) {
        return runtime.block_on(end::hold());
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let runtime = Arc::new(runtime);
    let stage = Arc::new(Mutex::new(Shared::Unopened));
    let before = end::places_outside();
    let conclusion = libtest_mimic::run(&arguments, trials(&runtime, &stage));
    // The node ends before its runtime does.
    *stage.lock().unwrap_or_else(PoisonError::into_inner) = Shared::Failed;
    assert_eq!(end::places_outside(), before, "the node made folders outside of its own");
    conclusion.exit_code()
}

/// The stage of all tests. One that could not be opened is not tried again.
enum Shared {
    Unopened,
    Open(Box<Stage>),
    Failed,
}

macro_rules! trials {
    ($runtime:expr, $stage:expr, $($module:ident::$test:ident),* $(,)?) => {
        vec![$(trial(stringify!($test), $runtime, $stage, |runtime, stage| {
            runtime.block_on($module::$test(stage));
        })),*]
    };
}

fn trials(runtime: &Arc<Runtime>, stage: &Arc<Mutex<Shared>>) -> Vec<Trial> {
    trials![
        runtime,
        stage,
        operator::two_replicas_run_restricted_and_one_leads,
        pulls::a_pod_that_named_the_secret_before_it_was_there_heals_by_itself,
        pulls::a_deployment_that_could_not_pull_does_with_its_next_pod,
        credentials::every_form_of_credential_pulls,
        credentials::a_wrong_password_does_not_pull,
        credentials::several_registries_pull_with_one_secret,
        audit::the_audit_says_of_each_pod_what_the_kubelet_did,
        pulls::a_rotation_keeps_what_was_pulled_and_pulls_anew,
        pulls::a_source_that_breaks_stops_nobody_and_the_same_bytes_by_hand_do,
        held::a_rejected_new_password_stops_no_pod_under_hold,
        rolling::no_pull_fails_while_tokens_of_a_minute_roll,
        operator::the_leader_a_rollout_and_a_drain_lose_nothing,
        pulls::fifty_namespaces_with_their_deployments_in_one_apply,
        end::removed_in_the_documented_order_pods_go_on_and_nothing_is_left,
        end::a_killed_program_leaves_nothing_of_its_node,
    ]
}

fn trial(
    name: &str,
    runtime: &Arc<Runtime>,
    stage: &Arc<Mutex<Shared>>,
    test: fn(&Runtime, &Stage),
) -> Trial {
    let (runtime, stage) = (runtime.clone(), stage.clone());
    Trial::test(name, move || {
        let mut shared = stage.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*shared, Shared::Unopened) {
            *shared = Shared::Failed;
            *shared = Shared::Open(Box::new(runtime.block_on(Stage::open())));
        }
        match &*shared {
            Shared::Open(stage) => {
                test(&runtime, stage);
                Ok(())
            }
            Shared::Unopened | Shared::Failed => {
                Err("the stage could not be opened: see the first test".into())
            }
        }
    })
}
