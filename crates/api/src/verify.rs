//! Whether regcred asks registries if a credential is good.

use kube_derive::KubeSchema;
use serde::{Deserialize, Serialize};

/// The longest name of a repository (distribution, `NameTotalLengthMax`).
const LONGEST_REPOSITORY: usize = 255;
/// A repository as image names have it, without the server (distribution spec, "Pulling manifests").
const REPOSITORY: &str =
    "self.matches('^[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*)*$')";
/// A tag, or a digest, as in `sha256:…` (the same).
const REFERENCE: &str =
    "self.matches('^([a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}|[a-z0-9]+([+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+)$')";

/// A digest is whole. Its algorithms are those that registries know.
const WHOLE_DIGEST: &str = "(!self.startsWith('sha256:') || self.matches('^sha256:[a-f0-9]{64}$')) && (!self.startsWith('sha512:') || self.matches('^sha512:[a-f0-9]{128}$'))";

/// What `spec.verify` and `registries[].verify` say. A field that a registry leaves out is taken from `spec.verify`. That is
/// no default of the schema, which would be stored, and win over `spec.verify`.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct Verify {
    /// `None`, which is the default; `Login`: whether the registry knows the credential; `Pull`: and whether it may pull
    /// `repository`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<VerifyMode>,

    /// For `Pull`: a repository as image names have it, without the server, as in `acme/app`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = LONGEST_REPOSITORY))]
    #[x_kube(validation = Rule::new(REPOSITORY).message("write verify.repository as image names have it, without server and tag, as in acme/app"))]
    pub repository: Option<String>,

    /// For `Pull`: a tag or digest of `repository`. Left out: `latest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(
        validation = Rule::new(REFERENCE).message("write verify.reference as a tag or a digest, as in latest or sha256:…"),
        validation = Rule::new(WHOLE_DIGEST).message("write the digest in verify.reference in full: sha256: and 64 digits, or sha512: and 128, of 0-9 and a-f")
    )]
    pub reference: Option<String>,

    /// How long a good answer counts before the registry is asked again. Left out: `12h`. After a rejection it is twice as
    /// long each time, up to a day, so that no account is locked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(
        validation = Rule::new("self.matches('^([0-9]+(ms|s|m|h))+$')").message("write verify.interval in h, m, s and ms, as in 24h or 1h30m; there is no unit for a day"),
        validation = Rule::new("!self.matches('^([0-9]+(ms|s|m|h))+$') || duration(self) >= duration('15m')").message("verify.interval must be at least 15m, so that no registry locks the account")
    )]
    pub interval: Option<String>,

    /// `Report`, which is the default: the condition `CredentialsVerified` says so. `Hold`: copies also keep the credential
    /// that was accepted last, and a new one reaches them once the registry was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_rejected: Option<OnRejected>,
}

/// What is asked of a registry.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
pub enum VerifyMode {
    /// Nothing.
    #[default]
    None,
    /// Whether it knows the credential.
    Login,
    /// Whether the credential may pull an image.
    Pull,
}

/// What happens to a credential that its registry rejects.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
pub enum OnRejected {
    /// It is spread, and status says so.
    #[default]
    Report,
    /// Copies keep the one that was accepted last.
    Hold,
}
