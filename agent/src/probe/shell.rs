//! The sockets of prober and responder, and the clock.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use carrick_model::{ClusterId, Prefix};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::PORT;
use super::packet::MAX;
use super::prober::{Cluster, Prober, TargetHealth, Transmit};
use super::responder::{Accepted, Responder};
use crate::sys;
use crate::timer::sleep_until;

/// Packets read and not yet looked at: those of 100 ms of a drill.
const QUEUE: usize = 1024;

/// What may wait in the socket of who answers until it is read, in bytes of the kernel's: more than a thousand short
/// packets. By default it is some 250, which a drill's streams send in 150 ms.
const WAITING: usize = 1 << 20;

/// How often round-trip times are published while nothing else changes.
const REFRESH: Duration = Duration::from_secs(5);

/// How often a socket is tried again whose address is not there yet.
const REBIND: Duration = Duration::from_millis(500);

/// How long a socket sends before another takes its place. Connection tracking decides on translation
/// once a flow: only new flows find rules that are new.
const ROTATION: Duration = Duration::from_millis(900);

/// Sockets of one source that still listen for answers: those of the last two seconds and more.
const LISTENING: usize = 3;

/// What to probe, and whom to answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assignment {
    /// Clusters to probe.
    pub clusters: Vec<Cluster>,
    /// Addresses of this node to probe from; its mesh address first.
    pub sources: Vec<Ipv4Addr>,
    /// Where probes to us may come from.
    pub accepted: Vec<Accepted>,
    /// Where streams of drills may come from.
    pub drills: Vec<Prefix>,
}

/// What the prober found.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// Grows with each change that is more than one of round-trip times.
    pub version: u64,
    /// By cluster.
    pub clusters: Vec<(ClusterId, Vec<TargetHealth>)>,
}

/// Probes and answers until `assignment` closes.
pub async fn run(
    mut assignment: watch::Receiver<Assignment>,
    findings: watch::Sender<Findings>,
    nonce: u64,
) {
    let (sender, mut packets) = mpsc::channel(QUEUE);
    let mut shell = Shell {
        prober: Prober::new(nonce),
        responder: Responder::new(Instant::now()),
        sockets: Sockets { sender, sources: BTreeMap::new(), responder: None },
        findings,
    };
    let mut refresh = tokio::time::interval(REFRESH);
    let mut rebind = tokio::time::interval(REBIND);
    loop {
        shell.turn();
        if packets.is_empty() {
            // What waits here is perhaps what a drill's stream would be taken to miss.
            shell.go_on();
        }
        let wake = shell.prober.poll_timeout().into_iter().chain(shell.responder.poll_timeout());
        let wake = wake.min();
        tokio::select! {
            changed = assignment.changed() => {
                if changed.is_err() {
                    return;
                }
                let assigned = assignment.borrow_and_update().clone();
                shell.assign(assigned);
            }
            // The sender lives in the shell.
            Some(packet) = packets.recv() => shell.take(packet),
            () = sleep_until(wake) => {}
            _ = refresh.tick() => shell.publish(),
            _ = rebind.tick(), if shell.sockets.responder_missing() => shell.sockets.bind_responder(),
        }
    }
}

struct Shell {
    prober: Prober,
    responder: Responder,
    sockets: Sockets,
    findings: watch::Sender<Findings>,
}

impl Shell {
    /// Lets the machine do what is due.
    fn turn(&mut self) {
        let now = Instant::now();
        self.prober.handle_timeout(now);
        while let Some(transmit) = self.prober.poll_transmit(now) {
            if let Err(error) = self.sockets.send(&transmit) {
                tracing::debug!(source = %transmit.source, target = %transmit.target, %error,
                    "cannot send a probe");
                self.prober.handle_send_error(transmit.source, transmit.target, &error);
            }
        }
        if self.prober.version() != self.findings.borrow().version {
            self.publish();
        }
    }

    /// Sends what goes back on drills' streams although no question came.
    fn go_on(&mut self) {
        let now = Instant::now();
        while let Some((to, packet)) = self.responder.poll(now) {
            self.sockets.answer(to, &packet);
        }
    }

    fn publish(&self) {
        let (version, clusters) = (self.prober.version(), self.prober.health());
        self.findings.send_replace(Findings { version, clusters });
    }

    fn assign(&mut self, assigned: Assignment) {
        self.responder.accept(assigned.accepted);
        self.responder.allow_drills(assigned.drills);
        self.sockets.keep_only(&assigned.sources);
        self.prober.configure(Instant::now(), &assigned.clusters, &assigned.sources);
    }

    fn take(&mut self, mut packet: Packet) {
        let now = Instant::now();
        match packet.at {
            At::Source(source) => {
                let IpAddr::V4(target) = packet.from.ip() else { return };
                if packet.from.port() == PORT {
                    self.prober.handle_answer(now, source, target, &packet.bytes);
                }
            }
            At::Responder => {
                let length = self.responder.respond(now, packet.from, &mut packet.bytes);
                if let Some(answer) = length.and_then(|length| packet.bytes.get(..length)) {
                    self.sockets.answer(packet.from, answer);
                }
            }
        }
    }
}

/// Which socket a packet came to.
#[derive(Debug, Clone, Copy)]
enum At {
    Source(Ipv4Addr),
    Responder,
}

struct Packet {
    at: At,
    from: SocketAddr,
    bytes: Vec<u8>,
}

struct Sockets {
    sender: mpsc::Sender<Packet>,
    /// By source, the newest first.
    sources: BTreeMap<Ipv4Addr, VecDeque<Socket>>,
    responder: Option<(Ipv4Addr, Option<Socket>)>,
}

impl Sockets {
    fn keep_only(&mut self, sources: &[Ipv4Addr]) {
        self.sources.retain(|source, _| sources.contains(source));
        let mesh = sources.first().copied();
        if self.responder.as_ref().map(|(address, _)| *address) != mesh {
            self.responder = mesh.map(|address| (address, None));
            self.bind_responder();
        }
    }

    fn responder_missing(&self) -> bool {
        matches!(self.responder, Some((_, None)))
    }

    fn bind_responder(&mut self) {
        if let Some((address, socket @ None)) = &mut self.responder {
            match Socket::bind(*address, PORT, At::Responder, &self.sender) {
                Ok(bound) => {
                    if let Err(error) = hold_more(&bound.socket) {
                        tracing::warn!(%address, port = PORT, %error,
                            "drills may count as lost what waits here: no larger receive buffer");
                    }
                    *socket = Some(bound);
                }
                Err(error) => {
                    tracing::debug!(%address, port = PORT, %error, "cannot answer probes yet");
                }
            }
        }
    }

    fn send(&mut self, transmit: &Transmit) -> io::Result<()> {
        let Transmit { source, target, payload } = transmit;
        let sockets = self.sources.entry(*source).or_default();
        if sockets.front().is_none_or(|socket| socket.born.elapsed() > ROTATION) {
            let socket = Socket::bind(*source, 0, At::Source(*source), &self.sender)?;
            sockets.push_front(socket);
            sockets.truncate(LISTENING);
        }
        let Some(socket) = sockets.front() else { return Ok(()) };
        socket.send(payload, SocketAddr::from((*target, PORT)))
    }

    fn answer(&self, to: SocketAddr, bytes: &[u8]) {
        let Some((_, Some(socket))) = &self.responder else { return };
        if let Err(error) = socket.send(bytes, to) {
            tracing::debug!(%to, %error, "cannot answer a probe");
        }
    }
}

/// Lets a socket keep what comes while this process gets no turn, so that it does not pass for lost on the way.
/// Needs NET_ADMIN.
fn hold_more(socket: &impl AsFd) -> nix::Result<()> {
    setsockopt(socket, sockopt::RcvBufForce, &WAITING)
}

/// A socket with the task that reads it.
struct Socket {
    socket: Arc<UdpSocket>,
    reader: AbortHandle,
    born: Instant,
}

impl Socket {
    fn bind(address: Ipv4Addr, port: u16, at: At, to: &mpsc::Sender<Packet>) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind((address, port))?;
        socket.set_nonblocking(true)?;
        sys::never_fragment(socket.as_fd())?;
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        let reader = tokio::spawn(read(socket.clone(), at, to.clone())).abort_handle();
        Ok(Self { socket, reader, born: Instant::now() })
    }

    fn send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        match self.socket.try_send_to(bytes, to) {
            // The device's queue is full: as good as lost on the way.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read(socket: Arc<UdpSocket>, at: At, to: mpsc::Sender<Packet>) {
    let mut buffer = vec![0; MAX];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, from)) => {
                let packet = Packet { at, from, bytes: buffer[..length].to_vec() };
                // While nobody keeps up, packets are lost as on any full queue.
                if let Err(mpsc::error::TrySendError::Closed(_)) = to.try_send(packet) {
                    return;
                }
            }
            // An earlier packet of ours was refused on the way; the answer that is missing tells.
            Err(error) => tracing::debug!(%error, "probe socket"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_packets_wait_for_a_reader_that_gets_no_turn() {
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        receiver.set_nonblocking(true).expect("an option");
        hold_more(&receiver).expect("more room");
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        sender.connect(receiver.local_addr().expect("an address")).expect("an address");
        for _ in 0..1000 {
            sender.send(&[0; 100]).expect("sent");
        }
        let waiting = (0..1000).take_while(|_| receiver.recv(&mut [0; 100]).is_ok()).count();
        assert_eq!(waiting, 1000);
    }
}
