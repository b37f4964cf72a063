//! Server names as the kubelet parses them: with Go's `net/url` behind a made-up `https://`,
//! label by label, each label a glob (k8s.io/kubernetes, pkg/credentialprovider/keyring.go).

use std::net::Ipv6Addr;

/// A parsed server name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Schemeless {
    /// Host and port, as written.
    pub(crate) host: String,
    /// The path, with escapes undone.
    pub(crate) path: Vec<u8>,
}

impl Schemeless {
    /// What `url.Parse("https://" + text)` says; `None` where it gives an error.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
            return None;
        }
        let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
        unescape(fragment)?;
        let text = text.split_once('?').map_or(text, |(before, _query)| before);
        let (authority, path) = text.find('/').map_or((text, ""), |slash| text.split_at(slash));
        let host = match authority.rsplit_once('@') {
            Some((user, host)) => is_user_info(user).then_some(host)?,
            None => authority,
        };
        let valid = is_host(host) && !host.contains('%');
        valid.then_some(())?;
        Some(Self { host: host.to_owned(), path: unescape(path)? })
    }

    /// Whether a credential for this server is used for `target`.
    pub(crate) fn matches(&self, target: &Self) -> bool {
        let ((globs, glob_port), (labels, port)) = (split_port(&self.host), split_port(&target.host));
        let (globs, labels): (Vec<_>, Vec<_>) = (globs.split('.').collect(), labels.split('.').collect());
        glob_port == port
            && globs.len() == labels.len()
            && target.path.starts_with(&self.path)
            && globs
                .iter()
                .zip(&labels)
                .all(|(glob, label)| glob_matches(glob.as_bytes(), label.as_bytes()) == Some(true))
    }
}

/// `net.SplitHostPort`, with its errors read as "no port".
fn split_port(host: &str) -> (&str, &str) {
    split_host_port(host).unwrap_or((host, ""))
}

fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let (before, port) = text.rsplit_once(':')?;
    if let Some(rest) = before.strip_prefix('[') {
        let host = rest.strip_suffix(']')?;
        return (!host.contains(['[', ']'])).then_some((host, port));
    }
    (!before.contains([':', '[', ']'])).then_some((before, port))
}

/// `parseHost` of Go 1.26: one colon at the most, unless the host is an IPv6 address in brackets.
fn is_host(host: &str) -> bool {
    let is_port = |port: &str| {
        port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
    };
    let allowed =
        |byte: u8| byte >= 0x80 || byte.is_ascii_alphanumeric() || b"!$&'()*+,;=:[]<>\"-_.~".contains(&byte);
    if !host.bytes().all(allowed) {
        return false;
    }
    match host.rfind('[') {
        Some(0) => host[1..]
            .rsplit_once(']')
            .is_some_and(|(address, port)| address.parse::<Ipv6Addr>().is_ok() && is_port(port)),
        Some(_) => false,
        None => host.find(':').is_none_or(|colon| is_port(&host[colon..])),
    }
}

/// `validUserinfo`, whose escapes must be well-formed too.
fn is_user_info(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte);
    text.bytes().all(allowed) && unescape(text).is_some()
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => plain.push(digit(bytes.next())? << 4 | digit(bytes.next())?),
            byte => plain.push(byte),
        }
    }
    Some(plain)
}

/// Go's `filepath.Match`; `None` for a pattern that is none. Host labels have no separators.
fn glob_matches(glob: &[u8], text: &[u8]) -> Option<bool> {
    match glob {
        [] => Some(text.is_empty()),
        [b'*', rest @ ..] => {
            (0..=text.len()).try_fold(false, |matched, at| Some(matched || glob_matches(rest, &text[at..])?))
        }
        [b'?', rest @ ..] => {
            let width =
                std::str::from_utf8(text).ok().and_then(|text| text.chars().next()).map(char::len_utf8);
            width.map_or(Some(false), |width| glob_matches(rest, &text[width..]))
        }
        // An IPv6 address without a port keeps its brackets, and they make a class of characters.
        [b'[', rest @ ..] => {
            let end = rest.iter().position(|byte| *byte == b']')?;
            match text {
                [byte, text @ ..] if rest[..end].contains(byte) => glob_matches(&rest[end + 1..], text),
                _ => Some(false),
            }
        }
        [first, rest @ ..] => match text {
            [byte, text @ ..] if byte == first => glob_matches(rest, text),
            _ => Some(false),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(server: &str, image: &str) -> bool {
        let parse = |text| Schemeless::parse(text);
        parse(server).zip(parse(image)).is_some_and(|(server, image)| server.matches(&image))
    }

    #[test]
    fn servers_match_as_the_kubelet_says() {
        assert!(matches("ghcr.io/ac", "ghcr.io/acme/app"));
        assert!(matches("gh*.io", "ghcr.io/acme/app"));
        assert!(matches("[::1]:5000", "[::1]:5000/app"));
        assert!(!matches("[::1]", "[::1]/app"));
        assert!(!matches("*.io", "a.ghcr.io/app"));
        assert!(!matches("ghcr.io", "ghcr.io:443/app"));
        assert!(!matches("GHCR.IO", "ghcr.io/app"));
        assert!(!matches("ghcr.io/app/", "ghcr.io/app"));
    }

    #[test]
    fn what_go_does_not_parse_matches_nothing() {
        for text in ["a b", "a:b", "a:1:2", "[::1", "x[::1]", "[1.2.3.4]", "a%", "a/%zz", "a\u{7}"] {
            assert_eq!(Schemeless::parse(text), None, "{text}");
        }
    }
}
