//! Configurations and images that have much to do with each other: hosts, ports and paths come from small pools, so
//! that keys meet images often, and almost meet them more often still.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use proptest::prelude::*;
use proptest::sample::select;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A question: the pull Secrets of a Pod, and an image.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Case {
    pub(crate) secrets: Vec<String>,
    pub(crate) image: String,
}

impl Case {
    /// Whether two keys of one Secret may mean the same to the kubelet.
    pub(crate) fn has_equal_keys(&self) -> bool {
        self.secrets.iter().any(|secret| {
            let config: Value = serde_json::from_str(secret).unwrap_or_default();
            let auths = config["auths"].as_object().cloned().unwrap_or_default();
            let mut keys: Vec<String> = auths.keys().map(|key| bare(key)).collect();
            let all = keys.len();
            keys.sort();
            keys.dedup();
            keys.len() < all
        })
    }
}

/// A key without what the kubelet may strip from it: too much rather than too little.
fn bare(key: &str) -> String {
    let key = key.trim_start_matches("https://").trim_start_matches("http://");
    let key = key.rsplit_once('@').map_or(key, |(_, host)| host);
    let key = key.split(['?', '#']).next().unwrap_or_default();
    key.replace("/v1/", "/").replace("/v2/", "/").trim_end_matches('/').to_owned()
}

/// Stands for a host and port that are the same throughout a case.
const FOCUS: &str = "FOCUS";
const HOSTS: [&str; 16] = [
    "ghcr.io",
    "ghcr.io",
    "docker.io",
    "docker.io",
    "index.docker.io",
    "registry-1.docker.io",
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
const ODD_KEYS: [&str; 16] = [
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
    let hosts =
        select(vec!["ghcr.io", "docker.io", "reg.example.com", "localhost", "10.0.0.1", "[::1]", "a.b.c"]);
    let paths = select(vec!["", "", "/acme", "/acme/team", "/a_b", "/a.b", "/a--b"]);
    (hosts, select(vec!["", "", ":5000", ":65535"]), paths)
        .prop_map(|(host, port, path)| format!("{host}{port}{path}"))
        // Docker Hub has no port. An IPv6 address without one is a class of characters to the kubelet, and matches
        // nothing.
        .prop_filter("a server that can match", |server| {
            !server.starts_with("docker.io:") && (!server.starts_with('[') || server.contains("]:"))
        })
}

fn entry() -> impl Strategy<Value = Value> {
    let word = || select(vec!["u", "user", "bot", "", "ü", "a b"]);
    let secret = || select(vec!["p", "p:q", "", "pä$\"'", "line\n", "x==", "{\"type\":\"json\"}"]);
    let auth = (word(), secret()).prop_map(|(user, password)| BASE64.encode(format!("{user}:{password}")));
    let good_auth = prop_oneof![
        6 => auth.clone(),
        1 => auth.clone().prop_map(|auth| auth.trim_end_matches('=').to_owned()),
        1 => auth.prop_map(|auth| auth.split_inclusive(|_| true).collect::<Vec<_>>().join("\n")),
    ];
    let bad_auth =
        select(vec!["!", "dTpw=", "dXNlcg==", "dTp", " ", "dTpw dTpw", "dTpwdT="]).prop_map(str::to_owned);
    prop_oneof![
        6 => good_auth.clone().prop_map(|auth| json!({ "auth": auth })),
        4 => (word(), secret()).prop_map(|(u, p)| json!({ "username": u, "password": p, "email": "e@x" })),
        2 => (good_auth, word(), secret()).prop_map(|(a, u, p)| json!({ "auth": a, "username": u, "password": p })),
        1 => (word(), secret()).prop_map(|(u, p)| json!({ "auth": "", "Username": u, "PASSWORD": p })),
        1 => bad_auth.prop_map(|auth| json!({ "auth": auth })).boxed(),
        1 => select(vec![
            json!({}), json!(null), json!({"identitytoken": "t"}), json!({"registrytoken": 7}), json!({"auth": null}),
            json!({"username": null, "password": "p"}), json!({"extra": {"deep": [1, 2]}}),
        ]),
        1 => prop::bool::weighted(0.3).prop_flat_map(|broken| {
            let broken_ones = vec![json!(7), json!("text"), json!([]), json!({"auth": 7}), json!({"username": {}}), json!({"email": []})];
            if broken { select(broken_ones) } else { select(vec![json!({"auth": "dTpw"})]) }
        }),
    ]
}

fn config() -> impl Strategy<Value = String> {
    let auths = prop::collection::btree_map(key(), entry(), 0..4);
    let usual = auths.prop_map(|auths| json!({ "auths": auths }).to_string());
    let odd = select(vec![
        "",
        "{}",
        "null",
        "{\"auths\":null}",
        "{\"auths\":{}}",
        "{\"AUTHS\":{\"ghcr.io\":{\"AUTH\":\"dTpw\"}}}",
        "{\"auths\":{\"ghcr.io\":{\"auth\":\"dTpw\"}},\"HttpHeaders\":{\"a\":\"b\"},\"credsStore\":\"x\"}",
        "{\"auths\":{\"ghcr.io\":{\"auth\":\"dTpw\"},\"ghcr.io\":{\"auth\":\"djpx\"}}}",
        "{\"auths\":[]}",
        "{\"auths\":{\"ghcr.io\":{\"auth\":\"dTpw\"}},\"HttpHeaders\":{\"a\":1}}",
        "[]",
        "{",
        "text",
        "{\"ghcr.io\":{\"auth\":\"dTpw\"}}",
    ]);
    prop_oneof![14 => usual, 1 => odd.prop_map(str::to_owned)]
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

/// A question whose parts come from the same pools, and mostly from one host.
pub(crate) fn case() -> impl Strategy<Value = Case> {
    let focus = (select(&HOSTS[..]), select(&PORTS[..])).prop_map(|(host, port)| format!("{host}{port}"));
    (prop::collection::vec(config(), 0..4), image(), focus).prop_map(|(secrets, image, focus)| Case {
        secrets: secrets.into_iter().map(|secret| secret.replace(FOCUS, &focus)).collect(),
        image: image.replace(FOCUS, &focus),
    })
}
