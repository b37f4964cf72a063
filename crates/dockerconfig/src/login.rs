//! A user name and a password, and the field `auth` that holds both: base64 of `user:password`.

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::secret_bytes::SecretBytes;

/// What editors put before a text to say that it is Unicode.
pub(crate) const BYTE_ORDER_MARK: char = '\u{feff}';

/// A user name and a password. Neither can be printed.
#[derive(Clone, Eq, PartialEq)]
pub struct Login {
    username: SecretBytes,
    password: SecretBytes,
}

/// Why no registry accepts a user name and a password.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LoginError {
    /// An empty user name.
    #[error("the user name is empty; give one, any where the registry asks for a token alone")]
    NoUsername,
    /// An empty password.
    #[error("the password is empty; give the password or an access token")]
    NoPassword,
    /// A colon in the user name, which would end it early.
    #[error("the user name has a colon, which would end it there; give a user name without one")]
    ColonInUsername,
    /// A control character, which no registry takes.
    #[error(
        "the user name or the password has a control character or a byte order mark inside it; write it again without"
    )]
    ControlCharacter,
    /// Not UTF-8, which JSON cannot hold.
    #[error("the user name or the password is not UTF-8; write it again as UTF-8")]
    NotUtf8,
}

impl Login {
    /// A login that a registry can accept, without what editors and shells leave around a value: a byte order mark
    /// before it, line breaks after it. The kubelet would send them to the registry.
    pub fn new(username: &[u8], password: &[u8]) -> Result<Self, LoginError> {
        Self::unchecked(bare(username).to_vec().into(), bare(password).to_vec().into()).checked()
    }

    /// A login as the kubelet takes it, which checks nothing.
    pub(crate) fn unchecked(username: SecretBytes, password: SecretBytes) -> Self {
        Self { username, password }
    }

    /// Reads the field `auth` as the kubelet does, and checks nothing more
    /// (k8s.io/kubernetes, pkg/credentialprovider/config.go). Only the first colon separates; Go's
    /// decoder skips line breaks and ignores what is left in the last bits.
    pub(crate) fn decode(auth: &str) -> Option<Self> {
        let padded = auth.trim().ends_with('=');
        let mode = if padded { DecodePaddingMode::RequireCanonical } else { DecodePaddingMode::RequireNone };
        let lenient =
            GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true).with_decode_padding_mode(mode);
        let unwrapped = Zeroizing::new(auth.replace(['\r', '\n'], ""));
        let mut username =
            GeneralPurpose::new(&alphabet::STANDARD, lenient).decode(unwrapped.as_bytes()).ok()?;
        let colon = username.iter().position(|byte| *byte == b':')?;
        let password = username.split_off(colon + 1);
        username.truncate(colon);
        Some(Self::unchecked(username.into(), password.into()))
    }

    /// Writes the field `auth`.
    fn encode(&self) -> Zeroizing<String> {
        let mut pair = Zeroizing::new(self.username.expose().to_vec());
        pair.push(b':');
        pair.extend_from_slice(self.password.expose());
        Zeroizing::new(STANDARD.encode(&*pair))
    }

    /// The entry of `auths`, as kubectl writes it: some readers take `auth`, some the other two fields.
    pub(crate) fn entry(&self) -> Zeroizing<String> {
        let quoted = |bytes: &SecretBytes| {
            Zeroizing::new(serde_json::to_string(text(bytes).unwrap_or_default()).unwrap_or_default())
        };
        let (username, password, auth) = (quoted(&self.username), quoted(&self.password), self.encode());
        let parts = ["{\"username\":", &username, ",\"password\":", &password, ",\"auth\":\"", &auth, "\"}"];
        Zeroizing::new(parts.concat())
    }

    /// The login itself, if a registry can accept it.
    fn checked(self) -> Result<Self, LoginError> {
        let (name, word) = (text(&self.username)?, text(&self.password)?);
        if name.is_empty() {
            return Err(LoginError::NoUsername);
        }
        if word.is_empty() {
            return Err(LoginError::NoPassword);
        }
        if name.contains(':') {
            return Err(LoginError::ColonInUsername);
        }
        // A JSON key file as password (`_json_key`) has newlines, and registries take it.
        let is_control = |c: char| c.is_control() || c == BYTE_ORDER_MARK;
        if name.contains(is_control) || word.contains(|c: char| is_control(c) && !c.is_whitespace()) {
            return Err(LoginError::ControlCharacter);
        }
        Ok(self)
    }

    /// The user name.
    pub fn username(&self) -> &SecretBytes {
        &self.username
    }

    /// The password.
    pub fn password(&self) -> &SecretBytes {
        &self.password
    }
}

fn text(bytes: &SecretBytes) -> Result<&str, LoginError> {
    std::str::from_utf8(bytes.expose()).map_err(|_| LoginError::NotUtf8)
}

fn bare(mut value: &[u8]) -> &[u8] {
    while let Some(rest) = value.strip_prefix("\u{feff}".as_bytes()) {
        value = rest;
    }
    while let Some(rest) = value.strip_suffix(b"\n").or_else(|| value.strip_suffix(b"\r")) {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_editors_and_shells_leave_around_a_value_goes() {
        let login = Login::new("\u{feff}\u{feff}user\r\n".as_bytes(), b"{\n  \"type\": 1\n}\n\n").unwrap();
        assert_eq!(login.username().expose(), b"user");
        assert_eq!(login.password().expose(), b"{\n  \"type\": 1\n}");
    }

    #[test]
    fn what_no_registry_takes_is_refused() {
        for (username, password, error) in [
            ("", "p", LoginError::NoUsername),
            ("\u{feff}\n", "p", LoginError::NoUsername),
            ("u", "\n", LoginError::NoPassword),
            ("a:b", "p", LoginError::ColonInUsername),
            ("a\nb", "p", LoginError::ControlCharacter),
            ("u", "p\u{feff}q", LoginError::ControlCharacter),
            ("u", "p\u{0}", LoginError::ControlCharacter),
        ] {
            assert_eq!(
                Login::new(username.as_bytes(), password.as_bytes()).err(),
                Some(error),
                "{username:?}"
            );
        }
        assert_eq!(Login::new(b"u", b"\xff").err(), Some(LoginError::NotUtf8));
    }
}
