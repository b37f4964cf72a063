//! Plays AWS. A signature is recomputed from the request as it came, by code that shares nothing with the product's.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{digest, hmac};
use serde_json::{Value, json};

use super::{
    Reply, State,
    received::{Received, field, is},
    rfc3339,
};

/// An access key and its secret that some user of AWS has.
pub const STATIC_KEYS: (&str, &str) = ("AKIASTATIC", "q7ZkW3xVt9LmCanaryHf52Rdstatic/key+");
/// How far clocks may be apart (docs.aws.amazon.com, "Troubleshoot Signature Version 4").
const SKEW: i64 = 300;
const OWN_ACCOUNT: &str = "123456789012";
/// All of its roles ask for an external ID, as do the roles of the own account whose names begin with `external`.
const OTHER_ACCOUNT: &str = "210987654321";
const NODE_ROLE: &str = "node-role";
const ROLE_PATH: &str = "/latest/meta-data/iam/security-credentials/";

/// Keys that were given out.
#[derive(Clone)]
pub(super) struct IssuedKeys {
    secret: String,
    session: String,
}

/// `GetAuthorizationToken` of a region.
pub(super) fn ecr(received: &Received, state: &State) -> Result<Reply, String> {
    let region = received.host.split('.').nth(2).unwrap_or_default();
    received.has("x-amz-target", "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken")?;
    let data = authorization(received, state, (region, "ecr"))?;
    Ok(Reply::json(&json!({ "authorizationData": [data] })))
}

/// The same of ECR Public, which is nowhere but in us-east-1 and gives one object.
pub(super) fn ecr_public(received: &Received, state: &State) -> Result<Reply, String> {
    received.has("x-amz-target", "SpencerFrontendService.GetAuthorizationToken")?;
    if received.host != "api.ecr-public.us-east-1.amazonaws.com" {
        return Err("ECR Public is in us-east-1".to_owned());
    }
    let data = authorization(received, state, ("us-east-1", "ecr-public"))?;
    Ok(Reply::json(&json!({ "authorizationData": data })))
}

fn authorization(received: &Received, state: &State, scope: (&str, &str)) -> Result<Value, String> {
    received.is("POST", "/")?;
    received.has("content-type", "application/x-amz-json-1.1")?;
    check_signature(received, state, scope)?;
    if received.body != b"{}" {
        return Err("the body is not {}".to_owned());
    }
    // A colon in the password is a part of it.
    let password = state.secret("ecr:token");
    state.gave(&received.host, "AWS", &password);
    let token = STANDARD.encode(format!("AWS:{password}"));
    // A fraction, as AWS writes it.
    let expires_at =
        format!("{}.25", state.now() + state.life()).parse::<f64>().map_err(|error| error.to_string())?;
    Ok(json!({ "authorizationToken": token, "expiresAt": expires_at, "proxyEndpoint": "https://x" }))
}

/// `AssumeRole` and `AssumeRoleWithWebIdentity` of a region.
pub(super) fn sts(received: &Received, state: &State) -> Result<Reply, String> {
    received.is("POST", "/")?;
    received.has("accept", "text/xml")?;
    let form = received.form()?;
    is(&form, "Version", "2011-06-15")?;
    let role = field(&form, "RoleArn")?;
    let known = role.strip_prefix("arn:aws:iam::").and_then(|role| role.split_once(":role/"));
    let (account, name) = known.ok_or("no ARN of a role")?;
    if ![OWN_ACCOUNT, OTHER_ACCOUNT].contains(&account) {
        return Err(format!("nobody knows the account {account}"));
    }
    if field(&form, "RoleSessionName")?.len() < 2 {
        return Err("a session name has two characters at least".to_owned());
    }
    match field(&form, "Action")? {
        "AssumeRoleWithWebIdentity" => {
            if received.headers.contains_key("authorization") {
                return Err("a web identity needs no signature".to_owned());
            }
            state.service_account(field(&form, "WebIdentityToken")?, "sts.amazonaws.com")?;
        }
        "AssumeRole" => {
            let region = received.host.split('.').nth(1).unwrap_or_default();
            check_signature(received, state, (region, "sts"))?;
            if account == OTHER_ACCOUNT || name.starts_with("external") {
                is(&form, "ExternalId", "acme")?;
            }
        }
        other => return Err(format!("nobody knows {other}")),
    }
    let (id, keys) = new_keys(state);
    let expiration = rfc3339(state.now() + 3600);
    let action = field(&form, "Action")?;
    Ok(Reply::new(200, format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><Credentials>\
         <AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey><SessionToken>{}</SessionToken>\
         <Expiration>{expiration}</Expiration></Credentials></{action}Result></{action}Response>",
        keys.secret, keys.session,
    )).with("content-type", "text/xml"))
}

/// EKS Pod Identity's agent: the token of the operator's own ServiceAccount, for this audience alone.
pub(super) fn pod_identity(received: &Received, state: &State) -> Result<Reply, String> {
    received.is("GET", "/v1/credentials")?;
    state.service_account(received.header("authorization")?, "pods.eks.amazonaws.com")?;
    Ok(keys_as_json(state))
}

/// The metadata server of EC2, in its second version: no answer without a session.
pub(super) fn node(received: &Received, state: &State) -> Result<Reply, String> {
    if received.path == "/latest/api/token" {
        received.is("PUT", "/latest/api/token")?;
        received.has("x-aws-ec2-metadata-token-ttl-seconds", "60")?;
        return Ok(Reply::new(200, state.issue("imds session")));
    }
    if !state.is_issued(received.header("x-aws-ec2-metadata-token")?, "imds session") {
        return Err("no session of the metadata server".to_owned());
    }
    match received.path.strip_prefix(ROLE_PATH) {
        Some("") => Ok(Reply::new(200, format!("{NODE_ROLE}\n"))),
        Some(NODE_ROLE) => Ok(keys_as_json(state)),
        _ => Err("nothing is there".to_owned()),
    }
}

fn keys_as_json(state: &State) -> Reply {
    let (id, IssuedKeys { secret, session }) = new_keys(state);
    Reply::json(&json!({
        "Code": "Success", "AccessKeyId": id, "SecretAccessKey": secret, "Token": session,
        "Expiration": rfc3339(state.now() + 3600),
    }))
}

fn new_keys(state: &State) -> (String, IssuedKeys) {
    let keys = IssuedKeys { secret: state.secret("secret/key+"), session: state.secret("session/token==") };
    let mut log = state.log();
    let id = format!("ASIA{}", log.keys.len());
    log.keys.insert(id.clone(), keys.clone());
    (id, keys)
}

/// Recomputes the signature ("AWS Signature Version 4", docs.aws.amazon.com).
fn check_signature(
    received: &Received,
    state: &State,
    (region, service): (&str, &str),
) -> Result<(), String> {
    let value =
        received.header("authorization")?.strip_prefix("AWS4-HMAC-SHA256 ").ok_or("another algorithm")?;
    let part = |name: &str| {
        let found = value.split(", ").find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        found.ok_or_else(|| format!("no {name}"))
    };
    let (id, scope) = part("Credential")?.split_once('/').ok_or("no scope")?;
    let time = received.header("x-amz-date")?;
    let day = time.split('T').next().unwrap_or_default();
    if scope != format!("{day}/{region}/{service}/aws4_request") {
        return Err(format!("the scope is {scope}"));
    }
    check_time(time, state.now())?;
    let secret = secret_of(id, received, state)?;
    let names = part("SignedHeaders")?;
    for name in received.headers.keys().filter(|name| *name == "host" || name.starts_with("x-amz-")) {
        if !names.split(';').any(|signed| signed == name) {
            return Err(format!("{name} is not signed"));
        }
    }
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{time}\n{scope}\n{}",
        hash(canonical(received, names, &state.address)?.as_bytes())
    );
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in [day, region, service, "aws4_request", &to_sign] {
        key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes()).as_ref().to_vec();
    }
    if part("Signature")? == hex(&key) { Ok(()) } else { Err("the signature does not match".to_owned()) }
}

fn canonical(received: &Received, names: &str, address: &str) -> Result<String, String> {
    if received.header("host")? != address {
        return Err("the host is not the one that was connected to".to_owned());
    }
    let mut text = format!("{}\n{}\n{}\n", received.method, received.sent_path, received.query);
    for name in names.split(';') {
        writeln!(text, "{name}:{}", received.header(name)?.trim()).map_err(|error| error.to_string())?;
    }
    Ok(format!("{text}\n{names}\n{}", hash(&received.body)))
}

/// The secret of an access key; keys that expire need their session token.
fn secret_of(id: &str, received: &Received, state: &State) -> Result<String, String> {
    if id == STATIC_KEYS.0 {
        return Ok(STATIC_KEYS.1.to_owned());
    }
    let keys = state.log().keys.get(id).cloned().ok_or("nobody has these keys")?;
    received
        .has("x-amz-security-token", &keys.session)
        .map_err(|_| "no session token, or another".to_owned())?;
    Ok(keys.secret)
}

fn check_time(time: &str, now: i64) -> Result<(), String> {
    let form = |second: i64| rfc3339(second).replace(['-', ':'], "");
    let near = (now - SKEW..=now + SKEW).any(|second| form(second) == time);
    if near { Ok(()) } else { Err(format!("{time} is more than {SKEW} s from {}", form(now))) }
}

fn hash(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::CORE;

    #[test]
    fn the_static_secret_holds_the_canary() {
        assert!(STATIC_KEYS.1.contains(CORE));
    }
}
