//! Amazon ECR, private and public: keys of an identity, and `GetAuthorizationToken` signed with them. One token opens every
//! registry that the identity may read, so the account is no part of the request.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use jiff::SignedDuration;
use regcred_dockerconfig::Login;
use regcred_https::Hidden;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::aws_identity::{Place, keys};
use crate::clouds::Clouds;
use crate::expiry::{End, Seconds};
use crate::http::{Answer, Asker, Call};
use crate::identities::Identities;
use crate::sigv4::Scope;
use crate::token::{AssumedRole, Identity, MintError, Token};

/// As AWS documents it for tokens of both kinds.
const LIFE: SignedDuration = SignedDuration::from_hours(12);
/// ECR Public has its API nowhere else.
const PUBLIC: Place<'static> = Place { region: "us-east-1", domain: "amazonaws.com", part: None };

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authorization {
    authorization_token: Hidden,
    expires_at: Option<Seconds>,
}

/// A token for the private registries of a region.
pub(crate) async fn private<I: Identities>(
    clouds: &Clouds<I>,
    identity: &Identity,
    (region, domain): (&str, &str),
    role: Option<&AssumedRole>,
) -> Result<Token, MintError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        authorization_data: Vec<Authorization>,
    }
    let place = Place { region, domain, part: Some("region") };
    let api = Api {
        host: format!("api.ecr.{region}.{domain}"),
        target: "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken",
        scope: Scope { region, service: "ecr" },
        advice: "let its role do ecr:GetAuthorizationToken on *, and check the operator's clock",
    };
    let answer = authorization(clouds, identity, (place, role), api).await?;
    let data = answer.json::<Body>("authorizationData")?.authorization_data.into_iter().next();
    token(&answer, &data.ok_or_else(|| answer.without("authorizationData"))?)
}

/// A token for ECR Public.
pub(crate) async fn public<I: Identities>(
    clouds: &Clouds<I>,
    identity: &Identity,
    role: Option<&AssumedRole>,
) -> Result<Token, MintError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        authorization_data: Authorization,
    }
    let api = Api {
        host: format!("api.ecr-public.{}.{}", PUBLIC.region, PUBLIC.domain),
        target: "SpencerFrontendService.GetAuthorizationToken",
        scope: Scope { region: PUBLIC.region, service: "ecr-public" },
        advice: "let its role do ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken on *, and check the operator's clock",
    };
    let answer = authorization(clouds, identity, (PUBLIC, role), api).await?;
    token(&answer, &answer.json::<Body>("authorizationData")?.authorization_data)
}

/// What the two kinds of registries differ in.
struct Api<'a> {
    host: String,
    target: &'static str,
    scope: Scope<'a>,
    advice: &'static str,
}

async fn authorization<I: Identities>(
    clouds: &Clouds<I>,
    identity: &Identity,
    (place, role): (Place<'_>, Option<&AssumedRole>),
    api: Api<'_>,
) -> Result<Answer, MintError> {
    let keys = keys(clouds, identity, place, role).await?;
    let call = Call::new(Method::POST, &api.host, "/")
        .named_by(place.part)
        .header("x-amz-target", api.target)
        .header("content-type", "application/x-amz-json-1.1")
        .body(b"{}")
        .signed(&keys, api.scope);
    clouds.http.send(call, Asker { identity: &identity.to_string(), advice: api.advice }).await
}

/// `base64(AWS:PASSWORD)`; a colon may be in the password.
fn token(answer: &Answer, authorization: &Authorization) -> Result<Token, MintError> {
    let unusable = || answer.without("a user and a password in authorizationToken");
    let pair = STANDARD.decode(authorization.authorization_token.0.expose()).map_err(|_| unusable())?;
    let pair = Zeroizing::new(pair);
    let colon = pair.iter().position(|byte| *byte == b':').ok_or_else(unusable)?;
    let login = Login::new(&pair[..colon], &pair[colon + 1..]).map_err(|_| unusable())?;
    let expires_at = answer.expiry(End::at(authorization.expires_at), LIFE)?;
    Ok(Token { login, expires_at: Some(expires_at) })
}
