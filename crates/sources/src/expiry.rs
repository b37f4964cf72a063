//! When a token ends, from whatever an answer says of it. Both clocks may be wrong: a life counts from the answer's own
//! time, where it has one.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use zeroize::Zeroizing;

/// Base64 as tokens have it, with or without padding.
const TOKENS: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Seconds, as answers write them: a number with or without a fraction, or a text that holds one.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(from = "Written")]
pub(crate) struct Seconds(f64);

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Text(String),
    Other(serde::de::IgnoredAny),
}

impl From<Written> for Seconds {
    fn from(written: Written) -> Self {
        Self(match written {
            Written::Number(number) => number,
            Written::Text(text) => text.trim().parse().unwrap_or(f64::NAN),
            Written::Other(_) => f64::NAN,
        })
    }
}

impl Seconds {
    /// A point in time, as seconds since 1970.
    pub(crate) fn since_1970(time: Timestamp) -> Self {
        Self(time.as_duration().as_secs_f64())
    }
}

/// What an answer says of the end of a token.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// So many seconds from now.
    In(Seconds),
    /// At this second since 1970, by the issuer's clock.
    At(Seconds),
    /// Nothing.
    Unsaid,
}

impl End {
    /// A life in seconds, if the answer says one.
    pub(crate) fn within(seconds: Option<Seconds>) -> Self {
        seconds.map_or(Self::Unsaid, Self::In)
    }

    /// A time, if the answer says one.
    pub(crate) fn at(seconds: Option<Seconds>) -> Self {
        seconds.map_or(Self::Unsaid, Self::At)
    }

    /// A time as RFC 3339 writes it, if the answer says one.
    pub(crate) fn at_time(time: Option<&str>) -> Self {
        Self::at(time.and_then(|text| text.parse().ok()).map(Seconds::since_1970))
    }

    /// The claim `exp` of a token of the kind that RFC 7519 describes, if it is one.
    pub(crate) fn of_jwt(token: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Claims {
            exp: Seconds,
        }
        Self::at(jwt_claims::<Claims>(token).map(|claims| claims.exp))
    }

    /// The end by our own clock; `None` if it has come. `issued` is the answer's own time, and `usual` the life of such
    /// tokens, for an answer that says nothing, or nothing that makes sense.
    pub(crate) fn by_our_clock(
        self,
        now: Timestamp,
        issued: Option<Timestamp>,
        usual: SignedDuration,
    ) -> Option<Timestamp> {
        let life = match self {
            Self::In(Seconds(life)) => life,
            Self::At(Seconds(end)) => end - Seconds::since_1970(issued.unwrap_or(now)).0,
            Self::Unsaid => f64::NAN,
        };
        let life = if life.is_nan() { usual.as_secs_f64() } else { life };
        if life < 1.0 {
            return None;
        }
        // A number that does not fit is further away than any clock goes.
        let life = SignedDuration::try_from_secs_f64(life).unwrap_or(SignedDuration::MAX);
        Some(now.checked_add(life).unwrap_or(Timestamp::MAX))
    }
}

/// The claims of a token, which nobody checks here: the registry that reads it does.
pub(crate) fn jwt_claims<T: serde::de::DeserializeOwned>(token: &[u8]) -> Option<T> {
    let claims = token.split(|byte| *byte == b'.').nth(1)?;
    let claims = Zeroizing::new(TOKENS.decode(claims).ok()?);
    serde_json::from_slice(&claims).ok()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    fn now() -> Timestamp {
        "2026-11-30T12:00:00Z".parse().unwrap()
    }

    fn seconds(json: &str) -> Seconds {
        serde_json::from_str(json).unwrap()
    }

    /// How many seconds a token lives, by our clock.
    fn life(end: End, issued: Option<&str>) -> Option<i64> {
        let issued = issued.map(|time| time.parse().unwrap());
        end.by_our_clock(now(), issued, HOUR).map(|end| end.as_second() - now().as_second())
    }

    #[test]
    fn seconds_are_read_as_people_write_them() {
        for text in ["3599", "3599.0", "\"3599\"", "\" 3599 \""] {
            assert_eq!(seconds(text), Seconds(3599.0), "{text}");
        }
        for text in ["null", "\"soon\"", "[]", "{}", "true"] {
            assert!(seconds(text).0.is_nan(), "{text}");
        }
    }

    #[test]
    fn a_life_counts_from_our_own_clock() {
        assert_eq!(life(End::In(seconds("60")), None), Some(60));
        assert_eq!(life(End::In(seconds("60")), Some("2026-11-30T12:05:00Z")), Some(60));
    }

    #[test]
    fn a_time_counts_from_the_clock_of_the_answer() {
        let end = |time| End::at_time(Some(time));
        assert_eq!(life(end("2026-11-30T12:10:00Z"), None), Some(600));
        assert_eq!(life(end("2026-11-30T12:10:00Z"), Some("2026-11-30T12:05:00Z")), Some(300));
        assert_eq!(life(end("2026-11-30T11:56:00Z"), Some("2026-11-30T11:55:00Z")), Some(60));
        assert_eq!(life(end("2026-11-30T12:04:00Z"), Some("2026-11-30T12:05:00Z")), None);
    }

    #[test]
    fn what_says_nothing_gets_the_usual_life() {
        for end in [
            End::Unsaid,
            End::at_time(Some("tomorrow")),
            End::at_time(None),
            End::In(seconds("null")),
            End::of_jwt(b"no token"),
            End::of_jwt(b"e30.e30.x"),
        ] {
            assert_eq!(life(end, None), Some(3600), "{end:?}");
        }
    }

    #[test]
    fn odd_numbers_end_in_the_past_or_never() {
        let never = Some(Timestamp::MAX.as_second() - now().as_second());
        for (text, expected) in [
            ("0", None),
            ("-1", None),
            ("0.5", None),
            ("-9223372036854775808", None),
            ("\"-inf\"", None),
            ("1e300", never),
            ("9223372036854775807", never),
            ("18446744073709551615", never),
            ("\"inf\"", never),
        ] {
            assert_eq!(life(End::In(seconds(text)), None), expected, "in {text}");
            assert_eq!(life(End::At(seconds(text)), None), expected, "at {text}");
        }
        let last = End::In(seconds("3600")).by_our_clock(Timestamp::MAX, None, HOUR);
        assert_eq!(last, Some(Timestamp::MAX));
    }

    #[test]
    fn the_end_of_a_jwt_is_its_exp() {
        let claims = URL_SAFE_NO_PAD.encode(r#"{"exp":1796040060}"#);
        let end = End::of_jwt(format!("e30.{claims}.c2ln").as_bytes());
        assert_eq!(life(end, Some("2026-11-30T12:00:00Z")), Some(1_796_040_060 - now().as_second()));
    }
}
