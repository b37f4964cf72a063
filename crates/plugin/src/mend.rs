//! The one command that mends a cause. What it changes on a selection is tried with the operator's own filter before it
//! is shown: a command that would select nothing is not given.

use std::collections::BTreeMap;
use std::sync::Arc;

use regcred_api::{
    LabelSelector, LabelSelectorOperator, LabelSelectorRequirement, NamespaceSelection, NamespacesFrom,
    RegistryCredentialSpec, SourceMember,
};
use regcred_index::CredentialEntry;
use regcred_planner::{Namespace, NamespaceFilter, ServiceAccount, ServiceAccountFilter};
use serde_json::{Value, json};

use crate::pod::Workload;
use crate::scene::{Image, Scene};
use crate::text::word;

/// Why a RegistryCredential does not select a namespace, and the command that has it do so.
pub(crate) struct Unselected {
    /// What it selects, and what the namespace lacks.
    pub(crate) why: String,
    /// The same in a few words.
    pub(crate) short: String,
    /// Nothing where no command would do.
    pub(crate) fix: Option<String>,
}

/// Why this RegistryCredential does not select this namespace.
pub(crate) fn unselected(
    credential: &str,
    spec: &RegistryCredentialSpec,
    namespace: &Namespace,
) -> Unselected {
    let name = &namespace.name;
    if namespace.is_own {
        let why = "the operator's own namespace is never selected".to_owned();
        return Unselected { short: why.clone(), why, fix: None };
    }
    if namespace.terminating {
        let why = format!("{name} is being deleted, and gets nothing new");
        return Unselected { short: why.clone(), why, fix: None };
    }
    if namespace.excluded {
        let why = format!("{name} opts out by its annotation regcred.dev/exclude");
        let fix = format!("kubectl annotate namespace {} regcred.dev/exclude-", word(name));
        return Unselected { short: "annotation regcred.dev/exclude".to_owned(), why, fix: Some(fix) };
    }
    by_labels(&spec.namespaces, namespace).unwrap_or_else(|| by_name(credential, &spec.namespaces, namespace))
}

/// Labels that have the selector select the namespace.
fn by_labels(selection: &NamespaceSelection, namespace: &Namespace) -> Option<Unselected> {
    let wanted = labels_for(selection.selector.as_ref()?, namespace)?;
    let mut changed: BTreeMap<String, String> = (*namespace.labels).clone();
    for (key, value) in &wanted {
        match value {
            Some(value) => drop(changed.insert(key.clone(), value.clone())),
            None => drop(changed.remove(key)),
        }
    }
    let changed = Namespace { labels: Arc::new(changed), ..namespace.clone() };
    selects(selection, &changed).then_some(())?;
    let label = |(key, value): &(String, Option<String>)| match value {
        Some(value) => format!("{key}={value}"),
        None => format!("{key}-"),
    };
    let labels: Vec<String> = wanted.iter().map(label).collect();
    let overwrites = wanted.iter().any(|(key, value)| value.is_some() && namespace.labels.contains_key(key));
    let overwrite = if overwrites { " --overwrite" } else { "" };
    let (text, name) = (labels.join(" "), &namespace.name);
    Some(Unselected {
        why: format!("namespaces with {}; {name} has no such label", described(selection)),
        short: format!("label {text}"),
        fix: Some(format!("kubectl label namespace {} {text}{overwrite}", word(name))),
    })
}

/// What is to change on the labels of a namespace: a value, or nothing where the label must go.
fn labels_for(selector: &LabelSelector, namespace: &Namespace) -> Option<Vec<(String, Option<String>)>> {
    let plain = selector.match_labels.iter().map(|(key, value)| (key.clone(), Some(value.clone())));
    let wanted = selector.match_expressions.iter().map(value_for).collect::<Option<Vec<_>>>()?;
    let is_lacking = |(key, value): &(String, Option<String>)| namespace.labels.get(key) != value.as_ref();
    let lacking: Vec<_> = plain.chain(wanted).filter(is_lacking).collect();
    (!lacking.is_empty()).then_some(lacking)
}

fn value_for(requirement: &LabelSelectorRequirement) -> Option<(String, Option<String>)> {
    let value = match requirement.operator {
        LabelSelectorOperator::In => Some(requirement.values.first()?.clone()),
        LabelSelectorOperator::Exists => Some("true".to_owned()),
        LabelSelectorOperator::NotIn | LabelSelectorOperator::DoesNotExist => None,
    };
    Some((requirement.key.clone(), value))
}

/// The namespace is named in the spec, or taken out of what it excludes.
fn by_name(credential: &str, selection: &NamespaceSelection, namespace: &Namespace) -> Unselected {
    let name = &*namespace.name;
    let named = NamespaceSelection {
        from: NamespacesFrom::Selected,
        match_names: vec![name.to_owned()],
        selector: None,
        exclude: selection.exclude.clone(),
    };
    if !selects(&named, namespace) {
        return excluded(credential, selection, namespace);
    }
    if selection.from == NamespacesFrom::All {
        let why = format!("{}; name {name} in matchNames if it is meant", described(selection));
        return Unselected {
            short: "a namespace of the platform".to_owned(),
            why,
            fix: Some(edit(credential)),
        };
    }
    let patch = if selection.match_names.is_empty() {
        json!([{"op": "add", "path": "/spec/namespaces/matchNames", "value": [name]}])
    } else {
        json!([{"op": "add", "path": "/spec/namespaces/matchNames/-", "value": name}])
    };
    let why = format!("{}; {name} is none of them", described(selection));
    Unselected { short: format!("{name} is not named"), why, fix: Some(patched(credential, &patch)) }
}

/// What excludes the namespace is taken out, where it is its name and nothing else is missing.
fn excluded(credential: &str, selection: &NamespaceSelection, namespace: &Namespace) -> Unselected {
    let name = &*namespace.name;
    let at = selection.exclude.iter().position(|pattern| **pattern == *name);
    let rest = |at: usize| {
        let mut rest = selection.clone();
        rest.exclude.remove(at);
        rest
    };
    match at {
        Some(at) if selects(&rest(at), namespace) => {
            let patch = json!([{"op": "remove", "path": format!("/spec/namespaces/exclude/{at}")}]);
            let why = format!("its namespaces.exclude names {name}");
            Unselected { short: why.clone(), why, fix: Some(patched(credential, &patch)) }
        }
        _ => {
            let why = format!("its namespaces.exclude matches {name}");
            Unselected { short: why.clone(), why, fix: Some(edit(credential)) }
        }
    }
}

fn selects(selection: &NamespaceSelection, namespace: &Namespace) -> bool {
    NamespaceFilter::new(selection).is_ok_and(|filter| filter.selects(namespace))
}

/// A selection in words: `pull=private`, `team-*, payments`.
pub(crate) fn described(selection: &NamespaceSelection) -> String {
    if selection.from == NamespacesFrom::All {
        return "all namespaces but kube-* and openshift-*".to_owned();
    }
    let names = selection.match_names.iter().cloned();
    let selector = selection.selector.iter().map(selector_text);
    names.chain(selector).collect::<Vec<_>>().join(" or ")
}

fn selector_text(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().map(|(key, value)| format!("{key}={value}"));
    let expressions =
        selector.match_expressions.iter().map(|LabelSelectorRequirement { key, operator, values }| {
            match operator {
                LabelSelectorOperator::In => format!("{key} in ({})", values.join(", ")),
                LabelSelectorOperator::NotIn => format!("{key} not in ({})", values.join(", ")),
                LabelSelectorOperator::Exists => key.clone(),
                LabelSelectorOperator::DoesNotExist => format!("!{key}"),
            }
        });
    labels.chain(expressions).collect::<Vec<_>>().join(",")
}

/// Has a RegistryCredential take one more ServiceAccount; `None` where a name would not do, as with `from: None` or an
/// `exclude` that matches it.
pub(crate) fn select_account(
    credential: &str,
    spec: &RegistryCredentialSpec,
    name: &str,
    account: &ServiceAccount,
) -> Option<String> {
    let mut selection = spec.service_accounts.clone().unwrap_or_default();
    let had_names = !selection.match_names.is_empty();
    selection.match_names.push(name.to_owned());
    let filter = ServiceAccountFilter::new(&selection).ok()?;
    filter.selects(name, account).then_some(())?;
    let patch = match &spec.service_accounts {
        None => {
            json!([{"op": "add", "path": "/spec/serviceAccounts", "value": {"matchNames": selection.match_names}}])
        }
        Some(_) if had_names => {
            json!([{"op": "add", "path": "/spec/serviceAccounts/matchNames/-", "value": name}])
        }
        Some(_) => json!([{"op": "add", "path": "/spec/serviceAccounts/matchNames", "value": [name]}]),
    };
    Some(patched(credential, &patch))
}

/// Opens a RegistryCredential for its author.
pub(crate) fn edit(credential: &str) -> String {
    format!("kubectl edit regcred {}", word(credential))
}

/// Has the operator write again.
pub(crate) fn resume(credential: &str) -> String {
    format!(
        "kubectl patch regcred {} --type merge -p '{}'",
        word(credential),
        json!({"spec": {"suspend": false}})
    )
}

/// Takes the annotation off by which a ServiceAccount opts out.
pub(crate) fn include_account(namespace: &str, account: &str) -> String {
    format!("kubectl -n {} annotate serviceaccount {} regcred.dev/exclude-", word(namespace), word(account))
}

/// Adds a Secret to the list that a workload has of its own.
pub(crate) fn add_to_list(namespace: &str, workload: &Workload, secret: &str) -> String {
    let path = match workload.kind.as_str() {
        "cronjob" => "/spec/jobTemplate/spec/template/spec/imagePullSecrets/-",
        "pod" => "/spec/imagePullSecrets/-",
        _ => "/spec/template/spec/imagePullSecrets/-",
    };
    let patch = json!([{"op": "add", "path": path, "value": {"name": secret}}]);
    let (namespace, kind, name) = (word(namespace), &workload.kind, word(&workload.name));
    match kind.as_str() {
        // The list of a Pod, and the template of a Job, are what they were made with.
        "pod" | "job" => format!(
            "kubectl -n {namespace} patch {kind} {name} --type json -p '{patch}' --dry-run=client -o yaml | kubectl replace --force -f -"
        ),
        _ => format!("kubectl -n {namespace} patch {} {name} --type json -p '{patch}'", word(kind)),
    }
}

/// Has the Pods of a workload made again: a Pod takes its list when it is made. A Pod that nothing makes again is replaced
/// by itself without its list.
pub(crate) fn remake(namespace: &str, workload: &Workload, pod: &str, has_list: bool) -> String {
    let (namespace, pod) = (word(namespace), word(pod));
    match workload.kind.as_str() {
        "deployment" | "daemonset" | "statefulset" => {
            format!("kubectl -n {namespace} rollout restart {}/{}", workload.kind, word(&workload.name))
        }
        "pod" if has_list => {
            let patch = json!([{"op": "remove", "path": "/spec/imagePullSecrets"}]);
            format!(
                "kubectl -n {namespace} patch pod {pod} --type json -p '{patch}' --dry-run=client -o yaml | kubectl replace --force -f -"
            )
        }
        "pod" => format!("kubectl -n {namespace} get pod {pod} -o yaml | kubectl replace --force -f -"),
        _ => format!("kubectl -n {namespace} delete pod {pod}"),
    }
}

/// Renews a credential that has expired: tokens are asked for again, a Secret is given another by whoever has it.
pub(crate) fn renew(scene: &Scene, name: &str, entry: &CredentialEntry, image: &Image) -> String {
    let spec = entry.planned.spec.as_ref().ok();
    let registries = spec.into_iter().flat_map(|spec| &spec.registries);
    let source = registries
        .filter(|registry| image.is_opened_by(&registry.server))
        .map(|registry| &registry.source)
        .next_back();
    let secret = match source {
        Some(SourceMember::Secret(secret)) => Some(secret.name.as_str()),
        Some(_) => None,
        None => spec.and_then(|spec| spec.docker_config_secrets.first()).map(String::as_str),
    };
    match secret {
        Some(secret) => format!("kubectl -n {} edit secret {}", word(&scene.home), word(secret)),
        None => format!("kubectl regcred refresh {} --wait", word(name)),
    }
}

fn patched(credential: &str, patch: &Value) -> String {
    format!("kubectl patch regcred {} --type json -p '{patch}'", word(credential))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize as _;

    use super::*;

    fn tried(selection: &Value, labels: &Value) -> (String, String) {
        let spec = json!({"registries": [], "namespaces": selection});
        let spec: RegistryCredentialSpec = serde_json::from_value(spec).expect("a spec");
        let namespace = Namespace {
            name: Arc::from("team-b"),
            labels: Arc::new(BTreeMap::deserialize(labels).expect("labels")),
            excluded: false,
            terminating: false,
            is_own: false,
        };
        let Unselected { why, fix, .. } = unselected("pull", &spec, &namespace);
        (why, fix.unwrap_or_default())
    }

    #[test]
    fn a_label_is_proposed_that_selects() {
        let selector = json!({"selector": {"matchLabels": {"pull": "private"}}});
        let (why, fix) = tried(&selector, &json!({}));
        assert_eq!(why, "namespaces with pull=private; team-b has no such label");
        assert_eq!(fix, "kubectl label namespace team-b pull=private");
        let (_, fix) = tried(&selector, &json!({"pull": "public"}));
        assert_eq!(fix, "kubectl label namespace team-b pull=private --overwrite");
        let expressions = json!({"selector": {"matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["gold", "silver"]}, {"key": "old", "operator": "DoesNotExist"},
        ]}});
        let (_, fix) = tried(&expressions, &json!({"old": "1"}));
        assert_eq!(fix, "kubectl label namespace team-b tier=gold old-");
    }

    #[test]
    fn a_namespace_is_named_where_no_label_would_do() {
        let (_, fix) = tried(&json!({"matchNames": ["shop"]}), &json!({}));
        let patch = r#"[{"op":"add","path":"/spec/namespaces/matchNames/-","value":"team-b"}]"#;
        assert_eq!(fix, format!("kubectl patch regcred pull --type json -p '{patch}'"));
        let excluded = json!({"selector": {"matchLabels": {"a": "b"}}, "exclude": ["x", "team-b"]});
        let (why, fix) = tried(&excluded, &json!({"a": "b"}));
        assert_eq!(why, "its namespaces.exclude names team-b");
        assert!(fix.ends_with(r#"-p '[{"op":"remove","path":"/spec/namespaces/exclude/1"}]'"#), "{fix}");
        // Neither a label nor a name would do.
        let lacking = json!({"selector": {"matchLabels": {"a": "b"}}, "exclude": ["team-b"]});
        let (why, fix) = tried(&lacking, &json!({}));
        assert_eq!(
            (why.as_str(), fix.as_str()),
            ("its namespaces.exclude matches team-b", "kubectl edit regcred pull")
        );
        let (_, fix) = tried(&json!({"from": "All", "exclude": ["team-*"]}), &json!({}));
        assert_eq!(fix, "kubectl edit regcred pull");
    }
}
