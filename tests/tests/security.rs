//! What regcred's rights are worth: installed by Helm in both profiles, it does its job with the token that the chart
//! gives it, and that token can do nothing else; tenants get nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
};
use regcred_tests::{
    ControlPlane, Identity, Operator, OperatorOptions, Options, SECRET_KEY, SECRET_TYPE,
    canary::{CANARY, assert_no_canary},
    chart, eventually,
    install::{OPERATOR_NAMESPACE, OPERATOR_SERVICE_ACCOUNT},
    stolen_token::{Attack, Stop, attacks, entries, summary},
};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);
const TARGET: &str = "platform-pull";
/// A ServiceAccount whose tokens the operator may ask for.
const TOKENS: &str = "tokens.serviceAccounts={puller}";
const LISTED: &str = "targetNames={platform-pull}";

/// A cluster with a release of the chart, and everything in it that is worth attacking.
struct Site {
    control_plane: ControlPlane,
    client: Client,
}

impl Site {
    async fn installed(values: &[&str]) -> Self {
        // Without this controller, view, edit and admin grant nothing.
        let aggregation = "--controllers=clusterrole-aggregation-controller".to_owned();
        let options = Options { controller_manager_flags: vec![aggregation], ..Options::default() };
        let control_plane = ControlPlane::start(options).await.unwrap();
        let notes = chart::install(&control_plane, &[values, &[TOKENS]].concat()).await.unwrap();
        assert!(notes.contains("kubectl apply -f -"), "{notes}");
        let client = control_plane.admin().await.unwrap();
        let site = Self { control_plane, client };
        // A Secret of the target name that is not regcred's, to probe with; it is deleted before anything is tested.
        let probe = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": TARGET, "namespace": "default" } });
        site.apply(probe).await;
        for name in ["puller", "bystander"] {
            let metadata = json!({ "name": name, "namespace": OPERATOR_NAMESPACE });
            site.apply(json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata })).await;
        }
        site.apply(credential(&json!({ "matchNames": ["none"] }))).await;
        site.until_caged().await;
        let probe: Api<DynamicObject> = Api::all_with(site.client.clone(), &registry_credentials());
        probe.delete(TARGET, &DeleteParams::default()).await.unwrap();
        let secrets: Api<Secret> = Api::namespaced(site.client.clone(), "default");
        secrets.delete(TARGET, &DeleteParams::default()).await.unwrap();
        site
    }

    /// The API server takes a moment to take policies in.
    async fn until_caged(&self) {
        let thief = self.own_identity().await.client().await.unwrap();
        for probe in [
            "{what: x, any: cage, listed: cage, request: MERGE /api/v1/namespaces/default/serviceaccounts/default, \
             body: {metadata: {annotations: {probe: x}}}}",
            "{what: x, any: cage, listed: cage, request: MERGE /api/v1/namespaces/default/secrets/platform-pull, \
             body: {metadata: {labels: {probe: x}}}}",
            "{what: x, any: cage, listed: cage, request: MERGE /apis/regcred.dev/v1alpha1/registrycredentials/platform-pull, \
             body: {metadata: {labels: {probe: x}}}}",
            "{what: x, any: cage, listed: cage, request: PUT /apis/coordination.k8s.io/v1/namespaces/regcred-system/leases/regcred, \
             body: {apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: regcred, resourceVersion: current, labels: {probe: x}}}}",
            "{what: x, any: cage, listed: cage, request: POST /apis/events.k8s.io/v1/namespaces/default/events, \
             body: {metadata: {name: x}, eventTime: '2026-01-01T00:00:00.000000Z', type: Normal, reason: x, action: x, \
             reportingController: x, reportingInstance: x, regarding: {kind: Node, name: x}}}",
            "{what: x, any: cage, listed: cage, request: POST /api/v1/namespaces/regcred-system/serviceaccounts/puller/token, \
             body: {spec: {audiences: [x], expirationSeconds: 600}}}",
        ] {
            let probe: Attack = serde_saphyr::from_str(probe).unwrap();
            eventually("the cage to be closed", SOON, async || match probe.attempt(&thief).await {
                Ok(Stop::Cage) => Ok(()),
                other => Err(format!("{other:?}")),
            })
            .await;
        }
    }

    async fn apply(&self, object: Value) {
        self.try_apply(&object, "test").await.unwrap_or_else(|error| panic!("{error}: {object}"));
    }

    async fn try_apply(&self, object: &Value, manager: &str) -> kube::Result<DynamicObject> {
        let kind = GroupVersionKind::try_from(
            &serde_json::from_value::<kube::core::TypeMeta>(object.clone()).unwrap(),
        );
        let kind = kind.unwrap();
        let plural = format!("{}s", kind.kind.to_lowercase());
        let resource = ApiResource::from_gvk_with_plural(&kind, &plural);
        let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let name = object["metadata"]["name"].as_str().unwrap();
        api.patch(name, &PatchParams::apply(manager).force(), &Patch::Apply(object)).await
    }

    /// A source, a credential for `victim`, and what belongs to others.
    async fn furnish(&self) {
        for name in ["victim", "other"] {
            self.namespace(name).await;
        }
        let secret = |namespace: &str, name: &str, kind: &str, data: Value| {
            json!({
                "apiVersion": "v1", "kind": "Secret", "type": kind, "stringData": data,
                "metadata": { "name": name, "namespace": namespace },
            })
        };
        let config = json!({ SECRET_KEY: "{\"auths\":{}}" });
        let password = json!({ "username": "bot", "password": CANARY });
        self.apply(secret(OPERATOR_NAMESPACE, "pull-source", SECRET_TYPE, config.clone())).await;
        self.apply(secret(OPERATOR_NAMESPACE, "source", "kubernetes.io/basic-auth", password.clone())).await;
        self.apply(secret("victim", "db", "Opaque", password)).await;
        self.apply(secret("victim", "theirs", SECRET_TYPE, config.clone())).await;
        self.apply(secret("other", TARGET, SECRET_TYPE, config)).await;
        self.apply(json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {
                "name": "default", "namespace": "victim", "annotations": { "example.com/team": "theirs" },
            },
            "imagePullSecrets": [{ "name": "theirs" }],
        }))
        .await;
        self.apply(credential(&json!({ "matchNames": ["victim"] }))).await;
    }

    async fn namespace(&self, name: &str) {
        self.apply(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })).await;
    }

    /// What the table of attacks describes besides: copies in every odd state, lists, a held RegistryCredential, events.
    async fn furnish_oddities(&self) {
        let uid = self.credential_uid().await;
        for (namespace, metadata) in odd_copies(&uid) {
            self.namespace(namespace).await;
            let frozen = (namespace == "frozen").then_some(true);
            let mut secret = json!({
                "apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE, "metadata": metadata,
                "data": { SECRET_KEY: "eyJhdXRocyI6e319" }, "immutable": frozen,
            });
            secret["metadata"]["name"] = json!(TARGET);
            secret["metadata"]["namespace"] = json!(namespace);
            let manager = if namespace == "applied" { "regcred" } else { "test" };
            self.try_apply(&secret, manager).await.unwrap();
        }
        self.apply(json!({
            "apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE, "stringData": { "theirs": "theirs" },
            "metadata": {
                "name": TARGET, "namespace": "victim", "labels": { "theirs.example.com/label": "theirs" },
                "annotations": { "theirs.example.com/annotation": "theirs" },
            },
        }))
        .await;
        let theirs = json!({ "name": "theirs" });
        let own = json!({ "name": TARGET });
        let mut long = entries(65);
        long.as_array_mut().unwrap().push(own.clone());
        for (name, list) in
            [("twice", json!([theirs, theirs])), ("odd", json!([theirs, theirs, own])), ("long", long)]
        {
            let metadata = json!({ "name": name, "namespace": "victim" });
            let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata, "imagePullSecrets": list });
            self.apply(account).await;
        }
        let mut held = credential(&json!({ "matchNames": ["none"] }));
        held["metadata"] = json!({ "name": "held", "finalizers": ["example.com/x", "regcred.dev/cleanup"] });
        self.apply(held).await;
        for (name, controller, kind) in
            [("ours", "regcred", "RegistryCredential"), ("theirs", "kubelet", "Node")]
        {
            let group = if kind == "Node" { "v1" } else { "regcred.dev/v1alpha1" };
            self.apply(json!({
                "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": { "name": name, "namespace": "default" },
                "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal", "reason": "x", "action": "x", "note": "x",
                "reportingController": controller, "reportingInstance": "x",
                "regarding": { "apiVersion": group, "kind": kind, "name": "x" },
            }))
            .await;
        }
    }

    async fn credential_uid(&self) -> String {
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &registry_credentials());
        api.get(TARGET).await.unwrap().metadata.uid.unwrap()
    }

    fn core(&self, kind: &str, namespace: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", kind));
        Api::namespaced_with(self.client.clone(), namespace, &resource)
    }

    async fn own_identity(&self) -> Identity {
        self.control_plane.service_account(OPERATOR_NAMESPACE, OPERATOR_SERVICE_ACCOUNT).await.unwrap()
    }

    async fn operator(&self, listed: bool) -> Operator {
        let target_names = if listed { vec![TARGET.to_owned()] } else { Vec::new() };
        let options = OperatorOptions { target_names, lease: true, ..OperatorOptions::default() };
        let operator = Operator::start(&self.control_plane, options).await.unwrap();
        operator.wait_ready().await.unwrap();
        operator
    }

    async fn list(&self, namespace: &str) -> Vec<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let account = accounts.get("default").await.unwrap();
        account.image_pull_secrets.into_iter().flatten().map(|entry| entry.name).collect()
    }

    async fn ready(&self, reason: &str) -> Value {
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &registry_credentials());
        eventually(&format!("Ready/{reason}"), SOON, async || {
            let status = api.get(TARGET).await.unwrap().data["status"].clone();
            let ready =
                status["conditions"].as_array().into_iter().flatten().find(|it| it["type"] == "Ready");
            if ready.is_some_and(|ready| ready["reason"] == reason) {
                Ok(status)
            } else {
                Err(status.to_string())
            }
        })
        .await
    }

    /// Tries every attack with the operator's token, and compares what stopped each with the table.
    async fn attack(&self, expected: fn(&Attack) -> Stop) {
        let thief = self.own_identity().await.client().await.unwrap();
        let mut wrong = Vec::new();
        for attack in attacks() {
            let outcome = attack.attempt(&thief).await;
            if outcome != Ok(expected(&attack)) {
                wrong.push(format!("{} ({}): {outcome:?}", attack.what, attack.request));
            }
        }
        assert!(wrong.is_empty(), "not as the table says:\n{}", wrong.join("\n"));
    }
}

fn registry_credentials() -> ApiResource {
    let kind = GroupVersionKind::gvk("regcred.dev", "v1alpha1", "RegistryCredential");
    ApiResource::from_gvk_with_plural(&kind, "registrycredentials")
}

fn credential(namespaces: &Value) -> Value {
    json!({
        "apiVersion": "regcred.dev/v1alpha1", "kind": "RegistryCredential", "metadata": { "name": TARGET },
        "spec": {
            "registries": [{ "server": "registry.example.com", "source": { "secretRef": { "name": "source" } } }],
            "namespaces": namespaces,
        },
    })
}

/// The metadata of copies, and of what looks like one, by namespace, as the head of the table describes them.
fn odd_copies(uid: &str) -> [(&'static str, Value); 9] {
    let labels = json!({ "app.kubernetes.io/managed-by": "regcred", "regcred.dev/credential": TARGET });
    let owner = json!([{ "apiVersion": "regcred.dev/v1alpha1", "kind": "RegistryCredential", "name": TARGET, "uid": uid }]);
    let uid = json!({ "regcred.dev/credential-uid": uid });
    let retained = json!({ "annotations": { "regcred.dev/retained-from": TARGET } });
    [
        ("managed", json!({ "labels": { "app.kubernetes.io/managed-by": "regcred" } })),
        ("labelled", json!({ "labels": labels })),
        ("kept", retained.clone()),
        ("frozen", retained),
        ("restored", json!({ "labels": labels, "annotations": { "regcred.dev/credential-uid": "former" } })),
        ("unowned", json!({ "labels": labels, "annotations": uid })),
        ("unlabelled", json!({ "annotations": uid, "ownerReferences": owner })),
        ("unmarked", json!({ "labels": labels, "ownerReferences": owner })),
        ("applied", json!({ "labels": labels })),
    ]
}

/// Takes over the Secret in `other`.
fn adopting() -> Value {
    let mut adopting = credential(&json!({ "matchNames": ["other", "victim"] }));
    adopting["spec"]["target"] = json!({ "conflictPolicy": "Adopt" });
    adopting["spec"]["deletionPolicy"] = json!("Retain");
    adopting
}

/// The main job with the token that the chart gives, and then everything else with it.
async fn works_and_no_more(values: &[&str], listed: bool, expected: fn(&Attack) -> Stop) {
    let site = Site::installed(values).await;
    site.furnish().await;
    let operator = site.operator(listed).await;
    site.ready("Succeeded").await;
    assert_eq!(site.list("victim").await, ["theirs", TARGET]);
    let rotated = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth",
        "metadata": { "name": "source", "namespace": OPERATOR_NAMESPACE },
        "stringData": { "username": "bot", "password": "rotated" },
    });
    site.apply(rotated).await;
    let secrets: Api<Secret> = Api::namespaced(site.client.clone(), "victim");
    eventually("the rotated copy", SOON, async || {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let data = secrets.get(TARGET).await.unwrap().data.unwrap();
        let text = String::from_utf8_lossy(&data[SECRET_KEY].0).into_owned();
        if text.contains(&STANDARD.encode("bot:rotated")) { Ok(()) } else { Err("the old one".to_owned()) }
    })
    .await;
    // The operator would mend some of what the thief does while the thief is at it.
    operator.terminate(SOON).await.unwrap();
    assert_no_canary([("the operator's log", operator.logs().as_str())]);
    site.furnish_oddities().await;
    site.attack(expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn installed_by_helm_for_any_name_it_works_and_its_token_does_what_the_table_says() {
    works_and_no_more(&[], false, |attack| attack.any).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn installed_by_helm_for_listed_names_it_works_and_its_token_does_what_the_table_says() {
    works_and_no_more(&[LISTED], true, |attack| attack.listed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn installed_by_helm_with_adopting_allowed_its_token_does_what_the_table_says() {
    works_and_no_more(&["cage.allowAdopt=true"], false, Attack::adopt).await;
}

#[test]
fn the_table_of_the_readme_says_what_the_attacks_show() {
    for row in summary() {
        let wrong = [row.any.wrong(|attack| attack.any), row.listed.wrong(|attack| attack.listed)];
        assert!(wrong.iter().all(Vec::is_empty), "{}: {wrong:?}", row.what);
    }
}

#[test]
fn the_table_is_long_and_names_each_try_once() {
    let names: BTreeSet<_> = attacks().into_iter().map(|attack| attack.what).collect();
    assert!(names.len() >= 150 && names.len() == attacks().len(), "{}", names.len());
}

/// Keys by which other tools act on Secrets, which no value allows.
const KEYS_OF_TOOLS: [&str; 16] = [
    "argocd.argoproj.io/secret-type",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "meta.helm.sh/release-name",
    "helm.sh/resource-policy",
    "kustomize.toolkit.fluxcd.io/name",
    "sealedsecrets.bitnami.com/sealed-secrets-key",
    "replicator.v1.mittwald.de/replicate-from",
    "reflector.v1.k8s.emberstack.com/reflects",
    "kubectl.kubernetes.io/last-applied-configuration",
    "kubernetes.io/service-account.name",
    "cluster.x-k8s.io/cluster-name",
    "reconcile.external-secrets.io/created-by",
    "cert-manager.io/certificate-name",
    "regcred.dev/source",
    "field.cattle.io/projectId",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_value_says_which_keys_a_copy_may_have_and_opens_none_of_other_tools() {
    let all = "cage.metadataKeys={team,*/*}";
    let site = Site::installed(&[all]).await;
    let thief = site.own_identity().await.client().await.unwrap();
    let allowed =
        ["team", "example.com/team", "app.kubernetes.io/part-of", "policies.kyverno.io/last-applied-patches"]
            .map(|key| (key, Stop::Nothing));
    let refused = KEYS_OF_TOOLS.into_iter().chain(["other"]).map(|key| (key, Stop::Cage));
    let mut wrong = Vec::new();
    for (key, expected) in allowed.into_iter().chain(refused) {
        for member in ["labels", "annotations"] {
            let attack = json!({
                "what": key, "any": "-", "listed": "-", "request": format!("APPLY /api/v1/namespaces/default/secrets/{TARGET}"),
                "body": {
                    "apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE, "data": { SECRET_KEY: "e30=" },
                    "metadata": {
                        "name": TARGET,
                        "labels": { "app.kubernetes.io/managed-by": "regcred", "regcred.dev/credential": TARGET },
                        "annotations": { "regcred.dev/credential-uid": "0" },
                    },
                },
            });
            let mut attack = attack;
            attack["body"]["metadata"][member][key] = json!("x");
            let attack: Attack = serde_json::from_value(attack).unwrap();
            let outcome = attack.attempt(&thief).await;
            if outcome != Ok(expected) {
                wrong.push(format!("{member} {key}: {outcome:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_cage_refuses_is_told_with_the_value_that_allows_it() {
    let site = Site::installed(&[]).await;
    site.furnish().await;
    let operator = site.operator(false).await;
    let mut credential = credential(&json!({ "matchNames": ["victim"] }));
    credential["spec"]["target"] =
        json!({ "metadata": { "labels": { "team": "a", "example.com/team": "a" } } });
    site.apply(credential.clone()).await;
    eventually("the refusal in status", SOON, async || {
        let status = site.ready("PartiallySynced").await;
        let message = status["failures"][0]["message"].as_str().unwrap_or_default();
        if message.contains("cage.metadataKeys") { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    credential["spec"]["target"] = json!({ "metadata": { "labels": { "team": "a" } } });
    site.apply(credential).await;
    site.ready("Succeeded").await;
    assert_no_canary([("the operator's log", operator.logs().as_str())]);
}

/// The operator looks every minute.
#[tokio::test(flavor = "multi_thread")]
async fn the_operator_says_whether_it_is_caged_and_sees_when_the_cage_goes() {
    let site = Site::installed(&[]).await;
    let operator = site.operator(false).await;
    for (caged, metric, log) in [("yes", 1, "caged: admission policies limit"), ("no", 0, "not caged")] {
        eventually(&format!("caged: {caged}"), Duration::from_secs(90), async || {
            let (reply, metrics) = (operator.readyz().await.unwrap(), operator.metrics().await.unwrap());
            let said = reply.status == 200 && reply.body.contains(&format!("caged: {caged}\n"));
            let counted = metrics.contains(&format!("regcred_caged {metric}\n"));
            if said && counted && operator.logs().contains(log) { Ok(()) } else { Err(reply.body) }
        })
        .await;
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(site.client.clone());
        // The second time there is none any more.
        let _gone = bindings.delete("regcred-cage-secrets", &DeleteParams::default()).await;
    }
}

/// A policy that costs more than the API server allows refuses, so objects as large as it stores must stay cheap.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_tenants_store_the_operator_mends_and_leaves_it() {
    let site = Site::installed(&[LISTED]).await;
    let thief = site.own_identity().await.client().await.unwrap();
    let work = async |request: &str, body: Value| {
        let work = json!({ "what": request, "request": request, "any": "-", "listed": "-", "body": body });
        let work: Attack = serde_json::from_value(work).unwrap();
        let outcome = work.attempt(&thief).await;
        if outcome == Ok(Stop::Nothing) { None } else { Some(format!("{request} {body}: {outcome:?}")) }
    };
    let mut wrong = Vec::new();
    for member in ["labels", "annotations", "data"] {
        let namespace = format!("many-{member}");
        site.namespace(&namespace).await;
        let secrets = site.core("Secret", &namespace);
        secrets.create(&PostParams::default(), &large_copy(member)).await.unwrap();
        let path = format!("/api/v1/namespaces/{namespace}/secrets/{TARGET}");
        let mend = json!({ "data": { SECRET_KEY: "eyJhdXRocyI6e319" } });
        let leave = json!({ "metadata": {
            "labels": { "app.kubernetes.io/managed-by": null, "regcred.dev/credential": null },
            "annotations": { "regcred.dev/credential-uid": null, "regcred.dev/retained-from": TARGET },
        } });
        wrong.extend(work(&format!("MERGE {path}"), mend).await);
        wrong.extend(work(&format!("MERGE {path}"), leave).await);
        wrong.extend(work(&format!("DELETE {path}"), Value::Null).await);
    }
    let account = json!({ "metadata": { "name": "large", "annotations": many() } });
    let account = serde_json::from_value(account).unwrap();
    site.core("ServiceAccount", "default").create(&PostParams::default(), &account).await.unwrap();
    let attached = json!({
        "metadata": { "annotations": { "regcred.dev/attached": TARGET } }, "imagePullSecrets": [{ "name": TARGET }],
    });
    wrong.extend(work("MERGE /api/v1/namespaces/default/serviceaccounts/large", attached).await);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// About as many labels, annotations or keys as etcd takes with what Kubernetes notes of each.
fn many() -> Value {
    (0..50_000).map(|number| (format!("{number:x}"), json!(""))).collect::<serde_json::Map<_, _>>().into()
}

/// A copy with one map as long as can be.
fn large_copy(member: &str) -> DynamicObject {
    let mut copy = json!({ "type": SECRET_TYPE, "metadata": { "name": TARGET } });
    *(if member == "data" { &mut copy["data"] } else { &mut copy["metadata"][member] }) = many();
    copy["metadata"]["labels"]["app.kubernetes.io/managed-by"] = json!("regcred");
    copy["metadata"]["labels"]["regcred.dev/credential"] = json!(TARGET);
    copy["metadata"]["annotations"]["regcred.dev/credential-uid"] = json!("0");
    copy["data"][SECRET_KEY] = json!("e30=");
    serde_json::from_value(copy).unwrap()
}

/// Deleting and retaining pass the cage, and an adoption that the installation does not allow is reported in status.
#[tokio::test(flavor = "multi_thread")]
async fn letting_go_passes_the_cage_and_a_forbidden_adoption_is_told() {
    let site = Site::installed(&[]).await;
    site.furnish().await;
    let operator = site.operator(false).await;
    site.apply(adopting()).await;
    let status = eventually("the refusal in status", SOON, async || {
        let status = site.ready("PartiallySynced").await;
        if status["failures"][0]["namespace"] == "other" { Ok(status) } else { Err(status.to_string()) }
    })
    .await;
    let message = status["failures"][0]["message"].as_str().unwrap();
    assert!(message.contains("cage.allowAdopt"), "{message}");
    eventually("a name that cannot be had to be off the list", SOON, async || {
        let list = site.list("other").await;
        if list.is_empty() { Ok(()) } else { Err(format!("{list:?}")) }
    })
    .await;
    site.apply(json!({
        "apiVersion": "regcred.dev/v1alpha1", "kind": "RegistryCredential", "metadata": { "name": TARGET },
        "spec": {
            "registries": [{ "server": "registry.example.com", "source": { "secretRef": { "name": "source" } } }],
            "namespaces": { "matchNames": ["none"] }, "deletionPolicy": "Retain",
        },
    }))
    .await;
    let secrets: Api<Secret> = Api::namespaced(site.client.clone(), "victim");
    eventually("the marks to be off", SOON, async || {
        let labels = secrets.get_metadata(TARGET).await.unwrap().metadata.labels.unwrap_or_default();
        if labels.is_empty() { Ok(()) } else { Err(format!("{labels:?}")) }
    })
    .await;
    assert_eq!(site.list("victim").await, ["theirs", TARGET], "Retain keeps the entry");
    assert_no_canary([("the operator's log", operator.logs().as_str()), ("status", &status.to_string())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adoption_that_is_allowed_later_comes_about_and_is_attached() {
    let site = Site::installed(&[]).await;
    site.furnish().await;
    let _operator = site.operator(false).await;
    site.apply(adopting()).await;
    site.ready("PartiallySynced").await;
    let upgrade = [
        "upgrade",
        chart::RELEASE,
        "deploy/chart",
        "-n",
        OPERATOR_NAMESPACE,
        "--set",
        "cage.allowAdopt=true",
    ];
    chart::helm(Some(&site.control_plane), &upgrade).await.unwrap();
    eventually("both namespaces", Duration::from_secs(150), async || {
        let list = site.list("other").await;
        if list == [TARGET] { Ok(()) } else { Err(format!("{list:?}")) }
    })
    .await;
    assert_eq!(site.ready("Succeeded").await["namespaces"]["synced"], 2);
}

/// View, edit and admin of a namespace neither read nor write RegistryCredentials, nor anything of other namespaces.
#[tokio::test(flavor = "multi_thread")]
async fn tenants_reach_neither_registrycredentials_nor_other_namespaces() {
    let site = Site::installed(&[]).await;
    site.furnish().await;
    site.apply(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "tenant" } })).await;
    let namespaces: Api<Namespace> = Api::all(site.client.clone());
    namespaces.get("tenant").await.unwrap();
    for role in ["view", "edit", "admin"] {
        let user = format!("{role}-of-tenant");
        site.apply(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": { "name": user, "namespace": "tenant" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
        }))
        .await;
        let tenant = site.control_plane.user(&user, &[]).unwrap();
        let kubectl = async |arguments: &[&str], input: &str| {
            let output = site.control_plane.kubectl(&tenant, arguments, input).await.unwrap();
            output.success().map_err(|error| error.to_string())
        };
        eventually("the tenant's own rights", SOON, async || {
            kubectl(&["get", "pods", "-n", "tenant"], "").await
        })
        .await;
        let object = credential(&json!({ "from": "All" })).to_string();
        for (arguments, input) in [
            (&["get", "regcred"][..], ""),
            (&["get", "regcred", TARGET], ""),
            (&["delete", "regcred", TARGET], ""),
            (&["annotate", "regcred", TARGET, "x=y"], ""),
            (&["create", "-f", "-"], object.as_str()),
            (&["apply", "--server-side", "--force-conflicts", "-f", "-"], object.as_str()),
            (&["get", "secret", TARGET, "-n", "victim"], ""),
            (&["get", "secrets", "-n", OPERATOR_NAMESPACE], ""),
            (&["get", "serviceaccounts", "-n", OPERATOR_NAMESPACE], ""),
            (&["create", "token", "regcred", "-n", OPERATOR_NAMESPACE], ""),
            (&["get", "secrets", "-A"], ""),
        ] {
            let refusal = kubectl(arguments, input).await.expect_err(&format!("{user}: {arguments:?}"));
            assert!(refusal.contains("orbidden"), "{user}: {arguments:?}: {refusal}");
        }
    }
}
