//! Child processes that never outlive us, however we end.
//!
//! Tests panic, are killed, or keep things in statics that nobody drops. So a small shell script, the supervisor,
//! reads from a pipe of which only we hold the other end. The kernel closes that end when we end, for whatever
//! reason; the supervisor then kills exactly the processes that were reported to it and removes their folder.
//!
//! A child waits behind a gate (one line on its standard input) until the supervisor knows its process
//! id. If we die in between, the gate never opens and the child ends by itself.

use std::{
    fs::File,
    io::Write as _,
    os::fd::AsFd as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::Mutex,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    error::{Context as _, Error, Result},
    wait::try_eventually,
};

/// Reads process ids until we are gone, kills the processes, latest first, and removes the folder.
///
/// What lies outside of the folder is removed by a `finally.sh` in it.
///
/// KILL at once: the data is deleted too, so there is nothing to save. A process is known by its id and its start time,
/// so that a stranger who got the same id later is left alone.
const SUPERVISOR: &str = r#"
trap '' HUP INT TERM PIPE
born() { # the start time of a live process, from what follows its name in parentheses
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  set -- ${stat##*) }
  [ "$1" != Z ] && echo "${20}"
}
processes=
while read -r pid; do processes="$pid:$(born "$pid") $processes"; done
alive() { [ -n "${1#*:}" ] && [ "$(born "${1%%:*}")" = "${1#*:}" ]; }
for process in $processes; do alive "$process" && kill -KILL "${process%%:*}"; done
for process in $processes; do
  tries=0
  while alive "$process" && [ "$tries" -lt 60 ]; do tries=$((tries + 1)); sleep 0.05; done
done
[ ! -f "$1/finally.sh" ] || /bin/sh "$1/finally.sh"
[ -n "${REGCRED_KEEP:-}" ] || rm -rf "$1"
"#;

/// Opens when a line arrives, and ends the process when the pipe closes without one.
const GATE: &str = r#"read -r go && exec "$@" </dev/null"#;

/// Of our own environment, children see only this: a developer's KUBECONFIG or proxy settings must not matter.
const PASSED_ON: [&str; 3] = ["PATH", "RUST_BACKTRACE", "LLVM_PROFILE_FILE"];

/// Ends the children and removes the folder once this value, or our whole process, is gone.
pub struct Supervisor {
    folder: PathBuf,
    script: Child,
    pipe: Mutex<Option<ChildStdin>>,
}

/// A program to start.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Names the process in messages, and its log files.
    pub name: String,
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What its environment has beyond `PATH` and `HOME`.
    pub environment: Vec<(String, String)>,
}

impl Supervisor {
    /// A supervisor that removes `folder` in the end, unless `REGCRED_KEEP` is set.
    pub fn start(folder: &Path) -> Result<Self> {
        let mut script = Command::new("/bin/sh")
            .args(["-c", SUPERVISOR, "regcred-supervisor"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C reaches the whole foreground group; this one must survive it to clean up.
            .process_group(0)
            .spawn()
            .context("start the supervisor")?;
        let pipe = Mutex::new(script.stdin.take());
        Ok(Self { folder: folder.to_owned(), script, pipe })
    }

    /// Starts a program whose life is tied to ours.
    pub fn spawn(&self, launch: &Launch) -> Result<Process> {
        let log = |kind: &str| self.folder.join(format!("{}.{kind}.log", launch.name));
        let (stdout, stderr) = (log("stdout"), log("stderr"));
        let mut child =
            self.command(launch, &stdout, &stderr)?.spawn().context(format!("start {}", launch.name))?;
        self.watch_over(child.id())?;
        let mut gate = child.stdin.take().expect("standard input is a pipe");
        gate.write_all(b"go\n").context(format!("let {} through the gate", launch.name))?;
        Ok(Process { name: launch.name.clone(), child: Mutex::new(child), stdout, stderr })
    }

    /// Lets the children live on when we end. Returns the id of the process that now stands in for us: they end
    /// when it does.
    pub fn keep(&self) -> Result<u32> {
        let pipe = self.pipe.lock().unwrap();
        let pipe = pipe.as_ref().expect("the pipe is open until drop");
        let pipe = pipe.as_fd().try_clone_to_owned().context("share the supervisor's pipe")?;
        let mut command = Command::new("sleep");
        command.arg("infinity").stdin(Stdio::null()).stdout(pipe).stderr(Stdio::null()).process_group(0);
        command.spawn().map(|keeper| keeper.id()).context("start the keeper")
    }

    fn command(&self, launch: &Launch, stdout: &Path, stderr: &Path) -> Result<Command> {
        let append = |path: &Path| {
            File::options().create(true).append(true).open(path).context(format!("open {}", path.display()))
        };
        let mut command = Command::new("/bin/sh");
        command.args(["-c", GATE, &launch.name]).arg(&launch.program).args(&launch.arguments);
        command.env_clear().env("HOME", &self.folder);
        command.envs(PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs(launch.environment.iter().cloned());
        command.stdin(Stdio::piped()).stdout(append(stdout)?).stderr(append(stderr)?);
        command.current_dir(&self.folder).process_group(0);
        Ok(command)
    }

    fn watch_over(&self, id: u32) -> Result<()> {
        let mut pipe = self.pipe.lock().unwrap();
        let pipe = pipe.as_mut().expect("the pipe is open until drop");
        writeln!(pipe, "{id}").context("tell the supervisor a process id")
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        drop(self.pipe.lock().unwrap().take());
        let _ = self.script.wait();
    }
}

/// A running program; dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Mutex<Child>,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    /// False once it has ended.
    pub fn is_running(&self) -> bool {
        self.exit_status().is_none()
    }

    /// How it ended, if it has.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.child.lock().unwrap().try_wait().ok().flatten()
    }

    /// SIGKILL, and waits until the process is gone, which takes no time.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        // An error means that it has ended already.
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Sends a signal, unless it has ended: its id may be a stranger's by then.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let mut child = self.child.lock().unwrap();
        let what = format!("send {signal:?} to {}", self.name);
        match child.try_wait().context(what.clone())? {
            Some(status) => Err(Error::Unexpected(format!("{what}: it has ended ({status})"))),
            None => kill_process(Pid::from_child(&child), signal).map_err(std::io::Error::from).context(what),
        }
    }

    /// Waits for its end.
    pub async fn wait(&self, within: Duration) -> Result<ExitStatus> {
        let look = async || self.exit_status().ok_or_else(|| "still running".to_owned());
        try_eventually(&format!("the end of {}", self.name), within, look).await
    }

    /// What it has written to standard output.
    pub fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    /// What it has written to standard error.
    pub fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// An error about this process, with the end of its log.
    pub fn failure(&self, reason: impl Into<String>) -> Error {
        let text = self.stdout() + &self.stderr();
        Error::Program { program: self.name.clone(), reason: reason.into(), log_tail: last_lines(&text, 30) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read_lossy(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Processor time of a process since it started, in user and kernel mode (man 5 proc: fields 14 and 15 of `stat`, counted
/// behind the command's name, which may hold blanks).
pub fn processor_time(process: u32) -> Result<Duration> {
    let path = format!("/proc/{process}/stat");
    let stat = std::fs::read_to_string(&path).context(format!("read {path}"))?;
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = |at: usize| fields.split_whitespace().nth(at).and_then(|field| field.parse::<u32>().ok());
    let ticks = ticks(11).unwrap_or_default() + ticks(12).unwrap_or_default();
    let per_second = u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100);
    Ok(Duration::from_secs_f64(f64::from(ticks) / f64::from(per_second)))
}
