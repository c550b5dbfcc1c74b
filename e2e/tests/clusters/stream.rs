//! Numbered packets one way, some flows at once: how long each flow had nothing to receive.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use carrick_e2e::wait::wait_until;

use crate::common::text;
use crate::flow::Network;

/// Flows of a stream: by as many source ports, so that each gateway has some.
pub const FLOWS: usize = 8;

/// Between two packets of a stream: 1,000 a second.
const INTERVAL: Duration = Duration::from_millis(1);

/// Bytes of a packet.
const BYTES: usize = 200;

/// When packets arrived, by flow, in order.
type Arrivals = [Vec<Instant>; FLOWS];

/// How long the last packets may take.
const TAIL: Duration = Duration::from_millis(500);

/// Packets of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    /// That left.
    pub sent: u64,
    /// That arrived.
    pub arrived: u64,
}

/// A stream, until it is dropped.
#[derive(Debug)]
pub struct Stream {
    arrivals: Arc<Mutex<Arrivals>>,
    sent: Arc<AtomicU64>,
    /// The first stops the sender, the second the receiver.
    stop: [Arc<AtomicBool>; 2],
    threads: Vec<JoinHandle<()>>,
}

impl Stream {
    /// Starts it to a port of `to` that nobody uses, at this address, and waits until each flow arrives.
    pub fn start(
        from: &Network,
        to: &Network,
        address: Ipv4Addr,
        port: u16,
    ) -> Result<Self, String> {
        let receiver = to.udp(port)?;
        text(receiver.set_read_timeout(Some(Duration::from_millis(50))))?;
        let senders: Result<Vec<UdpSocket>, String> = (0..FLOWS).map(|_| from.udp(0)).collect();
        let senders = senders?;
        let arrivals = Arc::<Mutex<Arrivals>>::default();
        let (sent, stop) = (Arc::<AtomicU64>::default(), <[Arc<AtomicBool>; 2]>::default());
        let target = SocketAddr::from((address, port));
        let threads = vec![
            {
                let (sent, stop) = (sent.clone(), stop[0].clone());
                std::thread::spawn(move || send(&senders, target, &sent, &stop))
            },
            {
                let (arrivals, stop) = (arrivals.clone(), stop[1].clone());
                std::thread::spawn(move || receive(&receiver, &arrivals, &stop))
            },
        ];
        let stream = Self { arrivals, sent, stop, threads };
        stream.flows(Instant::now())?;
        Ok(stream)
    }

    /// Waits until something of each flow has arrived after `since`.
    pub fn flows(&self, since: Instant) -> Result<(), String> {
        text(wait_until(Duration::from_secs(20), "packets of each flow", || {
            let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
            let after = |flow: &Vec<Instant>| flow.last().is_some_and(|at| *at > since);
            let count = arrivals.iter().filter(|flow| after(flow)).count();
            if count == FLOWS { Ok(()) } else { Err(format!("{count} of {FLOWS}")) }
        }))
    }

    /// The longest time between `since` and `until` in which some flow had nothing to receive.
    pub fn longest_gap(&self, since: Instant, until: Instant) -> Duration {
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let gap = |flow: &Vec<Instant>| {
            let inside = flow.iter().copied().filter(|at| (since..until).contains(at));
            let times: Vec<Instant> = [since].into_iter().chain(inside).chain([until]).collect();
            times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
        };
        arrivals.iter().map(gap).max().unwrap_or_default()
    }

    /// Ends it, and counts once the last packets had time to arrive.
    pub fn end(mut self) -> Counts {
        self.stop[0].store(true, Ordering::Relaxed);
        self.join(1);
        std::thread::sleep(TAIL);
        self.stop[1].store(true, Ordering::Relaxed);
        self.join(0);
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let arrived = arrivals.iter().map(|flow| flow.len() as u64).sum();
        Counts { sent: self.sent.load(Ordering::Relaxed), arrived }
    }

    /// Waits for the first threads, until so many are left.
    fn join(&mut self, left: usize) {
        while self.threads.len() > left {
            if self.threads.remove(0).join().is_err() {
                eprintln!("a thread of a stream panicked");
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        for stop in &self.stop {
            stop.store(true, Ordering::Relaxed);
        }
        self.join(0);
    }
}

fn send(senders: &[UdpSocket], to: SocketAddr, sent: &AtomicU64, stop: &AtomicBool) {
    let start = Instant::now();
    let mut datagram = [0; BYTES];
    for (number, (flow, sender)) in (0_u32..).zip(senders.iter().enumerate().cycle()) {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        // By the clock, not by pauses: a late one does not delay the rest.
        std::thread::sleep(INTERVAL.saturating_mul(number).saturating_sub(start.elapsed()));
        datagram[0] = u8::try_from(flow).unwrap_or_default();
        // A refusal (no route) is a loss like any other.
        let _refused = sender.send_to(&datagram, to);
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

fn receive(socket: &UdpSocket, arrivals: &Mutex<Arrivals>, stop: &AtomicBool) {
    let mut buffer = [0; BYTES];
    while !stop.load(Ordering::Relaxed) {
        if let Ok(BYTES) = socket.recv(&mut buffer) {
            let mut arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(flow) = arrivals.get_mut(usize::from(buffer[0])) {
                flow.push(Instant::now());
            }
        }
    }
}
