//! Ctrl-C ends the plugin at once, also while it waits for an API server that never answers.

use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::{SOON, program};

/// Far less than any deadline of a request.
const AT_ONCE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn an_interrupt_ends_it_while_nobody_answers() {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", server.local_addr().unwrap());
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": ""}}],
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), config.to_string()).unwrap();
    for verb in [&["audit", "-A"][..], &["check"], &["refresh", "pull", "--wait"]] {
        let mut command = program(verb).await;
        let mut child = command.env("KUBECONFIG", file.path()).spawn().unwrap();
        let _open = timeout(SOON, server.accept()).await.expect("a request").unwrap();
        let id = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
        kill_process(id, Signal::INT).unwrap();
        let status =
            timeout(AT_ONCE, child.wait()).await.unwrap_or_else(|_| panic!("{verb:?} goes on")).unwrap();
        assert_eq!(status.signal(), Some(Signal::INT.as_raw()), "{verb:?}: {status}");
    }
}
