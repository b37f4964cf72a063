//! Why no answer came. Says nothing that the other side said.

use std::error::Error;
use std::time::Duration;

use http_body_util::LengthLimitError;

/// What is wrong with a host that gave no answer; reads on after the name of the host.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Failure {
    /// The request cannot be written.
    #[error("cannot be asked: its address is none")]
    NoAddress,
    /// The whole answer did not come in time.
    #[error("does not answer in {} s", .0.as_secs())]
    Late(Duration),
    /// A body beyond the limit.
    #[error("answers with more than 64 KiB")]
    TooLong,
    /// No TLS, or a certificate that nobody vouches for.
    #[error(
        "shows a certificate that no known authority signed, or speaks no TLS; \
         SSL_CERT_FILE names a file with authorities of your own"
    )]
    Tls,
    /// A proxy of a kind that is not spoken.
    #[error(
        "cannot be reached through the proxy of HTTPS_PROXY or ALL_PROXY: write it as http://HOST:PORT, \
         as no other kind is spoken"
    )]
    Proxy,
    /// The name leads to an address that this request may not go to.
    #[error(
        "has an address to which regcred sends no credential (loopback, link-local or another of that kind)"
    )]
    Forbidden,
    /// No address is known of the name.
    #[error("cannot be found: its name leads to no address")]
    Unresolved,
    /// Anything else between here and there.
    #[error("cannot be reached")]
    Unreachable,
}

impl Failure {
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Self {
        if caused_by::<LengthLimitError>(error) {
            return Self::TooLong;
        }
        if caused_by::<rustls::Error>(error) {
            return Self::Tls;
        }
        if caused_by::<UnfitProxy>(error) {
            return Self::Proxy;
        }
        if caused_by::<ForbiddenAddress>(error) {
            return Self::Forbidden;
        }
        if caused_by::<NoSuchName>(error) {
            return Self::Unresolved;
        }
        Self::Unreachable
    }
}

/// A proxy that is written as one of TLS or SOCKS. It would be asked without either, and get its password so.
#[derive(Debug, thiserror::Error)]
#[error("only proxies of http:// are spoken to")]
pub(crate) struct UnfitProxy;

/// A name that leads to an address outside of the request's reach.
#[derive(Debug, thiserror::Error)]
#[error("not an address that this request may go to")]
pub(crate) struct ForbiddenAddress;

/// A name that leads to no address.
#[derive(Debug, thiserror::Error)]
#[error("the name has no address")]
pub(crate) struct NoSuchName;

fn caused_by<E: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if error.is::<E>() || inner.is_some_and(|inner| caused_by::<E>(inner)) {
            return true;
        }
        next = error.source();
    }
    false
}
