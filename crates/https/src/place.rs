//! Where a request goes.

use std::collections::BTreeMap;

use http::Uri;
use http::uri::{PathAndQuery, Scheme};

/// Reads `HOST=URL` of a command line: the address to which requests meant for a host go. Says what to write where it is
/// something else.
pub fn endpoint(text: &str) -> Result<(String, Uri), &'static str> {
    let help = "write HOST=URL, as in host.example.com=https://10.0.0.5:8443";
    let (host, url) = text.split_once('=').filter(|(host, _)| !host.is_empty()).ok_or(help)?;
    let url: Uri = url.parse().map_err(|_| help)?;
    let is_whole = matches!(url.scheme_str(), Some("https" | "http")) && url.authority().is_some();
    if is_whole { Ok((host.to_owned(), url)) } else { Err(help) }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_a_host_and_an_address() {
        let parsed = endpoint("sts.amazonaws.com=https://vpce-1.example.com/x").unwrap();
        assert_eq!(
            (&*parsed.0, parsed.1.to_string()),
            ("sts.amazonaws.com", "https://vpce-1.example.com/x".to_owned())
        );
        for odd in ["sts.amazonaws.com", "=https://a", "a=b", "a=ftp://b", "a=https://"] {
            assert!(endpoint(odd).is_err(), "{odd}");
        }
    }
}
