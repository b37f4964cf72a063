//! How messages count, list and give causes: the number first, then at most three names of each of at most three
//! causes, and how many more there are. A message so stays short in a cluster of any size.

use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use regcred_api::Reason;

use crate::ledger::Tally;
use crate::outcome::Fault;
use crate::step::Object;

/// How many namespaces or ServiceAccounts a list names.
const NAMES: usize = 3;
/// How many causes a message gives.
const CAUSES: usize = 3;

/// A namespace, or a ServiceAccount in it. A Secret has the same name everywhere, so its namespace says where it is.
type Place<'a> = (&'a str, Option<&'a str>);

/// One cause of failures, and where it was met.
struct Cause<'a> {
    reason: Reason,
    message: &'a str,
    /// The first time at which it is tried again anywhere, where that is known.
    retry_at: Option<Timestamp>,
    places: Vec<Place<'a>>,
}

/// A name that is free text of some user, in quotes: only so many characters, and only those that usual names are made of,
/// are passed on. `None` if nothing of it is.
pub fn quoted(name: &str, longest: usize) -> Option<String> {
    let usual = |c: &char| c.is_ascii_alphanumeric() || "._/-".contains(*c);
    let name: String = name.chars().filter(usual).take(longest).collect();
    (!name.is_empty()).then(|| format!("\"{name}\""))
}

/// What a registry said, with the Secret in the place of "the source". Without one the words stay.
pub fn naming_source(message: &str, secret: Option<&str>) -> String {
    match secret {
        Some(secret) => {
            message.replace("into the source", &format!("into Secret {secret} of the source namespace"))
        }
        None => message.to_owned(),
    }
}

/// As in `1 namespace` and `2 namespaces`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {}", plural(count, noun))
}

/// As in `1 of 2 namespaces`.
pub(crate) fn part_of(part: usize, whole: usize, noun: &str) -> String {
    format!("{part} of {}", counted(whole, noun))
}

/// At most three names, and how many more.
pub(crate) fn listed(names: impl Iterator<Item = impl AsRef<str>>) -> String {
    listed_by(names, ", ")
}

/// The same with something else between them.
pub(crate) fn listed_by(mut names: impl Iterator<Item = impl AsRef<str>>, separator: &str) -> String {
    let shown: Vec<_> = names.by_ref().take(NAMES).collect();
    let shown = shown.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(separator);
    match names.count() {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Why not all, as in `; payments: NameConflict (Secret exists …)`.
pub(crate) fn because(tally: &Tally, of: impl Fn(&Object) -> bool) -> String {
    let (causes, others) = causes(tally.failures.iter().filter(|((_, object), _)| of(object)));
    let told = causes.iter().map(|cause| format!("; {cause}: {} ({})", cause.reason, cause.message()));
    told.collect::<String>() + &further(others)
}

/// Where some failures were met and what each says, as in `payments: RegistryCredential x has …`.
pub(crate) fn told(tally: &Tally, of: impl Fn(&Object, &Fault) -> bool) -> Option<String> {
    let (causes, others) = causes(tally.failures.iter().filter(|((_, object), fault)| of(object, fault)));
    let told = causes.iter().map(|cause| format!("{cause}: {}", cause.message())).collect::<Vec<_>>();
    (!told.is_empty()).then(|| told.join("; ") + &further(others))
}

/// When it is tried again, as in `; tried again at 12:40 UTC`: the next whole minute, which is no promise that comes too early.
pub(crate) fn again(at: Option<Timestamp>) -> String {
    let minute = at.map(|at| at.checked_add(SignedDuration::from_secs(59)).unwrap_or(at));
    minute.map_or_else(String::new, |at| format!("; tried again at {} UTC", at.strftime("%H:%M")))
}

/// What of a message says the cause: what users named, which stands in quotes, and numbers may be others at the next pass.
pub(crate) fn stem(message: &str) -> String {
    let unquoted: String = message.split('"').step_by(2).collect();
    unquoted.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// The first causes in the order of their places, and how many failures have others.
fn causes<'a>(
    failures: impl Iterator<Item = (&'a (Arc<str>, Object), &'a Fault)>,
) -> (Vec<Cause<'a>>, usize) {
    let mut causes: Vec<Cause> = Vec::new();
    let mut others = 0;
    for ((namespace, object), fault) in failures {
        let place = (&**namespace, account(object));
        let is_same = |cause: &Cause| cause.reason == fault.reason && *cause.message == *fault.message;
        if let Some(at) = causes.iter().position(is_same) {
            causes[at].add(place, fault.retry_at);
        } else if causes.len() < CAUSES {
            let Fault { reason, message, retry_at, .. } = fault;
            causes.push(Cause { reason: *reason, message, retry_at: *retry_at, places: vec![place] });
        } else {
            others += 1;
        }
    }
    (causes, others)
}

impl<'a> Cause<'a> {
    /// A namespace in which several Secrets fail is named once.
    fn add(&mut self, place: Place<'a>, retry_at: Option<Timestamp>) {
        self.retry_at = self.retry_at.into_iter().chain(retry_at).min();
        if self.places.last() != Some(&place) {
            self.places.push(place);
        }
    }

    fn message(&self) -> String {
        self.message.to_owned() + &again(self.retry_at)
    }
}

/// The places.
impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |(namespace, account): &Place<'_>| {
            account.map_or_else(|| (*namespace).to_owned(), |account| format!("{namespace}/{account}"))
        };
        f.write_str(&listed(self.places.iter().map(name)))
    }
}

fn account(object: &Object) -> Option<&str> {
    match object {
        Object::Secret(_) => None,
        Object::ServiceAccount(name) => Some(name),
    }
}

fn further(others: usize) -> String {
    match others {
        0 => String::new(),
        _ => format!("; {} for other causes, see status.failures", counted(others, "failure")),
    }
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { noun.to_owned() } else { format!("{noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_the_same_whatever_its_numbers_and_what_users_named() {
        let cause = |name: &str, code: u16| stem(&format!("\"{name}\" refused it (HTTP {code}); mend it"));
        assert_eq!(cause("a", 500), cause("b", 503));
        assert_eq!(cause("a", 500), " refused it (HTTP ); mend it");
    }
}
