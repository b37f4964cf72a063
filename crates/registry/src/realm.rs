//! Which token servers a login may be sent to. A registry names its own in the challenge, and could name anybody.

use std::collections::BTreeMap;

use http::Uri;
use http::uri::Scheme;

use crate::address::{is_this_machine, is_written_oddly};
use crate::client::{Place, Trust};
use crate::vendor;

/// Ends of names that are looked up inside of a network.
const INTERNAL: [&str; 10] =
    ["local", "localhost", "internal", "intranet", "lan", "home", "corp", "private", "svc", "arpa"];
/// The longest name of a host.
const LONGEST_NAME: usize = 253;

/// A token server.
#[derive(Debug)]
pub(crate) struct Realm {
    /// Where it is.
    pub(crate) place: Place,
    /// The path that gives tokens, with a query if the registry names one.
    path: String,
}

/// Why no login is sent to a token server.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Untrusted {
    /// Its name, if that is a plain one.
    pub(crate) name: Option<String>,
    /// What is wrong.
    pub(crate) why: &'static str,
}

/// What decides over a token server.
pub(crate) struct Rules<'a> {
    /// The registry, as it is asked: `host` or `host:port`.
    pub(crate) registry: &'a str,
    pub(crate) endpoints: &'a BTreeMap<String, Uri>,
    pub(crate) allowed: &'a [String],
}

impl Realm {
    /// The token server that a registry names, if a login may be sent to it.
    pub(crate) fn of(text: &str, rules: &Rules<'_>) -> Result<Self, Untrusted> {
        let untrusted = |why| Untrusted { name: plain_name(text), why };
        let Address { secure, authority, host, port, path } = Address::parse(text).ok_or_else(|| {
            untrusted("is no plain address (https://HOST/PATH); set it right in the registry's settings")
        })?;
        let plain = rules.endpoints.get(&authority).is_some_and(|uri| uri.scheme() == Some(&Scheme::HTTP));
        if !secure && !plain {
            return Err(untrusted("has no TLS; give it https:// in the registry's settings"));
        }
        let trust = rules.trust(&authority, &host, port).map_err(untrusted)?;
        Ok(Self { place: Place { host: authority, trust }, path })
    }

    /// The path and query that ask for a token.
    pub(crate) fn path(&self, service: Option<&str>, scope: Option<&str>) -> String {
        let mut path = self.path.clone();
        let parameters = [("service", service), ("scope", scope), ("client_id", Some("regcred"))];
        for (name, value) in parameters.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.extend([name, "=", &regcred_https::escaped(value)]);
        }
        path
    }
}

impl Rules<'_> {
    fn trust(&self, authority: &str, host: &str, port: Option<u16>) -> Result<Trust, &'static str> {
        let is_own = host == split_port(self.registry).0;
        let is_pair = port.is_none() && vendor::belongs(host, self.registry);
        if is_own || is_pair || self.allowed.iter().any(|allowed| allows(allowed, authority, host, port)) {
            return Ok(Trust::Registry);
        }
        if self.endpoints.contains_key(authority) {
            return Err(
                "is reached at an address of its own; if it belongs to the registry, name it in --verify-allow-realm",
            );
        }
        if port.is_some() {
            return Err(
                "is at a port of another host; if it belongs to the registry, name HOST:PORT in --verify-allow-realm",
            );
        }
        if !is_public_name(host) {
            return Err("has no public name; if it belongs to the registry, name it in --verify-allow-realm");
        }
        Ok(Trust::Public)
    }
}

/// Whether an entry of the settings means a token server.
fn allows(entry: &str, authority: &str, host: &str, port: Option<u16>) -> bool {
    let entry = entry.to_ascii_lowercase();
    match entry.strip_prefix('*').filter(|end| end.len() > 1 && end.starts_with('.')) {
        Some(end) => port.is_none() && host.len() > end.len() && host.ends_with(end) && is_name(host),
        None => entry == authority,
    }
}

/// A public name has two labels or more, and is no address in any spelling.
fn is_public_name(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    is_name(host) && host.contains('.') && !INTERNAL.contains(&last)
}

/// A name as the DNS has it, in lower case.
fn is_name(host: &str) -> bool {
    let is_label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(fits)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_number =
        host.parse::<std::net::Ipv4Addr>().is_ok() || is_written_oddly(host) || is_this_machine(host);
    host.len() <= LONGEST_NAME && host.split('.').all(is_label) && !is_number
}

/// An address of a token server, taken apart.
struct Address {
    secure: bool,
    /// `host` or `host:port`, in lower case and without the port that the scheme means anyway.
    authority: String,
    host: String,
    port: Option<u16>,
    path: String,
}

impl Address {
    fn parse(text: &str) -> Option<Self> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\#\"<>^`{|}".contains(&byte));
        let (scheme, rest) = text.split_once("://").filter(|_| is_plain)?;
        let secure = scheme.eq_ignore_ascii_case("https");
        if !secure && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let authority = authority.to_ascii_lowercase();
        let (host, port) = split_port(&authority);
        let port = match port {
            Some(port) => Some(number(port)?).filter(|port| *port != if secure { 443 } else { 80 }),
            None => None,
        };
        if !is_host(host) {
            return None;
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let authority = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Some(Self { secure, host: host.to_owned(), authority, port, path })
    }
}

/// A port, in digits alone.
fn number(text: &str) -> Option<u16> {
    let is_digits = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits.then(|| text.parse().ok()).flatten()
}

/// What may be a host at all: no user, no zone, no escapes.
fn is_host(host: &str) -> bool {
    let inside = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inside {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        }
    }
}

/// Host and port of an authority.
pub(crate) fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// The name of a token server, where it can be shown: of usual characters, and not too long.
fn plain_name(text: &str) -> Option<String> {
    let Address { authority, .. } = Address::parse(text)?;
    (authority.len() <= 100).then_some(authority)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Result<Realm, Untrusted> {
        Realm::of(
            text,
            &Rules { registry: "registry.example:5000", endpoints: &BTreeMap::new(), allowed: &[] },
        )
    }

    #[test]
    fn a_question_for_a_token_is_a_query() {
        let scope = Some("repository:a/b:pull");
        for (realm, path) in [
            ("https://a.example/t", "/t?service=s%26x&scope=repository%3Aa%2Fb%3Apull&client_id=regcred"),
            ("https://a.example", "/?service=s%26x&scope=repository%3Aa%2Fb%3Apull&client_id=regcred"),
            (
                "https://a.example/t?x=y",
                "/t?x=y&service=s%26x&scope=repository%3Aa%2Fb%3Apull&client_id=regcred",
            ),
            (
                "https://a.example?x=y",
                "/?x=y&service=s%26x&scope=repository%3Aa%2Fb%3Apull&client_id=regcred",
            ),
        ] {
            assert_eq!(of(realm).unwrap().path(Some("s&x"), scope), path, "{realm}");
        }
        assert_eq!(of("https://a.example/t").unwrap().path(None, None), "/t?client_id=regcred");
    }

    #[test]
    fn who_belongs_to_a_registry_is_trusted_like_it() {
        for (registry, realm, trust) in [
            ("registry-1.docker.io", "https://auth.docker.io/token", Trust::Registry),
            ("registry.gitlab.com", "https://gitlab.com/jwt/auth", Trust::Registry),
            ("registry.example", "https://auth.docker.io/token", Trust::Public),
            ("a.b:5000", "https://a.b/t", Trust::Registry),
            ("[fd00::1]:5000", "https://[fd00::1]:5000/t", Trust::Registry),
            ("10.0.0.1:5000", "https://10.0.0.1:5001/t", Trust::Registry),
        ] {
            let rules = Rules { registry, endpoints: &BTreeMap::new(), allowed: &[] };
            assert_eq!(Realm::of(realm, &rules).unwrap().place.trust, trust, "{registry} {realm}");
        }
    }

    proptest! {
        #[test]
        fn whoever_is_trusted_has_a_public_name_or_the_registrys(
            text in "(https://|http://|HTTPS://)?([a-z0-9.:@/?#%\\\\\\[\\]_-]|registry\\.example|127|0x7f|::1|\\.example){0,12}",
        ) {
            match of(&text) {
                Ok(realm) => {
                    let (host, port) = split_port(&realm.place.host);
                    let public = port.is_none() && host.contains('.') && host.parse::<std::net::IpAddr>().is_err();
                    prop_assert!(host == "registry.example" || public, "{}", text);
                    // What is asked is what was looked at.
                    let uri = regcred_https::place(&BTreeMap::new(), &Scheme::HTTPS, &realm.place.host, &realm.path(None, None));
                    if let Some(uri) = uri {
                        prop_assert_eq!(uri.authority().unwrap().as_str(), &realm.place.host);
                    }
                }
                Err(untrusted) => {
                    let name = untrusted.name.unwrap_or_default();
                    prop_assert!(name.len() <= 100 && !name.contains(['@', '/', '%', '\\']), "{}", text);
                }
            }
        }
    }
}
