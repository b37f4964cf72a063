//! Each goal: what was measured, and whether that is good enough. Ratios are between subjects of the same round;
//! the figure is the median over the rounds, with the range where there are several.

use crate::record::{Run, Sample, Series, Workload, median, quantile};

const MIB: f64 = 1024.0 * 1024.0;

/// Whether a goal is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Better than asked for.
    Stretch,
    /// As asked for.
    Pass,
    /// Not reached.
    Missed,
    /// Not measured in this run, or not to be judged.
    Open,
}

/// A goal and whether it is reached.
#[derive(Debug, Clone)]
pub struct Goal {
    /// Such as `P1`.
    pub id: &'static str,
    /// What is measured.
    pub what: &'static str,
    /// What was measured.
    pub measured: String,
    /// What passes.
    pub pass: &'static str,
    /// What is better still.
    pub stretch: &'static str,
    /// Whether it is reached.
    pub verdict: Verdict,
}

/// The raw data, and who is compared with whom.
#[derive(Debug, Clone, Copy)]
pub struct Figures<'a> {
    run: &'a Run,
    subject: &'a str,
}

/// What was measured, in words, and figures with the limits for pass and stretch, judged together: a goal is as good
/// as its worst figure.
type Judged = Option<(String, Vec<[f64; 3]>)>;

/// A row of the table of goals.
struct Row {
    id: &'static str,
    what: &'static str,
    pass: &'static str,
    stretch: &'static str,
    judge: fn(&Figures<'_>) -> Judged,
}

/// Every goal, in the order of the page.
const GOALS: [Row; 16] = [
    Row {
        id: "P1",
        what: "writes / least writes, the worst of W1, W2, W3, W5, W6, W9",
        pass: "≤ 1.02",
        stretch: "1.00",
        judge: |figures| figures.least_writes(),
    },
    Row {
        id: "P2",
        what: "writes where nothing changed, lease apart",
        pass: "0",
        stretch: "0",
        judge: |figures| figures.idle_writes(),
    },
    Row {
        id: "P3",
        what: "requests for each pair, W1 / W2 / W3",
        pass: "≤ 2.05 / 1.07 / 1.03",
        stretch: "2.01 / 1.03 / 1.01",
        judge: |figures| figures.requests(),
    },
    Row {
        id: "P4",
        what: "time / fastest bare writer, W1 / W2 / W3",
        pass: "≤ 1.25",
        stretch: "≤ 1.10",
        judge: |figures| figures.against_bare_writer(),
    },
    Row {
        id: "P5",
        what: "time / best other operator, W1",
        pass: "≤ 0.3 as shipped",
        stretch: "≤ 0.2",
        judge: |figures| figures.against_others(),
    },
    Row {
        id: "P6",
        what: "ServiceAccount created → attached, quiet cluster, p99",
        pass: "≤ 4 × a bare create + patch",
        stretch: "≤ 2 ×",
        judge: |figures| figures.quiet_attach(),
    },
    Row {
        id: "P7",
        what: "the same in a burst; creations and patches at half the bare writer's rate",
        pass: "p99 ≤ 1 s",
        stretch: "≤ 300 ms",
        judge: |figures| figures.burst_attach(),
    },
    Row {
        id: "P8",
        what: "a small credential beside W1 of a large one, applied → in place, p99",
        pass: "≤ 1 s",
        stretch: "200 ms",
        judge: |figures| figures.small_beside_large(),
    },
    Row {
        id: "P9",
        what: "resident memory at 1,000 / 10,000 namespaces / 50,000 pairs",
        pass: "≤ 24 / 40 / 64 MiB, peak ≤ 1.5 ×",
        stretch: "half",
        judge: |figures| figures.memory(),
    },
    Row {
        id: "P10",
        what: "memory added by 30,000 foreign Secrets of 32 KiB",
        pass: "≤ 2 MiB",
        stretch: "0",
        judge: |figures| figures.foreign_memory(),
    },
    Row {
        id: "P11",
        what: "processor: steady; cold",
        pass: "≤ 2 mcore; ≤ 1.5 × the bare writer",
        stretch: "0.5; 1.2 ×",
        judge: |figures| figures.processor(),
    },
    Row {
        id: "P12",
        what: "ready after a restart / a bare list of the same data",
        pass: "≤ 1.3",
        stretch: "1.1",
        judge: |figures| figures.restart(),
    },
    Row {
        id: "P13",
        what: "another writer's p99 during W1",
        pass: "≤ 2 × its baseline, no 429",
        stretch: "1.2 ×",
        judge: |figures| figures.harm(),
    },
    Row {
        id: "P14",
        what: "T(10 N) / T(N) in W1",
        pass: "≤ 11",
        stretch: "≤ 10.3",
        judge: |figures| figures.scaling(),
    },
    Row {
        id: "P15",
        what: "first Pods that carry the name, with / without the admission policy",
        pass: "100 % / reported",
        stretch: "",
        judge: |figures| figures.first_pods(),
    },
    Row {
        id: "P16",
        what: "many credentials of one identity: tokens of the issuer / of the ServiceAccount / requests at rest",
        pass: "1 / 1 / 0",
        stretch: "1 / 1 / 0",
        judge: |figures| figures.tokens(),
    },
];

/// Every goal, for the subject of this name.
pub fn all(run: &Run, subject: &str) -> Vec<Goal> {
    let figures = Figures { run, subject };
    GOALS.iter().map(|row| row.against(&figures)).collect()
}

impl Row {
    fn against(&self, figures: &Figures<'_>) -> Goal {
        let Self { id, what, pass, stretch, judge } = *self;
        let (measured, figures) = judge(figures).unwrap_or(("not measured".to_owned(), Vec::new()));
        let within = |limit: usize| figures.iter().all(|figure| figure[0] <= figure[limit]);
        let verdict = match figures.as_slice() {
            [] => Verdict::Open,
            _ if within(2) => Verdict::Stretch,
            _ if within(1) => Verdict::Pass,
            _ => Verdict::Missed,
        };
        Goal { id, what, measured, pass, stretch, verdict }
    }
}

impl<'a> Figures<'a> {
    /// The raw data, for the subject of this name.
    pub fn new(run: &'a Run, subject: &'a str) -> Self {
        Self { run, subject }
    }

    /// The samples of a subject in a workload.
    pub fn of(&self, subject: &'a str, workload: Workload) -> impl Iterator<Item = &'a Sample> + use<'a> {
        self.run.samples.iter().filter(move |s| s.subject == subject && s.workload == workload)
    }

    fn own(&self, workload: Workload) -> impl Iterator<Item = &'a Sample> + use<'a> {
        self.of(self.subject, workload)
    }

    /// The bare writer's fastest time in a workload, in one round.
    fn best_bare(&self, workload: Workload, round: usize) -> Option<&'a Sample> {
        let bare = self.run.samples.iter().filter(|sample| sample.subject.starts_with("bare-"));
        let there = bare.filter(|sample| sample.workload == workload && sample.round == round);
        there.min_by(|a, b| a.seconds.total_cmp(&b.seconds))
    }

    /// A figure of each sample divided by that of the fastest bare writer of its round.
    pub fn against_bare(&self, subject: &'a str, workload: Workload, figure: fn(&Sample) -> f64) -> Vec<f64> {
        self.of(subject, workload)
            .filter_map(|sample| Some(figure(sample) / figure(self.best_bare(workload, sample.round)?)))
            .collect()
    }

    /// The time of each round divided by that of the applier: what is left of the distance to the bare writer without
    /// the API server's work for server-side apply. The median.
    fn against_applier(&self, workload: Workload) -> Option<f64> {
        let applier = |round| {
            let all = self.run.samples.iter().filter(|s| s.subject.starts_with("applier-"));
            all.filter(|s| s.workload == workload && s.round == round)
                .map(|s| s.seconds)
                .min_by(f64::total_cmp)
        };
        let ratios = self.own(workload).filter_map(|s| Some(s.seconds / applier(s.round)?));
        median(&ratios.collect::<Vec<_>>())
    }

    /// All values of a series, over the rounds.
    pub fn series(&self, workload: Workload, series: Series) -> Vec<f64> {
        self.own(workload).flat_map(|sample| sample.series(series).to_vec()).collect()
    }

    fn least_writes(&self) -> Judged {
        let workloads = [
            Workload::Cold,
            Workload::ManyCredentials,
            Workload::Rotation,
            Workload::NewNamespaces,
            Workload::AccountBurst,
            Workload::Deletion,
        ];
        let worst = |figure: fn(&Sample) -> f64| {
            let all = workloads.iter().flat_map(|workload| self.own(*workload)).map(figure);
            all.filter(|figure| figure.is_finite()).max_by(f64::total_cmp)
        };
        worst(|s| ratio(s.writes_in_namespaces(), s.least_writes)).map(|strict| {
            let everything =
                worst(|s| ratio(s.writes_in_namespaces() + s.other_writes(), s.least_writes)).unwrap_or(strict);
            let text = format!(
                "{strict:.3} of Secrets and ServiceAccounts; {everything:.3} with finalizer, status and events"
            );
            (text, vec![[strict, 1.02, 1.0], [everything, 1.02, 1.02]])
        })
    }

    fn idle_writes(&self) -> Judged {
        let figures: Vec<(Workload, f64)> = [Workload::Steady, Workload::Restart, Workload::DroppedWatches]
            .into_iter()
            .filter_map(|workload| {
                let writes = self.own(workload).map(|s| float(s.writes_in_namespaces() + s.other_writes()));
                Some((workload, writes.max_by(f64::total_cmp)?))
            })
            .collect();
        let text = figures.iter().map(|(workload, writes)| format!("{workload} {writes:.0}"));
        let text = text.collect::<Vec<_>>().join(", ");
        (!figures.is_empty()).then(|| (text, figures.iter().map(|f| [f.1, 0.0, 0.0]).collect()))
    }

    fn requests(&self) -> Judged {
        let per_pair = |workload| {
            let all = self.own(workload).map(|s| ratio(s.all_requests(), s.pairs));
            all.max_by(f64::total_cmp)
        };
        three(per_pair, [[2.05, 2.01], [1.07, 1.03], [1.03, 1.01]], 3)
    }

    fn against_bare_writer(&self) -> Judged {
        let slower = |workload| median(&self.against_bare(self.subject, workload, |s| s.seconds));
        let applier = three(|workload| self.against_applier(workload), [[1.0; 2]; 3], 2);
        let applier = applier.map_or(String::new(), |(text, _)| format!("; / the applier {text}"));
        three(slower, [[1.25, 1.1]; 3], 2).map(|(text, figures)| (format!("{text}{applier}"), figures))
    }

    /// Another operator is a subject that is neither ours nor a bare writer; as its file has it, so as shipped.
    fn against_others(&self) -> Judged {
        let time = |subject: &str| {
            let there =
                self.run.samples.iter().filter(|s| s.subject == subject && s.workload == Workload::Cold);
            median(&there.map(|sample| sample.seconds).collect::<Vec<_>>())
        };
        let others = self.run.samples.iter().map(|sample| sample.subject.as_str());
        let others =
            others.filter(|name| ["regcred", "bare-", "applier-"].iter().all(|own| !name.starts_with(own)));
        let best = others.filter_map(time).min_by(f64::total_cmp);
        time(self.subject)
            .zip(best)
            .map(|(own, other)| (format!("{:.2}", own / other), vec![[own / other, 0.3, 0.2]]))
    }

    fn quiet_attach(&self) -> Judged {
        let p99 = |name| quantile(&self.series(Workload::QuietAccounts, name), 0.99);
        p99(Series::AttachMilliseconds).zip(p99(Series::BareMilliseconds)).map(|(attach, bare)| {
            let text =
                format!("{:.2} × ({attach:.1} ms; create and patch by hand {bare:.1} ms)", attach / bare);
            (text, vec![[attach / bare, 4.0, 2.0]])
        })
    }

    fn burst_attach(&self) -> Judged {
        let rate = median(&self.series(Workload::AccountBurst, Series::RatePerSecond));
        quantile(&self.series(Workload::AccountBurst, Series::AttachMilliseconds), 0.99).zip(rate).map(
            |(p99, rate)| {
                (format!("{p99:.0} ms, at {rate:.0} new ServiceAccounts/s"), vec![[p99, 1000.0, 300.0]])
            },
        )
    }

    fn small_beside_large(&self) -> Judged {
        let waits = self.series(Workload::ColdBesideSmallOnes, Series::SmallCredentialMilliseconds);
        quantile(&waits, 0.99)
            .map(|p99| (format!("{p99:.0} ms of {} waits", waits.len()), vec![[p99, 1000.0, 200.0]]))
    }

    fn memory(&self) -> Judged {
        let at = |workload, namespaces, credentials, limit: f64| {
            let mut all = self.own(workload);
            let sample = all.find(|s| s.namespaces == namespaces && s.credentials == credentials)?;
            let (resident, peak) = (mebibytes(sample.resident), mebibytes(sample.peak));
            let text = format!("{resident:.0} MiB (peak {peak:.0})");
            Some((text, [[resident, limit, limit / 2.0], [peak, limit * 1.5, limit * 1.5]]))
        };
        let figures = [
            at(Workload::ColdAtScale, 1000, 1, 24.0),
            at(Workload::ColdAtScale, 10_000, 1, 40.0),
            at(Workload::Ceiling, 10_000, 5, 64.0),
        ];
        let text = figures.iter().map(|f| f.as_ref().map_or("not measured", |f| f.0.as_str()));
        let text = text.collect::<Vec<_>>().join(" / ");
        let limits: Vec<[f64; 3]> = figures.iter().flatten().flat_map(|figure| figure.1).collect();
        (!limits.is_empty()).then_some((text, limits))
    }

    fn foreign_memory(&self) -> Judged {
        let all: Vec<&Sample> = self.own(Workload::MemoryBesideForeignSecrets).collect();
        let number =
            |sample: &Sample| sample.series(Series::ForeignSecrets).first().copied().unwrap_or_default();
        all.first().zip(all.last()).map(|(first, last)| {
            let added = mebibytes(last.resident) - mebibytes(first.resident);
            (format!("{added:+.1} MiB by {:.0}", number(last)), vec![[added, 2.0, 0.0]])
        })
    }

    fn processor(&self) -> Judged {
        let steady: Vec<f64> =
            self.own(Workload::Steady).map(|s| s.cpu_seconds / s.seconds * 1000.0).collect();
        let cold = self.against_bare(self.subject, Workload::Cold, |s| s.cpu_seconds);
        median(&steady).zip(median(&cold)).map(|(steady, cold)| {
            let text = format!("{steady:.1} mcore; {cold:.2} × the bare writer");
            (text, vec![[steady, 2.0, 0.5], [cold, 1.5, 1.2]])
        })
    }

    fn restart(&self) -> Judged {
        let ratios: Vec<f64> = self
            .own(Workload::Restart)
            .filter_map(|s| Some(s.seconds / s.series(Series::BareListSeconds).first()?))
            .collect();
        median(&ratios).map(|ratio| (format!("{ratio:.2} ×"), vec![[ratio, 1.3, 1.1]]))
    }

    fn harm(&self) -> Judged {
        let workload = Workload::ColdBesideAWriter;
        let p99 = |name| quantile(&self.series(workload, name), 0.99);
        let throttled: usize = self.own(workload).map(|sample| sample.throttled).sum();
        let pair = p99(Series::ForeignWriteMilliseconds).zip(p99(Series::ForeignBaselineMilliseconds));
        pair.map(|(during, before)| {
            let ratio = during / before;
            let bare =
                self.harm_of_bare().map_or(String::new(), |bare| format!("; the bare writer {bare:.1} ×"));
            let text =
                format!("{ratio:.1} × ({during:.0} ms; before {before:.0} ms), {throttled} × 429{bare}");
            (text, vec![[ratio, 2.0, 1.2], [float(throttled), 0.0, 0.0]])
        })
    }

    /// What the bare writer does to another writer's p99.
    fn harm_of_bare(&self) -> Option<f64> {
        let bare = self.run.samples.iter().filter(|s| s.subject.starts_with("bare-"));
        let bare: Vec<&Sample> = bare.filter(|s| s.workload == Workload::ColdBesideAWriter).collect();
        let p99 = |name| {
            let values = bare.iter().flat_map(|sample| sample.series(name).to_vec());
            quantile(&values.collect::<Vec<_>>(), 0.99)
        };
        Some(p99(Series::ForeignWriteMilliseconds)? / p99(Series::ForeignBaselineMilliseconds)?)
    }

    fn scaling(&self) -> Judged {
        let at = |namespaces| {
            self.own(Workload::ColdAtScale).find(|s| s.namespaces == namespaces).map(|s| s.seconds)
        };
        let scale = at(10_000).zip(at(1000)).map(|(large, small)| large / small);
        let of = |workload| median(&self.own(workload).map(|s| s.seconds).collect::<Vec<_>>());
        let rounds =
            || of(Workload::Cold).zip(of(Workload::ColdOnATenth)).map(|(large, small)| large / small);
        scale.or_else(rounds).map(|ratio| (format!("{ratio:.1}"), vec![[ratio, 11.0, 10.3]]))
    }

    /// A token lives much longer than this takes, so there is one of each.
    fn tokens(&self) -> Judged {
        let sample = self.own(Workload::Tokens).next()?;
        let figure = |series| sample.series(series).first().copied();
        let (mints, asked) = (figure(Series::Mints)?, figure(Series::TokenRequests)?);
        let at_rest = figure(Series::RequestsAtRest)?;
        let text = format!("{mints:.0} / {asked:.0} / {at_rest:.0}, {} credentials", sample.credentials);
        Some((text, vec![[mints, 1.0, 1.0], [asked, 1.0, 1.0], [at_rest, 0.0, 0.0]]))
    }

    /// There is nothing better than all Pods.
    fn first_pods(&self) -> Judged {
        let share = |workload| {
            let carries = self.series(workload, Series::CarriesTheName);
            let share = carries.iter().sum::<f64>() / float(carries.len()) * 100.0;
            (!carries.is_empty()).then_some(share)
        };
        let (with, without) = (share(Workload::FirstPodsWithPolicy), share(Workload::FirstPods));
        with.or(without)?;
        let shown =
            |share: Option<f64>| share.map_or("not measured".to_owned(), |share| format!("{share:.0} %"));
        let missing = with.map(|share| [100.0 - share, 0.0, f64::NEG_INFINITY]);
        Some((format!("{} / {}", shown(with), shown(without)), missing.into_iter().collect()))
    }
}

fn three(figure: impl Fn(Workload) -> Option<f64>, limits: [[f64; 2]; 3], digits: usize) -> Judged {
    let figures = [Workload::Cold, Workload::ManyCredentials, Workload::Rotation].map(figure);
    let text = figures.map(|f| f.map_or("not measured".to_owned(), |f| format!("{f:.digits$}"))).join(" / ");
    let all =
        figures.iter().zip(limits).filter_map(|(figure, [pass, stretch])| Some([(*figure)?, pass, stretch]));
    let all: Vec<[f64; 3]> = all.collect();
    (!all.is_empty()).then_some((text, all))
}

fn ratio(part: usize, whole: usize) -> f64 {
    float(part) / float(whole)
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(crate) fn float(number: usize) -> f64 {
    number as f64
}

/// Bytes as MiB.
#[expect(clippy::cast_precision_loss, reason = "memory is far below 2^52 bytes")]
pub(crate) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / MIB
}
