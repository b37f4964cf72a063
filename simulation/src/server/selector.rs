//! Field selectors: `metadata.name` and `type`, with `=` and `!=`.

use serde_json::Value;

/// A field selector.
#[derive(Clone, Debug, Default)]
pub struct Selector(Vec<Term>);

#[derive(Clone, Debug)]
struct Term {
    field: String,
    equal: bool,
    value: String,
}

impl Selector {
    /// Takes a selector apart.
    pub fn parse(text: &str) -> Self {
        Self(text.split(',').filter_map(Term::parse).collect())
    }

    /// Whether an object is selected.
    pub fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|term| term.matches(object))
    }
}

impl Term {
    fn parse(text: &str) -> Option<Self> {
        let (field, value) = text.split_once('=')?;
        let equal = !field.ends_with('!');
        Some(Self {
            field: field.trim_end_matches('!').to_owned(),
            equal,
            value: value.trim_start_matches('=').to_owned(),
        })
    }

    fn matches(&self, object: &Value) -> bool {
        let path = format!("/{}", self.field.replace('.', "/"));
        let value = object.pointer(&path).and_then(Value::as_str).unwrap_or_default();
        (value == self.value) == self.equal
    }
}
