//! When a password that somebody wrote into a Secret expires: as its metadata or its keys say, or as the password itself
//! does where it is a token. Nothing here decides whether it works; it is told, and no credential is taken away for it.

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use regcred_dockerconfig::SecretBytes;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::expiry::jwt_claims;

/// Keys of a Secret that hold the end of its password, as tools that write tokens name them.
pub(crate) const KEYS: [&str; 2] = ["expires_at", "expiry"];

/// The longest text that is read as a time.
const LONGEST_TIME: usize = 64;
/// The longest token that is looked into.
const LONGEST_TOKEN: usize = 16 * 1024;
/// Ends before this and so long after it are typing errors: seconds taken for milliseconds.
const EARLIEST: i64 = 1_000_000_000;
const LATEST: SignedDuration = SignedDuration::from_hours(24 * 36_500);

/// Base64 as tokens have it, with or without padding.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT);

/// The end in the claims of a JSON Web Token (RFC 7519, section 4.1.4), or in a token of Amazon ECR.
#[derive(Deserialize)]
struct Claims {
    #[serde(alias = "expiration")]
    exp: f64,
}

/// Reads a time: RFC 3339, a date (its first moment in UTC), or seconds since 1970.
pub(crate) fn time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if text.len() > LONGEST_TIME {
        return None;
    }
    let date =
        |text: &str| text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    let exact = if text.contains(':') { text.parse().ok() } else { None };
    let at = exact.or_else(|| text.parse().ok().and_then(|second| Timestamp::from_second(second).ok()));
    at.or_else(|| date(text)).filter(|at| is_plausible(*at))
}

/// The end that a password has in itself, if it is a token that says so.
pub(crate) fn of_token(password: &SecretBytes) -> Option<Timestamp> {
    let bytes = Some(password.expose()).filter(|bytes| bytes.len() <= LONGEST_TOKEN)?;
    let of_ecr = || serde_json::from_slice(&Zeroizing::new(STANDARD.decode(bytes).ok()?)).ok();
    let Claims { exp } = jwt_claims(bytes).or_else(of_ecr)?;
    let at = Timestamp::from_duration(SignedDuration::try_from_secs_f64(exp.trunc()).ok()?).ok()?;
    Some(at).filter(|at| is_plausible(*at))
}

fn is_plausible(at: Timestamp) -> bool {
    at.as_second() >= EARLIEST && at.as_duration() <= LATEST
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    fn text(at: Option<Timestamp>) -> Option<String> {
        at.map(|at| at.to_string())
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        for (written, read) in [
            ("2027-02-01T12:00:00Z", Some("2027-02-01T12:00:00Z")),
            ("2027-02-01T12:00:00+02:00\n", Some("2027-02-01T10:00:00Z")),
            ("2027-02-01", Some("2027-02-01T00:00:00Z")),
            ("1801483200", Some("2027-02-01T12:00:00Z")),
            ("1801483200000", None),
            ("tomorrow", None),
            ("", None),
            ("99999999999999999999", None),
            ("-1", None),
        ] {
            assert_eq!(text(time(written)).as_deref(), read, "{written}");
        }
        assert_eq!(time(&"1".repeat(100)), None);
    }

    #[test]
    fn tokens_that_say_their_end_are_asked_for_it() {
        let jwt = |claims: &str| format!("eyJhbGciOiJSUzI1NiJ9.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        let of = |password: &str| of_token(&SecretBytes::from(password.as_bytes().to_vec()));
        let end = Some("2027-02-01T12:00:00Z");
        assert_eq!(text(of(&jwt(r#"{"iss":"x","exp":1801483200}"#))).as_deref(), end);
        assert_eq!(text(of(&jwt(r#"{"exp":1801483200.5}"#))).as_deref(), end);
        let ecr = STANDARD.encode(
            r#"{"payload":"x","datakey":"y","version":"2","type":"DATA_KEY","expiration":1801483200}"#,
        );
        assert_eq!(text(of(&ecr)).as_deref(), end);
        for odd in
            ["ghp_abc", "", "a.b.c", "....", &jwt("{}"), &jwt(r#"{"exp":"soon"}"#), &jwt(r#"{"exp":1e300}"#)]
        {
            assert_eq!(of(odd), None, "{odd}");
        }
        assert_eq!(of(&format!("a.{}.b", "x".repeat(20_000))), None);
    }
}
