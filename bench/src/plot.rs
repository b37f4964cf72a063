//! The plots, as SVG: text that can be compared and committed.

use plotters::{
    chart::ChartContext,
    coord::{Shift, types::RangedCoordf64},
    prelude::*,
};

use crate::{
    goals::{Figures, float, mebibytes},
    record::{Run, SUBJECT, Sample, Series, Workload, median, quantile},
};

const SIZE: (u32, u32) = (760, 360);
const COLORS: [RGBColor; 4] =
    [RGBColor(37, 99, 235), RGBColor(217, 119, 6), RGBColor(5, 150, 105), RGBColor(147, 51, 234)];

/// Each plot and what it shows.
pub const TITLES: [(&str, &str); 5] = [
    ("time.svg", "Time against the fastest bare writer (W1, W2, W3)"),
    ("requests.svg", "Requests for each pair (W1, W2, W3)"),
    ("memory-namespaces.svg", "Resident memory by namespaces"),
    ("memory-foreign-secrets.svg", "Resident memory by foreign Secrets"),
    ("attach.svg", "ServiceAccount created → attached: share done by this time"),
];

/// What the bars show.
const COMPARED: [Workload; 3] = [Workload::Cold, Workload::ManyCredentials, Workload::Rotation];

type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Plane<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Names and lines of points.
type Lines = Vec<(String, Vec<(f64, f64)>)>;

/// Every plot: its file name, and its content. One that cannot be drawn is empty.
pub fn all(run: &Run) -> Vec<(&'static str, String)> {
    let figures = Figures::new(run, SUBJECT);
    let draw = |index: usize, body: &dyn Fn(&Area<'_>, &str) -> Drawn| {
        let (name, title) = TITLES[index];
        let mut svg = String::new();
        let outcome = {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            area.fill(&WHITE).and_then(|()| body(&area, title)).and_then(|()| area.present())
        };
        (name, outcome.map_or(String::new(), |()| svg))
    };
    let per_pair = |subject: &str, workload: Workload| {
        let all = figures.of(subject, workload).map(|s| float(s.all_requests()) / float(s.pairs));
        median(&all.collect::<Vec<_>>())
    };
    let slower =
        |subject: &str, workload: Workload| median(&figures.against_bare(subject, workload, |s| s.seconds));
    vec![
        draw(0, &|area, title| bars(area, title, &rows(run, &slower))),
        draw(1, &|area, title| bars(area, title, &rows(run, &per_pair))),
        draw(2, &|area, title| lines(area, title, "namespaces", "MiB", &by_namespaces(run))),
        draw(3, &|area, title| lines(area, title, "Secrets of 32 KiB", "MiB", &by_foreign_secrets(run))),
        draw(4, &|area, title| lines(area, title, "ms", "%", &attach(&figures))),
    ]
}

/// A row for each subject with its three figures.
fn rows(run: &Run, figure: &dyn Fn(&str, Workload) -> Option<f64>) -> Vec<(String, Vec<f64>)> {
    let mut rows: Vec<(String, Vec<f64>)> = Vec::new();
    for sample in run.samples.iter().filter(|sample| sample.workload == Workload::Cold) {
        if rows.iter().all(|(name, _)| *name != sample.subject) {
            let figures = COMPARED.map(|workload| figure(&sample.subject, workload).unwrap_or_default());
            rows.push((sample.subject.clone(), figures.to_vec()));
        }
    }
    rows
}

fn by_namespaces(run: &Run) -> Lines {
    let samples = run.samples.iter().filter(|s| s.subject == SUBJECT);
    let cold: Vec<&Sample> =
        samples.filter(|s| [Workload::Cold, Workload::ColdAtScale].contains(&s.workload)).collect();
    let line = |memory: fn(&Sample) -> u64| {
        let mut points: Vec<(f64, f64)> =
            cold.iter().map(|s| (float(s.namespaces), mebibytes(memory(s)))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    };
    vec![("resident".to_owned(), line(|s| s.resident)), ("peak".to_owned(), line(|s| s.peak))]
}

fn by_foreign_secrets(run: &Run) -> Lines {
    let samples = run.samples.iter().filter(|s| s.workload == Workload::MemoryBesideForeignSecrets);
    let points =
        samples.filter_map(|s| Some((*s.series(Series::ForeignSecrets).first()?, mebibytes(s.resident))));
    vec![("resident".to_owned(), points.collect())]
}

fn attach(figures: &Figures<'_>) -> Lines {
    let line = |workload, name| {
        let values = figures.series(workload, name);
        let steps = (0..=100_u32).map(|percent| f64::from(percent) / 100.0);
        steps.filter_map(|share| Some((quantile(&values, share)?, share * 100.0))).collect::<Vec<_>>()
    };
    vec![
        ("create and patch by hand".to_owned(), line(Workload::QuietAccounts, Series::BareMilliseconds)),
        ("quiet cluster".to_owned(), line(Workload::QuietAccounts, Series::AttachMilliseconds)),
        ("burst".to_owned(), line(Workload::AccountBurst, Series::AttachMilliseconds)),
    ]
}

fn bars(area: &Area<'_>, title: &str, rows: &[(String, Vec<f64>)]) -> Drawn {
    let most = rows.iter().flat_map(|(_, figures)| figures).copied().fold(1.0, f64::max);
    let count = float(rows.len());
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(130)
        .build_cartesian_2d(0.0..most * 1.1, count..0.0)?;
    let name = |y: &f64| {
        let row = rows.iter().enumerate().find(|(at, _)| (float(*at) + 0.5 - y).abs() < 0.01);
        row.map_or(String::new(), |(_, (name, _))| name.clone())
    };
    chart.configure_mesh().disable_y_mesh().y_labels(rows.len() * 2).y_label_formatter(&name).draw()?;
    for (at, workload) in COMPARED.into_iter().enumerate() {
        let color = COLORS[at];
        let bar = |(row, (_, figures)): (usize, &(String, Vec<f64>))| {
            let top = float(row) + 0.14 + 0.24 * float(at);
            Rectangle::new([(0.0, top), (figures[at], top + 0.22)], color.filled())
        };
        let drawn = chart.draw_series(rows.iter().enumerate().map(bar))?;
        drawn
            .label(workload.to_string())
            .legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 12, y + 4)], color.filled()));
    }
    legend(&mut chart)
}

fn lines(area: &Area<'_>, title: &str, x: &str, y: &str, lines: &Lines) -> Drawn {
    let most = |axis: fn(&(f64, f64)) -> f64| {
        lines.iter().flat_map(|(_, points)| points).map(axis).fold(1.0, f64::max) * 1.05
    };
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..most(|point| point.0), 0.0..most(|point| point.1))?;
    chart.configure_mesh().x_desc(x).y_desc(y).draw()?;
    for (at, (name, points)) in lines.iter().enumerate() {
        let color = COLORS[at % COLORS.len()];
        let drawn = chart
            .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)).point_size(2))?;
        drawn
            .label(name.as_str())
            .legend(move |(x, y)| Rectangle::new([(x, y - 1), (x + 12, y + 1)], color.filled()));
    }
    legend(&mut chart)
}

fn legend(chart: &mut Plane<'_>) -> Drawn {
    let mut labels = chart.configure_series_labels();
    labels
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE)
        .border_style(BLACK.mix(0.3))
        .draw()
}
