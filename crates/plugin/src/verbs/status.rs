//! `status`: registries, expiry, rotation, and namespaces one by one.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use jiff::Timestamp;
use regcred_api::{ConditionType, Failure, RegistryCredentialStatus, RegistryStatus};
use regcred_index::CredentialEntry;
use regcred_planner::World;
use serde::Serialize;

use crate::copies::{self, Spread};
use crate::print::{Colour, Report, Style, Table};
use crate::scene::{Place, Scene};
use crate::text::{sentence, some, span};

/// How many characters the tree takes before a registry.
const BRANCH: usize = 6;
/// How many namespaces one line names.
const NAMED: usize = 12;

/// The report.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusReport {
    credentials: Vec<One>,
    unread: Vec<String>,
}

/// One RegistryCredential.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct One {
    name: String,
    ready: String,
    reason: String,
    message: String,
    secret: String,
    generation: Option<i64>,
    /// The operator has seen this generation.
    seen: bool,
    registries: Vec<Registry>,
    namespaces: Sum,
    service_accounts: Sum,
    failures_omitted: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Registry {
    server: String,
    source: String,
    fingerprint: String,
    changed: String,
    expires: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<String>,
    /// What copies hold, where the credential is rejected and held back.
    #[serde(skip_serializing_if = "Option::is_none")]
    copies: Option<String>,
}

/// What is in place of what is wanted.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Sum {
    done: usize,
    wanted: usize,
    in_place: Vec<String>,
    /// Nothing is in place there, and nothing failed.
    waiting: Vec<String>,
    /// Some of them may wait, and it is not known which.
    unknown: Vec<String>,
    failing: Vec<Failing>,
}

#[derive(Debug, Serialize)]
struct Failing {
    place: String,
    reason: String,
    since: String,
    message: String,
}

/// The report on one RegistryCredential, or on all.
pub(crate) fn report(scene: &Scene, name: Option<&str>) -> StatusReport {
    let places: Vec<Place> = scene.places().into_values().collect();
    let asked = scene.credentials().filter(|(own, _)| name.is_none_or(|name| name == &***own));
    let credentials = asked.map(|(name, entry)| one(scene, &places, name, entry)).collect();
    StatusReport { credentials, unread: scene.unread.lines() }
}

fn one(scene: &Scene, places: &[Place], name: &str, entry: &CredentialEntry) -> One {
    let nothing = RegistryCredentialStatus::default();
    let status = entry.object.status.as_ref().unwrap_or(&nothing);
    let ready = status.condition(ConditionType::Ready);
    let told = |text: Option<&String>| text.map_or_else(|| "Unknown".to_owned(), |text| sentence(text));
    One {
        name: name.to_owned(),
        ready: told(ready.map(|ready| &ready.status)),
        reason: told(ready.map(|ready| &ready.reason)),
        message: sentence(ready.map(|ready| ready.message.as_str()).unwrap_or_default()),
        secret: entry.planned.scope.target_name.to_string(),
        generation: entry.object.generation,
        seen: status.observed_generation == entry.object.generation,
        registries: status
            .registries
            .iter()
            .map(|registry| self::registry(entry, registry, scene.now))
            .collect(),
        namespaces: namespaces(scene, places, entry, status),
        service_accounts: Sum {
            done: status.service_accounts.attached,
            wanted: status.service_accounts.matched,
            failing: failing(status, "ServiceAccount"),
            ..Sum::default()
        },
        failures_omitted: status.failures_omitted,
    }
}

fn registry(entry: &CredentialEntry, registry: &RegistryStatus, now: Timestamp) -> Registry {
    let expires = |end: Timestamp| {
        let day = end.strftime("%Y-%m-%d");
        if end <= now { format!("expired {day}") } else { format!("expires {day} ({})", span(now, end)) }
    };
    let end = registry.expires_at.as_ref().map(|end| expires(end.0));
    let held = copies::held(entry, registry);
    Registry {
        server: registry.server.clone(),
        source: registry.source.clone(),
        fingerprint: registry.fingerprint.clone(),
        changed: format!("changed {} ago", span(registry.refreshed_at.0, now)),
        expires: end.unwrap_or_else(|| "expiry unknown".to_owned()),
        verdict: registry.verification.as_ref().map(|verdict| verdict.reason.clone()),
        copies: held.map(|(held, verdict)| copies::meanwhile(held, verdict, &registry.server)),
    }
}

/// Which namespaces are selected is the planner's answer; which of them fail is the operator's, and so is whether the others have a copy.
fn namespaces(
    scene: &Scene,
    places: &[Place],
    entry: &CredentialEntry,
    status: &RegistryCredentialStatus,
) -> Sum {
    let failing = failing(status, "Secret");
    let bad: BTreeSet<&str> = failing.iter().map(|failing| failing.place.as_str()).collect();
    let selected = places.iter().filter(|place| place.pair(entry).is_some());
    let names = selected.map(|Place { world: World { namespace, .. }, .. }| namespace.name.to_string());
    let others = names.filter(|name| !bad.contains(name.as_str())).collect();
    let sum = Sum { done: status.namespaces.synced, wanted: status.namespaces.matched, ..Sum::default() };
    match copies::spread(entry, scene.selected(entry)) {
        Spread::All => Sum { in_place: others, failing, ..sum },
        Spread::None => Sum { waiting: others, failing, ..sum },
        Spread::Unknown => Sum { unknown: others, failing, ..sum },
    }
}

fn failing(status: &RegistryCredentialStatus, kind: &str) -> Vec<Failing> {
    let place = |failure: &Failure| match kind {
        "Secret" => failure.namespace.clone(),
        _ => format!("{}/{}", failure.namespace, failure.name),
    };
    let of_kind = status.failures.iter().filter(|failure| failure.kind == kind);
    let failing = |failure: &Failure| Failing {
        place: place(failure),
        reason: failure.reason.clone(),
        since: failure.since.0.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        message: sentence(&failure.message),
    };
    of_kind.map(failing).collect()
}

impl Report for StatusReport {
    const KIND: &'static str = "StatusReport";

    fn text(&self, style: Style) -> String {
        let trees = self.credentials.iter().map(|one| one.tree(style)).collect::<Vec<_>>().join("\n");
        let unread = self.unread.iter().map(|line| format!("{line}\n"));
        let none = if self.credentials.is_empty() { "No RegistryCredential.\n" } else { "" };
        trees + none + &unread.collect::<String>()
    }

    fn names(&self) -> Vec<String> {
        self.credentials.iter().map(|one| format!("registrycredential.regcred.dev/{}", one.name)).collect()
    }
}

impl One {
    fn tree(&self, style: Style) -> String {
        let colour = if self.ready == "True" { Colour::Green } else { Colour::Red };
        let ready = style.paint(colour, &format!("Ready={}", self.ready));
        let seen = if self.seen { "seen" } else { "not seen by the operator yet" };
        let generation = self.generation.unwrap_or_default();
        let mut text = format!(
            "{}   {ready} {}   Secret {}   generation {generation}, {seen}\n",
            self.name, self.reason, self.secret
        );
        if self.ready != "True" && !self.message.is_empty() {
            // Writing to a String cannot fail.
            let _written = writeln!(text, "│  {}", self.message);
        }
        text + &self.registries(style)
            + &self.sum("├─", "│ ", "namespaces", &self.namespaces, style)
            + &self.sum("└─", "  ", "serviceaccounts", &self.service_accounts, style)
    }

    fn registries(&self, style: Style) -> String {
        let columns = [("", 50), ("", 12), ("", 8), ("", 24), ("", 34), ("", 0)];
        let mut table = Table::new(&columns).indented(BRANCH);
        for registry in &self.registries {
            let verdict = registry.verdict.as_deref().unwrap_or_default();
            let verdict = if registry.copies.is_some() { "" } else { verdict };
            let Registry { server, source, fingerprint, changed, expires, .. } = registry;
            table.row([server, source, fingerprint, changed, expires, verdict]);
        }
        let lines = table.text(Style { headers: false, ..style }, |_| None);
        let count = self.registries.len();
        let branch = |(at, (line, registry)): (usize, (&str, &Registry))| {
            let (arm, stem) = if at + 1 == count { ("└─", "  ") } else { ("├─", "│ ") };
            let copies = registry.copies.iter().map(|copies| format!("│  {stem} └─ {copies}\n"));
            format!("│  {arm} {line}\n") + &copies.collect::<String>()
        };
        let branches = lines.lines().zip(&self.registries).enumerate().map(branch);
        "├─ registries\n".to_owned() + &branches.collect::<String>()
    }

    fn sum(&self, arm: &str, stem: &str, what: &str, sum: &Sum, style: Style) -> String {
        let shown = if style.wide { usize::MAX } else { NAMED };
        let names = sum.names(shown);
        let head = format!("{arm} {what} {}/{}    {names}", sum.done, sum.wanted);
        let more = match self.failures_omitted {
            0 => String::new(),
            more => format!("{stem} └─ {more} more failures are not listed in status\n"),
        };
        let last = sum.failing.len();
        let failing = sum.failing.iter().enumerate().map(|(at, failing)| {
            let arm = if at + 1 == last && more.is_empty() { "└─" } else { "├─" };
            let Failing { place, reason, since, message } = failing;
            format!("{stem} {arm} {place}   {} since {since}   {message}\n", style.paint(Colour::Red, reason))
        });
        format!("{}\n", head.trim_end()) + &failing.collect::<String>() + &more
    }
}

impl Sum {
    /// The places that do not fail, as far as it is known how they are.
    fn names(&self, shown: usize) -> String {
        let named = [
            ("", &self.in_place),
            ("waiting: ", &self.waiting),
            ("some may wait, status does not say which: ", &self.unknown),
        ];
        let text = |(said, names): (&str, &Vec<String>)| format!("{said}{}", some(names, shown, " "));
        named.into_iter().filter(|(_, names)| !names.is_empty()).map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::scene::fixtures::Stage;

    const PLAIN: Style = Style { colour: false, headers: true, wide: false };

    #[test]
    fn a_status_names_registries_namespaces_and_each_failure() {
        let more = json!({"metadata": {"generation": 3}, "status": {
            "observedGeneration": 3,
            "conditions": [{"type": "Ready", "status": "False", "reason": "PartiallySynced", "message": "2 of 3 namespaces",
                            "lastTransitionTime": "2026-11-25T03:29:00Z"}],
            "registries": [
                {"server": "ghcr.io", "source": "Secret", "fingerprint": "605bf0f6", "refreshedAt": "2026-11-25T11:52:00Z",
                 "expiresAt": "2027-02-01T12:00:00Z"},
                {"server": "docker.io", "source": "Secret", "fingerprint": "47142202", "refreshedAt": "2026-10-25T12:00:00Z"},
            ],
            "namespaces": {"matched": 3, "synced": 2, "failed": 1},
            "serviceAccounts": {"matched": 3, "attached": 2, "failed": 1},
            "failures": [
                {"namespace": "legacy", "kind": "Secret", "name": "pull", "reason": "Forbidden", "since": "2026-11-25T03:29:00Z",
                 "message": "refused by a policy\u{1b}[2J"},
                {"namespace": "shop", "kind": "ServiceAccount", "name": "default", "reason": "Contested",
                 "since": "2026-11-25T03:29:00Z", "message": "kustomize-controller takes the entry off"},
            ],
        }});
        let private = json!({"pull": "private"});
        let stage = Stage::new().credential("pull", "ghcr.io", &more);
        let stage =
            stage.namespace("legacy", &private).namespace("shop", &private).namespace("team-a", &private);
        let text = report(&stage.namespace("other", &json!({})).0, None).text(PLAIN);
        let wanted = "\
pull   Ready=False PartiallySynced   Secret pull   generation 3, seen
│  2 of 3 namespaces
├─ registries
│  ├─ ghcr.io    Secret  605bf0f6  changed 8 min ago  expires 2027-02-01 (68 d)
│  └─ docker.io  Secret  47142202  changed 31 d ago   expiry unknown
├─ namespaces 2/3    shop team-a
│  └─ legacy   Forbidden since 2026-11-25 03:29 UTC   refused by a policy [2J
└─ serviceaccounts 2/3
   └─ shop/default   Contested since 2026-11-25 03:29 UTC   kustomize-controller takes the entry off
";
        assert_eq!(text, wanted, "{text}");
    }

    /// The line of namespaces, of which two are selected.
    fn namespaces(more: &Value) -> String {
        let (stage, private) = (Stage::new().credential("pull", "ghcr.io", more), json!({"pull": "private"}));
        let text = report(&stage.namespace("n1", &private).namespace("n2", &private).0, None).text(PLAIN);
        text.lines().find(|line| line.starts_with("├─ namespaces")).unwrap().to_owned()
    }

    #[test]
    fn a_namespace_that_waits_is_not_listed_as_served() {
        let of = |matched: usize, synced: usize| {
            namespaces(&json!({"status": {"namespaces": {"matched": matched, "synced": synced}}}))
        };
        assert_eq!(of(2, 2), "├─ namespaces 2/2    n1 n2");
        assert_eq!(of(2, 0), "├─ namespaces 0/2    waiting: n1 n2");
        assert_eq!(of(2, 1), "├─ namespaces 1/2    some may wait, status does not say which: n1 n2");
        assert_eq!(
            of(1, 1),
            "├─ namespaces 1/1    some may wait, status does not say which: n1 n2",
            "one is newer"
        );
        let unseen =
            json!({"metadata": {"generation": 2}, "status": {"namespaces": {"matched": 2, "synced": 2}}});
        assert_eq!(
            namespaces(&unseen),
            "├─ namespaces 2/2    some may wait, status does not say which: n1 n2"
        );
        assert_eq!(namespaces(&json!({"status": null})), "├─ namespaces 0/0    waiting: n1 n2");
    }

    #[test]
    fn a_password_that_is_held_back_is_told_apart_from_the_one_in_copies() {
        let text_of = |whole: Value, fingerprint: &str, hold: &str| {
            let more = json!({"spec": {"verify": {"mode": "Login", "onRejected": hold}}, "status": {
                "fingerprint": whole,
                "conditions": [{"type": "SourceReady", "status": if hold == "Hold" { "False" } else { "True" },
                                "reason": "Rejected", "message": "put good ones into the source",
                                "lastTransitionTime": "2026-11-25T11:52:00Z"}],
                "registries": [
                    {"server": "docker.io", "source": "Secret", "fingerprint": "1", "refreshedAt": "2026-11-25T11:52:00Z"},
                    {"server": "ghcr.io", "source": "Secret", "fingerprint": fingerprint, "refreshedAt": "2026-11-25T11:52:00Z",
                     "verification": {"reason": "Rejected", "message": "no", "fingerprint": "713687de",
                                      "checkedAt": "2026-11-25T11:52:00Z", "nextCheckAt": "2026-11-25T12:52:00Z"}},
                ],
            }});
            report(&Stage::new().credential("pull", "ghcr.io", &more).0, None).text(PLAIN)
        };
        let text = |fingerprint: &str, hold: &str| text_of(json!("sha256:1"), fingerprint, hold);
        let kept = text("9051365c", "Hold");
        assert!(
            kept.contains("│     └─ new credential 713687de is rejected; copies keep 9051365c\n"),
            "{kept}"
        );
        assert!(!kept.contains("expiry unknown  Rejected"), "{kept}");
        let none = text("713687de", "Hold");
        assert!(none.contains("│     └─ 713687de is rejected; copies have no entry for ghcr.io\n"), "{none}");
        let never = text_of(Value::Null, "9051365c", "Hold");
        assert!(never.contains("713687de is rejected; copies have no entry for ghcr.io"), "{never}");
        let reported = text("713687de", "Report");
        assert!(
            reported.contains("expiry unknown  Rejected\n") && !reported.contains("copies"),
            "{reported}"
        );
    }

    #[test]
    fn the_table_of_registries_is_no_wider_than_a_terminal() {
        let more = json!({"status": {"registries": [{
            "server": format!("{}.example.com/acme", "r".repeat(80)), "source": "ServiceAccountToken", "fingerprint": "605bf0f6",
            "refreshedAt": "2026-11-25T11:52:00Z", "expiresAt": "2027-02-01T12:00:00Z",
            "verification": {"reason": "RegistryUnreachable", "message": "no answer", "fingerprint": "605bf0f6",
                             "checkedAt": "2026-11-25T11:52:00Z", "nextCheckAt": "2026-11-25T12:52:00Z"},
        }]}});
        let stage = Stage::new().credential("pull", "ghcr.io", &more);
        let text = report(&stage.0, None).text(PLAIN);
        let registries: Vec<&str> = text.lines().filter(|line| line.contains("expires")).collect();
        assert!(registries.len() == 1 && registries[0].contains("RegistryUnreachable"), "{text}");
        assert!(registries[0].chars().count() <= 120, "{text}");
    }

    #[test]
    fn an_object_that_nobody_has_looked_at_has_a_status_too() {
        let stage = Stage::new().credential("pull", "ghcr.io", &json!({"status": null}));
        let report = report(&stage.0, Some("pull"));
        assert!(report.text(PLAIN).starts_with("pull   Ready=Unknown Unknown   Secret pull"));
        assert_eq!(report.names(), ["registrycredential.regcred.dev/pull"]);
    }
}
