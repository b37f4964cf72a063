//! `check`: is the installation sound? What was read of it is a value, and what is wrong with it a pure function of that.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::print::{Colour, Report, Style, Table};
use crate::text::{plain, some, span, word};

/// The policies of the cage, by how their names end.
const CAGE: [&str; 6] = ["secrets", "serviceaccounts", "registrycredentials", "leases", "events", "tokens"];
/// How the name of the policy ends that attaches at birth.
const BIRTH: &str = "-attach-at-birth";
/// How many fields or requests a line names.
const NAMED: usize = 3;
/// What to apply for most of what is missing.
const APPLY: &str = "kubectl apply --server-side -f deploy/install.yaml";

/// An answer of the API server.
#[derive(Clone, Debug)]
pub(crate) enum Fact {
    /// The object, or the list.
    Found(Value),
    /// There is none.
    Missing,
    /// The caller may not see it.
    Refused,
}

/// What was read of an installation.
pub(crate) struct Facts {
    /// The namespace of the operator.
    pub(crate) home: String,
    pub(crate) now: Timestamp,
    /// The CRD of the cluster, and that of this version.
    pub(crate) crd: Fact,
    pub(crate) own_crd: Value,
    /// Deployments of the operator.
    pub(crate) deployments: Fact,
    pub(crate) lease: Fact,
    pub(crate) policies: Fact,
    pub(crate) bindings: Fact,
    /// Policies that attach at birth, and their bindings.
    pub(crate) births: Fact,
    pub(crate) birth_bindings: Fact,
    /// Whether the operator may do what it has to; `None` where the caller may not ask.
    pub(crate) rights: Option<Vec<Right>>,
}

/// A request of the operator.
pub(crate) struct Right {
    /// As in `patch serviceaccounts`.
    pub(crate) what: String,
    pub(crate) allowed: bool,
}

/// The report.
#[derive(Debug, Serialize)]
pub(crate) struct CheckReport {
    checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct Check {
    state: State,
    what: &'static str,
    words: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

/// What a check came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
enum State {
    Ok,
    Wrong,
    Unknown,
    Note,
}

/// What is wrong with an installation.
pub(crate) fn report(facts: &Facts) -> CheckReport {
    let mut checks = vec![crd(facts), deployment(facts), lease(facts), rights(facts)];
    checks.extend(CAGE.into_iter().map(|kind| cage(facts, kind)));
    checks.push(birth(facts));
    CheckReport { checks }
}

/// The user name of the operator, as policies and RBAC see it.
pub(crate) fn user(home: &str, deployments: &Fact) -> String {
    let name = items(deployments)
        .iter()
        .find_map(|item| item.pointer("/spec/template/spec/serviceAccountName")?.as_str());
    format!("system:serviceaccount:{home}:{}", name.unwrap_or("regcred"))
}

fn crd(facts: &Facts) -> Check {
    let what = "CRD";
    let crd = match &facts.crd {
        Fact::Found(crd) => crd,
        Fact::Missing => {
            return wrong(
                what,
                "registrycredentials.regcred.dev is not installed",
                "kubectl apply --server-side -f crds/",
            );
        }
        Fact::Refused => return unknown(what),
    };
    let (theirs, ours) = (fields(crd), fields(&facts.own_crd));
    let lacking: Vec<&String> = ours.difference(&theirs).collect();
    let more: Vec<&String> = theirs.difference(&ours).collect();
    let is_established = crd["status"]["conditions"].as_array().into_iter().flatten();
    if !is_established.into_iter().any(|one| one["type"] == "Established" && one["status"] == "True") {
        return wrong(
            what,
            "it is not established: another CRD has its names",
            "kubectl describe crd registrycredentials.regcred.dev",
        );
    }
    if !lacking.is_empty() {
        let words = format!(
            "it is older than version {}: lacks {}",
            env!("CARGO_PKG_VERSION"),
            some(&lacking, NAMED, ", ")
        );
        return wrong(what, &words, "kubectl apply --server-side -f crds/");
    }
    if more.is_empty() {
        return ok(what, format!("established, as of version {}", env!("CARGO_PKG_VERSION")));
    }
    note(what, format!("it is newer than this plugin, which does not know {}", some(&more, NAMED, ", ")))
}

/// The paths of all fields in the schemas of a CRD.
fn fields(crd: &Value) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    for version in crd["spec"]["versions"].as_array().into_iter().flatten() {
        collect("", &version["schema"]["openAPIV3Schema"], &mut fields);
    }
    fields
}

fn collect(path: &str, schema: &Value, fields: &mut BTreeSet<String>) {
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        collect(&path, below, fields);
        fields.insert(path);
    }
    if schema["items"].is_object() {
        collect(&format!("{path}[]"), &schema["items"], fields);
    }
}

fn deployment(facts: &Facts) -> Check {
    let what = "operator";
    let found = match &facts.deployments {
        Fact::Refused => return unknown(what),
        deployments => items(deployments),
    };
    let Some(deployment) = found.first() else {
        let words = format!(
            "no Deployment of regcred in namespace {}; --operator-namespace names another",
            plain(&facts.home)
        );
        return wrong(what, &words, APPLY);
    };
    let image = deployment
        .pointer("/spec/template/spec/containers/0/image")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let (ready, wanted) = (&deployment["status"]["readyReplicas"], &deployment["spec"]["replicas"]);
    let (ready, wanted) = (ready.as_u64().unwrap_or(0), wanted.as_u64().unwrap_or(1));
    let words = format!("{ready} of {wanted} replicas ready, image {}", plain(image));
    if ready == 0 {
        let fix = format!("kubectl -n {} describe pods -l app.kubernetes.io/name=regcred", word(&facts.home));
        return wrong(what, &words, &fix);
    }
    let tag = image.split('@').next().and_then(|image| image.rsplit_once(':')).map(|(_, tag)| tag);
    let own = env!("CARGO_PKG_VERSION");
    match tag.filter(|tag| tag.trim_start_matches('v') != own) {
        Some(_) => note(what, format!("{words}; this plugin is of version {own}")),
        None => ok(what, words),
    }
}

fn lease(facts: &Facts) -> Check {
    let what = "leader";
    let lease = match &facts.lease {
        Fact::Found(lease) => lease,
        Fact::Missing => return wrong(what, "Lease regcred does not exist, so no replica works", APPLY),
        Fact::Refused => return unknown(what),
    };
    let spec = &lease["spec"];
    let holder = spec["holderIdentity"].as_str().filter(|holder| !holder.is_empty());
    let renewed: Option<Timestamp> = spec["renewTime"].as_str().and_then(|time| time.parse().ok());
    let lasts = spec["leaseDurationSeconds"].as_i64().unwrap_or_default();
    let fix = format!("kubectl -n {} logs -l app.kubernetes.io/name=regcred --tail 20", word(&facts.home));
    match (holder, renewed) {
        (Some(holder), Some(renewed)) if facts.now.as_second() - renewed.as_second() <= lasts => {
            ok(what, format!("{} leads", plain(holder)))
        }
        (Some(holder), Some(renewed)) => wrong(
            what,
            &format!("{} has not renewed the lease for {}", plain(holder), span(renewed, facts.now)),
            &fix,
        ),
        _ => wrong(what, "nobody holds the lease: no replica works", &fix),
    }
}

fn rights(facts: &Facts) -> Check {
    let what = "RBAC";
    let Some(rights) = &facts.rights else { return unknown(what) };
    let denied: Vec<&String> =
        rights.iter().filter(|right| !right.allowed).map(|right| &right.what).collect();
    if denied.is_empty() {
        return ok(what, format!("the operator may do all of {} requests", rights.len()));
    }
    wrong(what, &format!("the operator may not {}", some(&denied, NAMED, ", ")), APPLY)
}

fn cage(facts: &Facts, kind: &'static str) -> Check {
    let what = "cage";
    if matches!(facts.policies, Fact::Refused) || matches!(facts.bindings, Fact::Refused) {
        return unknown(what);
    }
    let ending = format!("-cage-{kind}");
    let user = user(&facts.home, &facts.deployments);
    let is_for_user =
        |policy: &&Value| policy["spec"]["matchConditions"].to_string().contains(&format!("'{user}'"));
    let mut policies =
        items(&facts.policies).iter().filter(|policy| name(policy).ends_with(&ending)).peekable();
    if policies.peek().is_none() {
        return wrong(
            what,
            &format!("no policy limits what the operator's token may write of {kind}"),
            APPLY,
        );
    }
    let Some(policy) = policies.find(is_for_user) else {
        return wrong(
            what,
            &format!("the policy for {kind} is for another user than {}", plain(&user)),
            APPLY,
        );
    };
    let denies = |binding: &&Value| binding["spec"]["validationActions"].to_string().contains("\"Deny\"");
    let bound = items(&facts.bindings)
        .iter()
        .filter(|binding| binding["spec"]["policyName"] == name(policy))
        .any(|binding| denies(&binding));
    if bound {
        ok(what, format!("{} is bound and denies", plain(name(policy))))
    } else {
        wrong(what, &format!("{} is not bound with the action Deny", plain(name(policy))), APPLY)
    }
}

/// Attaching at birth is a choice, so that its absence is no fault.
fn birth(facts: &Facts) -> Check {
    let what = "at birth";
    let policies = match &facts.births {
        Fact::Refused => return unknown(what),
        Fact::Missing => {
            return note(what, "the cluster has no MutatingAdmissionPolicies (Kubernetes 1.36)".to_owned());
        }
        Fact::Found(_) => items(&facts.births),
    };
    let Some(policy) = policies.iter().find(|policy| name(policy).ends_with(BIRTH)) else {
        let words =
            "no policy attaches at birth: the first Pods of a new namespace may be made without an entry";
        return Check {
            fix: Some("kubectl apply --server-side -f deploy/attach-at-birth.yaml".to_owned()),
            ..note(what, words.to_owned())
        };
    };
    let bound =
        items(&facts.birth_bindings).iter().any(|binding| binding["spec"]["policyName"] == name(policy));
    if bound {
        ok(what, format!("{} is bound", plain(name(policy))))
    } else {
        wrong(
            what,
            &format!("{} is not bound", plain(name(policy))),
            "kubectl apply --server-side -f deploy/attach-at-birth.yaml",
        )
    }
}

fn items(fact: &Fact) -> &[Value] {
    match fact {
        Fact::Found(list) => list["items"].as_array().map(Vec::as_slice).unwrap_or_default(),
        Fact::Missing | Fact::Refused => &[],
    }
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn ok(what: &'static str, words: String) -> Check {
    Check { state: State::Ok, what, words, fix: None }
}

fn note(what: &'static str, words: String) -> Check {
    Check { state: State::Note, what, words, fix: None }
}

fn wrong(what: &'static str, words: &str, fix: &str) -> Check {
    Check { state: State::Wrong, what, words: words.to_owned(), fix: Some(fix.to_owned()) }
}

fn unknown(what: &'static str) -> Check {
    Check { state: State::Unknown, what, words: "not read: forbidden".to_owned(), fix: None }
}

impl CheckReport {
    /// Whether something is wrong.
    pub(crate) fn has_finding(&self) -> bool {
        self.checks.iter().any(|check| check.state == State::Wrong)
    }
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Wrong => "WRONG",
            Self::Unknown => "unknown",
            Self::Note => "note",
        }
    }
}

impl Report for CheckReport {
    const KIND: &'static str = "CheckReport";

    fn text(&self, style: Style) -> String {
        let mut table = Table::new(&[("STATE", 7), ("WHAT", 8), ("", 0)]);
        for check in &self.checks {
            table.row([check.state.as_str(), check.what, &check.words]);
            if let Some(fix) = &check.fix {
                table.row(["", "", &format!("fix: {fix}")]);
            }
        }
        table.text(style, |state| match state {
            "ok" => Some(Colour::Green),
            "WRONG" => Some(Colour::Red),
            "unknown" | "note" => Some(Colour::Yellow),
            _ => None,
        })
    }

    fn names(&self) -> Vec<String> {
        let wrong = self.checks.iter().filter(|check| check.state == State::Wrong);
        wrong.map(|check| check.what.to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const USER: &str = "system:serviceaccount:regcred-system:regcred";

    fn crd_with(property: &str) -> Value {
        let schema = json!({"properties": {"spec": {"properties": {property: {}}}}});
        let established = json!([{"type": "Established", "status": "True"}]);
        json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": schema}}]}, "status": {"conditions": established}})
    }

    fn list(items: &[Value]) -> Fact {
        Fact::Found(json!({"items": items}))
    }

    fn policy(kind: &str) -> Value {
        let condition = json!([{"expression": format!("request.userInfo.username == '{USER}'")}]);
        json!({"metadata": {"name": format!("regcred-cage-{kind}")}, "spec": {"matchConditions": condition}})
    }

    fn binding(name: &str) -> Value {
        json!({"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}})
    }

    fn sound() -> Facts {
        let image = format!("registry.example/regcred:{}", env!("CARGO_PKG_VERSION"));
        let template = json!({"spec": {"serviceAccountName": "regcred", "containers": [{"image": image}]}});
        Facts {
            home: "regcred-system".to_owned(),
            now: "2026-11-25T12:00:00Z".parse().expect("a time"),
            crd: Fact::Found(crd_with("registries")),
            own_crd: crd_with("registries"),
            deployments: list(&[
                json!({"spec": {"replicas": 2, "template": template}, "status": {"readyReplicas": 2}}),
            ]),
            lease: Fact::Found(
                json!({"spec": {"holderIdentity": "a", "renewTime": "2026-11-25T11:59:55Z", "leaseDurationSeconds": 15}}),
            ),
            policies: list(&CAGE.into_iter().map(policy).collect::<Vec<_>>()),
            bindings: list(
                &CAGE.into_iter().map(|kind| binding(&format!("regcred-cage-{kind}"))).collect::<Vec<_>>(),
            ),
            births: list(&[json!({"metadata": {"name": "regcred-attach-at-birth"}})]),
            birth_bindings: list(&[binding("regcred-attach-at-birth")]),
            rights: Some(vec![Right { what: "list secrets".to_owned(), allowed: true }]),
        }
    }

    /// What is said of an installation, and what has it so.
    type Fault = (&'static str, fn(&mut Facts));

    /// What is said of an installation with one thing changed.
    fn told(change: impl FnOnce(&mut Facts)) -> (bool, String) {
        let mut facts = sound();
        change(&mut facts);
        let report = report(&facts);
        let bad = report.checks.iter().filter(|check| check.state != State::Ok);
        (
            report.has_finding(),
            bad.map(|check| format!("{}: {}", check.what, check.words)).collect::<Vec<_>>().join("\n"),
        )
    }

    #[test]
    fn a_sound_installation_has_no_finding() {
        assert_eq!(told(|_| {}), (false, String::new()));
    }

    #[test]
    fn each_fault_is_told_of() {
        let faults: [Fault; 9] = [
            ("CRD: registrycredentials.regcred.dev is not installed", |facts| facts.crd = Fact::Missing),
            ("CRD: it is older than version 0.1.0: lacks spec.registries", |facts| {
                facts.crd = Fact::Found(crd_with("old"));
            }),
            (
                "operator: no Deployment of regcred in namespace regcred-system; --operator-namespace names another",
                |facts| {
                    facts.deployments = list(&[]);
                },
            ),
            ("leader: Lease regcred does not exist, so no replica works", |facts| {
                facts.lease = Fact::Missing;
            }),
            ("leader: a has not renewed the lease for 59 min", |facts| {
                facts.now = "2026-11-25T12:59:00Z".parse().expect("a time");
            }),
            ("RBAC: the operator may not list secrets", |facts| {
                facts.rights = Some(vec![Right { what: "list secrets".to_owned(), allowed: false }]);
            }),
            ("cage: no policy limits what the operator's token may write of events", |facts| {
                facts.policies =
                    list(&CAGE.into_iter().filter(|kind| *kind != "events").map(policy).collect::<Vec<_>>());
            }),
            ("cage: regcred-cage-secrets is not bound with the action Deny", |facts| {
                facts.bindings = list(
                    &CAGE
                        .into_iter()
                        .skip(1)
                        .map(|kind| binding(&format!("regcred-cage-{kind}")))
                        .collect::<Vec<_>>(),
                );
            }),
            ("at birth: regcred-attach-at-birth is not bound", |facts| facts.birth_bindings = list(&[])),
        ];
        for (words, change) in faults {
            let (found, text) = told(change);
            assert!(found && text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn what_may_not_be_seen_is_unknown_and_no_finding() {
        let (found, text) = told(|facts| {
            (facts.crd, facts.policies, facts.rights) = (Fact::Refused, Fact::Refused, None);
        });
        assert!(
            !found && text.contains("CRD: not read: forbidden") && text.contains("RBAC: not read"),
            "{text}"
        );
        assert!(!told(|facts| facts.births = list(&[])).0, "attaching at birth is a choice");
    }
}
