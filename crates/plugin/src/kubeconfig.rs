//! Kubeconfigs as kubectl takes them, and in sentences what is wrong with one. What an exec plugin printed on standard output and
//! what a kubeconfig holds may be a credential, so that no sentence has any of it. Standard error is meant for whoever runs the
//! plugin, and is told where the plugin gave no login.

use std::process::Output;

use kube::client::AuthError;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::core::Status;
use kube::{Client, Config};

use crate::args::Global;
use crate::text::plain;

/// What rustls says of a certificate that it does not read.
const OLD_CERTIFICATE: &str = "UnsupportedCertVersion";

/// An error and what caused it.
type Any = dyn std::error::Error + 'static;

/// The settings that kubectl would take, or what is wrong with them.
pub(crate) async fn config(global: &Global) -> Result<Config, String> {
    let options = KubeConfigOptions { context: global.context.clone(), ..KubeConfigOptions::default() };
    let mut config = match &global.kubeconfig {
        Some(file) => {
            let kubeconfig = Kubeconfig::read_from(file).map_err(|error| words(&error))?;
            Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| words(&error))?
        }
        None if global.context.is_some() => {
            Config::from_kubeconfig(&options).await.map_err(|error| words(&error))?
        }
        None => Config::infer().await.map_err(|error| words(&error))?,
    };
    if global.impersonate.is_some() {
        config.auth_info.impersonate.clone_from(&global.impersonate);
        config.auth_info.impersonate_groups = Some(global.groups.clone()).filter(|groups| !groups.is_empty());
    }
    Ok(config)
}

/// A client with these settings. An exec plugin runs here.
pub(crate) fn client(config: Config) -> Result<Client, String> {
    let hint = config.auth_info.exec.as_ref().and_then(|exec| exec.install_hint.clone());
    Client::try_from(config).map_err(|error| match (&error, hint) {
        (kube::Error::Auth(AuthError::AuthExecStart(_)), Some(hint)) => {
            format!("{}; the kubeconfig advises: {}", words(&error), plain(&hint))
        }
        _ => words(&error),
    })
}

/// An error with its causes, as a sentence.
pub(crate) fn words(error: &Any) -> String {
    let mut all = std::iter::successors(Some(error), |error| error.source());
    let text = all.find_map(known).unwrap_or_else(|| causes(error));
    let advice = advice(&text);
    text + advice
}

/// What is said in other words than the error has.
fn known(error: &Any) -> Option<String> {
    match error.downcast_ref() {
        Some(kube::Error::Api(status)) => return Some(refusal(status)),
        Some(kube::Error::ProxyProtocolUnsupported { .. }) => {
            return Some("its proxy-url begins with none of http://, https:// and socks5://".to_owned());
        }
        _ => {}
    }
    if let Some(error) = error.downcast_ref::<AuthError>() {
        return exec(error);
    }
    match error.downcast_ref()? {
        KubeconfigError::Parse(error) => Some(match error.location() {
            Some(at) => format!("it is no kubeconfig: see line {}, column {}", at.line(), at.column()),
            None => "it is no kubeconfig".to_owned(),
        }),
        _ => None,
    }
}

/// The API server's own words.
fn refusal(status: &Status) -> String {
    let said = if status.message.is_empty() { &status.reason } else { &status.message };
    let advice = match status.code {
        401 => ": the API server does not know the login of the kubeconfig; log in again",
        _ => "",
    };
    format!("{said} (HTTP {}){advice}", status.code)
}

/// What is wrong with the program that the kubeconfig has give a login.
fn exec(error: &AuthError) -> Option<String> {
    let what = match error {
        AuthError::AuthExecStart(error) => format!("cannot be started: {error}"),
        AuthError::AuthExecRun { out, .. } => format!("gave no login ({}){}", out.status, complaint(out)),
        AuthError::AuthExecParse(_) | AuthError::ExecPluginFailed => {
            "printed no ExecCredential of client.authentication.k8s.io".to_owned()
        }
        _ => return None,
    };
    Some(format!("the exec plugin of its user {what}"))
}

/// What a program wrote to standard error, where that is no terminal's.
fn complaint(output: &Output) -> String {
    match String::from_utf8_lossy(&output.stderr).trim() {
        "" => "; what it says is above".to_owned(),
        said => format!("; it says: {}", plain(said)),
    }
}

fn causes(error: &Any) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |error| error.source()) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn advice(text: &str) -> &'static str {
    if text.contains(OLD_CERTIFICATE) {
        "; a certificate of the kubeconfig has the X.509 version 1, as those of MicroK8s have, and only version 3 is accepted: \
         sign it again with extensions, or use a token, as `kubectl create token` gives one"
    } else {
        ""
    }
}
