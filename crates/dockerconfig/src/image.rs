//! Image names, as the kubelet normalises them before it looks for a credential
//! (k8s.io/kubernetes, pkg/util/parsers; github.com/distribution/reference, `ParseNormalizedNamed`).

use crate::docker_hub;

/// The namespace of Docker Hub's images without one.
const OFFICIAL: &str = "library/";
/// The longest path of a repository.
const MAX_PATH_LEN: usize = 255;
/// The longest tag.
const MAX_TAG_LEN: usize = 128;

/// Not the name of an image.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not the name of an image")]
pub struct ImageError;

/// The repository of an image, with its registry: `nginx:1` is `docker.io/library/nginx`.
pub fn repository_of(image: &str) -> Result<String, ImageError> {
    if is_identifier(image) {
        return Err(ImageError);
    }
    let (domain, remainder) = split_domain(image);
    let full = format!("{domain}/{remainder}");
    let (name, tag, digest) = split_reference(&full, domain.len());
    let valid = is_name(name, domain.len()) && tag.is_none_or(is_tag) && digest.is_none_or(is_digest);
    if valid { Ok(name.to_owned()) } else { Err(ImageError) }
}

/// 64 hexadecimal digits are the identifier of an image and no name.
fn is_identifier(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(is_lower_hex)
}

fn split_domain(image: &str) -> (&str, String) {
    let is_domain =
        |part: &str| part.contains(['.', ':']) || part == "localhost" || part.chars().any(char::is_uppercase);
    let (domain, remainder) = match image.split_once('/') {
        Some((domain, remainder)) if is_domain(domain) => (domain, remainder),
        _ => (docker_hub::NAME, image),
    };
    let domain = if domain == docker_hub::DEFAULT_KEY { docker_hub::NAME } else { domain };
    if domain == docker_hub::NAME && !remainder.contains('/') {
        (domain, format!("{OFFICIAL}{remainder}"))
    } else {
        (domain, remainder.to_owned())
    }
}

/// Name, tag and digest. A colon within the domain is that of its port.
fn split_reference(full: &str, domain_len: usize) -> (&str, Option<&str>, Option<&str>) {
    let (rest, digest) = match full.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (full, None),
    };
    match rest.get(domain_len..).and_then(|path| path.find(':')) {
        Some(at) => (&rest[..domain_len + at], Some(&rest[domain_len + at + 1..]), digest),
        None => (rest, None, digest),
    }
}

/// A domain and a path, or, where the first part cannot be a domain, a path alone.
fn is_name(name: &str, domain_len: usize) -> bool {
    let Some((domain, path)) = name.split_at_checked(domain_len) else { return false };
    let path = path.strip_prefix('/').unwrap_or_default();
    if is_domain(domain) {
        is_path(path) && path.len() <= MAX_PATH_LEN
    } else {
        is_path(name) && name.len() <= MAX_PATH_LEN
    }
}

fn is_domain(text: &str) -> bool {
    let (host, port) = match text.rfind(']') {
        Some(end) => text.split_at(end + 1),
        None => text.find(':').map_or((text, ""), |colon| text.split_at(colon)),
    };
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port_fits = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_fits = match address {
        Some(address) => {
            !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':')
        }
        None => host.split('.').all(is_domain_component),
    };
    port_fits && host_fits
}

fn is_domain_component(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !text.is_empty() && text.bytes().all(fits) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_path(path: &str) -> bool {
    path.split('/').all(is_path_component)
}

/// Words of `[a-z0-9]`, joined by one dot, one or two underscores, or any number of dashes.
fn is_path_component(text: &str) -> bool {
    let is_word_byte = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let edges = [text.bytes().next(), text.bytes().next_back()];
    let separators =
        text.split(|c: char| u8::try_from(c).is_ok_and(is_word_byte)).filter(|part| !part.is_empty());
    let is_separator = |part: &str| matches!(part, "." | "_" | "__") || part.bytes().all(|byte| byte == b'-');
    edges.into_iter().all(|edge| edge.is_some_and(is_word_byte)) && separators.into_iter().all(is_separator)
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let first_fits = tag.bytes().next().is_some_and(is_word);
    first_fits && tag.len() <= MAX_TAG_LEN && tag.bytes().all(|byte| is_word(byte) || b".-".contains(&byte))
}

/// The algorithms that the kubelet is built with, in lower case, with digests of their own length.
fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    hex.len() == length && hex.bytes().all(is_lower_hex)
}

fn is_lower_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_normalised_as_the_kubelet_does() {
        for (image, name) in [
            ("nginx", "docker.io/library/nginx"),
            ("nginx:1.27", "docker.io/library/nginx"),
            ("acme/app", "docker.io/acme/app"),
            ("index.docker.io/nginx", "docker.io/library/nginx"),
            ("localhost/app", "localhost/app"),
            ("reg:5000/team/app:v1", "reg:5000/team/app"),
            ("[::1]:5000/app", "[::1]:5000/app"),
            ("Reg/app", "Reg/app"),
        ] {
            assert_eq!(repository_of(image).as_deref(), Ok(name), "{image}");
        }
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let identifier = "a".repeat(64);
        for image in ["", "/app", "app:", "App", "a//b", "a:b:c", "app@sha256:abc", "-a/b", &identifier] {
            assert_eq!(repository_of(image), Err(ImageError), "{image}");
        }
    }
}
