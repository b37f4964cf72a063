//! Texts of JSON that cannot be printed.

use std::fmt;

use regcred_dockerconfig::SecretBytes;
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

/// A text of an answer or a key file, read straight into bytes that are overwritten when they are dropped.
pub struct Hidden(pub SecretBytes);

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Hidden;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Hidden, E> {
                if text.is_empty() {
                    Err(E::custom("empty"))
                } else {
                    Ok(Hidden(text.as_bytes().to_vec().into()))
                }
            }
        }
        deserializer.deserialize_str(Text)
    }
}
