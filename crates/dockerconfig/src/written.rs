//! Docker configurations as people and tools write them: read by the kubelet's own rules, entry by entry, so that an odd
//! one stops nobody who asks for another.
//!
//! A copy must be stricter than its source: one undecodable entry in any pull Secret of a Pod fails all its pulls
//! (k8s.io/kubernetes, pkg/credentialprovider/secrets), and an entry without a credential is worse than none, as
//! anonymous pulls are tried only where nothing matches.

use std::collections::BTreeMap;
use std::fmt;

use crate::config::DockerConfig;
use crate::json::{Fields, Json, WrongType, is_field};
use crate::login::{BYTE_ORDER_MARK, Login, LoginError};
use crate::registry::Server;

/// How many other servers a message names.
const NAMED_IN_MESSAGE: usize = 3;

/// A configuration as somebody wrote it: each entry that may match an image, with its login or why it has none.
pub struct WrittenConfig {
    entries: BTreeMap<Server, Result<Login, ConfigError>>,
}

/// All logins of a configuration.
pub struct Whole {
    /// The entries.
    pub config: DockerConfig,
    /// Servers whose entries lack a user, a password or both.
    pub left_out: Vec<Server>,
}

/// What is wrong with a configuration. Names servers; never quotes content.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// Not UTF-8.
    #[error("it is not UTF-8; save it as UTF-8 and apply it again")]
    NotUtf8,
    /// Not JSON.
    #[error(
        "it is not JSON (line {line}, column {column}); make it with `kubectl create secret docker-registry`"
    )]
    NotJson {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// No object under `auths`.
    #[error("it has no object `auths`; make it with `kubectl create secret docker-registry`")]
    NoAuths,
    /// No entry names a registry.
    #[error("`auths` is empty or names no registry; add an entry for one, such as ghcr.io")]
    Empty,
    /// No entry serves the server.
    #[error("no entry for {server}{near}; add one, or take all entries over with dockerConfigSecretRefs")]
    NoEntry {
        /// The server.
        server: Server,
        /// Other entries of its host.
        near: Near,
    },
    /// A field has the wrong type.
    #[error(
        "{server}: the entry or one of its fields has the wrong JSON type; write an object whose fields are strings"
    )]
    WrongType {
        /// The server.
        server: Server,
    },
    /// `auth` cannot be decoded.
    #[error(
        "{server}: `auth` is not base64 of user:password; make it with `kubectl create secret docker-registry`"
    )]
    Undecodable {
        /// The server.
        server: Server,
    },
    /// No user, no password, or neither.
    #[error(
        "{server}: user, password or both are missing, and an identitytoken or a credential helper does not work in a cluster; give a user and an access token"
    )]
    NoCredential {
        /// The server.
        server: Server,
    },
    /// Two keys that mean one server.
    #[error("{server}: two keys mean this server and have different credentials; remove one")]
    Ambiguous {
        /// The server.
        server: Server,
    },
    /// A user name or password that no registry takes.
    #[error("{server}: {error}")]
    Unusable {
        /// The server.
        server: Server,
        /// What is wrong with it.
        error: LoginError,
    },
}

/// Servers of the host that was asked for, which an entry was perhaps meant for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Near(Vec<Server>);

impl fmt::Display for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        if names.is_empty() { Ok(()) } else { write!(f, ", only for {}", names.join(", ")) }
    }
}

impl WrittenConfig {
    /// Reads the value of a Secret of type `kubernetes.io/dockerconfigjson`.
    pub fn parse_dockerconfigjson(bytes: &[u8]) -> Result<Self, ConfigError> {
        let root = parse_json(bytes)?.root().map_err(|WrongType| ConfigError::NoAuths)?;
        Ok(Self::new(root.auths.ok_or(ConfigError::NoAuths)?))
    }

    /// Reads the value of a Secret of type `kubernetes.io/dockercfg`: the entries without `auths`. Many hold a
    /// `config.json` instead, which is read for what it is.
    pub fn parse_dockercfg(bytes: &[u8]) -> Result<Self, ConfigError> {
        let entries = parse_json(bytes)?.by_name().ok().flatten().ok_or(ConfigError::Empty)?;
        if entries.keys().any(|key| is_field(key, "auths")) {
            return Self::parse_dockerconfigjson(bytes);
        }
        Ok(Self::new(entries))
    }

    fn new(auths: BTreeMap<String, Json>) -> Self {
        let mut entries = BTreeMap::new();
        for (key, entry) in auths {
            let Some(server) = Server::of_key(&key) else { continue };
            let login = login(&server, entry);
            let login = match entries.remove(&server) {
                Some(earlier) => either(&server, earlier, login),
                None => login,
            };
            entries.insert(server, login);
        }
        Self { entries }
    }

    /// The login for a server: that of the entry which the kubelet tries first for every image under it, or else of one
    /// that means it in another spelling.
    pub fn login_for(&self, server: &Server) -> Result<Login, ConfigError> {
        let mut blank = None;
        for login in self.entries_for(server) {
            match login {
                Err(error @ ConfigError::NoCredential { .. }) => blank = blank.or(Some(error)),
                login => return login.clone(),
            }
        }
        Err(blank.cloned().unwrap_or_else(|| self.no_entry(server)))
    }

    fn entries_for<'a>(&'a self, server: &'a Server) -> impl Iterator<Item = &'a Result<Login, ConfigError>> {
        let meant = server.as_meant();
        let of_server = self.entries.iter().rev();
        let literal = of_server.clone().filter(|(entry, _)| !entry.is_default() && entry.covers(server));
        let default = of_server.clone().filter(|(entry, _)| entry.is_default() && entry.covers(server));
        let respelled = of_server.filter(move |(entry, _)| entry.as_meant().covers(&meant));
        literal.chain(default).chain(respelled).map(|(_, login)| login)
    }

    fn no_entry(&self, server: &Server) -> ConfigError {
        if self.entries.is_empty() {
            return ConfigError::Empty;
        }
        let near = self.entries.keys().filter(|entry| entry.shares_host_name(server));
        let near = Near(near.take(NAMED_IN_MESSAGE).cloned().collect());
        ConfigError::NoEntry { server: server.clone(), near }
    }

    /// All entries that serve images, for a copy that gives every image what this configuration gives.
    pub fn whole(self) -> Result<Whole, ConfigError> {
        let (mut config, mut left_out) = (DockerConfig::default(), Vec::new());
        for (server, login) in self.entries.into_iter().filter(|(server, _)| server.serves_images()) {
            match login {
                Ok(login) => config.insert(server, login),
                Err(ConfigError::NoCredential { server }) => left_out.push(server),
                Err(error) => return Err(error),
            }
        }
        if config.is_empty() {
            let first = left_out.into_iter().next();
            return Err(first.map_or(ConfigError::Empty, |server| ConfigError::NoCredential { server }));
        }
        Ok(Whole { config, left_out })
    }
}

/// Of two entries for one server, what counts: the kubelet tries both in no certain order.
fn either(
    server: &Server,
    one: Result<Login, ConfigError>,
    other: Result<Login, ConfigError>,
) -> Result<Login, ConfigError> {
    match (one, other) {
        (Err(ConfigError::NoCredential { .. }), login) | (login, Err(ConfigError::NoCredential { .. })) => {
            login
        }
        (Ok(one), Ok(other)) if one != other => Err(ConfigError::Ambiguous { server: server.clone() }),
        (Err(error), _) => Err(error),
        (Ok(_), other) => other,
    }
}

fn parse_json(bytes: &[u8]) -> Result<Json, ConfigError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ConfigError::NotUtf8)?;
    // The error's own text may quote content.
    serde_json::from_str(text.trim_start_matches(BYTE_ORDER_MARK))
        .map_err(|error| ConfigError::NotJson { line: error.line(), column: error.column() })
}

/// `auth` wins over `username` and `password`, unless it is empty, as for the kubelet
/// (k8s.io/kubernetes, pkg/credentialprovider/config.go).
fn login(server: &Server, entry: Json) -> Result<Login, ConfigError> {
    let wrong_type = |WrongType| ConfigError::WrongType { server: server.clone() };
    let Fields { username, password, auth } = entry.fields().map_err(wrong_type)?;
    let login = if auth.is_empty() {
        Login::new(username.as_bytes(), password.as_bytes())
    } else {
        let decoded =
            Login::decode(auth.trim_matches(|c: char| c == BYTE_ORDER_MARK || c.is_ascii_whitespace()));
        let decoded = decoded.ok_or_else(|| ConfigError::Undecodable { server: server.clone() })?;
        Login::new(decoded.username().expose(), decoded.password().expose())
    };
    login.map_err(|error| match error {
        LoginError::NoUsername | LoginError::NoPassword => {
            ConfigError::NoCredential { server: server.clone() }
        }
        error => ConfigError::Unusable { server: server.clone(), error },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIDDEN: &str = "hunter2hunter2";

    type Parse = fn(&[u8]) -> Result<WrittenConfig, ConfigError>;
    const JSON: Parse = WrittenConfig::parse_dockerconfigjson;
    const CFG: Parse = WrittenConfig::parse_dockercfg;

    fn shown(login: &Login) -> String {
        let text = |bytes: &crate::SecretBytes| String::from_utf8(bytes.expose().to_vec()).unwrap();
        format!("{}:{}", text(login.username()), text(login.password()))
    }

    fn login_for(parse: Parse, text: &str, server: &str) -> Result<String, ConfigError> {
        parse(text.as_bytes())?.login_for(&Server::parse(server).unwrap()).map(|login| shown(&login))
    }

    /// What the copy of a whole configuration holds, or the error's text.
    fn whole(parse: Parse, text: &str) -> Result<String, String> {
        let whole =
            parse(text.as_bytes()).and_then(WrittenConfig::whole).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(whole.config.render().expose().to_vec()).unwrap())
    }

    #[test]
    fn configurations_are_taken_as_people_make_them() {
        let bom = "\u{feff}";
        for (parse, text) in [
            (JSON, r#"{"auths":{"ghcr.io":{"username":"u","password":"p:q","email":"e","auth":"dTpwOnE="}}}"#.to_owned()),
            (JSON, r#"{"auths":{"ghcr.io":{"username":"u","password":"p:q","identitytoken":"t"}}}"#.to_owned()),
            (JSON, r#"{"auths":{"https://ghcr.io/v2/":{"auth":"dTpwOnE"}},"credHelpers":{"x":"y"},"HttpHeaders":{"a":1}}"#.to_owned()),
            (JSON, r#"{"AUTHS":{"GHCR.io":{"Auth":"","Username":"u","PASSWORD":"p:q"}}}"#.to_owned()),
            (JSON, r#"{"auths":{"ghcr.io":{"auth":"djpx"},"ghcr.io":{"auth":"dTpw","AUTH":"dTpwOnE="}}}"#.to_owned()),
            (JSON, r#"{"auths":{"ghcr.io":{},"https://ghcr.io":{"auth":"dTpwOnE="}}}"#.to_owned()),
            (JSON, r#"{"auths":{"*.io":{"auth":"djpx"},"user:pw@ghcr.io":{"auth":"dTpwOnE="}}}"#.to_owned()),
            (JSON, r#"{"auths":{"ghcr.io":{"auth":"dTpw\nOnEK\r\n"}}}"#.to_owned()),
            (JSON, format!(r#"{bom}{{"auths":{{"ghcr.io":{{"auth":"{bom}dTpwOnE="}}}}}}"#)),
            (JSON, format!(r#"{{"auths":{{"ghcr.io":{{"username":"{bom}u","password":"{bom}p:q\r\n\n"}}}}}}"#)),
            (JSON, r#"{"auths":{"https://index.docker.io/v1/":{},"":{},"oci://x":7,"ghcr.io/other":{"auth":"!"},"ghcr.io":{"auth":"dTpwOnE="}}}"#.to_owned()),
            (CFG, r#"{"ghcr.io":{"auth":"dTpwOnE="}}"#.to_owned()),
            (CFG, r#"{"Auths":{"ghcr.io":{"auth":"dTpwOnE="}},"credsStore":"x"}"#.to_owned()),
        ] {
            assert_eq!(login_for(parse, &text, "ghcr.io").as_deref(), Ok("u:p:q"), "{text}");
        }
    }

    #[test]
    fn a_server_of_docker_hub_takes_any_entry_for_docker_hub() {
        for key in
            ["docker.io", "https://index.docker.io/v1", "https://index.docker.io/v1/", "registry-1.docker.io"]
        {
            let text = format!(r#"{{"auths":{{"{key}":{{"auth":"dTpw"}}}}}}"#);
            for server in ["docker.io", "docker.io/acme", "registry.hub.docker.com"] {
                assert_eq!(login_for(JSON, &text, server).as_deref(), Ok("u:p"), "{key} for {server}");
            }
        }
    }

    #[test]
    fn of_the_keys_of_docker_hub_the_one_that_the_kubelet_finds_counts() {
        let index = r#""https://index.docker.io/v1/":{"auth":"aW5kZXg6cA=="}"#;
        for (other, user) in [("docker.io", "name:p"), ("registry-1.docker.io", "index:p")] {
            let text = format!(r#"{{"auths":{{"{other}":{{"auth":"bmFtZTpw"}},{index}}}}}"#);
            assert_eq!(login_for(JSON, &text, "docker.io").as_deref(), Ok(user), "{other}");
        }
    }

    #[test]
    fn the_entry_that_the_kubelet_tries_first_counts() {
        let text = r#"{"auths":{"*.io":{"auth":"Z2xvYjpw"},"ghcr.io":{"auth":"aG9zdDpw"},"ghcr.io/acme":{"auth":"cGF0aDpw"}}}"#;
        let user = |server| login_for(JSON, text, server);
        assert_eq!(user("ghcr.io/acme/app").as_deref(), Ok("path:p"));
        assert_eq!(user("ghcr.io").as_deref(), Ok("host:p"));
        assert_eq!(user("quay.io").as_deref(), Ok("glob:p"));
        assert!(user("quay.com").is_err());
    }

    #[test]
    fn a_whole_configuration_keeps_its_keys_and_leaves_out_what_serves_no_image() {
        let entry = r#"{"username":"u","password":"p","auth":"dTpw"}"#;
        for key in
            ["GHCR.IO", "docker.io", "ghcr.io/acme/", "registry-1.docker.io", "[::1]:5000", "ghcr.io/v1"]
        {
            let text = format!(
                r#"{{"auths":{{"{key}":{{"auth":"dTpw"}},"{key}/x":{{}},"oci://x":{{"auth":"!"}}}}}}"#
            );
            assert_eq!(whole(JSON, &text), Ok(format!(r#"{{"auths":{{"{key}":{entry}}}}}"#)), "{key}");
        }
        let browser = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},"https://index.docker.io/v1/access-token":{"auth":"!"},"https://index.docker.io/v1/refresh-token":{"auth":"dTpx"}}}"#;
        assert_eq!(
            whole(JSON, browser),
            Ok(format!(r#"{{"auths":{{"https://index.docker.io/v1/":{entry}}}}}"#))
        );
    }

    /// Asserts that a message says what is wrong, where, and what to do, and quotes nothing.
    fn refused(parse: Parse, text: &str, says: [&str; 3]) {
        let error = login_for(parse, text, "ghcr.io").unwrap_err();
        let message = error.to_string();
        assert!(says.iter().all(|part| message.contains(part)), "{text}: {message}");
        assert!(!format!("{message} {error:?}").contains(HIDDEN), "{error:?}");
    }

    #[test]
    fn every_message_about_a_file_says_what_where_and_what_to_do() {
        let no_auths = ["no object `auths`", "it has", "kubectl create secret"];
        let no_registry = ["is empty or names no registry", "`auths`", "add an entry"];
        for (parse, text, says) in [
            (JSON, HIDDEN, ["not JSON", "line 1, column 1", "kubectl create secret"]),
            (JSON, r#"{"auth":"hunter2hunter2"}"#, no_auths),
            (JSON, r#"{"auths":"hunter2hunter2"}"#, no_auths),
            (JSON, r#"["hunter2hunter2"]"#, no_auths),
            (JSON, r#"{"auths":{}}"#, no_registry),
            (JSON, r#"{"auths":{"oci://hunter2hunter2":{}}}"#, no_registry),
            (CFG, r#"["hunter2hunter2"]"#, no_registry),
            (
                JSON,
                r#"{"auths":{"ghcr.io:443":{},"quay.io":{}}}"#,
                ["no entry for ghcr.io", "only for ghcr.io:443;", "add one"],
            ),
        ] {
            refused(parse, text, says);
        }
        let error = WrittenConfig::parse_dockerconfigjson(b"{\"\xff\":1}").err();
        assert_eq!(error.unwrap().to_string(), "it is not UTF-8; save it as UTF-8 and apply it again");
    }

    #[test]
    fn every_message_about_an_entry_says_what_where_and_what_to_do() {
        let wrong_type = ["wrong JSON type", "ghcr.io:", "write an object"];
        let undecodable = ["`auth` is not base64 of user:password", "ghcr.io:", "kubectl create secret"];
        let blank = ["user, password or both are missing", "ghcr.io:", "give a user"];
        for (entry, says) in [
            (r#"{"auth":["hunter2hunter2"]}"#, wrong_type),
            (r#""hunter2hunter2""#, wrong_type),
            (r#"{"auth":"hunter2hunter2!"}"#, undecodable),
            (r#"{"auth":"bm9jb2xvbg=="}"#, undecodable),
            (r#"{"identitytoken":"hunter2hunter2"}"#, blank),
            ("{}", blank),
            (
                r#"{"auth":"dTpw"},"https://ghcr.io":{"auth":"djpx"}"#,
                ["two keys mean this server", "ghcr.io:", "remove one"],
            ),
            (
                r#"{"username":"a:b","password":"hunter2hunter2"}"#,
                ["has a colon", "ghcr.io: the user name", "give a user name without"],
            ),
            (
                r#"{"username":"u\u0007","password":"hunter2hunter2"}"#,
                ["control character", "ghcr.io: the user name", "write it again"],
            ),
            (
                r#"{"username":"u","password":"hunter2hunter2\ufeffx"}"#,
                ["byte order mark", "ghcr.io: the user name", "write it again"],
            ),
            (r#"{"auth":"dTr/"}"#, ["not UTF-8", "ghcr.io: the user name", "write it again"]),
        ] {
            refused(JSON, &format!(r#"{{"auths":{{"ghcr.io":{entry}}}}}"#), says);
        }
    }

    #[test]
    fn a_whole_configuration_is_refused_for_what_would_stop_a_pod() {
        let with = |entry: &str| format!(r#"{{"auths":{{"ghcr.io":{{"auth":"dTpw"}},"quay.io":{entry}}}}}"#);
        for (entry, why) in [
            (r#"{"auth":"!"}"#, "quay.io: `auth`"),
            ("7", "wrong JSON type"),
            (r#"{"username":"a:b","password":"p"}"#, "colon"),
        ] {
            let error = whole(JSON, &with(entry)).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let desktop = r#"{"auths":{"https://index.docker.io/v1/":{}},"credsStore":"desktop"}"#;
        assert!(
            whole(JSON, desktop).unwrap_err().starts_with("docker.io: user, password or both are missing")
        );
        let left_out =
            WrittenConfig::parse_dockerconfigjson(with("{}").as_bytes()).unwrap().whole().unwrap().left_out;
        assert_eq!(left_out, [Server::parse("quay.io").unwrap()]);
    }

    #[test]
    fn a_password_in_a_key_is_shown_nowhere() {
        for key in [format!("https://user:{HIDDEN}@ghcr.io"), format!("user:{HIDDEN}@ghcr.io/team")] {
            let odd = format!(r#"{{"auths":{{"{key}":{{"auth":"%"}},"quay.io":{{"auth":"dTpw"}}}}}}"#);
            let told =
                [whole(JSON, &odd), login_for(JSON, &odd, "ghcr.io").map_err(|error| error.to_string())];
            assert!(told.iter().all(|told| !format!("{told:?}").contains(HIDDEN)), "{told:?}");
        }
    }
}
