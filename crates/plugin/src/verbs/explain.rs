//! `explain`: why an image will, or will not, be pulled.

use regcred_registry::Registries;
use serde::Serialize;

use crate::diagnose::{Diagnosis, Reason, Subject, diagnose, is_own_list};
use crate::pod::{Container, Pod, Pull};
use crate::print::{Colour, Report, Style};
use crate::probe;
use crate::scene::{Image, Place, Scene};
use crate::text::{bracketed, plain};

/// The report.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExplainReport {
    namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<String>,
    service_account: String,
    images: Vec<Explained>,
    unread: Vec<String>,
}

/// One image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Explained {
    image: String,
    /// What the kubelet says, and of which container.
    seen: String,
    sees: String,
    /// It is on the node.
    pulled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    opened_by: Option<String>,
    why: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    then: Option<String>,
    notes: Vec<String>,
    /// What the registry said to the logins that the kubelet would try.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    probe: Vec<String>,
    /// As the Pod names it.
    #[serde(skip)]
    whole: Image,
}

/// Explains each image of a Pod.
pub(crate) fn pod(scene: &Scene, pod: &Pod) -> ExplainReport {
    let place = scene.place(&pod.namespace);
    let mut images: Vec<Explained> = Vec::new();
    for container in &pod.containers {
        let explained = of_container(scene, place.as_ref(), pod, container);
        if images.iter().all(|other| other.image != explained.image || other.seen != explained.seen) {
            images.push(explained);
        }
    }
    ExplainReport {
        namespace: pod.namespace.clone(),
        pod: Some(pod.name.clone()),
        service_account: pod.account.clone(),
        images,
        unread: scene.unread.lines(),
    }
}

/// Explains an image that a Pod of this ServiceAccount would pull.
pub(crate) fn image(scene: &Scene, namespace: &str, account: &str, image: &str) -> ExplainReport {
    let place = scene.place(namespace);
    let known = place.as_ref().and_then(|place| place.account(account));
    let list: Vec<String> =
        known.iter().flat_map(|known| &known.image_pull_secrets).map(ToString::to_string).collect();
    let sees = match known {
        None => format!("ServiceAccount {account} was not read, or does not exist"),
        Some(_) if list.is_empty() => format!("no pull secret: ServiceAccount {account} lists none"),
        Some(_) => format!("{} of ServiceAccount {account}", bracketed(&list)),
    };
    let image = Image::new(image);
    let subject = Subject { namespace, pod: None, account, list: &list, image: &image, complaint: None };
    let told = diagnose(scene, place.as_ref(), &subject);
    ExplainReport {
        namespace: namespace.to_owned(),
        pod: None,
        service_account: account.to_owned(),
        images: vec![explained(&image, "", sees, false, told)],
        unread: scene.unread.lines(),
    }
}

fn of_container(scene: &Scene, place: Option<&Place>, pod: &Pod, container: &Container) -> Explained {
    let image = Image::new(&container.image);
    let subject = Subject {
        namespace: &pod.namespace,
        pod: Some((&pod.name, &pod.workload)),
        account: &pod.account,
        list: &pod.list,
        image: &image,
        complaint: container.pull.complaint(),
    };
    let told = diagnose(scene, place, &subject);
    let seen = format!("container {}{}", container.name, evidence(&container.pull));
    explained(&image, &seen, sees(place, pod), container.pull == Pull::Done, told)
}

fn evidence(pull: &Pull) -> String {
    match pull {
        Pull::Done => ", pulled".to_owned(),
        Pull::Failed { reason, hint: Some(hint) } => format!(", {reason} ({hint})"),
        Pull::Failed { reason, hint: None } => format!(", {reason}"),
        Pull::Unknown => String::new(),
    }
}

fn sees(place: Option<&Place>, pod: &Pod) -> String {
    let known = place.and_then(|place| place.account(&pod.account));
    let account = match known {
        None => format!("ServiceAccount {} was not read, or does not exist", pod.account),
        Some(known) if known.image_pull_secrets.is_empty() => {
            format!("ServiceAccount {} lists none", pod.account)
        }
        Some(known) => {
            format!("ServiceAccount {} lists {}", pod.account, bracketed(&known.image_pull_secrets))
        }
    };
    if pod.list.is_empty() {
        format!("no pull secret: pod.spec.imagePullSecrets is empty, and {account}")
    } else if is_own_list(place, &pod.account, &pod.list) {
        format!("{} of the Pod's own; {account}", bracketed(&pod.list))
    } else {
        format!("{}, as its ServiceAccount {} has them", bracketed(&pod.list), pod.account)
    }
}

/// An image that is on the node is told of as such, whatever its list says.
fn explained(image: &Image, seen: &str, sees: String, pulled: bool, told: Diagnosis) -> Explained {
    let has_pulled = pulled && told.opened_by.is_none();
    let note = has_pulled.then(|| {
        "it has pulled all the same: it is public, or the node has a credential of its own; what follows counts for the next pull".to_owned()
    });
    Explained {
        image: plain(&image.text),
        seen: plain(seen),
        sees,
        pulled,
        reason: told.reason,
        opened_by: told.opened_by,
        why: told.why,
        fix: told.fix,
        then: told.then,
        notes: note.into_iter().chain(told.notes).collect(),
        probe: Vec::new(),
        whole: image.clone(),
    }
}

impl ExplainReport {
    /// Asks the registry of each image with what the kubelet would try.
    pub(crate) async fn probe(&mut self, registries: &Registries, scene: &Scene, list: &[String]) {
        for image in &mut self.images {
            image.probe = probe::ask(registries, scene, &self.namespace, list, &image.whole).await;
        }
    }

    /// Whether an image that has not pulled finds no entry.
    pub(crate) fn has_finding(&self) -> bool {
        self.images.iter().any(|image| !image.pulled && image.opened_by.is_none())
    }
}

impl Report for ExplainReport {
    const KIND: &'static str = "ExplainReport";

    fn text(&self, style: Style) -> String {
        let images = self.images.iter().map(|image| image.text(style)).collect::<Vec<_>>().join("\n");
        images + &self.unread.iter().map(|line| field("note", line)).collect::<String>()
    }

    fn names(&self) -> Vec<String> {
        self.images.iter().map(|image| image.image.clone()).collect()
    }
}

impl Explained {
    fn text(&self, style: Style) -> String {
        let (first, more) =
            self.why.split_first().map_or(("", &[][..]), |(first, more)| (first.as_str(), more));
        let colour = if self.opened_by.is_some() || self.pulled { Colour::Green } else { Colour::Red };
        let image = format!("{}   {}", style.paint(colour, &self.image), self.seen);
        let reason = self.reason.map_or_else(String::new, |reason| format!("{}: ", reason.as_str()));
        let fix = self.fix.iter().map(|fix| field("fix", fix));
        let then = self
            .then
            .iter()
            .map(|then| field("then", &format!("{then}   # a Pod takes its list when it is made")));
        let notes = self.notes.iter().map(|note| field("note", note));
        field("image", image.trim_end())
            + &field("sees", &self.sees)
            + &field("why", &format!("{reason}{first}"))
            + &more.iter().map(|line| field("", line)).collect::<String>()
            + &self.probe.iter().map(|said| field("asked", said)).collect::<String>()
            + &fix.chain(then).chain(notes).collect::<String>()
    }
}

fn field(name: &str, text: &str) -> String {
    format!("{name:<8} {text}\n")
}

#[cfg(test)]
mod tests {
    use regcred_dockerconfig::SecretBytes;
    use serde_json::{Value, json};

    use super::*;
    use crate::scene::Look;
    use crate::scene::fixtures::Stage;

    const PLAIN: Style = Style { colour: false, headers: true, wide: false };
    const IMAGE: &str = "ghcr.io/acme/app:1";

    /// A namespace that is selected, with its ServiceAccount, and the credential in place.
    fn shop(more: &Value) -> Stage {
        let stage = Stage::new().credential("platform-pull", "ghcr.io", more);
        stage.namespace("shop", &json!({"pull": "private"})).account(
            "shop",
            "default",
            &["hub", "platform-pull"],
        )
    }

    fn first(stage: &Stage) -> ExplainReport {
        pod(&stage.0, stage.0.pods.first().expect("a Pod"))
    }

    fn told(stage: &Stage) -> (Option<Reason>, String) {
        let report = first(stage);
        let image = &report.images[0];
        (image.reason, image.fix.clone().unwrap_or_default())
    }

    #[test]
    fn the_text_says_what_is_seen_why_and_what_to_do() {
        let stage =
            Stage::new().credential("platform-pull", "ghcr.io", &json!({})).namespace("team-b", &json!({}));
        let stage = stage.account("team-b", "builder", &[]).pod_of(
            "team-b/other-sa",
            "builder",
            &[],
            IMAGE,
            "ImagePullBackOff",
        );
        let wanted = "\
image    ghcr.io/acme/app:1   container c, ImagePullBackOff (401 Unauthorized)
sees     no pull secret: pod.spec.imagePullSecrets is empty, and ServiceAccount builder lists none
why      NamespaceNotSelected: no RegistryCredential that opens ghcr.io selects namespace team-b
           platform-pull   namespaces with pull=private; team-b has no such label
fix      kubectl label namespace team-b pull=private
then     kubectl -n team-b get pod other-sa -o yaml | kubectl replace --force -f -   # a Pod takes its list when it is made
note     platform-pull does not select ServiceAccount builder either: also add serviceAccounts.matchNames [builder]
";
        let report = first(&stage);
        assert_eq!(report.text(PLAIN), wanted, "{}", report.text(PLAIN));
        assert!(report.has_finding());
    }

    #[test]
    fn a_service_account_that_is_not_selected_is_named_in_the_spec() {
        let stage = shop(&json!({})).account("shop", "builder", &[]);
        let (reason, fix) = told(&stage.pod_of("shop/p", "builder", &[], IMAGE, "ErrImagePull"));
        let patch =
            r#"[{"op":"add","path":"/spec/serviceAccounts","value":{"matchNames":["default","builder"]}}]"#;
        assert_eq!(
            (reason, fix),
            (
                Some(Reason::ServiceAccountNotSelected),
                format!("kubectl patch regcred platform-pull --type json -p '{patch}'")
            )
        );
    }

    #[test]
    fn a_name_is_not_proposed_that_would_not_be_selected() {
        let fix = |accounts: Value| {
            let stage = shop(&json!({"spec": {"serviceAccounts": accounts}})).account("shop", "builder", &[]);
            told(&stage.pod_of("shop/p", "builder", &[], IMAGE, "ErrImagePull")).1
        };
        assert_eq!(fix(json!({"from": "None"})), "kubectl edit regcred platform-pull");
        let excluded = json!({"matchNames": ["default"], "exclude": ["build*"]});
        assert_eq!(fix(excluded), "kubectl edit regcred platform-pull");
        let named = fix(json!({"matchNames": ["default"]}));
        assert!(
            named.ends_with(
                r#"-p '[{"op":"add","path":"/spec/serviceAccounts/matchNames/-","value":"builder"}]'"#
            ),
            "{named}"
        );
    }

    #[test]
    fn a_pod_from_before_the_entry_is_made_again() {
        let (reason, fix) =
            told(&shop(&json!({})).pod("shop/web:DaemonSet", &["hub"], IMAGE, "ErrImagePull"));
        assert_eq!(
            (reason, fix.as_str()),
            (Some(Reason::StalePod), "kubectl -n shop rollout restart daemonset/web")
        );
    }

    #[test]
    fn a_list_of_its_own_gets_the_entry_added() {
        let (reason, fix) =
            told(&shop(&json!({})).pod("shop/web:StatefulSet", &["legacy"], IMAGE, "ErrImagePull"));
        let patch = r#"[{"op":"add","path":"/spec/template/spec/imagePullSecrets/-","value":{"name":"platform-pull"}}]"#;
        assert_eq!(
            (reason, fix),
            (
                Some(Reason::OwnList),
                format!("kubectl -n shop patch statefulset web --type json -p '{patch}'")
            )
        );
    }

    #[test]
    fn a_name_that_regcred_does_not_serve_here_is_dead() {
        let stage =
            Stage::new().credential("platform-pull", "ghcr.io", &json!({})).namespace("away", &json!({}));
        let (reason, fix) = told(&stage.pod("away/p", &["platform-pull"], IMAGE, "ErrImagePull"));
        assert_eq!(
            (reason, fix.as_str()),
            (Some(Reason::DeadReference), "kubectl label namespace away pull=private")
        );
        let foreign = Stage::new().namespace("away", &json!({})).pod(
            "away/p",
            &["gone"],
            IMAGE,
            "FailedToRetrieveImagePullSecret",
        );
        assert_eq!(told(&foreign).0, Some(Reason::DeadReference));
        let unread =
            Stage::new().namespace("away", &json!({})).pod("away/p", &["gone"], IMAGE, "ErrImagePull");
        let report = first(&unread);
        assert_eq!(report.images[0].reason, None);
        assert!(
            report.images[0].why[0].contains("lists [gone], not read"),
            "never missing: {:?}",
            report.images[0].why
        );
    }

    #[test]
    fn what_the_operator_says_follows() {
        let more = json!({"status": {"failures": [{"namespace": "shop", "kind": "Secret", "name": "platform-pull",
            "reason": "Forbidden", "message": "refused by ValidatingAdmissionPolicy team-policy", "since": "2026-11-25T03:29:00Z"}]}});
        let report = first(&shop(&more).pod("shop/p", &["hub", "platform-pull"], IMAGE, "ErrImagePull"));
        assert_eq!(report.images[0].reason, Some(Reason::NotInPlace));
        assert_eq!(report.images[0].why[1], "  Forbidden: refused by ValidatingAdmissionPolicy team-policy");
    }

    /// A credential that its registry rejects and the spec holds back; `more` is merged into its status.
    fn held(kept: &str, mut more: Value) -> Value {
        let said = "ghcr.io rejects the user and password (HTTP 401); put good ones into the source";
        let source = json!({"type": "SourceReady", "status": "False", "reason": "Rejected", "message": said,
                            "lastTransitionTime": "2026-11-25T11:00:00Z"});
        more["conditions"] = json!([source]);
        more["registries"] = json!([{"server": "ghcr.io", "source": "Secret", "fingerprint": kept,
            "refreshedAt": "2026-11-25T11:00:00Z",
            "verification": {"reason": "Rejected", "message": said, "fingerprint": "713687de",
                             "checkedAt": "2026-11-25T11:00:00Z", "nextCheckAt": "2026-11-25T23:00:00Z"}}]);
        json!({"spec": {"verify": {"mode": "Login", "onRejected": "Hold"}}, "status": more})
    }

    fn of_shop(more: &Value, list: &[&str], state: &str) -> ExplainReport {
        first(&shop(more).pod("shop/p", list, IMAGE, state))
    }

    #[test]
    fn a_secret_that_no_namespace_has_is_not_said_to_be_in_place() {
        let more = held("713687de", json!({"namespaces": {"matched": 1, "synced": 0}, "fingerprint": null}));
        let report = of_shop(&more, &["hub", "platform-pull"], "ErrImagePull");
        let image = &report.images[0];
        assert_eq!((image.reason, image.opened_by.as_deref()), (Some(Reason::NotInPlace), None));
        assert_eq!(
            image.why[1],
            "  Rejected: ghcr.io rejects the user and password (HTTP 401); put good ones into the source"
        );
        assert!(report.has_finding());
    }

    #[test]
    fn a_copy_without_an_entry_for_the_server_is_told_of() {
        // The Secret is there for other servers.
        let more =
            held("713687de", json!({"namespaces": {"matched": 1, "synced": 1}, "fingerprint": "sha256:1"}));
        let report = of_shop(&more, &["platform-pull"], "ErrImagePull");
        assert_eq!(report.images[0].reason, Some(Reason::NotInPlace), "{:?}", report.images[0].why);
    }

    #[test]
    fn where_status_does_not_say_which_namespaces_wait_nothing_is_claimed_of_one() {
        let some = json!({"namespaces": {"matched": 4, "synced": 3}, "fingerprint": "sha256:1"});
        let more = held("9051365c", some);
        let told = |state: &str, list: &[&str]| {
            let Explained { reason, opened_by, why, notes, .. } =
                of_shop(&more, list, state).images.remove(0);
            (reason, opened_by, why, notes)
        };
        let (reason, opened_by, why, notes) = told("ErrImagePull", &["platform-pull"]);
        assert_eq!((reason, opened_by), (None, None));
        assert_eq!(
            why,
            [
                "platform-pull opens ghcr.io and is on the list; 3 of 4 namespaces have its Secret, and status does not say which",
                "  Rejected: ghcr.io rejects the user and password (HTTP 401); put good ones into the source",
            ]
        );
        assert!(notes.iter().any(|note| note.contains("--deep looks")), "{notes:?}");
        // The kubelet says which, where the list has no other name.
        assert_eq!(told("FailedToRetrieveImagePullSecret", &["platform-pull"]).0, Some(Reason::NotInPlace));
        assert_eq!(told("FailedToRetrieveImagePullSecret", &["hub", "platform-pull"]).0, None);
    }

    #[test]
    fn a_status_of_another_spec_says_nothing_of_a_namespace() {
        let report = of_shop(&json!({"metadata": {"generation": 2}}), &["platform-pull"], "ErrImagePull");
        assert!(report.images[0].opened_by.is_none(), "{:?}", report.images[0].why);
        assert!(report.images[0].why[0].ends_with("the operator has not seen its generation 2 yet"));
    }

    #[test]
    fn a_secret_that_was_read_says_more_than_status() {
        let with = |counts: Value, look: Look| {
            let stage = shop(&held("9051365c", json!({"namespaces": counts, "fingerprint": "sha256:1"})));
            let stage = stage.secret("shop/platform-pull", look);
            first(&stage.pod("shop/p", &["platform-pull"], IMAGE, "ErrImagePull"))
        };
        let (some, all) = (json!({"matched": 4, "synced": 3}), json!({"matched": 4, "synced": 4}));
        let good = with(some.clone(), config(r#"{"auths":{"ghcr.io":{"auth":"dTpw"}}}"#));
        assert_eq!(good.images[0].opened_by.as_deref(), Some("platform-pull"));
        for report in [
            with(some.clone(), Look::Missing),
            with(all.clone(), Look::Missing),
            with(all, config(r#"{"auths":{"quay.io":{"auth":"dTpw"}}}"#)),
        ] {
            assert_eq!(report.images[0].reason, Some(Reason::NotInPlace));
            assert!(
                report.images[0].why[1].contains("Rejected: ghcr.io rejects"),
                "{:?}",
                report.images[0].why
            );
        }
    }

    #[test]
    fn a_suspended_credential_that_is_in_place_opens_all_the_same() {
        let suspended = |synced: usize| json!({"spec": {"suspend": true}, "status": {"namespaces": {"matched": 1, "synced": synced}}});
        let report = of_shop(&suspended(1), &["platform-pull"], "ErrImagePull");
        assert_eq!(report.images[0].opened_by.as_deref(), Some("platform-pull"));
        let report = of_shop(&suspended(0), &["platform-pull"], "ErrImagePull");
        assert!(report.images[0].why[1].starts_with("  Suspended"), "{:?}", report.images[0].why);
        assert_eq!(
            report.images[0].fix.as_deref(),
            Some(r#"kubectl patch regcred platform-pull --type merge -p '{"spec":{"suspend":false}}'"#)
        );
    }

    #[test]
    fn a_good_password_that_copies_keep_is_told_apart_from_the_rejected_one() {
        let all = json!({"namespaces": {"matched": 1, "synced": 1}, "fingerprint": "sha256:1"});
        let report = of_shop(&held("9051365c", all), &["platform-pull"], "");
        let image = &report.images[0];
        assert_eq!((image.reason, image.opened_by.as_deref()), (None, Some("platform-pull")));
        assert_eq!(
            image.notes,
            [
                "new credential 713687de is rejected; copies keep 9051365c. Of the new one: ghcr.io rejects the user and \
              password (HTTP 401); put good ones into the source"
            ]
        );
    }

    #[test]
    fn nobody_is_sent_to_mend_what_the_operator_does_not_name() {
        let notes = |more: &Value, list: &[&str]| {
            let stage = shop(more).account("shop", "late", &[]);
            first(&stage.pod_of("shop/p", "late", list, IMAGE, "ErrImagePull")).images.remove(0).notes
        };
        let silent = json!({"spec": {"serviceAccounts": {"matchNames": ["late"]}}});
        let read_here = "the operator names nothing to mend; kubectl regcred status platform-pull says how far it is, and \
                         kubectl regcred check whether it runs";
        assert_eq!(notes(&silent, &[]), [read_here]);
        let more = json!({"status": {"failures": [{"namespace": "shop", "kind": "Secret", "name": "platform-pull",
            "reason": "Forbidden", "message": "refused by team-policy", "since": "2026-11-25T03:29:00Z"}]}});
        assert_eq!(
            notes(&more, &["platform-pull"]),
            ["first mend what the operator says: Forbidden: refused by team-policy"]
        );
    }

    #[test]
    fn nobody_is_sent_to_mend_another_namespace() {
        let ready = |reason: &str, omitted: usize| {
            let ready = json!({"type": "Ready", "status": "False", "reason": reason, "message": "0 of 2; away: Forbidden",
                               "lastTransitionTime": "2026-11-25T11:00:00Z"});
            let counts = json!({"matched": 2, "synced": 0, "failed": 1});
            let more =
                json!({"status": {"conditions": [ready], "namespaces": counts, "failuresOmitted": omitted}});
            of_shop(&more, &["platform-pull"], "ErrImagePull").images.remove(0)
        };
        let silent = "the operator names nothing to mend";
        let of_others = ready("PartiallySynced", 0);
        assert_eq!(of_others.why[1], "  the operator says nothing against it");
        assert!(of_others.notes[0].starts_with(silent), "{:?}", of_others.notes);
        let working = ready("Progressing", 0);
        assert_eq!(working.why[1], "  Progressing: 0 of 2; away: Forbidden");
        assert!(working.notes[0].starts_with(silent), "{:?}", working.notes);
        // Its own failure may be one of those that are not listed.
        assert!(ready("PartiallySynced", 3).notes[0].contains("PartiallySynced: 0 of 2"));
    }

    #[test]
    fn where_the_secret_is_refused_the_entry_is_not_awaited() {
        let more = json!({"status": {"failures": [{"namespace": "shop", "kind": "Secret", "name": "platform-pull",
            "reason": "NameConflict", "message": "Secret exists", "since": "2026-11-25T03:29:00Z"}]}});
        let stage = Stage::new().credential("platform-pull", "ghcr.io", &more);
        let stage = stage.namespace("shop", &json!({"pull": "private"})).account("shop", "default", &[]);
        let report = first(&stage.pod("shop/p", &[], IMAGE, "ErrImagePull"));
        assert_eq!(report.images[0].why[1], "  NameConflict: Secret exists");
    }

    #[test]
    fn a_held_credential_that_has_expired_is_not_that_in_copies() {
        let all = json!({"namespaces": {"matched": 1, "synced": 1}, "fingerprint": "sha256:1"});
        let mut more = held("9051365c", all);
        more["status"]["conditions"][0]["reason"] = json!("Expired");
        more["status"]["registries"][0]["verification"]["reason"] = json!("Expired");
        let report = of_shop(&more, &["platform-pull"], "");
        assert_eq!(
            report.images[0].opened_by.as_deref(),
            Some("platform-pull"),
            "{:?}",
            report.images[0].why
        );
    }

    #[test]
    fn where_status_does_not_say_whether_copies_have_the_entry_neither_is_claimed() {
        let mut more =
            held("713687de", json!({"namespaces": {"matched": 1, "synced": 1}, "fingerprint": "sha256:1"}));
        more["status"]["registries"][0]["refreshedAt"] = json!("2026-11-20T11:00:00Z");
        let image = of_shop(&more, &["platform-pull"], "ErrImagePull").images.remove(0);
        assert_eq!((image.reason, image.opened_by), (None, None));
        assert!(image.why[0].contains("status does not say whether copies have it"), "{:?}", image.why);
    }

    #[test]
    fn an_expired_credential_is_renewed_where_it_comes_from() {
        let more = json!({"status": {"registries": [{"server": "ghcr.io", "source": "Secret", "fingerprint": "f",
            "refreshedAt": "2026-01-01T00:00:00Z", "expiresAt": "2026-11-25T11:00:00Z"}]}});
        let (reason, fix) = told(&shop(&more).pod("shop/p", &["platform-pull"], IMAGE, "ErrImagePull"));
        assert_eq!(
            (reason, fix.as_str()),
            (Some(Reason::Expired), "kubectl -n regcred-system edit secret bot")
        );
    }

    fn config(text: &str) -> Look {
        Look::Config(SecretBytes::from(text.as_bytes().to_vec()))
    }

    #[test]
    fn secrets_that_were_read_have_three_more_reasons() {
        let with = |look: Look| {
            let stage = Stage::new().namespace("away", &json!({})).secret("away/mine", look);
            told(&stage.pod("away/p", &["mine"], IMAGE, "ErrImagePull")).0
        };
        assert_eq!(with(config(r#"{"auths":{"ghcr.io/other":{"auth":"dTpw"}}}"#)), Some(Reason::WrongKey));
        assert_eq!(with(config(r#"{"auths":{"GHCR.io":{"auth":"dTpw"}}}"#)), Some(Reason::WrongKey));
        assert_eq!(with(config(r#"{"auths":{"ghcr.io":{"auth":"!"}}}"#)), Some(Reason::Undecodable));
        assert_eq!(with(Look::OtherType), Some(Reason::WrongType));
        assert_eq!(with(Look::Missing), Some(Reason::DeadReference));
        assert_eq!(with(Look::Refused), None);
        assert_eq!(with(config(r#"{"auths":{"quay.io":{"auth":"dTpw"}}}"#)), None);
    }

    #[test]
    fn what_is_in_place_is_no_finding() {
        let report = first(&shop(&json!({})).pod("shop/p", &["hub", "platform-pull"], IMAGE, "ErrImagePull"));
        assert_eq!(
            (report.images[0].reason, report.images[0].opened_by.as_deref()),
            (None, Some("platform-pull"))
        );
        assert!(!report.has_finding());
    }

    #[test]
    fn an_image_may_be_asked_about_before_there_is_a_pod() {
        let stage = shop(&json!({}));
        assert!(!image(&stage.0, "shop", "default", IMAGE).has_finding());
        let other = image(&stage.0, "shop", "default", "quay.io/a/b:1");
        assert!(other.has_finding());
        assert_eq!(
            other.images[0].why,
            ["no RegistryCredential opens quay.io; lists [hub, platform-pull], not read"]
        );
    }

    #[test]
    fn an_image_that_is_on_the_node_is_no_finding() {
        let stage = Stage::new().credential("pull", "ghcr.io", &json!({})).namespace("a", &json!({}));
        let report = first(&stage.pod("a/p", &[], IMAGE, ""));
        assert!(!report.has_finding() && report.images[0].notes[0].contains("has pulled all the same"));
    }
}
