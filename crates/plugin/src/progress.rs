//! Tells a terminal what is being read when that takes long. Anything else than a terminal is told nothing.

use std::io::{IsTerminal as _, Write};
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How long reads may take before a terminal is told of them.
const PATIENCE: Duration = Duration::from_secs(1);

/// The line that says what is being read. It is gone before anything else is written.
pub(crate) struct Progress {
    told_from: Instant,
    is_shown: bool,
    terminal: Option<Box<dyn Write>>,
}

impl Progress {
    /// On standard error, where that is a terminal.
    pub(crate) fn on_standard_error() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self::new(terminal.then(|| Box::new(std::io::stderr()) as Box<dyn Write>))
    }

    fn new(terminal: Option<Box<dyn Write>>) -> Self {
        Self { told_from: Instant::now() + PATIENCE, is_shown: false, terminal }
    }

    /// Waits for an answer. Once reads have taken a second, also an answer that has not come yet, `doing` is shown.
    pub(crate) async fn during<T>(&mut self, doing: &str, answer: impl Future<Output = T>) -> T {
        let mut answer = pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            () = sleep_until(self.told_from), if self.terminal.is_some() => self.show(doing),
        }
        answer.await
    }

    /// Takes the line away.
    pub(crate) fn end(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            self.write("");
        }
    }

    fn show(&mut self, doing: &str) {
        self.is_shown = true;
        self.write(doing);
    }

    /// Writes over the line. A terminal that is gone is told nothing.
    fn write(&mut self, line: &str) {
        if let Some(terminal) = &mut self.terminal {
            let _unheard = write!(terminal, "\r{line}\u{1b}[K").and_then(|()| terminal.flush());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io;
    use std::rc::Rc;

    use tokio::time::sleep;

    use super::*;

    /// A terminal that keeps what is written.
    #[derive(Clone, Default)]
    struct Terminal(Rc<RefCell<Vec<u8>>>);

    impl Terminal {
        fn text(&self) -> String {
            String::from_utf8(self.0.borrow().clone()).unwrap()
        }

        fn progress(&self) -> Progress {
            Progress::new(Some(Box::new(self.clone())))
        }
    }

    impl Write for Terminal {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_answer_that_is_late_is_told_of_before_it_comes() {
        let terminal = Terminal::default();
        let mut progress = terminal.progress();
        let answer = async {
            sleep(Duration::from_secs(3)).await;
            terminal.text()
        };
        let seen = progress.during("reading Pods", answer).await;
        assert_eq!(seen, "\rreading Pods\u{1b}[K");
        progress.end();
        progress.end();
        assert_eq!(terminal.text(), seen + "\r\u{1b}[K", "the line is taken away, once");
    }

    #[tokio::test(start_paused = true)]
    async fn many_short_reads_are_told_of_once_they_take_a_second_together() {
        let terminal = Terminal::default();
        let mut progress = terminal.progress();
        for page in 0..4 {
            progress.during(&format!("page {page}"), sleep(Duration::from_millis(400))).await;
        }
        assert_eq!(terminal.text(), "\rpage 2\u{1b}[K\rpage 3\u{1b}[K");
        drop(progress);
        assert!(terminal.text().ends_with("\r\u{1b}[K"), "also an error ends it");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_quick_or_no_terminal_shows_nothing() {
        let terminal = Terminal::default();
        terminal.progress().during("reading Pods", sleep(Duration::from_millis(900))).await;
        assert_eq!(terminal.text(), "");
        let mut piped = Progress::new(None);
        piped.during("reading Pods", sleep(Duration::from_secs(9))).await;
        assert!(!piped.is_shown);
    }
}
