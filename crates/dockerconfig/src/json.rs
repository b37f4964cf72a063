//! JSON as Go reads it into the structs of a docker configuration: names of fields in any case, members that are
//! there twice, `null` (encoding/json; k8s.io/kubernetes, pkg/credentialprovider/config.go).
//!
//! Two corners of Go's JSON are left out: text that is not UTF-8, and lone surrogates in escapes.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

/// A value, of which only strings and objects are looked into. Members keep the order of the text, and
/// repeated ones stay.
pub(crate) enum Json {
    Null,
    Text(Zeroizing<String>),
    Object(Vec<(String, Self)>),
    Other,
}

/// A field of a type that Go cannot read into its struct.
pub(crate) struct WrongType;

/// The fields of a configuration that count.
#[derive(Default)]
pub(crate) struct Root {
    /// The entries, by key; `None` where there is no object `auths`.
    pub(crate) auths: Option<BTreeMap<String, Json>>,
    /// Entries that a later member replaced. The kubelet uses none of them, but must be able to read them.
    pub(crate) replaced: Vec<Json>,
    /// Whether the kubelet can read `HttpHeaders`. It uses none of them.
    pub(crate) headers_fit: bool,
}

/// The fields of an entry that count.
#[derive(Default)]
pub(crate) struct Fields {
    pub(crate) username: Zeroizing<String>,
    pub(crate) password: Zeroizing<String>,
    pub(crate) auth: Zeroizing<String>,
}

impl Root {
    fn join(&mut self, auths: Option<Vec<(String, Json)>>) {
        let Some(auths) = auths else {
            self.replaced.extend(self.auths.take().into_iter().flatten().map(|(_, entry)| entry));
            return;
        };
        let joined = self.auths.get_or_insert_default();
        for (key, entry) in auths {
            self.replaced.extend(joined.insert(key, entry));
        }
    }
}

impl Json {
    /// The fields of a configuration. Those of a repeated `auths` join, and `null` empties it.
    pub(crate) fn root(self) -> Result<Root, WrongType> {
        let mut root = Root { headers_fit: true, ..Root::default() };
        for (name, value) in self.members()?.unwrap_or_default() {
            if is_field(&name, "auths") {
                root.join(value.members()?);
            } else if is_field(&name, "HttpHeaders") {
                root.headers_fit &= value.are_texts();
            }
        }
        Ok(root)
    }

    /// The fields of an entry; `null` leaves a field as it is.
    pub(crate) fn fields(self) -> Result<Fields, WrongType> {
        let mut fields = Fields::default();
        let mut email = Zeroizing::default();
        for (name, value) in self.members()?.unwrap_or_default() {
            let field = match () {
                () if is_field(&name, "username") => &mut fields.username,
                () if is_field(&name, "password") => &mut fields.password,
                () if is_field(&name, "auth") => &mut fields.auth,
                () if is_field(&name, "email") => &mut email,
                () => continue,
            };
            if let Some(text) = value.text()? {
                *field = text;
            }
        }
        Ok(fields)
    }

    /// The members by name; of two with one name the last. `None` for `null`.
    pub(crate) fn by_name(self) -> Result<Option<BTreeMap<String, Self>>, WrongType> {
        Ok(self.members()?.map(|members| members.into_iter().collect()))
    }

    fn are_texts(self) -> bool {
        let members = self.members().map(Option::unwrap_or_default);
        members.is_ok_and(|members| members.into_iter().all(|(_, value)| value.text().is_ok()))
    }

    fn text(self) -> Result<Option<Zeroizing<String>>, WrongType> {
        match self {
            Self::Null => Ok(None),
            Self::Text(text) => Ok(Some(text)),
            Self::Object(_) | Self::Other => Err(WrongType),
        }
    }

    fn members(self) -> Result<Option<Vec<(String, Self)>>, WrongType> {
        match self {
            Self::Null => Ok(None),
            Self::Object(members) => Ok(Some(members)),
            Self::Text(_) | Self::Other => Err(WrongType),
        }
    }
}

/// Whether Go takes a member for a field: in any case, and with the long s for an s.
pub(crate) fn is_field(name: &str, field: &str) -> bool {
    name.replace('\u{17f}', "s").eq_ignore_ascii_case(field)
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned().into()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Json::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Json::Object(members))
    }
}
