//! What a stolen token of the operator can do in each profile: a table that is tried on the real API server, and
//! from which `docs/stolen-token.md` is made.

use http::{Request, header};
use kube::Client;
use serde::Deserialize;
use serde_json::{Value, json};

/// What stops an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Stop {
    /// The permission is missing.
    #[serde(rename = "rbac")]
    Rbac,
    /// An admission policy.
    #[serde(rename = "cage")]
    Cage,
    /// Nothing.
    #[serde(rename = "-")]
    Nothing,
}

/// Something that a thief tries.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attack {
    /// In words.
    pub what: String,
    /// A method and a path; `MERGE` and `APPLY` are patches of that kind.
    pub request: String,
    /// The body.
    #[serde(default)]
    pub body: Value,
    /// Whom the thief says to be.
    pub impersonate: Option<String>,
    /// What stops it where any target name is allowed.
    pub any: Stop,
    /// What stops it where target names are listed.
    pub listed: Stop,
    /// What stops it where any target name is allowed, and adopting too; as `any` where it is left out.
    adopt: Option<Stop>,
}

/// Every attack.
pub fn attacks() -> Vec<Attack> {
    serde_saphyr::from_str(include_str!("attacks.yaml")).expect("attacks.yaml fits the type above")
}

/// A line of the README's table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// What the thief is after.
    pub what: String,
    /// How far that goes where any target name is allowed.
    pub any: Claim,
    /// How far that goes where target names are listed.
    pub listed: Claim,
}

/// How far a thief comes, and the attacks that show it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// In words.
    pub told: String,
    /// Attacks that nothing stops.
    #[serde(default)]
    pub possible: Vec<String>,
    /// Attacks that something stops.
    #[serde(default)]
    pub stopped: Vec<String>,
}

/// The README's table.
pub fn summary() -> Vec<Summary> {
    serde_saphyr::from_str(include_str!("summary.yaml")).expect("summary.yaml fits the type above")
}

impl Claim {
    /// Which attacks it names wrongly: that there are none of, or that end in another way in this profile.
    pub fn wrong(&self, profile: fn(&Attack) -> Stop) -> Vec<String> {
        let attacks = attacks();
        let ends = |name: &String, in_nothing: bool| {
            let mut named = attacks.iter().filter(|attack| attack.what == *name).peekable();
            named.peek().is_some() && named.all(|attack| (profile(attack) == Stop::Nothing) == in_nothing)
        };
        let possible = self.possible.iter().filter(|name| !ends(name, true));
        possible.chain(self.stopped.iter().filter(|name| !ends(name, false))).cloned().collect()
    }
}

/// The README's table, as Markdown.
pub fn summary_table() -> String {
    let rows = summary()
        .into_iter()
        .map(|row| format!("| {} | {} | {} |\n", row.what, row.any.told, row.listed.told));
    format!("| | any name | listed names |\n|---|---|---|\n{}", rows.collect::<String>())
}

impl Attack {
    /// What stops it where any target name is allowed, and adopting too.
    pub fn adopt(&self) -> Stop {
        self.adopt.unwrap_or(self.any)
    }

    /// Tries it, and tells what stopped it. An answer that is neither success nor a refusal of these two kinds is an
    /// error: the attack was not well made.
    pub async fn attempt(&self, client: &Client) -> Result<Stop, String> {
        let mut body = self.body.clone();
        expand(&mut body);
        if body["metadata"]["resourceVersion"] == "current" {
            let mut metadata = self.current_metadata(client).await?;
            body["metadata"]["resourceVersion"] = metadata["resourceVersion"].clone();
            merge(&mut metadata, body["metadata"].take());
            body["metadata"] = metadata;
        }
        match client.request_text(self.http_request(&body)).await {
            Ok(_) => Ok(Stop::Nothing),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                if status.message.contains("ValidatingAdmissionPolicy 'regcred-cage-") {
                    Ok(Stop::Cage)
                // Kubernetes 1.30 gives no reason where RBAC refuses that an apply makes an object.
                } else if status.message.contains(" cannot ") || status.message.ends_with(" is forbidden: ") {
                    Ok(Stop::Rbac)
                } else {
                    Err(status.message)
                }
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// The metadata of the object as it is stored.
    async fn current_metadata(&self, client: &Client) -> Result<Value, String> {
        let (_, path) = self.parts();
        let request = Request::get(path).body(Vec::new()).expect("attacks are valid requests");
        let object: Value = client.request(request).await.map_err(|error| error.to_string())?;
        Ok(object["metadata"].clone())
    }

    fn parts(&self) -> (&str, &str) {
        self.request.split_once(' ').expect("a request is a method and a path")
    }

    /// A dry run passes the same authorization and admission, and leaves everything as it is for the next attack.
    fn http_request(&self, body: &Value) -> Request<Vec<u8>> {
        let (method, path) = self.parts();
        let (method, kind, query) = match method {
            "GET" => ("GET", "application/json", ""),
            "MERGE" => ("PATCH", "application/merge-patch+json", "dryRun=All"),
            "APPLY" => {
                ("PATCH", "application/apply-patch+yaml", "dryRun=All&fieldManager=regcred&force=true")
            }
            other => (other, "application/json", "dryRun=All"),
        };
        let joint = if path.contains('?') { '&' } else { '?' };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{path}{joint}{query}"))
            .header(header::CONTENT_TYPE, kind);
        if let Some(user) = &self.impersonate {
            request = request.header("Impersonate-User", user);
        }
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        request.body(body).expect("attacks are valid requests")
    }
}

/// Replaces the text `20 characters`, and `20 entries` for a list, by as many.
fn expand(value: &mut Value) {
    match value {
        Value::String(text) => {
            let number = |unit| text.strip_suffix(unit).and_then(|number| number.parse::<usize>().ok());
            if let Some(length) = number(" characters") {
                *value = "x".repeat(length).into();
            } else if let Some(length) = number(" entries") {
                *value = entries(length);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(expand),
        Value::Object(members) => members.values_mut().for_each(expand),
        _ => {}
    }
}

/// Puts the members of one value over those of another.
fn merge(value: &mut Value, over: Value) {
    match (value, over) {
        (Value::Object(members), Value::Object(over)) => {
            over.into_iter().for_each(|(name, over)| merge(members.entry(name).or_insert(Value::Null), over));
        }
        (value, over) => *value = over,
    }
}

/// So many different `imagePullSecrets`.
pub fn entries(length: usize) -> Value {
    (0..length).map(|number| json!({ "name": format!("entry-{number}") })).collect()
}

/// The page of the table.
pub fn page() -> String {
    let told = |stop| match stop {
        Stop::Rbac => "RBAC",
        Stop::Cage => "cage",
        Stop::Nothing => "**possible**",
    };
    let attacks = attacks();
    let rows = attacks.iter().map(|attack| {
        let profiles = [attack.any, attack.listed, attack.adopt()].map(told).join(" | ");
        format!("| {} | `{}` | {profiles} |\n", attack.what, attack.request)
    });
    format!(
        "<!-- Made from tests/src/stolen_token/attacks.yaml by `just generate`. -->\n\
         # What a stolen token of regcred can do\n\n\
         {} tries, each on a real API server with the operator's own token, as a dry run \
         (`tests/tests/security.rs`); the bodies are in `tests/src/stolen_token/attacks.yaml`. *RBAC*: the permission \
         is missing. *Cage*: an admission policy of the chart refuses it. *Possible*: nothing stops it, because the \
         operator needs it, or because it gives a thief no more than another line does. *Any name* is an \
         installation without `targetNames`; *listed* one with `targetNames: [platform-pull]`; *adopt* one with \
         `cage.allowAdopt`. Each lists the ServiceAccount `puller` in `tokens.serviceAccounts`; where nothing is listed, \
         RBAC stops what is possible with it here.\n\n\
         | what the thief tries | request | any name | listed | adopt |\n|---|---|---|---|---|\n{}",
        attacks.len(),
        rows.collect::<String>()
    )
}
