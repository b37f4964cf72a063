//! The names of Docker Hub.

/// What images and we call it.
pub(crate) const NAME: &str = "docker.io";

/// The host of its old registry. The kubelet turns images that are named so into those of `docker.io`, and takes the
/// key for every image of Docker Hub for which nothing else matches (k8s.io/kubernetes, pkg/credentialprovider/keyring.go).
pub(crate) const DEFAULT_KEY: &str = "index.docker.io";

/// How everybody writes [`DEFAULT_KEY`] in `auths`, so that every reader finds it (docker/cli writes the same).
pub(crate) const WRITTEN_KEY: &str = "https://index.docker.io/v1/";

/// Hosts under which Docker Hub serves images. The kubelet takes each literally: a login for one opens no image of another.
pub const DOCKER_HUB_HOSTS: [&str; 3] = [NAME, "registry-1.docker.io", "registry.hub.docker.com"];

/// What people write for Docker Hub, too, although no image is pulled from there. The CRD refuses them;
/// `tests/tests/contract.rs` holds its rule to this list.
pub const DOCKER_HUB_ALIASES: [&str; 3] = [DEFAULT_KEY, "hub.docker.com", "registry.docker.io"];
