//! Turns the sources of a credential into one docker configuration.
//!
//! | file | what it holds |
//! |---|---|
//! | `resolve` | all sources of one RegistryCredential, in the order in which they win |
//! | `withhold` | credentials that registries reject, kept from copies |
//! | `secret` | a Secret of the source namespace, read by its type |
//! | `token` | tokens that clouds give: what is asked for, and why none came |
//! | `tokens` | each token asked for once, and kept until near its end |
//! | `request` | what a source of the spec asks for, held to the hosts of its kind |
//! | `clouds` | every cloud and registry that gives tokens, behind one face |
//! | `aws`, `aws_identity`, `sigv4` | Amazon ECR; who asks for it; its signature |
//! | `google`, `azure`, `exchange` | Artifact Registry; ACR; Quay, JFrog and Cloudsmith |
//! | `identities` | what the clouds ask of the cluster |
//! | `http`, `refusal`, `expiry` | requests and what their answers mean; the word by which an issuer refuses; when a token ends |
//! | `end` | when a password that somebody wrote expires |
//! | `error` | why a source gave nothing |
//!
//! ARCHITECTURE.md lists the files that a new kind of source adds to. Looking at a source is asynchronous because
//! most kinds ask a network.

#![cfg_attr(
    not(all(feature = "acr", feature = "ecr", feature = "gcp")),
    allow(dead_code, reason = "each cloud uses another part of what they share")
)]

#[cfg(feature = "ecr")]
mod aws;
#[cfg(feature = "ecr")]
mod aws_identity;
#[cfg(feature = "acr")]
mod azure;
mod clouds;
mod end;
mod error;
mod exchange;
mod expiry;
#[cfg(feature = "gcp")]
mod google;
mod http;
mod identities;
mod refusal;
mod request;
mod resolve;
mod secret;
mod sigv4;
mod token;
mod tokens;
mod withhold;

pub use clouds::{Clock, CloudSettings, Clouds};
pub use error::{Held, SourceError};
pub use identities::Identities;
pub use regcred_https::Environment;
pub use resolve::{
    Failed, Former, LeftOut, Means, Opened, Overridden, Resolved, SecretReader, Sources, needs_network,
    resolve,
};
pub use secret::{Purpose, SourceSecret};
pub use token::{AssumedRole, ISSUERS, Identity, Issuer, Mint, MintError, Token, TokenRequest};
pub use tokens::{Given, Tokens};
pub use withhold::{Instead, Standing};
