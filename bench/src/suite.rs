//! Which workloads run, on which subjects, in which order. Subjects take turns in each round, so that a machine
//! that is slower for a while is slower for all.

use std::time::Duration;

use crate::{
    Result,
    cluster::{ALL, Cluster},
    profile::Profile,
    record::{SUBJECT, Sample, Series, Workload, median},
    subject::{Programs, Session, Subject},
    usage,
    workload::{MARKER, PASSWORDS, Task, cold_tasks, secret_names},
};

/// Namespaces of small credentials, each with a label of its own name.
const SMALL: [&str; 10] = [
    "small-0", "small-1", "small-2", "small-3", "small-4", "small-5", "small-6", "small-7", "small-8",
    "small-9",
];
/// Beside how many credentials the policy that attaches at birth is timed.
const BIRTHS_BESIDE: [usize; 3] = [0, 10, 100];
const REST_DEADLINE: Duration = Duration::from_mins(2);

/// How much is measured.
#[derive(Debug, Clone)]
pub struct Parameters {
    /// Namespaces in the workloads.
    pub namespaces: usize,
    /// How often subjects take turns.
    pub rounds: usize,
    /// Further numbers of namespaces at which memory and W1 are measured.
    pub scale: Vec<usize>,
    /// Foreign Secrets of 32 KiB: during the workloads, and in the end.
    pub foreign: [usize; 2],
    /// Credentials in every namespace of the largest scale, one step of W10 after the other.
    pub ceiling: Vec<usize>,
    /// How long W4 lasts.
    pub steady: Duration,
    /// ServiceAccounts made one after the other.
    pub quiet_accounts: usize,
    /// How often W8 drops all watches.
    pub drops: usize,
    /// Credentials of one identity in W12.
    pub tokens: usize,
}

impl Parameters {
    /// What is measured for the page.
    pub fn full() -> Self {
        Self {
            namespaces: 2000,
            rounds: 3,
            scale: vec![1000, 10_000],
            foreign: [5000, 30_000],
            ceiling: vec![5],
            steady: Duration::from_secs(30),
            quiet_accounts: 200,
            drops: 2,
            tokens: 500,
        }
    }

    /// A look in a few minutes.
    pub fn quick() -> Self {
        Self {
            namespaces: 200,
            rounds: 1,
            scale: vec![],
            foreign: [200, 1000],
            ceiling: vec![],
            steady: Duration::from_secs(10),
            quiet_accounts: 50,
            drops: 2,
            tokens: 500,
        }
    }
}

/// A run under way.
pub struct Suite<'a> {
    cluster: Cluster,
    parameters: &'a Parameters,
    subjects: &'a [Subject],
    programs: &'a Programs,
    samples: Vec<Sample>,
    gaps: Vec<String>,
    say: &'a dyn Fn(&str),
}

/// Measures everything. `say` gets a line for each step.
pub async fn run(
    parameters: &Parameters,
    subjects: &[Subject],
    programs: &Programs,
    say: &dyn Fn(&str),
) -> Result<(Vec<Sample>, Vec<String>)> {
    say("starting a control plane");
    let cluster = Cluster::start().await?;
    let (samples, gaps) = (Vec::new(), Vec::new());
    let mut suite = Suite { cluster, parameters, subjects, programs, samples, gaps, say };
    suite.measure().await?;
    Ok((suite.samples, suite.gaps))
}

/// Profiles W1 and W3 of each subject.
pub async fn profile(
    namespaces: usize,
    subjects: &[Subject],
    programs: &Programs,
    say: &dyn Fn(&str),
) -> Result<Vec<Profile>> {
    say("starting a control plane");
    let cluster = Cluster::start().await?;
    let names = cluster.grow(namespaces).await?;
    let mut profiles = Vec::new();
    for subject in subjects {
        say(&subject.name);
        let mut session = Session::open(&cluster, subject, programs, secret_names()).await?;
        profiles.extend(session.profiles(&names).await?);
    }
    Ok(profiles)
}

impl Suite<'_> {
    async fn measure(&mut self) -> Result<()> {
        let (below, above): (Vec<usize>, Vec<usize>) =
            self.parameters.scale.iter().partition(|size| **size < self.parameters.namespaces);
        for size in below {
            self.scale(size).await?;
        }
        self.grow(self.parameters.namespaces).await?;
        self.foreign_secrets(0, 0).await?;
        let [during, _] = self.parameters.foreign;
        self.foreign_secrets(0, during).await?;
        for round in 1..=self.parameters.rounds {
            self.round(round).await?;
        }
        let [during, last] = self.parameters.foreign;
        self.foreign_secrets(during, last).await?;
        for size in above {
            // Where a machine cannot hold so much, what was measured before still counts.
            if let Err(error) = self.scale(size).await {
                self.gaps.push(format!("W1 in {size} namespaces was not measured: {error}"));
                return Ok(());
            }
        }
        self.ceiling().await
    }

    async fn grow(&self, size: usize) -> Result<Vec<String>> {
        (self.say)(&format!("{size} namespaces"));
        self.cluster.grow(size).await
    }

    /// The subject whose memory and latencies are measured: the one of the page, or else the first that watches.
    fn main_subject(&self) -> Option<&'_ Subject> {
        let of_the_page = self.subjects.iter().find(|subject| subject.name == SUBJECT);
        of_the_page.or_else(|| self.subjects.iter().find(|subject| !subject.is_one_shot()))
    }

    fn bare_writer(&self) -> Option<&'_ Subject> {
        self.subjects.iter().find(|subject| subject.is_one_shot())
    }

    async fn open<'s>(&'s self, subject: &'s Subject) -> Result<Session<'s>> {
        let secrets = secret_names().into_iter().chain([MARKER.1.to_owned()]).collect();
        Session::open(&self.cluster, subject, self.programs, secrets).await
    }

    fn keep(&mut self, round: usize, samples: Vec<Sample>) {
        for sample in samples {
            (self.say)(&line(&sample));
            self.samples.push(Sample { round, ..sample });
        }
    }

    async fn round(&mut self, round: usize) -> Result<()> {
        let namespaces = self.cluster.grow(self.parameters.namespaces).await?;
        let main = self.main_subject().map(|subject| subject.name.clone());
        for number in 0..self.subjects.len() {
            let subject = &self.subjects[number];
            (self.say)(&format!("round {round}: {}", subject.name));
            let samples = self.basic(subject, &namespaces).await?;
            self.keep(round, samples);
            if self.bare_writer().is_some_and(|bare| bare.name == subject.name) {
                let samples = self.harm(subject, &namespaces).await?;
                self.keep(round, samples);
            }
            // Once: its figures are distributions of hundreds of samples, or counts.
            if round == 1 && Some(&subject.name) == main.as_ref() {
                let samples = self.in_depth(subject, &namespaces).await?;
                self.keep(round, samples);
            }
        }
        Ok(())
    }

    /// What every subject does, the bare writer too.
    async fn basic(&self, subject: &Subject, namespaces: &[String]) -> Result<Vec<Sample>> {
        let [all, few, many] = cold_tasks(namespaces);
        let mut session = self.open(subject).await?;
        if !subject.is_one_shot() {
            session.start(&[])?;
            session.ready().await?;
        }
        let mut samples = vec![session.cold(&few).await?];
        session.deletion(&few).await?;
        samples.push(session.cold(&all).await?);
        samples.push(session.rotation(namespaces, &all.secrets[0]).await?);
        samples.push(session.deletion(&all).await?);
        samples.push(session.cold(&many).await?);
        session.deletion(&many).await?;
        session.stop().await?;
        Ok(samples)
    }

    /// How much the bare writer slows others down, to compare the operator with.
    async fn harm(&self, subject: &Subject, namespaces: &[String]) -> Result<Vec<Sample>> {
        let [all, ..] = cold_tasks(namespaces);
        let mut session = self.open(subject).await?;
        let sample = session.cold_among_others(&all, &[]).await?;
        session.deletion(&all).await?;
        Ok(vec![sample])
    }

    /// What only an operator that watches can do.
    async fn in_depth(&self, subject: &Subject, namespaces: &[String]) -> Result<Vec<Sample>> {
        let [all, ..] = cold_tasks(namespaces);
        let secret = all.secrets[0].as_str();
        self.make_small_namespaces().await?;
        let mut session = self.open(subject).await?;
        session.start(&[])?;
        session.ready().await?;
        let mut samples = vec![session.cold_among_others(&all, &[]).await?];
        session.deletion(&all).await?;
        let small: Vec<(String, &str)> = all_but_first().into_iter().zip(SMALL).collect();
        samples.push(session.cold_among_others(&all, &small).await?);
        session.place_marker().await?;
        samples.push(session.steady(self.parameters.steady).await?);
        samples.push(session.new_namespaces(self.parameters.namespaces / 20, secret, PASSWORDS[0]).await?);
        samples.push(session.quiet_accounts(&namespaces[0], secret, self.parameters.quiet_accounts).await?);
        if let Some(rate) = self.bare_rate() {
            // Each calls for a patch, so creations and patches together are half of the bare writer's rate.
            let period = Duration::from_secs(10);
            samples.push(session.account_burst(namespaces, secret, rate / 4.0, period).await?);
        }
        if let Some(bare) = self.bare_writer() {
            let mut bare = self.open(bare).await?;
            samples.push(session.restart(&mut bare).await?);
        }
        samples.push(session.first_pods(Workload::FirstPods, self.parameters.namespaces / 20, secret).await?);
        samples.push(session.dropped_watches(self.parameters.drops).await?);
        session.remove_marker().await?;
        session.deletion(&all).await?;
        session.stop().await?;
        let Parameters { namespaces, quiet_accounts, tokens, steady, .. } = self.parameters;
        samples.extend(session.at_birth(namespaces / 20, secret, *quiet_accounts, &BIRTHS_BESIDE).await?);
        samples.extend(session.tokens(*tokens, SMALL[0], *steady).await?);
        Ok(samples)
    }

    async fn make_small_namespaces(&self) -> Result<()> {
        let missing = !self.cluster.observer.seen().has_account(SMALL[0], "default");
        if missing {
            let labels: Vec<[&str; 1]> = SMALL.iter().map(|name| [*name]).collect();
            let small =
                SMALL.iter().zip(&labels).map(|(name, labels)| ((*name).to_owned(), labels.as_slice()));
            let marker = (MARKER.0.to_owned(), &[MARKER.0] as &[&str]);
            self.cluster.make_namespaces(small.chain([marker]).collect()).await?;
        }
        Ok(())
    }

    /// Writes in a second of the fastest bare writer in W1, so far.
    fn bare_rate(&self) -> Option<f64> {
        let one_shot = |name: &str| self.subjects.iter().any(|s| s.is_one_shot() && s.name == name);
        let w1 = self.samples.iter().filter(|s| s.workload == Workload::Cold && one_shot(&s.subject));
        #[expect(clippy::cast_precision_loss)]
        w1.map(|sample| sample.least_writes as f64 / sample.seconds).max_by(f64::total_cmp)
    }

    /// W1 and memory at one size.
    async fn scale(&mut self, size: usize) -> Result<()> {
        let namespaces = self.grow(size).await?;
        let Some(subject) = self.main_subject() else { return Ok(()) };
        let [all, ..] = cold_tasks(&namespaces);
        let mut session = self.open(subject).await?;
        session.start(&[])?;
        session.ready().await?;
        let cold = Sample { workload: Workload::ColdAtScale, ..session.cold(&all).await? };
        session.deletion(&all).await?;
        session.stop().await?;
        self.keep(1, vec![cold]);
        Ok(())
    }

    /// Memory of a fresh process that has everything in sync, beside so many foreign Secrets.
    async fn foreign_secrets(&mut self, from: usize, to: usize) -> Result<()> {
        (self.say)(&format!("{to} foreign Secrets"));
        self.cluster.make_foreign_secrets(from..to).await?;
        let namespaces = self.cluster.grow(self.parameters.namespaces).await?;
        let Some(subject) = self.main_subject() else { return Ok(()) };
        let [_, few, _] = cold_tasks(&namespaces);
        let mut session = self.open(subject).await?;
        session.start(&[])?;
        session.ready().await?;
        session.cold(&few).await?;
        session.stop().await?;
        session.start(&[])?;
        session.ready().await?;
        let at_rest = usage::settled(session.process_id(), REST_DEADLINE).await?;
        session.deletion(&few).await?;
        session.stop().await?;
        let sample = Sample {
            resident: at_rest.resident,
            peak: at_rest.peak,
            namespaces: namespaces.len(),
            series: [(Series::ForeignSecrets, vec![count(to)])].into(),
            ..Sample::new(Workload::MemoryBesideForeignSecrets, &subject.name)
        };
        self.keep(1, vec![sample]);
        Ok(())
    }

    /// W10: more and more credentials in all namespaces, until a step fails; that is said and is no error.
    async fn ceiling(&mut self) -> Result<()> {
        let size = self.parameters.scale.iter().copied().fold(self.parameters.namespaces, usize::max);
        for credentials in &self.parameters.ceiling {
            match self.ceiling_step(size, *credentials).await {
                Ok(sample) => self.keep(1, vec![sample]),
                Err(error) => {
                    self.gaps.push(format!(
                        "W10 ended at {credentials} credentials in {size} namespaces: {error}"
                    ));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn ceiling_step(&self, size: usize, credentials: usize) -> Result<Sample> {
        let namespaces = self.grow(size).await?;
        let subject = self.main_subject().ok_or_else(|| {
            crate::Error::Rig(regcred_tests::Error::Unexpected("no subject watches".to_owned()))
        })?;
        let task = Task::cold(Workload::Ceiling, &namespaces, &secret_names()[..credentials], ALL);
        let mut session = self.open(subject).await?;
        session.start(&[])?;
        session.ready().await?;
        let mut sample = session.cold(&task).await?;
        sample.series.insert(Series::Copies, vec![count(self.cluster.count_copies().await?)]);
        session.deletion(&task).await?;
        session.stop().await?;
        Ok(sample)
    }
}

fn all_but_first() -> Vec<String> {
    secret_names().into_iter().skip(1).collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts of objects are far below 2^52")]
pub(crate) fn count(number: usize) -> f64 {
    number as f64
}

/// A sample in one line, for whoever waits.
fn line(sample: &Sample) -> String {
    let latency = median(sample.series(Series::AttachMilliseconds));
    let latency = latency.map_or(String::new(), |median| format!(", attach median {median:.1} ms"));
    format!(
        "  {:<22} {:>8.2} s, {} of {} writes, {} requests, {:.2} s CPU, {:.1} MiB{latency}",
        sample.workload,
        sample.seconds,
        sample.writes_in_namespaces(),
        sample.least_writes,
        sample.all_requests(),
        sample.cpu_seconds,
        count(usize::try_from(sample.resident / 1024).unwrap_or_default()) / 1024.0,
    )
}
