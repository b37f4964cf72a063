//! What regcred's rights are worth: installed by Helm in both profiles, it does its job with the token that the chart
//! gives it, and that token can do nothing else; tenants get nothing.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use regcred_tests::{
    ControlPlane, Identity, Operator, OperatorOptions, Options, SECRET_KEY, SECRET_TYPE,
    canary::{CANARY, assert_no_canary},
    chart, eventually,
    install::{OPERATOR_NAMESPACE, OPERATOR_SERVICE_ACCOUNT},
    stolen_token::{Attack, Stop, attacks, summary},
};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);
const TARGET: &str = "platform-pull";
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
        let notes = chart::install(&control_plane, values).await.unwrap();
        assert!(notes.contains("kubectl apply -f -"), "{notes}");
        let client = control_plane.admin().await.unwrap();
        let site = Self { control_plane, client };
        // A Secret of the target name that is not regcred's, to probe with; it is deleted before anything is tested.
        let probe = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": TARGET, "namespace": "default" } });
        site.apply(probe).await;
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
            "{what: x, any: cage, listed: cage, request: MERGE /api/v1/namespaces/default/serviceaccounts/default?dryRun=All, \
             body: {metadata: {annotations: {probe: x}}}}",
            "{what: x, any: cage, listed: cage, request: MERGE /api/v1/namespaces/default/secrets/platform-pull?dryRun=All, \
             body: {metadata: {labels: {probe: x}}}}",
            "{what: x, any: cage, listed: cage, request: MERGE /apis/regcred.dev/v1alpha1/registrycredentials/platform-pull?dryRun=All, \
             body: {metadata: {labels: {probe: x}}}}",
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
        self.try_apply(&object).await.unwrap_or_else(|error| panic!("{error}: {object}"));
    }

    async fn try_apply(&self, object: &Value) -> kube::Result<DynamicObject> {
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
        api.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(object)).await
    }

    /// A source, a credential for `victim`, and what belongs to others.
    async fn furnish(&self) {
        for name in ["victim", "other", "kept"] {
            self.apply(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }))
                .await;
        }
        let secret = |namespace: &str, name: &str, kind: &str, data: Value| {
            json!({
                "apiVersion": "v1", "kind": "Secret", "type": kind, "stringData": data,
                "metadata": { "name": name, "namespace": namespace },
            })
        };
        let config = json!({ SECRET_KEY: "{\"auths\":{}}" });
        let password = json!({ "username": "bot", "password": CANARY });
        self.apply(secret(OPERATOR_NAMESPACE, "source", "kubernetes.io/basic-auth", password.clone())).await;
        self.apply(secret("victim", "db", "Opaque", password)).await;
        self.apply(secret("victim", "theirs", SECRET_TYPE, config.clone())).await;
        self.apply(secret("other", TARGET, SECRET_TYPE, config.clone())).await;
        let mut retained = secret("kept", TARGET, SECRET_TYPE, config);
        retained["metadata"]["annotations"] = json!({ "regcred.dev/retained-from": TARGET });
        self.apply(retained).await;
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

#[test]
fn the_table_of_the_readme_says_what_the_attacks_show() {
    for row in summary() {
        let wrong = [row.any.wrong(|attack| attack.any), row.listed.wrong(|attack| attack.listed)];
        assert!(wrong.iter().all(Vec::is_empty), "{}: {wrong:?}", row.what);
    }
}

#[test]
fn more_than_forty_attacks_are_stopped_in_each_profile() {
    let stopped = |stop: fn(&Attack) -> Stop| attacks().iter().filter(|a| stop(a) != Stop::Nothing).count();
    assert!(stopped(|attack| attack.any) >= 40 && stopped(|attack| attack.listed) >= 40);
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
