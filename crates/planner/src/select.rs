//! Which namespaces and ServiceAccounts a credential selects. The admission policy that attaches at
//! birth has the same rules in CEL.

use regcred_api::{
    LabelSelector, LabelSelectorOperator, LabelSelectorRequirement, NamespaceSelection, NamespacesFrom,
    ServiceAccountSelection, ServiceAccountsFrom,
};
use wildmatch::WildMatch;

use crate::observed::{Namespace, ServiceAccount, StringMap};

/// Prefixes of namespaces that belong to the platform; `from: All` does not select them.
const SYSTEM_PREFIXES: [&str; 2] = ["kube-", "openshift-"];

/// A requirement with no values, or with values that its operator cannot use.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("matchExpressions on {key}: In and NotIn need values; Exists and DoesNotExist take none")]
pub struct SelectorError {
    /// The label of the requirement.
    pub key: String,
}

/// Which namespaces get the Secret.
#[derive(Clone, Debug)]
pub struct NamespaceFilter {
    all: bool,
    chosen: Choice,
}

/// Which ServiceAccounts name it.
#[derive(Clone, Debug)]
pub struct ServiceAccountFilter {
    from: ServiceAccountsFrom,
    chosen: Choice,
}

/// Names or labels, less the excluded names.
#[derive(Clone, Debug)]
struct Choice {
    names: Vec<WildMatch>,
    selector: Selector,
    exclude: Vec<WildMatch>,
}

/// A label selector. An empty one selects nothing: it hands out credentials, and `from: All` says
/// that plainly.
#[derive(Clone, Debug, Default)]
struct Selector(Vec<Requirement>);

#[derive(Clone, Debug)]
struct Requirement {
    key: String,
    operator: LabelSelectorOperator,
    values: Vec<String>,
}

impl NamespaceFilter {
    /// Compiles a selection.
    pub fn new(selection: &NamespaceSelection) -> Result<Self, SelectorError> {
        Ok(Self {
            all: selection.from == NamespacesFrom::All,
            chosen: Choice::new(&selection.match_names, selection.selector.as_ref(), &selection.exclude)?,
        })
    }

    /// Whether it selects nothing in any cluster.
    pub fn asks_for_nothing(&self) -> bool {
        !self.all && self.chosen.names.is_empty() && self.chosen.selector.0.is_empty()
    }

    /// The keys of labels that decide.
    pub fn label_keys(&self) -> impl Iterator<Item = &str> {
        self.chosen.label_keys()
    }

    /// Whether this namespace gets the Secret. No rule selects the operator's own: a copy there could take the place of a
    /// source.
    pub fn selects(&self, namespace: &Namespace) -> bool {
        if namespace.is_own || namespace.terminating || namespace.excluded {
            return false;
        }
        if self.chosen.excludes(&namespace.name) {
            return false;
        }
        if self.all {
            !is_system(&namespace.name)
        } else {
            self.chosen.takes(&namespace.name, &namespace.labels)
        }
    }
}

impl ServiceAccountFilter {
    /// Compiles a selection.
    pub fn new(selection: &ServiceAccountSelection) -> Result<Self, SelectorError> {
        Ok(Self {
            from: selection.from,
            chosen: Choice::new(&selection.match_names, selection.selector.as_ref(), &selection.exclude)?,
        })
    }

    /// Whether no list is written: Pods name the Secret themselves.
    pub fn is_none(&self) -> bool {
        self.from == ServiceAccountsFrom::None
    }

    /// The keys of labels that decide.
    pub fn label_keys(&self) -> impl Iterator<Item = &str> {
        self.chosen.label_keys()
    }

    /// Whether this ServiceAccount, in a selected namespace, names the Secret.
    pub fn selects(&self, name: &str, account: &ServiceAccount) -> bool {
        if account.terminating || account.excluded || self.chosen.excludes(name) {
            return false;
        }
        match self.from {
            ServiceAccountsFrom::All => true,
            ServiceAccountsFrom::Selected => self.chosen.takes(name, &account.labels),
            ServiceAccountsFrom::None => false,
        }
    }
}

impl Choice {
    fn new(
        names: &[String],
        selector: Option<&LabelSelector>,
        exclude: &[String],
    ) -> Result<Self, SelectorError> {
        Ok(Self {
            names: globs(names),
            selector: selector.map(Selector::new).transpose()?.unwrap_or_default(),
            exclude: globs(exclude),
        })
    }

    fn excludes(&self, name: &str) -> bool {
        self.exclude.iter().any(|glob| glob.matches(name))
    }

    fn label_keys(&self) -> impl Iterator<Item = &str> {
        self.selector.0.iter().map(|requirement| requirement.key.as_str())
    }

    fn takes(&self, name: &str, labels: &StringMap) -> bool {
        self.names.iter().any(|glob| glob.matches(name)) || self.selector.matches(labels)
    }
}

impl Selector {
    fn new(selector: &LabelSelector) -> Result<Self, SelectorError> {
        let labels = selector.match_labels.iter().map(|(key, value)| Requirement {
            key: key.clone(),
            operator: LabelSelectorOperator::In,
            values: vec![value.clone()],
        });
        let expressions = selector.match_expressions.iter().map(Requirement::new);
        Ok(Self(labels.map(Ok).chain(expressions).collect::<Result<_, _>>()?))
    }

    fn matches(&self, labels: &StringMap) -> bool {
        !self.0.is_empty() && self.0.iter().all(|requirement| requirement.holds(labels))
    }
}

impl Requirement {
    fn new(expression: &LabelSelectorRequirement) -> Result<Self, SelectorError> {
        let needs_values =
            matches!(expression.operator, LabelSelectorOperator::In | LabelSelectorOperator::NotIn);
        if needs_values == expression.values.is_empty() {
            return Err(SelectorError { key: expression.key.clone() });
        }
        Ok(Self {
            key: expression.key.clone(),
            operator: expression.operator,
            values: expression.values.clone(),
        })
    }

    fn holds(&self, labels: &StringMap) -> bool {
        let value = labels.get(&self.key);
        let listed = value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            LabelSelectorOperator::In => listed,
            LabelSelectorOperator::NotIn => !listed,
            LabelSelectorOperator::Exists => value.is_some(),
            LabelSelectorOperator::DoesNotExist => value.is_none(),
        }
    }
}

fn globs(patterns: &[String]) -> Vec<WildMatch> {
    patterns.iter().map(|pattern| WildMatch::new(pattern)).collect()
}

fn is_system(namespace: &str) -> bool {
    SYSTEM_PREFIXES.iter().any(|prefix| namespace.starts_with(prefix))
}
