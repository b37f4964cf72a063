//! Text of others, as it may be shown on a terminal: cut, and without characters that a terminal acts on.

use std::fmt::Write as _;

use jiff::Timestamp;

/// The longest name that is shown of what tenants may write freely.
const LONGEST: usize = 120;

/// Graphic ASCII of a text; anything else is a question mark.
pub(crate) fn plain(text: &str) -> String {
    let shown = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    cut(&text.chars().map(shown).collect::<String>(), LONGEST)
}

/// The same for the operator's own sentences, which may be long and have other letters.
pub(crate) fn sentence(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The first characters, with `…` for the rest.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// A word of a command line, in quotes if a shell needs them.
pub(crate) fn word(text: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || "-_./:=".contains(c);
    if !text.is_empty() && text.chars().all(is_bare) {
        return text.to_owned();
    }
    format!("'{}'", plain(text).replace('\'', "?"))
}

/// Names between brackets, as in `[hub, quay]`.
pub(crate) fn bracketed<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| plain(name.as_ref())).collect();
    format!("[{}]", names.join(", "))
}

/// As in `1 namespace` and `2 namespaces`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// How far two times are apart, in its largest unit: `8 min`, `31 d`.
pub(crate) fn span(from: Timestamp, to: Timestamp) -> String {
    let minutes = (to.as_second() - from.as_second()).max(0) / 60;
    match minutes {
        0..120 => format!("{minutes} min"),
        120..2880 => format!("{} h", minutes / 60),
        _ => format!("{} d", minutes / 1440),
    }
}

/// The first names, and how many more.
pub(crate) fn some<T: AsRef<str>>(names: &[T], shown: usize, separator: &str) -> String {
    let first: Vec<&str> = names.iter().take(shown).map(AsRef::as_ref).collect();
    let mut text = first.join(separator);
    if names.len() > shown {
        // Writing to a String cannot fail.
        let _written = write!(text, "{separator}… {} more", names.len() - shown);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_acts_on_is_shown() {
        assert_eq!(plain("a\u{1b}[31mb\nc\u{202e}"), "a?[31mb?c?");
        assert_eq!(plain(&"x".repeat(500)).chars().count(), LONGEST);
        assert_eq!(sentence("a\u{1b}[2J\nb…"), "a [2J b…");
    }

    #[test]
    fn a_word_never_ends_the_quotes_it_stands_in() {
        assert_eq!(word("team-b"), "team-b");
        assert_eq!(word("a'; rm -rf / #"), "'a?; rm -rf / #'");
        assert_eq!(word(""), "''");
    }

    #[test]
    fn spans_have_one_unit() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(span(at(0), at(480)), "8 min");
        assert_eq!(span(at(0), at(3 * 3600)), "3 h");
        assert_eq!(span(at(0), at(31 * 86400)), "31 d");
        assert_eq!(span(at(9), at(0)), "0 min");
    }
}
