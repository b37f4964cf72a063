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
        headers.get_all(WWW_AUTHENTICATE).into_iter().find_map(|value| {
            // Some put text of their language into a realm of Basic.
            let text = String::from_utf8_lossy(value.as_bytes());
            challenges(&text).into_iter().find_map(|(scheme, parameters)| Self::read(scheme, parameters))
        })
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

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        Challenge::of(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) }
    }

    #[test]
    fn challenges_are_read_as_servers_write_them() {
        for (values, expected) in [
            (&[r#"Basic realm="x""#][..], Some(Challenge::Basic)),
            (&["Basic"], Some(Challenge::Basic)),
            (&["bAsIc realm=x"], Some(Challenge::Basic)),
            (&["Basic realm=\"Zugang für alle\""], Some(Challenge::Basic)),
            (
                &[r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#],
                Some(bearer("https://auth.docker.io/token", Some("registry.docker.io"))),
            ),
            (&[r#"BEARER  Service = "s" , REALM = "r""#], Some(bearer("r", Some("s")))),
            (&["Bearer realm=https://a/b?c=d,service=s"], Some(bearer("https://a/b?c=d", Some("s")))),
            (&[r#"Bearer realm="a,b \"c\" \\ d",scope="x""#], Some(bearer(r#"a,b "c" \ d"#, None))),
            (&["Bearer"], Some(bearer("", None))),
            (&[r#"Bearer realm="r"#], Some(bearer("r", None))),
            // The first of several, in one header or in many.
            (&[r#"Negotiate abc==, Basic realm="x", Bearer realm="r""#], Some(Challenge::Basic)),
            (&[r#"Digest realm="Basic", Bearer realm="r""#], Some(bearer("r", None))),
            (
                &["Negotiate", r#"Bearer realm="r",service="s", Basic realm="x""#],
                Some(bearer("r", Some("s"))),
            ),
            (&[",,, Basic"], Some(Challenge::Basic)),
            (&["Negotiate", "Digest x=y"], None),
            (&[r#"realm="x""#], None),
            (&["\"Basic\""], None),
            (&[""], None),
            (&[], None),
        ] {
            assert_eq!(of(values), expected, "{values:?}");
        }
    }

    #[test]
    fn what_is_too_long_is_none() {
        let long = "x".repeat(LONGEST + 1);
        assert_eq!(of(&[&format!("Bearer realm={long}, service={long}")]), Some(bearer("", None)));
    }

    proptest! {
        #[test]
        fn whatever_a_header_holds_is_read_to_its_end(
            values in prop::collection::vec("([ -~]|Basic|Bearer|realm=|service=|\"|,|\\\\){0,60}", 0..4),
        ) {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            if let Some(Challenge::Bearer { realm, service }) = of(&values) {
                prop_assert!(realm.len() <= LONGEST && service.unwrap_or_default().len() <= LONGEST);
            }
        }

        #[test]
        fn what_is_quoted_comes_back(realm in "[ -~]{0,80}", service in "[ -~]{0,80}") {
            let quote = |text: &str| text.replace('\\', r"\\").replace('"', r#"\""#);
            let value = format!("Digest a=b, Bearer service=\"{}\", realm=\"{}\"", quote(&service), quote(&realm));
            prop_assert_eq!(of(&[&value]), Some(bearer(&realm, Some(&service))));
        }
    }
}
