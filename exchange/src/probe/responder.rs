//! Which probes are answered: those from accepted remote prefixes, at a bounded rate; and streams of drills
//! from those clusters only that may drill.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use carrick_model::Prefix;

use super::packet;
use super::stream::Streams;
use super::tokens::Tokens;

/// Answers a second, of full-size packets: 2.3 Mbit/s at most. A node is probed by some three nodes
/// of each remote cluster from two addresses; the rest is for bad luck in the draw and for retries.
const RATE: u32 = 200;

/// How many answers may be given at once.
const BURST: u32 = 200;

/// Where probes may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// From there.
    pub prefix: Prefix,
    /// An answer has at most so many bytes of UDP payload: what the way back carries.
    pub most: usize,
}

/// Decides what is answered.
#[derive(Debug)]
pub struct Responder {
    accepted: Vec<Accepted>,
    drills: Vec<Prefix>,
    streams: Streams,
    tokens: Tokens,
}

impl Responder {
    /// Answers nobody until [`Responder::accept`].
    pub fn new(now: Instant) -> Self {
        let streams = Streams::new(now);
        Self {
            accepted: Vec::new(),
            drills: Vec::new(),
            streams,
            tokens: Tokens::new(now, RATE, BURST),
        }
    }

    /// Whom to answer from now on.
    pub fn accept(&mut self, accepted: Vec<Accepted>) {
        self.accepted = accepted;
        self.forget();
    }

    /// Whose drills' streams to answer from now on, as far as they are accepted at all.
    pub fn allow_drills(&mut self, prefixes: Vec<Prefix>) {
        self.drills = prefixes;
        self.forget();
    }

    /// Forgets streams that are not answered any more.
    fn forget(&mut self) {
        let (accepted, drills) = (&self.accepted, &self.drills);
        self.streams.retain(|address| find(accepted, address).is_some() && has(drills, address));
    }

    /// When [`Self::poll`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.streams.poll_timeout()
    }

    /// What is due to go back on a drill's stream although no question came; call it until there is none.
    pub fn poll(&mut self, now: Instant) -> Option<(SocketAddr, Vec<u8>)> {
        self.streams.poll(now)
    }

    /// Turns a probe into its answer in place, and says how many bytes of it to send; `None` when it gets none.
    pub fn respond(&mut self, now: Instant, from: SocketAddr, packet: &mut [u8]) -> Option<usize> {
        let accepted = find(&self.accepted, from.ip())?;
        if has(&self.drills, from.ip()) && self.streams.respond(now, from, packet) {
            return Some(packet.len());
        }
        packet::answer(packet, from, accepted.most).filter(|_| self.tokens.take(now))
    }
}

fn find(accepted: &[Accepted], address: IpAddr) -> Option<&Accepted> {
    accepted.iter().find(|accepted| accepted.prefix.contains(address))
}

fn has(prefixes: &[Prefix], address: IpAddr) -> bool {
    prefixes.iter().any(|prefix| prefix.contains(address))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::probe::stream::{self, Question};

    fn accepted(most: usize) -> Vec<Accepted> {
        vec![Accepted { prefix: "240.2.32.0/20".parse().expect("prefix"), most }]
    }

    #[test]
    fn only_accepted_sources_are_answered() {
        let now = Instant::now();
        let mut responder = Responder::new(now);
        let near: SocketAddr = "240.2.32.2:5".parse().expect("address");
        let ask = |responder: &mut Responder, from| {
            responder.respond(now, from, &mut packet::probe(1, 1, 100))
        };
        assert_eq!(ask(&mut responder, near), None);
        responder.accept(accepted(1392));
        assert_eq!(ask(&mut responder, near), Some(100));
        let far: SocketAddr = "10.9.0.1:5".parse().expect("address");
        assert_eq!(ask(&mut responder, far), None);
        responder.accept(accepted(90));
        assert_eq!(ask(&mut responder, near), Some(90), "no more than the way back carries");
    }

    #[test]
    fn streams_are_answered_where_drills_are_allowed_only() {
        let now = Instant::now();
        let mut responder = Responder::new(now);
        let prefixes: Vec<Prefix> = vec!["240.2.32.0/20".parse().expect("prefix")];
        let near: SocketAddr = "240.2.32.2:5".parse().expect("address");
        let question = Question { stream: 1, number: 0, sent: 0, interval: Duration::ZERO };
        let ask = |responder: &mut Responder| {
            responder.respond(now, near, &mut stream::question(question, 100)).is_some()
        };
        responder.allow_drills(prefixes);
        assert!(!ask(&mut responder), "not accepted at all");
        responder.accept(accepted(1392));
        assert!(ask(&mut responder));
        responder.allow_drills(Vec::new());
        assert!(!ask(&mut responder));
    }

    #[test]
    fn the_rate_is_bounded_and_recovers() {
        let start = Instant::now();
        let mut responder = Responder::new(start);
        responder.accept(accepted(1392));
        let from: SocketAddr = "240.2.32.2:5".parse().expect("address");
        let mut answered = |at: Instant| {
            (0..2 * BURST)
                .filter(|_| responder.respond(at, from, &mut packet::probe(1, 1, 64)).is_some())
                .count()
        };
        assert_eq!(answered(start), BURST as usize);
        assert_eq!(answered(start + Duration::from_millis(100)), RATE as usize / 10);
        assert_eq!(answered(start + Duration::from_secs(60)), BURST as usize);
    }
}
