//! What is read of an answer's body: an error code of the specification, whether something has expired, and a token.

use std::fmt;

use regcred_dockerconfig::SecretBytes;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

/// Error codes of the distribution specification, of its reference implementation, and of Harbor. Whatever else an answer
/// holds may repeat what it was sent.
const CODES: [&str; 14] = [
    "UNAUTHORIZED",
    "DENIED",
    "FORBIDDEN",
    "NAME_UNKNOWN",
    "NAME_INVALID",
    "MANIFEST_UNKNOWN",
    "MANIFEST_INVALID",
    "NOT_FOUND",
    "TAG_INVALID",
    "TOOMANYREQUESTS",
    "UNAVAILABLE",
    "UNSUPPORTED",
    "UNKNOWN",
    "INTERNAL_SERVER_ERROR",
];

/// The first error code of a body, if it is a known one.
pub(crate) fn code(body: &[u8]) -> Option<&'static str> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        errors: Vec<Error<'a>>,
    }
    #[derive(Deserialize)]
    struct Error<'a> {
        #[serde(borrow)]
        code: &'a str,
    }
    let body: Body<'_> = serde_json::from_slice(body).ok()?;
    let given = body.errors.first()?.code;
    CODES.into_iter().find(|code| *code == given)
}

/// Whether a body says that something has expired.
pub(crate) fn says_expired(body: &[u8]) -> bool {
    body.windows(b"expired".len()).any(|window| window.eq_ignore_ascii_case(b"expired"))
}

/// The token of an answer, under either of its names.
pub(crate) fn token(body: &[u8]) -> Option<SecretBytes> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        token: Text,
        #[serde(default)]
        access_token: Text,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    body.token.0.or(body.access_token.0)
}

/// A text that is not empty, if there is one: some servers give one of the two names an empty text, or null.
#[derive(Default)]
struct Text(Option<SecretBytes>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or null")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text((!text.is_empty()).then(|| text.as_bytes().to_vec().into())))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_two_names() {
        for (body, expected) in [
            (r#"{"token":"a"}"#, Some("a")),
            (r#"{"access_token":"a","expires_in":60}"#, Some("a")),
            (r#"{"token":"a","access_token":"b"}"#, Some("a")),
            (r#"{"token":"","access_token":"b"}"#, Some("b")),
            (r#"{"token":null,"access_token":"b"}"#, Some("b")),
            (r#"{"token":"a","access_token":""}"#, Some("a")),
            (r#"{"token":""}"#, None),
            (r#"{"token":1,"access_token":"b"}"#, None),
            (r#"{"token":{"a":1}}"#, None),
            (r"[]", None),
            ("{", None),
            ("", None),
        ] {
            let token =
                token(body.as_bytes()).map(|token| String::from_utf8(token.expose().to_vec()).unwrap());
            assert_eq!(token.as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn only_codes_of_the_specification_are_repeated() {
        for (body, expected) in [
            (r#"{"errors":[{"code":"UNAUTHORIZED","message":"x"}]}"#, Some("UNAUTHORIZED")),
            (r#"{"errors":[{"code":"DENIED"},{"code":"UNKNOWN"}]}"#, Some("DENIED")),
            (r#"{"errors":[{"code":"HUNTER_TWO"}]}"#, None),
            (r#"{"errors":[{"code":"unauthorized"}]}"#, None),
            (r#"{"errors":[]}"#, None),
            (r#"{"errors":null}"#, None),
            (r#"{"details":"incorrect username or password"}"#, None),
            ("UNAUTHORIZED", None),
        ] {
            assert_eq!(code(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn an_end_is_said_in_any_case() {
        assert!(says_expired(b"Your Authorization Token has EXPIRED. Please run login"));
        assert!(!says_expired(b"{}"));
    }
}
