//! RegistryCredentials of a file, as they would be once applied.

use jiff::Timestamp;
use regcred_api::names;
use regcred_index::{CredentialBody, Received};
use serde_json::{Value, json};

use crate::cluster::Error;
use crate::text::sentence;

/// The RegistryCredentials of a YAML stream, by name. Other kinds are passed over: a file often has several.
pub(crate) fn credentials(text: &str) -> Result<Vec<(String, Value)>, Error> {
    // The text of such an error quotes the file, which the caller has at hand.
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|error| Error::Missing(format!("the file is no YAML: {}", sentence(&error.to_string()))))?;
    let is_ours = |document: &Value| document["kind"] == "RegistryCredential";
    let named = |document: Value| match document["metadata"]["name"].as_str() {
        Some(name) => Ok((name.to_owned(), document)),
        None => Err(Error::Missing("a RegistryCredential of the file has no metadata.name".to_owned())),
    };
    let found: Vec<_> = documents.into_iter().filter(is_ours).map(named).collect::<Result<_, _>>()?;
    if found.is_empty() {
        return Err(Error::Missing("the file has no RegistryCredential".to_owned()));
    }
    Ok(found)
}

/// The object as it would be: the spec of the file, and everything else as it is. A new one is served as if the operator
/// had seen it already.
pub(crate) fn applied(
    file: &Value,
    present: Option<Value>,
    now: Timestamp,
) -> Result<Received<CredentialBody>, Error> {
    let name = file["metadata"]["name"].clone();
    let mut object = present.unwrap_or_else(|| {
        let metadata = json!({"name": name, "uid": format!("new {name}"), "creationTimestamp": now.to_string(), "finalizers": [names::FINALIZER]});
        json!({"metadata": metadata})
    });
    object["spec"] = file["spec"].clone();
    let unreadable = |error: serde_json::Error| Error::Missing(format!("the file cannot be read: {error}"));
    serde_json::from_str(&object.to_string()).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_kinds_are_passed_over() {
        let text = "kind: Namespace\n---\nkind: RegistryCredential\nmetadata: {name: pull}\nspec: {registries: []}\n";
        let found = credentials(text).unwrap();
        assert_eq!((found.len(), found[0].0.as_str()), (1, "pull"));
        assert!(credentials("kind: Namespace").is_err());
        assert!(credentials("kind: RegistryCredential").is_err());
        assert!(credentials("{").is_err());
    }

    #[test]
    fn what_exists_keeps_everything_but_its_spec() {
        let present = json!({"metadata": {"name": "pull", "uid": "u1"}, "spec": {"registries": [1]}});
        let file = json!({"metadata": {"name": "pull"}, "spec": {}});
        let received = applied(&file, Some(present), Timestamp::UNIX_EPOCH).unwrap();
        assert!(received.is_readable() && received.name() == "pull");
    }
}
