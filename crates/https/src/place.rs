//! Where a request goes.

use std::collections::BTreeMap;

use http::Uri;
use http::uri::{PathAndQuery, Scheme};

/// The address of a path at a host: at the host itself, or where the operator's settings send requests for it.
pub fn place(endpoints: &BTreeMap<String, Uri>, scheme: &Scheme, host: &str, path: &str) -> Option<Uri> {
    let (scheme, authority, base) = match endpoints.get(host) {
        Some(base) => (base.scheme()?.clone(), base.authority()?.clone(), base.path().trim_end_matches('/')),
        None => (scheme.clone(), host.parse().ok()?, ""),
    };
    if authority.as_str().contains('@') {
        return None;
    }
    let path = PathAndQuery::try_from(format!("{base}{path}")).ok()?;
    Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build().ok()
}
