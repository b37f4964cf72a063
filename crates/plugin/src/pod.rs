//! A Pod, as far as pulling is concerned: what it runs, with which list, as whom, and whether it has pulled. Everything
//! else of it is skipped while it is read.

use std::collections::HashMap;

use serde::Deserialize;

/// Reasons for which the kubelet lets a container wait that could not be pulled (k8s.io/kubernetes, pkg/kubelet/images).
const CANNOT_PULL: [&str; 5] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "FailedToRetrieveImagePullSecret",
    "RegistryUnavailable",
    "ImageInspectError",
];
/// The reason that says that a Secret is missing, and no registry was asked.
const SECRET_MISSING: &str = "FailedToRetrieveImagePullSecret";
/// Errors that the kubelet gives as they are where the reason should be, when it cannot decode a Secret of the list: it then asks no
/// registry, and names no Secret (k8s.io/kubernetes, pkg/credentialprovider; encoding/json and encoding/base64 of Go).
const SECRET_UNDECODABLE: [&str; 5] = [
    "illegal base64 data",
    "unable to parse auth field",
    "invalid character",
    "unexpected end of JSON input",
    "json: cannot unmarshal",
];
/// What is said instead of them.
const UNDECODABLE: &str = "a pull secret cannot be decoded";
/// How many digits end the name of a Job that a `CronJob` made: minutes since 1970.
const MINUTES: std::ops::RangeInclusive<usize> = 8..=10;

/// A Pod.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Received")]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) workload: Workload,
    /// Its ServiceAccount.
    pub(crate) account: String,
    /// Its `imagePullSecrets`.
    pub(crate) list: Vec<String>,
    pub(crate) containers: Vec<Container>,
}

/// What made a Pod, or the Pod itself.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Workload {
    /// As kubectl writes it: `deployment`.
    pub(crate) kind: String,
    pub(crate) name: String,
}

/// A container, and what is known of its image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) pull: Pull,
}

/// Whether an image was pulled, by what the kubelet says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Pull {
    /// It is on the node.
    Done,
    /// It cannot be pulled.
    Failed {
        /// Why the container waits.
        reason: &'static str,
        /// What of the kubelet's message is known to be no tenant's text.
        hint: Option<&'static str>,
    },
    /// Nothing is known.
    Unknown,
}

/// What the kubelet says of a Secret of the list, without its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Complaint {
    /// It does not exist.
    Missing,
    /// It cannot be decoded.
    Undecodable,
}

impl Workload {
    /// As kubectl takes it: `deployment/web`.
    pub(crate) fn text(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }
}

impl Pull {
    /// What the kubelet says of a Secret of the list.
    pub(crate) fn complaint(&self) -> Option<Complaint> {
        match self {
            Self::Failed { reason: SECRET_MISSING, .. } => Some(Complaint::Missing),
            Self::Failed { reason: UNDECODABLE, .. } => Some(Complaint::Undecodable),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct Received {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    owner_references: Vec<Owner>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Labels {
    #[serde(rename = "pod-template-hash")]
    template_hash: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Owner {
    kind: String,
    name: String,
    controller: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    service_account_name: String,
    image_pull_secrets: Vec<Named>,
    init_containers: Vec<ContainerSpec>,
    containers: Vec<ContainerSpec>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ContainerSpec {
    name: String,
    image: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    init_container_statuses: Vec<ContainerStatus>,
    container_statuses: Vec<ContainerStatus>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ContainerStatus {
    name: String,
    #[serde(rename = "imageID")]
    image_id: String,
    state: State,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct State {
    waiting: Option<Waiting>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Waiting {
    reason: String,
    message: String,
}

impl From<Received> for Pod {
    fn from(Received { metadata, spec, status }: Received) -> Self {
        let statuses = status.init_container_statuses.into_iter().chain(status.container_statuses);
        let mut pulls: HashMap<String, Pull> =
            statuses.map(|status| (status.name.clone(), pull(&status))).collect();
        let mut container = |ContainerSpec { name, image }| {
            let pull = pulls.remove(&name).unwrap_or(Pull::Unknown);
            Container { name, image, pull }
        };
        let account = spec.service_account_name;
        Self {
            workload: workload(&metadata),
            namespace: metadata.namespace,
            name: metadata.name,
            account: if account.is_empty() { "default".to_owned() } else { account },
            list: spec
                .image_pull_secrets
                .into_iter()
                .map(|named| named.name)
                .filter(|name| !name.is_empty())
                .collect(),
            containers: spec.init_containers.into_iter().chain(spec.containers).map(&mut container).collect(),
        }
    }
}

/// A container that waits for its image now cannot pull, whatever it ran before.
fn pull(status: &ContainerStatus) -> Pull {
    let waiting = status.state.waiting.as_ref();
    let failed = waiting.and_then(|waiting| {
        let is_undecodable = || SECRET_UNDECODABLE.iter().any(|known| waiting.reason.contains(known));
        let known = CANNOT_PULL.into_iter().find(|known| *known == waiting.reason);
        let reason = known.or_else(|| is_undecodable().then_some(UNDECODABLE))?;
        Some(Pull::Failed { reason, hint: hint(&waiting.message) })
    });
    let known = || if status.image_id.is_empty() { Pull::Unknown } else { Pull::Done };
    failed.unwrap_or_else(known)
}

/// What a message of the kubelet says, in words that are the same in all of them. The rest of it is the registry's text.
fn hint(message: &str) -> Option<&'static str> {
    const KNOWN: [&str; 9] = [
        "401 Unauthorized",
        "403 Forbidden",
        "429 Too Many Requests",
        "authentication required",
        "access denied",
        "not found",
        "no such host",
        "certificate",
        "timeout",
    ];
    KNOWN.into_iter().find(|known| message.contains(known))
}

/// The workload by the Pod's controller: a `ReplicaSet` of a Deployment and a Job of a `CronJob` are named after it.
fn workload(metadata: &Metadata) -> Workload {
    let Some(owner) = metadata.owner_references.iter().find(|owner| owner.controller && owner.kind != "Node")
    else {
        return Workload { kind: "pod".to_owned(), name: metadata.name.clone() };
    };
    let of = |kind: &str, name: &str| Workload { kind: kind.to_owned(), name: name.to_owned() };
    let cut = |suffix: &str| owner.name.strip_suffix(suffix)?.strip_suffix('-');
    match owner.kind.as_str() {
        "ReplicaSet" if !metadata.labels.template_hash.is_empty() => {
            match cut(&metadata.labels.template_hash) {
                Some(name) => of("deployment", name),
                None => of("replicaset", &owner.name),
            }
        }
        "Job" => match owner.name.rsplit_once('-').filter(|(_, end)| is_minutes(end)) {
            Some((name, _)) => of("cronjob", name),
            None => of("job", &owner.name),
        },
        kind => of(&kind.to_ascii_lowercase(), &owner.name),
    }
}

fn is_minutes(text: &str) -> bool {
    MINUTES.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(pod: Value) -> Pod {
        serde_json::from_value(pod).expect("a Pod")
    }

    fn made_by(kind: &str, name: &str, hash: &str) -> String {
        let owner = json!([{"kind": kind, "name": name, "controller": true}]);
        let metadata = json!({"name": "p", "namespace": "n", "ownerReferences": owner, "labels": {"pod-template-hash": hash}});
        read(json!({"metadata": metadata})).workload.text()
    }

    #[test]
    fn a_pod_is_named_after_what_made_it() {
        assert_eq!(made_by("ReplicaSet", "web-5d9c7b", "5d9c7b"), "deployment/web");
        assert_eq!(made_by("ReplicaSet", "plain", ""), "replicaset/plain");
        assert_eq!(made_by("Job", "report-28401234", ""), "cronjob/report");
        assert_eq!(made_by("Job", "once-2", ""), "job/once-2");
        assert_eq!(made_by("StatefulSet", "etl", ""), "statefulset/etl");
        assert_eq!(made_by("Node", "n1", ""), "pod/p");
    }

    #[test]
    fn an_error_of_the_kubelet_in_place_of_a_reason_is_of_a_secret() {
        let of = |reason: &str| {
            pull(&ContainerStatus {
                image_id: String::new(),
                state: State { waiting: Some(Waiting { reason: reason.to_owned(), message: String::new() }) },
                ..ContainerStatus::default()
            })
        };
        assert_eq!(of("illegal base64 data at input byte 0").complaint(), Some(Complaint::Undecodable));
        assert_eq!(
            of("invalid character 'x' looking for beginning of value").complaint(),
            Some(Complaint::Undecodable)
        );
        let said = "unable to parse auth field, must be formatted as base64(username:password)";
        assert_eq!(of(said).complaint(), Some(Complaint::Undecodable));
        assert_eq!(of("FailedToRetrieveImagePullSecret").complaint(), Some(Complaint::Missing));
        assert_eq!((of("ErrImagePull").complaint(), of("ContainerCreating")), (None, Pull::Unknown));
    }

    #[test]
    fn a_container_that_waits_for_its_image_cannot_pull_whatever_it_ran_before() {
        let waiting =
            json!({"waiting": {"reason": "ImagePullBackOff", "message": "x: 401 Unauthorized \u{1b}[31m"}});
        let pod = read(json!({
            "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}, {"name": "c", "image": "i"}],
                     "imagePullSecrets": [{"name": "x"}, {}]},
            "status": {"containerStatuses": [
                {"name": "a", "imageID": "sha256:1", "state": waiting}, {"name": "b", "imageID": "sha256:1", "state": {}},
            ]},
        }));
        let pulls: Vec<_> = pod.containers.into_iter().map(|container| container.pull).collect();
        let failed = Pull::Failed { reason: "ImagePullBackOff", hint: Some("401 Unauthorized") };
        assert_eq!(pulls, [failed, Pull::Done, Pull::Unknown]);
        assert_eq!((pod.account.as_str(), pod.list), ("default", vec!["x".to_owned()]));
    }
}
