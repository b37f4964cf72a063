//! Counts the tokens that are asked for.

use std::sync::Arc;

use futures::future::BoxFuture;
use regcred_api::Reason;
use regcred_sources::{Mint, MintError, Token, TokenRequest};

use crate::metrics::Metrics;

/// Asks another for tokens, and counts that.
pub(crate) struct CountedMint {
    mint: Arc<dyn Mint>,
    metrics: Metrics,
}

/// Counts a request that is given up before its answer came.
struct Pending<'a> {
    metrics: &'a Metrics,
    issuer: &'static str,
    answered: bool,
}

impl CountedMint {
    pub(crate) fn new(mint: Arc<dyn Mint>, metrics: Metrics) -> Self {
        Self { mint, metrics }
    }
}

impl Mint for CountedMint {
    fn mint<'a>(&'a self, request: &'a TokenRequest) -> BoxFuture<'a, Result<Token, MintError>> {
        Box::pin(async move {
            let issuer = request.issuer.kind();
            let mut pending = Pending { metrics: &self.metrics, issuer, answered: false };
            let minted = self.mint.mint(request).await;
            pending.answered = true;
            self.metrics.token_requested(issuer, minted.as_ref().err().map(MintError::reason));
            minted
        })
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.metrics.token_requested(self.issuer, Some(Reason::SourceUnavailable));
        }
    }
}
