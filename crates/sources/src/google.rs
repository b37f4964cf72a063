//! Google Artifact Registry and Container Registry, which take an access token as the password of `oauth2accesstoken`.
//! It comes from the metadata server, from a key file, or for the token of a ServiceAccount, and directly or by acting as
//! a Google service account.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, Uri};
use jiff::{SignedDuration, Timestamp};
use regcred_dockerconfig::{Login, SecretBytes};
use regcred_https::{Hidden, escaped};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::clouds::{Clouds, adding, elsewhere};
use crate::expiry::{End, Seconds};
use crate::http::{Answer, Asker, Call};
use crate::identities::{Identities, IdentityKeys};
use crate::token::{Identity, MintError, Token};

const USER: &[u8] = b"oauth2accesstoken";
/// What opens all that an account may do, and may act as another; the exchange of tokens knows no other.
const EVERYTHING: &str = "https://www.googleapis.com/auth/cloud-platform";
/// What Google asks for to pull images: read access to storage.
const READING: &str = "https://www.googleapis.com/auth/devstorage.read_only";
/// As Google documents it for access tokens.
const LIFE: SignedDuration = SignedDuration::from_hours(1);
/// The address that Google's own libraries ask, which needs no DNS.
const METADATA: &str = "169.254.169.254";
const METADATA_FLAVOR: &str = "metadata-flavor";
const STS: &str = "sts.googleapis.com";
const IAM: &str = "iamcredentials.googleapis.com";
const ACCOUNT_ANNOTATION: &str = "iam.gke.io/gcp-service-account";
const KEY_FILE: &str = "GOOGLE_CREDENTIALS";
/// Where key files say that tokens are given; nothing that a key signs is sent elsewhere.
const TOKEN_HOSTS: [&str; 3] = ["oauth2.googleapis.com", "www.googleapis.com", "accounts.google.com"];
/// How far the clock of Google may be behind ours.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// An access token, with its end.
struct Access {
    token: SecretBytes,
    expires_at: Timestamp,
}

/// A token for every registry that the account may read.
pub(crate) async fn token<I: Identities>(
    clouds: &Clouds<I>,
    identity: &Identity,
    service_account: Option<&str>,
    provider: Option<&str>,
) -> Result<Token, MintError> {
    let mut account = service_account.map(str::to_owned);
    // A token that acts as another account is not handed out, and could not do that with less.
    let scope = if account.is_some() { EVERYTHING } else { READING };
    let mut access = match identity {
        Identity::Operator => {
            let ways = "give auth, or set the chart value tokens.metadataServers, on GKE as well";
            metadata_token(clouds, scope).await.map_err(|error| elsewhere(error, "Google", ways))?
        }
        Identity::Secret { name, .. } => key_file_token(clouds, name, scope).await?,
        Identity::ServiceAccount(name) => {
            let annotations = clouds.identities.annotations(name).await?;
            account = account.or_else(|| annotations.get(ACCOUNT_ANNOTATION).cloned());
            federated_token(clouds, name, provider).await?
        }
    };
    if let Some(account) = account {
        access = act_as(clouds, identity, &access.token, &account).await?;
    }
    let login = Login::new(USER, access.token.expose()).map_err(|_| MintError::Unreadable {
        host: IAM.to_owned(),
        missing: "an access token that fits into a password",
    })?;
    Ok(Token { login, expires_at: Some(access.expires_at) })
}

fn access(answer: &Answer) -> Result<Access, MintError> {
    #[derive(Deserialize)]
    struct Body {
        access_token: Hidden,
        expires_in: Option<Seconds>,
    }
    let Body { access_token, expires_in } = answer.json("an access token")?;
    Ok(Access { token: access_token.0, expires_at: answer.expiry(End::within(expires_in), LIFE)? })
}

async fn metadata_token<I: Identities>(clouds: &Clouds<I>, scope: &str) -> Result<Access, MintError> {
    let path = format!("instance/service-accounts/default/token?scopes={}", escaped(scope));
    access(&metadata(clouds, &path, &Identity::Operator).await?)
}

/// What the metadata server says; another server than Google's is not believed.
async fn metadata<I: Identities>(
    clouds: &Clouds<I>,
    path: &str,
    identity: &Identity,
) -> Result<Answer, MintError> {
    let host = clouds.variable("GCE_METADATA_HOST").unwrap_or_else(|| METADATA.to_owned());
    let call = Call::metadata(Method::GET, &host, &format!("/computeMetadata/v1/{path}"))
        .header(METADATA_FLAVOR, "Google");
    let advice = "give it a Google service account (workload identity of GKE, or the node's)";
    let answer = clouds.http.send(call, Asker { identity: &identity.to_string(), advice }).await?;
    let is_google = answer.headers.get(METADATA_FLAVOR).is_some_and(|flavor| flavor == "Google");
    if is_google { Ok(answer) } else { Err(answer.without("the header Metadata-Flavor: Google")) }
}

/// The token of a ServiceAccount, exchanged for one of Google.
async fn federated_token<I: Identities>(
    clouds: &Clouds<I>,
    name: &str,
    provider: Option<&str>,
) -> Result<Access, MintError> {
    let identity = Identity::ServiceAccount(name.to_owned());
    let (pool, audience) = match provider {
        Some(provider) => {
            let audience = format!("//iam.googleapis.com/{provider}");
            (audience.clone(), audience)
        }
        None => gke_audiences(clouds, &identity).await?,
    };
    let subject = clouds.identities.token(name, &pool).await?;
    let call = Call::new(Method::POST, STS, "/v1/token").form(&[
        ("grant_type", b"urn:ietf:params:oauth:grant-type:token-exchange"),
        ("audience", audience.as_bytes()),
        ("scope", EVERYTHING.as_bytes()),
        ("requested_token_type", b"urn:ietf:params:oauth:token-type:access_token"),
        ("subject_token", subject.expose()),
        ("subject_token_type", b"urn:ietf:params:oauth:token-type:jwt"),
    ]);
    let advice = "let the workload identity pool trust this cluster's ServiceAccounts";
    access(&clouds.http.send(call, Asker { identity: &identity.to_string(), advice }).await?)
}

/// The audience of a ServiceAccount's token on GKE, and the one of the exchange: the pool that GKE makes for each project,
/// and the cluster in it.
async fn gke_audiences<I: Identities>(
    clouds: &Clouds<I>,
    identity: &Identity,
) -> Result<(String, String), MintError> {
    let project = name(clouds, "project/project-id", identity).await?;
    let location = name(clouds, "instance/attributes/cluster-location", identity).await?;
    let cluster = name(clouds, "instance/attributes/cluster-name", identity).await?;
    let pool = format!("{project}.svc.id.goog");
    let provider = format!(
        "https://container.googleapis.com/v1/projects/{project}/locations/{location}/clusters/{cluster}"
    );
    Ok((pool.clone(), format!("identitynamespace:{pool}:{provider}")))
}

async fn name<I: Identities>(
    clouds: &Clouds<I>,
    path: &str,
    identity: &Identity,
) -> Result<String, MintError> {
    let outside = |error| {
        adding(
            error,
            "; on GKE, set the chart value tokens.metadataServers; outside of it, give workloadIdentityProvider",
        )
    };
    let answer = metadata(clouds, path, identity).await.map_err(outside)?;
    let text = String::from_utf8_lossy(&answer.body).trim().to_owned();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    let named = !text.is_empty() && text.bytes().all(fits);
    if named { Ok(text) } else { Err(answer.without("the name of the project, location or cluster")) }
}

/// An access token of a Google service account that the identity may act as.
async fn act_as<I: Identities>(
    clouds: &Clouds<I>,
    identity: &Identity,
    token: &SecretBytes,
    account: &str,
) -> Result<Access, MintError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        access_token: Hidden,
        expire_time: Option<String>,
    }
    let path = format!("/v1/projects/-/serviceAccounts/{}:generateAccessToken", escaped(account));
    let call = Call::new(Method::POST, IAM, &path)
        .bearer(token)
        .ok_or_else(|| MintError::Unreadable {
            host: STS.to_owned(),
            missing: "a token that fits into a header",
        })?
        .json(&json!({ "scope": [READING], "lifetime": format!("{}s", LIFE.as_secs()) }));
    let advice =
        "grant it roles/iam.workloadIdentityUser or serviceAccountTokenCreator on the Google service account";
    let answer = clouds.http.send(call, Asker { identity: &identity.to_string(), advice }).await?;
    let Body { access_token, expire_time } = answer.json("an access token")?;
    let expires_at = answer.expiry(End::at_time(expire_time.as_deref()), LIFE)?;
    Ok(Access { token: access_token.0, expires_at })
}

/// The parts of a key file that are used.
#[derive(Deserialize)]
struct KeyFile {
    client_email: String,
    private_key: Hidden,
    private_key_id: Option<String>,
    token_uri: String,
}

/// A token for what the key of a key file signs (RFC 7523).
async fn key_file_token<I: Identities>(
    clouds: &Clouds<I>,
    secret: &str,
    scope: &str,
) -> Result<Access, MintError> {
    let keys = IdentityKeys::of(&clouds.identities, secret)?;
    let identity = Identity::Secret { name: secret.to_owned(), version: String::new() }.to_string();
    let unusable = |missing| {
        keys.incomplete(missing, "put the JSON of a service account's key file into it, as Google gave it")
    };
    let file: KeyFile = serde_json::from_slice(keys.required(KEY_FILE)?.expose())
        .map_err(|_| unusable("key file of a service account in its key GOOGLE_CREDENTIALS"))?;
    let call = token_call(&file.token_uri).ok_or_else(|| {
        unusable("token_uri of Google's own in the key file (https://oauth2.googleapis.com/token)")
    })?;
    let assertion = assertion(&file, scope, (clouds.clock)())
        .ok_or_else(|| unusable("private_key in the key file that is an RSA key in PEM"))?;
    let call = call
        .form(&[("grant_type", b"urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", &assertion)]);
    let advice = "see whether the key still exists, and the operator's clock";
    access(&clouds.http.send(call, Asker { identity: &identity, advice }).await?)
}

fn token_call<'a>(token_uri: &str) -> Option<Call<'a>> {
    let uri: Uri = token_uri.parse().ok()?;
    let host = uri.authority()?.as_str();
    let is_google = uri.scheme_str() == Some("https") && TOKEN_HOSTS.contains(&host) && uri.query().is_none();
    is_google.then(|| Call::new(Method::POST, host, uri.path()))
}

/// A token for Google, signed by the key. It begins early, so that clocks may differ.
fn assertion(file: &KeyFile, scope: &str, now: Timestamp) -> Option<Zeroizing<Vec<u8>>> {
    let issued = now.checked_sub(SKEW).ok()?.as_second();
    let header = json!({ "alg": "RS256", "typ": "JWT", "kid": file.private_key_id });
    let claims = json!({
        "iss": file.client_email, "scope": scope, "aud": file.token_uri,
        "iat": issued, "exp": issued + LIFE.as_secs(),
    });
    let part = |part: &serde_json::Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let signed = format!("{}.{}", part(&header), part(&claims));
    let der = PrivatePkcs8KeyDer::from_pem_slice(file.private_key.0.expose()).ok()?;
    let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).ok()?;
    let mut signature = Zeroizing::new(vec![0; key.public().modulus_len()]);
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).ok()?;
    let signature = Zeroizing::new(URL_SAFE_NO_PAD.encode(&*signature));
    // What was signed alone opens nothing; the whole is written once, at its full length.
    Some(Zeroizing::new([signed.as_bytes(), b".", signature.as_bytes()].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_key_signs_goes_to_google_alone() {
        for address in [
            "https://oauth2.googleapis.com/token",
            "https://www.googleapis.com/oauth2/v4/token",
            "https://accounts.google.com/o/oauth2/token",
        ] {
            assert!(token_call(address).is_some(), "{address}");
        }
        for address in [
            "http://oauth2.googleapis.com/token",
            "https://oauth2.googleapis.com:8443/token",
            "https://user@oauth2.googleapis.com/token",
            "https://oauth2.googleapis.com.evil.example/token",
            "https://evil.example/oauth2.googleapis.com",
            "https://storage.googleapis.com/token",
            "https://oauth2.googleapis.com/token?x=y",
            "oauth2.googleapis.com/token",
            "",
        ] {
            assert!(token_call(address).is_none(), "{address}");
        }
    }
}
