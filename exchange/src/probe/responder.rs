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

/// Decides what is answered.
#[derive(Debug)]
pub struct Responder {
    accepted: Vec<Prefix>,
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
    pub fn accept(&mut self, prefixes: Vec<Prefix>) {
        self.accepted = prefixes;
    }

    /// Whose drills' streams to answer from now on, as far as they are accepted at all.
    pub fn allow_drills(&mut self, prefixes: Vec<Prefix>) {
        self.drills = prefixes;
    }

    /// Turns a probe into its answer in place; `false` when it gets none.
    pub fn respond(&mut self, now: Instant, from: SocketAddr, packet: &mut [u8]) -> bool {
        let accepted = self.accepts(from.ip());
        if accepted && self.may_drill(from.ip()) && self.streams.respond(now, from, packet) {
            return true;
        }
        accepted && packet::answer(packet, from) && self.tokens.take(now)
    }

    fn accepts(&self, address: IpAddr) -> bool {
        self.accepted.iter().any(|prefix| prefix.contains(address))
    }

    fn may_drill(&self, address: IpAddr) -> bool {
        self.drills.iter().any(|prefix| prefix.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::probe::stream::{self, Question};

    #[test]
    fn only_accepted_sources_are_answered() {
        let now = Instant::now();
        let mut responder = Responder::new(now);
        let near: SocketAddr = "240.2.32.2:5".parse().expect("address");
        assert!(!responder.respond(now, near, &mut packet::probe(1, 1, 100)));
        responder.accept(vec!["240.2.32.0/20".parse().expect("prefix")]);
        assert!(responder.respond(now, near, &mut packet::probe(1, 1, 100)));
        let far: SocketAddr = "10.9.0.1:5".parse().expect("address");
        assert!(!responder.respond(now, far, &mut packet::probe(1, 1, 100)));
    }

    #[test]
    fn streams_are_answered_where_drills_are_allowed_only() {
        let now = Instant::now();
        let mut responder = Responder::new(now);
        let prefixes: Vec<Prefix> = vec!["240.2.32.0/20".parse().expect("prefix")];
        let near: SocketAddr = "240.2.32.2:5".parse().expect("address");
        let question = Question { stream: 1, number: 0, sent: 0 };
        let ask = |responder: &mut Responder| {
            responder.respond(now, near, &mut stream::question(question, 100))
        };
        responder.allow_drills(prefixes.clone());
        assert!(!ask(&mut responder), "not accepted at all");
        responder.accept(prefixes);
        assert!(ask(&mut responder));
        responder.allow_drills(Vec::new());
        assert!(!ask(&mut responder));
    }

    #[test]
    fn the_rate_is_bounded_and_recovers() {
        let start = Instant::now();
        let mut responder = Responder::new(start);
        responder.accept(vec!["240.2.32.0/20".parse().expect("prefix")]);
        let from: SocketAddr = "240.2.32.2:5".parse().expect("address");
        let mut answered = |at: Instant| {
            (0..2 * BURST)
                .filter(|_| responder.respond(at, from, &mut packet::probe(1, 1, 64)))
                .count()
        };
        assert_eq!(answered(start), BURST as usize);
        assert_eq!(answered(start + Duration::from_millis(100)), RATE as usize / 10);
        assert_eq!(answered(start + Duration::from_secs(60)), BURST as usize);
    }
}
