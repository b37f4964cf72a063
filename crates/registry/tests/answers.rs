//! What the answers of registries and token servers mean: those of the specification, of vendors, and of servers that
//! misbehave.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may fail loudly")]

mod doubles;

use std::time::Duration;

use doubles::{
    Answer, Asked, BASIC, Double, PASSWORD, TOKEN, answer, challenge, check, endpoints, plain, settings,
    token,
};
use regcred_https::Failure;
use regcred_registry::{Hint, Refusal, Registries, Settings, Trouble, Unknown, Verdict};

const HOST: &str = "registry.example";
const TOKENS: &str = "tokens.example";
const APP: Option<(&str, &str)> = Some(("acme/app", "1"));
const SCOPELESS: &str = "/token?service=registry&client_id=regcred";
const SCOPED: &str = "/token?service=registry&scope=repository%3Aacme%2Fapp%3Apull&client_id=regcred";
const BEARER: &str = r#"Bearer realm="https://tokens.example/token",service="registry""#;

fn refusal(host: &str, status: u16, code: Option<&'static str>) -> Refusal {
    Refusal { host: host.to_owned(), status, code }
}

fn verified() -> Verdict {
    Verdict::LoginVerified { host: HOST.to_owned(), hint: None }
}

fn hidden() -> Verdict {
    Verdict::LoginVerified { host: HOST.to_owned(), hint: Some(Hint::ManifestNotFound) }
}

fn unreachable(host: &str, what: Trouble) -> Verdict {
    let why = Unknown::Unreachable { host: host.to_owned(), what };
    Verdict::Unknown { why, retry_after: Duration::ZERO }
}

fn unverifiable(host: &str) -> Verdict {
    Verdict::Unknown { why: Unknown::Unverifiable { host: host.to_owned() }, retry_after: Duration::ZERO }
}

/// A registry of its own for each test, under the name [`HOST`].
async fn registry(handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> (Double, Registries) {
    let double = Double::plain(handler).await;
    let registries = Registries::new(&endpoints(&[(HOST, &double)]));
    (double, registries)
}

/// A registry with Basic, which answers a login with `to_login` and the manifest with `to_head`.
async fn basic(to_login: (u16, &'static str), to_head: u16) -> (Double, Registries) {
    registry(move |asked| match (asked.authorization(), &*asked.method) {
        (None, _) => challenge(r#"Basic realm="Registry""#),
        (Some(BASIC), "HEAD") => plain(to_head, ""),
        (Some(BASIC), _) => plain(to_login.0, to_login.1),
        _ => panic!("another login: {asked:?}"),
    })
    .await
}

#[tokio::test]
async fn a_registry_with_basic_is_shown_the_login_itself() {
    let denied = r#"{"errors":[{"code":"DENIED","message":"x"}]}"#;
    let expired = "Your Authorization Token has Expired. Please run the command again";
    for (to_login, to_head, pull, expected) in [
        ((200, ""), 500, None, verified()),
        ((200, ""), 200, APP, Verdict::PullVerified { host: HOST.to_owned() }),
        ((200, ""), 404, APP, hidden()),
        ((200, ""), 401, APP, Verdict::PullDenied(refusal(HOST, 401, None))),
        ((200, ""), 403, APP, Verdict::PullDenied(refusal(HOST, 403, None))),
        ((200, ""), 307, APP, unreachable(HOST, Trouble::Redirect(307))),
        ((200, ""), 400, APP, unreachable(HOST, Trouble::Odd(400))),
        ((200, ""), 500, APP, unreachable(HOST, Trouble::Broken(500))),
        ((401, ""), 200, APP, Verdict::Rejected(refusal(HOST, 401, None))),
        ((401, denied), 200, None, Verdict::Rejected(refusal(HOST, 401, Some("DENIED")))),
        // GHCR.
        ((403, denied), 200, None, Verdict::Rejected(refusal(HOST, 403, Some("DENIED")))),
        // ECR.
        ((403, expired), 200, None, Verdict::Expired(refusal(HOST, 403, None))),
        // A ban by GitLab.
        ((403, ""), 200, None, unreachable(HOST, Trouble::Barred(403))),
        ((403, "Forbidden\n"), 200, None, unreachable(HOST, Trouble::Barred(403))),
        ((400, ""), 200, None, unreachable(HOST, Trouble::Odd(400))),
        ((404, ""), 200, None, unreachable(HOST, Trouble::Odd(404))),
        ((408, ""), 200, None, unreachable(HOST, Trouble::Broken(408))),
        ((503, denied), 200, None, unreachable(HOST, Trouble::Broken(503))),
        ((302, ""), 200, None, unreachable(HOST, Trouble::Redirect(302))),
    ] {
        let (_double, registries) = basic(to_login, to_head).await;
        assert_eq!(check(&registries, HOST, pull).await, expected, "{to_login:?} {to_head}");
    }
}

#[tokio::test]
async fn the_login_is_shown_only_where_it_was_asked_for() {
    let (double, registries) = basic((200, ""), 200).await;
    check(&registries, "registry.example/acme", APP).await;
    let seen = double.seen();
    let shown: Vec<_> =
        seen.iter().map(|asked| (&*asked.method, &*asked.path, asked.authorization())).collect();
    assert_eq!(
        shown,
        [
            ("GET", "/v2/", None),
            ("GET", "/v2/", Some(BASIC)),
            ("HEAD", "/v2/acme/app/manifests/1", Some(BASIC)),
        ]
    );
    let accepted = &seen[2].headers["accept"];
    assert_eq!(accepted.split(", ").count(), 4, "{accepted}");
    assert!(seen.iter().all(|asked| asked.headers["user-agent"].starts_with("regcred/")));
}

/// What a token server is to a login.
#[derive(Clone, Copy)]
enum Server {
    /// 401 to a wrong login, with a scope or without.
    Strict,
    /// 401 to a wrong login without a scope, a token of no use with one.
    HarborLike,
    /// A token to everybody, which the registry takes.
    Nexus,
    /// A token to everybody; a wrong login is refused.
    Hub,
}

/// A registry and a token server. `good` says whether they know the login, `own` whether the repository is its own.
async fn with_tokens(server: Server, good: bool, own: bool) -> (Double, Double, Registries) {
    let registry = Double::plain(move |asked| match (asked.authorization(), &*asked.method) {
        (Some("Bearer canary.TOKEN.one"), "GET") => plain(200, "{}"),
        (Some("Bearer own"), "HEAD") => plain(200, ""),
        _ => challenge(BEARER),
    })
    .await;
    let tokens = Double::plain(move |asked| {
        assert!(asked.path == SCOPELESS || asked.path == SCOPED, "{}", asked.path);
        let (known, scoped) = (good && asked.authorization() == Some(BASIC), asked.path == SCOPED);
        match (server, asked.authorization().is_some(), known) {
            (_, true, true) if scoped && own => plain(200, r#"{"token":"own"}"#),
            (_, true, true) if scoped => plain(200, r#"{"token":"empty"}"#),
            (_, true, true) | (Server::Nexus, ..) | (Server::Hub, false, _) => token(),
            (Server::HarborLike, ..) if scoped => plain(200, r#"{"token":"empty"}"#),
            _ => plain(401, r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#),
        }
    })
    .await;
    let registries = Registries::new(&endpoints(&[(HOST, &registry), (TOKENS, &tokens)]));
    (registry, tokens, registries)
}

#[tokio::test]
async fn a_token_server_is_asked_without_a_scope_first() {
    let rejected = || Verdict::Rejected(refusal(TOKENS, 401, Some("UNAUTHORIZED")));
    let denied = || Verdict::PullDenied(refusal(HOST, 401, None));
    for (server, good, own, pull, expected) in [
        (Server::Strict, true, true, None, verified()),
        (Server::Strict, false, true, None, rejected()),
        (Server::Strict, false, true, APP, rejected()),
        (Server::Strict, true, true, APP, Verdict::PullVerified { host: HOST.to_owned() }),
        (Server::Strict, true, false, APP, denied()),
        (Server::HarborLike, true, true, None, verified()),
        (Server::HarborLike, false, true, None, rejected()),
        (Server::HarborLike, false, true, APP, rejected()),
        (Server::HarborLike, true, true, APP, Verdict::PullVerified { host: HOST.to_owned() }),
        (Server::HarborLike, true, false, APP, denied()),
        (Server::Hub, true, true, None, verified()),
        (Server::Hub, false, true, None, rejected()),
        (Server::Nexus, true, true, None, unverifiable(HOST)),
        (Server::Nexus, false, true, APP, unverifiable(HOST)),
    ] {
        let (_registry, tokens, registries) = with_tokens(server, good, own).await;
        assert_eq!(check(&registries, HOST, pull).await, expected, "{good} {own} {pull:?}");
        assert_eq!(tokens.seen()[0].path, SCOPELESS);
    }
}

#[tokio::test]
async fn a_token_server_is_shown_a_made_up_login_once() {
    let (_registry, tokens, registries) = with_tokens(Server::Hub, true, true).await;
    for _ in 0..3 {
        assert_eq!(check(&registries, HOST, None).await, verified());
    }
    let shown: Vec<_> =
        tokens.seen().into_iter().map(|asked| asked.authorization().map(str::to_owned)).collect();
    let made_up = shown.iter().flatten().filter(|value| **value != BASIC).count();
    assert_eq!((shown.len(), made_up), (5, 1), "{shown:?}");
}

#[tokio::test]
async fn the_registry_is_shown_the_token_and_never_the_login() {
    let (registry, tokens, registries) = with_tokens(Server::Strict, true, true).await;
    check(&registries, HOST, APP).await;
    let shown: Vec<_> =
        registry.seen().into_iter().map(|asked| asked.authorization().map(str::to_owned)).collect();
    assert_eq!(shown, [None, Some(format!("Bearer {TOKEN}")), Some("Bearer own".to_owned())]);
    assert!(tokens.seen().iter().all(|asked| asked.method == "GET"));
}

/// A registry and a token server under one name, which is how most vendors do it.
async fn vendor(
    server: &str,
    to_token: (u16, &'static str),
    to_base: u16,
    pull: Option<(&str, &str)>,
) -> Verdict {
    let host = if server == "docker.io" { "registry-1.docker.io" } else { server };
    let realm = if server == "docker.io" { "auth.docker.io" } else { host };
    let bearer = format!(r#"Bearer realm="https://{realm}/token",service="{host}""#);
    let double =
        Double::plain(move |asked| match (asked.authorization(), asked.path.starts_with("/token")) {
            (None, false) => challenge(&bearer),
            (_, true) => plain(to_token.0, to_token.1),
            (Some(_), false) if asked.method == "HEAD" => plain(404, ""),
            (Some(_), false) => plain(to_base, ""),
        })
        .await;
    check(&Registries::new(&endpoints(&[(host, &double), (realm, &double)])), server, pull).await
}

#[tokio::test]
async fn vendors_have_ways_of_their_own() {
    const GIVEN: &str = r#"{"access_token":"canary.TOKEN.one"}"#;
    let rejected = |host: &str, status, code| Verdict::Rejected(refusal(host, status, code));
    for (server, to_token, to_base, expected) in [
        (
            "docker.io",
            (401, r#"{"details":"incorrect username or password"}"#),
            200,
            rejected("auth.docker.io", 401, None),
        ),
        (
            "ghcr.io",
            (403, r#"{"errors":[{"code":"DENIED"}]}"#),
            200,
            rejected("ghcr.io", 403, Some("DENIED")),
        ),
        ("public.ecr.aws", (400, ""), 200, Verdict::Expired(refusal("public.ecr.aws", 400, None))),
        ("public.ecr.aws", (200, GIVEN), 400, Verdict::Expired(refusal("public.ecr.aws", 400, None))),
        (
            "contoso.azurecr.io",
            (401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"Invalid clientid or client secret."}]}"#),
            200,
            rejected("contoso.azurecr.io", 401, Some("UNAUTHORIZED")),
        ),
        (
            "quay.io",
            (401, r#"{"error":"Invalid Username or Password"}"#),
            200,
            rejected("quay.io", 401, None),
        ),
        ("gitlab.example", (403, ""), 200, unreachable("gitlab.example", Trouble::Barred(403))),
        ("quay.io", (200, GIVEN), 401, rejected("quay.io", 401, None)),
        ("quay.io", (400, ""), 200, unreachable("quay.io", Trouble::Odd(400))),
    ] {
        assert_eq!(vendor(server, to_token, to_base, None).await, expected, "{server} {to_token:?}");
    }
    let host = "registry-1.docker.io".to_owned();
    let hidden = Verdict::LoginVerified { host, hint: Some(Hint::ManifestNotFound) };
    assert_eq!(vendor("docker.io", (200, GIVEN), 200, Some(("alpine", "3"))).await, hidden);
}

#[tokio::test]
async fn an_image_of_docker_hub_without_a_namespace_is_in_library() {
    let double = Double::plain(|asked| match (asked.authorization(), asked.path.starts_with("/token")) {
        (None, false) => {
            challenge(r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#)
        }
        (_, true) => token(),
        _ => plain(200, ""),
    })
    .await;
    let both = [("registry-1.docker.io", &double), ("auth.docker.io", &double)];
    let verdict = check(&Registries::new(&endpoints(&both)), "docker.io", Some(("alpine", "3"))).await;
    assert_eq!(verdict, Verdict::PullVerified { host: "registry-1.docker.io".to_owned() });
    assert!(double.seen().iter().any(|asked| asked.is("HEAD", "/v2/library/alpine/manifests/3")));
}

#[tokio::test]
async fn a_registry_that_serves_everybody_proves_nothing() {
    let (_double, registries) = registry(|_| plain(200, "{}")).await;
    assert_eq!(check(&registries, HOST, APP).await, unverifiable(HOST));
}

#[tokio::test]
async fn an_answer_to_nobody_says_nothing_of_a_login() {
    for (status, what) in [
        (404, Trouble::NoRegistry),
        (403, Trouble::Barred(403)),
        (400, Trouble::Odd(400)),
        (500, Trouble::Broken(500)),
        (502, Trouble::Broken(502)),
        (301, Trouble::Redirect(301)),
        (308, Trouble::Redirect(308)),
        (401, Trouble::NoChallenge),
    ] {
        let (double, registries) = registry(move |_| plain(status, "expired")).await;
        assert_eq!(check(&registries, HOST, None).await, unreachable(HOST, what), "{status}");
        assert!(double.seen().iter().all(|asked| asked.authorization().is_none()));
    }
    for other in ["Negotiate", "Digest realm=\"x\"", "", "Bea rer", "=", "\"Basic\""] {
        let (_double, registries) = registry(move |_| challenge(other)).await;
        assert_eq!(check(&registries, HOST, None).await, unreachable(HOST, Trouble::NoChallenge), "{other}");
    }
}

#[tokio::test]
async fn who_asks_to_wait_is_given_the_time() {
    for (header, value, seconds) in [
        ("Retry-After", "7", 7),
        ("Retry-After", " 7 ", 7),
        ("Retry-After", "999999999", 3600),
        ("Retry-After", "soon", 0),
        ("Retry-After", "-5", 0),
        ("X-Other", "7", 0),
    ] {
        for status in [429, 503] {
            let (_double, registries) = registry(move |_| answer(status, &[(header, value)], "")).await;
            let verdict = check(&registries, HOST, None).await;
            let Verdict::Unknown { why, retry_after } = verdict else { panic!("{verdict:?}") };
            assert_eq!(retry_after, Duration::from_secs(seconds), "{value}");
            let limited = Unknown::RateLimited { host: HOST.to_owned() };
            assert_eq!(why == limited, status == 429);
        }
    }
    let dates = [("Date", "Mon, 30 Nov 2026 21:00:00 GMT"), ("Retry-After", "Mon, 30 Nov 2026 21:01:00 GMT")];
    let (_double, registries) = registry(move |_| answer(429, &dates, "")).await;
    let Verdict::Unknown { retry_after, .. } = check(&registries, HOST, None).await else { panic!() };
    assert_eq!(retry_after, Duration::from_mins(1));
}

#[tokio::test]
async fn limits_at_any_step_are_no_rejection() {
    let limited = |host: &str| Verdict::Unknown {
        why: Unknown::RateLimited { host: host.to_owned() },
        retry_after: Duration::from_secs(9),
    };
    let wait = || answer(429, &[("Retry-After", "9")], "");
    let registry = Double::plain(move |asked| match (asked.authorization(), &*asked.method) {
        (None, _) => challenge(BEARER),
        (Some(_), "HEAD") => wait(),
        _ => plain(200, ""),
    })
    .await;
    for (limit_at, host) in [(SCOPELESS, TOKENS), (SCOPED, TOKENS), ("", HOST)] {
        let tokens = Double::plain(move |asked| match asked.authorization() {
            _ if asked.path == limit_at => wait(),
            Some(BASIC) => token(),
            _ => plain(401, ""),
        })
        .await;
        let registries = Registries::new(&endpoints(&[(HOST, &registry), (TOKENS, &tokens)]));
        assert_eq!(check(&registries, HOST, APP).await, limited(host), "{limit_at}");
    }
}

#[tokio::test]
async fn a_token_that_is_none_is_no_rejection() {
    for body in
        ["", "{}", "[]", r#"{"token":""}"#, r#"{"token":"a\nb"}"#, r#"{"token":5}"#, "{\"token\":\"x", "null"]
    {
        let registry = Double::plain(move |asked| match asked.authorization() {
            None => challenge(BEARER),
            Some(_) => plain(200, ""),
        })
        .await;
        let tokens = Double::plain(move |_| plain(200, body)).await;
        let registries = Registries::new(&endpoints(&[(HOST, &registry), (TOKENS, &tokens)]));
        assert_eq!(check(&registries, HOST, None).await, unreachable(TOKENS, Trouble::NoToken), "{body}");
        assert_eq!(registry.seen().len(), 1, "{body}");
    }
}

#[tokio::test]
async fn answers_are_bounded() {
    let huge = "x".repeat(4 * 1024 * 1024);
    let (_double, registries) = registry(move |_| plain(401, &huge)).await;
    assert_eq!(check(&registries, HOST, None).await, unreachable(HOST, Trouble::Failed(Failure::TooLong)));
    for many in [200, 20_000] {
        let (_double, registries) =
            registry(move |_| answer(401, &vec![("WWW-Authenticate", "Negotiate x"); many], "")).await;
        let verdict = check(&registries, HOST, None).await;
        assert_eq!(verdict, unreachable(HOST, Trouble::Failed(Failure::Unreachable)), "{many}");
    }
    for bytes in [
        &b"no http at all\r\n\r\n"[..],
        b"HTTP/1.1 999999 X\r\n\r\n",
        b"",
        b"HTTP/1.1 401 X\r\nContent-Length: 9\r\n\r\nx",
    ] {
        let (_double, registries) = registry(move |_| Answer::Bytes(bytes.to_vec())).await;
        let verdict = check(&registries, HOST, None).await;
        assert_eq!(verdict, unreachable(HOST, Trouble::Failed(Failure::Unreachable)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_ends_after_ten_seconds() {
    let late = Trouble::Failed(Failure::Late(Duration::from_secs(10)));
    let (_double, registries) = registry(|_| Answer::Silence).await;
    let start = tokio::time::Instant::now();
    assert_eq!(check(&registries, HOST, None).await, unreachable(HOST, late));
    assert_eq!(start.elapsed().as_secs(), 10);
    let head = b"HTTP/1.1 401 X\r\nContent-Length: 60000\r\n\r\n";
    let (_double, registries) = registry(|_| Answer::Trickle(head.to_vec())).await;
    assert_eq!(check(&registries, HOST, None).await, unreachable(HOST, late));
}

#[tokio::test]
async fn nobody_at_the_address_is_no_rejection() {
    let address = Double::plain(|_| Answer::Silence).await.address;
    let endpoints = [(HOST.to_owned(), format!("http://{address}").parse().unwrap())].into();
    let registries = Registries::new(&Settings { endpoints, ..settings() });
    let expected = unreachable(HOST, Trouble::Failed(Failure::Unreachable));
    assert_eq!(check(&registries, HOST, None).await, expected);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let trap = Double::plain(|_| plain(200, "{}")).await;
    let place = format!("http://{}/v2/", trap.address);
    for status in [301, 302, 303, 307, 308] {
        for step in 0..4 {
            let away = place.clone();
            let redirect =
                move |here: usize| (here == step).then(|| answer(status, &[("Location", &away)], ""));
            let away = redirect.clone();
            let registry = Double::plain(move |asked| match (asked.authorization(), &*asked.method) {
                (None, _) => away(0).unwrap_or_else(|| challenge(BEARER)),
                (Some(_), "GET") => away(2).unwrap_or_else(|| plain(200, "")),
                _ => away(3).unwrap_or_else(|| plain(200, "")),
            })
            .await;
            let tokens = Double::plain(move |asked| match asked.authorization() {
                Some(BASIC) => redirect(1).unwrap_or_else(token),
                _ => plain(401, ""),
            })
            .await;
            let registries = Registries::new(&endpoints(&[(HOST, &registry), (TOKENS, &tokens)]));
            let host = if step == 1 { TOKENS } else { HOST };
            let verdict = check(&registries, HOST, APP).await;
            assert_eq!(verdict, unreachable(host, Trouble::Redirect(status)), "{step}");
        }
    }
    assert_eq!(trap.connections(), 0);
}

#[tokio::test]
async fn what_repeats_a_login_is_not_repeated() {
    let (_double, registries) = registry(|asked| match asked.authorization() {
        None => challenge("Basic"),
        Some(shown) => {
            let body = format!(r#"{{"errors":[{{"code":"{PASSWORD}","message":"{shown}"}}]}}"#);
            answer(401, &[("X-Sent", shown)], &body)
        }
    })
    .await;
    assert_eq!(check(&registries, HOST, None).await, Verdict::Rejected(refusal(HOST, 401, None)));
}

#[tokio::test]
async fn a_pattern_names_no_registry() {
    let registries = Registries::new(&settings());
    let expected = Verdict::Unknown { why: Unknown::Pattern, retry_after: Duration::ZERO };
    assert_eq!(check(&registries, "*.dkr.ecr.eu-west-1.amazonaws.com", None).await, expected);
}

#[tokio::test]
async fn names_of_images_cannot_lead_elsewhere() {
    for image in [
        ("../x", "1"),
        ("a/../../b", "1"),
        ("a//b", "1"),
        ("", "1"),
        ("a?x=y", "1"),
        ("a#b", "1"),
        ("a b", "1"),
        ("a%2e", "1"),
        ("a\r\nb", "1"),
        ("a", ""),
        ("a", "../../x"),
        ("a", "1?x"),
        ("a", "x/y"),
        ("ä", "1"),
    ] {
        let (double, registries) = basic((200, ""), 200).await;
        let verdict = check(&registries, HOST, Some(image)).await;
        assert_eq!(verdict, unreachable(HOST, Trouble::Unsendable), "{image:?}");
        assert_eq!(double.connections(), 0, "{image:?}");
    }
    for image in [("domain.com:project/repo/img", "1"), ("a", "sha256:00"), ("library/a_b-c.d", "v1.0_x-y")] {
        let (_double, registries) = basic((200, ""), 200).await;
        let verdict = check(&registries, HOST, Some(image)).await;
        assert_eq!(verdict, Verdict::PullVerified { host: HOST.to_owned() }, "{image:?}");
    }
}

#[tokio::test]
async fn every_verdict_is_a_sentence_that_says_where_and_what_to_do() {
    for (verdict, sentence) in [
        (verified(), "registry.example accepts the user and password"),
        (
            Verdict::Rejected(refusal(HOST, 401, Some("UNAUTHORIZED"))),
            "registry.example rejects the user and password (HTTP 401, UNAUTHORIZED); put good ones into the source",
        ),
        (
            Verdict::Expired(refusal(HOST, 403, None)),
            "registry.example says that the password has expired (HTTP 403); put a new one into the source",
        ),
        (
            unreachable(HOST, Trouble::NoRegistry),
            "registry.example has no registry at /v2/ (HTTP 404): check the server's name and port; it is asked again",
        ),
    ] {
        assert_eq!(verdict.to_string(), sentence);
    }
}
