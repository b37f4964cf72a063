//! `audit`: which workloads cannot pull now, and which would not pull again. What has pulled is no finding by its list
//! alone: an image may be public, and nodes have credentials of their own.

use std::collections::{BTreeMap, BTreeSet};

use regcred_index::CredentialEntry;
use serde::Serialize;

use crate::args::{By, Level};
use crate::diagnose::{Diagnosis, Reason, Subject, diagnose, is_own_list};
use crate::pod::{Pod, Pull, Workload};
use crate::print::{Colour, Report, Style, Table};
use crate::scene::{Image, Look, Place, Scene};
use crate::text::{counted, plain};

/// The column with the reason, which people search for.
const REASON: usize = 4;

/// The report.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuditReport {
    findings: Vec<Finding>,
    summary: Summary,
    unread: Vec<String>,
}

/// One image of a workload.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    level: Level,
    namespace: String,
    workload: String,
    pods: Vec<String>,
    image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

/// Pods, counted.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    pods: usize,
    cannot_pull: usize,
    would_not_pull_again: usize,
    by_registry_credential: usize,
    without_entry: usize,
    /// Their list has an entry of which status does not say that it is in place.
    unknown: usize,
    secrets_read: usize,
}

/// What is said of all Pods of a workload that run one image.
type Key = (Level, String, String, String, Option<Reason>, String);

/// What a Pod counts as in the last line.
#[derive(Default)]
struct Tally {
    worst: Option<Level>,
    opened: bool,
    unsure: bool,
    bare: bool,
}

/// The report on all Pods of the scene.
pub(crate) fn report(scene: &Scene, by: By) -> AuditReport {
    let places = scene.places();
    let served = served(scene, &places);
    let mut summary = Summary { pods: scene.pods.len(), ..Summary::default() };
    let mut found: BTreeMap<Key, (BTreeSet<String>, Option<String>)> = BTreeMap::new();
    for pod in &scene.pods {
        let mut tally = Tally::default();
        let judge = Judge { scene, served: &served, place: places.get(&pod.namespace), pod };
        for (image, level, told) in judge.containers(&mut tally) {
            let (pods, fix) = found.entry(key(pod, by, &image, level, &told)).or_default();
            pods.insert(pod.name.clone());
            fix.get_or_insert_with(|| told.fix.unwrap_or_default());
        }
        summary.add(&tally);
    }
    summary.secrets_read = scene.secrets.as_ref().map_or(0, BTreeMap::len);
    AuditReport { findings: found.into_iter().map(finding).collect(), summary, unread: scene.unread.lines() }
}

/// The namespaces that each RegistryCredential selects.
fn served(scene: &Scene, places: &BTreeMap<String, Place>) -> BTreeMap<String, BTreeSet<String>> {
    let selected = |entry| {
        let names = places.iter().filter(|(_, place)| place.pair(entry).is_some());
        names.map(|(name, _)| name.clone()).collect()
    };
    scene.credentials().map(|(name, entry)| (name.to_string(), selected(entry))).collect()
}

fn key(pod: &Pod, by: By, image: &Image, level: Level, told: &Diagnosis) -> Key {
    let itself = Workload { kind: "pod".to_owned(), name: pod.name.clone() };
    let workload = if by == By::Pod { &itself } else { &pod.workload };
    (level, pod.namespace.clone(), workload.text(), plain(&image.text), told.reason, told.short.clone())
}

fn finding((key, (pods, fix)): (Key, (BTreeSet<String>, Option<String>))) -> Finding {
    let (level, namespace, workload, image, reason, why) = key;
    let fix = fix.filter(|fix| !fix.is_empty());
    Finding { level, namespace, workload, pods: pods.into_iter().collect(), image, reason, why, fix }
}

struct Judge<'a> {
    scene: &'a Scene,
    served: &'a BTreeMap<String, BTreeSet<String>>,
    place: Option<&'a Place>,
    pod: &'a Pod,
}

impl Judge<'_> {
    /// The findings among the images of the Pod.
    fn containers(&self, tally: &mut Tally) -> Vec<(Image, Level, Diagnosis)> {
        let mut found = Vec::new();
        for container in &self.pod.containers {
            let image = Image::new(&container.image);
            let (level, told) = self.judge(&image, &container.pull);
            let is_ours = told.opened_by.is_some() && told.credential.is_some();
            tally.opened |= is_ours;
            tally.unsure |= told.unsure;
            tally.bare |= container.pull == Pull::Done && !is_ours;
            tally.worst = [tally.worst, level].into_iter().flatten().min();
            found.extend(level.map(|level| (image, level, told)));
        }
        found
    }

    fn judge(&self, image: &Image, pull: &Pull) -> (Option<Level>, Diagnosis) {
        if matches!(pull, Pull::Failed { .. }) {
            let told = self.diagnose(image, &self.pod.list, pull);
            let short = if told.opened_by.is_some() { beyond(&told, pull) } else { told.short.clone() };
            return (Some(Level::Fail), Diagnosis { short, ..told });
        }
        let list = self.next_list();
        let told = self.diagnose(image, &list, pull);
        (self.is_risk(image, pull, &list, &told).then_some(Level::Risk), told)
    }

    /// Whether what has pulled would find no entry again, though some namespace gets one from a RegistryCredential. A name that was
    /// not read may be of the Secret that it pulled with.
    fn is_risk(&self, image: &Image, pull: &Pull, list: &[String], told: &Diagnosis) -> bool {
        let Some(reason) = told.reason.filter(|_| *pull == Pull::Done) else { return false };
        let is_known = |name: &String| {
            let is_ours = |(_, entry): (_, &CredentialEntry)| *entry.planned.scope.target_name == **name;
            self.scene.credentials().any(is_ours)
                || self
                    .scene
                    .look(&self.pod.namespace, name)
                    .is_some_and(|look| !matches!(look, Look::Refused))
        };
        let serves = |name: &str| self.served.get(name).is_some_and(|served| !served.is_empty());
        let is_served = || self.scene.openers(image).iter().any(|(name, _)| serves(name));
        reason == Reason::NotInPlace || (list.iter().all(is_known) && is_served())
    }

    /// What the next Pod of the workload gets: the list that its template has, or else its ServiceAccount's.
    fn next_list(&self) -> Vec<String> {
        let account = self.place.and_then(|place| place.account(&self.pod.account));
        match account {
            Some(account) if !is_own_list(self.place, &self.pod.account, &self.pod.list) => {
                account.image_pull_secrets.iter().map(ToString::to_string).collect()
            }
            _ => self.pod.list.clone(),
        }
    }

    fn diagnose(&self, image: &Image, list: &[String], pull: &Pull) -> Diagnosis {
        let Pod { namespace, name, workload, account, .. } = self.pod;
        let complaint = pull.complaint();
        let subject = Subject { namespace, pod: Some((name, workload)), account, list, image, complaint };
        diagnose(self.scene, self.place, &subject)
    }
}

/// The entry is in place, and the pull fails for something else.
fn beyond(told: &Diagnosis, pull: &Pull) -> String {
    let said = match pull {
        Pull::Failed { hint: Some(hint), .. } => format!("; the kubelet says: {hint}"),
        _ => String::new(),
    };
    format!("{}{said}", told.short)
}

impl Summary {
    fn add(&mut self, tally: &Tally) {
        match tally.worst {
            Some(Level::Fail) => self.cannot_pull += 1,
            Some(Level::Risk) => self.would_not_pull_again += 1,
            None if tally.unsure => self.unknown += 1,
            None if tally.opened => self.by_registry_credential += 1,
            None if tally.bare => self.without_entry += 1,
            None => {}
        }
    }

    fn line(&self) -> String {
        let read = match self.secrets_read {
            0 => "No Secret was read.".to_owned(),
            count => format!("{} read.", counted(count, "Secret")),
        };
        let Self { pods, cannot_pull, would_not_pull_again, by_registry_credential, without_entry, .. } =
            self;
        let unknown = match self.unknown {
            0 => String::new(),
            unknown => format!(", {unknown} with one that may not be in place"),
        };
        format!(
            "{cannot_pull} cannot pull, {would_not_pull_again} would not pull again; {}: {by_registry_credential} by \
             RegistryCredential, {without_entry} pulled without an entry of ours{unknown}. {read}",
            counted(*pods, "Pod")
        )
    }
}

impl AuditReport {
    /// Whether there is anything of this level or worse.
    pub(crate) fn has(&self, level: Level) -> bool {
        self.findings.iter().any(|finding| finding.level <= level)
    }
}

impl Report for AuditReport {
    const KIND: &'static str = "AuditReport";

    fn text(&self, style: Style) -> String {
        let mut columns = vec![
            ("LEVEL", 5),
            ("NAMESPACE", 18),
            ("WORKLOAD", 28),
            ("IMAGE", 28),
            ("REASON", 25),
            ("WHY", 0),
        ];
        if style.wide {
            columns.push(("FIX", 0));
        }
        let mut table = Table::new(&columns).keeping(REASON);
        for finding in &self.findings {
            finding.row(&mut table, style);
        }
        let paint = |level: &str| match level {
            "FAIL" => Some(Colour::Red),
            "RISK" => Some(Colour::Yellow),
            _ => None,
        };
        let unread = self.unread.iter().map(|line| format!("{line}\n"));
        table.text(style, paint) + &self.summary.line() + "\n" + &unread.collect::<String>()
    }

    fn names(&self) -> Vec<String> {
        let name = |finding: &Finding| format!("{}/{}", finding.namespace, finding.workload);
        self.findings.iter().map(name).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

impl Finding {
    fn row(&self, table: &mut Table, style: Style) {
        let Self { level, namespace, image, why, .. } = self;
        let workload = match self.pods.len() {
            1 => self.workload.clone(),
            count => format!("{} {count}×", self.workload),
        };
        let reason = self.reason.map_or("-", Reason::as_str);
        let cells = [level.as_str(), namespace, &workload, image, reason, why];
        if style.wide {
            let [level, namespace, workload, image, reason, why] = cells;
            table.row([level, namespace, workload, image, reason, why, self.fix.as_deref().unwrap_or("-")]);
        } else {
            table.row(cells);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scene::fixtures::Stage;

    const PLAIN: Style = Style { colour: false, headers: true, wide: false };
    const IMAGE: &str = "ghcr.io/acme/app:1";

    /// A namespace that is served, and one that is not.
    fn cluster() -> Stage {
        let stage = Stage::new().credential("platform-pull", "ghcr.io", &json!({}));
        let stage = stage.namespace("shop", &json!({"pull": "private"})).namespace("team-b", &json!({}));
        stage.account("shop", "default", &["platform-pull"]).account("team-b", "default", &[])
    }

    fn text(stage: &Stage) -> String {
        report(&stage.0, By::Workload).text(PLAIN)
    }

    fn levels(stage: &Stage) -> Vec<(Level, Option<Reason>)> {
        report(&stage.0, By::Pod).findings.iter().map(|finding| (finding.level, finding.reason)).collect()
    }

    #[test]
    fn findings_are_one_line_for_each_workload() {
        let stage = cluster().pod("team-b/other", &[], IMAGE, "ImagePullBackOff");
        let stage = stage.pod("shop/etl:StatefulSet", &["quay"], IMAGE, "ErrImagePull");
        let stage =
            stage.pod("shop/ok", &["platform-pull"], IMAGE, "").pod("team-b/public", &[], "nginx", "");
        let wanted = "\
LEVEL  NAMESPACE  WORKLOAD         IMAGE               REASON                WHY
FAIL   shop       statefulset/etl  ghcr.io/acme/app:1  OwnList               lists [quay] itself; ServiceAccount's [pla…
FAIL   team-b     pod/other        ghcr.io/acme/app:1  NamespaceNotSelected  platform-pull opens it; label pull=private
2 cannot pull, 0 would not pull again; 4 Pods: 1 by RegistryCredential, 1 pulled without an entry of ours. No Secret was read.
";
        assert_eq!(text(&stage), wanted, "{}", text(&stage));
        assert!(report(&stage.0, By::Workload).has(Level::Fail));
    }

    #[test]
    fn what_has_pulled_is_a_risk_only_where_the_registry_is_served_to_others() {
        let ecr = "1.dkr.ecr.eu-west-1.amazonaws.com/app:1";
        assert_eq!(levels(&cluster().pod("team-b/p", &[], ecr, "")), [], "the node's own credential");
        assert_eq!(
            levels(&cluster().pod("team-b/p", &[], IMAGE, "")),
            [(Level::Risk, Some(Reason::NamespaceNotSelected))]
        );
        let alone = Stage::new().credential("pull", "ghcr.io", &json!({})).namespace("a", &json!({}));
        assert_eq!(levels(&alone.pod("a/p", &[], IMAGE, "")), [], "served to nobody");
    }

    #[test]
    fn a_list_of_its_own_that_was_not_read_may_be_what_it_pulled_with() {
        let own = || cluster().pod("shop/web:StatefulSet", &["legacy"], IMAGE, "");
        assert_eq!(levels(&own()), []);
        let gone = own().secret("shop/legacy", Look::OtherType);
        assert_eq!(levels(&gone), [(Level::Risk, Some(Reason::WrongType))]);
        let config = br#"{"auths":{"ghcr.io":{"auth":"dTpw"}}}"#.to_vec();
        let good = own().secret("shop/legacy", Look::Config(config.into()));
        assert_eq!(levels(&good), []);
    }

    #[test]
    fn what_was_not_read_is_not_said_to_be_missing() {
        let mut stage = Stage::new().namespace("a", &json!({})).pod("a/p", &[], IMAGE, "ErrImagePull");
        stage.0.unread.note(crate::scene::CREDENTIALS, None);
        assert!(text(&stage).contains("RegistryCredentials were not read"), "{}", text(&stage));
        let stage = Stage::new()
            .credential("pull", "ghcr.io", &json!({}))
            .namespace("a", &json!({"pull": "private"}));
        let stage = stage.pod("a/p", &["x"], IMAGE, "ErrImagePull");
        assert_eq!(levels(&stage), [(Level::Fail, None)]);
        assert!(text(&stage).contains("ServiceAccount default was not read"), "{}", text(&stage));
    }

    #[test]
    fn the_first_hour_after_installation_has_no_stale_pods() {
        let stage = cluster().pod("shop/web:DaemonSet", &[], IMAGE, "").pod("shop/bare", &[], IMAGE, "");
        assert_eq!(levels(&stage), [], "the next Pod takes the list of the ServiceAccount");
        assert_eq!(
            levels(&cluster().pod("shop/p", &[], IMAGE, "ErrImagePull")),
            [(Level::Fail, Some(Reason::StalePod))]
        );
    }

    /// Evidence before theory: a label on the namespace would not mend it.
    #[test]
    fn a_secret_that_the_kubelet_cannot_decode_is_told_of_unread() {
        let said = "illegal base64 data at input byte 0";
        let stage = cluster().pod("team-b/p", &["broken"], IMAGE, said).pod(
            "shop/q",
            &["a", "platform-pull"],
            IMAGE,
            said,
        );
        assert_eq!(levels(&stage), [(Level::Fail, Some(Reason::Undecodable)); 2], "{}", text(&stage));
        let told = report(&stage.0, By::Pod).findings;
        let fix = |at: usize| told[at].fix.clone().unwrap();
        assert_eq!(fix(0), "kubectl regcred explain -n shop pod/q --deep");
        assert!(fix(1).starts_with("kubectl -n team-b create secret docker-registry broken "), "{}", fix(1));
    }

    #[test]
    fn a_pull_that_fails_for_something_else_is_told_of_without_a_reason() {
        let stage = cluster().pod("shop/p", &["platform-pull"], IMAGE, "ErrImagePull");
        assert_eq!(levels(&stage), [(Level::Fail, None)]);
        assert!(text(&stage).contains("platform-pull is in place; the kubelet"), "{}", text(&stage));
    }

    #[test]
    fn a_pod_is_not_counted_by_a_secret_of_which_status_does_not_say_that_it_is_there() {
        let line = |matched: usize, synced: usize| {
            let more = json!({"status": {"namespaces": {"matched": matched, "synced": synced}}});
            let stage = Stage::new().credential("platform-pull", "ghcr.io", &more);
            let stage = stage.namespace("shop", &json!({"pull": "private"}));
            let stage = stage.namespace("new", &json!({"pull": "private"}));
            let stage = stage.account("shop", "default", &["platform-pull"]);
            let text = text(&stage.pod("shop/p", &["platform-pull"], IMAGE, ""));
            text.lines().last().unwrap().to_owned()
        };
        let counted = "0 cannot pull, 0 would not pull again; 1 Pod:";
        let (by_us, read) =
            ("1 by RegistryCredential, 0 pulled without an entry of ours", "No Secret was read.");
        assert_eq!(line(2, 2), format!("{counted} {by_us}. {read}"));
        let unsure =
            "0 by RegistryCredential, 0 pulled without an entry of ours, 1 with one that may not be in place";
        assert_eq!(line(2, 1), format!("{counted} {unsure}. {read}"));
        // A namespace is newer than the status.
        assert_eq!(line(1, 1), format!("{counted} {unsure}. {read}"));
        assert!(line(2, 0).starts_with("0 cannot pull, 1 would not pull again"));
    }

    #[test]
    fn the_longest_names_leave_room_for_why_in_120_columns() {
        let (namespace, image) = ("n".repeat(63), format!("ghcr.io/{}:1", "i".repeat(200)));
        let stage = Stage::new().credential("platform-pull", "ghcr.io", &json!({}));
        let stage = stage.namespace(&namespace, &json!({"pull": "private"}));
        let stage = stage.account(&namespace, "builder", &[]);
        let stage = stage.pod_of(
            &format!("{namespace}/{}:StatefulSet", "w".repeat(200)),
            "builder",
            &[],
            &image,
            "ErrImagePull",
        );
        let text = text(&stage);
        assert!(text.lines().take(2).all(|line| line.chars().count() <= 120), "{text}");
        assert!(text.contains("ServiceAccountNotSelected  platform-pull opens it, not f"), "{text}");
    }

    #[test]
    fn pods_of_a_workload_are_counted_and_no_line_is_too_long() {
        let mut stage = cluster();
        for _ in 0..4 {
            stage = stage.pod(
                "team-b/report-with-quite-a-long-name:Deployment",
                &[],
                &format!("ghcr.io/{}", "a/".repeat(60) + "b"),
                "",
            );
        }
        for (at, pod) in stage.0.pods.iter_mut().enumerate() {
            pod.name = format!("p{at}");
        }
        let text = text(&stage);
        assert!(text.lines().take(2).all(|line| line.chars().count() <= 120), "{text}");
        let json = serde_json::to_value(report(&stage.0, By::Workload)).unwrap();
        assert_eq!(json["findings"][0]["pods"], json!(["p0", "p1", "p2", "p3"]));
        assert_eq!(json["summary"]["wouldNotPullAgain"], 4);
    }
}
