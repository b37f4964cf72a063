//! Sources that give tokens: the operator with the chart's rights against the doubles of the clouds. Tokens roll, end, come
//! back, and are shown nowhere. What the kubelet finds for each kind: `registries/found.rs`.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use regcred_dockerconfig::{Keyring, SecretBytes, repository_of};
use regcred_tests::clouds::{GivenLogin, Misbehaviour, STATIC_KEYS};
use regcred_tests::install::OPERATOR_NAMESPACE;
use regcred_tests::wait::throughout;
use regcred_tests::{OperatorOptions, SECRET_KEY, SECRET_TYPE, Scene, TokenScene, eventually};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);
/// In which a token of a few seconds was renewed, or has ended.
const LATER: Duration = Duration::from_mins(1);
const ECR: &str = "api.ecr.eu-west-1.amazonaws.com";
const ECR_SERVER: &str = "*.dkr.ecr.eu-west-1.amazonaws.com";
const ECR_IMAGE: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app:1";
const ROLE: &str = "arn:aws:iam::123456789012:role/puller";
/// The ServiceAccount that the chart's value lists.
const PULLER: &str = "puller";
/// Where the API server keeps events of objects without a namespace.
const EVENTS: &str = "default";

/// A scene with an operator that may ask tokens for [`PULLER`].
async fn stage() -> TokenScene {
    let stage = TokenScene::new("{puller,unannotated,absent}").await;
    stage.account(PULLER, &json!({ "eks.amazonaws.com/role-arn": ROLE })).await;
    stage
}

/// Waits until the copy of a credential changes its content.
async fn rolled(stage: &TokenScene, namespace: &str, name: &str, former: &GivenLogin) -> GivenLogin {
    eventually("another token in the copy", LATER, async || {
        match found(&stage.scene, namespace, name, ECR_IMAGE).await {
            Some((_, password)) if password != former.password => Ok(()),
            other => Err(format!("another: {}", other.is_some())),
        }
    })
    .await;
    stage.clouds.logins().last().unwrap().clone()
}

fn spec(registries: &Value, label: &str) -> Value {
    json!({ "registries": registries, "namespaces": { "selector": { "matchLabels": { "pull": label } } } })
}

/// The auth of the listed ServiceAccount.
fn puller() -> Value {
    json!({ "serviceAccountRef": { "name": PULLER } })
}

/// ECR for every account of a region, by the listed ServiceAccount.
fn ecr() -> Value {
    json!({ "server": ECR_SERVER, "source": { "ecr": { "auth": puller() } } })
}

/// What the kubelet's keyring finds for an image in a copy, if it is one login.
async fn found(scene: &Scene, namespace: &str, name: &str, image: &str) -> Option<(String, String)> {
    let data = scene.secret(namespace, name).await?.data?;
    let keyring = Keyring::new([&*data.get(SECRET_KEY)?.0]).unwrap();
    let logins = keyring.lookup(&repository_of(image).unwrap());
    let text = |bytes: &SecretBytes| String::from_utf8(bytes.expose().to_vec()).unwrap();
    match logins[..] {
        [login] => Some((text(login.username()), text(login.password()))),
        _ => None,
    }
}

/// The events about an object for a reason.
async fn events(scene: &Scene, name: &str, reason: &str) -> Vec<Event> {
    let events: Api<Event> = Api::namespaced(scene.client.clone(), EVENTS);
    let filter = ListParams::default().fields(&format!("involvedObject.name={name},reason={reason}"));
    events.list(&filter).await.unwrap().items
}

/// Waits for a Warning about an object, and wants no other for the same reason.
async fn warned_once(scene: &Scene, name: &str, reason: &str) {
    eventually(&format!("a Warning {reason} about {name}"), SOON, async || {
        match &*events(scene, name, reason).await {
            [event] if event.type_.as_deref() == Some("Warning") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// A Secret of a docker registry, as kubectl makes it.
fn written(server: &str, user: &str) -> String {
    json!({ "auths": { server: { "username": user, "password": "written" } } }).to_string()
}

#[tokio::test]
async fn a_hundred_credentials_of_one_identity_share_one_token_and_rest() {
    let stage = stage().await;
    let TokenScene { scene, clouds, operator, .. } = &stage;
    let namespace = scene.settled_namespace("n", &[("pull", "many")]).await;
    let mut names = Vec::new();
    for number in 0..100 {
        let account = format!("{:012}.dkr.ecr.eu-west-1.amazonaws.com", 111_111_111_111_u64 + number);
        let server = if number == 0 { ECR_SERVER.to_owned() } else { account };
        let registries = json!([{ "server": server, "source": { "ecr": { "auth": puller() } } }]);
        let mut wanted = spec(&registries, "many");
        // Of a ServiceAccount's list regcred fills 64 entries at most.
        wanted["serviceAccounts"] = json!({ "from": "None" });
        names.push(scene.credential(&format!("pull{number}"), wanted).await);
    }
    for name in &names {
        scene.wait_condition(name, "Ready", "True", "Succeeded").await;
    }
    assert_eq!((clouds.mints(), stage.token_requests()), (1, 1));
    let password = &clouds.logins()[0].password;
    for (name, account) in [(&names[0], 1), (&names[0], 222_222_222_222_u64), (&names[50], 111_111_111_161)] {
        let image = format!("{account:012}.dkr.ecr.eu-west-1.amazonaws.com/app");
        let login = found(scene, &namespace, name, &image).await.expect(&image);
        assert!(login.1 == *password, "{image}");
    }
    let audit = scene.control_plane().audit();
    let mark = audit.mark();
    throughout("nothing is asked at rest", Duration::from_secs(10), async || {
        let asked = audit.since(mark).by(operator.user()).filter(|entry| entry.verb != "watch").counts();
        if asked.total() == 0 { Ok(()) } else { Err(asked.to_string()) }
    })
    .await;
    assert_eq!(clouds.mints(), 1);
    stage.clear().await;
}

#[tokio::test]
async fn copies_roll_in_place_and_status_says_until_when() {
    let stage = stage().await;
    let TokenScene { scene, clouds, operator, .. } = &stage;
    clouds.set_life(20);
    let mut namespaces = Vec::new();
    for number in 0..3 {
        namespaces.push(scene.settled_namespace(&format!("n{number}"), &[("pull", "roll")]).await);
    }
    let name = scene.credential("pull", spec(&json!([ecr()]), "roll")).await;
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    let uids = async || {
        let mut uids = Vec::new();
        for namespace in &namespaces {
            uids.push(scene.secret(namespace, &name).await.unwrap().metadata.uid);
        }
        uids
    };
    let (before, mark) = (uids().await, scene.control_plane().audit().mark());
    let mut login = clouds.logins().last().unwrap().clone();
    for _ in 0..2 {
        login = rolled(&stage, &namespaces[0], &name, &login).await;
        for namespace in &namespaces {
            eventually("the token in every copy", SOON, async || {
                let (_, password) = found(scene, namespace, &name, ECR_IMAGE).await.unwrap();
                if password == login.password { Ok(()) } else { Err("the former one".to_owned()) }
            })
            .await;
        }
        agrees(scene, &namespaces, &name).await;
    }
    assert_eq!(uids().await, before, "no Secret was made anew");
    let asked = scene.control_plane().audit().since(mark).by(operator.user());
    assert_eq!(asked.counts().of("delete", "secrets"), 0);
    assert_eq!(stage.token_requests(), clouds.mints(), "a token of the ServiceAccount for each of the cloud");
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    stage.clear().await;
}

/// Waits until status speaks of what is in the copies, and compares its times with each other.
async fn agrees(scene: &Scene, namespaces: &[String], name: &str) {
    let status = eventually("the fingerprint in status", SOON, async || {
        let status = scene.status(name).await;
        for namespace in namespaces {
            let annotations = scene.secret(namespace, name).await.unwrap().metadata.annotations.unwrap();
            if status["fingerprint"] != json!(annotations["regcred.dev/fingerprint"]) {
                return Err(status.to_string());
            }
        }
        Ok(status)
    })
    .await;
    let registry = &status["registries"][0];
    let time = |key: &str| registry[key].as_str().unwrap_or_default().parse::<Timestamp>().expect(key);
    let (refreshed, next, end) = (time("refreshedAt"), time("nextRefreshAt"), time("expiresAt"));
    let life = end.duration_since(refreshed).as_secs();
    assert!((15..=21).contains(&life), "{registry}");
    assert!(refreshed < next && next < end, "{registry}");
    assert_eq!(status["summary"]["nextExpiry"], registry["expiresAt"]);
    let control_plane = scene.control_plane();
    let table = control_plane.kubectl(control_plane.admin_identity(), &["get", "regcred", name], "").await;
    let table = table.unwrap().success().unwrap();
    let (head, line) = table.split_once('\n').unwrap();
    let printed = line.get(head.find("EXPIRES").unwrap()..).and_then(|end| end.split_whitespace().next());
    assert!(printed.unwrap_or_default().parse::<Timestamp>().is_ok_and(|at| at >= end), "{table}");
}

#[tokio::test]
async fn while_an_issuer_refuses_copies_keep_the_token_until_its_end_and_other_servers_after_it() {
    let stage = stage().await;
    let TokenScene { scene, clouds, .. } = &stage;
    clouds.set_life(25);
    let namespace = scene.settled_namespace("n", &[("pull", "refused")]).await;
    let bot = scene.basic_auth_source("bot", "bot").await;
    let registries = json!([ecr(), { "server": "ghcr.io", "source": { "secretRef": { "name": bot } } }]);
    let name = scene.credential("pull", spec(&registries, "refused")).await;
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    let uid = scene.secret(&namespace, &name).await.unwrap().metadata.uid;
    clouds.misbehave(ECR, Some(Misbehaviour::AccessDenied));
    let refused = scene.wait_condition(&name, "SourceReady", "False", "AccessDenied").await;
    let says = |part: &str| assert!(refused.message.contains(part), "{part}: {}", refused.message);
    says(&format!("{ECR_SERVER}: {ECR} gives ServiceAccount puller no token (HTTP 403, AccessDenied)"));
    says("let its role do ecr:GetAuthorizationToken");
    says("copies keep the last token until it expires");
    scene.wait_condition(&name, "Ready", "False", "SourceNotReady").await;
    let password = &clouds.logins()[0].password;
    assert!(found(scene, &namespace, &name, ECR_IMAGE).await.is_some_and(|login| login.1 == *password));
    warned_once(scene, &name, "AccessDenied").await;
    has_only(scene, &namespace, &name, "ghcr.io").await;
    let expired = scene.wait_condition(&name, "SourceReady", "False", "Expired").await;
    assert!(expired.message.contains("copies have no entry for this server"), "{}", expired.message);
    let status = scene.status(&name).await;
    let listed: Vec<_> = status["registries"].as_array().unwrap().iter().map(|it| &it["server"]).collect();
    assert_eq!(listed, ["ghcr.io"], "{status}");
    assert_eq!(status["summary"]["nextExpiry"], Value::Null);
    clouds.misbehave(ECR, None);
    clouds.set_life(3600);
    eventually("whole again", LATER, async || match scene.condition(&name, "Ready").await {
        Some(ready) if ready.status == "True" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let password = clouds.logins().pop().unwrap().password;
    assert!(found(scene, &namespace, &name, ECR_IMAGE).await.is_some_and(|login| login.1 == password));
    assert_eq!(scene.secret(&namespace, &name).await.unwrap().metadata.uid, uid);
    stage.clear().await;
}

#[tokio::test]
async fn an_issuer_that_is_asked_too_often_is_left_alone_for_as_long_as_it_says() {
    let stage = stage().await;
    let TokenScene { scene, clouds, .. } = &stage;
    clouds.misbehave(ECR, Some(Misbehaviour::Throttle(15)));
    scene.settled_namespace("n", &[("pull", "throttled")]).await;
    let name = scene.credential("pull", spec(&json!([ecr()]), "throttled")).await;
    let throttled = scene.wait_condition(&name, "SourceReady", "False", "Throttled").await;
    assert!(throttled.message.contains("too many requests"), "{}", throttled.message);
    clouds.misbehave(ECR, None);
    // Whoever wants the same token is told at once, and does not ask again.
    let other = scene.credential("other", spec(&json!([ecr()]), "throttled")).await;
    scene.wait_condition(&other, "SourceReady", "False", "Throttled").await;
    let asked = || clouds.seen().iter().filter(|seen| seen.host == ECR).count();
    throughout("it is left alone", Duration::from_secs(10), async || {
        if asked() == 1 { Ok(()) } else { Err(asked().to_string()) }
    })
    .await;
    for name in [&name, &other] {
        scene.wait_condition(name, "Ready", "True", "Succeeded").await;
    }
    assert_eq!((asked(), clouds.mints()), (2, 1));
    stage.clear().await;
}

#[tokio::test]
async fn other_keys_of_an_identity_and_a_request_bring_another_token() {
    let stage = stage().await;
    let TokenScene { scene, clouds, .. } = &stage;
    let namespace = scene.settled_namespace("n", &[("pull", "keys")]).await;
    let (id, secret) = STATIC_KEYS;
    let keys = |end: &str| {
        [("AWS_ACCESS_KEY_ID", format!("{id}{end}")), ("AWS_SECRET_ACCESS_KEY", secret.to_owned())]
    };
    let put = async |end: &str| {
        let keys = keys(end);
        let keys: Vec<_> = keys.iter().map(|(key, value)| (*key, &**value)).collect();
        scene.identity("aws", &keys).await
    };
    let aws = put("").await;
    let registry =
        json!({ "server": ECR_SERVER, "source": { "ecr": { "auth": { "secretRef": { "name": aws } } } } });
    let name = scene.credential("pull", spec(&json!([registry]), "keys")).await;
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    let first = clouds.logins()[0].clone();
    // The same keys with a line break are another version of the Secret.
    put("\n").await;
    let second = rolled(&stage, &namespace, &name, &first).await;
    assert_eq!(clouds.mints(), 2);
    // Many may ask at once, so a token that is younger than half a minute is new enough.
    let mut number = 0;
    eventually("a new token on request", LATER, async || {
        number += 1;
        let request =
            json!({ "metadata": { "annotations": { "regcred.dev/requestedAt": number.to_string() } } });
        scene.credentials().patch(&name, &PatchParams::default(), &Patch::Merge(request)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        if clouds.mints() == 3 { Ok(()) } else { Err(format!("{} tokens", clouds.mints())) }
    })
    .await;
    rolled(&stage, &namespace, &name, &second).await;
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    stage.clear().await;
}

#[tokio::test]
async fn an_identity_that_cannot_be_used_is_told_with_what_to_do() {
    let stage = stage().await;
    let TokenScene { scene, .. } = &stage;
    stage.account("unlisted", &json!({ "eks.amazonaws.com/role-arn": ROLE })).await;
    stage.account("unannotated", &json!({})).await;
    let keys = [("AWS_ACCESS_KEY_ID", STATIC_KEYS.0), ("AWS_SECRET_ACCESS_KEY", STATIC_KEYS.1)];
    let identity = scene.identity("identity", &keys).await;
    let half = scene.identity("half", &keys[..1]).await;
    let source = scene.source("source", "Opaque", &keys).await;
    let ecr_by = |auth: Value| json!([{ "server": ECR_SERVER, "source": { "ecr": { "auth": auth } } }]);
    let of_account = |name: &str| ecr_by(json!({ "serviceAccountRef": { "name": name } }));
    let of_secret = |name: &str| ecr_by(json!({ "secretRef": { "name": name } }));
    let keys = json!({ "name": identity, "usernameKey": "AWS_ACCESS_KEY_ID", "passwordKey": "AWS_SECRET_ACCESS_KEY" });
    let handed_out = json!([{ "server": "ghcr.io", "source": { "secretRef": keys } }]);
    let quay = json!({ "robot": "acme+puller", "auth": { "serviceAccountRef": { "name": "unlisted" } } });
    for (number, (registries, reason, says)) in [
        (
            of_account("unlisted"),
            "TokenRequestFailed",
            "list unlisted in the chart value tokens.serviceAccounts",
        ),
        (
            json!([{ "server": "quay.io", "source": { "quay": quay } }]),
            "TokenRequestFailed",
            "list unlisted in the chart value tokens.serviceAccounts",
        ),
        (
            of_account("absent"),
            "TokenRequestFailed",
            "absent: it does not exist in the source namespace; create it",
        ),
        (of_account("unannotated"), "SourceInvalid", "no annotation eks.amazonaws.com/role-arn; add it"),
        (of_secret(&half), "SourceInvalid", "half has no AWS_SECRET_ACCESS_KEY; add a key of this name"),
        (of_secret(&source), "SourceInvalid", "source is no identity; label it"),
        (of_secret("gone"), "SourceInvalid", "Secret gone does not exist; create it"),
        (handed_out, "SourceInvalid", "holds keys of an identity, by its label, and is no source"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = scene.credential(&format!("bad{number}"), spec(&registries, "nowhere")).await;
        let told = scene.wait_condition(&name, "SourceReady", "False", reason).await;
        assert!(told.message.contains(says), "{says} in {}", told.message);
        assert!(told.message.contains(OPERATOR_NAMESPACE), "no namespace in {}", told.message);
    }
    stage.allow("{puller,unlisted}").await;
    let healed = scene.name("bad0");
    eventually("it heals once the chart lists it", LATER, async || {
        match scene.condition(&healed, "SourceReady").await {
            Some(ready) if ready.status == "True" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    stage.clear().await;
}

#[tokio::test]
async fn without_the_keys_of_an_identity_the_last_token_stays_until_its_end_and_no_longer() {
    let stage = stage().await;
    let TokenScene { scene, clouds, .. } = &stage;
    clouds.set_life(20);
    let namespace = scene.settled_namespace("n", &[("pull", "gone")]).await;
    let keys = [("AWS_ACCESS_KEY_ID", STATIC_KEYS.0), ("AWS_SECRET_ACCESS_KEY", STATIC_KEYS.1)];
    let aws = scene.identity("aws", &keys).await;
    let bot = scene.basic_auth_source("bot", "bot").await;
    let by_keys = json!({ "ecr": { "auth": { "secretRef": { "name": aws } } } });
    let registries = json!([
        { "server": ECR_SERVER, "source": by_keys },
        { "server": "ghcr.io", "source": { "secretRef": { "name": bot } } },
    ]);
    let name = scene.credential("pull", spec(&registries, "gone")).await;
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    scene.delete_source(&aws).await;
    let told = scene.wait_condition(&name, "SourceReady", "False", "SourceInvalid").await;
    assert!(told.message.contains("does not exist; create it"), "{}", told.message);
    assert!(told.message.contains("copies keep the last token until it expires"), "{}", told.message);
    assert!(found(scene, &namespace, &name, ECR_IMAGE).await.is_some());
    has_only(scene, &namespace, &name, "ghcr.io").await;
    scene.wait_condition(&name, "SourceReady", "False", "Expired").await;
    scene.identity("aws", &keys).await;
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    assert!(found(scene, &namespace, &name, ECR_IMAGE).await.is_some());
    stage.clear().await;
}

/// Waits until a copy has an entry for this server and for no other.
async fn has_only(scene: &Scene, namespace: &str, name: &str, server: &str) {
    eventually("the entry to go as it expires", LATER, async || {
        let config = scene.docker_config(namespace, name).await.unwrap();
        let servers: Vec<_> = config["auths"].as_object().unwrap().keys().cloned().collect();
        if servers == [server] { Ok(()) } else { Err(format!("{servers:?}")) }
    })
    .await;
}

/// A password that says its own end, as a JSON Web Token does.
fn token_until(end: Timestamp) -> String {
    let claims = json!({ "exp": end.as_second() }).to_string();
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
}

#[expect(clippy::disallowed_methods, reason = "a credential ends at a time of the day")]
fn in_hours(hours: i64) -> Timestamp {
    let second = (Timestamp::now() + SignedDuration::from_hours(hours)).as_second();
    Timestamp::from_second(second).unwrap()
}

/// Makes or rewrites a source that says in one of the ways when it ends; returns the spec that names it.
async fn ending(scene: &Scene, how: &str, end: Timestamp) -> Value {
    let (text, kind) = (end.to_string(), "kubernetes.io/basic-auth");
    let password = if how == "token" { token_until(end) } else { "p".to_owned() };
    let login = [("username", "u"), ("password", &*password)];
    let source = match how {
        "configuration" => {
            annotated(scene, how, SECRET_TYPE, &[(SECRET_KEY, &written("ghcr.io", "u"))], &text).await
        }
        "annotation" => annotated(scene, how, kind, &login, &text).await,
        "key" => scene.source(how, kind, &[login[0], login[1], ("expires_at", &text)]).await,
        _ => scene.source(how, kind, &login).await,
    };
    let mut wanted =
        spec(&json!([{ "server": "ghcr.io", "source": { "secretRef": { "name": source } } }]), "ends");
    if how == "configuration" {
        wanted["registries"] = json!([]);
        wanted["dockerConfigSecretRefs"] = json!([{ "name": source }]);
    }
    wanted
}

#[tokio::test]
async fn what_somebody_wrote_is_told_before_and_after_its_end_and_stays_in_the_copies() {
    let scene = Scene::new().await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    let namespace = scene.settled_namespace("n", &[("pull", "ends")]).await;
    for how in ["annotation", "configuration", "key", "token"] {
        let soon = in_hours(72);
        let name = scene.credential(how, ending(&scene, how, soon).await).await;
        let told = scene.wait_condition(&name, "SourceReady", "True", "ExpiringSoon").await;
        let day = soon.strftime("%Y-%m-%d %H:%M UTC");
        let place = format!("(Secret {} in {OPERATOR_NAMESPACE})", scene.name(how));
        let words = format!("the credential for ghcr.io {place} ends {day}; put a new one into the source");
        assert_eq!(told.message, words, "{how}");
        scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
        let status = scene.status(&name).await;
        assert_eq!(status["summary"]["nextExpiry"], soon.to_string(), "{how}: {status}");
        assert_eq!(status["registries"][0]["expiresAt"], soon.to_string(), "{how}: {status}");
        assert_eq!(status["registries"][0]["nextRefreshAt"], Value::Null, "{how}: {status}");
        ending(&scene, how, in_hours(-1)).await;
        let told = scene.wait_condition(&name, "SourceReady", "False", "Expired").await;
        assert!(told.message.starts_with(&format!("the credential for ghcr.io {place} ended ")), "{how}");
        assert!(told.message.contains("; copies keep it, as only its registry knows"), "{}", told.message);
        assert!(found(&scene, &namespace, &name, "ghcr.io/acme/app").await.is_some(), "{how}");
        for reason in ["ExpiringSoon", "Expired"] {
            warned_once(&scene, &name, reason).await;
        }
        ending(&scene, how, in_hours(24 * 30)).await;
        scene.wait_condition(&name, "SourceReady", "True", "Resolved").await;
    }
    scene.finish().await;
}

/// A source with the annotation that says its end.
async fn annotated(scene: &Scene, suffix: &str, kind: &str, data: &[(&str, &str)], end: &str) -> String {
    let name = scene.source(suffix, kind, data).await;
    let annotation = json!({ "metadata": { "annotations": { "regcred.dev/expires-at": end } } });
    let secrets = scene.secrets(OPERATOR_NAMESPACE);
    secrets.patch(&name, &PatchParams::default(), &Patch::Merge(annotation)).await.unwrap();
    name
}
