//! A Secret of the source namespace, read by its type, as people make them.

use std::collections::BTreeMap;
use std::fmt;

use regcred_api::spec::SecretRef;
use regcred_dockerconfig::{ConfigError, Credential, DockerConfig, SecretBytes, Server};

use crate::SourceError;

/// Types of Secrets that Kubernetes defines for credentials (k8s.io/api/core/v1/types.go), with
/// the keys it prescribes for them.
const DOCKER_CONFIG_JSON: (&str, &str) = ("kubernetes.io/dockerconfigjson", ".dockerconfigjson");
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
    pub fn credential(&self, reference: &SecretRef, server: &Server) -> Result<Credential, SourceError> {
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
        Credential::new(username, password).map_err(|error| invalid(name, error))
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
