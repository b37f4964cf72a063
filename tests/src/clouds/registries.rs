//! Plays registries that take the token of a ServiceAccount.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use super::{Reply, State, received::Received};

/// Quay: robot and token as user and password.
pub(super) fn quay(received: &Received, state: &State) -> Result<Reply, String> {
    received.is("GET", "/oauth2/federation/robot/token")?;
    let basic = received.header("authorization")?.strip_prefix("Basic ").ok_or("no Basic")?;
    let pair =
        STANDARD.decode(basic).ok().and_then(|pair| String::from_utf8(pair).ok()).ok_or("no base64")?;
    let (robot, token) = pair.split_once(':').ok_or("no password")?;
    if robot != "acme+puller" {
        return Err(format!("no robot is {robot}"));
    }
    state.service_account(token, "quay.io")?;
    let token = state.jwt(robot);
    state.gave(&received.host, robot, &token);
    Ok(Reply::json(&json!({ "token": token })))
}

/// JFrog: an exchange of tokens, as RFC 8693 calls it, in JSON.
pub(super) fn jfrog(received: &Received, state: &State) -> Result<Reply, String> {
    received.is("POST", "/access/api/v1/oidc/token")?;
    let body = received.json()?;
    let fits = body["grant_type"] == "urn:ietf:params:oauth:grant-type:token-exchange"
        && body["subject_token_type"] == "urn:ietf:params:oauth:token-type:id_token"
        && body["provider_name"] == "my-cluster";
    if !fits {
        return Err("another grant, kind of token or provider".to_owned());
    }
    state.service_account(body["subject_token"].as_str().ok_or("no subject_token")?, &received.host)?;
    let token = state.jwt("jfac@01/users/puller");
    state.gave(&received.host, "puller", &token);
    Ok(Reply::json(&json!({ "access_token": token, "expires_in": state.life(), "token_type": "Bearer" })))
}

/// Cloudsmith: a token for the name of a service account, and 201.
pub(super) fn cloudsmith(received: &Received, state: &State) -> Result<Reply, String> {
    received.is("POST", "/openid/acme/")?;
    let body = received.json()?;
    if body["service_slug"] != "puller" {
        return Err("another service account".to_owned());
    }
    state.service_account(body["oidc_token"].as_str().ok_or("no oidc_token")?, "api.cloudsmith.io")?;
    let token = state.jwt("cloudsmith");
    state.gave(&received.host, "token", &token);
    Ok(Reply { status: 201, ..Reply::json(&json!({ "token": token })) })
}
