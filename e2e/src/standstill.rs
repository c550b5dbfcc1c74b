//! Whether the machine itself stood still: a hypervisor that takes a processor away for half a second looks like a
//! gateway that died, to its nodes as to a test.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::turns::first_thread;

const PAUSE: Duration = Duration::from_millis(10);

/// Threads, one on each processor, that see how much later than asked for they get a turn.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Duration>>,
}

impl Watch {
    /// Watches all processors that this process may use, from now on.
    pub fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (0..processors).map(|processor| {
            let stop = stop.clone();
            first_thread(move || watch(processor, &stop))
        });
        Self { threads: threads.collect(), stop }
    }

    /// The longest time in which some processor gave no turn.
    pub fn end(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.threads.into_iter().filter_map(|thread| thread.join().ok());
        seen.max().unwrap_or_default()
    }
}

fn watch(processor: usize, stop: &AtomicBool) -> Duration {
    let mut one = CpuSet::new();
    // Where it may not choose it still sees what happens to whichever it is on.
    let _ = one.set(processor).and_then(|()| sched_setaffinity(Pid::from_raw(0), &one));
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let before = Instant::now();
        std::thread::sleep(PAUSE);
        longest = longest.max(before.elapsed().saturating_sub(PAUSE));
    }
    longest
}
