//! Selectors: of fields (`metadata.name`, `metadata.namespace`, `type`), and of labels by value or by existence.

use serde_json::Value;

use super::kind::Kind;
use super::refusal::Refusal;

/// What a list or a watch asks for.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    fields: Vec<Term>,
    labels: Vec<Term>,
}

#[derive(Clone, Debug)]
struct Term {
    key: String,
    equal: bool,
    /// `None`: any.
    value: Option<String>,
}

impl Selector {
    /// Takes selectors apart.
    pub fn parse(kind: Kind, fields: &str, labels: &str) -> Result<Self, Refusal> {
        let terms = |text: &str| {
            let terms = text.split(',').filter(|term| !term.is_empty());
            terms.map(Term::parse).collect::<Vec<_>>()
        };
        let selector = Self { fields: terms(fields), labels: terms(labels) };
        let unknown = selector.fields.iter().find(|term| !is_selectable(kind, &term.key));
        match unknown {
            Some(term) => Err(Refusal::unselectable(kind, &term.key)),
            None => Ok(selector),
        }
    }

    /// Whether an object is selected.
    pub fn matches(&self, object: &Value) -> bool {
        let field = |term: &Term| {
            let path = format!("/{}", term.key.replace('.', "/"));
            Some(object.pointer(&path).and_then(Value::as_str).unwrap_or_default())
        };
        let label = |term: &Term| object["metadata"]["labels"][&term.key].as_str();
        self.fields.iter().all(|term| term.accepts(field(term)))
            && self.labels.iter().all(|term| term.accepts(label(term)))
    }
}

impl Term {
    fn parse(text: &str) -> Self {
        let Some((key, value)) = text.split_once('=') else {
            let equal = !text.starts_with('!');
            return Self { key: text.trim_start_matches('!').to_owned(), equal, value: None };
        };
        Self {
            key: key.trim_end_matches('!').to_owned(),
            equal: !key.ends_with('!'),
            value: Some(value.trim_start_matches('=').to_owned()),
        }
    }

    fn accepts(&self, found: Option<&str>) -> bool {
        let same = match &self.value {
            Some(value) => found == Some(value),
            None => found.is_some(),
        };
        same == self.equal
    }
}

fn is_selectable(kind: Kind, field: &str) -> bool {
    match field {
        "metadata.name" => true,
        "metadata.namespace" => kind.is_namespaced(),
        "type" => matches!(kind, Kind::Secret | Kind::Event),
        _ => false,
    }
}
