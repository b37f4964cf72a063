//! The signature of requests to AWS ("AWS Signature Version 4 for API requests", docs.aws.amazon.com/IAM). Held to
//! vectors that AWS published.

use std::fmt::Write;

use http::header::{AUTHORIZATION, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Uri};
use jiff::Timestamp;
use regcred_dockerconfig::SecretBytes;
use regcred_https::secret_value;
use ring::{digest, hmac};
use zeroize::Zeroizing;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const SESSION: HeaderName = HeaderName::from_static("x-amz-security-token");

/// Keys of AWS.
#[derive(Clone)]
pub(crate) struct Keys {
    /// The access key ID, which every signed request shows.
    pub id: String,
    /// The secret access key, which signs.
    pub secret: SecretBytes,
    /// The session token of keys that expire.
    pub session: Option<SecretBytes>,
}

/// What a signature is good for.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub region: &'a str,
    pub service: &'a str,
}

/// Adds date, session and signature to the headers of a request, which must have `host` already. `None` if a value fits
/// into no header.
pub(crate) fn sign(
    (method, uri, body): (&Method, &Uri, &[u8]),
    headers: &mut HeaderMap,
    (keys, scope): (&Keys, Scope<'_>),
    at: Timestamp,
) -> Option<()> {
    let time = at.strftime("%Y%m%dT%H%M%SZ").to_string();
    headers.insert(DATE, HeaderValue::from_str(&time).ok()?);
    if let Some(session) = &keys.session {
        headers.insert(SESSION, secret_value(session.expose())?);
    }
    let (names, lines) = canonical_headers(headers)?;
    let (method, path, query) = (method.as_str(), uri.path(), uri.query().unwrap_or_default());
    let hash = hex(digest::digest(&digest::SHA256, body).as_ref());
    let canonical = joined(&[method, "\n", path, "\n", query, "\n", &lines, "\n", &names, "\n", &hash]);
    let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let (day, Scope { region, service }) = (&time[..8], scope);
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let key =
        [day, region, service, "aws4_request"].iter().fold(first_key(keys), |key, part| derive(&key, part));
    let signature =
        hex(hmac::sign(&key, format!("{ALGORITHM}\n{time}\n{scope}\n{hash}").as_bytes()).as_ref());
    let id = &keys.id;
    let value = format!("{ALGORITHM} Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}");
    headers.insert(AUTHORIZATION, secret_value(value.as_bytes())?);
    Some(())
}

fn canonical_headers(headers: &HeaderMap) -> Option<(String, Zeroizing<String>)> {
    let mut sorted: Vec<_> = headers
        .iter()
        .map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
        .collect::<Option<_>>()?;
    sorted.sort_unstable();
    let names = sorted.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let parts: Vec<_> = sorted.iter().flat_map(|(name, value)| [*name, ":", value.trim(), "\n"]).collect();
    Some((names, joined(&parts)))
}

/// One text of all parts, made at its full length, so that no copy of a session token is left behind by growing.
fn joined(parts: &[&str]) -> Zeroizing<String> {
    Zeroizing::new(parts.concat())
}

fn first_key(keys: &Keys) -> hmac::Key {
    let secret = Zeroizing::new([b"AWS4", keys.secret.expose()].concat());
    hmac::Key::new(hmac::HMAC_SHA256, &secret)
}

fn derive(key: &hmac::Key, part: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(key, part.as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use http::header::{CONTENT_TYPE, HOST};

    use super::*;

    /// Keys, time and scope of AWS's own test suite (`aws-sig-v4-test-suite`).
    fn signed(method: &Method, path: &str, more: &[(HeaderName, &'static str)], body: &str) -> String {
        let secret = b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_vec().into();
        let keys = Keys { id: "AKIDEXAMPLE".to_owned(), secret, session: None };
        let uri = format!("https://example.amazonaws.com{path}").parse().unwrap();
        let mut headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("example.amazonaws.com"))]);
        headers.extend(more.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))));
        let at = "2015-08-30T12:36:00Z".parse().unwrap();
        let scope = Scope { region: "us-east-1", service: "service" };
        sign((method, &uri, body.as_bytes()), &mut headers, (&keys, scope), at).unwrap();
        assert!(headers[AUTHORIZATION].is_sensitive());
        headers[AUTHORIZATION].to_str().unwrap().to_owned()
    }

    const STARTS: &str =
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=";

    #[test]
    fn the_vectors_of_aws_are_met() {
        let form = [(CONTENT_TYPE, "application/x-www-form-urlencoded")];
        let more = [(HeaderName::from_static("my-header1"), " value1 ")];
        for (name, method, path, headers, body, expected) in [
            (
                "get-vanilla",
                Method::GET,
                "/",
                &[][..],
                "",
                "host;x-amz-date, Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "post-vanilla",
                Method::POST,
                "/",
                &[][..],
                "",
                "host;x-amz-date, Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "post-header-key-sort",
                Method::POST,
                "/",
                &[(HeaderName::from_static("my-header1"), "value1")][..],
                "",
                "host;my-header1;x-amz-date, Signature=c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
            ),
            (
                "post-x-www-form-urlencoded",
                Method::POST,
                "/",
                &form[..],
                "Param1=value1",
                "content-type;host;x-amz-date, Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
        ] {
            assert_eq!(signed(&method, path, headers, body), format!("{STARTS}{expected}"), "{name}");
        }
        let trimmed = signed(&Method::POST, "/", &more, "");
        assert!(
            trimmed.ends_with("c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"),
            "{trimmed}"
        );
    }
}
