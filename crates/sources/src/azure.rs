//! Azure Container Registry: a token of Microsoft Entra ID, exchanged at the registry for a refresh token, which is the
//! password of a user whose name is all zeros.

use http::{Method, Uri};
use jiff::SignedDuration;
use regcred_dockerconfig::{Login, SecretBytes};
use regcred_https::{Hidden, escaped};
use serde::Deserialize;

use crate::clouds::{Clouds, elsewhere, token_file};
use crate::expiry::End;
use crate::http::{Asker, Call};
use crate::identities::{Identities, IdentityKeys};
use crate::token::{Identity, MintError, Token};

const USER: &[u8] = b"00000000-0000-0000-0000-000000000000";
/// The resource that all registries are, in every cloud.
const RESOURCE: &str = "https://containerregistry.azure.net";
/// What refresh tokens of ACR live where they do not say it.
const LIFE: SignedDuration = SignedDuration::from_hours(3);
const IMDS: &str = "169.254.169.254";
/// What gives the operator an identity, where no metadata server answers.
const WAYS: &str = "give auth or Azure workload identity, or set the chart value tokens.metadataServers";
const TENANT_ANNOTATION: &str = "azure.workload.identity/tenant-id";
const CLIENT_ANNOTATION: &str = "azure.workload.identity/client-id";

/// One of Azure's clouds: public, China, US Government.
struct Cloud {
    /// Where its registries are.
    registries: &'static str,
    /// Where its Entra ID is.
    authority: &'static str,
    /// The audience of tokens of ServiceAccounts.
    audience: &'static str,
}

const PUBLIC: Cloud = Cloud {
    registries: ".azurecr.io",
    authority: "login.microsoftonline.com",
    audience: "api://AzureADTokenExchange",
};
const CHINA: Cloud = Cloud {
    registries: ".azurecr.cn",
    authority: "login.partner.microsoftonline.cn",
    audience: "api://AzureADTokenExchangeChina",
};
const US_GOVERNMENT: Cloud = Cloud {
    registries: ".azurecr.us",
    authority: "login.microsoftonline.us",
    audience: "api://AzureADTokenExchangeUSGov",
};

impl Cloud {
    /// The cloud of a registry. What a source names is in one of the three.
    fn of(host: &str) -> &'static Self {
        match host {
            _ if host.ends_with(CHINA.registries) => &CHINA,
            _ if host.ends_with(US_GOVERNMENT.registries) => &US_GOVERNMENT,
            _ => &PUBLIC,
        }
    }
}
/// A former name, which environments may still give.
const FORMER_CHINA: &str = "login.chinacloudapi.cn";

/// How an application proves that it is one.
enum Proof {
    Secret(SecretBytes),
    Assertion(SecretBytes),
}

/// An application, its tenant, and where that is asked.
struct Application {
    authority: String,
    tenant: String,
    client: String,
    proof: Proof,
}

/// A token for one registry. `given` is what the spec says of tenant and client.
pub(crate) async fn token<I: Identities>(
    clouds: &Clouds<I>,
    identity: &Identity,
    host: &str,
    given: (Option<&str>, Option<&str>),
) -> Result<Token, MintError> {
    let application = match identity {
        Identity::Operator => operator(clouds, host, given)?,
        Identity::ServiceAccount(name) => Some(service_account(clouds, name, host, given).await?),
        Identity::Secret { name, .. } => Some(of_secret(clouds, name, host, given)?),
    };
    let access = match &application {
        Some(application) => entra_token(clouds, identity, application).await?,
        None => node_token(clouds, given.1).await.map_err(|error| elsewhere(error, "Azure", WAYS))?,
    };
    let tenant = application.as_ref().map(|application| &*application.tenant).or(given.0);
    exchange(clouds, identity, host, (tenant, &access)).await
}

/// The operator's own by Azure workload identity; `None` where its environment says nothing of one.
fn operator<I: Identities>(
    clouds: &Clouds<I>,
    host: &str,
    (tenant, client): (Option<&str>, Option<&str>),
) -> Result<Option<Application>, MintError> {
    let Some(file) = clouds.variable("AZURE_FEDERATED_TOKEN_FILE") else { return Ok(None) };
    let variable = |given: Option<&str>, name| given.map(str::to_owned).or_else(|| clouds.variable(name));
    let lacks = |missing| MintError::Incomplete {
        identity: Identity::Operator.to_string(),
        missing,
        advice: "Azure workload identity sets it; give tenantID and clientID where it does not",
    };
    let authority = match clouds.variable("AZURE_AUTHORITY_HOST") {
        Some(address) => {
            authority_of(&address).ok_or_else(|| lacks("AZURE_AUTHORITY_HOST of Azure's own"))?
        }
        None => Cloud::of(host).authority,
    };
    Ok(Some(Application {
        authority: authority.to_owned(),
        tenant: variable(tenant, "AZURE_TENANT_ID").ok_or_else(|| lacks("AZURE_TENANT_ID"))?,
        client: variable(client, "AZURE_CLIENT_ID").ok_or_else(|| lacks("AZURE_CLIENT_ID"))?,
        proof: Proof::Assertion(token_file(
            &file,
            "token in the file that AZURE_FEDERATED_TOKEN_FILE names",
        )?),
    }))
}

async fn service_account<I: Identities>(
    clouds: &Clouds<I>,
    name: &str,
    host: &str,
    (tenant, client): (Option<&str>, Option<&str>),
) -> Result<Application, MintError> {
    let annotations = clouds.identities.annotations(name).await?;
    let value = |given: Option<&str>, annotation| {
        given.map(str::to_owned).or_else(|| annotations.get(annotation).cloned())
    };
    let lacks = |missing, advice| MintError::Incomplete {
        identity: Identity::ServiceAccount(name.to_owned()).to_string(),
        missing,
        advice,
    };
    let client = value(client, CLIENT_ANNOTATION).ok_or_else(|| {
        lacks("annotation azure.workload.identity/client-id", "add it, or give clientID in the spec")
    })?;
    let own = || clouds.variable("AZURE_TENANT_ID");
    let tenant = value(tenant, TENANT_ANNOTATION).or_else(own).ok_or_else(|| {
        lacks("annotation azure.workload.identity/tenant-id", "add it, or give tenantID in the spec")
    })?;
    let cloud = Cloud::of(host);
    Ok(Application {
        authority: cloud.authority.to_owned(),
        tenant,
        client,
        proof: Proof::Assertion(clouds.identities.token(name, cloud.audience).await?),
    })
}

fn of_secret<I: Identities>(
    clouds: &Clouds<I>,
    name: &str,
    host: &str,
    (tenant, client): (Option<&str>, Option<&str>),
) -> Result<Application, MintError> {
    let keys = IdentityKeys::of(&clouds.identities, name)?;
    let value = |given: Option<&str>, key| given.map_or_else(|| keys.text(key), |given| Ok(given.to_owned()));
    Ok(Application {
        authority: Cloud::of(host).authority.to_owned(),
        tenant: value(tenant, "AZURE_TENANT_ID")?,
        client: value(client, "AZURE_CLIENT_ID")?,
        proof: Proof::Secret(keys.required("AZURE_CLIENT_SECRET")?),
    })
}

#[derive(Deserialize)]
struct AccessToken {
    access_token: Hidden,
}

/// An access token for an application (OAuth 2.0 client credentials of the Microsoft identity platform).
async fn entra_token<I: Identities>(
    clouds: &Clouds<I>,
    identity: &Identity,
    Application { authority, tenant, client, proof }: &Application,
) -> Result<SecretBytes, MintError> {
    let scope = format!("{RESOURCE}/.default");
    let mut fields = vec![
        ("grant_type", &b"client_credentials"[..]),
        ("client_id", client.as_bytes()),
        ("scope", scope.as_bytes()),
    ];
    match proof {
        Proof::Secret(secret) => fields.push(("client_secret", secret.expose())),
        Proof::Assertion(token) => fields.extend([
            ("client_assertion_type", &b"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"[..]),
            ("client_assertion", token.expose()),
        ]),
    }
    let path = format!("/{}/oauth2/v2.0/token", escaped(tenant));
    let call = Call::new(Method::POST, authority, &path).form(&fields);
    let advice = "see tenant and client, and the client's secret or federated credential";
    let answer = clouds.http.send(call, Asker { identity: &identity.to_string(), advice }).await?;
    Ok(answer.json::<AccessToken>("an access token")?.access_token.0)
}

/// An access token of the node's managed identity.
async fn node_token<I: Identities>(
    clouds: &Clouds<I>,
    client: Option<&str>,
) -> Result<SecretBytes, MintError> {
    let mut path =
        format!("/metadata/identity/oauth2/token?api-version=2018-02-01&resource={}", escaped(RESOURCE));
    let client = client.map(str::to_owned).or_else(|| clouds.variable("AZURE_CLIENT_ID"));
    path.extend(client.map(|client| format!("&client_id={}", escaped(&client))));
    let call = Call::metadata(Method::GET, IMDS, &path).header("metadata", "true");
    let advice = "give the operator a workload identity, or the node a managed identity, and clientID if it has several";
    let asker = Asker { identity: &Identity::Operator.to_string(), advice };
    let answer = clouds.http.send(call, asker).await?;
    Ok(answer.json::<AccessToken>("an access token")?.access_token.0)
}

/// The registry's own refresh token for an access token (Azure/acr, docs/AAD-OAuth.md).
async fn exchange<I: Identities>(
    clouds: &Clouds<I>,
    identity: &Identity,
    host: &str,
    (tenant, access): (Option<&str>, &SecretBytes),
) -> Result<Token, MintError> {
    #[derive(Deserialize)]
    struct Body {
        refresh_token: Hidden,
    }
    let mut fields = vec![("grant_type", &b"access_token"[..]), ("service", host.as_bytes())];
    fields.extend(tenant.map(|tenant| ("tenant", tenant.as_bytes())));
    fields.push(("access_token", access.expose()));
    let call = Call::new(Method::POST, host, "/oauth2/exchange").named_by(Some("registry")).form(&fields);
    let advice =
        "grant it AcrPull on the registry (Container Registry Repository Reader where that uses attributes)";
    let answer = clouds.http.send(call, Asker { identity: &identity.to_string(), advice }).await?;
    let token = answer.json::<Body>("a refresh token")?.refresh_token.0;
    let expires_at = answer.expiry(End::of_jwt(token.expose()), LIFE)?;
    let login = Login::new(USER, token.expose()).map_err(|_| answer.without("a usable refresh token"))?;
    Ok(Token { login, expires_at: Some(expires_at) })
}

/// The host of `AZURE_AUTHORITY_HOST`, if it is one of Azure's.
fn authority_of(address: &str) -> Option<&'static str> {
    let uri: Uri = address.parse().ok()?;
    let named = uri.authority()?.as_str();
    let known = [PUBLIC.authority, CHINA.authority, US_GOVERNMENT.authority, FORMER_CHINA];
    known.into_iter().find(|known| uri.scheme_str() == Some("https") && *known == named && uri.path() == "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_names_its_cloud() {
        for (host, authority, audience) in [
            ("contoso.azurecr.io", "login.microsoftonline.com", "api://AzureADTokenExchange"),
            ("contoso.azurecr.cn", "login.partner.microsoftonline.cn", "api://AzureADTokenExchangeChina"),
            ("contoso.azurecr.us", "login.microsoftonline.us", "api://AzureADTokenExchangeUSGov"),
        ] {
            let cloud = Cloud::of(host);
            assert_eq!((cloud.authority, cloud.audience), (authority, audience), "{host}");
        }
    }

    #[test]
    fn an_assertion_goes_to_azure_alone() {
        for address in [
            "https://login.microsoftonline.com/",
            "https://login.microsoftonline.us",
            "https://login.chinacloudapi.cn/",
        ] {
            assert!(authority_of(address).is_some(), "{address}");
        }
        for address in [
            "http://login.microsoftonline.com/",
            "https://login.microsoftonline.com:8443/",
            "https://login.microsoftonline.com.evil.example/",
            "https://x@login.microsoftonline.com/",
            "https://login.microsoftonline.com/x",
            "https://evil.example/",
            "login.microsoftonline.com",
            "",
        ] {
            assert_eq!(authority_of(address), None, "{address}");
        }
    }
}
