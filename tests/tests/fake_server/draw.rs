//! What is asked: random requests to few objects, so that they meet.

use fastrand::Rng;
use serde_json::{Value, json};

/// A request. Bodies and queries may name what the server has said before, see `side`.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// The method.
    pub method: &'static str,
    /// The path.
    pub path: String,
    /// The path of the object that is meant.
    pub object: String,
    /// Parameters.
    pub query: Vec<(&'static str, String)>,
    /// `Content-Type`.
    pub content: &'static str,
    /// `Accept`.
    pub accept: &'static str,
    /// The body.
    pub body: Value,
}

/// A kind of object: group and version, plural, kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Namespace,
    Account,
    Secret,
    Lease,
    Event,
    Credential,
}

/// Draws requests.
pub struct Draw {
    rng: Rng,
    /// Names what belongs to this sequence.
    stream: String,
    marks: usize,
    paged: Option<Ask>,
}

const KINDS: [Kind; 6] =
    [Kind::Namespace, Kind::Account, Kind::Secret, Kind::Lease, Kind::Event, Kind::Credential];
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

impl Ask {
    fn of(method: &'static str, kind: Kind, namespace: &str, name: &str) -> Self {
        let path = format!("{}/{name}", kind.collection(namespace));
        Self { method, object: path.clone(), path, ..Self::default() }
    }

    /// Whether the answer holds the whole object.
    pub fn is_whole(&self) -> bool {
        self.accept.is_empty()
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }
}

impl Kind {
    fn api_version(self) -> &'static str {
        match self {
            Self::Namespace | Self::Account | Self::Secret => "v1",
            Self::Lease => "coordination.k8s.io/v1",
            Self::Event => "events.k8s.io/v1",
            Self::Credential => "regcred.dev/v1alpha1",
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Self::Namespace => "namespaces",
            Self::Account => "serviceaccounts",
            Self::Secret => "secrets",
            Self::Lease => "leases",
            Self::Event => "events",
            Self::Credential => "registrycredentials",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Account => "ServiceAccount",
            Self::Secret => "Secret",
            Self::Lease => "Lease",
            Self::Event => "Event",
            Self::Credential => "RegistryCredential",
        }
    }

    fn is_namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::Credential)
    }

    fn root(self) -> String {
        let version = self.api_version();
        if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") }
    }

    fn collection(self, namespace: &str) -> String {
        if self.is_namespaced() {
            format!("{}/namespaces/{namespace}/{}", self.root(), self.plural())
        } else {
            format!("{}/{}", self.root(), self.plural())
        }
    }
}

impl Draw {
    /// Draws for a sequence of this name.
    pub fn new(rng: Rng, stream: String) -> Self {
        Self { rng, stream, marks: 0, paged: None }
    }

    /// Namespaces to begin with.
    pub fn opening(&mut self) -> Vec<Ask> {
        let names = ["0", "1", "x"].map(|suffix| format!("{}-{suffix}", self.stream));
        names.into_iter().map(|name| self.create(Kind::Namespace, "", &name)).collect()
    }

    /// An event for every watch, so that whoever waits for it has seen all others.
    pub fn closing(&mut self) -> Vec<Ask> {
        let mut asks = Vec::new();
        for kind in KINDS {
            for name in self.names(kind) {
                asks.push(self.mark(kind, &name));
            }
        }
        asks
    }

    /// Paths of watches, each with its selectors.
    pub fn watched(&self) -> Vec<String> {
        let own = format!("labelSelector=stream%3D{}", self.stream);
        let mut paths: Vec<String> =
            KINDS.iter().map(|kind| format!("{}/{}?watch=true&{own}", kind.root(), kind.plural())).collect();
        let secrets = format!("/api/v1/namespaces/{}-0/secrets?watch=true", self.stream);
        paths.push(format!("{secrets}&fieldSelector=metadata.name%3Da"));
        paths.push(format!("{secrets}&fieldSelector=type%3Dkubernetes.io%2Fdockerconfigjson"));
        paths.push(format!(
            "{secrets}&fieldSelector=metadata.name%3Db,type%21%3Dkubernetes.io%2Fdockerconfigjson"
        ));
        paths.push(format!("{secrets}&{own},l%3D1"));
        paths
    }

    /// A watch to go on with, after the state of which object, and which of its states.
    pub fn resumed(&mut self) -> (String, String, usize) {
        let paths = self.watched();
        let path = paths[self.rng.usize(0..paths.len())].clone();
        let (kind, namespace) = (self.kind(), self.namespace());
        let name = self.name(kind);
        (path, format!("{}/{name}", kind.collection(&namespace)), self.rng.usize(0..3))
    }

    /// The next request.
    pub fn ask(&mut self) -> Ask {
        let (kind, namespace) = (self.kind(), self.namespace());
        let name = self.name(kind);
        let mut ask = match self.rng.u8(0..24) {
            0..=4 => self.create(kind, &namespace, &name),
            5 | 6 => Ask::of("GET", kind, &namespace, &name),
            7 | 8 => self.list(kind, &namespace),
            9 | 10 => self.merge(kind, &namespace, &name, MERGE),
            11 | 12 if kind != Kind::Credential => self.merge(kind, &namespace, &name, STRATEGIC),
            13 => self.json_patch(kind, &namespace, &name),
            14..=17 => self.apply(kind, &namespace, &name),
            18 | 19 => self.replace(kind, &namespace, &name),
            20..=22 => self.delete(kind, &namespace, &name),
            _ => self.write_status(&name),
        };
        if self.one_in(6) && ask.method != "DELETE" {
            ask.accept = if ask.object.is_empty() { METADATA_LIST } else { METADATA };
        }
        ask
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.rng.usize(0..many) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.usize(0..from.len())]
    }

    fn kind(&mut self) -> Kind {
        let weighted =
            [Kind::Account, Kind::Secret, Kind::Secret, Kind::Credential, Kind::Lease, Kind::Event];
        if self.one_in(12) { Kind::Namespace } else { self.pick(&weighted) }
    }

    fn namespace(&mut self) -> String {
        let suffix = self.pick(&["0", "0", "0", "0", "1", "1", "x", "none"]);
        format!("{}-{suffix}", self.stream)
    }

    fn names(&self, kind: Kind) -> Vec<String> {
        let own = |suffixes: [&str; 4]| suffixes.map(|suffix| format!("{}-{suffix}", self.stream)).to_vec();
        match kind {
            Kind::Namespace => own(["0", "1", "x", "y"]),
            Kind::Credential => own(["a", "b", "c", "d"]),
            _ => ["a", "b", "c"].map(str::to_owned).to_vec(),
        }
    }

    fn name(&mut self, kind: Kind) -> String {
        let names = self.names(kind);
        names[self.rng.usize(0..names.len())].clone()
    }

    fn manager(&mut self) -> String {
        self.pick(&["one", "two", "three"]).to_owned()
    }

    fn create(&mut self, kind: Kind, namespace: &str, name: &str) -> Ask {
        let mut body = self.body(kind);
        body["metadata"]["name"] = json!(name);
        if self.one_in(20) {
            let member = self.pick(&["uid", "resourceVersion"]);
            body["metadata"][member] = json!(
                format!("${member}:0:{}/{name}", kind.collection(namespace))
                    .replace("$resourceVersion", "$version")
            );
        }
        let ask = Ask::of("POST", kind, namespace, name);
        let manager = self.manager();
        Ask { path: kind.collection(namespace), content: JSON, body, ..ask }.with("fieldManager", manager)
    }

    fn list(&mut self, kind: Kind, namespace: &str) -> Ask {
        let everywhere = !kind.is_namespaced() || self.rng.bool();
        let path = if everywhere {
            format!("{}/{}", kind.root(), kind.plural())
        } else {
            kind.collection(namespace)
        };
        let mut ask = Ask { method: "GET", path, ..Ask::default() };
        let own = format!("stream={}", self.stream);
        let labels = self.pick(&["", ",l=1", ",l!=1", ",l", ",!l", ",l==2"]);
        if everywhere || self.rng.bool() {
            ask = ask.with("labelSelector", format!("{own}{labels}"));
        }
        if self.one_in(3) {
            let fields = ["metadata.name=a", "metadata.name!=a", "type=Opaque", "type!=Opaque", "spec.x=1"];
            let fields = self.pick(&fields);
            ask = ask.with("fieldSelector", fields);
        }
        if ask.query.is_empty() && !everywhere {
            ask = self.page(ask);
        }
        ask
    }

    /// The first page of a list, or the next one of the list before. Only for lists without selectors: with some, it
    /// depends on the objects of others whether there is a next one.
    fn page(&mut self, ask: Ask) -> Ask {
        if let Some(paged) = self.paged.take().filter(|_| self.rng.bool()) {
            return paged.with("continue", "$continue");
        }
        let first = ask.with("limit", self.pick(&["1", "2"]));
        self.paged = Some(first.clone());
        first
    }

    fn merge(&mut self, kind: Kind, namespace: &str, name: &str, content: &'static str) -> Ask {
        let mut body = self.edit(kind);
        self.guard(&mut body, kind, namespace, name);
        let manager = self.manager();
        let ask = Ask::of("PATCH", kind, namespace, name).with("fieldManager", manager);
        Ask { content, body, ..ask }
    }

    /// Sometimes: only if the object is still the one, or another one.
    fn guard(&mut self, body: &mut Value, kind: Kind, namespace: &str, name: &str) {
        let object = format!("{}/{name}", kind.collection(namespace));
        let ago = self.rng.usize(0..2);
        if self.one_in(3) {
            body["metadata"]["resourceVersion"] = json!(format!("$version:{ago}:{object}"));
        }
        if self.one_in(8) {
            body["metadata"]["uid"] = json!(format!("$uid:{ago}:{object}"));
        }
    }

    fn json_patch(&mut self, kind: Kind, namespace: &str, name: &str) -> Ask {
        let body = match self.rng.u8(0..4) {
            0 => json!([{"op": "add", "path": "/metadata/labels/l", "value": "1"}]),
            1 => json!([{"op": "add", "path": "/metadata/annotations", "value": {"a": "y"}}]),
            2 => json!([
                {"op": "test", "path": "/metadata/finalizers", "value": ["example.com/f"]},
                {"op": "replace", "path": "/metadata/finalizers", "value": []},
            ]),
            _ => json!([{"op": "add", "path": "/metadata/finalizers", "value": ["example.com/f"]}]),
        };
        let manager = self.manager();
        let ask = Ask::of("PATCH", kind, namespace, name).with("fieldManager", manager);
        Ask { content: JSON_PATCH, body, ..ask }
    }

    fn apply(&mut self, kind: Kind, namespace: &str, name: &str) -> Ask {
        let mut body = self.body(kind);
        body["metadata"]["name"] = json!(name);
        if kind == Kind::Secret && self.rng.bool() {
            body.as_object_mut().map(|members| members.remove("type"));
        }
        self.guard(&mut body, kind, namespace, name);
        let (manager, force) = (self.manager(), self.rng.bool());
        let ask = Ask::of("PATCH", kind, namespace, name).with("fieldManager", manager);
        Ask { content: APPLY, body, ..ask }.with("force", force.to_string())
    }

    fn replace(&mut self, kind: Kind, namespace: &str, name: &str) -> Ask {
        let object = format!("{}/{name}", kind.collection(namespace));
        let ago = usize::from(self.one_in(4));
        let mut edit = self.edit(kind);
        if ago > 0 || self.rng.bool() {
            edit["metadata"]["managedFields"] = Value::Null;
        }
        let whole =
            json!({"apiVersion": kind.api_version(), "kind": kind.name(), "metadata": {"name": name}});
        let mut body = json!({"$object": object, "$ago": ago, "$edit": whole});
        for (member, value) in edit.as_object().into_iter().flatten() {
            if member == "metadata" {
                for (member, value) in value.as_object().into_iter().flatten() {
                    body["$edit"]["metadata"][member] = value.clone();
                }
            } else {
                body["$edit"][member] = value.clone();
            }
        }
        if kind == Kind::Event {
            json_merge(&mut body["$edit"], &event());
        }
        let manager = self.manager();
        let ask = Ask::of("PUT", kind, namespace, name).with("fieldManager", manager);
        Ask { content: JSON, body, ..ask }
    }

    fn delete(&mut self, kind: Kind, namespace: &str, name: &str) -> Ask {
        let keeps =
            kind == Kind::Namespace && (name.ends_with("-0") || name.ends_with("-1") || !self.one_in(4));
        if keeps {
            return Ask::of("GET", kind, namespace, name);
        }
        let object = format!("{}/{name}", kind.collection(namespace));
        let ago = usize::from(self.one_in(3));
        let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
        let mut policies = vec!["", "", "Background", "Foreground", "Orphan"];
        if self.rng.bool() {
            options["preconditions"] = json!({
                "uid": format!("$uid:{ago}:{object}"), "resourceVersion": format!("$version:{ago}:{object}"),
            });
            // Where such a deletion ends one that waits for the garbage collector, Kubernetes refuses it with an empty
            // resourceVersion.
            policies.retain(|policy| *policy != "Background");
        }
        let policy = self.pick(&policies);
        if !policy.is_empty() && kind != Kind::Namespace {
            options["propagationPolicy"] = json!(policy);
        }
        Ask { content: JSON, body: options, ..Ask::of("DELETE", kind, namespace, name) }
    }

    fn write_status(&mut self, name: &str) -> Ask {
        let name = if name.starts_with(&self.stream) { name.to_owned() } else { self.name(Kind::Credential) };
        let condition = |value: &str| {
            json!({"type": "Ready", "status": value, "reason": "R", "message": "m",
                "lastTransitionTime": "2026-01-01T00:00:00Z"})
        };
        let ready = self.pick(&["True", "False"]);
        let status = json!({"observedGeneration": self.rng.u8(1..3), "conditions": [condition(ready)]});
        let manager = self.manager();
        let mut ask = Ask::of("PATCH", Kind::Credential, "", &name).with("fieldManager", manager);
        ask.path += "/status";
        match self.rng.u8(0..3) {
            0 => {
                ask.content = MERGE;
                ask.body = json!({"status": status, "metadata": {"labels": {"ignored": "yes"}}});
            }
            1 => {
                ask.content = JSON_PATCH;
                ask.body = json!([
                    {"op": "test", "path": "/metadata/uid", "value": format!("$uid:0:{}", ask.object)},
                    {"op": "add", "path": "/status", "value": status},
                ]);
            }
            _ => {
                ask.content = APPLY;
                ask.body = json!({"apiVersion": "regcred.dev/v1alpha1", "kind": "RegistryCredential",
                    "metadata": {"name": name}, "status": status});
                ask = ask.with("force", "true");
            }
        }
        ask
    }

    /// A harmless change of an object, or the object itself.
    fn mark(&mut self, kind: Kind, name: &str) -> Ask {
        self.marks += 1;
        let mut body = self.body(kind);
        body["metadata"] = json!({"name": name, "labels": {"stream": self.stream, "l": "1"},
            "annotations": {"mark": self.marks.to_string()}});
        if kind == Kind::Secret {
            for member in ["type", "immutable", "data"] {
                body.as_object_mut().map(|members| members.remove(member));
            }
        }
        let namespace = format!("{}-0", self.stream);
        let ask = Ask::of("PATCH", kind, &namespace, name).with("fieldManager", "mark").with("force", "true");
        Ask { content: APPLY, body, ..ask }
    }

    fn metadata(&mut self) -> Value {
        let mut metadata = json!({"labels": {"stream": self.stream}});
        if self.rng.bool() {
            metadata["labels"]["l"] = json!(self.pick(&["1", "2"]));
        }
        if self.rng.bool() {
            metadata["annotations"] = self.pick(&[r#"{"a":"x"}"#, r#"{"a":"y","b":"x"}"#]).parse().unwrap();
        }
        if self.one_in(8) {
            metadata["finalizers"] = self.finalizers();
        }
        if self.one_in(6) {
            metadata["ownerReferences"] = json!([self.owner()]);
        }
        metadata
    }

    fn finalizers(&mut self) -> Value {
        self.pick(&[r#"["example.com/f"]"#, r#"["example.com/g"]"#, r#"["example.com/f","example.com/g"]"#])
            .parse()
            .unwrap()
    }

    fn owner(&mut self) -> Value {
        let number = self.rng.u8(1..3);
        let uid = format!("00000000-bbbb-4000-8000-00000000000{number}");
        json!({"apiVersion": "regcred.dev/v1alpha1", "kind": "RegistryCredential", "name": self.pick(&["o", "p"]),
            "uid": uid})
    }

    fn body(&mut self, kind: Kind) -> Value {
        let mut body = match kind {
            Kind::Namespace => json!({}),
            Kind::Account => self.account(),
            Kind::Secret => self.secret(),
            Kind::Lease => json!({"spec": self.lease()}),
            Kind::Event => event(),
            Kind::Credential => json!({"spec": self.credential()}),
        };
        body["apiVersion"] = json!(kind.api_version());
        body["kind"] = json!(kind.name());
        body["metadata"] = self.metadata();
        if kind == Kind::Namespace {
            body["metadata"].as_object_mut().map(|metadata| metadata.remove("finalizers"));
        }
        body
    }

    /// A merge patch.
    fn edit(&mut self, kind: Kind) -> Value {
        let mut edit = json!({"metadata": {}});
        match self.rng.u8(0..8) {
            0 => edit["metadata"]["labels"] = json!({"l": self.pick(&["1", "2"])}),
            1 => edit["metadata"]["labels"] = json!({"l": null}),
            2 => edit["metadata"]["annotations"] = json!({"a": self.pick(&["x", "y"]), "b": null}),
            3 => edit["metadata"]["annotations"] = Value::Null,
            4 if kind != Kind::Namespace => edit["metadata"]["finalizers"] = self.finalizers(),
            5 if kind != Kind::Namespace => edit["metadata"]["finalizers"] = Value::Null,
            6 => edit["metadata"]["ownerReferences"] = json!([self.owner()]),
            _ => {}
        }
        match kind {
            Kind::Account if self.rng.bool() => {
                edit["imagePullSecrets"] = self.account()["imagePullSecrets"].clone();
            }
            Kind::Account if self.one_in(3) => edit["secrets"] = json!([{"name": self.pick(&["s", "t"])}]),
            Kind::Secret if self.rng.bool() => {
                edit["data"] = json!({"k": self.pick(&[Some("YQ=="), Some("Yg=="), None])});
            }
            Kind::Secret if self.one_in(4) => edit["immutable"] = json!(self.rng.bool()),
            Kind::Secret if self.one_in(8) => edit["type"] = json!(self.pick(&["Opaque", "example.com/t"])),
            Kind::Lease if self.rng.bool() => edit["spec"] = self.lease(),
            Kind::Credential if self.rng.bool() => edit["spec"] = self.credential(),
            _ => {}
        }
        edit
    }

    fn account(&mut self) -> Value {
        let list = self.pick(&["[]", r#"[{"name":"a"}]"#, r#"[{"name":"b"},{"name":"a"}]"#]);
        let mut account = json!({"imagePullSecrets": list.parse::<Value>().unwrap()});
        if self.one_in(4) {
            account["secrets"] = json!([{"name": self.pick(&["s", "t"])}]);
        }
        if self.one_in(4) {
            account["automountServiceAccountToken"] = json!(self.rng.bool());
        }
        account
    }

    fn secret(&mut self) -> Value {
        let mut secret = match self.rng.u8(0..4) {
            0 => json!({"data": {"k": "YQ=="}}),
            1 => json!({"type": "example.com/t", "data": {"k": "YQ==", "m": "Yg=="}}),
            _ => json!({
                "type": "kubernetes.io/dockerconfigjson",
                "data": {".dockerconfigjson": self.pick(&["e30=", "eyJhdXRocyI6e319"])},
            }),
        };
        if self.one_in(12) {
            secret["immutable"] = json!(true);
        }
        secret
    }

    fn lease(&mut self) -> Value {
        json!({
            "holderIdentity": self.pick(&["x", "y"]), "leaseDurationSeconds": self.rng.u8(1..3),
            "renewTime": self.pick(&["2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:01.500000Z"]),
        })
    }

    fn credential(&mut self) -> Value {
        let source = |name: &str| json!({"secretRef": {"name": name}});
        let name = self.pick(&["s", "t"]);
        let mut spec = json!({
            "registries": [{"server": "ghcr.io", "source": source(name)}],
            "namespaces": {"matchNames": [self.pick(&["m", "n"])]},
        });
        if self.one_in(3) {
            spec["suspend"] = json!(self.rng.bool());
        }
        if self.one_in(4) {
            spec["dockerConfigSecretRefs"] = json!([{"name": self.pick(&["r", "q"])}]);
        }
        if self.one_in(4) {
            spec["target"] = json!({"name": self.pick(&["v", "w"])});
        }
        spec
    }
}

fn json_merge(at: &mut Value, members: &Value) {
    for (member, value) in members.as_object().into_iter().flatten() {
        at[member] = value.clone();
    }
}

fn event() -> Value {
    json!({
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "regcred.dev/regcred",
        "reportingInstance": "i", "action": "A", "reason": "R", "note": "n", "type": "Normal",
        "regarding": {"apiVersion": "regcred.dev/v1alpha1", "kind": "RegistryCredential", "name": "o", "namespace": "default"},
    })
}
