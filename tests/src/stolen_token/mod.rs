//! What a stolen token of the operator can do in each profile: a table that is tried on the real API server, and
//! from which `docs/stolen-token.md` is made.

use http::{Request, header};
use kube::Client;
use serde::Deserialize;
use serde_json::Value;

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
    /// Tries it, and tells what stopped it. An answer that is neither success nor a refusal of these two kinds is an
    /// error: the attack was not well made.
    pub async fn attempt(&self, client: &Client) -> Result<Stop, String> {
        match client.request_text(self.http_request()).await {
            Ok(_) => Ok(Stop::Nothing),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                if status.message.contains("ValidatingAdmissionPolicy 'regcred-cage-") {
                    Ok(Stop::Cage)
                } else if status.message.contains(" cannot ") {
                    Ok(Stop::Rbac)
                } else {
                    Err(status.message)
                }
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn http_request(&self) -> Request<Vec<u8>> {
        let (method, path) = self.request.split_once(' ').expect("a request is a method and a path");
        let (method, kind) = match method {
            "MERGE" => ("PATCH", "application/merge-patch+json"),
            "APPLY" => ("PATCH", "application/apply-patch+yaml"),
            other => (other, "application/json"),
        };
        let query = if kind.contains("apply") { "?fieldManager=regcred&force=true" } else { "" };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{path}{query}"))
            .header(header::CONTENT_TYPE, kind);
        if let Some(user) = &self.impersonate {
            request = request.header("Impersonate-User", user);
        }
        let body = if self.body.is_null() { Vec::new() } else { self.body.to_string().into_bytes() };
        request.body(body).expect("attacks are valid requests")
    }
}

/// The page of the table.
pub fn page() -> String {
    let told = |stop| match stop {
        Stop::Rbac => "RBAC",
        Stop::Cage => "cage",
        Stop::Nothing => "**possible**",
    };
    let rows = attacks().into_iter().map(|attack| {
        format!(
            "| {} | `{}` | {} | {} |\n",
            attack.what,
            attack.request,
            told(attack.any),
            told(attack.listed)
        )
    });
    format!(
        "<!-- Made from tests/src/stolen_token/attacks.yaml by `just generate`. -->\n\
         # What a stolen token of regcred can do\n\n\
         Each line is tried on a real API server with the operator's own token (`tests/tests/security.rs`). *RBAC*: \
         the permission is missing. *Cage*: an admission policy of the chart refuses it. *Any name* is an \
         installation without `targetNames`; *listed* one with `targetNames: [platform-pull]`.\n\n\
         | what the thief tries | request | any name | listed |\n|---|---|---|---|\n{}",
        rows.collect::<String>()
    )
}
