//! Who talks to the API server: a kubeconfig of its own for every user, by client certificate or by token.

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

use crate::{
    error::{Context as _, Result},
    pki::Pair,
};

/// A user as the API server sees it, and the kubeconfig with which to be that user.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The user name, as in the audit log.
    pub name: String,
    /// The kubeconfig.
    pub kubeconfig: PathBuf,
}

/// How a user proves who it is.
pub enum Proof {
    /// A client certificate.
    Certificate(Pair),
    /// A bearer token.
    Token(String),
}

impl Proof {
    fn render(&self) -> Value {
        match self {
            Self::Token(token) => json!({ "token": token }),
            Self::Certificate(pair) => json!({
                "client-certificate-data": BASE64.encode(&pair.certificate),
                "client-key-data": BASE64.encode(&pair.key),
            }),
        }
    }
}

impl Identity {
    /// Writes a kubeconfig, with everything inline so that it can be copied elsewhere.
    pub fn write(name: &str, kubeconfig: &Path, url: &str, ca: &str, proof: &Proof) -> Result<Self> {
        let cluster = json!({ "server": url, "certificate-authority-data": BASE64.encode(ca) });
        let content = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "regcred-tests", "cluster": cluster }],
            "users": [{ "name": name, "user": proof.render() }],
            "contexts": [{ "name": "regcred-tests", "context": { "cluster": "regcred-tests", "user": name } }],
            "current-context": "regcred-tests",
        });
        save(kubeconfig, &content)?;
        Ok(Self { name: name.to_owned(), kubeconfig: kubeconfig.to_owned() })
    }

    /// The same user at another address of the API server, such as the proxy's. Only for tokens: a client
    /// certificate ends where TLS ends, at the proxy.
    pub fn at(&self, url: &str) -> Result<Self> {
        let reading = || format!("read {}", self.kubeconfig.display());
        let text = std::fs::read(&self.kubeconfig).context(reading())?;
        let mut content: Value =
            serde_json::from_slice(&text).map_err(std::io::Error::from).context(reading())?;
        content["clusters"][0]["cluster"]["server"] = url.into();
        let port = url.rsplit(':').next().unwrap_or_default();
        let kubeconfig = self.kubeconfig.with_extension(format!("{port}.kubeconfig"));
        save(&kubeconfig, &content)?;
        Ok(Self { name: self.name.clone(), kubeconfig })
    }

    /// Client settings for this user, without retries: a test wants the first answer.
    async fn config(&self) -> Result<Config> {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig)?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        config.default_retry = false;
        Ok(config)
    }

    /// A new client. It belongs to the calling runtime and must not be used in another.
    pub async fn client(&self) -> Result<Client> {
        crate::install_crypto_provider();
        Client::try_from(self.config().await?).context(format!("make a client for {}", self.name))
    }
}

fn save(path: &Path, content: &Value) -> Result<()> {
    std::fs::write(path, content.to_string()).context(format!("write {}", path.display()))
}
