//! Requests to the API server, by what they ask for and how they end. Every label is of a closed set, so a path that is
//! not known here is counted as `other`, and so is what is done there, unless it is a read.

use http::Method;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// What the operator asks for: in the metric from the start, each with every code.
const ASKED: [(&str, &str); 22] = [
    ("create", "events"),
    ("create", "serviceaccounts/token"),
    ("delete", "secrets"),
    ("get", "leases"),
    ("get", "other"),
    ("get", "secrets"),
    ("get", "serviceaccounts"),
    ("list", "namespaces"),
    ("list", "registrycredentials"),
    ("list", "secrets"),
    ("list", "serviceaccounts"),
    ("other", "other"),
    ("patch", "events"),
    ("patch", "registrycredentials"),
    ("patch", "registrycredentials/status"),
    ("patch", "secrets"),
    ("patch", "serviceaccounts"),
    ("update", "leases"),
    ("watch", "namespaces"),
    ("watch", "registrycredentials"),
    ("watch", "secrets"),
    ("watch", "serviceaccounts"),
];
/// How a request may end; `none` is no answer.
const CODES: [&str; 9] = ["2xx", "403", "404", "409", "422", "429", "4xx", "5xx", "none"];

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct RequestLabels {
    verb: &'static str,
    resource: &'static str,
    code: &'static str,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Asked {
    verb: &'static str,
    resource: &'static str,
}

/// Counts requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests(pub(super) Family<RequestLabels, Counter>);

impl Requests {
    pub(super) fn fill(&self) {
        for (verb, resource) in ASKED {
            for code in CODES {
                self.0.get_or_create_owned(&RequestLabels { verb, resource, code });
            }
        }
    }

    /// A request ended with this status, or with none.
    pub(crate) fn ended(&self, Asked { verb, resource }: Asked, status: Option<u16>) {
        self.0.get_or_create(&RequestLabels { verb, resource, code: code(status) }).inc();
    }
}

impl Asked {
    /// What the operator is not known to do.
    const OTHER: Self = Self { verb: "other", resource: "other" };

    /// What a request with this method and address asks for.
    pub(crate) fn of(method: &Method, uri: &http::Uri) -> Self {
        let (resource, is_named) = resource(uri.path());
        let watches = uri.query().is_some_and(|query| query.split('&').any(is_watch));
        let verb = match *method {
            Method::GET if watches => "watch",
            Method::GET if is_named => "get",
            Method::GET => "list",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => return Self::OTHER,
        };
        match *method {
            _ if ASKED.contains(&(verb, resource)) => Self { verb, resource },
            Method::GET => Self { verb: "get", resource: "other" },
            _ => Self::OTHER,
        }
    }
}

fn is_watch(parameter: &str) -> bool {
    matches!(parameter, "watch=true" | "watch=1" | "watch")
}

/// The resource in a path of the Kubernetes API, and whether the path names an object.
fn resource(path: &str) -> (&'static str, bool) {
    let mut parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    let head = match parts.first() {
        Some(&"api") => 2,
        Some(&"apis") => 3,
        _ => return ("other", true),
    };
    parts.drain(..head.min(parts.len()));
    if parts.len() > 2 && parts[0] == "namespaces" {
        parts.drain(..2);
    }
    let known = match (parts.first(), parts.get(2)) {
        (Some(&"secrets"), None) => "secrets",
        (Some(&"serviceaccounts"), None) => "serviceaccounts",
        (Some(&"serviceaccounts"), Some(&"token")) => "serviceaccounts/token",
        (Some(&"namespaces"), None) => "namespaces",
        (Some(&"registrycredentials"), None) => "registrycredentials",
        (Some(&"registrycredentials"), Some(&"status")) => "registrycredentials/status",
        (Some(&"leases"), None) => "leases",
        (Some(&"events"), None) => "events",
        _ => "other",
    };
    (known, parts.len() > 1)
}

fn code(status: Option<u16>) -> &'static str {
    match status {
        None => "none",
        Some(403) => "403",
        Some(404) => "404",
        Some(409) => "409",
        Some(422) => "422",
        Some(429) => "429",
        Some(400..500) => "4xx",
        Some(500..) => "5xx",
        Some(_) => "2xx",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_by_what_it_asks_for() {
        for (method, uri, verb, resource) in [
            (Method::GET, "/api/v1/secrets?watch=true&sendInitialEvents=true", "watch", "secrets"),
            (Method::GET, "/api/v1/namespaces?limit=10", "list", "namespaces"),
            (Method::GET, "/api/v1/namespaces/regcred-system/secrets?watch=true", "watch", "secrets"),
            (Method::GET, "/api/v1/namespaces/regcred-system/secrets/key", "get", "secrets"),
            (Method::PATCH, "/api/v1/namespaces/shop/serviceaccounts/default?", "patch", "serviceaccounts"),
            (Method::POST, "/api/v1/namespaces/a/serviceaccounts/b/token", "create", "serviceaccounts/token"),
            (Method::DELETE, "/api/v1/namespaces/shop/secrets/pull", "delete", "secrets"),
            (
                Method::PATCH,
                "/apis/regcred.dev/v1alpha1/registrycredentials/pull/status",
                "patch",
                "registrycredentials/status",
            ),
            (
                Method::PUT,
                "/apis/coordination.k8s.io/v1/namespaces/regcred-system/leases/regcred",
                "update",
                "leases",
            ),
            (Method::POST, "/apis/events.k8s.io/v1/namespaces/default/events", "create", "events"),
            (Method::GET, "/version", "get", "other"),
            (Method::GET, "/api/v1/pods?watch=true", "get", "other"),
            (Method::POST, "/api", "other", "other"),
            (Method::DELETE, "/api/v1/pods", "other", "other"),
            (Method::DELETE, "/api/v1/namespaces/shop/serviceaccounts/default", "other", "other"),
            (Method::OPTIONS, "/api/v1/secrets", "other", "other"),
        ] {
            let asked = Asked::of(&method, &uri.parse().unwrap());
            assert_eq!(asked, Asked { verb, resource }, "{method} {uri}");
        }
    }

    #[test]
    fn a_conflict_is_told_apart_from_a_server_in_trouble() {
        let codes = [200, 201, 409, 500, 503, 400].map(|status| code(Some(status)));
        assert_eq!(codes, ["2xx", "2xx", "409", "5xx", "5xx", "4xx"]);
        assert_eq!(code(None), "none");
    }
}
