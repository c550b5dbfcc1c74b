//! Numbered packets one way, some flows at once: how long each flow had nothing to receive, and what it lost.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use carrick_e2e::cluster::Cluster;
use carrick_e2e::turns::first_thread;
use carrick_e2e::wait::wait_until;

use crate::common::{address_v4, pod_network, text};
use crate::echo::hold_more;
use crate::flow::Network;
use crate::traffic::last;

/// How many flows a stream has, and how fast it is.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Flows, by as many source ports, so that each gateway has some.
    pub flows: usize,
    /// Between two packets; each goes to the next flow.
    pub interval: Duration,
    /// Of a packet.
    pub bytes: usize,
}

/// What most streams are: 1,000 packets a second, fast enough that a gap of a flow is known within 8 ms.
pub const USUAL: Shape = Shape { flows: 8, interval: Duration::from_millis(1), bytes: 200 };

/// The largest packet that there may be, in bytes.
const MOST_BYTES: usize = 2048;

/// Bytes of the number at the front of each packet.
const HEADER: usize = 4;

/// The numbers of packets and when they arrived, by flow, in the order of arrival.
type Arrivals = Vec<Vec<(u32, Instant)>>;

/// How long the last packets may take.
const TAIL: Duration = Duration::from_millis(500);

/// A packet that arrives so much later than usual came by a path that has become slow.
const LATE: Duration = Duration::from_millis(100);

/// Packets of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    /// That left.
    pub sent: u64,
    /// Of these, that arrived, each counted once.
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
    shape: Shape,
    /// When packet 0 left; the others follow by the clock.
    start: Instant,
}

impl Stream {
    /// From the pod on the last node of one cluster to that of the other.
    pub fn between(from: &Cluster, to: &Cluster, port: u16, shape: Shape) -> Result<Self, String> {
        let (source, target) = (last(from), last(to));
        let address = address_v4(to, &target)?;
        let (from, to) = (pod_network(from, &source)?, pod_network(to, &target)?);
        Self::start(&from, &to, SocketAddr::from((address, port)), shape)
    }

    /// Starts it to `target`, an address of `to` and a port that nobody uses, and waits until each flow arrives.
    pub fn start(
        from: &Network,
        to: &Network,
        target: SocketAddr,
        shape: Shape,
    ) -> Result<Self, String> {
        let receiver = to.udp(target.port())?;
        hold_more(&receiver)?;
        text(receiver.set_read_timeout(Some(Duration::from_millis(50))))?;
        let senders: Result<Vec<UdpSocket>, String> =
            (0..shape.flows).map(|_| from.udp(0)).collect();
        let senders = senders?;
        let arrivals = Arc::new(Mutex::new(vec![Vec::new(); shape.flows]));
        let (sent, stop) = (Arc::<AtomicU64>::default(), <[Arc<AtomicBool>; 2]>::default());
        let start = Instant::now();
        let threads = vec![
            {
                let (sent, stop) = (sent.clone(), stop[0].clone());
                first_thread(move || send(&senders, (target, start, shape), &sent, &stop))
            },
            {
                let (arrivals, stop) = (arrivals.clone(), stop[1].clone());
                first_thread(move || receive(&receiver, shape.bytes, &arrivals, &stop))
            },
        ];
        let stream = Self { arrivals, sent, stop, threads, shape, start };
        stream.flows(Instant::now())?;
        Ok(stream)
    }

    /// Waits until something of each flow has arrived after `since`.
    pub fn flows(&self, since: Instant) -> Result<(), String> {
        text(wait_until(Duration::from_secs(20), "packets of each flow", || {
            let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
            let after = |flow: &Vec<_>| flow.last().is_some_and(|(_, at)| *at > since);
            let count = arrivals.iter().filter(|flow| after(flow)).count();
            let all = self.shape.flows;
            if count == all { Ok(()) } else { Err(format!("{count} of {all}")) }
        }))
    }

    /// The longest time between `since` and `until` in which some flow had nothing to receive.
    pub fn longest_gap(&self, since: Instant, until: Instant) -> Duration {
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let gap = |flow: &Vec<(u32, Instant)>| {
            let inside = flow.iter().map(|(_, at)| *at).filter(|at| (since..until).contains(at));
            let times: Vec<Instant> = [since].into_iter().chain(inside).chain([until]).collect();
            times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
        };
        arrivals.iter().map(gap).max().unwrap_or_default()
    }

    /// Of the packets that left between `since` and `until`, how many there were, and which did not arrive. To be
    /// asked when those under way have had the time.
    pub fn losses(&self, since: Instant, until: Instant) -> Losses {
        let sent = self.number(since)..self.number(until);
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let arrived = numbers(&arrivals);
        let lost = sent.clone().filter(|number| !arrived.contains(number)).collect();
        Losses { sent: sent.len(), lost, shape: self.shape }
    }

    /// The number of the packet that leaves at this time.
    fn number(&self, at: Instant) -> u32 {
        let passed = at.saturating_duration_since(self.start).as_micros();
        u32::try_from(passed / self.shape.interval.as_micros()).unwrap_or(u32::MAX)
    }

    /// How the stream got away from a path that went bad at `since`, by its packets until `until`: each flow has once
    /// it has had no such trouble for as long as `quiet`. To be asked when the last ones have had the time.
    pub fn moved(
        &self,
        since: Instant,
        until: Instant,
        (trouble, quiet): (Trouble, Duration),
    ) -> Moved {
        let Shape { flows, interval, .. } = self.shape;
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, end) = (self.number(since), self.number(until));
        let late = match trouble {
            Trouble::Lost => Duration::MAX,
            Trouble::Late => self.usual(&arrivals, first) + LATE,
        };
        let mut moved = Moved::default();
        for (flow, arrived) in (0_u32..).zip(arrivals.iter()) {
            // Of those that came twice the first counts.
            let times: BTreeMap<u32, Instant> = arrived.iter().rev().copied().collect();
            let of_flow = (first..end).filter(|number| number % flows as u32 == flow);
            let mut left = first;
            for number in of_flow {
                let took = times.get(&number).map(|at| self.took(number, *at));
                if took.is_some_and(|took| took < late) {
                    continue;
                }
                if interval * (number - left) >= quiet {
                    moved.lost_after += u64::from(took.is_none());
                } else {
                    left = number;
                }
            }
            moved.after = moved.after.max(interval * (left - first));
            moved.reordered += overtaken(arrived, first..end);
        }
        moved
    }

    /// How long a packet took that arrived at this time.
    fn took(&self, number: u32, at: Instant) -> Duration {
        at.saturating_duration_since(self.start + self.shape.interval * number)
    }

    /// The median of how long packets before this one took.
    fn usual(&self, arrivals: &Arrivals, first: u32) -> Duration {
        let before = arrivals.iter().flatten().filter(|(number, _)| *number < first);
        let mut times: Vec<Duration> = before.map(|(number, at)| self.took(*number, *at)).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    }

    /// Ends it, and counts once the last packets had time to arrive.
    pub fn end(&mut self) -> Counts {
        self.stop[0].store(true, Ordering::Relaxed);
        self.join(1);
        std::thread::sleep(TAIL);
        self.stop[1].store(true, Ordering::Relaxed);
        self.join(0);
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let (sent, arrived) = (self.sent.load(Ordering::Relaxed), numbers(&arrivals));
        // Whatever else came to this port is not ours.
        let arrived = arrived.iter().filter(|number| u64::from(**number) < sent).count() as u64;
        Counts { sent, arrived }
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

/// What a bad path does to packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// They do not arrive.
    Lost,
    /// They arrive 100 ms later than usual, or not at all.
    Late,
}

/// How a stream got away from a path.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moved {
    /// From the fault to when the last packet that it hit had left.
    pub after: Duration,
    /// Packets lost later.
    pub lost_after: u64,
    /// Packets that later ones of their flow had overtaken.
    pub reordered: u64,
}

impl Moved {
    /// Of two streams as of one.
    pub fn and(self, other: Self) -> Self {
        Self {
            after: self.after.max(other.after),
            lost_after: self.lost_after + other.lost_after,
            reordered: self.reordered + other.reordered,
        }
    }
}

/// The packets that arrived, each once: one that came twice must not stand for one that was lost.
fn numbers(arrivals: &Arrivals) -> BTreeSet<u32> {
    arrivals.iter().flatten().map(|(number, _)| *number).collect()
}

/// How many packets of a flow, of those with these numbers, came after later ones.
fn overtaken(arrived: &[(u32, Instant)], numbers: std::ops::Range<u32>) -> u64 {
    let inside = arrived.iter().map(|(number, _)| *number).filter(|n| numbers.contains(n));
    let late = inside.scan(0, |most, number| {
        let late = number < *most;
        *most = number.max(*most);
        Some(u64::from(late))
    });
    late.sum()
}

/// What was lost of a stream.
#[derive(Debug)]
pub struct Losses {
    /// How many packets left.
    pub sent: usize,
    /// The numbers of those that did not arrive, in order.
    lost: Vec<u32>,
    shape: Shape,
}

impl Losses {
    /// How many did not arrive.
    pub fn count(&self) -> usize {
        self.lost.len()
    }

    /// The same in percent.
    pub fn percent(&self) -> f64 {
        100.0 * self.count() as f64 / self.sent.max(1) as f64
    }

    /// For how long some flow lost packets again and again: from before its first loss to after its last.
    pub fn longest_span(&self) -> Duration {
        let Shape { flows, interval, .. } = self.shape;
        let flows = flows as u32;
        let span = |flow: u32| {
            let mut lost = self.lost.iter().filter(|number| *number % flows == flow);
            let first = lost.next()?;
            Some(interval * (lost.next_back().unwrap_or(first) - first + 2 * flows))
        };
        (0..flows).filter_map(span).max().unwrap_or_default()
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

fn send(
    senders: &[UdpSocket],
    (to, start, shape): (SocketAddr, Instant, Shape),
    sent: &AtomicU64,
    stop: &AtomicBool,
) {
    let mut datagram = vec![0; shape.bytes];
    for (number, sender) in (0_u32..).zip(senders.iter().cycle()) {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        // By the clock, not by pauses: a late one does not delay the rest.
        std::thread::sleep(shape.interval.saturating_mul(number).saturating_sub(start.elapsed()));
        datagram[..HEADER].copy_from_slice(&number.to_be_bytes());
        // A refusal (no route) is a loss like any other.
        let _refused = sender.send_to(&datagram, to);
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

fn receive(socket: &UdpSocket, bytes: usize, arrivals: &Mutex<Arrivals>, stop: &AtomicBool) {
    let mut buffer = [0; MOST_BYTES];
    while !stop.load(Ordering::Relaxed) {
        if socket.recv(&mut buffer).is_ok_and(|length| length == bytes)
            && let Some(number) = buffer.first_chunk::<HEADER>()
        {
            let number = u32::from_be_bytes(*number);
            let mut arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
            let flow = number as usize % arrivals.len();
            arrivals[flow].push((number, Instant::now()));
        }
    }
}
