//! Which Secrets each watch delivers.

use std::sync::Arc;

use regcred_api::names;

/// Which Secrets a watch delivers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SecretScope {
    /// Only Secrets of this name.
    pub name: Option<Arc<str>>,
    /// Secrets that are no docker configuration, rather than those that are.
    pub wrong_type: bool,
}

impl SecretScope {
    /// One scope for every Secret watch that the settings call for. With listed target names each
    /// is watched by name, which RBAC by name allows; the type tells a copy from a Secret of another kind.
    pub fn all(target_names: &[String]) -> Vec<Self> {
        if target_names.is_empty() {
            return vec![Self { name: None, wrong_type: false }];
        }
        let both = |name: &String| {
            [false, true].map(|wrong_type| Self { name: Some(Arc::from(name.as_str())), wrong_type })
        };
        target_names.iter().flat_map(both).collect()
    }

    /// The Secrets of a target name that are no docker configuration, where names are not listed.
    pub fn wrong_type_of(name: &Arc<str>) -> Self {
        Self { name: Some(name.clone()), wrong_type: true }
    }

    /// The field selector of the watch.
    pub fn field_selector(&self) -> String {
        let sign = if self.wrong_type { "!=" } else { "=" };
        let kind = format!("type{sign}{}", names::SECRET_TYPE);
        self.name.as_ref().map_or(kind.clone(), |name| format!("metadata.name={name},{kind}"))
    }

    pub(crate) fn covers_copy(&self, name: &str) -> bool {
        !self.wrong_type && self.name.as_ref().is_none_or(|own| **own == *name)
    }
}
