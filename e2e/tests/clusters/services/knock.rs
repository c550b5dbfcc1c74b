//! New connections of pods, made from within this process: who serves them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use carrick_e2e::probes::{self, Page};
use carrick_e2e::wait::wait_until;

use super::SOON;
use crate::common::{check, text};
use crate::flow::Network;
use crate::world::Outcome;

/// A connection that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two of a row of new connections, which begin whatever became of the earlier ones.
const EVERY: Duration = Duration::from_millis(20);

/// The page that a new connection from a pod's network to `target` fetches.
pub fn page(from: &Network, target: SocketAddr) -> Result<Page, String> {
    from.inside(|| fetch(target))?
}

fn fetch(target: SocketAddr) -> Result<Page, String> {
    let failed = |error: std::io::Error| format!("a page of {target}: {error}");
    let mut connection = TcpStream::connect_timeout(&target, PATIENCE).map_err(failed)?;
    connection.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    connection.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").map_err(failed)?;
    let mut said = String::new();
    connection.read_to_string(&mut said).map_err(failed)?;
    let body = said.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    text(probes::page(body))
}

/// One of a row of new connections.
pub struct Knock {
    /// When it was begun.
    pub begun: Instant,
    /// When its page was there, or it had failed.
    pub ended: Instant,
    /// Who served it, or why nobody did.
    pub server: Result<String, String>,
}

impl Knock {
    /// Whether a test pod of that cluster served it.
    pub fn is_served_by(&self, cluster: &str) -> bool {
        let of = format!("probe-{cluster}");
        self.server.as_ref().is_ok_and(|server| server.starts_with(&of))
    }
}

/// New connections, one after another from each network by turns, until they are stopped.
pub struct Knocks {
    done: Arc<Mutex<Vec<Knock>>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Knocks {
    /// Begins the first.
    pub fn start(networks: Vec<Network>, target: SocketAddr) -> Self {
        let (done, stop) = (Arc::default(), Arc::<AtomicBool>::default());
        let thread = std::thread::spawn({
            let (done, stop) = (Arc::clone(&done), stop.clone());
            move || knock(&networks, target, &done, &stop)
        });
        Self { done, stop, thread }
    }

    /// Waits until so many, the latest that were begun, and after `since`, were all served by this cluster.
    pub fn wait(&self, cluster: &str, since: Instant, enough: usize) -> Outcome {
        text(wait_until(SOON, &format!("new connections that {cluster} serves"), || {
            let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
            done.sort_by_key(|knock| knock.begun);
            let later = done.iter().rev().take_while(|knock| knock.begun >= since);
            let served = later.take_while(|knock| knock.is_served_by(cluster)).count();
            check(served >= enough, || format!("only the last {served} of {}", done.len()))
        }))
    }

    /// Ends when those that were begun have ended, and gives all in the order in which they were begun.
    pub fn stop(self) -> Result<Vec<Knock>, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "a thread of new connections panicked")?;
        let mut done =
            std::mem::take(&mut *self.done.lock().unwrap_or_else(PoisonError::into_inner));
        done.sort_by_key(|knock| knock.begun);
        Ok(done)
    }
}

fn knock(networks: &[Network], target: SocketAddr, done: &Mutex<Vec<Knock>>, stop: &AtomicBool) {
    std::thread::scope(|scope| {
        let mut next = Instant::now();
        // Each takes 4 s at most, so that there are no more than 200 at once.
        for network in networks.iter().cycle() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            scope.spawn(move || {
                let begun = Instant::now();
                let server = page(network, target).map(|page| page.server);
                let knock = Knock { begun, ended: Instant::now(), server };
                done.lock().unwrap_or_else(PoisonError::into_inner).push(knock);
            });
            next += EVERY;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    });
}
