//! What a source gives must be what its copy gives: for every image, the kubelet's own code finds with the copy what it
//! finds with the source, or the source is refused. Four differences are meant, and no others: a login without user or
//! password is left out, as no registry takes it; line breaks and byte order marks around a user name or a password go;
//! a login that is there twice is there once; and a source that the kubelet cannot read may be mended. Where all that the
//! kubelet finds is left out, it may find more in the copy.

use std::collections::BTreeSet;

use regcred_dockerconfig::{
    ConfigError, DOCKER_HUB_ALIASES, DOCKER_HUB_HOSTS, DockerConfig, Keyring, Server, WrittenConfig,
};
use regcred_tests::keyring::{Answer, Case, Kubelet, Login};
use serde_json::{Map, Value, json};

use crate::generate::{self, has_equal_keys, member_names};

/// The content of a copy, or why there is none.
type Copied = Result<String, ConfigError>;

#[test]
fn a_whole_configuration_gives_every_image_what_its_source_gives() {
    let mut cases = crate::corpus();
    cases.retain(|case| case.secrets.len() == 1);
    cases.extend(crate::drawn(generate::source()));
    let copied: Vec<Copied> = cases.iter().map(|case| whole(&case.secrets[0])).collect();
    let sources = Kubelet::start().ask(&cases);
    let copies = ask_copies(&copied, cases.iter().map(|case| case.image.clone()));
    let mut compared = 0;
    for (((case, copied), source), copy) in cases.iter().zip(&copied).zip(sources).zip(copies) {
        if source.as_ref().is_err_and(|error| error.starts_with("image: ")) {
            continue;
        }
        let is_blank =
            source.as_ref().is_ok_and(|source| !source.is_empty() && mended(source.clone()).is_empty());
        match (copied, source.map(mended)) {
            (Ok(_), Ok(_)) if is_blank => assert!(copy.is_ok(), "{case:#?}"),
            (Ok(_), Ok(mut source)) => {
                let mut copy = once(copy.expect("a copy can be read"));
                if has_equal_keys(&case.secrets[0]) {
                    source.sort();
                    copy.sort();
                }
                compared += usize::from(!source.is_empty());
                assert_eq!(copy, source, "the copy is left, its source right, for {case:#?}");
            }
            (Ok(_), Err(_)) => assert!(copy.is_ok(), "{case:#?}"),
            (Err(error), source) => {
                assert!(may_refuse_whole(error, &case.secrets[0], &source), "{error} for {case:#?}");
            }
        }
    }
    assert!(compared > cases.len() / 20, "only {compared} of {} were compared", cases.len());
    crate::say(cases.len(), &format!("{compared} whole sources give what their copies give"));
}

/// A source is refused for what is wrong with it, and not where the kubelet finds a login that a registry can take.
fn may_refuse_whole(error: &ConfigError, text: &str, source: &Answer) -> bool {
    match error {
        ConfigError::WrongType { .. } | ConfigError::Undecodable { .. } => source.is_err(),
        ConfigError::NotUtf8
        | ConfigError::NotJson { .. }
        | ConfigError::NoAuths
        | ConfigError::Empty
        | ConfigError::NoCredential { .. } => source.as_ref().is_ok_and(Vec::is_empty) || source.is_err(),
        ConfigError::NoEntry { .. } => false,
        ConfigError::Ambiguous { .. } => has_equal_keys(text),
        ConfigError::Unusable { .. } => true,
    }
}

#[test]
fn an_entry_gives_its_server_what_its_source_gives() {
    let mut asked: Vec<(String, String)> = crate::drawn(generate::source_and_server());
    asked.extend(crate::corpus().into_iter().filter_map(|case| {
        let server = host_of(&case.image)?;
        (case.secrets.len() == 1).then(|| (case.secrets[0].clone(), server))
    }));
    let copied: Vec<Copied> = asked.iter().map(|(source, server)| for_server(source, server)).collect();
    let question = |(source, server): &(String, String)| Case {
        secrets: vec![salvaged(source)],
        image: image_of(server),
    };
    let sources = Kubelet::start().ask(&asked.iter().map(question).collect::<Vec<_>>());
    let copies = ask_copies(&copied, asked.iter().map(|(_, server)| image_of(server)));
    let mut compared = 0;
    for (((asked, copied), source), copy) in asked.iter().zip(&copied).zip(sources).zip(copies) {
        let source = source.map(mended).ok().filter(|_| !falls_back(asked)).unwrap_or_default();
        match copied {
            Ok(_) => {
                let copy = copy.expect("a copy can be read");
                compared += usize::from(!source.is_empty());
                assert!(may_give(&copy, &source, asked), "{copy:?}, but {source:?}, for {asked:#?}");
            }
            Err(error) => {
                assert!(source.is_empty() || may_refuse_entry(error, asked), "{error} for {asked:#?}");
            }
        }
    }
    assert!(compared > asked.len() / 20, "only {compared} of {} were compared", asked.len());
    crate::say(asked.len(), &format!("{compared} entries give what their copies give"));
}

/// A copy gives what the kubelet tries first. Where that is nothing, an entry may mean the server in another spelling.
fn may_give(copy: &[Login], source: &[Login], asked: &(String, String)) -> bool {
    match (copy, source) {
        ([_], []) => has_other_spelling(asked),
        ([given], source) if has_equal_keys(&asked.0) => source.contains(given),
        ([given], [first, ..]) => given == first,
        _ => false,
    }
}

/// Where the kubelet finds a login for the server, only what is wrong with the entries for that very server counts.
fn may_refuse_entry(error: &ConfigError, (source, asked): &(String, String)) -> bool {
    let asked = Server::parse(asked).unwrap();
    match error {
        ConfigError::WrongType { server }
        | ConfigError::Undecodable { server }
        | ConfigError::Unusable { server, .. } => server.covers(&asked),
        ConfigError::Ambiguous { server } => server.covers(&asked) && has_equal_keys(source),
        _ => false,
    }
}

/// Whether the kubelet would take a login of Docker Hub for a host of another: it does so where that has neither a dot nor
/// a colon. We do not.
fn falls_back((source, asked): &(String, String)) -> bool {
    !asked.split('/').next().unwrap().contains(['.', ':']) && source.contains("index.docker.io")
}

/// Whether an entry means the server in a spelling that the kubelet does not match: with capitals, or under another name
/// of Docker Hub.
fn has_other_spelling((source, server): &(String, String)) -> bool {
    let source = source.to_ascii_lowercase();
    let host = server.split('/').next().unwrap();
    let mut hub = DOCKER_HUB_HOSTS.iter().chain(&DOCKER_HUB_ALIASES);
    let is_hub = DOCKER_HUB_HOSTS.contains(&host) && hub.any(|hub| source.contains(hub));
    is_hub || source.contains(host) || source.contains('*')
}

/// A source without the entries for which the kubelet refuses the whole: what one odd entry must not stop. A source with
/// a field that is there twice stays as it is, since its order counts.
fn salvaged(source: &str) -> String {
    let Ok(Value::Object(root)) = serde_json::from_str(source.trim_start_matches('\u{feff}')) else {
        return source.to_owned();
    };
    let Some(Value::Object(auths)) = root.get("auths") else { return source.to_owned() };
    let is_auths = |name: &&String| name.replace('\u{17f}', "s").eq_ignore_ascii_case("auths");
    let repeated = member_names(source).iter().filter(is_auths).count() > 1;
    if is_readable(source) || repeated || auths.values().filter_map(Value::as_object).any(repeats) {
        return source.to_owned();
    }
    let reads =
        |(key, entry): &(&String, &Value)| is_readable(&json!({ "auths": { *key: *entry } }).to_string());
    let auths: Map<String, Value> = auths.iter().map(|(key, entry)| (key.clone(), trimmed(entry))).collect();
    let good: Map<String, Value> =
        auths.iter().filter(reads).map(|(key, entry)| (key.clone(), entry.clone())).collect();
    json!({ "auths": good }).to_string()
}

/// An entry whose `auth` has nothing around it.
fn trimmed(entry: &Value) -> Value {
    let mut entry = entry.clone();
    if let Some(Value::String(auth)) = entry.get_mut("auth") {
        *auth = auth.trim_matches(['\u{feff}', '\r', '\n', ' ']).to_owned();
    }
    entry
}

fn repeats(object: &Map<String, Value>) -> bool {
    let names: BTreeSet<_> = object.keys().map(|name| name.to_ascii_lowercase()).collect();
    names.len() < object.len()
}

/// As the kubelet says, which the other tests hold ours to.
fn is_readable(source: &str) -> bool {
    Keyring::new([source.as_bytes()]).is_ok()
}

fn whole(source: &str) -> Copied {
    let whole = WrittenConfig::parse_dockerconfigjson(source.as_bytes())?.whole()?;
    Ok(text(&whole.config))
}

fn for_server(source: &str, server: &str) -> Copied {
    let server = Server::parse(server).unwrap();
    let login = WrittenConfig::parse_dockerconfigjson(source.as_bytes())?.login_for(&server)?;
    Ok(text(&DockerConfig::single(server, login)))
}

fn text(config: &DockerConfig) -> String {
    String::from_utf8(config.render().expose().to_vec()).unwrap()
}

fn ask_copies(copied: &[Copied], images: impl Iterator<Item = String>) -> Vec<Answer> {
    let copy = |(copied, image): (&Copied, String)| Case { secrets: copied.iter().cloned().collect(), image };
    Kubelet::start().ask(&copied.iter().zip(images).map(copy).collect::<Vec<_>>())
}

/// What the kubelet finds, with the differences that are meant.
fn mended(found: Vec<Login>) -> Vec<Login> {
    let bare = |text: &str| text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']).to_owned();
    let bare = |login: Login| Login { username: bare(&login.username), password: bare(&login.password) };
    let logins = found.into_iter().map(bare);
    once(logins.filter(|login| !login.username.is_empty() && !login.password.is_empty()).collect())
}

fn once(logins: Vec<Login>) -> Vec<Login> {
    let mut seen = BTreeSet::new();
    logins.into_iter().filter(|login| seen.insert(login.clone())).collect()
}

/// An image under a server for which no entry of the pools is closer than one for the whole server.
fn image_of(server: &str) -> String {
    match server.split_once('/') {
        None => format!("{server}/zzz/zzz"),
        Some(_) => format!("{server}zzz/zzz"),
    }
}

/// The host of an image, if a spec can name it: in lower case.
fn host_of(image: &str) -> Option<String> {
    let repository = regcred_dockerconfig::repository_of(image).ok()?;
    let host = repository.split('/').next()?;
    (Server::parse(host).is_ok() && host == host.to_ascii_lowercase()).then(|| host.to_owned())
}
