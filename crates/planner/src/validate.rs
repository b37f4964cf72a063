//! A raw spec becomes [`Validated`], once. The API server has checked most of it already; the checks
//! are repeated for objects that were stored under an older or a relaxed CRD.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use regcred_api::{
    ConflictPolicy, DeletionPolicy, NamespaceSelection, OnRejected, Reason, RegistryCredentialSpec,
    SourceMember, Verify, VerifyMode, reserved,
};
use regcred_dockerconfig::Server;

use crate::observed::Namespace;
use crate::select::{NamespaceFilter, SelectorError, ServiceAccountFilter};
use crate::verify::{Proof, Verification, Verifications};

/// A longer interval is taken for this one: clocks of timers end somewhere.
const LONGEST_INTERVAL: Duration = Duration::from_hours(24 * 365);

/// How long a registry's good answer counts where the spec does not say, and the shortest time that it may say.
const USUAL_VERIFY_INTERVAL: Duration = Duration::from_hours(12);
const SHORTEST_VERIFY_INTERVAL: Duration = Duration::from_mins(15);
/// The tag that is asked for where the spec names none.
const USUAL_REFERENCE: &str = "latest";

/// A spec that can be carried out. Nothing after it reads the raw one.
#[derive(Clone, Debug)]
pub struct Validated {
    /// No write and no refresh.
    pub suspend: bool,
    /// The registries, each with its source.
    pub registries: Vec<Registry>,
    /// Names of Secrets whose entries are all copied.
    pub docker_config_secrets: Vec<String>,
    /// How the credential of each server is verified.
    pub verifications: Verifications,
    /// Which namespaces.
    pub namespaces: NamespaceFilter,
    /// Which ServiceAccounts.
    pub service_accounts: ServiceAccountFilter,
    /// Name of the Secret in each namespace.
    pub target_name: Arc<str>,
    /// How long a copy under a former target name stays once the present one is in place.
    pub rename_grace: Duration,
    /// Whether a foreign Secret of that name is adopted.
    pub adopt: bool,
    /// What happens to copies that are no longer desired.
    pub deletion_policy: DeletionPolicy,
    /// Labels for each copy, besides our own.
    pub labels: BTreeMap<String, String>,
    /// Annotations for each copy, besides our own.
    pub annotations: BTreeMap<String, String>,
    /// The longest time between two reads of the source.
    pub refresh_interval: Duration,
}

impl Validated {
    /// Whether another spec takes its credentials from the same sources.
    pub fn has_sources_of(&self, other: &Self) -> bool {
        self.registries == other.registries && self.docker_config_secrets == other.docker_config_secrets
    }

    /// Whether a Secret of this name in the source namespace is one of its sources.
    pub fn reads(&self, secret: &str) -> bool {
        self.source_secrets().any(|name| name == secret)
    }

    /// The Secret that the login of a server stands in, if that is certain: its own, or the only configuration.
    pub fn secret_of(&self, server: &str) -> Option<&str> {
        let own = self.registries.iter().find(|registry| registry.server.to_string() == server);
        match (own.map(|registry| &registry.source), &*self.docker_config_secrets) {
            (Some(SourceMember::Secret(reference)), _) => Some(&reference.name),
            (None, [only]) => Some(only),
            _ => None,
        }
    }

    /// The Secrets of the source namespace that are its sources.
    pub fn source_secrets(&self) -> impl Iterator<Item = &str> {
        let by_server = self.registries.iter().filter_map(|registry| registry.source.secret());
        by_server.chain(self.docker_config_secrets.iter().map(String::as_str))
    }
}

/// A server and where its credential comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Registry {
    /// The server in its canonical form.
    pub server: Server,
    /// Where its credential comes from.
    pub source: SourceMember,
}

/// What the operator was started with, as far as a spec can collide with it.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The only target names that may be written; empty: any.
    pub target_names: Vec<String>,
}

impl Settings {
    /// Whether this target name may be written.
    pub fn allow(&self, target: &str) -> bool {
        self.target_names.is_empty() || self.target_names.iter().any(|allowed| allowed == target)
    }
}

/// What a RegistryCredential lays claim to, read even where the rest of its spec is invalid: what it has in place
/// there stays, and goes to nobody else.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Name of the Secret in each namespace.
    pub target_name: Arc<str>,
    /// Which namespaces; `None` where that cannot be read, which may be any.
    pub namespaces: Option<NamespaceFilter>,
}

impl Scope {
    /// The scope of the credential of this name. `target` is its `spec.target.name`.
    pub fn new(name: &str, target: Option<&str>, namespaces: Option<&NamespaceSelection>) -> Self {
        Self {
            target_name: Arc::from(target.unwrap_or(name)),
            namespaces: namespaces.and_then(|selection| NamespaceFilter::new(selection).ok()),
        }
    }

    /// Whether it may reach into this namespace.
    pub fn covers(&self, namespace: &Namespace) -> bool {
        self.namespaces.as_ref().is_none_or(|filter| filter.selects(namespace))
    }
}

/// Why a spec cannot be carried out. Only its author can help.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidSpec {
    /// The object does not fit the types of this version.
    #[error("spec does not fit this version of regcred; apply the CRD of this version and the object again")]
    Undecodable,
    /// No source at all.
    #[error("the spec names no source; give at least one entry in registries or dockerConfigSecretRefs")]
    NoSource,
    /// A server that is no server.
    #[error(
        "registries[{index}].server is not host[:port][/path]; write it as image names begin, as in ghcr.io/team"
    )]
    Server {
        /// Position in `registries`.
        index: usize,
    },
    /// Two entries that mean one server.
    #[error("registries[{index}].server means {server}, as an earlier entry does; leave one of them")]
    DuplicateServer {
        /// Position in `registries` of the second.
        index: usize,
        /// The canonical server.
        server: Server,
    },
    /// A source without a member that this version knows.
    #[error(
        "registries[{index}].source names no source that this version of regcred knows; name one, or update regcred"
    )]
    NoSourceMember {
        /// Position in `registries`.
        index: usize,
    },
    /// One key of two.
    #[error(
        "registries[{index}].source.secretRef names one key of two; give usernameKey and passwordKey, or neither"
    )]
    HalfAKeyPair {
        /// Position in `registries`.
        index: usize,
    },
    /// A label selector that cannot be used.
    #[error("{field}.{error}")]
    Selector {
        /// `namespaces.selector` or `serviceAccounts.selector`.
        field: &'static str,
        /// What is wrong with it.
        error: SelectorError,
    },
    /// Adopt without Retain.
    #[error(
        "target.conflictPolicy is Adopt; set deletionPolicy: Retain, so that an adopted Secret is never deleted"
    )]
    AdoptNeedsRetain,
    /// Not a duration of at least a minute.
    #[error(
        "refreshInterval must be 1m or more, in h, m, s and ms, as in 24h or 1h30m; there is no unit for a day"
    )]
    RefreshInterval,
    /// Not a duration of at least a quarter of an hour.
    #[error(
        "{field}.interval must be 15m or more, in h, m, s and ms, as in 12h or 1h30m; there is no unit for a day"
    )]
    VerifyInterval {
        /// `verify`, or that of a registry.
        field: String,
    },
    /// What to pull is not said.
    #[error(
        "{field}.mode is Pull; give {field}.repository, an image that the credential may pull, as in acme/app"
    )]
    NoRepository {
        /// `verify`, or that of a registry.
        field: String,
    },
    /// Nothing says what to ask.
    #[error("{field} has no mode, so no registry is asked; write mode: Login or mode: Pull")]
    NoVerifyMode {
        /// `verify`, or that of a registry.
        field: String,
    },
    /// An image that nobody asks for.
    #[error(
        "{field}.mode is Login, which pulls nothing; leave repository and reference out, or write mode: Pull"
    )]
    LoginPullsNothing {
        /// `verify`, or that of a registry.
        field: String,
    },
    /// A repository with its server.
    #[error("{field}.repository begins with the server's name; write it without, as in acme/app")]
    ServerInRepository {
        /// `verify`, or that of a registry.
        field: String,
    },
    /// A digest that is cut short.
    #[error(
        "{field}.reference is no whole digest; write sha256: and 64 digits, or sha512: and 128, of 0-9 and a-f"
    )]
    DigestNotWhole {
        /// `verify`, or that of a registry.
        field: String,
    },
    /// Not a duration.
    #[error("target.renameGracePeriod is not a duration, as in 1h or 30m")]
    RenameGracePeriod,
    /// A label or annotation by which another tool would act on the copies.
    #[error(
        "target.metadata has a key of {of}, by which another tool acts on Secrets; choose a key of your own, as in example.com/team"
    )]
    ReservedKey {
        /// The domain of the tool, or the whole key.
        of: &'static str,
    },
    /// The operator may write other names only.
    #[error(
        "target.name is none of the names that the operator may write; choose one of them, or start it with one more --target-name"
    )]
    TargetNameNotAllowed,
}

impl InvalidSpec {
    /// The reason of the condition `Stalled`.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::TargetNameNotAllowed => Reason::TargetNameNotAllowed,
            _ => Reason::InvalidSpec,
        }
    }
}

/// Checks a spec and gives it the form that planning uses. `name` is the object's own name.
pub fn validate(
    name: &str,
    spec: &RegistryCredentialSpec,
    settings: &Settings,
) -> Result<Validated, InvalidSpec> {
    if spec.registries.is_empty() && spec.docker_config_secret_refs.is_empty() {
        return Err(InvalidSpec::NoSource);
    }
    let adopt = spec.target.conflict_policy == ConflictPolicy::Adopt;
    if adopt && spec.deletion_policy != DeletionPolicy::Retain {
        return Err(InvalidSpec::AdoptNeedsRetain);
    }
    let metadata = &spec.target.metadata;
    if let Some(of) = metadata.labels.keys().chain(metadata.annotations.keys()).find_map(|key| reserved(key))
    {
        return Err(InvalidSpec::ReservedKey { of });
    }
    let registries = registries(spec)?;
    Ok(Validated {
        suspend: spec.suspend,
        verifications: verifications(spec, &registries)?,
        registries,
        docker_config_secrets: spec.docker_config_secret_refs.iter().map(|r| r.name.clone()).collect(),
        namespaces: NamespaceFilter::new(&spec.namespaces)
            .map_err(|error| InvalidSpec::Selector { field: "namespaces.selector", error })?,
        service_accounts: ServiceAccountFilter::new(&spec.service_accounts.clone().unwrap_or_default())
            .map_err(|error| InvalidSpec::Selector { field: "serviceAccounts.selector", error })?,
        target_name: target_name(name, spec, settings)?,
        rename_grace: duration(&spec.target.rename_grace_period).ok_or(InvalidSpec::RenameGracePeriod)?,
        adopt,
        deletion_policy: spec.deletion_policy,
        labels: metadata.labels.clone(),
        annotations: metadata.annotations.clone(),
        refresh_interval: refresh_interval(&spec.refresh_interval)?,
    })
}

fn registries(spec: &RegistryCredentialSpec) -> Result<Vec<Registry>, InvalidSpec> {
    let mut registries: Vec<Registry> = Vec::with_capacity(spec.registries.len());
    for (index, registry) in spec.registries.iter().enumerate() {
        let server = Server::parse(&registry.server).map_err(|_| InvalidSpec::Server { index })?;
        if registries.iter().any(|earlier| earlier.server == server) {
            return Err(InvalidSpec::DuplicateServer { index, server });
        }
        let source = registry.source.member().ok_or(InvalidSpec::NoSourceMember { index })?;
        if let SourceMember::Secret(secret) = &source
            && secret.username_key.is_some() != secret.password_key.is_some()
        {
            return Err(InvalidSpec::HalfAKeyPair { index });
        }
        registries.push(Registry { server, source });
    }
    Ok(registries)
}

fn verifications(
    spec: &RegistryCredentialSpec,
    registries: &[Registry],
) -> Result<Verifications, InvalidSpec> {
    let general = spec.verify.clone().unwrap_or_default();
    check_general(spec)?;
    let mut own = BTreeMap::new();
    for (index, (written, registry)) in spec.registries.iter().zip(registries).enumerate() {
        let field = format!("registries[{index}].verify");
        let verify = with_defaults(written.verify.clone().unwrap_or_default(), &general);
        let is_own = written.verify.as_ref().is_some_and(|own| own.repository.is_some());
        if let Some(own) = &written.verify {
            check_own(own, verify.mode, &field)?;
        }
        check_repository(&verify, &registry.server, if is_own { &field } else { "verify" })?;
        own.insert(registry.server.clone(), verification(verify, &field)?);
    }
    let has_others = !spec.docker_config_secret_refs.is_empty();
    let others = if has_others { verification(general, "verify")? } else { None };
    Ok(Verifications::new(own, others))
}

/// Whether each field of `spec.verify` means something at some server.
fn check_general(spec: &RegistryCredentialSpec) -> Result<(), InvalidSpec> {
    let Some(general) = &spec.verify else { return Ok(()) };
    let own = || spec.registries.iter().filter_map(|registry| registry.verify.as_ref()?.mode);
    let field = || "verify".to_owned();
    if general.mode.is_none() && !own().any(|mode| mode != VerifyMode::None) {
        return Err(InvalidSpec::NoVerifyMode { field: field() });
    }
    let is_login = general.mode == Some(VerifyMode::Login);
    if is_login && names_image(general) && !own().any(|mode| mode == VerifyMode::Pull) {
        return Err(InvalidSpec::LoginPullsNothing { field: field() });
    }
    check_digest(general, "verify")
}

/// Whether each field of a registry's own `verify` means something under the mode that holds for it.
fn check_own(own: &Verify, mode: Option<VerifyMode>, field: &str) -> Result<(), InvalidSpec> {
    match mode {
        None => Err(InvalidSpec::NoVerifyMode { field: field.to_owned() }),
        Some(VerifyMode::Login) if names_image(own) => {
            Err(InvalidSpec::LoginPullsNothing { field: field.to_owned() })
        }
        Some(_) => check_digest(own, field),
    }
}

fn names_image(verify: &Verify) -> bool {
    verify.repository.is_some() || verify.reference.is_some()
}

/// Whether a repository is written without the name of its server. A mirror may have one of another server's name.
fn check_repository(verify: &Verify, server: &Server, field: &str) -> Result<(), InvalidSpec> {
    let server = server.to_string();
    let host = server.split('/').next().and_then(|host| host.split(':').next());
    let first = verify.repository.as_deref().and_then(|repository| repository.split('/').next());
    if first.is_some_and(|first| first.contains('.')) && first == host {
        return Err(InvalidSpec::ServerInRepository { field: field.to_owned() });
    }
    Ok(())
}

/// Whether a digest is whole.
fn check_digest(verify: &Verify, field: &str) -> Result<(), InvalidSpec> {
    let is_hex = |digits: &str| digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let whole = |reference: &str, algorithm, length| {
        let digits = reference.strip_prefix(algorithm);
        digits.is_none_or(|digits| digits.len() == length && is_hex(digits))
    };
    let reference = verify.reference.as_deref();
    if reference.is_none_or(|text| whole(text, "sha256:", 64) && whole(text, "sha512:", 128)) {
        return Ok(());
    }
    Err(InvalidSpec::DigestNotWhole { field: field.to_owned() })
}

/// What a registry leaves out is taken from `spec.verify`.
fn with_defaults(own: Verify, general: &Verify) -> Verify {
    Verify {
        mode: own.mode.or(general.mode),
        repository: own.repository.or_else(|| general.repository.clone()),
        reference: own.reference.or_else(|| general.reference.clone()),
        interval: own.interval.or_else(|| general.interval.clone()),
        on_rejected: own.on_rejected.or(general.on_rejected),
    }
}

fn verification(verify: Verify, field: &str) -> Result<Option<Verification>, InvalidSpec> {
    let Verify { mode, repository, reference, interval, on_rejected } = verify;
    let interval = interval.map_or(Some(USUAL_VERIFY_INTERVAL), |text| duration(&text));
    let interval = interval.filter(|interval| *interval >= SHORTEST_VERIFY_INTERVAL);
    let interval = interval.ok_or_else(|| InvalidSpec::VerifyInterval { field: field.to_owned() })?;
    let proof = match mode.unwrap_or_default() {
        VerifyMode::None => return Ok(None),
        VerifyMode::Login => Proof::Login,
        VerifyMode::Pull => Proof::Pull {
            repository: repository.ok_or_else(|| InvalidSpec::NoRepository { field: field.to_owned() })?,
            reference: reference.unwrap_or_else(|| USUAL_REFERENCE.to_owned()),
        },
    };
    Ok(Some(Verification { proof, interval, hold: on_rejected.unwrap_or_default() == OnRejected::Hold }))
}

fn target_name(
    name: &str,
    spec: &RegistryCredentialSpec,
    settings: &Settings,
) -> Result<Arc<str>, InvalidSpec> {
    let target = spec.target.name.as_deref().unwrap_or(name);
    if settings.allow(target) { Ok(Arc::from(target)) } else { Err(InvalidSpec::TargetNameNotAllowed) }
}

fn refresh_interval(text: &str) -> Result<Duration, InvalidSpec> {
    let interval = duration(text).filter(|interval| *interval >= Duration::from_mins(1));
    interval.ok_or(InvalidSpec::RefreshInterval)
}

/// Sums up what the CRD's pattern lets through, in any order and as often as there: `30m2h` is two hours and a half.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = Some(text).filter(|text| !text.is_empty())?;
    let mut millis = 0_u64;
    while !rest.is_empty() {
        let (part, tail) = duration_part(rest)?;
        millis = millis.checked_add(part)?;
        rest = tail;
    }
    Some(Duration::from_millis(millis).min(LONGEST_INTERVAL))
}

/// A number and its unit, in milliseconds, and what follows them.
fn duration_part(text: &str) -> Option<(u64, &str)> {
    let (number, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
    let (tail, millis) = units.iter().find_map(|(unit, millis)| Some((rest.strip_prefix(unit)?, millis)))?;
    Some((number.parse::<u64>().ok()?.checked_mul(*millis)?, tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interval_that_the_crd_stores_is_taken() {
        let seconds = |text| refresh_interval(text).map(|interval| interval.as_secs());
        for (text, expected) in [
            ("1m", 60),
            ("1h30m", 5_400),
            ("30m2h", 9_000),
            ("30s1h", 3_630),
            ("1h1h", 7_200),
            ("60000ms", 60),
            ("2562047h", 31_536_000),
        ] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in
            ["", "59s", "1d", "h", "1", "1m30", "-1m", "1.5h", "99999999999999999999h", "9999999999999999h"]
        {
            assert_eq!(seconds(text), Err(InvalidSpec::RefreshInterval), "{text}");
        }
    }
}
