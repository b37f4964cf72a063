//! Everything that needs a real API server: a control plane without containers, users, operators, and the
//! scenes in which a test plays.
//!
//! Outermost first; each file uses only those below it:
//!
//! | file | what it is for |
//! |---|---|
//! | [`pull`] | one RegistryCredential in one namespace: what a test changes about it, and what it expects there |
//! | [`token_scene`] | a scene with clouds, and an operator that asks them for tokens |
//! | [`scene`] | what a test holds: namespaces, source Secrets, operators, and a look at the result |
//! | [`node`] | containerd, runc, the kubelet and private registries beside a control plane, in namespaces of their own |
//! | [`operator`] | the operator as a child process: start, kill, pause, ready, metrics, logs |
//! | [`chart`], [`stolen_token`] | the chart by Helm, and what is rendered from it; what a thief of the token can do |
//! | [`argo_cd`] | Argo CD's ConfigMap, made of the scripts of `deploy/gitops` |
//! | [`dashboard`] | the dashboard of the chart |
//! | [`reference`] | the page of every field of the API |
//! | [`prometheus`] | Prometheus, which scrapes an operator, and promtool, which tries the alerts |
//! | [`image`] | the operator's image and the binary in it, built from this checkout |
//! | [`install`] | puts regcred into the cluster, as a user would |
//! | [`proxy`] | sits between an operator and the API server and breaks things on purpose |
//! | [`clouds`] | Amazon, Google, Azure, Quay, JFrog and Cloudsmith, as far as they give tokens |
//! | [`registry`] | a registry that says which logins it knows, and counts who asked |
//! | [`keyring`] | the kubelet's own code is asked what it finds for an image |
//! | [`moto`] | AWS as others play it |
//! | [`hostile`] | objects of the largest size that a tenant may make |
//! | [`webhook`] | an admission webhook that refuses, or never answers |
//! | [`control_plane`] | etcd, kube-apiserver and kube-controller-manager: start, restart, users, compaction |
//! | [`site`] | the folder of one control plane: keys, policy, ports, and each program's command line |
//! | [`identity`] | who talks to the API server: a kubeconfig of its own for every user |
//! | [`pki`] | the certificate authority of one control plane |
//! | [`process`] | child processes that never outlive us, however we end |
//! | [`binaries`] | finds or builds the programs |
//! | `debian` | programs from Debian's packages |
//! | [`audit`] | exact request counts, from the API server's own audit log |
//! | [`canary`] | a password to look for in all output |
//! | [`birth`] | what a request that makes a ServiceAccount costs the API server |
//! | [`wait`] | polling with a deadline, instead of sleeping |
//! | [`plain_http`] | single requests to loopback ports without TLS |
//! | [`error`] | the one error of this crate |

pub mod argo_cd;
pub mod audit;
pub mod binaries;
pub mod birth;
pub mod canary;
pub mod chart;
pub mod clouds;
pub mod control_plane;
pub mod dashboard;
mod debian;
pub mod error;
pub mod hostile;
pub mod identity;
pub mod image;
pub mod install;
pub mod keyring;
pub mod moto;
pub mod node;
pub mod operator;
pub mod pki;
pub mod plain_http;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod pull;
pub mod reference;
pub mod registry;
mod release;
pub mod scene;
pub mod site;
pub mod stolen_token;
pub mod token_scene;
pub mod wait;
pub mod webhook;

pub use control_plane::{ControlPlane, Options};
pub use error::{Error, Result};
pub use identity::Identity;
pub use moto::Moto;
pub use operator::{Operator, OperatorOptions};
pub use proxy::Proxy;
pub use pull::Pull;
pub use scene::Scene;
pub use token_scene::TokenScene;
pub use wait::eventually;
pub use webhook::Webhook;

/// The type of the Secrets that a kubelet pulls with.
pub const SECRET_TYPE: &str = "kubernetes.io/dockerconfigjson";
/// The key of their only value.
pub const SECRET_KEY: &str = ".dockerconfigjson";

/// Makes ring the process's TLS provider; without it, rustls panics at the first connection.
pub fn install_crypto_provider() {
    // An error only says that somebody, often an earlier call of ours, has installed one.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
