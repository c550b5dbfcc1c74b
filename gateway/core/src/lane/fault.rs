//! Faults that a drill injects: a lane that is silent as if it had crashed, or paths that lose and delay.
//!
//! They act where datagrams and frames come in and go out, so that whatever a lane says and hears is hit as
//! on a bad path: packets, handshakes, probes. A fault ends by itself at its time, whoever is there to end
//! it. Without one, a packet costs one look at an empty place.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Datagrams, Lane, Lost, Sink};
use crate::config::TunnelId;
use crate::drops::DropReason;
use crate::noise::data_index;
use crate::offload::Offload;
use crate::path::random::Random;
use crate::tunnel::Tunnel;

/// The longest that a fault may last.
pub const LONGEST_FAULT: Duration = Duration::from_secs(3600);
/// The longest that a datagram may be held.
pub const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// What may be held at a time, in datagrams and in bytes; what is too much is dropped and counted.
const MOST_HELD: usize = 16_384;
const MOST_BYTES: usize = 16 << 20;
/// Shares are in thousandths.
const ALL: u16 = 1000;

/// A fault to inject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What it does.
    pub effect: Effect,
    /// When it ends by itself; later than [`LONGEST_FAULT`] from now counts as that.
    pub until: Instant,
    /// From which chance follows.
    pub seed: u64,
}

/// What a fault does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Nothing comes in and nothing goes out, as after a crash.
    Silence,
    /// Some tunnels' paths are bad.
    Path {
        /// Which tunnels; those of other lanes are not this one's business.
        tunnels: BTreeSet<TunnelId>,
        /// The far end of the one path that is hit; every path when not set.
        endpoint: Option<SocketAddr>,
        /// What happens to their datagrams.
        weather: Weather,
    },
}

/// How bad a path is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weather {
    /// Datagrams that leave are hit.
    pub outbound: bool,
    /// Datagrams that come are hit.
    pub inbound: bool,
    /// How many of a thousand are lost.
    pub loss: u16,
    /// How long the others take longer, at most [`LONGEST_DELAY`].
    pub delay: Duration,
    /// By how much that varies to both sides; packets may overtake each other then.
    pub jitter: Duration,
}

/// What the newest fault did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultFigures {
    /// It acts now.
    pub active: bool,
    /// Packets and datagrams that it dropped.
    pub dropped: u64,
    /// Datagrams that it delayed.
    pub delayed: u64,
}

impl FaultFigures {
    /// Adds another lane's.
    pub fn add(&mut self, other: &Self) {
        self.active |= other.active;
        self.dropped += other.dropped;
        self.delayed += other.delayed;
    }
}

/// A fault that acts.
#[derive(Debug)]
pub(super) struct Acting {
    fault: Fault,
    random: Random,
    /// The newest time that was told.
    now: Instant,
    /// Where the tunnels that are hit lead.
    targets: Vec<SocketAddr>,
    /// By the time at which they go on, then by arrival.
    held: BTreeMap<(Instant, u64), Held>,
    bytes: usize,
    arrivals: u64,
    dropped: u64,
    delayed: u64,
    /// How many of the dropped are in the lane's drops already.
    counted: u64,
}

/// A datagram that waits.
#[derive(Debug)]
struct Held {
    outbound: bool,
    /// Where it goes, or whence it came.
    address: SocketAddr,
    ecn: u8,
    fragment: bool,
    bytes: Vec<u8>,
}

/// What becomes of a datagram.
enum Fate {
    Passes,
    IsLost,
    Waits(Duration),
}

impl Acting {
    fn new(now: Instant, fault: Fault) -> Self {
        let until = fault.until.min(now + LONGEST_FAULT);
        Self {
            random: Random::new(fault.seed),
            fault: Fault { until, ..fault },
            now,
            targets: Vec::new(),
            held: BTreeMap::new(),
            bytes: 0,
            arrivals: 0,
            dropped: 0,
            delayed: 0,
            counted: 0,
        }
    }

    /// Whether it differs in nothing but in which tunnels are hit.
    fn is_same(&self, fault: &Fault) -> bool {
        let kind = |effect: &Effect| match effect {
            Effect::Silence => None,
            Effect::Path { endpoint, weather, .. } => Some((*endpoint, *weather)),
        };
        self.fault.seed == fault.seed && kind(&self.fault.effect) == kind(&fault.effect)
    }

    fn is_silence(&self) -> bool {
        self.fault.effect == Effect::Silence
    }

    fn weather(&self) -> Option<Weather> {
        match &self.fault.effect {
            Effect::Silence => None,
            Effect::Path { weather, .. } => Some(*weather),
        }
    }

    /// Finds where the tunnels that are hit lead now.
    fn aim(&mut self, slots: &[Option<Tunnel>]) {
        self.targets.clear();
        if let Effect::Path { tunnels, endpoint, .. } = &self.fault.effect {
            let hit = slots.iter().flatten().filter(|t| tunnels.contains(&t.config.id));
            let ends = hit.flat_map(|tunnel| tunnel.ends.all());
            self.targets.extend(ends.filter(|end| endpoint.is_none_or(|only| only == *end)));
        }
    }

    /// When it has something to do.
    fn due(&self) -> Instant {
        let held = self.held.first_key_value().map(|((at, _), _)| *at);
        held.into_iter().chain([self.fault.until]).min().unwrap_or(self.fault.until)
    }

    fn draw(&mut self) -> Fate {
        let Some(weather) = self.weather() else { return Fate::IsLost };
        if self.random.number() % u64::from(ALL) < u64::from(weather.loss) {
            return Fate::IsLost;
        }
        if weather.delay.is_zero() && weather.jitter.is_zero() {
            return Fate::Passes;
        }
        let spread = u64::try_from(weather.jitter.as_micros()).unwrap_or(u64::MAX / 4) * 2 + 1;
        let delay = weather.delay + Duration::from_micros(self.random.number() % spread);
        Fate::Waits(delay.saturating_sub(weather.jitter).min(LONGEST_DELAY))
    }

    fn hold(&mut self, wait: Duration, held: Held) {
        if self.held.len() >= MOST_HELD || self.bytes + held.bytes.len() > MOST_BYTES {
            self.dropped += 1;
            return;
        }
        self.arrivals += 1;
        self.delayed += 1;
        self.bytes += held.bytes.len();
        self.held.insert((self.now + wait, self.arrivals), held);
    }

    /// The next that goes on at `now`; with `all`, the next that waits at all.
    fn release(&mut self, now: Instant, all: bool) -> Option<Held> {
        let first = self.held.first_entry()?;
        if !all && first.key().0 > now {
            return None;
        }
        let held = first.remove();
        self.bytes -= held.bytes.len();
        Some(held)
    }

    fn hits(&self, outbound: bool, address: SocketAddr) -> bool {
        let weather = self.weather().unwrap_or_default();
        let direction = if outbound { weather.outbound } else { weather.inbound };
        direction && self.targets.contains(&address)
    }
}

/// A sink behind a fault.
pub(super) struct Behind<'a> {
    sink: &'a mut dyn Sink,
    acting: &'a mut Acting,
}

impl Behind<'_> {
    /// Sends those that pass, run by run, and holds or drops the others.
    fn thin_out(&mut self, datagrams: &Datagrams<'_>) -> Result<(), Lost> {
        let mut sent = Ok(());
        let (mut from, mut to) = (0, 0);
        for bytes in datagrams.bytes.chunks(datagrams.segment.max(1)) {
            let fate = self.acting.draw();
            if let Fate::Passes = fate {
                to += bytes.len();
                continue;
            }
            sent = sent.and(self.send(datagrams, from, to));
            match fate {
                Fate::Waits(wait) => self.acting.hold(
                    wait,
                    Held {
                        outbound: true,
                        address: datagrams.to,
                        ecn: datagrams.ecn,
                        fragment: datagrams.fragment,
                        bytes: bytes.to_vec(),
                    },
                ),
                _ => self.acting.dropped += 1,
            }
            to += bytes.len();
            from = to;
        }
        sent.and(self.send(datagrams, from, to))
    }

    fn send(&mut self, datagrams: &Datagrams<'_>, from: usize, to: usize) -> Result<(), Lost> {
        if from == to {
            return Ok(());
        }
        self.sink.datagrams(&Datagrams { bytes: &datagrams.bytes[from..to], ..*datagrams })
    }
}

impl Sink for Behind<'_> {
    fn datagrams(&mut self, datagrams: &Datagrams<'_>) -> Result<(), Lost> {
        if self.acting.is_silence() {
            self.acting.dropped += datagrams.count() as u64;
            return Ok(());
        }
        if self.acting.hits(true, datagrams.to) {
            return self.thin_out(datagrams);
        }
        self.sink.datagrams(datagrams)
    }

    fn frame(&mut self, bytes: &mut [u8], offload: Offload) -> Result<(), Lost> {
        if self.acting.is_silence() {
            self.acting.dropped += offload.packets(bytes.len()) as u64;
            return Ok(());
        }
        self.sink.frame(bytes, offload)
    }

    fn hand_over(&mut self, lane: u32, frame: &[u8], offload: Offload) -> Result<(), DropReason> {
        if self.acting.is_silence() {
            self.acting.dropped += offload.packets(frame.len()) as u64;
            return Ok(());
        }
        self.sink.hand_over(lane, frame, offload)
    }
}

impl Lane {
    /// Injects a fault, or ends the one that acts. One that differs only in its tunnels goes on as it is.
    pub fn inject(&mut self, now: Instant, fault: Option<Fault>, sink: &mut impl Sink) {
        match (fault, &mut self.fault) {
            (Some(fault), Some(acting)) if acting.is_same(&fault) => {
                acting.fault.effect = fault.effect;
            }
            (fault, _) => {
                self.end_fault(now, sink);
                let fault = fault.filter(|fault| fault.until > now);
                if let Some(fault) = fault {
                    self.faulted = FaultFigures::default();
                    self.fault = Some(Box::new(Acting::new(now, fault)));
                }
                self.revision += 1;
            }
        }
    }

    /// What the newest fault did.
    pub fn fault_figures(&self) -> FaultFigures {
        match &self.fault {
            None => self.faulted,
            Some(acting) => {
                FaultFigures { active: true, dropped: acting.dropped, delayed: acting.delayed }
            }
        }
    }

    /// When the fault has something to do.
    pub(super) fn fault_due(&self) -> Option<Instant> {
        self.fault.as_ref().map(|acting| acting.due())
    }

    /// Does `work` behind the fault that acts; `false` when none does any more, and nothing was done.
    pub(super) fn behind_fault(
        &mut self,
        now: Option<Instant>,
        sink: &mut impl Sink,
        work: impl FnOnce(&mut Self, &mut Behind<'_>),
    ) -> bool {
        let now = now.or(self.fault.as_ref().map(|acting| acting.now));
        if let Some(now) = now {
            self.run_fault(now, sink);
        }
        let Some(mut acting) = self.fault.take() else { return false };
        acting.aim(&self.slots);
        work(self, &mut Behind { sink, acting: &mut acting });
        self.put_back(acting);
        true
    }

    fn put_back(&mut self, mut acting: Box<Acting>) {
        let new = acting.dropped - std::mem::replace(&mut acting.counted, acting.dropped);
        self.drops.count_many(DropReason::Drill, new);
        self.fault = Some(acting);
    }

    /// Whether the device's frame of so many packets gets no further.
    pub(super) fn fault_takes_frame(&mut self, now: Instant, packets: u64) -> bool {
        let Some(acting) = &mut self.fault else { return false };
        if !acting.is_silence() || now >= acting.fault.until {
            return false;
        }
        acting.dropped += packets;
        acting.counted += packets;
        self.drops.count_many(DropReason::Drill, packets);
        true
    }

    /// Whether a datagram from the socket gets no further, at least for now.
    pub(super) fn fault_takes(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        ecn: u8,
    ) -> bool {
        let Some(mut acting) = self.fault.take() else { return false };
        acting.now = now;
        let taken = now < acting.fault.until && self.judge(&mut acting, from, datagram, ecn);
        self.put_back(acting);
        taken
    }

    fn judge(&self, acting: &mut Acting, from: SocketAddr, datagram: &[u8], ecn: u8) -> bool {
        if acting.is_silence() {
            acting.dropped += 1;
            return true;
        }
        acting.aim(&self.slots);
        if !acting.hits(false, from) && !self.is_of_hit_tunnel(acting, datagram) {
            return false;
        }
        match acting.draw() {
            Fate::Passes => return false,
            Fate::IsLost => acting.dropped += 1,
            Fate::Waits(wait) => {
                let bytes = datagram.to_vec();
                let held = Held { outbound: false, address: from, ecn, fragment: false, bytes };
                acting.hold(wait, held);
            }
        }
        true
    }

    /// Whether it is a message for a tunnel that is hit on every path, wherever it comes from.
    fn is_of_hit_tunnel(&self, acting: &Acting, datagram: &[u8]) -> bool {
        let Effect::Path { tunnels, endpoint: None, weather } = &acting.fault.effect else {
            return false;
        };
        let slot = data_index(datagram).and_then(|index| self.slot_with(index).ok());
        let tunnel = slot.and_then(|slot| self.slots[slot].as_ref());
        weather.inbound && tunnel.is_some_and(|tunnel| tunnels.contains(&tunnel.config.id))
    }

    /// Lets what has waited long enough go on, and ends the fault at its time.
    fn run_fault(&mut self, now: Instant, sink: &mut impl Sink) {
        let Some(acting) = &mut self.fault else { return };
        acting.now = now;
        if acting.fault.until <= now {
            return self.end_fault(now, sink);
        }
        while let Some(held) = self.fault.as_mut().and_then(|acting| acting.release(now, false)) {
            self.go_on(now, held, sink);
        }
    }

    fn end_fault(&mut self, now: Instant, sink: &mut impl Sink) {
        let Some(mut acting) = self.fault.take() else { return };
        self.faulted =
            FaultFigures { active: false, dropped: acting.dropped, delayed: acting.delayed };
        self.revision += 1;
        // What waits goes on before what comes from now on, in its order.
        while let Some(held) = acting.release(now, true) {
            self.go_on(now, held, sink);
        }
    }

    fn go_on(&mut self, now: Instant, held: Held, sink: &mut impl Sink) {
        let Held { outbound, address, ecn, fragment, bytes } = held;
        if outbound {
            let segment = bytes.len();
            let sent =
                sink.datagrams(&Datagrams { to: address, ecn, fragment, segment, bytes: &bytes });
            self.note(sent);
        } else {
            // Its answers may be hit like any others.
            let acting = self.fault.take();
            match acting {
                None => self.take_datagram(now, address, &bytes, ecn, sink),
                Some(mut acting) => {
                    acting.aim(&self.slots);
                    let mut behind = Behind { sink, acting: &mut acting };
                    self.take_datagram(now, address, &bytes, ecn, &mut behind);
                    self.put_back(acting);
                }
            }
        }
    }
}
