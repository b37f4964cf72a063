//! A Secret of the source namespace, read by its type, as people make them.

use std::collections::BTreeMap;
use std::fmt;

use regcred_api::{SecretRef, names};
use regcred_dockerconfig::{ConfigError, DockerConfig, Login, SecretBytes, Server};

use crate::SourceError;

/// Types of Secrets that Kubernetes defines for credentials (k8s.io/api/core/v1/types.go), with
/// the keys it prescribes for them.
const DOCKER_CONFIG_JSON: (&str, &str) = (names::SECRET_TYPE, names::SECRET_KEY);
const DOCKERCFG: (&str, &str) = ("kubernetes.io/dockercfg", ".dockercfg");
const BASIC_AUTH: &str = "kubernetes.io/basic-auth";
const BASIC_AUTH_KEYS: (&str, &str) = ("username", "password");

/// A Secret, with content that cannot be printed.
pub struct SourceSecret {
    /// Its type.
    pub kind: String,
    /// Its data, decoded from base64.
    pub data: BTreeMap<String, SecretBytes>,
}

impl fmt::Debug for SourceSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceSecret of type {}", self.kind)
    }
}

impl SourceSecret {
    /// The credential for one server. `reference` says how to read a Secret whose type does not.
    pub fn credential(&self, reference: &SecretRef, server: &Server) -> Result<Login, SourceError> {
        let name = &reference.name;
        if self.is_docker_config() {
            let config = self.docker_config(name)?;
            let entry = config.best_match(server).cloned();
            return entry
                .ok_or_else(|| SourceError::NoEntry { secret: name.clone(), server: server.clone() });
        }
        let keys = match (&reference.username_key, &reference.password_key) {
            _ if self.kind == BASIC_AUTH => BASIC_AUTH_KEYS,
            (Some(username), Some(password)) => (username.as_str(), password.as_str()),
            _ => {
                return Err(SourceError::KeysNotNamed { secret: name.clone(), kind: self.kind.clone() });
            }
        };
        let (username, password) = (self.line(name, keys.0)?, self.line(name, keys.1)?);
        Login::new(username, password).map_err(|error| invalid(name, error.into()))
    }

    /// All entries of a docker configuration.
    pub fn docker_config(&self, name: &str) -> Result<DockerConfig, SourceError> {
        let parsed = if self.kind == DOCKER_CONFIG_JSON.0 {
            DockerConfig::parse_dockerconfigjson(self.value(name, DOCKER_CONFIG_JSON.1)?.expose())
        } else if self.kind == DOCKERCFG.0 {
            DockerConfig::parse_dockercfg(self.value(name, DOCKERCFG.1)?.expose())
        } else {
            return Err(SourceError::NotADockerConfig { secret: name.to_owned(), kind: self.kind.clone() });
        };
        parsed.map_err(|error| invalid(name, error))
    }

    fn is_docker_config(&self) -> bool {
        self.kind == DOCKER_CONFIG_JSON.0 || self.kind == DOCKERCFG.0
    }

    fn value(&self, name: &str, key: &str) -> Result<&SecretBytes, SourceError> {
        let missing = || SourceError::KeyMissing { secret: name.to_owned(), key: key.to_owned() };
        self.data.get(key).ok_or_else(missing)
    }

    /// A value without the newline that `kubectl create secret --from-file` and `echo` leave at its
    /// end: no user name and no token has one, and the kubelet would send it to the registry.
    fn line(&self, name: &str, key: &str) -> Result<SecretBytes, SourceError> {
        let value = self.value(name, key)?.expose();
        let line = value.strip_suffix(b"\n").unwrap_or(value);
        Ok(SecretBytes::from(line.strip_suffix(b"\r").unwrap_or(line).to_vec()))
    }
}

fn invalid(name: &str, error: ConfigError) -> SourceError {
    SourceError::Invalid { secret: name.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTHS: &str =
        r#"{"auths":{"ghcr.io":{"username":"u","password":"p"},"docker.io":{"auth":"aDpw"}}}"#;

    fn secret(kind: &str, data: &[(&str, &str)]) -> SourceSecret {
        let data =
            data.iter().map(|(key, value)| ((*key).to_owned(), SecretBytes::from(value.as_bytes().to_vec())));
        SourceSecret { kind: kind.to_owned(), data: data.collect() }
    }

    fn reference(keys: Option<(&str, &str)>) -> SecretRef {
        SecretRef {
            name: "s".to_owned(),
            username_key: keys.map(|keys| keys.0.to_owned()),
            password_key: keys.map(|keys| keys.1.to_owned()),
        }
    }

    /// What a Secret gives for a server, as `user:password`, or the error's text.
    fn given(secret: &SourceSecret, keys: Option<(&str, &str)>, server: &str) -> Result<String, String> {
        let server = Server::parse(server).unwrap();
        let credential = secret.credential(&reference(keys), &server).map_err(|error| error.to_string())?;
        let text = |bytes: &SecretBytes| String::from_utf8(bytes.expose().to_vec()).unwrap();
        Ok(format!("{}:{}", text(credential.username()), text(credential.password())))
    }

    #[test]
    fn each_type_is_read_in_its_own_way() {
        let basic = [("username", "u"), ("password", "p")];
        let own = [("user", "u"), ("token", "p")];
        for (secret, keys, server) in [
            (secret(DOCKER_CONFIG_JSON.0, &[(DOCKER_CONFIG_JSON.1, AUTHS)]), None, "ghcr.io/acme"),
            (secret(DOCKERCFG.0, &[(DOCKERCFG.1, r#"{"ghcr.io":{"auth":"dTpw"}}"#)]), None, "ghcr.io"),
            (secret(BASIC_AUTH, &basic), None, "ghcr.io"),
            (secret("Opaque", &own), Some(("user", "token")), "ghcr.io"),
            (secret("example.com/own", &own), Some(("user", "token")), "ghcr.io"),
        ] {
            assert_eq!(given(&secret, keys, server).as_deref(), Ok("u:p"), "{}", secret.kind);
        }
    }

    #[test]
    fn a_newline_at_the_end_is_no_part_of_a_password() {
        for tail in ["\n", "\r\n"] {
            let secret = secret(BASIC_AUTH, &[("username", "u"), ("password", &format!("p{tail}"))]);
            assert_eq!(given(&secret, None, "ghcr.io").as_deref(), Ok("u:p"));
        }
    }

    #[test]
    fn what_cannot_be_used_says_why_and_quotes_nothing() {
        let hidden = "hunter2hunter2";
        let broken = format!(r#"{{"auths":{{"ghcr.io":{{"auth":"{hidden}!"}}}}}}"#);
        for (secret, keys, why) in [
            (secret("Opaque", &[("user", hidden)]), None, "name its keys"),
            (secret("Opaque", &[("user", hidden)]), Some(("user", "token")), "no key token"),
            (secret(BASIC_AUTH, &[("password", hidden)]), None, "no key username"),
            (secret(BASIC_AUTH, &[("username", ""), ("password", hidden)]), None, "user name is empty"),
            (secret(BASIC_AUTH, &[("username", "a:b"), ("password", hidden)]), None, "colon"),
            (secret(DOCKER_CONFIG_JSON.0, &[]), None, "no key .dockerconfigjson"),
            (secret(DOCKER_CONFIG_JSON.0, &[(DOCKER_CONFIG_JSON.1, hidden)]), None, "not JSON"),
            (secret(DOCKER_CONFIG_JSON.0, &[(DOCKER_CONFIG_JSON.1, &broken)]), None, "ghcr.io: `auth`"),
            (secret(DOCKER_CONFIG_JSON.0, &[(DOCKER_CONFIG_JSON.1, AUTHS)]), None, "no entry for quay.io"),
        ] {
            let server = if why.contains("quay") { "quay.io" } else { "ghcr.io" };
            let error = given(&secret, keys, server).unwrap_err();
            assert!(error.contains(why), "{error}");
            assert!(!error.contains(hidden), "{error}");
        }
    }
}
