//! How a report is shown: as text in at most 120 columns, as JSON or YAML with a kind of its own, or as names.

use std::ffi::OsStr;
use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;
use serde_json::{Value, json};

use crate::args::{Format, Global};
use crate::text::cut;

/// The widest line of a table.
const WIDTH: usize = 120;
/// What the last column, which says why, keeps of a line where all others are wide.
const LAST: usize = 30;
/// No column gives way further than to this.
const NARROWEST: usize = 8;
/// What is between two columns.
const GAP: &str = "  ";
/// The API version of every report.
const API_VERSION: &str = "cli.regcred.dev/v1alpha1";

/// A report, in each form that it may be asked for in.
pub(crate) trait Report: Serialize {
    /// As in `kind: AuditReport`.
    const KIND: &'static str;

    /// For people.
    fn text(&self, style: Style) -> String;

    /// What `-o name` prints.
    fn names(&self) -> Vec<String>;
}

/// How text is to look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub(crate) colour: bool,
    pub(crate) headers: bool,
    /// Nothing is cut.
    pub(crate) wide: bool,
}

/// A colour of a terminal.
#[derive(Clone, Copy)]
pub(crate) enum Colour {
    Red,
    Yellow,
    Green,
}

impl Style {
    /// By the flags, the terminal and `NO_COLOR`.
    pub(crate) fn new(global: &Global) -> Self {
        let variable = std::env::var_os("NO_COLOR");
        Self {
            colour: has_colour(global.no_color, variable.as_deref(), io::stdout().is_terminal()),
            headers: !global.no_headers,
            wide: global.output == Format::Wide,
        }
    }

    /// A word in a colour, where there are any.
    pub(crate) fn paint(self, colour: Colour, word: &str) -> String {
        let code = match colour {
            Colour::Red => 31,
            Colour::Yellow => 33,
            Colour::Green => 32,
        };
        if self.colour { format!("\u{1b}[{code}m{word}\u{1b}[0m") } else { word.to_owned() }
    }
}

/// Whether there are colours: by the flag, the variable `NO_COLOR` (no-color.org: set, and not empty) and the terminal.
fn has_colour(is_refused: bool, no_color: Option<&OsStr>, is_terminal: bool) -> bool {
    is_terminal && !is_refused && no_color.is_none_or(OsStr::is_empty)
}

/// Prints a report as it was asked for.
pub(crate) fn show<R: Report>(report: &R, global: &Global) -> io::Result<()> {
    let text = match global.output {
        Format::Table | Format::Wide => report.text(Style::new(global)),
        Format::Name => report.names().into_iter().map(|name| name + "\n").collect(),
        Format::Json => serde_json::to_string_pretty(&enveloped(report)?)? + "\n",
        Format::Yaml => serde_saphyr::to_string(&enveloped(report)?).map_err(io::Error::other)?,
    };
    write(&text)
}

/// Writes to standard output. Whoever reads no further, as `head` does, has seen enough.
pub(crate) fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

fn enveloped<R: Report>(report: &R) -> io::Result<Value> {
    let mut value = json!({"apiVersion": API_VERSION, "kind": R::KIND});
    if let (Value::Object(whole), Value::Object(report)) = (&mut value, serde_json::to_value(report)?) {
        whole.extend(report);
    }
    Ok(value)
}

/// Columns that are as wide as their widest cell, and no wider than their limit. The last one takes what is left of the line; where
/// that is too little, the widest ones give way.
pub(crate) struct Table {
    header: Vec<&'static str>,
    limits: Vec<usize>,
    rows: Vec<Vec<String>>,
    indent: usize,
    whole: Option<usize>,
}

impl Table {
    /// A table with these columns, each with the most that it may take.
    pub(crate) fn new(columns: &[(&'static str, usize)]) -> Self {
        let (header, limits) = columns.iter().copied().unzip();
        Self { header, limits, rows: Vec::new(), indent: 0, whole: None }
    }

    /// A table before whose lines so many characters are written.
    pub(crate) fn indented(self, indent: usize) -> Self {
        Self { indent, ..self }
    }

    /// A table in which this column gives nothing way.
    pub(crate) fn keeping(self, column: usize) -> Self {
        Self { whole: Some(column), ..self }
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.rows.push(cells.iter().map(|cell| (*cell).to_owned()).collect());
    }

    /// The lines. `paint` may colour the first cell of each.
    pub(crate) fn text(&self, style: Style, paint: impl Fn(&str) -> Option<Colour>) -> String {
        let widths = self.widths(style);
        let header = self.header.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let header = (style.headers && !self.rows.is_empty()).then_some(&header);
        let line = |row: &Vec<String>| {
            let line = line(row, &widths, style.wide);
            match row.first().and_then(|first| Some((first, paint(first)?))) {
                Some((first, colour)) => line.replacen(&**first, &style.paint(colour, first), 1) + "\n",
                None => line + "\n",
            }
        };
        header.into_iter().chain(&self.rows).map(line).collect()
    }

    fn widths(&self, style: Style) -> Vec<usize> {
        let widest = |at: usize| {
            let header = if style.headers { self.header[at].len() } else { 0 };
            let cells = self.rows.iter().map(|row| row[at].chars().count());
            cells.chain([header]).max().unwrap_or_default()
        };
        let limit = |at: usize| if style.wide { usize::MAX } else { self.limits[at] };
        let mut widths: Vec<usize> = (0..self.header.len()).map(|at| widest(at).min(limit(at))).collect();
        let gaps = GAP.len() * widths.len().saturating_sub(1);
        let last = self.header.len().saturating_sub(1);
        if let Some((end, others)) = widths.split_last_mut().filter(|_| !style.wide) {
            let room = WIDTH.saturating_sub(self.indent + gaps);
            *end = fitted(others, self.whole, room, widest(last).min(LAST));
        }
        widths
    }
}

/// Narrows the widest columns until the last one has what it has to keep; returns what it gets.
fn fitted(columns: &mut [usize], whole: Option<usize>, room: usize, kept: usize) -> usize {
    while columns.iter().sum::<usize>() + kept > room {
        let others = columns.iter_mut().enumerate().filter(|(at, _)| Some(*at) != whole);
        match others.map(|(_, width)| width).max().filter(|widest| **widest > NARROWEST) {
            Some(widest) => *widest -= 1,
            None => break,
        }
    }
    room.saturating_sub(columns.iter().sum())
}

fn line(row: &[String], widths: &[usize], wide: bool) -> String {
    let cell = |(text, width): (&String, &usize)| {
        let text = if wide { text.clone() } else { cut(text, *width) };
        let missing = width.saturating_sub(text.chars().count()).min(WIDTH);
        text + &" ".repeat(missing)
    };
    let cells: Vec<String> = row.iter().zip(widths).map(cell).collect();
    cells.join(GAP).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { colour: false, headers: true, wide: false };

    #[test]
    fn colours_are_for_terminals_whose_owner_has_not_refused_them() {
        let set = |value: &'static str| Some(OsStr::new(value));
        for (flag, variable, terminal, wanted) in [
            (false, None, true, true),
            (false, set(""), true, true),
            (false, set("1"), true, false),
            (false, set("0"), true, false),
            (true, None, true, false),
            (false, None, false, false),
        ] {
            assert_eq!(has_colour(flag, variable, terminal), wanted, "{flag} {variable:?} {terminal}");
        }
    }

    #[test]
    fn no_line_is_longer_than_a_terminal_is_wide() {
        let mut table = Table::new(&[("A", 10), ("B", 40), ("WHY", 0)]);
        table.row(["short", &"b".repeat(60), &"w".repeat(300)]);
        table.row(["a name that is long", "b", "w"]);
        let text = table.text(PLAIN, |_| None);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.contains("a name th…"));
        let wide = table.text(Style { wide: true, ..PLAIN }, |_| None);
        assert!(wide.contains(&"w".repeat(300)) && !wide.contains('…'));
    }

    #[test]
    fn what_is_too_wide_together_gives_way_where_it_is_widest() {
        for indent in [0, 6] {
            let mut table = Table::new(&[("A", 60), ("B", 60), ("C", 10), ("WHY", 0)]).indented(indent);
            table.row([&"a".repeat(99), &"b".repeat(99), "short", &"w".repeat(99)]);
            let text = table.text(PLAIN, |_| None);
            assert!(text.lines().skip(1).all(|line| line.chars().count() == WIDTH - indent), "{text}");
            assert!(text.contains("  short  ") && text.contains(&"w".repeat(LAST - 1)), "{text}");
        }
    }

    #[test]
    fn headers_may_be_left_out_and_an_empty_table_has_none() {
        let mut table = Table::new(&[("LEVEL", 5), ("WHY", 0)]);
        assert_eq!(table.text(PLAIN, |_| None), "");
        table.row(["FAIL", "x"]);
        assert_eq!(table.text(Style { headers: false, ..PLAIN }, |_| None), "FAIL  x\n");
        let red = table.text(Style { colour: true, headers: false, ..PLAIN }, |_| Some(Colour::Red));
        assert_eq!(red, "\u{1b}[31mFAIL\u{1b}[0m  x\n");
    }
}
