//! Asks a registry with the credentials that the kubelet would try for an image, in its order, until one pulls.

use std::collections::BTreeMap;
use std::sync::Arc;

use regcred_dockerconfig::{Keyring, Server};
use regcred_registry::{Check, Image as Wanted, Registries, Settings, Verdict};

use crate::args::Explain;
use crate::scene::{Image, Look, Scene};

/// The tag of an image that names none.
const USUAL_TAG: &str = "latest";

/// Registries, as they are to be reached.
pub(crate) fn registries(asked: &Explain) -> Registries {
    Registries::new(&Settings {
        endpoints: asked.registry_endpoints.iter().cloned().collect::<BTreeMap<_, _>>(),
        allowed_realms: asked.allowed_realms.clone(),
        environment: Arc::new(|name| std::env::var(name).ok()),
    })
}

/// What the registry says of each login that is tried, one sentence for each.
pub(crate) async fn ask(
    registries: &Registries,
    scene: &Scene,
    namespace: &str,
    list: &[String],
    image: &Image,
) -> Vec<String> {
    let Some(server) = Server::parse(&image.host).ok() else { return Vec::new() };
    let configs = list.iter().filter_map(|name| match scene.look(namespace, name)? {
        Look::Config(config) => Some(config.expose()),
        _ => None,
    });
    let Ok(keyring) = Keyring::new(configs) else {
        return vec!["nothing is asked: one of the Secrets cannot be decoded".to_owned()];
    };
    let logins = keyring.lookup(image.repository());
    if logins.is_empty() {
        return vec!["nothing is asked: no Secret of the list has an entry for it".to_owned()];
    }
    let pull = wanted(image).map(|(repository, reference)| Wanted { repository, reference });
    let mut said = Vec::new();
    for (at, login) in logins.iter().enumerate() {
        let verdict = registries.check(&Check { server: &server, login, pull }).await;
        said.push(format!("login {} of {}: {verdict}", at + 1, logins.len()));
        if matches!(verdict, Verdict::PullVerified { .. }) {
            break;
        }
    }
    said
}

/// The repository without its registry, and the digest or else the tag.
fn wanted(image: &Image) -> Option<(&str, &str)> {
    let (_, repository) = image.repository().split_once('/')?;
    let (name, digest) = match image.text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image.text.as_str(), None),
    };
    let last = name.rsplit('/').next().unwrap_or(name);
    let tag = last.split_once(':').map_or(USUAL_TAG, |(_, tag)| tag);
    Some((repository, digest.unwrap_or(tag)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_asked_for_by_digest_or_tag() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, repository, reference) in [
            ("ghcr.io/acme/app:1", "acme/app", "1"),
            ("reg.example:5000/app", "app", "latest"),
            ("nginx", "library/nginx", "latest"),
            (&format!("ghcr.io/acme/app:1@{digest}"), "acme/app", &digest),
        ] {
            assert_eq!(wanted(&Image::new(text)), Some((repository, reference)), "{text}");
        }
    }
}
