//! Registries that take the token of a ServiceAccount and give one of their own for it: Quay, JFrog, Cloudsmith. The
//! audience of the token is the host that is asked.

use http::Method;
use jiff::SignedDuration;
use regcred_dockerconfig::{Login, SecretBytes};
use regcred_https::Hidden;
use serde::{Deserialize, Serialize};

use crate::clouds::Clouds;
use crate::expiry::{End, Seconds, jwt_claims};
use crate::http::{Asker, Call};
use crate::identities::Identities;
use crate::request::QUAY;
use crate::token::{Identity, MintError, Token};

/// What tokens live that do not say it.
const LIFE: SignedDuration = SignedDuration::from_hours(1);
/// The user of every token of Cloudsmith.
const CLOUDSMITH_USER: &str = "token";
const CLOUDSMITH: &str = "api.cloudsmith.io";

/// Who is asked, and for whom there.
#[derive(Clone, Copy)]
pub(crate) enum Registry<'a> {
    Quay { robot: &'a str },
    Jfrog { host: &'a str, provider: &'a str },
    Cloudsmith { organization: &'a str, service: &'a str },
}

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
    registry: Registry<'_>,
) -> Result<Token, MintError> {
    let Identity::ServiceAccount(name) = identity else {
        return Err(MintError::Incomplete {
            identity: identity.to_string(),
            missing: "token that this registry takes",
            advice: "give auth.serviceAccountRef",
        });
    };
    let subject = clouds.identities.token(name, registry.host()).await?;
    let (call, advice) = registry.ask(&subject).ok_or_else(|| MintError::TokenRequest {
        name: name.clone(),
        why: "what the API server gave is no token; it is asked again".to_owned(),
    })?;
    let answer = clouds.http.send(call, Asker { identity: &identity.to_string(), advice }).await?;
    let Body { token, username, expires_in } = answer.json("a token")?;
    let token = token.0;
    let user = registry.user(username, &token).ok_or_else(|| answer.without("a user name"))?;
    let end = expires_in.map_or_else(|| End::of_jwt(token.expose()), End::In);
    let expires_at = answer.expiry(end, LIFE)?;
    let login = Login::new(user.as_bytes(), token.expose()).map_err(|_| answer.without("a usable token"))?;
    Ok(Token { login, expires_at: Some(expires_at) })
}

/// The body of a request to JFrog (RFC 8693).
#[derive(Serialize)]
struct JfrogBody<'a> {
    grant_type: &'static str,
    subject_token_type: &'static str,
    subject_token: &'a str,
    provider_name: &'a str,
}

#[derive(Serialize)]
struct CloudsmithBody<'a> {
    oidc_token: &'a str,
    service_slug: &'a str,
}

impl Registry<'_> {
    /// The host that is asked: the registry itself, or its vendor's API.
    fn host(&self) -> &str {
        match self {
            Self::Quay { .. } => QUAY,
            Self::Jfrog { host, .. } => host,
            Self::Cloudsmith { .. } => CLOUDSMITH,
        }
    }

    /// The request, and what to do where it is refused; `None` if the token of the ServiceAccount is no text.
    fn ask<'a>(&self, subject: &SecretBytes) -> Option<(Call<'a>, &'static str)> {
        let text = std::str::from_utf8(subject.expose()).ok()?;
        Some(match self {
            Self::Quay { robot } => (
                Call::new(Method::GET, QUAY, "/oauth2/federation/robot/token").basic(robot, subject)?,
                "let the robot's federation name this cluster's issuer and the ServiceAccount as subject",
            ),
            Self::Jfrog { host, provider } => (
                Call::new(Method::POST, host, "/access/api/v1/oidc/token").named_by(Some("registry")).json(
                    &JfrogBody {
                        grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
                        subject_token_type: "urn:ietf:params:oauth:token-type:id_token",
                        subject_token: text,
                        provider_name: provider,
                    },
                ),
                "see the OpenID Connect integration: its issuer, its audience, and an identity mapping for the ServiceAccount",
            ),
            Self::Cloudsmith { organization, service } => (
                Call::new(Method::POST, CLOUDSMITH, &format!("/openid/{organization}/"))
                    .json(&CloudsmithBody { oidc_token: text, service_slug: service }),
                "let the organization's OpenID Connect provider trust this cluster's issuer for the service account",
            ),
        })
    }

    /// The user that goes with a token. JFrog names it in the answer, or in the token's subject: `…/users/NAME`.
    fn user(&self, answered: Option<String>, token: &SecretBytes) -> Option<String> {
        #[derive(Deserialize)]
        struct Claims {
            sub: String,
        }
        match self {
            Self::Quay { robot } => Some((*robot).to_owned()),
            Self::Cloudsmith { .. } => Some(CLOUDSMITH_USER.to_owned()),
            Self::Jfrog { .. } => answered.filter(|user| !user.is_empty()).or_else(|| {
                let Claims { sub } = jwt_claims(token.expose())?;
                sub.rsplit_once("/users/").map(|(_, user)| user.to_owned())
            }),
        }
    }
}
