//! A user name and a password, and the field `auth` that holds both: base64 of `user:password`.

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::secret_bytes::SecretBytes;

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
    #[error("the user name is empty")]
    NoUsername,
    /// An empty password.
    #[error("the password is empty")]
    NoPassword,
    /// A colon in the user name, which would end it early.
    #[error("the user name has a colon, which would end it there")]
    ColonInUsername,
    /// A control character, which no registry takes.
    #[error("the user name or the password has a control character, such as a newline inside it")]
    ControlCharacter,
    /// Not UTF-8, which JSON cannot hold.
    #[error("the user name or the password is not UTF-8")]
    NotUtf8,
}

impl Login {
    /// A login that a registry can accept.
    pub fn new(username: SecretBytes, password: SecretBytes) -> Result<Self, LoginError> {
        Self::unchecked(username, password).checked()
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
    pub(crate) fn encode(&self) -> Zeroizing<String> {
        let mut pair = Zeroizing::new(self.username.expose().to_vec());
        pair.push(b':');
        pair.extend_from_slice(self.password.expose());
        Zeroizing::new(STANDARD.encode(&*pair))
    }

    /// The length of what [`Self::encode`] gives, in bytes.
    pub(crate) fn encoded_len(&self) -> usize {
        let pair = self.username.expose().len() + ":".len() + self.password.expose().len();
        pair.div_ceil(3) * 4
    }

    /// The login itself, if a registry can accept it.
    pub(crate) fn checked(self) -> Result<Self, LoginError> {
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
        if name.contains(char::is_control) || word.contains(|c: char| c.is_control() && !c.is_whitespace()) {
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
