//! A request that a double got, and questions to it. Each returns `Err` with what is wrong.

use std::{collections::HashMap, fmt::Write as _};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::request::Parts;
use serde_json::{Value, json};

/// A request, without the name of the host in front of its path.
pub(super) struct Received {
    pub method: String,
    pub host: String,
    pub path: String,
    pub query: String,
    /// The path as it was sent, which is what is signed.
    pub sent_path: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Received {
    pub(super) fn new(head: &Parts, body: Vec<u8>) -> Self {
        let sent_path = head.uri.path().to_owned();
        let (host, path) = sent_path[1..].split_once('/').unwrap_or((&sent_path[1..], ""));
        let text = |value: &http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        Self {
            method: head.method.to_string(),
            host: host.to_owned(),
            path: format!("/{path}"),
            query: head.uri.query().unwrap_or_default().to_owned(),
            headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            body,
            sent_path,
        }
    }

    /// Complains unless it is this method and path.
    pub(super) fn is(&self, method: &str, path: &str) -> Result<(), String> {
        if self.method == method && self.path == path { Ok(()) } else { Err(format!("not {method} {path}")) }
    }

    /// The value of a header.
    pub(super) fn header(&self, name: &str) -> Result<&str, String> {
        self.headers.get(name).map(String::as_str).ok_or_else(|| format!("no header {name}"))
    }

    /// Complains unless a header has this value.
    pub(super) fn has(&self, name: &str, value: &str) -> Result<(), String> {
        if self.header(name)? == value { Ok(()) } else { Err(format!("{name} is not {value}")) }
    }

    /// The body as a form.
    pub(super) fn form(&self) -> Result<HashMap<String, String>, String> {
        self.has("content-type", "application/x-www-form-urlencoded")?;
        Ok(fields(std::str::from_utf8(&self.body).map_err(|_| "no text")?))
    }

    /// The query as a form.
    pub(super) fn parameters(&self) -> HashMap<String, String> {
        fields(&self.query)
    }

    /// The body as JSON.
    pub(super) fn json(&self) -> Result<Value, String> {
        self.has("content-type", "application/json")?;
        serde_json::from_slice(&self.body).map_err(|error| error.to_string())
    }

    /// Everything that was sent, as a careless server puts it into an error: in each issuer's form, with a word.
    pub(super) fn echo(&self, word: &str) -> String {
        let mut sent = String::from_utf8_lossy(&self.body).into_owned();
        for (name, value) in &self.headers {
            writeln!(sent, "{name}: {value}").expect("writing to a String cannot fail");
        }
        json!({ "__type": format!("com.amazonaws#{word}"), "error": word, "message": sent }).to_string()
    }
}

/// Complains unless two fields of a form are equal.
pub(super) fn is(fields: &HashMap<String, String>, name: &str, value: &str) -> Result<(), String> {
    let given = fields.get(name).ok_or_else(|| format!("no {name}"))?;
    if given == value { Ok(()) } else { Err(format!("{name} is not {value}")) }
}

/// The field of a form.
pub(super) fn field<'a>(fields: &'a HashMap<String, String>, name: &str) -> Result<&'a str, String> {
    fields.get(name).map(String::as_str).ok_or_else(|| format!("no {name}"))
}

/// The name of the ServiceAccount of a token, which must be for this audience alone.
pub(super) fn service_account(token: &str, audience: &str) -> Result<String, String> {
    let claims = token.split('.').nth(1).and_then(|claims| URL_SAFE_NO_PAD.decode(claims).ok());
    let claims: Value =
        serde_json::from_slice(&claims.ok_or("no token")?).map_err(|error| error.to_string())?;
    if claims["aud"] != json!([audience]) {
        return Err(format!("the audience is {}, not {audience}", claims["aud"]));
    }
    let name = claims["sub"].as_str().and_then(|subject| subject.strip_prefix("system:serviceaccount:"));
    let name = name.and_then(|name| name.split_once(':')).ok_or("no token of a ServiceAccount")?;
    Ok(name.1.to_owned())
}

fn fields(text: &str) -> HashMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (unescaped(name), unescaped(value))).collect()
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped =
            digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        rest = if escaped.is_some() { &tail[2..] } else { tail };
        bytes.push(escaped.unwrap_or(if *first == b'+' { b' ' } else { *first }));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
