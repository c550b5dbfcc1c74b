//! The exchange between gateways: real sessions over modelled connections.

use std::time::{Duration, Instant, SystemTime};

use crate::random::mix;
use carrick_exchange::Pin;
use carrick_exchange::message::peer::PeerMessage;
use carrick_exchange::peer::{Event, Psk, Session};
use carrick_model::{IdentityKey, Role};

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
            let key = IdentityKey::from_bytes([cluster as u8 + 1; 32]);
            Pin::new(place::name(cluster), vec![key], Role::Gateway)
        });
        let ends = (0..ALL_GATEWAYS).flat_map(|b| (0..b).map(move |a| [a, b]));
        let apart = ends.filter(|[a, b]| of_gateway(*a) != of_gateway(*b));
        let pair = |ends| Pair { ends, number: 0, lives: [0; 2], sessions: None, next: 0, open: 0 };
        Self { pairs: apart.map(pair).collect(), pins: pins.collect() }
    }

    /// Makes and ends connections.
    pub fn tend(
        &mut self,
        start: Instant,
        now: Time,
        gateways: &[Gateway],
        links: &Links,
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
            if pair.sessions.is_some() || !run || !agreed || !open || halted || now < pair.next {
                continue;
            }
            (pair.number, pair.lives) = (pair.number + 1, lives);
            pair.next = now + RETRY;
            let session = |own: usize, other: usize| {
                Session::new(
                    self.pins[of_gateway(other)].clone(),
                    place::name(of_gateway(own)),
                    gateways[own].exchange_lane().into_iter().collect(),
                    gateways[own].held(other),
                    None,
                    start + Duration::from_nanos(now),
                )
            };
            let mut sessions = [session(a, b), session(b, a)];
            let trip = delay(links, a, b);
            for (from, session) in sessions.iter_mut().enumerate() {
                while let Some(message) = session.poll_message() {
                    let (number, message) = (pair.number, Box::new(message));
                    let to = pair.ends[1 - from];
                    // QUIC's own handshake comes first.
                    let at = now + trip * (3 + from as u64);
                    wire.push(at, Arrival::Message { pair: place, number, to, message });
                }
            }
            pair.sessions = Some(sessions);
        }
    }

    /// Takes a message for a gateway that runs; what was agreed on with which other, if anything.
    pub fn take(
        &mut self,
        now: Instant,
        (place, number, to): (usize, u64, usize),
        message: Message,
    ) -> Option<(usize, carrick_exchange::peer::Established)> {
        let pair = &mut self.pairs[place];
        let side = usize::from(pair.ends[1] == to);
        let sessions = pair.sessions.as_mut().filter(|_| pair.number == number)?;
        let secret = mix(number, place as u64);
        let wall = SystemTime::UNIX_EPOCH;
        let export = |_: &str, context: &[u8]| export(secret, context);
        match sessions[side].handle_message(message, now, wall, export) {
            Ok(Some(Event::Established(established))) => Some((pair.ends[1 - side], established)),
            Ok(_) => None,
            Err(_) => {
                pair.sessions = None;
                None
            }
        }
    }
}

fn delay(links: &Links, a: usize, b: usize) -> Time {
    let open = (0..NETWORKS).map(|network| links.wan(a, b, network)).filter(|l| l.is_open());
    open.map(|link| link.delay + link.detour).min().unwrap_or(SECOND)
}
