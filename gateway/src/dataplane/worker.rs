//! A lane's thread: waits for device, socket, configuration or a timer, and lets the core decide.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use carrick_gateway_core::lane::ETHERNET;
use carrick_gateway_core::{
    CutKind, Datagrams, DropReason, Fault, ForwardingConfig, Lane, Lost, Merging, Offload, Sink,
    TunnelId,
};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::eventfd::EventFd;
use tokio::sync::watch;

use super::board::Board;
use super::cut::write_cut;
use super::device::Device;
use super::handover::Handover;
use super::options::Offloads;
use super::socket::{LaneSocket, Ring};
use super::stats::LaneStats;

/// Bytes taken from the device before the socket gets its turn, and packets.
const TURN_BYTES: usize = 4 << 16;
const TURN_PACKETS: usize = 64;
/// The largest frame there is.
const LARGEST: usize = ETHERNET + (1 << 16);
/// Figures are at most so old.
const PUBLISH: Duration = Duration::from_millis(250);

/// What a lane shares with the rest of the process.
pub(super) struct Shared {
    pub config: Arc<ArcSwap<ForwardingConfig>>,
    pub paths: Arc<ArcSwap<KnownPaths>>,
    pub injection: Arc<ArcSwap<Injection>>,
    pub stats: Arc<ArcSwap<LaneStats>>,
    pub wake: Arc<EventFd>,
    pub board: Arc<Board>,
    pub stop: Arc<AtomicBool>,
    pub changed: watch::Sender<u64>,
}

/// What the kernel knows of the tunnels' paths.
#[derive(Debug, Default)]
pub(super) struct KnownPaths {
    /// The largest IP packet of each, in bytes.
    pub mtus: BTreeMap<TunnelId, u16>,
    /// How often the network has changed.
    pub changes: u64,
}

/// The fault that lanes are to inject.
#[derive(Debug, Default)]
pub(super) struct Injection {
    /// Grows with each change.
    pub number: u64,
    /// Which; `None` ends the one that acts.
    pub fault: Option<Fault>,
}

/// Why a lane stops by itself.
#[derive(Debug, thiserror::Error)]
pub(super) enum WorkerError {
    #[error("waiting for packets failed: {0}")]
    Poll(#[source] Errno),
    #[error("the device is gone or broken: {0}; was it deleted by someone else?")]
    Device(#[source] io::Error),
    #[error("the UDP socket is broken: {0}")]
    Socket(#[source] io::Error),
}

pub(super) struct Worker<D> {
    lane: Lane,
    ends: Ends<D>,
    shared: Shared,
    buffer: Box<[u8]>,
    ring: Ring,
    published: Option<Instant>,
    revision: u64,
    /// How many changes of the network were seen.
    changes: u64,
    /// How often what is reached had changed when it was put on the board.
    reached: u64,
    /// As above, of the nodes that it hears of.
    hearers: u64,
    /// The number of the injection that was followed.
    injected: u64,
    /// Figures have changed since they were published.
    stale: bool,
}

/// Both ends that a lane writes to.
struct Ends<D> {
    device: D,
    socket: LaneSocket,
    /// What the device has turned out to take merged.
    merging: Merging,
    handover: Handover,
}

impl<D: Device> Sink for Ends<D> {
    fn datagrams(&mut self, datagrams: &Datagrams<'_>) -> Result<(), Lost> {
        self.socket.send(datagrams)
    }

    fn frame(&mut self, bytes: &mut [u8], offload: Offload) -> Result<(), Lost> {
        let Err(error) = self.device.write([bytes, &[]], offload) else { return Ok(()) };
        let Offload::Cut(cut) = offload else { return Err(drop_of(&error).into()) };
        // Some kernels (of the time of 6.6.44) refuse what they offered to take.
        if error.raw_os_error() != Some(libc::EINVAL) {
            return Err(Lost { reason: drop_of(&error), packets: cut.packets(bytes.len()) as u64 });
        }
        let merges = match cut.kind {
            CutKind::Tcp4 | CutKind::Tcp6 => &mut self.merging.tcp,
            CutKind::Udp => &mut self.merging.udp,
        };
        if std::mem::take(merges) {
            tracing::warn!(kind = ?cut.kind, "the device takes no merged packets: writing singly");
        }
        write_cut(&self.device, bytes, cut)
    }

    fn hand_over(&mut self, lane: u32, frame: &[u8], offload: Offload) -> Result<(), DropReason> {
        self.handover.send(lane, frame, offload)
    }
}

pub(super) fn drop_of(error: &io::Error) -> DropReason {
    match error.kind() {
        io::ErrorKind::WouldBlock => DropReason::DeviceFull,
        _ => DropReason::DeviceError,
    }
}

/// What is ready.
struct Ready {
    wake: bool,
    socket: bool,
    device: bool,
    handover: bool,
}

impl<D: Device> Worker<D> {
    pub fn new(
        mut lane: Lane,
        device: D,
        socket: LaneSocket,
        handover: Handover,
        offloads: Offloads,
        shared: Shared,
    ) -> Self {
        let merging = Merging { tcp: offloads.device_tcp, udp: offloads.device_udp };
        lane.set_merging(merging);
        let ends = Ends { device, socket, merging, handover };
        Self {
            lane,
            ends,
            shared,
            buffer: vec![0; LARGEST].into(),
            ring: Ring::default(),
            published: None,
            revision: 0,
            changes: 0,
            reached: 0,
            hearers: 0,
            injected: 0,
            stale: true,
        }
    }

    /// Works until it is told to stop.
    pub fn run(mut self) -> Result<(), WorkerError> {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let ready = self.wait()?;
            let now = Instant::now();
            self.stale |= ready.socket || ready.device || ready.handover;
            if ready.wake {
                self.take_config(now);
            }
            if ready.socket {
                self.drain_socket(now)?;
            }
            if ready.device {
                self.drain_device(now)?;
            }
            if ready.handover {
                self.drain_handover(now);
            }
            self.lane.handle_timeout(now, &mut self.ends);
            self.lane.flush(&mut self.ends);
            self.share_reached();
            self.publish(now);
        }
        Ok(())
    }

    fn wait(&self) -> Result<Ready, WorkerError> {
        let input = PollFlags::POLLIN;
        let mut fds = [
            PollFd::new(self.shared.wake.as_fd(), input),
            PollFd::new(self.ends.socket.as_fd(), input),
            PollFd::new(self.ends.device.as_fd(), input),
            PollFd::new(self.ends.handover.as_fd(), input),
        ];
        match nix::poll::poll(&mut fds, self.timeout()) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(WorkerError::Poll(error)),
        }
        let any = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
        Ok(Ready {
            wake: any(&fds[0]),
            socket: any(&fds[1]),
            device: any(&fds[2]),
            handover: any(&fds[3]),
        })
    }

    fn timeout(&self) -> PollTimeout {
        let publish = self.published.filter(|_| self.stale).map(|at| at + PUBLISH);
        let due = self.lane.poll_timeout().map(|(at, _)| at);
        let Some(at) = due.into_iter().chain(publish).min() else { return PollTimeout::NONE };
        let left = at.saturating_duration_since(Instant::now());
        // Rounded up, so that the lane is not asked just before its time.
        let millis = left.as_micros().div_ceil(1000);
        PollTimeout::try_from(millis.min(60_000) as i32).unwrap_or(PollTimeout::MAX)
    }

    fn take_config(&mut self, now: Instant) {
        // Nothing to read means that somebody was faster; the configuration is looked at in any case.
        let _ = self.shared.wake.read();
        let config = self.shared.config.load_full();
        self.lane.apply(now, (*config).clone(), &mut self.ends);
        let paths = self.shared.paths.load_full();
        self.lane.tell_paths(paths.mtus.clone());
        if std::mem::replace(&mut self.changes, paths.changes) != paths.changes {
            self.lane.recheck_paths(now);
        }
        let others = self.shared.board.others(self.lane.index() as usize);
        self.lane.tell_reached(now, others, &mut self.ends);
        self.lane.tell_hearers(now, self.shared.board.other_hearers(self.lane.index() as usize));
        let injection = self.shared.injection.load_full();
        if std::mem::replace(&mut self.injected, injection.number) != injection.number {
            self.lane.inject(now, injection.fault.clone(), &mut self.ends);
        }
        self.published = None;
    }

    /// Tells the other lanes what this one reaches, and which nodes it hears of.
    fn share_reached(&mut self) {
        let (reached, changes) = self.lane.reached();
        if std::mem::replace(&mut self.reached, changes) != changes {
            self.shared.board.put(self.lane.index() as usize, reached);
        }
        let (hearers, changes) = self.lane.hearers();
        if std::mem::replace(&mut self.hearers, changes) != changes {
            self.shared.board.put_hearers(self.lane.index() as usize, hearers);
        }
    }

    fn drain_socket(&mut self, now: Instant) -> Result<(), WorkerError> {
        let count = match self.ends.socket.receive(&mut self.ring) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock || is_passing(&error) => 0,
            Err(error) => return Err(WorkerError::Socket(error)),
        };
        for train in (0..count).filter_map(|index| self.ring.train(index)) {
            for datagram in train.datagrams() {
                self.lane.handle_datagram(now, train.from, datagram, train.ecn, &mut self.ends);
            }
        }
        if count > 0 {
            self.lane.flush(&mut self.ends);
            self.lane.set_merging(self.ends.merging);
        }
        Ok(())
    }

    fn drain_device(&mut self, now: Instant) -> Result<(), WorkerError> {
        let mut bytes = 0;
        for _ in 0..TURN_PACKETS {
            match self.ends.device.read(&mut self.buffer) {
                Ok((length, offload)) => {
                    let frame = &mut self.buffer[..length];
                    self.lane.handle_device(now, frame, offload, &mut self.ends);
                    bytes += length;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(WorkerError::Device(error)),
            }
            if bytes >= TURN_BYTES {
                break;
            }
        }
        self.lane.flush(&mut self.ends);
        Ok(())
    }

    /// Takes what other lanes gave for tunnels that are here.
    fn drain_handover(&mut self, now: Instant) {
        for _ in 0..TURN_PACKETS {
            let Some((length, offload)) = self.ends.handover.receive(&mut self.buffer) else {
                break;
            };
            let frame = &mut self.buffer[..length];
            self.lane.handle_device(now, frame, offload, &mut self.ends);
        }
        self.lane.flush(&mut self.ends);
    }

    /// Which offloads are in use now.
    fn offloads(&self) -> Offloads {
        let Merging { tcp, udp } = self.ends.merging;
        Offloads { device_tcp: tcp, device_udp: udp, ..self.ends.socket.offloads() }
    }

    /// Publishes figures when they are old, or at once when a session began.
    fn publish(&mut self, now: Instant) {
        let fresh = self.published.is_some_and(|at| now.duration_since(at) < PUBLISH);
        if fresh && self.revision == self.lane.revision() {
            return;
        }
        self.published = Some(now);
        self.stale = false;
        self.revision = self.lane.revision();
        let stats = LaneStats::of(&self.lane, self.offloads(), now);
        let before = self.shared.stats.load_full();
        stats.log_nodes(&before);
        let differs = stats.differs(&before);
        if differs {
            stats.log_health(&before);
        }
        self.shared.stats.store(Arc::new(stats));
        if differs {
            self.shared.changed.send_modify(|changes| *changes += 1);
        }
    }
}

/// Errors that tell of one datagram, or of the network just now, and not of the socket.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::Interrupted
            | Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
    )
}
