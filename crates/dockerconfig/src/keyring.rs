//! Which credentials an image gets, by the kubelet's own lenient rules: what it would try, in the
//! order in which it would, and which configurations stop a Pod.
//!
//! Kept equal to k8s.io/kubernetes (pkg/credentialprovider) by `tests/tests/keyring`, which asks
//! the kubelet's own code. Two corners of Go's JSON are left out: text that is not UTF-8, and lone
//! surrogates in escapes.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::docker_hub;
use crate::login::Login;
use crate::schemeless::Schemeless;

/// The logins of all pull Secrets of a Pod. Unlike elsewhere, user name and password may be empty.
#[derive(Clone, Default)]
pub struct Keyring {
    by_key: BTreeMap<String, Vec<Login>>,
}

/// A configuration that fails every pull of the Pod it belongs to. Does not quote it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the kubelet cannot read this configuration, and fails every pull of a Pod that has it")]
pub struct Unreadable;

impl Keyring {
    /// Reads the values of a Pod's pull Secrets, all of type `kubernetes.io/dockerconfigjson`.
    pub fn new<'a>(configs: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, Unreadable> {
        let mut keyring = Self::default();
        for config in configs.into_iter().filter(|config| !config.is_empty()) {
            for (server, login) in read(config)? {
                if let Some(key) = key(&server) {
                    keyring.by_key.entry(key).or_default().push(login);
                }
            }
        }
        Ok(keyring)
    }

    /// What the kubelet tries for a repository (see [`crate::repository_of`]), first to last. An
    /// empty answer: it pulls anonymously.
    pub fn lookup(&self, repository: &str) -> Vec<&Login> {
        let target = Schemeless::parse(repository);
        let is_match = |key: &str| {
            target.as_ref().zip(Schemeless::parse(key)).is_some_and(|(target, key)| key.matches(target))
        };
        let matching = self.by_key.iter().rev().filter(|(key, _)| is_match(key));
        let found: Vec<&Login> = matching.flat_map(|(_, logins)| logins).collect();
        if found.is_empty() && is_on_docker_hub(repository) {
            return self.by_key.get(docker_hub::DEFAULT_REGISTRY).into_iter().flatten().collect();
        }
        found
    }
}

/// Host and path of a server, without its scheme and without the version of its API.
fn key(server: &str) -> Option<String> {
    let bare = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://"));
    let Schemeless { host, path } = Schemeless::parse(bare.unwrap_or(server))?;
    let path = String::from_utf8_lossy(&path);
    let versioned = path.starts_with("/v1/") || path.starts_with("/v2/");
    let path = if versioned { &path[3..] } else { &path[..] };
    Some(if path == "/" { host } else { host + path })
}

fn is_on_docker_hub(repository: &str) -> bool {
    match repository.split_once('/') {
        None => !repository.is_empty(),
        Some(("", _)) => false,
        Some((host, _)) => {
            [docker_hub::NAME, docker_hub::DEFAULT_REGISTRY].contains(&host) || !host.contains(['.', ':'])
        }
    }
}

/// Entries in the order of the text. Of a server that is there twice, the last entry counts.
fn read(config: &[u8]) -> Result<Vec<(String, Login)>, Unreadable> {
    let root = serde_json::from_slice(config).map_err(|_| Unreadable)?;
    let mut logins: Vec<(String, Login)> = Vec::new();
    for (name, value) in members(root)? {
        if named(&name, "auths") {
            for (server, entry) in members(value)? {
                let login = login(entry)?;
                logins.retain(|(earlier, _)| *earlier != server);
                logins.push((server, login));
            }
        } else if named(&name, "HttpHeaders") {
            for (_, header) in members(value)? {
                text(header)?;
            }
        }
    }
    Ok(logins)
}

fn login(entry: Json) -> Result<Login, Unreadable> {
    let (mut username, mut password, mut auth) = (String::new(), String::new(), String::new());
    for (name, value) in members(entry)? {
        let mut ignored = String::new();
        let field = match () {
            () if named(&name, "username") => &mut username,
            () if named(&name, "password") => &mut password,
            () if named(&name, "auth") => &mut auth,
            () if named(&name, "email") => &mut ignored,
            () => continue,
        };
        if let Some(text) = text(value)? {
            *field = text;
        }
    }
    if auth.is_empty() {
        return Ok(Login::unchecked(username.into_bytes().into(), password.into_bytes().into()));
    }
    Login::decode(&auth).ok_or(Unreadable)
}

/// Go takes any case for the name of a field.
fn named(name: &str, field: &str) -> bool {
    name.eq_ignore_ascii_case(field)
}

/// `null` leaves a string as it is.
fn text(value: Json) -> Result<Option<String>, Unreadable> {
    match value {
        Json::Null => Ok(None),
        Json::Text(text) => Ok(Some(text)),
        Json::Object(_) | Json::Other => Err(Unreadable),
    }
}

/// `null` leaves an object as it is.
fn members(value: Json) -> Result<Vec<(String, Json)>, Unreadable> {
    match value {
        Json::Null => Ok(Vec::new()),
        Json::Object(members) => Ok(members),
        Json::Text(_) | Json::Other => Err(Unreadable),
    }
}

/// A value, of which only strings and objects are looked into. Members keep the order of the text, and
/// repeated ones stay.
enum Json {
    Null,
    Text(String),
    Object(Vec<(String, Json)>),
    Other,
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Json::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Json::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(configs: &[&str], repository: &str) -> Result<Vec<String>, Unreadable> {
        let keyring = Keyring::new(configs.iter().map(|config| config.as_bytes()))?;
        let shown = |login: &Login| {
            [login.username(), login.password()]
                .map(|b| String::from_utf8(b.expose().to_vec()).unwrap())
                .join("|")
        };
        Ok(keyring.lookup(repository).into_iter().map(shown).collect())
    }

    #[test]
    fn the_most_specific_key_is_tried_first_across_all_secrets() {
        let wide = r#"{"auths":{"ghcr.io":{"username":"wide","password":"p"}}}"#;
        let narrow = r#"{"auths":{"https://ghcr.io/acme":{"auth":"bmFycm93OnA6cQ=="}}}"#;
        assert_eq!(tried(&[wide, narrow], "ghcr.io/acme/app").unwrap(), ["narrow|p:q", "wide|p"]);
        assert_eq!(tried(&[wide, narrow], "ghcr.io/other/app").unwrap(), ["wide|p"]);
    }

    #[test]
    fn docker_hub_is_found_under_its_old_key() {
        let hub = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"}}}"#;
        assert_eq!(tried(&[hub], "docker.io/library/nginx").unwrap(), ["u|p"]);
        assert!(tried(&[hub], "ghcr.io/nginx").unwrap().is_empty());
    }

    #[test]
    fn one_undecodable_entry_spoils_all_and_an_empty_one_still_matches() {
        assert_eq!(tried(&[r#"{"auths":{"a.io":{"auth":"!"},"b.io":{}}}"#], "b.io/x"), Err(Unreadable));
        assert_eq!(tried(&[r#"{"auths":{"b.io":{"identitytoken":"t"}}}"#], "b.io/x").unwrap(), ["|"]);
        assert!(tried(&["{}", "", "null"], "b.io/x").unwrap().is_empty());
    }
}
