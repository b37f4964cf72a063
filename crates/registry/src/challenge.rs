//! The header `WWW-Authenticate` (RFC 9110, section 11.6.1): several challenges may be in one header, and several headers
//! in one answer. The first that is Basic or Bearer counts.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// The longest realm or service that is taken.
const LONGEST: usize = 2048;

/// How a registry wants to be shown a login.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Challenge {
    /// The login itself.
    Basic,
    /// A token of a token server.
    Bearer {
        /// Address of the token server.
        realm: String,
        /// What the registry is to it.
        service: Option<String>,
    },
}

impl Challenge {
    /// The first challenge of an answer that is Basic or Bearer.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let texts = headers.get_all(WWW_AUTHENTICATE).into_iter().filter_map(|value| value.to_str().ok());
        texts.flat_map(challenges).find_map(|(scheme, parameters)| Self::read(scheme, parameters))
    }

    fn read(scheme: &str, mut parameters: Vec<(&str, String)>) -> Option<Self> {
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        let mut take = |name: &str| {
            let at = parameters.iter().position(|(given, _)| given.eq_ignore_ascii_case(name))?;
            Some(parameters.swap_remove(at).1).filter(|value| value.len() <= LONGEST)
        };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (realm, service) = (take("realm").unwrap_or_default(), take("service"));
        Some(Self::Bearer { realm, service })
    }
}

/// All challenges of one header: a scheme and its parameters.
fn challenges(text: &str) -> Vec<(&str, Vec<(&str, String)>)> {
    let mut found: Vec<(&str, Vec<(&str, String)>)> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (word, after) = token(rest.trim_start_matches(is_gap));
        let value = after.trim_start_matches(is_space).strip_prefix('=');
        rest = match (word.is_empty(), value) {
            // Not a word at all: the header has an end here.
            (true, _) => "",
            (false, Some(value)) => {
                let (value, after) = parameter(value.trim_start_matches(is_space));
                if let Some((_, parameters)) = found.last_mut() {
                    parameters.push((word, value));
                }
                after
            }
            (false, None) => {
                found.push((word, Vec::new()));
                after
            }
        };
    }
    found
}

/// The word at the start, and what follows it.
fn token(text: &str) -> (&str, &str) {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    text.split_at(text.find(|c| !is_word(c)).unwrap_or(text.len()))
}

/// The value of a parameter, quoted or not, and what follows it. Servers leave the quotes out also around what needs them.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find(is_gap).unwrap_or(text.len()));
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(letters.next().map(|(_, escaped)| escaped)),
            _ => value.push(letter),
        }
    }
    (value, "")
}

fn is_space(c: char) -> bool {
    c == ' ' || c == '\t'
}

fn is_gap(c: char) -> bool {
    is_space(c) || c == ','
}
