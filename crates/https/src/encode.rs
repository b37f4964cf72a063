//! Headers, forms and JSON that hold secrets: each is written once, into bytes that never grow and are overwritten.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use regcred_dockerconfig::SecretBytes;
use serde::Serialize;
use zeroize::Zeroizing;

/// A value that no log of headers shows; `None` if it fits into none.
pub fn secret_value(bytes: &[u8]) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_bytes(bytes).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What `Authorization` says for a user and a password (RFC 7617).
pub fn basic(user: &[u8], password: &SecretBytes) -> Option<HeaderValue> {
    let pair = Zeroizing::new([user, b":", password.expose()].concat());
    let encoded = Zeroizing::new(STANDARD.encode(&*pair));
    secret_value(&Zeroizing::new([b"Basic ", encoded.as_bytes()].concat()))
}

/// What `Authorization` says for a token (RFC 6750).
pub fn bearer(token: &SecretBytes) -> Option<HeaderValue> {
    secret_value(&Zeroizing::new([b"Bearer ", token.expose()].concat()))
}

/// JSON in bytes that never grow, so that no copy is left behind: it is measured first.
pub fn json(body: &impl Serialize) -> Zeroizing<Vec<u8>> {
    let mut length = Length(0);
    let measured = serde_json::to_writer(&mut length, body);
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.0));
    match measured.and_then(|()| serde_json::to_writer(&mut *bytes, body)) {
        Ok(()) => bytes,
        // What is sent has names and texts only, which can all be written.
        Err(_) => Zeroizing::default(),
    }
}

/// Counts what is written, and keeps nothing of it.
struct Length(usize);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A form, as HTML describes it.
pub fn form(fields: &[(&str, &[u8])]) -> Zeroizing<Vec<u8>> {
    // Room for the worst case, so that no copy is left behind by growing.
    let room = fields.iter().map(|(name, value)| 3 * (name.len() + value.len()) + 2).sum();
    let mut form = Zeroizing::new(Vec::with_capacity(room));
    for (name, value) in fields {
        if !form.is_empty() {
            form.push(b'&');
        }
        escape(&mut form, name.as_bytes());
        form.push(b'=');
        escape(&mut form, value);
    }
    form
}

/// A value in a query or in a path.
pub fn escaped(text: &str) -> String {
    let mut bytes = Vec::new();
    escape(&mut bytes, text.as_bytes());
    String::from_utf8(bytes).unwrap_or_default()
}

fn escape(target: &mut Vec<u8>, text: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            target.push(*byte);
        } else {
            target.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_value_can_end_it() {
        assert_eq!(&**form(&[("a", b"x&y=z %\n"), ("b", b"~")]), b"a=x%26y%3Dz%20%25%0A&b=~");
        assert_eq!(escaped("repository:acme/app:pull"), "repository%3Aacme%2Fapp%3Apull");
    }

    #[test]
    fn a_header_with_a_secret_is_sensitive() {
        let password = SecretBytes::from(b"p\nq".to_vec());
        assert!(basic(b"u", &password).unwrap().is_sensitive());
        assert!(bearer(&SecretBytes::from(b"t".to_vec())).unwrap().is_sensitive());
        assert!(bearer(&password).is_none());
    }
}
