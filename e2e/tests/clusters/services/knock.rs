//! New connections of pods, made from within this process: who serves them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use carrick_e2e::probes::{self, Page};
use carrick_e2e::wait::wait_until;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::SOON;
use crate::common::{check, text};
use crate::flow::Network;
use crate::world::Outcome;

/// A connection whose beginning, or whose page, takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two of a row of new connections, which begin whatever became of the earlier ones.
const EVERY: Duration = Duration::from_millis(20);

/// The page that a new connection from a pod's network to `target` fetches.
pub fn page(from: &Network, target: SocketAddr) -> Result<Page, String> {
    from.inside_async(async || fetch(target).await)
}

async fn fetch(target: SocketAddr) -> Result<Page, String> {
    let mut connection = in_time(target, TcpStream::connect(target)).await?;
    let talk = async {
        connection.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").await?;
        let mut said = String::new();
        connection.read_to_string(&mut said).await.map(|_| said)
    };
    let said = in_time(target, talk).await?;
    let body = said.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    text(probes::page(body))
}

async fn in_time<T>(
    target: SocketAddr,
    work: impl Future<Output = std::io::Result<T>>,
) -> Result<T, String> {
    let done = tokio::time::timeout(PATIENCE, work).await;
    let done = done.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    done.map_err(|error| format!("a page of {target}: {error}"))
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

/// New connections, one after another from each network by turns, until they are stopped. A thread for each network makes
/// all of its connections: a busy machine would keep a thread for each of them waiting.
pub struct Knocks {
    done: Arc<Mutex<Vec<Knock>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Outcome>>,
}

impl Knocks {
    /// Begins the first.
    pub fn start(networks: Vec<Network>, target: SocketAddr) -> Self {
        let (done, stop) = (Arc::default(), Arc::<AtomicBool>::default());
        let (began, count) = (Instant::now(), networks.len() as u32);
        let start = |(turn, network): (u32, Network)| {
            let (done, stop) = (Arc::clone(&done), stop.clone());
            let row = Row { target, first: began + turn * EVERY, pause: count * EVERY };
            std::thread::spawn(move || network.inside_async(async || row.knock(&done, &stop).await))
        };
        let threads = (0..).zip(networks).map(start).collect();
        Self { done, stop, threads }
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
        for thread in self.threads {
            thread.join().map_err(|_| "a thread of new connections panicked")??;
        }
        let mut done =
            std::mem::take(&mut *self.done.lock().unwrap_or_else(PoisonError::into_inner));
        done.sort_by_key(|knock| knock.begun);
        Ok(done)
    }
}

/// The connections from one network.
struct Row {
    target: SocketAddr,
    first: Instant,
    pause: Duration,
}

impl Row {
    async fn knock(self, done: &Arc<Mutex<Vec<Knock>>>, stop: &AtomicBool) -> Outcome {
        // Each takes 4 s at most, so that there are no more than 200 at once.
        let mut open = JoinSet::new();
        let mut next = self.first;
        while !stop.load(Ordering::Relaxed) {
            tokio::time::sleep_until(next.into()).await;
            next += self.pause;
            let (target, done) = (self.target, Arc::clone(done));
            open.spawn(async move {
                let begun = Instant::now();
                let server = fetch(target).await.map(|page| page.server);
                let knock = Knock { begun, ended: Instant::now(), server };
                done.lock().unwrap_or_else(PoisonError::into_inner).push(knock);
            });
            while text(open.try_join_next().transpose())?.is_some() {}
        }
        while let Some(ended) = open.join_next().await {
            text(ended)?;
        }
        Ok(())
    }
}
