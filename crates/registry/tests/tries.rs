//! What somebody can do to others' accounts by registries of his own: they name the token server of another one, and the same
//! registry has many names.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may fail loudly")]

mod doubles;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use doubles::{BASIC, Double, challenge, check, endpoints, plain, token};
use regcred_registry::{Registries, Settings, Unknown, Verdict};

const VICTIM: &str = "registry.victim.example";
const REALM: &str = r#"Bearer realm="https://auth.victim.example/token",service="victim""#;
const TOKENS: &str = "auth.victim.example";

fn is_spared(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Unknown { why: Unknown::Spared { .. }, retry_after } if *retry_after > Duration::ZERO)
}

/// How often a login was shown to a double.
fn logins(double: &Double) -> usize {
    double.seen().iter().filter(|asked| asked.authorization() == Some(BASIC)).count()
}

fn settings(doubles: &[(&str, &Double)]) -> Settings {
    Settings { allowed_realms: vec![TOKENS.to_owned()], ..endpoints(doubles) }
}

#[tokio::test]
async fn registries_that_name_another_ones_token_server_lock_nobody_out() {
    let registry = Double::plain(|_| challenge(REALM)).await;
    let tokens = Double::plain(|_| plain(401, "")).await;
    let hosts: Vec<String> = (0..32).map(|number| format!("evil{number}.example.com")).collect();
    let registries: Vec<_> =
        hosts.iter().map(|host| (host.as_str(), &registry)).chain([(TOKENS, &tokens)]).collect();
    let registries = Registries::new(&settings(&registries));
    let mut spared = 0;
    for host in &hosts {
        spared += usize::from(is_spared(&check(&registries, host, None).await));
    }
    assert_eq!((logins(&tokens), spared), (3, 29));
}

#[tokio::test]
async fn a_registry_is_one_with_whatever_port_and_path_it_is_written() {
    let registry = Double::plain(|_| challenge(r#"Basic realm="x""#)).await;
    let registries = Registries::new(&endpoints(&[(VICTIM, &registry)]));
    let mut spared = 0;
    for number in 0..4 {
        for port in ["", ":443", ":0443"] {
            let server = format!("{VICTIM}{port}/team{number}");
            spared += usize::from(is_spared(&check(&registries, &server, None).await));
        }
    }
    assert_eq!((logins(&registry), spared), (3, 9));
}

#[tokio::test]
async fn checks_at_the_same_time_show_no_more_logins() {
    let registry = Double::plain(|_| challenge(r#"Basic realm="x""#)).await;
    let registries = Registries::new(&endpoints(&[(VICTIM, &registry)]));
    let checks = (0..20).map(|_| check(&registries, VICTIM, None));
    futures::future::join_all(checks).await;
    assert_eq!(logins(&registry), 3);
}

/// The token server serves everybody, so that a token proves nothing. Another registry that names it too, and takes the first
/// token only, must not make it look like one that tells logins apart.
#[tokio::test]
async fn what_one_registry_makes_of_a_token_server_counts_for_no_other() {
    let victim = Double::plain(|asked| match asked.authorization() {
        Some(_) => plain(200, "{}"),
        None => challenge(REALM),
    })
    .await;
    let shown = AtomicUsize::new(0);
    let evil = Double::plain(move |asked| match asked.authorization() {
        Some(_) if shown.fetch_add(1, Ordering::Relaxed) == 0 => plain(200, "{}"),
        Some(_) => plain(401, ""),
        None => challenge(REALM),
    })
    .await;
    let tokens = Double::plain(|_| token()).await;
    let doubles = [(VICTIM, &victim), ("evil.example.com", &evil), (TOKENS, &tokens)];
    let registries = Registries::new(&settings(&doubles));
    assert!(matches!(check(&registries, "evil.example.com", None).await, Verdict::LoginVerified { .. }));
    let verdict = check(&registries, VICTIM, None).await;
    assert!(matches!(verdict, Verdict::Unknown { why: Unknown::Unverifiable { .. }, .. }), "{verdict:?}");
}
