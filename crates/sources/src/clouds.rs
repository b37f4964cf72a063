//! Every cloud and registry that gives tokens, behind one face.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use futures::future::BoxFuture;
use http::Uri;
use jiff::Timestamp;
use regcred_dockerconfig::SecretBytes;
use regcred_https::Environment;
use zeroize::Zeroizing;

#[cfg(feature = "ecr")]
use crate::aws;
#[cfg(feature = "acr")]
use crate::azure;
use crate::exchange::{self, Registry};
#[cfg(feature = "gcp")]
use crate::google;
use crate::http::Http;
use crate::identities::Identities;
use crate::token::{Identity, Issuer, Mint, MintError, Token, TokenRequest};

/// No token that a cloud puts into a file is longer.
const LONGEST_FILE: usize = 64 * 1024;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What the operator's own settings say of the clouds.
#[derive(Clone)]
pub struct CloudSettings {
    /// Requests meant for a host go to this address instead: `https://host[:port][/path]`, or `http://` on purpose.
    pub endpoints: BTreeMap<String, Uri>,
    /// The operator's environment, in which clouds say who it is, and administrators which proxy to use.
    pub environment: Environment,
    /// The clock.
    pub clock: Clock,
}

impl CloudSettings {
    /// The environment of this process, and no other addresses.
    pub fn new(clock: Clock) -> Self {
        Self { endpoints: BTreeMap::new(), environment: Arc::new(|name| std::env::var(name).ok()), clock }
    }
}

/// Gives tokens of every cloud and registry.
pub struct Clouds<I> {
    pub(crate) http: Http,
    pub(crate) environment: Environment,
    pub(crate) clock: Clock,
    pub(crate) identities: I,
}

impl<I: Identities> Clouds<I> {
    /// Clouds that ask the cluster for identities by `identities`.
    pub fn new(settings: &CloudSettings, identities: I) -> Self {
        let (environment, clock) = (settings.environment.clone(), settings.clock.clone());
        Self { http: Http::new(settings), environment, clock, identities }
    }

    async fn token(&self, TokenRequest { issuer, identity }: &TokenRequest) -> Result<Token, MintError> {
        match issuer {
            #[cfg(feature = "ecr")]
            Issuer::Ecr { region, domain, role } => {
                aws::private(self, identity, (region, domain), role.as_ref()).await
            }
            #[cfg(feature = "ecr")]
            Issuer::EcrPublic { role } => aws::public(self, identity, role.as_ref()).await,
            #[cfg(feature = "gcp")]
            Issuer::Gcp { service_account, provider } => {
                google::token(self, identity, service_account.as_deref(), provider.as_deref()).await
            }
            #[cfg(feature = "acr")]
            Issuer::Acr { host, tenant_id, client_id } => {
                azure::token(self, identity, host, (tenant_id.as_deref(), client_id.as_deref())).await
            }
            Issuer::Quay { robot } => exchange::token(self, identity, Registry::Quay { robot }).await,
            Issuer::Jfrog { host, provider } => {
                exchange::token(self, identity, Registry::Jfrog { host, provider }).await
            }
            Issuer::Cloudsmith { organization, service } => {
                exchange::token(self, identity, Registry::Cloudsmith { organization, service }).await
            }
            #[cfg(not(all(feature = "acr", feature = "ecr", feature = "gcp")))]
            other => Err(left_out(other)),
        }
    }

    /// A variable of the operator's environment, if it says something.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        (self.environment)(name).filter(|value| !value.is_empty())
    }
}

/// The error of a cloud that this build does not know.
#[cfg(any(test, not(all(feature = "acr", feature = "ecr", feature = "gcp"))))]
fn left_out(issuer: &Issuer) -> MintError {
    let missing = match issuer {
        Issuer::Ecr { .. } | Issuer::EcrPublic { .. } => "feature ecr",
        Issuer::Gcp { .. } => "feature gcp",
        _ => "feature acr",
    };
    let identity = "this build of regcred".to_owned();
    MintError::Incomplete { identity, missing, advice: "take one that has it, as releases do" }
}

/// A token in a file that the operator's environment names; `missing` is what the operator lacks without it.
pub(crate) fn token_file(path: &str, missing: &'static str) -> Result<SecretBytes, MintError> {
    // A few kilobytes of a volume in memory: quicker than handing them to another thread.
    let mut text = Zeroizing::new(Vec::with_capacity(LONGEST_FILE));
    let room = u64::try_from(LONGEST_FILE).unwrap_or_default();
    let read = File::open(path).and_then(|file| file.take(room).read_to_end(&mut text));
    let token = text.trim_ascii();
    if read.is_err() || token.is_empty() {
        let advice = "see the volume and the environment of the operator's Pod";
        return Err(MintError::Incomplete { identity: Identity::Operator.to_string(), missing, advice });
    }
    Ok(token.to_vec().into())
}

/// Says of a metadata server that does not answer that it is the last place where an identity could be, and which others
/// there are.
pub(crate) fn elsewhere(error: MintError, cloud: &str, ways: &str) -> MintError {
    adding(error, &format!(", and nothing else gives the operator an identity of {cloud}: {ways}"))
}

/// Adds to the error of a server that does not answer what else there is to know.
pub(crate) fn adding(mut error: MintError, more: &str) -> MintError {
    if let MintError::Unavailable { what, .. } = &mut error {
        what.push_str(more);
    }
    error
}

impl<I: Identities> Mint for Clouds<I> {
    fn mint<'a>(&'a self, request: &'a TokenRequest) -> BoxFuture<'a, Result<Token, MintError>> {
        Box::pin(async {
            let token = self.token(request).await?;
            // A wrong clock, or milliseconds taken for seconds, must not keep a token from being renewed.
            let longest = (self.clock)().checked_add(request.issuer.longest_life()).unwrap_or(Timestamp::MAX);
            Ok(Token { expires_at: token.expires_at.map(|end| end.min(longest)), ..token })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_a_cloud_says_so() {
        let (service_account, provider) = (None, None);
        let error = left_out(&Issuer::Gcp { service_account, provider }).to_string();
        assert_eq!(error, "this build of regcred has no feature gcp; take one that has it, as releases do");
    }
}
