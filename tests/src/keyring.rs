//! The small Go program around the kubelet's own packages, asked through pipes: which logins would it try for an image?

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::thread;

use serde::{Deserialize, Serialize};

use crate::binaries;

/// A question: the pull Secrets of a Pod, and an image.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Case {
    /// What each Secret holds as `.dockerconfigjson`.
    pub secrets: Vec<String>,
    /// The image as the Pod names it.
    pub image: String,
}

/// What the kubelet tries for an image, first to last, or why it cannot.
pub type Answer = Result<Vec<Login>, String>;

/// A user name and a password.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
pub struct Login {
    /// The user name.
    #[serde(rename = "U")]
    pub username: String,
    /// The password.
    #[serde(rename = "P")]
    pub password: String,
}

/// The running program.
pub struct Kubelet(Child);

#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    error: String,
    #[serde(default)]
    creds: Vec<Login>,
}

impl Kubelet {
    /// Builds it if need be, and starts it.
    pub fn start() -> Self {
        let program = binaries::keyring().unwrap_or_else(|error| panic!("{error}"));
        let mut command = Command::new(program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        Self(command.spawn().expect("start the kubelet's keyring"))
    }

    /// Asks about every case. A thread writes, so that neither side waits for the other's pipe.
    pub fn ask(mut self, cases: &[Case]) -> Vec<Answer> {
        let mut stdin = self.0.stdin.take().expect("a pipe");
        let stdout = BufReader::new(self.0.stdout.take().expect("a pipe"));
        let questions: Vec<String> =
            cases.iter().map(|case| serde_json::to_string(case).expect("a case is JSON")).collect();
        let writer = thread::spawn(move || {
            for question in questions {
                writeln!(stdin, "{question}").expect("the keyring reads");
            }
        });
        let answers = stdout.lines().map(|line| answer(&line.expect("the keyring writes"))).collect();
        writer.join().expect("all was asked");
        self.0.wait().expect("the keyring ends");
        answers
    }
}

fn answer(line: &str) -> Answer {
    let reply: Reply = serde_json::from_str(line).expect("the keyring answers in JSON");
    if reply.error.is_empty() { Ok(reply.creds) } else { Err(reply.error) }
}
