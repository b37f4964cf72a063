//! Which credentials an image gets, by the kubelet's own lenient rules: what it would try, in the
//! order in which it would, and which configurations stop a Pod.
//!
//! Kept equal to k8s.io/kubernetes (pkg/credentialprovider) by `tests/tests/keyring`, which asks
//! the kubelet's own code.

use std::collections::BTreeMap;

use crate::docker_hub;
use crate::json::{Fields, Json, WrongType};
use crate::login::Login;
use crate::registry::keyring_key;
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
                if let Some(key) = keyring_key(&server) {
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
            return self.by_key.get(docker_hub::DEFAULT_KEY).into_iter().flatten().collect();
        }
        found
    }
}

fn is_on_docker_hub(repository: &str) -> bool {
    match repository.split_once('/') {
        None => !repository.is_empty(),
        Some(("", _)) => false,
        Some((host, _)) => {
            [docker_hub::NAME, docker_hub::DEFAULT_KEY].contains(&host) || !host.contains(['.', ':'])
        }
    }
}

fn read(config: &[u8]) -> Result<Vec<(String, Login)>, Unreadable> {
    let json: Json = serde_json::from_slice(config).map_err(|_| Unreadable)?;
    let root = json.root().ok().filter(|root| root.headers_fit).ok_or(Unreadable)?;
    root.replaced.into_iter().try_for_each(|entry| login(entry).map(drop))?;
    root.auths.unwrap_or_default().into_iter().map(|(server, entry)| Ok((server, login(entry)?))).collect()
}

/// `auth` wins over the other two fields, unless it is empty.
fn login(entry: Json) -> Result<Login, Unreadable> {
    let Fields { username, password, auth } = entry.fields().map_err(|WrongType| Unreadable)?;
    if auth.is_empty() {
        return Ok(Login::unchecked(
            username.as_bytes().to_vec().into(),
            password.as_bytes().to_vec().into(),
        ));
    }
    Login::decode(&auth).ok_or(Unreadable)
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
