//! How the story is shown: headings, commands as a user would type them, and what they print. Plain text when
//! piped.

use std::{
    io::{IsTerminal as _, stdout},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use regcred_tests::{
    chart,
    error::{Error, Result},
    node::Node,
    process::Process,
    wait::try_eventually,
};
use tokio::sync::Mutex;

use crate::cluster::Cluster;

const SOON: Duration = Duration::from_secs(30);

/// A cluster, an operator, and somebody who tells what happens to them.
pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    operator: Mutex<Option<Process>>,
    steps: AtomicUsize,
    styled: bool,
}

impl Stage {
    /// A stage on this cluster.
    pub(crate) fn new(cluster: Cluster) -> Self {
        let styled = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { cluster, operator: Mutex::default(), steps: AtomicUsize::new(1), styled }
    }

    /// Opens a step: what happens, and why it matters.
    pub(crate) fn step(&self, title: &str, why: &str) {
        let number = self.steps.fetch_add(1, Ordering::Relaxed);
        println!("\n{}", self.style("1", &format!("{number}. {title}")));
        println!("{why}\n");
    }

    /// Runs kubectl and shows both what was typed and what came back.
    pub(crate) async fn show(&self, command: &str) -> Result<String> {
        let output = self.quietly(command).await?;
        println!("{}", self.style("36", &format!("$ kubectl {command}")));
        println!("{}", output.trim_end());
        Ok(output)
    }

    /// Applies YAML, and shows it as somebody would type it.
    pub(crate) async fn show_apply(&self, yaml: &str) -> Result<()> {
        let output = self.cluster.kubectl_with(&["apply", "-f", "-"], yaml).await?;
        println!("{}", self.style("36", &format!("$ kubectl apply -f - <<'EOF'\n{}\nEOF", yaml.trim())));
        println!("{}", output.trim_end());
        Ok(())
    }

    /// Applies what another kubectl prints, and shows both as a pipe.
    pub(crate) async fn show_piped(&self, command: &str) -> Result<()> {
        let manifest = self.quietly(command).await?;
        let apply = "apply --server-side --force-conflicts -f -";
        let words: Vec<&str> = apply.split(' ').collect();
        let output = self.cluster.kubectl_with(&words, &manifest).await?;
        println!("{}", self.style("36", &format!("$ kubectl {command} | kubectl {apply}")));
        println!("{}", output.trim_end());
        Ok(())
    }

    /// Runs Helm and shows what was typed; what it prints is long.
    pub(crate) async fn helm(&self, command: &str) -> Result<()> {
        println!("{}", self.style("36", &format!("$ helm {command}")));
        let words: Vec<&str> = command.split_whitespace().collect();
        let control_plane = self.cluster.node().map(Node::control_plane);
        chart::helm(control_plane, &words).await.map(drop)
    }

    /// Runs kubectl without showing it. Words are separated by blanks, as nothing here needs quotes.
    pub(crate) async fn quietly(&self, command: &str) -> Result<String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        self.cluster.kubectl(&words).await
    }

    /// Waits until kubectl prints exactly this.
    pub(crate) async fn expect(&self, promise: &str, command: &str, wanted: &str) -> Result<()> {
        self.expect_that(promise, command, |output| output == wanted).await.map(drop)
    }

    /// Waits until what kubectl prints is as promised, and returns it.
    pub(crate) async fn expect_that(
        &self,
        promise: &str,
        command: &str,
        kept: impl Fn(&str) -> bool,
    ) -> Result<String> {
        self.expect_within(SOON, promise, command, kept).await
    }

    /// The same, for what takes its time.
    pub(crate) async fn expect_within(
        &self,
        within: Duration,
        promise: &str,
        command: &str,
        kept: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let look = async || {
            self.ensure_operator().await?;
            match self.quietly(command).await {
                Ok(output) if kept(output.trim()) => Ok(output.trim().to_owned()),
                Ok(output) => Err(format!("`kubectl {command}` prints {:?}", output.trim())),
                Err(error) => Err(error.to_string()),
            }
        };
        let output = try_eventually(promise, within, look).await?;
        println!("{}", self.style("32", &format!("✓ {promise}")));
        Ok(output)
    }

    /// Starts the operator, with further arguments.
    pub(crate) async fn start_operator(&self, further: Vec<String>) -> Result<()> {
        *self.operator.lock().await = Some(self.cluster.start_operator(further).await?);
        Ok(())
    }

    async fn ensure_operator(&self) -> Result<(), String> {
        match &*self.operator.lock().await {
            Some(operator) if !operator.is_running() => {
                Err(operator.failure("the operator ended").to_string())
            }
            _ => Ok(()),
        }
    }

    /// Ends the story.
    pub(crate) fn close(self, keep: bool) -> Result<()> {
        println!("\n{}", self.style("1", "Everything was as promised."));
        let operator = self.operator.into_inner();
        if !keep {
            return Ok(());
        }
        let kubeconfig = self.cluster.kubeconfig().display().to_string();
        let operator = operator.ok_or_else(|| Error::Unexpected("no operator was started".to_owned()))?;
        println!("\nexport KUBECONFIG={kubeconfig}");
        if self.cluster.is_embedded() {
            println!("alias kubectl={}", self.cluster.kubectl_program().display());
        }
        match self.cluster.keep(operator)? {
            Some(keeper) => println!("# stop the cluster and the operator: kill {keeper}"),
            None => println!("# the operator has ended with the story; your cluster keeps what it made"),
        }
        Ok(())
    }

    fn style(&self, code: &str, text: &str) -> String {
        if self.styled { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}
