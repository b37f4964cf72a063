//! Every message of the product in one table: what is wrong, where, and what to do. A new variant of an error, or a new
//! reason, without a row does not compile; a new rule of the CRD without a row fails.
//!
//! Where a message stands in `status.failures` or a condition, namespace, kind and name stand beside it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use regcred_api::{Class, Reason, RegistryCredentialStatus, RegistryStatus};
use regcred_dockerconfig::{ConfigError, LoginError, Server};
use regcred_index::{CredentialBody, Event, Index, Origin, Received};
use regcred_planner::{
    Answer, Credential, Fault, Gate, InvalidSpec, Object, Observed, ResolvedRegistry, SelectorError,
    Settings, SourceNote, SourceState, StepError, Tally, Verdict, Verified, report,
};
use regcred_registry::{Hint, Refusal, Trouble, Unknown, Verdict as Said};
use regcred_sources::{Held, Identity, Issuer, MintError, Purpose, SourceError, TokenRequest};
use serde_json::{Value, json};

use crate::error::Error;

/// The longest that a message may be, but for the lists of names in it.
const LONGEST: usize = 260;

/// What a message tells to do.
enum Remedy {
    /// These words.
    Act(&'static str),
    /// Nothing: it says what regcred does itself, in these words.
    Wait(&'static str),
    /// Nothing: all is well.
    None,
}

use Remedy::{Act, Wait};

/// A message, what it must say is wrong and where, and what to do.
struct Row {
    message: String,
    what: &'static str,
    remedy: Remedy,
}

impl Row {
    fn new(message: &(impl ToString + ?Sized), what: &'static str, remedy: Remedy) -> Self {
        Self { message: message.to_string(), what, remedy }
    }

    /// What is amiss with the message.
    fn complaint(&self) -> Option<String> {
        let message = &self.message;
        let words = match self.remedy {
            Act(words) | Wait(words) => words,
            Remedy::None => "",
        };
        let says = |words: &str| message.contains(words);
        let amiss = if !says(self.what) {
            "does not say what is wrong, and where"
        } else if !says(words) {
            "does not say what to do"
        } else if message.len() > LONGEST {
            "is too long"
        } else if message.ends_with('.') || says("should match") || says("Some(") || says("  ") {
            "is no sentence for people"
        } else {
            return None;
        };
        Some(format!("{amiss}: {message}"))
    }
}

fn grade(rows: &[Row]) {
    let complaints: Vec<_> = rows.iter().filter_map(Row::complaint).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// Rows for every variant of an enum: a pattern, a value of it, what it says, and what to do.
macro_rules! rows {
    ($type:ty { $($pattern:pat => $value:expr, $what:literal, $remedy:expr;)+ }) => {{
        fn is_listed(value: &$type) -> bool {
            match value { $($pattern => true,)+ }
        }
        vec![$({
            let value: $type = $value;
            assert!(is_listed(&value) && matches!(&value, $pattern), "a row with a value of another");
            (Row::new(&value, $what, $remedy), value)
        }),+]
    }};
}

fn step_errors() -> Vec<(Row, StepError)> {
    let webhook = Gate::Webhook(Some("w.example.com"));
    rows!(StepError {
        StepError::Conflict => StepError::Conflict, "the object changed", Wait("planned again");
        StepError::Gone => StepError::Gone, "is gone", Wait("looked for again");
        StepError::NamespaceTerminating => StepError::NamespaceTerminating, "namespace is being deleted", Wait("nothing is written");
        StepError::NameConflict => StepError::NameConflict, "not managed by regcred", Act("delete it, or choose another target.name");
        StepError::ListTooLong => StepError::ListTooLong, "imagePullSecrets are longer", Act("shorten the list");
        StepError::AdoptNotAllowed => StepError::AdoptNotAllowed, "lets none be taken over", Act("delete it, or set the chart value cage.allowAdopt");
        StepError::MetadataNotAllowed => StepError::MetadataNotAllowed, "label or annotation that target.metadata or a webhook puts on it", Act("list its key in the chart value cage.metadataKeys");
        StepError::TypeMismatch => StepError::TypeMismatch, "another type holds the name", Act("delete it, or choose");
        StepError::Immutable => StepError::Immutable, "the Secret is immutable", Act("delete it, and let the policy");
        StepError::Forbidden => StepError::Forbidden, "may not write it", Act("grant it the permissions");
        StepError::QuotaExceeded => StepError::QuotaExceeded, "ResourceQuota leaves no room", Act("raise the quota");
        StepError::Denied(_) => StepError::Denied(webhook), "admission webhook w.example.com refused", Act("let it pass what regcred writes and deletes");
        StepError::DeniedCopy(_) => StepError::DeniedCopy(webhook), "admission webhook w.example.com refused", Act("or give the copies what it asks for");
        StepError::WebhookUnavailable(_) => StepError::WebhookUnavailable(webhook), "w.example.com is not reachable", Act("mend it");
        StepError::InvalidField(_) => StepError::InvalidField("target.metadata.labels"), "value of target.metadata.labels", Act("correct it in the spec");
        StepError::Rejected(_) => StepError::Rejected(418), "refused the write with HTTP 418", Act("its log says why");
        StepError::TooLarge => StepError::TooLarge, "larger than the API server takes", Act("use fewer or shorter");
        StepError::Unavailable { .. } => StepError::Unavailable { code: 503, retry_after: 0 }, "HTTP 503", Wait("tried again");
        StepError::NoAnswer => StepError::NoAnswer, "did not answer", Wait("tried again");
        StepError::UnreadableAnswer => StepError::UnreadableAnswer, "could not be read", Wait("looked at again");
        StepError::Undone => StepError::Undone, "changes back what regcred writes", Act("exclude its Secrets");
        StepError::Blocked => StepError::Blocked, "waits until the name is off", Wait("waits");
    })
}

#[test]
fn what_the_api_server_refuses_is_told_with_its_remedy() {
    let rows = step_errors();
    for (row, error) in &rows {
        let acts = matches!(row.remedy, Act(_));
        assert!(acts || error.class() != Class::UserMustAct, "nobody is told what to do: {error}");
    }
    grade(&rows.into_iter().map(|(row, _)| row).collect::<Vec<_>>());
}

#[test]
fn a_spec_that_cannot_be_carried_out_is_told_with_its_field() {
    let server = Server::parse("ghcr.io").unwrap();
    let error = SelectorError { key: "team".to_owned() };
    let rows = rows!(InvalidSpec {
        InvalidSpec::Undecodable => InvalidSpec::Undecodable, "does not fit this version", Act("apply the CRD");
        InvalidSpec::NoSource => InvalidSpec::NoSource, "names no source", Act("give at least one entry");
        InvalidSpec::Server { .. } => InvalidSpec::Server { index: 2 }, "registries[2].server", Act("write it as image names begin");
        InvalidSpec::DuplicateServer { .. } => InvalidSpec::DuplicateServer { index: 2, server: server.clone() }, "registries[2].server means ghcr.io", Act("leave one");
        InvalidSpec::VerifyInterval { .. } => InvalidSpec::VerifyInterval { field: "registries[2].verify".to_owned() }, "registries[2].verify.interval", Act("must be 15m or more");
        InvalidSpec::NoRepository { .. } => InvalidSpec::NoRepository { field: "verify".to_owned() }, "verify.mode is Pull", Act("give verify.repository");
        InvalidSpec::NoVerifyMode { .. } => InvalidSpec::NoVerifyMode { field: "registries[2].verify".to_owned() }, "registries[2].verify has no mode", Act("write mode: Login or mode: Pull");
        InvalidSpec::LoginPullsNothing { .. } => InvalidSpec::LoginPullsNothing { field: "verify".to_owned() }, "verify.mode is Login, which pulls nothing", Act("leave repository and reference out");
        InvalidSpec::ServerInRepository { .. } => InvalidSpec::ServerInRepository { field: "verify".to_owned() }, "verify.repository begins with the server's name", Act("write it without");
        InvalidSpec::DigestNotWhole { .. } => InvalidSpec::DigestNotWhole { field: "verify".to_owned() }, "verify.reference is no whole digest", Act("write sha256: and 64 digits");
        InvalidSpec::NoSourceMember { .. } => InvalidSpec::NoSourceMember { index: 2 }, "registries[2].source", Act("name one, or update");
        InvalidSpec::HalfAKeyPair { .. } => InvalidSpec::HalfAKeyPair { index: 2 }, "registries[2].source.secretRef", Act("give usernameKey and passwordKey");
        InvalidSpec::Selector { .. } => InvalidSpec::Selector { field: "namespaces.selector", error: error.clone() }, "namespaces.selector.matchExpressions on team", Act("need values");
        InvalidSpec::AdoptNeedsRetain => InvalidSpec::AdoptNeedsRetain, "target.conflictPolicy is Adopt", Act("set deletionPolicy: Retain");
        InvalidSpec::RefreshInterval => InvalidSpec::RefreshInterval, "refreshInterval must be 1m or more", Act("as in 24h or 1h30m");
        InvalidSpec::RenameGracePeriod => InvalidSpec::RenameGracePeriod, "target.renameGracePeriod is not a duration", Act("as in 1h or 30m");
        InvalidSpec::ReservedKey { .. } => InvalidSpec::ReservedKey { of: "helm.sh" }, "target.metadata has a key of helm.sh", Act("choose a key of your own");
        InvalidSpec::TargetNameNotAllowed => InvalidSpec::TargetNameNotAllowed, "target.name is none", Act("choose one of them");
    });
    grade(&rows.into_iter().map(|(row, _)| row).collect::<Vec<_>>());
}

#[test]
fn a_source_that_gives_nothing_is_told_with_its_secret() {
    let (secret, kind) = ("s".to_owned(), "Opaque".to_owned());
    let rows = rows!(SourceError {
        SourceError::NotFound { .. } => SourceError::NotFound { secret: secret.clone() }, "Secret s does not exist", Act("create it");
        SourceError::NotLabelled { .. } => SourceError::NotLabelled { secret: secret.clone() }, "Secret s is of type Opaque and has no label regcred.dev/source=true", Act("label it if it may be handed out");
        SourceError::NoSourceType { .. } => SourceError::NoSourceType { secret: secret.clone(), kind: "kubernetes.io/tls".to_owned() }, "Secret s is of type kubernetes.io/tls", Act("make one of type kubernetes.io/basic-auth");
        SourceError::MadeForAnother { .. } => SourceError::MadeForAnother { secret: secret.clone(), purpose: Purpose::Copy }, "Secret s is a copy", Act("make another of type");
        SourceError::FingerprintKey => SourceError::FingerprintKey, "Secret regcred-fingerprint-key is regcred's own key", Act("name another");
        SourceError::KeysNotNamed { .. } => SourceError::KeysNotNamed { secret: secret.clone() }, "Secret s is of type Opaque", Act("name its keys with usernameKey and passwordKey");
        SourceError::NotADockerConfig { .. } => SourceError::NotADockerConfig { secret: secret.clone(), kind: kind.clone() }, "Secret s is of type Opaque", Act("give dockerConfigSecretRefs one of type");
        SourceError::KeyMissing { .. } => SourceError::KeyMissing { secret: secret.clone(), key: "token".to_owned() }, "Secret s has no key token", Act("add it, or name the key that it has");
        SourceError::Invalid { .. } => SourceError::Invalid { secret: secret.clone(), key: ".dockerconfigjson", error: ConfigError::NoAuths }, "Secret s, key .dockerconfigjson: it has no object `auths`", Act("make it with");
        SourceError::Unusable { .. } => SourceError::Unusable { secret: secret.clone(), keys: ("user".to_owned(), "token".to_owned()), error: LoginError::NoPassword }, "Secret s, keys user and token: the password is empty", Act("give the password");
        SourceError::Rejected { .. } => SourceError::Rejected { reason: Reason::Rejected, message: verdict(Reason::Rejected).message }, "ghcr.io", Act("put good ones into the source");
        SourceError::TooLarge => SourceError::TooLarge, "larger than a Secret may be", Act("use fewer or shorter");
        SourceError::Token { .. } => token_error(MintError::late(&ecr())), "ghcr.io: Amazon ECR Public gave no token in half a minute", Wait("asked again");
        SourceError::Unavailable { .. } => SourceError::Unavailable { retry_after: Duration::ZERO }, "did not answer", Wait("asked again");
    });
    grade(&rows.into_iter().map(|(row, _)| row).collect::<Vec<_>>());
}

/// What stands for each verdict of a registry.
fn verdicts() -> Vec<(Row, Said)> {
    let host = || "ghcr.io".to_owned();
    let refusal = || Refusal { host: host(), status: 401, code: Some("UNAUTHORIZED") };
    let unknown = |why| Said::Unknown { why, retry_after: Duration::ZERO };
    let unreachable = Unknown::Unreachable { host: host(), what: Trouble::Slow };
    let untrusted = Unknown::UntrustedRealm { host: host(), realm: Some("10.0.0.1".to_owned()), why: "w" };
    rows!(Said {
        Said::LoginVerified { hint: None, .. } => Said::LoginVerified { host: host(), hint: None }, "ghcr.io accepts", Remedy::None;
        Said::LoginVerified { hint: Some(_), .. } => Said::LoginVerified { host: host(), hint: Some(Hint::ManifestNotFound) }, "ghcr.io accepts", Act("check repository and reference");
        Said::PullVerified { .. } => Said::PullVerified { host: host() }, "ghcr.io lets", Remedy::None;
        Said::Rejected(_) => Said::Rejected(refusal()), "ghcr.io rejects the user and password (HTTP 401, UNAUTHORIZED)", Act("put good ones into the source");
        Said::Expired(_) => Said::Expired(refusal()), "ghcr.io says that the password has expired", Act("put a new one into the source");
        Said::PullDenied(_) => Said::PullDenied(refusal()), "lets them not pull", Act("give the user the right");
        Said::Unknown { why: Unknown::Pattern, .. } => unknown(Unknown::Pattern), "the server is a pattern", Act("name a server");
        Said::Unknown { why: Unknown::Unreachable { .. }, .. } => unknown(unreachable), "ghcr.io needs more than 30 s", Wait("asked again");
        Said::Unknown { why: Unknown::Spared { .. }, .. } => unknown(Unknown::Spared { host: host() }), "ghcr.io rejected this user some times", Wait("asked again");
        Said::Unknown { why: Unknown::RateLimited { .. }, .. } => unknown(Unknown::RateLimited { host: host() }), "ghcr.io answers that it gets too many requests", Wait("asked again");
        Said::Unknown { why: Unknown::Unverifiable { .. }, .. } => unknown(Unknown::Unverifiable { host: host() }), "ghcr.io accepts whatever", Act("turn anonymous access off");
        Said::Unknown { why: Unknown::UntrustedRealm { .. }, .. } => unknown(untrusted), "ghcr.io sends logins to the token server 10.0.0.1", Remedy::None;
    })
}

#[test]
fn what_a_registry_says_is_told_with_its_host_and_remedy() {
    grade(&verdicts().into_iter().map(|(row, _)| row).collect::<Vec<_>>());
}

/// Every verdict that the operator takes from what a registry says.
pub(crate) fn judged() -> impl Iterator<Item = Verdict> {
    verdicts().into_iter().map(|(_, said)| crate::verifier::judged(&said))
}

/// A verdict with this reason.
fn verdict(reason: Reason) -> Verdict {
    judged().find(|verdict| verdict.reason == reason).unwrap()
}

fn ecr() -> TokenRequest {
    TokenRequest { issuer: Issuer::EcrPublic { role: None }, identity: Identity::Operator }
}

fn token_error(error: MintError) -> SourceError {
    SourceError::Token { server: Server::parse("ghcr.io").unwrap(), error, held: Held::Good }
}

#[test]
fn a_cloud_that_gives_no_token_is_told_with_its_remedy() {
    let (host, identity) =
        ("sts.amazonaws.com".to_owned(), Identity::ServiceAccount("puller".to_owned()).to_string());
    let (secret, retry_after) = ("keys".to_owned(), Duration::ZERO);
    let advice = "let the role trust it";
    let rows = rows!(MintError {
        MintError::AccessDenied { .. } => MintError::AccessDenied { host: host.clone(), identity: identity.clone(), status: 403, code: Some("AccessDenied".to_owned()), advice }, "sts.amazonaws.com gives ServiceAccount puller no token (HTTP 403, AccessDenied)", Act(advice);
        MintError::Throttled { .. } => MintError::Throttled { host: host.clone(), retry_after }, "sts.amazonaws.com answers that it gets too many requests", Wait("asked again");
        MintError::Unavailable { .. } => MintError::Unavailable { host: host.clone(), what: "does not answer in 10 s".to_owned(), retry_after }, "sts.amazonaws.com does not answer in 10 s", Wait("asked again");
        MintError::Unreadable { .. } => MintError::Unreadable { host: host.clone(), missing: "a token" }, "gave an answer without a token", Wait("asked again");
        MintError::TokenRequest { .. } => crate::identities::not_allowed("puller"), "no token for ServiceAccount puller: the operator may not ask for one", Act("list puller in the chart value tokens.serviceAccounts");
        MintError::Incomplete { .. } => MintError::Incomplete { identity: identity.clone(), missing: "role", advice: "annotate it" }, "ServiceAccount puller has no role", Act("annotate it");
        MintError::NoIdentity { .. } => MintError::NoIdentity { secret: secret.clone(), why: "does not exist; create it" }, "Secret keys does not exist", Act("create it");
        MintError::WrongHost { .. } => MintError::WrongHost { server: "ghcr.io".to_owned(), kind: "ECR" }, "ghcr.io is no registry of ECR", Act("name one of its own");
    });
    grade(&rows.into_iter().map(|(row, _)| row).collect::<Vec<_>>());
}

#[test]
fn what_keeps_the_operator_from_starting_is_told_with_its_remedy() {
    let no_tls = kube::Error::LinesCodecMaxLineLengthExceeded;
    let mut rows: Vec<Row> = rows!(Error {
        Error::Config(_) => Error::Config("none found".to_owned()), "no usable cluster configuration: none found", Act("give --kubeconfig");
        Error::CertificateVersion => Error::CertificateVersion, "client certificate in the kubeconfig is of X.509 version 1", Act("issue one of version 3");
        Error::Client(_) => Error::Client(no_tls), "the client could not be made", Act("correct the certificates");
        Error::NoRandomness => Error::NoRandomness, "gave no random bytes", Act("allow it in the sandbox");
    })
    .into_iter()
    .map(|(row, _)| row)
    .collect();
    let stage = crate::Stage::default();
    rows.push(Row::new(&stage.obstacle().unwrap(), "waiting for the fingerprint key", Act("see the log")));
    rows.push(Row::new(
        crate::lease::FORBIDDEN,
        "may not read or write the lease",
        Act("grant it get and update"),
    ));
    let forced = crate::lease::taken_by_force("thief");
    rows.push(Row::new(&forced, "took the lease before it had expired", Act("take that right away")));
    let idle = crate::lease::idle_holder("thief");
    rows.push(Row::new(&idle, "writes no status", Act("take the right to")));
    rows.push(Row::new(crate::lease::MISSING, "the Lease regcred does not exist", Act("apply the chart")));
    rows.push(Row::new(
        crate::cage::OPEN,
        "no admission policy limits",
        Act("apply the chart with cage.enabled"),
    ));
    rows.push(Row::new(crate::cage::UNKNOWN, "ended in another way", Act("see that the operator may patch")));
    let obstacles =
        [crate::fingerprint::NO_NAMESPACE, crate::fingerprint::FORBIDDEN, crate::fingerprint::UNUSABLE];
    for (obstacle, what, remedy) in [
        (obstacles[0], "source namespace does not exist", "create it, or give another"),
        (obstacles[1], "may not read or make it", "install regcred's Role"),
        (obstacles[2], "holds no key", "delete it"),
    ] {
        rows.push(Row::new(obstacle, what, Act(remedy)));
    }
    grade(&rows);
}

/// A state of one RegistryCredential, for what status and events say of it.
#[derive(Default)]
struct State {
    fields: Value,
    allowed: &'static [&'static str],
    source: Option<SourceState>,
    verified: Option<Vec<Verified>>,
    failures: Vec<(Object, Reason, String)>,
    synced: usize,
    nothing_selected: bool,
    before: Option<RegistryCredentialStatus>,
}

impl State {
    fn of(fields: Value) -> Self {
        Self { fields, source: Some(resolved("1")), ..Self::default() }
    }

    fn in_place() -> Self {
        Self { source: Some(resolved("1")), synced: 1, ..Self::default() }
    }

    fn claimed() -> Self {
        let message = "RegistryCredential other has this target name too and is older";
        let failures = vec![(Object::Secret(Arc::from("pull")), Reason::TargetClaimed, message.to_owned())];
        Self { failures, ..Self::in_place() }
    }

    fn rotated() -> Self {
        let before = RegistryStatus {
            server: "ghcr.io".to_owned(),
            source: "Secret".to_owned(),
            fingerprint: "0".to_owned(),
            refreshed_at: Time(Timestamp::UNIX_EPOCH),
            expires_at: None,
            next_refresh_at: None,
            verification: None,
        };
        let before = RegistryCredentialStatus { registries: vec![before], ..Default::default() };
        Self { before: Some(before), ..Self::in_place() }
    }

    fn source(reason: Reason) -> Self {
        let message = "Secret s does not exist; create it".to_owned();
        Self { source: Some(SourceState::Failed { reason, message, registries: None }), ..Self::default() }
    }

    fn conflict() -> Self {
        Self::noted(
            Reason::SourceConflict,
            "ghcr.io: Secret a and Secret b have different credentials; remove one",
        )
    }

    fn noted(reason: Reason, message: &str) -> Self {
        let note = Some(SourceNote { reason, message: message.to_owned() });
        let source = SourceState::Resolved { registries: Vec::new(), note };
        Self { source: Some(source), ..Self::in_place() }
    }

    /// The registry was asked, or is about to be.
    fn asked(verdict: Option<Verdict>) -> Self {
        let (checked_at, next_at) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
        let answer = verdict.map(|verdict| Answer { verdict, checked_at, next_at });
        let server = "ghcr.io".to_owned();
        let verified = Verified {
            server,
            kind: "Secret",
            fingerprint: "1".to_owned(),
            hold: true,
            answer,
            is_late: false,
        };
        Self { verified: Some(vec![verified]), ..Self::in_place() }
    }

    fn failing(object: Object, error: StepError) -> Self {
        Self { failures: vec![(object, error.reason(), error.to_string())], ..Self::in_place() }
    }

    fn secret(error: StepError) -> Self {
        Self::failing(Object::Secret(Arc::from("pull")), error)
    }

    fn account(error: StepError) -> Self {
        Self::failing(Object::ServiceAccount(Arc::from("default")), error)
    }

    fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        tally.namespaces.matched = usize::from(!self.nothing_selected);
        tally.service_accounts.matched = tally.namespaces.matched;
        tally.namespaces.synced = self.synced.min(tally.namespaces.matched);
        tally.service_accounts.attached = tally.namespaces.synced;
        for (object, reason, message) in &self.failures {
            let fault = Fault {
                reason: *reason,
                message: Arc::from(message.as_str()),
                since: Timestamp::UNIX_EPOCH,
                retrying: *reason == Reason::WriteFailed,
                retry_at: None,
            };
            let counts = (&mut tally.namespaces, &mut tally.service_accounts);
            if object.is_secret() {
                (counts.0.failed, counts.0.synced) = (1, 0);
            } else {
                (counts.1.failed, counts.1.attached) = (1, 0);
                counts.1.contested = usize::from(*reason == Reason::Contested);
            }
            tally.failures.insert((Arc::from("team-a"), object.clone()), fault);
        }
        tally
    }

    /// What conditions and events of this state say under a reason.
    fn says(&self, reason: Reason) -> String {
        let credential = credential(&self.fields, self.allowed);
        let tally = self.tally();
        let observed = Observed {
            credential: &credential,
            generation: Some(1),
            request: None,
            source: self.source.as_ref(),
            verified: self.verified.as_deref(),
            tally: &tally,
            in_progress: false,
        };
        let (status, events) = report(self.before.as_ref(), &observed, Timestamp::UNIX_EPOCH);
        let event = events.iter().find(|event| event.reason == reason).map(|event| event.note.clone());
        let mut conditions = status.conditions.iter();
        let under = |text: &str| text == reason.as_str();
        let condition = conditions.clone().find(|condition| under(&condition.reason));
        // A failure's reason stands in the message of the condition that sums up.
        let part = conditions.find(|condition| condition.message.contains(&format!(": {reason} (")));
        let said = condition.or(part).map(|condition| condition.message.clone()).or(event);
        said.unwrap_or_else(|| panic!("{reason} is not said: {:?} {events:?}", status.conditions))
    }
}

fn resolved(fingerprint: &str) -> SourceState {
    let registry = ResolvedRegistry {
        server: "ghcr.io".to_owned(),
        kind: "Secret",
        fingerprint: fingerprint.to_owned(),
        expires_at: None,
        renew_at: None,
    };
    SourceState::Resolved { registries: vec![registry], note: None }
}

/// A RegistryCredential as it is observed.
fn credential(fields: &Value, target_names: &[&str]) -> Arc<Credential> {
    let mut spec = json!({
        "registries": [{"server": "ghcr.io", "source": {"secretRef": {"name": "s"}}}], "namespaces": {"from": "All"},
    });
    spec.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap_or_default());
    let object = json!({
        "metadata": {"name": "pull", "uid": "c1", "generation": 1, "resourceVersion": "1", "finalizers": ["regcred.dev/cleanup"]},
        "spec": spec,
    });
    let settings = Settings { target_names: target_names.iter().map(ToString::to_string).collect() };
    let mut index = Index::new(settings, "regcred-system");
    let received: Received<CredentialBody> = serde_json::from_value(object).unwrap();
    index.ingest_credential(Event::Put(received, Origin::Watch));
    index.credential(&Arc::from("pull")).unwrap().planned.clone()
}

/// Rows for every reason: the state in which it is given, what it says, and what to do.
macro_rules! reasons {
    ($($reason:ident => $state:expr, $what:literal, $remedy:expr;)+) => {{
        fn is_listed(reason: Reason) -> bool {
            match reason { $(Reason::$reason => true,)+ }
        }
        vec![$({
            assert!(is_listed(Reason::$reason));
            Row::new(&$state.says(Reason::$reason), $what, $remedy)
        }),+]
    }};
}

#[test]
fn whatever_status_and_events_say_is_told_with_its_place_and_remedy() {
    let hook = StepError::Denied(Gate::Webhook(Some("w.example.com")));
    let no_sources = json!({"registries": []});
    grade(&reasons! {
        Succeeded => State::in_place(), "1 of 1 namespace in sync", Remedy::None;
        SourceNotReady => State::source(Reason::SourceNotFound), "Secret s does not exist", Act("create it");
        PartiallySynced => State::secret(StepError::NoAnswer), "0 of 1 namespace in sync; team-a: WriteFailed", Wait("tried again");
        PartiallyAttached => State::account(StepError::NoAnswer), "0 of 1 ServiceAccount attached; team-a/default", Wait("tried again");
        NoNamespaceSelected => State { nothing_selected: true, ..State::in_place() }, "0 namespaces are selected", Act("widen spec.namespaces");
        Stalled => State::of(no_sources.clone()), "the spec names no source", Act("give at least one entry");
        Progressing => State::default(), "0 of 1 namespace in sync", Wait("the sources are being read");
        WaitingForSource => State::source(Reason::SourceNotFound), "Secret s does not exist", Act("create it");
        Retrying => State::secret(StepError::NoAnswer), "team-a: WriteFailed", Wait("tried again");
        Suspended => State::of(json!({"suspend": true})), "spec.suspend is set", Act("until it is taken away");
        InvalidSpec => State::of(no_sources), "the spec names no source", Act("give at least one entry");
        TargetClaimed => State::claimed(), "team-a: RegistryCredential other has this target name", Act("choose another target.name");
        TargetNameNotAllowed => State { allowed: &["platform-pull"], ..State::default() }, "target.name is none", Act("choose one of them");
        Resolved => State::in_place(), "every server has a credential", Remedy::None;
        SourceNotFound => State::source(Reason::SourceNotFound), "Secret s does not exist", Act("create it");
        SourceInvalid => State::source(Reason::SourceInvalid), "Secret s does not exist", Act("create it");
        SourceConflict => State::conflict(), "ghcr.io: Secret a and Secret b have different credentials", Act("remove one");
        SourceUnavailable => State::source(Reason::SourceUnavailable), "Secret s does not exist", Act("create it");
        AccessDenied => State::source(Reason::AccessDenied), "Secret s does not exist", Act("create it");
        Expired => State::source(Reason::Expired), "Secret s does not exist", Act("create it");
        Throttled => State::source(Reason::Throttled), "Secret s does not exist", Act("create it");
        TokenRequestFailed => State::source(Reason::TokenRequestFailed), "Secret s does not exist", Act("create it");
        ExpiringSoon => State::noted(Reason::ExpiringSoon, "the credential for ghcr.io (Secret s in regcred-system) ends 2026-12-04 00:53 UTC; put a new one into the source"), "for ghcr.io (Secret s in regcred-system) ends 2026-12-04", Act("put a new one into the source");
        LoginVerified => State::asked(Some(verdict(Reason::LoginVerified))), "ghcr.io", Remedy::None;
        PullVerified => State::asked(Some(verdict(Reason::PullVerified))), "ghcr.io", Remedy::None;
        PullDenied => State::asked(Some(verdict(Reason::PullDenied))), "ghcr.io", Act("give the user the right");
        NotChecked => State::asked(None), "not asked yet: ghcr.io", Remedy::None;
        Unreachable => State::asked(Some(verdict(Reason::Unreachable))), "ghcr.io", Wait("asked again");
        TooManyRejections => State::asked(Some(verdict(Reason::TooManyRejections))), "ghcr.io", Wait("asked again");
        RateLimited => State::asked(Some(verdict(Reason::RateLimited))), "ghcr.io", Wait("asked again");
        Unverifiable => State::asked(Some(verdict(Reason::Unverifiable))), "ghcr.io", Remedy::None;
        AllSynced => State::in_place(), "1 of 1 namespace in sync", Remedy::None;
        NameConflict => State::secret(StepError::NameConflict), "team-a: NameConflict", Act("delete it, or choose");
        TypeMismatch => State::secret(StepError::TypeMismatch), "team-a: TypeMismatch", Act("delete it, or choose");
        Forbidden => State::account(StepError::Forbidden), "team-a/default: Forbidden", Act("grant it");
        Rejected => State::account(hook), "team-a/default: Rejected (admission webhook w.example.com", Act("let it pass");
        QuotaExceeded => State::secret(StepError::QuotaExceeded), "team-a: QuotaExceeded", Act("raise the quota");
        AllAttached => State::in_place(), "1 of 1 ServiceAccount attached", Remedy::None;
        NotRequested => State::of(json!({"serviceAccounts": {"from": "None"}})), "serviceAccounts.from is None", Act("Pods name the Secret");
        Contested => State::account(StepError::Undone), "team-a/default: Contested", Act("exclude its Secrets");
        WriteFailed => State::secret(StepError::NoAnswer), "team-a: WriteFailed", Wait("tried again");
        ServiceAccountContested => State::account(StepError::Undone), "team-a/default: something changes back", Act("exclude its Secrets");
        CredentialRefreshed => State::rotated(), "a new credential for ghcr.io", Remedy::None;
        Synced => State::in_place(), "1 namespace in sync", Remedy::None;
    });
}

/// What `kubectl apply` prints where a rule of the CRD refuses, and which words of it tell what to write. The API server
/// puts the field before it.
const RULES: [(&str, &str); 62] = [
    ("verify has no mode, so no registry is asked; write mode: Login or mode: Pull", "write mode: Login"),
    (
        "registries[].verify has no mode, there or in spec.verify, so the registry is not asked; write mode: Login or mode: Pull",
        "write mode: Login",
    ),
    (
        "verify.mode: Login pulls nothing; leave repository and reference out, or write mode: Pull",
        "leave repository and reference out",
    ),
    (
        "registries[].verify.mode: Login pulls nothing; leave repository and reference out, or write mode: Pull",
        "leave repository and reference out",
    ),
    ("write verify.repository without the server's name, as in acme/app", "without the server's name"),
    (
        "write registries[].verify.repository without the server's name, as in acme/app",
        "without the server's name",
    ),
    (
        "write the digest in verify.reference in full: sha256: and 64 digits, or sha512: and 128, of 0-9 and a-f",
        "in full",
    ),
    (
        "verify.mode: Pull needs verify.repository: an image that the credential may pull",
        "needs verify.repository",
    ),
    (
        "registries[].verify.mode: Pull needs a repository: an image that the credential may pull",
        "needs a repository",
    ),
    (
        "verify needs a host to ask, and a server with * names none; leave verify out, or write the server in full",
        "leave verify out",
    ),
    (
        "verify.repository must begin with the server's path: for ghcr.io/acme as in acme/app, else no image of it uses this credential",
        "must begin with the server's path",
    ),
    (
        "write verify.repository as image names have it, without server and tag, as in acme/app",
        "as in acme/app",
    ),
    ("write verify.reference as a tag or a digest, as in latest or sha256:…", "as a tag or a digest"),
    (
        "write verify.interval in h, m, s and ms, as in 24h or 1h30m; there is no unit for a day",
        "as in 24h or 1h30m",
    ),
    ("verify.interval must be at least 15m, so that no registry locks the account", "at least 15m"),
    ("auth needs exactly one member: serviceAccountRef or secretRef", "serviceAccountRef or secretRef"),
    ("externalID goes with the role that asks for it; give roleARN, too", "give roleARN"),
    ("externalID is made of letters, digits and _+=,.@:/-", "is made of letters"),
    (
        "organization is the organization's name in addresses: lower-case letters, digits, _ and -",
        "lower-case letters",
    ),
    ("provider is the name of the OpenID Connect integration: letters, digits and ._-", "letters, digits"),
    (
        "service is the service account's name in addresses: lower-case letters, digits, _ and -",
        "lower-case letters",
    ),
    ("source.acr needs a server of Azure Container Registry: NAME.azurecr.io, .cn or .us", "NAME.azurecr.io"),
    (
        "source.cloudsmith needs the server docker.cloudsmith.io, with or without a path; a domain of your own takes a token by secretRef",
        "takes a token by secretRef",
    ),
    (
        "source.ecr needs a server of Amazon ECR: 123456789012.dkr.ecr.REGION.amazonaws.com, *.dkr.ecr.REGION.amazonaws.com or public.ecr.aws",
        "123456789012.dkr.ecr.REGION.amazonaws.com",
    ),
    (
        "source.gcp needs a server of Google: LOCATION-docker.pkg.dev, gcr.io or LOCATION.gcr.io",
        "LOCATION-docker.pkg.dev",
    ),
    (
        "source.jfrog needs a server of JFrog's cloud: NAME.jfrog.io; an Artifactory of your own takes a token by secretRef",
        "takes a token by secretRef",
    ),
    (
        "source.quay needs the server quay.io, with or without a path; a Quay of your own takes a robot's password by secretRef",
        "takes a robot's password by secretRef",
    ),
    (
        "workloadIdentityProvider takes the token of a ServiceAccount; give auth.serviceAccountRef, too",
        "give auth.serviceAccountRef",
    ),
    ("write clientID as a UUID", "as a UUID"),
    ("write robot as organization+name, as in acme+puller", "as in acme+puller"),
    ("write roleARN as arn:aws:iam::123456789012:role/NAME", "as arn:aws:iam"),
    (
        "write serviceAccount as an e-mail address, as in puller@project.iam.gserviceaccount.com",
        "as in puller@",
    ),
    ("write tenantID as a UUID", "as a UUID"),
    (
        "write workloadIdentityProvider as projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER",
        "as projects/NUMBER",
    ),
    (
        "a label's key must be a name of at most 63 letters, digits, -, _ and ., with a DNS name and / before it if need be",
        "must be a name",
    ),
    (
        "a label's value must be of letters, digits, -, _ and ., beginning and ending with a letter or digit",
        "must be of letters",
    ),
    (
        "a wildcard would send the credential to every host that matches; name each server (only source.ecr takes one, for the accounts of a region)",
        "name each server",
    ),
    (
        "an annotation's key must be a name of at most 63 letters, digits, -, _ and ., with a DNS name and / before it if need be",
        "must be a name",
    ),
    (
        "another tool acts on Secrets by such a label (argocd.argoproj.io/, helm.sh/, *.kubernetes.io/, …); choose a key of your own, as in example.com/team",
        "choose a key of your own",
    ),
    (
        "another tool acts on Secrets by such an annotation (argocd.argoproj.io/, helm.sh/, *.kubernetes.io/, …); choose a key of your own, as in example.com/team",
        "choose a key of your own",
    ),
    ("annotations under regcred.dev/ are regcred's own; choose another key", "choose another key"),
    ("from: Selected needs matchNames or selector", "needs matchNames or selector"),
    ("give at least one entry in registries or dockerConfigSecretRefs", "give at least one entry"),
    ("give usernameKey and passwordKey together, or neither", "give usernameKey and passwordKey"),
    (
        "labels under regcred.dev/ and app.kubernetes.io/managed-by are regcred's own; choose another key",
        "choose another key",
    ),
    ("leave the version of the registry's API out: ghcr.io, not ghcr.io/v2", "ghcr.io, not ghcr.io/v2"),
    ("matchNames and selector need from: Selected", "need from: Selected"),
    (
        "metadata.name must be at most 63 characters, because it becomes a label value",
        "at most 63 characters",
    ),
    (
        "names and globs of ServiceAccounts are made of lower-case letters, digits, -, ., * and ?",
        "are made of",
    ),
    ("names and globs of namespaces are made of lower-case letters, digits, -, * and ?", "are made of"),
    ("operators In and NotIn need values; Exists and DoesNotExist take none", "need values"),
    ("renameGracePeriod must be a duration, as in 1h", "as in 1h"),
    (
        "write an IPv6 address in brackets and with its port, as in [fd00::1]:443; the kubelet matches none without a port",
        "as in [fd00::1]:443",
    ),
    (
        "write renameGracePeriod in h, m, s and ms, as in 24h or 1h30m; there is no unit for a day",
        "as in 24h or 1h30m",
    ),
    ("refreshInterval must be at least 1m", "at least 1m"),
    (
        "server must be host[:port][/path], in lower case, without user info and without a trailing slash; a port is at most 65535",
        "must be host[:port][/path]",
    ),
    (
        "source needs exactly one member: secretRef, ecr, gcp, acr, quay, jfrog or cloudsmith",
        "exactly one member",
    ),
    (
        "target.conflictPolicy: Adopt needs deletionPolicy: Retain, so that an adopted Secret is never deleted",
        "needs deletionPolicy: Retain",
    ),
    (
        "target.name must be a name that a Secret can have: lower-case letters, digits, - and ., as in platform-pull",
        "as in platform-pull",
    ),
    ("write docker.io for Docker Hub", "write docker.io"),
    (
        "write refreshInterval in h, m, s and ms, as in 24h or 1h30m; there is no unit for a day",
        "as in 24h or 1h30m",
    ),
    ("write the server without a scheme: ghcr.io, not https://ghcr.io", "ghcr.io, not https://ghcr.io"),
];

#[test]
fn every_rule_of_the_crd_has_words_of_its_own() {
    let definition = serde_json::to_value(regcred_api::crd::definition()).unwrap();
    let mut rules = BTreeSet::new();
    collect_rules(&definition["spec"]["versions"][0]["schema"], &mut rules);
    let rows = RULES.map(|(message, _)| message.to_owned());
    assert_eq!(rules, rows.into(), "a rule without a row, or a row without a rule");
    grade(&RULES.map(|(message, words)| Row::new(message, words, Act(words))));
}

/// The messages of all rules. A `pattern` has none: `should match '^…$'` is what people would read.
fn collect_rules(schema: &Value, rules: &mut BTreeSet<String>) {
    match schema {
        Value::Object(members) => {
            assert!(
                !members.get("pattern").is_some_and(Value::is_string),
                "a pattern tells nobody what to write"
            );
            for rule in
                members.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten()
            {
                rules.insert(rule["message"].as_str().expect("a rule has a message").to_owned());
            }
            members.values().for_each(|inner| collect_rules(inner, rules));
        }
        Value::Array(items) => items.iter().for_each(|inner| collect_rules(inner, rules)),
        _ => {}
    }
}
