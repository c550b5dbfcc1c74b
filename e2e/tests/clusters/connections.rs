//! TCP connections of pods that exchange checked messages: how many break.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use carrick_e2e::turns::first_thread;
use carrick_e2e::wait::wait_until;

use crate::common::text;
use crate::flow::Network;

/// How many there are.
pub const CONNECTIONS: usize = 20;

/// Between two messages of a connection, each of which is sent back.
const INTERVAL: Duration = Duration::from_millis(80);

/// The application gives a connection up that says nothing for so long.
const PATIENCE: Duration = Duration::from_secs(5);

/// After the end of a fault it takes so long until all are counted that it broke.
const COUNTED: Duration = PATIENCE.saturating_add(Duration::from_secs(1));

/// Bytes of a message, where no other size is asked for.
pub const BYTES: usize = 512;

#[derive(Debug, Default)]
struct Counts {
    answered: AtomicU64,
    broken: AtomicU64,
    stop: AtomicBool,
}

impl Counts {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// The connections, until they are dropped. One that breaks is made anew.
#[derive(Debug)]
pub struct Connections {
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<()>>,
}

impl Connections {
    /// Opens them to a port of `to` that nobody uses, for messages of so many bytes, and waits until each has had an
    /// answer.
    pub fn start(
        from: &Network,
        to: &Network,
        target: SocketAddr,
        bytes: usize,
    ) -> Result<Self, String> {
        let listener = to.inside(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, target.port())))?;
        let listener = text(listener)?;
        text(listener.set_nonblocking(true))?;
        let counts = Arc::<Counts>::default();
        let mut threads = vec![{
            let counts = counts.clone();
            first_thread(move || serve(&listener, bytes, &counts))
        }];
        for number in 0..CONNECTIONS {
            let (counts, from) = (counts.clone(), *from);
            threads.push(first_thread(move || keep((number, bytes), &from, target, &counts)));
        }
        let connections = Self { counts, threads };
        text(wait_until(Duration::from_secs(20), "an answer on each connection", || {
            let answered = connections.counts.answered.load(Ordering::Relaxed);
            let enough = answered >= 2 * CONNECTIONS as u64;
            if enough { Ok(()) } else { Err(format!("{answered} answers")) }
        }))?;
        Ok(connections)
    }

    /// How many have broken so far, or waited in vain: asked for once those are counted that have had no answer since
    /// `end`.
    pub fn broken_by(&self, end: Instant) -> u64 {
        std::thread::sleep((end + COUNTED).saturating_duration_since(Instant::now()));
        self.counts.broken.load(Ordering::Relaxed)
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.counts.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                eprintln!("a thread of a connection panicked");
            }
        }
    }
}

/// Sends back what comes, on every connection.
fn serve(listener: &TcpListener, bytes: usize, counts: &Arc<Counts>) {
    let mut threads = Vec::new();
    while !counts.stopped() {
        match listener.accept() {
            Ok((stream, _)) => {
                let counts = counts.clone();
                threads.push(std::thread::spawn(move || echo(stream, bytes, &counts)));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    for thread in threads {
        if thread.join().is_err() {
            eprintln!("a thread of a connection panicked");
        }
    }
}

fn echo(mut stream: TcpStream, bytes: usize, counts: &Counts) {
    let mut message = vec![0; bytes];
    let timed =
        stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(PATIENCE)));
    if timed.is_err() {
        return;
    }
    while !counts.stopped() {
        if stream.read_exact(&mut message).and_then(|()| stream.write_all(&message)).is_err() {
            return;
        }
    }
}

/// Keeps one connection, with its number and its messages' size, busy until the end.
fn keep(which: (usize, usize), from: &Network, to: SocketAddr, counts: &Counts) {
    while !counts.stopped() {
        // A socket that cannot be made is counted like one that breaks: the pods are there all the time.
        let made = from.inside(|| TcpStream::connect_timeout(&to, PATIENCE));
        let ended = made.and_then(text).and_then(|stream| talk(which, stream, counts));
        if ended.is_err() && !counts.stopped() {
            counts.broken.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn talk(
    (number, bytes): (usize, usize),
    mut stream: TcpStream,
    counts: &Counts,
) -> Result<(), String> {
    text(stream.set_nodelay(true))?;
    text(stream.set_read_timeout(Some(PATIENCE)))?;
    text(stream.set_write_timeout(Some(PATIENCE)))?;
    let (mut sent, mut answer) = (vec![0; bytes], vec![0; bytes]);
    for count in 0_u64.. {
        if counts.stopped() {
            return Ok(());
        }
        let next = Instant::now() + INTERVAL;
        for (place, byte) in sent.iter_mut().enumerate() {
            *byte = (place as u64 * 31 + number as u64 * 7 + count) as u8;
        }
        text(stream.write_all(&sent))?;
        text(stream.read_exact(&mut answer))?;
        if sent != answer {
            return Err("another message came back".to_owned());
        }
        counts.answered.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}
