//! The page of every field of a RegistryCredential, made from the CRD.

use std::fmt::Write as _;

use serde_json::Value;

use crate::{
    chart::read,
    error::{Error, Result},
};

/// Where the page is.
pub const PAGE: &str = "docs/api.md";
const CRD: &str = "crds/registrycredentials.regcred.dev.yaml";
const HEAD: &str = "\
<!-- Made from the CRD by `just generate`. -->
# RegistryCredential

Every field of `regcred.dev/v1alpha1`, as `kubectl explain regcred --recursive` has it. `[]` is each item of a list, `{}` each value of
a map.
";

/// The page.
pub fn page() -> Result<String> {
    let crd: Value =
        serde_saphyr::from_str(&read(CRD)?).map_err(|error| Error::Unexpected(format!("{CRD}: {error}")))?;
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut page = HEAD.to_owned();
    for part in ["spec", "status"] {
        let (mut rows, mut rules) = (String::new(), String::new());
        walk(part, &schema["properties"][part], &mut rows, &mut rules);
        // Writing to a String cannot fail.
        let _ = write!(page, "\n## {part}\n\n| field | type | what it is |\n|---|---|---|\n{rows}");
        if !rules.is_empty() {
            let _ = write!(page, "\nThe API server refuses what breaks one of these rules:\n\n{rules}");
        }
    }
    Ok(page)
}

fn walk(path: &str, schema: &Value, rows: &mut String, rules: &mut String) {
    let said = schema["description"].as_str().unwrap_or_default().replace('|', "\\|");
    let _ = writeln!(
        rows,
        "| `{path}` | {} | {} |",
        kind(schema),
        said.split_whitespace().collect::<Vec<_>>().join(" ")
    );
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let _ = writeln!(rules, "- `{path}`: {}", rule["message"].as_str().unwrap_or_default());
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), field, rows, rules);
    }
    for (inner, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[inner]["properties"].is_object() {
            walk(&format!("{path}{mark}"), &schema[inner], rows, rules);
        }
    }
}

fn kind(schema: &Value) -> String {
    let name = schema["type"].as_str().unwrap_or("any");
    let mut text = match (name, &schema["items"], &schema["additionalProperties"]) {
        ("array", items, _) => format!("list of {}", items["type"].as_str().unwrap_or("any")),
        ("object", _, Value::Object(values)) => {
            format!("map of {}", values.get("type").and_then(Value::as_str).unwrap_or("any"))
        }
        _ => name.to_owned(),
    };
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<_> =
            values.iter().filter_map(Value::as_str).map(|value| format!("`{value}`")).collect();
        text = values.join(", ");
    }
    if !schema["default"].is_null() {
        let _ = write!(text, "; default `{}`", schema["default"]);
    }
    text
}
