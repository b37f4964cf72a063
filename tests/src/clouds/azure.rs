//! Plays Azure.

use serde_json::json;

use super::{
    Reply, State,
    received::{Received, field, is},
};

/// The tenant of everybody.
pub const TENANT_ID: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
/// The application that may pull.
pub const CLIENT_ID: &str = "1b461305-28be-5271-beda-bd9fd2e24251";
/// Its secret.
pub const CLIENT_SECRET: &str = "q7ZkW3xVt9LmCanaryHf52Rd~client.secret+&=";
const ACCESS: &str = "entra token";
const USER: &str = "00000000-0000-0000-0000-000000000000";
const RESOURCE: &str = "https://containerregistry.azure.net";

/// Entra ID: client credentials, by a secret or by the token of a ServiceAccount.
pub(super) fn entra(received: &Received, state: &State) -> Result<Reply, String> {
    let audience = match &*received.host {
        "login.microsoftonline.com" => "api://AzureADTokenExchange",
        "login.partner.microsoftonline.cn" => "api://AzureADTokenExchangeChina",
        "login.microsoftonline.us" => "api://AzureADTokenExchangeUSGov",
        _ => return Err("Entra ID is not here".to_owned()),
    };
    received.is("POST", &format!("/{TENANT_ID}/oauth2/v2.0/token"))?;
    let form = received.form()?;
    is(&form, "grant_type", "client_credentials")?;
    is(&form, "client_id", CLIENT_ID)?;
    is(&form, "scope", &format!("{RESOURCE}/.default"))?;
    if form.contains_key("client_secret") {
        is(&form, "client_secret", CLIENT_SECRET)?;
    } else {
        is(&form, "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")?;
        state.service_account(field(&form, "client_assertion")?, audience)?;
    }
    Ok(access_token(state))
}

/// The metadata server of a node with a managed identity.
pub(super) fn metadata(received: &Received, state: &State) -> Result<Reply, String> {
    received.is("GET", "/metadata/identity/oauth2/token")?;
    received.has("metadata", "true")?;
    let parameters = received.parameters();
    is(&parameters, "api-version", "2018-02-01")?;
    is(&parameters, "resource", RESOURCE)?;
    if parameters.contains_key("client_id") {
        is(&parameters, "client_id", CLIENT_ID)?;
    }
    Ok(access_token(state))
}

/// A registry, which gives its own token for one of Entra ID.
pub(super) fn exchange(received: &Received, state: &State) -> Result<Reply, String> {
    received.is("POST", "/oauth2/exchange")?;
    let form = received.form()?;
    is(&form, "grant_type", "access_token")?;
    is(&form, "service", &received.host)?;
    if form.contains_key("tenant") {
        is(&form, "tenant", TENANT_ID)?;
    }
    if !state.is_issued(field(&form, "access_token")?, ACCESS) {
        return Err("nobody gave this access token".to_owned());
    }
    let token = state.jwt("acr");
    state.gave(&received.host, USER, &token);
    Ok(Reply::json(&json!({ "refresh_token": token })))
}

/// Its numbers are texts, as the metadata server writes them.
fn access_token(state: &State) -> Reply {
    Reply::json(&json!({ "access_token": state.issue(ACCESS), "expires_in": "3599", "token_type": "Bearer" }))
}
