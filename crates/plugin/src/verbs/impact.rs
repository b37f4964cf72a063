//! `impact`: what loses its credential if a RegistryCredential goes.

use std::collections::{BTreeMap, BTreeSet};

use regcred_index::CredentialEntry;
use serde::Serialize;

use crate::diagnose::is_own_list;
use crate::pod::Pod;
use crate::print::{Report, Style, Table};
use crate::scene::{Image, Place, Scene};
use crate::text::{counted, plain, some};

/// How many other names a line has.
const NAMED: usize = 3;

/// The report.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImpactReport {
    name: String,
    uses: Vec<Use>,
    namespaces: usize,
    service_accounts: usize,
    workloads: usize,
    nothing_else: usize,
    unread: Vec<String>,
}

/// An image of a workload that is pulled with the credential.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Use {
    namespace: String,
    workload: String,
    pods: usize,
    image: String,
    /// Registry of the image.
    host: String,
    /// Other RegistryCredentials on the list that open it.
    also: Vec<String>,
    /// Other names on the list, which may open it: their Secrets are nobody's of ours.
    unknown: Vec<String>,
}

/// What one Pod pulls with the credential: namespace, workload, image, others that open it, other names.
type Key = (String, String, String, Vec<String>, Vec<String>);

/// What loses its credential if this RegistryCredential goes.
pub(crate) fn report(
    scene: &Scene,
    name: &str,
    entry: &CredentialEntry,
    namespace: Option<&str>,
) -> ImpactReport {
    let places = scene.places();
    let is_asked = |place: &str| namespace.is_none_or(|namespace| namespace == place);
    let held: Vec<&Place> = places
        .iter()
        .filter(|(place, _)| is_asked(place))
        .map(|(_, place)| place)
        .filter(|place| place.pair(entry).is_some())
        .collect();
    let accounts = held.iter().filter_map(|place| place.pair(entry)).map(|pair| pair.accounts.len()).sum();
    let uses = uses(scene, &places, name, entry);
    let workloads = |uses: &mut dyn Iterator<Item = &Use>| {
        uses.map(|found| (found.namespace.clone(), found.workload.clone())).collect::<BTreeSet<_>>().len()
    };
    ImpactReport {
        name: name.to_owned(),
        namespaces: held.len(),
        service_accounts: accounts,
        workloads: workloads(&mut uses.iter()),
        nothing_else: workloads(&mut uses.iter().filter(|found| found.has_nothing_else())),
        uses,
        unread: scene.unread.lines(),
    }
}

fn uses(scene: &Scene, places: &BTreeMap<String, Place>, name: &str, entry: &CredentialEntry) -> Vec<Use> {
    let mut found: BTreeMap<Key, BTreeSet<&str>> = BTreeMap::new();
    for pod in &scene.pods {
        let Some(place) = places.get(&pod.namespace).filter(|place| place.pair(entry).is_some()) else {
            continue;
        };
        let list = list(place, pod);
        if !list.iter().any(|listed| **listed == *entry.planned.scope.target_name) {
            continue;
        }
        for image in pod.containers.iter().map(|container| Image::new(&container.image)) {
            if scene.servers(name).iter().any(|server| image.is_opened_by(server)) {
                let (also, unknown) = others(scene, place, &list, name, &image);
                let key = (pod.namespace.clone(), pod.workload.text(), image.text, also, unknown);
                found.entry(key).or_default().insert(&pod.name);
            }
        }
    }
    found.into_iter().map(|(key, pods)| Use::new(key, pods.len())).collect()
}

/// What the next Pod of a workload has as its list.
fn list(place: &Place, pod: &Pod) -> Vec<String> {
    match place.account(&pod.account) {
        Some(account) if !is_own_list(Some(place), &pod.account, &pod.list) => {
            account.image_pull_secrets.iter().map(ToString::to_string).collect()
        }
        _ => pod.list.clone(),
    }
}

/// The other names of a list: RegistryCredentials that open the image, and names that are none of theirs.
fn others(
    scene: &Scene,
    place: &Place,
    list: &[String],
    name: &str,
    image: &Image,
) -> (Vec<String>, Vec<String>) {
    let (mut also, mut unknown) = (Vec::new(), Vec::new());
    let target = |entry: &CredentialEntry| entry.planned.scope.target_name.clone();
    for listed in list {
        let mut owners = scene.credentials().filter(|(_, entry)| *target(entry) == **listed).peekable();
        if owners.peek().is_none() {
            unknown.push(plain(listed));
        }
        let opens =
            |own: &str| own != name && scene.servers(own).iter().any(|server| image.is_opened_by(server));
        also.extend(
            owners
                .filter(|(own, entry)| opens(own) && place.pair(entry).is_some())
                .map(|(own, _)| own.to_string()),
        );
    }
    (also, unknown)
}

impl Use {
    fn new((namespace, workload, image, also, unknown): Key, pods: usize) -> Self {
        Self { namespace, workload, pods, host: Image::new(&image).host, image: plain(&image), also, unknown }
    }

    fn has_nothing_else(&self) -> bool {
        self.also.is_empty() && self.unknown.is_empty()
    }

    fn others(&self) -> String {
        if !self.also.is_empty() {
            format!("also {}", some(&self.also, NAMED, ", "))
        } else if !self.unknown.is_empty() {
            format!("also lists {}, not read", some(&self.unknown, NAMED, ", "))
        } else {
            format!("nothing else opens {}", self.host)
        }
    }

    fn effect(&self) -> &'static str {
        match self.workload.split('/').next() {
            _ if !self.has_nothing_else() => "",
            Some("cronjob") => "fails at the next run",
            _ => "pulls fail from the next new node on",
        }
    }
}

impl ImpactReport {
    /// Workloads of a namespace that have nothing else.
    pub(crate) fn left_without(&self, namespace: &str) -> usize {
        let own = self.uses.iter().filter(|found| found.namespace == namespace && found.has_nothing_else());
        own.map(|found| &found.workload).collect::<BTreeSet<_>>().len()
    }
}

impl Report for ImpactReport {
    const KIND: &'static str = "ImpactReport";

    fn text(&self, style: Style) -> String {
        let columns = [("NAMESPACE", 18), ("WORKLOAD", 28), ("IMAGE", 28), ("ELSE", 34), ("EFFECT", 0)];
        let mut table = Table::new(&columns);
        for found in &self.uses {
            let workload = match found.pods {
                1 => found.workload.clone(),
                pods => format!("{} {pods}×", found.workload),
            };
            table.row([&found.namespace, &workload, &found.image, &found.others(), found.effect()]);
        }
        let sum = format!(
            "{}, {}, {} would lose it; {} {} nothing else.\n",
            counted(self.namespaces, "namespace"),
            counted(self.service_accounts, "ServiceAccount"),
            counted(self.workloads, "workload"),
            self.nothing_else,
            if self.nothing_else == 1 { "has" } else { "have" }
        );
        let unread = self.unread.iter().map(|line| line.clone() + "\n");
        table.text(style, |_| None) + &sum + &unread.collect::<String>()
    }

    fn names(&self) -> Vec<String> {
        let own = self.uses.iter().filter(|found| found.has_nothing_else());
        let names = own.map(|found| format!("{}/{}", found.namespace, found.workload));
        names.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scene::fixtures::Stage;

    const PLAIN: Style = Style { colour: false, headers: false, wide: false };

    #[test]
    fn what_has_nothing_else_is_told_apart() {
        let private = json!({"pull": "private"});
        let stage = Stage::new().credential("platform-pull", "ghcr.io", &json!({}));
        let stage = stage.credential(
            "ci-pull",
            "ghcr.io/acme",
            &json!({"spec": {"namespaces": {"matchNames": ["billing"]}}}),
        );
        let stage =
            stage.namespace("shop", &private).namespace("billing", &private).namespace("other", &json!({}));
        let stage = stage.account("shop", "default", &["platform-pull"]);
        let stage = stage.account("billing", "default", &["platform-pull", "ci-pull"]).account(
            "other",
            "default",
            &[],
        );
        let stage = stage.pod("shop/web:StatefulSet", &[], "ghcr.io/acme/web:9", "");
        let stage = stage.pod("shop/report-28401234:Job", &["platform-pull"], "ghcr.io/acme/rep:7", "");
        let stage = stage.pod("shop/mixed", &["platform-pull", "hub"], "ghcr.io/acme/m:1", "").pod(
            "shop/hub",
            &[],
            "nginx",
            "",
        );
        let stage = stage.pod("billing/api:StatefulSet", &["platform-pull"], "ghcr.io/acme/api:4", "");
        let stage = stage.pod("other/x", &["platform-pull"], "ghcr.io/acme/x:1", "");
        let entry = stage.0.credential("platform-pull").unwrap();
        let told = report(&stage.0, "platform-pull", entry, None);
        let wanted = "\
billing  statefulset/api  ghcr.io/acme/api:4  also ci-pull
shop     cronjob/report   ghcr.io/acme/rep:7  nothing else opens ghcr.io  fails at the next run
shop     pod/mixed        ghcr.io/acme/m:1    also lists hub, not read
shop     statefulset/web  ghcr.io/acme/web:9  nothing else opens ghcr.io  pulls fail from the next new node on
2 namespaces, 2 ServiceAccounts, 4 workloads would lose it; 2 have nothing else.
";
        assert_eq!(told.text(PLAIN), wanted, "{}", told.text(PLAIN));
        assert_eq!((told.left_without("shop"), told.left_without("billing")), (2, 0));
        assert_eq!(report(&stage.0, "platform-pull", entry, Some("shop")).namespaces, 1);
    }
}
