//! What a shell may complete. kubectl runs `kubectl_complete-regcred` for it, which runs this program
//! (kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins).

use clap::CommandFactory as _;

use crate::args::Args;

/// After the words: the shell completes no names of files.
const NO_FILES: &str = ":4";
/// After the words: the shell completes as it does by itself.
const AS_USUAL: &str = ":0";

/// What the last word may become.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Wanted {
    /// These words, and nothing else.
    Words(Vec<String>),
    /// The name of a RegistryCredential.
    Credential,
    /// The name of a Pod in a namespace, or in that of the context.
    Pod(Option<String>),
    /// The name of a file.
    File,
}

/// What the last of these words may become.
pub(crate) fn wanted(words: &[String]) -> Wanted {
    let (last, before) = words.split_last().map_or(("", words), |(last, before)| (last.as_str(), before));
    let verb = before.iter().find(|word| verbs().contains(word));
    match (verb.map(String::as_str), before.last().map(String::as_str)) {
        (_, Some("-f" | "--filename" | "--kubeconfig")) => Wanted::File,
        (_, Some("-o" | "--output")) => {
            Wanted::Words(["table", "wide", "json", "yaml", "name"].map(str::to_owned).into())
        }
        (verb, _) if last.starts_with('-') => Wanted::Words(flags(verb)),
        (None, _) => Wanted::Words(verbs()),
        (Some("status" | "impact" | "refresh"), _) => Wanted::Credential,
        (Some("explain"), _) => Wanted::Pod(namespace(before)),
        (Some(_), _) => Wanted::Words(Vec::new()),
    }
}

/// What is printed: the words that begin as the last one does, and what the shell may add by itself.
pub(crate) fn answer(words: &[String], found: Option<Vec<String>>) -> String {
    let last = words.last().map(String::as_str).unwrap_or_default();
    let directive = if found.is_some() { NO_FILES } else { AS_USUAL };
    let fitting = found.into_iter().flatten().filter(|word| word.starts_with(last));
    fitting.chain([directive.to_owned()]).map(|line| line + "\n").collect()
}

fn verbs() -> Vec<String> {
    let command = Args::command();
    let shown = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    shown.map(|verb| verb.get_name().to_owned()).collect()
}

fn flags(verb: Option<&str>) -> Vec<String> {
    let command = Args::command();
    let own = verb.and_then(|verb| command.find_subcommand(verb));
    let all = own.into_iter().chain([&command]).flat_map(clap::Command::get_arguments);
    all.filter_map(|argument| Some(format!("--{}", argument.get_long()?))).collect()
}

/// The namespace that the words before name.
fn namespace(words: &[String]) -> Option<String> {
    let value = |pair: &[String]| matches!(pair[0].as_str(), "-n" | "--namespace").then(|| pair[1].clone());
    words.windows(2).find_map(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn each_place_has_its_words() {
        let Wanted::Words(verbs) = wanted(&words("")) else { panic!("not words") };
        assert_eq!(verbs, ["explain", "audit", "status", "impact", "diff", "refresh", "check"]);
        assert_eq!(wanted(&words("status pl")), Wanted::Credential);
        assert_eq!(wanted(&words("-n shop explain ")), Wanted::Pod(Some("shop".to_owned())));
        assert_eq!(wanted(&words("diff -f ")), Wanted::File);
        let Wanted::Words(flags) = wanted(&words("audit --f")) else { panic!("not words") };
        assert!(flags.contains(&"--fail-on".to_owned()) && flags.contains(&"--field-selector".to_owned()));
    }

    #[test]
    fn only_words_that_begin_so_are_printed() {
        let found = Some(words("platform-pull ci-pull"));
        assert_eq!(answer(&words("status pl"), found), "platform-pull\n:4\n");
        assert_eq!(answer(&words("diff -f "), None), ":0\n");
    }
}
