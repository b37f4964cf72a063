//! W12: many credentials of one identity, whose registry gives tokens. Counted are the tokens that the issuer gave, those of
//! the ServiceAccount that the API server gave, and every request once all is in place.

use std::time::Duration;

use regcred_tests::wait::try_eventually;
use tokio::time::{Instant, sleep};

use crate::{
    Result,
    record::{Sample, Series, Workload},
    subject::{DEADLINE, Session},
    suite::count,
};

impl Session<'_> {
    /// So many credentials in the namespaces with this label, which are one, and then nothing for a while. The subject does
    /// not run before and after.
    pub async fn tokens(
        &mut self,
        credentials: usize,
        label: &str,
        rest: Duration,
    ) -> Result<Option<Sample>> {
        let Some(tokens) = &self.subject.tokens else { return Ok(None) };
        let (template, set_up) = (tokens.credential.clone(), tokens.set_up.clone());
        for path in &set_up {
            regcred_tests::install::apply(&self.cluster.control_plane, path).await?;
        }
        let cluster = self.cluster;
        let (mints, copies) = (cluster.clouds.mints(), cluster.count_copies().await?);
        self.start(&[])?;
        self.ready().await?;
        let before = self.read_meters()?;
        let began = Instant::now();
        let names: Vec<String> = (0..credentials).map(|number| format!("token-{number:03}")).collect();
        self.apply_all(&template, &names, label).await?;
        try_eventually("a copy of each credential", DEADLINE, async || {
            let now = cluster.count_copies().await.map_err(|error| error.to_string())?;
            if now >= copies + credentials { Ok(()) } else { Err(format!("{now} Secrets, {copies} before")) }
        })
        .await?;
        let seconds = began.elapsed().as_secs_f64();
        self.come_to_rest().await;
        let mut sample = self.sample(Workload::Tokens, &before).await?;
        (sample.seconds, sample.namespaces, sample.credentials) = (seconds, 1, credentials);
        sample.pairs = credentials;
        let requests = |sample: &Sample, key: &str| sample.requests.get(key).copied().unwrap_or_default();
        let asked = requests(&sample, "create serviceaccounts/token");
        sample.series.insert(Series::Mints, vec![count(cluster.clouds.mints() - mints)]);
        sample.series.insert(Series::TokenRequests, vec![count(asked)]);
        sample.series.insert(Series::RequestsAtRest, vec![count(self.requests_at_rest(rest).await?)]);
        self.remove_all(&template, &names).await?;
        self.stop().await?;
        Ok(Some(sample))
    }

    /// What the subject asks the API server in this time, but for its watches, which the API server ends now and then.
    async fn requests_at_rest(&self, period: Duration) -> Result<usize> {
        let before = self.read_meters()?;
        sleep(period).await;
        let sample = self.sample(Workload::Tokens, &before).await?;
        Ok(sample.requests.iter().filter(|(key, _)| !key.starts_with("watch ")).map(|(_, count)| count).sum())
    }
}
