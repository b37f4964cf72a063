//! The chart and what is rendered from it: wrong values are refused in clear words, each value does what it says, what
//! is committed is what the chart gives, and a release can be upgraded and removed without a trace too many or too few.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::{Api, ResourceExt as _};
use regcred_tests::{
    ControlPlane, Operator, OperatorOptions, Options,
    chart::{self, RELEASE, helm},
    eventually,
    install::{self, OPERATOR_NAMESPACE, repository},
};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn what_is_committed_is_what_the_chart_renders() {
    for (path, content) in chart::generated_files().await.unwrap() {
        let committed = std::fs::read_to_string(repository().join(path)).unwrap_or_default();
        assert!(committed == content, "{path} is out of date: run `just generate`");
    }
}

/// No right of the operator is in force before the policies that limit it.
#[tokio::test(flavor = "multi_thread")]
async fn kubectl_puts_the_cage_up_before_it_gives_any_right() {
    let control_plane = ControlPlane::start(Options::default()).await.unwrap();
    let mark = control_plane.audit().mark();
    install::install(&control_plane).await.unwrap();
    let made = control_plane.audit().since(mark).writes().granted();
    let made: Vec<_> =
        made.by(&control_plane.admin_identity().name).iter().map(|it| it.resource.clone()).collect();
    let last_of_cage = made.iter().rposition(|it| it.starts_with("validatingadmissionpolic")).unwrap();
    let first_right =
        made.iter().position(|it| it.contains("role") || it == "serviceaccounts" || it == "deployments");
    assert!(last_of_cage < first_right.unwrap(), "{made:?}");
    assert_eq!(made.iter().filter(|it| *it == "validatingadmissionpolicybindings").count(), 6, "{made:?}");
}

#[tokio::test]
async fn the_chart_passes_lint() {
    let report =
        helm(None, &["lint", "--strict", "deploy/chart", "--namespace", OPERATOR_NAMESPACE]).await.unwrap();
    assert!(report.contains("0 chart(s) failed"), "{report}");
}

/// Values that are refused, and what the refusal names.
const WRONG: &[(&str, &str)] = &[
    ("targetName={x}", "targetName"),
    ("targetNames=x", "targetNames"),
    ("targetNames={Upper}", "targetNames"),
    ("targetNames={a,a}", "targetNames"),
    ("replicaCount=0", "replicaCount"),
    ("replicaCount=two", "replicaCount"),
    ("concurrency=1000", "concurrency"),
    ("log.level=loud", "level"),
    ("image.digest=abc", "digest"),
    ("attachAtBirth.enabled=sometimes", "enabled"),
    ("cage.enabled=maybe", "enabled"),
    ("networkPolicy.apiServerPorts={0}", "apiServerPorts"),
    ("networkPolicy.ingress.from=prometheus", "from"),
    ("networkPolicy.ingress.to={x}", "to"),
    ("cage.metadataKeys=team", "metadataKeys"),
    ("cage.metadataKeys={a/b/c}", "metadataKeys"),
    ("cage.metadataKeys={a'b}", "metadataKeys"),
    ("tokens.serviceAccounts=puller", "serviceAccounts"),
    ("tokens.serviceAccounts={Upper}", "serviceAccounts"),
    ("tokens.serviceAccounts={a,a}", "serviceAccounts"),
    ("tokens.metadataServers=maybe", "metadataServers"),
    ("tokens.endpoints.quay=quay.example.com", "endpoints"),
    ("tokens.audiences={x}", "audiences"),
    ("verify.endpoints.quay=quay.example.com", "endpoints"),
    ("verify.allowRealms=auth.internal", "allowRealms"),
    ("serviceAccount.annotation.a=b", "annotation"),
    ("serviceAccount.create=false", "set serviceAccount.name"),
    ("fullnameOverride=Upper", "fullnameOverride"),
    ("namespaceOverride=a.b", "namespaceOverride"),
    ("commonLabels.a=1", "commonLabels"),
    ("commonAnnotations=x", "commonAnnotations"),
    ("global.imageRegistry=1", "imageRegistry"),
    ("imagePullSecrets={a}", "imagePullSecrets"),
    ("rbac.aggregateToClusterReader=maybe", "aggregateToClusterReader"),
    ("crds.keep=maybe", "keep"),
    ("serviceMonitor.enabled=maybe", "enabled"),
    ("serviceMonitor.scrapeTimeout=soon", "scrapeTimeout"),
    ("prometheusRule.runbookURL=wiki", "runbookURL"),
    ("serviceMonitor.relabelings={a}", "relabelings"),
    ("topologySpreadConstraints={a}", "topologySpreadConstraints"),
    ("extraObjects=x", "extraObjects"),
    ("deploymentAnnotations.a=1", "deploymentAnnotations"),
    // Former names.
    ("replicas=2", "replicaCount"),
    ("crd.install=false", "crds.enabled"),
    ("viewRole=false", "rbac.viewRole"),
    ("sourceNamespaceRole=false", "rbac.sourceNamespaceRole"),
    ("image.pullSecrets[0].name=a", "imagePullSecrets"),
];

#[tokio::test]
async fn wrong_values_are_refused_and_named() {
    for (value, named) in WRONG {
        let refusal = chart::render(&[value]).await.expect_err(value).to_string();
        assert!(refusal.contains(named), "{value}: {refusal}");
    }
}

/// Values, what they bring, and what they take away.
type Row = (&'static [&'static str], &'static [&'static str], &'static [&'static str]);

const ROWS: &[Row] = &[
    (
        &[],
        &["kind: CustomResourceDefinition", "replicas: 2", "regcred-cage-secrets", "kubernetes.io/os: linux"],
        &[
            "--target-name",
            "ServiceMonitor",
            "NetworkPolicy",
            "resources: [serviceaccounts/token]\n",
            "--token-endpoint",
            "--registry-endpoint",
            "--verify-allow-realm",
            "169.254.0.0/16",
        ],
    ),
    (
        &["targetNames={a,b}"],
        &[
            "--target-name=a",
            "--target-name=b",
            r#"resourceNames: ["a","b"]"#,
            "params.spec.?target.?name.orValue(params.metadata.name) in ['a', 'b']",
        ],
        &[],
    ),
    (&["serviceAccountNames={default}"], &[r#"resourceNames: ["default"]"#], &[]),
    (&["crds.enabled=false"], &["kind: Deployment"], &["CustomResourceDefinition"]),
    (&["cage.enabled=false"], &["kind: Deployment"], &["ValidatingAdmissionPolicy"]),
    (&["attachAtBirth.enabled=false"], &["kind: Deployment"], &["MutatingAdmissionPolicy"]),
    (&["attachAtBirth.hold=false"], &["operations: [CREATE]"], &["operations: [CREATE, UPDATE]\n"]),
    (
        &["attachAtBirth.selector.matchLabels.birth=yes"],
        &[r#"paramRef: {selector: {"matchLabels":{"birth":"yes"}}"#],
        &[],
    ),
    (
        &["attachAtBirth.namespaceSelector.matchLabels.pull=private"],
        &[r#"matchResources: {namespaceSelector: {"matchLabels":{"pull":"private"}}}"#],
        &[],
    ),
    (
        &[
            "networkPolicy.enabled=true",
            "networkPolicy.ingress.from[0].namespaceSelector.matchLabels.team=monitoring",
        ],
        &["    from:\n    - namespaceSelector:\n        matchLabels:\n          team: monitoring\n"],
        &[],
    ),
    (&["cage.metadataKeys={team,example.com/*}"], &["k.matches('^(team|example[.]com/[^/]*)$')"], &[]),
    (&["replicaCount=1"], &["replicas: 1"], &["PodDisruptionBudget"]),
    (&["networkPolicy.enabled=true"], &["kind: NetworkPolicy", "port: 6443}", "port: 53}"], &[]),
    (
        &[
            "networkPolicy.enabled=true,networkPolicy.apiServerPorts=null,networkPolicy.egress[0].ports[0].port=9443",
        ],
        &["  egress:\n  - ports:\n    - port: 9443\n"],
        &["port: 6443}", "port: 53}"],
    ),
    (&["serviceMonitor.enabled=true"], &["kind: ServiceMonitor", "kind: Service\n"], &["scrapeTimeout"]),
    (
        &[
            "prometheusRule.enabled=true",
            "prometheusRule.namespace=monitoring",
            "prometheusRule.labels.release=prometheus",
            "prometheusRule.annotations.note=x",
        ],
        &[
            "kind: PrometheusRule\n",
            "  namespace: monitoring\n",
            "    release: prometheus\n",
            "    note: x\n",
            "alert: RegcredUncaged",
            "The credential for {{ $labels.server }} of",
        ],
        &["ServiceMonitor"],
    ),
    (
        &["prometheusRule.enabled=true", "cage.enabled=false"],
        &["alert: RegcredContested"],
        &["RegcredUncaged"],
    ),
    (
        &["dashboard.enabled=true", "dashboard.namespace=grafana", "dashboard.annotations.folder=x"],
        &[
            "  namespace: grafana\n",
            "    grafana_dashboard: \"1\"\n",
            "    folder: x\n",
            "  regcred.json: |\n    {\n",
        ],
        &[],
    ),
    (&["serviceMonitor.enabled=auto"], &["kind: Deployment"], &["ServiceMonitor"]),
    (
        &[
            "serviceMonitor.enabled=true",
            "serviceMonitor.namespace=monitoring",
            "serviceMonitor.scrapeTimeout=5s",
            "serviceMonitor.labels.release=prometheus",
            "serviceMonitor.annotations.note=x",
            "serviceMonitor.relabelings[0].targetLabel=cluster",
            "serviceMonitor.metricRelabelings[0].action=drop",
        ],
        &[
            "  namespace: monitoring\n",
            "matchNames: [regcred-system]",
            "scrapeTimeout: 5s",
            "    release: prometheus\n",
            "    note: x\n",
            "    relabelings:\n    - targetLabel: cluster\n",
            "    metricRelabelings:\n    - action: drop\n",
        ],
        &[],
    ),
    (
        &["nameOverride=other"],
        &[
            "name: regcred-other-cage-secrets",
            "system:serviceaccount:regcred-system:regcred-other'",
            "app.kubernetes.io/name: other",
        ],
        &["name: regcred\n  namespace", "app.kubernetes.io/name: regcred"],
    ),
    (
        &["fullnameOverride=other"],
        &["name: other-cage-secrets", "system:serviceaccount:regcred-system:other'"],
        &[
            "name: regcred\n  namespace: regcred-system\n  labels:\n    app.kubernetes.io/instance: regcred\n    helm",
        ],
    ),
    (
        &["namespaceOverride=platform"],
        &["--source-namespace=platform", "system:serviceaccount:platform:regcred'", "namespace: platform"],
        &["regcred-system"],
    ),
    (
        &["commonLabels.team=a", "commonAnnotations.note=x"],
        &["        team: a\n      annotations:\n        note: x\n"],
        &[],
    ),
    (
        &["global.imageRegistry=mirror.example.com", "image.repository=quay.io/acme/regcred"],
        &["image: \"mirror.example.com/acme/regcred:0.1.0\""],
        &["quay.io/acme"],
    ),
    (
        &["global.imagePullSecrets={a}", "global.imagePullSecrets[1].name=b", "imagePullSecrets[0].name=c"],
        &["      imagePullSecrets:\n        - name: a\n        - name: b\n        - name: c\n"],
        &[],
    ),
    (
        &["serviceAccount.create=false", "serviceAccount.name=own"],
        &["serviceAccountName: own\n", "system:serviceaccount:regcred-system:own'", "  name: own\n"],
        &["kind: ServiceAccount\nmetadata"],
    ),
    (
        &["serviceAccount.name=own"],
        &["kind: ServiceAccount\nmetadata:\n  name: own\n", "serviceAccountName: own\n"],
        &[],
    ),
    (
        &["rbac.create=false"],
        &["kind: Deployment", "regcred-cage-secrets"],
        &["kind: Role", "kind: ClusterRole"],
    ),
    (&["rbac.viewRole=false"], &["kind: ClusterRole\n"], &["name: regcred-view"]),
    (&["rbac.aggregateToClusterReader=true"], &["aggregate-to-cluster-reader: \"true\""], &[]),
    (&["crds.keep=false"], &["kind: CustomResourceDefinition"], &["helm.sh/resource-policy"]),
    (
        &["extraEnv[0].name=A", "extraEnv[0].value=b"],
        &["        env:\n        - name: A\n          value: b\n"],
        &[],
    ),
    (
        &["extraVolumes[0].name=v", "extraVolumeMounts[0].name=v", "extraVolumeMounts[0].mountPath=/v"],
        &[
            "      volumes:\n      - name: v\n",
            "        volumeMounts:\n        - mountPath: /v\n          name: v\n",
        ],
        &[],
    ),
    (
        &["extraObjects[0].kind=ConfigMap", "extraObjects[0].metadata.name=x-{{ .Release.Name }}"],
        &["kind: ConfigMap\nmetadata:\n  name: x-regcred\n"],
        &[],
    ),
    (&["nodeSelector.disk=ssd"], &["        disk: ssd\n        kubernetes.io/os: linux\n"], &[]),
    (
        &["topologySpreadConstraints[0].topologyKey=zone"],
        &["      topologySpreadConstraints:\n      - topologyKey: zone\n"],
        &["kubernetes.io/hostname"],
    ),
    (
        &["deploymentAnnotations.reload=yes"],
        &["  annotations:\n    reload: \"yes\"\nspec:\n  replicas: 2"],
        &[],
    ),
    (&["image.repository=r/regcred,image.tag=v9"], &["image: \"r/regcred:v9\""], &[]),
    (&["extraArgs={--no-lease}"], &["\"--no-lease\""], &[]),
    (&["priorityClassName=system-cluster-critical"], &["priorityClassName: system-cluster-critical"], &[]),
    (
        &["tokens.serviceAccounts={a,b}"],
        &[
            "resources: [serviceaccounts]\n  resourceNames: [\"a\",\"b\"]\n  verbs: [get]",
            "resources: [serviceaccounts/token]\n  resourceNames: [\"a\",\"b\"]\n  verbs: [create]",
        ],
        &[],
    ),
    (
        &["tokens.metadataServers=true", "networkPolicy.enabled=true"],
        &["cidr: 169.254.0.0/16", "cidr: \"fd00:ec2::/64\"", "port: 80}", "port: 988}"],
        &[],
    ),
    (
        &[r"tokens.endpoints.sts\.amazonaws\.com=https://vpce-1.example.com/x"],
        &[r#"- "--token-endpoint=sts.amazonaws.com=https://vpce-1.example.com/x""#],
        &[],
    ),
    (
        &[
            r"verify.endpoints.r\.internal=http://10.0.0.5:5000",
            "verify.allowRealms={auth.internal,*.corp:8443}",
        ],
        &[
            r#"- "--registry-endpoint=r.internal=http://10.0.0.5:5000""#,
            r#"- "--verify-allow-realm=auth.internal""#,
            r#"- "--verify-allow-realm=*.corp:8443""#,
        ],
        &[],
    ),
    (
        &[r"serviceAccount.annotations.eks\.amazonaws\.com/role-arn=arn:aws:iam::1:role/x"],
        &["  annotations:\n    eks.amazonaws.com/role-arn: arn:aws:iam::1:role/x\n"],
        &[],
    ),
    (&["rbac.sourceNamespaceRole=false"], &["regcred-events"], &["regcred-fingerprint-key]"]),
];

#[tokio::test]
async fn each_value_does_what_it_says() {
    for (values, there, absent) in ROWS {
        let text = chart::render(values).await.unwrap();
        for part in *there {
            assert!(text.contains(part), "{values:?}: {part} is missing in\n{text}");
        }
        for part in *absent {
            assert!(!text.contains(part), "{values:?}: {part} is in\n{text}");
        }
    }
}

#[tokio::test]
async fn objects_are_named_after_the_release_as_helm_users_expect() {
    for (release, values, name) in [
        ("regcred", &[][..], "regcred"),
        ("prod", &[], "prod-regcred"),
        ("regcred-prod", &[], "regcred-prod"),
        ("prod", &["nameOverride=pull"], "prod-pull"),
        ("prod", &["fullnameOverride=pull"], "pull"),
    ] {
        let text = chart::render_as(release, values, &[]).await.unwrap();
        for part in [format!("kind: Deployment\nmetadata:\n  name: {name}\n"), format!(":{name}'")] {
            assert!(text.contains(&part), "{release} {values:?}: {part} is missing in\n{text}");
        }
    }
}

#[tokio::test]
async fn every_object_has_the_labels_of_helm_and_those_that_are_common() {
    let values = [
        "commonLabels.team=a",
        "commonAnnotations.note=x",
        "networkPolicy.enabled=true",
        "serviceMonitor.enabled=true",
    ];
    let text = chart::render(&values).await.unwrap();
    let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).unwrap();
    let objects: Vec<_> = objects.into_iter().filter(|object| !object.is_null()).collect();
    assert!(objects.len() > 20, "{}", objects.len());
    for object in objects {
        let metadata = &object["metadata"];
        for (member, key, value) in [
            ("labels", "team", "a"),
            ("labels", "helm.sh/chart", "regcred-0.1.0"),
            ("labels", "app.kubernetes.io/managed-by", "Helm"),
            ("labels", "app.kubernetes.io/instance", RELEASE),
            ("annotations", "note", "x"),
        ] {
            assert_eq!(metadata[member][key], value, "{} {}", object["kind"], metadata["name"]);
        }
    }
}

/// `helm template` knows no cluster, so it goes by the version, and says so where it leaves the policy out.
#[tokio::test]
async fn without_a_cluster_the_policy_at_birth_is_not_left_out_in_silence() {
    for (values, further, there) in [
        (&[][..], &["--kube-version", "1.36.0"][..], true),
        (&[], &["--kube-version", "1.30.14"], false),
        // As a GitOps tool says which kinds a cluster serves that emulates an older one.
        (&[], &["--kube-version", "1.36.0", "--api-versions", "apps/v1/Deployment"], false),
        (&["attachAtBirth.enabled=true"], &["--kube-version", "1.30.14"], true),
        (&["attachAtBirth.enabled=false"], &["--kube-version", "1.36.0"], false),
    ] {
        let text = chart::render_as(RELEASE, values, further).await.unwrap();
        assert_eq!(text.contains("kind: MutatingAdmissionPolicy\n"), there, "{values:?} {further:?}");
        let said = text.contains("render again with attachAtBirth.enabled=true");
        assert_eq!(said, values.is_empty() && !there, "{values:?} {further:?}");
    }
}

#[tokio::test]
async fn what_monitors_on_auto_is_made_where_the_cluster_serves_that_kind() {
    for (value, kind) in [("serviceMonitor", "ServiceMonitor"), ("prometheusRule", "PrometheusRule")] {
        let (value, api) = (format!("{value}.enabled=auto"), format!("monitoring.coreos.com/v1/{kind}"));
        for (further, there) in [(&[][..], false), (&["--api-versions", &api], true)] {
            let text = chart::render_as(RELEASE, &[&value], further).await.unwrap();
            assert_eq!(text.contains(&format!("kind: {kind}\n")), there, "{further:?}");
        }
    }
}

/// The expressions of the alerts and of the dashboard, as the chart gives them.
async fn expressions() -> Vec<String> {
    let text = chart::render(&["prometheusRule.enabled=true", "dashboard.enabled=true"]).await.unwrap();
    let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).unwrap();
    let of_kind = |kind| objects.iter().find(|object| object["kind"] == kind).unwrap();
    let rules = of_kind("PrometheusRule")["spec"]["groups"][0]["rules"].as_array().unwrap();
    let dashboard = of_kind("ConfigMap")["data"]["regcred.json"].as_str().unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    rules.iter().chain(targets).map(|object| object["expr"].as_str().unwrap().to_owned()).collect()
}

/// An expression about a metric that nobody exports would never say anything. `tests/tests/telemetry.rs` holds the page to `/metrics`.
#[tokio::test]
async fn each_alert_and_panel_is_about_metrics_that_the_operator_registers() {
    let registered = std::fs::read_to_string(repository().join("docs/metrics.md")).unwrap();
    let expressions = expressions().await;
    assert!(expressions.len() >= 20, "{expressions:?}");
    for expression in expressions {
        let words = expression.split(|char: char| !char.is_alphanumeric() && char != '_');
        let metrics: Vec<_> = words.filter_map(|word| word.strip_prefix("regcred_")).collect();
        assert!(!metrics.is_empty(), "{expression}");
        for metric in metrics {
            // The table has a histogram without the ending of its buckets.
            let family = metric.strip_suffix("_bucket").unwrap_or(metric);
            assert!(registered.contains(&format!("| `regcred_{family}` | ")), "{expression}");
        }
    }
}

/// The alerts that the chart gives with this value, by their names.
async fn alerts(value: &str) -> BTreeMap<String, serde_json::Value> {
    let text = chart::render(&["prometheusRule.enabled=true", value]).await.unwrap();
    let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).unwrap();
    let rule = objects.iter().find(|object| object["kind"] == "PrometheusRule").unwrap();
    let alerts = rule["spec"]["groups"][0]["rules"].as_array().unwrap().iter();
    alerts.map(|alert| (alert["alert"].as_str().unwrap().to_owned(), alert.clone())).collect()
}

/// The pages of `docs/runbooks` by their names, and the one that lists them.
fn runbooks() -> (BTreeMap<String, String>, String) {
    let files = std::fs::read_dir(repository().join("docs/runbooks")).unwrap();
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let page = |path: &Path| (name(path), std::fs::read_to_string(path).unwrap());
    let mut pages: BTreeMap<_, _> = files.map(|file| page(&file.unwrap().path())).collect();
    let list = pages.remove("README").unwrap();
    (pages, list)
}

#[tokio::test]
async fn each_alert_points_to_its_page_and_each_page_is_about_an_alert() {
    let (pages, list) = runbooks();
    let usual = "https://github.com/regcred/regcred/blob/main/docs/runbooks";
    let values = [("crds.keep=true", usual), ("prometheusRule.runbookURL=https://wiki/x/", "https://wiki/x")];
    for (value, base) in values {
        let alerts = alerts(value).await;
        assert_eq!(pages.keys().collect::<BTreeSet<_>>(), alerts.keys().collect());
        for (name, alert) in alerts {
            assert_eq!(alert["annotations"]["runbook_url"], format!("{base}/{name}.md"));
            let row = format!("| [{name}]({name}.md) | {} |", alert["labels"]["severity"].as_str().unwrap());
            assert!(list.contains(&row), "docs/runbooks/README.md lacks {row}");
        }
    }
    for (name, page) in &pages {
        let title = format!("# {name}\n");
        for part in [&title, "\n## What it means\n", "\n## Look\n", "\n## Do\n"] {
            assert!(page.contains(part), "{name}.md lacks {part}");
        }
    }
}

/// The arguments of each command of a page that changes nothing and needs no Pod, about the objects of `serve`.
fn reading_commands(page: &str) -> Vec<Vec<String>> {
    let placed =
        page.replace("NAMESPACE", "default").replace("NAME", "my-registry").replace("SECRET", "my-registry");
    let commands = placed.lines().filter_map(|line| line.strip_prefix("kubectl "));
    let reads = |line: &&str| line.starts_with("get ") || line.starts_with("auth can-i ");
    commands.filter(reads).map(words).collect()
}

/// As a shell reads a line without other marks than apostrophes.
fn words(line: &str) -> Vec<String> {
    let parts = line.split('\'').enumerate();
    let parts =
        parts.map(|(number, part)| if number % 2 == 0 { part.replace(' ', "\0") } else { part.to_owned() });
    parts.collect::<String>().split('\0').map(str::to_owned).collect()
}

/// Whoever reads a page at night must be able to trust its commands.
#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_runbooks_that_only_look_work_on_a_cluster() {
    let control_plane = ControlPlane::start(Options::default()).await.unwrap();
    chart::install(&control_plane, &[]).await.unwrap();
    let operator = operator(&control_plane).await;
    serve(&control_plane).await;
    let mut tried = 0;
    for (name, page) in runbooks().0 {
        for command in reading_commands(&page) {
            let arguments: Vec<_> = command.iter().map(String::as_str).collect();
            let output = control_plane.kubectl(control_plane.admin_identity(), &arguments, "").await.unwrap();
            assert!(output.status.success(), "{name}: {arguments:?}: {output:?}");
            tried += 1;
        }
    }
    assert!(tried >= 20, "{tried}");
    operator.terminate(SOON).await.unwrap();
}

/// Names, namespace and rights of an installation that shares nothing with the usual one.
#[tokio::test(flavor = "multi_thread")]
async fn the_cage_is_about_the_service_account_that_the_values_name() {
    let control_plane = ControlPlane::start(Options::default()).await.unwrap();
    kubectl(&control_plane, &["create", "namespace", "platform"], "").await;
    let values = [
        "fullnameOverride=pull",
        "namespaceOverride=platform",
        "serviceAccount.name=own",
        "rbac.aggregateToClusterReader=true",
        "networkPolicy.enabled=true",
        "commonLabels.team=a",
        "commonAnnotations.note=x",
        "imagePullSecrets[0].name=mirror",
        "deploymentAnnotations.reload=yes",
        "topologySpreadConstraints[0].topologyKey=zone,topologySpreadConstraints[0].maxSkew=1",
        "topologySpreadConstraints[0].whenUnsatisfiable=ScheduleAnyway",
        "extraObjects[0].apiVersion=v1,extraObjects[0].kind=ConfigMap,extraObjects[0].metadata.name=extra",
        "crds.keep=false",
    ];
    chart::install(&control_plane, &values).await.unwrap();
    kubectl(
        &control_plane,
        &["get", "deployment/pull", "serviceaccount/own", "lease/regcred", "-n", "platform"],
        "",
    )
    .await;
    let as_operator =
        ["create", "secret", "generic", "x", "-n", "default", "--as=system:serviceaccount:platform:own"];
    let admin = control_plane.admin_identity();
    // A policy is in force a moment after it was made.
    eventually("the cage refuses a Secret of its own", SOON, async || {
        let dry_run = [&as_operator[..], &["--dry-run=server"]].concat();
        let output = control_plane.kubectl(admin, &dry_run, "").await.unwrap();
        let refused = output.stderr.contains("pull-cage-secrets");
        if refused { Ok(()) } else { Err(format!("{output:?}")) }
    })
    .await;
    helm(Some(&control_plane), &["uninstall", RELEASE, "-n", OPERATOR_NAMESPACE]).await.unwrap();
    // The API server takes the objects of a kind away before the kind.
    eventually("no kind with crds.keep=false", SOON, async || {
        let left = kubectl(&control_plane, &["get", "crd", "-o", "name"], "").await;
        if left.contains("regcred") { Err(left) } else { Ok(()) }
    })
    .await;
}

/// What a cluster makes of the values about tokens.
#[tokio::test(flavor = "multi_thread")]
async fn the_values_of_tokens_apply() {
    let control_plane = ControlPlane::start(Options::default()).await.unwrap();
    let values = [
        "tokens.serviceAccounts={ecr-puller,acr-puller}",
        "tokens.metadataServers=true",
        "networkPolicy.enabled=true",
        r"tokens.endpoints.sts\.amazonaws\.com=https://vpce-1.example.com",
        r"serviceAccount.annotations.eks\.amazonaws\.com/role-arn=arn:aws:iam::123456789012:role/regcred",
    ];
    chart::install(&control_plane, &values).await.unwrap();
    for (object, path, wanted) in [
        ("serviceaccount/regcred", "{.metadata.annotations}", "role/regcred"),
        ("role/regcred", "{.rules[?(@.verbs[0]=='create')].resourceNames}", r#"["ecr-puller","acr-puller"]"#),
        (
            "deployment/regcred",
            "{.spec.template.spec.containers[0].args}",
            "--token-endpoint=sts.amazonaws.com=https://vpce-1.example.com",
        ),
        ("networkpolicy/regcred", "{.spec.egress[1].to}", "fd00:ec2::/64"),
        ("networkpolicy/regcred", "{.spec.egress[1].ports[*].port}", "80 988"),
    ] {
        let arguments = ["get", object, "-n", OPERATOR_NAMESPACE, "-o", &format!("jsonpath={path}")];
        let text = kubectl(&control_plane, &arguments, "").await;
        assert!(text.contains(wanted), "{object} {path}: {text}");
    }
}

/// An admin's look at what runs: nothing may be writable, privileged or root.
#[tokio::test]
async fn pods_keep_the_restricted_standard() {
    let text = chart::render(&[]).await.unwrap();
    for part in [
        "runAsNonRoot: true",
        "readOnlyRootFilesystem: true",
        "drop: [ALL]",
        "type: RuntimeDefault",
        "allowPrivilegeEscalation: false",
    ] {
        assert!(text.contains(part), "{part}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kustomize_builds_the_folder_as_it_stands() {
    let control_plane = ControlPlane::start(Options::default()).await.unwrap();
    install::install_crd(&control_plane).await.unwrap();
    let folder = repository().join("deploy").display().to_string();
    let admin = control_plane.admin_identity();
    let arguments = ["apply", "--server-side", "--force-conflicts", "--validate=strict", "-k", &folder];
    let output = control_plane.kubectl(admin, &arguments, "").await.unwrap().success().unwrap();
    assert!(
        output.contains("mutatingadmissionpolicy") && output.contains("deployment.apps/regcred"),
        "{output}"
    );
}

async fn kubectl(control_plane: &ControlPlane, arguments: &[&str], input: &str) -> String {
    control_plane.kubectl(control_plane.admin_identity(), arguments, input).await.unwrap().success().unwrap()
}

async fn operator(control_plane: &ControlPlane) -> Operator {
    let options = OperatorOptions { lease: true, ..OperatorOptions::default() };
    let operator = Operator::start(control_plane, options).await.unwrap();
    operator.wait_ready().await.unwrap();
    operator
}

/// Installs, serves the namespace `default` with the examples' kind of objects, and returns the copies.
async fn serve(control_plane: &ControlPlane) -> Api<Secret> {
    let source = [
        "create",
        "secret",
        "docker-registry",
        "my-registry",
        "-n",
        OPERATOR_NAMESPACE,
        "--docker-server=registry.example.com",
        "--docker-username=bot",
        "--docker-password=x",
    ];
    kubectl(control_plane, &source, "").await;
    let credential = "apiVersion: regcred.dev/v1alpha1\nkind: RegistryCredential\nmetadata: {name: my-registry}\n\
        spec: {dockerConfigSecretRefs: [{name: my-registry}], namespaces: {matchNames: [default]}}\n";
    kubectl(control_plane, &["apply", "-f", "-"], credential).await;
    kubectl(control_plane, &["wait", "regcred/my-registry", "--for=condition=Ready", "--timeout=30s"], "")
        .await;
    Api::namespaced(control_plane.admin().await.unwrap(), "default")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_with_a_new_operator_writes_no_copy_again() {
    let control_plane = ControlPlane::start(Options::default()).await.unwrap();
    chart::install(&control_plane, &[]).await.unwrap();
    let old = operator(&control_plane).await;
    let copies = serve(&control_plane).await;
    let before = copies.get_metadata("my-registry").await.unwrap();
    old.terminate(SOON).await.unwrap();
    let upgrade = ["upgrade", RELEASE, "deploy/chart", "-n", OPERATOR_NAMESPACE, "--set", "replicaCount=3"];
    helm(Some(&control_plane), &upgrade).await.unwrap();
    let mark = control_plane.audit().mark();
    let new = operator(&control_plane).await;
    // It is at work: it acts on a request.
    kubectl(&control_plane, &["annotate", "regcred/my-registry", "regcred.dev/requestedAt=now"], "").await;
    let handled =
        ["wait", "regcred/my-registry", "--for=jsonpath={.status.lastHandledRequest}=now", "--timeout=30s"];
    kubectl(&control_plane, &handled, "").await;
    let after = copies.get_metadata("my-registry").await.unwrap();
    assert_eq!((before.uid(), before.resource_version()), (after.uid(), after.resource_version()));
    let written = control_plane.audit().since(mark).writes_by(new.user());
    assert_eq!(written.of("secrets").counts().total(), 0, "nothing changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_in_the_documented_order_nothing_is_left_and_nothing_hangs() {
    let control_plane = ControlPlane::start(Options::default()).await.unwrap();
    chart::install(&control_plane, &[]).await.unwrap();
    let operator = operator(&control_plane).await;
    let copies = serve(&control_plane).await;
    kubectl(&control_plane, &["delete", "regcred", "--all", "--timeout=30s"], "").await;
    eventually("the copy to be gone", SOON, async || match copies.get_opt("my-registry").await.unwrap() {
        None => Ok(()),
        Some(_) => Err("there".to_owned()),
    })
    .await;
    let accounts: Api<ServiceAccount> = Api::namespaced(control_plane.admin().await.unwrap(), "default");
    assert_eq!(accounts.get("default").await.unwrap().image_pull_secrets.unwrap_or_default(), []);
    operator.terminate(SOON).await.unwrap();
    helm(Some(&control_plane), &["uninstall", RELEASE, "-n", OPERATOR_NAMESPACE]).await.unwrap();
    kubectl(&control_plane, &["delete", "crd", install::CRD_NAME, "--timeout=30s"], "").await;
    let left = [
        "get",
        "clusterroles,clusterrolebindings,validatingadmissionpolicies,mutatingadmissionpolicies",
        "-o",
        "name",
    ];
    let left = kubectl(&control_plane, &left, "").await;
    assert!(!left.contains("regcred"), "{left}");
}

/// Uninstalling the release first keeps the copies, so that Pods go on pulling; installed again, it resumes its work.
#[tokio::test(flavor = "multi_thread")]
async fn removed_without_the_order_pods_keep_pulling_and_a_new_install_clears_up() {
    let control_plane = ControlPlane::start(Options::default()).await.unwrap();
    chart::install(&control_plane, &[]).await.unwrap();
    let first = operator(&control_plane).await;
    let copies = serve(&control_plane).await;
    first.terminate(SOON).await.unwrap();
    helm(Some(&control_plane), &["uninstall", RELEASE, "-n", OPERATOR_NAMESPACE]).await.unwrap();
    assert!(copies.get_opt("my-registry").await.unwrap().is_some());
    kubectl(&control_plane, &["get", "regcred", "my-registry"], "").await;
    chart::install(&control_plane, &[]).await.unwrap();
    let _second = operator(&control_plane).await;
    kubectl(&control_plane, &["delete", "regcred", "--all", "--timeout=30s"], "").await;
    assert!(copies.get_opt("my-registry").await.unwrap().is_none());
}

/// As the README says it is done.
#[tokio::test]
async fn an_installation_with_kubectl_goes_over_to_helm() {
    let control_plane = ControlPlane::start(Options::default()).await.unwrap();
    install::install(&control_plane).await.unwrap();
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let flags = ["--take-ownership", "--force-conflicts"];
    assert!(readme.contains(&format!("`helm install {}", flags.join(" "))));
    let install = ["install", RELEASE, "deploy/chart", "--namespace", OPERATOR_NAMESPACE];
    let refusal = helm(Some(&control_plane), &install).await.unwrap_err().to_string();
    assert!(refusal.contains("invalid ownership metadata"), "{refusal}");
    helm(Some(&control_plane), &[&install[..], &flags].concat()).await.unwrap();
}

/// What the CRD refuses on copies, the cage keeps from a stolen token, too. It knows more, and takes what ends in one of its
/// domains after a hyphen.
#[test]
fn the_cage_knows_each_domain_whose_labels_the_crd_refuses() {
    let helpers = std::fs::read_to_string(repository().join("deploy/chart/templates/_helpers.tpl")).unwrap();
    let (_, list) = helpers.split_once("define \"regcred.domainsOfTools\" -}}").unwrap();
    let (list, _) = list.split_once("{{- end }}").unwrap();
    let caged: Vec<_> = list.split_whitespace().collect();
    for domain in regcred_api::RESERVED_DOMAINS {
        let hyphened = domain.split_once('-').is_some_and(|(_, end)| caged.contains(&end));
        assert!(caged.contains(&domain) || hyphened, "{domain}");
    }
}

/// A tag can be moved to other code, a commit cannot.
#[test]
fn workflows_pin_each_action_by_its_commit_and_ask_for_rights_by_name() {
    let workflows = std::fs::read_dir(repository().join(".github/workflows")).unwrap();
    let mut actions = 0;
    for file in workflows {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("\npermissions: {}\n"), "{}: nothing by default", path.display());
        for line in text.lines().filter_map(|line| line.trim_start_matches([' ', '-']).strip_prefix("uses: "))
        {
            let (commit, comment) = line.split_once('@').unwrap().1.split_once(' ').unwrap_or_default();
            let is_commit = commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit());
            assert!(is_commit && comment.starts_with("# v"), "{}: {line}", path.display());
            actions += 1;
        }
    }
    assert!(actions >= 8, "{actions}");
}
