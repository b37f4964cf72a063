//! Usable logins by server: merging, and the one rendering.

use std::collections::{BTreeMap, BTreeSet};

use zeroize::Zeroizing;

use crate::login::Login;
use crate::registry::Server;
use crate::secret_bytes::SecretBytes;

/// The most bytes that the data of a Secret may have (k8s.io/api/core/v1, `MaxSecretSize`).
pub const MAX_RENDERED_LEN: usize = 1024 * 1024;

/// One login for each server.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct DockerConfig {
    entries: BTreeMap<Server, Login>,
}

/// Several configurations as one.
pub struct Merged {
    /// Every entry; an earlier configuration wins.
    pub config: DockerConfig,
    /// Where a later configuration had a different login.
    pub conflicts: Vec<Conflict>,
}

/// Two configurations with different logins for one server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Conflict {
    /// The server.
    pub server: Server,
    /// Position of the configuration that counts, from 0.
    pub first: usize,
    /// Position of the one that does not.
    pub later: usize,
}

impl DockerConfig {
    /// One entry.
    pub fn single(server: Server, login: Login) -> Self {
        Self { entries: BTreeMap::from([(server, login)]) }
    }

    pub(crate) fn insert(&mut self, server: Server, login: Login) {
        self.entries.insert(server, login);
    }

    /// Gives a server that has an entry another login.
    pub fn replace(&mut self, server: &Server, login: Login) {
        if let Some(entry) = self.entries.get_mut(server) {
            *entry = login;
        }
    }

    /// Takes the entry of a server out.
    pub fn remove(&mut self, server: &Server) {
        self.entries.remove(server);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Only the entry for this server, if there is one.
    #[must_use]
    pub fn only(&self, server: &Server) -> Self {
        let entry = self.entries.get(server).cloned();
        Self { entries: entry.map(|login| (server.clone(), login)).into_iter().collect() }
    }

    /// The login for exactly this server.
    pub fn login(&self, server: &Server) -> Option<&Login> {
        self.entries.get(server)
    }

    /// The entries, by server.
    pub fn entries(&self) -> impl Iterator<Item = (&Server, &Login)> {
        self.entries.iter()
    }

    /// The servers, by the names that people know.
    pub fn servers(&self) -> BTreeSet<String> {
        self.entries.keys().map(ToString::to_string).collect()
    }

    /// `.dockerconfigjson`: sorted by server, so that equal credentials give equal bytes.
    pub fn render(&self) -> SecretBytes {
        // A server has no character that JSON escapes.
        let entry = |(server, login): (&Server, &Login)| {
            Zeroizing::new(format!("\"{}\":{}", server.written(), &*login.entry()))
        };
        let entries: Vec<_> = self.entries.iter().map(entry).collect();
        let entries: Vec<&str> = entries.iter().map(|entry| entry.as_str()).collect();
        let joined = Zeroizing::new(entries.join(","));
        SecretBytes::from([r#"{"auths":{"#, &joined, "}}"].concat().into_bytes())
    }
}

/// Joins configurations; an earlier one wins.
pub fn merge(configs: impl IntoIterator<Item = DockerConfig>) -> Merged {
    let mut merged = Merged { config: DockerConfig::default(), conflicts: Vec::new() };
    // By the name that people know: two keys mean Docker Hub.
    let mut earlier: BTreeMap<String, (usize, Vec<Login>)> = BTreeMap::new();
    for (position, config) in configs.into_iter().enumerate() {
        for (server, login) in config.entries {
            let (first, logins) = earlier.entry(server.to_string()).or_insert_with(|| (position, Vec::new()));
            if *first == position {
                logins.push(login.clone());
                merged.config.insert(server, login);
            } else if !logins.contains(&login) {
                merged.conflicts.push(Conflict { server, first: *first, later: position });
            }
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::WrittenConfig;

    fn server(text: &str) -> Server {
        Server::parse(text).unwrap()
    }

    fn single(name: &str, user: &str, password: &str) -> DockerConfig {
        DockerConfig::single(server(name), Login::new(user.as_bytes(), password.as_bytes()).unwrap())
    }

    fn rendered(config: &DockerConfig) -> String {
        String::from_utf8(config.render().expose().to_vec()).unwrap()
    }

    fn read(text: &str) -> DockerConfig {
        WrittenConfig::parse_dockerconfigjson(text.as_bytes()).and_then(WrittenConfig::whole).unwrap().config
    }

    #[test]
    fn an_entry_is_written_as_kubectl_does() {
        assert_eq!(
            rendered(&single("docker.io", "u", "p\"q")),
            r#"{"auths":{"https://index.docker.io/v1/":{"username":"u","password":"p\"q","auth":"dTpwInE="}}}"#
        );
    }

    #[test]
    fn an_earlier_configuration_wins_and_only_differences_are_conflicts() {
        let later = read(r#"{"auths":{"b.io":{"auth":"dTpw"},"c.io":{"auth":"dTpw"}}}"#);
        let merged =
            merge([single("a.io", "u", "p"), single("a.io", "v", "q"), single("b.io", "u", "p"), later]);
        assert_eq!(merged.conflicts, [Conflict { server: server("a.io"), first: 0, later: 1 }]);
        assert_eq!(merged.config.servers().into_iter().collect::<Vec<_>>(), ["a.io", "b.io", "c.io"]);
    }

    #[test]
    fn both_keys_of_docker_hub_are_one_server() {
        let both =
            read(r#"{"auths":{"docker.io":{"auth":"djpx"},"https://index.docker.io/v1/":{"auth":"djpx"}}}"#);
        assert_eq!(both.servers().len(), 1);
        let merged = merge([single("docker.io", "u", "p"), both]);
        assert!(merged.config == single("docker.io", "u", "p"));
        assert_eq!(merged.conflicts.len(), 2);
    }

    proptest! {
        #[test]
        fn what_is_rendered_reads_back(
            entries in prop::collection::btree_map("[a-z]{1,8}(\\.[a-z]{2,3}){1,2}(:[1-9][0-9]{0,3})?(/[a-z]{1,5})?", ("[^:\\p{C}]{1,12}", "\\P{C}{1,40}"), 1..5)
        ) {
            let configs = entries.iter().map(|(name, (user, password))| single(name, user, password));
            let config = merge(configs).config;
            prop_assert!(read(&rendered(&config)) == config);
        }
    }
}
