//! Where a login goes: realms and names that want it elsewhere, DNS that changes its mind, and certificates of others. All
//! connections are made in a network that writes them down, and what leads nowhere ends at a listener that counts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may fail loudly")]

mod doubles;

use std::net::SocketAddr;
use std::sync::Arc;

use doubles::{Authority, BASIC, Double, MadeUp, answer, check, plain, settings, token};
use regcred_https::Failure;
use regcred_registry::{Environment, Registries, Settings, Trouble, Unknown, Verdict};

const REGISTRY: &str = "registry.example";
const AT: &str = "10.9.8.7";

/// Addresses of token servers that a login may not be sent to, as [`REGISTRY`] names them.
const REALMS: &[&str] = &[
    // Other spellings of this machine and its link.
    "https://127.0.0.1/token",
    "https://127.0.0.1:443/token",
    "https://127.1/token",
    "https://127.0.1/token",
    "https://2130706433/token",
    "https://0x7f000001/token",
    "https://0x7F.0.0.1/token",
    "https://0x7f.1/token",
    "https://0177.0.0.1/token",
    "https://017700000001/token",
    "https://0/token",
    "https://0.0.0.0/token",
    "https://127.0.0.1./token",
    "https://localhost/token",
    "https://localhost./token",
    "https://LOCALHOST/token",
    "https://a.localhost/token",
    "https://[::1]/token",
    "https://[::]/token",
    "https://[::ffff:127.0.0.1]/token",
    "https://[::ffff:7f00:1]/token",
    "https://[::127.0.0.1]/token",
    "https://[0:0:0:0:0:0:0:1]/token",
    "https://[64:ff9b::7f00:1]/token",
    "https://[2002:7f00:1::]/token",
    "https://[fe80::1]/token",
    "https://[fe80::1%25eth0]/token",
    "https://[::1%25lo]/token",
    "https://169.254.169.254/latest/meta-data/",
    "https://2852039166/token",
    "https://0xa9fea9fe/token",
    "https://[::ffff:169.254.169.254]/token",
    "https://[fd00:ec2::254]/token",
    "https://10.0.0.1/token",
    "https://172.16.0.1/token",
    "https://192.168.0.1/token",
    "https://100.64.0.1/token",
    "https://1.1.1.1/token",
    "https://[2606:4700::1111]/token",
    "https://\u{ff11}27.0.0.1/token",
    "https://127\u{3002}0.0.1/token",
    // No TLS, or no HTTP at all.
    "http://registry.example/token",
    "http://evil.example/token",
    "http://127.0.0.1/token",
    "ftp://evil.example/token",
    "file:///etc/passwd",
    "gopher://evil.example/1",
    "javascript:alert(1)",
    "//evil.example/token",
    "/token",
    "token",
    "",
    "https",
    "https:",
    "https://",
    "https:///token",
    "https:/evil.example/token",
    "https:evil.example",
    // What looks like the registry and is not.
    "https://registry.example@evil.example/token",
    "https://user:password@registry.example/token",
    "https://registry.example:443@127.0.0.1/token",
    "https://registry.example\\@evil.example/token",
    "https://evil.example\\.registry.example/token",
    "https://registry.example#@evil.example/token",
    "https://registry.example%2f@evil.example/token",
    "https://registry.example%00.evil.example/token",
    "https://registry.example./token",
    "https://registry.example:/token",
    "https://registry.example:0/token",
    "https://registry.example:99999/token",
    "https://registry.example:+443/token",
    "https://registry.example:0443/token",
    "https://registry.example:4 43/token",
    "https://registry..example/token",
    "https://.registry.example/token",
    "https://registry.example.:443/token",
    "https://evil.example:8443/token",
    "https://evil.example:22/token",
    "https://evil.example./token",
    "https://evil_host.example/token",
    "https://-evil.example/token",
    "https://xn--/token\u{e9}",
    "https:// evil.example/token",
    "https://evil.example /token",
    "https://evil.example\t/token",
    "https://evil.example/to ken",
    "https://[registry.example]/token",
    "https://[::1/token",
    "https://::1/token",
    "https://*/token",
    "https://*.example/token",
    // Names that are looked up inside of a cluster or a network.
    "https://kubernetes/token",
    "https://kubernetes.default.svc/token",
    "https://kubernetes.default.svc.cluster.local/token",
    "https://metadata.google.internal/token",
    "https://metadata/token",
    "https://vault.corp/token",
    "https://printer.local/token",
    "https://1.0.0.127.in-addr.arpa/token",
];

/// Public names whose addresses are none, each with what it is looked up as.
const REBOUND: &[(&str, &[&str])] = &[
    ("loopback.example", &["127.0.0.1"]),
    ("any.example", &["0.0.0.0"]),
    ("link.example", &["169.254.169.254"]),
    ("private.example", &["10.0.0.1"]),
    ("private-b.example", &["172.20.0.1"]),
    ("private-c.example", &["192.168.1.1"]),
    ("shared.example", &["100.64.0.1"]),
    ("alibaba.example", &["100.100.100.200"]),
    ("azure.example", &["168.63.129.16"]),
    ("multicast.example", &["224.0.0.1"]),
    ("broadcast.example", &["255.255.255.255"]),
    ("reserved.example", &["240.0.0.1"]),
    ("documentation.example", &["192.0.2.1"]),
    ("benchmark.example", &["198.18.0.1"]),
    ("six.example", &["::1"]),
    ("six-any.example", &["::"]),
    ("six-link.example", &["fe80::1"]),
    ("six-local.example", &["fd12::1"]),
    ("six-amazon.example", &["fd00:ec2::254"]),
    ("six-mapped.example", &["::ffff:127.0.0.1"]),
    ("six-compatible.example", &["::127.0.0.1"]),
    ("six-nat.example", &["64:ff9b::7f00:1"]),
    ("six-nat-private.example", &["64:ff9b::a00:1"]),
    ("six-local-nat.example", &["64:ff9b:1::1"]),
    ("six-to-four.example", &["2002:7f00:1::"]),
    ("six-teredo.example", &["2001:0:1:2::1"]),
    ("six-multicast.example", &["ff02::1"]),
    ("six-documentation.example", &["2001:db8::1"]),
    // One good address makes no good name: the connection could go to the other.
    ("both.example", &["93.184.215.14", "127.0.0.1"]),
    ("both-six.example", &["93.184.215.14", "::1"]),
    ("both-private.example", &["10.0.0.1", "93.184.215.14"]),
    ("none.example", &[]),
];

/// A registry at [`AT`] that names a realm, and a network whose every other address is a trap.
struct Scene {
    registry: Double,
    trap: Double,
    network: Arc<MadeUp>,
    authority: Authority,
}

impl Scene {
    async fn new(realm: &str) -> Self {
        let quoted = realm.replace('\\', "\\\\");
        Self::answering(format!(r#"Bearer realm="{quoted}",service="registry""#).into_bytes()).await
    }

    async fn answering(challenge: Vec<u8>) -> Self {
        let authority = Authority::new();
        let pair = authority.pair(&[REGISTRY]);
        let registry = Double::tls(&pair, move |asked| match (asked.authorization(), &*asked.path) {
            (None, "/v2/") => {
                let head = b"HTTP/1.1 401 X\r\nContent-Length: 0\r\nConnection: close\r\nWWW-Authenticate: ";
                doubles::Answer::Bytes([head, &*challenge, b"\r\n\r\n"].concat())
            }
            (Some(BASIC), path) if path.starts_with("/token") => token(),
            (Some(_), "/v2/") => plain(200, "{}"),
            _ => plain(401, ""),
        })
        .await;
        let trap = Double::tls(&authority.pair(&[REGISTRY, "evil.example"]), |_| token()).await;
        let network = Arc::new(MadeUp::with_trap(trap.address));
        network.name(REGISTRY, &[&[AT]]);
        for port in [443, 8443] {
            network.host(&format!("{AT}:{port}"), &registry);
        }
        Self { registry, trap, network, authority }
    }

    fn settings(&self) -> Settings {
        Settings { environment: self.authority.environment(), ..settings() }
    }

    async fn check(&self, settings: &Settings) -> Verdict {
        check(&Registries::over(settings, self.network.clone()), REGISTRY, None).await
    }

    /// Nobody but the registry was called, and nobody at all was shown a login.
    fn assert_kept(&self, what: &str) {
        let elsewhere = |address: &SocketAddr| address.ip() != AT.parse::<std::net::IpAddr>().unwrap();
        assert!(!self.network.dialed().iter().any(elsewhere), "{what}: {:?}", self.network.dialed());
        assert_eq!(self.trap.connections(), 0, "{what}");
        assert!(self.registry.seen().iter().all(|asked| asked.authorization().is_none()), "{what}");
    }
}

fn why(verdict: &Verdict) -> &Unknown {
    match verdict {
        Verdict::Unknown { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn no_login_goes_to_a_hostile_realm() {
    assert!(REALMS.len() + REBOUND.len() > 120);
    for realm in REALMS {
        let scene = Scene::new(realm).await;
        let verdict = scene.check(&scene.settings()).await;
        scene.assert_kept(realm);
        assert!(
            matches!(
                why(&verdict),
                Unknown::UntrustedRealm { .. } | Unknown::Unreachable { what: Trouble::NoChallenge, .. }
            ),
            "{realm}: {verdict:?}"
        );
        assert_eq!(scene.network.resolved(), [REGISTRY], "{realm}");
        let sentence = verdict.to_string();
        assert!(
            sentence.len() < 300 && !sentence.contains(['@', '\\', '%', '\t', '#']) && sentence.is_ascii()
        );
    }
}

#[tokio::test]
async fn no_login_goes_to_an_address_that_is_none() {
    let forbidden = Trouble::Failed(Failure::Forbidden);
    for (name, addresses) in REBOUND {
        let scene = Scene::new(&format!("https://{name}/token")).await;
        scene.network.name(name, &[addresses]);
        let verdict = scene.check(&scene.settings()).await;
        scene.assert_kept(name);
        let what = if addresses.is_empty() { Trouble::Failed(Failure::Unresolved) } else { forbidden };
        assert_eq!(why(&verdict), &Unknown::Unreachable { host: (*name).to_owned(), what }, "{name}");
    }
}

#[tokio::test]
async fn what_is_checked_is_what_is_connected_to() {
    let authority = Authority::new();
    let names = ["tokens.example", REGISTRY];
    let tokens = Double::tls(&authority.pair(&names), |asked| {
        if asked.authorization() == Some(BASIC) { token() } else { plain(401, "") }
    })
    .await;
    let scene = Scene { authority, ..Scene::new("https://tokens.example/token").await };
    let registry = Double::tls(&scene.authority.pair(&names), |asked| match asked.authorization() {
        None => answer(401, &[("WWW-Authenticate", "Bearer realm=\"https://tokens.example/token\"")], ""),
        Some(_) => plain(200, ""),
    })
    .await;
    scene.network.host(&format!("{AT}:443"), &registry);
    scene.network.host("93.184.215.14:443", &tokens);
    // Good when it is looked up first, and then this machine.
    scene.network.name("tokens.example", &[&["93.184.215.14"], &["127.0.0.1"]]);
    let verdict = scene.check(&scene.settings()).await;
    // The first connection went to what was checked; the second look-up gave what may not be connected to.
    let forbidden = Trouble::Failed(Failure::Forbidden);
    let expected = Unknown::Unreachable { host: "tokens.example".to_owned(), what: forbidden };
    assert_eq!(why(&verdict), &expected);
    let dialed = scene.network.dialed();
    assert_eq!(dialed.iter().filter(|address| address.ip().is_loopback()).count(), 0, "{dialed:?}");
    assert_eq!((tokens.connections(), scene.trap.connections()), (1, 0));
    // Each connection looked its name up once.
    assert_eq!(scene.network.resolved().len(), dialed.len() + 1);
}

#[tokio::test]
async fn a_registry_is_no_address_of_this_machine_or_its_link() {
    let scene = Scene::new("https://registry.example/token").await;
    for server in [
        "127.0.0.1",
        "127.0.0.1:5000",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0.0.0.0",
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "224.0.0.1",
        "localhost",
        "localhost:5000",
        "a.localhost",
        "LOCALHOST",
        "[::1]:5000",
        "[::ffff:127.0.0.1]:5000",
        "[fe80::1]:5000",
        "[fd00:ec2::254]:80",
        "[64:ff9b::7f00:1]:8443",
        "rebound.example",
        "rebound-link.example",
        "rebound-six.example",
    ] {
        scene.network.name("rebound.example", &[&["127.0.0.1"]]);
        scene.network.name("rebound-link.example", &[&["10.0.0.1", "169.254.169.254"]]);
        scene.network.name("rebound-six.example", &[&["::ffff:7f00:1"]]);
        let registries = Registries::over(&scene.settings(), scene.network.clone());
        let verdict = check(&registries, server, None).await;
        let (host, what) = (server.to_ascii_lowercase(), Trouble::Failed(Failure::Forbidden));
        assert_eq!(why(&verdict), &Unknown::Unreachable { host, what }, "{server}");
        scene.assert_kept(server);
    }
    assert_eq!(scene.registry.connections(), 0);
}

#[tokio::test]
async fn a_registry_may_name_itself_and_what_the_settings_allow() {
    for (realm, allowed, names) in [
        ("https://registry.example/token", None, &[][..]),
        ("HTTPS://Registry.Example/token", None, &[]),
        ("https://registry.example:443/token", None, &[]),
        ("https://registry.example:8443/token", None, &[]),
        ("https://registry.example/token?account=x", None, &[]),
        ("https://tokens.example/token", None, &["93.184.215.14"]),
        ("https://tokens.example:443/token", None, &["93.184.215.14"]),
        ("https://tokens.example/token", None, &["64:ff9b::5db8:d70e"]),
        ("https://tokens.corp/token", Some("tokens.corp"), &["10.0.0.9"]),
        ("https://tokens.corp/token", Some("*.corp"), &["10.0.0.9"]),
        ("https://tokens.corp:8443/token", Some("tokens.corp:8443"), &["10.0.0.9"]),
        ("https://Tokens.CORP/token", Some("TOKENS.corp"), &["10.0.0.9"]),
        ("https://tokens/token", Some("tokens"), &["10.0.0.9"]),
    ] {
        let scene = Scene::new(realm).await;
        let tokens =
            Double::tls(&scene.authority.pair(&["tokens.example", "tokens.corp", "tokens"]), |asked| {
                if asked.authorization() == Some(BASIC) { token() } else { plain(401, "") }
            })
            .await;
        for name in ["tokens.example", "tokens.corp", "tokens"] {
            scene.network.name(name, &[names]);
        }
        for address in ["93.184.215.14:443", "[64:ff9b::5db8:d70e]:443", "10.0.0.9:443", "10.0.0.9:8443"] {
            scene.network.host(address, &tokens);
        }
        let allowed_realms = allowed.into_iter().map(str::to_owned).collect();
        let verdict = scene.check(&Settings { allowed_realms, ..scene.settings() }).await;
        let expected = Verdict::LoginVerified { host: REGISTRY.to_owned(), hint: None };
        assert_eq!(verdict, expected, "{realm}");
        assert_eq!(scene.trap.connections(), 0, "{realm}");
    }
}

#[tokio::test]
async fn what_the_settings_allow_is_no_more_than_they_say() {
    for (realm, allowed) in [
        ("https://tokens.corp:8443/token", "tokens.corp"),
        ("https://tokens.corp/token", "tokens.corp:8443"),
        ("https://evil-corp/token", "*.corp"),
        ("https://corp/token", "*.corp"),
        ("https://tokens.corp/token", "*corp"),
        ("https://tokens.corp/token", "*"),
        ("https://tokens.corp/token", "*."),
        ("https://tokens.corp/token", ""),
        ("https://tokens.corp/token", "tokens"),
        ("https://x.tokens.corp/token", "tokens.corp"),
        ("https://127.1/token", "*.1"),
        ("https://a.127.0.0.1/token", "*.0.0.1"),
        ("http://tokens.corp/token", "tokens.corp"),
    ] {
        let scene = Scene::new(realm).await;
        scene.network.name("tokens.corp", &[&["10.0.0.9"]]);
        let settings = Settings { allowed_realms: vec![allowed.to_owned()], ..scene.settings() };
        let verdict = scene.check(&settings).await;
        assert!(matches!(why(&verdict), Unknown::UntrustedRealm { .. }), "{realm} {allowed}: {verdict:?}");
        scene.assert_kept(realm);
    }
    // What is allowed by name is still not at this machine.
    let scene = Scene::new("https://tokens.corp/token").await;
    scene.network.name("tokens.corp", &[&["127.0.0.1"]]);
    let settings = Settings { allowed_realms: vec!["tokens.corp".to_owned()], ..scene.settings() };
    assert!(matches!(why(&scene.check(&settings).await), Unknown::Unreachable { .. }));
    scene.assert_kept("tokens.corp");
}

#[tokio::test]
async fn an_endpoint_of_the_settings_makes_nobody_a_token_server() {
    let trap = Double::plain(|_| token()).await;
    let scene = Scene::new("http://169.254.169.254/token").await;
    let endpoints =
        ["169.254.169.254", "metadata", "127.0.0.1:5000"].map(|host| (host.to_owned(), trap.endpoint()));
    let settings = Settings { endpoints: endpoints.into(), ..scene.settings() };
    let verdict = scene.check(&settings).await;
    assert!(matches!(why(&verdict), Unknown::UntrustedRealm { .. }), "{verdict:?}");
    assert_eq!(trap.connections(), 0);
    // An internal registry under a name that looks public is no token server of a stranger's either.
    let scene = Scene::new("https://registry.corp.example/any/path").await;
    let endpoints = [("registry.corp.example".to_owned(), trap.endpoint())].into();
    let verdict = scene.check(&Settings { endpoints, ..scene.settings() }).await;
    assert!(matches!(why(&verdict), Unknown::UntrustedRealm { .. }), "{verdict:?}");
    assert_eq!(trap.connections(), 0);
}

#[tokio::test]
async fn a_certificate_of_another_is_no_rejection_and_sees_no_login() {
    let (authority, other) = (Authority::new(), Authority::new());
    for pair in [authority.pair(&["other.example"]), other.pair(&[REGISTRY]), authority.pair(&[AT])] {
        let registry = Double::tls(&pair, |_| plain(401, "")).await;
        let network = Arc::new(MadeUp::default());
        network.name(REGISTRY, &[&[AT]]);
        network.host(&format!("{AT}:443"), &registry);
        let settings = Settings { environment: authority.environment(), ..settings() };
        let verdict = check(&Registries::over(&settings, network), REGISTRY, None).await;
        let what = Trouble::Failed(Failure::Tls);
        assert_eq!(why(&verdict), &Unknown::Unreachable { host: REGISTRY.to_owned(), what });
        assert!(registry.seen().is_empty());
    }
}

#[tokio::test]
async fn a_server_without_tls_is_no_rejection_and_sees_no_login() {
    let registry = Double::plain(|_| plain(401, "")).await;
    let network = Arc::new(MadeUp::default());
    network.name(REGISTRY, &[&[AT]]);
    network.host(&format!("{AT}:443"), &registry);
    network.host(&format!("{AT}:80"), &registry);
    let registries = Registries::over(&settings(), network.clone());
    let verdict = check(&registries, REGISTRY, None).await;
    assert!(matches!(why(&verdict), Unknown::Unreachable { .. }));
    assert!(network.dialed().iter().all(|address| address.port() == 443));
    assert!(registry.seen().is_empty());
}

#[tokio::test]
async fn a_proxy_is_asked_for_names_and_never_for_addresses_of_this_machine() {
    let proxy = Double::plain(|_| plain(503, "")).await;
    let network = Arc::new(MadeUp::default());
    network.name("proxy.corp", &[&["10.0.0.2"]]);
    network.host("10.0.0.2:3128", &proxy);
    let environment: Environment =
        Arc::new(|name| (name == "HTTPS_PROXY").then(|| "http://proxy.corp:3128".to_owned()));
    let settings = Settings { environment, ..settings() };
    let registries = Registries::over(&settings, network.clone());
    for server in [
        "127.0.0.1",
        "2130706433",
        "127.1",
        "localhost",
        "169.254.169.254",
        "[::1]:8443",
        "[::ffff:7f00:1]:8443",
    ] {
        let verdict = check(&registries, server, None).await;
        let (host, what) = (server.to_owned(), Trouble::Failed(Failure::Forbidden));
        assert_eq!(why(&verdict), &Unknown::Unreachable { host, what }, "{server}");
    }
    assert_eq!(proxy.connections(), 0);
    check(&registries, REGISTRY, None).await;
    assert!(proxy.seen()[0].is("CONNECT", "registry.example:443"), "{:?}", proxy.seen());
    assert_eq!(network.resolved(), ["proxy.corp"]);
}
