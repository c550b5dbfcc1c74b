//! Steps printed with their time, and a pulse while one takes long.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::Result;

/// A step that lasts longer says every so often that it is still at it, so
/// that a hang shows.
const PULSE: Duration = Duration::from_secs(10);

/// Prints the steps of one command to standard error, with the time since its start.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    start: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Progress {
    /// Prints one line.
    pub fn say(&self, text: &str) {
        eprintln!("{:7.1}s  {text}", self.start.elapsed().as_secs_f64());
    }

    /// Time since the command's start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Runs `work` and prints how long it took; prints a pulse every ten
    /// seconds with what `detail` says meanwhile.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn step<T>(
        &self,
        name: &str,
        detail: impl Fn() -> String + Send,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let began = Instant::now();
        let result = std::thread::scope(|scope| {
            let (done, ended) = channel::<()>();
            scope.spawn(move || {
                while ended.recv_timeout(PULSE) == Err(RecvTimeoutError::Timeout) {
                    let (seconds, detail) = (began.elapsed().as_secs(), detail());
                    let colon = if detail.is_empty() { "" } else { ": " };
                    self.say(&format!("… {name}, {seconds} s{colon}{detail}"));
                }
            });
            let result = work();
            drop(done);
            result
        });
        let took = began.elapsed().as_secs_f64();
        match &result {
            Ok(_) => self.say(&format!("{name} ({took:.1} s)")),
            Err(_) => self.say(&format!("{name} FAILED ({took:.1} s)")),
        }
        result
    }
}
