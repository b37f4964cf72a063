//! Docker configurations: strict parsing of what people wrote, merging, and the one rendering.
//!
//! Strict, because one undecodable entry in any pull Secret of a Pod fails all its pulls
//! (k8s.io/kubernetes, pkg/credentialprovider/secrets), and an entry without a credential is worse
//! than none: anonymous pulls are tried only where nothing matches.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::login::{Login, LoginError};
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
    /// Servers for which a later configuration had a different login.
    pub conflicts: Vec<Server>,
}

/// What is wrong with a configuration. Names servers; never quotes content.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// It opens with a byte order mark, which the API server and the kubelet take for no JSON.
    #[error("it opens with a byte order mark; save it as UTF-8 without one")]
    ByteOrderMark,
    /// Not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// Not JSON.
    #[error("it is not JSON (line {line}, column {column})")]
    NotJson {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// No object under `auths`.
    #[error("it has no object `auths`; make it with `kubectl create secret docker-registry`")]
    NoAuths,
    /// `auths` is empty.
    #[error("`auths` is empty; add an entry for a server")]
    Empty,
    /// A key is no server. It is not quoted: it may hold a password.
    #[error("key {position} of `auths`, in alphabetical order, is no server; write host[:port][/path]")]
    NotAServer {
        /// Position among the sorted keys, from 1.
        position: usize,
    },
    /// A field has the wrong type.
    #[error("{server}: the entry or one of its fields has the wrong JSON type; all fields are strings")]
    WrongType {
        /// The server.
        server: Server,
    },
    /// `auth` cannot be decoded.
    #[error("{server}: `auth` is not base64 of user:password in UTF-8")]
    Undecodable {
        /// The server.
        server: Server,
    },
    /// No user and password.
    #[error(
        "{server}: no user and password; an identitytoken or a credential helper does not work in a cluster"
    )]
    NoCredential {
        /// The server.
        server: Server,
    },
    /// Two keys that mean one server.
    #[error("{server}: two keys mean this server and have different credentials; leave one")]
    Ambiguous {
        /// The server.
        server: Server,
    },
    /// A user name or password that cannot be used.
    #[error("{0}")]
    Unusable(#[from] LoginError),
}

impl DockerConfig {
    /// One entry.
    pub fn single(server: Server, login: Login) -> Self {
        Self { entries: BTreeMap::from([(server, login)]) }
    }

    /// Reads the value of a Secret of type `kubernetes.io/dockerconfigjson`.
    pub fn parse_dockerconfigjson(bytes: &[u8]) -> Result<Self, ConfigError> {
        let mut root = parse_json(bytes)?;
        match root.get_mut("auths").map(Value::take) {
            Some(Value::Object(auths)) => Self::from_entries(auths),
            _ => Err(ConfigError::NoAuths),
        }
    }

    /// Reads the value of a Secret of type `kubernetes.io/dockercfg`: the entries without `auths`.
    pub fn parse_dockercfg(bytes: &[u8]) -> Result<Self, ConfigError> {
        match parse_json(bytes)? {
            Value::Object(entries) => Self::from_entries(entries),
            _ => Err(ConfigError::Empty),
        }
    }

    fn from_entries(auths: Map<String, Value>) -> Result<Self, ConfigError> {
        let mut entries: BTreeMap<Server, Login> = BTreeMap::new();
        for (position, (key, entry)) in (1..).zip(auths) {
            let server = Server::parse(&key).map_err(|_| ConfigError::NotAServer { position })?;
            let login = login(&server, entry)?;
            match entries.get(&server) {
                Some(other) if *other != login => return Err(ConfigError::Ambiguous { server }),
                _ => entries.insert(server, login),
            };
        }
        if entries.is_empty() { Err(ConfigError::Empty) } else { Ok(Self { entries }) }
    }

    /// The login for a server: its own, or else that of the entry which covers it most closely.
    pub fn best_match(&self, server: &Server) -> Option<&Login> {
        self.entries.get(server).or_else(|| {
            let covering = self.entries.iter().filter(|(entry, _)| entry.covers(server));
            covering.max_by_key(|(entry, _)| entry.specificity()).map(|(_, login)| login)
        })
    }

    /// Only the entry for this server, if there is one.
    #[must_use]
    pub fn only(&self, server: &Server) -> Self {
        let entry = self.entries.get(server).cloned();
        Self { entries: entry.map(|login| (server.clone(), login)).into_iter().collect() }
    }

    /// The servers, sorted.
    pub fn servers(&self) -> impl Iterator<Item = &Server> {
        self.entries.keys()
    }

    /// `.dockerconfigjson`: sorted by key, so that equal credentials give equal bytes; `auth` alone,
    /// which every reader takes and which wins over the fields it would repeat.
    pub fn render(&self) -> SecretBytes {
        let mut by_key: Vec<_> =
            self.entries.iter().map(|(server, login)| (server.key(), login.encode())).collect();
        by_key.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut json = Vec::with_capacity(self.rendered_len());
        json.extend_from_slice(PROLOGUE);
        for (number, (key, auth)) in by_key.iter().enumerate() {
            if number > 0 {
                json.push(b',');
            }
            // Neither a server nor base64 has a character that JSON escapes.
            for part in ["\"", key, ENTRY_HEAD, auth, ENTRY_TAIL] {
                json.extend_from_slice(part.as_bytes());
            }
        }
        json.extend_from_slice(EPILOGUE);
        SecretBytes::from(json)
    }

    /// The length of what [`Self::render`] gives, in bytes.
    pub fn rendered_len(&self) -> usize {
        let entry = |(server, login): (&Server, &Login)| {
            "\"".len() + server.key().len() + ENTRY_HEAD.len() + login.encoded_len() + ENTRY_TAIL.len()
        };
        let commas = self.entries.len().saturating_sub(1);
        PROLOGUE.len() + self.entries.iter().map(entry).sum::<usize>() + commas + EPILOGUE.len()
    }
}

const PROLOGUE: &[u8] = br#"{"auths":{"#;
const ENTRY_HEAD: &str = r#"":{"auth":""#;
const ENTRY_TAIL: &str = r#""}"#;
const EPILOGUE: &[u8] = b"}}";

/// Joins configurations; an earlier one wins.
pub fn merge(configs: impl IntoIterator<Item = DockerConfig>) -> Merged {
    let mut merged = Merged { config: DockerConfig::default(), conflicts: Vec::new() };
    for (server, login) in configs.into_iter().flat_map(|config| config.entries) {
        match merged.config.entries.get(&server) {
            None => {
                merged.config.entries.insert(server, login);
            }
            Some(earlier) if *earlier != login => merged.conflicts.push(server),
            Some(_) => {}
        }
    }
    merged
}

fn parse_json(bytes: &[u8]) -> Result<Value, ConfigError> {
    if bytes.starts_with("\u{feff}".as_bytes()) {
        return Err(ConfigError::ByteOrderMark);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| ConfigError::NotUtf8)?;
    // The error's own text may quote content.
    serde_json::from_str(text)
        .map_err(|error| ConfigError::NotJson { line: error.line(), column: error.column() })
}

/// `auth` wins over `username` and `password`, unless it is empty, as for the kubelet
/// (k8s.io/kubernetes, pkg/credentialprovider/config.go).
fn login(server: &Server, entry: Value) -> Result<Login, ConfigError> {
    let wrong_type = || ConfigError::WrongType { server: server.clone() };
    let undecodable = || ConfigError::Undecodable { server: server.clone() };
    let Value::Object(mut fields) = entry else { return Err(wrong_type()) };
    let mut field = |name: &str| match fields.remove(name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(wrong_type()),
    };
    let (username, password) = (field("username")?.into_bytes(), field("password")?.into_bytes());
    let (_email, auth) = (field("email")?, Zeroizing::new(field("auth")?));
    let login = if auth.is_empty() {
        Login::unchecked(username.into(), password.into())
    } else {
        Login::decode(&auth).ok_or_else(undecodable)?
    };
    login.checked().map_err(|error| match error {
        LoginError::NoUsername | LoginError::NoPassword => {
            ConfigError::NoCredential { server: server.clone() }
        }
        LoginError::ColonInUsername | LoginError::ControlCharacter | LoginError::NotUtf8 => undecodable(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HIDDEN: &str = "hunter2hunter2";

    fn bytes(text: &str) -> SecretBytes {
        SecretBytes::from(text.as_bytes().to_vec())
    }

    fn server(text: &str) -> Server {
        Server::parse(text).unwrap()
    }

    fn single(name: &str, user: &str, password: &str) -> DockerConfig {
        DockerConfig::single(server(name), Login::new(bytes(user), bytes(password)).unwrap())
    }

    fn parse(text: &str) -> Result<DockerConfig, ConfigError> {
        DockerConfig::parse_dockerconfigjson(text.as_bytes())
    }

    fn rendered(config: &DockerConfig) -> String {
        String::from_utf8(config.render().expose().to_vec()).unwrap()
    }

    #[test]
    fn configurations_are_taken_as_people_make_them() {
        let wanted = single("docker.io", "u", "p:q");
        for text in [
            r#"{"auths":{"https://index.docker.io/v1/":{"username":"u","password":"p:q","email":"e","auth":"dTpwOnE="}}}"#,
            r#"{"auths":{"docker.io":{"username":"u","password":"p:q","email":"e"}}}"#,
            r#"{"auths":{"index.docker.io":{"auth":"dTpwOnE"}},"credHelpers":{"x":"y"},"HttpHeaders":{"a":"b"}}"#,
            r#"{"auths":{"registry-1.docker.io":{"auth":"","username":"u","password":"p:q"}}}"#,
            r#"{"auths":{"docker.io":{"auth":"dTpwOnE="},"index.docker.io":{"auth":"dTpwOnE="}}}"#,
            "{\"auths\":{\"docker.io\":{\"auth\":\"dTpw\\nOnE=\"}}}",
        ] {
            assert!(parse(text).is_ok_and(|config| config == wanted), "{text}");
        }
        assert_eq!(rendered(&wanted), r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpwOnE="}}}"#);
        let legacy = DockerConfig::parse_dockercfg(br#"{"docker.io":{"auth":"dTpwOnE="}}"#);
        assert!(legacy.is_ok_and(|config| config == wanted));
    }

    #[test]
    fn what_would_stop_a_pod_is_refused_with_its_server_and_nothing_else() {
        let entry = |entry: String| format!(r#"{{"auths":{{"ghcr.io":{entry}}}}}"#);
        for (text, why) in [
            (HIDDEN.to_owned(), "not JSON (line 1, column 1)"),
            (format!("\u{feff}{{\"auths\":\"{HIDDEN}\"}}"), "byte order mark"),
            (format!(r#"{{"auth":"{HIDDEN}"}}"#), "no object `auths`"),
            (format!(r#"{{"auths":"{HIDDEN}"}}"#), "no object `auths`"),
            (r#"{"auths":{}}"#.to_owned(), "`auths` is empty"),
            (format!(r#"{{"auths":{{"u:{HIDDEN}@ghcr.io":{{}}}}}}"#), "key 1 of `auths`"),
            (entry(format!(r#"{{"auth":"{HIDDEN}!"}}"#)), "ghcr.io: `auth`"),
            (entry(r#"{"auth":"bm9jb2xvbg=="}"#.to_owned()), "ghcr.io: `auth`"),
            (entry(r#"{"auth":"dTr/"}"#.to_owned()), "ghcr.io: `auth`"),
            (entry(format!(r#"{{"auth":["{HIDDEN}"]}}"#)), "wrong JSON type"),
            (entry(format!(r#""{HIDDEN}""#)), "wrong JSON type"),
            (entry(format!(r#"{{"identitytoken":"{HIDDEN}"}}"#)), "no user and password"),
            (entry("{}".to_owned()), "no user and password"),
            (
                r#"{"auths":{"docker.io":{"auth":"dTpw"},"index.docker.io":{"auth":"djpx"}}}"#.to_owned(),
                "two keys",
            ),
        ] {
            let error = parse(&text).err().map(|error| format!("{error} {error:?}")).unwrap_or_default();
            assert!(error.contains(why), "{text}: {error}");
            assert!(!error.contains(HIDDEN), "{error}");
        }
        assert!(matches!(DockerConfig::parse_dockerconfigjson(b"{\"\xff\":1}"), Err(ConfigError::NotUtf8)));
    }

    #[test]
    fn an_earlier_configuration_wins_and_only_differences_are_conflicts() {
        let configs = [
            single("a.io", "u", "p"),
            single("a.io", "v", "q"),
            single("b.io", "u", "p"),
            single("b.io", "u", "p"),
        ];
        let merged = merge(configs);
        assert_eq!(merged.conflicts, [server("a.io")]);
        assert_eq!(rendered(&merged.config), r#"{"auths":{"a.io":{"auth":"dTpw"},"b.io":{"auth":"dTpw"}}}"#);
    }

    #[test]
    fn the_entry_that_covers_a_server_most_closely_is_taken() {
        let config = merge([
            single("*.io", "glob", "p"),
            single("ghcr.io", "host", "p"),
            single("ghcr.io/acme", "path", "p"),
        ]);
        let user = |name| config.config.best_match(&server(name)).map(|c| c.username().expose().to_vec());
        assert_eq!(user("ghcr.io/acme/app").as_deref(), Some(&b"path"[..]));
        assert_eq!(user("ghcr.io").as_deref(), Some(&b"host"[..]));
        assert_eq!(user("quay.io").as_deref(), Some(&b"glob"[..]));
        assert_eq!(user("quay.com"), None);
    }

    proptest! {
        #[test]
        fn what_is_rendered_reads_back_and_is_as_long_as_told(
            entries in prop::collection::btree_map("[a-z]{1,8}(\\.[a-z]{2,3}){1,2}(:[1-9][0-9]{0,3})?(/[a-z]{1,5})?", ("[^:\\p{C}]{1,12}", "\\P{C}{1,40}"), 1..5)
        ) {
            let configs = entries.iter().map(|(name, (user, password))| single(name, user, password));
            let config = merge(configs).config;
            let text = rendered(&config);
            prop_assert_eq!(text.len(), config.rendered_len());
            prop_assert!(parse(&text).is_ok_and(|read| read == config));
        }
    }
}
