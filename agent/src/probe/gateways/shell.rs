//! The watch's socket, and the clock.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use carrick_model::gateway_probe::{LONGEST, PORT};
use tokio::net::UdpSocket;
use tokio::sync::watch;

use super::Seen;
use super::watch::{Target, Watch};
use crate::timer::sleep_until;

/// How often the socket is tried again whose address is not there yet.
const REBIND: Duration = Duration::from_millis(200);
/// How long a socket is used while some gateway does not answer. Connection tracking decides on translation
/// once a flow, and the VXLAN's flows follow from ours: only new flows find rules that are new, on this
/// node and on the gateway's.
const ROTATION: Duration = Duration::from_millis(500);
/// How often round-trip times are published while nothing else changes.
const REFRESH: Duration = Duration::from_secs(5);
/// Answers that are read before anything else is done.
const BATCH: usize = 256;

/// Whom to watch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assignment {
    /// The node's mesh address; `None`: nobody is to be watched.
    pub mesh: Option<Ipv4Addr>,
    /// The gateways.
    pub targets: Vec<Target>,
    /// The pause between questions.
    pub interval: Duration,
}

/// What the watch found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Grows with each change that is more than one of round-trip times.
    pub version: u64,
    /// By mesh address.
    pub gateways: Vec<Seen>,
}

/// Watches until `assignment` closes.
pub async fn run(
    mut assignment: watch::Receiver<Assignment>,
    findings: watch::Sender<Findings>,
    nonce: u64,
) {
    let mut shell = Shell {
        watch: Watch::new(nonce),
        mesh: None,
        socket: None,
        former: None,
        born: Instant::now(),
        findings,
    };
    let mut refresh = tokio::time::interval(REFRESH);
    let mut rebind = tokio::time::interval(REBIND);
    loop {
        shell.turn();
        let wake = shell.watch.poll_timeout().filter(|_| shell.socket.is_some());
        tokio::select! {
            changed = assignment.changed() => {
                if changed.is_err() {
                    return;
                }
                let assigned = assignment.borrow_and_update().clone();
                shell.assign(&assigned);
            }
            () = readable(shell.socket.as_ref()) => {}
            () = readable(shell.former.as_ref()) => {}
            () = sleep_until(wake) => {}
            _ = refresh.tick() => shell.publish(),
            _ = rebind.tick(), if shell.socket.is_none() => shell.bind(),
        }
    }
}

/// An error shows when the socket is read.
async fn readable(socket: Option<&UdpSocket>) {
    match socket {
        Some(socket) => drop(socket.readable().await),
        None => std::future::pending().await,
    }
}

struct Shell {
    watch: Watch,
    mesh: Option<Ipv4Addr>,
    socket: Option<UdpSocket>,
    /// The one before, which still listens.
    former: Option<UdpSocket>,
    born: Instant,
    findings: watch::Sender<Findings>,
}

impl Shell {
    /// Lets the machine do what is due: first it hears what has arrived.
    fn turn(&mut self) {
        for socket in self.former.iter().chain(&self.socket) {
            hear(socket, &mut self.watch);
        }
        let now = Instant::now();
        self.watch.handle_timeout(now);
        if self.watch.is_waiting() && now >= self.born + ROTATION {
            self.bind();
        }
        let Some(socket) = &self.socket else { return };
        while let Some(transmit) = self.watch.poll_transmit(now) {
            let sent = socket.try_send_to(&transmit.payload, (transmit.target, PORT).into());
            if let Err(error) = sent {
                // As good as lost on the way.
                tracing::debug!(target = %transmit.target, %error, "cannot ask a gateway");
            }
        }
        if self.watch.version() != self.findings.borrow().version {
            self.publish();
        }
    }

    fn publish(&self) {
        let (version, gateways) = (self.watch.version(), self.watch.seen());
        self.findings.send_replace(Findings { version, gateways });
    }

    fn assign(&mut self, assigned: &Assignment) {
        if self.mesh != assigned.mesh {
            (self.mesh, self.socket, self.former) = (assigned.mesh, None, None);
        }
        if self.socket.is_none() {
            self.bind();
        }
        self.watch.configure(Instant::now(), &assigned.targets, assigned.interval);
    }

    fn bind(&mut self) {
        let Some(address) = self.mesh else { return };
        let bound = std::net::UdpSocket::bind((address, 0)).and_then(|socket| {
            socket.set_nonblocking(true)?;
            UdpSocket::from_std(socket)
        });
        match bound {
            Ok(socket) => {
                self.former = self.socket.replace(socket);
                self.born = Instant::now();
            }
            Err(error) => tracing::debug!(%address, %error, "cannot ask gateways from there"),
        }
    }
}

/// Hands over what has arrived.
fn hear(socket: &UdpSocket, watch: &mut Watch) {
    let mut buffer = [0; LONGEST + 1];
    for _ in 0..BATCH {
        match socket.try_recv_from(&mut buffer) {
            Ok((length, from)) => {
                if let IpAddr::V4(source) = from.ip()
                    && from.port() == PORT
                {
                    watch.handle_answer(Instant::now(), source, &buffer[..length]);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // A question of ours was refused on the way; the answer that is missing tells.
            Err(error) => tracing::debug!(%error, "socket for questions to gateways"),
        }
    }
}
