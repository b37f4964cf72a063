//! Keys of labels and annotations that `target.metadata` does not take: by them other tools act on a Secret, as if its
//! author might. They delete it with their next sync, copy it into other namespaces, or take it for credentials of theirs.

use std::fmt::Write as _;

/// What comes before the `/` of such keys, itself or as the end of a longer domain.
pub const DOMAINS: [&str; 36] = [
    "1password.io",
    "akuity.io",
    "appscode.com",
    "argoproj.io",
    "banzaicloud.com",
    "banzaicloud.io",
    "bitnami.com",
    "carvel.dev",
    "cattle.io",
    "cert-manager.io",
    "clastix.io",
    "clustersecret.io",
    "crossplane.io",
    "emberstack.com",
    "external-secrets.io",
    "fluxcd.io",
    "gardener.cloud",
    "gke.io",
    "hashicorp.com",
    "havulv.io",
    "helm.sh",
    "infisical.com",
    "janitor",
    "jenkins.io",
    "k14s.io",
    "k8s.io",
    "karmada.io",
    "kubernetes.io",
    "kyverno.io",
    "loft.sh",
    "mittwald.de",
    "oam.dev",
    "open-cluster-management.io",
    "openshift.io",
    "stakater.com",
    "x-k8s.io",
];

/// The recommended labels of Kubernetes lie under one of the domains, and describe what they are on.
const DESCRIPTIVE: &str = "app.kubernetes.io/";

/// Those by which Helm and Argo CD know what is theirs, all the same.
const OF_TOOLS: [&str; 2] = ["app.kubernetes.io/instance", "app.kubernetes.io/managed-by"];

/// The tool's domain, or the whole key, if another tool acts on Secrets by this key.
pub fn reserved(key: &str) -> Option<&'static str> {
    if key.starts_with(DESCRIPTIVE) {
        return OF_TOOLS.into_iter().find(|own| *own == key);
    }
    let (prefix, _) = key.split_once('/')?;
    DOMAINS.into_iter().find(|domain| {
        prefix.strip_suffix(domain).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    })
}

/// The same as a rule in CEL over the keys of a map.
pub(crate) fn rule() -> String {
    let domains = DOMAINS.join("|").replace('.', "[.]");
    let mut of_tools = String::new();
    for key in OF_TOOLS {
        let _ = write!(of_tools, " && k != '{key}'");
    }
    format!(
        "self.all(k, (k.startsWith('{DESCRIPTIVE}') || !k.matches('^([^/]*[.])?({domains})/')){of_tools})"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_counts_with_all_below_it_and_nothing_beside_it() {
        for (key, expected) in [
            ("helm.sh/resource-policy", Some("helm.sh")),
            ("meta.helm.sh/release-name", Some("helm.sh")),
            ("argocd.argoproj.io/secret-type", Some("argoproj.io")),
            ("kubectl.kubernetes.io/last-applied-configuration", Some("kubernetes.io")),
            ("hnc.x-k8s.io/inherited-from", Some("x-k8s.io")),
            ("janitor/ttl", Some("janitor")),
            ("app.kubernetes.io/instance", Some("app.kubernetes.io/instance")),
            ("app.kubernetes.io/name", None),
            ("myhelm.sh/x", None),
            ("helm.sh.example.com/x", None),
            ("helm.sh", None),
            ("team", None),
            ("example.com/team", None),
        ] {
            assert_eq!(reserved(key), expected, "{key}");
        }
    }

    #[test]
    fn domains_are_sorted_and_none_lies_below_another() {
        assert!(DOMAINS.is_sorted());
        for domain in DOMAINS {
            let above = DOMAINS.iter().filter(|other| domain.ends_with(&format!(".{other}")));
            assert_eq!(above.count(), 0, "{domain}");
        }
    }
}
