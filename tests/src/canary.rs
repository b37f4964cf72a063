//! A password to look for in all output. It is put into source Secrets, and must appear nowhere but in the copies:
//! not plain, not in any encoding that a log, an error message or a metric could put it through.

use std::fmt::Write as _;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE},
};

/// The password. Around its core are the characters that encodings change, and that break careless parsers.
pub const CANARY: &str = "p:/+=%# q7ZkW3xVt9LmCanaryHf52Rd @?~";

/// The part no encoder of text changes, so that finding it covers JSON, URL and shell quoting at once.
pub const CORE: &str = "q7ZkW3xVt9LmCanaryHf52Rd";

/// Panics if the canary is in any of the named texts, in any form.
///
/// # Panics
/// If the canary is found; the message names the text and the form, and repeats nothing of what is around it.
pub fn assert_no_canary<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) {
    let needles = needles();
    for (name, text) in texts {
        for (form, needle) in &needles {
            if let Some(position) = text.find(needle) {
                panic!("a credential leaked: {form} at byte {position} of {name}");
            }
        }
    }
}

/// Every form to look for, with its name.
fn needles() -> Vec<(&'static str, String)> {
    let digest = ring::digest::digest(&ring::digest::SHA256, CANARY.as_bytes());
    let digest = hex(digest.as_ref());
    let mut needles = vec![
        ("the plain password", CORE.to_owned()),
        ("the password in lower-case hexadecimal", hex(CORE.as_bytes())),
        ("the password in upper-case hexadecimal", hex(CORE.as_bytes()).to_uppercase()),
        ("the password as decimal bytes", decimal(CORE.as_bytes())),
        ("a 16-digit prefix of the password's SHA-256", digest[..16].to_owned()),
        ("the password's SHA-256 in upper case", digest.to_uppercase()),
        ("every character of the password percent-encoded", percent(CORE)),
    ];
    let once: Vec<String> = base64_forms(CORE);
    // A Secret's data is base64 of JSON that itself holds base64 of user and password.
    let twice = once.iter().flat_map(|form| base64_forms(form));
    needles.extend(twice.map(|form| ("the password in base64 in base64", form)));
    needles.extend(once.iter().map(|form| ("the password in base64", form.clone())));
    needles
}

/// What base64 makes of the text wherever it is in a longer one: three alignments, without the characters at
/// the edges, which the neighbours change; in both alphabets.
fn base64_forms(text: &str) -> Vec<String> {
    let mut forms: Vec<String> = (0..3)
        .flat_map(|shift| {
            let padded = [&b"\0\0"[..shift], text.as_bytes()].concat();
            [STANDARD.encode(&padded), URL_SAFE.encode(&padded)].map(|form| inner(&form, shift, padded.len()))
        })
        .collect();
    forms.sort();
    forms.dedup();
    forms
}

/// The digits made of whole bits of the text alone.
fn inner(encoded: &str, shift: usize, length: usize) -> String {
    let first = (shift * 8).div_ceil(6);
    let last = length * 8 / 6;
    encoded[first..last].to_owned()
}

fn hex(bytes: &[u8]) -> String {
    fold(bytes, |text, byte| write!(text, "{byte:02x}"))
}

fn percent(text: &str) -> String {
    fold(text.as_bytes(), |text, byte| write!(text, "%{byte:02X}"))
}

/// As Rust's `Debug` writes a vector of bytes.
fn decimal(bytes: &[u8]) -> String {
    let all = fold(bytes, |text, byte| write!(text, "{byte}, "));
    all.trim_end_matches(", ").to_owned()
}

fn fold(bytes: &[u8], write: impl Fn(&mut String, u8) -> std::fmt::Result) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write(&mut text, *byte).expect("writing to a String cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaks(text: &str) -> bool {
        std::panic::catch_unwind(|| assert_no_canary([("text", text)])).is_err()
    }

    #[test]
    fn finds_every_form() {
        let json =
            format!(r#"{{"auths":{{"a.b":{{"auth":"{}"}}}}}}"#, STANDARD.encode(format!("u:{CANARY}")));
        let mut forms = vec![
            CANARY.to_owned(),
            format!("{CANARY:?}"),
            format!("{:?}", CANARY.as_bytes()),
            hex(CANARY.as_bytes()),
            percent(CANARY),
            hex(ring::digest::digest(&ring::digest::SHA256, CANARY.as_bytes()).as_ref()),
        ];
        for shift in 0..6 {
            let prefix = "x".repeat(shift);
            forms.push(STANDARD.encode(format!("{prefix}{CANARY}{prefix}")));
            forms.push(URL_SAFE.encode(format!("{prefix}{CANARY}")));
            forms.push(STANDARD.encode(format!("{prefix}{json}")));
        }
        for form in forms {
            assert!(leaks(&format!("before {form} after")), "not found: {form}");
        }
    }

    #[test]
    fn is_quiet_about_other_text() {
        assert!(!leaks("all is well, q7ZkW3 and Canary are just words"));
    }
}
