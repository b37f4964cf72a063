//! Plays Google.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use serde_json::{Value, json};

use super::{
    Reply, State,
    received::{Received, field, is},
    rfc3339,
};

/// A Google service account that everybody may act as.
pub const ACCOUNT: &str = "puller@acme.iam.gserviceaccount.com";
/// A key that was made for these tests, and opens nothing.
const KEY: &str = include_str!("google.pem");
const USER: &str = "oauth2accesstoken";
/// What opens all that an account may do, and may act as another.
const EVERYTHING: &str = "https://www.googleapis.com/auth/cloud-platform";
/// What opens images, and no more.
const READING: &str = "https://www.googleapis.com/auth/devstorage.read_only";
const POOL: &str = "project-1.svc.id.goog";
const CLUSTER: &str =
    "https://container.googleapis.com/v1/projects/project-1/locations/europe-west1/clusters/blue";
/// A provider of a pool that trusts a cluster outside of Google.
pub const PROVIDER: &str =
    "projects/123456789012/locations/global/workloadIdentityPools/clusters/providers/prod";
const ACCESS: &str = "access token";

/// The key file of a service account.
pub fn key_file(token_uri: &str) -> String {
    let file = json!({
        "type": "service_account", "project_id": "project-1", "private_key_id": "k1", "private_key": KEY,
        "client_email": ACCOUNT, "client_id": "1", "token_uri": token_uri,
    });
    file.to_string()
}

/// The metadata server of a node in GKE.
pub(super) fn metadata(received: &Received, state: &State) -> Result<Reply, String> {
    received.has("metadata-flavor", "Google")?;
    let reply = match received.path.strip_prefix("/computeMetadata/v1/") {
        Some("instance/service-accounts/default/token") => {
            scoped_token(received, state, field(&received.parameters(), "scopes")?)?
        }
        Some("project/project-id") => Reply::new(200, "project-1"),
        Some("instance/attributes/cluster-location") => Reply::new(200, "europe-west1"),
        Some("instance/attributes/cluster-name") => Reply::new(200, "blue"),
        _ => return Err("nothing is there".to_owned()),
    };
    Ok(reply.with("metadata-flavor", "Google"))
}

/// Takes the token of a ServiceAccount: of a cluster in GKE, or of one that a provider trusts.
pub(super) fn sts(received: &Received, state: &State) -> Result<Reply, String> {
    received.is("POST", "/v1/token")?;
    let form = received.form()?;
    is(&form, "grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")?;
    is(&form, "requested_token_type", "urn:ietf:params:oauth:token-type:access_token")?;
    is(&form, "subject_token_type", "urn:ietf:params:oauth:token-type:jwt")?;
    is(&form, "scope", EVERYTHING)?;
    let gke = format!("identitynamespace:{POOL}:{CLUSTER}");
    let provider = format!("//iam.googleapis.com/{PROVIDER}");
    let audience = match field(&form, "audience")? {
        audience if audience == provider => audience,
        audience if audience == gke => POOL,
        other => return Err(format!("nobody is {other}")),
    };
    state.service_account(field(&form, "subject_token")?, audience)?;
    let (token, reply) = access_token(state, ACCESS);
    // The exchange knows no narrower scope, so this token may be for a registry all the same.
    state.gave(&received.host, USER, &token);
    Ok(reply)
}

/// Gives a token of a service account for another token.
pub(super) fn act_as(received: &Received, state: &State) -> Result<Reply, String> {
    let account = ACCOUNT.replace('@', "%40");
    received.is("POST", &format!("/v1/projects/-/serviceAccounts/{account}:generateAccessToken"))?;
    let token = received.header("authorization")?.strip_prefix("Bearer ").ok_or("no bearer")?;
    if !state.is_issued(token, ACCESS) {
        return Err("nobody gave this access token".to_owned());
    }
    if received.json()? != json!({ "scope": [READING], "lifetime": "3600s" }) {
        return Err("another scope or lifetime".to_owned());
    }
    // The token that is shown here was for no registry.
    state.log().logins.retain(|login| login.password != token);
    let token = state.issue(ACCESS);
    state.gave(&received.host, USER, &token);
    Ok(Reply::json(&json!({ "accessToken": token, "expireTime": rfc3339(state.now() + state.life()) })))
}

/// Takes what the key of a key file signed (RFC 7523).
pub(super) fn token_uri(received: &Received, state: &State) -> Result<Reply, String> {
    received.is("POST", "/token")?;
    let form = received.form()?;
    is(&form, "grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")?;
    let (signed, signature) = field(&form, "assertion")?.rsplit_once('.').ok_or("no token")?;
    let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|error| error.to_string());
    let key = RsaKeyPair::from_pkcs8(&der()).map_err(|error| error.to_string())?;
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref())
        .verify(signed.as_bytes(), &decoded(signature)?)
        .map_err(|_| "the signature does not match")?;
    let (header, claims) = signed.split_once('.').ok_or("no claims")?;
    let json =
        |part: &str| serde_json::from_slice::<Value>(&decoded(part)?).map_err(|error| error.to_string());
    if json(header)? != json!({ "alg": "RS256", "typ": "JWT", "kid": "k1" }) {
        return Err("another header".to_owned());
    }
    let claims = json(claims)?;
    check_claims(&claims, state.now())?;
    scoped_token(received, state, claims["scope"].as_str().ok_or("no scope")?)
}

/// As Google checks them: an hour at most, and begun by its own clock.
fn check_claims(claims: &Value, now: i64) -> Result<(), String> {
    let number = |name: &str| claims[name].as_i64().ok_or_else(|| format!("no {name}"));
    let (begin, end) = (number("iat")?, number("exp")?);
    if begin > now || end <= now || end - begin > 3600 {
        return Err(format!("from {begin} to {end}, and now is {now}"));
    }
    let fits = claims["iss"] == ACCOUNT && claims["aud"] == "https://oauth2.googleapis.com/token";
    if fits { Ok(()) } else { Err("another issuer or audience".to_owned()) }
}

/// A token of the scope that was asked for: one that only reads is for a registry, and one for everything acts as another
/// account.
fn scoped_token(received: &Received, state: &State, scope: &str) -> Result<Reply, String> {
    match scope {
        READING => {
            let (token, reply) = access_token(state, "access token that reads");
            state.gave(&received.host, USER, &token);
            Ok(reply)
        }
        EVERYTHING => Ok(access_token(state, ACCESS).1),
        other => Err(format!("nobody needs the scope {other}")),
    }
}

fn access_token(state: &State, kind: &str) -> (String, Reply) {
    let token = state.issue(kind);
    let body = json!({ "access_token": token, "expires_in": state.life(), "token_type": "Bearer" });
    (token, Reply::json(&body))
}

fn der() -> Vec<u8> {
    let text: String = KEY.lines().filter(|line| !line.starts_with("-----")).collect();
    base64::engine::general_purpose::STANDARD.decode(text).expect("the key of the tests")
}
