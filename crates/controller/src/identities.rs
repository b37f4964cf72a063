//! What a cloud is asked for tokens with: ServiceAccounts of the source namespace and their tokens, and Secrets with keys.
//! The operator may only name ServiceAccounts that its Role lists.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use regcred_dockerconfig::SecretBytes;
use regcred_index::Index;
use regcred_planner::StepError;
use regcred_sources::{Identities, MintError, SecretReader, SourceSecret};
use serde::Deserialize;
use serde_json::json;

use crate::calls::{CallError, Calls, answer};

/// How long a token of a ServiceAccount lives: it is shown once, at once. Kubernetes gives none for less.
const LIFE_SECONDS: u32 = 600;

/// The cluster's ServiceAccounts and Secrets.
pub(crate) struct ClusterIdentities {
    calls: Calls,
    index: Arc<Mutex<Index>>,
}

/// A ServiceAccount, as far as a cloud needs it.
#[derive(Deserialize)]
struct AnnotatedAccount {
    metadata: AnnotatedMetadata,
}

#[derive(Deserialize)]
struct AnnotatedMetadata {
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// The answer to a TokenRequest (authentication.k8s.io/v1).
#[derive(Deserialize)]
struct TokenAnswer {
    status: TokenStatus,
}

#[derive(Deserialize)]
struct TokenStatus {
    token: String,
}

impl ClusterIdentities {
    pub(crate) fn new(calls: Calls, index: Arc<Mutex<Index>>) -> Self {
        Self { calls, index }
    }
}

impl Identities for ClusterIdentities {
    async fn annotations(&self, service_account: &str) -> Result<BTreeMap<String, String>, MintError> {
        let accounts = self.calls.own_service_accounts();
        let account: Option<AnnotatedAccount> =
            answer(accounts.get(service_account)).await.map_err(|error| refused(service_account, &error))?;
        let account = account.ok_or_else(|| none(service_account))?;
        Ok(account.metadata.annotations.unwrap_or_default())
    }

    async fn token(&self, service_account: &str, audience: &str) -> Result<SecretBytes, MintError> {
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [audience], "expirationSeconds": LIFE_SECONDS},
        });
        let accounts = self.calls.own_service_accounts();
        let given = answer(accounts.create_of::<TokenAnswer>("token", service_account, &request)).await;
        let given = given.map_err(|error| refused(service_account, &error))?;
        Ok(SecretBytes::from(given.status.token.into_bytes()))
    }

    fn secret(&self, name: &str) -> Option<Arc<SourceSecret>> {
        self.index.lock().read(name)
    }
}

fn none(service_account: &str) -> MintError {
    let why = "it does not exist in the source namespace; create it".to_owned();
    MintError::TokenRequest { name: service_account.to_owned(), why }
}

/// Why Kubernetes gives none, in words that hold nothing of the answer's text.
fn refused(service_account: &str, error: &CallError) -> MintError {
    match error.meaning() {
        StepError::Gone => none(service_account),
        StepError::Forbidden => not_allowed(service_account),
        meaning => MintError::TokenRequest { name: service_account.to_owned(), why: meaning.to_string() },
    }
}

pub(crate) fn not_allowed(service_account: &str) -> MintError {
    let why = format!(
        "the operator may not ask for one; list {service_account} in the chart value tokens.serviceAccounts"
    );
    MintError::TokenRequest { name: service_account.to_owned(), why }
}
