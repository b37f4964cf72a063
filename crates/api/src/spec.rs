//! What an admin writes. Each rule that the API server enforces stands beside its field, with the
//! message that `kubectl apply` prints; defaults live in the schema alone, so that the stored
//! object is what GitOps tools expect.

#![allow(clippy::duplicated_attributes, reason = "each printer column has a type and a path of its own")]

use std::collections::BTreeMap;

use kube_derive::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::ecr;
use crate::reserved;
use crate::source::Source;
use crate::status::RegistryCredentialStatus;
use crate::verify::Verify;

/// A credential for container registries, and where in the cluster Pods may pull with it.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "regcred.dev",
    version = "v1alpha1",
    kind = "RegistryCredential",
    plural = "registrycredentials",
    singular = "registrycredential",
    shortname = "regcred",
    doc = "RegistryCredential keeps a kubernetes.io/dockerconfigjson Secret in every selected namespace and its name on the selected ServiceAccounts.",
    status = "RegistryCredentialStatus",
    derive = "PartialEq",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(
        name = "Namespaces",
        type_ = "string",
        description = "Namespaces in sync of namespaces selected",
        json_path = ".status.summary.namespaces"
    ),
    printcolumn(
        name = "ServiceAccounts",
        type_ = "string",
        description = "ServiceAccounts attached of ServiceAccounts selected",
        json_path = ".status.summary.serviceAccounts"
    ),
    printcolumn(
        name = "Expires",
        type_ = "string",
        description = "When the first credential in it expires",
        json_path = ".status.summary.nextExpiry"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Secret",
        type_ = "string",
        description = "Name of the Secret in each namespace",
        json_path = ".status.summary.secret",
        priority = 1
    ),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1
    ),
    crates(kube_core = "::kube_core")
)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("(has(self.registries) && size(self.registries) > 0) || (has(self.dockerConfigSecretRefs) && size(self.dockerConfigSecretRefs) > 0)").message("give at least one entry in registries or dockerConfigSecretRefs"),
    validation = Rule::new("!(has(self.target) && has(self.target.conflictPolicy) && self.target.conflictPolicy == 'Adopt') || (has(self.deletionPolicy) && self.deletionPolicy == 'Retain')").message("target.conflictPolicy: Adopt needs deletionPolicy: Retain, so that an adopted Secret is never deleted"),
    validation = Rule::new("!has(self.verify) || !has(self.verify.mode) || self.verify.mode != 'Pull' || has(self.verify.repository) || ((!has(self.dockerConfigSecretRefs) || size(self.dockerConfigSecretRefs) == 0) && has(self.registries) && self.registries.all(r, has(r.verify) && (has(r.verify.repository) || (has(r.verify.mode) && r.verify.mode != 'Pull'))))").message("verify.mode: Pull needs verify.repository: an image that the credential may pull"),
    validation = Rule::new("!has(self.registries) || (has(self.verify) && has(self.verify.repository)) || self.registries.all(r, !has(r.verify) || !has(r.verify.mode) || r.verify.mode != 'Pull' || has(r.verify.repository))").message("registries[].verify.mode: Pull needs a repository: an image that the credential may pull"),
    validation = Rule::new("!has(self.verify) || has(self.verify.mode) || (has(self.registries) && self.registries.exists(r, has(r.verify) && has(r.verify.mode) && r.verify.mode != 'None'))").message("verify has no mode, so no registry is asked; write mode: Login or mode: Pull"),
    validation = Rule::new("!has(self.registries) || (has(self.verify) && has(self.verify.mode)) || self.registries.all(r, !has(r.verify) || has(r.verify.mode))").message("registries[].verify has no mode, there or in spec.verify, so the registry is not asked; write mode: Login or mode: Pull"),
    validation = Rule::new("!has(self.verify) || !has(self.verify.mode) || self.verify.mode != 'Login' || (!has(self.verify.repository) && !has(self.verify.reference)) || (has(self.registries) && self.registries.exists(r, has(r.verify) && has(r.verify.mode) && r.verify.mode == 'Pull'))").message("verify.mode: Login pulls nothing; leave repository and reference out, or write mode: Pull"),
    validation = Rule::new("!has(self.registries) || self.registries.all(r, !has(r.verify) || (!has(r.verify.repository) && !has(r.verify.reference)) || (has(r.verify.mode) ? r.verify.mode != 'Login' : !has(self.verify) || !has(self.verify.mode) || self.verify.mode != 'Login'))").message("registries[].verify.mode: Login pulls nothing; leave repository and reference out, or write mode: Pull"),
    validation = Rule::new("!has(self.verify) || !has(self.verify.repository) || !self.verify.repository.contains('.') || !has(self.registries) || self.registries.all(r, (has(r.verify) && has(r.verify.repository)) || self.verify.repository.split('/')[0] != r.server.split('/')[0].split(':')[0])").message("write verify.repository without the server's name, as in acme/app")
)]
#[serde(rename_all = "camelCase")]
pub struct RegistryCredentialSpec {
    /// Stop writing and refreshing. Deletion still works.
    #[serde(default)]
    pub suspend: bool,

    /// The registries this credential opens, each server once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["server".into()]))]
    pub registries: Vec<Registry>,

    /// Secrets in the operator's source namespace whose entries are all taken over. An entry loses
    /// to `registries` for the same server, and to an earlier reference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub docker_config_secret_refs: Vec<DockerConfigSecretRef>,

    /// Whether registries are asked if the credentials are good. Holds for every server, and gives what `registries[].verify`
    /// leaves out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,

    /// The namespaces that get the Secret. The operator's own, which holds the sources, never does.
    pub namespaces: NamespaceSelection,

    /// The ServiceAccounts, in those namespaces, that name the Secret in imagePullSecrets. Left
    /// out: the ServiceAccount `default`. That is no default of the schema, which would be stored, and
    /// stay beside what a later manifest names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_accounts: Option<ServiceAccountSelection>,

    /// The Secret in each namespace.
    #[serde(default)]
    pub target: Target,

    /// What happens to Secrets and ServiceAccount entries when this object, or a namespace of its
    /// selection, goes: `Delete` removes both, `Retain` leaves both and takes regcred's marks off.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// The longest time between two looks at the source; a change of it is seen at once anyway.
    #[serde(default = "default_refresh_interval")]
    #[schemars(length(max = 32))]
    #[x_kube(
        validation = Rule::new("self.matches('^([0-9]+(ms|s|m|h))+$')").message("write refreshInterval in h, m, s and ms, as in 24h or 1h30m; there is no unit for a day"),
        validation = Rule::new("!self.matches('^([0-9]+(ms|s|m|h))+$') || duration(self) >= duration('1m')").message("refreshInterval must be at least 1m")
    )]
    pub refresh_interval: String,
}

fn default_refresh_interval() -> String {
    "1h".to_owned()
}

/// One registry and where its credential comes from.
#[derive(KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("!self.server.contains('*') || has(self.source.ecr)").message("a wildcard would send the credential to every host that matches; name each server (only source.ecr takes one, for the accounts of a region)"),
    validation = Rule::new(ecr::rule()).message("source.ecr needs a server of Amazon ECR: 123456789012.dkr.ecr.REGION.amazonaws.com, *.dkr.ecr.REGION.amazonaws.com or public.ecr.aws"),
    validation = Rule::new("!has(self.source.gcp) || self.server.matches('^(([a-z0-9-]+[.])?gcr[.]io|[a-z0-9-]+-docker[.]pkg[.]dev)(/|$)')").message("source.gcp needs a server of Google: LOCATION-docker.pkg.dev, gcr.io or LOCATION.gcr.io"),
    validation = Rule::new("!has(self.source.acr) || self.server.matches('^[a-z0-9]+(-[a-z0-9]+)*([.][a-z0-9-]+)?[.]azurecr[.](io|cn|us)(/|$)')").message("source.acr needs a server of Azure Container Registry: NAME.azurecr.io, .cn or .us"),
    validation = Rule::new("!has(self.source.quay) || self.server.matches('^quay[.]io(/|$)')").message("source.quay needs the server quay.io, with or without a path; a Quay of your own takes a robot's password by secretRef"),
    validation = Rule::new("!has(self.source.jfrog) || self.server.matches('^[a-z0-9][a-z0-9-]*[.]jfrog[.]io(/|$)')").message("source.jfrog needs a server of JFrog's cloud: NAME.jfrog.io; an Artifactory of your own takes a token by secretRef"),
    validation = Rule::new("!has(self.source.cloudsmith) || self.server.matches('^docker[.]cloudsmith[.]io(/|$)')").message("source.cloudsmith needs the server docker.cloudsmith.io, with or without a path; a domain of your own takes a token by secretRef"),
    validation = Rule::new("!self.server.contains('*') || !has(self.verify) || !has(self.verify.mode) || self.verify.mode == 'None'").message("verify needs a host to ask, and a server with * names none; leave verify out, or write the server in full"),
    validation = Rule::new("!has(self.verify) || !has(self.verify.repository) || !self.server.contains('/') || self.verify.repository.startsWith(self.server.substring(self.server.indexOf('/') + 1))").message("verify.repository must begin with the server's path: for ghcr.io/acme as in acme/app, else no image of it uses this credential"),
    validation = Rule::new("!has(self.verify) || !has(self.verify.repository) || !self.verify.repository.contains('.') || self.verify.repository.split('/')[0] != self.server.split('/')[0].split(':')[0]").message("write registries[].verify.repository without the server's name, as in acme/app")
)]
#[serde(rename_all = "camelCase")]
pub struct Registry {
    /// `host[:port][/path-prefix]` as in image names; `docker.io` for Docker Hub, its other hosts for
    /// images that are named so. The kubelet compares the path as a plain string prefix: `/team` also
    /// matches `/team-b`.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new("!self.contains('://')").message("write the server without a scheme: ghcr.io, not https://ghcr.io"),
        validation = Rule::new("!self.matches('^(index[.]docker[.]io|hub[.]docker[.]com|registry[.]docker[.]io)(/|$)')").message("write docker.io for Docker Hub"),
        validation = Rule::new("!self.matches('^[^/]*/v[12]$')").message("leave the version of the registry's API out: ghcr.io, not ghcr.io/v2"),
        validation = Rule::new("!self.startsWith('[') || self.matches('^[[](([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}|([0-9a-f]{1,4}:){1,7}:|([0-9a-f]{1,4}:){1,6}:[0-9a-f]{1,4}|([0-9a-f]{1,4}:){1,5}(:[0-9a-f]{1,4}){1,2}|([0-9a-f]{1,4}:){1,4}(:[0-9a-f]{1,4}){1,3}|([0-9a-f]{1,4}:){1,3}(:[0-9a-f]{1,4}){1,4}|([0-9a-f]{1,4}:){1,2}(:[0-9a-f]{1,4}){1,5}|[0-9a-f]{1,4}:(:[0-9a-f]{1,4}){1,6}|:((:[0-9a-f]{1,4}){1,7}|:))]:')").message("write an IPv6 address in brackets and with its port, as in [fd00::1]:443; the kubelet matches none without a port"),
        validation = Rule::new("self.matches('^(([*]|[a-z0-9]([a-z0-9-]*[a-z0-9])?)([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)*|[[][0-9a-f:]+[]])(:([0-9]{1,4}|[1-5][0-9]{4}|6([0-4][0-9]{3}|5([0-4][0-9]{2}|5([0-2][0-9]|3[0-5])))))?(/[a-z0-9._-]+)*$')").message("server must be host[:port][/path], in lower case, without user info and without a trailing slash; a port is at most 65535")
    )]
    pub server: String,

    /// Where the credential comes from: exactly one member.
    pub source: Source,

    /// Whether this registry is asked if the credential is good. What is left out here is taken from `spec.verify`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
}

/// A `kubernetes.io/dockerconfigjson` (or dockercfg) Secret in the operator's source namespace.
#[derive(KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct DockerConfigSecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Whether namespaces are named or all taken.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
pub enum NamespacesFrom {
    /// Every namespace but `kube-*` and `openshift-*`.
    All,
    /// Those that `matchNames` or `selector` name.
    #[default]
    Selected,
}

/// Which namespaces get the Secret. `matchNames` and `selector` are joined by or; `exclude` and
/// the annotation `regcred.dev/exclude`, with any value but `"false"` and `""`, win over everything.
/// The operator's own namespace, which holds the sources, is never selected.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("self.from == 'Selected' || (!has(self.matchNames) && !has(self.selector))").message("matchNames and selector need from: Selected"),
    validation = Rule::new("self.from != 'Selected' || (has(self.matchNames) && size(self.matchNames) > 0) || has(self.selector)").message("from: Selected needs matchNames or selector")
)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceSelection {
    /// `Selected` or `All`.
    #[serde(default)]
    pub from: NamespacesFrom,

    /// Names or globs with `*` and `?`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 63)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(g, g.matches('^[a-z0-9*?-]+$'))").message("names and globs of namespaces are made of lower-case letters, digits, -, * and ?")
    )]
    pub match_names: Vec<String>,

    /// Labels of the namespace. Whoever may label namespaces decides who gets the credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,

    /// Names or globs that are never taken. The annotation `regcred.dev/exclude` on the namespace itself, with any value
    /// but `"false"` and `""`, opts it out, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 63)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(g, g.matches('^[a-z0-9*?-]+$'))").message("names and globs of namespaces are made of lower-case letters, digits, -, * and ?")
    )]
    pub exclude: Vec<String>,
}

/// Whether ServiceAccounts are named, all taken, or none.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
pub enum ServiceAccountsFrom {
    /// Every ServiceAccount of the selected namespaces.
    All,
    /// Those that `matchNames` or `selector` name.
    #[default]
    Selected,
    /// None: Pods name the Secret themselves, and no entry of regcred's is on a ServiceAccount.
    None,
}

/// Which ServiceAccounts name the Secret. Others of the same namespace lose the entry if regcred put
/// it there (annotation `regcred.dev/attached`); an entry that somebody else put there stays.
#[derive(KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("self.from == 'Selected' || (!has(self.matchNames) && !has(self.selector))").message("matchNames and selector need from: Selected"),
    validation = Rule::new("self.from != 'Selected' || (has(self.matchNames) && size(self.matchNames) > 0) || has(self.selector)").message("from: Selected needs matchNames or selector")
)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountSelection {
    /// `Selected`, `All` or `None`.
    #[serde(default)]
    pub from: ServiceAccountsFrom,

    /// Names or globs with `*` and `?`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(g, g.matches('^[a-z0-9.*?-]+$'))").message("names and globs of ServiceAccounts are made of lower-case letters, digits, -, ., * and ?")
    )]
    pub match_names: Vec<String>,

    /// Labels of the ServiceAccount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,

    /// Names or globs that are never taken. The annotation `regcred.dev/exclude` on the ServiceAccount itself, with any
    /// value but `"false"` and `""`, opts it out, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(g, g.matches('^[a-z0-9.*?-]+$'))").message("names and globs of ServiceAccounts are made of lower-case letters, digits, -, ., * and ?")
    )]
    pub exclude: Vec<String>,
}

impl Default for ServiceAccountSelection {
    fn default() -> Self {
        Self {
            from: ServiceAccountsFrom::Selected,
            match_names: vec!["default".to_owned()],
            selector: None,
            exclude: Vec::new(),
        }
    }
}

/// `metav1.LabelSelector`, with its rules checked when the object is applied. Unlike there, an empty
/// one selects nothing: handing a credential to everybody is written `from: All`.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels that must be there with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub match_labels: BTreeMap<String, String>,

    /// Requirements that must all hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// One requirement of a label selector.
#[derive(KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)").message("operators In and NotIn need values; Exists and DoesNotExist take none")
)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelectorRequirement {
    /// The label.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,

    /// How the label is compared.
    pub operator: LabelSelectorOperator,

    /// The values for `In` and `NotIn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub values: Vec<String>,
}

/// Operators of a label selector.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
pub enum LabelSelectorOperator {
    /// The label is there, with one of the values.
    In,
    /// The label is not there, or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
}

/// The Secret in each selected namespace.
#[derive(KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Name of the Secret. Left out: the name of this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')").message("target.name must be a name that a Secret can have: lower-case letters, digits, - and ., as in platform-pull"))]
    pub name: Option<String>,

    /// What to do where a Secret of that name exists that regcred did not make.
    #[serde(default)]
    pub conflict_policy: ConflictPolicy,

    /// Labels and annotations for the Secret, besides regcred's own.
    #[serde(default)]
    pub metadata: TargetMetadata,

    /// How long the Secret under a former name stays in a namespace once the one under the present name is in
    /// place there: Pods that run name the former one.
    #[serde(default = "default_rename_grace_period")]
    #[schemars(length(max = 32))]
    #[x_kube(
        validation = Rule::new("self.matches('^([0-9]+(ms|s|m|h))+$')").message("write renameGracePeriod in h, m, s and ms, as in 24h or 1h30m; there is no unit for a day"),
        validation = Rule::new("!self.matches('^([0-9]+(ms|s|m|h))+$') || duration(self) >= duration('0s')").message("renameGracePeriod must be a duration, as in 1h")
    )]
    pub rename_grace_period: String,
}

impl Default for Target {
    fn default() -> Self {
        Self {
            name: None,
            conflict_policy: ConflictPolicy::default(),
            metadata: TargetMetadata::default(),
            rename_grace_period: default_rename_grace_period(),
        }
    }
}

fn default_rename_grace_period() -> String {
    "1h".to_owned()
}

/// What to do where a foreign Secret holds the target name.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
pub enum ConflictPolicy {
    /// Leave it untouched and say so in status.
    #[default]
    Fail,
    /// Take it over if it is of type `kubernetes.io/dockerconfigjson`.
    Adopt,
}

/// Every key is one that Kubernetes takes (k8s.io/apimachinery, pkg/util/validation, `IsQualifiedName`): at most 253
/// characters before the `/`.
const KEYS: &str = "self.all(k, k.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$') && k.indexOf('/') <= 253)";

/// Labels and annotations for the copies. Those of a source Secret are never copied. Keys by which other tools act on
/// Secrets are refused.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct TargetMetadata {
    /// Labels to put on each Secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = serde_json::json!({"type": "string", "maxLength": 63})))]
    #[x_kube(
        validation = Rule::new("self.all(k, !k.startsWith('regcred.dev/') && k != 'app.kubernetes.io/managed-by')").message("labels under regcred.dev/ and app.kubernetes.io/managed-by are regcred's own; choose another key"),
        validation = Rule::new(reserved::rule()).message("another tool acts on Secrets by such a label (argocd.argoproj.io/, helm.sh/, *.kubernetes.io/, …); choose a key of your own, as in example.com/team"),
        validation = Rule::new(KEYS).message("a label's key must be a name of at most 63 letters, digits, -, _ and ., with a DNS name and / before it if need be"),
        validation = Rule::new("self.all(k, self[k].matches('^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$'))").message("a label's value must be of letters, digits, -, _ and ., beginning and ending with a letter or digit")
    )]
    pub labels: BTreeMap<String, String>,

    /// Annotations to put on each Secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = serde_json::json!({"type": "string", "maxLength": 1024})))]
    #[x_kube(
        validation = Rule::new("self.all(k, !k.startsWith('regcred.dev/'))").message("annotations under regcred.dev/ are regcred's own; choose another key"),
        validation = Rule::new(reserved::rule()).message("another tool acts on Secrets by such an annotation (argocd.argoproj.io/, helm.sh/, *.kubernetes.io/, …); choose a key of your own, as in example.com/team"),
        validation = Rule::new(KEYS).message("an annotation's key must be a name of at most 63 letters, digits, -, _ and ., with a DNS name and / before it if need be")
    )]
    pub annotations: BTreeMap<String, String>,
}

/// What happens to what regcred wrote once it is no longer wanted.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
pub enum DeletionPolicy {
    /// Detach, then delete.
    #[default]
    Delete,
    /// Keep Secret and entries; take regcred's marks off the Secret.
    Retain,
}
