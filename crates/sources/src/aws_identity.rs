//! Who asks AWS: keys of the operator's own environment, Pod or node, keys for the token of a ServiceAccount, or keys of a
//! Secret; and a role that is assumed with them.

use http::header::{AUTHORIZATION, HeaderName};
use http::{Method, Uri};
use regcred_dockerconfig::SecretBytes;
use regcred_https::{Hidden, escaped};
use serde::Deserialize;

use crate::clouds::{Clouds, elsewhere, token_file};
use crate::http::{Answer, Asker, Call};
use crate::identities::{Identities, IdentityKeys};
use crate::sigv4::{Keys, Scope};
use crate::token::{AssumedRole, Identity, MintError};

const AUDIENCE: &str = "sts.amazonaws.com";
/// The annotation of EKS, "IAM roles for service accounts".
const ROLE_ANNOTATION: &str = "eks.amazonaws.com/role-arn";
const SESSION_NAME: &[u8] = b"regcred";
const STS_VERSION: &[u8] = b"2011-06-15";
const IMDS: &str = "169.254.169.254";
const IMDS_ROLE: &str = "/latest/meta-data/iam/security-credentials/";
const ECS: &str = "169.254.170.2";
/// Where AWS's own SDKs send a container's authorization without TLS: ECS, EKS Pod Identity, loopback.
const CONTAINER_HOSTS: [&str; 6] =
    [ECS, "169.254.170.23", "[fd00:ec2::23]", "localhost", "127.0.0.1", "[::1]"];

/// A region, and the domain of its partition's APIs.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub region: &'a str,
    pub domain: &'a str,
    /// `region`, where the server in the spec names it.
    pub part: Option<&'static str>,
}

/// The keys of an identity, or of the role that it assumes.
pub(crate) async fn keys<I: Identities>(
    clouds: &Clouds<I>,
    identity: &Identity,
    place: Place<'_>,
    role: Option<&AssumedRole>,
) -> Result<Keys, MintError> {
    let own = match identity {
        Identity::Operator => operator(clouds, place).await?,
        Identity::ServiceAccount(name) => service_account(clouds, name, place).await?,
        Identity::Secret { name, .. } => of_secret(&IdentityKeys::of(&clouds.identities, name)?)?,
    };
    match role {
        Some(role) => assume(clouds, identity, (&own, role), place).await,
        None => Ok(own),
    }
}

fn of_secret(keys: &IdentityKeys) -> Result<Keys, MintError> {
    Ok(Keys {
        id: keys.text("AWS_ACCESS_KEY_ID")?,
        secret: keys.required("AWS_SECRET_ACCESS_KEY")?,
        session: keys.get("AWS_SESSION_TOKEN"),
    })
}

async fn service_account<I: Identities>(
    clouds: &Clouds<I>,
    name: &str,
    place: Place<'_>,
) -> Result<Keys, MintError> {
    let identity = Identity::ServiceAccount(name.to_owned());
    let annotations = clouds.identities.annotations(name).await?;
    let role = annotations.get(ROLE_ANNOTATION).ok_or_else(|| MintError::Incomplete {
        identity: identity.to_string(),
        missing: "annotation eks.amazonaws.com/role-arn",
        advice: "add it, with the ARN of the role that trusts the ServiceAccount",
    })?;
    let token = clouds.identities.token(name, AUDIENCE).await?;
    web_identity(clouds, &identity, (role, &token), place).await
}

/// The operator's own, in the order of AWS's SDKs. What is configured counts, also if it fails.
async fn operator<I: Identities>(clouds: &Clouds<I>, place: Place<'_>) -> Result<Keys, MintError> {
    let secret = |name| clouds.variable(name).map(|value| SecretBytes::from(value.into_bytes()));
    if let Some((id, secret_key)) = clouds.variable("AWS_ACCESS_KEY_ID").zip(secret("AWS_SECRET_ACCESS_KEY"))
    {
        return Ok(Keys { id, secret: secret_key, session: secret("AWS_SESSION_TOKEN") });
    }
    let file = clouds.variable("AWS_WEB_IDENTITY_TOKEN_FILE");
    if let Some((file, role)) = file.zip(clouds.variable("AWS_ROLE_ARN")) {
        let token = token_file(&file, "token in the file that AWS_WEB_IDENTITY_TOKEN_FILE names")?;
        return web_identity(clouds, &Identity::Operator, (&role, &token), place).await;
    }
    if let Some(path) = clouds.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
        return container(clouds, Call::metadata(Method::GET, ECS, &path)).await;
    }
    if let Some(address) = clouds.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
        let call = container_call(&address).ok_or_else(|| {
            incomplete(
                "address of AWS in AWS_CONTAINER_CREDENTIALS_FULL_URI",
                "it has to be https, or one of the addresses of ECS and EKS Pod Identity",
            )
        })?;
        return container(clouds, call).await;
    }
    let ways = "give auth, EKS Pod Identity or IRSA, or set the chart value tokens.metadataServers";
    node(clouds).await.map_err(|error| elsewhere(error, "AWS", ways))
}

/// `AssumeRoleWithWebIdentity`, which needs no signature: the token is what proves who asks.
async fn web_identity<I: Identities>(
    clouds: &Clouds<I>,
    identity: &Identity,
    (role, token): (&str, &SecretBytes),
    place: Place<'_>,
) -> Result<Keys, MintError> {
    let call = sts(place).form(&[
        ("Action", b"AssumeRoleWithWebIdentity"),
        ("Version", STS_VERSION),
        ("RoleArn", role.as_bytes()),
        ("RoleSessionName", SESSION_NAME),
        ("WebIdentityToken", token.expose()),
    ]);
    let advice = "let the role trust this cluster's issuer for the ServiceAccount, with the audience sts.amazonaws.com";
    let answer = clouds.http.send(call, Asker { identity: &identity.to_string(), advice }).await?;
    keys_in_xml(&answer)
}

/// `AssumeRole`, signed with the keys of whoever assumes it.
async fn assume<I: Identities>(
    clouds: &Clouds<I>,
    identity: &Identity,
    (keys, role): (&Keys, &AssumedRole),
    place: Place<'_>,
) -> Result<Keys, MintError> {
    let mut fields = vec![
        ("Action", &b"AssumeRole"[..]),
        ("Version", STS_VERSION),
        ("RoleArn", role.arn.as_bytes()),
        ("RoleSessionName", SESSION_NAME),
    ];
    fields.extend(role.external_id.as_ref().map(|id| ("ExternalId", id.as_bytes())));
    let call = sts(place).form(&fields).signed(keys, Scope { region: place.region, service: "sts" });
    let advice = "let the trust policy of roleARN name the identity, and give externalID if it asks for one";
    let answer = clouds.http.send(call, Asker { identity: &identity.to_string(), advice }).await?;
    keys_in_xml(&answer)
}

fn sts<'a>(Place { region, domain, part }: Place<'_>) -> Call<'a> {
    Call::new(Method::POST, &format!("sts.{region}.{domain}"), "/")
        .named_by(part)
        .header("accept", "text/xml")
}

/// The answers of STS: flat elements whose texts need no escapes.
fn keys_in_xml(answer: &Answer) -> Result<Keys, MintError> {
    let text = std::str::from_utf8(&answer.body).map_err(|_| answer.without("Credentials"))?;
    let element = |open: &str, close: &str| {
        let value = text.split_once(open)?.1.split_once(close)?.0;
        (!value.is_empty() && !value.contains(['<', '&'])).then(|| value.to_owned().into_bytes())
    };
    let keys = || {
        Some(Keys {
            id: String::from_utf8(element("<AccessKeyId>", "</AccessKeyId>")?).ok()?,
            secret: element("<SecretAccessKey>", "</SecretAccessKey>")?.into(),
            session: Some(element("<SessionToken>", "</SessionToken>")?.into()),
        })
    };
    keys().ok_or_else(|| answer.without("Credentials"))
}

/// The call for `AWS_CONTAINER_CREDENTIALS_FULL_URI`.
fn container_call<'a>(address: &str) -> Option<Call<'a>> {
    let uri: Uri = address.parse().ok()?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority()?.as_str();
    match uri.scheme_str()? {
        // A user name would be shown with the host.
        _ if authority.contains('@') => None,
        "https" => Some(Call::new(Method::GET, authority, path)),
        "http" if CONTAINER_HOSTS.contains(&uri.host()?) => {
            Some(Call::metadata(Method::GET, authority, path))
        }
        _ => None,
    }
}

/// EKS Pod Identity and ECS, which know the Pod by a token in a file that is replaced now and then.
async fn container<I: Identities>(clouds: &Clouds<I>, call: Call<'_>) -> Result<Keys, MintError> {
    let token = match clouds.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(file) => {
            Some(token_file(&file, "token in the file that AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE names")?)
        }
        None => clouds.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(|token| token.into_bytes().into()),
    };
    let call = match token {
        Some(token) => call.secret_header(AUTHORIZATION, token.expose()),
        None => Some(call),
    };
    let advice = "see the Pod Identity association of the operator's ServiceAccount, or the task's role";
    let unusable = || incomplete("token that fits into a header", advice);
    let asker = Asker { identity: &Identity::Operator.to_string(), advice };
    keys_in_json(&clouds.http.send(call.ok_or_else(unusable)?, asker).await?)
}

/// The role of the node, by the second version of EC2's metadata service.
async fn node<I: Identities>(clouds: &Clouds<I>) -> Result<Keys, MintError> {
    const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
    let advice = "give it one by EKS Pod Identity or IRSA, or give the node a role and a hop limit of 2";
    let identity = Identity::Operator.to_string();
    let asker = Asker { identity: &identity, advice };
    let ask = Call::metadata(Method::PUT, IMDS, "/latest/api/token")
        .header("x-aws-ec2-metadata-token-ttl-seconds", "60");
    let token = clouds.http.send(ask, asker).await?;
    let get = |path: &str| Call::metadata(Method::GET, IMDS, path).secret_header(TOKEN, &token.body);
    let unusable = || token.without("a session token");
    let roles = clouds.http.send(get(IMDS_ROLE).ok_or_else(unusable)?, asker).await?;
    let role = std::str::from_utf8(&roles.body).ok().and_then(|text| text.lines().next());
    let role = role.filter(|role| !role.is_empty()).ok_or_else(|| roles.without("the role of the node"))?;
    let path = format!("{IMDS_ROLE}{}", escaped(role));
    keys_in_json(&clouds.http.send(get(&path).ok_or_else(unusable)?, asker).await?)
}

fn keys_in_json(answer: &Answer) -> Result<Keys, MintError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Body {
        access_key_id: String,
        secret_access_key: Hidden,
        token: Option<Hidden>,
    }
    let body: Body = answer.json("AccessKeyId and SecretAccessKey")?;
    let session = body.token.map(|token| token.0);
    Ok(Keys { id: body.access_key_id, secret: body.secret_access_key.0, session })
}

fn incomplete(missing: &'static str, advice: &'static str) -> MintError {
    MintError::Incomplete { identity: Identity::Operator.to_string(), missing, advice }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authorization_of_a_container_goes_to_aws_alone() {
        for address in [
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::23]/v1/credentials",
            "http://127.0.0.1:1234/x?y=z",
            "https://anywhere.example/x",
        ] {
            assert!(container_call(address).is_some(), "{address}");
        }
        for address in [
            "http://169.254.170.24/v1/credentials",
            "http://evil.example/",
            "http://169.254.170.23.evil.example/",
            "http://user:word@169.254.170.23/",
            "https://user:word@anywhere.example/",
            "ftp://169.254.170.23/",
            "/v1/credentials",
            "",
        ] {
            assert!(container_call(address).is_none(), "{address}");
        }
    }
}
