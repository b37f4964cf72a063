//! Registries that take the token of a ServiceAccount and give one of their own for it: Quay, JFrog, Cloudsmith. The
//! audience of the token is the host that is asked.

use http::Method;
use jiff::SignedDuration;
use regcred_dockerconfig::{Login, SecretBytes};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::clouds::Clouds;
use crate::expiry::{End, Seconds, jwt_claims};
use crate::hidden::Hidden;
use crate::http::{Asker, Call};
use crate::identities::Identities;
use crate::request::QUAY;
use crate::token::{Identity, Issuer, MintError, Token};

/// What tokens live that do not say it.
const LIFE: SignedDuration = SignedDuration::from_hours(1);
/// The user of every token of Cloudsmith.
const CLOUDSMITH_USER: &str = "token";

/// What the three answer.
#[derive(Deserialize)]
struct Body {
    #[serde(alias = "access_token")]
    token: Hidden,
    username: Option<String>,
    expires_in: Option<Seconds>,
}

/// A token of a registry for the token of a ServiceAccount.
pub(crate) async fn token<I: Identities>(
    clouds: &Clouds<I>,
    identity: &Identity,
    issuer: &Issuer,
) -> Result<Token, MintError> {
    let Identity::ServiceAccount(name) = identity else {
        return Err(MintError::Incomplete {
            identity: identity.to_string(),
            missing: "token that this registry takes",
            advice: "give auth.serviceAccountRef",
        });
    };
    let host = host(issuer);
    let subject = clouds.identities.token(name, host).await?;
    let (call, advice) = ask(issuer, host, &subject).ok_or_else(|| MintError::TokenRequest {
        name: name.clone(),
        why: "what the API server gave is no token; it is asked again".to_owned(),
    })?;
    let answer = clouds.http.send(call, Asker { identity: &identity.to_string(), advice }).await?;
    let Body { token, username, expires_in } = answer.json("a token")?;
    let token = token.0;
    let user = user(issuer, username, &token).ok_or_else(|| answer.without("a user name"))?;
    let end = expires_in.map_or_else(|| End::of_jwt(token.expose()), End::In);
    let expires_at = answer.expiry(end, LIFE)?;
    let login = Login::new(user.as_bytes(), token.expose()).map_err(|_| answer.without("a usable token"))?;
    Ok(Token { login, expires_at: Some(expires_at) })
}

/// Who is asked: the registry itself, or its vendor's API.
fn host(issuer: &Issuer) -> &str {
    match issuer {
        Issuer::Acr { host, .. } | Issuer::Jfrog { host, .. } => host,
        Issuer::Cloudsmith { .. } => "api.cloudsmith.io",
        _ => QUAY,
    }
}

/// The request of each registry, and what to do where it refuses.
fn ask<'a>(issuer: &Issuer, host: &str, subject: &SecretBytes) -> Option<(Call<'a>, &'static str)> {
    let text = Zeroizing::new(String::from_utf8(subject.expose().to_vec()).ok()?);
    Some(match issuer {
        Issuer::Quay { robot } => (
            Call::new(Method::GET, host, "/oauth2/federation/robot/token").basic(robot, subject)?,
            "let the robot's federation name this cluster's issuer and the ServiceAccount as subject",
        ),
        Issuer::Jfrog { provider, .. } => (
            Call::new(Method::POST, host, "/access/api/v1/oidc/token").json(&json!({
                "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
                "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
                "subject_token": &**text,
                "provider_name": provider,
            })),
            "see the OpenID Connect integration: its issuer, its audience, and an identity mapping for the ServiceAccount",
        ),
        Issuer::Cloudsmith { organization, service } => (
            Call::new(Method::POST, host, &format!("/openid/{organization}/"))
                .json(&json!({ "oidc_token": &**text, "service_slug": service })),
            "let the organization's OpenID Connect provider trust this cluster's issuer for the service account",
        ),
        Issuer::Ecr { .. } | Issuer::EcrPublic { .. } | Issuer::Gcp { .. } | Issuer::Acr { .. } => {
            return None;
        }
    })
}

/// The user that goes with a token. JFrog names it in the answer, or in the token's subject: `…/users/NAME`.
fn user(issuer: &Issuer, answered: Option<String>, token: &SecretBytes) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        sub: String,
    }
    match issuer {
        Issuer::Quay { robot } => Some(robot.clone()),
        Issuer::Cloudsmith { .. } => Some(CLOUDSMITH_USER.to_owned()),
        _ => answered.filter(|user| !user.is_empty()).or_else(|| {
            let Claims { sub } = jwt_claims(token.expose())?;
            sub.rsplit_once("/users/").map(|(_, user)| user.to_owned())
        }),
    }
}
