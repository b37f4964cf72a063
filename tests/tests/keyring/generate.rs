//! Configurations and images that have much to do with each other: hosts, ports and paths come from small pools, so
//! that keys meet images often, and almost meet them more often still.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use proptest::prelude::*;
use proptest::sample::select;
use regcred_tests::keyring::Case;
use serde_json::json;

/// Whether two keys of a configuration may mean the same to the kubelet.
pub(crate) fn has_equal_keys(config: &str) -> bool {
    let mut keys: Vec<String> = member_names(config).iter().map(|key| bare(key)).collect();
    keys.retain(|key| {
        key.contains(['.', ':', '*', '/']) || ["localhost", "registry"].contains(&key.as_str())
    });
    let all = keys.len();
    keys.sort();
    keys.dedup();
    keys.len() < all
}

/// The names of all members of all objects in a text, also those that are there twice.
pub(crate) fn member_names(json: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = json;
    while let Some(start) = rest.find('"') {
        let mut strings = serde_json::Deserializer::from_str(&rest[start..]).into_iter::<String>();
        let Some(Ok(text)) = strings.next() else { break };
        rest = &rest[start + strings.byte_offset()..];
        if rest.trim_start().starts_with(':') {
            names.push(text);
        }
    }
    names
}

/// A key without what the kubelet may strip from it: too much rather than too little.
fn bare(key: &str) -> String {
    let key = key.trim_start_matches("https://").trim_start_matches("http://");
    let key = key.rsplit_once('@').map_or(key, |(_, host)| host);
    let key = key.split(['?', '#']).next().unwrap_or_default();
    key.replace("/v1/", "/").replace("/v2/", "/").replace("%61", "a").trim_end_matches('/').to_owned()
}

/// Stands for a host and port that are the same throughout a case.
const FOCUS: &str = "FOCUS";
const HOSTS: [&str; 17] = [
    "ghcr.io",
    "ghcr.io",
    "docker.io",
    "docker.io",
    "index.docker.io",
    "registry-1.docker.io",
    "registry.hub.docker.com",
    "localhost",
    "reg.example.com",
    "123.dkr.ecr.eu-west-1.amazonaws.com",
    "GHCR.IO",
    "10.0.0.1",
    "[::1]",
    "quay.io",
    "registry",
    "eu.gcr.io",
    "a.b.c",
];
const GLOBS: [&str; 10] = [
    "*.io",
    "gh*.io",
    "*",
    "*.*",
    "*.dkr.ecr.*.amazonaws.com",
    "?hcr.io",
    "g*c*r.io",
    "*.example.com",
    "**.io",
    "*.b.*",
];
const PORTS: [&str; 6] = ["", "", "", ":5000", ":443", ":"];
const PATHS: [&str; 12] = [
    "",
    "",
    "",
    "/",
    "/acme",
    "/ac",
    "/acme/",
    "/acme/app",
    "/library",
    "/library/nginx",
    "/acme/app/sub",
    "/Acme",
];
const VERSIONS: [&str; 7] = ["", "", "", "/v1", "/v2", "/v1/", "/v2/"];
const SCHEMES: [&str; 6] = ["", "", "", "https://", "http://", "HTTPS://"];
const ODD_KEYS: [&str; 24] = [
    "",
    "/",
    "ghcr.io:80:80",
    "user:pw@ghcr.io",
    "ghcr.io?q",
    "ghcr.io#f",
    "ghcr.io/%61cme",
    "ghcr.io/%zz",
    "gh cr.io",
    "[::1",
    "::1",
    "[fe80::1]:5000",
    "ftp://ghcr.io",
    "//ghcr.io",
    "ghcr.io//acme",
    "g[h]cr.io",
    "oci://ghcr.io",
    "ghcr.io:99999",
    "https://index.docker.io/v1/",
    "https://index.docker.io/v1",
    "https://index.docker.io/v1/access-token",
    "https://index.docker.io/v1/refresh-token",
    "https://registry-1.docker.io/v2/",
    "index.docker.io/acme",
];

fn key() -> impl Strategy<Value = String> {
    let host = prop_oneof![8 => Just(FOCUS), 2 => select(&HOSTS[..]), 1 => select(&GLOBS[..])];
    let parts = (select(&SCHEMES[..]), host, select(&PORTS[..]), select(&VERSIONS[..]), select(&PATHS[..]));
    let usual = parts.prop_map(|(scheme, host, port, version, path)| {
        let port = if host == FOCUS { "" } else { port };
        format!(
            "{scheme}{host}{port}{}{path}",
            version.trim_end_matches('/').to_owned() + tail(version, path)
        )
    });
    prop_oneof![12 => usual, 1 => select(&ODD_KEYS[..]).prop_map(str::to_owned)]
}

/// `/v1/` and no path ends in a slash; with a path, the path has its own.
fn tail(version: &str, path: &str) -> &'static str {
    if version.ends_with('/') && path.is_empty() { "/" } else { "" }
}

/// A server as our API takes it.
pub(crate) fn server() -> impl Strategy<Value = String> {
    let hosts = select(vec![
        "ghcr.io",
        "docker.io",
        "registry-1.docker.io",
        "reg.example.com",
        "localhost",
        "10.0.0.1",
        "[::1]",
        "a.b.c",
    ]);
    let paths = select(vec!["", "", "/acme", "/acme/team", "/a_b", "/a.b", "/a--b", "/v1/acme", "/v2"]);
    (hosts, select(vec!["", "", ":5000", ":65535"]), paths)
        .prop_map(|(host, port, path)| format!("{host}{port}{path}"))
        // Docker Hub has no port. An IPv6 address without one is a class of characters to the kubelet, and matches
        // nothing.
        .prop_filter("a server that can match", |server| {
            !server.starts_with("docker.io:") && (!server.starts_with('[') || server.contains("]:"))
        })
}

/// `auth` for a user and a password, as people and tools encode it.
fn auth() -> impl Strategy<Value = String> {
    let plain =
        (username(), password()).prop_map(|(user, password)| BASE64.encode(format!("{user}:{password}")));
    prop_oneof![
        8 => plain.clone(),
        1 => plain.clone().prop_map(|auth| auth.trim_end_matches('=').to_owned()),
        1 => plain.clone().prop_map(|auth| auth.split_inclusive(|_| true).collect::<Vec<_>>().join("\n")),
        1 => plain.prop_map(|auth| format!("\u{feff}{auth}\r\n")),
    ]
}

fn username() -> impl Strategy<Value = &'static str> + Clone {
    select(vec!["u", "user", "bot", "", "ü", "a b", "u\n", "\u{feff}u", "a:b"])
}

fn password() -> impl Strategy<Value = &'static str> + Clone {
    let odd = vec!["p\u{feff}q", "p\u{1}", "\n", "\u{feff}", "p\r\n\n", "\u{feff}p\n"];
    let usual = vec!["p", "p:q", "", "pä$\"'", "line\n", "x==", "{\"type\":\"json\"}", "two\nlines\n"];
    prop_oneof![5 => select(usual), 1 => select(odd)]
}

/// An entry as text: a JSON library would order its fields, and leave one of two that are equal.
fn entry() -> impl Strategy<Value = String> {
    let bad_auth =
        select(vec!["!", "dTpw=", "dXNlcg==", "dTp", " ", "dTpw dTpw", "dTpwdT="]).prop_map(str::to_owned);
    let broken =
        vec!["7", "\"text\"", "[]", "{\"auth\":7}", "{\"username\":{}}", "{\"email\":[]}", "{\"Auth\":{}}"];
    let blank = vec![
        "{}",
        "null",
        "{\"identitytoken\":\"t\"}",
        "{\"registrytoken\":7}",
        "{\"auth\":null}",
        "{\"username\":null,\"password\":\"p\"}",
        "{\"extra\":{\"deep\":[1,2]}}",
        "{\"auth\":\"Og==\"}",
        "{\"auth\":\"MDAwMDAwMDA6\",\"identitytoken\":\"t\"}",
    ];
    let fields = || {
        select(vec![("username", "password"), ("Username", "PASSWORD"), ("u\u{17f}ername", "pa\u{17f}sword")])
    };
    prop_oneof![
        6 => auth().prop_map(|auth| json!({ "auth": auth }).to_string()),
        4 => (username(), password(), fields()).prop_map(|(u, p, (user, word))| {
            json!({ user: u, word: p, "email": "e@x" }).to_string()
        }),
        2 => (auth(), username(), password()).prop_map(|(a, u, p)| {
            json!({ "auth": a, "username": u, "password": p, "identitytoken": "t" }).to_string()
        }),
        1 => (username(), password(), fields()).prop_map(|(u, p, (user, word))| {
            json!({ "auth": "", user: u, word: p }).to_string()
        }),
        1 => (auth(), auth(), select(vec!["AUTH", "auth"])).prop_map(|(one, two, again)| {
            format!("{{\"auth\":{},\"{again}\":{},\"Auth\":null}}", json!(one), json!(two))
        }),
        1 => bad_auth.prop_map(|auth| json!({ "auth": auth }).to_string()),
        1 => select(blank).prop_map(str::to_owned),
        1 => prop::bool::weighted(0.3).prop_flat_map(move |is_broken| {
            select(if is_broken { broken.clone() } else { vec!["{\"auth\":\"dTpw\"}"] }).prop_map(str::to_owned)
        }),
    ]
}

/// The members of `auths`, some of them twice.
fn auths() -> impl Strategy<Value = String> {
    prop::collection::vec((key(), entry()), 0..4).prop_map(|entries| {
        let members: Vec<_> = entries.iter().map(|(key, entry)| format!("{}:{entry}", json!(key))).collect();
        format!("{{{}}}", members.join(","))
    })
}

/// A configuration.
pub(crate) fn config() -> impl Strategy<Value = String> {
    let name = || select(vec!["auths", "auths", "auths", "auths", "Auths", "AUTHS", "auth\u{17f}"]);
    let rest = select(vec![
        "",
        "",
        "",
        ",\"credsStore\":\"desktop\"",
        ",\"credHelpers\":{\"ghcr.io\":\"x\"},\"HttpHeaders\":{\"a\":\"b\"}",
        ",\"HttpHeaders\":null",
    ]);
    let usual =
        (name(), auths(), rest).prop_map(|(name, auths, rest)| format!("{{\"{name}\":{auths}{rest}}}"));
    let again = prop_oneof![3 => auths(), 1 => Just("null".to_owned())];
    let repeated = (name(), auths(), name(), again)
        .prop_map(|(one, first, other, second)| format!("{{\"{one}\":{first},\"{other}\":{second}}}"));
    let odd = select(vec![
        "",
        "{}",
        "null",
        "{\"auths\":null}",
        "{\"auths\":{}}",
        "{\"AUTHS\":{\"ghcr.io\":{\"AUTH\":\"dTpw\"}}}",
        "{\"auths\":{\"ghcr.io\":{\"auth\":\"dTpw\"}},\"HttpHeaders\":{\"a\":\"b\"},\"credsStore\":\"x\"}",
        "{\"auths\":{\"ghcr.io\":{\"auth\":\"dTpw\"},\"ghcr.io\":{\"auth\":\"djpx\"}}}",
        "{\"auths\":{\"ghcr.io\":{\"auth\":\"dTpw\"}},\"AUTHS\":null}",
        "{\"auths\":[]}",
        "{\"auths\":{\"ghcr.io\":{\"auth\":\"dTpw\"}},\"HttpHeaders\":{\"a\":1}}",
        "\u{feff}{\"auths\":{\"ghcr.io\":{\"auth\":\"dTpw\"}}}",
        "[]",
        "{",
        "text",
        "{\"ghcr.io\":{\"auth\":\"dTpw\"}}",
    ]);
    prop_oneof![13 => usual, 1 => repeated, 1 => odd.prop_map(str::to_owned)]
}

fn image() -> impl Strategy<Value = String> {
    let hosts = prop_oneof![6 => Just(FOCUS), 1 => select(&HOSTS[..])];
    let repositories =
        select(vec!["acme/app", "acme/app", "app", "nginx", "library/nginx", "acme/app/sub", "a/b/c", "ac"]);
    let references = select(vec![
        "",
        "",
        ":1",
        ":v1.2-rc_3",
        "@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ]);
    let usual = (hosts, select(vec!["", "", ":5000", ":443"]), repositories, references).prop_map(
        |(host, port, repository, reference)| {
            let port = if host == FOCUS { "" } else { port };
            format!("{host}{port}/{repository}{reference}")
        },
    );
    let short = (select(vec!["nginx", "acme/app", "library/nginx", "registry/app"]), select(vec!["", ":1"]))
        .prop_map(|(repository, tag)| format!("{repository}{tag}"));
    let odd = select(vec![
        "",
        "Nginx",
        "ghcr.io/",
        "/app",
        "ghcr.io/Acme/app",
        "ghcr.io/a__b",
        "ghcr.io/a___b",
        "ghcr.io/a-_b",
        "a..b/c",
        "ghcr.io/app:",
        "ghcr.io/app@sha256:abc",
        "ghcr.io/app:1:2",
        "ghcr.io:/app",
        "foo_bar.com/x",
        "-a.io/x",
        "FOO/bar",
        "ghcr.io/app:1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "[::1]:5000/app",
        "[::g]/a",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "ghcr.io/app@md5:d41d8cd98f00b204e9800998ecf8427e",
    ]);
    prop_oneof![12 => usual, 4 => short, 1 => odd.prop_map(str::to_owned)]
}

/// A source, and an image of its hosts.
pub(crate) fn source() -> impl Strategy<Value = Case> {
    let focus = (select(&HOSTS[..]), select(&PORTS[..])).prop_map(|(host, port)| format!("{host}{port}"));
    (config(), image(), focus).prop_map(|(source, image, focus)| Case {
        secrets: vec![source.replace(FOCUS, &focus)],
        image: image.replace(FOCUS, &focus),
    })
}

/// A source, and a server of a spec that has much to do with its hosts.
pub(crate) fn source_and_server() -> impl Strategy<Value = (String, String)> {
    (config(), server()).prop_map(|(source, server)| {
        let host = server.split('/').next().unwrap_or_default().to_owned();
        (source.replace(FOCUS, &host), server)
    })
}

/// A question whose parts come from the same pools, and mostly from one host.
pub(crate) fn case() -> impl Strategy<Value = Case> {
    let focus = (select(&HOSTS[..]), select(&PORTS[..])).prop_map(|(host, port)| format!("{host}{port}"));
    (prop::collection::vec(config(), 0..4), image(), focus).prop_map(|(secrets, image, focus)| Case {
        secrets: secrets.into_iter().map(|secret| secret.replace(FOCUS, &focus)).collect(),
        image: image.replace(FOCUS, &focus),
    })
}
