//! The exchange between gateways: real sessions over modelled connections.

use std::time::{Duration, Instant};

use crate::random::mix;
use carrick_exchange::Pin;
use carrick_exchange::message::peer::PeerMessage;
use carrick_exchange::peer::{Established, Event, Psk, Session};
use carrick_exchange::snapshot::{SnapshotError, VerifiedSnapshot};
use carrick_model::Role;

use super::controller::{Controller, Offset, identity, wall};
use super::gateway::Gateway;
use super::links::Links;
use super::place::{self, ALL_GATEWAYS, NETWORKS, of_gateway};
use super::wire::{Arrival, SECOND, Time, Wire};

/// A connection that nothing crosses ends after this time.
const IDLE: Time = 10 * SECOND;
/// Between two attempts.
const RETRY: Time = SECOND;
/// What a session has to say.
pub type Message = PeerMessage;

/// The two gateways of a pair, and their connection.
struct Pair {
    ends: [usize; 2],
    /// Number of the connection, and the processes that it joins.
    number: u64,
    lives: [u64; 2],
    sessions: Option<[Session; 2]>,
    next: Time,
    open: Time,
    /// When the newest message to each of them arrives.
    arrives: [Time; 2],
}

/// What a message brought.
pub enum Taken {
    /// Tunnels with another gateway.
    Tunnels(usize, Established),
    /// The word of a cluster.
    Snapshot(usize, Box<VerifiedSnapshot>),
    /// One that was refused, and why.
    Refused(usize, SnapshotError),
}

/// All connections.
pub struct Control {
    pairs: Vec<Pair>,
    pins: Vec<Pin>,
}

/// What is the same for both ends of a connection and known to nobody else.
fn export(number: u64, context: &[u8]) -> Psk {
    let word = |at: u64| context.iter().fold(number ^ at, |h, b| mix(h, u64::from(*b)));
    let mut psk = [0; 32];
    for (at, part) in (0..).zip(psk.as_chunks_mut::<8>().0) {
        *part = word(at).to_le_bytes();
    }
    psk
}

impl Control {
    /// Without any connection.
    pub fn new() -> Self {
        let pins = (0..place::CLUSTERS).map(|cluster| {
            let keys = identity(cluster).map(|identity| identity.public());
            Pin::new(place::name(cluster), keys.into_iter().collect(), Role::Gateway)
        });
        let ends = (0..ALL_GATEWAYS).flat_map(|b| (0..b).map(move |a| [a, b]));
        let apart = ends.filter(|[a, b]| of_gateway(*a) != of_gateway(*b));
        let pair = |ends| Pair {
            ends,
            number: 0,
            lives: [0; 2],
            sessions: None,
            next: 0,
            open: 0,
            arrives: [0; 2],
        };
        Self { pairs: apart.map(pair).collect(), pins: pins.collect() }
    }

    /// Makes and ends connections, and says what there is to be said.
    pub fn tend(
        &mut self,
        start: Instant,
        now: Time,
        gateways: &[Gateway],
        (links, controllers): (&Links, &[Controller]),
        wire: &mut Wire,
    ) {
        for place in 0..self.pairs.len() {
            let pair = &mut self.pairs[place];
            let [a, b] = pair.ends;
            let agreed = gateways[a].peers[of_gateway(b)] && gateways[b].peers[of_gateway(a)];
            let lives = [gateways[a].lives, gateways[b].lives];
            let run = gateways[a].lane.is_some() && gateways[b].lane.is_some();
            let open = links.is_open(a, b);
            if open {
                pair.open = now;
            }
            if !run || !agreed || lives != pair.lives || now > pair.open + IDLE {
                pair.sessions = None;
            }
            let halted = gateways[a].frozen || gateways[b].frozen;
            if !run || !agreed || !open || halted {
                continue;
            }
            let trip = delay(links, a, b);
            if pair.sessions.is_none() && now >= pair.next {
                (pair.number, pair.lives) = (pair.number + 1, lives);
                pair.next = now + RETRY;
                // QUIC's own handshake comes first.
                pair.arrives = [now + trip * 3, now + trip * 2];
                let session = |own: usize, other: usize| {
                    Session::new(
                        self.pins[of_gateway(other)].clone(),
                        place::name(of_gateway(own)),
                        gateways[own].exchange_lane().into_iter().collect(),
                        gateways[own].held(other),
                        gateways[own].newest[of_gateway(other)],
                        start + Duration::from_nanos(now),
                    )
                };
                pair.sessions = Some([session(a, b), session(b, a)]);
            }
            pair.speak(now + trip, place, controllers, wire);
        }
    }

    /// A gateway has newer word of a cluster than by its other connections.
    pub fn newest(&mut self, gateway: usize, cluster: usize, snapshot: &VerifiedSnapshot) {
        for pair in &mut self.pairs {
            let side = usize::from(pair.ends[1] == gateway);
            let concerns = pair.ends[side] == gateway && of_gateway(pair.ends[1 - side]) == cluster;
            if let Some(sessions) = pair.sessions.as_mut().filter(|_| concerns) {
                sessions[side].handle_newest(snapshot.version);
            }
        }
    }

    /// Lets gateways look again at what they refused because of a clock.
    pub fn look_again(
        &mut self,
        now: (Instant, Time),
        gateways: &[Gateway],
    ) -> Vec<(usize, Taken)> {
        let mut all = Vec::new();
        for pair in &mut self.pairs {
            let ends = pair.ends;
            for (side, session) in pair.sessions.iter_mut().flatten().enumerate() {
                let (own, other) = (ends[side], ends[1 - side]);
                if gateways[own].runs() {
                    let wall = wall(now.1, gateways[own].wall_ahead);
                    let event = session.handle_timeout(now.0, wall);
                    all.extend(taken(event, other).map(|taken| (own, taken)));
                }
            }
        }
        all
    }

    /// Takes a message for a gateway that runs, and whose wall clock is ahead by so much; what was agreed on with which
    /// other, if anything.
    pub fn take(
        &mut self,
        now: (Instant, Time, Offset),
        (place, number, to): (usize, u64, usize),
        message: Message,
    ) -> Option<Taken> {
        let (at, now, ahead) = now;
        let pair = &mut self.pairs[place];
        let side = usize::from(pair.ends[1] == to);
        let sessions = pair.sessions.as_mut().filter(|_| pair.number == number)?;
        let secret = mix(number, place as u64);
        let export = |_: &str, context: &[u8]| export(secret, context);
        let other = pair.ends[1 - side];
        match sessions[side].handle_message(message, at, wall(now, ahead), export) {
            Ok(event) => taken(event, other),
            Err(_) => {
                pair.sessions = None;
                None
            }
        }
    }
}

/// What of an event by a connection with another gateway concerns the world.
fn taken(event: Option<Event>, other: usize) -> Option<Taken> {
    match event? {
        Event::Established(established) => Some(Taken::Tunnels(other, established)),
        Event::Snapshot(snapshot, _) => Some(Taken::Snapshot(of_gateway(other), snapshot)),
        Event::SnapshotRefused(error) => Some(Taken::Refused(other, error)),
        Event::Report(_) => None,
    }
}

impl Pair {
    /// Sends what the sessions have to say, to arrive then, and not before what was sent earlier.
    fn speak(&mut self, at: Time, place: usize, controllers: &[Controller], wire: &mut Wire) {
        let ends = self.ends;
        for (from, session) in self.sessions.iter_mut().flatten().enumerate() {
            let (own, to) = (of_gateway(ends[from]), ends[1 - from]);
            if let Some(signed) = controllers[own].signed(of_gateway(to)) {
                session.handle_own_snapshot(signed);
            }
            while let Some(message) = session.poll_message() {
                let arrives = &mut self.arrives[1 - from];
                *arrives = at.max(*arrives);
                let (number, message) = (self.number, Box::new(message));
                wire.push(*arrives, Arrival::Message { pair: place, number, to, message });
            }
        }
    }
}

fn delay(links: &Links, a: usize, b: usize) -> Time {
    let open = (0..NETWORKS).map(|network| links.wan(a, b, network)).filter(|l| l.is_open());
    open.map(|link| link.delay + link.detour).min().unwrap_or(SECOND)
}
