//! The names of Docker Hub.

/// What images and we call it.
pub(crate) const NAME: &str = "docker.io";

/// What the kubelet and docker call its default registry.
pub(crate) const DEFAULT_REGISTRY: &str = "index.docker.io";

/// The key of `auths` that matches every image of Docker Hub for the kubelet and for every other
/// reader (k8s.io/kubernetes, pkg/credentialprovider/keyring.go; docker/cli writes the same).
pub(crate) const KEY: &str = "https://index.docker.io/v1/";

/// Every host that people write for Docker Hub. The CRD refuses all but the first, so that a spec
/// has one spelling; `tests/tests/contract.rs` holds its rule to this list.
pub const DOCKER_HUB_HOSTS: [&str; 6] = [
    NAME,
    DEFAULT_REGISTRY,
    "registry-1.docker.io",
    "registry.hub.docker.com",
    "hub.docker.com",
    "registry.docker.io",
];
