//! Server names. People write them in many ways; the kubelet compares them as plain text, so each
//! becomes one canonical name, and that becomes one key of `auths`.

use std::fmt;

use crate::docker_hub::{self, DOCKER_HUB_HOSTS};
use crate::schemeless::Schemeless;

/// A registry, or a part of one: `host[:port][/path-prefix]`, in lower case.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Server {
    host: String,
    /// Empty, or with a leading and no trailing slash.
    path: String,
}

/// Not the name of a server. Does not quote it: it may hold a password.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not host[:port][/path]")]
pub struct ServerError;

impl Server {
    /// Reads a server as people write it: with or without a scheme, `/v1/` or `/v2/` of the API, a
    /// trailing slash, capitals, and any of the hosts of Docker Hub.
    pub fn parse(text: &str) -> Result<Self, ServerError> {
        let text = text.to_ascii_lowercase();
        let bare = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(&text);
        let (host, path) = bare.find('/').map_or((bare, ""), |slash| bare.split_at(slash));
        let path = without_api_version(path).trim_end_matches('/');
        if !is_host(host) || !path.bytes().all(is_path_byte) || path.contains("//") {
            return Err(ServerError);
        }
        let host = if DOCKER_HUB_HOSTS.contains(&host) { docker_hub::NAME } else { host };
        Ok(Self { host: host.to_owned(), path: path.to_owned() })
    }

    /// The key of `auths` under which the kubelet finds it.
    pub fn key(&self) -> String {
        if self.host == docker_hub::NAME && self.path.is_empty() {
            docker_hub::KEY.to_owned()
        } else {
            self.to_string()
        }
    }

    /// Whether the kubelet would use a login for this server for every image under `other`.
    pub fn covers(&self, other: &Self) -> bool {
        let parse = |server: &Self| Schemeless::parse(&server.to_string());
        parse(self).zip(parse(other)).is_some_and(|(server, other)| server.matches(&other))
    }

    /// How closely it names what it covers: a plain host before a glob, then a longer path.
    pub(crate) fn specificity(&self) -> (bool, usize) {
        (!self.host.contains('*'), self.path.len())
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.host, self.path)
    }
}

/// `/v1` and `/v2` are the API's versions and not part of a repository's name.
fn without_api_version(path: &str) -> &str {
    let rest = path.strip_prefix("/v1").or_else(|| path.strip_prefix("/v2"));
    rest.filter(|rest| rest.is_empty() || rest.starts_with('/')).unwrap_or(path)
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        // The address of an IPv6 host is written in brackets, because it has colons of its own.
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => {
                let is_address =
                    !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
                return is_address && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
            }
            None => return false,
        },
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(is_label_byte);
    name.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    port.parse::<u16>().is_ok()
}

fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_*".contains(&byte)
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"/._-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_server_is_one() {
        for (text, name) in [
            ("ghcr.io", "ghcr.io"),
            ("https://GHCR.io/", "ghcr.io"),
            ("http://reg.example:5000/v2/", "reg.example:5000"),
            ("reg.example/v1", "reg.example"),
            ("reg.example/v1/team", "reg.example/team"),
            ("reg.example/v10", "reg.example/v10"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("index.docker.io", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("docker.io/acme", "docker.io/acme"),
            ("*.dkr.ecr.eu-west-1.amazonaws.com", "*.dkr.ecr.eu-west-1.amazonaws.com"),
            ("[::1]:5000", "[::1]:5000"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(Server::parse(text).map(|s| s.to_string()).as_deref(), Ok(name), "{text}");
        }
    }

    #[test]
    fn what_is_no_server_is_refused_without_being_quoted() {
        for text in [
            "",
            "https://",
            "user:hunter2@ghcr.io",
            "ghcr.io?x",
            "gh cr.io",
            "ghcr.io:port",
            "a..b",
            "a//b",
            "[::1",
        ] {
            assert_eq!(Server::parse(text), Err(ServerError), "{text}");
        }
    }

    #[test]
    fn docker_hub_is_written_under_the_key_that_everybody_reads() {
        let key = |text| Server::parse(text).unwrap().key();
        assert_eq!(key("docker.io"), docker_hub::KEY);
        assert_eq!(key("docker.io/acme"), "docker.io/acme");
        assert_eq!(key("ghcr.io/acme"), "ghcr.io/acme");
    }

    #[test]
    fn a_server_covers_what_the_kubelet_would_pull_with_it() {
        let covers = |one, other| Server::parse(one).unwrap().covers(&Server::parse(other).unwrap());
        assert!(covers("ghcr.io", "ghcr.io/acme"));
        assert!(covers("ghcr.io/ac", "ghcr.io/acme"));
        assert!(covers("*.dkr.ecr.*.amazonaws.com", "1.dkr.ecr.eu.amazonaws.com/app"));
        assert!(!covers("*.io", "a.b.io"));
        assert!(!covers("ghcr.*", "ghcr.io:443"));
        assert!(!covers("ghcr.io/acme", "ghcr.io"));
        assert!(!covers("ghcr.io", "ghcr.io:443"));
    }
}
