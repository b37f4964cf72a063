//! Server names. The kubelet compares them as plain text, so a name keeps the form in which the kubelet matches it; the
//! other spellings of people are tried only where that form finds nothing.

use std::fmt;

use crate::docker_hub::{self, DOCKER_HUB_ALIASES, DOCKER_HUB_HOSTS};
use crate::schemeless::Schemeless;

/// The longest name of a server, as in the CRD: a host has 253 characters at most, and the path of an image 255.
const MAX_LEN: usize = 512;

/// A registry, or a part of one: `host[:port][/path-prefix]`, as the kubelet matches it. Sorted as the kubelet sorts,
/// which tries the last one first.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Server {
    key: String,
}

/// Not the name of a server. Does not quote it: it may hold a password.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not host[:port][/path]")]
pub struct ServerError;

impl Server {
    /// Reads the server of a spec, which stands for the images whose names begin so. `docker.io` means the key that
    /// opens every image of Docker Hub.
    pub fn parse(text: &str) -> Result<Self, ServerError> {
        let key = if text == docker_hub::NAME { docker_hub::DEFAULT_KEY } else { text };
        let server = Self { key: key.to_owned() };
        if Self::of_key(&server.written()).as_ref() == Some(&server) { Ok(server) } else { Err(ServerError) }
    }

    /// Reads a key of `auths` as the kubelet does; `None` where that matches no image, whatever it is.
    pub(crate) fn of_key(text: &str) -> Option<Self> {
        let Schemeless { host, path } = Schemeless::parse(&keyring_key(text)?)?;
        let path = String::from_utf8(path).ok()?;
        let fits = host.len() + path.len() <= MAX_LEN && is_host(&host) && is_path(&path);
        fits.then(|| Self { key: host + &path })
    }

    /// The key of `auths` that the kubelet reads as this server.
    pub(crate) fn written(&self) -> String {
        let (host, path) = self.parts();
        if self.is_default() {
            docker_hub::WRITTEN_KEY.to_owned()
        } else if path.starts_with("/v1/") || path.starts_with("/v2/") {
            // The kubelet takes one version off, and the next one is a part of the repository's name.
            format!("{host}/v1{path}")
        } else {
            self.key.clone()
        }
    }

    /// Whether the kubelet would use a login for this server for every image under `other`.
    pub fn covers(&self, other: &Self) -> bool {
        let parse = |server: &Self| Schemeless::parse(&server.to_string());
        parse(self).zip(parse(other)).is_some_and(|(server, other)| server.matches(&other))
    }

    /// Whether this is the key that the kubelet takes where nothing else matches an image of Docker Hub.
    pub(crate) fn is_default(&self) -> bool {
        self.key == docker_hub::DEFAULT_KEY
    }

    /// Whether the kubelet could find it for an image: none is named `index.docker.io`.
    pub(crate) fn serves_images(&self) -> bool {
        self.is_default() || self.parts().0 != docker_hub::DEFAULT_KEY
    }

    /// Whether both name one host, whatever port or path.
    pub(crate) fn shares_host_name(&self, other: &Self) -> bool {
        let name = |server: &Self| server.as_meant().parts().0.split(':').next().map(str::to_owned);
        name(self) == name(other)
    }

    /// What somebody means who does not write as the kubelet reads: with capitals, with another name of Docker Hub, or
    /// with the address of the API.
    pub(crate) fn as_meant(&self) -> Self {
        let key = self.key.to_ascii_lowercase();
        let (host, path) = key.find('/').map_or((&*key, ""), |slash| key.split_at(slash));
        let path = if ["/v1", "/v2"].contains(&path) { "" } else { path };
        let is_hub = DOCKER_HUB_HOSTS.contains(&host) || DOCKER_HUB_ALIASES.contains(&host);
        Self { key: format!("{}{path}", if is_hub { docker_hub::NAME } else { host }) }
    }

    fn parts(&self) -> (&str, &str) {
        self.key.find('/').map_or((&*self.key, ""), |slash| self.key.split_at(slash))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_default() { docker_hub::NAME } else { &self.key })
    }
}

/// The key under which the kubelet keeps an entry: without scheme, user, query, and the version of the API.
pub(crate) fn keyring_key(text: &str) -> Option<String> {
    let bare = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let Schemeless { host, path } = Schemeless::parse(bare.unwrap_or(text))?;
    let path = String::from_utf8_lossy(&path);
    let versioned = path.starts_with("/v1/") || path.starts_with("/v2/");
    let path = if versioned { &path[3..] } else { &path[..] };
    Some(if path == "/" { host } else { host + path })
}

fn is_host(host: &str) -> bool {
    // An IPv6 address is written in brackets, because it has colons of its own. Without a port the kubelet takes the
    // brackets for a class of characters, which matches no host.
    if let Some((_address, port)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return port.strip_prefix(':').is_some_and(|port| !port.is_empty());
    }
    let name = host.split_once(':').map_or(host, |(name, _port)| name);
    name.split('.').all(|label| !label.is_empty() && label.bytes().all(is_label_byte))
}

fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_*".contains(&byte)
}

fn is_path(path: &str) -> bool {
    let is_path_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    path.bytes().all(is_path_byte) && !path.contains("//")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Option<String> {
        Server::of_key(text).map(|server| server.key)
    }

    #[test]
    fn a_key_keeps_what_the_kubelet_matches() {
        for (text, server) in [
            ("ghcr.io", "ghcr.io"),
            ("https://ghcr.io/", "ghcr.io"),
            ("https://GHCR.io/", "GHCR.io"),
            ("http://reg.example:5000/v2/", "reg.example:5000"),
            ("reg.example/v1", "reg.example/v1"),
            ("reg.example/v1/team", "reg.example/team"),
            ("reg.example/v1/v2/team", "reg.example/v2/team"),
            ("ghcr.io/acme/", "ghcr.io/acme/"),
            ("user:hunter2@ghcr.io/%61cme?x#y", "ghcr.io/acme"),
            ("https://index.docker.io/v1/", "index.docker.io"),
            ("registry-1.docker.io", "registry-1.docker.io"),
            ("*.dkr.ecr.eu-west-1.amazonaws.com", "*.dkr.ecr.eu-west-1.amazonaws.com"),
            ("[::1]:5000", "[::1]:5000"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(key(text).as_deref(), Some(server), "{text}");
            let written = Server::of_key(text).unwrap().written();
            assert_eq!(key(&written).as_deref(), Some(server), "{text} is written as {written}");
        }
    }

    #[test]
    fn what_matches_no_image_is_no_server() {
        for text in [
            "",
            "/",
            "https://",
            "oci://ghcr.io",
            "gh cr.io",
            "ghcr.io:port",
            "a..b",
            "ghcr.io//x",
            "[::1",
            "[::1]",
            "::1",
        ] {
            assert_eq!(Server::of_key(text), None, "{text}");
        }
        assert_eq!(Server::of_key(&"a".repeat(MAX_LEN + 1)), None);
        for text in ["https://ghcr.io", "user:hunter2@ghcr.io", "ghcr.io/", "ghcr.io?x", "[::1]", ""] {
            assert_eq!(Server::parse(text), Err(ServerError), "{text}");
        }
    }

    #[test]
    fn docker_hub_is_written_under_the_key_that_everybody_reads() {
        let written = |text| Server::parse(text).unwrap().written();
        assert_eq!(written("docker.io"), docker_hub::WRITTEN_KEY);
        assert_eq!(written("docker.io/acme"), "docker.io/acme");
        assert_eq!(written("registry-1.docker.io"), "registry-1.docker.io");
        assert_eq!(written("reg.example/v2/team"), "reg.example/v1/v2/team");
        assert_eq!(Server::parse("docker.io").unwrap().to_string(), "docker.io");
    }

    #[test]
    fn other_spellings_are_understood() {
        let meant = |text| Server::of_key(text).unwrap().as_meant().key;
        assert_eq!(meant("GHCR.io/Acme"), "ghcr.io/acme");
        assert_eq!(meant("https://index.docker.io/v1"), "docker.io");
        assert_eq!(meant("registry.hub.docker.com"), "docker.io");
        assert_eq!(meant("reg.example/v2"), "reg.example");
        assert_eq!(meant("ghcr.io/acme/"), "ghcr.io/acme/");
    }

    #[test]
    fn a_server_covers_what_the_kubelet_would_pull_with_it() {
        let covers = |one, other| Server::parse(one).unwrap().covers(&Server::parse(other).unwrap());
        assert!(covers("ghcr.io", "ghcr.io/acme"));
        assert!(covers("ghcr.io/ac", "ghcr.io/acme"));
        assert!(covers("docker.io", "docker.io/acme"));
        assert!(covers("*.dkr.ecr.*.amazonaws.com", "1.dkr.ecr.eu.amazonaws.com/app"));
        assert!(!covers("*.io", "a.b.io"));
        assert!(!covers("ghcr.*", "ghcr.io:443"));
        assert!(!covers("ghcr.io/acme", "ghcr.io"));
        assert!(!covers("ghcr.io/acme/", "ghcr.io/acme"));
        assert!(!covers("ghcr.io", "ghcr.io:443"));
        assert!(!covers("docker.io", "registry-1.docker.io"));
    }
}
