//! What is particular about single registries.

use regcred_dockerconfig::{DOCKER_HUB_ALIASES, DOCKER_HUB_HOSTS};

/// Where Docker Hub has its registry.
const DOCKER_HUB: &str = "registry-1.docker.io";
/// Token servers of another host than the registry's that belong to it.
const PAIRS: [(&str, &str); 3] = [
    (DOCKER_HUB, "auth.docker.io"),
    ("registry.gitlab.com", "gitlab.com"),
    ("registry.digitalocean.com", "api.digitalocean.com"),
];
/// Registries whose token server gives tokens to everybody, and refuses a wrong login all the same.
const TELL_LOGINS_APART: [&str; 6] =
    [DOCKER_HUB, "registry.gitlab.com", "ghcr.io", "quay.io", "public.ecr.aws", "gcr.io"];
/// The same for all hosts of a domain.
const TELL_LOGINS_APART_BELOW: [&str; 3] = [".azurecr.io", ".pkg.dev", ".gcr.io"];

/// The host to ask for a server's host, in lower case.
pub(crate) fn host(named: &str) -> String {
    let host = named.to_ascii_lowercase();
    let is_hub = DOCKER_HUB_HOSTS.contains(&&*host) || DOCKER_HUB_ALIASES.contains(&&*host);
    if is_hub { DOCKER_HUB.to_owned() } else { host }
}

/// The repository as a host calls it: images of Docker Hub without a namespace are in `library`.
pub(crate) fn repository(host: &str, named: &str) -> String {
    let is_short = host == DOCKER_HUB && !named.contains('/');
    if is_short { format!("library/{named}") } else { named.to_owned() }
}

/// Whether a token server of another host belongs to a registry.
pub(crate) fn belongs(realm: &str, host: &str) -> bool {
    PAIRS.contains(&(host, realm))
}

/// Whether a registry is known to refuse wrong logins although it serves everybody.
pub(crate) fn tells_logins_apart(host: &str) -> bool {
    TELL_LOGINS_APART.contains(&host) || TELL_LOGINS_APART_BELOW.iter().any(|end| host.ends_with(end))
}

/// Whether a registry answers 400, and no more, to a login that has expired (ECR Public).
pub(crate) fn means_expired_by_400(host: &str) -> bool {
    host == "public.ecr.aws"
}
