//! A Secret of the source namespace, read by its type, as people make them.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use regcred_api::{SecretRef, names};
use regcred_dockerconfig::{ConfigError, Login, SecretBytes, Server, Whole, WrittenConfig};

use crate::{SourceError, end};

/// Types of Secrets that Kubernetes defines for credentials (k8s.io/api/core/v1/types.go), with
/// the keys it prescribes for them.
const DOCKERCFG: &str = "kubernetes.io/dockercfg";
const DOCKERCFG_KEY: &str = ".dockercfg";
const BASIC_AUTH: &str = "kubernetes.io/basic-auth";
const BASIC_AUTH_KEYS: (&str, &str) = ("username", "password");

const OPAQUE: &str = "Opaque";

type Parse = fn(&[u8]) -> Result<WrittenConfig, ConfigError>;

/// A Secret, with content that cannot be printed. Whoever may write RegistryCredentials names it, so only what is meant
/// to be handed out is given: a type made for registries, or one that somebody labelled.
pub struct SourceSecret {
    /// Its type.
    pub kind: String,
    /// Of its UID and data: another version is another credential.
    pub version: String,
    /// It has the label that makes a Secret of type Opaque a source.
    pub labelled: bool,
    /// The end of its credential, as its annotation has it.
    pub expires_at: Option<String>,
    /// What it is made for, where that is something else.
    pub purpose: Option<Purpose>,
    /// Its data, decoded from base64.
    pub data: BTreeMap<String, SecretBytes>,
}

/// What a Secret is made for that is no source, whatever its type. Its text says so of the Secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// It carries regcred's own marks.
    Copy,
    /// It belongs to a ServiceAccount, and holds a token of it.
    ServiceAccount,
    /// It holds keys with which a cloud is asked for tokens.
    Identity,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Copy => "is a copy, by regcred's marks on it",
            Self::ServiceAccount => "holds a token of a ServiceAccount",
            Self::Identity => "holds keys of an identity, by its label",
        })
    }
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
        self.check(name)?;
        if let Some((key, parse)) = self.docker_config() {
            let config = parse(self.value(name, key)?.expose()).map_err(|error| invalid(name, key, error))?;
            return config.login_for(server).map_err(|error| invalid(name, key, error));
        }
        let keys = match (&reference.username_key, &reference.password_key) {
            _ if self.kind == BASIC_AUTH => BASIC_AUTH_KEYS,
            (Some(username), Some(password)) => (username.as_str(), password.as_str()),
            _ => {
                return Err(SourceError::KeysNotNamed { secret: name.clone() });
            }
        };
        let (username, password) = (self.value(name, keys.0)?, self.value(name, keys.1)?);
        Login::new(username.expose(), password.expose()).map_err(|error| SourceError::Unusable {
            secret: name.clone(),
            keys: (keys.0.to_owned(), keys.1.to_owned()),
            error,
        })
    }

    /// When this credential of it expires, as far as anybody says so: the annotation, a key, or the token itself.
    pub fn end(&self, login: &Login) -> Option<Timestamp> {
        let keyed = end::KEYS.iter().filter_map(|key| self.data.get(*key));
        let keyed = keyed.filter_map(|value| end::time(std::str::from_utf8(value.expose()).ok()?));
        let written = self.expires_at.as_deref().and_then(end::time);
        keyed.chain(written).chain(end::of_token(login.password())).min()
    }

    /// Whether its annotation says an end that is no time.
    pub fn has_odd_end(&self) -> bool {
        self.expires_at.as_deref().is_some_and(|text| end::time(text).is_none())
    }

    /// All entries of a docker configuration.
    pub fn whole(&self, name: &str) -> Result<Whole, SourceError> {
        let Some((key, parse)) = self.docker_config() else {
            return Err(SourceError::NotADockerConfig { secret: name.to_owned(), kind: self.kind.clone() });
        };
        self.check(name)?;
        let config = parse(self.value(name, key)?.expose());
        config.and_then(WrittenConfig::whole).map_err(|error| invalid(name, key, error))
    }

    /// Whether it may be handed out. Every reader of its data asks first.
    fn check(&self, name: &str) -> Result<(), SourceError> {
        let secret = name.to_owned();
        if let Some(purpose) = self.purpose {
            return Err(SourceError::MadeForAnother { secret, purpose });
        }
        match self.kind.as_str() {
            names::SECRET_TYPE | DOCKERCFG | BASIC_AUTH => Ok(()),
            OPAQUE if name == names::FINGERPRINT_KEY_SECRET => Err(SourceError::FingerprintKey),
            OPAQUE if self.labelled => Ok(()),
            OPAQUE => Err(SourceError::NotLabelled { secret }),
            _ => Err(SourceError::NoSourceType { secret, kind: self.kind.clone() }),
        }
    }

    /// Where its docker configuration is, and how it is read.
    fn docker_config(&self) -> Option<(&'static str, Parse)> {
        match self.kind.as_str() {
            names::SECRET_TYPE => Some((names::SECRET_KEY, WrittenConfig::parse_dockerconfigjson)),
            DOCKERCFG => Some((DOCKERCFG_KEY, WrittenConfig::parse_dockercfg)),
            _ => None,
        }
    }

    fn value(&self, name: &str, key: &str) -> Result<&SecretBytes, SourceError> {
        let missing = || SourceError::KeyMissing { secret: name.to_owned(), key: key.to_owned() };
        self.data.get(key).ok_or_else(missing)
    }
}

fn invalid(name: &str, key: &'static str, error: ConfigError) -> SourceError {
    SourceError::Invalid { secret: name.to_owned(), key, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: (&str, &str) = (names::SECRET_TYPE, names::SECRET_KEY);
    const AUTHS: &str =
        r#"{"auths":{"ghcr.io":{"username":"u","password":"p"},"docker.io":{"auth":"aDpw"}}}"#;

    fn secret(kind: &str, data: &[(&str, &str)]) -> SourceSecret {
        let data =
            data.iter().map(|(key, value)| ((*key).to_owned(), SecretBytes::from(value.as_bytes().to_vec())));
        SourceSecret {
            kind: kind.to_owned(),
            version: "u/1".to_owned(),
            labelled: true,
            expires_at: None,
            purpose: None,
            data: data.collect(),
        }
    }

    fn reference(keys: Option<(&str, &str)>) -> SecretRef {
        SecretRef {
            name: "bot".to_owned(),
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
            (secret(JSON.0, &[(JSON.1, AUTHS)]), None, "ghcr.io/acme"),
            (secret(DOCKERCFG, &[(DOCKERCFG_KEY, r#"{"ghcr.io":{"auth":"dTpw"}}"#)]), None, "ghcr.io"),
            (secret(DOCKERCFG, &[(DOCKERCFG_KEY, AUTHS)]), None, "ghcr.io"),
            (secret(BASIC_AUTH, &basic), None, "ghcr.io"),
            (secret("Opaque", &own), Some(("user", "token")), "ghcr.io"),
        ] {
            assert_eq!(given(&secret, keys, server).as_deref(), Ok("u:p"), "{}", secret.kind);
        }
    }

    #[test]
    fn what_is_made_for_something_else_is_never_read() {
        let basic = [("username", "u"), ("password", "p")];
        let keys = Some(("username", "password"));
        let made_for = |kind, purpose| SourceSecret { purpose: Some(purpose), ..secret(kind, &basic) };
        let unlabelled = SourceSecret { labelled: false, ..secret(OPAQUE, &basic) };
        for (secret, says) in [
            (made_for(OPAQUE, Purpose::Identity), "keys of an identity"),
            (unlabelled, "label it if it may be handed out"),
            (secret("kubernetes.io/tls", &basic), "is of type kubernetes.io/tls"),
            (secret("helm.sh/release.v1", &basic), "is of type helm.sh/release.v1"),
            (secret("kubernetes.io/service-account-token", &basic), "service-account-token"),
            (secret("example.com/own", &basic), "is of type example.com/own"),
            (made_for(BASIC_AUTH, Purpose::Copy), "is a copy"),
            (made_for(OPAQUE, Purpose::Copy), "is a copy"),
            (made_for(DOCKERCFG, Purpose::ServiceAccount), "a token of a ServiceAccount"),
        ] {
            let error = given(&secret, keys, "ghcr.io").unwrap_err();
            assert!(error.contains("Secret bot ") && error.contains(says), "{error}");
        }
        let server = Server::parse("ghcr.io").unwrap();
        let key = SecretRef { name: names::FINGERPRINT_KEY_SECRET.to_owned(), ..reference(keys) };
        assert_eq!(secret(OPAQUE, &basic).credential(&key, &server).err(), Some(SourceError::FingerprintKey));
        for purpose in [Purpose::Copy, Purpose::ServiceAccount, Purpose::Identity] {
            let whole =
                SourceSecret { purpose: Some(purpose), ..secret(JSON.0, &[(JSON.1, AUTHS)]) }.whole("bot");
            assert!(matches!(whole.err(), Some(SourceError::MadeForAnother { .. })), "{purpose:?}");
        }
    }

    #[test]
    fn the_earliest_end_that_anybody_says_counts() {
        let login = Login::new(b"u", b"p").unwrap();
        let basic = [("username", "u"), ("password", "p"), ("expires_at", "2027-03-01"), ("expiry", "never")];
        let end = |secret: SourceSecret| secret.end(&login).map(|at| at.to_string());
        assert_eq!(end(secret(BASIC_AUTH, &basic[..2])), None);
        assert_eq!(end(secret(BASIC_AUTH, &basic)).as_deref(), Some("2027-03-01T00:00:00Z"));
        let annotated =
            |text: &str| SourceSecret { expires_at: Some(text.to_owned()), ..secret(BASIC_AUTH, &basic) };
        assert_eq!(end(annotated("2027-02-01")).as_deref(), Some("2027-02-01T00:00:00Z"));
        assert!(annotated("soon").has_odd_end() && !annotated("2027-02-01").has_odd_end());
    }

    #[test]
    fn what_editors_and_shells_leave_around_a_value_is_no_part_of_it() {
        for (before, after) in
            [("", "\n"), ("", "\r\n"), ("", "\n\n"), ("\u{feff}", ""), ("\u{feff}", "\r\n")]
        {
            let around = |text: &str| format!("{before}{text}{after}");
            let (user, password) = (around("u"), around("p"));
            let config = serde_json_text(&user, &password);
            for (secret, keys) in [
                (secret(BASIC_AUTH, &[("username", &user), ("password", &password)]), None),
                (secret("Opaque", &[("user", &user), ("token", &password)]), Some(("user", "token"))),
                (secret(JSON.0, &[(JSON.1, &around(&config))]), None),
                (secret(DOCKERCFG, &[(DOCKERCFG_KEY, &around(&config))]), None),
            ] {
                assert_eq!(
                    given(&secret, keys, "ghcr.io").as_deref(),
                    Ok("u:p"),
                    "{} {after:?}",
                    secret.kind
                );
            }
        }
    }

    fn serde_json_text(user: &str, password: &str) -> String {
        let escaped = |text: &str| text.replace('\n', "\\n").replace('\r', "\\r");
        format!(
            r#"{{"auths":{{"ghcr.io":{{"username":"{}","password":"{}"}}}}}}"#,
            escaped(user),
            escaped(password)
        )
    }

    /// Every message, with what it must say: what is wrong, where, and what to do. `regcred-dockerconfig` has a table of
    /// what is wrong inside a configuration.
    #[test]
    fn every_message_says_what_where_and_what_to_do_and_quotes_nothing() {
        let hidden = "hunter2hunter2";
        let broken = format!(r#"{{"auths":{{"ghcr.io":{{"auth":"{hidden}!"}}}}}}"#);
        let own = Some(("user", "token"));
        for (secret, keys, says) in [
            (
                secret("Opaque", &[("user", hidden)]),
                None,
                ["is of type Opaque", "Secret bot", "name its keys"],
            ),
            (secret("Opaque", &[("user", hidden)]), own, ["has no key token", "Secret bot", "add it"]),
            (
                secret(BASIC_AUTH, &[("password", hidden)]),
                None,
                ["has no key username", "Secret bot", "add it"],
            ),
            (secret(JSON.0, &[]), None, ["has no key .dockerconfigjson", "Secret bot", "add it"]),
            (
                secret(BASIC_AUTH, &[("username", ""), ("password", hidden)]),
                None,
                ["user name is empty", "Secret bot, keys username and password", "give one"],
            ),
            (
                secret("Opaque", &[("user", hidden), ("token", "\n")]),
                own,
                ["password is empty", "Secret bot, keys user and token", "give the password"],
            ),
            (
                secret(BASIC_AUTH, &[("username", "a:b"), ("password", hidden)]),
                None,
                ["has a colon", "Secret bot, keys username and password", "without one"],
            ),
            (
                secret(JSON.0, &[(JSON.1, hidden)]),
                None,
                ["not JSON", "Secret bot, key .dockerconfigjson: ", "kubectl create secret"],
            ),
            (
                secret(JSON.0, &[(JSON.1, &broken)]),
                None,
                [
                    "`auth` is not base64",
                    "Secret bot, key .dockerconfigjson: ghcr.io: ",
                    "kubectl create secret",
                ],
            ),
            (
                secret(DOCKERCFG, &[(DOCKERCFG_KEY, r#"{"quay.io":{"auth":"dTpw"}}"#)]),
                None,
                ["no entry for ghcr.io", "Secret bot, key .dockercfg: ", "add one"],
            ),
        ] {
            let error = given(&secret, keys, "ghcr.io").unwrap_err();
            assert!(says.iter().all(|part| error.contains(part)), "{error}");
            assert!(!error.contains(hidden), "{error}");
        }
        let error = secret("Opaque", &[("user", hidden)]).whole("bot").err().unwrap().to_string();
        assert!(error.contains("Secret bot is of type Opaque; give dockerConfigSecretRefs"), "{error}");
    }
}
