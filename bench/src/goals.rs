//! Each goal: what was measured, and whether that is good enough. Ratios are between subjects of the same round;
//! the figure is the median over the rounds, with the range where there are several.

use crate::record::{Run, Sample, median, quantile};

const MIB: f64 = 1024.0 * 1024.0;

/// How a goal stands.
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

/// A goal and how it stands.
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
    /// How it stands.
    pub verdict: Verdict,
}

/// The raw data, and who is compared with whom.
#[derive(Debug, Clone, Copy)]
pub struct Figures<'a> {
    run: &'a Run,
    subject: &'a str,
}

/// Every goal, for the subject of this name.
pub fn all(run: &Run, subject: &str) -> Vec<Goal> {
    let figures = Figures { run, subject };
    vec![
        figures.p1(),
        figures.p2(),
        figures.p3(),
        figures.p4(),
        figures.p5(),
        figures.p6(),
        figures.p7(),
        figures.p8(),
        figures.p9(),
        figures.p10(),
        figures.p11(),
        figures.p12(),
        figures.p13(),
        figures.p14(),
        figures.p15(),
    ]
}

/// Figures with the limits they must keep, to be judged together: a goal is as good as its worst figure.
type Judged = Option<(String, Vec<[f64; 3]>)>;

fn goal(
    id: &'static str,
    what: &'static str,
    pass: &'static str,
    stretch: &'static str,
    judged: Judged,
) -> Goal {
    let (measured, figures) = judged.unwrap_or(("not measured".to_owned(), Vec::new()));
    let within = |limit: usize| figures.iter().all(|figure| figure[0] <= figure[limit]);
    let verdict = match figures.as_slice() {
        [] => Verdict::Open,
        _ if within(2) => Verdict::Stretch,
        _ if within(1) => Verdict::Pass,
        _ => Verdict::Missed,
    };
    Goal { id, what, measured, pass, stretch, verdict }
}

impl<'a> Figures<'a> {
    /// The raw data, for the subject of this name.
    pub fn new(run: &'a Run, subject: &'a str) -> Self {
        Self { run, subject }
    }

    /// The samples of a subject in a workload.
    pub fn of(&self, subject: &'a str, workload: &'a str) -> impl Iterator<Item = &'a Sample> + use<'a> {
        self.run.samples.iter().filter(move |s| s.subject == subject && s.workload == workload)
    }

    fn own(&self, workload: &'a str) -> impl Iterator<Item = &'a Sample> + use<'a> {
        self.of(self.subject, workload)
    }

    /// The bare writer's fastest time in a workload, in one round.
    pub fn best_bare(&self, workload: &str, round: usize) -> Option<&'a Sample> {
        let bare = self.run.samples.iter().filter(|sample| sample.subject.starts_with("bare-"));
        let there = bare.filter(|sample| sample.workload == workload && sample.round == round);
        there.min_by(|a, b| a.seconds.total_cmp(&b.seconds))
    }

    /// A figure of each sample divided by that of the fastest bare writer of its round.
    pub fn against_bare(&self, subject: &'a str, workload: &'a str, figure: fn(&Sample) -> f64) -> Vec<f64> {
        self.of(subject, workload)
            .filter_map(|sample| Some(figure(sample) / figure(self.best_bare(workload, sample.round)?)))
            .collect()
    }

    /// The time of each round divided by that of the applier: what is left of the distance to the bare writer without
    /// the API server's work for server-side apply. The median.
    fn against_applier(&self, workload: &'a str) -> Option<f64> {
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
    pub fn series(&self, workload: &'a str, name: &str) -> Vec<f64> {
        self.own(workload).flat_map(|sample| sample.series(name).to_vec()).collect()
    }

    fn p1(&self) -> Goal {
        let workloads = ["W1", "W2", "W3", "W5", "W6", "W9"];
        let worst = |figure: fn(&Sample) -> f64| {
            let all = workloads.iter().flat_map(|workload| self.own(workload)).map(figure);
            all.filter(|figure| figure.is_finite()).max_by(f64::total_cmp)
        };
        let judged = worst(|s| ratio(s.writes_in_namespaces(), s.least_writes)).map(|strict| {
            let everything =
                worst(|s| ratio(s.writes_in_namespaces() + s.other_writes(), s.least_writes)).unwrap_or(strict);
            let text = format!(
                "{strict:.3} of Secrets and ServiceAccounts; {everything:.3} with finalizer, status and events"
            );
            (text, vec![[strict, 1.02, 1.0], [everything, 1.02, 1.02]])
        });
        goal("P1", "writes / least writes, the worst of W1, W2, W3, W5, W6, W9", "≤ 1.02", "1.00", judged)
    }

    fn p2(&self) -> Goal {
        let figures: Vec<(&str, f64)> = ["W4", "W7", "W8"]
            .into_iter()
            .filter_map(|workload| {
                let writes = self.own(workload).map(|s| float(s.writes_in_namespaces() + s.other_writes()));
                Some((workload, writes.max_by(f64::total_cmp)?))
            })
            .collect();
        let text = figures.iter().map(|(workload, writes)| format!("{workload} {writes:.0}"));
        let text = text.collect::<Vec<_>>().join(", ");
        let judged = (!figures.is_empty()).then(|| (text, figures.iter().map(|f| [f.1, 0.0, 0.0]).collect()));
        goal("P2", "writes where nothing changed, lease apart", "0", "0", judged)
    }

    fn p3(&self) -> Goal {
        let per_pair = |workload| {
            let all = self.own(workload).map(|s| ratio(s.all_requests(), s.pairs));
            all.max_by(f64::total_cmp)
        };
        let judged = three(per_pair, [[2.05, 2.01], [1.07, 1.03], [1.03, 1.01]], 3);
        let pass = "≤ 2.05 / 1.07 / 1.03";
        goal("P3", "requests for each pair, W1 / W2 / W3", pass, "2.01 / 1.03 / 1.01", judged)
    }

    fn p4(&self) -> Goal {
        let slower = |workload| median(&self.against_bare(self.subject, workload, |s| s.seconds));
        let applier = three(|workload| self.against_applier(workload), [[1.0; 2]; 3], 2);
        let applier = applier.map_or(String::new(), |(text, _)| format!("; / the applier {text}"));
        let judged =
            three(slower, [[1.25, 1.1]; 3], 2).map(|(text, figures)| (format!("{text}{applier}"), figures));
        goal("P4", "time / fastest bare writer, W1 / W2 / W3", "≤ 1.25", "≤ 1.10", judged)
    }

    /// Another operator is a subject that is neither ours nor a bare writer; as its file has it, so as shipped.
    fn p5(&self) -> Goal {
        let time = |subject: &str| {
            let there = self.run.samples.iter().filter(|s| s.subject == subject && s.workload == "W1");
            median(&there.map(|sample| sample.seconds).collect::<Vec<_>>())
        };
        let others = self.run.samples.iter().map(|sample| sample.subject.as_str());
        let others =
            others.filter(|name| ["regcred", "bare-", "applier-"].iter().all(|own| !name.starts_with(own)));
        let best = others.filter_map(time).min_by(f64::total_cmp);
        let judged = time(self.subject)
            .zip(best)
            .map(|(own, other)| (format!("{:.2}", own / other), vec![[own / other, 0.3, 0.2]]));
        goal("P5", "time / best other operator, W1", "≤ 0.3 as shipped", "≤ 0.2", judged)
    }

    fn p6(&self) -> Goal {
        let p99 = |name| quantile(&self.series("W6 quiet", name), 0.99);
        let judged = p99("attachMilliseconds").zip(p99("bareMilliseconds")).map(|(attach, bare)| {
            let text =
                format!("{:.2} × ({attach:.1} ms; create and patch by hand {bare:.1} ms)", attach / bare);
            (text, vec![[attach / bare, 4.0, 2.0]])
        });
        let what = "ServiceAccount created → attached, quiet cluster, p99";
        goal("P6", what, "≤ 4 × a bare create + patch", "≤ 2 ×", judged)
    }

    fn p7(&self) -> Goal {
        let rate = median(&self.series("W6", "ratePerSecond"));
        let judged = quantile(&self.series("W6", "attachMilliseconds"), 0.99).zip(rate).map(|(p99, rate)| {
            (format!("{p99:.0} ms, at {rate:.0} new ServiceAccounts/s"), vec![[p99, 1000.0, 300.0]])
        });
        goal(
            "P7",
            "the same in a burst; creations and patches at half the bare writer's rate",
            "p99 ≤ 1 s",
            "≤ 300 ms",
            judged,
        )
    }

    fn p8(&self) -> Goal {
        let waits = self.series("W1 beside small ones", "smallCredentialMilliseconds");
        let judged = quantile(&waits, 0.99)
            .map(|p99| (format!("{p99:.0} ms of {} waits", waits.len()), vec![[p99, 1000.0, 200.0]]));
        let what = "a small credential beside W1 of a large one, applied → in place, p99";
        goal("P8", what, "≤ 1 s", "200 ms", judged)
    }

    fn p9(&self) -> Goal {
        let at = |workload: &'a str, namespaces, credentials, limit: f64| {
            let mut all = self.own(workload);
            let sample = all.find(|s| s.namespaces == namespaces && s.credentials == credentials)?;
            let (resident, peak) = (mebibytes(sample.resident), mebibytes(sample.peak));
            let text = format!("{resident:.0} MiB (peak {peak:.0})");
            Some((text, [[resident, limit, limit / 2.0], [peak, limit * 1.5, limit * 1.5]]))
        };
        let figures = [
            at("W1 at scale", 1000, 1, 24.0),
            at("W1 at scale", 10_000, 1, 40.0),
            at("W10", 10_000, 5, 64.0),
        ];
        let text = figures.iter().map(|f| f.as_ref().map_or("not measured", |f| f.0.as_str()));
        let text = text.collect::<Vec<_>>().join(" / ");
        let limits: Vec<[f64; 3]> = figures.iter().flatten().flat_map(|figure| figure.1).collect();
        let judged = (!limits.is_empty()).then_some((text, limits));
        let what = "resident memory at 1,000 / 10,000 namespaces / 50,000 pairs";
        goal("P9", what, "≤ 24 / 40 / 64 MiB, peak ≤ 1.5 ×", "half", judged)
    }

    fn p10(&self) -> Goal {
        let all: Vec<&Sample> = self.own("memory beside foreign Secrets").collect();
        let number = |sample: &Sample| sample.series("foreignSecrets").first().copied().unwrap_or_default();
        let judged = all.first().zip(all.last()).map(|(first, last)| {
            let added = mebibytes(last.resident) - mebibytes(first.resident);
            (format!("{added:+.1} MiB by {:.0}", number(last)), vec![[added, 2.0, 0.0]])
        });
        goal("P10", "memory added by 30,000 foreign Secrets of 32 KiB", "≤ 2 MiB", "0", judged)
    }

    fn p11(&self) -> Goal {
        let steady: Vec<f64> = self.own("W4").map(|s| s.cpu_seconds / s.seconds * 1000.0).collect();
        let cold = self.against_bare(self.subject, "W1", |s| s.cpu_seconds);
        let judged = median(&steady).zip(median(&cold)).map(|(steady, cold)| {
            let text = format!("{steady:.1} mcore; {cold:.2} × the bare writer");
            (text, vec![[steady, 2.0, 0.5], [cold, 1.5, 1.2]])
        });
        goal("P11", "processor: steady; cold", "≤ 2 mcore; ≤ 1.5 × the bare writer", "0.5; 1.2 ×", judged)
    }

    fn p12(&self) -> Goal {
        let ratios: Vec<f64> =
            self.own("W7").filter_map(|s| Some(s.seconds / s.series("bareListSeconds").first()?)).collect();
        let judged = median(&ratios).map(|ratio| (format!("{ratio:.2} ×"), vec![[ratio, 1.3, 1.1]]));
        goal("P12", "ready after a restart / a bare list of the same data", "≤ 1.3", "1.1", judged)
    }

    fn p13(&self) -> Goal {
        let workload = "W1 beside a writer";
        let p99 = |name| quantile(&self.series(workload, name), 0.99);
        let throttled: usize = self.own(workload).map(|sample| sample.throttled).sum();
        let pair = p99("foreignWriteMilliseconds").zip(p99("foreignBaselineMilliseconds"));
        let judged = pair.map(|(during, before)| {
            let ratio = during / before;
            let bare =
                self.harm_of_bare().map_or(String::new(), |bare| format!("; the bare writer {bare:.1} ×"));
            let text =
                format!("{ratio:.1} × ({during:.0} ms; before {before:.0} ms), {throttled} × 429{bare}");
            (text, vec![[ratio, 2.0, 1.2], [float(throttled), 0.0, 0.0]])
        });
        goal("P13", "another writer's p99 during W1", "≤ 2 × its baseline, no 429", "1.2 ×", judged)
    }

    /// What the bare writer does to another writer's p99.
    fn harm_of_bare(&self) -> Option<f64> {
        let bare = self.run.samples.iter().filter(|s| s.subject.starts_with("bare-"));
        let bare: Vec<&Sample> = bare.filter(|s| s.workload == "W1 beside a writer").collect();
        let p99 = |name| {
            let values = bare.iter().flat_map(|sample| sample.series(name).to_vec());
            quantile(&values.collect::<Vec<_>>(), 0.99)
        };
        Some(p99("foreignWriteMilliseconds")? / p99("foreignBaselineMilliseconds")?)
    }

    fn p14(&self) -> Goal {
        let at = |namespaces| self.own("W1 at scale").find(|s| s.namespaces == namespaces).map(|s| s.seconds);
        let scale = at(10_000).zip(at(1000)).map(|(large, small)| large / small);
        let of = |workload| median(&self.own(workload).map(|s| s.seconds).collect::<Vec<_>>());
        let rounds = || of("W1").zip(of("W1 on a tenth")).map(|(large, small)| large / small);
        let judged = scale.or_else(rounds).map(|ratio| (format!("{ratio:.1}"), vec![[ratio, 11.0, 10.3]]));
        goal("P14", "T(10 N) / T(N) in W1", "≤ 11", "≤ 10.3", judged)
    }

    fn p15(&self) -> Goal {
        let share = |workload| {
            let carries = self.series(workload, "carriesTheName");
            let share = carries.iter().sum::<f64>() / float(carries.len()) * 100.0;
            (!carries.is_empty()).then_some(share)
        };
        let (with, without) = (share("W11 with the policy"), share("W11"));
        let told =
            |share: Option<f64>| share.map_or("not measured".to_owned(), |share| format!("{share:.0} %"));
        let measured = format!("{} / {}", told(with), told(without));
        let what = "first Pods that carry the name, with / without the admission policy";
        let reached =
            with.map_or(Verdict::Open, |share| if share >= 100.0 { Verdict::Pass } else { Verdict::Missed });
        Goal { measured, verdict: reached, ..goal("P15", what, "100 % / reported", "", None) }
    }
}

fn three(figure: impl Fn(&'static str) -> Option<f64>, limits: [[f64; 2]; 3], digits: usize) -> Judged {
    let figures = ["W1", "W2", "W3"].map(figure);
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
