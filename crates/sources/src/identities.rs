//! What the clouds ask of the cluster: ServiceAccounts, tokens of them, and Secrets with keys of an identity.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use regcred_dockerconfig::SecretBytes;

use crate::secret::{Purpose, SourceSecret};
use crate::token::MintError;

/// Gives what an identity of the source namespace consists of.
pub trait Identities: Send + Sync {
    /// The annotations of a ServiceAccount.
    fn annotations(
        &self,
        service_account: &str,
    ) -> impl Future<Output = Result<BTreeMap<String, String>, MintError>> + Send;

    /// A new token of a ServiceAccount for this audience.
    fn token(
        &self,
        service_account: &str,
        audience: &str,
    ) -> impl Future<Output = Result<SecretBytes, MintError>> + Send;

    /// A Secret, if it exists. Whether it holds an identity is looked at here.
    fn secret(&self, name: &str) -> Option<Arc<SourceSecret>>;
}

/// The keys of a Secret that is labelled as an identity; nothing is read from another.
pub(crate) struct IdentityKeys {
    name: String,
    secret: Arc<SourceSecret>,
}

impl IdentityKeys {
    /// The keys of the Secret of this name.
    pub(crate) fn of(identities: &impl Identities, name: &str) -> Result<Self, MintError> {
        let refused = |why| MintError::NoIdentity { secret: name.to_owned(), why };
        let secret = identities.secret(name).ok_or_else(|| refused("does not exist; create it"))?;
        if secret.purpose != Some(Purpose::Identity) {
            return Err(refused("is no identity; label it if its keys are for asking tokens"));
        }
        if secret.kind != "Opaque" {
            return Err(refused("is not of type Opaque; make one of that type"));
        }
        Ok(Self { name: name.to_owned(), secret })
    }

    /// The value of a key, without what editors and shells leave behind it.
    pub(crate) fn get(&self, key: &str) -> Option<SecretBytes> {
        let value = self.secret.data.get(key)?.expose().trim_ascii();
        (!value.is_empty()).then(|| value.to_vec().into())
    }

    /// The value of a key that has to be there.
    pub(crate) fn required(&self, key: &'static str) -> Result<SecretBytes, MintError> {
        self.get(key).ok_or_else(|| self.lacks(key))
    }

    /// The same as text, for what is no secret.
    pub(crate) fn text(&self, key: &'static str) -> Result<String, MintError> {
        String::from_utf8(self.required(key)?.expose().to_vec()).map_err(|_| self.lacks(key))
    }

    /// The error of a Secret whose key is missing or cannot be used.
    pub(crate) fn lacks(&self, key: &'static str) -> MintError {
        self.incomplete(key, "add a key of this name, with the value as the cloud gave it")
    }

    /// The error of a Secret that lacks something.
    pub(crate) fn incomplete(&self, missing: &'static str, advice: &'static str) -> MintError {
        MintError::Incomplete { identity: format!("Secret {}", self.name), missing, advice }
    }
}
