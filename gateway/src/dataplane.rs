//! The data plane: one thread a lane, between a TAP or TUN and a UDP socket.
//!
//! Configuration goes in whole by [`Dataplane::apply`], figures come out by [`Dataplane::stats`]; both
//! are snapshots that are swapped, so that nothing ever waits for a packet thread nor it for anyone.

mod board;
mod cut;
mod device;
pub mod figures;
mod handover;
mod options;
mod socket;
mod stats;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use carrick_gateway_core::{ForwardingConfig, Lane, SecretKey};
use carrick_model::TunnelKey;
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::watch;

pub use carrick_gateway_core::path::Standing;
pub use carrick_gateway_core::{
    ConfigError, DropReason, HostConfig, NodeForwarding, PathReport, PathState, PeerForwarding,
    Routers, TunnelConfig, TunnelId,
};
pub use carrick_gateway_core::{Effect, Fault, FaultFigures, Weather};
pub use device::DeviceError;
pub use options::{DEVICE_QUEUE, DataplaneOptions, DeviceOptions, LaneOptions, Offloads};
pub use socket::SocketError;
pub use stats::{DataplaneStats, TunnelStats};

use board::Board;
use device::{Device, Queue};
use handover::Handover;
use stats::LaneStats;
use worker::{Injection, KnownPaths, Shared, Worker};

/// Why the data plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No lane was asked for.
    #[error("a data plane needs at least one lane")]
    NoLanes,
    /// The TAP or TUN could not be opened.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A lane's UDP socket could not be opened.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The sockets between lanes could not be made.
    #[error(
        "cannot make the sockets between {lanes} lanes: {source}; are there file descriptors left?"
    )]
    Handover {
        /// How many lanes.
        lanes: usize,
        /// Why.
        source: std::io::Error,
    },
    /// The event that wakes a lane could not be made.
    #[error("cannot make the event that wakes lane {lane}: {source}")]
    Event {
        /// The lane.
        lane: u32,
        /// Why.
        source: std::io::Error,
    },
    /// A lane's thread could not be started.
    #[error("cannot start the thread of lane {lane}: {source}")]
    Thread {
        /// The lane.
        lane: u32,
        /// Why.
        source: std::io::Error,
    },
}

/// One lane, as it is announced to peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneInfo {
    /// Its index from 0; it talks to the lane of the same index on the other side.
    pub index: u32,
    /// Its public key.
    pub public_key: TunnelKey,
    /// The UDP port that it listens on.
    pub port: u16,
}

/// The lanes at work. Dropping it stops them.
#[derive(Debug)]
pub struct Dataplane {
    lanes: Vec<LaneInfo>,
    keys: Vec<TunnelKey>,
    handles: Vec<LaneHandle>,
    epoch: u64,
    config: Arc<ArcSwap<ForwardingConfig>>,
    paths: Arc<ArcSwap<KnownPaths>>,
    injection: Arc<ArcSwap<Injection>>,
    changes: watch::Receiver<u64>,
    failure: watch::Receiver<Option<String>>,
    device: String,
}

#[derive(Debug)]
struct LaneHandle {
    wake: Arc<EventFd>,
    stats: Arc<ArcSwap<LaneStats>>,
    stop: Arc<std::sync::atomic::AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Dataplane {
    /// Opens device and sockets and starts the threads, with nothing configured yet.
    pub fn start(options: DataplaneOptions) -> Result<Self, StartError> {
        if options.lanes.is_empty() {
            return Err(StartError::NoLanes);
        }
        let offloads = options.offloads.on_kernel(&kernel_release());
        let queues = device::open(&options.device, options.lanes.len(), offloads)?;
        let lanes = options.lanes.len();
        let handovers =
            handover::between(lanes).map_err(|source| StartError::Handover { lanes, source })?;
        let device = queues[0].name().to_owned();
        let config = Arc::new(ArcSwap::from_pointee(ForwardingConfig::default()));
        let paths = Arc::new(ArcSwap::from_pointee(KnownPaths::default()));
        let injection = Arc::new(ArcSwap::from_pointee(Injection::default()));
        let (changed, changes) = watch::channel(0);
        let (failed, failure) = watch::channel(None);
        let (lanes, keys, handles) = (Vec::new(), Vec::new(), Vec::new());
        let epoch = rand::random();
        let mut plane = Self {
            lanes,
            keys,
            handles,
            epoch,
            config,
            paths,
            injection,
            changes,
            failure,
            device,
        };
        let wakes = (0..).zip(&options.lanes).map(|(lane, _)| event(lane));
        let wakes = wakes.collect::<Result<Vec<_>, _>>()?;
        let board = Arc::new(Board::new(wakes.clone()));
        let sides = queues.into_iter().zip(handovers).zip(wakes);
        for ((index, lane), ((queue, handover), wake)) in (0..).zip(options.lanes).zip(sides) {
            let (config, paths) = (plane.config.clone(), plane.paths.clone());
            let injection = plane.injection.clone();
            let shared = Shared {
                config,
                paths,
                injection,
                stats: Arc::default(),
                wake,
                board: board.clone(),
                stop: Arc::default(),
                changed: changed.clone(),
            };
            plane.start_lane(index, lane, (queue, handover), shared, failed.clone())?;
        }
        Ok(plane)
    }

    fn start_lane(
        &mut self,
        index: u32,
        options: LaneOptions,
        (queue, handover): (Queue, Handover),
        shared: Shared,
        failed: watch::Sender<Option<String>>,
    ) -> Result<(), StartError> {
        let offloads = queue.offloads();
        let socket = socket::open(options.port, offloads)?;
        let port = socket.port();
        let secret = options.secret.unwrap_or_else(random_secret);
        let (wake, stats, stop) = (shared.wake.clone(), shared.stats.clone(), shared.stop.clone());
        let public_key = secret.public();
        let mut lane = Lane::new(index, secret, queue.framing());
        lane.set_seed(rand::random());
        lane.set_epoch(self.epoch);
        let worker = Worker::new(lane, queue, socket, handover, offloads, shared);
        let thread = std::thread::Builder::new()
            .name(format!("lane-{index}"))
            .spawn(move || {
                if let Some(why) = end_of(|| worker.run()) {
                    tracing::error!(lane = index, why, "lane stopped");
                    failed.send_replace(Some(format!("lane {index} stopped: {why}")));
                }
            })
            .map_err(|source| StartError::Thread { lane: index, source })?;
        self.lanes.push(LaneInfo { index, public_key, port });
        self.keys.push(public_key);
        self.handles.push(LaneHandle { wake, stats, stop, thread: Some(thread) });
        Ok(())
    }

    /// The lanes, by index.
    pub fn lanes(&self) -> &[LaneInfo] {
        &self.lanes
    }

    /// The device's name in the kernel.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Replaces the whole configuration. One that is equal changes nothing; tunnels that are equal in
    /// remote key and preshared key keep their session. A refused one leaves everything as it was.
    pub fn apply(&self, config: ForwardingConfig) -> Result<(), ConfigError> {
        config.check(&self.keys)?;
        if **self.config.load() == config {
            return Ok(());
        }
        self.config.store(Arc::new(config));
        self.handles.iter().for_each(LaneHandle::wake);
        Ok(())
    }

    /// What was applied last.
    pub fn config(&self) -> Arc<ForwardingConfig> {
        self.config.load_full()
    }

    /// Says what the kernel knows of the tunnels' paths, in place of what was said before: the largest IP
    /// packet in bytes. With `changed`, paths are probed at once. To say the same again changes nothing.
    pub fn tell_paths(&self, mtus: BTreeMap<TunnelId, u16>, changed: bool) {
        let before = self.paths.load();
        if before.mtus == mtus && !changed {
            return;
        }
        let changes = before.changes + u64::from(changed);
        self.paths.store(Arc::new(KnownPaths { mtus, changes }));
        self.handles.iter().for_each(LaneHandle::wake);
    }

    /// Injects a fault into all lanes, in place of the one before; `None` ends it. It ends by itself at its
    /// time in any case. To say the same again changes nothing.
    pub fn inject(&self, fault: Option<Fault>) {
        let before = self.injection.load();
        if before.fault == fault {
            return;
        }
        self.injection.store(Arc::new(Injection { number: before.number + 1, fault }));
        self.handles.iter().for_each(LaneHandle::wake);
    }

    /// The newest figures: at most 250 ms old, and newer after every change of a tunnel's state.
    pub fn stats(&self) -> DataplaneStats {
        DataplaneStats::of(self.handles.iter().map(|handle| handle.stats.load_full()))
    }

    /// Changes its value whenever a tunnel comes up, goes down, gets a new session, or more is known of
    /// its path; the figures are there by then.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Becomes `Some` with the reason when a lane's thread has stopped by itself: the process can then
    /// only restart.
    pub fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.clone()
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        for handle in &self.handles {
            handle.stop.store(true, std::sync::atomic::Ordering::Relaxed);
            handle.wake();
        }
        for thread in self.handles.iter_mut().filter_map(|handle| handle.thread.take()) {
            if thread.join().is_err() {
                tracing::error!("a lane's thread panicked");
            }
        }
    }
}

impl LaneHandle {
    fn wake(&self) {
        // EAGAIN means that the counter is full: then the lane is being woken anyhow.
        let _ = self.wake.write(1);
    }
}

/// What wakes a lane.
fn event(lane: u32) -> Result<Arc<EventFd>, StartError> {
    let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
    let made = EventFd::from_flags(flags).map(Arc::new);
    made.map_err(|source| StartError::Event { lane, source: source.into() })
}

/// Why a lane's work ended by itself; `None` when it was told to stop. A panic is a reason as well:
/// the process must not go on without the lane.
fn end_of<E: std::fmt::Display>(work: impl FnOnce() -> Result<(), E>) -> Option<String> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Some(format!("it panicked: {}", text.unwrap_or("without a word")))
        }
    }
}

/// The kernel's release as it names it, or nothing.
fn kernel_release() -> String {
    let names = nix::sys::utsname::uname();
    names.map(|names| names.release().to_string_lossy().into_owned()).unwrap_or_default()
}

/// A fresh key from the system's randomness.
pub fn random_secret() -> SecretKey {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes);
    SecretKey::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_that_panics_says_so() {
        let panic = end_of::<String>(|| panic!("a bug"));
        assert_eq!(panic.as_deref(), Some("it panicked: a bug"));
        assert_eq!(end_of(|| Err("the socket broke")).as_deref(), Some("the socket broke"));
        assert_eq!(end_of(|| Ok::<_, String>(())), None);
    }
}
