//! The word by which an issuer says why it refuses. Only a plain word is taken: whatever else an answer holds may repeat
//! what was sent.

use http::HeaderMap;
use serde::Deserialize;

/// As AWS names it in a header, before a colon.
const AWS_HEADER: &str = "x-amzn-errortype";
const LONGEST: usize = 64;
/// Some of AWS's services say it with a status that means something else.
const THROTTLING: [&str; 6] = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "LimitExceededException",
];

/// The word in an answer, if there is one.
pub(crate) fn word(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    let header = headers.get(AWS_HEADER).and_then(|value| value.to_str().ok());
    let header = header.and_then(|value| plain(value.split(':').next()?));
    header.or_else(|| in_json(body)).or_else(|| in_xml(body))
}

/// Whether AWS means too many requests by it.
pub(crate) fn is_throttling(word: &str) -> bool {
    THROTTLING.contains(&word)
}

/// The forms of AWS, of OAuth (RFC 6749, and Microsoft and Google with it), and of Google's APIs.
fn in_json(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow, default, rename = "__type")]
        aws: Option<&'a str>,
        #[serde(borrow, default)]
        error: Option<OAuthOrGoogle<'a>>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OAuthOrGoogle<'a> {
        Word(&'a str),
        Status {
            #[serde(borrow)]
            status: &'a str,
        },
        Other(serde::de::IgnoredAny),
    }
    let body: Body<'_> = serde_json::from_slice(body).ok()?;
    let aws = body.aws.and_then(|text| plain(text.rsplit('#').next()?));
    aws.or_else(|| match body.error? {
        OAuthOrGoogle::Word(word) | OAuthOrGoogle::Status { status: word } => plain(word),
        OAuthOrGoogle::Other(_) => None,
    })
}

fn in_xml(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    plain(text.split_once("<Code>")?.1.split_once("</Code>")?.0)
}

fn plain(word: &str) -> Option<String> {
    let fits = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    (!word.is_empty() && word.len() <= LONGEST && word.bytes().all(fits)).then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn each_issuer_has_its_form() {
        for (body, expected) in [
            (
                r#"{"__type":"com.amazonaws.ecr#AccessDeniedException","message":"x"}"#,
                Some("AccessDeniedException"),
            ),
            (r#"{"__type":"UnrecognizedClientException"}"#, Some("UnrecognizedClientException")),
            (
                "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidIdentityToken</Code>",
                Some("InvalidIdentityToken"),
            ),
            (r#"{"error":"invalid_client","error_description":"AADSTS7000215"}"#, Some("invalid_client")),
            (r#"{"error":{"code":403,"status":"PERMISSION_DENIED"}}"#, Some("PERMISSION_DENIED")),
            (r#"{"error":{"code":403}}"#, None),
            (r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#, None),
            ("", None),
        ] {
            assert_eq!(word(&HeaderMap::new(), body.as_bytes()).as_deref(), expected, "{body}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(AWS_HEADER, HeaderValue::from_static("ThrottlingException:http://internal"));
        assert!(is_throttling(&word(&headers, b"{}").unwrap()));
    }

    #[test]
    fn what_is_no_plain_word_is_not_repeated() {
        for text in ["hunter2hunter2", "a b", "eyJhbGciOi.x", "", &"a".repeat(65), "ähm"] {
            let body = format!(r#"{{"error":"{text}","__type":"{text}"}}"#);
            assert_eq!(word(&HeaderMap::new(), body.as_bytes()), None, "{text}");
            assert_eq!(word(&HeaderMap::new(), format!("<Code>{text}</Code>").as_bytes()), None, "{text}");
        }
    }
}
