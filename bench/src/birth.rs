//! An admission policy that attaches at birth: what it does for first Pods, and what it costs whoever makes a
//! ServiceAccount. No operator has to run for either.

use std::time::Duration;

use regcred_tests::{install, wait::try_eventually};
use tokio::time::Instant;

use crate::{
    Result,
    cluster::ALL,
    record::{Sample, Series, Workload},
    subject::Session,
    usage::Usage,
    workload::{PASSWORDS, milliseconds},
};

const IN_FORCE_DEADLINE: Duration = Duration::from_mins(1);
/// A namespace that no credential selects.
const ELSEWHERE: &str = "bench-rig";
/// The label of namespaces that there are none of.
const NOWHERE: &str = "bench-nowhere";

impl Session<'_> {
    /// W11 with the policy, and the time of a write with it beside ever more credentials. The subject does not run.
    pub async fn at_birth(
        &self,
        pods: usize,
        secret: &str,
        accounts: usize,
        credentials: &[usize],
    ) -> Result<Vec<Sample>> {
        if self.subject.at_birth.is_empty() {
            return Ok(Vec::new());
        }
        let mut samples = vec![self.making_accounts(accounts, None).await?];
        for path in &self.subject.at_birth {
            install::apply(&self.cluster.control_plane, path).await?;
        }
        let secrets = [secret.to_owned()];
        self.apply_source(secret, PASSWORDS[0]).await?;
        self.apply_credentials(&secrets, ALL).await?;
        self.until_in_force(secret, true).await?;
        samples.push(self.first_pods(Workload::FirstPodsWithPolicy, pods, secret).await?);
        self.remove_credentials(&secrets).await?;
        self.until_in_force(secret, false).await?;
        let mut names: Vec<String> = Vec::new();
        for count in credentials {
            let more: Vec<String> =
                (names.len()..*count).map(|number| format!("birth-{number:03}")).collect();
            self.apply_credentials(&more, NOWHERE).await?;
            names.extend(more);
            samples.push(self.making_accounts(accounts, Some(*count)).await?);
        }
        self.remove_credentials(&names).await?;
        for path in &self.subject.at_birth {
            install::remove(&self.cluster.control_plane, path).await?;
        }
        Ok(samples)
    }

    /// The API server takes a moment to ingest a policy or a credential.
    async fn until_in_force(&self, secret: &str, wanted: bool) -> Result<()> {
        let account = "policy-probe";
        try_eventually("the policy to be in force", IN_FORCE_DEADLINE, async || {
            let names = self.cluster.account_names("bench-00000", account).await;
            let names = names.map_err(|error| error.to_string())?;
            if names.iter().any(|name| name == secret) == wanted { Ok(()) } else { Err(format!("{names:?}")) }
        })
        .await?;
        Ok(())
    }

    /// ServiceAccounts made one after the other where nothing selects them.
    async fn making_accounts(&self, count: usize, credentials: Option<usize>) -> Result<Sample> {
        let mut latencies = Vec::new();
        let mut made = Vec::new();
        for number in 0..count {
            let account = format!("born-{number}");
            let sent = self.cluster.make_account(ELSEWHERE, &account).await?;
            latencies.push(milliseconds(sent, Instant::now()));
            made.push((ELSEWHERE.to_owned(), account));
        }
        self.cluster.delete_accounts(made).await?;
        let workload = match credentials {
            Some(_) => Workload::BirthsWithPolicy,
            None => Workload::BirthsWithoutPolicy,
        };
        Ok(Sample {
            credentials: credentials.unwrap_or_default(),
            resident: Usage::of(self.cluster.api_server())?.resident,
            series: [(Series::CreateMilliseconds, latencies)].into(),
            ..Sample::new(workload, &self.subject.name)
        })
    }
}
