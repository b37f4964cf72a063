//! What can go wrong while the operator starts. After that nothing ends it: loops report and retry.

/// Why the operator could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No cluster to talk to.
    #[error("no usable cluster configuration: {0}; give --kubeconfig, set KUBECONFIG, or run in a cluster")]
    Config(String),
    /// The client certificate is of X.509 version 1, as `openssl x509 -req` makes it without extensions.
    #[error(
        "the client certificate in the kubeconfig is of X.509 version 1, which rustls does not take; issue one of \
         version 3 (openssl x509 -req -extfile, with extendedKeyUsage=clientAuth in the file), or use a token"
    )]
    CertificateVersion,
    /// The client could not be made from the configuration.
    #[error(
        "the client could not be made: {0}; correct the certificates, the key or the proxy in the kubeconfig"
    )]
    Client(kube::Error),
    /// The system gave no random bytes for the fingerprint key.
    #[error(
        "the system gave no random bytes; regcred needs getrandom(2) or /dev/urandom, so allow it in the sandbox"
    )]
    NoRandomness,
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        // The type of this error is several libraries away; its name is all that reaches us.
        if error.to_string().contains("UnsupportedCertVersion") {
            Self::CertificateVersion
        } else {
            Self::Client(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use kube::Config;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};

    use super::*;
    use crate::client::Clients;
    use crate::metrics::Metrics;

    /// The smallest certificate of version 1 that is read so far: its first member is the serial number.
    const VERSION_1: [u8; 13] =
        [0x30, 0x0b, 0x30, 0x03, 0x02, 0x01, 0x01, 0x30, 0x00, 0x03, 0x02, 0x00, 0x00];

    fn pem(kind: &str, der: &[u8]) -> String {
        let pem = format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der));
        STANDARD.encode(pem)
    }

    #[tokio::test]
    async fn a_client_certificate_of_version_1_is_named() {
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let key =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).unwrap();
        let mut config = Config::new("https://127.0.0.1:6443".parse().unwrap());
        config.auth_info.client_certificate_data = Some(pem("CERTIFICATE", &VERSION_1));
        config.auth_info.client_key_data = Some(pem("PRIVATE KEY", key.as_ref()).into());
        let error = Clients::new(&config, &Metrics::default()).unwrap_err();
        assert!(matches!(error, Error::CertificateVersion), "{error}");
    }
}
